//! What a recording says, event by event, each with its length before it.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use super::key::Key;
use super::seal::{Broken, Opener, Sealer};
use crate::core::error::SqlState;
use crate::core::limits::MAX_MIRRORED;
use crate::plan::sameness::Sameness;
use crate::wire::summary::Outcome;

/// Longest event: an exchange with the statements that it uses.
const LONGEST: usize = 8 * MAX_MIRRORED;

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The first of a file.
    Begin(Begin),
    /// A shape, before the first exchange that has a statement of it.
    Shape(Shape),
    /// What a session has set from here on.
    Settings(u64, Vec<(String, String)>),
    /// An exchange.
    Exchange(Recorded),
    /// A session is over; microseconds after the recording began.
    End(u64, u64),
}

/// What holds for a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begin {
    /// Which of the recording's files it is, from 1.
    pub part: u32,
    /// Whether values of statements are in it.
    pub literals: bool,
    /// Of checksums.
    pub key: (u64, u64),
    /// Seconds since the epoch when the recording began.
    pub began: u64,
}

/// A shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// What exchanges call it.
    pub id: u32,
    /// Its fingerprint.
    pub fingerprint: u128,
    /// Its text, without values.
    pub text: String,
}

/// An exchange.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Whose.
    pub session: u64,
    /// Of the session's, which one.
    pub number: u64,
    /// It begins outside a transaction.
    pub fresh: bool,
    /// It does nothing but reading.
    pub reads: bool,
    /// Microseconds after the recording began.
    pub at_us: u64,
    /// Microseconds that it took.
    pub took_us: u64,
    /// Names and bodies of statements that it uses.
    pub statements: Vec<(Vec<u8>, Vec<u8>)>,
    /// The client's messages.
    pub requests: Vec<u8>,
    /// What its statements came to.
    pub results: Vec<Ended>,
}

impl std::fmt::Debug for Recorded {
    /// Holds values: shows which one it is.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recorded({}, {})", self.session, self.number)
    }
}

/// What a statement came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Its shape; 0 where that is not known.
    pub shape: u32,
    /// What its runs have in common, from 0.
    pub sameness: u8,
    /// How it failed, if it did.
    pub code: Option<[u8; 5]>,
    /// Rows.
    pub rows: u64,
    /// Their checksum in any order.
    pub sum: u64,
    /// That in their order.
    pub chain: u64,
}

const SAMENESS: [Sameness; 4] = [Sameness::Nothing, Sameness::Count, Sameness::Rows, Sameness::Order];

impl Ended {
    /// Of a statement of that shape.
    pub fn new(shape: u32, sameness: Sameness, outcome: &Outcome) -> Ended {
        let Outcome { code, rows, sum, chain } = *outcome;
        let sameness = SAMENESS.iter().position(|s| *s == sameness).unwrap_or_default() as u8;
        Ended { shape, sameness, code: code.map(|code| code.0), rows, sum, chain }
    }

    /// What it came to.
    pub fn outcome(&self) -> Outcome {
        Outcome { code: self.code.map(SqlState), rows: self.rows, sum: self.sum, chain: self.chain }
    }

    /// What its runs have in common.
    pub fn sameness(&self) -> Sameness {
        SAMENESS.get(usize::from(self.sameness)).copied().unwrap_or_default()
    }
}

/// Adds an event to a file.
///
/// # Errors
/// What writing says.
pub fn add<W: Write>(file: &mut Sealer<W>, event: &Event) -> io::Result<()> {
    let bytes = postcard::to_allocvec(event).map_err(|_| io::Error::other("it cannot be written down"))?;
    let len = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= LONGEST);
    file.add(&len.ok_or_else(|| io::Error::other("it is too long"))?.to_be_bytes())?;
    file.add(&bytes)
}

/// Reads a file's events.
#[derive(Debug)]
pub struct Events<R> {
    file: Opener<R>,
    held: Vec<u8>,
    at: usize,
    over: bool,
}

impl<R: Read> Events<R> {
    /// Of a file.
    ///
    /// # Errors
    /// It is no recording, or under another key.
    pub fn new(from: R, key: &Key) -> Result<Events<R>, Broken> {
        Ok(Events { file: Opener::new(from, key)?, held: Vec::new(), at: 0, over: false })
    }

    /// The next event; `None` at the end.
    ///
    /// # Errors
    /// The file is not as it was written.
    pub fn next_event(&mut self) -> Result<Option<Event>, Broken> {
        loop {
            let held = &self.held[self.at..];
            if let Some((len, rest)) = held.split_first_chunk::<4>() {
                let len = u32::from_be_bytes(*len) as usize;
                if len > LONGEST {
                    return Err(Broken::Nonsense("an event is too long"));
                }
                if let Some(bytes) = rest.get(..len) {
                    let read = postcard::take_from_bytes::<Event>(bytes);
                    let (event, left) = read.map_err(|_| Broken::Nonsense("an event cannot be read"))?;
                    if !left.is_empty() {
                        return Err(Broken::Nonsense("an event is longer than it says"));
                    }
                    self.at += 4 + len;
                    return Ok(Some(event));
                }
            }
            if self.over {
                let whole = held.is_empty();
                return if whole { Ok(None) } else { Err(Broken::Nonsense("its last event is not whole")) };
            }
            self.held.drain(..self.at);
            self.at = 0;
            match self.file.next_part()? {
                Some(bytes) => self.held.extend_from_slice(bytes),
                None => self.over = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn exchange(requests: Vec<u8>, number: u64) -> Event {
        let outcome = Outcome { code: Some(SqlState::SYNTAX_ERROR), rows: 3, sum: u64::MAX, chain: 1 };
        Event::Exchange(Recorded {
            session: 7,
            number,
            fresh: true,
            reads: false,
            at_us: 1,
            took_us: 2,
            statements: vec![(b"name".to_vec(), b"SELECT 1\0\0\0".to_vec())],
            requests,
            results: vec![Ended::new(2, Sameness::Order, &outcome)],
        })
    }

    #[test]
    fn outcomes_come_back() {
        let outcome = Outcome { code: None, rows: 3, sum: 4, chain: 5 };
        let result = Ended::new(0, Sameness::Count, &outcome);
        assert_eq!((result.outcome(), result.sameness()), (outcome, Sameness::Count));
    }

    proptest! {
        #[test]
        fn events_come_back(
            requests in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200_000), 0..4),
            text in ".{0,40}", flushes in any::<bool>(),
        ) {
            let key = Key::new([9; 32]);
            let mut events = vec![
                Event::Begin(Begin { part: 1, literals: true, key: (1, 2), began: 3 }),
                Event::Shape(Shape { id: 1, fingerprint: u128::MAX, text }),
                Event::Settings(7, vec![("a".into(), "b".into())]),
            ];
            events.extend(requests.into_iter().enumerate().map(|(i, r)| exchange(r, i as u64)));
            events.push(Event::End(7, 9));
            let mut file = Sealer::new(Vec::new(), &key).unwrap();
            for event in &events {
                add(&mut file, event).unwrap();
                if flushes { file.flush().unwrap(); }
            }
            let bytes = file.finish().unwrap();
            let mut read = Events::new(bytes.as_slice(), &key).unwrap();
            for event in &events {
                let next = read.next_event().unwrap();
                prop_assert_eq!(next.as_ref(), Some(event));
            }
            prop_assert_eq!(read.next_event().unwrap(), None);
        }

        /// Whoever has the key may write nonsense: it is refused, and nothing panics.
        #[test]
        fn nonsense_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let key = Key::new([9; 32]);
            let mut file = Sealer::new(Vec::new(), &key).unwrap();
            file.add(&bytes).unwrap();
            let bytes = file.finish().unwrap();
            let mut read = Events::new(bytes.as_slice(), &key).unwrap();
            while let Ok(Some(_)) = read.next_event() {}
        }
    }
}
