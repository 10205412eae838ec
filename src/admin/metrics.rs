//! SHOW METRICS.

use super::table::Table;
use crate::config::words::{METRIC_PLACES, word};
use crate::session::shared::Shared;

/// Every `[[metric]]`: what it asks of whom, how its runs go, why the last one failed.
pub fn metrics(shared: &Shared) -> Table {
    let mut table = Table::new(
        "metric database on user interval_ms:n timeout_ms:n series:n dropped:n runs:n failures:n last_success_age:n \
         duration_ms:n backend error",
    );
    let (config, now) = (shared.config.load(), shared.unix_time());
    shared.board.look(|findings| {
        for metric in &config.metrics {
            let finding = findings.get(&metric.name).cloned().unwrap_or_default();
            let age = (finding.last_success > 0.0).then(|| (now - finding.last_success).max(0.0) as u64);
            table.rows.push(vec![
                metric.name.as_str().into(),
                metric.database.as_str().into(),
                word(METRIC_PLACES, &metric.on).into(),
                metric.user.as_str().into(),
                metric.interval.as_millis().into(),
                metric.timeout.as_millis().into(),
                finding.series.len().into(),
                finding.dropped.into(),
                finding.runs.into(),
                finding.failures.into(),
                age.into(),
                finding.took.as_millis().into(),
                finding.backend.into(),
                finding.error.into(),
            ]);
        }
    });
    table
}
