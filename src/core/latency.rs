//! Histograms of durations that are recorded without a lock: what every statement adds to.
//!
//! Buckets are those of an HdrHistogram of two significant digits (<https://hdrhistogram.org>), so that what was counted here
//! is looked at as one of those: up to 255 us one each, beyond that 128 for every doubling. They are made as they are needed,
//! since ten thousand pools that see little must not cost what one busy pool does.

use std::sync::OnceLock;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::stats::{Counter, Lone};

/// Longest latency told apart, in microseconds (one hour); longer ones count as this.
const CEILING_US: u64 = 3_600_000_000;
/// Significant decimal digits that are kept.
const DIGITS: u8 = 2;
/// Buckets for every doubling, and their logarithm.
const STEPS: usize = 1 << LOG_STEPS;
const LOG_STEPS: u32 = 7;
/// Groups of [`STEPS`] buckets: the first two are of what is counted by the microsecond.
const GROUPS: usize = (CEILING_US.ilog2() - LOG_STEPS + 2) as usize;

/// What counts in a bucket.
pub trait Count: Default {
    /// Adds one.
    fn one(&self);
    /// Adds so many.
    fn more(&self, n: u64);
    /// The value now.
    fn now(&self) -> u64;
}

impl Count for Counter {
    #[inline]
    fn one(&self) {
        self.add(1);
    }
    fn more(&self, n: u64) {
        self.add(n);
    }
    fn now(&self) -> u64 {
        self.get()
    }
}

impl Count for Lone {
    #[inline]
    fn one(&self) {
        self.add(1);
    }
    fn more(&self, n: u64) {
        self.add(n);
    }
    fn now(&self) -> u64 {
        self.get()
    }
}

/// Some buckets, one after the other.
type Group<C> = OnceLock<Box<[C; STEPS]>>;

/// A histogram of microseconds, 1 us to 1 h. See the module.
#[derive(Debug)]
pub struct Latency<C = Counter>(OnceLock<Box<[Group<C>; GROUPS]>>);

/// One in a worker's own part ([`super::stats::Each`]), to which nobody else adds.
pub type LoneLatency = Latency<Lone>;

impl<C> Default for Latency<C> {
    fn default() -> Self {
        Latency(OnceLock::new())
    }
}

/// Which group a duration belongs to, and which bucket of it.
#[inline]
fn place(us: u64) -> (usize, usize) {
    let us = us.clamp(1, CEILING_US);
    let shift = us.ilog2().saturating_sub(LOG_STEPS);
    let step = (us >> shift) as usize;
    // Of those that are told apart by the microsecond, the first group is of the small ones.
    (shift as usize + (step >> LOG_STEPS), step & (STEPS - 1))
}

/// The shortest duration of a bucket, in microseconds.
fn shortest(group: usize, step: usize) -> u64 {
    match group {
        0 => step as u64,
        group => ((STEPS + step) as u64) << (group - 1),
    }
}

impl<C: Count> Latency<C> {
    /// Records one duration.
    pub fn record(&self, d: Duration) {
        self.record_us(u64::try_from(d.as_micros()).unwrap_or(u64::MAX));
    }

    /// Records one duration in microseconds.
    #[inline]
    pub fn record_us(&self, us: u64) {
        let (group, step) = place(us);
        let group = self.0.get_or_init(Self::groups)[group].get_or_init(Self::group);
        group[step].one();
    }

    #[cold]
    fn groups() -> Box<[Group<C>; GROUPS]> {
        Box::new(std::array::from_fn(|_| OnceLock::new()))
    }

    #[cold]
    fn group() -> Box<[C; STEPS]> {
        Box::new(std::array::from_fn(|_| C::default()))
    }

    /// Adds what another has recorded.
    pub fn absorb(&self, other: &Latency<C>) {
        for (group, steps) in other.0.get().into_iter().flat_map(|groups| groups.iter().enumerate()) {
            let Some(steps) = steps.get() else { continue };
            let own = self.0.get_or_init(Self::groups)[group].get_or_init(Self::group);
            own.iter().zip(steps.iter()).for_each(|(own, count)| own.more(count.now()));
        }
    }

    /// A copy to compute quantiles from.
    pub fn snapshot(&self) -> Histogram<u64> {
        let mut copy = Histogram::new(DIGITS).expect("the number of digits is a constant");
        for (group, steps) in self.0.get().into_iter().flat_map(|groups| groups.iter().enumerate()) {
            for (step, count) in steps.get().into_iter().flat_map(|steps| steps.iter().enumerate()) {
                let count = count.now();
                if count > 0 {
                    // It resizes itself, and the ceiling is below what it can hold.
                    let _ = copy.record_n(shortest(group, step), count);
                }
            }
        }
        copy
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ends_have_their_places() {
        assert_eq!((place(0), place(1), place(127), place(128)), ((0, 1), (0, 1), (0, 127), (1, 0)));
        assert_eq!((place(255), place(256), place(257)), ((1, 127), (2, 0), (2, 0)));
        assert_eq!(place(u64::MAX).0, GROUPS - 1);
    }

    proptest! {
        #[test]
        fn it_is_the_histogram_that_it_is_looked_at_as(
            times in prop::collection::vec(
                prop_oneof![0u64..300, 0u64..100_000, 0..CEILING_US, Just(u64::MAX)], 0..200),
        ) {
            let mut judge = Histogram::<u64>::new(DIGITS).expect("a constant");
            let ours = LoneLatency::default();
            for us in times {
                ours.record_us(us);
                judge.record(us.clamp(1, CEILING_US)).expect("it resizes itself");
            }
            let ours = ours.snapshot();
            prop_assert_eq!(ours.len(), judge.len());
            for q in [0.0, 0.25, 0.5, 0.9, 0.99, 1.0] {
                prop_assert!(judge.equivalent(ours.value_at_quantile(q), judge.value_at_quantile(q)), "{}", q);
            }
        }
    }
}
