//! What sessions of a pool have without setting anything: asked once, when a client first resets something.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::pool::Pool;
use super::server::Server;
use super::settings::Settings;
use crate::core::clock::Instant;
use crate::core::limits::FRAME_HEADER;
use crate::wire::message::data_row;
use crate::wire::{frame, reply};

/// But for what says which server this is.
const QUESTION: &str = "SELECT name, \
    pg_catalog.encode(pg_catalog.convert_to(pg_catalog.current_setting(name), 'UTF8'), 'hex') \
    FROM pg_catalog.pg_settings WHERE name NOT IN ('in_hot_standby', 'transaction_read_only')";

/// Longest row of such an answer, in bytes.
const MAX_ROW: usize = 4 << 20;

/// Asks a connection at rest, on which nothing is set, and gives it back.
pub async fn learn(pool: &Pool, mut server: Box<Server>) {
    server.unnamed = None;
    if let Some(found) = ask(&mut server).await {
        pool.learn_defaults(found);
        pool.give_back(server, Instant::now());
    }
}

async fn ask(server: &mut Server) -> Option<Settings> {
    let mut found = Vec::new();
    rows(server, QUESTION, |row| {
        let [Some(name), Some(value)] = row else { return Some(()) };
        found.extend(std::str::from_utf8(name).ok().map(str::to_string).zip(unhex(value)));
        Some(())
    })
    .await?;
    Some(Settings::from_pairs(found.iter().map(|(n, v)| (n.as_str(), v.as_str()))))
}

/// Asks a connection at rest something, and looks at each row of the answer. `None` when the connection is lost or has
/// refused: it is not to be used again.
pub(super) async fn rows(
    server: &mut Server,
    sql: &str,
    mut each: impl FnMut(&[Option<&[u8]>]) -> Option<()>,
) -> Option<()> {
    let mut question = Vec::new();
    reply::query(&mut question, sql);
    server.stream.write_all(&question).await.ok()?;
    server.stream.flush().await.ok()?;
    loop {
        let mut frame = vec![0; FRAME_HEADER];
        server.stream.read_exact(&mut frame).await.ok()?;
        let len = frame::server(&frame).ok()??.len;
        if len > MAX_ROW {
            return None;
        }
        frame.resize(len, 0);
        server.stream.read_exact(&mut frame[FRAME_HEADER..]).await.ok()?;
        match frame[0] {
            b'D' => each(&data_row(&frame)?)?,
            b'E' => return None,
            b'Z' => return Some(()),
            _ => {}
        }
    }
}

/// A text of the server's, sent as hexadecimal digits so that its encoding does not matter.
pub fn unhex(digits: &[u8]) -> Option<String> {
    String::from_utf8(hex::decode(digits).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits() {
        assert_eq!(unhex(b"6772c3b6c39f65").as_deref(), Some("größe"));
        assert_eq!((unhex(b"6"), unhex(b"zz"), unhex(b"ff")), (None, None, None));
        assert_eq!(unhex(b"").as_deref(), Some(""));
    }
}
