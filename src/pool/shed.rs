//! Who is not to wait, or no longer: where a queue is too long, or somebody has waited in it for too long, those go who have
//! time, and of those who are alike whoever's tenant has most of them waiting for its weight.

use std::time::Duration;

use super::pool::{Pool, State, Waiter};
use super::queue::ranks::load;
use super::queue::{Comer, Queue};
use super::wish::Wish;
use crate::core::clock::Instant;
use crate::core::error::{Error, Side, SqlState};
use crate::tenant::Priority;

/// What a waiter is told that has to go.
struct Notice<'a> {
    limit: String,
    wish: &'a Wish,
}

impl<T> Queue<T> {
    /// Takes out who goes so that `comer` may wait. `None` where that is the comer itself.
    pub(super) fn give_way(&mut self, comer: &Comer) -> Option<T> {
        let any_batch = self.ranked(Priority::Batch as usize).next().is_some();
        let has_time = comer.priority == Priority::Batch || any_batch;
        let level = if has_time { Priority::Batch } else { Priority::Interactive };
        let (own, comes) =
            (comer.tenant.as_ref().map_or(0, |tenant| tenant.id), usize::from(comer.priority == level));
        let level = level as usize;
        let other = self.ranked(level).find(|(_, _, id)| *id != own).copied();
        let waiting = self.flows.get(&own).map(|flow| &flow.levels[level]);
        let all = waiting.map_or(0, |waiting| waiting.len()) + comes;
        let youngest = waiting.and_then(|waiting| waiting.keys().next_back().copied());
        let last = if comes > 0 { Some(u64::MAX) } else { youngest };
        // Of those who are alike, whoever has come last.
        let most = other.into_iter().fold((load(all, comer.tenant.as_deref()), last, own), Ord::max);
        if most.2 == own && comes > 0 || most.0 == 0 {
            return None;
        }
        let youngest = self.flows.get(&most.2)?.levels[level].values().next_back()?.client;
        self.withdraw(youngest)
    }

    /// Takes out the youngest of a tenant's that have time. `None` where there is none.
    fn give_way_within(&mut self, tenant: u32) -> Option<T> {
        let flow = self.flows.get(&tenant)?;
        let youngest = flow.levels[Priority::Batch as usize].values().next_back()?.client;
        self.withdraw(youngest)
    }

    /// Takes out who has to go where nobody is to wait for as long as `age`: those who have time and have waited for that
    /// long; where others have, all who have time; where there are none of those, the others. A tenant that waits for
    /// nothing but itself is in nobody's way.
    pub(super) fn shed(&mut self, now: Instant, age: Duration) -> Vec<T> {
        let old = |since: Instant| now.since(since) >= age;
        let is_late = |level: &std::collections::BTreeMap<u64, super::queue::Waiter<T>>| {
            level.values().next().is_some_and(|w| old(w.since))
        };
        let (interactive, batch) = (Priority::Interactive as usize, Priority::Batch as usize);
        let ready = || self.flows.iter().filter(|(id, _)| !self.aside.contains(*id));
        let late = ready().any(|(_, flow)| is_late(&flow.levels[interactive]));
        let any_batch = ready().any(|(_, flow)| !flow.levels[batch].is_empty());
        let mut gone = Vec::new();
        for (id, flow) in &self.flows {
            let (late, any_batch) = match self.aside.contains(id) {
                true => (is_late(&flow.levels[interactive]), !flow.levels[batch].is_empty()),
                false => (late, any_batch),
            };
            let have_time = flow.levels[batch].values().filter(|w| late || old(w.since));
            gone.extend(have_time.map(|w| w.client));
            if late && !any_batch {
                gone.extend(flow.levels[interactive].values().take_while(|w| old(w.since)).map(|w| w.client));
            }
        }
        gone.into_iter().filter_map(|client| self.withdraw(client)).collect()
    }
}

impl State {
    /// Notes that a connection has come back from somebody who has a guarantee.
    #[inline]
    pub(super) fn spare(&mut self, hold: &crate::tenant::Hold, now: Instant) {
        let guaranteed = hold.tenant.guaranteed();
        if guaranteed > 0 {
            self.spared = Some((now, guaranteed));
        }
    }

    /// How many connections somebody has had here a moment ago to whom they are guaranteed.
    pub(super) fn kept_for_guarantees(&self, now: Instant) -> u32 {
        self.spared.filter(|(at, _)| now.since(*at) < SPARED).map_or(0, |(_, n)| n)
    }
}

/// How long somebody who has less than is guaranteed waits for others' leases to end before a pool grows beyond its size
/// for that: where they are short, another connection would not be sooner.
const OWED_AFTER: Duration = Duration::from_millis(20);

/// How long what is guaranteed stays where it was last used before other pools get it.
const SPARED: Duration = Duration::from_secs(1);

impl Pool {
    /// Lets somebody wait, or not: then whoever goes is told why.
    pub(super) fn admit(&self, state: &mut State, comer: Comer, waiter: Waiter) {
        let most = self.settings().max_waiting;
        let mut gone = None;
        // It counts already.
        if let Some(tenant) =
            comer.tenant.as_ref().filter(|t| t.max_waiting() > 0 && t.waiting() > t.max_waiting())
        {
            let limit =
                format!("{} (tenant.max_waiting) for tenant \"{}\"", tenant.max_waiting(), tenant.name);
            let other =
                (comer.priority == Priority::Interactive).then(|| state.waiters.give_way_within(tenant.id));
            match other.flatten() {
                Some(other) => gone = Some((other, limit)),
                None => return self.refuse(waiter, &limit),
            }
        } else if most > 0 && state.waiters.len() >= most as usize && !state.paused {
            let limit = format!("{most} (pool.max_waiting)");
            match state.waiters.give_way(&comer) {
                Some(other) => gone = Some((other, limit)),
                None => return self.refuse(waiter, &limit),
            }
        }
        state.waiters.push(comer, waiter);
        if let Some((other, limit)) = gone {
            self.refuse(other, &limit);
        }
    }

    /// Sends those away who have waited for too long, or are in the way of those who have.
    pub(super) fn shed_old(&self, state: &mut State, now: Instant) {
        let age = self.settings().max_waiting_age;
        if age.is_zero() || state.waiters.is_empty() {
            return;
        }
        for waiter in state.waiters.shed(now, age) {
            self.refuse(waiter, &format!("{age:?} (pool.max_waiting_age)"));
        }
    }

    fn refuse(&self, waiter: Waiter, limit: &str) {
        self.traffic.shed.add(1);
        if let Some(waits) = &waiter.waits {
            waits.tenant().did.shed.add(1);
        }
        let notice = Notice { limit: limit.to_string(), wish: &waiter.wish };
        let error = self.shed_error(&notice);
        // A client that has gone needs no answer.
        let _ = waiter.reply.send(Err(error));
    }

    fn shed_error(&self, notice: &Notice<'_>) -> Error {
        let first = match notice.wish.priority {
            Priority::Batch => " Statements of priority batch, as this one, go first.",
            Priority::Interactive => "",
        };
        Error::statement(SqlState::TOO_MANY_CONNECTIONS, "too many clients wait for a server connection")
            .detail(format!(
                "The limit is {}; pool of database \"{}\", user \"{}\".{first}",
                notice.limit, self.purpose.database, self.purpose.user
            ))
            .hint("Try again later, or raise the limit.")
            .retryable()
    }

    /// What has kept a client waiting: the limit, by its name, and what can be done about it.
    fn binding(&self, wish: &Wish) -> (String, &'static str) {
        let whose = format!("pool of database \"{}\", user \"{}\"", self.purpose.database, self.purpose.user);
        if let Some(tenant) = wish.tenant.as_ref().filter(|tenant| tenant.room() == 0) {
            let limit = format!(
                "Tenant \"{}\" has all of its {} connections in use (tenant.max)",
                tenant.name,
                tenant.max()
            );
            return (limit, "Raise the tenant's max or pool.wait_timeout, or end transactions sooner.");
        }
        let (total, lent) = {
            let state = self.state.lock();
            (state.total, state.lent())
        };
        let (size, most) = (self.bounds.size(), self.settings().most());
        if lent >= self.bounds.lend() && size < most {
            let limit = format!(
                "{lent} connections are on loan, and more would not get more done now, as far as is known: see SHOW LIMITS \
                 (pool.size = \"adaptive\"); {whose}"
            );
            return (limit, "Wait longer (pool.wait_timeout), raise pool.min, or end transactions sooner.");
        }
        // One that has a place at this moment has none for this pool, or it would have grown.
        let bounded = self.caps.iter().filter_map(|cap| Some((cap, cap.bound()?)));
        if total < size
            && let Some((cap, limit)) = bounded.min_by_key(|(cap, _)| cap.free())
        {
            let limit = format!(
                "All of the {limit} connections are in use that max_connections of {} allows; {total} of them are of the \
                 {whose}",
                cap.what
            );
            return (limit, "Raise max_connections or pool.wait_timeout, or end transactions sooner.");
        }
        let key = if self.bounds.is_adaptive() { "pool.max_size" } else { "pool.size" };
        (
            format!("All of the {size} connections are in use that the {whose} may have ({key})"),
            "Raise pool.size or pool.wait_timeout, or end transactions sooner.",
        )
    }

    pub(super) fn wait_error(&self, cause: Option<&Error>, wish: &Wish) -> Error {
        let timeout = self.settings().wait_timeout;
        match cause {
            Some(cause) => Error {
                side: Side::Backend,
                ..Error::fatal(
                    SqlState::CONNECTION_FAILURE,
                    format!("no connection to backend \"{}\" within {timeout:?}", self.target.name()),
                )
                .detail(cause.message.clone())
                .retryable()
            },
            None => {
                let (limit, hint) = self.binding(wish);
                Error::statement(
                    SqlState::TOO_MANY_CONNECTIONS,
                    format!("no server connection became free within {timeout:?}"),
                )
                .detail(format!("{limit}. That was waited for as long as pool.wait_timeout allows."))
                .hint(hint)
                .retryable()
            }
        }
    }

    /// How many connections more than its size it may have now, for who waits long or is owed one.
    pub(super) fn reserve(&self, state: &State, now: Instant) -> u32 {
        let (waiters, settings) = (&state.waiters, self.settings());
        let long = || waiters.oldest().is_some_and(|since| now.since(since) >= settings.reserve_after);
        let wanted = settings.reserve > 0 && !waiters.is_empty() && (waiters.is_owed() || long());
        if wanted { settings.reserve } else { 0 }
    }

    /// Whether it may grow beyond its size, for who has less than is guaranteed and has waited for others long enough:
    /// by as many as are owed. Those that are there or on their way come first; what it has grown by before, for who has
    /// what is guaranteed now, is not in the way of the next.
    pub(super) fn owes_more(&self, state: &State, now: Instant) -> bool {
        let coming = state.connecting.saturating_add(u32::try_from(state.idle.len()).unwrap_or(u32::MAX));
        state.waiters.owed_since(now, OWED_AFTER) > coming
    }

    /// Whether somebody waits under one of our caps who has less than is guaranteed.
    pub(super) fn others_are_owed(&self) -> bool {
        self.caps.iter().any(|cap| cap.is_promised())
    }

    /// Whether somebody waits in another pool who has less than is guaranteed, and nobody here; or the connection was
    /// opened beyond the pool's size for somebody like that.
    #[inline]
    pub(super) fn is_owed_elsewhere(&self, state: &State) -> bool {
        if state.waiters.is_empty() {
            return state.total > self.bounds.size() && self.has_outgrown(state);
        }
        self.gives_up(state)
    }

    /// Whether it has more than its settings allow. An adaptive pool that lends less for a while keeps what it has.
    fn has_outgrown(&self, state: &State) -> bool {
        let settings = self.settings();
        state.total > settings.most() + settings.reserve
    }

    fn gives_up(&self, state: &State) -> bool {
        if state.waiters.is_owed() {
            return false;
        }
        self.has_outgrown(state) || self.others_are_owed()
    }

    /// Whether somebody waits who has less than is guaranteed.
    pub(super) fn is_owed(&self) -> bool {
        self.state.lock().waiters.is_owed()
    }

    /// Closes the worst idle connections if another pool waits for what they take up: one for who has less than is
    /// guaranteed, and those beyond its share for who has less than that.
    pub(super) fn make_way(&self) {
        let (fair, owed) = (self.bounds.fair(), self.others_are_owed());
        if fair == u32::MAX && !owed {
            return;
        }
        let now = Instant::now();
        let idle: Vec<_> = {
            let mut state = self.state.lock();
            let free = state.idle.len().saturating_sub(state.kept_for_guarantees(now) as usize);
            let owed = usize::from(owed && state.waiters.ready() == 0);
            let beyond = (state.total.saturating_sub(fair) as usize).max(owed);
            (0..beyond.min(free)).filter_map(|_| state.take_worst(now)).collect()
        };
        idle.into_iter().for_each(super::pool::retire);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::tenant::Tenant;

    fn tenant(id: u32, weight: u32, guaranteed: u32) -> Arc<Tenant> {
        let tenant = Arc::new(Tenant::new(id, &format!("t{id}"), Arc::default()));
        tenant.set_share(weight, guaranteed, 0);
        tenant
    }

    fn comer(client: u64, tenant: &Arc<Tenant>, priority: Priority, since: Instant) -> Comer {
        Comer { client, tenant: Some(tenant.clone()), priority, since }
    }

    #[test]
    fn who_has_time_goes_first_and_then_whose_tenant_has_most() {
        let (now, a, b) = (Instant::now(), tenant(1, 100, 0), tenant(2, 100, 0));
        let mut queue = Queue::default();
        for (client, whose, priority) in [
            (1, &a, Priority::Interactive),
            (2, &b, Priority::Batch),
            (3, &a, Priority::Interactive),
            (4, &b, Priority::Batch),
        ] {
            queue.push(comer(client, whose, priority, now), client);
        }
        let mut come = |client, whose, priority| {
            let comer = comer(client, whose, priority, now);
            let gone = queue.give_way(&comer);
            if gone.is_some() {
                queue.push(comer, client);
            }
            gone
        };
        assert_eq!(come(5, &b, Priority::Batch), None, "the youngest of those who have time");
        assert_eq!(come(6, &a, Priority::Interactive), Some(4));
        assert_eq!(come(7, &a, Priority::Interactive), Some(2));
        assert_eq!(come(8, &a, Priority::Interactive), None, "its tenant has most");
        assert_eq!(come(9, &b, Priority::Interactive), Some(7));
    }

    #[test]
    fn weight_and_guarantee_count() {
        let (now, heavy, small, vip) =
            (Instant::now(), tenant(1, 300, 0), tenant(2, 100, 0), tenant(3, 100, 2));
        let mut queue = Queue::default();
        for (client, whose) in [(1, &heavy), (2, &heavy), (3, &heavy), (4, &small), (5, &small), (6, &vip)] {
            queue.push(comer(client, whose, Priority::Interactive, now), client);
        }
        // Three at three times the weight are fewer than two.
        assert_eq!(queue.give_way(&comer(7, &heavy, Priority::Interactive, now)), Some(5));
        // What is guaranteed is in nobody's way; of those who are alike now, the youngest goes.
        assert_eq!(queue.give_way(&comer(8, &vip, Priority::Interactive, now)), Some(4));
    }

    #[test]
    fn who_has_waited_for_too_long_goes_or_whoever_has_time() {
        let (now, a, b) = (Instant::now(), tenant(1, 100, 0), tenant(2, 100, 0));
        let (age, later) = (Duration::from_secs(1), now + Duration::from_millis(500));
        let mut queue = Queue::default();
        queue.push(comer(1, &a, Priority::Interactive, now), 1);
        queue.push(comer(2, &b, Priority::Batch, later), 2);
        queue.push(comer(3, &b, Priority::Interactive, later), 3);
        assert!(queue.shed(later, age).is_empty());
        assert_eq!(queue.shed(now + age, age), [2]);
        assert_eq!(queue.shed(now + age, age), [1]);
        assert!(queue.shed(now + age, age).is_empty());
        // Who waits for its own tenant's connections is in nobody's way.
        let full = tenant(3, 100, 0);
        full.set_share(100, 0, 1);
        let _hold = full.hold(now, 0);
        queue.push(comer(4, &full, Priority::Interactive, now), 4);
        queue.push(comer(5, &b, Priority::Batch, now + age), 5);
        assert_eq!(queue.shed(now + age, age), [4]);
    }

    /// Who goes, found by going through all tenants.
    fn plainly(queue: &Queue<u64>, comer: &Comer) -> Option<u64> {
        let any_batch = queue.flows.values().any(|flow| !flow.levels[1].is_empty());
        let level = usize::from(comer.priority == Priority::Batch || any_batch);
        let (own, comes) =
            (comer.tenant.as_ref().map_or(0, |t| t.id), usize::from(comer.priority as usize == level));
        let of = |id: u32| {
            let waiting = queue.flows.get(&id).map(|flow| &flow.levels[level]);
            let youngest = waiting.and_then(|waiting| waiting.keys().next_back().copied());
            (waiting.map_or(0, |waiting| waiting.len()), youngest)
        };
        let (n, youngest) = of(own);
        let last = if comes > 0 { Some(u64::MAX) } else { youngest };
        let mut most = (load(n + comes, comer.tenant.as_deref()), last, own);
        for (id, flow) in queue.flows.iter().filter(|(id, _)| **id != own) {
            let (n, youngest) = of(*id);
            most = most.max((load(n, flow.tenant.as_deref()), youngest, *id));
        }
        let goes = !(most.2 == own && comes > 0 || most.0 == 0);
        let flow = queue.flows.get(&most.2).filter(|_| goes)?;
        flow.levels[level].values().next_back().map(|waiter| waiter.client)
    }

    proptest! {
        /// Nobody for whom somebody waits goes while there is one who has time, and the queue stays as long as it is.
        #[test]
        fn priorities_hold(comers in prop::collection::vec((0usize..4, any::<bool>()), 1..80), most in 1usize..10) {
            let now = Instant::now();
            let tenants: Vec<_> = (1..5).map(|id| tenant(id, 50 * id, 0)).collect();
            let mut queue = Queue::default();
            let mut waiting: HashMap<u64, bool> = HashMap::new();
            for (client, (whose, batch)) in (1u64..).zip(comers) {
                let priority = if batch { Priority::Batch } else { Priority::Interactive };
                let comer = comer(client, &tenants[whose], priority, now);
                // Others are served meanwhile.
                if queue.len() >= most
                    && client % 7 == 0
                    && let Some((served, _)) = queue.take(1, now, |_| true)
                {
                    waiting.remove(&served);
                }
                if queue.len() >= most {
                    let want = plainly(&queue, &comer);
                    let any_batch = batch || waiting.values().any(|batch| *batch);
                    let goes = queue.give_way(&comer);
                    prop_assert_eq!(goes, want);
                    match goes {
                        None => {
                            prop_assert!(batch || !any_batch);
                            continue;
                        }
                        Some(gone) => {
                            let was = waiting.remove(&gone);
                            prop_assert_eq!(was, Some(any_batch));
                        }
                    }
                }
                queue.push(comer, client);
                waiting.insert(client, batch);
                prop_assert_eq!(queue.len(), waiting.len());
                prop_assert!(queue.len() <= most);
            }
        }
    }
}
