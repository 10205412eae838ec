//! The tenants that are known: those whose sessions are here, and some that were. Ten thousand of them are meant to be
//! cheap; however many names clients make up, there are no more than [`MAX_TENANTS`], and the others share one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Tenant;
use super::naming::{About, Naming};
use crate::config::tenant::Tenants as Config;
use crate::core::limits::MAX_TENANTS;

/// See the module.
#[derive(Debug)]
pub struct Tenants {
    naming: ArcSwap<Naming>,
    known: Mutex<HashMap<Arc<str>, Arc<Tenant>>>,
    next: AtomicU32,
    /// Counts configurations, from 1.
    serial: AtomicU64,
    kick: Arc<Notify>,
}

/// What those are called that there are too many of.
pub const OTHERS: &str = "(others)";

impl Tenants {
    /// Nobody yet. `kick` is told when somebody of one who had all that it may have gives something back.
    pub fn new(config: &Config, kick: Arc<Notify>) -> Tenants {
        Tenants {
            naming: ArcSwap::from_pointee(Naming::new(config)),
            known: Mutex::default(),
            next: 1.into(),
            serial: 1.into(),
            kick,
        }
    }

    /// Puts a new configuration into use: tenants that are here have what it says from now on; which tenant a session
    /// is, it finds out anew.
    pub fn reload(&self, config: &Config) {
        if self.naming.load().config() == config {
            return;
        }
        let naming = Arc::new(Naming::new(config));
        let known = self.known.lock();
        known.values().for_each(|tenant| configure(tenant, &naming));
        self.naming.store(naming);
        self.serial.fetch_add(1, Release);
    }

    /// Changes with the configuration.
    #[inline]
    pub fn serial(&self) -> u64 {
        self.serial.load(Acquire)
    }

    /// Has sessions find out anew which tenants they are: places have changed.
    pub fn touch(&self) {
        self.serial.fetch_add(1, Release);
    }

    /// How they are named.
    pub fn naming(&self) -> Guard<Arc<Naming>> {
        self.naming.load()
    }

    /// The tenant of a session, and what has named it.
    pub fn of(&self, about: &About<'_>) -> Option<(Arc<Tenant>, &'static str)> {
        let naming = self.naming.load();
        let (name, by) = naming.name(about)?;
        Some((self.named(name, &naming), by))
    }

    fn named(&self, name: &str, naming: &Naming) -> Arc<Tenant> {
        let mut known = self.known.lock();
        if let Some(tenant) = known.get(name) {
            return tenant.clone();
        }
        if known.len() >= MAX_TENANTS {
            // Those whose sessions are gone, and who wait for nothing.
            known.retain(|_, tenant| Arc::strong_count(tenant) > 1);
        }
        let name: &str = if known.len() >= MAX_TENANTS { OTHERS } else { name };
        if let Some(tenant) = known.get(name) {
            return tenant.clone();
        }
        let id = self.next.fetch_add(1, Relaxed);
        let tenant = Arc::new(Tenant::new(id, name, self.kick.clone()));
        configure(&tenant, naming);
        known.insert(tenant.name.clone(), tenant.clone());
        tenant
    }

    /// Whether the configuration has that name, and not only the beginning of it.
    pub fn is_spelt_out(&self, name: &str) -> bool {
        self.naming.load().listed(name).is_some_and(|listed| !listed.name.open)
    }

    /// The weight of the tenant of that name.
    pub fn weight(&self, name: &str) -> u32 {
        let naming = self.naming.load();
        naming.listed(name).map_or(naming.config().share.weight, |listed| listed.share.weight)
    }

    /// All that are known, by name.
    pub fn all(&self) -> Vec<Arc<Tenant>> {
        let mut all: Vec<_> = self.known.lock().values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// How many are known.
    pub fn count(&self) -> usize {
        self.known.lock().len()
    }
}

fn configure(tenant: &Tenant, naming: &Naming) {
    let share = naming.listed(&tenant.name).map_or(&naming.config().share, |listed| &listed.share);
    tenant.configure(share);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tenant::{Share, TenantWay};

    fn registry(max: u32) -> (Tenants, Config) {
        let share = Share { max, ..crate::config::tenant::SHARE };
        let config = Config { by: vec![TenantWay::User], share, ..Config::default() };
        (Tenants::new(&config, Arc::default()), config)
    }

    fn of(tenants: &Tenants, user: &str) -> Arc<Tenant> {
        tenants.of(&About { user, ..About::default() }).expect("a tenant").0
    }

    #[test]
    fn a_name_is_one_tenant_and_reload_changes_it() {
        let (tenants, config) = registry(3);
        let (a, again, b) = (of(&tenants, "a"), of(&tenants, "a"), of(&tenants, "b"));
        assert!(Arc::ptr_eq(&a, &again) && a.id != b.id && a.id != 0);
        assert_eq!(a.max(), 3);
        let before = tenants.serial();
        tenants.reload(&config);
        assert_eq!(tenants.serial(), before, "nothing has changed");
        let share = Share { max: 5, ..config.share.clone() };
        tenants.reload(&Config { share, ..config });
        assert_eq!((a.max(), b.max()), (5, 5));
        assert_ne!(tenants.serial(), before);
    }

    /// Ten thousand of them are to cost little.
    #[test]
    fn tenants_stay_small() {
        assert!(size_of::<Tenant>() <= 640, "{}", size_of::<Tenant>());
    }

    #[test]
    fn however_many_names_there_are_tenants_are_bounded() {
        let (tenants, _) = registry(0);
        let held: Vec<_> = (0..MAX_TENANTS + 10).map(|n| of(&tenants, &format!("t{n}"))).collect();
        assert!(tenants.count() <= MAX_TENANTS + 1);
        assert_eq!(&*held[MAX_TENANTS + 5].name, OTHERS);
        assert!(Arc::ptr_eq(&held[MAX_TENANTS + 5], &held[MAX_TENANTS + 6]));
        drop(held);
        // Who is gone makes room.
        assert_eq!(&*of(&tenants, "new").name, "new");
        assert!(tenants.count() < 10);
    }
}
