//! What the pools of one database know of its objects: the catalog, read when a statement first makes it matter, and
//! again when objects have changed and from time to time.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::driver;
use super::fate::Fates;
use super::hidden::HIDDEN;
use super::pool::Pool;
use super::suspects::{Functions, Suspects};
use crate::catalog::{Catalog, read};
use crate::core::clock::Instant;

/// What the server calls the connection that reads the catalog.
pub const APPLICATION: &str = "turnpike catalog";
/// Age at which the catalog is read again: others may have changed objects.
const AGE: Duration = Duration::from_secs(60);
/// Shortest pause between two readings.
const PAUSE: Duration = Duration::from_millis(200);
/// Shortest and longest pause after readings that failed, of which each is twice the one before.
const RETRIES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Pause after a reading that took this long: a tenth of the time is enough, but who waits is not to wait for more than
/// a few seconds where a third is.
fn pause(took: Duration) -> Duration {
    (took * 10).min(Duration::from_secs(3).max(took * 2)).max(PAUSE)
}

/// Longest that one may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Readings that objects may overtake, where one is asked for by name.
const ATTEMPTS: usize = 5;
/// Bits of a view that number catalogs; the rest count changes.
const VERSION_BITS: u32 = 20;
const VERSIONS: u64 = (1 << VERSION_BITS) - 1;

/// See the module.
#[derive(Debug, Default)]
pub struct Schema {
    /// What its functions leave behind in a session.
    pub functions: Functions,
    /// Writes of which it is not known what becomes of them.
    pub(super) fates: Fates,
    /// What was read before that is not good enough for somebody, in microseconds.
    needed_us: AtomicU64,
    /// How often objects have changed, and which catalog is true for that; 0 for none.
    view: AtomicU64,
    catalog: ArcSwapOption<Catalog>,
    reading: AtomicBool,
    /// Someone would have had it read, but for the pause.
    wanted: AtomicBool,
    /// A statement has come since it was last due.
    touched: AtomicBool,
    state: Mutex<State>,
    read: Notify,
}

#[derive(Debug, Default)]
struct State {
    version: u64,
    digest: u64,
    /// No reading before that.
    not_before: Option<Instant>,
    error: Option<String>,
    /// The pause after the last reading, if that failed.
    retry: Option<Duration>,
}

impl Schema {
    /// Notes that objects have been changed, or may be about to: the catalog is not true any more.
    pub fn changed(&self) {
        // Always some.
        let _ = self
            .view
            .fetch_update(AcqRel, Acquire, |view| Some(((view >> VERSION_BITS) + 1) << VERSION_BITS));
    }

    /// Whether the catalog that is known was read after that moment.
    #[inline]
    pub fn is_since(&self, moment: Option<Instant>) -> bool {
        moment.is_none_or(|moment| self.catalog.load().as_ref().is_some_and(|c| c.read_at() > moment))
    }

    /// As [`Schema::want`], where what was read before that moment is not good enough.
    pub fn want_since(self: &Arc<Self>, moment: Option<Instant>, pool: &Arc<Pool>, now: Instant) {
        let moment = moment.map_or(0, |moment| moment.micros_since(Instant::default()));
        self.needed_us.fetch_max(moment, AcqRel);
        self.want(pool, now);
    }

    fn is_old(&self, now: Instant) -> bool {
        let needed = self.needed_us.load(Acquire);
        self.catalog.load().as_ref().is_none_or(|c| {
            now.since(c.read_at()) >= AGE
                || needed > 0 && c.read_at().micros_since(Instant::default()) <= needed
        })
    }

    /// Counts changes of objects.
    pub fn generation(&self) -> u64 {
        self.view.load(Acquire) >> VERSION_BITS
    }

    /// Changes whenever anything that is known does.
    #[inline]
    pub fn view(&self) -> u64 {
        self.view.load(Acquire)
    }

    /// Notes that a statement has come. What nobody asks anything of is not read again.
    #[inline]
    pub fn touch(&self) {
        if !self.touched.load(Relaxed) {
            self.touched.store(true, Relaxed);
        }
    }

    /// The catalog that is true under a view.
    pub fn catalog(&self, view: u64) -> Option<Arc<Catalog>> {
        if view & VERSIONS == 0 {
            return None;
        }
        let catalog = self.catalog.load_full();
        catalog.filter(|_| self.view() == view)
    }

    /// Whether the catalog is known.
    pub fn is_known(&self) -> bool {
        self.view() & VERSIONS != 0
    }

    /// Whether the catalog is known, or why it could not be read when last tried.
    pub fn catalog_state(&self) -> (bool, Option<String>) {
        (self.view() & VERSIONS != 0, self.state.lock().error.clone())
    }

    /// Waits until the catalog has been read, or could not be.
    pub async fn settled(&self) {
        loop {
            let read = self.read.notified();
            if !self.is_awaited() {
                return;
            }
            read.await;
        }
    }

    /// Has the catalog read as `pool` may, if it is not known, or old. What a replica has may be older than what is known,
    /// so elsewhere than on the primary that is left to the next sweep.
    pub fn want(self: &Arc<Self>, pool: &Arc<Pool>, now: Instant) {
        let known = self.view() & VERSIONS != 0;
        let old = self.is_old(now);
        let soon = self.state.lock().not_before.is_some_and(|at| now < at);
        if known && !old {
            return;
        }
        let waits = soon || !pool.target.terms.is_home();
        self.wanted.store(waits, Release);
        if waits || self.reading.swap(true, AcqRel) {
            return;
        }
        self.begin(pool);
    }

    /// Reads it, whoever waits for that or no longer does.
    fn begin(self: &Arc<Self>, pool: &Arc<Pool>) {
        let (schema, pool) = (self.clone(), pool.clone());
        tokio::spawn(async move { schema.read(&pool).await });
    }

    /// Whatever kept it from being read may have changed.
    pub fn try_again(&self) {
        let mut state = self.state.lock();
        if state.error.take().is_some() {
            (state.not_before, state.retry) = (None, None);
            self.wanted.store(true, Release);
        }
    }

    /// Has it read anew whatever is known, and waits for that. Until then nothing is known.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn refresh(self: &Arc<Self>, pool: &Arc<Pool>) -> Result<(), String> {
        self.functions.forget();
        self.changed();
        let generation = self.generation();
        for _ in 0..ATTEMPTS {
            let mut read = std::pin::pin!(self.read.notified());
            // From here on, not from when it is first looked at.
            read.as_mut().enable();
            // One that has begun before tells nothing new, but there is only one at a time.
            if !self.reading.swap(true, AcqRel) {
                self.begin(pool);
            }
            read.await;
            if let Some(e) = self.state.lock().error.clone() {
                return Err(e);
            }
            if self.view() & VERSIONS != 0 && self.generation() >= generation {
                return Ok(());
            }
        }
        Err("objects keep changing".into())
    }

    /// Whether its reading was put off, or is due again.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let old = || self.catalog.load().as_ref().is_some_and(|c| now.since(c.read_at()) >= AGE);
        self.wanted.load(Acquire) || self.touched.load(Acquire) && old()
    }

    /// Has it read where that is due. Called by the sweep.
    pub(super) fn look_after(self: &Arc<Self>, pool: &Arc<Pool>, now: Instant) {
        self.touched.store(false, Release);
        self.want(pool, now);
    }

    /// Whether it is not known, and being read or about to be.
    pub fn is_awaited(&self) -> bool {
        self.view() & VERSIONS == 0 && (self.reading.load(Acquire) || self.wanted.load(Acquire))
    }

    async fn read(&self, pool: &Pool) {
        let (began, generation) = (Instant::now(), self.generation());
        let functions = self.functions.generation();
        let outcome = tokio::time::timeout(PATIENCE, fetch(pool)).await;
        let outcome = outcome.unwrap_or_else(|_| Err("it takes too long".into()));
        let took = Instant::now().since(began);
        let mut pause = pause(took);
        match outcome {
            Ok((catalog, suspects)) => {
                self.functions.read_along(functions, suspects);
                let relations = catalog.relations().len();
                tracing::debug!(database = pool.purpose.dbname, relations, ?took, "catalog read");
                self.learn(catalog, generation);
            }
            Err(e) => {
                let mut state = self.state.lock();
                // Said once, not whenever it is tried.
                if state.error.as_ref() != Some(&e) {
                    tracing::warn!(
                        database = pool.purpose.dbname,
                        error = e,
                        "catalog not read: every statement goes to the primary"
                    );
                }
                state.error = Some(e);
                pause = state.retry.map_or(RETRIES.0, |last| RETRIES.1.min(last * 2));
                state.retry = Some(pause);
            }
        }
        self.state.lock().not_before = Some(Instant::now() + pause);
        // Objects have changed meanwhile.
        let overtaken = self.generation() != generation;
        self.wanted.store(overtaken, Release);
        self.reading.store(false, Release);
        self.read.notify_waiters();
    }

    /// Puts a catalog into use, unless objects have changed since it was asked for. One that says what the last one
    /// said leaves everything that was decided under that in place.
    fn learn(&self, catalog: Catalog, generation: u64) {
        let digest = digest(&catalog);
        let mut state = self.state.lock();
        if state.version == 0 || state.digest != digest {
            state.version = state.version % VERSIONS + 1;
        }
        (state.digest, state.error, state.retry) = (digest, None, None);
        let view = generation << VERSION_BITS | state.version;
        self.catalog.store(Some(Arc::new(catalog)));
        // Where they have changed, it stays unknown.
        let _ = self
            .view
            .fetch_update(AcqRel, Acquire, |now| (now >> VERSION_BITS == generation).then_some(view));
    }
}

async fn fetch(pool: &Pool) -> Result<(Catalog, Option<Suspects>), String> {
    let login = pool.cataloguer.lock().clone();
    let client = driver::client(pool, login, APPLICATION).await.map_err(|e| e.to_string())?;
    let catalog = read::load(&client).await.map_err(|e| e.to_string())?;
    let hidden = client.simple_query(HIDDEN).await.map_err(|e| e.to_string())?;
    // There may be much code to look at.
    let look = move || {
        let suspects = Suspects::of_catalog(&catalog, &hidden);
        (catalog, suspects)
    };
    tokio::task::spawn_blocking(look).await.map_err(|e| e.to_string())
}

/// A hash of all that a catalog says.
fn digest(catalog: &Catalog) -> u64 {
    struct Into(DefaultHasher);
    impl Write for Into {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    let mut into = Into(DefaultHasher::new());
    // Writing to a hasher does not fail.
    let _ = write!(into, "{:?}", catalog.contents());
    into.0.finish()
}
