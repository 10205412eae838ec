//! Against a simple model: sequences of commits, samples and replays, in which no replica is ever taken that has not
//! replayed a commit.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::core::clock::Instant;

fn at() -> Instant {
    Instant::now()
}

#[test]
fn a_replica_serves_what_it_has_replayed() {
    let (clock, passed, fences) = (Clock::default(), Passed::default(), Fences::new(NONE));
    assert!(is_past(passed.get(), fences.fence([1])), "nothing was written");
    // A sample is under way when a commit is acknowledged: it may have been answered before.
    let under_way = clock.begin();
    fences.mark([1], clock.now());
    clock.sampled(under_way, Lsn(100), at());
    passed.replayed(&clock, Lsn(100));
    assert!(!is_past(passed.get(), fences.fence([1])), "the commit may lie behind that sample");
    assert!(is_past(passed.get(), fences.fence([2])), "other tables are not fenced");
    let next = clock.begin();
    clock.sampled(next, Lsn(150), at());
    assert!(passed.replayed(&clock, Lsn(149)).is_some_and(|(s, newest)| s.number == under_way && !newest));
    assert!(!is_past(passed.get(), fences.fence([1])));
    assert!(passed.replayed(&clock, Lsn(150)).is_some_and(|(s, newest)| s.number == next && newest));
    assert!(is_past(passed.get(), fences.fence([1, 2])));
    fences.mark_all(clock.now());
    assert!(!is_past(passed.get(), fences.fence([2])));
    assert_eq!(fences.rows(passed.get()), (next, Vec::new()));
}

#[test]
fn an_idle_cluster_catches_up() {
    let (clock, passed) = (Clock::default(), Passed::default());
    for _ in 0..10_000 {
        clock.sampled(clock.begin(), Lsn(0x300_0000), at());
    }
    assert!(passed.replayed(&clock, Lsn(0x300_0000)).is_some_and(|(_, newest)| newest));
    assert_eq!(passed.get(), clock.now());
}

#[test]
fn a_replica_far_behind_still_moves() {
    let (clock, passed) = (Clock::default(), Passed::default());
    for n in 1..=50_000u64 {
        clock.sampled(clock.begin(), Lsn(n * 10), at());
    }
    assert!(passed.replayed(&clock, Lsn(250_000)).is_some());
    assert!((24_000..=25_001).contains(&passed.get()), "{}", passed.get());
}

#[test]
fn only_the_new_primary_counts_after_a_promotion() {
    let (clock, passed) = (Clock::default(), Passed::default());
    let old = clock.begin();
    clock.sampled(old, Lsn(1000), at());
    passed.replayed(&clock, Lsn(1000));
    let late = clock.begin();
    clock.rebase();
    passed.reset(clock.now());
    // Acknowledged by the new primary, whose positions start again before the old one's.
    let fence = clock.now();
    clock.sampled(late, Lsn(2000), at());
    assert_eq!(passed.replayed(&clock, Lsn(5000)), None, "of the old primary");
    let new = clock.begin();
    clock.sampled(new, Lsn(900), at());
    assert!(passed.replayed(&clock, Lsn(899)).is_none());
    assert!(passed.replayed(&clock, Lsn(901)).is_some());
    assert!(passed.is_past(fence) && passed.get() == new);
}

#[test]
fn a_new_database_waits_for_a_sample() {
    let (clock, passed) = (Clock::default(), Passed::default());
    let fences = Fences::new(clock.now());
    assert!(!is_past(passed.get(), fences.fence([])));
    clock.sampled(clock.begin(), Lsn(5), at());
    passed.replayed(&clock, Lsn(5));
    assert!(is_past(passed.get(), fences.fence([7])));
}

#[test]
fn own_writes_are_small() {
    let mut own = Own::default();
    assert!(own.is_empty() && own.fence([1]) == NONE && own.highest() == NONE);
    own.mark([1, 2], 5);
    own.mark([1], 9);
    own.mark([2], 3);
    assert_eq!((own.fence([1]), own.fence([2]), own.fence([3]), own.highest()), (9, 5, NONE, 9));
    own.forget(9);
    assert_eq!(own.fence([1]), 9, "not past it yet");
    own.forget(10);
    assert!(own.is_empty());
    own.mark(0..100, 12);
    assert_eq!((own.fence([1000]), own.highest()), (12, 12), "too many to tell apart");
    own.forget(12);
    assert!(!own.is_empty());
    own.forget(13);
    assert!(own.is_empty());
}

/// What may happen.
#[derive(Clone, Debug)]
enum Step {
    /// A session writes tables; the primary's WAL grows.
    Commit { session: usize, tables: Vec<u32> },
    /// Nobody knows what it wrote.
    Unknown { session: usize },
    /// A sample is asked for.
    Begin,
    /// The oldest sample under way reaches the primary.
    Ask,
    /// Its answer comes back.
    Answer,
    /// A replica replays some of what there is, and its probe says so.
    Replay { replica: usize, share: u8 },
    /// A replica is made anew from an old backup, and its probe says so.
    Rebuild { replica: usize, share: u8 },
    /// Another server is the primary, with all that was replayed by the replica that is farthest.
    Promote,
    /// A session reads.
    Read { session: usize, tables: Vec<u32> },
    /// A session forgets what all are past.
    Forget { session: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let tables = || prop::collection::vec(1u32..9, 1..4);
    prop_oneof![
        4 => (0usize..3, tables()).prop_map(|(session, tables)| Step::Commit { session, tables }),
        1 => (0usize..3).prop_map(|session| Step::Unknown { session }),
        3 => Just(Step::Begin),
        3 => Just(Step::Ask),
        3 => Just(Step::Answer),
        4 => (0usize..2, any::<u8>()).prop_map(|(replica, share)| Step::Replay { replica, share }),
        1 => (0usize..2, any::<u8>()).prop_map(|(replica, share)| Step::Rebuild { replica, share }),
        1 => Just(Step::Promote),
        6 => (0usize..3, tables()).prop_map(|(session, tables)| Step::Read { session, tables }),
        2 => (0usize..3).prop_map(|session| Step::Forget { session }),
    ]
}

/// A commit that was acknowledged: where it lies in the WAL, by whom, and what it wrote (`None`: anything).
struct Commit {
    lsn: u64,
    session: usize,
    tables: Option<Vec<u32>>,
}

#[derive(Default)]
struct World {
    clock: Clock,
    passed: [Passed; 2],
    own: [Own; 3],
    commits: Vec<Commit>,
    wal: u64,
    replayed: [u64; 2],
    begun: Vec<Number>,
    asked: Vec<(Number, u64)>,
}

impl World {
    fn commit(&mut self, fences: &Fences, session: usize, tables: Option<Vec<u32>>) {
        self.wal += 8;
        let now = self.clock.now();
        match &tables {
            Some(tables) => {
                fences.mark(tables.iter().copied(), now);
                self.own[session].mark(tables.iter().copied(), now);
            }
            None => {
                fences.mark_all(now);
                self.own[session].mark_all(now);
            }
        }
        self.commits.push(Commit { lsn: self.wal, session, tables });
    }

    fn step(&mut self, fences: &Fences, step: Step) {
        match step {
            Step::Commit { session, tables } => self.commit(fences, session, Some(tables)),
            Step::Unknown { session } => self.commit(fences, session, None),
            Step::Begin => self.begun.push(self.clock.begin()),
            Step::Ask if !self.begun.is_empty() => self.asked.push((self.begun.remove(0), self.wal)),
            Step::Answer if !self.asked.is_empty() => {
                let (number, lsn) = self.asked.remove(0);
                self.clock.sampled(number, Lsn(lsn), at());
            }
            Step::Replay { replica, share } => {
                let rest = self.wal - self.replayed[replica];
                self.replayed[replica] += rest * u64::from(share) / 255;
                self.passed[replica].replayed(&self.clock, Lsn(self.replayed[replica]));
            }
            Step::Rebuild { replica, share } => {
                self.replayed[replica] = self.replayed[replica] * u64::from(share) / 255;
                self.passed[replica].reset(self.clock.now());
                self.passed[replica].replayed(&self.clock, Lsn(self.replayed[replica]));
            }
            Step::Promote => {
                // What the new primary lacks is lost, and positions are given out again.
                let kept = *self.replayed.iter().max().unwrap();
                self.commits.retain(|c| c.lsn <= kept);
                self.wal = kept;
                self.clock.rebase();
                self.passed.iter().for_each(|p| p.reset(self.clock.now()));
            }
            Step::Read { session, tables } => self.read(fences, session, &tables),
            Step::Forget { session } => {
                let least = self.passed.iter().map(Passed::get).min().unwrap();
                self.own[session].forget(least);
            }
            Step::Ask | Step::Answer => {}
        }
    }

    fn read(&self, fences: &Fences, session: usize, tables: &[u32]) {
        let shared = fences.fence(tables.iter().copied());
        let own = self.own[session].fence(tables.iter().copied());
        for (passed, replayed) in self.passed.iter().zip(self.replayed) {
            let lacks = |c: &&Commit| {
                let read = c.tables.as_ref().is_none_or(|t| t.iter().any(|t| tables.contains(t)));
                read && c.lsn > replayed
            };
            if passed.is_past(shared) {
                assert_eq!(self.commits.iter().filter(lacks).count(), 0, "a commit is not seen");
            }
            if passed.is_past(own) {
                let mine = |c: &&Commit| c.session == session && lacks(c);
                assert_eq!(self.commits.iter().filter(mine).count(), 0, "an own commit is not seen");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_commit_is_missed(steps in prop::collection::vec(step(), 1..120)) {
        let fences = Fences::new(NONE);
        let mut world = World::default();
        for step in steps {
            world.step(&fences, step);
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The bounded list of samples against all of them: never past one that is not replayed.
    #[test]
    fn thinning_only_makes_stricter(jumps in prop::collection::vec(0u64..4, 1..3000), at_share in 0u8..=255) {
        let (clock, passed) = (Clock::default(), Passed::default());
        let (mut lsn, mut all) = (0, Vec::new());
        for jump in jumps {
            lsn += jump;
            let number = clock.begin();
            clock.sampled(number, Lsn(lsn), at());
            all.push((number, lsn));
        }
        let replayed = lsn * u64::from(at_share) / 255;
        passed.replayed(&clock, Lsn(replayed));
        let exact = all.iter().filter(|(_, l)| *l <= replayed).map(|(n, _)| *n).max().unwrap_or(NONE);
        prop_assert!(passed.get() <= exact);
        if replayed == lsn {
            prop_assert_eq!(passed.get(), exact);
        }
    }
}
