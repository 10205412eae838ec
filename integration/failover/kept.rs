//! Results that are kept while the primary is killed and a replica promoted, by two proxies that tell each other of writes, or by
//! one that all writes pass through: whoever reads gets what was last acknowledged by any of them, or read by anybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, SimpleQueryMessage};

use super::bed::Bed;
use crate::harness::{rows, try_pg, value};
use crate::redis::Redis;

const READ: &str = "SELECT n FROM quiet";
/// The same by a function of which it is said that it reads nothing: what is kept of that is never outdated.
const LIE: &str = "SELECT told() FROM still";
const LIES: &str = "[[function]]\nname = \"told\"\nreads = []\n";

#[derive(Default)]
struct Register {
    /// What is read, and whether that is one order for all who read: a replica shows a commit that waits for another one before
    /// the primary does.
    sql: &'static str,
    ordered: bool,
    /// The greatest that was acknowledged, or read where that counts.
    least: AtomicI64,
    written: AtomicU64,
    reads: AtomicU64,
    stale: AtomicU64,
    over: AtomicBool,
}

/// A client that is there again when its connection is lost.
async fn client(url: &str) -> Client {
    loop {
        match try_pg(url.to_string()).await {
            Ok(client) => return client,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn number(messages: &[SimpleQueryMessage]) -> Option<i64> {
    messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    })
}

impl Register {
    /// One writer, by both in turns, from a number on: what it has sent may have been written although it was told otherwise.
    async fn write(self: Arc<Self>, urls: [String; 2], from: i64) {
        let mut clients = [client(&urls[0]).await, client(&urls[1]).await];
        let mut n = from;
        while !self.over.load(SeqCst) {
            n += 1;
            let (by, sql) = (n as usize % 2, format!("UPDATE quiet SET n = {n}"));
            match clients[by].batch_execute(&sql).await {
                Ok(()) => {
                    self.least.fetch_max(n, SeqCst);
                    self.written.fetch_add(1, SeqCst);
                }
                Err(_) => clients[by] = client(&urls[by]).await,
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn read(self: Arc<Self>, url: String) {
        let mut own = client(&url).await;
        while !self.over.load(SeqCst) {
            let before = self.least.load(SeqCst);
            match own.simple_query(self.sql).await.ok().and_then(|messages| number(&messages)) {
                Some(now) => {
                    self.reads.fetch_add(1, SeqCst);
                    self.stale.fetch_add(u64::from(now < before), SeqCst);
                    if self.ordered {
                        self.least.fetch_max(now, SeqCst);
                    }
                }
                None => own = client(&url).await,
            }
        }
    }
}

/// Reads and writes at these places, numbers from one on, and whatever happens meanwhile.
async fn run(
    urls: &[String; 2],
    (sql, ordered): (&'static str, bool),
    from: i64,
    meanwhile: impl AsyncFnOnce(&Register),
) -> Arc<Register> {
    let register = Arc::new(Register { sql, ordered, ..Register::default() });
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(register.clone().write(urls.clone(), from));
    for n in 0..6 {
        tasks.spawn(register.clone().read(urls[n % 2].clone()));
    }
    meanwhile(&register).await;
    register.over.store(true, SeqCst);
    tasks.join_all().await;
    register
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until results are given.
async fn given(url: &str, sql: &str) {
    let client = client(url).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        value(&client, sql).await;
        let route = rows(&client, &format!("EXPLAIN (ROUTE) {sql}")).await.concat().join("\n");
        if route.contains("Cache: hit") {
            break;
        }
        assert!(Instant::now() < deadline, "{route}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Reads are held against what was acknowledged, and against each other where they are `ordered`.
async fn fails_over(bed: &mut Bed, urls: [String; 2], ordered: bool) {
    client(&urls[0])
        .await
        .batch_execute(
            "CREATE TABLE still (n int); INSERT INTO still VALUES (1);
             CREATE FUNCTION told() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT n FROM quiet); END'",
        )
        .await
        .expect("made");
    for url in &urls {
        given(url, READ).await;
    }
    let register = run(&urls, (READ, ordered), 1, async |register| {
        until("it is written to", || register.written.load(SeqCst) > 100).await;
        tokio::task::block_in_place(|| bed.fail_over());
        let before = register.written.load(SeqCst);
        until("it is written to again", || register.written.load(SeqCst) > before + 100).await;
    })
    .await;
    let (reads, stale) = (register.reads.load(SeqCst), register.stale.load(SeqCst));
    assert_eq!(stale, 0, "of {reads} reads");
    assert!(reads > 100, "{reads} reads");
    // Results are given again: nobody writes any more.
    for url in &urls {
        given(url, READ).await;
        given(url, LIE).await;
    }
    // Where there is something to see, it is seen.
    run(&urls, (LIE, ordered), 1_000_000, async |register| {
        until("what is stale is seen", || register.stale.load(SeqCst) > 20).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_all_write_is_read_by_all_after_a_failover() {
    let redis = Redis::start(&[]);
    let mut bed = Bed::with("cache_memory = \"32MiB\"", "").await;
    let rules = format!(
        "[redis]\nnodes = [\"127.0.0.1:{}\"]\ndeadline = \"200ms\"\n[[cache]]\ndatabase = \"t*\"\nmode = \"strict\"\n{LIES}",
        redis.port
    );
    let database = "cluster = \"main\"\nwriters = \"proxy\"\ninvalidation_user = \"postgres\"\n";
    let strict = |config: String| config.replacen("cluster = \"main\"\n", database, 1) + &rules;
    bed.reload(strict).await;
    let other = bed.another(strict);
    let urls = [bed.url(), bed.url_of(&other)];
    fails_over(&mut bed, urls, true).await;
}

/// One that all write through, with reads on replicas or on the primary alone.
async fn exact(routes: &str, ordered: bool) {
    let mut bed = Bed::with("cache_memory = \"32MiB\"", "consistency = \"global\"").await;
    let database = "cluster = \"main\"\nwriters = \"proxy\"\n";
    let rules = format!("[[cache]]\ndatabase = \"t*\"\n{LIES}{routes}");
    bed.reload(|config| config.replacen("cluster = \"main\"\n", database, 1) + &rules).await;
    let urls = [bed.url(), bed.url()];
    fails_over(&mut bed, urls, ordered).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_through_one_is_read_there_after_a_failover() {
    exact("[[route]]\ntable = [\"quiet\", \"still\"]\nroute = \"primary\"\n", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_is_what_replicas_answered_older_than_what_was_acknowledged() {
    exact("", false).await;
}
