//! How long a server takes: a decaying peak for choosing, and a histogram for judging. Recording is a few relaxed
//! atomics; whoever judges empties the buckets now and then into hdrhistograms, which need a lock.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::core::clock::Instant;

/// Time constant of the decay, in microseconds. Finagle takes 10 s; at 3 s, a server that was ten times slower than
/// its peers is tried again after 7 s (3 s times ln 10).
const DECAY_US: f64 = 3_000_000.0;

/// The decaying peak of a server's latencies: a longer one counts at once and in full, shorter ones as an exponentially
/// weighted moving average. As in Finagle's `PeakEwma` (<https://twitter.github.io/finagle/guide/Clients.html>, "Power
/// of Two Choices: Peak EWMA") and linkerd's load balancer: it is quick to see that a server has become slow, and slow
/// to believe that it is fast again.
#[derive(Debug)]
pub struct PeakEwma {
    born: Instant,
    /// Microseconds, as the bits of an f64; 0 for nothing recorded.
    cost: AtomicU64,
    /// When that was, in microseconds after `born`.
    stamp: AtomicU64,
}

impl PeakEwma {
    /// Nothing recorded.
    pub fn new(now: Instant) -> PeakEwma {
        PeakEwma { born: now, cost: AtomicU64::new(0), stamp: AtomicU64::new(0) }
    }

    /// Records one latency, in microseconds. Two that come at the same moment may lose one of them.
    pub fn record(&self, us: u64, now: Instant) {
        let took = us.max(1) as f64;
        let cost = f64::from_bits(self.cost.load(Relaxed));
        let keep = self.decay(now);
        let cost = if took > cost { took } else { cost * keep + took * (1.0 - keep) };
        self.cost.store(cost.to_bits(), Relaxed);
        self.stamp.store(now.micros_since(self.born), Relaxed);
    }

    /// The peak now, in microseconds; 0 for nothing recorded. It fades while nothing is recorded, too: who is not used
    /// is tried again.
    #[inline]
    pub fn get(&self, now: Instant) -> f64 {
        f64::from_bits(self.cost.load(Relaxed)) * self.decay(now)
    }

    #[inline]
    fn decay(&self, now: Instant) -> f64 {
        let passed = now.micros_since(self.born).saturating_sub(self.stamp.load(Relaxed));
        let passed = passed as f64 / DECAY_US;
        // Nearly always: the difference is less than one in a million.
        if passed < 0.001 { 1.0 - passed } else { (-passed).exp() }
    }

    /// Forgets everything.
    pub fn reset(&self) {
        self.cost.store(0, Relaxed);
    }
}

/// Buckets per power of two.
const FINE: usize = 4;
const BUCKETS: usize = 128;

/// Latencies since they were last taken out.
#[derive(Debug)]
pub struct Buckets([AtomicU32; BUCKETS]);

impl Default for Buckets {
    fn default() -> Self {
        Buckets(std::array::from_fn(|_| AtomicU32::new(0)))
    }
}

/// Where a latency in microseconds belongs: a quarter of a power of two each.
fn bucket(us: u64) -> usize {
    let us = us.max(FINE as u64);
    let power = us.ilog2() as usize;
    let quarter = (us >> (power - 2)) as usize & (FINE - 1);
    ((power - 2) * FINE + quarter).min(BUCKETS - 1)
}

/// The middle of a bucket, in microseconds.
fn middle(bucket: usize) -> u64 {
    let (power, quarter) = (bucket / FINE + 2, (bucket % FINE) as u64);
    let width = 1u64 << (power - 2);
    (FINE as u64 + quarter) * width + width / 2
}

impl Buckets {
    /// Records one latency, in microseconds.
    #[inline]
    pub fn record(&self, us: u64) {
        if let Some(bucket) = self.0.get(bucket(us)) {
            bucket.fetch_add(1, Relaxed);
        }
    }

    /// Takes everything out, into a histogram.
    pub fn drain_into(&self, histogram: &mut Histogram<u64>) {
        for (i, bucket) in self.0.iter().enumerate() {
            if bucket.load(Relaxed) > 0 {
                // It resizes itself, and no bucket is beyond what it can hold.
                let _ = histogram.record_n(middle(i), u64::from(bucket.swap(0, Relaxed)));
            }
        }
    }
}

/// Most that [`Newest`] keeps, and for how long.
const NEWEST: usize = 32;
const NEW_FOR: Duration = Duration::from_secs(4);

/// The newest latencies, in microseconds: their median shows at once what has changed.
#[derive(Debug, Default)]
pub struct Newest(VecDeque<(Instant, u64)>);

impl Newest {
    /// Adds those that have come since the last time; of many, as many as are kept, evenly.
    pub fn add(&mut self, came: &Histogram<u64>, now: Instant) {
        let count = usize::try_from(came.len()).unwrap_or(usize::MAX).min(NEWEST);
        let nth = |i: usize| came.value_at_quantile((i as f64 + 0.5) / count as f64);
        self.0.extend((0..count).map(|i| (now, nth(i))));
        while self.0.len() > NEWEST || self.0.front().is_some_and(|(at, _)| now.since(*at) > NEW_FOR) {
            self.0.pop_front();
        }
    }

    /// Their median, if there are at least `enough`.
    pub fn median(&self, enough: usize) -> Option<u64> {
        let mut all: Vec<u64> = self.0.iter().map(|(_, us)| *us).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().filter(|_| all.len() >= enough)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_count_at_once_and_fade() {
        let now = Instant::now();
        let ewma = PeakEwma::new(now);
        assert_eq!(ewma.get(now), 0.0);
        ewma.record(1_000, now);
        ewma.record(10_000, now);
        assert_eq!(ewma.get(now), 10_000.0);
        let later = now + Duration::from_secs(3);
        assert!((3_600.0..3_700.0).contains(&ewma.get(later)), "{}", ewma.get(later));
        ewma.record(1_000, later);
        assert!((4_300.0..4_320.0).contains(&ewma.get(later)), "{}", ewma.get(later));
        assert!(ewma.get(now + Duration::from_secs(60)) < 1.0);
    }

    #[test]
    fn buckets_are_near_enough() {
        let mut last = 0;
        for us in (1..2_000u64).chain((2_000..4_000_000_000).step_by(7_654_321)) {
            let bucket = bucket(us);
            assert!(bucket >= last, "{us}");
            last = bucket;
            let near = middle(bucket) as f64 / us.max(4) as f64;
            assert!((0.8..1.25).contains(&near), "{us} is shown as {}", middle(bucket));
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn what_is_taken_out_is_gone() {
        let buckets = Buckets::default();
        (0..10).for_each(|_| buckets.record(5_000));
        let mut histogram = Histogram::new(2).expect("two digits");
        buckets.drain_into(&mut histogram);
        buckets.drain_into(&mut histogram);
        assert_eq!(histogram.len(), 10);
        assert!((4_500..5_500).contains(&histogram.value_at_quantile(0.5)));
    }
}
