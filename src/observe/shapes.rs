//! Latency by shape, for a bounded number of shapes: those on which most time is spent have series of their own, all
//! others share one.
//!
//! Plans come and go, and so would what they have counted; what is told here only grows. Which shape has a series is
//! decided anew with every scrape, and a shape only gives its place to one that is clearly hotter: each that is new is
//! another series for Prometheus to keep.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::buckets::Buckets;
use super::metrics::{Family, Kind, Labels, Value, label};
use crate::core::limits::MAX_SHAPE_SERIES;
use crate::plan::Plan;
use crate::plan::uses::OFTEN;

/// Characters of a shape that are shown.
const SHOWN: usize = 80;
/// What is left of a shape's heat after a scrape.
const COOLING: f64 = 0.9;
/// How much hotter a shape must be than one whose place it takes.
const HOTTER: f64 = 1.5;

/// See the module. One for the process: what it has told of is part of what it tells next.
#[derive(Debug, Default)]
pub struct Shapes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// By address: as long as a plan is held, it is its own.
    seen: HashMap<usize, Seen>,
    told: HashMap<u128, Told>,
    others: Sums,
}

/// A plan, and what it had done when it was last looked at.
#[derive(Debug)]
struct Seen {
    plan: Arc<Plan>,
    done: Sums,
    heat: f64,
    kept: bool,
}

/// A shape with series of its own.
#[derive(Debug)]
struct Told {
    text: String,
    heat: f64,
    sums: Sums,
}

/// What statements have done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sums {
    errors: u64,
    rows: u64,
    /// Those of a plan that were not timed one by one.
    early: Buckets,
    took: Buckets,
}

impl Sums {
    /// What those of a plan have done. The first few of a shape are not timed one by one: they took their mean. Those that
    /// fail are not timed at all.
    fn of(plan: &Plan, before: &Sums) -> Sums {
        let total = plan.parts.total();
        let mut timed = Buckets::default();
        for uses in plan.parts.all() {
            if let Some(latency) = uses.latency() {
                timed.add_growth(&Buckets::default(), &Buckets::of(&latency.snapshot()));
            }
        }
        let mut early = before.early;
        let room = ((OFTEN - 1) * total.parts).saturating_sub(early.count());
        let new = total.calls.saturating_sub(total.errors + timed.count() + early.count()).min(room);
        let spent = (total.time_us as f64 - (timed.sum + early.sum) * 1e6).max(0.0) as u64;
        early.add(spent.checked_div(new).unwrap_or_default(), new);
        let mut took = early;
        took.add_growth(&Buckets::default(), &timed);
        Sums { errors: total.errors, rows: total.rows, early, took }
    }

    fn add_growth(&mut self, before: &Sums, now: &Sums) {
        self.errors += now.errors.saturating_sub(before.errors);
        self.rows += now.rows.saturating_sub(before.rows);
        self.took.add_growth(&before.took, &now.took);
    }
}

impl Shapes {
    /// The metrics of all shapes, of which these are the plans that there are.
    pub fn families(&self, plans: &[Arc<Plan>]) -> Vec<Family> {
        let mut state = self.0.lock();
        let grown = state.look(plans);
        state.choose();
        for (fingerprint, before, now) in grown {
            let State { told, others, .. } = &mut *state;
            told.get_mut(&fingerprint).map_or(others, |told| &mut told.sums).add_growth(&before, &now);
        }
        state.families()
    }
}

impl State {
    /// Looks at all plans, and those that are not kept any more for the last time: what has grown, by fingerprint.
    fn look(&mut self, plans: &[Arc<Plan>]) -> Vec<(u128, Sums, Sums)> {
        for seen in self.seen.values_mut() {
            // Statements that were prepared with it may still use it.
            seen.kept = Arc::strong_count(&seen.plan) > 1;
        }
        for plan in plans.iter().filter(|plan| plan.parts.are_used()) {
            let new = || Seen { plan: plan.clone(), done: Sums::default(), heat: 0.0, kept: true };
            self.seen.entry(Arc::as_ptr(plan) as usize).or_insert_with(new);
        }
        let mut grown = Vec::new();
        for seen in self.seen.values_mut() {
            let now = Sums::of(&seen.plan, &seen.done);
            seen.heat = seen.heat * COOLING + (now.took.sum - seen.done.took.sum).max(0.0);
            if now != seen.done {
                grown.push((seen.plan.fingerprint, seen.done, now));
                seen.done = now;
            }
        }
        self.seen.retain(|_, seen| seen.kept);
        grown
    }

    /// Decides which shapes have series of their own.
    fn choose(&mut self) {
        let mut heats: HashMap<u128, (f64, &Arc<Plan>)> = HashMap::new();
        for seen in self.seen.values() {
            heats.entry(seen.plan.fingerprint).or_insert((0.0, &seen.plan)).0 += seen.heat;
        }
        for (fingerprint, told) in &mut self.told {
            told.heat = heats.remove(fingerprint).map_or(told.heat * COOLING, |(heat, _)| heat);
        }
        let mut rest: Vec<(u128, f64, &Arc<Plan>)> =
            heats.into_iter().map(|(f, (heat, p))| (f, heat, p)).collect();
        rest.sort_by(|a, b| b.1.total_cmp(&a.1));
        for (fingerprint, heat, plan) in rest {
            if self.told.len() >= MAX_SHAPE_SERIES {
                let coolest = self.told.iter().min_by(|a, b| a.1.heat.total_cmp(&b.1.heat));
                let Some((coolest, _)) = coolest.filter(|(_, told)| heat > told.heat * HOTTER) else {
                    return;
                };
                let coolest = *coolest;
                self.told.remove(&coolest);
            }
            self.told.insert(fingerprint, Told { text: text(plan), heat, sums: Sums::default() });
        }
    }

    fn families(&self) -> Vec<Family> {
        let named = self.told.iter().map(|(f, told)| (format!("{f:032x}"), told.text.as_str(), &told.sums));
        let mut rows: Vec<_> = named.collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows.push(("other".into(), "all others", &self.others));
        let labels = |(print, text, _): &(String, &str, &Sums)| -> Labels {
            vec![label("fingerprint", print.as_str()), label("shape", *text)]
        };
        let samples = |value: &dyn Fn(&Sums) -> Value| rows.iter().map(|r| (labels(r), value(r.2))).collect();
        vec![
            Family::of(
                "turnpike_shape_duration_seconds",
                Kind::Histogram,
                "From a statement's first byte to ReadyForQuery where it does not fail, by shape; those that take most time, and all others.",
                samples(&|sums| Value::Durations(Box::new(sums.took))),
            ),
            Family::of(
                "turnpike_shape_errors_total",
                Kind::Counter,
                "Statements that ended with an error, by shape.",
                samples(&|sums| Value::Number(sums.errors as f64)),
            ),
            Family::of(
                "turnpike_shape_rows_total",
                Kind::Counter,
                "Rows read or written, by shape.",
                samples(&|sums| Value::Number(sums.rows as f64)),
            ),
        ]
    }
}

/// A shape in few words.
fn text(plan: &Plan) -> String {
    plan.masked(SHOWN)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::plan::store::Scope;
    use crate::plan::{Held, Home, Planner, Reading};

    struct Bed {
        planner: Planner,
        shapes: Shapes,
    }

    impl Bed {
        fn new() -> Bed {
            let planner = Planner::new(&crate::config::Plan::default(), &[], &[], &[]).unwrap();
            Bed { planner, shapes: Shapes::default() }
        }

        fn run(&self, sql: &str, calls: u64, us: u64) -> Held {
            let reading = Reading { conforming: true, is_ambiguous: false };
            let scope = Scope { place: 1, generation: 1 };
            let plan = self.planner.plan(sql.as_bytes(), reading, scope, Home::default);
            for _ in 0..calls {
                plan.uses().calls.add(1);
                plan.uses().took(us);
            }
            plan
        }

        /// Shapes with series of their own, and statements counted by shape.
        fn scrape(&self) -> Vec<(String, u64)> {
            let families = self.shapes.families(&self.planner.store.all());
            let count = |value: &Value| match value {
                Value::Durations(buckets) => buckets.count(),
                Value::Number(n) => *n as u64,
            };
            families[0].samples.iter().map(|(labels, value)| (labels[1].1.clone(), count(value))).collect()
        }
    }

    #[test]
    fn however_many_shapes_there_are_the_series_are_few_and_nothing_is_lost() {
        let bed = Bed::new();
        let mut sent = 0;
        for round in 0..20u64 {
            for n in 0..30 {
                // Each round has shapes of its own.
                bed.run(&format!("SELECT a{round}_{n} FROM t"), 20, 100 + round * 1000);
                sent += 20;
            }
            let told = bed.scrape();
            assert!(told.len() <= MAX_SHAPE_SERIES + 1);
        }
        let told = bed.scrape();
        assert!(
            told.iter().any(|(shape, _)| shape.contains("a19_")),
            "what is hot now has a place: {told:?}"
        );
        let others = told.iter().find(|(shape, _)| shape == "all others").unwrap().1;
        assert!(others > 0 && told.iter().map(|(_, n)| n).sum::<u64>() <= sent);
    }

    #[test]
    fn the_first_few_of_a_shape_count_once() {
        let bed = Bed::new();
        bed.run("SELECT 1", 5, 2_000);
        assert_eq!(bed.scrape()[0].1, 5);
        bed.run("SELECT 1", 6, 2_000);
        assert_eq!(bed.scrape()[0].1, 11);
        let Value::Durations(buckets) = &bed.shapes.families(&[])[0].samples[0].1 else { panic!() };
        assert_eq!(buckets.counts[4], 11, "within 2.5 ms: {buckets:?}");
    }

    #[test]
    fn those_that_fail_take_no_time() {
        let bed = Bed::new();
        let plan = bed.run("SELECT 1", 3, 2_000);
        for _ in 0..100 {
            plan.uses().calls.add(1);
            plan.uses().errors.add(1);
        }
        assert_eq!(bed.scrape()[0].1, 3);
        let Value::Number(errors) = bed.shapes.families(&[])[1].samples[0].1 else { panic!() };
        assert_eq!(errors, 100.0);
    }

    #[test]
    fn literals_that_shapes_keep_are_not_told() {
        let bed = Bed::new();
        for sql in [
            "ALTER ROLE r PASSWORD 'hunter2'",
            "SET x = 'hunter2'",
            "SELECT set_config('a.b', 'hunter2', false)",
            "CREATE FUNCTION f() RETURNS int AS $x$ hunter2 $x$ LANGUAGE sql",
        ] {
            bed.run(sql, 1, 10);
        }
        let told = bed.scrape();
        assert!(told.iter().all(|(shape, _)| !shape.contains("hunter2")), "{told:?}");
    }
}
