//! Which way the statements of a session on a cluster go, and what they must see: what a comment says, then what the
//! session has set, then the first `[[route]]` that matches, then the database.
//!
//! Whatever takes comparing texts is done when the session logs in or its settings change, and when plans are made: a
//! statement only has its rule found by two sets of bits, and copies a few words.

use std::sync::Arc;

use super::course::Course;
use super::run::Client;
use crate::catalog::Catalog;
use crate::cluster::{Cluster, Need, State};
use crate::config::{CacheMode, Consistency, Directions, Route, Routing, SAYABLE, Transactions, Way};
use crate::fence;
use crate::fence::versions::Versions;
use crate::plan::Held;
use crate::plan::rules::{RuleSet, Rules};
use crate::plan::touch::Reach;
use crate::pool::settings::{APPLICATION_NAME, Settings};

/// What the settings begin with that speak to us.
pub const PREFIX: &str = "turnpike.";

/// What holds for the statements of a session.
#[derive(Debug)]
pub(super) struct Ways {
    /// What its database says.
    pub(super) base: Routing,
    pub(super) rules: Arc<Rules>,
    /// The rules that it matches.
    matched: RuleSet,
    /// The `[[cache]]` rules that it matches and whose results are read from the primary.
    strict: RuleSet,
    /// Those whose results are read from there while their tables are being written.
    exact: RuleSet,
    /// What it has set.
    said: Directions,
    /// Settings and catalog from which that was found out; nothing where it has still to be.
    known: Option<(Arc<Settings>, u64)>,
}

/// Who is asked for a read that a replica may serve.
#[derive(Debug)]
pub(super) struct Ask {
    /// What it must have seen, and who it must be.
    pub(super) need: Need,
    /// What holds for the read.
    pub(super) routing: Routing,
}

impl Ways {
    pub(super) fn new(base: Routing, rules: Arc<Rules>) -> Ways {
        Ways { base, rules, matched: 0, strict: 0, exact: 0, said: Directions::default(), known: None }
    }

    /// The configuration has changed.
    pub(super) fn renew(&mut self, base: Routing) {
        (self.base, self.known) = (base, None);
    }

    #[inline]
    fn is_known(&self, settings: &Arc<Settings>, view: u64, serial: u64) -> bool {
        let known = self.known.as_ref();
        self.rules.serial == serial && known.is_some_and(|(s, v)| Arc::ptr_eq(s, settings) && *v == view)
    }

    /// The rule that a statement goes by, by its place.
    #[inline]
    pub(super) fn rule(&self, plan: &Held) -> Option<usize> {
        Rules::first(self.matched, plan.rules)
    }

    /// What is said of a statement, the last word last, with who says it.
    pub(super) fn layers(&self, plan: &Held) -> Vec<(String, Directions)> {
        let rule = self
            .rule(plan)
            .and_then(|rule| Some((self.rules.name(rule), self.rules.directions(rule)?.clone())));
        let said = (!self.said.is_empty()).then(|| ("SET".to_string(), self.said.clone()));
        let asked = plan.asks.as_ref().map(|asks| ("a comment".to_string(), Directions::clone(asks)));
        rule.into_iter().chain(said).chain(asked).collect()
    }

    /// Which way a statement goes. One whose plan was made under other rules goes to the primary.
    pub(super) fn way(&self, plan: &Held, cluster: &Cluster) -> Way {
        if plan.serial != self.rules.serial {
            return Way { route: Route::Primary, routing: self.base.clone() };
        }
        let mut way = self.way_by(self.rule(plan), cluster);
        if let Some(asks) = &plan.asks {
            asks.apply(&mut way, |name| cluster.named(name).is_some());
        }
        way
    }

    /// Which way statements go by a rule, as far as no comment says otherwise.
    fn way_by(&self, rule: Option<usize>, cluster: &Cluster) -> Way {
        let mut way = Way { route: Route::Auto, routing: self.base.clone() };
        let has = |name: &str| cluster.named(name).is_some();
        if let Some(rule) = rule {
            self.rules.apply(rule, &mut way, has);
        }
        self.said.apply(&mut way, has);
        way
    }

    /// Which way what is no statement goes: by the first rule that says nothing of statements.
    fn way_of_none(&self, cluster: &Cluster) -> Way {
        self.way_by(Rules::first(self.matched, self.rules.routes.of_any_statement()), cluster)
    }
}

impl Ask {
    /// What the stricter of both wants. `None` where nobody can have it.
    pub(super) fn and(mut self, other: Ask) -> Option<Ask> {
        let (to, from) = (&mut self.routing, &other.routing);
        to.consistency = to.consistency.max(from.consistency);
        to.replica_wait = to.replica_wait.min(from.replica_wait);
        to.fallback_to_primary &= from.fallback_to_primary;
        if from.transactions == Transactions::Primary {
            to.transactions = Transactions::Primary;
        }
        Some(Ask { need: self.need.and(other.need)?, routing: self.routing })
    }
}

/// What a session of `login` has set, in the catalog's words where it has said nothing itself.
fn said(
    own: impl Fn(&str) -> Option<String>,
    catalog: Option<&Catalog>,
    login: &str,
    cluster: &Cluster,
) -> Directions {
    let mut said = Directions::default();
    for key in SAYABLE {
        let name = format!("{PREFIX}{key}");
        let role = || catalog.and_then(|catalog| catalog.setting(login, &name)).map(str::to_string);
        if let Some(value) = own(&name).or_else(role) {
            // What makes no sense is as if it had not been said.
            let _ = said.say(key, &value);
        }
    }
    if matches!(&said.route, Some(Route::Backend(name)) if cluster.named(name).is_none()) {
        said.route = None;
    }
    said
}

impl Client {
    /// Finds out what holds for the session, where that has changed.
    pub(super) fn settle_ways(&mut self) {
        let view = self.pool.schema.view();
        let serial = self.shared.planner.store.serial();
        let Some(course) = &self.course else { return };
        if course.ways.is_known(&self.settings, view, serial) {
            return;
        }
        let rules = self.shared.planner.rules();
        let own =
            |name: &str| self.settings.get(name).or_else(|| self.wish.class.get(name)).map(str::to_string);
        let purpose = &self.pool.purpose;
        let catalog = self.pool.schema.catalog(view);
        let said = said(own, catalog.as_deref(), &purpose.server_user, &course.cluster);
        let application = self.settings.get(APPLICATION_NAME).unwrap_or_default();
        let matched = rules.routes.of_session(&purpose.user, &purpose.database, application);
        let of_session = rules.cache.of_session(&purpose.user, &purpose.database);
        let [strict, exact] =
            [CacheMode::Strict, CacheMode::Exact].map(|mode| rules.cache.of_mode(mode) & of_session);
        let known = Some((self.settings.clone(), view));
        if let Some(Course { ways, .. }) = self.course.as_deref_mut() {
            *ways = Ways { base: ways.base.clone(), rules, matched, strict, exact, said, known };
        }
    }
}

impl Course {
    /// Which way the statement of a plan goes.
    pub(super) fn way(&self, plan: &Held) -> Way {
        self.ways.way(plan, &self.cluster)
    }

    /// Who is asked for reads that go together: what the strictest of them wants. `None` where that is the primary.
    pub(super) fn ask(&self, plans: &[Held]) -> Option<Ask> {
        if plans.iter().any(|plan| plan.cache.rules & self.ways.strict != 0) {
            return None;
        }
        let Some((first, others)) = plans.split_first() else {
            return self.ask_for(&Reach::default(), self.ways.way_of_none(&self.cluster));
        };
        let of = |plan: &Held| {
            let way = self.way(plan);
            let first = self.may_be_seen_first(plan.cache.rules, &plan.touches.reads, &way);
            if first { None } else { self.ask_for(&plan.touches.reads, way) }
        };
        others.iter().try_fold(of(first)?, |ask, plan| ask.and(of(plan)?))
    }

    /// The same where whatever the transaction reads later is to be read there, too: what the strictest of all rules of
    /// the session wants. `by_statement` where each statement would have to see what others have written meanwhile.
    pub(super) fn ask_for_good(&self, plans: &[Held], by_statement: bool) -> Option<Ask> {
        let ways = &self.ways;
        let of = |way: Way| self.ask_for(&Reach::Anything, way);
        let none = of(ways.way_of_none(&self.cluster))?;
        let mut rules = Rules::places(ways.matched).map(|rule| ways.way_by(Some(rule), &self.cluster));
        let all = rules.try_fold(none, |ask, way| ask.and(of(way)?))?;
        let ask = self.ask(plans)?.and(all)?;
        if self.may_be_seen_first(RuleSet::MAX, &Reach::Anything, &ways.way_of_none(&self.cluster)) {
            return None;
        }
        // Those would have to be waited for.
        let global = ask.routing.consistency == Consistency::Global;
        (!(by_statement && global)).then_some(ask)
    }

    /// Why what is kept of a statement is read from the primary, in words for people, if it is.
    pub(super) fn what_keeps(&self, plan: &Held) -> Option<&'static str> {
        if plan.cache.rules & self.ways.strict != 0 {
            return Some("results that are strict are read from the primary");
        }
        let is_first = self.may_be_seen_first(plan.cache.rules, &plan.touches.reads, &self.way(plan));
        is_first.then_some("it is being written, and results of it that are kept are exact")
    }

    /// Whether what is read may have been written by now and be seen by some before its writer has been told: the primary
    /// shows it, and a replica that is quicker than others. That matters where results are kept that are `exact`, which
    /// are one order for all who read; fences are of what has been acknowledged. Who asks for a replica gets one.
    fn may_be_seen_first(&self, rules: RuleSet, reads: &Reach, way: &Way) -> bool {
        let asks = way.route != Route::Auto || way.routing.consistency != Consistency::Global;
        if rules & self.ways.exact == 0 || asks {
            return false;
        }
        let stamp = |versions: &Arc<Versions>| match reads {
            Reach::Tables(tables) => versions.stamp(tables),
            Reach::Anything => versions.stamp_all(),
        };
        self.versions.as_ref().is_some_and(|versions| stamp(versions).is_none())
    }

    /// Whether what a transaction that this statement begins reads may go elsewhere than to the primary.
    pub(super) fn may_leave(&self, plan: &Held) -> bool {
        !plan.wants_primary() && self.ask(std::slice::from_ref(plan)).is_some()
    }

    /// Counts reads by the rules that they go by.
    pub(super) fn count(&self, plans: &[Held]) {
        if self.ways.rules.is_empty() {
            return;
        }
        for rule in plans.iter().filter_map(|plan| self.ways.rule(plan)) {
            self.ways.rules.count(rule, 1);
        }
    }

    fn ask_for(&self, reads: &Reach, way: Way) -> Option<Ask> {
        let need = self.need(reads, &way.routing);
        let need = match way.route {
            Route::Auto => way.routing.split.then_some(need),
            Route::Primary => None,
            Route::Replica => Some(need),
            Route::Backend(name) => {
                let primary = self.cluster.named(&name).is_some_and(|m| m.state() == State::Primary);
                (!primary).then(|| need.of_backend(name))
            }
        };
        Some(Ask { need: need?, routing: way.routing })
    }

    /// What whoever serves a read must have seen.
    pub(super) fn need(&self, reads: &Reach, routing: &Routing) -> Need {
        let fence = match routing.consistency {
            Consistency::Session => self.own_fence(reads),
            Consistency::Global => self.fence_of(reads),
            // Nothing has to be seen.
            Consistency::Eventual | Consistency::Bounded => fence::NONE,
        };
        Need::of(routing, fence)
    }
}
