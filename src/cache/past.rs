//! What another process may have left on a server when it went: what it had sent is still carried out, and nobody has
//! marked it here. Where a database is written to through one process alone, nothing is given or kept until that is over:
//! until every server process that ran a transaction a moment after this process had begun has been seen without one.
//!
//! Plain data; whoever asks the server ([`crate::session::past`]) says here what it has answered. Of two processes that
//! live side by side this knows nothing: the configuration's check refuses `exact` where one may take over from the other.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::Duration;

use parking_lot::Mutex;

use crate::core::clock::Instant;

/// How long what a process that is gone has sent takes at most to reach a server process and be begun.
const GRACE: Duration = Duration::from_secs(1);

/// Somebody may have gone: what he has sent may still be carried out.
#[derive(Debug)]
pub struct Doubt {
    since: Instant,
    /// Server processes that may be carrying it out, from when that can be told.
    open: Option<HashSet<String>>,
}

impl Doubt {
    /// He was gone by then.
    pub fn new(since: Instant) -> Doubt {
        Doubt { since, open: None }
    }

    /// Notes which server processes ran a transaction when that was asked for at `asked`. True where all is done.
    pub fn answered(&mut self, running: HashSet<String>, asked: Instant) -> bool {
        match &mut self.open {
            Some(open) => open.retain(|process| running.contains(process)),
            None if asked.since(self.since) >= GRACE => self.open = Some(running),
            None => {}
        }
        self.open.as_ref().is_some_and(HashSet::is_empty)
    }
}

/// Of one database on one server.
#[derive(Debug, Default)]
pub struct Past {
    over: AtomicBool,
    asked: AtomicBool,
}

impl Past {
    /// Whether all is done.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.over.load(Acquire)
    }

    /// Why nothing is given, for people.
    pub fn why(&self) -> Option<&'static str> {
        let why = "transactions that a process before this one may have begun have not ended";
        (!self.is_over()).then_some(why)
    }

    /// Whether somebody has to ask the server, which nobody does yet.
    pub fn takes_asking(&self) -> bool {
        !self.is_over() && !self.asked.swap(true, AcqRel)
    }

    /// All is done that another process may have left.
    pub fn ends(&self) {
        self.over.store(true, Release);
    }
}

/// A backend or cluster, by its name, and a database there.
type Place = (Box<str>, Box<str>);

/// Of all databases.
#[derive(Debug)]
pub struct Pasts {
    /// Since when this process is there: whoever was there before is gone.
    since: Instant,
    all: Mutex<HashMap<Place, Arc<Past>>>,
}

impl Default for Pasts {
    fn default() -> Pasts {
        Pasts { since: Instant::now(), all: Mutex::default() }
    }
}

impl Pasts {
    /// Of a database: on a backend or cluster of that name, by its name there.
    pub fn of(&self, place: &str, dbname: &str) -> Arc<Past> {
        self.all.lock().entry((place.into(), dbname.into())).or_default().clone()
    }

    /// All that there are.
    pub fn all(&self) -> Vec<(Place, Arc<Past>)> {
        let mut all: Vec<_> = self.all.lock().iter().map(|(at, past)| (at.clone(), past.clone())).collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }

    /// What is waited for.
    pub fn doubt(&self) -> Doubt {
        Doubt::new(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(processes: &[&str]) -> HashSet<String> {
        processes.iter().map(|s| s.to_string()).collect()
    }

    #[test]
    fn what_ran_a_moment_later_is_waited_for() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut doubt = Doubt::new(start);
        assert!(!doubt.answered(running(&[]), at(0)), "what was sent may not have been begun");
        assert!(!doubt.answered(running(&["1"]), at(900)));
        assert!(!doubt.answered(running(&["1", "2"]), at(1000)));
        // One that has been without a transaction has nothing left to do.
        assert!(!doubt.answered(running(&["2", "3"]), at(1100)));
        assert!(doubt.answered(running(&["1", "3"]), at(1200)));
        assert!(Doubt::new(start).answered(running(&[]), at(1000)));
    }

    #[test]
    fn one_asks_for_all() {
        let pasts = Pasts::default();
        let past = pasts.of("a", "b");
        assert!(past.takes_asking() && !pasts.of("a", "b").takes_asking());
        assert!(!past.is_over() && past.why().is_some());
        past.ends();
        assert!(pasts.of("a", "b").is_over() && past.why().is_none() && !past.takes_asking());
        assert!(!pasts.of("a", "c").is_over());
    }
}
