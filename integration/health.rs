//! Replicas behind a faulty network: slow, stalling, cut off, reset, half open. Who reads notices as little as can be.

#![allow(clippy::print_stdout, reason = "what was measured is worth reading")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use turnpike::app::cluster::{Cluster as Servers, ClusterOptions};

use crate::harness::relay::{Faulty, Mode};
use crate::harness::{Db, Proxy, ProxyOptions, pg, rows, value};

/// Servers of this test's own, each replica behind a network of its own.
struct Bed {
    servers: &'static Servers,
    networks: Vec<Faulty>,
    db: Db,
    proxy: Proxy,
}

const REPLICAS: usize = 3;
/// What reads take, each way, on a network that is well.
const USUAL: Duration = Duration::from_millis(1);
/// Clients that read without pause.
const CLIENTS: usize = 12;
/// Longest that opening a connection may take, as configured.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

async fn bed(lines: &str) -> Bed {
    let options = ClusterOptions { replicas: REPLICAS, ..Default::default() };
    // Databases of tests live as long as the process.
    let servers: &Servers = Box::leak(Box::new(Servers::start(options).unwrap_or_else(|e| panic!("{e}"))));
    servers.primary().psql("postgres", "CREATE DATABASE turnpike_template").unwrap_or_else(|e| panic!("{e}"));
    let db = Db::in_cluster(servers);
    let networks: Vec<Faulty> = servers.replicas().iter().map(|server| Faulty::to(server.port)).collect();
    networks.iter().for_each(|network| network.set_delay(USUAL));
    let extra = format!(
        "[plan]\nread_functions = [\"inet_server_port\"]\n\
         [[cluster]]\nname = \"main\"\n{lines}\nbackends = [\"primary\", \"replica1\", \"replica2\", \"replica3\"]\n"
    );
    let pool = format!("connect_timeout = \"{}s\"", CONNECT_TIMEOUT.as_secs());
    let options = ProxyOptions { extra, pool, ..Default::default() };
    let proxy = Proxy::edited(&db, &options, |config| {
        let config = config.replace("backend = \"primary\"\n", "cluster = \"main\"\n");
        let around = |text: String, (server, network): (&turnpike::app::cluster::Server, &Faulty)| {
            text.replace(&format!("port = {}\n", server.port), &format!("port = {}\n", network.port))
        };
        servers.replicas().iter().zip(&networks).fold(config, around)
    });
    let bed = Bed { servers, networks, db, proxy };
    let client = bed.client().await;
    client
        .batch_execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
        .await
        .expect("made");
    servers.wait_replayed().unwrap_or_else(|e| panic!("{e}"));
    let deadline = Instant::now() + Duration::from_secs(20);
    while value(&client, WHERE).await == servers.primary().port.to_string() {
        assert!(Instant::now() < deadline, "reads stay on the primary");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bed
}

/// Which server answers.
const WHERE: &str = "SELECT inet_server_port() FROM t LIMIT 1";

/// One read: when it was answered, by whom, and how long that took.
struct Read {
    at: Instant,
    port: u16,
    took: Duration,
    client: usize,
}

/// Clients that read until they are told to stop.
struct Load {
    over: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<Vec<Read>>>,
}

impl Load {
    async fn on(bed: &Bed) -> Load {
        let over = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for number in 0..CLIENTS {
            let client = bed.client().await;
            let over = over.clone();
            tasks.push(tokio::spawn(async move {
                let statement = client.prepare(WHERE).await.expect("prepared");
                let mut reads = Vec::new();
                while !over.load(SeqCst) {
                    let begun = Instant::now();
                    let row = client.query_one(&statement, &[]).await.expect("no read fails");
                    let port = row.get::<_, i32>(0) as u16;
                    reads.push(Read { at: Instant::now(), port, took: begun.elapsed(), client: number });
                }
                reads
            }));
        }
        Load { over, tasks }
    }

    /// All reads, in the order in which they were answered.
    async fn end(self) -> Vec<Read> {
        self.over.store(true, SeqCst);
        let mut reads = Vec::new();
        for task in self.tasks {
            reads.extend(task.await.expect("no read failed"));
        }
        reads.sort_by_key(|read| read.at);
        reads
    }
}

/// Part of the reads between two moments that a server answered.
fn share(reads: &[Read], port: u16, from: Instant, to: Instant) -> f64 {
    let within: Vec<_> = reads.iter().filter(|r| r.at >= from && r.at < to).collect();
    within.iter().filter(|r| r.port == port).count() as f64 / within.len().max(1) as f64
}

/// The same in windows of half a second, one after the other.
fn shares(reads: &[Read], port: u16, from: Instant, to: Instant) -> Vec<f64> {
    let window = Duration::from_millis(500);
    let begin = |n: u32| from + window * n;
    (0..).take_while(|n| begin(n + 1) <= to).map(|n| share(reads, port, begin(n), begin(n + 1))).collect()
}

fn percent(shares: &[f64]) -> String {
    shares.iter().map(|share| format!("{:.0}", share * 100.0)).collect::<Vec<_>>().join(" ")
}

/// A quantile of how long reads took.
fn quantile(reads: &[Read], from: Instant, to: Instant, q: f64) -> Duration {
    let mut took: Vec<_> = reads.iter().filter(|r| r.at >= from && r.at < to).map(|r| r.took).collect();
    took.sort();
    took.get(((took.len() as f64 * q) as usize).min(took.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

async fn pause(seconds: f64) -> Instant {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    Instant::now()
}

impl Bed {
    async fn client(&self) -> tokio_postgres::Client {
        pg(&self.proxy.url(&self.db)).await
    }

    /// The replica whose network suffers.
    fn victim(&self) -> u16 {
        self.servers.replicas()[0].port
    }

    /// What SHOW BACKENDS says of the replica whose network suffers, by column.
    async fn shown(&self) -> HashMap<String, String> {
        let admin = pg(&self.proxy.admin_url(&self.db)).await;
        let messages = admin.simple_query("SHOW BACKENDS").await.expect("shown");
        let row = messages.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) if row.get("backend") == Some("replica1") => {
                Some(row)
            }
            _ => None,
        });
        let row = row.expect("it is there");
        let columns = row.columns().iter().map(|c| c.name().to_string());
        columns.enumerate().map(|(i, name)| (name, row.get(i).unwrap_or_default().to_string())).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_replica_loses_its_share_and_gets_it_back() {
    let bed = bed("").await;
    let load = Load::on(&bed).await;
    let well = pause(2.0).await;
    let slowed = pause(3.0).await;
    bed.networks[0].set_delay(USUAL * 10);
    let known = pause(2.0).await;
    let shown = {
        pause(2.0).await;
        bed.shown().await
    };
    let restored = pause(2.0).await;
    bed.networks[0].set_delay(USUAL);
    let end = pause(14.0).await;
    let reads = load.end().await;
    let victim = bed.victim();
    let (before, during) = (share(&reads, victim, well, slowed), share(&reads, victim, known, restored));
    let after = shares(&reads, victim, restored, end);
    let back = after.iter().position(|s| *s > 0.2).map(|n| n as f64 * 0.5 + 0.5);
    let (p99, p99_slow) = (quantile(&reads, well, slowed, 0.99), quantile(&reads, known, restored, 0.99));
    println!(
        "share of the slow replica: {:.1}% before; after it became slow {}; from two seconds on {:.1}%; when it was \
         well again {}: back after {back:?} s. p99 of reads {p99:?} before, {p99_slow:?} meanwhile ({:.2}x). Its \
         score {} (latency {})",
        before * 100.0,
        percent(&shares(&reads, victim, slowed, known)),
        during * 100.0,
        percent(&after),
        p99_slow.as_secs_f64() / p99.as_secs_f64(),
        shown["score"],
        shown["lost_latency"],
    );
    assert!((0.2..0.5).contains(&before), "{before}");
    assert!(during < 0.1, "{during}");
    assert!(shown["lost_latency"].parse::<u32>().expect("a number") > 0, "{shown:?}");
    assert!(back.is_some_and(|seconds| seconds <= 12.0), "{after:?}");
    assert_eq!(shown["ejections"], "0", "slow is not broken");
}

#[tokio::test(flavor = "multi_thread")]
async fn stalls_do_not_make_it_flap() {
    let bed = bed("").await;
    let load = Load::on(&bed).await;
    pause(2.0).await;
    bed.networks[0].set_stalls(200, Duration::from_millis(100));
    let settled = pause(3.0).await;
    let mut scores = Vec::new();
    for _ in 0..10 {
        pause(1.0).await;
        let shown = bed.shown().await;
        scores.push((shown["standing"].clone(), shown["score"].parse::<u32>().expect("a number")));
    }
    let end = Instant::now();
    let ejections = bed.shown().await["ejections"].clone();
    let reads = load.end().await;
    let seconds: Vec<f64> = shares(&reads, bed.victim(), settled, end);
    println!("share of the replica that stalls, by half seconds: {}; {scores:?}", percent(&seconds));
    assert_eq!(ejections, "0");
    // It may have little, but it does not come back in between.
    assert!(seconds.iter().all(|share| *share < 0.3), "{seconds:?}");
    assert!(scores.iter().all(|(standing, _)| standing == "in"), "{scores:?}");
}

/// What each client has noticed: how many of its reads took longer than a second, and the longest.
fn noticed(reads: &[Read], from: Instant) -> (usize, Duration) {
    let mut slow = [0; CLIENTS];
    for read in reads.iter().filter(|r| r.at >= from && r.took > Duration::from_secs(1)) {
        slow[read.client] += 1;
    }
    let longest = reads.iter().filter(|r| r.at >= from).map(|r| r.took).max();
    (slow.into_iter().max().unwrap_or_default(), longest.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_cut_off_costs_its_readers_little_and_once() {
    let bed = bed("").await;
    let load = Load::on(&bed).await;
    let well = pause(2.0).await;
    bed.networks[0].set(Mode::Blackhole);
    let known = pause(CONNECT_TIMEOUT.as_secs_f64()).await;
    let shown = bed.shown().await;
    // Who comes now pays nothing.
    let newcomer = bed.client().await;
    let begun = Instant::now();
    for _ in 0..50 {
        value(&newcomer, WHERE).await;
    }
    let new = begun.elapsed();
    let restored = pause(2.0).await;
    bed.networks[0].set(Mode::Open);
    let end = pause(14.0).await;
    let reads = load.end().await;
    let (times, longest) = noticed(&reads, well);
    let late: Vec<_> = reads.iter().filter(|r| r.at >= well && r.took > Duration::from_secs(1)).collect();
    let after = shares(&reads, bed.victim(), restored, end);
    println!(
        "cut off: {} reads of {} clients took longer than a second, {times} of any client at most, the longest \
         {longest:?}; then p99 {:?} (before {:?}); 50 reads of a newcomer {new:?}; shares when it is back {}; {} {}",
        late.len(),
        CLIENTS,
        quantile(&reads, known, restored, 0.99),
        quantile(&reads, well - Duration::from_secs(1), well, 0.99),
        percent(&after),
        shown["state"],
        shown["score"],
    );
    assert_eq!(shown["state"], "unreachable");
    assert_eq!(shown["score"], "0");
    assert!(times <= 1, "a client notices it at most once");
    assert!(longest < CONNECT_TIMEOUT, "{longest:?}");
    assert!(new < CONNECT_TIMEOUT, "{new:?}");
    assert!(share(&reads, bed.victim(), known, restored) == 0.0);
    assert!(after.iter().any(|share| *share > 0.2), "it is used again: {after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_resets_connections_is_noticed_by_nobody() {
    let bed = bed("").await;
    let load = Load::on(&bed).await;
    let well = pause(2.0).await;
    bed.networks[0].set(Mode::Reset);
    let known = pause(2.0).await;
    let shown = bed.shown().await;
    let restored = pause(2.0).await;
    bed.networks[0].set(Mode::Open);
    let end = pause(14.0).await;
    let reads = load.end().await;
    let (times, longest) = noticed(&reads, well);
    let after = shares(&reads, bed.victim(), restored, end);
    println!(
        "reset: {times} reads of any client took longer than a second, the longest {longest:?}; shares when it is \
         back {}; {} {}",
        percent(&after),
        shown["state"],
        shown["score"],
    );
    assert_eq!(share(&reads, bed.victim(), known, restored), 0.0);
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    assert!(after.iter().any(|share| *share > 0.2), "it is used again: {after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_half_open_are_replaced() {
    let bed = bed("").await;
    let load = Load::on(&bed).await;
    let well = pause(2.0).await;
    bed.networks[0].forget();
    let end = pause(14.0).await;
    let reads = load.end().await;
    let (times, longest) = noticed(&reads, well);
    let after = shares(&reads, bed.victim(), well, end);
    println!(
        "half open: {times} reads of any client took longer than a second, the longest {longest:?}; shares {}",
        percent(&after)
    );
    assert!(times <= 1 && longest < CONNECT_TIMEOUT, "{times} {longest:?}");
    assert!(after.iter().rev().take(4).any(|share| *share > 0.2), "it is used again: {after:?}");
    assert!(rows(&bed.client().await, WHERE).await.len() == 1);
}
