//! What the demo prints when it is ready: where to connect and what to try.
#![allow(clippy::print_stdout, reason = "a command speaks to whoever typed it")]

use std::time::Duration;

use super::client::Address;
use super::stage::DATABASE;
use crate::app::cluster::Cluster;

/// Prints it.
pub(super) fn print(at: Address, events: u64, cluster: &Cluster, took: Duration) {
    println!("{}", text(at, events, cluster.binaries().major, took));
}

fn text(at: Address, events: u64, major: u32, took: Duration) -> String {
    let url = at.url(DATABASE);
    let replica = at.url("audit_replica1");
    let admin = at.url("turnpike");
    let http = at.http_port;
    let seconds = took.as_secs_f32();
    format!(
        r#"Turnpike is in front of PostgreSQL {major}: a primary, two replicas, {events} audit events ({seconds:.1} s).

    psql {url}

Things to try in another terminal:

    # the sample data: reads go to replicas that have seen what you wrote; which one, and why
    psql {url} -c "SELECT * FROM daily_activity ORDER BY day DESC, events DESC LIMIT 5"
    psql {url} -c "EXPLAIN (ROUTE) SELECT * FROM daily_activity"
    # one replica by itself
    psql {replica} -c "SELECT pg_is_in_recovery(), count(*) FROM recent_phi_access"

    # fifty clients over a few server connections
    echo "SELECT accesses_since((random() * 2000)::bigint, '1 day')" | pgbench -n -c 50 -j 2 -T 10 -f - {url}
    pgbench -i -q -s 5 {url} && pgbench -S -M prepared -c 50 -j 2 -T 10 {url}

    # what Turnpike sees
    psql {admin} -c "SHOW POOLS" -c "SHOW BACKENDS"
    curl -s http://127.0.0.1:{http}/metrics

Ctrl-C stops everything and removes every trace.
"#
    )
}
