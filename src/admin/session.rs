//! The admin database's side of the protocol, simple and extended, over the pgwire crate's messages. Away from the
//! hot path: plain and bounded rather than fast.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{BindComplete, CloseComplete, ParseComplete};
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse, ReadyForQuery, TransactionStatus};
use pgwire::messages::{
    DecodeContext, PgWireBackendMessage as Reply, PgWireFrontendMessage as Request, ProtocolVersion,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::command::{self, Answer, Caller};
use super::table::Table;
use super::warm;
use crate::core::error::{Error, Severity};
use crate::session::listen::AdminVisit;
use crate::session::shared::Shared;
use crate::sql::lex::{Kind, Lexer};
use crate::wire::{frame, reply};

/// Longest message that an admin may send.
const MAX_MESSAGE: usize = 64 * 1024;
/// Most prepared statements and portals of one admin.
const MAX_NAMES: usize = 100;

/// What an admin's session reports of itself.
pub const PARAMETERS: &[(&str, &str)] = &[
    ("server_version", concat!("16.0 (Turnpike ", env!("CARGO_PKG_VERSION"), ")")),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("integer_datetimes", "on"),
    ("standard_conforming_strings", "on"),
    ("default_transaction_read_only", "off"),
    ("in_hot_standby", "off"),
    ("is_superuser", "off"),
];

/// What `server_version` says.
pub fn server_version() -> &'static str {
    PARAMETERS[0].1
}

/// Serves a client of the admin database, which has been told AuthenticationOk, until it goes.
pub async fn serve(visit: AdminVisit, shared: Arc<Shared>) {
    let admin = shared.config.load().admin.admins.contains(&visit.user);
    let session = Session {
        shared,
        caller: Caller { user: visit.user, admin },
        statements: HashMap::new(),
        portals: HashMap::new(),
        status: TransactionStatus::Idle,
        skipping: false,
        out: BytesMut::new(),
    };
    if let Err(e) = session.run(visit.stream, visit.minor).await {
        tracing::debug!(error = %e, "admin session ended");
    }
}

struct Portal {
    statement: String,
    formats: Vec<i16>,
}

struct Session {
    shared: Arc<Shared>,
    caller: Caller,
    statements: HashMap<String, String>,
    portals: HashMap<String, Portal>,
    status: TransactionStatus,
    /// An extended batch has failed: everything up to Sync is ignored.
    skipping: bool,
    out: BytesMut,
}

impl Session {
    async fn run(mut self, mut stream: crate::wire::stream::Stream, minor: u16) -> io::Result<()> {
        self.greet();
        let mut context = DecodeContext::default();
        (context.awaiting_frontend_ssl, context.awaiting_frontend_startup) = (false, false);
        context.protocol_version =
            if minor >= 2 { ProtocolVersion::PROTOCOL3_2 } else { ProtocolVersion::PROTOCOL3_0 };
        let mut input = BytesMut::new();
        loop {
            stream.write_all(&self.out).await?;
            stream.flush().await?;
            self.out.clear();
            let message = match next(&mut stream, &mut input, &context).await? {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(()),
                Err(e) => {
                    let mut last = Vec::new();
                    reply::error(&mut last, &e);
                    stream.say_goodbye(&last).await;
                    return Ok(());
                }
            };
            if let Request::Terminate(_) = message {
                return Ok(());
            }
            self.take(message).await;
        }
    }

    fn greet(&mut self) {
        let mut hello = Vec::new();
        for (name, value) in PARAMETERS {
            reply::parameter_status(&mut hello, name, value);
        }
        // Nothing here runs long enough to be cancelled: the key fits nothing.
        reply::backend_key_data(&mut hello, 0, &[0; 4]);
        self.out.extend_from_slice(&hello);
        self.ready();
    }

    fn send(&mut self, message: Reply) {
        // Encoding into memory fails only for fields beyond the protocol's sizes, which nothing here has.
        let _ = message.encode(&mut self.out);
    }

    fn ready(&mut self) {
        self.send(Reply::ReadyForQuery(ReadyForQuery::new(self.status)));
    }

    fn fail(&mut self, e: &Error) {
        let mut bytes = Vec::new();
        reply::error(&mut bytes, e);
        self.out.extend_from_slice(&bytes);
        if self.status == TransactionStatus::Transaction {
            self.status = TransactionStatus::Error;
        }
    }

    async fn take(&mut self, message: Request) {
        match message {
            Request::Query(query) => self.simple(&query.query).await,
            Request::Sync(_) => {
                self.skipping = false;
                self.ready();
            }
            _ if self.skipping => {}
            extended => {
                if let Err(e) = self.extended(extended).await {
                    self.fail(&e);
                    self.skipping = true;
                }
            }
        }
    }

    async fn simple(&mut self, text: &str) {
        let statements = command::statements(text);
        if statements.is_empty() {
            self.send(Reply::EmptyQueryResponse(EmptyQueryResponse::new()));
        }
        for statement in statements {
            match command::answer(&self.shared, &self.caller, statement).await {
                Ok(answer) => {
                    if let Answer::Rows(table, _) = &answer {
                        self.send(Reply::RowDescription(table.description(&[])));
                    }
                    self.give(answer, &[]);
                }
                Err(e) => {
                    self.fail(&e);
                    break;
                }
            }
        }
        self.ready();
    }

    /// Rows if there are any, and the tag.
    fn give(&mut self, answer: Answer, formats: &[i16]) {
        let tag = match answer {
            Answer::Empty => return self.send(Reply::EmptyQueryResponse(EmptyQueryResponse::new())),
            Answer::Rows(table, tag) => {
                self.rows(&table, formats);
                tag
            }
            Answer::Done(tag) => tag.to_string(),
            Answer::Transaction(open, tag) => {
                self.status = if open { TransactionStatus::Transaction } else { TransactionStatus::Idle };
                tag.to_string()
            }
        };
        self.send(Reply::CommandComplete(CommandComplete::new(tag)));
    }

    fn rows(&mut self, table: &Table, formats: &[i16]) {
        for row in table.data(formats) {
            self.send(Reply::DataRow(row));
        }
    }

    async fn extended(&mut self, message: Request) -> Result<(), Error> {
        match message {
            Request::Parse(parse) => {
                room(self.statements.len())?;
                self.statements.insert(parse.name.unwrap_or_default(), parse.query);
                self.send(Reply::ParseComplete(ParseComplete::new()));
            }
            Request::Bind(bind) => {
                room(self.portals.len())?;
                let statement = self.statement(&bind.statement_name.unwrap_or_default())?.to_string();
                let portal = Portal { statement, formats: bind.result_column_format_codes };
                self.portals.insert(bind.portal_name.unwrap_or_default(), portal);
                self.send(Reply::BindComplete(BindComplete::new()));
            }
            Request::Describe(describe) => {
                self.describe(describe.target_type, &describe.name.unwrap_or_default())?;
            }
            Request::Execute(execute) => {
                let portal = self.portal(&execute.name.unwrap_or_default())?;
                let (statement, formats) = (portal.statement.clone(), portal.formats.clone());
                let answer = command::answer(&self.shared, &self.caller, &statement).await?;
                self.give(answer, &formats);
            }
            Request::Close(close) => {
                let name = close.name.unwrap_or_default();
                if close.target_type == b'S' {
                    self.statements.remove(&name).map(drop)
                } else {
                    self.portals.remove(&name).map(drop)
                };
                self.send(Reply::CloseComplete(CloseComplete::new()));
            }
            _ => {}
        }
        Ok(())
    }

    fn describe(&mut self, kind: u8, name: &str) -> Result<(), Error> {
        let (statement, formats) = if kind == b'S' {
            let statement = self.statement(name)?.to_string();
            // Parameters are taken as text and change nothing.
            let parameters = Lexer::new(statement.as_bytes(), true).filter(|t| t.kind == Kind::Param).count();
            self.send(Reply::ParameterDescription(ParameterDescription::new(vec![25; parameters])));
            (statement, Vec::new())
        } else {
            let portal = self.portal(name)?;
            (portal.statement.clone(), portal.formats.clone())
        };
        if let Some(words) = command::operation(&statement) {
            // Describing it must not carry it out.
            self.send(match warm::described(&words) {
                Some(table) => Reply::RowDescription(table.description(&formats)),
                None => Reply::NoData(NoData::new()),
            });
            return Ok(());
        }
        match command::look(&self.shared, &self.caller, &statement)? {
            Answer::Rows(table, _) => self.send(Reply::RowDescription(table.description(&formats))),
            _ => self.send(Reply::NoData(NoData::new())),
        }
        Ok(())
    }

    fn statement(&self, name: &str) -> Result<&str, Error> {
        self.statements.get(name).map(String::as_str).ok_or_else(|| missing("prepared statement", name))
    }

    fn portal(&self, name: &str) -> Result<&Portal, Error> {
        self.portals.get(name).ok_or_else(|| missing("portal", name))
    }
}

fn missing(what: &str, name: &str) -> Error {
    Error::statement(
        crate::core::error::SqlState::UNKNOWN_STATEMENT,
        format!("{what} \"{}\" does not exist", name.escape_debug()),
    )
}

fn room(used: usize) -> Result<(), Error> {
    if used < MAX_NAMES {
        return Ok(());
    }
    Err(crate::session::batch::too_many("prepared statements of one admin", MAX_NAMES))
}

/// The next message; `Ok(Ok(None))` at the end of the stream.
async fn next(
    stream: &mut crate::wire::stream::Stream,
    input: &mut BytesMut,
    context: &DecodeContext,
) -> io::Result<Result<Option<Request>, Error>> {
    loop {
        // Bounded before the crate sees it: it reserves what a length promises.
        match frame::client(input, MAX_MESSAGE) {
            Ok(Some(header)) if input.len() >= header.len => {
                let mut one = input.split_to(header.len);
                let decoded = Request::decode(&mut one, context);
                return Ok(
                    decoded.map_err(|_| Error::protocol("malformed message").severity(Severity::Fatal))
                );
            }
            Ok(_) => {}
            Err(e) => return Ok(Err(e)),
        }
        if stream.read_buf(input).await? == 0 {
            return Ok(Ok(None));
        }
    }
}
