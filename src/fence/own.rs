//! The fences of one session's own writes: small for those who write a little, nothing for those who rest.

use super::tables::slot;
use super::{NONE, Number, is_past};

/// Tables that are told apart; with more, the session has written everything.
const TABLES: usize = 7;

/// See the module. Two words for a session that has written nothing that any replica lacks.
#[derive(Debug, Default)]
pub struct Own {
    /// The fence of everything; [`NONE`] for none.
    all: Number,
    tables: Option<Box<Tables>>,
}

#[derive(Debug, Default)]
struct Tables {
    count: u8,
    slots: [u16; TABLES],
    fences: [Number; TABLES],
}

impl Tables {
    fn entries(&self) -> impl Iterator<Item = (u16, Number)> {
        self.slots.iter().copied().zip(self.fences.iter().copied()).take(usize::from(self.count))
    }

    /// False where there is no room.
    fn mark(&mut self, slot: u16, now: Number) -> bool {
        let known = self.entries().position(|(s, _)| s == slot);
        let at = known.unwrap_or(usize::from(self.count));
        let (Some(s), Some(fence)) = (self.slots.get_mut(at), self.fences.get_mut(at)) else { return false };
        (*s, *fence) = (slot, now.max(if known.is_some() { *fence } else { NONE }));
        self.count += u8::from(known.is_none());
        true
    }
}

impl Own {
    /// The session has written these tables (by oid), or may have; see [`super::Fences::mark`].
    pub fn mark(&mut self, tables: impl IntoIterator<Item = u32>, now: Number) {
        for table in tables {
            if !self.tables.get_or_insert_default().mark(slot(table), now) {
                self.mark_all(now);
            }
        }
    }

    /// The session may have written anything.
    pub fn mark_all(&mut self, now: Number) {
        let most = self.tables.take().map_or(NONE, |t| t.entries().map(|(_, n)| n).max().unwrap_or(NONE));
        self.all = self.all.max(now).max(most);
    }

    /// The fence of a read of these tables.
    pub fn fence(&self, tables: impl IntoIterator<Item = u32>) -> Number {
        let Some(own) = &self.tables else { return self.all };
        let of = |slot| own.entries().find(|(s, _)| *s == slot).map_or(NONE, |(_, n)| n);
        tables.into_iter().map(|table| of(slot(table))).fold(self.all, Number::max)
    }

    /// The fence of a read of what is not known.
    pub fn highest(&self) -> Number {
        self.tables.iter().flat_map(|t| t.entries()).map(|(_, n)| n).fold(self.all, Number::max)
    }

    /// Forgets what all replicas are past that a read could go to; `passed` is the least of them.
    pub fn forget(&mut self, passed: Number) {
        if is_past(passed, self.all) {
            self.all = NONE;
        }
        if self.tables.as_ref().is_some_and(|t| t.entries().all(|(_, n)| is_past(passed, n))) {
            self.tables = None;
        }
    }

    /// Whether nothing is fenced.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.all == NONE && self.tables.is_none()
    }
}

const _: () = assert!(size_of::<Own>() == 16);
