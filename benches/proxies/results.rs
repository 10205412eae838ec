//! What was measured, and the medians and ratios over rounds.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::targets::Kind;

/// What ratios refer to.
const REFERENCE: Kind = Kind::PgBouncer;

/// One row's measurement of one target in one round.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Transactions that count.
    pub transactions: u64,
    /// Transactions per second.
    pub tps: f64,
    /// Mean latency in milliseconds.
    pub mean_ms: f64,
    /// 99th percentile of latency in milliseconds.
    pub p99_ms: f64,
    /// Microseconds of the proxy's processor time per transaction; nothing without a proxy.
    pub cpu_us: Option<f64>,
    /// Clients that failed.
    pub errors: u64,
}

/// A figure of a sample.
pub type Figure = fn(&Sample) -> Option<f64>;

/// Transactions per second.
pub const TPS: Figure = |sample| Some(sample.tps);
/// Mean latency.
pub const MEAN: Figure = |sample| Some(sample.mean_ms);
/// 99th percentile of latency.
pub const P99: Figure = |sample| Some(sample.p99_ms);
/// Processor time per transaction.
pub const CPU: Figure = |sample| sample.cpu_us;

/// All rounds of one row.
#[derive(Debug, Default, Serialize)]
pub struct Row {
    /// As in the tables and on the command line.
    pub name: String,
    /// One map per round.
    pub rounds: Vec<BTreeMap<Kind, Sample>>,
    /// What is to be known about a target's figures.
    pub notes: BTreeMap<Kind, String>,
    /// Why a target's figures are missing or not to be relied on.
    pub failures: BTreeMap<Kind, String>,
}

impl Row {
    /// A row without rounds.
    pub fn new(name: impl Into<String>) -> Self {
        Row { name: name.into(), ..Row::default() }
    }

    /// The median of a target's figure over the rounds that have it.
    pub fn median(&self, kind: Kind, figure: Figure) -> Option<f64> {
        median(self.rounds.iter().filter_map(|round| figure(round.get(&kind)?)))
    }

    /// The median over rounds of a target's figure divided by the reference's in the same round.
    pub fn ratio(&self, kind: Kind, figure: Figure) -> Option<f64> {
        median(self.ratios(kind, figure))
    }

    /// Of the same, the least and the most: what lies between may be noise.
    pub fn ratio_range(&self, kind: Kind, figure: Figure) -> Option<(f64, f64)> {
        let least = self.ratios(kind, figure).min_by(f64::total_cmp)?;
        Some((least, self.ratios(kind, figure).max_by(f64::total_cmp)?))
    }

    fn ratios(&self, kind: Kind, figure: Figure) -> impl Iterator<Item = f64> {
        self.rounds
            .iter()
            .filter_map(move |round| Some(figure(round.get(&kind)?)? / figure(round.get(&REFERENCE)?)?))
    }

    /// The median over rounds of a target's figure divided by its own in `other`, whose rounds went with ours.
    pub fn ratio_to(&self, other: &Row, kind: Kind, figure: Figure) -> Option<f64> {
        let rounds = self.rounds.iter().zip(&other.rounds);
        median(
            rounds.filter_map(|(ours, theirs)| Some(figure(ours.get(&kind)?)? / figure(theirs.get(&kind)?)?)),
        )
    }

    /// The median over rounds of a target's figure divided by another's in the same round, and the least and the most.
    pub fn ratio_between(&self, kind: Kind, other: Kind, figure: Figure) -> Option<(f64, f64, f64)> {
        let of =
            |round: &BTreeMap<Kind, Sample>| Some(figure(round.get(&kind)?)? / figure(round.get(&other)?)?);
        let ratios: Vec<f64> = self.rounds.iter().filter_map(of).collect();
        let least = ratios.iter().copied().min_by(f64::total_cmp)?;
        let most = ratios.iter().copied().max_by(f64::total_cmp)?;
        Some((median(ratios.into_iter())?, least, most))
    }

    /// Clients of a target that failed, over all rounds.
    pub fn errors(&self, kind: Kind) -> u64 {
        self.rounds.iter().filter_map(|round| round.get(&kind)).map(|sample| sample.errors).sum()
    }
}

/// Memory per idle client of one target.
#[derive(Debug, Serialize)]
pub struct Idle {
    /// As in the tables and on the command line.
    pub name: &'static str,
    /// Which target.
    pub target: Kind,
    /// Clients that were connected.
    pub clients: usize,
    /// Resident bytes before them.
    pub before: u64,
    /// Resident bytes with all of them logged in.
    pub logged_in: u64,
    /// Resident bytes after each has run one statement.
    pub after_use: u64,
}

impl Idle {
    /// KiB per client that has logged in and done nothing yet.
    pub fn kib(&self) -> f64 {
        self.kib_each(self.logged_in)
    }

    /// KiB per client that has run a statement and waits.
    pub fn kib_after_use(&self) -> f64 {
        self.kib_each(self.after_use)
    }

    fn kib_each(&self, bytes: u64) -> f64 {
        (bytes as f64 - self.before as f64) / 1024.0 / self.clients as f64
    }
}

/// Everything measured.
#[derive(Debug, Default, Serialize)]
pub struct Results {
    /// Rows of transactions.
    pub rows: Vec<Row>,
    /// Clients in the crowd.
    pub crowd: usize,
    /// Rows of memory.
    pub idle: Vec<Idle>,
    /// Why rows of memory are missing.
    pub idle_failures: BTreeMap<&'static str, BTreeMap<Kind, String>>,
}

impl Results {
    /// A row by its name.
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }
}

/// The middle value, or the mean of the two in the middle.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}
