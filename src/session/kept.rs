//! A batch that is kept while it is under way, to be sent again to another server as long as the client has heard nothing
//! of its answer.

use super::batch::Flow;
use super::batched::Batched;
use super::names::{Names, Undo};

/// Largest batch that is kept, in bytes.
const MOST: usize = 16 * 1024;
/// Most bytes of room that a session at rest has for them.
const MOST_SPARE: usize = 512;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Its requests; empty where it must not be sent again.
    bytes: Vec<u8>,
    /// Bytes of them that have been taken.
    taken: usize,
    /// Bytes that the client is sent before its answer.
    promised: u64,
    /// What names of statements meant before it, in the order in which it changes that.
    names: Vec<Undo>,
}

impl Kept {
    /// Keeps the batch that comes next, in the room of the last one.
    #[inline]
    pub(super) fn keep(&mut self, batched: &Batched, names: &Names, flow: &mut Flow) {
        self.forget();
        if batched.len > MOST {
            return;
        }
        self.bytes.extend_from_slice(&flow.up.window()[..batched.len]);
        self.promised = flow.down.promised();
        // What a name means that it gives twice is what it meant before it; that comes last.
        let before = |name: &[u8]| Undo { name: name.into(), before: names.get(name).cloned() };
        self.names.extend(batched.names.iter().map(|name| before(name)));
    }

    /// Its next request has been taken. Where that was none of its own, too much has happened for it to be sent again.
    #[inline]
    pub(super) fn take(&mut self, len: usize) {
        self.taken = self.taken.saturating_add(len);
    }

    /// Whether it may be sent again.
    pub(super) fn may_go_again(&self, flow: &Flow) -> bool {
        !self.bytes.is_empty() && self.taken <= self.bytes.len() && flow.down.sent() <= self.promised
    }

    /// Nothing is kept any more.
    #[inline]
    pub(super) fn forget(&mut self) {
        self.bytes.clear();
        self.names.clear();
        self.taken = 0;
    }

    /// As before anything of it had been taken.
    pub(super) fn put_back(mut self, names: &mut Names, flow: &mut Flow) {
        flow.down.take_unread();
        flow.down.recall(self.promised);
        flow.up.recall(0);
        flow.expected.clear();
        self.names.drain(..).rev().for_each(|undo| names.undo(undo));
        // What has not been taken is where it was.
        flow.up.put_back(&self.bytes[..self.taken.min(self.bytes.len())]);
    }

    /// The room that it took. Little is worth having again; much would be taken up by sessions that rest.
    pub(super) fn room(mut self) -> Kept {
        if self.bytes.capacity() > MOST_SPARE {
            return Kept::default();
        }
        self.forget();
        self.names = Vec::new();
        self
    }
}
