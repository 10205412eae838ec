//! Counters, and the plain rows in which pools and sessions show themselves to observers.
//!
//! Counting is relaxed atomics on memory that the counting task usually owns alone; nothing here is read on the path.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

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
    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A histogram of microseconds, 1 us to 1 h, two significant digits.
#[derive(Debug)]
pub struct Latency(Mutex<Histogram<u64>>);

/// Longest latency told apart, in microseconds (one hour); longer ones count as this.
const LATENCY_CEILING_US: u64 = 3_600_000_000;
/// Significant decimal digits that are kept.
const DIGITS: u8 = 2;

impl Default for Latency {
    fn default() -> Self {
        // Grows with what it sees: ten thousand pools that see little must not cost what one busy pool does.
        Latency(Mutex::new(Histogram::new(DIGITS).expect("the number of digits is a constant")))
    }
}

impl Latency {
    /// Records one duration.
    pub fn record(&self, d: Duration) {
        self.record_us(u64::try_from(d.as_micros()).unwrap_or(u64::MAX));
    }
    /// Records one duration in microseconds.
    pub fn record_us(&self, us: u64) {
        // It resizes itself, and the ceiling is below what it can hold.
        let _ = self.0.lock().record(us.clamp(1, LATENCY_CEILING_US));
    }
    /// A copy to compute quantiles from.
    pub fn snapshot(&self) -> Histogram<u64> {
        self.0.lock().clone()
    }
}

/// What one pool has done since it was made.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Transactions ended.
    pub xacts: Counter,
    /// Statements ended (one per CommandComplete-bearing round, as PgBouncer counts queries).
    pub queries: Counter,
    /// Bytes received from clients.
    pub received: Counter,
    /// Bytes sent to clients.
    pub sent: Counter,
    /// Microseconds that servers were on loan.
    pub xact_time_us: Counter,
    /// Microseconds spent on statements.
    pub query_time_us: Counter,
    /// Microseconds that clients waited for a server.
    pub wait_time_us: Counter,
    /// Clients that had to wait.
    pub waits: Counter,
    /// Error responses passed to clients.
    pub errors: Counter,
    /// Parse messages from clients.
    pub client_parses: Counter,
    /// Parse messages sent to servers.
    pub server_parses: Counter,
    /// Bind messages sent to servers.
    pub binds: Counter,
    /// Server connections opened.
    pub server_connects: Counter,
    /// Server connections that could not be opened.
    pub server_connect_failures: Counter,
    /// Server connections closed, whatever the cause.
    pub server_closes: Counter,
    /// Time from a statement's first byte to its ReadyForQuery.
    pub query_latency: Latency,
    /// Time from wanting a server connection to having it, of those who waited.
    pub wait_latency: Latency,
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
    /// `application_name` set on it.
    pub application_name: String,
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
    /// Most server connections allowed.
    pub size: u32,
    /// Fewest kept.
    pub min: u32,
    /// Extra allowed when clients have waited too long.
    pub reserve: u32,
}
