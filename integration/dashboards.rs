//! What is shipped for Prometheus and Grafana: the configuration and the rules are what Prometheus takes, alerts fire when
//! they should, dashboards are in order, and every query of theirs finds something in a Prometheus that scrapes a
//! Turnpike under load.

mod board;
mod prometheus;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use turnpike::app::cluster::free_port;

use crate::harness::{Db, Proxy, ProxyOptions, pg, replicated, try_pg, value};
use crate::metrics::get;
use crate::mirrors;
use prometheus::{Prometheus, ours, promtool};

/// Names of all alerts, in the order of the file.
fn alerts() -> Vec<String> {
    let rules = fs::read_to_string(ours().join("rules/turnpike.yml")).expect("rules");
    rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::to_string).collect()
}

#[track_caller]
fn passes(args: &[&str], input: &str) {
    let output = promtool(args, input);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "promtool {args:?}: {said}");
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    passes(&["check", "config", "prometheus.yml"], "");
    passes(&["check", "rules", "--lint=all", "--lint-fatal", "rules/turnpike.yml"], "");
    passes(&["test", "rules", "tests/turnpike.yml"], "");
}

#[test]
fn every_alert_is_tested_and_explained() {
    let read = |name: &str| fs::read_to_string(ours().join(name)).expect(name);
    let (rules, tests, runbook) =
        (read("rules/turnpike.yml"), read("tests/turnpike.yml"), read("RUNBOOK.md"));
    let alerts = alerts();
    assert!(alerts.len() > 20, "{alerts:?}");
    for (name, rule) in alerts.iter().zip(rules.split("- alert: ").skip(1)) {
        assert!(tests.contains(&format!("- name: {name} fires\n")), "{name}");
        assert!(tests.contains(&format!("- name: {name} is quiet\n")), "{name}");
        for part in ["labels: {severity: ", "summary: \"", "description: \""] {
            assert!(rule.contains(part), "{name} has no {part}");
        }
        assert!(rule.contains(&format!("runbook: \"RUNBOOK.md#{}\"", name.to_lowercase())), "{name}");
    }
    let explained: Vec<&str> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(explained, alerts);
}

#[test]
fn dashboards_are_in_order() {
    let boards = board::all();
    let names: Vec<&str> = boards.iter().map(|board| board.name.as_str()).collect();
    assert_eq!(names, ["backends", "mirrors", "pools", "reports", "shapes", "tenants", "traffic"]);
    let problems: Vec<String> = boards.iter().flat_map(board::Board::problems).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// A metric whose label has everything in it that must be written in another way.
const AWKWARD: &str = "a\"b\\c\nd\u{e9}";

/// A report at this port, and a CDN at the other that is told of it.
fn reports(db: &Db, port: u16, cdn: u16) -> String {
    let (name, user) = (&db.name, &db.user);
    format!(
        "[reports]\nlisten = \"127.0.0.1:{port}\"\n[[report]]\nname = \"n\"\ndatabase = \"{name}\"\nuser = \"{user}\"\n\
         sql = \"SELECT n FROM t\"\naccess = \"public\"\n\
         [[cdn]]\nname = \"edge\"\nkind = \"purge\"\nurl = \"http://127.0.0.1:{cdn}/\"\n"
    )
}

fn options(db: &Db, sections: &str) -> ProxyOptions {
    let (name, user) = (&db.name, &db.user);
    let extra = format!(
        "[[cluster]]\nname = \"main\"\nbackends = [\"primary\", \"replica1\", \"replica2\"]\n\
         [[route]]\ntable = \"kept\"\nroute = \"primary\"\n\
         [tenants]\nby = \"user\"\nstatements_per_second = 100000\n\
         [[metric]]\nname = \"events\"\nhelp = \"All \\\"events\\\".\\nReally.\"\ndatabase = \"{name}\"\n\
         user = \"{user}\"\ninterval = \"1s\"\n\
         query = '''SELECT E'a\"b\\\\c\\nd\u{e9}' AS kind, count(*) AS value FROM audit_log'''\n"
    ) + &mirrors::options(db, mirrors::second().primary().port, &["name = \"next\""], sections)
        .extra;
    // Few connections, so that clients wait for them; and a tenant of whom nothing is refused.
    ProxyOptions { extra, pool: "size = \"adaptive\"\nmax_size = 2".into(), ..Default::default() }
}

/// Clients that do all that dashboards tell of, until the value is dropped.
struct Load {
    over: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    async fn on(proxy: &Proxy, db: &Db) -> Load {
        let mut load = Load { over: Arc::default(), tasks: Vec::new() };
        let setup = "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0); CREATE TABLE kept (n int)";
        pg(&proxy.url(db)).await.batch_execute(setup).await.expect("made");
        replicated().wait_replayed().unwrap_or_else(|e| panic!("{e}"));
        // What is not there differs there.
        mirrors::prepare_second(db, "CREATE TABLE t (id int PRIMARY KEY, n int); GRANT ALL ON t TO PUBLIC");
        for _ in 0..5 {
            load.client(proxy, db, &["SELECT n FROM t WHERE id = 1", "SELECT count(*) FROM audit_log"]).await;
        }
        load.client(proxy, db, &["SELECT n FROM kept"]).await;
        for _ in 0..3 {
            load.client(proxy, db, &["UPDATE t SET n = n + 1 WHERE id = 1", "SELECT 1/0"]).await;
        }
        let pinned = pg(&proxy.url(db)).await;
        pinned.batch_execute("CREATE TEMPORARY TABLE mine (n int)").await.expect("made");
        load.tasks.push(tokio::spawn(async move {
            let _pinned = pinned;
            std::future::pending::<()>().await;
        }));
        load
    }

    /// Somebody who looks at a report again and again.
    fn reader(&mut self, port: u16) {
        let over = self.over.clone();
        self.tasks.push(tokio::spawn(async move {
            let http = crate::reports::http();
            while !over.load(SeqCst) {
                let _ = http.get(format!("http://127.0.0.1:{port}/reports/n")).send().await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }));
    }

    /// A client that runs these, prepared and not, again and again. Those that fail are meant to.
    async fn client(&mut self, proxy: &Proxy, db: &Db, statements: &'static [&'static str]) {
        let (client, over) = (pg(&proxy.url(db)).await, self.over.clone());
        self.tasks.push(tokio::spawn(async move {
            while !over.load(SeqCst) {
                for sql in statements {
                    let _ = client.simple_query(sql).await;
                    let _ = client.query(*sql, &[]).await;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }));
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Selectors of series within an expression, by their names.
fn selectors(expr: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = expr;
    while let Some(at) = rest.find("turnpike").into_iter().chain(rest.find("process_")).min() {
        let (before, from) = rest.split_at(at);
        let end =
            from.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(from.len());
        let labels =
            if from[end..].starts_with('{') { from[end..].find('}').expect("an end") + 1 } else { 0 };
        // A label's value may be that, too.
        if !before.ends_with('"') {
            found.push(from[..end + labels].to_string());
        }
        rest = &from[end + labels..];
    }
    found
}

#[test]
fn selectors_are_found() {
    assert_eq!(
        selectors("sum(rate(turnpike_a{b=\"x\"}[5m])) / turnpike:c:d > process_e{job=\"turnpike\"}"),
        ["turnpike_a{b=\"x\"}", "turnpike:c:d", "process_e{job=\"turnpike\"}"]
    );
}

/// How many series each family has.
fn families(text: &str) -> BTreeMap<String, usize> {
    let mut families = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        *families.entry(name.to_string()).or_default() += 1;
    }
    families
}

/// Series of one metric: 40 shapes and all others; of a histogram, 19 buckets for each.
const MOST_SERIES: usize = 41 * 19;

/// Whatever clients send, families have no more series than the configuration allows.
async fn stays_bounded(proxy: &Proxy, db: &Db) {
    let before = families(&get(proxy, "/metrics").1);
    let client = pg(&proxy.url(db)).await;
    for n in 0..150 {
        value(&client, &format!("SELECT count(*) AS c{n} FROM t")).await;
        client.simple_query(&format!("SELECT nothing{n}")).await.expect_err("there is no such column");
    }
    // Refusals are slow on purpose.
    let strangers = (0..20).map(|n| proxy.url_as(&format!("nobody{n}"), "x", &format!("nothing{n}")));
    let tasks: Vec<_> = strangers.map(|url| tokio::spawn(try_pg(url))).collect();
    for task in tasks {
        assert!(task.await.expect("no panic").is_err(), "there is no such user");
    }
    let after = families(&get(proxy, "/metrics").1);
    for (name, n) in &after {
        let grows = name.starts_with("turnpike_shape_") || name == "turnpike_errors_by_class_total";
        assert!(grows || Some(n) == before.get(name), "{name}: {n} series after {:?}", before.get(name));
        assert!(*n <= MOST_SERIES, "{name} has {n} series");
    }
}

/// Asks until each of these finds something.
async fn find(prometheus: &Prometheus, mut wanted: Vec<board::Query>) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !wanted.is_empty() {
        wanted.retain(|query| {
            let found = prometheus.numbers(&query.expr, query.now);
            found.unwrap_or_else(|e| panic!("{}: {}: {e}", query.place, query.expr)) == 0
        });
        assert!(Instant::now() < deadline, "these find nothing: {wanted:#?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_finds_something_under_load() {
    let db = Db::in_cluster(replicated());
    replicated().wait_replayed().unwrap_or_else(|e| panic!("{e}"));
    let on_cluster = |config: String| config.replace("backend = \"primary\"\n", "cluster = \"main\"\n");
    let (port, cdn) = (free_port(), crate::reports::cdns::Api::default().serve().await);
    let proxy = Proxy::edited(&db, &options(&db, &reports(&db, port, cdn)), on_cluster);
    let prometheus = Prometheus::of(proxy.http_port);
    let mut load = Load::on(&proxy, &db).await;
    load.reader(port);
    let boards = board::all();
    find(&prometheus, boards.iter().flat_map(board::Board::queries).collect()).await;
    for board in &boards {
        for (series, label) in board.choices() {
            let found = prometheus.api(&format!("label/{label}/values"), &[]).expect("labels");
            assert!(found.as_array().is_some_and(|found| !found.is_empty()), "{}: {label}", board.name);
            assert_ne!(prometheus.numbers(&series, true), Ok(0), "{}: {series}", board.name);
        }
        for expr in board.annotations() {
            prometheus.numbers(&expr, false).unwrap_or_else(|e| panic!("{}: {expr}: {e}", board.name));
        }
    }
    alerts_watch_what_there_is(&prometheus).await;
    // Prometheus has read the label that was hard to write.
    let kinds = prometheus.api("label/kind/values", &[]).expect("values");
    assert!(kinds.as_array().is_some_and(|k| k.iter().any(|k| k == AWKWARD)), "{kinds}");
    let (_, text) = get(&proxy, "/metrics");
    passes(&["check", "metrics"], &text);
    drop(load);
    stays_bounded(&proxy, &db).await;
    mirrors::leave_second(&db);
}

/// Rules are evaluated without an error, series that they speak of exist, and none fires where nothing is wrong.
async fn alerts_watch_what_there_is(prometheus: &Prometheus) {
    let data = prometheus.api("rules", &[]).expect("rules");
    let groups = data["groups"].as_array().expect("groups");
    let rules: Vec<_> = groups.iter().flat_map(|g| g["rules"].as_array().expect("rules")).collect();
    let mut wanted = HashSet::new();
    for rule in &rules {
        assert!(rule["health"] == "ok" && rule["lastError"].is_null(), "{rule}");
        wanted.extend(selectors(rule["query"].as_str().expect("an expression")));
    }
    let series = |expr| board::Query { place: "rules".into(), expr, now: true };
    find(prometheus, wanted.into_iter().map(series).collect()).await;
    let firing: Vec<_> = rules.iter().filter(|rule| rule["state"] == "firing").collect();
    assert!(firing.is_empty(), "{firing:#?}");
    let count = rules.iter().filter(|rule| rule["type"] == "alerting").count();
    assert_eq!(count, alerts().len());
}
