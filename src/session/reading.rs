//! A replica in use: for a batch of reads, or for a transaction that reads.

use std::sync::Arc;

use super::batch::Batch;
use super::batched::Batched;
use super::kept::Kept;
use super::opening::{Begun, DEFAULT_ISOLATION, Unopened};
use super::run::{Client, End};
use crate::cluster::{Member, Need, Use};
use crate::core::clock::Instant;
use crate::core::error::SqlState;
use crate::plan::Tie;
use crate::pool::pool::Pool;
use crate::pool::reset::Debris;
use crate::pool::term;
use crate::route::{Failure, Outcome};
use crate::sql::transaction::Isolation;
use crate::wire::message::TxStatus;

/// See the module.
#[derive(Debug)]
pub(super) struct Reading {
    /// While something is under way there.
    using: Option<Use>,
    pub(super) member: Arc<Member>,
    /// Requests that it is for and that have not been taken yet; [`ALL`] where it is for all that come.
    requests: usize,
    /// Those requests, as far as they may be sent again.
    pub(super) kept: Kept,
    /// What it did wrong.
    failure: Option<Failure>,
    /// The transaction that it is used for, if that is more than the batch.
    pub(super) transaction: Option<Transaction>,
}

/// See [`Reading::requests`].
const ALL: usize = usize::MAX;

/// A transaction on a replica.
#[derive(Debug)]
pub(super) struct Transaction {
    pub begun: Begun,
    /// It began before the batch at hand.
    pub is_older: bool,
    /// It may go on elsewhere: each of its statements sees what was committed before it, and nothing that it has done
    /// is left on this server or has told when it began.
    pub is_movable: bool,
    /// READ ONLY
    pub only_reads: bool,
    /// Whether its isolation level is known.
    pub is_known: bool,
}

impl Transaction {
    /// Finds out what its isolation level is, or has that found out for the next one, from the replica that it is on.
    fn learn(&mut self, pool: &Pool, tie: Tie) {
        if self.is_known {
            return;
        }
        match pool.default(DEFAULT_ISOLATION) {
            None => pool.want_defaults(),
            Some(level) => {
                let by_statement = Isolation::of_setting(level) == Some(Isolation::ReadCommitted);
                (self.is_known, self.is_movable) = (true, by_statement && tie == Tie::Free);
            }
        }
    }
}

impl Reading {
    /// Whether it is not for the next request.
    #[inline]
    fn is_beyond(&self) -> bool {
        self.requests == 0
    }

    /// It is used for this batch, too.
    fn goes_on(&mut self, batched: &Batched, now: Instant) {
        self.requests = batched.requests;
        self.using = Some(self.member.begin(now));
    }
}

impl Client {
    /// Whether the replica in use is not for the next request.
    #[inline]
    pub fn is_beyond_reading(&self) -> bool {
        self.course.as_ref().is_some_and(|c| c.reading.as_ref().is_some_and(Reading::is_beyond))
    }

    /// Whether the server in use is for as many requests as come next.
    #[inline]
    pub fn reads_on(&self, requests: usize) -> bool {
        let reading = self.course.as_ref().and_then(|course| course.reading.as_ref());
        reading.is_none_or(|reading| reading.requests >= requests)
    }

    /// A request has been taken.
    #[inline]
    pub fn took_request(&mut self, len: usize) {
        let Some(course) = &mut self.course else { return };
        if let Some(reading) = &mut course.reading {
            if reading.requests != ALL {
                reading.requests = reading.requests.saturating_sub(1);
            }
            reading.kept.take(len);
        } else {
            course.at_home.take(len);
        }
    }

    /// The server in use has answered with this error.
    pub fn note_failure(&mut self, code: SqlState) {
        if let Some(server) = self.lease.as_ref().filter(|_| Failure::of(code).is_some()) {
            server.link.failed();
        }
        if let Some(reading) = self.course.as_mut().and_then(|c| c.reading.as_mut()) {
            reading.failure = reading.failure.or(Failure::of(code));
        }
    }

    /// A batch has been answered within a transaction: what the client does until the next one is not the server's
    /// doing.
    #[inline]
    pub fn rest_reading(&mut self, now: Instant) {
        let reading = self.course.as_mut().and_then(|c| c.reading.as_mut());
        if let Some(using) = reading.and_then(|r| r.using.take()) {
            using.answered(now);
        }
    }

    /// The primary has gone like this.
    pub fn note_loss(&self, outcome: Option<Outcome>) {
        let (Some(course), Some(outcome)) = (&self.course, outcome) else { return };
        let now = Instant::now();
        if let Some((primary, _)) = course.cluster.leader()
            && Arc::ptr_eq(&primary.target, &course.home.target)
        {
            primary.begin(now).end(outcome, now);
        }
    }

    /// The replica in use is done with, and went like this. False where none was in use.
    pub fn come_home(&mut self, outcome: Option<Outcome>) -> bool {
        self.come_home_at(outcome, Instant::now)
    }

    /// The same at a time that may be known.
    pub fn come_home_at(&mut self, outcome: Option<Outcome>, now: impl Fn() -> Instant) -> bool {
        let Some(course) = &mut self.course else { return false };
        let Some(mut reading) = course.reading.take() else { return false };
        course.spare(std::mem::take(&mut reading.kept));
        course.stays_home = outcome.is_some();
        self.pool = course.home.clone();
        let outcome = outcome.or(reading.failure.map(Outcome::Failed));
        match (reading.using, outcome) {
            (Some(using), Some(outcome)) => using.end(outcome, now()),
            (Some(using), None) => using.answered(now()),
            (None, Some(outcome)) => reading.member.begin(now()).end(outcome, now()),
            (None, None) => {}
        }
        true
    }
}

impl Batch<'_> {
    /// Takes the best of the replicas that have seen enough.
    pub(super) fn read_from_replica(
        &mut self,
        need: &Need,
        batched: &Batched,
        mut transaction: Option<Transaction>,
    ) -> Result<(), Option<Transaction>> {
        let now = self.begun.unwrap_or_else(Instant::now);
        let Some(course) = &mut self.client.course else { return Err(transaction) };
        let Some(member) = course.cluster.choose_reader(need, now) else { return Err(transaction) };
        let Some(pool) = course.pool_on(&self.client.shared, &member) else { return Err(transaction) };
        if let Some(transaction) = &mut transaction {
            transaction.learn(&pool, batched.tie);
        }
        let mut kept = std::mem::take(&mut course.spare);
        kept.keep(batched, &self.client.names, &mut self.flow);
        course.reading = Some(Reading {
            using: Some(member.begin(now)),
            member,
            requests: batched.requests,
            kept,
            failure: None,
            transaction,
        });
        (self.client.pool, self.client.wish.term) = (pool, term::NONE);
        Ok(())
    }

    /// Whether the request at hand must wait before it can be said which server it is for.
    pub(super) fn waits_on_cluster(&mut self) -> Result<bool, End> {
        // What the session has just set may say where it reads.
        let asking = self.flow.hand.asked.is_some() && self.client.status == TxStatus::Idle;
        Ok(asking || self.client.is_beyond_reading() && !self.reads_on()? || self.waits_for_opening())
    }

    /// The replica in use is not for the request at hand: whether it can be taken now. In a transaction the replica is
    /// used for it as well, or else the transaction is begun again on the primary.
    pub(super) fn reads_on(&mut self) -> Result<bool, End> {
        if !self.flow.expected.is_answered() || self.client.lease.is_none() {
            return Ok(false);
        }
        if self.client.status == TxStatus::Idle {
            self.release();
            if self.client.lease.is_some() && !self.client.pins.is_empty() {
                // What keeps the session there keeps it from everything else.
                self.stay();
                if let Some(reading) = self.client.course.as_mut().and_then(|c| c.reading.as_mut()) {
                    reading.transaction = None;
                }
            }
            return Ok(!self.client.is_beyond_reading());
        }
        self.begin();
        if !self.goes_on_reading() {
            self.move_home();
        }
        Ok(true)
    }

    /// It is for all that comes, until the session comes home.
    fn stay(&mut self) {
        if let Some(reading) = self.client.course.as_mut().and_then(|c| c.reading.as_mut()) {
            (reading.requests, reading.kept, reading.using) = (ALL, Kept::default(), None);
            if let Some(transaction) = &mut reading.transaction {
                transaction.is_movable = false;
            }
        }
    }

    /// Whether the transaction goes on where it is. Where it must, the server says what it makes of that.
    fn goes_on_reading(&mut self) -> bool {
        let failed = self.client.status == TxStatus::Failed;
        let movable = |t: &Transaction| t.is_movable && !failed;
        let reading = self.client.course.as_ref().and_then(|c| c.reading.as_ref());
        if !reading.and_then(|r| r.transaction.as_ref()).is_some_and(movable) {
            self.stay();
            return true;
        }
        let Some(batched) = self.batched() else { return false };
        let now = self.begun.unwrap_or_else(Instant::now);
        let Some(course) = &mut self.client.course else { return true };
        course.count(&batched.plans);
        let ask = match batched.tie {
            _ if batched.begins.is_some() => None,
            Tie::Free => course.ask(&batched.plans),
            Tie::Bound => course.ask_for_good(&batched.plans, true),
            Tie::Primary => None,
        };
        let Some(reading) = &mut course.reading else { return true };
        let Some(transaction) = &mut reading.transaction else { return true };
        transaction.is_older = true;
        match (batched.tie, ask.is_some_and(|ask| reading.member.has_seen(&ask.need))) {
            (Tie::Free, true) => {
                reading.goes_on(&batched, now);
                reading.kept.keep(&batched, &self.client.names, &mut self.flow);
                true
            }
            (Tie::Bound, true) if transaction.only_reads => {
                self.stay();
                true
            }
            _ => false,
        }
    }

    /// The connection to the replica is lost between two batches of a transaction that may go on elsewhere. False where
    /// it is otherwise.
    pub(super) fn lost_at_rest(&mut self) -> bool {
        let reading = self.client.course.as_mut().and_then(|c| c.reading.as_mut());
        let transaction = reading.and_then(|r| r.transaction.as_mut());
        let movable = transaction.is_some_and(|t| {
            t.is_older = true;
            t.is_movable
        });
        let at_rest = self.client.status == TxStatus::Open
            && self.flow.expected.is_empty()
            && self.flow.up.pending() == 0
            && self.flow.up.streaming() == 0
            && self.flow.down.streaming() == 0;
        if !movable || !at_rest {
            return false;
        }
        self.client.lease = None;
        self.client.entry.unlink();
        // Its farewell.
        self.flow.down.take_unread();
        self.begin_again();
        self.client.come_home(Some(Outcome::Failed(Failure::Lost)));
        true
    }

    /// Leaves the replica; the transaction is begun again on the primary.
    fn move_home(&mut self) {
        let Some(server) = self.client.lease.take() else { return };
        self.client.entry.unlink();
        self.client.abandon(server, Debris::default());
        self.flow.expected.clear();
        self.begin_again();
        self.client.come_home(None);
        if let Some(course) = &mut self.client.course {
            course.stays_home = true;
        }
    }

    /// No server knows of the transaction any more, if it began before the batch at hand.
    pub(super) fn begin_again(&mut self) {
        let Some(course) = &mut self.client.course else { return };
        let transaction = course.reading.as_mut().and_then(|r| r.transaction.take());
        course.opening = None;
        course.unopened = transaction.filter(|t| t.is_older).map(|t| Unopened::new(t.begun));
        self.client.status = TxStatus::Idle;
    }
}
