//! Throwaway PostgreSQL clusters on loopback, for the demo, the integration tests and the benchmarks.
//!
//! A cluster lives in one private directory, listens on 127.0.0.1 and in that directory, and leaves nothing behind,
//! not even when the process that started it is killed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

pub mod binaries;
mod init;
mod part;
mod port;
mod server;
mod site;
mod sweep;

pub use port::free_port;
pub use server::{Server, StopMode};

use site::Site;
use sweep::Sweeper;

/// How long replicas may take to start streaming or to catch up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What kind of cluster is wanted.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// Streaming replicas beside the primary.
    pub replicas: usize,
    /// Where to make the private directory; the system's temporary directory if `None`. When we are root, the
    /// account that PostgreSQL runs as must be able to pass through it.
    pub dir: Option<PathBuf>,
    /// Settings for postgresql.conf, over ours, values unquoted.
    pub settings: Vec<(String, String)>,
    /// TLS for TCP connections.
    pub ssl: Option<SslFiles>,
    /// Lines of pg_hba.conf to put before ours, which ask for SCRAM over TCP and trust the socket.
    pub hba: Option<String>,
}

/// Files that a server needs for TLS; they are copied.
#[derive(Clone, Debug)]
pub struct SslFiles {
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
    /// Authority for client certificates, PEM.
    pub client_ca: Option<PathBuf>,
}

/// A primary and its replicas. Dropping it stops them at once and removes their directory.
#[derive(Debug)]
pub struct Cluster {
    // Fields are dropped in this order: the servers are stopped, then reaped.
    sweeper: Sweeper,
    site: Arc<Site>,
    primary: Server,
    replicas: Vec<Server>,
}

/// Why a cluster could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No PostgreSQL that we could use.
    #[error(
        "PostgreSQL {} or newer is not installed (or not found); `make setup` installs it, {} names its directory",
        binaries::OLDEST,
        binaries::OVERRIDE
    )]
    NotInstalled,
    /// We are root and there is nobody else to be.
    #[error("PostgreSQL does not run as root, and there is no account named postgres or nobody")]
    NoAccount,
    /// A Unix socket would not fit.
    #[error("{0} is too long for a Unix socket; set TMPDIR to a shorter directory")]
    PathTooLong(PathBuf),
    /// A file or process could not be had.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program failed.
    #[error("{what} failed:\n{output}")]
    Command {
        /// The program.
        what: String,
        /// What it printed.
        output: String,
    },
    /// A server ended while it was starting.
    #[error("{name} ended while it was starting:\n{log}")]
    Died {
        /// The server.
        name: String,
        /// The end of its log.
        log: String,
    },
    /// Something took longer than it ever should.
    #[error("waited too long for {0}")]
    TooSlow(String),
}

/// Says what was tried when the system refuses.
trait Context<T> {
    fn context(self, what: &str) -> Result<T, ClusterError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: &str) -> Result<T, ClusterError> {
        self.map_err(|source| ClusterError::Io { what: what.to_owned(), source })
    }
}

impl Cluster {
    /// Makes a cluster and waits until its primary takes connections and its replicas stream.
    pub fn start(options: ClusterOptions) -> Result<Self, ClusterError> {
        let site = Arc::new(Site::new(options.dir.as_deref())?);
        let sweeper = Sweeper::watch(&site)?;
        let primary = Server::new(&site, "primary");
        init::primary(&site, &primary, &options)?;
        primary.start()?;
        let replicas = (1..=options.replicas)
            .map(|n| init::replica(&site, &primary, n))
            .collect::<Result<Vec<_>, ClusterError>>()?;
        let cluster = Cluster { sweeper, site, primary, replicas };
        cluster.wait_streaming()?;
        Ok(cluster)
    }

    /// The server that takes writes.
    pub fn primary(&self) -> &Server {
        &self.primary
    }

    /// The servers that follow it.
    pub fn replicas(&self) -> &[Server] {
        &self.replicas
    }

    /// Password of the superuser `postgres`.
    pub fn password(&self) -> &str {
        self.site.password()
    }

    /// A connection string for the primary as the superuser `postgres`.
    pub fn superuser_url(&self, database: &str) -> String {
        self.primary.superuser_url(database)
    }

    /// The private directory: sockets, data directories, logs.
    pub fn dir(&self) -> &Path {
        self.sweeper.dir()
    }

    /// The PostgreSQL programs in use.
    pub fn binaries(&self) -> &binaries::Binaries {
        self.site.binaries()
    }

    /// Waits until every replica that was made streams from the primary.
    pub fn wait_streaming(&self) -> Result<(), ClusterError> {
        self.wait_until("replicas to stream", "state = 'streaming'")
    }

    /// Waits until every replica has replayed all that the primary has written by now.
    pub fn wait_replayed(&self) -> Result<(), ClusterError> {
        let position = self.primary.psql("postgres", "SELECT pg_current_wal_insert_lsn()")?;
        self.wait_until("replicas to catch up", &format!("replay_lsn >= '{position}'"))
    }

    fn wait_until(&self, what: &str, condition: &str) -> Result<(), ClusterError> {
        let sql = format!("SELECT count(*) FROM pg_stat_replication WHERE {condition}");
        let wanted = self.replicas.len();
        let deadline = Instant::now() + PATIENCE;
        while wanted > 0 && self.primary.psql("postgres", &sql)? != wanted.to_string() {
            if Instant::now() > deadline {
                return Err(ClusterError::TooSlow(what.to_owned()));
            }
            thread::sleep(server::GLANCE);
        }
        Ok(())
    }
}
