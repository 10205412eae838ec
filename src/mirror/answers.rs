//! A server's answer to what we send it, frame by frame, as far as a rehearsal goes: how each statement ended, and that it
//! is ready for more. Does no I/O; rows are summed up and thrown away as they come.

use crate::core::error::Result;
use crate::wire::frame;
use crate::wire::message::TxStatus;
use crate::wire::summary::{Key, Outcome, Summary};

/// How much of a frame that is not rows is looked at.
const LOOKED_AT: usize = 8 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Answers {
    summary: Summary,
    /// Bytes to come of the frame at hand.
    rest: usize,
}

/// What there is to know.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A statement's answer has ended.
    Ended(Outcome),
    /// All has been answered.
    Ready(TxStatus),
    /// It waits for COPY data.
    CopyIn,
}

impl Answers {
    /// Of an answer of which nothing has come, with checksums under that key.
    pub fn new(key: Key) -> Answers {
        Answers { summary: Summary::new(key), rest: 0 }
    }

    /// Looks at what has come: how many bytes are done with, and what they say. With no byte, more must come first.
    ///
    /// # Errors
    /// A length that cannot be.
    pub fn next(&mut self, window: &[u8]) -> Result<(usize, Option<Event>)> {
        if self.rest > 0 {
            let here = self.rest.min(window.len());
            self.summary.feed(&window[..here]);
            self.rest -= here;
            return Ok((here, None));
        }
        let Some(header) = frame::server(window)? else { return Ok((0, None)) };
        let here = header.len.min(window.len());
        let frame = &window[..here];
        if matches!(header.kind, b'D' | b'd') {
            self.summary.rows(header, frame);
            self.rest = header.len - here;
            return Ok((here, None));
        }
        if here < header.len.min(LOOKED_AT) {
            return Ok((0, None));
        }
        self.rest = header.len - here;
        let event = match header.kind {
            b'C' | b'I' | b's' | b'E' => Some(Event::Ended(self.summary.end(frame))),
            b'Z' => TxStatus::of(frame).map(Event::Ready),
            b'G' => Some(Event::CopyIn),
            _ => None,
        };
        Ok((here, event))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::core::error::{Error, SqlState};
    use crate::wire::reply;
    use proptest::prelude::*;

    /// What an answer says that comes in pieces, into a buffer of so many bytes.
    fn events(bytes: &[u8], piece: usize, room: usize) -> Vec<Event> {
        let (mut answers, mut events) = (Answers::new((3, 4)), Vec::new());
        let (mut window, mut left) = (Vec::new(), bytes);
        while !(window.is_empty() && left.is_empty()) {
            let (taken, event) = answers.next(&window).unwrap();
            window.drain(..taken);
            events.extend(event);
            if taken == 0 {
                let more = piece.min(left.len()).min(room - window.len());
                assert!(more > 0, "more is wanted than there is");
                window.extend_from_slice(&left[..more]);
                left = &left[more..];
            }
        }
        events
    }

    proptest! {
        #[test]
        fn splits_do_not_matter(
            rows in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30_000), 0..4),
            piece in 1usize..20_000, fails in any::<bool>(),
        ) {
            let mut bytes = Vec::new();
            reply::one_column(&mut bytes, &"c".repeat(9000), false, 0);
            rows.iter().for_each(|row| reply::one_value(&mut bytes, row));
            if fails {
                reply::error(&mut bytes, &Error::statement(SqlState::SYNTAX_ERROR, "x".repeat(20_000)));
            } else {
                reply::command_complete(&mut bytes, &format!("SELECT {}", rows.len()));
            }
            bytes.extend_from_slice(b"G\0\0\0\x07\0\0\0");
            reply::ready(&mut bytes, TxStatus::Open);
            let whole = events(&bytes, usize::MAX, usize::MAX);
            prop_assert_eq!(whole.len(), 3);
            prop_assert!(matches!(whole[0], Event::Ended(o) if o.code.is_some() == fails && o.rows == rows.len() as u64));
            prop_assert_eq!(&whole[1..], [Event::CopyIn, Event::Ready(TxStatus::Open)]);
            prop_assert_eq!(events(&bytes, piece, 16 * 1024), whole);
        }
    }
}
