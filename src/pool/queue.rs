//! Who waits for a connection, and who is next: start-time fair queueing among tenants, and within a tenant those
//! whom somebody waits for before those who have time.
//!
//! What a tenant gets is time on connections. Each tenant that has somebody waiting has a tag, the time that it has
//! had divided by its weight, and the least tag is served next; who comes after having been away begins at the least
//! tag of those who wait, so that nobody saves up. (P. Goyal, H. Vin, H. Cheng: Start-time Fair Queueing, 1996. Many
//! connections serve at once, as in SFQ(D) of W. Jin, J. Chase, J. Kaur: Interposed Proportional Sharing, 2004.) How
//! long a lease takes is known at its end: the tenant is charged what its leases took lately when it gets one, and the
//! difference when that comes back. So while two tenants have somebody waiting, the times that they get, each divided
//! by its weight, differ by no more than a longest lease on each connection.
//!
//! A tenant that has less than its guarantee goes before all others; one that has as much as it may stands aside, with
//! nobody waiting behind it. All operations take the logarithm of who waits, but for the looks at each tenant that are
//! made ten times a second.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use foldhash::{HashMap, HashMapExt};

use crate::core::clock::Instant;
use crate::tenant::{Hold, Priority, Tenant, WEIGHT};
use promised::{MOST_OWED, Promised};
use ranks::Ranks;

mod promised;
pub(super) mod ranks;

/// Of so many of a tenant that are served while some of it have time, one is of those.
const BATCH_TURN: u32 = 8;
/// What a lease is taken to last before one has ended, in microseconds.
const COST: u64 = 1000;
/// Parts of a microsecond that tags tell apart, at a weight of [`WEIGHT`].
const SCALE: u64 = WEIGHT as u64;
/// The flow of those who do no tenant's work.
const NOBODYS: u32 = 0;
/// Time without anybody waiting after which it is forgotten who has had how much.
const MEMORY: Duration = Duration::from_secs(1);

/// See the module. `T` is what is kept for each who waits.
#[derive(Debug)]
pub struct Queue<T> {
    pub(super) flows: HashMap<u32, Flow<T>>,
    /// Tenants that have somebody waiting and may have more, by their tags.
    order: BTreeSet<(u64, u32)>,
    /// Those of them that have a guarantee.
    promised: BTreeSet<Promised>,
    /// Those who wait and have as much as they may.
    pub(super) aside: BTreeSet<u32>,
    /// Where in the queue a client is.
    places: HashMap<u64, Place>,
    /// How many wait whose tenants may have more.
    ready: usize,
    /// The least tag of those who waited when somebody was last served.
    reached: u64,
    next: u64,
    emptied: Option<Instant>,
    /// Where it has been full since the last look at all.
    ranks: Option<Box<Ranks>>,
}

/// What waits of one tenant.
#[derive(Debug)]
pub(super) struct Flow<T> {
    pub(super) tenant: Option<Arc<Tenant>>,
    tag: u64,
    /// See [`Promised`].
    sated: bool,
    /// What its leases have taken lately, in microseconds.
    cost: u64,
    /// Those served since one who has time was.
    turn: u32,
    /// By priority and age.
    pub(super) levels: [BTreeMap<u64, Waiter<T>>; 2],
}

#[derive(Debug)]
pub(super) struct Waiter<T> {
    pub(super) client: u64,
    pub(super) since: Instant,
    what: T,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    flow: u32,
    level: usize,
    at: u64,
}

/// Who comes to wait.
#[derive(Clone, Debug)]
pub struct Comer {
    /// The client.
    pub client: u64,
    /// For whom.
    pub tenant: Option<Arc<Tenant>>,
    /// How soon.
    pub priority: Priority,
    /// Since when.
    pub since: Instant,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue {
            flows: HashMap::new(),
            order: BTreeSet::new(),
            promised: BTreeSet::new(),
            aside: BTreeSet::new(),
            places: HashMap::new(),
            ready: 0,
            reached: 0,
            next: 0,
            emptied: None,
            ranks: None,
        }
    }
}

/// How far one tenant has been gone through in [`Queue::line`]: who is owed something first, then the least tag.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Cursor {
    sated: bool,
    tag: u64,
    flow: u32,
    owed: u32,
    room: u32,
    turn: u32,
    /// Those gone through, by priority.
    gone: [usize; 2],
}

impl<T> Flow<T> {
    fn new(tenant: Option<Arc<Tenant>>, tag: u64) -> Flow<T> {
        Flow { tenant, tag, sated: false, cost: COST, turn: 0, levels: [BTreeMap::new(), BTreeMap::new()] }
    }

    fn len(&self) -> usize {
        self.levels.iter().map(BTreeMap::len).sum()
    }

    fn is_empty(&self) -> bool {
        self.levels.iter().all(BTreeMap::is_empty)
    }

    fn waiting(&self) -> [usize; 2] {
        [self.levels[0].len(), self.levels[1].len()]
    }

    fn room(&self) -> u32 {
        self.tenant.as_ref().map_or(u32::MAX, |t| t.room())
    }

    /// What a time is worth for it.
    fn worth(&self, us: u64) -> u64 {
        let weight = self.tenant.as_ref().map_or(WEIGHT, |t| t.weight());
        (us.saturating_mul(SCALE) / u64::from(weight)).max(1)
    }

    fn cursor(&self, id: u32, owed: u32) -> Cursor {
        let (room, gone) = (self.room(), [0, 0]);
        Cursor { sated: owed == 0, tag: self.tag, flow: id, owed, room, turn: self.turn, gone }
    }
}

/// Which priority is served next, where so many wait of each: the share of those who have time is small, and sure.
fn level(turn: u32, waiting: [usize; 2]) -> usize {
    match waiting {
        [_, 0] => 0,
        [0, _] => 1,
        _ => usize::from(turn + 1 >= BATCH_TURN),
    }
}

fn turn_after(turn: u32, level: usize, waiting: [usize; 2]) -> u32 {
    if level == 1 || waiting[1] == 0 { 0 } else { turn + 1 }
}

impl<T> Queue<T> {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether nobody waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many wait whom a connection would help.
    #[inline]
    pub fn ready(&self) -> usize {
        self.ready
    }

    /// Since when the first who came waits whom a connection would help.
    pub fn oldest(&self) -> Option<Instant> {
        let flows = self.order.iter().filter_map(|(_, id)| self.flows.get(id));
        flows.flat_map(|flow| flow.levels.iter().filter_map(|l| l.values().next())).map(|w| w.since).min()
    }

    /// Somebody comes to wait.
    pub fn push(&mut self, comer: Comer, what: T) {
        let Comer { client, tenant, priority, since } = comer;
        self.withdraw(client);
        let id = tenant.as_ref().map_or(NOBODYS, |t| t.id);
        let reached = self.reached;
        let flow = self.flows.entry(id).or_insert_with(|| Flow::new(tenant, reached));
        let comes = flow.is_empty();
        if comes {
            flow.tag = flow.tag.max(reached);
        }
        let place = Place { flow: id, level: priority as usize, at: self.next };
        flow.levels[place.level].insert(self.next, Waiter { client, since, what });
        (self.next, self.emptied) = (self.next + 1, None);
        self.places.insert(client, place);
        self.rank(id);
        if self.aside.contains(&id) {
            return;
        }
        self.ready += 1;
        if comes {
            self.enter(id);
        }
        if id != NOBODYS {
            self.stand_aside(id);
        }
    }

    /// A client waits no longer.
    pub fn withdraw(&mut self, client: u64) -> Option<T> {
        let place = *self.places.get(&client)?;
        self.remove(place)
    }

    /// Who of the `near` ones that are next is the first that it `fits`, taken out, with the loan in the tenant's name.
    pub fn take(
        &mut self,
        near: usize,
        now: Instant,
        mut fits: impl FnMut(&T) -> bool,
    ) -> Option<(T, Option<Hold>)> {
        if self.ready == 0 {
            return None;
        }
        if self.flows.len() == 1
            && let Some(what) = self.take_nobodys(&mut fits)
        {
            return Some((what, None));
        }
        loop {
            let place = self.line(near).into_iter().find(|place| self.at(*place).is_some_and(&mut fits))?;
            let flow = self.flows.get(&place.flow)?;
            let cost = flow.cost;
            let hold = match &flow.tenant {
                None => None,
                Some(tenant) => match tenant.hold(now, cost) {
                    None => {
                        self.leave(place.flow);
                        self.aside.insert(place.flow);
                        self.ready -= self.flows.get(&place.flow).map_or(0, Flow::len);
                        continue;
                    }
                    hold => hold,
                },
            };
            self.reached = self.reached.max(self.order.first().map_or(0, |(tag, _)| *tag));
            self.adjust(place.flow, |flow| {
                flow.tag = flow.tag.saturating_add(flow.worth(cost));
                flow.turn = turn_after(flow.turn, place.level, flow.waiting());
            });
            let what = self.remove(place)?;
            self.stand_aside(place.flow);
            return Some((what, hold));
        }
    }

    /// The first, where no tenant has anybody here and so nobody's share is to be kept account of, if it `fits`.
    fn take_nobodys(&mut self, fits: &mut impl FnMut(&T) -> bool) -> Option<T> {
        let flow = self.flows.get_mut(&NOBODYS)?;
        let waiting = flow.waiting();
        let level = level(flow.turn, waiting);
        let first = flow.levels[level].first_entry().filter(|first| fits(&first.get().what))?;
        let waiter = first.remove();
        flow.turn = turn_after(flow.turn, level, waiting);
        self.reached = self.reached.max(flow.tag);
        let empty = flow.is_empty();
        self.places.remove(&waiter.client);
        self.rank(NOBODYS);
        self.ready -= 1;
        if empty {
            self.leave(NOBODYS);
        }
        Some(waiter.what)
    }

    /// What is kept for the one who would be served after `before` others.
    pub fn nth(&self, before: usize) -> Option<&T> {
        let place = *self.line(before + 1).get(before)?;
        self.at(place)
    }

    /// A loan has ended.
    #[inline]
    pub fn charge(&mut self, hold: Hold, now: Instant) {
        if self.flows.is_empty() {
            return;
        }
        self.charge_flow(hold, now);
    }

    fn charge_flow(&mut self, hold: Hold, now: Instant) {
        let (id, took, charged) = (hold.tenant.id, now.micros_since(hold.since), hold.charged);
        drop(hold);
        self.adjust(id, |flow| {
            flow.cost = (flow.cost.saturating_mul(7).saturating_add(took) / 8).max(1);
            let (more, less) = (flow.worth(took), if charged == 0 { 0 } else { flow.worth(charged) });
            flow.tag = flow.tag.saturating_add(more).saturating_sub(less);
        });
        self.come_back(id);
    }

    /// Those who have waited for `timeout` are taken out. Called some times a second: who stood aside is looked at
    /// again, and after a while without anybody waiting all is forgotten.
    pub fn sweep(&mut self, now: Instant, timeout: Duration) -> Vec<T> {
        self.ranks = None;
        for id in self.aside.iter().copied().collect::<Vec<_>>() {
            self.come_back(id);
        }
        if self.is_empty() {
            let emptied = *self.emptied.get_or_insert(now);
            if !self.flows.is_empty() && now.since(emptied) >= MEMORY {
                *self = Queue { next: self.next, ..Queue::default() };
            }
            return Vec::new();
        }
        self.look_for_promises();
        let late = |w: &Waiter<T>| now.since(w.since) >= timeout;
        let levels = self.flows.values().flat_map(|flow| &flow.levels);
        let late: Vec<u64> =
            levels.flat_map(|level| level.values().take_while(|w| late(w)).map(|w| w.client)).collect();
        // Tenants that nobody waits for are kept only as long as they are ahead of others.
        let reached = self.reached;
        self.flows.retain(|_, flow| !flow.is_empty() || flow.tag > reached);
        late.into_iter().filter_map(|client| self.withdraw(client)).collect()
    }

    /// All begin to wait now.
    pub fn restart(&mut self, now: Instant) {
        let levels = self.flows.values_mut().flat_map(|flow| &mut flow.levels);
        levels.flat_map(BTreeMap::values_mut).for_each(|w| w.since = now);
    }

    /// All are taken out.
    pub fn drain(&mut self) -> Vec<T> {
        let old = std::mem::replace(self, Queue { next: self.next, ..Queue::default() });
        let levels = old.flows.into_values().flat_map(|flow| flow.levels);
        levels.flat_map(BTreeMap::into_values).map(|w| w.what).collect()
    }

    fn at(&self, place: Place) -> Option<&T> {
        self.flows.get(&place.flow)?.levels[place.level].get(&place.at).map(|w| &w.what)
    }

    /// The first `near` ones, in the order in which they would be served if nothing came between.
    fn line(&self, near: usize) -> Vec<Place> {
        let mut line = Vec::with_capacity(near.min(self.ready));
        let mut heap = BinaryHeap::new();
        for Promised { flow: id, .. } in self.promised.iter().take(MOST_OWED) {
            let Some(flow) = self.flows.get(id) else { continue };
            let owed = flow.tenant.as_ref().map_or(0, |t| t.owed());
            if owed > 0 && flow.room() > 0 {
                heap.push(Reverse(flow.cursor(*id, owed)));
            }
        }
        let owed = heap.len();
        let is_owed = |id: u32| owed > 0 && heap.iter().any(|Reverse(cursor)| cursor.flow == id);
        let others: Vec<_> = self.order.iter().filter(|(_, id)| !is_owed(*id)).take(near).collect();
        for (_, id) in others {
            let Some(flow) = self.flows.get(id).filter(|flow| flow.room() > 0) else { continue };
            heap.push(Reverse(flow.cursor(*id, 0)));
        }
        while line.len() < near
            && let Some(Reverse(mut cursor)) = heap.pop()
        {
            let Some(flow) = self.flows.get(&cursor.flow) else { continue };
            let waiting = [0, 1].map(|i| flow.levels[i].len() - cursor.gone[i]);
            let level = level(cursor.turn, waiting);
            let Some(at) = flow.levels[level].keys().nth(cursor.gone[level]) else { continue };
            line.push(Place { flow: cursor.flow, level, at: *at });
            cursor.gone[level] += 1;
            (cursor.owed, cursor.room) = (cursor.owed.saturating_sub(1), cursor.room - 1);
            cursor.sated = cursor.owed == 0;
            cursor.tag = cursor.tag.saturating_add(flow.worth(flow.cost));
            cursor.turn = turn_after(cursor.turn, level, waiting);
            if cursor.room > 0 && waiting.iter().sum::<usize>() > 1 {
                heap.push(Reverse(cursor));
            }
        }
        line
    }

    fn remove(&mut self, place: Place) -> Option<T> {
        let flow = self.flows.get_mut(&place.flow)?;
        let waiter = flow.levels[place.level].remove(&place.at)?;
        self.places.remove(&waiter.client);
        let empty = flow.is_empty();
        self.rank(place.flow);
        if self.aside.contains(&place.flow) {
            if empty {
                self.aside.remove(&place.flow);
            }
        } else {
            self.ready -= 1;
            if empty {
                self.leave(place.flow);
            }
        }
        Some(waiter.what)
    }

    fn enter(&mut self, id: u32) {
        let Some(flow) = self.flows.get_mut(&id) else { return };
        self.order.insert((flow.tag, id));
        if flow.has_promise() {
            flow.sated = flow.is_sated();
            self.promised.insert(flow.promised(id));
        }
    }

    fn leave(&mut self, id: u32) {
        let Some(flow) = self.flows.get(&id) else { return };
        self.order.remove(&(flow.tag, id));
        self.promised.remove(&flow.promised(id));
    }

    fn adjust(&mut self, id: u32, change: impl FnOnce(&mut Flow<T>)) {
        let Some(flow) = self.flows.get_mut(&id) else { return };
        let (was, promised) = (flow.tag, flow.promised(id));
        change(flow);
        let tag = flow.tag;
        flow.sated = flow.is_sated();
        if was != tag && self.order.remove(&(was, id)) {
            self.order.insert((tag, id));
        }
        if promised != flow.promised(id) && self.promised.remove(&promised) {
            self.promised.insert(flow.promised(id));
        }
    }

    /// A tenant that has as much as it may lets others by.
    fn stand_aside(&mut self, id: u32) {
        let Some(flow) = self.flows.get(&id).filter(|flow| !flow.is_empty() && flow.room() == 0) else {
            return;
        };
        // Where one of its loans ends meanwhile, here or elsewhere, somebody is told.
        let Some(tenant) = &flow.tenant else { return };
        if !tenant.is_full() || self.aside.contains(&id) {
            return;
        }
        self.ready -= flow.len();
        self.leave(id);
        self.aside.insert(id);
    }

    fn come_back(&mut self, id: u32) {
        let Some(flow) = self.flows.get_mut(&id).filter(|flow| flow.room() > 0) else { return };
        if !self.aside.contains(&id) {
            return;
        }
        // Time in which it could not be served is not saved up.
        flow.tag = flow.tag.max(self.reached);
        self.ready += flow.len();
        self.aside.remove(&id);
        self.enter(id);
    }
}

#[cfg(test)]
mod tests;
