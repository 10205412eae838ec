//! Wiring: from a checked configuration to a running process, and back.

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::admin;
use crate::cache::Cache;
use crate::cache::remote::Remote;
use crate::config::Config;
use crate::discover;
use crate::elsewhere;
use crate::mirror;
use crate::observe::custom;
use crate::plan::Planner;
use crate::pool::Pools;
use crate::report;
use crate::session::choosing;
use crate::session::gate::Gate;
use crate::session::shared::Shared;
use crate::session::watch;

pub mod cluster;
mod door;
mod notify;
pub mod sockets;
mod takeover;
mod warm;

use door::Door;
use sockets::Socket;
use takeover::{Control, Offer, Successor};

/// Admin clients that wait to be taken over; more see their connection close.
const ADMIN_QUEUE: usize = 64;

/// Runs the proxy until `shutdown`, then lets transactions under way end within the drain deadline; or until another
/// process has taken over and the clients that are left have gone. `inherited` are sockets from systemd.
///
/// # Errors
/// What keeps it from starting: an address in use, a certificate that cannot be used.
pub async fn run(
    config: Config,
    source: Option<PathBuf>,
    inherited: Vec<Socket>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), String> {
    let control = config.general.takeover_socket.clone();
    let (shared, sockets, before) = start(config, inherited).await?;
    if let Some(path) = source {
        // Set once, here.
        let _ = shared.source.set(path);
    }
    let (admins, mut visits) = mpsc::channel(ADMIN_QUEUE);
    let door = Door::open(shared.clone(), sockets, admins).map_err(|e| format!("cannot listen: {e}"))?;
    let control = takeover::announce(control.as_deref(), before, &shared).await?;
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
    shared.clusters.reload(&shared.config.load(), &shared.pools);
    shared.shadows.reload(&shared.config.load(), shared.planner.store.serial());
    let prober = tokio::spawn({
        let shared = shared.clone();
        async move { shared.clusters.run(&shared.pools).await }
    });
    // Dropped, it ends all of them.
    let beside = beside(&shared);
    let reloader = tokio::spawn(reload(shared.clone()));
    let told = shared.clone();
    let shutdown = async move {
        tokio::select! {
            () = shutdown => {}
            () = told.stop.notified() => {}
        }
    };
    serve(door, control, &shared, shutdown).await;
    reloader.abort();
    sweeper.abort();
    prober.abort();
    drop(beside);
    mirror::record::finish(&shared).await;
    warm::keep(&shared).await;
    host.abort();
    shared.pools.keep_hours();
    shared.pools.close_idle();
    Ok(())
}

/// What is looked after for as long as the process runs.
fn beside(shared: &Arc<Shared>) -> JoinSet<()> {
    let mut beside = JoinSet::new();
    beside.spawn(watch::watch(shared.clone()));
    beside.spawn(remote(shared.clone()));
    beside.spawn(choosing::run(shared.clone()));
    beside.spawn(warm::run(shared.clone()));
    beside.spawn(discover::run(shared.clone()));
    beside.spawn(custom::run(shared.clone()));
    beside.spawn(report::watch::run(shared.clone()));
    beside.spawn(mirror::run(shared.clone()));
    beside.spawn(elsewhere::run(shared.clone()));
    beside.spawn(elsewhere::members::run(shared.clone()));
    beside
}

/// Reads the configuration again at each SIGHUP, for as long as it is polled.
async fn reload(shared: Arc<Shared>) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    while hangup.recv().await.is_some() {
        notify::tell(notify::RELOADING);
        // What is wrong with it has been logged.
        let _ = shared.reload();
        notify::tell(notify::READY);
    }
}

/// Everything up to accepting clients, and the process that no longer does, if there is one.
async fn start(
    config: Config,
    inherited: Vec<Socket>,
) -> Result<(Arc<Shared>, Vec<Socket>, Option<Successor>), String> {
    let offer = match &config.general.takeover_socket {
        Some(path) => takeover::ask(path).await?,
        None => None,
    };
    let (offer, handed) = offer.map(Offer::split).unzip();
    let sockets = sockets::open(&config, inherited, handed.unwrap_or_default()).await?;
    let shared = Shared::new(
        Pools::new(&config)?,
        Planner::new(&config.plan, &config.rules, &config.mirrored(), &config.caches)?,
        Gate::new(&config)?,
        cache(&config)?,
        config,
    );
    let before = match offer {
        Some(offer) => offer.accept(&shared).await?,
        None => None,
    };
    Ok((shared, sockets, before))
}

/// Looks after what is kept outside of the process, if anything is.
async fn remote(shared: Arc<Shared>) {
    let Some(cache) = &shared.cache else { return };
    if let Some(remote) = cache.remote() {
        remote.clone().run(cache).await;
    }
}

/// Where results are kept, if they are.
fn cache(config: &Config) -> Result<Option<Arc<Cache>>, String> {
    // Reports are outdated by what is written, which must be accounted for, also where nothing is kept.
    if config.general.cache_memory == 0 && config.reports.is_none() {
        return Ok(None);
    }
    let cache = Cache::new(config.general.cache_memory)?;
    if let Some(redis) = &config.redis {
        cache.set_remote(Remote::new(redis.clone())?);
    }
    Ok(Some(cache))
}

/// Serves until nobody is to be served any more.
async fn serve(
    mut door: Door,
    control: Option<Control>,
    shared: &Arc<Shared>,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let replaced = tokio::select! {
        () = &mut shutdown => false,
        () = takeover::replaced(control.as_ref(), &mut door, shared) => true,
    };
    if replaced {
        door.close().await;
        drop(control);
        door.close_http();
        let left = tokio::select! {
            () = &mut shutdown => false,
            left = takeover::retire(shared) => left,
        };
        if !left {
            drain(shared).await;
        }
        return;
    }
    notify::tell(notify::STOPPING);
    // Nobody is to get in between.
    shared.close();
    door.leave().await;
    let mut drained = pin!(drain(shared));
    tokio::select! {
        () = &mut drained => return,
        // Who starts before we have ended gets what is left, and the cancel requests of our clients.
        () = takeover::replaced(control.as_ref(), &mut door, shared) => {
            door.close().await;
            door.close_http();
        }
    }
    drained.await;
}

async fn drain(shared: &Arc<Shared>) {
    let deadline = shared.config.load().general.drain_timeout;
    shared.drain();
    if tokio::time::timeout(deadline, shared.drained()).await.is_err() {
        tracing::warn!(clients = shared.client_count(), "drain deadline passed; closing what is left");
    }
}
