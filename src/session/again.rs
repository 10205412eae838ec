//! Reads that a replica could not serve, asked of the primary in its place, as long as the client has heard nothing.

use super::batch::Batch;
use crate::core::error::SqlState;
use crate::pool::cancel;
use crate::route::{Failure, Outcome};

impl Batch<'_> {
    /// A replica has said that it cannot serve what it was asked, and the client has heard nothing of it: the primary
    /// is asked instead (invariant 5). False where that cannot be.
    pub(super) fn ask_primary(&mut self, code: SqlState) -> bool {
        let failure = Failure::of(code);
        let goes = failure == Some(Failure::Shutdown);
        if !(is_refusal(code) || goes) {
            return false;
        }
        if !self.may_ask_again() {
            return goes && self.lost_at_rest();
        }
        if code == SqlState::READ_ONLY
            && let Some(plan) = self.flow.expected.plan()
        {
            plan.uses.belongs_to_primary();
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
    pub(super) fn lost_replica(&mut self) -> bool {
        if self.client.course.is_none() || !self.may_ask_again() {
            return self.lost_at_rest();
        }
        self.client.lease = None;
        self.ask_again(Some(Outcome::Failed(Failure::Lost)));
        true
    }

    /// The same where the connection says nothing any more, and will not.
    pub(super) fn rescue(&mut self) -> bool {
        let link = self.client.lease.as_ref().map(|server| server.link.clone());
        let rescued = self.lost_replica();
        // Where the server is there after all, nobody wants to know any more.
        if let Some(link) = link.filter(|_| rescued) {
            tokio::spawn(cancel::deliver(link.begin_cancel()));
        }
        rescued
    }

    fn may_ask_again(&self) -> bool {
        let (up, down) = (&self.flow.up, &self.flow.down);
        let reading = self.client.course.as_ref().and_then(|course| course.reading.as_ref());
        reading.is_some_and(|r| r.taken <= r.bytes.len() && r.sent == down.sent()) && up.streaming() == 0
    }

    fn ask_again(&mut self, outcome: Option<Outcome>) {
        self.client.entry.set_link(None);
        let Some(course) = &mut self.client.course else { return };
        // What has not been taken is where it was.
        let taken = course.reading.as_mut().map(|r| std::mem::take(&mut r.bytes).into_iter().take(r.taken));
        let taken: Vec<u8> = taken.into_iter().flatten().collect();
        (self.checking, self.params, self.asked, self.found) = (false, None, None, None);
        self.begin_again();
        self.client.come_home(outcome);
        if let Some(course) = &mut self.client.course {
            course.stays_home = true;
        }
        self.flow.down.take_unread();
        self.flow.down.recall();
        self.flow.up.recall();
        self.flow.expected.clear();
        self.flow.up.put_back(&taken);
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
