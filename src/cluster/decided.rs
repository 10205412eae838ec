//! Where statements were sent, and why: what has been decided, counted.

use crate::core::stats::Counter;

/// Where a statement, or a batch of the extended protocol, was sent that needed a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It reads, and a replica serves it.
    Replica,
    /// The same, after a wait for one that had seen enough.
    Waited,
    /// It may write, or is not understood, or is none that goes elsewhere alone.
    Write,
    /// It begins a transaction that is the primary's.
    Transaction,
    /// A rule, the session, a comment or the database keeps its reads on the primary.
    Directed,
    /// Its session keeps state on the server that it uses.
    Bound,
    /// No replica may serve it: none is there, or none has seen what it must see.
    Behind,
    /// A replica has refused it, or was lost.
    Again,
    /// No replica may serve it, and it may not go to the primary.
    Refused,
}

impl Decision {
    /// All of them, in the order of their numbers.
    pub const ALL: [Decision; 9] = [
        Decision::Replica,
        Decision::Waited,
        Decision::Write,
        Decision::Transaction,
        Decision::Directed,
        Decision::Bound,
        Decision::Behind,
        Decision::Again,
        Decision::Refused,
    ];

    /// Where to, and why, for metrics.
    pub fn labels(self) -> (&'static str, &'static str) {
        match self {
            Decision::Replica => ("replica", "read"),
            Decision::Waited => ("replica", "waited"),
            Decision::Write => ("primary", "write"),
            Decision::Transaction => ("primary", "transaction"),
            Decision::Directed => ("primary", "directed"),
            Decision::Bound => ("primary", "bound"),
            Decision::Behind => ("primary", "no replica"),
            Decision::Again => ("primary", "asked again"),
            Decision::Refused => ("none", "no replica"),
        }
    }
}

/// How often each has been made.
#[derive(Debug, Default)]
pub struct Decided([Counter; Decision::ALL.len()]);

impl Decided {
    /// Counts one.
    #[inline]
    pub fn count(&self, decision: Decision) {
        self.0[decision as usize].add(1);
    }

    /// How many there have been of each.
    pub fn rows(&self) -> impl Iterator<Item = (Decision, u64)> {
        Decision::ALL.into_iter().zip(&self.0).map(|(decision, n)| (decision, n.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_as_itself() {
        let decided = Decided::default();
        for decision in Decision::ALL {
            decided.count(decision);
        }
        assert!(decided.rows().all(|(_, n)| n == 1));
        let labels: std::collections::HashSet<_> = Decision::ALL.iter().map(|d| d.labels()).collect();
        assert_eq!(labels.len(), Decision::ALL.len());
    }
}
