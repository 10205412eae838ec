//! Triggers that notify (PostgreSQL's documentation, "NOTIFY"): what has committed comes over one connection that listens,
//! in the order in which it did. On the same channel we notify ourselves: what was committed before that comes before it.
//!
//! A notification is delivered when its transaction is seen by those who begin to read, so nothing waits for that.

use std::time::Duration;

use tokio::time::{Instant as Moment, sleep_until};

use super::answer::{Answer, Row, field};
use super::install::{DEFINED, PUBLICATION};
use super::line::Line;
use super::question;
use super::{Desk, HURRY, Never, PART, PATIENCE, trouble};
use crate::cache::outside::{Change, Stage, Ticket};
use crate::core::clock::Instant;
use crate::core::error::Error;
use crate::core::limits::FRAME_HEADER;
use crate::fence::Snapshot;
use crate::wire::message::cstr;

/// What the server calls our connection.
const APPLICATION: &str = "turnpike triggers";

/// What was asked.
#[derive(Clone, Copy)]
enum Asked {
    Beat(Instant),
    Running(Ticket),
    List(Ticket),
}

struct Listener<'a> {
    desk: &'a Desk<'a>,
    line: Line<'a>,
    answer: Answer,
    asked: Option<Asked>,
    /// What our own notifications begin with: other proxies have theirs.
    mark: String,
    beats: u64,
    event_triggers: String,
    roles: Option<String>,
}

/// Follows until that fails.
///
/// # Errors
/// Why it does.
pub(super) async fn follow(desk: &Desk<'_>) -> Result<Never, Error> {
    let mut listener = tokio::time::timeout(PATIENCE, begin(desk))
        .await
        .unwrap_or_else(|_| Err(trouble("the server takes too long to answer", "")))?;
    desk.outside.begins(desk.place.invalidation.bound, None);
    tracing::info!(database = desk.place.database, "writers elsewhere are listened to");
    listener.run(desk.place.invalidation.bound / PART).await
}

async fn begin<'a>(desk: &'a Desk<'a>) -> Result<Listener<'a>, Error> {
    let number = getrandom::u64().map_err(|e| trouble(format!("no random number: {e}"), ""))?;
    // Notifications of our own need not be on disk: the last word for a setting counts.
    let own = [("application_name", APPLICATION), ("synchronous_commit", "off")];
    let mut line = Line::open(desk, &[question::SETTINGS, &own].concat()).await?;
    let rows = line.ask(&question::triggers_introduction()).await?;
    let event_triggers = question::triggers_introduced(&rows)?;
    line.ask(&format!("LISTEN {PUBLICATION}")).await?;
    Ok(Listener {
        desk,
        line,
        answer: Answer::default(),
        asked: None,
        mark: format!("{number:016x} "),
        beats: 0,
        event_triggers,
        roles: None,
    })
}

impl Listener<'_> {
    async fn run(&mut self, interval: Duration) -> Result<Never, Error> {
        let mut due = Moment::now();
        loop {
            let idle = self.asked.is_none();
            tokio::select! {
                frame = self.line.next() => {
                    let frame = frame?;
                    if frame.first() == Some(&b'A') {
                        self.notified(&frame)?;
                    } else if let Some(rows) = self.answer.read(&frame)? {
                        self.answered(&rows)?;
                        let pause = if self.desk.outside.is_open() { HURRY.min(interval) } else { interval };
                        due = Moment::now() + pause;
                    }
                }
                () = sleep_until(due), if idle => self.ask().await?,
                () = sleep_until(due + PATIENCE), if !idle => {
                    return Err(trouble("the server does not answer", ""));
                }
            }
        }
    }

    async fn ask(&mut self) -> Result<(), Error> {
        let (asked, text) = match self.desk.outside.wants() {
            Some((ticket, Stage::Begun)) => (Asked::Running(ticket), question::RUNNING.to_string()),
            Some((ticket, Stage::Unlisted)) => (Asked::List(ticket), question::triggers_list()),
            _ => {
                self.beats += 1;
                let payload = format!("{}{}", self.mark, self.beats);
                (Asked::Beat(Instant::now()), question::beat(&payload))
            }
        };
        self.asked = Some(asked);
        self.line.query(&text).await
    }

    fn answered(&mut self, rows: &[Row]) -> Result<(), Error> {
        let outside = self.desk.outside;
        match self.asked.take() {
            Some(Asked::Beat(asked)) => self.beaten(asked, rows)?,
            Some(Asked::Running(ticket)) => {
                let next = rows.first().and_then(|row| field(row, 0)?.parse().ok());
                let next = next.ok_or_else(|| trouble("the server does not say what runs", ""))?;
                outside.runs_below(ticket, next);
            }
            Some(Asked::List(ticket)) => {
                outside.listed(ticket, question::listed(rows, true)?, Instant::now())
            }
            None => {}
        }
        Ok(())
    }

    fn beaten(&mut self, asked: Instant, rows: &[Row]) -> Result<(), Error> {
        let outside = self.desk.outside;
        let row = rows.first();
        let snapshot: Option<Snapshot> = row.and_then(|row| field(row, 1)?.parse().ok());
        let snapshot = snapshot.ok_or_else(|| trouble("the server does not say what is visible", ""))?;
        // Nothing tells of those but that they are others.
        if row.and_then(|row| field(row, 2)) != Some(&self.event_triggers) {
            return Err(trouble("the event triggers that tell of DDL have changed", ""));
        }
        let roles = row.and_then(|row| field(row, 3)).map(str::to_string);
        if self.roles.is_some() && roles != self.roles {
            outside.doubted();
        }
        self.roles = roles;
        outside.seen(&snapshot);
        outside.sampled(asked, self.beats);
        Ok(())
    }

    /// NotificationResponse: who notifies, the channel, and what is said.
    fn notified(&mut self, frame: &[u8]) -> Result<(), Error> {
        let outside = self.desk.outside;
        let unknown = || trouble("a notification is not understood", "");
        let body = frame.get(FRAME_HEADER + 4..).unwrap_or_default();
        let (_, rest) = cstr(body).ok_or_else(unknown)?;
        let (said, _) = cstr(rest).ok_or_else(unknown)?;
        let said = std::str::from_utf8(said).map_err(|_| unknown())?;
        if said == DEFINED {
            outside.doubted();
        } else if let Some(beat) = said.strip_prefix(&self.mark) {
            outside.reached(beat.parse().map_err(|_| unknown())?);
        } else if let Ok(table) = said.parse::<u32>() {
            outside.committed(None, Some(&[Change::of_table(table)]), 0);
        }
        Ok(())
    }
}
