//! What is known of writers elsewhere: those whose writes do not pass through this process, and that a stream from the
//! server tells of ([`crate::cache`] has the proof). Whoever follows the stream says here what has come; whoever keeps or
//! gives results asks here. No I/O, no clock.
//!
//! A commit that the stream has told of marks its tables until a snapshot shows that it is visible: the server tells of
//! it when it is in the WAL, and those who read do not see it before it has left the list of running transactions. What
//! is not known in detail marks everything: at the beginning, and whenever definitions have changed, until every
//! transaction has ended that may have written what the stream does not tell.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use self::past::Past;
use super::rows::RowKey;
use super::watched::Watched;
use crate::core::clock::Instant;
use crate::fence::Snapshot;
use crate::fence::versions::{Marks, Row, Stamp, Versions, Written};

mod common;
pub mod past;
mod whole;

/// Commits that wait for being visible, each with its tables; beyond that everything is marked.
const MOST_OPEN: usize = 1024;
/// Tables, and rows, of one commit that are told apart.
pub const MOST_CHANGES: usize = 64;
/// Rows of one table among them.
pub const MOST_ROWS: usize = 16;
/// Samples that wait for the stream: with so many, another one more says nothing.
const MOST_SAMPLES: usize = 64;

/// A backend or cluster, by its name, and a database on it.
type Place = (Box<str>, Box<str>);

/// What is known of writers elsewhere, by place.
#[derive(Debug, Default)]
pub struct Outsides(Mutex<HashMap<Place, Arc<Outside>>>);

impl Outsides {
    /// Of a database: on a backend or cluster of that name, by its name there.
    pub fn of(&self, place: &str, dbname: &str) -> Arc<Outside> {
        self.0.lock().entry((place.into(), dbname.into())).or_default().clone()
    }

    /// All that there are.
    pub fn all(&self) -> Vec<(Place, Arc<Outside>)> {
        let mut all: Vec<_> =
            self.0.lock().iter().map(|(at, outside)| (at.clone(), outside.clone())).collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }
}

/// How the stream is doing, for people and metrics.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// What keeps it from being followed. `None` where it is followed.
    pub trouble: Option<String>,
    /// Bytes of WAL that it is behind.
    pub behind: u64,
    /// Bytes of WAL that the server keeps for it.
    pub retained: u64,
    /// What the server says of that: `reserved`, `extended`, `unreserved`, `lost`.
    pub status: String,
    /// Commits that it has told of.
    pub commits: u64,
    /// Times that it was lost.
    pub losses: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Outside {
    versions: Arc<Versions>,
    watched: ArcSwap<Watched>,
    /// Until when it is shown that nothing is missing that is older than the bound, in microseconds.
    shown_until_us: AtomicU64,
    /// How often it was lost, and up to where all has come since.
    losses: AtomicU64,
    position: AtomicU64,
    hurried: Notify,
    ledger: Mutex<Ledger>,
    health: Mutex<Health>,
}

/// Something that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// To this table, by oid.
    pub table: u32,
    /// This row of it, or any.
    pub row: Option<Row>,
}

impl Change {
    /// Of who knows which rows.
    pub fn of_table(table: u32) -> Change {
        Change { table, row: None }
    }
}

/// What was known when the server was asked something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// Where an account of everything stands that must be made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nobody tells anything.
    Lost,
    /// Which transactions run is to be found out.
    Begun,
    /// Those below that number may have written, or defined, what nobody tells of.
    Running(u64),
    /// They have ended: what is watched is to be listed.
    Unlisted,
}

#[derive(Debug, Default)]
struct Ledger {
    /// Marks of everything, and how long they stay.
    unsure: Option<(Marks, Stage)>,
    /// How often it has begun anew.
    doubts: u64,
    /// Commits that are not visible yet, by number.
    open: Vec<(u32, Marks)>,
    position: u64,
    samples: Vec<(Instant, u64)>,
    bound: Duration,
    /// Of what was visible when this was asked, all has come.
    come: Instant,
    /// When it was last told what is watched.
    listed: Instant,
    /// What is known of what has come, where it has positions that mean something to others.
    past: Option<Past>,
    /// Up to where that is kept where others find it; `None` where it is not.
    told: Option<u64>,
}

impl Default for Outside {
    /// Nothing is known of anybody.
    fn default() -> Self {
        Outside {
            // Its own: what others write here outdates nothing that is declared to be bounded.
            versions: Versions::alone(),
            watched: ArcSwap::default(),
            shown_until_us: AtomicU64::new(0),
            losses: AtomicU64::new(0),
            position: AtomicU64::new(0),
            hurried: Notify::new(),
            ledger: Mutex::default(),
            health: Mutex::new(Health {
                trouble: Some("it is not followed yet".into()),
                ..Health::default()
            }),
        }
    }
}

/// For those who keep and give results.
impl Outside {
    /// Whether all is known by now that is older than the bound.
    #[inline]
    pub fn is_shown(&self, now: Instant) -> bool {
        now.micros_since(Instant::default()) < self.shown_until_us.load(Acquire)
    }

    /// The stamp of what is read from these tables from now on. `None` where writes to them may be missed.
    pub fn stamp(&self, tables: &[u32], now: Instant) -> Option<Stamp> {
        // In this order: what is not watched any more is marked before that is known.
        let stamp = self.versions.stamp(tables)?;
        let watched = self.watched.load();
        (self.is_shown(now) && tables.iter().all(|table| watched.covers(*table))).then_some(stamp)
    }

    /// The same of what is read from one row alone: of its table, where the row is not told as the plan has it.
    pub fn stamp_of_row(&self, key: &RowKey, row: Row, now: Instant) -> Option<Stamp> {
        // In this order: what its key is may change until it is looked at, and everything is marked before.
        let stamp = self.versions.stamp_of_row(key.table, row);
        let watched = self.watched.load();
        let known = watched.key(key.table).is_some_and(|known| known.iter().map(|(c, _)| c).eq(&key.columns));
        if !known {
            return self.stamp(&[key.table], now);
        }
        stamp.filter(|_| self.is_shown(now) && watched.covers(key.table))
    }

    /// Either, with a position: what is read from now on lacks no write to these tables, or to this row, that committed up
    /// to there. 0 where that is not known.
    pub fn stamp_at(
        &self,
        tables: &[u32],
        row: Option<(&RowKey, Row)>,
        now: Instant,
    ) -> Option<(Stamp, u64)> {
        // In this order: what had come by then has its marks, or has had them.
        let losses = self.losses.load(SeqCst);
        let position = self.position.load(SeqCst);
        let stamp = match row {
            Some((key, row)) => self.stamp_of_row(key, row, now)?,
            None => self.stamp(tables, now)?,
        };
        Some((stamp, if self.losses.load(SeqCst) == losses { position } else { 0 }))
    }

    /// Whether nothing has come since that concerns these tables.
    #[inline]
    pub fn is_current(&self, tables: &[u32], stamp: Stamp) -> bool {
        self.versions.is_current(tables, stamp)
    }

    /// When definitions may last have become others.
    pub fn defined(&self) -> Option<Instant> {
        self.versions.defined()
    }

    /// When a commit was last found to be visible.
    pub fn found(&self) -> Option<Instant> {
        self.versions.found()
    }

    /// Why results of these tables are neither kept nor given, or of a row alone, for people.
    pub fn why_not(&self, tables: &[u32], row: Option<(&RowKey, Row)>, now: Instant) -> Option<String> {
        if let Some(trouble) = self.health.lock().trouble.clone() {
            return Some(format!("writers elsewhere are not known: {trouble}"));
        }
        if !self.is_shown(now) {
            return Some("what is known of writers elsewhere is older than invalidation_bound".into());
        }
        if self.ledger.lock().unsure.is_some() {
            return Some("transactions elsewhere run that nobody tells of".into());
        }
        if !tables.iter().all(|table| self.watched.load().covers(*table)) {
            return Some(
                "a table of it is not watched (turnpike cache enable-wal or enable-triggers)".into(),
            );
        }
        let stamp = match row {
            Some((key, row)) => self.stamp_of_row(key, row, now),
            None => self.versions.stamp(tables),
        };
        stamp.is_none().then(|| "its tables are being written to elsewhere".into())
    }

    /// How it goes.
    pub fn health(&self) -> Health {
        self.health.lock().clone()
    }

    /// How often something was outdated.
    pub fn moves(&self) -> u64 {
        self.versions.outdated()
    }

    /// Tables that are watched.
    pub fn watched(&self) -> usize {
        self.watched.load().len()
    }
}

/// For those who follow.
impl Outside {
    /// Nobody tells anything from now on.
    pub fn lost(&self, why: &str) {
        self.shown_until_us.store(0, Release);
        self.position.store(0, SeqCst);
        self.losses.fetch_add(1, SeqCst);
        let mut ledger = self.ledger.lock();
        ledger.doubt(&self.versions, Stage::Lost);
        (ledger.position, ledger.samples) = (0, Vec::new());
        (ledger.come, ledger.past, ledger.told) = (Instant::default(), None, None);
        drop(ledger);
        let mut health = self.health.lock();
        health.losses += u64::from(health.trouble.is_none());
        health.trouble = Some(why.into());
    }

    /// Whatever commits from now on will be told, as far as it concerns tables that are watched; `from` where that is
    /// all from a position on that means something to others.
    pub fn begins(&self, bound: Duration, from: Option<u64>) {
        let mut ledger = self.ledger.lock();
        (ledger.bound, ledger.past) = (bound, from.map(Past::new));
        // Of what committed before that, the account of everything tells.
        ledger.position = from.unwrap_or(0);
        self.position.fetch_max(ledger.position, SeqCst);
        ledger.doubt(&self.versions, Stage::Begun);
        drop(ledger);
        self.health.lock().trouble = None;
    }

    /// What is watched.
    pub fn watched_now(&self) -> Arc<Watched> {
        self.watched.load_full()
    }

    /// A commit has come that made these changes (`None` for any). Nobody may see it yet where it has a number, which is
    /// then without the epoch. It ends at this position.
    pub fn committed(&self, xid: Option<u32>, changes: Option<&[Change]>, end: u64) {
        if changes.is_some_and(<[Change]>::is_empty) {
            return;
        }
        self.health.lock().commits += 1;
        let mut ledger = self.ledger.lock();
        // Before it has marks: who finds none any more finds this.
        if let Some(past) = &mut ledger.past {
            past.wrote(changes.map(|changes| changes.iter().map(|change| change.table)), end);
        }
        if xid.is_some() && ledger.open.len() >= MOST_OPEN {
            return ledger.doubt(&self.versions, Stage::Begun);
        }
        let mut marks = self.versions.begin();
        match changes.filter(|_| ledger.unsure.is_none()) {
            Some(changes) => {
                let watched = self.watched.load();
                for Change { table, row } in changes {
                    match row {
                        Some(row) => marks.add(Written::Row(*table, *row)),
                        None => marks.add(Written::Tables(&[*table])),
                    }
                    marks.add(Written::Tables(watched.beside(*table)));
                }
            }
            // What belongs to what is not known.
            None => marks.add(Written::Anything),
        }
        match xid {
            Some(xid) => ledger.open.push((xid, marks)),
            None => marks.end(true),
        }
    }

    /// Definitions may have changed, or what is written may have been missed.
    pub fn doubted(&self) {
        self.ledger.lock().doubt(&self.versions, Stage::Begun);
    }

    /// A commit has come that ends there and has changed definitions.
    pub fn redefined(&self, end: u64) {
        let mut ledger = self.ledger.lock();
        if let Some(past) = &mut ledger.past {
            past.defined(end);
        }
        ledger.doubt(&self.versions, Stage::Begun);
    }

    /// Says which time positions are of. Where that is another than before, definitions may be others.
    pub fn set_epoch(&self, epoch: &str) {
        let mut ledger = self.ledger.lock();
        if ledger.past.as_mut().is_some_and(|past| past.set_epoch(epoch)) {
            ledger.doubt(&self.versions, Stage::Begun);
        }
    }

    /// Everything up to this position has come.
    pub fn reached(&self, position: u64) {
        let mut ledger = self.ledger.lock();
        ledger.position = ledger.position.max(position);
        self.position.fetch_max(position, SeqCst);
        self.show(&mut ledger);
    }

    /// All that was visible at a moment ends before this position.
    pub fn sampled(&self, asked: Instant, position: u64) {
        let mut ledger = self.ledger.lock();
        if ledger.samples.len() < MOST_SAMPLES {
            ledger.samples.push((asked, position));
        }
        self.show(&mut ledger);
    }

    fn show(&self, ledger: &mut Ledger) {
        let (position, bound) = (ledger.position, ledger.bound);
        let Ledger { samples, come, .. } = ledger;
        for (asked, _) in samples.extract_if(.., |(_, needs)| *needs <= position) {
            let until = (asked + bound).micros_since(Instant::default());
            self.shown_until_us.fetch_max(until, AcqRel);
            *come = (*come).max(asked);
        }
    }

    /// What whoever begins to read from now on sees at least.
    pub fn seen(&self, snapshot: &Snapshot) {
        let mut ledger = self.ledger.lock();
        let visible: Vec<_> = ledger.open.extract_if(.., |(xid, _)| snapshot.shows(*xid)).collect();
        visible.into_iter().for_each(|(_, marks)| marks.end(true));
        if let Some((_, stage)) = &mut ledger.unsure
            && matches!(stage, Stage::Running(below) if snapshot.oldest >= *below)
        {
            *stage = Stage::Unlisted;
        }
    }

    /// What is to be asked to make the account of everything anew. `None` where there is one.
    pub fn wants(&self) -> Option<(Ticket, Stage)> {
        let ledger = self.ledger.lock();
        let (_, stage) = ledger.unsure.as_ref()?;
        Some((Ticket(ledger.doubts), *stage))
    }

    /// Every transaction that had a number when the ticket was taken, or before, has one below this, with the epoch.
    pub fn runs_below(&self, ticket: Ticket, next: u64) {
        let mut ledger = self.ledger.lock();
        let current = ledger.doubts == ticket.0;
        if let Some((_, stage @ Stage::Begun)) = &mut ledger.unsure
            && current
        {
            *stage = Stage::Running(next);
        }
    }

    /// What is watched, as somebody saw it who was asked after the ticket was taken, and has answered by now.
    pub fn listed(&self, ticket: Ticket, watched: Watched, now: Instant) {
        let mut ledger = self.ledger.lock();
        let current = ledger.doubts == ticket.0;
        if let Some((marks, _)) = ledger.unsure.take_if(|(_, stage)| current && *stage == Stage::Unlisted) {
            self.watched.store(Arc::new(watched));
            ledger.listed = now;
            marks.end(true);
        }
    }

    /// Whether something waits for a snapshot.
    pub fn is_open(&self) -> bool {
        let ledger = self.ledger.lock();
        !ledger.open.is_empty() || ledger.unsure.is_some()
    }

    /// Notes how far the stream is behind, and what the server keeps for it.
    pub fn note(&self, position: u64, retained: u64, status: &str) {
        let behind = position.saturating_sub(self.ledger.lock().position);
        let mut health = self.health.lock();
        (health.behind, health.retained) = (behind, retained);
        if health.status != status {
            health.status = status.into();
        }
    }
}

impl Ledger {
    /// Marks everything, in the place of what was marked in detail: who made that runs no longer when this ends.
    fn doubt(&mut self, versions: &Arc<Versions>, stage: Stage) {
        self.doubts += 1;
        let marks = self.unsure.take().map_or_else(
            || {
                let mut marks = versions.begin();
                marks.add(Written::Perhaps);
                marks
            },
            |(marks, _)| marks,
        );
        self.unsure = Some((marks, stage));
        self.open.drain(..).for_each(|(_, marks)| marks.end(true));
    }
}

#[cfg(test)]
mod tests;
