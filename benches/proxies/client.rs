//! A light client: logs in with SCRAM, sends ready-made statements, reads to ReadyForQuery.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::Failure;
use crate::bed::{NAME, PASSWORD};

/// Where to log in, and whether with TLS.
#[derive(Clone, Debug)]
pub struct Door {
    /// Port on loopback.
    pub port: u16,
    /// TLS, and with what.
    pub tls: Option<Arc<ClientConfig>>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One connection, logged in.
pub struct Client {
    stream: Box<dyn Stream>,
    incoming: BytesMut,
}

impl Client {
    /// Connects and logs in.
    pub async fn login(door: &Door) -> Result<Self, Failure> {
        Self::login_to(door, NAME, "").await
    }

    /// The same, to any database and with options for the session.
    pub async fn login_to(door: &Door, database: &str, options: &str) -> Result<Self, Failure> {
        let mut client = Client { stream: connect(door).await?, incoming: BytesMut::new() };
        let mut out = BytesMut::new();
        let asked = [("user", NAME), ("database", database), ("client_encoding", "UTF8")];
        let options = (!options.is_empty()).then_some(("options", options));
        frontend::startup_message(asked.into_iter().chain(options), &mut out)?;
        client.stream.write_all(&out).await?;
        client.authenticate().await?;
        client.until_ready().await?;
        Ok(client)
    }

    async fn authenticate(&mut self) -> Result<(), Failure> {
        let mut scram = ScramSha256::new(PASSWORD.as_bytes(), ChannelBinding::unsupported());
        loop {
            let mut out = BytesMut::new();
            let (kind, mut body) = self.next().await?;
            match (kind, body.try_get_u32().unwrap_or(u32::MAX)) {
                (b'R', 0) => return Ok(()),
                (b'R', 10) => frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut out)?,
                (b'R', 11) => {
                    scram.update(&body)?;
                    frontend::sasl_response(scram.message(), &mut out)?;
                }
                (b'R', 12) => scram.finish(&body)?,
                _ => return Err("was asked for something other than SCRAM".into()),
            }
            self.stream.write_all(&out).await?;
        }
    }

    /// Runs one simple query, given as the whole message, and drops its result.
    pub async fn run(&mut self, message: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(message).await?;
        self.until_ready().await
    }

    /// Runs one simple query and gives its rows, by the names of their columns.
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<BTreeMap<String, String>>, Failure> {
        self.stream.write_all(&query(sql)?).await?;
        let (mut columns, mut rows) = (Vec::new(), Vec::new());
        loop {
            match self.next().await? {
                (b'Z', _) => return Ok(rows),
                (b'T', body) => columns = columns_of(body)?,
                (b'D', body) => rows.push(columns.iter().cloned().zip(values_of(body)?).collect()),
                _ => {}
            }
        }
    }

    async fn until_ready(&mut self) -> Result<(), Failure> {
        while self.next().await?.0 != b'Z' {}
        Ok(())
    }

    /// The next message: its type and body. An ErrorResponse is a failure.
    async fn next(&mut self) -> Result<(u8, BytesMut), Failure> {
        loop {
            if let Some((kind, body)) = take_message(&mut self.incoming) {
                return if kind == b'E' { Err(text_of(&body).into()) } else { Ok((kind, body)) };
            }
            if self.stream.read_buf(&mut self.incoming).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}

/// Takes one whole message off the front.
fn take_message(incoming: &mut BytesMut) -> Option<(u8, BytesMut)> {
    let length = incoming.get(1..5)?.try_into().map(u32::from_be_bytes).ok()? as usize;
    if incoming.len() <= length {
        return None;
    }
    let mut message = incoming.split_to(1 + length);
    let kind = message.get_u8();
    message.advance(4);
    Some((kind, message))
}

/// The names in a RowDescription.
fn columns_of(mut body: BytesMut) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for _ in 0..body.try_get_u16()? {
        let end = body.iter().position(|byte| *byte == 0).ok_or("a column without a name")?;
        names.push(String::from_utf8_lossy(&body.split_to(end)).into_owned());
        // The byte that ends it, and what there is to know about the column's type.
        body.advance(1 + 18);
    }
    Ok(names)
}

/// The values in a DataRow; NULL is empty.
fn values_of(mut body: BytesMut) -> Result<Vec<String>, Failure> {
    let mut values = Vec::new();
    for _ in 0..body.try_get_u16()? {
        let length = usize::try_from(body.try_get_i32()?).unwrap_or(0);
        values.push(String::from_utf8_lossy(&body.split_to(length)).into_owned());
    }
    Ok(values)
}

/// The message of a simple query.
pub fn query(sql: &str) -> Result<BytesMut, Failure> {
    let mut out = BytesMut::with_capacity(sql.len() + 6);
    frontend::query(sql, &mut out)?;
    Ok(out)
}

async fn connect(door: &Door) -> Result<Box<dyn Stream>, Failure> {
    let mut tcp = TcpStream::connect(("127.0.0.1", door.port)).await?;
    tcp.set_nodelay(true)?;
    let Some(config) = &door.tls else { return Ok(Box::new(tcp)) };
    let mut out = BytesMut::new();
    frontend::ssl_request(&mut out);
    tcp.write_all(&out).await?;
    if tcp.read_u8().await? != b'S' {
        return Err("TLS was refused".into());
    }
    let name = ServerName::try_from("localhost")?;
    Ok(Box::new(TlsConnector::from(config.clone()).connect(name, tcp).await?))
}

/// The message in an ErrorResponse.
fn text_of(body: &[u8]) -> String {
    let message = body.split(|&byte| byte == 0).find_map(|field| field.strip_prefix(b"M"));
    String::from_utf8_lossy(message.unwrap_or(b"an error without a message")).into_owned()
}
