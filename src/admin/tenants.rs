//! SHOW TENANTS.

use std::collections::HashMap;

use super::table::Table;
use crate::config::words::{PRIORITIES, word};
use crate::session::shared::Shared;

/// Tenants that are shown, those first that have taken most time.
const SHOWN: usize = 1000;

/// The tenants that are known: what they may have, what they have, what they have done.
pub fn tenants(shared: &Shared) -> Table {
    let mut table = Table::new(
        "tenant clients:n connections:n waiting:n guaranteed:n max:n weight:n priority \
         statements_per_second:n rows_per_second:n statements:n rows:n errors:n query_time_us:n p50_us:n p99_us:n \
         waits:n wait_time_us:n throttled:n throttled_us:n over_rate:n shed:n",
    );
    let mut clients: HashMap<u32, u64> = HashMap::new();
    for tenant in shared.entries().iter().filter_map(|entry| entry.tenant()) {
        *clients.entry(tenant.id).or_default() += 1;
    }
    let mut all = shared.pools.tenants.all();
    all.sort_by_key(|tenant| std::cmp::Reverse(tenant.did.query.sum_us()));
    for tenant in all.iter().take(SHOWN) {
        let did = &tenant.did;
        table.rows.push(vec![
            (*tenant.name).into(),
            clients.get(&tenant.id).copied().unwrap_or_default().into(),
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
        ]);
    }
    table
}
