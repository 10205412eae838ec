//! The configuration in effect, as SHOW CONFIG gives it: every value, and never a secret.

use std::path::Path;

use super::units::{show_duration, show_size};
use super::words::{FORMATS, HBA_TYPES, METHODS, MODES, SSL_MODES, word};
use super::{Backend, Config, Database, HbaRule, PoolSettings, Secret, User};

impl Config {
    /// Keys such as `pool.size`, with their values as the file would have them. What occurs many times has its
    /// name in the key: `database.audit.size`; rules have their number: `hba.1`. What is not set is empty.
    pub fn show(&self) -> Vec<(String, String)> {
        let mut rows = Rows(Vec::new());
        self.show_single(&mut rows);
        self.backends.iter().for_each(|backend| show_backend(backend, &mut rows));
        self.databases.iter().for_each(|database| self.show_database(database, &mut rows));
        self.users.iter().for_each(|user| show_user(user, &mut rows));
        for (i, rule) in self.hba.iter().enumerate() {
            rows.add("hba", &(i + 1).to_string(), show_rule(rule));
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
        rows.add("general", "high_water_mark", show_size(general.high_water_mark as u64));
        rows.add("general", "max_message_size", show_size(general.max_message_size as u64));
        rows.add("general", "max_client_prepared", general.max_client_prepared);
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
        let query = self.auth.query.as_ref();
        rows.add("auth", "query", query.map_or("", |q| q.sql.as_str()));
        rows.add("auth", "user", query.map_or("", |q| q.user.as_str()));
        rows.add("auth", "database", query.and_then(|q| q.database.as_deref()).unwrap_or(""));
        rows.add("auth", "cache", query.map(|q| show_duration(q.cache)).unwrap_or_default());
        rows.add("auth", "failure_delay", show_duration(self.auth.failure_delay));
        rows.add("auth", "max_failures_per_minute", self.auth.max_failures_per_minute);
    }

    fn show_database(&self, database: &Database, rows: &mut Rows) {
        let section = format!("database.{}", database.name);
        let backend = self.backends.get(database.backend);
        rows.add(&section, "backend", backend.map_or("", |b| b.name.as_str()));
        rows.add(&section, "dbname", database.dbname.as_deref().unwrap_or(""));
        rows.add(&section, "user", database.user.as_deref().unwrap_or(""));
        rows.add(&section, "max_connections", database.max_connections);
        show_pool(&section, &database.pool, rows);
    }
}

struct Rows(Vec<(String, String)>);

impl Rows {
    fn add(&mut self, section: &str, key: &str, value: impl ToString) {
        self.0.push((format!("{section}.{key}"), value.to_string()));
    }
}

fn show_backend(backend: &Backend, rows: &mut Rows) {
    let section = format!("backend.{}", backend.name);
    rows.add(&section, "host", &backend.host);
    rows.add(&section, "port", backend.port);
    rows.add(&section, "sslmode", word(SSL_MODES, &backend.sslmode));
    rows.add(&section, "ssl_direct", backend.ssl_direct);
    rows.add(&section, "sslrootcert", path(backend.sslrootcert.as_deref()));
    rows.add(&section, "sslcert", path(backend.sslcert.as_deref()));
    rows.add(&section, "sslkey", path(backend.sslkey.as_deref()));
    rows.add(&section, "max_connections", backend.max_connections);
}

fn show_pool(section: &str, pool: &PoolSettings, rows: &mut Rows) {
    rows.add(section, "mode", word(MODES, &pool.mode));
    rows.add(section, "size", pool.size);
    rows.add(section, "min", pool.min);
    rows.add(section, "reserve", pool.reserve);
    rows.add(section, "reserve_after", show_duration(pool.reserve_after));
    rows.add(section, "wait_timeout", show_duration(pool.wait_timeout));
    rows.add(section, "connect_timeout", show_duration(pool.connect_timeout));
    rows.add(section, "lifetime", show_duration(pool.lifetime));
    rows.add(section, "idle_timeout", show_duration(pool.idle_timeout));
    rows.add(section, "probe_after", show_duration(pool.probe_after));
    rows.add(section, "max_prepared", pool.max_prepared);
}

fn show_user(user: &User, rows: &mut Rows) {
    let section = format!("user.{}", user.name);
    let kind = match user.secret {
        Secret::None => "none",
        Secret::Password(_) => "password",
        Secret::ScramVerifier(_) => "scram-sha-256 verifier",
        Secret::Md5(_) => "md5 verifier",
    };
    rows.add(&section, "secret", kind);
    rows.add(&section, "max_connections", user.max_connections);
    rows.add(&section, "pool_size", user.pool_size.map(|n| n.to_string()).unwrap_or_default());
    rows.add(&section, "pool_mode", user.pool_mode.map_or("", |mode| word(MODES, &mode)));
}

fn show_rule(rule: &HbaRule) -> String {
    let networks: Vec<_> = rule.addresses.iter().map(|c| format!("{}/{}", c.addr, c.bits)).collect();
    let parts =
        [word(HBA_TYPES, &rule.kind), &joined(&rule.databases), &joined(&rule.users), &joined(&networks)];
    let parts = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
    format!("{} {}", parts.join(" "), word(METHODS, &rule.method))
}

fn joined(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn path(path: Option<&Path>) -> String {
    path.map(|p| p.display().to_string()).unwrap_or_default()
}
