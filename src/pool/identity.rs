//! What a server says of itself on a connection that has just been opened to it: whether it takes writes, on which
//! timeline, and whose data it has. One round trip for each connection, none for each transaction.

use std::sync::atomic::Ordering::Relaxed;

use tokio::io::AsyncWriteExt;

use super::connect::{Target, lost, next_frame, refused, server_error};
use super::term::{NONE, Term, UNTOLD};
use crate::core::error::{Result, SqlState};
use crate::wire::message::data_row;
use crate::wire::reply;
use crate::wire::stream::Stream;

/// The question, and what is left of it where a role may not ask that: an administrator may have taken any of it back,
/// and a call that is not allowed fails even where it is not reached.
const QUESTIONS: [&str; 3] = [
    "SELECT CASE WHEN NOT r THEN pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()) END, r::text, \
     (SELECT system_identifier FROM pg_catalog.pg_control_system()) FROM pg_catalog.pg_is_in_recovery() r",
    "SELECT CASE WHEN NOT r THEN pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()) END, r::text, \
     NULL FROM pg_catalog.pg_is_in_recovery() r",
    "SELECT NULL, r::text, NULL FROM pg_catalog.pg_is_in_recovery() r",
];

/// Asks the server at the other end on which timeline it takes writes, if it does.
///
/// # Errors
/// The connection is lost, or leads to a server with the data of another cluster.
pub(super) async fn ask(target: &Target, stream: &mut Stream) -> Result<Term> {
    loop {
        let reserve = target.terms.reserve.load(Relaxed);
        let question = QUESTIONS[usize::from(reserve).min(QUESTIONS.len() - 1)];
        match answer(target, stream, question).await? {
            Some((term, system)) if !target.terms.is_strange(system) => return Ok(term),
            Some(_) => {
                target.terms.wake.notify_one();
                return Err(refused(target, "it has another system identifier than its cluster"));
            }
            None if usize::from(reserve) + 1 < QUESTIONS.len() => {
                target.terms.reserve.store(reserve + 1, Relaxed);
            }
            None => return Err(refused(target, "it does not say whether it is in recovery")),
        }
    }
}

/// Term and system identifier; `None` where the role may not ask that.
async fn answer(target: &Target, stream: &mut Stream, question: &str) -> Result<Option<(Term, Option<u64>)>> {
    let mut bytes = Vec::new();
    reply::query(&mut bytes, question);
    stream.write_all(&bytes).await.map_err(|e| lost(target, &e))?;
    stream.flush().await.map_err(|e| lost(target, &e))?;
    let (mut said, mut error) = (None, None);
    loop {
        let frame = next_frame(target, stream).await?;
        match frame[0] {
            b'D' => said = data_row(&frame).and_then(|row| read(&row)),
            b'E' => error = Some(server_error(&frame)),
            b'Z' => break,
            _ => {}
        }
    }
    match error {
        Some(e) if e.code == SqlState::INSUFFICIENT_PRIVILEGE => Ok(None),
        Some(e) => Err(e),
        None => said.map(Some).ok_or_else(|| refused(target, "what it says of itself makes no sense")),
    }
}

fn read(row: &[Option<&[u8]>]) -> Option<(Term, Option<u64>)> {
    let [file, in_recovery, system] = row else { return None };
    let text =
        |field: &Option<&[u8]>| field.and_then(|bytes| std::str::from_utf8(bytes).ok()).map(str::to_string);
    let timeline = text(file).and_then(|name| Term::from_str_radix(name.get(..8)?, 16).ok());
    let term = match text(in_recovery)?.as_str() {
        "true" => NONE,
        _ => timeline.unwrap_or(UNTOLD),
    };
    Some((term, text(system).and_then(|system| system.parse().ok())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let check = |row: [Option<&str>; 3]| read(&row.map(|field| field.map(str::as_bytes)));
        assert_eq!(
            check([Some("0000000A0000000100000004"), Some("false"), Some("77")]),
            Some((10, Some(77)))
        );
        assert_eq!(check([None, Some("true"), None]), Some((NONE, None)));
        assert_eq!(check([None, Some("false"), None]), Some((UNTOLD, None)));
        assert_eq!(check([None, None, None]), None);
    }
}
