//! Asks a server a report's query: on a connection of its own, in a transaction that may only read, within its time.
//!
//! By the protocol itself rather than a driver, for three reasons: values go as text and as parameters, so that Postgres
//! alone reads them; results come as text, as psql shows them; and whether an error was made by reading the values (Bind)
//! or by running the query tells whose it is, and whether its words may have data in them.

use std::fmt;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::config::Report;
use crate::core::limits::FRAME_HEADER;
use crate::pool::connect::{self, Target};
use crate::pool::driver::Login;
use crate::wire::message::{ErrorFields, cstr, data_row};
use crate::wire::stream::Stream;
use crate::wire::{frame, reply};

/// What servers call our connections.
pub const APPLICATION: &str = "turnpike report";
/// Bytes that are read at once.
const READ: usize = 32 * 1024;
/// Time beyond the limit after which a server is given up that does not end the query.
pub const GRACE: Duration = Duration::from_millis(500);

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A value is not what its parameter asks for, in Postgres' words.
    Value(String),
    /// It took too long.
    Time,
    /// It is larger than it may be; which bound.
    Large(&'static str),
    /// This server cannot be asked now; another one may.
    Server(String),
    /// The query is wrong.
    Query(String),
}

impl fmt::Display for Fault {
    /// For whoever looks after it: of a query that is wrong, in Postgres' words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Value(text) | Fault::Server(text) | Fault::Query(text) => f.write_str(text),
            Fault::Time => f.write_str("it took too long"),
            Fault::Large(bound) => write!(f, "it is larger than {bound}"),
        }
    }
}

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// `pg_type.oid` of its type.
    pub oid: u32,
}

/// Takes a result in, row by row.
pub trait Sink {
    /// The columns, before any row.
    fn columns(&mut self, columns: Vec<Column>);
    /// A row. False where there is no room for it.
    fn row(&mut self, values: &[Option<&[u8]>]) -> Result<(), Fault>;
}

/// Where and as whom.
#[derive(Debug)]
pub struct Place<'a> {
    /// The server.
    pub target: &'a Target,
    /// Who asks.
    pub login: &'a Login,
    /// The database's name there.
    pub dbname: &'a str,
}

/// Asks. What it did wrong ends with the connection.
///
/// # Errors
/// Why there is no result; what the sink has taken of it is none.
pub async fn ask(
    place: &Place<'_>,
    report: &Report,
    values: &[Option<String>],
    sink: &mut impl Sink,
) -> Result<(), Fault> {
    let Place { target, login, dbname } = place;
    let params = [
        ("user", login.user.as_str()),
        ("database", dbname),
        ("application_name", APPLICATION),
        ("client_encoding", "UTF8"),
    ];
    let opened = connect::login(target, &params, &login.user, &login.credential);
    let stream = tokio::time::timeout(report.timeout, opened).await.map_err(|_| Fault::Time)?;
    let stream = stream.map_err(|e| Fault::Server(format!("{} ({})", e.message, e.code)))?;
    let mut link = Link { stream, held: Vec::with_capacity(READ), at: 0 };
    let limit = report.timeout + GRACE;
    tokio::time::timeout(limit, link.run(report, values, sink)).await.map_err(|_| Fault::Time)?
}

struct Link {
    stream: Stream,
    held: Vec<u8>,
    at: usize,
}

fn lost(e: &std::io::Error) -> Fault {
    Fault::Server(format!("connection lost: {e}"))
}

impl Link {
    async fn run(
        &mut self,
        report: &Report,
        values: &[Option<String>],
        sink: &mut impl Sink,
    ) -> Result<(), Fault> {
        // The greeting.
        self.until_ready(|_, frame| refused(frame)).await?;
        self.stream.write_all(&requests(report, values)).await.map_err(|e| lost(&e))?;
        self.stream.flush().await.map_err(|e| lost(&e))?;
        self.until_ready(|_, frame| refused(frame)).await?;
        let mut bound = false;
        self.until_ready(|kind, frame| {
            match kind {
                b'2' => bound = true,
                b'T' => sink.columns(columns(frame).ok_or_else(nonsense)?),
                b'D' => sink.row(&data_row(frame).ok_or_else(nonsense)?)?,
                b'E' => return Err(failed(frame, bound)),
                b'G' | b'H' | b'W' => return Err(Fault::Query("it is a COPY".into())),
                _ => {}
            }
            Ok(())
        })
        .await
    }

    /// Hears the server up to ReadyForQuery.
    async fn until_ready(
        &mut self,
        mut each: impl FnMut(u8, &[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        loop {
            while let Some(header) = frame::server(&self.held[self.at..]).map_err(|_| nonsense())?
                && let Some(frame) = self.held.get(self.at..self.at + header.len)
            {
                each(header.kind, frame)?;
                self.at += header.len;
                if header.kind == b'Z' {
                    return Ok(());
                }
            }
            self.held.drain(..self.at);
            self.at = 0;
            self.held.reserve(READ);
            if self.stream.read_buf(&mut self.held).await.map_err(|e| lost(&e))? == 0 {
                return Err(Fault::Server("the server closed the connection".into()));
            }
        }
    }
}

fn nonsense() -> Fault {
    Fault::Server("the server's answer makes no sense".into())
}

/// An error where there should be none: the server's, or the role's.
fn refused(frame: &[u8]) -> Result<(), Fault> {
    if frame.first() != Some(&b'E') {
        return Ok(());
    }
    let fields = ErrorFields::of(frame);
    Err(Fault::Server(format!("{} ({})", fields.text(), fields.sqlstate())))
}

/// What an error of the query means. While values are read it can only be about them; later its words may have data in
/// them, which is not for whoever asks.
fn failed(frame: &[u8], bound: bool) -> Fault {
    let fields = ErrorFields::of(frame);
    let code = fields.sqlstate();
    let text = || format!("{} ({code})", fields.text());
    match code.as_str() {
        c if c.starts_with("22") && !bound => Fault::Value(text()),
        c if c.starts_with("22") => Fault::Value(format!("the values do not suit the query ({code})")),
        "57014" => Fault::Time,
        // Servers that go down or are not there yet, conflicts with recovery.
        c if c.starts_with("57P") || c.starts_with("08") || c.starts_with("53") || c == "40001" => {
            Fault::Server(text())
        }
        _ => Fault::Query(text()),
    }
}

/// All that is sent: the transaction, then the query up to its Sync.
fn requests(report: &Report, values: &[Option<String>]) -> Vec<u8> {
    let limit = report.timeout.as_millis();
    let mut out = Vec::new();
    let begin = format!(
        "BEGIN READ ONLY; SET LOCAL statement_timeout = {limit}; SET LOCAL lock_timeout = {limit}; \
         SET LOCAL idle_in_transaction_session_timeout = {limit}"
    );
    reply::query(&mut out, &begin);
    let count = u16::try_from(values.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut rest = [report.sql.as_bytes(), &[0], &count[..]].concat();
    report.params.iter().for_each(|param| rest.extend(param.oid.to_be_bytes()));
    reply::parse(&mut out, b"", &rest);
    reply::frame(&mut out, b'B', |out| {
        // No names, and no formats: everything is text.
        out.extend([0, 0, 0, 0]);
        out.extend(count);
        for value in values {
            match value {
                Some(text) => {
                    out.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
                    out.extend(text.as_bytes());
                }
                None => out.extend((-1i32).to_be_bytes()),
            }
        }
        out.extend([0, 0]);
    });
    reply::frame(&mut out, b'D', |out| out.extend(b"P\0"));
    reply::frame(&mut out, b'E', |out| out.extend([0, 0, 0, 0, 0]));
    out.extend_from_slice(reply::SYNC);
    out
}

/// The columns of a RowDescription.
fn columns(frame: &[u8]) -> Option<Vec<Column>> {
    let (count, mut rest) = frame.get(FRAME_HEADER..)?.split_first_chunk::<2>()?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (name, tail) = cstr(rest)?;
        // Table (4), column (2), type (4), its length (2), modifier (4), format (2).
        let (fields, tail) = tail.split_first_chunk::<18>()?;
        let oid = u32::from_be_bytes([fields[6], fields[7], fields[8], fields[9]]);
        columns.push(Column { name: String::from_utf8_lossy(name).into_owned(), oid });
        rest = tail;
    }
    Some(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str, message: &str) -> Vec<u8> {
        let mut out = Vec::new();
        reply::frame(&mut out, b'E', |out| {
            out.extend(format!("SERROR\0C{code}\0M{message}\0\0").into_bytes());
        });
        out
    }

    #[test]
    fn whose_error_it_is() {
        let of = |code: &str, bound| failed(&error(code, "a secret"), bound);
        assert_eq!(of("22P02", false), Fault::Value("a secret (22P02)".into()));
        assert_eq!(of("22P02", true), Fault::Value("the values do not suit the query (22P02)".into()));
        assert_eq!(of("57014", true), Fault::Time);
        assert_eq!(of("40001", true), Fault::Server("a secret (40001)".into()));
        assert_eq!(of("42P01", false), Fault::Query("a secret (42P01)".into()));
    }

    #[test]
    fn columns_are_read() {
        let mut out = Vec::new();
        reply::frame(&mut out, b'T', |out| {
            out.extend(b"\0\x01name\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
        });
        assert_eq!(columns(&out), Some(vec![Column { name: "name".into(), oid: 25 }]));
        assert_eq!(columns(&out[..out.len() - 1]), None);
    }
}
