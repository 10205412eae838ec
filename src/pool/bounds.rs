//! The bounds of a pool that every loan looks at, where they are read without counting who reads.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::config::{PoolSettings, Size};
use crate::core::clock::Instant;

/// See the module.
#[derive(Debug)]
pub struct Bounds {
    adaptive: AtomicBool,
    size: AtomicU32,
    lend: AtomicU32,
    keep: AtomicU32,
    fair: AtomicU32,
    lifetime_us: AtomicU64,
    probe_after_us: AtomicU64,
}

/// What an adaptive pool may lend before anybody has looked at it.
const FIRST: u32 = 4;

impl Bounds {
    /// Those of these settings.
    pub fn new(settings: &PoolSettings) -> Bounds {
        let bounds = Bounds {
            adaptive: false.into(),
            size: 0.into(),
            lend: u32::MAX.into(),
            keep: 0.into(),
            fair: u32::MAX.into(),
            lifetime_us: u64::MAX.into(),
            probe_after_us: u64::MAX.into(),
        };
        bounds.set(settings);
        bounds
    }

    /// Changes them.
    pub fn set(&self, settings: &PoolSettings) {
        let us = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        self.lifetime_us.store(us(settings.lifetime), Relaxed);
        self.probe_after_us.store(us(settings.probe_after), Relaxed);
        match settings.size {
            Size::Fixed(size) => {
                self.size.store(size, Relaxed);
                self.lend.store(u32::MAX, Relaxed);
                self.keep.store(settings.min, Relaxed);
                self.adaptive.store(false, Relaxed);
            }
            Size::Adaptive => {
                let was = self.adaptive.swap(true, Relaxed);
                let granted = if was { self.lend.load(Relaxed) } else { FIRST };
                self.grant(granted, self.keep.load(Relaxed), settings);
            }
        }
    }

    /// How many an adaptive pool may lend, and how many it should keep open, within its settings.
    pub fn grant(&self, lend: u32, keep: u32, settings: &PoolSettings) {
        let (least, most) = (settings.min.min(settings.most()), settings.most());
        let (lend, keep) = (lend.clamp(least, most), keep.clamp(least, most));
        self.lend.store(lend, Relaxed);
        self.keep.store(keep, Relaxed);
        self.size.store(lend.max(keep), Relaxed);
    }

    /// Whether its size is found out.
    #[inline]
    pub fn is_adaptive(&self) -> bool {
        self.adaptive.load(Relaxed)
    }

    /// Most connections.
    #[inline]
    pub fn size(&self) -> u32 {
        self.size.load(Relaxed)
    }

    /// Most of them that may be on loan.
    #[inline]
    pub fn lend(&self) -> u32 {
        self.lend.load(Relaxed)
    }

    /// Fewest that are kept open, once there are any.
    pub fn keep(&self) -> u32 {
        self.keep.load(Relaxed)
    }

    /// Most connections while others under the same bound have less than their share.
    #[inline]
    pub fn fair(&self) -> u32 {
        self.fair.load(Relaxed)
    }

    /// Changes that; [`u32::MAX`] where all have what is theirs.
    pub fn set_fair(&self, fair: u32) {
        self.fair.store(fair, Relaxed);
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
