//! A connection of our own to a server, frame by frame. A frame that nobody holds whole is cut off.

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Desk;
use super::answer::{Answer, Row};
use crate::core::error::Error;
use crate::core::limits::MAX_DECODED;
use crate::pool::connect;
use crate::wire::stream::Stream;
use crate::wire::{frame, reply};

/// Bytes of a frame too large to be held that are: the names in it come first.
const HEAD: usize = 1024;

/// See the module.
pub(super) struct Line<'a> {
    desk: &'a Desk<'a>,
    stream: Stream,
    read: BytesMut,
    /// Bytes that are still to come of what was cut off.
    skip: usize,
}

impl<'a> Line<'a> {
    /// Logs in, with these parameters beside user and database, and reads up to ReadyForQuery.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub(super) async fn open(desk: &'a Desk<'a>, params: &[(&str, &str)]) -> Result<Line<'a>, Error> {
        let login = &desk.login;
        let own = [("user", login.user.as_str()), ("database", desk.place.dbname.as_str())];
        let params = [&own, params].concat();
        let stream = connect::login(&desk.target, &params, &login.user, &login.credential).await?;
        let mut line = Line { desk, stream, read: BytesMut::new(), skip: 0 };
        line.answer().await?;
        Ok(line)
    }

    /// The next frame. Nothing is lost where this is not waited for.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn next(&mut self) -> Result<Bytes, Error> {
        loop {
            let gone = self.skip.min(self.read.len());
            self.read.advance(gone);
            self.skip -= gone;
            if self.skip == 0
                && let Some(header) = frame::server(&self.read)?
            {
                if header.len <= self.read.len() {
                    return Ok(self.read.split_to(header.len).freeze());
                }
                if header.len > MAX_DECODED && self.read.len() >= HEAD {
                    self.skip = header.len - HEAD;
                    return Ok(self.read.split_to(HEAD).freeze());
                }
            }
            let read = self.stream.read_buf(&mut self.read).await;
            let closed = || std::io::ErrorKind::UnexpectedEof.into();
            let read = read.and_then(|n| if n == 0 { Err(closed()) } else { Ok(n) });
            read.map_err(|e| connect::lost(&self.desk.target, &e))?;
        }
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|e| connect::lost(&self.desk.target, &e))
    }

    /// Sends a simple Query.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn query(&mut self, sql: &str) -> Result<(), Error> {
        let mut bytes = Vec::new();
        reply::query(&mut bytes, sql);
        self.send(&bytes).await
    }

    /// Reads up to ReadyForQuery.
    ///
    /// # Errors
    /// The connection is lost, or the server refuses.
    pub(super) async fn answer(&mut self) -> Result<Vec<Row>, Error> {
        let mut answer = Answer::default();
        loop {
            if let Some(rows) = answer.read(&self.next().await?)? {
                return Ok(rows);
            }
        }
    }

    /// Asks, and waits for all that is answered.
    ///
    /// # Errors
    /// The connection is lost, or the server refuses.
    pub(super) async fn ask(&mut self, sql: &str) -> Result<Vec<Row>, Error> {
        self.query(sql).await?;
        self.answer().await
    }
}
