//! What all sessions share: configuration, pools, the list of clients, process-wide counters.

use std::time::SystemTime;

use arc_swap::ArcSwap;

use crate::config::Config;
use crate::core::stats::{ClientRow, Counter, Gauge};
use crate::pool::Pools;

/// Shared by every session and observer; lives as long as the process.
#[derive(Debug)]
pub struct Shared {
    /// The configuration now.
    pub config: ArcSwap<Config>,
    /// All pools.
    pub pools: Pools,
    /// Process-wide counters.
    pub totals: Totals,
    /// When the process started.
    pub started: SystemTime,
}

/// Process-wide counters that belong to no pool.
#[derive(Debug, Default)]
pub struct Totals {
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections refused before or during login.
    pub refused: Counter,
    /// Logins that failed.
    pub login_failures: Counter,
    /// Clients connected now.
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
}

impl Shared {
    /// Every client now, for observers.
    pub fn client_rows(&self) -> Vec<ClientRow> {
        Vec::new()
    }
    /// Whether the process is shutting down: existing transactions go on, new ones wait or are refused.
    pub fn draining(&self) -> bool {
        false
    }
}
