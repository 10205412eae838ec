//! `[[cluster]]`: a primary and its replicas, and where the statements of their databases may go.

use std::collections::HashMap;
use std::time::Duration;

use super::check::{ANY_TIME, unknown};
use super::discovery::{self, Discovery};
use super::raw::{Fault, Section};
use super::words::{CONSISTENCIES, STRATEGIES, TRANSACTIONS};
use super::{Backend, Config, Secret, User};
use crate::core::limits::MAX_MEMBERS;

/// What a backend is meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What the server says.
    Auto,
    /// The primary; where the server says otherwise, its word counts, and that is logged.
    Primary,
    /// Never the primary, whatever the server says.
    Replica,
}

/// How one of several replicas is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balancing {
    /// One after the other.
    RoundRobin,
    /// Any, with equal chances.
    Random,
    /// The one with the fewest statements under way, for its weight.
    LeastConnections,
    /// Of two, the one whose decayed peak latency times load is lower.
    PeakEwma,
    /// Any, with chances by weight.
    Weighted,
}

/// What a read must see, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Consistency {
    /// Anything that was true once.
    Eventual,
    /// All but what is newer than a bound.
    Bounded,
    /// Its client's own writes.
    Session,
    /// Everybody's writes that went through this process.
    Global,
}

/// Where transactions begin whose content is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transactions {
    /// On the primary.
    Primary,
    /// On a replica, until they write.
    Optimistic,
}

/// Where the statements of a database may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// What reads must see.
    pub consistency: Consistency,
    /// How old may be what a bounded read sees; zero is no bound.
    pub max_lag: Duration,
    /// How many bytes of WAL a replica may be behind for a bounded read; zero is no bound.
    pub max_lag_bytes: u64,
    /// How long a read may wait for a replica that has seen enough.
    pub replica_wait: Duration,
    /// Where transactions begin.
    pub transactions: Transactions,
    /// Whether reads may go to replicas.
    pub split: bool,
    /// Whether the primary serves reads that no replica may serve.
    pub fallback_to_primary: bool,
}

impl Default for Routing {
    fn default() -> Self {
        ROUTING
    }
}

/// What holds where neither a cluster nor a database says otherwise.
pub(super) const ROUTING: Routing = Routing {
    consistency: Consistency::Session,
    max_lag: Duration::from_secs(1),
    max_lag_bytes: 16 << 20,
    replica_wait: Duration::ZERO,
    transactions: Transactions::Primary,
    split: true,
    fallback_to_primary: true,
};

/// A primary and its replicas.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Name used by `[[database]]`, logs and metrics.
    pub name: String,
    /// Its members: indices into [`Config::backends`], in the file's order.
    pub backends: Vec<usize>,
    /// How a replica is chosen.
    pub strategy: Balancing,
    /// Time between two probes of a member.
    pub lag_interval: Duration,
    /// How long statements wait for a primary when there is none.
    pub failover_wait: Duration,
    /// The `[[user]]` that probes log in as; `None` means the first that can.
    pub user: Option<String>,
    /// The database that probes connect to; `None` means that of the first `[[database]]` on the cluster.
    pub dbname: Option<String>,
    /// How members are found that are not written down.
    pub discovery: Discovery,
    /// Where statements may go, if their database does not say.
    pub routing: Routing,
}

impl Cluster {
    /// Its members.
    pub fn members<'c>(&'c self, config: &'c Config) -> impl Iterator<Item = &'c Backend> {
        self.backends.iter().filter_map(|i| config.backends.get(*i))
    }
}

/// `[[cluster]]`
pub(super) fn clusters(sections: &[Section<'_>], backends: &[Backend], users: &[User]) -> Vec<Cluster> {
    let mut taken = HashMap::new();
    sections.iter().map(|section| cluster(section, backends, users, &mut taken)).collect()
}

fn cluster(
    section: &Section<'_>,
    backends: &[Backend],
    users: &[User],
    taken: &mut HashMap<usize, String>,
) -> Cluster {
    let name = section.required("name");
    let user = section.text("user");
    if let Some(user) = &user {
        check_user(section, user, users);
    }
    Cluster {
        backends: members(section, &name, backends, taken),
        strategy: section.word("strategy", STRATEGIES).unwrap_or(Balancing::PeakEwma),
        lag_interval: section
            .duration("lag_interval", Duration::from_millis(10)..=Duration::from_secs(60))
            .unwrap_or(Duration::from_millis(100)),
        failover_wait: section.duration("failover_wait", ANY_TIME).unwrap_or(Duration::from_secs(30)),
        user,
        dbname: section.text("dbname"),
        discovery: discovery::discovery(section),
        routing: routing(section, &ROUTING),
        name,
    }
}

/// Probes log in by themselves: a verifier is good only for those who know the password.
fn check_user(section: &Section<'_>, name: &str, users: &[User]) {
    match users.iter().find(|u| u.name == name) {
        None => section.report("user", unknown("[[user]]", name, users.iter().map(|u| u.name.as_str()))),
        Some(user) if matches!(user.secret, Secret::ScramVerifier(_)) => {
            let fault = Fault::from(format!("{name:?} has only a verifier, which logs nobody in"));
            section.report("user", fault.hint("give that [[user]] a password"));
        }
        Some(_) => {}
    }
}

fn members(
    section: &Section<'_>,
    cluster: &str,
    backends: &[Backend],
    taken: &mut HashMap<usize, String>,
) -> Vec<usize> {
    match section.count("backends") {
        None => section.report("backends", "is missing"),
        Some(0) => section.report("backends", "must not be empty"),
        Some(n) if n > MAX_MEMBERS => {
            section.report("backends", format!("has {n} of them, more than {MAX_MEMBERS}"))
        }
        Some(_) => {}
    }
    let mut members = Vec::new();
    for name in section.texts("backends").unwrap_or_default() {
        let Some(i) = backends.iter().position(|b| b.name == name) else {
            let known = backends.iter().map(|b| b.name.as_str());
            section.report("backends", unknown("[[backend]]", &name, known));
            continue;
        };
        match taken.insert(i, cluster.to_string()) {
            Some(_) if members.contains(&i) => section.report("backends", format!("{name:?} occurs twice")),
            Some(other) => section.report("backends", format!("{name:?} is already in cluster {other:?}")),
            None => members.push(i),
        }
    }
    members
}

/// Where a database is.
pub(super) struct Place<'c> {
    /// See [`super::Database::backend`].
    pub backend: usize,
    /// The cluster, if it is on one.
    pub cluster: Option<&'c Cluster>,
}

/// Reads `backend` and `cluster` of a `[[database]]`.
pub(super) fn place<'c>(section: &Section<'_>, backends: &[Backend], clusters: &'c [Cluster]) -> Place<'c> {
    let backend = section.text("backend").and_then(|name| {
        let found = backends.iter().position(|b| b.name == name);
        if found.is_none() {
            let known = backends.iter().map(|b| b.name.as_str());
            section.report("backend", unknown("[[backend]]", &name, known));
        }
        found
    });
    let cluster = section.text("cluster").and_then(|name| {
        let found = clusters.iter().find(|c| c.name == name);
        if found.is_none() {
            let known = clusters.iter().map(|c| c.name.as_str());
            section.report("cluster", unknown("[[cluster]]", &name, known));
        }
        found
    });
    match (section.has("backend"), section.has("cluster")) {
        (true, true) => {
            section.report("cluster", "backend is already given: a database is on one or the other")
        }
        (false, false) => section.report("backend", "is missing: a database is on a backend or a cluster"),
        (true, false) => {
            for key in super::keys::routing().filter(|key| section.has(key)) {
                section.report(key, "has no effect on a database that is not on a cluster");
            }
        }
        (false, true) => {}
    }
    let first = cluster.map(|c| first(c, backends));
    Place { backend: backend.or(first).unwrap_or_default(), cluster }
}

/// The member to use until it is known which is the primary.
pub(super) fn first(cluster: &Cluster, backends: &[Backend]) -> usize {
    let is_meant = |i: &&usize| backends.get(**i).is_some_and(|b| b.role == Role::Primary);
    let meant = cluster.backends.iter().find(is_meant);
    meant.or(cluster.backends.first()).copied().unwrap_or_default()
}

/// Reads what a cluster or a database says of where statements may go; what it does not say is as in `base`.
pub(super) fn routing(section: &Section<'_>, base: &Routing) -> Routing {
    let size = section.size("max_lag_bytes", 0..=usize::MAX >> 1);
    let routing = Routing {
        consistency: section.word("consistency", CONSISTENCIES).unwrap_or(base.consistency),
        max_lag: section.duration("max_lag", ANY_TIME).unwrap_or(base.max_lag),
        max_lag_bytes: size.map_or(base.max_lag_bytes, |n| n as u64),
        replica_wait: section.duration("replica_wait", ANY_TIME).unwrap_or(base.replica_wait),
        transactions: section.word("transactions", TRANSACTIONS).unwrap_or(base.transactions),
        split: section.flag("split").unwrap_or(base.split),
        fallback_to_primary: section.flag("fallback_to_primary").unwrap_or(base.fallback_to_primary),
    };
    let unbounded = routing.max_lag.is_zero() && routing.max_lag_bytes == 0;
    let own = ["consistency", "max_lag", "max_lag_bytes"].into_iter().find(|key| section.has(key));
    if let Some(key) = own.filter(|_| unbounded && routing.consistency == Consistency::Bounded) {
        section.report(key, "bounded needs max_lag or max_lag_bytes: both are 0");
    }
    routing
}
