//! Lists and rows of constants, however long, are one in the normal form.

use std::ops::Range;

use super::{Before, PARAM, Pass, Slot, Value};
use crate::sql::constants::{Constant, constants};

/// VALUES
#[derive(Debug)]
pub(super) struct Rows {
    pub depth: u32,
    /// Where the last row is in the normal form, and its first mark.
    last: Option<(Range<usize>, u32)>,
    /// How many constants it has, if it has nothing else.
    width: usize,
    /// The same of the current one, and its first slot.
    pub begins: Option<(usize, u32, usize)>,
}

impl Rows {
    /// VALUES was read at this depth.
    pub fn new(depth: u32) -> Rows {
        Rows { depth, last: None, width: 0, begins: None }
    }
}

impl Pass<'_> {
    pub(super) fn opens(&mut self, before: Before) {
        self.breaks();
        if before == Before::Naming {
            self.state.before = Before::NamingOpen;
        }
        if let Some(rows) = &mut self.state.rows
            && rows.depth == self.state.depth
        {
            rows.begins = Some((self.shape.normal.len(), self.state.marks, self.shape.slots.len()));
        }
        self.state.depth += 1;
    }

    pub(super) fn closes(&mut self, end: usize) {
        if self.state.by == Some(self.state.depth) {
            self.state.by = None;
        }
        self.state.depth = self.state.depth.saturating_sub(1);
        if let Some((from, slot)) = self.state.list.take().filter(|(from, _)| *from < self.shape.normal.len())
        {
            self.list_ends(from, slot);
        }
        let depth = self.state.depth;
        self.state.rows.take_if(|rows| rows.depth > depth);
        let Some(rows) = &mut self.state.rows else { return };
        if rows.depth < depth {
            return;
        }
        let Some((begins, mark, slot)) = rows.begins.take() else { return };
        let here = begins..self.shape.normal.len();
        match &rows.last {
            // Up to the parenthesis that is put next: of equal rows one is enough.
            Some((last, first)) if self.shape.normal[last.clone()] == self.shape.normal[here.clone()] => {
                self.shape.normal.truncate(last.end);
                let shift = mark - first;
                for slot in self.shape.slots[slot..].iter_mut().filter(|slot| slot.mark != PARAM) {
                    slot.mark -= shift;
                }
                self.state.marks -= shift;
            }
            _ => {
                rows.width = width(&self.shape.normal[here.clone()]);
                rows.last = Some((here, mark));
            }
        }
        if let (Some((_, first)), 1..) = (&rows.last, rows.width) {
            let (first, width) = (*first, rows.width);
            self.rows(end, first, width);
        }
    }

    /// A list of nothing but constants: one mark stands for all.
    fn list_ends(&mut self, from: usize, slot: usize) {
        let slots = &mut self.shape.slots[slot..];
        let lifted = slots.iter().filter(|slot| slot.mark != PARAM).count() as u32;
        let mark = self.state.marks - lifted;
        slots.iter_mut().for_each(|slot| slot.mark = mark);
        self.state.marks = mark + 1;
        self.shape.normal.truncate(from);
        self.shape.normal.extend_from_slice(b"\0l ");
    }

    /// A list of nothing but constants is read as far as its parenthesis, if they are simple.
    pub(super) fn list(&mut self, from: usize) {
        let (slots, marks) = (self.shape.slots.len(), self.state.marks);
        let mut end = None;
        for Constant { start, end: to, value, next } in constants(self.text, from, self.conforming, true) {
            let mark = if value == Value::Param { PARAM } else { self.state.marks };
            self.state.marks += u32::from(value != Value::Param);
            self.shape.slots.push(Slot { start: start as u32, end: to as u32, mark, value });
            end = Some(next).filter(|next| self.text[*next] == b')');
        }
        match end {
            Some(end) => {
                // Something has to stand there for what the list becomes.
                self.put(b"");
                self.read = end;
            }
            None => {
                self.shape.slots.truncate(slots);
                self.state.marks = marks;
            }
        }
    }

    /// Rows from `at` on that are as the last one, which has nothing but constants: nothing but their values is of
    /// interest.
    fn rows(&mut self, mut at: usize, first: u32, width: usize) {
        loop {
            let slots = self.shape.slots.len();
            let Some(begins) = row_begins(self.text, at) else { return };
            let mut end = None;
            let row = constants(self.text, begins, self.conforming, false).take(width);
            for (mark, Constant { start, end: to, value, next }) in (first..).zip(row) {
                self.shape.slots.push(Slot { start: start as u32, end: to as u32, mark, value });
                end = Some(next);
            }
            let whole = self.shape.slots.len() - slots == width;
            let Some(end) = end.filter(|end| whole && self.text[*end] == b')') else {
                return self.shape.slots.truncate(slots);
            };
            at = end + 1;
            self.read = at;
        }
    }
}

/// How many constants a row in the normal form has, if it has nothing else.
fn width(row: &[u8]) -> usize {
    const MARK: &[u8] = b"\0v ";
    let Some(row) = row.strip_prefix(b"( ") else { return 0 };
    let is_plain = row.chunks(MARK.len() + 2).all(|c| c == MARK || c.strip_prefix(MARK) == Some(b", "));
    if is_plain { row.len().div_ceil(MARK.len() + 2) } else { 0 }
}

/// Where the constants of another row begin, behind its parenthesis.
fn row_begins(text: &[u8], at: usize) -> Option<usize> {
    let comma = text.get(at..)?.trim_ascii_start().strip_prefix(b",")?;
    let row = comma.trim_ascii_start().strip_prefix(b"(")?;
    Some(text.len() - row.len())
}

#[cfg(test)]
mod tests {
    use crate::sql::shape::Shape;
    use proptest::prelude::*;

    const VALUES: &[&str] = &[
        "1",
        "'x'",
        "NULL",
        "$1",
        "1.5",
        "-1",
        "'it''s'",
        "true",
        "1e5",
        "a",
        "'a\\\\'",
        "E'x'",
        "f(2)",
        "'a'::b",
        "(1)",
        "0x1F",
        "+ 2",
        "2 + 3",
        "ARRAY[1, 2]",
        "1 IN (3, 4)",
    ];

    proptest! {
        /// What is read without tokens is read as if it were read by them: comments keep the two apart.
        #[test]
        fn simple_constants_are_read_alike(
            rows in prop::collection::vec(prop::collection::vec(prop::sample::select(VALUES), 0..4), 1..5),
            conforming: bool,
        ) {
            let joined = |row: &Vec<&str>, comma: &str| row.join(comma);
            let sql = |comma: &str| {
                let all = rows.iter().map(|row| format!("({})", joined(row, comma))).collect::<Vec<_>>();
                format!(
                    "SELECT * FROM t WHERE a IN ({}) AND b = 7; INSERT INTO t VALUES {} RETURNING 8",
                    joined(&rows[0], comma),
                    all.join(comma)
                )
            };
            let (mut one, mut other) = (Shape::default(), Shape::default());
            let (fast, slow) = (sql(", "), sql(" /**/,/**/ "));
            one.read(fast.as_bytes(), conforming);
            other.read(slow.as_bytes(), conforming);
            prop_assert_eq!(String::from_utf8_lossy(&one.normal), String::from_utf8_lossy(&other.normal));
            let slots = |shape: &Shape, text: &str| {
                let slots = shape.slots.iter();
                slots.map(|s| (text[s.start as usize..s.end as usize].to_string(), s.mark, s.value)).collect::<Vec<_>>()
            };
            prop_assert_eq!(slots(&one, &fast), slots(&other, &slow));
        }
    }
}
