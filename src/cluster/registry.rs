//! The clusters of the process, and the tasks that probe their members.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::state::{self, Kept};
use super::{Cluster, Member, State, probe};
use crate::config::Config;
use crate::pool::Pools;

/// Every cluster that a database or a tenant of the configuration is on, or that traffic is mirrored to.
#[derive(Debug, Default)]
pub struct Clusters {
    clusters: ArcSwap<Vec<Arc<Cluster>>>,
    changed: Arc<Notify>,
    state_dir: Mutex<Option<PathBuf>>,
}

/// How often it is looked whether every task still runs.
const ROUND: Duration = Duration::from_secs(1);

/// A task that probes one member; ends with the value.
struct Watch {
    cluster: Arc<Cluster>,
    member: Arc<Member>,
    /// Of its target, under which the pools' connections were opened.
    generation: u64,
    state: State,
    task: JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Keeps what has changed of clusters, if it is to be kept.
async fn keep(clusters: &[Arc<Cluster>], dir: Option<PathBuf>, kept: &mut HashMap<String, Kept>) {
    let Some(dir) = dir else { return };
    for cluster in clusters {
        let Some(now) = cluster.kept().filter(|now| kept.get(cluster.name()) != Some(now)) else { continue };
        let (dir, name) = (dir.clone(), cluster.name().to_string());
        let saved = tokio::task::spawn_blocking(move || state::save(&dir, &name, now)).await;
        match saved {
            Ok(Ok(())) => {
                kept.insert(cluster.name().to_string(), now);
            }
            // It is tried again in the next round.
            Ok(Err(e)) => {
                tracing::warn!(cluster = cluster.name(), error = %e, "cannot keep what is known of a cluster")
            }
            Err(_) => {}
        }
    }
}

/// Whether a tenant is on it.
fn has_tenants(config: &Config, cluster: &crate::config::Cluster) -> bool {
    config.tenants.listed.iter().any(|t| t.cluster.as_ref() == Some(&cluster.name))
}

impl Clusters {
    /// Puts a configuration into use, after the pools have ([`Pools::reload`]). Clusters and members that stay keep what
    /// is known of them.
    pub fn reload(&self, config: &Config, pools: &Pools) {
        self.state_dir.lock().clone_from(&config.general.state_dir);
        let before = self.clusters.load_full();
        let used = config.clusters.iter().filter(|c| {
            let has_databases = config.databases.iter().any(|d| d.cluster.as_ref() == Some(&c.name));
            has_databases || config.mirrors_to(&c.name) || has_tenants(config, c)
        });
        let clusters = used.map(|section| {
            let Some(known) = before.iter().find(|c| c.name() == section.name) else {
                return Cluster::new(config, section, pools, self.changed.clone());
            };
            known.change(config, pools);
            known.clone()
        });
        let now: Vec<Arc<Cluster>> = clusters.collect();
        let members =
            |all: &[Arc<Cluster>]| all.iter().flat_map(|c| c.members().to_vec()).collect::<Vec<_>>();
        let stay = members(&now);
        for gone in
            members(&before).iter().filter(|b| !stay.iter().any(|m| Arc::ptr_eq(&m.target, &b.target)))
        {
            gone.target.terms.enrol(false);
        }
        self.clusters.store(Arc::new(now));
        self.changed.notify_one();
    }

    /// The cluster of that name.
    pub fn get(&self, name: &str) -> Option<Arc<Cluster>> {
        self.clusters.load().iter().find(|c| c.name() == name).cloned()
    }

    /// All of them, in the configuration's order.
    pub fn all(&self) -> Arc<Vec<Arc<Cluster>>> {
        self.clusters.load_full()
    }

    /// Probes every member for as long as it is polled, and tells the pools who the primaries are.
    pub async fn run(&self, pools: &Pools) {
        let (mut watches, mut kept) = (Vec::<Watch>::new(), HashMap::new());
        loop {
            let clusters = self.all();
            let wanted = clusters
                .iter()
                .flat_map(|c| c.members().iter().map(|m| (c.clone(), m.clone())).collect::<Vec<_>>());
            let wanted: Vec<_> = wanted.collect();
            let is = |w: &Watch, (c, m): &(Arc<Cluster>, Arc<Member>)| {
                Arc::ptr_eq(&w.cluster, c) && Arc::ptr_eq(&w.member, m)
            };
            watches.retain(|w| !w.task.is_finished() && wanted.iter().any(|pair| is(w, pair)));
            for pair in wanted {
                if !watches.iter().any(|w| is(w, &pair)) {
                    let (cluster, member) = pair;
                    let task = tokio::spawn(probe::watch(cluster.clone(), member.clone()));
                    let generation = member.target.generation();
                    let state = State::Unknown;
                    watches.push(Watch { cluster, member, generation, state, task });
                }
            }
            for watch in &mut watches {
                let now = watch.member.target.generation();
                if std::mem::replace(&mut watch.generation, now) != now {
                    pools.renew(&watch.member.target);
                }
                let state = watch.member.state();
                if std::mem::replace(&mut watch.state, state) != state && state.is_used() {
                    pools.hurry(&watch.member.target);
                }
            }
            let state_dir = self.state_dir.lock().clone();
            keep(&clusters, state_dir, &mut kept).await;
            for cluster in clusters.iter() {
                if let Some(primary) = cluster.primary() {
                    pools.lead(cluster.name(), primary.name());
                }
            }
            let _ = tokio::time::timeout(ROUND, self.changed.notified()).await;
        }
    }
}
