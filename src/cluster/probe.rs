//! Asking a member what it is and how far it has come, again and again, over one connection that is kept.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;

use super::member::{Member, Seen};
use super::{Cluster, State};
use crate::core::clock::Instant;
use crate::core::error::{Error, Result, SqlState};
use crate::fence::{Geometry, Lsn};
use crate::pool::driver::{self, Kept};

/// What the server calls our connection.
pub const APPLICATION: &str = "turnpike probe";

/// Time that a probe may take, in intervals, and its bounds: a server that is busy is not gone.
const INTERVALS: u32 = 5;
const LIMITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// Longest pause between attempts to reach a member that does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Time between two looks at where a member's name leads.
const LOOK_UP: Duration = Duration::from_millis(500);
/// Pause between probes while a read waits for a replica.
const HURRY: Duration = Duration::from_millis(5);

/// What does not change while a server runs, and what we may ask it: any role may by default, and any administrator may
/// have taken that back. A call that is not allowed fails even where it is not reached.
const INTRODUCTION: &str = "SELECT \
    pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')), \
    pg_catalog.current_setting('wal_block_size'), \
    pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'execute'), \
    pg_catalog.has_function_privilege('pg_catalog.pg_control_checkpoint()', 'execute') \
        AND pg_catalog.has_function_privilege('pg_catalog.pg_control_recovery()', 'execute')";

const SYSTEM: &str = "SELECT system_identifier FROM pg_catalog.pg_control_system()";

/// In recovery, the timeline is the greatest of what shows: what is received, which only members of pg_monitor see, and
/// what the control file has, which is behind. Out of recovery, it is in the name of the file that is written to.
const TIMELINES: &str = "(SELECT checkpoint.timeline_id FROM pg_catalog.pg_control_checkpoint() checkpoint), \
    (SELECT recovery.min_recovery_end_timeline FROM pg_catalog.pg_control_recovery() recovery)";
const NO_TIMELINES: &str = "NULL::int, NULL::int";

fn question(may_see_timelines: bool) -> String {
    format!(
        "SELECT r, CASE WHEN r THEN pg_catalog.pg_last_wal_replay_lsn() \
                   ELSE pg_catalog.pg_current_wal_insert_lsn() END, \
         CASE WHEN r THEN pg_catalog.pg_last_wal_receive_lsn() END, \
         CASE WHEN NOT r THEN pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()) END, \
         CASE WHEN r THEN (SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver) END, \
         pg_catalog.current_setting('default_transaction_read_only'), {} \
         FROM pg_catalog.pg_is_in_recovery() r",
        if may_see_timelines { TIMELINES } else { NO_TIMELINES }
    )
}

/// A connection that is kept, and what its server said first.
pub(super) struct Line {
    pub(super) kept: Kept,
    /// The target's generation that it was opened under.
    pub(super) generation: u64,
    geometry: Geometry,
    system: Option<u64>,
    question: String,
}

/// Which of the logins a member takes.
#[derive(Default)]
pub(super) struct Choice {
    login: usize,
    told: bool,
}

/// Probes a member for as long as it is polled: one probe at a time, each within its limit.
pub(super) async fn watch(cluster: Arc<Cluster>, member: Arc<Member>) {
    let mut line: Option<Line> = None;
    let mut choice = Choice::default();
    let mut failures = 0u32;
    // A connection that had worked said nothing any more.
    let mut hung = false;
    let mut generation = member.target.generation();
    let mut looked = Instant::now();
    // What it leads to now is what is compared with.
    member.target.look_up().await;
    loop {
        let interval = cluster.settings.load().config.lag_interval;
        if looked.elapsed() >= LOOK_UP {
            looked = Instant::now();
            if matches!(tokio::time::timeout(LIMITS.0, member.target.look_up()).await, Ok(true)) {
                let (cluster_name, backend) = (cluster.name(), member.name());
                tracing::warn!(cluster = cluster_name, backend, "the backend's name leads elsewhere now");
                cluster.changed.notify_one();
            }
        }
        if member.target.generation() != generation {
            generation = member.target.generation();
            line = None;
            cluster.forget(&member);
        }
        let began = Instant::now();
        let limit = (interval * INTERVALS).clamp(LIMITS.0, LIMITS.1);
        let had_line = line.is_some();
        let probe = probe(&cluster, &member, &mut line, &mut choice);
        let outcome = tokio::time::timeout(limit, probe).await;
        hung |= outcome.is_err() && had_line;
        if matches!(outcome, Ok(Ok(()))) && std::mem::take(&mut hung) {
            // The server is well: the connection was half open, and so may be others of its age.
            member.fell_silent();
        }
        failures = match outcome.unwrap_or_else(|_| Err(too_slow(limit))) {
            Ok(()) => 0,
            Err(e) => {
                line = None;
                cluster.missed(&member, &e);
                failures.saturating_add(1)
            }
        };
        let usual = if cluster.is_awaited() && failures == 0 { HURRY.min(interval) } else { interval };
        let pause =
            usual.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_PAUSE.max(interval));
        let rest = pause.saturating_sub(if failures == 0 { began.elapsed() } else { Duration::ZERO });
        // However many want to know, the server is not asked without end.
        tokio::time::sleep(HURRY.min(pause)).await;
        // A member that does not answer is left alone for its pause: everybody who misses it would have it asked.
        let woken = async {
            match failures {
                0 => member.wake.notified().await,
                _ => std::future::pending().await,
            }
        };
        // Which of the two it was does not matter.
        let _ = tokio::time::timeout(rest.saturating_sub(HURRY), woken).await;
    }
}

fn too_slow(limit: Duration) -> Error {
    Error::backend(SqlState::CONNECTION_FAILURE, format!("no answer to a probe within {limit:?}"))
}

/// One probe. A connection that has been lost is replaced at once: that its server was restarted is no failure.
async fn probe(
    cluster: &Cluster,
    member: &Member,
    line: &mut Option<Line>,
    choice: &mut Choice,
) -> Result<()> {
    let generation = member.target.generation();
    let kept = line.take().filter(|l| l.generation == generation);
    let opened = match kept {
        Some(kept) => match ask(cluster, member, &kept).await {
            Ok(()) => Ok(kept),
            Err(_) => Err(()),
        },
        None => Err(()),
    };
    let kept = match opened {
        Ok(kept) => kept,
        Err(()) => {
            let fresh = open(cluster, member, choice).await?;
            ask(cluster, member, &fresh).await?;
            fresh
        }
    };
    *line = Some(kept);
    Ok(())
}

pub(super) async fn open(cluster: &Cluster, member: &Member, choice: &mut Choice) -> Result<Line> {
    let settings = cluster.settings.load_full();
    let generation = member.target.generation();
    let (name, backend) = (cluster.name(), member.name());
    let mut refusal =
        Error::backend(SqlState::INVALID_AUTHORIZATION, "there is no [[user]] that probes could log in as");
    for n in 0..settings.logins.len() {
        let at = (choice.login + n) % settings.logins.len();
        let Some(login) = settings.logins.get(at) else { continue };
        match driver::kept(&member.target, login, &settings.dbname, APPLICATION).await {
            Ok(kept) => {
                if choice.login != at || !choice.told {
                    tracing::info!(cluster = name, backend, user = login.user, "probes log in");
                }
                *choice = Choice { login: at, told: true };
                return introduce(kept, generation).await;
            }
            // Another user may be let in.
            Err(e) if e.code.0.starts_with(b"28") => refusal = e,
            Err(e) => return Err(e),
        }
    }
    Err(refusal)
}

async fn introduce(kept: Kept, generation: u64) -> Result<Line> {
    let first = row(&kept, INTRODUCTION).await?;
    let field = |i: usize| first.get(i).and_then(Option::as_deref);
    let number = |i: usize| field(i).and_then(|text| text.parse::<u64>().ok());
    let geometry =
        Geometry { segment: number(0).unwrap_or(0), page: number(1).unwrap_or(Geometry::default().page) };
    let system = match field(2) {
        Some("t") => row(&kept, SYSTEM).await?.first().cloned().flatten().and_then(|text| text.parse().ok()),
        _ => None,
    };
    Ok(Line { kept, generation, geometry, system, question: question(field(3) == Some("t")) })
}

async fn ask(cluster: &Cluster, member: &Member, line: &Line) -> Result<()> {
    // A number is taken for whoever may be the primary; its answer counts only if it is.
    let number = (member.state() != State::Replica).then(|| cluster.clock.begin());
    let began = Instant::now();
    let answer = row(&line.kept, &line.question).await?;
    let seen = read(&answer, line, began.elapsed());
    let seen = seen.ok_or_else(|| {
        Error::backend(SqlState::PROTOCOL_VIOLATION, "the answer to a probe makes no sense")
    })?;
    cluster.observed(member, number, seen, began);
    Ok(())
}

/// What a server, or the way to it, has to say instead of an answer.
pub(super) fn failed(e: tokio_postgres::Error) -> Error {
    match e.as_db_error() {
        Some(e) => Error::backend(SqlState::from_text(e.code().code()), e.message().to_string()),
        None => Error::backend(SqlState::CONNECTION_FAILURE, e.to_string()),
    }
}

/// The only row of an answer.
async fn row(kept: &Kept, question: &str) -> Result<Vec<Option<String>>> {
    let messages = kept.client.simple_query(question).await.map_err(failed)?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|i| row.get(i).map(str::to_string)).collect())
        }
        _ => None,
    });
    row.ok_or_else(|| Error::backend(SqlState::PROTOCOL_VIOLATION, "a probe was answered without a row"))
}

/// The answer to [`question`]; `None` where it makes no sense.
fn read(answer: &[Option<String>], line: &Line, round_trip: Duration) -> Option<Seen> {
    let field = |i: usize| answer.get(i).and_then(Option::as_deref);
    let lsn = |i: usize| field(i).and_then(|text| text.parse::<Lsn>().ok());
    let in_recovery = field(0)? == "t";
    // A standby that has not begun to replay has no position yet.
    let position = lsn(1).or(in_recovery.then_some(Lsn(0)))?;
    let written = field(3).and_then(|name| u32::from_str_radix(name.get(..8)?, 16).ok());
    let received = [4, 6, 7].iter().filter_map(|i| field(*i)?.parse::<u32>().ok()).max();
    Some(Seen {
        in_recovery,
        position: line.geometry.end_of_records(position),
        received: lsn(2),
        timeline: if in_recovery { received.filter(|t| *t > 0) } else { written },
        system: line.system,
        read_only: !in_recovery && field(5) == Some("on"),
        round_trip,
    })
}
