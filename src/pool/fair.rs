//! What pools under one bound get of it where some want more than there is: weighted max-min fair, in whole connections.
//!
//! The sweeper looks, where the bound has kept somebody waiting. While a pool has less than its share and waits, those that
//! have more than theirs close a connection as it comes back, before they serve their own clients; where no pool has too
//! little, nothing is closed for another, however long the queues are.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Pools;
use super::cap::Cap;
use super::pool::Pool;
use crate::core::clock::Instant;
use crate::tenant::WEIGHT;

/// How long an idle connection counts as wanted by those who had it last: clients pause between statements.
const RECENT: Duration = Duration::from_millis(200);
/// How long a pool keeps its only connection where not all that want one can have one.
const TURN: Duration = Duration::from_millis(250);

/// What one pool has, and could use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// Connections that it has.
    pub has: u32,
    /// How many it could use.
    pub wants: u32,
    /// How many of those are guaranteed to whoever uses it.
    pub sure: u32,
    /// Beside others.
    pub weight: u32,
    /// Somebody waits for whom none is on its way.
    pub waits: bool,
    /// Since when it has any, or has none.
    pub since: Option<Instant>,
}

impl Want {
    /// Who of those that are to have one connection at most is the first to have it: whoever has begun to use it, then
    /// those who have been without for longest.
    fn turn(&self, now: Instant) -> (bool, u8, Option<Instant>) {
        let began = self.since.filter(|since| self.has > 0 && now.since(*since) < TURN);
        let class = match (self.has, began) {
            (_, Some(_)) => 0,
            (0, None) => 1,
            (_, None) => 2,
        };
        (!self.waits, class, self.since)
    }
}

/// How many of `limit` connections each is to have. Whoever would have less than is sure has that, and the others share what
/// is left, unless it is not there for all of them.
pub fn targets(limit: u32, wants: &[Want], now: Instant) -> Vec<u32> {
    let sure = |want: &Want| want.sure.min(want.wants);
    let is_there = wants.iter().map(|want| u64::from(sure(want))).sum::<u64>() <= u64::from(limit);
    let mut targets = vec![0; wants.len()];
    let (mut left, mut open) = (limit, (0..wants.len()).collect::<Vec<_>>());
    loop {
        let all: Vec<Want> = open.iter().map(|i| wants[*i]).collect();
        open.iter().zip(shares(left, &all, now)).for_each(|(i, share)| targets[*i] = share);
        let (short, enough): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|i| is_there && targets[*i] < sure(&wants[*i]));
        if short.is_empty() {
            return targets;
        }
        for i in short {
            targets[i] = sure(&wants[i]);
            left = left.saturating_sub(targets[i]);
        }
        open = enough;
    }
}

/// The same where nothing is sure.
fn shares(limit: u32, wants: &[Want], now: Instant) -> Vec<u32> {
    let mut order: Vec<usize> = (0..wants.len()).collect();
    let per_weight = |i: &usize| f64::from(wants[*i].wants) / f64::from(wants[*i].weight.max(1));
    order.sort_by(|a, b| per_weight(a).total_cmp(&per_weight(b)));
    let mut weights: f64 = wants.iter().map(|w| f64::from(w.weight.max(1))).sum();
    let (mut left, mut targets) = (f64::from(limit), vec![0; wants.len()]);
    for i in order {
        // Those that ask for least are served first; what they leave is for the others.
        let weight = f64::from(wants[i].weight.max(1));
        let share = (left * weight / weights.max(1.0)).min(f64::from(wants[i].wants));
        (left, weights) = (left - share, weights - weight);
        // What was divided may be a little less than it should.
        targets[i] = (share + 1e-6) as u32;
    }
    // What cannot be divided goes to who would have none, and then to who has it.
    let mut open: Vec<usize> = (0..wants.len()).filter(|i| targets[*i] < wants[*i].wants).collect();
    let none = |i: &usize| if targets[*i] == 0 { Some(wants[*i].turn(now)) } else { None };
    open.sort_by_cached_key(|i| (none(i).is_none(), none(i), wants[*i].has <= targets[*i]));
    let rest = limit.saturating_sub(targets.iter().sum());
    open.into_iter().take(rest as usize).for_each(|i| targets[i] += 1);
    targets
}

impl Pool {
    /// Where it has none and may not open any, has the sweeper look at once at who has how many.
    pub(super) fn call_for_a_share(&self) {
        let has_none = || self.state.lock().total == 0;
        if self.caps.iter().any(|cap| cap.is_contended()) && has_none() {
            self.kick.notify_one();
        }
    }

    /// What it has and could use under one of its caps; of the others it can have no more than they have room for.
    fn wants(&self, cap: &Arc<Cap>, weight: u32, now: Instant) -> Want {
        let state = self.state.lock();
        let failing = state.retry_at.is_some_and(|at| now < at);
        let ready = u32::try_from(state.waiters.ready()).unwrap_or(u32::MAX);
        let waits = ready > state.connecting && !state.paused && !failing;
        let recent = state.idle.iter().filter(|server| now.since(server.returned) < RECENT).count() as u32;
        let busy = state.total.saturating_sub(state.idle.len() as u32) + recent;
        let more = if waits { ready - state.connecting } else { 0 };
        let room = self.caps.iter().filter(|other| !Arc::ptr_eq(other, cap)).map(|other| other.free()).min();
        let most = self.bounds.size().min(state.total.saturating_add(room.unwrap_or(u32::MAX)));
        let wants = busy.saturating_add(more).min(most.max(busy));
        let sure = state.kept_for_guarantees(now);
        Want { has: state.total, wants, sure, weight, waits, since: state.turned }
    }
}

impl Pools {
    /// Finds out how many connections each pool may have under the bounds that have kept somebody waiting.
    pub(super) fn share_caps(&self, pools: &[Arc<Pool>], now: Instant) {
        let mut capped: HashMap<*const Cap, (&Arc<Cap>, Vec<usize>)> = HashMap::new();
        for (i, pool) in pools.iter().enumerate() {
            for cap in
                pool.caps.iter().filter(|cap| cap.is_wanted() && cap.bound().is_some() || cap.is_over())
            {
                capped.entry(Arc::as_ptr(cap)).or_insert_with(|| (cap, Vec::new())).1.push(i);
            }
        }
        let mut fair = vec![u32::MAX; pools.len()];
        for (cap, members) in capped.into_values() {
            let weight = |i: &usize| match &pools[*i].purpose.tenant {
                Some(tenant) => self.tenants.weight(tenant),
                None => WEIGHT,
            };
            let mut wants: Vec<Want> = members.iter().map(|i| pools[*i].wants(cap, weight(i), now)).collect();
            if cap.is_over() {
                // So many have to go, and no more.
                wants.iter_mut().for_each(|want| want.wants = want.wants.max(want.has));
            }
            let targets = targets(cap.bound().unwrap_or(u32::MAX), &wants, now);
            let starves = |(want, target): (&Want, &u32)| want.waits && want.has < *target;
            if cap.is_over() || wants.iter().zip(&targets).any(starves) {
                members.iter().zip(targets).for_each(|(i, target)| fair[*i] = fair[*i].min(target));
            }
        }
        pools.iter().zip(fair).for_each(|(pool, fair)| pool.bounds.set_fair(fair));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn want(has: u32, wants: u32, weight: u32) -> Want {
        Want { has, wants, sure: 0, weight, waits: wants > has, since: None }
    }

    fn at(ms: u64) -> Instant {
        Instant::default() + Duration::from_millis(ms)
    }

    #[test]
    fn who_asks_for_little_gets_it_and_the_others_share_by_weight() {
        let of = |limit, wants: &[Want]| targets(limit, wants, at(1000));
        assert_eq!(of(4, &[want(4, 50, 100), want(0, 1, 100)]), [3, 1]);
        assert_eq!(of(4, &[want(4, 50, 100), want(0, 50, 100)]), [2, 2]);
        assert_eq!(of(8, &[want(8, 50, 100), want(0, 50, 300)]), [2, 6]);
        assert_eq!(of(4, &[want(2, 9, 100), want(2, 9, 100), want(0, 9, 100)]), [2, 1, 1]);
        assert_eq!(
            of(4, &[want(1, 9, 100), want(2, 9, 100), want(1, 9, 100)]),
            [1, 2, 1],
            "who has it keeps it"
        );
        assert_eq!(of(4, &[want(4, 9, 10_000), want(0, 9, 1)]), [3, 1], "nobody has nothing");
    }

    #[test]
    fn who_has_a_guarantee_has_it_and_the_others_share_what_is_left() {
        let of = |limit, wants: &[Want]| targets(limit, wants, at(1000));
        let sure = |sure, want| Want { sure, ..want };
        let (many, vip) = (want(2, 50, 100), sure(2, want(2, 2, 100)));
        assert_eq!(of(4, &[many, many, vip]), [1, 1, 2]);
        assert_eq!(of(12, &[many, many, sure(2, many)]), [4, 4, 4], "no more than a share for that");
        assert_eq!(of(4, &[many, sure(9, want(1, 1, 100))]), [3, 1], "nor what it has no use for");
        assert_eq!(of(2, &[sure(2, many), sure(2, many)]), [1, 1], "what is not there cannot be had");
    }

    #[test]
    fn where_there_are_too_few_they_take_turns() {
        let now = at(10_000);
        let since = |has, ms| Want { since: Some(at(ms)), ..want(has, 5, 100) };
        assert_eq!(targets(1, &[since(1, 9_900), since(0, 9_000)], now), [1, 0], "its turn is not over");
        assert_eq!(targets(1, &[since(1, 9_000), since(0, 9_500)], now), [0, 1]);
        assert_eq!(targets(1, &[since(1, 9_000), since(0, 9_500), since(0, 9_100)], now), [0, 0, 1]);
        let idle = Want { wants: 1, waits: false, ..since(1, 9_900) };
        assert_eq!(targets(1, &[idle, since(0, 9_999)], now), [0, 1], "nobody waits there");
    }

    proptest! {
        #[test]
        fn all_of_it_is_shared_and_no_more(
            limit in 1u32..60,
            wants in prop::collection::vec((0u32..20, 0u32..40, 1u32..500, 0u32..6), 1..12),
        ) {
            let want = |(has, wants, weight, sure)| Want { sure, ..want(has, wants, weight) };
            let wants: Vec<Want> = wants.into_iter().map(want).collect();
            let sure = |want: &Want| want.sure.min(want.wants);
            let is_there = wants.iter().map(sure).sum::<u32>() <= limit;
            let got = targets(limit, &wants, at(0));
            let wanted: u32 = wants.iter().map(|w| w.wants).sum();
            prop_assert_eq!(got.iter().sum::<u32>(), wanted.min(limit));
            for (got, want) in got.iter().zip(&wants) {
                prop_assert!(*got <= want.wants && (!is_there || *got >= sure(want)));
            }
        }
    }
}
