//! The bounds of a pool that every loan looks at, where they are read without counting who reads.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::config::PoolSettings;
use crate::core::clock::Instant;

/// See the module.
#[derive(Debug)]
pub struct Bounds {
    size: AtomicU32,
    lifetime_us: AtomicU64,
    probe_after_us: AtomicU64,
}

impl Bounds {
    /// Those of these settings.
    pub fn new(settings: &PoolSettings) -> Bounds {
        let bounds = Bounds { size: 0.into(), lifetime_us: u64::MAX.into(), probe_after_us: u64::MAX.into() };
        bounds.set(settings);
        bounds
    }

    /// Changes them.
    pub fn set(&self, settings: &PoolSettings) {
        let us = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        self.size.store(settings.size, Relaxed);
        self.lifetime_us.store(us(settings.lifetime), Relaxed);
        self.probe_after_us.store(us(settings.probe_after), Relaxed);
    }

    /// Most connections.
    #[inline]
    pub fn size(&self) -> u32 {
        self.size.load(Relaxed)
    }

    /// Whether a connection that was opened at this time is too old.
    #[inline]
    pub fn is_old(&self, opened: Instant, now: Instant) -> bool {
        now.micros_since(opened) >= self.lifetime_us.load(Relaxed)
    }

    /// Whether one that came back at this time is to be probed before it is lent.
    #[inline]
    pub fn is_stale(&self, returned: Instant, now: Instant) -> bool {
        now.micros_since(returned) >= self.probe_after_us.load(Relaxed)
    }
}
