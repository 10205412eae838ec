//! What was decided about a shape, once, so that running a statement is looking that up.
//!
//! [`build`] is the one ordered recipe, [`class`] its judgement of who may serve a statement, [`store`] keeps what was
//! built, [`explain`] says it to people.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::catalog::{Catalog, SearchPath};
use crate::config::{self, CacheRule, Directions, Route, Rule};
use crate::core::clock::Instant;
use crate::core::stats::Counter;
use crate::pool::suspects::Suspects;
use crate::sql::effect::Traces;
use crate::sql::facts::Facts;
use crate::sql::lex::{self, Lexer};
use crate::sql::parse::Gap;
use crate::sql::shape::Shape;
use crate::sql::transaction::Control;

pub mod build;
pub mod class;
pub mod declared;
pub mod explain;
pub mod functions;
pub mod hint;
mod implied;
pub mod kept;
pub mod row;
pub mod rules;
pub mod sameness;
pub mod store;
pub mod touch;
pub mod uses;
mod usual;
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
    /// In words; the same for most plans.
    pub text: Cow<'static, str>,
}

/// What was decided about a shape. Plain data but for what it counts; immutable once built.
#[derive(Debug)]
pub struct Plan {
    /// The normal form that it is for.
    pub normal: Box<[u8]>,
    /// What it is called by, everywhere ([`crate::sql::fingerprint::fingerprint`]).
    pub fingerprint: u128,
    /// Database and backend that it is for.
    pub home: Arc<Names>,
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
    /// The `[[mirror]]`s that it matches, and then `[record]`.
    pub mirrors: rules::RuleSet,
    /// What its runs have in common.
    pub sameness: sameness::Sameness,
    /// The configuration's rules under which it was built ([`rules::Rules::serial`]).
    pub serial: u64,
    /// What its statements read and may write.
    pub touches: touch::Touches,
    /// What they mean to a transaction on a replica.
    pub tie: Tie,
    /// Whether its results may be kept, and whether somebody wants that.
    pub cache: kept::CacheRule,
    /// What it does to the transaction, if that is all it does.
    pub control: Option<Control>,
    /// EXPLAIN (ROUTE) of something: that is answered with the plan of what is explained.
    pub explains: Option<explain::Wanted>,
    /// What its text was read under ([`store::Scope::place`]).
    pub place: u64,
    /// Generation of the objects under which it was built.
    pub generation: u64,
    /// When it was built.
    pub built: Instant,
    /// How long that took, in microseconds.
    pub build_us: u64,
    /// What its statements have done, by worker.
    pub parts: uses::Parts,
    /// A replica has refused it as a write.
    pub of_primary: AtomicBool,
}

/// The database that a plan is for, and where that is: for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
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
    /// What leaves something behind in sessions without being called, if there is any such thing.
    pub suspects: Option<Arc<Suspects>>,
}

impl Plan {
    /// A replica has refused it as a write: whatever its text says, it is one.
    pub fn belongs_to_primary(&self) {
        self.of_primary.store(true, Relaxed);
    }

    /// Whether that has happened.
    #[inline]
    pub fn is_of_primary(&self) -> bool {
        self.of_primary.load(Relaxed)
    }

    /// Where rows may stand that it writes: anywhere, once a replica has refused it as a write.
    #[inline]
    pub fn writes(&self) -> &touch::Reach {
        static ANYTHING: touch::Reach = touch::Reach::Anything;
        if self.is_of_primary() { &ANYTHING } else { &self.touches.writes }
    }

    /// Whether it writes and defines nothing, as far as is known by now.
    #[inline]
    pub fn is_nothing_but_reading(&self) -> bool {
        self.touches.is_nothing_but_reading() && !self.is_of_primary()
    }

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
        let verbs: Vec<&str> = self.statements.iter().map(|f| &*f.verb).collect();
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

    /// The same without any literal. The normal form keeps some where they say what a statement means, passwords among
    /// them: whoever reads metrics, or what others have asked, is to see none.
    pub fn masked(&self, most: usize) -> String {
        let shown = self.shown(most.saturating_mul(4));
        let mut out = String::new();
        let mut before = 0;
        for token in Lexer::new(shown.as_bytes(), true) {
            let gap = shown.get(before..token.start).is_some_and(|gap| !gap.is_empty());
            before = token.end;
            out.push_str(if gap && !out.is_empty() { " " } else { "" });
            match token.kind {
                lex::Kind::String | lex::Kind::Number => out.push('?'),
                _ => out.push_str(shown.get(token.start..token.end).unwrap_or_default()),
            }
        }
        match out.char_indices().nth(most) {
            Some((at, _)) => format!("{}\u{2026}", &out[..at]),
            None => out,
        }
    }
}

/// A worker's hold on a plan: workers share the plan, and nothing that running it changes.
#[derive(Debug)]
pub struct Hold(Arc<Plan>);

impl Hold {
    /// One for this worker.
    pub fn new(plan: Arc<Plan>) -> Held {
        Arc::new(Hold(plan))
    }

    /// What the plan's statements have done, as far as this worker has run them.
    #[inline]
    pub fn uses(&self) -> &uses::Uses {
        self.0.parts.own()
    }
}

impl Deref for Hold {
    type Target = Plan;
    #[inline]
    fn deref(&self) -> &Plan {
        &self.0
    }
}

/// A plan that is held by whoever runs it.
pub type Held = Arc<Hold>;

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
    homes: Mutex<HashSet<Arc<Names>>>,
    /// Statements run that were not understood, by reason in the order of [`Gap::ALL`].
    gaps: [Counter; Gap::ALL.len()],
}

impl Planner {
    /// A planner without plans.
    ///
    /// # Errors
    /// The system gives no random key.
    pub fn new(
        plan: &config::Plan,
        rules: &[Rule],
        mirrors: &[Rule],
        caches: &[CacheRule],
    ) -> Result<Planner, String> {
        let rules = rules::Rules::new(plan, rules, mirrors, caches);
        let store =
            store::Store::new(plan.max_memory, rules.serial).map_err(|e| format!("no random key: {e}"))?;
        Ok(Planner {
            store,
            aside: Semaphore::new(ASIDE),
            rules: ArcSwap::from_pointee(rules),
            homes: Mutex::default(),
            gaps: Default::default(),
        })
    }

    /// Puts a new configuration into use.
    pub fn reload(&self, plan: &config::Plan, rules: &[Rule], mirrors: &[Rule], caches: &[CacheRule]) {
        if self.rules.load().says(plan, rules, mirrors, caches) {
            return;
        }
        let rules = rules::Rules::new(plan, rules, mirrors, caches);
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
        let names = self.name(&home.names);
        let mut plan =
            build::build(text, shape, build::Under { known, rules: &rules, scope, reading, names });
        if home.suspects.as_ref().is_some_and(|suspects| suspects.are_mentioned(text)) {
            plan.traces.add(Traces::CALLS);
        }
        plan
    }

    /// One name for all plans of a home: there are many of them, and few homes.
    fn name(&self, names: &Names) -> Arc<Names> {
        let mut known = self.homes.lock();
        if let Some(known) = known.get(names) {
            return known.clone();
        }
        // Homes go when their databases do.
        if known.len() == known.capacity() {
            known.retain(|names| Arc::strong_count(names) > 1);
        }
        let names = Arc::new(names.clone());
        known.insert(names.clone());
        names
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
