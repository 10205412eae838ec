//! Bounds in number and time: each told with the SQLSTATE that Postgres has for it, naming the limit.

use std::time::{Duration, Instant};

use crate::harness::raw::{Raw, bind, execute, parse, query, sync};
use crate::harness::{Db, Proxy, ProxyOptions, eventually, pg, try_pg, value};

fn bed(pool: &str) -> (Db, Proxy) {
    let db = Db::new();
    let proxy = Proxy::start(&db, ProxyOptions { pool: pool.into(), ..Default::default() });
    (db, proxy)
}

fn last_words(raw: &mut Raw) -> (String, String) {
    let frames = raw.until_closed();
    let error = frames.iter().rfind(|f| f.kind == b'E').unwrap_or_else(|| panic!("no error: {frames:?}"));
    (error.field(b'C'), error.field(b'D'))
}

#[test]
fn a_statement_that_takes_too_long_is_cancelled_and_the_session_goes_on() {
    let (db, proxy) = bed("query_timeout = \"300ms\"\nsize = 1");
    let mut raw = proxy.raw(&db);
    let began = Instant::now();
    raw.send(query("SELECT pg_sleep(20)"));
    let frames = raw.until_ready(1);
    let error = frames.iter().find(|f| f.kind == b'E').expect("an error");
    assert_eq!(
        (error.field(b'C'), error.field(b'M')),
        ("57014".into(), "canceling statement due to query timeout".into())
    );
    assert!(error.field(b'D').contains("query_timeout"));
    assert!(began.elapsed() < Duration::from_secs(5));
    raw.send([parse("", "SELECT pg_sleep(20)"), bind("", "", &[]), execute("", 0), sync()].concat());
    let frames = raw.until_ready(1);
    assert_eq!(frames.iter().find(|f| f.kind == b'E').expect("an error").field(b'C'), "57014");
    assert_eq!(raw.value("SELECT 1"), "1");
    // Waiting counts, too.
    let mut holder = proxy.raw(&db);
    holder.send(query("BEGIN; SELECT 1"));
    holder.until_ready(1);
    raw.send(query("SELECT 2 FOR UPDATE"));
    let frames = raw.until_ready(1);
    assert_eq!(frames[0].field(b'M'), "canceling statement due to query timeout");
    holder.send(query("COMMIT"));
    holder.until_ready(1);
    assert_eq!(raw.value("SELECT 3"), "3");
}

#[test]
fn idle_sessions_end() {
    let (db, proxy) = bed("client_idle_timeout = \"300ms\"");
    let mut raw = proxy.raw(&db);
    assert_eq!(raw.value("SELECT 1"), "1");
    let (code, detail) = last_words(&mut raw);
    assert_eq!(code, "57P05");
    assert!(detail.contains("client_idle_timeout"));
}

#[test]
fn idle_transactions_are_rolled_back() {
    let (db, proxy) = bed("idle_transaction_timeout = \"300ms\"");
    let mut raw = proxy.raw(&db);
    raw.send(query("BEGIN; CREATE TABLE never (a int)"));
    raw.until_ready(1);
    assert_eq!(last_words(&mut raw).0, "25P03");
    eventually("it is rolled back", || db.psql("SELECT to_regclass('never') IS NULL") == "t");
    eventually("nothing is locked", || {
        db.psql(&format!(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = '{}' AND application_name <> 'turnpike catalog' AND state <> 'idle'",
            db.user
        )) == "0"
    });
}

#[test]
fn long_transactions_end_even_in_a_statement() {
    let (db, proxy) = bed("transaction_timeout = \"500ms\"");
    let mut raw = proxy.raw(&db);
    raw.send(query("BEGIN"));
    raw.until_ready(1);
    raw.send(query("SELECT pg_sleep(20)"));
    assert_eq!(last_words(&mut raw).0, "25P04");
    eventually("it is cancelled", || {
        db.psql(&format!(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = '{}' AND application_name <> 'turnpike catalog' AND state <> 'idle'",
            db.user
        )) == "0"
    });
}

#[tokio::test]
async fn users_have_bounds_of_their_own() {
    let db = Db::new();
    let other = db.role("other");
    let extra = format!(
        "[[user]]\nname = \"{other}\"\npassword = \"{}\"\nquery_timeout = \"200ms\"\nmax_clients = 1\n",
        db.password
    );
    let proxy = Proxy::start(&db, ProxyOptions { extra, ..Default::default() });
    let bounded = pg(&proxy.url_as(&other, &db.password, &db.name)).await;
    let error = bounded.simple_query("SELECT pg_sleep(5)").await.expect_err("it is cancelled");
    assert_eq!(error.code().map(|c| c.code()), Some("57014"));
    let error =
        try_pg(&proxy.url_as(&other, &db.password, &db.name)).await.map(drop).expect_err("one is enough");
    assert_eq!(error.code().map(|c| c.code()), Some("53300"));
    let free = pg(&proxy.url(&db)).await;
    assert_eq!(value(&free, "SELECT 1 FROM pg_sleep(0.5)").await, "1");
}

#[tokio::test]
async fn databases_have_bounds_of_their_own() {
    let db = Db::new();
    let proxy = Proxy::start(&db, ProxyOptions { database: "max_clients = 2".into(), ..Default::default() });
    let _kept = [pg(&proxy.url(&db)).await, pg(&proxy.url(&db)).await];
    let error = try_pg(&proxy.url(&db)).await.map(drop).expect_err("two are enough");
    let error = error.as_db_error().expect("Postgres would say so");
    assert_eq!(error.code().code(), "53300");
    assert!(error.detail().unwrap_or_default().contains("database.max_clients"), "{error:?}");
}
