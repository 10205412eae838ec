//! A transaction that the WAL tells of, as it comes: which tables it has changed, and which of their rows where there are few.

use crate::cache::outside::{Change, MOST_CHANGES, MOST_ROWS, Outside};
use crate::cache::rows;
use crate::cache::watched::Watched;
use crate::fence::versions::Row;
use crate::wire::logical::{Rows, Values};

/// The names of a table's columns, in the order in which their values come; none where they are not known.
pub(super) type Columns = Box<[Box<[u8]>]>;

/// See the module.
#[derive(Default)]
pub(super) struct Told {
    /// The transaction's number, without the epoch.
    pub(super) xid: u32,
    /// It has defined something.
    pub(super) defines: bool,
    changes: Vec<Change>,
    /// Too much for each change to be told apart.
    many: bool,
}

impl Told {
    /// One with this number begins.
    pub(super) fn begins(xid: u32) -> Told {
        Told { xid, ..Told::default() }
    }

    /// Rows of a table have changed.
    pub(super) fn changed(
        &mut self,
        table: u32,
        rows: Rows<'_>,
        columns: Option<&Columns>,
        outside: &Outside,
    ) {
        // Rows of one table come one after the other, and of many nobody asks which.
        if self.many || self.changes.last() == Some(&Change::of_table(table)) {
            return;
        }
        let watched = outside.watched_now();
        let row = |values: &Values<'_>| row_of(table, values, columns?, &watched);
        match rows.read().and_then(|rows| rows.iter().map(row).collect::<Option<Vec<_>>>()) {
            Some(rows) => rows.into_iter().for_each(|row| self.add(Change { table, row: Some(row) })),
            None => self.emptied(table),
        }
    }

    /// Any rows of it may have.
    pub(super) fn emptied(&mut self, table: u32) {
        self.add(Change::of_table(table));
    }

    /// All changes. `None` for any.
    pub(super) fn changes(&self) -> Option<&[Change]> {
        (!self.many).then_some(&self.changes)
    }

    fn add(&mut self, change: Change) {
        let whole = Change::of_table(change.table);
        if self.many || self.changes.contains(&change) || self.changes.contains(&whole) {
            return;
        }
        let of_table = self.changes.iter().filter(|known| known.table == change.table).count();
        if change == whole || of_table >= MOST_ROWS {
            self.changes.retain(|known| known.table != change.table);
            self.changes.push(whole);
        } else {
            self.changes.push(change);
        }
        self.many = self.changes.len() > MOST_CHANGES;
    }
}

/// The row that has these values, if its key is among them.
fn row_of(table: u32, values: &Values<'_>, columns: &Columns, watched: &Watched) -> Option<Row> {
    let key = watched.key(table)?;
    let value = |name: &str| {
        let at = columns.iter().position(|column| **column == *name.as_bytes())?;
        values.get(at).copied().flatten()
    };
    rows::row_of(table, key.iter().map(|(column, name)| (column.kind, value(name))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(table: u32, n: u32) -> Change {
        Change { table, row: Some(Row::of(table, &n.to_be_bytes())) }
    }

    #[test]
    fn few_rows_are_told_apart() {
        let mut told = Told::default();
        for change in [row(1, 1), row(2, 1), row(1, 2), row(1, 1)] {
            told.add(change);
        }
        assert_eq!(told.changes(), Some(&[row(1, 1), row(2, 1), row(1, 2)][..]));
        told.emptied(1);
        told.add(row(1, 3));
        assert_eq!(told.changes(), Some(&[row(2, 1), Change::of_table(1)][..]));
        (0..=MOST_ROWS as u32).for_each(|n| told.add(row(2, n)));
        assert_eq!(told.changes(), Some(&[Change::of_table(1), Change::of_table(2)][..]));
        (3..=MOST_CHANGES as u32).for_each(|table| told.emptied(table));
        assert!(told.changes().is_some());
        told.add(row(1000, 1));
        assert_eq!(told.changes(), None);
    }
}
