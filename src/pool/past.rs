//! Own pools of tenants that only clients have names for. Those can be made up without end, so that a pool goes that
//! nobody has used for `idle_timeout`, with its connections; what it has counted stays among what there was before it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Pools;
use super::pool::Pool;
use crate::core::clock::Instant;
use crate::core::stats::{PoolRow, Traffic};

/// What pools have done that are gone, by database, user and backend: as many as there may be without tenants.
#[derive(Debug, Default)]
pub(super) struct Past(Mutex<BTreeMap<[String; 3], Arc<Traffic>>>);

impl Past {
    fn add(&self, pool: &Pool) {
        let purpose = &pool.purpose;
        let key = [purpose.database.clone(), purpose.user.clone(), pool.target.name().to_string()];
        self.0.lock().entry(key).or_default().absorb(&pool.traffic);
    }

    fn rows(&self) -> Vec<(PoolRow, Arc<Traffic>)> {
        let row = |[database, user, backend]: &[String; 3]| PoolRow {
            database: database.clone(),
            user: user.clone(),
            backend: backend.clone(),
            ..PoolRow::default()
        };
        self.0.lock().iter().map(|(key, traffic)| (row(key), traffic.clone())).collect()
    }
}

impl Pool {
    /// Whether nobody has used it for a while, whose word is all that speaks for it. Only who can keep others from getting
    /// hold of it may ask.
    fn has_been_left(self: &Arc<Self>, now: Instant) -> bool {
        let mut state = self.state.lock();
        // Idle connections hold their pool, and nothing else does.
        let held = Arc::strong_count(self) > 1 + state.idle.len() || Arc::strong_count(&self.traffic) > 1;
        if held || !state.waiters.is_empty() {
            state.left = None;
            return false;
        }
        let left = *state.left.get_or_insert(now);
        // Who came and went since we last looked has left a trace.
        let used = state.idle.iter().map(|server| server.returned).max();
        now.since(used.map_or(left, |used| used.max(left))) >= self.settings().idle_timeout
    }
}

impl Pools {
    /// Whether a pool is to be kept: it is in use, or the configuration knows it, or it has not been left for long.
    pub(super) fn keeps(&self, pool: &Arc<Pool>, now: Instant) -> bool {
        // Pools that were asked for and never worked: names of databases that do not exist, say.
        if Arc::strong_count(pool) == 1 && !pool.has_served() {
            return false;
        }
        let made_up = pool.purpose.tenant.as_ref().is_some_and(|name| !self.tenants.is_spelt_out(name));
        if !made_up || !pool.has_been_left(now) {
            return true;
        }
        pool.close_idle();
        self.past.add(pool);
        false
    }

    /// What every pool has done, for observers: also those that are gone.
    pub fn traffic_rows(&self) -> Vec<(PoolRow, Arc<Traffic>)> {
        // Whoever looks holds all that there are: none of them goes before what is seen of them and of the past is read, or
        // it would be counted twice.
        let (pools, past) = {
            let pools = self.pools.lock();
            (self.all_of(&pools), self.past.rows())
        };
        let now = Instant::now();
        let rows = pools.iter().map(|pool| (pool.row(now), pool.traffic.clone()));
        rows.chain(past).collect()
    }
}
