//! Errors of servers in words that mean something to the client.

use super::batch::Batch;
use super::explained;
use crate::core::error::{Error, SqlState};
use crate::pool::statement::SERVER_PREFIX;

impl Batch<'_> {
    /// What the client is told for an error that has its reason here.
    pub(super) fn in_our_words(&self, code: SqlState, text: &str) -> Option<Error> {
        match code {
            SqlState::QUERY_CANCELED if self.client.entry.take_timed_out() => Some(Self::late()),
            SqlState::SYNTAX_ERROR if text == "unrecognized EXPLAIN option \"route\"" => {
                Some(explained::not_understood())
            }
            _ => None,
        }
    }

    /// An error that speaks of a statement by our name for it, with the client's own in its place.
    pub(super) fn in_clients_words(&self, len: usize) -> Option<Vec<u8>> {
        let frame = self.frame(len);
        let at = frame.windows(SERVER_PREFIX.len()).position(|w| w == SERVER_PREFIX)?;
        let digits = frame[at + SERVER_PREFIX.len()..].iter().take_while(|b| b.is_ascii_digit()).count();
        let end = at + SERVER_PREFIX.len() + digits;
        let name = self.client.names.called(&frame[at..end])?;
        let mut out = [&frame[..at], name, &frame[end..]].concat();
        let length = u32::try_from(out.len() - 1).ok()?;
        out[1..5].copy_from_slice(&length.to_be_bytes());
        Some(out)
    }
}
