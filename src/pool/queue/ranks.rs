//! Whose tenant has most waiting for its weight, while a queue is as long as it may be: found out once, and then kept up with
//! whoever comes and goes until the next look at all ([`Queue::sweep`]). What is guaranteed, and weights, count as they were
//! when somebody of the tenant last came or went.

use std::collections::BTreeSet;

use foldhash::{HashMap, HashMapExt};

use super::{Flow, Queue};
use crate::tenant::{Tenant, WEIGHT};

/// How many wait beyond what is owed for a weight, the youngest of them, and of which tenant.
pub(in crate::pool) type Rank = (u64, Option<u64>, u32);

/// See the module. By priority.
#[derive(Debug)]
pub(super) struct Ranks {
    levels: [BTreeSet<Rank>; 2],
    of: HashMap<u32, [Option<Rank>; 2]>,
}

/// How much it weighs that so many of a tenant wait. What is guaranteed to it is not in anybody's way.
pub(in crate::pool) fn load(waiting: usize, tenant: Option<&Tenant>) -> u64 {
    let owed = tenant.map_or(0, |t| t.owed()) as usize;
    let weight = u64::from(tenant.map_or(WEIGHT, |t| t.weight()));
    waiting.saturating_sub(owed) as u64 * u64::from(WEIGHT) * 1000 / weight
}

impl Ranks {
    fn put<T>(&mut self, id: u32, flow: Option<&Flow<T>>) {
        let rank = |level: usize| {
            let flow = flow?;
            let waiting = &flow.levels[level];
            let youngest = waiting.keys().next_back().copied()?;
            Some((load(waiting.len(), flow.tenant.as_deref()), Some(youngest), id))
        };
        let now = [rank(0), rank(1)];
        let before = if now == [None; 2] { self.of.remove(&id) } else { self.of.insert(id, now) };
        for (level, (before, now)) in
            self.levels.iter_mut().zip(before.unwrap_or_default().into_iter().zip(now))
        {
            if before != now {
                if let Some(before) = before {
                    level.remove(&before);
                }
                level.extend(now);
            }
        }
    }
}

impl<T> Queue<T> {
    /// The tenants that have somebody of a priority waiting, whoever has most first.
    pub(in crate::pool) fn ranked(&mut self, level: usize) -> impl Iterator<Item = &Rank> {
        let flows = &self.flows;
        let ranks = self.ranks.get_or_insert_with(|| {
            let mut ranks = Box::new(Ranks { levels: Default::default(), of: HashMap::new() });
            flows.iter().for_each(|(id, flow)| ranks.put(*id, Some(flow)));
            ranks
        });
        ranks.levels[level].iter().rev()
    }

    /// Somebody of a tenant has come or gone.
    #[inline]
    pub(super) fn rank(&mut self, id: u32) {
        if let Some(ranks) = &mut self.ranks {
            ranks.put(id, self.flows.get(&id));
        }
    }
}
