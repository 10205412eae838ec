//! Where the statements of a session on a cluster go: reads to a replica that has seen what they must see, everything
//! else to the primary. While a replica is in use, the client's pool is the one on it; otherwise that on the primary.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::kept::Kept;
use super::opening::{Begun, Unopened};
use super::reading::Reading;
use super::run::Client;
use super::shared::Shared;
use super::way::Ways;
use crate::cluster::{Cluster, Member};
use crate::config::Config;
use crate::fence::versions::{Row, Versions};
use crate::fence::{Fences, Number, Own};
use crate::plan::Held;
use crate::plan::touch::Reach;
use crate::pool::pool::Pool;
use crate::pool::term;

/// A session's way about its cluster.
#[derive(Debug)]
pub struct Course {
    pub(super) cluster: Arc<Cluster>,
    fences: Arc<Fences>,
    /// Who is about to write what, if this process keeps results.
    pub(super) versions: Option<Arc<Versions>>,
    /// The pool on the primary, as far as it was known when it was last needed.
    pub(super) home: Arc<Pool>,
    /// Pools on replicas that it has used under this configuration.
    away: Vec<Arc<Pool>>,
    pub(super) config: Arc<Config>,
    /// Where its statements may go, and what they must see.
    pub(super) ways: Ways,
    /// What the session has written that replicas may not have seen.
    own: Own,
    /// What has been written since and is not committed, as far as is known.
    written: Written,
    pub(super) reading: Option<Reading>,
    /// What the primary is asked that may be asked again.
    pub(super) at_home: Kept,
    /// Times that this has been.
    pub(super) tries: u32,
    /// A connection was lost over it: others that were opened before may be as dead.
    pub(super) wants_fresh: bool,
    /// Room for the next batch that is kept.
    pub(super) spare: Kept,
    /// A transaction that the client has begun and no server knows of.
    pub(super) unopened: Option<Unopened>,
    /// The server in use is being told of a transaction.
    pub(super) opening: Option<Begun>,
    /// What comes next was refused by a replica.
    pub(super) stays_home: bool,
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

impl Course {
    /// For a session of `pool`, if its database is on a cluster.
    pub fn of(shared: &Shared, pool: &Arc<Pool>) -> Option<Box<Course>> {
        let config = shared.config.load_full();
        let home = config.home(config.database(&pool.purpose.database)?, pool.purpose.tenant.as_deref());
        let cluster = shared.clusters.get(home.cluster?)?;
        let ways = Ways::new(home.routing.clone(), shared.planner.rules());
        Some(Box::new(Course {
            fences: cluster.fences(&pool.purpose.dbname),
            versions: shared.cache.as_ref().map(|cache| cache.versions.of(&pool.purpose.dbname)),
            cluster,
            home: pool.clone(),
            away: Vec::new(),
            config,
            ways,
            own: Own::default(),
            written: Written::default(),
            reading: None,
            at_home: Kept::default(),
            tries: 0,
            wants_fresh: false,
            spare: Kept::default(),
            unopened: None,
            opening: None,
            stays_home: false,
        }))
    }

    /// Whether nothing of what came before has a say in where the next request goes, or what becomes of it.
    #[inline]
    pub(super) fn is_clear(&self) -> bool {
        let begun = self.unopened.is_some() || self.opening.is_some() || !self.written.is_empty();
        !(begun || self.stays_home) && self.reading.is_none()
    }

    /// What was kept is not needed any more.
    pub(super) fn spare(&mut self, kept: Kept) {
        self.spare = kept.room();
    }

    /// What was asked has been answered: it is not asked again.
    #[inline]
    pub(super) fn settled(&mut self) {
        (self.tries, self.wants_fresh) = (0, false);
        self.at_home.forget();
        if let Some(reading) = &mut self.reading {
            reading.kept.forget();
        }
    }

    /// What the configuration says now.
    pub(super) fn renew(&mut self, shared: &Shared) {
        let now = shared.config.load();
        if Arc::ptr_eq(&now, &self.config) {
            return;
        }
        self.config = now.clone();
        self.away = Vec::new();
        if let Some(database) = self.config.database(&self.home.purpose.database) {
            let tenant = self.home.purpose.tenant.as_deref();
            self.ways.renew(self.config.home(database, tenant).routing.clone());
        }
    }

    /// The session's pool on a replica.
    pub(super) fn pool_on(&mut self, shared: &Shared, member: &Member) -> Option<Arc<Pool>> {
        if let Some(known) = self.away.iter().find(|pool| Arc::ptr_eq(&pool.target, &member.target)) {
            return Some(known.clone());
        }
        let pool = shared.pools.sibling(&self.config, &self.home, &member.target)?;
        // Those of members that are gone go with their configuration.
        self.away.push(pool.clone());
        Some(pool)
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
}

impl Client {
    /// Notes that a statement has been sent that may write. Without a plan it may write anything.
    #[inline]
    pub fn will_write(&mut self, plan: Option<&Held>) {
        self.will_write_row(plan, None);
    }

    /// The same of one that writes this row alone, where its plan says that it writes one.
    #[inline]
    pub(super) fn will_write_row(&mut self, plan: Option<&Held>, row: Option<Row>) {
        if self.caching.is_some() {
            self.mark_written(plan, row);
        }
        let Some(course) = &mut self.course else { return };
        // A transaction that has begun on a replica writes nothing, whatever becomes of that.
        if course.reading.as_ref().is_some_and(|r| r.transaction.is_some()) {
            return;
        }
        match plan {
            Some(plan) if plan.writes().is_nothing() => {}
            Some(plan) => course.written.add(plan.writes()),
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
                let (target, term) = (course.home.target.clone(), self.wish.term);
                if term == term::NONE {
                    return None;
                }
                Box::pin(async move { cluster.moves_from(&target, term).await })
            }
        })
    }
}
