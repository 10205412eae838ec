//! Tells Redis what is about to be written here and what is over, for as long as it is polled; and takes back what those have
//! left who are gone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use redis::RedisResult;
use smallvec::SmallVec;
use tokio::sync::{mpsc, oneshot};

use super::roll::FRESH;
use super::scripts::{Line, Told, member_of, part_name};
use super::{Board, Job, Known, Open, Own};
use crate::config::Redis;
use crate::core::clock::Instant;

/// How long a lease is good, and how often it is renewed.
const LEASE: Duration = Duration::from_secs(3);
const RENEWED: Duration = Duration::from_millis(750);
/// What clocks, and bytes that are still on their way, may add to a lease.
const MARGIN: Duration = Duration::from_secs(1);
/// Longest that Redis may take for an answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Pauses between two attempts to reach it.
const PAUSE: Duration = Duration::from_millis(200);
/// How often it is looked whether writes may go out untold.
const ROUND: Duration = Duration::from_millis(50);
/// What is told at once, at most.
const MOST: usize = 256;

/// A write that is under way.
#[derive(Debug, Default)]
struct Write {
    slots: SmallVec<[u16; 4]>,
    /// Any table.
    anything: bool,
    /// The era that what has not been told was planned in.
    era: u64,
    /// As Redis was told, in the part of now: the era, and how often anything was marked.
    told: Option<(u64, u32)>,
    /// What has not been told yet of it.
    untold: SmallVec<[u16; 4]>,
    /// Whoever waits for that.
    gates: SmallVec<[oneshot::Sender<()>; 1]>,
}

impl Write {
    fn open(&mut self) {
        for gate in self.gates.drain(..) {
            // Who does not wait any more need not know.
            let _ = gate.send(());
        }
    }
}

/// What is lost.
enum Lost {
    /// The connection, or what Redis knew.
    Redis(String),
    /// This process is not entered any more, or under another number.
    Own,
}

impl From<redis::RedisError> for Lost {
    fn from(e: redis::RedisError) -> Self {
        Lost::Redis(e.to_string())
    }
}

struct Desk<'a> {
    board: &'a Board,
    redis: &'a Redis,
    jobs: mpsc::UnboundedReceiver<Job>,
    writes: HashMap<u64, Write>,
    /// Until when others may take our lease for a valid one.
    lease: Instant,
    /// The part that we had before, and of which epoch.
    part: Option<(String, String)>,
    /// Something has been written that nobody was told of, since we last entered.
    untold: bool,
    /// Parts whose owners are not there.
    left: HashSet<String>,
}

impl Board {
    /// Tells, and is told. Returns at once where somebody else does that already.
    pub async fn run(self: Arc<Self>, redis: Redis) {
        let Some(jobs) = self.queue.lock().take() else { return };
        let (writes, lease, left) = (HashMap::new(), Instant::now(), HashSet::new());
        let (part, untold) = (None, false);
        Desk { board: &self, redis: &redis, jobs, writes, lease, part, untold, left }.run().await;
    }
}

impl Desk<'_> {
    async fn run(mut self) {
        let mut said = String::new();
        loop {
            let own = self.board.known.lock().own.clone();
            let Some(own) = own else {
                self.rest().await;
                continue;
            };
            let lost = match self.connect(&own).await {
                Ok(line) => match self.session(line, &own).await {
                    Ok(never) => match never {},
                    Err(lost) => lost,
                },
                Err(lost) => lost,
            };
            self.writes.values_mut().for_each(|write| write.told = None);
            self.board.known.lock().open = None;
            if let Lost::Redis(why) = lost {
                self.board.known.lock().trouble = Some(format!("Redis is not there: {why}"));
                // Said once, not whenever it is tried.
                if said != why {
                    tracing::warn!(error = why, "other processes cannot be told of writes");
                    said = why;
                }
                self.rest().await;
            }
        }
    }

    /// A pause, in which what comes is taken, and goes out untold where it may.
    async fn rest(&mut self) {
        let over = tokio::time::sleep(PAUSE);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return,
                Some(job) = self.jobs.recv() => self.take(job),
                () = tokio::time::sleep(ROUND) => {}
            }
            self.let_out();
        }
    }

    /// A connection, while what comes is taken.
    async fn connect(&mut self, own: &Own) -> Result<Line, Lost> {
        let opened = tokio::time::timeout(PATIENCE, Line::open(self.redis, own.names.clone()));
        tokio::pin!(opened);
        loop {
            tokio::select! {
                opened = &mut opened => {
                    return Ok(opened.map_err(|_| Lost::Redis("it does not answer".into()))??);
                }
                Some(job) = self.jobs.recv() => self.take(job),
                () = tokio::time::sleep(ROUND) => {}
            }
            self.let_out();
        }
    }

    /// Notes what comes while nobody can be told.
    fn take(&mut self, job: Job) {
        match job {
            Job::Begin { id, era, slots, anything, gate } => {
                let write = self.writes.entry(id).or_default();
                write.era = if write.gates.is_empty() { era } else { write.era.min(era) };
                write.slots.extend_from_slice(&slots);
                write.untold.extend_from_slice(&slots);
                write.anything |= anything;
                write.gates.push(gate);
            }
            // What was told of it goes with the part.
            Job::End { id, .. } => drop(self.writes.remove(&id)),
        }
    }

    /// Lets out what waits, where nobody can take what Redis says for the truth any more: our lease is over, and all that
    /// ask the server who writes have heard of us.
    fn let_out(&mut self) {
        let now = Instant::now();
        let entered = |known: &Known| {
            let since = known.own.as_ref().map(|own| own.since + FRESH * 2);
            let holds = known.roll.last().is_some_and(|asked| now < asked + FRESH);
            holds && since.is_some_and(|since| now > since)
        };
        if now <= self.lease || !entered(&self.board.known.lock()) {
            return;
        }
        for write in self.writes.values_mut().filter(|write| !write.gates.is_empty()) {
            self.board.stats.untold.add(1);
            self.untold = true;
            write.open();
        }
    }

    /// From entering what Redis knows to the loss of that.
    async fn session(&mut self, mut line: Line, own: &Own) -> Result<std::convert::Infallible, Lost> {
        let number = getrandom::u64().map_err(|e| Lost::Redis(e.to_string()))?;
        // A sum of numbers from scripts must not be taken for another: an epoch is a number of 53 bits at most.
        let (epoch, era) = within(line.begin_time(number >> 11)).await?;
        let part = part_name(own.number, number);
        within(line.enter(&part)).await?;
        let before = self.part.replace((part.clone(), epoch.clone()));
        if before.as_ref().is_none_or(|(_, before)| *before != epoch) {
            // What was defined in another time is told by nobody any more.
            self.board.versions.note_defined();
        }
        self.board.note(era);
        // What is under way is marked before there is a lease: all of it as anything, since it was planned when nobody told of
        // definitions.
        for write in self.writes.values_mut() {
            (write.told, write.untold, write.anything) = (None, write.slots.clone(), true);
        }
        let mut told = Session { line, part, epoch: epoch.into(), own: own.clone() };
        self.tell_all(&mut told).await?;
        let before = before.map(|(before, _)| before);
        if let Some(before) = before.or_else(|| self.untold.then(String::new)) {
            // What was written untold is outdated by that as well.
            within(told.line.forget(&before)).await?;
        }
        self.untold = false;
        self.renew(&mut told).await?;
        {
            let mut known = self.board.known.lock();
            known.open = Some(Open { line: told.line.clone(), epoch: told.epoch.clone() });
            known.trouble = None;
        }
        let mut round = tokio::time::interval(RENEWED);
        round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(job) = self.jobs.recv() => self.carry(&mut told, job).await?,
                _ = round.tick() => {
                    self.renew(&mut told).await?;
                    self.forget_gone(&mut told).await?;
                }
            }
        }
    }

    /// Tells of a job, and of those that have come meanwhile.
    async fn carry(&mut self, told: &mut Session, first: Job) -> Result<(), Lost> {
        let mut next = Some(first);
        let (mut asks, mut begun) = (Vec::new(), false);
        while let Some(job) = next {
            match job {
                Job::End { id, turns } => {
                    if let Some(write) = self.writes.remove(&id) {
                        asks.extend(told.end(&write, turns));
                    }
                }
                begin => {
                    self.take(begin);
                    begun = true;
                }
            }
            next = if asks.len() < MOST { self.jobs.try_recv().ok() } else { None };
        }
        if begun {
            self.tell_all(told).await?;
        }
        if !asks.is_empty() {
            let ended = within(told.line.tell(asks)).await?;
            let era = ended.iter().map(|(_, era, _)| *era).max().unwrap_or(0);
            if ended.iter().any(|(state, ..)| *state != 1) {
                return Err(Lost::Redis("it has forgotten what it was told".into()));
            }
            self.board.note(era);
        }
        Ok(())
    }

    /// Tells of all that is under way and has not been told of.
    async fn tell_all(&mut self, told: &mut Session) -> Result<(), Lost> {
        let waits = |write: &Write| write.told.is_none() || !write.gates.is_empty();
        let of: Vec<u64> = self.writes.iter().filter(|(_, write)| waits(write)).map(|(id, _)| *id).collect();
        // Who is not entered any more is taken for one that is gone, and what he has told is taken back.
        self.is_entered(told)?;
        for some in of.chunks(MOST) {
            let asks = some.iter().filter_map(|id| self.writes.get(id)).map(|write| told.begin(write));
            let begun = within(told.line.tell(asks.collect())).await?;
            for (id, (state, era, anything)) in some.iter().zip(begun) {
                let Some(write) = self.writes.get_mut(id) else { continue };
                if state != 1 {
                    return Err(Lost::Redis("it has forgotten what it was told".into()));
                }
                self.board.note(era);
                let marked = u32::from(anything > 0);
                write.told = Some(write.told.map_or((era, marked), |(era, all)| (era, all + marked)));
                write.untold.clear();
                self.board.stats.told.add(1);
                write.open();
            }
        }
        Ok(())
    }

    /// Whether this process is entered under the number that it had when it entered what Redis knows.
    fn is_entered(&self, told: &Session) -> Result<(), Lost> {
        let known = self.board.known.lock();
        let same = known.own.as_ref().is_some_and(|own| own.number == told.own.number);
        if same { Ok(()) } else { Err(Lost::Own) }
    }

    async fn renew(&mut self, told: &mut Session) -> Result<(), Lost> {
        self.is_entered(told)?;
        // Whether or not that is answered.
        self.lease = Instant::now() + PATIENCE + LEASE + MARGIN;
        let ms = u64::try_from(LEASE.as_millis()).unwrap_or(0);
        match within(told.line.renew(&told.part, &told.epoch, told.own.number, ms)).await? {
            (1, era, _) => {
                self.lease = Instant::now() + LEASE + MARGIN;
                self.board.note(era);
                Ok(())
            }
            _ => Err(Lost::Redis("it has forgotten this process".into())),
        }
    }

    /// Takes back what those have left who are gone: who neither is entered nor has a lease, when all that he may have sent has
    /// been carried out.
    async fn forget_gone(&mut self, told: &mut Session) -> Result<(), Lost> {
        let known = || {
            let known = self.board.known.lock();
            let members = known.roll.members().map(|(members, _)| members.clone());
            members.map(|members| (members, known.gone.0))
        };
        // Who may still be writing has not gone.
        let Some((members, gone)) = known() else { return Ok(()) };
        let mut left = HashSet::new();
        for part in within(told.line.parts()).await? {
            let Some(member) = member_of(&part).filter(|member| !members.contains(member)) else { continue };
            // He may have been entered a moment ago, or have lost that, and not know it yet.
            if within(told.line.has_lease(&told.epoch, member)).await? {
                continue;
            }
            if self.left.contains(&part) {
                within(told.line.forget(&part)).await?;
                self.board.stats.forgotten.add(1);
            } else {
                left.insert(part);
            }
        }
        if !left.is_empty() {
            // The next time that members are known, they are of later than this.
            self.board.known.lock().roll.doubt(Instant::now());
        }
        self.left = left;
        if self.board.known.lock().gone.1 != gone {
            within(told.line.forget("")).await?;
            self.board.known.lock().gone.1 = gone;
        }
        Ok(())
    }
}

/// What is known of a connection's time.
struct Session {
    line: Line,
    part: String,
    epoch: Arc<str>,
    own: Own,
}

impl Session {
    fn begin(&self, write: &Write) -> redis::Cmd {
        let told = Told { slots: &write.untold, anything: u32::from(write.anything) };
        self.line.beginning(&self.part, &self.epoch, write.era, write.told.is_none(), told)
    }

    fn end(&self, write: &Write, turns: bool) -> Option<redis::Cmd> {
        let (era, anything) = write.told?;
        let slots: SmallVec<[u16; 4]> =
            write.slots.iter().filter(|slot| !write.untold.contains(slot)).copied().collect();
        let told = Told { slots: &slots, anything };
        Some(self.line.ending(&self.part, &self.epoch, era, turns, told))
    }
}

async fn within<T>(asked: impl Future<Output = RedisResult<T>>) -> Result<T, Lost> {
    let answered = tokio::time::timeout(PATIENCE, asked).await;
    Ok(answered.map_err(|_| Lost::Redis("it does not answer".into()))??)
}
