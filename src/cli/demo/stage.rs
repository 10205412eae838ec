//! What stands behind the demo's proxy: a cluster with the sample data in it.
#![allow(clippy::print_stderr, reason = "a command speaks to whoever typed it")]

use std::sync::Arc;

use crate::app::cluster::{Cluster, ClusterError, ClusterOptions};

const SCHEMA: &str = include_str!("../../../migrations/sample/001_schema.sql");
const GENERATE: &str = include_str!("../../../migrations/sample/002_generate.sql");

/// The role that the demo's clients log in as, and its password: the cluster listens on loopback only.
pub(super) const USER: &str = "demo";
/// The database on the servers.
pub(super) const DATABASE: &str = "audit";

/// A cluster ready to be shown.
#[derive(Debug)]
pub(super) struct Stage(Arc<Cluster>);

impl Stage {
    /// Makes the cluster and fills it.
    pub(super) async fn set(events: u64, quiet: bool) -> Result<Self, String> {
        let say = move |what: &str| {
            if quiet {
            } else {
                eprintln!("{what}")
            }
        };
        let setting = tokio::task::spawn_blocking(move || set(events, say));
        let cluster = setting.await.map_err(|e| format!("setting up failed: {e}"))?;
        cluster.map(|cluster| Stage(Arc::new(cluster))).map_err(|e| e.to_string())
    }

    /// The cluster.
    pub(super) fn cluster(&self) -> &Arc<Cluster> {
        &self.0
    }

    /// Stops it and removes what it left.
    pub(super) async fn clear(self, quiet: bool) {
        if !quiet {
            eprintln!("\nstopping PostgreSQL and removing {}", self.0.dir().display());
        }
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}

fn set(events: u64, say: impl Fn(&str)) -> Result<Cluster, ClusterError> {
    say("starting a primary and two replicas ...");
    let cluster = Cluster::start(ClusterOptions { replicas: 2, ..ClusterOptions::default() })?;
    let primary = cluster.primary();
    primary.psql("postgres", &format!("CREATE ROLE {USER} LOGIN PASSWORD '{USER}'"))?;
    primary.psql("postgres", &format!("CREATE DATABASE {DATABASE} OWNER {USER}"))?;
    say(&format!("loading {events} events ..."));
    primary.psql(DATABASE, &load(events))?;
    cluster.wait_replayed()?;
    Ok(cluster)
}

/// Everything belongs to the demo's role, so that it may be played with.
fn load(events: u64) -> String {
    format!(
        "SET ROLE {USER};\n{SCHEMA}\n{GENERATE}\nCALL sample_people();\nCALL sample_events({events});\n\
         VACUUM ANALYZE audit_log, principals, organizations;"
    )
}
