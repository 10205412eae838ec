//! Which shapes are worth keeping, where a `[[cache]]` rule with `auto = true` leaves that to be found out. No I/O, no clock.
//!
//! Once in a round every shape that such a rule matches, and whose results may be kept by proof, is judged by what has been
//! seen of it. What keeping it saves is, in microseconds of servers' time per second,
//!
//!     benefit = calls x (h x cost - (1 - h) x KEEP) - bytes / memory x PRICE
//!
//! - `calls`: how often it is asked for, per second; of one that is kept, how often it is looked for;
//! - `cost`: how long a server takes to answer it, in microseconds: of those that were kept, where there are any, of all
//!   otherwise;
//! - `h`: how many of those that ask are given what is kept. Of a shape that was never tried this is known from one side
//!   only: each write to its tables outdates what was kept, so that it is `calls / (calls + writes)` at most. That is enough
//!   to find out what is not worth trying. On trial its results are kept, and `h` is what comes of it, with all that
//!   invalidates them in it;
//! - [`KEEP`]: what collecting and keeping an answer costs that nobody asks for again;
//! - `bytes / memory`: the share of the memory that its results take, and [`PRICE`] what all of it is worth.
//!
//! All rates are averages over some rounds. A shape is tried where the benefit might be [`TAKE`], chosen where it is, and
//! dropped only where it has been less than [`DROP`] for [`PATIENCE`] rounds: it does not come and go. One that was not
//! worth it is not tried again for a while, which is longer each time.

use std::time::Duration;

/// Microseconds that it costs to collect an answer and keep it.
pub const KEEP: f64 = 20.0;
/// Microseconds per second that all of the memory is worth.
pub const PRICE: f64 = 10_000.0;
/// Benefit from which a shape is kept, in microseconds per second: a thousandth of a server's processor.
pub const TAKE: f64 = 1000.0;
/// Benefit below which one is dropped.
pub const DROP: f64 = TAKE / 4.0;
/// Rounds for which it is, before it is dropped.
pub const PATIENCE: u32 = 20;
/// How much the last round counts in an average.
const NEWEST: f64 = 0.3;
/// Times that a shape on trial must have been looked for before it is chosen, and before it is given up.
const ENOUGH: (u64, u64) = (32, 512);
/// Rounds that a trial takes at most.
const TRIAL: u32 = 120;
/// Rounds until the next trial, after the first and after many.
const PAUSES: (u32, u32) = (30, 7200);

/// What has been counted of a shape since it is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    /// Times that it was asked for.
    pub calls: u64,
    /// Microseconds that answers took.
    pub us: u64,
    /// Results given.
    pub hits: u64,
    /// Results looked for that were not there.
    pub misses: u64,
    /// Results kept, and how long servers took for them, in microseconds.
    pub kept: (u64, u64),
    /// Times that its tables were written.
    pub writes: u64,
    /// Bytes that its results take.
    pub bytes: u64,
}

/// How a shape stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Its results are not kept.
    #[default]
    Out,
    /// They are, to find out whether that is worth it.
    Trial,
    /// They are.
    Chosen,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// How it stands.
    pub state: State,
    last: Option<Counted>,
    calls: f64,
    writes: f64,
    cost: f64,
    hit: f64,
    share: f64,
    /// Looked for in this trial.
    looked: u64,
    /// Rounds since it stands as it does, or for which it was not worth it.
    rounds: u32,
    pause: u32,
    fruitless: u32,
    /// Whether `hit` has been found out.
    tried: bool,
}

/// Something per second.
fn rate(now: u64, before: u64, round: f64) -> f64 {
    now.saturating_sub(before) as f64 / round
}

fn toward(average: &mut f64, newest: f64) {
    *average += NEWEST * (newest - *average);
}

impl Account {
    /// What has been counted by now, so long after the last time; `memory` is what all results may take.
    pub fn look(&mut self, now: Counted, round: Duration, memory: u64) {
        let seconds = round.as_secs_f64().max(0.001);
        let before = self.last.replace(now).unwrap_or(now);
        // Those in transactions, and others that nothing is looked for, are not to be counted where that is known.
        let asked = |counted: &Counted| match self.state {
            State::Out => counted.calls,
            State::Trial | State::Chosen => counted.hits + counted.misses,
        };
        let (asked, asked_before) = (asked(&now), asked(&before));
        toward(&mut self.calls, rate(asked, asked_before, seconds));
        toward(&mut self.writes, rate(now.writes, before.writes, seconds));
        let per = |us: u64, n: u64| us as f64 / n as f64;
        let kept = now.kept.0.saturating_sub(before.kept.0);
        let calls = now.calls.saturating_sub(before.calls);
        let cost = match (kept, calls) {
            (1.., _) => Some(per(now.kept.1.saturating_sub(before.kept.1), kept)),
            (0, 1..) if self.state == State::Out => Some(per(now.us.saturating_sub(before.us), calls)),
            _ => None,
        };
        match cost {
            Some(cost) if self.cost == 0.0 => self.cost = cost,
            Some(cost) => toward(&mut self.cost, cost),
            None => {}
        }
        let (hits, misses) = (now.hits.saturating_sub(before.hits), now.misses.saturating_sub(before.misses));
        if self.state != State::Out && hits + misses > 0 {
            let hit = per(hits, hits + misses);
            // The first round of a trial says more than all that was known.
            if std::mem::replace(&mut self.tried, true) {
                toward(&mut self.hit, hit)
            } else {
                self.hit = hit
            }
            self.looked += hits + misses;
        }
        self.share = if memory == 0 { 1.0 } else { now.bytes as f64 / memory as f64 };
        self.rounds = self.rounds.saturating_add(1);
    }

    /// How many of those that ask would be given what is kept, as far as that is known.
    fn expected(&self) -> f64 {
        let most = self.calls / (self.calls + self.writes).max(f64::MIN_POSITIVE);
        if self.tried && self.state != State::Out { self.hit } else { most }
    }

    /// What keeping it saves, or might save: see the module.
    pub fn benefit(&self) -> f64 {
        let h = self.expected();
        self.calls * (h * self.cost - (1.0 - h) * KEEP) - self.share * PRICE
    }

    /// Whether it is to be tried.
    pub fn wants_trial(&self) -> bool {
        self.state == State::Out && self.pause <= self.rounds && self.benefit() >= TAKE
    }

    /// Has its results kept for a while.
    pub fn try_out(&mut self) {
        (self.tried, self.looked) = (false, 0);
        self.turn(State::Trial);
    }

    fn turn(&mut self, state: State) {
        (self.state, self.rounds) = (state, 0);
    }

    fn give_up(&mut self) {
        self.pause = (PAUSES.0 << self.fruitless.min(16)).min(PAUSES.1);
        self.fruitless += 1;
        self.turn(State::Out);
    }

    /// Judges one whose results are kept.
    pub fn judge(&mut self) {
        let worth = self.benefit();
        match self.state {
            State::Out => {}
            State::Trial if self.looked >= ENOUGH.0 && worth >= TAKE => {
                self.fruitless = 0;
                self.turn(State::Chosen);
            }
            State::Trial if self.looked >= ENOUGH.1 || self.rounds >= TRIAL => self.give_up(),
            State::Trial => {}
            State::Chosen if worth >= DROP => self.rounds = 0,
            State::Chosen if self.rounds >= PATIENCE => self.give_up(),
            State::Chosen => {}
        }
    }

    /// Why it stands as it does, for people.
    pub fn reason(&self) -> String {
        let state = match self.state {
            State::Chosen if self.rounds > 0 => "chosen, and may be dropped",
            State::Chosen => "chosen",
            State::Trial => "on trial",
            State::Out if self.pause > self.rounds => "not chosen: it was not worth it when it was tried",
            State::Out if self.benefit() < TAKE => "not chosen: not worth it",
            State::Out => "not chosen yet",
        };
        let most = if self.state == State::Out || !self.tried { "at most " } else { "" };
        format!(
            "{state} ({most}{:.2} ms/s saved: {:.1} calls/s x {most}{:.0}% hits x {:.3} ms, {:.1} writes/s, {:.1}% of the \
             memory)",
            self.benefit() / 1000.0,
            self.calls,
            self.expected() * 100.0,
            self.cost / 1000.0,
            self.writes,
            self.share * 100.0,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: Duration = Duration::from_secs(1);

    /// A shape that is asked for so often, at such a cost, of which so many of a hundred are asked for again.
    struct Load {
        calls: u64,
        us: u64,
        again: u64,
        writes: u64,
        bytes: u64,
    }

    const GOOD: Load = Load { calls: 100, us: 1000, again: 90, writes: 1, bytes: 1000 };

    #[derive(Default)]
    struct Bed {
        account: Account,
        counted: Counted,
    }

    impl Bed {
        /// Rounds under a load; how often it was turned from one state to another.
        fn run(&mut self, load: &Load, rounds: u32) -> u32 {
            let mut turns = 0;
            for _ in 0..rounds {
                let before = self.account.state;
                let counted = &mut self.counted;
                counted.calls += load.calls;
                counted.writes += load.writes;
                if before == State::Out {
                    counted.us += load.calls * load.us;
                } else {
                    let hits = load.calls * load.again / 100;
                    counted.hits += hits;
                    counted.misses += load.calls - hits;
                    counted.kept.0 += load.calls - hits;
                    counted.kept.1 += (load.calls - hits) * load.us;
                    counted.bytes = load.bytes;
                }
                self.account.look(self.counted, ROUND, 1_000_000);
                if self.account.wants_trial() {
                    self.account.try_out();
                }
                self.account.judge();
                turns += u32::from(self.account.state != before);
            }
            turns
        }
    }

    #[test]
    fn what_is_asked_again_is_chosen_and_stays() {
        let mut bed = Bed::default();
        assert_eq!(bed.run(&GOOD, 60), 2, "{}", bed.account.reason());
        assert_eq!(bed.account.state, State::Chosen);
        // 100 calls/s, of which 90 save 1 ms and 10 cost 20 us; a thousandth of the memory.
        let benefit = bed.account.benefit();
        assert!((benefit - (100.0 * (0.9 * 1000.0 - 0.1 * 20.0) - 10.0)).abs() < 1.0, "{benefit}");
        assert!(bed.account.reason().starts_with("chosen (89"), "{}", bed.account.reason());
        // A lull is no reason, silence is.
        assert_eq!(bed.run(&Load { calls: 0, ..GOOD }, 15), 0);
        assert_eq!(bed.run(&GOOD, 30), 0);
        assert_eq!(bed.run(&Load { calls: 0, ..GOOD }, 60), 1);
        assert_eq!(bed.account.state, State::Out);
    }

    #[test]
    fn what_is_not_worth_it_is_not() {
        for (name, load, turns) in [
            ("asked seldom, and cheap", Load { calls: 2, us: 200, ..GOOD }, 0),
            ("written more often than read", Load { writes: 100_000, ..GOOD }, 0),
            ("never asked again", Load { again: 0, ..GOOD }, 8),
            ("all of the memory for little", Load { us: 110, bytes: 1_000_000, ..GOOD }, 8),
        ] {
            let mut bed = Bed::default();
            let turned = bed.run(&load, 300);
            assert_ne!(bed.account.state, State::Chosen, "{name}: {}", bed.account.reason());
            assert!(turned <= turns, "{name}: {turned} {}", bed.account.reason());
        }
    }

    #[test]
    fn between_the_bounds_it_stays_as_it_is() {
        let mut bed = Bed::default();
        bed.run(&GOOD, 30);
        let less = Load { calls: 5, us: 120, ..GOOD };
        assert_eq!(bed.run(&less, 200), 0, "{}", bed.account.reason());
        let mut fresh = Bed::default();
        assert_eq!((fresh.run(&less, 200), fresh.account.state), (0, State::Out));
    }
}
