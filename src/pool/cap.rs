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
    /// Places that tenants are owed who have less than is guaranteed: nobody else takes them.
    promised: AtomicU32,
}

impl Cap {
    /// A bound of `limit`; 0 means none.
    pub fn new(what: String, limit: u32) -> Arc<Cap> {
        Arc::new(Cap {
            what,
            limit: AtomicU32::new(limit),
            used: AtomicU32::new(0),
            starving: AtomicU32::new(0),
            promised: AtomicU32::new(0),
        })
    }

    fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    /// The bound, if there is one.
    pub fn bound(&self) -> Option<u32> {
        Some(self.limit()).filter(|limit| *limit > 0)
    }

    /// How many more connections there may be, as far as it can be said.
    pub fn free(&self) -> u32 {
        self.bound().map_or(u32::MAX, |limit| limit.saturating_sub(self.used.load(Relaxed)))
    }

    /// Whether there are more than that: it has been lowered.
    pub fn is_over(&self) -> bool {
        self.bound().is_some_and(|limit| self.used.load(Relaxed) > limit)
    }

    /// Changes the bound; connections beyond it end as they come back.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Relaxed);
    }

    /// Whether a connection may be opened, as far as it can be said without taking the place.
    pub fn has_room(&self) -> bool {
        self.limit() == 0 || self.used.load(Relaxed) + self.promised.load(Relaxed) < self.limit()
    }

    /// Takes a place; false where there is none. Whoever is `owed` one goes before others.
    pub fn acquire(&self, owed: bool) -> bool {
        let limit = self.limit();
        if limit == 0 {
            self.used.fetch_add(1, AcqRel);
            return true;
        }
        let kept = if owed { 0 } else { self.promised.load(Relaxed) };
        let more = |used: u32| (used.saturating_add(kept) < limit).then_some(used + 1);
        let took = self.used.fetch_update(AcqRel, Acquire, more);
        if took.is_err() {
            self.starving.fetch_add(1, Relaxed);
            self.promised.fetch_add(u32::from(owed), Relaxed);
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

    /// Whether that is a pool in which somebody has less than is guaranteed.
    pub fn is_promised(&self) -> bool {
        self.promised.load(Relaxed) > 0 && self.is_contended()
    }

    /// Whoever still wants a connection says so again.
    pub fn forget_starving(&self) {
        self.starving.store(0, Relaxed);
        self.promised.store(0, Relaxed);
    }
}
