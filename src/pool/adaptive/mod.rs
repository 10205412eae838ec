//! Pools that size themselves: how many connections of a server may be on loan at once, found out from what gets done.
//!
//! # What is controlled
//! For each backend there is one limit, for all adaptive pools on it together; it bounds loans, not open connections, so
//! that trying another limit opens and closes nothing. [`share`] divides it among the pools.
//!
//! # How
//! TCP Vegas compares the throughput that there is with what the least round trip ever seen promises, and takes the
//! difference for what is queued (L. Brakmo, S. O'Malley, L. Peterson: TCP Vegas, 1994). Netflix's concurrency-limits
//! does the same for requests (`VegasLimit`), and in `Gradient2Limit` compares a short average of latency with a long
//! one, since the least latency of all is that of some request which had nothing to do (E. Landau and others: Performance
//! under load, 2018). Both need a floor, and both stop where latency begins to rise. A database's does so long before its
//! throughput stops: commits share a flush, processors share caches, and twenty loans with twice the latency are ten times
//! the throughput of one. So what is followed here is throughput itself, as in adaptive control of the multiprogramming
//! level: try more, keep it if more gets done (H.-U. Heiss, R. Wagner: Adaptive load control in transaction processing
//! systems, 1991, "incremental steps"; M. Abouzour, K. Salem, P. Bumbulis: Automatic tuning of the multiprogramming level
//! in Sybase SQL Anywhere, 2010).
//!
//! While clients wait, the limit goes a little up and down, one round after the other, as BBR's pacing does to find out
//! whether there is more bandwidth (N. Cardwell and others: BBR, 2016), and [`slope`] says by how much more gets done with
//! more. That is an elasticity: 1 far below what the server can do, 0 beyond it, less where loans get in each other's way.
//! The limit moves, as a logarithm, in proportion to what the elasticity is above [`ENOUGH`] or below it, as far as that is
//! more than chance would have it, so it comes to rest where ten percent more loans would get half a percent more done. By
//! Little's law, loans are throughput times latency, so latency's elasticity is one minus that: it is the same to say that
//! the limit stops growing where latency grows with it. No floor is needed for that, and none can be wrong: what was found
//! out is found out again all the time.
//!
//! # Throughput of what
//! Statements count as what their shape usually takes ([`crate::plan`] has that of each), so that throughput does not
//! change with the mix. What is slow by nature is left out ([`nature`]), and holds its connection on top of the limit as
//! long as ordinary statements get through beside it; where none does, one more is let in with each look, so that a server
//! that stands still is not buried.
//!
//! # When
//! The pools' sweeper looks ten times a second; a round is a look, or as many as it takes to see enough. Where nobody
//! waits, throughput is what clients ask for and says nothing, so the limit stays; where some have waited, but not all
//! the time, it grows slowly. [`hours`] remembers what was used at the same hour of other weeks and days.

use std::time::Duration;

use crate::core::work::{CLASSES, Done};

pub mod hours;
pub mod keep;
pub mod nature;
pub mod share;
#[cfg(test)]
mod simulation;
pub mod slope;
mod watch;

pub use watch::{LimitRow, Limits, SURPLUS_AFTER};

use nature::Nature;
use share::Claim;
use slope::Slope;

/// The elasticity at which the limit rests.
const ENOUGH: f64 = 0.04;
/// What is believed before anything is known: more gets more done.
const HOPE: f64 = 0.5;
/// So many standard errors of it may be chance. One too few costs more than one too many.
const DOUBT_UP: f64 = 0.3;
const DOUBT_DOWN: f64 = 1.0;
/// How far the limit moves in a round, as a logarithm, for each unit of elasticity beyond that, and at most.
const GAIN: f64 = 0.5;
const MOST_UP: f64 = 0.3;
const MOST_DOWN: f64 = 0.2;
/// Up and down around the level by this factor.
const SWING: f64 = 1.25;
/// Where a server could clearly do more than it may be asked to, so many rounds pass before it is looked whether that is
/// still so.
const CONTENT: u32 = 8;
/// A round has at least so many ordinary statements, and takes so many ordinary loans, but no longer than that.
const STATEMENTS: f64 = 12.0;
const LOANS: f64 = 2.0;
const LONGEST_ROUND: f64 = 20.0;
const LONG_ROUND: f64 = 1.0;
const LONG_LOAN_US: f64 = 50_000.0;
/// Below so many it goes down slowly.
const MANY: f64 = 8.0;
/// Growth in a round in which some waited, but not all the time; and what part of the loans is some.
const SOME_GROWTH: f64 = 1.05;
const SOME: f64 = 0.05;
/// Part of the limit that must be on loan for a round to say something.
const IN_USE: f64 = 0.75;
/// Where nobody waits, but statements take so many times longer than usual, as a part, it is tried whether fewer than
/// there are get as much done; unless they are few.
const CROWDED: f64 = 0.5;
const FEW: f64 = 4.0;
/// How many are on loan at a moment says little of how many are as a rule: what is left of the most with each look.
const PEAK_KEPT: f64 = 0.9;
/// How fast it is learned how many loans are slow by nature, per look.
const USUALLY: f64 = 0.1;
/// Where a limit begins.
const START: f64 = 4.0;
/// Looks within which every pool that wants something has a turn, where there are more of them than may have one.
const TURNS: u32 = 5;

/// What is seen of one pool since the last look.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// Fewest connections that it keeps: it may always have that many on loan.
    pub least: u32,
    /// And never more than that.
    pub most: u32,
    /// On loan now.
    pub lent: u32,
    /// Clients that wait now.
    pub waiting: u32,
    /// Loans, by how long they have been ([`crate::core::work::class`]).
    pub ages: [u32; CLASSES],
    /// Statements done.
    pub done: Done,
    /// How many that were, of any kind.
    pub statements: u64,
    /// Loans ended.
    pub loans: u64,
    /// Of those, had been waited for.
    pub waits: u64,
}

/// Why a limit last moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It has not.
    Start,
    /// More gets more done.
    Gain,
    /// Less gets as much done.
    Flat,
    /// Less gets more done.
    Loss,
    /// Some clients waited.
    Waits,
    /// At this hour that much was in use before.
    Hour,
    /// The configuration allows no more.
    Bound,
}

impl Why {
    /// In words, for people.
    pub fn words(self) -> &'static str {
        match self {
            Why::Start => "not moved yet",
            Why::Gain => "more connections get more done",
            Why::Flat => "fewer get as much done",
            Why::Loss => "fewer get more done",
            Why::Waits => "some clients waited",
            Why::Hour => "usual at this hour",
            Why::Bound => "the configuration's bounds",
        }
    }
}

/// What has come together of a round.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    seconds: f64,
    /// Ordinary statements: what they usually take, what they took, and how many they were.
    work_us: f64,
    took_us: f64,
    count: f64,
    looks: u32,
    /// Looks at which somebody waited whom the limit kept waiting.
    full: u32,
    /// Ordinary loans, over all looks.
    lent: u32,
    /// Those that were expected not to be.
    expected: u32,
    loans: u64,
    waits: u64,
}

/// The limit of one backend.
#[derive(Clone, Debug)]
pub struct Limiter {
    /// Around which the limit swings.
    level: f64,
    /// What holds in this round, for what is not slow by nature.
    limit: u32,
    high: bool,
    content: u32,
    round: Round,
    slope: Slope,
    nature: Nature,
    /// Loans that are on top of it, how many that usually are, and how many are therefore expected to join them: whoever
    /// comes is not known at once.
    beyond: u32,
    usually: f64,
    expected: u32,
    /// The same as it was granted at the last look.
    in_force: u32,
    /// The most on loan of late, for what is not slow by nature.
    peak: f64,
    turn: usize,
    why: Why,
    moves: [u64; 2],
    /// Of the last round: what was done in a second, in seconds of what it usually takes.
    throughput: f64,
    lent: u32,
    waiting: u32,
}

impl Default for Limiter {
    fn default() -> Self {
        Limiter::new(START)
    }
}

impl Limiter {
    /// One that begins there.
    pub fn new(level: f64) -> Limiter {
        Limiter {
            level,
            limit: level.round().max(1.0) as u32,
            high: true,
            content: 0,
            round: Round::default(),
            slope: Slope::new(HOPE),
            nature: Nature::default(),
            beyond: 0,
            usually: 0.0,
            expected: 0,
            in_force: 0,
            peak: 0.0,
            turn: 0,
            why: Why::Start,
            moves: [0; 2],
            throughput: 0.0,
            lent: 0,
            waiting: 0,
        }
    }

    /// Looks at the pools of the backend, and says how many connections each may have on loan until the next look. `bound`
    /// is the backend's own.
    pub fn look(&mut self, passed: Duration, sights: &[Sight], bound: Option<u32>) -> Vec<u32> {
        let mut done = Done::default();
        sights.iter().for_each(|s| done.add(&s.done));
        self.nature.note(&done, sights);
        let held = self.held(sights, self.nature.count(&done) >= 1.0);
        let claims: Vec<Claim> = sights.iter().zip(&held).map(|(s, held)| claim(s, *held)).collect();
        let most = sights.iter().fold(0u32, |sum, s| sum.saturating_add(s.most));
        let top = f64::from(bound.map_or(most, |bound| most.min(bound)).max(1));
        self.note(passed, sights, &done);
        let loan = (self.nature.loan_us() * 1e-6 * LOANS).min(LONGEST_ROUND);
        let enough = self.round.count >= STATEMENTS && self.round.seconds >= loan;
        if enough || self.round.seconds >= LONGEST_ROUND || self.round.full == 0 {
            self.end_round(top);
        }
        self.grants(&claims, &held)
    }

    /// How many loans of each pool are on top of the limit. `moved`: ordinary statements get through.
    fn held(&mut self, sights: &[Sight], moved: bool) -> Vec<u32> {
        let held: Vec<u32> = sights.iter().map(|s| self.nature.held(s).min(s.lent)).collect();
        let all: u32 = held.iter().sum();
        let waiting = sights.iter().any(|s| s.waiting > 0);
        self.beyond = if moved || !waiting { all } else { all.min(self.beyond + 1) };
        self.usually += (f64::from(self.beyond) - self.usually) * USUALLY;
        self.expected = (self.usually.round() as u32).saturating_sub(self.beyond);
        let mut left = self.beyond;
        let part = |held: &u32| {
            let part = left.min(*held);
            left -= part;
            part
        };
        held.iter().map(part).collect()
    }

    fn note(&mut self, passed: Duration, sights: &[Sight], done: &Done) {
        let seconds = passed.as_secs_f64();
        let (lent, waiting) = (sights.iter().map(|s| s.lent).sum(), sights.iter().map(|s| s.waiting).sum());
        (self.lent, self.waiting) = (lent, waiting);
        let round = &mut self.round;
        round.seconds += seconds;
        let (work, took) = self.nature.ordinary(done);
        round.work_us += work;
        round.took_us += took;
        round.count += self.nature.count(done);
        round.looks += 1;
        let ordinary = lent.saturating_sub(self.beyond);
        // Who waits at its own bound does not wait for us.
        let kept = sights.iter().any(|s| s.waiting > 0 && s.lent < s.most);
        round.full += u32::from(kept || ordinary >= self.limit);
        round.lent += ordinary;
        self.peak = f64::from(ordinary).max(self.peak * PEAK_KEPT);
        round.expected += self.in_force;
        round.loans += sights.iter().map(|s| s.loans).sum::<u64>();
        round.waits += sights.iter().map(|s| s.waits).sum::<u64>();
    }

    fn end_round(&mut self, top: f64) {
        let round = std::mem::take(&mut self.round);
        if round.seconds > 0.0 && round.count > 0.0 {
            self.throughput = round.work_us * 1e-6 / round.seconds;
        }
        let looks = round.looks.max(1);
        let full = round.full == looks;
        let lent = f64::from(round.lent) / f64::from(looks);
        let in_use = lent >= IN_USE * f64::from(self.limit);
        let crowded = !full && lent > 0.0 && self.peak >= FEW && self.nature.gradient() < CROWDED;
        let before = self.level;
        if full && in_use || crowded {
            let limit = f64::from(self.limit) + f64::from(round.expected) / f64::from(looks);
            let limit = if full { limit } else { self.peak.min(limit) };
            self.level = self.level.min(limit * SWING);
            self.slope.note(limit, self.got_done(&round, lent));
            let (beyond, doubt) = (self.slope.get() - ENOUGH, self.slope.doubt());
            let beyond = beyond - beyond.clamp(-doubt * DOUBT_DOWN, doubt * DOUBT_UP);
            self.level *= self.pace(beyond, round.seconds).exp();
            let why = if beyond > 0.0 {
                Why::Gain
            } else if beyond > -2.0 * ENOUGH {
                Why::Flat
            } else {
                Why::Loss
            };
            self.settle(before, top, why);
            self.swing(top);
            return;
        }
        self.slope.skip();
        // Connections that are being opened are no reason to want more of them.
        if !full && round.waits as f64 > SOME * round.loans as f64 && round.waits > 0 {
            self.level *= SOME_GROWTH;
        }
        self.settle(before, top, Why::Waits);
        self.high = true;
        self.set_limit(if full { self.limit } else { self.level.ceil() as u32 }, top);
    }

    /// What is done in a second. Where loans are long, those that end in a round are too few to be counted: then it is, by
    /// Little's law, as many as there are, as far as they do not wait for each other.
    fn got_done(&self, round: &Round, lent: f64) -> f64 {
        if self.nature.loan_us() < LONG_LOAN_US {
            return round.work_us * 1e-6 / round.seconds.max(1e-6);
        }
        if round.took_us > 0.0 { lent * round.work_us / round.took_us } else { 0.0 }
    }

    /// How far the level moves, as a logarithm.
    fn pace(&self, beyond: f64, seconds: f64) -> f64 {
        // What is seen in a long round counts for as much as in several short ones.
        let weight = 1.0 + seconds.min(LONG_ROUND);
        // The fewer there are, the less is won by having fewer, and the more is lost where it is one too few.
        let careful = if beyond < 0.0 { (self.level / MANY).min(1.0) } else { 1.0 };
        (GAIN * beyond * weight).clamp(-MOST_DOWN * weight, MOST_UP * weight) * careful
    }

    fn settle(&mut self, before: f64, top: f64, why: Why) {
        let bounded = self.level.clamp(1.0, top);
        let why = if bounded < before && self.level > bounded { Why::Bound } else { why };
        self.level = bounded;
        if self.level.round() != before.round() {
            self.why = why;
            self.moves[usize::from(self.level > before)] += 1;
        }
    }

    /// The limit of the next round: now above the level, now below it.
    fn swing(&mut self, top: f64) {
        if self.high && self.level >= top && self.slope.get() > 2.0 * ENOUGH && self.content < CONTENT {
            self.content += 1;
            return self.set_limit(top as u32, top);
        }
        self.content = 0;
        self.high = !self.high;
        let high = (self.level * SWING).ceil().max(2.0).min(top);
        let low = (high / (SWING * SWING)).round().clamp(1.0, (high - 1.0).max(1.0));
        self.set_limit(if self.high { high } else { low } as u32, top);
    }

    fn set_limit(&mut self, limit: u32, top: f64) {
        self.limit = limit.clamp(1, top as u32);
    }

    fn grants(&mut self, claims: &[Claim], held: &[u32]) -> Vec<u32> {
        let busy: Vec<usize> = (0..claims.len()).filter(|i| claims[*i].wants > 0).collect();
        let wanting: Vec<Claim> = busy.iter().map(|i| claims[*i]).collect();
        let total = (self.limit + self.expected).max((busy.len() as u32).div_ceil(TURNS));
        let shared = share::shares(total, &wanting, self.turn);
        (self.turn, self.in_force) = (self.turn.wrapping_add(total as usize), self.expected);
        let wanted = wanting.iter().fold(0u32, |sum, c| sum.saturating_add(c.wants));
        // Who wants nothing now may want what nobody uses before we look again.
        let spare = total.saturating_sub(wanted).max(1);
        let mut grants: Vec<u32> = claims.iter().map(|c| spare.max(c.least).min(c.most)).collect();
        for (i, share) in busy.into_iter().zip(shared) {
            grants[i] = share;
        }
        grants.iter().zip(held).map(|(grant, held)| grant.saturating_add(*held)).collect()
    }

    /// At least that many were in use at this hour before.
    pub fn expect(&mut self, usual: u32) {
        let usual = f64::from(usual);
        if usual > self.level && self.round.full == 0 {
            (self.level, self.why) = (usual, Why::Hour);
            self.moves[1] += 1;
        }
    }
}

/// What a pool asks for, but for loans that are on top of the limit.
fn claim(sight: &Sight, held: u32) -> Claim {
    let wants = (sight.lent - held).saturating_add(sight.waiting);
    let most = sight.most.saturating_sub(held);
    Claim { wants, least: sight.least.min(most), most }
}
