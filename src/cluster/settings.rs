//! From the configuration to a cluster: settings and members, at the start and at each reload.

use std::sync::Arc;

use super::election::{Memory, State};
use super::member::{Meant, Member};
use super::{Cluster, Settings};
use crate::config::{self, Config, Database, Secret};
use crate::core::clock::Instant;
use crate::fence::Passed;
use crate::pool::Pools;
use crate::pool::connect::Credential;
use crate::pool::driver::Login;
use crate::route::locality::Place;

/// The database that every server has unless somebody has dropped it.
const POSTGRES: &str = "postgres";

/// What a cluster's section comes to, with what it takes from others.
pub(super) fn settings(config: &Config, cluster: &config::Cluster) -> Settings {
    let own = Place { zone: config.general.zone.clone(), region: config.general.region.clone() };
    let (logins, dbname) = (logins(config, cluster), dbname(config, cluster));
    Settings { logins, dbname, config: cluster.clone(), own }
}

/// The databases that are on it.
fn ours<'c>(config: &'c Config, cluster: &'c config::Cluster) -> impl Iterator<Item = &'c Database> {
    config.databases.iter().filter(|d| d.cluster.as_ref() == Some(&cluster.name))
}

/// Where probes log in.
fn dbname(config: &Config, cluster: &config::Cluster) -> String {
    let named = |d: &Database| d.dbname.clone().or_else(|| (d.name != "*").then(|| d.name.clone()));
    let dbname = cluster.dbname.clone().or_else(|| ours(config, cluster).find_map(named));
    dbname.unwrap_or_else(|| POSTGRES.to_string())
}

/// As whom probes may log in: who is named, or the users that the cluster's databases log in as, then all others; first
/// those with a password. Which of them is used is logged.
fn logins(config: &Config, cluster: &config::Cluster) -> Vec<Login> {
    let mut names: Vec<&str> = match &cluster.user {
        Some(user) => vec![user],
        None => {
            let first = ours(config, cluster).filter_map(|d| d.user.as_deref());
            first.chain(config.users.iter().map(|u| u.name.as_str())).collect()
        }
    };
    let mut seen = Vec::new();
    names.retain(|name| {
        !seen.contains(name) && {
            seen.push(*name);
            true
        }
    });
    let login = |name: &&str| {
        let secret =
            config.user(name).map(|u| &u.secret).filter(|s| !matches!(s, Secret::ScramVerifier(_)))?;
        let credential = Credential::of(Some(secret));
        Some(Login { user: (*name).to_string(), credential })
    };
    let mut logins: Vec<Login> = names.iter().filter_map(login).collect();
    logins.sort_by_key(|l| matches!(l.credential, Credential::None));
    logins
}

impl Cluster {
    /// Whether there is nobody to look at its servers as: then nothing is ever known of them.
    pub fn is_blind(&self) -> bool {
        self.settings.load().logins.is_empty()
    }

    /// Puts a new configuration into use. Members that stay keep what is known of them.
    pub(super) fn change(&self, config: &Config, pools: &Pools) {
        let Some(cluster) = config.cluster(&self.name) else { return };
        self.settings.store(Arc::new(settings(config, cluster)));
        if self.is_blind() {
            let hint = "without a [[user]] with a password all statements go to the first backend";
            tracing::warn!(cluster = self.name, "nobody can look at the servers: {hint}");
        }
        let (before, now) = (self.members(), Instant::now());
        let members: Vec<Arc<Member>> = cluster
            .members(config)
            .filter_map(|backend| {
                let target = pools.backend(&backend.name)?;
                let known = before.iter().find(|m| Arc::ptr_eq(&m.target, &target));
                let Some(member) = known else {
                    // From the start, nothing has been forgotten that a replica would have to be past.
                    let passed =
                        if before.is_empty() { Passed::default() } else { Passed::since(self.clock.now()) };
                    return Some(Member::new(target, Meant::of(backend), passed, now));
                };
                member.set_meant(Meant::of(backend));
                Some(member.clone())
            })
            .collect();
        let mut table = self.table.lock();
        table.memory = carried(&before, &members, &table.memory);
        for gone in before.iter().filter(|b| !members.iter().any(|m| Arc::ptr_eq(m, b))) {
            gone.set_state(State::Unknown);
        }
        // Where nobody looks at the servers, nothing is to be compared.
        members.iter().for_each(|m| m.target.terms.enrol(!self.is_blind()));
        self.members.store(Arc::new(members));
        self.decide(&mut table);
    }
}

/// What is still known when the members have changed. Timelines that were seen count for as long as any of those who
/// were on them are there; where nobody is left, it is another cluster.
fn carried(before: &[Arc<Member>], members: &[Arc<Member>], memory: &Memory) -> Memory {
    let now_at = |was: &Arc<Member>| members.iter().position(|m| Arc::ptr_eq(m, was));
    if !before.is_empty() && !before.iter().any(|was| now_at(was).is_some()) {
        return Memory::default();
    }
    let primary = memory.primary.and_then(|(i, timeline)| Some((now_at(before.get(i)?)?, timeline)));
    Memory { primary, ..memory.clone() }
}
