//! What several processes have in common in Redis: results under names that mean the same to each of them, which flush
//! was the last, and what each knows of the past, so that one which has just begun knows it, too.
//!
//! All of it is sealed with the key that they share, and all of it is true whenever it is read: a result says as of which
//! position it is valid, and whoever finds it looks whether anything has been written since ([`crate::cache`] has the
//! proof). So nothing depends on what Redis keeps, deletes, or brings back.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::RedisResult;

use super::super::link::Link;
use super::{Name, Remote};
use crate::cache::l1::Cache;
use crate::cache::outside::Outside;
use crate::cache::outside::past::Stretch;

/// How long it is told what is known of the past: longer than any result is kept.
const PAST: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long it is told which flush was the last.
const FLUSH: Duration = Duration::from_secs(365 * 24 * 3600);
/// Of a flush, whoever has made it.
type Flush = [u8; 16];

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Common {
    /// The last flush that is known, and how many there had been in this process by then: after another one of our own,
    /// nothing has a name until it has been told.
    flush: Mutex<Option<(u64, Flush)>>,
}

impl Remote {
    /// Whether other processes find what this one keeps.
    pub fn is_shared(&self) -> bool {
        self.common.is_some()
    }

    /// The name of a result that other processes find: of that time, read from these tables, under a key that means the
    /// same to all of them. `None` where it is not known yet what has been flushed.
    pub fn common(&self, flushes: u64, epoch: Arc<str>, key: Vec<u8>, tables: &[u32]) -> Option<Name> {
        let (count, flush) = (*self.common.as_ref()?.flush.lock())?;
        if count != flushes {
            return None;
        }
        let mut sorted = tables.to_vec();
        sorted.sort_unstable();
        let tables: Vec<u8> = sorted.iter().flat_map(|table| table.to_be_bytes()).collect();
        let text = self.called("result", &[&flush, epoch.as_bytes(), &tables, &key]);
        Some(Name { text, key: key.into(), epoch: Some(epoch), flushes })
    }

    /// How long it is waited at most for what another process reads. `None` where it is not.
    pub fn coalesces(&self) -> Option<Duration> {
        Some(self.redis.coalesce).filter(|wait| self.is_shared() && !wait.is_zero())
    }

    /// Takes the turn at reading a result of tables that were last written there, among all processes that know them to
    /// have been; whether another one has it. Nobody has it for longer than others would wait.
    pub async fn is_being_read(self: Arc<Self>, name: Name, last: u64) -> bool {
        let (Some(wait), link) = (self.coalesces(), self.link.lock().clone()) else { return false };
        let Some(mut link) = link else { return false };
        let claim = self.called("claim", &[name.text.as_bytes(), &last.to_be_bytes()]);
        match tokio::time::timeout(self.redis.deadline, link.claim(&claim, wait)).await {
            Ok(Ok(ours)) => !ours,
            Ok(Err(e)) => {
                self.failed(&e);
                false
            }
            Err(_) => {
                self.stats.late.add(1);
                false
            }
        }
    }

    fn called(&self, what: &str, parts: &[&[u8]]) -> String {
        format!("turnpike:{what}:{}", self.seal.name(what, parts))
    }

    /// Learns from others, and tells them, what all are to know.
    ///
    /// # Errors
    /// What Redis says, or that it cannot be reached.
    pub(super) async fn share(&self, link: &mut Link, cache: &Cache) -> RedisResult<()> {
        let Some(common) = &self.common else { return Ok(()) };
        self.share_flush(common, link, cache).await?;
        for (_, outside) in cache.outsides.all() {
            self.share_past(link, &outside).await?;
        }
        Ok(())
    }

    async fn share_flush(&self, common: &Common, link: &mut Link, cache: &Cache) -> RedisResult<()> {
        let name = self.called("flush", &[]);
        let there = link.get(&name).await?.and_then(|sealed| self.seal.open(name.as_bytes(), &sealed));
        let there = there.and_then(|bytes| Flush::try_from(bytes).ok());
        let (known, flushes) = (*common.flush.lock(), cache.flushes());
        let flushed_here = known.is_some_and(|(count, _)| count != flushes);
        match there.filter(|_| !flushed_here) {
            Some(there) => match known {
                Some((_, flush)) if flush == there => {}
                // Somebody else has flushed.
                Some(_) => *common.flush.lock() = Some((cache.flush(), there)),
                None => *common.flush.lock() = Some((flushes, there)),
            },
            None => {
                let mut flush = Flush::default();
                let made =
                    getrandom::fill(&mut flush).ok().and_then(|()| self.seal.close(name.as_bytes(), &flush));
                let Some(sealed) = made else { return Ok(()) };
                link.set(&name, &sealed, FLUSH).await?;
                *common.flush.lock() = Some((flushes, flush));
            }
        }
        Ok(())
    }

    async fn share_past(&self, link: &mut Link, outside: &Outside) -> RedisResult<()> {
        let Some((epoch, _)) = outside.stretch() else { return Ok(()) };
        let name = self.called("past", &[epoch.as_bytes()]);
        let there = link.get(&name).await?.and_then(|sealed| self.seal.open(name.as_bytes(), &sealed));
        let there: Option<Stretch> = there.and_then(|bytes| postcard::from_bytes(&bytes).ok());
        if let Some(there) = &there {
            outside.join(&epoch, there);
        }
        let Some((_, own)) = outside.stretch().filter(|(now, _)| **now == *epoch) else { return Ok(()) };
        let mut until = there.as_ref().map_or(0, |there| there.until);
        if there.is_none_or(|there| own.until > there.until) {
            let bytes = postcard::to_allocvec(&own).ok();
            let sealed = bytes.and_then(|bytes| self.seal.close(name.as_bytes(), &bytes));
            let Some(sealed) = sealed else { return Ok(()) };
            link.set(&name, &sealed, PAST).await?;
            until = own.until;
        }
        outside.set_told(Some(until));
        Ok(())
    }
}

/// Nobody is told any more: what is streamed need not be streamed again.
pub(super) fn forget(cache: &Cache) {
    cache.outsides.all().iter().for_each(|(_, outside)| outside.set_told(None));
}
