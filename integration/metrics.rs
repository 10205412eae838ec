//! Metrics and health over HTTP: they move with the traffic, keep literals to themselves, and tell of a shutdown.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::{Db, Proxy, pg, value};

/// Status line and body of a GET.
fn get(proxy: &Proxy, path: &str) -> (String, String) {
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
