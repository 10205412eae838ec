//! A connection to a server that traffic is rehearsed on.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::answers::{Answers, Event};
use crate::core::error::{Error, Result, SqlState};
use crate::pool::connect::{self, Target};
use crate::pool::driver::Login;
use crate::wire::message::TxStatus;
use crate::wire::reply;
use crate::wire::stream::Stream;
use crate::wire::summary::{Key, Outcome};

/// What servers call our connections.
pub const APPLICATION: &str = "turnpike mirror";
/// Bytes that are read at once.
const READ: usize = 16 * 1024;

/// Where to, and as whom.
#[derive(Clone, Debug)]
pub struct Address {
    /// Who logs in.
    pub login: Login,
    /// The database.
    pub dbname: String,
    /// Longest time to open a connection.
    pub connect_timeout: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Link {
    from: ReadHalf<Stream>,
    to: WriteHalf<Stream>,
    read: Vec<u8>,
    start: usize,
    /// The transaction's status, as last heard.
    pub status: TxStatus,
}

impl Link {
    /// Opens one.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub async fn open(target: &Target, address: &Address) -> Result<Link> {
        let Address { login, dbname, connect_timeout } = address;
        let params =
            [("user", login.user.as_str()), ("database", dbname.as_str()), ("application_name", APPLICATION)];
        let opened = async {
            let stream = connect::login(target, &params, &login.user, &login.credential).await?;
            let (from, to) = tokio::io::split(stream);
            let read = Vec::with_capacity(READ);
            let mut link = Link { from, to, read, start: 0, status: TxStatus::Idle };
            // The greeting ends like an answer.
            let mut answers = Answers::new((0, 0));
            loop {
                match link.event(&mut answers).await? {
                    Event::Ready(_) => return Ok(link),
                    Event::Ended(Outcome { code: Some(code), .. }) => {
                        return Err(Error::backend(code, "the server refuses the connection"));
                    }
                    _ => {}
                }
            }
        };
        let late =
            || Error::backend(SqlState::CANNOT_CONNECT, format!("no connection within {connect_timeout:?}"));
        tokio::time::timeout(*connect_timeout, opened).await.map_err(|_| late())?
    }

    /// The next thing that the server says. Nothing is lost where this is not waited for to its end.
    async fn event(&mut self, answers: &mut Answers) -> Result<Event> {
        loop {
            let (taken, event) = answers.next(&self.read[self.start..])?;
            self.start += taken;
            if let Some(event) = event {
                if let Event::Ready(status) = event {
                    self.status = status;
                }
                return Ok(event);
            }
            if taken == 0 {
                self.read.drain(..self.start);
                self.start = 0;
                let room = READ.saturating_sub(self.read.len()).max(1);
                let read = (&mut self.from).take(room as u64).read_buf(&mut self.read).await;
                if read.map_err(|e| lost(&e))? == 0 {
                    return Err(closed());
                }
            }
        }
    }

    /// Writes what it can of `out`, or hears what the server says: each might wait for the other with all buffers full.
    async fn write_or_hear(&mut self, out: &mut &[u8], answers: &mut Answers) -> Result<Option<Event>> {
        if out.is_empty() {
            return self.event(answers).await.map(Some);
        }
        let Link { from, to, read, start, .. } = self;
        let has_more = *start < read.len();
        let heard =
            async { if has_more { Ok(()) } else { from.take(READ as u64).read_buf(read).await.map(drop) } };
        tokio::select! {
            written = to.write(out) => {
                let written = written.map_err(|e| lost(&e))?;
                *out = out.get(written..).filter(|_| written > 0).ok_or_else(closed)?;
                if out.is_empty() {
                    to.flush().await.map_err(|e| lost(&e))?;
                }
                return Ok(None);
            }
            heard = heard => heard.map_err(|e| lost(&e))?,
        }
        if self.start == self.read.len() {
            return Err(closed());
        }
        let (taken, event) = answers.next(&self.read[self.start..])?;
        self.start += taken;
        match event {
            None if taken == 0 => self.event(answers).await.map(Some),
            None => Ok(None),
            Some(event) => {
                if let Event::Ready(status) = event {
                    self.status = status;
                }
                Ok(Some(event))
            }
        }
    }

    /// Sends `head`, and where the server then waits for COPY data, `tail`; gives how its statements ended, up to
    /// ReadyForQuery.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn ask(&mut self, head: &[u8], tail: &[u8], key: Key) -> Result<Vec<Outcome>> {
        let synced = matches!(last_kind(head), Some(b'Q' | b'F' | b'S'));
        let (mut out, mut then) = (head, if synced { &b""[..] } else { reply::FLUSH });
        let mut owes_sync = !synced;
        let (mut answers, mut ended) = (Answers::new(key), Vec::new());
        loop {
            if out.is_empty() {
                (out, then) = (then, b"");
            }
            match self.write_or_hear(&mut out, &mut answers).await? {
                None => {}
                Some(Event::Ready(_)) => return Ok(ended),
                Some(Event::CopyIn) => (then, owes_sync) = (tail, false),
                Some(Event::Ended(outcome)) => {
                    ended.push(outcome);
                    if std::mem::take(&mut owes_sync) {
                        then = reply::SYNC;
                    }
                }
            }
        }
    }
}

/// The kind of the last message.
fn last_kind(mut messages: &[u8]) -> Option<u8> {
    let mut last = None;
    while let Some((kind, _, rest)) = split(messages) {
        (last, messages) = (Some(kind), rest);
    }
    last
}

/// The first of some messages: its kind, its body, and the others.
pub fn split(messages: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (kind, rest) = messages.split_first()?;
    let len = u32::from_be_bytes(*rest.first_chunk()?) as usize;
    Some((*kind, rest.get(4..len)?, rest.get(len..)?))
}

fn closed() -> Error {
    Error::backend(SqlState::CONNECTION_FAILURE, "the server closed the connection")
}

fn lost(e: &std::io::Error) -> Error {
    Error::backend(SqlState::CONNECTION_FAILURE, format!("connection lost: {e}"))
}
