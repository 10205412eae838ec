//! The ledger: clients write numbered rows and read while primaries are killed, replicas promoted and old primaries
//! brought back, and everything that was acknowledged is there. `TURNPIKE_FAILOVER_ROUNDS` sets how many times.

mod bed;
mod load;

use std::time::{Duration, Instant};

use bed::Bed;
use load::{Load, Tally};

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
