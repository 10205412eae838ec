//! What is compared: how each target is started in front of the test bed, and when it is ready.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use turnpike::app::cluster::free_port;

use crate::Failure;
use crate::bed::{Bed, NAME, PASSWORD};
use crate::client::{Client, Door, query};
use crate::pgpool;
use crate::process::{Process, service, write_private};

/// Server connections that a pooling target may open.
pub const POOL: u32 = 20;
/// Clients that a target is told to expect.
const MOST_CLIENTS: u32 = 6_000;
/// How long a target may take from its start to its first answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// One of the things compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// No proxy.
    Direct,
    /// HAProxy in TCP mode: what forwarding bytes costs. It does not pool.
    Haproxy,
    /// PgBouncer in transaction mode: what ratios refer to.
    PgBouncer,
    /// Us.
    Turnpike,
    /// Pgpool-II in streaming replication mode, with load balancing.
    Pgpool,
    /// Us, with all statements on the primary of a cluster.
    Unsplit,
    /// Us, with reads on its replicas.
    Split,
    /// Us, with results that are kept.
    Cached,
    /// Us, with results that would be kept of another table.
    Uncached,
}

impl Kind {
    /// In the order of the tables.
    pub const ALL: [Kind; 9] = [
        Kind::Direct,
        Kind::Haproxy,
        Kind::PgBouncer,
        Kind::Turnpike,
        Kind::Pgpool,
        Kind::Unsplit,
        Kind::Split,
        Kind::Cached,
        Kind::Uncached,
    ];
    /// Those in front of one server, of which one keeps results.
    pub const KEEPING: [Kind; 3] = [Kind::Direct, Kind::Haproxy, Kind::Cached];
    /// Us, without results that are kept, and with those of others.
    pub const NOT_KEEPING: [Kind; 2] = [Kind::Turnpike, Kind::Uncached];
    /// Those in front of one server.
    pub const ALONE: [Kind; 4] = [Kind::Direct, Kind::Haproxy, Kind::PgBouncer, Kind::Turnpike];
    /// Those in front of a primary and its replicas, or of the primary alone.
    pub const REPLICATED: [Kind; 5] =
        [Kind::Direct, Kind::PgBouncer, Kind::Pgpool, Kind::Unsplit, Kind::Split];

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Direct => "direct",
            Kind::Haproxy => "haproxy",
            Kind::PgBouncer => "pgbouncer",
            Kind::Turnpike => "turnpike",
            Kind::Pgpool => "pgpool",
            Kind::Unsplit => "unsplit",
            Kind::Split => "split",
            Kind::Cached => "cached",
            Kind::Uncached => "uncached",
        }
    }

    /// Whether many clients share few server connections.
    pub fn pools(self) -> bool {
        matches!(self, Kind::PgBouncer | Kind::Turnpike)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A target that answers.
#[derive(Debug)]
pub struct Target {
    /// Which.
    pub kind: Kind,
    /// Where clients log in.
    pub door: Door,
    /// What is measured; nothing for a direct connection.
    pub process: Option<Process>,
    /// Whether prepared statements work while server connections are shared.
    pub prepares: bool,
    /// What it says about its version.
    pub version: String,
}

impl Target {
    /// Starts one and waits for its first answer. `tls` turns TLS on towards clients.
    pub async fn start(kind: Kind, bed: &Bed, tls: bool) -> Result<Self, Failure> {
        let version = version(kind, bed);
        let prepares = kind != Kind::PgBouncer || pgbouncer_prepares(&version);
        let port = if kind == Kind::Direct { bed.port() } else { free_port() };
        let door = Door { port, tls: tls.then(|| Arc::clone(&bed.tls)) };
        let process = match kind {
            Kind::Direct => None,
            Kind::Haproxy => Some(haproxy(bed, port)?),
            Kind::PgBouncer => Some(pgbouncer(bed, port, tls, prepares)?),
            Kind::Turnpike | Kind::Unsplit | Kind::Split | Kind::Cached | Kind::Uncached => {
                Some(turnpike(kind, bed, port, tls, (&pool_size(kind, bed), ""))?)
            }
            Kind::Pgpool => Some(pgpool::start(bed, port)?),
        };
        let mut target = Target { kind, door, process, prepares, version };
        target.wait_ready().await?;
        Ok(target)
    }

    /// One of ours with such a pool.
    pub async fn sized(bed: &Bed, pool: &str) -> Result<Self, Failure> {
        Self::with(bed, pool, "").await
    }

    /// One of ours with such a pool, and further sections.
    pub async fn with(bed: &Bed, pool: &str, sections: &str) -> Result<Self, Failure> {
        let (kind, port) = (Kind::Turnpike, free_port());
        let process = Some(turnpike(kind, bed, port, false, (pool, sections))?);
        let (door, version) = (Door { port, tls: None }, version(kind, bed));
        let mut target = Target { kind, door, process, prepares: true, version };
        target.wait_ready().await?;
        Ok(target)
    }

    async fn wait_ready(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        let mut last = String::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let outcome = tokio::time::timeout(left, first_answer(&self.door)).await;
            if let Some(process) = &mut self.process {
                process.check()?;
            }
            match outcome {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(failure)) if Instant::now() < deadline => {
                    last = format!(" (last: {failure})");
                    tokio::time::sleep(Duration::from_millis(20)).await
                }
                Ok(Err(failure)) => return Err(format!("does not answer: {failure}").into()),
                Err(_) => return Err(format!("does not answer within {} s{last}", PATIENCE.as_secs()).into()),
            }
        }
    }

    /// What its admin database says to a command.
    pub async fn show(&self, command: &str) -> Result<Vec<BTreeMap<String, String>>, Failure> {
        Client::login_to(&self.door, "turnpike", "").await?.rows(command).await
    }

    /// Processor time of the proxy so far; nothing without one.
    pub fn cpu(&self) -> Result<Option<Duration>, Failure> {
        self.process.as_ref().map(Process::cpu).transpose()
    }
}

async fn first_answer(door: &Door) -> Result<(), Failure> {
    Client::login(door).await?.run(&query("SELECT 1")?).await
}

fn haproxy(bed: &Bed, port: u16) -> Result<Process, Failure> {
    let backend = bed.port();
    let path = own_file(bed, port, "haproxy.cfg");
    let config = format!(
        "global\n    maxconn {MOST_CLIENTS}\n\
         defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 1h\n    timeout server 1h\n\
         listen bench\n    bind 127.0.0.1:{port}\n    server pg 127.0.0.1:{backend}\n"
    );
    write_private(&path, &config, bed.account.as_ref())?;
    let mut command = as_account("haproxy", bed);
    command.arg("-db").arg("-f").arg(path);
    Process::start(command, own_file(bed, port, "haproxy.log"))
}

/// As distributed, but for what the comparison needs. A plain password lets it log in with SCRAM on both sides.
fn pgbouncer(bed: &Bed, port: u16, tls: bool, prepares: bool) -> Result<Process, Failure> {
    let users = own_file(bed, port, "userlist.txt");
    write_private(&users, &format!("\"{NAME}\" \"{PASSWORD}\"\n"), bed.account.as_ref())?;
    let mut config = format!(
        "[databases]\n{NAME} = host=127.0.0.1 port={}\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\n\
         default_pool_size = {POOL}\nmax_client_conn = {MOST_CLIENTS}\n\
         log_connections = 0\nlog_disconnections = 0\n",
        bed.port(),
        users.display(),
    );
    if tls {
        let (cert, key) = (bed.cert.display(), bed.key.display());
        config += &format!(
            "client_tls_sslmode = require\nclient_tls_cert_file = {cert}\nclient_tls_key_file = {key}\n"
        );
    }
    if prepares {
        config += "max_prepared_statements = 200\n";
    }
    let path = own_file(bed, port, "pgbouncer.ini");
    write_private(&path, &config, bed.account.as_ref())?;
    let mut command = as_account("pgbouncer", bed);
    command.arg(path);
    Process::start(command, own_file(bed, port, "pgbouncer.log"))
}

/// The backends, and the cluster that they are, if they are one.
fn backends(kind: Kind, bed: &Bed) -> String {
    let ports = [vec![bed.port()], bed.replicas()].concat();
    let backend = |(i, port)| {
        format!("[[backend]]\nname = \"pg{i}\"\nhost = \"127.0.0.1\"\nport = {port}\nsslmode = \"disable\"\n")
    };
    let all: String = ports.iter().enumerate().map(backend).collect();
    let names: Vec<String> = (0..ports.len()).map(|i| format!("pg{i}")).collect();
    match kind {
        Kind::Turnpike => format!("{all}[[database]]\nname = \"{NAME}\"\nbackend = \"pg0\"\n"),
        // Nobody writes while that is measured.
        Kind::Cached | Kind::Uncached => {
            let table = if kind == Kind::Cached { "" } else { "table = \"pgbench_branches\"\n" };
            format!(
                "{all}[[cache]]\n{table}[[database]]\nname = \"{NAME}\"\nbackend = \"pg0\"\nwriters = \"proxy\"\n"
            )
        }
        _ => format!(
            "{all}[[cluster]]\nname = \"main\"\nbackends = {names:?}\nsplit = {}\n\
             [[database]]\nname = \"{NAME}\"\ncluster = \"main\"\n",
            kind == Kind::Split
        ),
    }
}

/// As many server connections in all, whatever is behind: that processes of several servers push each other out of the
/// caches of one machine is not what splitting costs.
fn pool_size(kind: Kind, bed: &Bed) -> String {
    let readers = if kind == Kind::Split { bed.replicas().len().max(1) as u32 } else { 1 };
    format!("size = {}", POOL / readers)
}

fn turnpike(
    kind: Kind,
    bed: &Bed,
    port: u16,
    tls: bool,
    (pool, sections): (&str, &str),
) -> Result<Process, Failure> {
    let (backends, http) = (backends(kind, bed), free_port());
    let keeps = matches!(kind, Kind::Cached | Kind::Uncached);
    let memory = if keeps { "cache_memory = \"256MiB\"" } else { "" };
    let mut config = format!(
        r#"[general]
{memory}
listen = ["127.0.0.1:{port}"]
max_clients = {MOST_CLIENTS}

[http]
listen = "127.0.0.1:{http}"

[log]
connections = false
disconnections = false

[admin]
admins = ["{NAME}"]

[pool]
{pool}

{backends}
{sections}
[[user]]
name = "{NAME}"
password = "{PASSWORD}"

[[hba]]
type = "host"
database = "all"
user = "all"
address = "127.0.0.0/8"
method = "scram-sha-256"
"#
    );
    if tls {
        config += &format!("\n[tls]\ncert = {:?}\nkey = {:?}\n", bed.cert, bed.key);
    }
    let path = own_file(bed, port, "turnpike.toml");
    write_private(&path, &config, None)?;
    let mut command = service(env!("CARGO_BIN_EXE_turnpike"));
    command.arg("run").arg("-c").arg(path);
    Process::start(command, own_file(bed, port, "turnpike.log"))
}

/// A file of one instance, which its port tells from others.
pub fn own_file(bed: &Bed, port: u16, name: &str) -> PathBuf {
    bed.dir().join(format!("{port}-{name}"))
}

/// A program that runs as the unprivileged account when we are root.
pub fn as_account(program: &str, bed: &Bed) -> Command {
    let mut command = service(found(program));
    if let Some(user) = &bed.account {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command.env_remove("NOTIFY_SOCKET");
    command
}

/// Distributions keep daemons out of the search path of users.
fn found(program: &str) -> PathBuf {
    let directories = ["/usr/sbin", "/usr/local/sbin", "/usr/local/bin"];
    let at = directories.iter().map(|dir| PathBuf::from(dir).join(program)).find(|path| path.is_file());
    at.unwrap_or_else(|| PathBuf::from(program))
}

/// The first line that a target says about its version.
fn version(kind: Kind, bed: &Bed) -> String {
    let (program, flag) = match kind {
        Kind::Direct => return bed.postgres_version(),
        Kind::Haproxy => (found("haproxy"), "-v"),
        Kind::PgBouncer => (found("pgbouncer"), "--version"),
        Kind::Pgpool => (found("pgpool"), "--version"),
        Kind::Turnpike | Kind::Unsplit | Kind::Split | Kind::Cached | Kind::Uncached => {
            return format!("Turnpike {}", env!("CARGO_PKG_VERSION"));
        }
    };
    let output = Command::new(program).arg(flag).output();
    // Some say it where others complain.
    let said = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&said).lines().next().unwrap_or("not installed").to_owned()
}

/// PgBouncer keeps track of prepared statements in transaction mode since 1.21.
fn pgbouncer_prepares(version: &str) -> bool {
    let number = version.rsplit(' ').next().unwrap_or_default();
    let mut parts = number.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (1, 21)
}
