//! What a transaction sees, as `pg_current_snapshot()` tells it.

use std::str::FromStr;

/// A snapshot (PostgreSQL's documentation, "Transaction ID and Snapshot Information Functions"). Numbers have the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Every transaction below has ended.
    pub oldest: u64,
    /// No transaction from here on had ended.
    next: u64,
    /// Those in between that had not.
    running: Box<[u64]>,
}

impl Snapshot {
    /// Whether a transaction that has committed is seen; its number is without the epoch, and no further away than such
    /// numbers can be.
    pub fn shows(&self, xid: u32) -> bool {
        let away = (self.next as u32).wrapping_sub(xid) as i32;
        let xid = self.next.wrapping_sub(i64::from(away) as u64);
        away > 0 && (xid < self.oldest || self.running.binary_search(&xid).is_err())
    }
}

impl FromStr for Snapshot {
    type Err = ();

    /// Reads `10:20:10,14,15`.
    fn from_str(text: &str) -> Result<Snapshot, ()> {
        let mut parts = text.split(':');
        let mut part = || parts.next().ok_or(());
        let number = |text: &str| text.parse::<u64>().map_err(|_| ());
        let (oldest, next) = (number(part()?)?, number(part()?)?);
        let listed = part()?.split(',').filter(|text| !text.is_empty());
        let mut running = listed.map(number).collect::<Result<Box<[u64]>, ()>>()?;
        running.sort_unstable();
        if parts.next().is_some() { Err(()) } else { Ok(Snapshot { oldest, next, running }) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_is_seen() {
        let seen: Snapshot = "10:20:14,10,15".parse().unwrap();
        assert_eq!(seen.oldest, 10);
        let shown: Vec<u32> = (5..25).filter(|xid| seen.shows(*xid)).collect();
        assert_eq!(shown, [5, 6, 7, 8, 9, 11, 12, 13, 16, 17, 18, 19]);
        // Numbers without the epoch begin again.
        let seen: Snapshot = "4294967290:4294967300:4294967296".parse().unwrap();
        let shown: Vec<u32> =
            [4_294_967_289, 4_294_967_295, 0, 1, 3, 4].into_iter().filter(|xid| seen.shows(*xid)).collect();
        assert_eq!(shown, [4_294_967_289, 4_294_967_295, 1, 3]);
        assert_eq!("7:7:".parse::<Snapshot>().unwrap().oldest, 7);
        for wrong in ["", "1", "1:2", "1:2:x", "1:2:3:4", "-1:2:"] {
            assert!(wrong.parse::<Snapshot>().is_err(), "{wrong}");
        }
    }
}
