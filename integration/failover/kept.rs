//! Results that are kept while the primary is killed and a replica promoted, by two proxies that tell each other of writes, or by
//! one that all writes pass through: whoever reads gets what was last acknowledged by any of them, or read by anybody.
//!
//! What replicas answer is no one order: of a commit that is not acknowledged yet, one may have heard before the primary shows
//! it, and another has not. Each is held to what was acknowledged; what is kept to all that was read anywhere.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use tokio_postgres::{Client, SimpleQueryMessage};

use super::bed::Bed;
use crate::harness::{rows, try_pg};
use crate::redis::Redis;

/// What is read, and where and when the server did.
const READ: &str = "SELECT n, seen_at() FROM quiet";
/// The same by a function of which it is said that it reads nothing: what is kept of that is never outdated.
const LIE: &str = "SELECT told(), seen_at() FROM still";
const FUNCTIONS: &str = "[[function]]\nname = \"told\"\nreads = []\n\
                         [[function]]\nname = \"seen_at\"\nreads = []\nwrites = []\n";
const SCHEMA: &str = "
    CREATE TABLE still (n int); INSERT INTO still VALUES (1);
    CREATE FUNCTION told() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT n FROM quiet); END';
    CREATE FUNCTION seen_at() RETURNS text STABLE LANGUAGE plpgsql AS
        'BEGIN RETURN pg_is_in_recovery() || '' '' || extract(epoch from clock_timestamp()); END';";

/// Who has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Replica,
    Primary,
    /// The proxy, with what a server had answered before.
    Proxy,
}

/// The greatest numbers that are known.
#[derive(Debug, Default)]
struct Known {
    /// Acknowledged, or given by the proxy, which gives nothing that is not.
    acknowledged: AtomicI64,
    /// That, or read on the primary.
    primary: AtomicI64,
    /// That, or read on a replica.
    anywhere: AtomicI64,
}

impl Known {
    fn load(&self) -> [i64; 3] {
        [&self.acknowledged, &self.primary, &self.anywhere].map(|known| known.load(SeqCst))
    }

    /// It has been acknowledged to a writer, or told to a reader.
    fn learn(&self, n: i64, by: Option<By>) {
        if by.is_none_or(|by| by == By::Proxy) {
            self.acknowledged.fetch_max(n, SeqCst);
        }
        if by != Some(By::Replica) {
            self.primary.fetch_max(n, SeqCst);
        }
        self.anywhere.fetch_max(n, SeqCst);
    }
}

#[derive(Default)]
struct Register {
    /// What is read, and whether that is one order for all who read, whoever answers.
    sql: &'static str,
    ordered: bool,
    known: Known,
    written: AtomicU64,
    /// Reads, by who has answered.
    reads: [AtomicU64; 3],
    stale: Mutex<Vec<String>>,
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

/// The number that was read after `begun`, and who has answered.
fn answer(messages: &[SimpleQueryMessage], begun: Duration) -> Option<(i64, By)> {
    messages.iter().find_map(|message| {
        let SimpleQueryMessage::Row(row) = message else { return None };
        let (recovers, at) = row.get(1)?.split_once(' ')?;
        let by = match recovers {
            _ if at.parse::<f64>().ok()? < begun.as_secs_f64() => By::Proxy,
            "true" => By::Replica,
            _ => By::Primary,
        };
        Some((row.get(0)?.parse().ok()?, by))
    })
}

/// As servers tell it: they are on the same machine.
fn now() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().expect("after that")
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
                    self.known.learn(n, None);
                    self.written.fetch_add(1, SeqCst);
                }
                Err(_) => clients[by] = client(&urls[by]).await,
            }
            // Now and then all replicas have what was written last, and answer when the next one is written.
            tokio::time::sleep(Duration::from_millis(if n % 8 == 0 { 250 } else { 10 })).await;
        }
    }

    fn stale<T>(&self, of: impl FnOnce(&[String]) -> T) -> T {
        of(&self.stale.lock().expect("no panic"))
    }

    async fn read(self: Arc<Self>, url: String) {
        let mut own = client(&url).await;
        while !self.over.load(SeqCst) {
            let (known, begun) = (self.known.load(), now());
            let told = own.simple_query(self.sql).await.ok();
            match told.and_then(|messages| answer(&messages, begun)) {
                Some((n, by)) => {
                    self.reads[by as usize].fetch_add(1, SeqCst);
                    let least = match by {
                        By::Replica if !self.ordered => known[0],
                        By::Primary if !self.ordered => known[1],
                        _ => known[2],
                    };
                    if n < least {
                        self.stale.lock().expect("no panic").push(format!("{n} by {by:?}, known {known:?}"));
                    }
                    self.known.learn(n, Some(by));
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
        rows(&client, sql).await;
        let route = rows(&client, &format!("EXPLAIN (ROUTE) {sql}")).await.concat().join("\n");
        if route.contains("Cache: hit") {
            break;
        }
        assert!(Instant::now() < deadline, "{route}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Reads are held against each other as far as one order of them is promised, or all of them where they are `ordered`.
async fn fails_over(bed: &mut Bed, urls: [String; 2], ordered: bool) {
    client(&urls[0]).await.batch_execute(SCHEMA).await.expect("made");
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
    let reads = register.reads.each_ref().map(|n| n.load(SeqCst));
    register.stale(|stale| assert!(stale.is_empty(), "of {reads:?} reads: {stale:#?}"));
    // Without replicas there is one order of all; with them they are asked only between writes.
    assert!(!ordered || reads[By::Replica as usize] == 0, "{reads:?}");
    assert!(reads.iter().sum::<u64>() > 100, "{reads:?} reads");
    // Results are given again: nobody writes any more.
    for url in &urls {
        given(url, READ).await;
        given(url, LIE).await;
    }
    // Where there is something to see, it is seen.
    run(&urls, (LIE, ordered), 1_000_000, async |register| {
        until("what is stale is seen", || register.stale(|stale| stale.len() > 20)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_all_write_is_read_by_all_after_a_failover() {
    let redis = Redis::start(&[]);
    let mut bed = Bed::with("cache_memory = \"32MiB\"", "").await;
    let rules = format!(
        "[redis]\nnodes = [\"127.0.0.1:{}\"]\ndeadline = \"200ms\"\n[[cache]]\ndatabase = \"t*\"\nmode = \"strict\"\n{FUNCTIONS}",
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
    let rules = format!("[[cache]]\ndatabase = \"t*\"\n{FUNCTIONS}{routes}");
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
