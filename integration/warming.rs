//! Results that are read again before anybody asks: as whom they were kept for, and never anything else.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::caching::{keep, said};
use crate::harness::{Db, Proxy, ProxyOptions, pg, rows, value};

const TABLES: &str = "
    CREATE TABLE seen (id int PRIMARY KEY, at timestamptz NOT NULL, v text NOT NULL);
    INSERT INTO seen SELECT i, '2024-01-01 00:00+00', 'a' FROM generate_series(1, 9) i;
    CREATE TABLE own (who name, v text); ALTER TABLE own ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON own USING (who = current_user);";

fn options(general: &str, rules: &str) -> ProxyOptions {
    ProxyOptions {
        general: format!("cache_memory = \"32MiB\"\n{general}"),
        database: "writers = \"proxy\"".into(),
        extra: rules.into(),
        ..Default::default()
    }
}

/// SHOW CACHE's counts by what they are about.
async fn counts(admin: &Client) -> HashMap<String, [u64; 4]> {
    let shown = rows(admin, "SHOW CACHE").await;
    let of = |row: &Vec<String>| [2, 3, 4, 5].map(|i| row[i].parse().unwrap_or_default());
    shown.iter().map(|row| (format!("{} {}", row[0], row[1]), of(row))).collect()
}

/// Asks until what is asked for is kept, then so often.
async fn often(client: &Client, sql: &str) {
    keep(client, sql).await;
    for _ in 0..10 {
        value(client, sql).await;
    }
}

/// Asks by name, in the extended protocol.
async fn bound(client: &Client, id: i32) -> String {
    let row = client.query_one("SELECT v FROM seen WHERE id = $1", &[&id]).await.expect("a row");
    row.get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_flushed_is_read_again_as_whom_it_was_for() {
    let db = Db::new();
    let proxy = Proxy::start(&db, options("", "[[cache]]\n"));
    let client = pg(&proxy.url(&db)).await;
    client.batch_execute(TABLES).await.expect("made");
    let admin = pg(&proxy.admin_url(&db)).await;
    let tokyo = pg(&proxy.url(&db)).await;
    tokyo.batch_execute("SET TimeZone = 'Asia/Tokyo'").await.expect("set");
    // The policy lets each see its own.
    let member = db.role("member");
    db.psql(&format!(
        "GRANT {member} TO {user}; GRANT SELECT ON own, seen TO {member}; ALTER TABLE own FORCE ROW LEVEL SECURITY; \
         INSERT INTO own VALUES ('{member}', 'the member''s')",
        user = db.user
    ));
    let role = pg(&proxy.url(&db)).await;
    role.batch_execute(&format!("SET ROLE {member}")).await.expect("set");
    let (at, own) = ("SELECT at FROM seen WHERE id = 1", "SELECT count(v) FROM own");
    for (who, sql) in [(&client, at), (&tokyo, at), (&client, own), (&role, own)] {
        often(who, sql).await;
    }
    let statement = client.prepare("SELECT v FROM seen WHERE id = $1").await.expect("prepared");
    for _ in 0..10 {
        client.query_one(&statement, &[&5]).await.expect("a row");
    }
    let warm = async || {
        let row = admin.query_one(&format!("WARM \"{}\"", db.name), &[]).await.expect("warmed");
        ["known", "kept", "there", "not_kept"].map(|name| row.get::<_, i64>(name))
    };
    let first = warm().await;
    assert!(first[0] >= 5 && first[1] == 0, "{first:?}");
    admin.batch_execute("FLUSH CACHE").await.expect("flushed");
    assert!(said(&client, at).await.starts_with("miss"));
    let again = warm().await;
    assert_eq!((&again[0], &again[1]), (&first[0], &first[0]), "{again:?}");
    // What is written past the proxy now is not seen: all of this is given, and to each what is theirs.
    db.psql("UPDATE seen SET v = 'b', at = '2025-01-01 00:00+00'; DELETE FROM own");
    let before = counts(&admin).await["total l1"];
    assert_eq!(value(&client, at).await, "2024-01-01 00:00:00+00");
    assert_eq!(value(&tokyo, at).await, "2024-01-01 09:00:00+09");
    assert_eq!(value(&role, own).await, "1");
    assert_eq!(value(&client, own).await, "0");
    assert_eq!(client.query_one(&statement, &[&5]).await.expect("a row").get::<_, String>(0), "a");
    let after = counts(&admin).await["total l1"];
    assert_eq!((after[2], after[3]), (before[2] + 5, before[3]), "hits, and no misses");
    // What was written through it is read by the first who asks.
    client.batch_execute("UPDATE seen SET v = 'c'").await.expect("written");
    assert_eq!(bound(&client, 5).await, "c");
    assert_eq!(counts(&admin).await["warmed again"][0] as i64, again[1]);
    assert!(admin.batch_execute("WARM nosuch").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_often_is_read_ahead() {
    let db = Db::new();
    let rules = "[[cache]]\nmode = \"bounded\"\nttl = \"3s\"\n";
    let proxy = Proxy::start(&db, options("cache_warm = \"50%\"", rules));
    let client = pg(&proxy.url(&db)).await;
    client.batch_execute(TABLES).await.expect("made");
    let admin = pg(&proxy.admin_url(&db)).await;
    let (often_asked, seldom) = ("SELECT v FROM seen WHERE id = 1", "SELECT v FROM seen WHERE id = 2");
    keep(&client, often_asked).await;
    keep(&client, seldom).await;
    let (from, misses) = (Instant::now(), counts(&admin).await["total l1"][3]);
    while from.elapsed() < Duration::from_secs(8) {
        value(&client, often_asked).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let shown = counts(&admin).await;
    let ahead = shown["warmed ahead"][0];
    assert!((2..=4).contains(&ahead), "{shown:?}");
    // Each was a miss of nobody's: none has waited for it.
    assert!(shown["total l1"][3] - misses <= ahead + 1, "{shown:?}");
    assert!(said(&client, seldom).await.starts_with("miss"));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_it_is_read_again() {
    let (db, dir) = (Db::new(), TempDir::new().expect("a directory"));
    let key = dir.path().join("key");
    std::fs::write(&key, [7; 32]).expect("written");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).expect("set");
    let path = dir.path().display();
    let general = format!("state_dir = \"{path}\"\ncache_warm_key_file = \"{path}/key\"");
    let proxy = Proxy::start(&db, options(&general, "[[cache]]\n"));
    let client = pg(&proxy.url(&db)).await;
    client.batch_execute(TABLES).await.expect("made");
    let read = "SELECT v FROM seen WHERE id = 3 AND v <> 'a secret of somebody'";
    often(&client, read).await;
    proxy.signal(Signal::SIGTERM);
    drop(client);
    assert!(proxy.wait().success());
    let kept = std::fs::read(dir.path().join("warm")).expect("it is kept");
    assert!(!kept.windows(6).any(|w| w == b"secret"));
    let proxy = Proxy::start(&db, options(&general, "[[cache]]\n"));
    let admin = pg(&proxy.admin_url(&db)).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while counts(&admin).await["warmed again"][0] == 0 {
        assert!(Instant::now() < deadline, "{:?}", counts(&admin).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let client = pg(&proxy.url(&db)).await;
    assert_eq!(value(&client, read).await, "a");
    assert_eq!(counts(&admin).await["total l1"][2], 1, "the first who asks is given it");
}
