//! Metrics of reports and of what CDNs are told: as many as the configuration has.

use super::buckets::Buckets;
use super::metrics::{Family, Kind, Value, label};
use crate::core::ledger::{Account, Told};
use crate::session::shared::Shared;

/// All of them.
pub fn families(shared: &Shared) -> Vec<Family> {
    let mut families = of_reports(shared);
    families.extend(of_cdns(shared));
    families
}

fn of_reports(shared: &Shared) -> Vec<Family> {
    let all = shared.ledger.reports();
    let of = |name: &'static str, help: &'static str, read: fn(&Account) -> f64| {
        let sample = |(report, account): &(String, std::sync::Arc<Account>)| {
            (vec![label("report", report)], Value::Number(read(account)))
        };
        Family::of(name, Kind::Counter, help, all.iter().map(sample).collect())
    };
    let answers = all.iter().flat_map(|(report, account)| {
        let sample = |(status, n): (u16, u64)| {
            (vec![label("report", report), label("status", status.to_string())], Value::Number(n as f64))
        };
        account.answers().map(sample).collect::<Vec<_>>()
    });
    let times = all.iter().map(|(report, account)| {
        let buckets = Buckets::of(&account.took.snapshot());
        (vec![label("report", report)], Value::Durations(Box::new(buckets)))
    });
    vec![
        Family::of(
            "turnpike_report_answers_total",
            Kind::Counter,
            "Answers over HTTP, by status; 500 stands for any that is not told apart.",
            answers.collect(),
        ),
        of("turnpike_report_kept_total", "Answers that took no query: their results were kept here.", |a| {
            a.kept.get() as f64
        }),
        of("turnpike_report_runs_total", "Queries of reports run.", |a| a.runs.get() as f64),
        of("turnpike_report_failures_total", "Queries of reports that failed.", |a| a.failures.get() as f64),
        of(
            "turnpike_report_outdated_total",
            "Times that a report was found to be outdated by a write.",
            |a| a.outdated.get() as f64,
        ),
        Family::of(
            "turnpike_report_duration_seconds",
            Kind::Histogram,
            "Time of queries of reports that did not fail, opening a connection included.",
            times.collect(),
        ),
    ]
}

fn of_cdns(shared: &Shared) -> Vec<Family> {
    let all = shared.ledger.cdns();
    let of = |name: &'static str, kind, help: &'static str, read: fn(&Told) -> f64| {
        let sample = |(cdn, told): &(String, std::sync::Arc<Told>)| {
            (vec![label("cdn", cdn)], Value::Number(read(told)))
        };
        Family::of(name, kind, help, all.iter().map(sample).collect())
    };
    let times = all.iter().map(|(cdn, told)| {
        let buckets = Buckets::of(&told.took.snapshot());
        (vec![label("cdn", cdn)], Value::Durations(Box::new(buckets)))
    });
    vec![
        of("turnpike_cdn_requests_total", Kind::Counter, "Requests that a CDN has taken.", |t| {
            t.done.get() as f64
        }),
        of("turnpike_cdn_failures_total", Kind::Counter, "Requests that it has not taken.", |t| {
            t.failed.get() as f64
        }),
        of("turnpike_cdn_tags_total", Kind::Counter, "Tags that it was told are outdated.", |t| {
            t.tags.get() as f64
        }),
        of("turnpike_cdn_waiting", Kind::Gauge, "Tags that it is to be told yet, or again.", |t| {
            t.now.lock().0 as f64
        }),
        Family::of(
            "turnpike_cdn_duration_seconds",
            Kind::Histogram,
            "From finding that something is outdated to the CDN's having been told.",
            times.collect(),
        ),
    ]
}
