//! Holds an answer against the one that the client got: as far as two runs of the statement have anything in common.

use crate::core::error::SqlState;
use crate::plan::Plan;
use crate::plan::sameness::Sameness;
use crate::session::shadow::tally::{Comparison, Difference, Tally};
use crate::wire::summary::Outcome;

/// Who knows a shape.
#[derive(Clone, Copy, Debug)]
pub enum Shape<'a> {
    /// Nobody: it was not read.
    Unknown,
    /// Its plan.
    Planned(&'a Plan),
    /// A recording.
    Text(&'a str),
}

impl Shape<'_> {
    /// For people, at most so many characters.
    pub fn shown(self, most: usize) -> String {
        match self {
            Shape::Unknown => "(not read)".to_string(),
            Shape::Planned(plan) => plan.masked(most),
            Shape::Text(text) => text.chars().take(most).collect(),
        }
    }
}

/// A statement, and what the client was told.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    /// Its shape's fingerprint; 0 where that is not known.
    pub fingerprint: u128,
    /// Its shape, where that is known.
    pub shape: Shape<'a>,
    /// What runs have in common.
    pub sameness: Sameness,
    /// What it came to.
    pub outcome: Outcome,
}

/// In what two outcomes differ, and whether rows were looked at.
pub fn compare(here: &Outcome, there: Option<&Outcome>, sameness: Sameness) -> (Option<Difference>, bool) {
    let Some(there) = there else { return (Some(Difference::SqlState), false) };
    if here.code != there.code {
        return (Some(Difference::SqlState), false);
    }
    if here.code.is_some() || sameness == Sameness::Nothing {
        return (None, false);
    }
    let differs = if here.rows != there.rows {
        Some(Difference::Rows)
    } else if sameness >= Sameness::Rows && here.sum != there.sum {
        Some(Difference::Checksum)
    } else if sameness == Sameness::Order && here.chain != there.chain {
        Some(Difference::Order)
    } else {
        None
    };
    (differs, true)
}

/// Whether an error says something of the moment rather than of the statement: that it was canceled, that its server went
/// down, that it came in the way of others.
fn is_of_moment(code: SqlState) -> bool {
    let class = &code.0[..2];
    class == b"57" || class == b"40" || class == b"53" || class == b"08" || &code.0 == b"55P03"
}

/// Compares what some statements came to, up to the first that failed otherwise, and notes what was found.
pub fn judge(here: &[Here<'_>], there: &[Outcome], here_us: u64, there_us: u64, tally: &Tally) {
    let each = here.len().max(1) as u64;
    for (i, one) in here.iter().enumerate() {
        if one.outcome.code.is_some_and(is_of_moment) {
            return;
        }
        let (differs, rows_compared) = compare(&one.outcome, there.get(i), one.sameness);
        let comparison =
            Comparison { differs, rows_compared, here_us: here_us / each, there_us: there_us / each };
        tally.found(one.fingerprint, |most| one.shape.shown(most), &comparison);
        if differs == Some(Difference::SqlState) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_as_a_difference() {
        let ok = |rows, sum, chain| Outcome { code: None, rows, sum, chain };
        let failed = Outcome { code: Some(SqlState::SYNTAX_ERROR), ..Outcome::default() };
        let all = [Sameness::Nothing, Sameness::Count, Sameness::Rows, Sameness::Order];
        let differ =
            |here: Outcome, there: Outcome| all.map(|sameness| compare(&here, Some(&there), sameness).0);
        use Difference::{Checksum, Order, Rows};
        let fails = Some(Difference::SqlState);
        assert_eq!(differ(ok(1, 1, 1), failed), [fails; 4]);
        assert_eq!(differ(failed, failed), [None; 4]);
        assert_eq!(differ(ok(1, 1, 1), ok(2, 1, 1)), [None, Some(Rows), Some(Rows), Some(Rows)]);
        assert_eq!(differ(ok(1, 1, 1), ok(1, 2, 2)), [None, None, Some(Checksum), Some(Checksum)]);
        assert_eq!(differ(ok(1, 1, 1), ok(1, 1, 2)), [None, None, None, Some(Order)]);
        assert_eq!(compare(&failed, None, Sameness::Rows).0, fails);
    }

    #[test]
    fn what_is_of_the_moment_is_not_compared() {
        let tally = Tally::default();
        let here = |code: &[u8; 5]| Here {
            fingerprint: 1,
            shape: Shape::Text("x"),
            sameness: Sameness::Rows,
            outcome: Outcome { code: Some(crate::core::error::SqlState(*code)), ..Outcome::default() },
        };
        for code in [b"57014", b"40P01", b"55P03", b"53300"] {
            judge(&[here(code)], &[Outcome::default()], 1, 1, &tally);
        }
        assert!(tally.shapes(|n, _| n).is_empty());
        judge(&[here(b"23505")], &[Outcome::default()], 1, 1, &tally);
        assert_eq!(tally.look(|all, _| all.differences), [1, 0, 0, 0]);
    }
}
