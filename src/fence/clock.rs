//! Samples of the primary's position, counted; and how far each replica is in them.

use std::sync::atomic::{AtomicU64, Ordering::*};

use parking_lot::Mutex;

use super::{Lsn, Number};
use crate::core::clock::Instant;

/// One sample that has come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its number.
    pub number: Number,
    /// All that was acknowledged before the number was taken lies before this.
    pub lsn: Lsn,
    /// When the number was taken, as the caller told.
    pub at: Instant,
}

/// Samples that are kept.
const KEPT: usize = 512;

/// Counts samples of one primary after the other. Numbers go on over a change of the primary.
#[derive(Debug)]
pub struct Clock {
    /// The last number that was taken.
    begun: AtomicU64,
    /// Only probes come here, a few times a second; sessions read the counter.
    samples: Mutex<Samples>,
}

#[derive(Debug, Default)]
struct Samples {
    /// Numbers and positions both grow.
    kept: Vec<Sample>,
    /// Samples up to this number are of an earlier primary.
    floor: Number,
}

impl Default for Clock {
    /// Begins with 1: a fence of that is one that only samples from now on are past.
    fn default() -> Self {
        Clock { begun: AtomicU64::new(1), samples: Mutex::default() }
    }
}

impl Clock {
    /// Takes the next number, for a sample that is about to be asked for.
    pub fn begin(&self) -> Number {
        // Ordered with what sessions read in `now`: who hears of a commit that came after the sample's question was
        // sent must not read a number from before it was taken.
        self.begun.fetch_add(1, SeqCst) + 1
    }

    /// The last number that was taken: the fence of a write that has been acknowledged just now.
    #[inline]
    pub fn now(&self) -> Number {
        self.begun.load(SeqCst)
    }

    /// Notes the answer to the sample of that number: the end of the primary's records ([`super::Geometry`]). Answers
    /// that come late, or from an earlier primary, are of no use and are dropped.
    pub fn sampled(&self, number: Number, lsn: Lsn, at: Instant) {
        let mut samples = self.samples.lock();
        if number <= samples.floor || samples.kept.last().is_some_and(|last| number <= last.number) {
            return;
        }
        // An earlier sample with no smaller position says nothing any more: who has replayed it has replayed this one.
        // Positions shrink where a primary restarts after a crash and what it had not written is lost.
        while samples.kept.last().is_some_and(|last| last.lsn >= lsn) {
            samples.kept.pop();
        }
        if samples.kept.len() >= KEPT {
            samples.thin();
        }
        samples.kept.push(Sample { number, lsn, at });
    }

    /// Another server has become the primary: what was sampled so far says nothing of its WAL, nor do samples that are
    /// under way.
    pub fn rebase(&self) {
        let mut samples = self.samples.lock();
        samples.kept.clear();
        samples.floor = self.now();
    }

    /// The newest sample.
    pub fn newest(&self) -> Option<Sample> {
        self.samples.lock().kept.last().copied()
    }

    /// The oldest sample that is kept.
    pub fn oldest(&self) -> Option<Sample> {
        self.samples.lock().kept.first().copied()
    }

    /// When the newest sample was taken whose number is no greater: who has passed that number has all that was
    /// acknowledged before then.
    pub fn taken(&self, number: Number) -> Option<Instant> {
        let samples = self.samples.lock();
        let n = samples.kept.partition_point(|sample| sample.number <= number);
        Some(samples.kept.get(n.checked_sub(1)?)?.at)
    }

    /// The newest sample that lies before a position or at it, and whether it is the newest of all.
    pub fn before(&self, lsn: Lsn) -> Option<(Sample, bool)> {
        let samples = self.samples.lock();
        let n = samples.kept.partition_point(|sample| sample.lsn <= lsn);
        let sample = *samples.kept.get(n.checked_sub(1)?)?;
        Some((sample, n == samples.kept.len()))
    }
}

impl Samples {
    /// Makes room by leaving out the sample that is missed least: where the gap would be smallest for its age. The
    /// older, the sparser: a replica that is far behind still finds a sample that it has passed, if not the very last.
    fn thin(&mut self) {
        let newest = self.kept.last().map_or(0, |last| last.number);
        let missed = |around: &[Sample]| match around {
            [before, it, after] => (after.number - before.number) as f64 / (newest - it.number + 1) as f64,
            _ => f64::MAX,
        };
        let least = self.kept.windows(3).enumerate().min_by(|(_, a), (_, b)| missed(a).total_cmp(&missed(b)));
        if let Some(i) = least.map(|(i, _)| i + 1) {
            self.kept.remove(i);
        }
    }
}

/// How far a replica is: the greatest number whose position it has replayed.
#[derive(Debug, Default)]
pub struct Passed {
    number: AtomicU64,
    /// What it must be past to serve anything that has been forgotten about.
    floor: AtomicU64,
}

impl Passed {
    /// For a replica that comes later than others: fences that those were past may have been forgotten, so it must be
    /// past everything until now.
    pub fn since(now: Number) -> Passed {
        Passed { number: AtomicU64::new(super::NONE), floor: AtomicU64::new(now) }
    }

    /// The replica has replayed everything up to a position. Never moves back. Tells the sample that the position was
    /// found to be past, and whether that is the newest of all; none where all samples lie after it.
    pub fn replayed(&self, clock: &Clock, lsn: Lsn) -> Option<(Sample, bool)> {
        let found = clock.before(lsn)?;
        self.number.fetch_max(found.0.number, AcqRel);
        Some(found)
    }

    /// The number.
    #[inline]
    pub fn get(&self) -> Number {
        self.number.load(Acquire)
    }

    /// Whether the replica may serve what is fenced by `fence`.
    #[inline]
    pub fn is_past(&self, fence: Number) -> bool {
        super::is_past(self.get(), fence.max(self.floor.load(Acquire)))
    }

    /// Starts again: the replica follows another primary now, or has lost what it had. It must be past everything
    /// until now ([`Clock::now`]) before it serves again.
    pub fn reset(&self, now: Number) {
        // The floor first: who reads in between is refused.
        self.floor.fetch_max(now, SeqCst);
        self.number.store(super::NONE, SeqCst);
    }
}
