//! `[redis]`: where results are kept outside the process, too.

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;
use super::raw::{Fault, Section};
use super::secret::secret;
use super::words::REDIS_MODES;
use crate::core::keyfile;

/// Longest time that a statement waits for it, where nothing is said.
pub(super) const REDIS_DEADLINE: Duration = Duration::from_millis(10);
/// Longest time that a statement waits for what another process reads, where nothing is said.
pub(super) const REDIS_COALESCE: Duration = Duration::from_millis(50);
/// Bytes from which results are compressed, where nothing is said.
pub(super) const REDIS_COMPRESS: usize = 1024;

/// How several Redis servers are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisMode {
    /// There is one.
    Single,
    /// Sentinels say which one it is.
    Sentinel,
    /// Each has a part.
    Cluster,
}

/// `[redis]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    /// How several are one.
    pub mode: RedisMode,
    /// Host and port of each that is asked first: the server, the sentinels, or some of the cluster.
    pub nodes: Vec<(String, u16)>,
    /// What sentinels call it.
    pub master: String,
    /// Who logs in, where it has users (ACL).
    pub user: Option<String>,
    /// With which password.
    pub password: Option<String>,
    /// Which of its databases.
    pub database: u32,
    /// Whether over TLS.
    pub tls: bool,
    /// Whose certificates are trusted, beside the system's authorities.
    pub ca: Option<PathBuf>,
    /// Longest time that a statement waits for it.
    pub deadline: Duration,
    /// Bytes from which a result is compressed.
    pub compress_above: usize,
    /// Whether results are encrypted, and not only authenticated.
    pub encrypt: bool,
    /// How long it is waited at most for what another process reads.
    pub coalesce: Duration,
    /// The key that several processes have in common.
    pub key_file: Option<PathBuf>,
}

/// `[redis]`; `None` where it does not say where that is. What else it says must make sense even so.
pub(super) fn redis(section: &Section<'_>) -> Option<Redis> {
    let mode = section.word("mode", REDIS_MODES).unwrap_or(RedisMode::Single);
    let nodes = section.parsed("nodes", node).unwrap_or_default();
    if section.count("nodes") == Some(0) {
        section.report("nodes", "must not be empty");
    }
    if mode == RedisMode::Single && nodes.len() > 1 {
        let fault = Fault::from("names several servers");
        section.report("nodes", fault.hint("mode = \"sentinel\" or \"cluster\" says how they are one"));
    }
    let master = section.text("master");
    if mode == RedisMode::Sentinel && !section.has("master") {
        section.report("master", "is missing: what sentinels call the server");
    }
    if master.is_some() && !section.has("mode") {
        section.report("master", "has no effect unless mode is sentinel");
    }
    if section.has("ca") && !section.has("tls") {
        section.report("ca", "has no effect without tls = true");
    }
    let database = section.number("database", 0..=65_535).unwrap_or(0);
    if mode == RedisMode::Cluster && database != 0 {
        section.report("database", "a cluster has only database 0");
    }
    let password = match secret(section) {
        Secret::Password(password) => Some(password),
        Secret::None => None,
        _ => {
            let fault = Fault::from("is a verifier, which proves nothing to Redis");
            section.report("password_file", fault.hint("give a password"));
            None
        }
    };
    let redis = Redis {
        mode,
        nodes,
        master: master.unwrap_or_default(),
        user: section.text("user"),
        password,
        database,
        tls: section.flag("tls").unwrap_or(false),
        ca: section.path("ca"),
        deadline: section
            .duration("deadline", Duration::from_millis(1)..=Duration::from_secs(10))
            .unwrap_or(REDIS_DEADLINE),
        compress_above: section.size("compress_above", 64..=64 << 20).unwrap_or(REDIS_COMPRESS),
        encrypt: section.flag("encrypt").unwrap_or(true),
        coalesce: coalesce(section),
        key_file: key_file(section),
    };
    section.has("nodes").then_some(redis)
}

fn coalesce(section: &Section<'_>) -> Duration {
    section.duration("coalesce", Duration::ZERO..=Duration::from_secs(10)).unwrap_or(REDIS_COALESCE)
}

/// The key itself is read when the process starts; that it can be is told here.
fn key_file(section: &Section<'_>) -> Option<PathBuf> {
    let path = section.path("key_file")?;
    if let Err(why) = keyfile::key(&path) {
        section.report("key_file", Fault::from(why).hint("openssl rand -hex 32, the same for all proxies"));
    }
    Some(path)
}

fn node(text: &str) -> Result<(String, u16), Fault> {
    let fault = || Fault::from(format!("{text:?} is not host:port")).hint("such as \"127.0.0.1:6379\"");
    let (host, port) = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).ok_or_else(fault)?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(fault)?;
    Ok((host.trim_matches(['[', ']']).to_string(), port))
}
