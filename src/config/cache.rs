//! `[[cache]]`: whose results may be kept, for how long, and how old they may be; and the same as sessions and comments ask
//! for it.

use std::path::PathBuf;
use std::time::Duration;

use super::check::{ANY_TIME, SOME_TIME, file};
use super::mirror::Share;
use super::raw::{Fault, Section, Sections};
use super::redis::{Redis, RedisMode, redis};
use super::route::{fingerprint, list, prints};
use super::words::{CACHE_MODES, word};
use super::{Database, General, Pattern, Writers, units};
use crate::core::limits::MAX_RULES;

/// How fresh a kept result must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMode {
    /// As fresh as one that is read now; where there are writers elsewhere, as one that was read a moment ago.
    Exact,
    /// The same, and as fresh as all that was written through any process that shares the same Redis.
    Strict,
    /// At most as old as its time to live, and as fresh as all that was written through this process.
    Bounded,
    /// Nothing is kept.
    Off,
}

/// What a session or a comment asks for (`turnpike.cache`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheAsk {
    /// Whatever the rules allow.
    On,
    /// Nothing.
    Off,
    /// What they allow, and nothing that is older than that.
    For(Duration),
}

impl CacheMode {
    /// Whether what is given lacks nothing that was written, wherever that was.
    pub fn is_exact(self) -> bool {
        matches!(self, CacheMode::Exact | CacheMode::Strict)
    }
}

impl CacheAsk {
    /// From what is said. `None` where that is nothing that can be meant.
    pub fn read(value: &str) -> Option<CacheAsk> {
        match value.trim().to_ascii_lowercase().as_str() {
            "on" | "true" | "yes" | "1" => Some(CacheAsk::On),
            "off" | "false" | "no" | "0" => Some(CacheAsk::Off),
            other => {
                let time = units::duration(other).ok().filter(|time| SOME_TIME.contains(time))?;
                Some(CacheAsk::For(time))
            }
        }
    }
}

/// One `[[cache]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheRule {
    /// Line of the file that it begins on, from 1.
    pub line: usize,
    /// Who has logged in.
    pub users: Vec<Pattern>,
    /// To which database, as clients name it.
    pub databases: Vec<Pattern>,
    /// A table that the statement reads, with or without its schema.
    pub tables: Vec<Pattern>,
    /// The statement's shape.
    pub fingerprints: Vec<u128>,
    /// Only what a comment or the session asks for.
    pub asked: bool,
    /// Only shapes that are found to be worth it.
    pub auto: bool,
    /// How fresh.
    pub mode: CacheMode,
    /// How long a result is served at most.
    pub ttl: Duration,
    /// How much longer while somebody reads it again.
    pub stale: Duration,
    /// Most rows of a result that is kept.
    pub max_rows: u64,
    /// Most bytes of it.
    pub max_bytes: usize,
    /// In Redis, too.
    pub remote: bool,
}

/// How long what is exact is kept where nothing is said.
const LONG: Duration = Duration::from_secs(3600);

impl CacheRule {
    /// What it is about and what it says, key by key, as the file would have it.
    pub fn said(&self) -> Vec<(&'static str, String)> {
        let conditions = [
            ("user", list(&self.users)),
            ("database", list(&self.databases)),
            ("table", list(&self.tables)),
            ("fingerprint", prints(&self.fingerprints)),
            ("asked", if self.asked { "true".into() } else { String::new() }),
            ("auto", if self.auto { "true".into() } else { String::new() }),
        ];
        let says = [
            ("mode", word(CACHE_MODES, &self.mode).to_string()),
            ("ttl", units::show_duration(self.ttl)),
            ("stale_while_revalidate", units::show_duration(self.stale)),
            ("max_rows", self.max_rows.to_string()),
            ("max_bytes", units::show_size(self.max_bytes as u64)),
            ("levels", if self.remote { "l1,l2".into() } else { "l1".into() }),
        ];
        let says = says.into_iter().filter(|_| self.mode != CacheMode::Off);
        let off = (self.mode == CacheMode::Off).then(|| ("mode", "off".to_string()));
        conditions.into_iter().filter(|(_, text)| !text.is_empty()).chain(off).chain(says).collect()
    }
}

/// `general.cache_warm`
pub(super) fn warm(section: &Section<'_>) -> Share {
    let share = section.text("cache_warm").map(|text| Share::parse_any(&text));
    share
        .transpose()
        .unwrap_or_else(|fault| {
            section.report("cache_warm", fault);
            None
        })
        .unwrap_or(Share::percent(2))
}

/// `general.cache_warm_key_file`
pub(super) fn warm_key_file(section: &Section<'_>) -> Option<PathBuf> {
    let path = file(section, "cache_warm_key_file")?;
    if !section.has("state_dir") {
        section.report("cache_warm_key_file", "has no effect without general.state_dir");
    }
    Some(path)
}

/// `[redis]` and `[[cache]]`
pub(super) fn caches(
    sections: &Sections<'_>,
    general: &General,
    databases: &[Database],
) -> (Option<Redis>, Vec<CacheRule>) {
    let redis = redis(&sections.table("redis"));
    let rules = rules(&sections.list("cache"), general, databases, redis.as_ref());
    let idle = |database: &Database| !database.invalidation.is_told() && !is_strict(&rules, &database.name);
    for (section, database) in sections.list("database").iter().zip(databases) {
        if section.has("invalidation_user") && idle(database) {
            section.report(
                "invalidation_user",
                "has no effect without invalidation, or a [[cache]] whose mode is strict",
            );
        }
    }
    (redis, rules)
}

/// `[[cache]]`
fn rules(
    sections: &[Section<'_>],
    general: &General,
    databases: &[Database],
    redis: Option<&Redis>,
) -> Vec<CacheRule> {
    if let Some(section) = sections.get(MAX_RULES) {
        section.report("", format!("there are more than {MAX_RULES} of them"));
    }
    let rules: Vec<_> = sections.iter().map(rule).collect();
    for (section, rule) in sections.iter().zip(&rules).filter(|(_, rule)| rule.mode != CacheMode::Off) {
        if general.cache_memory == 0 {
            section.report("mode", "has no effect without general.cache_memory");
        }
        if rule.remote && redis.is_none() {
            section.report("levels", "l2 is Redis: [redis] does not say where that is");
        }
        if rule.mode.is_exact() {
            exact(section, rule, general, databases);
        }
        if rule.mode == CacheMode::Strict {
            strict(section, rule, databases, redis);
        }
    }
    rules
}

/// Whether a rule says strict of this database, as clients name it.
pub fn is_strict(rules: &[CacheRule], database: &str) -> bool {
    let names =
        |rule: &CacheRule| rule.databases.is_empty() || rule.databases.iter().any(|p| p.matches(database));
    rules.iter().any(|rule| rule.mode == CacheMode::Strict && names(rule))
}

/// Those that a rule may be about.
fn meant<'d>(rule: &CacheRule, databases: &'d [Database]) -> impl Iterator<Item = &'d Database> {
    databases.iter().filter(move |database| {
        let any = database.name == "*"
            && rule
                .databases
                .iter()
                .any(|pattern| pattern.open || databases.iter().all(|other| *other.name != *pattern.text));
        any || rule.databases.is_empty() || rule.databases.iter().any(|p| p.matches(&database.name))
    })
}

/// What is strict is so only where every process that writes can tell the others.
fn strict(section: &Section<'_>, rule: &CacheRule, databases: &[Database], redis: Option<&Redis>) {
    match redis.map(|redis| redis.mode) {
        Some(RedisMode::Single) => {}
        None => section.report("mode", "strict needs Redis: [redis] does not say where that is"),
        Some(_) => {
            let fault = Fault::from("strict needs one Redis server: others may forget what was acknowledged");
            section.report("mode", fault.hint("mode = \"single\" in [redis]; or mode = \"exact\" here"));
        }
    }
    if meant(rule, databases).any(|database| database.name == "*") {
        let fault = Fault::from("strict needs databases with names");
        section.report("mode", fault.hint("name them in the rule, and give each a [[database]] of its own"));
    }
    if let Some(database) = meant(rule, databases).find(|database| database.invalidation.user.is_none()) {
        let fault = Fault::from(format!(
            "strict needs somebody who asks the server of database {:?} who else writes to it",
            database.name
        ));
        section.report("mode", fault.hint("name a [[user]] as invalidation_user in its [[database]]"));
    }
}

/// What is exact is so only where every write is seen.
fn exact(section: &Section<'_>, rule: &CacheRule, general: &General, databases: &[Database]) {
    let mode = word(CACHE_MODES, &rule.mode);
    let untold = |d: &&Database| d.writers != Writers::Proxy && !d.invalidation.is_told();
    if let Some(database) = meant(rule, databases).find(untold) {
        let fault = Fault::from(format!(
            "{mode} needs every write of database {:?} to be known, and nothing tells of those past this process",
            database.name
        ));
        let hint = "run `turnpike cache enable-wal` (or enable-triggers) and say invalidation = \"wal\" (or \
                    \"triggers\") in its [[database]]; or writers = \"proxy\", where all writes pass through this \
                    process; or mode = \"bounded\" with a ttl";
        section.report("mode", fault.hint(hint));
    }
    if general.takeover_socket.is_some() && rule.mode == CacheMode::Exact {
        let fault = Fault::from(
            "exact cannot be with general.takeover_socket: of two processes, neither sees what the other's clients write",
        );
        section.report("mode", fault.hint("use mode = \"bounded\" with a ttl, or restart without takeover"));
    }
}

fn rule(section: &Section<'_>) -> CacheRule {
    let patterns = |key| section.parsed(key, |text| Ok(Pattern::new(text))).unwrap_or_default();
    for key in ["user", "database", "table", "fingerprint", "levels"] {
        if section.count(key) == Some(0) {
            section.report(key, "must not be empty");
        }
    }
    let levels = section.parsed("levels", level).unwrap_or_default();
    if levels.contains(&Level::Remote) && !levels.contains(&Level::Memory) {
        let fault = Fault::from("l2 has what memory has no room for, and is no level by itself");
        section.report("levels", fault.hint("levels = [\"l1\", \"l2\"]"));
    }
    let (asked, auto) = (section.flag("asked").unwrap_or(false), section.flag("auto").unwrap_or(false));
    if asked && auto {
        let fault = Fault::from("shapes are chosen, or asked for: a rule says one of the two");
        section.report("auto", fault.hint("what is asked for is kept under a rule that chooses, too"));
    }
    let mode = section.word("mode", CACHE_MODES).unwrap_or(CacheMode::Exact);
    let ttl = section.duration("ttl", SOME_TIME);
    if mode == CacheMode::Bounded && !section.has("ttl") {
        section.report("ttl", "is missing: bounded means at most so old");
    }
    let stale = section.duration("stale_while_revalidate", ANY_TIME).unwrap_or_default();
    if mode.is_exact() && !stale.is_zero() {
        let fault =
            format!("has no effect where mode is {}: nothing stale is served", word(CACHE_MODES, &mode));
        section.report("stale_while_revalidate", fault);
    }
    CacheRule {
        line: section.line(),
        users: patterns("user"),
        databases: patterns("database"),
        tables: patterns("table"),
        fingerprints: section.parsed("fingerprint", fingerprint).unwrap_or_default(),
        asked,
        auto,
        mode,
        ttl: ttl.unwrap_or(LONG),
        stale,
        max_rows: section.number("max_rows", 1..=1_000_000_000).unwrap_or(10_000),
        max_bytes: section.size("max_bytes", 1024..=64 << 20).unwrap_or(1 << 20),
        remote: levels.contains(&Level::Remote),
    }
}

/// Where results are kept.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Memory,
    Remote,
}

fn level(text: &str) -> Result<Level, Fault> {
    match text {
        "l1" => Ok(Level::Memory),
        "l2" => Ok(Level::Remote),
        "l3" => Err(Fault::from("l3, an HTTP cache, is of reports").hint("see [[report]]")),
        _ => Err(Fault::from(format!("{text:?} is not one of l1, l2"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_asked_for() {
        for (value, want) in [
            ("on", Some(CacheAsk::On)),
            (" OFF ", Some(CacheAsk::Off)),
            ("30s", Some(CacheAsk::For(Duration::from_secs(30)))),
            ("0", Some(CacheAsk::Off)),
            ("10min", Some(CacheAsk::For(Duration::from_secs(600)))),
            ("soon", None),
            ("", None),
            ("0s", None),
        ] {
            assert_eq!(CacheAsk::read(value), want, "{value}");
        }
    }
}
