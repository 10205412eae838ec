//! What keeping results costs, by the allocator's own account: memory over what is kept, also while somebody scans past
//! all of it; how many of the results are hits that could be; and that a hit allocates nothing of its own.
//!
//! In a binary of its own, since it counts every allocation of its process. 16 MiB by default; more by
//! `CACHE_MIB=1024 cargo test --release --test memory -- --nocapture`.

#![allow(clippy::print_stdout, reason = "what was measured is worth reading")]

use std::alloc::System;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use turnpike::cache::Cache;
use turnpike::cache::answer::Answer;
use turnpike::cache::key::{self, Form};
use turnpike::cache::l1::{Found, Moment};
use turnpike::cache::policy::Terms;
use turnpike::config::CacheMode;
use turnpike::core::clock::Instant;
use turnpike::fence::versions::Versions;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const TERMS: Terms = Terms {
    remote: false,
    rule: 0,
    auto: false,
    mode: CacheMode::Exact,
    ttl: Duration::from_secs(3600),
    stale: Duration::ZERO,
    max_rows: 10_000,
    max_bytes: 1 << 20,
};

/// How much is kept.
fn capacity() -> u64 {
    std::env::var("CACHE_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(16) << 20
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The nth of so many has weight 1/n^0.99.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(many: usize) -> Zipf {
        let mut sums = Vec::with_capacity(many);
        let mut sum = 0.0;
        for n in 1..=many {
            sum += (n as f64).powf(-0.99);
            sums.push(sum);
        }
        Zipf(sums)
    }

    fn roll(&self, dice: &mut Dice) -> u64 {
        let at = dice.roll() * self.0.last().copied().unwrap_or_default();
        self.0.partition_point(|sum| *sum < at) as u64
    }
}

/// A result of one row with a value of `len` bytes, as a server sends it.
fn answer(len: usize) -> Answer {
    let frame = |kind: u8, body: &[u8]| [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat();
    let value = [&1u16.to_be_bytes()[..], &(len as u32).to_be_bytes(), &vec![b'x'; len]].concat();
    let column = b"\0\x01abalance\0\0\0\x40\x13\0\x03\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0";
    let frames = [frame(b'T', column), frame(b'D', &value), frame(b'C', b"SELECT 1\0"), frame(b'Z', b"I")];
    Answer::read(Form::Simple, &frames.concat(), 10).expect("an answer")
}

/// A cache that somebody asks.
struct Bed {
    cache: Arc<Cache>,
    versions: Arc<Versions>,
    answer: Answer,
    key: Vec<u8>,
    out: Vec<u8>,
    now: Instant,
}

impl Bed {
    fn new(capacity: u64, len: usize) -> Bed {
        let cache = Cache::new(capacity).expect("a cache");
        let versions = cache.versions.of("memory");
        let (key, out) = (Vec::with_capacity(1024), Vec::with_capacity(64 << 10));
        Bed { cache, versions, answer: answer(len), key, out, now: Instant::now() }
    }

    /// Asks for a result as a session does; true where it is there. Else it is read and kept.
    fn ask(&mut self, n: u64) -> bool {
        use std::io::Write;
        let Bed { cache, versions, answer, key, out, now } = self;
        let moment = Moment {
            versions,
            tables: &[16_401],
            row: None,
            view: 1,
            serial: 1,
            term: 0,
            seen: None,
            outside: None,
            shape: 1,
        };
        out.clear();
        write!(out, "SELECT abalance FROM pgbench_accounts WHERE aid = {n};").expect("written");
        key::begin(key, Form::Simple, 1, out);
        let hash = cache.hash(key);
        if let Found::Hit(entry) = cache.find(hash, key, &moment, &TERMS, *now) {
            out.clear();
            out.extend_from_slice(entry.answer.rows());
            cache.given(&entry);
            return true;
        }
        let as_of = cache.as_of(&moment, *now).expect("nobody writes");
        cache.store(hash, key, answer.clone(), as_of, *now, 1);
        false
    }

    /// Bytes of key and answer together.
    fn payload(&self) -> u64 {
        (self.key.len() + self.answer.len()) as u64
    }
}

/// Bytes on the heap since.
fn held(region: &Region<'_, System>) -> f64 {
    let change = region.change();
    // What is reallocated is among both.
    change.bytes_allocated as f64 - change.bytes_deallocated as f64
}

fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok()).unwrap_or_default() * 4096.0
}

/// All of them one after the other: the allocator counts for the whole process.
#[test]
fn keeping_costs_what_it_may() {
    memory_is_what_is_kept();
    a_scan_neither_grows_it_nor_empties_it();
    hits_are_nearly_those_of_an_oracle();
    a_hit_allocates_nothing();
}

/// Of small results and large ones the memory is what it is said to be, and of those of a few rows little more than their
/// bytes.
fn memory_is_what_is_kept() {
    for (len, over_payload) in [(16, 2.2), (400, 0.6), (2048, 0.15), (4096, 0.15), (64 << 10, 0.15)] {
        let region = Region::new(ALLOCATOR);
        let resident_before = resident();
        let mut bed = Bed::new(capacity(), len);
        bed.ask(0);
        // One and a half times what there is room for.
        let most = capacity() / (bed.payload() + 500) * 3 / 2;
        let mut worst = 0.0f64;
        for n in 0..most {
            bed.ask(n);
            if n % 1024 == 0 || len > 1000 {
                worst = worst.max(held(&region));
            }
        }
        let (entries, weighed, _) = bed.cache.size();
        let (held, payload) = (held(&region), (entries * bed.payload()) as f64);
        let resident = resident() - resident_before;
        println!(
            "{len} bytes: {entries} entries, {:.0} bytes each beside {} of payload; of {} MiB weighed {:.3}, held {:.3}, \
             at worst {:.3}, resident {:.3}; over the payload {:.3}",
            (held - payload) / entries as f64,
            bed.payload(),
            capacity() >> 20,
            weighed as f64 / capacity() as f64,
            held / capacity() as f64,
            worst / capacity() as f64,
            resident / capacity() as f64,
            held / payload - 1.0,
        );
        assert!(weighed <= capacity());
        assert!(weighed as f64 >= capacity() as f64 * 0.9, "it is used");
        assert!(worst.max(held) < capacity() as f64 * 1.15, "{len}: no more than it may");
        assert!(held / payload - 1.0 < over_payload, "{len}");
    }
}

/// Somebody reads what nobody asks for again, as much as all others together.
fn a_scan_neither_grows_it_nor_empties_it() {
    let region = Region::new(ALLOCATOR);
    let mut bed = Bed::new(capacity(), 400);
    let many = (capacity() / 1000) as usize;
    let (zipf, mut dice) = (Zipf::new(many), Dice(7));
    let rounds = many as u64 * 8;
    let (mut hits, mut asked, mut worst) = (0, 0, 0.0f64);
    for n in 0..rounds {
        let hit = bed.ask(zipf.roll(&mut dice));
        bed.ask((1 << 32) + n);
        if n > rounds / 2 {
            (hits, asked) = (hits + u64::from(hit), asked + 1);
        }
        if n % 1024 == 0 {
            worst = worst.max(held(&region));
        }
    }
    let ratio = hits as f64 / asked as f64;
    println!("under a scan: hits {ratio:.3}, at worst {:.3} of the memory", worst / capacity() as f64);
    assert!(worst < capacity() as f64 * 1.15);
    assert!(ratio > 0.8, "{ratio}: most of it has room");
}

/// Keeps those that have been asked for most often, and forgets no count: what no cache can do.
struct Oracle {
    room: usize,
    counts: HashMap<u64, u64>,
    kept: BTreeSet<(u64, u64)>,
}

impl Oracle {
    fn ask(&mut self, n: u64) -> bool {
        let count = self.counts.entry(n).or_default();
        let hit = self.kept.remove(&(*count, n));
        *count += 1;
        if hit || self.kept.len() < self.room {
            self.kept.insert((*count, n));
        } else if self.kept.first().is_some_and(|least| *least < (*count, n)) {
            self.kept.pop_first();
            self.kept.insert((*count, n));
        }
        hit
    }
}

/// Against somebody who knows how often everything has ever been asked for.
fn hits_are_nearly_those_of_an_oracle() {
    let mut bed = Bed::new(capacity(), 400);
    for n in 0..capacity() / 400 {
        bed.ask((1 << 33) + n);
    }
    // As many as it has room for, and ten times as many that are asked for.
    let room = bed.cache.size().0 as usize;
    let mut bed = Bed::new(capacity(), 400);
    let mut oracle = Oracle { room, counts: HashMap::new(), kept: BTreeSet::new() };
    let (zipf, mut dice) = (Zipf::new(room * 10), Dice(11));
    let rounds = room * 30;
    let (mut hits, mut known, mut asked) = (0, 0, 0);
    for round in 0..rounds {
        let n = zipf.roll(&mut dice);
        let (hit, oracles) = (bed.ask(n), oracle.ask(n));
        if round > rounds / 2 {
            (hits, known, asked) = (hits + u64::from(hit), known + u64::from(oracles), asked + 1);
        }
    }
    let (ratio, oracle) = (hits as f64 / asked as f64, known as f64 / asked as f64);
    println!("Zipf 0.99, room for {room} of {}: hits {ratio:.4}, of an oracle {oracle:.4}", room * 10);
    assert!(ratio > oracle * 0.95, "{ratio} {oracle}");
}

fn a_hit_allocates_nothing() {
    let mut bed = Bed::new(capacity(), 400);
    for n in 0..1000 {
        bed.ask(n);
    }
    bed.cache.size();
    // What is made once: thread-locals.
    for n in 0..2000 {
        bed.ask(n % 1000);
    }
    let region = Region::new(ALLOCATOR);
    let hits = (0..100_000u64).filter(|n| bed.ask(n % 1000)).count();
    let change = region.change();
    println!("{hits} hits: {} allocations, {} reallocations", change.allocations, change.reallocations);
    assert_eq!((hits, change.reallocations), (100_000, 0));
    assert_eq!(change.allocations, 0, "{change:?}");
}
