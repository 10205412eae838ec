//! What statements of a shape usually take on a server: a weight that says how much a statement is, whatever the load.
//!
//! It may only move slowly. One that followed the load would make a server that is too busy look as if its statements had
//! become larger, and not slower. So it moves once a second at most, by a sixteenth upwards and an eighth of the difference
//! downwards: what has really changed is believed in some ten seconds.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::core::clock::Instant;

/// Bits of microseconds: some twenty minutes, and what takes longer counts as that.
const BITS: u32 = 30;
const MOST: u64 = (1 << BITS) - 1;
const UP: u64 = 16;
const DOWN: u64 = 8;

/// See the module: the second in which it last moved, and microseconds; 0 where nothing is known.
#[derive(Debug, Default)]
pub struct Usual(AtomicU64);

impl Usual {
    /// After one that has taken so many microseconds. Of the first few, `early`, the least counts: they find nothing in
    /// any cache. Two that come at once may lose one of them.
    #[inline]
    pub fn after(&self, us: u64, now: Instant, early: bool) -> u64 {
        let us = us.clamp(1, MOST);
        let kept = self.0.load(Relaxed);
        let (second, usual) = (now.seconds() << BITS, kept & MOST);
        if kept & !MOST == second && !early && usual != 0 {
            return usual;
        }
        let moved = match usual {
            0 => us,
            usual if early => usual.min(us),
            usual if us > usual => (usual + (usual / UP).max(1)).min(us),
            usual => usual - (usual - us) / DOWN,
        };
        self.0.store(second | moved, Relaxed);
        moved
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_moves_slowly_and_only_by_the_clock() {
        let usual = Usual::default();
        let start = Instant::now();
        for us in [900, 300, 500, 100, 400] {
            usual.after(us, start, true);
        }
        assert_eq!(usual.after(100, start, true), 100, "the least of the first ones");
        for _ in 0..10_000 {
            assert!(usual.after(5_000, start + Duration::from_millis(1), false) <= 106);
        }
        let at = |second: u64| start + Duration::from_secs(second);
        let after_ten = (1..=10).map(|s| usual.after(5_000, at(s), false)).last();
        assert!(after_ten.is_some_and(|us| (150..250).contains(&us)), "{after_ten:?}");
        let back = (11..=40).map(|s| usual.after(100, at(s), false)).last();
        assert!(back.is_some_and(|us| us < 110), "{back:?}");
        assert_eq!(Usual::default().after(u64::MAX, start, false), MOST);
    }
}
