//! LISTEN and NOTIFY: many listeners over one server connection, each told what it listens to, in order, by whom.

use std::time::{Duration, Instant};

use crate::harness::raw::{Frame, Raw, bind, execute, parse, query, sync};
use crate::harness::{Db, Proxy, ProxyOptions, eventually};

fn bed(size: usize) -> (Db, Proxy) {
    let db = Db::new();
    let proxy = Proxy::start(&db, ProxyOptions { pool: format!("size = {size}"), ..Default::default() });
    (db, proxy)
}

/// Channel and payload of a NotificationResponse.
fn letter(frame: &Frame) -> (String, String) {
    assert_eq!(frame.kind, b'A', "{frame:?}");
    let mut parts = frame.body[4..].split(|&b| b == 0).map(|p| String::from_utf8_lossy(p).into_owned());
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

fn run(raw: &mut Raw, sql: &str) -> Vec<Frame> {
    raw.send(query(sql));
    raw.until_ready(1)
}

fn tag(frames: &[Frame]) -> String {
    let tag = frames.iter().find(|f| f.kind == b'C').unwrap_or_else(|| panic!("no tag: {frames:?}"));
    String::from_utf8_lossy(tag.body.strip_suffix(b"\0").unwrap_or(&tag.body)).into_owned()
}

fn connections(db: &Db) -> usize {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = '{}' AND application_name <> 'turnpike catalog'",
        db.user
    );
    db.psql(&sql).parse().expect("a count")
}

#[test]
fn many_listen_over_one_connection_and_each_hears_its_own() {
    let (db, proxy) = bed(1);
    let mut listeners: Vec<Raw> = (0..50).map(|_| proxy.raw(&db)).collect();
    for (i, raw) in listeners.iter_mut().enumerate() {
        assert_eq!(tag(&run(raw, &format!("LISTEN ch{}", i % 5))), "LISTEN");
    }
    assert!(connections(&db) <= 2, "the one that listens, and the pool's");
    for n in 0..20 {
        for ch in 0..5 {
            db.psql(&format!("SELECT pg_notify('ch{ch}', '{n}')"));
        }
    }
    for (i, raw) in listeners.iter_mut().enumerate() {
        for n in 0..20 {
            let (channel, payload) = letter(&raw.frame().expect("a notification"));
            assert_eq!((channel, payload), (format!("ch{}", i % 5), n.to_string()));
        }
        assert_eq!(raw.value("SELECT 1"), "1", "and nothing else");
    }
    drop(listeners);
    eventually("nobody listens", || {
        db.psql("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'") == "0"
    });
}

#[test]
fn a_client_hears_itself_with_the_pid_of_its_server() {
    let (db, proxy) = bed(1);
    let mut raw = proxy.raw(&db);
    run(&mut raw, "LISTEN \"My Channel\"");
    raw.send(query("BEGIN; SELECT pg_backend_pid(); NOTIFY \"My Channel\", 'hello'; COMMIT"));
    let mut frames = raw.until_ready(1);
    if !frames.iter().any(|f| f.kind == b'A') {
        frames.push(raw.frame().expect("a notification"));
    }
    let heard = frames.iter().find(|f| f.kind == b'A').expect("heard");
    assert_eq!(letter(heard), ("My Channel".into(), "hello".into()));
    let pid = frames.iter().find(|f| f.kind == b'D').expect("a pid").column();
    assert_eq!(i32::from_be_bytes(heard.body[..4].try_into().expect("a pid")).to_string(), pid);
}

#[test]
fn listening_is_transactional() {
    let (db, proxy) = bed(2);
    let mut raw = proxy.raw(&db);
    run(&mut raw, "BEGIN");
    run(&mut raw, "LISTEN a");
    run(&mut raw, "ROLLBACK");
    db.psql("NOTIFY a, 'no'");
    run(&mut raw, "BEGIN");
    run(&mut raw, "LISTEN a");
    db.psql("NOTIFY a, 'too soon'");
    std::thread::sleep(Duration::from_millis(100));
    run(&mut raw, "COMMIT");
    db.psql("NOTIFY a, 'yes'");
    assert_eq!(letter(&raw.frame().expect("a notification")), ("a".into(), "yes".into()));
    run(&mut raw, "BEGIN");
    db.psql("NOTIFY a, 'held'");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(raw.value("SELECT 1"), "1", "nothing comes within a transaction");
    raw.send(query("COMMIT"));
    let mut frames = raw.until_ready(1);
    frames.extend((!frames.iter().any(|f| f.kind == b'A')).then(|| raw.frame().expect("a notification")));
    let heard = frames.iter().find(|f| f.kind == b'A').expect("heard after it");
    assert_eq!(letter(heard).1, "held");
    run(&mut raw, "UNLISTEN *");
    db.psql("NOTIFY a, 'no more'");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(raw.value("SELECT 1"), "1");
}

#[test]
fn the_extended_protocol_listens_too() {
    let (db, proxy) = bed(1);
    for name in ["", "named"] {
        let mut raw = proxy.raw(&db);
        raw.send([parse(name, "LISTEN ext"), bind("", name, &[]), execute("", 0), sync()].concat());
        let frames = raw.until_ready(1);
        assert_eq!(frames.iter().map(|f| char::from(f.kind)).collect::<String>(), "12CZ", "{frames:?}");
        assert_eq!(tag(&frames), "LISTEN");
        db.psql("NOTIFY ext, 'x'");
        assert_eq!(letter(&raw.frame().expect("a notification")), ("ext".into(), "x".into()));
        raw.send([parse("u", "UNLISTEN ext"), bind("", "u", &[]), execute("", 0), sync()].concat());
        assert_eq!(tag(&raw.until_ready(1)), "UNLISTEN");
        db.psql("NOTIFY ext, 'y'");
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(raw.value("SELECT 2"), "2");
    }
}

#[test]
fn listeners_survive_the_loss_of_the_connection_and_are_told() {
    let (db, proxy) = bed(1);
    let mut raw = proxy.raw(&db);
    run(&mut raw, "LISTEN a");
    db.psql(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'", db.user));
    let notice = raw.frame().expect("a notice");
    assert_eq!((notice.kind, notice.field(b'S')), (b'N', "WARNING".to_string()), "{notice:?}");
    db.psql("NOTIFY a, 'after'");
    assert_eq!(letter(&raw.frame().expect("a notification")).1, "after");
}

#[test]
fn a_listener_in_a_string_of_statements_keeps_its_own_connection() {
    let (db, proxy) = bed(2);
    let (mut raw, mut other) = (proxy.raw(&db), proxy.raw(&db));
    run(&mut raw, "SELECT 1; LISTEN a");
    for _ in 0..5 {
        assert_eq!(other.value("SELECT count(*) FROM pg_listening_channels()"), "0");
    }
    db.psql("NOTIFY a, 'x'");
    assert_eq!(letter(&raw.frame().expect("a notification")).1, "x");
    run(&mut raw, "UNLISTEN a");
    assert_eq!(connections(&db), 2);
}

#[test]
fn a_listener_that_leaves_costs_nothing() {
    let (db, proxy) = bed(1);
    let began = Instant::now();
    for _ in 0..20 {
        let mut raw = proxy.raw(&db);
        run(&mut raw, "LISTEN a");
    }
    assert!(began.elapsed() < Duration::from_secs(10));
    let mut raw = proxy.raw(&db);
    assert_eq!(raw.value("SELECT count(*) FROM pg_listening_channels()"), "0");
}
