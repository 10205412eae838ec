//! How soon a pool that sizes itself has another size when the workload changes: short reads, then the same with reports of
//! a second beside them, then short reads again.

use std::ops::Range;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Failure;
use crate::args::Args;
use crate::bed::{Bed, NAME};
use crate::client::Client;
use crate::goals::Goal;
use crate::pgbench;
use crate::results::median;
use crate::sizes::{READERS, REPORT};
use crate::targets::Target;

/// As in the tables and on the command line.
const NAME_OF_ROW: &str = "sizes/moves";
/// How long each workload takes.
const PHASE: Duration = Duration::from_secs(8);
/// The part of it at its end in which the size counts as found.
const FOUND: Duration = Duration::from_secs(2);
/// Time between two looks at the size.
const EVERY: Duration = Duration::from_millis(100);
/// Seconds of which it has the other size half of the time once it has moved.
const STEADY: f64 = 1.0;
/// Longest that it may take to move.
const WITHIN: Duration = Duration::from_secs(5);
/// Clients that want reports, each of which has a connection nearly all of the time: with the size that suits short reads
/// alone, these would find none.
const REPORTERS: u32 = 12;
/// Fewer connections more or less are noise, and no other size.
const NOISE: f64 = 3.0;
/// A short read.
const READ: &str = "\\set aid random(1, 100000)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;";

/// What was seen.
#[derive(Debug, Serialize)]
pub struct MovesRow {
    name: &'static str,
    /// Seconds since the beginning, and the pool's size.
    sizes: Vec<(f64, f64)>,
    /// When the workload changed, there and back, and when it was over.
    changes: [f64; 3],
}

/// Whether it is asked for.
pub fn is_wanted(args: &Args) -> bool {
    args.wants(NAME_OF_ROW)
}

/// How long it takes, roughly, in seconds.
pub fn estimate(args: &Args) -> f64 {
    if is_wanted(args) { 3.0 + 3.0 * PHASE.as_secs_f64() } else { 0.0 }
}

/// The row.
pub async fn run() -> Result<MovesRow, Failure> {
    let bed = Bed::make(0).await?;
    let target = Target::sized(&bed, "size = \"adaptive\"\nmax_size = 64").await?;
    let began = Instant::now();
    let since = || began.elapsed().as_secs_f64();
    // Reports end with the second that they have begun.
    let readers =
        pgbench::script_of("reads", READ, READERS, &target, 3 * PHASE + Duration::from_secs(2), &bed);
    let course = async {
        tokio::time::sleep(PHASE).await;
        let there = since();
        pgbench::script_of("reports", REPORT, REPORTERS, &target, PHASE, &bed).await?;
        let back = since();
        tokio::time::sleep(PHASE).await;
        Ok::<_, Failure>([there, back, since()])
    };
    let mut sizes = Vec::new();
    let loads = async { tokio::try_join!(readers, course) };
    let watch = watch(&target, began, &mut sizes);
    let changes = tokio::select! {
        loads = loads => loads?.1,
        failed = watch => return Err(failed),
    };
    let row = MovesRow { name: NAME_OF_ROW, sizes, changes };
    row.print();
    Ok(row)
}

/// Notes the size of the pool until it is dropped; ends where that fails.
async fn watch(target: &Target, began: Instant, sizes: &mut Vec<(f64, f64)>) -> Failure {
    let mut admin = match Client::login_to(&target.door, "turnpike", "").await {
        Ok(admin) => admin,
        Err(failure) => return failure,
    };
    loop {
        match admin.rows("SHOW POOLS").await {
            Ok(pools) => {
                let of_bench =
                    pools.iter().filter(|pool| pool.get("database").is_some_and(|name| name == NAME));
                let size = of_bench.filter_map(|pool| pool.get("pool_size")?.parse::<f64>().ok());
                sizes.extend(size.max_by(f64::total_cmp).map(|size| (began.elapsed().as_secs_f64(), size)));
            }
            Err(failure) => return failure,
        }
        tokio::time::sleep(EVERY).await;
    }
}

impl MovesRow {
    /// The size that it has found by a time.
    fn found(&self, by: f64) -> Option<f64> {
        self.median(by - FOUND.as_secs_f64()..by)
    }

    fn median(&self, time: Range<f64>) -> Option<f64> {
        median(self.sizes.iter().filter(|(at, _)| time.contains(at)).map(|(_, size)| *size))
    }

    /// Seconds from a change of the workload until the size is nearer to what it becomes by the end of that than to what it
    /// was before. Nothing where it stays what it was.
    fn moved(&self, change: usize) -> Option<f64> {
        let (at, end) = (self.changes[change], self.changes[change + 1]);
        let (before, after) = (self.found(at)?, self.found(end)?);
        if (before - after).abs() < NOISE {
            return None;
        }
        let is_nearer = |size: f64| (size - after).abs() < (size - before).abs();
        let mut later = self.sizes.iter().map(|(time, _)| *time).filter(|time| (at..end).contains(time));
        // It tries a few more and a few less all the time.
        later.find(|time| self.median(*time..time + STEADY).is_some_and(is_nearer)).map(|time| time - at)
    }

    fn levels(&self) -> String {
        let level = |by: &f64| self.found(*by).map_or("-".to_owned(), |size| format!("{size:.0}"));
        self.changes.iter().map(level).collect::<Vec<_>>().join(" -> ")
    }

    fn print(&self) {
        let shown = |moved: Option<f64>| moved.map_or("-".to_owned(), |s| format!("{s:.1} s"));
        println!("\n{:<14} {:>16} {:>10} {:>10}", "row", "sizes", "there", "back");
        let (there, back) = (shown(self.moved(0)), shown(self.moved(1)));
        println!("{:<14} {:>16} {there:>10} {back:>10}", self.name, self.levels());
    }

    /// What is wanted of it.
    pub fn goal(&self) -> Goal {
        let most = WITHIN.as_secs_f64();
        let goal = format!("{}: another size within {most:.0} s when the workload changes", self.name);
        let judged = match (self.moved(0), self.moved(1)) {
            (Some(there), Some(back)) => {
                (format!("{there:.1} s, {back:.1} s ({})", self.levels()), there.max(back) <= most)
            }
            _ => (format!("it stays ({})", self.levels()), false),
        };
        Goal::new(goal, Some(judged))
    }
}
