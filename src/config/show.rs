//! The configuration in effect, as SHOW CONFIG gives it: every value, and never a secret.

use std::path::Path;

use super::keys;
use super::units::{show_duration, show_size};
use super::words::{
    CONSISTENCIES, DISCOVERIES, FORMATS, HBA_TYPES, METHODS, MODES, ROLES, SSL_MODES, STRATEGIES,
    TRANSACTIONS, word,
};
use super::{Backend, Cluster, Config, Database, HbaRule, PoolSettings, Routing, Secret, User};

/// One row of SHOW CONFIG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// `pool.size`; with a name if the section occurs many times: `database.audit.size`; rules are `hba.1` and on.
    pub key: String,
    /// As the file would have it; empty for what is not set. Never a secret.
    pub value: String,
    /// What holds where the file does not say; empty for nothing. In a `[[database]]`, `[pool]` comes before it.
    pub default: &'static str,
    /// Whether a reload is enough to change it.
    pub changeable: bool,
}

impl Config {
    /// Every setting in effect, in the order of the reference.
    pub fn show(&self) -> Vec<Setting> {
        let mut rows = Rows(Vec::new());
        self.show_single(&mut rows);
        self.written().for_each(|backend| show_backend(backend, &mut rows));
        self.clusters.iter().for_each(|cluster| self.show_cluster(cluster, &mut rows));
        for (i, rule) in self.rules.iter().enumerate() {
            let parts = rule.conditions().into_iter().chain(rule.says.said());
            let parts: Vec<_> = parts.map(|(key, value)| format!("{key}={value}")).collect();
            rows.push(format!("route.{}", i + 1), parts.join(" "), "", true);
        }
        self.databases.iter().for_each(|database| self.show_database(database, &mut rows));
        self.users.iter().for_each(|user| show_user(user, &mut rows));
        for (i, rule) in self.hba.iter().enumerate() {
            rows.push(format!("hba.{}", i + 1), show_rule(rule), "", true);
        }
        rows.0
    }

    fn show_single(&self, rows: &mut Rows) {
        let general = &self.general;
        rows.add("general", "listen", joined(&general.listen));
        rows.add("general", "unix_socket_dir", path(general.unix_socket_dir.as_deref()));
        rows.add("general", "workers", general.workers);
        rows.add("general", "max_clients", general.max_clients);
        rows.add("general", "login_timeout", show_duration(general.login_timeout));
        rows.add("general", "drain_timeout", show_duration(general.drain_timeout));
        rows.add("general", "state_dir", path(general.state_dir.as_deref()));
        rows.add("general", "takeover_socket", path(general.takeover_socket.as_deref()));
        rows.add("general", "takeover_timeout", show_duration(general.takeover_timeout));
        rows.add("general", "high_water_mark", show_size(general.high_water_mark as u64));
        rows.add("general", "max_message_size", show_size(general.max_message_size as u64));
        rows.add("general", "max_client_prepared", general.max_client_prepared);
        rows.add("general", "max_memory", show_size(general.max_memory as u64));
        rows.add("general", "zone", general.zone.as_deref().unwrap_or(""));
        rows.add("general", "region", general.region.as_deref().unwrap_or(""));
        let tls = self.tls.as_ref();
        rows.add("tls", "cert", path(tls.map(|t| t.cert.as_path())));
        rows.add("tls", "key", path(tls.map(|t| t.key.as_path())));
        rows.add("tls", "client_ca", path(tls.and_then(|t| t.client_ca.as_deref())));
        rows.add("http", "listen", joined(self.http.as_slice()));
        rows.add("log", "level", &self.log.level);
        rows.add("log", "format", word(FORMATS, &self.log.json));
        rows.add("log", "connections", self.log.connections);
        rows.add("log", "disconnections", self.log.disconnections);
        rows.add("admin", "database", &self.admin.database);
        rows.add("admin", "admins", joined(&self.admin.admins));
        rows.add("admin", "readers", joined(&self.admin.readers));
        rows.add("plan", "max_memory", show_size(self.plan.max_memory));
        rows.add("plan", "catalog", self.plan.catalog);
        rows.add("plan", "catalog_user", self.plan.catalog_user.as_deref().unwrap_or(""));
        rows.add("plan", "read_functions", joined(&self.plan.read_functions));
        rows.add("plan", "write_functions", joined(&self.plan.write_functions));
        let query = self.auth.query.as_ref();
        rows.add("auth", "query", query.map_or("", |q| q.sql.as_str()));
        rows.add("auth", "user", query.map_or("", |q| q.user.as_str()));
        rows.add("auth", "database", query.and_then(|q| q.database.as_deref()).unwrap_or(""));
        rows.add("auth", "cache", query.map(|q| show_duration(q.cache)).unwrap_or_default());
        rows.add("auth", "failure_delay", show_duration(self.auth.failure_delay));
        rows.add("auth", "max_failures_per_minute", self.auth.max_failures_per_minute);
    }

    fn show_database(&self, database: &Database, rows: &mut Rows) {
        let section = ("database", database.name.as_str());
        let backend = self.backends.get(database.backend).filter(|_| database.cluster.is_none());
        rows.of(section, "backend", backend.map_or("", |b| b.name.as_str()));
        rows.of(section, "cluster", database.cluster.as_deref().unwrap_or(""));
        rows.of(section, "dbname", database.dbname.as_deref().unwrap_or(""));
        rows.of(section, "user", database.user.as_deref().unwrap_or(""));
        rows.of(section, "catalog_user", database.catalog_user.as_deref().unwrap_or(""));
        rows.of(section, "max_connections", database.max_connections);
        rows.of(section, "max_clients", database.max_clients);
        show_pool(section, &database.pool, rows);
        show_routing(section, &database.routing, rows);
    }

    fn show_cluster(&self, cluster: &Cluster, rows: &mut Rows) {
        let section = ("cluster", cluster.name.as_str());
        let members: Vec<_> = cluster.members(self).filter(|b| !b.found).map(|b| b.name.as_str()).collect();
        rows.of(section, "backends", joined(&members));
        rows.of(section, "strategy", word(STRATEGIES, &cluster.strategy));
        rows.of(section, "lag_interval", show_duration(cluster.lag_interval));
        rows.of(section, "failover_wait", show_duration(cluster.failover_wait));
        rows.of(section, "user", cluster.user.as_deref().unwrap_or(""));
        rows.of(section, "dbname", cluster.dbname.as_deref().unwrap_or(""));
        let discovery = &cluster.discovery;
        rows.of(section, "discovery", word(DISCOVERIES, &discovery.source));
        rows.of(section, "discovery_interval", show_duration(discovery.interval));
        rows.of(section, "discovery_port", discovery.port.map_or(String::new(), |port| port.to_string()));
        rows.of(section, "discovery_allow", joined(&discovery.allow));
        rows.of(section, "patroni", joined(&discovery.patroni));
        rows.of(section, "patroni_ca", path(discovery.patroni_ca.as_deref()));
        show_routing(section, &cluster.routing, rows);
    }
}

struct Rows(Vec<Setting>);

impl Rows {
    /// A key of a section that occurs once.
    fn add(&mut self, section: &str, key: &str, value: impl ToString) {
        self.row(section, format!("{section}.{key}"), key, value.to_string());
    }

    /// A key of one of many.
    fn of(&mut self, (section, name): (&str, &str), key: &str, value: impl ToString) {
        self.row(section, format!("{section}.{name}.{key}"), key, value.to_string());
    }

    fn row(&mut self, section: &str, full: String, key: &str, value: String) {
        let (default, changeable) = keys::key(section, key).map_or(("", true), |k| (k.default, k.changeable));
        self.push(full, value, default, changeable);
    }

    fn push(&mut self, key: String, value: String, default: &'static str, changeable: bool) {
        self.0.push(Setting { key, value, default, changeable });
    }
}

fn show_backend(backend: &Backend, rows: &mut Rows) {
    let section = ("backend", backend.name.as_str());
    rows.of(section, "host", &backend.host);
    rows.of(section, "port", backend.port);
    rows.of(section, "sslmode", word(SSL_MODES, &backend.sslmode));
    rows.of(section, "ssl_direct", backend.ssl_direct);
    rows.of(section, "sslrootcert", path(backend.sslrootcert.as_deref()));
    rows.of(section, "sslcert", path(backend.sslcert.as_deref()));
    rows.of(section, "sslkey", path(backend.sslkey.as_deref()));
    rows.of(section, "max_connections", backend.max_connections);
    rows.of(section, "role", word(ROLES, &backend.role));
    rows.of(section, "zone", backend.zone.as_deref().unwrap_or(""));
    rows.of(section, "region", backend.region.as_deref().unwrap_or(""));
    rows.of(section, "weight", backend.weight);
}

fn show_routing(section: (&str, &str), routing: &Routing, rows: &mut Rows) {
    rows.of(section, "consistency", word(CONSISTENCIES, &routing.consistency));
    rows.of(section, "max_lag", show_duration(routing.max_lag));
    rows.of(section, "max_lag_bytes", show_size(routing.max_lag_bytes));
    rows.of(section, "replica_wait", show_duration(routing.replica_wait));
    rows.of(section, "transactions", word(TRANSACTIONS, &routing.transactions));
    rows.of(section, "split", routing.split);
    rows.of(section, "fallback_to_primary", routing.fallback_to_primary);
}

fn show_pool(section: (&str, &str), pool: &PoolSettings, rows: &mut Rows) {
    rows.of(section, "mode", word(MODES, &pool.mode));
    rows.of(section, "size", pool.size);
    rows.of(section, "min", pool.min);
    rows.of(section, "reserve", pool.reserve);
    rows.of(section, "reserve_after", show_duration(pool.reserve_after));
    rows.of(section, "wait_timeout", show_duration(pool.wait_timeout));
    rows.of(section, "connect_timeout", show_duration(pool.connect_timeout));
    rows.of(section, "lifetime", show_duration(pool.lifetime));
    rows.of(section, "idle_timeout", show_duration(pool.idle_timeout));
    rows.of(section, "probe_after", show_duration(pool.probe_after));
    rows.of(section, "max_prepared", pool.max_prepared);
    let patience = &pool.patience;
    rows.of(section, "query_timeout", show_duration(patience.query));
    rows.of(section, "client_idle_timeout", show_duration(patience.idle));
    rows.of(section, "idle_transaction_timeout", show_duration(patience.idle_transaction));
    rows.of(section, "transaction_timeout", show_duration(patience.transaction));
}

fn show_user(user: &User, rows: &mut Rows) {
    let section = ("user", user.name.as_str());
    let kind = match user.secret {
        Secret::None => "none",
        Secret::Password(_) => "password",
        Secret::ScramVerifier(_) => "scram-sha-256 verifier",
        Secret::Md5(_) => "md5 verifier",
    };
    rows.push(format!("user.{}.secret", user.name), kind.to_string(), "none", true);
    rows.of(section, "max_connections", user.max_connections);
    rows.of(section, "pool_size", user.pool_size.map(|n| n.to_string()).unwrap_or_default());
    rows.of(section, "pool_mode", user.pool_mode.map_or("", |mode| word(MODES, &mode)));
    rows.of(section, "max_clients", user.max_clients);
    let own = |bound: Option<std::time::Duration>| bound.map(show_duration).unwrap_or_default();
    rows.of(section, "query_timeout", own(user.patience.query));
    rows.of(section, "client_idle_timeout", own(user.patience.idle));
    rows.of(section, "idle_transaction_timeout", own(user.patience.idle_transaction));
    rows.of(section, "transaction_timeout", own(user.patience.transaction));
}

fn show_rule(rule: &HbaRule) -> String {
    let parts = [
        word(HBA_TYPES, &rule.kind),
        &joined(&rule.databases),
        &joined(&rule.users),
        &joined(&rule.addresses),
    ];
    let parts = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
    format!("{} {}", parts.join(" "), word(METHODS, &rule.method))
}

fn joined(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn path(path: Option<&Path>) -> String {
    path.map(|p| p.display().to_string()).unwrap_or_default()
}
