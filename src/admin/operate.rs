//! Commands that change something: for admins only. Names, meaning and tags are PgBouncer's where it has them.

use std::sync::Arc;
use std::time::Duration;

use super::command::{Answer, Caller};
use super::{flush, mirrors, warm};
use crate::core::error::{Error, SqlState};
use crate::mirror::record;
use crate::pool::pool::Pool;
use crate::session::entry::Verdict;
use crate::session::shared::Shared;

/// The commands, with what SHOW HELP says of them.
pub const COMMANDS: &[(&str, &str)] = &[
    ("RELOAD", "read the configuration file again"),
    ("PAUSE [db]", "lend no server connection, and wait until all are back"),
    ("RESUME [db]", "lend again"),
    ("RECONNECT [db]", "replace server connections as they come back"),
    ("REFRESH CATALOG [db]", "read again what databases contain; answers when that is done"),
    ("FLUSH CACHE [TABLE name [IN db] | SHAPE fingerprint]", "forget results that are kept"),
    ("WARM [db]", "read results again that are asked for most; tells how many"),
    ("WAIT_CLOSE [db]", "wait until those that RECONNECT replaces are closed"),
    ("KILL db", "end all clients of a database, and pause it"),
    ("KILL_CLIENT id", "end one client"),
    ("DISABLE db", "let no new client in to a database"),
    ("ENABLE db", "let them in again"),
    ("RECORD START name", "record traffic to files, as [record] allows; RECORD STOP ends it"),
    ("DRAIN", "let nobody in; each client ends when it is in no transaction"),
    ("SHUTDOWN", "drain, then end"),
    ("SHUTDOWN WAIT_FOR_CLIENTS", "let nobody in, and end when all have gone by themselves"),
];

/// How often what is waited for is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Whether a word begins one of these commands.
pub fn is_command(word: &str) -> bool {
    COMMANDS
        .iter()
        .any(|(usage, _)| usage.split(' ').next().is_some_and(|verb| verb.eq_ignore_ascii_case(word)))
}

/// Carries out one.
///
/// # Errors
/// 42501 for those who may only read, 42601 for what is missing, 3D000 for a database that is not configured.
pub async fn run(shared: &Arc<Shared>, caller: &Caller, words: &[&str]) -> Result<Answer, Error> {
    if !caller.admin {
        return Err(Error::statement(SqlState::INSUFFICIENT_PRIVILEGE, "only admins may do this")
            .hint("Readers may SHOW; admins are listed in admin.admins."));
    }
    let verb = words.first().map(|w| w.to_ascii_uppercase()).unwrap_or_default();
    let object = words.get(1).map(|w| w.trim_matches('"'));
    tracing::info!(user = caller.user, command = words.join(" "), "admin command");
    match verb.as_str() {
        "RELOAD" => alone(words).and_then(|()| reload(shared)),
        "PAUSE" => pause(shared, known(shared, object)?).await,
        "RESUME" => resume(shared, known(shared, object)?),
        "RECONNECT" => {
            shared.pools.of(known(shared, object)?).iter().for_each(|pool| pool.renew());
            Ok(Answer::Done("RECONNECT"))
        }
        "REFRESH" => refresh(shared, &words[1..]).await,
        "FLUSH" => flush::run(shared, &words[1..]),
        "WARM" => warm::run(shared, known(shared, object)?).await,
        "WAIT_CLOSE" => {
            let pools = shared.pools.of(known(shared, object)?);
            until(|| pools.iter().all(|pool| pool.is_renewed())).await;
            Ok(Answer::Done("WAIT_CLOSE"))
        }
        "RECORD" => record(shared, &words[1..]).await,
        "KILL" => kill(shared, needed(known(shared, object)?)?),
        "KILL_CLIENT" => kill_client(shared, needed(object)?),
        "DISABLE" | "ENABLE" => {
            let database = needed(known(shared, object)?)?;
            shared.pools.set_disabled(database, verb == "DISABLE");
            Ok(Answer::Done(if verb == "DISABLE" { "DISABLE" } else { "ENABLE" }))
        }
        "DRAIN" => {
            alone(words)?;
            shared.drain();
            Ok(Answer::Done("DRAIN"))
        }
        _ => shutdown(shared, object),
    }
}

/// The database that is named, if one is and it is served.
fn known<'a>(shared: &Shared, database: Option<&'a str>) -> Result<Option<&'a str>, Error> {
    let Some(name) = database else { return Ok(None) };
    match shared.config.load().database(name) {
        Some(_) => Ok(Some(name)),
        None => Err(Error::statement(
            SqlState::UNKNOWN_DATABASE,
            format!("database \"{}\" does not exist", name.escape_debug()),
        )),
    }
}

fn needed(object: Option<&str>) -> Result<&str, Error> {
    object.ok_or_else(|| {
        Error::statement(SqlState::SYNTAX_ERROR, "a name is missing").hint("SHOW HELP lists the commands.")
    })
}

/// What concerns the whole process: whoever names a part of it means something else.
fn alone(words: &[&str]) -> Result<(), Error> {
    match words {
        [] | [_] => Ok(()),
        [verb, ..] => {
            let message = format!("{} is of the whole process, and takes no name", verb.to_ascii_uppercase());
            Err(Error::statement(SqlState::SYNTAX_ERROR, message).hint("SHOW HELP lists the commands."))
        }
    }
}

async fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        tokio::time::sleep(LOOK).await;
    }
}

fn reload(shared: &Shared) -> Result<Answer, Error> {
    match shared.reload() {
        Ok(_) => Ok(Answer::Done("RELOAD")),
        Err(problems) => {
            Err(Error::statement(SqlState::CONFIG_FILE_ERROR, "the configuration was not reloaded")
                .detail(problems)
                .hint("Nothing has changed."))
        }
    }
}

async fn refresh(shared: &Shared, words: &[&str]) -> Result<Answer, Error> {
    let (what, object) = (words.first(), words.get(1).map(|w| w.trim_matches('"')));
    if words.len() > 2 || !what.is_some_and(|w| w.eq_ignore_ascii_case("catalog")) {
        return Err(Error::statement(SqlState::SYNTAX_ERROR, "REFRESH knows only CATALOG and a database")
            .hint("SHOW HELP lists the commands."));
    }
    let pools = shared.pools.of(known(shared, object)?);
    if !shared.config.load().plan.catalog {
        return Err(Error::statement(SqlState::WRONG_STATE, "catalogs are not read")
            .hint("Set plan.catalog in the configuration."));
    }
    let mut seen: Vec<Arc<Pool>> = Vec::new();
    for pool in pools {
        if !seen.iter().any(|other| Arc::ptr_eq(&other.schema, &pool.schema)) {
            seen.push(pool);
        }
    }
    // All at once: none of them waits for another.
    let read = async |pool: &Arc<Pool>| {
        let outcome = match shared.pools.home(pool) {
            Some(home) => home.schema.refresh(&home).await,
            None => Err("its cluster has no primary".into()),
        };
        (pool.purpose.database.clone(), outcome)
    };
    let outcomes = futures_util::future::join_all(seen.iter().map(read)).await;
    let failed =
        outcomes.into_iter().filter_map(|(name, outcome)| Some(format!("{name}: {}", outcome.err()?)));
    let failed = failed.collect::<Vec<_>>().join("; ");
    if failed.is_empty() {
        return Ok(Answer::Done("REFRESH CATALOG"));
    }
    Err(Error::statement(SqlState::CANNOT_CONNECT, "not every catalog could be read")
        .detail(failed)
        .hint("Until it can, everything counts as a write there."))
}

async fn record(shared: &Arc<Shared>, words: &[&str]) -> Result<Answer, Error> {
    match words.first().map(|w| w.to_ascii_uppercase()).as_deref() {
        Some("START") => {
            let name = words.get(1..).unwrap_or_default().concat();
            record::start(shared, name.trim_matches(['"', '\'']))?;
            Ok(Answer::Done("RECORD"))
        }
        Some("STOP") if words.len() == 1 => {
            let tap = record::stop(shared).await?;
            Ok(Answer::Rows(mirrors::recorded(&tap), "RECORD".to_string()))
        }
        _ => Err(Error::statement(SqlState::SYNTAX_ERROR, "RECORD knows only START with a name, and STOP")
            .hint("SHOW HELP lists the commands.")),
    }
}

async fn pause(shared: &Shared, database: Option<&str>) -> Result<Answer, Error> {
    shared.pools.pause(database);
    // RESUME, by another admin, ends the wait.
    until(|| {
        let pools = shared.pools.of(database);
        let paused = |pool: &Arc<Pool>| shared.pools.is_paused(&pool.purpose.database);
        pools.iter().all(|pool| pool.is_quiet() || !paused(pool))
    })
    .await;
    Ok(Answer::Done("PAUSE"))
}

fn resume(shared: &Shared, database: Option<&str>) -> Result<Answer, Error> {
    if shared.pools.resume(database) {
        return Ok(Answer::Done("RESUME"));
    }
    let what = database.map_or("nothing".to_string(), |name| format!("database \"{name}\""));
    let not = if database.is_some() { "is not paused" } else { "is paused" };
    Err(Error::statement(SqlState::WRONG_STATE, format!("{what} {not}")))
}

fn kill(shared: &Shared, database: &str) -> Result<Answer, Error> {
    shared.pools.pause(Some(database));
    for entry in shared.entries().iter().filter(|e| e.pool.purpose.database == database) {
        entry.end(Verdict::Killed);
    }
    shared.pools.of(Some(database)).iter().for_each(|pool| pool.renew());
    Ok(Answer::Done("KILL"))
}

fn kill_client(shared: &Shared, id: &str) -> Result<Answer, Error> {
    let entries = shared.entries();
    let Some(entry) = entries.iter().find(|e| e.id.to_string() == id) else {
        return Err(Error::statement(
            SqlState::UNDEFINED_OBJECT,
            format!("there is no client {}", id.escape_debug()),
        )
        .hint("SHOW CLIENTS tells their ids."));
    };
    entry.end(Verdict::Killed);
    Ok(Answer::Done("KILL_CLIENT"))
}

fn shutdown(shared: &Arc<Shared>, how: Option<&str>) -> Result<Answer, Error> {
    match how.map(str::to_ascii_uppercase).as_deref() {
        None => shared.stop.notify_one(),
        Some("WAIT_FOR_CLIENTS") => {
            shared.close();
            let shared = shared.clone();
            tokio::spawn(async move {
                shared.drained().await;
                shared.stop.notify_one();
            });
        }
        Some(_) => {
            return Err(Error::statement(SqlState::SYNTAX_ERROR, "SHUTDOWN knows only WAIT_FOR_CLIENTS"));
        }
    }
    Ok(Answer::Done("SHUTDOWN"))
}
