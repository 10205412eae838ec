//! The choice of one among several. Nothing is allocated, and chance is passed in.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::locality;
use crate::config::Balancing;

/// One who may be chosen, as it is now.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Whether it may be chosen; who may not says how many are missing at its level.
    pub available: bool,
    /// How far it is ([`locality::distance`]).
    pub level: u8,
    /// Its configured weight.
    pub weight: u32,
    /// What of its share it should have now: 1 for all, less while it is unwell or has just come back.
    pub factor: f32,
    /// Uses under way.
    pub outstanding: u32,
    /// Its decaying peak latency in microseconds, times its slowness; 0 where nothing is known.
    pub peak_us: f64,
}

impl Default for Candidate {
    fn default() -> Self {
        Candidate { available: true, level: 0, weight: 100, factor: 1.0, outstanding: 0, peak_us: 0.0 }
    }
}

/// Cost of a use of a server that has not answered anything yet, in microseconds, where another is under way: one is
/// enough to find out (Finagle's penalty).
const UNKNOWN_US: f64 = 1_000_000.0;
/// Least share of a candidate: somebody has to find out that it is well again.
const LEAST: f64 = 0.01;

impl Candidate {
    fn share(&self) -> f64 {
        f64::from(self.factor).max(LEAST)
    }

    fn weighted(&self) -> f64 {
        f64::from(self.weight) * self.share()
    }

    /// Finagle's cost: the peak for each use that is under way, and for ours.
    fn cost(&self) -> f64 {
        let uses = f64::from(self.outstanding);
        let cost = if self.peak_us > 0.0 { self.peak_us * (uses + 1.0) } else { UNKNOWN_US * uses };
        cost / self.weighted()
    }

    fn load(&self) -> f64 {
        (f64::from(self.outstanding) + 1.0) / self.weighted()
    }
}

/// Chance: splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub struct Dice(u64);

/// What separates the seeds of [`Dice`] best.
pub const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

impl Dice {
    /// Dice with a seed; seeds that differ by [`GAMMA`] are as good as any.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// 64 random bits.
    #[inline]
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to 1, without 1.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From 0 to `n`, without `n`; 0 for none.
    #[inline]
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.roll()) * n as u128) >> 64) as usize
    }
}

/// Chooses one that is available, of the nearest level that has enough of them; none where nobody is. `turn` is kept
/// by the caller, for taking turns.
pub fn choose(
    strategy: Balancing,
    candidates: &[Candidate],
    turn: &AtomicUsize,
    dice: &mut Dice,
) -> Option<usize> {
    let level = locality::level(candidates, dice)?;
    let fits = |c: &Candidate| c.available && c.level == level;
    let count = candidates.iter().filter(|c| fits(c)).count();
    let nth = |n: usize| candidates.iter().enumerate().filter(|(_, c)| fits(c)).nth(n);
    if count < 2 {
        return nth(0).map(|(i, _)| i);
    }
    let all = || candidates.iter().enumerate().filter(|(_, c)| fits(c));
    match strategy {
        Balancing::RoundRobin => {
            // Who should have less than its share is passed over now and then, but not by everybody.
            let next = || nth(turn.fetch_add(1, Relaxed) % count);
            let mut found = next();
            for _ in 1..count {
                if found.is_some_and(|(_, c)| dice.unit() < c.share()) {
                    break;
                }
                found = next();
            }
            found.map(|(i, _)| i)
        }
        Balancing::Random => drawn(all(), Candidate::share, dice),
        Balancing::Weighted => drawn(all(), Candidate::weighted, dice),
        Balancing::LeastConnections => {
            // Begins anywhere, so that not all go to the first of those that are alike.
            let start = dice.below(count);
            let around = all().skip(start).chain(all().take(start));
            around.min_by(|(_, a), (_, b)| a.load().total_cmp(&b.load())).map(|(i, _)| i)
        }
        Balancing::PeakEwma => {
            // Of two, the better one: nearly as good as the best of all, and never all at once to the same (Mitzenmacher,
            // "The power of two choices in randomized load balancing", 2001).
            let first = dice.below(count);
            let second = (first + 1 + dice.below(count - 1)) % count;
            let (a, b) = (nth(first)?, nth(second)?);
            Some(if b.1.cost() < a.1.cost() { b.0 } else { a.0 })
        }
    }
}

/// One at random, with chances by `share`.
fn drawn<'c>(
    candidates: impl Iterator<Item = (usize, &'c Candidate)> + Clone,
    share: impl Fn(&Candidate) -> f64,
    dice: &mut Dice,
) -> Option<usize> {
    let total: f64 = candidates.clone().map(|(_, c)| share(c)).sum();
    let mut roll = dice.unit() * total;
    let mut last = None;
    for (i, candidate) in candidates {
        last = Some(i);
        roll -= share(candidate);
        if roll < 0.0 {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Balancing; 5] = [
        Balancing::RoundRobin,
        Balancing::Random,
        Balancing::LeastConnections,
        Balancing::PeakEwma,
        Balancing::Weighted,
    ];

    /// How many of 10,000 choices each candidate gets.
    fn shares(strategy: Balancing, candidates: &[Candidate]) -> Vec<usize> {
        let (turn, mut dice) = (AtomicUsize::new(0), Dice::new(7));
        let mut counts = vec![0; candidates.len()];
        for _ in 0..10_000 {
            counts[choose(strategy, candidates, &turn, &mut dice).expect("somebody")] += 1;
        }
        counts
    }

    fn near(counts: &[usize], want: &[usize]) -> bool {
        counts.iter().zip(want).all(|(c, w)| c.abs_diff(*w) < 300)
    }

    #[test]
    fn alike_get_alike() {
        for strategy in ALL {
            let counts = shares(strategy, &[Candidate::default(); 4]);
            assert!(near(&counts, &[2_500; 4]), "{strategy:?} {counts:?}");
        }
    }

    #[test]
    fn who_differs() {
        let a = Candidate::default();
        let light = Candidate { weight: 300, ..a };
        let weak = Candidate { factor: 0.1, ..a };
        let busy = Candidate { outstanding: 5, ..a };
        let (quick, slow) = (Candidate { peak_us: 100.0, ..a }, Candidate { peak_us: 1_000.0, ..a });
        use Balancing::*;
        for (strategy, candidates, want) in [
            (Weighted, [light, a], [7_500, 2_500]),
            (Random, [light, a], [5_000, 5_000]),
            (RoundRobin, [light, a], [5_000, 5_000]),
            (LeastConnections, [busy, a], [0, 10_000]),
            (PeakEwma, [quick, slow], [10_000, 0]),
            (PeakEwma, [Candidate { outstanding: 20, ..quick }, slow], [0, 10_000]),
            (PeakEwma, [a, slow], [10_000, 0]),
            (Random, [weak, a], [909, 9_091]),
            (Weighted, [weak, a], [909, 9_091]),
            (RoundRobin, [weak, a], [909, 9_091]),
            (LeastConnections, [weak, busy], [0, 10_000]),
        ] {
            let counts = shares(strategy, &candidates);
            assert!(near(&counts, &want), "{strategy:?} {counts:?} not {want:?}");
        }
    }

    #[test]
    fn nobody_and_the_only_one() {
        let (turn, mut dice) = (AtomicUsize::new(0), Dice::new(7));
        let gone = Candidate { available: false, ..Candidate::default() };
        for strategy in ALL {
            assert_eq!(choose(strategy, &[], &turn, &mut dice), None);
            assert_eq!(choose(strategy, &[gone], &turn, &mut dice), None);
            assert_eq!(choose(strategy, &[gone, Candidate::default()], &turn, &mut dice), Some(1));
        }
    }

    fn candidate() -> impl Strategy<Value = Candidate> {
        (any::<bool>(), 0..locality::LEVELS, 1u32..=1000, 0f32..=1.0, 0u32..100, 0f64..1e7).prop_map(
            |(available, level, weight, factor, outstanding, peak_us)| Candidate {
                available,
                level,
                weight,
                factor,
                outstanding,
                peak_us,
            },
        )
    }

    proptest! {
        #[test]
        fn who_is_chosen_is_available(
            candidates in prop::collection::vec(candidate(), 0..8),
            strategy in prop::sample::select(ALL.to_vec()),
            seed in any::<u64>(),
            turn in any::<usize>(),
        ) {
            let (turn, mut dice) = (AtomicUsize::new(turn), Dice::new(seed));
            let chosen = choose(strategy, &candidates, &turn, &mut dice);
            prop_assert_eq!(chosen.is_some(), candidates.iter().any(|c| c.available));
            prop_assert!(chosen.is_none_or(|i| candidates[i].available));
        }
    }
}
