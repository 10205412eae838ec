//! A server, a stream and readers as a model: whatever happens in whatever order, nothing is given that lacks a write
//! which was visible longer ago than the bound.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeSet, HashSet};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::cache::rows::{KeyColumn, Kind};

const BOUND: Duration = Duration::from_micros(10);
const TABLES: u32 = 2;

/// What stands in the WAL.
#[derive(Clone, Copy)]
enum Record {
    Commit { xid: u64, table: u32, told: bool },
    Definition,
}

/// The row that a transaction writes to, or that is read: one of two, or any.
fn row_of(number: u64) -> Option<Row> {
    let names: [&[u8]; 2] = [b"a", b"b"];
    names.get(number as usize % 3).map(|name| Row::of(1, name))
}

fn columns() -> Box<[KeyColumn]> {
    [KeyColumn { number: 1, kind: Kind::Integer }].into()
}

fn watched() -> Watched {
    let key = || columns().into_iter().map(|column| (column, "id".into())).collect();
    Watched::new((1..=TABLES).collect(), &[], (1..=TABLES).map(|table| (table, key())).collect(), false)
}

/// A question that is under way, with what its answer will say.
struct Question {
    wanted: Option<(Ticket, Stage)>,
    asked: Instant,
    end: u64,
    snapshot: Snapshot,
    next: u64,
}

/// A result, or what will be one.
struct Read {
    table: u32,
    row: Option<Row>,
    stamp: Stamp,
    saw: Option<HashSet<u64>>,
    kept: bool,
}

struct World {
    outside: Outside,
    now: Instant,
    next: u64,
    ended: u64,
    /// Running, with the table that it writes, whether the stream will tell of it, and whether its commit is in the WAL.
    running: Vec<(u64, u32, bool, bool)>,
    wal: Vec<Record>,
    delivered: usize,
    connected: bool,
    seen: Vec<(u64, u32, Instant)>,
    questions: Vec<Question>,
    reads: Vec<Read>,
    /// Commits are taken to be visible when the stream tells of them.
    planted: bool,
    given: usize,
    stale: usize,
}

impl World {
    fn new(planted: bool) -> World {
        World {
            outside: Outside::default(),
            now: Instant::default() + Duration::from_secs(1),
            next: 100,
            ended: 99,
            running: Vec::new(),
            wal: Vec::new(),
            delivered: 0,
            connected: false,
            seen: Vec::new(),
            questions: Vec::new(),
            reads: Vec::new(),
            planted,
            given: 0,
            stale: 0,
        }
    }

    /// As PostgreSQL makes one: nothing is said of numbers beyond the last one that has ended.
    fn snapshot(&self) -> Snapshot {
        let next = self.ended + 1;
        let running: BTreeSet<u64> = self.running.iter().map(|r| r.0).filter(|xid| *xid < next).collect();
        let oldest = running.first().copied().unwrap_or(next);
        let list: Vec<String> = running.iter().map(u64::to_string).collect();
        format!("{oldest}:{next}:{}", list.join(",")).parse().unwrap()
    }

    fn step(&mut self, step: u8, which: usize) {
        let some = |len: usize| which.checked_rem(len);
        let table = which as u32 % TABLES + 1;
        match step {
            0 | 1 => {
                self.running.push((self.next, table, true, false));
                self.next += 1;
            }
            2 | 3 => {
                let waiting: Vec<usize> = (0..self.running.len()).filter(|i| !self.running[*i].3).collect();
                if let Some(i) = some(waiting.len()) {
                    let (xid, table, told, logged) = &mut self.running[waiting[i]];
                    *logged = true;
                    self.wal.push(Record::Commit { xid: *xid, table: *table, told: *told });
                }
            }
            4 | 5 => {
                let logged: Vec<usize> = (0..self.running.len()).filter(|i| self.running[*i].3).collect();
                if let Some(i) = some(logged.len()) {
                    let (xid, table, ..) = self.running.remove(logged[i]);
                    self.ended = self.ended.max(xid);
                    self.seen.push((xid, table, self.now));
                }
            }
            6..=8 => self.deliver(),
            9 | 10 => self.questions.push(Question {
                wanted: self.outside.wants(),
                asked: self.now,
                end: self.wal.len() as u64,
                snapshot: self.snapshot(),
                next: self.next,
            }),
            11 | 12 if !self.questions.is_empty() => self.answer(),
            13 | 14 => {
                let row = row_of(which as u64 / 7);
                let key = RowKey { table, columns: columns(), operands: [].into() };
                let stamp = match row {
                    Some(row) => self.outside.stamp_of_row(&key, row, self.now),
                    None => self.outside.stamp(&[table], self.now),
                };
                self.reads.extend(stamp.map(|stamp| Read { table, row, stamp, saw: None, kept: false }));
            }
            15 => {
                if let Some(i) = some(self.reads.len()) {
                    let table = self.reads[i].table;
                    let saw = self.seen.iter().filter(|(_, t, _)| *t == table).map(|(xid, ..)| *xid);
                    self.reads[i].saw.get_or_insert(saw.collect());
                }
            }
            16 => {
                let current = |read: &Read| self.outside.is_current(&[read.table], read.stamp);
                let kept: Vec<bool> =
                    self.reads.iter().map(|read| read.kept || read.saw.is_some() && current(read)).collect();
                self.reads.iter_mut().zip(kept).for_each(|(read, kept)| read.kept = kept);
            }
            17 if which.is_multiple_of(4) => self.disturb(which),
            18 => {
                self.step(6, which);
                self.step(9, which);
                while !self.questions.is_empty() {
                    self.answer();
                }
            }
            _ => self.now = self.now + Duration::from_micros(which as u64 % 4),
        }
        self.check();
    }

    fn deliver(&mut self) {
        let Some(record) = self.wal.get(self.delivered).copied().filter(|_| self.connected) else { return };
        self.delivered += 1;
        match record {
            Record::Commit { xid, table, told: true } => {
                let row = row_of(xid);
                let xid = (!self.planted).then_some(xid as u32);
                self.outside.committed(xid, Some(&[Change { table, row }]), 0);
            }
            Record::Commit { .. } => {}
            Record::Definition => self.outside.doubted(),
        }
        self.outside.reached(self.delivered as u64);
    }

    fn answer(&mut self) {
        let Question { wanted, asked, end, snapshot, next } = self.questions.remove(0);
        if !self.connected {
            return;
        }
        match wanted {
            Some((ticket, Stage::Begun)) => self.outside.runs_below(ticket, next),
            Some((ticket, Stage::Unlisted)) => self.outside.listed(ticket, watched(), Instant::default()),
            _ => {
                self.outside.seen(&snapshot);
                self.outside.sampled(asked, end);
            }
        }
    }

    /// The stream ends or begins again, or definitions change: of who runs then, nothing is told.
    fn disturb(&mut self, which: usize) {
        if which.is_multiple_of(12) && self.connected {
            self.connected = false;
            self.questions.clear();
            self.outside.lost("a test");
            return;
        }
        self.running.iter_mut().for_each(|running| running.2 = false);
        if self.connected {
            self.wal.push(Record::Definition);
        } else {
            self.connected = true;
            self.delivered = self.wal.len();
            self.outside.begins(BOUND, None);
        }
    }

    fn check(&mut self) {
        if !self.outside.is_shown(self.now) {
            return;
        }
        for read in self.reads.iter().filter(|read| read.kept) {
            if !self.outside.is_current(&[read.table], read.stamp) {
                continue;
            }
            self.given += 1;
            let lacks = |(xid, table, at): &(u64, u32, Instant)| {
                let row = row_of(*xid);
                *table == read.table
                    && (row.is_none() || read.row.is_none() || row == read.row)
                    && *at + BOUND < self.now
                    && !read.saw.as_ref().is_some_and(|saw| saw.contains(xid))
            };
            self.stale += usize::from(self.seen.iter().any(lacks));
        }
    }
}

/// How often something was given, and how often that was stale, over many histories.
fn run(planted: bool, cases: u32) -> (usize, usize) {
    let steps = prop::collection::vec((0u8..20, 0usize..1000), 1..400);
    let (given, stale) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&steps, |steps| {
        let mut world = World::new(planted);
        world.step(17, 4);
        steps.into_iter().for_each(|(step, which)| world.step(step, which));
        given.set(given.get() + world.given);
        stale.set(stale.get() + world.stale);
        prop_assert!(planted || world.stale == 0);
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
    (given.get(), stale.get())
}

#[test]
fn nothing_is_older_than_the_bound() {
    let (given, stale) = run(false, 1000);
    assert!(given > 300 && stale == 0, "{given} given, {stale} stale");
}

/// The model sees what is stale: where a commit counts as visible as soon as it is told of, it is.
#[test]
fn what_is_planted_is_seen() {
    // Histories in which it matters are few: they are made until there is one.
    let mut runs =
        (0..30).map(|_| run(true, 1000)).inspect(|(given, _)| assert!(*given > 300, "{given} given"));
    assert!(runs.any(|(_, stale)| stale > 0), "nothing stale was seen");
}

fn ready(outside: &Outside) {
    outside.begins(Duration::from_secs(1), None);
    let (ticket, _) = outside.wants().unwrap();
    outside.runs_below(ticket, 10);
    outside.seen(&"10:10:".parse().unwrap());
    let (ticket, stage) = outside.wants().unwrap();
    assert_eq!(stage, Stage::Unlisted);
    outside.listed(
        ticket,
        Watched::new([1, 2, 3].into(), &[(2, 1)], Default::default(), false),
        Instant::default(),
    );
    outside.sampled(Instant::now(), 7);
    outside.reached(7);
}

#[test]
fn what_is_known_and_what_is_not() {
    let outside = Outside::default();
    let now = Instant::now();
    assert!(outside.why_not(&[1], None, now).unwrap().contains("not followed yet"));
    ready(&outside);
    assert_eq!(outside.why_not(&[1, 3], None, now), None);
    assert!(outside.why_not(&[9], None, now).unwrap().contains("not watched"));
    assert!(
        outside.why_not(&[1], None, now + Duration::from_secs(3)).unwrap().contains("invalidation_bound")
    );
    // A write to a part is one to the whole, until everybody sees it.
    let (whole, other) = (outside.stamp(&[1], now).unwrap(), outside.stamp(&[3], now).unwrap());
    outside.committed(Some(12), Some(&[Change::of_table(2)]), 0);
    assert!(
        outside.stamp(&[1], now).is_none() && outside.why_not(&[1], None, now).unwrap().contains("written")
    );
    assert!(outside.is_current(&[3], other) && outside.is_open());
    outside.seen(&"12:14:12".parse().unwrap());
    assert!(outside.stamp(&[1], now).is_none());
    outside.seen(&"13:14:".parse().unwrap());
    assert!(outside.stamp(&[1], now).is_some() && !outside.is_current(&[1], whole) && !outside.is_open());
    // What changes nothing leaves everything as it is.
    outside.committed(Some(15), Some(&[]), 0);
    assert!(outside.is_current(&[3], other) && !outside.is_open());
    outside.lost("gone");
    assert!(!outside.is_shown(now) && outside.stamp(&[3], now).is_none() && !outside.is_current(&[3], other));
    assert!(outside.why_not(&[3], None, now).unwrap().ends_with("gone"));
    ready(&outside);
    assert!(outside.stamp(&[3], now).is_some() && !outside.is_current(&[3], other));
}

#[test]
fn rows_are_told_apart_where_their_key_is_the_plans() {
    let (outside, now) = (Outside::default(), Instant::now());
    ready(&outside);
    let (a, b) = (Row::of(3, b"a"), Row::of(3, b"b"));
    let key = RowKey { table: 3, columns: columns(), operands: [].into() };
    let keys = [(3, columns().into_iter().map(|column| (column, "id".into())).collect())];
    // Nobody has said yet what rows are known by: each is the table.
    assert_eq!(outside.stamp_of_row(&key, a, now), outside.stamp(&[3], now));
    outside.doubted();
    let (ticket, _) = outside.wants().unwrap();
    outside.runs_below(ticket, 10);
    outside.seen(&"10:10:".parse().unwrap());
    let (ticket, _) = outside.wants().unwrap();
    outside.listed(ticket, Watched::new([1, 2, 3].into(), &[], keys.into(), false), Instant::default());
    let stamps = || [a, b].map(|row| outside.stamp_of_row(&key, row, now));
    let (before, whole) = (stamps(), outside.stamp(&[3], now));
    outside.committed(Some(12), Some(&[Change { table: 3, row: Some(a) }]), 0);
    assert_eq!((stamps(), outside.stamp(&[3], now)), ([None, before[1]], None));
    assert!(outside.why_not(&[3], Some((&key, a)), now).is_some_and(|why| why.contains("written")));
    assert_eq!(outside.why_not(&[3], Some((&key, b)), now), None);
    outside.seen(&"13:14:".parse().unwrap());
    assert!(stamps()[0].is_some() && stamps()[0] != before[0] && stamps()[1] == before[1]);
    assert!(outside.stamp(&[3], now) != whole);
    // By another key, or none, they are not.
    let other = RowKey { columns: [KeyColumn { number: 2, kind: Kind::Integer }].into(), ..key.clone() };
    assert_eq!(outside.stamp_of_row(&other, b, now), outside.stamp(&[3], now));
}

#[test]
fn too_much_at_once_marks_everything() {
    let outside = Outside::default();
    ready(&outside);
    let (now, before) = (Instant::now(), outside.moves());
    for xid in 20..=20 + MOST_OPEN as u32 {
        outside.committed(Some(xid), Some(&[Change::of_table(1)]), 0);
    }
    assert!(outside.moves() > before && outside.stamp(&[3], now).is_none());
    assert!(matches!(outside.wants(), Some((_, Stage::Begun))));
}

#[test]
fn what_others_have_read_is_vouched_for() {
    let outside = Outside::default();
    let (before, now) = (Instant::default(), Instant::now());
    let vouches = |position: u64, table: u32| outside.vouches("e", position, &[table], before);
    outside.begins(Duration::from_secs(1), Some(100));
    outside.set_epoch("e");
    assert!(!vouches(100, 3), "nothing is listed yet");
    let (ticket, _) = outside.wants().unwrap();
    outside.runs_below(ticket, 10);
    outside.seen(&"10:10:".parse().unwrap());
    outside.listed(
        outside.wants().unwrap().0,
        Watched::new([1, 2, 3].into(), &[(2, 1)], Default::default(), false),
        now,
    );
    outside.sampled(now, 100);
    assert!(!vouches(100, 3), "what is listed may be later than what has come");
    let later = now + Duration::from_millis(1);
    outside.sampled(later, 110);
    outside.reached(110);
    assert!(vouches(100, 3) && !vouches(99, 3));
    assert!(!outside.vouches("f", 100, &[3], before) && !outside.vouches("e", 100, &[3], later));
    assert_eq!(outside.stamp_at(&[3], None, now).unwrap().1, 110);
    // A write to a part is one to the whole, and is known before it is visible.
    outside.committed(Some(12), Some(&[Change::of_table(2)]), 120);
    assert!(vouches(119, 3) && !vouches(119, 1) && vouches(120, 1));
    // Others are told, and tell.
    let (epoch, told) = outside.stretch().unwrap();
    assert_eq!((&*epoch, told.since, told.until), ("e", 100, 110));
    assert!(!outside.join("f", &told) && outside.join("e", &told));
    assert_eq!(outside.done(110), 110);
    outside.set_told(Some(105));
    assert_eq!(outside.done(110), 105);
    // Definitions, or another epoch.
    outside.redefined(130);
    assert!(!vouches(130, 3));
    outside.set_epoch("f");
    assert!(outside.stamp_at(&[3], None, now).is_none());
    outside.lost("a test");
    assert_eq!((outside.epoch(), outside.done(200)), (None, 200));
}
