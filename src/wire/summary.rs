//! What the answer to a statement comes to: whether it failed and how, how many rows there were, and a checksum of them,
//! read off the frames as they pass. Copies nothing, and does no I/O.
//!
//! Two sums are kept over the bytes of each DataRow: one in which the order of rows does not matter, and one in which it
//! does. They are under a key: who sees them learns nothing of the rows.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::frame::Header;
use super::message::{ErrorFields, command_tag};
use crate::core::error::SqlState;
use crate::core::limits::FRAME_HEADER;

/// What a statement's answer came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How it failed, if it did.
    pub code: Option<SqlState>,
    /// Rows, as its tag has it.
    pub rows: u64,
    /// A checksum of the rows in any order.
    pub sum: u64,
    /// One of the rows in their order.
    pub chain: u64,
}

/// A key of checksums: those under different keys have nothing in common.
pub type Key = (u64, u64);

/// See the module.
#[derive(Debug)]
pub struct Summary {
    key: Key,
    so_far: Outcome,
    /// A row of which not everything has come, and how much of it is to come.
    partial: Option<(SipHasher13, usize)>,
}

/// Any odd number with bits everywhere: it makes the order of rows matter.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Summary {
    /// Of an answer of which nothing has come.
    pub fn new(key: Key) -> Summary {
        Summary { key, so_far: Outcome::default(), partial: None }
    }

    fn row(&mut self, hash: u64) {
        let so_far = &mut self.so_far;
        so_far.rows += 1;
        so_far.sum = so_far.sum.wrapping_add(hash);
        so_far.chain = (so_far.chain.rotate_left(7) ^ hash).wrapping_mul(ODD);
    }

    /// Takes the row at the head of what has come, and those of the same kind that follow and are whole. What is not here
    /// of the first comes by [`Summary::feed`].
    pub fn rows(&mut self, first: Header, window: &[u8]) {
        let hasher = || SipHasher13::new_with_keys(self.key.0, self.key.1);
        if window.len() < first.len {
            let mut hasher = hasher();
            hasher.write(window.get(FRAME_HEADER..).unwrap_or_default());
            self.partial = Some((hasher, first.len - window.len()));
            return;
        }
        let mut rest = window;
        // Lengths that cannot be are for whoever passes the frames on to see.
        while let Ok(Some(header)) = super::frame::server(rest)
            && header.kind == first.kind
            && header.len <= rest.len()
        {
            let (row, after) = rest.split_at(header.len);
            let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
            hasher.write(&row[FRAME_HEADER..]);
            self.row(hasher.finish());
            rest = after;
        }
    }

    /// Takes more of a row that had not all come.
    pub fn feed(&mut self, bytes: &[u8]) {
        let Some((hasher, left)) = &mut self.partial else { return };
        let here = bytes.len().min(*left);
        hasher.write(&bytes[..here]);
        *left -= here;
        if *left == 0 {
            let hash = hasher.finish();
            self.partial = None;
            self.row(hash);
        }
    }

    /// The statement's answer ends with this frame: CommandComplete, EmptyQueryResponse, PortalSuspended or
    /// ErrorResponse.
    pub fn end(&mut self, frame: &[u8]) -> Outcome {
        self.partial = None;
        let mut outcome = std::mem::take(&mut self.so_far);
        match frame.first() {
            Some(b'E') => outcome.code = Some(ErrorFields::of(frame).sqlstate()),
            Some(b'C') => outcome.rows = tagged_rows(frame).unwrap_or(outcome.rows),
            _ => {}
        }
        outcome
    }

    /// The same where it failed with that.
    pub fn fail(&mut self, code: SqlState) -> Outcome {
        self.partial = None;
        Outcome { code: Some(code), ..std::mem::take(&mut self.so_far) }
    }
}

/// The number that a tag ends with.
fn tagged_rows(frame: &[u8]) -> Option<u64> {
    let tag = std::str::from_utf8(command_tag(frame)).ok()?;
    tag.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::wire::{frame, reply};
    use proptest::prelude::*;

    /// The outcome of an answer that comes in pieces of so many bytes, into a buffer of that size.
    fn outcome(answer: &[u8], piece: usize, room: usize) -> Option<Outcome> {
        let mut summary = Summary::new((1, 2));
        let (mut window, mut streaming): (Vec<u8>, usize) = (Vec::new(), 0);
        for bytes in answer.chunks(piece.max(1)) {
            window.extend_from_slice(bytes);
            loop {
                if streaming > 0 {
                    let here = streaming.min(window.len());
                    summary.feed(&window[..here]);
                    window.drain(..here);
                    streaming -= here;
                }
                let Some(header) = frame::server(&window).unwrap().filter(|_| streaming == 0) else { break };
                let whole = window.len() >= header.len;
                if header.kind == b'D' && (whole || header.len > room) {
                    summary.rows(header, &window);
                    let mut passed = window.len().min(header.len);
                    streaming = header.len - passed;
                    while let Some(next) = frame::server(&window[passed..]).unwrap()
                        && next.kind == b'D'
                        && next.len <= window.len() - passed
                    {
                        passed += next.len;
                    }
                    window.drain(..passed);
                } else if whole && header.kind != b'D' {
                    return Some(summary.end(&window[..header.len]));
                } else {
                    break;
                }
            }
        }
        None
    }

    fn answer(rows: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        rows.iter().for_each(|row| reply::one_value(&mut out, row));
        reply::command_complete(&mut out, &format!("SELECT {}", rows.len()));
        out
    }

    #[test]
    fn how_it_ends() {
        let mut out = Vec::new();
        reply::error(&mut out, &crate::core::error::Error::statement(SqlState::SYNTAX_ERROR, "x"));
        assert_eq!(outcome(&out, 3, 64).unwrap().code, Some(SqlState::SYNTAX_ERROR));
        for (tag, rows) in [("INSERT 0 7", 7), ("UPDATE 3", 3), ("BEGIN", 0), ("COPY 12", 12)] {
            let mut out = Vec::new();
            reply::command_complete(&mut out, tag);
            assert_eq!(outcome(&out, 100, 64).unwrap().rows, rows, "{tag}");
        }
        assert_eq!(outcome(b"s\0\0\0\x04", 9, 64), Some(Outcome::default()));
    }

    proptest! {
        /// However it is split, and whatever of it is streamed, an answer comes to the same; another one to something else.
        #[test]
        fn splits_do_not_matter(
            rows in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..12),
            piece in 1usize..50, room in 6usize..60, swap in any::<(prop::sample::Index, prop::sample::Index)>(),
        ) {
            let whole = outcome(&answer(&rows), usize::MAX, usize::MAX).unwrap();
            prop_assert_eq!(outcome(&answer(&rows), piece, room).unwrap(), whole);
            prop_assert_eq!(whole.rows, rows.len() as u64);
            if rows.is_empty() { return Ok(()); }
            let (i, j) = (swap.0.index(rows.len()), swap.1.index(rows.len()));
            let mut other = rows.clone();
            other.swap(i, j);
            let swapped = outcome(&answer(&other), usize::MAX, usize::MAX).unwrap();
            prop_assert_eq!(swapped.sum, whole.sum);
            prop_assert_eq!(swapped.chain == whole.chain, other == rows);
            other[i].push(0);
            prop_assert!(outcome(&answer(&other), usize::MAX, usize::MAX).unwrap().sum != whole.sum);
        }
    }
}
