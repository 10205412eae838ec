//! Two proxies that tell each other of writes, while the primary is killed and a replica promoted: whoever reads gets what was
//! last acknowledged by either, or read by anybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, SimpleQueryMessage};

use super::bed::Bed;
use crate::harness::{rows, try_pg, value};
use crate::redis::Redis;

const READ: &str = "SELECT n FROM quiet";

#[derive(Default)]
struct Register {
    /// The greatest that was acknowledged or read.
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
    /// One writer, by both in turns: what it has sent may have been written although it was told otherwise.
    async fn write(self: Arc<Self>, urls: [String; 2]) {
        let mut clients = [client(&urls[0]).await, client(&urls[1]).await];
        let mut n = 1;
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
            match own.simple_query(READ).await.ok().and_then(|messages| number(&messages)) {
                Some(now) => {
                    self.reads.fetch_add(1, SeqCst);
                    self.stale.fetch_add(u64::from(now < before), SeqCst);
                    self.least.fetch_max(now, SeqCst);
                }
                None => own = client(&url).await,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_all_write_is_read_by_all_after_a_failover() {
    let redis = Redis::start(&[]);
    let mut bed = Bed::with("cache_memory = \"32MiB\"", "").await;
    let rules = format!(
        "[redis]\nnodes = [\"127.0.0.1:{}\"]\ndeadline = \"200ms\"\n[[cache]]\ndatabase = \"t*\"\nmode = \"strict\"\n",
        redis.port
    );
    let database = "cluster = \"main\"\nwriters = \"proxy\"\ninvalidation_user = \"postgres\"\n";
    let strict = |config: String| config.replacen("cluster = \"main\"\n", database, 1) + &rules;
    bed.reload(strict).await;
    let other = bed.another(strict);
    let urls = [bed.url(), bed.url_of(&other)];
    let register = Arc::<Register>::default();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(register.clone().write(urls.clone()));
    for n in 0..6 {
        tasks.spawn(register.clone().read(urls[n % 2].clone()));
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    let before = register.written.load(SeqCst);
    let (heir, old) = tokio::task::block_in_place(|| bed.fail_over());
    let deadline = Instant::now() + Duration::from_secs(30);
    while register.written.load(SeqCst) < before + 100 {
        assert!(Instant::now() < deadline, "{} is written to: {}", heir.name, register.written.load(SeqCst));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    register.over.store(true, SeqCst);
    tasks.join_all().await;
    let (reads, stale) = (register.reads.load(SeqCst), register.stale.load(SeqCst));
    assert_eq!(stale, 0, "of {reads} reads");
    assert!(before > 20 && reads > 100, "{before} written before, {reads} reads");
    // Results are given again: nobody writes any more.
    let client = client(&urls[1]).await;
    let hit = "EXPLAIN (ROUTE) SELECT n FROM quiet";
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        value(&client, READ).await;
        let route = rows(&client, hit).await.concat().join("\n");
        if route.contains("Cache: hit") {
            break;
        }
        assert!(Instant::now() < deadline, "{route}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop((old, other));
}
