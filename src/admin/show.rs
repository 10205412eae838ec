//! What SHOW shows, command by command.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::table::{Cell, Table};
use super::{backends, cache, limits, metrics, mirrors, plans, reports, routes, tenants};
use crate::config::Size;
use crate::core::stats::{PoolRow, Traffic};
use crate::observe::process;
use crate::pool::mode_name;
use crate::session::shared::Shared;

/// One SHOW command.
pub struct Command {
    /// What comes after SHOW.
    pub names: &'static [&'static str],
    /// One line of help.
    pub help: &'static str,
    /// Looks around.
    pub run: fn(&Shared) -> Table,
}

/// All of them. Adding one is adding a line.
pub const COMMANDS: &[Command] = &[
    Command { names: &["clients"], help: "clients, what they do, and why they keep a server", run: clients },
    Command { names: &["servers"], help: "server connections and who has them", run: servers },
    Command { names: &["pools"], help: "pools: who is served, who waits", run: pools },
    Command {
        names: &["limits"],
        help: "backends with adaptive pools: how much at once, and why",
        run: limits::limits,
    },
    Command { names: &["databases"], help: "databases and where they are", run: databases },
    Command {
        names: &["backends"],
        help: "members of clusters: what they are, how far, how well",
        run: backends::backends,
    },
    Command {
        names: &["fences"],
        help: "writes that replicas may not have seen, per table",
        run: backends::fences,
    },
    Command {
        names: &["routes"],
        help: "[[route]] rules, and the reads that they have decided about",
        run: routes::routes,
    },
    Command { names: &["cache"], help: "results that are kept, and why others are not", run: cache::cache },
    Command { names: &["metrics"], help: "custom metrics: how their queries go", run: metrics::metrics },
    Command {
        names: &["mirrors"],
        help: "[[mirror]]: what became of the traffic, in what answers differ",
        run: mirrors::mirrors,
    },
    Command {
        names: &["mirror"],
        help: "the same by shape, of all mirrors or the one that is named",
        run: |shared| mirrors::shapes(shared, None),
    },
    Command {
        names: &["recording"],
        help: "the recording that there is, or the last one",
        run: mirrors::recording,
    },
    Command {
        names: &["reports"],
        help: "[[report]]: who asks over HTTP, and how their queries go",
        run: reports::reports,
    },
    Command { names: &["cdns"], help: "[[cdn]]: what they are told is outdated", run: reports::cdns },
    Command {
        names: &["tenants"],
        help: "tenants: what they may have, have, and have done; of all, or of those that are named ('a*')",
        run: tenants::tenants,
    },
    Command { names: &["users"], help: "users of the configuration", run: users },
    Command { names: &["stats"], help: "totals and averages per database", run: stats },
    Command { names: &["stats_totals"], help: "totals per database", run: stats_totals },
    Command { names: &["stats_averages"], help: "averages per second, per database", run: stats_averages },
    Command { names: &["lists"], help: "how many there are of each", run: lists },
    Command { names: &["config"], help: "the configuration, secrets left out", run: config },
    Command {
        names: &["plans"],
        help: "shapes of statements: what was decided, what they did",
        run: plans::plans,
    },
    Command {
        names: &["fallbacks"],
        help: "statements that are not understood, and why",
        run: plans::fallbacks,
    },
    Command { names: &["memory", "mem"], help: "memory, by what it is used for", run: memory },
    Command { names: &["version"], help: "the version", run: version },
    Command { names: &["help"], help: "this list", run: |_| help() },
];

/// SHOW HELP.
pub fn help() -> Table {
    let mut table = Table::new("command description");
    for command in COMMANDS {
        table
            .rows
            .push(vec![format!("SHOW {}", command.names[0].to_uppercase()).into(), command.help.into()]);
    }
    for (usage, help) in super::operate::COMMANDS {
        table.rows.push(vec![(*usage).into(), (*help).into()]);
    }
    table
}

/// `2026-01-31 12:00:00 UTC` (civil from days, Howard Hinnant's algorithm).
fn time(at: SystemTime) -> String {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, rest) = ((seconds / 86_400) as i64 + 719_468, seconds % 86_400);
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (h, m, s) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02} UTC")
}

fn clients(shared: &Shared) -> Table {
    let mut table = Table::new(
        "type user database replication state addr port:n local_addr local_port:n connect_time request_time \
         wait:n wait_us:n close_needed:n ptr link remote_pid:n tls application_name prepared_statements:n id:n pins tenant",
    );
    let mut rows = shared.client_rows();
    rows.sort_by_key(|c| c.id);
    for c in rows {
        let waiting = c.waiting;
        table.rows.push(vec![
            "C".into(),
            c.user.into(),
            c.database.into(),
            "none".into(),
            c.state.into(),
            c.addr.map_or("unix".to_string(), |a| a.ip().to_string()).into(),
            c.addr.map_or(0, |a| a.port()).into(),
            c.local_addr.map_or("unix".to_string(), |a| a.ip().to_string()).into(),
            c.local_addr.map_or(0, |a| a.port()).into(),
            time(c.connect_time).into(),
            time(c.request_time).into(),
            waiting.as_secs().into(),
            waiting.subsec_micros().into(),
            0u32.into(),
            format!("c{}", c.id).into(),
            c.link.map_or(String::new(), |id| format!("s{id}")).into(),
            c.pid.into(),
            c.tls.into(),
            c.application_name.into(),
            c.prepared_statements.into(),
            c.id.into(),
            c.pins.join(", ").into(),
            c.tenant.into(),
        ]);
    }
    table
}

fn servers(shared: &Shared) -> Table {
    let mut table = Table::new(
        "type user database replication state addr port:n local_addr local_port:n connect_time request_time \
         wait:n wait_us:n close_needed:n ptr link remote_pid:n tls application_name prepared_statements:n id:n backend \
         round_trip_us:n errors:n age_s:n",
    );
    let mut rows = shared.pools.server_rows();
    rows.sort_by_key(|s| s.id);
    // As the client that has it calls itself.
    let names: HashMap<u64, String> =
        shared.client_rows().into_iter().map(|c| (c.id, c.application_name)).collect();
    for s in rows {
        let name = s.link.and_then(|id| names.get(&id)).cloned().unwrap_or_default();
        table.rows.push(vec![
            "S".into(),
            s.user.into(),
            s.database.into(),
            "none".into(),
            s.state.into(),
            s.host.into(),
            s.port.into(),
            s.local_addr.map_or("unix".to_string(), |a| a.ip().to_string()).into(),
            s.local_addr.map_or(0, |a| a.port()).into(),
            time(s.connect_time).into(),
            time(s.request_time).into(),
            0u32.into(),
            0u32.into(),
            0u32.into(),
            format!("s{}", s.id).into(),
            s.link.map_or(String::new(), |id| format!("c{id}")).into(),
            s.remote_pid.into(),
            s.tls.into(),
            name.into(),
            s.prepared_statements.into(),
            s.id.into(),
            s.backend.into(),
            s.round_trip.as_micros().into(),
            s.errors.into(),
            s.age.as_secs().into(),
        ]);
    }
    table
}

fn sorted_pools(shared: &Shared) -> Vec<(PoolRow, Arc<Traffic>)> {
    let mut rows = shared.pools.pool_rows();
    rows.sort_by(|(a, _), (b, _)| (&a.database, &a.user).cmp(&(&b.database, &b.user)));
    rows
}

fn pools(shared: &Shared) -> Table {
    let mut table = Table::new(
        "database user cl_active:n cl_waiting:n cl_active_cancel_req:n cl_waiting_cancel_req:n sv_active:n \
         sv_active_cancel:n sv_being_canceled:n sv_idle:n sv_used:n sv_tested:n sv_login:n maxwait:n maxwait_us:n \
         pool_mode backend pool_size:n max_size:n tenant",
    );
    for (p, _) in sorted_pools(shared) {
        table.rows.push(vec![
            p.database.into(),
            p.user.into(),
            p.cl_active.into(),
            p.cl_waiting.into(),
            p.cancels.into(),
            0u32.into(),
            p.sv_active.into(),
            p.cancels.into(),
            p.cancels.into(),
            p.sv_idle.into(),
            0u32.into(),
            p.sv_resetting.into(),
            p.sv_login.into(),
            p.maxwait.as_secs().into(),
            p.maxwait.subsec_micros().into(),
            p.mode.into(),
            p.backend.into(),
            p.size.into(),
            p.max_size.into(),
            p.tenant.into(),
        ]);
    }
    table
}

fn databases(shared: &Shared) -> Table {
    let mut table = Table::new(
        "name host port:n database force_user pool_size:n min_pool_size:n reserve_pool_size:n pool_mode \
         max_connections:n current_connections:n paused:n disabled:n backend",
    );
    let config = shared.config.load();
    let pools = shared.pools.pool_rows();
    for d in &config.databases {
        // Of a database on a cluster, where its clients go now.
        let target = shared.pools.target(d);
        let served = |p: &PoolRow| {
            p.database == d.name || d.name == "*" && config.databases.iter().all(|o| o.name != p.database)
        };
        let current: u64 = pools.iter().filter(|(p, _)| served(p)).map(|(p, _)| connections(p)).sum();
        table.rows.push(vec![
            d.name.as_str().into(),
            target.host().into(),
            target.port().into(),
            d.dbname.as_deref().unwrap_or(&d.name).into(),
            d.user.as_deref().map(Cell::from).unwrap_or(Cell::Null),
            d.pool.most().into(),
            d.pool.min.into(),
            d.pool.reserve.into(),
            mode_name(d.pool.mode).into(),
            d.max_connections.into(),
            current.into(),
            u32::from(shared.pools.is_paused(&d.name)).into(),
            u32::from(shared.pools.is_disabled(&d.name)).into(),
            target.name().into(),
        ]);
    }
    table
}

fn connections(p: &PoolRow) -> u64 {
    p.sv_active + p.sv_idle + p.sv_login + p.sv_resetting
}

fn users(shared: &Shared) -> Table {
    let mut table = Table::new("name pool_size:n pool_mode max_user_connections:n current_connections:n");
    let config = shared.config.load();
    let pools = shared.pools.pool_rows();
    for u in &config.users {
        let current: u64 = pools.iter().filter(|(p, _)| p.user == u.name).map(|(p, _)| connections(p)).sum();
        table.rows.push(vec![
            u.name.as_str().into(),
            u.pool_size.and_then(Size::fixed).into(),
            u.pool_mode.map(mode_name).into(),
            u.max_connections.into(),
            current.into(),
        ]);
    }
    table
}

type Read = fn(&Traffic) -> u64;

/// The counters of SHOW STATS, in PgBouncer's order.
const COUNTERS: &[(&str, Read)] = &[
    ("server_assignment_count", |t| t.sum(|w| &w.xacts)),
    ("xact_count", |t| t.sum(|w| &w.xacts)),
    ("query_count", |t| t.sum(|w| &w.queries)),
    ("received", |t| t.sum(|w| &w.received)),
    ("sent", |t| t.sum(|w| &w.sent)),
    ("xact_time", |t| t.sum(|w| &w.xact_time_us)),
    ("query_time", |t| t.sum(|w| &w.query_time_us)),
    ("wait_time", |t| t.wait_time_us.get()),
    ("client_parse_count", |t| t.sum(|w| &w.client_parses)),
    ("server_parse_count", |t| t.sum(|w| &w.server_parses)),
    ("bind_count", |t| t.sum(|w| &w.binds)),
];

fn sums(shared: &Shared) -> BTreeMap<String, Vec<u64>> {
    let mut sums: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (row, traffic) in shared.pools.traffic_rows() {
        let sum = sums.entry(row.database).or_insert_with(|| vec![0; COUNTERS.len()]);
        for (total, (_, read)) in sum.iter_mut().zip(COUNTERS) {
            *total += read(&traffic);
        }
    }
    sums
}

/// Averages since the start: per second for counts and bytes, per transaction or statement for times, as PgBouncer.
fn averages(sum: &[u64], uptime: Duration) -> Vec<u64> {
    let seconds = uptime.as_secs().max(1);
    let (xacts, queries) = (sum[1].max(1), sum[2].max(1));
    let divisor = |name: &str| match name {
        "xact_time" => xacts,
        "query_time" | "wait_time" => queries,
        _ => seconds,
    };
    sum.iter().zip(COUNTERS).map(|(n, (name, _))| n / divisor(name)).collect()
}

fn average_name(name: &str) -> String {
    match name {
        "received" => "avg_recv".to_string(),
        name => format!("avg_{name}"),
    }
}

fn stats_table(shared: &Shared, totals: bool, means: bool) -> Table {
    let mut columns = vec!["database".to_string()];
    if totals {
        columns.extend(COUNTERS.iter().map(|(name, _)| format!("total_{name}:n")));
    }
    if means {
        columns.extend(COUNTERS.iter().map(|(name, _)| format!("{}:n", average_name(name))));
    }
    let mut table = Table::new(&columns.join(" "));
    let uptime = shared.started.elapsed().unwrap_or_default();
    for (database, sum) in sums(shared) {
        let mut row: Vec<Cell> = vec![database.into()];
        if totals {
            row.extend(sum.iter().map(|n| Cell::from(*n)));
        }
        if means {
            row.extend(averages(&sum, uptime).into_iter().map(Cell::from));
        }
        table.rows.push(row);
    }
    table
}

fn stats(shared: &Shared) -> Table {
    stats_table(shared, true, true)
}

fn stats_totals(shared: &Shared) -> Table {
    stats_table(shared, true, false)
}

fn stats_averages(shared: &Shared) -> Table {
    stats_table(shared, false, true)
}

fn lists(shared: &Shared) -> Table {
    let config = shared.config.load();
    let pools = shared.pools.pool_rows();
    let servers: u64 = pools.iter().map(|(p, _)| connections(p)).sum();
    let idle: u64 = pools.iter().map(|(p, _)| p.sv_idle).sum();
    let clients = shared.client_count() as u64;
    let mut table = Table::new("list items:n");
    for (list, items) in [
        ("databases", config.databases.len() as u64),
        ("users", config.users.len() as u64),
        ("pools", pools.len() as u64),
        ("free_clients", 0),
        ("used_clients", clients),
        ("login_clients", shared.totals.clients.get().saturating_sub(clients)),
        ("free_servers", idle),
        ("used_servers", servers - idle),
        ("dns_names", 0),
        ("dns_zones", 0),
        ("dns_queries", 0),
        ("dns_pending", 0),
    ] {
        table.rows.push(vec![list.into(), items.into()]);
    }
    table
}

fn config(shared: &Shared) -> Table {
    let mut table = Table::new("key value default changeable");
    for setting in shared.config.load().show() {
        table.rows.push(vec![
            setting.key.into(),
            setting.value.into(),
            setting.default.into(),
            if setting.changeable { "yes" } else { "no" }.into(),
        ]);
    }
    table
}

fn memory(shared: &Shared) -> Table {
    let mut table = Table::new("name size:n used:n free:n memtotal:n");
    let mut row = |name: &str, size: u64, used: u64| {
        table.rows.push(vec![name.into(), size.into(), used.into(), 0u32.into(), (size * used).into()]);
    };
    row("process_resident", 1, process::resident_bytes());
    row("relay_buffers", 1, shared.totals.buffered.get());
    let client = size_of::<crate::session::run::Client>() + size_of::<crate::session::entry::Entry>();
    row("client", client as u64, shared.client_count() as u64);
    row("server", size_of::<crate::pool::server::Server>() as u64, shared.pools.server_rows().len() as u64);
    table
}

fn version(_: &Shared) -> Table {
    let mut table = Table::new("version");
    table.rows.push(vec![format!("Turnpike {}", env!("CARGO_PKG_VERSION")).into()]);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let check = |secs: u64, want: &str| {
            assert_eq!(time(SystemTime::UNIX_EPOCH + Duration::from_secs(secs)), want)
        };
        check(0, "1970-01-01 00:00:00 UTC");
        check(951_827_696, "2000-02-29 12:34:56 UTC");
        check(4_102_444_799, "2099-12-31 23:59:59 UTC");
    }
}
