//! Where plans are kept: found by the hash of a normal form and of whatever else decides what it means, and only taken
//! for it when the normal form is the same byte by byte.
//!
//! A worker looks into what it has at hand first, which it shares with nobody: texts that it has read, whose twins need
//! not be read at all, then plans by hash. Behind that is one store for all, bounded by memory.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};

use moka::sync::Cache;

use super::{Held, Hold, Plan};
use crate::core::hashed::Hashed;
use crate::core::stats::{Counter, Striped};
use crate::sql::fingerprint;
use crate::sql::shape::Shape;
use crate::sql::twin::Model;

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
    /// Of the rules that plans are made under ([`super::rules::Rules::serial`]).
    serial: AtomicU64,
    key: (u64, u64),
    plans: Cache<u128, Arc<Plan>>,
    /// Plans that had to be built.
    pub built: Counter,
    /// Times that a plan was looked for.
    pub lookups: Striped,
}

thread_local! {
    static LOCAL: RefCell<Local> = RefCell::default();
}

#[derive(Default)]
struct Local {
    shape: Shape,
    /// Of which store: two have never the same rules.
    serial: u64,
    plans: HashMap<u128, Held, Hashed>,
    texts: Texts,
}

impl Local {
    fn begin(&mut self, serial: u64) {
        if self.serial != serial {
            self.plans.clear();
            self.texts.kept.clear();
            self.serial = serial;
        }
    }
}

/// Texts that have been read, in sets of those that begin alike.
#[derive(Default)]
struct Texts {
    kept: Vec<Option<Text>>,
    missed: usize,
}

/// A text that has been read, and under what.
struct Text {
    place: u64,
    model: Model,
    plan: Held,
}

const SETS: usize = 64;
const WAYS: usize = 4;
/// How much of a text says which set it belongs to.
const LEADING: usize = 24;
/// Of so many texts that have no place, one is kept in place of another: who sends more kinds than there is room for
/// should not pay much for that.
const PATIENCE: usize = 4;

impl Texts {
    /// Which set a text belongs to. Nothing but speed depends on it.
    #[inline]
    fn set(text: &[u8]) -> usize {
        let mix =
            |sum: u64, word: [u8; 8]| (sum ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (words, rest) = text[..text.len().min(LEADING)].as_chunks::<8>();
        let sum = words.iter().fold(rest.len() as u64, |sum, word| mix(sum, *word));
        let mut last = [0; 8];
        for (to, byte) in last.iter_mut().zip(rest) {
            *to = *byte;
        }
        (mix(sum, last) >> 32) as usize % SETS * WAYS
    }

    /// The plan of a text's twin.
    #[inline]
    fn find(&self, text: &[u8], conforming: bool, scope: Scope, serial: u64) -> Option<&Held> {
        let set = Self::set(text);
        let fits = |kept: &&Text| {
            kept.plan.generation == scope.generation
                && kept.place == scope.place
                && kept.plan.serial == serial
                && kept.model.is_twin(text, conforming)
        };
        self.kept.get(set..set + WAYS)?.iter().flatten().find(fits).map(|kept| &kept.plan)
    }

    fn keep(&mut self, text: &[u8], shape: &Shape, conforming: bool, place: u64, plan: &Held) {
        self.kept.resize_with(SETS * WAYS, || None);
        let set = Self::set(text);
        let set = &mut self.kept[set..set + WAYS];
        let stale = |kept: &Option<Text>| {
            kept.as_ref().is_none_or(|k| k.place == place && k.plan.generation != plan.generation)
        };
        let free = set.iter().position(stale);
        self.missed += usize::from(free.is_none());
        let due = self.missed.is_multiple_of(PATIENCE).then_some(self.missed / PATIENCE % WAYS);
        if let Some(way) = free.or(due)
            && let Some(model) = Model::new(text, shape, conforming)
        {
            set[way] = Some(Text { place, model, plan: plan.clone() });
        }
    }
}

impl Store {
    /// A store that takes about this much memory at most, in bytes, for plans under the rules of that serial.
    ///
    /// # Errors
    /// The system gives no random key.
    pub fn new(max_memory: u64, serial: u64) -> Result<Store, getrandom::Error> {
        Ok(Store {
            serial: AtomicU64::new(serial),
            key: (getrandom::u64()?, getrandom::u64()?),
            plans: Cache::builder()
                .max_capacity(max_memory)
                .weigher(|_, plan: &Arc<Plan>| plan.weight())
                .build(),
            built: Counter::default(),
            lookups: Striped::default(),
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
        self.lookups.count();
        LOCAL.with_borrow_mut(|local| {
            local.begin(self.serial());
            if let Some(plan) = local.texts.find(text, conforming, scope, local.serial) {
                return plan.clone();
            }
            local.shape.read(text, conforming);
            let plan = self.plan_of_shape(local, scope, build);
            local.texts.keep(text, &local.shape, conforming, scope.place, &plan);
            plan
        })
    }

    fn plan_of_shape(&self, local: &mut Local, scope: Scope, build: impl FnOnce(&Shape) -> Plan) -> Held {
        let hash = self.hash(&local.shape, scope);
        let serial = local.serial;
        let fits = |plan: &Plan| fits(plan, &local.shape, scope, serial);
        if let Some(plan) = local.plans.get(&hash).filter(|plan| fits(plan)) {
            return plan.clone();
        }
        let plan = match self.plans.get(&hash).filter(|plan| fits(plan)) {
            Some(plan) => plan,
            None => self.keep(hash, build(&local.shape), fits),
        };
        let plan = Hold::new(plan);
        if local.plans.len() >= AT_HAND {
            local.plans.clear();
        }
        local.plans.insert(hash, plan.clone());
        plan
    }

    /// The plan of `text`, where there is one.
    pub fn find(&self, text: &[u8], conforming: bool, scope: Scope) -> Option<Held> {
        LOCAL.with_borrow_mut(|local| {
            let serial = self.serial();
            local.begin(serial);
            local.shape.read(text, conforming);
            let hash = self.hash(&local.shape, scope);
            let plan = local.plans.get(&hash).cloned();
            let plan = plan.or_else(|| self.plans.get(&hash).map(Hold::new));
            plan.filter(|plan| fits(plan, &local.shape, scope, serial))
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
        let serial = self.serial();
        let fits = |plan: &Plan| fits(plan, &shape, scope, serial);
        let known = self.plans.get(&hash).filter(|plan| fits(plan));
        Hold::new(known.unwrap_or_else(|| self.keep(hash, build(&shape), fits)))
    }

    /// Keeps a plan that has been built, unless another worker has built the same meanwhile: then that is the one, or what
    /// is counted by it would be counted twice, and shown once.
    fn keep(&self, hash: u128, plan: Plan, fits: impl Fn(&Plan) -> bool) -> Arc<Plan> {
        self.built.add(1);
        self.plans.entry(hash).or_insert_with_if(|| Arc::new(plan), |known| !fits(known)).into_value()
    }

    fn hash(&self, shape: &Shape, scope: Scope) -> u128 {
        fingerprint::hash(&shape.normal, (self.key.0 ^ scope.place, self.key.1 ^ scope.generation))
    }

    /// Every plan that is kept.
    pub fn all(&self) -> Vec<Arc<Plan>> {
        self.plans.iter().map(|(_, plan)| plan).collect()
    }

    /// How many there are, and about how much memory they take, in bytes.
    pub fn size(&self) -> (u64, u64) {
        self.plans.run_pending_tasks();
        (self.plans.entry_count(), self.plans.weighted_size())
    }

    /// The rules that plans are made under now.
    #[inline]
    pub fn serial(&self) -> u64 {
        self.serial.load(Acquire)
    }

    /// Forgets all: what they were made under has changed to the rules of that serial.
    pub fn renew(&self, serial: u64) {
        // Workers see by this that what they have at hand is of another time.
        self.serial.store(serial, Release);
        self.plans.invalidate_all();
    }
}

/// Whether a plan is of this shape and of now.
#[inline]
fn fits(plan: &Plan, shape: &Shape, scope: Scope, serial: u64) -> bool {
    *plan.normal == *shape.normal && plan.generation == scope.generation && plan.serial == serial
}
