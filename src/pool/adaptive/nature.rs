//! What statements are like on a server: what an ordinary one takes, and from when on one is slow by nature.
//!
//! A report among short reads holds a connection for as long as thousands of them, and says nothing of whether the server
//! has too much to do. So what takes many times what the median takes is left out of what is measured, and who has held
//! a connection for that long has it on top of the limit. Short ones would otherwise wait for long ones: the more times
//! of service differ, the more must be let in at once (B. Schroeder, M. Harchol-Balter, A. Iyengar, E. Nahum, A. Wierman:
//! How to determine a good multi-programming level for external scheduling, 2006).

use super::Sight;
use crate::core::work::{CLASSES, Done, class, middle};

/// Below this nothing is slow: a class of about 65 to 130 ms.
const SLOW_CLASS: usize = 16;
/// How many times more than the median is slow, in powers of two.
const SLOW_POWERS: usize = 5;
/// The same for how long a connection has been held, and the least class of that (65 ms).
const HELD_TIMES: f64 = 20.0;
const HELD_CLASS: usize = 16;
/// What is left of what was seen after each look at which something was: half after some seven.
const KEPT: f64 = 0.9;
/// Most statements of a loan that are believed.
const MOST_STATEMENTS: f64 = 100.0;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Nature {
    counts: [f64; CLASSES],
    usual_us: f64,
    took_us: f64,
    statements: f64,
    loans: f64,
}

impl Nature {
    /// What was done since the last look.
    pub fn note(&mut self, done: &Done, sights: &[Sight]) {
        let came: [f64; CLASSES] = std::array::from_fn(|i| done.count(i));
        if came.iter().sum::<f64>() <= 0.0 {
            return;
        }
        for (count, came) in self.counts.iter_mut().zip(came) {
            *count = *count * KEPT + came;
        }
        let (usual, took) = self.ordinary(done);
        let sum = |read: fn(&Sight) -> u64| sights.iter().map(read).sum::<u64>() as f64;
        for (kept, came) in [
            (&mut self.usual_us, usual),
            (&mut self.took_us, took),
            (&mut self.statements, sum(|s| s.statements)),
            (&mut self.loans, sum(|s| s.loans)),
        ] {
            *kept = *kept * KEPT + came;
        }
    }

    /// What a statement in the middle usually takes.
    fn median(&self) -> Option<usize> {
        let half = self.counts.iter().sum::<f64>() / 2.0;
        let mut below = 0.0;
        self.counts.iter().position(|n| {
            below += n;
            below >= half && half > 0.0
        })
    }

    /// The first class that is slow by nature.
    fn slow(&self) -> usize {
        self.median().map_or(CLASSES, |median| (median + SLOW_POWERS).max(SLOW_CLASS))
    }

    /// Of what was done, what is not slow by nature: what it usually takes and what it took, in microseconds.
    pub fn ordinary(&self, done: &Done) -> (f64, f64) {
        let slow = self.slow().min(CLASSES);
        let sum = |all: &[u64; CLASSES]| all.iter().take(slow).sum::<u64>() as f64;
        (sum(&done.usual_us), sum(&done.took_us))
    }

    /// How many statements that was, about.
    pub fn count(&self, done: &Done) -> f64 {
        (0..self.slow().min(CLASSES)).map(|i| done.count(i)).sum()
    }

    /// Of what was done lately, what it usually takes divided by what it took: 1 where nothing waits within the server.
    pub fn gradient(&self) -> f64 {
        if self.took_us > 0.0 { self.usual_us / self.took_us } else { 1.0 }
    }

    /// What an ordinary statement usually takes, in microseconds.
    pub fn floor_us(&self) -> f64 {
        self.median().map_or(0.0, middle)
    }

    /// How long an ordinary loan takes now, in microseconds.
    pub fn loan_us(&self) -> f64 {
        let statements = (self.statements / self.loans.max(1.0)).clamp(1.0, MOST_STATEMENTS);
        self.floor_us() * statements / self.gradient().clamp(0.01, 1.0)
    }

    /// How many of a pool's loans are held for so long that they are slow by nature.
    pub fn held(&self, sight: &Sight) -> u32 {
        let long = class((HELD_TIMES * self.loan_us()) as u64).max(HELD_CLASS);
        sight.ages.iter().skip(long).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::work::Work;

    fn done(statements: &[(u64, u64, u64)]) -> Done {
        let work = Work::default();
        for (n, usual, took) in statements {
            (0..*n).for_each(|_| work.add(*usual, *took));
        }
        work.done()
    }

    fn sight(ages_us: &[u64]) -> Sight {
        let mut sight = Sight { statements: 10, loans: 10, ..Sight::default() };
        ages_us.iter().for_each(|us| sight.ages[class(*us)] += 1);
        sight
    }

    #[test]
    fn reports_among_reads_are_slow_by_nature() {
        let mut nature = Nature::default();
        let done = done(&[(9, 100, 200), (1, 1_000_000, 1_000_000)]);
        nature.note(&done, &[sight(&[])]);
        assert_eq!(nature.ordinary(&done), (900.0, 1_800.0));
        assert_eq!(nature.held(&sight(&[200, 60_000, 500_000, 2_000_000])), 2);
    }

    #[test]
    fn reports_alone_are_ordinary() {
        let mut nature = Nature::default();
        let done = done(&[(9, 1_000_000, 2_000_000)]);
        nature.note(&done, &[sight(&[])]);
        assert_eq!(nature.ordinary(&done).0, 9e6);
        assert_eq!(nature.held(&sight(&[3_000_000])), 0);
    }

    #[test]
    fn where_all_have_become_slow_none_is_by_nature() {
        let mut nature = Nature::default();
        nature.note(&done(&[(100, 10_000, 500_000)]), &[sight(&[])]);
        assert!(nature.gradient() < 0.03);
        assert_eq!(nature.held(&sight(&[600_000, 900_000])), 0);
    }
}
