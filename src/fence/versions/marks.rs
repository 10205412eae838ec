//! What one transaction marks, from before its first write is sent until its fate is known.

use std::sync::Arc;

use smallvec::SmallVec;

use super::super::tables::{SLOTS, slot};
use super::{Cause, Era, Versions, Written, note};

/// Words of one write above which rows are not told apart any more.
const MOST_ROWS: usize = 64;

/// Who is to hear when a write is over that he has been told of: others rely on him.
pub trait Witness: std::fmt::Debug + Send + Sync {
    /// The write with this number is over; `turns` where definitions may be others now.
    fn ends(&self, id: u64, turns: bool);
}

/// What the transaction on one server connection may have written. Ends by [`Marks::end`], when it is known that
/// nothing of it can become visible any more that is not visible already; nothing else takes the marks back.
#[derive(Debug)]
#[must_use]
pub struct Marks {
    versions: Arc<Versions>,
    era: Option<Arc<Era>>,
    words: SmallVec<[u16; 4]>,
    anything: bool,
    /// Definitions may be others.
    turns: bool,
    definitions: bool,
    /// What a witness has been told of: how many words, and whether of anything.
    told: (usize, bool),
    witness: Option<(Arc<dyn Witness>, u64)>,
}

impl Marks {
    /// None yet, of a write that is begun in this era: whoever takes an era looks at definitions after that ([`Marks::add`]).
    pub(super) fn new(versions: Arc<Versions>, era: Arc<Era>) -> Marks {
        Marks {
            versions,
            era: Some(era),
            words: SmallVec::new(),
            anything: false,
            turns: false,
            definitions: false,
            told: (0, false),
            witness: None,
        }
    }

    /// Marks more. Whoever has planned by a catalog looks whether that is still the one that holds after
    /// [`Versions::begin`], and marks anything if it is not.
    pub fn add(&mut self, written: Written<'_>) {
        match written {
            Written::Tables(tables) => tables.iter().for_each(|table| {
                Versions::words_of(*table).into_iter().for_each(|word| self.mark(word));
            }),
            // Who reads more of the table than a row reads this one, too.
            Written::Row(table, row) if self.words.len() < MOST_ROWS => {
                [usize::from(slot(table)), row.word()].into_iter().for_each(|word| self.mark(word));
            }
            Written::Row(table, _) => self.add(Written::Tables(&[table])),
            Written::Anything | Written::Perhaps | Written::Definitions => {
                self.turns |= !matches!(written, Written::Anything);
                if !std::mem::replace(&mut self.anything, true) {
                    self.versions.all.begin();
                }
                if matches!(written, Written::Definitions) && !std::mem::replace(&mut self.definitions, true)
                {
                    self.versions.common.word.begin();
                }
            }
        }
    }

    fn mark(&mut self, word: usize) {
        let mark = word as u16;
        if !self.words.contains(&mark) {
            self.words.push(mark);
            self.versions.words[word].begin();
        }
    }

    /// What no witness has been told of: the write's number there, slots of tables, and whether it is anything. `None` where
    /// that is nothing.
    pub fn untold(&self) -> Option<(Option<u64>, SmallVec<[u16; 4]>, bool)> {
        let words = self.words.get(self.told.0..).unwrap_or_default();
        // The first word of each table tells all that others are to know.
        let slots: SmallVec<[u16; 4]> =
            words.iter().copied().filter(|word| usize::from(*word) < SLOTS).collect();
        let anything = self.anything && !self.told.1;
        let id = self.witness.as_ref().map(|(_, id)| *id);
        (anything || !slots.is_empty()).then_some((id, slots, anything))
    }

    /// He has been told of all that there is: he knows the write by this number, and hears when it is over.
    pub fn told(&mut self, witness: &Arc<impl Witness + 'static>, id: u64) {
        self.told = (self.words.len(), self.anything);
        self.witness.get_or_insert_with(|| (witness.clone(), id));
    }

    /// That it is over by now, before anybody may take a stamp.
    fn note_end(&self) {
        if self.definitions {
            note(&self.versions.common.ended_us);
        }
        let Some(ends) = self.versions.ends.get() else { return };
        if self.anything {
            note(&ends.all);
        }
        self.words.iter().filter_map(|word| ends.slots.get(usize::from(*word))).for_each(note);
    }

    /// Whether objects have been defined otherwise.
    pub fn defines(&self) -> bool {
        self.definitions
    }

    /// Whether nothing is marked.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty() && !self.anything
    }

    /// The write is over, or never was. Where something may have been defined, whoever plans must know by now.
    pub fn end(mut self, lost: bool) {
        let versions = self.versions.clone();
        if lost {
            note(&versions.found_us);
        }
        self.note_end();
        if self.turns {
            versions.turn();
        }
        if self.definitions {
            versions.common.word.end();
        }
        if self.anything {
            versions.all.end();
        }
        for word in &self.words {
            versions.words[usize::from(*word)].end();
        }
        self.era = None;
        if let Some((witness, id)) = self.witness.take() {
            witness.ends(id, self.turns);
        }
        if self.is_empty() {
            return;
        }
        versions.count(match (lost, self.turns, self.anything) {
            (true, ..) => Cause::Lost,
            (_, true, _) => Cause::Definitions,
            (_, _, true) => Cause::Anything,
            _ => Cause::Tables,
        });
    }
}

impl Drop for Marks {
    fn drop(&mut self) {
        // Whoever drops marks without a word does not know what becomes of the statement: they stay, and so does the era.
        std::mem::forget(self.era.take());
    }
}
