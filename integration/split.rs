//! Reads on replicas, everything else on the primary: nothing that was written is missed, by whatever protocol it is
//! asked for, and what a replica refuses the primary answers.

use std::time::{Duration, Instant};

use turnpike::app::cluster::{Cluster as Servers, ClusterOptions};

use crate::harness::{Db, Proxy, ProxyOptions, pg, rows, value};

/// Servers of this test's own: replay may be paused on them.
struct Bed {
    servers: &'static Servers,
    db: Db,
    proxy: Proxy,
}

/// A primary with two replicas behind a proxy that knows them as one; `lines` of the `[[cluster]]`.
async fn bed(lines: &str) -> Bed {
    let options = ClusterOptions { replicas: 2, ..Default::default() };
    // Databases of tests live as long as the process.
    let servers: &Servers = Box::leak(Box::new(Servers::start(options).unwrap_or_else(|e| panic!("{e}"))));
    servers.primary().psql("postgres", "CREATE DATABASE turnpike_template").unwrap_or_else(|e| panic!("{e}"));
    let db = Db::in_cluster(servers);
    let extra = format!(
        "[plan]\nread_functions = [\"inet_server_port\"]\n\
         [[cluster]]\nname = \"main\"\nbackends = [\"primary\", \"replica1\", \"replica2\"]\n{lines}\n"
    );
    let options = ProxyOptions { extra, ..Default::default() };
    let proxy = Proxy::edited(&db, &options, |config| {
        config.replace("backend = \"primary\"\n", "cluster = \"main\"\n")
    });
    let bed = Bed { servers, db, proxy };
    bed.settle().await;
    bed
}

/// Which server answers.
const WHERE: &str = "SELECT inet_server_port() FROM t LIMIT 1";

impl Bed {
    fn replicas(&self) -> Vec<u16> {
        self.servers.replicas().iter().map(|s| s.port).collect()
    }

    async fn client(&self) -> tokio_postgres::Client {
        pg(&self.proxy.url(&self.db)).await
    }

    /// A table, seen by all; and the proxy knows everything.
    async fn settle(&self) {
        let client = self.client().await;
        client
            .batch_execute("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0), (2, 0)")
            .await
            .expect("made");
        client.batch_execute("CREATE TABLE u (n int); INSERT INTO u VALUES (0)").await.expect("made");
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.replicas().contains(&port(&client).await) {
            assert!(
                Instant::now() < deadline,
                "reads stay on the primary: {}",
                value(&client, &format!("EXPLAIN (ROUTE) {WHERE}")).await
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn replay(&self, goes_on: bool) {
        for replica in self.servers.replicas() {
            let word = if goes_on { "resume" } else { "pause" };
            replica
                .psql("postgres", &format!("SELECT pg_wal_replay_{word}()"))
                .unwrap_or_else(|e| panic!("{e}"));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

async fn port(client: &tokio_postgres::Client) -> u16 {
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
    // In a transaction, and after a lock, on the primary.
    let primary = bed.servers.primary().port;
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
