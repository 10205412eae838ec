//! Server to client: each frame is checked against what was expected (invariant 6) and passed on as it is, unless
//! it answers something of ours. Bodies are read only where the session must know: status, tags, parameters, errors.

use super::batch::Batch;
use super::expect::{Expect, Fate, Ours};
use super::explained;
use super::run::End;
use crate::core::clock::Instant;
use crate::core::error::{Error, SqlState};
use crate::pool::statement::SERVER_PREFIX;
use crate::sql::effect::Traces;
use crate::sql::listen::Listen;
use crate::wire::frame::{self, Header};
use crate::wire::message::{ErrorFields, TxStatus, command_tag, parameter_status};
use crate::wire::reply;

/// Reported parameters that a client may set, in lower case; what the others report is not the session's doing.
const CARRIED: &[&str] = &[
    "application_name",
    "client_encoding",
    "datestyle",
    "default_transaction_read_only",
    "intervalstyle",
    "search_path",
    "standard_conforming_strings",
    "timezone",
];

impl Batch<'_> {
    /// Takes as many answers as are here and there is room for.
    pub fn take_answers(&mut self) -> Result<(), End> {
        let before = self.flow.down.pending();
        let done = self.take_answers_inner();
        self.counted.1 += self.flow.down.pending().saturating_sub(before) as u64;
        done
    }

    fn take_answers_inner(&mut self) -> Result<(), End> {
        loop {
            self.give_replies();
            if self.flow.down.is_full() || !self.flow.down.stream_on() {
                return Ok(());
            }
            let Some(header) = frame::server(self.flow.down.window())? else { return Ok(()) };
            let whole = self.flow.down.window().len() >= header.len;
            if header.kind == b'D' && self.asked.is_some() && self.is_inquiry() {
                if !whole && self.flow.down.can_hold(header.len) {
                    return Ok(());
                }
                if whole {
                    self.settle(header.len);
                    continue;
                }
                self.unsettled();
            }
            if matches!(header.kind, b'D' | b'd') {
                match self.flow.expected.answer(header.kind) {
                    Fate::Forward | Fate::Columns(_) => {
                        self.flow.down.pass_frame(header.len);
                        // What is true of a row is true of the next one.
                        self.flow.down.pass_alike(header.kind)?;
                    }
                    Fate::Swallow => {
                        self.explained_frame(header);
                        self.flow.down.omit_frame(header.len);
                    }
                    Fate::Violation => return Err(self.violation(header.kind)),
                }
                continue;
            }
            if !whole && self.flow.down.can_hold(header.len) {
                return Ok(());
            }
            self.take_answer(header, whole)?;
            if self.echoed && self.client.hears_itself() {
                return Ok(());
            }
        }
    }

    fn is_inquiry(&mut self) -> bool {
        matches!(self.flow.expected.front(), Some(Expect::OurQuery(Ours::Inquiry)))
    }

    /// Gives the replies that are ours to give, now that all before them have been given.
    #[inline]
    fn give_replies(&mut self) {
        while let Some(reply) = self.flow.expected.pop_reply() {
            let bytes = match &reply {
                Expect::ReplyParse(_) => reply::PARSE_COMPLETE,
                Expect::ReplyRows(rows) => rows,
                _ => reply::CLOSE_COMPLETE,
            };
            self.flow.down.insert().extend_from_slice(bytes);
        }
    }

    fn take_answer(&mut self, header: Header, whole: bool) -> Result<(), End> {
        let len = header.len;
        match header.kind {
            b'Z' => self.ready(len),
            b'E' => self.error(len, whole),
            b'S' => self.parameter(len),
            b'N' => {
                if self.flow.expected.is_ours() && !self.is_explaining() {
                    self.flow.down.omit_frame(len);
                } else {
                    self.flow.down.pass_frame(len);
                }
                Ok(())
            }
            b'A' => {
                self.flow.down.pass_frame(len);
                Ok(())
            }
            kind => {
                if kind == b'C' && whole && !self.flow.expected.is_ours() {
                    self.count_plan(len);
                    self.command_complete(len);
                    if let Some(running) = self.flow.expected.take_explained() {
                        self.explained_answer(*running, len);
                        return Ok(());
                    }
                    if let Some(Expect::Listen(listen)) = self.flow.expected.front() {
                        let listen = Listen::clone(listen);
                        self.flow.expected.answer(kind);
                        self.listened(listen, len);
                        return Ok(());
                    }
                } else if kind == b'C' && matches!(self.flow.expected.front(), Some(Expect::OurBegin)) {
                    self.opened();
                }
                if kind == b's' {
                    self.count_suspended();
                }
                if matches!(kind, b't' | b'T' | b'n')
                    && let Some(Expect::OurDescribe(_)) = self.flow.expected.front()
                {
                    self.described(kind, len);
                }
                match self.flow.expected.answer(kind) {
                    Fate::Forward => self.flow.down.pass_frame(len),
                    Fate::Swallow => self.flow.down.omit_frame(len),
                    Fate::Columns(form) => {
                        self.flow.down.omit_frame(len);
                        reply::one_column(self.flow.down.insert(), "QUERY PLAN", form.json, form.format);
                    }
                    Fate::Violation => return Err(self.violation(kind)),
                }
                Ok(())
            }
        }
    }

    fn frame(&self, len: usize) -> &[u8] {
        let window = self.flow.down.window();
        &window[..len.min(window.len())]
    }

    /// The server does not keep to the protocol: nothing that it says can be believed any more.
    fn violation(&mut self, kind: u8) -> End {
        self.client.shared.totals.backend_violations.add(1);
        // Its connection is in an unknown state.
        self.client.lease = None;
        self.client.entry.set_link(None);
        let shown = char::from(kind).escape_default();
        Error::backend(
            SqlState::PROTOCOL_VIOLATION,
            format!("backend sent a message of type \"{shown}\" that nothing had asked for"),
        )
        .into()
    }

    fn ready(&mut self, len: usize) -> Result<(), End> {
        let status = TxStatus::of(self.frame(len));
        if status == Some(TxStatus::Idle) && self.client.hears_itself() && !self.flow.expected.is_ours() {
            self.echoed = true;
            return Ok(());
        }
        let explaining = self.running.is_some() && self.is_explaining();
        let about_state = self.asked.is_some() && self.is_inquiry();
        let failing = matches!(self.flow.expected.front(), Some(Expect::OurQuery(Ours::Failure)));
        match (status, self.flow.expected.ready()) {
            (Some(status), Some(true)) => {
                self.client.status = status;
                self.client.commits = false;
                self.client.fence_written(status == TxStatus::Idle);
                if self.echoed {
                    self.echoed = false;
                    self.deliver_before_ready()?;
                }
                self.flow.down.pass_frame(len);
                self.settle_listening();
                if status == TxStatus::Idle && self.flow.expected.is_empty() {
                    self.client.names.close_portals();
                }
                let now = Instant::now();
                self.account(now);
                if status != TxStatus::Idle && self.client.course.is_some() {
                    self.client.rest_reading(now);
                }
                Ok(())
            }
            // A statement of ours that fails in the client's transaction fails that.
            (Some(status), Some(false))
                if (status == TxStatus::Idle) == (self.client.status == TxStatus::Idle) || failing =>
            {
                if about_state {
                    self.settled();
                }
                if explaining {
                    self.flow.down.omit_frame(len);
                    self.client.status = status;
                    self.explained();
                    return Ok(());
                }
                self.client.status = status;
                self.flow.down.omit_frame(len);
                Ok(())
            }
            _ => Err(self.violation(b'Z')),
        }
    }

    /// What a plan's statement has done, by its tag.
    #[inline]
    fn count_plan(&mut self, len: usize) {
        let Some(plan) = self.flow.expected.plan() else { return };
        let window = self.flow.down.window();
        let tag = command_tag(&window[..len.min(window.len())]);
        let digits = tag.iter().rev().take_while(|b| b.is_ascii_digit()).count();
        let rows = tag[tag.len() - digits..]
            .iter()
            .fold(0u64, |n, b| n.wrapping_mul(10).wrapping_add(u64::from(b - b'0')));
        plan.uses.calls.add(1);
        plan.uses.rows.add(rows);
        if let Some(gap) = plan.gap {
            self.client.shared.planner.count_gap(gap);
        }
        self.done = Some(plan.clone());
    }

    /// A portal has given as many rows as were asked for: its tag will only speak of the last ones.
    fn count_suspended(&mut self) {
        if let Some(Expect::Execute(Some(plan), most)) = self.flow.expected.front() {
            plan.uses.rows.add(u64::from(*most));
        }
    }

    /// Statements that take away what the session had.
    fn command_complete(&mut self, len: usize) {
        // It may be that of a commit, and be read before what follows.
        self.client.fence_written(false);
        let window = self.flow.down.window();
        let tag = command_tag(&window[..len.min(window.len())]);
        if tag.first() != Some(&b'D') {
            if tag == b"ROLLBACK" {
                self.note_rollback();
            }
            return;
        }
        let client = &mut *self.client;
        let Some(server) = &mut client.lease else { return };
        match tag {
            b"DISCARD ALL" => {
                server.forget_all();
                server.sequences_discarded();
                server.settings = server.slot.pool().neutral().clone();
                client.names.clear_named();
                client.names.unnamed = None;
                client.listening = None;
                client.settings = client.initial.clone();
                client.reading = None;
                client.pins = client.pins.of(Traces::SESSION);
                client.serial = false;
                client.doubts = None;
            }
            b"DEALLOCATE ALL" => {
                client.pins = client.pins.without(Traces::PREPARED);
                server.forget_all();
                client.names.clear_named();
            }
            b"DISCARD SEQUENCES" => {
                server.sequences_discarded();
                client.pins = client.pins.without(Traces::SEQUENCE);
            }
            _ => {}
        }
    }

    /// A setting changed, by a statement of the client's or as one was undone: it is carried from now on.
    fn parameter(&mut self, len: usize) -> Result<(), End> {
        if self.flow.expected.is_ours() && !self.is_explaining() {
            self.flow.down.omit_frame(len);
            return Ok(());
        }
        let Some((name, value)) = parameter_status(self.frame(len)) else { return Err(self.violation(b'S')) };
        let lower = name.to_ascii_lowercase();
        if !CARRIED.contains(&lower.as_str()) {
            self.flow.down.pass_frame(len);
            return Ok(());
        }
        let (name, value) = (name.to_string(), value.to_string());
        let told = self.client.reported(&lower, &value);
        if told == value {
            self.flow.down.pass_frame(len);
        } else {
            self.flow.down.omit_frame(len);
            reply::parameter_status(self.flow.down.insert(), &name, &told);
        }
        Ok(())
    }

    /// An error on a cluster says something of its server. True where another is asked instead.
    fn is_asked_elsewhere(&mut self, len: usize, whole: bool) -> bool {
        let code = ErrorFields::of(self.frame(len)).sqlstate();
        let asked = whole && self.ask_primary(code);
        if !asked {
            self.client.note_failure(code);
        }
        asked
    }

    fn error(&mut self, len: usize, whole: bool) -> Result<(), End> {
        if self.client.course.is_some() && self.is_asked_elsewhere(len, whole) {
            return Ok(());
        }
        self.count_error();
        let fields = ErrorFields::of(self.frame(len));
        let (fatal, code, text) = (fields.is_fatal(), fields.sqlstate(), fields.text());
        if matches!(code, SqlState::UNKNOWN_STATEMENT | SqlState::IN_FAILED_TRANSACTION)
            && let Some(reason) = self.reason.take_if(|_| whole)
        {
            self.flow.down.omit_frame(len);
            self.flow.down.insert().extend_from_slice(&reason);
            self.undo_skipped();
            return Ok(());
        }
        if code == SqlState::FEATURE_NOT_SUPPORTED && text.contains("cached plan must not change result type")
        {
            // Who prepares it again is to get a new one, as it would on a connection of its own.
            self.client.pool.statements.forget_all();
        }
        let opening = matches!(self.flow.expected.front(), Some(Expect::OurBegin)) && !fatal;
        if whole && let Some(error) = self.in_our_words(code, &text) {
            self.flow.down.omit_frame(len);
            reply::error(self.flow.down.insert(), &error);
            if opening {
                return self.opening_failed();
            }
            self.note_rollback();
            self.undo_skipped();
            return Ok(());
        }
        if opening {
            self.flow.down.pass_frame(len);
            return self.opening_failed();
        }
        let doomed = match self.flow.expected.front() {
            Some(Expect::OurQuery(Ours::Settings)) if !fatal => {
                return Err(self.settings_refused(code, &text));
            }
            Some(Expect::OurQuery(Ours::Explained)) if !fatal => {
                self.explained_error(len);
                return Ok(());
            }
            Some(Expect::OurQuery(_)) if !fatal => return self.our_error(len, whole),
            Some(Expect::Doomed(by, error)) if whole && *by == code => Some(error.clone()),
            _ => None,
        };
        match doomed {
            Some(error) => {
                self.flow.down.omit_frame(len);
                reply::error(self.flow.down.insert(), &error);
            }
            None => match whole.then(|| self.in_clients_words(len)).flatten() {
                Some(reworded) => {
                    self.flow.down.omit_frame(len);
                    self.flow.down.insert().extend_from_slice(&reworded);
                }
                None => self.flow.down.pass_frame(len),
            },
        }
        self.note_rollback();
        if fatal {
            // The server closes the connection next; the client has been told why.
            self.server_said_goodbye = true;
            return Ok(());
        }
        self.undo_skipped();
        Ok(())
    }

    fn count_error(&mut self) {
        self.client.pool.traffic.errors.add(1);
        if let Some(plan) = self.flow.expected.plan() {
            plan.uses.calls.add(1);
            plan.uses.errors.add(1);
        }
    }

    /// What the client is told for an error that has its reason here.
    fn in_our_words(&self, code: SqlState, text: &str) -> Option<Error> {
        match code {
            SqlState::QUERY_CANCELED if self.client.entry.take_timed_out() => Some(Self::late()),
            SqlState::SYNTAX_ERROR if text == "unrecognized EXPLAIN option \"route\"" => {
                Some(explained::not_understood())
            }
            _ => None,
        }
    }

    /// A statement of ours failed.
    fn our_error(&mut self, len: usize, whole: bool) -> Result<(), End> {
        match self.flow.expected.front() {
            Some(Expect::OurQuery(Ours::Inquiry)) => self.unsettled(),
            Some(Expect::OurQuery(Ours::Prepare(name))) => {
                // If the client uses it, this is what it would have been told.
                let (id, name) = (self.client.entry.id, name.clone());
                self.reason = whole.then(|| self.frame(len).to_vec());
                self.server()?.own_of(id).remove(&name);
            }
            _ => {}
        }
        self.flow.down.omit_frame(len);
        Ok(())
    }

    /// An error that speaks of a statement by our name for it, with the client's own in its place.
    fn in_clients_words(&self, len: usize) -> Option<Vec<u8>> {
        let frame = self.frame(len);
        let at = frame.windows(SERVER_PREFIX.len()).position(|w| w == SERVER_PREFIX)?;
        let digits = frame[at + SERVER_PREFIX.len()..].iter().take_while(|b| b.is_ascii_digit()).count();
        let end = at + SERVER_PREFIX.len() + digits;
        let name = self.client.names.called(&frame[at..end])?;
        let mut out = [&frame[..at], name, &frame[end..]].concat();
        let length = u32::try_from(out.len() - 1).ok()?;
        out[1..5].copy_from_slice(&length.to_be_bytes());
        Some(out)
    }

    fn settings_refused(&mut self, code: SqlState, text: &str) -> End {
        self.client.lease = None;
        self.client.entry.set_link(None);
        Error::backend(code, "could not carry the session's settings to another server connection")
            .detail(text.to_string())
            .into()
    }

    /// What the server skips after an error did not happen: names are as they were, last change first.
    pub(super) fn undo_skipped(&mut self) {
        let mut dropped = Vec::new();
        self.flow.expected.error(|entry| dropped.push(entry));
        self.undo(dropped);
    }

    /// Undoes what was to happen, in the order in which it was to.
    pub(super) fn undo(&mut self, mut dropped: Vec<Expect>) {
        // Postgres drops the unnamed statement before it parses the next, so one that fails leaves none.
        if let Some(Expect::ParseUnnamed(before)) = dropped.first_mut() {
            *before = None;
        }
        for entry in dropped.into_iter().rev() {
            self.undo_one(entry);
        }
    }

    fn undo_one(&mut self, entry: Expect) {
        let Self { client, flow, .. } = self;
        let Some(server) = &mut client.lease else { return };
        match entry {
            Expect::Parse(statement, undo) => {
                server.forget(statement.id);
                flow.expected.undo(*undo, &mut client.names);
            }
            Expect::ParseRaw(undo) | Expect::ReplyParse(undo) => flow.expected.undo(*undo, &mut client.names),
            Expect::ReplyClose(Some(undo)) | Expect::Close(Some(undo)) => {
                flow.expected.undo(*undo, &mut client.names);
            }
            Expect::ParseUnnamed(before) | Expect::CloseUnnamed(before) => {
                flow.expected.undo_unnamed(before, &mut client.names);
                server.unnamed = Some(super::requests::NOBODY);
            }
            Expect::OurDescribe(_) => (self.checking, self.params) = (false, None),
            Expect::OurUnnamed | Expect::OurClose(None) => server.unnamed = Some(super::requests::NOBODY),
            Expect::OurParse(statement) => server.forget(statement.id),
            Expect::OurOwn(name) => drop(server.own_of(client.entry.id).remove(&name)),
            Expect::OurClose(Some(statement)) => server.remember(&statement),
            _ => {}
        }
    }
}
