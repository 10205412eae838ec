//! How long clients may take, and answers that will not come: looked after by a sweep, so that no statement needs a timer
//! of its own.

use std::sync::Arc;
use std::time::Duration;

use super::entry::{Entry, Phase, Verdict};
use super::shared::Shared;
use crate::cluster::State;
use crate::core::clock::Instant;
use crate::pool::cancel;

/// How often; a bound is kept to this.
const ROUND: Duration = Duration::from_millis(100);

/// Looks after all clients for as long as it is polled.
pub async fn watch(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(ROUND).await;
        let now = Instant::now();
        let entries = shared.entries();
        for entry in &entries {
            look(&shared, entry, now);
        }
        let clusters = shared.clusters.all();
        for member in clusters.iter().flat_map(|c| c.members().as_ref().clone()) {
            // What the primary was asked nobody else may answer.
            if member.take_silent() && member.state() != State::Primary {
                shared.pools.renew_to(&member.target);
                entries.iter().for_each(|entry| entry.lose(&member.target));
            }
        }
    }
}

fn look(shared: &Shared, entry: &Arc<Entry>, now: Instant) {
    if entry.is_past() {
        return entry.end(Verdict::Past);
    }
    let patience = entry.patience();
    let over = |since: Instant, bound: Duration| !bound.is_zero() && now.since(since) >= bound;
    let (phase, since, began) = entry.phase();
    let verdict = match phase {
        Phase::Idle if over(since, patience.idle) => Verdict::IdleTooLong,
        Phase::InTransaction if over(since, patience.idle_transaction) => Verdict::IdleInTransaction,
        Phase::InTransaction | Phase::Running if began.is_some_and(|b| over(b, patience.transaction)) => {
            Verdict::TransactionTooLong
        }
        Phase::Running if over(since, patience.query) => {
            return time_out(shared, entry, now.since(since).saturating_sub(patience.query));
        }
        _ => return,
    };
    entry.end(verdict);
}

/// Rounds between two attempts to cancel one statement.
const AGAIN: u128 = 10;

/// Cancels the statement; the session goes on. A cancel that comes before the server has begun cancels nothing, so
/// it is sent again while the statement runs on.
fn time_out(shared: &Shared, entry: &Arc<Entry>, late: Duration) {
    let first = entry.set_timed_out();
    if !first && !(late.as_millis() / ROUND.as_millis()).is_multiple_of(AGAIN) {
        return;
    }
    if entry.call_off() || shared.pools.cancel_waiter(&entry.pool, entry.id) {
        return;
    }
    if let Some(guard) = entry.begin_cancel() {
        if first {
            guard.link().failed();
        }
        tokio::spawn(cancel::deliver(guard));
    }
}
