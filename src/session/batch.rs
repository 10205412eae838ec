//! A client's busy time: from the first byte of a request until nothing is under way in either direction. Moves
//! bytes, gets and releases the server connection; what the bytes mean is `requests` and `answers`.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use super::ahead::Ahead;
use super::expect::Expected;
use super::explained::Running;
use super::inquiry::Asked;
use super::pump::Pump;
use super::run::{Client, End};
use crate::core::clock::Instant;
use crate::core::error::{Error, SqlState};
use crate::plan::Held;
use crate::pool::hub::Channel;
use crate::pool::server::{Server, Unnamed};
use crate::sql::long;
use crate::wire::message::TxStatus;

/// The buffers and bookkeeping of a busy client. Kept per worker when done, so that a batch allocates nothing.
#[derive(Debug)]
pub struct Flow {
    /// Client to server.
    pub up: Pump,
    /// Server to client.
    pub down: Pump,
    /// What the server owes.
    pub expected: Expected,
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
    /// Words of a statement that is too long to be held.
    pub long_text: Option<long::Stream>,
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
    /// What parameters it has.
    pub params: Option<Vec<u8>>,
    /// The request at hand has been made to wait for the catalog.
    pub waited: bool,
    /// A plan that is made before the request at hand is taken.
    pub ahead: Option<Box<Ahead>>,
    /// The plan of the request at hand, where it has been looked for before.
    pub found: Option<Held>,
    /// What is run for EXPLAIN (ROUTE, ANALYZE).
    pub running: Option<Box<Running>>,
    /// The plan of what was bound last, to the unnamed portal.
    pub bound: Option<Held>,
    /// The plan of the prepared statement that the request at hand is about.
    pub resolved: Option<Held>,
    /// The plan of what has been answered but for ReadyForQuery.
    pub done: Option<Held>,
    /// What the server has been asked about the client's state.
    pub asked: Option<Box<Asked>>,
    /// An error of a statement of ours that explains the client's next one.
    pub reason: Option<Vec<u8>>,
    /// The server said that it closes the connection, and the client has heard it.
    pub server_said_goodbye: bool,
    /// Bytes received from and sent to the client since they were last counted.
    pub counted: (u64, u64),
}

/// What the requests so far call for.
pub enum Next {
    /// More bytes, or room.
    Io,
    /// A server connection.
    Lease,
    /// That the hub listens to this channel.
    Subscribe(Channel),
    /// That the catalog has been read.
    Catalog,
    /// That a plan has been made.
    Plan,
}

impl<'a> Batch<'a> {
    /// A batch about which nothing is known yet.
    pub fn new(client: &'a mut Client) -> Batch<'a> {
        let flow = SPARES.with_borrow_mut(Vec::pop).unwrap_or_else(|| {
            let high_water = client.shared.config.load().general.high_water_mark;
            let pump = || Pump::new(high_water, client.shared.totals.clone());
            Box::new(Flow { up: pump(), down: pump(), expected: Expected::default() })
        });
        Batch {
            client,
            flow,
            begun: None,
            long_text: None,
            answered: false,
            held: false,
            looked_at: false,
            checking: false,
            waited: false,
            ahead: None,
            found: None,
            running: None,
            bound: None,
            resolved: None,
            done: None,
            params: None,
            echoed: false,
            asked: None,
            reason: None,
            server_said_goodbye: false,
            counted: (0, 0),
        }
    }

    /// Runs until the client is at rest. An error is the end of the session; its server connection, if it is still
    /// of use, has then been handed over for cleaning.
    pub async fn run(mut self) -> Result<(), End> {
        let end = self.turn().await;
        self.count_bytes();
        match end {
            Ok(()) => {
                self.keep_flow();
                Ok(())
            }
            Err(end) => {
                self.hand_over(&end);
                Err(self.part(end).await)
            }
        }
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
        for turn in 1u32.. {
            // Bulk traffic leaves the others on this worker their time.
            if turn.is_multiple_of(TURNS) {
                tokio::task::yield_now().await;
            }
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
            while self.work().await? {}
            if self.long_text.is_some() {
                // Its words are looked at, which takes longer than moving it: others have a turn in between.
                tokio::task::yield_now().await;
            }
            if self.at_rest() {
                break;
            }
        }
        Ok(())
    }

    /// Looks at what has come from both sides. True when a request that waited for an answer need wait no longer.
    async fn work(&mut self) -> Result<bool, End> {
        self.held = false;
        if self.client.lease.as_ref().is_some_and(|server| server.link.is_past()) {
            return Err(End::ServerLost(false));
        }
        loop {
            match self.take_requests()? {
                Next::Io => break,
                Next::Lease => {
                    self.lease().await?;
                    self.looked_at = self.client.lease.is_some();
                }
                // Boxed: rare.
                Next::Subscribe(channel) => Box::pin(self.subscribe(channel)).await,
                Next::Catalog => self.await_catalog().await,
                Next::Plan => self.await_plan().await,
            }
        }
        let before = self.flow.expected.len();
        self.take_answers()?;
        while self.echoed && self.client.hears_itself() {
            Box::pin(self.hear_oneself()).await?;
            self.take_answers()?;
        }
        self.deliver()?;
        if self.server_said_goodbye {
            return Err(End::ServerLost(true));
        }
        self.release();
        Ok(self.held && self.flow.expected.len() < before)
    }

    fn at_rest(&self) -> bool {
        self.flow.up.is_empty() && self.flow.down.is_empty() && self.flow.expected.is_empty()
    }

    /// Moves what can be moved. `Ready` when there is something new to look at, or the batch may be over.
    fn poll_io(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let verdict = self.client.entry.verdict();
        if !verdict.is_patient() {
            return Poll::Ready(Err(End::from(verdict)));
        }
        if self.client.entry.take_lost() && self.rescue() {
            return Poll::Ready(Ok(()));
        }
        let Flow { up, down, .. } = &mut *self.flow;
        let mut moved = false;
        if !down.is_flushed() {
            match down.poll_write(cx, &mut self.client.stream) {
                Poll::Ready(Ok(())) => moved = true,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(End::ClientLost)),
                Poll::Pending => {}
            }
        }
        if let Some(server) = &mut self.client.lease {
            let full = up.is_full();
            match if up.is_flushed() { Poll::Pending } else { up.poll_write(cx, &mut server.stream) } {
                Poll::Ready(Err(_)) => return Poll::Ready(self.server_failed(cx)),
                // Only worth another look at the requests if lack of room kept them from being taken.
                Poll::Ready(Ok(())) => moved |= full,
                Poll::Pending => moved |= full && !up.is_full(),
            }
            if down.has_room() {
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
            match up.poll_read(cx, &mut self.client.stream) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.counted.0 += n as u64;
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

    fn server_gone(&mut self) -> Result<(), End> {
        if self.lost_replica() { Ok(()) } else { Err(End::ServerLost(self.server_said_goodbye)) }
    }

    /// Counts a transaction's and a statement's end. `now` is also when the server is given back.
    pub fn account(&mut self, now: Instant) {
        self.client.entry.set_answered(now, self.client.status == TxStatus::Idle);
        self.answered = true;
        // Answered in time after all.
        self.client.entry.take_timed_out();
        let traffic = &self.client.pool.traffic;
        traffic.queries.add(1);
        if let Some(begun) = self.begun.replace(now) {
            let took = now.micros_since(begun);
            if let Some(plan) = self.done.take() {
                plan.uses.took(took);
            }
            traffic.query_time_us.add(took);
            traffic.query_latency.record_us(took);
            if let Some(server) = &self.client.lease {
                server.link.took(took);
            }
        }
        if self.client.status == TxStatus::Idle {
            traffic.xacts.add(1);
            traffic.xact_time_us.add(now.micros_since(self.client.leased_at));
            self.client.leased_at = now;
        }
    }

    fn count_bytes(&mut self) {
        let (received, sent) = std::mem::take(&mut self.counted);
        self.client.pool.traffic.received.add(received);
        self.client.pool.traffic.sent.add(sent);
    }

    fn keep_flow(mut self) {
        self.client.entry.set_state(self.client.pins, self.client.names.count());
        self.flow.up.clear();
        self.flow.down.clear();
        self.flow.expected.clear();
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
