//! Results that are kept here: an edge that asks again, with `If-None-Match` or without, costs no query while nothing has
//! been written; and of many who ask for the same at once one asks the server, also where the result is not to be kept.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use moka::sync::Cache;
use parking_lot::Mutex;
use ring::digest;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use super::source::AsOf;
use crate::core::clock::Instant;

/// Memory that an entry takes besides its body and key, about.
const OVERHEAD: usize = 512;
/// Keys whose turns are remembered though nobody has one.
const TURNS: usize = 1024;

/// A result as it is given.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The body.
    pub body: Bytes,
    /// Its tag (RFC 9110, section 8.8.3), weak: compressed, it is the same result in other bytes.
    pub etag: String,
    /// When its query began.
    pub made: Instant,
    /// What it is as of; `None` where something was being written meanwhile.
    pub as_of: Option<AsOf>,
    /// The tags that it goes by at a CDN.
    pub tags: Vec<String>,
}

impl Answer {
    /// Of a body.
    pub fn new(body: Vec<u8>, made: Instant, as_of: Option<AsOf>, tags: Vec<String>) -> Answer {
        let hash = digest::digest(&digest::SHA256, &body);
        let etag = format!("W/\"{}\"", hex::encode(hash.as_ref().get(..16).unwrap_or_default()));
        Answer { body: body.into(), etag, made, as_of, tags }
    }

    /// Whether an `If-None-Match` names it (RFC 9110, section 13.1.2: compared as weak tags).
    pub fn is_named_by(&self, header: &str) -> bool {
        let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_string();
        header.trim() == "*" || header.split(',').any(|tag| opaque(tag) == opaque(&self.etag))
    }
}

/// Which configuration, which report, which values.
pub type Key = (u64, String, String);

/// Who asks the server for a key, one after the other; and what the last one of those who are here was told.
type Line = Turn<Option<Arc<Answer>>>;

/// See the module.
#[derive(Debug)]
pub struct Kept {
    answers: Cache<Key, Arc<Answer>>,
    turns: Mutex<HashMap<Key, Weak<Line>>>,
}

impl Kept {
    /// Of about so many bytes at most.
    pub fn new(memory: usize) -> Kept {
        let weigher = |key: &Key, answer: &Arc<Answer>| {
            let all = answer.body.len() + key.1.len() + key.2.len() + OVERHEAD;
            u32::try_from(all).unwrap_or(u32::MAX)
        };
        let answers = Cache::builder().max_capacity(memory as u64).weigher(weigher).build();
        Kept { answers, turns: Mutex::default() }
    }

    /// What is kept, if it is.
    pub fn get(&self, key: &Key) -> Option<Arc<Answer>> {
        self.answers.get(key)
    }

    /// Keeps it.
    pub fn put(&self, key: Key, answer: Arc<Answer>) {
        self.answers.insert(key, answer);
    }

    /// Forgets everything.
    pub fn forget(&self) {
        self.answers.invalidate_all();
    }

    /// The turn at asking for a key: one at a time. In it is what the one before was told, if that is known: good for
    /// whoever had come by the time when that was asked for.
    pub async fn turn(&self, key: &Key) -> OwnedMutexGuard<Option<Arc<Answer>>> {
        let turn = {
            let mut turns = self.turns.lock();
            if turns.len() > TURNS {
                turns.retain(|_, turn| turn.strong_count() > 0);
            }
            turns.get(key).and_then(Weak::upgrade).unwrap_or_else(|| {
                let turn = Arc::<Line>::default();
                turns.insert(key.clone(), Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_name_a_body() {
        let of = |body: &str| Answer::new(body.into(), Instant::now(), None, Vec::new());
        let (one, other) = (of("a"), of("b"));
        assert!(one.etag.starts_with("W/\"") && one.etag.len() == 36);
        assert!(one.is_named_by(&one.etag) && one.is_named_by("*") && !other.is_named_by(&one.etag));
        let strong = one.etag.trim_start_matches("W/").to_string();
        assert!(one.is_named_by(&format!("\"x\", {strong}")) && !one.is_named_by(""));
    }

    #[tokio::test]
    async fn one_at_a_time_has_the_turn() {
        let kept = Kept::new(1 << 20);
        let key: Key = (1, "r".into(), String::new());
        let first = kept.turn(&key).await;
        let second = tokio::time::timeout(std::time::Duration::from_millis(20), kept.turn(&key)).await;
        assert!(second.is_err());
        drop(first);
        drop(kept.turn(&key).await);
    }
}
