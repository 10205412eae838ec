//! SHOW BACKENDS and SHOW FENCES.

use super::table::Table;
use crate::config::words::{ROLES, word};
use crate::session::shared::Shared;

/// Fences that are shown.
const MOST: usize = 1000;

/// Every member of every cluster: what it is, how far, and how well, with all parts of the score.
pub fn backends(shared: &Shared) -> Table {
    let mut table = Table::new(
        "cluster backend host port:n state role timeline:n position lag_ms:n lag_bytes:n unreplayed_bytes:n passed:n \
         zone region distance:n weight:n share_permille:n standing ejections:n score:n lost_latency:n lost_errors:n \
         lost_connects:n lost_probe:n lost_lag:n lost_saturation:n lost_storage:n outstanding:n peak_us:n p50_us:n \
         p99_us:n answered:n failed:n probe_us:n probe_failures:n connections:n found",
    );
    let servers = shared.pools.server_rows();
    for m in shared.clusters.all().iter().flat_map(|cluster| cluster.member_rows()) {
        let (health, score) = (&m.health, &m.health.score);
        let connections = servers.iter().filter(|s| s.backend == m.backend).count();
        table.rows.push(vec![
            m.cluster.into(),
            m.backend.into(),
            m.host.into(),
            m.port.into(),
            m.state.label().into(),
            word(ROLES, &m.role).into(),
            m.timeline.into(),
            m.position.into(),
            m.lag.as_millis().into(),
            m.lag_bytes.into(),
            m.unreplayed_bytes.into(),
            m.passed.into(),
            m.zone.into(),
            m.region.into(),
            u32::from(m.level).into(),
            m.weight.into(),
            health.permille.into(),
            health.standing.label().into(),
            health.ejections.into(),
            u32::from(score.total).into(),
            u32::from(score.latency).into(),
            u32::from(score.errors).into(),
            u32::from(score.connects).into(),
            u32::from(score.probe).into(),
            u32::from(score.lag).into(),
            u32::from(score.saturation).into(),
            u32::from(score.storage).into(),
            health.outstanding.into(),
            health.peak_us.into(),
            health.summary.p50_us.into(),
            health.summary.p99_us.into(),
            health.answered.into(),
            health.failed.iter().sum::<u64>().into(),
            health.probe.round_trip.as_micros().into(),
            health.probe_failures.into(),
            connections.into(),
            if m.found { "yes" } else { "no" }.into(),
        ]);
    }
    table
}

/// What replicas may lack, by table: of every database the fence of everything, and those that are in somebody's way.
pub fn fences(shared: &Shared) -> Table {
    let mut table =
        Table::new("cluster database table oid:n fence:n behind:n lacking sample:n least_passed:n");
    for cluster in shared.clusters.all().iter() {
        let mut rows = cluster.fence_rows();
        rows.sort_by(|a, b| a.dbname.cmp(&b.dbname));
        rows.truncate(MOST.saturating_sub(table.rows.len()));
        for f in rows {
            let name =
                |oid: u32| shared.pools.table_name(&f.cluster, &f.dbname, oid).unwrap_or(oid.to_string());
            table.rows.push(vec![
                f.cluster.as_str().into(),
                f.dbname.as_str().into(),
                f.table.map_or("*".to_string(), name).into(),
                f.table.into(),
                f.fence.into(),
                f.behind.into(),
                f.lacking.join(", ").into(),
                f.now.into(),
                f.passed.into(),
            ]);
        }
    }
    table
}
