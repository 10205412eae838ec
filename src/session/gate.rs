//! Who may come in: finds what is known of a user, and slows down who guesses.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::config::{AuthQuery, Config, Secret};
use crate::core::clock::Instant;
use crate::core::error::{Error, Result, SqlState};
use crate::pool::Pools;
use crate::pool::connect::{self, Target};
use crate::wire::scram::{MockSecret, Verifier};
use crate::wire::tls::{self, Acceptor};

/// Shared by all logins.
pub struct Gate {
    /// TLS towards clients, if configured.
    tls: ArcSwapOption<Acceptor>,
    /// TLS towards who asks for reports, if configured. Here, so that a reload puts both certificates into use, or none.
    pub reports: Arc<ArcSwapOption<TlsAcceptor>>,
    /// Makes up verifiers for users who do not exist, so that nobody can tell.
    pub mock: MockSecret,
    verifiers: Cache<(String, Secret), Arc<Verifier>>,
    /// By database and user, and when.
    looked_up: ArcSwapOption<Cache<(String, String), (Secret, Instant)>>,
    lookups: Semaphore,
    failures: Mutex<HashMap<IpAddr, Failures>>,
}

impl std::fmt::Debug for Gate {
    /// Holds secrets: shows nothing.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}

#[derive(Debug)]
struct Failures {
    since: Instant,
    count: u32,
}

/// Users whose derived keys are kept.
const MAX_VERIFIERS: u64 = 100_000;
/// Addresses whose failures are counted at once; past this the oldest minute is forgotten early.
const MAX_ADDRESSES: usize = 100_000;
/// `auth_query` statements at once.
const MAX_LOOKUPS: usize = 4;
/// Longest time for one `auth_query`.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(10);
/// What was looked up less than this ago is not doubted.
const STALE: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// Iterations of verifiers that we derive from a configured password, as Postgres' default `scram_iterations`.
const ITERATIONS: u32 = 4096;

impl Gate {
    /// From the configuration.
    ///
    /// # Errors
    /// Certificates that cannot be used, by file.
    pub fn new(config: &Config) -> std::result::Result<Gate, String> {
        let gate = Gate {
            tls: ArcSwapOption::empty(),
            reports: Arc::default(),
            mock: MockSecret::random(),
            verifiers: Cache::new(MAX_VERIFIERS),
            looked_up: ArcSwapOption::empty(),
            lookups: Semaphore::new(MAX_LOOKUPS),
            failures: Mutex::default(),
        };
        gate.reload(config)?;
        Ok(gate)
    }

    /// Puts a new configuration into use.
    ///
    /// # Errors
    /// Certificates that cannot be used, by file; then nothing has changed.
    pub fn reload(&self, config: &Config) -> std::result::Result<(), String> {
        let tls = config.tls.as_ref().map(Acceptor::new).transpose()?;
        let reports = config.reports.as_ref().and_then(|reports| reports.tls.as_ref());
        let reports = reports.map(tls::https).transpose()?;
        self.tls.store(tls.map(Arc::new));
        self.reports.store(reports.map(Arc::new));
        // What was looked up may have been by another query.
        let cache = |ttl| Cache::builder().max_capacity(MAX_VERIFIERS).time_to_live(ttl).build();
        self.looked_up.store(config.auth.query.as_ref().map(|q| Arc::new(cache(q.cache))));
        Ok(())
    }

    /// TLS towards clients, if configured.
    pub fn tls(&self) -> Option<Arc<Acceptor>> {
        self.tls.load_full()
    }

    /// What is known of `user`'s password: from the configuration, else from `auth_query`. `None`: no such user.
    pub async fn secret(
        &self,
        config: &Config,
        pools: &Pools,
        database: &str,
        user: &str,
    ) -> Result<Option<Secret>> {
        let listed = config.user(user).map(|u| u.secret.clone());
        if listed.as_ref().is_some_and(|secret| *secret != Secret::None) {
            return Ok(listed);
        }
        let (Some(query), Some(cache)) = (&config.auth.query, self.looked_up.load_full()) else {
            return Ok(None);
        };
        let on = query.database.as_deref().unwrap_or(database);
        let key = (on.to_string(), user.to_string());
        if let Some((secret, _)) = cache.get(&key) {
            return Ok(Some(secret));
        }
        let Some(served) = config.database(on) else { return Ok(None) };
        let dbname = served.dbname.as_deref().unwrap_or(on);
        let found = self.look_up(config, query, &pools.target(served), dbname, user).await?;
        // Only who exists is remembered: a role created a second ago must work.
        if let Some(secret) = &found {
            cache.insert(key, (secret.clone(), Instant::now()));
        }
        Ok(found)
    }

    /// A proof of this user's was wrong: perhaps since the password has changed after it was looked up. The next login
    /// looks it up again; guessing does not have it looked up more often than [`STALE`] says.
    pub fn doubt(&self, config: &Config, database: &str, user: &str) {
        let (Some(query), Some(cache)) = (&config.auth.query, self.looked_up.load_full()) else { return };
        let key = (query.database.as_deref().unwrap_or(database).to_string(), user.to_string());
        if cache.get(&key).is_some_and(|(_, when)| when.elapsed() >= STALE) {
            cache.invalidate(&key);
        }
    }

    async fn look_up(
        &self,
        config: &Config,
        query: &AuthQuery,
        target: &Arc<Target>,
        dbname: &str,
        user: &str,
    ) -> Result<Option<Secret>> {
        let _turn = self.lookups.acquire().await;
        let failed = |e: &dyn std::fmt::Display| {
            tracing::error!(error = %e, "auth_query failed");
            Error::fatal(SqlState::CANNOT_CONNECT, "could not look up the user")
        };
        let work = auth_query(config, query, target, dbname, user);
        match tokio::time::timeout(LOOKUP_DEADLINE, work).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(e)) => Err(failed(&e)),
            Err(e) => Err(failed(&e)),
        }
    }

    /// The SCRAM verifier that goes with a secret; derived once from a password, then kept.
    pub async fn verifier(&self, user: &str, secret: &Secret) -> Option<Arc<Verifier>> {
        let key = (user.to_string(), secret.clone());
        if let Some(known) = self.verifiers.get(&key) {
            return Some(known);
        }
        let verifier = match secret {
            Secret::ScramVerifier(text) => Verifier::parse(text).ok()?,
            Secret::Password(password) => derive(password.clone()).await?,
            Secret::None | Secret::Md5(_) => return None,
        };
        let verifier = Arc::new(verifier);
        self.verifiers.insert(key, verifier.clone());
        Some(verifier)
    }

    /// Refuses an address that has failed too often within a minute.
    pub fn admit(&self, addr: Option<IpAddr>, limit: u32) -> Result<()> {
        let Some(addr) = addr else { return Ok(()) };
        let failures = self.failures.lock();
        let over = failures.get(&addr).is_some_and(|f| f.since.elapsed() < MINUTE && f.count >= limit);
        if !over {
            return Ok(());
        }
        Err(Error::fatal(SqlState::INVALID_AUTHORIZATION, "too many failed logins from this address")
            .detail(format!("The limit is {limit} in a minute (auth.max_failures_per_minute)."))
            .hint("Wait a minute."))
    }

    /// Counts a failed login.
    pub fn failed(&self, addr: Option<IpAddr>) {
        let Some(addr) = addr else { return };
        let mut failures = self.failures.lock();
        if failures.len() >= MAX_ADDRESSES {
            failures.retain(|_, f| f.since.elapsed() < MINUTE);
            if failures.len() >= MAX_ADDRESSES {
                failures.clear();
            }
        }
        let entry = failures.entry(addr).or_insert(Failures { since: Instant::now(), count: 0 });
        if entry.since.elapsed() >= MINUTE {
            *entry = Failures { since: Instant::now(), count: 0 };
        }
        entry.count = entry.count.saturating_add(1);
    }
}

/// Derives a verifier away from the event loop: it takes a millisecond or more.
async fn derive(password: String) -> Option<Verifier> {
    let mut salt = [0u8; 16];
    getrandom::fill(&mut salt).ok()?;
    tokio::task::spawn_blocking(move || Verifier::from_password(&password, &salt, ITERATIONS)).await.ok()
}

/// Runs the configured statement on a connection of its own, with a search_path that nobody can have tampered with.
async fn auth_query(
    config: &Config,
    query: &AuthQuery,
    target: &Target,
    dbname: &str,
    user: &str,
) -> std::result::Result<Option<Secret>, String> {
    let stream = connect::dial(target).await.map_err(|e| e.to_string())?;
    let mut options = tokio_postgres::Config::new();
    options
        .user(&query.user)
        .dbname(dbname)
        .options("-c search_path=pg_catalog")
        .application_name("turnpike auth");
    if let Some(Secret::Password(password)) = config.user(&query.user).map(|u| &u.secret) {
        options.password(password);
    }
    let (client, connection) =
        options.connect_raw(stream, tokio_postgres::NoTls).await.map_err(|e| describe(&e))?;
    let driver = tokio::spawn(connection);
    let rows = client.query_opt(&query.sql, &[&user]).await.map_err(|e| describe(&e));
    drop(client);
    driver.abort();
    let Some(row) = rows? else { return Ok(None) };
    if row.len() < 2 {
        return Err("auth_query must give two columns, name and verifier".to_string());
    }
    let stored: Option<String> = row.try_get(1).map_err(|e| e.to_string())?;
    Ok(stored.map(|stored| Secret::stored(&stored)))
}

fn describe(e: &tokio_postgres::Error) -> String {
    e.as_db_error().map_or_else(|| e.to_string(), |db| format!("{} ({})", db.message(), db.code().code()))
}
