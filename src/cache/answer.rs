//! A result as the frames that it was answered with, so that giving it again is copying them.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::key::Form;
use crate::wire::frame;
use crate::wire::message::{ErrorFields, command_tag};

/// Where the parts of an answer end among its frames, one after the other. There are very many of them: they are small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// ParameterDescription and RowDescription of the statement.
    statement: u32,
    /// RowDescription of what was bound. The rest is DataRows and CommandComplete, with the notices that came with them or
    /// with the Bind; of a simple Query also RowDescription before them and ReadyForQuery after them.
    portal: u32,
    count: u32,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Frames, and what whoever keeps it has put behind them.
    bytes: Box<[u8]>,
    /// How much of it are frames.
    frames: u32,
    outline: Outline,
}

/// Where the parts of an answer are among what a client was sent.
#[derive(Default)]
struct Parts {
    statement: Range<usize>,
    portal: Range<usize>,
    /// Notices of the Bind.
    notices: Range<usize>,
    rows: Range<usize>,
    count: u64,
}

/// Why an answer is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is an error, or something came with it that is told once: a parameter's new value, a notice about how it was
    /// parsed or run rather than about what it is.
    Told,
    /// It is no plain result.
    Other,
    /// It has too many rows.
    Rows,
}

impl Answer {
    /// Its frames, and where its parts are among them.
    pub fn taken_apart(&self) -> (&[u8], Outline) {
        (self.frames(), self.outline)
    }

    /// An answer of such parts. `None` where they are not among these frames.
    pub fn put_together(frames: &[u8], outline: Outline) -> Option<Answer> {
        let Outline { statement, portal, .. } = outline;
        let fits = statement <= portal && portal as usize <= frames.len();
        let len = u32::try_from(frames.len()).ok()?;
        fits.then(|| Answer { bytes: frames.into(), frames: len, outline })
    }

    fn frames(&self) -> &[u8] {
        self.bytes.get(..self.len()).unwrap_or_default()
    }

    /// The same with these bytes behind it, in one piece with it, which are no part of the answer.
    #[must_use]
    pub fn with_tail(self, tail: &[u8]) -> Answer {
        let (frames, outline) = (self.frames, self.outline);
        let mut bytes = Vec::from(self.bytes);
        bytes.truncate(frames as usize);
        bytes.reserve_exact(tail.len());
        bytes.extend_from_slice(tail);
        Answer { bytes: bytes.into(), frames, outline }
    }

    /// What was put behind it.
    pub fn tail(&self) -> &[u8] {
        self.bytes.get(self.len()..).unwrap_or_default()
    }

    /// How many rows.
    pub fn count(&self) -> u64 {
        self.outline.count.into()
    }

    /// Reads what a client was sent for one statement: up to ReadyForQuery, or in the extended protocol as far as
    /// CommandComplete.
    ///
    /// # Errors
    /// Why it is not one that can be given again.
    pub fn read(form: Form, sent: &[u8], max_rows: u64) -> Result<Answer, Unfit> {
        let mut answer = Parts::default();
        let (mut at, mut first, mut complete, mut bound) = (0, None, false, form == Form::Simple);
        loop {
            let rest = sent.get(at..).unwrap_or_default();
            if complete && form == Form::Extended {
                let answer = if rest.is_empty() { answer.of(sent) } else { None };
                return answer.ok_or(Unfit::Other);
            }
            let header = frame::server(rest).ok().flatten().ok_or(Unfit::Other)?;
            let whole = rest.get(..header.len).ok_or(Unfit::Other)?;
            let here = at..at + header.len;
            at = here.end;
            match header.kind {
                // Whoever binds it again has heard of how it was parsed.
                b'1' if !answer.notices.is_empty() => return Err(Unfit::Told),
                b'1' | b'2' if form == Form::Extended => bound = header.kind == b'2',
                b'N' if !is_of_result(whole) => return Err(Unfit::Told),
                b'N' if !bound && [0, here.start].contains(&answer.notices.end) => {
                    answer.notices =
                        if answer.notices.is_empty() { here } else { answer.notices.start..here.end };
                }
                // Before the rows, it is what comes first of them; the simple Query's is all one piece.
                b'N' if bound && form == Form::Extended => {
                    first.get_or_insert(here.start);
                }
                b'N' if bound => {}
                b't' if form == Form::Simple => return Err(Unfit::Other),
                b't' if answer.statement.is_empty() && first.is_none() => answer.statement = here,
                b'T' if !answer.statement.is_empty() && answer.statement.end == here.start => {
                    answer.statement.end = here.end;
                }
                b'T' if answer.portal.is_empty() && first.is_none() => answer.portal = here,
                b'D' if !complete => {
                    first.get_or_insert(here.start);
                    answer.count += 1;
                }
                b'C' if !complete && command_tag(whole).starts_with(b"SELECT ") => {
                    complete = true;
                    answer.rows = *first.get_or_insert(here.start)..here.end;
                }
                b'Z' if complete && !whole.ends_with(b"E") => break,
                b'E' | b'S' | b'A' => return Err(Unfit::Told),
                _ => return Err(Unfit::Other),
            }
            if answer.count > max_rows {
                return Err(Unfit::Rows);
            }
        }
        let described = !answer.portal.is_empty();
        (answer.rows, answer.portal) = (0..at, 0..0);
        let mut answer = answer.of(sent).filter(|_| described).ok_or(Unfit::Other)?;
        // Whatever transaction it was asked in: who gives it says in which one that is.
        if let Some(status) = answer.bytes.last_mut() {
            *status = b'I';
        }
        Ok(answer)
    }

    /// What a Describe of the statement is answered with. `None` where that is not known.
    pub fn statement(&self) -> Option<&[u8]> {
        self.part(0..self.outline.statement as usize)
    }

    /// What a Describe of the portal is answered with. `None` where that is not known.
    pub fn portal(&self) -> Option<&[u8]> {
        self.part(self.outline.statement as usize..self.outline.portal as usize)
    }

    /// What an Execute is answered with, or all that a simple Query is.
    pub fn rows(&self) -> &[u8] {
        self.part(self.outline.portal as usize..self.len()).unwrap_or_default()
    }

    /// The first rows of those that an Execute is answered with, without what follows them. `None` where there are fewer.
    pub fn first(&self, most: u64) -> Option<&[u8]> {
        let (rows, mut at, mut found) = (self.rows(), 0, 0);
        while found < most {
            // What is told before a row comes with it.
            let header = frame::server(&rows[at..]).ok()?.filter(|h| matches!(h.kind, b'D' | b'N'))?;
            at += header.len;
            found += u64::from(header.kind == b'D');
        }
        rows.get(..at)
    }

    fn part(&self, part: Range<usize>) -> Option<&[u8]> {
        self.frames().get(part).filter(|bytes| !bytes.is_empty())
    }

    /// Bytes that it takes.
    pub fn len(&self) -> usize {
        self.frames as usize
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// What this one lacks, from another of the same statement.
    #[must_use]
    pub fn with(self, other: &Answer) -> Answer {
        let lacks = |own: Option<&[u8]>, theirs: Option<&[u8]>| own.is_none() && theirs.is_some();
        if !lacks(self.statement(), other.statement()) && !lacks(self.portal(), other.portal()) {
            return self;
        }
        let statement = self.statement().or(other.statement()).unwrap_or_default();
        let portal = self.portal().or(other.portal()).unwrap_or_default();
        join([statement, portal, b"", self.rows()], self.count()).unwrap_or(self)
    }
}

impl Parts {
    /// Takes over the bytes that count.
    fn of(self, sent: &[u8]) -> Option<Answer> {
        let part = |range: Range<usize>| sent.get(range);
        let Parts { statement, portal, notices, rows, count } = self;
        join([part(statement)?, part(portal)?, part(notices)?, part(rows)?], count)
    }
}

/// Whether a notice tells of what was asked for: those of lower levels are about one run.
fn is_of_result(notice: &[u8]) -> bool {
    matches!(ErrorFields::of(notice).severity, b"NOTICE" | b"INFO" | b"WARNING")
}

/// An answer of its parts. `None` where it is larger than any may be.
fn join(parts: [&[u8]; 4], count: u64) -> Option<Answer> {
    let statement = u32::try_from(parts[0].len()).ok()?;
    let portal = u32::try_from(parts[0].len() + parts[1].len()).ok()?;
    // Each row takes some bytes, of which there are no more than that either.
    let count = u32::try_from(count).ok()?;
    let bytes: Box<[u8]> = parts.concat().into();
    let frames = u32::try_from(bytes.len()).ok()?;
    Some(Answer { bytes, frames, outline: Outline { statement, portal, count } })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
    }

    /// Frames by their letters.
    fn frames(kinds: &str) -> Vec<u8> {
        let of = |kind: u8| match kind {
            b'C' => frame(b'C', b"SELECT 2\0"),
            b'c' => frame(b'C', b"INSERT 0 1\0"),
            b'Z' => frame(b'Z', b"I"),
            b'z' => frame(b'Z', b"T"),
            b'f' => frame(b'Z', b"E"),
            b'N' => frame(b'N', b"SHINWEIS\0VNOTICE\0Mhear\0\0"),
            b'n' => frame(b'N', b"SLOG\0VLOG\0Mduration: 7 ms\0\0"),
            kind => frame(kind, b"body"),
        };
        kinds.bytes().flat_map(of).collect()
    }

    #[test]
    fn of_simple_queries() {
        let read = |kinds: &str| Answer::read(Form::Simple, &frames(kinds), 3);
        let answer = read("TDDCZ").unwrap();
        assert_eq!((answer.rows(), answer.count()), (&*frames("TDDCZ"), 2));
        assert_eq!(read("TCZ").unwrap().rows(), frames("TCZ"));
        // One that was asked in a transaction is no other.
        assert_eq!(read("TDCz"), read("TDCZ"));
        for (kinds, why) in [
            ("TDnCZ", Unfit::Told),
            ("STDCZ", Unfit::Told),
            ("EZ", Unfit::Told),
            ("TDCTDCZ", Unfit::Other),
            ("TDcZ", Unfit::Other),
            ("TDCf", Unfit::Other),
            ("DCZ", Unfit::Other),
            ("TDC", Unfit::Other),
            ("IZ", Unfit::Other),
            ("", Unfit::Other),
            ("TDDDDCZ", Unfit::Rows),
        ] {
            assert_eq!(read(kinds), Err(why), "{kinds}");
        }
    }

    #[test]
    fn notices_come_with_the_result_that_they_came_with() {
        for kinds in ["NTDCZ", "TNDCZ", "TDNDNCZ", "TDCNZ", "NNTNCZ"] {
            let answer = Answer::read(Form::Simple, &frames(kinds), 3).unwrap();
            assert_eq!(answer.rows(), frames(kinds), "{kinds}");
        }
        for (kinds, portal, rows) in [
            ("12NTC", "", ""),
            ("12TNDC", "T", "NDC"),
            ("2NDC", "", "NDC"),
            ("1N2TDC", "T", "NDC"),
            ("NN2TNDNDNC", "T", "NNNDNDNC"),
        ] {
            let read = Answer::read(Form::Extended, &frames(kinds), 3);
            // A Describe tells nothing: what is out of order is not understood.
            let Ok(answer) = read else {
                assert_eq!((read, rows), (Err(Unfit::Other), ""), "{kinds}");
                continue;
            };
            assert_eq!(
                (answer.portal().unwrap_or_default(), answer.rows()),
                (&*frames(portal), &*frames(rows))
            );
        }
        // How it was parsed is told when it is parsed.
        for kinds in ["N12TDC", "12TDnC", "1n2TDC"] {
            assert_eq!(Answer::read(Form::Extended, &frames(kinds), 3), Err(Unfit::Told), "{kinds}");
        }
        let answer = Answer::read(Form::Extended, &frames("N2NDNDNC"), 3).unwrap();
        let first = [0, 1, 2].map(|most| answer.first(most).unwrap());
        assert_eq!(first, ["", "NND", "NNDND"].map(frames));
        assert_eq!(answer.first(3), None);
    }

    #[test]
    fn of_the_extended_protocol() {
        let read = |kinds: &str| Answer::read(Form::Extended, &frames(kinds), 3);
        let answer = read("12TDDC").unwrap();
        assert_eq!(answer.portal(), Some(&*frames("T")));
        assert_eq!((answer.rows(), answer.statement()), (&*frames("DDC"), None));
        assert_eq!([0, 1, 2].map(|most| answer.first(most).unwrap()), ["", "D", "DD"].map(frames));
        assert_eq!(answer.first(3), None);
        let answer = read("1tT2TDC").unwrap();
        assert_eq!(answer.statement(), Some(&*frames("tT")));
        assert_eq!((answer.portal(), answer.rows()), (Some(&*frames("T")), &*frames("DC")));
        let bare = read("2DC").unwrap();
        assert_eq!((bare.portal(), bare.statement()), (None, None));
        let both = bare.with(&answer);
        assert_eq!((both.statement(), both.portal()), (answer.statement(), answer.portal()));
        assert_eq!((both.rows(), both.count()), (&*frames("DC"), 1));
        for kinds in ["12TDs", "12TDCD", "12TDDC2TDC", "2D", "2DCZ"] {
            assert_eq!(read(kinds), Err(Unfit::Other), "{kinds}");
        }
    }

    proptest! {
        /// Whatever a server sends, reading it ends, and what is kept is nothing but what was sent.
        #[test]
        fn never_panics(kinds in "[TtDCcZzf123NSEI]{0,12}", cut in 0usize..40) {
            let sent = frames(&kinds);
            let sent = &sent[..sent.len().saturating_sub(cut)];
            for form in [Form::Simple, Form::Extended] {
                if let Ok(answer) = Answer::read(form, sent, 3) {
                    // But for what a transaction was, at the end of a simple Query's.
                    let mut kept = answer.rows().strip_suffix(b"I").unwrap_or(answer.rows());
                    // And for what a Bind told before it was answered.
                    while let Some(rest) = kept.strip_prefix(&*frames("N")).filter(|_| form == Form::Extended) {
                        kept = rest;
                    }
                    prop_assert!(sent.windows(kept.len().max(1)).any(|w| w == kept));
                }
            }
        }
    }
}
