//! Empties a mirror's line: reads on whichever connection is free, sessions each on one of their own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::compare::{Here, Shape, judge};
use super::link::Address;
use super::player::{Manner, Played, Player, Script};
use crate::cluster::State;
use crate::config::{Mirror, MirrorMode, MirrorTarget};
use crate::core::error::{Error, Result};
use crate::plan::sameness::Sameness;
use crate::pool::connect::Target;
use crate::pool::driver::Login;
use crate::session::shadow::exchange::{Arrival, Exchange};
use crate::session::shadow::tally::Tally;
use crate::session::shadow::taps::Tap;
use crate::session::shared::Shared;

/// Pauses between attempts to connect.
const PAUSES: [u64; 6] = [50, 200, 500, 1000, 2000, 5000];

/// One mirror at work.
#[derive(Clone)]
pub struct Rehearsal {
    shared: Arc<Shared>,
    tap: Arc<Tap>,
    mirror: Arc<Mirror>,
    manner: Manner,
}

/// A connection, and where to.
struct Open {
    player: Player,
    target: Arc<Target>,
    /// Of its target, under which it was opened.
    generation: u64,
}

type Line = Arc<Mutex<UnboundedReceiver<Arrival>>>;

impl Rehearsal {
    /// Of a tap that is this mirror.
    pub fn new(shared: Arc<Shared>, tap: Arc<Tap>, mirror: Mirror) -> Rehearsal {
        let only_reads = mirror.mode == MirrorMode::Reads;
        let manner = Manner { timeout: mirror.timeout, only_reads, key: shared.shadows.taps().key };
        Rehearsal { shared, tap, mirror: Arc::new(mirror), manner }
    }

    /// Works for as long as it is polled.
    pub async fn run(self) {
        let Some(line) = self.tap.take_end() else { return };
        match self.mirror.mode {
            MirrorMode::Reads => {
                let line = Arc::new(Mutex::new(line));
                let mut workers = JoinSet::new();
                for turn in 0..self.mirror.connections {
                    workers.spawn(self.clone().reads(line.clone(), turn));
                }
                while workers.join_next().await.is_some() {}
            }
            MirrorMode::Sessions => self.sessions(line).await,
        }
    }

    /// The server to connect to: of a cluster, replicas in turn for reads, the primary for everything.
    fn target(&self, turn: usize) -> Result<Arc<Target>> {
        let gone = |what: &str| Error::internal(format!("{what} is gone"));
        let name = match &self.mirror.target {
            MirrorTarget::Backend(name) => return self.shared.pools.backend(name).ok_or_else(|| gone(name)),
            MirrorTarget::Cluster(name) => name,
        };
        let cluster = self.shared.clusters.get(name).ok_or_else(|| gone(name))?;
        let members = cluster.members();
        let replicas: Vec<_> = members.iter().filter(|m| m.state() == State::Replica).collect();
        if self.manner.only_reads && !replicas.is_empty() {
            return Ok(replicas[turn % replicas.len()].target.clone());
        }
        cluster
            .primary()
            .map(|m| m.target.clone())
            .ok_or_else(|| Error::internal("the cluster has no primary"))
    }

    /// Whether it would be connected to that server now: clusters change, and so does what the configuration has.
    fn is_meant(&self, open: &Open) -> bool {
        let is_it = |target: &Arc<Target>| Arc::ptr_eq(target, &open.target);
        let is_there = match &self.mirror.target {
            MirrorTarget::Backend(name) => self.shared.pools.backend(name).is_some_and(|t| is_it(&t)),
            MirrorTarget::Cluster(name) => self.shared.clusters.get(name).is_some_and(|cluster| {
                let (members, reads) = (cluster.members(), self.manner.only_reads);
                let mut replicas = members.iter().filter(|m| reads && m.state() == State::Replica).peekable();
                match replicas.peek() {
                    Some(_) => replicas.any(|m| is_it(&m.target)),
                    None => cluster.primary().is_some_and(|m| is_it(&m.target)),
                }
            }),
        };
        is_there && open.target.generation() == open.generation
    }

    async fn connect(&self, turn: usize) -> Result<Open> {
        let target = self.target(turn)?;
        let generation = target.generation();
        let config = self.shared.config.load_full();
        let login = config.user(&self.mirror.login).map(Login::of);
        let login = login.ok_or_else(|| Error::internal("the user who logs in is gone"))?;
        let address = Address {
            login,
            dbname: self.mirror.dbname.clone(),
            connect_timeout: self.mirror.connect_timeout,
        };
        let player = Player::open(&target, &address, self.manner).await?;
        Ok(Open { player, target, generation })
    }

    fn trouble(&self, e: &Error) {
        tracing::debug!(mirror = self.mirror.name, error = e.message.as_ref(), "not mirrored");
        self.tap.tally.trouble(format!("{} ({})", e.message, e.code));
    }

    /// One connection for reads, opened again when it is lost.
    async fn reads(self, line: Line, first: usize) {
        let (mut open, mut turn, mut failures) = (None::<Open>, first, 0);
        loop {
            let arrival = line.lock().await.recv().await;
            let Some(arrival) = arrival else { return };
            let Arrival::Exchange(exchange, _room) = arrival else { continue };
            // What has waited for long is not what the client has seen any more.
            if exchange.at.elapsed() > self.mirror.timeout {
                self.tap.tally.lost.add(1);
                continue;
            }
            open = open.filter(|open| self.is_meant(open));
            if open.is_none() {
                match self.connect(turn).await {
                    Ok(opened) => (open, failures) = (Some(opened), 0),
                    Err(e) => {
                        self.trouble(&e);
                        (turn, failures) = (turn + 1, failures + 1);
                        pause(failures).await;
                        continue;
                    }
                }
            }
            let Some(Open { player, .. }) = &mut open else { continue };
            match self.play(player, &exchange, true).await {
                Ok(()) if !player.is_busy() => {}
                Ok(()) => open = None,
                Err(e) => {
                    self.trouble(&e);
                    open = None;
                }
            }
        }
    }

    async fn play(&self, player: &mut Player, exchange: &Exchange, carries: bool) -> Result<()> {
        let script = Script {
            settings: carries.then_some(&*exchange.settings),
            statements: exchange.statements.iter().map(|d| (&*d.name, d.body())).collect(),
            requests: &exchange.requests,
        };
        let played = player.play(&script).await?;
        self.tap.tally.run.add(1);
        compared(exchange, &played, &self.tap.tally);
        Ok(())
    }

    /// Each session in a task of its own.
    async fn sessions(self, mut line: UnboundedReceiver<Arrival>) {
        let turns = Arc::new(Semaphore::new(self.mirror.connections));
        let mut followed: HashMap<u64, UnboundedSender<Arrival>> = HashMap::new();
        let mut tasks = JoinSet::new();
        while let Some(arrival) = line.recv().await {
            while tasks.try_join_next().is_some() {}
            match arrival {
                // Its task ends when it has done what it has.
                Arrival::End(session) => drop(followed.remove(&session)),
                Arrival::Exchange(exchange, room) => {
                    let session = exchange.session;
                    let own = followed.entry(session).or_insert_with(|| {
                        let (own, its) = unbounded_channel();
                        tasks.spawn(self.clone().session(its, turns.clone()));
                        own
                    });
                    let _ = own.send(Arrival::Exchange(exchange, room));
                }
            }
        }
        drop(followed);
        while tasks.join_next().await.is_some() {}
    }

    /// One session, as far as it can be followed: from where it is in no transaction, without a gap.
    async fn session(self, mut line: UnboundedReceiver<Arrival>, turns: Arc<Semaphore>) {
        let mut followed: Option<(Open, u64, OwnedSemaphorePermit)> = None;
        let mut failures = 0;
        while let Some(arrival) = line.recv().await {
            let Arrival::Exchange(exchange, _room) = arrival else { continue };
            let goes_on = |(open, next, _): &(Open, u64, _)| *next == exchange.number && self.is_meant(open);
            let in_order = followed.as_ref().is_some_and(goes_on);
            if !in_order {
                followed = None;
                let turn = turns.clone().try_acquire_owned().ok().filter(|_| exchange.fresh);
                let Some(turn) = turn else {
                    self.tap.tally.lost.add(1);
                    continue;
                };
                match self.connect(0).await {
                    Ok(open) => (followed, failures) = (Some((open, exchange.number, turn)), 0),
                    Err(e) => {
                        self.trouble(&e);
                        failures += 1;
                        pause(failures).await;
                        continue;
                    }
                }
            }
            let Some((open, next, _)) = &mut followed else { continue };
            *next += 1;
            if let Err(e) = self.play(&mut open.player, &exchange, !in_order).await {
                self.trouble(&e);
                followed = None;
            }
        }
    }
}

async fn pause(failures: usize) {
    let pause = PAUSES[failures.clamp(1, PAUSES.len()) - 1];
    tokio::time::sleep(Duration::from_millis(pause)).await;
}

/// Compares what came of an exchange with what the client was told.
fn compared(exchange: &Exchange, played: &Played, tally: &Tally) {
    let here: Vec<Here<'_>> = exchange
        .results
        .iter()
        .map(|answered| {
            let plan = answered.plan.as_ref().map(|held| &***held);
            Here {
                fingerprint: plan.map_or(0, |plan| plan.fingerprint),
                shape: plan.map_or(Shape::Unknown, Shape::Planned),
                sameness: plan.map_or(Sameness::Nothing, |plan| plan.sameness),
                outcome: answered.outcome,
            }
        })
        .collect();
    judge(&here, &played.results, exchange.took_us, played.took_us, tally);
}
