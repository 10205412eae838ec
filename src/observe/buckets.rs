//! Durations in the buckets that Prometheus is given.

use hdrhistogram::Histogram;

pub use crate::core::durations::BOUNDS_US;
use crate::core::durations::Durations;

/// How many durations fell into each bucket, not cumulative, and their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Buckets {
    /// The last is of those beyond all bounds.
    pub counts: [u64; BOUNDS_US.len() + 1],
    /// In seconds.
    pub sum: f64,
}

impl Buckets {
    /// Those of a histogram of microseconds; its sum is as exact as it is.
    pub fn of(histogram: &Histogram<u64>) -> Buckets {
        let mut buckets = Buckets::default();
        for v in histogram.iter_recorded() {
            buckets.add(v.value_iterated_to(), v.count_at_value());
        }
        buckets
    }

    /// Those that have been counted in the same buckets.
    pub fn counted(durations: &Durations) -> Buckets {
        Buckets { counts: durations.counts(), sum: durations.sum_us() as f64 * 1e-6 }
    }

    /// Adds `n` durations of so many microseconds each.
    pub fn add(&mut self, us: u64, n: u64) {
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += n;
        }
        self.sum += us as f64 * 1e-6 * n as f64;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Adds what `now` has more than `before`.
    pub fn add_growth(&mut self, before: &Buckets, now: &Buckets) {
        for ((to, before), now) in self.counts.iter_mut().zip(&before.counts).zip(&now.counts) {
            *to += now.saturating_sub(*before);
        }
        self.sum += (now.sum - before.sum).max(0.0);
    }
}
