//! The limits of all backends, looked after by the pools' sweeper.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::hours::Hours;
use super::keep::{self, Key, MOST_POOLS};
use super::{Limiter, Sight, Why};
use crate::core::clock::Instant;
use crate::pool::pool::Pool;
use crate::pool::sized::Memo;

/// Time between two looks; the sweeper may come more often.
const LOOK: Duration = Duration::from_millis(95);
/// Idle time after which a connection is closed that an adaptive pool may not have any more.
pub const SURPLUS_AFTER: Duration = Duration::from_secs(30);
/// Time between two times that the hours are written down.
const KEEP: Duration = Duration::from_secs(300);

/// See the module.
#[derive(Debug, Default)]
pub struct Limits {
    backends: BTreeMap<String, Limiter>,
    /// Of pools that there were.
    hours: HashMap<Key, Hours>,
    dir: Option<PathBuf>,
    looked: Option<Instant>,
    kept: Option<Instant>,
}

/// The limit of one backend, for observers.
#[derive(Clone, Debug)]
pub struct LimitRow {
    /// The backend's name.
    pub backend: String,
    /// Loans that it may have now, but for those that are slow by nature.
    pub limit: u32,
    /// Around which that swings.
    pub level: f64,
    /// Loans that are slow by nature, on top of it.
    pub slow: u32,
    /// On loan in all.
    pub lent: u32,
    /// Clients that wait.
    pub waiting: u32,
    /// How much more gets done with more, as an elasticity.
    pub elasticity: f64,
    /// What statements usually take divided by what they take.
    pub gradient: f64,
    /// What an ordinary statement usually takes.
    pub floor: Duration,
    /// Seconds of such statements that are done in a second.
    pub throughput: f64,
    /// How often it has moved down, and up.
    pub moves: [u64; 2],
    /// Why it last moved.
    pub why: Why,
}

impl Limits {
    /// None yet; what was kept is read from the directory.
    pub fn new(dir: Option<PathBuf>) -> Limits {
        let hours = dir.as_deref().map(keep::load).unwrap_or_default().into_iter().collect();
        Limits { hours, dir, ..Limits::default() }
    }

    /// Looks at all pools, if it is time, and sets what they may lend.
    pub fn look(&mut self, pools: &[Arc<Pool>], now: Instant) {
        let passed = self.looked.map_or(LOOK, |at| now.since(at));
        if passed < LOOK {
            return;
        }
        self.looked = Some(now);
        let mut backends: BTreeMap<&str, Vec<&Arc<Pool>>> = BTreeMap::new();
        for pool in pools.iter().filter(|pool| pool.bounds.is_adaptive()) {
            backends.entry(pool.target.name()).or_default().push(pool);
        }
        self.backends.retain(|name, _| backends.contains_key(name.as_str()));
        if backends.is_empty() {
            return;
        }
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        for (name, pools) in backends {
            let (sights, usual): (Vec<Sight>, Vec<u32>) =
                pools.iter().map(|pool| self.look_at(pool, now, wall)).unzip();
            let limiter = self.backends.entry(name.to_string()).or_default();
            limiter.expect(usual.iter().fold(0, |sum, n| sum.saturating_add(*n)));
            let bound = pools.first().and_then(|pool| pool.target.cap.bound());
            let grants = limiter.look(passed, &sights, bound);
            for ((pool, grant), usual) in pools.iter().zip(grants).zip(usual) {
                pool.grant(grant, usual);
            }
        }
        self.keep(pools, now);
    }

    /// What is seen of a pool, and how many of its connections are usually in use about now.
    fn look_at(&mut self, pool: &Pool, now: Instant, wall: Duration) -> (Sight, u32) {
        let mut memo = pool.memo.lock();
        let memo = memo.get_or_insert_with(|| {
            let hours = self.hours.get(&key(pool)).cloned().unwrap_or_default();
            Box::new(Memo::new(hours, pool))
        });
        let sight = pool.sight(memo, now);
        memo.hours.note(wall, sight.lent);
        let usual = memo.hours.usual(wall).min(sight.most);
        (sight, usual)
    }

    fn keep(&mut self, pools: &[Arc<Pool>], now: Instant) {
        let kept = *self.kept.get_or_insert(now);
        let Some(dir) = self.dir.clone().filter(|_| now.since(kept) >= KEEP) else { return };
        self.kept = Some(now);
        self.gather(pools);
        let text = keep::text(self.hours.iter());
        tokio::task::spawn_blocking(move || keep::save(&dir, &text));
    }

    /// Writes down the hours, if they are to be kept.
    pub fn keep_now(&mut self, pools: &[Arc<Pool>]) {
        let Some(dir) = self.dir.clone() else { return };
        self.gather(pools);
        if !self.hours.is_empty() {
            keep::save(&dir, &keep::text(self.hours.iter()));
        }
    }

    /// Of pools that there are, what they remember; of others, what was known.
    fn gather(&mut self, pools: &[Arc<Pool>]) {
        for pool in pools {
            let memo = pool.memo.lock();
            let Some(memo) = memo.as_ref().filter(|memo| !memo.hours.is_empty()) else { continue };
            let key = key(pool);
            if self.hours.len() < MOST_POOLS || self.hours.contains_key(&key) {
                self.hours.insert(key, memo.hours.clone());
            }
        }
    }

    /// For observers.
    pub fn rows(&self) -> Vec<LimitRow> {
        self.backends.iter().map(|(backend, limiter)| limiter.row(backend)).collect()
    }
}

fn key(pool: &Pool) -> Key {
    (pool.purpose.database.clone(), pool.purpose.user.clone(), pool.target.name().to_string())
}

impl Limiter {
    fn row(&self, backend: &str) -> LimitRow {
        LimitRow {
            backend: backend.to_string(),
            limit: self.limit,
            level: self.level,
            slow: self.beyond,
            lent: self.lent,
            waiting: self.waiting,
            elasticity: self.slope.get(),
            gradient: self.nature.gradient(),
            floor: Duration::from_micros(self.nature.floor_us() as u64),
            throughput: self.throughput,
            moves: self.moves,
            why: self.why,
        }
    }
}
