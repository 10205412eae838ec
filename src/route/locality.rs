//! Who is near: the same zone, then the same region, then by round trip; and how much goes farther when the near ones
//! are not all there.

use std::time::Duration;

use super::balance::{Candidate, Dice};

/// Where something runs, as far as it is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Availability zone.
    pub zone: Option<String>,
    /// Region.
    pub region: Option<String>,
}

/// The same zone.
const ZONE: u8 = 0;
/// The same region.
const REGION: u8 = 1;
/// Elsewhere, or nobody knows: as far as the round trip says, by what it is beyond the least that any has. As far as 15
/// ms servers are alike, as for MongoDB ("Server Selection Specification", `localThresholdMS`): less tells more of who is
/// busy than of where it is, and the strategies look at that themselves.
const BANDS: &[(Duration, u8)] = &[(Duration::from_millis(15), 2), (Duration::from_millis(60), 3)];
const FAR: u8 = 4;

/// Levels there are.
pub const LEVELS: u8 = FAR + 1;

/// How much more than a band it must be for a server to be taken for farther; for nearer, it counts as it is.
const SLACK: f64 = 1.5;

fn band(detour: Duration) -> u8 {
    BANDS.iter().find(|(most, _)| detour <= *most).map_or(FAR, |(_, level)| *level)
}

/// How far a server is that was at the level `before`. Bands are wide, and who is in one stays there for a while beyond
/// its end, so that the noise of a network does not move servers between them: of two that are alike, one would get
/// everything. `detour` is what its round trip, the least of late, has beyond that of the nearest.
pub fn distance(own: &Place, server: &Place, detour: Duration, before: u8) -> u8 {
    let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
    if same(&own.zone, &server.zone) {
        ZONE
    } else if same(&own.region, &server.region) {
        REGION
    } else if (band(detour.div_f64(SLACK))..band(detour)).contains(&before) {
        before
    } else {
        band(detour)
    }
}

/// How much more than its share a server is trusted to take over: with 1.4, a level keeps all that is meant for it
/// until fewer than 72% of its servers are there (Envoy's overprovisioning factor, "Locality weighted load balancing").
const OVERPROVISIONING: f64 = 1.4;

/// The level to choose from: the nearest, but for the part that it has too few servers for.
#[inline]
pub fn level(candidates: &[Candidate], dice: &mut Dice) -> Option<u8> {
    let nearest = candidates.iter().filter(|c| c.available).map(|c| c.level).min()?;
    // Nearly always: nobody is missing there.
    if candidates.iter().all(|c| c.available || c.level > nearest) {
        return Some(nearest);
    }
    let share = |level: u8| {
        let of = || candidates.iter().filter(|c| c.level == level);
        let there = of().filter(|c| c.available).count();
        if there == 0 { 0.0 } else { (OVERPROVISIONING * there as f64 / of().count() as f64).min(1.0) }
    };
    let total: f64 = (0..LEVELS).map(share).sum();
    let mut roll = dice.unit() * total.min(1.0);
    let mut last = None;
    for (level, share) in (0..LEVELS).map(|level| (level, share(level))).filter(|(_, share)| *share > 0.0) {
        if roll < share {
            return Some(level);
        }
        roll -= share;
        last = Some(level);
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(zone: &str, region: &str) -> Place {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_string());
        Place { zone: some(zone), region: some(region) }
    }

    #[test]
    fn near_and_far() {
        let own = place("a", "r");
        for (server, ms, want) in [
            (place("a", "r"), 100, ZONE),
            (place("b", "r"), 0, REGION),
            (place("", "r"), 0, REGION),
            (place("b", "s"), 1, 2),
            (place("", ""), 10, 2),
            (place("c", "t"), 50, 3),
            (place("c", "t"), 200, FAR),
        ] {
            assert_eq!(distance(&own, &server, Duration::from_millis(ms), ZONE), want, "{server:?} {ms}");
        }
        assert_eq!(distance(&place("", ""), &place("a", "r"), Duration::ZERO, ZONE), 2, "nobody knows");
    }

    #[test]
    fn noise_moves_nobody() {
        let nowhere = Place::default();
        let mut level = ZONE;
        for (ms, want) in [(14, 2), (20, 2), (23, 3), (20, 3), (14, 2), (100, 4), (50, 3), (0, 2)] {
            level = distance(&nowhere, &nowhere, Duration::from_millis(ms), level);
            assert_eq!(level, want, "after {ms} ms");
        }
    }

    /// How many of 10,000 choices go to each level, where `there` of `all` servers are there.
    fn shares(levels: &[(u8, usize, usize)]) -> Vec<usize> {
        let candidates: Vec<Candidate> = levels
            .iter()
            .flat_map(|(level, there, all)| {
                (0..*all).map(|i| Candidate { level: *level, available: i < *there, ..Candidate::default() })
            })
            .collect();
        let mut dice = Dice::new(1);
        let mut counts = vec![0; levels.len()];
        for _ in 0..10_000 {
            if let Some(chosen) = level(&candidates, &mut dice) {
                counts[levels.iter().position(|(l, _, _)| *l == chosen).unwrap_or_default()] += 1;
            }
        }
        counts
    }

    #[test]
    fn what_is_too_much_for_the_near_ones_goes_farther() {
        assert_eq!(shares(&[(0, 4, 4), (1, 4, 4)]), [10_000, 0]);
        assert_eq!(shares(&[(0, 3, 4), (1, 4, 4)]), [10_000, 0], "1.4 times three quarters is enough");
        let half = shares(&[(0, 2, 4), (1, 4, 4)]);
        assert!((6_800..7_200).contains(&half[0]), "{half:?}");
        assert_eq!(shares(&[(0, 0, 4), (1, 0, 2), (4, 1, 1)]), [0, 0, 10_000]);
        let few = shares(&[(0, 1, 4), (1, 1, 4)]);
        assert!((4_700..5_300).contains(&few[0]), "what there is shares it: {few:?}");
        assert_eq!(shares(&[(0, 0, 2)]), [0]);
    }
}
