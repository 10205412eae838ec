//! What mirrors have found: how many statements, and by shape in what the answers differed and how long they took.

use std::collections::HashMap;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::core::latency::Latency;
use crate::core::limits::MAX_MIRRORED_SHAPES;
use crate::core::stats::Counter;

/// Characters of a shape that are kept.
const SHOWN: usize = 200;

/// In what two answers differ; the first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Whether they fail, and how.
    SqlState,
    /// How many rows there are.
    Rows,
    /// What is in them.
    Checksum,
    /// Only their order.
    Order,
}

impl Difference {
    /// All of them.
    pub const ALL: [Difference; 4] =
        [Difference::SqlState, Difference::Rows, Difference::Checksum, Difference::Order];

    /// A label for metrics and people.
    pub fn label(self) -> &'static str {
        match self {
            Difference::SqlState => "sqlstate",
            Difference::Rows => "rows",
            Difference::Checksum => "checksum",
            Difference::Order => "order",
        }
    }
}

/// What one comparison has found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Comparison {
    /// In what they differ.
    pub differs: Option<Difference>,
    /// Whether rows were compared; if not, they differ from run to run.
    pub rows_compared: bool,
    /// What the server here took, in microseconds.
    pub here_us: u64,
    /// What the one there took.
    pub there_us: u64,
}

/// Sums over comparisons.
#[derive(Debug, Default)]
pub struct Sums {
    /// Statements.
    pub statements: u64,
    /// Those whose rows were compared.
    pub rows_compared: u64,
    /// By kind of difference, in the order of [`Difference::ALL`].
    pub differences: [u64; 4],
    /// Microseconds here and there.
    pub us: [u64; 2],
}

impl Sums {
    fn add(&mut self, found: &Comparison) {
        self.statements += 1;
        self.rows_compared += u64::from(found.rows_compared);
        if let Some(difference) = found.differs {
            self.differences[difference as usize] += 1;
        }
        self.us[0] += found.here_us;
        self.us[1] += found.there_us;
    }
}

/// One shape's.
#[derive(Debug)]
pub struct ShapeTally {
    /// The shape, without values.
    pub shape: String,
    /// Sums.
    pub sums: Sums,
    /// Times here and there, in microseconds.
    pub times: [Histogram<u64>; 2],
}

/// What one mirror has done and found.
#[derive(Debug, Default)]
pub struct Tally {
    /// Statements, or what goes with them up to ReadyForQuery, that were put in line.
    pub queued: Counter,
    /// Those that matched and could not be run elsewhere.
    pub skipped: Counter,
    /// Those of sessions that are not followed.
    pub lost: Counter,
    /// Those that were run.
    pub run: Counter,
    /// Those that were not, or got no answer.
    pub failed: Counter,
    /// Comparisons in which nothing differed, and in which something did.
    pub times: [Latency; 2],
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    all: Sums,
    shapes: HashMap<u128, ShapeTally>,
    error: Option<String>,
}

/// The fingerprint under which those are counted that have no place of their own.
pub const OTHERS: u128 = 0;

impl Tally {
    /// Notes what was found about a shape.
    pub fn found(&self, fingerprint: u128, shape: impl FnOnce(usize) -> String, comparison: &Comparison) {
        let us = [comparison.here_us, comparison.there_us];
        self.times.iter().zip(us).for_each(|(times, us)| times.record_us(us));
        let mut found = self.found.lock();
        found.all.add(comparison);
        let room = found.shapes.len() < MAX_MIRRORED_SHAPES;
        let known = found.shapes.contains_key(&fingerprint);
        let (place, text) = if known || room { (fingerprint, None) } else { (OTHERS, Some("(others)")) };
        let new = || ShapeTally {
            shape: text.map_or_else(|| shape(SHOWN), str::to_string),
            sums: Sums::default(),
            times: [histogram(), histogram()],
        };
        let tally = found.shapes.entry(place).or_insert_with(new);
        tally.sums.add(comparison);
        for (times, us) in tally.times.iter_mut().zip(us) {
            times.saturating_record(us.max(1));
        }
    }

    /// Notes why something could not be run.
    pub fn trouble(&self, error: String) {
        self.failed.add(1);
        self.found.lock().error = Some(error);
    }

    /// What `look` makes of the sums, and of the last trouble.
    pub fn look<T>(&self, look: impl FnOnce(&Sums, Option<&str>) -> T) -> T {
        let found = self.found.lock();
        look(&found.all, found.error.as_deref())
    }

    /// What `row` makes of each shape, those that differ most first.
    pub fn shapes<T>(&self, mut row: impl FnMut(u128, &ShapeTally) -> T) -> Vec<T> {
        let found = self.found.lock();
        let mut all: Vec<_> = found.shapes.iter().collect();
        let differing = |t: &ShapeTally| t.sums.differences.iter().sum::<u64>();
        all.sort_by_key(|(fingerprint, t)| {
            std::cmp::Reverse((differing(t), t.sums.statements, **fingerprint))
        });
        all.into_iter().map(|(fingerprint, tally)| row(*fingerprint, tally)).collect()
    }
}

fn histogram() -> Histogram<u64> {
    // Shapes are many: one digit is enough to see which side is slower.
    Histogram::new_with_bounds(1, 3_600_000_000, 1).expect("the bounds are constants")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_bounded() {
        let tally = Tally::default();
        let found = |n: u128, differs| {
            let comparison = Comparison { differs, here_us: 5, there_us: 0, ..Comparison::default() };
            tally.found(n, |_| format!("shape {n}"), &comparison);
        };
        (1..=MAX_MIRRORED_SHAPES as u128 + 10).for_each(|n| found(n, None));
        found(7, Some(Difference::Rows));
        let rows = tally.shapes(|n, t| (n, t.shape.clone(), t.sums.statements, t.sums.differences));
        assert_eq!(rows.len(), MAX_MIRRORED_SHAPES + 1);
        assert_eq!(rows[0], (7, "shape 7".into(), 2, [0, 1, 0, 0]));
        assert_eq!(rows[1], (OTHERS, "(others)".into(), 10, [0; 4]));
        assert_eq!(tally.look(|all, _| (all.statements, all.differences)), (1011, [0, 1, 0, 0]));
    }
}
