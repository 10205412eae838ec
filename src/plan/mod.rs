//! What was decided about a shape, once, so that running a statement is looking that up.
//!
//! [`build`] is the one ordered recipe, [`class`] its judgement of who may serve a statement, [`store`] keeps what was
//! built, [`explain`] says it to people.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use crate::catalog::{Catalog, SearchPath};
use crate::config::{self, Directions, Route, Rule};
use crate::core::clock::Instant;
use crate::core::stats::{Counter, Latency};
use crate::sql::effect::Traces;
use crate::sql::facts::Facts;
use crate::sql::parse::Gap;
use crate::sql::shape::Shape;
use crate::sql::transaction::Control;

pub mod build;
pub mod class;
pub mod explain;
pub mod functions;
pub mod hint;
pub mod rules;
pub mod store;
pub mod touch;
mod written;

/// What keeping a plan takes beside it, in bytes.
const OVERHEAD: usize = 256;

/// Who may serve a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Any server that has the data: nothing but reading, for certain.
    Read,
    /// The primary.
    Primary,
}

impl Class {
    /// A label for metrics and people.
    pub fn label(self) -> &'static str {
        match self {
            Class::Read => "read",
            Class::Primary => "primary",
        }
    }
}

/// What a statement means to a transaction that has begun on a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tie {
    /// Nothing: it may run there, and the transaction may go on elsewhere after it.
    #[default]
    Free,
    /// It may run there, and what it leaves or has told ties the transaction to that server: cursors, savepoints,
    /// settings, the time when it began.
    Bound,
    /// It belongs to the primary.
    Primary,
}

/// Why a statement is of its class, or what speaks for another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Whether it keeps the statement on the primary.
    pub against: bool,
    /// In words.
    pub text: String,
}

/// What was decided about a shape. Plain data but for its counters; immutable once built.
#[derive(Debug)]
pub struct Plan {
    /// The normal form that it is for.
    pub normal: Box<[u8]>,
    /// What it is called by, everywhere ([`crate::sql::fingerprint::fingerprint`]).
    pub fingerprint: u128,
    /// Database and backend that it is for.
    pub home: Names,
    /// What each statement means.
    pub statements: Vec<Facts>,
    /// What keeps it from being understood, if anything.
    pub gap: Option<Gap>,
    /// What any of them may leave behind.
    pub traces: Traces,
    /// Who may serve it.
    pub class: Class,
    /// Why.
    pub reasons: Vec<Reason>,
    /// What a comment asks for (`/* turnpike: route=primary */`).
    pub asks: Option<Box<Directions>>,
    /// It may be about settings that speak to us (`SET turnpike.route`).
    pub speaks: bool,
    /// The `[[route]]` rules that it matches.
    pub rules: rules::RuleSet,
    /// The configuration's rules under which it was built ([`rules::Rules::serial`]).
    pub serial: u64,
    /// What its statements read and may write.
    pub touches: touch::Touches,
    /// What they mean to a transaction on a replica.
    pub tie: Tie,
    /// What it does to the transaction, if that is all it does.
    pub control: Option<Control>,
    /// EXPLAIN (ROUTE) of something: that is answered with the plan of what is explained.
    pub explains: Option<explain::Wanted>,
    /// Generation of the objects under which it was built.
    pub generation: u64,
    /// When it was built.
    pub built: Instant,
    /// How long that took, in microseconds.
    pub build_us: u64,
    /// What its statements have done.
    pub uses: Uses,
}

/// The database that a plan is for, and where that is: for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// As clients name it.
    pub database: String,
    /// The backend's name.
    pub backend: String,
}

/// What a plan is made from besides its text.
#[derive(Clone, Debug, Default)]
pub struct Home {
    /// For people.
    pub names: Names,
    /// What the database contains, where that is known.
    pub catalog: Option<Arc<Catalog>>,
    /// The session's schema search path, where that is known.
    pub path: Option<SearchPath>,
}

/// What the statements of a shape have done. Most shapes are used a few times, and there may be very many of them: only
/// those that are used more have a histogram.
#[derive(Debug, Default)]
pub struct Uses {
    /// Statements answered.
    pub calls: Counter,
    /// Of those, with an error.
    pub errors: Counter,
    /// Rows that their tags spoke of.
    pub rows: Counter,
    /// From a statement's first byte to its ReadyForQuery, in microseconds.
    pub time_us: Counter,
    longest_us: AtomicU64,
    of_primary: AtomicBool,
    latency: OnceLock<Box<Latency>>,
}

/// Calls after which a shape gets a histogram.
const OFTEN: u64 = 16;

impl Uses {
    /// Notes how long one took, in microseconds.
    pub fn took(&self, us: u64) {
        self.time_us.add(us);
        self.longest_us.fetch_max(us, Relaxed);
        if self.calls.get() >= OFTEN {
            self.latency.get_or_init(Default::default).record_us(us);
        }
    }

    /// A replica has refused it as a write: whatever its text says, it is one.
    pub fn belongs_to_primary(&self) {
        self.of_primary.store(true, Relaxed);
    }

    /// Whether that has happened.
    #[inline]
    pub fn is_of_primary(&self) -> bool {
        self.of_primary.load(Relaxed)
    }

    /// Mean and 99th percentile, in microseconds; the longest of a few.
    pub fn times_us(&self) -> (u64, u64) {
        let mean = self.time_us.get().checked_div(self.calls.get()).unwrap_or_default();
        let longest = self.longest_us.load(Relaxed);
        (mean, self.latency.get().map_or(longest, |latency| latency.snapshot().value_at_quantile(0.99)))
    }
}

impl Plan {
    /// Whether a comment asks for the primary.
    #[inline]
    pub fn wants_primary(&self) -> bool {
        self.asks.as_ref().is_some_and(|asks| asks.route == Some(Route::Primary))
    }

    /// About how much memory it takes, in bytes, where it is kept included.
    pub fn weight(&self) -> u32 {
        let facts = |f: &Facts| {
            let columns: usize = f.relations.iter().map(|r| 96 + r.columns.len() * 40).sum();
            256 + columns + f.calls.len() * 72 + f.predicates.len() * 64
        };
        let all: usize = self.statements.iter().map(facts).sum();
        u32::try_from(size_of::<Plan>() + self.normal.len() + all + self.reasons.len() * 96 + OVERHEAD)
            .unwrap_or(u32::MAX)
    }

    /// Its leading words, for people: of several statements, all.
    pub fn verb(&self) -> String {
        let verbs: Vec<&str> = self.statements.iter().map(|f| f.verb.as_str()).collect();
        if verbs.len() > 3 { format!("{}; ...", verbs[..3].join("; ")) } else { verbs.join("; ") }
    }

    /// The normal form, for people: values as question marks, at most this many characters.
    pub fn shown(&self, most: usize) -> String {
        let mut out = String::new();
        // A character has at most four bytes, and a value takes two characters.
        let head = &self.normal[..self.normal.len().min(most.saturating_mul(4).saturating_add(8))];
        let text = String::from_utf8_lossy(head);
        let cut = head.len() < self.normal.len();
        let mut chars = if cut { text.chars() } else { text.trim_end_matches([' ', ';']).chars() };
        for _ in 0..most {
            let Some(c) = chars.next() else { return out };
            if c == '\0' {
                // The letter after it tells the kind of a value.
                out.push(if chars.next() == Some('l') { '\u{2026}' } else { '?' });
            } else {
                out.push(if c.is_control() { ' ' } else { c });
            }
        }
        if cut || chars.next().is_some() {
            out.push('\u{2026}');
        }
        out
    }
}

/// A plan that is held by whoever runs it.
pub type Held = Arc<Plan>;

/// How a session's texts are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// `standard_conforming_strings`
    pub conforming: bool,
    /// Whether its encoding has characters whose bytes look like others.
    pub is_ambiguous: bool,
}

/// Plans that are made at once away from the workers: they are not to take the workers' processors.
const ASIDE: usize = 2;

/// Makes plans and keeps them.
#[derive(Debug)]
pub struct Planner {
    /// What it has made.
    pub store: store::Store,
    /// Turns at making plans away from the workers.
    pub aside: Semaphore,
    rules: ArcSwap<rules::Rules>,
    /// Statements run that were not understood, by reason in the order of [`Gap::ALL`].
    gaps: [Counter; Gap::ALL.len()],
}

impl Planner {
    /// A planner without plans.
    ///
    /// # Errors
    /// The system gives no random key.
    pub fn new(plan: &config::Plan, rules: &[Rule]) -> Result<Planner, String> {
        let rules = rules::Rules::new(plan, rules);
        let store =
            store::Store::new(plan.max_memory, rules.serial).map_err(|e| format!("no random key: {e}"))?;
        Ok(Planner {
            store,
            aside: Semaphore::new(ASIDE),
            rules: ArcSwap::from_pointee(rules),
            gaps: Default::default(),
        })
    }

    /// Puts a new configuration into use.
    pub fn reload(&self, plan: &config::Plan, rules: &[Rule]) {
        if self.rules.load().says(plan, rules) {
            return;
        }
        let rules = rules::Rules::new(plan, rules);
        let serial = rules.serial;
        // In this order: whoever sees the new serial finds the new rules.
        self.rules.store(Arc::new(rules));
        self.store.renew(serial);
    }

    /// What the configuration says of statements and sessions.
    pub fn rules(&self) -> Arc<rules::Rules> {
        self.rules.load_full()
    }

    /// The plan of a text; `home` is asked where it has to be built.
    #[inline]
    pub fn plan(
        &self,
        text: &[u8],
        reading: Reading,
        scope: store::Scope,
        home: impl FnOnce() -> Home,
    ) -> Held {
        self.store
            .plan(text, reading.conforming, scope, |shape| self.build(text, shape, reading, scope, &home()))
    }

    /// As [`Planner::plan`], on a thread that is no worker's.
    pub fn plan_aside(&self, text: &[u8], reading: Reading, scope: store::Scope, home: Home) -> Held {
        self.store.plan_aside(text, reading.conforming, scope, |shape| {
            self.build(text, shape, reading, scope, &home)
        })
    }

    fn build(&self, text: &[u8], shape: &Shape, reading: Reading, scope: store::Scope, home: &Home) -> Plan {
        let rules = self.rules.load();
        let known = class::Knowledge {
            marks: &rules.marks,
            catalog: home.catalog.as_deref(),
            path: home.path.as_ref(),
        };
        let (generation, names) = (scope.generation, home.names.clone());
        build::build(text, shape, build::Under { known, rules: &rules, generation, reading, names })
    }

    /// Notes that a statement has been run that was not understood.
    #[cold]
    pub fn count_gap(&self, gap: Gap) {
        self.gaps[gap as usize].add(1);
    }

    /// How many there have been, by reason.
    pub fn gaps(&self) -> impl Iterator<Item = (Gap, u64)> {
        Gap::ALL.into_iter().zip(&self.gaps).map(|(gap, n)| (gap, n.get()))
    }
}
