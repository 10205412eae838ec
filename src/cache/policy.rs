//! The `[[cache]]` rules, made ready: those that a session matches are found out when it logs in, those that a statement
//! matches when its plan is made, each as a set of bits; the first that is in both counts.

use std::time::Duration;

use crate::config::{CacheAsk, CacheMode, CacheRule, Pattern};

/// A set of rules, by their places.
pub type RuleSet = u64;

/// See the module. Never changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<CacheRule>,
}

/// What holds for one statement of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The rule's place.
    pub rule: usize,
    /// Only where its shape has been chosen, or it is asked for.
    pub auto: bool,
    /// How fresh.
    pub mode: CacheMode,
    /// How old at most.
    pub ttl: Duration,
    /// How much longer while somebody reads it again.
    pub stale: Duration,
    /// Most rows.
    pub max_rows: u64,
    /// Most bytes.
    pub max_bytes: usize,
    /// In Redis, too.
    pub remote: bool,
}

fn meets(patterns: &[Pattern], name: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(name))
}

/// Whether a table is meant: with its schema, or in any.
fn is_meant(pattern: &Pattern, schema: Option<&str>, name: &str) -> bool {
    if !pattern.text.contains('.') {
        return pattern.matches(name);
    }
    schema.is_some_and(|schema| pattern.matches(&format!("{schema}.{name}")))
}

fn set(matches: impl Iterator<Item = bool>) -> RuleSet {
    matches.enumerate().fold(0, |set, (i, matches)| set | RuleSet::from(matches) << i)
}

impl Policy {
    /// Of a configuration's rules, which are at most as many as a set has bits.
    pub fn new(rules: &[CacheRule]) -> Policy {
        Policy { rules: rules.to_vec() }
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Those that leave it to be found out what is worth keeping.
    pub fn choosing(&self) -> RuleSet {
        set(self.rules.iter().map(|rule| rule.auto && rule.mode != CacheMode::Off))
    }

    /// Those of a mode.
    pub fn of_mode(&self, mode: CacheMode) -> RuleSet {
        set(self.rules.iter().map(|rule| rule.mode == mode))
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[CacheRule] {
        &self.rules
    }

    /// A rule's name for people.
    pub fn name(&self, rule: usize) -> String {
        let line = self.rules.get(rule).map_or(0, |rule| rule.line);
        format!("[[cache]] {} (line {line})", rule + 1)
    }

    /// The rules whose say in who is asking is met.
    pub fn of_session(&self, user: &str, database: &str) -> RuleSet {
        set(self.rules.iter().map(|rule| meets(&rule.users, user) && meets(&rule.databases, database)))
    }

    /// The rules whose say in what is asked is met.
    pub fn of_statement<'a>(
        &self,
        fingerprint: u128,
        tables: impl Iterator<Item = (Option<&'a str>, &'a str)> + Clone,
    ) -> RuleSet {
        set(self.rules.iter().map(|rule| {
            let named = |pattern: &Pattern| tables.clone().any(|(s, name)| is_meant(pattern, s, name));
            (rule.fingerprints.is_empty() || rule.fingerprints.contains(&fingerprint))
                && (rule.tables.is_empty() || rule.tables.iter().any(named))
        }))
    }

    /// What holds where a session and a statement match these rules and ask for that; `all_told` where all writes of the
    /// database pass through this process, or somebody tells of the others.
    #[inline]
    pub fn terms(
        &self,
        session: RuleSet,
        statement: RuleSet,
        asks: Option<CacheAsk>,
        all_told: bool,
    ) -> Option<Terms> {
        let mut both = session & statement;
        while both != 0 {
            let place = both.trailing_zeros() as usize;
            both &= both - 1;
            let rule = self.rules.get(place)?;
            if rule.asked && !matches!(asks, Some(CacheAsk::On | CacheAsk::For(_))) {
                continue;
            }
            let exact = rule.mode.is_exact();
            if rule.mode == CacheMode::Off || asks == Some(CacheAsk::Off) || exact && !all_told {
                return None;
            }
            let own = match asks {
                Some(CacheAsk::For(ttl)) => ttl,
                _ => Duration::MAX,
            };
            // Who asks for less than there may be does not want what is older, either.
            let stale = if own < rule.ttl { Duration::ZERO } else { rule.stale };
            let (ttl, max_rows, max_bytes) = (rule.ttl.min(own), rule.max_rows, rule.max_bytes);
            let (mode, remote) = (rule.mode, rule.remote);
            let auto = rule.auto && !matches!(asks, Some(CacheAsk::On | CacheAsk::For(_)));
            return Some(Terms { rule: place, auto, mode, ttl, stale, max_rows, max_bytes, remote });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FOR: Duration = Duration::from_secs(60);

    fn rule(databases: &[&str], tables: &[&str], mode: CacheMode) -> CacheRule {
        let patterns = |names: &[&str]| names.iter().map(|name| Pattern::new(name)).collect();
        CacheRule {
            line: 1,
            users: Vec::new(),
            databases: patterns(databases),
            tables: patterns(tables),
            fingerprints: Vec::new(),
            asked: false,
            auto: false,
            mode,
            ttl: FOR,
            stale: FOR,
            max_rows: 1,
            max_bytes: 1,
            remote: false,
        }
    }

    #[test]
    fn the_first_that_matches_counts() {
        let asked = CacheRule { asked: true, ..rule(&[], &[], CacheMode::Bounded) };
        let rules = [
            rule(&["audit"], &["audit.log*"], CacheMode::Off),
            rule(&["audit"], &["users"], CacheMode::Exact),
            asked,
        ];
        let policy = Policy::new(&rules);
        let terms = |database: &str, table: &'static str, asks: Option<CacheAsk>, passes: bool| {
            let session = policy.of_session("u", database);
            let statement = policy.of_statement(1, [(Some("audit"), table)].into_iter());
            policy.terms(session, statement, asks, passes).map(|terms| terms.rule)
        };
        assert_eq!(terms("audit", "log_2024", Some(CacheAsk::On), true), None);
        assert_eq!(terms("audit", "users", None, true), Some(1));
        assert_eq!(terms("audit", "users", None, false), None);
        assert_eq!(terms("audit", "users", Some(CacheAsk::Off), true), None);
        assert_eq!(terms("other", "users", None, true), None);
        assert_eq!(terms("other", "users", Some(CacheAsk::On), true), Some(2));
    }

    #[test]
    fn who_asks_gets_no_more_than_is_allowed() {
        let policy = Policy::new(&[rule(&[], &[], CacheMode::Bounded)]);
        let ttl = |secs| {
            let asks = Some(CacheAsk::For(Duration::from_secs(secs)));
            let terms = policy.terms(1, 1, asks, false).unwrap();
            (terms.ttl.as_secs(), terms.stale.as_secs())
        };
        assert_eq!((ttl(5), ttl(500)), ((5, 0), (60, 60)));
    }
}
