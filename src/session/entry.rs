//! What others may know of a client, and the two things that they may do to it: cancel its statement, end it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::*};
use std::time::{Duration, SystemTime};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use crate::config::Patience;
use crate::core::clock::Instant;
use crate::core::error::{Error, SqlState};
use crate::core::limits::CANCEL_KEY;
use crate::core::stats::ClientRow;
use crate::pool::connect::Target;
use crate::pool::pool::Pool;
use crate::pool::server::Link;
use crate::sql::effect::Traces;
use crate::tenant::Tenant;

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

/// Where a client is between request and answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Answered, outside a transaction.
    Idle,
    /// Answered, within a transaction.
    InTransaction,
    /// Not answered yet.
    Running,
}

/// Why a session is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// It is not.
    None,
    /// Its tenant is somewhere else now, and it may keep state where that was.
    Moved,
    /// The process ends, as soon as the client is in no transaction.
    Shutdown,
    /// It has been idle too long.
    IdleTooLong,
    /// It has been idle within a transaction too long.
    IdleInTransaction,
    /// Its transaction has taken too long.
    TransactionTooLong,
    /// An administrator says so.
    Killed,
    /// Its server is a primary of the past.
    Past,
}

impl Verdict {
    const ALL: [Verdict; 8] = [
        Verdict::None,
        Verdict::Moved,
        Verdict::Shutdown,
        Verdict::IdleTooLong,
        Verdict::IdleInTransaction,
        Verdict::TransactionTooLong,
        Verdict::Killed,
        Verdict::Past,
    ];

    /// Whether it waits for the end of the transaction.
    pub fn is_patient(self) -> bool {
        matches!(self, Verdict::None | Verdict::Moved | Verdict::Shutdown | Verdict::IdleTooLong)
    }

    /// What the client is told.
    pub fn error(self) -> Error {
        if self == Verdict::Moved {
            return Error::fatal(
                SqlState::ADMIN_SHUTDOWN,
                "terminating connection: its tenant is on another server now",
            )
            .detail("The session keeps state on the server where the tenant was.")
            .hint("Connect again.");
        }
        let (code, message, key) = match self {
            Verdict::None | Verdict::Moved | Verdict::Shutdown | Verdict::Killed | Verdict::Past => {
                (SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command", None)
            }
            Verdict::IdleTooLong => (
                SqlState::IDLE_SESSION_TIMEOUT,
                "terminating connection due to idle-session timeout",
                Some("client_idle_timeout"),
            ),
            Verdict::IdleInTransaction => (
                SqlState::IDLE_IN_TRANSACTION_TIMEOUT,
                "terminating connection due to idle-in-transaction timeout",
                Some("idle_transaction_timeout"),
            ),
            Verdict::TransactionTooLong => (
                SqlState::TRANSACTION_TIMEOUT,
                "terminating connection due to transaction timeout",
                Some("transaction_timeout"),
            ),
        };
        let error = Error::fatal(code, message);
        match key {
            Some(key) => error.detail(format!("The bound is the configuration's {key}.")),
            None => error,
        }
    }
}

/// What [`Entry::call_off`] makes of a wait.
const CALLED_OFF: u8 = 2;

/// One logged-in client. Small: there may be tens of thousands.
#[derive(Debug)]
pub struct Entry {
    pulse: Pulse,
    /// Identity within the process, also in BackendKeyData.
    pub id: u64,
    /// Secret for CancelRequest: the first four bytes under protocol 3.0.
    key: [u8; CANCEL_KEY],
    long_key: bool,
    /// Its pool, which knows database and user.
    pub pool: Arc<Pool>,
    known_as: Mutex<KnownAs>,
    /// Where it comes from; `None` for a Unix socket.
    pub addr: Option<SocketAddr>,
    /// The address that it connected to.
    pub local_addr: Option<SocketAddr>,
    /// When it connected, seconds since the epoch.
    pub connected: u32,
    /// TLS version and cipher, or empty.
    pub tls: Box<str>,
    waker: AtomicWaker,
}

/// As whom others see it.
#[derive(Debug)]
struct KnownAs {
    /// `application_name` at login, then as the server reports it.
    application: Box<str>,
    tenant: Option<Arc<Tenant>>,
}

/// What every transaction looks at or changes: together in as much as a line of the processor's cache has, which the kernel's
/// work in between has most likely put to other use. Not aligned to one, which would take more memory than clients at rest may.
#[derive(Debug)]
struct Pulse {
    link: Mutex<Option<Arc<Link>>>,
    connected_at: Instant,
    /// Milliseconds after it connected of its last request.
    requested_ms: AtomicU64,
    /// Milliseconds after it connected when the phase began, and when its transaction did.
    since_ms: AtomicU64,
    began_ms: AtomicU64,
    pins: AtomicU32,
    prepared: AtomicU32,
    doing: AtomicU8,
    ending: AtomicU8,
    phase: AtomicU8,
    timed_out: AtomicBool,
    /// What it waits for will not come.
    lost: AtomicBool,
    /// It waits for a server of its cluster, and then that it is to wait no longer.
    wait: AtomicU8,
    /// Its task has been woken, or is to be told for the first time whom to wake: with every transaction would cost more.
    woken: AtomicBool,
}

const _: () = assert!(size_of::<Pulse>() <= 64, "a line");

impl Pulse {
    /// Of one that has just connected.
    fn new() -> Pulse {
        Pulse {
            link: Mutex::new(None),
            connected_at: Instant::now(),
            requested_ms: AtomicU64::new(0),
            since_ms: AtomicU64::new(0),
            began_ms: AtomicU64::new(0),
            pins: AtomicU32::new(0),
            prepared: AtomicU32::new(0),
            doing: AtomicU8::new(Doing::Idle as u8),
            ending: AtomicU8::new(0),
            phase: AtomicU8::new(Phase::Idle as u8),
            timed_out: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            wait: AtomicU8::new(0),
            woken: AtomicBool::new(true),
        }
    }
}

impl Entry {
    /// A client that has just proved who it is.
    pub fn new(id: u64, key: [u8; CANCEL_KEY], long_key: bool, pool: Arc<Pool>, about: About) -> Entry {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Entry {
            pulse: Pulse::new(),
            id,
            key,
            long_key,
            pool,
            known_as: Mutex::new(KnownAs { application: about.application_name, tenant: about.tenant }),
            addr: about.addr,
            local_addr: about.local_addr,
            connected: u32::try_from(now.as_secs()).unwrap_or(u32::MAX),
            tls: about.tls,
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
        let since = now.micros_since(self.pulse.connected_at) / 1000;
        self.pulse.requested_ms.store(since, Relaxed);
    }

    /// Notes what it is doing.
    pub fn set_doing(&self, doing: Doing) {
        self.pulse.doing.store(doing as u8, Relaxed);
    }

    /// Notes why it keeps its server connection, and what it has prepared.
    pub fn set_state(&self, pins: Traces, prepared: usize) {
        self.pulse.pins.store(pins.bits(), Relaxed);
        self.pulse.prepared.store(u32::try_from(prepared).unwrap_or(u32::MAX), Relaxed);
    }

    /// Notes which server connection it has on loan. Whoever cancels does so under the same lock, so that after
    /// [`Entry::unlink`] no cancel can begin.
    pub fn link(&self, link: Arc<Link>) {
        // Under the lock, or what is lost just then would not be known.
        let mut held = self.pulse.link.lock();
        *held = Some(link);
        self.pulse.lost.store(false, Relaxed);
    }

    /// Notes that it has none any more; the one that it had.
    pub fn unlink(&self) -> Option<Arc<Link>> {
        let mut held = self.pulse.link.lock();
        self.pulse.lost.store(false, Relaxed);
        held.take()
    }

    /// Notes what the client calls itself now.
    pub fn set_application_name(&self, name: &str) {
        self.known_as.lock().application = name.into();
    }

    /// Notes that connections to `target` are dead: whoever waits for an answer there is woken.
    pub fn lose(&self, target: &Arc<Target>) {
        let link = self.pulse.link.lock();
        if link.as_ref().is_some_and(|link| Arc::ptr_eq(&link.target, target)) {
            self.pulse.lost.store(true, Release);
            self.wake();
        }
    }

    /// Whether the server connection that it has on loan is dead. Told once.
    #[inline]
    pub fn take_lost(&self) -> bool {
        self.pulse.lost.load(Relaxed) && self.pulse.lost.swap(false, AcqRel)
    }

    /// Whether the server connection that it has on loan takes writes that would be lost.
    pub fn is_past(&self) -> bool {
        self.pulse.link.lock().as_ref().is_some_and(|link| link.is_past())
    }

    /// Begins a cancel of what it runs, if it runs anything.
    pub fn begin_cancel(&self) -> Option<crate::pool::server::CancelGuard> {
        self.pulse.link.lock().as_ref().map(Link::begin_cancel)
    }

    /// Has its task look at what has changed.
    fn wake(&self) {
        self.pulse.woken.store(true, Release);
        self.waker.wake();
    }

    /// Has the client's task woken when anything changes from now on. It is always the same task.
    #[inline]
    fn register(&self, cx: &std::task::Context<'_>) {
        if self.pulse.woken.load(Acquire) {
            // In this order: who wakes it in between is seen next time.
            self.pulse.woken.store(false, Release);
            self.waker.register(cx.waker());
        }
    }

    /// Notes that it waits for a server of its cluster, or no longer does. True where it has been told to stop waiting.
    pub fn set_awaiting(&self, waits: bool) -> bool {
        self.pulse.wait.swap(u8::from(waits), AcqRel) == CALLED_OFF
    }

    /// Has it stop waiting for a server of its cluster. False where it does not wait.
    pub fn call_off(&self) -> bool {
        let waited = self.pulse.wait.compare_exchange(u8::from(true), CALLED_OFF, AcqRel, Acquire).is_ok();
        if waited {
            self.wake();
        }
        waited
    }

    /// Whether it has been told to stop waiting; otherwise the task of `cx` is woken when it is.
    pub fn poll_called_off(&self, cx: &std::task::Context<'_>) -> bool {
        self.register(cx);
        self.pulse.wait.load(Acquire) == CALLED_OFF
    }

    /// Asks it to end; the first reason counts, unless a later one is more urgent.
    pub fn end(&self, verdict: Verdict) {
        if self.pulse.ending.fetch_max(verdict as u8, AcqRel) < verdict as u8 {
            self.wake();
        }
    }

    /// What it was to end for does not concern it.
    pub fn stay(&self) {
        let _ =
            self.pulse.ending.compare_exchange(Verdict::Moved as u8, Verdict::None as u8, AcqRel, Acquire);
    }

    /// Notes whose work it does.
    pub fn set_tenant(&self, tenant: Option<Arc<Tenant>>) {
        self.known_as.lock().tenant = tenant;
    }

    /// Whose work it does.
    pub fn tenant(&self) -> Option<Arc<Tenant>> {
        self.known_as.lock().tenant.clone()
    }

    /// Whether it has been asked to; otherwise the task of `cx` is woken when it is.
    pub fn poll_ending(&self, cx: &std::task::Context<'_>) -> Verdict {
        self.register(cx);
        self.verdict()
    }

    /// Whether there is anything to look at: it has been asked to end, or has lost its server.
    #[inline]
    pub fn is_disturbed(&self) -> bool {
        self.pulse.ending.load(Acquire) != Verdict::None as u8 || self.pulse.lost.load(Relaxed)
    }

    /// Whether it has been asked to end.
    #[inline]
    pub fn verdict(&self) -> Verdict {
        Verdict::ALL[usize::from(self.pulse.ending.load(Acquire)).min(7)]
    }

    /// Notes that a request came.
    #[inline]
    pub fn set_running(&self, now: Instant, first: bool) {
        let since = now.micros_since(self.pulse.connected_at) / 1000;
        self.pulse.since_ms.store(since, Relaxed);
        if first {
            self.pulse.began_ms.store(since, Relaxed);
        }
        self.pulse.phase.store(Phase::Running as u8, Relaxed);
    }

    /// Notes that it was answered.
    #[inline]
    pub fn set_answered(&self, now: Instant, idle: bool) {
        self.pulse.since_ms.store(now.micros_since(self.pulse.connected_at) / 1000, Relaxed);
        let phase = if idle { Phase::Idle } else { Phase::InTransaction };
        self.pulse.phase.store(phase as u8, Relaxed);
    }

    /// Its phase, since when, and since when its transaction.
    pub fn phase(&self) -> (Phase, Instant, Option<Instant>) {
        let at = |ms: &AtomicU64| self.pulse.connected_at + Duration::from_millis(ms.load(Relaxed));
        let phase = match self.pulse.phase.load(Relaxed) {
            0 => Phase::Idle,
            1 => Phase::InTransaction,
            _ => Phase::Running,
        };
        (phase, at(&self.pulse.since_ms), (phase != Phase::Idle).then(|| at(&self.pulse.began_ms)))
    }

    /// How long it may take.
    pub fn patience(&self) -> Patience {
        self.pool.settings().patience
    }

    /// Notes that its statement is cancelled for having taken too long; false where it has been already.
    pub fn set_timed_out(&self) -> bool {
        !self.pulse.timed_out.swap(true, AcqRel)
    }

    /// Whether that is why its statement was cancelled.
    pub fn take_timed_out(&self) -> bool {
        self.pulse.timed_out.load(Relaxed) && self.pulse.timed_out.swap(false, AcqRel)
    }

    /// Why it keeps its server connection, as of its last batch.
    pub fn pins(&self) -> Traces {
        Traces::from_bits(self.pulse.pins.load(Relaxed))
    }

    /// For observers.
    pub fn row(&self) -> ClientRow {
        let link = self.pulse.link.lock().as_ref().map(|l| l.id);
        let connect_time = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(self.connected));
        let doing = self.pulse.doing.load(Relaxed);
        let requested =
            self.pulse.connected_at + Duration::from_millis(self.pulse.requested_ms.load(Relaxed));
        let waiting = if doing == Doing::Waiting as u8 { requested.elapsed() } else { Duration::ZERO };
        let (application_name, tenant) = {
            let known_as = self.known_as.lock();
            let tenant = known_as.tenant.as_ref().map(|tenant| tenant.name.to_string());
            (known_as.application.to_string(), tenant)
        };
        ClientRow {
            id: self.id,
            state: match doing {
                d if d == Doing::Waiting as u8 => "waiting",
                _ if link.is_some() => "active",
                _ => "idle",
            },
            database: self.pool.purpose.database.clone(),
            user: self.pool.purpose.user.clone(),
            application_name,
            tenant,
            addr: self.addr,
            local_addr: self.local_addr,
            connect_time,
            request_time: connect_time + Duration::from_millis(self.pulse.requested_ms.load(Relaxed)),
            waiting,
            link,
            pins: Traces::from_bits(self.pulse.pins.load(Relaxed)).labels(),
            prepared_statements: self.pulse.prepared.load(Relaxed) as usize,
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
    /// Whose work it does.
    pub tenant: Option<Arc<Tenant>>,
}

/// The process id under which a client's cancel requests come.
pub fn pid_of(id: u64) -> i32 {
    (id & 0x7fff_ffff) as i32
}
