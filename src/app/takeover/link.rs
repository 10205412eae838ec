//! What is left between two processes after a takeover, for as long as both live: cancel requests, both ways. Bounded
//! in what is under way; a process that does not answer costs a cancel, and nobody else anything.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::frame::{self, CANCEL, DONE};
use crate::core::limits::{MAX_CANCEL_KEY, MAX_PASSED_CANCELS};
use crate::session::peers::Passed;
use crate::session::shared::Shared;

/// Where the other process is in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toward {
    /// We took over from it.
    Older,
    /// It took over from us.
    Newer,
}

type Pending = Mutex<HashMap<u32, oneshot::Sender<bool>>>;

/// Opens the way to the process at the other end, until that ends.
pub fn open(stream: UnixStream, shared: &Arc<Shared>, toward: Toward) {
    let (way, passed) = mpsc::channel(MAX_PASSED_CANCELS);
    match toward {
        Toward::Older => shared.peers.older.open(way),
        Toward::Newer => shared.peers.newer.open(way),
    }
    tokio::spawn(keep(stream, shared.clone(), toward, passed));
}

async fn keep(stream: UnixStream, shared: Arc<Shared>, toward: Toward, passed: mpsc::Receiver<Passed>) {
    let (read, write) = stream.into_split();
    let pending = Pending::default();
    let (answers, answered) = mpsc::channel(MAX_PASSED_CANCELS);
    // The end of either is the end of both: the other process is gone.
    tokio::select! {
        () = hear(read, shared, toward, &pending, answers) => {}
        () = say(write, passed, answered, &pending) => {}
    }
    tracing::info!(?toward, "the other process is gone");
}

async fn hear(
    mut read: OwnedReadHalf,
    shared: Arc<Shared>,
    toward: Toward,
    pending: &Pending,
    answers: mpsc::Sender<Vec<u8>>,
) {
    let room = Arc::new(Semaphore::new(MAX_PASSED_CANCELS));
    while let Ok(frame) = frame::read(&mut read).await {
        match (frame.kind, parse(&frame.body)) {
            (CANCEL, Some((number, rest))) => {
                let Some((pid, key)) =
                    rest.split_first_chunk::<4>().filter(|(_, k)| k.len() <= MAX_CANCEL_KEY)
                else {
                    continue;
                };
                let Ok(permit) = room.clone().try_acquire_owned() else {
                    let _ = answers.try_send(numbered(DONE, number, &[0]));
                    continue;
                };
                let (pid, key) = (i32::from_be_bytes(*pid), key.to_vec());
                let (shared, answers) = (shared.clone(), answers.clone());
                tokio::spawn(async move {
                    let found = cancel(&shared, toward, pid, &key).await;
                    let _ = answers.send(numbered(DONE, number, &[u8::from(found)])).await;
                    drop(permit);
                });
            }
            (DONE, Some((number, found))) => {
                if let Some(waiting) = pending.lock().remove(&number) {
                    let _ = waiting.send(found.first() == Some(&1));
                }
            }
            _ => {}
        }
    }
}

/// For a client of ours, or of a process further along, never back to where it came from.
async fn cancel(shared: &Shared, from: Toward, pid: i32, key: &[u8]) -> bool {
    if shared.cancel_here(pid, key).await {
        return true;
    }
    match from {
        Toward::Older => shared.peers.newer.pass(pid, key).await,
        Toward::Newer => shared.peers.older.pass(pid, key).await,
    }
}

async fn say(
    mut write: OwnedWriteHalf,
    mut passed: mpsc::Receiver<Passed>,
    mut answered: mpsc::Receiver<Vec<u8>>,
    pending: &Pending,
) {
    let mut next = 0u32;
    loop {
        let bytes = tokio::select! {
            Some(cancel) = passed.recv() => {
                next = next.wrapping_add(1);
                if !expect(pending, next, cancel.done) {
                    continue;
                }
                numbered(CANCEL, next, &[&cancel.pid.to_be_bytes()[..], &cancel.key].concat())
            }
            Some(bytes) = answered.recv() => bytes,
            else => return,
        };
        if write.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Notes who waits for an answer; false when too many do.
fn expect(pending: &Pending, number: u32, done: oneshot::Sender<bool>) -> bool {
    let mut pending = pending.lock();
    if pending.len() >= MAX_PASSED_CANCELS {
        pending.retain(|_, waiting| !waiting.is_closed());
    }
    pending.len() < MAX_PASSED_CANCELS && pending.insert(number, done).is_none()
}

fn numbered(kind: u8, number: u32, rest: &[u8]) -> Vec<u8> {
    frame::encode(kind, &[&number.to_be_bytes()[..], rest].concat())
}

fn parse(body: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = body.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*number), rest))
}
