//! Who serves a read.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use smallvec::SmallVec;

use super::{Cluster, Member, State};
use crate::config::{Consistency, Routing};
use crate::core::clock::Instant;
use crate::fence::{self, Number};
use crate::route::balance::{self, GAMMA};
use crate::route::{Candidate, Dice, Standing};

/// Members up to which choosing one allocates nothing.
const FEW: usize = 8;

/// What whoever serves a read must have seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The fence that it must be past; `None` where nothing has to be seen at all.
    fence: Option<Number>,
    /// Longest time that it may be behind; zero is no bound.
    max_lag: Duration,
    /// Most bytes that it may be behind; 0 is no bound.
    max_lag_bytes: u64,
    /// The only backend that it may be.
    only: Option<Arc<str>>,
}

/// The lesser of two bounds of which 0 is none.
fn tighter<T: Ord + Default>(a: T, b: T) -> T {
    if a == T::default() || b == T::default() { a.max(b) } else { a.min(b) }
}

impl Need {
    /// Under these settings, for what is fenced by `fence`: by the session's own writes, or by everybody's, as
    /// [`Routing::consistency`] has it. Where it asks for neither, the fence does not count.
    pub fn of(routing: &Routing, fence: Number) -> Need {
        let free = Need { fence: None, max_lag: Duration::ZERO, max_lag_bytes: 0, only: None };
        match routing.consistency {
            Consistency::Eventual => free,
            Consistency::Bounded => {
                Need { max_lag: routing.max_lag, max_lag_bytes: routing.max_lag_bytes, ..free }
            }
            Consistency::Session | Consistency::Global => Need { fence: Some(fence), ..free },
        }
    }

    /// The same of the backend of that name.
    pub fn of_backend(self, name: Arc<str>) -> Need {
        Need { only: Some(name), ..self }
    }

    /// What meets both. `None` where nobody can.
    pub fn and(self, other: Need) -> Option<Need> {
        let one = |a: &Arc<str>, b: &Arc<str>| a.eq_ignore_ascii_case(b);
        if self.only.as_ref().zip(other.only.as_ref()).is_some_and(|(a, b)| !one(a, b)) {
            return None;
        }
        Some(Need {
            fence: self.fence.max(other.fence),
            max_lag: tighter(self.max_lag, other.max_lag),
            max_lag_bytes: tighter(self.max_lag_bytes, other.max_lag_bytes),
            only: self.only.or(other.only),
        })
    }
}

/// Why a member does not serve a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is no replica.
    State(State),
    /// It has not replayed a write that the read must see: it has passed this number, and the fence is that.
    Behind(Number, Number),
    /// It is behind by more time than may be.
    Lag(Duration),
    /// It is behind by more bytes than may be.
    LagBytes(u64),
    /// Another one is asked for by name.
    Other,
    /// It is to have no share of reads.
    Weightless,
    /// It is kept away from, or on trial and busy with that.
    Outlier(Standing),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::State(State::Primary) => f.write_str("it is the primary"),
            Refusal::State(state) => f.write_str(state.label()),
            Refusal::Behind(passed, fence::NONE) => write!(f, "not known how far it is (sample {passed})"),
            Refusal::Behind(passed, fence) => {
                write!(f, "behind a write (has passed sample {passed}, not {})", fence.saturating_add(1))
            }
            Refusal::Lag(lag) => write!(f, "{} ms behind", lag.as_millis()),
            Refusal::LagBytes(bytes) => write!(f, "{bytes} bytes behind"),
            Refusal::Weightless => f.write_str("its weight is 0"),
            Refusal::Other => f.write_str("another one is asked for by name"),
            Refusal::Outlier(Standing::Trial) => f.write_str("on trial, one statement at a time"),
            Refusal::Outlier(_) => f.write_str("ejected for its failures"),
        }
    }
}

impl Member {
    /// Whether it may serve a read.
    ///
    /// # Errors
    /// Why not.
    #[inline]
    pub fn may_serve(&self, need: &Need) -> Result<(), Refusal> {
        match self.state() {
            State::Replica => {}
            state => return Err(Refusal::State(state)),
        }
        self.lacks(need)?;
        if self.weight() == 0 {
            return Err(Refusal::Weightless);
        }
        if !self.health.is_usable() {
            return Err(Refusal::Outlier(self.health.standing()));
        }
        Ok(())
    }

    /// Whether it has seen what it must, whatever else is the matter with it.
    pub fn has_seen(&self, need: &Need) -> bool {
        self.lacks(need).is_ok()
    }

    #[inline]
    fn lacks(&self, need: &Need) -> Result<(), Refusal> {
        if need.only.as_ref().is_some_and(|only| !only.eq_ignore_ascii_case(self.name())) {
            return Err(Refusal::Other);
        }
        if let Some(fence) = need.fence.filter(|fence| !self.passed.is_past(*fence)) {
            return Err(Refusal::Behind(self.passed.get(), fence));
        }
        let (lag, bytes) = self.lag();
        if !need.max_lag.is_zero() && lag > need.max_lag {
            return Err(Refusal::Lag(lag));
        }
        if need.max_lag_bytes != 0 && bytes > need.max_lag_bytes {
            return Err(Refusal::LagBytes(bytes));
        }
        Ok(())
    }

    fn candidate(&self, need: &Need, now: Instant) -> Candidate {
        Candidate {
            available: self.may_serve(need).is_ok(),
            level: self.level(),
            weight: self.weight(),
            factor: self.health.factor(),
            outstanding: self.health.outstanding(),
            peak_us: self.health.peak_us(now) * self.health.slowness(),
        }
    }
}

impl Cluster {
    /// A replica to serve a read; `None` where none may, and the primary is the way out, or waiting
    /// ([`Cluster::await_reader`]).
    pub fn choose_reader(&self, need: &Need, now: Instant) -> Option<Arc<Member>> {
        let members = self.members.load();
        // Who has no share is no part of what reads are balanced among: it would make its level look short of servers.
        let others: SmallVec<[&Arc<Member>; FEW]> =
            members.iter().filter(|m| m.state() != State::Primary && m.weight() > 0).collect();
        let candidates: SmallVec<[Candidate; FEW]> = others.iter().map(|m| m.candidate(need, now)).collect();
        let mut dice = Dice::new(self.seed.fetch_add(GAMMA, Relaxed));
        let strategy = self.settings.load().config.strategy;
        let chosen = balance::choose(strategy, &candidates, &self.turn, &mut dice)?;
        others.get(chosen).map(|member| Arc::clone(member))
    }

    /// For every member, whether it may serve a read, and why not.
    pub fn explain_reader(&self, need: &Need) -> Vec<(Arc<Member>, Result<(), Refusal>)> {
        self.members.load().iter().map(|m| (m.clone(), m.may_serve(need))).collect()
    }
}
