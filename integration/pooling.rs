//! What a pool promises: bounds, order, cleanliness, and that what one client sets no other sees.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::harness::raw::{bind, execute, flush, parse, sync};
use crate::harness::{Db, Proxy, ProxyOptions, eventually, pg, rows, try_pg, value};

fn pool(settings: &str) -> ProxyOptions {
    ProxyOptions { pool: settings.into(), ..Default::default() }
}

fn connections(db: &Db) -> String {
    db.psql(&format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}' AND application_name <> 'turnpike catalog'", db.user))
}

#[tokio::test]
async fn never_more_connections_than_allowed() {
    let db = Db::new();
    let proxy = Proxy::start(&db, pool("size = 3"));
    let url = proxy.url(&db);
    let clients = (0..20).map(|i| {
        let url = url.clone();
        tokio::spawn(async move {
            let client = pg(&url).await;
            for _ in 0..20 {
                // Replicas, where there are some, have connections of their own.
                let sql = format!("SELECT {i} /* turnpike: route=primary */");
                assert_eq!(value(&client, &sql).await, i.to_string());
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("every client gets its own answers");
    }
    assert_eq!(connections(&db), "3");
}

/// What is asked meanwhile is read and kept, in no more memory than it takes, and each gets its own answers.
#[tokio::test(flavor = "multi_thread")]
async fn hundreds_that_wait_keep_what_they_have_asked() {
    const CLIENTS: usize = 300;
    let db = Db::new();
    let proxy = Proxy::start(&db, pool("size = 1\nwait_timeout = \"60s\""));
    let first = pg(&proxy.url(&db)).await;
    first
        .batch_execute("BEGIN; SELECT /* turnpike: route=primary */ 1")
        .await
        .expect("it has the connection");
    let asked = (0..CLIENTS).map(async |i| {
        let client = pg(&proxy.url(&db)).await;
        // One is kept as it is, one is not, and one comes while the other two wait.
        let long = format!("SELECT '{i}' /* turnpike: route=primary */ -- {}", "x".repeat(i * 20));
        let (one, two) = tokio::join!(value(&client, &long), async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            value(&client, &format!("SELECT '{i} again' /* turnpike: route=primary */")).await
        });
        assert_eq!((one, two), (i.to_string(), format!("{i} again")));
    });
    let all = futures_util::future::join_all(asked);
    let admin = pg(&proxy.admin_url(&db)).await;
    let waiting = async {
        let count = |pools: Vec<Vec<String>>| -> usize {
            pools.iter().filter_map(|pool| pool[3].parse::<usize>().ok()).sum()
        };
        while count(rows(&admin, "SHOW POOLS").await) < CLIENTS {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let memory = rows(&admin, "SHOW MEMORY").await;
        first.batch_execute("COMMIT").await.expect("it gives it back");
        let buffers = memory.into_iter().find(|row| row[0] == "relay_buffers").expect("they are shown");
        buffers.last().expect("bytes").parse::<u64>().expect("a number")
    };
    let (_, buffers) = tokio::join!(all, waiting);
    // All of them would have 16 KiB each otherwise.
    assert!(buffers < 4 << 20, "{buffers}");
}

#[tokio::test]
async fn caps_hold_over_pools_and_idle_connections_give_way() {
    let db = Db::new();
    let other = db.role("other");
    let extra = format!("[[user]]\nname = \"{other}\"\npassword = \"{}\"\n", db.password);
    let options =
        ProxyOptions { extra, database: "max_connections = 1".into(), ..pool("wait_timeout = \"5s\"") };
    let proxy = Proxy::start(&db, options);
    let one = pg(&proxy.url(&db)).await;
    assert_eq!(value(&one, "SELECT 1").await, "1");
    let two = pg(&proxy.url_as(&other, &db.password, &db.name)).await;
    assert_eq!(value(&two, "SELECT current_user").await, other);
    assert_eq!(value(&one, "SELECT current_user").await, db.user);
}

/// Clients that ask again and again until they are told to stop, or fail.
fn crowd(url: &str, clients: usize, sql: &'static str, over: &Arc<AtomicBool>) -> Vec<JoinHandle<()>> {
    let one = |_| {
        let (url, over) = (url.to_string(), over.clone());
        tokio::spawn(async move {
            let client = pg(&url).await;
            while !over.load(SeqCst) {
                client.simple_query(sql).await.expect("in its turn");
            }
        })
    };
    (0..clients).map(one).collect()
}

/// A proxy whose database has that many connections for all users; the roles, and what each may open at most.
fn capped(roles: &[&str], most: u32, settings: &str) -> (Db, Proxy, Vec<String>) {
    let db = Db::new();
    let roles: Vec<String> = roles.iter().map(|role| db.role(role)).collect();
    let user = |role: &String| format!("[[user]]\nname = \"{role}\"\npassword = \"{}\"\n", db.password);
    let extra: String = roles.iter().map(user).collect();
    let database = format!("max_connections = {most}");
    let proxy = Proxy::start(&db, ProxyOptions { extra, database, ..pool(settings) });
    (db, proxy, roles)
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_under_one_cap_share_it() {
    let (db, proxy, roles) = capped(&["other"], 4, "size = 10\nwait_timeout = \"3s\"");
    let (one, two) = (proxy.url(&db), proxy.url_as(&roles[0], &db.password, &db.name));
    let over = Arc::new(AtomicBool::new(false));
    let mut tasks = crowd(&one, 40, "SELECT pg_sleep(0.02) /* turnpike: route=primary */", &over);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (small, began) = (pg(&two).await, Instant::now());
    for n in 0..50 {
        let sql = format!("SELECT {n} /* turnpike: route=primary */");
        assert_eq!(value(&small, &sql).await, n.to_string());
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "one client of another pool is not kept waiting, but {took:?}");
    // Those who want the same get the same.
    tasks.extend(crowd(&two, 20, "SELECT pg_sleep(0.02) /* turnpike: route=primary */", &over));
    let of = |user: &str| {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name <> 'turnpike catalog' AND usename =";
        db.psql(&format!("{sql} '{user}'"))
    };
    eventually("each has half of it", || (of(&db.user), of(&roles[0])) == ("2".into(), "2".into()));
    over.store(true, SeqCst);
    for task in tasks {
        task.await.expect("nobody is told that there is none");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_cap_has_no_room_for_all_pools_they_take_turns() {
    let (db, proxy, roles) = capped(&["b", "c"], 1, "size = 5\nwait_timeout = \"5s\"");
    let over = Arc::new(AtomicBool::new(false));
    let url = |role: &String| proxy.url_as(role, &db.password, &db.name);
    let sql = "SELECT pg_sleep(0.01) /* turnpike: route=primary */";
    let tasks: Vec<_> =
        roles.iter().chain([&db.user]).flat_map(|role| crowd(&url(role), 4, sql, &over)).collect();
    tokio::time::sleep(Duration::from_secs(8)).await;
    over.store(true, SeqCst);
    for task in tasks {
        task.await.expect("nobody is told that there is none");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_in_vain_is_told_for_what() {
    let told = |e: &tokio_postgres::Error| {
        let e = e.as_db_error().expect("an answer");
        assert_eq!(e.code().code(), "53300");
        e.detail().unwrap_or_default().to_string()
    };
    let (db, proxy, roles) = capped(&["other"], 1, "size = 5\nwait_timeout = \"300ms\"");
    let other = pg(&proxy.url_as(&roles[0], &db.password, &db.name)).await;
    let holder = pg(&proxy.url(&db)).await;
    holder.batch_execute("BEGIN; SELECT 1").await.expect("a transaction begins");
    let detail = told(&other.simple_query("SELECT 1").await.expect_err("there is nothing to be had"));
    assert!(detail.contains(&format!("max_connections of database \"{}\"", db.name)), "{detail}");

    let db = Db::new();
    let extra = format!("[tenants]\nby = \"user\"\n[[tenant]]\nname = \"{}\"\nmax = 1\n", db.user);
    let options = ProxyOptions { extra, ..pool("size = 5\nwait_timeout = \"300ms\"") };
    let proxy = Proxy::start(&db, options);
    let holder = pg(&proxy.url(&db)).await;
    holder.batch_execute("BEGIN; SELECT 1").await.expect("a transaction begins");
    let other = pg(&proxy.url(&db)).await;
    let detail = told(&other.simple_query("SELECT 1").await.expect_err("there is nothing to be had"));
    assert!(detail.contains("(tenant.max)"), "{detail}");
}

#[tokio::test]
async fn waiting_ends_with_53300() {
    let db = Db::new();
    let proxy = Proxy::start(&db, pool("size = 1\nwait_timeout = \"300ms\""));
    let holder = pg(&proxy.url(&db)).await;
    holder.batch_execute("BEGIN; SELECT 1").await.expect("a transaction begins");
    let waiter = pg(&proxy.url(&db)).await;
    let began = Instant::now();
    let error = waiter.simple_query("SELECT 1").await.expect_err("there is nothing to be had");
    assert_eq!(error.code().map(|c| c.code()), Some("53300"), "{error}");
    assert!(began.elapsed() >= Duration::from_millis(300));
    let detail = error.as_db_error().and_then(|e| e.detail()).unwrap_or_default();
    assert!(detail.contains("(pool.size)"), "{detail}");
    holder.batch_execute("COMMIT").await.expect("the holder is undisturbed");
    assert_eq!(value(&waiter, "SELECT 5").await, "5", "who waited in vain may go on");
    let prepared = waiter.query_one("SELECT 6::int4", &[]).await.expect("in the extended protocol too");
    assert_eq!(prepared.get::<_, i32>(0), 6);
}

#[tokio::test]
async fn a_reserve_opens_for_those_who_wait_long() {
    let db = Db::new();
    let proxy =
        Proxy::start(&db, pool("size = 1\nreserve = 1\nreserve_after = \"200ms\"\nwait_timeout = \"5s\""));
    let holder = pg(&proxy.url(&db)).await;
    holder.batch_execute("BEGIN; SELECT 1").await.expect("a transaction begins");
    let waiter = pg(&proxy.url(&db)).await;
    assert_eq!(value(&waiter, "SELECT 2").await, "2");
    assert_eq!(connections(&db), "2");
}

#[tokio::test]
async fn a_minimum_is_kept_and_the_surplus_closed() {
    let db = Db::new();
    let proxy = Proxy::start(&db, pool("size = 5\nmin = 2\nidle_timeout = \"300ms\""));
    let clients = [pg(&proxy.url(&db)).await, pg(&proxy.url(&db)).await, pg(&proxy.url(&db)).await];
    for client in &clients {
        client.batch_execute("BEGIN; SELECT 1").await.expect("a transaction begins");
    }
    assert_eq!(connections(&db), "3");
    for client in &clients {
        client.batch_execute("COMMIT").await.expect("it ends");
    }
    eventually("the surplus is closed", || connections(&db) == "2");
}

#[tokio::test]
async fn lifetime_replaces_connections() {
    let db = Db::new();
    let proxy = Proxy::start(&db, pool("size = 1\nlifetime = \"300ms\""));
    let client = pg(&proxy.url(&db)).await;
    let first = value(&client, "SELECT pg_backend_pid()").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_ne!(value(&client, "SELECT pg_backend_pid()").await, first);
}

#[tokio::test]
async fn session_mode_keeps_the_connection_and_cleans_it_after() {
    let db = Db::new();
    let proxy = Proxy::start(&db, pool("mode = \"session\"\nsize = 1"));
    let client = pg(&proxy.url(&db)).await;
    let pid = value(&client, "SELECT pg_backend_pid()").await;
    client
        .batch_execute("CREATE TEMP TABLE mine (a int); SET work_mem = '1MB'")
        .await
        .expect("session state");
    assert_eq!(value(&client, "SELECT count(*) FROM mine").await, "0");
    drop(client);
    let next = pg(&proxy.url(&db)).await;
    assert_eq!(value(&next, "SELECT pg_backend_pid()").await, pid);
    assert_eq!(value(&next, "SELECT to_regclass('mine') IS NULL").await, "t");
    assert_ne!(value(&next, "SHOW work_mem").await, "1MB");
}

#[tokio::test]
async fn session_state_stays_with_its_client() {
    let db = Db::new();
    let proxy = Proxy::start(&db, pool("size = 2"));
    let (a, b) = (pg(&proxy.url(&db)).await, pg(&proxy.url(&db)).await);
    let cases = [
        ("SET work_mem = '1234kB'", "SHOW work_mem", "1234kB"),
        (
            "SELECT set_config('my.own', 'a', false)",
            "SELECT coalesce(current_setting('my.own', true), '')",
            "a",
        ),
        ("CREATE TEMP TABLE tt (a int)", "SELECT to_regclass('tt')::text", "tt"),
        (
            "SELECT pg_advisory_lock(42)",
            "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE datname = current_database() AND locktype = 'advisory' AND pid = pg_backend_pid()",
            "1",
        ),
        ("SET TimeZone = 'Asia/Tokyo'", "SHOW TimeZone", "Asia/Tokyo"),
    ];
    for (set, show, want) in cases {
        a.batch_execute(set).await.expect("it is set");
        for _ in 0..5 {
            assert_ne!(value(&b, show).await, want, "{set}: another client sees it");
            assert_eq!(value(&a, show).await, want, "{set}: its own client does not");
        }
        a.batch_execute("DISCARD ALL").await.expect("it is gone");
        assert_ne!(value(&a, show).await, want, "{set}: after DISCARD ALL");
    }
    drop(a);
    eventually("its lock is free", || {
        db.psql("SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE datname = current_database() AND locktype = 'advisory'") == "0"
    });
}

#[tokio::test]
async fn a_setting_undone_by_rollback_is_undone() {
    let db = Db::new();
    let proxy = Proxy::start(&db, pool("size = 1"));
    let (a, b) = (pg(&proxy.url(&db)).await, pg(&proxy.url(&db)).await);
    a.batch_execute("BEGIN; SET TimeZone = 'Asia/Tokyo'; ROLLBACK").await.expect("undone");
    assert_ne!(value(&a, "SHOW TimeZone").await, "Asia/Tokyo");
    assert_ne!(value(&b, "SHOW TimeZone").await, "Asia/Tokyo");
}

#[tokio::test]
async fn waiting_in_an_extended_batch_ends_the_same_way() {
    let db = Db::new();
    let proxy = Proxy::start(&db, pool("size = 1\nwait_timeout = \"300ms\""));
    let waiter = pg(&proxy.url(&db)).await;
    let statement = waiter.prepare("SELECT 7::int4").await.expect("prepared");
    let holder = pg(&proxy.url(&db)).await;
    holder.batch_execute("BEGIN; SELECT 1").await.expect("a transaction begins");
    let error = waiter.query_one(&statement, &[]).await.map(drop).expect_err("there is nothing to be had");
    assert_eq!(error.code().map(|c| c.code()), Some("53300"), "{error}");
    holder.batch_execute("COMMIT").await.expect("the holder is undisturbed");
    assert_eq!(waiter.query_one(&statement, &[]).await.expect("it goes on").get::<_, i32>(0), 7);
}

#[tokio::test]
async fn names_of_databases_that_do_not_exist_leave_nothing_behind() {
    let db = Db::new();
    let extra = "[[database]]\nname = \"*\"\nbackend = \"primary\"\n".to_string();
    let proxy = Proxy::start(&db, ProxyOptions { extra, ..Default::default() });
    for i in 0..5 {
        let url = proxy.url_as(&db.user, &db.password, &format!("no_such_{i}"));
        assert!(try_pg(&url).await.is_err());
    }
    let admin = pg(&proxy.admin_url(&db)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(admin.query("SHOW POOLS", &[]).await.expect("shown").len(), 0);
}

#[tokio::test]
async fn max_clients_is_told_with_53300() {
    let db = Db::new();
    let proxy = Proxy::start(&db, ProxyOptions { general: "max_clients = 2".into(), ..Default::default() });
    let _kept = [pg(&proxy.url(&db)).await, pg(&proxy.url(&db)).await];
    let error = try_pg(&proxy.url(&db)).await.map(drop).expect_err("the third is refused");
    assert_eq!(error.code().map(|c| c.code()), Some("53300"), "{error}");
}

#[tokio::test]
async fn shutdown_lets_transactions_end() {
    let db = Db::new();
    let proxy = Proxy::to(&db);
    let (busy, idle) = (pg(&proxy.url(&db)).await, pg(&proxy.url(&db)).await);
    busy.batch_execute("BEGIN; SELECT 1").await.expect("a transaction begins");
    proxy.signal(nix::sys::signal::Signal::SIGTERM);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(idle.simple_query("SELECT 1").await.is_err(), "who is idle is sent away");
    assert_eq!(value(&busy, "SELECT 7").await, "7");
    busy.batch_execute("COMMIT").await.expect("the transaction ends as it should");
    assert!(proxy.wait().success());
}

/// A batch without its Sync is a transaction that is not over, however much of it has been answered.
#[test]
fn an_answered_batch_without_sync_keeps_its_connection() {
    let db = Db::new();
    db.psql("CREATE TABLE half (a int); GRANT ALL ON half TO PUBLIC");
    let proxy = Proxy::start(&db, pool("size = 2"));
    let mut a = proxy.raw(&db);
    a.send(
        [
            parse("", "INSERT INTO half VALUES (1) RETURNING pg_backend_pid()"),
            bind("", "", &[]),
            execute("", 0),
            flush(),
        ]
        .concat(),
    );
    let pid = a.until(b'C')[2].column();
    let mut others: Vec<_> = (0..2).map(|_| proxy.raw(&db)).collect();
    for other in &mut others {
        assert_ne!(other.value("SELECT pg_backend_pid()"), pid, "it is lent to another");
    }
    assert_eq!(db.psql("SELECT count(*) FROM half"), "0", "nobody else ends the transaction");
    a.send(
        [parse("", "SELECT g FROM generate_series(1, 5) g"), bind("p", "", &[]), execute("p", 2), flush()]
            .concat(),
    );
    a.until(b's');
    for other in &mut others {
        assert_ne!(other.value("SELECT pg_backend_pid()"), pid);
    }
    a.send([execute("p", 2), flush()].concat());
    assert_eq!(a.until(b's').iter().filter(|f| f.kind == b'D').count(), 2, "its portal is there");
    a.send(sync());
    a.until_ready(1);
    assert_eq!(db.psql("SELECT count(*) FROM half"), "1");
    a.send([parse("", "INSERT INTO half VALUES (2)"), bind("", "", &[]), execute("", 0), flush()].concat());
    a.until(b'C');
    drop(a);
    for other in &mut others {
        other.value("SELECT 1");
    }
    eventually("it is undone", || {
        db.psql("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE '%transaction%'") == "0"
    });
    assert_eq!(db.psql("SELECT count(*) FROM half"), "1", "a client that vanished has committed nothing");
}
