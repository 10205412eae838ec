//! What is known of results that are asked for again and again: whose they are, what is to be asked to have them again,
//! and which of them will soon be too old. Whoever asks again is [`super::warming`].

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use moka::sync::Cache as Moka;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::cache::Entry;
use crate::cache::key::{Context, Form, Parts};
use crate::core::stats::Counter;

/// Sessions that are told apart, by all that their results depend on.
const MOST_SESSIONS: u64 = 1024;
/// Results that wait to be read again; others are read when somebody asks.
const MOST_DUE: usize = 256;
/// Requests that are remembered, and bytes of one and of all.
pub const MOST: usize = 512;
const LARGEST: usize = 16 << 10;
const BYTES: usize = 4 << 20;

/// A session that is asked for: another one like it has the same rights, and the same results.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Who {
    /// The database, as clients name it.
    pub database: String,
    /// Who has logged in.
    pub user: String,
    /// What it began with.
    pub class: Vec<(String, String)>,
    /// What it has set since.
    pub settings: Vec<(String, String)>,
}

/// What is asked to have a result.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Request {
    /// By a simple Query.
    pub simple: bool,
    /// The statement; in the extended protocol the body of Parse after the name.
    pub statement: Vec<u8>,
    /// The body of Bind after the names.
    pub bind: Vec<u8>,
    /// Whether the statement is described, and the portal.
    pub describes: (bool, bool),
}

/// One that is remembered.
#[derive(Clone, Debug)]
pub struct Hot {
    /// Whose.
    pub who: Arc<Who>,
    /// What.
    pub request: Arc<Request>,
    /// How often it has been given, lately.
    pub asked: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Warmth {
    sessions: Moka<Context, Arc<Who>>,
    due: Mutex<VecDeque<Arc<Entry>>>,
    /// Told when something is due.
    pub waits: Notify,
    hot: Mutex<Vec<Hot>>,
    /// Results that were read again before their time was over.
    pub renewed: Counter,
    /// Results that were read again since they were remembered.
    pub warmed: Counter,
    /// Microseconds of servers' time that both took.
    pub spent_us: Counter,
}

impl Default for Warmth {
    fn default() -> Self {
        Warmth {
            sessions: Moka::builder().max_capacity(MOST_SESSIONS).build(),
            due: Mutex::default(),
            waits: Notify::default(),
            hot: Mutex::default(),
            renewed: Counter::default(),
            warmed: Counter::default(),
            spent_us: Counter::default(),
        }
    }
}

impl Warmth {
    /// Notes whose results have these contexts.
    pub fn note(&self, contexts: [Context; 2], who: &Arc<Who>) {
        contexts.into_iter().for_each(|context| self.sessions.insert(context, who.clone()));
    }

    /// A result that is asked for often will soon be too old.
    #[cold]
    pub fn soon_too_old(&self, entry: Arc<Entry>) {
        let mut due = self.due.lock();
        if due.len() < MOST_DUE {
            due.push_back(entry);
            drop(due);
            self.waits.notify_one();
        }
    }

    /// The one of those that has been asked for most.
    pub fn next_due(&self) -> Option<Arc<Entry>> {
        let mut due = self.due.lock();
        let most = (0..due.len()).max_by_key(|i| due.get(*i).map_or(0, |entry| entry.asked()))?;
        due.swap_remove_back(most)
    }

    /// What is to be asked to have a result again, and by whom. `None` where nobody knows any more.
    pub fn request(&self, entry: &Entry) -> Option<(Arc<Who>, Request)> {
        let Parts { form, context, statement, bind } = Parts::read(entry.key())?;
        let describes = (entry.answer.statement().is_some(), entry.answer.portal().is_some());
        let who = self.sessions.get(&context)?;
        let (statement, bind) = (statement.to_vec(), bind.unwrap_or_default().to_vec());
        Some((who, Request { simple: form == Form::Simple, statement, bind, describes }))
    }

    /// Remembers what has been asked for most; what was remembered before and is not among it counts half.
    pub fn remember(&self, entries: &[Arc<Entry>]) {
        let now = entries.iter().filter(|entry| entry.key().len() <= LARGEST).filter_map(|entry| {
            let (who, request) = self.request(entry)?;
            Some(Hot { who, request: Arc::new(request), asked: entry.asked() })
        });
        let now: Vec<Hot> = now.collect();
        let mut hot = self.hot.lock();
        let before = std::mem::take(&mut *hot).into_iter();
        let before = before.map(|known| Hot { asked: known.asked / 2, ..known });
        *hot = the_most(now.into_iter().chain(before));
    }

    /// Remembers what another process has, or this one before it was started again.
    pub fn recall(&self, kept: Vec<Hot>) {
        let mut hot = self.hot.lock();
        let known = std::mem::take(&mut *hot);
        *hot = the_most(known.into_iter().chain(kept));
    }

    /// All that is remembered, of a database or of all, what was asked for most first.
    pub fn all(&self, database: Option<&str>) -> Vec<Hot> {
        let hot = self.hot.lock();
        hot.iter().filter(|hot| database.is_none_or(|name| *hot.who.database == *name)).cloned().collect()
    }
}

/// Those that have been asked for most, each once, as far as there is room.
fn the_most(all: impl Iterator<Item = Hot>) -> Vec<Hot> {
    let mut known: HashMap<(Arc<Who>, Arc<Request>), u32> = HashMap::new();
    for hot in all.filter(|hot| hot.asked > 0) {
        let asked = known.entry((hot.who, hot.request)).or_default();
        *asked = hot.asked.max(*asked);
    }
    let mut hot: Vec<Hot> =
        known.into_iter().map(|((who, request), asked)| Hot { who, request, asked }).collect();
    hot.sort_by_key(|hot| std::cmp::Reverse(hot.asked));
    let mut bytes = 0;
    let fits = |hot: &Hot| {
        bytes += hot.request.statement.len() + hot.request.bind.len();
        bytes <= BYTES
    };
    hot.into_iter().take(MOST).take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hot(database: &str, n: u32, asked: u32) -> Hot {
        let who =
            Who { database: database.into(), user: "u".into(), class: Vec::new(), settings: Vec::new() };
        let statement = format!("SELECT {n}").into_bytes();
        let request = Request { simple: true, statement, bind: Vec::new(), describes: (false, false) };
        Hot { who: Arc::new(who), request: Arc::new(request), asked }
    }

    #[test]
    fn those_that_are_asked_for_most_are_remembered() {
        let warmth = Warmth::default();
        warmth.recall((0..1000).map(|n| hot("a", n, n)).collect());
        assert_eq!(warmth.all(None).len(), MOST);
        assert_eq!(warmth.all(None).first().map(|hot| hot.asked), Some(999));
        // The same is remembered once, and what is not asked for any more is forgotten.
        warmth.recall(vec![hot("a", 999, 5), hot("b", 1, 2000)]);
        assert_eq!((warmth.all(None).len(), warmth.all(Some("b")).len()), (MOST, 1));
        for _ in 0..12 {
            warmth.remember(&[]);
        }
        assert!(warmth.all(None).is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let warmth = Warmth::default();
        let large = |n: u32| {
            let Hot { who, request, .. } = hot("a", n, 1);
            let mut request = (*request).clone();
            request.statement.resize(LARGEST, b' ');
            Hot { who, request: Arc::new(request), asked: 1 }
        };
        warmth.recall((0..MOST as u32).map(large).collect());
        assert_eq!(warmth.all(None).len(), BYTES / LARGEST);
    }
}
