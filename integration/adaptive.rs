//! Pools that size themselves, on real servers: bounds, sharing, growing and shrinking, and what is remembered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio_postgres::SimpleQueryMessage;

use crate::harness::{Db, Proxy, ProxyOptions, eventually, pg, value};

/// Clients that run a statement again and again, until the value is dropped.
struct Load {
    over: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    async fn start(url: &str, clients: usize, sql: &str) -> Load {
        let mut load = Load { over: Arc::default(), done: Arc::default(), tasks: Vec::new() };
        for _ in 0..clients {
            let (client, sql) = (pg(url).await, sql.to_string());
            let (over, done) = (load.over.clone(), load.done.clone());
            load.tasks.push(tokio::spawn(async move {
                while !over.load(SeqCst) && client.simple_query(&sql).await.is_ok() {
                    done.fetch_add(1, SeqCst);
                }
            }));
        }
        load
    }

    async fn end(mut self) {
        self.over.store(true, SeqCst);
        for task in std::mem::take(&mut self.tasks) {
            task.await.expect("no panic");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Rows of a SHOW command, by column.
async fn show(proxy: &Proxy, db: &Db, what: &str, columns: &[&str]) -> Vec<Vec<String>> {
    let admin = pg(&proxy.admin_url(db)).await;
    let messages = admin.simple_query(&format!("SHOW {what}")).await.expect("shown");
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            Some(columns.iter().map(|c| row.get(*c).unwrap_or_default().to_string()).collect())
        }
        _ => None,
    };
    messages.iter().filter_map(row).collect()
}

/// Around how many loans the primary's limit is.
async fn level(proxy: &Proxy, db: &Db) -> f64 {
    let rows = show(proxy, db, "LIMITS", &["level"]).await;
    rows.first().and_then(|row| row[0].parse().ok()).unwrap_or_default()
}

async fn reaches(proxy: &Proxy, db: &Db, what: &str, reached: impl Fn(f64) -> bool) {
    let mut seen = Vec::new();
    for _ in 0..600 {
        let level = level(proxy, db).await;
        if reached(level) {
            return;
        }
        seen.push(level);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the limit never was {what}: {seen:?}");
}

fn adaptive(pool: &str) -> ProxyOptions {
    ProxyOptions { pool: format!("size = \"adaptive\"\n{pool}"), ..Default::default() }
}

fn connections(db: &Db, user: &str) -> u32 {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}' AND application_name <> 'turnpike catalog'"
    );
    db.psql(&sql).parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_hold_for_each_of_the_pools_that_share_a_limit() {
    let db = Db::new();
    let other = db.role("other");
    let extra = format!("[[user]]\nname = \"{other}\"\npassword = \"{}\"\n", db.password);
    let proxy = Proxy::start(&db, ProxyOptions { extra, ..adaptive("min = 2\nmax_size = 5") });
    let sql = "SELECT pg_sleep(0.005) /* turnpike: route=primary */";
    let one = Load::start(&proxy.url(&db), 20, sql).await;
    let two = Load::start(&proxy.url_as(&other, &db.password, &db.name), 10, sql).await;
    let mut most = 0;
    for _ in 0..15 {
        for user in [&db.user, &other] {
            let n = connections(&db, user);
            assert!(n <= 5, "{user} has {n} connections");
            most = most.max(n);
        }
        for row in show(&proxy, &db, "POOLS", &["user", "pool_size", "max_size", "sv_active"]).await {
            let number = |i: usize| row[i].parse::<u32>().expect("a number");
            assert!((2..=5).contains(&number(1)) && number(2) == 5 && number(3) <= 5, "{row:?}");
        }
    }
    assert!(most > 2, "it grows, too");
    let (first, second) = (one.done.load(SeqCst), two.done.load(SeqCst));
    assert!(first < 3 * second && second < 3 * first, "twice the clients, the same share: {first}, {second}");
    one.end().await;
    two.end().await;
    let limits = show(&proxy, &db, "LIMITS", &["backend", "limit", "in_flight", "floor_us", "reason"]).await;
    assert!(limits.iter().any(|row| row[0] == "primary" && row[3] != "0"), "{limits:?}");
    let kept = || [&db.user, &other].into_iter().all(|user| connections(&db, user) >= 2);
    eventually("a minimum is kept", kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_grows_while_more_gets_more_done_and_shrinks_when_it_does_not() {
    let db = Db::new();
    let proxy = Proxy::start(&db, adaptive("max_size = 24"));
    let sleepers =
        Load::start(&proxy.url(&db), 40, "SELECT pg_sleep(0.02) /* turnpike: route=primary */").await;
    reaches(&proxy, &db, "high", |level| level >= 16.0).await;
    sleepers.end().await;
    // They get in each other's way: twice as many get half as much done, however busy the machine is.
    let crowded = format!(
        "SELECT pg_sleep(0.00005 * count(*) * count(*)) FROM pg_stat_activity \
         WHERE state = 'active' AND usename = '{}' /* turnpike: route=primary */",
        db.user
    );
    let workers = Load::start(&proxy.url(&db), 40, &crowded).await;
    reaches(&proxy, &db, "low", |level| level <= 10.0).await;
    workers.end().await;
    let moves = show(&proxy, &db, "LIMITS", &["raised", "lowered", "reason"]).await;
    assert!(moves.iter().any(|row| row[0] != "0" && row[1] != "0"), "{moves:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_that_hold_all_connections_do_not_keep_reads_waiting() {
    let db = Db::new();
    let proxy = Proxy::start(&db, adaptive("max_size = 30"));
    let running = Arc::new(AtomicU32::new(0));
    let mut reports = Vec::new();
    for _ in 0..12 {
        let (client, running) = (pg(&proxy.url(&db)).await, running.clone());
        running.fetch_add(1, SeqCst);
        reports.push(tokio::spawn(async move {
            let sleep = "SELECT pg_sleep(90) /* turnpike: route=primary */";
            client.simple_query(sleep).await.expect("a report");
            running.fetch_sub(1, SeqCst);
        }));
    }
    let reader = pg(&proxy.url(&db)).await;
    for n in 0..50 {
        let sql = format!("SELECT {n} /* turnpike: route=primary */");
        assert_eq!(value(&reader, &sql).await, n.to_string());
    }
    assert_eq!(running.load(SeqCst), 12, "no read had to wait for the end of a report");
    let rows = show(&proxy, &db, "LIMITS", &["slow"]).await;
    assert!(rows.iter().any(|row| row[0].parse::<u32>().is_ok_and(|slow| slow >= 8)), "{rows:?}");
    reports.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_usual_at_an_hour_is_known_after_a_restart() {
    let db = Db::new();
    let state = tempfile::tempdir().expect("a directory");
    let general = format!("state_dir = {:?}\n", state.path());
    let proxy = Proxy::start(&db, ProxyOptions { general, ..adaptive("max_size = 20") });
    let sleepers =
        Load::start(&proxy.url(&db), 10, "SELECT pg_sleep(0.02) /* turnpike: route=primary */").await;
    reaches(&proxy, &db, "high", |level| level >= 9.0).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    sleepers.end().await;
    proxy.signal(Signal::SIGTERM);
    assert!(proxy.wait().success());
    assert!(state.path().join("pools.json").is_file());
    let again = proxy.again(|config| config);
    let client = loop {
        match crate::harness::try_pg(again.url(&db)).await {
            Ok(client) => break client,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    assert_eq!(value(&client, "SELECT 1 /* turnpike: route=primary */").await, "1");
    for _ in 0..600 {
        if connections(&db, &db.user) >= 6 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(connections(&db, &db.user) >= 6, "it is ready for as many as before");
    assert!(level(&again, &db).await >= 6.0);
    let reasons = show(&again, &db, "LIMITS", &["reason"]).await;
    assert!(reasons.iter().any(|row| row[0] == "usual at this hour"), "{reasons:?}");
    // Also where none is left and nobody asks for any, as after a night.
    drop(client);
    pg(&again.admin_url(&db)).await.simple_query("RECONNECT").await.expect("all are closed");
    eventually("it is ready before anybody comes", || connections(&db, &db.user) >= 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guarantee_holds_and_so_does_the_bound() {
    let db = Db::new();
    let extra =
        "[tenants]\nby = \"startup\"\nclaimed_by = \"*\"\n[[tenant]]\nname = \"vip\"\nguaranteed = 2\n";
    let proxy = Proxy::start(&db, ProxyOptions { extra: extra.into(), ..adaptive("max_size = 4") });
    let of = |tenant: &str| format!("{}?options=-c%20turnpike.tenant%3D{tenant}", proxy.url(&db));
    let greedy = Load::start(&of("greedy"), 20, "SELECT pg_sleep(0.5) /* turnpike: route=primary */").await;
    let vip = pg(&of("vip")).await;
    let (began, mut waited, mut most) = (Instant::now(), Duration::ZERO, 0);
    for _ in 0..30 {
        let asked = Instant::now();
        assert_eq!(value(&vip, "SELECT 1 /* turnpike: route=primary */").await, "1");
        waited += asked.elapsed();
        most = most.max(connections(&db, &db.user));
    }
    assert!(most <= 6, "four, and the two that are guaranteed, but there were {most}");
    assert!(waited < Duration::from_secs(3), "it waited for {waited:?} of {:?}", began.elapsed());
    greedy.end().await;
}
