//! Constants in lists, written in the simplest way: thousands of them are read in a fraction of the time that their
//! tokens take. Whatever is not as simple as that is left to whoever reads tokens.

use std::iter;

use memchr::memchr;

use super::shape::Value;

/// One constant of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constant {
    /// First byte.
    pub start: usize,
    /// One past the last.
    pub end: usize,
    /// What it looks like.
    pub value: Value,
    /// Where the comma or parenthesis is that follows it.
    pub next: usize,
}

/// The constants from `at` on, up to the first thing that is none or that is not simple; `conforming` is the session's
/// `standard_conforming_strings`. Each is followed by a comma or a closing parenthesis, and the last one by the latter
/// if all of the list is simple.
pub fn constants(
    text: &[u8],
    mut at: usize,
    conforming: bool,
    signs: bool,
) -> impl Iterator<Item = Constant> {
    let mut ends = false;
    iter::from_fn(move || {
        if ends {
            return None;
        }
        let constant = constant(text, at, conforming, signs)?;
        ends = text[constant.next] == b')';
        at = constant.next + 1;
        Some(constant)
    })
}

/// The constant that begins at `at` or behind white space there; with a sign only if `signs`, which is none of it.
#[inline]
fn constant(text: &[u8], at: usize, conforming: bool, signs: bool) -> Option<Constant> {
    let mut start = past_space(text, at);
    let mut first = *text.get(start)?;
    if signs && matches!(first, b'-' | b'+') {
        start += 1;
        first = *text.get(start).filter(|b| b.is_ascii_digit())?;
    }
    let (end, value) = match first {
        b'\'' => (string(text, start, conforming)?, Value::String),
        b'0'..=b'9' => number(text, start),
        b'$' => (Some(past_digits(text, start + 1)).filter(|end| *end > start + 1)?, Value::Param),
        b'n' | b'N' | b't' | b'T' | b'f' | b'F' => (word(text, start)?, Value::Word),
        _ => return None,
    };
    let next = past_space(text, end);
    matches!(text.get(next), Some(b',' | b')')).then_some(Constant { start, end, value, next })
}

/// Behind the closing quote of a string that needs no other look: a quote in it is doubled.
#[inline]
fn string(text: &[u8], start: usize, conforming: bool) -> Option<usize> {
    let mut end = start + 1;
    loop {
        end += memchr(b'\'', text.get(end..)?)? + 1;
        if text.get(end) != Some(&b'\'') {
            break;
        }
        end += 1;
    }
    (conforming || memchr(b'\\', &text[start..end]).is_none()).then_some(end)
}

#[inline]
fn number(text: &[u8], start: usize) -> (usize, Value) {
    let end = past_digits(text, start);
    if text.get(end) != Some(&b'.') {
        return (end, Value::Integer);
    }
    let fraction = past_digits(text, end + 1);
    // `1.` is rare enough: what follows it is no comma.
    (if fraction > end + 1 { fraction } else { end }, Value::Number)
}

fn word(text: &[u8], start: usize) -> Option<usize> {
    let is = |word: &[u8]| text.get(start..start + word.len()).is_some_and(|t| t.eq_ignore_ascii_case(word));
    let words: [&[u8]; 3] = [b"null", b"true", b"false"];
    words.iter().find(|word| is(word)).map(|word| start + word.len())
}

#[inline]
fn past_digits(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len())
}

#[inline]
fn past_space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c) = text.get(at) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::lex::{Kind, Lexer};
    use proptest::prelude::*;

    fn read(text: &str, conforming: bool) -> Vec<&str> {
        constants(text.as_bytes(), 0, conforming, true).map(|c| &text[c.start..c.end]).collect()
    }

    #[test]
    fn what_is_simple() {
        let check = |text: &str, want: &[&str]| assert_eq!(read(text, true), want, "{text}");
        check("1, 'a' ,$3,NULL, 2.5,-7)", &["1", "'a'", "$3", "NULL", "2.5", "7"]);
        check("'it''s')", &["'it''s'"]);
        check("1, a, 2)", &["1"]);
        check("1", &[]);
        check("1e5)", &[]);
        check("1.)", &[]);
        check("1..2)", &[]);
        check("0x1F)", &[]);
        check("'a'\n'b')", &[]);
        check("'a'::text)", &[]);
        check("E'a')", &[]);
        check("nullx)", &[]);
        check("- 1)", &[]);
        check("--1\n1)", &[]);
        check("'a' /* c */)", &[]);
        check("$)", &[]);
        check("'open", &[]);
        assert_eq!(read(r"'a\', 'b')", true), [r"'a\'", "'b'"]);
        assert!(read(r"'a\', 'b')", false).is_empty());
    }

    proptest! {
        #[test]
        fn tokens_are_the_same(text in "[-+'$ \n,)0-2.aenulEx\\\\/*]{0,20}", conforming: bool) {
            let mut tokens = Lexer::new(text.as_bytes(), conforming)
                .filter(|t| !(t.kind == Kind::Operator && matches!(&text[t.start..t.end], "-" | "+")));
            for constant in constants(text.as_bytes(), 0, conforming, true) {
                let token = tokens.next();
                prop_assert_eq!(token.map(|t| (t.start, t.end)), Some((constant.start, constant.end)));
                let mark = tokens.next();
                prop_assert_eq!(mark.map(|t| (t.start, t.end)), Some((constant.next, constant.next + 1)));
            }
        }
    }
}
