//! What tests are made of: shared clusters ([`cluster`], [`replicated`]), a database of one's own ([`Db`]), a proxy in
//! front of it ([`Proxy`]), connections ([`pg`]).

// A harness offers more than today's tests use.
#![allow(dead_code, unused_imports)]

mod client;
mod db;
mod proxy;
pub mod raw;
pub mod relay;

pub use client::{pg, rows, try_pg, value};
pub use db::{Db, SAMPLE_EVENTS, cluster, replicated};
pub use proxy::{Proxy, ProxyOptions, TRUST};

use std::thread;
use std::time::{Duration, Instant};

/// Waits until something holds; fails the test with `what` if it takes longer than ten seconds.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "waited too long: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// How long a checker goes on.
#[derive(Clone, Copy)]
pub enum Until {
    /// So many reads are done.
    Reads(usize),
    /// Something stale is seen, of which there is some: how many reads that takes depends on how busy the machine is.
    Stale { before: Instant },
}

impl Until {
    pub fn stale() -> Until {
        Until::Stale { before: Instant::now() + Duration::from_secs(60) }
    }

    pub fn is_over(self, reads: usize, stale: usize) -> bool {
        match self {
            Until::Reads(wanted) => reads >= wanted,
            Until::Stale { before } => stale > 0 || Instant::now() >= before,
        }
    }
}

/// A number below `n`, the next of those that follow from a seed (G. Steele and others: Fast splittable pseudorandom number
/// generators, 2014).
pub fn below(seed: &std::sync::atomic::AtomicUsize, n: usize) -> usize {
    let seed = seed.fetch_add(0x9e37_79b9_7f4a_7c15, std::sync::atomic::Ordering::SeqCst) as u64;
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((mixed ^ (mixed >> 27)) >> 20) as usize % n
}
