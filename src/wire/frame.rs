//! Framing: type byte, length, body (protocol 3.0, "Message Flow"). Looks at headers only, never copies, does no I/O.

use crate::core::error::{Error, Result};
use crate::core::limits::{FRAME_HEADER, MAX_MESSAGE};

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The message type, as the byte that came.
    pub kind: u8,
    /// Bytes of the whole frame: type, length word and body.
    pub len: usize,
}

/// Most bytes of a message whose type carries no data, as Postgres bounds it (`PQ_SMALL_MESSAGE_LIMIT`).
const SMALL_MESSAGE: usize = 10_000;

/// Reads the header at the start of `buf`; `None` until five bytes are there.
///
/// The length is not believed beyond its sign here: [`client`] and [`server`] bound it.
#[inline]
fn peek(buf: &[u8]) -> Option<(u8, u32)> {
    let head = buf.first_chunk::<FRAME_HEADER>()?;
    Some((head[0], u32::from_be_bytes([head[1], head[2], head[3], head[4]])))
}

/// The header at the start of `buf`, if all of its frame is here and no larger than any may be. What is not is for
/// [`client`] and [`server`] to judge.
#[inline]
pub fn whole(buf: &[u8]) -> Option<Header> {
    let (kind, len) = peek(buf)?;
    let whole = (4..=SMALL_ANSWER).contains(&len) && (len as usize) < buf.len();
    whole.then_some(Header { kind, len: len as usize + 1 })
}

/// Reads the header of a frame from a client, with the checks that Postgres makes (`SocketBackend`).
///
/// # Errors
/// FATAL 08P01 on an unknown type, or a length that is negative, too short, or more than `max` bytes of body.
#[inline]
pub fn client(buf: &[u8], max: usize) -> Result<Option<Header>> {
    let Some((kind, len)) = peek(buf) else {
        // A type that no client may send is told at once: the rest of its header may never come.
        return buf.first().map_or(Ok(None), |&kind| client_limit(kind, max).map(|_| None));
    };
    let len = len as usize;
    // Most are small ones that any type may have.
    if (4..=SMALL_MESSAGE).contains(&len) && len <= max && is_client(kind) {
        return Ok(Some(Header { kind, len: len + 1 }));
    }
    client_large(kind, len, max)
}

/// The same of one that is large, or must not be.
#[cold]
fn client_large(kind: u8, len: usize, max: usize) -> Result<Option<Header>> {
    let limit = client_limit(kind, max)?;
    if len < 4 || len > limit.saturating_add(4) {
        let error = Error::protocol("invalid message length");
        let bounded = len > limit && limit == max && max < MAX_MESSAGE;
        return Err(if bounded {
            error.detail(format!("The limit is {max} bytes (general.max_message_size)."))
        } else {
            error
        });
    }
    Ok(Some(Header { kind, len: len + 1 }))
}

/// Whether a client may send a message of this type.
#[inline]
fn is_client(kind: u8) -> bool {
    matches!(
        kind,
        b'Q' | b'P' | b'B' | b'F' | b'd' | b'p' | b'D' | b'E' | b'C' | b'H' | b'S' | b'X' | b'c' | b'f'
    )
}

fn client_limit(kind: u8, max: usize) -> Result<usize> {
    match kind {
        b'Q' | b'P' | b'B' | b'F' | b'd' | b'p' => Ok(max.min(MAX_MESSAGE)),
        kind if is_client(kind) => Ok(SMALL_MESSAGE.min(max)),
        other => Err(Error::protocol(format!("invalid frontend message type {other}"))),
    }
}

/// Most bytes of an answer whose type carries no data of any length: CopyInResponse has two bytes for each of 65,535
/// columns, and nothing else comes near.
const SMALL_ANSWER: u32 = 256 * 1024;

/// Reads the header of a frame from a server. Large frames are streamed, so those that carry data may be as large as
/// the format allows; of the others a large one means that this is not the protocol, or that we are out of step.
///
/// # Errors
/// 08P01 when the length is negative, shorter than itself, or absurd for the type.
#[inline]
pub fn server(buf: &[u8]) -> Result<Option<Header>> {
    let Some((kind, len)) = peek(buf) else { return Ok(None) };
    let limit = match kind {
        b'D' | b'd' | b'T' | b't' | b'V' | b'E' | b'N' | b'A' | b'S' => i32::MAX as u32,
        _ => SMALL_ANSWER,
    };
    if len < 4 || len > limit {
        return Err(Error::backend(
            crate::core::error::SqlState::PROTOCOL_VIOLATION,
            "backend sent a message of impossible length",
        ));
    }
    Ok(Some(Header { kind, len: len as usize + 1 }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![kind];
        out.extend((body.len() as u32 + 4).to_be_bytes());
        out.extend(body);
        out
    }

    #[test]
    fn headers_of_clients() {
        let check = |bytes: &[u8], want: std::result::Result<Option<(u8, usize)>, &str>| {
            let got = client(bytes, 1 << 20).map(|h| h.map(|h| (h.kind, h.len)));
            match (got, want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want, "{bytes:?}"),
                (Err(e), Err(want)) => {
                    assert!(e.message.contains(want), "{bytes:?}: {e}");
                    assert_eq!(e.code.as_str(), "08P01");
                }
                (got, want) => panic!("{bytes:?}: got {got:?}, want {want:?}"),
            }
        };
        check(b"", Ok(None));
        check(b"Q\0\0", Ok(None));
        check(b"Q\0\0\0\x04", Ok(Some((b'Q', 5))));
        check(b"S\0\0\0\x04", Ok(Some((b'S', 5))));
        check(b"Q\0\0\0\x03", Err("invalid message length"));
        check(b"Q\xff\xff\xff\xff", Err("invalid message length"));
        check(b"Q\x35\xa4\xe9\x00", Err("invalid message length"));
        check(b"S\0\0\x40\0", Err("invalid message length"));
        check(b"\0", Err("invalid frontend message type 0"));
        check(b"Z\0\0\0\x05I", Err("invalid frontend message type 90"));
    }

    #[test]
    fn headers_of_servers() {
        assert_eq!(server(b"Z\0\0\0\x05I").unwrap(), Some(Header { kind: b'Z', len: 6 }));
        assert!(server(b"Z\0\0\0\x03").is_err());
        assert!(server(b"D\x80\0\0\0").is_err());
        assert!(server(b"D\x7f\xff\xff\xff").unwrap().is_some());
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames(
            bodies in prop::collection::vec((prop::sample::select(b"QPBDECHSdcf".to_vec()),
                prop::collection::vec(any::<u8>(), 0..50)), 0..20),
            cut in 1usize..40,
        ) {
            let bytes: Vec<u8> = bodies.iter().flat_map(|(k, b)| frame(*k, b)).collect();
            let mut got = Vec::new();
            let (mut held, mut pos) = (Vec::new(), 0);
            for chunk in bytes.chunks(cut) {
                held.extend_from_slice(chunk);
                while let Some(h) = client(&held[pos..], 1 << 20).unwrap() {
                    if held.len() - pos < h.len { break; }
                    got.push((h.kind, held[pos + 5..pos + h.len].to_vec()));
                    pos += h.len;
                }
            }
            prop_assert_eq!(pos, bytes.len());
            prop_assert_eq!(got, bodies);
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = client(&bytes, 1 << 20);
            let judged = server(&bytes);
            if let Some(header) = whole(&bytes) {
                prop_assert_eq!(judged.unwrap(), Some(header));
                prop_assert!(header.len <= bytes.len());
            }
        }
    }
}
