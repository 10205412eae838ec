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
use crate::config::{Consistency, Directions, Route, Routing, SAYABLE, Way};
use crate::fence;
use crate::plan::Held;
use crate::plan::rules::{RuleSet, Rules};
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
        Ways { base, rules, matched: 0, said: Directions::default(), known: None }
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
        let mut way = Way { route: Route::Auto, routing: self.base.clone() };
        if plan.serial != self.rules.serial {
            way.route = Route::Primary;
            return way;
        }
        let has = |name: &str| cluster.named(name).is_some();
        if let Some(rule) = self.rule(plan) {
            self.rules.apply(rule, &mut way, has);
        }
        self.said.apply(&mut way, has);
        if let Some(asks) = &plan.asks {
            asks.apply(&mut way, has);
        }
        way
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
        let matched = rules.of_session(&purpose.user, &purpose.database, application);
        let known = Some((self.settings.clone(), view));
        if let Some(Course { ways, .. }) = self.course.as_deref_mut() {
            *ways = Ways { base: ways.base.clone(), rules, matched, said, known };
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
        let (first, others) = plans.split_first()?;
        let mut ask = self.ask_for(first, self.way(first))?;
        for plan in others {
            let other = self.ask_for(plan, self.way(plan))?;
            ask.need = ask.need.and(other.need)?;
            ask.routing.replica_wait = ask.routing.replica_wait.min(other.routing.replica_wait);
            ask.routing.fallback_to_primary &= other.routing.fallback_to_primary;
        }
        Some(ask)
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

    fn ask_for(&self, plan: &Held, way: Way) -> Option<Ask> {
        let need = self.need(plan, &way.routing);
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
    pub(super) fn need(&self, plan: &Held, routing: &Routing) -> Need {
        let fence = match routing.consistency {
            Consistency::Session => self.own_fence(&plan.touches.reads),
            Consistency::Global => self.fence_of(&plan.touches.reads),
            // Nothing has to be seen.
            Consistency::Eventual | Consistency::Bounded => fence::NONE,
        };
        Need::of(routing, fence)
    }
}
