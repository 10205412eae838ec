//! Every section and key that the file may have, with its default and whether a reload changes it: the one table that
//! the reader, SHOW CONFIG and the tests of `config/turnpike.toml` go by.

/// One key of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What holds where the file does not say, as SHOW CONFIG spells it; empty for nothing.
    pub default: &'static str,
    /// Whether a reload is enough to change it; if not, a restart is needed.
    pub changeable: bool,
}

/// A key that a reload changes.
const fn live(name: &'static str, default: &'static str) -> Key {
    Key { name, default, changeable: true }
}

/// A key that is read once, when the process starts: what it is about is bound, opened or started then.
const fn fixed(name: &'static str, default: &'static str) -> Key {
    Key { name, default, changeable: false }
}

/// One section of the file.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Its name.
    pub name: &'static str,
    /// Whether it may occur many times: `[[name]]`.
    pub many: bool,
    own: &'static [Key],
    shared: &'static [&'static [Key]],
}

impl Spec {
    const fn one(name: &'static str, own: &'static [Key]) -> Spec {
        Spec { name, many: false, own, shared: &[] }
    }

    const fn many(name: &'static str, own: &'static [Key], shared: &'static [&'static [Key]]) -> Spec {
        Spec { name, many: true, own, shared }
    }

    /// The keys that it may have.
    pub fn keys(&self) -> impl Iterator<Item = &'static Key> + use<> {
        self.own.iter().chain(self.shared.iter().copied().flatten())
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.keys().map(|key| key.name)
    }

    /// The section's header.
    pub fn header(&self) -> String {
        if self.many { format!("[[{}]]", self.name) } else { format!("[{}]", self.name) }
    }
}

/// The key of that name in the section of that name.
pub fn key(section: &str, name: &str) -> Option<&'static Key> {
    SECTIONS.iter().find(|s| s.name == section)?.keys().find(|k| k.name == name)
}

/// The keys that a database may have only on a cluster.
pub fn routing() -> impl Iterator<Item = &'static str> {
    ROUTING.iter().map(|key| key.name)
}

/// Every section and key there is.
pub const SECTIONS: &[Spec] = &[
    Spec::one("general", GENERAL),
    Spec::one("tls", TLS),
    Spec::one("http", HTTP),
    Spec::one("log", LOG),
    Spec::one("admin", ADMIN),
    Spec::one("plan", PLAN),
    Spec::many("function", FUNCTION, &[]),
    Spec::one("auth", AUTH),
    Spec::one("pool", POOL),
    Spec::many("backend", BACKEND, &[]),
    Spec::many("cluster", CLUSTER, &[ROUTING]),
    Spec::many("route", ROUTE, &[]),
    Spec::many("cache", CACHE, &[]),
    Spec::one("redis", REDIS),
    Spec::many("database", DATABASE, &[POOL, ROUTING]),
    Spec::many("user", USER, &[]),
    Spec::many("metric", METRIC, &[]),
    Spec::many("mirror", MIRROR, &[]),
    Spec::one("record", RECORD),
    Spec::one("reports", REPORTS),
    Spec::many("report", REPORT, &[]),
    Spec::many("cdn", CDN, &[]),
    Spec::one("tenants", TENANTS),
    Spec::many("tenant", TENANT, &[]),
    Spec::many("hba", HBA, &[]),
];

const GENERAL: &[Key] = &[
    fixed("listen", "127.0.0.1:6432"),
    fixed("unix_socket_dir", ""),
    fixed("workers", "0"),
    live("max_clients", "10000"),
    live("login_timeout", "1min"),
    live("drain_timeout", "30s"),
    fixed("state_dir", ""),
    fixed("takeover_socket", ""),
    live("takeover_timeout", "1h"),
    live("high_water_mark", "64KiB"),
    live("max_message_size", "1073741822B"),
    live("max_client_prepared", "10000"),
    live("max_memory", "0"),
    fixed("cache_memory", "0"),
    live("cache_warm", "2%"),
    fixed("cache_warm_key_file", ""),
    live("zone", ""),
    live("region", ""),
];

const TLS: &[Key] = &[live("cert", ""), live("key", ""), live("client_ca", "")];

const HTTP: &[Key] = &[fixed("listen", "")];

const LOG: &[Key] = &[
    fixed("level", "info"),
    fixed("format", "text"),
    live("connections", "false"),
    live("disconnections", "false"),
];

const ADMIN: &[Key] = &[live("database", "turnpike"), live("admins", ""), live("readers", "")];

const PLAN: &[Key] = &[
    fixed("max_memory", "64MiB"),
    live("catalog", "true"),
    live("catalog_user", ""),
    live("read_functions", ""),
    live("write_functions", ""),
];

const FUNCTION: &[Key] = &[live("name", ""), live("reads", ""), live("writes", "")];

const AUTH: &[Key] = &[
    live("query", ""),
    live("user", ""),
    live("database", ""),
    live("cache", "30s"),
    live("failure_delay", "500ms"),
    live("max_failures_per_minute", "30"),
];

const POOL: &[Key] = &[
    live("mode", "transaction"),
    live("size", "20"),
    live("max_size", "50"),
    live("min", "0"),
    live("reserve", "0"),
    live("reserve_after", "5s"),
    live("wait_timeout", "1min"),
    live("max_waiting", "0"),
    live("max_waiting_age", "0s"),
    live("connect_timeout", "10s"),
    live("lifetime", "1h"),
    live("idle_timeout", "10min"),
    live("probe_after", "30s"),
    live("max_prepared", "500"),
    live("query_timeout", "0s"),
    live("client_idle_timeout", "0s"),
    live("idle_transaction_timeout", "0s"),
    live("transaction_timeout", "0s"),
];

const BACKEND: &[Key] = &[
    live("name", ""),
    live("host", ""),
    live("port", "5432"),
    live("sslmode", "prefer"),
    live("ssl_direct", "false"),
    live("sslrootcert", ""),
    live("sslcert", ""),
    live("sslkey", ""),
    live("max_connections", "0"),
    live("role", "auto"),
    live("zone", ""),
    live("region", ""),
    live("weight", "100"),
];

const CLUSTER: &[Key] = &[
    live("name", ""),
    live("backends", ""),
    live("strategy", "peak_ewma"),
    live("lag_interval", "100ms"),
    live("failover_wait", "30s"),
    live("user", ""),
    live("dbname", ""),
    live("discovery", "none"),
    live("discovery_interval", "5s"),
    live("discovery_port", ""),
    live("discovery_allow", ""),
    live("patroni", ""),
    live("patroni_ca", ""),
];

/// What a cluster says for all its databases, and a database for itself.
const ROUTING: &[Key] = &[
    live("consistency", "session"),
    live("max_lag", "1s"),
    live("max_lag_bytes", "16MiB"),
    live("replica_wait", "0s"),
    live("transactions", "primary"),
    live("split", "true"),
    live("fallback_to_primary", "true"),
];

/// Who and what a rule is about, then what it says; what it does not say is the database's.
const ROUTE: &[Key] = &[
    live("user", ""),
    live("database", ""),
    live("application_name", ""),
    live("table", ""),
    live("fingerprint", ""),
    live("class", ""),
    live("route", ""),
    live("consistency", ""),
    live("max_lag", ""),
    live("max_lag_bytes", ""),
    live("replica_wait", ""),
    live("transactions", ""),
    live("split", ""),
    live("fallback_to_primary", ""),
];

/// Who and what a rule is about, then what it says.
const CACHE: &[Key] = &[
    live("user", ""),
    live("database", ""),
    live("table", ""),
    live("fingerprint", ""),
    live("asked", "false"),
    live("mode", ""),
    live("ttl", ""),
    live("stale_while_revalidate", "0s"),
    live("max_rows", "10000"),
    live("max_bytes", "1MiB"),
    live("levels", "l1"),
    live("auto", "false"),
];

const REDIS: &[Key] = &[
    fixed("nodes", ""),
    fixed("mode", "single"),
    fixed("master", ""),
    fixed("user", ""),
    fixed("password", ""),
    fixed("password_env", ""),
    fixed("password_file", ""),
    fixed("database", "0"),
    fixed("tls", "false"),
    fixed("ca", ""),
    fixed("deadline", "10ms"),
    fixed("compress_above", "1KiB"),
    fixed("encrypt", "true"),
    fixed("key_file", ""),
    fixed("coalesce", "50ms"),
];

const DATABASE: &[Key] = &[
    live("name", ""),
    live("backend", ""),
    live("cluster", ""),
    live("dbname", ""),
    live("user", ""),
    live("catalog_user", ""),
    live("writers", "anyone"),
    live("invalidation", "none"),
    live("invalidation_user", ""),
    live("invalidation_bound", "200ms"),
    live("invalidation_slot", ""),
    live("max_connections", "0"),
    live("max_clients", "0"),
];

const USER: &[Key] = &[
    live("name", ""),
    live("verifier", ""),
    live("password", ""),
    live("password_env", ""),
    live("password_file", ""),
    live("max_connections", "0"),
    live("pool_size", ""),
    live("pool_mode", ""),
    live("max_clients", "0"),
    live("query_timeout", ""),
    live("client_idle_timeout", ""),
    live("idle_transaction_timeout", ""),
    live("transaction_timeout", ""),
];

const METRIC: &[Key] = &[
    live("name", ""),
    live("help", ""),
    live("type", "gauge"),
    live("database", ""),
    live("user", ""),
    live("query", ""),
    live("labels", ""),
    live("interval", "1min"),
    live("timeout", "5s"),
    live("on", "replica"),
    live("max_series", "1000"),
];

/// Who and what it is about, as a rule; then how and where to.
const MIRROR: &[Key] = &[
    live("name", ""),
    live("user", ""),
    live("database", ""),
    live("application_name", ""),
    live("table", ""),
    live("fingerprint", ""),
    live("class", ""),
    live("mode", "reads"),
    live("share", "100%"),
    live("backend", ""),
    live("cluster", ""),
    live("dbname", ""),
    live("login", ""),
    live("connections", "4"),
    live("max_queued", "10000"),
    live("max_queued_bytes", "16MiB"),
    live("timeout", "10s"),
    live("connect_timeout", "5s"),
];

const RECORD: &[Key] = &[
    live("dir", ""),
    live("key_file", ""),
    live("literals", "false"),
    live("user", ""),
    live("database", ""),
    live("application_name", ""),
    live("share", "100%"),
    live("max_size", "256MiB"),
    live("max_files", "4"),
    live("max_queued_bytes", "16MiB"),
];

const REPORTS: &[Key] = &[
    fixed("listen", ""),
    live("tls_cert", ""),
    live("tls_key", ""),
    live("key_file", ""),
    live("tokens_file", ""),
    fixed("memory", "16MiB"),
    fixed("max_running", "4"),
];

const REPORT: &[Key] = &[
    live("name", ""),
    live("database", ""),
    live("user", ""),
    live("sql", ""),
    live("params", ""),
    live("format", "json"),
    live("access", ""),
    live("tokens", ""),
    live("edge", "false"),
    live("ttl", "1min"),
    live("stale_while_revalidate", "0s"),
    live("stale_if_error", "0s"),
    live("purge", "true"),
    live("timeout", "5s"),
    live("max_rows", "10000"),
    live("max_bytes", "1MiB"),
];

const CDN: &[Key] = &[
    live("name", ""),
    live("kind", ""),
    live("url", ""),
    live("service", ""),
    live("token_file", ""),
    live("ca", ""),
    live("timeout", "5s"),
];

const TENANTS: &[Key] = &[
    live("by", ""),
    live("claimed_by", ""),
    live("rate_wait", "1s"),
    live("weight", "100"),
    live("guaranteed", "0"),
    live("max", "0"),
    live("max_waiting", "0"),
    live("priority", "interactive"),
    live("statements_per_second", "0"),
    live("statements_burst", ""),
    live("rows_per_second", "0"),
    live("rows_burst", ""),
];

/// What it does not say of what it may have is as in `[tenants]`.
const TENANT: &[Key] = &[
    live("name", ""),
    live("user", ""),
    live("database", ""),
    live("application_name", ""),
    live("sni", ""),
    live("claimed_by", ""),
    live("weight", ""),
    live("guaranteed", ""),
    live("max", ""),
    live("max_waiting", ""),
    live("priority", ""),
    live("statements_per_second", ""),
    live("statements_burst", ""),
    live("rows_per_second", ""),
    live("rows_burst", ""),
    live("pool", "shared"),
    live("pool_size", ""),
    live("backend", ""),
    live("cluster", ""),
];

const HBA: &[Key] =
    &[live("type", ""), live("database", ""), live("user", ""), live("address", ""), live("method", "")];
