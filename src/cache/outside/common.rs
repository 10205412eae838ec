//! What processes that follow the same WAL say to each other of it, and whether what another has read may be given.

use std::sync::Arc;

use super::past::Stretch;
use super::{Outside, Watched};
use crate::core::clock::Instant;

impl Outside {
    /// Which time positions are of, where they mean something to others.
    pub fn epoch(&self) -> Option<Arc<str>> {
        self.ledger.lock().past.as_ref()?.epoch().cloned()
    }

    /// Of what was visible when this was asked, all has come.
    pub fn come(&self) -> Instant {
        self.ledger.lock().come
    }

    /// Whether what was read of these tables elsewhere, and is valid as of this position of that time, lacks nothing that
    /// has come here, nor anything that was written here and ended then. Whoever asks has a stamp already.
    pub fn vouches(&self, epoch: &str, position: u64, tables: &[u32], ended: Instant) -> bool {
        let ledger = self.ledger.lock();
        let Some(past) = &ledger.past else { return false };
        let watched = self.watched.load();
        ledger.unsure.is_none()
            && ledger.come > ended.max(ledger.listed)
            && past.epoch().is_some_and(|own| **own == *epoch)
            && past.holds(with_parts(tables, &watched), position)
    }

    /// Where in the WAL these tables were last written, as far as has come.
    pub fn last(&self, tables: &[u32]) -> u64 {
        let ledger = self.ledger.lock();
        ledger.past.as_ref().map_or(0, |past| past.last(with_parts(tables, &self.watched.load())))
    }

    /// Somebody waits for what is visible now to come: the server is to be asked soon.
    pub fn hurry(&self) {
        self.hurried.notify_one();
    }

    /// Returns when somebody waits.
    pub async fn hurried(&self) {
        self.hurried.notified().await;
    }

    /// What is known by now, for others, and which time that is of.
    pub fn stretch(&self) -> Option<(Arc<str>, Stretch)> {
        let ledger = self.ledger.lock();
        let past = ledger.past.as_ref()?;
        Some((past.epoch()?.clone(), past.stretch(ledger.position)))
    }

    /// Takes over what others know of that time; whether that belongs together.
    pub fn join(&self, epoch: &str, before: &Stretch) -> bool {
        let mut ledger = self.ledger.lock();
        let past = ledger.past.as_mut().filter(|past| past.epoch().is_some_and(|own| **own == *epoch));
        past.is_some_and(|past| past.join(before))
    }

    /// Up to where what is known is where others find it; `None` where it is not, and need not be waited for.
    pub fn set_told(&self, until: Option<u64>) {
        self.ledger.lock().told = until;
    }

    /// How far the server need not keep its WAL for us any more.
    pub fn done(&self, position: u64) -> u64 {
        self.ledger.lock().told.map_or(position, |told| told.min(position))
    }
}

/// Tables with those whose rows are theirs.
fn with_parts(tables: &[u32], watched: &Watched) -> impl Iterator<Item = u32> {
    tables.iter().flat_map(|table| [*table].into_iter().chain(watched.parts(*table).iter().copied()))
}
