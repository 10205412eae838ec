//! The plain rows in which clusters show themselves to observers.

use std::sync::Arc;
use std::time::Duration;

use super::{Cluster, State};
use crate::config::Role;
use crate::core::clock::Instant;
use crate::fence::{self, Number};
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
    /// Whether nobody has written it down.
    pub found: bool,
    /// Its weight.
    pub weight: u32,
    /// How well it is.
    pub health: Report,
}

/// One fence of a database, as SHOW FENCES tells of it.
#[derive(Clone, Debug)]
pub struct FenceRow {
    /// The cluster's name.
    pub cluster: String,
    /// The database's name on the servers.
    pub dbname: String,
    /// The table by oid; `None` for the fence of everything.
    pub table: Option<u32>,
    /// Its number.
    pub fence: Number,
    /// Samples that the farthest replica has to pass until it is past it.
    pub behind: Number,
    /// Replicas that are not past it.
    pub lacking: Vec<String>,
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
        let row = |member: &Arc<super::Member>| {
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
                found: meant.found,
                weight: meant.weight,
                health: member.health.report(now),
            }
        };
        members.iter().map(row).collect()
    }

    /// The fences of every database now: that of everything, then those of tables that some replica is not past, the
    /// farthest first.
    pub fn fence_rows(&self) -> Vec<FenceRow> {
        let (now, passed) = (self.clock.now(), self.least_passed());
        let members = self.members.load();
        let others = members.iter().filter(|m| !matches!(m.state(), State::Primary | State::Stranger));
        let others: Vec<(&str, Number)> = others.map(|m| (m.name(), m.passed.get())).collect();
        let row = |dbname: &str, table: Option<u32>, number: Number| {
            let lacking = others.iter().filter(|(_, passed)| !fence::is_past(*passed, number));
            let farthest = lacking.clone().map(|(_, passed)| *passed).min();
            FenceRow {
                cluster: self.name.clone(),
                dbname: dbname.to_string(),
                table,
                fence: number,
                behind: farthest.map_or(0, |passed| number.saturating_add(1).saturating_sub(passed)),
                lacking: lacking.map(|(name, _)| (*name).to_string()).collect(),
                now,
                passed,
            }
        };
        let fences: Vec<_> = self.fences.lock().iter().map(|(n, f)| (n.clone(), f.clone())).collect();
        let of = |(dbname, fences): &(String, Arc<fence::Fences>)| {
            let (all, tables) = fences.rows(passed);
            let mut tables: Vec<_> =
                tables.into_iter().map(|(table, number)| row(dbname, Some(table), number)).collect();
            tables.sort_by_key(|row| (std::cmp::Reverse(row.behind), row.table));
            std::iter::once(row(dbname, None, all)).chain(tables).collect::<Vec<_>>()
        };
        fences.iter().flat_map(of).collect()
    }
}
