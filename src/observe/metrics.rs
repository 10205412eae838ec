//! Every metric as plain data: collected here, written out by `prometheus`.

use std::collections::BTreeMap;
use std::sync::Arc;

use hdrhistogram::Histogram;

use super::{clusters, process};
use crate::core::stats::{PoolRow, Traffic};
use crate::session::shared::{Shared, Totals};

/// What a metric's values do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grow.
    Counter,
    /// Go up and down.
    Gauge,
    /// Fall into buckets.
    Histogram,
}

/// One value, or one histogram of microseconds.
#[derive(Clone, Debug)]
pub enum Value {
    /// A number.
    Number(f64),
    /// Durations in microseconds.
    Micros(Box<Histogram<u64>>),
}

/// Label names and values.
pub type Labels = Vec<(&'static str, String)>;

/// A metric and its samples.
#[derive(Clone, Debug)]
pub struct Family {
    /// Name, with its unit.
    pub name: &'static str,
    /// What its values do.
    pub kind: Kind,
    /// One sentence.
    pub help: &'static str,
    /// Values by labels.
    pub samples: Vec<(Labels, Value)>,
}

impl Family {
    /// A metric without samples.
    pub fn new(name: &'static str, kind: Kind, help: &'static str) -> Family {
        Family { name, kind, help, samples: Vec::new() }
    }

    /// Adds a number.
    #[must_use]
    pub fn with(mut self, labels: &[(&'static str, &str)], value: f64) -> Family {
        let labels = labels.iter().map(|(n, v)| (*n, (*v).to_string())).collect();
        self.samples.push((labels, Value::Number(value)));
        self
    }
}

/// All metrics now.
pub fn collect(shared: &Shared) -> Vec<Family> {
    let version = env!("CARGO_PKG_VERSION");
    let build = Family::new("turnpike_build_info", Kind::Gauge, "Always 1; the version is in the label.");
    let mut families = vec![build.with(&[("version", version)], 1.0)];
    families.extend(totals(shared, &shared.totals));
    families.push(limits(&shared.totals));
    families.push(pinned(shared));
    families.extend(plans(shared));
    families.extend(pools(&shared.pools.pool_rows()));
    families.extend(clusters::families(shared));
    families.extend(process::families(shared.started));
    families
}

fn totals(shared: &Shared, t: &Totals) -> Vec<Family> {
    let one = |name, kind, help, value: u64| Family::new(name, kind, help).with(&[], value as f64);
    let clients = shared.client_count() as u64;
    use Kind::{Counter, Gauge};
    vec![
        one("turnpike_connections_accepted_total", Counter, "Connections accepted.", t.accepted.get()),
        one(
            "turnpike_connections_refused_total",
            Counter,
            "Connections refused before or in login.",
            t.refused.get(),
        ),
        one("turnpike_login_failures_total", Counter, "Logins that failed.", t.login_failures.get()),
        one("turnpike_connections", Gauge, "Connections open, logged in or not.", t.clients.get()),
        one("turnpike_clients", Gauge, "Clients logged in.", clients),
        one("turnpike_cancel_requests_total", Counter, "Cancel requests received.", t.cancels.get()),
        one(
            "turnpike_cancel_requests_unmatched_total",
            Counter,
            "Cancel requests with a wrong key.",
            t.cancels_unmatched.get(),
        ),
        one("turnpike_relay_buffer_bytes", Gauge, "Bytes of relay buffers allocated.", t.buffered.get()),
        one("turnpike_client_panics_total", Counter, "Client tasks that panicked.", t.panics.get()),
        one(
            "turnpike_client_protocol_violations_total",
            Counter,
            "Clients that broke the protocol.",
            t.client_violations.get(),
        ),
        one(
            "turnpike_backend_protocol_violations_total",
            Counter,
            "Backends that broke the protocol.",
            t.backend_violations.get(),
        ),
        one(
            "turnpike_draining",
            Gauge,
            "1 while the process is shutting down.",
            u64::from(shared.draining()),
        ),
    ]
}

/// What was refused for a limit, by its key.
fn limits(t: &Totals) -> Family {
    let family = Family::new("turnpike_limit_refusals_total", Kind::Counter, "What was refused for a limit.");
    [
        ("general.max_clients", &t.refused_clients),
        ("general.max_message_size", &t.refused_size),
        ("general.max_client_prepared", &t.refused_prepared),
        ("general.max_memory", &t.refused_memory),
        ("user.max_clients", &t.refused_user),
        ("database.max_clients", &t.refused_database),
    ]
    .into_iter()
    .fold(family, |family, (limit, counter)| family.with(&[("limit", limit)], counter.get() as f64))
}

/// Plans, and what was not understood. Shapes are no labels: there may be any number of them.
fn plans(shared: &Shared) -> Vec<Family> {
    let planner = &shared.planner;
    let (count, memory) = planner.store.size();
    let one = |name, kind, help, value: u64| Family::new(name, kind, help).with(&[], value as f64);
    let help = "Statements run that were not understood, by reason.";
    let gaps = Family::new("turnpike_statements_not_understood_total", Kind::Counter, help);
    vec![
        one("turnpike_plans", Kind::Gauge, "Plans kept.", count),
        one("turnpike_plan_bytes", Kind::Gauge, "About how much memory they take.", memory),
        one("turnpike_plans_built_total", Kind::Counter, "Plans built.", planner.store.built.get()),
        planner.gaps().fold(gaps, |family, (gap, n)| family.with(&[("reason", gap.label())], n as f64)),
    ]
}

/// Why clients keep their server connections.
fn pinned(shared: &Shared) -> Family {
    let mut causes: BTreeMap<&'static str, u64> = BTreeMap::new();
    for cause in shared.entries().iter().flat_map(|entry| entry.pins().labels()) {
        *causes.entry(cause).or_default() += 1;
    }
    let help = "Clients that keep their server connection between transactions, by cause.";
    let family = Family::new("turnpike_clients_pinned", Kind::Gauge, help);
    causes.iter().fold(family, |family, (cause, n)| family.with(&[("cause", cause)], *n as f64))
}

type Rows = [(PoolRow, Arc<Traffic>)];

fn pools(rows: &Rows) -> Vec<Family> {
    let mut families = gauges(rows);
    families.extend(counters(rows));
    families.extend(histograms(rows));
    families
}

fn labels(row: &PoolRow) -> Labels {
    vec![("database", row.database.clone()), ("user", row.user.clone()), ("backend", row.backend.clone())]
}

fn gauges(rows: &Rows) -> Vec<Family> {
    type Read = fn(&PoolRow) -> f64;
    const GAUGES: &[(&str, &str, Read)] = &[
        ("turnpike_pool_clients_active", "Clients with a server connection.", |r| r.cl_active as f64),
        ("turnpike_pool_clients_waiting", "Clients that wait for one.", |r| r.cl_waiting as f64),
        ("turnpike_pool_servers_active", "Server connections on loan.", |r| r.sv_active as f64),
        ("turnpike_pool_servers_idle", "Server connections idle.", |r| r.sv_idle as f64),
        ("turnpike_pool_servers_resetting", "Server connections being cleaned or fenced.", |r| {
            r.sv_resetting as f64
        }),
        ("turnpike_pool_servers_login", "Server connections being opened.", |r| r.sv_login as f64),
        ("turnpike_pool_cancels", "Cancel requests being delivered.", |r| r.cancels as f64),
        ("turnpike_pool_maxwait_seconds", "Age of the oldest waiter.", |r| r.maxwait.as_secs_f64()),
        ("turnpike_pool_size", "Most server connections allowed.", |r| f64::from(r.size)),
    ];
    GAUGES
        .iter()
        .map(|(name, help, read)| {
            let samples = rows.iter().map(|(row, _)| (labels(row), Value::Number(read(row)))).collect();
            Family { name, kind: Kind::Gauge, help, samples }
        })
        .collect()
}

const SECONDS: f64 = 1e-6;

fn counters(rows: &Rows) -> Vec<Family> {
    type Read = fn(&Traffic) -> f64;
    const COUNTERS: &[(&str, &str, Read)] = &[
        ("turnpike_transactions_total", "Transactions ended.", |t| t.xacts.get() as f64),
        ("turnpike_queries_total", "Statements ended.", |t| t.queries.get() as f64),
        ("turnpike_received_bytes_total", "Bytes received from clients.", |t| t.received.get() as f64),
        ("turnpike_sent_bytes_total", "Bytes sent to clients.", |t| t.sent.get() as f64),
        ("turnpike_transaction_seconds_total", "Time that servers were on loan.", |t| {
            t.xact_time_us.get() as f64 * SECONDS
        }),
        ("turnpike_query_seconds_total", "Time spent on statements.", |t| {
            t.query_time_us.get() as f64 * SECONDS
        }),
        ("turnpike_wait_seconds_total", "Time that clients waited for a server.", |t| {
            t.wait_time_us.get() as f64 * SECONDS
        }),
        ("turnpike_waits_total", "Clients that had to wait.", |t| t.waits.get() as f64),
        ("turnpike_errors_total", "Error responses passed to clients.", |t| t.errors.get() as f64),
        ("turnpike_client_parses_total", "Parse messages from clients.", |t| t.client_parses.get() as f64),
        ("turnpike_server_parses_total", "Parse messages to servers.", |t| t.server_parses.get() as f64),
        ("turnpike_binds_total", "Bind messages to servers.", |t| t.binds.get() as f64),
        ("turnpike_server_connects_total", "Server connections opened.", |t| t.server_connects.get() as f64),
        ("turnpike_server_connect_failures_total", "Server connections that could not be opened.", |t| {
            t.server_connect_failures.get() as f64
        }),
        ("turnpike_server_closes_total", "Server connections closed.", |t| t.server_closes.get() as f64),
    ];
    COUNTERS
        .iter()
        .map(|(name, help, read)| {
            let samples = rows.iter().map(|(row, t)| (labels(row), Value::Number(read(t)))).collect();
            Family { name, kind: Kind::Counter, help, samples }
        })
        .collect()
}

fn histograms(rows: &Rows) -> Vec<Family> {
    let family = |name, help, read: fn(&Traffic) -> Histogram<u64>| {
        let samples = rows.iter().map(|(row, t)| (labels(row), Value::Micros(Box::new(read(t))))).collect();
        Family { name, kind: Kind::Histogram, help, samples }
    };
    vec![
        family("turnpike_query_duration_seconds", "From a statement's first byte to ReadyForQuery.", |t| {
            t.query_latency.snapshot()
        }),
        family(
            "turnpike_wait_duration_seconds",
            "From wanting a server connection to having it, of those who waited.",
            |t| t.wait_latency.snapshot(),
        ),
    ]
}
