//! Metrics of the business in SQL (`[[metric]]`), asked of real servers: what they find is told, what goes wrong with them is
//! said and hurts nobody.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio_postgres::SimpleQueryMessage;
use turnpike::app::cluster::{Cluster as Servers, ClusterOptions, StopMode};

use crate::harness::{Db, Proxy, ProxyOptions, eventually, pg, replicated};
use crate::metrics::get;

/// A proxy in front of a cluster, with metrics.
struct Bed {
    db: Db,
    proxy: Proxy,
}

fn on_cluster(config: String) -> String {
    config.replace("backend = \"primary\"\n", "cluster = \"main\"\n")
}

/// Their sections, each of a name and further lines; they run every second.
fn options(db: &Db, metrics: &[(&str, &str)]) -> ProxyOptions {
    let section = |(name, lines): &(&str, &str)| {
        format!(
            "[[metric]]\nname = \"{name}\"\nhelp = \"Help of {name}.\"\ndatabase = \"{}\"\nuser = \"{}\"\n\
             interval = \"1s\"\n{lines}\n",
            db.name, db.user
        )
    };
    let metrics: String = metrics.iter().map(section).collect();
    let extra = format!(
        "[[cluster]]\nname = \"main\"\nbackends = [\"primary\", \"replica1\", \"replica2\"]\n{metrics}"
    );
    ProxyOptions { extra, ..Default::default() }
}

type Shown = BTreeMap<String, BTreeMap<String, String>>;

impl Bed {
    fn new(servers: &'static Servers, metrics: &[(&str, &str)]) -> Bed {
        let db = Db::in_cluster(servers);
        servers.wait_replayed().unwrap_or_else(|e| panic!("{e}"));
        let proxy = Proxy::edited(&db, &options(&db, metrics), on_cluster);
        Bed { db, proxy }
    }

    /// Lines of a metric in `/metrics`.
    fn told(&self, name: &str) -> Vec<String> {
        let (_, text) = get(&self.proxy, "/metrics");
        let of_it = |line: &&str| line.split(['{', ' ']).next() == Some(name);
        text.lines().filter(of_it).map(str::to_string).collect()
    }

    /// SHOW METRICS, by metric and column.
    async fn shown(&self) -> Shown {
        let admin = pg(&self.proxy.admin_url(&self.db)).await;
        let messages = admin.simple_query("SHOW METRICS").await.expect("shown");
        let row = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => {
                let columns = row.columns().iter().enumerate();
                let field = |(i, c): (usize, &tokio_postgres::SimpleColumn)| {
                    (c.name().to_string(), row.get(i).unwrap_or_default().to_string())
                };
                Some((row.get("metric").expect("a name").to_string(), columns.map(field).collect()))
            }
            _ => None,
        };
        messages.iter().filter_map(row).collect()
    }

    /// What SHOW METRICS says once it is as wanted.
    async fn until(&self, what: &str, holds: impl Fn(&Shown) -> bool) -> Shown {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let shown = self.shown().await;
            if holds(&shown) {
                return shown;
            }
            assert!(Instant::now() < deadline, "{what}: {shown:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn reload(&self, metrics: &[(&str, &str)]) {
        self.proxy.rewrite(&self.db, &options(&self.db, metrics), on_cluster);
        let admin = pg(&self.proxy.admin_url(&self.db)).await;
        admin.batch_execute("RELOAD").await.expect("a configuration");
    }
}

fn number(row: &BTreeMap<String, String>, column: &str) -> u64 {
    row[column].parse().unwrap_or_else(|_| panic!("{column} of {row:?}"))
}

const KINDS: &str = "query = '''SELECT * FROM (VALUES (E'a\"b\\\\c\\nd', 1.5, 'x'), ('plain', 2, NULL), ('none', NULL, 'x')) \
                     AS t (kind, value, other)'''";
const MANY: &str = "max_series = 3\nlabels = [\"n\"]\n\
                    query = \"SELECT n, 1 AS n2, n * 2 AS value FROM generate_series(1, 10) AS n UNION ALL SELECT 1, 1, 1\"";
const WHERE: &str = "query = \"SELECT pg_is_in_recovery()::int AS value\"";

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_series_and_mistakes_are_told() {
    let metrics = [
        ("kinds", KINDS),
        ("many_total", &format!("type = \"counter\"\n{MANY}")),
        ("elsewhere", WHERE),
        ("on_primary", &format!("on = \"primary\"\n{WHERE}")),
        ("slow", "timeout = \"300ms\"\nquery = \"SELECT 1 AS value, pg_sleep(20)::text\""),
        ("wrong", "query = \"SELECT nothing FROM nowhere\""),
        ("private", "query = \"SELECT 'hunter2'::int AS value\""),
        (
            "writing",
            "on = \"primary\"\nquery = \"WITH x AS (DELETE FROM audit_log RETURNING 1) SELECT count(*) FROM x\"",
        ),
        ("two", "query = \"SELECT 1 AS value; COMMIT\""),
        ("leaving", "on = \"primary\"\nquery = \"COMMIT\""),
        ("words", "query = \"SELECT 'x' AS kind\""),
    ];
    let bed = Bed::new(replicated(), &metrics);
    let failing = ["slow", "wrong", "private", "writing", "two", "leaving", "words"];
    let shown = bed
        .until("all have run twice", |shown| {
            let fails = |name: &&str| failing.contains(name);
            metrics.iter().all(|(name, _)| {
                let row = &shown[*name];
                number(row, "runs") >= 2 && (number(row, "failures") > 1) == fails(name)
            })
        })
        .await;
    for (name, error) in [
        ("slow", "canceling statement due to statement timeout (57014)"),
        ("wrong", "relation \"nowhere\" does not exist (42P01)"),
        ("private", "the data does not suit the query (22P02)"),
        ("writing", "in a read-only transaction (25006)"),
        ("two", "cannot insert multiple commands into a prepared statement (42601)"),
        ("leaving", "no column is a number"),
        ("words", "no column is a number"),
    ] {
        assert!(shown[name]["error"].ends_with(error), "{name}: {}", shown[name]["error"]);
        assert!(bed.told(name).is_empty(), "what was never found is not told");
    }
    assert!(number(&shown["slow"], "duration_ms") < 5_000, "{shown:?}");
    assert!(shown["elsewhere"]["backend"].starts_with("replica"), "{shown:?}");
    assert_eq!(shown["on_primary"]["backend"], "primary");
    assert_eq!(number(&shown["many_total"], "series"), 3);

    let kinds = bed.told("kinds");
    assert_eq!(
        kinds,
        ["kinds{kind=\"a\\\"b\\\\c\\nd\",other=\"x\"} 1.5", "kinds{kind=\"plain\",other=\"\"} 2"]
    );
    let many = ["many_total{n=\"1\"} 2", "many_total{n=\"2\"} 4", "many_total{n=\"3\"} 6"];
    assert_eq!(bed.told("many_total"), many);
    assert_eq!(
        (bed.told("elsewhere"), bed.told("on_primary")),
        (vec!["elsewhere 1".into()], vec!["on_primary 0".into()])
    );
    let (_, text) = get(&bed.proxy, "/metrics");
    for line in [
        "# HELP kinds Help of kinds.",
        "# TYPE kinds gauge",
        "# TYPE many_total counter",
        "turnpike_metric_series{metric=\"kinds\"} 2",
        "turnpike_metric_failures_total{metric=\"kinds\"} 0",
        "turnpike_metric_last_success_timestamp_seconds{metric=\"wrong\"} 0",
    ] {
        assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
    }
    assert!(number(&shown["many_total"], "dropped") >= 16, "{shown:?}");
    assert!(!text.contains("hunter2") && !bed.proxy.log().contains("hunter2"));
    assert_ne!(bed.db.psql("SELECT count(*) FROM audit_log").trim(), "0", "nothing was written");

    // The pools have no part in it, and no connection is left behind.
    assert!(!text.contains("turnpike_pool_size{"), "{text}");
    bed.reload(&[]).await;
    bed.until("none are left", BTreeMap::is_empty).await;
    let ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'turnpike metric' \
                AND datname = current_database()";
    eventually("no connection is left", || bed.db.psql(ours).trim() == "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_change_them() {
    let one = ("one", "query = \"SELECT 1 AS value\"");
    let bed = Bed::new(replicated(), &[one, ("two", "query = \"SELECT 2 AS value\"")]);
    bed.until("both are found", |s| s.values().all(|row| row["series"] == "1")).await;
    let runs = number(&bed.shown().await["one"], "runs");
    // A file that is wrong changes nothing.
    bed.proxy.rewrite(&bed.db, &options(&bed.db, &[("turnpike_three", "query = \"SELECT 3\"")]), on_cluster);
    let admin = pg(&bed.proxy.admin_url(&bed.db)).await;
    let refused = admin.batch_execute("RELOAD").await.expect_err("its name is taken");
    let refused = format!("{:?}", refused.as_db_error());
    assert!(refused.contains("metric.name: \\\"turnpike_three\\\" is taken"), "{refused}");
    assert_eq!(bed.told("two"), ["two 2"]);

    bed.reload(&[
        one,
        ("two", "query = \"SELECT 'x' AS kind, 22 AS value\""),
        ("three", "query = \"SELECT 3\""),
    ])
    .await;
    let is_new = |s: &Shown| s.len() == 3 && s.values().all(|row| row["series"] == "1");
    let shown = bed.until("the new ones are found", is_new).await;
    assert_eq!(
        (bed.told("two"), bed.told("three")),
        (vec!["two{kind=\"x\"} 22".into()], vec!["three 3".into()])
    );
    assert!(number(&shown["one"], "runs") >= runs, "what is as it was goes on");
    bed.reload(&[one]).await;
    bed.until("two are gone", |s| s.len() == 1).await;
    eventually("they are not told any more", || bed.told("two").is_empty());
    assert_eq!(bed.told("one"), ["one 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_is_asked_and_where_there_is_none_it_is_said() {
    let options = ClusterOptions { replicas: 2, ..Default::default() };
    // Databases of tests live as long as the process.
    let servers: &Servers = Box::leak(Box::new(Servers::start(options).unwrap_or_else(|e| panic!("{e}"))));
    servers.primary().psql("postgres", "CREATE DATABASE turnpike_template").unwrap_or_else(|e| panic!("{e}"));
    let bed = Bed::new(servers, &[("alive", WHERE)]);
    let (one, two) = (&servers.replicas()[0], &servers.replicas()[1]);
    let asks = async |name: &str| {
        bed.until(name, |s| s["alive"]["backend"] == name && s["alive"]["error"].is_empty()).await
    };
    // In turns.
    asks("replica1").await;
    let failures = asks("replica2").await["alive"]["failures"].clone();
    one.stop(StopMode::Fast).expect("it stops");
    let before = number(&asks("replica2").await["alive"], "runs");
    let shown = bed.until("some more runs", |s| number(&s["alive"], "runs") > before + 2).await;
    assert_eq!((shown["alive"]["backend"].as_str(), &shown["alive"]["failures"]), ("replica2", &failures));
    two.kill().expect("it is killed");
    bed.until("it is said", |s| s["alive"]["error"] == "cluster \"main\" has no replica").await;
    // What is old is not told for long: it would look as if nothing changed.
    eventually("it is not told any more", || bed.told("alive").is_empty());
    one.start().unwrap_or_else(|e| panic!("{e}"));
    asks("replica1").await;
    assert_eq!(bed.told("alive"), ["alive 1"]);
}
