//! Reads on replicas, everything else on the primary: nothing that was written is missed, by whatever protocol it is
//! asked for, and what a replica refuses the primary answers.

use std::time::{Duration, Instant};

use futures_util::SinkExt;
use turnpike::app::cluster::{Cluster as Servers, ClusterOptions};

use crate::harness::raw::{Raw, bind, close, execute, parse, sync};
use crate::harness::{Db, Proxy, ProxyOptions, pg, rows, value};

/// Servers of this test's own: replay may be paused on them.
pub struct Bed {
    pub servers: &'static Servers,
    pub db: Db,
    pub proxy: Proxy,
}

/// A primary with two replicas behind a proxy that knows them as one; `lines` of the `[[cluster]]`.
pub async fn bed(lines: &str) -> Bed {
    let options = ClusterOptions { replicas: 2, ..Default::default() };
    // Databases of tests live as long as the process.
    let servers: &Servers = Box::leak(Box::new(Servers::start(options).unwrap_or_else(|e| panic!("{e}"))));
    servers.primary().psql("postgres", "CREATE DATABASE turnpike_template").unwrap_or_else(|e| panic!("{e}"));
    let db = Db::in_cluster(servers);
    let proxy = Proxy::edited(&db, &configured(lines), on_cluster);
    let bed = Bed { servers, db, proxy };
    bed.settle().await;
    bed
}

fn configured(lines: &str) -> ProxyOptions {
    let extra = format!(
        "[plan]\nread_functions = [\"inet_server_port\"]\n\
         [[cluster]]\nname = \"main\"\nbackends = [\"primary\", \"replica1\", \"replica2\"]\n{lines}\n"
    );
    ProxyOptions { extra, ..Default::default() }
}

fn on_cluster(config: String) -> String {
    config.replace("backend = \"primary\"\n", "cluster = \"main\"\n")
}

/// Which server answers.
pub const WHERE: &str = "SELECT inet_server_port() FROM t LIMIT 1";

impl Bed {
    /// Puts other lines of the `[[cluster]]`, and what follows it, into use.
    pub async fn reload(&self, lines: &str) {
        self.proxy.rewrite(&self.db, &configured(lines), on_cluster);
        pg(&self.proxy.admin_url(&self.db)).await.batch_execute("RELOAD").await.expect("a configuration");
    }

    pub fn replicas(&self) -> Vec<u16> {
        self.servers.replicas().iter().map(|s| s.port).collect()
    }

    pub async fn client(&self) -> tokio_postgres::Client {
        pg(&self.proxy.url(&self.db)).await
    }

    pub fn raw(&self) -> Raw {
        self.proxy.raw(&self.db)
    }

    /// Until it is known what sessions have without setting anything, which is found out when it first matters.
    pub fn defaults_known(&self, raw: &mut Raw) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            raw.query("BEGIN READ ONLY");
            raw.value("SELECT n FROM u");
            // Where that is not known, it must stay on its replica, which has no such locks.
            raw.query("LOCK TABLE t IN EXCLUSIVE MODE");
            if raw.query("COMMIT").iter().any(|f| f.kind == b'C' && f.body == b"COMMIT\0") {
                return;
            }
            assert!(Instant::now() < deadline, "the defaults are not found out");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Until replicas are past what has been written, if only in vain.
    pub fn pass(&self) {
        self.servers.wait_replayed().unwrap_or_else(|e| panic!("{e}"));
        std::thread::sleep(Duration::from_millis(400));
    }

    /// A table, seen by all; and the proxy knows everything.
    async fn settle(&self) {
        let client = self.client().await;
        client
            .batch_execute("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0), (2, 0)")
            .await
            .expect("made");
        client.batch_execute("CREATE TABLE u (n int); INSERT INTO u VALUES (0)").await.expect("made");
        self.until_split(&client).await;
    }

    /// Until the catalog is known again, so that reads go to replicas.
    pub async fn until_split(&self, client: &tokio_postgres::Client) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.replicas().contains(&port(client).await) {
            assert!(
                Instant::now() < deadline,
                "reads stay on the primary: {}",
                value(client, &format!("EXPLAIN (ROUTE) {WHERE}")).await
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn replay(&self, goes_on: bool) {
        for replica in self.servers.replicas() {
            let word = if goes_on { "resume" } else { "pause" };
            replica
                .psql("postgres", &format!("SELECT pg_wal_replay_{word}()"))
                .unwrap_or_else(|e| panic!("{e}"));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

pub async fn port(client: &tokio_postgres::Client) -> u16 {
    value(client, WHERE).await.parse().expect("a port")
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_to_replicas_and_see_what_was_written() {
    let bed = bed("").await;
    let client = bed.client().await;
    // By any protocol, with and without names.
    let statement = client.prepare(WHERE).await.expect("prepared");
    for _ in 0..20 {
        assert!(bed.replicas().contains(&port(&client).await));
        let row = client.query_one(&statement, &[]).await.expect("a row");
        assert!(bed.replicas().contains(&(row.get::<_, i32>(0) as u16)));
        let row = client
            .query_one("SELECT inet_server_port() FROM t WHERE id = $1", &[&1i32])
            .await
            .expect("a row");
        assert!(bed.replicas().contains(&(row.get::<_, i32>(0) as u16)));
    }
    // Who has answered is told by shape.
    let plans = rows(&pg(&bed.proxy.admin_url(&bed.db)).await, "SHOW PLANS").await;
    let shares = |class: &str, backend: &str| {
        let of_class = plans.iter().filter(|row| row[2] == class);
        of_class.flatten().any(|cell| cell.starts_with(backend) && cell.ends_with('%'))
    };
    assert!(shares("read", "replica") && shares("primary", "primary 100"), "{plans:?}");
    // In a transaction, with a lock, and where a comment says so, on the primary.
    let primary = bed.servers.primary().port;
    for sql in ["/* turnpike: route=primary */ ", "-- Turnpike: ROUTE=primary\n"]
        .map(|hint| format!("{hint}{WHERE}"))
    {
        assert_eq!(value(&client, &sql).await, primary.to_string(), "{sql}");
    }
    client.batch_execute("BEGIN").await.expect("begun");
    assert_eq!(port(&client).await, primary);
    client.batch_execute("COMMIT").await.expect("committed");
    assert_eq!(value(&client, &format!("{WHERE} FOR UPDATE")).await, primary.to_string());

    // What is written is seen, by whoever is asked; writes to another table are not waited for.
    bed.replay(false);
    client.batch_execute("UPDATE t SET n = 7 WHERE id = 1").await.expect("written");
    assert_eq!(value(&client, "SELECT n FROM t WHERE id = 1").await, "7");
    assert_eq!(port(&client).await, primary);
    let elsewhere = value(&client, "SELECT inet_server_port() FROM u").await;
    assert!(bed.replicas().contains(&elsewhere.parse().expect("a port")), "{elsewhere}");
    // Somebody else need not see it.
    let other = bed.client().await;
    assert!(bed.replicas().contains(&port(&other).await));
    assert_eq!(value(&other, "SELECT n FROM t WHERE id = 1").await, "0");
    bed.replay(true);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !bed.replicas().contains(&port(&client).await) {
        assert!(Instant::now() < deadline, "it goes back to replicas");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(value(&client, "SELECT n FROM t WHERE id = 1").await, "7");
    assert!(rows(&client, "SELECT 1 FROM t").await.len() == 2);
}

/// However a session writes, it sees that it has.
#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_writing_is_seen() {
    let bed = bed("").await;
    let owner = bed.client().await;
    owner
        .batch_execute(
            "CREATE FUNCTION add() RETURNS int LANGUAGE plpgsql AS
             'BEGIN UPDATE u SET n = n + 1; RETURN 1; END';
             CREATE PROCEDURE add_too() LANGUAGE sql AS 'UPDATE u SET n = n + 1'",
        )
        .await
        .expect("made");
    bed.until_split(&owner).await;
    bed.pass();
    bed.replay(false);
    let long = format!("UPDATE u SET n = n + 1 /* {} */", "x".repeat(2 << 20));
    let simple = [
        "UPDATE u SET n = n + 1",
        "SELECT 1; UPDATE u SET n = n + 1",
        "WITH w AS (UPDATE u SET n = n + 1 RETURNING n) SELECT * FROM w",
        "EXPLAIN ANALYZE UPDATE u SET n = n + 1",
        "EXPLAIN (ROUTE, ANALYZE) UPDATE u SET n = n + 1",
        "DO $$ BEGIN UPDATE u SET n = n + 1; END $$",
        "CALL add_too()",
        "SELECT add()",
        "BEGIN; UPDATE u SET n = n + 1; COMMIT",
        "PREPARE p AS UPDATE u SET n = n + 1; EXECUTE p",
        "UPDATE t SET n = n; UPDATE u SET n = n + 1",
        "TRUNCATE u; INSERT INTO u VALUES (NUMBER)",
        &long,
    ];
    let mut n = 0;
    for sql in simple {
        let (mut raw, name) = (bed.raw(), &sql[..sql.len().min(60)]);
        n += 1;
        let frames = raw.query(&sql.replace("NUMBER", &n.to_string()));
        assert!(frames.iter().all(|f| f.kind != b'E'), "{name}: {frames:?}");
        assert_eq!(raw.value("SELECT n FROM u"), n.to_string(), "{name}");
    }
    for sql in simple.iter().filter(|sql| !sql.contains("; ") || sql.starts_with("DO")) {
        let (mut raw, name) = (bed.raw(), &sql[..sql.len().min(60)]);
        n += 1;
        raw.send([parse("", sql), bind("", "", &[]), execute("", 0), sync()].concat());
        let frames = raw.until_ready(1);
        assert!(frames.iter().all(|f| f.kind != b'E'), "{name}: {frames:?}");
        assert_eq!(raw.value("SELECT n FROM u"), n.to_string(), "{name} as parts");
    }
    // As COPY, and by a statement that was prepared by name.
    let client = bed.client().await;
    let sink = client.copy_in("COPY u FROM STDIN").await.expect("begun");
    futures_util::pin_mut!(sink);
    sink.send(bytes::Bytes::from_static(b"-1\n")).await.expect("sent");
    sink.finish().await.expect("copied");
    assert_eq!(value(&client, "SELECT count(*) FROM u").await, "2");
    let update = client.prepare("UPDATE u SET n = n + $1").await.expect("prepared");
    client.execute(&update, &[&1i32]).await.expect("written");
    assert_eq!(value(&client, "SELECT min(n) FROM u").await, "0");
    bed.replay(true);
}

/// A function that says of itself that it reads, and writes: by one whose name is not looked for in its code.
pub const LIES: &str = "CREATE FUNCTION lies() RETURNS int LANGUAGE plpgsql STABLE AS
     'BEGIN PERFORM \"write-it\"(); RETURN 1; END';
     CREATE FUNCTION \"write-it\"() RETURNS void LANGUAGE plpgsql AS 'BEGIN UPDATE u SET n = n + 1; END'";

/// What a replica refuses is asked of the primary, without the client's knowledge.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_refuses_the_primary_answers() {
    let bed = bed("consistency = \"eventual\"").await;
    let owner = bed.client().await;
    owner.batch_execute(LIES).await.expect("made");
    bed.servers.wait_replayed().unwrap_or_else(|e| panic!("{e}"));
    let said = || async { explained(&owner, "SELECT lies()").await };
    let deadline = Instant::now() + Duration::from_secs(10);
    while !said().await.contains("Class: read") {
        assert!(Instant::now() < deadline, "{}", said().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for n in 1..4 {
        assert_eq!(value(&owner, "SELECT lies()").await, "1");
        let row = owner.query_one("SELECT lies() + $1", &[&1i32]).await.expect("a row");
        assert_eq!(row.get::<_, i32>(0), 2);
        let seen: String = value(&owner, "SELECT n FROM u FOR UPDATE").await;
        assert_eq!(seen, (2 * n).to_string(), "it wrote, once each time");
    }
    // A transaction that only the primary has.
    owner.batch_execute("SET default_transaction_isolation = 'serializable'").await.expect("set");
    assert_eq!(port(&owner).await, bed.servers.primary().port);
    owner.batch_execute("RESET default_transaction_isolation").await.expect("reset");
    owner
        .batch_execute("SELECT set_config('default_transaction_isolation', 'serializable', false)")
        .await
        .expect("set");
    assert_eq!(port(&owner).await, bed.servers.primary().port);
}

/// What the primary has then written counts for whoever wrote it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_refused_is_a_write() {
    let bed = bed("").await;
    let client = bed.client().await;
    client.batch_execute(LIES).await.expect("made");
    bed.until_split(&client).await;
    bed.pass();
    for n in 1..4 {
        bed.replay(false);
        assert_eq!(value(&client, "SELECT lies()").await, "1");
        assert_eq!(value(&client, "SELECT n FROM u").await, n.to_string());
        bed.replay(true);
        bed.pass();
    }
}

/// The same by a prepared statement that is bound first: what is asked again is all that was asked.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_refuses_when_it_is_bound_the_primary_answers() {
    let bed = bed("consistency = \"eventual\"").await;
    let owner = bed.client().await;
    let write = "CREATE FUNCTION \"write-it\"() RETURNS void LANGUAGE plpgsql AS
        'BEGIN UPDATE u SET n = n + 1; END'";
    owner.batch_execute(write).await.expect("made");
    let mut raw = bed.raw();
    for n in 1..4 {
        let call = format!("SELECT lies{n}()");
        // Each is asked of a replica once: then it is known to be the primary's.
        owner
            .batch_execute(&format!(
                "CREATE FUNCTION lies{n}() RETURNS int LANGUAGE plpgsql STABLE AS
                 'BEGIN PERFORM \"write-it\"(); RETURN 1; END'"
            ))
            .await
            .expect("made");
        bed.servers.wait_replayed().unwrap_or_else(|e| panic!("{e}"));
        let deadline = Instant::now() + Duration::from_secs(10);
        while !explained(&owner, &call).await.contains("Class: read") {
            assert!(Instant::now() < deadline, "{}", explained(&owner, &call).await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        raw.send([parse("s", &call), sync()].concat());
        raw.until_ready(1);
        raw.send([bind("", "s", &[]), execute("", 0), sync()].concat());
        let frames = raw.until_ready(1);
        assert_eq!(frames.iter().map(|f| f.kind).collect::<Vec<_>>(), b"2DCZ", "{frames:?}");
        assert_eq!(
            value(&owner, "SELECT n FROM u FOR UPDATE").await,
            n.to_string(),
            "it wrote, once each time"
        );
        raw.send([close('S', "s"), sync()].concat());
        raw.until_ready(1);
    }
}

/// Replicas that are gone are not noticed by who reads.
#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_when_a_replica_goes() {
    let bed = bed("").await;
    let client = bed.client().await;
    let statement = client.prepare("SELECT n FROM t WHERE id = $1").await.expect("prepared");
    let reading = tokio::spawn(async move {
        let begun = Instant::now();
        let mut count = 0;
        while begun.elapsed() < Duration::from_secs(4) {
            assert_eq!(client.query_one(&statement, &[&1i32]).await.expect("a row").get::<_, i32>(0), 0);
            assert_eq!(value(&client, "SELECT n FROM u").await, "0");
            count += 1;
        }
        count
    });
    for replica in bed.servers.replicas() {
        tokio::time::sleep(Duration::from_millis(700)).await;
        replica.kill().unwrap_or_else(|e| panic!("{e}"));
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    bed.servers.replicas()[0].start().unwrap_or_else(|e| panic!("{e}"));
    assert!(reading.await.expect("no read failed") > 100);
}

pub async fn explained(client: &tokio_postgres::Client, sql: &str) -> String {
    rows(client, &format!("EXPLAIN (ROUTE) {sql}")).await.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

/// Statements wait for the next primary and go there; the old one gets nothing when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn writes_follow_a_promotion() {
    let bed = bed("").await;
    let (idle, busy) = (bed.client().await, bed.client().await);
    busy.batch_execute("CREATE TABLE ledger (n int PRIMARY KEY)").await.expect("made");
    bed.until_split(&busy).await;
    bed.servers.wait_replayed().unwrap_or_else(|e| panic!("{e}"));
    let heir = &bed.servers.replicas()[0];
    bed.servers.primary().kill().unwrap_or_else(|e| panic!("{e}"));
    // Sent while the proxy has not noticed yet, and when it has.
    let (early, late) = (bed.client().await, bed.client().await);
    let writes = [(early, 0), (late, 400), (idle, 200)].map(|(client, wait)| {
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            client.batch_execute(&format!("INSERT INTO ledger VALUES ({wait})")).await
        })
    });
    // Reads of what has not been written go on meanwhile.
    for _ in 0..20 {
        assert_eq!(value(&busy, "SELECT n FROM u").await, "0");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::task::block_in_place(|| heir.promote()).unwrap_or_else(|e| panic!("{e}"));
    let promoted = Instant::now();
    for write in writes {
        write.await.expect("no panic").expect("it waited, and was written");
    }
    assert!(promoted.elapsed() < Duration::from_secs(5), "{:?}", promoted.elapsed());
    assert_eq!(heir.psql(&bed.db.name, "SELECT count(*) FROM ledger").expect("rows"), "3");
    // The old one comes back as if nothing had happened.
    tokio::task::block_in_place(|| bed.servers.primary().start()).unwrap_or_else(|e| panic!("{e}"));
    for n in 1000..1100 {
        busy.batch_execute(&format!("INSERT INTO ledger VALUES ({n})")).await.expect("written");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(heir.psql(&bed.db.name, "SELECT count(*) FROM ledger").expect("rows"), "103");
    assert_eq!(bed.servers.primary().psql(&bed.db.name, "SELECT count(*) FROM ledger").expect("rows"), "0");
}
