//! One server connection, and the part of it that others may see while a client has it on loan.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::*};
use std::time::{Duration, SystemTime};

use lru::LruCache;
use tokio::sync::Notify;

use super::connect::{Greeted, Target};
use super::fate::Writes;
use super::pool::Slot;
use super::settings::Settings;
use super::statement::Prepared;
use super::term::Term;
use crate::core::clock::Instant;
use crate::tenant::Hold;
use crate::wire::stream::Stream;

/// What a server connection is doing, as observers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Activity {
    /// In the pool, ready.
    Idle,
    /// On loan.
    Active,
    /// Being cleaned, drained, or fenced by a cancel.
    Resetting,
    /// Being probed after a long idle time.
    Tested,
}

/// What others may know of a server connection: observers, and whoever delivers a cancel request.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Link {
    // What every transaction looks at or changes comes first: one line of the processor's cache.
    /// Where it is.
    pub target: Arc<Target>,
    /// Client that has it, or 0.
    pub client: AtomicU64,
    /// When it was last lent, microseconds after it was opened.
    pub lent_us: AtomicU64,
    /// The timeline on which its server takes writes, if it does and is in a cluster.
    pub term: Term,
    /// Cancel requests being delivered to it: while there are any, it is lent to nobody else.
    cancels: AtomicU32,
    activity: AtomicU8,
    poisoned: AtomicBool,
    /// Prepared statements on it.
    pub prepared: AtomicU32,
    /// About the least time of late from a statement to its answer, in microseconds; 0 where nothing is known.
    pub round_trip_us: AtomicU32,
    /// Errors that speak against the server or the connection.
    pub errors: AtomicU32,
    /// Identity within this process.
    pub id: u64,
    /// The server process.
    pub pid: i32,
    /// Its secret for CancelRequest.
    pub key: Box<[u8]>,
    /// TLS version and cipher, or empty.
    pub tls: String,
    /// Our end, when TCP.
    pub local_addr: Option<SocketAddr>,
    /// When it was opened.
    pub opened: SystemTime,
    /// The same on the clock that never jumps.
    born: Instant,
    cancel_done: Notify,
}

impl Link {
    /// A link to a server process that has just accepted us.
    pub fn new(id: u64, greeted: &mut Greeted, target: Arc<Target>) -> Link {
        let (key, stream) = (std::mem::take(&mut greeted.key), &greeted.stream);
        Link {
            id,
            pid: greeted.pid,
            key,
            target,
            term: greeted.term,
            tls: stream.tls_info(),
            local_addr: stream.local_addr(),
            opened: SystemTime::now(),
            born: Instant::now(),
            activity: AtomicU8::new(Activity::Active as u8),
            client: AtomicU64::new(0),
            lent_us: AtomicU64::new(0),
            prepared: AtomicU32::new(0),
            round_trip_us: AtomicU32::new(0),
            errors: AtomicU32::new(0),
            cancels: AtomicU32::new(0),
            cancel_done: Notify::new(),
            poisoned: AtomicBool::new(false),
        }
    }

    /// Whether what is written over it would be lost: its server is no primary any more, and does not know.
    #[inline]
    pub fn is_past(&self) -> bool {
        self.term != 0 && self.target.terms.is_past(self.term)
    }

    /// How long it has been on loan, if it is.
    pub fn held(&self, now: Instant) -> Option<Duration> {
        let lent = Duration::from_micros(self.lent_us.load(Relaxed));
        (self.client.load(Relaxed) != 0).then(|| now.since(self.born).saturating_sub(lent))
    }

    /// Notes what it is doing.
    pub fn set_activity(&self, activity: Activity) {
        self.activity.store(activity as u8, Relaxed);
    }

    /// What it is doing, for people.
    pub fn activity(&self) -> &'static str {
        const NAMES: [&str; 4] = ["idle", "active", "resetting", "tested"];
        NAMES[usize::from(self.activity.load(Relaxed)).min(3)]
    }

    /// Begins a cancel: from here to the guard's end the connection changes hands no more. The caller must hold
    /// what keeps the client's loan from ending meanwhile.
    pub fn begin_cancel(self: &Arc<Link>) -> CancelGuard {
        self.cancels.fetch_add(1, AcqRel);
        CancelGuard(self.clone())
    }

    /// Whether a cancel is on its way.
    pub fn cancelling(&self) -> bool {
        self.cancels.load(Acquire) > 0
    }

    /// Marks the connection as one that a late cancel may still hit: it is closed, not lent.
    pub fn poison(&self) {
        self.poisoned.store(true, Release);
    }

    /// See [`Link::poison`].
    pub fn poisoned(&self) -> bool {
        self.poisoned.load(Acquire)
    }

    /// Waits until no cancel is on its way.
    pub async fn cancels_delivered(&self) {
        loop {
            let done = self.cancel_done.notified();
            if !self.cancelling() {
                return;
            }
            done.await;
        }
    }
}

/// A cancel request on its way.
#[derive(Debug)]
pub struct CancelGuard(Arc<Link>);

impl CancelGuard {
    /// The server process that it is for.
    pub fn link(&self) -> &Arc<Link> {
        &self.0
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        self.0.cancels.fetch_sub(1, AcqRel);
        self.0.cancel_done.notify_waiters();
        self.0.cancel_done.notify_one();
    }
}

/// Whose unnamed prepared statement a server holds: the client, and its how-manieth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unnamed {
    /// The client's id.
    pub client: u64,
    /// Counts the client's unnamed statements.
    pub generation: u32,
}

/// Statements that a server holds under names of a client's own: SQL-level PREPARE, and what is executed by it.
#[derive(Debug)]
pub struct Own {
    /// The client's id.
    pub client: u64,
    /// The names, each with the identity of its text.
    pub names: HashMap<Box<[u8]>, u64>,
}

/// Several clients have advanced sequences on a server.
const MANY: u64 = u64::MAX;

/// A server connection, owned by whoever has it on loan, or by its pool.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Server {
    // What every transaction looks at or changes comes first: a few lines of the processor's cache.
    /// The socket.
    pub stream: Stream,
    /// What others may see.
    pub link: Arc<Link>,
    /// The same once more, for the client that it is lent to: with every transaction it changes hands, uncounted.
    pub handle: Option<Arc<Link>>,
    /// What the server started with, beyond its own defaults.
    pub class: Arc<Settings>,
    /// What differs from what the server started with.
    pub settings: Arc<Settings>,
    /// The client who would like to have it again; 0 for none.
    pub held_for: u64,
    /// When it was opened.
    pub opened: Instant,
    /// When it was last given back.
    pub returned: Instant,
    /// Which of its pool's configurations it was opened under.
    pub epoch: u64,
    /// What the transaction that is open on it may have written, where account is kept of that.
    pub(super) writes: Option<Box<Writes>>,
    /// Statements under a client's own names.
    pub own: Option<Box<Own>>,
    /// In whose name it is on loan.
    pub hold: Option<Hold>,
    /// Whose unnamed statement it holds, if any.
    pub unnamed: Option<Unnamed>,
    /// The client whose sequence values it may hold; 0 for none.
    sequences: u64,
    /// Whether a client has had it.
    pub used: bool,
    /// Our named statements that it holds, least recently used last.
    prepared: LruCache<u64, Arc<Prepared>>,
    /// Its place in the pool: dropping it makes room for another.
    pub slot: Slot,
}

/// What must be done before a statement can be used on a server.
#[derive(Debug)]
pub enum Prepare {
    /// Nothing.
    Known,
    /// Send its Parse.
    Parse,
    /// Send Close for this one, then its Parse.
    Replace(Arc<Prepared>),
}

impl Server {
    /// A server connection that has just been opened.
    pub fn new(stream: Stream, link: Arc<Link>, slot: Slot, class: Arc<Settings>, max: usize) -> Server {
        let now = Instant::now();
        let cap = NonZeroUsize::new(max).unwrap_or(NonZeroUsize::MIN);
        // Unbounded here, bounded in `prepare`: the map must not allocate for its bound ahead of need.
        let mut prepared = LruCache::unbounded();
        prepared.resize(cap);
        let settings = slot.pool().neutral().clone();
        Server {
            stream,
            handle: Some(link.clone()),
            link,
            class,
            settings,
            epoch: 0,
            held_for: 0,
            hold: None,
            used: false,
            own: None,
            sequences: 0,
            unnamed: None,
            prepared,
            writes: None,
            opened: now,
            returned: now,
            slot,
        }
    }

    /// Notes that `client` may have advanced a sequence.
    pub fn advanced_by(&mut self, client: u64) {
        self.sequences = if matches!(self.sequences, 0) || self.sequences == client { client } else { MANY };
    }

    /// Whether sequence values of others than `client` may be here.
    pub fn has_foreign_sequences(&self, client: u64) -> bool {
        !matches!(self.sequences, 0) && self.sequences != client
    }

    /// Notes that sequence values have been discarded.
    pub fn sequences_discarded(&mut self) {
        self.sequences = 0;
    }

    /// The statements under `client`'s own names, which are the only ones after this.
    pub fn own_of(&mut self, client: u64) -> &mut HashMap<Box<[u8]>, u64> {
        let own = self.own.get_or_insert_with(|| Box::new(Own { client, names: HashMap::new() }));
        if own.client != client {
            **own = Own { client, names: HashMap::new() };
        }
        &mut own.names
    }

    /// Notes that `statement` is about to be used; tells what must be sent first.
    pub fn prepare(&mut self, statement: &Arc<Prepared>) -> Prepare {
        if self.prepared.get(&statement.id).is_some() {
            return Prepare::Known;
        }
        let out =
            if self.prepared.len() >= self.prepared.cap().get() { self.prepared.pop_lru() } else { None };
        self.prepared.put(statement.id, statement.clone());
        self.link.prepared.store(u32::try_from(self.prepared.len()).unwrap_or(u32::MAX), Relaxed);
        out.map_or(Prepare::Parse, |(_, old)| Prepare::Replace(old))
    }

    /// Forgets a statement that the server does not have after all.
    pub fn forget(&mut self, id: u64) {
        self.prepared.pop(&id);
        self.link.prepared.store(u32::try_from(self.prepared.len()).unwrap_or(u32::MAX), Relaxed);
    }

    /// Takes back a [`Server::forget`] or an eviction that the server never carried out.
    pub fn remember(&mut self, statement: &Arc<Prepared>) {
        self.prepared.put(statement.id, statement.clone());
    }

    /// Forgets all: the server has deallocated them.
    pub fn forget_all(&mut self) {
        self.prepared.clear();
        self.own = None;
        self.unnamed = None;
        self.link.prepared.store(0, Relaxed);
    }
}
