//! Metrics and health over HTTP: they move with the traffic, keep literals to themselves, and tell of a shutdown.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::{Db, Proxy, ProxyOptions, pg, replicated, try_pg, value};

/// Status line and body of a GET.
pub fn get(proxy: &Proxy, path: &str) -> (String, String) {
    let mut socket = TcpStream::connect(("127.0.0.1", proxy.http_port)).expect("it listens");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a sane timeout");
    write!(socket, "GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").expect("sent");
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    (head.lines().next().unwrap_or_default().to_string(), body.to_string())
}

/// The value of a metric of the test's pool, or of one without labels.
fn sample(text: &str, name: &str) -> f64 {
    let line =
        text.lines().find(|l| l.starts_with(&format!("{name}{{")) || l.starts_with(&format!("{name} ")));
    let line = line.unwrap_or_else(|| panic!("no {name} in\n{text}"));
    line.rsplit_once(' ').and_then(|(_, v)| v.parse().ok()).expect("a number")
}

#[tokio::test]
async fn metrics_move_with_the_traffic_and_keep_literals_to_themselves() {
    let db = Db::new();
    let proxy = Proxy::to(&db);
    let client = pg(&proxy.url(&db)).await;
    for _ in 0..7 {
        assert_eq!(value(&client, "SELECT 'very private literal'").await, "very private literal");
    }
    client.batch_execute("SELECT 1/0").await.expect_err("as one would expect");
    // The driver hears of the error before the server is ready; after this it has been.
    assert_eq!(value(&client, "SELECT 1").await, "1");
    let (status, text) = get(&proxy, "/metrics");
    assert!(status.contains("200"), "{status}");
    assert!(sample(&text, "turnpike_queries_total") >= 8.0);
    assert!(sample(&text, "turnpike_query_duration_seconds_count") >= 8.0);
    assert_eq!(sample(&text, "turnpike_errors_total"), 1.0);
    assert_eq!(sample(&text, "turnpike_clients"), 1.0);
    assert_eq!(sample(&text, "turnpike_pool_servers_idle"), 1.0);
    assert!(sample(&text, "process_resident_memory_bytes") > 1e6);
    assert!(!text.contains("private") && !text.contains(&db.password));
    assert!(!proxy.log().contains("private") && !proxy.log().contains(&db.password));
}

#[tokio::test]
async fn health_tells_of_a_shutdown() {
    let db = Db::new();
    let proxy = Proxy::to(&db);
    assert!(get(&proxy, "/healthz").0.contains("200"));
    assert!(get(&proxy, "/readyz").0.contains("200"));
    assert!(get(&proxy, "/nothing").0.contains("404"));
    let client = pg(&proxy.url(&db)).await;
    client.batch_execute("BEGIN; SELECT 1").await.expect("a transaction keeps it from ending");
    proxy.signal(nix::sys::signal::Signal::SIGTERM);
    crate::harness::eventually("it is not ready any more", || get(&proxy, "/readyz").0.contains("503"));
    assert!(get(&proxy, "/healthz").0.contains("200"));
    client.batch_execute("COMMIT").await.expect("the transaction ends as it should");
    assert!(proxy.wait().success());
}

/// All series of a metric that have changed, by their labels.
fn grown(before: &str, after: &str, name: &str) -> Vec<(String, f64)> {
    let read = |text: &str| -> BTreeMap<String, f64> {
        let of_it = text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
        of_it.map(|(labels, v)| (labels.to_string(), v.parse().expect("a number"))).collect()
    };
    let before = read(before);
    let grown = |(labels, v): (String, f64)| {
        let by = v - before.get(&labels).copied().unwrap_or_default();
        (by != 0.0).then_some((labels, by))
    };
    read(after).into_iter().filter_map(grown).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_statements_go_is_counted_and_why() {
    let db = Db::in_cluster(replicated());
    let extra = "[[cluster]]\nname = \"main\"\nbackends = [\"primary\", \"replica1\", \"replica2\"]\n\
                 [[route]]\ntable = \"kept\"\nroute = \"primary\"\n";
    let options = ProxyOptions { extra: extra.into(), ..Default::default() };
    let on_cluster = |config: String| config.replace("backend = \"primary\"\n", "cluster = \"main\"\n");
    let proxy = Proxy::edited(&db, &options, on_cluster);
    let client = pg(&proxy.url(&db)).await;
    client.batch_execute("CREATE TABLE t (n int); CREATE TABLE kept (n int)").await.expect("made");
    replicated().wait_replayed().unwrap_or_else(|e| panic!("{e}"));
    let metrics = || get(&proxy, "/metrics").1;
    let reader = pg(&proxy.url(&db)).await;
    // What it does, and what has grown of a metric then.
    let check = async |name: &str, statements: &[&str], want: &[&str]| {
        let before = metrics();
        for sql in statements {
            let _ = reader.simple_query(sql).await;
        }
        // The driver hears of an error before the server is ready.
        value(&pg(&proxy.admin_url(&db)).await, "SHOW VERSION").await;
        let grown = grown(&before, &metrics(), name);
        let found: Vec<String> = grown.iter().map(|(labels, by)| format!("{labels} {by}")).collect();
        (found == want).then_some(()).ok_or(format!("{name}: {found:?}, not {want:?} after {statements:?}"))
    };
    let routed = "turnpike_routed_total{cluster=\"main\",to=";
    let read = ["SELECT count(*) FROM t"];
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(e) = check(routed, &read, &["\"replica\",reason=\"read\"} 1"]).await {
        assert!(Instant::now() < deadline, "{e}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let kept = ["SELECT count(*) FROM kept", "SELECT count(*) FROM kept"];
    let write = ["INSERT INTO t VALUES (1)"];
    let transaction = ["BEGIN", "SELECT count(*) FROM t", "INSERT INTO t VALUES (1)", "COMMIT"];
    for (name, statements, want) in [
        (routed, &kept[..], "\"primary\",reason=\"directed\"} 2"),
        ("turnpike_route_rule_reads_total", &kept, "{rule=\"1\",about=\"table=kept\"} 2"),
        (routed, &write, "\"primary\",reason=\"write\"} 1"),
        (routed, &transaction, "\"primary\",reason=\"transaction\"} 1"),
        ("turnpike_errors_by_class_total", &["SELECT 1/0"], "{class=\"22\",source=\"server\"} 1"),
        ("turnpike_errors_by_class_total", &["SELECT nothing"], "{class=\"42\",source=\"server\"} 1"),
        (
            "turnpike_clients_pinned",
            &["CREATE TEMPORARY TABLE mine (n int)"],
            "{cause=\"temporary object\"} 1",
        ),
    ] {
        check(name, statements, &[want]).await.unwrap_or_else(|e| panic!("{e}"));
    }
    assert!(try_pg(proxy.url_as(&db.user, "wrong", &db.name)).await.is_err());
    assert!(metrics().contains("turnpike_errors_by_class_total{class=\"28\",source=\"turnpike\"} 1\n"));

    let reload = async |lines: &str| {
        let options = ProxyOptions { extra: format!("{extra}{lines}"), ..Default::default() };
        proxy.rewrite(&db, &options, on_cluster);
        pg(&proxy.admin_url(&db)).await.batch_execute("RELOAD").await.is_ok()
    };
    assert!(!reload("[[route]]\nnonsense = 1\n").await);
    let text = metrics();
    assert_eq!(sample(&text, "turnpike_config_last_reload_successful"), 0.0);
    assert_eq!(sample(&text, "turnpike_config_reload_failures_total"), 1.0);
    assert!(reload("[log]\nformat = \"json\"\n").await);
    let text = metrics();
    assert_eq!(sample(&text, "turnpike_config_last_reload_successful"), 1.0);
    assert_eq!(sample(&text, "turnpike_config_reloads_total"), 1.0);
    assert_eq!(sample(&text, "turnpike_config_pending_restart_keys"), 1.0);
}
