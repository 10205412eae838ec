//! What is asked for what is kept longer than results, and of more than some tables: reports.

use super::Outside;
use crate::core::clock::Instant;
use crate::fence::versions::Stamp;

impl Outside {
    /// Whether somebody tells of writes to all of these tables; of those to any, where it is not known which they are.
    pub fn tells_of(&self, tables: Option<&[u32]>) -> bool {
        let watched = self.watched.load();
        tables.map_or(!watched.is_empty(), |tables| tables.iter().all(|table| watched.covers(*table)))
    }

    /// The stamp of what is read from these tables from now on, or from any. `None` where writes to them may be missed.
    pub fn stamp_of_any(&self, tables: Option<&[u32]>, now: Instant) -> Option<Stamp> {
        match tables {
            Some(tables) => self.stamp(tables, now),
            None => self.versions.stamp_all().filter(|_| self.is_shown(now)),
        }
    }

    /// How often a commit to this table was found to be visible, or may have been; or to any.
    pub fn moves_of(&self, table: Option<u32>) -> u64 {
        table.map_or_else(|| self.versions.all_moves(), |table| self.versions.moves(&[table]))
    }
}
