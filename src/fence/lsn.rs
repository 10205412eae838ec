//! Positions in the WAL, as PostgreSQL writes them.

use std::fmt;
use std::str::FromStr;

/// A position in the WAL (`pg_lsn`): bytes since its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl FromStr for Lsn {
    type Err = ();

    /// Reads `16/B374D848`.
    fn from_str(text: &str) -> Result<Lsn, ()> {
        let (high, low) = text.split_once('/').ok_or(())?;
        let part = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
            plain.then(|| u32::from_str_radix(digits, 16).ok()).flatten().ok_or(())
        };
        Ok(Lsn(u64::from(part(high)?) << 32 | u64::from(part(low)?)))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// Bytes of a page's header, and of that of a segment's first page (`SizeOfXLogShortPHD` and `SizeOfXLogLongPHD` in
/// PostgreSQL's access/xlog_internal.h, as every 64-bit build has them).
const SHORT_HEADER: u64 = 24;
const LONG_HEADER: u64 = 40;

/// How a server's WAL is cut into pages and segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// `wal_block_size`, in bytes.
    pub page: u64,
    /// `wal_segment_size`, in bytes; 0 if it is not known.
    pub segment: u64,
}

impl Default for Geometry {
    fn default() -> Self {
        Geometry { page: 8192, segment: 0 }
    }
}

impl Geometry {
    /// The end of what is written before a position.
    ///
    /// Between two records that meet at a page's beginning, `pg_current_wal_insert_lsn()` names the place behind the
    /// page's header, where the next record will begin; a replica that has replayed all there is names the page's
    /// beginning, where the last record ended. With nothing behind a header, both are the same position. A record that
    /// goes on behind a header ends at least eight bytes after it, so nothing else looks like this; but 40 bytes into
    /// a page that does not begin a segment a record may end. Where the segments' size is not known, such a position
    /// is left as it is: a fence may then be stricter than it must, never laxer.
    pub fn end_of_records(self, position: Lsn) -> Lsn {
        let Some(offset) = position.0.checked_rem(self.page) else { return position };
        let page = position.0 - offset;
        let begins_segment = page.checked_rem(self.segment).map(|n| n == 0);
        match (offset, begins_segment) {
            (SHORT_HEADER, _) | (LONG_HEADER, Some(true)) => Lsn(page),
            _ => position,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_and_written() {
        for (text, want) in [
            ("0/0", Some(0)),
            ("16/B374D848", Some(0x16_B374_D848)),
            ("FFFFFFFF/FFFFFFFF", Some(u64::MAX)),
            ("0/3000028", Some(0x300_0028)),
            ("", None),
            ("0", None),
            ("/1", None),
            ("1/", None),
            ("1/+2", None),
            ("1/100000000", None),
            ("1/2/3", None),
        ] {
            assert_eq!(text.parse::<Lsn>().ok(), want.map(Lsn), "{text}");
            if let Some(n) = want {
                assert_eq!(Lsn(n).to_string(), text);
            }
        }
    }

    #[test]
    fn headers_are_no_records() {
        let usual = Geometry { page: 8192, segment: 16 << 20 };
        let large = Geometry { page: 8192, segment: 64 << 20 };
        let unknown = Geometry::default();
        for (geometry, position, want) in [
            (usual, 0x300_0028, 0x300_0000),
            (usual, 0x300_2018, 0x300_2000),
            // A record that goes on behind a short header may end here.
            (usual, 0x300_2028, 0x300_2028),
            (usual, 0x300_2020, 0x300_2020),
            (usual, 0x300_2000, 0x300_2000),
            // Segments of 64 MB begin elsewhere.
            (large, 0x300_0028, 0x300_0028),
            (large, 0x400_0028, 0x400_0000),
            (unknown, 0x300_0028, 0x300_0028),
            (unknown, 0x300_2018, 0x300_2000),
            (Geometry { page: 0, segment: 0 }, 0x18, 0x18),
        ] {
            assert_eq!(geometry.end_of_records(Lsn(position)), Lsn(want), "{geometry:?} {position:x}");
        }
    }
}
