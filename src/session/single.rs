//! A batch of the extended protocol that is one statement, whole and in order, up to its Sync: what such a batch asks for,
//! and in which order it is answered. Looks at bytes only.

use smallvec::SmallVec;

use crate::core::limits::FRAME_HEADER;
use crate::wire::frame;
use crate::wire::message::cstr;

/// One request of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Parse,
    Bind,
    DescribeStatement,
    DescribePortal,
    Execute,
    ClosePortal,
    Sync,
}

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Single<'a> {
    /// What it prepares as the unnamed statement: the body of Parse after the name.
    pub prepares: Option<&'a [u8]>,
    /// The statement that it binds, by the client's name.
    pub name: &'a [u8],
    /// The body of Bind after the names: formats and values of parameters, formats of columns.
    pub bind: &'a [u8],
    /// Its requests.
    pub steps: SmallVec<[Step; 6]>,
    /// Bytes of all of them.
    pub len: usize,
}

impl<'a> Single<'a> {
    /// Reads the batch that begins here. `None` where it is another, or not all of it is here.
    pub fn read(window: &'a [u8], max: usize) -> Option<Single<'a>> {
        let (mut prepares, mut name, mut bind) = (None, None, None);
        let (mut steps, mut len): (SmallVec<[Step; 6]>, usize) = (SmallVec::new(), 0);
        let meant = |known: &mut Option<&'a [u8]>, name: &'a [u8]| *known.get_or_insert(name) == name;
        loop {
            let rest = window.get(len..)?;
            let header = frame::client(rest, max).ok()??;
            let body = rest.get(FRAME_HEADER..header.len)?;
            len += header.len;
            let (bound, run) = (bind.is_some(), steps.contains(&Step::Execute));
            let step = match header.kind {
                b'P' if steps.is_empty() => {
                    prepares = Some(body.strip_prefix(b"\0")?);
                    name = Some(&b""[..]);
                    Step::Parse
                }
                b'D' if !bound && body.first() == Some(&b'S') => {
                    let (statement, end) = cstr(&body[1..])?;
                    (end.is_empty() && meant(&mut name, statement)).then_some(Step::DescribeStatement)?
                }
                b'B' if !bound => {
                    let (statement, values) = cstr(body.strip_prefix(b"\0")?)?;
                    bind = Some(values);
                    meant(&mut name, statement).then_some(Step::Bind)?
                }
                b'D' if bound && !run && body == b"P\0" => Step::DescribePortal,
                b'E' if bound && !run && body == [0; 5] => Step::Execute,
                b'C' if run && body == b"P\0" => Step::ClosePortal,
                b'S' if run && body.is_empty() => Step::Sync,
                _ => return None,
            };
            if steps.contains(&step) {
                return None;
            }
            steps.push(step);
            if step == Step::Sync {
                return Some(Single { prepares, name: name?, bind: bind?, steps, len });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 1 << 20;

    fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
    }

    /// A batch by letters: p, P prepare the unnamed statement and `x`; b, B bind them; s, S describe them; d describes
    /// the portal, e and E execute all or one row of it, c closes it, z is Sync, q Query.
    fn batch(letters: &str) -> Vec<u8> {
        let of = |letter: u8| match letter {
            b'p' => frame(b'P', b"\0SELECT $1\0\0\0"),
            b'P' => frame(b'P', b"x\0SELECT $1\0\0\0"),
            b'b' => frame(b'B', b"\0\0values"),
            b'B' => frame(b'B', b"\0x\0values"),
            b'v' => frame(b'B', b"portal\0\0values"),
            b's' => frame(b'D', b"S\0"),
            b'S' => frame(b'D', b"Sx\0"),
            b'd' => frame(b'D', b"P\0"),
            b'e' => frame(b'E', b"\0\0\0\0\0"),
            b'E' => frame(b'E', b"\0\0\0\0\x01"),
            b'c' => frame(b'C', b"P\0"),
            b'C' => frame(b'C', b"S\0"),
            b'z' => frame(b'S', b""),
            _ => frame(b'Q', b"SELECT 1\0"),
        };
        letters.bytes().flat_map(of).collect()
    }

    #[test]
    fn what_is_one_statement() {
        for letters in ["pbez", "pbdez", "psbez", "psbdecz", "bez", "Bez", "SBez", "BdeczqZ"] {
            let bytes = batch(letters);
            let single = Single::read(&bytes, MAX).unwrap();
            assert_eq!(single.prepares.is_some(), letters.starts_with('p'), "{letters}");
            assert_eq!((single.name.is_empty(), single.bind), (!letters.contains('B'), &b"values"[..]));
            assert_eq!(single.len, batch(letters.trim_end_matches("qZ")).len());
        }
        for letters in [
            "z", "ez", "bz", "pbe", "Pbez", "pBez", "sBez", "bEz", "bebez", "pbeez", "bedz", "bsez", "vez",
            "pbeCz", "bqez", "pbecc", "dbez", "ppbez", "",
        ] {
            assert_eq!(Single::read(&batch(letters), MAX), None, "{letters}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(letters in "[pPbBvsSdeEcCzq]{0,8}", cut in 0usize..30) {
            let bytes = batch(&letters);
            let bytes = &bytes[..bytes.len().saturating_sub(cut)];
            if let Some(single) = Single::read(bytes, MAX) {
                prop_assert!(single.len <= bytes.len() && single.steps.ends_with(&[Step::Sync]));
            }
        }
    }
}
