//! Rows by their primary keys: what is read from one row alone is outdated by what changes that row, not by every write
//! to its table.
//!
//! A key is written in one way here, whoever has written it down: a client in a statement or as a parameter, in text or
//! in binary, or the server in its WAL. So only values are taken of which that is certain; where one is not, whoever reads
//! the row counts as a reader of the table, and whoever changes it as a writer to all of it.

use std::cell::RefCell;

use smallvec::SmallVec;

use crate::fence::versions::Row;
use crate::sql::facts::Operand;
use crate::sql::shape::{Shape, Slot, Value};
use crate::wire::message::cstr;

use super::key::{Parts, u16s};

/// How values of a column are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `int2`, `int4`, `int8`: as eight bytes, since they are equal across types.
    Integer,
    /// `uuid`: as its sixteen bytes.
    Uuid,
    /// `text`, `varchar`: as they are, where they are the same in every encoding. What ends with a space may be stored
    /// without it where there is a bound on its length, and is no row's.
    Text,
}

impl Kind {
    /// Of a type, by its oid.
    pub fn of(type_oid: u32) -> Option<Kind> {
        match type_oid {
            20 | 21 | 23 => Some(Kind::Integer),
            2950 => Some(Kind::Uuid),
            25 | 1043 => Some(Kind::Text),
            _ => None,
        }
    }

    /// Adds a value as text has it.
    fn add_text(self, value: &[u8], key: &mut SmallVec<[u8; 64]>) -> Option<()> {
        match self {
            Kind::Integer => {
                let number: i64 = std::str::from_utf8(value).ok()?.trim_ascii().parse().ok()?;
                key.extend_from_slice(&number.to_be_bytes());
            }
            Kind::Uuid => {
                let digits: Vec<u8> = value.iter().copied().filter(|b| *b != b'-').collect();
                let whole = digits.len() == 32 && digits.iter().all(u8::is_ascii_hexdigit);
                let digits = std::str::from_utf8(&digits).ok().filter(|_| whole)?;
                key.extend_from_slice(&u128::from_str_radix(digits, 16).ok()?.to_be_bytes());
            }
            Kind::Text => {
                (value.is_ascii() && !value.ends_with(b" ")).then_some(())?;
                key.extend_from_slice(&(value.len() as u64).to_be_bytes());
                key.extend_from_slice(value);
            }
        }
        Some(())
    }

    /// Adds a value in the binary form of its type.
    fn add_binary(self, value: &[u8], key: &mut SmallVec<[u8; 64]>) -> Option<()> {
        match self {
            Kind::Integer => {
                let number = match *value {
                    [a, b] => i64::from(i16::from_be_bytes([a, b])),
                    [a, b, c, d] => i64::from(i32::from_be_bytes([a, b, c, d])),
                    _ => i64::from_be_bytes(value.try_into().ok()?),
                };
                key.extend_from_slice(&number.to_be_bytes());
                Some(())
            }
            Kind::Uuid => {
                key.extend_from_slice(<&[u8; 16]>::try_from(value).ok()?);
                Some(())
            }
            Kind::Text => self.add_text(value, key),
        }
    }
}

/// A column of a primary key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyColumn {
    /// `pg_attribute.attnum`.
    pub number: i16,
    /// How its values are written.
    pub kind: Kind,
}

/// That a statement reads, or writes, one row of one table and nothing else, and where it has that row's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowKey {
    /// The table, by oid.
    pub table: u32,
    /// Its primary key, in order.
    pub columns: Box<[KeyColumn]>,
    /// What each is compared with.
    pub operands: Box<[Operand]>,
}

impl RowKey {
    /// The row that a result with this key is read from. `None` where that is not certain.
    pub fn row(&self, key: &[u8]) -> Option<Row> {
        self.row_in(&Parts::read(key)?)
    }

    /// The row that a statement with these values reads, or writes. `None` where that is not certain.
    pub fn row_in(&self, parts: &Parts<'_>) -> Option<Row> {
        // The room is taken, and given back.
        let mut literals = Literals { text: parts.text(), shape: SHAPE.take(), read: false };
        let row = self.written(parts, &mut literals);
        SHAPE.set(literals.shape);
        row
    }

    fn written(&self, parts: &Parts<'_>, literals: &mut Literals<'_>) -> Option<Row> {
        let mut written = SmallVec::<[u8; 64]>::new();
        for (column, operand) in self.columns.iter().zip(&self.operands) {
            let kind = column.kind;
            let number = match *operand {
                Operand::Param(number) => number,
                Operand::Mark(mark) => match literals.get(mark, kind)? {
                    Literal::Text(text) => {
                        kind.add_text(text, &mut written)?;
                        continue;
                    }
                    Literal::Param(number) => number,
                },
            };
            let param = Param::read(parts, number)?;
            // The same as the column's, or one that compares with it like that; 0 is for the server to find out.
            let known = param.declared == 0 || Kind::of(param.declared) == Some(kind);
            known.then_some(())?;
            match param.binary {
                true => kind.add_binary(param.value, &mut written)?,
                false => kind.add_text(param.value, &mut written)?,
            }
        }
        Some(Row::of(self.table, &written))
    }
}

/// The row of a table that has this key, by what the server has written of its columns. `None` where that is not certain.
pub fn row_of<'a>(table: u32, values: impl Iterator<Item = (Kind, Option<&'a [u8]>)>) -> Option<Row> {
    let mut written = SmallVec::new();
    for (kind, value) in values {
        kind.add_text(value?, &mut written)?;
    }
    Some(Row::of(table, &written))
}

thread_local! {
    /// Room to read statements in.
    static SHAPE: RefCell<Shape> = RefCell::default();
}

/// The literals of a statement, which is read when one of them is asked for.
struct Literals<'a> {
    text: &'a [u8],
    shape: Shape,
    read: bool,
}

/// What a mark stands for.
enum Literal<'a> {
    /// A constant, without quotes.
    Text(&'a [u8]),
    /// In rows of VALUES, a parameter, which stands nowhere else.
    Param(u32),
}

impl<'a> Literals<'a> {
    /// The one that this mark stands for. A number is no text: what it is written as there, the server says.
    fn get(&mut self, mark: u32, kind: Kind) -> Option<Literal<'a>> {
        if !std::mem::replace(&mut self.read, true) {
            // With a backslash there is more than one way to read it.
            let text = if self.text.contains(&b'\\') { b"" } else { self.text };
            self.shape.read(text, true);
        }
        let mut slots = self.shape.slots.iter().filter(|slot| slot.mark == mark);
        let (slot, None) = (slots.next()?, slots.next()) else { return None };
        let text = self.text_of(slot)?;
        if slot.value == Value::Param {
            let number = number(text)?;
            let params = self.shape.slots.iter().filter(|slot| slot.value == Value::Param);
            let same = params.filter(|slot| self.text_of(slot).and_then(self::number) == Some(number));
            return (same.count() == 1).then_some(Literal::Param(number));
        }
        let found = match text.strip_prefix(b"'") {
            Some(quoted) => quoted.strip_suffix(b"'").filter(|inside| !inside.contains(&b'\'')),
            None => Some(text).filter(|text| kind != Kind::Text && text.iter().all(u8::is_ascii_digit)),
        };
        found.map(Literal::Text)
    }

    fn text_of(&self, slot: &Slot) -> Option<&'a [u8]> {
        self.text.get(slot.start as usize..slot.end as usize)
    }
}

/// The number of `$n`.
fn number(param: &[u8]) -> Option<u32> {
    std::str::from_utf8(param.strip_prefix(b"$")?).ok()?.parse().ok()
}

/// A value that the client binds.
struct Param<'a> {
    declared: u32,
    binary: bool,
    value: &'a [u8],
}

impl<'a> Param<'a> {
    /// The parameter `$number`, if it is there and not null.
    fn read(parts: &Parts<'a>, number: u32) -> Option<Param<'a>> {
        let at = (number as usize).checked_sub(1)?;
        let (_, types) = cstr(parts.statement)?;
        let (count, types) = u16s(types)?;
        let declared =
            if at < count { u32::from_be_bytes(types.get(at * 4..at * 4 + 4)?.try_into().ok()?) } else { 0 };
        let bound = *parts.values()?.get(at)?;
        Some(Param { declared, binary: bound.binary, value: bound.value? })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::key::{self, Form};
    use super::*;
    use proptest::prelude::*;

    fn of(kinds: &[Kind], operands: &[Operand]) -> RowKey {
        let column = |(i, kind): (usize, &Kind)| KeyColumn { number: i as i16 + 1, kind: *kind };
        RowKey {
            table: 7,
            columns: kinds.iter().enumerate().map(column).collect(),
            operands: operands.into(),
        }
    }

    fn simple(text: &str) -> Vec<u8> {
        let mut key = Vec::new();
        key::begin(&mut key, Form::Simple, 1, text.as_bytes());
        key
    }

    /// With types as they are declared, and formats and values as they are bound.
    fn extended(types: &[u32], formats: &[u16], values: &[Option<&[u8]>]) -> Vec<u8> {
        let mut statement = b"SELECT * FROM t WHERE a = $1 AND b = $2\0".to_vec();
        statement.extend_from_slice(&(types.len() as u16).to_be_bytes());
        types.iter().for_each(|oid| statement.extend_from_slice(&oid.to_be_bytes()));
        let mut bind = (formats.len() as u16).to_be_bytes().to_vec();
        formats.iter().for_each(|format| bind.extend_from_slice(&format.to_be_bytes()));
        bind.extend_from_slice(&(values.len() as u16).to_be_bytes());
        for value in values {
            bind.extend_from_slice(&value.map_or(-1, |v| v.len() as i32).to_be_bytes());
            bind.extend_from_slice(value.unwrap_or_default());
        }
        bind.extend_from_slice(&[0, 0]);
        let mut key = Vec::new();
        key::begin(&mut key, Form::Extended, 1, &statement);
        key::add(&mut key, &bind);
        key
    }

    #[test]
    fn a_key_is_the_same_however_it_is_written() {
        let integer = of(&[Kind::Integer], &[Operand::Mark(0)]);
        let row = row_of(7, [(Kind::Integer, Some(&b"42"[..]))].into_iter()).unwrap();
        for text in [
            "SELECT * FROM t WHERE a = 42",
            "SELECT * FROM t WHERE a = '42'",
            "select 1 from t where a=' 42 '",
        ] {
            let mark = if text.contains("select 1") { Operand::Mark(1) } else { Operand::Mark(0) };
            assert_eq!(of(&[Kind::Integer], &[mark]).row(&simple(text)), Some(row), "{text}");
        }
        for text in [
            "SELECT * FROM t WHERE a = 4.2",
            "SELECT * FROM t WHERE a = 'x'",
            "SELECT * FROM t WHERE a = E'42'",
        ] {
            assert_eq!(integer.row(&simple(text)), None, "{text}");
        }
        assert_ne!(integer.row(&simple("SELECT * FROM t WHERE a = 43")), Some(row));
        let param = of(&[Kind::Integer], &[Operand::Param(1)]);
        let (four, eight) = (42i32.to_be_bytes(), 42i64.to_be_bytes());
        for key in [
            extended(&[], &[], &[Some(b"42"), None]),
            extended(&[20], &[0, 1], &[Some(b"42"), None]),
            extended(&[23, 0], &[1], &[Some(&four), None]),
            extended(&[], &[1, 0], &[Some(&eight), None]),
        ] {
            assert_eq!(param.row(&key), Some(row));
        }
        for key in [
            // As a float, or as who knows what.
            extended(&[701], &[1], &[Some(&eight)]),
            extended(&[1700], &[], &[Some(b"42")]),
            extended(&[], &[], &[None]),
            extended(&[], &[], &[]),
            extended(&[], &[2], &[Some(b"42")]),
            extended(&[], &[1], &[Some(b"42x")]),
            simple("SELECT * FROM t WHERE a = $1"),
        ] {
            assert_eq!(param.row(&key), None);
        }
    }

    /// In rows of VALUES a parameter is a value like any other: which it is, the text says.
    #[test]
    fn parameters_among_values() {
        let of_mark = |mark| of(&[Kind::Integer], &[Operand::Mark(mark)]);
        let asked = |mark, sql: &str, types: &[u32], bind: &[u8]| {
            let mut statement = [sql.as_bytes(), &[0], &(types.len() as u16).to_be_bytes()].concat();
            types.iter().for_each(|oid| statement.extend_from_slice(&oid.to_be_bytes()));
            let mut key = Vec::new();
            key::begin(&mut key, Form::Extended, 1, &statement);
            key::add(&mut key, bind);
            of_mark(mark).row(&key)
        };
        // 1 and 2, in text.
        let bind = b"\0\0\0\x02\0\0\0\x011\0\0\0\x012\0\0";
        let (one, two) = (
            of_mark(0).row(&simple("DELETE FROM t WHERE a = 1")),
            of_mark(0).row(&simple("DELETE FROM t WHERE a = 2")),
        );
        assert!(one.is_some() && one != two);
        for (mark, sql, want) in [
            (0, "INSERT INTO t (a, b) VALUES ($1, $2)", one),
            (1, "INSERT INTO t (a, b) VALUES ($1, $2)", two),
            (0, "INSERT INTO t (a, b) VALUES ($2, 'x') ON CONFLICT (a) DO UPDATE SET b = $1", two),
            (0, "INSERT INTO t (a, b) VALUES ($1, $1)", None),
            (0, "INSERT INTO t (a, b) VALUES ($1, $01)", None),
            (0, "INSERT INTO t (a, b) VALUES ($1, $2) RETURNING $1", None),
            (0, "INSERT INTO t (a, b) VALUES ($1, 2) ON CONFLICT (a) DO UPDATE SET b = $1", None),
            (0, "INSERT INTO t (a, b) VALUES ($1, 5), ($2, 6)", None),
            (0, "INSERT INTO t (a, b) VALUES ($3, $2)", None),
            (0, "INSERT INTO t (a, b) VALUES (NULL, $2)", None),
        ] {
            assert_eq!(asked(mark, sql, &[], bind), want, "{sql}");
        }
        let sql = "INSERT INTO t (a, b) VALUES ($1, $2)";
        assert_eq!(asked(0, sql, &[23, 25], bind), one);
        assert_eq!(asked(0, sql, &[701, 25], bind), None);
    }

    /// What is stored may be another text than the one that is given.
    #[test]
    fn texts_that_are_taken_as_they_are() {
        let text = of(&[Kind::Text], &[Operand::Mark(0)]);
        let row = |sql: &str| text.row(&simple(sql));
        assert_eq!(
            row("DELETE FROM t WHERE a = '07'"),
            row_of(7, [(Kind::Text, Some(&b"07"[..]))].into_iter())
        );
        assert!(row("DELETE FROM t WHERE a = '07'").is_some());
        // A number is written without zeros before it, and spaces beyond a bound are cut off.
        for sql in ["INSERT INTO t (a) VALUES (07)", "INSERT INTO t (a) VALUES ('07 ')"] {
            assert_eq!(row(sql), None, "{sql}");
        }
        assert_eq!(row_of(7, [(Kind::Text, Some(&b"07 "[..]))].into_iter()), None);
    }

    #[test]
    fn keys_of_several_columns() {
        let key = of(&[Kind::Text, Kind::Uuid], &[Operand::Param(1), Operand::Param(2)]);
        let uuid = "6b1c0d5f-a2a9-4c3f-1e0e-5b8f3d0e9a77";
        let binary = 0x6b1c_0d5f_a2a9_4c3f_1e0e_5b8f_3d0e_9a77_u128.to_be_bytes();
        let want = [(Kind::Text, Some(&b"north"[..])), (Kind::Uuid, Some(uuid.as_bytes()))];
        let row = row_of(7, want.into_iter());
        assert!(row.is_some());
        let upper = uuid.to_uppercase();
        assert_eq!(key.row(&extended(&[25, 2950], &[0, 1], &[Some(b"north"), Some(&binary)])), row);
        assert_eq!(key.row(&extended(&[], &[], &[Some(b"north"), Some(upper.as_bytes())])), row);
        // In another encoding it is other bytes.
        assert_eq!(key.row(&extended(&[], &[], &[Some("n\u{f6}rd".as_bytes()), Some(&binary)])), None);
        assert_eq!(row_of(7, [(Kind::Text, None)].into_iter()), None);
    }

    proptest! {
        #[test]
        fn no_key_panics(key in prop::collection::vec(any::<u8>(), 0..80), number in 0u32..4, mark in any::<bool>()) {
            let operand = if mark { Operand::Mark(number) } else { Operand::Param(number) };
            let _ = of(&[Kind::Integer], &[operand]).row(&key);
            let mut cut = extended(&[23], &[1], &[Some(&[0, 0, 0, 5])]);
            cut.truncate(key.len());
            let _ = of(&[Kind::Integer], &[Operand::Param(number)]).row(&cut);
        }

        #[test]
        fn integers_are_told_apart(a in any::<i64>(), b in any::<i64>()) {
            let written = |n: i64| {
                let (mut text, mut binary) = (SmallVec::new(), SmallVec::new());
                Kind::Integer.add_text(n.to_string().as_bytes(), &mut text).unwrap();
                Kind::Integer.add_binary(&n.to_be_bytes(), &mut binary).unwrap();
                prop_assert_eq!(&text, &binary);
                Ok(text)
            };
            prop_assert_eq!(written(a)? == written(b)?, a == b);
        }
    }
}
