//! Whether a text is another's twin: the same bytes but for the digits of its numbers and what stands between its
//! quotes. Twins have one shape, and comparing them costs less than reading either: most texts that a program sends
//! differ from one that it has sent before in nothing else.

use super::shape::{Shape, Value};

/// Longest text that is worth being compared with.
const LONGEST: usize = 1024;
/// Most values in one.
const MOST: usize = 32;

/// A text that has been read, to compare others with.
#[derive(Debug)]
pub struct Model {
    text: Box<[u8]>,
    holes: Box<[Hole]>,
    conforming: bool,
}

/// Where twins may differ.
#[derive(Clone, Copy, Debug)]
struct Hole {
    /// First byte of the digits, or of what is between the quotes.
    start: u16,
    /// One past the last.
    end: u16,
    quoted: bool,
}

impl Model {
    /// Of a text that `shape` was read from, unless it is too long. Values that are not written in the simplest way
    /// must be the same in a twin.
    pub fn new(text: &[u8], shape: &Shape, conforming: bool) -> Option<Model> {
        if text.len() > LONGEST || shape.slots.len() > MOST {
            return None;
        }
        let holes = shape.slots.iter().filter_map(|slot| {
            let (start, end) = (slot.start as usize, slot.end as usize);
            match slot.value {
                Value::Integer if is_apart(text.get(end)) => Some(Hole::new(start, end, false)),
                Value::String => {
                    let inner = text[start..end].strip_prefix(b"'")?.strip_suffix(b"'")?;
                    let plain = !inner.iter().any(|b| matches!(b, b'\'' | b'\\'));
                    plain.then_some(Hole::new(start + 1, end - 1, true))
                }
                _ => None,
            }
        });
        Some(Model { holes: holes.collect(), text: text.into(), conforming })
    }

    /// Whether a text that is read under this `standard_conforming_strings` is a twin. What is not found to be one may
    /// still have the same shape.
    #[inline]
    pub fn is_twin(&self, text: &[u8], conforming: bool) -> bool {
        let (mut own, mut at) = (0, 0);
        for hole in &self.holes {
            let (start, end) = (usize::from(hole.start), usize::from(hole.end));
            let same = &self.text[own..start];
            let Some(rest) = text.get(at..).and_then(|t| t.strip_prefix(same)) else { return false };
            let ends = if hole.quoted {
                // A quote that is doubled is met where the next bytes are compared: here none follows.
                rest.iter().position(|b| matches!(b, b'\'' | b'\\')).filter(|&n| rest[n] == b'\'')
            } else {
                let digits = rest.iter().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len());
                Some(digits).filter(|&n| n > 0)
            };
            let Some(len) = ends else { return false };
            (own, at) = (end, at + same.len() + len);
        }
        conforming == self.conforming && text.get(at..) == Some(&self.text[own..])
    }

    /// About how much memory it takes, in bytes.
    pub fn weight(&self) -> usize {
        self.text.len() + size_of_val(&*self.holes) + size_of::<Model>()
    }
}

impl Hole {
    fn new(start: usize, end: usize, quoted: bool) -> Hole {
        // Texts are shorter than that.
        let short = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
        Hole { start: short(start), end: short(end), quoted }
    }
}

/// Whether digits before it are all of a number, whichever digits they are.
fn is_apart(next: Option<&u8>) -> bool {
    next.is_none_or(|b| !b.is_ascii_alphanumeric() && !matches!(b, b'_' | b'$' | b'.' | 0x80..))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn twins(one: &str, other: &str, conforming: bool) -> bool {
        let mut shape = Shape::default();
        shape.read(one.as_bytes(), conforming);
        Model::new(one.as_bytes(), &shape, conforming)
            .is_some_and(|m| m.is_twin(other.as_bytes(), conforming))
    }

    #[test]
    fn what_twins_may_differ_in() {
        let check =
            |one: &str, other: &str, want: bool| assert_eq!(twins(one, other, true), want, "{one} {other}");
        check("SELECT 1", "SELECT 22", true);
        check("SELECT a FROM t WHERE b = 'x' AND c = 17;", "SELECT a FROM t WHERE b = '' AND c = 4;", true);
        check("SELECT 'a', 'b' FROM t", "SELECT 'it''s', 'b' FROM t", false);
        check("SELECT ''", "SELECT ''''", false);
        check("SELECT 'a'", "SELECT 'a\\'", false);
        check("SELECT 1", "SELECT 1 ", false);
        check("SELECT 1", "SELECT ", false);
        check("SELECT 1", "SELECT a", false);
        check("SELECT 1.5", "SELECT 2.5", false);
        check("SELECT 1", "SELECT 1.5", false);
        check("SELECT a FROM t ORDER BY 1", "SELECT a FROM t ORDER BY 2", false);
        check("SELECT nextval('a')", "SELECT nextval('b')", false);
        check("SELECT a FROM t WHERE b IN (1, 2)", "SELECT a FROM t WHERE b IN (3, 4)", true);
        check("SELECT 1 a", "SELECT 1  a", false);
        check("SET a = 1", "SET a = 2", false);
    }

    #[test]
    fn long_texts_are_no_models() {
        let text = format!("SELECT '{}'", "x".repeat(LONGEST));
        assert!(!twins(&text, &text, true));
    }

    fn shape(text: &[u8], conforming: bool) -> Shape {
        let mut shape = Shape::default();
        shape.read(text, conforming);
        shape
    }

    proptest! {
        /// Twins have one shape: whatever is taken for one is read the same way.
        #[test]
        fn twins_have_one_shape(
            text in "[a-c'\"$/*\\-;,()01 \nEinxe.=:]{0,24}",
            changes in prop::collection::vec((0usize..24, "['0-9a\\\\. ]{0,2}"), 0..3),
            conforming: bool,
        ) {
            let text = format!("select {text}");
            let mut other = text.clone();
            for (at, change) in changes {
                let at = 7 + at.min(other.len() - 7);
                other.replace_range(at..(at + 1).min(other.len()), &change);
            }
            prop_assert!(!twins(&text, &other, conforming)
                || shape(text.as_bytes(), conforming).normal == shape(other.as_bytes(), conforming).normal);
            // And whoever has been read is found again.
            prop_assert!(twins(&text, &text, conforming));
        }
    }
}
