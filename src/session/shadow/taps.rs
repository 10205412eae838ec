//! Who gets to see traffic: the mirrors of the configuration, and a recording if there is one. Each has a line in which
//! exchanges wait within bounds; whoever empties it is told of no client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::exchange::{Arrival, Exchange};
use super::tally::Tally;
use crate::config::{Config, Mirror, MirrorMode, Record, Share};
use crate::core::budget::Budget;
use crate::core::stats::Gauge;
use crate::wire::summary::Key;

/// What sessions go by: all taps of a moment, by their places.
#[derive(Debug)]
pub struct Taps {
    /// What tells them from those of another moment; 0 where there is none.
    pub serial: u64,
    /// The rules under which plans say which taps they match.
    pub rules: u64,
    /// Their place is the bit that stands for them.
    pub list: Vec<Arc<Tap>>,
    /// Room for what is being collected.
    pub collecting: Arc<Budget>,
    /// Of checksums.
    pub key: Key,
    /// Sessions that have a shadow, now or of another moment.
    pub sessions: Arc<Gauge>,
}

/// What a tap is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A `[[mirror]]`.
    Mirror(Box<Mirror>),
    /// A recording.
    Recording(Box<Record>),
}

/// One of them.
#[derive(Debug)]
pub struct Tap {
    /// What it is.
    pub kind: Kind,
    /// Room for what waits.
    pub budget: Arc<Budget>,
    /// What has been done, and found.
    pub tally: Tally,
    /// How far a recording is.
    pub progress: Progress,
    line: UnboundedSender<Arrival>,
    end: Mutex<Option<UnboundedReceiver<Arrival>>>,
}

/// How far a recording is. A mirror has none.
#[derive(Debug, Default)]
pub struct Progress {
    /// Its name.
    pub name: String,
    files: AtomicU32,
    bytes: AtomicU64,
    over: AtomicBool,
    reason: Mutex<Option<String>>,
}

impl Progress {
    /// Of a recording of that name.
    pub fn new(name: &str) -> Progress {
        Progress { name: name.to_string(), ..Progress::default() }
    }

    /// So many files have so many bytes in all.
    pub fn written(&self, files: u32, bytes: u64) {
        self.files.store(files, Relaxed);
        self.bytes.store(bytes, Relaxed);
    }

    /// Files, and bytes in them.
    pub fn size(&self) -> (u32, u64) {
        (self.files.load(Relaxed), self.bytes.load(Relaxed))
    }

    /// It has ended by itself, for that reason.
    pub fn ended_by(&self, reason: String) {
        *self.reason.lock() = Some(reason);
    }

    /// Why it has, if it has.
    pub fn reason(&self) -> Option<String> {
        self.reason.lock().clone()
    }

    /// Its files are whole.
    pub fn over(&self) {
        self.over.store(true, Release);
    }

    /// Whether they are.
    pub fn is_over(&self) -> bool {
        self.over.load(Acquire)
    }
}

impl Tap {
    /// A tap that nobody has heard of.
    pub fn new(kind: Kind, progress: Progress) -> Arc<Tap> {
        let (line, end) = unbounded_channel();
        let budget = match &kind {
            Kind::Mirror(mirror) => Budget::new(mirror.max_queued, mirror.max_queued_bytes),
            Kind::Recording(record) => Budget::new(usize::MAX >> 1, record.max_queued_bytes),
        };
        Arc::new(Tap { kind, budget, tally: Tally::default(), progress, line, end: Mutex::new(Some(end)) })
    }

    /// The end of its line. For one taker.
    pub fn take_end(&self) -> Option<UnboundedReceiver<Arrival>> {
        self.end.lock().take()
    }

    /// What of the traffic it wants.
    pub fn mode(&self) -> MirrorMode {
        match &self.kind {
            Kind::Mirror(mirror) => mirror.mode,
            Kind::Recording(_) => MirrorMode::Sessions,
        }
    }

    /// How much of it.
    pub fn share(&self) -> Share {
        match &self.kind {
            Kind::Mirror(mirror) => mirror.share,
            Kind::Recording(record) => record.share,
        }
    }

    /// Puts an exchange in line, if there is room.
    pub fn put(&self, exchange: &Arc<Exchange>) {
        let Some(room) = self.budget.take(exchange.weight()) else { return };
        self.tally.queued.add(1);
        // Where nobody takes them any more, they are gone.
        let _ = self.line.send(Arrival::Exchange(exchange.clone(), room));
    }

    /// Says that a session is over.
    pub fn end(&self, session: u64) {
        let _ = self.line.send(Arrival::End(session));
    }
}

/// Of all sessions, what is being collected takes at most this many exchanges; their bytes are bounded, too.
const COLLECTING: usize = usize::MAX >> 1;
/// And this many bytes.
const COLLECTING_BYTES: usize = 64 << 20;

/// The taps of the process.
#[derive(Debug)]
pub struct Shadows {
    now: ArcSwap<Taps>,
    serial: AtomicU64,
    turn: Mutex<()>,
    /// The last recording that was begun.
    last: Mutex<Option<Arc<Tap>>>,
    /// Told when there are others.
    pub changed: Notify,
}

impl Default for Shadows {
    fn default() -> Self {
        // Without randomness the key is one that others know: checksums still tell answers apart.
        let key = (getrandom::u64().unwrap_or_default(), getrandom::u64().unwrap_or_default());
        let collecting = Budget::new(COLLECTING, COLLECTING_BYTES);
        let none = Taps { serial: 0, rules: 0, list: Vec::new(), collecting, key, sessions: Arc::default() };
        Shadows {
            now: ArcSwap::from_pointee(none),
            serial: AtomicU64::new(0),
            turn: Mutex::default(),
            last: Mutex::default(),
            changed: Notify::new(),
        }
    }
}

impl Shadows {
    /// Of the taps that there are now; 0 where there is none.
    #[inline]
    pub fn serial(&self) -> u64 {
        self.serial.load(Acquire)
    }

    /// Those that there are now.
    pub fn taps(&self) -> Arc<Taps> {
        self.now.load_full()
    }

    /// The recording, if there is one.
    pub fn recording(&self) -> Option<Arc<Tap>> {
        self.taps().list.iter().find(|tap| matches!(tap.kind, Kind::Recording(_))).cloned()
    }

    /// The last recording that was begun, over or not.
    pub fn last_recording(&self) -> Option<Arc<Tap>> {
        self.last.lock().clone()
    }

    /// Puts a configuration into use, whose rules have that serial. Mirrors that are as they were go on.
    pub fn reload(&self, config: &Config, rules: u64) {
        let _turn = self.turn.lock();
        let before = self.taps();
        let of = |mirror: &Mirror| {
            let same = |tap: &&Arc<Tap>| matches!(&tap.kind, Kind::Mirror(m) if **m == *mirror);
            let known = before.list.iter().find(same).cloned();
            known.unwrap_or_else(|| Tap::new(Kind::Mirror(Box::new(mirror.clone())), Progress::default()))
        };
        let mut list: Vec<_> = config.mirrors.iter().map(of).collect();
        // A recording ends when it is said to, or when it must not be any more.
        let recording = before.list.iter().find(|tap| match &tap.kind {
            Kind::Recording(record) => config.record.as_ref() == Some(&**record),
            Kind::Mirror(_) => false,
        });
        list.extend(recording.cloned());
        self.put(list, rules);
    }

    /// Begins a recording, in place of one that there may be, or ends it.
    pub fn record(&self, tap: Option<Arc<Tap>>) {
        let _turn = self.turn.lock();
        if tap.is_some() {
            self.last.lock().clone_from(&tap);
        }
        let before = self.taps();
        let mirrors = before.list.iter().filter(|tap| matches!(tap.kind, Kind::Mirror(_)));
        self.put(mirrors.cloned().chain(tap).collect(), before.rules);
    }

    fn put(&self, list: Vec<Arc<Tap>>, rules: u64) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let before = self.taps();
        let same = |(a, b): (&Arc<Tap>, &Arc<Tap>)| Arc::ptr_eq(a, b);
        if list.len() == before.list.len() && rules == before.rules && list.iter().zip(&before.list).all(same)
        {
            return;
        }
        let serial = if list.is_empty() { 0 } else { NEXT.fetch_add(1, Relaxed) };
        let (collecting, sessions) = (before.collecting.clone(), before.sessions.clone());
        self.now.store(Arc::new(Taps { serial, rules, list, collecting, key: before.key, sessions }));
        self.serial.store(serial, Release);
        self.changed.notify_one();
    }
}
