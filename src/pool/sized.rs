//! A pool whose size is adaptive: what is seen of it, and what it is granted.

use std::sync::Arc;

use super::Pools;
use super::adaptive::hours::Hours;
use super::adaptive::{LimitRow, Sight};
use super::pool::{Pool, State};
use crate::core::clock::Instant;
use crate::core::work::{CLASSES, Done, class};

/// What is remembered of an adaptive pool from one look to the next.
#[derive(Debug, Default)]
pub struct Memo {
    counted: Counted,
    /// When it was used.
    pub hours: Hours,
}

/// Counters, as they were.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    done: Done,
    statements: u64,
    loans: u64,
    waits: u64,
}

impl Memo {
    /// For a pool whose use by the hour is known: what it has done before is not of this time.
    pub(super) fn new(hours: Hours, pool: &Pool) -> Memo {
        Memo { counted: pool.counted(), hours }
    }
}

impl State {
    /// How many are on loan.
    #[inline]
    pub(super) fn lent(&self) -> u32 {
        self.total.saturating_sub(self.idle.len() as u32 + self.connecting + self.resetting)
    }
}

impl Pool {
    fn counted(&self) -> Counted {
        let traffic = &self.traffic;
        Counted {
            done: traffic.got_done.done(),
            statements: traffic.sum(|work| &work.queries),
            loans: traffic.sum(|work| &work.xacts),
            waits: traffic.waits.get(),
        }
    }

    /// What has happened since the last look, and what is the case now.
    pub(super) fn sight(&self, memo: &mut Memo, now: Instant) -> Sight {
        let counted = self.counted();
        let then = std::mem::replace(&mut memo.counted, counted);
        let settings = self.settings();
        let mut ages = [0; CLASSES];
        let state = self.state.lock();
        for held in state.links.values().filter_map(|link| link.held(now)) {
            ages[class(u64::try_from(held.as_micros()).unwrap_or(u64::MAX))] += 1;
        }
        Sight {
            least: settings.min,
            most: settings.most(),
            lent: state.lent(),
            waiting: if state.paused { 0 } else { u32::try_from(state.waiters.ready()).unwrap_or(u32::MAX) },
            ages,
            done: counted.done.since(&then.done),
            statements: counted.statements.saturating_sub(then.statements),
            loans: counted.loans.saturating_sub(then.loans),
            waits: counted.waits.saturating_sub(then.waits),
        }
    }

    /// Whether more are on loan than may be, the reserve included.
    #[inline]
    pub(super) fn is_beyond(&self, state: &State, now: Instant) -> bool {
        self.is_too_many(state, state.lent(), now)
    }

    /// Whether so many on loan were more than may be, the reserve included.
    #[inline]
    fn is_too_many(&self, state: &State, lent: u32, now: Instant) -> bool {
        let most = self.bounds.lend();
        lent > most && (self.settings().reserve == 0 || lent > most + self.reserve(state, now))
    }

    /// Whether one that is idle may go to who waits: also beyond what may be on loan, to who has less than is guaranteed.
    pub(super) fn may_serve(&self, state: &State, now: Instant) -> bool {
        let may = || !self.is_too_many(state, state.lent() + 1, now) || state.waiters.is_owed();
        !state.paused && !state.idle.is_empty() && state.waiters.ready() > 0 && may()
    }

    /// What it may lend from now on, and how many connections it should keep open.
    pub(super) fn grant(&self, lend: u32, keep: u32) {
        self.bounds.grant(lend, keep, &self.settings());
    }

    /// Lends idle connections to those who wait, as far as it may: what it may have grown, or another has been lost.
    pub(super) fn serve_granted(&self, now: Instant) {
        if !self.bounds.is_adaptive() {
            return;
        }
        let most = self.state.lock().idle.len();
        for _ in 0..most {
            let spare = {
                let mut state = self.state.lock();
                if self.may_serve(&state, now) { state.idle.pop() } else { None }
            };
            let Some(server) = spare else { break };
            self.give_back(server, now);
        }
    }

    /// Whether more connections are usually in use about now than are kept in any case.
    pub(super) fn has_its_hour(&self) -> bool {
        self.bounds.is_adaptive() && self.bounds.keep() > self.settings().min
    }
}

impl Pools {
    /// Finds out how large adaptive pools should be.
    pub(super) fn size_pools(&self, pools: &[Arc<Pool>], now: Instant) {
        self.limits.lock().look(pools, now);
    }

    /// Writes down what is in use at which hour, if that is to be kept: the process is ending.
    pub fn keep_hours(&self) {
        let pools = self.all();
        self.limits.lock().keep_now(&pools);
    }

    /// The limits of backends that have adaptive pools, for observers.
    pub fn limit_rows(&self) -> Vec<LimitRow> {
        self.limits.lock().rows()
    }
}
