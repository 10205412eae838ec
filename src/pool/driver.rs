//! A tokio-postgres client over a connection that we have opened: for what Turnpike itself asks of Postgres, logged in
//! as pools log in, whatever they prove themselves with.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;

use super::connect::{self, Credential, Target};
use super::pool::Pool;
use crate::config::User;
use crate::core::error::{Error, Result, SqlState};
use crate::wire::stream::Stream;

/// Who logs in on a backend, and what with.
#[derive(Clone, Debug)]
pub struct Login {
    /// User on the backend.
    pub user: String,
    /// How it proves who it is.
    pub credential: Credential,
}

impl Login {
    /// A user of the configuration.
    pub fn of(user: &User) -> Login {
        Login { user: user.name.clone(), credential: Credential::of(Some(&user.secret)) }
    }
}

/// A client and the task that drives its connection, which is cut off when this is dropped: also where the server does
/// not answer any more, and waiting for it would keep task and socket for ever.
#[derive(Debug)]
pub struct Kept {
    /// For questions.
    pub client: tokio_postgres::Client,
    task: JoinHandle<()>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Opens a connection to `pool`'s database under this application name: as `login`, or else as the pool does. The client
/// works for as long as the task that drives its connection, which ends with the client.
///
/// # Errors
/// The server cannot be reached, or refuses.
pub async fn client(
    pool: &Pool,
    login: Option<Login>,
    application_name: &str,
) -> Result<tokio_postgres::Client> {
    let purpose = &pool.purpose;
    let own = || Login { user: purpose.server_user.clone(), credential: pool.credential.lock().clone() };
    let login = login.unwrap_or_else(own);
    // The task goes on by itself.
    open(&pool.target, &login, &purpose.dbname, application_name).await.map(|(client, _)| client)
}

/// Opens a connection to be kept.
///
/// # Errors
/// The server cannot be reached, or refuses.
pub async fn kept(target: &Target, login: &Login, dbname: &str, application_name: &str) -> Result<Kept> {
    open(target, login, dbname, application_name).await.map(|(client, task)| Kept { client, task })
}

async fn open(
    target: &Target,
    login: &Login,
    dbname: &str,
    application_name: &str,
) -> Result<(tokio_postgres::Client, JoinHandle<()>)> {
    let params = [
        ("user", login.user.as_str()),
        ("database", dbname),
        ("application_name", application_name),
        ("client_encoding", "UTF8"),
    ];
    let stream = connect::login(target, &params, &login.user, &login.credential).await?;
    let mut config = tokio_postgres::Config::new();
    config.user(&login.user);
    let (client, connection) = config.connect_raw(Known::new(stream), NoTls).await.map_err(said)?;
    // What it has to say about its end, the client's next question says, too.
    Ok((client, tokio::spawn(async move { drop(connection.await) })))
}

/// What a server has said, or that it could not be asked.
pub fn said(e: tokio_postgres::Error) -> Error {
    match e.as_db_error() {
        Some(e) => Error::backend(SqlState::from_text(e.code().code()), e.message().to_string()),
        None => Error::backend(SqlState::CANNOT_CONNECT, e.to_string()),
    }
}

/// A stream on which the server has let us in: the startup packet that is written to it goes nowhere, and the first
/// thing read from it is AuthenticationOk.
struct Known {
    stream: Stream,
    /// Bytes still to be read before the stream's own.
    ahead: &'static [u8],
    /// The head of the startup packet so far, then what is to come of the packet.
    head: Vec<u8>,
    skip: Option<usize>,
}

const AUTHENTICATION_OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";

impl Known {
    fn new(stream: Stream) -> Known {
        Known { stream, ahead: AUTHENTICATION_OK, head: Vec::new(), skip: None }
    }

    /// How many of these bytes belong to the startup packet.
    fn startup(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while self.skip.is_none() && taken < bytes.len() {
            self.head.push(bytes[taken]);
            taken += 1;
            if let Ok(length) = <[u8; 4]>::try_from(self.head.as_slice()) {
                self.skip = Some((u32::from_be_bytes(length) as usize).saturating_sub(4));
            }
        }
        let rest = self.skip.unwrap_or_default().min(bytes.len() - taken);
        self.skip = self.skip.map(|skip| skip - rest);
        taken + rest
    }
}

impl AsyncRead for Known {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let n = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..n]);
        self.ahead = &self.ahead[n..];
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Known {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.startup(bytes) {
            0 => Pin::new(&mut self.stream).poll_write(cx, bytes),
            taken => Poll::Ready(Ok(taken)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
