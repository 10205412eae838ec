//! From a file to a [`Config`], with defaults, or to everything that is wrong with it.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::cache;
use super::cluster;
use super::invalidation;
use super::metric;
use super::mirror;
use super::pair::pair;
use super::people;
use super::plan;
use super::problem::Problem;
pub use super::problem::Problems;
use super::raw::{At, Fault, Section, Sections, Source};
use super::report;
use super::route;
use super::tenant;
use super::words::{FORMATS, MODES, ROLES, SIZES, SSL_MODES, WRITERS, nearest};
use super::{
    Admin, Auth, AuthQuery, Backend, ClientTls, Cluster, Config, Database, General, Log, OwnPatience,
    Patience, PoolMode, PoolSettings, Role, Size, SslMode, Writers,
};
use crate::core::limits;

const LONGEST: Duration = Duration::from_secs(365 * 86_400);
pub(super) const ANY_TIME: RangeInclusive<Duration> = Duration::ZERO..=LONGEST;
pub(super) const SOME_TIME: RangeInclusive<Duration> = Duration::from_millis(1)..=LONGEST;
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
/// Most connections of anything: more than any machine has descriptors for.
pub(super) const MANY: u32 = 1_000_000;

/// Reads and checks the file.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let bytes = fs::read(path).map_err(|error| {
        let message = format!("cannot read it: {error}");
        let file = path.to_path_buf();
        Problems(vec![Problem { file, line: 0, column: 0, key: String::new(), message, hint: None }])
    })?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(text, path),
        Err(error) => {
            let text = String::from_utf8_lossy(bytes.get(..error.valid_up_to()).unwrap_or_default());
            let source = Source::new(&text, path);
            source.report(text.len(), "", "is not UTF-8 from here on");
            Err(source.into_problems())
        }
    }
}

/// Checks a text as if it were the file `origin`, which need not exist; paths in it are relative to its directory.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &str, origin: &Path) -> Result<Config, Problems> {
    let source = Source::new(text, origin);
    let config = read(&source);
    let problems = source.into_problems();
    config.filter(|_| problems.0.is_empty()).ok_or(problems)
}

fn read(source: &Source<'_>) -> Option<Config> {
    let root = source.document();
    // After a syntax error the rest is guesswork.
    if source.has_problems() {
        return None;
    }
    let sections = Sections::new(source, &root);
    let general = general(&sections.table("general"));
    let tls = tls(&sections.table("tls"));
    let users = people::users(&sections.list("user"), source);
    let defaults = pool(&sections.table("pool"), &DEFAULT_POOL);
    let (backend_sections, database_sections) = (sections.list("backend"), sections.list("database"));
    let backends: Vec<_> = backend_sections.iter().map(backend).collect();
    unique(source, &backend_sections);
    distinct(source, &backend_sections);
    unique(source, &database_sections);
    for name in ["backend", "database"] {
        if !sections.has(name) {
            source.report(0, name, "is missing: there must be at least one");
        }
    }
    let lists = ["cluster", "metric", "tenant", "function"].map(|name| sections.list(name));
    lists.iter().for_each(|list| unique(source, list));
    let [cluster_sections, metric_sections, tenant_sections, functions] = lists;
    let clusters = cluster::clusters(&cluster_sections, &backends, &users);
    let rules = route::rules(&sections.list("route"), &backends, &clusters);
    let databases = databases(&database_sections, (&backends, &clusters), &users, &defaults);
    let (redis, caches) = cache::caches(&sections, &general, &databases);
    let metrics = metric::metrics(&metric_sections, &databases, &users);
    let known =
        mirror::Known { backends: &backends, clusters: &clusters, databases: &databases, users: &users };
    let (mirrors, record) = mirror::rehearsals(source, &sections, known);
    let reports = report::reports(source, &sections, &databases, &users);
    let tenants = tenant::tenants(&sections.table("tenants"), &tenant_sections, known);
    let hba = people::hba(&sections.list("hba"), tls.as_ref());
    let auth = auth(&sections.table("auth"), &users, &databases);
    let admin = admin(&sections.table("admin"), &databases);
    let plan = plan::plan(&sections.table("plan"), &functions, &users);
    Some(Config {
        http: http(&sections.table("http"), &general),
        general,
        tls,
        log: log(&sections.table("log")),
        admin,
        plan,
        auth,
        hba,
        backends,
        clusters,
        rules,
        caches,
        redis,
        databases,
        users,
        metrics,
        mirrors,
        record,
        reports,
        tenants,
    })
}

/// Reports names that occur twice. Case counts, as it does to Postgres.
pub(super) fn unique(source: &Source<'_>, sections: &[Section<'_>]) {
    let mut seen: HashMap<String, At> = HashMap::new();
    for section in sections {
        let Some(name) = section.text_quietly("name") else { continue };
        if let Some(at) = seen.get(&name) {
            section.report("name", format!("{name:?} is already defined on line {}", source.line(*at)));
        } else {
            seen.insert(name, section.at("name"));
        }
    }
}

/// Reports backends whose names differ only in case: who reads logs and metrics would confuse them.
fn distinct(source: &Source<'_>, sections: &[Section<'_>]) {
    let mut seen: HashMap<String, (String, At)> = HashMap::new();
    for section in sections {
        let Some(name) = section.text_quietly("name") else { continue };
        let first = seen.entry(name.to_lowercase()).or_insert_with(|| (name.clone(), section.at("name")));
        if first.0 != name {
            let line = source.line(first.1);
            section.report("name", format!("{name:?} differs only in case from the name on line {line}"));
        }
    }
}

/// The nearest of some names, as a hint.
pub(super) fn unknown<'a>(what: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Fault {
    let fault = Fault::from(format!("there is no {what} {name:?}"));
    match nearest(name, known) {
        Some(near) => fault.hint(format!("did you mean {near:?}?")),
        None => fault,
    }
}

/// A file that must be there and be readable.
pub(super) fn file(section: &Section<'_>, key: &str) -> Option<PathBuf> {
    let path = section.path(key)?;
    let outcome = fs::File::open(&path).and_then(|file| file.metadata());
    match outcome {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => section.report(key, format!("{} is not a file", path.display())),
        Err(error) => section.report(key, format!("cannot read {}: {error}", path.display())),
    }
    Some(path)
}

pub(super) fn addr(text: &str) -> Result<SocketAddr, Fault> {
    let fault = || {
        Fault::from(format!("{text:?} is not an address with a port"))
            .hint("such as 127.0.0.1:6432 or [::]:6432")
    };
    text.parse().map_err(|_| fault())
}

fn general(section: &Section<'_>) -> General {
    let listen =
        section.parsed("listen", addr).unwrap_or_else(|| vec![SocketAddr::from(([127, 0, 0, 1], 6432))]);
    let unix_socket_dir = section.path("unix_socket_dir");
    if let Some(dir) = unix_socket_dir.as_ref().filter(|dir| !dir.is_dir()) {
        section.report("unix_socket_dir", format!("{} is not a directory", dir.display()));
    }
    if section.count("listen") == Some(0) && unix_socket_dir.is_none() {
        section.report("listen", "there is nothing to listen on");
    }
    for (i, addr) in listen.iter().enumerate() {
        if addr.port() != 0 && listen.iter().take(i).any(|other| other == addr) {
            section.report("listen", format!("{addr} occurs twice"));
        }
    }
    let state_dir = section.path("state_dir");
    if let Some(dir) = state_dir.as_ref().filter(|dir| !dir.is_dir()) {
        section.report("state_dir", format!("{} is not a directory", dir.display()));
    }
    General {
        listen,
        unix_socket_dir,
        state_dir,
        workers: section.number("workers", 0..=1024).unwrap_or(0),
        max_clients: section.number("max_clients", 1..=MANY).unwrap_or(10_000),
        login_timeout: section.duration("login_timeout", SOME_TIME).unwrap_or(Duration::from_secs(60)),
        drain_timeout: section.duration("drain_timeout", ANY_TIME).unwrap_or(Duration::from_secs(30)),
        takeover_socket: takeover_socket(section),
        takeover_timeout: section.duration("takeover_timeout", ANY_TIME).unwrap_or(Duration::from_secs(3600)),
        high_water_mark: section
            .size("high_water_mark", limits::MIN_HIGH_WATER..=limits::MAX_MESSAGE)
            .unwrap_or(limits::HIGH_WATER),
        max_message_size: section
            .size("max_message_size", limits::MAX_AUTH_MESSAGE..=limits::MAX_MESSAGE)
            .unwrap_or(limits::MAX_MESSAGE),
        max_client_prepared: section.number("max_client_prepared", 1..=1_000_000).unwrap_or(10_000),
        max_memory: section.size("max_memory", 0..=usize::MAX >> 1).unwrap_or(0),
        cache_memory: section.size("cache_memory", 0..=usize::MAX >> 1).unwrap_or(0) as u64,
        cache_warm: cache::warm(section),
        cache_warm_key_file: cache::warm_key_file(section),
        zone: section.text("zone"),
        region: section.text("region"),
    }
}

/// A path that a process can make a Unix socket at.
fn takeover_socket(section: &Section<'_>) -> Option<PathBuf> {
    let path = section.path("takeover_socket")?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !dir.is_dir() {
        section.report("takeover_socket", format!("{} is not a directory", dir.display()));
    } else if path.as_os_str().len() > limits::MAX_SOCKET_PATH {
        let longest = limits::MAX_SOCKET_PATH;
        section
            .report("takeover_socket", format!("is longer than {longest} bytes, too long for a Unix socket"));
    }
    Some(path)
}

fn tls(section: &Section<'_>) -> Option<ClientTls> {
    let (cert, key) = (file(section, "cert"), file(section, "key"));
    let client_ca = file(section, "client_ca");
    let needed = section.has("cert") || section.has("key") || section.has("client_ca");
    for key in ["cert", "key"].into_iter().filter(|key| needed && !section.has(key)) {
        section.report(key, "is missing: TLS needs both cert and key");
    }
    pair(section, "key", cert.as_deref(), key.as_deref());
    // What is wrong with them is reported, and must not be reported again by what needs TLS.
    needed.then(|| ClientTls { cert: cert.unwrap_or_default(), key: key.unwrap_or_default(), client_ca })
}

fn http(section: &Section<'_>, general: &General) -> Option<SocketAddr> {
    let listen = section.text("listen")?;
    let listen = addr(&listen).map_err(|fault| section.report("listen", fault)).ok()?;
    if listen.port() != 0 && general.listen.contains(&listen) {
        section.report("listen", format!("{listen} is already in general.listen"));
    }
    Some(listen)
}

fn log(section: &Section<'_>) -> Log {
    let level = section.text("level").unwrap_or_else(|| "info".into());
    let plain = level.chars().all(|c| c.is_ascii_alphabetic());
    let known = LEVELS.iter().any(|l| level.eq_ignore_ascii_case(l));
    if plain && !known {
        section.report("level", format!("{level:?} is not one of {}", LEVELS.join(", ")));
    } else if let Err(error) = EnvFilter::try_new(&level) {
        section.report("level", format!("{level:?} is not a filter: {error}"));
    }
    Log {
        level,
        json: section.word("format", FORMATS).unwrap_or(false),
        connections: section.flag("connections").unwrap_or(false),
        disconnections: section.flag("disconnections").unwrap_or(false),
    }
}

fn admin(section: &Section<'_>, databases: &[Database]) -> Admin {
    let database = section.text("database").unwrap_or_else(|| "turnpike".into());
    if databases.iter().any(|d| d.name == database) {
        section.report("database", format!("{database:?} is also the name of a [[database]]"));
    }
    Admin {
        database,
        admins: section.texts("admins").unwrap_or_default(),
        readers: section.texts("readers").unwrap_or_default(),
    }
}

fn auth(section: &Section<'_>, users: &[super::User], databases: &[Database]) -> Auth {
    let cache = section.duration("cache", ANY_TIME).unwrap_or(Duration::from_secs(30));
    let user = section.text("user");
    if let Some(name) = user.as_ref().filter(|name| users.iter().all(|u| u.name != **name)) {
        section.report("user", unknown("[[user]]", name, users.iter().map(|u| u.name.as_str())));
    }
    let database = section.text("database");
    let exact = databases.iter().map(|d| d.name.as_str());
    let served = |name: &str| databases.iter().any(|d| d.name == name || d.name == "*");
    if let Some(name) = database.as_ref().filter(|name| !served(name)) {
        section.report("database", unknown("[[database]]", name, exact));
    }
    for key in ["user", "database"].into_iter().filter(|key| section.has(key) && !section.has("query")) {
        section.report(key, "has no effect without auth.query");
    }
    let sql = section.text("query");
    if let Some(sql) = &sql {
        match parameters(sql).as_slice() {
            [] => section.report("query", "must have $1, the user name, in it"),
            found if found.iter().any(|n| n != "1") => {
                section.report("query", "may have no parameter but $1, the user name");
            }
            _ => {}
        }
        if !section.has("user") {
            section.report("user", "is missing: auth.query runs as a [[user]]");
        }
    }
    Auth {
        query: sql.zip(user).map(|(sql, user)| AuthQuery { sql, user, database, cache }),
        failure_delay: section
            .duration("failure_delay", Duration::ZERO..=Duration::from_secs(60))
            .unwrap_or(Duration::from_millis(500)),
        max_failures_per_minute: section.number("max_failures_per_minute", 1..=MANY).unwrap_or(30),
    }
}

/// The digits after each `$`.
fn parameters(sql: &str) -> Vec<String> {
    let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>();
    sql.split('$').skip(1).map(digits).filter(|digits| !digits.is_empty()).collect()
}

const DEFAULT_POOL: PoolSettings = PoolSettings {
    mode: PoolMode::Transaction,
    size: Size::Fixed(20),
    max_size: 50,
    min: 0,
    reserve: 0,
    reserve_after: Duration::from_secs(5),
    wait_timeout: Duration::from_secs(60),
    max_waiting: 0,
    max_waiting_age: Duration::ZERO,
    connect_timeout: Duration::from_secs(10),
    lifetime: Duration::from_secs(3600),
    idle_timeout: Duration::from_secs(600),
    probe_after: Duration::from_secs(30),
    max_prepared: 500,
    patience: Patience {
        query: Duration::ZERO,
        idle: Duration::ZERO,
        idle_transaction: Duration::ZERO,
        transaction: Duration::ZERO,
    },
};

/// Pool settings of `[pool]` or of a `[[database]]`; what it does not say is as in `base`.
fn pool(section: &Section<'_>, base: &PoolSettings) -> PoolSettings {
    let pool = PoolSettings {
        mode: section.word("mode", MODES).unwrap_or(base.mode),
        size: size(section, "size").unwrap_or(base.size),
        max_size: section.number("max_size", 1..=MANY).unwrap_or(base.max_size),
        min: section.number("min", 0..=MANY).unwrap_or(base.min),
        reserve: section.number("reserve", 0..=MANY).unwrap_or(base.reserve),
        reserve_after: section.duration("reserve_after", ANY_TIME).unwrap_or(base.reserve_after),
        wait_timeout: section.duration("wait_timeout", SOME_TIME).unwrap_or(base.wait_timeout),
        max_waiting: section.number("max_waiting", 0..=MANY).unwrap_or(base.max_waiting),
        max_waiting_age: section.duration("max_waiting_age", ANY_TIME).unwrap_or(base.max_waiting_age),
        connect_timeout: section.duration("connect_timeout", SOME_TIME).unwrap_or(base.connect_timeout),
        lifetime: section.duration("lifetime", SOME_TIME).unwrap_or(base.lifetime),
        idle_timeout: section.duration("idle_timeout", SOME_TIME).unwrap_or(base.idle_timeout),
        probe_after: section.duration("probe_after", ANY_TIME).unwrap_or(base.probe_after),
        max_prepared: section.number("max_prepared", 0..=1_000_000).unwrap_or(base.max_prepared),
        patience: patience(section, &base.patience),
    };
    let most = if pool.size == Size::Adaptive { "max_size" } else { "size" };
    let own = ["min", most, "size"].into_iter().find(|key| section.has(key));
    if let Some(key) = own.filter(|_| pool.min > pool.most()) {
        section.report(key, format!("min ({}) is more than {most} ({})", pool.min, pool.most()));
    }
    pool
}

/// A number of connections, or the word for what finds it out.
pub(super) fn size(section: &Section<'_>, key: &str) -> Option<Size> {
    if !section.is_text(key) {
        return section.number(key, 1..=MANY).map(Size::Fixed);
    }
    let text = section.text(key)?;
    let size = SIZES.iter().find(|(word, _)| *word == text).map(|(_, size)| *size);
    if size.is_none() {
        section.report(key, format!("{text:?} is neither a whole number nor \"adaptive\""));
    }
    size
}

fn patience(section: &Section<'_>, base: &Patience) -> Patience {
    let own = own_patience(section);
    Patience {
        query: own.query.unwrap_or(base.query),
        idle: own.idle.unwrap_or(base.idle),
        idle_transaction: own.idle_transaction.unwrap_or(base.idle_transaction),
        transaction: own.transaction.unwrap_or(base.transaction),
    }
}

/// The bounds that a section has of its own.
pub(super) fn own_patience(section: &Section<'_>) -> OwnPatience {
    OwnPatience {
        query: section.duration("query_timeout", ANY_TIME),
        idle: section.duration("client_idle_timeout", ANY_TIME),
        idle_transaction: section.duration("idle_transaction_timeout", ANY_TIME),
        transaction: section.duration("transaction_timeout", ANY_TIME),
    }
}

fn backend(section: &Section<'_>) -> Backend {
    let sslmode = section.word("sslmode", SSL_MODES).unwrap_or(SslMode::Prefer);
    let ssl_direct = section.flag("ssl_direct").unwrap_or(false);
    if ssl_direct && matches!(sslmode, SslMode::Disable | SslMode::Prefer) {
        section.report("ssl_direct", "needs sslmode require, verify-ca or verify-full");
    }
    if matches!(sslmode, SslMode::VerifyCa | SslMode::VerifyFull) && !section.has("sslrootcert") {
        section.report("sslrootcert", "is missing: sslmode verify-ca and verify-full need it");
    }
    for (key, other) in [("sslcert", "sslkey"), ("sslkey", "sslcert")] {
        if section.has(other) && !section.has(key) {
            section.report(key, format!("is missing: {other} is of no use without it"));
        }
    }
    let (sslcert, sslkey) = (file(section, "sslcert"), file(section, "sslkey"));
    pair(section, "sslkey", sslcert.as_deref(), sslkey.as_deref());
    Backend {
        name: section.required("name"),
        host: section.required("host"),
        port: section.number("port", 1..=u16::MAX).unwrap_or(5432),
        sslmode,
        ssl_direct,
        sslrootcert: file(section, "sslrootcert"),
        sslcert,
        sslkey,
        max_connections: section.number("max_connections", 0..=MANY).unwrap_or(0),
        role: section.word("role", ROLES).unwrap_or(Role::Auto),
        zone: section.text("zone"),
        region: section.text("region"),
        found: false,
        weight: section.number("weight", 0..=1000).unwrap_or(100),
    }
}

fn databases(
    sections: &[Section<'_>],
    (backends, clusters): (&[Backend], &[Cluster]),
    users: &[super::User],
    defaults: &PoolSettings,
) -> Vec<Database> {
    let mut databases: Vec<Database> = Vec::new();
    for section in sections {
        let place = cluster::place(section, backends, clusters);
        let user = section.text("user");
        let writers = section.word("writers", WRITERS);
        if let Some(name) = user.as_ref().filter(|name| users.iter().all(|u| u.name != **name)) {
            section.report("user", unknown("[[user]]", name, users.iter().map(|u| u.name.as_str())));
        }
        databases.push(Database {
            name: section.required("name"),
            backend: place.backend,
            cluster: place.cluster.map(|c| c.name.clone()),
            routing: cluster::routing(section, place.cluster.map_or(&cluster::ROUTING, |c| &c.routing)),
            dbname: section.text("dbname"),
            user,
            catalog_user: people::own_login(section, "catalog_user", users),
            writers: writers.unwrap_or(Writers::Anyone),
            invalidation: invalidation::read(section, users, writers),
            max_connections: section.number("max_connections", 0..=MANY).unwrap_or(0),
            max_clients: section.number("max_clients", 0..=MANY).unwrap_or(0),
            pool: pool(section, defaults),
        });
    }
    // Stable: exact names keep their order.
    databases.sort_by_key(|d| d.name == "*");
    databases
}
