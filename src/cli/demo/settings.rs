//! The configuration that the demo's proxy runs with.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::stage::{DATABASE, USER};
use crate::app::cluster::{Cluster, Server};
use crate::config::{
    self, Admin, Auth, Backend, Balancing, Cidr, Config, Database, General, HbaMethod, HbaRule, HbaType, Log,
    PoolMode, PoolSettings, Role, Secret, Share, Size, SslMode, User, Writers,
};
use crate::core::limits;

/// One database for all servers and one for each replica, the sample role, SCRAM for loopback.
pub(super) fn config(cluster: &Cluster, port: u16, http_port: u16) -> Config {
    let servers: Vec<&Server> = std::iter::once(cluster.primary()).chain(cluster.replicas()).collect();
    Config {
        general: general(port),
        tls: None,
        http: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, http_port))),
        log: Log { level: "warn".into(), json: false, connections: false, disconnections: false },
        admin: Admin { database: "turnpike".into(), admins: vec![USER.into()], readers: Vec::new() },
        plan: Default::default(),
        auth: Auth { query: None, failure_delay: Duration::from_millis(100), max_failures_per_minute: 1000 },
        hba: vec![HbaRule {
            kind: HbaType::Host,
            databases: vec!["all".into()],
            users: vec!["all".into()],
            addresses: vec![Cidr { addr: Ipv4Addr::new(127, 0, 0, 0).into(), bits: 8 }],
            method: HbaMethod::Scram,
        }],
        clusters: vec![config::Cluster {
            name: CLUSTER.into(),
            backends: (0..servers.len()).collect(),
            strategy: Balancing::PeakEwma,
            lag_interval: Duration::from_millis(100),
            failover_wait: Duration::from_secs(30),
            user: None,
            dbname: None,
            discovery: Default::default(),
            routing: Default::default(),
        }],
        backends: servers.iter().map(|server| backend(server)).collect(),
        rules: Vec::new(),
        redis: None,
        caches: Vec::new(),
        metrics: Vec::new(),
        mirrors: Vec::new(),
        record: None,
        reports: None,
        tenants: Default::default(),
        databases: servers.iter().enumerate().map(|(index, server)| database(index, server)).collect(),
        users: vec![User {
            name: USER.into(),
            secret: Secret::Password(USER.into()),
            max_connections: 0,
            pool_size: None,
            pool_mode: None,
            max_clients: 0,
            patience: Default::default(),
        }],
    }
}

fn general(port: u16) -> General {
    General {
        listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))],
        unix_socket_dir: None,
        workers: 0,
        max_clients: 10_000,
        login_timeout: Duration::from_secs(15),
        drain_timeout: Duration::from_secs(2),
        state_dir: None,
        takeover_socket: None,
        takeover_timeout: Duration::ZERO,
        high_water_mark: limits::HIGH_WATER,
        max_message_size: limits::MAX_MESSAGE,
        max_memory: 0,
        cache_memory: 0,
        cache_warm: Share::NONE,
        cache_warm_key_file: None,
        max_client_prepared: 1000,
        zone: None,
        region: None,
    }
}

fn backend(server: &Server) -> Backend {
    Backend {
        name: server.name.clone(),
        host: server.host.into(),
        port: server.port,
        sslmode: SslMode::Disable,
        ssl_direct: false,
        sslrootcert: None,
        sslcert: None,
        sslkey: None,
        max_connections: 0,
        role: Role::Auto,
        zone: None,
        region: None,
        found: false,
        weight: 100,
    }
}

/// The name of all servers as one.
const CLUSTER: &str = "main";

/// `audit` for all of them, `audit_replica1` and so on for the rest.
fn database(index: usize, server: &Server) -> Database {
    let name = if index == 0 { DATABASE.into() } else { format!("{DATABASE}_{}", server.name) };
    Database {
        name,
        backend: index,
        cluster: (index == 0).then(|| CLUSTER.into()),
        routing: Default::default(),
        dbname: Some(DATABASE.into()),
        user: None,
        catalog_user: None,
        writers: Writers::Anyone,
        invalidation: Default::default(),
        max_connections: 0,
        max_clients: 0,
        pool: PoolSettings {
            mode: PoolMode::Transaction,
            size: Size::Fixed(10),
            max_size: 50,
            min: 0,
            reserve: 0,
            reserve_after: Duration::from_secs(5),
            wait_timeout: Duration::from_secs(30),
            max_waiting: 0,
            max_waiting_age: Duration::ZERO,
            connect_timeout: Duration::from_secs(5),
            lifetime: Duration::from_secs(3600),
            idle_timeout: Duration::from_secs(600),
            probe_after: Duration::from_secs(30),
            max_prepared: 200,
            patience: Default::default(),
        },
    }
}
