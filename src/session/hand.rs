//! What a batch has at hand between one message and the next.

use super::ahead::Ahead;
use super::cached::Awaited;
use super::collected::Collecting;
use super::explained::Running;
use super::inquiry::Asked;
use crate::cache::strict::Seen;
use crate::fence::versions::Row;
use crate::plan::Held;
use crate::sql::long;

/// What a batch has at hand for the messages to come.
#[derive(Debug, Default)]
pub struct Hand {
    /// Words of a statement that is too long to be held.
    pub long_text: Option<long::Stream>,
    /// What parameters a prepared statement has that is being looked at.
    pub params: Option<Vec<u8>>,
    /// A plan that is made before the request at hand is taken.
    pub ahead: Option<Box<Ahead>>,
    /// The plan of the request at hand, where it has been looked for before.
    pub found: Option<Held>,
    /// What is run for EXPLAIN (ROUTE, ANALYZE).
    pub running: Option<Box<Running>>,
    /// What EXPLAIN (ROUTE) is about, to be looked for outside of the process.
    pub(super) peeks: Option<Vec<u8>>,
    /// The plan of what was bound last, to the unnamed portal.
    pub bound: Option<Held>,
    /// The row that it writes, where that is all that it does.
    pub(super) bound_row: Option<Row>,
    /// The plan of the prepared statement that the request at hand is about.
    pub resolved: Option<Held>,
    /// The plan of what has been answered but for ReadyForQuery.
    pub done: Option<Held>,
    /// A simple Query has been answered so far: its plan is still where it is expected.
    pub completed: bool,
    /// What the server has been asked about the client's state.
    pub asked: Option<Box<Asked>>,
    /// An error of a statement of ours that explains the client's next one.
    pub reason: Option<Vec<u8>>,
    /// What is to be kept when a server has answered the statement at hand.
    pub(super) turn: Option<Box<Collecting>>,
    /// An answer that is copied to be kept.
    pub(super) collecting: Option<Box<Collecting>>,
    /// Rows of the statement under way that have been passed on and not counted, where rows are bounded.
    pub(super) sent: u64,
    /// Bytes of a statement that has been looked for and is a server's.
    pub(super) passing: usize,
    /// The server has been asked for what it has so far, since a result waits for that.
    pub(super) flushing: bool,
    /// A result that somebody else is reading, to be waited for; and whether that has been done.
    pub(super) awaited: Option<Awaited>,
    /// How the tables of the request at hand stand among all processes, if that has just been looked at.
    pub(super) seen: Option<Option<Seen>>,
    pub(super) waited_for: bool,
    /// The statement, by its number, that returns something else to this session alone; 0 for none.
    pub(super) astray: u64,
}

impl Hand {
    /// Nothing is at hand any more.
    #[inline]
    pub(super) fn clear(&mut self) {
        // One look at each is cheaper than writing to all.
        let Hand { long_text, params, ahead, found, running, bound, resolved, done, asked, reason, .. } =
            self;
        if bound.is_some() {
            *bound = None;
        }
        let plans = found.is_some() || resolved.is_some() || done.is_some();
        let params = params.is_some() || reason.is_some();
        let others = long_text.is_some() || ahead.is_some() || running.is_some() || asked.is_some();
        let kept = self.collecting.is_some() || self.awaited.is_some() || self.waited_for || self.completed;
        let noted = self.sent > 0 || self.peeks.is_some() || self.astray > 0;
        let looked_for = self.turn.is_some() || self.flushing || self.passing > 0 || self.seen.is_some();
        if plans || others || params || kept || noted || looked_for {
            *self = Hand::default();
        }
    }
}
