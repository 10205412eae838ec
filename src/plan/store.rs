//! Where plans are kept: found by the hash of a normal form and of whatever else decides what it means, and only taken
//! for it when the normal form is the same byte by byte.
//!
//! A worker looks into a small map of its own first, which it shares with nobody; behind that is one for all, bounded by
//! memory.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use moka::sync::Cache;

use super::{Held, Plan};
use crate::core::stats::Counter;
use crate::sql::fingerprint;
use crate::sql::shape::Shape;

/// What a text is read under: the same one may mean something else under another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Database, user, role and schema search path, as a hash under a secret key.
    pub place: u64,
    /// Generation of the database's objects.
    pub generation: u64,
}

/// Plans that a worker keeps at hand.
const AT_HAND: usize = 2048;

/// See the module.
#[derive(Debug)]
pub struct Store {
    id: AtomicU64,
    key: (u64, u64),
    plans: Cache<u128, Held>,
    /// Plans that had to be built.
    pub built: Counter,
}

thread_local! {
    static LOCAL: RefCell<Local> = RefCell::default();
}

#[derive(Default)]
struct Local {
    shape: Shape,
    /// Of which store.
    store: u64,
    plans: HashMap<u128, Held, Identity>,
}

/// The key is a hash already.
#[derive(Clone, Copy, Default)]
struct Identity;

impl std::hash::BuildHasher for Identity {
    type Hasher = Low;
    fn build_hasher(&self) -> Low {
        Low(0)
    }
}

/// The low half of a hash, as a hash.
struct Low(u64);

impl std::hash::Hasher for Low {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for (i, b) in bytes.iter().take(8).enumerate() {
            self.0 |= u64::from(*b) << (i * 8);
        }
    }
    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}

impl Store {
    /// A store that takes about this much memory at most, in bytes.
    ///
    /// # Errors
    /// The system gives no random key.
    pub fn new(max_memory: u64) -> Result<Store, getrandom::Error> {
        Ok(Store {
            id: AtomicU64::new(next_id()),
            key: (getrandom::u64()?, getrandom::u64()?),
            plans: Cache::builder().max_capacity(max_memory).weigher(|_, plan: &Held| plan.weight()).build(),
            built: Counter::default(),
        })
    }

    /// A hash of what a scope's place is made of, under this store's key.
    pub fn place(&self, parts: &[&str]) -> u64 {
        let mut all = Vec::new();
        for part in parts {
            all.extend_from_slice(part.as_bytes());
            all.push(0);
        }
        fingerprint::hash(&all, self.key) as u64
    }

    /// The plan of `text`, made by `build` if there is none.
    pub fn plan(
        &self,
        text: &[u8],
        conforming: bool,
        scope: Scope,
        build: impl FnOnce(&Shape) -> Plan,
    ) -> Held {
        LOCAL.with_borrow_mut(|local| {
            local.shape.read(text, conforming);
            let id = self.id.load(Relaxed);
            if local.store != id {
                local.plans.clear();
                local.store = id;
            }
            let hash = fingerprint::hash(
                &local.shape.normal,
                (self.key.0 ^ scope.place, self.key.1 ^ scope.generation),
            );
            let fits =
                |plan: &Held| *plan.normal == *local.shape.normal && plan.generation == scope.generation;
            if let Some(plan) = local.plans.get(&hash).filter(|plan| fits(plan)) {
                return plan.clone();
            }
            let plan = match self.plans.get(&hash).filter(fits) {
                Some(plan) => plan,
                None => {
                    self.built.add(1);
                    let plan = Arc::new(build(&local.shape));
                    self.plans.insert(hash, plan.clone());
                    plan
                }
            };
            if local.plans.len() >= AT_HAND {
                local.plans.clear();
            }
            local.plans.insert(hash, plan.clone());
            plan
        })
    }

    /// The plan of `text`, where there is one.
    pub fn find(&self, text: &[u8], conforming: bool, scope: Scope) -> Option<Held> {
        LOCAL.with_borrow_mut(|local| {
            local.shape.read(text, conforming);
            let hash = self.hash(&local.shape, scope);
            let at_hand = local.plans.get(&hash).filter(|_| local.store == self.id.load(Relaxed));
            let plan = at_hand.cloned().or_else(|| self.plans.get(&hash));
            plan.filter(|plan| *plan.normal == *local.shape.normal && plan.generation == scope.generation)
        })
    }

    /// As [`Store::plan`], on a thread that is no worker's: nothing is kept at hand there.
    pub fn plan_aside(
        &self,
        text: &[u8],
        conforming: bool,
        scope: Scope,
        build: impl FnOnce(&Shape) -> Plan,
    ) -> Held {
        let mut shape = Shape::default();
        shape.read(text, conforming);
        let hash = self.hash(&shape, scope);
        let fits = |plan: &Held| *plan.normal == *shape.normal && plan.generation == scope.generation;
        self.plans.get(&hash).filter(fits).unwrap_or_else(|| {
            self.built.add(1);
            let plan = Arc::new(build(&shape));
            self.plans.insert(hash, plan.clone());
            plan
        })
    }

    fn hash(&self, shape: &Shape, scope: Scope) -> u128 {
        fingerprint::hash(&shape.normal, (self.key.0 ^ scope.place, self.key.1 ^ scope.generation))
    }

    /// Every plan that is kept.
    pub fn all(&self) -> Vec<Held> {
        self.plans.iter().map(|(_, plan)| plan).collect()
    }

    /// How many there are, and about how much memory they take, in bytes.
    pub fn size(&self) -> (u64, u64) {
        self.plans.run_pending_tasks();
        (self.plans.entry_count(), self.plans.weighted_size())
    }

    /// Forgets all: what they were made under has changed.
    pub fn clear(&self) {
        self.plans.invalidate_all();
        // Workers see by this that what they have at hand is of another time.
        self.id.store(next_id(), Relaxed);
    }
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}
