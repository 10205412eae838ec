//! `[[mirror]]`: traffic that is rehearsed elsewhere; and `[record]`: traffic that may be kept in files.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::check::{file, unique, unknown};
use super::raw::{Fault, Section, Sections, Source};
use super::route::{self, Rule};
use super::words::MIRROR_MODES;
use super::{Backend, Cluster, Config, Database, Secret, User, Writers};
use crate::core::limits::MAX_MIRRORS;

const TIMES: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
/// The least and the most that may wait, in bytes.
const SIZES: RangeInclusive<usize> = 64 << 10..=1 << 30;

/// Default of `record.max_size`, in bytes.
pub(super) const RECORDED_SIZE: usize = 256 << 20;
/// Default of `record.max_files`.
pub(super) const RECORDED_FILES: u32 = 4;
/// Default of `record.max_queued_bytes`.
pub(super) const RECORDED_WAITING: usize = 16 << 20;

/// What of the traffic is mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorMode {
    /// Reads, each on its own.
    Reads,
    /// All statements of some sessions, in order.
    Sessions,
}

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MirrorTarget {
    /// The `[[backend]]` of that name.
    Backend(String),
    /// The `[[cluster]]` of that name: its primary, or where only reads are mirrored its replicas.
    Cluster(String),
}

/// A part of a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u32);

impl Share {
    /// Nothing of it.
    pub const NONE: Share = Share(0);
    /// All of it.
    pub const ALL: Share = Share(Share::WHOLE);
    const WHOLE: u32 = 1_000_000;

    /// Whether a number, of those that are spread over all there are, falls into it.
    #[inline]
    pub fn has(self, dice: u32) -> bool {
        (u64::from(dice) * u64::from(Self::WHOLE)) >> 32 < u64::from(self.0)
    }

    /// As a part of one.
    pub fn of_one(self) -> f64 {
        f64::from(self.0) / f64::from(Self::WHOLE)
    }

    /// One percent, so often.
    pub const fn percent(of: u32) -> Share {
        Share(Self::WHOLE / 100 * of)
    }

    /// One that may be nothing.
    pub(super) fn parse_any(text: &str) -> Result<Share, Fault> {
        if matches!(text, "0" | "0%") { Ok(Share::NONE) } else { Share::parse(text) }
    }

    fn parse(text: &str) -> Result<Share, Fault> {
        let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        let parts = percent.map(|percent| (percent * f64::from(Self::WHOLE) / 100.0).round());
        match parts.filter(|parts| (1.0..=f64::from(Self::WHOLE)).contains(parts)) {
            Some(parts) => Ok(Share(parts as u32)),
            None => Err(Fault::from(format!("{text:?} is not a share such as \"10%\" or \"0.5%\""))),
        }
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}%", f64::from(self.0) * 100.0 / f64::from(Self::WHOLE))
    }
}

/// One `[[mirror]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    /// Its name.
    pub name: String,
    /// Which traffic: the conditions of a `[[route]]`, which says nothing.
    pub about: Rule,
    /// What of it.
    pub mode: MirrorMode,
    /// How much of it: of statements, or of sessions.
    pub share: Share,
    /// Where to.
    pub target: MirrorTarget,
    /// The database there.
    pub dbname: String,
    /// The `[[user]]` who logs in there.
    pub login: String,
    /// Most connections.
    pub connections: usize,
    /// Most statements that wait.
    pub max_queued: usize,
    /// Most bytes that they take.
    pub max_queued_bytes: usize,
    /// Longest time for a statement.
    pub timeout: Duration,
    /// Longest time to open a connection.
    pub connect_timeout: Duration,
}

/// `[record]`
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Directory of the files.
    pub dir: PathBuf,
    /// Where the key is that they are encrypted under.
    pub key_file: PathBuf,
    /// Whether the values of statements may be kept.
    pub literals: bool,
    /// Which traffic.
    pub about: Rule,
    /// How much of its sessions.
    pub share: Share,
    /// Largest file, in bytes.
    pub max_size: usize,
    /// Most files of one recording; then it ends.
    pub max_files: u32,
    /// Most bytes that wait to be written.
    pub max_queued_bytes: usize,
}

impl Config {
    /// What each `[[mirror]]` is about, and then what `[record]` is.
    pub fn mirrored(&self) -> Vec<Rule> {
        let record = self.record.iter().map(|record| &record.about);
        self.mirrors.iter().map(|mirror| &mirror.about).chain(record).cloned().collect()
    }

    /// Whether traffic is mirrored to that cluster.
    pub fn mirrors_to(&self, cluster: &str) -> bool {
        self.mirrors.iter().any(|m| matches!(&m.target, MirrorTarget::Cluster(name) if name == cluster))
    }
}

/// What sections refer to.
#[derive(Clone, Copy)]
pub(super) struct Known<'c> {
    pub backends: &'c [Backend],
    pub clusters: &'c [Cluster],
    pub databases: &'c [Database],
    pub users: &'c [User],
}

/// `[[mirror]]` and `[record]`.
pub(super) fn rehearsals(
    source: &Source<'_>,
    sections: &Sections<'_>,
    known: Known<'_>,
) -> (Vec<Mirror>, Option<Record>) {
    let list = sections.list("mirror");
    unique(source, &list);
    (mirrors(&list, known), record(&sections.table("record")))
}

/// `[[mirror]]`
fn mirrors(sections: &[Section<'_>], known: Known<'_>) -> Vec<Mirror> {
    if let Some(section) = sections.get(MAX_MIRRORS) {
        section.report("", format!("there are more than {MAX_MIRRORS} of them"));
    }
    sections.iter().map(|section| mirror(section, known)).collect()
}

fn mirror(section: &Section<'_>, known: Known<'_>) -> Mirror {
    let mode = section.word("mode", MIRROR_MODES).unwrap_or(MirrorMode::Reads);
    for key in ["table", "fingerprint", "class"].into_iter().filter(|key| section.has(key)) {
        if mode == MirrorMode::Sessions {
            let fault = Fault::from("says something of statements, and sessions are mirrored whole");
            section.report(key, fault.hint("use user, database and application_name, or mode = \"reads\""));
        }
    }
    let about = route::conditions(section);
    let dbname = section.text("dbname").or_else(|| same_database(&about, known.databases));
    if dbname.is_none() && !section.has("dbname") {
        let fault = Fault::from("is missing: more databases than one are mirrored");
        section.report("dbname", fault.hint("name one in database, or the one there in dbname"));
    }
    let (target, dbname) = (target(section, known), dbname.unwrap_or_default());
    if mode == MirrorMode::Sessions
        && let Some(database) = written_past(&target, &dbname, known)
    {
        let name = &database.name;
        let fault = Fault::from(format!("would write to database \"{name}\" past its clients"));
        section.report("mode", fault.hint(format!("[[database]] \"{name}\" says writers = \"proxy\"")));
    }
    Mirror {
        name: section.required("name"),
        mode,
        share: share(section),
        target,
        dbname,
        login: login(section, known.users),
        connections: section.number("connections", 1..=1000).unwrap_or(4),
        max_queued: section.number("max_queued", 1..=1_000_000).unwrap_or(10_000),
        max_queued_bytes: section.size("max_queued_bytes", SIZES).unwrap_or(16 << 20),
        timeout: section.duration("timeout", TIMES).unwrap_or(Duration::from_secs(10)),
        connect_timeout: section.duration("connect_timeout", TIMES).unwrap_or(Duration::from_secs(5)),
        about,
    }
}

/// The database that a mirror's sessions would write to although all writers are said to be clients: what is kept of its
/// results would not be outdated by them.
fn written_past<'d>(target: &MirrorTarget, dbname: &str, known: Known<'d>) -> Option<&'d Database> {
    let members = |name: &str| known.clusters.iter().find(|c| c.name == name).map(|c| c.backends.clone());
    let there = match target {
        MirrorTarget::Backend(name) => {
            known.backends.iter().position(|b| b.name == *name).into_iter().collect()
        }
        MirrorTarget::Cluster(name) => members(name).unwrap_or_default(),
    };
    known.databases.iter().find(|database| {
        let here = database.cluster.as_deref().and_then(members).unwrap_or_else(|| vec![database.backend]);
        database.writers == Writers::Proxy
            && database.dbname.as_deref().unwrap_or(&database.name) == dbname
            && here.iter().any(|backend| there.contains(backend))
    })
}

/// The one database that conditions are about has that name on its server.
fn same_database(about: &Rule, databases: &[Database]) -> Option<String> {
    let [one] = about.databases.as_slice() else { return None };
    let served = databases.iter().find(|d| *d.name == *one.text);
    (!one.open).then(|| served.and_then(|d| d.dbname.clone()).unwrap_or_else(|| one.text.to_string()))
}

fn share(section: &Section<'_>) -> Share {
    let Some(text) = section.text("share") else { return Share::ALL };
    Share::parse(&text).map_err(|fault| section.report("share", fault)).unwrap_or(Share::ALL)
}

fn target(section: &Section<'_>, known: Known<'_>) -> MirrorTarget {
    let check = |key: &str, what: &str, name: &str, names: Vec<&str>| {
        if !names.contains(&name) {
            section.report(key, unknown(what, name, names));
        }
    };
    match (section.text("backend"), section.text("cluster")) {
        (Some(_), Some(_)) => section.report("cluster", "backend is already given: there is one target"),
        (None, None) if !section.has("backend") && !section.has("cluster") => {
            section.report("backend", "is missing: a mirror is a backend or a cluster");
        }
        _ => {}
    }
    if let Some(name) = section.text("cluster") {
        let names = known.clusters.iter().map(|c| c.name.as_str()).collect();
        check("cluster", "[[cluster]]", &name, names);
        return MirrorTarget::Cluster(name);
    }
    let name = section.text("backend").unwrap_or_default();
    if !name.is_empty() {
        check("backend", "[[backend]]", &name, known.backends.iter().map(|b| b.name.as_str()).collect());
    }
    MirrorTarget::Backend(name)
}

/// Who logs in there must be able to do so alone.
fn login(section: &Section<'_>, users: &[User]) -> String {
    let name = section.required("login");
    match users.iter().find(|user| user.name == name) {
        _ if name.is_empty() => {}
        None => section.report("login", unknown("[[user]]", &name, users.iter().map(|u| u.name.as_str()))),
        Some(User { secret: Secret::ScramVerifier(_), .. }) => {
            let fault = Fault::from(format!("[[user]] {name:?} has no password to log in with"));
            let hint = "set its password_env or password_file; a SCRAM verifier proves nothing to a backend";
            section.report("login", fault.hint(hint));
        }
        Some(_) => {}
    }
    name
}

/// `[record]`; nothing where it says nothing.
fn record(section: &Section<'_>) -> Option<Record> {
    let dir = section.path("dir");
    if let Some(dir) = dir.as_ref().filter(|dir| !dir.is_dir()) {
        section.report("dir", format!("{} is not a directory", dir.display()));
    }
    let key_file = file(section, "key_file");
    for (key, other) in [("dir", "key_file"), ("key_file", "dir")] {
        if section.has(other) && !section.has(key) {
            section.report(key, "is missing: recordings have a place, and are encrypted");
        }
    }
    let recorded = Record {
        dir: dir.unwrap_or_default(),
        key_file: key_file.unwrap_or_default(),
        literals: section.flag("literals").unwrap_or(false),
        about: route::conditions(section),
        share: share(section),
        max_size: section.size("max_size", 1 << 20..=1 << 40).unwrap_or(RECORDED_SIZE),
        max_files: section.number("max_files", 1..=10_000).unwrap_or(RECORDED_FILES),
        max_queued_bytes: section.size("max_queued_bytes", SIZES).unwrap_or(RECORDED_WAITING),
    };
    section.has("dir").then_some(recorded)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shares() {
        let shown = |text: &str| Share::parse(text).map(|s| s.to_string()).ok();
        for (text, want) in [
            ("100%", Some("100%")),
            ("0.5%", Some("0.5%")),
            ("12.25 %", Some("12.25%")),
            ("0%", None),
            ("101%", None),
            ("-1%", None),
            ("NaN%", None),
            ("10", None),
        ] {
            assert_eq!(shown(text).as_deref(), want, "{text}");
        }
        assert!(Share::ALL.has(u32::MAX) && Share::ALL.has(0));
    }

    proptest! {
        /// Of numbers that are spread evenly, as many fall into a share as it says.
        #[test]
        fn a_share_is_that_much(percent in 1u32..=100) {
            let share = Share::parse(&format!("{percent}%")).unwrap();
            let taken = (0..10_000u32).filter(|i| share.has(i * 429_496)).count();
            prop_assert!(taken.abs_diff(percent as usize * 100) <= 101, "{taken}");
        }
    }
}
