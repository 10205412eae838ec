//! Several proxies in front of one server that share what they keep in Redis: what one has read others find, and itself
//! when it comes again; never what was written since, by whom and by which way ever.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::caching::{keep, said};
use crate::harness::{Db, Proxy, ProxyOptions, cluster, pg, value};
use crate::redis::Redis;

/// How far behind what is written elsewhere results may be.
const BOUND: Duration = Duration::from_millis(200);
/// Rows that are read.
const ROWS: i32 = 20;

/// Proxies of one database with one Redis.
pub struct Bed {
    pub db: Db,
    pub redis: Redis,
    pub proxies: Vec<Proxy>,
    rules: String,
    keys: TempDir,
}

impl Bed {
    /// As many proxies, with these rules, and what they read.
    pub async fn new(many: usize, rules: &str) -> Bed {
        let db = Db::new();
        db.psql(&format!("ALTER ROLE {} REPLICATION", db.user));
        db.psql(&format!(
            "SET ROLE {}; CREATE TABLE kv (id int PRIMARY KEY, v text NOT NULL);
             INSERT INTO kv SELECT i, 'a' FROM generate_series(0, {ROWS}) i;
             CREATE TABLE parent (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
             CREATE TABLE low PARTITION OF parent FOR VALUES FROM (0) TO (10);
             INSERT INTO parent VALUES (1, 1)",
            db.user
        ));
        let redis = Redis::start(&[]);
        let keys = tempfile::tempdir().expect("a directory");
        let mut bed = Bed { db, redis, proxies: Vec::new(), rules: rules.into(), keys };
        bed.key("key", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");
        bed.key("other", "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");
        for n in 0..many {
            let proxy = bed.proxy(&format!("{}_{n}", bed.db.name), "key", bed.redis.port);
            bed.proxies.push(proxy);
        }
        for n in 0..many {
            keep(&bed.client(n).await, "SELECT v FROM kv WHERE id = 0").await;
        }
        bed
    }

    fn key(&self, name: &str, text: &str) -> PathBuf {
        let path = self.keys.path().join(name);
        std::fs::write(&path, text).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).expect("ours");
        path
    }

    /// One with this slot and key.
    fn proxy(&self, slot: &str, key: &str, redis: u16) -> Proxy {
        let db = &self.db;
        let (key, rules) = (self.keys.path().join(key), &self.rules);
        let options = ProxyOptions {
            general: "cache_memory = \"32MiB\"".into(),
            database: format!(
                "invalidation = \"wal\"\ninvalidation_user = \"{}\"\ninvalidation_slot = \"{slot}\"",
                db.user
            ),
            extra: format!(
                "[redis]\nnodes = [\"127.0.0.1:{redis}\"]\ndeadline = \"1s\"\ncoalesce = \"3s\"\nkey_file = {key:?}\n{rules}"
            ),
            ..Default::default()
        };
        let proxy = Proxy::start(db, options);
        tell(&proxy, db, "enable-wal");
        proxy
    }

    pub async fn client(&self, n: usize) -> Client {
        pg(&self.proxies[n].url(&self.db)).await
    }

    /// What SHOW CACHE counts of one: how many, hits, misses.
    async fn counts(&self, n: usize) -> HashMap<String, [i64; 3]> {
        let admin = pg(&self.proxies[n].admin_url(&self.db)).await;
        let rows = admin.query("SHOW CACHE", &[]).await.expect("shown");
        let of = |row: &tokio_postgres::Row| ["count", "hits", "misses"].map(|n| row.get::<_, i64>(n));
        rows.iter().map(|row| (row.get::<_, String>("what"), of(row))).collect()
    }

    async fn found(&self, n: usize) -> i64 {
        self.counts(n).await["l2"][1]
    }

    /// Waits until what one has read is kept for others.
    async fn stored(&self, n: usize, least: i64) {
        self.until(&format!("{least} are stored"), async || self.counts(n).await["l2"][0] >= least).await;
    }

    async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !holds().await {
            let last = self.proxies.len() - 1;
            assert!(
                Instant::now() < deadline,
                "{what}: {:?}",
                (self.counts(0).await, self.counts(last).await)
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // A database with a slot cannot be dropped, and there are only so many.
        for proxy in &self.proxies {
            run(proxy, &self.db, "disable-wal");
        }
    }
}

fn run(proxy: &Proxy, db: &Db, command: &str) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_turnpike"))
        .args(["cache", command, "-u", "postgres", "-d", &db.name, "-c"])
        .arg(proxy.config())
        .env("PGPASSWORD", cluster().password())
        .output()
        .expect("it runs")
}

fn tell(proxy: &Proxy, db: &Db, command: &str) {
    let done = run(proxy, db, command);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn read(id: i32) -> String {
    format!("SELECT v FROM kv WHERE id = {id}")
}

/// Reads all rows; each is what it should be.
async fn all(client: &Client, want: &str) {
    for id in 1..=ROWS {
        assert_eq!(value(client, &read(id)).await, want, "row {id}");
    }
}

const RULES: &str = "[[cache]]\nlevels = [\"l1\", \"l2\"]\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_one_has_read_others_find() {
    let bed = Bed::new(2, RULES).await;
    let (one, two) = (bed.client(0).await, bed.client(1).await);
    bed.stored(0, 1).await;
    all(&one, "a").await;
    bed.stored(0, i64::from(ROWS)).await;
    // Roles are the whole server's: other tests make some, and what was kept before is of no use then.
    let (before, mut pass) = (bed.found(1).await, 0);
    bed.until("half of them are found", async || {
        pass += 1;
        for client in [&one, &two] {
            for id in 1..=ROWS {
                let sql = format!("SELECT v FROM kv WHERE id = {id} AND id < {}", 1000 + pass);
                assert_eq!(value(client, &sql).await, "a");
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        bed.found(1).await - before >= i64::from(ROWS) / 2
    })
    .await;
    // It says so where it is asked.
    let sql = format!("SELECT v FROM kv WHERE id = 2 AND id < {}", 3000);
    bed.until("the other says that it is there", async || {
        value(&one, &sql).await;
        said(&two, &sql).await.starts_with("miss in memory, and Redis has it")
    })
    .await;
    assert!(said(&two, &format!("{sql}1")).await.starts_with("miss, also in Redis"));
    // What it found it has in memory, and it gives it until something is written.
    keep(&two, &read(1)).await;
    // By itself: at once. By the other, or past both: within the bound.
    two.batch_execute("UPDATE kv SET v = 'b'").await.expect("written");
    all(&two, "b").await;
    tokio::time::sleep(BOUND).await;
    all(&one, "b").await;
    one.batch_execute("UPDATE kv SET v = 'c'").await.expect("written");
    all(&one, "c").await;
    bed.db.psql("UPDATE kv SET v = 'd'");
    tokio::time::sleep(BOUND).await;
    all(&two, "d").await;
    all(&one, "d").await;
    // A part of a table that another has read.
    let count = "SELECT count(*) FROM parent";
    keep(&one, count).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(value(&two, count).await, "1");
    bed.db.psql("INSERT INTO low VALUES (2, 2)");
    tokio::time::sleep(BOUND).await;
    assert_eq!((value(&two, count).await, value(&one, count).await), ("2".into(), "2".into()));
    // Definitions: what was read under others is of no use.
    all(&one, "d").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    bed.db.psql(&format!("SET ROLE {}; ALTER TABLE kv ALTER v TYPE text USING 'e'", bed.db.user));
    tokio::time::sleep(BOUND).await;
    all(&two, "e").await;
    all(&one, "e").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_has_read_it_finds_when_it_comes_again() {
    let mut bed = Bed::new(1, RULES).await;
    let one = bed.client(0).await;
    bed.stored(0, 1).await;
    all(&one, "a").await;
    bed.stored(0, i64::from(ROWS)).await;
    let again = |bed: &mut Bed| {
        let old = bed.proxies.remove(0);
        old.signal(Signal::SIGKILL);
        old.wait();
        let proxy = old.again(|config| config);
        bed.proxies.push(proxy);
    };
    // Roles are the whole server's: other tests make some, and what was kept before is of no use then.
    for attempt in 3.. {
        // What it knows has been told.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        again(&mut bed);
        // While nobody looks, something else is written.
        bed.db.psql(&format!("INSERT INTO low VALUES ({attempt}, 3)"));
        let one = ready(&bed).await;
        // What it finds out when it begins takes a moment, and somebody must ask.
        keep(&one, &read(0)).await;
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let before = bed.found(0).await;
        all(&one, "a").await;
        let found = bed.found(0).await - before;
        if found >= i64::from(ROWS) / 2 {
            break;
        }
        assert!(attempt < 8, "{found} of {ROWS}: {:?}", bed.counts(0).await);
    }
    again(&mut bed);
    bed.db.psql("UPDATE kv SET v = 'c'");
    let one = ready(&bed).await;
    for _ in 0..40 {
        all(&one, "c").await;
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// A client of the first, once that listens.
async fn ready(bed: &Bed) -> Client {
    loop {
        if let Ok(client) = crate::harness::try_pg(bed.proxies[0].url(&bed.db)).await {
            return client;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Two processes that miss the same at once: one asks the server, and the other waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_second_waits_for_the_first() {
    let bed = Bed::new(2, RULES).await;
    let (one, two) = (bed.client(0).await, bed.client(1).await);
    bed.stored(0, 1).await;
    // What they find out when they begin takes a moment.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let slow = "SELECT count(*) FROM kv a, kv b, kv c, kv d WHERE a.v || b.v || c.v || d.v > '";
    let (mut waited, mut found) = (0, 0);
    for n in 0..5 {
        let sql = format!("{slow}{n}'");
        let before = (bed.counts(0).await, bed.counts(1).await);
        let (got, same) = tokio::join!(value(&one, &sql), value(&two, &sql));
        assert_eq!((got.as_str(), same.as_str()), ("194481", "194481"));
        let after = (bed.counts(0).await, bed.counts(1).await);
        let more = |what: &str, at: usize| {
            after.0[what][at] - before.0[what][at] + after.1[what][at] - before.1[what][at]
        };
        waited += more("l2 waited", 0);
        found += more("l2", 1);
    }
    assert!(waited >= 3 && found >= 3, "{waited} have waited, {found} were found: {:?}", bed.counts(1).await);
    // Who waits for somebody who does not come asks as well: what is written in between is another turn.
    two.batch_execute("UPDATE kv SET v = 'b' WHERE id = 1").await.expect("written");
    assert_eq!(value(&two, "SELECT v FROM kv WHERE id = 1").await, "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_flushed_changed_or_lost_is_not_found() {
    let mut bed = Bed::new(2, RULES).await;
    let (one, two) = (bed.client(0).await, bed.client(1).await);
    bed.stored(0, 1).await;
    all(&one, "a").await;
    bed.stored(0, i64::from(ROWS)).await;
    // Whoever flushes does so for all.
    let admin = pg(&bed.proxies[0].admin_url(&bed.db)).await;
    admin.batch_execute("FLUSH CACHE").await.expect("flushed");
    bed.until("the other has heard", async || bed.counts(1).await["all"][0] > 0).await;
    let before = bed.found(1).await;
    all(&two, "a").await;
    assert_eq!(bed.found(1).await, before);
    // What was changed in Redis is not believed.
    bed.stored(1, i64::from(ROWS)).await;
    for key in bed.redis.cli(&["keys", "turnpike:result:*"]).lines() {
        bed.redis.cli(&["setrange", key, "60", "xyz"]);
    }
    let broken = bed.counts(0).await["l2 broken"][0];
    all(&one, "a").await;
    // Nobody waits for something else to come in its place, though the other has had the turn at reading it.
    let more = bed.counts(0).await["l2 broken"][0] - broken;
    assert!((1..=i64::from(ROWS)).contains(&more), "{more} are broken: {:?}", bed.counts(0).await);
    // Who has another key finds nothing, and nothing is found of his.
    let slot = format!("{}_x", bed.db.name);
    let other = bed.proxy(&slot, "other", bed.redis.port);
    bed.proxies.push(other);
    let three = bed.client(2).await;
    keep(&three, &read(1)).await;
    all(&three, "a").await;
    assert_eq!(bed.found(2).await, 0, "{:?}", bed.counts(2).await);
    // Redis dies, and comes again with nothing.
    let port = bed.redis.port;
    bed.redis.signal(Signal::SIGKILL);
    all(&one, "a").await;
    two.batch_execute("UPDATE kv SET v = 'b'").await.expect("written");
    all(&two, "b").await;
    bed.redis = Redis::start(&[]);
    let again = Redis::at(port, &["--save", "", "--appendonly", "no"]);
    bed.redis = again;
    tokio::time::sleep(BOUND).await;
    all(&one, "b").await;
    let stored = bed.counts(0).await["l2"][0];
    bed.until("it is used again", async || {
        // All rows are read anew: of what was read when Redis was not there nothing is kept there later.
        one.batch_execute("UPDATE kv SET v = v").await.expect("written");
        all(&one, "b").await;
        bed.counts(0).await["l2"][0] > stored
    })
    .await;
}
