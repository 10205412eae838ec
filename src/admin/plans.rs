//! SHOW PLANS and SHOW FALLBACKS.

use std::collections::HashMap;
use std::sync::Arc;

use super::table::Table;
use crate::core::clock::Instant;
use crate::plan::Plan;
use crate::pool::connect::mark;
use crate::session::shared::Shared;

/// Shapes that are shown, those first on which most time was spent.
const MOST: usize = 1000;
/// Characters of a shape that are shown.
const SHAPE: usize = 500;

fn by_time(shared: &Shared, wanted: impl Fn(&Plan) -> bool) -> Vec<Arc<Plan>> {
    let mut plans = shared.planner.store.all();
    plans.retain(|plan| plan.parts.are_used() && wanted(plan));
    plans.sort_by_cached_key(|plan| std::cmp::Reverse(plan.parts.total().time_us));
    plans.truncate(MOST);
    plans
}

/// The backends that there are, by what their names are counted by.
fn names(shared: &Shared) -> HashMap<u32, String> {
    let config = shared.config.load();
    let listed = config.backends.iter().map(|backend| backend.name.clone());
    let found = shared.clusters.all();
    let found = found.iter().flat_map(|cluster| cluster.member_rows()).map(|member| member.backend);
    listed.chain(found).map(|name| (mark(&name), name)).collect()
}

/// Who has answered how much of it: `replica1 60%, replica2 40%`.
fn shares(plan: &Plan, names: &HashMap<u32, String>) -> String {
    let (by, others) = plan.parts.served();
    let all: u64 = others + by.iter().map(|(_, calls)| calls).sum::<u64>();
    let share = |calls: u64| (calls * 100 + all / 2).checked_div(all).unwrap_or_default();
    let name = |backend: &u32| names.get(backend).map_or("(gone)", String::as_str);
    let mut told: Vec<String> =
        by.iter().map(|(backend, calls)| format!("{} {}%", name(backend), share(*calls))).collect();
    if others > 0 {
        told.push(format!("(others) {}%", share(others)));
    }
    told.join(", ")
}

/// What was decided about each shape, and what its statements have done.
pub fn plans(shared: &Shared) -> Table {
    let mut table = Table::new(
        "fingerprint verb class calls:n errors:n rows:n mean_us:n p99_us:n database backend shares build_us:n age:n reasons shape",
    );
    let now = Instant::now();
    let names = names(shared);
    for plan in by_time(shared, |_| true) {
        let (mean, p99) = plan.parts.times_us();
        let total = plan.parts.total();
        let reasons = plan.reasons.iter().map(|r| &*r.text).collect::<Vec<_>>().join("; ");
        table.rows.push(vec![
            format!("{:032x}", plan.fingerprint).into(),
            plan.verb().into(),
            plan.class.label().into(),
            total.calls.into(),
            total.errors.into(),
            total.rows.into(),
            mean.into(),
            p99.into(),
            plan.home.database.as_str().into(),
            plan.home.backend.as_str().into(),
            shares(&plan, &names).into(),
            plan.build_us.into(),
            now.since(plan.built).as_secs().into(),
            reasons.into(),
            plan.masked(SHAPE).into(),
        ]);
    }
    table
}

/// Shapes that are not understood: they go to the primary and may do anything.
pub fn fallbacks(shared: &Shared) -> Table {
    let mut table = Table::new("reason calls:n fingerprint verb database shape");
    for plan in by_time(shared, |plan| plan.gap.is_some()) {
        table.rows.push(vec![
            plan.gap.map_or("", |gap| gap.label()).into(),
            plan.parts.total().calls.into(),
            format!("{:032x}", plan.fingerprint).into(),
            plan.verb().into(),
            plan.home.database.as_str().into(),
            plan.masked(SHAPE).into(),
        ]);
    }
    table
}
