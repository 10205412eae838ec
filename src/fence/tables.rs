//! The fences of one database: the last known write of each table.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

use super::Number;

/// Fences per database. Tables that share one only make each other's stricter.
pub const SLOTS: usize = 4096;
const BITS: u32 = SLOTS.trailing_zeros();
const _: () = assert!(SLOTS.is_power_of_two() && BITS <= 16);

/// See the module.
#[derive(Debug)]
pub struct Fences {
    slots: Box<[AtomicU64]>,
    /// Which table was written last of those that share a slot: for people.
    last: Box<[AtomicU32]>,
    all: AtomicU64,
}

/// The slot of a table, by its oid. Oids are given out in order, and multiplying spreads them (Knuth, The Art of
/// Computer Programming, volume 3, 6.4).
#[inline]
pub fn slot(table: u32) -> u16 {
    (table.wrapping_mul(0x9E37_79B9) >> (u32::BITS - BITS)) as u16
}

impl Fences {
    /// Everything is fenced by `now`: what was written before is not known.
    pub fn new(now: Number) -> Fences {
        Fences {
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            last: (0..SLOTS).map(|_| AtomicU32::new(0)).collect(),
            all: AtomicU64::new(now),
        }
    }

    /// These tables (by oid) have been written, or may have been; `now` is [`super::Clock::now`] at a moment when the
    /// server has acknowledged it, or when its fate is unknown and nothing of it can come later.
    pub fn mark(&self, tables: impl IntoIterator<Item = u32>, now: Number) {
        for table in tables {
            let slot = usize::from(slot(table));
            if let (Some(fence), Some(last)) = (self.slots.get(slot), self.last.get(slot)) {
                fence.fetch_max(now, AcqRel);
                last.store(table, Relaxed);
            }
        }
    }

    /// Anything may have been written.
    pub fn mark_all(&self, now: Number) {
        self.all.fetch_max(now, AcqRel);
    }

    /// The fence of a read of these tables.
    pub fn fence(&self, tables: impl IntoIterator<Item = u32>) -> Number {
        let of = |table| self.slots.get(usize::from(slot(table))).map_or(Number::MAX, |f| f.load(Acquire));
        tables.into_iter().map(of).fold(self.all.load(Acquire), Number::max)
    }

    /// The fence of a read of what is not known.
    pub fn highest(&self) -> Number {
        self.slots.iter().map(|f| f.load(Acquire)).fold(self.all.load(Acquire), Number::max)
    }

    /// The fence of everything, and those of tables that not everybody is past: the table (by oid) that was written last
    /// of those that share one, and its fence. `passed` is the least that anybody has passed.
    pub fn rows(&self, passed: Number) -> (Number, Vec<(u32, Number)>) {
        let pairs = self.last.iter().zip(&self.slots);
        let pairs = pairs.map(|(last, fence)| (last.load(Relaxed), fence.load(Acquire)));
        (self.all.load(Acquire), pairs.filter(|(_, fence)| !super::is_past(passed, *fence)).collect())
    }
}
