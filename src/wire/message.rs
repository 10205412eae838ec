//! Views of message bodies: the few fields that Turnpike reads, borrowed from the frame. Every length is checked.

use memchr::memchr;

use crate::core::error::SqlState;
use crate::core::limits::FRAME_HEADER;

/// Splits a NUL-terminated string off the front of `bytes`.
#[inline]
pub fn cstr(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr(0, bytes)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// The transaction status of a ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxStatus {
    /// `I`: not in a transaction.
    Idle,
    /// `T`: in a transaction.
    Open,
    /// `E`: in a failed transaction.
    Failed,
}

impl TxStatus {
    /// Reads the body of a ReadyForQuery frame.
    pub fn of(frame: &[u8]) -> Option<TxStatus> {
        match frame.get(FRAME_HEADER..)? {
            b"I" => Some(TxStatus::Idle),
            b"T" => Some(TxStatus::Open),
            b"E" => Some(TxStatus::Failed),
            _ => None,
        }
    }
}

/// The fields of an ErrorResponse or NoticeResponse that are read on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErrorFields<'a> {
    /// `V`, else `S`: the severity, not localised where the server says so.
    pub severity: &'a [u8],
    /// `C`
    pub code: &'a [u8],
    /// `M`
    pub message: &'a [u8],
}

impl<'a> ErrorFields<'a> {
    /// Reads the body of an ErrorResponse; fields that are missing stay empty.
    pub fn of(frame: &'a [u8]) -> ErrorFields<'a> {
        let mut fields = ErrorFields::default();
        let mut rest = frame.get(FRAME_HEADER..).unwrap_or_default();
        while let Some((&kind, body)) = rest.split_first() {
            let Some((value, tail)) = cstr(body) else { break };
            match kind {
                b'V' => fields.severity = value,
                b'S' if fields.severity.is_empty() => fields.severity = value,
                b'C' => fields.code = value,
                b'M' => fields.message = value,
                0 => break,
                _ => {}
            }
            rest = tail;
        }
        fields
    }

    /// Whether the server closes the connection after this.
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity, b"FATAL" | b"PANIC")
    }

    /// The SQLSTATE; `XX000` where the server sent none.
    pub fn sqlstate(&self) -> SqlState {
        <[u8; 5]>::try_from(self.code).map_or(SqlState::INTERNAL, SqlState)
    }

    /// The message as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.message).into_owned()
    }
}

/// Reads a ParameterStatus: name and value.
pub fn parameter_status(frame: &[u8]) -> Option<(&str, &str)> {
    let (name, rest) = cstr(frame.get(FRAME_HEADER..)?)?;
    let (value, _) = cstr(rest)?;
    Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
}

/// The columns of a DataRow; `None` for NULL.
pub fn data_row(frame: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    let (count, mut rest) = frame.get(FRAME_HEADER..)?.split_first_chunk::<2>()?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (len, tail) = rest.split_first_chunk::<4>()?;
        match usize::try_from(i32::from_be_bytes(*len)) {
            Ok(len) => {
                columns.push(Some(tail.get(..len)?));
                rest = &tail[len..];
            }
            Err(_) => {
                columns.push(None);
                rest = tail;
            }
        }
    }
    Some(columns)
}

/// The tag of a CommandComplete: all of its body.
#[inline]
pub fn command_tag(frame: &[u8]) -> &[u8] {
    frame.get(FRAME_HEADER..).and_then(|body| body.strip_suffix(b"\0")).unwrap_or_default()
}

/// The number that a tag ends with: rows; 0 where there is none.
#[inline]
pub fn tag_rows(tag: &[u8]) -> u64 {
    let digits = tag.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let value = |n: u64, b: &u8| n.wrapping_mul(10).wrapping_add(u64::from(b - b'0'));
    tag[tag.len() - digits..].iter().fold(0, value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn error_fields() {
        let frame = b"E\0\0\0\0SFEHLER\0VERROR\0C42601\0Moops\0\0";
        let fields = ErrorFields::of(frame);
        assert_eq!(
            (fields.severity, fields.code, fields.message),
            (&b"ERROR"[..], &b"42601"[..], &b"oops"[..])
        );
        assert!(!fields.is_fatal());
        assert_eq!(ErrorFields::of(b"E\0\0\0\x05\0").sqlstate().as_str(), "XX000");
        assert_eq!(ErrorFields::of(b"E\0\0\0\x09Cabc").code, b"");
        assert!(ErrorFields::of(b"E\0\0\0\0SFATAL\0\0").is_fatal());
    }

    #[test]
    fn small_bodies() {
        assert_eq!(TxStatus::of(b"Z\0\0\0\x05T"), Some(TxStatus::Open));
        assert_eq!(TxStatus::of(b"Z\0\0\0\x05x"), None);
        assert_eq!(parameter_status(b"S\0\0\0\0a\0b\0"), Some(("a", "b")));
        assert_eq!(parameter_status(b"S\0\0\0\0a\0b"), None);
        assert_eq!(command_tag(b"C\0\0\0\0SELECT 1\0"), b"SELECT 1");
        assert_eq!(command_tag(b"C\0\0\0\0SELECT 1"), b"");
        let rows = [&b"SELECT 1"[..], b"INSERT 0 250", b"BEGIN", b"", b"7"].map(tag_rows);
        assert_eq!(rows, [1, 250, 0, 0, 7]);
        let row = b"D\0\0\0\0\0\x02\0\0\0\x01x\xff\xff\xff\xff";
        assert_eq!(data_row(row), Some(vec![Some(&b"x"[..]), None]));
        assert_eq!(data_row(&row[..12]), None);
    }
}
