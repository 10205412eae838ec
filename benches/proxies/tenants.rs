//! One tenant alone, and beside another that floods the proxy with clients that never pause: what becomes of the first
//! one's 99th percentile.

use std::thread::JoinHandle;
use std::time::Duration;

use bytes::BytesMut;
use serde::Serialize;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::Failure;
use crate::args::Args;
use crate::bed::{Bed, NAME};
use crate::client::{Client, Door, query};
use crate::crowd::{self, Asks};
use crate::goals::Goal;
use crate::results::{Sample, median};
use crate::targets::Target;

/// Clients of the tenant that floods.
const FLOOD: usize = 500;
/// Most times the 99th percentile of a tenant alone that it may have beside them.
const WITHIN: f64 = 2.0;
/// Connections that both share.
const POOL: &str = "size = 10";
/// Longest that one measurement takes, so that a row takes no more than half a minute.
const LONGEST: Duration = Duration::from_secs(4);
/// How long it takes until nobody waits any more, and until all of them do.
const SETTLING: Duration = Duration::from_millis(300);
/// Logins of the flood at once.
const LOGINS: usize = 16;

const BY_STARTUP: &str = "[tenants]\nby = \"startup\"\nclaimed_by = \"*\"\n";

/// What both tenants ask for, and what the configuration has for them.
#[derive(Clone, Copy)]
struct Bout {
    name: &'static str,
    asks: Asks,
    tenants: &'static str,
}

/// Statements that wait, as for a disk: by weight alone, and with a connection that is guaranteed. Statements that take
/// processor time, and reads by key, where those who flood may have one connection at most: weight is about time on
/// connections, and not on processors.
const BOUTS: [Bout; 4] = [
    Bout { name: "tenants/waiting", asks: waiting, tenants: "" },
    Bout {
        name: "tenants/guaranteed",
        asks: waiting,
        tenants: "[[tenant]]\nname = \"small\"\nguaranteed = 1\n",
    },
    Bout { name: "tenants/cpu", asks: computing, tenants: "[[tenant]]\nname = \"flood\"\nmax = 1\n" },
    Bout { name: "tenants/reads", asks: crowd::select, tenants: "[[tenant]]\nname = \"flood\"\nmax = 1\n" },
];

fn waiting(_: &mut u64) -> Result<BytesMut, Failure> {
    query("SELECT pg_sleep(0.005)")
}

fn computing(_: &mut u64) -> Result<BytesMut, Failure> {
    query("SELECT count(*) FROM generate_series(1, 12000)")
}

/// What one round has found.
#[derive(Debug, Serialize)]
struct Round {
    alone: Sample,
    beside: Sample,
}

/// One row.
#[derive(Debug, Serialize)]
pub struct TenantsRow {
    name: &'static str,
    rounds: Vec<Round>,
    /// Of the flood, how many waited for a connection.
    waited: u64,
}

/// Whether any of it is asked for.
pub fn is_wanted(args: &Args) -> bool {
    BOUTS.iter().any(|bout| args.wants(bout.name))
}

fn slot(args: &Args) -> Duration {
    args.slot().min(LONGEST)
}

/// How long it takes, roughly, in seconds.
pub fn estimate(args: &Args) -> f64 {
    let wanted = BOUTS.iter().filter(|bout| args.wants(bout.name)).count() as f64;
    wanted * (3.0 + args.rounds() as f64 * 2.0 * (slot(args).as_secs_f64() + 0.8))
}

/// All rows that are asked for.
pub async fn run(args: &Args) -> Result<Vec<TenantsRow>, Failure> {
    let bed = Bed::make(0).await?;
    let mut rows = Vec::new();
    println!(
        "\n{:<20} {:>10} {:>10} {:>10} {:>10} {:>8} {:>7}  (a tenant alone, and beside {FLOOD} clients of another)",
        "row", "alone TPS", "p99 ms", "beside TPS", "p99 ms", "waited", "p99 x"
    );
    for bout in BOUTS.into_iter().filter(|bout| args.wants(bout.name)) {
        let row = measure(bout, args, &bed).await?;
        row.print();
        rows.push(row);
    }
    Ok(rows)
}

async fn measure(bout: Bout, args: &Args, bed: &Bed) -> Result<TenantsRow, Failure> {
    let target = Target::with(bed, POOL, &format!("{BY_STARTUP}{}", bout.tenants)).await?;
    let flood = Flood::open(&target.door, bout.asks).await?;
    let mut small = vec![Client::login_to(&target.door, NAME, "-c turnpike.tenant=small").await?];
    let mut row = TenantsRow { name: bout.name, rounds: Vec::new(), waited: 0 };
    for _ in 0..args.rounds() {
        let alone = crowd::drive_with(bout.asks, &mut small, 1, &target, slot(args)).await?;
        flood.rages(true).await?;
        row.waited = waiting_now(&target).await?;
        let beside = crowd::drive_with(bout.asks, &mut small, 1, &target, slot(args)).await?;
        flood.rages(false).await?;
        row.rounds.push(Round { alone, beside });
    }
    if small.is_empty() {
        return Err(format!("{}: the client failed", bout.name).into());
    }
    Ok(row)
}

/// How many clients wait for a connection.
async fn waiting_now(target: &Target) -> Result<u64, Failure> {
    let tenants = target.show("SHOW TENANTS").await?;
    Ok(tenants.iter().filter_map(|tenant| tenant.get("waiting")?.parse::<u64>().ok()).sum())
}

impl TenantsRow {
    fn median(&self, figure: fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(figure)).unwrap_or_default()
    }

    fn print(&self) {
        println!(
            "{:<20} {:>10.0} {:>10.3} {:>10.0} {:>10.3} {:>8} {:>7.2}",
            self.name,
            self.median(|r| r.alone.tps),
            self.median(|r| r.alone.p99_ms),
            self.median(|r| r.beside.tps),
            self.median(|r| r.beside.p99_ms),
            self.waited,
            self.median(ratio),
        );
    }

    /// What is wanted of it.
    pub fn goal(&self) -> Goal {
        let goal = format!("{}: p99 beside {FLOOD} clients of another within {WITHIN:.0}x", self.name);
        let ratios = || self.rounds.iter().map(ratio);
        let range = ratios().min_by(f64::total_cmp).zip(ratios().max_by(f64::total_cmp));
        let judged = range.map(|(least, most)| {
            let middle = self.median(ratio);
            (format!("{middle:.2}x ({least:.2}-{most:.2})"), middle <= WITHIN)
        });
        Goal::new(goal, judged)
    }
}

fn ratio(round: &Round) -> f64 {
    round.beside.p99_ms / round.alone.p99_ms
}

/// Clients that never pause while they are to rage. They have a thread of their own, so that whoever is measured is not kept
/// waiting by their answers.
struct Flood {
    rages: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Logs them in; they do nothing yet.
    async fn open(door: &Door, asks: Asks) -> Result<Flood, Failure> {
        let (rages, told) = watch::channel(false);
        let (ready, is_ready) = oneshot::channel();
        let door = door.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime.map_err(Failure::from) {
                Ok(runtime) => runtime.block_on(flood(&door, asks, told, ready)),
                Err(failure) => drop(ready.send(Err(failure))),
            }
        });
        let flood = Flood { rages, thread: Some(thread) };
        is_ready.await.map_err(|_| "the flood has gone")??;
        Ok(flood)
    }

    /// Begins, or ends, and waits until that is felt.
    async fn rages(&self, rages: bool) -> Result<(), Failure> {
        self.rages.send(rages).map_err(|_| "the flood has failed")?;
        tokio::time::sleep(SETTLING).await;
        Ok(())
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.rages = watch::channel(false).0;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn flood(
    door: &Door,
    asks: Asks,
    told: watch::Receiver<bool>,
    ready: oneshot::Sender<Result<(), Failure>>,
) {
    let clients = match logins(door).await {
        Ok(clients) => clients,
        Err(failure) => return drop(ready.send(Err(failure))),
    };
    let mut tasks = JoinSet::new();
    for (client, seed) in clients.into_iter().zip(1..) {
        tasks.spawn(rage(client, asks, seed, told.clone()));
    }
    drop(told);
    let _ = ready.send(Ok(()));
    while tasks.join_next().await.is_some() {}
}

async fn logins(door: &Door) -> Result<Vec<Client>, Failure> {
    let mut clients = Vec::with_capacity(FLOOD);
    while clients.len() < FLOOD {
        let some = (0..LOGINS.min(FLOOD - clients.len()))
            .map(|_| Client::login_to(door, NAME, "-c turnpike.tenant=flood"));
        clients.extend(futures_util::future::try_join_all(some).await?);
    }
    Ok(clients)
}

/// One of them, until nobody can tell it to rage any more, or it fails.
async fn rage(mut client: Client, asks: Asks, seed: u64, mut told: watch::Receiver<bool>) -> Option<()> {
    let mut state = seed;
    loop {
        told.wait_for(|rages| *rages).await.ok()?;
        client.run(&asks(&mut state).ok()?).await.ok()?;
    }
}
