//! Versions of one database's tables: whether anything that a result was read from may have been written since.
//!
//! Each word counts in its upper bits how often its tables have been written, and in its lower ones who is about to. A
//! write marks its words before it is sent ([`Versions::begin`]), and they move when its fate is known ([`Marks`]), in
//! one step with taking the mark back. Words only grow, so their sum is the same if and only if each of them is: a
//! [`Stamp`] is one number, however many tables it is of. What has the stamp of now was read when nothing was under way,
//! and nothing has been sent since that could have changed it.
//!
//! Some writes are known by the rows that they change, and what is read from one row alone has a stamp of its own: a table
//! has a second word for writes that are not known so well, and rows have words, which they share by a hash of their keys.
//! A write to a row marks the row's word and the table's first, any other to the table both of the table's; the stamp of a
//! table is of its first word, that of a row of the table's second and its own. So a write outdates each row that it may
//! have changed, and the table whatever it has changed there.
//!
//! What a write touches is known by the catalog, which definitions of objects make untrue: an INSERT that was planned
//! before another session's CREATE TRIGGER committed may fire that trigger. Whoever may have defined something marks
//! everything, and ends an era: nothing has a stamp until all writes have ended that were begun in eras before.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::{Arc, OnceLock};

use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

mod marks;

pub use marks::{Marks, Witness};

use super::tables::{SLOTS, slot};
use crate::core::clock::Instant;
use crate::core::stats::Counter;
use crate::sql::fingerprint;

/// Bits of a word that count who is about to write: more than there are connections, times the tables of a stamp.
const BITS: u32 = 28;
const MOVED: u64 = 1 << BITS;
const MARKS: u64 = MOVED - 1;

/// Words of rows. Rows that share one only outdate each other's results.
const ROWS: usize = 8192;

/// See the module.
#[derive(Debug, Default)]
struct Word(AtomicU64);

impl Word {
    fn begin(&self) {
        self.0.fetch_add(1, SeqCst);
    }

    fn end(&self) {
        self.0.fetch_add(MOVED - 1, SeqCst);
    }

    fn get(&self) -> u64 {
        self.0.load(SeqCst)
    }
}

/// A row of a table, by its key: or any other that shares its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Row(u16);

impl Row {
    /// Where its word is.
    fn word(self) -> usize {
        2 * SLOTS + usize::from(self.0)
    }

    /// The row of a table (by oid) that has this key, which is written in one way only.
    pub fn of(table: u32, key: &[u8]) -> Row {
        Row((fingerprint::hash(key, (u64::from(table), 0)) % ROWS as u128) as u16)
    }
}

/// What may be written.
#[derive(Clone, Copy, Debug)]
pub enum Written<'a> {
    /// These tables, by oid.
    Tables(&'a [u32]),
    /// A row of a table.
    Row(u32, Row),
    /// Any table of the database.
    Anything,
    /// Any table, and perhaps what there is in the database, too.
    Perhaps,
    /// Any table, and what tables, functions and roles there are: also those that all databases share.
    Definitions,
}

/// What a result was read from, as of then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    sum: u64,
    /// Of one row alone.
    row: Option<Row>,
}

/// Why versions have moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Known tables were written.
    Tables,
    /// Any table may have been.
    Anything,
    /// Objects may have been defined otherwise.
    Definitions,
    /// A connection was lost, and with it the fate of what had been written over it.
    Lost,
    /// Nothing was written: somebody has asked for them to be read again.
    Flushed,
}

impl Cause {
    /// All of them, in order.
    pub const ALL: [Cause; 5] =
        [Cause::Tables, Cause::Anything, Cause::Definitions, Cause::Lost, Cause::Flushed];

    /// The same in more words.
    pub fn explained(self) -> &'static str {
        match self {
            Cause::Tables => "known tables were written",
            Cause::Anything => "any table may have been written: triggers, DO, CALL, what is not understood",
            Cause::Definitions => "objects may have been defined otherwise",
            Cause::Lost => "a connection was lost, and with it the fate of what had been written over it",
            Cause::Flushed => "FLUSH CACHE TABLE",
        }
    }

    /// A label for metrics and people.
    pub fn label(self) -> &'static str {
        match self {
            Cause::Tables => "tables",
            Cause::Anything => "anything",
            Cause::Definitions => "definitions",
            Cause::Lost => "lost",
            Cause::Flushed => "flushed",
        }
    }
}

/// What all databases of a server have in common.
#[derive(Debug, Default)]
struct Common {
    word: Word,
    /// When that was last written, in microseconds; 0 for never.
    ended_us: AtomicU64,
}

/// When writes ended, where anybody asks.
#[derive(Debug)]
struct Ends {
    slots: Box<[AtomicU64]>,
    all: AtomicU64,
}

/// The versions of all databases of a process.
#[derive(Debug, Default)]
pub struct Book {
    /// Of what all databases have in common.
    common: Arc<Common>,
    databases: Mutex<std::collections::HashMap<Box<str>, Arc<Versions>>>,
}

impl Book {
    /// Those of a database, by its name on servers: wherever it is, so that one that is reached by two ways has one.
    pub fn of(&self, dbname: &str) -> Arc<Versions> {
        let mut databases = self.databases.lock();
        if let Some(known) = databases.get(dbname) {
            return known.clone();
        }
        let versions = Arc::new(Versions::new(self.common.clone()));
        databases.insert(dbname.into(), versions.clone());
        versions
    }

    /// How often versions have moved, by cause in the order of [`Cause::ALL`].
    pub fn moved(&self) -> [u64; Cause::ALL.len()] {
        let databases = self.databases.lock();
        let mut all = [0; Cause::ALL.len()];
        for versions in databases.values() {
            all.iter_mut().zip(&versions.moved).for_each(|(sum, n)| *sum += n.get());
        }
        all
    }

    /// Databases that versions are kept of.
    pub fn databases(&self) -> Vec<(Box<str>, Arc<Versions>)> {
        self.databases.lock().iter().map(|(name, versions)| (name.clone(), versions.clone())).collect()
    }
}

/// Writes that were begun between two changes of definitions. The last of them to end ends the era.
#[derive(Debug)]
struct Era {
    all: Arc<Word>,
    over: AtomicBool,
}

impl Drop for Era {
    fn drop(&mut self) {
        if *self.over.get_mut() {
            self.all.end();
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Versions {
    /// Of tables, as many again for writes that are not known by row, and then those of rows.
    words: Box<[Word]>,
    all: Arc<Word>,
    common: Arc<Common>,
    ends: OnceLock<Ends>,
    era: Mutex<Arc<Era>>,
    /// When definitions may last have become others, in microseconds; 0 for never.
    defined_us: AtomicU64,
    /// When it was last found out what had become of a lost write, in microseconds; 0 for never.
    found_us: AtomicU64,
    moved: [Counter; Cause::ALL.len()],
}

impl Versions {
    /// One of a database alone.
    pub fn alone() -> Arc<Versions> {
        Arc::new(Versions::new(Arc::default()))
    }

    fn new(common: Arc<Common>) -> Versions {
        let all = Arc::new(Word::default());
        Versions {
            words: (0..2 * SLOTS + ROWS).map(|_| Word::default()).collect(),
            era: Mutex::new(Arc::new(Era { all: all.clone(), over: AtomicBool::new(false) })),
            all,
            common,
            ends: OnceLock::new(),
            defined_us: AtomicU64::new(0),
            found_us: AtomicU64::new(0),
            moved: Default::default(),
        }
    }

    fn sum(&self, tables: &[u32], row: Option<Row>) -> u64 {
        let of = |word: usize| self.words.get(word).map_or(1, Word::get);
        let shared = self.all.get().wrapping_add(self.common.word.get());
        let (first, of_row) = row.map_or((0, 0), |row| (SLOTS, of(row.word())));
        let of_table = |table: &u32| of(first + usize::from(slot(*table)));
        tables.iter().map(of_table).fold(shared.wrapping_add(of_row), u64::wrapping_add)
    }

    /// The stamp of what is read of these tables from now on. `None` while something may be written to them.
    #[inline]
    pub fn stamp(&self, tables: &[u32]) -> Option<Stamp> {
        self.stamp_of(tables, None)
    }

    /// The same of what is read of one row of a table, and of nothing else.
    pub fn stamp_of_row(&self, table: u32, row: Row) -> Option<Stamp> {
        self.stamp_of(&[table], Some(row))
    }

    /// Either: of a row, where there is one, these tables are its table.
    #[inline]
    pub fn stamp_of(&self, tables: &[u32], row: Option<Row>) -> Option<Stamp> {
        let sum = self.sum(tables, row);
        (sum & MARKS == 0).then_some(Stamp { sum, row })
    }

    /// Whether what was read of these tables with that stamp is what is there.
    #[inline]
    pub fn is_current(&self, tables: &[u32], stamp: Stamp) -> bool {
        self.sum(tables, stamp.row) == stamp.sum
    }

    /// How often these tables have been written, or may have been: a number that moves when the fate of a write is known,
    /// whatever else is under way.
    pub fn moves(&self, tables: &[u32]) -> u64 {
        self.sum(tables, None) >> BITS
    }

    /// The same of all tables.
    pub fn all_moves(&self) -> u64 {
        self.total() >> BITS
    }

    /// As [`Versions::stamp`], of all tables: for what is read from who knows where. Far slower.
    pub fn stamp_all(&self) -> Option<Stamp> {
        let (sum, row) = (self.total(), None);
        (sum & MARKS == 0).then_some(Stamp { sum, row })
    }

    fn total(&self) -> u64 {
        let shared = self.all.get().wrapping_add(self.common.word.get());
        self.words.iter().take(SLOTS).map(Word::get).fold(shared, u64::wrapping_add)
    }

    /// A write is about to be sent.
    pub fn begin(self: &Arc<Self>) -> Marks {
        Marks::new(self.clone(), self.era.lock().clone())
    }

    /// How often anything was outdated, whatever it was.
    pub fn outdated(&self) -> u64 {
        self.moved.iter().map(Counter::get).sum()
    }

    /// Everything that was read before is to be read again.
    pub fn move_all(&self, cause: Cause) {
        self.all.0.fetch_add(MOVED, SeqCst);
        self.count(cause);
    }

    /// When definitions may last have become others: what was read of them before is not to be relied on.
    pub fn defined(&self) -> Option<Instant> {
        moment(&self.defined_us)
    }

    /// Somebody else has changed definitions.
    pub fn note_defined(&self) {
        note(&self.defined_us);
    }

    /// When it was last found out what had become of a write whose connection was lost: no fence tells of that.
    pub fn found(&self) -> Option<Instant> {
        moment(&self.found_us)
    }

    /// The same of some tables.
    pub fn move_tables(&self, tables: &[u32], cause: Cause) {
        for table in tables {
            for word in Self::words_of(*table) {
                self.words[word].0.fetch_add(MOVED, SeqCst);
            }
        }
        self.count(cause);
    }

    /// What a write to a table moves that is not known by row.
    fn words_of(table: u32) -> [usize; 2] {
        let word = usize::from(slot(table));
        [word, SLOTS + word]
    }

    /// When the last write to any of these tables ended, from the first time on that somebody asks.
    pub fn ended(&self, tables: &[u32]) -> Instant {
        let ends = self.ends.get_or_init(|| {
            // Whatever ends just now has not been noted.
            let soon = AtomicU64::new((Instant::now() + MARGIN).micros_since(Instant::default()));
            Ends { slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(), all: soon }
        });
        let of =
            |table: &u32| ends.slots.get(usize::from(slot(*table))).map_or(u64::MAX, |us| us.load(SeqCst));
        let shared = ends.all.load(SeqCst).max(self.common.ended_us.load(SeqCst));
        Instant::default() + Duration::from_micros(tables.iter().map(of).fold(shared, u64::max))
    }

    fn count(&self, cause: Cause) {
        if let Some(counter) = self.moved.get(cause as usize) {
            counter.add(1);
        }
    }

    /// Definitions have changed: the writes that are under way may do more than their plans say.
    fn turn(&self) {
        note(&self.defined_us);
        let next = Arc::new(Era { all: self.all.clone(), over: AtomicBool::new(false) });
        self.all.begin();
        let before = std::mem::replace(&mut *self.era.lock(), next);
        before.over.store(true, Release);
    }
}

/// How long a write that ends takes to note that, at most.
const MARGIN: Duration = Duration::from_secs(1);

/// That it is now.
fn note(us: &AtomicU64) {
    us.fetch_max(Instant::now().micros_since(Instant::default()), SeqCst);
}

fn moment(us: &AtomicU64) -> Option<Instant> {
    let us = us.load(SeqCst);
    (us > 0).then(|| Instant::default() + Duration::from_micros(us))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One that nothing has.
    const NONE: Stamp = Stamp { sum: 1, row: None };

    fn versions() -> Arc<Versions> {
        Book::default().of("a")
    }

    fn write(versions: &Arc<Versions>, written: Written<'_>) -> Marks {
        let mut marks = versions.begin();
        marks.add(written);
        marks
    }

    #[test]
    fn a_write_outdates_what_reads_its_tables() {
        let versions = versions();
        let (before, other) = (versions.stamp(&[1, 2]), versions.stamp(&[3]));
        let marks = write(&versions, Written::Tables(&[2]));
        assert!(versions.stamp(&[1, 2]).is_none() && versions.stamp(&[3]) == other);
        assert!(!versions.is_current(&[1, 2], before.unwrap_or(NONE)));
        marks.end(false);
        assert!(versions.stamp(&[1, 2]).is_some() && versions.stamp(&[1, 2]) != before);
        assert!(versions.is_current(&[3], other.unwrap_or(NONE)));
        write(&versions, Written::Anything).end(false);
        assert!(versions.stamp(&[3]).is_some() && versions.stamp(&[3]) != other);
    }

    #[test]
    fn moves_are_counted_when_writes_end() {
        let versions = versions();
        let (one, other, all) = (versions.moves(&[1]), versions.moves(&[2]), versions.all_moves());
        let (first, second) =
            (write(&versions, Written::Tables(&[1])), write(&versions, Written::Tables(&[1])));
        assert_eq!((versions.moves(&[1]), versions.all_moves()), (one, all));
        first.end(false);
        // Though another one is under way.
        assert_ne!(versions.moves(&[1]), one);
        assert_eq!(versions.moves(&[2]), other);
        second.end(false);
        assert_eq!((versions.moves(&[1]), versions.all_moves()), (one + 2, all + 2));
        let all = versions.stamp_all();
        assert!(all.is_some() && all == versions.stamp_all());
        let third = write(&versions, Written::Tables(&[9]));
        assert_eq!(versions.stamp_all(), None);
        third.end(false);
        assert!(versions.stamp_all().is_some() && versions.stamp_all() != all);
        write(&versions, Written::Anything).end(false);
        assert_ne!(versions.moves(&[2]), other);
    }

    #[test]
    fn definitions_count_in_all_databases() {
        let book = Book::default();
        let (a, b) = (book.of("a"), book.of("b"));
        let before = b.stamp(&[1]);
        write(&a, Written::Anything).end(false);
        assert_eq!(b.stamp(&[1]), before);
        let marks = write(&a, Written::Definitions);
        assert_eq!(b.stamp(&[1]), None);
        marks.end(false);
        assert!(b.stamp(&[1]).is_some() && b.stamp(&[1]) != before);
        assert_eq!(book.moved(), [0, 1, 1, 0, 0]);
    }

    #[test]
    fn after_definitions_writes_of_before_are_waited_for() {
        let versions = versions();
        let under_way = write(&versions, Written::Tables(&[1]));
        write(&versions, Written::Definitions).end(false);
        // It may fire a trigger that its plan does not know.
        assert_eq!(versions.stamp(&[2]), None);
        let later = write(&versions, Written::Tables(&[3]));
        under_way.end(false);
        assert!(versions.stamp(&[2]).is_some());
        later.end(false);
    }

    #[test]
    fn rows_are_told_apart() {
        let versions = versions();
        let (a, b) = (Row::of(1, b"a"), Row::of(1, b"b"));
        assert!(a != b && Row::of(2, b"a") != a && Row::of(1, b"a") == a);
        let stamps = || (versions.stamp_of_row(1, a), versions.stamp_of_row(1, b), versions.stamp(&[1]));
        let before = stamps();
        let marks = write(&versions, Written::Row(1, a));
        assert_eq!(stamps(), (None, before.1, None));
        marks.end(false);
        let after = stamps();
        assert!(after.0.is_some() && after.0 != before.0 && after.1 == before.1 && after.2 != before.2);
        assert!(versions.is_current(&[1], after.1.unwrap_or(NONE)));
        assert!(!versions.is_current(&[1], before.0.unwrap_or(NONE)));
        for written in [Written::Tables(&[1]), Written::Anything] {
            let before = stamps();
            write(&versions, written).end(false);
            let after = stamps();
            assert!(before.0 != after.0 && before.1 != after.1 && before.2 != after.2);
        }
    }

    #[test]
    fn of_very_many_rows_nobody_is_asked_which() {
        let versions = versions();
        let row = |n: u32| Row::of(1, &n.to_be_bytes());
        let mut marks = versions.begin();
        (0..1000).for_each(|n| marks.add(Written::Row(1, row(n))));
        // Those that were not written wait as well: it counts for all.
        assert!((0..2000).all(|n| versions.stamp_of_row(1, row(n)).is_none()));
        assert!(versions.stamp_of_row(2, Row::of(2, b"a")).is_some());
        marks.end(false);
        assert!((0..2000).all(|n| versions.stamp_of_row(1, row(n)).is_some()));
    }

    /// Others are told of tables, and of each once.
    #[test]
    fn others_hear_of_tables_where_rows_are_written() {
        #[derive(Debug)]
        struct Deaf;
        impl Witness for Deaf {
            fn ends(&self, _: u64, _: bool) {}
        }
        let versions = versions();
        let mut marks = versions.begin();
        let told = |marks: &Marks| marks.untold().map(|(_, slots, _)| slots.to_vec());
        marks.add(Written::Row(1, Row::of(1, b"a")));
        assert_eq!(told(&marks), Some(vec![slot(1)]));
        marks.told(&Arc::new(Deaf), 7);
        marks.add(Written::Row(1, Row::of(1, b"b")));
        assert_eq!(told(&marks), None);
        marks.add(Written::Tables(&[1, 2]));
        assert_eq!(told(&marks), Some(vec![slot(2)]));
        marks.end(false);
    }

    #[test]
    fn it_is_known_when_writes_have_ended() {
        let versions = versions();
        let first = versions.ended(&[1]);
        assert!(first > Instant::now(), "what ends just now may not have been noted");
        let later = |tables: &[u32]| versions.ended(tables) > first;
        // As if it were later.
        let slow = || note_at(&versions, Instant::now() + MARGIN * 2);
        write(&versions, Written::Tables(&[1])).end(false);
        assert!(!later(&[1, 2]));
        slow();
        assert!(later(&[1]) && !later(&[2]));
    }

    fn note_at(versions: &Versions, at: Instant) {
        let us = at.micros_since(Instant::default());
        versions.ends.get().into_iter().for_each(|ends| {
            ends.slots[usize::from(slot(1))].fetch_max(us, SeqCst);
        });
    }

    #[test]
    fn what_is_dropped_stays_marked() {
        let versions = versions();
        drop(write(&versions, Written::Tables(&[1])));
        assert!(versions.stamp(&[1]).is_none() && versions.stamp(&[2]).is_some());
        write(&versions, Written::Definitions).end(true);
        assert_eq!(versions.stamp(&[2]), None);
    }

    proptest! {
        /// A stamp is of now if and only if no write to its tables has begun since and none is under way.
        #[test]
        fn stamps_are_of_now_until_something_is_written(
            tables in prop::collection::vec(1u32..6, 1..4),
            steps in prop::collection::vec((0u8..5, 1u32..8), 0..40),
        ) {
            let versions = versions();
            let mut under_way: Vec<(Marks, bool)> = Vec::new();
            let mut held: Option<Stamp> = versions.stamp(&tables);
            for (step, table) in steps {
                let touches = |t: u32| tables.iter().any(|own| slot(*own) == slot(t));
                match step {
                    0 | 1 => {
                        under_way.push((write(&versions, Written::Tables(&[table])), touches(table)));
                        held = held.filter(|_| !touches(table));
                    }
                    2 => {
                        under_way.push((write(&versions, Written::Anything), true));
                        held = None;
                    }
                    3 if !under_way.is_empty() => {
                        under_way.swap_remove(table as usize % under_way.len()).0.end(false);
                    }
                    _ => held = held.or_else(|| versions.stamp(&tables)),
                }
                prop_assert_eq!(versions.stamp(&tables).is_none(), under_way.iter().any(|(_, t)| *t));
                if let Some(stamp) = held {
                    prop_assert!(versions.is_current(&tables, stamp));
                }
            }
            under_way.into_iter().for_each(|(marks, _)| marks.end(false));
        }

        /// The same of a row: what is written to others of its table is no matter, and what is written to all of it is. What
        /// is read of the table is outdated by either.
        #[test]
        fn rows_are_outdated_by_what_may_have_changed_them(
            steps in prop::collection::vec((0u8..6, 1u32..4, 0u8..4), 0..40),
        ) {
            let versions = versions();
            let row = |table: u32, n: u8| Row::of(table, &[n]);
            let (table, own) = (1, row(1, 0));
            let mut under_way: Vec<(Marks, bool, bool)> = Vec::new();
            let (mut of_row, mut of_table) = (versions.stamp_of_row(table, own), versions.stamp(&[table]));
            for (step, at, n) in steps {
                let mut begin = |written: Written<'_>, own: bool, whole: bool| {
                    under_way.push((write(&versions, written), own, whole));
                    of_row = of_row.filter(|_| !own);
                    of_table = of_table.filter(|_| !whole);
                };
                let same = slot(at) == slot(table);
                match step {
                    0 | 1 => begin(Written::Row(at, row(at, n)), row(at, n) == own, same),
                    2 => begin(Written::Tables(&[at]), same, same),
                    3 if n == 0 => begin(Written::Anything, true, true),
                    4 if !under_way.is_empty() => {
                        under_way.swap_remove(usize::from(n) % under_way.len()).0.end(false);
                    }
                    _ => {
                        of_row = of_row.or_else(|| versions.stamp_of_row(table, own));
                        of_table = of_table.or_else(|| versions.stamp(&[table]));
                    }
                }
                prop_assert_eq!(versions.stamp_of_row(table, own).is_none(), under_way.iter().any(|w| w.1));
                prop_assert_eq!(versions.stamp(&[table]).is_none(), under_way.iter().any(|w| w.2));
                if let Some(stamp) = of_row {
                    prop_assert!(versions.is_current(&[table], stamp));
                }
                if let Some(stamp) = of_table {
                    prop_assert!(versions.is_current(&[table], stamp));
                }
            }
            under_way.into_iter().for_each(|(marks, ..)| marks.end(false));
        }

        /// And never given when they may have been: whatever was taken before a write is of the past once that has begun.
        #[test]
        fn no_stamp_outlives_a_write(writes in prop::collection::vec((0u8..3, 0u8..4), 1..20)) {
            let versions = versions();
            let own = Row::of(1, &[0]);
            for (step, n) in writes {
                let (of_row, of_table) = (versions.stamp_of_row(1, own), versions.stamp(&[1]));
                let row = Row::of(1, &[n]);
                let (written, hits) = match step {
                    0 => (Written::Row(1, row), row == own),
                    1 => (Written::Tables(&[1]), true),
                    _ => (Written::Anything, true),
                };
                let marks = write(&versions, written);
                prop_assert_eq!(versions.is_current(&[1], of_row.unwrap_or(NONE)), !hits);
                prop_assert!(!versions.is_current(&[1], of_table.unwrap_or(NONE)));
                marks.end(false);
                prop_assert_eq!(versions.is_current(&[1], of_row.unwrap_or(NONE)), !hits);
                prop_assert!(!versions.is_current(&[1], of_table.unwrap_or(NONE)));
            }
        }
    }
}
