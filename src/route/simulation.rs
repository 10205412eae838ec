//! Servers that become slow, stall and fail, in virtual time: who gets how much, and how soon.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::*;
use crate::config::Balancing;
use crate::core::clock::Instant;

/// How one use of a server goes: it takes this many microseconds, and fails or not.
type Use = (u64, Option<Failure>);

const SERVERS: usize = 3;
/// Time between two statements, in microseconds, unless a test says otherwise: two thousand a second.
const EVERY_US: u64 = 500;
/// Time between two looks at everybody.
const TICK_US: u64 = 100_000;

/// A use that is under way: its end, the server, the kind of its failure, and how long it takes.
type UnderWay = (u64, usize, Option<usize>, u64);

struct World {
    start: Instant,
    us: u64,
    every_us: u64,
    strategy: Balancing,
    healths: Vec<Health>,
    turn: AtomicUsize,
    dice: Dice,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    /// Most servers that were away at once.
    most_away: usize,
}

impl World {
    fn new(strategy: Balancing, seed: u64) -> World {
        let start = Instant::now();
        World {
            start,
            us: 0,
            every_us: EVERY_US,
            strategy,
            healths: (0..SERVERS).map(|_| Health::new(start)).collect(),
            turn: AtomicUsize::new(0),
            dice: Dice::new(seed),
            under_way: BinaryHeap::new(),
            most_away: 0,
        }
    }

    fn at(&self, us: u64) -> Instant {
        self.start + Duration::from_micros(us)
    }

    fn candidates(&self) -> Vec<Candidate> {
        let now = self.at(self.us);
        let candidate = |h: &Health| Candidate {
            available: h.is_usable(),
            factor: h.factor(),
            outstanding: h.outstanding(),
            peak_us: h.peak_us(now) * h.slowness(),
            ..Candidate::default()
        };
        self.healths.iter().map(candidate).collect()
    }

    /// Lets a time pass; tells what part of the statements each server got.
    fn run(&mut self, time: Duration, mut go: impl FnMut(usize, &mut Dice) -> Use) -> [f64; SERVERS] {
        let end = self.us + time.as_micros() as u64;
        let mut counts = [0u32; SERVERS];
        while self.us < end {
            self.us += self.every_us;
            while let Some(Reverse((done, server, failure, took))) =
                self.under_way.peek().copied().filter(|Reverse(next)| next.0 <= self.us)
            {
                self.under_way.pop();
                let outcome = match failure {
                    None => Outcome::Answered(Duration::from_micros(took)),
                    Some(kind) => Outcome::Failed(Failure::ALL[kind]),
                };
                self.healths[server].end(Some(outcome), self.at(done));
            }
            if self.us.is_multiple_of(TICK_US) {
                let subjects: Vec<_> = self
                    .healths
                    .iter()
                    .map(|health| health::Subject { health, balanced: true, limit: 0 })
                    .collect();
                tick(&subjects, self.at(self.us));
                let away = self.healths.iter().filter(|h| h.standing() == Standing::Ejected).count();
                self.most_away = self.most_away.max(away);
            }
            let candidates = self.candidates();
            let Some(i) = choose(self.strategy, &candidates, &self.turn, &mut self.dice) else { continue };
            counts[i] += 1;
            self.healths[i].begin();
            let (took, failure) = go(i, &mut self.dice);
            self.under_way.push(Reverse((self.us + took, i, failure.map(|f| f as usize), took)));
        }
        let total = counts.iter().sum::<u32>().max(1);
        counts.map(|n| f64::from(n) / f64::from(total))
    }

    fn ejections(&self) -> u64 {
        let now = self.at(self.us);
        self.healths.iter().map(|h| h.report(now).ejections).sum()
    }

    fn score(&self, server: usize) -> u8 {
        self.healths[server].report(self.at(self.us)).score.total
    }
}

/// One to two milliseconds.
fn usual(dice: &mut Dice) -> u64 {
    1_000 + dice.below(1_000) as u64
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn a_slow_server_loses_its_share_and_gets_it_back() {
    for (seed, every_us) in [(0, 500), (1, 500), (2, 150), (3, 2_000), (4, 10_000)] {
        let mut world = World { every_us, ..World::new(Balancing::PeakEwma, seed) };
        let before = world.run(seconds(10), |_, dice| (usual(dice), None));
        assert!(before.iter().all(|share| (0.2..0.47).contains(share)), "{before:?}");
        let slow = |i: usize, dice: &mut Dice| (usual(dice) * if i == 0 { 10 } else { 1 }, None);
        world.run(seconds(2), slow);
        let during = world.run(seconds(20), slow);
        assert!(during[0] < 0.01, "{during:?}");
        assert!(world.score(1) > 95, "the others are as well as ever: {}", world.score(1));
        world.run(seconds(9), |_, dice| (usual(dice), None));
        let after = world.run(seconds(5), |_, dice| (usual(dice), None));
        assert!(after[0] > 0.2, "{after:?}");
        assert_eq!(world.ejections(), 0, "slow is not broken");
    }
}

#[test]
fn stalls_do_not_make_it_flap() {
    for seed in 0..5 {
        let mut world = World::new(Balancing::PeakEwma, seed);
        let stalls = |i: usize, dice: &mut Dice| {
            let stalled = i == 0 && dice.unit() < 0.2;
            (if stalled { 50_000 } else { usual(dice) }, None)
        };
        world.run(seconds(5), stalls);
        let (mut shares, mut scores) = (Vec::new(), Vec::new());
        for _ in 0..30 {
            shares.push(world.run(seconds(2), stalls)[0]);
            scores.push(world.score(0));
        }
        assert_eq!(world.ejections(), 0);
        assert!(shares.iter().all(|share| *share < 0.2), "it stays where it is: {shares:?}");
        assert!(scores.iter().all(|score| *score > 60), "its median is as good as ever: {scores:?}");
    }
}

#[test]
fn stalls_of_all_change_nothing() {
    let mut world = World::new(Balancing::PeakEwma, 3);
    let stalls = |_: usize, dice: &mut Dice| (if dice.unit() < 0.2 { 50_000 } else { usual(dice) }, None);
    world.run(seconds(5), stalls);
    let shares = world.run(seconds(30), stalls);
    assert!(shares.iter().all(|share| (0.25..0.42).contains(share)), "{shares:?}");
    assert_eq!(world.ejections(), 0);
}

#[test]
fn a_server_that_fails_is_kept_away_from_and_comes_back() {
    for strategy in
        [Balancing::PeakEwma, Balancing::RoundRobin, Balancing::LeastConnections, Balancing::Random]
    {
        let mut world = World::new(strategy, 1);
        world.run(seconds(5), |_, dice| (usual(dice), None));
        // Refusing is quick: who only looks at latency would send everything there.
        let refuses = |i: usize, dice: &mut Dice| match i {
            0 => (50, Some(Failure::Connect)),
            _ => (usual(dice), None),
        };
        world.run(seconds(1), refuses);
        let during = world.run(seconds(30), refuses);
        assert!(during[0] < 0.01, "{strategy:?} {during:?}");
        assert!(world.healths[0].report(world.at(world.us)).ejections > 2);
        world.run(seconds(70), |_, dice| (usual(dice), None));
        let after = world.run(seconds(5), |_, dice| (usual(dice), None));
        assert!(after[0] > 0.15, "{strategy:?} {after:?}");
    }
}

#[test]
fn the_cap_holds_when_everything_fails() {
    for seed in 0..10 {
        let mut world = World::new(Balancing::PeakEwma, seed);
        let shaky =
            |_: usize, dice: &mut Dice| (usual(dice), (dice.unit() < 0.7).then_some(Failure::Timeout));
        let shares = world.run(seconds(60), shaky);
        assert!(world.most_away <= outlier::most_ejected(SERVERS), "{}", world.most_away);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-6);
    }
}
