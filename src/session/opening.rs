//! Transactions that no server knows of: BEGIN is answered here, and sent with the first statement, which tells where to.

use super::batch::Batch;
use super::expect::{Expect, Ours};
use super::run::{Client, End};
use crate::core::clock::Instant;
use crate::core::error::Error;
use crate::core::limits::FRAME_HEADER;
use crate::sql::lex::{Kind, Lexer};
use crate::sql::transaction::{Control, Isolation, Modes};
use crate::wire::message::TxStatus;
use crate::wire::reply;

/// A transaction as the client has begun it.
#[derive(Clone, Debug)]
pub(super) struct Begun {
    /// The statement that begins it; empty for the one that says its modes.
    text: Box<[u8]>,
    /// What has been said of it.
    pub modes: Modes,
}

impl Begun {
    /// One that these modes say all about.
    pub fn of(modes: Modes) -> Begun {
        Begun { text: Box::default(), modes }
    }

    fn sql(&self) -> Vec<u8> {
        if self.text.is_empty() { self.modes.begin().into_bytes() } else { self.text.to_vec() }
    }
}

/// One that no server knows of.
#[derive(Debug)]
pub(super) struct Unopened {
    pub begun: Begun,
    /// Its first statement has failed for want of a server.
    failed: bool,
}

impl Unopened {
    /// One that has not failed.
    pub fn new(begun: Begun) -> Unopened {
        Unopened { begun, failed: false }
    }

    /// Whether it has failed.
    pub fn has_failed(&self) -> bool {
        self.failed
    }
}

/// The setting that says how transactions are isolated that do not say it themselves.
pub(super) const DEFAULT_ISOLATION: &str = "default_transaction_isolation";

/// What makes a transaction fail: there is no such savepoint.
const FAIL: &str = "BEGIN; ROLLBACK TO SAVEPOINT __turnpike";

/// Whether a text may be one that is answered here. Most are told by their first letters.
#[inline]
fn may_be(text: &[u8], unopened: bool) -> bool {
    let lower = |i: usize| text.get(i).map(|b| b | 0x20);
    match lower(0) {
        Some(b'b') => true,
        Some(b's') => lower(1) == Some(b't') || unopened && lower(2) == Some(b't'),
        Some(b'a' | b'c' | b'e' | b'r') => unopened,
        _ => false,
    }
}

impl Client {
    /// The transaction's status, as the client was told.
    #[inline]
    pub fn told(&self) -> TxStatus {
        match self.course.as_ref().and_then(|c| c.unopened.as_ref()) {
            None => self.status,
            Some(unopened) if unopened.failed => TxStatus::Failed,
            Some(_) => TxStatus::Open,
        }
    }

    /// Whether the client is in no transaction, as far as it was told.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.told() == TxStatus::Idle
    }

    /// The statement that it waits for a server with has failed; returns the transaction's status.
    pub(super) fn fail_unopened(&mut self) -> TxStatus {
        if let Some(unopened) = self.course.as_mut().and_then(|c| c.unopened.as_mut()) {
            unopened.failed = true;
        }
        self.told()
    }

    /// What holds for a transaction of which this has been said. The isolation level is not known where neither the
    /// session nor its server has said what it is.
    pub(super) fn all_modes(&self, said: Modes) -> Modes {
        let own = |name: &str| self.own(name);
        let level = || {
            let level = own("default_transaction_isolation");
            let level =
                level.or_else(|| self.pool.default("default_transaction_isolation").map(String::from));
            if level.is_none() {
                self.pool.want_defaults();
            }
            level.as_deref().and_then(Isolation::of_setting)
        };
        Modes {
            isolation: said.isolation.or_else(level),
            read_only: said.read_only.or_else(|| own("default_transaction_read_only").map(|v| v == "on")),
            deferrable: said.deferrable,
        }
    }
}

/// The tag of what begins a transaction: each of its two forms has its own.
fn begun_tag(text: &[u8]) -> &'static str {
    let word = Lexer::new(text, true).find(|token| token.kind == Kind::Word);
    let starts =
        word.and_then(|w| text.get(w.start..w.end)).is_some_and(|w| w.eq_ignore_ascii_case(b"start"));
    if starts { "START TRANSACTION" } else { Control::Begin(Modes::default()).tag() }
}

impl Batch<'_> {
    /// Answers a simple Query that does nothing but begin a transaction, or is about one that no server knows of. False
    /// where it is another, or takes a server.
    pub(super) fn hold_back(&mut self, len: usize) -> Result<bool, End> {
        let unopened = self.client.told() != TxStatus::Idle;
        if !may_be(self.body(len), unopened) || !self.flow.expected.is_empty() {
            return Ok(false);
        }
        let Self { client, flow, .. } = self;
        let body = &flow.up.window()[FRAME_HEADER..len];
        let text = body.strip_suffix(b"\0").unwrap_or(body);
        let plan = client.plan(text);
        let Some(control) = plan.control else { return Ok(false) };
        client.settle_ways();
        let free = client.what_binds().is_none();
        let Some(course) = &mut client.course else { return Ok(false) };
        let splits = free && course.may_leave(&plan);
        let tag = match (control, &mut course.unopened) {
            (Control::Begin(modes), none @ None) if splits => {
                *none = Some(Unopened::new(Begun { text: text.into(), modes }));
                begun_tag(text)
            }
            (Control::Set(modes), Some(unopened)) if !unopened.failed => {
                unopened.begun = Begun::of(unopened.begun.modes.and(modes));
                control.tag()
            }
            (Control::Commit | Control::Rollback, Some(unopened)) => {
                let tag = if unopened.failed { Control::Rollback } else { control }.tag();
                course.unopened = None;
                client.leaves_transaction();
                tag
            }
            _ => return Ok(false),
        };
        flow.up.omit_frame(len);
        client.names.unnamed = None;
        // What has come for it before its LISTEN is committed is not for it.
        self.mark_listening();
        let flow = &mut self.flow;
        reply::command_complete(flow.down.insert(), tag);
        if control.is_end() && tag == Control::Rollback.tag() {
            self.note_rollback();
        }
        self.answered_here(control);
        Ok(true)
    }

    /// Tells the client that it is ready, and counts.
    fn answered_here(&mut self, control: Control) {
        let (client, flow) = (&mut *self.client, &mut *self.flow);
        let (now, told) = (Instant::now(), client.told());
        reply::ready(flow.down.insert(), told);
        client.entry.set_requested(now);
        if matches!(control, Control::Begin(_)) {
            client.entry.set_running(now, true);
        }
        client.entry.set_answered(now, told == TxStatus::Idle);
        client.pool.traffic.work.own().queries.add(1);
        if control.is_end() {
            client.pool.traffic.work.own().xacts.add(1);
            self.settle_listening();
        }
    }

    /// Tells the server that the client has got of the transaction that it is in.
    pub(super) fn open(&mut self) {
        let Some(course) = &mut self.client.course else { return };
        let Some(Unopened { begun, failed }) = course.unopened.take() else { return };
        if let Some(server) = &mut self.client.lease {
            server.unnamed = None;
        }
        if failed {
            reply::query(self.flow.up.insert(), FAIL);
            self.flow.expected.push(Expect::OurQuery(Ours::Failure));
            return;
        }
        // Should it fail, the server ignores what follows up to a Sync, also a simple Query: nothing is done outside of
        // the transaction that was to be done in it.
        let sql = begun.sql();
        let out = self.flow.up.insert();
        reply::parse(out, b"", &[&sql[..], b"\0\0\0"].concat());
        out.extend_from_slice(reply::BIND_AND_EXECUTE);
        self.flow.expected.push(Expect::OurBegin);
        if let Some(caching) = &mut self.client.caching {
            caching.within.begins(begun.modes);
        }
        let Some(course) = &mut self.client.course else { return };
        course.opening = Some(begun);
    }

    /// The server knows of the transaction.
    pub(super) fn opened(&mut self) {
        self.client.status = TxStatus::Open;
        if let Some(course) = &mut self.client.course {
            course.opening = None;
        }
    }

    /// The server has refused to begin the transaction, for a cancel or a timeout that came that early: what was to run
    /// in it fails, and it has failed.
    pub(super) fn opening_failed(&mut self) -> Result<(), End> {
        if self.flow.up.streaming() > 0 {
            return Err(Error::internal("the transaction could not be begun").into());
        }
        let mut simple = false;
        let mut dropped = Vec::new();
        self.flow.expected.error(|entry| {
            simple |= matches!(entry, Expect::Query(_));
            dropped.push(entry);
        });
        self.undo(dropped);
        let ready = simple || matches!(self.flow.expected.front(), Some(Expect::Sync));
        self.flow.expected.clear();
        self.flow.expected.skip(!ready);
        self.flow.up.recall(0);
        // It ignores what it is sent until a Sync that is not to come.
        self.client.lease = None;
        self.client.entry.unlink();
        let Some(course) = &mut self.client.course else { return Ok(()) };
        course.unopened = course.opening.take().map(|begun| Unopened { begun, failed: true });
        self.client.come_home(None);
        (self.begun, self.checking, self.flow.hand.params) = (None, false, None);
        if ready {
            reply::ready(self.flow.down.insert(), TxStatus::Failed);
            self.client.entry.set_answered(Instant::now(), false);
        }
        Ok(())
    }

    /// Whether the request at hand has to wait until the server has begun the transaction: one batch at a time fails
    /// with it.
    #[inline]
    pub(super) fn waits_for_opening(&self) -> bool {
        self.flow.expected.ready_owed() > 0
            && self.client.course.as_ref().is_some_and(|c| c.opening.is_some())
    }
}
