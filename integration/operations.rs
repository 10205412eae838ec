//! Operating a running proxy: reload, pause, kill, drain, shutdown; for admins, and without dropping who need not be.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::harness::raw::{Raw, query, ssl_request, startup};
use crate::harness::{Db, Proxy, ProxyOptions, eventually, pg, rows, try_pg, value};

async fn admin(proxy: &Proxy, db: &Db) -> Client {
    pg(&proxy.admin_url(db)).await
}

async fn code(client: &Client, sql: &str) -> String {
    let error = client.simple_query(sql).await.map(drop).expect_err("it is refused");
    error.code().map(|c| c.code().to_string()).unwrap_or_else(|| error.to_string())
}

fn connections(db: &Db) -> usize {
    db.psql(&format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}' AND application_name <> 'turnpike catalog'", db.user))
        .parse()
        .expect("a count")
}

#[tokio::test]
async fn a_reload_applies_without_dropping_anyone() {
    let db = Db::new();
    let other = db.role("later");
    let proxy = Proxy::start(
        &db,
        ProxyOptions { pool: "size = 1\nwait_timeout = \"200ms\"".into(), ..Default::default() },
    );
    let (a, b) = (pg(&proxy.url(&db)).await, pg(&proxy.url(&db)).await);
    a.batch_execute("BEGIN; SELECT 1").await.expect("a transaction");
    assert_eq!(code(&b, "SELECT 1").await, "53300");
    let extra = format!("[[user]]\nname = \"{other}\"\npassword = \"{}\"\n", db.password);
    let options = ProxyOptions { pool: "size = 2".into(), extra, ..Default::default() };
    assert!(try_pg(&proxy.url_as(&other, &db.password, &db.name)).await.is_err());
    proxy.reload(&db, &options);
    eventually("it is read", || proxy.log().contains("configuration reloaded"));
    assert_eq!(value(&b, "SELECT 2").await, "2", "the pool has grown");
    assert_eq!(value(&a, "SELECT 3").await, "3", "the transaction goes on");
    a.batch_execute("COMMIT").await.expect("and ends");
    let new = pg(&proxy.url_as(&other, &db.password, &db.name)).await;
    assert_eq!(value(&new, "SELECT current_user").await, other);
}

#[tokio::test]
async fn an_invalid_file_changes_nothing_and_says_why() {
    let db = Db::new();
    let proxy = Proxy::to(&db);
    let client = pg(&proxy.url(&db)).await;
    proxy.reload(&db, &ProxyOptions { pool: "size = \"many\"".into(), ..Default::default() });
    eventually("it is told", || proxy.log().contains("pool.size"));
    assert_eq!(value(&client, "SELECT 1").await, "1");
    let admin = admin(&proxy, &db).await;
    let error = admin.simple_query("RELOAD").await.map(drop).expect_err("still invalid");
    let error = error.as_db_error().expect("said by the proxy");
    assert_eq!(error.code().code(), "F0000");
    assert!(error.detail().unwrap_or_default().contains("pool.size"), "{error:?}");
    proxy.reload(&db, &ProxyOptions::default());
    admin.simple_query("RELOAD").await.expect("now it is valid");
}

#[tokio::test]
async fn a_database_that_is_gone_serves_nobody_new() {
    let db = Db::new();
    let extra = "[[database]]\nname = \"second\"\nbackend = \"primary\"\n".to_string();
    let named = |extra: &str| ProxyOptions {
        extra: format!("{extra}dbname = \"{}\"\n", db.name),
        ..Default::default()
    };
    let proxy = Proxy::start(&db, named(&extra));
    let url = proxy.url_as(&db.user, &db.password, "second");
    let client = pg(&url).await;
    assert_eq!(value(&client, "SELECT current_database()").await, db.name);
    proxy.reload(&db, &ProxyOptions::default());
    eventually("it is read", || proxy.log().contains("configuration reloaded"));
    let error = try_pg(&url).await.map(drop).expect_err("it is gone");
    assert_eq!(error.code().map(|c| c.code()), Some("3D000"));
    assert_eq!(value(&client, "SELECT 1").await, "1", "who is there stays");
}

#[tokio::test]
async fn pause_waits_for_transactions_and_resume_serves_who_waited() {
    let db = Db::new();
    let proxy =
        Proxy::start(&db, ProxyOptions { pool: "wait_timeout = \"300ms\"".into(), ..Default::default() });
    let (a, b, admin) = (pg(&proxy.url(&db)).await, pg(&proxy.url(&db)).await, admin(&proxy, &db).await);
    a.batch_execute("BEGIN; SELECT 1").await.expect("a transaction");
    let pausing = tokio::spawn({
        let sql = format!("PAUSE {}", db.name);
        async move {
            admin.simple_query(&sql).await.expect("paused");
            admin
        }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!pausing.is_finished(), "the transaction is not over");
    a.batch_execute("COMMIT").await.expect("it ends");
    let admin = pausing.await.expect("paused");
    let shown = rows(&admin, "SHOW DATABASES").await;
    assert!(shown.iter().any(|row| row[0] == db.name && row[10] == "1"), "{shown:?}");
    let waiting = tokio::spawn(async move { value(&b, "SELECT 7").await });
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(!waiting.is_finished(), "it waits, longer than wait_timeout");
    admin.simple_query(&format!("RESUME {}", db.name)).await.expect("resumed");
    assert_eq!(waiting.await.expect("served"), "7");
    assert_eq!(code(&admin, &format!("RESUME {}", db.name)).await, "55000");
}

#[tokio::test]
async fn kill_ends_clients_at_once() {
    let db = Db::new();
    let proxy = Proxy::to(&db);
    let (busy, idle, admin) =
        (pg(&proxy.url(&db)).await, pg(&proxy.url(&db)).await, admin(&proxy, &db).await);
    busy.batch_execute("BEGIN; CREATE TABLE never (a int)").await.expect("a transaction");
    assert_eq!(code(&admin, "KILL_CLIENT 999999").await, "42704");
    admin.simple_query(&format!("KILL {}", db.name)).await.expect("killed");
    for client in [&busy, &idle] {
        let began = Instant::now();
        while !client.is_closed() {
            assert!(began.elapsed() < Duration::from_secs(10), "it is gone");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    eventually("its transaction, too", || {
        db.psql("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE '%transaction%'") == "0"
    });
    admin.simple_query(&format!("RESUME {}", db.name)).await.expect("resumed");
    let again = pg(&proxy.url(&db)).await;
    assert_eq!(value(&again, "SELECT to_regclass('never') IS NULL").await, "t");
}

/// Whoever waits for a connection leaves the queue at once when it is ended.
#[tokio::test]
async fn who_waits_can_be_killed() {
    let db = Db::new();
    let proxy = Proxy::start(&db, ProxyOptions { pool: "size = 1".into(), ..Default::default() });
    let (busy, admin) = (pg(&proxy.url(&db)).await, admin(&proxy, &db).await);
    busy.batch_execute("BEGIN; SELECT 1").await.expect("a transaction");
    let waiting = pg(&proxy.url(&db)).await;
    let waits = tokio::spawn(async move { waiting.simple_query("SELECT 1").await.map(drop) });
    let id = loop {
        let clients = admin.simple_query("SHOW CLIENTS").await.expect("clients");
        let found = clients.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) if row.get("state") == Some("waiting") => row.get("id"),
            _ => None,
        });
        if let Some(id) = found {
            break id.to_string();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    admin.simple_query(&format!("KILL_CLIENT {id}")).await.expect("killed");
    let error = waits.await.expect("it ends").expect_err("it is told");
    assert!(error.is_closed() || error.code().is_some_and(|c| c.code() == "57P01"), "{error:?}");
    busy.batch_execute("COMMIT").await.expect("nobody else notices");
}

#[tokio::test]
async fn reconnect_replaces_and_disable_closes_the_door() {
    let db = Db::new();
    let proxy = Proxy::start(&db, ProxyOptions { pool: "size = 1".into(), ..Default::default() });
    let (client, admin) = (pg(&proxy.url(&db)).await, admin(&proxy, &db).await);
    let pid = value(&client, "SELECT pg_backend_pid()").await;
    admin.simple_query("RECONNECT; WAIT_CLOSE").await.expect("replaced");
    assert_ne!(value(&client, "SELECT pg_backend_pid()").await, pid);
    admin.simple_query(&format!("DISABLE {}", db.name)).await.expect("disabled");
    let error = try_pg(&proxy.url(&db)).await.map(drop).expect_err("closed");
    assert_eq!(error.code().map(|c| c.code()), Some("57P03"));
    assert_eq!(value(&client, "SELECT 1").await, "1");
    admin.simple_query(&format!("ENABLE {}", db.name)).await.expect("enabled");
    assert_eq!(value(&pg(&proxy.url(&db)).await, "SELECT 1").await, "1");
    assert_eq!(connections(&db), 1);
}

#[tokio::test]
async fn reconnect_replaces_the_listening_connection_too() {
    let db = Db::new();
    let proxy = Proxy::start(&db, ProxyOptions::default());
    let listens = |pid: &str| {
        db.psql(&format!(
            "SELECT pid FROM pg_stat_activity WHERE usename = '{}' AND query LIKE 'LISTEN%' AND pid <> {pid}",
            db.user
        ))
    };
    let mut raw = proxy.raw(&db);
    raw.send(query("LISTEN a"));
    raw.until_ready(1);
    let pid = listens("0");
    assert_ne!(pid, "");
    admin(&proxy, &db).await.simple_query("RECONNECT").await.expect("replaced");
    let notice = raw.frame().expect("a notice");
    assert_eq!((notice.kind, notice.field(b'S')), (b'N', "WARNING".to_string()), "{notice:?}");
    assert_ne!(listens(&pid), "");
    db.psql("NOTIFY a, 'after'");
    assert_eq!(raw.frame().expect("a notification").kind, b'A');
}

#[tokio::test]
async fn only_admins_operate() {
    let db = Db::new();
    let reader = db.role("reader");
    let proxy = Proxy::with_config(&[], |port, _| {
        format!(
            "[general]\nlisten = [\"127.0.0.1:{port}\"]\n[admin]\nreaders = [\"{reader}\"]\n\
             [[database]]\nname = \"x\"\nbackend = \"b\"\n[[backend]]\nname = \"b\"\nhost = \"127.0.0.1\"\n\
             [[user]]\nname = \"{reader}\"\npassword = \"p\"\n\
             [[hba]]\ntype = \"host\"\ndatabase = \"all\"\nuser = \"all\"\nmethod = \"scram-sha-256\"\n"
        )
    });
    let reader = pg(&proxy.url_as(&reader, "p", "turnpike")).await;
    for command in [
        "RELOAD",
        "PAUSE",
        "RESUME",
        "KILL x",
        "KILL CLIENT 1",
        "SHUTDOWN",
        "DRAIN",
        "DISABLE x",
        "RECONNECT",
    ] {
        assert_eq!(code(&reader, command).await, "42501", "{command}");
        // Preparing one does not carry it out.
        let prepared = reader.prepare(command).await.expect("it is described");
        assert_eq!(prepared.columns().len(), 0);
    }
    assert!(reader.simple_query("SHOW HELP").await.is_ok());
}

#[tokio::test]
async fn shutdown_waits_for_clients_if_asked() {
    let db = Db::new();
    let proxy = Proxy::to(&db);
    let (client, admin) = (pg(&proxy.url(&db)).await, admin(&proxy, &db).await);
    admin.simple_query("SHUTDOWN WAIT_FOR_CLIENTS").await.expect("begun");
    assert_eq!(refused(&proxy, &db).await, SHUTTING_DOWN, "nobody new");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(value(&client, "SELECT 1").await, "1");
    drop(client);
    // The connection's task must run for it to be closed.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(proxy.wait().success());
}

/// What Postgres says to who comes too late.
const SHUTTING_DOWN: (&str, &str) = ("57P03", "the database system is shutting down");

/// What a client that comes now is told.
async fn refused(proxy: &Proxy, db: &Db) -> (&'static str, &'static str) {
    let error = try_pg(&proxy.url(db)).await.map(drop).expect_err("refused");
    let said = error.as_db_error().unwrap_or_else(|| panic!("it is told nothing: {error}"));
    assert_eq!((said.code().code(), said.message()), SHUTTING_DOWN);
    SHUTTING_DOWN
}

#[tokio::test]
async fn who_comes_while_we_drain_is_told() {
    let db = Db::new();
    let proxy = Proxy::to(&db);
    let (client, operator) = (pg(&proxy.url(&db)).await, admin(&proxy, &db).await);
    client.batch_execute("BEGIN").await.expect("a transaction");
    // Of the whole process: who names a part of it means something else.
    for command in [format!("DRAIN {}", db.name), "RELOAD x".into(), "DRAIN a b".into()] {
        assert_eq!(code(&operator, &command).await, "42601", "{command}");
    }
    drop(pg(&proxy.url(&db)).await);
    operator.simple_query("DRAIN").await.expect("begun");
    assert_eq!(refused(&proxy, &db).await, SHUTTING_DOWN);
    drop(admin(&proxy, &db).await);
    proxy.signal(Signal::SIGTERM);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(refused(&proxy, &db).await, SHUTTING_DOWN);
    let mut raw = Raw::connect(proxy.port);
    raw.send(ssl_request());
    assert_eq!(raw.take(1).as_deref(), Some(&b"N"[..]));
    raw.send(startup(0x0003_0000, &[("user", "nobody"), ("database", "nothing")]));
    assert_eq!(raw.expect(b'E').field(b'S'), "FATAL");
    client.batch_execute("COMMIT").await.expect("it ends");
    assert!(proxy.wait().success());
}

#[tokio::test]
async fn shutdown_ends_the_process() {
    let db = Db::new();
    let proxy = Proxy::to(&db);
    let admin = admin(&proxy, &db).await;
    let began = Instant::now();
    admin.simple_query("SHUTDOWN").await.expect("begun");
    assert!(proxy.wait().success());
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_backend_that_moves_is_followed() {
    let db = Db::in_cluster(crate::harness::replicated());
    let proxy = Proxy::start(&db, ProxyOptions { pool: "size = 1".into(), ..Default::default() });
    let client = pg(&proxy.url(&db)).await;
    assert_eq!(value(&client, "SELECT pg_is_in_recovery()").await, "f");
    let replica = &db.cluster().replicas()[0];
    let options = ProxyOptions { pool: "size = 1".into(), ..Default::default() };
    proxy.rewrite(&db, &options, |toml| {
        toml.replace(
            &format!("port = {}\n", db.cluster().primary().port),
            &format!("port = {}\n", replica.port),
        )
    });
    proxy.signal(Signal::SIGHUP);
    eventually("it is read", || proxy.log().contains("configuration reloaded"));
    eventually("the role is there", || replica.psql(&db.name, "SELECT 1").is_ok());
    assert_eq!(value(&client, "SELECT pg_is_in_recovery()").await, "t");
}
