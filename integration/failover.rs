//! The ledger: clients write numbered rows and read while primaries are killed, replicas promoted and old primaries
//! brought back, and everything that was acknowledged is there. `TURNPIKE_FAILOVER_ROUNDS` sets how many times.

mod bed;
mod kept;
mod load;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bed::Bed;
use load::{Load, Tally};
use turnpike::app::cluster::StopMode;

use crate::harness::raw::query;
use crate::harness::{eventually, pg, rows, value};

/// Longest that anything may take: the machine may be busy. What it did take is printed.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a primary of the past is there for whoever would write to it.
const TEMPTATION: Duration = Duration::from_millis(1500);

/// What one round took.
#[derive(Debug)]
struct Round {
    /// From the crash to the end of pg_promote.
    promoting: Duration,
    /// From there until the new primary itself acknowledges a write, which waits for a replica to follow it.
    server: Duration,
    /// From there until the first write is acknowledged to a client.
    first: Duration,
    /// From there until every client's is.
    all: Duration,
    /// Longest time that a reader waited, and when after the crash it began to.
    read: Duration,
    read_at: Duration,
    failures: Vec<(String, usize)>,
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_acknowledged_survives_failovers() {
    let rounds = std::env::var("TURNPIKE_FAILOVER_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    let mut bed = Bed::new().await;
    let load = Load::start(&bed.url(), bed.servers.binaries().program("pgbench")).await;
    let (mut done, mut told) = (Vec::new(), Vec::new());
    for number in 0..rounds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let round = round(&mut bed, &load).await;
        report(&format!("round {number}: {round:?}"));
        assert!(round.read_at < Duration::from_secs(60), "a read of this round");
        told.extend(round.failures.iter().map(|(what, count)| format!("{count} {what}")));
        assert!(round.first < PATIENCE && round.all < 2 * PATIENCE && round.read < PATIENCE, "{round:?}");
        done.push(round);
    }
    let tally = load.stop().await;
    check(&bed, &tally).await;
    let figures = |name: &str, of: fn(&Round) -> Duration| {
        let mut all: Vec<_> = done.iter().map(of).collect();
        all.sort();
        format!("{name}: median {:?}, longest {:?}", all[all.len() / 2], all[all.len() - 1])
    };
    report(&figures("promotion after the crash", |r| r.promoting));
    report(&figures("the server's own first write after its promotion", |r| r.server));
    report(&figures("the first client's", |r| r.first));
    report(&figures("every client's", |r| r.all));
    report(&figures("longest read", |r| r.read));
    report(&format!("clients were told: {}", told.join(", ")));
    report(&format!(
        "{} rows acknowledged, {} unknown, {} certainly not written, {} reads, pgbench {} writes, {} reads",
        tally.acknowledged.len(),
        tally.unknown.len(),
        tally.failed.len(),
        tally.reads,
        tally.bench_writes,
        tally.bench_reads
    ));
}

/// One failover: the primary is killed, the replica that has most takes over, and the old primary comes back, first as
/// if nothing had happened.
async fn round(bed: &mut Bed, load: &Load) -> Round {
    let before = load.failures();
    load.begin_round();
    let crashed = Instant::now();
    let (heir, old) = tokio::task::block_in_place(|| bed.fail_over());
    let promoted = Instant::now();
    let server = async {
        bed.write_directly(heir).await;
        promoted.elapsed()
    };
    let (server, (first, all)) = tokio::join!(server, load.resumed(crashed, promoted, 6 * PATIENCE));
    // The past comes back.
    let fate = tokio::task::block_in_place(|| bed.bring_back(old));
    bed.becomes(old, "stale primary").await;
    tokio::time::sleep(TEMPTATION).await;
    tokio::task::block_in_place(|| {
        assert_eq!(bed.next_transaction(old), fate, "somebody has written to a primary of the past");
        bed.rejoin(old);
    });
    bed.becomes(old, "replica").await;
    let failures = load.failures_since(&before);
    let (read, read_at) = load.longest_read().expect("somebody reads");
    for (client, count) in &failures.1 {
        assert!(*count <= 1, "client {client} failed {count} times in one round");
    }
    Round {
        promoting: promoted - crashed,
        server,
        first,
        all,
        read,
        read_at: read_at.saturating_duration_since(crashed),
        failures: failures.0,
    }
}

/// The new primary has everything that was acknowledged, and nothing of what failed for certain.
async fn check(bed: &Bed, tally: &Tally) {
    let rows = bed.ledger();
    let missing: Vec<_> = tally.acknowledged.iter().filter(|id| !rows.contains(id)).collect();
    assert!(missing.is_empty(), "{} acknowledged rows are missing: {:?}", missing.len(), &missing[..]);
    let surplus: Vec<_> = tally.failed.iter().filter(|id| rows.contains(id)).collect();
    assert!(surplus.is_empty(), "written, though it was said that they were not: {surplus:?}");
    let known = |id: &&i64| tally.acknowledged.contains(id) || tally.unknown.contains(id);
    let strange: Vec<_> = rows.iter().filter(|id| !known(id)).collect();
    assert!(strange.is_empty(), "nobody has asked for {strange:?}");
    assert!(
        bed.bench_rows() >= tally.bench_writes,
        "pgbench: {} of {}",
        bed.bench_rows(),
        tally.bench_writes
    );
    assert!(tally.reads > 100 && tally.bench_reads > 100);
}

#[allow(clippy::print_stderr, reason = "figures are for who looks")]
fn report(line: &str) {
    eprintln!("{line}");
}

/// Of two primaries at once the one on the newer timeline counts, also for who is in the middle of a transaction on the
/// other: the network between them may have been cut, and nobody has told the old one.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_does_not_go_on_at_a_primary_of_the_past() {
    let bed = Bed::new().await;
    let (old, heir) = (bed.leader(), bed.server("replica1"));
    let (busy, idle) = (pg(&bed.url()).await, pg(&bed.url()).await);
    for client in [&busy, &idle] {
        client.batch_execute("BEGIN; INSERT INTO direct VALUES (1)").await.expect("begun");
    }
    tokio::task::block_in_place(|| {
        heir.configure(&[("synchronous_standby_names", "")]).expect("written");
        heir.reload().expect("read");
        heir.promote().unwrap_or_else(|e| panic!("{e}"));
    });
    bed.becomes(old, "stale primary").await;
    // It hears of it by itself, whether it asks for anything or not.
    let error = busy.batch_execute("INSERT INTO direct VALUES (2); COMMIT").await.expect_err("not there");
    assert!(error.is_closed() || error.code().is_some_and(|c| c.code() == "08006"), "{error:?}");
    let deadline = Instant::now() + PATIENCE;
    while !idle.is_closed() {
        assert!(Instant::now() < deadline, "nobody has told it");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(bed.ask(old, "SELECT count(*) FROM direct"), "0");
    // Who comes next writes to the new one.
    let next = pg(&bed.url()).await;
    next.batch_execute("INSERT INTO direct VALUES (3)").await.expect("written");
    assert_eq!(bed.ask(heir, "SELECT n FROM direct"), "3");
}

/// Ways to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    Simple,
    /// Prepared under a name, described, run and closed, each time.
    Prepared,
    /// As an unnamed statement, all at once.
    Unnamed,
}

/// Reads until it is told to stop, and fails with the first read that does.
async fn reads(way: Reads, url: String, stop: Arc<AtomicBool>) -> u32 {
    let client = pg(&url).await;
    let mut count = 0;
    while !stop.load(SeqCst) {
        let read = match way {
            Reads::Simple => client.simple_query("SELECT n FROM quiet").await.map(drop),
            Reads::Prepared => client.query_one("SELECT n FROM quiet", &[]).await.map(drop),
            Reads::Unnamed => client.query_typed("SELECT n FROM quiet", &[]).await.map(drop),
        };
        read.unwrap_or_else(|e| panic!("read {count}, {way:?}: {e:?}"));
        count += 1;
    }
    count
}

/// Reads that are the primary's are asked of the next one, whether it is killed or stopped.
#[tokio::test(flavor = "multi_thread")]
async fn reads_of_the_primary_go_on_with_the_next() {
    let mut bed = Bed::with("", "failover_wait = \"30s\"").await;
    let stop = Arc::new(AtomicBool::new(false));
    let url = format!("{}?options=-c%20turnpike.route%3Dprimary", bed.url());
    let mut readers = Vec::new();
    for way in [Reads::Simple, Reads::Prepared, Reads::Unnamed] {
        readers.extend((0..3).map(|_| tokio::spawn(reads(way, url.clone(), stop.clone()))));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (_, old) = tokio::task::block_in_place(|| bed.fail_over());
    bed.becomes(bed.leader(), "primary").await;
    tokio::task::block_in_place(|| bed.rejoin(old));
    bed.becomes(old, "replica").await;
    for mode in [StopMode::Fast, StopMode::Immediate] {
        tokio::time::sleep(Duration::from_millis(300)).await;
        tokio::task::block_in_place(|| bed.leader().restart(mode)).unwrap_or_else(|e| panic!("{e}"));
        bed.becomes(bed.leader(), "primary").await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.store(true, SeqCst);
    for reader in readers {
        assert!(reader.await.expect("no read has failed") > 10);
    }
}

/// What somebody ends by hand does not begin anew elsewhere.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes long: what has run for ten seconds is taken for that"]
async fn what_is_terminated_by_hand_stays_so() {
    let bed = Bed::new().await;
    let client = pg(&format!("{}?options=-c%20turnpike.route%3Dprimary", bed.url())).await;
    let (outcome, ()) = tokio::join!(client.simple_query("SELECT n, pg_sleep(20) FROM quiet"), async {
        tokio::time::sleep(Duration::from_secs(11)).await;
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%20) FROM quiet'";
        bed.ask(bed.leader(), sql);
    });
    let error = outcome.expect_err("terminated");
    assert!(error.is_closed() || error.code().is_some_and(|c| c.code() == "57P01"), "{error:?}");
}

/// Listeners are told that they may have missed something, and go on at the new primary.
#[tokio::test(flavor = "multi_thread")]
async fn listeners_follow_a_promotion() {
    let mut bed = Bed::new().await;
    let mut listener = bed.raw();
    listener.send(query("LISTEN news"));
    listener.until_ready(1);
    bed.notify("before");
    assert_eq!(listener.frame().expect("a notification").kind, b'A');
    tokio::task::block_in_place(|| bed.fail_over());
    bed.becomes(bed.leader(), "primary").await;
    let notice = listener.frame().expect("a notice");
    assert_eq!((notice.kind, notice.field(b'S')), (b'N', "WARNING".to_string()), "{notice:?}");
    bed.notify("after");
    let letter = listener.frame().expect("a notification");
    assert!(letter.kind == b'A' && letter.body.windows(5).any(|w| w == b"after"), "{letter:?}");
    assert_eq!(listener.value("SELECT 1"), "1");
}

/// Without a primary, reads of what is known go on, also those of clients that come in; writes wait, until they are
/// cancelled or it has taken too long.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_primary_reads_go_on_and_writes_wait() {
    let bed = Bed::with("", "failover_wait = \"3s\"").await;
    let writer = pg(&bed.url()).await;
    bed.leader().crash().unwrap_or_else(|e| panic!("{e}"));
    bed.becomes(bed.leader(), "unreachable").await;
    let cancel = writer.cancel_token();
    let (outcome, ()) = tokio::join!(writer.batch_execute("INSERT INTO direct VALUES (1)"), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        cancel.cancel_query(tokio_postgres::NoTls).await.expect("delivered");
    });
    let code = |outcome: Result<(), tokio_postgres::Error>| {
        outcome.expect_err("there is no primary").code().map(|c| c.code().to_string())
    };
    assert_eq!(code(outcome).as_deref(), Some("57014"));
    // The session goes on, and so do others, with settings that nobody has had before.
    let newcomer = pg(&format!("{}?options=-c%20work_mem%3D7MB", bed.url())).await;
    for client in [&writer, &newcomer] {
        assert_eq!(value(client, "SELECT n FROM quiet").await, "1");
        // Prepared under a name and described, too: that is no more than reading.
        assert_eq!(client.query_one("SELECT n + 1 FROM quiet", &[]).await.expect("read").get::<_, i32>(0), 2);
        let described = client.prepare("SELECT n FROM quiet WHERE n = $1").await.expect("described");
        assert_eq!(client.query(&described, &[&1i32]).await.expect("read").len(), 1);
    }
    let begun = Instant::now();
    assert_eq!(code(writer.batch_execute("INSERT INTO direct VALUES (1)").await).as_deref(), Some("57P03"));
    assert!(
        (Duration::from_secs(3)..Duration::from_secs(8)).contains(&begun.elapsed()),
        "{:?}",
        begun.elapsed()
    );
}

/// After a promotion the catalog is read from the new primary: what is made there is known.
#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_follows_a_promotion() {
    let mut bed = Bed::new().await;
    let client = pg(&bed.url()).await;
    tokio::task::block_in_place(|| bed.fail_over());
    bed.becomes(bed.leader(), "primary").await;
    client.batch_execute("CREATE TABLE later (n int); INSERT INTO later VALUES (1)").await.expect("made");
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let said = rows(&client, "EXPLAIN (ROUTE) SELECT n FROM later").await;
        let said = said.into_iter().flatten().collect::<Vec<_>>().join("\n");
        if said.contains("Class: read") {
            break;
        }
        assert!(Instant::now() < deadline, "{said}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Replicas come and go by RELOAD.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_added_and_removed_by_reload() {
    let bed = Bed::new().await;
    let client = pg(&bed.url()).await;
    let all = "backends = [\"primary\", \"replica1\", \"replica2\"]";
    let (reading, stop) = (pg(&bed.url()).await, Arc::new(AtomicBool::new(false)));
    let stopped = stop.clone();
    let reader = tokio::spawn(async move {
        while !stopped.load(SeqCst) {
            assert_eq!(value(&reading, "SELECT n FROM quiet").await, "1");
        }
    });
    for members in ["backends = [\"primary\", \"replica1\"]", "backends = [\"primary\"]", all] {
        bed.reload(|config| config.replace(all, members)).await;
        let shown = bed.members().await;
        assert!(shown.iter().all(|name| members.contains(name.as_str())), "{shown:?}");
        assert_eq!(shown.len(), members.matches("\", \"").count() + 1);
        assert_eq!(value(&client, "SELECT n FROM quiet").await, "1");
        client.batch_execute("INSERT INTO direct VALUES (1)").await.expect("written");
    }
    // Nothing is left of connections to who is none of them.
    bed.reload(|config| config.replace(all, "backends = [\"primary\", \"replica1\"]")).await;
    let gone = bed.server("replica2");
    let sql =
        "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'u%' OR application_name LIKE 'turnpike%'";
    eventually("replica2 is left alone", || bed.ask(gone, sql) == "0");
    bed.reload(|config| config).await;
    for name in ["replica1", "replica2"] {
        bed.becomes(bed.server(name), "replica").await;
    }
    stop.store(true, SeqCst);
    reader.await.expect("reads never fail");
}
