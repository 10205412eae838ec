//! What a server still owes: every message sent to it adds an entry, every answer is checked against the first one
//! (invariant 6). Knows the protocol's order of answers ("Extended Query", "COPY Operations") and does no I/O.

use std::collections::VecDeque;
use std::sync::Arc;

use super::collected::Collecting;
use super::explained::Running;
use super::names::{Form, Names, Undo, Unnamed};
use crate::core::error::{Error, SqlState};
use crate::plan::Held;
use crate::pool::statement::Prepared;
use crate::sql::listen::Listen;

mod ordinary;

pub use ordinary::Ordinary;

/// One thing that a server owes, or that the client is owed by us in that place.
#[derive(Debug)]
pub enum Expect {
    /// Everything up to ReadyForQuery: simple Query with its plan, FunctionCall.
    Query(Option<Held>),
    /// ParseComplete for a named statement, under our name.
    Parse(Arc<Prepared>, Box<Undo>),
    /// ParseComplete for a named statement that the server knows under the client's own name.
    ParseRaw(Box<Undo>),
    /// ParseComplete for the unnamed statement; holds the one before it.
    ParseUnnamed(Option<Unnamed>),
    /// BindComplete.
    Bind,
    /// ParameterDescription, then as `DescribePortal`.
    DescribeStatement,
    /// RowDescription or NoData.
    DescribePortal,
    /// As `DescribeStatement` or `DescribePortal`, of what is explained: the client gets the answer's columns.
    DescribeExplained(Form),
    /// Rows up to CommandComplete, EmptyQueryResponse or PortalSuspended; with the plan of what is run, and the most
    /// rows before it is suspended.
    Execute(Option<Held>, u32),
    /// Rows up to CommandComplete, of what is explained: the client gets the answer.
    Explained(Box<Running>),
    /// CommandComplete of the statement that stands for this one.
    Listen(Box<Listen>),
    /// CloseComplete of a portal, or of a statement that the server knows under the client's own name.
    Close(Option<Box<Undo>>),
    /// CloseComplete for the unnamed statement; holds it.
    CloseUnnamed(Option<Unnamed>),
    /// ReadyForQuery.
    Sync,
    /// The client ended its COPY data here: a Sync after it counts.
    CopyEnd,
    /// ParseComplete for a Parse of ours.
    OurParse(Arc<Prepared>),
    /// ParameterDescription, then RowDescription or NoData, for a Describe of ours of this statement.
    OurDescribe(Arc<Prepared>),
    /// ParseComplete for the client's unnamed statement, sent again.
    OurUnnamed,
    /// ParseComplete for a Parse of ours under this name of the client's.
    OurOwn(Box<[u8]>),
    /// CloseComplete for a Close of ours: of this statement, or of the unnamed one.
    OurClose(Option<Arc<Prepared>>),
    /// Everything up to ReadyForQuery for a simple Query of ours.
    OurQuery(Ours),
    /// ParseComplete, BindComplete and CommandComplete for the statement that begins the client's transaction.
    OurBegin,
    /// No message was sent: the client gets ParseComplete from us.
    ReplyParse(Box<Undo>),
    /// No message was sent: the client gets CloseComplete from us.
    ReplyClose(Option<Box<Undo>>),
    /// No message was sent: the client gets these messages, which end the answer to an Execute.
    ReplyRows(Vec<u8>),
    /// No message was sent: the answer to what follows is copied.
    Collect(Box<Collecting>),
    /// ErrorResponse, since what was sent must fail: where it does with this code, the client gets this error for it.
    Doomed(SqlState, Box<Error>),
}

/// What a simple Query of ours is for.
#[derive(Debug)]
pub enum Ours {
    /// Carries the session's settings.
    Settings,
    /// Asks what the client's statements have left behind.
    Inquiry,
    /// Carries a statement that the client has prepared by SQL, under this name.
    Prepare(Box<[u8]>),
    /// Discards sequence values that are not the client's.
    Sequences,
    /// LISTEN or NOTIFY on the client's behalf.
    Echo,
    /// Runs what EXPLAIN (ROUTE, ANALYZE) is about.
    Explained,
    /// Makes the client's transaction one that has failed.
    Failure,
}

/// What to do with a frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    /// It belongs to the client.
    Forward,
    /// It answers something of ours.
    Swallow,
    /// The client gets the columns of an explanation for it.
    Columns(Form),
    /// The server does not keep to the protocol.
    Violation,
}

/// What a ReadyForQuery ends.
#[derive(Debug)]
pub enum Ready {
    /// A simple Query of the client's, with its plan.
    Query(Option<Held>),
    /// A batch of the client's.
    Sync,
    /// A statement of ours.
    Ours,
}

/// The queue. Bounded by the caller ([`crate::core::limits::MAX_EXPECTED`]).
#[derive(Debug, Default)]
pub struct Expected {
    queue: VecDeque<Expect>,
    /// An error came and no Sync has been sent yet: the server ignores everything up to the next one.
    skipping: bool,
    /// Extended messages were sent that no Sync has followed: however much of them has been answered, the server's
    /// implicit transaction is open.
    open: bool,
    /// The server reads COPY data.
    copy_in: bool,
    /// ReadyForQuery messages owed.
    ready: usize,
    /// Entries that hold what a name meant before.
    renamings: usize,
}

impl Expect {
    /// How to undo what it did to a named statement's name.
    fn undo(&mut self) -> Option<&mut Undo> {
        match self {
            Expect::Parse(_, undo) | Expect::ParseRaw(undo) | Expect::ReplyParse(undo) => Some(undo),
            Expect::Close(undo) | Expect::ReplyClose(undo) => undo.as_deref_mut(),
            _ => None,
        }
    }

    fn is_renaming(&self) -> bool {
        matches!(
            self,
            Expect::Parse(..)
                | Expect::ParseRaw(_)
                | Expect::ReplyParse(_)
                | Expect::Close(Some(_))
                | Expect::ReplyClose(Some(_))
        )
    }
}

impl Expected {
    /// Notes that a message was sent.
    #[inline]
    pub fn push(&mut self, expect: Expect) {
        match &expect {
            Expect::Sync => {
                self.ready += 1;
                (self.skipping, self.open) = (false, false);
            }
            // A simple Query ends the transaction that messages before it have begun.
            Expect::Query(_) | Expect::OurQuery(_) => {
                self.ready += 1;
                self.open = false;
            }
            // No message was sent.
            Expect::ReplyParse(_) | Expect::ReplyClose(_) => {
                self.renamings += usize::from(expect.is_renaming());
            }
            Expect::ReplyRows(_) | Expect::Collect(_) => {}
            // Something of the client's always follows.
            Expect::OurBegin => {}
            Expect::Parse(..) | Expect::ParseRaw(_) | Expect::Close(_) => {
                self.renamings += usize::from(expect.is_renaming());
                self.open = true;
            }
            _ => self.open = true,
        }
        self.queue.push_back(expect);
    }

    fn pop(&mut self) -> Option<Expect> {
        let popped = self.queue.pop_front();
        self.renamings -= usize::from(popped.as_ref().is_some_and(Expect::is_renaming));
        popped
    }

    /// Whether what `name` means, or whether `body` can be prepared, depends on an answer that a Sync has been sent
    /// for: if that is an error, what is sent now is not skipped with it.
    pub fn is_unsettled(&mut self, name: &[u8], body: Option<&[u8]>) -> bool {
        if self.renamings == 0 {
            return false;
        }
        let settled_by = self.queue.iter().rposition(|e| matches!(e, Expect::Sync)).unwrap_or(0);
        self.queue.iter_mut().take(settled_by).any(|e| {
            matches!(e, Expect::Parse(statement, _) if body == Some(&*statement.body))
                || e.undo().is_some_and(|undo| *undo.name == *name)
        })
    }

    /// Undoes a change of a name that did not happen. Where the name has been changed again since, undoing that one
    /// now leads to what was before this one.
    pub fn undo(&mut self, undo: Undo, names: &mut Names) {
        match self.queue.iter_mut().filter_map(Expect::undo).find(|later| later.name == undo.name) {
            Some(later) => later.before = undo.before,
            None => names.undo(undo),
        }
    }

    /// As [`Expected::undo`], for the unnamed statement.
    pub fn undo_unnamed(&mut self, before: Option<Unnamed>, names: &mut Names) {
        let later = self.queue.iter_mut().find_map(|e| match e {
            Expect::ParseUnnamed(before) | Expect::CloseUnnamed(before) => Some(before),
            _ => None,
        });
        *later.unwrap_or(&mut names.unnamed) = before;
    }

    /// Whether nothing is owed, by the server or by the client.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && !self.skipping && !self.open
    }

    /// Whether the server has answered all that it was sent.
    #[inline]
    pub fn is_answered(&self) -> bool {
        self.queue.is_empty() && !self.skipping
    }

    /// Entries.
    #[inline]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// ReadyForQuery messages still to come.
    pub fn ready_owed(&self) -> usize {
        self.ready
    }

    /// Whether what comes next from the server answers something of ours.
    pub fn is_ours(&mut self) -> bool {
        matches!(
            self.front(),
            Some(
                Expect::OurParse(_)
                    | Expect::OurDescribe(_)
                    | Expect::OurOwn(_)
                    | Expect::OurUnnamed
                    | Expect::OurClose(_)
                    | Expect::OurBegin
                    | Expect::OurQuery(_)
            )
        )
    }

    /// What comes next is the client's to see, though the statement was sent by us.
    pub fn no_longer_ours(&mut self) {
        self.front();
        if let Some(first @ Expect::OurQuery(_)) = self.queue.front_mut() {
            *first = Expect::Query(None);
        }
    }

    /// Forgets everything; keeps the memory.
    pub fn clear(&mut self) {
        self.queue.clear();
        (self.skipping, self.open, self.copy_in) = (false, false, false);
        (self.ready, self.renamings) = (0, 0);
    }

    /// Whether messages were sent that no Sync has followed yet.
    pub fn needs_sync(&self) -> bool {
        self.skipping || self.open
    }

    /// Whether an answer is still to come that tells what the server holds: a statement, or the session's settings. Where
    /// nobody waits for it, what was sent may as well have been cancelled.
    pub fn leaves_doubts(&self) -> bool {
        self.queue.iter().any(|entry| {
            matches!(
                entry,
                Expect::Parse(..)
                    | Expect::OurParse(_)
                    | Expect::OurOwn(_)
                    | Expect::OurClose(_)
                    | Expect::OurQuery(_)
            )
        })
    }

    /// Ignores, in a server's place, what is sent until the next Sync; or no longer.
    pub fn skip(&mut self, skip: bool) {
        self.skipping = skip;
    }

    /// Whether the server ignores what is sent until the next Sync.
    #[inline]
    pub fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// Whether the server reads COPY data from the client, as far as is known.
    #[inline]
    pub fn is_copying_in(&self) -> bool {
        self.copy_in
    }

    /// Notes that the client has ended its COPY data.
    pub fn copy_ended(&mut self) {
        self.copy_in = false;
        if !self.queue.is_empty() {
            self.queue.push_back(Expect::CopyEnd);
        }
    }

    /// A reply that is ours to give now, because everything before it has been answered; or an answer that begins to be
    /// copied.
    #[inline]
    pub fn pop_reply(&mut self) -> Option<Expect> {
        match self.queue.front() {
            Some(
                Expect::ReplyParse(_) | Expect::ReplyClose(_) | Expect::ReplyRows(_) | Expect::Collect(_),
            ) => self.pop(),
            _ => None,
        }
    }

    /// The entry that the next frame answers.
    #[inline]
    pub fn front(&mut self) -> Option<&Expect> {
        while let Some(Expect::CopyEnd) = self.queue.front() {
            self.queue.pop_front();
        }
        self.queue.front()
    }

    /// The plan of the statement that the next frame answers.
    #[inline]
    pub fn plan(&mut self) -> Option<&Held> {
        match self.front()? {
            Expect::Query(plan) | Expect::Execute(plan, _) => plan.as_ref(),
            _ => None,
        }
    }

    /// The same of an Execute, which the next frame ends.
    #[inline]
    pub fn take_plan(&mut self) -> Option<Held> {
        match self.queue.front_mut() {
            Some(Expect::Execute(plan, _)) => plan.take(),
            _ => None,
        }
    }

    /// What is being run to be explained, where the next frame is about that.
    pub fn explained(&mut self) -> Option<&mut Running> {
        self.front();
        match self.queue.front_mut()? {
            Expect::Explained(running) => Some(running),
            _ => None,
        }
    }

    /// The same, of which CommandComplete has come.
    pub fn take_explained(&mut self) -> Option<Box<Running>> {
        self.explained()?;
        match self.pop()? {
            Expect::Explained(running) => Some(running),
            _ => None,
        }
    }

    /// Takes a frame of this kind as an answer; everything but errors, ReadyForQuery, and what may come at any time.
    #[inline]
    pub fn answer(&mut self, kind: u8) -> Fate {
        let Some(front) = self.front() else { return Fate::Violation };
        let (done, fate) = match (kind, front) {
            (b'D' | b'd', Expect::Query(_) | Expect::Execute(..)) => (false, Fate::Forward),
            (b'C', Expect::Execute(..) | Expect::Listen(_)) => (true, Fate::Forward),
            (b'T' | b'C' | b'I' | b'H' | b'c' | b'V', Expect::Query(_)) => (false, Fate::Forward),
            (b'G', Expect::Query(_) | Expect::Execute(..)) => (false, Fate::Forward),
            (b'H' | b'c', Expect::Execute(..)) => (false, Fate::Forward),
            (b'I' | b's', Expect::Execute(..)) => (true, Fate::Forward),
            (b'1', Expect::Parse(..) | Expect::ParseRaw(_) | Expect::ParseUnnamed(_)) => {
                (true, Fate::Forward)
            }
            (b'D', Expect::Explained(_)) => (false, Fate::Swallow),
            (b't', Expect::DescribeExplained(_)) => (false, Fate::Forward),
            (b'T' | b'n', Expect::DescribeExplained(form)) => (true, Fate::Columns(*form)),
            (b'2', Expect::Bind) => (true, Fate::Forward),
            (b'3', Expect::Close(_) | Expect::CloseUnnamed(_)) => (true, Fate::Forward),
            (b't', Expect::DescribeStatement) => (false, Fate::Forward),
            (b'T' | b'n', Expect::DescribeStatement | Expect::DescribePortal) => (true, Fate::Forward),
            (b'1', Expect::OurParse(_) | Expect::OurOwn(_) | Expect::OurUnnamed) => (true, Fate::Swallow),
            (b't', Expect::OurDescribe(_)) => (false, Fate::Swallow),
            (b'T' | b'n', Expect::OurDescribe(_)) => (true, Fate::Swallow),
            (b'3', Expect::OurClose(_)) | (b'C', Expect::OurBegin) => (true, Fate::Swallow),
            (b'1' | b'2', Expect::OurBegin) => (false, Fate::Swallow),
            (b'T' | b'D' | b'C' | b'I', Expect::OurQuery(_)) => (false, Fate::Swallow),
            // The server accepted a statement under a name that it was known to have: we have lost count.
            _ => (false, Fate::Violation),
        };
        if done && let Some(Expect::Parse(statement, _) | Expect::OurParse(statement)) = self.pop() {
            statement.accept();
        }
        match kind {
            b'G' => self.copy_began(),
            b'C' => self.copy_in = false,
            _ => {}
        }
        fate
    }

    /// The server reads COPY data: it ignores the Syncs that were sent before that data ended.
    fn copy_began(&mut self) {
        self.copy_in = true;
        while matches!(self.queue.get(1), Some(Expect::Sync)) {
            self.queue.remove(1);
            self.ready -= 1;
        }
        let synced = self.queue.iter().any(|e| matches!(e, Expect::Sync));
        self.open |= matches!(self.queue.front(), Some(Expect::Execute(..))) && !synced;
        if matches!(self.queue.get(1), Some(Expect::CopyEnd)) {
            self.copy_in = false;
            self.queue.remove(1);
        }
    }

    /// Takes ReadyForQuery. `None`: nothing of the kind was owed.
    #[inline]
    pub fn ready(&mut self) -> Option<Ready> {
        self.front();
        let ready = match self.pop()? {
            Expect::Query(plan) => Ready::Query(plan),
            Expect::Sync => Ready::Sync,
            Expect::OurQuery(_) => Ready::Ours,
            _ => return None,
        };
        self.ready -= 1;
        self.copy_in = false;
        Some(ready)
    }

    /// Takes ErrorResponse: in an extended batch the server skips to the next Sync, so what it owed up to there it
    /// owes no more. The dropped entries, the failed one first, are given to `dropped` in order.
    pub fn error(&mut self, mut dropped: impl FnMut(Expect)) {
        self.copy_in = false;
        match self.front() {
            Some(Expect::Query(_) | Expect::OurQuery(_)) => return,
            // An error between Sync and ReadyForQuery: deferred constraints, say. ReadyForQuery follows.
            Some(Expect::Sync) | None => return,
            _ => {}
        }
        while let Some(entry) = self.pop() {
            match entry {
                Expect::Sync => return self.queue.push_front(entry),
                // A simple Query is skipped like everything else.
                Expect::Query(_) | Expect::OurQuery(_) => self.ready -= 1,
                _ => {}
            }
            dropped(entry);
        }
        self.skipping = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(entries: impl IntoIterator<Item = Expect>) -> Expected {
        let mut expected = Expected::default();
        entries.into_iter().for_each(|e| expected.push(e));
        expected
    }

    fn answers(expected: &mut Expected, kinds: &[u8]) -> Vec<Fate> {
        kinds.iter().map(|&k| expected.answer(k)).collect()
    }

    #[test]
    fn an_extended_batch() {
        let mut e = queue([
            Expect::ParseUnnamed(None),
            Expect::Bind,
            Expect::DescribePortal,
            Expect::Execute(None, 0),
            Expect::Sync,
        ]);
        assert!(answers(&mut e, b"12TDDC").iter().all(|f| *f == Fate::Forward));
        assert!(matches!(e.ready(), Some(Ready::Query(_) | Ready::Sync)));
        assert!(e.is_empty());
    }

    #[test]
    fn a_batch_is_not_over_without_its_sync() {
        let mut e = queue([Expect::ParseUnnamed(None), Expect::Bind, Expect::Execute(None, 0)]);
        answers(&mut e, b"12C");
        assert!(e.is_answered() && !e.is_empty() && e.needs_sync());
        e.push(Expect::Sync);
        assert!(!e.needs_sync());
        assert!(matches!(e.ready(), Some(Ready::Query(_) | Ready::Sync)));
        assert!(e.is_empty());
        // What is answered without the server opens nothing there.
        let mut e = queue([Expect::ReplyClose(None)]);
        e.pop_reply();
        assert!(e.is_empty());
    }

    #[test]
    fn an_answer_out_of_place_is_a_violation() {
        assert_eq!(queue([Expect::Bind]).answer(b'1'), Fate::Violation);
        assert_eq!(queue([]).answer(b'D'), Fate::Violation);
        assert!(queue([Expect::Execute(None, 0)]).ready().is_none());
    }

    #[test]
    fn an_error_skips_to_the_sync() {
        let mut e =
            queue([Expect::OurUnnamed, Expect::Bind, Expect::Execute(None, 0), Expect::Sync, Expect::Bind]);
        let mut dropped = 0;
        e.error(|_| dropped += 1);
        assert_eq!((dropped, e.is_skipping()), (3, false));
        assert!(matches!(e.ready(), Some(Ready::Query(_) | Ready::Sync)));
        e.error(|_| dropped += 1);
        assert!(e.is_skipping() && !e.is_empty());
        e.push(Expect::Sync);
        assert!(!e.is_skipping());
    }

    #[test]
    fn an_error_skips_a_simple_query_before_the_sync() {
        let mut e = queue([Expect::Bind, Expect::Query(None), Expect::Sync]);
        e.error(|_| {});
        assert_eq!(e.ready_owed(), 1);
        assert!(matches!(e.ready(), Some(Ready::Query(_) | Ready::Sync)));
        assert!(e.is_empty());
    }

    #[test]
    fn a_simple_query_goes_on_to_ready_after_an_error() {
        let mut e = queue([Expect::Query(None), Expect::Query(None)]);
        e.error(|_| panic!("nothing is dropped"));
        assert!(matches!(e.ready(), Some(Ready::Query(_) | Ready::Sync)));
        assert_eq!(e.ready_owed(), 1);
    }

    #[test]
    fn an_answer_that_does_not_come_leaves_doubts() {
        let mut e = queue([Expect::OurQuery(Ours::Settings), Expect::ParseUnnamed(None), Expect::Bind]);
        assert!(e.leaves_doubts(), "whether it has the session's settings is not known");
        assert!(matches!(e.ready(), Some(Ready::Ours)));
        assert!(!e.leaves_doubts());
        e.push(Expect::OurClose(None));
        assert!(e.leaves_doubts(), "whether it has let go of it is not known");
    }

    #[test]
    fn copy_in_swallows_the_syncs_before_its_data() {
        let mut e = queue([Expect::Execute(None, 0), Expect::Sync]);
        assert_eq!(e.answer(b'G'), Fate::Forward);
        assert!(e.is_copying_in() && e.ready_owed() == 0 && e.needs_sync());
        e.copy_ended();
        e.push(Expect::Sync);
        assert_eq!(e.answer(b'C'), Fate::Forward);
        assert!(matches!(e.ready(), Some(Ready::Query(_) | Ready::Sync)));
        assert!(e.is_empty());
    }

    #[test]
    fn copy_data_sent_ahead_keeps_its_sync() {
        let mut e = queue([Expect::Execute(None, 0)]);
        e.copy_ended();
        e.push(Expect::Sync);
        assert_eq!(e.answer(b'G'), Fate::Forward);
        assert!(!e.is_copying_in());
        assert_eq!(e.answer(b'C'), Fate::Forward);
        assert!(matches!(e.ready(), Some(Ready::Query(_) | Ready::Sync)));
    }

    #[test]
    fn copy_that_fails_in_an_extended_batch_waits_for_a_sync() {
        let mut e = queue([Expect::Execute(None, 0), Expect::Sync]);
        e.answer(b'G');
        e.error(|_| {});
        assert!(e.is_skipping());
        e.push(Expect::Sync);
        assert!(matches!(e.ready(), Some(Ready::Query(_) | Ready::Sync)));
    }
}
