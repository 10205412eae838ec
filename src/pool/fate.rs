//! What becomes of the writes that have been sent over a server connection: known when it is in no transaction any more
//! with all that it was sent answered. Where it is lost before, its server process may go on for as long as it likes, and
//! commit; the server is asked until that process is gone. Until then, what it may have written stays marked.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::driver;
use super::pool::Pool;
use super::schema::Schema;
use super::server::{Link, Server};
use crate::fence::versions::{Marks, Versions};

/// What the server calls the connection that asks.
const APPLICATION: &str = "turnpike cache";
/// Pauses between two questions: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));
/// Longest that one may take.
const PATIENCE: Duration = Duration::from_secs(5);
const QUESTION: &str = "SELECT pid, backend_start::pg_catalog.text FROM pg_catalog.pg_stat_activity \
                        WHERE pid OPERATOR(pg_catalog.=) ANY ($1)";

/// What the transaction on one server connection may have written.
#[derive(Debug)]
pub(super) struct Writes {
    marks: Option<Marks>,
    link: Arc<Link>,
    pool: Arc<Pool>,
}

/// Writes of which it is not known what becomes of them.
#[derive(Debug, Default)]
pub(super) struct Fates {
    lost: Mutex<Vec<Lost>>,
    asking: AtomicBool,
}

#[derive(Debug)]
struct Lost {
    marks: Marks,
    link: Arc<Link>,
    pool: Arc<Pool>,
    /// The server is being asked about it.
    asked: bool,
    /// When its process was started, once the server has told: another may get its number.
    started: Option<String>,
}

impl Server {
    /// What the transaction that is open on it, or about to begin, has marked as written.
    pub fn marks(&mut self, versions: &Arc<Versions>) -> &mut Marks {
        let (link, slot) = (&self.link, &self.slot);
        let writes = self.writes.get_or_insert_with(|| {
            let (link, pool) = (link.clone(), slot.pool().clone());
            Box::new(Writes { marks: None, link, pool })
        });
        writes.marks.get_or_insert_with(|| versions.begin())
    }

    /// Notes that it is in no transaction, and that all has been answered that it was sent.
    #[inline]
    pub fn writes_end(&mut self) {
        if let Some(writes) = self.writes.take() {
            writes.end(false);
        }
    }

    /// The same where that has been found out without its client: no session has told of what was written.
    pub(super) fn writes_found(&mut self) {
        if let Some(writes) = self.writes.take() {
            writes.end(true);
        }
    }
}

/// Whoever plans knows first what may have changed, then others may rely on what they read.
fn end(schema: &Schema, marks: Marks, lost: bool) {
    if marks.defines() {
        schema.changed();
    }
    marks.end(lost);
}

impl Writes {
    fn end(mut self, lost: bool) {
        if let Some(marks) = self.marks.take() {
            end(&self.pool.schema, marks, lost);
        }
    }
}

impl Drop for Writes {
    fn drop(&mut self) {
        let Some(marks) = self.marks.take() else { return };
        let (link, pool) = (self.link.clone(), self.pool.clone());
        let schema = pool.schema.clone();
        schema.fates.lost.lock().push(Lost { marks, link, pool, asked: false, started: None });
        // Without a runtime the process is about to end.
        if let Ok(runtime) = Handle::try_current()
            && !schema.fates.asking.swap(true, AcqRel)
        {
            runtime.spawn(async move { ask_until_known(&schema).await });
        }
    }
}

async fn ask_until_known(schema: &Schema) {
    let (fates, mut pause) = (&schema.fates, PAUSES.0);
    loop {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
        // What is lost on a primary of the past has been decided where the next one was made.
        fates.take(schema, |lost| lost.link.is_past());
        for (pool, pids) in fates.open() {
            if let Ok(Some(alive)) = tokio::time::timeout(PATIENCE, ask(&pool, pids)).await {
                fates.take(schema, |lost| {
                    lost.asked && Arc::ptr_eq(&lost.pool.target, &pool.target) && lost.is_gone(&alive)
                });
            }
        }
        if fates.lost.lock().is_empty() {
            fates.asking.store(false, Release);
            // One may have come in between.
            if fates.lost.lock().is_empty() || fates.asking.swap(true, AcqRel) {
                return;
            }
        }
    }
}

impl Lost {
    /// Whether the process is not among those that are there, by number.
    fn is_gone(&mut self, alive: &HashMap<i32, String>) -> bool {
        match (alive.get(&self.link.pid), &self.started) {
            (None, _) => true,
            (Some(started), Some(known)) => started != known,
            (Some(started), None) => {
                self.started = Some(started.clone());
                false
            }
        }
    }
}

impl Fates {
    /// Ends the marks of those that are known now.
    fn take(&self, schema: &Schema, known: impl FnMut(&mut Lost) -> bool) {
        let over: Vec<Lost> = self.lost.lock().extract_if(.., known).collect();
        over.into_iter().for_each(|lost| end(schema, lost.marks, true));
    }

    /// Server processes to be asked about, each time with a pool on their server.
    fn open(&self) -> Vec<(Arc<Pool>, Vec<i32>)> {
        let mut servers: Vec<(Arc<Pool>, Vec<i32>)> = Vec::new();
        for lost in self.lost.lock().iter_mut() {
            lost.asked = true;
            match servers.iter_mut().find(|(pool, _)| Arc::ptr_eq(&pool.target, &lost.pool.target)) {
                Some((_, pids)) => pids.push(lost.link.pid),
                None => servers.push((lost.pool.clone(), vec![lost.link.pid])),
            }
        }
        servers
    }
}

async fn ask(pool: &Pool, pids: Vec<i32>) -> Option<HashMap<i32, String>> {
    let client = driver::client(pool, None, APPLICATION).await.ok()?;
    let rows = client.query(QUESTION, &[&pids]).await.ok()?;
    rows.iter().map(|row| Some((row.try_get(0).ok()?, row.try_get(1).ok()?))).collect()
}
