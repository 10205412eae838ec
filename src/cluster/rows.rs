//! The plain rows in which clusters show themselves to observers.

use std::time::Duration;

use super::{Cluster, State};
use crate::config::Role;
use crate::core::clock::Instant;
use crate::fence::Number;
use crate::route::health::Report;

/// One member, as SHOW BACKENDS tells of it.
#[derive(Clone, Debug)]
pub struct MemberRow {
    /// The cluster's name.
    pub cluster: String,
    /// The backend's name.
    pub backend: String,
    /// Host, address or socket directory.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// What it is.
    pub state: State,
    /// What it is meant to be.
    pub role: Role,
    /// The timeline that it is on, if it answers and tells.
    pub timeline: Option<u32>,
    /// Its position in the WAL.
    pub position: Option<String>,
    /// How far behind it is.
    pub lag: Duration,
    /// The same in bytes.
    pub lag_bytes: u64,
    /// Bytes that it has received and not replayed.
    pub unreplayed_bytes: Option<u64>,
    /// The number of the last sample that it has passed.
    pub passed: Number,
    /// Its zone.
    pub zone: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// How far away it is: 0 is the same zone, 1 the same region, more is farther.
    pub level: u8,
    /// Its weight.
    pub weight: u32,
    /// How well it is.
    pub health: Report,
}

/// The fences of one database, as SHOW FENCES tells of them.
#[derive(Clone, Debug)]
pub struct FenceRow {
    /// The cluster's name.
    pub cluster: String,
    /// The database's name on the servers.
    pub dbname: String,
    /// Slots of tables that have been written.
    pub fenced: usize,
    /// Of these, those that some replica is not past.
    pub behind: usize,
    /// The fence of everything.
    pub everything: Number,
    /// The last number that was taken.
    pub now: Number,
    /// The least that a replica has passed.
    pub passed: Number,
}

impl Cluster {
    /// Every member now.
    pub fn member_rows(&self) -> Vec<MemberRow> {
        let now = Instant::now();
        let members = self.members.load();
        let row = |member: &std::sync::Arc<super::Member>| {
            let (seen, meant) = (*member.seen.lock(), member.meant.load());
            let (lag, lag_bytes) = member.lag();
            let unreplayed = seen.and_then(|s| Some(s.received?.0.saturating_sub(s.position.0)));
            MemberRow {
                cluster: self.name.clone(),
                backend: member.name().to_string(),
                host: member.target.host(),
                port: member.target.port(),
                state: member.state(),
                role: meant.role,
                timeline: seen.and_then(|s| s.timeline),
                position: seen.map(|s| s.position.to_string()),
                lag,
                lag_bytes,
                unreplayed_bytes: unreplayed,
                passed: member.passed.get(),
                zone: meant.place.zone.clone(),
                region: meant.place.region.clone(),
                level: member.level(),
                weight: meant.weight,
                health: member.health.report(now),
            }
        };
        members.iter().map(row).collect()
    }

    /// The fences of every database now.
    pub fn fence_rows(&self) -> Vec<FenceRow> {
        let (now, passed) = (self.clock.now(), self.least_passed());
        let fences: Vec<_> = self.fences.lock().iter().map(|(n, f)| (n.clone(), f.clone())).collect();
        let row = |(dbname, fences): (String, std::sync::Arc<crate::fence::Fences>)| {
            let (fenced, behind, everything) = fences.summary(passed);
            FenceRow { cluster: self.name.clone(), dbname, fenced, behind, everything, now, passed }
        };
        fences.into_iter().map(row).collect()
    }
}
