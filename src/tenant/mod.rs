//! Tenants: whose work a session does, as far as others must not suffer from it.
//!
//! A tenant is known by its name in all pools: what it may have holds for the sum of them. [`Hold`] is a connection
//! on loan in its name, [`Waits`] a client of it that waits for one; [`naming`] says which tenant a session is,
//! [`registry`] keeps them, [`rate`] counts against bounds per second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::*};
use std::time::Duration;

use tokio::sync::Notify;

pub mod naming;
pub mod rate;
pub mod registry;

pub use crate::config::Priority;
use crate::config::tenant::Share;
use crate::core::clock::Instant;
use crate::core::durations::Durations;
use crate::core::stats::Counter;
use rate::Meter;

/// Weight of a tenant of which nothing else is said.
pub const WEIGHT: u32 = 100;

/// What a tenant has done since it is known.
#[derive(Debug, Default)]
pub struct Did {
    /// Statements ended.
    pub statements: Counter,
    /// Rows read or written.
    pub rows: Counter,
    /// Errors that its clients were told.
    pub errors: Counter,
    /// Statements that had to wait for a rate.
    pub throttled: Counter,
    /// How long, in microseconds.
    pub throttled_us: Counter,
    /// Statements refused for a rate.
    pub over_rate: Counter,
    /// Clients that were not to wait, or no longer.
    pub shed: Counter,
    /// From a statement's first byte to ReadyForQuery.
    pub query: Durations,
    /// From wanting a connection to having it, of those who waited.
    pub wait: Durations,
}

/// One tenant, for as long as somebody speaks for it.
#[derive(Debug)]
pub struct Tenant {
    /// Tells it from others within this process; never 0.
    pub id: u32,
    /// What it is called.
    pub name: Arc<str>,
    weight: AtomicU32,
    guaranteed: AtomicU32,
    max: AtomicU32,
    leased: AtomicU32,
    max_waiting: AtomicU32,
    waiting: AtomicU32,
    /// The best that its statements may have.
    priority: AtomicU8,
    /// Whether any rate of it has a bound.
    metered: AtomicBool,
    /// Statements per second.
    pub statements: Meter,
    /// Rows per second.
    pub rows: Meter,
    /// What it has done.
    pub did: Did,
    /// Somebody waits for one of its own leases to end.
    wanted: AtomicBool,
    kick: Arc<Notify>,
}

impl Tenant {
    /// One that may have as many connections as there are; `kick` hears of leases that end while some of it waits for
    /// that.
    pub fn new(id: u32, name: &str, kick: Arc<Notify>) -> Tenant {
        let now = Instant::now();
        Tenant {
            id,
            name: name.into(),
            weight: WEIGHT.into(),
            guaranteed: 0.into(),
            max: 0.into(),
            leased: 0.into(),
            max_waiting: 0.into(),
            waiting: 0.into(),
            priority: (Priority::Interactive as u8).into(),
            metered: false.into(),
            statements: Meter::new(now),
            rows: Meter::new(now),
            did: Did::default(),
            wanted: false.into(),
            kick,
        }
    }

    /// What the configuration says that it may have.
    pub fn configure(&self, share: &Share) {
        self.set_share(share.weight, share.guaranteed, share.max);
        self.max_waiting.store(share.max_waiting, Relaxed);
        self.priority.store(share.priority as u8, Relaxed);
        self.statements.set(share.statements);
        self.rows.set(share.rows);
        self.metered.store(self.statements.is_on() || self.rows.is_on(), Relaxed);
    }

    /// Changes what it is to have: its `weight` beside others, at least 1; the connections that it gets before others
    /// get more; and the most that it may have, 0 for no bound.
    pub fn set_share(&self, weight: u32, guaranteed: u32, max: u32) {
        self.weight.store(weight.max(1), Relaxed);
        self.guaranteed.store(guaranteed, Relaxed);
        self.max.store(max, Relaxed);
    }

    /// Its weight beside others.
    #[inline]
    pub fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    /// Connections that it gets before others get more than theirs.
    #[inline]
    pub fn guaranteed(&self) -> u32 {
        self.guaranteed.load(Relaxed)
    }

    /// Most connections; 0 where there is no bound.
    #[inline]
    pub fn max(&self) -> u32 {
        self.max.load(Relaxed)
    }

    /// Connections that it has now.
    #[inline]
    pub fn leased(&self) -> u32 {
        self.leased.load(SeqCst)
    }

    /// Most clients of it that wait; 0 where there is no bound.
    #[inline]
    pub fn max_waiting(&self) -> u32 {
        self.max_waiting.load(Relaxed)
    }

    /// Clients of it that wait now.
    #[inline]
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Relaxed)
    }

    /// What a statement has that its session would like to be of this priority: no better than the tenant's.
    #[inline]
    pub fn priority(&self, wanted: Priority) -> Priority {
        let best = if self.priority.load(Relaxed) == 0 { Priority::Interactive } else { Priority::Batch };
        wanted.max(best)
    }

    /// Whether any rate of it has a bound.
    #[inline]
    pub fn is_metered(&self) -> bool {
        self.metered.load(Relaxed)
    }

    /// Takes a turn for one statement: how long it has to wait.
    ///
    /// # Errors
    /// It would have to wait for longer than `longest`; nothing has been taken.
    pub fn take_turn(&self, now: Instant, longest: Duration) -> Result<Duration, Over> {
        let rows = self.rows.wait(now);
        if rows > longest {
            return Err(Over { rate: "rows", wait: rows });
        }
        let turn = self.statements.take(now, longest).map_err(|wait| Over { rate: "statements", wait })?;
        Ok(turn.max(rows))
    }

    /// A statement has ended, with so many rows; whether its turn was `paid` for before.
    #[inline]
    pub fn ended(&self, rows: u64, paid: bool) {
        self.did.statements.add(1);
        self.did.rows.add(rows);
        if self.is_metered() {
            self.charge(rows, paid);
        }
    }

    /// A statement that has not ended has given so many rows.
    pub fn read_on(&self, rows: u64) {
        self.did.rows.add(rows);
        self.rows.charge(Instant::now(), rows);
    }

    fn charge(&self, rows: u64, paid: bool) {
        let now = Instant::now();
        self.rows.charge(now, rows);
        if !paid {
            self.statements.charge(now, 1);
        }
    }

    /// Somebody of it comes to wait.
    pub fn wait(self: &Arc<Self>) -> Waits {
        self.waiting.fetch_add(1, Relaxed);
        Waits(self.clone())
    }

    /// Connections that it is owed before others get more.
    #[inline]
    pub fn owed(&self) -> u32 {
        self.guaranteed().saturating_sub(self.leased())
    }

    /// Connections that it may have yet.
    #[inline]
    pub fn room(&self) -> u32 {
        match self.max() {
            0 => u32::MAX,
            max => max.saturating_sub(self.leased()),
        }
    }

    /// Whether it has as many as it may; then somebody is told when it has one less.
    pub fn is_full(&self) -> bool {
        if self.room() > 0 {
            return false;
        }
        self.wanted.store(true, SeqCst);
        // One that ended between the two has not been heard of.
        self.room() == 0
    }

    /// Takes one more connection in its name at `now`; `None` where it has as many as it may. Its time has been
    /// accounted for up to `charged` microseconds.
    pub fn hold(self: &Arc<Self>, now: Instant, charged: u64) -> Option<Hold> {
        let max = match self.max() {
            0 => u32::MAX,
            max => max,
        };
        let more = |leased| (leased < max).then_some(leased + 1);
        while self.leased.fetch_update(SeqCst, SeqCst, more).is_err() {
            if self.is_full() {
                return None;
            }
        }
        Some(Hold { tenant: self.clone(), since: now, charged })
    }
}

/// A connection that a tenant has; dropped when it has it no more.
#[derive(Debug)]
pub struct Hold {
    /// Who has it.
    pub tenant: Arc<Tenant>,
    /// Since when.
    pub since: Instant,
    /// How much of its time has been accounted for, in microseconds.
    pub charged: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.tenant.leased.fetch_sub(1, SeqCst);
        if self.tenant.wanted.load(SeqCst) && self.tenant.wanted.swap(false, SeqCst) {
            self.tenant.kick.notify_one();
        }
    }
}

/// Which rate a statement is over, and how long it would have had to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// `statements` or `rows`.
    pub rate: &'static str,
    /// For how long.
    pub wait: Duration,
}

/// A client of a tenant that waits for a connection; dropped when it does no more.
#[derive(Debug)]
pub struct Waits(Arc<Tenant>);

impl Waits {
    /// Whose.
    pub fn tenant(&self) -> &Arc<Tenant> {
        &self.0
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}
