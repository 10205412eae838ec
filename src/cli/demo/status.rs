//! The demo's live line: what the admin database and the primary say.
#![allow(clippy::print_stdout, reason = "a command speaks to whoever typed it")]

use std::io::{Write, stdout};
use std::sync::Arc;
use std::time::Instant;

use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::client::{Address, connect};
use crate::app::cluster::Cluster;

const ADMIN: &str = "turnpike";
const LAG: &str = "SELECT application_name, pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint AS behind \
                   FROM pg_stat_replication ORDER BY 1";

/// Asks both sides of the proxy. Connections are made when first needed and again when lost: what is being shown may be
/// restarted meanwhile.
#[derive(Debug)]
pub(super) struct Status {
    admin: Source,
    primary: Source,
    /// When transactions were last counted, and how many there were.
    counted: Option<(Instant, u64)>,
}

impl Status {
    /// Nothing asked yet.
    pub(super) fn new(at: Address, cluster: &Arc<Cluster>) -> Self {
        let primary = cluster.superuser_url("postgres");
        Status { admin: Source::at(at.url(ADMIN)), primary: Source::at(primary), counted: None }
    }

    /// One line on how things are.
    pub(super) async fn line(&mut self) -> String {
        let clients = self.count("SHOW CLIENTS").await;
        let servers = self.count("SHOW SERVERS").await;
        let tps = self.transactions_per_second().await;
        let lag = self.lag().await;
        format!("clients {clients}  servers {servers}  transactions/s {tps}  behind: {lag}")
    }

    /// Rows of a SHOW, but for our own.
    async fn count(&mut self, show: &str) -> String {
        match self.admin.rows(show).await {
            Some(rows) => rows.iter().filter(|row| row.get("database") != Some(ADMIN)).count().to_string(),
            None => "?".into(),
        }
    }

    async fn transactions_per_second(&mut self) -> String {
        let Some(rows) = self.admin.rows("SHOW STATS").await else { return "?".into() };
        let others = rows.iter().filter(|row| row.get("database") != Some(ADMIN));
        let total: u64 =
            others.filter_map(|row| row.try_get("total_xact_count").ok()??.parse::<u64>().ok()).sum();
        let now = Instant::now();
        let before = self.counted.replace((now, total));
        match before {
            Some((then, count)) => {
                format!("{:.0}", total.saturating_sub(count) as f64 / now.duration_since(then).as_secs_f64())
            }
            None => "0".into(),
        }
    }

    async fn lag(&mut self) -> String {
        let Some(rows) = self.primary.rows(LAG).await else { return "?".into() };
        let each = rows.iter().map(|row| {
            let behind = row.get("behind").and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
            format!("{} {}", row.get("application_name").unwrap_or("?"), bytes(behind))
        });
        each.collect::<Vec<_>>().join(", ")
    }
}

/// A connection that is made when it is needed.
#[derive(Debug)]
struct Source {
    url: String,
    client: Option<Client>,
}

impl Source {
    fn at(url: String) -> Self {
        Source { url, client: None }
    }

    /// The rows of a statement, or nothing while there is nobody to ask.
    async fn rows(&mut self, sql: &str) -> Option<Vec<SimpleQueryRow>> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            self.client = connect(&self.url).await.ok();
        }
        let messages = self.client.as_ref()?.simple_query(sql).await.ok()?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Some(rows.collect())
    }
}

/// A size in the unit that a person would use.
fn bytes(n: u64) -> String {
    match n {
        0..1024 => format!("{n} B"),
        1024..1_048_576 => format!("{} KiB", n / 1024),
        _ => format!("{} MiB", n / 1_048_576),
    }
}

/// Writes over the line that the terminal shows.
pub(super) fn overwrite(line: &str) {
    print!("\r\x1b[K{line}");
    // A terminal that is gone needs no status.
    let _ = stdout().flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        assert_eq!([0, 1023, 1024, 5 << 20].map(bytes), ["0 B", "1023 B", "1 KiB", "5 MiB"]);
    }
}
