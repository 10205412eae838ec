//! What an administrator does to pools: stop lending, go on, replace connections.

use super::Pools;
use super::cap::Cap;
use super::connect::Target;
use super::pool::Pool;
use crate::core::clock::Instant;
use std::sync::Arc;

impl Pool {
    /// Stops lending; what is lent comes back in its own time.
    pub fn pause(&self) {
        self.state.lock().paused = true;
    }

    /// Lends again: to those who wait, first. The time of the pause is not held against them.
    pub fn resume(self: &Arc<Self>) {
        let now = Instant::now();
        let waiting = {
            let mut state = self.state.lock();
            state.paused = false;
            state.waiters.restart(now);
            state.waiters.len()
        };
        for _ in 0..waiting {
            let Some(server) = self.state.lock().idle.pop() else { break };
            self.give_back(server, now);
        }
        self.sweep(now);
    }

    /// Takes a client out of the queue that waits no longer: nothing is to be opened for it.
    pub fn withdraw(&self, client: u64) {
        drop(self.state.lock().waiters.withdraw(client));
    }

    /// Has connections opened at once, though opening them has failed a moment ago.
    pub(super) fn hurry(self: &Arc<Self>) {
        {
            let mut state = self.state.lock();
            (state.failures, state.retry_at) = (0, None);
        }
        self.sweep(Instant::now());
    }

    /// Whether it has connections, or someone wants one.
    pub(super) fn is_used(&self) -> bool {
        let state = self.state.lock();
        state.total > 0 || !state.waiters.is_empty()
    }

    /// Whether anybody has it but its own idle connections; if not, they are closed, and it goes.
    pub(super) fn is_in_use(self: &Arc<Self>) -> bool {
        let idle = self.state.lock().idle.len();
        let in_use = Arc::strong_count(self) > 1 + idle;
        if !in_use {
            self.close_idle();
        }
        in_use
    }

    /// The bounds that a sibling on another backend must keep: that backend's own is the first.
    pub(super) fn caps_on(&self, target: &Target) -> Vec<Arc<Cap>> {
        std::iter::once(&target.cap).chain(self.caps.iter().skip(1)).cloned().collect()
    }

    /// Whether nothing is lent.
    pub fn is_quiet(&self) -> bool {
        let state = self.state.lock();
        state.total as usize == state.idle.len() + (state.connecting + state.resetting) as usize
    }

    /// Whether no connection is left of those that were open when it was last renewed.
    pub fn is_renewed(&self) -> bool {
        let epoch = self.epoch();
        let state = self.state.lock();
        let current = state.idle.iter().filter(|s| s.epoch == epoch).count();
        state.total as usize == current + state.connecting as usize
    }
}

impl Pools {
    /// The pools of a database, or all.
    pub fn of(&self, database: Option<&str>) -> Vec<Arc<Pool>> {
        let mut pools = self.all();
        pools.retain(|pool| database.is_none_or(|name| pool.purpose.database == name));
        pools
    }

    /// Has all connections to a backend replaced: those that there are may be dead.
    pub fn renew_to(&self, target: &Arc<Target>) {
        let pools = self.of(None);
        pools.iter().filter(|pool| Arc::ptr_eq(&pool.target, target)).for_each(|pool| pool.renew());
    }

    /// Stops lending for a database, or for all; also in pools that are made from now on.
    pub fn pause(&self, database: Option<&str>) {
        self.paused.lock().insert(database.map(str::to_string));
        self.of(database).iter().for_each(|pool| pool.pause());
    }

    /// Lends again. False where nothing was paused.
    pub fn resume(&self, database: Option<&str>) -> bool {
        let was = {
            let mut paused = self.paused.lock();
            match database {
                Some(_) => paused.remove(&database.map(str::to_string)),
                None => !std::mem::take(&mut *paused).is_empty(),
            }
        };
        let pools = self.of(database);
        pools.iter().filter(|p| !self.is_paused(&p.purpose.database)).for_each(Pool::resume);
        was
    }

    /// Whether a database is paused.
    pub fn is_paused(&self, database: &str) -> bool {
        let paused = self.paused.lock();
        paused.contains(&None) || paused.contains(&Some(database.to_string()))
    }

    /// Lets nobody new in to a database, or does again.
    pub fn set_disabled(&self, database: &str, disabled: bool) {
        let mut set = self.disabled.lock();
        if disabled {
            set.insert(database.to_string())
        } else {
            set.remove(database)
        };
    }

    /// Whether nobody new may come in to a database.
    pub fn is_disabled(&self, database: &str) -> bool {
        self.disabled.lock().contains(database)
    }
}
