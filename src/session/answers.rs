//! Server to client: each frame is checked against what was expected (invariant 6) and passed on as it is, unless
//! it answers something of ours. Bodies are read only where the session must know: status, tags, parameters, errors.

use super::batch::{Batch, Flow};
use super::expect::{Expect, Fate, Ordinary, Ours, Ready};
use super::run::End;
use crate::cache::{key::Form, l1::Why};
use crate::core::clock::Instant;
use crate::core::error::{Error, SqlState};
use crate::sql::effect::Traces;
use crate::sql::listen::Listen;
use crate::wire::frame::{self, Header};
use crate::wire::message::{ErrorFields, TxStatus, command_tag, parameter_status, tag_rows};
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
        self.mark_answers();
        let done = self.take_answers_inner();
        self.copy_answers();
        done
    }

    #[inline]
    fn take_answers_inner(&mut self) -> Result<(), End> {
        let unwatched = self.client.shadow.is_none() && !self.client.is_metered();
        loop {
            self.give_replies();
            self.watch_more();
            if self.flow.down.is_full() || !self.flow.down.stream_on() {
                return Ok(());
            }
            if unwatched && self.flow.hand.asked.is_none() && self.take_ordinary() {
                continue;
            }
            let Some(header) = frame::server(self.flow.down.window())? else { return Ok(()) };
            let whole = self.flow.down.window().len() >= header.len;
            if header.kind == b'D' && self.flow.hand.asked.is_some() && self.is_inquiry() {
                if !whole && self.flow.down.comes(header.len) {
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
                        self.watch_rows(header);
                        self.flow.down.pass_frame(header.len);
                        // What is true of a row is true of the next one.
                        let more = self.flow.down.pass_alike(header.kind)?;
                        self.tenant_reads(1 + more);
                    }
                    Fate::Swallow => {
                        self.explained_frame(header);
                        self.flow.down.omit_frame(header.len);
                    }
                    Fate::Violation => return Err(self.violation(header.kind)),
                }
                continue;
            }
            if !whole && self.flow.down.comes(header.len) {
                return Ok(());
            }
            self.take_answer(header, whole)?;
            if self.echoed && self.client.hears_itself() {
                return Ok(());
            }
        }
    }

    /// Passes on the answers that follow, as long as they are whole and there is nothing to know about them: most of what
    /// servers say. True where one of them has made way for what is expected next.
    #[inline]
    fn take_ordinary(&mut self) -> bool {
        let Flow { down, expected, .. } = &mut *self.flow;
        while let Some(header) = frame::whole(down.window()) {
            match expected.ordinary(header.kind) {
                Ordinary::More => down.pass(header.len),
                Ordinary::Last => {
                    down.pass(header.len);
                    expected.answered();
                    return true;
                }
                Ordinary::No => break,
            }
        }
        false
    }

    fn is_inquiry(&mut self) -> bool {
        matches!(self.flow.expected.front(), Some(Expect::OurQuery(Ours::Inquiry)))
    }

    /// Gives the replies that are ours to give, now that all before them have been given.
    #[inline]
    fn give_replies(&mut self) {
        while let Some(reply) = self.flow.expected.pop_reply() {
            let down = &mut self.flow.down;
            match reply {
                Expect::Collect(collecting) => self.collects(collecting),
                Expect::ReplyParse(_) => down.insert().extend_from_slice(reply::PARSE_COMPLETE),
                Expect::ReplyRows(rows) => down.insert().extend_from_slice(&rows),
                _ => down.insert().extend_from_slice(reply::CLOSE_COMPLETE),
            }
        }
    }

    fn take_answer(&mut self, header: Header, whole: bool) -> Result<(), End> {
        let len = header.len;
        match header.kind {
            b'Z' => self.ready(len),
            b'E' => self.error(len, whole),
            b'S' => self.parameter(len),
            b'N' => {
                let ours = self.flow.expected.is_ours() && !self.is_explaining();
                if ours || self.client.course.is_some() && self.is_farewell_to_be_kept(len, whole) {
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
            b'C' if whole => self.completed(len),
            kind => {
                self.watch_end(kind, len);
                if kind == b's' {
                    self.count_suspended();
                    self.give_up(Why::Broken);
                }
                if matches!(kind, b't' | b'T' | b'n')
                    && let Some(Expect::OurDescribe(_)) = self.flow.expected.front()
                {
                    self.described(kind, len);
                }
                self.answered(kind, len)
            }
        }
    }

    /// Takes an answer about which nothing else is to be known, as what was expected has it.
    fn answered(&mut self, kind: u8, len: usize) -> Result<(), End> {
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

    /// A statement is complete.
    fn completed(&mut self, len: usize) -> Result<(), End> {
        self.watch_end(b'C', len);
        let ordinary = matches!(self.flow.expected.front(), Some(Expect::Query(_) | Expect::Execute(..)));
        if !ordinary && self.flow.expected.is_ours() {
            if matches!(self.flow.expected.front(), Some(Expect::OurBegin)) {
                self.opened();
            }
            return self.answered(b'C', len);
        }
        let tag = command_tag(self.frame(len));
        let (rows, takes_away) = (tag_rows(tag), matches!(tag, [b'D' | b'R', ..]));
        self.count_plan(rows);
        // It may be that of a commit, and be read before what follows.
        self.client.fence_written(false);
        if takes_away {
            self.command_complete(len);
        }
        if ordinary {
            return self.answered(b'C', len).map(|()| self.end_collecting(Form::Extended));
        }
        if let Some(running) = self.flow.expected.take_explained() {
            self.explained_answer(*running, len);
            return Ok(());
        }
        if let Some(Expect::Listen(listen)) = self.flow.expected.front() {
            let listen = Listen::clone(listen);
            self.flow.expected.answer(b'C');
            self.listened(listen, len);
            return Ok(());
        }
        self.answered(b'C', len)
    }

    pub(super) fn frame(&self, len: usize) -> &[u8] {
        let window = self.flow.down.window();
        &window[..len.min(window.len())]
    }

    /// The server does not keep to the protocol: nothing that it says can be believed any more.
    fn violation(&mut self, kind: u8) -> End {
        self.client.shared.totals.backend_violations.add(1);
        // Its connection is in an unknown state.
        self.client.lease = None;
        self.client.entry.unlink();
        let shown = char::from(kind).escape_default();
        Error::backend(
            SqlState::PROTOCOL_VIOLATION,
            format!("backend sent a message of type \"{shown}\" that nothing had asked for"),
        )
        .into()
    }

    fn ready(&mut self, len: usize) -> Result<(), End> {
        let status = TxStatus::of(self.frame(len));
        if matches!(self.flow.expected.front(), Some(Expect::OurQuery(_))) {
            return self.our_ready(status, len);
        }
        if status == Some(TxStatus::Idle) && self.client.hears_itself() && !self.flow.expected.is_ours() {
            self.echoed = true;
            return Ok(());
        }
        let Some(status) = status else { return Err(self.violation(b'Z')) };
        match self.flow.expected.ready() {
            Some(Ready::Query(plan)) if std::mem::take(&mut self.flow.hand.completed) => {
                self.flow.hand.done = plan;
            }
            Some(Ready::Query(_) | Ready::Sync) => {}
            Some(Ready::Ours) | None => return Err(self.violation(b'Z')),
        }
        self.client.status = status;
        self.client.commits = false;
        // What else has been sent may write as well.
        let over = status == TxStatus::Idle && self.flow.expected.is_empty();
        self.client.fence_written(over);
        if let Some(server) = self.client.lease.as_mut().filter(|_| over) {
            server.writes_end();
        }
        if self.echoed {
            self.echoed = false;
            self.deliver_before_ready()?;
        }
        self.flow.down.pass_frame(len);
        self.end_collecting(Form::Simple);
        self.settle_listening();
        if over {
            self.client.names.close_portals();
        }
        let now = Instant::now();
        self.watch_ready(now);
        if let (Some(took), Some(server)) = (self.account(now), &self.client.lease) {
            server.link.took(took);
        }
        self.client.rests(over, now);
        if status != TxStatus::Idle && self.client.course.is_some() {
            self.client.rest_reading(now);
        }
        Ok(())
    }

    /// A statement of ours is over.
    fn our_ready(&mut self, status: Option<TxStatus>, len: usize) -> Result<(), End> {
        let explaining = self.flow.hand.running.is_some() && self.is_explaining();
        let about_state = self.flow.hand.asked.is_some() && self.is_inquiry();
        let failing = matches!(self.flow.expected.front(), Some(Expect::OurQuery(Ours::Failure)));
        match (status, self.flow.expected.ready()) {
            // A statement of ours that fails in the client's transaction fails that.
            (Some(status), Some(Ready::Ours))
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
    pub(super) fn count_plan(&mut self, rows: u64) {
        self.tenant_ended(rows);
        let Some(plan) = self.flow.expected.plan() else { return };
        let uses = plan.uses();
        uses.answered(self.client.pool.target.mark());
        uses.rows.add(rows);
        if let Some(gap) = plan.gap {
            self.client.shared.planner.count_gap(gap);
        }
        match self.flow.expected.take_plan() {
            Some(plan) => self.flow.hand.done = Some(plan),
            // There may be more of a simple Query: it has its plan until it is over.
            None => self.flow.hand.completed = true,
        }
    }

    /// A portal has given as many rows as were asked for: its tag will only speak of the last ones.
    fn count_suspended(&mut self) {
        let Some(Expect::Execute(Some(plan), most)) = self.flow.expected.front() else { return };
        let rows = u64::from(*most);
        plan.uses().rows.add(rows);
        self.tenant_paused(rows);
    }

    /// Statements that take away what the session had.
    fn command_complete(&mut self, len: usize) {
        let window = self.flow.down.window();
        let tag = command_tag(&window[..len.min(window.len())]);
        if tag == b"ROLLBACK" {
            return self.note_rollback();
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
        self.client.shared.totals.server_errors.count(code);
        self.watch_error(code);
        if matches!(code, SqlState::UNKNOWN_STATEMENT | SqlState::IN_FAILED_TRANSACTION)
            && let Some(reason) = self.flow.hand.reason.take_if(|_| whole)
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
        let ours = if whole { self.in_our_words(code, &text) } else { None };
        if matches!(self.flow.expected.front(), Some(Expect::OurBegin)) && !fatal {
            self.tell_error(len, whole, ours.as_ref());
            return self.opening_failed();
        }
        if ours.is_some() {
            self.tell_error(len, whole, ours.as_ref());
            self.note_rollback();
            self.undo_skipped();
            return Ok(());
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
        self.tell_error(len, whole, doomed.as_deref());
        self.note_rollback();
        if fatal {
            // The server closes the connection next; the client has been told why.
            self.server_said_goodbye = true;
            return Ok(());
        }
        self.undo_skipped();
        Ok(())
    }

    /// Gives the client this error in place of the server's, or that in the client's own words.
    fn tell_error(&mut self, len: usize, whole: bool, instead: Option<&Error>) {
        if let Some(error) = instead {
            self.flow.down.omit_frame(len);
            reply::error(self.flow.down.insert(), error);
        } else if let Some(reworded) = whole.then(|| self.in_clients_words(len)).flatten() {
            self.flow.down.omit_frame(len);
            self.flow.down.insert().extend_from_slice(&reworded);
        } else {
            self.flow.down.pass_frame(len);
        }
    }

    fn count_error(&mut self) {
        self.give_up(Why::Told);
        self.client.pool.traffic.errors.add(1);
        self.tenant_failed();
        if let Some(plan) = self.flow.expected.plan() {
            let uses = plan.uses();
            uses.answered(self.client.pool.target.mark());
            uses.errors.add(1);
        }
    }

    /// A statement of ours failed.
    fn our_error(&mut self, len: usize, whole: bool) -> Result<(), End> {
        match self.flow.expected.front() {
            Some(Expect::OurQuery(Ours::Inquiry)) => self.unsettled(),
            Some(Expect::OurQuery(Ours::Prepare(name))) => {
                // If the client uses it, this is what it would have been told.
                let (id, name) = (self.client.entry.id, name.clone());
                self.flow.hand.reason = whole.then(|| self.frame(len).to_vec());
                self.server()?.own_of(id).remove(&name);
            }
            _ => {}
        }
        self.flow.down.omit_frame(len);
        Ok(())
    }

    fn settings_refused(&mut self, code: SqlState, text: &str) -> End {
        self.client.lease = None;
        self.client.entry.unlink();
        Error::backend(code, "could not carry the session's settings to another server connection")
            .detail(text.to_string())
            .into()
    }
}
