//! SHOW TENANTS.

use std::collections::HashMap;
use std::sync::Arc;

use super::table::{Cell, Table};
use crate::config::Pattern;
use crate::config::words::{PRIORITIES, word};
use crate::session::shared::Shared;
use crate::tenant::Tenant;

/// Tenants that are shown, those first that have taken most time; of the others, the sum.
const SHOWN: usize = 1000;

/// The tenants that are known: what they may have, what they have, what they have done.
pub fn tenants(shared: &Shared) -> Table {
    named(shared, "*")
}

/// Those of that name, or with a `*` at its end of those that begin like that.
pub fn named(shared: &Shared, name: &str) -> Table {
    let mut clients: HashMap<u32, u64> = HashMap::new();
    for tenant in shared.entries().iter().filter_map(|entry| entry.tenant()) {
        *clients.entry(tenant.id).or_default() += 1;
    }
    let wanted = Pattern::new(name);
    let mut all = shared.pools.tenants.all();
    all.retain(|tenant| wanted.matches(&tenant.name));
    all.sort_by_key(|tenant| std::cmp::Reverse(tenant.did.query.sum_us()));
    table(&all, &clients, SHOWN)
}

fn table(all: &[Arc<Tenant>], clients: &HashMap<u32, u64>, shown: usize) -> Table {
    let mut table = Table::new(
        "tenant clients:n connections:n waiting:n guaranteed:n max:n weight:n priority \
         statements_per_second:n rows_per_second:n statements:n rows:n errors:n query_time_us:n p50_us:n p99_us:n \
         waits:n wait_time_us:n throttled:n throttled_us:n over_rate:n shed:n",
    );
    let row = |tenant: &Arc<Tenant>| row(tenant, clients.get(&tenant.id).copied().unwrap_or_default());
    let (first, rest) = all.split_at(shown.min(all.len()));
    table.rows.extend(first.iter().map(row));
    if !rest.is_empty() {
        table.rows.push(sum(rest.iter().map(row), &table));
    }
    table
}

fn row(tenant: &Tenant, clients: u64) -> Vec<Cell> {
    let did = &tenant.did;
    vec![
        (*tenant.name).into(),
        clients.into(),
        tenant.leased().into(),
        tenant.waiting().into(),
        tenant.guaranteed().into(),
        tenant.max().into(),
        tenant.weight().into(),
        word(PRIORITIES, &tenant.priority(Default::default())).into(),
        tenant.statements.rate().per_second.into(),
        tenant.rows.rate().per_second.into(),
        did.statements.get().into(),
        did.rows.get().into(),
        did.errors.get().into(),
        did.query.sum_us().into(),
        did.query.quantile_us(0.5).into(),
        did.query.quantile_us(0.99).into(),
        did.wait.count().into(),
        did.wait.sum_us().into(),
        did.throttled.get().into(),
        did.throttled_us.get().into(),
        did.over_rate.get().into(),
        did.shed.get().into(),
    ]
}

/// What each is allowed, or takes at the most, does not add up.
const NO_SUMS: &[&str] =
    &["max", "weight", "priority", "statements_per_second", "rows_per_second", "p50_us", "p99_us"];

/// One row for those that have none of their own.
fn sum(rows: impl Iterator<Item = Vec<Cell>>, table: &Table) -> Vec<Cell> {
    let (mut sum, mut count) = (vec![0i64; table.columns.len()], 0);
    for row in rows {
        count += 1;
        for (sum, cell) in sum.iter_mut().zip(row) {
            *sum += if let Cell::Int(n) = cell { n } else { 0 };
        }
    }
    let cell = |((name, _), sum): (&(String, _), i64)| match name.as_str() {
        "tenant" => format!("({count} more)").into(),
        name if NO_SUMS.contains(&name) => Cell::Null,
        _ => sum.into(),
    };
    table.columns.iter().zip(sum).map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_not_shown_are_told_of() {
        let all: Vec<_> =
            (1..=5).map(|id| Arc::new(Tenant::new(id, &format!("t{id}"), Arc::default()))).collect();
        all.iter().for_each(|tenant| tenant.did.rows.add(10));
        let clients: HashMap<u32, u64> = (1..=5).map(|id| (id, 2)).collect();
        let cells = |shown: usize, column: &str| {
            let table = table(&all, &clients, shown);
            let at = table.columns.iter().position(|(name, _)| name == column);
            table.rows.into_iter().filter_map(|row| row.get(at?).cloned()).collect::<Vec<_>>()
        };
        let texts = |texts: &[&str]| texts.iter().map(|text| Cell::from(*text)).collect::<Vec<_>>();
        assert_eq!(cells(2, "tenant"), texts(&["t1", "t2", "(3 more)"]));
        assert_eq!(cells(2, "clients"), [Cell::Int(2), Cell::Int(2), Cell::Int(6)]);
        assert_eq!(cells(2, "rows"), [Cell::Int(10), Cell::Int(10), Cell::Int(30)]);
        assert_eq!(cells(2, "weight").last(), Some(&Cell::Null));
        assert_eq!(cells(5, "tenant"), texts(&["t1", "t2", "t3", "t4", "t5"]));
    }
}
