//! The question that finds out what a client's statements have really left on its server connection, asked when the
//! transaction is over: the server knows what was undone.

use std::sync::Arc;

use super::doubts::{Candidate, Doubts, PASSING, decides_meaning};
use super::names::{Named, SqlText};
use super::run::Client;
use crate::core::clock::Instant;
use crate::pool::defaults::unhex;
use crate::pool::settings::{Settings, quote};
use crate::pool::suspects::{self, Found};
use crate::sql::effect::Traces;
use crate::sql::setting::Change;
use crate::wire::message::data_row;

/// What was asked.
#[derive(Debug)]
pub enum Asked {
    /// What the client has left.
    State(Question),
    /// What the functions of the database do, and what is known so far.
    Functions(Found),
}

/// A question about the client's state: what its answer is about, in order.
#[derive(Debug, Default)]
pub struct Question {
    named: Vec<(String, Change)>,
    kinds: Traces,
    prepared: Vec<Candidate>,
}
/// The kinds that are asked for one by one, in the order of the columns, each with what tells whether it is there.
const KINDS: &[(Traces, &str)] = &[
    (
        Traces::TEMPORARY,
        "EXISTS (SELECT FROM pg_catalog.pg_depend \
         WHERE refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass \
         AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())",
    ),
    (Traces::CURSOR, "EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)"),
    (
        Traces::ADVISORY,
        "EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory' \
         AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())",
    ),
    (Traces::LISTEN, "EXISTS (SELECT FROM pg_catalog.pg_listening_channels())"),
    (
        Traces::PREPARE,
        "(SELECT pg_catalog.string_agg(pg_catalog.concat(pg_catalog.encode(pg_catalog.convert_to(name, 'UTF8'), \
         'hex'), '=', pg_catalog.md5(pg_catalog.convert_to(statement, 'UTF8'))), ',') \
         FROM pg_catalog.pg_prepared_statements WHERE NOT pg_catalog.starts_with(name, '__turnpike_'))",
    ),
    (
        Traces::SETTINGS,
        "(SELECT pg_catalog.string_agg(pg_catalog.concat(name, '=', pg_catalog.encode(pg_catalog.convert_to(\
         pg_catalog.current_setting(name), 'UTF8'), 'hex')), ',') \
         FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.=) 'session')",
    ),
];
impl Asked {
    /// Whether the answer may change what names of statements mean.
    pub fn is_about_names(&self) -> bool {
        matches!(self, Asked::State(question) if question.kinds.contains(Traces::PREPARE))
    }

    /// Whether texts may mean something else by what will be answered.
    pub fn blurs(&self) -> bool {
        match self {
            Asked::State(question) => {
                question.kinds.any(Traces::SETTINGS.and(Traces::TEMPORARY))
                    || question.named.iter().any(|(name, _)| decides_meaning(name))
            }
            Asked::Functions(_) => true,
        }
    }
}

impl Doubts {
    /// Whether the server has anything to be asked about, given why the client is pinned.
    pub fn is_askable(&self, pins: Traces) -> bool {
        if pins.any(Traces::CERTAIN) {
            return false;
        }
        let kept = pins.any(Traces::ASKABLE) && !self.traces.any(Traces::ENDS);
        !kept && (self.traces.any(Traces::ASKABLE) || !self.named.is_empty() || self.all || !pins.is_empty())
    }

    /// The question, and what its answer is about.
    fn ask(mut self, settings: &Settings, pins: Traces) -> (String, Question) {
        // Only the list tells then what has been set.
        if self.failed && (!self.named.is_empty() || self.all) {
            self.traces.add(Traces::SETTINGS);
        }
        let mut kinds =
            self.traces.of(Traces::ASKABLE).and(pins.of(Traces::ASKABLE)).without(Traces::SETTING);
        if self.all {
            for (name, _) in settings.iter() {
                self.name(name.to_string(), Change::Reset);
            }
        }
        if kinds.any(Traces::SETTINGS) || self.traces.any(Traces::SETTINGS) {
            kinds.add(Traces::SETTINGS);
            let failed = self.failed;
            self.named.retain(|(name, change)| name.contains('.') || *change == Change::Reset && !failed);
            // Who the session is stands in no list of settings.
            for name in ["session_authorization", "role"] {
                self.named.push((name.to_string(), Change::Reset));
            }
            // Nor do custom settings, except those of libraries.
            for (name, _) in settings.iter().filter(|(name, _)| name.contains('.')) {
                self.named.push((name.to_string(), Change::Reset));
            }
        }
        let mut sql = String::from("SELECT NULL");
        for (name, _) in &self.named {
            sql.push_str(", pg_catalog.encode(pg_catalog.convert_to(pg_catalog.current_setting(");
            quote(&mut sql, name);
            sql.push_str(", true), 'UTF8'), 'hex')");
        }
        for (_, question) in KINDS.iter().filter(|(kind, _)| kinds.contains(*kind)) {
            sql.push_str(", ");
            sql.push_str(question);
        }
        (sql, Question { named: self.named, kinds, prepared: self.prepared })
    }
}

impl Client {
    /// What the server is to be asked now that the transaction is over, if anything.
    pub fn question(&mut self) -> Option<(String, Asked)> {
        let mut doubts = self.doubts.take()?;
        let schema = self.pool.schema.clone();
        let functions = &schema.functions;
        // Whoever has looked meanwhile has seen things as they were.
        if std::mem::take(&mut doubts.objects) {
            schema.changed();
        }
        if doubts.traces.contains(Traces::FUNCTIONS) {
            functions.forget();
            doubts.traces = doubts.traces.without(Traces::FUNCTIONS);
        }
        if doubts.wants_functions() && !self.pins.any(Traces::CERTAIN) {
            let generation = functions.generation();
            match functions.known(Instant::now()).as_ref() {
                Some(known) => {
                    let traces = doubts.resolve(known);
                    self.pins.add(traces.of(Traces::CERTAIN));
                    self.wish.sticky |= traces.any(Traces::STATEFUL);
                }
                None => {
                    self.doubts = Some(doubts);
                    return Some((suspects::QUESTION.clone(), Asked::Functions(Found::new(generation))));
                }
            }
        }
        if doubts.is_askable(self.pins) {
            let (sql, question) = doubts.ask(&self.settings, self.pins);
            return Some((sql, Asked::State(question)));
        }
        // What cannot be asked while pinned is kept; what is nothing to ask about is not.
        self.doubts = Some(doubts).filter(|_| !self.pins.is_empty());
        None
    }

    /// Takes the server's answer (a DataRow). `None` where it makes no sense.
    pub fn settle(&mut self, asked: Question, row: &[u8]) -> Option<()> {
        let row = data_row(row)?;
        let mut columns = row.into_iter().skip(1);
        let mut settings = Settings::clone(&self.settings);
        let mut named = Vec::new();
        for (name, change) in asked.named {
            let value = columns.next()?.map(unhex);
            named.push((name, change, value));
        }
        if named.iter().any(|(_, _, value)| matches!(value, Some(None))) {
            return None;
        }
        for (kind, _) in KINDS.iter().filter(|(kind, _)| asked.kinds.contains(*kind)) {
            let answer = columns.next()?;
            match *kind {
                Traces::SETTINGS => settings = self.overrides(answer.unwrap_or_default())?,
                Traces::PREPARE => self.settle_prepared(&asked.prepared, answer.unwrap_or_default())?,
                kind if answer == Some(b"t") => self.pins.add(kind),
                kind => self.pins = self.pins.without(kind),
            }
        }
        let mut lacking = self.lacking();
        let differs = self.lease.as_ref().is_some_and(|s| !self.wish.is_same(s));
        for (name, change, value) in named {
            let value = value.flatten();
            if differs
                && change == Change::Reset
                && let Some(v) = &value
                && self.settings.get(&name) != Some(v)
                && self.beginning(&name).as_ref() != Some(v)
                && self.is_where_server_began(&name, v)
            {
                settings.remove(&name);
                lacking.push(name);
                continue;
            }
            let gone = match (change, &value) {
                (_, None) => true,
                (Change::Set, Some(_)) => false,
                (Change::Reset, Some(_)) if self.beginning(&name).is_none() && !name.contains('.') => {
                    // Not known yet: until it is, what there is stays as it is.
                    self.pool.want_defaults();
                    false
                }
                // A custom setting cannot be taken away: it is empty from then on.
                (Change::Reset, Some(v)) => {
                    self.beginning(&name).as_ref() == Some(v) || v.is_empty() && name.contains('.')
                }
            };
            match value.filter(|_| !gone) {
                Some(value) => settings.set(&name, &value),
                None => settings.remove(&name),
            }
        }
        self.adopt_settings(settings);
        lacking.iter().for_each(|name| self.server_lacks(name));
        Some(())
    }

    /// Settings of the session that its server connection is known to lack: it has gone back to its own beginning for
    /// them, which is not the session's.
    fn lacking(&self) -> Vec<String> {
        let Some(server) = self.lease.as_ref().filter(|_| self.unsynced) else { return Vec::new() };
        let Some(needed) = self.needs(server) else { return Vec::new() };
        let lacks = |(name, value): &(&str, &str)| server.settings.get(name) != Some(*value);
        needed.iter().filter(lacks).map(|(name, _)| name.to_string()).collect()
    }

    /// All that the session has set, from a list of what its server connection has set. What was set there only to
    /// make up for another beginning is not the session's.
    fn overrides(&self, list: &[u8]) -> Option<Settings> {
        let mut found = Settings::default();
        for item in list.split(|&b| b == b',').filter(|item| !item.is_empty()) {
            let at = item.iter().position(|&b| b == b'=')?;
            let (name, value) = (std::str::from_utf8(&item[..at]).ok()?, unhex(&item[at + 1..])?);
            if PASSING.contains(&name) {
                continue;
            }
            let ours = self.settings.get(&name.to_ascii_lowercase()).is_none()
                && self.lease.as_ref().is_some_and(|s| !self.wish.is_same(s))
                && self.beginning(&name.to_ascii_lowercase()).as_ref() == Some(&value);
            if !ours {
                found.set(name, &value);
            }
        }
        Some(found)
    }

    /// The session's settings are these from now on, and its server connection has them.
    pub fn adopt_settings(&mut self, settings: Settings) {
        self.reading = None;
        self.settings = if settings.is_empty() {
            self.pool.neutral().clone()
        } else {
            self.pool.shared_settings(settings)
        };
        let Some(server) = &mut self.lease else { return };
        if self.wish.is_same(server) {
            server.settings = self.settings.clone();
        } else if let Some(carried) = self.pool.carried(server, &self.wish.class, &self.settings) {
            server.settings = Arc::new(carried);
        }
    }

    /// Statements under the client's own names: what the server has is what there is.
    fn settle_prepared(&mut self, candidates: &[Candidate], list: &[u8]) -> Option<()> {
        let mut here = Vec::new();
        for item in list.split(|&b| b == b',').filter(|item| !item.is_empty()) {
            let at = item.iter().position(|&b| b == b'=')?;
            here.push((unhex(&item[..at])?.into_bytes(), &item[at + 1..]));
        }
        let id = self.entry.id;
        self.pins = self.pins.without(Traces::PREPARE);
        let server = self.lease.as_mut()?;
        let own = server.own_of(id);
        let gone: Vec<Box<[u8]>> =
            own.keys().filter(|name| !here.iter().any(|(h, _)| **h == ***name)).cloned().collect();
        for name in gone {
            own.remove(&name);
            self.names.set(&name, None);
        }
        for (name, source) in here {
            let mut texts: Vec<&[u8]> = candidates
                .iter()
                .filter(|c| c.name == name && c.source.as_bytes() == source)
                .map(|c| c.text.as_slice())
                .collect();
            texts.dedup();
            match texts.as_slice() {
                [] if own.contains_key(name.as_slice()) => {}
                [text] => {
                    let text = Arc::new(SqlText::new(text));
                    own.insert(name.as_slice().into(), text.id);
                    self.names.set(&name, Some(Named::Sql(text)));
                }
                // Prepared by code, or more than once in a string: which text it has cannot be told.
                _ => self.pins.add(Traces::PREPARE),
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_doubt_is_asked() {
        let mut doubts = Doubts::default();
        doubts.note(Traces::SETTING, b"SET work_mem = 1; SET TimeZone = 'UTC'");
        assert!(doubts.is_askable(Traces::NONE));
        let (sql, asked) = doubts.ask(&Settings::default(), Traces::NONE);
        assert!(sql.contains("'work_mem'") && !sql.contains("imezone"), "{sql}");
        assert!(asked.kinds.is_empty());
    }

    #[test]
    fn a_pin_is_asked_about_only_when_it_may_have_ended() {
        let mut doubts = Doubts::default();
        doubts.note(Traces::SETTING, b"SET work_mem = 1");
        assert!(!doubts.is_askable(Traces::TEMPORARY));
        doubts.note(Traces::ENDS, b"DROP TABLE t");
        assert!(doubts.is_askable(Traces::TEMPORARY));
        assert!(!doubts.is_askable(Traces::TEMPORARY.and(Traces::LOAD)));
        let (_, asked) = doubts.ask(&Settings::default(), Traces::TEMPORARY);
        assert!(asked.kinds.contains(Traces::TEMPORARY));
    }

    #[test]
    fn reported_settings_need_no_question() {
        let mut doubts = Doubts::default();
        doubts.note(Traces::SETTING, b"SET TIME ZONE 'UTC'");
        assert!(!doubts.is_askable(Traces::NONE));
    }

    #[test]
    fn reset_all_asks_for_what_is_set() {
        let mut doubts = Doubts::default();
        doubts.note(Traces::SETTING, b"RESET ALL");
        let set = Settings::from_pairs([("work_mem", "1MB")]);
        assert!(doubts.ask(&set, Traces::NONE).0.contains("'work_mem'"));
    }
}
