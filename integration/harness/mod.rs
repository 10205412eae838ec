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
