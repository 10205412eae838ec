//! Up to where in a server's WAL its tables have been written, as one process has been told without a gap: by that it is
//! known whether what another process has read, and says to be valid as of a position, lacks anything.
//!
//! What is said here of a stretch of the WAL is true for ever, whoever says it: two stretches that meet are one
//! ([`Past::join`]), so that a process which begins to follow knows of the time before what others know of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::fence::{SLOTS, slot};

/// See the module.
#[derive(Debug)]
pub struct Past {
    /// Which WAL that is, and what else tells one time from another. `None` until all of that is known.
    epoch: Option<Arc<str>>,
    /// Of what committed after this, all is known.
    since: u64,
    /// Where anything may have been written last.
    anything: u64,
    /// Where tables were, by their slots.
    slots: Box<[u64]>,
}

/// The same of a stretch that ends somewhere, to be told to others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// Where it begins.
    pub since: u64,
    /// Where it ends.
    pub until: u64,
    anything: u64,
    slots: Vec<(u16, u64)>,
}

impl Past {
    /// Nothing is known of what committed up to there.
    pub fn new(since: u64) -> Past {
        Past { epoch: None, since, anything: 0, slots: vec![0; SLOTS].into() }
    }

    /// A commit that ends there has written these tables (`None` for any).
    pub fn wrote(&mut self, tables: Option<impl Iterator<Item = u32>>, end: u64) {
        let Some(tables) = tables else {
            self.anything = self.anything.max(end);
            return;
        };
        for table in tables {
            if let Some(last) = self.slots.get_mut(usize::from(slot(table))) {
                *last = (*last).max(end);
            }
        }
    }

    /// A commit that ends there has changed definitions: what tables were before is not what they are.
    pub fn defined(&mut self, end: u64) {
        self.since = self.since.max(end);
    }

    /// Which time that is.
    pub fn epoch(&self) -> Option<&Arc<str>> {
        self.epoch.as_ref()
    }

    /// Says which; whether that is another than before.
    pub fn set_epoch(&mut self, epoch: &str) -> bool {
        if self.epoch.as_deref() == Some(epoch) {
            return false;
        }
        self.epoch.replace(epoch.into()).is_some()
    }

    /// Whether nothing that is known to have been written to these tables committed later than that.
    pub fn holds(&self, tables: impl Iterator<Item = u32>, position: u64) -> bool {
        self.last(tables) <= position
    }

    /// Where the last of these tables was written last, as far as is known.
    pub fn last(&self, tables: impl Iterator<Item = u32>) -> u64 {
        let last = |table| self.slots.get(usize::from(slot(table))).copied().unwrap_or(u64::MAX);
        tables.map(last).fold(self.since.max(self.anything), u64::max)
    }

    /// What is known up to there.
    pub fn stretch(&self, until: u64) -> Stretch {
        let slots = self.slots.iter().enumerate().filter(|(_, last)| **last > self.since);
        let slots = slots.filter_map(|(slot, last)| Some((u16::try_from(slot).ok()?, *last))).collect();
        Stretch { since: self.since, until: until.max(self.since), anything: self.anything, slots }
    }

    /// Takes over what another knows of an earlier time, if there is nothing in between that neither knows of. Whether
    /// there is not.
    pub fn join(&mut self, before: &Stretch) -> bool {
        if before.until < self.since {
            return false;
        }
        if before.since < self.since {
            self.since = before.since;
            self.anything = self.anything.max(before.anything);
            for (slot, last) in &before.slots {
                if let Some(own) = self.slots.get_mut(usize::from(*slot)) {
                    *own = (*own).max(*last);
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(past: &Past, table: u32, position: u64) -> bool {
        past.holds([table].into_iter(), position)
    }

    #[test]
    fn what_was_read_before_a_write_is_outdated_by_it() {
        let mut past = Past::new(100);
        assert!(holds(&past, 1, 100) && !holds(&past, 1, 99));
        past.wrote(Some([1].into_iter()), 150);
        assert!(!holds(&past, 1, 149) && holds(&past, 1, 150) && holds(&past, 2, 100));
        past.wrote(None::<std::iter::Empty<u32>>, 160);
        assert!(!holds(&past, 2, 159) && holds(&past, 2, 160));
        past.defined(200);
        assert!(!holds(&past, 2, 199) && holds(&past, 2, 200));
    }

    #[test]
    fn times_are_told_apart() {
        let mut past = Past::new(0);
        assert_eq!(past.epoch(), None);
        assert!(!past.set_epoch("a") && !past.set_epoch("a") && past.set_epoch("b"));
        assert_eq!(past.epoch().map(|epoch| &**epoch), Some("b"));
    }

    #[test]
    fn stretches_that_meet_are_one() {
        let mut first = Past::new(100);
        first.wrote(Some([1].into_iter()), 150);
        first.wrote(Some([2].into_iter()), 190);
        let told = first.stretch(200);
        let bytes = postcard::to_allocvec(&told).unwrap_or_default();
        assert_eq!(postcard::from_bytes::<Stretch>(&bytes).ok().as_ref(), Some(&told));
        // Who begins later than it ends knows nothing of what is between.
        let mut late = Past::new(201);
        assert!(!late.join(&told) && !holds(&late, 3, 150));
        let mut second = Past::new(200);
        second.wrote(Some([3].into_iter()), 210);
        assert!(second.join(&told));
        assert!(holds(&second, 4, 100) && !holds(&second, 4, 99));
        assert!(!holds(&second, 1, 149) && holds(&second, 1, 150));
        assert!(!holds(&second, 3, 209) && !holds(&second, 2, 189));
        // What somebody else has known since later takes nothing away.
        assert!(second.join(&Past::new(180).stretch(205)) && holds(&second, 4, 100));
        // Definitions that the other did not know of yet end it.
        second.defined(220);
        assert!(!second.join(&told) && !holds(&second, 4, 219));
    }
}
