//! What mirroring costs those who are mirrored: beside the same without a mirror, in turns.

use std::time::Duration;

use serde::Serialize;
use turnpike::app::cluster::free_port;

use crate::Failure;
use crate::args::Args;
use crate::bed::{Bed, NAME};
use crate::goals::Goal;
use crate::pgbench::{self, Load, Protocol, Script};
use crate::results::{CPU, Figure, MEAN, P99, Sample, TPS, median};
use crate::targets::{POOL, Target};

/// Clients, all of whose reads may be mirrored.
const CLIENTS: u32 = 16;
/// Longest that one measurement takes, so that a row takes no more than half a minute.
const LONGEST: Duration = Duration::from_secs(4);
/// What tables there are is read when the first statement comes, and nothing is mirrored before that.
const SETTLING: Duration = Duration::from_secs(3);

/// A share of the reads, and whether anybody answers there.
#[derive(Clone, Copy)]
struct Part {
    name: &'static str,
    share: &'static str,
    answers: bool,
    /// Part of the rate without a mirror that those who are mirrored must have. Where the mirror is on the same machine, it
    /// takes its own part of that.
    keeps: f64,
}

const PARTS: [Part; 3] = [
    Part { name: "mirrors/10%", share: "10%", answers: true, keeps: 0.85 },
    Part { name: "mirrors/100%", share: "100%", answers: true, keeps: 0.4 },
    Part { name: "mirrors/away", share: "100%", answers: false, keeps: 0.8 },
];

/// One row.
#[derive(Debug, Serialize)]
pub struct MirrorsRow {
    name: &'static str,
    keeps: f64,
    /// Round by round: without a mirror, and with it.
    rounds: Vec<[Sample; 2]>,
    /// Of the statements that were wanted: those that were run there, and those for which there was no room.
    run: u64,
    dropped: u64,
}

/// Whether any of it is asked for.
pub fn is_wanted(args: &Args) -> bool {
    PARTS.iter().any(|part| args.wants(part.name))
}

fn slot(args: &Args) -> Duration {
    args.slot().min(LONGEST)
}

/// How long it takes, roughly, in seconds.
pub fn estimate(args: &Args) -> f64 {
    let wanted = PARTS.iter().filter(|part| args.wants(part.name)).count() as f64;
    wanted * (SETTLING.as_secs_f64() + args.rounds() as f64 * 2.0 * (slot(args).as_secs_f64() + 0.4))
}

/// All rows that are asked for.
pub async fn run(args: &Args) -> Result<Vec<MirrorsRow>, Failure> {
    let bed = Bed::make(0).await?;
    let plain = Target::sized(&bed, &format!("size = {POOL}")).await?;
    let mut rows = Vec::new();
    println!(
        "\n{:<14} {:>8} {:>9} {:>9} {:>8} {:>9} {:>9} {:>6} {:>6} {:>6} {:>6}",
        "row", "TPS", "mean ms", "p99 ms", "CPU us", "run", "dropped", "TPS x", "mean x", "p99 x", "CPU x"
    );
    for part in PARTS.into_iter().filter(|part| args.wants(part.name)) {
        let row = measure(part, &plain, args, &bed).await?;
        row.print();
        rows.push(row);
    }
    Ok(rows)
}

async fn measure(part: Part, plain: &Target, args: &Args, bed: &Bed) -> Result<MirrorsRow, Failure> {
    let port = if part.answers { bed.port() } else { free_port() };
    let sections = format!(
        "[[backend]]\nname = \"there\"\nhost = \"127.0.0.1\"\nport = {port}\nsslmode = \"disable\"\n\
         [[mirror]]\nname = \"there\"\ndatabase = \"{NAME}\"\nbackend = \"there\"\nlogin = \"{NAME}\"\nshare = \"{}\"\n",
        part.share
    );
    let mirrored = Target::with(bed, &format!("size = {POOL}"), &sections).await?;
    for target in [plain, &mirrored] {
        pgbench::script("SELECT 1;", 1, target, Duration::from_secs(1), bed).await?;
    }
    tokio::time::sleep(SETTLING).await;
    let load =
        Load { script: Script::Select, protocol: Protocol::Prepared, clients: CLIENTS, reconnect: false };
    let mut rounds = Vec::new();
    for round in 0..args.rounds() {
        // Another one begins in each round.
        let swapped = round % 2 == 1;
        let order = if swapped { [&mirrored, plain] } else { [plain, &mirrored] };
        let first = pgbench::measure(load, order[0], slot(args), bed).await?;
        let second = pgbench::measure(load, order[1], slot(args), bed).await?;
        rounds.push(if swapped { [second, first] } else { [first, second] });
    }
    let shown = mirrored.show("SHOW MIRRORS").await?;
    let number = |column: &str| shown.iter().filter_map(|row| row.get(column)?.parse::<u64>().ok()).sum();
    let row = MirrorsRow {
        name: part.name,
        keeps: part.keeps,
        rounds,
        run: number("run"),
        dropped: number("dropped"),
    };
    if row.run == 0 && part.answers {
        return Err(format!("{}: nothing was mirrored", part.name).into());
    }
    Ok(row)
}

impl MirrorsRow {
    fn mirrored(&self, figure: Figure) -> f64 {
        median(self.rounds.iter().filter_map(|[_, with]| figure(with))).unwrap_or_default()
    }

    fn ratios(&self, figure: Figure) -> impl Iterator<Item = f64> {
        self.rounds.iter().filter_map(move |[without, with]| Some(figure(with)? / figure(without)?))
    }

    fn ratio(&self, figure: Figure) -> f64 {
        median(self.ratios(figure)).unwrap_or_default()
    }

    fn print(&self) {
        println!(
            "{:<14} {:>8.0} {:>9.3} {:>9.3} {:>8.1} {:>9} {:>9} {:>6.2} {:>6.2} {:>6.2} {:>6.2}",
            self.name,
            self.mirrored(TPS),
            self.mirrored(MEAN),
            self.mirrored(P99),
            self.mirrored(CPU),
            self.run,
            self.dropped,
            self.ratio(TPS),
            self.ratio(MEAN),
            self.ratio(P99),
            self.ratio(CPU),
        );
    }

    /// What is wanted of it.
    pub fn goal(&self) -> Goal {
        let goal = format!("{}: transactions per second at least {} of those without", self.name, self.keeps);
        let range = self.ratios(TPS).min_by(f64::total_cmp).zip(self.ratios(TPS).max_by(f64::total_cmp));
        let judged = range.map(|(least, most)| {
            let middle = self.ratio(TPS);
            (format!("{middle:.2}x ({least:.2}-{most:.2})"), middle >= self.keeps)
        });
        Goal::new(goal, judged)
    }
}
