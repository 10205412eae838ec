//! SHOW PLANS and SHOW FALLBACKS.

use super::table::Table;
use crate::core::clock::Instant;
use crate::plan::Held;
use crate::session::shared::Shared;

/// Shapes that are shown, those first on which most time was spent.
const MOST: usize = 1000;
/// Characters of a shape that are shown.
const SHAPE: usize = 500;

fn by_time(shared: &Shared, wanted: impl Fn(&Held) -> bool) -> Vec<Held> {
    let mut plans = shared.planner.store.all();
    plans.retain(|plan| plan.uses.calls.get() > 0 && wanted(plan));
    plans.sort_by_cached_key(|plan| std::cmp::Reverse(plan.uses.time_us.get()));
    plans.truncate(MOST);
    plans
}

/// What was decided about each shape, and what its statements have done.
pub fn plans(shared: &Shared) -> Table {
    let mut table = Table::new(
        "fingerprint verb class calls:n errors:n rows:n mean_us:n p99_us:n database backend build_us:n age:n reasons shape",
    );
    let now = Instant::now();
    for plan in by_time(shared, |_| true) {
        let (mean, p99) = plan.uses.times_us();
        let reasons = plan.reasons.iter().map(|r| r.text.as_str()).collect::<Vec<_>>().join("; ");
        table.rows.push(vec![
            format!("{:032x}", plan.fingerprint).into(),
            plan.verb().into(),
            plan.class.label().into(),
            plan.uses.calls.get().into(),
            plan.uses.errors.get().into(),
            plan.uses.rows.get().into(),
            mean.into(),
            p99.into(),
            plan.home.database.as_str().into(),
            plan.home.backend.as_str().into(),
            plan.build_us.into(),
            now.since(plan.built).as_secs().into(),
            reasons.into(),
            plan.shown(SHAPE).into(),
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
            plan.uses.calls.get().into(),
            format!("{:032x}", plan.fingerprint).into(),
            plan.verb().into(),
            plan.home.database.as_str().into(),
            plan.shown(SHAPE).into(),
        ]);
    }
    table
}
