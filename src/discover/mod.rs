//! Members of clusters that nobody has written down: found, and put into use beside those that the configuration names.
//!
//! What is found is a place to connect to, no more. Whether a server there is a replica of this cluster, the primary, or
//! a stranger, its probes find out before anything is sent to it, as of every other member.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::cluster::{Cluster, State};
use crate::config::discovery::Source;
use crate::config::{Backend, Role};
use crate::core::limits::MAX_MEMBERS;
use crate::session::shared::Shared;

mod memory;
mod patroni;
mod place;
mod replication;
mod roster;

use place::Place;
use roster::Roster;

/// How often it is looked for clusters that want their members found.
const ROUND: Duration = Duration::from_secs(1);
/// Longest time between two questions while there is no primary.
const HURRY: Duration = Duration::from_millis(500);
/// Longest that names may take to be resolved.
const LOOK_UP: Duration = Duration::from_secs(2);

/// A server that a source has told of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(crate) struct Found {
    /// What the source calls it, if it has a name of its own.
    name: Option<String>,
    place: Place,
    /// It is to have no reads.
    shunned: bool,
    zone: Option<String>,
    region: Option<String>,
}

/// A task that ends with the value.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Looks for members of every cluster that wants it, for as long as it is polled.
pub async fn run(shared: Arc<Shared>) {
    let mut tasks = HashMap::<String, Task>::new();
    loop {
        tasks.retain(|_, task| !task.0.is_finished());
        for cluster in shared.clusters.all().iter() {
            if cluster.settings().config.discovery.source != Source::Nobody
                && !tasks.contains_key(cluster.name())
            {
                let task = tokio::spawn(follow(shared.clone(), cluster.name().to_string()));
                tasks.insert(cluster.name().to_string(), Task(task));
            }
        }
        tokio::time::sleep(ROUND).await;
    }
}

/// Looks for the members of one cluster, until it wants that no more.
async fn follow(shared: Arc<Shared>, name: String) {
    let dir = shared.config.load().general.state_dir.clone();
    let mut roster = Roster::of(memory::load(dir.as_deref(), &name).await);
    let (mut asker, mut patroni) = (replication::Source::default(), patroni::Source::default());
    let mut silent = false;
    put_into_use(&shared, &name, &roster).await;
    loop {
        let Some(cluster) = shared.clusters.get(&name) else { return };
        let settings = cluster.settings().config.discovery.clone();
        let answer = match settings.source {
            Source::Nobody => {
                tell(shared.found(&name, Vec::new()), &name);
                return;
            }
            Source::Replication => asker.ask(&cluster, &shared.config.load(), &settings).await,
            Source::Patroni => patroni.ask(&cluster, &settings).await,
        };
        match answer {
            Ok(found) => {
                if std::mem::take(&mut silent) {
                    tracing::info!(cluster = name, "members are found again");
                }
                // Whoever is the primary is no replica of anybody.
                let leads = |found: &Found| {
                    let primary = cluster.primary();
                    primary.is_some_and(|p| {
                        found.place.host == p.target.host() && found.place.port == p.target.port()
                    })
                };
                if roster.update(found, leads) {
                    memory::save(dir.as_deref(), &name, roster.members()).await;
                }
                put_into_use(&shared, &name, &roster).await;
            }
            // What is known stays.
            Err(error) if !silent => {
                silent = true;
                tracing::warn!(
                    cluster = name,
                    error,
                    "cannot find out who the members are: those that are known stay"
                );
            }
            Err(_) => {}
        }
        let pause =
            if cluster.primary().is_some() { settings.interval } else { settings.interval.min(HURRY) };
        tokio::time::sleep(pause).await;
    }
}

/// Puts those of the servers into use that are none that the configuration names, under the names that they have then.
async fn put_into_use(shared: &Arc<Shared>, name: &str, roster: &Roster) {
    let config = shared.config.load_full();
    let Some(cluster) = config.cluster(name) else { return };
    let mut taken = Vec::new();
    for backend in cluster.members(&config).filter(|b| !b.found) {
        taken.extend(addresses(&Place::of(backend)).await);
    }
    let (Some(like), ours) = (cluster.members(&config).next(), config.found(name)) else { return };
    let others = config.backends.iter().filter(|b| !ours.iter().any(|o| o.name == b.name));
    let mut names: Vec<String> = others.map(|b| b.name.clone()).collect();
    let mut members = Vec::new();
    for found in roster.members() {
        let addresses = addresses(&found.place).await;
        let allowed = |a: &SocketAddr| cluster.discovery.allow.iter().any(|net| net.contains(a.ip()));
        // Who cannot be resolved now was found before that.
        let stays = addresses.is_empty() && ours.iter().any(|o| Place::of(o) == found.place);
        if addresses.is_empty() && !stays || addresses.iter().any(|a| taken.contains(a)) {
            continue;
        }
        if !cluster.discovery.allow.is_empty() && !addresses.iter().all(allowed) {
            tracing::debug!(cluster = name, server = %found.place, "found outside of discovery_allow");
            continue;
        }
        taken.extend(addresses);
        let member = backend(like, &names, found);
        names.push(member.name.clone());
        members.push(member);
    }
    members.truncate(MAX_MEMBERS.saturating_sub(cluster.members(&config).filter(|b| !b.found).count()));
    if members != ours {
        let names: Vec<_> = members.iter().map(|b| b.name.as_str()).collect();
        tracing::info!(
            cluster = name,
            members = names.join(", "),
            "found beside those that the configuration names"
        );
        tell(shared.found(name, members), name);
    }
}

fn tell(outcome: Result<(), String>, cluster: &str) {
    if let Err(error) = outcome {
        tracing::error!(cluster, error, "what was found cannot be put into use");
    }
}

/// A backend like the cluster's first, but for what was found; `taken` are the names of others.
fn backend(like: &Backend, taken: &[String], found: &Found) -> Backend {
    let free = |name: &String| !taken.iter().any(|taken| taken.eq_ignore_ascii_case(name));
    Backend {
        name: found.name.clone().filter(free).unwrap_or_else(|| found.place.to_string()),
        host: found.place.host.clone(),
        port: found.place.port,
        role: Role::Auto,
        zone: found.zone.clone(),
        region: found.region.clone(),
        weight: if found.shunned { 0 } else { like.weight },
        found: true,
        ..like.clone()
    }
}

/// Where a place is. That of a socket directory is this machine.
async fn addresses(place: &Place) -> Vec<SocketAddr> {
    if place.host.starts_with('/') {
        return vec![(Ipv4Addr::LOCALHOST, place.port).into(), (Ipv6Addr::LOCALHOST, place.port).into()];
    }
    let looked = tokio::net::lookup_host((place.host.as_str(), place.port));
    match tokio::time::timeout(LOOK_UP, looked).await {
        Ok(Ok(found)) => found.collect(),
        _ => Vec::new(),
    }
}

/// Has whoever is told to lead looked at, where that is news.
fn look_at(cluster: &Cluster, place: &Place) {
    let members = cluster.members();
    let told = members.iter().find(|m| place.host == m.target.host() && place.port == m.target.port());
    if told.is_some_and(|member| member.state() != State::Primary) {
        cluster.wake();
    }
}
