//! Reads that a replica could not serve, asked of the primary in its place, as long as the client has heard nothing.

use super::batch::Batch;
use crate::core::error::SqlState;
use crate::route::{Failure, Outcome};
use crate::wire::message::TxStatus;

impl Batch<'_> {
    /// A replica has said that it cannot serve what it was asked, and the client has heard nothing of it: the primary
    /// is asked instead (invariant 5). False where that cannot be.
    pub(super) fn ask_primary(&mut self, code: SqlState) -> bool {
        let failure = Failure::of(code);
        if !(is_refusal(code) || failure == Some(Failure::Shutdown)) || !self.may_ask_again() {
            return false;
        }
        let Some(server) = self.client.lease.take() else { return false };
        if code == SqlState::READ_ONLY
            && let Some(plan) = self.flow.expected.plan()
        {
            plan.uses.belongs_to_primary();
        }
        let debris = self.debris();
        self.client.abandon(server, debris);
        self.ask_again(failure.map(Outcome::Failed));
        true
    }

    /// The same where the connection to it is lost.
    pub(super) fn lost_replica(&mut self) -> bool {
        if self.client.course.is_none() || !self.may_ask_again() {
            return false;
        }
        self.client.lease = None;
        self.ask_again(Some(Outcome::Failed(Failure::Lost)));
        true
    }

    fn may_ask_again(&self) -> bool {
        let (up, down) = (&self.flow.up, &self.flow.down);
        let reading = self.client.course.as_ref().and_then(|course| course.reading.as_ref());
        reading.is_some_and(|r| !r.bytes.is_empty() && r.sent == down.sent() && r.requests == 0)
            && up.pending() == 0
            && up.streaming() == 0
            && self.client.status == TxStatus::Idle
    }

    fn ask_again(&mut self, outcome: Option<Outcome>) {
        self.client.entry.set_link(None);
        let Some(course) = &mut self.client.course else { return };
        let bytes = course.reading.as_mut().map(|reading| std::mem::take(&mut reading.bytes));
        self.client.come_home(outcome);
        if let Some(course) = &mut self.client.course {
            course.stays_home = true;
        }
        self.flow.down.recall();
        self.flow.expected.clear();
        self.flow.up.put_back(&bytes.unwrap_or_default());
        // There is something to look at again.
        self.held = true;
    }
}

/// What a server says that may not do what it is asked because it is a replica (documentation, "Hot Standby"): writes,
/// conflicts with recovery, serializable transactions.
fn is_refusal(code: SqlState) -> bool {
    [SqlState::READ_ONLY, SqlState::SERIALIZATION_FAILURE, SqlState::FEATURE_NOT_SUPPORTED].contains(&code)
}
