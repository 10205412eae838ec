//! Reports whose tables others write to, past the proxy or through another one: what is told of that outdates them as well.

use std::time::{Duration, Instant};

use turnpike::app::cluster::free_port;

use super::edge::Varnish;
use super::{Bed, PUBLIC, section};
use crate::elsewhere::run;
use crate::harness::{Db, Proxy, ProxyOptions, cluster, pg};
use crate::redis::Redis;

/// How far behind what is written elsewhere reports may be.
const BOUND: Duration = Duration::from_millis(200);
const MAX: &str = "SELECT max(id) AS id FROM sales";

/// A proxy that the WAL tells of writes.
struct Told(Bed);

impl Told {
    fn new(sections: &str) -> Told {
        let db = Db::new();
        db.psql(&format!("ALTER ROLE {} REPLICATION", db.user));
        let lines = "invalidation = \"wal\"\ninvalidation_user = \"USER\"";
        let bed = Bed::with(db, sections, lines, |_| {}, |config| config);
        let told = Told(bed);
        told.cache("enable-wal").unwrap_or_else(|e| panic!("{e}"));
        told
    }

    fn cache(&self, command: &str) -> Result<String, String> {
        run(&self.0.proxy, &self.0.db.name, command, cluster().password())
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        // A database with a slot cannot be dropped, and there are only so many.
        self.cache("disable-wal").ok();
    }
}

/// Asks until it is kept: asking again runs no query.
async fn kept(bed: &Bed, report: &str) {
    let path = format!("/reports/{report}");
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        bed.get(&path).await;
        let runs = bed.shown("SHOW REPORTS", report, "runs").await;
        let reply = bed.get(&path).await;
        if bed.shown("SHOW REPORTS", report, "runs").await == runs {
            assert_eq!(reply.header("cache-control"), "public, max-age=0, s-maxage=60");
            return;
        }
        assert!(Instant::now() < deadline, "it is not kept");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_wal_tells_outdates_them() {
    let untold = section("u", "SELECT count(*) AS n FROM pg_catalog.pg_class", PUBLIC);
    let all = section("all", "SELECT counted() AS n", PUBLIC);
    let told = Told::new(
        &(section("r", MAX, PUBLIC)
            + &section("o", "SELECT count(*) AS n FROM other", PUBLIC)
            + &untold
            + &all),
    );
    let bed = &told.0;
    bed.db.psql(
        "CREATE FUNCTION counted() RETURNS bigint STABLE LANGUAGE plpgsql AS \
         $$ DECLARE n bigint; BEGIN EXECUTE 'SELECT count(*) FROM sa' || 'le' INTO n; RETURN n; END $$",
    );
    for report in ["r", "o", "all", "u"] {
        kept(bed, report).await;
    }
    let others = bed.shown("SHOW REPORTS", "o", "runs").await;
    for id in 10..15 {
        kept(bed, "r").await;
        kept(bed, "all").await;
        bed.db.psql(&format!("INSERT INTO sale VALUES ({id})"));
        tokio::time::sleep(BOUND).await;
        let (max, all) = (bed.get("/reports/r").await.text(), bed.get("/reports/all").await.text());
        assert!(max.contains(&format!("\"id\":{id}}}")), "{max}");
        assert!(all.contains(&format!("\"n\":{}}}", id - 7)), "{all}");
    }
    // What reads other tables stays where it is.
    bed.get("/reports/o").await;
    assert_eq!(bed.shown("SHOW REPORTS", "o", "runs").await, others);
    // When nobody tells any more, nobody vouches for it.
    told.cache("disable-wal").unwrap_or_else(|e| panic!("{e}"));
    let deadline = Instant::now() + Duration::from_secs(10);
    while bed.get("/reports/r").await.header("cache-control").contains("s-maxage=60") {
        assert!(Instant::now() < deadline, "it is vouched for");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bed.db.psql("INSERT INTO sale VALUES (15)");
    assert!(bed.get("/reports/r").await.text().contains("\"id\":15}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_is_told_of_what_the_wal_tells() {
    let edge = free_port();
    let ban = format!("[[cdn]]\nname = \"edge\"\nkind = \"ban\"\nurl = \"http://127.0.0.1:{edge}/\"\n");
    let told = Told::new(&(section("r", MAX, PUBLIC) + &ban));
    let bed = &told.0;
    let _varnish = Varnish::before(bed.port, edge);
    kept(bed, "r").await;
    // What was told at the beginning is told twice.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (mut hits, mut slowest) = (0, Duration::ZERO);
    for id in 100..105 {
        for _ in 0..20 {
            hits += u32::from(bed.at(edge, "/reports/r", &[]).await.header("x-cache") == "hit");
        }
        bed.db.psql(&format!("INSERT INTO sale VALUES ({id})"));
        slowest = slowest.max(bed.until(edge, "/reports/r", &format!("\"id\":{id}}}")).await);
    }
    assert!(slowest < Duration::from_secs(1), "it gave what was outdated for {slowest:?}");
    assert!(hits > 50, "{hits} of 100");
}

/// Two proxies that tell each other of what they write: by whichever of them, the report of one is outdated at once.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_writes_outdates_them_at_once() {
    let (redis, edge) = (Redis::start(&[]), free_port());
    let rules = format!(
        "[redis]\nnodes = [\"127.0.0.1:{}\"]\ndeadline = \"500ms\"\n[[cache]]\nmode = \"strict\"\n",
        redis.port
    );
    let lines = "writers = \"proxy\"\ninvalidation_user = \"USER\"";
    let ban = format!("[[cdn]]\nname = \"edge\"\nkind = \"ban\"\nurl = \"http://127.0.0.1:{edge}/\"\n");
    let memory = |config: String| config.replacen("[general]\n", "[general]\ncache_memory = \"32MiB\"\n", 1);
    let sections = section("r", MAX, PUBLIC) + &ban + &rules;
    let bed = Bed::with(Db::in_cluster(cluster()), &sections, lines, |_| {}, memory);
    let options = ProxyOptions {
        general: "cache_memory = \"32MiB\"".into(),
        database: lines.replace("USER", &bed.db.user),
        extra: rules,
        ..Default::default()
    };
    let other = Proxy::start(&bed.db, options);
    let _varnish = Varnish::before(bed.port, edge);
    let writer = pg(&other.url(&bed.db)).await;
    kept(&bed, "r").await;
    for id in 10..40 {
        if id % 5 == 0 {
            kept(&bed, "r").await;
        }
        writer.batch_execute(&format!("INSERT INTO sale VALUES ({id})")).await.expect("written");
        let max = bed.get("/reports/r").await.text();
        assert!(max.contains(&format!("\"id\":{id}}}")), "{max}");
    }
    let mut slowest = Duration::ZERO;
    for id in 40..45 {
        bed.at(edge, "/reports/r", &[]).await;
        writer.batch_execute(&format!("INSERT INTO sale VALUES ({id})")).await.expect("written");
        slowest = slowest.max(bed.until(edge, "/reports/r", &format!("\"id\":{id}}}")).await);
    }
    assert!(slowest < Duration::from_secs(1), "it gave what was outdated for {slowest:?}");
    // While a write is under way, nobody can tell.
    writer.batch_execute("BEGIN; INSERT INTO sale VALUES (50)").await.expect("written");
    assert!(bed.get("/reports/r").await.header("cache-control").contains("s-maxage=0"));
    writer.batch_execute("COMMIT").await.expect("written");
    assert!(bed.get("/reports/r").await.text().contains("\"id\":50}"));
}
