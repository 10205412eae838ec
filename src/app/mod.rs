//! Wiring: from a checked configuration to a running process, and back.

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::admin;
use crate::config::Config;
use crate::observe::http;
use crate::pool::Pools;
use crate::session::gate::Gate;
use crate::session::listen::{self, Listener};
use crate::session::shared::Shared;
use crate::session::watch;

pub mod cluster;

/// Admin clients that wait to be taken over; more see their connection close.
const ADMIN_QUEUE: usize = 64;

/// Runs the proxy until `shutdown`, then lets transactions under way end within the drain deadline.
///
/// # Errors
/// What keeps it from starting: an address in use, a certificate that cannot be used.
pub async fn run(
    config: Config,
    _source: Option<PathBuf>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), String> {
    let drain_timeout = config.general.drain_timeout;
    let listeners = bind(&config).await?;
    let http = match config.http {
        Some(addr) => {
            Some(TcpListener::bind(addr).await.map_err(|e| format!("cannot listen on {addr}: {e}"))?)
        }
        None => None,
    };
    let shared = Shared::new(Pools::new(&config)?, Gate::new(&config)?, config);
    // Answers also while we drain: that is when someone asks whether we are ready.
    let http = http.map(|listener| tokio::spawn(http::serve(listener, shared.clone())));
    let (admins, mut visits) = mpsc::channel(ADMIN_QUEUE);
    let mut tasks = JoinSet::new();
    for listener in listeners {
        tasks.spawn(listen::listen(shared.clone(), listener, admins.clone()));
    }
    let host = tokio::spawn({
        let shared = shared.clone();
        async move {
            while let Some(visit) = visits.recv().await {
                tokio::spawn(admin::serve(visit, shared.clone()));
            }
        }
    });
    let sweeper = tokio::spawn({
        let shared = shared.clone();
        async move { shared.pools.sweep().await }
    });
    let watcher = tokio::spawn(watch::watch(shared.clone()));
    pin!(shutdown).await;
    tasks.shutdown().await;
    drain(&shared, drain_timeout).await;
    sweeper.abort();
    watcher.abort();
    host.abort();
    http.inspect(|server| server.abort());
    Ok(())
}

async fn bind(config: &Config) -> Result<Vec<Listener>, String> {
    let mut listeners = Vec::new();
    for addr in &config.general.listen {
        let tcp = TcpListener::bind(addr).await.map_err(|e| format!("cannot listen on {addr}: {e}"))?;
        tracing::info!(%addr, "listening");
        listeners.push(Listener::Tcp(tcp));
    }
    if let Some(dir) = &config.general.unix_socket_dir {
        let port = config.general.listen.first().map_or(6432, |a| a.port());
        let path = dir.join(format!(".s.PGSQL.{port}"));
        // A socket that nobody listens on any more only stands in the way.
        if std::os::unix::net::UnixStream::connect(&path).is_err() {
            let _ = std::fs::remove_file(&path);
        }
        let shown = path.display();
        let unix = UnixListener::bind(&path).map_err(|e| format!("cannot listen on {shown}: {e}"))?;
        // Who may come in is for `[[hba]]` to say, as with Postgres' default unix_socket_permissions.
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(&path, open).map_err(|e| format!("{shown}: {e}"))?;
        listeners.push(Listener::Unix(unix));
    }
    Ok(listeners)
}

async fn drain(shared: &Arc<Shared>, deadline: Duration) {
    shared.drain();
    if tokio::time::timeout(deadline, shared.drained()).await.is_err() {
        tracing::warn!(clients = shared.client_count(), "drain deadline passed; closing what is left");
    }
    shared.pools.close_idle();
}
