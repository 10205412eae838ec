//! Reads a [`Catalog`] from a server: a few questions in one transaction, so that the answers agree with each other.

mod functions;
mod names;
mod relations;

use std::error::Error as StdError;

use futures_util::{TryStreamExt, pin_mut};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, ToSql, Type as WireType};
use tokio_postgres::{Client, Row};

use super::{Catalog, Contents, Oid, query};
use crate::core::clock::Instant;
use crate::core::limits::MAX_KEPT_CODE;

/// How often reading begins anew where something was dropped meanwhile.
const ATTEMPTS: usize = 3;

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// Why a catalog could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the catalog: {}", words(.0))]
pub struct Error(#[from] tokio_postgres::Error);

/// The server's own words, which its error keeps to itself.
fn words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => error.to_string(),
    }
}

impl Error {
    /// Whether the connection is gone, rather than the server unwilling.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// The server's SQLSTATE, where it was the server that refused.
    pub fn code(&self) -> Option<&str> {
        self.0.code().map(SqlState::code)
    }
}

/// Reads what the database that `client` is connected to contains.
///
/// `client` must be outside a transaction, and is again afterwards; where this future is dropped before it is done, it
/// may be inside one. What its role may not read is left out and counts as unknown. Sessions
/// that want to alter what a view mentions may have to wait for a moment; it does not wait for them.
///
/// # Errors
/// A connection that broke, a server that refuses (out of memory, conflict with recovery, a statement that took longer
/// than a minute), or objects that kept being dropped while they were read. Reading again later may succeed.
pub async fn load(client: &Client) -> std::result::Result<Catalog, Error> {
    let mut attempt = 1;
    loop {
        match transaction(client).await {
            Err(e) if attempt < ATTEMPTS && e.code().is_some_and(was_dropped) => attempt += 1,
            Err(e) => return Err(Error(e)),
            Ok(catalog) => return Ok(catalog),
        }
    }
}

/// What printing the expression of something fails with that has been dropped since the transaction began.
fn was_dropped(code: &SqlState) -> bool {
    const CODES: &[SqlState] = &[
        SqlState::INTERNAL_ERROR,
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_OBJECT,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::UNDEFINED_COLUMN,
    ];
    CODES.contains(code)
}

async fn transaction(client: &Client) -> Result<Catalog> {
    let read_at = Instant::now();
    let contents = async {
        client.batch_execute(query::BEGIN).await?;
        Reader { client }.contents().await
    };
    let contents = contents.await;
    // A failed transaction must be ended too; why it failed says more than whether that worked.
    let ended = client.batch_execute(if contents.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
    let contents = contents?;
    ended?;
    Ok(Catalog::new(contents, read_at))
}

/// Asks questions within the transaction.
#[derive(Clone, Copy)]
struct Reader<'c> {
    client: &'c Client,
}

impl Reader<'_> {
    async fn contents(self) -> Result<Contents> {
        let (database, settings) = names::settings(self).await?;
        let roles = names::roles(self).await?;
        let schemas = names::schemas(self, roles.len()).await?;
        let locked = self.part(query::LOCKED, &[], |f| f.take::<Oid>()).await?.unwrap_or_default();
        let checks = relations::checks(self, &locked).await?;
        let types = names::types(self, checks.as_deref()).await?;
        let relations = relations::relations(self, &schemas, &locked, checks).await?;
        let functions = functions::functions(self, settings.server_version, &locked).await?;
        Ok(Contents {
            database,
            settings,
            roles,
            schemas,
            relations,
            functions,
            operators: functions::operators(self).await?,
            casts: functions::casts(self).await?,
            types,
            extensions: names::extensions(self).await?,
        })
    }

    /// All rows of an answer. `None` where the role may not ask, or something is locked that the answer depends on.
    async fn part<T>(
        self,
        sql: &str,
        params: &[(&(dyn ToSql + Sync), WireType)],
        mut row: impl FnMut(&mut Fields<'_>) -> Result<T>,
    ) -> Result<Option<Vec<T>>> {
        let rows = match self.all(sql, params, &mut row).await {
            Ok(rows) => Some(rows),
            Err(e) if e.code().is_some_and(is_unreadable) => None,
            Err(e) => return Err(e),
        };
        // Whatever was locked to print an expression is let go of: the server's table of locks is small.
        self.client.batch_execute("ROLLBACK TO part").await?;
        Ok(rows)
    }

    /// All rows, converted as they come so that they are held only once.
    async fn all<T>(
        self,
        sql: &str,
        params: &[(&(dyn ToSql + Sync), WireType)],
        row: &mut impl FnMut(&mut Fields<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let params = params.iter().map(|(value, kind)| (*value, kind.clone()));
        let rows = self.client.query_typed_raw(sql, params).await?;
        pin_mut!(rows);
        let mut all = Vec::new();
        while let Some(next) = rows.try_next().await? {
            all.push(row(&mut Fields { row: &next, next: 0 })?);
        }
        Ok(all)
    }
}

fn is_unreadable(code: &SqlState) -> bool {
    *code == SqlState::INSUFFICIENT_PRIVILEGE || *code == SqlState::LOCK_NOT_AVAILABLE
}

/// A row's columns, one after the other.
struct Fields<'r> {
    row: &'r Row,
    next: usize,
}

impl<'r> Fields<'r> {
    fn take<T: FromSql<'r>>(&mut self) -> Result<T> {
        let i = self.next;
        self.next += 1;
        self.row.try_get(i)
    }

    /// A name; see [`super`] for those that are not UTF-8.
    fn name<T: From<String>>(&mut self) -> Result<T> {
        let Raw(bytes) = self.take()?;
        let name = match std::str::from_utf8(bytes) {
            Ok(name) => name.to_owned(),
            Err(_) => format!("\0{}", String::from_utf8_lossy(bytes)),
        };
        Ok(name.into())
    }

    /// Any other text.
    fn text(&mut self) -> Result<Option<Box<str>>> {
        let text: Option<Raw> = self.take()?;
        Ok(text.map(|Raw(bytes)| String::from_utf8_lossy(bytes).into()))
    }

    /// A text that is not kept where it is too long.
    fn code(&mut self) -> Result<Option<Box<str>>> {
        let text: Option<Raw> = self.take()?;
        let short = text.filter(|Raw(bytes)| bytes.len() <= MAX_KEPT_CODE);
        Ok(short.map(|Raw(bytes)| String::from_utf8_lossy(bytes).into()))
    }

    /// A `"char"`; 0 where there is none.
    fn letter(&mut self) -> Result<u8> {
        Ok(self.take::<Option<i8>>()?.unwrap_or_default().cast_unsigned())
    }

    fn list<T: FromSql<'r>>(&mut self) -> Result<Box<[T]>> {
        Ok(self.take::<Option<Vec<T>>>()?.unwrap_or_default().into())
    }

    /// A small number that is never negative.
    fn count(&mut self) -> Result<u16> {
        Ok(u16::try_from(self.take::<i16>()?).unwrap_or_default())
    }
}

/// The bytes of a text or name: a server without an encoding may send any.
struct Raw<'r>(&'r [u8]);

impl<'r> FromSql<'r> for Raw<'r> {
    fn from_sql(_: &WireType, raw: &'r [u8]) -> std::result::Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Raw(raw))
    }

    fn accepts(kind: &WireType) -> bool {
        [WireType::TEXT, WireType::NAME, WireType::VARCHAR].contains(kind)
    }
}
