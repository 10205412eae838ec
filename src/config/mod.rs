//! The configuration: `raw` reads the file, `check` turns it into the types here and reports every problem at once.
//! What leaves this module is typed, complete and immutable.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) mod cache;
pub mod check;
mod cluster;
pub mod discovery;
mod guarantees;
pub mod hba;
pub mod invalidation;
pub mod keys;
pub mod listed;
mod metric;
mod mirror;
mod pair;
mod people;
mod plan;
pub mod problem;
pub mod raw;
mod redis;
mod report;
mod route;
mod secret;
pub mod show;
pub mod tenant;
#[cfg(test)]
mod tests;
pub mod units;
pub mod words;

pub use cache::{CacheAsk, CacheMode, CacheRule, is_strict};
pub use cluster::{Balancing, Cluster, Consistency, Role, Routing, Transactions};
pub use invalidation::Invalidation;
pub use metric::{Metric, MetricKind, MetricPlace, is_label};
pub use mirror::{Mirror, MirrorMode, MirrorTarget, Record, Share};
pub use plan::{Function, Named, PLAN_MEMORY, Plan};
pub use redis::{Redis, RedisMode};
pub use report::{Cdn, CdnKind, Param, Report, ReportAccess, ReportFormat, Reports};
pub use tenant::{Priority, Tenants};

pub use route::{CLASSES, Directions, Pattern, ROUTES, Route, Rule, SAYABLE, Unsayable, Way};

/// A checked configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[general]`
    pub general: General,
    /// `[tls]`: TLS towards clients; `None` when no certificate is configured.
    pub tls: Option<ClientTls>,
    /// `[http]`: metrics and health; `None` when off.
    pub http: Option<SocketAddr>,
    /// `[log]`
    pub log: Log,
    /// `[admin]`
    pub admin: Admin,
    /// `[plan]` and `[[function]]`
    pub plan: Plan,
    /// `[auth]`
    pub auth: Auth,
    /// `[[hba]]`, in order.
    pub hba: Vec<HbaRule>,
    /// `[[backend]]`
    pub backends: Vec<Backend>,
    /// `[[cluster]]`
    pub clusters: Vec<Cluster>,
    /// `[[route]]`, in order.
    pub rules: Vec<Rule>,
    /// `[[cache]]`, in order.
    pub caches: Vec<CacheRule>,
    /// `[redis]`; `None` where it does not say where that is.
    pub redis: Option<Redis>,
    /// `[[database]]`, wildcards last.
    pub databases: Vec<Database>,
    /// `[[user]]`
    pub users: Vec<User>,
    /// `[[metric]]`
    pub metrics: Vec<Metric>,
    /// `[[mirror]]`
    pub mirrors: Vec<Mirror>,
    /// `[record]`; `None` where nothing may be recorded.
    pub record: Option<Record>,
    /// `[reports]`, `[[report]]` and `[[cdn]]`; `None` where nothing listens for them.
    pub reports: Option<Reports>,
    /// `[tenants]` and `[[tenant]]`
    pub tenants: Tenants,
}

/// `[general]`
#[derive(Clone, Debug, PartialEq)]
pub struct General {
    /// TCP addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Directory of the Unix socket `.s.PGSQL.PORT` (port of the first TCP address), if any.
    pub unix_socket_dir: Option<PathBuf>,
    /// Worker threads; 0 chooses by the machine.
    pub workers: usize,
    /// Most clients at once.
    pub max_clients: u32,
    /// Longest time from accept to ReadyForQuery.
    pub login_timeout: Duration,
    /// How long SIGTERM waits for transactions under way.
    pub drain_timeout: Duration,
    /// Directory of what must be known after a restart; `None` for nothing.
    pub state_dir: Option<PathBuf>,
    /// Unix socket where a process that starts asks for our listening sockets; `None` when off.
    pub takeover_socket: Option<PathBuf>,
    /// How long clients may stay after that.
    pub takeover_timeout: Duration,
    /// Bytes buffered per direction and client before reading stops.
    pub high_water_mark: usize,
    /// Largest message accepted from a client, in bytes.
    pub max_message_size: usize,
    /// Most protocol-level prepared statements of one client.
    pub max_client_prepared: usize,
    /// Most bytes of relay buffers in all before nobody more may come in; 0 is no bound.
    pub max_memory: usize,
    /// Most bytes of results that are kept; 0 keeps none, and no account of what is written.
    pub cache_memory: u64,
    /// How much of the time results may be read again that are not asked for yet.
    pub cache_warm: Share,
    /// The key under which requests are kept in `state_dir` whose results are asked for most; `None` keeps none.
    pub cache_warm_key_file: Option<PathBuf>,
    /// The availability zone that this process runs in, if it is said.
    pub zone: Option<String>,
    /// The region that this process runs in, if it is said.
    pub region: Option<String>,
}

/// `[tls]`, and what `[reports]` says of TLS.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientTls {
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
    /// Certificate authority for client certificates, PEM.
    pub client_ca: Option<PathBuf>,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a tracing filter.
    pub level: String,
    /// One JSON object per line instead of text.
    pub json: bool,
    /// Log each client's coming.
    pub connections: bool,
    /// Log each client's going.
    pub disconnections: bool,
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Name of the admin database.
    pub database: String,
    /// Users who may run every admin command.
    pub admins: Vec<String>,
    /// Users who may only SHOW.
    pub readers: Vec<String>,
}

/// `[auth]`
#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    /// Where to look up users that are not in `[[user]]`.
    pub query: Option<AuthQuery>,
    /// Delay before a failed login is answered.
    pub failure_delay: Duration,
    /// Failed logins per address and minute before more are refused at once.
    pub max_failures_per_minute: u32,
}

/// `auth_query`: a statement with one parameter, the user name, giving (name, verifier).
#[derive(Clone, Debug, PartialEq)]
pub struct AuthQuery {
    /// The statement; objects in it should be schema-qualified.
    pub sql: String,
    /// The `[[user]]` it runs as.
    pub user: String,
    /// The `[[database]]` it runs on; `None` means the one the client asks for.
    pub database: Option<String>,
    /// How long an answer is kept.
    pub cache: Duration,
}

/// Kind of connection that an [`HbaRule`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HbaType {
    /// Unix socket.
    Local,
    /// TCP, TLS or not.
    Host,
    /// TCP with TLS.
    HostSsl,
    /// TCP without TLS.
    HostNoSsl,
}

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HbaMethod {
    /// No proof.
    Trust,
    /// Never.
    Reject,
    /// SCRAM-SHA-256, with channel binding offered under TLS.
    Scram,
    /// SCRAM-SHA-256-PLUS only.
    ScramPlus,
    /// MD5, or SCRAM where the stored secret is a SCRAM verifier, as Postgres does.
    Md5,
    /// Plain text, over TLS only.
    Password,
    /// Client certificate whose CN is the user.
    Cert,
}

/// One `[[hba]]` rule; the first that matches decides, none means reject.
#[derive(Clone, Debug, PartialEq)]
pub struct HbaRule {
    /// Kind of connection.
    pub kind: HbaType,
    /// Database names; `all` and `replication` as in pg_hba.conf, `sameuser` too.
    pub databases: Vec<String>,
    /// User names; `all`.
    pub users: Vec<String>,
    /// Networks; empty means all.
    pub addresses: Vec<Cidr>,
    /// What is asked.
    pub method: HbaMethod,
}

/// A network: address and prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// Base address.
    pub addr: std::net::IpAddr,
    /// Leading bits that count.
    pub bits: u8,
}

/// How much TLS towards a backend, as libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Never.
    Disable,
    /// Where the server offers it.
    Prefer,
    /// Always, whoever answers (with a root certificate configured: as verify-ca, as libpq does).
    Require,
    /// Always, with a certificate of a known authority.
    VerifyCa,
    /// Always, and the certificate names the host.
    VerifyFull,
}

/// One Postgres server.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// Name used by `[[database]]`, logs and metrics.
    pub name: String,
    /// Host name, address, or directory of a Unix socket (leading `/`).
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How much TLS.
    pub sslmode: SslMode,
    /// Direct TLS (PostgreSQL 17) instead of SSLRequest.
    pub ssl_direct: bool,
    /// Root certificates, PEM.
    pub sslrootcert: Option<PathBuf>,
    /// Our certificate, PEM.
    pub sslcert: Option<PathBuf>,
    /// Our key, PEM.
    pub sslkey: Option<PathBuf>,
    /// Most server connections to it in all; 0 is no bound.
    pub max_connections: u32,
    /// What it is meant to be in its cluster.
    pub role: Role,
    /// The availability zone that it runs in, if it is said.
    pub zone: Option<String>,
    /// The region that it runs in, if it is said.
    pub region: Option<String>,
    /// Nobody has written it down: it was found to be a member of its cluster.
    pub found: bool,
    /// Its share of reads, against the others of its cluster; with 0 it has none.
    pub weight: u32,
}

/// When a server connection goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    /// When the client goes.
    Session,
    /// When the transaction is over.
    Transaction,
}

/// How many server connections a pool may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// That many.
    Fixed(u32),
    /// What is found out to get most done, up to [`PoolSettings::max_size`].
    Adaptive,
}

impl Size {
    /// The number, where it is one.
    pub fn fixed(self) -> Option<u32> {
        match self {
            Size::Fixed(n) => Some(n),
            Size::Adaptive => None,
        }
    }
}

/// Pool settings; `[pool]` gives the defaults, `[[database]]` and `[[user]]` override.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolSettings {
    /// When a server connection goes back.
    pub mode: PoolMode,
    /// Most server connections per (backend, database, user).
    pub size: Size,
    /// What that is at most where it is adaptive.
    pub max_size: u32,
    /// Fewest kept open once the pool is used.
    pub min: u32,
    /// More that may be opened when a client has waited `reserve_after`.
    pub reserve: u32,
    /// See `reserve`.
    pub reserve_after: Duration,
    /// Longest wait for a server connection, then 53300.
    pub wait_timeout: Duration,
    /// Most clients that wait for one; 0 is no bound.
    pub max_waiting: u32,
    /// Longest wait of anybody before those who have time are sent away; zero is no bound.
    pub max_waiting_age: Duration,
    /// Longest time to open a server connection.
    pub connect_timeout: Duration,
    /// Age after which an idle server connection is closed.
    pub lifetime: Duration,
    /// Idle time after which a server connection above `min` is closed.
    pub idle_timeout: Duration,
    /// Idle time after which a server connection is probed before it is lent.
    pub probe_after: Duration,
    /// Prepared statements kept on one server connection.
    pub max_prepared: usize,
    /// Longest times that clients may take.
    pub patience: Patience,
}

impl PoolSettings {
    /// Most server connections that there may ever be, but for the reserve.
    pub fn most(&self) -> u32 {
        match self.size {
            Size::Fixed(size) => size,
            Size::Adaptive => self.max_size,
        }
    }
}

/// Longest times that a client may take; zero is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Patience {
    /// For a statement's answer; then it is cancelled (57014).
    pub query: Duration,
    /// Without a request, outside a transaction; then its session ends (57P05).
    pub idle: Duration,
    /// Without a request, within a transaction; then its session ends (25P03).
    pub idle_transaction: Duration,
    /// For a transaction; then its session ends (25P04).
    pub transaction: Duration,
}

/// A user's own bounds, before the database's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnPatience {
    /// See [`Patience::query`].
    pub query: Option<Duration>,
    /// See [`Patience::idle`].
    pub idle: Option<Duration>,
    /// See [`Patience::idle_transaction`].
    pub idle_transaction: Option<Duration>,
    /// See [`Patience::transaction`].
    pub transaction: Option<Duration>,
}

/// Who writes to a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// Whoever can.
    Anyone,
    /// Nobody but this process' clients.
    Proxy,
}

/// One database that clients may ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    /// Name that clients use; `*` matches any.
    pub name: String,
    /// Index into [`Config::backends`]; of a database on a cluster, the member to use until it is known which is the
    /// primary.
    pub backend: usize,
    /// Name of the [`Cluster`] that it is on, if it is on one.
    pub cluster: Option<String>,
    /// Where its statements may go, after its cluster's defaults; says nothing for a database on one backend.
    pub routing: Routing,
    /// Name on the backend; `None` means the one the client asked for.
    pub dbname: Option<String>,
    /// Log in on the backend as this `[[user]]` instead of the client's.
    pub user: Option<String>,
    /// The `[[user]]` that reads its catalog, before `[plan]`'s.
    pub catalog_user: Option<String>,
    /// Who writes to it.
    pub writers: Writers,
    /// How what others write comes to be known.
    pub invalidation: Invalidation,
    /// Most server connections for this database over all users; 0 is no bound.
    pub max_connections: u32,
    /// Most clients of this database; 0 is no bound.
    pub max_clients: u32,
    /// Pool settings after defaults.
    pub pool: PoolSettings,
}

/// Where a database is, for those who ask for it.
#[derive(Clone, Copy, Debug)]
pub struct Home<'c> {
    /// See [`Database::backend`].
    pub backend: usize,
    /// See [`Database::cluster`].
    pub cluster: Option<&'c str>,
    /// See [`Database::routing`].
    pub routing: &'c Routing,
}

/// What is known of a user's password.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Secret {
    /// Nothing: `auth_query`, certificate or trust only.
    None,
    /// The password itself (from an environment variable, a file, or, discouraged, the configuration).
    Password(String),
    /// `SCRAM-SHA-256$...` as in pg_authid.
    ScramVerifier(String),
    /// `md5...` as in pg_authid.
    Md5(String),
}

impl Secret {
    /// What pg_authid holds, by its form; a text that is neither MD5 nor SCRAM is the password itself.
    pub fn stored(text: &str) -> Secret {
        if text.starts_with("SCRAM-SHA-256$") {
            Secret::ScramVerifier(text.to_string())
        } else if text.len() == 35 && text.starts_with("md5") {
            Secret::Md5(text.to_string())
        } else {
            Secret::Password(text.to_string())
        }
    }
}

impl std::fmt::Debug for Secret {
    /// Names the kind, never the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Secret::None => "None",
            Secret::Password(_) => "Password(..)",
            Secret::ScramVerifier(_) => "ScramVerifier(..)",
            Secret::Md5(_) => "Md5(..)",
        })
    }
}

/// One user.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// Name.
    pub name: String,
    /// How clients prove they are this user, and how we prove it to backends.
    pub secret: Secret,
    /// Most server connections of this user over all databases; 0 is no bound.
    pub max_connections: u32,
    /// Pool size for this user's pools, overriding the database's.
    pub pool_size: Option<Size>,
    /// Pool mode for this user's pools, overriding the database's.
    pub pool_mode: Option<PoolMode>,
    /// Most clients of this user; 0 is no bound.
    pub max_clients: u32,
    /// How long they may take, overriding the database's.
    pub patience: OwnPatience,
}

impl Backend {
    /// Whether connections to the other are what this one asks for: what only bounds or places it does not matter.
    pub fn is_reached_like(&self, other: &Backend) -> bool {
        let reached = |b: &Backend| {
            let files = (b.sslrootcert.clone(), b.sslcert.clone(), b.sslkey.clone());
            (b.host.clone(), b.port, b.sslmode, b.ssl_direct, files)
        };
        reached(self) == reached(other)
    }
}

impl Config {
    /// The `[[database]]` that serves `name`: an exact match, or the wildcard.
    pub fn database(&self, name: &str) -> Option<&Database> {
        self.databases
            .iter()
            .find(|d| d.name == name)
            .or_else(|| self.databases.iter().find(|d| d.name == "*"))
    }

    /// Settings of the pool of `user` on `database`: the user's own count before the database's.
    pub fn pool_settings(&self, database: &Database, user: &str) -> PoolSettings {
        let mut settings = database.pool.clone();
        if let Some(user) = self.user(user) {
            settings.size = user.pool_size.unwrap_or(settings.size);
            settings.mode = user.pool_mode.unwrap_or(settings.mode);
            settings.min = settings.min.min(settings.most());
            let (own, patience) = (&user.patience, &mut settings.patience);
            patience.query = own.query.unwrap_or(patience.query);
            patience.idle = own.idle.unwrap_or(patience.idle);
            patience.idle_transaction = own.idle_transaction.unwrap_or(patience.idle_transaction);
            patience.transaction = own.transaction.unwrap_or(patience.transaction);
        }
        settings
    }

    /// Where a database is; for a tenant, where its `[[tenant]]` says that it is, if it says so.
    pub fn home<'c>(&'c self, database: &'c Database, tenant: Option<&str>) -> Home<'c> {
        let moved = tenant.and_then(|name| self.tenants.of(name)).filter(|t| t.has_place());
        let Some((backend, cluster)) = moved.and_then(|t| Some((t.backend?, t.cluster.as_deref()))) else {
            let Database { backend, cluster, routing, .. } = database;
            return Home { backend: *backend, cluster: cluster.as_deref(), routing };
        };
        // What a database says of reads holds where it has a cluster of its own to say it of.
        let of_cluster = cluster.and_then(|name| self.cluster(name)).map(|c| &c.routing);
        let routing = of_cluster.filter(|_| database.cluster.is_none()).unwrap_or(&database.routing);
        Home { backend, cluster, routing }
    }

    /// Where a database is without its tenants: the backend or cluster, and its name there.
    pub fn place(&self, database: &Database) -> (String, String) {
        let backend = self.backends.get(database.backend).map(|backend| backend.name.as_str());
        let name = database.cluster.as_deref().or(backend).unwrap_or_default().to_string();
        (name, database.dbname.clone().unwrap_or_else(|| database.name.clone()))
    }

    /// Where all who write are to tell each other ([`CacheMode::Strict`]): backend or cluster, the database's name there, and
    /// that of a `[[database]]`.
    pub fn strict_places(&self) -> impl Iterator<Item = (String, String, String)> {
        let strict = self.databases.iter().filter(|database| is_strict(&self.caches, &database.name));
        strict.map(|database| {
            let (name, dbname) = self.place(database);
            (name, dbname, database.name.clone())
        })
    }

    /// The `[[cluster]]` of that name.
    pub fn cluster(&self, name: &str) -> Option<&Cluster> {
        self.clusters.iter().find(|c| c.name == name)
    }

    /// The `[[user]]` that reads the catalog of a database, where one is named.
    pub fn catalog_user(&self, database: &Database) -> Option<&User> {
        self.user(database.catalog_user.as_ref().or(self.plan.catalog_user.as_ref())?)
    }

    /// The `[[user]]` of that name.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|u| u.name == name)
    }
}
