//! The checker of reports: whoever asks is told of all that was acknowledged before, and the checker is shown to see it
//! where somebody is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::{Bed, PUBLIC, section};
use crate::harness::{Db, Until, pg, replicated};

/// Counts what is written, as the report does; it is said to read nothing, so that what is kept of it is never outdated.
const TOLD: &str = "CREATE FUNCTION told() RETURNS bigint LANGUAGE plpgsql AS \
    'BEGIN RETURN (SELECT count(*) FROM sale); END'";
const LIE: &str = "[[function]]\nname = \"told\"\nreads = []\n";

/// Clients that write.
const WRITERS: u64 = 3;

/// What has become of a run.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    reads: usize,
    stale: usize,
}

/// One that adds to a table and says what is known to be there, with numbers from one on. Some of it is in transactions,
/// some is taken back, and now and then another table is defined.
async fn write(url: String, n: u64, from: u64, known: Arc<AtomicU64>, over: Arc<AtomicBool>) {
    let client = pg(&url).await;
    for id in 0.. {
        if over.load(SeqCst) {
            return;
        }
        let insert = format!("INSERT INTO sale VALUES ({})", from + id * WRITERS + n);
        let (sql, adds) = match id % 7 {
            1 => (format!("BEGIN; {insert}; SELECT pg_sleep(0.01); COMMIT"), true),
            3 => (format!("BEGIN; {insert}; ROLLBACK"), false),
            5 if n == 0 => (format!("CREATE TABLE IF NOT EXISTS x{id} (a int)"), false),
            _ => (insert, true),
        };
        client.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        if adds {
            known.fetch_add(1, SeqCst);
        }
        tokio::time::sleep(Duration::from_millis(5 + 7 * n)).await;
    }
}

/// Asks for a report while others write, numbers from one on, until that is enough.
async fn check(bed: &Bed, report: &str, from: u64, is_enough: impl Fn(Tally) -> bool) -> Tally {
    let there = bed.db.psql("SELECT count(*) FROM sale").trim().parse().expect("a number");
    let (known, over) = (Arc::new(AtomicU64::new(there)), Arc::new(AtomicBool::new(false)));
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..WRITERS {
        writers.spawn(write(bed.proxy.url(&bed.db), n, from, known.clone(), over.clone()));
    }
    let mut tally = Tally::default();
    while !is_enough(tally) {
        let least = known.load(SeqCst);
        let path = format!("/reports/{report}");
        for reply in futures_util::future::join_all((0..4).map(|_| bed.get(&path))).await {
            let text = reply.text();
            let n = text.split(':').nth(1).and_then(|n| n.split('}').next());
            let n: u64 = n.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{text}"));
            tally.reads += 1;
            tally.stale += usize::from(n < least);
        }
    }
    over.store(true, SeqCst);
    writers.join_all().await;
    tally
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_older_than_what_was_acknowledged_is_given() {
    let db = Db::in_cluster(replicated());
    db.psql(TOLD);
    replicated().wait_replayed().unwrap_or_else(|e| panic!("{e}"));
    let counted = section("r", "SELECT count(*) AS n FROM sales", PUBLIC);
    let told = section("told", "SELECT told() AS n FROM (SELECT count(*) FROM other) x", PUBLIC);
    let on = "[[cluster]]\nname = \"main\"\nbackends = [\"primary\", \"replica1\", \"replica2\"]\n";
    let bed = Bed::edited(db, &format!("{on}{counted}{told}{LIE}"), |config| {
        config.replace("backend = \"primary\"\n", "cluster = \"main\"\n")
    });
    let began = Instant::now();
    let is_enough = |tally: Tally| began.elapsed() > Duration::from_secs(8) && tally.reads > 100;
    let tally = check(&bed, "r", 1_000, is_enough).await;
    assert_eq!(tally.stale, 0, "{tally:?}");
    // When nobody writes any more, it is kept again.
    bed.get("/reports/r").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    bed.get("/reports/r").await;
    let runs = bed.shown("SHOW REPORTS", "r", "runs").await;
    bed.get("/reports/r").await;
    assert_eq!(bed.shown("SHOW REPORTS", "r", "runs").await, runs);
    // Where there is something to see, it is seen.
    let until = Until::stale();
    let tally = check(&bed, "told", 1_000_000, |tally| until.is_over(tally.reads, tally.stale)).await;
    assert!(tally.stale > 0, "{tally:?}: the checker is blind");
}
