//! The throwaway clusters themselves: they replicate, restart, and leave nothing behind.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::kill;
use nix::unistd::Pid;
use turnpike::app::cluster::{Cluster, ClusterOptions, Server, SslFiles, StopMode};

use crate::harness::{Db, SAMPLE_EVENTS, eventually, pg, try_pg, value};

/// Set for the copy of ourselves that is going to be killed.
const HOLD: &str = "TURNPIKE_TEST_HOLD_CLUSTER";

fn own_cluster(options: ClusterOptions) -> Cluster {
    Cluster::start(options).unwrap_or_else(|e| panic!("{e}"))
}

fn ask(server: &Server, sql: &str) -> String {
    server.psql("postgres", sql).unwrap_or_else(|e| panic!("{}: {e}", server.name))
}

#[tokio::test]
async fn a_database_of_ones_own() {
    let (a, b) = (Db::new(), Db::new());
    assert_ne!(a.name, b.name);
    let client = pg(&a.direct_url()).await;
    client.batch_execute("CREATE TABLE mine (id int)").await.expect("the role owns the database");
    assert_eq!(value(&client, "SELECT current_user").await, a.user);
    assert_eq!(value(&client, "SELECT count(*) FROM audit_log").await, SAMPLE_EVENTS.to_string());
    assert!(a.verifier().starts_with("SCRAM-SHA-256$"));
    let wrong = a.direct_url().replace(&a.password, "wrong");
    assert!(try_pg(wrong).await.is_err(), "TCP asks for the password");
}

#[test]
fn replicas_stream_and_take_over() {
    let cluster = own_cluster(ClusterOptions { replicas: 2, ..Default::default() });
    ask(cluster.primary(), "CREATE TABLE t AS SELECT 7 AS x");
    cluster.wait_replayed().unwrap_or_else(|e| panic!("{e}"));
    for replica in cluster.replicas() {
        assert_eq!(ask(replica, "SELECT x, pg_is_in_recovery() FROM t"), "7|t");
    }
    let heir = &cluster.replicas()[0];
    cluster.primary().kill().expect("the primary is ours to kill");
    heir.promote().unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(ask(heir, "INSERT INTO t VALUES (8) RETURNING pg_is_in_recovery()"), "f");
}

#[test]
fn servers_stop_and_start_on_the_same_port() {
    let settings = vec![("work_mem".to_owned(), "5MB".to_owned())];
    let cluster = own_cluster(ClusterOptions { settings, ..Default::default() });
    let server = cluster.primary();
    assert_eq!(ask(server, "SHOW work_mem"), "5MB");
    let first = server.pid();
    for mode in [StopMode::Fast, StopMode::Immediate, StopMode::Smart] {
        server.restart(mode).unwrap_or_else(|e| panic!("{mode:?}: {e}"));
        assert_eq!(ask(server, "SELECT 1"), "1");
    }
    server.kill().and_then(|()| server.start()).unwrap_or_else(|e| panic!("after SIGKILL: {e}"));
    assert_ne!(server.pid(), first);
    assert_eq!(ask(server, "SELECT 1"), "1");
    server.stop(StopMode::Fast).expect("it stops");
    assert_eq!(server.pid(), None);
}

#[test]
fn tls_and_rules_of_ones_own() {
    let files = tempfile::tempdir().expect("a temporary directory");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (cert, key) = (files.path().join("cert.pem"), files.path().join("key.pem"));
    fs::write(&cert, made.cert.pem()).expect("a file");
    fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
    let cluster = own_cluster(ClusterOptions {
        ssl: Some(SslFiles { cert, key, client_ca: None }),
        hba: Some("hostnossl all all 127.0.0.1/32 reject".into()),
        ..Default::default()
    });
    let server = cluster.primary();
    let connects = |sslmode: &str| {
        let url = format!("{}?sslmode={sslmode}", server.superuser_url("postgres"));
        let mut psql = Command::new(cluster.binaries().program("psql"));
        psql.args(["-XAtc", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &url]);
        psql.output().expect("psql runs").status.success()
    };
    assert!(connects("require"));
    assert!(!connects("disable"));
}

#[test]
fn dropping_leaves_nothing() {
    let cluster = own_cluster(ClusterOptions { replicas: 1, ..Default::default() });
    let (dir, pids) = (cluster.dir().to_path_buf(), pids(&cluster));
    assert_eq!(pids.len(), 2);
    drop(cluster);
    assert_gone(&dir, &pids);
}

/// Not a test but the victim of the next one.
#[test]
#[allow(clippy::print_stdout, reason = "this is how the victim says where it lives")]
fn holder() {
    if env::var_os(HOLD).is_none() {
        return;
    }
    let cluster = own_cluster(ClusterOptions { replicas: 1, ..Default::default() });
    let pids: Vec<String> = pids(&cluster).iter().map(u32::to_string).collect();
    println!("\nheld {} {}", cluster.dir().display(), pids.join(" "));
    thread::sleep(Duration::from_secs(600));
}

#[test]
fn being_killed_leaves_nothing() {
    let mut holder = Command::new(env::current_exe().expect("we are a file"))
        .args(["--exact", "cluster::holder", "--nocapture"])
        .env(HOLD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("we start again");
    let output = BufReader::new(holder.stdout.take().expect("it was asked for"));
    let held = output.lines().map_while(Result::ok).find(|line| line.starts_with("held "));
    let held = held.expect("the holder says what it holds");
    let mut words = held.split(' ').skip(1);
    let dir = PathBuf::from(words.next().expect("the directory"));
    let pids: Vec<u32> = words.map(|pid| pid.parse().expect("a process id")).collect();
    assert!(dir.is_dir() && pids.len() == 2);
    holder.kill().and_then(|()| holder.wait()).expect("it is our child");
    assert_gone(&dir, &pids);
}

fn pids(cluster: &Cluster) -> Vec<u32> {
    cluster.replicas().iter().chain([cluster.primary()]).filter_map(Server::pid).collect()
}

#[track_caller]
fn assert_gone(dir: &Path, pids: &[u32]) {
    eventually("the directory is removed", || !dir.exists());
    for &pid in pids {
        eventually("the process ends", || !alive(pid));
    }
}

/// A process that waits to be reaped by whoever adopted it has ended.
fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.contains(") Z ") && kill(Pid::from_raw(pid as i32), None).is_ok()
}
