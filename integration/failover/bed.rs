//! Three servers of which each commit is on two, and a proxy that knows them as one cluster.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use turnpike::app::cluster::{Cluster as Servers, ClusterOptions, Server};

use crate::harness::raw::Raw;
use crate::harness::{Db, Proxy, ProxyOptions, pg, rows};

/// A commit is acknowledged when a replica has it; what rewinding needs is kept; nothing but clients takes transaction
/// numbers.
const SETTINGS: &[(&str, &str)] = &[
    ("synchronous_standby_names", "ANY 1 (*)"),
    ("wal_log_hints", "on"),
    ("full_page_writes", "on"),
    ("wal_keep_size", "1GB"),
    ("max_wal_size", "2GB"),
    ("autovacuum", "off"),
];

pub struct Bed {
    pub servers: &'static Servers,
    db: Db,
    proxy: Proxy,
    options: ProxyOptions,
    leader: String,
}

/// The test's database is on the cluster.
fn clustered(config: String) -> String {
    config.replace("backend = \"primary\"\n", "cluster = \"main\"\n")
}

fn ask(server: &Server, database: &str, sql: &str) -> String {
    server.psql(database, sql).unwrap_or_else(|e| panic!("{}: {sql}: {e}", server.name))
}

/// The servers of a test's own: each commit is on two of three.
pub fn servers() -> &'static Servers {
    let settings = SETTINGS.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let options = ClusterOptions { replicas: 2, settings, ..Default::default() };
    // Databases of tests live as long as the process.
    let servers: &Servers = Box::leak(Box::new(Servers::start(options).unwrap_or_else(|e| panic!("{e}"))));
    ask(servers.primary(), "postgres", "CREATE DATABASE turnpike_template");
    servers
}

impl Bed {
    pub async fn new() -> Bed {
        Bed::with("", "").await
    }

    /// With these lines of `[general]` and of `[[cluster]]`.
    pub async fn with(general: &str, lines: &str) -> Bed {
        let servers = servers();
        let db = Db::in_cluster(servers);
        let extra = format!(
            "[[user]]\nname = \"postgres\"\npassword = \"{}\"\n\
             [[cluster]]\nname = \"main\"\nuser = \"postgres\"\n\
             backends = [\"primary\", \"replica1\", \"replica2\"]\n{lines}\n",
            servers.password()
        );
        let options = ProxyOptions { extra, general: general.into(), ..Default::default() };
        let proxy = Proxy::edited(&db, &options, clustered);
        let bed = Bed { servers, db, proxy, options, leader: "primary".into() };
        let client = pg(&bed.url()).await;
        client
            .batch_execute(
                "CREATE TABLE ledger (id bigint PRIMARY KEY); CREATE TABLE bench (client int);
                 CREATE TABLE quiet (n int); INSERT INTO quiet VALUES (1); CREATE TABLE direct (n int)",
            )
            .await
            .expect("made");
        for name in ["replica1", "replica2"] {
            bed.becomes(bed.server(name), "replica").await;
        }
        bed.until_split(&client).await;
        bed
    }

    /// Until reads go to replicas: what the tables are is known.
    pub async fn until_split(&self, client: &tokio_postgres::Client) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let route = rows(client, "EXPLAIN (ROUTE) SELECT n FROM quiet").await;
            let route = route.into_iter().flatten().collect::<Vec<_>>().join("\n");
            if !route.contains(&format!("Route: backend \"{}\"", self.leader)) {
                return;
            }
            assert!(Instant::now() < deadline, "reads stay on the primary: {route}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn raw(&self) -> Raw {
        self.proxy.raw(&self.db)
    }

    /// Has the primary notify, past the proxy.
    pub fn notify(&self, payload: &str) {
        self.ask(self.leader(), &format!("NOTIFY news, '{payload}'"));
    }

    /// Another proxy of the same, with its configuration edited.
    pub fn another(&self, edit: impl Fn(String) -> String) -> Proxy {
        Proxy::edited(&self.db, &self.options, |config| edit(clustered(config)))
    }

    /// How clients reach a proxy of the same.
    pub fn url_of(&self, proxy: &Proxy) -> String {
        proxy.url(&self.db)
    }

    /// Edits the configuration as it was at the start, and has it read.
    pub async fn reload(&self, edit: impl FnOnce(String) -> String) {
        self.proxy.rewrite(&self.db, &self.options, |config| edit(clustered(config)));
        let admin = pg(&self.proxy.admin_url(&self.db)).await;
        admin.batch_execute("RELOAD").await.expect("it is a good one");
    }

    /// The members that the proxy knows.
    pub async fn members(&self) -> Vec<String> {
        let admin = pg(&self.proxy.admin_url(&self.db)).await;
        rows(&admin, "SHOW BACKENDS").await.into_iter().map(|row| row[1].clone()).collect()
    }

    pub fn url(&self) -> String {
        self.proxy.url(&self.db)
    }

    pub fn server(&self, name: &str) -> &'static Server {
        let all = || self.servers.replicas().iter().chain([self.servers.primary()]);
        all().find(|s| s.name == name).expect("a server of that name")
    }

    pub fn leader(&self) -> &'static Server {
        self.server(&self.leader)
    }

    /// Runs SQL in the test's database, past the proxy.
    pub fn ask(&self, server: &Server, sql: &str) -> String {
        ask(server, &self.db.name, sql)
    }

    /// Kills the primary, and has the replica that has most take over. Returns it and the old one.
    pub fn fail_over(&mut self) -> (&'static Server, &'static Server) {
        let old = self.leader();
        old.crash().unwrap_or_else(|e| panic!("{e}"));
        let (heir, other) = self.most_advanced(old);
        other.follow(heir).unwrap_or_else(|e| panic!("{e}"));
        heir.promote().unwrap_or_else(|e| panic!("{e}"));
        self.leader.clone_from(&heir.name);
        (heir, old)
    }

    fn most_advanced(&self, old: &Server) -> (&'static Server, &'static Server) {
        let left = ["primary", "replica1", "replica2"].map(|name| self.server(name));
        let [a, b] = left.into_iter().filter(|s| s.name != old.name).collect::<Vec<_>>()[..] else {
            panic!("there are three")
        };
        let position = |s: &Server| {
            // What is still on its way to it has arrived when nobody sends any more.
            let gone = Instant::now() + Duration::from_secs(10);
            while ask(s, "postgres", "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'")
                != "0"
            {
                assert!(Instant::now() < gone, "{} still follows a server that is gone", s.name);
                std::thread::sleep(Duration::from_millis(10));
            }
            let sql = "SELECT greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0'";
            ask(s, "postgres", sql).parse::<u64>().expect("a position")
        };
        if position(a) >= position(b) { (a, b) } else { (b, a) }
    }

    /// Starts a primary of the past as if nothing had happened, so that nothing keeps it from acknowledging writes.
    /// Returns its next transaction's number.
    pub fn bring_back(&self, old: &Server) -> String {
        old.configure(&[("synchronous_standby_names", "")]).unwrap_or_else(|e| panic!("{e}"));
        old.start().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(ask(old, "postgres", "SELECT pg_is_in_recovery()"), "f");
        self.next_transaction(old)
    }

    pub fn next_transaction(&self, server: &Server) -> String {
        ask(server, "postgres", "SELECT pg_snapshot_xmax(pg_current_snapshot())")
    }

    /// Has it follow the primary, with all of the primary's data.
    pub fn rejoin(&self, old: &Server) {
        old.rejoin(self.leader()).unwrap_or_else(|e| panic!("{e}"));
        let streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        let deadline = Instant::now() + Duration::from_secs(60);
        while ask(self.leader(), "postgres", streaming) != "2" {
            assert!(Instant::now() < deadline, "two replicas follow");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Writes past the proxy; returns when that is acknowledged.
    pub async fn write_directly(&self, server: &Server) {
        let url = server.superuser_url(&self.db.name);
        pg(&url).await.batch_execute("INSERT INTO direct VALUES (1)").await.expect("written");
    }

    /// What the proxy says of a server.
    pub async fn state(&self, server: &Server) -> String {
        let admin = pg(&self.proxy.admin_url(&self.db)).await;
        let rows = rows(&admin, "SHOW BACKENDS").await;
        rows.iter().find(|row| row[1] == server.name).expect("a row of it")[4].clone()
    }

    pub async fn becomes(&self, server: &Server, state: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let now = self.state(server).await;
            if now == state {
                return;
            }
            assert!(Instant::now() < deadline, "{} is {now}, not {state}", server.name);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All rows of the ledger.
    pub fn ledger(&self) -> HashSet<i64> {
        let rows = self.ask(self.leader(), "SELECT id FROM ledger");
        rows.lines().map(|id| id.parse().expect("a number")).collect()
    }

    pub fn bench_rows(&self) -> u64 {
        self.ask(self.leader(), "SELECT count(*) FROM bench").parse().expect("a count")
    }
}
