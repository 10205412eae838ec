//! How well each server is, from how its uses went and what probes say.
//!
//! Whoever uses a server calls [`Health::begin`] and [`Health::end`]: a few relaxed atomics, no lock, no allocation.
//! What follows from that is worked out by [`tick`], for all servers of a cluster at once, since being slow or failing
//! is being slower, or failing more, than one's peers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::*};
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::latency::{Buckets, Newest, PeakEwma};
use super::outcome::{Failure, KINDS, Outcome};
use super::outlier::{self, Cause, News, Outlier, Standing};
use super::score::Score;
use crate::core::clock::Instant;

/// Windows that count, and how long each is: what is older than eight seconds is forgotten.
const WINDOWS: usize = 4;
const WINDOW: Duration = Duration::from_secs(2);
/// Uses from which on latencies are compared.
const ENOUGH: usize = 10;
/// How many times slower than its peers a server must be to be left to those who have no other choice.
const MUCH_SLOWER: f64 = 3.0;
/// What is left of that after each tick in which too little is known to tell: a tenth after three seconds.
const FORGOTTEN: f64 = 0.93;
/// Probes that must fail in a row before a server counts as unreachable.
pub const UNREACHABLE: u32 = 2;

/// What a probe has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// Its round trip.
    pub round_trip: Duration,
    /// How far the server is behind; zero for a primary.
    pub lag: Duration,
    /// Whether it refuses writes though it should take them.
    pub read_only: bool,
}

/// What is known of one server.
#[derive(Debug)]
pub struct Health {
    peak: PeakEwma,
    outstanding: AtomicU32,
    /// Failures since the last answer.
    consecutive: AtomicU32,
    answered: AtomicU64,
    failed: [AtomicU64; KINDS],
    buckets: Buckets,
    /// [`Standing`], as a number.
    standing: AtomicU8,
    /// What of its share it should have: 1000 for all.
    permille: AtomicU32,
    /// How much more than its latency says a use of it costs, in thousandths.
    slowness: AtomicU32,
    judged: Mutex<Judged>,
}

/// What [`tick`] keeps.
#[derive(Debug)]
struct Judged {
    windows: VecDeque<Window>,
    newest: Newest,
    outlier: Outlier,
    probe: Probe,
    /// Least round trip of late.
    nearest: Duration,
    probe_failures: u32,
    score: Score,
    summary: Summary,
    /// Counters as they were at the last tick, and what had come since the one before.
    seen: (u64, [u64; KINDS]),
    news: News,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    answered: u64,
    failed: [u64; KINDS],
    latency: Histogram<u64>,
}

impl Window {
    fn new(began: Instant) -> Window {
        let latency = Histogram::new(2).expect("the number of digits is a constant");
        Window { began, answered: 0, failed: [0; KINDS], latency }
    }
}

/// What happened within the windows that count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Uses that were answered.
    pub answered: u64,
    /// Uses that failed, by kind (the order of [`Failure::ALL`]).
    pub failed: [u64; KINDS],
    /// Median latency of the newest, in microseconds: what has changed shows at once.
    pub p50_us: u64,
    /// The same, where there are enough to compare.
    newest_us: Option<u64>,
    /// 99th percentile of latencies, in microseconds.
    pub p99_us: u64,
}

impl Summary {
    /// Uses that failed.
    pub fn failures(&self) -> u64 {
        self.failed.iter().sum()
    }

    fn of(&self, kind: Failure) -> u64 {
        self.failed.get(kind as usize).copied().unwrap_or_default()
    }
}

/// Everything about a server's health, for observers.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Its score and the parts of it.
    pub score: Score,
    /// What it is made of.
    pub summary: Summary,
    /// The last probe.
    pub probe: Probe,
    /// Probes that have failed since.
    pub probe_failures: u32,
    /// Whether it is kept away from.
    pub standing: Standing,
    /// How often it has been.
    pub ejections: u64,
    /// Uses under way.
    pub outstanding: u32,
    /// Its decaying peak latency, in microseconds.
    pub peak_us: u64,
    /// What of its share it should have, in thousandths.
    pub permille: u32,
    /// Uses that failed, ever, by kind (the order of [`Failure::ALL`]).
    pub failed: [u64; KINDS],
    /// Uses that were answered, ever.
    pub answered: u64,
}

impl Health {
    /// Nothing known, and nothing held against it.
    pub fn new(now: Instant) -> Health {
        let judged = Judged {
            windows: VecDeque::from([Window::new(now)]),
            newest: Newest::default(),
            outlier: Outlier::new(now),
            probe: Probe::default(),
            nearest: Duration::ZERO,
            probe_failures: 0,
            score: Score { total: 100, ..Score::default() },
            summary: Summary::default(),
            seen: (0, [0; KINDS]),
            news: News::default(),
        };
        Health {
            peak: PeakEwma::new(now),
            outstanding: AtomicU32::new(0),
            consecutive: AtomicU32::new(0),
            answered: AtomicU64::new(0),
            failed: Default::default(),
            buckets: Buckets::default(),
            standing: AtomicU8::new(Standing::In as u8),
            permille: AtomicU32::new(1000),
            slowness: AtomicU32::new(1000),
            judged: Mutex::new(judged),
        }
    }

    /// The server is about to be used.
    #[inline]
    pub fn begin(&self) {
        self.outstanding.fetch_add(1, Relaxed);
    }

    /// A use that [`Health::begin`] was called for is over; `None` where it says nothing of the server.
    #[inline]
    pub fn end(&self, outcome: Option<Outcome>, now: Instant) {
        self.outstanding.fetch_sub(1, Relaxed);
        if let Some(outcome) = outcome {
            self.record(outcome, now);
        }
    }

    /// How something went that was not counted as under way: a connection that could not be opened, say.
    pub fn record(&self, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Answered(took) => {
                let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                self.peak.record(us, now);
                self.buckets.record(us);
                self.answered.fetch_add(1, Relaxed);
                // Usually it is zero, and every worker has it in its cache.
                if self.consecutive.load(Relaxed) != 0 {
                    self.consecutive.store(0, Relaxed);
                }
            }
            Outcome::Failed(kind) => {
                if let Some(counter) = self.failed.get(kind as usize) {
                    counter.fetch_add(1, Relaxed);
                }
                self.consecutive.fetch_add(1, Relaxed);
            }
        }
    }

    /// Uses under way.
    #[inline]
    pub fn outstanding(&self) -> u32 {
        self.outstanding.load(Relaxed)
    }

    /// The decaying peak latency, in microseconds; 0 where nothing is known.
    #[inline]
    pub fn peak_us(&self, now: Instant) -> f64 {
        self.peak.get(now)
    }

    /// What a use of it costs more than its latency says, for strategies that look at that: 1, and more where it is much
    /// slower than its peers. Latency times load alone would give it a share as soon as they are busy: a small one, and
    /// enough to be what the slowest reads take.
    #[inline]
    pub fn slowness(&self) -> f64 {
        f64::from(self.slowness.load(Relaxed)) / 1000.0
    }

    /// Whether it is kept away from.
    #[inline]
    pub fn standing(&self) -> Standing {
        match self.standing.load(Relaxed) {
            n if n == Standing::Ejected as u8 => Standing::Ejected,
            n if n == Standing::Trial as u8 => Standing::Trial,
            _ => Standing::In,
        }
    }

    /// Whether it may be used now: on trial, once at a time.
    #[inline]
    pub fn is_usable(&self) -> bool {
        match self.standing() {
            Standing::In => true,
            Standing::Ejected => false,
            Standing::Trial => self.outstanding() == 0,
        }
    }

    /// What of its share it should have, 0 to 1: less while it is unwell, or has just come back. Latency stays out of
    /// it: the strategies that look at latency do so themselves.
    #[inline]
    pub fn factor(&self) -> f32 {
        self.permille.load(Relaxed) as f32 / 1000.0
    }

    /// A probe was answered.
    pub fn probed(&self, probe: Probe) {
        let mut judged = self.judged.lock();
        let nearest = if judged.nearest.is_zero() { probe.round_trip } else { judged.nearest };
        // Creeps up, so that a network that has become longer is believed in the end.
        judged.nearest = probe.round_trip.min(nearest + nearest / 100);
        judged.probe = probe;
        judged.probe_failures = 0;
    }

    /// A probe was not answered. Tells how many in a row.
    pub fn probe_failed(&self) -> u32 {
        let mut judged = self.judged.lock();
        judged.probe_failures = judged.probe_failures.saturating_add(1);
        judged.probe_failures
    }

    /// Probes that were not answered since the last that was.
    pub fn probe_failures(&self) -> u32 {
        self.judged.lock().probe_failures
    }

    /// The least round trip of late.
    pub fn nearest(&self) -> Duration {
        self.judged.lock().nearest
    }

    /// It is another server now: what was known is of no use.
    pub fn reset(&self, now: Instant) {
        self.peak.reset();
        self.consecutive.store(0, Relaxed);
        let mut judged = self.judged.lock();
        judged.windows = VecDeque::from([Window::new(now)]);
        judged.outlier.reset(now);
        (judged.probe_failures, judged.nearest) = (0, Duration::ZERO);
        self.standing.store(Standing::In as u8, Relaxed);
    }

    /// Everything, for observers.
    pub fn report(&self, now: Instant) -> Report {
        let judged = self.judged.lock();
        Report {
            score: judged.score,
            summary: judged.summary,
            probe: judged.probe,
            probe_failures: judged.probe_failures,
            standing: judged.outlier.standing(),
            ejections: judged.outlier.ejections,
            outstanding: self.outstanding(),
            peak_us: self.peak_us(now) as u64,
            permille: self.permille.load(Relaxed),
            failed: std::array::from_fn(|i| self.failed.get(i).map_or(0, |f| f.load(Relaxed))),
            answered: self.answered.load(Relaxed),
        }
    }
}

/// One server in [`tick`].
#[derive(Clone, Copy, Debug)]
pub struct Subject<'h> {
    /// What is known of it.
    pub health: &'h Health,
    /// Whether it is one of those among which reads are balanced: only they are ejected.
    pub balanced: bool,
    /// Most uses at once that it is configured for; 0 is no bound.
    pub limit: u32,
}

/// Judges the servers of one cluster. To be called a few times a second.
pub fn tick(subjects: &[Subject<'_>], now: Instant) {
    let summaries: Vec<Summary> =
        subjects.iter().map(|s| s.health.judged.lock().collect(s.health, now)).collect();
    let balanced = subjects.iter().filter(|s| s.balanced).count();
    let is_away = |s: &&Subject<'_>| s.balanced && s.health.standing() != Standing::In;
    let mut away = subjects.iter().filter(is_away).count();
    for (i, subject) in subjects.iter().enumerate() {
        let Some(summary) = summaries.get(i) else { continue };
        let peers = || {
            let others =
                summaries.iter().zip(subjects).enumerate().filter(|(j, (_, s))| *j != i && s.balanced);
            others.map(|(_, (summary, _))| summary)
        };
        let room = away < outlier::most_ejected(balanced);
        let mut judged = subject.health.judged.lock();
        let cause = cause(subject.health, summary, peers()).filter(|_| subject.balanced);
        let was = judged.outlier.standing();
        let news = News { cause, room, ..judged.news };
        judged.outlier.tick(news, now);
        let is = judged.outlier.standing();
        if was == Standing::In && is == Standing::Ejected {
            away += 1;
            // What led to this must not lead to it again.
            subject.health.consecutive.store(0, Relaxed);
        }
        if was == Standing::Trial && is == Standing::In {
            judged.windows = VecDeque::from([Window::new(now)]);
        }
        judged.summary = *summary;
        judged.score = judged.score(summary, peers(), subject);
        let permille = judged.permille(now);
        drop(judged);
        let slowness = match slower(summary, peers()) {
            Some(ratio) => (ratio / MUCH_SLOWER).clamp(1.0, 30.0).powi(2),
            None => 1.0 + (subject.health.slowness() - 1.0) * FORGOTTEN,
        };
        subject.health.slowness.store((slowness * 1000.0) as u32, Relaxed);
        subject.health.standing.store(is as u8, Relaxed);
        subject.health.permille.store(permille, Relaxed);
    }
}

/// Why a server is to be ejected, if it is.
fn cause<'s>(health: &Health, summary: &Summary, peers: impl Iterator<Item = &'s Summary>) -> Option<Cause> {
    if health.consecutive.load(Relaxed) >= outlier::CONSECUTIVE {
        return Some(Cause::Consecutive);
    }
    let share = |failed: u64, answered: u64| failed as f64 / (failed + answered).max(1) as f64;
    let own = share(summary.failures(), summary.answered);
    let (failed, answered) = peers.fold((0, 0), |(f, a), peer| (f + peer.failures(), a + peer.answered));
    let failing = summary.failures() + summary.answered >= outlier::VOLUME
        && own >= outlier::FAILING
        && own >= share(failed, answered) + outlier::MORE_THAN_PEERS;
    failing.then_some(Cause::Share)
}

impl Judged {
    /// Takes what has been recorded into the current window, and sums up those that count.
    fn collect(&mut self, health: &Health, now: Instant) -> Summary {
        if self.windows.back().is_none_or(|w| now.since(w.began) >= WINDOW) {
            self.windows.push_back(Window::new(now));
        }
        let oldest = WINDOW * WINDOWS as u32;
        while self.windows.len() > 1 && self.windows.front().is_some_and(|w| now.since(w.began) > oldest) {
            self.windows.pop_front();
        }
        let answered = health.answered.load(Relaxed);
        let failed: [u64; KINDS] =
            std::array::from_fn(|i| health.failed.get(i).map_or(0, |f| f.load(Relaxed)));
        self.news = News { answered: answered.saturating_sub(self.seen.0), ..News::default() };
        if let Some(window) = self.windows.back_mut() {
            let mut came = Histogram::<u64>::new(2).expect("the number of digits is a constant");
            health.buckets.drain_into(&mut came);
            self.newest.add(&came, now);
            // It resizes itself.
            let _ = window.latency.add(&came);
            window.answered += self.news.answered;
            for ((sum, now), seen) in window.failed.iter_mut().zip(failed).zip(self.seen.1) {
                *sum += now.saturating_sub(seen);
                self.news.failed += now.saturating_sub(seen);
            }
        }
        self.seen = (answered, failed);
        let mut summary = Summary::default();
        let mut latency = Histogram::<u64>::new(2).expect("the number of digits is a constant");
        for window in self.windows.iter().rev() {
            summary.answered += window.answered;
            summary.failed.iter_mut().zip(window.failed).for_each(|(sum, n)| *sum += n);
            // It resizes itself.
            let _ = latency.add(&window.latency);
        }
        summary.newest_us = self.newest.median(ENOUGH);
        summary.p50_us = self.newest.median(1).unwrap_or_else(|| latency.value_at_quantile(0.5));
        summary.p99_us = latency.value_at_quantile(0.99);
        summary
    }

    fn score<'s>(&self, own: &Summary, peers: impl Iterator<Item = &'s Summary>, of: &Subject<'_>) -> Score {
        let limited = |points: f64, most: f64| points.clamp(0.0, most) as u8;
        let uses = own.answered + own.failures();
        let lag_ms = self.probe.lag.as_secs_f64() * 1000.0;
        let slow = self.probe.round_trip > (self.nearest * 10).max(Duration::from_millis(50));
        let busy = match of.limit {
            0 => 0.0,
            limit => f64::from(of.health.outstanding()) / f64::from(limit),
        };
        let mut score = Score {
            total: 0,
            latency: limited(latency_points(own, peers), 40.0),
            errors: limited(100.0 * own.failures() as f64 / uses.max(ENOUGH as u64) as f64, 50.0),
            connects: limited(10.0 * own.of(Failure::Connect) as f64, 30.0),
            probe: match self.probe_failures {
                0 => u8::from(slow) * 20,
                n if n < UNREACHABLE => 30,
                _ => 100,
            },
            lag: limited(10.0 * (lag_ms.max(1.0) / 100.0).log10(), 30.0),
            saturation: limited(
                (busy - 0.8).max(0.0) * 100.0 + 5.0 * own.of(Failure::Resources) as f64,
                20.0,
            ),
            storage: match own.of(Failure::DiskFull) + own.of(Failure::Storage) {
                0 => u8::from(self.probe.read_only) * 30,
                _ => 30,
            },
        };
        score.total = 100u8.saturating_sub(score.lost().saturating_add(score.latency));
        score
    }

    fn permille(&self, now: Instant) -> u32 {
        let well = f64::from(100u8.saturating_sub(self.score.lost())) / 100.0;
        (1000.0 * well * self.outlier.ramp(now)) as u32
    }
}

/// Points for being slower than the median of the peers.
fn latency_points<'s>(own: &Summary, peers: impl Iterator<Item = &'s Summary>) -> f64 {
    13.0 * (slower(own, peers).unwrap_or(0.0) / 1.5).max(1.0).log2()
}

/// How many times slower than the median of the peers, where enough is known to tell.
fn slower<'s>(own: &Summary, peers: impl Iterator<Item = &'s Summary>) -> Option<f64> {
    let mut medians: Vec<u64> = peers.filter_map(|p| p.newest_us).collect();
    medians.sort_unstable();
    let median = *medians.get(medians.len() / 2)?;
    Some(own.newest_us? as f64 / median.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(health: &Health) -> Subject<'_> {
        Subject { health, balanced: true, limit: 0 }
    }

    fn answered(health: &Health, us: u64, n: usize, now: Instant) {
        (0..n).for_each(|_| health.record(Outcome::Answered(Duration::from_micros(us)), now));
    }

    fn failed(health: &Health, kind: Failure, n: usize, now: Instant) {
        (0..n).for_each(|_| health.record(Outcome::Failed(kind), now));
    }

    #[test]
    fn parts_of_the_score() {
        let now = Instant::now();
        type Do = fn(&Health, Instant);
        type Part = fn(&Score) -> u8;
        let cases: &[(&str, Do, Part, std::ops::RangeInclusive<u8>)] = &[
            ("well", |_, _| {}, |s| 100 - s.total, 0..=0),
            ("ten times slower", |h, now| answered(h, 10_000, 500, now), |s| s.latency, 30..=40),
            ("a little slower", |h, now| answered(h, 1_200, 500, now), |s| s.latency, 0..=0),
            ("two slow ones", |h, now| answered(h, 90_000, 2, now), |s| s.latency, 0..=0),
            (
                "a tenth fails",
                |h, now| {
                    for _ in 0..10 {
                        answered(h, 1_000, 9, now);
                        failed(h, Failure::Timeout, 1, now);
                    }
                },
                |s| s.errors,
                10..=10,
            ),
            ("no connection", |h, now| failed(h, Failure::Connect, 2, now), |s| s.connects, 20..=20),
            ("one probe", |h, _| assert_eq!(h.probe_failed(), 1), |s| s.probe, 30..=30),
            (
                "no probe",
                |h, _| (1..3).for_each(|n| assert_eq!(h.probe_failed(), n)),
                |s| 100 - s.total,
                100..=100,
            ),
            (
                "behind",
                |h, _| h.probed(Probe { lag: Duration::from_secs(10), ..Probe::default() }),
                |s| s.lag,
                20..=20,
            ),
            (
                "nearly behind",
                |h, _| h.probed(Probe { lag: Duration::from_millis(90), ..Probe::default() }),
                |s| s.lag,
                0..=0,
            ),
            ("disk full", |h, now| failed(h, Failure::DiskFull, 1, now), |s| s.storage, 30..=30),
            (
                "read only",
                |h, _| h.probed(Probe { read_only: true, ..Probe::default() }),
                |s| s.storage,
                30..=30,
            ),
            ("no slots", |h, now| failed(h, Failure::Resources, 3, now), |s| s.saturation, 15..=15),
            ("busy", |h, _| (0..95).for_each(|_| h.begin()), |s| s.saturation, 14..=16),
        ];
        for (what, make, part, want) in cases {
            let healths = [Health::new(now), Health::new(now), Health::new(now)];
            answered(&healths[1], 1_000, 100, now);
            answered(&healths[2], 1_000, 100, now);
            make(&healths[0], now);
            let mut subjects = [0, 1, 2].map(|i| subject(&healths[i]));
            subjects[0].limit = 100;
            tick(&subjects, now);
            let score = healths[0].report(now).score;
            assert!(want.contains(&part(&score)), "{what}: {score:?}");
        }
    }

    #[test]
    fn what_is_long_past_is_forgotten() {
        let now = Instant::now();
        let health = Health::new(now);
        failed(&health, Failure::Timeout, 4, now);
        tick(&[subject(&health)], now);
        assert_eq!(health.report(now).summary.failures(), 4);
        let later = now + Duration::from_secs(11);
        tick(&[subject(&health)], later);
        tick(&[subject(&health)], later);
        let report = health.report(later);
        assert_eq!((report.summary.failures(), report.score.total), (0, 100));
        assert_eq!(report.failed.iter().sum::<u64>(), 4, "counters only grow");
    }

    #[test]
    fn at_most_half_are_away() {
        let now = Instant::now();
        let healths: Vec<Health> = (0..5).map(|_| Health::new(now)).collect();
        healths.iter().for_each(|h| failed(h, Failure::Lost, 10, now));
        tick(&healths.iter().map(subject).collect::<Vec<_>>(), now);
        let away = healths.iter().filter(|h| !h.is_usable()).count();
        assert_eq!(away, 2);
        let alone = Health::new(now);
        failed(&alone, Failure::Lost, 10, now);
        tick(&[subject(&alone)], now);
        assert!(alone.is_usable(), "the only one is better than none");
        let primary = Health::new(now);
        failed(&primary, Failure::Lost, 10, now);
        tick(&[Subject { balanced: false, ..subject(&primary) }, subject(&alone)], now);
        assert!(primary.is_usable(), "nobody else can do its work");
    }

    #[test]
    fn what_fails_everywhere_is_nobodys_fault() {
        let now = Instant::now();
        let healths: Vec<Health> = (0..4).map(|_| Health::new(now)).collect();
        for health in &healths {
            for _ in 0..20 {
                failed(health, Failure::Timeout, 2, now);
                answered(health, 1_000, 1, now);
            }
        }
        let subjects: Vec<_> = healths.iter().map(subject).collect();
        tick(&subjects, now);
        assert!(healths.iter().all(Health::is_usable));
        // One alone is.
        for health in &healths[1..] {
            answered(health, 1_000, 1_000, now);
        }
        tick(&subjects, now);
        assert_eq!(healths[0].standing(), Standing::Ejected);
    }

    #[test]
    fn one_at_a_time_on_trial() {
        let now = Instant::now();
        let healths = [Health::new(now), Health::new(now)];
        failed(&healths[0], Failure::Lost, 5, now);
        let tick = |at: Instant| super::tick(&[subject(&healths[0]), subject(&healths[1])], at);
        tick(now);
        assert!(!healths[0].is_usable());
        let later = now + Duration::from_secs(3);
        tick(later);
        assert_eq!(healths[0].standing(), Standing::Trial);
        assert!(healths[0].is_usable());
        healths[0].begin();
        assert!(!healths[0].is_usable());
        healths[0].end(Some(Outcome::Answered(Duration::from_millis(1))), later);
        answered(&healths[0], 1_000, 2, later);
        tick(later);
        assert_eq!(healths[0].standing(), Standing::In);
        assert!(healths[0].factor() < 0.2, "it starts slowly");
        tick(later + Duration::from_secs(6));
        assert_eq!(healths[0].factor(), 1.0);
    }
}
