//! What a client's statements may have left on its server connection, as far as their text tells; and the question
//! that finds out what they really did, asked when the transaction is over: the server knows what was undone.

use std::sync::Arc;

use md5::{Digest, Md5};

use super::names::{Named, SqlText};
use super::run::Client;
use crate::core::clock::Instant;
use crate::pool::defaults::unhex;
use crate::pool::settings::{APPLICATION_NAME, Settings, quote};
use crate::sql::effect::Traces;
use crate::sql::prepare;
use crate::sql::setting::{self, Change};
use crate::wire::message::{TxStatus, data_row};

/// What is in doubt since the server was last asked.
#[derive(Debug, Default)]
pub struct Doubts {
    /// Kinds of state.
    pub traces: Traces,
    /// Settings by name, each with the last that was done to it.
    named: Vec<(String, Change)>,
    /// RESET ALL.
    all: bool,
    /// Statements prepared by SQL.
    prepared: Vec<Candidate>,
}

/// A statement that SQL may have prepared.
#[derive(Debug)]
struct Candidate {
    name: Vec<u8>,
    text: Vec<u8>,
    /// Digest of the whole string that it was part of, which is what the server shows of it.
    source: String,
}

/// What was asked.
#[derive(Debug, Default)]
pub struct Asked {
    named: Vec<(String, Change)>,
    kinds: Traces,
    prepared: Vec<Candidate>,
}

/// Settings above which all are asked for at once.
const MAX_NAMED: usize = 32;

/// Reported by every supported server whenever they change: those reports say what there is to know.
const REPORTED: &[&str] = &[
    APPLICATION_NAME,
    "client_encoding",
    "datestyle",
    "intervalstyle",
    "standard_conforming_strings",
    "timezone",
];

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
        self.kinds.contains(Traces::PREPARE)
    }
}

impl Doubts {
    fn note(&mut self, traces: Traces, sql: &[u8], conforming: bool) {
        self.traces
            .add(traces.of(Traces::ASKABLE.and(Traces::ENDS).and(Traces::RESETS)).without(Traces::SETTING));
        // What a DO block sets, its text tells.
        if traces.any(Traces::SETTING.and(Traces::SETTINGS)) {
            let changes = setting::changes(sql, conforming);
            if changes.unnamed {
                self.traces.add(Traces::SETTINGS);
            }
            self.all |= changes.all;
            for (name, change) in changes.named {
                self.name(name, change);
            }
        }
        if traces.any(Traces::PREPARE) {
            let source = md5(sql);
            for (name, text) in prepare::mentions(sql, conforming).prepared {
                self.prepared.push(Candidate { name, text, source: source.clone() });
            }
        }
    }

    fn name(&mut self, name: String, change: Change) {
        if REPORTED.contains(&name.as_str()) {
            return;
        }
        match self.named.iter().position(|(known, _)| *known == name) {
            Some(i) => self.named[i].1 = change,
            None if self.named.len() >= MAX_NAMED => self.traces.add(Traces::SETTINGS),
            None => self.named.push((name, change)),
        }
    }

    /// Whether the server has anything to be asked about, given why the client is pinned.
    pub fn is_askable(&self, pins: Traces) -> bool {
        if pins.any(Traces::CERTAIN) {
            return false;
        }
        let kept = pins.any(Traces::ASKABLE) && !self.traces.any(Traces::ENDS);
        !kept && (self.traces.any(Traces::ASKABLE) || !self.named.is_empty() || self.all || !pins.is_empty())
    }

    /// The question, and what its answer is about.
    pub fn ask(mut self, settings: &Settings, pins: Traces) -> (String, Asked) {
        let mut kinds =
            self.traces.of(Traces::ASKABLE).and(pins.of(Traces::ASKABLE)).without(Traces::SETTING);
        if self.all {
            for (name, _) in settings.iter() {
                self.name(name.to_string(), Change::Reset);
            }
        }
        if kinds.any(Traces::SETTINGS) || self.traces.any(Traces::SETTINGS) {
            kinds.add(Traces::SETTINGS);
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
        (sql, Asked { named: self.named, kinds, prepared: self.prepared })
    }
}

impl Client {
    /// What the functions that a statement calls may leave behind. Until that is known, anything.
    pub fn suspect(&mut self, traces: Traces, sql: &[u8]) -> Traces {
        if !traces.any(Traces::CALLS.and(Traces::ADVANCES).and(Traces::EXECUTES))
            || self.pins.any(Traces::CERTAIN)
        {
            return Traces::NONE;
        }
        let known = self.pool.suspects(Instant::now());
        let Some(suspects) = known.as_ref() else {
            return if traces.contains(Traces::CALLS) { Traces::OPAQUE } else { Traces::NONE };
        };
        if suspects.is_empty() {
            return Traces::NONE;
        }
        let writes = traces.any(Traces::ADVANCES.and(Traces::EXECUTES));
        let Some((settings, unnamed)) = suspects.called_by(sql, writes) else { return Traces::NONE };
        let doubts = self.doubts.get_or_insert_default();
        for name in settings {
            doubts.name(name.clone(), Change::Reset);
        }
        // A custom setting that nobody names cannot be asked about.
        if unnamed { Traces::OPAQUE.and(Traces::UNKNOWN) } else { Traces::OPAQUE }
    }

    /// Notes what a statement that is about to be sent may leave behind.
    pub fn note(&mut self, traces: Traces, sql: &[u8]) {
        self.pins.add(traces.of(Traces::CERTAIN));
        self.wish.sticky |= traces.any(Traces::STATEFUL);
        if traces.contains(Traces::NOTIFIES) {
            self.notifies();
        }
        if traces.contains(Traces::DDL) {
            self.pool.forget_suspects();
        }
        self.messy |= traces.any(Traces::DDL);
        self.serial |= traces.any(Traces::SERIAL);
        if self.serial && traces.any(Traces::ADVANCES) {
            self.pins.add(Traces::SEQUENCE);
        }
        // What becomes of a statement whose objects change is known to the server that has it.
        if traces.any(Traces::DDL) && self.names.sql().next().is_some() {
            self.pins.add(Traces::PREPARED);
        }
        self.hint(traces);
        if self.pins.contains(Traces::SESSION) {
            return;
        }
        let ends = traces.any(Traces::ENDS) && (self.pins.any(Traces::ASKABLE) || self.doubts.is_some());
        if ends || traces.any(Traces::ASKABLE) {
            let conforming = self.settings.get("standard_conforming_strings") != Some("off");
            self.doubts.get_or_insert_default().note(traces, sql, conforming);
        }
    }

    /// Notes what it means for others, and for the client if the answer is lost.
    pub fn hint(&mut self, traces: Traces) {
        let alone = self.status == TxStatus::Idle;
        self.commits |= traces.contains(Traces::COMMITS) || alone && traces.any(Traces::CHANGES);
        if traces.any(Traces::ADVANCES.and(Traces::CALLS))
            && let Some(server) = &mut self.lease
        {
            server.advanced_by(self.entry.id);
        }
    }

    /// Takes what a server reports of a setting that is carried; returns what the client is told. Where the connection
    /// went back to what it began with, the client goes back to what its session began with, which may differ; no
    /// connection begins with an application's name.
    pub fn reported(&mut self, name: &str, value: &str) -> String {
        let mut settings = Settings::clone(&self.settings);
        let resets = self.doubts.as_ref().is_some_and(|d| d.traces.any(Traces::RESETS))
            || self.settings == self.initial;
        let began = self.beginning(name).unwrap_or_default();
        let told = if resets && self.is_where_server_began(name, value) {
            self.initial.get(name).map_or(began.clone(), str::to_string)
        } else {
            value.to_string()
        };
        if began == told {
            settings.remove(name);
        } else {
            settings.set(name, &told);
        }
        if name == APPLICATION_NAME {
            *self.entry.application_name.lock() = told.as_str().into();
        }
        self.adopt_settings(settings);
        if told != value {
            self.server_lacks(name);
        }
        told
    }

    /// Whether this is what the server connection had for a setting when it began.
    fn is_where_server_began(&self, name: &str, value: &str) -> bool {
        let Some(server) = &self.lease else { return false };
        let base = || self.pool.welcomes.reports(name);
        server.class.get(name).map(str::to_string).or_else(base).unwrap_or_default() == value
    }

    /// The server connection has gone back to its own beginning for a setting.
    fn server_lacks(&mut self, name: &str) {
        if let Some(server) = &mut self.lease {
            let mut actual = Settings::clone(&server.settings);
            actual.remove(name);
            server.settings = Arc::new(actual);
            self.unsynced = true;
        }
    }

    /// What the session began with for a setting, as far as is known.
    fn beginning(&self, name: &str) -> Option<String> {
        let known = match name {
            "role" => Some("none"),
            "session_authorization" => Some(self.pool.purpose.server_user.as_str()),
            _ => self.wish.class.get(name),
        };
        let known = known.map(str::to_string).or_else(|| self.pool.welcomes.reports(name));
        known.or_else(|| self.pool.default(name).map(str::to_string))
    }

    /// Takes the server's answer (a DataRow). `None` where it makes no sense.
    pub fn settle(&mut self, asked: Asked, row: &[u8]) -> Option<()> {
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
        let mut lacking = Vec::new();
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

    /// All that the session has set, from a list of what its server connection has set. What was set there only to
    /// make up for another beginning is not the session's.
    fn overrides(&self, list: &[u8]) -> Option<Settings> {
        let mut found = Settings::default();
        for item in list.split(|&b| b == b',').filter(|item| !item.is_empty()) {
            let at = item.iter().position(|&b| b == b'=')?;
            let (name, value) = (std::str::from_utf8(&item[..at]).ok()?, unhex(&item[at + 1..])?);
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

/// As the server's function of that name.
fn md5(text: &[u8]) -> String {
    Md5::digest(text).iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_doubt_is_asked() {
        let mut doubts = Doubts::default();
        doubts.note(Traces::SETTING, b"SET work_mem = 1; SET TimeZone = 'UTC'", true);
        assert!(doubts.is_askable(Traces::NONE));
        let (sql, asked) = doubts.ask(&Settings::default(), Traces::NONE);
        assert!(sql.contains("'work_mem'") && !sql.contains("imezone"), "{sql}");
        assert!(asked.kinds.is_empty());
    }

    #[test]
    fn a_pin_is_asked_about_only_when_it_may_have_ended() {
        let mut doubts = Doubts::default();
        doubts.note(Traces::SETTING, b"SET work_mem = 1", true);
        assert!(!doubts.is_askable(Traces::TEMPORARY));
        doubts.note(Traces::ENDS, b"DROP TABLE t", true);
        assert!(doubts.is_askable(Traces::TEMPORARY));
        assert!(!doubts.is_askable(Traces::TEMPORARY.and(Traces::LOAD)));
        let (_, asked) = doubts.ask(&Settings::default(), Traces::TEMPORARY);
        assert!(asked.kinds.contains(Traces::TEMPORARY));
    }

    #[test]
    fn reported_settings_need_no_question() {
        let mut doubts = Doubts::default();
        doubts.note(Traces::SETTING, b"SET TIME ZONE 'UTC'", true);
        assert!(!doubts.is_askable(Traces::NONE));
    }

    #[test]
    fn reset_all_asks_for_what_is_set() {
        let mut doubts = Doubts::default();
        doubts.note(Traces::SETTING, b"RESET ALL", true);
        let set = Settings::from_pairs([("work_mem", "1MB")]);
        assert!(doubts.ask(&set, Traces::NONE).0.contains("'work_mem'"));
    }
}
