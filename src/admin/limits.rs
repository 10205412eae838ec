//! SHOW LIMITS.

use super::table::Table;
use crate::session::shared::Shared;

/// Of every backend with adaptive pools: how many loans it may have now, and what that follows from.
pub fn limits(shared: &Shared) -> Table {
    let mut table = Table::new(
        "backend limit:n level in_flight:n slow:n queued:n throughput elasticity gradient floor_us:n raised:n \
         lowered:n reason",
    );
    for l in shared.pools.limit_rows() {
        let [lowered, raised] = l.moves;
        table.rows.push(vec![
            l.backend.into(),
            l.limit.into(),
            format!("{:.1}", l.level).into(),
            l.lent.into(),
            l.slow.into(),
            l.waiting.into(),
            format!("{:.2}", l.throughput).into(),
            format!("{:.2}", l.elasticity).into(),
            format!("{:.2}", l.gradient).into(),
            l.floor.as_micros().into(),
            raised.into(),
            lowered.into(),
            l.why.words().into(),
        ]);
    }
    table
}
