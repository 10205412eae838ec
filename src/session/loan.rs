//! Server connections on loan to a batch: got, waited for, given back, handed over when the session ends.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use super::aim::Aim;
use super::batch::{Batch, Flow};
use super::entry::Doing;
use super::run::End;
use crate::core::clock::Instant;
use crate::core::error::{Error, Severity, SqlState};
use crate::pool::pool::canceled;
use crate::pool::reset::{self, Debris};
use crate::pool::server::Server;
use crate::pool::wish::Wish;
use crate::route::{Failure, Outcome};
use crate::wire::message::TxStatus;
use crate::wire::{frame, reply};

/// What keeps a server connection from being had at once.
pub(super) struct Lacking {
    /// Where to.
    aim: Aim,
    /// One that has to be looked at.
    server: Option<Box<Server>>,
}

impl Batch<'_> {
    /// Gets a server connection that is at hand, and sends ahead what the session needs on it.
    pub(super) fn lease_at_hand(&mut self) -> Result<(), Lacking> {
        let now = self.begun.unwrap_or_else(Instant::now);
        let aim = if self.client.course.is_some() { self.aim() } else { Aim::Here };
        let lacking = |aim, server| Lacking { aim, server };
        if !matches!(aim, Aim::Here) || self.client.course.as_ref().is_some_and(|c| c.wants_fresh) {
            return Err(lacking(aim, None));
        }
        let Some(server) = self.client.pool.try_lease(&self.client.wish, now) else {
            return Err(lacking(aim, None));
        };
        if self.client.pool.bounds.is_stale(server.returned, now) || self.particular(&server).is_some() {
            return Err(lacking(aim, Some(server)));
        }
        self.adopt(server, now).map_err(|server| lacking(aim, Some(server)))
    }

    /// Gets a server connection that has to be waited for, or looked at before.
    pub(super) async fn lease(&mut self, lacking: Lacking) -> Result<(), End> {
        let mut now = self.begun.unwrap_or_else(Instant::now);
        let Lacking { mut aim, server: mut found } = lacking;
        let mut server = loop {
            match self.take_aim(aim).await {
                Err(End::Refused(e)) if e.severity == Severity::Error => return self.fail_waiting(&e),
                aimed => aimed?,
            }
            let wish = self.wish();
            let at_hand = found.take().or_else(|| self.client.pool.try_lease(&wish, now));
            if let Some(server) = at_hand {
                break server;
            }
            match self.wait_here(wish, now).await {
                Ok(Some(server)) => {
                    // What was waited for is no time of the server's.
                    now = Instant::now();
                    break server;
                }
                // Another one, then.
                Ok(None) => drop(self.client.come_home(Some(Outcome::Failed(Failure::Connect)))),
                Err(End::Refused(e)) if e.severity == Severity::Error => {
                    if !self.client.come_home(Some(Outcome::Failed(Failure::Connect))) {
                        return self.fail_waiting(&e);
                    }
                }
                Err(end) => return Err(end),
            }
            aim = self.aim();
        };
        while self.client.pool.bounds.is_stale(server.returned, now) {
            server = match reset::run(&mut server, "").await {
                Some(_) => break,
                None => self.wait_for_server(self.client.wish.clone(), Instant::now()).await?,
            };
        }
        if let Some(wish) = self.particular(&server) {
            drop(server);
            server = self.wait_for_server(wish, Instant::now()).await?;
        }
        if self.adopt(server, now).is_ok() {
            return Ok(());
        }
        let exact = Wish { exact: true, ..self.client.wish.clone() };
        let own = self.wait_for_server(exact, Instant::now()).await?;
        self.adopt(own, now).map_err(|_| Self::misfit())
    }

    /// What is wanted of a connection. What is asked again since a connection was lost is asked over one that has been
    /// opened since: when a server goes, all of its connections do, one after the other.
    fn wish(&self) -> Wish {
        let wants_fresh = self.client.course.as_ref().is_some_and(|course| course.wants_fresh);
        Wish { fresh: wants_fresh || self.client.wish.fresh, ..self.client.wish.clone() }
    }

    /// Waits for a server of the cluster, for the client to leave, or for its cancel request.
    pub(super) async fn wait_for<T>(&mut self, what: impl Future<Output = T>) -> Result<T, End> {
        let mut what = pin!(what);
        self.client.entry.set_doing(Doing::Waiting);
        self.client.entry.set_awaiting(true);
        let entry = self.client.entry.clone();
        let got = {
            let mut left = pin!(self.left());
            poll_fn(|cx| match what.as_mut().poll(cx) {
                Poll::Ready(got) => Poll::Ready(Ok(got)),
                Poll::Pending if entry.poll_called_off(cx) => Poll::Ready(Err(End::from(canceled()))),
                Poll::Pending => left.as_mut().poll(cx).map(Err),
            })
            .await
        };
        self.client.entry.set_doing(Doing::Idle);
        if self.client.entry.set_awaiting(false) { Err(End::from(canceled())) } else { got }
    }

    async fn wait_for_server(&mut self, wish: Wish, now: Instant) -> Result<Box<Server>, End> {
        let lost = || End::from(Error::backend(SqlState::CONNECTION_FAILURE, "the server in use is lost"));
        self.wait_here(wish, now).await?.ok_or_else(lost)
    }

    /// Waits for a connection of the pool. `None` where another server is the one to wait for now.
    async fn wait_here(&mut self, wish: Wish, now: Instant) -> Result<Option<Box<Server>>, End> {
        let client = &self.client;
        client.entry.set_doing(Doing::Waiting);
        self.flow.up.park();
        self.flow.down.park();
        let mut reply = client.pool.queue(wish, now);
        let mut lost = client.chosen_is_lost();
        let got = {
            let mut left = pin!(self.left());
            poll_fn(|cx| {
                if let Poll::Ready(got) = Pin::new(&mut reply).poll(cx) {
                    return Poll::Ready(Ok(Some(got)));
                }
                if lost.as_mut().is_some_and(|lost| lost.as_mut().poll(cx).is_ready()) {
                    return Poll::Ready(Ok(None));
                }
                left.as_mut().poll(cx).map(Err)
            })
            .await
        };
        let client = &self.client;
        if !matches!(got, Ok(Some(_))) {
            client.pool.withdraw(client.entry.id);
            // What has been lent meanwhile.
            if let Ok(Ok(server)) = reply.try_recv() {
                client.pool.give_back(server, Instant::now());
            }
        }
        client.entry.set_doing(Doing::Idle);
        let waited = now.elapsed();
        client.pool.traffic.waits.add(1);
        client.pool.traffic.wait_time_us.add(u64::try_from(waited.as_micros()).unwrap_or(u64::MAX));
        client.pool.traffic.wait_latency.record(waited);
        if let Some(tenant) = &client.wish.tenant {
            tenant.did.wait.record_us(now.elapsed().as_micros() as u64);
        }
        match got? {
            None => Ok(None),
            Some(Ok(Ok(server))) => Ok(Some(server)),
            Some(Ok(Err(e))) => Err(End::from(e)),
            Some(Err(_)) => Err(End::from(Error::internal("pool closed"))),
        }
    }

    /// The statement that waited for a server fails, and the session goes on: as far as a server would skip.
    pub(super) fn fail_waiting(&mut self, e: &Error) -> Result<(), End> {
        let told = self.client.fail_unopened();
        self.client.entry.set_answered(Instant::now(), told == TxStatus::Idle);
        let late = Self::late();
        let e = if self.client.entry.take_timed_out() { &late } else { e };
        let Flow { up, down, expected, hand } = &mut *self.flow;
        self.client.shared.totals.own_errors.count(e.code);
        reply::error(down.insert(), e);
        (self.begun, hand.found, hand.turn, hand.passing) = (None, None, None, 0);
        let refused = frame::client(up.window(), self.client.max_message())?;
        let is_query = refused.is_some_and(|header| matches!(header.kind, b'Q' | b'F'));
        match refused.filter(|_| is_query) {
            Some(header) => {
                up.omit_frame(header.len);
                reply::ready(down.insert(), told);
            }
            None => expected.skip(true),
        }
        self.collect_refused(is_query);
        Ok(())
    }

    /// What a statement is told that took too long.
    pub fn late() -> Error {
        Error::statement(SqlState::QUERY_CANCELED, "canceling statement due to query timeout")
            .detail("The bound is the configuration's query_timeout.")
    }

    /// While waiting: returns when the client leaves, or is to. What it sends is read as far as there is room.
    async fn left(&mut self) -> End {
        if let Some(end) = poll_fn(|cx| self.poll_waiting(cx)).await {
            return end;
        }
        let entry = self.client.entry.clone();
        let mut hung_up = pin!(self.client.stream.hung_up());
        poll_fn(|cx| {
            let verdict = entry.poll_ending(cx);
            if !verdict.is_patient() {
                return Poll::Ready(End::from(verdict));
            }
            hung_up.as_mut().poll(cx).map(|()| End::ClientLost)
        })
        .await
    }

    /// Reads while there is room; `None` where there is none any more.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        let verdict = self.client.entry.poll_ending(cx);
        if !verdict.is_patient() {
            return Poll::Ready(Some(End::from(verdict)));
        }
        while self.flow.up.has_room() {
            self.client.armed = false;
            if self.flow.up.is_parked() && self.client.stream.poll_readable(cx).is_pending() {
                return Poll::Pending;
            }
            match self.flow.up.poll_read(cx, &mut self.client.stream) {
                Poll::Ready(Ok(n)) if n > 0 => self.received += n as u64,
                Poll::Ready(_) => return Poll::Ready(Some(End::ClientLost)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(None)
    }

    /// Ends the loan if the transaction is over, nothing is under way, and nothing pins it (invariant 3).
    pub(super) fn release(&mut self) {
        let client = &mut *self.client;
        let Flow { up, down, expected, .. } = &*self.flow;
        let done = client.status == TxStatus::Idle
            && expected.is_empty()
            && up.pending() == 0
            && up.streaming() == 0
            && down.streaming() == 0
            && down.window().is_empty();
        if !done || client.doubts.is_some() && self.inquire() {
            return;
        }
        let client = &mut *self.client;
        if client.blurred && client.doubts.is_none() {
            (client.blurred, client.reading) = (false, None);
        }
        client.savepoints = false;
        if !client.pins.is_empty() {
            return;
        }
        let Some(mut server) = client.lease.take() else { return };
        server.handle = client.entry.unlink();
        // What waits for an answer of its has none.
        self.flow.hand.collecting = None;
        server.held_for = if client.wish.sticky { client.entry.id } else { 0 };
        // The last answer came then.
        let now = self.begun.take().unwrap_or_else(Instant::now);
        if server.link.cancelling() || server.link.poisoned() {
            reset::fence(server);
        } else {
            client.pool.give_back(server, now);
        }
        if let Some(course) = &mut client.course {
            course.settled();
            client.come_home_at(None, || now);
        }
    }

    /// The session ends in the middle of something: whatever the server connection needs to be of use again is
    /// handed over with it; where it is in the middle of a message of ours, nothing can help it.
    pub(super) fn hand_over(&mut self, end: &End) {
        let Some(server) = self.client.lease.take() else { return };
        self.client.entry.unlink();
        let up = &self.flow.up;
        if self.server_said_goodbye || matches!(end, End::ServerLost(_)) {
            return;
        }
        if up.pending() > 0 || up.streaming() > 0 {
            // Its statement would otherwise run on until it has something to tell us.
            tokio::spawn(crate::pool::cancel::deliver(server.link.begin_cancel()));
            return;
        }
        let debris = self.debris();
        self.client.abandon(server, debris);
    }

    /// What the server connection owes.
    pub(super) fn debris(&mut self) -> Debris {
        let opening = self.client.course.as_ref().is_some_and(|c| c.opening.is_some());
        let Flow { down, expected, hand, .. } = &mut *self.flow;
        // What is being begun is ended like any other request.
        let opening = opening && expected.ready_owed() == 0;
        Debris {
            unread: down.take_unread(),
            skip: down.streaming(),
            owed: expected.ready_owed(),
            sync: expected.needs_sync() || opening,
            copy_in: expected.is_copying_in(),
            // What it holds is being asked, or the answer would tell, and nobody waits for it.
            state: hand.asked.is_some() || expected.leaves_doubts(),
            open: false,
        }
    }
}
