//! Holds Turnpike's reading of a statement against the truth.

use std::collections::BTreeSet;

use crate::ours::Ours;
use crate::truth::Truth;

/// What is wrong with a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It panicked.
    Panic,
    /// A write that was not seen.
    Write,
    /// A lock that was not seen.
    Lock,
    /// A function that was not seen.
    Function,
    /// A relation that was not seen, or seen as only read where it is written.
    Relation,
    /// Another number of statements.
    Count,
}

impl Fault {
    /// All of them, in the order of a report.
    pub const ALL: [Fault; 6] =
        [Fault::Panic, Fault::Write, Fault::Lock, Fault::Function, Fault::Relation, Fault::Count];

    /// How a report calls it.
    pub fn title(self) -> &'static str {
        match self {
            Fault::Panic => "panic",
            Fault::Write => "missed write",
            Fault::Lock => "missed lock",
            Fault::Function => "missed function",
            Fault::Relation => "missed relation",
            Fault::Count => "other number of statements",
        }
    }

    /// Whether a statement could go where it must not.
    pub fn is_fatal(self) -> bool {
        matches!(self, Fault::Panic | Fault::Write | Fault::Lock | Fault::Function)
    }
}

/// The faults of a reading, each with what was missed. A reading that does not claim to have understood has none.
pub fn faults(truth: &Truth, ours: &Ours) -> Vec<(Fault, String)> {
    let mut found = Vec::new();
    if !ours.understood {
        return found;
    }
    let kinds = || truth.statements.iter().map(|s| s.kind.as_str()).collect::<Vec<_>>().join(", ");
    if truth.writes() && !ours.writes {
        found.push((Fault::Write, kinds()));
    }
    if truth.locks() && !ours.locks {
        found.push((Fault::Lock, kinds()));
    }
    let functions = missing(truth.functions(), &[&ours.functions]);
    found.extend(functions.into_iter().map(|f| (Fault::Function, f)));
    let read = missing(truth.relations_read(), &[&ours.relations_read, &ours.relations_written]);
    found.extend(read.into_iter().map(|r| (Fault::Relation, format!("{r} (read)"))));
    let written = missing(truth.relations_written(), &[&ours.relations_written]);
    found.extend(written.into_iter().map(|r| (Fault::Relation, format!("{r} (written)"))));
    if truth.statements.len() != ours.statements {
        found.push((Fault::Count, format!("{}, not {}", truth.statements.len(), ours.statements)));
    }
    found
}

fn missing(wanted: BTreeSet<&str>, had: &[&Vec<String>]) -> Vec<String> {
    let had: BTreeSet<&str> = had.iter().flat_map(|h| h.iter()).map(String::as_str).collect();
    wanted.into_iter().filter(|w| !had.contains(w)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, ours: Ours, want: &[Fault]) {
        let truth = Truth::of(sql.as_bytes()).expect(sql);
        let found: Vec<_> = faults(&truth, &ours).into_iter().map(|(fault, _)| fault).collect();
        assert_eq!(found, want, "{sql}");
    }

    #[test]
    fn only_what_was_claimed_is_a_fault() {
        let sql = "WITH gone AS (DELETE FROM t RETURNING *) SELECT f() FROM gone, u FOR UPDATE";
        check(sql, Ours::default(), &[]);
        let empty = Ours { understood: true, ..Ours::default() };
        let all =
            [Fault::Write, Fault::Lock, Fault::Function, Fault::Relation, Fault::Relation, Fault::Count];
        check(sql, empty, &all);
        let right = Ours {
            statements: 1,
            writes: true,
            locks: true,
            functions: vec!["f".into()],
            relations_read: vec!["u".into()],
            relations_written: vec!["t".into()],
            understood: true,
        };
        check(sql, right, &[]);
    }
}
