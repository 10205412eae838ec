//! The clusters of the process, and the tasks that probe their members.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{Cluster, Member, probe};
use crate::config::Config;
use crate::pool::Pools;

/// Every cluster that a database of the configuration is on.
#[derive(Debug, Default)]
pub struct Clusters {
    clusters: ArcSwap<Vec<Arc<Cluster>>>,
    changed: Arc<Notify>,
}

/// How often it is looked whether every task still runs.
const ROUND: Duration = Duration::from_secs(1);

/// A task that probes one member; ends with the value.
struct Watch {
    cluster: Arc<Cluster>,
    member: Arc<Member>,
    task: JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Clusters {
    /// Puts a configuration into use, after the pools have ([`Pools::reload`]). Clusters and members that stay keep what
    /// is known of them.
    pub fn reload(&self, config: &Config, pools: &Pools) {
        let before = self.clusters.load_full();
        let used = config
            .clusters
            .iter()
            .filter(|c| config.databases.iter().any(|d| d.cluster.as_ref() == Some(&c.name)));
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
        let mut watches: Vec<Watch> = Vec::new();
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
                    watches.push(Watch { cluster, member, task });
                }
            }
            for cluster in clusters.iter() {
                if let Some(primary) = cluster.primary() {
                    pools.lead(cluster.name(), primary.name());
                }
            }
            let _ = tokio::time::timeout(ROUND, self.changed.notified()).await;
        }
    }
}
