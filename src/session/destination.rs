//! What EXPLAIN (ROUTE) says of a cluster: where a statement would go, and why not elsewhere.

use std::sync::Arc;

use super::course::Course;
use super::run::Client;
use crate::core::clock::Instant;
use crate::plan::{Class, Held};
use crate::pool::connect::Target;

impl Client {
    /// Where a statement of this plan would go, and of every server what it is and why it would or would not.
    pub(super) fn destination(&self, course: &Course, plan: &Held) -> (Arc<Target>, Vec<(String, String)>) {
        let now = Instant::now();
        let need = course.need(std::slice::from_ref(plan));
        let bound = match self.what_binds() {
            Some(reason) => Some(reason),
            None if plan.class != Class::Read => Some("only the primary may serve it"),
            None if plan.wants_primary => Some("a comment asks for the primary"),
            None if plan.uses.is_of_primary() => Some("a replica has refused it as a write"),
            None if !course.routing.split => Some("split is off"),
            None => None,
        };
        let reader = if bound.is_none() { course.cluster.choose_reader(&need, now) } else { None };
        let home = || course.cluster.primary().map_or(course.home.target.clone(), |p| p.target.clone());
        let target = reader.map_or_else(home, |member| member.target.clone());
        let servers = course.cluster.explain_reader(&need).into_iter().map(|(member, may)| {
            let taken = Arc::ptr_eq(&member.target, &target);
            let verdict = match (taken, bound, may) {
                (true, Some(reason), _) => format!("taken: {reason}"),
                (true, None, Ok(())) => "taken".to_string(),
                (true, None, Err(_)) => "taken: no replica may serve it".to_string(),
                (false, Some(_), _) => "not asked".to_string(),
                (false, None, Ok(())) => "might as well".to_string(),
                (false, None, Err(reason)) => format!("not taken: {reason}"),
            };
            let (lag, bytes) = member.lag();
            let score = member.health.report(now).score.total;
            let (state, distance) = (member.state().label(), member.level());
            let lag = lag.as_millis();
            let text = format!(
                "{state}, score {score}, {lag} ms and {bytes} bytes behind, distance {distance}; {verdict}"
            );
            (member.name().to_string(), text)
        });
        let servers = servers.collect();
        (target, servers)
    }
}
