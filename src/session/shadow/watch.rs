//! Answers as they pass: summed up for whoever wants the exchange, which is put in line when it is over.

use std::sync::Arc;

use super::exchange::{Answered, Exchange};
use super::{Pending, Places, Shadow, places};
use crate::config::MirrorMode;
use crate::core::clock::Instant;
use crate::core::error::SqlState;
use crate::core::limits::FRAME_HEADER;
use crate::plan::{Class, Held};
use crate::session::batch::Batch;
use crate::session::expect::Expect;
use crate::session::run::Client;
use crate::wire::frame::Header;
use crate::wire::message::TxStatus;
use crate::wire::summary::{Outcome, Summary};

impl Batch<'_> {
    /// Rows are about to be passed on.
    #[inline]
    pub(crate) fn watch_rows(&mut self, first: Header) {
        if self.client.shadow.is_some() {
            self.watch_rows_now(first);
        }
    }

    #[cold]
    fn watch_rows_now(&mut self, first: Header) {
        let Self { client, flow, .. } = self;
        if let Some(shadow) = client.shadow.as_mut().filter(|shadow| shadow.wants_rows()) {
            shadow.summary.rows(first, flow.down.window());
        }
    }

    /// More of a row that is passed on in pieces.
    #[inline]
    pub(crate) fn watch_more(&mut self) {
        if self.client.shadow.is_some() {
            self.watch_more_now();
        }
    }

    #[cold]
    fn watch_more_now(&mut self) {
        let Self { client, flow, .. } = self;
        let here = flow.down.streaming().min(flow.down.window().len());
        if let Some(shadow) = &mut client.shadow
            && here > 0
            && !flow.down.is_full()
        {
            shadow.summary.feed(&flow.down.window()[..here]);
        }
    }

    /// The answer to a statement of the client's ends with this frame.
    #[inline]
    pub(crate) fn watch_end(&mut self, kind: u8, len: usize) {
        if self.client.shadow.is_some() && matches!(kind, b'C' | b'I' | b's') {
            self.watch_end_now(len);
        }
    }

    #[cold]
    fn watch_end_now(&mut self, len: usize) {
        if self.flow.expected.is_ours() {
            return;
        }
        let Self { client, flow, .. } = self;
        let plan = flow.expected.plan().cloned();
        let window = flow.down.window();
        if let Some(shadow) = &mut client.shadow {
            shadow.ended(plan, |summary| summary.end(&window[..len.min(window.len())]));
        }
    }

    /// It fails.
    #[inline]
    pub(crate) fn watch_error(&mut self, code: SqlState) {
        if self.client.shadow.is_some() {
            self.watch_error_now(code);
        }
    }

    #[cold]
    fn watch_error_now(&mut self, code: SqlState) {
        if matches!(self.flow.expected.front(), Some(Expect::OurQuery(_))) {
            return;
        }
        let Self { client, flow, .. } = self;
        let plan = flow.expected.plan().cloned();
        if let Some(shadow) = &mut client.shadow {
            shadow.ended(plan, |summary| summary.fail(code));
        }
    }

    /// The client is about to hear ReadyForQuery.
    #[inline]
    pub(crate) fn watch_ready(&mut self, now: Instant) {
        if self.client.shadow.is_some() {
            self.watch_ready_now(now);
        }
    }

    #[cold]
    fn watch_ready_now(&mut self, now: Instant) {
        let Some(shadow) = &mut self.client.shadow else { return };
        let owed = self.flow.expected.ready_owed();
        while shadow.under_way.len() > owed + 1 {
            // What was to come of it did not.
            shadow.under_way.pop_front();
            shadow.number += 1;
        }
        if let Some(pending) = shadow.under_way.pop_front() {
            let began = self.begun.unwrap_or(now).max(self.client.leased_at);
            self.finish(pending, Some(now.micros_since(began)));
        }
    }

    /// An exchange is over; it took so long, if a server was asked.
    pub(super) fn finish(&mut self, pending: Box<Pending>, took_us: Option<u64>) {
        let settled = self.flow.hand.asked.is_none();
        let Some(mut shadow) = self.client.shadow.take() else { return };
        shadow.finish(self.client, *pending, took_us, settled);
        if self.client.status == TxStatus::Idle {
            shadow.wrote = false;
        }
        self.client.shadow = Some(shadow);
    }
}

impl Shadow {
    fn wants_rows(&self) -> bool {
        self.under_way.front().is_some_and(|p| p.wanted != 0 && !p.broken)
    }

    fn ended(&mut self, plan: Option<Held>, sum: impl FnOnce(&mut Summary) -> Outcome) {
        self.wrote |= !plan.as_ref().is_some_and(|plan| plan.writes().is_nothing());
        let outcome = sum(&mut self.summary);
        if let Some(pending) = self.under_way.front_mut().filter(|p| p.wanted != 0) {
            pending.answered(Answered { plan, outcome });
        }
    }

    fn finish(&mut self, client: &Client, pending: Pending, took_us: Option<u64>, settled: bool) {
        // A Sync and nothing else says nothing.
        if pending.wanted == 0 || pending.mute || pending.requests.len() <= FRAME_HEADER && !pending.broken {
            return;
        }
        self.number += 1;
        let is_read = |r: &Answered| r.plan.as_ref().is_some_and(|plan| is_read(plan, self.taps.rules));
        let reads = !pending.results.is_empty() && pending.results.iter().all(is_read);
        let known = settled && !client.blurred && client.doubts.is_none();
        let alone = known && !pending.dependent && !pending.copies && (pending.fresh || !self.wrote);
        let mut takers: Places = 0;
        for place in places(pending.wanted) {
            let tap = &self.taps.list[place];
            let of_it = |r: &Answered| r.plan.as_ref().is_some_and(|plan| plan.mirrors >> place & 1 == 1);
            let (wants, can) = match tap.mode() {
                MirrorMode::Sessions => (true, !pending.broken),
                MirrorMode::Reads => (reads && pending.results.iter().all(of_it), !pending.broken && alone),
            };
            if wants && can {
                takers |= 1 << place;
            } else if wants {
                tap.tally.skipped.add(1);
            }
        }
        if takers == 0 {
            return;
        }
        let exchange = Arc::new(Exchange {
            session: self.session,
            number: self.number,
            fresh: pending.fresh,
            reads,
            at: Instant::now(),
            took_us: took_us.unwrap_or_default(),
            settings: self.carried(client),
            statements: pending.statements,
            requests: pending.requests,
            results: pending.results,
        });
        self.told |= takers;
        places(takers).for_each(|place| self.taps.list[place].put(&exchange));
    }
}

/// Whether a statement does nothing but reading, and says by these rules who wants it.
fn is_read(plan: &Held, rules: u64) -> bool {
    plan.class == Class::Read && plan.serial == rules && plan.explains.is_none() && !plan.is_of_primary()
}
