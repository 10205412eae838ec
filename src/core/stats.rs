//! Counters, and the plain rows in which pools and sessions show themselves to observers.
//!
//! Counting is relaxed atomics on memory that the counting task usually owns alone; nothing here is read on the path.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;

use super::latency::{Latency, LoneLatency};
use super::work;

/// A counter that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }
    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Workers that count apart; what further ones count, they count together.
const APART: usize = 16;
/// Of a thread that has no seat yet.
const NO_SEAT: usize = usize::MAX;

thread_local! {
    static SEAT: Cell<usize> = const { Cell::new(NO_SEAT) };
}

/// Which part is this thread's: a seat is one thread's alone for good, but for the last.
#[inline]
pub fn seat() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    if SEAT.get() == NO_SEAT {
        SEAT.set(NEXT.fetch_add(1, Relaxed).min(APART));
    }
    SEAT.get()
}

/// What every worker keeps for itself, made when it first has something to keep: none waits for another's cache lines.
#[derive(Debug, Default)]
pub struct Each<T>([OnceLock<Box<T>>; APART + 1]);

impl<T: Default> Each<T> {
    /// This worker's part.
    #[inline]
    pub fn own(&self) -> &T {
        self.0[seat()].get_or_init(Box::default)
    }
    /// All parts.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(|part| part.get().map(|part| &**part))
    }
}

/// Whether nobody else has this thread's seat: who counts there alone needs no lock on the bus.
#[inline]
pub fn sits_alone() -> bool {
    SEAT.get() < APART
}

/// A counter in a worker's own part ([`Each::own`]), to which nobody else adds: adding takes no lock on the bus.
#[derive(Debug, Default)]
pub struct Lone(AtomicU64);

impl Lone {
    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        if sits_alone() {
            self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
        } else {
            self.0.fetch_add(n, Relaxed);
        }
    }
    /// Makes it `n` if it is less.
    #[inline]
    pub fn raise(&self, n: u64) {
        if self.0.load(Relaxed) < n {
            self.0.fetch_max(n, Relaxed);
        }
    }
    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A counter that every worker adds to with every statement: each to a part of its own, so that none waits for another's
/// cache line.
#[derive(Debug, Default)]
pub struct Striped([Stripe; APART + 1]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(Lone);

impl Striped {
    /// Adds one.
    #[inline]
    pub fn count(&self) {
        self.0[seat()].0.add(1);
    }
    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.iter().map(|part| part.0.get()).sum()
    }
}

/// A value that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }
    /// Takes `n` away.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Relaxed);
    }
    /// Makes it `n`.
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }
    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one pool has done since it was made.
#[derive(Debug, Default)]
pub struct Traffic {
    /// What every statement adds to.
    pub work: Each<Work>,
    /// Microseconds that clients waited for a server.
    pub wait_time_us: Counter,
    /// Clients that had to wait.
    pub waits: Counter,
    /// Clients that were not to wait for a server, or no longer.
    pub shed: Counter,
    /// Error responses passed to clients.
    pub errors: Counter,
    /// Server connections opened.
    pub server_connects: Counter,
    /// Server connections that could not be opened.
    pub server_connect_failures: Counter,
    /// Server connections closed, whatever the cause.
    pub server_closes: Counter,
    /// Time from wanting a server connection to having it, of those who waited.
    pub wait_latency: Latency,
    /// What its servers have got done, where its size is adaptive.
    pub got_done: work::Work,
}

/// What one worker has done for a pool.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Work {
    /// Transactions ended.
    pub xacts: Lone,
    /// Statements ended (one per CommandComplete-bearing round, as PgBouncer counts queries).
    pub queries: Lone,
    /// Bytes received from clients.
    pub received: Lone,
    /// Bytes sent to clients.
    pub sent: Lone,
    /// Microseconds that servers were on loan.
    pub xact_time_us: Lone,
    /// Microseconds spent on statements.
    pub query_time_us: Lone,
    /// Parse messages from clients.
    pub client_parses: Lone,
    /// Parse messages sent to servers.
    pub server_parses: Lone,
    /// Bind messages sent to servers.
    pub binds: Lone,
    /// Time from a statement's first byte to its ReadyForQuery.
    pub query_latency: LoneLatency,
}

impl Work {
    /// Adds what another worker has done.
    fn absorb(&self, other: &Work) {
        fn all(work: &Work) -> [&Lone; 9] {
            let Work { xacts, queries, received, sent, xact_time_us, query_time_us, .. } = work;
            let Work { client_parses, server_parses, binds, .. } = work;
            [xacts, queries, received, sent, xact_time_us, query_time_us, client_parses, server_parses, binds]
        }
        all(self).iter().zip(all(other)).for_each(|(own, other)| own.add(other.get()));
        self.query_latency.absorb(&other.query_latency);
    }
}

impl Traffic {
    /// What all workers have of something.
    pub fn sum(&self, of: impl Fn(&Work) -> &Lone) -> u64 {
        self.work.all().map(|work| of(work).get()).sum()
    }
    /// Adds what another has, which counts no more from now on.
    pub fn absorb(&self, other: &Traffic) {
        let own = self.work.own();
        other.work.all().for_each(|work| own.absorb(work));
        self.wait_latency.absorb(&other.wait_latency);
        fn all(traffic: &Traffic) -> [&Counter; 7] {
            let Traffic { wait_time_us, waits, shed, errors, .. } = traffic;
            let Traffic { server_connects, server_connect_failures, server_closes, .. } = traffic;
            [wait_time_us, waits, shed, errors, server_connects, server_connect_failures, server_closes]
        }
        all(self).iter().zip(all(other)).for_each(|(own, other)| own.add(other.get()));
    }
    /// A copy of what all have recorded of statements, to compute quantiles from.
    pub fn query_latency(&self) -> Histogram<u64> {
        let mut parts = self.work.all().map(|work| work.query_latency.snapshot());
        let mut sum = parts.next().unwrap_or_else(|| LoneLatency::default().snapshot());
        for part in parts {
            // They have one form, and grow as they must.
            let _ = sum.add(part);
        }
        sum
    }
}

/// One client, as `SHOW CLIENTS` tells of it.
#[derive(Clone, Debug)]
pub struct ClientRow {
    /// Identity within this process.
    pub id: u64,
    /// `active` (has a server), `waiting` (wants one), `idle`, or `login`.
    pub state: &'static str,
    /// Database asked for.
    pub database: String,
    /// User logged in as.
    pub user: String,
    /// As the client's session would report it.
    pub application_name: String,
    /// Whose work it does, where that is known.
    pub tenant: Option<String>,
    /// Where it comes from; `None` for a Unix socket.
    pub addr: Option<SocketAddr>,
    /// The address that it connected to; `None` for a Unix socket.
    pub local_addr: Option<SocketAddr>,
    /// When it connected.
    pub connect_time: SystemTime,
    /// When its last request came.
    pub request_time: SystemTime,
    /// How long it has been waiting for a server, if it is.
    pub waiting: Duration,
    /// The server connection it has on loan ([`ServerRow::id`]).
    pub link: Option<u64>,
    /// Why it keeps its server connection beyond a transaction, if it does.
    pub pins: Vec<&'static str>,
    /// Protocol-level prepared statements it has.
    pub prepared_statements: usize,
    /// TLS version and cipher, or empty.
    pub tls: String,
    /// Process id given in BackendKeyData.
    pub pid: i32,
}

/// One server connection, as `SHOW SERVERS` tells of it.
#[derive(Clone, Debug)]
pub struct ServerRow {
    /// Identity within this process.
    pub id: u64,
    /// `active`, `idle`, `login`, `tested`, or `resetting`.
    pub state: &'static str,
    /// The pool's database, as clients name it.
    pub database: String,
    /// The user that it is logged in as.
    pub user: String,
    /// The backend's name in the configuration.
    pub backend: String,
    /// Host and port, or socket path.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Our end of the connection, when TCP.
    pub local_addr: Option<SocketAddr>,
    /// When it was opened.
    pub connect_time: SystemTime,
    /// When it was last lent.
    pub request_time: SystemTime,
    /// The client that has it on loan ([`ClientRow::id`]).
    pub link: Option<u64>,
    /// Process id of the server process.
    pub remote_pid: i32,
    /// Prepared statements it holds for us.
    pub prepared_statements: usize,
    /// TLS version and cipher, or empty.
    pub tls: String,
    /// About the least time of late from a statement to its answer; zero where nothing is known.
    pub round_trip: Duration,
    /// Errors that speak against the server or the connection.
    pub errors: u32,
    /// How long it has been open.
    pub age: Duration,
}

/// One pool, as `SHOW POOLS` tells of it.
#[derive(Clone, Debug, Default)]
pub struct PoolRow {
    /// Database as clients name it.
    pub database: String,
    /// User.
    pub user: String,
    /// Backend's name in the configuration.
    pub backend: String,
    /// The tenant whose connections these are, where they are nobody else's.
    pub tenant: Option<String>,
    /// Clients with a server on loan.
    pub cl_active: u64,
    /// Clients waiting for one.
    pub cl_waiting: u64,
    /// Cancel requests being delivered.
    pub cancels: u64,
    /// Server connections on loan.
    pub sv_active: u64,
    /// Server connections idle and ready.
    pub sv_idle: u64,
    /// Server connections being reset, drained or fenced by a cancel.
    pub sv_resetting: u64,
    /// Server connections being opened.
    pub sv_login: u64,
    /// Age of the oldest waiter.
    pub maxwait: Duration,
    /// `session` or `transaction`.
    pub mode: &'static str,
    /// Most server connections allowed now.
    pub size: u32,
    /// Most that there may ever be: more, where the size is adaptive.
    pub max_size: u32,
    /// Fewest kept.
    pub min: u32,
    /// Extra allowed when clients have waited too long.
    pub reserve: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_by_counting_apart() {
        let (each, threads, times) = (Each::<Lone>::default(), 3 * APART, 10_000);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..times).for_each(|_| each.own().add(1)));
            }
        });
        assert_eq!(each.all().map(Lone::get).sum::<u64>(), threads as u64 * times);
        assert!(each.all().count() <= APART + 1);
    }

    #[test]
    fn nothing_is_lost_by_putting_together() {
        let (all, one) = (Traffic::default(), Traffic::default());
        let work = |traffic: &Traffic| {
            traffic.work.own().xacts.add(2);
            traffic.work.own().binds.add(3);
            traffic.work.own().query_latency.record_us(70);
            traffic.wait_latency.record_us(9_000_000);
            traffic.server_closes.add(5);
        };
        [&all, &one].into_iter().for_each(work);
        all.absorb(&one);
        assert_eq!((all.sum(|w| &w.xacts), all.sum(|w| &w.binds), all.server_closes.get()), (4, 6, 10));
        assert_eq!((all.query_latency().len(), all.wait_latency.snapshot().len()), (2, 2));
        assert!(all.wait_latency.snapshot().max() >= 8_900_000);
    }
}
