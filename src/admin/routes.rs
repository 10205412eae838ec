//! SHOW ROUTES.

use super::table::Table;
use crate::session::shared::Shared;

/// Every `[[route]]` in order: what it is about, what it says, how many reads it has decided about since it is in use.
pub fn routes(shared: &Shared) -> Table {
    let mut table = Table::new("route:n line:n conditions says reads:n covered_by:n");
    let joined = |parts: Vec<(&'static str, String)>| {
        parts.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    };
    for (i, (rule, reads, covered)) in shared.planner.rules().rows().enumerate() {
        table.rows.push(vec![
            (i + 1).into(),
            rule.line.into(),
            joined(rule.conditions()).into(),
            joined(rule.says.said()).into(),
            reads.into(),
            covered.map(|by| by + 1).into(),
        ]);
    }
    table
}
