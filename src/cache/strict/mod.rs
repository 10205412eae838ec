//! Results that are as fresh as if every process kept them together: whoever writes marks his tables in Redis before a
//! server is sent anything of it, and whoever gives a result looks at the marks there first.
//!
//! What [`crate::fence::versions`] is within a process, a hash in Redis is among all that write to a database
//! ([`scripts`] has its fields): a table that nobody is about to write to has a number there that only grows, and a result
//! is kept with the sum of its tables' numbers as it was before it was asked for, and given while the sum is the same. The
//! proof is the one of [`crate::cache`], with these marks in the place of the process' own.
//!
//! What is more:
//!
//! - **Definitions**: what a write touches is known by the catalog of the process that plans it. Whoever changes definitions
//!   ends an era, in Redis as well; who begins a write under an era that he has not heard of marks everything, and nobody
//!   is given anything while a write is under way that was begun in eras before. Who hears of another era has the catalog
//!   read again before anything is kept or given.
//! - **Redis is gone**, or cannot be reached: statements go on. Each process has a lease there, and results are looked for
//!   only while all that write have one. Who cannot announce a write waits until nobody can take his lease for a valid one
//!   any more, a few seconds at most and once; then he writes unannounced, and nothing is given to anybody.
//! - **Who writes** only the database's server knows for certain: each process holds an advisory lock there for as long as it
//!   lives, and all ask for the list ([`roll`]). One that is gone may have sent what is still being carried out: all
//!   transactions of the database are waited for that ran a moment after.
//! - **Redis forgets** (it was started again, or has thrown something away): then it is another epoch, which no result is of.
//!   Everybody enters again, with what he is about to write, before he has a lease of that epoch.
//! - What is read to be kept is read from the primary.
//!
//! Two things are taken for granted: that Redis' clock, by which leases end, is not set back while a process cannot reach it,
//! and that no process is stopped between finding that it may write unannounced and doing so for so long that the server
//! takes its connection for a dead one.
//!
//! A process that writes to the database without a rule that is strict is a writer elsewhere: known as late as those are.

mod desk;
mod roll;
mod scripts;

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use tokio::sync::{mpsc, oneshot};

use self::roll::Roll;
pub use self::roll::{Answer, FRESH};
use self::scripts::{Line, Names};
use crate::core::clock::Instant;
use crate::core::stats::Counter;
use crate::fence::slot;
use crate::fence::versions::{Versions, Witness};

/// A backend or cluster, by its name, and a database on it.
type Place = (Box<str>, Box<str>);

/// All databases whose results are kept by such a rule, by place.
#[derive(Debug, Default)]
pub struct Boards(Mutex<HashMap<Place, Arc<Board>>>);

impl Boards {
    /// Of a database: on a backend or cluster of that name, by its name there. `versions` are the process' own.
    pub fn of(&self, place: &str, dbname: &str, versions: &Arc<Versions>) -> Arc<Board> {
        let mut boards = self.0.lock();
        boards.entry((place.into(), dbname.into())).or_insert_with(|| Arc::new(Board::new(versions))).clone()
    }

    /// The same, where there is one.
    pub fn get(&self, place: &str, dbname: &str) -> Option<Arc<Board>> {
        self.0.lock().get(&(place.into(), dbname.into()) as &Place).cloned()
    }

    /// All that there are.
    pub fn all(&self) -> Vec<(Place, Arc<Board>)> {
        let mut all: Vec<_> = self.0.lock().iter().map(|(at, board)| (at.clone(), board.clone())).collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }
}

/// How tables stood in Redis when that was looked at, with nobody about to write to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    epoch: NonZeroU64,
    sum: u64,
}

/// What opens when others know what is about to be written, or rely on nothing any more.
pub type Gate = oneshot::Receiver<()>;

/// Counts, for people and metrics.
#[derive(Debug, Default)]
pub struct Stats {
    /// Times that the marks were looked at.
    pub looks: Counter,
    /// Of those, with the answer that nobody was about to write.
    pub clear: Counter,
    /// Writes that others were told of.
    pub told: Counter,
    /// Writes that went out untold: Redis was not there.
    pub untold: Counter,
    /// Times that what a process left was taken back.
    pub forgotten: Counter,
}

/// See the module: of one database.
#[derive(Debug)]
pub struct Board {
    versions: Arc<Versions>,
    /// Numbers of writes.
    next: AtomicU64,
    jobs: mpsc::UnboundedSender<Job>,
    queue: Mutex<Option<mpsc::UnboundedReceiver<Job>>>,
    /// How often definitions had changed when that was last heard of.
    era: AtomicU64,
    known: Mutex<Known>,
    /// Counts.
    pub stats: Stats,
}

/// What is known of the others, and of how they are told.
#[derive(Debug, Default)]
struct Known {
    roll: Roll,
    own: Option<Own>,
    open: Option<Open>,
    /// What keeps results from being given.
    trouble: Option<String>,
    /// How often somebody has gone, and up to which of them results are outdated that he may have: he may have written
    /// without a word.
    gone: (u64, u64),
}

/// What this process is to the others.
#[derive(Clone, Debug)]
struct Own {
    /// Which database it is, in the same words for all.
    names: Names,
    number: u32,
    since: Instant,
}

/// Where others are told.
#[derive(Clone, Debug)]
struct Open {
    line: Line,
    epoch: Arc<str>,
}

/// What is to be told.
#[derive(Debug)]
enum Job {
    Begin { id: u64, era: u64, slots: SmallVec<[u16; 4]>, anything: bool, gate: oneshot::Sender<()> },
    End { id: u64, turns: bool },
}

impl Board {
    fn new(versions: &Arc<Versions>) -> Board {
        // As many as there are server connections, times two.
        let (jobs, queue) = mpsc::unbounded_channel();
        Board {
            versions: versions.clone(),
            next: AtomicU64::new(1),
            jobs,
            queue: Mutex::new(Some(queue)),
            era: AtomicU64::new(0),
            known: Mutex::default(),
            stats: Stats::default(),
        }
    }

    /// How often definitions have changed, as far as is known: to be looked at before what it is known by is.
    pub fn era(&self) -> u64 {
        self.era.load(SeqCst)
    }

    /// Others are to know that tables of these slots, or any, are about to be written: by a write that they have been told of
    /// (`id`), or by another one, which was planned in this era. Nothing may be sent before the gate is open.
    pub fn begin(&self, id: Option<u64>, era: u64, slots: &[u16], anything: bool) -> (u64, Gate) {
        let id = id.unwrap_or_else(|| self.next.fetch_add(1, Relaxed));
        let (gate, opened) = oneshot::channel();
        // Where nobody takes it any more the process ends, and the gate opens by itself.
        let _ = self.jobs.send(Job::Begin { id, era, slots: slots.into(), anything, gate });
        (id, opened)
    }

    /// How these tables stand. `None` where somebody is about to write to them, or it cannot be known in time.
    pub async fn look(&self, tables: &[u32], deadline: Duration) -> Option<Seen> {
        self.stats.looks.add(1);
        let (seen, clear) = self.stand(tables, deadline).await?;
        clear.then(|| {
            self.stats.clear.add(1);
            seen
        })
    }

    /// How often these tables have been written, whoever is about to. `None` where that cannot be known in time.
    pub async fn moves(&self, tables: &[u32], deadline: Duration) -> Option<Seen> {
        Some(self.stand(tables, deadline).await?.0)
    }

    /// Both, and whether nobody is about to.
    async fn stand(&self, tables: &[u32], deadline: Duration) -> Option<(Seen, bool)> {
        let (Open { mut line, epoch }, members, until) = self.asks()?;
        let mut slots: SmallVec<[u16; 8]> = tables.iter().map(|table| slot(*table)).collect();
        slots.sort_unstable();
        slots.dedup();
        let looked = tokio::time::timeout(deadline, line.look(&epoch, &members, &slots)).await.ok()?.ok()?;
        // The list of members is of use only if it was when Redis was asked.
        if looked.state < 0 || *looked.epoch != *epoch || Instant::now() >= until {
            return None;
        }
        self.note(looked.era);
        Some((Seen { epoch: epoch.parse().ok()?, sum: looked.sum }, looked.state == 1))
    }

    fn asks(&self) -> Option<(Open, Vec<u32>, Instant)> {
        let known = self.known.lock();
        let (members, until) = known.roll.members().filter(|_| known.gone.0 == known.gone.1)?;
        Some((known.open.clone()?, members.iter().copied().collect(), until))
    }

    /// Definitions have changed as often as that.
    fn note(&self, era: u64) {
        if self.era.swap(era, SeqCst) != era {
            self.versions.note_defined();
        }
    }

    /// This process has been entered at the server of its database under a number; `names` says which database that is.
    pub fn entered(&self, names: &str, number: u32, now: Instant) {
        self.known.lock().own = Some(Own { names: Names(names.into()), number, since: now });
    }

    /// Whether it matters to the next answer which transactions run.
    pub fn is_in_doubt(&self) -> bool {
        self.known.lock().roll.is_in_doubt()
    }

    /// What the server has said of those who write, when it was asked at `asked`.
    pub fn answered(&self, answer: Answer, asked: Instant) {
        let mut known = self.known.lock();
        known.roll.answered(answer, asked);
        known.gone.0 += u64::from(known.roll.take_gone());
    }

    /// The connection is lost that this process was entered by.
    pub fn lost(&self, why: &str) {
        let mut known = self.known.lock();
        known.roll.lose();
        known.own = None;
        known.trouble = Some(why.into());
    }

    /// What keeps results from being given, for people. `None` where nothing does.
    pub fn trouble(&self) -> Option<String> {
        let known = self.known.lock();
        if known.own.is_none() {
            let why = known.trouble.as_deref().unwrap_or("it is not entered yet");
            return Some(format!("it is not known who else writes: {why}"));
        }
        if known.open.is_none() {
            return Some(known.trouble.clone().unwrap_or_else(|| "Redis is not there yet".into()));
        }
        match known.roll.members() {
            None => Some("transactions are waited for that may be of a process that is gone".into()),
            Some((_, until)) if Instant::now() >= until => {
                Some("the server has not said for a while who else writes".into())
            }
            Some(_) => None,
        }
    }

    /// How many processes write.
    pub fn members(&self) -> usize {
        self.known.lock().roll.members().map_or(0, |(members, _)| members.len())
    }
}

impl Witness for Board {
    fn ends(&self, id: u64, turns: bool) {
        let _ = self.jobs.send(Job::End { id, turns });
    }
}
