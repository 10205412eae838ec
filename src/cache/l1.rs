//! The results that are kept in memory: found by a keyed hash, and only taken where the key is the same byte by byte.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

mod account;
mod entry;
mod packed;
mod reading;
mod table;

pub use account::{Flush, Outdated, Stats, Why};
pub use entry::Entry;
pub use packed::Foreign;
pub use reading::{Collected, Reading, Turn};

use table::{Table, table};

use super::answer::Answer;
use super::key::Contexts;
use super::outside::{Outside, Outsides};
use super::past::Pasts;
use super::policy::Terms;
use super::remote::Remote;
use super::rows::RowKey;
use super::strict::{Board, Boards, Seen};
use crate::core::clock::Instant;
use crate::fence::versions::{Book, Row, Stamp, Versions};
use crate::sql::fingerprint;

/// What a result was read from, as of before it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsOf {
    /// Of the tables.
    pub stamp: Stamp,
    /// Of what the database contains, as far as is known ([`crate::pool::schema::Schema::view`]).
    pub view: u64,
    /// Of the rules that plans are made under.
    pub serial: u64,
    /// The primary's timeline; 0 where there is no cluster.
    pub term: u32,
    /// Of what is written elsewhere, where that counts.
    outside: Option<Stamp>,
    /// Up to where in the WAL it lacks nothing; 0 where that is not known.
    pub position: u64,
    /// How often its shape has been flushed, or everything.
    flushed: u64,
    /// Of what all processes write, where that counts.
    pub seen: Option<Seen>,
}

impl AsOf {
    /// Whether nothing has happened in between that concerns what was read.
    fn is_same(&self, other: &AsOf) -> bool {
        *self == AsOf { position: self.position, ..*other }
    }
}

/// Parts of the list of what is being read.
const PARTS: usize = 16;
/// Shapes that are flushed together: those whose fingerprints leave the same rest. Who flushes one loses a few others'
/// results, and nothing has to be found and taken away, wherever it is kept.
const SHAPES: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct Cache {
    entries: Table,
    key: (u64, u64),
    /// Whose results there are.
    pub contexts: Contexts,
    /// Who writes what.
    pub versions: Book,
    /// What is known of those who write past this process.
    pub outsides: Outsides,
    /// What other processes are told.
    pub boards: Boards,
    /// What other processes may have left.
    pub pasts: Pasts,
    /// Counts.
    pub stats: Arc<Stats>,
    epoch: AtomicU64,
    /// Flushes of shapes.
    shapes: Box<[AtomicU64]>,
    /// Flushes of any kind: what others find as well has other names from then on.
    flushes: AtomicU64,
    reading: [Mutex<HashMap<u128, Arc<Reading>>>; PARTS],
    /// Bytes of answers that are being collected.
    collected: AtomicU64,
    most: u64,
    /// Where results are kept outside of the process, too.
    remote: OnceLock<Arc<Remote>>,
}

/// Where a result is: half of its hash tells that as well, and there is room for each in several places.
fn at(hash: u128) -> u64 {
    hash as u64
}

/// What is there.
#[derive(Debug)]
pub enum Found {
    /// A result that may be given.
    Hit(Arc<Entry>),
    /// One that may be given while somebody reads it again.
    Late(Arc<Entry>),
    /// None.
    Nothing,
}

/// What is known of the moment at which a result is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// Versions of the database.
    pub versions: &'a Versions,
    /// The tables that it is read from.
    pub tables: &'a [u32],
    /// The row that it is read from, where that is all: looked at when a result is to be kept.
    pub row: Option<(&'a RowKey, Row)>,
    /// See [`AsOf::view`].
    pub view: u64,
    /// See [`AsOf::serial`].
    pub serial: u64,
    /// See [`AsOf::term`].
    pub term: u32,
    /// What is known of writers elsewhere, where there are any and the result must be as fresh as theirs.
    pub outside: Option<&'a Outside>,
    /// How its tables stand among all processes, where that counts.
    pub seen: Option<Seen>,
    /// The shape that is asked for.
    pub shape: u128,
}

impl Cache {
    /// One that takes about this much memory at most, in bytes.
    ///
    /// # Errors
    /// The system gives no random key.
    pub fn new(max_memory: u64) -> Result<Arc<Cache>, String> {
        let number = || getrandom::u64().map_err(|e| format!("no random key: {e}"));
        let stats = Arc::<Stats>::default();
        Ok(Arc::new(Cache {
            entries: table(max_memory, stats.clone())?,
            key: (number()?, number()?),
            contexts: Contexts::default(),
            versions: Book::default(),
            outsides: Outsides::default(),
            boards: Boards::default(),
            pasts: Pasts::default(),
            stats,
            epoch: AtomicU64::new(0),
            shapes: (0..SHAPES).map(|_| AtomicU64::new(0)).collect(),
            flushes: AtomicU64::new(0),
            reading: Default::default(),
            collected: AtomicU64::new(0),
            // What is not kept yet takes memory as well.
            most: max_memory / 4,
            remote: OnceLock::new(),
        }))
    }

    /// Where other processes are told of writes to a database: on a backend or cluster of that name, by its name there.
    pub fn board(&self, place: &str, dbname: &str) -> Arc<Board> {
        self.boards.of(place, dbname, &self.versions.of(dbname))
    }

    /// The hash that a key is found by.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u128 {
        fingerprint::hash(key, self.key)
    }

    /// What a result that is asked for from now on is as of.
    ///
    /// # Errors
    /// Why that is not known: its tables are being written to, here or elsewhere.
    pub fn as_of(&self, moment: &Moment<'_>, now: Instant) -> Result<AsOf, Why> {
        let Moment { view, serial, term, seen, .. } = *moment;
        let flushed = self.flushed(moment.shape);
        let row = moment.row.map(|(_, row)| row);
        let stamp = moment.versions.stamp_of(moment.tables, row).ok_or(Why::Written)?;
        let elsewhere =
            |outside: &Outside| outside.stamp_at(moment.tables, moment.row, now).ok_or(Why::Elsewhere);
        let (outside, position) = moment.outside.map(elsewhere).transpose()?.unzip();
        let position = position.unwrap_or(0);
        Ok(AsOf { stamp, view, serial, term, outside, position, flushed, seen })
    }

    /// How often a shape has been flushed, or everything: both only grow, so that the sum is the same only if both are.
    #[inline]
    fn flushed(&self, shape: u128) -> u64 {
        let own = self.shapes.get(shape as usize % SHAPES).map_or(0, |flushes| flushes.load(Acquire));
        self.epoch.load(Acquire) + own
    }

    /// Whether that is still what holds now.
    #[inline]
    pub fn holds(&self, as_of: &AsOf, moment: &Moment<'_>) -> bool {
        (as_of.view, as_of.serial, as_of.term) == (moment.view, moment.serial, moment.term)
            && as_of.flushed == self.flushed(moment.shape)
            && moment.versions.is_current(moment.tables, as_of.stamp)
            && moment.seen.is_none_or(|seen| as_of.seen == Some(seen))
            && moment.outside.is_none_or(|outside| {
                as_of.outside.is_some_and(|stamp| outside.is_current(moment.tables, stamp))
            })
    }

    /// Counts a result that is of no use any more, once.
    #[cold]
    fn outdated(&self, entry: &Entry, moment: &Moment<'_>) {
        let as_of = &entry.as_of;
        let by = if as_of.flushed != self.flushed(moment.shape) {
            Outdated::Flushed
        } else if as_of.term != moment.term {
            Outdated::Promotion
        } else if as_of.serial != moment.serial {
            Outdated::Rules
        } else if as_of.view != moment.view {
            Outdated::Definitions
        } else if !moment.versions.is_current(moment.tables, as_of.stamp) {
            Outdated::Written
        } else if !self.holds(as_of, moment) {
            Outdated::Elsewhere
        } else {
            Outdated::Expired
        };
        if !entry.told.swap(true, Relaxed) {
            self.stats.outdate(by);
        }
    }

    /// How often everything has been flushed.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Acquire)
    }

    /// Looks for a result.
    #[inline]
    pub fn find(&self, hash: u128, key: &[u8], moment: &Moment<'_>, terms: &Terms, now: Instant) -> Found {
        let Some(entry) = self.entries.get(&at(hash)) else { return Found::Nothing };
        let shown = moment.outside.is_none_or(|outside| outside.is_shown(now));
        if entry.key() != key || !shown {
            return Found::Nothing;
        }
        if !self.holds(&entry.as_of, moment) {
            self.outdated(&entry, moment);
            return Found::Nothing;
        }
        let age = now.since(entry.born);
        if age < terms.ttl {
            Found::Hit(entry)
        } else if age < terms.ttl.saturating_add(terms.stale) {
            Found::Late(entry)
        } else {
            self.outdated(&entry, moment);
            Found::Nothing
        }
    }

    /// Counts a result that is given.
    #[inline]
    pub fn given(&self, entry: &Entry) {
        self.stats.hits.add(1);
        entry.asked.fetch_add(1, Relaxed);
        if entry.fetched.load(Relaxed) && entry.fetched.swap(false, Relaxed) {
            self.stats.fetched.add(1);
        }
    }

    /// Keeps a result.
    pub fn store(
        &self,
        hash: u128,
        key: &[u8],
        answer: Answer,
        as_of: AsOf,
        born: Instant,
        fingerprint: u128,
    ) -> Arc<Entry> {
        let before = self.entries.get(&at(hash)).filter(|known| known.key() == key);
        let asked = before.as_ref().map_or(0, |known| known.asked() / 2);
        let known = before.filter(|known| known.as_of.is_same(&as_of));
        // Who asks for less than others does not take away what they need.
        let answer = match known {
            Some(known) => answer.with(&known.answer),
            None => answer,
        };
        self.stats.stored.add(1);
        let mut entry = Entry::new(key, answer, as_of, born, fingerprint);
        *entry.asked.get_mut() = asked;
        let entry = Arc::new(entry);
        self.entries.insert(at(hash), entry.clone());
        entry
    }

    /// Keeps what was kept outside; whether it may be given is found out like that of any other.
    pub fn put_back(&self, hash: u128, mut entry: Entry) {
        *entry.fetched.get_mut() = true;
        self.entries.insert(at(hash), Arc::new(entry));
    }

    /// Keeps what another process may have read, if it lacks nothing that is known here: then it is as of now. `unix_us` is
    /// now, in microseconds of the epoch; it was looked for in that time, after so many flushes.
    pub fn adopt(
        &self,
        hash: u128,
        key: &[u8],
        foreign: Foreign,
        time: (&str, u64),
        moment: &Moment<'_>,
        unix_us: i64,
    ) -> bool {
        let Some((as_of, now)) = self.vouches(&foreign, time, moment) else { return false };
        // Clocks of machines differ; how long it is kept at most is no question of truth.
        let age = Duration::from_micros(u64::try_from(unix_us.saturating_sub(foreign.born_us)).unwrap_or(0));
        let Foreign { answer, fingerprint, .. } = foreign;
        self.put_back(hash, Entry::new(key, answer, as_of, now.before(age), fingerprint));
        true
    }

    /// What it is as of, and when that was, if it lacks nothing that is known here.
    pub fn vouches(
        &self,
        foreign: &Foreign,
        (epoch, flushes): (&str, u64),
        moment: &Moment<'_>,
    ) -> Option<(AsOf, Instant)> {
        let (now, outside) = (Instant::now(), moment.outside?);
        // In this order: whatever comes, or is written, after the stamp was taken makes it another.
        let as_of = self.as_of(moment, now).ok()?;
        let ended = || moment.versions.ended(moment.tables);
        let same =
            self.flushes() == flushes && outside.vouches(epoch, foreign.position, moment.tables, ended());
        same.then_some((as_of, now))
    }

    /// Where results are kept outside of the process, too.
    pub fn remote(&self) -> Option<&Arc<Remote>> {
        self.remote.get()
    }

    /// Has them kept there, too, from now on.
    pub fn set_remote(&self, remote: Arc<Remote>) {
        let _ = self.remote.set(remote);
    }

    /// Forgets everything, also what is being read now; tells how many flushes there have been.
    pub fn flush(&self) -> u64 {
        self.epoch.fetch_add(1, AcqRel);
        let flushes = self.count_flush();
        self.stats.flush(Flush::All);
        self.entries.clear();
        flushes
    }

    /// How often anything has been flushed.
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Acquire)
    }

    /// Nothing that others find as well is found any more.
    pub fn count_flush(&self) -> u64 {
        let flushes = self.flushes.fetch_add(1, AcqRel) + 1;
        if let Some(remote) = self.remote() {
            remote.tell_flushed();
        }
        flushes
    }

    /// Forgets the results of a shape, also what is being read now, and what is kept outside of the process; tells how many
    /// there were in memory.
    pub fn flush_shape(&self, shape: u128) -> u64 {
        if let Some(flushes) = self.shapes.get(shape as usize % SHAPES) {
            flushes.fetch_add(1, AcqRel);
        }
        self.count_flush();
        self.stats.flush(Flush::Shape);
        // They would be given no more, and the memory may be others'.
        let found: Vec<u64> =
            self.entries.iter().filter(|(_, entry)| entry.fingerprint() == shape).map(|(at, _)| at).collect();
        found.iter().filter(|at| self.entries.remove(*at).is_some()).count() as u64
    }

    /// How many results there are, and about how much memory they take, in bytes; and those that are being collected.
    pub fn size(&self) -> (u64, u64, u64) {
        (self.entries.len() as u64, self.entries.weight(), self.collected.load(Relaxed))
    }

    /// Those that have been asked for most, at most so many.
    pub fn hottest(&self, most: usize) -> Vec<Arc<Entry>> {
        let mut all: Vec<Arc<Entry>> = Vec::with_capacity(most * 2);
        for (_, entry) in self.entries.iter().filter(|(_, entry)| entry.asked() > 0) {
            all.push(entry);
            if all.len() >= most * 2 {
                all.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.asked()));
                all.truncate(most);
            }
        }
        all.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.asked()));
        all.truncate(most);
        all
    }

    /// Results and bytes by shape.
    pub fn by_shape(&self) -> HashMap<u128, (u64, u64)> {
        let mut shapes: HashMap<u128, (u64, u64)> = HashMap::new();
        for (_, entry) in self.entries.iter() {
            let shape = shapes.entry(entry.fingerprint()).or_default();
            *shape = (shape.0 + 1, shape.1 + u64::from(entry.weight()));
        }
        shapes
    }
}

/// Longest that somebody waits for another to read a result.
pub const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::key::Form;
    use super::*;
    use crate::cache::outside::Change;
    use crate::config::CacheMode;
    use crate::fence::versions::Written;

    const TERMS: Terms = Terms {
        remote: false,
        rule: 0,
        auto: false,
        mode: CacheMode::Exact,
        ttl: Duration::from_secs(10),
        stale: Duration::from_secs(10),
        max_rows: 10,
        max_bytes: 100,
    };

    fn answer() -> Answer {
        let sent = b"T\0\0\0\x06\0\0C\0\0\0\x0dSELECT 0\0Z\0\0\0\x05I";
        Answer::read(Form::Simple, sent, 1).unwrap()
    }

    fn moment(versions: &Versions) -> Moment<'_> {
        Moment {
            versions,
            tables: &[7],
            row: None,
            view: 1,
            serial: 1,
            term: 0,
            outside: None,
            seen: None,
            shape: 5,
        }
    }

    #[test]
    fn what_is_kept_is_given_while_it_holds() {
        let cache = Cache::new(1 << 20).unwrap();
        let (versions, now) = (cache.versions.of("d"), Instant::now());
        let moment = moment(&versions);
        let hash = cache.hash(b"key");
        let store = || cache.store(hash, b"key", answer(), cache.as_of(&moment, now).unwrap(), now, 5);
        let is_hit = |moment: &Moment<'_>, key: &[u8]| {
            matches!(cache.find(hash, key, moment, &TERMS, now), Found::Hit(_))
        };
        store();
        assert!(is_hit(&moment, b"key"));
        // A hash that happens to be the same is not enough.
        assert!(!is_hit(&moment, b"kez"));
        for other in [
            Moment { view: 2, ..moment },
            Moment { serial: 2, ..moment },
            Moment { term: 2, ..moment },
            Moment { tables: &[7, 8], versions: &cache.versions.of("other"), ..moment },
        ] {
            assert_eq!(is_hit(&other, b"key"), other.term == 0 && other.view == 1 && other.serial == 1);
        }
        let mut marks = versions.begin();
        marks.add(Written::Tables(&[7]));
        assert!(!is_hit(&moment, b"key") && cache.as_of(&moment, now).is_err());
        marks.end(false);
        assert!(!is_hit(&moment, b"key"));
        store();
        assert!(is_hit(&moment, b"key"));
        cache.flush();
        assert!(!is_hit(&moment, b"key"));
        store();
        assert!(is_hit(&moment, b"key"));
        assert_eq!((cache.flush_shape(4), is_hit(&moment, b"key")), (0, true));
        assert_eq!((cache.flush_shape(5), is_hit(&moment, b"key")), (1, false));
    }

    #[test]
    fn writers_elsewhere_count_where_they_are_asked_for() {
        let cache = Cache::new(1 << 20).unwrap();
        let (versions, now) = (cache.versions.of("d"), Instant::now());
        let outside = cache.outsides.of("main", "d");
        let (bounded, hash) = (moment(&versions), cache.hash(b"key"));
        let exact = Moment { outside: Some(&outside), ..bounded };
        let found =
            |moment: &Moment<'_>, now| matches!(cache.find(hash, b"key", moment, &TERMS, now), Found::Hit(_));
        assert_eq!(cache.as_of(&exact, now), Err(Why::Elsewhere));
        cache.store(hash, b"key", answer(), cache.as_of(&bounded, now).unwrap(), now, 5);
        assert!(found(&bounded, now) && !found(&exact, now));
        outside.begins(Duration::from_secs(1), None);
        let ticket = |outside: &Outside| outside.wants().unwrap().0;
        outside.runs_below(ticket(&outside), 1);
        outside.seen(&"5:5:".parse().unwrap());
        outside.listed(
            ticket(&outside),
            super::super::watched::Watched::new([7].into(), &[], Default::default(), false),
            Instant::default(),
        );
        outside.sampled(now, 0);
        // What was kept without an eye on others is not what it takes.
        assert!(!found(&exact, now));
        cache.store(hash, b"key", answer(), cache.as_of(&exact, now).unwrap(), now, 5);
        assert!(found(&exact, now) && found(&bounded, now));
        assert!(!found(&exact, now + Duration::from_secs(2)));
        outside.committed(Some(6), Some(&[Change::of_table(7)]), 0);
        assert!(!found(&exact, now) && found(&bounded, now));
    }

    #[test]
    fn what_is_old_is_given_while_it_is_read_again() {
        let cache = Cache::new(1 << 20).unwrap();
        let (versions, now) = (cache.versions.of("d"), Instant::now());
        let (moment, hash) = (moment(&versions), cache.hash(b"key"));
        cache.store(hash, b"key", answer(), cache.as_of(&moment, now).unwrap(), now, 5);
        let found = |secs| match cache.find(hash, b"key", &moment, &TERMS, now + Duration::from_secs(secs)) {
            Found::Hit(_) => "hit",
            Found::Late(_) => "late",
            Found::Nothing => "nothing",
        };
        assert_eq!([9, 10, 19, 20].map(found), ["hit", "late", "late", "nothing"]);
    }

    #[test]
    fn memory_is_bounded() {
        let cache = Cache::new(64 << 10).unwrap();
        let (versions, now) = (cache.versions.of("d"), Instant::now());
        let as_of = cache.as_of(&moment(&versions), now).unwrap();
        for n in 0..10_000u32 {
            let key = n.to_be_bytes();
            cache.store(cache.hash(&key), &key, answer(), as_of, now, 5);
        }
        let (entries, bytes, _) = cache.size();
        assert!(bytes <= 64 << 10 && entries > 10, "{entries} {bytes}");
        assert_eq!(cache.stats.evicted.get(), 10_000 - entries, "who makes room is counted");
        let mut collected = cache.collect();
        assert!(collected.add([&[0; 10], &[0; 10]], 1 << 20) && !collected.add([&[0; 100], b""], 50));
        assert!(!collected.add([&[0; 17 << 10], b""], 1 << 20));
        drop(collected);
        assert_eq!(cache.size().2, 0);
    }

    #[tokio::test]
    async fn one_reads_and_the_others_wait() {
        let cache = Cache::new(1 << 20).unwrap();
        let turn = cache.turn(1).unwrap();
        let reading = cache.turn(1).unwrap_err();
        assert!(cache.turn(2).is_ok());
        let waits = tokio::spawn(async move { reading.over().await });
        tokio::task::yield_now().await;
        drop(turn);
        waits.await.unwrap();
        assert!(cache.turn(1).is_ok());
    }
}
