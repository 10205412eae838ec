//! `[[metric]]`: metrics of the business, asked of a database in SQL.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::check::unknown;
use super::raw::{Fault, Section};
use super::words::{METRIC_KINDS, METRIC_PLACES};
use super::{Database, Secret, User};

/// Most of them: each is a task, and a connection now and then.
const MOST: usize = 100;
const INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
/// What names begin with that mean something already.
const TAKEN: [&str; 5] = ["turnpike_", "process_", "scrape_", "prometheus_", "go_"];
/// What the names of a histogram's series end with.
const PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];
/// Labels that Prometheus gives itself, or that mean something to it.
const OWN_LABELS: [&str; 5] = ["job", "instance", "le", "quantile", "value"];

/// What the values of a metric do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Go up and down.
    Gauge,
    /// Only grow.
    Counter,
}

/// Who of a cluster is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricPlace {
    /// Any replica.
    Replica,
    /// The primary.
    Primary,
}

/// One `[[metric]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name, as Prometheus has it.
    pub name: String,
    /// What it is, in a sentence.
    pub help: String,
    /// What its values do.
    pub kind: MetricKind,
    /// The `[[database]]` that it is asked of.
    pub database: String,
    /// The `[[user]]` who asks.
    pub user: String,
    /// The query: a row for each series.
    pub query: String,
    /// Columns that are labels; `None` for all but the value.
    pub labels: Option<Vec<String>>,
    /// Time between two runs.
    pub interval: Duration,
    /// Longest time for one.
    pub timeout: Duration,
    /// Who of a cluster is asked.
    pub on: MetricPlace,
    /// Most series that are kept of an answer.
    pub max_series: usize,
}

/// `[[metric]]`
pub(super) fn metrics(sections: &[Section<'_>], databases: &[Database], users: &[User]) -> Vec<Metric> {
    if let Some(section) = sections.get(MOST) {
        section.report("", format!("there are more than {MOST} of them"));
    }
    sections.iter().map(|section| metric(section, databases, users)).collect()
}

fn metric(section: &Section<'_>, databases: &[Database], users: &[User]) -> Metric {
    let interval = section.duration("interval", INTERVALS).unwrap_or(Duration::from_secs(60));
    let timeout = section.duration("timeout", TIMEOUTS).unwrap_or(Duration::from_secs(5).min(interval));
    if timeout > interval {
        section.report("timeout", "is longer than interval: a run must end before the next begins");
    }
    let kind = section.word("type", METRIC_KINDS).unwrap_or(MetricKind::Gauge);
    let database = section.required("database");
    let served = databases.iter().find(|d| d.name == database || d.name == "*");
    if served.is_none() && !database.is_empty() {
        section.report(
            "database",
            unknown("[[database]]", &database, databases.iter().map(|d| d.name.as_str())),
        );
    }
    Metric {
        name: name(section, kind),
        help: section.required("help"),
        kind,
        user: asker(section, served, users, "a metric"),
        database,
        query: section.required("query"),
        labels: section.parsed("labels", label),
        interval,
        timeout,
        on: section.word("on", METRIC_PLACES).unwrap_or(MetricPlace::Replica),
        max_series: section.number("max_series", 1..=10_000).unwrap_or(1000),
    }
}

/// Whether Prometheus takes it for a name of a label; of a metric, too, but for colons, which are for recording rules.
pub fn is_name(text: &str) -> bool {
    let head = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    head && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether a column may be a label.
pub fn is_label(text: &str) -> bool {
    is_name(text) && !text.starts_with("__") && !OWN_LABELS.contains(&text)
}

fn name(section: &Section<'_>, kind: MetricKind) -> String {
    let name = section.required("name");
    let total = name.ends_with("_total");
    if name.is_empty() {
    } else if !is_name(&name) {
        let fault = Fault::from(format!("{name:?} is no name of a metric"));
        section.report("name", fault.hint("letters, digits and _, such as audit_events_per_minute"));
    } else if name == "up" || TAKEN.iter().any(|taken| name.starts_with(taken)) {
        let fault = Fault::from(format!("{name:?} is taken"));
        section.report("name", fault.hint("names of Turnpike, processes and Prometheus are not for others"));
    } else if PARTS.iter().any(|part| name.ends_with(part)) {
        section.report("name", format!("{name:?} ends like a part of a histogram"));
    } else if total != (kind == MetricKind::Counter) {
        let fault = Fault::from("the name of a counter, and of nothing else, ends with _total");
        section.report("name", fault);
    }
    name
}

fn label(text: &str) -> Result<String, Fault> {
    let fault = || Fault::from(format!("{text:?} is no name of a label"));
    is_label(text).then(|| text.to_string()).ok_or_else(fault)
}

/// Who asks: whoever is named, or whom the database logs in as. It must be able to log in by itself.
pub(super) fn asker(
    section: &Section<'_>,
    database: Option<&Database>,
    users: &[User],
    what: &str,
) -> String {
    let named = section.text("user");
    let Some(name) = named.or_else(|| database.and_then(|d| d.user.clone())) else {
        if database.is_some() && !section.has("user") {
            section.report("user", format!("is missing: {what} is asked as a [[user]]"));
        }
        return String::new();
    };
    match users.iter().find(|user| user.name == name) {
        None => {
            section.report("user", unknown("[[user]]", &name, users.iter().map(|user| user.name.as_str())));
        }
        Some(User { secret: Secret::ScramVerifier(_), .. }) => {
            let fault = Fault::from(format!("[[user]] {name:?} has no password to log in with"));
            let hint = "set its password_env or password_file; a SCRAM verifier proves nothing to a backend";
            section.report("user", fault.hint(hint));
        }
        Some(_) => {}
    }
    name
}
