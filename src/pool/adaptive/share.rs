//! What one server allows, shared by the pools on it: max-min fair. Nobody gets more than it asks for, and nobody gets
//! less than another unless it asks for less (D. Bertsekas, R. Gallager: Data Networks, 1992, section 6.5.2).

/// What one pool asks for, and between what it may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// How many it could use now.
    pub wants: u32,
    /// It gets that many in any case.
    pub least: u32,
    /// And never more than that.
    pub most: u32,
}

/// Shares of `total`, in the order of the claims. What nobody asks for is spread over all, so that who comes next need
/// not wait for the next sharing. `turn` says who is the first to get what cannot be divided.
pub fn shares(total: u32, claims: &[Claim], turn: usize) -> Vec<u32> {
    let mut shares: Vec<u32> = claims.iter().map(|c| c.least.min(c.most)).collect();
    let mut left = total.saturating_sub(shares.iter().fold(0u32, |sum, n| sum.saturating_add(*n)));
    left = raise(&mut shares, left, turn, |i| claims[i].wants.min(claims[i].most));
    raise(&mut shares, left, turn, |i| claims[i].most);
    shares
}

/// Raises the least shares together, each up to its bound, for as long as there is something left; tells what is left.
fn raise(shares: &mut [u32], mut left: u32, turn: usize, bound: impl Fn(usize) -> u32) -> u32 {
    while left > 0 {
        let open = || (0..shares.len()).filter(|i| shares[*i] < bound(*i));
        let Some(level) = open().map(|i| shares[i]).min() else { return left };
        let lowest: Vec<usize> = open().filter(|i| shares[*i] == level).collect();
        // Up to the next level that somebody is on or must stop at.
        let next =
            lowest.iter().map(|i| bound(*i)).chain(open().map(|i| shares[i]).filter(|n| *n > level)).min();
        let step = next.unwrap_or(level + 1) - level;
        let count = lowest.len() as u32;
        let step = step.min(left / count);
        if step == 0 {
            for k in 0..left as usize {
                shares[lowest[(turn + k) % lowest.len()]] += 1;
            }
            return 0;
        }
        lowest.iter().for_each(|i| shares[*i] += step);
        left -= step * count;
    }
    0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(wants: u32, least: u32, most: u32) -> Claim {
        Claim { wants, least, most }
    }

    #[test]
    fn who_asks_for_little_gets_it_and_the_others_share() {
        let claims = [claim(2, 1, 50), claim(100, 1, 50), claim(100, 1, 50)];
        assert_eq!(shares(12, &claims, 0), [2, 5, 5]);
        assert_eq!(shares(13, &claims, 0), [2, 6, 5]);
        assert_eq!(shares(13, &claims, 1), [2, 5, 6]);
        assert_eq!(shares(3, &[claim(0, 0, 9), claim(0, 0, 1)], 0), [2, 1], "spare is spread");
        assert_eq!(shares(2, &[claim(9, 4, 9), claim(9, 1, 9)], 0), [4, 1], "the least is for sure");
        assert!(shares(7, &[], 3).is_empty());
    }

    proptest! {
        #[test]
        fn bounds_hold_and_it_is_fair(
            total in 0u32..200,
            claims in proptest::collection::vec((0u32..60, 0u32..5, 1u32..50), 1..12),
            turn in 0usize..12,
        ) {
            let claims: Vec<Claim> = claims.into_iter().map(|(w, l, m)| claim(w, l, m)).collect();
            let got = shares(total, &claims, turn);
            let least: u32 = claims.iter().map(|c| c.least.min(c.most)).sum();
            let most: u32 = claims.iter().map(|c| c.most).sum();
            prop_assert_eq!(got.iter().sum::<u32>(), total.clamp(least, most.max(least)));
            for (share, c) in got.iter().zip(&claims) {
                prop_assert!(*share >= c.least.min(c.most) && *share <= c.most);
            }
            // Nobody who wants more has less than another has beyond its least, unless the other has no more than it
            // wants either; one apart is what cannot be divided.
            for (i, a) in claims.iter().enumerate() {
                for (j, b) in claims.iter().enumerate() {
                    let hungry = got[i] < a.wants.min(a.most);
                    if hungry && got[j] > b.least.min(b.most) {
                        prop_assert!(got[j] <= got[i] + 1, "{:?} {:?}", claims, got);
                    }
                }
            }
        }
    }
}
