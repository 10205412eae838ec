//! Members that nobody has written down: found by what the primary says of its replicas, and by Patroni's REST API.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use parking_lot::Mutex;
use tokio_postgres::{Client, SimpleQueryMessage};
use turnpike::app::cluster::{Cluster as Servers, ClusterOptions, Server, StopMode};

use crate::harness::{Db, Proxy, ProxyOptions, pg, rows, value};

/// Servers of this test's own, of which the configuration names only the primary.
struct Bed {
    db: Db,
    proxy: Proxy,
}

fn options(lines: &str, general: &str) -> ProxyOptions {
    let extra = format!(
        "[plan]\nread_functions = [\"inet_server_port\"]\n\
         [[cluster]]\nname = \"main\"\nbackends = [\"primary\"]\ndiscovery_interval = \"200ms\"\n{lines}\n"
    );
    ProxyOptions { extra, general: general.into(), ..Default::default() }
}

fn on_cluster(config: String) -> String {
    config.replace("backend = \"primary\"\n", "cluster = \"main\"\n")
}

fn servers() -> &'static Servers {
    let options = ClusterOptions { replicas: 2, ..Default::default() };
    // Databases of tests live as long as the process.
    let servers: &Servers = Box::leak(Box::new(Servers::start(options).unwrap_or_else(|e| panic!("{e}"))));
    servers.primary().psql("postgres", "CREATE DATABASE turnpike_template").unwrap_or_else(|e| panic!("{e}"));
    servers
}

/// Has a replica say to its primary where it is.
fn says_where(server: &Server, leader: &Server) {
    let conninfo = format!(
        "host={} port={} user=postgres application_name=127.0.0.1:{}",
        leader.socket_dir().display(),
        leader.port,
        server.port
    );
    sql(server, &format!("ALTER SYSTEM SET primary_conninfo = '{conninfo}'"));
    sql(server, "ALTER SYSTEM SET primary_slot_name = ''");
    sql(server, "SELECT pg_reload_conf()");
}

fn sql(server: &Server, script: &str) -> String {
    server.psql("postgres", script).unwrap_or_else(|e| panic!("{script}: {e}"))
}

impl Bed {
    async fn new(servers: &'static Servers, lines: &str, general: &str) -> Bed {
        let db = Db::in_cluster(servers);
        sql(servers.primary(), &format!("GRANT pg_monitor TO {}", db.user));
        let proxy = Proxy::edited(&db, &options(lines, general), on_cluster);
        let bed = Bed { db, proxy };
        let client = bed.client().await;
        client.batch_execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)").await.expect("made");
        bed
    }

    async fn client(&self) -> Client {
        pg(&self.proxy.url(&self.db)).await
    }

    async fn admin(&self) -> Client {
        pg(&self.proxy.admin_url(&self.db)).await
    }

    async fn reload(&self, lines: &str) {
        self.proxy.rewrite(&self.db, &options(lines, ""), on_cluster);
        self.admin().await.batch_execute("RELOAD").await.expect("a configuration");
    }

    /// What SHOW BACKENDS says: name, then state and whether it was found.
    async fn shown(&self) -> BTreeMap<String, String> {
        let messages = self.admin().await.simple_query("SHOW BACKENDS").await.expect("shown");
        let row = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => {
                let field = |name: &str| row.get(name).unwrap_or_default();
                Some((field("backend").to_string(), format!("{} {}", field("state"), field("found"))))
            }
            _ => None,
        };
        messages.iter().filter_map(row).collect()
    }

    /// Until the members are these.
    async fn becomes(&self, want: &[(&str, &str)]) {
        let want: BTreeMap<_, _> = want.iter().map(|(n, s)| (n.to_string(), s.to_string())).collect();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let shown = self.shown().await;
            if shown == want {
                return;
            }
            assert!(Instant::now() < deadline, "{shown:?}, not {want:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Until reads are served by exactly these.
    async fn served_by(&self, want: &[&Server]) {
        let client = self.client().await;
        let mut want: Vec<String> = want.iter().map(|s| s.port.to_string()).collect();
        want.sort();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let mut ports = Vec::new();
            for _ in 0..30 {
                ports.push(value(&client, "SELECT inet_server_port() FROM t LIMIT 1").await);
            }
            ports.sort();
            ports.dedup();
            if ports == want {
                return;
            }
            assert!(Instant::now() < deadline, "{ports:?}, not {want:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn at(server: &Server) -> String {
    format!("127.0.0.1:{}", server.port)
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_found_where_they_say_that_they_are() {
    let servers = servers();
    let (one, two) = (&servers.replicas()[0], &servers.replicas()[1]);
    let dir = tempfile::tempdir().expect("a directory");
    let kept = format!("state_dir = {:?}\n", dir.path());
    let lines = "discovery = \"replication\"";
    let mut bed = Bed::new(servers, lines, &kept).await;
    // One that does not say where it is looks like the primary, where it comes from: that is known already.
    bed.becomes(&[("primary", "primary no")]).await;
    says_where(one, servers.primary());
    bed.becomes(&[("primary", "primary no"), (&at(one), "replica yes")]).await;
    bed.served_by(&[one]).await;
    let held = bed.client().await;
    says_where(two, servers.primary());
    let all = [("primary", "primary no"), (&at(one), "replica yes"), (&at(two), "replica yes")];
    bed.becomes(&all).await;
    bed.served_by(&[one, two]).await;
    assert_eq!(value(&held, "SELECT n FROM t").await, "1");

    // A reload changes nothing of that, SHOW CONFIG knows only what is written, and a process that starts again knows
    // them at once, though it cannot ask anybody.
    bed.proxy.rewrite(&bed.db, &options(lines, &kept), on_cluster);
    bed.admin().await.batch_execute("RELOAD").await.expect("a configuration");
    assert_eq!(bed.shown().await.len(), 3);
    let config = rows(&bed.admin().await, "SHOW CONFIG").await;
    assert!(!config.iter().any(|row| row[0].starts_with("backend.127")), "{config:?}");
    servers.primary().stop(StopMode::Fast).expect("it stops");
    bed.proxy = Proxy::edited(&bed.db, &options(lines, &kept), on_cluster);
    bed.becomes(&[("primary", "unreachable no"), (&at(one), "replica yes"), (&at(two), "replica yes")]).await;

    // One that was found may take over, and stays though nobody tells of it any more.
    one.promote().unwrap_or_else(|e| panic!("{e}"));
    says_where(two, one);
    bed.becomes(&[("primary", "unreachable no"), (&at(one), "primary yes"), (&at(two), "replica yes")]).await;
    bed.client().await.batch_execute("INSERT INTO t VALUES (2)").await.expect("written");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    bed.becomes(&[("primary", "unreachable no"), (&at(one), "primary yes"), (&at(two), "replica yes")]).await;
    bed.served_by(&[two]).await;
    // Who has gone is not one any more, and is again when it is back.
    two.stop(StopMode::Fast).expect("it stops");
    bed.becomes(&[("primary", "unreachable no"), (&at(one), "primary yes")]).await;
    assert_eq!(value(&bed.client().await, "SELECT count(*) FROM t").await, "2");
    two.start().unwrap_or_else(|e| panic!("{e}"));
    bed.becomes(&[("primary", "unreachable no"), (&at(one), "primary yes"), (&at(two), "replica yes")]).await;
}

/// What the REST API answers.
type Answer = Arc<Mutex<(StatusCode, String)>>;

async fn api() -> (String, Answer) {
    let answer: Answer = Arc::new(Mutex::new((StatusCode::OK, "{\"members\": []}".into())));
    let shared = answer.clone();
    let app = Router::new().route("/cluster", get(move || async move { shared.lock().clone() }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, answer)
}

fn member(name: &str, role: &str, server: &Server, tags: &str) -> String {
    format!(
        "{{\"name\": \"{name}\", \"role\": \"{role}\", \"state\": \"running\", \"host\": \"127.0.0.1\", \
         \"port\": {}, \"timeline\": 1, \"tags\": {{{tags}}}}}",
        server.port
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn patroni_tells_of_members() {
    let servers = servers();
    let (one, two) = (&servers.replicas()[0], &servers.replicas()[1]);
    let (url, answer) = api().await;
    let say = |members: &[String]| {
        *answer.lock() =
            (StatusCode::OK, format!("{{\"members\": [{}], \"scope\": \"x\"}}", members.join(",")));
    };
    // The first of the addresses does not answer at all.
    let lines = format!("discovery = \"patroni\"\npatroni = [\"http://127.0.0.1:1\", {url:?}]");
    let bed = Bed::new(servers, &lines, "").await;
    let leader = member("a", "leader", servers.primary(), "");
    say(&[leader.clone(), member("b", "replica", one, "")]);
    bed.becomes(&[("primary", "primary no"), ("b", "replica yes")]).await;
    bed.served_by(&[one]).await;
    say(&[
        leader.clone(),
        member("b", "replica", one, ""),
        member("c", "sync_standby", two, "\"noloadbalance\": true"),
    ]);
    let all = [("primary", "primary no"), ("b", "replica yes"), ("c", "replica yes")];
    bed.becomes(&all).await;
    bed.served_by(&[one]).await;
    // How far it is has to be known first.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let said = rows(&bed.client().await, "EXPLAIN (ROUTE) SELECT n FROM t").await;
        if said.iter().any(|row| row[0].contains("its weight is 0")) {
            break;
        }
        assert!(Instant::now() < deadline, "{said:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    say(&[leader.clone(), member("b", "replica", one, ""), member("c", "sync_standby", two, "")]);
    bed.served_by(&[one, two]).await;
    // Whatever it says instead of an answer changes nothing.
    for (status, text) in [
        (StatusCode::SERVICE_UNAVAILABLE, "{\"members\": []}".to_string()),
        (StatusCode::OK, "<html>".to_string()),
        (StatusCode::OK, format!("{{\"members\": [], \"x\": {:?}}}", "x".repeat(2 << 20))),
        (StatusCode::FOUND, String::new()),
    ] {
        *answer.lock() = (status, text);
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert_eq!(bed.shown().await.len(), 3, "{status}");
    }
    assert!(bed.proxy.log().contains("cannot find out who the members are"), "it is told of");
    // Places outside of what is allowed are none.
    bed.reload(&format!("{lines}\ndiscovery_allow = [\"10.0.0.0/8\"]")).await;
    say(&[leader.clone(), member("b", "replica", one, ""), member("c", "replica", two, "")]);
    bed.becomes(&[("primary", "primary no")]).await;
    bed.reload(&lines).await;
    bed.becomes(&all).await;
    // One that is left out goes, and its clients go on.
    let client = bed.client().await;
    say(&[leader.clone(), member("c", "replica", two, "")]);
    bed.becomes(&[("primary", "primary no"), ("c", "replica yes")]).await;
    bed.served_by(&[two]).await;
    assert_eq!(value(&client, "SELECT n FROM t").await, "1");
    bed.reload("").await;
    bed.becomes(&[("primary", "primary no")]).await;
    assert_eq!(value(&client, "SELECT n FROM t").await, "1");
}
