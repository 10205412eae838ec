//! What is in use at which hour of the week, so that a pool is ready before its usual peak.

use std::time::Duration;

/// Hours of a week, the first from Monday 0:00 UTC.
pub const WEEK: usize = 168;
const DAY: usize = 24;
/// So long before an hour it is made ready for, and so long after it what it was like still counts.
const AHEAD: Duration = Duration::from_secs(600);
const BEHIND: Duration = Duration::from_secs(300);
/// What a week's peak changes of what is usual, upwards and downwards.
const UP: f64 = 0.5;
const DOWN: f64 = 0.25;
/// How far what is in use is smoothed, per look: what lasts for less than a second is no peak.
const SMOOTH: f64 = 0.1;
/// More connections of one pool than there can be.
const MOST: f64 = 1e6;

/// The hour of the week of a time since 1970, which began on a Thursday.
pub fn hour(since_epoch: Duration) -> usize {
    let hours = since_epoch.as_secs() / 3600;
    ((hours + 3 * DAY as u64) % WEEK as u64) as usize
}

/// One pool's week.
#[derive(Clone, Debug, PartialEq)]
pub struct Hours {
    /// The usual peak of each hour; `None` for one that was not seen yet.
    usual: [Option<f64>; WEEK],
    /// The hour that it is, and its peak so far.
    now: Option<(usize, f64)>,
    smooth: f64,
}

impl Default for Hours {
    fn default() -> Self {
        Hours { usual: [None; WEEK], now: None, smooth: 0.0 }
    }
}

impl Hours {
    /// What was written down.
    pub fn of(usual: &[Option<f64>]) -> Hours {
        let sane = |n: f64| n.is_finite().then_some(n.clamp(0.0, MOST));
        let usual = std::array::from_fn(|i| usual.get(i).copied().flatten().and_then(sane));
        Hours { usual, ..Hours::default() }
    }

    /// So many are in use now.
    pub fn note(&mut self, since_epoch: Duration, used: u32) {
        let at = hour(since_epoch);
        self.smooth += (f64::from(used) - self.smooth) * SMOOTH;
        match &mut self.now {
            Some((hour, peak)) if *hour == at => *peak = peak.max(self.smooth),
            _ => {
                self.usual = self.so_far();
                self.now = Some((at, self.smooth));
            }
        }
    }

    /// The usual peaks, if the present hour were over.
    pub fn so_far(&self) -> [Option<f64>; WEEK] {
        let mut all = self.usual;
        if let Some((hour, peak)) = self.now
            && let Some(usual) = all.get_mut(hour)
        {
            let kept = usual.unwrap_or(peak);
            *usual = Some(kept + (peak - kept) * if peak > kept { UP } else { DOWN });
        }
        all
    }

    /// Whether anything was ever in use.
    pub fn is_empty(&self) -> bool {
        self.so_far().iter().flatten().all(|n| *n < 0.5)
    }

    /// How many are usually in use about now, or will be soon.
    pub fn usual(&self, since_epoch: Duration) -> u32 {
        let around = [since_epoch.saturating_sub(BEHIND), since_epoch, since_epoch + AHEAD];
        around.map(|at| self.usual_at(hour(at))).into_iter().flatten().fold(0.0, f64::max).round() as u32
    }

    /// Where an hour of the week was not seen yet, the same hour of other days stands for it.
    fn usual_at(&self, hour: usize) -> Option<f64> {
        self.usual.get(hour).copied().flatten().or_else(|| {
            let days = self.usual.iter().skip(hour % DAY).step_by(DAY).flatten();
            let (sum, count) = days.fold((0.0, 0.0), |(sum, count), n| (sum + n, count + 1.0));
            (count > 0.0).then(|| sum / count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Monday at 0:00 UTC.
    const MONDAY: u64 = 4 * 86_400;

    fn at(day: u64, hour: u64, minute: u64) -> Duration {
        Duration::from_secs(MONDAY + day * 86_400 + hour * 3600 + minute * 60)
    }

    /// So many in use for ten seconds in every minute of an hour.
    fn use_for_an_hour(hours: &mut Hours, day: u64, hour: u64, used: u32) {
        for minute in 0..60 {
            (0..100).for_each(|_| hours.note(at(day, hour, minute), used));
        }
    }

    #[test]
    fn hours_of_the_week() {
        assert_eq!(hour(Duration::ZERO), 3 * 24, "1970 began on a Thursday");
        assert_eq!((hour(at(0, 0, 0)), hour(at(6, 23, 59)), hour(at(7, 0, 0))), (0, 167, 0));
    }

    #[test]
    fn it_is_ready_before_the_hour() {
        let mut hours = Hours::default();
        assert!(hours.is_empty());
        for (hour, used) in [(8, 2), (9, 40), (10, 4), (11, 1)] {
            use_for_an_hour(&mut hours, 0, hour, used);
        }
        assert_eq!(hours.usual(at(7, 8, 49)), 2, "next week");
        assert_eq!(hours.usual(at(7, 8, 51)), 40);
        assert_eq!(hours.usual(at(7, 9, 59)), 40);
        assert!(hours.usual(at(7, 10, 30)) < 40);
        assert_eq!(hours.usual(at(1, 8, 55)), 40, "and on other days, as long as they are not known");
        use_for_an_hour(&mut hours, 1, 9, 6);
        use_for_an_hour(&mut hours, 1, 10, 0);
        assert_eq!(hours.usual(at(8, 8, 55)), 6);
        assert_eq!(hours.usual(at(7, 8, 55)), 40);
    }

    #[test]
    fn what_was_written_down_is_there_again() {
        let mut hours = Hours::default();
        (0..100).for_each(|_| hours.note(at(2, 12, 0), 8));
        assert_eq!(hours.usual(at(2, 12, 0)), 0, "the hour is not over");
        let again = Hours::of(&hours.so_far());
        assert_eq!(again.usual(at(2, 12, 0)), 8);
        let strange = Hours::of(&[Some(f64::NAN), Some(-3.0), Some(1e300)]);
        assert_eq!((strange.usual(at(0, 0, 0)), strange.usual(at(0, 2, 0))), (0, 1_000_000));
    }

    #[test]
    fn a_peak_that_came_once_fades() {
        let mut hours = Hours::default();
        use_for_an_hour(&mut hours, 0, 9, 100);
        for week in 1..8 {
            use_for_an_hour(&mut hours, 7 * week, 9, 10);
            use_for_an_hour(&mut hours, 7 * week, 11, 10);
        }
        assert!((10..30).contains(&hours.usual(at(70, 9, 0))), "{}", hours.usual(at(70, 9, 0)));
    }
}
