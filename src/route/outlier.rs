//! Who is kept away from for a while: outlier ejection as Envoy does it (its documentation, "Outlier detection" and
//! "Slow start mode"), with bounds that suit a handful of database servers.

use std::time::Duration;

use crate::core::clock::Instant;

/// Failures in a row after which a server is ejected (Envoy's `consecutive_5xx`).
pub const CONSECUTIVE: u32 = 5;
/// Uses within the window from which on the share of failures counts.
pub const VOLUME: u64 = 20;
/// Share of failures from which on a server is ejected, if its peers fail much less.
pub const FAILING: f64 = 0.5;
/// How much more than its peers it must fail: what fails everywhere alike is not the server's fault.
pub const MORE_THAN_PEERS: f64 = 0.3;
/// First time away, doubled with each ejection that follows (Envoy adds as much each time), and the longest.
const AWAY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// Time in good health that makes the next ejection one step shorter again.
const FORGIVE: Duration = Duration::from_secs(10);
/// Uses, one at a time, that must succeed before a server is trusted again.
const TRIALS: u64 = 3;
/// Time over which a server that is back gets its whole share again, and the share that it begins with.
const SLOW_START: (Duration, f64) = (Duration::from_secs(5), 0.1);

/// How many of `n` servers may be away at once: never more than half.
pub fn most_ejected(n: usize) -> usize {
    n / 2
}

/// Where a server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is used.
    In,
    /// It is not used.
    Ejected,
    /// It is used once at a time, to see whether it is well again.
    Trial,
}

impl Standing {
    /// A word for it.
    pub fn label(self) -> &'static str {
        match self {
            Standing::In => "in",
            Standing::Ejected => "ejected",
            Standing::Trial => "trial",
        }
    }
}

/// Why a server is to be ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It failed many times in a row.
    Consecutive,
    /// It fails much more than its peers.
    Share,
}

/// What has happened since the last look.
#[derive(Clone, Copy, Debug, Default)]
pub struct News {
    /// Uses that succeeded.
    pub answered: u64,
    /// Uses that failed.
    pub failed: u64,
    /// Why it is to be ejected, if it is.
    pub cause: Option<Cause>,
    /// Whether another may be away.
    pub room: bool,
}

/// The state of one server; moved on by [`Outlier::tick`] alone.
#[derive(Clone, Copy, Debug)]
pub struct Outlier {
    standing: Standing,
    /// When that began, or good health was last rewarded.
    since: Instant,
    /// Ejections that count for the length of the next.
    strikes: u32,
    /// Uses that have succeeded on trial.
    trials: u64,
    /// When it came back.
    back: Option<Instant>,
    /// Ejections in all.
    pub ejections: u64,
}

impl Outlier {
    /// Used from the start.
    pub fn new(now: Instant) -> Outlier {
        Outlier { standing: Standing::In, since: now, strikes: 0, trials: 0, back: None, ejections: 0 }
    }

    /// Where it stands.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// What of its share it should have now, as far as it has just come back.
    pub fn ramp(&self, now: Instant) -> f64 {
        let (time, least) = SLOW_START;
        self.back.map_or(1.0, |back| (now.since(back).as_secs_f64() / time.as_secs_f64()).clamp(least, 1.0))
    }

    /// The one transition function.
    pub fn tick(&mut self, news: News, now: Instant) {
        match self.standing {
            Standing::In => {
                if news.cause.is_some() && news.room {
                    self.eject(now);
                } else if now.since(self.since) >= FORGIVE {
                    self.strikes = self.strikes.saturating_sub(1);
                    self.since = now;
                }
            }
            Standing::Ejected if now.since(self.since) >= self.away() => {
                (self.standing, self.since, self.trials) = (Standing::Trial, now, 0);
            }
            Standing::Ejected => {}
            // On trial, one failure is enough; it counts as away already.
            Standing::Trial if news.failed > 0 => self.eject(now),
            Standing::Trial => {
                self.trials += news.answered;
                if self.trials >= TRIALS {
                    (self.standing, self.since, self.back) = (Standing::In, now, Some(now));
                }
            }
        }
    }

    fn eject(&mut self, now: Instant) {
        (self.standing, self.since) = (Standing::Ejected, now);
        self.strikes += 1;
        self.ejections += 1;
    }

    /// How long it stays away.
    fn away(&self) -> Duration {
        AWAY.0.saturating_mul(1 << self.strikes.saturating_sub(1).min(16)).min(AWAY.1)
    }

    /// It begins anew: it is another server now.
    pub fn reset(&mut self, now: Instant) {
        *self = Outlier { ejections: self.ejections, ..Outlier::new(now) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: News = News { answered: 0, failed: 5, cause: Some(Cause::Consecutive), room: true };
    const GOOD: News = News { answered: 1, failed: 0, cause: None, room: true };
    const QUIET: News = News { answered: 0, failed: 0, cause: None, room: true };

    #[test]
    fn away_on_trial_and_back() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut outlier = Outlier::new(start);
        outlier.tick(News { room: false, ..BAD }, at(0));
        assert_eq!(outlier.standing(), Standing::In, "too many are away");
        outlier.tick(BAD, at(0));
        outlier.tick(GOOD, at(1_900));
        assert_eq!(outlier.standing(), Standing::Ejected);
        outlier.tick(QUIET, at(2_000));
        assert_eq!(outlier.standing(), Standing::Trial);
        outlier.tick(GOOD, at(2_100));
        outlier.tick(News { failed: 1, ..GOOD }, at(2_200));
        assert_eq!(outlier.standing(), Standing::Ejected, "failed on trial");
        outlier.tick(QUIET, at(6_100));
        assert_eq!(outlier.standing(), Standing::Ejected, "twice as long");
        outlier.tick(QUIET, at(6_200));
        for ms in [6_300, 6_400, 6_500] {
            assert_eq!(outlier.standing(), Standing::Trial);
            outlier.tick(GOOD, at(ms));
        }
        assert_eq!((outlier.standing(), outlier.ejections), (Standing::In, 2));
        assert_eq!(outlier.ramp(at(6_500)), 0.1);
        assert_eq!(outlier.ramp(at(9_000)), 0.5);
        assert_eq!(outlier.ramp(at(60_000)), 1.0);
    }

    #[test]
    fn strikes_grow_to_a_bound_and_are_forgiven() {
        let mut now = Instant::now();
        let mut outlier = Outlier::new(now);
        for _ in 0..40 {
            outlier.tick(BAD, now);
            let away = outlier.away();
            assert!(away <= AWAY.1);
            now = now + away;
            outlier.tick(QUIET, now);
            assert_eq!(outlier.standing(), Standing::Trial);
        }
        assert_eq!(outlier.away(), AWAY.1);
        (0..3).for_each(|_| outlier.tick(GOOD, now));
        for _ in 0..40 {
            now = now + FORGIVE;
            outlier.tick(GOOD, now);
        }
        outlier.tick(BAD, now);
        assert_eq!(outlier.away(), AWAY.0);
    }

    #[test]
    fn never_more_than_half() {
        assert_eq!([0, 1, 2, 3, 4, 32].map(most_ejected), [0, 0, 1, 1, 2, 16]);
    }
}
