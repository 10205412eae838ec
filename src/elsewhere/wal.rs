//! The WAL of a server, followed by logical replication (PostgreSQL's documentation, "Streaming Replication Protocol"):
//! what has committed comes over one connection, in order; over another the server is asked again and again how far its
//! WAL goes by now, and what everybody sees.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::{Instant as Moment, sleep_until};

use super::answer::{Answer, Row, field, read};
use super::install::{DEFINED, PUBLICATION};
use super::line::Line;
use super::question::{self, Introduced, Sample};
use super::told::{Columns, Told};
use super::{Desk, HURRY, Never, PART, PATIENCE, trouble};
use crate::cache::outside::{Stage, Ticket};
use crate::core::clock::Instant;
use crate::core::error::Error;
use crate::core::limits::FRAME_HEADER;
use crate::fence::{Geometry, Lsn};
use crate::wire::logical::{Message, Piece, status};
use crate::wire::reply;

/// What the server calls our connections.
const APPLICATION: &str = "turnpike wal";
/// Bytes of WAL that are told of again where what was known before may be of use: decoding takes seconds.
const MOST_MISSED: u64 = 256 << 20;
/// Longest that a stream may be silent though it is asked: a large transaction is decoded without a word.
const SILENCE: Duration = Duration::from_secs(300);

/// What was asked.
#[derive(Clone, Copy)]
enum Asked {
    Sample(Instant),
    Running(Ticket),
    List(Ticket),
}

struct Follower<'a> {
    desk: &'a Desk<'a>,
    slot: String,
    /// What the connection that follows calls itself: nobody else does.
    mark: String,
    geometry: Geometry,
    stream: Line<'a>,
    told: Told,
    /// What the rows of tables look like, by oid.
    columns: HashMap<u32, Columns>,
    position: u64,
    /// What the server need not keep any more.
    confirmed: u64,
    /// Which time positions are of, but for the roles.
    epoch: String,
    heard: Instant,
    probe: Line<'a>,
    answer: Answer,
    asked: Option<Asked>,
    /// Where the WAL ended when roles were last looked at.
    looked: Lsn,
    event_triggers: String,
}

/// Follows until that fails.
///
/// # Errors
/// Why it does.
pub(super) async fn follow(desk: &Desk<'_>) -> Result<Never, Error> {
    let mut follower = tokio::time::timeout(PATIENCE, begin(desk))
        .await
        .unwrap_or_else(|_| Err(trouble("the server takes too long to answer", "")))?;
    desk.outside.begins(desk.place.invalidation.bound, Some(follower.position));
    tracing::info!(database = desk.place.database, slot = follower.slot, "writers elsewhere are followed");
    follower.run().await
}

async fn begin<'a>(desk: &'a Desk<'a>) -> Result<Follower<'a>, Error> {
    let slot = desk.place.invalidation.slot(&desk.place.dbname);
    let number = getrandom::u64().map_err(|e| trouble(format!("no random number: {e}"), ""))?;
    let mark = format!("{APPLICATION} {number:016x}");
    let own = [question::SETTINGS, &[("application_name", APPLICATION)]].concat();
    let mut probe = Line::open(desk, &own).await?;
    let place = question::introduced(&probe.ask(&question::introduction(&slot)).await?, &slot)?;
    let Introduced { geometry, event_triggers, server, confirmed } = place;
    let params = [("replication", "database"), ("application_name", mark.as_str())];
    let mut stream = Line::open(desk, &params).await?;
    let system = stream.ask("IDENTIFY_SYSTEM").await?;
    let said = system.first().and_then(|row| Some((field(row, 0)?, field(row, 1)?, read::<Lsn>(row, 2)?)));
    let (number, timeline, end) =
        said.ok_or_else(|| trouble("the server does not say where its WAL ends", ""))?;
    let epoch = format!("{number}/{timeline}/{server}");
    // What was kept before by this process is read again, so that nothing is missed by what is skipped. What is found
    // in Redis may be as old as what we knew when we were here last.
    let cache = desk.shared.cache.as_ref().filter(|c| c.remote().is_some_and(|remote| remote.is_shared()));
    if let Some(cache) = cache {
        // From now on it is noted when writes end.
        cache.versions.of(&desk.place.dbname).ended(&[]);
    }
    let from =
        confirmed.filter(|at| cache.is_some() && end.0.saturating_sub(at.0) < MOST_MISSED).unwrap_or(end);
    let start = format!(
        "START_REPLICATION SLOT {} LOGICAL {from} \
         (proto_version '1', publication_names '\"{PUBLICATION}\"', messages 'true')",
        question::name(&slot)
    );
    streams(&mut stream, &start).await?;
    // From now on the slot is ours: what somebody else has confirmed meanwhile is not streamed.
    let rows = probe.ask(&question::confirmed(&slot)).await?;
    let confirmed: Option<Lsn> = rows.first().and_then(|row| read(row, 0));
    let confirmed = confirmed.ok_or_else(|| trouble(format!("slot \"{slot}\" is gone"), ""))?;
    let now = Instant::now();
    Ok(Follower {
        desk,
        slot,
        mark,
        geometry,
        stream,
        told: Told::default(),
        columns: HashMap::new(),
        position: from.0.max(confirmed.0),
        confirmed: confirmed.0,
        epoch,
        heard: now,
        probe,
        answer: Answer::default(),
        asked: None,
        looked: Lsn(0),
        event_triggers,
    })
}

/// Has it stream.
async fn streams(stream: &mut Line<'_>, start: &str) -> Result<(), Error> {
    stream.query(start).await?;
    loop {
        let frame = stream.next().await?;
        // Before anything else it says either that it streams, or why not.
        match frame.first() {
            Some(b'W') => return Ok(()),
            _ => drop(Answer::default().read(&frame)?),
        }
    }
}

impl Follower<'_> {
    async fn run(&mut self) -> Result<Never, Error> {
        let interval = self.desk.place.invalidation.bound / PART;
        let (mut due, mut asked) = (Moment::now(), Moment::now());
        loop {
            let idle = self.asked.is_none();
            tokio::select! {
                frame = self.stream.next() => {
                    let open = self.desk.outside.is_open();
                    self.streamed(&frame?).await?;
                    if !open && self.desk.outside.is_open() {
                        due = due.min(Moment::now() + HURRY);
                    }
                }
                frame = self.probe.next() => {
                    if let Some(rows) = self.answer.read(&frame?)? {
                        self.answered(&rows)?;
                        self.confirm(true).await?;
                        let pause = if self.desk.outside.is_open() { HURRY.min(interval) } else { interval };
                        due = Moment::now() + pause;
                    }
                }
                () = self.desk.outside.hurried(), if idle => due = due.min(asked + interval / PART),
                () = sleep_until(due), if idle => {
                    asked = Moment::now();
                    self.ask().await?;
                }
                () = sleep_until(due + PATIENCE), if !idle => {
                    return Err(trouble("the server does not answer", ""));
                }
            }
            if self.heard.elapsed() > SILENCE {
                return Err(trouble("the server does not stream", ""));
            }
        }
    }

    async fn ask(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let (asked, text) = match self.desk.outside.wants() {
            Some((ticket, Stage::Begun)) => (Asked::Running(ticket), question::RUNNING.to_string()),
            Some((ticket, Stage::Unlisted)) => (Asked::List(ticket), question::list()),
            _ => (Asked::Sample(now), question::sample(&self.slot, self.looked)),
        };
        self.asked = Some(asked);
        self.probe.query(&text).await
    }

    /// Says how far all has been dealt with, so that the server need not keep it; `asks` for how far it has streamed.
    async fn confirm(&mut self, asks: bool) -> Result<(), Error> {
        // Never less than before: the server would take it at its word.
        self.confirmed = self.confirmed.max(self.desk.outside.done(self.position));
        let done = self.confirmed;
        let body = status(done, self.desk.shared.unix_micros(), asks);
        let mut bytes = Vec::new();
        reply::frame(&mut bytes, b'd', |out| out.extend_from_slice(&body));
        self.stream.send(&bytes).await
    }

    fn answered(&mut self, rows: &[Row]) -> Result<(), Error> {
        let outside = self.desk.outside;
        match self.asked.take() {
            Some(Asked::Sample(asked)) => self.sampled(asked, Sample::read(rows)?)?,
            Some(Asked::Running(ticket)) => {
                let next = rows.first().and_then(|row| field(row, 0)?.parse().ok());
                let next = next.ok_or_else(|| trouble("the server does not say what runs", ""))?;
                outside.runs_below(ticket, next);
            }
            Some(Asked::List(ticket)) => {
                outside.listed(ticket, question::listed(rows, false)?, Instant::now())
            }
            None => {}
        }
        Ok(())
    }

    fn sampled(&mut self, asked: Instant, sample: Sample) -> Result<(), Error> {
        let outside = self.desk.outside;
        // The one that is asked must be the one that streams.
        if sample.follower.as_deref() != Some(&*self.mark) {
            return Err(trouble(format!("slot \"{}\" is not ours any more", self.slot), ""));
        }
        // Nothing tells of those but that they are others.
        if sample.event_triggers != self.event_triggers {
            return Err(trouble("the event triggers that tell of DDL have changed", ""));
        }
        if let Some(roles) = sample.roles {
            outside.set_epoch(&format!("{}/{}/{roles}", self.epoch, self.event_triggers));
        }
        self.looked = sample.insert;
        outside.seen(&sample.snapshot);
        outside.sampled(asked, self.geometry.end_of_records(sample.end).0);
        outside.note(sample.insert.0, sample.retained, &sample.status);
        Ok(())
    }

    async fn streamed(&mut self, frame: &[u8]) -> Result<(), Error> {
        self.heard = Instant::now();
        match frame.first() {
            Some(b'd') => {}
            Some(b'c') => return Err(trouble("the server has ended the stream", "")),
            _ => return Answer::default().read(frame).map(drop),
        }
        let unknown = || trouble("the stream has something in it that is not understood", "");
        match Piece::read(frame.get(FRAME_HEADER..).unwrap_or_default()).ok_or_else(unknown)? {
            Piece::Data(body) => self.message(Message::read(body).ok_or_else(unknown)?),
            Piece::Alive { end, asks } => {
                self.reach(end);
                if asks {
                    self.confirm(false).await?;
                }
            }
        }
        Ok(())
    }

    fn message(&mut self, message: Message<'_>) {
        let outside = self.desk.outside;
        match message {
            Message::Begin { xid } => self.told = Told::begins(xid),
            Message::Changed { table, rows } => {
                self.told.changed(table, rows, self.columns.get(&table), outside);
            }
            Message::Relation { table, columns } => {
                let columns = columns.map(|names| names.into_iter().map(Into::into).collect());
                self.columns.insert(table, columns.unwrap_or_default());
            }
            Message::Truncated { tables } => tables.into_iter().for_each(|table| self.told.emptied(table)),
            Message::Told { transactional, prefix, content } => {
                let ours = transactional && prefix == PUBLICATION.as_bytes();
                self.told.defines |= ours && content == DEFINED.as_bytes();
            }
            Message::Commit { end } => {
                let told = std::mem::take(&mut self.told);
                if told.defines {
                    outside.redefined(end);
                } else {
                    outside.committed(Some(told.xid), told.changes(), end);
                }
                self.reach(end);
            }
            Message::Description => {}
        }
    }

    fn reach(&mut self, position: u64) {
        self.position = self.position.max(position);
        self.desk.outside.reached(position);
    }
}
