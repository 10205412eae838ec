//! The configuration in effect, as SHOW CONFIG gives it: every value, and never a secret.

use std::path::Path;

use super::keys;
use super::mirror::{RECORDED_FILES, RECORDED_SIZE, RECORDED_WAITING};
use super::redis::{REDIS_COALESCE, REDIS_COMPRESS, REDIS_DEADLINE, RedisMode};
use super::report::spelt;
use super::tenant::{OwnShare, Tenant, TenantWay};
use super::units::{show_duration, show_size};
use super::words::REDIS_MODES;
use super::words::{
    CDN_KINDS, CONSISTENCIES, DISCOVERIES, FORMATS, HBA_TYPES, INVALIDATIONS, METHODS, METRIC_KINDS,
    METRIC_PLACES, MIRROR_MODES, MODES, PRIORITIES, REPORT_ACCESS, REPORT_FORMATS, ROLES, SIZES, SSL_MODES,
    STRATEGIES, TENANT_WAYS, TRANSACTIONS, WRITERS, word,
};
use super::{
    Backend, Cdn, Cluster, Config, Database, HbaRule, Metric, Mirror, MirrorTarget, PoolSettings, Report,
    Routing, Rule, Secret, Share, Size, User,
};

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
        for (i, rule) in self.caches.iter().enumerate() {
            let parts = rule.said().into_iter().map(|(key, value)| format!("{key}={value}"));
            rows.push(format!("cache.{}", i + 1), parts.collect::<Vec<_>>().join(" "), "", true);
        }
        self.show_redis(&mut rows);
        self.databases.iter().for_each(|database| self.show_database(database, &mut rows));
        self.users.iter().for_each(|user| show_user(user, &mut rows));
        self.metrics.iter().for_each(|metric| show_metric(metric, &mut rows));
        self.mirrors.iter().for_each(|mirror| show_mirror(mirror, &mut rows));
        self.show_record(&mut rows);
        self.show_reports(&mut rows);
        self.show_tenants(&mut rows);
        self.tenants.listed.iter().for_each(|tenant| self.show_tenant(tenant, &mut rows));
        for (i, rule) in self.hba.iter().enumerate() {
            rows.push(format!("hba.{}", i + 1), show_rule(rule), "", true);
        }
        rows.0
    }

    fn show_reports(&self, rows: &mut Rows) {
        let usual = |key: &str| keys::key("reports", key).map_or("", |key| key.default).to_string();
        let reports = self.reports.as_ref();
        rows.add("reports", "listen", reports.map(|r| r.listen.to_string()).unwrap_or_default());
        let tls = reports.and_then(|r| r.tls.as_ref());
        rows.add("reports", "tls_cert", path(tls.map(|t| t.cert.as_path())));
        rows.add("reports", "tls_key", path(tls.map(|t| t.key.as_path())));
        rows.add("reports", "key_file", path(reports.and_then(|r| r.key_file.as_deref())));
        rows.add("reports", "tokens_file", path(reports.and_then(|r| r.tokens_file.as_deref())));
        let memory = reports.map_or_else(|| usual("memory"), |r| show_size(r.memory as u64));
        rows.add("reports", "memory", memory);
        let running = reports.map_or_else(|| usual("max_running"), |r| r.max_running.to_string());
        rows.add("reports", "max_running", running);
        if let Some(reports) = reports {
            reports.list.iter().for_each(|report| show_report(report, rows));
            reports.cdns.iter().for_each(|cdn| show_cdn(cdn, rows));
        }
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
        rows.add("general", "cache_memory", show_size(general.cache_memory));
        rows.add("general", "cache_warm", general.cache_warm);
        rows.add("general", "cache_warm_key_file", path(general.cache_warm_key_file.as_deref()));
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
        for function in &self.plan.functions {
            let (name, section) = (function.name.to_string(), "function");
            rows.of((section, &name), "reads", joined(&function.reads));
            rows.of((section, &name), "writes", joined(&function.writes));
        }
        let query = self.auth.query.as_ref();
        rows.add("auth", "query", query.map_or("", |q| q.sql.as_str()));
        rows.add("auth", "user", query.map_or("", |q| q.user.as_str()));
        rows.add("auth", "database", query.and_then(|q| q.database.as_deref()).unwrap_or(""));
        rows.add("auth", "cache", query.map(|q| show_duration(q.cache)).unwrap_or_default());
        rows.add("auth", "failure_delay", show_duration(self.auth.failure_delay));
        rows.add("auth", "max_failures_per_minute", self.auth.max_failures_per_minute);
    }

    fn show_redis(&self, rows: &mut Rows) {
        let redis = self.redis.as_ref();
        let node = |(host, port): &(String, u16)| format!("{host}:{port}");
        let nodes: Vec<String> = redis.map(|r| r.nodes.iter().map(node).collect()).unwrap_or_default();
        rows.add("redis", "nodes", joined(&nodes));
        rows.add("redis", "mode", word(REDIS_MODES, &redis.map_or(RedisMode::Single, |r| r.mode)));
        rows.add("redis", "master", redis.map_or("", |r| r.master.as_str()));
        rows.add("redis", "user", redis.and_then(|r| r.user.as_deref()).unwrap_or(""));
        for key in ["password", "password_env", "password_file"] {
            let given = key == "password" && redis.is_some_and(|r| r.password.is_some());
            rows.add("redis", key, if given { "given" } else { "" });
        }
        rows.add("redis", "database", redis.map_or(0, |r| r.database));
        rows.add("redis", "tls", redis.is_some_and(|r| r.tls));
        rows.add("redis", "ca", path(redis.and_then(|r| r.ca.as_deref())));
        let times = redis.map_or((REDIS_DEADLINE, REDIS_COMPRESS), |r| (r.deadline, r.compress_above));
        rows.add("redis", "deadline", show_duration(times.0));
        rows.add("redis", "compress_above", show_size(times.1 as u64));
        rows.add("redis", "encrypt", redis.is_none_or(|r| r.encrypt));
        rows.add("redis", "coalesce", show_duration(redis.map_or(REDIS_COALESCE, |r| r.coalesce)));
        rows.add("redis", "key_file", path(redis.and_then(|r| r.key_file.as_deref())));
    }

    fn show_record(&self, rows: &mut Rows) {
        let record = self.record.as_ref();
        rows.add("record", "dir", path(record.map(|r| r.dir.as_path())));
        rows.add("record", "key_file", path(record.map(|r| r.key_file.as_path())));
        rows.add("record", "literals", record.is_some_and(|r| r.literals));
        for key in ["user", "database", "application_name"] {
            rows.add("record", key, record.map(|r| condition(&r.about, key)).unwrap_or_default());
        }
        let sizes = record.map_or((RECORDED_SIZE, RECORDED_WAITING), |r| (r.max_size, r.max_queued_bytes));
        rows.add("record", "share", record.map_or(Share::ALL, |r| r.share));
        rows.add("record", "max_size", show_size(sizes.0 as u64));
        rows.add("record", "max_files", record.map_or(RECORDED_FILES, |r| r.max_files));
        rows.add("record", "max_queued_bytes", show_size(sizes.1 as u64));
    }

    fn show_database(&self, database: &Database, rows: &mut Rows) {
        let section = ("database", database.name.as_str());
        let backend = self.backends.get(database.backend).filter(|_| database.cluster.is_none());
        rows.of(section, "backend", backend.map_or("", |b| b.name.as_str()));
        rows.of(section, "cluster", database.cluster.as_deref().unwrap_or(""));
        rows.of(section, "dbname", database.dbname.as_deref().unwrap_or(""));
        rows.of(section, "user", database.user.as_deref().unwrap_or(""));
        rows.of(section, "catalog_user", database.catalog_user.as_deref().unwrap_or(""));
        rows.of(section, "writers", word(WRITERS, &database.writers));
        let told = &database.invalidation;
        rows.of(section, "invalidation", word(INVALIDATIONS, &told.teller));
        rows.of(section, "invalidation_user", told.user.as_deref().unwrap_or(""));
        rows.of(section, "invalidation_bound", show_duration(told.bound));
        rows.of(section, "invalidation_slot", told.slot.as_deref().unwrap_or(""));
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

/// The condition of that key.
fn condition(rule: &Rule, key: &str) -> String {
    rule.conditions().into_iter().find(|(name, _)| *name == key).map(|(_, value)| value).unwrap_or_default()
}

impl Config {
    fn show_tenants(&self, rows: &mut Rows) {
        let tenants = &self.tenants;
        let ways: Vec<_> = tenants.by.iter().map(|way: &TenantWay| word(TENANT_WAYS, way)).collect();
        rows.add("tenants", "by", joined(&ways));
        rows.add("tenants", "claimed_by", joined(&tenants.claimed_by));
        rows.add("tenants", "rate_wait", show_duration(tenants.rate_wait));
        let share = &tenants.share;
        rows.add("tenants", "weight", share.weight);
        rows.add("tenants", "guaranteed", share.guaranteed);
        rows.add("tenants", "max", share.max);
        rows.add("tenants", "max_waiting", share.max_waiting);
        rows.add("tenants", "priority", word(PRIORITIES, &share.priority));
        let burst = |rate: super::tenant::Rate| (rate.per_second > 0).then_some(rate.burst);
        rows.add("tenants", "statements_per_second", share.statements.per_second);
        rows.add("tenants", "statements_burst", number(burst(share.statements)));
        rows.add("tenants", "rows_per_second", share.rows.per_second);
        rows.add("tenants", "rows_burst", number(burst(share.rows)));
    }

    fn show_tenant(&self, tenant: &Tenant, rows: &mut Rows) {
        let name = tenant.name.to_string();
        let section = ("tenant", name.as_str());
        rows.of(section, "user", joined(&tenant.users));
        rows.of(section, "database", joined(&tenant.databases));
        rows.of(section, "application_name", joined(&tenant.applications));
        rows.of(section, "sni", joined(&tenant.hosts));
        rows.of(section, "claimed_by", joined(tenant.claimed_by.as_deref().unwrap_or_default()));
        let OwnShare { weight, guaranteed, max, max_waiting, priority, statements, rows: per_rows } =
            tenant.own.clone();
        rows.of(section, "weight", number(weight));
        rows.of(section, "guaranteed", number(guaranteed));
        rows.of(section, "max", number(max));
        rows.of(section, "max_waiting", number(max_waiting));
        rows.of(section, "priority", priority.map_or("", |p| word(PRIORITIES, &p)));
        rows.of(section, "statements_per_second", number(statements.0));
        rows.of(section, "statements_burst", number(statements.1));
        rows.of(section, "rows_per_second", number(per_rows.0));
        rows.of(section, "rows_burst", number(per_rows.1));
        rows.of(section, "pool", word(super::tenant::OWN_POOL, &tenant.own_pool));
        rows.of(section, "pool_size", number(tenant.pool_size));
        let backend = tenant.backend.filter(|_| tenant.cluster.is_none());
        let backend = backend.and_then(|i| self.backends.get(i));
        rows.of(section, "backend", backend.map_or("", |b| b.name.as_str()));
        rows.of(section, "cluster", tenant.cluster.as_deref().unwrap_or(""));
    }
}

/// A number, if there is one.
fn number(n: Option<u32>) -> String {
    n.map(|n| n.to_string()).unwrap_or_default()
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
    rows.of(section, "size", show_size_of(pool.size));
    rows.of(section, "max_size", pool.max_size);
    rows.of(section, "min", pool.min);
    rows.of(section, "reserve", pool.reserve);
    rows.of(section, "reserve_after", show_duration(pool.reserve_after));
    rows.of(section, "wait_timeout", show_duration(pool.wait_timeout));
    rows.of(section, "max_waiting", pool.max_waiting);
    rows.of(section, "max_waiting_age", show_duration(pool.max_waiting_age));
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
    rows.of(section, "pool_size", user.pool_size.map(show_size_of).unwrap_or_default());
    rows.of(section, "pool_mode", user.pool_mode.map_or("", |mode| word(MODES, &mode)));
    rows.of(section, "max_clients", user.max_clients);
    let own = |bound: Option<std::time::Duration>| bound.map(show_duration).unwrap_or_default();
    rows.of(section, "query_timeout", own(user.patience.query));
    rows.of(section, "client_idle_timeout", own(user.patience.idle));
    rows.of(section, "idle_transaction_timeout", own(user.patience.idle_transaction));
    rows.of(section, "transaction_timeout", own(user.patience.transaction));
}

fn show_metric(metric: &Metric, rows: &mut Rows) {
    let section = ("metric", metric.name.as_str());
    rows.of(section, "help", &metric.help);
    rows.of(section, "type", word(METRIC_KINDS, &metric.kind));
    rows.of(section, "database", &metric.database);
    rows.of(section, "user", &metric.user);
    rows.of(section, "query", &metric.query);
    rows.of(section, "labels", joined(metric.labels.as_deref().unwrap_or_default()));
    rows.of(section, "interval", show_duration(metric.interval));
    rows.of(section, "timeout", show_duration(metric.timeout));
    rows.of(section, "on", word(METRIC_PLACES, &metric.on));
    rows.of(section, "max_series", metric.max_series);
}

fn show_mirror(mirror: &Mirror, rows: &mut Rows) {
    let section = ("mirror", mirror.name.as_str());
    for key in ["user", "database", "application_name", "table", "fingerprint", "class"] {
        rows.of(section, key, condition(&mirror.about, key));
    }
    let (backend, cluster) = match &mirror.target {
        MirrorTarget::Backend(name) => (name.as_str(), ""),
        MirrorTarget::Cluster(name) => ("", name.as_str()),
    };
    rows.of(section, "mode", word(MIRROR_MODES, &mirror.mode));
    rows.of(section, "share", mirror.share);
    rows.of(section, "backend", backend);
    rows.of(section, "cluster", cluster);
    rows.of(section, "dbname", &mirror.dbname);
    rows.of(section, "login", &mirror.login);
    rows.of(section, "connections", mirror.connections);
    rows.of(section, "max_queued", mirror.max_queued);
    rows.of(section, "max_queued_bytes", show_size(mirror.max_queued_bytes as u64));
    rows.of(section, "timeout", show_duration(mirror.timeout));
    rows.of(section, "connect_timeout", show_duration(mirror.connect_timeout));
}

fn show_report(report: &Report, rows: &mut Rows) {
    let section = ("report", report.name.as_str());
    let access: Vec<_> = report.access.iter().map(|access| word(REPORT_ACCESS, access)).collect();
    rows.of(section, "database", &report.database);
    rows.of(section, "user", &report.user);
    rows.of(section, "sql", &report.sql);
    rows.of(section, "params", joined(&report.params.iter().map(spelt).collect::<Vec<_>>()));
    rows.of(section, "format", word(REPORT_FORMATS, &report.format));
    rows.of(section, "access", joined(&access));
    rows.of(section, "tokens", joined(&report.tokens));
    rows.of(section, "edge", report.edge);
    rows.of(section, "ttl", show_duration(report.ttl));
    rows.of(section, "stale_while_revalidate", show_duration(report.stale_while_revalidate));
    rows.of(section, "stale_if_error", show_duration(report.stale_if_error));
    rows.of(section, "purge", report.purge);
    rows.of(section, "timeout", show_duration(report.timeout));
    rows.of(section, "max_rows", report.max_rows);
    rows.of(section, "max_bytes", show_size(report.max_bytes as u64));
}

fn show_cdn(cdn: &Cdn, rows: &mut Rows) {
    let section = ("cdn", cdn.name.as_str());
    rows.of(section, "kind", word(CDN_KINDS, &cdn.kind));
    rows.of(section, "url", &cdn.url);
    rows.of(section, "service", &cdn.service);
    rows.of(section, "token_file", path(cdn.token_file.as_deref()));
    rows.of(section, "ca", path(cdn.ca.as_deref()));
    rows.of(section, "timeout", show_duration(cdn.timeout));
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

/// A pool's size as the file would have it.
fn show_size_of(size: Size) -> String {
    match size {
        Size::Fixed(n) => n.to_string(),
        Size::Adaptive => word(SIZES, &size).to_string(),
    }
}

fn joined(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn path(path: Option<&Path>) -> String {
    path.map(|p| p.display().to_string()).unwrap_or_default()
}
