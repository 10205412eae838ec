//! `[[cluster]] discovery`: members that nobody has written down, where they are told of, and how they come into the
//! configuration beside those that it names.

use std::path::PathBuf;
use std::time::Duration;

use super::check::file;
use super::raw::{Fault, Section};
use super::words::DISCOVERIES;
use super::{Backend, Cidr, Config, people};
use crate::core::limits::MAX_MEMBERS;

/// Who tells of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody: the configuration names them all.
    Nobody,
    /// The primary, in `pg_stat_replication`.
    Replication,
    /// Patroni's REST API.
    Patroni,
}

/// How members of a cluster are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// Who tells of them.
    pub source: Source,
    /// Time between two questions.
    pub interval: Duration,
    /// Port of replicas of which only the address is told; `None` means the primary's own.
    pub port: Option<u16>,
    /// Networks that they must be in; empty means any.
    pub allow: Vec<Cidr>,
    /// Base URLs of Patroni's REST API, each asked when the one before it does not answer.
    pub patroni: Vec<String>,
    /// Authorities that sign for those with https, PEM.
    pub patroni_ca: Option<PathBuf>,
}

impl Default for Discovery {
    fn default() -> Discovery {
        Discovery {
            source: Source::Nobody,
            interval: Duration::from_secs(5),
            port: None,
            allow: Vec::new(),
            patroni: Vec::new(),
            patroni_ca: None,
        }
    }
}

/// Reads what a `[[cluster]]` says of it.
pub(super) fn discovery(section: &Section<'_>) -> Discovery {
    let times = Duration::from_millis(100)..=Duration::from_secs(3600);
    let (usual, source) = (Discovery::default(), section.word("discovery", DISCOVERIES));
    let unread = section.has("discovery") && source.is_none();
    let discovery = Discovery {
        source: source.unwrap_or(usual.source),
        interval: section.duration("discovery_interval", times).unwrap_or(usual.interval),
        port: section.number("discovery_port", 1..=u16::MAX),
        allow: section.parsed("discovery_allow", people::cidr).unwrap_or_default(),
        patroni: section.parsed("patroni", url).unwrap_or_default(),
        patroni_ca: file(section, "patroni_ca"),
    };
    match discovery.source {
        Source::Patroni if discovery.patroni.is_empty() && !section.has("patroni") => {
            section.report("patroni", "is missing: discovery = \"patroni\" asks there");
        }
        Source::Nobody | Source::Replication if !unread => {
            for key in ["patroni", "patroni_ca"].into_iter().filter(|key| section.has(key)) {
                section.report(key, "has no effect without discovery = \"patroni\"");
            }
        }
        _ => {}
    }
    discovery
}

fn url(text: &str) -> Result<String, Fault> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let fine = rest.is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'@'))
    });
    if !fine {
        let fault = Fault::from(format!("{text:?} is not the address of a REST API"));
        return Err(fault.hint("give scheme, host and port, such as http://db1:8008"));
    }
    Ok(text.trim_end_matches('/').to_string())
}

impl Config {
    /// Backends that the configuration names: they come first.
    pub fn written(&self) -> impl Iterator<Item = &Backend> {
        self.backends.iter().filter(|b| !b.found)
    }

    /// Those that were found to be members of a cluster.
    pub fn found(&self, cluster: &str) -> Vec<Backend> {
        let members = self.cluster(cluster).into_iter().flat_map(|c| c.members(self));
        members.filter(|b| b.found).cloned().collect()
    }

    /// The same with these as the members of a cluster that were found. Names that others have, and what is more than
    /// a cluster may have, are left out.
    pub fn with_found(&self, cluster: &str, found: Vec<Backend>) -> Config {
        let others = self.clusters.iter().filter(|c| c.name != cluster);
        let others: Vec<_> = others.map(|c| (c.name.clone(), self.found(&c.name))).collect();
        let mut config = self.clone();
        let written = self.written().count();
        config.backends.truncate(written);
        config.clusters.iter_mut().for_each(|c| c.backends.retain(|i| *i < written));
        for (cluster, found) in others.into_iter().chain([(cluster.to_string(), found)]) {
            for backend in found {
                config.add_found(&cluster, backend);
            }
        }
        config
    }

    /// Takes over what was found under the configuration before, where it is still looked for and not written down now.
    pub fn keep_found(&mut self, before: &Config) {
        for cluster in self.clusters.clone().iter().filter(|c| c.discovery.source != Source::Nobody) {
            let written: Vec<Backend> = cluster.members(self).cloned().collect();
            for backend in before.found(&cluster.name) {
                if !written.iter().any(|b| (&b.host, b.port) == (&backend.host, backend.port)) {
                    self.add_found(&cluster.name, backend);
                }
            }
        }
    }

    fn add_found(&mut self, cluster: &str, backend: Backend) {
        let next = self.backends.len();
        let taken = self.backends.iter().any(|b| b.name.eq_ignore_ascii_case(&backend.name));
        let Some(cluster) = self.clusters.iter_mut().find(|c| c.name == cluster) else { return };
        if taken || cluster.backends.len() >= MAX_MEMBERS {
            return;
        }
        cluster.backends.push(next);
        self.backends.push(Backend { found: true, ..backend });
    }
}
