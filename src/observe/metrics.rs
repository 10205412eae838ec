//! Every metric as plain data: collected here, written out by `prometheus`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use hdrhistogram::Histogram;

use super::buckets::Buckets;
use super::shapes::Shapes;
use super::tenants::TenantSeries;
use super::{adaptive, cache, clusters, custom, mirrors, process, reports};
use crate::core::stats::{PoolRow, Traffic};
use crate::core::tally::Tally;
use crate::session::shared::{Shared, Totals};
use crate::sql::effect::Traces;

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

/// One value, or one histogram of durations.
#[derive(Clone, Debug)]
pub enum Value {
    /// A number.
    Number(f64),
    /// Durations.
    Durations(Box<Buckets>),
}

/// Label names and values.
pub type Labels = Vec<(Cow<'static, str>, String)>;

/// A label whose name we have chosen.
pub fn label(name: &'static str, value: impl Into<String>) -> (Cow<'static, str>, String) {
    (name.into(), value.into())
}

/// A metric and its samples.
#[derive(Clone, Debug)]
pub struct Family {
    /// Name, with its unit.
    pub name: Cow<'static, str>,
    /// What its values do.
    pub kind: Kind,
    /// One sentence.
    pub help: Cow<'static, str>,
    /// Values by labels.
    pub samples: Vec<(Labels, Value)>,
}

impl Family {
    /// A metric without samples.
    pub fn new(name: &'static str, kind: Kind, help: &'static str) -> Family {
        Family::of(name, kind, help, Vec::new())
    }

    /// A metric with these samples.
    pub fn of(
        name: impl Into<Cow<'static, str>>,
        kind: Kind,
        help: impl Into<Cow<'static, str>>,
        samples: Vec<(Labels, Value)>,
    ) -> Family {
        Family { name: name.into(), kind, help: help.into(), samples }
    }

    /// Adds a number.
    #[must_use]
    pub fn with(mut self, labels: &[(&'static str, &str)], value: f64) -> Family {
        let labels = labels.iter().map(|(n, v)| label(n, *v)).collect();
        self.samples.push((labels, Value::Number(value)));
        self
    }
}

/// What has been told of already, where that decides about what is told next. One for the process.
#[derive(Debug, Default)]
pub struct Told {
    shapes: Shapes,
    tenants: TenantSeries,
}

/// All metrics now.
pub fn collect(shared: &Shared, told: &Told) -> Vec<Family> {
    let version = env!("CARGO_PKG_VERSION");
    let build = Family::new("turnpike_build_info", Kind::Gauge, "Always 1; the version is in the label.");
    let mut families = vec![build.with(&[("version", version)], 1.0)];
    families.extend(totals(shared, &shared.totals));
    families.push(limits(&shared.totals));
    families.push(pinned(shared));
    families.push(errors(&shared.totals));
    families.extend(reloads(&shared.totals));
    families.extend(plans(shared));
    families.push(rules(shared));
    families.extend(cache::families(shared));
    families.extend(told.shapes.families(&shared.planner.store.all()));
    let tenants = &shared.pools.tenants;
    families.extend(told.tenants.families(&tenants.all(), tenants.naming().is_on()));
    families.extend(pools(shared.pools.traffic_rows()));
    families.extend(adaptive::families(shared));
    families.extend(clusters::families(shared));
    families.extend(process::families(shared.started));
    families.extend(mirrors::families(shared));
    families.extend(reports::families(shared));
    families.extend(custom::families(shared));
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

/// Classes of errors that are told of though there were none: what alerts and dashboards ask for exists from the start.
const USUAL: [&str; 9] = ["08", "22", "23", "25", "28", "40", "42", "53", "57"];

/// Errors, by the class of their SQLSTATE.
fn errors(t: &Totals) -> Family {
    let help =
        "Errors that clients were told, by class of SQLSTATE, and whether a server or Turnpike made them.";
    let mut family = Family::new("turnpike_errors_by_class_total", Kind::Counter, help);
    let mut of = |source: &str, tally: &Tally| {
        for (class, n) in tally.rows().filter(|(class, n)| *n > 0 || USUAL.contains(class)) {
            let labels = vec![label("class", class), label("source", source)];
            family.samples.push((labels, Value::Number(n as f64)));
        }
    };
    of("server", &t.server_errors);
    of("turnpike", &t.own_errors);
    family
}

/// The configuration's fate.
fn reloads(t: &Totals) -> Vec<Family> {
    let one = |name, kind, help, value: u64| Family::new(name, kind, help).with(&[], value as f64);
    let ok = 1 - t.reload_failed.get().min(1);
    vec![
        one("turnpike_config_reloads_total", Kind::Counter, "Reloads put into use.", t.reloads.get()),
        one(
            "turnpike_config_reload_failures_total",
            Kind::Counter,
            "Reloads that changed nothing since something was wrong.",
            t.reload_failures.get(),
        ),
        one(
            "turnpike_config_last_reload_successful",
            Kind::Gauge,
            "0 where the file could not be put into use when last tried.",
            ok,
        ),
        one(
            "turnpike_config_pending_restart_keys",
            Kind::Gauge,
            "Keys whose new values wait for a restart.",
            t.pending_restart.get(),
        ),
    ]
}

/// Reads that each `[[route]]` has decided about: as many as the configuration has.
fn rules(shared: &Shared) -> Family {
    let rules = shared.planner.rules();
    let samples = rules.rows().enumerate().map(|(i, (rule, reads, _))| {
        let about = rule.conditions().into_iter().map(|(key, value)| format!("{key}={value}"));
        let about = about.collect::<Vec<_>>().join(" ");
        (vec![label("rule", (i + 1).to_string()), label("about", about)], Value::Number(reads as f64))
    });
    let help = "Reads that a [[route]] has decided about, since it is in use.";
    Family::of("turnpike_route_rule_reads_total", Kind::Counter, help, samples.collect())
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
        one(
            "turnpike_plan_lookups_total",
            Kind::Counter,
            "Times that a plan was looked for: those that were not built had been there.",
            planner.store.lookups.get(),
        ),
        planner.gaps().fold(gaps, |family, (gap, n)| family.with(&[("reason", gap.label())], n as f64)),
    ]
}

/// Why clients keep their server connections.
fn pinned(shared: &Shared) -> Family {
    let mut causes: BTreeMap<&'static str, u64> = Traces::all_labels().map(|label| (label, 0)).collect();
    for cause in shared.entries().iter().flat_map(|entry| entry.pins().labels()) {
        *causes.entry(cause).or_default() += 1;
    }
    let help = "Clients that keep their server connection between transactions, by cause.";
    let family = Family::new("turnpike_clients_pinned", Kind::Gauge, help);
    causes.iter().fold(family, |family, (cause, n)| family.with(&[("cause", cause)], *n as f64))
}

/// Pools with the same labels: those of tenants that have connections of their own count with the others of their
/// database, user and backend, as there may be any number of them.
type Rows = BTreeMap<[String; 3], Vec<(PoolRow, Arc<Traffic>)>>;

fn pools(rows: Vec<(PoolRow, Arc<Traffic>)>) -> Vec<Family> {
    let mut groups = Rows::new();
    for (row, traffic) in rows {
        let key = [row.database.clone(), row.user.clone(), row.backend.clone()];
        groups.entry(key).or_default().push((row, traffic));
    }
    let mut families = gauges(&groups);
    families.extend(counters(&groups));
    families.extend(histograms(&groups));
    families
}

fn labels([database, user, backend]: &[String; 3]) -> Labels {
    vec![label("database", database), label("user", user), label("backend", backend)]
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
        ("turnpike_pool_size", "Most server connections allowed now.", |r| f64::from(r.size)),
        ("turnpike_pool_max_size", "Most server connections that may ever be allowed.", |r| {
            f64::from(r.max_size)
        }),
    ];
    GAUGES
        .iter()
        .map(|(name, help, read)| {
            // The oldest of all, and of everything else the sum.
            let most = name.contains("max");
            let both = |a: f64, b: f64| if most { a.max(b) } else { a + b };
            let of =
                |pools: &[(PoolRow, Arc<Traffic>)]| pools.iter().map(|(row, _)| read(row)).fold(0.0, both);
            let samples = rows.iter().map(|(key, pools)| (labels(key), Value::Number(of(pools)))).collect();
            Family::of(*name, Kind::Gauge, *help, samples)
        })
        .collect()
}

const SECONDS: f64 = 1e-6;

fn counters(rows: &Rows) -> Vec<Family> {
    type Read = fn(&Traffic) -> f64;
    const COUNTERS: &[(&str, &str, Read)] = &[
        ("turnpike_transactions_total", "Transactions ended.", |t| t.sum(|w| &w.xacts) as f64),
        ("turnpike_queries_total", "Statements ended.", |t| t.sum(|w| &w.queries) as f64),
        ("turnpike_received_bytes_total", "Bytes received from clients.", |t| t.sum(|w| &w.received) as f64),
        ("turnpike_sent_bytes_total", "Bytes sent to clients.", |t| t.sum(|w| &w.sent) as f64),
        ("turnpike_transaction_seconds_total", "Time that servers were on loan.", |t| {
            t.sum(|w| &w.xact_time_us) as f64 * SECONDS
        }),
        ("turnpike_query_seconds_total", "Time spent on statements.", |t| {
            t.sum(|w| &w.query_time_us) as f64 * SECONDS
        }),
        ("turnpike_wait_seconds_total", "Time that clients waited for a server.", |t| {
            t.wait_time_us.get() as f64 * SECONDS
        }),
        ("turnpike_waits_total", "Clients that had to wait.", |t| t.waits.get() as f64),
        ("turnpike_shed_total", "Clients sent away for a limit on those who wait.", |t| t.shed.get() as f64),
        ("turnpike_errors_total", "Error responses passed to clients.", |t| t.errors.get() as f64),
        ("turnpike_client_parses_total", "Parse messages from clients.", |t| {
            t.sum(|w| &w.client_parses) as f64
        }),
        ("turnpike_server_parses_total", "Parse messages to servers.", |t| {
            t.sum(|w| &w.server_parses) as f64
        }),
        ("turnpike_binds_total", "Bind messages to servers.", |t| t.sum(|w| &w.binds) as f64),
        ("turnpike_server_connects_total", "Server connections opened.", |t| t.server_connects.get() as f64),
        ("turnpike_server_connect_failures_total", "Server connections that could not be opened.", |t| {
            t.server_connect_failures.get() as f64
        }),
        ("turnpike_server_closes_total", "Server connections closed.", |t| t.server_closes.get() as f64),
    ];
    COUNTERS
        .iter()
        .map(|(name, help, read)| {
            let of = |pools: &[(PoolRow, Arc<Traffic>)]| pools.iter().map(|(_, t)| read(t)).sum();
            let samples = rows.iter().map(|(key, pools)| (labels(key), Value::Number(of(pools)))).collect();
            Family::of(*name, Kind::Counter, *help, samples)
        })
        .collect()
}

fn histograms(rows: &Rows) -> Vec<Family> {
    let family = |name: &'static str, help: &'static str, read: fn(&Traffic) -> Histogram<u64>| {
        let value = |pools: &[(PoolRow, Arc<Traffic>)]| {
            let mut all = Buckets::default();
            pools.iter().for_each(|(_, t)| all.add_growth(&Buckets::default(), &Buckets::of(&read(t))));
            Value::Durations(Box::new(all))
        };
        let samples = rows.iter().map(|(key, pools)| (labels(key), value(pools))).collect();
        Family::of(name, Kind::Histogram, help, samples)
    };
    vec![
        family("turnpike_query_duration_seconds", "From a statement's first byte to ReadyForQuery.", |t| {
            t.query_latency()
        }),
        family(
            "turnpike_wait_duration_seconds",
            "From wanting a server connection to having it, of those who waited.",
            |t| t.wait_latency.snapshot(),
        ),
    ]
}
