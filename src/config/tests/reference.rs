//! The table of keys, the built-in defaults, SHOW CONFIG and the annotated reference agree with each other.

use super::*;
use crate::config::keys::Key;
use crate::config::units::{duration, show_duration, show_size, size};

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/turnpike.toml")
}

#[test]
fn shown_without_secrets() {
    let text = "[[user]]\nname = 'u'\npassword = 'hunter2'\n[pool]\nsize = 9\n\
                [[hba]]\ntype = 'local'\ndatabase = 'all'\nuser = ['u', 'v']\nmethod = 'trust'";
    let rows = with(text).unwrap().show();
    for (key, value, default, changeable) in [
        ("general.listen", "127.0.0.1:6432", "127.0.0.1:6432", false),
        ("general.high_water_mark", "64KiB", "64KiB", true),
        ("database.d.size", "9", "20", true),
        ("database.d.backend", "b", "", true),
        ("backend.b.sslmode", "prefer", "prefer", true),
        ("user.u.secret", "password", "none", true),
        ("hba.1", "local all u,v trust", "", true),
    ] {
        let row = rows.iter().find(|row| row.key == key).unwrap();
        assert_eq!((row.value.as_str(), row.default, row.changeable), (value, default, changeable), "{key}");
    }
    assert!(rows.iter().all(|row| !row.value.contains("hunter2")));
}

/// Keys that have no row: the name is in the rows' keys, and secrets are not said.
const UNSHOWN: [&str; 5] = ["name", "verifier", "password", "password_env", "password_file"];

#[test]
fn every_key_is_shown_and_the_table_has_the_defaults() {
    let metric = "[[metric]]\nname = 'm'\nhelp = 'h'\ndatabase = 'd'\nuser = 'u'\nquery = 'q'";
    let mirror = "[[mirror]]\nname = 'x'\ndatabase = 'd'\nbackend = 'b'\nlogin = 'u'";
    let tenant = "[tenants]\nby = 'user'\n[[tenant]]\nname = 't'";
    let report = "[[report]]\nname = 'r'\ndatabase = 'd'\nuser = 'u'\nsql = 'q'\naccess = 'public'";
    let cdn = "[[cdn]]\nname = 'e'\nkind = 'ban'\nurl = 'http://h'";
    let reports = format!("[reports]\nlisten = '127.0.0.1:1'\n{report}\n{cdn}");
    let function = "[[function]]\nname = 'f'\nreads = []";
    let others = format!("{function}\n{metric}\n{mirror}\n{tenant}\n{reports}");
    let text = format!("[[user]]\nname = 'u'\n[[cluster]]\nname = 'c'\nbackends = 'b'\n{others}");
    let rows = with(&text).unwrap().show();
    for spec in SECTIONS.iter().filter(|s| !matches!(s.name, "pool" | "hba" | "route" | "cache")) {
        let prefix = match spec.name {
            "backend" => "backend.b",
            "cluster" => "cluster.c",
            "database" => "database.d",
            "user" => "user.u",
            "metric" => "metric.m",
            "mirror" => "mirror.x",
            "tenant" => "tenant.t",
            "report" => "report.r",
            "cdn" => "cdn.e",
            "function" => "function.f",
            name => name,
        };
        for key in spec.keys().filter(|key| !(spec.many && UNSHOWN.contains(&key.name))) {
            let full = format!("{prefix}.{}", key.name);
            let row = rows.iter().find(|row| row.key == full).expect(&full);
            assert_eq!((row.default, row.changeable), (key.default, key.changeable), "{full}");
            // Of these, all but the last are given, and that is for a query that there is not.
            let given =
                ["backend.b.host", "database.d.backend", "cluster.c.backends", "auth.cache", "tenants.by"];
            let of_metric = ["help", "database", "user", "query"].map(|key| format!("metric.m.{key}"));
            let of_mirror = ["database", "backend", "dbname", "login"].map(|key| format!("mirror.x.{key}"));
            let of_reports = ["report.r.database", "report.r.user", "report.r.sql", "report.r.access"];
            let of_reports = [&of_reports[..], &["reports.listen", "cdn.e.kind", "cdn.e.url"]].concat();
            let given = given.contains(&full.as_str()) || of_mirror.contains(&full);
            let given = given || of_reports.contains(&full.as_str());
            if !given && !of_metric.contains(&full) {
                assert_eq!(row.value, key.default, "{full}");
            }
        }
    }
    let query = "[auth]\nquery = 'SELECT $1'\nuser = 'u'\n[[user]]\nname = 'u'";
    let rows = with(query).unwrap().show();
    let cache = rows.iter().find(|row| row.key == "auth.cache").unwrap();
    assert_eq!(cache.value, cache.default);
}

#[test]
fn the_reference_loads() {
    let config = load(&path()).map_err(|p| p.to_string()).unwrap();
    assert_eq!((config.tls, config.http), (None, None));
    assert_eq!(config.databases[0].pool, with("").unwrap().databases[0].pool);
    assert_eq!(config.hba.len(), 1);
}

/// As SHOW CONFIG would spell it, however the file does.
fn spelt(value: &toml::Value, key: &Key) -> String {
    match value {
        toml::Value::Array(items) => items.iter().map(|v| spelt(v, key)).collect::<Vec<_>>().join(","),
        toml::Value::Integer(n) if key.default.ends_with('B') => show_size(*n as u64),
        toml::Value::String(text) if duration(key.default).is_ok() => show_duration(duration(text).unwrap()),
        toml::Value::String(text) if size(key.default).is_ok() => show_size(size(text).unwrap()),
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[test]
fn the_reference_shows_every_default() {
    let file: toml::Table = std::fs::read_to_string(path()).unwrap().parse().unwrap();
    for spec in SECTIONS {
        let section = file.get(spec.name).expect(spec.name);
        let section = section.as_array().map_or(section, |sections| &sections[0]);
        // A database shows what is its own; what it overrides stands in `[pool]` and in its cluster.
        let own = |key: &&Key| {
            let shared = ["pool", "cluster"].iter().any(|s| keys::key(s, key.name).is_some());
            spec.name != "database" || !shared
        };
        for key in spec.keys().filter(own).filter(|key| !key.default.is_empty()) {
            let value = section.get(key.name).map(|value| spelt(value, key));
            assert_eq!(value.as_deref(), Some(key.default), "{}.{}", spec.name, key.name);
        }
    }
}

/// `section.key` of each line of the reference, commented out or not.
fn documented() -> Vec<String> {
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in std::fs::read_to_string(path()).unwrap().lines() {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).to_string();
        } else if let Some((key, _)) = line.trim_start_matches("# ").split_once(" = ")
            && !key.contains(' ')
        {
            keys.push(format!("{section}.{key}"));
        }
    }
    keys
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    let documented = documented();
    for spec in SECTIONS {
        for key in spec.names() {
            let name = format!("{}.{key}", spec.name);
            let here = documented.contains(&name);
            // What a database overrides is explained where it has its default.
            let shared = |section: &&str| documented.contains(&format!("{section}.{key}"));
            let there = spec.name == "database" && ["pool", "cluster"].iter().any(shared);
            assert!(here || there, "{name} is not in the reference");
        }
    }
    for name in documented {
        let (section, key) = name.split_once('.').unwrap();
        assert!(keys::key(section, key).is_some(), "{name} is in the reference and does not exist");
    }
}

/// The line in force, if it is a key that is commented out; secrets stay out, as a user has one at most.
fn in_force(line: &str) -> String {
    let key = line.strip_prefix("# ").and_then(|l| l.split_once(" = ")).map(|(key, _)| key);
    match key {
        Some("takeover_socket") => "takeover_socket = 'takeover'".into(),
        // A database is on either.
        Some("cluster") => line.into(),
        Some("unix_socket_dir") => "unix_socket_dir = '.'".into(),
        Some("state_dir") => "state_dir = '.'".into(),
        Some("dir") => "dir = '.'".into(),
        Some("verifier" | "password" | "password_env" | "password_file") | None => line.into(),
        Some(key) if key.contains(' ') => line.into(),
        Some(_) => line.trim_start_matches("# ").into(),
    }
}

/// What is commented out would load as well, given the files that it speaks of.
#[test]
fn what_the_reference_has_commented_out_loads() {
    let files = [
        "server.crt",
        "server.key",
        "clients.crt",
        "root.crt",
        "client.crt",
        "client.key",
        "recording.key",
        "warm.key",
        "reports.key",
        "reports.tokens",
        "fastly.token",
    ];
    let mut files = files.map(|name| (name, b"".as_slice())).to_vec();
    // Keys that are read at once.
    files.push(("redis.key", &[b'0'; 64]));
    let dir = directory(&files);
    let text = std::fs::read_to_string(path()).unwrap();
    let text: Vec<_> = text.lines().map(in_force).collect();
    // The names in it that have no section of their own.
    let text = text.join("\n").replace("turnpike_auth", "app").replace("turnpike_catalog", "reader");
    let text = text.replace("discovery = \"none\"", "discovery = \"patroni\"");
    // Writers elsewhere are told of where there is a database by that name.
    let text =
        text.replace("invalidation = \"none\"", "invalidation = \"wal\"").replace("turnpike_wal", "reader");
    let text = text.replace("name = \"*\"", "name = \"audit\"");
    let rates = text.replace("per_second = 0", "per_second = 100");
    let text = rates.replace("pool = \"shared\"", "pool = \"own\"");
    let text =
        text.replace("mode = \"off\"", "mode = \"bounded\"").replace("cache_memory = 0", "cache_memory = 1");
    // Somebody to sign for it.
    let text = text.replace("http://127.0.0.1:6081/", "https://127.0.0.1:6081/");
    let text = format!("{text}\n[[user]]\nname = 'reader'\npassword = 'hunter2'");
    let config = parse(&text, &dir.path().join("t.toml")).map_err(|p| p.to_string()).unwrap();
    assert!(config.tls.is_some() && config.http.is_some() && config.auth.query.is_some());
    assert_eq!(config.users[0].pool_size, Some(Size::Fixed(5)));
}
