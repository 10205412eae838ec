//! Where the statements of a session on a cluster go: reads to a replica that has seen what they must see, everything
//! else to the primary. While a replica is in use, the client's pool is the one on it; otherwise that on the primary.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::batch::Batch;
use super::run::{Client, End};
use super::shared::Shared;
use super::way::{Ask, Ways};
use crate::cluster::{Cluster, Member, Need, Use};
use crate::config::Config;
use crate::core::clock::Instant;
use crate::core::error::{Error, SqlState};
use crate::core::limits::FRAME_HEADER;
use crate::fence::{Fences, Number, Own};
use crate::plan::touch::Reach;
use crate::plan::{Class, Held};
use crate::pool::pool::Pool;
use crate::route::{Failure, Outcome};
use crate::sql::effect::Traces;
use crate::wire::frame;
use crate::wire::message::{TxStatus, cstr};

use super::names::Named;

/// A session's way about its cluster.
#[derive(Debug)]
pub struct Course {
    pub(super) cluster: Arc<Cluster>,
    fences: Arc<Fences>,
    /// The pool on the primary, as far as it was known when it was last needed.
    pub(super) home: Arc<Pool>,
    config: Arc<Config>,
    /// Where its statements may go, and what they must see.
    pub(super) ways: Ways,
    /// What the session has written that replicas may not have seen.
    own: Own,
    /// What has been written since and is not committed, as far as is known.
    written: Written,
    pub(super) reading: Option<Reading>,
    /// What comes next was refused by a replica.
    pub(super) stays_home: bool,
}

/// A replica in use.
#[derive(Debug)]
pub(super) struct Reading {
    using: Use,
    member: Arc<Member>,
    /// Requests that it is for and that have not been taken yet.
    requests: usize,
    /// Bytes of those that have been.
    pub(super) taken: usize,
    /// All of them, to be sent again; empty where that is out of the question.
    pub(super) bytes: Vec<u8>,
    /// Bytes that the client had been sent when it began.
    pub(super) sent: u64,
    /// What it did wrong.
    failure: Option<Failure>,
}

/// Tables that may have been written.
#[derive(Debug, Default)]
struct Written {
    tables: Vec<u32>,
    anything: bool,
}

/// Tables above which they are not told apart.
const MOST_TABLES: usize = 64;
/// Samples of the primary's position that are taken before what may or may not have been committed is taken for seen: a
/// server goes on with a statement whose client is lost.
const DOUBTFUL: u64 = 100;
/// Largest batch of requests that is kept to be sent again, in bytes.
const MOST_KEPT: usize = 16 * 1024;
/// Most requests of a batch that are looked at for a replica.
const MOST_REQUESTS: usize = 256;

impl Written {
    fn add(&mut self, reach: &Reach) {
        match reach {
            Reach::Tables(tables) if self.tables.len() + tables.len() <= MOST_TABLES => {
                for table in tables {
                    if !self.tables.contains(table) {
                        self.tables.push(*table);
                    }
                }
            }
            _ => self.anything = true,
        }
    }

    fn is_empty(&self) -> bool {
        !self.anything && self.tables.is_empty()
    }

    fn clear(&mut self) {
        self.tables.clear();
        self.anything = false;
    }
}

/// What a batch of requests reads.
#[derive(Debug, Default)]
struct Batched {
    requests: usize,
    len: usize,
    /// Plans of what it runs.
    plans: Vec<Held>,
    /// It prepares something under a name: it cannot be sent again.
    names: bool,
}

impl Course {
    /// For a session of `pool`, if its database is on a cluster.
    pub fn of(shared: &Shared, pool: &Arc<Pool>) -> Option<Box<Course>> {
        let config = shared.config.load_full();
        let database = config.database(&pool.purpose.database)?;
        let cluster = shared.clusters.get(database.cluster.as_ref()?)?;
        let ways = Ways::new(database.routing.clone(), shared.planner.rules());
        Some(Box::new(Course {
            fences: cluster.fences(&pool.purpose.dbname),
            cluster,
            home: pool.clone(),
            config,
            ways,
            own: Own::default(),
            written: Written::default(),
            reading: None,
            stays_home: false,
        }))
    }

    /// What the configuration says now.
    fn renew(&mut self, shared: &Shared) {
        let now = shared.config.load();
        if Arc::ptr_eq(&now, &self.config) {
            return;
        }
        self.config = now.clone();
        if let Some(database) = self.config.database(&self.home.purpose.database) {
            self.ways.renew(database.routing.clone());
        }
    }

    /// The session's own fence of what is read.
    pub(super) fn own_fence(&self, reach: &Reach) -> Number {
        match reach {
            Reach::Tables(tables) => self.own.fence(tables.iter().copied()),
            Reach::Anything => self.own.highest(),
        }
    }

    /// Everybody's fence of what is read.
    pub(super) fn fence_of(&self, reach: &Reach) -> Number {
        match reach {
            Reach::Tables(tables) => self.fences.fence(tables.iter().copied()),
            Reach::Anything => self.fences.highest(),
        }
    }

    /// Fences what has been written. `later` where the server may not have committed it yet, and may still do so.
    fn fence(&mut self, later: u64) {
        let now = self.cluster.clock.now().saturating_add(later);
        if self.written.anything {
            self.own.mark_all(now);
            self.fences.mark_all(now);
        } else {
            self.own.mark(self.written.tables.iter().copied(), now);
            self.fences.mark(self.written.tables.iter().copied(), now);
        }
    }

    /// Whether the replica in use is not for the next request.
    #[inline]
    pub fn is_beyond(&self) -> bool {
        self.reading.as_ref().is_some_and(|reading| reading.requests == 0)
    }
}

impl Client {
    /// Notes that a statement has been sent that may write. Without a plan it may write anything.
    #[inline]
    pub fn will_write(&mut self, plan: Option<&Held>) {
        let Some(course) = &mut self.course else { return };
        match plan {
            Some(plan) if plan.touches.writes.is_nothing() => {}
            Some(plan) => course.written.add(&plan.touches.writes),
            None => course.written.anything = true,
        }
    }

    /// Notes that what has been written may have been committed by now (invariant 9): `over` where it has been, or
    /// never will be.
    #[inline]
    pub fn fence_written(&mut self, over: bool) {
        let Some(course) = self.course.as_mut().filter(|c| !c.written.is_empty()) else { return };
        course.fence(0);
        if over {
            course.written.clear();
            let passed = course.cluster.least_passed();
            course.own.forget(passed);
        }
    }

    /// The same where nobody knows, nor for how long.
    pub fn fence_doubtful(&mut self) {
        if let Some(course) = self.course.as_mut().filter(|c| !c.written.is_empty()) {
            course.fence(DOUBTFUL);
        }
    }

    /// Resolves when it is no use to wait any longer for a connection to the server that was chosen. `None` where that
    /// is the only one.
    pub(super) fn chosen_is_lost(&self) -> Option<BoxFuture<'static, ()>> {
        let course = self.course.as_ref()?;
        let cluster = course.cluster.clone();
        Some(match &course.reading {
            Some(reading) => {
                let member = reading.member.clone();
                Box::pin(async move { cluster.loses_reader(&member).await })
            }
            None => {
                let target = course.home.target.clone();
                Box::pin(async move { cluster.moves_from(&target).await })
            }
        })
    }

    /// A request has been taken.
    #[inline]
    pub fn took_request(&mut self, len: usize) {
        if let Some(reading) = self.course.as_mut().and_then(|c| c.reading.as_mut()) {
            reading.requests = reading.requests.saturating_sub(1);
            reading.taken += len;
        }
    }

    /// The server in use has answered with this error.
    pub fn note_failure(&mut self, code: SqlState) {
        if let Some(reading) = self.course.as_mut().and_then(|c| c.reading.as_mut()) {
            reading.failure = reading.failure.or(Failure::of(code));
        }
    }

    /// The replica in use is done with, and went like this. False where none was in use.
    pub fn come_home(&mut self, outcome: Option<Outcome>) -> bool {
        let Some(course) = &mut self.course else { return false };
        let Some(reading) = course.reading.take() else { return false };
        course.stays_home = outcome.is_some();
        match outcome.or(reading.failure.map(Outcome::Failed)) {
            Some(outcome) => reading.using.end(outcome, Instant::now()),
            None => reading.using.answered(Instant::now()),
        }
        self.pool = course.home.clone();
        true
    }
}

/// Where to.
enum Aim {
    /// The client's pool is right.
    Here,
    /// A primary, which there is none of.
    Primary,
    /// A replica that has seen this, which there is none of.
    Replica(Box<Ask>, Batched),
}

impl Batch<'_> {
    /// Chooses the server for the requests at hand.
    pub(super) async fn aim(&mut self) -> Result<(), End> {
        if self.client.course.is_none() {
            return Ok(());
        }
        match self.aim_now() {
            Aim::Here => Ok(()),
            // Boxed: rare.
            Aim::Primary => Box::pin(self.await_primary()).await,
            Aim::Replica(ask, batched) => Box::pin(self.await_replica(*ask, batched)).await,
        }
    }

    fn aim_now(&mut self) -> Aim {
        let batched = self.reads();
        let Some(course) = &mut self.client.course else { return Aim::Here };
        course.renew(&self.client.shared);
        let stays = std::mem::take(&mut course.stays_home);
        self.client.settle_ways();
        if let Some((batched, ask)) = batched.filter(|_| !stays).and_then(|batched| self.client.ask(batched))
        {
            if self.read_from_replica(&ask.need, &batched) {
                return Aim::Here;
            }
            if !ask.routing.replica_wait.is_zero() || !ask.routing.fallback_to_primary {
                return Aim::Replica(Box::new(ask), batched);
            }
        }
        self.aim_at_primary()
    }

    /// Takes the best of the replicas that have seen enough.
    fn read_from_replica(&mut self, need: &Need, batched: &Batched) -> bool {
        let now = self.begun.unwrap_or_else(Instant::now);
        let Some(course) = &mut self.client.course else { return false };
        let Some(member) = course.cluster.choose_reader(need, now) else { return false };
        let Some(pool) = self.client.shared.pools.sibling(&course.config, &course.home, &member.target)
        else {
            return false;
        };
        let again = !batched.names && batched.len <= MOST_KEPT;
        let bytes = if again { self.flow.up.window()[..batched.len].to_vec() } else { Vec::new() };
        let (using, sent) = (member.begin(now), self.flow.down.sent());
        course.reading =
            Some(Reading { using, member, requests: batched.requests, taken: 0, bytes, sent, failure: None });
        self.client.pool = pool;
        true
    }

    fn aim_at_primary(&mut self) -> Aim {
        let client = &mut *self.client;
        let Some(course) = &mut client.course else { return Aim::Here };
        let Some(primary) = course.cluster.primary() else {
            return if course.cluster.is_blind() { Aim::Here } else { Aim::Primary };
        };
        if !Arc::ptr_eq(&primary.target, &course.home.target)
            && let Some(pool) = client.shared.pools.sibling(&course.config, &course.home, &primary.target)
        {
            course.home = pool.clone();
            client.pool = pool;
        }
        Aim::Here
    }

    async fn await_primary(&mut self) -> Result<(), End> {
        let Some(course) = &self.client.course else { return Ok(()) };
        let (cluster, wait) = (course.cluster.clone(), course.cluster.settings().config.failover_wait);
        let deadline = self.begun.unwrap_or_else(Instant::now) + wait;
        self.wait_for(cluster.await_primary(deadline)).await?;
        match self.aim_at_primary() {
            Aim::Primary => {
                let text = format!("cluster \"{}\" has no primary", cluster.name());
                let error = Error::statement(SqlState::CANNOT_CONNECT_NOW, text)
                    .detail(format!("The statement has waited for failover_wait, {} s.", wait.as_secs()))
                    .hint("SHOW BACKENDS in the admin database tells what is known of each server.");
                Err(End::from(error))
            }
            _ => Ok(()),
        }
    }

    async fn await_replica(&mut self, ask: Ask, batched: Batched) -> Result<(), End> {
        let Some(course) = &self.client.course else { return Ok(()) };
        let (cluster, Ask { need, routing }) = (course.cluster.clone(), ask);
        let deadline = Instant::now() + routing.replica_wait;
        self.wait_for(cluster.await_reader(&need, deadline)).await?;
        if self.read_from_replica(&need, &batched) {
            return Ok(());
        }
        if routing.fallback_to_primary {
            return match self.aim_at_primary() {
                Aim::Primary => self.await_primary().await,
                _ => Ok(()),
            };
        }
        let reasons: Vec<String> = cluster
            .explain_reader(&need)
            .into_iter()
            .filter_map(|(member, may)| Some(format!("{}: {}", member.name(), may.err()?)))
            .collect();
        let error = Error::statement(SqlState::CANNOT_CONNECT_NOW, "no replica may serve this read")
            .detail(reasons.join("; "))
            .hint(
                "Allow it on the primary with fallback_to_primary, or give replicas time with replica_wait.",
            );
        Err(End::from(error))
    }

    /// What the requests at hand read, up to the first that ends a transaction of its own, if that is all they do and
    /// all of them are here.
    fn reads(&mut self) -> Option<Batched> {
        if self.client.what_binds().is_some() || self.echoed || !self.flow.expected.is_empty() {
            return None;
        }
        let (mut batched, mut unnamed) = (Batched::default(), None);
        loop {
            let rest = self.flow.up.window().get(batched.len..)?;
            let header = frame::client(rest, self.client.max_message).ok()??;
            let body = rest.get(FRAME_HEADER..header.len)?;
            let end = match header.kind {
                b'Q' if batched.requests == 0 => {
                    let text = body.strip_suffix(b"\0").unwrap_or(body);
                    let plan = self.client.plan(text);
                    batched.run(plan)?;
                    true
                }
                b'P' => {
                    let (name, rest) = cstr(body)?;
                    let (text, _) = cstr(rest)?;
                    if !name.is_empty() {
                        return None;
                    }
                    unnamed = Some(self.client.plan(text));
                    false
                }
                b'B' => {
                    let (_, rest) = cstr(body)?;
                    let (name, _) = cstr(rest)?;
                    let plan = match &unnamed {
                        Some(plan) if name.is_empty() => plan.clone(),
                        _ => self.client.plan_named(name)?,
                    };
                    batched.run(plan)?;
                    false
                }
                b'D' | b'E' | b'C' => false,
                b'S' => true,
                _ => return None,
            };
            batched.len += header.len;
            batched.requests += 1;
            if end {
                return (!batched.plans.is_empty()).then_some(batched);
            }
            if batched.requests >= MOST_REQUESTS {
                return None;
            }
        }
    }
}

impl Batched {
    fn run(&mut self, plan: Held) -> Option<()> {
        let reads = plan.class == Class::Read && plan.explains.is_none() && !plan.uses.is_of_primary();
        reads.then(|| self.plans.push(plan))
    }
}

impl Client {
    /// Who is asked for these reads; `None` where that is the primary.
    fn ask(&self, batched: Batched) -> Option<(Batched, Ask)> {
        let course = self.course.as_ref()?;
        course.count(&batched.plans);
        course.ask(&batched.plans).map(|ask| (batched, ask))
    }

    /// What keeps it on the server that it has, or on the primary, whatever it asks.
    pub(super) fn what_binds(&self) -> Option<&'static str> {
        const ISOLATION: &str = "default_transaction_isolation";
        let isolation = self.settings.get(ISOLATION).or_else(|| self.wish.class.get(ISOLATION));
        if self.status != TxStatus::Idle {
            Some("its transaction is open there")
        } else if !self.pins.is_empty() || self.serial {
            Some("its session keeps state there")
        } else if self.doubts.is_some() || self.blurred {
            Some("it is not known yet what its session has changed")
        } else if isolation.is_some_and(|level| level.eq_ignore_ascii_case("serializable")) {
            Some("replicas have no serializable transactions")
        } else {
            None
        }
    }

    /// The plan of a statement that it has prepared.
    fn plan_named(&mut self, name: &[u8]) -> Option<Held> {
        if name.is_empty() {
            let unnamed = self.names.unnamed.as_ref()?;
            return if unnamed.pins.without(Traces::HINTS).is_empty() { self.unnamed_plan() } else { None };
        }
        match self.names.get(name)?.clone() {
            Named::Shared(_, Some(plan)) if self.is_current(&plan) => Some(plan),
            Named::Shared(statement, _) => self.plan_of(&statement.body),
            _ => None,
        }
    }
}
