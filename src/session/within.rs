//! What a session has sent since it was last in no transaction, with nothing under way: whether a result may be given to it,
//! or kept of what it asks, within the transaction that is open, be it begun by BEGIN or implied between two Syncs.
//!
//! That is so where each statement sees what was committed before it (READ COMMITTED) and nothing but reading has been
//! asked so far: then nothing that has been done in it can change what the next statement reads, a server would take a
//! new snapshot for it, and what that shows is what anybody else would be answered now. What has been written, locked,
//! set or made in it, or is not understood, ends that until the transaction is over.

use std::time::Duration;

use super::opening::DEFAULT_ISOLATION;
use super::run::Client;
use crate::core::clock::Instant;
use crate::plan::kept::AsksSettings;
use crate::plan::{Class, Held};
use crate::sql::transaction::{Control, Isolation, Modes};
use crate::wire::message::TxStatus;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Within {
    /// Something has been asked.
    any: bool,
    /// It was begun by name, and this has been said of it.
    begun: Option<Modes>,
    /// Something else than reading has been asked.
    other: bool,
    /// The unnamed portal that the client has last bound is one that no server knows of: it was given, and is done.
    given: bool,
    /// When its server began to wait for what comes next.
    rests: Option<Instant>,
}

/// Longest that a server waits within a transaction while results are given in its place: it may end sessions that are
/// idle within one (`idle_in_transaction_session_timeout`), and this one is not.
const REST: Duration = Duration::from_secs(1);

impl Within {
    /// Nothing has been asked.
    #[inline]
    pub fn is_fresh(&self) -> bool {
        !self.any
    }

    /// A statement is about to be sent: of a plan that is the one of now, as far as that is known.
    #[inline]
    pub fn sends(&mut self, plan: Option<&Held>) {
        let anew = !std::mem::replace(&mut self.any, true);
        match plan.map(|plan| (plan.control, plan.class)) {
            Some((None, Class::Read)) => {}
            Some((Some(Control::Begin(modes)), _)) if anew => self.begun = Some(modes),
            _ => self.other = true,
        }
    }

    /// A transaction is being begun that the client has been told of.
    pub fn begins(&mut self, modes: Modes) {
        (self.any, self.begun) = (true, Some(modes));
    }

    /// A result has been given, and the transaction goes on.
    pub fn gives(&mut self) {
        (self.any, self.given) = (true, true);
    }

    /// The unnamed portal is bound on a server.
    #[inline]
    pub fn binds(&mut self) {
        self.given = false;
    }
}

impl Client {
    /// It is in no transaction, and nothing is under way.
    #[inline]
    pub(super) fn leaves_transaction(&mut self) {
        if let Some(caching) = &mut self.caching {
            caching.within = Within::default();
        }
    }

    /// Its server waits for what comes next; `over` where that is no part of what there was.
    #[inline]
    pub(super) fn rests(&mut self, over: bool, now: Instant) {
        let Some(caching) = &mut self.caching else { return };
        if over {
            caching.within = Within::default();
        } else {
            caching.within.rests = Some(now);
        }
    }

    /// Whether the unnamed portal is one that no server knows of. Whoever asks for it again has it no longer.
    #[inline]
    pub(super) fn is_portal_given(&self) -> bool {
        self.caching.as_ref().is_some_and(|caching| caching.within.given)
    }

    /// Why no result may be given within the transaction that is open; `None` where it may.
    pub(super) fn why_not_within(&self) -> Option<&'static str> {
        let within = &self.caching.as_ref()?.within;
        let unopened = self.course.as_ref().and_then(|course| course.unopened.as_ref());
        let said = unopened.map(|unopened| unopened.begun.modes).or(within.begun).unwrap_or_default();
        let unknown = unopened.is_none() && within.begun.is_none() && self.status == TxStatus::Open;
        if self.told() == TxStatus::Failed {
            Some("its transaction has failed")
        } else if unknown {
            Some("it is not known how its transaction was begun")
        } else if within.other {
            Some("its transaction has done more than reading")
        } else if !self.is_by_statement(said.isolation) {
            Some("its transaction is not known to be READ COMMITTED")
        } else {
            None
        }
    }

    /// Whether a result of this plan may be given, or kept, within what is under way.
    pub(super) fn may_within(&self, plan: &Held) -> bool {
        // What it may ask for by name depends on the transaction as well.
        plan.cache.asks_settings < AsksSettings::Yes && self.why_not_within().is_none()
    }

    /// Whether the server of the transaction that is open has waited for so long that it is better asked something.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        let rests = self.caching.as_ref().and_then(|caching| caching.within.rests);
        self.lease.is_some() && rests.is_some_and(|since| now.since(since) >= REST)
    }

    /// Whether each statement of a transaction of which this has been said sees what was committed before it.
    fn is_by_statement(&self, said: Option<Isolation>) -> bool {
        let own = || self.settings.get(DEFAULT_ISOLATION).or_else(|| self.wish.class.get(DEFAULT_ISOLATION));
        let level = || {
            let level = own().or_else(|| self.pool.default(DEFAULT_ISOLATION));
            if level.is_none() {
                self.pool.want_defaults();
            }
            level.and_then(Isolation::of_setting)
        };
        said.or_else(level) == Some(Isolation::ReadCommitted)
    }
}
