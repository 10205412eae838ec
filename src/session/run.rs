//! The client's event loop. At rest a client is one small task without buffers; a batch of requests borrows what it
//! needs and gives it back.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::batch::Batch;
use super::caching::Caching;
use super::course::Course;
use super::doubts::Doubts;
use super::entry::{Entry, Verdict};
use super::listening::Listening;
use super::names::Names;
use super::planned::Place;
use super::shadow::{Shadow, Sighting};
use super::shared::Shared;
use super::tenancy::Tenancy;
use super::written::Written;
use crate::core::clock::Instant;
use crate::core::error::{Error, SqlState};
use crate::pool::pool::Pool;
use crate::pool::reset::{self, Debris};
use crate::pool::server::Server;
use crate::pool::settings::Settings;
use crate::pool::wish::Wish;
use crate::sql::effect::Traces;
use crate::wire::message::TxStatus;
use crate::wire::reply;
use crate::wire::stream::Stream;

/// A logged-in client: its socket and what Postgres would remember of its session. Owned by its task alone.
#[derive(Debug)]
pub struct Client {
    /// The socket.
    pub stream: Stream,
    /// What all sessions share.
    pub shared: Arc<Shared>,
    /// What others may see.
    pub entry: Arc<Entry>,
    /// Where its server connections come from.
    pub pool: Arc<Pool>,
    /// What its session began with, and so the connections that suit it best.
    pub wish: Wish,
    /// What its session has set since.
    pub settings: Arc<Settings>,
    /// What it has to go back to: nothing but its name.
    pub initial: Arc<Settings>,
    /// What it has prepared.
    pub names: Names,
    /// The server connection it has on loan: for a transaction, or while pinned.
    pub lease: Option<Box<Server>>,
    /// When it got that.
    pub leased_at: Instant,
    /// The transaction's status on its server, as last heard; what the client was told is [`Client::told`].
    pub status: TxStatus,
    /// Why it keeps its server connection beyond a transaction.
    pub pins: Traces,
    /// Whose work it does.
    pub tenancy: Tenancy,
    /// Where its statements may go, if its database is on a cluster.
    pub course: Option<Box<Course>>,
    /// What it has written on a server of a cluster that its database is not on.
    pub beside: Option<Box<Written>>,
    /// What it may be given that is kept, and what it writes, if this process keeps results.
    pub caching: Option<Box<Caching>>,
    /// What it listens to, if anything.
    pub listening: Option<Box<Listening>>,
    /// Whether its server connection lacks something of its settings: it went back to what it began with.
    pub unsynced: bool,
    /// Whether what is under way may have been committed when its answer is lost.
    pub commits: bool,
    /// Whether it handles sequences by hand.
    pub serial: bool,
    /// Whether its statements have changed what there is, which fills the memory of server processes.
    pub messy: bool,
    /// Whether its transaction has savepoints.
    pub savepoints: bool,
    /// What its statements may have left behind since the server was last asked.
    pub doubts: Option<Box<Doubts>>,
    /// What names and strings mean to it may have changed, and the server has not said how.
    pub blurred: bool,
    /// What others see of it, if anybody looks.
    pub shadow: Option<Box<Shadow>>,
    /// When that was last found out.
    pub sighting: Option<Box<Sighting>>,
    /// Whether its task is woken when the socket has something to read: it has been asked for, and nothing read since.
    pub armed: bool,
    /// How its texts are read, where that is known.
    pub reading: Option<Place>,
    /// See [`Client::max_message`].
    pub(super) most: u32,
}

/// How a client's session ends.
#[derive(Debug)]
pub enum End {
    /// The client said goodbye.
    Terminated,
    /// The client's socket closed or failed.
    ClientLost,
    /// The server connection closed or failed; true when the client has been told by the server itself.
    ServerLost(bool),
    /// We end it, and say why.
    Refused(Box<Error>),
}

impl From<Error> for End {
    fn from(e: Error) -> Self {
        End::Refused(Box::new(e))
    }
}

impl From<Verdict> for End {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Past => End::ServerLost(false),
            verdict => End::from(verdict.error()),
        }
    }
}

enum Wake {
    Io,
    Ending(Verdict),
}

/// Serves a logged-in client until it goes. The client is boxed, or else every future on the way here would have room
/// for it twice: where it comes in, and where it is kept.
pub async fn run(mut client: Box<Client>) {
    let end = serve(&mut client).await;
    Box::pin(client.finish(end)).await;
}

async fn serve(client: &mut Client) -> End {
    loop {
        let mut rested = false;
        match poll_fn(|cx| client.poll_rest(cx, std::mem::replace(&mut rested, true))).await {
            Wake::Io => {}
            Wake::Ending(verdict) => return End::from(verdict),
        }
        let mut batch = Batch::new(client);
        if let Err(end) = batch.run().await {
            return end;
        }
        batch.done();
    }
}

impl Client {
    /// Largest message it may send, in bytes.
    #[inline]
    pub fn max_message(&self) -> usize {
        self.most as usize
    }

    /// At rest: wakes when the client says something, its server does, or we are to end it. Who has `rested` and is
    /// woken has most likely something to read: that is found out by reading.
    fn poll_rest(&mut self, cx: &mut Context<'_>, rested: bool) -> Poll<Wake> {
        let readable = rested
            || if self.armed { self.stream.is_readable() } else { self.stream.poll_readable(cx).is_ready() }
            || self.lease.as_mut().is_some_and(|server| server.stream.poll_readable(cx).is_ready())
            || self.is_idle() && self.poll_mail(cx);
        if readable {
            return Poll::Ready(Wake::Io);
        }
        let mut verdict = self.entry.poll_ending(cx);
        if verdict == Verdict::Moved && !self.keeps_state() {
            // It finds its own way with its next statement.
            self.entry.stay();
            verdict = Verdict::None;
        }
        let due = verdict != Verdict::None && (self.is_idle() || !verdict.is_patient());
        if due { Poll::Ready(Wake::Ending(verdict)) } else { Poll::Pending }
    }

    /// Says goodbye as the end calls for; cleans and returns the server connection.
    async fn finish(mut self, end: End) {
        self.fence_doubtful();
        if let Some(e) = farewell(&end, self.pool.target.name(), self.commits) {
            tracing::debug!(client = self.entry.id, error = %e, "session ended");
            self.shared.totals.own_errors.count(e.code);
            let mut bytes = Vec::new();
            reply::error(&mut bytes, &e);
            self.stream.say_goodbye(&bytes).await;
        }
        if let Some(server) = self.lease.take() {
            self.entry.unlink();
            // Batches hand over what they leave; here the connection is at a message boundary, or useless.
            match end {
                End::ServerLost(_) => drop(server),
                _ => self.abandon(server, Debris::default()),
            }
        }
        if self.messy {
            self.pool.retire_held_for(self.entry.id);
        }
        self.shared.leave(&self.entry);
        if self.shared.config.load().log.disconnections {
            tracing::info!(client = self.entry.id, "disconnected");
        }
    }

    /// Gives back a server connection that was not released in the ordinary way.
    pub fn abandon(&self, server: Box<Server>, debris: Debris) {
        let open = self.status != TxStatus::Idle;
        // What DISCARD ALL does not take away.
        let messy = self.messy && !self.pins.contains(Traces::SESSION);
        if messy || self.pins.any(Traces::LASTING) {
            self.pool.will_replace();
            return reset::close(server, debris.owed > 0 || debris.sync);
        }
        let state = debris.state || !self.pins.is_empty() || self.doubts.is_some();
        reset::recover(server, Debris { open, state, ..debris });
    }
}

/// What the client is told at the end, if anything.
fn farewell(end: &End, backend: &str, commits: bool) -> Option<Error> {
    let lost = format!("backend \"{backend}\" closed the connection unexpectedly");
    match end {
        End::Terminated | End::ClientLost | End::ServerLost(true) => None,
        End::ServerLost(false) if commits => Some(
            Error::fatal(SqlState::OUTCOME_UNKNOWN, lost)
                .detail("The transaction may or may not have been committed: the answer was lost.")
                .hint("Look whether its changes are there before doing it again."),
        ),
        End::ServerLost(false) => Some(
            Error::backend(SqlState::CONNECTION_FAILURE, lost)
                .detail("The statement under way may or may not have been carried out; its transaction was not committed."),
        ),
        End::Refused(e) => Some((**e).clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client at rest costs: futures grow unnoticed. A batch is part of it, since to allocate one with every request
    /// costs more than a few idle bytes.
    #[test]
    fn futures_stay_small() {
        fn size<A, F: Future>(_: impl FnOnce(A) -> F) -> usize {
            size_of::<F>()
        }
        assert!(size(run) + size_of::<Client>() <= 512, "{} and {}", size(run), size_of::<Client>());
        assert!(size_of::<Entry>() <= 264, "{}", size_of::<Entry>());
    }
}
