//! Configurations in, problems out.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::check::{load, parse};
use super::keys::SECTIONS;
use super::*;

const BASE: &str = "[[backend]]\nname = 'b'\nhost = 'h'\n[[database]]\nname = 'd'\nbackend = 'b'\n";

fn reference() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/turnpike.toml")
}

/// `BASE`, then the text.
fn with(text: &str) -> Result<Config, String> {
    parse(&format!("{BASE}{text}"), Path::new("t.toml")).map_err(|p| p.to_string())
}

/// Each text, from line 7 on after `BASE`, and the problems without the file's name; "" for none.
const CASES: &[(&str, &str)] = &[
    ("", ""),
    // Syntax, sections, keys.
    ("[pool", "7:6: unclosed table, expected `]`"),
    ("[pol]", "7:2: pol: there is no such section (did you mean [pool]?)"),
    ("[users]", "7:2: users: there is no such section (did you mean [[user]]?)"),
    ("[pool]\nsise = 1", "8:1: pool.sise: there is no such key (did you mean size?)"),
    ("[general]\nlifetime = 1", "8:1: general.lifetime: there is no such key (it belongs in [pool])"),
    ("[general]\ncolour = 1", "8:1: general.colour: there is no such key"),
    ("[[pool]]\nsize = 1", "7:1: pool: must be a table, not an array (write [pool])"),
    ("[user]\nname = 'u'", "7:1: user: must be a list of tables, not a table (write [[user]])"),
    // Types, numbers, units.
    (
        "[pool]\nsize = 'x'\nmin = true",
        "8:8: pool.size: must be a whole number, not a string\n9:7: pool.min: must be a whole number, not a boolean",
    ),
    ("[pool]\nsize = 0", "8:8: pool.size: must be from 1 to 1000000"),
    ("[pool]\nsize = -1", "8:8: pool.size: must be from 1 to 1000000"),
    ("[pool]\nsize = 99999999999999999999", "8:8: pool.size: must be from 1 to 1000000"),
    ("[pool]\nmin = 21", "8:7: pool.min: min (21) is more than size (20)"),
    (
        "[pool]\nlifetime = '5m'",
        "8:12: pool.lifetime: \"5m\" is not a duration: give a whole number and ms, s, min, h or d",
    ),
    ("[pool]\nlifetime = 1.5", "8:12: pool.lifetime: must be a duration such as \"30s\", not a float"),
    ("[pool]\nlifetime = '400d'", "8:12: pool.lifetime: must be from 1ms to 365d"),
    ("[pool]\nlifetime = 60\nmin = 0x14", ""),
    (
        "[pool]\nmode = 'sesion'",
        "8:8: pool.mode: \"sesion\" is not one of session, transaction (did you mean session?)",
    ),
    (
        "[general]\nhigh_water_mark = '4KiB'",
        "8:19: general.high_water_mark: must be from 8KiB to 1073741822B",
    ),
    (
        "[general]\nmax_message_size = '2GB'",
        "8:20: general.max_message_size: must be from 65535B to 1073741822B",
    ),
    (
        "[general]\nmax_message_size = '1XB'",
        "8:20: general.max_message_size: \"1XB\" is not a size: give a whole number and B, KiB, MiB or GiB",
    ),
    (
        "[general]\nlisten = 'localhost'",
        "8:10: general.listen: \"localhost\" is not an address with a port (such as 127.0.0.1:6432 or [::]:6432)",
    ),
    (
        "[general]\nlisten = ['é', 5]",
        "8:11: general.listen: \"é\" is not an address with a port (such as 127.0.0.1:6432 or [::]:6432)\n8:16: general.listen: must be a string, not an integer",
    ),
    ("[general]\nlisten = []", "8:10: general.listen: there is nothing to listen on"),
    ("[general]\nlisten = ['1.1.1.1:1', '1.1.1.1:1']", "8:10: general.listen: 1.1.1.1:1 occurs twice"),
    ("[general]\nunix_socket_dir = 'nowhere'", "8:19: general.unix_socket_dir: nowhere is not a directory"),
    ("[http]\nlisten = '127.0.0.1:6432'", "8:10: http.listen: 127.0.0.1:6432 is already in general.listen"),
    (
        "[log]\nlevel = 'debgu'",
        "8:9: log.level: \"debgu\" is not one of error, warn, info, debug, trace, off",
    ),
    (
        "[log]\nlevel = 'info,turnpike::pool=debug'\nconnections = 1",
        "9:15: log.connections: must be true or false, not an integer",
    ),
    ("[admin]\ndatabase = 'd'", "8:12: admin.database: \"d\" is also the name of a [[database]]"),
    // TLS.
    ("[tls]\ncert = 'Cargo.toml'", "7:1: tls.key: is missing: TLS needs both cert and key"),
    (
        "[tls]\ncert = 'src'\nkey = 'none.key'",
        "8:8: tls.cert: src is not a file\n9:7: tls.key: cannot read none.key: No such file or directory (os error 2)",
    ),
    // Backends and databases.
    (
        "[[backend]]\nname = 'b'",
        "7:1: backend.host: is missing\n8:8: backend.name: \"b\" is already defined on line 2",
    ),
    (
        "[[backend]]\nname = 'c'\nhost = 'h'\nsslmode = 'verify-full'\nsslkey = 'Cargo.toml'",
        "7:1: backend.sslrootcert: is missing: sslmode verify-ca and verify-full need it\n7:1: backend.sslcert: is missing: sslkey is of no use without it",
    ),
    (
        "[[backend]]\nname = 'c'\nhost = 'h'\nssl_direct = true\nport = 65536",
        "10:14: backend.ssl_direct: needs sslmode require, verify-ca or verify-full\n11:8: backend.port: must be from 1 to 65535",
    ),
    (
        "[[database]]\nname = 'e'\nbackend = 'bb'\nuser = 'nobody'",
        "9:11: database.backend: there is no [[backend]] \"bb\" (did you mean \"b\"?)\n10:8: database.user: there is no [[user]] \"nobody\"",
    ),
    ("[[database]]\nname = ''\nbackend = 'b'", "8:8: database.name: must not be empty"),
    (
        "[[database]]\nname = '*'\nbackend = 'b'\n[[database]]\nname = '*'\nbackend = 'b'",
        "11:8: database.name: \"*\" is already defined on line 8",
    ),
    (
        "[[database]]\nname = 'e'\nbackend = 'b'\nsize = 2\nmin = 3\nwait_timeout = 0",
        "11:7: database.min: min (3) is more than size (2)\n12:16: database.wait_timeout: must be from 1ms to 365d",
    ),
    // Users. Whatever is wrong, the secret is not said.
    (
        "[[user]]\nname = 'u'\nverifier = 'hunter2'",
        "9:12: user.verifier: must be a verifier: SCRAM-SHA-256$... or md5... (SELECT rolpassword FROM pg_authid)",
    ),
    (
        "[[user]]\nname = 'u'\npassword = 'hunter2'\npassword_env = 'PATH'",
        "10:16: user.password_env: password is already given: a user has one secret",
    ),
    ("[[user]]\nname = 'u'\npassword = ['hunter2']", "9:12: user.password: must be a string, not an array"),
    (
        "[[user]]\nname = 'u'\npasword = 'hunter2'",
        "9:1: user.pasword: there is no such key (did you mean password?)",
    ),
    (
        "[[user]]\nname = 'u'\npassword_env = 'TURNPIKE_NO_SUCH'",
        "9:16: user.password_env: environment variable \"TURNPIKE_NO_SUCH\" is not set, or not to a text",
    ),
    ("[[user]]\nname = 'u'\npassword_env = 'PATH'", ""),
    (
        "[[user]]\nname = 'u'\npassword_file = 'none'",
        "9:17: user.password_file: cannot read none: No such file or directory (os error 2)",
    ),
    (
        "[[user]]\nname = 'u'\n[[user]]\nname = 'u'\npool_size = 0",
        "10:8: user.name: \"u\" is already defined on line 8\n11:13: user.pool_size: must be from 1 to 1000000",
    ),
    // Looking users up.
    (
        "[auth]\nquery = 'SELECT 1'",
        "7:1: auth.user: is missing: auth.query runs as a [[user]]\n8:9: auth.query: must have $1, the user name, in it",
    ),
    (
        "[auth]\nquery = 'SELECT $1, $2'\nuser = 'u'",
        "8:9: auth.query: may have no parameter but $1, the user name\n9:8: auth.user: there is no [[user]] \"u\"",
    ),
    (
        "[auth]\ndatabase = 'x'",
        "8:12: auth.database: there is no [[database]] \"x\"\n8:12: auth.database: has no effect without auth.query",
    ),
    // Rules.
    (
        "[[hba]]\ntype = 'host'",
        "7:1: hba.database: is missing\n7:1: hba.user: is missing\n7:1: hba.method: is missing",
    ),
    (
        "[[hba]]\ntype = 'local'\ndatabase = []\nuser = 'all'\naddress = '10.0.0.0/33'\nmethod = 'peer'",
        "9:12: hba.database: must not be empty\n11:11: hba.address: a rule of type local is about no address\n11:11: hba.address: \"10.0.0.0/33\" is not a network such as 10.0.0.0/8 or ::1/128\n12:10: hba.method: \"peer\" is not one of trust, reject, scram-sha-256, scram-sha-256-plus, md5, password, cert",
    ),
    (
        "[[hba]]\ntype = 'host'\ndatabase = 'all'\nuser = 'all'\nmethod = 'password'",
        "11:10: hba.method: needs [tls] (set tls.cert and tls.key)",
    ),
    (
        "[[hba]]\ntype = 'hostssl'\ndatabase = 'all'\nuser = 'all'\nmethod = 'md5'",
        "8:8: hba.type: hostssl never matches without [tls] (set tls.cert and tls.key)",
    ),
    (
        "[[hba]]\ntype = 'hostssl'\ndatabase = 'all'\nuser = 'all'\nmethod = 'cert'\n[tls]\ncert = 'Cargo.toml'\nkey = 'Cargo.toml'",
        "11:10: hba.method: needs tls.client_ca (it says whose certificates count)",
    ),
    (
        "[[hba]]\ntype = 'hostnossl'\ndatabase = 'all'\nuser = 'all'\nmethod = 'scram-sha-256-plus'",
        "11:10: hba.method: needs TLS, which connections of this type do not have",
    ),
];

#[test]
fn problems() {
    for (text, want) in CASES {
        let got = with(text).err().unwrap_or_default().replace("t.toml:", "");
        assert_eq!(got, *want, "for:\n{text}");
        assert!(!got.contains("hunter2"), "{got}");
    }
}

#[test]
fn nothing_to_serve() {
    let problems = parse("", Path::new("t.toml")).unwrap_err().to_string();
    let missing = "is missing: there must be at least one";
    assert_eq!(problems, format!("t.toml:1:1: backend: {missing}\nt.toml:1:1: database: {missing}"));
    let problems = load(Path::new("/none.toml")).unwrap_err().to_string();
    assert_eq!(problems, "/none.toml: cannot read it: No such file or directory (os error 2)");
}

#[test]
fn defaults() {
    let config = with("").unwrap();
    assert_eq!(config.general.listen, ["127.0.0.1:6432".parse().unwrap()]);
    assert_eq!(config.general.max_message_size, crate::core::limits::MAX_MESSAGE);
    assert_eq!((config.tls, config.http), (None, None));
    assert!(config.hba.is_empty(), "nobody comes in by default");
}

#[test]
fn values() {
    let config = with(
        "size = 7\nlifetime = '2h'\n[pool]\nsize = 9\nmin = 2\n[[database]]\nname = '*'\nbackend = 'b'\n\
         [[database]]\nname = 'a'\nbackend = 'b'\nmode = 'session'\n\
         [[hba]]\ntype = 'local'\ndatabase = ['d', 'e']\nuser = 'u'\nmethod = 'trust'\n\
         [[hba]]\ntype = 'host'\ndatabase = 'all'\nuser = 'all'\naddress = ['::1', '10.0.0.0/8']\nmethod = 'md5'",
    )
    .unwrap();
    let names: Vec<_> = config.databases.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["d", "a", "*"]);
    let pools: Vec<_> = config.databases.iter().map(|d| (d.pool.size, d.pool.min, d.pool.mode)).collect();
    use PoolMode::*;
    assert_eq!(pools, [(7, 2, Transaction), (9, 2, Session), (9, 2, Transaction)]);
    assert_eq!(config.databases[0].pool.lifetime, Duration::from_secs(7200));
    assert_eq!(config.hba[0].databases, ["d", "e"]);
    assert_eq!(config.hba[1].addresses.iter().map(|c| c.bits).collect::<Vec<_>>(), [128, 8]);
}

#[test]
fn secrets_come_from_where_they_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("secret"), "hunter2\n").unwrap();
    std::fs::write(dir.path().join("empty"), "\n").unwrap();
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let scram = format!("SCRAM-SHA-256$4096:AAAA${key}:{key}");
    let md5 = format!("md5{}", "0".repeat(32));
    let read = |line: &str| {
        let text = format!("{BASE}[[user]]\nname = 'u'\n{line}\n");
        parse(&text, &dir.path().join("t.toml")).map(|c| c.users[0].secret.clone())
    };
    assert_eq!(read("password_file = 'secret'"), Ok(Secret::Password("hunter2".into())));
    assert_eq!(read("password = 'x'"), Ok(Secret::Password("x".into())));
    assert_eq!(read(&format!("verifier = '{scram}'")), Ok(Secret::ScramVerifier(scram.clone())));
    assert_eq!(read(&format!("verifier = '{md5}'")), Ok(Secret::Md5(md5.clone())));
    assert_eq!(read(""), Ok(Secret::None));
    assert!(read("password_file = 'empty'").unwrap_err().to_string().ends_with("has no password in it"));
}

#[test]
fn shown_without_secrets() {
    let config = with(
        "[[user]]\nname = 'u'\npassword = 'hunter2'\n[pool]\nsize = 9\n\
         [[hba]]\ntype = 'local'\ndatabase = 'all'\nuser = 'all'\nmethod = 'scram-sha-256'",
    )
    .unwrap();
    let rows = config.show();
    let value = |key: &str| rows.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
    for (key, want) in [
        ("general.listen", "127.0.0.1:6432"),
        ("general.high_water_mark", "64KiB"),
        ("database.d.size", "9"),
        ("database.d.backend", "b"),
        ("backend.b.sslmode", "prefer"),
        ("user.u.secret", "password"),
        ("hba.1", "local all all scram-sha-256"),
    ] {
        assert_eq!(value(key), Some(want), "{key}");
    }
    assert!(rows.iter().all(|(_, v)| !v.contains("hunter2")));
    for spec in SECTIONS.iter().filter(|s| !s.many && s.name != "pool") {
        spec.keys().for_each(|key| assert!(value(&format!("{}.{key}", spec.name)).is_some(), "{key}"));
    }
}

#[test]
fn the_reference_loads_and_shows_the_defaults() {
    let config = load(&reference()).map_err(|p| p.to_string()).unwrap();
    let bare = with("").unwrap();
    assert_eq!(config.general, bare.general);
    assert_eq!((&config.log, &config.admin, &config.auth), (&bare.log, &bare.admin, &bare.auth));
    assert_eq!(config.databases[0].pool, bare.databases[0].pool);
    assert_eq!((config.tls, config.http), (None, None));
}

/// `section.key` of each line of the reference, commented out or not.
fn documented() -> Vec<String> {
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in std::fs::read_to_string(reference()).unwrap().lines() {
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
        for key in spec.keys() {
            let name = format!("{}.{key}", spec.name);
            let here = documented.contains(&name);
            // What a database overrides is explained where it has its default.
            let there = spec.name == "database" && documented.contains(&format!("pool.{key}"));
            assert!(here || there, "{name} is not in the reference");
        }
    }
    for name in documented {
        let known = SECTIONS.iter().any(|s| s.keys().any(|key| name == format!("{}.{key}", s.name)));
        assert!(known, "{name} is in the reference and does not exist");
    }
}

fn line() -> impl Strategy<Value = String> {
    let keys: Vec<_> = SECTIONS.iter().flat_map(|s| s.keys()).collect();
    let headers: Vec<_> = SECTIONS.iter().map(|s| s.header()).collect();
    let values =
        "'[a-z$1*]{0,8}'|[-+0-9a-fx_.]{1,9}|\\[('\\PC*', )?[0-9]\\]|true|'[0-9]{1,21}(ms|s|h|d|GB)'|\\{\\}";
    prop_oneof![
        prop::sample::select(headers),
        (prop::sample::select(keys), values).prop_map(|(key, value)| format!("{key} = {value}")),
        "\\PC{0,20}",
    ]
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = parse(&text, Path::new("t.toml")).map_err(|p| p.to_string());
    }

    #[test]
    fn arbitrary_sections_never_panic(lines in prop::collection::vec(line(), 0..12)) {
        let _ = parse(&lines.join("\n"), Path::new("t.toml")).map_err(|p| p.to_string());
    }
}
