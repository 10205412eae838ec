//! What a server says while it streams its WAL: the frame around it (PostgreSQL's documentation, "Streaming Replication
//! Protocol") and the messages of pgoutput, version 1 ("Logical Replication Message Formats"). Read from bytes, no I/O.
//!
//! A message may be cut off behind what names its table: what it says of rows is then not known.

use smallvec::SmallVec;

use super::message::cstr;

/// Microseconds between the Unix epoch and PostgreSQL's, 2000-01-01.
const EPOCH: i64 = 946_684_800_000_000;

/// One CopyData of a stream, without its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// XLogData: a message of the output plugin.
    Data(&'a [u8]),
    /// Primary keepalive: everything that ends at this position or before it has been sent.
    Alive {
        /// The position, in bytes since the WAL's beginning.
        end: u64,
        /// Whether it wants to be answered at once.
        asks: bool,
    },
}

impl<'a> Piece<'a> {
    /// Reads the body of a CopyData. `None` where it is neither.
    pub fn read(body: &'a [u8]) -> Option<Piece<'a>> {
        let mut cursor = Cursor(body);
        match cursor.byte()? {
            b'w' => {
                // Where it starts, the end of the WAL, and when it was sent.
                cursor.chunk::<24>()?;
                Some(Piece::Data(cursor.0))
            }
            b'k' => {
                let end = cursor.u64()?;
                cursor.u64()?;
                Some(Piece::Alive { end, asks: cursor.byte()? != 0 })
            }
            _ => None,
        }
    }
}

/// The body of a standby status update: all up to `position` has been dealt with. `unix_us` is the time, in
/// microseconds since 1970; `asks` has the server answer with a keepalive.
pub fn status(position: u64, unix_us: i64, asks: bool) -> [u8; 34] {
    let mut body = [0; 34];
    body[0] = b'r';
    // Written, flushed, applied.
    for at in [1, 9, 17] {
        body[at..at + 8].copy_from_slice(&position.to_be_bytes());
    }
    body[25..33].copy_from_slice(&unix_us.saturating_sub(EPOCH).to_be_bytes());
    body[33] = u8::from(asks);
    body
}

/// A message of pgoutput.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A transaction that has committed begins; those come in the order in which they did.
    Begin {
        /// Its number, without the epoch.
        xid: u32,
    },
    /// It ends.
    Commit {
        /// Where its record of the commit ends.
        end: u64,
    },
    /// Rows of a table were inserted, updated or deleted.
    Changed {
        /// `pg_class.oid` of where the rows are: of a partition, its own.
        table: u32,
        /// What is told of them.
        rows: Rows<'a>,
    },
    /// What the rows of a table look like that come from here on.
    Relation {
        /// Its oid.
        table: u32,
        /// Its columns' names, in order, if all of them are here.
        columns: Option<Vec<&'a [u8]>>,
    },
    /// Tables were emptied.
    Truncated {
        /// Their oids.
        tables: Vec<u32>,
    },
    /// Somebody called `pg_logical_emit_message`.
    Told {
        /// Whether it belongs to the transaction around it.
        transactional: bool,
        /// What it is about.
        prefix: &'a [u8],
        /// What it says, as far as it is here.
        content: &'a [u8],
    },
    /// What a type looks like, or where a transaction came from: nothing that changes anything.
    Description,
}

/// The rows of one change: what they are, or were known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows<'a> {
    updated: bool,
    bytes: &'a [u8],
}

/// The values of a row, as text: `None` where a column is null, or is not told.
pub type Values<'a> = Vec<Option<&'a [u8]>>;

impl<'a> Rows<'a> {
    /// All rows that were there and are there: one, or of an update that has changed what the row is known by, two. Of what
    /// was there only what it was known by may be told. `None` where not all of that is here.
    pub fn read(&self) -> Option<SmallVec<[Values<'a>; 2]>> {
        let (mut cursor, mut rows) = (Cursor(self.bytes), SmallVec::new());
        loop {
            // The key or all of the old row; the new one.
            let new = match cursor.byte()? {
                b'K' | b'O' => false,
                b'N' => true,
                _ => return None,
            };
            rows.push(cursor.values()?);
            if new || !self.updated {
                return Some(rows);
            }
        }
    }
}

impl<'a> Message<'a> {
    /// Reads one. `None` where it is none that version 1 has, or shorter than it must be.
    pub fn read(bytes: &'a [u8]) -> Option<Message<'a>> {
        let mut cursor = Cursor(bytes);
        Some(match cursor.byte()? {
            b'B' => {
                // Where its commit is, and when that was.
                cursor.chunk::<16>()?;
                Message::Begin { xid: cursor.u32()? }
            }
            b'C' => {
                // Flags, and where the record begins.
                cursor.chunk::<9>()?;
                Message::Commit { end: cursor.u64()? }
            }
            kind @ (b'I' | b'U' | b'D') => {
                let table = cursor.u32()?;
                Message::Changed { table, rows: Rows { updated: kind == b'U', bytes: cursor.0 } }
            }
            b'R' => Message::Relation { table: cursor.u32()?, columns: cursor.columns() },
            b'T' => {
                let count = cursor.u32()?;
                // Whether others that depend on them are emptied, too, and counters begin again.
                cursor.byte()?;
                Message::Truncated { tables: (0..count).map(|_| cursor.u32()).collect::<Option<_>>()? }
            }
            b'M' => {
                let flags = cursor.byte()?;
                cursor.u64()?;
                let (prefix, rest) = cstr(cursor.0)?;
                let (length, content) = rest.split_first_chunk::<4>()?;
                let length = u32::from_be_bytes(*length) as usize;
                let content = content.get(..length).unwrap_or(content);
                Message::Told { transactional: flags & 1 != 0, prefix, content }
            }
            b'Y' | b'O' => Message::Description,
            _ => return None,
        })
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*chunk)
    }

    fn u32(&mut self) -> Option<u32> {
        self.chunk().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.chunk().map(u64::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.chunk().map(u16::from_be_bytes)
    }

    /// TupleData.
    fn values(&mut self) -> Option<Values<'a>> {
        let count = self.u16()?;
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(match self.byte()? {
                // Null, or too large to be told again though it is as before.
                b'n' | b'u' => None,
                kind @ (b't' | b'b') => {
                    let length = usize::try_from(self.u32()?).ok()?;
                    let (value, rest) = self.0.split_at_checked(length)?;
                    self.0 = rest;
                    Some(value).filter(|_| kind == b't')
                }
                _ => return None,
            });
        }
        Some(values)
    }

    /// The rest of Relation: schema, name, replica identity, and of each column flags, name, type and modifier.
    fn columns(&mut self) -> Option<Vec<&'a [u8]>> {
        let (_, rest) = cstr(self.0)?;
        let (_, rest) = cstr(rest)?;
        self.0 = rest;
        self.byte()?;
        let count = self.u16()?;
        let column = |_| {
            self.byte()?;
            let (name, rest) = cstr(self.0)?;
            self.0 = rest;
            self.chunk::<8>()?;
            Some(name)
        };
        (0..count).map(column).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_of_the_stream() {
        let data = [&b"w"[..], &[0; 24], b"payload"].concat();
        assert_eq!(Piece::read(&data), Some(Piece::Data(b"payload")));
        let alive = [&b"k"[..], &77u64.to_be_bytes(), &[0; 8], &[1]].concat();
        assert_eq!(Piece::read(&alive), Some(Piece::Alive { end: 77, asks: true }));
        for wrong in [&alive[..17], &data[..24], b"x", b""] {
            assert_eq!(Piece::read(wrong), None);
        }
        let body = status(0x0102, EPOCH + 5, true);
        assert_eq!((body[0], body[33]), (b'r', 1));
        assert!([1, 9, 17].iter().all(|at| body[*at..at + 8] == 0x0102u64.to_be_bytes()));
        assert_eq!(body[25..33], 5u64.to_be_bytes());
    }

    /// As PostgreSQL 15 has sent them.
    #[test]
    fn messages() {
        let begin = b"B\0\0\0\0\x01\x9c\x25\x50\0\x02\xf6\x1b\xd8\x8d\x54\x1e\0\0\x02\xe9";
        assert_eq!(Message::read(begin), Some(Message::Begin { xid: 745 }));
        let commit = b"C\0\0\0\0\0\x01\x9c\x25\x50\0\0\0\0\x01\x9c\x25\x80\0\x02\xf6\x1b\xd8\x8d\x54\x1e";
        assert_eq!(Message::read(commit), Some(Message::Commit { end: 0x19c_2580 }));
        let insert = b"I\0\0\x40\x05N\0\x02t\0\0\0\x011t\0\0\0\x01a";
        assert_eq!(told(insert), Some((16389, Some(vec![vec![Some(&b"1"[..]), Some(b"a")]]))));
        assert_eq!(Message::read(b"T\0\0\0\x02\0\0\0\0\x01\0\0\0\x02").map(tables), Some(vec![1, 2]));
        assert_eq!(Message::read(b"T\0\0\0\x03\0\0\0\0\x01\0\0\0\x02"), None);
        let told = b"M\x01\0\0\0\0\x01\x9c\x25\x50turnpike\0\0\0\0\x03ddl";
        let want = Message::Told { transactional: true, prefix: b"turnpike", content: b"ddl" };
        assert_eq!(Message::read(told), Some(want));
        let relation = b"R\0\0\x40\x05public\0kv\0d\0\x02\x01id\0\0\0\0\x17\xff\xff\xff\xff\0v\0\0\0\0\x19\xff\xff\xff\xff";
        let columns = Some(vec![&b"id"[..], b"v"]);
        assert_eq!(Message::read(relation), Some(Message::Relation { table: 16389, columns }));
        let cut = Some(Message::Relation { table: 16389, columns: None });
        assert_eq!(Message::read(&relation[..relation.len() - 1]), cut);
        for other in [&b"Y"[..], b"O\0\0\0\0\0\0\0\0x\0"] {
            assert_eq!(Message::read(other), Some(Message::Description));
        }
        // Of two-phase commits and of streamed transactions version 1 knows nothing.
        for wrong in [&b"b"[..], b"S", b"", b"I\0\0", b"B\0"] {
            assert_eq!(Message::read(wrong), None);
        }
    }

    /// The table and rows of a change.
    fn told(bytes: &[u8]) -> Option<(u32, Option<Vec<Values<'_>>>)> {
        match Message::read(bytes)? {
            Message::Changed { table, rows } => Some((table, rows.read().map(SmallVec::into_vec))),
            _ => None,
        }
    }

    /// As PostgreSQL 15 has sent them of a table with an `id` and a `v`.
    #[test]
    fn rows_are_told_by_what_they_are_known_by() {
        let (one, two): (Option<&[u8]>, Option<&[u8]>) = (Some(b"1"), Some(b"2"));
        let update = b"U\0\0\x40\x05N\0\x02t\0\0\0\x011u";
        assert_eq!(told(update), Some((16389, Some(vec![vec![one, None]]))));
        let moved = b"U\0\0\x40\x05K\0\x02t\0\0\0\x011nN\0\x02t\0\0\0\x012t\0\0\0\x01a";
        let want = vec![vec![one, None], vec![two, Some(b"a")]];
        assert_eq!(told(moved), Some((16389, Some(want))));
        assert_eq!(told(b"D\0\0\x40\x05K\0\x02t\0\0\0\x012n"), Some((16389, Some(vec![vec![two, None]]))));
        // What is cut off, or not understood, tells no rows.
        for cut in 1..moved.len() - 5 {
            assert_eq!(told(&moved[..moved.len() - cut]), Some((16389, None)), "{cut}");
        }
        assert_eq!(told(b"I\0\0\x40\x05X"), Some((16389, None)));
    }

    fn tables(message: Message<'_>) -> Vec<u32> {
        match message {
            Message::Truncated { tables } => tables,
            _ => Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Piece::read(&bytes);
            match Message::read(&bytes) {
                Some(Message::Truncated { tables }) => prop_assert!(tables.len() * 4 < bytes.len()),
                Some(Message::Changed { rows, .. }) => drop(rows.read()),
                _ => {}
            }
        }

        /// What is cut off behind the table still names it.
        #[test]
        fn changes_name_their_table(table in any::<u32>(), row in prop::collection::vec(any::<u8>(), 0..40)) {
            for kind in *b"IUD" {
                let bytes = [&[kind][..], &table.to_be_bytes(), &row].concat();
                prop_assert_eq!(told(&bytes).map(|(table, _)| table), Some(table));
            }
        }
    }
}
