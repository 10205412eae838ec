//! A stream of bytes in encrypted chunks: whatever is changed, cut off, repeated or put in another place is noticed when it
//! is read.
//!
//!     magic and version (8), salt (32), check of the key (16)
//!     chunks: last or not (1), length (4), AES-256-GCM of up to 64 KiB, tag (16)
//!
//! Every file has a key of its own, made by HKDF-SHA256 from the operator's and the file's random salt; so the nonce of a
//! chunk can be its number, and says whether it is the last one (the construction is STREAM, by Hoang, Reyhanitabar,
//! Rogaway and Vizár). The header is authenticated with every chunk. A file without its last chunk was cut off, or is
//! still being written.

use std::io::{self, Read, Write};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{KeyType, Prk};
use subtle::ConstantTimeEq;
use thiserror::Error;

use super::key::Key;

const MAGIC: &[u8; 8] = b"TPREC\0\0\x01";
const SALT: usize = 32;
const CHECK: usize = 16;
const HEADER: usize = MAGIC.len() + SALT + CHECK;
/// Bytes of a chunk before it is encrypted.
pub const CHUNK: usize = 64 * 1024;

/// Why a file cannot be read.
#[derive(Debug, Error)]
pub enum Broken {
    /// It is something else.
    #[error("it is no recording, or of another version")]
    Foreign,
    /// The key is another one.
    #[error("the key is not the one that it was recorded under")]
    WrongKey,
    /// A part of it has been changed.
    #[error("it has been changed: chunk {0} is not as it was written")]
    Changed(u64),
    /// Its end is missing.
    #[error("its end is missing: it was cut off, or is still being written")]
    Truncated,
    /// Something follows its end.
    #[error("something follows its end")]
    Trailing,
    /// What it says makes no sense.
    #[error("it does not make sense: {0}")]
    Nonsense(&'static str),
    /// The system says so.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A key of 16 bytes, which tells whether the file's is the right one.
struct CheckLength;

impl KeyType for CheckLength {
    fn len(&self) -> usize {
        CHECK
    }
}

fn sealing(prk: &Prk, info: &[u8]) -> Option<LessSafeKey> {
    let info = [b"turnpike recording: chunks", info];
    let key = prk.expand(&info, &AES_256_GCM).ok()?;
    Some(LessSafeKey::new(UnboundKey::from(key)))
}

fn check(prk: &Prk, info: &[u8]) -> Option<[u8; CHECK]> {
    let mut out = [0; CHECK];
    prk.expand(&[b"turnpike recording: check", info], CheckLength).ok()?.fill(&mut out).ok()?;
    Some(out)
}

fn nonce(number: u64, last: bool) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[..8].copy_from_slice(&number.to_be_bytes());
    nonce[8] = u8::from(last);
    Nonce::assume_unique_for_key(nonce)
}

/// Writes such a stream.
pub struct Sealer<W> {
    out: W,
    key: LessSafeKey,
    header: [u8; HEADER],
    number: u64,
    held: Vec<u8>,
    written: u64,
}

impl<W> std::fmt::Debug for Sealer<W> {
    /// Holds values: shows how much of them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealer({} bytes)", self.written)
    }
}

fn impossible() -> io::Error {
    io::Error::other("it cannot be encrypted")
}

impl<W: Write> Sealer<W> {
    /// A stream in which nothing is yet but its header.
    ///
    /// # Errors
    /// What writing says; no randomness.
    pub fn new(mut out: W, key: &Key) -> io::Result<Sealer<W>> {
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt).map_err(|_| io::Error::other("no randomness"))?;
        let prk = key.extract(&salt);
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..8 + SALT].copy_from_slice(&salt);
        let check = check(&prk, &header[..8]).ok_or_else(impossible)?;
        header[8 + SALT..].copy_from_slice(&check);
        let key = sealing(&prk, &header).ok_or_else(impossible)?;
        out.write_all(&header)?;
        Ok(Sealer { out, key, header, number: 0, held: Vec::with_capacity(CHUNK), written: HEADER as u64 })
    }

    /// Bytes that have been written, encrypted, those that are held included.
    pub fn size(&self) -> u64 {
        self.written + self.held.len() as u64
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// What writing says.
    pub fn add(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.held.len() == CHUNK {
                self.seal(false)?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - self.held.len()));
            self.held.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Writes out what is held, so that no more than what comes is lost with the process.
    ///
    /// # Errors
    /// What writing says.
    pub fn flush(&mut self) -> io::Result<()> {
        if !self.held.is_empty() {
            self.seal(false)?;
        }
        self.out.flush()
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// What writing says.
    pub fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        let nonce = nonce(self.number, last);
        // So many chunks would be more than there are atoms on earth for.
        self.number = self.number.checked_add(1).ok_or_else(impossible)?;
        self.key
            .seal_in_place_append_tag(nonce, Aad::from(&self.header), &mut self.held)
            .map_err(|_| impossible())?;
        let len = u32::try_from(self.held.len()).map_err(|_| impossible())?;
        self.out.write_all(&[u8::from(last)])?;
        self.out.write_all(&len.to_be_bytes())?;
        self.out.write_all(&self.held)?;
        self.written += 5 + u64::from(len);
        self.held.clear();
        Ok(())
    }
}

/// Reads such a stream.
pub struct Opener<R> {
    from: R,
    key: LessSafeKey,
    header: [u8; HEADER],
    number: u64,
    over: bool,
    chunk: Vec<u8>,
}

impl<R> std::fmt::Debug for Opener<R> {
    /// Holds values: shows where it is.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opener(chunk {})", self.number)
    }
}

impl<R: Read> Opener<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// It is no such stream, or under another key.
    pub fn new(mut from: R, key: &Key) -> Result<Opener<R>, Broken> {
        let mut header = [0; HEADER];
        from.read_exact(&mut header).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => Broken::Foreign,
            _ => Broken::Io(e),
        })?;
        if header[..8] != *MAGIC {
            return Err(Broken::Foreign);
        }
        let prk = key.extract(&header[8..8 + SALT]);
        let expected = check(&prk, &header[..8]).ok_or(Broken::Foreign)?;
        if !bool::from(expected.ct_eq(&header[8 + SALT..])) {
            return Err(Broken::WrongKey);
        }
        let key = sealing(&prk, &header).ok_or(Broken::Foreign)?;
        Ok(Opener { from, key, header, number: 0, over: false, chunk: Vec::new() })
    }

    /// The next bytes; `None` at the end, which has been found to be the end.
    ///
    /// # Errors
    /// It is not as it was written.
    pub fn next_part(&mut self) -> Result<Option<&[u8]>, Broken> {
        if self.over {
            let mut more = [0];
            return match self.from.read(&mut more)? {
                0 => Ok(None),
                _ => Err(Broken::Trailing),
            };
        }
        let mut head = [0; 5];
        self.fill(&mut head)?;
        let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if head[0] > 1 || !(MAX_TAG_LEN..=CHUNK + MAX_TAG_LEN).contains(&len) {
            return Err(Broken::Changed(self.number));
        }
        let mut chunk = std::mem::take(&mut self.chunk);
        chunk.resize(len, 0);
        self.fill(&mut chunk)?;
        let nonce = nonce(self.number, head[0] == 1);
        let plain = self.key.open_in_place(nonce, Aad::from(&self.header), &mut chunk);
        let len = plain.map_err(|_| Broken::Changed(self.number))?.len();
        chunk.truncate(len);
        self.chunk = chunk;
        self.over = head[0] == 1;
        self.number += 1;
        Ok(Some(&self.chunk))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Broken> {
        self.from.read_exact(bytes).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => Broken::Truncated,
            _ => Broken::Io(e),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn key() -> Key {
        Key::new([7; 32])
    }

    fn sealed(parts: &[Vec<u8>]) -> Vec<u8> {
        let mut sealer = Sealer::new(Vec::new(), &key()).unwrap();
        for part in parts {
            sealer.add(part).unwrap();
            sealer.flush().unwrap();
        }
        let len = sealer.size();
        let out = sealer.finish().unwrap();
        assert!(out.len() as u64 >= len);
        out
    }

    fn opened(bytes: &[u8], key: &Key) -> Result<Vec<u8>, Broken> {
        let mut opener = Opener::new(bytes, key)?;
        let mut all = Vec::new();
        while let Some(part) = opener.next_part()? {
            all.extend_from_slice(part);
        }
        Ok(all)
    }

    #[test]
    fn what_was_written_is_read() {
        let long: Vec<u8> = (0..3 * CHUNK + 7).map(|i| (i % 251) as u8).collect();
        let file = sealed(&[b"first".to_vec(), long.clone(), Vec::new()]);
        assert_eq!(opened(&file, &key()).unwrap(), [b"first".as_slice(), &long].concat());
        assert_eq!(opened(&sealed(&[]), &key()).unwrap(), b"");
        assert!(!file.windows(5).any(|w| w == b"first"));
    }

    #[test]
    fn why_it_is_not() {
        let file = sealed(&[vec![1; 100], vec![2; 100]]);
        let fails = |bytes: &[u8], key: &Key| format!("{:?}", opened(bytes, key).unwrap_err());
        assert_eq!(fails(&file, &Key::new([8; 32])), "WrongKey");
        assert_eq!(fails(&file[..10], &key()), "Foreign");
        assert_eq!(fails(&[&b"P"[..], &file[1..]].concat(), &key()), "Foreign");
        assert_eq!(fails(&file[..HEADER], &key()), "Truncated");
        assert_eq!(fails(&[&file[..], b"x"].concat(), &key()), "Trailing");
        // The first chunk twice, chunks in another order, the last one in place of the first.
        let (one, two) = (&file[HEADER..HEADER + 121], &file[HEADER + 121..HEADER + 242]);
        let (head, end) = (&file[..HEADER], &file[HEADER + 242..]);
        assert_eq!(fails(&[head, one, one, two, end].concat(), &key()), "Changed(1)");
        assert_eq!(fails(&[head, two, one, end].concat(), &key()), "Changed(0)");
        assert_eq!(fails(&[head, end].concat(), &key()), "Changed(0)");
        // A chunk of another file under the same key.
        let other = sealed(&[vec![1; 100], vec![2; 100]]);
        assert_eq!(fails(&[head, &other[HEADER..HEADER + 121], two, end].concat(), &key()), "Changed(0)");
        assert!(one != &other[HEADER..HEADER + 121], "the same text is never the same bytes");
    }

    proptest! {
        #[test]
        fn any_cut_is_noticed(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..4),
            at in any::<prop::sample::Index>()) {
            let file = sealed(&parts);
            prop_assert_eq!(opened(&file, &key()).unwrap(), parts.concat());
            prop_assert!(opened(&file[..at.index(file.len())], &key()).is_err());
        }

        #[test]
        fn any_flipped_bit_is_noticed(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..4),
            at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut file = sealed(&parts);
            let at = at.index(file.len());
            file[at] ^= 1u8 << bit;
            prop_assert!(opened(&file, &key()).is_err());
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let file = [sealed(&[]), bytes].concat();
            let _ = opened(&file, &key());
        }
    }
}
