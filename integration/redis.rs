//! Results that are kept in Redis, too: found there when memory has no room for them, never when something was written
//! since, and not missed when Redis is slow, lies, or goes away. Redis is real: one, behind sentinels, a cluster, over TLS.

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio_postgres::Client;
use turnpike::app::cluster::free_port;

use crate::caching::keep;
use crate::harness::relay::Chatty;
use crate::harness::{Db, Proxy, ProxyOptions, eventually, pg, rows, value};

/// One server, ended when dropped.
pub struct Redis {
    child: Child,
    pub port: u16,
    /// Where its files are.
    dir: TempDir,
}

impl Redis {
    pub fn start(args: &[&str]) -> Redis {
        Redis::at(free_port(), &[&["--save", "", "--appendonly", "no"], args].concat())
    }

    pub fn at(port: u16, args: &[&str]) -> Redis {
        let dir = tempfile::tempdir().expect("a directory");
        let redis = Redis { child: Redis::spawn(&dir, port, args), port, dir };
        redis.wait(args);
        redis
    }

    fn spawn(dir: &TempDir, port: u16, args: &[&str]) -> Child {
        let mut command = Command::new("redis-server");
        if let Some(file) = args.first().filter(|arg| arg.ends_with(".conf")) {
            command.arg(dir.path().join(file)).args(&args[1..]);
        } else {
            command.args(["--bind", "127.0.0.1", "--dir"]).arg(dir.path());
            if !args.contains(&"--tls-port") {
                command.arg("--port").arg(port.to_string());
            }
            command.args(args);
        }
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("redis-server runs")
    }

    /// Kills it (SIGKILL) and starts it again, with the files that it has left, or without them.
    pub fn kill_and_start(&mut self, args: &[&str], keeps: bool) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !keeps {
            self.dir = tempfile::tempdir().expect("a directory");
        }
        self.child = Redis::spawn(&self.dir, self.port, args);
        self.wait(args);
    }

    fn wait(&self, args: &[&str]) {
        let tls = args.contains(&"--tls-port");
        eventually("Redis answers", || {
            tls && std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
                || !tls && matches!(&*self.cli(&["ping"]), "PONG" | "NOAUTH Authentication required.")
        });
    }

    pub fn cli(&self, args: &[&str]) -> String {
        let port = self.port.to_string();
        let out = Command::new("redis-cli").args(["-p", &port]).args(args).output().expect("redis-cli runs");
        String::from_utf8_lossy(&out.stdout).trim().to_string()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("it is ours");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Rows of which memory has room for a few.
const ROWS: i32 = 60;

struct Bed {
    db: Db,
    proxy: Proxy,
}

impl Bed {
    async fn new(redis: &str) -> (Bed, Client) {
        let db = Db::new();
        let options = ProxyOptions {
            general: "cache_memory = \"64KiB\"".into(),
            database: "writers = \"proxy\"".into(),
            extra: format!("[redis]\n{redis}\n[[cache]]\nlevels = [\"l1\", \"l2\"]\n"),
            ..Default::default()
        };
        let proxy = Proxy::start(&db, options);
        let client = pg(&proxy.url(&db)).await;
        let tables = format!(
            "CREATE TABLE kv (id int PRIMARY KEY, n int NOT NULL, v text NOT NULL);
             INSERT INTO kv SELECT i, 0, string_agg(md5(i::text || j), '') FROM generate_series(1, {ROWS}) i,
             generate_series(1, 100) j GROUP BY i"
        );
        client.batch_execute(&tables).await.expect("made");
        keep(&client, &read(1)).await;
        (Bed { db, proxy }, client)
    }

    /// What SHOW CACHE counts.
    async fn counts(&self) -> HashMap<String, [i64; 4]> {
        let admin = pg(&self.proxy.admin_url(&self.db)).await;
        let rows = admin.query("SHOW CACHE", &[]).await.expect("shown");
        let of =
            |row: &tokio_postgres::Row| ["count", "bytes", "hits", "misses"].map(|n| row.get::<_, i64>(n));
        rows.iter().map(|row| (row.get::<_, String>("what"), of(row))).collect()
    }

    async fn hits(&self) -> i64 {
        self.counts().await["l2"][2]
    }

    /// Waits until results are kept in Redis.
    async fn stored(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.counts().await["l2"][0] < i64::from(ROWS) {
            assert!(Instant::now() < deadline, "{:?}", self.counts().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until Redis is there, or not.
    async fn is_there(&self, there: bool) {
        let admin = pg(&self.proxy.admin_url(&self.db)).await;
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let rows = admin.query("SHOW CACHE", &[]).await.expect("shown");
            let l2 = rows.iter().find(|row| row.get::<_, &str>("what") == "l2").expect("a row");
            if (l2.get::<_, &str>("detail") == "Redis is there") == there {
                return;
            }
            assert!(Instant::now() < deadline, "Redis is there: not {there}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn read(id: i32) -> String {
    format!("SELECT n, v FROM kv WHERE id = {id}")
}

/// Reads all rows, and sees that they are what they should be.
async fn all(client: &Client, n: i32) {
    for id in 1..=ROWS {
        let rows = rows(client, &read(id)).await;
        assert_eq!(rows[0][0], n.to_string(), "row {id}");
        assert_eq!(rows[0][1].len(), 3200, "row {id}");
    }
}

/// What holds however Redis is reached.
async fn works(redis: &str) -> (Bed, Client) {
    let (bed, client) = Bed::new(redis).await;
    bed.is_there(true).await;
    all(&client, 0).await;
    bed.stored().await;
    let before = bed.hits().await;
    all(&client, 0).await;
    let hits = bed.hits().await - before;
    assert!(hits >= i64::from(ROWS) / 2, "{hits} of {ROWS} are found there: {:?}", bed.counts().await);
    client.batch_execute("UPDATE kv SET n = n + 1").await.expect("written");
    all(&client, 1).await;
    all(&client, 1).await;
    (bed, client)
}

#[tokio::test]
async fn what_memory_has_no_room_for_is_found_in_redis() {
    let redis = Redis::start(&["--requirepass", "secret"]);
    assert_eq!(redis.cli(&["ping"]), "NOAUTH Authentication required.");
    let nodes = format!("nodes = [\"127.0.0.1:{}\"]\npassword = \"secret\"\ndatabase = 3", redis.port);
    let (bed, client) = works(&nodes).await;
    let cli = |args: &[&str]| redis.cli(&[&["--no-auth-warning", "-a", "secret", "-n", "3"], args].concat());
    let keys = cli(&["keys", "turnpike:*"]);
    let name = keys.lines().next().expect("something is kept").to_string();
    assert!(cli(&["pttl", &name]).parse::<i64>().is_ok_and(|ms| ms > 3_000_000), "it goes by itself");
    // Nothing of it can be read there, and what was changed there is not believed.
    let digest = value(&client, "SELECT md5('11')").await;
    for key in keys.lines() {
        assert!(!cli(&["get", key]).contains(&digest));
        cli(&["setrange", key, "40", "x"]);
    }
    all(&client, 1).await;
    assert!(bed.counts().await["l2 broken"][0] > 0, "{:?}", bed.counts().await);
    // What is flushed is not found again.
    let admin = pg(&bed.proxy.admin_url(&bed.db)).await;
    all(&client, 1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    for flush in ["FLUSH CACHE", "FLUSH CACHE SHAPE"] {
        let plans = rows(&client, &format!("EXPLAIN (ROUTE) {}", read(1))).await;
        let print = plans.iter().flatten().find_map(|line| line.trim().strip_prefix("Fingerprint: "));
        let flush = match flush {
            "FLUSH CACHE" => flush.to_string(),
            _ => format!("{flush} {}", print.expect("a fingerprint").split(' ').next().unwrap_or_default()),
        };
        let before = bed.hits().await;
        admin.batch_execute(&flush).await.expect("flushed");
        all(&client, 1).await;
        assert_eq!(bed.hits().await, before, "{flush}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn nobody_waits_for_a_redis_that_is_gone() {
    let redis = Redis::start(&[]);
    let port = redis.port;
    let nodes = format!("nodes = [\"127.0.0.1:{port}\"]\nencrypt = false\ncompress_above = \"64B\"");
    let (bed, client) = works(&nodes).await;
    // It does not answer: each waits for the deadline, and soon nobody does.
    redis.signal(Signal::SIGSTOP);
    let began = Instant::now();
    all(&client, 1).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    bed.is_there(false).await;
    let away = bed.counts().await["l2 late"][0];
    assert!(away > 0, "{:?}", bed.counts().await);
    redis.signal(Signal::SIGCONT);
    bed.is_there(true).await;
    all(&client, 1).await;
    // It dies, and what it kept dies with it.
    redis.signal(Signal::SIGKILL);
    all(&client, 1).await;
    bed.is_there(false).await;
    client.batch_execute("UPDATE kv SET n = n + 1").await.expect("written");
    all(&client, 2).await;
    drop(redis);
    let again = Redis::at(port, &["--save", "", "--maxmemory", "1mb", "--maxmemory-policy", "noeviction"]);
    bed.is_there(true).await;
    // It is full.
    for _ in 0..3 {
        all(&client, 2).await;
    }
    assert_eq!(again.cli(&["ping"]), "PONG");
}

/// Answers that belong to no question of ours: nothing of it is believed, and where there can be none of that kind, whoever
/// gives it is connected to anew.
#[tokio::test]
async fn who_answers_something_else_is_not_believed() {
    let redis = Redis::start(&[]);
    let network = Chatty::to(redis.port);
    let (bed, client) = works(&format!("nodes = [\"127.0.0.1:{}\"]", network.port)).await;
    for (more, what) in [("$3\r\nabc\r\n", "l2 broken"), ("+OK\r\n", "l2 lost"), (":1\r\n", "l2 lost")] {
        let (before, deadline) = (bed.counts().await[what][0], Instant::now() + Duration::from_secs(20));
        while bed.counts().await[what][0] == before {
            assert!(Instant::now() < deadline, "{more:?}: {:?}", bed.counts().await);
            network.say(more.as_bytes());
            all(&client, 1).await;
        }
        bed.is_there(true).await;
        let before = bed.hits().await;
        while bed.hits().await < before + 20 {
            assert!(Instant::now() < deadline, "{more:?}: {:?}", bed.counts().await);
            all(&client, 1).await;
        }
    }
}

#[tokio::test]
async fn sentinels_say_where_redis_is() {
    let first = Redis::start(&[]);
    let second = Redis::start(&["--replicaof", "127.0.0.1", &first.port.to_string()]);
    let (port, dir) = (free_port(), tempfile::tempdir().expect("a directory"));
    let text = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor audit 127.0.0.1 {} 1\n\
         sentinel down-after-milliseconds audit 500\nsentinel failover-timeout audit 3000\n",
        dir.path().display(),
        first.port
    );
    std::fs::write(dir.path().join("sentinel.conf"), text).expect("written");
    let sentinel = Redis { child: Redis::spawn(&dir, port, &["sentinel.conf", "--sentinel"]), port, dir };
    eventually("the sentinel knows the replica", || {
        sentinel.cli(&["sentinel", "replicas", "audit"]).contains(&second.port.to_string())
    });
    let nodes = format!("mode = \"sentinel\"\nmaster = \"audit\"\nnodes = [\"127.0.0.1:{port}\"]");
    let (bed, client) = works(&nodes).await;
    drop(first);
    eventually("the replica is promoted", || second.cli(&["role"]).starts_with("master"));
    bed.is_there(true).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    let before = bed.hits().await;
    while bed.hits().await < before + 20 {
        assert!(Instant::now() < deadline, "{:?}", bed.counts().await);
        all(&client, 1).await;
    }
}

#[tokio::test]
async fn a_cluster_is_one_redis() {
    let args = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
    let nodes: Vec<Redis> = (0..3)
        .map(|_| {
            // The cluster's own port is ten thousand further.
            let port = (0..).map(|_| free_port()).find(|port| *port < 55_000).expect("a port");
            Redis::at(port, &[&["--save", "", "--appendonly", "no"], &args[..]].concat())
        })
        .collect();
    let names: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
    let made =
        Command::new("redis-cli").args(["--cluster", "create"]).args(&names).arg("--cluster-yes").output();
    let made = made.expect("redis-cli runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    eventually("the cluster is whole", || {
        nodes.iter().all(|node| node.cli(&["cluster", "info"]).contains("cluster_state:ok"))
    });
    let (_bed, _client) = works(&format!("mode = \"cluster\"\nnodes = [{:?}]", names[0])).await;
    let kept = nodes.iter().filter(|node| node.cli(&["dbsize"]).parse::<u32>().is_ok_and(|n| n > 0)).count();
    assert_eq!(kept, 3, "each has a part");
}

#[tokio::test]
async fn over_tls_by_a_user_who_may_do_no_more_than_that() {
    let dir = tempfile::tempdir().expect("a directory");
    let made =
        rcgen::generate_simple_self_signed(vec!["127.0.0.1".into(), "localhost".into()]).expect("a key");
    let file = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let (cert, key) = (file("cert.pem", made.cert.pem()), file("key.pem", made.signing_key.serialize_pem()));
    let users = "user default off\nuser turnpike on >secret ~turnpike:* -@all +get +set +ping +select\n";
    let acl = file("users.acl", users.into());
    let port = free_port();
    let tls = port.to_string();
    let args = [
        "--port",
        "0",
        "--tls-port",
        &tls,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &cert,
        "--tls-auth-clients",
        "no",
        "--aclfile",
        &acl,
        "--save",
        "",
    ];
    let _redis = Redis::at(port, &args);
    let login = "user = \"turnpike\"\npassword = \"secret\"";
    let nodes = format!("nodes = [\"localhost:{port}\"]\ntls = true\nca = {cert:?}\n{login}");
    let (bed, _client) = works(&nodes).await;
    let counts = bed.counts().await;
    assert_eq!(counts["l2 errors"][0], 0, "{counts:?}");
    // Nobody's word is taken for it.
    let (bed, client) = Bed::new(&format!("nodes = [\"localhost:{port}\"]\ntls = true\n{login}")).await;
    all(&client, 0).await;
    bed.is_there(false).await;
}
