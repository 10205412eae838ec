//! SHOW REPORTS and SHOW CDNS.

use super::table::Table;
use crate::config::words::{CDN_KINDS, REPORT_ACCESS, REPORT_FORMATS, word};
use crate::session::shared::Shared;

/// Every `[[report]]`: what has become of those who asked, how its queries go, and by which tags it is purged.
pub fn reports(shared: &Shared) -> Table {
    let mut table = Table::new(
        "report database user format access ttl_ms:n purge answers:n not_modified:n refused:n failed:n kept:n runs:n \
         failures:n mean_us:n p99_us:n outdated:n backend tags error",
    );
    let config = shared.config.load();
    for report in config.report_list() {
        let account = shared.ledger.report(&report.name);
        let sum = |range: std::ops::Range<u16>| {
            account.answers().filter(|(status, _)| range.contains(status)).map(|(_, n)| n).sum::<u64>()
        };
        let access: Vec<_> = report.access.iter().map(|access| word(REPORT_ACCESS, access)).collect();
        let times = account.took.snapshot();
        let (mean, p99) = (times.mean() as u64, times.value_at_quantile(0.99));
        let last = account.last.lock().clone();
        table.rows.push(vec![
            report.name.as_str().into(),
            report.database.as_str().into(),
            report.user.as_str().into(),
            word(REPORT_FORMATS, &report.format).into(),
            access.join(",").into(),
            report.ttl.as_millis().into(),
            if report.purge { "on" } else { "off" }.into(),
            sum(200..300).into(),
            sum(304..305).into(),
            sum(400..500).into(),
            sum(500..600).into(),
            account.kept.get().into(),
            account.runs.get().into(),
            account.failures.get().into(),
            mean.into(),
            p99.into(),
            account.outdated.get().into(),
            last.backend.into(),
            last.tags.join(" ").into(),
            last.error.into(),
        ]);
    }
    table
}

/// Every `[[cdn]]`: what it has been told, and what it is to be told yet.
pub fn cdns(shared: &Shared) -> Table {
    let mut table =
        Table::new("cdn kind url requests:n failures:n tags:n waiting:n mean_us:n p99_us:n error");
    let config = shared.config.load();
    for cdn in config.reports.iter().flat_map(|reports| &reports.cdns) {
        let told = shared.ledger.cdn(&cdn.name);
        let times = told.took.snapshot();
        let (mean, p99) = (times.mean() as u64, times.value_at_quantile(0.99));
        let (waiting, error) = told.now.lock().clone();
        table.rows.push(vec![
            cdn.name.as_str().into(),
            word(CDN_KINDS, &cdn.kind).into(),
            cdn.url.as_str().into(),
            told.done.get().into(),
            told.failed.get().into(),
            told.tags.get().into(),
            waiting.into(),
            mean.into(),
            p99.into(),
            error.into(),
        ]);
    }
    table
}
