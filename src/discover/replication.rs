//! Replicas that the primary tells of, in `pg_stat_replication`.
//!
//! Of a replica it knows the address that its WAL receiver comes from and a name; not the port that it listens on. A
//! replica whose name (`application_name` in its `primary_conninfo`, or else its `cluster_name`) is `host:port` says
//! itself where it is; of others the address is taken, with `discovery_port`, or else the primary's own.

use super::place::Place;
use super::{Cluster, Found};
use crate::cluster::ask::{Asker, Row};
use crate::config::Config;
use crate::config::discovery::Discovery;

/// Physical standbys that follow; logical subscribers and tools that only store WAL are no replicas.
const QUESTION: &str = "SELECT r.application_name, pg_catalog.host(r.client_addr), r.state \
    FROM pg_catalog.pg_stat_replication r \
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots s \
                      WHERE s.active_pid = r.pid AND s.slot_type = 'logical') \
      AND r.application_name NOT IN ('pg_basebackup', 'pg_receivewal') \
    ORDER BY r.application_name, r.pid";

/// Asks, again and again.
#[derive(Default)]
pub(super) struct Source {
    asker: Asker,
}

impl Source {
    /// Who is told of now.
    ///
    /// # Errors
    /// Why nobody knows.
    pub(super) async fn ask(
        &mut self,
        cluster: &Cluster,
        config: &Config,
        settings: &Discovery,
    ) -> Result<Vec<Found>, String> {
        let (primary, rows) =
            self.asker.primary(cluster, QUESTION).await.map_err(|e| e.message.to_string())?;
        let at = config.backends.iter().find(|b| b.name == primary.name());
        let host = at.map_or_else(|| primary.target.host(), |b| b.host.clone());
        let port = settings.port.unwrap_or(primary.target.port());
        read(&rows, &host, port)
    }
}

/// What an answer of a primary on `host` says, where `port` is that of those who do not say.
fn read(rows: &[Row], host: &str, port: u16) -> Result<Vec<Found>, String> {
    let mut found = Vec::new();
    for row in rows {
        let field = |i: usize| row.get(i).and_then(Option::as_deref);
        match field(2) {
            None => {
                return Err(
                    "the role that probes log in as may not see who replicates: grant it pg_monitor".into()
                );
            }
            Some("streaming" | "catchup") => {}
            Some(_) => continue,
        }
        // Without an address it is on the same machine.
        let place = field(0).and_then(Place::parse).or_else(|| match field(1) {
            Some(address) => Place::new(address, port),
            None => Some(Place { host: host.to_string(), port }),
        });
        found.extend(place.map(|place| Found {
            name: None,
            place,
            shunned: false,
            zone: None,
            region: None,
        }));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_replicas_are() {
        let row = |name: &str, address: Option<&str>, state: Option<&str>| {
            vec![Some(name.to_string()), address.map(str::to_string), state.map(str::to_string)]
        };
        let rows = [
            row("walreceiver", Some("10.0.0.7"), Some("streaming")),
            row("db2:6432", Some("10.0.0.8"), Some("catchup")),
            row("[fe80::1]:5432", Some("10.0.0.9"), Some("streaming")),
            row("walreceiver", None, Some("streaming")),
            row("walreceiver", Some("::1"), Some("streaming")),
            row("walreceiver", Some("10.0.0.10"), Some("startup")),
        ];
        let places = |rows: &[Row]| {
            read(rows, "db1", 5433).map(|found| found.iter().map(|f| f.place.to_string()).collect::<Vec<_>>())
        };
        let want = ["10.0.0.7:5433", "db2:6432", "[fe80::1]:5432", "db1:5433", "[::1]:5433"];
        assert_eq!(places(&rows).expect("an answer"), want);
        assert_eq!(places(&[]), Ok(Vec::new()));
        assert!(places(&[row("walreceiver", None, None)]).is_err_and(|e| e.contains("pg_monitor")));
    }
}
