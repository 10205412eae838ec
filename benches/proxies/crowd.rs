//! Thousands of clients at once, which pgbench is too heavy for: opened once, then driven in turns.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_util::StreamExt;
use futures_util::stream;
use tokio::task::JoinSet;
use turnpike::core::latency::Latency;
use turnpike::core::stats::Counter;

use crate::Failure;
use crate::bed::SCALE;
use crate::client::{Client, Door, query};
use crate::results::Sample;
use crate::targets::Target;

/// Logins under way at once: fewer than a listen queue holds.
const LOGINS: usize = 32;
/// How long clients run before it counts.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long a client may take to finish its last statement.
const PATIENCE: Duration = Duration::from_secs(20);

/// Opens `count` clients.
pub async fn open(door: &Door, count: usize) -> Result<Vec<Client>, Failure> {
    let mut logins = stream::iter(0..count).map(|_| Client::login(door)).buffer_unordered(LOGINS);
    let mut clients = Vec::with_capacity(count);
    while let Some(client) = logins.next().await {
        clients.push(client.map_err(|e| format!("login {} of {count}: {e}", clients.len() + 1))?);
    }
    Ok(clients)
}

/// What the clients of one run share.
#[derive(Debug)]
struct Run {
    begin: Instant,
    end: Instant,
    done: Counter,
    latency: Latency,
}

/// The next message of a client, made from the state that it keeps.
pub type Asks = fn(&mut u64) -> Result<BytesMut, Failure>;

/// Has `count` of the clients run selects for `slot` while the others idle. Clients that fail are gone afterwards.
pub async fn drive(
    clients: &mut Vec<Client>,
    count: usize,
    target: &Target,
    slot: Duration,
) -> Result<Sample, Failure> {
    drive_with(select, clients, count, target, slot).await
}

/// The same with any statement.
pub async fn drive_with(
    asks: Asks,
    clients: &mut Vec<Client>,
    count: usize,
    target: &Target,
    slot: Duration,
) -> Result<Sample, Failure> {
    let begin = Instant::now() + WARM_UP;
    let run =
        Arc::new(Run { begin, end: begin + slot, done: Counter::default(), latency: Latency::default() });
    let count = count.min(clients.len());
    let mut tasks = JoinSet::new();
    for (client, seed) in clients.drain(..count).zip(1..) {
        tasks.spawn(work(client, asks, seed, Arc::clone(&run)));
    }
    tokio::time::sleep_until(run.begin.into()).await;
    let before = target.cpu()?;
    tokio::time::sleep_until(run.end.into()).await;
    let spent = target.cpu()?.zip(before).map(|(after, before)| after.saturating_sub(before));
    let back = gather(&mut tasks).await;
    let errors = (count - back.len()) as u64;
    clients.extend(back);
    Ok(sample(&run, slot, spent, errors))
}

/// A select by key.
pub fn select(state: &mut u64) -> Result<BytesMut, Failure> {
    let account = random_account(state);
    query(&format!("SELECT abalance FROM pgbench_accounts WHERE aid = {account};"))
}

/// One client: a statement after the other until the end; the client again if nothing went wrong.
async fn work(mut client: Client, asks: Asks, seed: u64, run: Arc<Run>) -> Option<Client> {
    let mut state = seed;
    loop {
        let message = asks(&mut state).ok()?;
        let sent = Instant::now();
        client.run(&message).await.ok()?;
        if run.note(sent).is_break() {
            return Some(client);
        }
    }
}

impl Run {
    /// Counts a statement that has just been answered, if it is time, and says whether to go on.
    fn note(&self, sent: Instant) -> ControlFlow<()> {
        let now = Instant::now();
        if now >= self.end {
            return ControlFlow::Break(());
        }
        if now >= self.begin {
            self.done.add(1);
            self.latency.record(now - sent);
        }
        ControlFlow::Continue(())
    }
}

/// Waits for the clients to finish; those that do not are dropped.
async fn gather(tasks: &mut JoinSet<Option<Client>>) -> Vec<Client> {
    let mut back = Vec::with_capacity(tasks.len());
    let all = async {
        while let Some(outcome) = tasks.join_next().await {
            back.extend(outcome.ok().flatten());
        }
    };
    let stuck = tokio::time::timeout(PATIENCE, all).await.is_err();
    if stuck {
        tasks.abort_all();
    }
    back
}

fn sample(run: &Run, slot: Duration, spent: Option<Duration>, errors: u64) -> Sample {
    let transactions = run.done.get();
    let latency = run.latency.snapshot();
    Sample {
        transactions,
        tps: transactions as f64 / slot.as_secs_f64(),
        mean_ms: latency.mean() / 1e3,
        p99_ms: latency.value_at_quantile(0.99) as f64 / 1e3,
        cpu_us: spent.map(|spent| spent.as_secs_f64() * 1e6 / (transactions.max(1)) as f64),
        errors,
    }
}

/// Another account, by a linear congruential generator: even enough for reads by key.
fn random_account(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 32) % (u64::from(SCALE) * 100_000) + 1
}
