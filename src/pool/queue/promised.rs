//! Who of those that wait has less than is guaranteed, found without going through all who have a guarantee.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Flow, Queue};
use crate::core::clock::Instant;

/// Tenants with guarantees that are looked at for one connection, those first that have less when last looked at.
pub(super) const MOST_OWED: usize = 64;

/// One that has a guarantee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Promised {
    /// It had as much when it was last looked at.
    sated: bool,
    tag: u64,
    pub(super) flow: u32,
}

impl<T> Flow<T> {
    pub(super) fn has_promise(&self) -> bool {
        self.tenant.as_ref().is_some_and(|t| t.guaranteed() > 0)
    }

    pub(super) fn is_sated(&self) -> bool {
        self.tenant.as_ref().is_none_or(|t| t.owed() == 0)
    }

    pub(super) fn promised(&self, id: u32) -> Promised {
        Promised { sated: self.sated, tag: self.tag, flow: id }
    }
}

impl<T> Queue<T> {
    /// Whether somebody waits who has less than is guaranteed.
    pub fn is_owed(&self) -> bool {
        let flows = self.promised.iter().take(MOST_OWED).filter_map(|p| self.flows.get(&p.flow));
        flows.filter_map(|flow| flow.tenant.as_ref()).any(|tenant| tenant.owed() > 0)
    }

    /// Connections that tenants are owed who have waited for so long.
    pub(in crate::pool) fn owed_since(&self, now: Instant, long: Duration) -> u32 {
        let flows = self.promised.iter().take(MOST_OWED).filter_map(|p| self.flows.get(&p.flow));
        let owed = flows.filter_map(|flow| {
            let waiters = || flow.levels.iter().flat_map(|level| level.values());
            let late = waiters().any(|w| now.since(w.since) >= long);
            let owed = flow.tenant.as_ref()?.owed();
            late.then(|| owed.min(u32::try_from(waiters().count()).unwrap_or(u32::MAX)))
        });
        owed.sum()
    }

    /// Guarantees change with the configuration, also of those who always have somebody waiting.
    pub(super) fn look_for_promises(&mut self) {
        let mut promised = BTreeSet::new();
        for (_, id) in &self.order {
            let Some(flow) = self.flows.get_mut(id).filter(|flow| flow.has_promise()) else { continue };
            flow.sated = flow.is_sated();
            promised.insert(flow.promised(*id));
        }
        self.promised = promised;
    }
}
