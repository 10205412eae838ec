//! Messages that Turnpike authors: replies to clients, and the few requests that it sends to servers of its own.

use super::message::TxStatus;
use crate::core::error::Error;

/// Appends a frame whose body `fill` writes.
pub fn frame(out: &mut Vec<u8>, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    fill(out);
    let len = u32::try_from(out.len() - at).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&len.to_be_bytes());
}

fn text(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(value);
    out.push(0);
}

/// Flush.
pub const FLUSH: &[u8] = b"H\0\0\0\x04";

/// AuthenticationOk.
pub const AUTH_OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";
/// ParseComplete.
pub const PARSE_COMPLETE: &[u8] = b"1\0\0\0\x04";
/// BindComplete.
pub const BIND_COMPLETE: &[u8] = b"2\0\0\0\x04";
/// CloseComplete.
pub const CLOSE_COMPLETE: &[u8] = b"3\0\0\0\x04";
/// PortalSuspended.
pub const PORTAL_SUSPENDED: &[u8] = b"s\0\0\0\x04";
/// ReadyForQuery outside a transaction.
pub const READY_IDLE: &[u8] = b"Z\0\0\0\x05I";
/// Sync.
pub const SYNC: &[u8] = b"S\0\0\0\x04";
/// Terminate.
pub const TERMINATE: &[u8] = b"X\0\0\0\x04";
/// Drops the unnamed prepared statement.
pub const CLOSE_UNNAMED: &[u8] = b"C\0\0\0\x06S\0";
/// Drops the unnamed portal.
pub const CLOSE_UNNAMED_PORTAL: &[u8] = b"C\0\0\0\x06P\0";

/// Bind of the unnamed statement without parameters to the unnamed portal, and Execute of that.
pub const BIND_AND_EXECUTE: &[u8] = b"B\0\0\0\x0c\0\0\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\0";

/// Appends an ErrorResponse (protocol 3.0, "Error and Notice Message Fields").
pub fn error(out: &mut Vec<u8>, e: &Error) {
    error_or_notice(out, b'E', e.severity.as_str(), e);
}

/// Appends a NoticeResponse of this severity.
pub fn notice(out: &mut Vec<u8>, severity: &str, e: &Error) {
    error_or_notice(out, b'N', severity, e);
}

/// Appends a CommandComplete.
pub fn command_complete(out: &mut Vec<u8>, tag: &str) {
    frame(out, b'C', |out| text(out, tag.as_bytes()));
}

/// Appends a ReadyForQuery.
pub fn ready(out: &mut Vec<u8>, status: TxStatus) {
    out.extend_from_slice(match status {
        TxStatus::Idle => READY_IDLE,
        TxStatus::Open => b"Z\0\0\0\x05T",
        TxStatus::Failed => b"Z\0\0\0\x05E",
    });
}

/// Appends a RowDescription of one column of text or JSON, with the format code that the client wants.
pub fn one_column(out: &mut Vec<u8>, name: &str, json: bool, format: i16) {
    frame(out, b'T', |out| {
        out.extend_from_slice(&1i16.to_be_bytes());
        text(out, name.as_bytes());
        // Of no table.
        out.extend_from_slice(&[0; 6]);
        let kind: i32 = if json { 114 } else { 25 };
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&(-1i16).to_be_bytes());
        out.extend_from_slice(&(-1i32).to_be_bytes());
        out.extend_from_slice(&format.to_be_bytes());
    });
}

/// Appends a DataRow of one text; text and JSON are the same bytes in either format.
pub fn one_value(out: &mut Vec<u8>, value: &[u8]) {
    frame(out, b'D', |out| {
        out.extend_from_slice(&1i16.to_be_bytes());
        out.extend_from_slice(&i32::try_from(value.len()).unwrap_or(i32::MAX).to_be_bytes());
        out.extend_from_slice(value);
    });
}

fn error_or_notice(out: &mut Vec<u8>, kind: u8, severity: &str, e: &Error) {
    frame(out, kind, |out| {
        let mut field = |tag: u8, value: &str| {
            out.push(tag);
            // A NUL inside would end the field early.
            out.extend(value.bytes().filter(|&b| b != 0));
            out.push(0);
        };
        field(b'S', severity);
        field(b'V', severity);
        field(b'C', e.code.as_str());
        field(b'M', &e.message);
        if let Some(detail) = &e.detail {
            field(b'D', detail);
        }
        if let Some(hint) = &e.hint {
            field(b'H', hint);
        }
        out.push(0);
    });
}

/// Appends a ParameterStatus.
pub fn parameter_status(out: &mut Vec<u8>, name: &str, value: &str) {
    frame(out, b'S', |out| {
        text(out, name.as_bytes());
        text(out, value.as_bytes());
    });
}

/// Appends BackendKeyData: a process id and a secret of 4 bytes (3.0) or up to 256 (3.2).
pub fn backend_key_data(out: &mut Vec<u8>, pid: i32, key: &[u8]) {
    frame(out, b'K', |out| {
        out.extend_from_slice(&pid.to_be_bytes());
        out.extend_from_slice(key);
    });
}

/// Appends an authentication request: its code and data.
pub fn authentication(out: &mut Vec<u8>, code: i32, data: &[u8]) {
    frame(out, b'R', |out| {
        out.extend_from_slice(&code.to_be_bytes());
        out.extend_from_slice(data);
    });
}

/// Appends a password-type message (`p`): PasswordMessage or SASLResponse.
pub fn password(out: &mut Vec<u8>, body: &[u8]) {
    frame(out, b'p', |out| out.extend_from_slice(body));
}

/// Appends a SASLInitialResponse.
pub fn sasl_initial(out: &mut Vec<u8>, mechanism: &str, data: &[u8]) {
    frame(out, b'p', |out| {
        text(out, mechanism.as_bytes());
        out.extend_from_slice(&i32::try_from(data.len()).unwrap_or(i32::MAX).to_be_bytes());
        out.extend_from_slice(data);
    });
}

/// Appends a simple Query.
pub fn query(out: &mut Vec<u8>, sql: &str) {
    query_bytes(out, sql.as_bytes());
}

/// Appends a simple Query in the client's own encoding.
pub fn query_bytes(out: &mut Vec<u8>, sql: &[u8]) {
    frame(out, b'Q', |out| text(out, sql));
}

/// Appends a CopyFail.
pub fn copy_fail(out: &mut Vec<u8>, reason: &str) {
    frame(out, b'f', |out| text(out, reason.as_bytes()));
}

/// Appends a Parse of `rest` (statement text, NUL, parameter types) under `name`.
pub fn parse(out: &mut Vec<u8>, name: &[u8], rest: &[u8]) {
    frame(out, b'P', |out| {
        text(out, name);
        out.extend_from_slice(rest);
    });
}

/// Appends a Bind that must fail: of a statement that nobody has.
pub fn bind_nothing(out: &mut Vec<u8>) {
    frame(out, b'B', |out| out.extend_from_slice(b"\0__turnpike_no_statement\0\0\0\0\0\0\0"));
}

/// Appends a Describe of the prepared statement `name`.
pub fn describe_statement(out: &mut Vec<u8>, name: &[u8]) {
    frame(out, b'D', |out| {
        out.push(b'S');
        text(out, name);
    });
}

/// Appends a Close of the prepared statement `name`.
pub fn close_statement(out: &mut Vec<u8>, name: &[u8]) {
    frame(out, b'C', |out| {
        out.push(b'S');
        text(out, name);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::error::SqlState;
    use crate::wire::{frame, message::ErrorFields};

    #[test]
    fn an_error_reads_back() {
        let e = Error::fatal(SqlState::INVALID_PASSWORD, "no\0pe").hint("try again");
        let mut out = Vec::new();
        error(&mut out, &e);
        let header = frame::server(&out).ok().flatten().map(|h| h.len);
        assert_eq!(header, Some(out.len()));
        let fields = ErrorFields::of(&out);
        assert_eq!(
            (fields.severity, fields.code, fields.message),
            (&b"FATAL"[..], &b"28P01"[..], &b"nope"[..])
        );
    }

    #[test]
    fn lengths_are_right() {
        let mut out = Vec::new();
        parse(&mut out, b"s1", b"SELECT 1\0\0\0");
        assert_eq!(out, b"P\0\0\0\x12s1\0SELECT 1\0\0\0");
        out.clear();
        close_statement(&mut out, b"");
        assert_eq!(out, CLOSE_UNNAMED);
    }
}
