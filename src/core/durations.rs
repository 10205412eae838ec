//! Durations counted in a few buckets: what ten thousand of a kind can afford to keep, where a histogram with digits
//! could not be.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Upper bounds of buckets, in microseconds: 100 us to a minute.
pub const BOUNDS_US: [u64; 18] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// See the module.
#[derive(Debug, Default)]
pub struct Durations {
    /// The last is of those beyond all bounds.
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Durations {
    /// Counts one of so many microseconds.
    #[inline]
    pub fn record_us(&self, us: u64) {
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Relaxed);
        }
        self.sum_us.fetch_add(us, Relaxed);
    }

    /// How many fell into each bucket, not cumulative.
    pub fn counts(&self) -> [u64; BOUNDS_US.len() + 1] {
        std::array::from_fn(|i| self.counts[i].load(Relaxed))
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts().iter().sum()
    }

    /// All of them together, in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us.load(Relaxed)
    }

    /// The bound that this share of all is below, in microseconds: as exact as the buckets are. 0 where there are none.
    pub fn quantile_us(&self, share: f64) -> u64 {
        let counts = self.counts();
        let wanted = (counts.iter().sum::<u64>() as f64 * share).ceil() as u64;
        let mut seen = 0;
        let place = counts.iter().position(|n| {
            seen += n;
            wanted > 0 && seen >= wanted
        });
        place.map_or(0, |i| BOUNDS_US.get(i).or(BOUNDS_US.last()).copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_and_quantiles() {
        let durations = Durations::default();
        assert_eq!(durations.quantile_us(0.99), 0);
        for us in [1, 100, 101, 70_000_000] {
            durations.record_us(us);
        }
        let counts = durations.counts();
        assert_eq!((counts[0], counts[1], counts[18]), (2, 1, 1));
        assert_eq!((durations.count(), durations.sum_us()), (4, 70_000_202));
        assert_eq!((durations.quantile_us(0.5), durations.quantile_us(0.75)), (100, 250));
        assert_eq!(durations.quantile_us(1.0), 60_000_000);
    }
}
