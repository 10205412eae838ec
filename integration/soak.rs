//! A long run of everything at once: clients that come, work, cancel, abort and vanish, while server processes are
//! terminated and the configuration is read again. Nobody ever sees another's answer or state, nothing is left
//! behind, and memory stays flat. Not part of the ordinary tests: `make soak`, for `TURNPIKE_SOAK_SECONDS` (600).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, Error, NoTls};

use crate::harness::{Db, Proxy, ProxyOptions, eventually, pg};

const CLIENTS: u64 = 500;

/// A small generator: the soak needs variety, not secrecy.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[derive(Default)]
struct Tally {
    done: AtomicU64,
    lost: AtomicU64,
    sessions: AtomicU64,
}

async fn one(client: &Client, sql: &str) -> Result<String, Error> {
    let messages = client.simple_query(sql).await?;
    let row = messages.iter().rev().find_map(|m| match m {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_string()),
        _ => None,
    });
    Ok(row.unwrap_or_default())
}

/// One thing that a client may do; what it learns must be its own.
async fn act(client: &Client, me: u64, dice: &mut Dice) -> Result<(), Error> {
    let own = format!("c{me}");
    match dice.roll(12) {
        0 => assert_eq!(one(client, &format!("SELECT '{own}'")).await?, own),
        1 => {
            let row = client.query_one("SELECT $1::text || $2::int4", &[&own, &7i32]).await?;
            assert_eq!(row.get::<_, String>(0), format!("{own}7"));
        }
        2 => {
            client.batch_execute(&format!("SET app.me = '{own}'; SET work_mem = '{}kB'", 1000 + me)).await?;
            assert_eq!(one(client, "SELECT current_setting('app.me', true)").await?, own);
        }
        3 => {
            let seen = one(client, "SELECT coalesce(current_setting('app.me', true), '')").await?;
            assert!(seen.is_empty() || seen == own, "{own} sees {seen}");
        }
        4 => {
            client
                .batch_execute(&format!("BEGIN; SET LOCAL app.me = 'x'; INSERT INTO soak VALUES ({me})"))
                .await?;
            client.batch_execute("ROLLBACK").await?;
        }
        5 => {
            client
                .batch_execute(&format!(
                    "DROP TABLE IF EXISTS pg_temp.mine; CREATE TEMP TABLE mine AS SELECT {me} AS x"
                ))
                .await?;
            assert_eq!(one(client, "SELECT x FROM mine").await?, me.to_string());
            client.batch_execute("DROP TABLE mine").await?;
        }
        6 => {
            client.batch_execute(&format!("SELECT pg_advisory_lock({me})")).await?;
            assert_eq!(one(client, &format!("SELECT pg_advisory_unlock({me})")).await?, "t");
        }
        7 => {
            let token = client.cancel_token();
            let asleep = client.simple_query("SELECT pg_sleep(10)");
            let cancel = async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                token.cancel_query(NoTls).await
            };
            let (slept, _) = tokio::join!(asleep, cancel);
            // A cancel that comes before its statement cancels nothing, as in Postgres.
            if let Err(error) = slept
                && error.code().map(|c| c.code()) != Some("57014")
            {
                return Err(error);
            }
        }
        8 => {
            client.batch_execute(&format!("DEALLOCATE ALL; PREPARE s AS SELECT '{own}'")).await?;
            assert_eq!(one(client, "EXECUTE s").await?, own);
        }
        9 => {
            client.batch_execute(&format!("LISTEN {own}; NOTIFY {own}")).await?;
            client.batch_execute("UNLISTEN *").await?;
        }
        10 => {
            let failed = client.batch_execute("BEGIN; SELECT 1/0; SELECT 2").await;
            assert!(failed.is_err());
            client.batch_execute("ROLLBACK").await?;
        }
        _ => {
            let sum = one(client, "SELECT count(*) FROM generate_series(1, 20000)").await?;
            assert_eq!(sum, "20000");
        }
    }
    Ok(())
}

async fn live(url: String, me: u64, until: Instant, tally: Arc<Tally>) {
    let mut dice = Dice(me * 2_654_435_761 + 1);
    while Instant::now() < until {
        let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let running = tokio::spawn(connection);
        tally.sessions.fetch_add(1, Relaxed);
        for _ in 0..dice.roll(60) + 1 {
            match act(&client, me, &mut dice).await {
                Ok(()) => tally.done.fetch_add(1, Relaxed),
                Err(_) => {
                    tally.lost.fetch_add(1, Relaxed);
                    break;
                }
            };
            tokio::time::sleep(Duration::from_millis(dice.roll(30))).await;
        }
        if dice.roll(3) == 0 {
            // Vanishes with something under way.
            let _ = tokio::time::timeout(Duration::from_millis(5), client.simple_query("SELECT pg_sleep(1)"))
                .await;
            running.abort();
        }
    }
}

/// Server processes end, and the configuration changes, every now and then.
async fn disturb(db: Db, proxy: Arc<Proxy>, until: Instant) -> Db {
    let mut round = 0;
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_secs(2)).await;
        round += 1;
        let (name, user) = (db.name.clone(), db.user.clone());
        let cluster = db.cluster();
        let kill = format!(
            "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE usename = '{user}' ORDER BY random() LIMIT 1) x"
        );
        let _ = tokio::task::spawn_blocking(move || cluster.primary().psql(&name, &kill)).await;
        if round % 3 == 0 {
            proxy.reload(&db, &options(20 + round % 5));
        }
    }
    db
}

fn options(size: u64) -> ProxyOptions {
    ProxyOptions { pool: format!("size = {size}\nwait_timeout = \"30s\""), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes TURNPIKE_SOAK_SECONDS, ten minutes by default"]
#[allow(clippy::print_stderr, reason = "whoever waits for minutes wants to see where it is")]
async fn soak() {
    let seconds = std::env::var("TURNPIKE_SOAK_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(600);
    let db = Db::new();
    db.psql("CREATE TABLE soak (a int); GRANT ALL ON soak TO PUBLIC");
    let proxy = Arc::new(Proxy::start(&db, options(20)));
    let tally = Arc::new(Tally::default());
    let until = Instant::now() + Duration::from_secs(seconds);
    let url = proxy.url(&db);
    let clients: Vec<_> =
        (1..=CLIENTS).map(|me| tokio::spawn(live(url.clone(), me, until, tally.clone()))).collect();
    let disturber = tokio::spawn(disturb(db, proxy.clone(), until));
    let mut memory = Vec::new();
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_secs((seconds / 20).max(1))).await;
        memory.push(proxy.rss() >> 10);
        let (done, lost) = (tally.done.load(Relaxed), tally.lost.load(Relaxed));
        eprintln!(
            "soak: {done} done, {lost} lost, {} sessions, {} KiB",
            tally.sessions.load(Relaxed),
            memory[memory.len() - 1]
        );
    }
    for client in clients {
        client.await.expect("nobody saw what was not its own");
    }
    let db = disturber.await.expect("it ends");
    let done = tally.done.load(Relaxed);
    assert!(done > seconds * 100, "only {done} done");
    // The first quarter warms up; from then on it must not grow.
    let (early, late) = (memory[memory.len() / 4], memory[memory.len() - 1]);
    assert!(late < early + early / 4 + 4096, "memory grows: {memory:?}");
    assert_eq!(db.psql("SELECT count(*) FROM soak"), "0");
    eventually("nothing is held", || {
        db.psql(&format!(
            "SELECT (SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database() WHERE l.pid <> pg_backend_pid())
                  + (SELECT count(*) FROM pg_stat_activity WHERE usename = '{}' AND state <> 'idle')
                  + (SELECT count(*) FROM pg_prepared_xacts)",
            db.user
        )) == "0"
    });
    let admin = pg(&proxy.admin_url(&db)).await;
    eventually("nobody is left", || proxy.log().lines().all(|line| !line.contains("panicked")));
    let clients = crate::harness::rows(&admin, "SHOW CLIENTS").await;
    assert!(clients.is_empty(), "{clients:?}");
}
