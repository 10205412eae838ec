//! `[[tenant]]`s where they are asked for: by the name of one, and by who a session is. The first that is meant counts, as if
//! all were gone through in their order; ten thousand of them take no longer than ten.

use std::collections::HashMap;
use std::ops::Deref;

use super::route::Pattern;
use super::tenant::Tenant;

/// Who a session is, as conditions of a `[[tenant]]` have it: its user, database, application, and host name of TLS.
pub type Who<'a> = [&'a str; 4];

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    all: Vec<Tenant>,
    /// By their own names.
    names: Index,
    /// Those that say who belongs to them, each by that one of its conditions that it shares with fewest.
    members: [Index; 4],
}

impl From<Vec<Tenant>> for Listed {
    fn from(all: Vec<Tenant>) -> Listed {
        let mut names = Index::default();
        all.iter().enumerate().for_each(|(place, tenant)| names.add(&tenant.name, place));
        let mut members: [Index; 4] = Default::default();
        let alike = Alike::new(&all);
        for (place, tenant) in all.iter().enumerate() {
            let Some(condition) = alike.rarest(tenant) else { continue };
            tenant.conditions()[condition].iter().for_each(|pattern| members[condition].add(pattern, place));
        }
        Listed { all, names, members }
    }
}

impl Deref for Listed {
    type Target = [Tenant];

    fn deref(&self) -> &[Tenant] {
        &self.all
    }
}

impl PartialEq for Listed {
    fn eq(&self, other: &Listed) -> bool {
        self.all == other.all
    }
}

impl Eq for Listed {}

impl Listed {
    /// What is said of the tenant of that name: a whole name counts before the beginning of one.
    pub fn of(&self, name: &str) -> Option<&Tenant> {
        let whole = self.names.whole.get(name).and_then(|places| places.first());
        let place = whole.copied().or_else(|| self.names.first_open(name, usize::MAX, |_| true))?;
        self.all.get(place)
    }

    /// The first all of whose conditions hold, and of which the caller says the same.
    pub fn member(&self, who: &Who<'_>, holds: impl Fn(&Tenant) -> bool) -> Option<&Tenant> {
        let meets = |place: usize| self.all.get(place).is_some_and(|t| t.has(who) && holds(t));
        let first = self.members.iter().zip(who).fold(usize::MAX, |before, (index, name)| {
            let whole = index.whole.get(*name).and_then(|places| first(places, before, meets));
            let before = whole.unwrap_or(before);
            index.first_open(name, before, meets).unwrap_or(before)
        });
        self.all.get(first)
    }
}

impl Tenant {
    /// In the order of [`Who`].
    fn conditions(&self) -> [&[Pattern]; 4] {
        [&self.users, &self.databases, &self.applications, &self.hosts]
    }

    /// Whether all of its conditions hold.
    fn has(&self, who: &Who<'_>) -> bool {
        let holds = |(patterns, name): (&[Pattern], &&str)| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(name))
        };
        self.conditions().into_iter().zip(who).all(holds)
    }
}

/// How many have a pattern in a condition.
struct Alike<'t>([HashMap<&'t Pattern, usize>; 4]);

impl<'t> Alike<'t> {
    fn new(all: &'t [Tenant]) -> Alike<'t> {
        let mut alike: [HashMap<&Pattern, usize>; 4] = Default::default();
        for tenant in all {
            for (patterns, counts) in tenant.conditions().into_iter().zip(&mut alike) {
                patterns.iter().for_each(|pattern| *counts.entry(pattern).or_default() += 1);
            }
        }
        Alike(alike)
    }

    /// The condition of a tenant that fewest others have, too. `None` where it has none.
    fn rarest(&self, tenant: &'t Tenant) -> Option<usize> {
        let shared = |(patterns, counts): (&'t [Pattern], &HashMap<&Pattern, usize>)| {
            patterns.iter().map(|pattern| counts.get(pattern).copied().unwrap_or_default()).max()
        };
        let all = tenant.conditions().into_iter().zip(&self.0).map(shared).enumerate();
        all.filter_map(|(condition, shared)| Some((shared?, condition))).min().map(|(_, condition)| condition)
    }
}

/// Places by patterns, each list in order.
#[derive(Clone, Debug, Default)]
struct Index {
    whole: HashMap<Box<str>, Vec<usize>>,
    /// By the beginnings of names.
    open: HashMap<Box<str>, Vec<usize>>,
    /// How long those are.
    lengths: Vec<usize>,
}

impl Index {
    fn add(&mut self, pattern: &Pattern, place: usize) {
        let places = if pattern.open { &mut self.open } else { &mut self.whole };
        places.entry(pattern.text.clone()).or_default().push(place);
        if pattern.open && !self.lengths.contains(&pattern.text.len()) {
            self.lengths.push(pattern.text.len());
        }
    }

    /// The first place before that one whose pattern the name begins with, and that `meets`.
    fn first_open(&self, name: &str, before: usize, meets: impl Fn(usize) -> bool) -> Option<usize> {
        let beginnings = self.lengths.iter().filter_map(|length| self.open.get(name.get(..*length)?));
        let found = beginnings.fold(before, |before, places| first(places, before, &meets).unwrap_or(before));
        (found < before).then_some(found)
    }
}

/// The first of these places before that one that `meets`.
fn first(places: &[usize], before: usize, meets: impl Fn(usize) -> bool) -> Option<usize> {
    places.iter().copied().take_while(|place| *place < before).find(|place| meets(*place))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;
    use crate::config::tenant::{OwnShare, SHARE};

    fn tenant(name: &str, conditions: [&[String]; 4]) -> Tenant {
        let [users, databases, applications, hosts] =
            conditions.map(|texts| texts.iter().map(|text| Pattern::new(text)).collect());
        Tenant {
            name: Pattern::new(name),
            users,
            databases,
            applications,
            hosts,
            claimed_by: None,
            own: OwnShare::default(),
            share: SHARE,
            own_pool: false,
            pool_size: None,
            backend: None,
            cluster: None,
        }
    }

    /// Gone through one by one.
    fn plainly<'l>(listed: &'l Listed, who: &Who<'_>, holds: impl Fn(&Tenant) -> bool) -> Option<&'l Tenant> {
        listed.iter().find(|t| t.has_conditions() && t.has(who) && holds(t))
    }

    fn plainly_of<'l>(listed: &'l Listed, name: &str) -> Option<&'l Tenant> {
        let exact = listed.iter().find(|t| !t.name.open && t.name.matches(name));
        exact.or_else(|| listed.iter().find(|t| t.name.open && t.name.matches(name)))
    }

    proptest! {
        #[test]
        fn the_first_that_is_meant_counts(
            tenants in prop::collection::vec(
                ("[ab]{0,2}[*]?", prop::array::uniform4(prop::collection::vec("[abé]{0,2}[*]?", 0..3))),
                0..14,
            ),
            sessions in prop::collection::vec((prop::array::uniform4("[abé]{0,3}"), any::<bool>()), 1..30),
        ) {
            let tenants = tenants.iter().map(|(name, conditions)| {
                let [a, b, c, d] = conditions;
                tenant(name, [a, b, c, d])
            });
            let listed = Listed::from(tenants.collect::<Vec<_>>());
            for ([user, database, application, host], odd) in &sessions {
                let who = [user.as_str(), database, application, host];
                let holds = |t: &Tenant| !odd || t.name.text.len() == 1;
                let (found, want) = (listed.member(&who, holds), plainly(&listed, &who, holds));
                prop_assert_eq!(found.map(std::ptr::from_ref), want.map(std::ptr::from_ref), "{:?}", who);
                let (found, want) = (listed.of(user), plainly_of(&listed, user));
                prop_assert_eq!(found.map(std::ptr::from_ref), want.map(std::ptr::from_ref), "{}", user);
            }
        }
    }

    /// Figures: `cargo test --lib -- --ignored --nocapture ten_thousand_are_asked`.
    #[test]
    #[ignore = "it measures"]
    #[allow(clippy::print_stderr, reason = "it is run for its figures")]
    fn ten_thousand_are_asked() {
        let own = |n: usize, end: &str| vec![format!("user{n:05}{end}")];
        for (what, end) in [("whole names", ""), ("beginnings", "_*")] {
            let all =
                (0..10_000).map(|n| tenant(&format!("t{n:05}"), [&own(n, end), &["d".into()], &[], &[]]));
            let listed = Listed::from(all.collect::<Vec<_>>());
            let names: Vec<String> = (0..1000)
                .map(|n| format!("user{:05}{}", n * 7919 % 10_000, &end.replace('*', "x")))
                .collect();
            let time = |find: &dyn Fn(&Who<'_>) -> bool| {
                let began = Instant::now();
                let found = names.iter().filter(|name| find(&[name, "d", "psql", ""])).count();
                assert_eq!(found, names.len());
                began.elapsed() / 1000
            };
            let linear = time(&|who| plainly(&listed, who, |_| true).is_some());
            let indexed = time(&|who| listed.member(who, |_| true).is_some());
            eprintln!("{what}: one by one {linear:?}, found {indexed:?}");
        }
    }
}
