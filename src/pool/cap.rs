//! Bounds on server connections that go beyond one pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::*};

/// A bound on server connections that several pools share: of a backend, a database, or a user.
#[derive(Debug)]
pub struct Cap {
    /// Name in errors: `max_connections of backend "x"`.
    pub what: String,
    limit: AtomicU32,
    used: AtomicU32,
    /// Pools that want a connection and may not open one.
    starving: AtomicU32,
}

impl Cap {
    /// A bound of `limit`; 0 means none.
    pub fn new(what: String, limit: u32) -> Arc<Cap> {
        Arc::new(Cap {
            what,
            limit: AtomicU32::new(limit),
            used: AtomicU32::new(0),
            starving: AtomicU32::new(0),
        })
    }

    fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    /// Changes the bound; connections beyond it end as they come back.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Relaxed);
    }

    /// Whether a connection may be opened, as far as it can be said without taking the place.
    pub fn has_room(&self) -> bool {
        self.limit() == 0 || self.used.load(Relaxed) < self.limit()
    }

    /// Takes a place; false where there is none.
    pub fn acquire(&self) -> bool {
        let limit = self.limit();
        if limit == 0 {
            self.used.fetch_add(1, AcqRel);
            return true;
        }
        let took = self.used.fetch_update(AcqRel, Acquire, |used| (used < limit).then_some(used + 1));
        if took.is_err() {
            self.starving.fetch_add(1, Relaxed);
        }
        took.is_ok()
    }

    /// Gives a place up.
    pub fn release(&self) {
        // A bound that came after a connection was opened has not counted it.
        let _ = self.used.fetch_update(AcqRel, Acquire, |used| used.checked_sub(1));
    }

    /// Whether some pool wants a connection that this bound forbade.
    pub fn is_wanted(&self) -> bool {
        self.starving.load(Relaxed) > 0
    }

    /// Whether only the end of another connection can help such a pool.
    pub fn is_contended(&self) -> bool {
        let limit = self.limit();
        limit != 0 && self.is_wanted() && self.used.load(Relaxed) >= limit
    }

    /// Whoever still wants a connection says so again.
    pub fn forget_starving(&self) {
        self.starving.store(0, Relaxed);
    }
}
