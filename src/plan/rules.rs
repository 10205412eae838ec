//! What the configuration says of statements and sessions, made ready so that which `[[route]]` a statement goes by is a
//! matter of bits: the rules that its session matches, found out when that logs in or changes its name, and those that its
//! plan matches, found out when that is made. The first that is in both counts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Class;
use super::declared::Marks;
use super::touch::{Reach, Touches};
use crate::cache::policy::Policy;
use crate::catalog::Catalog;
use crate::config::{self, CacheRule, Directions, Pattern, Rule, Way};
use crate::core::stats::Counter;
use crate::sql::facts::{Effect, Facts};

/// A set of rules, by their places.
pub type RuleSet = u64;

/// See the module. Never changes; another configuration is another of these.
#[derive(Debug)]
pub struct Rules {
    /// What tells this one from all others of the process.
    pub serial: u64,
    /// Functions that the configuration speaks of.
    pub marks: Marks,
    /// Whose results may be kept.
    pub cache: Policy,
    /// The `[[route]]`s.
    pub routes: Conditions,
    /// What the `[[mirror]]`s are about, and then `[record]`.
    pub mirrors: Conditions,
    /// Reads that each `[[route]]` has decided about.
    reads: Vec<Counter>,
}

/// What some rules are about.
#[derive(Debug)]
pub struct Conditions {
    rules: Vec<Rule>,
    tables: Tables,
    fingerprints: Condition<u128>,
    classes: Condition<&'static str>,
}

/// A condition by what it is about.
#[derive(Debug)]
struct Condition<T> {
    /// Rules without this condition.
    free: RuleSet,
    /// The others.
    named: HashMap<T, RuleSet>,
}

impl<T: std::hash::Hash + Eq + Clone> Condition<T> {
    fn new<'r>(rules: &'r [Rule], names: impl Fn(&'r Rule) -> &'r [T]) -> Self
    where
        T: 'r,
    {
        let mut condition = Condition { free: 0, named: HashMap::new() };
        for (i, rule) in rules.iter().enumerate() {
            let names = names(rule);
            condition.free |= RuleSet::from(names.is_empty()) << i;
            for name in names {
                *condition.named.entry(name.clone()).or_default() |= 1 << i;
            }
        }
        condition
    }

    fn of(&self, name: &T) -> RuleSet {
        self.named.get(name).copied().unwrap_or_default()
    }
}

/// Tables, by whole names and by how they begin.
#[derive(Debug)]
struct Tables {
    patterns: Condition<Pattern>,
    /// The whole names, with or without a schema.
    names: HashMap<Box<str>, RuleSet>,
    beginnings: Vec<(Pattern, RuleSet)>,
}

impl Tables {
    fn new(rules: &[Rule]) -> Tables {
        let patterns = Condition::new(rules, |rule| &rule.tables);
        let (open, whole): (Vec<_>, Vec<_>) = patterns.named.iter().partition(|(pattern, _)| pattern.open);
        Tables {
            names: whole.into_iter().map(|(pattern, set)| (pattern.text.clone(), *set)).collect(),
            beginnings: open.into_iter().map(|(pattern, set)| (pattern.clone(), *set)).collect(),
            patterns,
        }
    }

    fn of(&self, schema: Option<&str>, name: &str) -> RuleSet {
        let mut set = self.names.get(name).copied().unwrap_or_default();
        let full = schema.map(|schema| format!("{schema}.{name}"));
        set |= full.as_deref().and_then(|full| self.names.get(full)).copied().unwrap_or_default();
        for (pattern, rules) in &self.beginnings {
            let meant = if pattern.text.contains('.') { full.as_deref() } else { Some(name) };
            if meant.is_some_and(|meant| pattern.matches(meant)) {
                set |= rules;
            }
        }
        set
    }
}

fn next_serial() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

impl Conditions {
    fn new(rules: Vec<Rule>) -> Conditions {
        Conditions {
            tables: Tables::new(&rules),
            fingerprints: Condition::new(&rules, |rule| &rule.fingerprints),
            classes: Condition::new(&rules, |rule| &rule.classes),
            rules,
        }
    }

    /// The rules whose say in who is asking is met.
    pub fn of_session(&self, user: &str, database: &str, application: &str) -> RuleSet {
        let meets = |patterns: &[Pattern], name: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(name))
        };
        let matches = |rule: &Rule| {
            meets(&rule.users, user)
                && meets(&rule.databases, database)
                && meets(&rule.applications, application)
        };
        let bits = self.rules.iter().enumerate().map(|(i, rule)| RuleSet::from(matches(rule)) << i);
        bits.fold(0, |all, bit| all | bit)
    }

    /// The rules whose say in what is asked is met.
    pub(super) fn of_statement(&self, about: &About<'_>) -> RuleSet {
        if self.rules.is_empty() {
            return 0;
        }
        let label = if about.class == Class::Read { "read" } else { "primary" };
        let effects = about.statements.iter().map(|f| f.effect).filter(|effect| *effect != Effect::Read);
        let labels = effects.map(Effect::label).chain([label]);
        let classes = labels.fold(self.classes.free, |set, label| set | self.classes.of(&label));
        let fingerprints = self.fingerprints.free | self.fingerprints.of(&about.fingerprint);
        (self.tables.patterns.free | self.of_tables(about)) & fingerprints & classes
    }

    fn of_tables(&self, about: &About<'_>) -> RuleSet {
        if self.tables.patterns.named.is_empty() {
            return 0;
        }
        let written =
            about.statements.iter().flat_map(|facts| &facts.relations).map(|relation| &relation.name);
        let written = written.fold(0, |set, name| set | self.tables.of(name.schema.as_deref(), &name.name));
        let Some(catalog) = about.catalog else { return written };
        let reached =
            [&about.touches.reads, &about.touches.writes].into_iter().flat_map(|reach| match reach {
                Reach::Tables(tables) => tables.as_ref(),
                Reach::Anything => &[],
            });
        reached.filter_map(|oid| catalog.relation_by_oid(*oid)).fold(written, |set, relation| {
            let schema = catalog.schema_by_oid(relation.schema).map(|schema| &*schema.name);
            set | self.tables.of(schema, &relation.name)
        })
    }

    /// The rules that say nothing of statements.
    pub fn of_any_statement(&self) -> RuleSet {
        self.tables.patterns.free & self.fingerprints.free & self.classes.free
    }
}

impl Rules {
    /// Those of a configuration. Rules that can never match are told of in the log.
    pub fn new(plan: &config::Plan, rules: &[Rule], mirrors: &[Rule], caches: &[CacheRule]) -> Rules {
        for (i, rule) in rules.iter().enumerate() {
            if let Some(by) = covered(rules, i) {
                let line = rule.line;
                tracing::warn!(
                    line,
                    "[[route]] {} never matches: [[route]] {} does before it",
                    i + 1,
                    by + 1
                );
            }
        }
        Rules {
            serial: next_serial(),
            marks: Marks::new(plan),
            cache: Policy::new(caches),
            reads: rules.iter().map(|_| Counter::default()).collect(),
            routes: Conditions::new(rules.to_vec()),
            mirrors: Conditions::new(mirrors.to_vec()),
        }
    }

    /// Whether another configuration says the same.
    pub fn says(&self, plan: &config::Plan, rules: &[Rule], mirrors: &[Rule], caches: &[CacheRule]) -> bool {
        let same = self.marks == Marks::new(plan) && self.cache.rules() == caches;
        same && self.routes.rules == rules && self.mirrors.rules == mirrors
    }

    /// Whether there is no `[[route]]`.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.routes.rules.is_empty()
    }

    /// The rules of a set, by their places.
    pub fn places(set: RuleSet) -> impl Iterator<Item = usize> {
        (0..RuleSet::BITS as usize).filter(move |place| set >> place & 1 == 1)
    }

    /// The first rule that is in both sets, by its place.
    #[inline]
    pub fn first(session: RuleSet, statement: RuleSet) -> Option<usize> {
        let both = session & statement;
        (both != 0).then(|| both.trailing_zeros() as usize)
    }

    /// What a rule says.
    #[inline]
    pub fn directions(&self, rule: usize) -> Option<&Directions> {
        self.routes.rules.get(rule).map(|rule| &rule.says)
    }

    /// Counts reads that a rule has decided about.
    #[inline]
    pub fn count(&self, rule: usize, reads: u64) {
        if let Some(counter) = self.reads.get(rule) {
            counter.add(reads);
        }
    }

    /// Changes a way as a rule says.
    #[inline]
    pub fn apply(&self, rule: usize, way: &mut Way, has: impl Fn(&str) -> bool) {
        if let Some(says) = self.directions(rule) {
            says.apply(way, has);
        }
    }

    /// Every rule, the reads that it has decided about, and the one that leaves nothing to it.
    pub fn rows(&self) -> impl Iterator<Item = (&Rule, u64, Option<usize>)> {
        let counted = self.routes.rules.iter().zip(&self.reads).enumerate();
        counted.map(|(i, (rule, reads))| (rule, reads.get(), covered(&self.routes.rules, i)))
    }

    /// A rule's name for people.
    pub fn name(&self, rule: usize) -> String {
        let line = self.routes.rules.get(rule).map_or(0, |rule| rule.line);
        format!("[[route]] {} (line {line})", rule + 1)
    }
}

/// The rule that matches before it whenever this one would.
fn covered(rules: &[Rule], rule: usize) -> Option<usize> {
    let own = rules.get(rule)?;
    rules.iter().take(rule).position(|earlier| earlier.covers(own))
}

/// What of a statement rules may be about.
pub(super) struct About<'a> {
    pub(super) statements: &'a [Facts],
    pub(super) class: Class,
    pub(super) fingerprint: u128,
    pub(super) touches: &'a Touches,
    pub(super) catalog: Option<&'a Catalog>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CLASSES, Route};
    use crate::sql::class::facts;
    use crate::sql::shape::Shape;
    use proptest::prelude::*;

    fn patterns(names: &[&str]) -> Vec<Pattern> {
        names.iter().map(|name| Pattern::new(name)).collect()
    }

    fn rules(rules: Vec<Rule>) -> Rules {
        Rules::new(&config::Plan::default(), &rules, &[], &[])
    }

    fn of(rules: &Rules, sql: &str, class: Class) -> RuleSet {
        let mut shape = Shape::default();
        shape.read(sql.as_bytes(), true);
        let (statements, touches) = (facts(sql.as_bytes(), &shape), Touches::default());
        rules.routes.of_statement(&About {
            statements: &statements,
            class,
            fingerprint: 7,
            touches: &touches,
            catalog: None,
        })
    }

    #[test]
    fn what_a_statement_matches() {
        let table = |names: &[&str]| Rule { tables: patterns(names), ..Rule::default() };
        let class = |classes: &[&'static str]| Rule { classes: classes.to_vec(), ..Rule::default() };
        let rules = rules(vec![
            table(&["orders"]),
            table(&["audit.*"]),
            table(&["audit.log"]),
            class(&["read"]),
            class(&["write", "ddl"]),
            Rule { fingerprints: vec![7], tables: patterns(&["o*"]), ..Rule::default() },
            Rule { fingerprints: vec![8], ..Rule::default() },
            Rule::default(),
        ]);
        for (sql, class, want) in [
            ("SELECT 1 FROM orders", Class::Read, 0b1010_1001),
            ("SELECT 1 FROM s.orders", Class::Read, 0b1010_1001),
            ("SELECT 1 FROM audit.log, x", Class::Read, 0b1000_1110),
            ("SELECT 1 FROM audit.events", Class::Primary, 0b1000_0010),
            ("SELECT 1 FROM log", Class::Primary, 0b1000_0000),
            ("INSERT INTO orders VALUES (1)", Class::Primary, 0b1011_0001),
            ("CREATE TABLE x ()", Class::Primary, 0b1001_0000),
        ] {
            assert_eq!(format!("{:08b}", of(&rules, sql, class)), format!("{want:08b}"), "{sql}");
        }
    }

    #[test]
    fn the_first_of_both_counts() {
        assert_eq!(Rules::first(0b1100, 0b0110), Some(2));
        assert_eq!(Rules::first(0b1000, 0b0110), None);
        assert_eq!(Rules::first(1 << 63, u64::MAX), Some(63));
    }

    #[test]
    fn every_effect_has_a_word() {
        for effect in [
            Effect::Write,
            Effect::Ddl,
            Effect::Transaction,
            Effect::Session,
            Effect::CopyIn,
            Effect::CopyOut,
            Effect::Cursor,
            Effect::Execute,
            Effect::Code,
            Effect::Utility,
            Effect::Unknown,
        ] {
            assert!(CLASSES.contains(&effect.label()), "{}", effect.label());
        }
        assert!(CLASSES.contains(&Class::Read.label()) && CLASSES.contains(&Class::Primary.label()));
    }

    #[test]
    fn the_same_configuration_is_the_same() {
        let rule = Rule {
            says: Directions { route: Some(Route::Primary), ..Directions::default() },
            ..Rule::default()
        };
        let made = rules(vec![rule.clone()]);
        assert!(made.says(&config::Plan::default(), std::slice::from_ref(&rule), &[], &[]));
        assert!(!made.says(&config::Plan::default(), &[], &[], &[]));
        assert!(made.serial != rules(vec![rule]).serial);
    }

    fn any_patterns() -> impl Strategy<Value = Vec<Pattern>> {
        proptest::collection::vec("[ab]{0,2}[*]?".prop_map(|text| Pattern::new(&text)), 0..3)
    }

    proptest! {
        /// Bits say what looking at each rule in turn says.
        #[test]
        fn bits_are_the_first_match(
            conditions in proptest::collection::vec((any_patterns(), any_patterns(), any_patterns(), 0..3usize), 0..9),
            user in "[ab]{1,2}", application in "[ab]{0,2}", table in "[ab]{1,2}",
        ) {
            let all: Vec<Rule> = conditions.into_iter().map(|(users, applications, tables, class)| Rule {
                users, applications, tables,
                classes: [vec![], vec!["read"], vec!["primary", "write"]][class].clone(),
                ..Rule::default()
            }).collect();
            let any = |patterns: &[Pattern], name: &str| patterns.is_empty() || patterns.iter().any(|p| p.matches(name));
            let want = all.iter().position(|r| any(&r.users, &user) && any(&r.applications, &application)
                && any(&r.tables, &table) && (r.classes.is_empty() || r.classes.contains(&"read")));
            let rules = rules(all);
            let statement = of(&rules, &format!("SELECT 1 FROM {table}"), Class::Read);
            prop_assert_eq!(Rules::first(rules.routes.of_session(&user, "d", &application), statement), want);
        }
    }
}
