//! Pools of fixed sizes beside one that sizes itself, on workloads for which the best size differs. They take turns, so
//! that what else the machine does is the same for all.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::Failure;
use crate::args::Args;
use crate::bed::Bed;
use crate::goals::Goal;
use crate::pgbench::{self, Load, Protocol, Script};
use crate::results::median;
use crate::targets::Target;

/// Sizes that the adaptive one is compared with.
const FIXED: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Clients.
const CLIENTS: u32 = 64;
/// Of the mixed workload those who read, and those who want reports.
pub const READERS: u32 = 32;
const REPORTERS: u32 = 4;
/// Part of the best fixed size's rate that the adaptive one must have.
const KEEPS: f64 = 0.9;
/// What the adaptive one is given to find its size, before it is measured for the first time.
const SETTLING: Duration = Duration::from_secs(5);

/// A report of a second: some processor time, and for the rest it waits, as for a disk.
pub const REPORT: &str = "SELECT count(*), pg_sleep(0.95) FROM pgbench_accounts WHERE aid <= 100000;";

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Workload {
    Reads,
    TpcB,
    Mixed,
}

const WORKLOADS: [Workload; 3] = [Workload::Reads, Workload::TpcB, Workload::Mixed];

impl Workload {
    fn name(self) -> &'static str {
        match self {
            Workload::Reads => "sizes/reads",
            Workload::TpcB => "sizes/tpcb",
            Workload::Mixed => "sizes/mixed",
        }
    }

    fn load(self) -> Load {
        let (script, clients) = match self {
            Workload::Reads => (Script::Select, CLIENTS),
            Workload::TpcB => (Script::TpcB, CLIENTS),
            Workload::Mixed => (Script::Select, READERS),
        };
        Load { script, protocol: Protocol::Prepared, clients, reconnect: false }
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug, Serialize)]
struct Measured {
    tps: f64,
    p99_ms: f64,
    reports: f64,
}

/// One workload's measurements, by size, round by round.
#[derive(Debug, Serialize)]
pub struct SizesRow {
    name: &'static str,
    rounds: Vec<BTreeMap<String, Measured>>,
}

/// Whether any of it is asked for.
pub fn is_wanted(args: &Args) -> bool {
    WORKLOADS.iter().any(|workload| args.wants(workload.name()))
}

/// How long it takes, roughly, in seconds.
pub fn estimate(args: &Args) -> f64 {
    let wanted = WORKLOADS.iter().filter(|workload| args.wants(workload.name())).count() as f64;
    let slot = args.slot().as_secs_f64() + 0.8;
    wanted * (SETTLING.as_secs_f64() + (FIXED.len() + 1) as f64 * args.rounds() as f64 * slot)
}

/// All workloads that are asked for.
pub async fn run(args: &Args) -> Result<Vec<SizesRow>, Failure> {
    let bed = Bed::make(0).await?;
    let mut contenders = Vec::new();
    for size in FIXED {
        contenders.push((size.to_string(), Target::sized(&bed, &format!("size = {size}")).await?));
    }
    let adaptive = Target::sized(&bed, "size = \"adaptive\"\nmax_size = 64").await?;
    contenders.push(("adaptive".to_owned(), adaptive));
    let mut rows = Vec::new();
    println!("\n{:<14} {:<9} {:>8} {:>9} {:>10} {:>7}", "row", "size", "TPS", "p99 ms", "reports/s", "TPS x");
    for workload in WORKLOADS.into_iter().filter(|workload| args.wants(workload.name())) {
        if let Some((_, adaptive)) = contenders.last() {
            measure(workload, adaptive, SETTLING, &bed).await?;
        }
        let mut rounds = Vec::new();
        for round in 0..args.rounds() {
            let mut measured = BTreeMap::new();
            for index in 0..contenders.len() {
                let (name, target) = &contenders[(index + round) % contenders.len()];
                measured.insert(name.clone(), measure(workload, target, args.slot(), &bed).await?);
            }
            rounds.push(measured);
        }
        let row = SizesRow { name: workload.name(), rounds };
        row.print();
        rows.push(row);
    }
    Ok(rows)
}

async fn measure(
    workload: Workload,
    target: &Target,
    slot: Duration,
    bed: &Bed,
) -> Result<Measured, Failure> {
    let reads = pgbench::measure(workload.load(), target, slot, bed);
    let (sample, reports) = if workload == Workload::Mixed {
        let reports = pgbench::script(REPORT, REPORTERS, target, slot, bed);
        let (sample, reports) = tokio::join!(reads, reports);
        (sample?, reports?)
    } else {
        (reads.await?, 0.0)
    };
    Ok(Measured { tps: sample.tps, p99_ms: sample.p99_ms, reports })
}

impl SizesRow {
    fn median(&self, size: &str, figure: fn(&Measured) -> f64) -> Option<f64> {
        median(self.rounds.iter().filter_map(|round| round.get(size)).map(figure))
    }

    /// The fixed size with the best rate, by its median over these rounds.
    fn best<'a>(rounds: impl Iterator<Item = &'a BTreeMap<String, Measured>> + Clone) -> Option<String> {
        let rate = |size: &String| {
            median(rounds.clone().filter_map(|round| round.get(size)).map(|m| m.tps)).unwrap_or_default()
        };
        FIXED.iter().map(u32::to_string).max_by(|a, b| rate(a).total_cmp(&rate(b)))
    }

    /// A size's rate in each round, divided by the best fixed one's in the same: the median, the least and the most. Which
    /// one is best is said by the other rounds: by all of them it would be the luckiest of seven, whose luck counts.
    fn ratio(&self, size: &str) -> Option<(f64, f64, f64)> {
        let of = |(i, round): (usize, &BTreeMap<String, Measured>)| {
            let others =
                self.rounds.iter().enumerate().filter(move |(j, _)| *j != i || self.rounds.len() == 1);
            let best = Self::best(others.map(|(_, round)| round))?;
            Some(round.get(size)?.tps / round.get(&best)?.tps)
        };
        let ratios: Vec<f64> = self.rounds.iter().enumerate().filter_map(of).collect();
        let least = ratios.iter().copied().min_by(f64::total_cmp)?;
        let most = ratios.iter().copied().max_by(f64::total_cmp)?;
        Some((median(ratios.into_iter())?, least, most))
    }

    fn print(&self) {
        for size in FIXED.iter().map(u32::to_string).chain(["adaptive".to_owned()]) {
            let shown = |figure: fn(&Measured) -> f64| self.median(&size, figure).unwrap_or_default();
            println!(
                "{:<14} {size:<9} {:>8.0} {:>9.2} {:>10.2} {:>7.2}",
                self.name,
                shown(|m| m.tps),
                shown(|m| m.p99_ms),
                shown(|m| m.reports),
                self.ratio(&size).map_or(0.0, |(ratio, ..)| ratio),
            );
        }
    }

    /// What is wanted of it.
    pub fn goal(&self) -> Goal {
        let best = Self::best(self.rounds.iter()).unwrap_or_default();
        let goal = format!("{}: adaptive at least {KEEPS} of the best fixed size ({best})", self.name);
        let judged = self
            .ratio("adaptive")
            .map(|(ratio, least, most)| (format!("{ratio:.2}x ({least:.2}-{most:.2})"), ratio >= KEEPS));
        Goal::new(goal, judged)
    }
}
