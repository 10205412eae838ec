//! Counts of what has been asked of the cache, and the words for them.

use crate::core::stats::Counter;

/// Why an answer was not kept, or not looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The plan says that it must not be.
    Refused,
    /// Its transaction has done more than reading, or is not known to be READ COMMITTED.
    Transaction,
    /// The session keeps state on a server, or what it has set is not known yet.
    Session,
    /// It has words in it that may tell the time.
    Time,
    /// Its tables are being written to.
    Written,
    /// Its tables were written while it was read.
    Moved,
    /// A replica answered that had not seen all writes.
    Replica,
    /// It cannot be shown what holds: no primary is known, or objects may have changed since the catalog was read.
    Unsure,
    /// It cannot be shown that what was written elsewhere is known, or something is written there just now.
    Elsewhere,
    /// Somebody was about to write, through any process that shares Redis; or that could not be known.
    Marked,
    /// It was too large.
    Large,
    /// It was an error, or came with notices.
    Told,
    /// The connection was lost, or the answer was none that can be kept.
    Broken,
}

impl Why {
    /// All of them, in order.
    pub const ALL: [Why; 13] = [
        Why::Refused,
        Why::Transaction,
        Why::Session,
        Why::Time,
        Why::Written,
        Why::Moved,
        Why::Replica,
        Why::Unsure,
        Why::Elsewhere,
        Why::Marked,
        Why::Large,
        Why::Told,
        Why::Broken,
    ];

    /// The same in more words.
    pub fn explained(self) -> &'static str {
        match self {
            Why::Refused => "the plan says that it must not be: the shapes below say why",
            Why::Transaction => {
                "its transaction has done more than reading, or is not known to be READ COMMITTED"
            }
            Why::Session => "the session kept state on a server, or what it had set was not known yet",
            Why::Time => "a value in it may tell the time",
            Why::Written => "its tables were being written to",
            Why::Moved => "its tables were written, or it was flushed, while it was read",
            Why::Replica => "a replica answered that had not seen all writes",
            Why::Unsure => "no primary was known, or objects may have changed since the catalog was read",
            Why::Elsewhere => "writers elsewhere were not known, or wrote just then",
            Why::Marked => "another process was about to write, or Redis did not say that none was",
            Why::Large => "it was larger than max_rows or max_bytes, or too much was being collected",
            Why::Told => "it was an error, or came with what is told once",
            Why::Broken => "the connection was lost, or it was no answer that can be kept",
        }
    }

    /// A label for metrics and people.
    pub fn label(self) -> &'static str {
        match self {
            Why::Refused => "refused",
            Why::Transaction => "transaction",
            Why::Session => "session",
            Why::Time => "time",
            Why::Written => "written",
            Why::Moved => "moved",
            Why::Replica => "replica",
            Why::Unsure => "unsure",
            Why::Elsewhere => "elsewhere",
            Why::Marked => "marked",
            Why::Large => "large",
            Why::Told => "told",
            Why::Broken => "broken",
        }
    }
}

/// What has outdated a result that was looked for and is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outdated {
    /// Its tables may have been written through this process; or were flushed.
    Written,
    /// They were written elsewhere.
    Elsewhere,
    /// Objects have been defined otherwise.
    Definitions,
    /// Plans are made under other rules: the configuration has changed.
    Rules,
    /// Another server is the primary.
    Promotion,
    /// Its time is over.
    Expired,
    /// It was flushed, by its shape or with all.
    Flushed,
}

impl Outdated {
    /// All of them, in order.
    pub const ALL: [Outdated; 7] = [
        Outdated::Written,
        Outdated::Elsewhere,
        Outdated::Definitions,
        Outdated::Rules,
        Outdated::Promotion,
        Outdated::Expired,
        Outdated::Flushed,
    ];

    /// A label for metrics and people.
    pub fn label(self) -> &'static str {
        match self {
            Outdated::Written => "written",
            Outdated::Elsewhere => "elsewhere",
            Outdated::Definitions => "definitions",
            Outdated::Rules => "rules",
            Outdated::Promotion => "promotion",
            Outdated::Expired => "expired",
            Outdated::Flushed => "flushed",
        }
    }

    /// The same in more words.
    pub fn explained(self) -> &'static str {
        match self {
            Outdated::Written => "its tables may have been written through this process",
            Outdated::Elsewhere => "its tables were written elsewhere",
            Outdated::Definitions => "objects have been defined otherwise",
            Outdated::Rules => "the configuration has changed",
            Outdated::Promotion => "another server is the primary",
            Outdated::Expired => "its time was over",
            Outdated::Flushed => "it was flushed by its shape, or with all",
        }
    }
}

/// What has been flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Everything.
    All,
    /// What was read from a table.
    Table,
    /// The results of a shape.
    Shape,
}

impl Flush {
    /// All of them, in order.
    pub const ALL: [Flush; 3] = [Flush::All, Flush::Table, Flush::Shape];

    /// A label for metrics and people.
    pub fn label(self) -> &'static str {
        match self {
            Flush::All => "all",
            Flush::Table => "table",
            Flush::Shape => "shape",
        }
    }
}

/// Counts of what has been asked of the cache.
#[derive(Debug, Default)]
pub struct Stats {
    /// Results given.
    pub hits: Counter,
    /// Of those, some that were past their time while somebody else read them again.
    pub stale: Counter,
    /// Results that were looked for and were not there.
    pub misses: Counter,
    /// Of those, some that waited for somebody else to read the same.
    pub waited: Counter,
    /// Results kept.
    pub stored: Counter,
    /// Results given that had been found outside of the process, the first time that they were.
    pub fetched: Counter,
    /// Results that memory had no room for: others were asked for more often.
    pub evicted: Counter,
    flushed: [Counter; Flush::ALL.len()],
    outdated: [Counter; Outdated::ALL.len()],
    bypassed: [Counter; Why::ALL.len()],
}

impl Stats {
    /// Counts one that was not kept, or not looked for.
    pub fn bypass(&self, why: Why) {
        if let Some(counter) = self.bypassed.get(why as usize) {
            counter.add(1);
        }
    }

    /// How many there have been of those.
    pub fn bypassed(&self) -> impl Iterator<Item = (Why, u64)> {
        Why::ALL.into_iter().zip(&self.bypassed).map(|(why, n)| (why, n.get()))
    }

    /// Counts a result that was found to be of no use any more.
    pub(super) fn outdate(&self, by: Outdated) {
        if let Some(counter) = self.outdated.get(by as usize) {
            counter.add(1);
        }
    }

    /// How many there have been of those.
    pub fn outdated(&self) -> impl Iterator<Item = (Outdated, u64)> {
        Outdated::ALL.into_iter().zip(&self.outdated).map(|(by, n)| (by, n.get()))
    }

    /// Counts a flush.
    pub fn flush(&self, what: Flush) {
        if let Some(counter) = self.flushed.get(what as usize) {
            counter.add(1);
        }
    }

    /// How many there have been of those.
    pub fn flushes(&self) -> impl Iterator<Item = (Flush, u64)> {
        Flush::ALL.into_iter().zip(&self.flushed).map(|(what, n)| (what, n.get()))
    }
}
