//! Every section and key that the file may have. The annotated reference, `config/turnpike.toml`, is tested
//! against this list.

const POOL: &[&str] = &[
    "mode",
    "size",
    "min",
    "reserve",
    "reserve_after",
    "wait_timeout",
    "connect_timeout",
    "lifetime",
    "idle_timeout",
    "probe_after",
    "max_prepared",
];

/// One section of the file.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Its name.
    pub name: &'static str,
    /// Whether it may occur many times: `[[name]]`.
    pub many: bool,
    own: &'static [&'static str],
    shared: &'static [&'static str],
}

impl Spec {
    const fn new(name: &'static str, many: bool, own: &'static [&'static str]) -> Spec {
        Spec { name, many, own, shared: &[] }
    }

    /// The keys that it may have.
    pub fn keys(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.own.iter().chain(self.shared).copied()
    }

    /// The section's header.
    pub fn header(&self) -> String {
        if self.many { format!("[[{}]]", self.name) } else { format!("[{}]", self.name) }
    }
}

/// Every section and key there is.
pub const SECTIONS: &[Spec] = &[
    Spec::new(
        "general",
        false,
        &[
            "listen",
            "unix_socket_dir",
            "workers",
            "max_clients",
            "login_timeout",
            "drain_timeout",
            "high_water_mark",
            "max_message_size",
            "max_client_prepared",
        ],
    ),
    Spec::new("tls", false, &["cert", "key", "client_ca"]),
    Spec::new("http", false, &["listen"]),
    Spec::new("log", false, &["level", "format", "connections", "disconnections"]),
    Spec::new("admin", false, &["database", "admins", "readers"]),
    Spec::new(
        "auth",
        false,
        &["query", "user", "database", "cache", "failure_delay", "max_failures_per_minute"],
    ),
    Spec::new("pool", false, POOL),
    Spec::new(
        "backend",
        true,
        &[
            "name",
            "host",
            "port",
            "sslmode",
            "ssl_direct",
            "sslrootcert",
            "sslcert",
            "sslkey",
            "max_connections",
        ],
    ),
    Spec {
        shared: POOL,
        ..Spec::new("database", true, &["name", "backend", "dbname", "user", "max_connections"])
    },
    Spec::new(
        "user",
        true,
        &[
            "name",
            "verifier",
            "password",
            "password_env",
            "password_file",
            "max_connections",
            "pool_size",
            "pool_mode",
        ],
    ),
    Spec::new("hba", true, &["type", "database", "user", "address", "method"]),
];
