//! The processes beside this one while one takes over from another: cancel requests that are for a client of theirs
//! are passed on to them. Who speaks to them is a floor above; here is only where to put what is for them.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{mpsc, oneshot};

/// Longest wait for another process: a little more than it takes to deliver a cancel.
const DEADLINE: Duration = Duration::from_secs(15);

/// A cancel request on its way to another process.
#[derive(Debug)]
pub struct Passed {
    /// The client's process id.
    pub pid: i32,
    /// The client's secret.
    pub key: Box<[u8]>,
    /// Told whether it was for a client of theirs, once it has been delivered; dropped if nobody will know.
    pub done: oneshot::Sender<bool>,
}

/// One way out.
#[derive(Debug, Default)]
pub struct Side(ArcSwapOption<mpsc::Sender<Passed>>);

impl Side {
    /// What is passed this way goes to `way` from now on; to nobody once its receiver is gone.
    pub fn open(&self, way: mpsc::Sender<Passed>) {
        self.0.store(Some(Arc::new(way)));
    }

    /// Whether a process is there.
    pub fn is_open(&self) -> bool {
        self.0.load().as_ref().is_some_and(|way| !way.is_closed())
    }

    /// Passes a cancel request this way; true when it found its client. Never waits for room: a way that is full
    /// leads to a process that does not answer.
    pub async fn pass(&self, pid: i32, key: &[u8]) -> bool {
        let Some(way) = self.0.load_full() else { return false };
        let (done, found) = oneshot::channel();
        if way.try_send(Passed { pid, key: key.into(), done }).is_err() {
            return false;
        }
        matches!(tokio::time::timeout(DEADLINE, found).await, Ok(Ok(true)))
    }
}

/// The processes beside this one. Together they are a chain, so that what is passed on away from where it came from
/// comes to an end.
#[derive(Debug, Default)]
pub struct Peers {
    /// The one that we took over from.
    pub older: Side,
    /// The one that took over from us.
    pub newer: Side,
}

impl Peers {
    /// Passes a cancel request both ways; true when it found its client.
    pub async fn pass(&self, pid: i32, key: &[u8]) -> bool {
        let (older, newer) = tokio::join!(self.older.pass(pid, key), self.newer.pass(pid, key));
        older || newer
    }
}
