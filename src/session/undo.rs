//! What an error takes back: a server skips what was sent to it up to the next Sync, so names that were to change are
//! what they were.

use super::batch::Batch;
use super::expect::Expect;
use super::requests::NOBODY;

impl Batch<'_> {
    /// What the server skips after an error did not happen: names are as they were, last change first.
    pub(super) fn undo_skipped(&mut self) {
        let mut dropped = Vec::new();
        self.flow.expected.error(|entry| dropped.push(entry));
        self.undo(dropped);
    }

    /// Undoes what was to happen, in the order in which it was to.
    pub(super) fn undo(&mut self, mut dropped: Vec<Expect>) {
        // Postgres drops the unnamed statement before it parses the next, so one that fails leaves none.
        if let Some(Expect::ParseUnnamed(before)) = dropped.first_mut() {
            *before = None;
        }
        for entry in dropped.into_iter().rev() {
            self.undo_one(entry);
        }
    }

    fn undo_one(&mut self, entry: Expect) {
        let Self { client, flow, .. } = self;
        let Some(server) = &mut client.lease else { return };
        match entry {
            Expect::Parse(statement, undo) => {
                server.forget(statement.id);
                flow.expected.undo(*undo, &mut client.names);
            }
            Expect::ParseRaw(undo) | Expect::ReplyParse(undo) => flow.expected.undo(*undo, &mut client.names),
            Expect::ReplyClose(Some(undo)) | Expect::Close(Some(undo)) => {
                flow.expected.undo(*undo, &mut client.names);
            }
            Expect::ParseUnnamed(before) | Expect::CloseUnnamed(before) => {
                flow.expected.undo_unnamed(before, &mut client.names);
                server.unnamed = Some(NOBODY);
            }
            Expect::OurDescribe(_) => (self.checking, self.flow.hand.params) = (false, None),
            Expect::OurUnnamed | Expect::OurClose(None) => server.unnamed = Some(NOBODY),
            Expect::OurParse(statement) => server.forget(statement.id),
            Expect::OurOwn(name) => drop(server.own_of(client.entry.id).remove(&name)),
            Expect::OurClose(Some(statement)) => server.remember(&statement),
            _ => {}
        }
    }
}
