//! Who else writes to a database through a process that tells of its writes: found out from the server, which knows who
//! is connected to it. Plain data; whoever asks the server says here what it has answered, and when it was asked.
//!
//! A process that is gone may have sent what the server has not carried out yet, and told nobody of it. So whenever one has
//! gone, and at the beginning, when one may have gone a moment ago, nobody is relied on until every server
//! process has been seen without a transaction that ran one a moment later ([`crate::cache::past`]).

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use crate::cache::past::Doubt;
use crate::core::clock::Instant;

/// How long an answer is relied on, from when it was asked for. Who has just been entered may write unannounced only when
/// all that others know without him is older than that.
pub const FRESH: Duration = Duration::from_secs(1);

/// What the server has answered.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The numbers of those that are connected.
    pub members: BTreeSet<u32>,
    /// Server processes that run a transaction, where that was asked for.
    pub running: HashSet<String>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Roll {
    /// Those that there were, and when that was asked for. `None` where nothing is known.
    known: Option<(BTreeSet<u32>, Instant)>,
    doubt: Option<Doubt>,
    /// Somebody has gone since those that are gone were last forgotten.
    gone: bool,
}

impl Roll {
    /// Nothing is known any more: the connection that asks is lost.
    pub fn lose(&mut self) {
        // Whoever goes while nobody looks has gone.
        let gone = self.gone || self.known.is_some();
        *self = Roll { known: None, doubt: None, gone };
    }

    /// Whether it matters which transactions run.
    pub fn is_in_doubt(&self) -> bool {
        self.known.is_none() || self.doubt.is_some()
    }

    /// Somebody has been found to be gone: what he has sent may still be carried out.
    pub fn doubt(&mut self, now: Instant) {
        self.doubt = Some(Doubt::new(now));
    }

    /// Notes what the server has answered when it was asked at `asked`.
    pub fn answered(&mut self, answer: Answer, asked: Instant) {
        let left = self.known.as_ref().is_none_or(|(known, _)| !known.is_subset(&answer.members));
        if left {
            self.gone |= self.known.is_some();
            self.doubt(asked);
        } else if self.doubt.as_mut().is_some_and(|doubt| doubt.answered(answer.running, asked)) {
            self.doubt = None;
        }
        self.known = Some((answer.members, asked));
    }

    /// When the server was last asked, where that is known.
    pub fn last(&self) -> Option<Instant> {
        self.known.as_ref().map(|(_, asked)| *asked)
    }

    /// Those that there are, and until when that may be relied on. `None` where it may not.
    pub fn members(&self) -> Option<(&BTreeSet<u32>, Instant)> {
        let (known, asked) = self.known.as_ref()?;
        self.doubt.is_none().then_some((known, *asked + FRESH))
    }

    /// True once when somebody has gone, and all that he can have done is done.
    pub fn take_gone(&mut self) -> bool {
        self.members().is_some() && std::mem::take(&mut self.gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(members: &[u32], running: &[&str]) -> Answer {
        Answer {
            members: members.iter().copied().collect(),
            running: running.iter().map(|s| s.to_string()).collect(),
        }
    }

    #[test]
    fn who_has_gone_is_waited_for() {
        let (mut roll, start) = (Roll::default(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert!(roll.is_in_doubt() && roll.members().is_none());
        // At the beginning as well: one may have gone a moment ago.
        roll.answered(answer(&[1, 2], &["a", "b"]), at(0));
        roll.answered(answer(&[1, 2], &["a"]), at(500));
        assert!(roll.members().is_none(), "what was sent may not have been begun");
        roll.answered(answer(&[1, 2], &["a", "c"]), at(1000));
        assert!(roll.members().is_none());
        // What has begun since is nobody's who had gone by then.
        roll.answered(answer(&[1, 2, 3], &["c", "d"]), at(1250));
        assert!(roll.members().is_none());
        roll.answered(answer(&[1, 2, 3], &["d"]), at(1500));
        assert_eq!(roll.members().map(|(members, until)| (members.len(), until)), Some((3, at(2500))));
        assert!(!roll.take_gone(), "nobody has gone");
        roll.answered(answer(&[1, 3], &[]), at(1750));
        assert!(roll.members().is_none() && !roll.take_gone());
        roll.answered(answer(&[1, 3], &[]), at(2750));
        roll.answered(answer(&[1, 3], &[]), at(3000));
        assert!(roll.take_gone() && !roll.take_gone() && roll.members().is_some());
    }

    #[test]
    fn who_is_found_to_be_gone_is_waited_for() {
        let (mut roll, start) = (Roll::default(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        [0, 1000, 1250].into_iter().for_each(|ms| roll.answered(answer(&[1], &[]), at(ms)));
        assert!(roll.members().is_some());
        roll.doubt(at(1300));
        roll.answered(answer(&[1], &["his"]), at(1500));
        assert!(roll.members().is_none() && roll.is_in_doubt());
        roll.answered(answer(&[1], &["his"]), at(2300));
        assert!(roll.members().is_none());
        roll.answered(answer(&[1], &[]), at(2550));
        assert!(roll.members().is_some() && !roll.take_gone(), "nobody has gone that was known");
    }

    #[test]
    fn who_goes_unseen_has_gone() {
        let (mut roll, start) = (Roll::default(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        for ms in [0, 1000, 1250] {
            roll.answered(answer(&[1], &[]), at(ms));
        }
        assert!(roll.members().is_some());
        roll.lose();
        assert!(roll.members().is_none() && roll.is_in_doubt());
        for ms in [2000, 3000, 3250] {
            roll.answered(answer(&[1], &[]), at(ms));
        }
        assert!(roll.take_gone());
    }
}
