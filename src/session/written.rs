//! What a session has written and is not committed, as far as is known: by tables, while they are few.
//!
//! A database or tenant that names a backend is on no cluster, and stays there; but where that backend is a member of one,
//! what it writes is read by others on that cluster's replicas. So it is fenced there as well.

use super::run::Client;
use crate::cluster::State;
use crate::fence::{Fences, Number};
use crate::plan::Held;
use crate::plan::touch::Reach;

/// Tables above which they are not told apart.
const MOST_TABLES: usize = 64;

/// Tables that may have been written.
#[derive(Debug, Default)]
pub struct Written {
    pub(super) tables: Vec<u32>,
    pub(super) anything: bool,
}

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

    /// A statement may write. Without a plan it may write anything.
    pub(super) fn note(&mut self, plan: Option<&Held>) {
        match plan {
            Some(plan) if plan.writes().is_nothing() => {}
            Some(plan) => self.add(plan.writes()),
            None => self.anything = true,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.anything && self.tables.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.tables.clear();
        self.anything = false;
    }

    /// Fences all of it.
    pub(super) fn mark(&self, fences: &Fences, now: Number) {
        if self.anything {
            fences.mark_all(now);
        } else {
            fences.mark(self.tables.iter().copied(), now);
        }
    }
}

impl Client {
    /// Notes what may be written by a session that is not on a cluster, where its server is in one.
    pub(super) fn will_write_beside(&mut self, plan: Option<&Held>) {
        let reads = plan.is_some_and(|plan| plan.writes().is_nothing());
        if !reads && self.pool.target.terms.is_member() {
            self.beside.get_or_insert_default().note(plan);
        }
    }

    /// Fences it for those who are.
    pub(super) fn fence_beside(&mut self, later: u64, over: bool) {
        let Some(written) = self.beside.as_mut().filter(|written| !written.is_empty()) else { return };
        let target = &self.pool.target;
        for cluster in self.shared.clusters.all().iter() {
            // What replicas are asked writes nothing.
            let writes = cluster.member_of(target).is_some_and(|member| member.state() != State::Replica);
            // Who comes later reads what is there by then.
            if writes && let Some(fences) = cluster.known_fences(&self.pool.purpose.dbname) {
                written.mark(&fences, cluster.clock.now().saturating_add(later));
            }
        }
        if over {
            written.clear();
        }
    }
}
