//! Rehearsals: traffic that sessions leave in line is run on other servers, and what these answer is held against what
//! the clients got. A consumer: nothing below knows of it, and nothing waits for it.
//!
//! [`rehearse`] empties a mirror's line by way of [`player`] and [`link`]; [`compare`] says what differs. [`record`] keeps
//! traffic in a [`file`], [`replay`] rehearses it from there.

use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub mod answers;
pub mod compare;
pub mod file;
pub mod link;
pub mod player;
pub mod record;
pub mod rehearse;
pub mod replay;

use crate::session::shadow::taps::{Kind, Tap};
use crate::session::shared::Shared;

/// How often it is looked whether every mirror still runs.
const ROUND: Duration = Duration::from_secs(1);
/// Time until the system is asked for a thread again, where it had none.
const PAUSE: Duration = Duration::from_secs(10);

/// A task that does one mirror's work; ends with the value.
struct Runner {
    tap: Arc<Tap>,
    task: JoinHandle<()>,
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs the mirrors of the configuration on a thread of their own, for as long as it is polled: what they have to do is not
/// to keep the workers from their clients. Where there are none there is no thread: the system finds a process' files sooner
/// while it has but one.
pub async fn run(shared: Arc<Shared>) {
    let has_mirror = || shared.shadows.taps().list.iter().any(|tap| matches!(tap.kind, Kind::Mirror(_)));
    while !has_mirror() {
        let _ = tokio::time::timeout(ROUND, shared.shadows.changed.notified()).await;
    }
    loop {
        match start(shared.clone()) {
            // Dropped with this, it ends the thread.
            Ok(_going) => std::future::pending().await,
            Err(e) => tracing::error!(error = %e, "cannot start mirroring: it is tried again"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Starts the thread, which goes on until the value is dropped.
fn start(shared: Arc<Shared>) -> io::Result<oneshot::Sender<()>> {
    let (stop, stopped) = oneshot::channel::<()>();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let work = async move {
        tokio::select! {
            () = follow(shared) => {}
            _ = stopped => {}
        }
    };
    thread::Builder::new().name("turnpike-mirror".into()).spawn(move || runtime.block_on(work))?;
    Ok(stop)
}

/// Those that a reload does not change go on.
async fn follow(shared: Arc<Shared>) {
    let mut runners: Vec<Runner> = Vec::new();
    loop {
        let taps = shared.shadows.taps();
        runners.retain(|r| taps.list.iter().any(|tap| Arc::ptr_eq(tap, &r.tap)));
        for tap in &taps.list {
            let Kind::Mirror(mirror) = &tap.kind else { continue };
            if runners.iter().any(|r| Arc::ptr_eq(&r.tap, tap)) {
                continue;
            }
            let rehearsal = rehearse::Rehearsal::new(shared.clone(), tap.clone(), (**mirror).clone());
            runners.push(Runner { tap: tap.clone(), task: tokio::spawn(rehearsal.run()) });
        }
        drop(taps);
        let _ = tokio::time::timeout(ROUND, shared.shadows.changed.notified()).await;
    }
}
