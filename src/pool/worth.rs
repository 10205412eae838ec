//! Which of a pool's idle connections are to go: the worst first, by their errors, their round trip, and their age.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::adaptive::SURPLUS_AFTER;
use super::bounds::Bounds;
use super::pool::State;
use super::server::{Link, Server};
use crate::config::PoolSettings;
use crate::core::clock::Instant;

/// Differences between round trips that say nothing, in microseconds.
const NOISE_US: u32 = 500;
/// Most faults that count.
const MOST: f64 = 10.0;

impl Link {
    /// Notes how long a statement took, from its first byte to ReadyForQuery. What is kept is near the least of late, as
    /// most of what takes longer is the statement's own: it creeps up, to double in some 45 statements.
    #[inline]
    pub fn took(&self, us: u64) {
        let us = u32::try_from(us).unwrap_or(u32::MAX).max(1);
        let least = self.round_trip_us.load(Relaxed);
        let creeping = least.saturating_add(least / 64 + 1);
        self.round_trip_us.store(if least == 0 { us } else { us.min(creeping) }, Relaxed);
    }

    /// Notes that its server has said that it is not well, or did not answer in time.
    pub fn failed(&self) {
        self.errors.fetch_add(1, Relaxed);
    }

    /// What speaks against it, beside others to the same server of which the quickest has this round trip: an error
    /// counts as much as twice the round trip.
    fn faults(&self, quickest: u32) -> f64 {
        let slower = self.round_trip_us.load(Relaxed).max(1);
        let ratio = if slower > quickest.saturating_add(NOISE_US) { slower / quickest.max(1) } else { 1 };
        (f64::from(self.errors.load(Relaxed)) + f64::from(ratio).log2()).min(MOST)
    }
}

/// The least round trip of these, in microseconds.
#[allow(clippy::vec_box, reason = "a server changes hands as one pointer")]
fn quickest(idle: &[Box<Server>]) -> u32 {
    let known = idle.iter().map(|s| s.link.round_trip_us.load(Relaxed)).filter(|us| *us > 0);
    known.min().unwrap_or(u32::MAX)
}

impl State {
    /// The worst idle connection; of those that are alike the oldest.
    fn worst(&self, now: Instant) -> Option<usize> {
        let quickest = quickest(&self.idle);
        let key = |server: &Server| (server.link.faults(quickest), now.micros_since(server.opened));
        let keys = self.idle.iter().map(|server| key(server)).enumerate();
        keys.max_by(|(_, a), (_, b)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))).map(|(i, _)| i)
    }

    /// Takes it out.
    pub(super) fn take_worst(&mut self, now: Instant) -> Option<Box<Server>> {
        self.worst(now).map(|i| self.idle.remove(i))
    }

    /// Idle connections that are too old, the worse the sooner: one with a fault at half of the lifetime, with two at a
    /// third. And as many of the worst as have been idle for too long, above the minimum; beyond what an adaptive pool may
    /// have now, that is sooner.
    #[allow(clippy::vec_box, reason = "a server changes hands as one pointer")]
    pub(super) fn surplus(
        &mut self,
        now: Instant,
        settings: &PoolSettings,
        bounds: &Bounds,
    ) -> Vec<Box<Server>> {
        let mut keep = self.total.saturating_sub(bounds.keep());
        let beyond = self.total > bounds.size() && bounds.is_adaptive();
        let idle_timeout = settings.idle_timeout.min(if beyond { SURPLUS_AFTER } else { Duration::MAX });
        let quickest = quickest(&self.idle);
        let (mut out, mut unused, mut i) = (Vec::new(), 0, 0);
        while i < self.idle.len() {
            let server = &mut self.idle[i];
            let (age, faults) = (now.since(server.opened), server.link.faults(quickest));
            let due = age.mul_f64(1.0 + faults) >= settings.lifetime;
            if due || server.link.is_past() || server.stream.has_input(false) {
                out.push(self.idle.remove(i));
                keep = keep.saturating_sub(1);
                continue;
            }
            if keep > 0 && now.since(server.returned) >= idle_timeout {
                unused += 1;
                keep -= 1;
                // It stays where another is worse, and is not counted twice.
                server.returned = now;
            }
            i += 1;
        }
        out.extend((0..unused).filter_map(|_| self.take_worst(now)));
        out
    }
}
