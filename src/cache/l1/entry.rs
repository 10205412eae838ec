//! One result in memory. There are very many: each byte of it is one that another has not.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use std::time::Duration;

use super::AsOf;
use crate::cache::answer::Answer;
use crate::core::clock::Instant;

/// One result.
#[derive(Debug)]
pub struct Entry {
    /// Its frames, and behind them what it is kept under.
    pub answer: Answer,
    pub(super) as_of: AsOf,
    /// When it was asked for.
    pub(super) born: Instant,
    /// The shape that it is of, in halves: as a whole it would have to begin at a multiple of 16 bytes.
    shape: [u64; 2],
    /// How often it has been given.
    pub(super) asked: AtomicU32,
    /// It was found outside of the process, and has not been given since.
    pub(super) fetched: AtomicBool,
    /// It has been counted as outdated.
    pub(super) told: AtomicBool,
    /// It has been found to be too old soon.
    due: AtomicBool,
}

/// What keeping an entry takes beside its bytes: itself and its place in the table, where there may be as much room again
/// as is used, and what the allocator has for both allocations. Measured: `integration/memory.rs`.
const OVERHEAD: usize = size_of::<Entry>() + 160;
/// Times that a result has been given if it is one that is asked for often.
const OFTEN: u32 = 8;

impl Entry {
    /// A result under a key.
    pub(super) fn new(key: &[u8], answer: Answer, as_of: AsOf, born: Instant, fingerprint: u128) -> Entry {
        Entry {
            answer: answer.with_tail(key),
            as_of,
            born,
            shape: [(fingerprint >> 64) as u64, fingerprint as u64],
            asked: AtomicU32::new(0),
            fetched: AtomicBool::new(false),
            told: AtomicBool::new(false),
            due: AtomicBool::new(false),
        }
    }

    /// The shape that it is of.
    pub fn fingerprint(&self) -> u128 {
        u128::from(self.shape[0]) << 64 | u128::from(self.shape[1])
    }

    /// How often it has been given, and those before it under the same key, which count less and less.
    pub fn asked(&self) -> u32 {
        self.asked.load(Relaxed)
    }

    /// Whether it is asked for often, and will be too old soon; true once.
    #[inline]
    pub fn is_due(&self, ttl: Duration, now: Instant) -> bool {
        self.age(now) >= ttl / 5 * 4 && self.asked() >= OFTEN && !self.due.swap(true, Relaxed)
    }

    /// What it was read from.
    pub fn as_of(&self) -> &AsOf {
        &self.as_of
    }

    /// How old it is.
    pub fn age(&self, now: Instant) -> Duration {
        now.since(self.born)
    }

    /// What it is kept under.
    pub fn key(&self) -> &[u8] {
        self.answer.tail()
    }

    /// How much memory it takes, about.
    pub(super) fn weight(&self) -> u32 {
        u32::try_from(self.key().len() + self.answer.len() + OVERHEAD).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_small() {
        assert!(size_of::<Entry>() <= 152, "{}", size_of::<Entry>());
    }
}
