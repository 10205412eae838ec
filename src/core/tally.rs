//! Errors counted by the class of their SQLSTATE: the first two characters, of which there are not many.

use super::error::SqlState;
use super::stats::Counter;

/// The classes of errors that PostgreSQL's documentation knows (appendix A); the last stands for all others.
pub const CLASSES: [&str; 42] = [
    "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "22", "23", "24", "25", "26",
    "27", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "40", "42", "44", "53", "54", "55",
    "57", "58", "72", "F0", "HV", "P0", "XX", "other",
];

/// See the module.
#[derive(Debug)]
pub struct Tally([Counter; CLASSES.len()]);

impl Default for Tally {
    fn default() -> Self {
        Tally(std::array::from_fn(|_| Counter::default()))
    }
}

impl Tally {
    /// Counts an error.
    pub fn count(&self, code: SqlState) {
        let class = CLASSES.iter().position(|class| code.0.starts_with(class.as_bytes()));
        if let Some(counter) = self.0.get(class.unwrap_or(CLASSES.len() - 1)) {
            counter.add(1);
        }
    }

    /// How many there have been, by class.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CLASSES.iter().zip(&self.0).map(|(class, counter)| (*class, counter.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_class_is_known_for_is_other() {
        let tally = Tally::default();
        for code in [*b"22012", *b"22023", *b"XX000", *b"99999", *b"\xff\xff000"] {
            tally.count(SqlState(code));
        }
        let some: Vec<_> = tally.rows().filter(|(_, n)| *n > 0).collect();
        assert_eq!(some, [("22", 2), ("XX", 1), ("other", 2)]);
    }
}
