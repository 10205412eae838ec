//! The demo as a client of its own proxy.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to whoever typed it")]

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_postgres::{Client, Error, NoTls, SimpleQueryMessage, SimpleQueryRow};

use super::stage::{DATABASE, USER};

/// Where the proxy is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address {
    /// For clients.
    pub port: u16,
    /// For metrics and health.
    pub http_port: u16,
}

impl Address {
    /// A connection string for one of the proxy's databases.
    pub(super) fn url(self, database: &str) -> String {
        format!("postgresql://{USER}:{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// Waits until the proxy takes connections.
    pub(super) async fn wait_listening(self) -> Result<(), String> {
        for _ in 0..500 {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err("the proxy does not take connections".into())
    }
}

/// Connects; the connection runs beside the caller, who learns of its end from the client.
pub(super) async fn connect(url: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

/// Runs one statement through the proxy and prints its rows as `psql -At` would. The exit status tells whether it
/// succeeded.
pub(super) async fn once(at: Address, sql: &str) -> Result<ExitCode, String> {
    let client = connect(&at.url(DATABASE)).await.map_err(|e| explain(&e))?;
    let messages = client.simple_query(sql).await.map_err(|e| explain(&e))?;
    for message in &messages {
        if let SimpleQueryMessage::Row(row) = message {
            println!("{}", unaligned(row));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn unaligned(row: &SimpleQueryRow) -> String {
    let values: Vec<&str> = (0..row.len()).map(|i| row.get(i).unwrap_or_default()).collect();
    values.join("|")
}

/// The error in the server's words, as psql prints it.
fn explain(error: &Error) -> String {
    let Some(db) = error.as_db_error() else { return error.to_string() };
    let mut text = format!("{}:  {}", db.severity(), db.message());
    for (label, more) in [("DETAIL", db.detail()), ("HINT", db.hint())] {
        if let Some(more) = more {
            text += &format!("\n{label}:  {more}");
        }
    }
    text
}
