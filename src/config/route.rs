//! `[[route]]`: rules that say of some sessions and statements where they may go and what they must see; and the same
//! things as sessions and comments say them.

use std::sync::Arc;
use std::time::Duration;

use super::check::{ANY_TIME, unknown};
use super::cluster::{Consistency, Routing, Transactions};
use super::raw::{Fault, Section};
use super::units;
use super::words::{CONSISTENCIES, TRANSACTIONS, Words, nearest};
use super::{Backend, Cluster};
use crate::core::limits::MAX_RULES;

/// Where a statement is to go that may go there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Reads to replicas if `split` is on, everything else to the primary.
    Auto,
    /// The primary.
    Primary,
    /// Reads to replicas, whether `split` is on or not.
    Replica,
    /// Reads to this backend, and to no other replica. Cases are not told apart.
    Backend(Arc<str>),
}

impl Route {
    /// As the file and sessions spell it.
    pub fn label(&self) -> &str {
        match self {
            Route::Auto => "auto",
            Route::Primary => "primary",
            Route::Replica => "replica",
            Route::Backend(name) => name,
        }
    }
}

/// The words that stand for a route; any other is a backend's name.
pub const ROUTES: Words<fn() -> Route> =
    &[("auto", || Route::Auto), ("primary", || Route::Primary), ("replica", || Route::Replica)];

/// What is said of where statements go; what is not said is as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directions {
    /// Where to.
    pub route: Option<Route>,
    /// See [`Routing::consistency`].
    pub consistency: Option<Consistency>,
    /// See [`Routing::max_lag`].
    pub max_lag: Option<Duration>,
    /// See [`Routing::max_lag_bytes`].
    pub max_lag_bytes: Option<u64>,
    /// See [`Routing::replica_wait`].
    pub replica_wait: Option<Duration>,
    /// See [`Routing::transactions`].
    pub transactions: Option<Transactions>,
    /// See [`Routing::split`].
    pub split: Option<bool>,
    /// See [`Routing::fallback_to_primary`].
    pub fallback_to_primary: Option<bool>,
}

/// Where a statement goes, all told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Where to.
    pub route: Route,
    /// And the rest.
    pub routing: Routing,
}

/// What sessions and comments may say, in the order of the reference.
pub const SAYABLE: &[&str] = &[
    "route",
    "consistency",
    "max_lag",
    "max_lag_bytes",
    "replica_wait",
    "transactions",
    "fallback_to_primary",
];

/// Why something cannot be said: what may be, as PostgreSQL's hints have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsayable {
    /// There is no such key.
    Key,
    /// It is one of these words.
    Word(&'static [&'static str]),
    /// It is a time.
    Time,
    /// It is a size.
    Size,
}

fn choice<T: Copy>(value: &str, words: Words<T>) -> Option<T> {
    words.iter().find(|(word, _)| word.eq_ignore_ascii_case(value)).map(|(_, meant)| *meant)
}

/// As PostgreSQL's own settings have it, a number alone counts milliseconds.
fn time(value: &str) -> Result<Duration, Unsayable> {
    let time = match value.parse::<u64>() {
        Ok(millis) => Some(Duration::from_millis(millis)),
        Err(_) => units::duration(value).ok(),
    };
    time.filter(|time| ANY_TIME.contains(time)).ok_or(Unsayable::Time)
}

fn flag(value: &str) -> Result<bool, Unsayable> {
    const WORDS: Words<bool> = &[
        ("on", true),
        ("off", false),
        ("true", true),
        ("false", false),
        ("yes", true),
        ("no", false),
        ("1", true),
        ("0", false),
    ];
    choice(value, WORDS).ok_or(Unsayable::Word(&["on", "off"]))
}

impl Directions {
    /// Notes what a session or a comment says: `value` for the key of that name.
    ///
    /// # Errors
    /// What may be said in its place; nothing has been noted.
    pub fn say(&mut self, key: &str, value: &str) -> Result<(), Unsayable> {
        let value = value.trim();
        match key {
            "route" if value.is_empty() => return Err(Unsayable::Word(&["auto", "primary", "replica"])),
            "route" => {
                let word = choice(value, ROUTES).map(|route| route());
                self.route = Some(word.unwrap_or_else(|| Route::Backend(value.into())));
            }
            "consistency" => {
                let words = Unsayable::Word(&["eventual", "bounded", "session", "global"]);
                self.consistency = Some(choice(value, CONSISTENCIES).ok_or(words)?);
            }
            "transactions" => {
                let words = Unsayable::Word(&["primary", "optimistic"]);
                self.transactions = Some(choice(value, TRANSACTIONS).ok_or(words)?);
            }
            "max_lag" => self.max_lag = Some(time(value)?),
            "replica_wait" => self.replica_wait = Some(time(value)?),
            "max_lag_bytes" => self.max_lag_bytes = Some(units::size(value).map_err(|_| Unsayable::Size)?),
            "fallback_to_primary" => self.fallback_to_primary = Some(flag(value)?),
            _ => return Err(Unsayable::Key),
        }
        Ok(())
    }

    /// Whether nothing is said.
    #[inline]
    pub fn is_empty(&self) -> bool {
        *self == Directions::default()
    }

    /// Changes what is said here. A backend is only meant where the cluster `has` it.
    #[inline]
    pub fn apply(&self, way: &mut Way, has: impl Fn(&str) -> bool) {
        match &self.route {
            Some(Route::Backend(name)) if !has(name) => {}
            Some(route) => way.route.clone_from(route),
            None => {}
        }
        let to = &mut way.routing;
        to.consistency = self.consistency.unwrap_or(to.consistency);
        to.max_lag = self.max_lag.unwrap_or(to.max_lag);
        to.max_lag_bytes = self.max_lag_bytes.unwrap_or(to.max_lag_bytes);
        to.replica_wait = self.replica_wait.unwrap_or(to.replica_wait);
        to.transactions = self.transactions.unwrap_or(to.transactions);
        to.split = self.split.unwrap_or(to.split);
        to.fallback_to_primary = self.fallback_to_primary.unwrap_or(to.fallback_to_primary);
    }

    /// What is said, key by key, as the file would have it.
    pub fn said(&self) -> Vec<(&'static str, String)> {
        let word = |(key, text): (&'static str, Option<&str>)| Some((key, text?.to_string()));
        let consistency = self.consistency.map(|c| super::words::word(CONSISTENCIES, &c));
        let transactions = self.transactions.map(|t| super::words::word(TRANSACTIONS, &t));
        let time = |key, time: Option<Duration>| Some((key, units::show_duration(time?)));
        let flag = |key, flag: Option<bool>| Some((key, flag?.to_string()));
        [
            word(("route", self.route.as_ref().map(Route::label))),
            word(("consistency", consistency)),
            time("max_lag", self.max_lag),
            self.max_lag_bytes.map(|n| ("max_lag_bytes", units::show_size(n))),
            time("replica_wait", self.replica_wait),
            word(("transactions", transactions)),
            flag("split", self.split),
            flag("fallback_to_primary", self.fallback_to_primary),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// A name, or with a `*` at its end the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// The name, or its beginning.
    pub text: Box<str>,
    /// Whether anything may follow.
    pub open: bool,
}

impl Pattern {
    /// From the file's text.
    pub fn new(text: &str) -> Pattern {
        let (text, open) = text.strip_suffix('*').map_or((text, false), |beginning| (beginning, true));
        Pattern { text: text.into(), open }
    }

    /// Whether the name is one of those meant.
    pub fn matches(&self, name: &str) -> bool {
        if self.open { name.starts_with(&*self.text) } else { *self.text == *name }
    }

    fn covers(&self, other: &Pattern) -> bool {
        if self.open { other.text.starts_with(&*self.text) } else { self == other }
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)?;
        f.write_str(if self.open { "*" } else { "" })
    }
}

/// The words of `[[route]] class`: what EXPLAIN (ROUTE) calls a statement, as a whole or of what kind.
pub const CLASSES: &[&str] = &[
    "read",
    "primary",
    "write",
    "ddl",
    "transaction",
    "session",
    "copy in",
    "copy out",
    "cursor",
    "execute",
    "code",
    "utility",
    "unknown",
];

/// Names as the file has them.
pub(super) fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The same of shapes.
pub(super) fn prints(fingerprints: &[u128]) -> String {
    list(&fingerprints.iter().map(|f| format!("{f:032x}")).collect::<Vec<_>>())
}

/// One `[[route]]`: it matches where all of its conditions hold; one without names holds always.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Line of the file that it begins on, from 1.
    pub line: usize,
    /// Who has logged in.
    pub users: Vec<Pattern>,
    /// To which database, as clients name it.
    pub databases: Vec<Pattern>,
    /// The session's `application_name`.
    pub applications: Vec<Pattern>,
    /// A table that the statement touches, with or without its schema.
    pub tables: Vec<Pattern>,
    /// The statement's shape.
    pub fingerprints: Vec<u128>,
    /// What the statement is: words of [`CLASSES`].
    pub classes: Vec<&'static str>,
    /// What it says.
    pub says: Directions,
}

impl Rule {
    /// What it is about, key by key, as the file would have it.
    pub fn conditions(&self) -> Vec<(&'static str, String)> {
        [
            ("user", list(&self.users)),
            ("database", list(&self.databases)),
            ("application_name", list(&self.applications)),
            ("table", list(&self.tables)),
            ("fingerprint", prints(&self.fingerprints)),
            ("class", list(&self.classes)),
        ]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .collect()
    }

    /// Whether whatever the other matches is matched by this one.
    pub fn covers(&self, other: &Rule) -> bool {
        fn all<T>(ours: &[T], theirs: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
            ours.is_empty()
                || !theirs.is_empty() && theirs.iter().all(|their| ours.iter().any(|our| covers(our, their)))
        }
        // A table without its schema is something else than one with it.
        let table = |our: &Pattern, their: &Pattern| {
            our.covers(their) && our.text.contains('.') == their.text.contains('.')
        };
        all(&self.users, &other.users, Pattern::covers)
            && all(&self.databases, &other.databases, Pattern::covers)
            && all(&self.applications, &other.applications, Pattern::covers)
            && all(&self.tables, &other.tables, table)
            && all(&self.fingerprints, &other.fingerprints, PartialEq::eq)
            && all(&self.classes, &other.classes, PartialEq::eq)
    }
}

/// `[[route]]`
pub(super) fn rules(sections: &[Section<'_>], backends: &[Backend], clusters: &[Cluster]) -> Vec<Rule> {
    if let Some(section) = sections.get(MAX_RULES) {
        section.report("", format!("there are more than {MAX_RULES} of them"));
    }
    if let Some(section) = sections.first().filter(|_| clusters.is_empty()) {
        section.report("", "has no effect without a [[cluster]]");
    }
    sections.iter().map(|section| rule(section, backends, clusters)).collect()
}

fn rule(section: &Section<'_>, backends: &[Backend], clusters: &[Cluster]) -> Rule {
    let says = directions(section, backends, clusters);
    if !SAYABLE.iter().chain(&["split"]).any(|key| section.has(key)) {
        section.report("route", "is missing: a rule says something of where statements go");
    }
    Rule { line: section.line(), says, ..conditions(section) }
}

/// Who and what a section is about, in the keys of a `[[route]]`.
pub(super) fn conditions(section: &Section<'_>) -> Rule {
    let patterns = |key| section.parsed(key, |text| Ok(Pattern::new(text))).unwrap_or_default();
    for key in ["user", "database", "application_name", "table", "fingerprint", "class"] {
        if section.count(key) == Some(0) {
            section.report(key, "must not be empty");
        }
    }
    Rule {
        users: patterns("user"),
        databases: patterns("database"),
        applications: patterns("application_name"),
        tables: patterns("table"),
        fingerprints: section.parsed("fingerprint", fingerprint).unwrap_or_default(),
        classes: section.parsed("class", class).unwrap_or_default(),
        ..Rule::default()
    }
}

fn directions(section: &Section<'_>, backends: &[Backend], clusters: &[Cluster]) -> Directions {
    let says = Directions {
        route: section.text("route").map(|name| route(section, &name, backends, clusters)),
        consistency: section.word("consistency", CONSISTENCIES),
        max_lag: section.duration("max_lag", ANY_TIME),
        max_lag_bytes: section.size("max_lag_bytes", 0..=usize::MAX >> 1).map(|n| n as u64),
        replica_wait: section.duration("replica_wait", ANY_TIME),
        transactions: section.word("transactions", TRANSACTIONS),
        split: section.flag("split"),
        fallback_to_primary: section.flag("fallback_to_primary"),
    };
    let unbounded = says.max_lag == Some(Duration::ZERO) && says.max_lag_bytes == Some(0);
    if says.consistency == Some(Consistency::Bounded) && unbounded {
        section.report("consistency", "bounded needs max_lag or max_lag_bytes: both are 0");
    }
    says
}

fn route(section: &Section<'_>, name: &str, backends: &[Backend], clusters: &[Cluster]) -> Route {
    if let Some((_, route)) = ROUTES.iter().find(|(word, _)| *word == name) {
        return route();
    }
    let words = ROUTES.iter().map(|(word, _)| *word);
    match backends.iter().position(|b| b.name.eq_ignore_ascii_case(name)) {
        None => section.report(
            "route",
            unknown("[[backend]]", name, words.chain(backends.iter().map(|b| b.name.as_str()))),
        ),
        Some(i) if !clusters.iter().any(|c| c.backends.contains(&i)) => {
            section.report("route", format!("backend {name:?} is in no [[cluster]]"));
        }
        Some(_) => {}
    }
    Route::Backend(name.into())
}

pub(super) fn fingerprint(text: &str) -> Result<u128, Fault> {
    let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let parsed = u128::from_str_radix(text, 16).ok().filter(|_| digits);
    parsed.ok_or_else(|| {
        Fault::from(format!("{text:?} is not a fingerprint"))
            .hint("32 hexadecimal digits, as SHOW PLANS has them")
    })
}

fn class(text: &str) -> Result<&'static str, Fault> {
    let word = CLASSES.iter().find(|word| **word == text).copied();
    word.ok_or_else(|| {
        let fault = Fault::from(format!("{text:?} is not one of {}", CLASSES.join(", ")));
        match nearest(text, CLASSES.iter().copied()) {
            Some(near) => fault.hint(format!("did you mean {near}?")),
            None => fault,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_can_be_said() {
        let say = |key: &str, value: &str| {
            let mut says = Directions::default();
            let said = says.say(key, value);
            said.map(|()| says.said().into_iter().map(|(k, v)| format!("{k}={v}")).collect::<String>())
        };
        for (key, value, want) in [
            ("route", "PRIMARY", "route=primary"),
            ("route", "db2", "route=db2"),
            ("consistency", "Eventual", "consistency=eventual"),
            ("max_lag", "500", "max_lag=500ms"),
            ("max_lag", "2s", "max_lag=2s"),
            ("max_lag_bytes", "1MB", "max_lag_bytes=1MiB"),
            ("replica_wait", "0", "replica_wait=0s"),
            ("transactions", "optimistic", "transactions=optimistic"),
            ("fallback_to_primary", "OFF", "fallback_to_primary=false"),
        ] {
            assert_eq!(say(key, value).as_deref(), Ok(want), "{key} = {value}");
        }
        for (key, value) in [
            ("route", ""),
            ("consistency", "strong"),
            ("max_lag", "-1"),
            ("max_lag", "soon"),
            ("max_lag_bytes", "x"),
            ("fallback_to_primary", "maybe"),
            ("split", "on"),
            ("colour", "red"),
        ] {
            assert!(say(key, value).is_err(), "{key} = {value}");
        }
    }

    #[test]
    fn a_backend_that_the_cluster_lacks_changes_nothing() {
        let mut way = Way { route: Route::Replica, routing: Routing::default() };
        let says = Directions { route: Some(Route::Backend("db9".into())), ..Directions::default() };
        says.apply(&mut way, |_| false);
        assert_eq!(way.route, Route::Replica);
        says.apply(&mut way, |name| name == "db9");
        assert_eq!(way.route.label(), "db9");
    }

    fn patterns(names: &[&str]) -> Vec<Pattern> {
        names.iter().map(|name| Pattern::new(name)).collect()
    }

    #[test]
    fn who_covers_whom() {
        let rule = |users: &[&str], tables: &[&str]| Rule {
            users: patterns(users),
            tables: patterns(tables),
            ..Rule::default()
        };
        assert!(rule(&[], &[]).covers(&rule(&["a"], &["t"])));
        assert!(rule(&["a", "r*"], &[]).covers(&rule(&["a", "reports", "re*"], &["t"])));
        assert!(!rule(&["a"], &[]).covers(&rule(&[], &[])));
        assert!(!rule(&["a"], &[]).covers(&rule(&["a*"], &[])));
        assert!(!rule(&[], &["*"]).covers(&rule(&[], &["s.t"])));
    }

    proptest! {
        /// What covers matches whatever is matched by what it covers.
        #[test]
        fn covering_is_matching(a in "[ab]{0,2}[*]?", b in "[ab]{0,2}[*]?", name in "[ab]{0,4}") {
            let (a, b) = (Pattern::new(&a), Pattern::new(&b));
            prop_assert!(!a.covers(&b) || !b.matches(&name) || a.matches(&name));
        }
    }
}
