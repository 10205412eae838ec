//! Server connections: opened, lent, cleaned, taken back.
//!
//! [`pool`] is the heart; [`connect`] opens, [`server`] is what is lent, [`reset`] cleans, [`cancel`] interrupts;
//! [`settings`], [`statement`] and [`welcome`] are what servers and sessions must agree on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::config::{Config, Database, PoolSettings, Size};
use crate::core::clock::Instant;
use crate::core::error::Error;
use crate::core::stats::{PoolRow, ServerRow, Traffic};
use crate::tenant::registry::Tenants;

pub mod adaptive;
pub mod bounds;
pub mod cancel;
pub mod cap;
pub mod connect;
mod curiosity;
pub mod defaults;
pub mod driver;
mod fair;
pub mod fate;
pub mod hidden;
mod home;
pub mod hub;
mod identity;
pub mod names;
mod operate;
mod past;
#[allow(clippy::module_inception)]
pub mod pool;
pub mod purpose;
pub mod queue;
mod replace;
pub mod reset;
mod rows;
mod sized;
pub use rows::mode_name;
pub mod schema;
pub mod server;
pub mod settings;
mod shed;
pub mod statement;
pub mod suspects;
pub mod term;
pub mod welcome;
pub mod wish;
mod worth;

use cap::Cap;
use connect::{Change, Credential, Target};
use driver::Login;
use pool::Pool;
use purpose::{Common, Purpose};
use schema::Schema;

/// A backend or cluster, and a database on it: what pools of different users and names have in common.
type Place = (String, String);

/// A database and a user, as clients name them, a backend, and the tenant whose own pool it is, or nothing.
type Key = (String, String, String, String);

/// All pools of the process.
#[derive(Debug)]
pub struct Pools {
    targets: ArcSwap<Vec<Arc<Target>>>,
    /// The cluster that a backend is a member of, by names.
    clusters: ArcSwap<HashMap<String, String>>,
    /// The backend that is the primary of a cluster, by names, once it is known.
    leaders: Mutex<HashMap<String, String>>,
    paused: Mutex<HashSet<Option<String>>>,
    disabled: Mutex<HashSet<String>>,
    pools: Mutex<BTreeMap<Key, Arc<Pool>>>,
    /// Those that the configuration does not ask for any more, for as long as a session uses them.
    former: Mutex<Vec<Weak<Pool>>>,
    past: past::Past,
    caps: Mutex<HashMap<String, Arc<Cap>>>,
    hubs: Mutex<HashMap<Place, Arc<hub::Hub>>>,
    schemas: Mutex<HashMap<Place, Arc<Schema>>>,
    limits: Mutex<adaptive::Limits>,
    kick: Arc<Notify>,
    /// Whose work sessions do.
    pub tenants: Tenants,
}

/// How often waiters and idle connections are looked after, when nothing calls for it sooner.
const SWEEP: Duration = Duration::from_millis(100);

impl Pools {
    /// No pools yet; the backends are those of the configuration.
    ///
    /// # Errors
    /// Certificates that cannot be used, by file.
    pub fn new(config: &Config) -> Result<Pools, String> {
        let targets: Vec<_> =
            config.backends.iter().map(|b| Target::new(b).map(Arc::new)).collect::<Result<_, _>>()?;
        let kick: Arc<Notify> = Arc::default();
        Ok(Pools {
            tenants: Tenants::new(&config.tenants, kick.clone()),
            targets: ArcSwap::from_pointee(targets),
            clusters: ArcSwap::from_pointee(home::clusters(config)),
            leaders: Mutex::default(),
            paused: Mutex::default(),
            disabled: Mutex::default(),
            pools: Mutex::default(),
            former: Mutex::default(),
            past: past::Past::default(),
            caps: Mutex::default(),
            hubs: Mutex::default(),
            schemas: Mutex::default(),
            limits: Mutex::new(adaptive::Limits::new(config.general.state_dir.clone())),
            kick,
        })
    }

    /// The backend that a database of the configuration is on; of a cluster, the primary, as far as it is known.
    pub fn target(&self, database: &Database) -> Arc<Target> {
        self.target_at(database.cluster.as_deref(), database.backend)
    }

    fn target_at(&self, cluster: Option<&str>, backend: usize) -> Arc<Target> {
        let leader = cluster.and_then(|c| self.leaders.lock().get(c).cloned());
        let leader = leader.and_then(|name| self.backend(&name));
        leader.unwrap_or_else(|| self.targets.load()[backend].clone())
    }

    /// The backend of that name.
    pub fn backend(&self, name: &str) -> Option<Arc<Target>> {
        self.targets.load().iter().find(|t| t.name() == name).cloned()
    }

    /// Whether a pool is still what the configuration asks for; if not, its connections end as they come back.
    fn is_current(&self, config: &Config, pool: &Pool) -> bool {
        let Purpose { database: asked, user, dbname, server_user, tenant } = &pool.purpose;
        let Some(database) = config.database(asked) else { return true };
        let home = config.home(database, tenant.as_deref());
        let is_there = match home.cluster.and_then(|name| config.cluster(name)) {
            Some(cluster) => cluster.members(config).any(|b| b.name == pool.target.name()),
            None => self.targets.load()[home.backend].name() == pool.target.name(),
        };
        let is_own = |name: &Arc<str>| config.tenants.of(name).is_some_and(|t| t.own_pool);
        let same = is_there
            && tenant.as_ref().is_none_or(is_own)
            && database.dbname.as_ref().unwrap_or(asked) == dbname
            && database.user.as_ref().unwrap_or(user) == server_user;
        if !same {
            pool.renew();
        }
        same
    }

    /// Puts a new configuration into use. Clients stay; those of a database that is gone, or is on another backend
    /// now, keep what they have until they leave.
    ///
    /// # Errors
    /// Certificates that cannot be used, by file; then nothing has changed.
    pub fn reload(&self, config: &Config) -> Result<(), String> {
        let known = self.targets.load_full();
        let mut changes = Vec::new();
        let mut targets = Vec::new();
        for backend in &config.backends {
            match known.iter().find(|t| t.name() == backend.name) {
                Some(target) => {
                    changes.push((target.clone(), Change::new(backend)?));
                    targets.push(target.clone());
                }
                None => targets.push(Arc::new(Target::new(backend)?)),
            }
        }
        self.targets.store(Arc::new(targets));
        self.clusters.store(Arc::new(home::clusters(config)));
        let is_member = |cluster: &str, backend: &str| {
            config.cluster(cluster).is_some_and(|c| c.members(config).any(|b| b.name == backend))
        };
        self.leaders.lock().retain(|cluster, backend| is_member(cluster, backend));
        let moved: Vec<_> = changes
            .into_iter()
            .filter_map(|(target, change)| target.change(change).then_some(target))
            .collect();
        for (what, cap) in self.caps.lock().iter() {
            cap.set_limit(limit(config, what));
        }
        self.pools.lock().retain(|(asked, _, _, _), pool| {
            if moved.iter().any(|target| Arc::ptr_eq(target, &pool.target)) {
                pool.renew();
            }
            let current = self.is_current(config, pool);
            if let Some(database) = config.database(asked).filter(|_| current) {
                pool.set_settings(settings_of(config, database, &pool.purpose));
                pool.set_secret(config.user(&pool.purpose.server_user).map(|u| &u.secret));
                *pool.cataloguer.lock() = config.catalog_user(database).map(Login::of);
                pool.schema.try_again();
            }
            if !current {
                self.former.lock().push(Arc::downgrade(pool));
            }
            current
        });
        self.tenants.reload(&config.tenants);
        self.kick.notify_one();
        Ok(())
    }

    /// The pool of `user` on `database` (which serves the name `asked`), made if it is new; of a cluster, the one on its
    /// primary. A tenant may have one of its own.
    pub fn pool(
        &self,
        config: &Config,
        database: &Database,
        (asked, user): (&str, &str),
        tenant: Option<&str>,
    ) -> Arc<Pool> {
        let own = tenant.filter(|name| config.tenants.of(name).is_some_and(|t| t.own_pool));
        let home = config.home(database, own);
        self.pool_on(config, database, (asked, user, own), self.target_at(home.cluster, home.backend))
    }

    /// The pool of the same database and user as `pool` on another member of their cluster.
    pub fn sibling(&self, config: &Config, pool: &Arc<Pool>, target: &Arc<Target>) -> Option<Arc<Pool>> {
        let Purpose { database: asked, user, tenant, .. } = &pool.purpose;
        let whose = (asked.as_str(), user.as_str(), tenant.as_deref());
        Some(self.pool_on(config, config.database(asked)?, whose, target.clone()))
    }

    fn pool_on(
        &self,
        config: &Config,
        database: &Database,
        (asked, user, tenant): (&str, &str, Option<&str>),
        target: Arc<Target>,
    ) -> Arc<Pool> {
        let own = tenant.unwrap_or_default();
        let key: Key = (asked.into(), user.into(), target.name().into(), own.into());
        let mut pools = self.pools.lock();
        if let Some(pool) = pools.get(&key) {
            return pool.clone();
        }
        let caps = vec![
            target.cap.clone(),
            self.cap(format!("database \"{asked}\""), database.max_connections),
            self.cap(format!("user \"{user}\""), config.user(user).map_or(0, |u| u.max_connections)),
        ];
        let first: Key = (asked.into(), user.into(), String::new(), String::new());
        let all = || pools.range(first.clone()..).take_while(|((a, u, _, _), _)| a == asked && u == user);
        let sibling = all().find(|((_, _, _, t), _)| t == own);
        let pool = match sibling {
            Some((_, sibling)) => sibling.beside(target, caps),
            None => {
                let made = self.new_pool(config, database, (asked, user, tenant), target, caps);
                // Keys that a client's login has shown are good for all pools of its user.
                let known = all().map(|(_, pool)| pool.credential.lock().clone());
                if let Some(keys) = known.into_iter().find(|c| matches!(c, Credential::Keys(_))) {
                    made.learn(keys);
                }
                made
            }
        };
        if self.is_paused(asked) {
            pool.pause();
        }
        pools.insert(key, pool.clone());
        pool
    }

    fn new_pool(
        &self,
        config: &Config,
        database: &Database,
        (asked, user, tenant): (&str, &str, Option<&str>),
        target: Arc<Target>,
        caps: Vec<Arc<Cap>>,
    ) -> Arc<Pool> {
        let server_user = database.user.as_deref().unwrap_or(user);
        let purpose = Purpose {
            database: asked.to_string(),
            user: user.to_string(),
            dbname: database.dbname.clone().unwrap_or_else(|| asked.to_string()),
            server_user: server_user.to_string(),
            tenant: tenant.map(Arc::from),
        };
        let settings = settings_of(config, database, &purpose);
        let credential = Credential::of(config.user(server_user).map(|u| &u.secret));
        let whose = config.home(database, tenant).cluster.unwrap_or(target.name());
        let place = (whose.to_string(), purpose.dbname.clone());
        let schema = self.schemas.lock().entry(place).or_default().clone();
        let cataloguer = config.catalog_user(database).map(Login::of);
        let common = Common { caps, schema, cataloguer, kick: self.kick.clone() };
        Pool::new(purpose, target, settings, credential, common)
    }

    /// The name of a table of a database on a cluster, where its catalog is known.
    pub fn table_name(&self, cluster: &str, dbname: &str, oid: u32) -> Option<String> {
        let place = (cluster.to_string(), dbname.to_string());
        let schema = self.schemas.lock().get(&place).cloned()?;
        schema.catalog(schema.view())?.name_of(oid)
    }

    /// Answers the cancel request of a client that waits in this pool or one of its siblings. False where it does not.
    pub fn cancel_waiter(&self, pool: &Pool, client: u64) -> bool {
        let whose = |p: &&Arc<Pool>| {
            p.purpose.database == pool.purpose.database && p.purpose.user == pool.purpose.user
        };
        self.all().iter().filter(whose).any(|p| p.cancel_waiter(client))
    }

    fn cap(&self, what: String, limit: u32) -> Arc<Cap> {
        self.caps.lock().entry(what.clone()).or_insert_with(|| Cap::new(what, limit)).clone()
    }

    fn all(&self) -> Vec<Arc<Pool>> {
        self.all_of(&self.pools.lock())
    }

    fn all_of(&self, pools: &BTreeMap<Key, Arc<Pool>>) -> Vec<Arc<Pool>> {
        let mut all: Vec<_> = pools.values().cloned().collect();
        all.extend(self.former.lock().iter().filter_map(Weak::upgrade));
        all
    }

    /// Looks after all pools for as long as it is polled.
    pub async fn sweep(&self) {
        let mut turn = 0usize;
        loop {
            // A kick only means that some pool may be able to grow sooner than the next round.
            let _ = tokio::time::timeout(SWEEP, self.kick.notified()).await;
            let now = Instant::now();
            self.pools.lock().retain(|_, pool| self.keeps(pool, now));
            self.former.lock().retain(|pool| pool.upgrade().is_some_and(|pool| pool.is_in_use()));
            self.schemas.lock().retain(|_, schema| Arc::strong_count(schema) > 1);
            let pools = self.all();
            self.size_pools(&pools, now);
            self.share_caps(&pools, now);
            pools.iter().for_each(|pool| pool.forget_starving());
            // Those in which somebody has less than is guaranteed take what there is first; of the others it is another
            // one's turn each time.
            let (owed, mut others): (Vec<_>, Vec<_>) = pools.iter().partition(|pool| pool.is_owed());
            turn = turn.wrapping_add(1);
            let first = turn % others.len().max(1);
            others.rotate_left(first);
            owed.into_iter().chain(others).for_each(|pool| pool.sweep(now));
            self.look_after_schemas(now);
            pools.iter().for_each(|pool| pool.make_way());
        }
    }

    /// Closes every idle connection: the process is ending.
    pub fn close_idle(&self) {
        self.all().iter().for_each(|pool| pool.close_idle());
    }

    /// Every pool now, for observers.
    pub fn pool_rows(&self) -> Vec<(PoolRow, Arc<Traffic>)> {
        let now = Instant::now();
        self.all().iter().map(|pool| (pool.row(now), pool.traffic.clone())).collect()
    }

    /// Every server connection now, for observers.
    pub fn server_rows(&self) -> Vec<ServerRow> {
        self.all().iter().flat_map(|pool| pool.server_rows()).collect()
    }
}

/// What holds for a pool for this.
fn settings_of(config: &Config, database: &Database, purpose: &Purpose) -> PoolSettings {
    let settings = config.pool_settings(database, &purpose.user);
    let own = purpose.tenant.as_ref().and_then(|name| config.tenants.of(name)?.pool_size);
    match own {
        None => settings,
        Some(size) => PoolSettings { size: Size::Fixed(size), min: settings.min.min(size), ..settings },
    }
}

/// The configuration's bound for what a [`Cap`] is about.
fn limit(config: &Config, what: &str) -> u32 {
    let named = |kind: &str| what.strip_prefix(kind).and_then(|name| name.strip_suffix('"'));
    if let Some(name) = named("database \"") {
        return config.database(name).map_or(0, |d| d.max_connections);
    }
    named("user \"").and_then(|name| config.user(name)).map_or(0, |u| u.max_connections)
}

/// The error for a database that no `[[database]]` serves, as Postgres words it.
pub fn unknown_database(name: &str) -> Error {
    Error::fatal(
        crate::core::error::SqlState::UNKNOWN_DATABASE,
        format!("database \"{}\" does not exist", name.escape_debug()),
    )
}
