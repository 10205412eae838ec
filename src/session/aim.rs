//! Chooses the server for the requests at hand: a replica that has seen what they must see, or the primary.

use std::sync::Arc;

use super::batch::Batch;
use super::batched::Batched;
use super::opening::{Begun, DEFAULT_ISOLATION};
use super::reading::Transaction;
use super::run::{Client, End};
use super::way::Ask;
use crate::cluster::Decision;
use crate::config::Transactions;
use crate::core::clock::Instant;
use crate::core::error::{Error, SqlState};
use crate::plan::Tie;
use crate::pool::term;
use crate::sql::transaction::Isolation;
use crate::wire::message::TxStatus;

/// Where to.
pub(super) enum Aim {
    /// The client's pool is right.
    Here,
    /// A primary, which there is none of.
    Primary,
    /// A replica, which there is none of.
    Replica(Box<Wanted>),
}

/// A replica that has seen this, for these requests.
pub(super) struct Wanted {
    ask: Ask,
    batched: Batched,
    transaction: Option<Transaction>,
}

impl Batch<'_> {
    /// Waits for the server that was chosen, where there is none.
    pub(super) async fn take_aim(&mut self, aim: Aim) -> Result<(), End> {
        match aim {
            Aim::Here => Ok(()),
            Aim::Primary => self.await_primary().await,
            Aim::Replica(wanted) => self.await_replica(*wanted).await,
        }
    }

    /// Chooses the server for the requests at hand.
    pub(super) fn aim(&mut self) -> Aim {
        let free = self.client.what_binds().is_none() && !self.echoed && self.flow.expected.is_empty();
        let batched = if free { self.batched() } else { None };
        let Some(course) = &mut self.client.course else { return Aim::Here };
        course.renew(&self.client.shared);
        let stays = std::mem::take(&mut course.stays_home);
        course.at_home.forget();
        self.client.settle_ways();
        let why = match &batched {
            _ if stays => Decision::Again,
            _ if !free => Decision::Bound,
            Some(batched) => self.client.why_primary(batched),
            None => Decision::Write,
        };
        let Some(batched) = batched else { return self.aim_home(why) };
        if !stays && let Some((ask, transaction)) = self.client.may_read_from_replica(&batched) {
            let Err(transaction) = self.read_from_replica(&ask.need, &batched, transaction) else {
                self.client.count_decision(Decision::Replica);
                return Aim::Here;
            };
            if !ask.routing.replica_wait.is_zero() || !ask.routing.fallback_to_primary {
                return Aim::Replica(Box::new(Wanted { ask, batched, transaction }));
            }
            self.keep_at_home(&batched);
            return self.aim_home(Decision::Behind);
        }
        self.keep_at_home(&batched);
        self.aim_home(why)
    }

    fn aim_home(&mut self, why: Decision) -> Aim {
        self.client.count_decision(why);
        self.aim_at_primary()
    }

    fn aim_at_primary(&mut self) -> Aim {
        let client = &mut *self.client;
        let Some(course) = &mut client.course else { return Aim::Here };
        client.wish.term = term::NONE;
        let Some((primary, term)) = course.cluster.leader() else {
            return if course.cluster.is_blind() { Aim::Here } else { Aim::Primary };
        };
        client.wish.term = term;
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

    async fn await_replica(&mut self, wanted: Wanted) -> Result<(), End> {
        let Wanted { ask: Ask { need, routing }, batched, transaction } = wanted;
        let Some(course) = &self.client.course else { return Ok(()) };
        let cluster = course.cluster.clone();
        let deadline = Instant::now() + routing.replica_wait;
        self.wait_for(cluster.await_reader(&need, deadline)).await?;
        if self.read_from_replica(&need, &batched, transaction).is_ok() {
            self.client.count_decision(Decision::Waited);
            return Ok(());
        }
        let falls_back = routing.fallback_to_primary;
        self.client.count_decision(if falls_back { Decision::Behind } else { Decision::Refused });
        if falls_back {
            self.keep_at_home(&batched);
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
}

impl Client {
    fn count_decision(&self, decision: Decision) {
        if let Some(course) = &self.course {
            course.cluster.decided.count(decision);
        }
    }

    /// Why a batch is the primary's, if it is.
    fn why_primary(&self, batched: &Batched) -> Decision {
        let begun = batched.begins.is_some() || self.course.as_ref().is_some_and(|c| c.unopened.is_some());
        match (batched.is_reads(), begun) {
            (_, true) => Decision::Transaction,
            (true, false) => Decision::Directed,
            (false, false) => Decision::Write,
        }
    }

    /// What keeps it on the server that it has, or on the primary, whatever it asks.
    pub(super) fn what_binds(&self) -> Option<&'static str> {
        if self.status != TxStatus::Idle { Some("its transaction is open there") } else { self.what_ties() }
    }

    /// The same, of what lasts for longer than a transaction.
    pub(super) fn what_ties(&self) -> Option<&'static str> {
        let isolation =
            self.settings.get(DEFAULT_ISOLATION).or_else(|| self.wish.class.get(DEFAULT_ISOLATION));
        if !self.pins.is_empty() || self.serial {
            Some("its session keeps state there")
        } else if self.doubts.is_some() || self.blurred {
            Some("it is not known yet what its session has changed")
        } else if isolation.is_some_and(|level| level.eq_ignore_ascii_case("serializable")) {
            Some("replicas have no serializable transactions")
        } else {
            None
        }
    }

    /// What a replica must have seen to serve a batch, and the transaction that it is part of; `None` where that is for
    /// the primary.
    fn may_read_from_replica(&self, batched: &Batched) -> Option<(Ask, Option<Transaction>)> {
        let course = self.course.as_ref()?;
        course.count(&batched.plans);
        let (begun, is_older) = match (&course.unopened, batched.begins) {
            (None, None) if batched.is_reads() => return Some((course.ask(&batched.plans)?, None)),
            (None, None) => return None,
            (None, Some(modes)) => (Begun::of(modes), false),
            (Some(unopened), None) if !unopened.has_failed() => (unopened.begun.clone(), true),
            (Some(_), _) => return None,
        };
        let modes = self.all_modes(begun.modes);
        let only_reads = modes.read_only == Some(true);
        let by_statement = modes.isolation == Some(Isolation::ReadCommitted);
        let ask = course.ask(&batched.plans)?;
        let optimistic = ask.routing.transactions == Transactions::Optimistic && !batched.plans.is_empty();
        let (ask, is_movable) = match (batched.tie, modes.isolation) {
            (Tie::Primary, _) | (_, Some(Isolation::Serializable)) => return None,
            (Tie::Free, _) if by_statement && (only_reads || optimistic) => (ask, true),
            // What it sees from now on, it sees at once.
            _ if only_reads => (course.ask_for_good(&batched.plans, by_statement)?, false),
            _ => return None,
        };
        let is_known = modes.isolation.is_some();
        Some((ask, Some(Transaction { begun, is_older, is_movable, only_reads, is_known })))
    }
}
