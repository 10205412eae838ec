//! `replication=` connections: relayed as they are on a backend connection of their own, from startup to end.

use std::sync::Arc;

use tokio::io::copy_bidirectional;

use super::shared::Shared;
use crate::core::error::{Error, Severity};
use crate::fence::versions::Written;
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
            let marks = marks.map(|cache| {
                let mut marks = cache.versions.of(&pool.purpose.dbname).begin();
                marks.add(Written::Perhaps);
                marks
            });
            // Bounded by two fixed buffers; parameters, key and ReadyForQuery are the server's own, and so is what
            // cancels it.
            let ended = copy_bidirectional(&mut client, &mut server).await;
            // A server process that has closed its end has done what it was going to do.
            if let Some(marks) = marks.filter(|_| ended.is_ok()) {
                marks.end(true);
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
