//! What a result is kept under: everything but the tables that its bytes depend on. Built into a buffer that is used again.
//!
//! Whose it is and under which settings is one number, given out for a text that is compared whole ([`Contexts`]): two
//! sessions have the same one only where database, users, role and every carried setting are the same. The rest is what
//! the client has sent, byte for byte: the statement with its literals and, in the extended protocol, the types of its
//! parameters, then their formats and values and the formats of the columns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use moka::sync::Cache;
use smallvec::SmallVec;

use crate::sql::lex::{Kind, Lexer};
use crate::wire::message::cstr;

/// Whose a result is, as a number: see [`Contexts`].
pub type Context = u64;

/// How a result was asked for: its frames differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Form {
    /// By a simple Query.
    Simple = b'Q',
    /// By Bind and Execute.
    Extended = b'E',
}

/// Begins a key of a statement, with its literals; of the extended protocol, the types of its parameters as Parse has
/// them after its text.
#[inline]
pub fn begin(key: &mut Vec<u8>, form: Form, context: Context, statement: &[u8]) {
    key.clear();
    key.push(form as u8);
    key.extend_from_slice(&context.to_be_bytes());
    key.extend_from_slice(&(statement.len() as u64).to_be_bytes());
    key.extend_from_slice(statement);
}

/// Adds what else counts, each part with its length before it: no two lists of parts are the same bytes.
#[inline]
pub fn add(key: &mut Vec<u8>, part: &[u8]) {
    key.extend_from_slice(&(part.len() as u64).to_be_bytes());
    key.extend_from_slice(part);
}

/// What a key is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// How it is asked for.
    pub form: Form,
    /// Whose it is.
    pub context: Context,
    /// See [`begin`].
    pub statement: &'a [u8],
    /// The body of Bind after the names, where there is one.
    pub bind: Option<&'a [u8]>,
}

impl<'a> Parts<'a> {
    /// Reads a key. `None` where it is none.
    pub fn read(key: &'a [u8]) -> Option<Parts<'a>> {
        let (form, rest) = key.split_first()?;
        let form = [Form::Simple, Form::Extended].into_iter().find(|known| *known as u8 == *form)?;
        let part = |bytes: &'a [u8]| {
            let (length, rest) = bytes.split_first_chunk::<8>()?;
            rest.split_at_checked(usize::try_from(u64::from_be_bytes(*length)).ok()?)
        };
        let (context, rest) = rest.split_first_chunk()?;
        let (statement, rest) = part(rest)?;
        Some(Parts {
            form,
            context: Context::from_be_bytes(*context),
            statement,
            bind: part(rest).map(|(bind, _)| bind),
        })
    }

    /// The statement without what follows it in Parse.
    pub fn text(&self) -> &'a [u8] {
        match self.form {
            Form::Simple => self.statement,
            Form::Extended => cstr(self.statement).map_or(self.statement, |(text, _)| text),
        }
    }

    /// The values that are bound. `None` where Bind is not understood.
    pub fn values(&self) -> Option<SmallVec<[Bound<'a>; 4]>> {
        let Some(bind) = self.bind else { return Some(SmallVec::new()) };
        let (formats, rest) = u16s(bind)?;
        let (list, rest) = rest.split_at_checked(formats * 2)?;
        let (count, mut rest) = u16s(rest)?;
        let mut values = SmallVec::new();
        for at in 0..count {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let length = usize::try_from(i32::from_be_bytes(*length)).ok();
            let (value, after) = after.split_at_checked(length.unwrap_or(0))?;
            let format = match formats {
                0 => 0,
                1 => u16s(list)?.0,
                _ => u16s(list.get(at * 2..)?)?.0,
            };
            let binary = match format {
                0 => false,
                1 => true,
                _ => return None,
            };
            values.push(Bound { binary, value: length.map(|_| value) });
            rest = after;
        }
        Some(values)
    }

    /// Whether something in it may be read as a time that is not the same tomorrow: see [`may_tell_time`].
    pub fn may_tell_time(&self) -> bool {
        // What has a zero in it is no text, so that no word is in it.
        let tells =
            |bound: &Bound<'_>| bound.value.is_some_and(|v| !v.contains(&0) && value_may_tell_time(v));
        may_tell_time(self.text()) || self.values().is_none_or(|values| values.iter().any(tells))
    }
}

/// A value of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound<'a> {
    /// Whether it is in its type's binary form.
    pub binary: bool,
    /// The value; `None` for null.
    pub value: Option<&'a [u8]>,
}

/// The number that bytes begin with, and the rest.
pub(super) fn u16s(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<2>()?;
    Some((usize::from(u16::from_be_bytes(*number)), rest))
}

/// Bytes of contexts that are known at once. One that is forgotten gets another number: what was kept under the old one is found
/// no more.
const MOST: u64 = 8 << 20;

/// Numbers of contexts.
#[derive(Debug)]
pub struct Contexts {
    known: Cache<Arc<[u8]>, Context>,
    next: AtomicU64,
}

impl Default for Contexts {
    fn default() -> Self {
        let known = Cache::builder()
            .max_capacity(MOST)
            .weigher(|text: &Arc<[u8]>, _| u32::try_from(text.len() + 64).unwrap_or(u32::MAX))
            .build();
        Contexts { known, next: AtomicU64::new(1) }
    }
}

impl Contexts {
    /// The number of a context that is made of these parts.
    pub fn of<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Context {
        let mut text = Vec::new();
        parts.into_iter().for_each(|part| add(&mut text, part.as_bytes()));
        self.known.get_with(text.into(), || self.next.fetch_add(1, Relaxed))
    }
}

/// Whether a text may say something that is read as a time which is not the same tomorrow: `'now'`, `'today'` and their like
/// are constants to look at and clocks to the server. Names that only contain one of them are not meant. What is written
/// with escapes, or goes on in another line, may be any word.
pub fn may_tell_time(text: &[u8]) -> bool {
    let goes_on = |rest: &[u8]| {
        let space = rest.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(rest.len());
        rest[..space].contains(&b'\n') && rest.get(space) == Some(&b'\'')
    };
    let mut quotes = text.iter().enumerate().filter(|(_, b)| **b == b'\'');
    let escapes = |at: usize| at > 1 && text[at - 1] == b'&' || goes_on(&text[at + 1..]);
    if text.contains(&b'\\') || quotes.any(|(at, _)| escapes(at)) {
        return true;
    }
    Lexer::new(text, true).any(|token| {
        let own = text.get(token.start..token.end).unwrap_or(text);
        match token.kind {
            Kind::Word => is_time(own),
            _ => value_may_tell_time(own),
        }
    })
}

/// The same of a value. All but letters may stand between the words of a time, or may be left out there: `today10:00`, `now_`
/// (datetime.c, `ParseDateTime`).
fn value_may_tell_time(value: &[u8]) -> bool {
    value.contains(&b'\\') || value.split(|b| !b.is_ascii_alphabetic()).any(is_time)
}

fn is_time(word: &[u8]) -> bool {
    const WORDS: [&[u8]; 4] = [b"now", b"today", b"tomorrow", b"yesterday"];
    WORDS.iter().any(|known| word.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn contexts_are_told_apart_by_their_parts() {
        let contexts = Contexts::default();
        let one = contexts.of(["a", "bc"]);
        assert_eq!(contexts.of(["a", "bc"]), one);
        for other in [&["ab", "c"][..], &["a", "b", "c"], &["a"], &["bc", "a"], &["a", "bc", ""]] {
            assert_ne!(contexts.of(other.iter().copied()), one, "{other:?}");
        }
    }

    #[test]
    fn words_that_tell_the_time() {
        for text in [
            "E'n\\157w'",
            "'no'\n  'w'",
            "U&'n!006fw' UESCAPE '!'",
            "SELECT 'now'",
            "x > ' Today 10:00'",
            "now()",
            "$1\0tomorrow",
            "'YESTERDAY'",
            "'today10:00'",
            "'10:00today'",
            "'now_'",
            "'_today'",
            "x > $$now_$$",
            "SELECT a AS \"b'today\"",
        ] {
            assert!(may_tell_time(text.as_bytes()), "{text}");
        }
        for text in [
            "SELECT known FROM t",
            "nowhere",
            "now_playing, sales_today FROM t2today",
            "todays",
            "'2024-01-01'",
            "",
        ] {
            assert!(!may_tell_time(text.as_bytes()), "{text}");
        }
    }

    /// The length of a statement, or of a value, is no part of what it says; nor is what a number is made of.
    #[test]
    fn only_what_is_said_tells_the_time() {
        let long = format!("SELECT v FROM t WHERE id = '{}'", "x".repeat(b'\\' as usize - 29));
        let simple = |text: &str| {
            let mut key = Vec::new();
            begin(&mut key, Form::Simple, 1, text.as_bytes());
            Parts::read(&key).map(|parts| parts.may_tell_time())
        };
        assert_eq!((long.len(), simple(&long)), (usize::from(b'\\'), Some(false)));
        assert_eq!(simple("SELECT v FROM t WHERE at > 'now'"), Some(true));
        let bound = |format: u8, value: &[u8]| {
            let bind = [&[0, 1, 0, format, 0, 1, 0, 0, 0, value.len() as u8], value, &[0, 0]].concat();
            let bytes = key(1, b"SELECT v FROM t WHERE id = $1\0\0\0", &[bind]);
            Parts::read(&bytes).map(|parts| parts.may_tell_time())
        };
        assert_eq!(bound(1, &92i32.to_be_bytes()), Some(false));
        assert_eq!(bound(0, &[b'x'; 92]), Some(false));
        assert_eq!((bound(0, b"now"), bound(1, b" tomorrow")), (Some(true), Some(true)));
        assert_eq!((bound(0, b"_now10"), bound(0, b"snow")), (Some(true), Some(false)));
        // What is not understood may say anything.
        assert_eq!(bound(2, b"x"), Some(true));
    }

    fn key(context: Context, statement: &[u8], parts: &[Vec<u8>]) -> Vec<u8> {
        let mut key = vec![1, 2, 3];
        begin(&mut key, Form::Extended, context, statement);
        parts.iter().for_each(|part| add(&mut key, part));
        key
    }

    #[test]
    fn keys_say_whose_they_are() {
        let made = key(7, b"SELECT $1\0", &[b"values".to_vec()]);
        let parts = Parts::read(&made).map(|parts| (parts.context, parts.statement, parts.bind));
        assert_eq!(parts, Some((7, &b"SELECT $1\0"[..], Some(&b"values"[..]))));
    }

    proptest! {
        /// Keys are the same if and only if all that they are made of is.
        #[test]
        fn keys_are_told_apart(
            a in (0u64..3, prop::collection::vec(0u8..3, 0..4), prop::collection::vec(prop::collection::vec(0u8..3, 0..10), 0..3)),
            b in (0u64..3, prop::collection::vec(0u8..3, 0..4), prop::collection::vec(prop::collection::vec(0u8..3, 0..10), 0..3)),
        ) {
            prop_assert_eq!(key(a.0, &a.1, &a.2) == key(b.0, &b.1, &b.2), a == b);
            let bytes = key(a.0, &a.1, &a.2);
            let parts = Parts::read(&bytes).map(|p| (p.form, p.statement, p.bind));
            prop_assert_eq!(parts, Some((Form::Extended, &a.1[..], a.2.first().map(|part| &part[..]))));
        }
    }
}
