//! Waiting for what is not there yet: a primary, or a replica that has seen enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use super::{Cluster, Member, Need, State};
use crate::core::clock::Instant;
use crate::pool::connect::Target;
use crate::pool::term::Term;

/// One who waits for a replica: probes hurry for as long as there is one.
struct Waiting<'c>(&'c AtomicUsize);

impl<'c> Waiting<'c> {
    fn new(count: &'c AtomicUsize) -> Waiting<'c> {
        count.fetch_add(1, Relaxed);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

fn rest(deadline: Instant) -> Duration {
    deadline.since(Instant::now())
}

impl Cluster {
    /// The primary, as soon as there is one; `None` when the deadline has passed.
    pub async fn await_primary(&self, deadline: Instant) -> Option<Arc<Member>> {
        loop {
            let elected = self.elected.notified();
            if let Some((primary, _)) = self.leader() {
                return Some(primary);
            }
            if rest(deadline).is_zero() || tokio::time::timeout(rest(deadline), elected).await.is_err() {
                return self.primary();
            }
        }
    }

    /// Returns when `member` is no replica to read from any more.
    pub async fn loses_reader(&self, member: &Member) {
        loop {
            let moved = self.moved.notified();
            if member.state() != State::Replica {
                return;
            }
            moved.await;
        }
    }

    /// Returns when the primary is not the one on `target`, on that timeline, any more.
    pub async fn moves_from(&self, target: &Arc<Target>, term: Term) {
        loop {
            let elected = self.elected.notified();
            let same =
                |(primary, now): (Arc<Member>, Term)| Arc::ptr_eq(&primary.target, target) && now == term;
            if !self.leader().is_some_and(same) {
                return;
            }
            elected.await;
        }
    }

    /// A replica to serve a read, as soon as one may; `None` when the deadline has passed. Probes are made at once and
    /// in quick succession until then.
    pub async fn await_reader(&self, need: &Need, deadline: Instant) -> Option<Arc<Member>> {
        if let Some(reader) = self.choose_reader(need, Instant::now()) {
            return Some(reader);
        }
        let _waiting = Waiting::new(&self.waiting);
        self.wake();
        loop {
            let moved = self.moved.notified();
            let now = Instant::now();
            if let Some(reader) = self.choose_reader(need, now) {
                return Some(reader);
            }
            if rest(deadline).is_zero() || tokio::time::timeout(rest(deadline), moved).await.is_err() {
                return self.choose_reader(need, Instant::now());
            }
        }
    }
}
