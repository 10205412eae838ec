//! What statements read and what they may have written: by the tables that it stands in, so that a read need not wait
//! for writes to others.

use std::collections::BTreeSet;

use crate::cache::rows::RowKey;
use crate::catalog::Oid;

/// Some tables, or any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// These, by `pg_class.oid`.
    Tables(Box<[Oid]>),
    /// Any: that is not known.
    Anything,
}

impl Default for Reach {
    fn default() -> Self {
        Reach::Tables(Box::default())
    }
}

impl Reach {
    /// The tables, where they are known.
    #[inline]
    pub fn tables(&self) -> &[Oid] {
        match self {
            Reach::Tables(tables) => tables,
            Reach::Anything => &[],
        }
    }

    /// Whether it is nothing at all.
    pub fn is_nothing(&self) -> bool {
        matches!(self, Reach::Tables(tables) if tables.is_empty())
    }
}

/// Whether what there is in the database is another than before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Defines {
    /// It is not.
    #[default]
    Nothing,
    /// It may be: functions do that, or code, or something that is not understood.
    Perhaps,
    /// It is.
    Objects,
}

/// What a plan's statements touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touches {
    /// Where rows that they read may stand: of a partitioned table, the table itself, since whoever writes to a part of
    /// it writes to it.
    pub reads: Reach,
    /// Where rows may stand that they write: also by triggers, foreign keys, views and functions.
    pub writes: Reach,
    /// What they may define otherwise.
    pub defines: Defines,
    /// They call functions that are not the system's own: what those do may be another thing a moment later.
    pub calls: bool,
    /// Where it has the key of the one row that it writes, where that is all, and somebody keeps results.
    pub row: Option<Box<RowKey>>,
}

impl Touches {
    /// Whether nothing is written or defined.
    #[inline]
    pub fn is_nothing_but_reading(&self) -> bool {
        self.writes.is_nothing() && self.defines == Defines::Nothing
    }
}

/// Tables above which all that is said is "any".
const MOST: usize = 256;

/// A reach that grows.
#[derive(Debug, Default)]
pub(super) struct Growing {
    tables: BTreeSet<Oid>,
    anything: bool,
}

impl Growing {
    /// True where the table is new.
    pub(super) fn add(&mut self, table: Oid) -> bool {
        self.anything |= self.tables.len() >= MOST;
        !self.anything && self.tables.insert(table)
    }

    pub(super) fn add_anything(&mut self) {
        self.anything = true;
    }

    pub(super) fn end(self) -> Reach {
        if self.anything { Reach::Anything } else { Reach::Tables(self.tables.into_iter().collect()) }
    }
}
