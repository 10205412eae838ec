//! What mirrors and recordings see of a session: its exchanges, collected beside the path, never in it. A session that
//! nobody looks at, or whose user, database and application nobody asks for, has no shadow, and pays one branch.
//!
//! [`taps`] says who looks, [`exchange`] what they get, [`collect`] and [`watch`] how it is gathered from requests and
//! answers, [`tally`] what comes of it.

use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::SmallVec;

pub mod collect;
pub mod exchange;
pub mod tally;
pub mod taps;
pub mod watch;

use exchange::{Answered, Definition};
use taps::Taps;

use super::run::Client;
use crate::config::MirrorMode;
use crate::core::budget::Room;
use crate::pool::settings::{APPLICATION_NAME, Settings};
use crate::wire::summary::Summary;

/// Taps, as bits by their places.
type Places = u32;

/// See the module. Owned by its session's task.
#[derive(Debug)]
pub struct Shadow {
    taps: Arc<Taps>,
    session: u64,
    /// Those whose conditions about sessions are met, and under which settings that was found out.
    matched: Places,
    matched_under: Option<Arc<Settings>>,
    /// Those of them that see every exchange.
    follow: Places,
    dice: u32,
    number: u64,
    /// The request at hand has been collected.
    at_hand: bool,
    /// It is the last of its exchange.
    ends: bool,
    /// ReadyForQuery messages that were owed before it.
    owed: usize,
    /// What is being asked.
    now: Option<Box<Pending>>,
    /// What has been asked and is being answered.
    under_way: VecDeque<Box<Pending>>,
    summary: Summary,
    /// The transaction has written, or has done something that is not known.
    wrote: bool,
    /// Those that have heard of the session.
    told: Places,
    /// What the session has set, as others need it, and what that was made from.
    carried: Option<(Arc<Settings>, Arc<Settings>)>,
}

/// An exchange that is not over.
#[derive(Default)]
struct Pending {
    /// Who wants it.
    wanted: Places,
    /// Not all of it is here: it was too large.
    broken: bool,
    /// It is not for others at all.
    mute: bool,
    /// It uses what came before it: a portal, a statement that is not known.
    dependent: bool,
    fresh: bool,
    /// COPY data belongs to it.
    copies: bool,
    requests: Vec<u8>,
    /// Where the request at hand begins in them.
    mark: usize,
    statements: Vec<Definition>,
    /// Names of statements and portals that it makes.
    parsed: SmallVec<[Box<[u8]>; 1]>,
    bound: SmallVec<[Box<[u8]>; 1]>,
    results: SmallVec<[Answered; 1]>,
    room: Option<Room>,
    /// What is kept of it beside the requests, in bytes.
    beside: usize,
}

impl std::fmt::Debug for Pending {
    /// Holds values: shows nothing.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pending")
    }
}

/// What decides how texts are read and values written: carried also where the session has not set it.
const READ_UNDER: &[&str] = &[
    "search_path",
    "standard_conforming_strings",
    "client_encoding",
    "datestyle",
    "intervalstyle",
    "timezone",
];

/// Under what it was found out whether anybody looks at a session.
#[derive(Debug)]
pub struct Sighting {
    /// Of the taps.
    serial: u64,
    /// The session's settings; nothing where it has still to be found out.
    under: Option<Arc<Settings>>,
}

impl Client {
    /// Sees to it that who looks at traffic now looks at this session's, if any of it can be meant.
    #[inline]
    pub(super) fn renew_shadow(&mut self) {
        let serial = self.shared.shadows.serial();
        let sighted = self.sighting.as_ref().map_or(0, |sighting| sighting.serial);
        if serial != sighted || serial != 0 && !self.is_sighted() {
            self.cast_shadow();
        }
    }

    /// Whether nothing has changed since that may have somebody look at the session.
    fn is_sighted(&self) -> bool {
        let under = self.sighting.as_ref().and_then(|sighting| sighting.under.as_ref());
        under.is_some_and(|under| Arc::ptr_eq(under, &self.settings))
    }

    #[cold]
    fn cast_shadow(&mut self) {
        let taps = self.shared.shadows.taps();
        let serial = taps.serial;
        self.sighting = None;
        let known = self.shadow.take().filter(|shadow| shadow.taps.serial == serial);
        if serial == 0 {
            return;
        }
        let mut shadow = known.unwrap_or_else(|| {
            let mut new = Box::new(Shadow::new(taps, self.entry.id));
            // What its transaction has done nobody has seen.
            new.wrote = !self.is_idle();
            new
        });
        let under = shadow.settle(self).then(|| self.settings.clone());
        let is_done = under.is_some() && shadow.is_useless();
        self.sighting = Some(Box::new(Sighting { serial, under }));
        self.shadow = (!is_done).then_some(shadow);
    }
}

impl Shadow {
    fn new(taps: Arc<Taps>, session: u64) -> Shadow {
        let summary = Summary::new(taps.key);
        taps.sessions.add(1);
        Shadow {
            taps,
            session,
            matched: 0,
            matched_under: None,
            follow: 0,
            dice: spread(session) | 1,
            number: 0,
            at_hand: false,
            ends: false,
            owed: 0,
            now: None,
            under_way: VecDeque::new(),
            summary,
            wrote: false,
            told: 0,
            carried: None,
        }
    }

    /// Whether nobody looks at the session, or waits to hear of its end.
    fn is_useless(&self) -> bool {
        self.matched == 0 && self.follow == 0 && self.told == 0
    }

    /// Finds out who looks at the session, where its settings have changed since that was done. False where it cannot be
    /// said yet.
    fn settle(&mut self, client: &Client) -> bool {
        if self.matched_under.as_ref().is_some_and(|under| Arc::ptr_eq(under, &client.settings)) {
            return true;
        }
        self.matched_under = Some(client.settings.clone());
        let application = client.settings.get(APPLICATION_NAME).unwrap_or_default();
        let purpose = &client.pool.purpose;
        let rules = client.shared.planner.rules();
        if rules.serial != self.taps.rules {
            // A reload is under way.
            (self.matched, self.follow, self.matched_under) = (0, 0, None);
            return false;
        }
        let matched = rules.mirrors.of_session(&purpose.user, &purpose.database, application);
        (self.matched, self.follow) = (0, 0);
        for (place, tap) in self.taps.list.iter().enumerate().filter(|(place, _)| matched >> place & 1 == 1) {
            if tap.mode() == MirrorMode::Reads {
                self.matched |= 1 << place;
            } else if tap.share().has(spread(self.session)) {
                self.follow |= 1 << place;
            }
        }
        true
    }

    /// Who wants the exchange that begins.
    fn wanted(&mut self) -> Places {
        let mut wanted = self.follow;
        for place in places(self.matched) {
            // xorshift: all that is asked of it is that it is cheap and even.
            self.dice ^= self.dice << 13;
            self.dice ^= self.dice >> 17;
            self.dice ^= self.dice << 5;
            if self.taps.list[place].share().has(self.dice) {
                wanted |= 1 << place;
            }
        }
        wanted
    }

    /// What the session has set, in the words of any server.
    fn carried(&mut self, client: &Client) -> Arc<Settings> {
        if let Some((of, carried)) = &self.carried
            && Arc::ptr_eq(of, &client.settings)
        {
            return carried.clone();
        }
        let mut all = Settings::clone(&client.wish.class);
        client.settings.iter().for_each(|(name, value)| all.set(name, value));
        let default = |name: &str| client.pool.default(name).map(str::to_string);
        for name in READ_UNDER {
            if all.get(name).is_none()
                && let Some(value) = client.own(name).or_else(|| default(name))
            {
                all.set(name, &value);
            }
        }
        all.remove(APPLICATION_NAME);
        let carried = Arc::new(all);
        self.carried = Some((client.settings.clone(), carried.clone()));
        carried
    }

    /// What is under way is asked again: it comes again, too.
    pub(super) fn lose(&mut self) {
        (self.now, self.at_hand, self.ends) = (None, false, false);
        self.under_way.clear();
        self.summary = Summary::new(self.taps.key);
    }

    /// Everything has been answered.
    pub(super) fn rest(&mut self) {
        self.number += self.under_way.len() as u64;
        self.under_way.clear();
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        self.taps.sessions.sub(1);
        for place in places(self.told) {
            self.taps.list[place].end(self.session);
        }
    }
}

/// The places that are in a set.
fn places(set: Places) -> impl Iterator<Item = usize> {
    (0..Places::BITS as usize).filter(move |place| set >> place & 1 == 1)
}

/// Numbers that follow each other, spread over all that there are.
fn spread(n: u64) -> u32 {
    (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}
