//! Asks a server when what was sent before this process is done ([`crate::cache::past`]).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::shared::Shared;
use crate::cache::past::Past;
use crate::core::clock::Instant;
use crate::core::error::{Error, SqlState};
use crate::pool::driver::{self, said};
use crate::pool::pool::Pool;

/// What the server calls the connection.
const APPLICATION: &str = "turnpike past";
/// Pauses between two attempts: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Longest that an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is asked what runs.
const ASKED: Duration = Duration::from_millis(100);

/// The server processes that run a transaction in a database. Every transaction holds a lock on its own number, whoever
/// runs it: what `pg_stat_activity` says of others' transactions is not for everybody to read. Of the number, the part before the
/// stroke is the process': one that goes on with the next has more to do. Those of other databases write nothing here.
pub const RUNNING: &str = "SELECT pg_catalog.split_part(l.virtualtransaction, '/', 1) FROM pg_catalog.pg_locks l \
    JOIN pg_catalog.pg_stat_activity a ON a.pid OPERATOR(pg_catalog.=) l.pid \
    WHERE l.locktype OPERATOR(pg_catalog.=) 'virtualxid' AND l.granted AND a.datid OPERATOR(pg_catalog.=) $1 \
    AND l.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()";
const IDENTITY: &str = "SELECT pg_catalog.pg_is_in_recovery(), d.oid FROM pg_catalog.pg_database d \
    WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()";

/// Finds out when it is over, as whoever reads the catalog for `pool`.
pub fn look(shared: &Arc<Shared>, pool: &Arc<Pool>, past: Arc<Past>) {
    let (shared, pool) = (shared.clone(), pool.clone());
    tokio::spawn(async move {
        let (mut pause, mut told) = (PAUSES.0, String::new());
        while let Err(e) = attempt(&shared, &pool, &past).await {
            let why = e.message.to_string();
            // Said once, not whenever it is tried.
            if told != why {
                let database = &pool.purpose.dbname;
                tracing::warn!(database, error = why, "it is not known what was sent before this process");
                told = why;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    });
}

async fn attempt(shared: &Shared, pool: &Pool, past: &Past) -> Result<(), Error> {
    let Some(cache) = &shared.cache else { return Ok(()) };
    let mut doubt = cache.pasts.doubt();
    let login = pool.cataloguer.lock().clone();
    let client = driver::client(pool, login, APPLICATION).await?;
    let identity = within(client.query_one(IDENTITY, &[])).await?.map_err(said)?;
    let (standby, oid): (bool, u32) =
        (identity.try_get(0).map_err(said)?, identity.try_get(1).map_err(said)?);
    if standby {
        return Err(trouble("the server is in recovery"));
    }
    loop {
        let asked = Instant::now();
        let running = within(client.query(RUNNING, &[&oid])).await?.map_err(said)?;
        let running: Result<HashSet<String>, _> = running.iter().map(|row| row.try_get(0)).collect();
        if doubt.answered(running.map_err(said)?, asked) {
            past.ends();
            return Ok(());
        }
        tokio::time::sleep(ASKED).await;
    }
}

async fn within<T>(asked: impl Future<Output = T>) -> Result<T, Error> {
    tokio::time::timeout(PATIENCE, asked).await.map_err(|_| trouble("the server does not answer"))
}

fn trouble(what: &'static str) -> Error {
    Error::backend(SqlState::CANNOT_CONNECT_NOW, what)
}
