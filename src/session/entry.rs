//! What others may know of a client, and the two things that they may do to it: cancel its statement, end it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::*};
use std::time::{Duration, SystemTime};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use crate::core::clock::Instant;
use crate::core::limits::CANCEL_KEY;
use crate::core::stats::ClientRow;
use crate::pool::pool::Pool;
use crate::pool::server::Link;
use crate::sql::effect::Traces;

/// What a client is doing, as observers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Doing {
    /// Has no server connection and wants none.
    Idle,
    /// Has one.
    Active,
    /// Wants one.
    Waiting,
}

/// One logged-in client. Small: there may be tens of thousands.
#[derive(Debug)]
pub struct Entry {
    /// Identity within the process, also in BackendKeyData.
    pub id: u64,
    /// Secret for CancelRequest: the first four bytes under protocol 3.0.
    key: [u8; CANCEL_KEY],
    long_key: bool,
    /// Its pool, which knows database and user.
    pub pool: Arc<Pool>,
    /// `application_name` at login, then as the server reports it.
    pub application_name: Mutex<Box<str>>,
    /// Where it comes from; `None` for a Unix socket.
    pub addr: Option<SocketAddr>,
    /// The address that it connected to.
    pub local_addr: Option<SocketAddr>,
    /// When it connected, seconds since the epoch.
    pub connected: u32,
    connected_at: Instant,
    /// TLS version and cipher, or empty.
    pub tls: Box<str>,
    /// Milliseconds after `connected` of its last request.
    requested_ms: AtomicU64,
    doing: AtomicU8,
    pins: AtomicU32,
    prepared: AtomicU32,
    link: Mutex<Option<Arc<Link>>>,
    ending: AtomicBool,
    waker: AtomicWaker,
}

impl Entry {
    /// A client that has just proved who it is.
    pub fn new(id: u64, key: [u8; CANCEL_KEY], long_key: bool, pool: Arc<Pool>, about: About) -> Entry {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Entry {
            id,
            key,
            long_key,
            pool,
            application_name: Mutex::new(about.application_name),
            addr: about.addr,
            local_addr: about.local_addr,
            connected: u32::try_from(now.as_secs()).unwrap_or(u32::MAX),
            connected_at: Instant::now(),
            tls: about.tls,
            requested_ms: AtomicU64::new(0),
            doing: AtomicU8::new(Doing::Idle as u8),
            pins: AtomicU32::new(0),
            prepared: AtomicU32::new(0),
            link: Mutex::new(None),
            ending: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }

    /// The process id in BackendKeyData.
    pub fn pid(&self) -> i32 {
        pid_of(self.id)
    }

    /// The secret in BackendKeyData.
    pub fn key(&self) -> &[u8] {
        if self.long_key { &self.key } else { &self.key[..4] }
    }

    /// Notes that a request came.
    pub fn set_requested(&self, now: Instant) {
        let since = now.micros_since(self.connected_at) / 1000;
        self.requested_ms.store(since, Relaxed);
    }

    /// Notes what it is doing.
    pub fn set_doing(&self, doing: Doing) {
        self.doing.store(doing as u8, Relaxed);
    }

    /// Notes why it keeps its server connection, and what it has prepared.
    pub fn set_state(&self, pins: Traces, prepared: usize) {
        self.pins.store(pins.bits(), Relaxed);
        self.prepared.store(u32::try_from(prepared).unwrap_or(u32::MAX), Relaxed);
    }

    /// Notes which server connection it has on loan. Whoever cancels does so under the same lock, so that after
    /// `set_link(None)` no cancel can begin.
    pub fn set_link(&self, link: Option<Arc<Link>>) {
        *self.link.lock() = link;
    }

    /// Begins a cancel of what it runs, if it runs anything.
    pub fn begin_cancel(&self) -> Option<crate::pool::server::CancelGuard> {
        self.link.lock().as_ref().map(Link::begin_cancel)
    }

    /// Asks it to end when it is at rest.
    pub fn end(&self) {
        self.ending.store(true, Release);
        self.waker.wake();
    }

    /// Whether it has been asked to; otherwise the task of `cx` is woken when it is.
    pub fn poll_ending(&self, cx: &std::task::Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.ending.load(Acquire)
    }

    /// For observers.
    pub fn row(&self) -> ClientRow {
        let link = self.link.lock().as_ref().map(|l| l.id);
        let connect_time = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(self.connected));
        let doing = self.doing.load(Relaxed);
        let requested = self.connected_at + Duration::from_millis(self.requested_ms.load(Relaxed));
        let waiting = if doing == Doing::Waiting as u8 { requested.elapsed() } else { Duration::ZERO };
        ClientRow {
            id: self.id,
            state: match doing {
                d if d == Doing::Waiting as u8 => "waiting",
                _ if link.is_some() => "active",
                _ => "idle",
            },
            database: self.pool.purpose.database.clone(),
            user: self.pool.purpose.user.clone(),
            application_name: self.application_name.lock().to_string(),
            addr: self.addr,
            local_addr: self.local_addr,
            connect_time,
            request_time: connect_time + Duration::from_millis(self.requested_ms.load(Relaxed)),
            waiting,
            link,
            pins: Traces::from_bits(self.pins.load(Relaxed)).labels(),
            prepared_statements: self.prepared.load(Relaxed) as usize,
            tls: self.tls.to_string(),
            pid: self.pid(),
        }
    }
}

/// What is known of a client when it has logged in.
#[derive(Debug, Default)]
pub struct About {
    /// `application_name` of its startup packet.
    pub application_name: Box<str>,
    /// Where it comes from.
    pub addr: Option<SocketAddr>,
    /// The address that it connected to.
    pub local_addr: Option<SocketAddr>,
    /// TLS version and cipher.
    pub tls: Box<str>,
}

/// The process id under which a client's cancel requests come.
pub fn pid_of(id: u64) -> i32 {
    (id & 0x7fff_ffff) as i32
}
