//! Several proxies that tell each other of writes: whoever reads, by whichever of them, gets what was last acknowledged by
//! any; also while Redis, or one of them, is gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio_postgres::Client;

use crate::caching::{keep, said};
use crate::harness::{Db, Proxy, ProxyOptions, Until, pg, value};
use crate::redis::Redis;

/// Rows that are read and written.
const ROWS: i32 = 4;

/// Proxies of one database with one Redis.
struct Bed {
    proxies: Vec<Proxy>,
    redis: Option<Redis>,
    db: Db,
}

impl Bed {
    async fn new(many: usize, mode: &str) -> Bed {
        let db = Db::new();
        db.psql(&format!(
            "SET ROLE {}; CREATE TABLE kv (id int PRIMARY KEY, n bigint NOT NULL);
             INSERT INTO kv SELECT i, 0 FROM generate_series(1, {ROWS}) i;
             CREATE TABLE shadow (n bigint NOT NULL)",
            db.user
        ));
        let redis = Redis::start(&[]);
        let proxy = |_| {
            let options = ProxyOptions {
                general: "cache_memory = \"32MiB\"".into(),
                database: format!("writers = \"proxy\"\ninvalidation_user = \"{}\"", db.user),
                extra: format!(
                    "[redis]\nnodes = [\"127.0.0.1:{}\"]\ndeadline = \"200ms\"\n[[cache]]\nmode = \"{mode}\"\n",
                    redis.port
                ),
                ..Default::default()
            };
            // A mode that asks nobody has no use for who would.
            let asks = mode == "strict";
            let database = if asks { options.database } else { "writers = \"proxy\"".into() };
            Proxy::start(&db, ProxyOptions { database, ..options })
        };
        let proxies: Vec<Proxy> = (0..many).map(proxy).collect();
        let bed = Bed { proxies, redis: Some(redis), db };
        for n in 0..many {
            bed.ready(n).await;
        }
        bed
    }

    async fn client(&self, n: usize) -> Client {
        pg(&self.proxies[n].url(&self.db)).await
    }

    /// Waits until results are kept and given.
    async fn ready(&self, n: usize) {
        let client = self.client(n).await;
        keep(&client, &read(1)).await;
        self.hits(n, &client).await;
    }

    /// Waits until a result is given.
    async fn hits(&self, n: usize, client: &Client) {
        let (before, deadline) = (self.counts(n).await["l1"], Instant::now() + Duration::from_secs(30));
        while self.counts(n).await["l1"] == before {
            value(client, &read(1)).await;
            let why = said(client, &read(1)).await;
            assert!(Instant::now() < deadline, "{why}: {:?}", self.counts(n).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Hits that SHOW CACHE counts of one.
    async fn counts(&self, n: usize) -> HashMap<String, i64> {
        let admin = pg(&self.proxies[n].admin_url(&self.db)).await;
        let rows = admin.query("SHOW CACHE", &[]).await.expect("shown");
        rows.iter().map(|row| (row.get::<_, String>("what"), row.get::<_, i64>("hits"))).collect()
    }
}

fn read(id: i32) -> String {
    format!("SELECT n FROM kv WHERE id = {id}")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_writes_others_read_at_once() {
    let bed = Bed::new(2, "strict").await;
    let clients = [bed.client(0).await, bed.client(1).await];
    for n in 1..=100 {
        let (writer, reader) = (&clients[n % 2], &clients[(n + 1) % 2]);
        writer.batch_execute(&format!("UPDATE kv SET n = {n} WHERE id = 1")).await.expect("written");
        for _ in 0..3 {
            assert_eq!(value(reader, &read(1)).await, n.to_string());
        }
        // In a transaction nobody sees it, and nobody is given what it makes of that.
        if n % 10 == 0 {
            writer.batch_execute("BEGIN; UPDATE kv SET n = -1").await.expect("written");
            assert_eq!(value(reader, &read(1)).await, n.to_string());
            writer.batch_execute(if n % 20 == 0 { "ROLLBACK" } else { "COMMIT" }).await.expect("ended");
            let want = if n % 20 == 0 { n.to_string() } else { "-1".into() };
            assert_eq!(value(reader, &read(1)).await, want);
        }
    }
    assert!(bed.counts(0).await["l1"] + bed.counts(1).await["l1"] > 50, "{:?}", bed.counts(0).await);
    // By the extended protocol, in a pipeline.
    let [one, two] = &clients;
    let update = one.prepare("UPDATE kv SET n = n + 1 WHERE id = $1").await.expect("prepared");
    let select = two.prepare("SELECT n FROM kv WHERE id = $1").await.expect("prepared");
    for n in 1..=50i64 {
        one.execute(&update, &[&2]).await.expect("written");
        let rows = two.query(&select, &[&2]).await.expect("read");
        assert_eq!(rows[0].get::<_, i64>(0), n - 1);
    }
}

/// What a table is made of, and what writing to it does, is the same for all at once.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_defines_others_know() {
    let bed = Bed::new(2, "strict").await;
    let [one, two] = [bed.client(0).await, bed.client(1).await];
    let count = "SELECT count(*) FROM shadow";
    keep(&one, count).await;
    keep(&two, &read(1)).await;
    two.batch_execute(
        "CREATE FUNCTION follow() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO shadow VALUES (NEW.n); RETURN NEW; END $$;
         CREATE TRIGGER follow AFTER UPDATE ON kv FOR EACH ROW EXECUTE FUNCTION follow()",
    )
    .await
    .expect("defined");
    for n in 1..=20 {
        // It has planned that when there was no trigger.
        let (writer, reader) = if n % 2 == 0 { (&one, &two) } else { (&two, &one) };
        writer.batch_execute(&format!("UPDATE kv SET n = {n} WHERE id = 1")).await.expect("written");
        assert_eq!(value(reader, count).await, n.to_string());
    }
    keep(&one, &read(1)).await;
    two.batch_execute("ALTER TABLE kv ALTER n TYPE text USING 'is ' || n").await.expect("defined");
    assert_eq!(value(&one, &read(1)).await, "is 20");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_gone_holds_writes_up_once() {
    let mut bed = Bed::new(2, "strict").await;
    let [one, two] = [bed.client(0).await, bed.client(1).await];
    let port = bed.redis.take().expect("there is one").port;
    let mut longest = Duration::ZERO;
    for n in 1..=20 {
        let began = Instant::now();
        one.batch_execute(&format!("UPDATE kv SET n = {n} WHERE id = 1")).await.expect("written");
        if n == 1 {
            assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        } else {
            longest = longest.max(began.elapsed());
        }
        for _ in 0..2 {
            assert_eq!(value(&two, &read(1)).await, n.to_string());
        }
    }
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    let why = said(&two, &read(1)).await;
    assert!(why.contains("Redis is not there"), "{why}");
    // Whatever it had is gone with it.
    bed.redis = Some(Redis::at(port, &["--save", "", "--appendonly", "no"]));
    for n in [0, 1] {
        bed.ready(n).await;
    }
    for n in 21..=40 {
        let (writer, reader) = if n % 2 == 0 { (&one, &two) } else { (&two, &one) };
        writer.batch_execute(&format!("UPDATE kv SET n = {n} WHERE id = 1")).await.expect("written");
        for _ in 0..2 {
            assert_eq!(value(reader, &read(1)).await, n.to_string());
        }
    }
    // It is as if it had been started again.
    bed.redis.as_ref().expect("there is one").cli(&["flushall"]);
    two.batch_execute("UPDATE kv SET n = 41 WHERE id = 1").await.expect("written");
    assert_eq!(value(&one, &read(1)).await, "41");
    bed.ready(0).await;
}

/// One that is killed may have sent what the server is still about to do.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_killed_is_waited_for() {
    let bed = Bed::new(2, "strict").await;
    let [one, two] = [bed.client(0).await, bed.client(1).await];
    one.batch_execute("BEGIN; UPDATE kv SET n = 5 WHERE id = 2").await.expect("written");
    let late = bed.client(0).await;
    let slow = tokio::spawn(async move {
        let slow = "UPDATE kv SET n = 7 WHERE id = 1 AND (SELECT pg_sleep(4)) IS NOT NULL";
        let _ = late.batch_execute(slow).await;
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    bed.proxies[0].signal(Signal::SIGKILL);
    let (mut seen, began) = (0, Instant::now());
    // Never what was before once what is new has been seen; and it is given at last.
    while seen == 0 || began.elapsed() < Duration::from_secs(8) {
        let now = value(&two, &read(1)).await.parse::<i64>().expect("a number");
        assert!(now >= seen, "{now} after {seen}");
        assert_eq!(value(&two, &read(2)).await, "0");
        seen = now;
        assert!(began.elapsed() < Duration::from_secs(30), "what was sent is done");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(seen, 7);
    bed.hits(1, &two).await;
    let _ = slow.await;
}

/// What a run has shown.
#[derive(Default)]
struct Register {
    /// For each row, the greatest that was acknowledged or read.
    least: [AtomicI64; ROWS as usize],
    reads: AtomicU64,
    stale: AtomicU64,
    over: AtomicBool,
}

impl Register {
    async fn write(self: Arc<Self>, clients: Vec<Client>, row: i32) {
        for n in 1.. {
            if self.over.load(SeqCst) {
                return;
            }
            let sql = format!("UPDATE kv SET n = {n} WHERE id = {row}");
            clients[n as usize % clients.len()].batch_execute(&sql).await.expect("written");
            self.least[row as usize - 1].fetch_max(n, SeqCst);
            tokio::time::sleep(Duration::from_millis(7)).await;
        }
    }

    async fn read(self: Arc<Self>, client: Client) {
        let mut row = 0;
        while !self.over.load(SeqCst) {
            row = row % ROWS + 1;
            let least = &self.least[row as usize - 1];
            let before = least.load(SeqCst);
            let now: i64 = value(&client, &read(row)).await.parse().expect("a number");
            self.reads.fetch_add(1, SeqCst);
            self.stale.fetch_add(u64::from(now < before), SeqCst);
            least.fetch_max(now, SeqCst);
        }
    }
}

/// Writes and reads by all proxies, for as long as something else goes on.
async fn run(bed: &Bed, meanwhile: impl AsyncFnOnce(&Register)) -> Arc<Register> {
    let register = Arc::<Register>::default();
    let mut tasks = tokio::task::JoinSet::new();
    for row in 1..=ROWS {
        let mut clients = Vec::new();
        for n in 0..bed.proxies.len() {
            clients.push(bed.client(n).await);
        }
        tasks.spawn(register.clone().write(clients, row));
    }
    for n in 0..bed.proxies.len() * 3 {
        tasks.spawn(register.clone().read(bed.client(n % bed.proxies.len()).await));
    }
    meanwhile(&register).await;
    register.over.store(true, SeqCst);
    tasks.join_all().await;
    register
}

/// Each read begins after what it must at least see: what was acknowledged to anybody, or read by anybody, before.
#[allow(clippy::print_stdout, reason = "what a long run is for")]
#[tokio::test(flavor = "multi_thread")]
async fn the_register_is_one() {
    let mut bed = Bed::new(2, "strict").await;
    let redis = bed.redis.take().expect("there is one");
    let port = redis.port;
    let mut redis = Some(redis);
    let seconds = std::env::var("TURNPIKE_STRICT_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(16);
    let before = bed.counts(0).await["l1"] + bed.counts(1).await["l1"];
    let register = run(&bed, async |_| {
        let (began, mut round) = (Instant::now(), 0);
        while began.elapsed() < Duration::from_secs(seconds) {
            tokio::time::sleep(Duration::from_secs(1)).await;
            match round % 16 {
                3 => drop(redis.as_ref().map(|redis| redis.cli(&["flushall"]))),
                5 => redis.iter().for_each(|redis| redis.signal(Signal::SIGSTOP)),
                6 => redis.iter().for_each(|redis| redis.signal(Signal::SIGCONT)),
                9 => redis = None,
                11 => redis = Some(Redis::at(port, &["--save", "", "--appendonly", "no"])),
                _ => {}
            }
            round += 1;
        }
    })
    .await;
    let hits = bed.counts(0).await["l1"] + bed.counts(1).await["l1"] - before;
    let (reads, stale) = (register.reads.load(SeqCst), register.stale.load(SeqCst));
    println!("{reads} reads, {hits} of them hits, {stale} stale");
    assert_eq!(stale, 0, "of {reads} reads, {hits} of them hits");
    assert!(reads > 500 && hits > 50, "{reads} reads, {hits} of them hits");
}

/// Whoever does not tell others is caught by that.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_strict_is_found_out() {
    let bed = Bed::new(2, "exact").await;
    let until = Until::stale();
    let register = run(&bed, async |register| {
        while !until.is_over(0, register.stale.load(SeqCst) as usize) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let reads = register.reads.load(SeqCst);
    assert!(register.stale.load(SeqCst) > 0, "of {reads} reads: the checker is blind");
}
