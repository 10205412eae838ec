//! Where the databases of a cluster are written to: on its primary, whichever that is. What is not done for one client,
//! listening and reading the catalog, follows it here; sessions find their own way.

use std::sync::Arc;

use super::connect::Target;
use super::hub::Hub;
use super::pool::Pool;
use super::{Key, Place, Pools};
use crate::config::Config;
use crate::core::clock::Instant;

impl Pools {
    /// Notes that `backend` is the primary of `cluster`: statements that belong there go to it from now on, and so do
    /// listeners.
    pub fn lead(&self, cluster: &str, backend: &str) {
        let before = self.leaders.lock().insert(cluster.to_string(), backend.to_string());
        let Some(target) = self.backend(backend).filter(|_| before.as_deref() != Some(backend)) else {
            return;
        };
        self.hurry(&target);
        let pools = self.all();
        let hubs: Vec<Arc<Hub>> = {
            let hubs = self.hubs.lock();
            hubs.iter().filter(|((whose, _), _)| whose == cluster).map(|(_, hub)| hub.clone()).collect()
        };
        for hub in hubs {
            let pool = self.beside(&hub.pool(), &target);
            hub.move_to(pool);
        }
        for pool in pools.iter().filter(|pool| self.cluster_of(&pool.target).as_deref() == Some(cluster)) {
            pool.schema.try_again();
        }
    }

    /// The pool where the database of this one is written to; `None` while nobody knows where that is.
    pub fn home(&self, pool: &Arc<Pool>) -> Option<Arc<Pool>> {
        if pool.target.terms.is_home() {
            return Some(pool.clone());
        }
        let leader = self.leaders.lock().get(&self.cluster_of(&pool.target)?).cloned()?;
        let target = self.backend(&leader).filter(|target| target.terms.is_home())?;
        Some(self.beside(pool, &target))
    }

    /// The pool of the same database and user on another backend.
    fn beside(&self, pool: &Arc<Pool>, target: &Arc<Target>) -> Arc<Pool> {
        let purpose = &pool.purpose;
        let own = purpose.tenant.as_deref().unwrap_or_default();
        let key: Key =
            (purpose.database.clone(), purpose.user.clone(), target.name().to_string(), own.to_string());
        let mut pools = self.pools.lock();
        if let Some(known) = pools.get(&key).filter(|known| Arc::ptr_eq(&known.target, target)) {
            return known.clone();
        }
        let made = pool.beside(target.clone(), pool.caps_on(target));
        if self.is_paused(&purpose.database) {
            made.pause();
        }
        pools.insert(key, made.clone());
        made
    }

    /// Who listens for the clients of a pool's database.
    pub fn hub(&self, pool: &Arc<Pool>) -> Arc<Hub> {
        let whose = self.cluster_of(&pool.target).unwrap_or_else(|| pool.target.name().to_string());
        let place: Place = (whose, pool.purpose.dbname.clone());
        let home = self.home(pool).unwrap_or_else(|| pool.clone());
        self.hubs.lock().entry(place).or_insert_with(|| Hub::new(home)).clone()
    }

    /// A backend is there again: that it was not is no reason to wait any longer.
    pub fn hurry(&self, target: &Arc<Target>) {
        self.all().iter().filter(|pool| Arc::ptr_eq(&pool.target, target)).for_each(Pool::hurry);
    }

    /// Has all connections to a backend replaced.
    pub fn renew(&self, target: &Arc<Target>) {
        self.all().iter().filter(|pool| Arc::ptr_eq(&pool.target, target)).for_each(|pool| pool.renew());
    }

    /// The cluster that a backend is a member of.
    fn cluster_of(&self, target: &Target) -> Option<String> {
        self.clusters.load().get(target.name()).cloned()
    }

    /// Has what is known of databases looked after, each where it is written to.
    pub(super) fn look_after_schemas(&self, now: Instant) {
        for pool in self.all() {
            if pool.schema.is_due(now)
                && let Some(home) = self.home(&pool)
            {
                home.schema.look_after(&home, now);
            }
        }
    }
}

/// The cluster of each backend that is in one, by names.
pub(super) fn clusters(config: &Config) -> std::collections::HashMap<String, String> {
    let of = |c: &crate::config::Cluster| {
        let name = c.name.clone();
        c.members(config).map(move |b| (b.name.clone(), name.clone())).collect::<Vec<_>>()
    };
    config.clusters.iter().flat_map(of).collect()
}
