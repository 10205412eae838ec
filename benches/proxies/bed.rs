//! The test bed: one throwaway Postgres with the pgbench tables, with replicas where reads are to be split, and a
//! directory for what the targets need.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::User;
use rcgen::CertifiedKey;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use turnpike::app::cluster::{Cluster, ClusterOptions};

use crate::Failure;
use crate::pgbench;
use crate::process::{give, unprivileged, write_private};

/// Name of the database, its owner, and the password of that user.
pub const NAME: &str = "bench";
/// See [`NAME`].
pub const PASSWORD: &str = "not-a-secret";
/// Rows of `pgbench_accounts` are 100,000 times this. It fits into `shared_buffers`, and 16 clients of the tpcb script
/// find enough branches.
pub const SCALE: u32 = 20;

/// What the targets stand in front of.
#[derive(Debug)]
pub struct Bed {
    // The servers are stopped before the directory goes.
    cluster: Cluster,
    dir: TempDir,
    /// The account for programs that refuse to run as root, when we are root.
    pub account: Option<User>,
    /// Certificate and key that targets show to clients.
    pub cert: PathBuf,
    /// See `cert`.
    pub key: PathBuf,
    /// What TLS clients use.
    pub tls: Arc<ClientConfig>,
}

impl Bed {
    /// Starts the servers and fills the tables.
    pub async fn make(replicas: usize) -> Result<Self, Failure> {
        let account = unprivileged()?;
        let dir = tempfile::Builder::new().prefix("turnpike-bench-").tempdir()?;
        give(dir.path(), account.as_ref())?;
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let CertifiedKey { cert: certificate, signing_key } =
            rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        write_private(&cert, &certificate.pem(), account.as_ref())?;
        write_private(&key, &signing_key.serialize_pem(), account.as_ref())?;
        let tls = Arc::new(trusting(certificate.der().clone())?);
        let bed = Bed { cluster: start_postgres(replicas)?, dir, account, cert, key, tls };
        bed.fill().await?;
        Ok(bed)
    }

    /// The server's port.
    pub fn port(&self) -> u16 {
        self.cluster.primary().port
    }

    /// The ports of its replicas.
    pub fn replicas(&self) -> Vec<u16> {
        self.cluster.replicas().iter().map(|replica| replica.port).collect()
    }

    /// Where files of ours go.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The server's own pgbench, or the one in the search path where it is packaged apart.
    pub fn pgbench(&self) -> PathBuf {
        let own = self.cluster.binaries().program("pgbench");
        if own.is_file() { own } else { PathBuf::from("pgbench") }
    }

    /// What the server says about its version.
    pub fn postgres_version(&self) -> String {
        let version = self.cluster.primary().psql("postgres", "SHOW server_version");
        version.map_or_else(|_| "PostgreSQL".to_owned(), |version| format!("PostgreSQL {version}"))
    }

    async fn fill(&self) -> Result<(), Failure> {
        let primary = self.cluster.primary();
        primary.psql("postgres", &format!("CREATE ROLE {NAME} LOGIN PASSWORD '{PASSWORD}'"))?;
        primary.psql("postgres", &format!("CREATE DATABASE {NAME} OWNER {NAME}"))?;
        pgbench::fill(self, SCALE).await?;
        primary.psql(NAME, "CHECKPOINT")?;
        Ok(self.cluster.wait_replayed()?)
    }
}

fn start_postgres(replicas: usize) -> Result<Cluster, Failure> {
    // Nothing should happen by itself while we measure.
    let settings = [
        ("max_connections", "200"),
        ("shared_buffers", "512MB"),
        ("wal_level", "replica"),
        ("track_functions", "none"),
        ("autovacuum", "off"),
        ("checkpoint_timeout", "1h"),
        ("synchronous_commit", "off"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Ok(Cluster::start(ClusterOptions { settings, replicas, ..ClusterOptions::default() })?)
}

/// TLS towards whoever shows `certificate`.
fn trusting(certificate: CertificateDer<'static>) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
