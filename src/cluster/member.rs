//! One member of a cluster: the server, what it is, how far it is, how well it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::*};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::election::{Memory, State};
use crate::config::{Backend, Role};
use crate::core::clock::Instant;
use crate::fence::{Lsn, Passed};
use crate::pool::connect::Target;
use crate::pool::term::{self, Standing, Term};
use crate::route::locality::Place;
use crate::route::{Health, Outcome};

/// What the configuration says of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meant {
    pub(super) role: Role,
    pub(super) place: Place,
    pub(super) weight: u32,
    pub(super) limit: u32,
    pub(super) found: bool,
}

impl Meant {
    pub(super) fn of(backend: &Backend) -> Meant {
        Meant {
            role: backend.role,
            place: Place { zone: backend.zone.clone(), region: backend.region.clone() },
            weight: backend.weight,
            limit: backend.max_connections,
            found: backend.found,
        }
    }
}

/// What the last probe that was answered has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whether the server is in recovery.
    pub in_recovery: bool,
    /// How far it is: the end of what it has written, or replayed.
    pub position: Lsn,
    /// The end of what it has received, if it is in recovery.
    pub received: Option<Lsn>,
    /// The timeline that it is on, at least.
    pub timeline: Option<u32>,
    /// Its system identifier.
    pub system: Option<u64>,
    /// Whether it refuses writes though it is not in recovery.
    pub read_only: bool,
    /// The probe's round trip.
    pub round_trip: Duration,
}

/// One member. Sessions read a few atomics of it; probes write them.
#[derive(Debug)]
pub struct Member {
    /// The server.
    pub target: Arc<Target>,
    /// How well it is.
    pub health: Health,
    /// How far it has replayed, in numbers of samples.
    pub passed: Passed,
    pub(super) meant: ArcSwap<Meant>,
    pub(super) seen: Mutex<Option<Seen>>,
    /// Has it probed at once.
    pub(super) wake: Arc<Notify>,
    state: AtomicU8,
    level: AtomicU8,
    /// That of `meant`.
    weight: AtomicU32,
    lag_us: AtomicU64,
    lag_bytes: AtomicU64,
    silent: AtomicBool,
}

impl Member {
    pub(super) fn new(target: Arc<Target>, meant: Meant, passed: Passed, now: Instant) -> Arc<Member> {
        let wake = target.terms.wake.clone();
        Arc::new(Member {
            target,
            health: Health::new(now),
            passed,
            seen: Mutex::default(),
            wake,
            state: AtomicU8::new(State::Unknown as u8),
            level: AtomicU8::new(0),
            weight: AtomicU32::new(meant.weight),
            lag_us: AtomicU64::new(0),
            lag_bytes: AtomicU64::new(0),
            silent: AtomicBool::new(false),
            meant: ArcSwap::from_pointee(meant),
        })
    }

    /// What it is meant to be from now on.
    pub(super) fn set_meant(&self, meant: Meant) {
        self.weight.store(meant.weight, Relaxed);
        self.meant.store(Arc::new(meant));
    }

    /// Its share of reads, against the others.
    #[inline]
    pub(super) fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    /// The backend's name in the configuration.
    pub fn name(&self) -> &str {
        self.target.name()
    }

    /// The zone that it runs in, if the configuration says.
    pub fn zone(&self) -> Option<String> {
        self.meant.load().place.zone.clone()
    }

    /// What it is now.
    #[inline]
    pub fn state(&self) -> State {
        State::ALL.get(usize::from(self.state.load(Acquire))).copied().unwrap_or(State::Unknown)
    }

    /// Tells what it was before.
    pub(super) fn set_state(&self, state: State) -> State {
        let before = self.state.swap(state as u8, AcqRel);
        State::ALL.get(usize::from(before)).copied().unwrap_or(State::Unknown)
    }

    /// Notes that nothing has been heard on a connection to it, though others may work: who waits for an answer on one
    /// that was opened before may wait for ever.
    pub(super) fn fell_silent(&self) {
        self.silent.store(true, Release);
    }

    /// Whether answers that are awaited of it should be had elsewhere: for as long as it does not answer probes, and
    /// once where connections to it have been found dead.
    pub fn take_silent(&self) -> bool {
        self.state() == State::Unreachable || self.silent.load(Relaxed) && self.silent.swap(false, AcqRel)
    }

    /// The timeline on which it takes writes; [`term::NONE`] where it does not.
    #[inline]
    pub fn term(&self) -> Term {
        self.target.terms.leads()
    }

    /// How far behind the primary it is, in time and in bytes of WAL, as of the last probe. The time is that since the
    /// last sample that it has replayed, and zero where that is the newest: precise to the interval of probes.
    #[inline]
    pub fn lag(&self) -> (Duration, u64) {
        (Duration::from_micros(self.lag_us.load(Relaxed)), self.lag_bytes.load(Relaxed))
    }

    pub(super) fn set_lag(&self, time: Duration, bytes: u64) {
        self.lag_us.store(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Relaxed);
        self.lag_bytes.store(bytes, Relaxed);
    }

    /// Has the connections to it judged by what is known now.
    pub(super) fn tell_connections(&self, state: State, memory: &Memory) {
        let timeline = || self.seen.lock().and_then(|s| s.timeline).unwrap_or(term::UNTOLD);
        self.target.terms.set(&Standing {
            leads: if state == State::Primary { timeline() } else { term::NONE },
            newest: memory.newest,
            barred: matches!(state, State::Stale | State::Rival | State::Promoted | State::Stranger),
            system: memory.system,
        });
    }

    /// How far away it is ([`crate::route::locality`]).
    #[inline]
    pub fn level(&self) -> u8 {
        self.level.load(Relaxed)
    }

    pub(super) fn set_level(&self, level: u8) {
        self.level.store(level, Relaxed);
    }

    /// Notes that it is being used. Whoever does says how it went; a use that is dropped says nothing.
    pub fn begin(self: &Arc<Self>, now: Instant) -> Use {
        self.health.begin();
        Use { member: Some(self.clone()), began: now }
    }
}

/// A use of a member that is under way.
#[derive(Debug)]
pub struct Use {
    member: Option<Arc<Member>>,
    began: Instant,
}

impl Use {
    /// It was answered: also with an error, if that is the statement's own.
    pub fn answered(self, now: Instant) {
        let took = now.since(self.began);
        self.end(Outcome::Answered(took), now);
    }

    /// It is over, and went like this.
    pub fn end(mut self, outcome: Outcome, now: Instant) {
        if let Some(member) = self.member.take() {
            member.health.end(Some(outcome), now);
            if matches!(outcome, Outcome::Failed(_)) {
                // Whether it is gone, or something else now, is worth knowing soon.
                member.wake.notify_one();
            }
        }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        if let Some(member) = self.member.take() {
            member.health.end(None, self.began);
        }
    }
}
