//! A client's busy time: from the first byte of a request until nothing is under way in either direction. Moves
//! bytes, gets and releases the server connection; what the bytes mean is `requests` and `answers`.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use super::expect::Expected;
use super::hand::Hand;
use super::loan::Lacking;
use super::pump::Pump;
use super::run::{Client, End};
use super::short::Short;
use crate::core::clock::Instant;
use crate::core::error::{Error, SqlState};
use crate::pool::hub::Channel;
use crate::pool::server::{Server, Unnamed};

/// The buffers and bookkeeping of a busy client. Kept per worker when done, so that a batch allocates nothing, and apart
/// from it, so that it can be moved about.
#[derive(Debug)]
#[repr(align(64))]
pub struct Flow {
    /// Client to server.
    pub up: Pump,
    /// Server to client.
    pub down: Pump,
    /// What the server owes.
    pub expected: Expected,
    /// What is at hand.
    pub hand: Hand,
}

/// Flows kept per worker for the next busy client.
const SPARE_FLOWS: usize = 64;

/// Turns that a batch takes before others on the same worker get theirs.
const TURNS: u32 = 32;

/// Longest time that a client whose session is over may take to read what it was told before.
const PARTING: Duration = Duration::from_secs(30);

thread_local! {
    #[allow(clippy::vec_box, reason = "a flow changes hands as one pointer")]
    static SPARES: RefCell<Vec<Box<Flow>>> = const { RefCell::new(Vec::new()) };
}

/// See the module.
pub struct Batch<'a> {
    /// Whose.
    pub client: &'a mut Client,
    /// Its buffers.
    pub flow: Box<Flow>,
    /// When the first unanswered request came.
    pub begun: Option<Instant>,
    /// ReadyForQuery is held until the client has heard itself.
    pub echoed: bool,
    /// What was asked so far has been answered: the next request begins anew.
    pub answered: bool,
    /// A request waits for an answer.
    pub held: bool,
    /// The request at hand has been found to need a server, and there is one now.
    pub looked_at: bool,
    /// What a prepared statement returns is being looked at, for a request that waits.
    pub checking: bool,
    /// The request at hand has been made to wait for the catalog.
    pub waited: bool,
    /// The server said that it closes the connection, and the client has heard it.
    pub server_said_goodbye: bool,
    /// Bytes received from the client.
    pub received: u64,
}

/// What the requests so far call for.
pub enum Next {
    /// More bytes, or room.
    Io,
    /// A server connection.
    Lease,
    /// Its tenant's turn, on a connection that it has.
    Turn,
    /// That the hub listens to this channel.
    Subscribe(Channel),
    /// That the catalog has been read.
    Catalog,
    /// That a plan has been made.
    Plan,
    /// That somebody else has read what is asked for.
    Reading,
}

/// What a look at what has come leads to.
enum Step {
    /// Nothing more, before something else comes.
    Done,
    /// A request that waited for an answer need wait no longer.
    Again,
    /// Something has to be waited for.
    Wants(Needs),
}

/// What has to be waited for.
pub(super) enum Needs {
    Server(Lacking),
    Turn,
    Subscription(Channel),
    Catalog,
    Plan,
    Reading,
    ToHearItself,
}

impl<'a> Batch<'a> {
    /// A batch about which nothing is known yet.
    pub fn new(client: &'a mut Client) -> Batch<'a> {
        let flow = SPARES.with_borrow_mut(Vec::pop).unwrap_or_else(|| {
            let high_water = client.shared.config.load().general.high_water_mark;
            let pump = || Pump::new(high_water, client.shared.totals.clone());
            Box::new(Flow { up: pump(), down: pump(), expected: Expected::default(), hand: Hand::default() })
        });
        Batch {
            client,
            flow,
            begun: None,
            answered: false,
            held: false,
            looked_at: false,
            checking: false,
            waited: false,
            echoed: false,
            server_said_goodbye: false,
            received: 0,
        }
    }

    /// Runs until the client is at rest. An error is the end of the session; its server connection, if it is still
    /// of use, has then been handed over for cleaning.
    ///
    /// Its memory is part of every client's, at rest, too: whatever is rarer than moving bytes is boxed.
    pub async fn run(&mut self) -> Result<(), End> {
        self.client.renew_shadow();
        let end = self.turn().await;
        self.count_bytes();
        let Err(end) = end else { return Ok(()) };
        self.tenant_left();
        self.hand_over(&end);
        Err(Box::pin(self.part(end)).await)
    }

    /// What was said to the client before the end comes before the farewell; in the middle of a message there is
    /// none, since the client would read it as the rest of that message.
    async fn part(&mut self, end: End) -> End {
        if matches!(end, End::Terminated | End::ClientLost) {
            return end;
        }
        let Self { client, flow, .. } = self;
        let written = poll_fn(|cx| flow.down.poll_write(cx, &mut client.stream));
        match tokio::time::timeout(PARTING, written).await {
            Ok(Ok(())) if !flow.down.is_cut() => end,
            _ => End::ClientLost,
        }
    }

    async fn turn(&mut self) -> Result<(), End> {
        let mut looks = loop {
            match poll_fn(|cx| self.poll_short(cx)).await? {
                Short::Over => return Ok(()),
                Short::Ends { looks } => break looks,
                Short::Wants(needs) => Box::pin(self.obtain(needs)).await?,
            }
            // It may have been refused, or something of ours goes first.
            if !self.looked_at || !self.flow.expected.is_empty() {
                break true;
            }
        };
        for turn in 1u32.. {
            // Bulk traffic leaves the others on this worker their time.
            if turn.is_multiple_of(TURNS) {
                tokio::task::yield_now().await;
            }
            if !std::mem::take(&mut looks) {
                poll_fn(|cx| match self.poll_io(cx) {
                    // Woken for nothing.
                    Poll::Pending if self.at_rest() => Poll::Ready(Ok(())),
                    moved => moved,
                })
                .await?;
                // All is said, and what it was said over has been given back.
                if self.client.lease.is_none() && self.client.listening.is_none() && self.at_rest() {
                    return Ok(());
                }
            }
            loop {
                match self.step()? {
                    Step::Done => break,
                    Step::Again => {}
                    // Boxed, like all that is rarer than having what is needed at hand: a batch should not pay for it.
                    Step::Wants(needs) => Box::pin(self.obtain(needs)).await?,
                }
            }
            if self.flow.hand.long_text.is_some() {
                // Its words are looked at, which takes longer than moving it: others have a turn in between.
                tokio::task::yield_now().await;
            }
            if self.at_rest() {
                break;
            }
        }
        Ok(())
    }

    /// Looks at what has come from both sides.
    fn step(&mut self) -> Result<Step, End> {
        if !self.echoed {
            self.held = false;
            if self.client.lease.as_ref().is_some_and(|server| server.link.is_past()) && !self.lost_server() {
                return Err(End::ServerLost(false));
            }
            loop {
                match self.take_requests()? {
                    Next::Io => break,
                    Next::Turn => return Ok(Step::Wants(Needs::Turn)),
                    Next::Lease => match self.lease_at_hand() {
                        Ok(()) => self.looked_at = true,
                        Err(lacking) => return Ok(Step::Wants(Needs::Server(lacking))),
                    },
                    Next::Subscribe(channel) => return Ok(Step::Wants(Needs::Subscription(channel))),
                    Next::Catalog => return Ok(Step::Wants(Needs::Catalog)),
                    Next::Plan => return Ok(Step::Wants(Needs::Plan)),
                    Next::Reading => return Ok(Step::Wants(Needs::Reading)),
                }
            }
        }
        let before = self.flow.expected.len();
        self.take_answers()?;
        if self.echoed && self.client.hears_itself() {
            return Ok(Step::Wants(Needs::ToHearItself));
        }
        self.deliver()?;
        if self.server_said_goodbye {
            return Err(End::ServerLost(true));
        }
        self.release();
        let goes_on = self.held && self.flow.expected.len() < before;
        Ok(if goes_on { Step::Again } else { Step::Done })
    }

    /// Waits for what the next step needs.
    async fn obtain(&mut self, needs: Needs) -> Result<(), End> {
        match needs {
            Needs::Server(lacking) => {
                self.lease(lacking).await?;
                self.looked_at = self.client.lease.is_some();
            }
            Needs::Turn => self.looked_at = self.take_turn().await?,
            Needs::Reading => self.await_reading().await?,
            Needs::Subscription(channel) => self.subscribe(channel).await,
            Needs::Catalog => self.await_catalog().await,
            Needs::Plan => self.await_plan().await,
            Needs::ToHearItself => self.hear_oneself().await?,
        }
        Ok(())
    }

    fn at_rest(&self) -> bool {
        // In this order: while an answer is owed, one look tells.
        self.flow.expected.is_empty() && self.flow.up.is_empty() && self.flow.down.is_empty()
    }

    /// Moves what can be moved. `Ready` when there is something new to look at, or the batch may be over.
    fn poll_io(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        if self.client.entry.is_disturbed() {
            // What has woken it before may do so again.
            let verdict = self.client.entry.poll_ending(cx);
            if !verdict.is_patient() {
                return Poll::Ready(Err(End::from(verdict)));
            }
            if self.client.entry.take_lost() && self.rescue() {
                return Poll::Ready(Ok(()));
            }
        }
        let Flow { up, down, .. } = &mut *self.flow;
        let (mut moved, mut sent) = (false, false);
        if !down.is_flushed() {
            match down.poll_write(cx, &mut self.client.stream) {
                Poll::Ready(Ok(())) => moved = true,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(End::ClientLost)),
                Poll::Pending => {}
            }
        }
        if let Some(server) = &mut self.client.lease {
            if !up.is_flushed() && self.client.caching.as_mut().is_none_or(|caching| caching.poll_gates(cx)) {
                let full = up.is_full();
                sent = true;
                match up.poll_write(cx, &mut server.stream) {
                    Poll::Ready(Err(_)) => return Poll::Ready(self.server_failed(cx)),
                    // Only worth another look at the requests if lack of room kept them from being taken.
                    Poll::Ready(Ok(())) => moved |= full,
                    Poll::Pending => moved |= full && !up.is_full(),
                }
            }
            // Who has just been asked has not answered yet: nothing is tried then that the reactor knows nothing of.
            if down.has_room() && (!sent || server.stream.poll_readable(cx).is_ready()) {
                match down.poll_read(cx, &mut server.stream) {
                    // With all that there was read, the client can wait until this has been looked at.
                    Poll::Ready(Ok(n)) if n > 0 && down.is_drained() => return Poll::Ready(Ok(())),
                    Poll::Ready(Ok(n)) if n > 0 => moved = true,
                    Poll::Ready(_) => return Poll::Ready(self.server_gone()),
                    Poll::Pending => {}
                }
            }
        }
        // With everything answered there is nothing to hurry for: the client's next request is waited for at rest.
        let done = self.client.lease.is_none() && up.is_empty() && down.is_flushed() && moved;
        if !done && up.has_room() {
            let nothing = sent && self.client.stream.poll_readable(cx).is_pending();
            let read = if nothing { Poll::Pending } else { up.poll_read(cx, &mut self.client.stream) };
            // With no budget left, the task is woken anyway, and nothing has been asked of the reactor.
            self.client.armed = read.is_pending() && tokio::task::coop::has_budget_remaining();
            match read {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.received += n as u64;
                    moved = true;
                }
                Poll::Ready(_) => return Poll::Ready(Err(End::ClientLost)),
                Poll::Pending => {}
            }
        }
        if moved { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// A write to the server failed: it may have said why before it closed.
    fn server_failed(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let server = self.client.lease.as_mut();
        if let Some(server) = server
            && matches!(self.flow.down.poll_read(cx, &mut server.stream), Poll::Ready(Ok(n)) if n > 0)
        {
            self.take_answers()?;
            let _ = self.flow.down.poll_write(cx, &mut self.client.stream);
        }
        self.server_gone()
    }

    pub(super) fn server_gone(&mut self) -> Result<(), End> {
        if self.lost_server() { Ok(()) } else { Err(End::ServerLost(self.server_said_goodbye)) }
    }

    /// Counts a transaction's and a statement's end. `now` is also when the server is given back. Returns how long it took,
    /// in microseconds.
    pub fn account(&mut self, now: Instant) -> Option<u64> {
        let over = self.client.is_idle();
        self.client.entry.set_answered(now, over);
        self.answered = true;
        // Answered in time after all.
        self.client.entry.take_timed_out();
        let work = self.client.pool.traffic.work.own();
        work.queries.add(1);
        let took = self.begun.replace(now).map(|begun| (begun, now.micros_since(begun)));
        if let Some((begun, took)) = took {
            if let Some(plan) = self.flow.hand.done.take() {
                let uses = plan.uses();
                uses.took(took);
                if self.client.pool.bounds.is_adaptive() {
                    let served = now.micros_since(begun.max(self.client.leased_at));
                    self.client.pool.traffic.got_done.add(uses.usual(served, now), served);
                }
            }
            work.query_time_us.add(took);
            work.query_latency.record_us(took);
            if let Some(tenant) = &self.client.wish.tenant {
                tenant.did.query.record_us(took);
            }
        }
        if over {
            work.xacts.add(1);
            work.xact_time_us.add(now.micros_since(self.client.leased_at));
            self.client.leased_at = now;
        }
        took.map(|(_, took)| took)
    }

    fn count_bytes(&mut self) {
        let work = self.client.pool.traffic.work.own();
        work.received.add(self.received);
        work.sent.add(self.flow.down.sent());
    }

    /// It is over: what it had is kept for the next one.
    pub fn done(mut self) {
        self.client.entry.set_state(self.client.pins, self.client.names.count());
        if let Some(course) = &mut self.client.course {
            course.settled();
        }
        if let Some(shadow) = &mut self.client.shadow {
            shadow.rest();
        }
        self.flow.up.clear();
        self.flow.down.clear();
        self.flow.expected.clear();
        self.flow.hand.clear();
        SPARES.with_borrow_mut(|spares| {
            if spares.len() < SPARE_FLOWS {
                spares.push(self.flow);
            }
        });
    }

    /// The server connection that the requests go to. Requests are only taken when there is one.
    pub fn server(&mut self) -> Result<&mut Server, End> {
        self.client
            .lease
            .as_deref_mut()
            .ok_or_else(|| End::from(Error::internal("no server connection on loan")))
    }

    /// Marks whose unnamed statement the server holds now.
    pub fn own_unnamed(&mut self, generation: u32) -> Result<(), End> {
        let client = self.client.entry.id;
        self.server()?.unnamed = Some(Unnamed { client, generation });
        Ok(())
    }
}

/// What a refused statement of a client in good standing becomes.
pub fn too_many(what: &str, limit: usize) -> Error {
    Error::statement(SqlState::LIMIT_EXCEEDED, format!("too many {what}"))
        .detail(format!("The limit is {limit}."))
        .hint("Close some of them, or raise the limit in the configuration.")
}
