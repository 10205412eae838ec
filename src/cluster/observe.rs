//! What probes have found becomes what sessions read: states, lags, the primary.

use std::sync::Arc;
use std::time::Duration;

use super::Cluster;
use super::election::{Memory, State, View, Word, elect};
use super::member::{Member, Seen};
use super::state::Kept;
use crate::config::Role;
use crate::core::clock::Instant;
use crate::core::error::Error;
use crate::fence::Number;
use crate::route::health::{Subject, UNREACHABLE};
use crate::route::{Probe, locality, tick};

/// What probes keep among them.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) memory: Memory,
    /// Whether there are primaries that cannot be told apart.
    conflict: bool,
    ticked: Option<Instant>,
}

impl Table {
    /// With what is known from before the start.
    pub(super) fn knowing(kept: Option<Kept>) -> Table {
        Table { memory: Kept::memory(kept), ..Table::default() }
    }
}

/// Longest time between two judgements of everybody's health.
const TICK: Duration = Duration::from_millis(100);

impl Cluster {
    /// A probe of a member, of that number if one was taken, was answered.
    pub(super) fn observed(&self, member: &Member, number: Option<Number>, seen: Seen, began: Instant) {
        let now = Instant::now();
        let mut table = self.table.lock();
        let before = member.seen.lock().replace(seen);
        // A replica that has lost what it had replayed is not past what it was past.
        if before.is_some_and(|b| seen.position < b.position || seen.in_recovery != b.in_recovery) {
            member.passed.reset(self.clock.now());
        }
        let lag = if seen.in_recovery { self.lag(&seen, now) } else { (Duration::ZERO, 0) };
        member.set_lag(lag.0, lag.1);
        member.health.probed(Probe { round_trip: seen.round_trip, lag: lag.0, read_only: seen.read_only });
        self.decide(&mut table);
        self.measure();
        match (member.state(), number) {
            (State::Primary, Some(number)) => self.clock.sampled(number, seen.position, began),
            // Only who follows the primary has replayed what the primary has sampled.
            (State::Replica, _) => drop(member.passed.replayed(&self.clock, seen.position)),
            _ => {}
        }
        self.judge(&mut table, now);
        drop(table);
        self.moved.notify_waiters();
        // Who waits for a replica waits for the next look at it, now that there is a sample to be past.
        if member.state() == State::Primary && self.is_awaited() {
            self.wake_replicas();
        }
    }

    /// How far everybody is, by where they say that they are, or else by how much farther than the nearest replica.
    fn measure(&self) {
        let (members, settings) = (self.members.load(), self.settings.load());
        let replicas = members.iter().filter(|m| m.state() == State::Replica);
        let nearest = replicas.map(|m| m.health.nearest()).min().unwrap_or_default();
        for member in members.iter() {
            let detour = member.health.nearest().saturating_sub(nearest);
            let place = &member.meant.load().place;
            member.set_level(locality::distance(&settings.own, place, detour, member.level()));
        }
    }

    fn wake_replicas(&self) {
        let members = self.members.load();
        members.iter().filter(|m| m.state() == State::Replica).for_each(|m| m.wake.notify_one());
    }

    /// How far behind a replica is, in time and in bytes.
    fn lag(&self, seen: &Seen, now: Instant) -> (Duration, u64) {
        let bytes = self.clock.newest().map_or(0, |newest| newest.lsn.0.saturating_sub(seen.position.0));
        let time = match self.clock.before(seen.position) {
            Some((_, true)) => Duration::ZERO,
            Some((sample, false)) => now.since(sample.at),
            None => self.clock.oldest().map_or(Duration::ZERO, |oldest| now.since(oldest.at)),
        };
        (time, bytes)
    }

    /// A probe of a member was not answered.
    pub(super) fn missed(&self, member: &Member, error: &Error) {
        let failures = member.health.probe_failed();
        let now = Instant::now();
        let mut table = self.table.lock();
        if failures >= UNREACHABLE {
            if member.state() != State::Unreachable {
                let (cluster, backend) = (self.name.as_str(), member.name());
                tracing::warn!(cluster, backend, error = %error.message, "backend does not answer probes");
            }
            *member.seen.lock() = None;
        }
        self.decide(&mut table);
        self.judge(&mut table, now);
        drop(table);
        self.moved.notify_waiters();
    }

    /// The member is reached elsewhere now: it is another server.
    pub(super) fn forget(&self, member: &Member) {
        let now = Instant::now();
        let mut table = self.table.lock();
        *member.seen.lock() = None;
        member.passed.reset(self.clock.now());
        member.health.reset(now);
        self.decide(&mut table);
    }

    /// Decides who is what.
    pub(super) fn decide(&self, table: &mut Table) {
        let members = self.members.load_full();
        let view = |m: &Arc<Member>| {
            let word = m.seen.lock().map(|s| Word {
                in_recovery: s.in_recovery,
                timeline: s.timeline,
                system: s.system,
            });
            let asked = word.is_some() || m.health.probe_failures() > 0;
            View { role: m.meant.load().role, word, asked }
        };
        let views: Vec<View> = members.iter().map(view).collect();
        let (last, newest) = (table.memory.primary, table.memory.newest);
        let states = elect(&views, &mut table.memory);
        let primary =
            members.iter().zip(&states).find(|(_, s)| **s == State::Primary).map(|(m, _)| m.clone());
        let promoted = primary.is_some() && table.memory.primary != last;
        if promoted {
            // Before anybody reads from whoever follows it: only samples of this one count from now on.
            self.clock.rebase();
            members.iter().for_each(|m| m.passed.reset(self.clock.now()));
        }
        let mut changed = table.memory.newest != newest;
        for (member, state) in members.iter().zip(&states) {
            if !matches!(state, State::Replica | State::Unreachable | State::Unknown) {
                member.passed.reset(self.clock.now());
            }
            member.tell_connections(*state, &table.memory);
            let before = member.set_state(*state);
            if before != *state {
                changed = true;
                self.tell(member, before, *state);
            }
        }
        self.tell_conflict(table, states.contains(&State::Rival));
        let was = self.primary.swap(primary.clone());
        let same = match (&was, &primary) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        if promoted {
            self.promotions.add(u64::from(last.is_some()));
            self.wake();
        }
        if !same || promoted {
            self.elected.notify_waiters();
        }
        if !same || promoted || changed {
            self.changed.notify_one();
        }
    }

    fn tell(&self, member: &Member, before: State, state: State) {
        let (cluster, backend, role) = (self.name.as_str(), member.name(), state.label());
        match state {
            State::Unknown | State::Unreachable => {}
            State::Primary | State::Replica => tracing::info!(cluster, backend, role, "backend is known"),
            State::Rival | State::Stale | State::Promoted | State::Stranger | State::OtherTimeline => {
                tracing::warn!(cluster, backend, role, before = before.label(), "backend is not used");
            }
        }
        if state == State::Replica && member.meant.load().role == Role::Primary {
            tracing::warn!(
                cluster,
                backend,
                "backend is configured as the primary and is in recovery: it serves reads"
            );
        }
    }

    fn tell_conflict(&self, table: &mut Table, conflict: bool) {
        if conflict && !table.conflict {
            self.conflicts.add(1);
            tracing::error!(
                cluster = self.name,
                "two primaries on the same timeline: nobody takes writes until one of them is gone"
            );
        }
        table.conflict = conflict;
    }

    fn judge(&self, table: &mut Table, now: Instant) {
        if table.ticked.is_some_and(|at| now.since(at) < TICK) {
            return;
        }
        table.ticked = Some(now);
        let members = self.members.load();
        let subjects: Vec<Subject<'_>> = members
            .iter()
            .map(|m| Subject {
                health: &m.health,
                balanced: m.state() == State::Replica,
                limit: m.meant.load().limit,
            })
            .collect();
        tick(&subjects, now);
    }
}
