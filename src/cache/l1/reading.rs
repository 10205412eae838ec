//! Results that are being read: whose turn that is, who waits for it, and what has come so far.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Cache, PARTS};

/// A result that somebody is reading.
#[derive(Debug, Default)]
pub struct Reading {
    over: AtomicBool,
    changed: Notify,
}

impl Reading {
    /// Waits until it has been read, or will not be.
    pub async fn over(&self) {
        loop {
            let changed = self.changed.notified();
            if self.over.load(Acquire) {
                return;
            }
            changed.await;
        }
    }
}

/// The one whose turn it is to read a result. Others wait until it is dropped.
#[derive(Debug)]
pub struct Turn {
    cache: Arc<Cache>,
    hash: u128,
    reading: Arc<Reading>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.cache.part(self.hash).lock().remove(&self.hash);
        self.reading.over.store(true, Release);
        self.reading.changed.notify_waiters();
    }
}

impl Cache {
    /// Takes the turn at reading a result, or tells whom to wait for.
    ///
    /// # Errors
    /// Who is reading it.
    pub fn turn(self: &Arc<Self>, hash: u128) -> Result<Turn, Arc<Reading>> {
        let mut part = self.part(hash).lock();
        if let Some(reading) = part.get(&hash) {
            return Err(reading.clone());
        }
        let reading = Arc::<Reading>::default();
        part.insert(hash, reading.clone());
        drop(part);
        Ok(Turn { cache: self.clone(), hash, reading })
    }

    fn part(&self, hash: u128) -> &Mutex<HashMap<u128, Arc<Reading>>> {
        &self.reading[(hash >> 64) as usize % PARTS]
    }

    /// Begins to collect an answer.
    pub fn collect(self: &Arc<Self>) -> Collected {
        Collected { cache: self.clone(), bytes: Vec::new(), counted: 0 }
    }
}

/// An answer as far as it has come, which is forgotten when it is too large.
#[derive(Debug)]
pub struct Collected {
    cache: Arc<Cache>,
    bytes: Vec<u8>,
    counted: u64,
}

impl Collected {
    /// Adds what has come. False where that is more than `max`, or than may be collected by all together.
    pub fn add(&mut self, parts: [&[u8]; 2], max: usize) -> bool {
        let more = parts[0].len() + parts[1].len();
        if self.bytes.len() + more > max {
            return false;
        }
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        let grown = self.bytes.capacity() as u64 - self.counted;
        self.counted += grown;
        self.cache.collected.fetch_add(grown, Relaxed) + grown <= self.cache.most
    }

    /// All that has come.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Collected {
    fn drop(&mut self) {
        self.cache.collected.fetch_sub(self.counted, Relaxed);
    }
}
