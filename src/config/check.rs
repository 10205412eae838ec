//! Interim reader.
#![allow(missing_docs, clippy::unwrap_used)]
use super::*;
use std::path::Path;
use toml::Value;
pub fn load(path: &Path) -> Result<Config, String> {
    let t: toml::Table = std::fs::read_to_string(path).map_err(|e| e.to_string())?.parse().map_err(|e: toml::de::Error| e.to_string())?;
    let sec = |n: &str| t.get(n).and_then(Value::as_table).cloned().unwrap_or_default();
    let arr = |n: &str| t.get(n).and_then(Value::as_array).cloned().unwrap_or_default();
    fn s(t: &toml::Table, k: &str) -> Option<String> { t.get(k).and_then(Value::as_str).map(str::to_string) }
    fn i(t: &toml::Table, k: &str, d: i64) -> i64 { t.get(k).and_then(Value::as_integer).unwrap_or(d) }
    fn d(t: &toml::Table, k: &str, def: f64) -> Duration {
        let v = match t.get(k) { Some(Value::Integer(i)) => *i as f64, Some(Value::String(x)) => {
            if let Some(x) = x.strip_suffix("ms") { x.parse::<f64>().unwrap() / 1000.0 } else if let Some(x) = x.strip_suffix("min") { x.parse::<f64>().unwrap() * 60.0 } else { x.strip_suffix('s').unwrap().parse().unwrap() } }, _ => def };
        Duration::from_secs_f64(v)
    }
    fn list(t: &toml::Table, k: &str) -> Vec<String> { match t.get(k) { Some(Value::String(s)) => vec![s.clone()], Some(Value::Array(a)) => a.iter().filter_map(|v| v.as_str().map(str::to_string)).collect(), _ => vec![] } }
    let g = sec("general");
    let p = sec("pool");
    let pool = |p: &toml::Table, base: &toml::Table| { let mut m = base.clone(); m.extend(p.clone()); let p = &m; PoolSettings {
        mode: if s(p, "mode").as_deref() == Some("session") { PoolMode::Session } else { PoolMode::Transaction },
        size: i(p, "size", 20) as u32, min: i(p, "min", 0) as u32, reserve: i(p, "reserve", 0) as u32,
        reserve_after: d(p, "reserve_after", 5.0), wait_timeout: d(p, "wait_timeout", 60.0), connect_timeout: d(p, "connect_timeout", 10.0),
        lifetime: d(p, "lifetime", 3600.0), idle_timeout: d(p, "idle_timeout", 600.0), probe_after: d(p, "probe_after", 30.0), max_prepared: i(p, "max_prepared", 500) as usize } };
    let backends: Vec<Backend> = arr("backend").iter().filter_map(Value::as_table).map(|b| Backend {
        name: s(b, "name").unwrap(), host: s(b, "host").unwrap(), port: i(b, "port", 5432) as u16,
        sslmode: match s(b, "sslmode").as_deref() { Some("disable") => SslMode::Disable, Some("require") => SslMode::Require, Some("verify-ca") => SslMode::VerifyCa, Some("verify-full") => SslMode::VerifyFull, _ => SslMode::Prefer },
        ssl_direct: false, sslrootcert: s(b, "sslrootcert").map(Into::into), sslcert: None, sslkey: None, max_connections: i(b, "max_connections", 0) as u32 }).collect();
    let databases = arr("database").iter().filter_map(Value::as_table).map(|x| Database {
        name: s(x, "name").unwrap(), backend: backends.iter().position(|b| Some(&b.name) == s(x, "backend").as_ref()).unwrap(), dbname: s(x, "dbname"), user: s(x, "user"),
        max_connections: i(x, "max_connections", 0) as u32, pool: pool(x, &p) }).collect();
    let users = arr("user").iter().filter_map(Value::as_table).map(|u| User { name: s(u, "name").unwrap(),
        secret: s(u, "password").map(Secret::Password).or(s(u, "verifier").map(|v| Secret::stored(&v))).unwrap_or(Secret::None), max_connections: 0, pool_size: None, pool_mode: None }).collect();
    let hba = arr("hba").iter().filter_map(Value::as_table).map(|h| HbaRule {
        kind: match s(h, "type").as_deref() { Some("local") => HbaType::Local, Some("hostssl") => HbaType::HostSsl, Some("hostnossl") => HbaType::HostNoSsl, _ => HbaType::Host },
        databases: list(h, "database"), users: list(h, "user"),
        addresses: list(h, "address").iter().map(|a| { let (a, b) = a.split_once('/').unwrap_or((a, "32")); Cidr { addr: a.parse().unwrap(), bits: b.parse().unwrap() } }).collect(),
        method: match s(h, "method").unwrap().as_str() { "trust" => HbaMethod::Trust, "scram-sha-256" => HbaMethod::Scram, "scram-sha-256-plus" => HbaMethod::ScramPlus, "md5" => HbaMethod::Md5, "password" => HbaMethod::Password, "cert" => HbaMethod::Cert, _ => HbaMethod::Reject } }).collect();
    let tls = sec("tls");
    let listen = list(&g, "listen").iter().map(|a| a.parse().unwrap()).collect();
    Ok(Config { general: General { listen, unix_socket_dir: s(&g, "unix_socket_dir").map(Into::into), workers: i(&g, "workers", 0) as usize, max_clients: i(&g, "max_clients", 10000) as u32,
        login_timeout: d(&g, "login_timeout", 60.0), drain_timeout: d(&g, "drain_timeout", 30.0), high_water_mark: 65536, max_message_size: crate::core::limits::MAX_MESSAGE, max_client_prepared: 10000 },
        tls: s(&tls, "cert").map(|c| ClientTls { cert: c.into(), key: s(&tls, "key").unwrap().into(), client_ca: s(&tls, "client_ca").map(Into::into) }),
        http: s(&sec("http"), "listen").map(|l| l.parse().unwrap()), log: Log { level: s(&sec("log"), "level").unwrap_or("info".into()), json: false, connections: false, disconnections: false },
        admin: Admin { database: "turnpike".into(), admins: list(&sec("admin"), "admins"), readers: list(&sec("admin"), "readers") },
        auth: Auth { query: None, failure_delay: Duration::from_millis(500), max_failures_per_minute: 30 }, hba, backends, databases, users })
}
