//! A primary and its replicas as one thing: who is which, how far each replica is, and who serves a read.
//!
//! Probes ask each member what it is and how far it has come ([`probe`]); [`election`] decides from that who is the
//! primary, and the rest is written into a few atomics that sessions read ([`choose`], [`wait`]). Two clusters share
//! nothing. Nothing here knows of statements or sessions: what a read must have seen comes as a number ([`crate::fence`]).
//!
//! Probes log in as any role may. A role that is a member of `pg_monitor` also sees the timeline that a replica receives
//! from; others learn of a replica's new timeline only when it shows in its control file, minutes after a promotion at
//! worst, and until then it takes no reads.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::config::{self, Config};
use crate::core::stats::Counter;
use crate::fence::{Clock, Fences, Number};
use crate::pool::Pools;
use crate::pool::connect::Target;
use crate::pool::driver::Login;
use crate::pool::term::{self, Term};
use crate::route::locality::Place;

pub mod ask;
pub mod choose;
pub mod decided;
pub mod election;
pub mod member;
mod observe;
pub mod probe;
mod registry;
mod rows;
mod settings;
mod state;
mod wait;

pub use choose::{Need, Refusal};
pub use decided::Decision;
pub use election::State;
pub use member::{Member, Use};
pub use registry::Clusters;
pub use rows::{FenceRow, MemberRow};

/// Databases whose fences are kept though nobody uses them.
const MAX_FENCES: usize = 256;

/// What holds for a cluster now.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its section of the configuration.
    pub config: config::Cluster,
    /// Where we are ourselves.
    own: Place,
    /// As whom probes may log in, in order.
    logins: Vec<Login>,
    /// Database that they log in to.
    dbname: String,
}

/// See the module.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    settings: ArcSwap<Settings>,
    members: ArcSwap<Vec<Arc<Member>>>,
    primary: ArcSwapOption<Member>,
    /// Numbers of samples of the primary's position.
    pub clock: Clock,
    fences: Mutex<HashMap<String, Arc<Fences>>>,
    /// What probes keep among them.
    table: Mutex<observe::Table>,
    /// The primary has changed.
    elected: Notify,
    /// A probe has come back.
    moved: Notify,
    /// Reads that wait for a replica.
    waiting: AtomicUsize,
    /// For the round robin.
    turn: AtomicUsize,
    seed: AtomicU64,
    /// For who keeps the tasks.
    changed: Arc<Notify>,
    /// Times that another member has become the primary.
    pub promotions: Counter,
    /// Times that two primaries could not be told apart.
    pub conflicts: Counter,
    /// Where statements were sent.
    pub decided: decided::Decided,
}

impl Cluster {
    fn new(config: &Config, cluster: &config::Cluster, pools: &Pools, changed: Arc<Notify>) -> Arc<Cluster> {
        let kept = config.general.state_dir.as_ref().and_then(|dir| state::load(dir, &cluster.name));
        let cluster = Cluster {
            name: cluster.name.clone(),
            settings: ArcSwap::from_pointee(settings::settings(config, cluster)),
            members: ArcSwap::default(),
            primary: ArcSwapOption::empty(),
            clock: Clock::default(),
            fences: Mutex::default(),
            table: Mutex::new(observe::Table::knowing(kept)),
            elected: Notify::new(),
            moved: Notify::new(),
            waiting: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
            seed: AtomicU64::new(0),
            changed,
            promotions: Counter::default(),
            conflicts: Counter::default(),
            decided: decided::Decided::default(),
        };
        cluster.change(config, pools);
        Arc::new(cluster)
    }

    /// Name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What holds for it now.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Its members, in the configuration's order.
    pub fn members(&self) -> Arc<Vec<Arc<Member>>> {
        self.members.load_full()
    }

    /// The member of that name; cases are not told apart.
    pub fn named(&self, name: &str) -> Option<Arc<Member>> {
        self.members.load().iter().find(|m| m.name().eq_ignore_ascii_case(name)).cloned()
    }

    /// The member that a backend is here, if it is one.
    pub fn member_of(&self, target: &Arc<Target>) -> Option<Arc<Member>> {
        self.members.load().iter().find(|m| Arc::ptr_eq(&m.target, target)).cloned()
    }

    /// Who takes writes; `None` while nobody does, or it is not known who.
    #[inline]
    pub fn primary(&self) -> Option<Arc<Member>> {
        self.primary.load_full()
    }

    /// The same, with the timeline that it is on: what a connection to it must be on to take writes.
    #[inline]
    pub fn leader(&self) -> Option<(Arc<Member>, Term)> {
        let primary = self.primary()?;
        // Lost a moment ago.
        let term = Some(primary.term()).filter(|term| *term != term::NONE)?;
        Some((primary, term))
    }

    /// The fences of a database, by its name on the servers. A database that is new here is fenced by now: what was
    /// written to it before is not known.
    pub fn fences(&self, dbname: &str) -> Arc<Fences> {
        let mut fences = self.fences.lock();
        if let Some(known) = fences.get(dbname) {
            return known.clone();
        }
        if fences.len() >= MAX_FENCES {
            fences.retain(|_, fences| Arc::strong_count(fences) > 1);
        }
        let made = Arc::new(Fences::new(self.clock.now()));
        fences.insert(dbname.to_string(), made.clone());
        made
    }

    /// The same, if anybody has asked for them.
    pub fn known_fences(&self, dbname: &str) -> Option<Arc<Fences>> {
        self.fences.lock().get(dbname).cloned()
    }

    /// The least that any replica has passed: what sessions may forget ([`crate::fence::Own::forget`]). Replicas that
    /// come later, or come back with less, serve nobody until they are past everything that was forgotten by then.
    pub fn least_passed(&self) -> Number {
        let members = self.members.load();
        let others = members.iter().filter(|m| !matches!(m.state(), State::Primary | State::Stranger));
        others.map(|m| m.passed.get()).min().unwrap_or(self.clock.now())
    }

    /// What a restart should not forget.
    fn kept(&self) -> Option<state::Kept> {
        state::Kept::of(&self.table.lock().memory)
    }

    fn is_awaited(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }

    /// Has all members probed at once.
    pub fn wake(&self) {
        self.members.load().iter().for_each(|m| m.wake.notify_one());
    }
}
