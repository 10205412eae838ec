//! The command line.

use std::time::Duration;

use clap::Parser;

use crate::targets::Kind;

/// Measures Turnpike beside a direct connection, HAProxy and PgBouncer.
#[derive(Debug, Parser)]
#[command(name = "proxies")]
pub struct Args {
    /// One short round of everything, in about two minutes instead of twelve: for the shape, not for the record
    #[arg(long)]
    pub quick: bool,
    /// Only these targets (direct, haproxy, pgbouncer, turnpike, pgpool, unsplit, split, cached, uncached) and rows (any part of a row's name)
    #[arg(long, value_delimiter = ',', value_name = "NAME,..")]
    only: Vec<String>,
    /// Seconds per row, target and round [default: 4, or 1 with --quick]
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Rounds per row, of which the median counts [default: 3, or 1 with --quick]
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Clients of the idle rows
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    pub idle: usize,
    /// Clients of the crowd row
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    pub crowd: usize,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    /// How long one measurement takes.
    pub fn slot(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(if self.quick { 1 } else { 4 }).max(1))
    }

    /// How often each measurement is repeated.
    pub fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 }).max(1)
    }

    /// The targets asked for: all, unless `--only` names some.
    pub fn targets(&self) -> Vec<Kind> {
        self.among(&Kind::ALONE)
    }

    /// Those of them that stand in front of a primary and its replicas, or of the primary alone.
    pub fn replicated(&self) -> Vec<Kind> {
        self.among(&Kind::REPLICATED)
    }

    /// Those of them that what is asked again is compared on.
    pub fn keeping(&self) -> Vec<Kind> {
        self.among(&Kind::KEEPING)
    }

    /// Those of them that what is not to be kept is compared on.
    pub fn not_keeping(&self) -> Vec<Kind> {
        self.among(&Kind::NOT_KEEPING)
    }

    fn among(&self, kinds: &[Kind]) -> Vec<Kind> {
        let is_named = |kind: &Kind| self.only.iter().any(|name| name == kind.name());
        if Kind::ALL.iter().any(is_named) {
            kinds.iter().copied().filter(is_named).collect()
        } else {
            kinds.to_vec()
        }
    }

    /// Whether a row is asked for: every row is, unless `--only` has words that are not targets.
    pub fn wants(&self, row: &str) -> bool {
        let mut words =
            self.only.iter().filter(|word| Kind::ALL.iter().all(|kind| kind.name() != *word)).peekable();
        words.peek().is_none() || words.any(|word| row.contains(word.as_str()))
    }
}
