//! Plays recordings to a server: sessions beside each other as they were, each in order on a connection of its own, and
//! compares what it answers with what was recorded.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::compare::{Here, Shape, judge};
use super::file::event::{Begin, Event, Events, Recorded};
use super::file::key::Key;
use super::file::seal::Broken;
use super::link::Address;
use super::player::{Manner, Player, Script};
use crate::core::clock::Instant;
use crate::core::error::Result;
use crate::pool::connect::Target;
use crate::pool::settings::Settings;
use crate::session::shadow::tally::Tally;

/// Exchanges of a session that wait for their turn; then the file is read no further.
const AHEAD: usize = 256;

/// How a recording is played.
#[derive(Clone, Debug)]
pub struct Options {
    /// Files, in order.
    pub files: Vec<PathBuf>,
    /// The key that they were recorded under.
    pub key: Key,
    /// How many times as fast as it was; `None` for as fast as it goes.
    pub speed: Option<f64>,
    /// Nothing but reads, each on its own.
    pub only_reads: bool,
    /// Most connections.
    pub connections: usize,
    /// Longest time for an exchange.
    pub timeout: Duration,
}

/// What some files have in them.
#[derive(Debug, Default)]
pub struct Contents {
    /// What holds for them.
    pub begin: Option<Begin>,
    /// The last file lacks its end: these are the contents up to there, each part of which is as it was written and where
    /// it was written. What was behind is not known, nor how much it was.
    pub is_cut: bool,
    /// Events that are whole.
    pub events: u64,
    /// Sessions.
    pub sessions: usize,
    /// Exchanges.
    pub exchanges: u64,
    /// Microseconds from the first to the last.
    pub span_us: u64,
    /// Fingerprint and text of each shape, how often it was run, and how long it took in all, in microseconds.
    pub shapes: Vec<(u128, String, u64, u64)>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// By shape.
    pub tally: Tally,
    /// Exchanges that began later than they should have, by the most.
    pub latest: Duration,
    /// Time that it took.
    pub took: Duration,
}

type Text = Arc<HashMap<u32, (u128, String)>>;

fn open(path: &Path, key: &Key) -> std::result::Result<Events<BufReader<File>>, String> {
    let cannot = |e: String| format!("{}: {e}", path.display());
    let file = File::open(path).map_err(|e| cannot(e.to_string()))?;
    Events::new(BufReader::new(file), key).map_err(|e| cannot(e.to_string()))
}

/// Calls `each` for every event of some files, in order. True where the last one lacks its end: the process that wrote
/// it was killed, or still writes. Any other file has had its end written before the next one was begun.
fn events(
    files: &[PathBuf],
    key: &Key,
    mut each: impl FnMut(Event) -> std::result::Result<(), String>,
) -> std::result::Result<bool, String> {
    for (i, path) in files.iter().enumerate() {
        let mut events = open(path, key)?;
        loop {
            match events.next_event() {
                Ok(Some(event)) => each(event)?,
                Ok(None) => break,
                Err(Broken::Truncated) if i + 1 == files.len() => return Ok(true),
                Err(e) => return Err(format!("{}: {e}", path.display())),
            }
        }
    }
    Ok(false)
}

/// Reads some files from end to end: before anything of them is played it is certain that they are as they were written,
/// or what of the last one is ([`Contents::is_cut`]).
///
/// # Errors
/// They are not, nothing is whole, or they belong to different recordings.
pub fn contents(files: &[PathBuf], key: &Key) -> std::result::Result<Contents, String> {
    let mut contents = Contents::default();
    let mut sessions = HashSet::new();
    let mut ids: HashMap<u32, usize> = HashMap::new();
    let (mut first, mut last) = (u64::MAX, 0);
    let mut count = 0;
    let is_cut = events(files, key, |event| {
        count += 1;
        match event {
            Event::Begin(begin) => {
                ids.clear();
                let before = contents.begin.as_ref().map(|b| (b.key, b.began, b.literals, b.part + 1));
                if before.is_some_and(|before| before != (begin.key, begin.began, begin.literals, begin.part))
                {
                    return Err("the files do not follow each other in one recording".into());
                }
                contents.begin = Some(begin);
            }
            Event::Shape(shape) => {
                let known = contents.shapes.iter().position(|(print, ..)| *print == shape.fingerprint);
                let place = known.unwrap_or(contents.shapes.len());
                if known.is_none() {
                    contents.shapes.push((shape.fingerprint, shape.text, 0, 0));
                }
                ids.insert(shape.id, place);
            }
            Event::Exchange(exchange) => {
                sessions.insert(exchange.session);
                contents.exchanges += 1;
                (first, last) = (first.min(exchange.at_us), last.max(exchange.at_us));
                for result in &exchange.results {
                    if let Some(shape) = ids.get(&result.shape).and_then(|i| contents.shapes.get_mut(*i)) {
                        shape.2 += 1;
                        shape.3 += exchange.took_us / exchange.results.len() as u64;
                    }
                }
            }
            Event::Settings(..) | Event::End(..) => {}
        }
        Ok(())
    })?;
    if contents.begin.is_none() {
        return Err(
            "there is nothing whole in it: the recording ended before anything was written out".into()
        );
    }
    (contents.is_cut, contents.events) = (is_cut, count);
    contents.sessions = sessions.len();
    contents.span_us = last.saturating_sub(first);
    Ok(contents)
}

/// One exchange on its way to its session.
struct Due {
    exchange: Recorded,
    settings: Arc<Settings>,
    shapes: Text,
    at: Option<Instant>,
}

struct Stage {
    target: Target,
    address: Address,
    manner: Manner,
    turns: Arc<Semaphore>,
    report: Report,
    latest_us: AtomicU64,
}

/// Plays them to a server, as far as `contents` goes: a file without an end may have grown meanwhile.
///
/// # Errors
/// A file cannot be read after all.
pub async fn replay(
    options: &Options,
    target: Target,
    address: Address,
    contents: &Contents,
) -> std::result::Result<Report, String> {
    let key = contents.begin.as_ref().map(|begin| begin.key).unwrap_or_default();
    let stage = Arc::new(Stage {
        target,
        address,
        manner: Manner { timeout: options.timeout, only_reads: options.only_reads, key },
        turns: Arc::new(Semaphore::new(options.connections)),
        report: Report::default(),
        latest_us: AtomicU64::new(0),
    });
    let began = Instant::now();
    let mut sessions = Sessions { stage: stage.clone(), lines: HashMap::new(), tasks: JoinSet::new() };
    let mut ahead = Ahead::new(options, contents.events);
    while let Some(next) = ahead.next()? {
        match next {
            Next::End(session) => drop(sessions.lines.remove(&session)),
            Next::Play(mut due) => {
                let after = Duration::from_micros(due.exchange.at_us.saturating_sub(ahead.first));
                due.at = options.speed.map(|speed| began + after.div_f64(speed));
                if let Some(at) = due.at {
                    tokio::time::sleep(at.since(Instant::now())).await;
                }
                sessions.play(due).await;
            }
        }
    }
    let Sessions { lines, mut tasks, stage: own } = sessions;
    // Their tasks end when nothing more can come.
    drop((lines, own));
    while tasks.join_next().await.is_some() {}
    let latest = Duration::from_micros(stage.latest_us.load(Relaxed));
    let took = began.elapsed();
    let stage = Arc::into_inner(stage).ok_or("a session has not ended")?;
    Ok(Report { latest, took, ..stage.report })
}

/// Sessions that are played.
struct Sessions {
    stage: Arc<Stage>,
    /// `None` for those for which there is no connection.
    lines: HashMap<u64, Option<mpsc::Sender<Due>>>,
    tasks: JoinSet<()>,
}

impl Sessions {
    async fn play(&mut self, due: Due) {
        let session = due.exchange.session;
        if !self.lines.contains_key(&session) {
            let line = self.begin().await;
            self.lines.insert(session, line);
        }
        match self.lines.get(&session) {
            // It takes nothing more only if it has failed in a way that it says itself.
            Some(Some(line)) => drop(line.send(due).await),
            _ => self.stage.report.tally.lost.add(1),
        }
    }

    /// Begins a session, where there is a connection for it: those of sessions that are over are waited for, those of
    /// others might not come before what this one has to say.
    async fn begin(&mut self) -> Option<mpsc::Sender<Due>> {
        while self.tasks.try_join_next().is_some() {}
        let going_on = self.lines.values().flatten().count();
        let turns = self.stage.turns.clone();
        let turn = match turns.clone().try_acquire_owned() {
            Ok(turn) => turn,
            Err(_) if self.tasks.len() > going_on => turns.acquire_owned().await.ok()?,
            Err(_) => return None,
        };
        let (own, line) = mpsc::channel(AHEAD);
        self.tasks.spawn(session(self.stage.clone(), line, turn));
        Some(own)
    }
}

/// What comes next of some files.
enum Next {
    Play(Due),
    End(u64),
}

/// Exchanges are written down when they are over: they are read ahead, so that those that took long begin in time.
struct Ahead<'o> {
    options: &'o Options,
    files: std::slice::Iter<'o, PathBuf>,
    events: Option<(&'o PathBuf, Events<BufReader<File>>)>,
    /// Events to be read yet.
    left: u64,
    /// By when they began, and for those that began together by how they were read.
    held: BTreeMap<(u64, u64), Next>,
    bytes: usize,
    order: u64,
    settings: HashMap<u64, Arc<Settings>>,
    shapes: Text,
    /// When the first began.
    first: u64,
}

/// Most that is read ahead, in exchanges and bytes.
const READ_AHEAD: usize = 4096;
const READ_AHEAD_BYTES: usize = 32 << 20;

impl<'o> Ahead<'o> {
    fn new(options: &'o Options, left: u64) -> Ahead<'o> {
        Ahead {
            options,
            files: options.files.iter(),
            events: None,
            left,
            held: BTreeMap::new(),
            bytes: 0,
            order: 0,
            settings: HashMap::new(),
            shapes: Text::default(),
            first: u64::MAX,
        }
    }

    /// The next to begin.
    fn next(&mut self) -> std::result::Result<Option<Next>, String> {
        while self.held.len() < READ_AHEAD && self.bytes < READ_AHEAD_BYTES {
            let Some(event) = self.read()? else { break };
            self.take(event);
        }
        let next = self.held.pop_first().map(|(_, next)| next);
        if let Some(Next::Play(due)) = &next {
            self.bytes -= due.exchange.requests.len();
            self.first = self.first.min(due.exchange.at_us);
        }
        Ok(next)
    }

    fn read(&mut self) -> std::result::Result<Option<Event>, String> {
        while self.left > 0 {
            if let Some((path, events)) = &mut self.events
                && let Some(event) = events.next_event().map_err(|e| format!("{}: {e}", path.display()))?
            {
                self.left -= 1;
                return Ok(Some(event));
            }
            let Some(path) = self.files.next() else { return Err("a file has become shorter".into()) };
            self.events = Some((path, open(path, &self.options.key)?));
        }
        Ok(None)
    }

    fn take(&mut self, event: Event) {
        self.order += 1;
        match event {
            Event::Begin(_) => self.shapes = Text::default(),
            Event::Shape(shape) => {
                Arc::make_mut(&mut self.shapes).insert(shape.id, (shape.fingerprint, shape.text));
            }
            Event::Settings(session, pairs) => {
                let pairs = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()));
                self.settings.insert(session, Arc::new(Settings::from_pairs(pairs)));
            }
            Event::End(session, at_us) => {
                self.settings.remove(&session);
                self.held.insert((at_us, self.order), Next::End(session));
            }
            Event::Exchange(exchange) => {
                let settings = self.settings.entry(exchange.session).or_default().clone();
                self.bytes += exchange.requests.len();
                let key = (exchange.at_us, self.order);
                let due = Due { exchange, settings, shapes: self.shapes.clone(), at: None };
                self.held.insert(key, Next::Play(due));
            }
        }
    }
}

/// Plays one session.
async fn session(stage: Arc<Stage>, mut line: mpsc::Receiver<Due>, _turn: OwnedSemaphorePermit) {
    let tally = &stage.report.tally;
    let mut followed: Option<(Player, u64)> = None;
    while let Some(due) = line.recv().await {
        let (reads, number) = (stage.manner.only_reads, due.exchange.number);
        if reads && !due.exchange.reads {
            tally.skipped.add(1);
            continue;
        }
        let in_order = followed.as_ref().is_some_and(|(_, next)| reads || *next == number);
        if !in_order {
            followed = None;
            if !due.exchange.fresh && !reads {
                tally.lost.add(1);
                continue;
            }
            match Player::open(&stage.target, &stage.address, stage.manner).await {
                Ok(player) => followed = Some((player, number)),
                Err(e) => {
                    tally.trouble(format!("{} ({})", e.message, e.code));
                    continue;
                }
            }
        }
        if let Some(at) = due.at {
            stage.latest_us.fetch_max(Instant::now().micros_since(at), Relaxed);
        }
        let Some((player, next)) = &mut followed else { continue };
        *next = number + 1;
        if let Err(e) = play(&stage, player, &due, reads || !in_order).await {
            tally.trouble(format!("{} ({})", e.message, e.code));
            followed = None;
        } else if reads && player.is_busy() {
            followed = None;
        }
    }
}

async fn play(stage: &Stage, player: &mut Player, due: &Due, carries: bool) -> Result<()> {
    let Due { exchange, settings, shapes, .. } = due;
    let script = Script {
        settings: carries.then_some(&**settings),
        statements: exchange.statements.iter().map(|(n, b)| (n.as_slice(), b.as_slice())).collect(),
        requests: &exchange.requests,
    };
    let played = player.play(&script).await?;
    let tally = &stage.report.tally;
    tally.run.add(1);
    let here = exchange.results.iter().map(|result| {
        let shape = shapes.get(&result.shape);
        Here {
            fingerprint: shape.map_or(0, |(fingerprint, _)| *fingerprint),
            shape: shape.map_or(Shape::Unknown, |(_, text)| Shape::Text(text)),
            sameness: result.sameness(),
            outcome: result.outcome(),
        }
    });
    judge(&here.collect::<Vec<_>>(), &played.results, exchange.took_us, played.took_us, tally);
    Ok(())
}
