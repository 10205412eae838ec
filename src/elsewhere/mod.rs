//! Writers elsewhere: follows what the servers tell of them, and says so to [`crate::cache::outside`].
//!
//! Two ways: the WAL, by logical replication ([`wal`]), and triggers that notify ([`triggers`]). Both need something in
//! the database that a command makes ([`install`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::cache::outside::Outside;
use crate::config::invalidation::{Invalidation, Teller};
use crate::config::{Config, Database};
use crate::core::clock::Instant;
use crate::core::error::{Error, SqlState};
use crate::pool::connect::Target;
use crate::pool::driver::Login;
use crate::session::shared::Shared;

mod answer;
pub mod install;
mod line;
pub mod members;
mod question;
mod told;
mod triggers;
mod wal;

/// How often it is looked whether the configuration, or a primary, is another.
const ROUND: Duration = Duration::from_millis(500);
/// Pauses between two attempts: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Part of the bound that passes between two questions.
const PART: u32 = 4;
/// Shortest pause between two questions, where something waits to become visible.
const HURRY: Duration = Duration::from_millis(4);
/// Longest that an answer may take, and that a stream may be silent though it is asked.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where somebody is to be listened to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// Backend or cluster.
    name: String,
    /// `[[database]]`
    database: String,
    dbname: String,
    invalidation: Invalidation,
}

/// A task that ends with the value.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Follows whatever the configuration asks for, for as long as it is polled.
pub async fn run(shared: Arc<Shared>) {
    let mut tasks: Vec<(Place, Task)> = Vec::new();
    loop {
        let wanted = places(&shared.config.load());
        tasks.retain(|(place, _)| wanted.contains(place));
        for place in wanted {
            if !tasks.iter().any(|(known, _)| *known == place) {
                let task = tokio::spawn(follow(shared.clone(), place.clone()));
                tasks.push((place, Task(task)));
            }
        }
        tokio::time::sleep(ROUND).await;
    }
}

/// One for each database on a server, however many names it has.
fn places(config: &Config) -> Vec<Place> {
    let mut places = HashMap::new();
    for database in config.databases.iter().filter(|database| database.invalidation.is_told()) {
        let (name, dbname) = config.place(database);
        let (database, invalidation) = (database.name.clone(), database.invalidation.clone());
        let key = (name.clone(), dbname.clone());
        places.entry(key).or_insert(Place { name, database, dbname, invalidation });
    }
    places.into_values().collect()
}

/// Says that nobody tells anything any more when it goes.
struct Following(Arc<Outside>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.lost("it is not followed any more");
    }
}

async fn follow(shared: Arc<Shared>, place: Place) {
    let Some(cache) = &shared.cache else { return };
    let outside = cache.outsides.of(&place.name, &place.dbname);
    let following = Following(outside.clone());
    let (mut pause, mut said) = (PAUSES.0, String::new());
    loop {
        let began = Instant::now();
        let trouble = match attempt(&shared, &place, &outside).await {
            Ok(never) => match never {},
            Err(e) => e,
        };
        let why = match &trouble.hint {
            Some(hint) => format!("{} ({hint})", trouble.message),
            None => trouble.message.to_string(),
        };
        // What has gone well for a while is tried again at once.
        pause = if began.elapsed() > PATIENCE { PAUSES.0 } else { (pause * 2).min(PAUSES.1) };
        following.0.lost(&why);
        // Said once, not whenever it is tried.
        if said != why {
            tracing::warn!(database = place.database, error = why, "writers elsewhere are not known");
            said = why;
        }
        tokio::time::sleep(pause).await;
    }
}

/// What never is.
enum Never {}

/// Whom to ask, and what about.
struct Desk<'a> {
    shared: &'a Shared,
    target: Arc<Target>,
    login: Login,
    place: &'a Place,
    outside: &'a Outside,
}

async fn attempt(shared: &Shared, place: &Place, outside: &Outside) -> Result<Never, Error> {
    let config = shared.config.load_full();
    let gone = || trouble("its [[database]] is gone", "");
    let database = config.database(&place.database).ok_or_else(gone)?;
    let target = primary(shared, database)?;
    let user = place.invalidation.user.as_ref().and_then(|name| config.user(name));
    let login = Login::of(user.ok_or_else(|| trouble("there is no invalidation_user", ""))?);
    let desk = Desk { shared, target: target.clone(), login, place, outside };
    let moved = moved(shared, database.cluster.as_deref(), &target);
    let followed = async {
        match place.invalidation.teller {
            Teller::Wal => wal::follow(&desk).await,
            Teller::Triggers => triggers::follow(&desk).await,
            Teller::Nobody => Err(trouble("nobody is asked to tell", "")),
        }
    };
    tokio::select! {
        outcome = followed => outcome,
        () = moved => Err(trouble("the backend is another", "")),
    }
}

/// The server that a database is written on.
fn primary(shared: &Shared, database: &Database) -> Result<Arc<Target>, Error> {
    let Some(name) = &database.cluster else { return Ok(shared.pools.target(database)) };
    let primary = shared.clusters.get(name).and_then(|cluster| cluster.primary());
    primary.map(|member| member.target.clone()).ok_or_else(|| trouble("there is no primary", ""))
}

/// Returns when the server is to be found elsewhere.
async fn moved(shared: &Shared, cluster: Option<&str>, target: &Arc<Target>) {
    let generation = target.generation();
    loop {
        tokio::time::sleep(ROUND).await;
        let leads = |name| {
            let primary = shared.clusters.get(name).and_then(|cluster| cluster.primary());
            primary.is_some_and(|primary| Arc::ptr_eq(&primary.target, target))
        };
        if target.generation() != generation || cluster.is_some_and(|name| !leads(name)) {
            return;
        }
    }
}

/// What keeps a stream from being followed, and what to do about it.
fn trouble(what: impl Into<String>, hint: &str) -> Error {
    let error = Error::backend(SqlState::CANNOT_CONNECT_NOW, what.into());
    if hint.is_empty() { error } else { error.hint(hint.to_string()) }
}
