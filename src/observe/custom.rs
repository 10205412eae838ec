//! Custom metrics (`[[metric]]`): a task for each asks its query now and then, and writes what it finds on the board.
//!
//! A run has a connection of its own, in a transaction that may only read and within its time limit: it takes nothing
//! from the pools, and what it does wrong ends with the connection.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, pin_mut};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_postgres::types::Type;
use tokio_postgres::{SimpleQueryMessage, Statement};

use super::metrics::{Family, Kind, Labels, Value, label};
use crate::cluster::State;
use crate::config::{Metric, MetricKind, MetricPlace, is_label};
use crate::core::board::{Finding, Series};
use crate::core::clock::Instant;
use crate::core::limits::MAX_LABEL;
use crate::pool::connect::Target;
use crate::pool::driver::{self, Kept, Login};
use crate::session::shared::Shared;

/// What the server calls our connections.
pub const APPLICATION: &str = "turnpike metric";
/// The column that is the value, if there is one of that name.
const VALUE: &str = "value";
/// Runs at once, of all metrics.
const AT_ONCE: usize = 4;
/// What stands for what is not UTF-8.
const NO_TEXT: &str = "\u{fffd}";
/// How often it is looked whether the configuration has others now.
const ROUND: Duration = Duration::from_millis(500);
/// The first run of a metric begins within this time, or its interval where that is shorter; not at once, since who is a
/// replica must be found out.
const FIRST: Duration = Duration::from_secs(5);
/// Time beyond its limit after which a run is given up that the server does not end.
const GRACE: Duration = Duration::from_millis(500);
/// Intervals after which what was found is not told any more.
const STALE: u32 = 3;

/// A task that runs one metric; ends with the value.
struct Runner {
    metric: Metric,
    task: JoinHandle<()>,
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs the metrics of the configuration for as long as it is polled. Those that a reload does not change go on.
pub async fn run(shared: Arc<Shared>) {
    let mut runners: Vec<Runner> = Vec::new();
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let config = shared.config.load_full();
        runners.retain(|r| !r.task.is_finished() && config.metrics.contains(&r.metric));
        shared.board.retain(|name| config.metrics.iter().any(|m| m.name == name));
        for metric in &config.metrics {
            if runners.iter().any(|r| r.metric == *metric) {
                continue;
            }
            // What it meant before it was changed means nothing now.
            shared.board.retain(|name| name != metric.name);
            shared.board.note(&metric.name, |finding| introduce(finding, metric));
            let task = tokio::spawn(repeat(shared.clone(), metric.clone(), turns.clone()));
            runners.push(Runner { metric: metric.clone(), task });
        }
        tokio::time::sleep(ROUND).await;
    }
}

fn introduce(finding: &mut Finding, metric: &Metric) {
    *finding = Finding {
        help: metric.help.clone(),
        counter: metric.kind == MetricKind::Counter,
        database: metric.database.clone(),
        interval: metric.interval,
        ..Finding::default()
    };
}

/// One metric, again and again, one run after the other.
async fn repeat(shared: Arc<Shared>, metric: Metric, turns: Arc<Semaphore>) {
    let mut pause = part_of(FIRST.min(metric.interval), 0.5);
    let mut turn = 0;
    loop {
        tokio::time::sleep(pause).await;
        // Many metrics of one interval, and many processes, do not ask at the same time.
        pause = part_of(metric.interval, 0.9);
        let Ok(_permit) = turns.acquire().await else { return };
        // Who takes over asks now.
        if shared.closed() {
            continue;
        }
        let began = Instant::now();
        let outcome = attempt(&shared, &metric, turn).await;
        turn += 1;
        let (now, took) = (shared.unix_time(), began.elapsed());
        pause = pause.saturating_sub(took);
        shared.board.note(&metric.name, |finding| {
            finding.runs += 1;
            finding.took = took;
            match outcome {
                Ok(found) => {
                    (finding.series, finding.backend) = (found.series, found.backend);
                    finding.dropped += found.dropped;
                    (finding.last_success, finding.error) = (now, None);
                }
                Err(error) => {
                    tracing::debug!(metric = metric.name, error, "metric not found");
                    finding.failures += 1;
                    finding.error = Some(error);
                }
            }
        });
    }
}

/// Between `least` and all of a time.
fn part_of(time: Duration, least: f64) -> Duration {
    let dice = f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX);
    time.mul_f64(least + (1.0 - least) * dice)
}

/// What a run has found.
struct Found {
    series: Vec<Series>,
    dropped: u64,
    backend: String,
}

/// One run: asks one server after the other, until one answers or time is over.
async fn attempt(shared: &Shared, metric: &Metric, turn: usize) -> Result<Found, String> {
    let config = shared.config.load_full();
    let database = config.database(&metric.database).ok_or("its database is gone")?;
    let login = config.user(&metric.user).map(Login::of).ok_or("its user is gone")?;
    let dbname = database.dbname.as_deref().unwrap_or(&metric.database);
    let deadline = tokio::time::Instant::now() + metric.timeout + GRACE;
    let mut errors: Vec<String> = Vec::new();
    for target in targets(shared, metric, turn)? {
        let asked = async { ask(&open(&target, &login, dbname, metric.timeout / 2).await?, metric).await };
        let backend = target.name();
        match tokio::time::timeout_at(deadline, asked).await {
            Ok(Ok((series, dropped))) => return Ok(Found { series, dropped, backend: backend.to_string() }),
            Ok(Err((elsewhere, error))) => {
                errors.push(format!("{backend}: {error}"));
                if !elsewhere {
                    break;
                }
            }
            Err(_) => {
                errors.push(format!("{backend}: no answer within {:?}", metric.timeout));
                break;
            }
        }
    }
    Err(errors.join("; "))
}

/// Within this time, so that there is some left for another server.
async fn open(target: &Target, login: &Login, dbname: &str, within: Duration) -> Result<Kept, Failure> {
    match tokio::time::timeout(within, driver::kept(target, login, dbname, APPLICATION)).await {
        Ok(kept) => kept.map_err(|e| (true, format!("{} ({})", e.message, e.code))),
        Err(_) => Err((true, format!("no connection within {within:?}"))),
    }
}

/// The servers that may be asked: replicas in turn, those that are ejected last.
fn targets(shared: &Shared, metric: &Metric, turn: usize) -> Result<Vec<Arc<Target>>, String> {
    let config = shared.config.load();
    let database = config.database(&metric.database).ok_or("its database is gone")?;
    let Some(cluster) = database.cluster.as_ref().and_then(|name| shared.clusters.get(name)) else {
        return Ok(vec![shared.pools.target(database)]);
    };
    if metric.on == MetricPlace::Primary {
        let none = || format!("cluster \"{}\" has no primary", cluster.name());
        return Ok(vec![cluster.primary().ok_or_else(none)?.target.clone()]);
    }
    let members = cluster.members();
    let mut replicas: Vec<_> = members.iter().filter(|m| m.state() == State::Replica).collect();
    if replicas.is_empty() {
        return Err(format!("cluster \"{}\" has no replica", cluster.name()));
    }
    let first = turn % replicas.len();
    replicas.rotate_left(first);
    let now = Instant::now();
    replicas.sort_by_key(|m| m.health.report(now).standing != crate::route::Standing::In);
    Ok(replicas.into_iter().map(|m| m.target.clone()).collect())
}

/// An error, and whether another server may do better.
type Failure = (bool, String);

fn refused(e: tokio_postgres::Error) -> Failure {
    let Some(db) = e.as_db_error() else { return (true, format!("connection lost: {e}")) };
    let code = db.code().code();
    // Servers that go down or are not there yet, conflicts with recovery.
    let elsewhere = code.starts_with("57P") || code.starts_with("08") || code == "40001";
    // What such errors quote are values.
    let values = code.starts_with("22") || code.starts_with("23");
    let text = if values { "the data does not suit the query" } else { db.message() };
    (elsewhere, format!("{text} ({code})"))
}

async fn ask(kept: &Kept, metric: &Metric) -> Result<(Vec<Series>, u64), Failure> {
    let client = &kept.client;
    let limit = metric.timeout.as_millis();
    let begin = format!(
        "BEGIN READ ONLY; SET LOCAL statement_timeout = {limit}; SET LOCAL lock_timeout = {limit}; \
         SET LOCAL idle_in_transaction_session_timeout = {limit}"
    );
    client.batch_execute(&begin).await.map_err(refused)?;
    // Prepared, since that tells types, and refuses more than one statement.
    let statement = client.prepare(&metric.query).await.map_err(refused)?;
    let columns = Columns::of(&statement, metric.labels.as_deref()).map_err(|e| (false, e))?;
    let rows = client.simple_query_raw(&metric.query).await.map_err(refused)?;
    pin_mut!(rows);
    let (mut series, mut dropped, mut known) = (Vec::new(), 0, HashSet::new());
    while let Some(message) = rows.next().await {
        let SimpleQueryMessage::Row(row) = message.map_err(refused)? else { continue };
        let Some((labels, value)) =
            columns.read(|i| row.try_get(i).unwrap_or(Some(NO_TEXT))).map_err(|e| (false, e))?
        else {
            continue;
        };
        if series.len() >= metric.max_series || !known.insert(labels.clone()) {
            dropped += 1;
        } else {
            series.push((labels, value));
        }
    }
    Ok((series, dropped))
}

/// Which columns are what.
#[derive(Debug)]
struct Columns {
    value: usize,
    labels: Vec<(usize, String)>,
}

impl Columns {
    fn of(statement: &Statement, labels: Option<&[String]>) -> Result<Columns, String> {
        let columns: Vec<_> =
            statement.columns().iter().map(|c| (c.name().to_string(), is_number(c.type_()))).collect();
        Columns::choose(&columns, labels)
    }

    /// From their names, and whether they are numbers.
    fn choose(columns: &[(String, bool)], wanted: Option<&[String]>) -> Result<Columns, String> {
        let is_wanted = |name: &String| wanted.is_none_or(|wanted| wanted.contains(name));
        let named = columns.iter().position(|(name, _)| name == VALUE);
        let first = || {
            let free = |(name, number): &(String, bool)| *number && !(wanted.is_some() && is_wanted(name));
            columns.iter().position(free)
        };
        let value = named.or_else(first).ok_or("no column is a number")?;
        if columns.get(value).is_none_or(|(_, number)| !number) {
            return Err(format!("column \"{VALUE}\" is not a number"));
        }
        let labels: Vec<(usize, String)> = columns
            .iter()
            .enumerate()
            .filter(|(i, (name, _))| *i != value && is_wanted(name))
            .map(|(i, (name, _))| (i, name.clone()))
            .collect();
        let mut names: HashMap<&str, usize> = HashMap::new();
        for (_, name) in &labels {
            if !is_label(name) {
                return Err(format!(
                    "column \"{name}\" cannot be a label: name it otherwise, or list labels"
                ));
            }
            *names.entry(name).or_default() += 1;
        }
        if let Some((name, _)) = names.iter().find(|(_, n)| **n > 1) {
            return Err(format!("two columns are called \"{name}\""));
        }
        if let Some(missing) = wanted.into_iter().flatten().find(|name| !names.contains_key(name.as_str())) {
            return Err(format!("there is no column \"{missing}\""));
        }
        Ok(Columns { value, labels })
    }

    /// A row's series; `None` where its value is NULL.
    fn read<'r>(&self, field: impl Fn(usize) -> Option<&'r str>) -> Result<Option<Series>, String> {
        let Some(text) = field(self.value) else { return Ok(None) };
        let value = text.parse::<f64>().map_err(|_| "a value is not a number".to_string())?;
        let label = |(i, name): &(usize, String)| (name.clone(), cut(field(*i).unwrap_or_default()));
        Ok(Some((self.labels.iter().map(label).collect(), value)))
    }
}

/// A label's value within its bound.
fn cut(text: &str) -> String {
    let end = (0..=text.len().min(MAX_LABEL)).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or_default()).unwrap_or_default().to_string()
}

fn is_number(kind: &Type) -> bool {
    const NUMBERS: [Type; 7] =
        [Type::INT2, Type::INT4, Type::INT8, Type::FLOAT4, Type::FLOAT8, Type::NUMERIC, Type::OID];
    NUMBERS.contains(kind)
}

/// Custom metrics as they were last found, and how their runs go.
pub fn families(shared: &Shared) -> Vec<Family> {
    let now = shared.unix_time();
    shared.board.look(|findings| {
        let mut families: Vec<Family> =
            findings.iter().filter_map(|(name, finding)| family(name, finding, now)).collect();
        let of = |name: &'static str, kind, help: &'static str, read: fn(&Finding) -> f64| {
            let sample = |(name, finding): (&String, &Finding)| {
                (vec![label("metric", name.as_str())], Value::Number(read(finding)))
            };
            Family::of(name, kind, help, findings.iter().map(sample).collect())
        };
        families.extend([
            of("turnpike_metric_runs_total", Kind::Counter, "Runs of custom metrics.", |f| f.runs as f64),
            of("turnpike_metric_failures_total", Kind::Counter, "Runs of custom metrics that failed.", |f| {
                f.failures as f64
            }),
            of(
                "turnpike_metric_dropped_series_total",
                Kind::Counter,
                "Rows of custom metrics beyond max_series, or with the labels of another.",
                |f| f.dropped as f64,
            ),
            of("turnpike_metric_series", Kind::Gauge, "Series that the last run found.", |f| {
                f.series.len() as f64
            }),
            of(
                "turnpike_metric_last_success_timestamp_seconds",
                Kind::Gauge,
                "When a run last succeeded; 0 for never.",
                |f| f.last_success,
            ),
            of("turnpike_metric_duration_seconds", Kind::Gauge, "Time that the last run took.", |f| {
                f.took.as_secs_f64()
            }),
        ]);
        families
    })
}

/// What is too old is not told: nobody would notice that it does not change any more.
fn family(name: &str, finding: &Finding, now: f64) -> Option<Family> {
    let oldest = (finding.interval * STALE).as_secs_f64().max(1.0);
    if now - finding.last_success > oldest {
        return None;
    }
    let kind = if finding.counter { Kind::Counter } else { Kind::Gauge };
    let samples = finding.series.iter().map(|(labels, value)| {
        let labels: Labels = labels.iter().map(|(n, v)| (n.clone().into(), v.clone())).collect();
        (labels, Value::Number(*value))
    });
    Some(Family::of(name.to_string(), kind, finding.help.clone(), samples.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns as `name` or `name:n` for numbers, and what becomes of them.
    #[track_caller]
    fn check(columns: &str, labels: Option<&[&str]>, want: &str) {
        let columns: Vec<_> = columns
            .split(' ')
            .map(|c| c.strip_suffix(":n").map_or((c.to_string(), false), |c| (c.to_string(), true)))
            .collect();
        let labels = labels.map(|l| l.iter().map(ToString::to_string).collect::<Vec<_>>());
        let got = match Columns::choose(&columns, labels.as_deref()) {
            Ok(chosen) => {
                let labels: Vec<_> = chosen.labels.iter().map(|(_, name)| name.as_str()).collect();
                format!("{} by {}", columns[chosen.value].0, labels.join(","))
            }
            Err(e) => e,
        };
        assert_eq!(got, want);
    }

    #[test]
    fn columns_are_values_and_labels() {
        check("kind value:n", None, "value by kind");
        check("value:n kind n:n", None, "value by kind,n");
        check("kind n:n m:n", None, "n by kind,m");
        check("n:n m:n", Some(&["n"]), "m by n");
        check("kind n:n m:n", Some(&["kind"]), "n by kind");
        check("n:n", Some(&[]), "n by ");
        check("kind", None, "no column is a number");
        check("value kind:n", None, "column \"value\" is not a number");
        check(
            "?column? n:n",
            None,
            "column \"?column?\" cannot be a label: name it otherwise, or list labels",
        );
        check("job n:n", None, "column \"job\" cannot be a label: name it otherwise, or list labels");
        check("a a n:n", None, "two columns are called \"a\"");
        check("a n:n", Some(&["b"]), "there is no column \"b\"");
    }

    #[test]
    fn rows_are_series() {
        let columns = Columns { value: 0, labels: vec![(1, "a".into())] };
        let read = |row: [Option<&'static str>; 2]| columns.read(|i| row[i]);
        let of = |label: &str, value| Ok(Some((vec![("a".to_string(), label.to_string())], value)));
        assert_eq!(read([Some("1.5"), Some("x")]), of("x", 1.5));
        assert_eq!(read([Some("-Infinity"), None]), of("", f64::NEG_INFINITY));
        assert_eq!(read([None, Some("x")]), Ok(None));
        assert!(read([Some("1,5"), Some("x")]).is_err());
        assert_eq!(cut(&"\u{e9}".repeat(200)).len(), MAX_LABEL);
        assert_eq!(cut(&format!("x{}", "\u{e9}".repeat(200))).len(), MAX_LABEL - 1);
    }
}
