//! One statement of the extended protocol, whole and in order, from what prepares or binds it to what executes it, and the
//! Sync where that follows: what it asks for, and in which order it is answered. Looks at bytes only.

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

/// Requests, in order.
pub(super) type Steps = SmallVec<[Step; 6]>;

/// Bytes of a Sync.
const SYNC: usize = FRAME_HEADER;

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Single<'a> {
    /// What it prepares as the unnamed statement: the body of Parse after the name.
    pub prepares: Option<&'a [u8]>,
    /// The statement that it binds, by the client's name.
    pub name: &'a [u8],
    /// The body of Bind after the names: formats and values of parameters, formats of columns.
    pub bind: &'a [u8],
    /// Most rows that are asked for; 0 for all.
    pub most: u32,
    /// Its requests; a Sync is the last of them, if it follows.
    pub steps: Steps,
    /// Bytes of all of them.
    pub len: usize,
}

impl<'a> Single<'a> {
    /// Reads the statement that begins here. `None` where it is asked for in another way, not all of it is here, or its
    /// portal is of use for longer.
    pub fn read(window: &'a [u8], max: usize) -> Option<Single<'a>> {
        let (mut prepares, mut name, mut bind) = (None, None, None);
        let (mut steps, mut len, mut most): (Steps, usize, u32) = (Steps::new(), 0, 0);
        let meant = |known: &mut Option<&'a [u8]>, name: &'a [u8]| *known.get_or_insert(name) == name;
        while !steps.contains(&Step::Execute) {
            let (kind, body) = request(&window[len..], max)?;
            let step = match (kind, bind.is_some()) {
                (b'P', _) if steps.is_empty() => {
                    prepares = Some(body.strip_prefix(b"\0")?);
                    name = Some(&b""[..]);
                    Step::Parse
                }
                (b'D', false) if body.first() == Some(&b'S') => {
                    let (statement, end) = cstr(&body[1..])?;
                    (end.is_empty() && meant(&mut name, statement)).then_some(Step::DescribeStatement)?
                }
                (b'B', false) => {
                    let (statement, values) = cstr(body.strip_prefix(b"\0")?)?;
                    bind = Some(values);
                    meant(&mut name, statement).then_some(Step::Bind)?
                }
                (b'D', true) if body == b"P\0" => Step::DescribePortal,
                (b'E', true) => {
                    let rows = i32::from_be_bytes(body.strip_prefix(b"\0")?.try_into().ok()?);
                    most = u32::try_from(rows).unwrap_or(0);
                    Step::Execute
                }
                _ => return None,
            };
            if steps.contains(&step) {
                return None;
            }
            steps.push(step);
            len += FRAME_HEADER + body.len();
        }
        let mut single = Single { prepares, name: name?, bind: bind?, most, steps, len };
        single.follow(window, max)?;
        Some(single)
    }

    /// What comes after Execute, as far as that is here: of use is nothing but the end of the portal.
    fn follow(&mut self, window: &[u8], max: usize) -> Option<()> {
        loop {
            let Some((kind, body)) = request(window.get(self.len..)?, max) else { return Some(()) };
            let closed = self.steps.contains(&Step::ClosePortal);
            let step = match kind {
                b'C' if !closed && body == b"P\0" => Step::ClosePortal,
                b'S' if body.is_empty() => Step::Sync,
                b'E' if body.first() == Some(&0) => return None,
                b'D' if body == b"P\0" => return None,
                _ => return Some(()),
            };
            self.steps.push(step);
            self.len += FRAME_HEADER + body.len();
            if step == Step::Sync {
                return Some(());
            }
        }
    }

    /// Whether a Sync ends it.
    pub fn is_synced(&self) -> bool {
        self.steps.last() == Some(&Step::Sync)
    }

    /// The same without the Sync.
    #[must_use]
    pub fn without_sync(mut self) -> Single<'a> {
        if self.is_synced() {
            self.steps.pop();
            self.len -= SYNC;
        }
        self
    }
}

/// The next request and its body, if it is here.
fn request(window: &[u8], max: usize) -> Option<(u8, &[u8])> {
    let header = frame::client(window, max).ok()??;
    Some((header.kind, window.get(FRAME_HEADER..header.len)?))
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
        for letters in [
            "pbez", "pbdez", "psbez", "psbdecz", "bez", "Bez", "SBez", "BdeczqZ", "bEz", "pbecbez", "pbe",
            "pbeqz", "bePBez", "pbec",
        ] {
            let bytes = batch(letters);
            let single = Single::read(&bytes, MAX).unwrap();
            assert_eq!(single.prepares.is_some(), letters.starts_with('p'), "{letters}");
            assert_eq!(
                (single.name.is_empty(), single.bind),
                (!letters.starts_with(['B', 'S']), &b"values"[..])
            );
            assert_eq!(single.most, u32::from(letters.starts_with("bE")), "{letters}");
            let until = letters.find(['e', 'E']).unwrap() + 1;
            let after = letters[until..].find(|c| !"cz".contains(c)).map_or(letters.len(), |n| until + n);
            let end = letters[..after].find('z').map_or(after, |n| n + 1);
            assert_eq!(
                (single.len, single.is_synced()),
                (batch(&letters[..end]).len(), letters[..end].ends_with('z'))
            );
            let bare = single.without_sync();
            assert_eq!(bare.len, batch(letters[..end].trim_end_matches('z')).len());
        }
        for letters in [
            "z", "ez", "bz", "pb", "Pbez", "pBez", "sBez", "pbeez", "bedz", "bsez", "vez", "dbez", "ppbez",
            "", "bbez", "bqez", "bEez", "becez",
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
                prop_assert!(single.len <= bytes.len() && single.steps.contains(&Step::Execute));
            }
        }
    }
}
