//! What a client's statements may have left on its server connection, as far as their text tells. What they really
//! did is found out when the transaction is over ([`super::inquiry`]).

use std::sync::Arc;

use super::names::Named;
use super::run::Client;
use crate::core::clock::Instant;
use crate::pool::settings::{APPLICATION_NAME, Settings};
use crate::pool::statement::{MEANINGS, Scope};
use crate::pool::suspects::Suspects;
use crate::sql::effect::Traces;
use crate::sql::prepare;
use crate::sql::setting::{self, Change};
use crate::wire::message::{TxStatus, cstr};
use crate::wire::password::md5;

/// What is in doubt since the server was last asked.
#[derive(Debug, Default)]
pub struct Doubts {
    /// Kinds of state.
    pub traces: Traces,
    /// Settings by name, each with the last that was done to it.
    pub(super) named: Vec<(String, Change)>,
    /// RESET ALL.
    pub(super) all: bool,
    /// Settings that the server reports by itself.
    reported: bool,
    /// Some of it may have been undone, or never done.
    pub(super) failed: bool,
    /// Statements prepared by SQL.
    pub(super) prepared: Vec<Candidate>,
    /// Objects that others see, too, may have been made, changed or dropped.
    pub(super) objects: bool,
    /// Texts that may call functions, from when it was not known what those do, each with whether triggers are called.
    /// `None` stands for a text that was not kept: it may call any.
    calls: Vec<(Option<Box<[u8]>>, bool)>,
}

/// A statement that SQL may have prepared.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) name: Vec<u8>,
    pub(super) text: Vec<u8>,
    /// Digest of the whole string that it was part of, which is what the server shows of it.
    pub(super) source: String,
}

/// Settings above which all are asked for at once.
const MAX_NAMED: usize = 32;

/// Texts that may call functions above which any may have been called, and the longest that is kept, in bytes.
const MAX_CALLS: (usize, usize) = (16, 4096);

/// Reported by every supported server whenever they change: those reports say what there is to know.
const REPORTED: &[&str] = &[
    APPLICATION_NAME,
    "client_encoding",
    "datestyle",
    "intervalstyle",
    "standard_conforming_strings",
    "timezone",
];

/// What these say of a transaction ends with it; of a session they say nothing, though the server lists them as if it had set
/// them.
pub(super) const PASSING: &[&str] =
    &["transaction_isolation", "transaction_read_only", "transaction_deferrable"];

/// Functions of large objects (`pg_proc.dat`), which drivers call by FunctionCall.
const LARGE_OBJECTS: [u32; 15] =
    [715, 764, 765, 767, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171];

/// The first argument of a FunctionCall, as a setting's name.
fn first_argument(body: &[u8]) -> Option<String> {
    let (formats, rest) = body.get(4..)?.split_first_chunk()?;
    // Text is the same in both formats.
    let rest = rest.get(usize::from(u16::from_be_bytes(*formats)) * 2 + 2..)?;
    let (len, rest) = rest.split_first_chunk()?;
    let name = rest.get(..usize::try_from(i32::from_be_bytes(*len)).ok()?)?;
    std::str::from_utf8(name).ok().map(str::to_ascii_lowercase)
}

/// Whether a setting decides what texts mean.
pub(super) fn decides_meaning(name: &str) -> bool {
    MEANINGS.contains(&name) || name == "backslash_quote"
}

/// Whether all that a text sets is named, and none of it decides what texts mean: a row security policy's settings, most often.
fn keeps_meaning(sql: &[u8]) -> bool {
    let changes = setting::changes(sql);
    let known = !changes.named.is_empty() && !changes.unnamed && !changes.all;
    // Those for a transaction are not among them.
    let local = || sql.windows(5).any(|word| word.eq_ignore_ascii_case(b"local"));
    known && !changes.named.iter().any(|(name, _)| decides_meaning(name)) && !local()
}

impl Doubts {
    pub(super) fn note(&mut self, traces: Traces, sql: &[u8]) {
        self.traces.add(traces.of(Traces::DOUBTS));
        // What a DO block sets, its text tells.
        if traces.any(Traces::SETTING.and(Traces::SETTINGS)) {
            let changes = setting::changes(sql);
            if changes.unnamed {
                self.traces.add(Traces::SETTINGS);
            }
            self.all |= changes.all;
            for (name, change) in changes.named {
                self.name(name, change);
            }
        }
        if traces.any(Traces::PREPARE) {
            let source = md5(&[sql]);
            for (name, text) in prepare::mentions(sql).prepared {
                self.prepared.push(Candidate { name, text, source: source.clone() });
            }
        }
    }

    /// Notes a call, until it is known what functions do.
    fn call(&mut self, sql: Option<&[u8]>, writes: bool) {
        if self.calls.len() < MAX_CALLS.0 {
            let kept = sql.filter(|_| self.calls.len() + 1 < MAX_CALLS.0).filter(|t| t.len() <= MAX_CALLS.1);
            self.calls.push((kept.map(Into::into), writes));
        } else if writes && let Some(last) = self.calls.last_mut() {
            last.1 = true;
        }
    }

    /// Whether texts may mean something else by it.
    fn blurs(&self) -> bool {
        let kinds = Traces::SETTINGS.and(Traces::TEMPORARY);
        let code = self.objects || self.wants_functions() || self.traces.any(kinds);
        code || self.all || self.reported || self.named.iter().any(|(name, _)| decides_meaning(name))
    }

    /// Whether it must first be known what the functions of the database do.
    pub fn wants_functions(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Takes what functions do into account.
    pub fn resolve(&mut self, known: &Suspects) -> Traces {
        let mut traces = Traces::NONE;
        for (text, writes) in std::mem::take(&mut self.calls) {
            traces.add(self.suspect(known, text.as_deref(), writes));
        }
        self.note(traces, b"");
        traces
    }

    /// What a text may leave behind by the functions that it calls; notes the settings by name.
    fn suspect(&mut self, known: &Suspects, sql: Option<&[u8]>, writes: bool) -> Traces {
        let found = match sql {
            Some(sql) => known.called_by(sql, writes),
            None => known.any(),
        };
        let Some((settings, unnamed)) = found else { return Traces::NONE };
        for name in settings {
            self.name(name.clone(), Change::Reset);
        }
        // A custom setting that nobody names cannot be asked about.
        if unnamed { Traces::OPAQUE.and(Traces::UNKNOWN) } else { Traces::OPAQUE }
    }

    pub(super) fn name(&mut self, name: String, change: Change) {
        let reported = REPORTED.contains(&name.as_str());
        self.reported |= reported;
        if reported || PASSING.contains(&name.as_str()) {
            return;
        }
        match self.named.iter().position(|(known, _)| *known == name) {
            Some(i) => self.named[i].1 = change,
            None if self.named.len() >= MAX_NAMED => self.traces.add(Traces::SETTINGS),
            None => self.named.push((name, change)),
        }
    }
}

impl Client {
    /// What the functions that a statement calls may leave behind, as far as is known; the rest is noted, to be found
    /// out when the transaction is over. No text stands for one that was too long to be held.
    pub fn suspect(&mut self, traces: Traces, sql: Option<&[u8]>) -> Traces {
        if !traces.any(Traces::CALLS.and(Traces::ADVANCES).and(Traces::EXECUTES).and(Traces::DDL))
            || self.pins.any(Traces::CERTAIN)
        {
            return Traces::NONE;
        }
        // Triggers, also those of events.
        let writes = traces.any(Traces::ADVANCES.and(Traces::EXECUTES).and(Traces::DDL));
        match self.pool.schema.functions.known(Instant::now()).as_ref() {
            Some(known) if known.is_empty() => Traces::NONE,
            Some(known) => self.doubts.get_or_insert_default().suspect(known, sql, writes),
            None => {
                self.doubts.get_or_insert_default().call(sql, writes);
                Traces::NONE
            }
        }
    }

    /// Notes what a FunctionCall may leave behind, by what is here of its body: anything, but for large objects, which end
    /// with the transaction.
    pub fn calls_function(&mut self, body: &[u8]) {
        const SET_CONFIG: u32 = 2078;
        const SETSEED: u32 = 1599;
        // nextval and setval; currval and lastval.
        const SEQUENCES: [u32; 3] = [1574, 1576, 1765];
        const VALUES: [u32; 2] = [1575, 2559];
        // Above that they are somebody's own (`FirstNormalObjectId`).
        const SYSTEM: u32 = 16_384;
        let function = body.first_chunk().map_or(u32::MAX, |oid| u32::from_be_bytes(*oid));
        if LARGE_OBJECTS.contains(&function) {
            return;
        }
        let mut traces = Traces::OPAQUE.and(Traces::CALLS);
        match function {
            SET_CONFIG => match first_argument(body) {
                Some(name) => self.doubts.get_or_insert_default().name(name, Change::Reset),
                None => traces.add(Traces::UNKNOWN),
            },
            SETSEED => traces.add(Traces::SEED),
            _ if SEQUENCES.contains(&function) => traces.add(Traces::SERIAL),
            _ if VALUES.contains(&function) => traces.add(Traces::SEQUENCE.and(Traces::SERIAL)),
            ..SYSTEM => {}
            _ => traces.add(self.suspect(traces, None)),
        }
        self.note(traces, b"");
    }

    /// Notes what running a prepared statement by its name may leave behind.
    pub fn executes(&mut self, name: &[u8]) {
        let note = |client: &mut Client, traces: Traces, text: &[u8]| {
            // It may call what it only mentions.
            let traces = traces.and(client.suspect(traces.and(Traces::CALLS), Some(text)));
            client.note(traces, text);
        };
        match self.names.get(name).cloned() {
            Some(Named::Sql(statement)) => note(self, statement.traces, &statement.text),
            Some(Named::Shared(statement, _)) => {
                let text = cstr(&statement.body).map_or(&*statement.body, |(text, _)| text);
                note(self, statement.pins, text);
            }
            Some(Named::OnServer) | None => {}
        }
    }

    /// Notes what a statement that is about to be sent may leave behind.
    pub fn note(&mut self, traces: Traces, sql: &[u8]) {
        self.pins.add(traces.of(Traces::CERTAIN));
        self.wish.sticky |= traces.any(Traces::STATEFUL);
        // Code may set more than its text names.
        let opaque = traces.contains(Traces::OPAQUE);
        if traces.contains(Traces::MEANING) && (opaque || !keeps_meaning(sql)) {
            (self.blurred, self.reading) = (true, None);
        }
        if traces.contains(Traces::NOTIFIES) {
            self.notifies();
        }
        if traces.contains(Traces::FUNCTIONS) {
            self.pool.schema.functions.forget();
        }
        self.savepoints |= traces.contains(Traces::SAVEPOINT);
        self.messy |= traces.any(Traces::DDL);
        // Code may make temporary objects and others.
        let temporary = traces.contains(Traces::TEMPORARY) && !traces.contains(Traces::OPAQUE);
        if traces.contains(Traces::DDL) && !temporary {
            self.pool.schema.changed();
            self.doubts.get_or_insert_default().objects = true;
        }
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
        if ends || traces.any(Traces::ASKABLE.and(Traces::FUNCTIONS)) {
            self.doubts.get_or_insert_default().note(traces, sql);
        }
    }

    /// Notes what it means for others, and for the client if the answer is lost.
    pub fn hint(&mut self, traces: Traces) {
        let opening = self.course.as_ref().is_some_and(|c| c.opening.is_some());
        let alone = self.status == TxStatus::Idle && !opening;
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
            self.entry.set_application_name(&told);
        }
        self.adopt_settings(settings);
        if told != value {
            self.server_lacks(name);
        }
        told
    }

    /// Whether this is what the server connection had for a setting when it began.
    pub(super) fn is_where_server_began(&self, name: &str, value: &str) -> bool {
        let Some(server) = &self.lease else { return false };
        let base = || self.pool.welcomes.reports(name);
        server.class.get(name).map(str::to_string).or_else(base).unwrap_or_default() == value
    }

    /// The server connection has gone back to its own beginning for a setting.
    pub(super) fn server_lacks(&mut self, name: &str) {
        if let Some(server) = &mut self.lease {
            let mut actual = Settings::clone(&server.settings);
            actual.remove(name);
            server.settings = Arc::new(actual);
            self.unsynced = true;
        }
    }

    /// What decides about the meaning of names in what it prepares.
    pub fn scope(&self) -> Scope<'_> {
        let own = |name: &str| self.settings.get(name).or_else(|| self.wish.class.get(name));
        Scope { meanings: MEANINGS.map(own), generation: self.pool.schema.generation() }
    }

    /// Whether what it prepares now may mean something that no scope tells: settings may have changed since the server was
    /// last heard or asked, be it for the transaction, and names of temporary objects are its own.
    pub fn means_its_own(&self) -> bool {
        let doubtful = || self.doubts.as_ref().is_some_and(|doubts| doubts.blurs());
        self.blurred || self.pins.contains(Traces::TEMPORARY) || doubtful()
    }

    /// What the session began with for a setting, as far as is known.
    pub(super) fn beginning(&self, name: &str) -> Option<String> {
        let known = match name {
            "role" => Some("none"),
            "session_authorization" => Some(self.pool.purpose.server_user.as_str()),
            _ => self.wish.class.get(name),
        };
        let known = known.map(str::to_string).or_else(|| self.pool.welcomes.reports(name));
        known.or_else(|| self.pool.default(name).map(str::to_string))
    }
}
