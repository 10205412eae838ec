//! Durations and sizes as an operator writes them, and as SHOW CONFIG gives them back.

use std::time::Duration;

const DURATIONS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// As in postgresql.conf, `kB`, `MB` and `GB` count in powers of 1024 too: one meaning, however it is spelt.
const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1 << 10),
    ("MB", 1 << 20),
    ("GB", 1 << 30),
];

/// Reads `100ms`, `30s`, `5min`, `1h`, `1d`; a number without a unit counts seconds.
///
/// # Errors
/// What is wrong with it, for a sentence that starts with the text itself.
pub fn duration(text: &str) -> Result<Duration, String> {
    scaled(text, DURATIONS, 1000).map(Duration::from_millis).map_err(|fault| match fault {
        Fault::Unit => "is not a duration: give a whole number and ms, s, min, h or d".into(),
        Fault::Range => "is too long".into(),
    })
}

/// Reads `64KiB`, `1MB`, `64kB`; a number without a unit counts bytes.
///
/// # Errors
/// What is wrong with it, for a sentence that starts with the text itself.
pub fn size(text: &str) -> Result<u64, String> {
    scaled(text, SIZES, 1).map_err(|fault| match fault {
        Fault::Unit => "is not a size: give a whole number and B, KiB, MiB or GiB".into(),
        Fault::Range => "is too large".into(),
    })
}

/// The duration in the largest unit that needs no fraction.
pub fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".into();
    }
    show(millis, DURATIONS)
}

/// The size in the largest unit that needs no fraction.
pub fn show_size(bytes: u64) -> String {
    show(bytes, SIZES.get(..4).unwrap_or_default())
}

enum Fault {
    Unit,
    Range,
}

fn scaled(text: &str, units: &[(&str, u64)], bare: u64) -> Result<u64, Fault> {
    let text = text.trim();
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    if digits.is_empty() {
        return Err(Fault::Unit);
    }
    let scale = match unit.trim_start() {
        "" => bare,
        unit => units.iter().find(|(name, _)| *name == unit).ok_or(Fault::Unit)?.1,
    };
    digits.parse::<u64>().ok().and_then(|n| n.checked_mul(scale)).ok_or(Fault::Range)
}

fn show(value: u64, ascending: &[(&str, u64)]) -> String {
    let fits = ascending.iter().rev().find(|(_, scale)| value >= *scale && value.is_multiple_of(*scale));
    fits.map_or_else(|| value.to_string(), |(unit, scale)| format!("{}{unit}", value / scale))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("100ms", 100),
            ("30s", 30_000),
            ("5min", 300_000),
            ("1h", 3_600_000),
            ("1 d", 86_400_000),
            ("7", 7000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "s",
            "-1s",
            "1.5s",
            "5m",
            "1h30min",
            "1 s s",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("64KiB", 65_536), ("1MB", 1 << 20), ("64kB", 65_536), ("12", 12), ("3B", 3)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "KiB", "1kb", "1TB", "-1", "18446744073709551615GB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shown_as_written() {
        for text in ["100ms", "30s", "5min", "1h", "1d", "0s", "1500ms"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
        for text in ["64KiB", "1MiB", "2GiB", "1073741822B"] {
            assert_eq!(show_size(size(text).unwrap()), text);
        }
        assert_eq!(show_size(0), "0");
    }
}
