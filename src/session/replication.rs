//! `replication=` connections: relayed as they are on a backend connection of their own, from startup to end.

use std::sync::Arc;

use tokio::io::copy_bidirectional;

use super::shared::Shared;
use crate::cache::Cache;
use crate::core::error::{Error, Severity};
use crate::fence::versions::{Marks, Written};
use crate::pool::connect;
use crate::pool::pool::Pool;
use crate::wire::reply;
use crate::wire::startup::{Replication, Startup};
use crate::wire::stream::Stream;

/// Logs in on the backend with what the client asked for and relays until either side ends.
pub async fn relay(shared: Arc<Shared>, mut client: Stream, startup: Startup, pool: Arc<Pool>) {
    match open(&startup, &pool).await {
        Ok(mut server) => {
            // Such a connection takes any statement, and nobody reads along.
            let marks =
                (startup.replication == Replication::Logical).then_some(()).and(shared.cache.as_ref());
            let marks = match marks {
                Some(cache) => mark_anything(cache, &pool.purpose.dbname).await,
                None => Vec::new(),
            };
            // Bounded by two fixed buffers; parameters, key and ReadyForQuery are the server's own, and so is what
            // cancels it.
            let ended = copy_bidirectional(&mut client, &mut server).await;
            // A server process that has closed its end has done what it was going to do.
            if ended.is_ok() {
                marks.into_iter().for_each(|marks| marks.end(true));
            }
            tracing::debug!(?ended, "replication connection ended");
        }
        Err(e) => {
            shared.totals.refused.add(1);
            let mut bytes = Vec::new();
            reply::error(&mut bytes, &e.severity(Severity::Fatal));
            client.say_goodbye(&bytes).await;
        }
    }
}

/// Marks everything in a database, here and wherever others are told of that.
async fn mark_anything(cache: &Cache, dbname: &str) -> Vec<Marks> {
    let versions = cache.versions.of(dbname);
    let mark = || {
        let mut marks = versions.begin();
        marks.add(Written::Perhaps);
        marks
    };
    let mut all = vec![mark()];
    for (_, board) in cache.boards.all().into_iter().filter(|((_, name), _)| **name == *dbname) {
        let (id, gate) = board.begin(None, board.era(), &[], true);
        let mut marks = mark();
        marks.told(&board, id);
        // Where nobody tells any more the process ends.
        let _ = gate.await;
        all.push(marks);
    }
    all
}

async fn open(startup: &Startup, pool: &Pool) -> Result<Stream, Error> {
    let mode = if startup.replication == Replication::Logical { "database" } else { "true" };
    let mut params = vec![
        ("user", pool.purpose.server_user.as_str()),
        ("database", pool.purpose.dbname.as_str()),
        ("replication", mode),
    ];
    params.extend(startup.options.as_deref().map(|o| ("options", o)));
    params.extend(startup.settings.iter().map(|(n, v)| (n.as_str(), v.as_str())));
    let credential = pool.credential.lock().clone();
    connect::login(&pool.target, &params, &pool.purpose.server_user, &credential).await
}
