//! Recordings: a line like a mirror's, emptied into files. Begun and ended by an administrator, within what the
//! configuration allows; it ends by itself when its files are full.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::mpsc::UnboundedReceiver;

use super::file::event::{self, Begin, Ended, Event, Recorded, Shape};
use super::file::key::Key;
use super::file::seal::Sealer;
use crate::config::Record;
use crate::core::clock::Instant;
use crate::core::error::{Error, SqlState};
use crate::plan::Plan;
use crate::plan::sameness::Sameness;
use crate::pool::settings::Settings;
use crate::session::shadow::exchange::{Answered, Arrival, Exchange};
use crate::session::shadow::taps::{Kind, Progress, Tap};
use crate::session::shared::Shared;

/// How often what has come is written out, and it is looked whether the recording is to end.
const ROUND: Duration = Duration::from_millis(500);
/// Longest time that the process waits for the end of a recording.
const PARTING: Duration = Duration::from_secs(5);
/// Characters of a shape that are kept.
const SHAPE: usize = 2000;
/// Longest name of a recording.
const LONGEST_NAME: usize = 100;

/// Begins a recording of that name.
///
/// # Errors
/// Nothing may be recorded, something is being recorded, or there is no place for it.
pub fn start(shared: &Arc<Shared>, name: &str) -> Result<(), Error> {
    let config = shared.config.load_full();
    let Some(record) = &config.record else {
        return Err(Error::statement(SqlState::WRONG_STATE, "nothing may be recorded")
            .hint("Set record.dir and record.key_file in the configuration."));
    };
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(letter) {
        return Err(Error::statement(SqlState::SYNTAX_ERROR, "that is no name of a recording")
            .hint("Letters, digits, - and _; its files are called NAME.1.tpr and so on."));
    }
    if shared.shadows.recording().is_some() {
        return Err(Error::statement(SqlState::WRONG_STATE, "something is being recorded already")
            .hint("RECORD STOP ends it."));
    }
    let cannot = |e: String| Error::statement(SqlState::CANNOT_CONNECT, "it cannot be recorded").detail(e);
    let key = Key::read(&record.key_file).map_err(cannot)?;
    let began = Began { at: Instant::now(), unix: shared.unix_time() as u64, key: shared.shadows.taps().key };
    let file = Files::create(record.clone(), name, key, began).map_err(|e| cannot(e.to_string()))?;
    let tap = Tap::new(Kind::Recording(Box::new(record.clone())), Progress::new(name));
    let line = tap.take_end().ok_or_else(|| Error::internal("a new line has no end"))?;
    let runtime = Builder::new_current_thread().enable_time().build().map_err(|e| cannot(e.to_string()))?;
    let work = write(shared.clone(), tap.clone(), line, file);
    thread::Builder::new()
        .name("turnpike-record".into())
        .spawn(move || runtime.block_on(work))
        .map_err(|e| cannot(e.to_string()))?;
    tracing::info!(name, literals = record.literals, "recording");
    shared.shadows.record(Some(tap));
    Ok(())
}

/// Ends the recording; returns when its last file is whole.
///
/// # Errors
/// There is none.
pub async fn stop(shared: &Shared) -> Result<Arc<Tap>, Error> {
    let Some(tap) = shared.shadows.recording() else {
        return Err(Error::statement(SqlState::WRONG_STATE, "nothing is being recorded"));
    };
    shared.shadows.record(None);
    while !tap.progress.is_over() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(tap)
}

/// Ends the recording, if there is one, since the process ends.
pub async fn finish(shared: &Shared) {
    // What cannot be ended in time lacks its end.
    let _ = tokio::time::timeout(PARTING, stop(shared)).await;
}

/// Writes down what comes until the recording ends.
async fn write(shared: Arc<Shared>, tap: Arc<Tap>, mut line: UnboundedReceiver<Arrival>, mut files: Files) {
    let mut outcome = Ok(());
    let mut flushed = Instant::now();
    while outcome.is_ok() {
        let arrival = tokio::time::timeout(ROUND, line.recv()).await;
        outcome = match arrival {
            Ok(None) => break,
            Ok(Some(Arrival::End(session))) => files.end(session),
            Ok(Some(Arrival::Exchange(exchange, _room))) => {
                let written = files.add(&exchange);
                if written.is_ok() {
                    tap.tally.run.add(1);
                }
                written
            }
            Err(_) => Ok(()),
        };
        if flushed.elapsed() >= ROUND && outcome.is_ok() {
            outcome = files.flush();
            flushed = Instant::now();
        }
        tap.progress.written(files.part, files.bytes());
        let goes_on = shared.shadows.recording().is_some_and(|now| Arc::ptr_eq(&now, &tap));
        // What is in line yet belongs to it.
        if !goes_on && line.is_empty() {
            break;
        }
    }
    let full = matches!(&outcome, Err(e) if e.kind() == io::ErrorKind::StorageFull && files.is_full());
    let part = files.part;
    let finished = files.finish();
    if let Err(e) = outcome.and(finished.map(drop)) {
        tracing::warn!(error = %e, "the recording has ended");
        tap.progress.ended_by(if full { "its files are full".to_string() } else { e.to_string() });
    }
    if shared.shadows.recording().is_some_and(|now| Arc::ptr_eq(&now, &tap)) {
        shared.shadows.record(None);
    }
    tracing::info!(files = part, exchanges = tap.tally.run.get(), "recorded");
    tap.progress.over();
}

/// When a recording began, and under which key its checksums are.
#[derive(Clone, Copy, Debug)]
struct Began {
    at: Instant,
    unix: u64,
    key: (u64, u64),
}

type Out = BufWriter<File>;

/// The files of a recording, one after the other.
struct Files {
    record: Record,
    name: String,
    key: Key,
    began: Began,
    part: u32,
    file: Option<Sealer<Out>>,
    finished: u64,
    full: bool,
    /// Shapes that the file at hand has, by fingerprint.
    shapes: HashMap<u128, u32>,
    /// What it says that sessions have set.
    settings: HashMap<u64, Arc<Settings>>,
    /// Sessions of which it has something.
    sessions: HashSet<u64>,
}

impl Files {
    fn create(record: Record, name: &str, key: Key, began: Began) -> io::Result<Files> {
        let mut files = Files {
            record,
            name: name.to_string(),
            key,
            began,
            part: 0,
            file: None,
            finished: 0,
            full: false,
            shapes: HashMap::new(),
            settings: HashMap::new(),
            sessions: HashSet::new(),
        };
        files.next()?;
        Ok(files)
    }

    /// Bytes that all files have so far.
    fn bytes(&self) -> u64 {
        self.finished + self.file.as_ref().map_or(0, Sealer::size)
    }

    fn is_full(&self) -> bool {
        self.full
    }

    fn path(&self) -> PathBuf {
        self.record.dir.join(format!("{}.{}.tpr", self.name, self.part))
    }

    /// Begins the next file; it says everything anew, so that each can be read alone.
    fn next(&mut self) -> io::Result<()> {
        self.close()?;
        if self.part >= self.record.max_files {
            self.full = true;
            return Err(io::Error::new(io::ErrorKind::StorageFull, "record.max_files are full"));
        }
        self.part += 1;
        (self.shapes, self.settings) = (HashMap::new(), HashMap::new());
        // What is there already is somebody's recording.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path());
        let file = file.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", self.path().display())))?;
        self.file = Some(Sealer::new(BufWriter::new(file), &self.key)?);
        let Began { unix, key, .. } = self.began;
        let begin = Begin { part: self.part, literals: self.record.literals, key, began: unix };
        self.event(&Event::Begin(begin))
    }

    fn close(&mut self) -> io::Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let file = file.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        self.finished += file.metadata()?.len();
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.close()
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), |file| event::add(file, event))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Sealer::flush)
    }

    fn end(&mut self, session: u64) -> io::Result<()> {
        self.settings.remove(&session);
        if !self.sessions.remove(&session) {
            return Ok(());
        }
        let at = Instant::now().micros_since(self.began.at);
        self.event(&Event::End(session, at))
    }

    fn add(&mut self, exchange: &Exchange) -> io::Result<()> {
        // Encrypted, it takes a little more than what it is.
        let size = exchange.weight() as u64 + 1024;
        let written = self.file.as_ref().map_or(0, Sealer::size);
        if written + size > self.record.max_size as u64 && self.settings.len() + self.shapes.len() > 0 {
            self.next()?;
        }
        let results =
            exchange.results.iter().map(|answered| self.result(answered)).collect::<io::Result<_>>()?;
        let literals = self.record.literals;
        let known = self.settings.get(&exchange.session);
        if literals && !known.is_some_and(|known| Settings::same(known, &exchange.settings)) {
            let pairs = exchange.settings.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
            self.event(&Event::Settings(exchange.session, pairs))?;
            self.settings.insert(exchange.session, exchange.settings.clone());
        }
        self.sessions.insert(exchange.session);
        let over = exchange.at.micros_since(self.began.at);
        let definition =
            |d: &crate::session::shadow::exchange::Definition| (d.name.to_vec(), d.body().to_vec());
        let statements = exchange.statements.iter().map(definition);
        self.event(&Event::Exchange(Recorded {
            session: exchange.session,
            number: exchange.number,
            fresh: exchange.fresh,
            reads: exchange.reads,
            at_us: over.saturating_sub(exchange.took_us),
            took_us: exchange.took_us,
            statements: if literals { statements.collect() } else { Vec::new() },
            requests: if literals { exchange.requests.clone() } else { Vec::new() },
            results,
        }))
    }

    /// A statement's shape, which is said before it is first used, and what it came to.
    fn result(&mut self, answered: &Answered) -> io::Result<Ended> {
        let Some(plan) = &answered.plan else {
            return Ok(Ended::new(0, Sameness::Nothing, &self.told(answered)));
        };
        let shape = self.shape(plan)?;
        Ok(Ended::new(shape, plan.sameness, &self.told(answered)))
    }

    /// Without consent, not even checksums of values are kept.
    fn told(&self, answered: &Answered) -> crate::wire::summary::Outcome {
        let mut outcome = answered.outcome;
        if !self.record.literals {
            (outcome.sum, outcome.chain) = (0, 0);
        }
        outcome
    }

    fn shape(&mut self, plan: &Plan) -> io::Result<u32> {
        if let Some(known) = self.shapes.get(&plan.fingerprint) {
            return Ok(*known);
        }
        let id = u32::try_from(self.shapes.len() + 1).unwrap_or(u32::MAX);
        let shape = Shape { id, fingerprint: plan.fingerprint, text: plan.masked(SHAPE) };
        self.event(&Event::Shape(shape))?;
        self.shapes.insert(plan.fingerprint, id);
        Ok(id)
    }
}
