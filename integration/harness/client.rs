//! Connections as applications make them.

use tokio_postgres::{Client, Error, NoTls, SimpleQueryMessage};

/// Connects, and lets the connection run beside the test.
#[track_caller]
pub fn pg(url: &str) -> impl Future<Output = Client> {
    let at = std::panic::Location::caller();
    let connecting = try_pg(url.to_owned());
    async move { connecting.await.unwrap_or_else(|e| panic!("{at}: cannot connect: {}", explain(&e))) }
}

/// Connects, or says why not.
pub async fn try_pg(url: impl AsRef<str>) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(url.as_ref(), NoTls).await?;
    // Whoever uses the client learns of a lost connection from it.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(client)
}

/// The single value of a statement of the simple protocol; NULL reads as `NULL`.
pub async fn value(client: &Client, sql: &str) -> String {
    let rows = rows(client, sql).await;
    match rows.as_slice() {
        [row] if row.len() == 1 => row[0].clone(),
        _ => panic!("not one value from {sql}: {rows:?}"),
    }
}

/// All rows of a statement of the simple protocol; NULL reads as `NULL`.
pub async fn rows(client: &Client, sql: &str) -> Vec<Vec<String>> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {}", explain(&e)));
    messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        })
        .map(|row| (0..row.len()).map(|i| row.get(i).unwrap_or("NULL").to_owned()).collect())
        .collect()
}

/// The error with the server's own words, which its `Display` leaves out.
fn explain(error: &Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} {}: {}", db.severity(), db.code().code(), db.message()),
        None => format!("{error:?}"),
    }
}
