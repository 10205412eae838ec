//! What servers have got done, told apart by how long statements of that kind usually take: numbers that say how much is
//! done in a time whatever the mix of statements was.

use super::stats::Counter;

/// Powers of two of microseconds that are told apart, up to two minutes.
pub const CLASSES: usize = 28;

/// Where a time in microseconds belongs.
#[inline]
pub fn class(us: u64) -> usize {
    (us.max(1).ilog2() as usize).min(CLASSES - 1)
}

/// See the module.
#[derive(Debug, Default)]
pub struct Work([Class; CLASSES]);

#[derive(Debug, Default)]
struct Class {
    usual_us: Counter,
    took_us: Counter,
}

/// What was done, by class of what it usually takes; of two, the difference is what was done between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// What it usually takes, in microseconds.
    pub usual_us: [u64; CLASSES],
    /// What it took.
    pub took_us: [u64; CLASSES],
}

impl Default for Done {
    fn default() -> Self {
        Done { usual_us: [0; CLASSES], took_us: [0; CLASSES] }
    }
}

impl Work {
    /// A statement that usually takes so long has taken so long.
    #[inline]
    pub fn add(&self, usual_us: u64, took_us: u64) {
        if let Some(class) = self.0.get(class(usual_us)) {
            class.usual_us.add(usual_us);
            class.took_us.add(took_us);
        }
    }

    /// All of it.
    pub fn done(&self) -> Done {
        Done {
            usual_us: std::array::from_fn(|i| self.0[i].usual_us.get()),
            took_us: std::array::from_fn(|i| self.0[i].took_us.get()),
        }
    }
}

impl Done {
    /// What was done since an earlier time.
    #[must_use]
    pub fn since(&self, before: &Done) -> Done {
        let less = |now: &[u64; CLASSES], then: &[u64; CLASSES]| {
            std::array::from_fn(|i| now[i].saturating_sub(then[i]))
        };
        Done {
            usual_us: less(&self.usual_us, &before.usual_us),
            took_us: less(&self.took_us, &before.took_us),
        }
    }

    /// Adds what was done elsewhere.
    pub fn add(&mut self, other: &Done) {
        for i in 0..CLASSES {
            self.usual_us[i] += other.usual_us[i];
            self.took_us[i] += other.took_us[i];
        }
    }

    /// About how many statements there were of a class.
    pub fn count(&self, class: usize) -> f64 {
        self.usual_us.get(class).map_or(0.0, |us| *us as f64 / middle(class))
    }
}

/// The middle of a class, in microseconds.
pub fn middle(class: usize) -> f64 {
    1.5 * (1u64 << class.min(CLASSES - 1)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_is_told_apart_and_subtracted() {
        let work = Work::default();
        work.add(100, 250);
        let before = work.done();
        work.add(100, 50);
        work.add(0, 1);
        work.add(u64::MAX >> 20, 7);
        let since = work.done().since(&before);
        assert_eq!((since.usual_us[class(100)], since.took_us[class(100)]), (100, 50));
        assert_eq!((since.took_us[0], since.took_us[CLASSES - 1]), (1, 7));
        let mut both = before;
        both.add(&since);
        assert_eq!(both, work.done());
        assert!((1.0..2.0).contains(&(middle(class(100)) / 64.0)));
    }
}
