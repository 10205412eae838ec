//! LISTEN for many clients over one server connection per database: it listens to what any of them listens to, and
//! each notification goes to the mailboxes of those who do.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, oneshot};

use super::connect;
use super::pool::Pool;
use super::term;
use crate::core::error::{Error, SqlState};
use crate::core::limits::{FRAME_HEADER, MAX_DECODED};
use crate::wire::message::{ErrorFields, cstr};
use crate::wire::stream::Stream;
use crate::wire::{frame, reply};

/// A channel's name, as Postgres has it after folding.
pub type Channel = Box<[u8]>;

/// Notifications that wait for one client.
#[derive(Debug, Default)]
pub struct Mailbox {
    queue: Mutex<Queue>,
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct Queue {
    /// Channel and whole frame; a notice has no channel.
    letters: VecDeque<(Option<Channel>, Arc<[u8]>)>,
    bytes: usize,
    overflowed: bool,
}

/// Most bytes that may wait for one client that does not read.
const MAX_WAITING: usize = 4 << 20;

impl Mailbox {
    fn put(&self, channel: Option<&[u8]>, letter: &Arc<[u8]>) {
        {
            let mut queue = self.queue.lock();
            if queue.bytes + letter.len() > MAX_WAITING {
                queue.overflowed = true;
            } else {
                queue.bytes += letter.len();
                queue.letters.push_back((channel.map(Into::into), letter.clone()));
            }
        }
        self.waker.wake();
    }

    /// Whether something has come; otherwise the task of `cx` is woken when it does.
    pub fn poll(&self, cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        let queue = self.queue.lock();
        queue.overflowed || !queue.letters.is_empty()
    }

    /// Whether something has come for this channel; otherwise the task of `cx` is woken when anything does.
    pub fn poll_for(&self, channel: &[u8], cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.queue.lock().letters.iter().any(|(c, _)| c.as_deref() == Some(channel))
    }

    /// Forgets what has come for these channels.
    pub fn forget(&self, channels: &[Channel]) {
        let mut queue = self.queue.lock();
        queue.letters.retain(|(channel, _)| channel.as_ref().is_none_or(|c| !channels.contains(c)));
        queue.bytes = queue.letters.iter().map(|(_, letter)| letter.len()).sum();
    }

    /// Takes what has come for the channels that `wanted` names; the rest is for nobody.
    ///
    /// # Errors
    /// Some of it is lost, since too much had come.
    pub fn take(&self, wanted: impl Fn(&[u8]) -> bool, out: &mut Vec<u8>) -> Result<(), Error> {
        let mut queue = self.queue.lock();
        queue.bytes = 0;
        for (channel, letter) in queue.letters.drain(..) {
            if channel.is_none_or(|c| wanted(&c)) {
                out.extend_from_slice(&letter);
            }
        }
        if queue.overflowed {
            return Err(Error::fatal(
                SqlState::LIMIT_EXCEEDED,
                "too many notifications wait for this client",
            )
            .detail(format!("The limit is {MAX_WAITING} bytes."))
            .hint("Read notifications as they come."));
        }
        Ok(())
    }
}

/// See the module.
#[derive(Debug)]
pub struct Hub {
    pool: ArcSwap<Pool>,
    state: Mutex<State>,
    changed: Notify,
    moved: Notify,
}

#[derive(Debug, Default)]
struct State {
    channels: HashMap<Channel, Listeners>,
    running: bool,
}

#[derive(Debug, Default)]
struct Listeners {
    boxes: Vec<Arc<Mailbox>>,
    listening: bool,
    waiting: Vec<oneshot::Sender<Result<(), Error>>>,
}

/// First and longest pause between attempts to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

impl Hub {
    /// A hub that connects as `pool` does, when there is something to listen to.
    pub fn new(pool: Arc<Pool>) -> Arc<Hub> {
        let (pool, state) = (ArcSwap::new(pool), Mutex::default());
        Arc::new(Hub { pool, state, changed: Notify::new(), moved: Notify::new() })
    }

    /// As which pool it connects.
    pub(super) fn pool(&self) -> Arc<Pool> {
        self.pool.load_full()
    }

    /// Listens on another server from now on: that of this pool. Listeners are told that they may have missed something.
    pub(super) fn move_to(&self, pool: Arc<Pool>) {
        if !Arc::ptr_eq(&self.pool.swap(pool.clone()), &pool) {
            self.moved.notify_one();
        }
    }

    /// Has what comes on a channel put into a mailbox. Returns when the server listens.
    ///
    /// # Errors
    /// It cannot be reached, or refuses.
    pub async fn subscribe(self: &Arc<Self>, channel: &[u8], mailbox: &Arc<Mailbox>) -> Result<(), Error> {
        let confirmed = {
            let mut state = self.state.lock();
            if !std::mem::replace(&mut state.running, true) {
                let hub = self.clone();
                tokio::spawn(async move { hub.run().await });
            }
            let listeners = state.channels.entry(channel.into()).or_default();
            if !listeners.boxes.iter().any(|b| Arc::ptr_eq(b, mailbox)) {
                listeners.boxes.push(mailbox.clone());
            }
            if listeners.listening {
                return Ok(());
            }
            let (sender, receiver) = oneshot::channel();
            listeners.waiting.push(sender);
            receiver
        };
        self.changed.notify_one();
        let outcome = tokio::time::timeout(self.pool().settings().connect_timeout, confirmed).await;
        let outcome = match outcome {
            Ok(Ok(outcome)) => outcome,
            _ => Err(Error::backend(SqlState::CANNOT_CONNECT, "the listening connection cannot be had")),
        };
        if outcome.is_err() {
            self.unsubscribe(channel, mailbox);
        }
        outcome
    }

    /// Ends that.
    pub fn unsubscribe(&self, channel: &[u8], mailbox: &Arc<Mailbox>) {
        let mut state = self.state.lock();
        if let Some(listeners) = state.channels.get_mut(channel) {
            listeners.boxes.retain(|b| !Arc::ptr_eq(b, mailbox));
            if listeners.boxes.is_empty() {
                state.channels.remove(channel);
                drop(state);
                self.changed.notify_one();
            }
        }
    }

    async fn run(self: Arc<Self>) {
        let mut pause = PAUSES.0;
        let mut before = false;
        loop {
            let pool = self.pool();
            match open(&pool).await {
                Ok((mut line, epoch)) => {
                    pause = PAUSES.0;
                    let ended = self.serve(&mut line, before, (&pool, epoch)).await;
                    before = true;
                    if ended {
                        line.stream.try_send(reply::TERMINATE);
                        return;
                    }
                    tracing::warn!(backend = pool.target.name(), "the listening connection was lost");
                    self.state.lock().channels.values_mut().for_each(|l| l.listening = false);
                }
                Err(e) => self.failed(&e),
            }
            if tokio::time::timeout(pause, self.moved.notified()).await.is_ok() {
                pause = PAUSES.0;
            } else {
                pause = (pause * 2).min(PAUSES.1);
            }
            if self.is_over() {
                return;
            }
        }
    }

    /// Whether nobody listens any more; then the connection is not kept.
    fn is_over(&self) -> bool {
        let mut state = self.state.lock();
        let over = state.channels.is_empty();
        if over {
            state.running = false;
        }
        over
    }

    fn failed(&self, e: &Error) {
        let waiting: Vec<_> = {
            let mut state = self.state.lock();
            state.channels.values_mut().flat_map(|l| std::mem::take(&mut l.waiting)).collect()
        };
        for waiter in waiting {
            // A client that has gone needs no answer.
            let _ = waiter.send(Err(e.clone()));
        }
    }

    /// Keeps what the server listens to as it should be, and delivers. True when nobody listens any more, false
    /// when the connection is lost or to be replaced.
    async fn serve(&self, line: &mut Line, again: bool, (pool, epoch): (&Arc<Pool>, u64)) -> bool {
        let mut again = again;
        loop {
            if pool.epoch() != epoch || !Arc::ptr_eq(pool, &self.pool()) {
                line.stream.try_send(reply::TERMINATE);
                return false;
            }
            if line.asked.is_empty() && self.is_over() {
                return true;
            }
            if self.reconcile(line).await.is_none() {
                return false;
            }
            if again && line.asked.is_empty() {
                again = false;
                self.tell_gap();
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = self.moved.notified() => {}
                () = pool.renewed.notified() => {}
                read = line.stream.read_buf(&mut line.buffer) => {
                    if !matches!(read, Ok(n) if n > 0) || self.take(line).is_none() {
                        return false;
                    }
                }
            }
        }
    }

    /// Sends what is missing or too much.
    async fn reconcile(&self, line: &mut Line) -> Option<()> {
        let (missing, surplus) = {
            let state = self.state.lock();
            let missing: Vec<Channel> =
                state.channels.keys().filter(|c| !line.channels.contains(*c)).cloned().collect();
            let surplus: Vec<Channel> =
                line.channels.iter().filter(|c| !state.channels.contains_key(*c)).cloned().collect();
            (missing, surplus)
        };
        let mut out = Vec::new();
        for channel in surplus {
            reply::query_bytes(&mut out, &[b"UNLISTEN ", quoted(&channel).as_slice()].concat());
            line.channels.remove(&channel);
            line.asked.push_back(None);
        }
        for channel in missing {
            reply::query_bytes(&mut out, &[b"LISTEN ", quoted(&channel).as_slice()].concat());
            line.channels.insert(channel.clone());
            line.asked.push_back(Some(channel));
        }
        if !out.is_empty() {
            line.stream.write_all(&out).await.ok()?;
            line.stream.flush().await.ok()?;
        }
        Some(())
    }

    /// Takes all whole frames that are here.
    fn take(&self, line: &mut Line) -> Option<()> {
        let mut at = 0;
        while let Some(header) = frame::server(&line.buffer[at..]).ok()? {
            if header.len > MAX_DECODED {
                return None;
            }
            let Some(frame) = line.buffer.get(at..at + header.len) else { break };
            match header.kind {
                b'A' => self.deliver(frame),
                b'E' => {
                    let fields = ErrorFields::of(frame);
                    line.error = Some(Error::backend(fields.sqlstate(), fields.text()));
                }
                b'Z' => {
                    let error = line.error.take();
                    if let Some(Some(channel)) = line.asked.pop_front() {
                        self.confirm(&channel, error);
                    }
                }
                _ => {}
            }
            at += header.len;
        }
        line.buffer.drain(..at);
        Some(())
    }

    fn confirm(&self, channel: &[u8], error: Option<Error>) {
        let waiting = {
            let mut state = self.state.lock();
            let Some(listeners) = state.channels.get_mut(channel) else { return };
            listeners.listening = error.is_none();
            std::mem::take(&mut listeners.waiting)
        };
        for waiter in waiting {
            let _ = waiter.send(error.clone().map_or(Ok(()), Err));
        }
    }

    /// A NotificationResponse: to all who listen to its channel.
    fn deliver(&self, frame: &[u8]) {
        let Some((channel, _)) = frame.get(FRAME_HEADER + 4..).and_then(cstr) else { return };
        let letter: Arc<[u8]> = frame.into();
        let state = self.state.lock();
        for mailbox in state.channels.get(channel).map(|l| l.boxes.as_slice()).unwrap_or_default() {
            mailbox.put(Some(channel), &letter);
        }
    }

    /// Whoever listens may have missed something.
    fn tell_gap(&self) {
        let mut notice = Vec::new();
        let gap = Error::statement(
            SqlState::WARNING,
            "notifications may have been missed: the listening connection was lost and has been replaced",
        );
        reply::notice(&mut notice, "WARNING", &gap);
        let notice: Arc<[u8]> = notice.into();
        let state = self.state.lock();
        let mut told = HashSet::new();
        for mailbox in state.channels.values().flat_map(|l| &l.boxes) {
            if told.insert(Arc::as_ptr(mailbox)) {
                mailbox.put(None, &notice);
            }
        }
    }
}

/// Connects as a pool does, to a server that notifies: one in recovery does not, and whoever notifies a primary of the
/// past is not heard by anybody else.
async fn open(pool: &Arc<Pool>) -> Result<(Line, u64), Error> {
    let epoch = pool.epoch();
    let opening = connect::open(pool, pool.neutral());
    let opened = tokio::time::timeout(pool.settings().connect_timeout, opening).await;
    let greeted = opened.map_err(|_| {
        Error::backend(SqlState::CANNOT_CONNECT, "the listening connection cannot be had in time")
    })??;
    let wanted = pool.target.terms.leads();
    if !pool.target.terms.is_home() || !term::suits(wanted, greeted.term) {
        return Err(Error::backend(SqlState::CANNOT_CONNECT, "there is no primary to listen to"));
    }
    Ok((Line::new(greeted.stream), epoch))
}

/// The connection that listens.
struct Line {
    stream: Stream,
    buffer: Vec<u8>,
    /// What it listens to, or has been told to.
    channels: HashSet<Channel>,
    /// What each ReadyForQuery to come is about.
    asked: VecDeque<Option<Channel>>,
    error: Option<Error>,
}

impl Line {
    fn new(stream: Stream) -> Line {
        Line { stream, buffer: Vec::new(), channels: HashSet::new(), asked: VecDeque::new(), error: None }
    }
}

/// A channel's name as an identifier.
pub fn quoted(channel: &[u8]) -> Vec<u8> {
    let mut out = vec![b'"'];
    for &b in channel {
        if b == b'"' {
            out.push(b);
        }
        out.push(b);
    }
    out.push(b'"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_gives_what_is_wanted_in_order() {
        let mailbox = Mailbox::default();
        for (channel, letter) in [("a", "1"), ("b", "2"), ("a", "3")] {
            mailbox.put(Some(channel.as_bytes()), &letter.as_bytes().into());
        }
        let mut out = Vec::new();
        assert!(mailbox.take(|c| c == b"a", &mut out).is_ok());
        assert_eq!(out, b"13");
        out.clear();
        assert!(mailbox.take(|_| true, &mut out).is_ok() && out.is_empty());
    }

    #[test]
    fn a_mailbox_is_bounded() {
        let mailbox = Mailbox::default();
        let letter: Arc<[u8]> = vec![0; MAX_WAITING / 2].into();
        for _ in 0..3 {
            mailbox.put(Some(b"a"), &letter);
        }
        let mut out = Vec::new();
        assert!(mailbox.take(|_| true, &mut out).is_err());
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted(b"a\"b"), b"\"a\"\"b\"");
    }
}
