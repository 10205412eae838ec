//! Delivering CancelRequest to a server (protocol 3.0, "Canceling Requests in Progress").

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connect;
use super::server::CancelGuard;
use crate::wire::startup;

/// Longest time to deliver one; after that nobody knows whether it still arrives.
const DEADLINE: Duration = Duration::from_secs(10);

/// Delivers a cancel and waits until the server has acted on it: it closes the connection after it has signalled
/// the process, so from then on the signal cannot hit a later statement (the server ignores one while it waits for
/// a command). Where that is not seen, the server connection is not to be lent again.
pub async fn deliver(guard: CancelGuard) {
    let link = guard.link().clone();
    match tokio::time::timeout(DEADLINE, send(&guard)).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => {
            tracing::warn!(backend = link.target.name(), error = %e, "cancel request was not delivered");
            link.poison();
        }
        Err(_) => {
            tracing::warn!(backend = link.target.name(), "cancel request timed out");
            link.poison();
        }
    }
}

async fn send(guard: &CancelGuard) -> Result<(), crate::core::error::Error> {
    let link = guard.link();
    let mut stream = connect::dial(&link.target).await?;
    let failed = |e: std::io::Error| connect::lost(&link.target, &e);
    stream.write_all(&startup::build_cancel(link.pid, &link.key)).await.map_err(failed)?;
    stream.flush().await.map_err(failed)?;
    let mut end = [0u8; 64];
    // The server says nothing; some close with a reset, which tells as much.
    while matches!(stream.read(&mut end).await, Ok(n) if n > 0) {}
    Ok(())
}
