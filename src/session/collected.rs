//! What servers answer, copied as it passes and kept when it is complete. Where in the answers of a connection that begins
//! stands in the queue of what is expected, so that it may be anywhere in a pipeline.

use std::sync::atomic::Ordering::Relaxed;

use super::batch::{Batch, Flow};
use super::caching::{Asked, Caching};
use super::expect::Expect;
use super::run::Client;
use super::sharing::Outlet;
use crate::cache::answer::{Answer, Unfit};
use crate::cache::key::Form;
use crate::cache::l1::{AsOf, Collected, Moment, Turn, Why};
use crate::cache::outside::Outside;
use crate::cache::remote::Name;
use crate::cache::strict::Seen;
use crate::config::CacheMode;
use crate::core::clock::Instant;
use crate::core::limits::FRAME_HEADER;
use crate::plan::Held;
use crate::wire::message::TxStatus;

/// An answer that is kept when it is complete.
#[derive(Debug)]
pub struct Collecting {
    /// Others wait for it until this is dropped.
    _turn: Turn,
    pub(super) hash: u128,
    pub(super) key: Box<[u8]>,
    form: Form,
    pub(super) plan: Held,
    pub(super) asked: Asked,
    /// How its tables stood among all processes when it was asked for, where that counts.
    pub(super) seen: Option<Seen>,
    /// What it is found by outside of the process, if it is to be.
    pub(super) name: Option<Name>,
    /// As of what it is under way, since when what it reads is known, and when it was sent.
    begun: Option<(AsOf, Instant, Instant)>,
    collected: Collected,
    /// Bytes that waited to be written to the client before what has not been copied.
    mark: usize,
}

impl Collecting {
    /// One that has not begun.
    pub(super) fn new(
        turn: Turn,
        hash: u128,
        key: &[u8],
        about: (Form, &Held, Asked),
        collected: Collected,
    ) -> Box<Collecting> {
        let (form, plan, asked) = about;
        let (key, plan, name, begun) = (key.into(), plan.clone(), None, None);
        let seen = None;
        Box::new(Collecting {
            _turn: turn,
            hash,
            key,
            form,
            plan,
            asked,
            seen,
            name,
            begun,
            collected,
            mark: 0,
        })
    }

    /// Whether it is of this.
    pub(super) fn is_of(&self, hash: u128, key: &[u8]) -> bool {
        self.hash == hash && *self.key == *key
    }
}

impl Batch<'_> {
    /// What is to be kept is about to be sent: from now on it is under way.
    #[inline]
    pub(super) fn begin_collecting(&mut self) {
        if let Some(collecting) = self.flow.hand.turn.take() {
            self.begin_collecting_now(collecting);
        }
    }

    fn begin_collecting_now(&mut self, mut collecting: Box<Collecting>) {
        let Some(caching) = self.client.caching.as_ref().filter(|_| self.client.lease.is_some()) else {
            return;
        };
        let (plan, mode) = (&collecting.plan, collecting.asked.terms.mode);
        let row = plan.cache.row_of(&collecting.key);
        let moment = self.client.moment(caching, plan, mode, collecting.seen).ok_or(Why::Written);
        let now = Instant::now();
        let as_of = moment
            .map(|moment| Moment { row, ..moment })
            .and_then(|moment| caching.cache.as_of(&moment, now));
        // In this order: what is fenced by now is all that was written before the stamp.
        let since = || self.client.reads_since(caching, plan, mode).ok_or(Why::Replica);
        match as_of.and_then(|as_of| Ok((as_of, since()?, now))) {
            Ok(begun) => {
                collecting.begun = Some(begun);
                self.flow.expected.push(Expect::Collect(collecting));
            }
            Err(why) => caching.cache.stats.bypass(why),
        }
    }

    /// All that was asked before has been answered: what comes next is copied.
    pub(super) fn collects(&mut self, mut collecting: Box<Collecting>) {
        collecting.mark = self.flow.down.pending();
        self.flow.hand.collecting = Some(collecting);
    }

    /// What waits to be written now is not to be copied, or has been.
    #[inline]
    pub(super) fn mark_answers(&mut self) {
        if let Some(collecting) = &mut self.flow.hand.collecting {
            collecting.mark = self.flow.down.pending();
        }
    }

    /// Copies what the client has been sent since the mark: the last bytes of what waits to be written.
    #[inline]
    pub(super) fn copy_answers(&mut self) {
        if self.flow.hand.collecting.is_some() {
            self.copy_answers_now();
        }
    }

    fn copy_answers_now(&mut self) {
        let Flow { down, hand, .. } = &mut *self.flow;
        let Some(collecting) = &mut hand.collecting else { return };
        let more = down.pending().saturating_sub(collecting.mark);
        collecting.mark += more;
        // What surrounds the rows takes little room.
        let max = collecting.asked.terms.max_bytes + FRAME_HEADER * 64;
        if !collecting.collected.add(down.last(more), max) {
            self.give_up(Why::Large);
        }
    }

    /// A statement of the extended protocol is complete, or with its ReadyForQuery a simple Query is: so is what is copied of
    /// that.
    #[inline]
    pub(super) fn end_collecting(&mut self, form: Form) {
        if self.flow.hand.collecting.as_ref().is_some_and(|collecting| collecting.form == form) {
            self.keep_answer();
        }
    }

    fn keep_answer(&mut self) {
        self.copy_answers_now();
        if let Err(why) = self.keep() {
            self.give_up(why);
        }
        self.flow.hand.collecting = None;
    }

    /// It will not be kept.
    #[cold]
    pub(super) fn give_up(&mut self, why: Why) {
        if self.flow.hand.collecting.take().is_some()
            && let Some(caching) = &self.client.caching
        {
            caching.cache.stats.bypass(why);
        }
    }

    /// Keeps what has been collected, now that it is complete.
    fn keep(&mut self) -> Result<(), Why> {
        let (Some(collecting), Some(caching)) = (&self.flow.hand.collecting, &self.client.caching) else {
            return Ok(());
        };
        let Collecting { hash, key, form, plan, asked, begun, collected, .. } = &**collecting;
        let (as_of, born, sent) = (*begun).ok_or(Why::Broken)?;
        if self.client.status == TxStatus::Failed {
            return Err(Why::Transaction);
        }
        let terms = &asked.terms;
        let answer = Answer::read(*form, collected.bytes(), terms.max_rows).map_err(|unfit| match unfit {
            Unfit::Told => Why::Told,
            Unfit::Rows => Why::Large,
            Unfit::Other => Why::Broken,
        })?;
        if answer.len() > terms.max_bytes {
            return Err(Why::Large);
        }
        let moment = self.client.moment(caching, plan, terms.mode, as_of.seen).ok_or(Why::Moved)?;
        // In this order: what it is as of is of the time that it is kept for.
        let outlet = Outlet::of(caching, collecting);
        if !caching.cache.holds(&as_of, &moment) {
            return Err(Why::Moved);
        }
        let entry = caching.cache.store(*hash, key, answer, as_of, born, plan.fingerprint);
        if let Some(asking) = &caching.warming {
            asking.kept.store(true, Relaxed);
        }
        plan.cache.count(|account| {
            account.stored.add(1);
            account.stored_us.add(Instant::now().micros_since(sent));
        });
        if let Some(outlet) = outlet {
            outlet.keep(entry, &as_of, born, self.client.shared.unix_micros());
        }
        Ok(())
    }
}

impl Client {
    /// Since when the server in use has what is read now, if it has all that was written through this process, and all
    /// from elsewhere that results must be as fresh as. A replica has that when it is past everybody's fence of the tables,
    /// and of what was lost, or told from elsewhere, before its last sample; of what others write past us and nobody
    /// tells of, it has what that sample has.
    fn reads_since(&self, caching: &Caching, plan: &Held, mode: CacheMode) -> Option<Instant> {
        let reading = self.course.as_ref().and_then(|course| Some((course, course.reading.as_ref()?)));
        let Some((course, reading)) = reading else { return Some(Instant::now()) };
        let (passed, fence) = (&reading.member.passed, course.fence_of(&plan.touches.reads));
        let taken = course.cluster.clock.taken(passed.get()).filter(|_| passed.is_past(fence))?;
        let found = caching.versions.found().max(caching.outside(mode).and_then(Outside::found));
        let knows = found.is_none_or(|found| found < taken);
        // What is as fresh as what all processes write is the primary's.
        let knows = knows && mode != CacheMode::Strict;
        knows.then(|| if mode == CacheMode::Exact { Instant::now() } else { taken })
    }
}
