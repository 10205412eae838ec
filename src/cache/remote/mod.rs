//! Results that are kept in Redis, too: what the process' own memory has no room for is found again there.
//!
//! What an entry is as of means something to the process that has read it alone, so each process has names and a key of its
//! own, and what it takes back is looked at like what it never gave away: nothing depends on Redis deleting anything,
//! keeping anything, or telling the truth. Whatever becomes of Redis, statements go on without it: nobody waits for it
//! longer than the deadline, and nobody at all while it is not there.

mod link;
mod seal;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use self::link::{Link, is_lost};
use self::seal::Seal;
use super::l1::Entry;
use crate::config::Redis;
use crate::core::clock::Instant;
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
    link: Mutex<Option<Link>>,
    lost: Notify,
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

/// A result to be kept.
struct Job {
    name: String,
    entry: Arc<Entry>,
    ttl: Duration,
}

impl Remote {
    /// One as configured; it is not connected before it runs.
    ///
    /// # Errors
    /// The system gives no random key.
    pub fn new(redis: Redis) -> Result<Arc<Remote>, String> {
        let (jobs, queue) = mpsc::channel(MOST_JOBS);
        Ok(Arc::new(Remote {
            instance: getrandom::u64().map_err(|e| format!("no random number: {e}"))?,
            seal: Seal::new(redis.encrypt, redis.compress_above)?,
            link: Mutex::new(None),
            lost: Notify::new(),
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

    /// The name of a result with this hash; `flushes` counts how often everything has been forgotten on
    /// request: what was kept before is not even looked for.
    fn name(&self, hash: u128, flushes: u64) -> String {
        format!("turnpike:{:016x}:{flushes}:{hash:032x}", self.instance)
    }

    /// What was kept under this key, if it comes in time.
    pub async fn find(self: Arc<Self>, hash: u128, flushes: u64, key: Box<[u8]>) -> Option<Entry> {
        let Some(mut link) = self.link.lock().clone() else {
            self.stats.away.add(1);
            return None;
        };
        let name = self.name(hash, flushes);
        let sealed = match tokio::time::timeout(self.redis.deadline, link.get(&name)).await {
            Ok(Ok(Some(sealed))) => sealed,
            Ok(Ok(None)) => {
                self.strikes.store(0, Relaxed);
                self.stats.misses.add(1);
                return None;
            }
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
        let open = |remote: &Remote| {
            let bytes = remote.seal.open(name.as_bytes(), &sealed)?;
            Entry::unpack(&bytes, &key)
        };
        let found = if sealed.len() < LARGE {
            open(&self)
        } else {
            let (remote, name, key) = (self.clone(), name.clone(), key.clone());
            let open = move || Entry::unpack(&remote.seal.open(name.as_bytes(), &sealed)?, &key);
            tokio::task::spawn_blocking(open).await.ok().flatten()
        };
        let counter = if found.is_some() { &self.stats.hits } else { &self.stats.broken };
        counter.add(1);
        found
    }

    /// Has a result kept for so long, some time soon, or not at all.
    pub fn keep(&self, hash: u128, flushes: u64, entry: Arc<Entry>, ttl: Duration) {
        if !self.is_there() {
            return;
        }
        let size = entry.size() as u64;
        let job = Job { name: self.name(hash, flushes), entry, ttl };
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
    pub async fn run(self: Arc<Self>) {
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
                    self.serve(link, &mut queue).await;
                    *self.link.lock() = None;
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
                self.waiting.fetch_sub(job.entry.size() as u64, Relaxed);
                self.stats.dropped.add(1);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
    }

    /// Keeps what is to be kept, until the connection is lost.
    async fn serve(self: &Arc<Self>, link: Link, queue: &mut mpsc::Receiver<Job>) {
        let mut under_way = tokio::task::JoinSet::new();
        let mut round = tokio::time::interval(ROUND);
        round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // What was told of the connection before does not count.
                () = self.lost.notified() => if !self.is_there() { break },
                _ = round.tick() => {
                    let mut link = link.clone();
                    match tokio::time::timeout(PATIENCE, link.ping()).await {
                        Ok(Ok(())) => {}
                        Ok(Err(e)) if !is_lost(&e) => self.stats.errors.add(1),
                        _ => break,
                    }
                }
                Some(_) = under_way.join_next() => {}
                Some(job) = queue.recv(), if under_way.len() < AT_ONCE => {
                    under_way.spawn(self.clone().carry(link.clone(), job));
                }
            }
        }
    }

    /// Keeps one result.
    async fn carry(self: Arc<Self>, mut link: Link, job: Job) {
        let Job { name, entry, ttl } = job;
        let size = entry.size();
        let seal = {
            let (remote, name) = (self.clone(), name.clone());
            move || {
                let mut bytes = Vec::with_capacity(size + 128);
                entry.pack(&mut bytes).then(|| remote.seal.close(name.as_bytes(), &bytes)).flatten()
            }
        };
        let sealed =
            if size < LARGE { seal() } else { tokio::task::spawn_blocking(seal).await.ok().flatten() };
        if let Some(sealed) = sealed {
            match tokio::time::timeout(PATIENCE, link.set(&name, &sealed, ttl)).await {
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
