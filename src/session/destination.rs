//! What EXPLAIN (ROUTE) says of a cluster: which way a statement would go, who said so, and why no other server.

use std::sync::Arc;

use super::course::Course;
use super::run::Client;
use super::way::Ask;
use crate::cluster::{Member, Refusal};
use crate::config::{Consistency, Directions, Route};
use crate::core::clock::Instant;
use crate::fence::{self, Number};
use crate::plan::explain::Place;
use crate::plan::touch::Reach;
use crate::plan::{Class, Held};

/// Tables in the way that are named.
const MOST_FENCES: usize = 4;

/// What is known before any server is looked at.
struct Case<'a> {
    course: &'a Course,
    plan: &'a Held,
    /// Why it is the primary's.
    bound: Option<String>,
    /// Who is asked, where it is not.
    ask: Option<Ask>,
}

impl Client {
    /// Where a statement of this plan would go: of every server what it is and why it would or would not be taken, and
    /// what decided that.
    pub(super) fn destination(&self, course: &Course, plan: &Held, place: &mut Place) {
        let now = Instant::now();
        let way = course.way(plan);
        let ask = course.ask(std::slice::from_ref(plan));
        let case = Case { course, plan, bound: self.bound(course, plan, &way.route), ask };
        let free = case.ask.as_ref().filter(|_| case.bound.is_none());
        let reader = free.and_then(|ask| course.cluster.choose_reader(&ask.need, now));
        let fails = reader.is_none() && free.is_some_and(|ask| !ask.routing.fallback_to_primary);
        let home = || course.cluster.primary().map_or(course.home.target.clone(), |p| p.target.clone());
        let target = reader.map_or_else(home, |member| member.target.clone());
        place.backend = format!("backend \"{}\" ({}:{})", target.name(), target.host(), target.port());
        if fails {
            place.backend = "none: no replica may serve it, and fallback_to_primary is off".into();
        }
        // Where nobody is asked for, what a read would need tells why the others are no better.
        let need = case
            .ask
            .as_ref()
            .map_or_else(|| course.need(&plan.touches.reads, &way.routing), |ask| ask.need.clone());
        let servers = course.cluster.explain_reader(&need).into_iter().map(|(member, may)| {
            let taken = Arc::ptr_eq(&member.target, &target) && !fails;
            let verdict = self.verdict(&case, taken, may);
            (member.name().to_string(), format!("{}; {verdict}", about(&member, now)))
        });
        place.servers = servers.collect();
        (place.rule, place.directions) = said(course, plan);
    }

    /// Why a statement is the primary's.
    fn bound(&self, course: &Course, plan: &Held, route: &Route) -> Option<String> {
        if let Some(reason) = self.what_binds() {
            Some(reason.into())
        } else if plan.class != Class::Read {
            Some("only the primary may serve it".into())
        } else if plan.is_of_primary() {
            Some("a replica has refused it as a write".into())
        } else if course.ask(std::slice::from_ref(plan)).is_some() {
            None
        } else if let Some(reason) = course.what_keeps(plan) {
            Some(reason.into())
        } else if *route == Route::Auto {
            Some("split is off".into())
        } else {
            let by = course.ways.layers(plan).into_iter().rev().find(|(_, says)| says.route.is_some());
            let by = by.map_or_else(|| "a rule that is new".into(), |(by, _)| by);
            Some(format!("{by} asks for {}", if *route == Route::Primary { "the primary" } else { "it" }))
        }
    }

    fn verdict(&self, case: &Case<'_>, taken: bool, may: Result<(), Refusal>) -> String {
        match (taken, &case.bound, may) {
            (true, Some(reason), _) => format!("taken: {reason}"),
            (true, None, Ok(())) => "taken".into(),
            (true, None, Err(_)) => "taken: no replica may serve it".into(),
            (false, Some(_), _) => "not asked".into(),
            (false, None, Ok(())) => "might as well".into(),
            (false, None, Err(reason)) => {
                let fences = match reason {
                    Refusal::Behind(passed, fence) if fence != fence::NONE => self.in_the_way(case, passed),
                    _ => String::new(),
                };
                format!("not taken: {reason}{fences}")
            }
        }
    }

    /// The tables whose fences are in the way of a member that has passed `passed`.
    fn in_the_way(&self, case: &Case<'_>, passed: Number) -> String {
        let Some(ask) = &case.ask else { return String::new() };
        let of = |reach: &Reach| match ask.routing.consistency {
            Consistency::Global => case.course.fence_of(reach),
            _ => case.course.own_fence(reach),
        };
        let Reach::Tables(tables) = &case.plan.touches.reads else { return "; it may read any table".into() };
        if !fence::is_past(passed, of(&Reach::default())) {
            return "; that may have been to any table".into();
        }
        let catalog = self.pool.schema.catalog(self.pool.schema.view());
        let behind =
            tables.iter().filter(|table| !fence::is_past(passed, of(&Reach::Tables([**table].into()))));
        let name =
            |table: &u32| catalog.as_ref().and_then(|c| c.name_of(*table)).unwrap_or(table.to_string());
        let names: Vec<String> = behind.take(MOST_FENCES).map(name).collect();
        format!("; written: {}", names.join(", "))
    }
}

/// What a member is.
fn about(member: &Member, now: Instant) -> String {
    let (lag, bytes) = member.lag();
    let score = member.health.report(now).score.total;
    let (state, distance, lag) = (member.state().label(), member.level(), lag.as_millis());
    let zone = member.zone().map(|zone| format!(", zone {zone}")).unwrap_or_default();
    format!("{state}, score {score}, {lag} ms and {bytes} bytes behind, distance {distance}{zone}")
}

/// The rule that a statement goes by, and what holds for it, with who says so.
fn said(course: &Course, plan: &Held) -> (String, String) {
    let layers = course.ways.layers(plan);
    let rule = course.ways.rule(plan).map(|rule| course.ways.rules.name(rule)).unwrap_or_default();
    let base = &course.ways.base;
    let base = Directions { consistency: Some(base.consistency), ..Directions::default() };
    let mut all: Vec<(&str, String, String)> = vec![("route", "auto".into(), String::new())];
    for (by, says) in std::iter::once(("the database".to_string(), base)).chain(layers) {
        for (key, value) in says.said() {
            let ignored = matches!(&says.route, Some(Route::Backend(name))
                if key == "route" && course.cluster.named(name.as_ref()).is_none());
            if ignored {
                continue;
            }
            all.retain(|(known, ..)| *known != key);
            all.push((key, value, by.clone()));
        }
    }
    let text = all.into_iter().map(|(key, value, by)| {
        if by.is_empty() { format!("{key}={value}") } else { format!("{key}={value} ({by})") }
    });
    (rule, text.collect::<Vec<_>>().join(", "))
}
