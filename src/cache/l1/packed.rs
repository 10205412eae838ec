//! A result as bytes, to be kept outside of the process that has read it. Taken back by that process alone, since what it
//! is as of, and when it was read, means nothing to another; or as of a position in the WAL, which means the same to all.

use serde::{Deserialize, Serialize};

use super::{AsOf, Entry};
use crate::cache::answer::{Answer, Outline};
use crate::core::clock::Instant;

/// All but the frames.
#[derive(Serialize, Deserialize)]
struct Head<'a> {
    key: &'a [u8],
    as_of: AsOf,
    born: Instant,
    fingerprint: u128,
    outline: Outline,
}

/// The same for others.
#[derive(Serialize, Deserialize)]
struct HeadForAll<'a> {
    key: &'a [u8],
    position: u64,
    born_us: i64,
    fingerprint: u128,
    outline: Outline,
}

/// A result that another process may have read.
#[derive(Debug)]
pub struct Foreign {
    pub(super) answer: Answer,
    /// As of where in the WAL it is valid.
    pub position: u64,
    /// When it was asked for, in microseconds of the epoch.
    pub(super) born_us: i64,
    pub(super) fingerprint: u128,
}

impl Foreign {
    /// What was packed for all, if it is what is kept under this key.
    pub fn unpack(bytes: &[u8], key: &[u8]) -> Option<Foreign> {
        let (len, rest) = bytes.split_first_chunk::<4>()?;
        let (head, frames) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
        let head: HeadForAll<'_> =
            postcard::from_bytes(head).ok().filter(|h: &HeadForAll<'_>| h.key == key)?;
        let HeadForAll { position, born_us, fingerprint, outline, .. } = head;
        Some(Foreign { answer: Answer::put_together(frames, outline)?, position, born_us, fingerprint })
    }
}

/// Adds a head, with its length before it, and frames.
fn add(head: &impl Serialize, frames: &[u8], out: &mut Vec<u8>) -> bool {
    let Ok(head) = postcard::to_allocvec(head) else { return false };
    let Ok(len) = u32::try_from(head.len()) else { return false };
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(frames);
    true
}

impl Entry {
    /// Adds it to `out` as others may find it, under a key that means the same to them. False where it cannot be written
    /// down.
    pub fn pack_for_all(&self, key: &[u8], position: u64, born_us: i64, out: &mut Vec<u8>) -> bool {
        let (frames, outline) = self.answer.taken_apart();
        add(&HeadForAll { key, position, born_us, fingerprint: self.fingerprint(), outline }, frames, out)
    }

    /// Adds it to `out`. False where it cannot be written down.
    pub fn pack(&self, out: &mut Vec<u8>) -> bool {
        let (frames, outline) = self.answer.taken_apart();
        let Entry { as_of, born, .. } = self;
        let head =
            Head { key: self.key(), as_of: *as_of, born: *born, fingerprint: self.fingerprint(), outline };
        add(&head, frames, out)
    }

    /// What was packed, if it is what is kept under this key.
    pub fn unpack(bytes: &[u8], key: &[u8]) -> Option<Entry> {
        let (len, rest) = bytes.split_first_chunk::<4>()?;
        let (head, frames) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
        let head: Head<'_> = postcard::from_bytes(head).ok().filter(|head: &Head<'_>| head.key == key)?;
        let answer = Answer::put_together(frames, head.outline)?;
        let Head { as_of, born, fingerprint, .. } = head;
        Some(Entry::new(key, answer, as_of, born, fingerprint))
    }

    /// How many bytes it is.
    pub fn size(&self) -> usize {
        self.key().len() + self.answer.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::cache::key::Form;
    use crate::cache::l1::{Cache, Moment};

    fn entry() -> Entry {
        let cache = Cache::new(1 << 20).unwrap();
        let (versions, now) = (cache.versions.of("d"), Instant::now());
        let versions = &versions;
        let moment = Moment {
            versions,
            tables: &[7],
            row: None,
            view: 3,
            serial: 1,
            term: 2,
            seen: None,
            outside: None,
            shape: 5,
        };
        let sent = b"2\0\0\0\x04D\0\0\0\x0b\0\x01\0\0\0\x017C\0\0\0\x0dSELECT 1\0";
        let answer = Answer::read(Form::Extended, sent, 10).unwrap();
        let as_of = cache.as_of(&moment, now).unwrap();
        Entry::new(b"key", answer, as_of, now, 5)
    }

    #[test]
    fn what_is_packed_is_what_is_unpacked() {
        let entry = entry();
        let mut bytes = Vec::new();
        assert!(entry.pack(&mut bytes));
        let again = Entry::unpack(&bytes, b"key").unwrap();
        assert_eq!((&again.answer, again.as_of, again.born), (&entry.answer, entry.as_of, entry.born));
        assert_eq!((again.fingerprint(), again.key()), (5, &b"key"[..]));
        assert!(Entry::unpack(&bytes, b"kez").is_none());
        for cut in 0..bytes.len() - entry.answer.len() {
            assert!(Entry::unpack(&bytes[..cut], b"key").is_none(), "{cut}");
        }
    }

    #[test]
    fn what_is_packed_for_all_has_a_position() {
        let entry = entry();
        let mut bytes = Vec::new();
        assert!(entry.pack_for_all(b"whole key", 77, 5_000_000, &mut bytes));
        let again = Foreign::unpack(&bytes, b"whole key").unwrap();
        assert_eq!((again.position, again.born_us), (77, 5_000_000));
        assert_eq!(again.answer.taken_apart(), entry.answer.taken_apart());
        assert!(Foreign::unpack(&bytes, b"whole kez").is_none() && Foreign::unpack(b"", b"").is_none());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80), at in 0usize..60, with: u8) {
            let _ = (Entry::unpack(&bytes, b"key"), Foreign::unpack(&bytes, b"key"));
            let mut known = Vec::new();
            entry().pack(&mut known);
            if let Some(byte) = known.get_mut(at) {
                *byte = with;
            }
            let _ = Entry::unpack(&known, b"key");
        }
    }
}
