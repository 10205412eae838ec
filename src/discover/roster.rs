//! Who is known to be a member: whoever was told of, until it has not been for some answers in a row.

use super::Found;

/// Answers in a row in which a member must be missing to be one no more: one that only reconnects stays.
const MISSES: u32 = 3;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Roster {
    known: Vec<(Found, u32)>,
}

impl Roster {
    /// What is known from before.
    pub(super) fn of(known: Vec<Found>) -> Roster {
        Roster { known: known.into_iter().map(|found| (found, 0)).collect() }
    }

    /// In the order in which they were first told of.
    pub(super) fn members(&self) -> impl Iterator<Item = &Found> {
        self.known.iter().map(|(found, _)| found)
    }

    /// Takes an answer; who `stays` stays though it is not in it. Tells whether anything is different now.
    pub(super) fn update(&mut self, told: Vec<Found>, stays: impl Fn(&Found) -> bool) -> bool {
        let mut changed = false;
        for (known, misses) in &mut self.known {
            match told.iter().find(|t| t.place == known.place) {
                Some(now) => {
                    changed |= now != known;
                    (*known, *misses) = (now.clone(), 0);
                }
                None if stays(known) => *misses = 0,
                None => *misses += 1,
            }
        }
        let before = self.known.len();
        self.known.retain(|(_, misses)| *misses < MISSES);
        changed |= self.known.len() != before;
        for new in told {
            if !self.known.iter().any(|(known, _)| known.place == new.place) {
                self.known.push((new, 0));
                changed = true;
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::super::Place;
    use super::*;

    fn found(port: u16) -> Found {
        let place = Place::new("db", port).expect("a place");
        Found { name: None, place, shunned: false, zone: None, region: None }
    }

    fn ports(roster: &Roster) -> Vec<u16> {
        roster.members().map(|f| f.place.port).collect()
    }

    #[test]
    fn who_is_missing_once_stays() {
        let mut roster = Roster::default();
        let never = |_: &Found| false;
        assert!(roster.update(vec![found(1), found(2), found(1)], never));
        assert!(!roster.update(vec![found(2), found(1)], never));
        for _ in 0..2 {
            assert!(!roster.update(vec![found(1)], never));
            assert_eq!(ports(&roster), [1, 2]);
        }
        // It was there again.
        assert!(!roster.update(vec![found(1), found(2)], never));
        for changes in [false, false, true] {
            assert_eq!(roster.update(vec![found(1)], never), changes);
        }
        assert_eq!(ports(&roster), [1]);
        // Whoever has become the primary stays, for as long as it is.
        for _ in 0..5 {
            assert!(!roster.update(Vec::new(), |_| true));
        }
        for _ in 0..3 {
            roster.update(Vec::new(), never);
        }
        assert_eq!(ports(&roster), [0; 0]);
    }

    #[test]
    fn what_is_said_of_them_may_change() {
        let mut roster = Roster::of(vec![found(1)]);
        let shunned = Found { shunned: true, ..found(1) };
        assert!(roster.update(vec![shunned.clone()], |_| false));
        assert_eq!(roster.members().collect::<Vec<_>>(), [&shunned]);
    }
}
