//! A bound on how many there may be per second, with a burst after a rest: the generic cell rate algorithm, which is a
//! token bucket kept as one number, the time at which all that was taken is paid for.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::config::tenant::Rate;
use crate::core::clock::Instant;

/// What has been taken and not been asked for before counts for no longer than this: who has read a large table once is
/// not locked out for a day.
const MOST_DEBT: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub struct Meter {
    per_second: AtomicU32,
    burst: AtomicU32,
    began: Instant,
    /// In nanoseconds after it began.
    paid: AtomicU64,
}

/// What one costs, and the burst, in nanoseconds.
#[derive(Clone, Copy)]
struct Price {
    one: u64,
    burst: u64,
}

impl Meter {
    /// Without a bound.
    pub fn new(now: Instant) -> Meter {
        Meter { per_second: 0.into(), burst: 0.into(), began: now, paid: 0.into() }
    }

    /// Changes the bound.
    pub fn set(&self, rate: Rate) {
        self.per_second.store(rate.per_second, Relaxed);
        self.burst.store(rate.burst.max(1), Relaxed);
    }

    /// The bound.
    pub fn rate(&self) -> Rate {
        Rate { per_second: self.per_second.load(Relaxed), burst: self.burst.load(Relaxed) }
    }

    /// Whether there is a bound.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.per_second.load(Relaxed) > 0
    }

    fn price(&self) -> Option<Price> {
        let per_second = u64::from(self.per_second.load(Relaxed));
        let one = 1_000_000_000u64.checked_div(per_second)?.max(1);
        Some(Price { one, burst: one.saturating_mul(u64::from(self.burst.load(Relaxed))) })
    }

    fn nanos(&self, now: Instant) -> u64 {
        now.micros_since(self.began).saturating_mul(1000)
    }

    /// Takes one, and says how long it has to wait for its turn. Where that is longer than `longest`, nothing has been
    /// taken, and the error is how long it would have been.
    pub fn take(&self, now: Instant, longest: Duration) -> Result<Duration, Duration> {
        let Some(price) = self.price() else { return Ok(Duration::ZERO) };
        let at = self.nanos(now);
        let wait_of = |paid: u64| {
            let paid = paid.max(at).saturating_add(price.one);
            (paid, Duration::from_nanos(paid.saturating_sub(at.saturating_add(price.burst))))
        };
        let taken = self.paid.fetch_update(Relaxed, Relaxed, |paid| {
            let (paid, wait) = wait_of(paid);
            (wait <= longest).then_some(paid)
        });
        match taken {
            Ok(before) => Ok(wait_of(before).1),
            Err(before) => Err(wait_of(before).1),
        }
    }

    /// Gives one back that was taken and not used.
    pub fn give_back(&self) {
        let Some(price) = self.price() else { return };
        let _ = self.paid.fetch_update(Relaxed, Relaxed, |paid| Some(paid.saturating_sub(price.one)));
    }

    /// Takes `n` that have been used already.
    pub fn charge(&self, now: Instant, n: u64) {
        let Some(price) = self.price() else { return };
        let at = self.nanos(now);
        let debt = u64::try_from(MOST_DEBT.as_nanos()).unwrap_or(u64::MAX);
        let most = at.saturating_add(price.burst).saturating_add(debt);
        let charged =
            |paid: u64| paid.max(at).saturating_add(price.one.saturating_mul(n)).min(most.max(paid));
        let _ = self.paid.fetch_update(Relaxed, Relaxed, |paid| Some(charged(paid)));
    }

    /// How long it is until what has been used is paid for but for the burst.
    pub fn wait(&self, now: Instant) -> Duration {
        let Some(price) = self.price() else { return Duration::ZERO };
        let spare = self.nanos(now).saturating_add(price.burst);
        Duration::from_nanos(self.paid.load(Relaxed).saturating_sub(spare))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn meter(per_second: u32, burst: u32) -> (Meter, Instant) {
        let now = Instant::now();
        let meter = Meter::new(now);
        meter.set(Rate { per_second, burst });
        (meter, now)
    }

    #[test]
    fn a_burst_then_one_by_one() {
        let (meter, now) = meter(10, 3);
        for _ in 0..3 {
            assert_eq!(meter.take(now, Duration::ZERO), Ok(Duration::ZERO));
        }
        assert_eq!(meter.take(now, Duration::ZERO), Err(100 * MS));
        assert_eq!(meter.take(now, 1000 * MS), Ok(100 * MS));
        assert_eq!(meter.take(now, 1000 * MS), Ok(200 * MS));
        meter.give_back();
        assert_eq!(meter.take(now, 1000 * MS), Ok(200 * MS));
        // Rested for long: three at once again, and no more.
        let later = now + Duration::from_secs(100);
        for _ in 0..3 {
            assert_eq!(meter.take(later, Duration::ZERO), Ok(Duration::ZERO));
        }
        assert_eq!(meter.take(later, Duration::ZERO), Err(100 * MS));
    }

    #[test]
    fn what_has_been_used_is_paid_for_later() {
        let (meter, now) = meter(1000, 1000);
        meter.charge(now, 500);
        assert_eq!(meter.wait(now), Duration::ZERO);
        meter.charge(now, 2500);
        assert_eq!(meter.wait(now), Duration::from_secs(2));
        assert_eq!(meter.wait(now + Duration::from_secs(2)), Duration::ZERO);
        meter.charge(now, 1_000_000_000);
        assert_eq!(meter.wait(now), MOST_DEBT);
    }

    #[test]
    fn without_a_bound_nothing_waits() {
        let (meter, now) = meter(0, 0);
        meter.charge(now, u64::MAX);
        assert_eq!((meter.take(now, Duration::ZERO), meter.wait(now)), (Ok(Duration::ZERO), Duration::ZERO));
        assert!(!meter.is_on());
    }

    proptest! {
        /// In any time, no more go ahead than the burst and what that time is worth, and none that may is kept.
        #[test]
        fn never_more_than_the_rate(
            rate in 1u32..2000,
            burst in 1u32..50,
            gaps in prop::collection::vec(0u64..5000, 1..300),
        ) {
            let (meter, mut now) = meter(rate, burst);
            let start = now;
            let mut gone = 0u64;
            for gap in gaps {
                now = now + Duration::from_micros(gap);
                let passed = now.micros_since(start);
                let allowed = u64::from(burst) + passed * u64::from(rate) / 1_000_000;
                match meter.take(now, Duration::ZERO) {
                    Ok(wait) => {
                        gone += 1;
                        prop_assert!(wait.is_zero() && gone <= allowed + 1);
                    }
                    Err(wait) => prop_assert!(!wait.is_zero() && wait <= Duration::from_nanos(1_000_000_000 / u64::from(rate))),
                }
            }
        }

        /// Those who wait their turns go as evenly as the rate says.
        #[test]
        fn turns_are_even(rate in 1u32..1000, n in 2u32..100) {
            let (meter, now) = meter(rate, 1);
            let waits: Vec<Duration> =
                (0..n).filter_map(|_| meter.take(now, Duration::from_secs(1000)).ok()).collect();
            let one = Duration::from_nanos(1_000_000_000 / u64::from(rate));
            for (i, wait) in waits.iter().enumerate() {
                prop_assert_eq!(*wait, one * i as u32);
            }
        }
    }
}
