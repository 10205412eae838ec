//! Bounds on server connections that go beyond one pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Duration;

use super::pool::{Pool, State};
use crate::core::clock::Instant;

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
    }
}

/// Places that one pool keeps for those who are owed them; others may have them when it is dropped.
#[derive(Debug)]
pub struct Promise {
    cap: Arc<Cap>,
    places: u32,
}

impl Promise {
    fn keep(&mut self, places: u32) {
        self.cap.promised.fetch_add(places, Relaxed);
        self.cap.promised.fetch_sub(std::mem::replace(&mut self.places, places), Relaxed);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.cap.promised.fetch_sub(self.places, Relaxed);
    }
}

impl Pool {
    /// Takes a place under each of its bounds, or none. Where somebody is `owed` one that there is not, as many are kept as
    /// are owed, however often that is found out.
    pub(super) fn take_places(&self, state: &mut State, owed: bool, now: Instant) -> bool {
        let Some(full) = self.caps.iter().position(|cap| !cap.acquire(owed)) else {
            // One of them is this one.
            state.promises.iter_mut().filter(|_| owed).for_each(|p| p.keep(p.places.saturating_sub(1)));
            return true;
        };
        let cap = &self.caps[full];
        self.caps[..full].iter().for_each(|taken| taken.release());
        if owed {
            let places =
                state.waiters.owed_since(now, Duration::ZERO).saturating_sub(state.connecting).max(1);
            match state.promises.iter_mut().find(|promise| Arc::ptr_eq(&promise.cap, cap)) {
                Some(promise) => promise.keep(places),
                None => {
                    let mut promise = Promise { cap: cap.clone(), places: 0 };
                    promise.keep(places);
                    state.promises.push(promise);
                }
            }
        }
        false
    }

    /// Whoever still wants a connection and may not have it says so again in [`Pool::sweep`].
    pub(super) fn forget_starving(&self) {
        self.caps.iter().for_each(|cap| cap.forget_starving());
        if self.caps.iter().any(|cap| cap.promised.load(Relaxed) > 0) {
            self.state.lock().promises.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::check::parse;
    use crate::pool::Pools;
    use crate::pool::wish::Wish;
    use crate::tenant::naming::About;

    #[tokio::test]
    async fn no_more_is_kept_than_is_owed() {
        let text = "[[backend]]\nname = 'b'\nhost = '127.0.0.1'\nport = 1\nmax_connections = 8\n\
                    [[database]]\nname = 'd'\nbackend = 'b'\n\
                    [tenants]\nby = 'user'\n[[tenant]]\nname = 'vip'\nguaranteed = 2\n";
        let config =
            parse(text, Path::new("t.toml")).map_err(|problems| problems.to_string()).expect("valid");
        let pools = Pools::new(&config).expect("no certificates");
        let database = config.database("d").expect("a database");
        let pool = pools.pool(&config, database, ("d", "vip"), None);
        let cap = pools.backend("b").expect("a backend").cap.clone();
        (0..8).for_each(|_| assert!(cap.acquire(false)));
        let about = About { user: "vip", database: "d", ..About::default() };
        let tenant = pools.tenants.of(&about).map(|(tenant, _)| tenant);
        let now = Instant::now();
        let wish = |client| Wish { tenant: tenant.clone(), ..Wish::new(client, pool.neutral().clone()) };
        let _waiting: Vec<_> = (1..=5).map(|client| pool.queue(wish(client), now)).collect();
        (0..3).for_each(|_| cap.release());
        assert!(cap.has_room(), "five wait, and two are owed");
        assert!(cap.acquire(false) && !cap.acquire(false), "those two are nobody else's");
        pool.forget_starving();
        assert!(cap.acquire(false), "until it is said again");
    }
}
