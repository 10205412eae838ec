//! The results that are kept in memory: found by a keyed hash, and only taken where the key is the same byte by byte.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use moka::sync::Cache as Moka;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

mod packed;

use super::answer::Answer;
use super::key::Contexts;
use super::outside::{Outside, Outsides};
use super::policy::Terms;
use super::remote::Remote;
use crate::core::clock::Instant;
use crate::core::stats::Counter;
use crate::fence::versions::{Book, Stamp, Versions};
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
    /// How often everything has been flushed.
    epoch: u64,
}

/// One result.
#[derive(Debug)]
pub struct Entry {
    key: Box<[u8]>,
    /// Its frames.
    pub answer: Answer,
    as_of: AsOf,
    /// When it was asked for.
    born: Instant,
    /// The shape that it is of.
    pub fingerprint: u128,
}

/// What keeping an entry takes beside its bytes.
const OVERHEAD: usize = size_of::<Entry>() + 160;
/// Parts of the list of what is being read.
const PARTS: usize = 16;

impl Entry {
    /// How old it is.
    pub fn age(&self, now: Instant) -> Duration {
        now.since(self.born)
    }

    fn weight(&self) -> u32 {
        u32::try_from(self.key.len() + self.answer.len() + OVERHEAD).unwrap_or(u32::MAX)
    }
}

/// Why an answer was not kept, or not looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The plan says that it must not be.
    Refused,
    /// A transaction was open when it had been answered.
    Transaction,
    /// The session keeps state on a server, or what it has set is not known yet.
    Session,
    /// It has words in it that may tell the time.
    Time,
    /// Its tables are being written to.
    Written,
    /// Its tables were written while it was read.
    Moved,
    /// A replica answered that had not seen all writes.
    Replica,
    /// It cannot be shown what holds: no primary is known, or objects may have changed since the catalog was read.
    Unsure,
    /// It cannot be shown that what was written elsewhere is known, or something is written there just now.
    Elsewhere,
    /// It was too large.
    Large,
    /// It was an error, or came with notices.
    Told,
    /// The connection was lost, or the answer was none that can be kept.
    Broken,
}

impl Why {
    /// All of them, in order.
    pub const ALL: [Why; 12] = [
        Why::Refused,
        Why::Transaction,
        Why::Session,
        Why::Time,
        Why::Written,
        Why::Moved,
        Why::Replica,
        Why::Unsure,
        Why::Elsewhere,
        Why::Large,
        Why::Told,
        Why::Broken,
    ];

    /// A label for metrics and people.
    pub fn label(self) -> &'static str {
        match self {
            Why::Refused => "refused",
            Why::Transaction => "transaction",
            Why::Session => "session",
            Why::Time => "time",
            Why::Written => "written",
            Why::Moved => "moved",
            Why::Replica => "replica",
            Why::Unsure => "unsure",
            Why::Elsewhere => "elsewhere",
            Why::Large => "large",
            Why::Told => "told",
            Why::Broken => "broken",
        }
    }
}

/// Counts of what has been asked of the cache.
#[derive(Debug, Default)]
pub struct Stats {
    /// Results given.
    pub hits: Counter,
    /// Of those, some that were past their time while somebody else read them again.
    pub stale: Counter,
    /// Results that were looked for and were not there.
    pub misses: Counter,
    /// Of those, some that waited for somebody else to read the same.
    pub waited: Counter,
    /// Results kept.
    pub stored: Counter,
    /// Times that everything was flushed.
    pub flushes: Counter,
    bypassed: [Counter; Why::ALL.len()],
}

impl Stats {
    /// Counts one that was not kept, or not looked for.
    pub fn bypass(&self, why: Why) {
        if let Some(counter) = self.bypassed.get(why as usize) {
            counter.add(1);
        }
    }

    /// How many there have been of those.
    pub fn bypassed(&self) -> impl Iterator<Item = (Why, u64)> {
        Why::ALL.into_iter().zip(&self.bypassed).map(|(why, n)| (why, n.get()))
    }
}

/// See the module.
#[derive(Debug)]
pub struct Cache {
    entries: Moka<u128, Arc<Entry>>,
    key: (u64, u64),
    /// Whose results there are.
    pub contexts: Contexts,
    /// Who writes what.
    pub versions: Book,
    /// What is known of those who write past this process.
    pub outsides: Outsides,
    /// Counts.
    pub stats: Stats,
    epoch: AtomicU64,
    /// Flushes of any kind: what is being read then is not kept.
    flushes: AtomicU64,
    reading: [Mutex<HashMap<u128, Arc<Reading>>>; PARTS],
    /// Bytes of answers that are being collected.
    collected: AtomicU64,
    most: u64,
    /// Where results are kept outside of the process, too.
    remote: OnceLock<Arc<Remote>>,
}

/// A result that somebody is reading.
#[derive(Debug, Default)]
pub struct Reading {
    over: AtomicBool,
    changed: Notify,
}

impl Reading {
    /// Waits until it has been read, or will not be.
    pub async fn over(&self) {
        loop {
            let changed = self.changed.notified();
            if self.over.load(Acquire) {
                return;
            }
            changed.await;
        }
    }
}

/// The one whose turn it is to read a result. Others wait until it is dropped.
#[derive(Debug)]
pub struct Turn {
    cache: Arc<Cache>,
    hash: u128,
    reading: Arc<Reading>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.cache.part(self.hash).lock().remove(&self.hash);
        self.reading.over.store(true, Release);
        self.reading.changed.notify_waiters();
    }
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
    /// See [`AsOf::view`].
    pub view: u64,
    /// See [`AsOf::serial`].
    pub serial: u64,
    /// See [`AsOf::term`].
    pub term: u32,
    /// What is known of writers elsewhere, where there are any and the result must be as fresh as theirs.
    pub outside: Option<&'a Outside>,
}

impl Cache {
    /// One that takes about this much memory at most, in bytes.
    ///
    /// # Errors
    /// The system gives no random key.
    pub fn new(max_memory: u64) -> Result<Arc<Cache>, String> {
        let number = || getrandom::u64().map_err(|e| format!("no random key: {e}"));
        let weigher = |_: &u128, entry: &Arc<Entry>| entry.weight();
        Ok(Arc::new(Cache {
            entries: Moka::builder().max_capacity(max_memory).weigher(weigher).build(),
            key: (number()?, number()?),
            contexts: Contexts::default(),
            versions: Book::default(),
            outsides: Outsides::default(),
            stats: Stats::default(),
            epoch: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            reading: Default::default(),
            collected: AtomicU64::new(0),
            // What is not kept yet takes memory as well.
            most: max_memory / 4,
            remote: OnceLock::new(),
        }))
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
        let Moment { view, serial, term, .. } = *moment;
        let epoch = self.epoch.load(Acquire);
        let stamp = moment.versions.stamp(moment.tables).ok_or(Why::Written)?;
        let elsewhere = |outside: &Outside| outside.stamp(moment.tables, now).ok_or(Why::Elsewhere);
        let outside = moment.outside.map(elsewhere).transpose()?;
        Ok(AsOf { stamp, view, serial, term, outside, epoch })
    }

    /// Whether that is still what holds now.
    #[inline]
    pub fn holds(&self, as_of: &AsOf, moment: &Moment<'_>) -> bool {
        (as_of.view, as_of.serial, as_of.term) == (moment.view, moment.serial, moment.term)
            && as_of.epoch == self.epoch.load(Acquire)
            && moment.versions.is_current(moment.tables, as_of.stamp)
            && moment.outside.is_none_or(|outside| {
                as_of.outside.is_some_and(|stamp| outside.is_current(moment.tables, stamp))
            })
    }

    /// How often anything has been flushed.
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Acquire)
    }

    /// How often everything has been flushed.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Acquire)
    }

    /// Looks for a result.
    #[inline]
    pub fn find(&self, hash: u128, key: &[u8], moment: &Moment<'_>, terms: &Terms, now: Instant) -> Found {
        let Some(entry) = self.entries.get(&hash) else { return Found::Nothing };
        let shown = moment.outside.is_none_or(|outside| outside.is_shown(now));
        if *entry.key != *key || !shown || !self.holds(&entry.as_of, moment) {
            return Found::Nothing;
        }
        let age = now.since(entry.born);
        if age < terms.ttl {
            Found::Hit(entry)
        } else if age < terms.ttl.saturating_add(terms.stale) {
            Found::Late(entry)
        } else {
            Found::Nothing
        }
    }

    /// Takes the turn at reading a result, or tells whom to wait for.
    ///
    /// # Errors
    /// Who is reading it.
    pub fn turn(self: &Arc<Self>, hash: u128) -> Result<Turn, Arc<Reading>> {
        let mut part = self.part(hash).lock();
        if let Some(reading) = part.get(&hash) {
            return Err(reading.clone());
        }
        let reading = Arc::<Reading>::default();
        part.insert(hash, reading.clone());
        drop(part);
        Ok(Turn { cache: self.clone(), hash, reading })
    }

    fn part(&self, hash: u128) -> &Mutex<HashMap<u128, Arc<Reading>>> {
        &self.reading[(hash >> 64) as usize % PARTS]
    }

    /// Begins to collect an answer.
    pub fn collect(self: &Arc<Self>) -> Collected {
        Collected { flushes: self.flushes.load(Acquire), cache: self.clone(), bytes: Vec::new(), counted: 0 }
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
        let known = self.entries.get(&hash).filter(|known| *known.key == *key && known.as_of == as_of);
        // Who asks for less than others does not take away what they need.
        let answer = match known {
            Some(known) => answer.with(&known.answer),
            None => answer,
        };
        self.stats.stored.add(1);
        let entry = Arc::new(Entry { key: key.into(), answer, as_of, born, fingerprint });
        self.entries.insert(hash, entry.clone());
        entry
    }

    /// Keeps what was kept outside; whether it may be given is found out like that of any other.
    pub fn put_back(&self, hash: u128, entry: Entry) {
        self.entries.insert(hash, Arc::new(entry));
    }

    /// Where results are kept outside of the process, too.
    pub fn remote(&self) -> Option<&Arc<Remote>> {
        self.remote.get()
    }

    /// Has them kept there, too, from now on.
    pub fn set_remote(&self, remote: Arc<Remote>) {
        let _ = self.remote.set(remote);
    }

    /// Forgets everything, also what is being read now.
    pub fn flush(&self) {
        self.flushes.fetch_add(1, AcqRel);
        self.epoch.fetch_add(1, AcqRel);
        self.stats.flushes.add(1);
        self.entries.invalidate_all();
    }

    /// Forgets the results of a shape; tells how many there were.
    pub fn flush_shape(&self, shape: u128) -> u64 {
        self.flushes.fetch_add(1, AcqRel);
        let found: Vec<u128> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.fingerprint == shape)
            .map(|(hash, _)| *hash)
            .collect();
        found.iter().for_each(|hash| self.entries.invalidate(hash));
        found.len() as u64
    }

    /// How many results there are, and about how much memory they take, in bytes; and those that are being collected.
    pub fn size(&self) -> (u64, u64, u64) {
        self.entries.run_pending_tasks();
        (self.entries.entry_count(), self.entries.weighted_size(), self.collected.load(Relaxed))
    }

    /// Results and bytes by shape.
    pub fn by_shape(&self) -> HashMap<u128, (u64, u64)> {
        let mut shapes: HashMap<u128, (u64, u64)> = HashMap::new();
        for (_, entry) in &self.entries {
            let shape = shapes.entry(entry.fingerprint).or_default();
            *shape = (shape.0 + 1, shape.1 + u64::from(entry.weight()));
        }
        shapes
    }
}

/// An answer as far as it has come, which is forgotten when it is too large.
#[derive(Debug)]
pub struct Collected {
    cache: Arc<Cache>,
    bytes: Vec<u8>,
    counted: u64,
    flushes: u64,
}

impl Collected {
    /// Adds what has come. False where that is more than `max`, or than may be collected by all together.
    pub fn add(&mut self, parts: [&[u8]; 2], max: usize) -> bool {
        let more = parts[0].len() + parts[1].len();
        if self.bytes.len() + more > max {
            return false;
        }
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        let grown = self.bytes.capacity() as u64 - self.counted;
        self.counted += grown;
        self.cache.collected.fetch_add(grown, Relaxed) + grown <= self.cache.most
    }

    /// All that has come.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether nothing was flushed meanwhile.
    pub fn is_wanted(&self) -> bool {
        self.cache.flushes.load(Acquire) == self.flushes
    }
}

impl Drop for Collected {
    fn drop(&mut self) {
        self.cache.collected.fetch_sub(self.counted, Relaxed);
    }
}

/// Longest that somebody waits for another to read a result.
pub const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::key::Form;
    use super::*;
    use crate::config::CacheMode;
    use crate::fence::versions::Written;

    const TERMS: Terms = Terms {
        remote: false,
        rule: 0,
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
        Moment { versions, tables: &[7], view: 1, serial: 1, term: 0, outside: None }
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
        outside.begins(Duration::from_secs(1));
        let ticket = |outside: &Outside| outside.wants().unwrap().0;
        outside.runs_below(ticket(&outside), 1);
        outside.seen(&"5:5:".parse().unwrap());
        outside.listed(ticket(&outside), super::super::watched::Watched::new([7].into(), &[], false));
        outside.sampled(now, 0);
        // What was kept without an eye on others is not what it takes.
        assert!(!found(&exact, now));
        cache.store(hash, b"key", answer(), cache.as_of(&exact, now).unwrap(), now, 5);
        assert!(found(&exact, now) && found(&bounded, now));
        assert!(!found(&exact, now + Duration::from_secs(2)));
        outside.committed(Some(6), Some(&[7]));
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
