//! Has results read again that are asked for often: before their time is over, since the process was started, and on demand.
//!
//! What is asked is asked by a session like any client's, of the same database and user, with the same settings, over the
//! proxy's own path: it finds the same rights, misses like the first who asks, and what is kept of it is kept on the same
//! terms. Nobody's rights are needed but those that the session had for which the result was kept: nothing is ever read
//! that would be found under another key. A result that is read again is given, meanwhile, for as long as it holds.
//!
//! One is read at a time, and after each nothing is for as long as the share of the time says that it may take
//! (`general.cache_warm`). Only results whose time ends are read ahead: what a write has outdated is read by the first who
//! asks, and by nobody if nobody does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::entry::{About, Entry};
use super::handshake::{Seat, find_welcome};
use super::run;
use super::shared::Shared;
use super::warmth::{Hot, MOST, Request, Who};
use crate::config::{CacheMode, Config, HbaMethod, PoolMode};
use crate::core::clock::Instant;
use crate::core::limits::CANCEL_KEY;
use crate::pool::pool::Pool;
use crate::pool::settings::Settings;
use crate::sql::effect::Traces;
use crate::wire::stream::Stream;
use crate::wire::{frame, reply};

/// How such a session is called where clients are listed.
const NAME: &str = "turnpike warm-up";
/// Longest time for a result.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest time that a catalog is waited for, without which nothing is kept.
const KNOWN: Duration = Duration::from_secs(10);
/// How often what is asked for most is looked up.
const ROUND: Duration = Duration::from_secs(60);
/// Longest pause after a result.
const PAUSE: Duration = Duration::from_secs(60);
/// What may be taken of the time after a start at least: there is little else to do.
const AT_START: f64 = 0.25;
/// Times that it is tried after a start, and the pause between them: writers elsewhere must be known first.
const ATTEMPTS: (usize, Duration) = (5, Duration::from_secs(5));

/// What such a session asks for, and what has come of it.
#[derive(Debug, Default)]
pub struct Asking {
    /// Whether what is there is read again.
    pub renews: bool,
    /// It was there.
    pub found: AtomicBool,
    /// It has been kept.
    pub kept: AtomicBool,
}

/// What has come of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was read and kept.
    Kept,
    /// It was there.
    There,
    /// It was not kept, or could not be asked.
    Not,
}

/// What has come of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Warmed {
    /// Requests that were remembered.
    pub known: u64,
    /// Results read and kept.
    pub kept: u64,
    /// Results that were there.
    pub there: u64,
    /// Results that were not kept.
    pub not: u64,
}

/// Has what is remembered of a database, or of all, read again where it is not there; nothing is waited for in between.
pub async fn warm(shared: &Arc<Shared>, database: Option<&str>) -> Warmed {
    gather(shared).await;
    let all = shared.warmth.all(database);
    let mut warmed = Warmed { known: all.len() as u64, ..Warmed::default() };
    for hot in all {
        match again(shared, &hot.who, &hot.request, false).await {
            Outcome::Kept => warmed.kept += 1,
            Outcome::There => warmed.there += 1,
            Outcome::Not => warmed.not += 1,
        }
    }
    warmed
}

/// Looks up what is asked for most now.
pub async fn gather(shared: &Arc<Shared>) {
    let Some(cache) = shared.cache.clone() else { return };
    // There may be very many: not on a worker.
    let hottest = tokio::task::spawn_blocking(move || cache.hottest(MOST)).await.unwrap_or_default();
    shared.warmth.remember(&hottest);
}

/// Looks after results for as long as it is polled; those first that were remembered when the process was started.
pub async fn run(shared: Arc<Shared>) {
    let kept = shared.warmth.all(None);
    let start = async {
        at_start(&shared, kept).await;
        ahead(&shared).await;
    };
    let rounds = async {
        loop {
            tokio::time::sleep(ROUND).await;
            gather(&shared).await;
        }
    };
    tokio::join!(start, rounds);
}

/// The share of the time that may be taken.
fn share(shared: &Shared) -> f64 {
    shared.config.load().general.cache_warm.of_one()
}

/// As long as nothing may be asked after something that took so long.
fn pause(took: Duration, share: f64) -> Duration {
    took.mul_f64((1.0 / share.max(0.0001) - 1.0).max(0.0)).min(PAUSE)
}

/// What another process has left, or this one.
async fn at_start(shared: &Arc<Shared>, mut left: Vec<Hot>) {
    for _ in 0..ATTEMPTS.0 {
        let mut failed = Vec::new();
        for hot in left {
            let began = Instant::now();
            if again(shared, &hot.who, &hot.request, false).await == Outcome::Not {
                failed.push(hot);
            }
            tokio::time::sleep(pause(began.elapsed(), share(shared).max(AT_START))).await;
        }
        left = failed;
        if left.is_empty() {
            return;
        }
        tokio::time::sleep(ATTEMPTS.1).await;
    }
}

/// Reads again what will soon be too old.
async fn ahead(shared: &Arc<Shared>) {
    loop {
        let waits = shared.warmth.waits.notified();
        let Some(entry) = shared.warmth.next_due() else {
            waits.await;
            continue;
        };
        let share = share(shared);
        if share <= 0.0 {
            continue;
        }
        let Some((who, request)) = shared.warmth.request(&entry) else { continue };
        drop(entry);
        let began = Instant::now();
        if again(shared, &who, &request, true).await == Outcome::Kept {
            shared.warmth.renewed.add(1);
        }
        tokio::time::sleep(pause(began.elapsed(), share)).await;
    }
}

/// Has one result read, unless it is there and need not be read again.
async fn again(shared: &Arc<Shared>, who: &Who, request: &Request, renews: bool) -> Outcome {
    let began = Instant::now();
    let asking = Arc::new(Asking { renews, ..Asking::default() });
    let asked = async {
        let mut stream = session(shared, who, asking.clone()).await?;
        stream.write_all(&messages(request)).await.ok()?;
        until_ready(&mut stream).await
    };
    // Dropping the stream ends the session.
    let _ = tokio::time::timeout(PATIENCE, asked).await;
    if asking.kept.load(Relaxed) {
        shared.warmth.spent_us.add(Instant::now().micros_since(began));
        if !renews {
            shared.warmth.warmed.add(1);
        }
        return Outcome::Kept;
    }
    if asking.found.load(Relaxed) { Outcome::There } else { Outcome::Not }
}

/// The other end of a session like that. `None` where there is none to be had.
async fn session(shared: &Arc<Shared>, who: &Who, asking: Arc<Asking>) -> Option<UnixStream> {
    let config = shared.config.load_full();
    let database = config.database(&who.database)?;
    let closed = shared.draining() || shared.closed() || shared.pools.is_disabled(&who.database);
    if closed || !may_come_in(&config, &who.user) {
        return None;
    }
    let pool = shared.pools.pool(&config, database, (&who.database, &who.user), None);
    if pool.settings().mode == PoolMode::Session || config.caches.iter().all(is_off) {
        return None;
    }
    known(&pool, config.plan.catalog).await;
    let pairs = |pairs: &[(String, String)]| {
        Settings::from_pairs(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    };
    let id = shared.next_client();
    // As for a client that comes in: what it is told says what kind of server that is.
    let welcome = find_welcome(shared, &pool, (id, None), &pairs(&who.class)).await.ok()?;
    let shared_settings = |settings: Settings| {
        if settings.is_empty() { pool.neutral().clone() } else { pool.shared_settings(settings) }
    };
    let (class, settings) =
        (shared_settings(welcome.settings.clone()), shared_settings(pairs(&who.settings)));
    let (ours, theirs) = UnixStream::pair().ok()?;
    let mut key = [0; CANCEL_KEY];
    getrandom::fill(&mut key).ok()?;
    let about =
        About { application_name: NAME.into(), addr: None, local_addr: None, tls: "".into(), tenant: None };
    let entry = Arc::new(Entry::new(id, key, false, pool.clone(), about));
    shared.join(entry.clone());
    let seat = Seat { entry, pool, claims: None, class, settings, pins: Traces::NONE };
    let mut client = Box::new(seat.taken(Stream::Unix(theirs), shared.clone()));
    if let Some(caching) = &mut client.caching {
        caching.warming = Some(asking);
    }
    tokio::spawn(run::run(client));
    Some(ours)
}

/// Whether it may be somebody who comes in by himself still: a user that has been taken out of the configuration does not.
fn may_come_in(config: &Config, user: &str) -> bool {
    let unknown = config.auth.query.is_some() || config.hba.iter().any(|r| r.method == HbaMethod::Trust);
    unknown || config.user(user).is_some()
}

fn is_off(rule: &crate::config::CacheRule) -> bool {
    rule.mode == CacheMode::Off
}

/// Waits for the catalog, without which nothing is kept.
async fn known(pool: &Arc<Pool>, wanted: bool) {
    if wanted && !pool.schema.is_known() {
        pool.schema.want(pool, Instant::now());
        let _ = tokio::time::timeout(KNOWN, pool.schema.settled()).await;
    }
}

/// What a client would send.
fn messages(request: &Request) -> Vec<u8> {
    let Request { simple, statement, bind, describes } = request;
    let mut out = Vec::new();
    if *simple {
        reply::frame(&mut out, b'Q', |out| {
            out.extend_from_slice(statement);
            out.push(0);
        });
        return out;
    }
    reply::parse(&mut out, b"", statement);
    if describes.0 {
        reply::frame(&mut out, b'D', |out| out.extend_from_slice(b"S\0"));
    }
    reply::frame(&mut out, b'B', |out| {
        out.extend_from_slice(b"\0\0");
        out.extend_from_slice(bind);
    });
    if describes.1 {
        reply::frame(&mut out, b'D', |out| out.extend_from_slice(b"P\0"));
    }
    reply::frame(&mut out, b'E', |out| out.extend_from_slice(&[0; 5]));
    out.extend_from_slice(reply::SYNC);
    out
}

/// Hears all of an answer, which is nobody's here.
async fn until_ready(stream: &mut UnixStream) -> Option<()> {
    let mut held = Vec::with_capacity(16 << 10);
    loop {
        let mut at = 0;
        while let Some(header) = frame::server(&held[at..]).ok()?
            && held.len() - at >= header.len
        {
            at += header.len;
            if header.kind == b'Z' {
                return Some(());
            }
        }
        held.drain(..at);
        if stream.read_buf(&mut held).await.ok()? == 0 {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_each_it_rests_as_long_as_its_share_says() {
        let ms = Duration::from_millis;
        assert_eq!(pause(ms(100), 0.5), ms(100));
        assert_eq!(pause(ms(20), 0.02).as_millis(), 980);
        assert_eq!(pause(ms(20), 1.0), ms(0));
        assert_eq!(pause(ms(20), 0.0), PAUSE);
    }

    #[test]
    fn what_is_asked_is_what_was_asked() {
        let request = Request {
            simple: false,
            statement: b"SELECT $1\0\0\0".to_vec(),
            bind: b"\0\0\0\x01\0\0\0\x017\0\0".to_vec(),
            describes: (false, true),
        };
        let bytes = messages(&request);
        let kinds = |mut bytes: &[u8]| {
            let mut kinds = String::new();
            while let Ok(Some(header)) = frame::client(bytes, 1 << 20) {
                kinds.push(char::from(header.kind));
                bytes = &bytes[header.len..];
            }
            kinds
        };
        assert_eq!(kinds(&bytes), "PBDES");
        let single = super::super::single::Single::read(&bytes, 1 << 20);
        assert!(single.is_some_and(|s| s.bind == request.bind && s.prepares == Some(&request.statement)));
    }
}
