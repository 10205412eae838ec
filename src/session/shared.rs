//! What all sessions share: configuration, pools, the list of clients, process-wide counters.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use subtle::ConstantTimeEq;
use tokio::sync::Notify;

use super::choosing::Choices;
use super::entry::{Entry, Verdict, pid_of};
use super::gate::Gate;
use super::peers::Peers;
use super::shadow::taps::Shadows;
use super::warmth::Warmth;
use crate::cache::Cache;
use crate::cluster::{Clusters, State};
use crate::config::Config;
use crate::core::board::Board;
use crate::core::ledger::Ledger;
use crate::core::stats::{ClientRow, Counter, Gauge};
use crate::core::tally::Tally;
use crate::plan::Planner;
use crate::pool::pool::Pool;
use crate::pool::{Pools, cancel};

/// Shared by every session and observer; lives as long as the process.
#[derive(Debug)]
pub struct Shared {
    /// The configuration now.
    pub config: ArcSwap<Config>,
    /// All pools.
    pub pools: Pools,
    /// Primaries and their replicas.
    pub clusters: Clusters,
    /// What is known of their statements.
    pub planner: Planner,
    /// Results that are kept; `None` where none are, and no account of what is written.
    pub cache: Option<Arc<Cache>>,
    /// Shapes whose results may be chosen to be kept.
    pub choices: Choices,
    /// Results that are asked for again and again.
    pub warmth: Warmth,
    /// Who may come in.
    pub gate: Gate,
    /// Process-wide counters.
    pub totals: Arc<Totals>,
    /// What custom metrics have found.
    pub board: Board,
    /// What has become of reports.
    pub ledger: Ledger,
    /// Who sees traffic besides those whom it is for.
    pub shadows: Shadows,
    /// The processes beside this one during a takeover.
    pub peers: Peers,
    /// When the process started.
    pub started: SystemTime,
    clients: Mutex<HashMap<i32, Arc<Entry>>>,
    next_client: AtomicU64,
    draining: AtomicBool,
    closed: AtomicBool,
    /// The configuration file, if there is one.
    pub source: OnceLock<PathBuf>,
    /// Told when an administrator wants the process to end.
    pub stop: Notify,
    pub(super) reloading: Mutex<()>,
    left: Notify,
}

/// Process-wide counters that belong to no pool.
#[derive(Debug, Default)]
pub struct Totals {
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections refused before or during login.
    pub refused: Counter,
    /// Logins refused since there were too many clients.
    pub refused_clients: Counter,
    /// Statements not prepared since their client had too many.
    pub refused_prepared: Counter,
    /// Messages refused for their size.
    pub refused_size: Counter,
    /// Logins refused since relay buffers were full.
    pub refused_memory: Counter,
    /// Logins refused since their user had too many clients.
    pub refused_user: Counter,
    /// Logins refused since their database had too many clients.
    pub refused_database: Counter,
    /// Logins that failed.
    pub login_failures: Counter,
    /// Connections open now, logged in or not.
    pub clients: Gauge,
    /// Cancel requests received.
    pub cancels: Counter,
    /// Cancel requests whose key matched no one.
    pub cancels_unmatched: Counter,
    /// Bytes held in relay buffers now.
    pub buffered: Gauge,
    /// Client tasks that panicked.
    pub panics: Counter,
    /// Protocol violations by clients.
    pub client_violations: Counter,
    /// Protocol violations by backends.
    pub backend_violations: Counter,
    /// Errors of servers.
    pub server_errors: Tally,
    /// Errors that clients were told by us, with no server's doing.
    pub own_errors: Tally,
    /// Reloads of the configuration that were put into use.
    pub reloads: Counter,
    /// Reloads that changed nothing since something was wrong.
    pub reload_failures: Counter,
    /// 1 where the last reload failed: the file is not what is in use.
    pub reload_failed: Gauge,
    /// Keys whose new values wait for a restart.
    pub pending_restart: Gauge,
}

impl Shared {
    /// Everything that the configuration calls for, nothing of it connected yet.
    pub fn new(
        pools: Pools,
        planner: Planner,
        gate: Gate,
        cache: Option<Arc<Cache>>,
        config: Config,
    ) -> Arc<Shared> {
        Arc::new(Shared {
            cache,
            choices: Choices::default(),
            warmth: Warmth::default(),
            config: ArcSwap::from_pointee(config),
            pools,
            clusters: Clusters::default(),
            planner,
            gate,
            totals: Arc::default(),
            board: Board::default(),
            ledger: Ledger::default(),
            shadows: Shadows::default(),
            peers: Peers::default(),
            started: SystemTime::now(),
            clients: Mutex::default(),
            next_client: AtomicU64::new(1),
            draining: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            source: OnceLock::new(),
            stop: Notify::new(),
            reloading: Mutex::default(),
            left: Notify::new(),
        })
    }

    /// An identity for a new client that no client of now has.
    pub fn next_client(&self) -> u64 {
        loop {
            let id = self.next_client.fetch_add(1, Relaxed);
            if pid_of(id) != 0 && !self.clients.lock().contains_key(&pid_of(id)) {
                return id;
            }
        }
    }

    /// Adds a logged-in client to the list.
    pub fn join(&self, entry: Arc<Entry>) {
        self.clients.lock().insert(entry.pid(), entry);
    }

    /// Takes a client off the list.
    pub fn leave(&self, entry: &Entry) {
        self.clients.lock().remove(&entry.pid());
        self.left.notify_waiters();
    }

    /// The pool that tells best what a session on this one is told: on the primary, or else on a replica.
    pub(super) fn greeter(&self, pool: &Arc<Pool>) -> Arc<Pool> {
        let config = self.config.load();
        let database = config.database(&pool.purpose.database);
        let name = database.and_then(|d| config.home(d, pool.purpose.tenant.as_deref()).cluster);
        let Some(cluster) = name.and_then(|name| self.clusters.get(name)) else { return pool.clone() };
        let member = cluster.primary().or_else(|| {
            let members = cluster.members();
            members.iter().find(|m| m.state() == State::Replica).cloned()
        });
        let sibling = member.and_then(|m| self.pools.sibling(&config, pool, &m.target));
        sibling.unwrap_or_else(|| pool.clone())
    }

    /// Logged-in clients.
    pub fn client_count(&self) -> usize {
        self.clients.lock().len()
    }

    /// Every client now.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.clients.lock().values().cloned().collect()
    }

    /// Clients now of this user, and of this database.
    pub fn clients_of(&self, user: &str, database: &str) -> (u32, u32) {
        let clients = self.clients.lock();
        let count = |of: &dyn Fn(&Entry) -> bool| clients.values().filter(|c| of(c)).count() as u32;
        (count(&|c| c.pool.purpose.user == user), count(&|c| c.pool.purpose.database == database))
    }

    /// Every client now, for observers.
    pub fn client_rows(&self) -> Vec<ClientRow> {
        let clients: Vec<_> = self.clients.lock().values().cloned().collect();
        clients.iter().map(|c| c.row()).collect()
    }

    /// The identity that the next client may have: what a successor starts beyond.
    pub fn upcoming_client(&self) -> u64 {
        self.next_client.load(Relaxed)
    }

    /// Gives out no identity below `id` from now on.
    pub fn start_clients_at(&self, id: u64) {
        self.next_client.fetch_max(id, Relaxed);
    }

    /// Carries out a CancelRequest: of the client with this process id and secret, and of nobody else, in this process
    /// or one beside it. Returns when it has been delivered, as Postgres closes the connection only then.
    pub async fn cancel(&self, pid: i32, key: &[u8]) {
        self.totals.cancels.add(1);
        if !self.cancel_here(pid, key).await && !self.peers.pass(pid, key).await {
            self.totals.cancels_unmatched.add(1);
        }
    }

    /// As `cancel`, for a client of this process; false when there is none.
    pub async fn cancel_here(&self, pid: i32, key: &[u8]) -> bool {
        let client = self.clients.lock().get(&pid).cloned();
        let Some(client) = client.filter(|c| bool::from(c.key().ct_eq(key))) else { return false };
        if !client.call_off()
            && !self.pools.cancel_waiter(&client.pool, client.id)
            && let Some(guard) = client.begin_cancel()
        {
            cancel::deliver(guard).await;
        }
        true
    }

    /// Microseconds since the epoch.
    pub fn unix_micros(&self) -> i64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    }

    /// Seconds since the epoch.
    pub fn unix_time(&self) -> f64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
    }

    /// Whether the process is shutting down: transactions under way go on, nothing new begins.
    pub fn draining(&self) -> bool {
        self.draining.load(Acquire)
    }

    /// Lets nobody new in; who is here may stay.
    pub fn close(&self) {
        self.closed.store(true, Release);
    }

    /// Whether nobody new may come in.
    pub fn closed(&self) -> bool {
        self.closed.load(Acquire) || self.draining()
    }

    /// Begins the shutdown: every client ends as soon as it is in no transaction.
    pub fn drain(&self) {
        self.draining.store(true, Release);
        let clients: Vec<_> = self.clients.lock().values().cloned().collect();
        clients.iter().for_each(|c| c.end(Verdict::Shutdown));
    }

    /// Waits until no client is left.
    pub async fn drained(&self) {
        loop {
            let left = self.left.notified();
            if self.client_count() == 0 {
                return;
            }
            left.await;
        }
    }
}
