//! What the statements of a shape have done. Every worker counts for itself, so that workers which run the same shape do
//! not wait for each other's cache lines; whoever looks adds it up.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use hdrhistogram::Histogram;

use super::usual::Usual;
use crate::core::clock::Instant;
use crate::core::latency::LoneLatency;
use crate::core::stats::{Lone, seat, sits_alone};

/// Calls after which a shape gets a histogram. Most shapes are used a few times, and there may be very many of them.
pub const OFTEN: u64 = 16;

/// Backends that are told apart; what others serve counts together.
const BACKENDS: usize = 4;

/// What one worker has run.
#[derive(Debug, Default)]
pub struct Uses {
    /// Statements answered.
    pub calls: Lone,
    /// Of those, with an error.
    pub errors: Lone,
    /// Rows that their tags spoke of.
    pub rows: Lone,
    /// From a statement's first byte to its ReadyForQuery, in microseconds.
    pub time_us: Lone,
    longest_us: Lone,
    latency: OnceLock<Box<LoneLatency>>,
    by: [Served; BACKENDS],
    usual: Usual,
}

/// What one backend has answered.
#[derive(Debug, Default)]
struct Served {
    /// Its mark ([`crate::pool::connect::Target::mark`]); zero where none is yet.
    backend: AtomicU32,
    calls: AtomicU32,
}

impl Served {
    #[inline]
    fn count(&self) {
        if sits_alone() {
            self.calls.store(self.calls.load(Relaxed).wrapping_add(1), Relaxed);
        } else {
            self.calls.fetch_add(1, Relaxed);
        }
    }
}

impl Uses {
    /// A statement was answered, by the backend with this mark.
    #[inline]
    pub fn answered(&self, backend: u32) {
        self.calls.add(1);
        let place = self.by.iter().find(|served| match served.backend.load(Relaxed) {
            0 => served
                .backend
                .compare_exchange(0, backend, Relaxed, Relaxed)
                .map_or_else(|b| b == backend, |_| true),
            known => known == backend,
        });
        if let Some(served) = place {
            served.count();
        }
    }

    /// Notes how long one took, in microseconds.
    pub fn took(&self, us: u64) {
        self.time_us.add(us);
        self.longest_us.raise(us);
        if self.calls.get() >= OFTEN {
            self.latency.get_or_init(Default::default).record_us(us);
        }
    }

    /// What one usually takes on a server, in microseconds, after another that has taken so long.
    #[inline]
    pub fn usual(&self, us: u64, now: Instant) -> u64 {
        self.usual.after(us, now, self.calls.get() <= OFTEN)
    }

    /// How long those took that were timed one by one: none of the first few.
    pub fn latency(&self) -> Option<&LoneLatency> {
        self.latency.get().map(|latency| &**latency)
    }
}

/// What all workers have run, each its part; most shapes are one worker's, and there may be very many of them.
#[derive(Debug, Default)]
pub struct Parts(OnceLock<Box<Part>>);

/// One worker's, and the next one's.
#[derive(Debug)]
struct Part {
    seat: usize,
    uses: Uses,
    next: Parts,
}

/// The sum of all parts.
#[derive(Debug, Default)]
pub struct Total {
    /// Statements answered.
    pub calls: u64,
    /// Of those, with an error.
    pub errors: u64,
    /// Rows that their tags spoke of.
    pub rows: u64,
    /// Microseconds in all.
    pub time_us: u64,
    /// Workers that have run it.
    pub parts: u64,
}

impl Parts {
    /// This worker's part.
    #[inline]
    pub fn own(&self) -> &Uses {
        let (seat, mut at) = (seat(), self);
        loop {
            let new = || Box::new(Part { seat, uses: Uses::default(), next: Parts::default() });
            let part = at.0.get_or_init(new);
            if part.seat == seat {
                return &part.uses;
            }
            at = &part.next;
        }
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Uses> {
        std::iter::successors(self.0.get(), |part| part.next.0.get()).map(|part| &part.uses)
    }

    /// Whether any statement was answered.
    pub fn are_used(&self) -> bool {
        self.all().any(|uses| uses.calls.get() > 0)
    }

    /// What they come to.
    pub fn total(&self) -> Total {
        self.all().fold(Total::default(), |sum, uses| Total {
            calls: sum.calls + uses.calls.get(),
            errors: sum.errors + uses.errors.get(),
            rows: sum.rows + uses.rows.get(),
            time_us: sum.time_us + uses.time_us.get(),
            parts: sum.parts + 1,
        })
    }

    /// Calls by the marks of the backends that answered, most first; and those of all others.
    pub fn served(&self) -> (Vec<(u32, u64)>, u64) {
        let mut by: Vec<(u32, u64)> = Vec::new();
        for uses in self.all() {
            for served in &uses.by {
                let (backend, calls) = (served.backend.load(Relaxed), u64::from(served.calls.load(Relaxed)));
                match by.iter_mut().find(|(known, _)| *known == backend) {
                    Some((_, sum)) => *sum += calls,
                    None if backend != 0 => by.push((backend, calls)),
                    None => {}
                }
            }
        }
        by.sort_by_key(|(_, calls)| std::cmp::Reverse(*calls));
        let known: u64 = by.iter().map(|(_, calls)| calls).sum();
        (by, self.total().calls.saturating_sub(known))
    }

    /// Mean and 99th percentile, in microseconds; the longest of a few.
    pub fn times_us(&self) -> (u64, u64) {
        let (mut all, mut longest) = (None::<Histogram<u64>>, 0);
        for uses in self.all() {
            longest = longest.max(uses.longest_us.get());
            match (&mut all, uses.latency().map(|latency| latency.snapshot())) {
                (Some(sum), Some(more)) => drop(sum.add(more)),
                (None, more) => all = more,
                (_, None) => {}
            }
        }
        let total = self.total();
        let mean = total.time_us.checked_div(total.calls).unwrap_or_default();
        (mean, all.map_or(longest, |all| all.value_at_quantile(0.99)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_count_apart_and_are_added_up() {
        let parts = Parts::default();
        let own = parts.own();
        assert!(std::ptr::eq(own, parts.own()), "a worker has one part");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let others = parts.own();
                (0..30).for_each(|_| others.answered(7));
                others.took(3_000);
            });
        });
        (0..10).for_each(|_| own.answered(9));
        own.took(1_000);
        let total = parts.total();
        assert_eq!((total.calls, total.time_us), (40, 4_000));
        assert_eq!(parts.served(), (vec![(7, 30), (9, 10)], 0));
        let (mean, p99) = parts.times_us();
        assert!(mean == 100 && p99.abs_diff(3_000) < 100, "{p99}");
    }

    #[test]
    fn more_backends_than_are_told_apart() {
        let parts = Parts::default();
        let own = parts.own();
        for backend in 1..=20 {
            own.answered(backend);
            own.answered(backend);
        }
        let (by, rest) = parts.served();
        assert_eq!((by.len(), rest), (BACKENDS, (20 - BACKENDS as u64) * 2));
    }
}
