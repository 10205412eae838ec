//! One pool: the server connections of one (backend, database, user), who waits for them, and when more are opened.
//!
//! Waiters are served as [`Queue`] has them; idle connections last in, first out, so that the surplus grows old and is
//! closed. The lock is held for a few instructions and never across an await.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::bounds::Bounds;
use super::cap::{Cap, Promise};
use super::connect::{self, Credential, Target};
use super::curiosity::Defaults;
use super::driver::Login;
use super::purpose::{Common, Purpose};
use super::queue::{Comer, Queue};
use super::schema::Schema;
use super::server::{Activity, Link, Server};
use super::settings::Settings;
use super::sized::Memo;
use super::statement::Statements;
use super::term::{self, Term};
use super::welcome::Welcomes;
use super::wish::{Choice, Wish};
use crate::config::{PoolSettings, Secret};
use crate::core::clock::Instant;
use crate::core::error::{Error, Result, SqlState};
use crate::core::stats::Traffic;
use crate::tenant::Waits;

/// See the module.
#[derive(Debug)]
pub struct Pool {
    /// Who it is for.
    pub purpose: Purpose,
    /// Its backend.
    pub target: Arc<Target>,
    /// Its bounds and times.
    settings: ArcSwap<PoolSettings>,
    /// Of those, what every loan looks at.
    pub bounds: Bounds,
    /// Connections of an earlier epoch are closed when they come back.
    epoch: AtomicU64,
    /// What its clients have prepared: on any of its siblings, too.
    pub statements: Arc<Statements>,
    /// What it has done.
    pub traffic: Arc<Traffic>,
    /// What its clients are told at login.
    pub welcomes: Arc<Welcomes>,
    /// How it logs in.
    pub credential: Mutex<Credential>,
    pub(super) caps: Vec<Arc<Cap>>,
    neutral: Arc<Settings>,
    pub(super) defaults: Arc<Defaults>,
    /// What is known of its database's objects.
    pub schema: Arc<Schema>,
    /// Who reads that, where not the pool's own user.
    pub cataloguer: Mutex<Option<Login>>,
    known_settings: Arc<Mutex<HashSet<Arc<Settings>>>>,
    /// For who holds a connection that no loan ends.
    pub(super) renewed: Notify,
    pub(super) kick: Arc<Notify>,
    pub(super) memo: Mutex<Option<Box<Memo>>>,
    pub(super) state: Mutex<State>,
}

#[derive(Debug, Default)]
#[allow(clippy::vec_box, reason = "a server changes hands as one pointer")]
pub(super) struct State {
    pub(super) idle: Vec<Box<Server>>,
    pub(super) waiters: Queue<Waiter>,
    pub(super) links: HashMap<u64, Arc<Link>>,
    /// Slots taken: idle, lent, connecting and resetting.
    pub(super) total: u32,
    pub(super) connecting: u32,
    pub(super) resetting: u32,
    /// Nothing is lent, and waiting does not count.
    pub(super) paused: bool,
    pub(super) failures: u32,
    /// Connections that were closed for what was left in their processes, and not opened again yet.
    pub(super) replacements: u32,
    pub(super) retry_at: Option<Instant>,
    last_error: Option<Error>,
    next_link: u64,
    /// When a connection of somebody who has a guarantee came back, and how many that is.
    pub(super) spared: Option<(Instant, u32)>,
    /// Places that others leave to those who are owed them here.
    pub(super) promises: Vec<Promise>,
    /// Since when nobody has been seen to use it.
    pub(super) left: Option<Instant>,
    /// Since when it has connections, or has none.
    pub(super) turned: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) wish: Wish,
    pub(super) reply: oneshot::Sender<Result<Box<Server>>>,
    /// Among those of its tenant that wait.
    pub(super) waits: Option<Waits>,
}

/// A server connection's place in its pool, given up when dropped.
#[derive(Debug)]
pub struct Slot {
    pool: Arc<Pool>,
    link: Option<u64>,
}

impl Slot {
    /// The pool that the connection belongs to.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        for cap in &self.pool.caps {
            cap.release();
        }
        let waiting = {
            let mut state = self.pool.state.lock();
            state.total -= 1;
            if state.total == 0 {
                state.turned = Some(Instant::now());
            }
            if let Some(link) = self.link {
                state.links.remove(&link);
                self.pool.traffic.server_closes.add(1);
            }
            !state.waiters.is_empty()
        };
        // Also other pools under the same cap may be able to grow now; the sweeper finds out which.
        if waiting || self.pool.caps.iter().any(|cap| cap.is_wanted()) {
            self.pool.kick.notify_one();
        }
    }
}

/// First pause after a failed connection attempt; it doubles up to [`MAX_RETRY`].
const MIN_RETRY: Duration = Duration::from_millis(100);
const MAX_RETRY: Duration = Duration::from_secs(2);

/// Time at rest after which the system is asked whether a connection still stands: the reactor hears of its end a
/// moment later, and what is sent into that moment is lost.
const LOOK_AFTER: Duration = Duration::from_millis(5);

/// Sets of settings above which those that nobody has any more are forgotten.
const MAX_KNOWN_SETTINGS: usize = 256;

impl Pool {
    /// A pool without connections yet.
    pub fn new(
        purpose: Purpose,
        target: Arc<Target>,
        settings: PoolSettings,
        credential: Credential,
        common: Common,
    ) -> Arc<Pool> {
        Arc::new(Self::made(purpose, target, settings, credential, common))
    }

    /// A sibling: the same database and user on another backend of the same cluster. What sessions have prepared and
    /// set is known to both under the same names.
    pub fn beside(&self, target: Arc<Target>, caps: Vec<Arc<Cap>>) -> Arc<Pool> {
        let (schema, cataloguer) = (self.schema.clone(), self.cataloguer.lock().clone());
        let common = Common { caps, schema, cataloguer, kick: self.kick.clone() };
        let (settings, credential) = (PoolSettings::clone(&self.settings()), self.credential.lock().clone());
        Arc::new(Pool {
            statements: self.statements.clone(),
            welcomes: self.welcomes.clone(),
            known_settings: self.known_settings.clone(),
            neutral: self.neutral.clone(),
            defaults: self.defaults.clone(),
            ..Self::made(self.purpose.clone(), target, settings, credential, common)
        })
    }

    fn made(
        purpose: Purpose,
        target: Arc<Target>,
        settings: PoolSettings,
        credential: Credential,
        common: Common,
    ) -> Pool {
        let Common { caps, schema, cataloguer, kick } = common;
        Pool {
            purpose,
            target,
            bounds: Bounds::new(&settings),
            settings: ArcSwap::from_pointee(settings),
            epoch: AtomicU64::new(0),
            statements: Arc::default(),
            traffic: Arc::default(),
            welcomes: Arc::default(),
            credential: Mutex::new(credential),
            caps,
            neutral: Arc::default(),
            defaults: Arc::default(),
            schema,
            cataloguer: Mutex::new(cataloguer),
            known_settings: Arc::default(),
            renewed: Notify::new(),
            kick,
            memo: Mutex::default(),
            state: Mutex::default(),
        }
    }

    /// The same settings in one allocation for all sessions that have them, so that they compare by pointer.
    pub fn shared_settings(&self, settings: Settings) -> Arc<Settings> {
        let mut known = self.known_settings.lock();
        if let Some(found) = known.get(&settings) {
            return found.clone();
        }
        if known.len() >= MAX_KNOWN_SETTINGS {
            known.retain(|s| Arc::strong_count(s) > 1);
        }
        let made = Arc::new(settings);
        known.insert(made.clone());
        made
    }

    /// Its bounds and times.
    pub fn settings(&self) -> Guard<Arc<PoolSettings>> {
        self.settings.load()
    }

    /// Changes them.
    pub fn set_settings(&self, settings: PoolSettings) {
        self.bounds.set(&settings);
        self.settings.store(Arc::new(settings));
    }

    /// How it logs in from now on, where the configuration says so.
    pub fn set_secret(&self, secret: Option<&Secret>) {
        let credential = Credential::of(secret);
        if !matches!(credential, Credential::None) {
            *self.credential.lock() = credential;
        }
    }

    /// Which connections are current.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Acquire)
    }

    /// Has all connections replaced: idle ones now, others when they come back.
    pub fn renew(&self) {
        self.epoch.fetch_add(1, AcqRel);
        self.renewed.notify_one();
        self.close_idle();
    }

    /// Settings that differ from nothing.
    pub fn neutral(&self) -> &Arc<Settings> {
        &self.neutral
    }

    /// What a session needs on a server where both began with settings of their own.
    pub fn carried(&self, server: &Server, class: &Settings, overrides: &Settings) -> Option<Settings> {
        let default =
            |name: &str| self.welcomes.reports(name).or_else(|| self.default(name).map(str::to_string));
        Settings::carried(&server.class, class, overrides, default)
    }

    fn suits(&self, server: &Server, wish: &Wish) -> bool {
        let alike =
            wish.is_same(server) || !wish.exact && self.carried(server, &wish.class, &self.neutral).is_some();
        alike && !(wish.fresh && server.used) && wish.trusts(server)
    }

    /// Whether another connection may be opened, as far as it can be said.
    fn has_room(&self, state: &State) -> bool {
        state.total < self.bounds.size().min(self.bounds.fair())
            && state.retry_at.is_none()
            && self.caps.iter().all(|cap| cap.has_room())
    }

    /// An idle connection, if there is one that is fit.
    pub fn try_lease(&self, wish: &Wish, now: Instant) -> Option<Box<Server>> {
        let hold = match &wish.tenant {
            None => None,
            Some(tenant) => Some(tenant.hold(now, 0)?),
        };
        loop {
            let (mut server, fit) = {
                let mut state = self.state.lock();
                if state.paused || state.lent() >= self.bounds.lend() {
                    return None;
                }
                if state.replacements > 0 && wish.newcomer && state.waiters.ready() == 0 {
                    let surplus = if self.has_room(&state) { None } else { state.take_worst(now) };
                    drop(state);
                    surplus.into_iter().for_each(retire);
                    return None;
                }
                match wish.choose(&state.idle, || self.has_room(&state), |s| self.suits(s, wish)) {
                    // Who waits already is served first, unless by chance this one suits only us.
                    Choice::Take(i) if state.waiters.ready() == 0 || wish.is_same(&state.idle[i]) => {
                        (state.idle.remove(i), true)
                    }
                    Choice::Replace(i) if state.waiters.ready() == 0 => (state.idle.remove(i), false),
                    _ => return None,
                }
            };
            let rested = now.since(server.returned) >= LOOK_AFTER;
            let spent = server.stream.has_input(rested) || self.bounds.is_old(server.opened, now);
            if !fit || spent || !wish.trusts(&server) {
                retire(server);
                continue;
            }
            server.link.set_activity(Activity::Active);
            server.hold = hold;
            return Some(server);
        }
    }

    /// Joins the queue; what comes back gets a connection, or the reason why not.
    pub fn queue(self: &Arc<Self>, mut wish: Wish, now: Instant) -> oneshot::Receiver<Result<Box<Server>>> {
        let (reply, receiver) = oneshot::channel();
        let owed = {
            let mut state = self.state.lock();
            if wish.newcomer && state.replacements > 0 {
                state.replacements -= 1;
                wish.fresh = true;
            }
            let waits = wish.tenant.as_ref().map(|tenant| tenant.wait());
            let (client, priority) = (wish.client, wish.priority);
            let comer = Comer { client, tenant: wish.tenant.clone(), priority, since: now };
            self.admit(&mut state, comer, Waiter { wish, reply, waits });
            state.lent() >= self.bounds.lend() && state.waiters.is_owed()
        };
        // Who has less than is guaranteed does not wait for what the pool may lend to others.
        if owed {
            self.serve_granted(now);
        }
        self.grow(now);
        self.call_for_a_share();
        receiver
    }

    /// Answers a waiting client's cancel request. False when it does not wait here.
    pub fn cancel_waiter(&self, client: u64) -> bool {
        let waiter = self.state.lock().waiters.withdraw(client);
        waiter.is_some_and(|w| w.reply.send(Err(canceled())).is_ok())
    }

    /// Takes a clean connection back: to the first who waits, or to the idle ones.
    pub fn give_back(&self, mut server: Box<Server>, now: Instant) {
        // It is in no transaction.
        server.writes_found();
        server.returned = now;
        server.link.client.store(0, Relaxed);
        let spent = self.bounds.is_old(server.opened, now) || server.link.is_past();
        if spent || server.epoch != self.epoch() {
            return retire(server);
        }
        let mut state = self.state.lock();
        if let Some(hold) = server.hold.take() {
            state.spare(&hold, now);
            state.waiters.charge(hold, now);
        }
        if state.total > self.bounds.fair() && !state.waiters.is_owed() {
            drop(state);
            return retire(server);
        }
        // Of those on loan it is still one. Beyond what may be on loan it is for who has less than is guaranteed.
        let beyond = self.is_beyond(&state, now);
        if state.paused || beyond && !state.waiters.is_owed() {
            server.link.set_activity(Activity::Idle);
            state.idle.push(server);
            return;
        }
        if self.is_owed_elsewhere(&state) {
            drop(state);
            return retire(server);
        }
        loop {
            // Those for whom connections are being opened may be passed by who waits behind them.
            let near = if beyond { 1 } else { state.connecting as usize + 1 };
            let Some((waiter, hold)) = state.waiters.take(near, now, |w| self.suits(&server, &w.wish)) else {
                break;
            };
            server.hold = hold;
            match waiter.reply.send(Ok(server)) {
                Ok(()) => return,
                // It has gone; the next may have it.
                Err(Ok(unclaimed)) => server = unclaimed,
                Err(Err(_)) => return,
            }
            if let Some(hold) = server.hold.take() {
                state.waiters.charge(hold, now);
            }
        }
        // One that suits nobody makes room for one that does.
        if state.waiters.ready() > state.connecting as usize || self.others_are_owed() {
            drop(state);
            return retire(server);
        }
        server.link.set_activity(Activity::Idle);
        state.idle.push(server);
    }

    /// Notes that a connection is being cleaned (`delta` 1) or no longer is (-1).
    pub(super) fn resetting(&self, begins: bool) {
        let mut state = self.state.lock();
        state.resetting = if begins { state.resetting + 1 } else { state.resetting.saturating_sub(1) };
    }

    /// Opens as many connections as the waiters want and the bounds allow.
    fn grow(self: &Arc<Self>, now: Instant) {
        while let Some((slot, class, term)) = self.claim(now) {
            let pool = self.clone();
            tokio::spawn(async move { pool.open(slot, class, term).await });
        }
    }

    /// Takes a place for one more connection, if one is wanted and allowed.
    fn claim(self: &Arc<Self>, now: Instant) -> Option<(Slot, Arc<Settings>, Term)> {
        let mut state = self.state.lock();
        let waiting = u32::try_from(state.waiters.ready()).unwrap_or(u32::MAX);
        let wanted = waiting > state.connecting || state.total < self.bounds.keep() && state.failures == 0;
        if !wanted {
            return None;
        }
        let owed = state.waiters.is_owed();
        let pausing = state.retry_at.is_some_and(|at| now < at);
        let full = state.total >= self.bounds.size() + self.reserve(&state, now)
            || state.total >= self.bounds.fair() && !owed;
        if pausing || state.paused || full && !(owed && self.owes_more(&state, now)) {
            return None;
        }
        if !self.take_places(&mut state, owed, now) {
            return None;
        }
        // Each connection being opened is for one of those who wait.
        let waiter = state.waiters.nth(state.connecting as usize);
        let (class, term) = waiter.map(|w| (w.wish.class.clone(), w.wish.term)).unzip();
        if state.total == 0 {
            state.turned = Some(now);
        }
        state.total += 1;
        state.connecting += 1;
        drop(state);
        let class = class.unwrap_or_else(|| self.neutral.clone());
        Some((Slot { pool: self.clone(), link: None }, class, term.unwrap_or_default()))
    }

    async fn open(self: Arc<Self>, slot: Slot, class: Arc<Settings>, term: Term) {
        let epoch = self.epoch();
        let opened = tokio::time::timeout(self.settings().connect_timeout, connect::open(&self, &class))
            .await
            .unwrap_or_else(|_| {
                Err(Error::backend(
                    SqlState::CANNOT_CONNECT,
                    format!("connecting to backend \"{}\" timed out", self.target.name()),
                ))
            });
        match opened {
            Ok(greeted) if !term::suits(term, greeted.term) => self.failed(slot, self.target.misses(term)),
            Ok(greeted) => self.opened(slot, greeted, (class, epoch)),
            Err(e) => self.failed(slot, e),
        }
    }

    fn opened(self: &Arc<Self>, mut slot: Slot, mut greeted: connect::Greeted, kind: (Arc<Settings>, u64)) {
        let (class, epoch) = kind;
        self.traffic.server_connects.add(1);
        tracing::debug!(pid = greeted.pid, backend = self.target.name(), "server connection opened");
        let link = {
            let mut state = self.state.lock();
            state.connecting -= 1;
            (state.failures, state.retry_at, state.last_error) = (0, None, None);
            let id = self.target.next_link();
            state.next_link = id;
            let link = Arc::new(Link::new(id, &mut greeted, self.target.clone()));
            state.links.insert(id, link.clone());
            link
        };
        slot.link = Some(link.id);
        if class.is_empty() {
            self.welcomes.base(&greeted.params);
        }
        let mut server = Server::new(greeted.stream, link, slot, class, self.settings().max_prepared);
        server.epoch = epoch;
        self.give_back(Box::new(server), Instant::now());
    }

    /// A refusal that will not change by waiting goes to those who wait; everything else is tried again.
    fn failed(self: &Arc<Self>, slot: Slot, e: Error) {
        self.traffic.server_connect_failures.add(1);
        tracing::warn!(backend = self.target.name(), database = self.purpose.database, user = self.purpose.user,
            error = %e, "server connection failed");
        let told = {
            let mut state = self.state.lock();
            state.connecting -= 1;
            state.failures = state.failures.saturating_add(1);
            let pause = (MIN_RETRY * 2u32.saturating_pow(state.failures.min(8) - 1)).min(MAX_RETRY);
            state.retry_at = Some(Instant::now() + pause);
            state.last_error = Some(e.clone());
            // With other connections alive the waiters will be served by those.
            let lost = is_final(e.code) && state.total == state.connecting + 1;
            if lost { state.waiters.drain() } else { Vec::new() }
        };
        for waiter in told {
            // A client that has gone needs no answer.
            let _ = waiter.reply.send(Err(e.clone()));
        }
        drop(slot);
    }

    /// Sends away who has waited too long, grows, and closes what is idle too long. Called by the sweeper.
    pub(super) fn sweep(self: &Arc<Self>, now: Instant) {
        let (expired, surplus, waited) = {
            let mut state = self.state.lock();
            let timeout = if state.paused { Duration::MAX } else { self.settings().wait_timeout };
            let expired = state.waiters.sweep(now, timeout);
            if !state.paused {
                self.shed_old(&mut state, now);
            }
            let surplus = state.surplus(now, &self.settings(), &self.bounds);
            (expired, surplus, state.last_error.clone())
        };
        for waiter in expired {
            let _ = waiter.reply.send(Err(self.wait_error(waited.as_ref(), &waiter.wish)));
        }
        surplus.into_iter().for_each(retire);
        self.serve_granted(now);
        self.serve_with_others(now);
        self.ask_around();
        if self.is_used() || self.has_its_hour() {
            self.grow(now);
        }
    }

    /// Who waits for a connection that began like its session, where none can be opened, gets another; and who stood
    /// aside gets one that nobody else wanted.
    fn serve_with_others(&self, now: Instant) {
        let idle = self.state.lock().idle.len();
        for _ in 0..idle {
            let spare = {
                let mut state = self.state.lock();
                let stuck = state.connecting == 0 && self.may_serve(&state, now);
                stuck.then(|| state.idle.remove(0))
            };
            let Some(server) = spare else { break };
            self.give_back(server, now);
        }
    }

    /// Closes all idle connections; those on loan follow when they come back too old or dirty.
    pub fn close_idle(&self) {
        let idle = std::mem::take(&mut self.state.lock().idle);
        idle.into_iter().for_each(retire);
    }

    /// Whether it has ever had a connection.
    pub(super) fn has_served(&self) -> bool {
        self.traffic.server_connects.get() > 0
    }
}

/// What a statement is told whose client has cancelled it.
pub fn canceled() -> Error {
    Error::statement(SqlState::QUERY_CANCELED, "canceling statement due to user request")
}

/// Closes a connection that is at rest, the polite way.
#[allow(clippy::boxed_local, reason = "servers change hands as boxes")]
pub(super) fn retire(mut server: Box<Server>) {
    server.stream.try_send(crate::wire::reply::TERMINATE);
}

/// Whether waiting cannot change a server's refusal: wrong password, no such database or role, no permission.
fn is_final(code: SqlState) -> bool {
    code.0.starts_with(b"28")
        || code == SqlState::UNKNOWN_DATABASE
        || code == SqlState::INSUFFICIENT_PRIVILEGE
}
