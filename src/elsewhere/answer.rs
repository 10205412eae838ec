//! What a simple Query is answered with, frame by frame.

use crate::core::error::{Error, SqlState};
use crate::pool::connect::server_error;
use crate::wire::message::data_row;

/// Values of one row, as texts.
pub(super) type Row = Vec<Option<String>>;

/// The answer so far.
#[derive(Default)]
pub(super) struct Answer(Vec<Row>);

impl Answer {
    /// Reads the next frame; the rows, when that was the last one.
    ///
    /// # Errors
    /// The server's own, or a row that is none.
    pub(super) fn read(&mut self, frame: &[u8]) -> Result<Option<Vec<Row>>, Error> {
        match frame.first() {
            Some(b'D') => {
                let wrong =
                    || Error::backend(SqlState::PROTOCOL_VIOLATION, "backend sent a row that is none");
                let columns = data_row(frame).ok_or_else(wrong)?;
                let text = |value: Option<&[u8]>| value.map(|v| String::from_utf8_lossy(v).into_owned());
                self.0.push(columns.into_iter().map(text).collect());
            }
            Some(b'E') => return Err(server_error(frame)),
            Some(b'Z') => return Ok(Some(std::mem::take(&mut self.0))),
            _ => {}
        }
        Ok(None)
    }
}

/// A value of a row.
pub(super) fn field(row: &Row, at: usize) -> Option<&str> {
    row.get(at).and_then(Option::as_deref)
}

/// The same as a number, or whatever it is.
pub(super) fn read<T: std::str::FromStr>(row: &Row, at: usize) -> Option<T> {
    field(row, at)?.parse().ok()
}
