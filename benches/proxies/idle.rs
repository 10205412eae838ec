//! Memory of idle clients: a fresh instance, warmed up, weighed before and after the clients come.

use std::time::Duration;

use crate::Failure;
use crate::bed::Bed;
use crate::client::query;
use crate::crowd;
use crate::process::Process;
use crate::results::Idle;
use crate::targets::{Kind, Target};

/// Clients that come and go first, so that what is made once is made before we weigh.
const WARM_UP: usize = 50;
/// How long an instance is left alone before it is weighed.
const REST: Duration = Duration::from_secs(1);

/// A row of memory.
#[derive(Clone, Copy, Debug)]
pub struct IdleRow {
    /// As in the tables and on the command line.
    pub name: &'static str,
    /// Whether clients come with TLS.
    pub tls: bool,
}

/// The rows, in order.
pub const ROWS: [IdleRow; 2] =
    [IdleRow { name: "idle/plain", tls: false }, IdleRow { name: "idle/tls", tls: true }];

/// Weighs one target.
pub async fn measure(row: IdleRow, kind: Kind, clients: usize, bed: &Bed) -> Result<Idle, Failure> {
    let target = Target::start(kind, bed, row.tls).await?;
    let process = target.process.as_ref().ok_or("there is no proxy to weigh")?;
    run_each(&target, WARM_UP).await?;
    let before = rested(process).await?;
    let mut idle = crowd::open(&target.door, clients).await?;
    let logged_in = rested(process).await?;
    for client in &mut idle {
        client.run(&query("SELECT 1")?).await?;
    }
    let after_use = rested(process).await?;
    Ok(Idle { name: row.name, target: kind, clients, before, logged_in, after_use })
}

async fn run_each(target: &Target, count: usize) -> Result<(), Failure> {
    for mut client in crowd::open(&target.door, count).await? {
        client.run(&query("SELECT 1")?).await?;
    }
    Ok(())
}

async fn rested(process: &Process) -> Result<u64, Failure> {
    tokio::time::sleep(REST).await;
    process.rss()
}
