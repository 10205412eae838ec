//! Cleaning a server connection whose client is gone or has left something behind; what cannot be cleaned within
//! bounds is closed.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::cancel;
use super::server::{Activity, Server};
use crate::core::clock::Instant;
use crate::core::limits::MAX_DECODED;
use crate::wire::message::{ErrorFields, TxStatus, parameter_status};
use crate::wire::{frame, reply};

/// What a client left on its server connection.
#[derive(Debug, Default)]
pub struct Debris {
    /// Bytes from the server that have been read and not looked at.
    pub unread: Vec<u8>,
    /// Bytes of the body of a half-relayed frame still to come.
    pub skip: usize,
    /// ReadyForQuery messages still to come.
    pub owed: usize,
    /// Messages were sent that no Sync followed.
    pub sync: bool,
    /// The server is reading COPY data.
    pub copy_in: bool,
    /// Session state beyond the carried settings: nothing less than DISCARD ALL will do.
    pub state: bool,
    /// The transaction status last heard.
    pub open: bool,
}

/// Longest time for one cleaning.
const DEADLINE: Duration = Duration::from_secs(5);
/// Most bytes of an abandoned result that are read rather than closing the connection.
const MAX_DRAIN: usize = 16 << 20;
/// Bytes read at a time.
const CHUNK: usize = 8192;

/// Cleans the connection in the background and gives it back to its pool.
pub fn recover(server: Box<Server>, debris: Debris) {
    tokio::spawn(async move {
        let pool = server.slot.pool().clone();
        server.link.set_activity(Activity::Resetting);
        pool.resetting(true);
        let cleaned = tokio::time::timeout(DEADLINE, clean(server, debris)).await;
        pool.resetting(false);
        if let Ok(Some(server)) = cleaned {
            pool.give_back(server, Instant::now());
        }
    });
}

/// Closes a connection that nothing can clean; what it runs is cancelled, since its process would not notice.
pub fn close(server: Box<Server>, running: bool) {
    if running {
        let guard = server.link.begin_cancel();
        tokio::spawn(async move {
            cancel::deliver(guard).await;
            drop(server);
        });
    } else {
        super::pool::retire(server);
    }
}

/// `None` when the connection had to be closed.
async fn clean(mut server: Box<Server>, debris: Debris) -> Option<Box<Server>> {
    let mut status = if debris.open { TxStatus::Open } else { TxStatus::Idle };
    let (owed, state) = (debris.owed + usize::from(debris.sync), debris.state);
    let mut reader = Reader { pending: debris.unread, skip: debris.skip, ..Reader::default() };
    if owed > 0 {
        let guard = server.link.begin_cancel();
        let end = ending(&debris.sync, debris.copy_in);
        // The server may have to see the cancel before it reads on.
        let (sent, ()) = tokio::join!(send(&mut server, &end), cancel::deliver(guard));
        sent?;
        for _ in 0..owed {
            status = reader.ready(&mut server).await?;
        }
    }
    if status != TxStatus::Idle {
        status = ask(&mut server, &mut reader, "ROLLBACK").await?;
    }
    if state && status == TxStatus::Idle {
        status = ask(&mut server, &mut reader, "DISCARD ALL").await?;
        server.forget_all();
        server.settings = server.slot.pool().neutral().clone();
    }
    server.link.cancels_delivered().await;
    (status == TxStatus::Idle && reader.pending.is_empty() && !server.link.poisoned()).then_some(server)
}

fn ending(sync: &bool, copy_in: bool) -> Vec<u8> {
    let mut end = Vec::new();
    if copy_in {
        reply::copy_fail(&mut end, "client disconnected");
    }
    if *sync {
        // Without an error, Sync would commit the half of a batch that came before its client went.
        reply::bind_nothing(&mut end);
        end.extend_from_slice(reply::SYNC);
    }
    end
}

async fn send(server: &mut Server, bytes: &[u8]) -> Option<()> {
    server.stream.write_all(bytes).await.ok()?;
    server.stream.flush().await.ok()
}

async fn ask(server: &mut Box<Server>, reader: &mut Reader, sql: &str) -> Option<TxStatus> {
    let mut bytes = Vec::new();
    reply::query(&mut bytes, sql);
    send(server, &bytes).await?;
    reader.refused = false;
    let status = reader.ready(server).await?;
    // What was not carried out has cleaned nothing.
    (!reader.refused).then_some(status)
}

/// Waits until no cancel is on its way to it, then gives it back.
pub fn fence(server: Box<Server>) {
    recover(server, Debris::default());
}

/// Runs one statement of ours on a server at rest and reports what came: parameters that changed, and the error if
/// it failed. `None` when the connection is lost.
pub async fn run(server: &mut Box<Server>, sql: &str) -> Option<Outcome> {
    let mut bytes = Vec::new();
    reply::query(&mut bytes, sql);
    send(server, &bytes).await?;
    let mut reader = Reader::default();
    let mut outcome = Outcome::default();
    loop {
        let frame = reader.frame(server).await?;
        match frame[0] {
            b'S' => {
                outcome.params.extend(parameter_status(&frame).map(|(n, v)| (n.to_string(), v.to_string())))
            }
            b'E' => outcome.error = Some(frame),
            b'Z' => return (frame.get(5) == Some(&b'I')).then_some(outcome),
            _ => {}
        }
    }
}

/// What a statement of ours came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Parameters reported on the way.
    pub params: Vec<(String, String)>,
    /// The ErrorResponse, if it failed.
    pub error: Option<Vec<u8>>,
}

/// Reads frames and throws them away.
#[derive(Default)]
struct Reader {
    pending: Vec<u8>,
    skip: usize,
    read: usize,
    /// An ErrorResponse has come.
    refused: bool,
}

impl Reader {
    /// Reads up to the next ReadyForQuery.
    async fn ready(&mut self, server: &mut Server) -> Option<TxStatus> {
        loop {
            let frame = self.frame(server).await?;
            match frame[0] {
                b'Z' => return TxStatus::of(&frame),
                b'E' if ErrorFields::of(&frame).is_fatal() => return None,
                b'E' => self.refused = true,
                // COPY FROM STDIN in a simple query, begun after its client had gone.
                b'G' => {
                    let mut fail = Vec::new();
                    reply::copy_fail(&mut fail, "client disconnected");
                    send(server, &fail).await?;
                }
                _ => {}
            }
        }
    }

    /// The next frame: whole where it is small, only its head where it is large.
    async fn frame(&mut self, server: &mut Server) -> Option<Vec<u8>> {
        loop {
            let skipped = self.skip.min(self.pending.len());
            self.pending.drain(..skipped);
            self.skip -= skipped;
            if self.skip == 0
                && let Some(header) = frame::server(&self.pending).ok()?
                && self.pending.len() >= header.len.min(MAX_DECODED)
            {
                let held = header.len.min(self.pending.len());
                self.skip = header.len - held;
                return Some(self.pending.drain(..held).collect());
            }
            self.fill(server).await?;
        }
    }

    async fn fill(&mut self, server: &mut Server) -> Option<()> {
        let at = self.pending.len();
        self.pending.resize(at + CHUNK, 0);
        let n = server.stream.read(&mut self.pending[at..]).await.ok()?;
        self.pending.truncate(at + n);
        self.read += n;
        (n > 0 && self.read <= MAX_DRAIN).then_some(())
    }
}
