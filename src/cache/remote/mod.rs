//! Results that are kept in Redis, too: what the process' own memory has no room for is found again there.
//!
//! What an entry is as of means something to the process that has read it alone, so each process has names and a key of its
//! own, and what it takes back is looked at like what it never gave away. Where the server's WAL is a clock for all, and
//! they have a key in common, entries have positions in that, and what one process keeps others find ([`common`]).
//! Nothing depends on Redis deleting anything, keeping anything, or telling the truth. Whatever becomes of Redis,
//! statements go on without it: nobody waits for it longer than the deadline, and nobody at all while it is not there.

mod common;
mod seal;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use self::common::Common;
use self::seal::Seal;
use super::l1::{Cache, Entry, Foreign};
use super::link::{Link, is_lost};
use super::outside::Outside;
use crate::config::Redis;
use crate::core::clock::Instant;
use crate::core::keyfile;
use crate::core::stats::Counter;

/// Results that wait to be kept, and their bytes; what is more is not kept there.
const MOST_JOBS: usize = 256;
const MOST_BYTES: u64 = 16 << 20;
/// Results that are being kept at once.
const AT_ONCE: usize = 8;
/// Bytes from which sealing and opening are other threads' work: they would hold up a worker for a millisecond.
const LARGE: usize = 64 * 1024;
/// Answers in a row that were too late before it counts as gone.
const STRIKES: u32 = 8;
/// How often, and how long, it is looked whether what others may find is to be had for good.
const RIPENS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(5));
/// How often it is looked after.
const ROUND: Duration = Duration::from_secs(1);
/// Pauses between two attempts to connect.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Longest time for what no client waits for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Counts of what has been asked of it.
#[derive(Debug, Default)]
pub struct Stats {
    /// Results found.
    pub hits: Counter,
    /// Results that were not there.
    pub misses: Counter,
    /// Times that the answer was too late.
    pub late: Counter,
    /// Errors, of whatever kind.
    pub errors: Counter,
    /// Times that it was not there to be asked.
    pub away: Counter,
    /// What was there was not what had been kept.
    pub broken: Counter,
    /// Times that the connection was lost, or given up.
    pub lost: Counter,
    /// What another process had kept was older than what is known here to have been written.
    pub outdated: Counter,
    /// Times that another process was reading the same, and was waited for.
    pub waited: Counter,
    /// Results kept.
    pub stored: Counter,
    /// Bytes of those, as they are kept.
    pub bytes: Counter,
    /// Results that were not: too much waited to be kept.
    pub dropped: Counter,
}

/// See the module.
pub struct Remote {
    redis: Redis,
    /// Tells this process' names from others'.
    instance: u64,
    seal: Seal,
    /// What other processes know as well.
    common: Option<Common>,
    link: Mutex<Option<Link>>,
    lost: Notify,
    flushed: Notify,
    strikes: AtomicU32,
    jobs: mpsc::Sender<Job>,
    queue: Mutex<Option<mpsc::Receiver<Job>>>,
    waiting: AtomicU64,
    /// Counts.
    pub stats: Stats,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("nodes", &self.redis.nodes).finish_non_exhaustive()
    }
}

/// What a result is found by.
#[derive(Clone, Debug)]
pub struct Name {
    text: String,
    /// What it must have been kept under, byte by byte.
    key: Box<[u8]>,
    /// Which time it is of, where others find it as well.
    epoch: Option<Arc<str>>,
    /// After how many flushes it was that.
    flushes: u64,
}

impl Name {
    /// After how many flushes it was the name of that.
    pub fn flushes(&self) -> u64 {
        self.flushes
    }

    /// Which time it is of, where other processes find it as well.
    pub fn epoch(&self) -> Option<&Arc<str>> {
        self.epoch.as_ref()
    }
}

/// A result that was found.
#[derive(Debug)]
pub enum Found {
    /// One that this process has kept.
    Own(Entry),
    /// One that any may have.
    Foreign(Foreign),
    /// What nobody has kept under that name.
    Broken,
}

/// What is to be known of a result that others may find.
pub struct Ripening {
    /// As of which position it is valid.
    pub position: u64,
    /// When it was asked for, in microseconds of the epoch.
    pub born_us: i64,
    /// When it had been answered.
    pub answered: Instant,
    /// Who knows when all that it saw is on the server's disk, so that nothing of it can be lost any more.
    pub outside: Arc<Outside>,
}

/// A result to be kept.
struct Job {
    name: Name,
    entry: Arc<Entry>,
    ttl: Duration,
    ripens: Option<Ripening>,
}

impl Job {
    /// Whether what its result saw cannot be lost any more. `None` where it is of no use.
    fn is_ripe(&self) -> Option<bool> {
        let Some(Ripening { answered, outside, .. }) = &self.ripens else { return Some(true) };
        let of_now = outside.epoch().is_some_and(|epoch| self.name.epoch.as_deref() == Some(&*epoch));
        (of_now && answered.elapsed() < RIPENS.1).then(|| outside.come() > *answered)
    }
}

impl Remote {
    /// One as configured; it is not connected before it runs.
    ///
    /// # Errors
    /// The system gives no random key.
    pub fn new(redis: Redis) -> Result<Arc<Remote>, String> {
        let (jobs, queue) = mpsc::channel(MOST_JOBS);
        let key = redis.key_file.as_deref().map(keyfile::key).transpose()?;
        Ok(Arc::new(Remote {
            instance: getrandom::u64().map_err(|e| format!("no random number: {e}"))?,
            seal: Seal::new(redis.encrypt, redis.compress_above, key)?,
            common: key.map(|_| Common::default()),
            link: Mutex::new(None),
            lost: Notify::new(),
            flushed: Notify::new(),
            strikes: AtomicU32::new(0),
            jobs,
            queue: Mutex::new(Some(queue)),
            waiting: AtomicU64::new(0),
            stats: Stats::default(),
            redis,
        }))
    }

    /// Whether it can be asked.
    pub fn is_there(&self) -> bool {
        self.link.lock().is_some()
    }

    /// The name of a result with this hash, for this process; `flushes` counts how often everything has been forgotten
    /// on request: what was kept before is not even looked for.
    pub fn own(&self, hash: u128, flushes: u64, key: &[u8]) -> Name {
        let text = format!("turnpike:{:016x}:{flushes}:{hash:032x}", self.instance);
        Name { text, key: key.into(), epoch: None, flushes: 0 }
    }

    /// What was kept under this name, if it comes in time.
    /// What does not count is asked again and again.
    pub async fn find(self: Arc<Self>, name: Name, counts: bool) -> Option<Found> {
        let sealed = self.fetch(&name.text, counts).await?;
        let opened = if sealed.len() < LARGE {
            self.open(&name, &sealed)
        } else {
            let remote = self.clone();
            tokio::task::spawn_blocking(move || remote.open(&name, &sealed)).await.ok().flatten()
        };
        let found = opened.unwrap_or(Found::Broken);
        match &found {
            Found::Own(_) => self.stats.hits.add(1),
            // Whether that is of use is to be seen.
            Found::Foreign(_) => {}
            Found::Broken => self.stats.broken.add(1),
        }
        Some(found)
    }

    /// What is kept under this name, where that is not to be given: nothing is counted. Nothing at all where that does not
    /// come in time.
    pub async fn peek(&self, name: &Name) -> Option<Option<Found>> {
        let mut link = self.link.lock().clone()?;
        let sealed = tokio::time::timeout(self.redis.deadline, link.get(&name.text)).await.ok()?.ok()?;
        Some(sealed.map(|sealed| self.open(name, &sealed).unwrap_or(Found::Broken)))
    }

    fn open(&self, name: &Name, sealed: &[u8]) -> Option<Found> {
        let bytes = self.seal.open(name.text.as_bytes(), sealed)?;
        match name.epoch {
            None => Entry::unpack(&bytes, &name.key).map(Found::Own),
            Some(_) => Foreign::unpack(&bytes, &name.key).map(Found::Foreign),
        }
    }

    /// What there is under a name, if it comes in time.
    async fn fetch(&self, name: &str, counts: bool) -> Option<Vec<u8>> {
        let Some(mut link) = self.link.lock().clone() else {
            self.stats.away.add(1);
            return None;
        };
        let sealed = match tokio::time::timeout(self.redis.deadline, link.get(name)).await {
            Ok(Ok(sealed)) => sealed,
            Ok(Err(e)) => {
                self.failed(&e);
                return None;
            }
            Err(_) => {
                self.stats.late.add(1);
                if self.strikes.fetch_add(1, Relaxed) + 1 >= STRIKES {
                    self.lose();
                }
                return None;
            }
        };
        self.strikes.store(0, Relaxed);
        if sealed.is_none() && counts {
            self.stats.misses.add(1);
        }
        sealed
    }

    /// Has a result kept for so long, some time soon, or not at all.
    pub fn keep(&self, name: Name, entry: Arc<Entry>, ttl: Duration, ripens: Option<Ripening>) {
        if !self.is_there() {
            return;
        }
        let size = entry.size() as u64;
        let job = Job { name, entry, ttl, ripens };
        if let Some(ripening) = &job.ripens {
            ripening.outside.hurry();
        }
        if self.waiting.fetch_add(size, Relaxed) + size > MOST_BYTES || self.jobs.try_send(job).is_err() {
            self.waiting.fetch_sub(size, Relaxed);
            self.stats.dropped.add(1);
        }
    }

    fn failed(&self, e: &redis::RedisError) {
        self.stats.errors.add(1);
        if is_lost(e) {
            self.lose();
        }
    }

    /// It counts as gone until it has been connected to anew.
    fn lose(&self) {
        if self.link.lock().take().is_some() {
            self.lost.notify_one();
        }
    }

    /// Keeps the connection, and what is to be kept, for as long as it is polled.
    pub async fn run(self: Arc<Self>, cache: &Cache) {
        let Some(mut queue) = self.queue.lock().take() else { return };
        let (mut pause, mut told) = (RETRY.0, false);
        loop {
            match tokio::time::timeout(PATIENCE * 2, Link::open(&self.redis)).await {
                Ok(Ok(link)) => {
                    tracing::info!(redis = ?self.redis.nodes, "Redis is there");
                    told = false;
                    self.strikes.store(0, Relaxed);
                    *self.link.lock() = Some(link.clone());
                    let began = Instant::now();
                    self.serve(link, &mut queue, cache).await;
                    *self.link.lock() = None;
                    self.stats.lost.add(1);
                    common::forget(cache);
                    // One that is lost at once is not tried more often than one that is not there.
                    if began.elapsed() > RETRY.1 {
                        pause = RETRY.0;
                    }
                    tracing::warn!(redis = ?self.redis.nodes, "Redis is lost: statements go on without it");
                }
                failed if !told => {
                    let why = failed.map_or("it does not answer".into(), |r| {
                        r.err().map_or(String::new(), |e| e.to_string())
                    });
                    tracing::warn!(redis = ?self.redis.nodes, error = %why, "Redis is not there");
                    told = true;
                }
                _ => {}
            }
            // Nobody waits for what was to be kept there.
            while let Ok(job) = queue.try_recv() {
                self.drop_job(&job);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
    }

    /// Keeps what is to be kept, until the connection is lost.
    async fn serve(self: &Arc<Self>, link: Link, queue: &mut mpsc::Receiver<Job>, cache: &Cache) {
        let (mut under_way, mut rounds) = (tokio::task::JoinSet::new(), 0u64);
        let (mut unripe, mut ripe) = (VecDeque::new(), VecDeque::new());
        let [mut round, mut ripening] = [ROUND, RIPENS.0].map(|every| {
            let mut interval = tokio::time::interval(every);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            interval
        });
        loop {
            while under_way.len() < AT_ONCE
                && let Some(job) = ripe.pop_front()
            {
                under_way.spawn(self.clone().carry(link.clone(), job));
            }
            tokio::select! {
                // What was told of the connection before does not count.
                () = self.lost.notified() => if !self.is_there() { break },
                () = self.flushed.notified() => round.reset_immediately(),
                _ = round.tick() => {
                    let mut link = link.clone();
                    rounds += 1;
                    let looked_after = async {
                        link.ping(&rounds.to_string()).await?;
                        self.share(&mut link, cache).await
                    };
                    match tokio::time::timeout(PATIENCE, looked_after).await {
                        Ok(Ok(())) => {}
                        Ok(Err(e)) if !is_lost(&e) => self.stats.errors.add(1),
                        _ => break,
                    }
                }
                _ = ripening.tick(), if !unripe.is_empty() => self.ripen(&mut unripe, &mut ripe),
                Some(_) = under_way.join_next() => {}
                Some(job) = queue.recv(), if ripe.is_empty() && under_way.len() < AT_ONCE => match job.is_ripe() {
                    Some(true) => ripe.push_back(job),
                    Some(false) if unripe.len() < MOST_JOBS * 4 => unripe.push_back(job),
                    _ => self.drop_job(&job),
                },
            }
        }
        ripe.iter().chain(&unripe).for_each(|job| self.drop_job(job));
    }

    /// Takes those that may be kept by now from those that wait for that.
    fn ripen(&self, unripe: &mut VecDeque<Job>, ripe: &mut VecDeque<Job>) {
        for job in std::mem::take(unripe) {
            match job.is_ripe() {
                Some(true) => ripe.push_back(job),
                Some(false) => unripe.push_back(job),
                None => self.drop_job(&job),
            }
        }
    }

    fn drop_job(&self, job: &Job) {
        self.waiting.fetch_sub(job.entry.size() as u64, Relaxed);
        self.stats.dropped.add(1);
    }

    /// All is to be forgotten that was kept before: others are told soon.
    pub fn tell_flushed(&self) {
        self.flushed.notify_one();
    }

    /// Keeps one result.
    async fn carry(self: Arc<Self>, mut link: Link, job: Job) {
        let Job { name, entry, ttl, ripens } = job;
        let (size, text) = (entry.size(), name.text.clone());
        let seal = {
            let remote = self.clone();
            move || {
                let mut bytes = Vec::with_capacity(size + 128);
                let packed = match ripens {
                    None => entry.pack(&mut bytes),
                    Some(Ripening { position, born_us, .. }) => {
                        entry.pack_for_all(&name.key, position, born_us, &mut bytes)
                    }
                };
                packed.then(|| remote.seal.close(name.text.as_bytes(), &bytes)).flatten()
            }
        };
        let sealed =
            if size < LARGE { seal() } else { tokio::task::spawn_blocking(seal).await.ok().flatten() };
        if let Some(sealed) = sealed {
            match tokio::time::timeout(PATIENCE, link.set(&text, &sealed, ttl)).await {
                Ok(Ok(())) => {
                    self.stats.stored.add(1);
                    self.stats.bytes.add(sealed.len() as u64);
                }
                Ok(Err(e)) => self.failed(&e),
                Err(_) => self.lose(),
            }
        }
        self.waiting.fetch_sub(size as u64, Relaxed);
    }
}
