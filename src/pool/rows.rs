//! How a pool shows itself to observers.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::pool::Pool;
use super::server::Link;
use crate::config::PoolMode;
use crate::core::clock::Instant;
use crate::core::stats::{PoolRow, ServerRow};

impl Pool {
    /// For observers.
    pub fn row(&self, now: Instant) -> PoolRow {
        let state = self.state.lock();
        let idle = state.idle.len() as u64;
        let waiting = state.waiters.len() as u64;
        let lent =
            u64::from(state.total).saturating_sub(idle + u64::from(state.connecting + state.resetting));
        PoolRow {
            database: self.purpose.database.clone(),
            user: self.purpose.user.clone(),
            backend: self.target.name().to_string(),
            tenant: self.purpose.tenant.as_ref().map(|name| name.to_string()),
            cl_active: lent,
            cl_waiting: waiting,
            cancels: state.links.values().filter(|l| l.cancelling()).count() as u64,
            sv_active: lent,
            sv_idle: idle,
            sv_resetting: u64::from(state.resetting),
            sv_login: u64::from(state.connecting),
            maxwait: state.waiters.oldest().map_or(Duration::ZERO, |since| now.since(since)),
            mode: mode_name(self.settings().mode),
            size: self.bounds.size(),
            max_size: self.settings().most(),
            min: self.settings().min,
            reserve: self.settings().reserve,
        }
    }

    /// For observers.
    pub fn server_rows(&self) -> Vec<ServerRow> {
        let links: Vec<Arc<Link>> = self.state.lock().links.values().cloned().collect();
        links.iter().map(|link| self.server_row(link)).collect()
    }

    fn server_row(&self, link: &Link) -> ServerRow {
        let client = link.client.load(Relaxed);
        ServerRow {
            id: link.id,
            state: link.activity(),
            database: self.purpose.database.clone(),
            user: self.purpose.server_user.clone(),
            backend: self.target.name().to_string(),
            host: self.target.host(),
            port: self.target.port(),
            local_addr: link.local_addr,
            connect_time: link.opened,
            request_time: link.opened + Duration::from_micros(link.lent_us.load(Relaxed)),
            link: (client != 0).then_some(client),
            remote_pid: link.pid,
            prepared_statements: link.prepared.load(Relaxed) as usize,
            tls: link.tls.clone(),
            round_trip: Duration::from_micros(u64::from(link.round_trip_us.load(Relaxed))),
            errors: link.errors.load(Relaxed),
            age: link.opened.elapsed().unwrap_or_default(),
        }
    }
}

/// The word that the configuration uses.
pub fn mode_name(mode: PoolMode) -> &'static str {
    match mode {
        PoolMode::Session => "session",
        PoolMode::Transaction => "transaction",
    }
}
