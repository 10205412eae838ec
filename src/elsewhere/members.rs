//! Enters this process among those that write to a database and tell each other so ([`crate::cache::strict`]), and asks the
//! server who else is: each holds an advisory lock, by a connection that ends with the process.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;

use super::{Never, PAUSES, ROUND, moved, primary, trouble};
use crate::cache::strict::{Answer, Board, FRESH};
use crate::core::clock::Instant;
use crate::core::error::Error;
use crate::pool::driver::{self, Login, said};
use crate::session::past::RUNNING;
use crate::session::shared::Shared;

/// What the server calls the connection.
const APPLICATION: &str = "turnpike members";
/// The first number of the locks; the second is the process' own. Others may use that as well, for something else: then
/// there is one more who never has a lease.
const LOCKS: i32 = 0x5450_4b53;
/// How often it is asked who is there.
const ASKED: Duration = Duration::from_millis(250);

const IDENTITY: &str = "SELECT pg_catalog.pg_is_in_recovery(), c.system_identifier::pg_catalog.text, d.oid \
    FROM pg_catalog.pg_control_system() c, pg_catalog.pg_database d \
    WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()";
const ENTER: &str = "SELECT pg_catalog.pg_try_advisory_lock($1, $2)";
const MEMBERS: &str = "SELECT l.objid FROM pg_catalog.pg_locks l \
    WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.granted AND l.objsubid OPERATOR(pg_catalog.=) 2 \
    AND l.classid OPERATOR(pg_catalog.=) $1 AND l.database OPERATOR(pg_catalog.=) $2";

/// Where processes tell each other of writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    /// Backend or cluster.
    name: String,
    /// `[[database]]`
    database: String,
    dbname: String,
}

/// Attends to whatever the configuration asks for, for as long as it is polled. What has once been asked for is attended to for
/// as long as the process runs: sessions tell of their writes as long as others may rely on that.
pub async fn run(shared: Arc<Shared>) {
    let Some(cache) = shared.cache.clone() else { return };
    let mut attended = HashSet::new();
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let config = shared.config.load_full();
        for (name, dbname, database) in config.strict_places() {
            if let Some(redis) =
                config.redis.clone().filter(|_| attended.insert((name.clone(), dbname.clone())))
            {
                let board = cache.board(&name, &dbname);
                tasks.spawn(board.clone().run(redis));
                tasks.spawn(attend(shared.clone(), Place { name, database, dbname }, board));
            }
        }
        tokio::time::sleep(ROUND).await;
    }
}

async fn attend(shared: Arc<Shared>, place: Place, board: Arc<Board>) {
    let (mut pause, mut said) = (PAUSES.0, String::new());
    loop {
        let began = Instant::now();
        let trouble = match attempt(&shared, &place, &board).await {
            Ok(never) => match never {},
            Err(e) => e,
        };
        let why = trouble.message.to_string();
        board.lost(&why);
        pause = if began.elapsed() > FRESH * 10 { PAUSES.0 } else { (pause * 2).min(PAUSES.1) };
        // Said once, not whenever it is tried.
        if said != why {
            tracing::warn!(database = place.database, error = why, "it is not known who else writes");
            said = why;
        }
        tokio::time::sleep(pause).await;
    }
}

async fn attempt(shared: &Shared, place: &Place, board: &Board) -> Result<Never, Error> {
    let config = shared.config.load_full();
    let gone = || trouble("its [[database]] is gone", "");
    let database = config.database(&place.database).ok_or_else(gone)?;
    let target = primary(shared, database)?;
    let user = database.invalidation.user.as_ref().and_then(|name| config.user(name));
    let login = Login::of(user.ok_or_else(|| trouble("there is no invalidation_user", ""))?);
    let kept = within(driver::kept(&target, &login, &place.dbname, APPLICATION)).await??;
    let asked = async { ask(&kept.client, board).await };
    tokio::select! {
        outcome = asked => outcome,
        () = moved(shared, database.cluster.as_deref(), &target) => Err(trouble("the backend is another", "")),
    }
}

/// Enters this process, and asks who else is, until the connection is lost.
async fn ask(client: &Client, board: &Board) -> Result<Never, Error> {
    let identity = within(client.query_one(IDENTITY, &[])).await?.map_err(said)?;
    let (standby, system, oid): (bool, String, u32) = (
        identity.try_get(0).map_err(said)?,
        identity.try_get(1).map_err(said)?,
        identity.try_get(2).map_err(said)?,
    );
    if standby {
        return Err(trouble("the server is in recovery", "name the primary"));
    }
    let random = getrandom::u32().map_err(|e| trouble(format!("no random number: {e}"), ""))?;
    // A number that is taken is as good as lost: another is tried with another connection.
    let number = i32::try_from(random >> 1).unwrap_or(0);
    let entered = within(client.query_one(ENTER, &[&LOCKS, &number])).await?.map_err(said)?;
    if !entered.try_get::<_, bool>(0).map_err(said)? {
        return Err(trouble("its number is taken", ""));
    }
    board.entered(&format!("turnpike:{{{system}:{oid}}}"), number.unsigned_abs(), Instant::now());
    let locks = LOCKS.unsigned_abs();
    loop {
        let asked = Instant::now();
        let members = within(client.query(MEMBERS, &[&locks, &oid])).await?.map_err(said)?;
        let members =
            members.iter().map(|row| row.try_get::<_, u32>(0)).collect::<Result<_, _>>().map_err(said)?;
        let mut answer = Answer { members, ..Answer::default() };
        if !answer.members.contains(&number.unsigned_abs()) {
            return Err(trouble("its lock is gone", ""));
        }
        if board.is_in_doubt() {
            let running = within(client.query(RUNNING, &[&oid])).await?.map_err(said)?;
            answer.running =
                running.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(said)?;
        }
        board.answered(answer, asked);
        tokio::time::sleep(ASKED).await;
    }
}

/// What does not come in time says nothing that is of use.
async fn within<T>(asked: impl Future<Output = T>) -> Result<T, Error> {
    let late = |_| trouble("the server does not answer", "");
    tokio::time::timeout(FRESH * 2, asked).await.map_err(late)
}
