//! Time as the hot path wants it: one number of microseconds, so that comparing two moments
//! is comparing two integers.

use std::cell::Cell;
use std::ops::Add;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A moment, in microseconds of the system's monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Instant(u64);

impl Instant {
    /// Now.
    pub fn now() -> Instant {
        // This clock exists wherever Postgres runs; should it not, time stands still and nothing times out.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or((0, 0), |t| (t.tv_sec(), t.tv_nsec()));
        Instant(now.0.unsigned_abs() * 1_000_000 + now.1.unsigned_abs() / 1_000)
    }

    /// Seconds since some fixed moment.
    #[inline]
    pub fn seconds(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Microseconds from `earlier` to this moment; 0 where it is later.
    #[inline]
    pub fn micros_since(self, earlier: Instant) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Time from `earlier` to this moment; none where it is later.
    #[inline]
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_micros(self.micros_since(earlier))
    }

    /// That much earlier.
    #[inline]
    pub fn before(self, d: Duration) -> Instant {
        Instant(self.0.saturating_sub(u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
    }

    /// Time from this moment to now.
    pub fn elapsed(self) -> Duration {
        Instant::now().since(self)
    }
}

/// So many times the beginning of a worker's turn is taken for the moment at which what it finds has come: a long turn,
/// or one that never ends since there is always something to do, has others in between.
const PER_LOOK: u8 = 16;

thread_local! {
    /// When this worker's turn began, and how many more times that may be told.
    static TURN: Cell<(Instant, u8)> = const { Cell::new((Instant(0), 0)) };
}

/// A worker has been woken, and everything that it does until [`turn_ends`] it does about what had come by then.
pub fn turn_begins() {
    TURN.set((Instant::now(), PER_LOOK));
}

/// A worker goes to sleep.
pub fn turn_ends() {
    TURN.set((Instant(0), 0));
}

/// When what a worker reads now had come, as far as it knows: for all that is read in one turn the clock is looked at
/// once, and what they wait for each other counts as time that they take. Elsewhere it is now.
#[inline]
pub fn arrival() -> Instant {
    match TURN.get() {
        (began, left @ 1..) => {
            TURN.set((began, left - 1));
            began
        }
        (began, _) => {
            let now = Instant::now();
            if began != Instant(0) {
                TURN.set((now, PER_LOOK));
            }
            now
        }
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, d: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_compare_and_subtract() {
        let now = Instant::now();
        let later = now + Duration::from_millis(5);
        assert!(later > now);
        assert_eq!(later.micros_since(now), 5_000);
        assert_eq!(now.since(later), Duration::ZERO);
    }

    /// Somewhere between its beginning and now, and never long before that.
    #[test]
    fn what_comes_in_one_turn_came_at_one_moment() {
        let pass = || std::thread::sleep(Duration::from_millis(2));
        let outside = arrival();
        pass();
        assert!(arrival() > outside, "no turn");
        turn_begins();
        let began = arrival();
        pass();
        assert!((1..PER_LOOK).all(|_| arrival() == began));
        let later = arrival();
        assert!(later > began, "it is a long turn");
        pass();
        assert_eq!(arrival(), later);
        turn_ends();
        assert!(arrival() > later);
    }
}
