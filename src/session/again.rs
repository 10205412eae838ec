//! What a server could not serve, asked again: of the primary in place of a replica, of the primary that there is now in
//! place of one that is lost. Only what leaves nothing behind, and only as long as the client has heard nothing.

use std::time::Duration;

use super::batch::Batch;
use super::batched::Batched;
use crate::core::error::SqlState;
use crate::pool::cancel;
use crate::route::{Failure, Outcome};
use crate::wire::message::ErrorFields;

/// What somebody ends by hand has run for longer than this, most likely.
const LONG: Duration = Duration::from_secs(10);
/// Times that the same is asked again at most.
const MOST_TRIES: u32 = 3;

impl Batch<'_> {
    /// The primary is asked what comes next: if that leaves nothing behind, it can be asked again.
    #[inline]
    pub(super) fn keep_at_home(&mut self, batched: &Batched) {
        let Some(course) = &mut self.client.course else { return };
        if batched.is_repeatable() && course.unopened.is_none() && course.tries < MOST_TRIES {
            course.at_home.keep(batched, &self.client.names, &mut self.flow);
        }
    }

    /// A server has said that it cannot serve what it was asked, and the client has heard nothing of it: the primary
    /// is asked instead (invariant 5). False where that cannot be.
    pub(super) fn ask_primary(&mut self, code: SqlState) -> bool {
        let failure = Failure::of(code);
        let goes = failure == Some(Failure::Shutdown);
        let away = self.client.course.as_ref().is_some_and(|course| course.reading.is_some());
        if !(is_refusal(code) && away || goes) {
            return false;
        }
        if goes && self.is_ended_by_hand() || !self.may_ask_again() {
            return goes && self.lost_at_rest();
        }
        if code == SqlState::READ_ONLY
            && let Some(plan) = self.flow.expected.plan()
        {
            plan.belongs_to_primary();
        }
        // The server has not done what it was about to be known for.
        self.undo_skipped();
        let Some(server) = self.client.lease.take() else { return false };
        if self.flow.up.pending() > 0 {
            // It is in the middle of a request.
            drop(server);
        } else {
            let debris = self.debris();
            self.client.abandon(server, debris);
        }
        self.ask_again(failure.map(Outcome::Failed));
        true
    }

    /// The same where the connection to it is lost.
    pub(super) fn lost_server(&mut self) -> bool {
        if self.server_said_goodbye || !self.may_ask_again() {
            return self.lost_at_rest();
        }
        self.client.lease = None;
        self.ask_again(Some(Outcome::Failed(Failure::Lost)));
        true
    }

    /// The same where the connection says nothing any more, and will not.
    pub(super) fn rescue(&mut self) -> bool {
        let link = self.client.lease.as_ref().map(|server| server.link.clone());
        let rescued = self.lost_server();
        // Where the server is there after all, nobody wants to know any more.
        if let Some(link) = link.filter(|_| rescued) {
            tokio::spawn(cancel::deliver(link.begin_cancel()));
        }
        rescued
    }

    /// Whether a notice says that the server ends the connection (57P01, 57P02: an immediate shutdown, the crash of one of
    /// its processes), which the client is not to hear of: what is under way is asked of another.
    pub(super) fn is_farewell_to_be_kept(&self, len: usize, whole: bool) -> bool {
        let ends = || Failure::of(ErrorFields::of(&self.flow.down.window()[..len]).sqlstate());
        whole && ends() == Some(Failure::Shutdown) && self.may_ask_again()
    }

    fn may_ask_again(&self) -> bool {
        let Some(course) = &self.client.course else { return false };
        let kept = course.reading.as_ref().map_or(&course.at_home, |reading| &reading.kept);
        kept.may_go_again(&self.flow) && self.flow.up.streaming() == 0
    }

    /// Whether it may be somebody's wish that the statement under way ends, rather than the server itself: whoever
    /// terminates a server process is not to find its statement on another.
    fn is_ended_by_hand(&self) -> bool {
        self.begun.is_some_and(|begun| begun.elapsed() > LONG)
    }

    fn ask_again(&mut self, outcome: Option<Outcome>) {
        let lost = matches!(outcome, Some(Outcome::Failed(Failure::Lost | Failure::Shutdown)));
        self.client.entry.unlink();
        let hand = &mut self.flow.hand;
        (hand.collecting, hand.turn, hand.passing, hand.flushing) = (None, None, 0, false);
        let Some(course) = &mut self.client.course else { return };
        let kept = course.reading.as_mut().map_or(&mut course.at_home, |reading| &mut reading.kept);
        let kept = std::mem::take(kept);
        (self.checking, self.flow.hand.params, self.flow.hand.asked, self.flow.hand.found) =
            (false, None, None, None);
        self.begin_again();
        if !self.client.come_home(outcome) {
            self.client.note_loss(outcome);
        }
        if let Some(course) = &mut self.client.course {
            (course.stays_home, course.tries) = (true, course.tries + 1);
            course.wants_fresh = lost;
        }
        if let Some(shadow) = &mut self.client.shadow {
            shadow.lose();
        }
        self.tenant_recalls();
        kept.put_back(&mut self.client.names, &mut self.flow);
        // There is something to look at again.
        self.held = true;
    }
}

/// What a server says that may not do what it is asked because it is a replica (documentation, "Hot Standby"): writes,
/// conflicts with recovery, serializable transactions, functions that are of no use during recovery.
fn is_refusal(code: SqlState) -> bool {
    let refusals = [
        SqlState::READ_ONLY,
        SqlState::SERIALIZATION_FAILURE,
        SqlState::FEATURE_NOT_SUPPORTED,
        SqlState::WRONG_STATE,
    ];
    refusals.contains(&code)
}
