//! PostgreSQL's lexical rules (documentation chapter 4.1, `scan.l`) over bytes: one pass, no allocation, never fails.
//!
//! What Postgres would reject (an unterminated string, say) comes out as a token that reaches to the end.

use memchr::{memchr, memchr2};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Key word or identifier without quotes.
    Word,
    /// Identifier in double quotes, `U&` included.
    Quoted,
    /// String constant of any form, bit strings included.
    String,
    /// Numeric constant.
    Number,
    /// `$n`
    Param,
    /// Run of operator characters.
    Operator,
    /// `( ) [ ] , ; : .` and whatever else stands alone.
    Punct,
}

/// A token: its kind and the bytes `start..end` of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// The tokens of a text, white space and comments skipped.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    text: &'a [u8],
    pos: usize,
    /// `standard_conforming_strings`: whether a backslash in `'...'` is just a backslash.
    conforming: bool,
}

const SPACE: u8 = 1;
const WORD_START: u8 = 2;
const WORD_PART: u8 = 4;
const DIGIT: u8 = 8;
const OPERATOR: u8 = 16;
/// White space and what stands alone and begins nothing: no string, comment, number or name.
const DULL: u8 = 32;

/// What a byte can be, as a set: one look-up per byte is what the whole scan costs.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut b = 0;
    while b < 256 {
        let c = b as u8;
        classes[b] = match c {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => SPACE | DULL,
            b'(' | b')' | b',' | b'[' | b']' => DULL,
            b'=' | b'*' => OPERATOR | DULL,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => WORD_START | WORD_PART,
            b'0'..=b'9' => DIGIT | WORD_PART,
            b'$' => WORD_PART,
            b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'+' | b'-' | b'/' | b'%'
            | b'<' | b'>' => OPERATOR,
            _ => 0,
        };
        b += 1;
    }
    classes
}

#[inline]
fn is(b: u8, class: u8) -> bool {
    CLASS[usize::from(b)] & class != 0
}

fn word_start(b: u8) -> bool {
    is(b, WORD_START)
}

fn space(b: u8) -> bool {
    is(b, SPACE)
}

fn operator(b: u8) -> bool {
    is(b, OPERATOR)
}

impl<'a> Lexer<'a> {
    /// Tokens of `text`; `conforming` is the session's `standard_conforming_strings`.
    pub fn new(text: &'a [u8], conforming: bool) -> Self {
        Lexer { text, pos: 0, conforming }
    }

    /// Goes on at this byte, which a token begins at, or white space.
    #[inline]
    pub fn go_on_at(&mut self, pos: usize) {
        self.pos = pos;
    }

    #[inline]
    fn at(&self, i: usize) -> u8 {
        self.text.get(i).copied().unwrap_or(0)
    }

    fn find(&self, from: usize, want: impl Fn(u8) -> bool) -> usize {
        self.text
            .get(from..)
            .and_then(|t| t.iter().position(|&b| want(b)))
            .map_or(self.text.len(), |n| from + n)
    }

    /// The first byte from `i` on that is not of this class.
    #[inline]
    fn past(&self, i: usize, class: u8) -> usize {
        let rest = self.text.get(i..).unwrap_or_default();
        i + rest.iter().position(|&b| !is(b, class)).unwrap_or(rest.len())
    }

    /// The next word, quoted identifier or semicolon: what tells most of a statement, for a fraction of the price of
    /// all its tokens.
    #[inline]
    pub fn next_name(&mut self) -> Option<Token> {
        let mut i = self.pos;
        loop {
            i = self.past(i, DULL);
            let Some(&b) = self.text.get(i) else { break };
            if is(b, WORD_START) {
                let end = self.past(i + 1, WORD_PART);
                if !matches!(self.at(end), b'\'' | b'&') {
                    self.pos = end;
                    return Some(Token { kind: Kind::Word, start: i, end });
                }
            }
            if b == b';' {
                self.pos = i + 1;
                return Some(Token { kind: Kind::Punct, start: i, end: i + 1 });
            }
            if is(b, DIGIT) {
                i = self.number(i);
                continue;
            }
            // Whatever may hold a quote, a comment or more of itself: as a token.
            self.pos = i;
            let token = self.next()?;
            if matches!(token.kind, Kind::Word | Kind::Quoted) {
                return Some(token);
            }
            i = self.pos;
        }
        self.pos = i;
        None
    }

    /// Skips white space and comments from `i` on.
    #[inline]
    fn skip_blank(&self, mut i: usize) -> usize {
        loop {
            let b = self.at(i);
            if is(b, SPACE) {
                i += 1;
                continue;
            }
            if !is(b, OPERATOR) {
                return i;
            }
            match (self.at(i), self.at(i + 1)) {
                (b'-', b'-') => i = self.find(i, |b| b == b'\n' || b == b'\r'),
                (b'/', b'*') => i = self.skip_comment(i),
                _ => return i,
            }
        }
    }

    /// Skips a block comment, which may nest.
    fn skip_comment(&self, mut i: usize) -> usize {
        let mut depth = 0usize;
        while i < self.text.len() {
            match (self.at(i), self.at(i + 1)) {
                (b'/', b'*') => (depth, i) = (depth + 1, i + 2),
                (b'*', b'/') => {
                    (depth, i) = (depth - 1, i + 2);
                    if depth == 0 {
                        return i;
                    }
                }
                _ => i += 1,
            }
        }
        self.text.len()
    }

    /// End of a string whose opening quote is at `i`; `escapes` where a backslash escapes.
    fn string_end(&self, i: usize, escapes: bool) -> usize {
        let next = |text| if escapes { memchr2(b'\'', b'\\', text) } else { memchr(b'\'', text) };
        let mut i = i + 1;
        while let Some(n) = self.text.get(i..).and_then(next) {
            i += n;
            match (self.text[i], self.at(i + 1)) {
                (b'\\', _) | (_, b'\'') => i += 2,
                _ => match self.continued(i + 1) {
                    Some(next) => i = next + 1,
                    None => return i + 1,
                },
            }
        }
        self.text.len()
    }

    /// Where a string goes on: a quote after white space that has a newline in it (SQL's string continuation).
    fn continued(&self, from: usize) -> Option<usize> {
        let (mut i, mut newline) = (from, false);
        loop {
            match self.at(i) {
                b'\n' | b'\r' => (newline, i) = (true, i + 1),
                b if space(b) => i += 1,
                b'-' if self.at(i + 1) == b'-' => i = self.find(i, |b| b == b'\n' || b == b'\r'),
                b'\'' if newline && i < self.text.len() => return Some(i),
                _ => return None,
            }
        }
    }

    fn quoted_end(&self, i: usize) -> usize {
        let mut i = i + 1;
        loop {
            i = self.find(i, |b| b == b'"');
            if self.at(i + 1) != b'"' {
                return (i + 1).min(self.text.len());
            }
            i += 2;
        }
    }

    /// A word, or what a prefix letter makes of it: `E''`, `B''`, `X''`, `N''`, `U&''`, `U&""`.
    #[inline]
    fn word(&self, i: usize) -> (Kind, usize) {
        if is(self.at(i + 1), WORD_PART | SPACE) {
            return (Kind::Word, self.past(i + 1, WORD_PART));
        }
        match (self.at(i), self.at(i + 1), self.at(i + 2)) {
            (b'e' | b'E', b'\'', _) => (Kind::String, self.string_end(i + 1, true)),
            (b'b' | b'B' | b'x' | b'X', b'\'', _) => (Kind::String, self.string_end(i + 1, false)),
            (b'n' | b'N', b'\'', _) => (Kind::String, self.string_end(i + 1, !self.conforming)),
            (b'u' | b'U', b'&', b'\'') => (Kind::String, self.string_end(i + 2, false)),
            (b'u' | b'U', b'&', b'"') => (Kind::Quoted, self.quoted_end(i + 2)),
            _ => (Kind::Word, self.past(i, WORD_PART)),
        }
    }

    /// `$1`, `$tag$...$tag$`, or a lone `$`.
    fn dollar(&self, i: usize) -> (Kind, usize) {
        if self.at(i + 1).is_ascii_digit() {
            return (Kind::Param, self.find(i + 1, |b| !b.is_ascii_digit()));
        }
        let close = if word_start(self.at(i + 1)) {
            self.find(i + 1, |b| !(word_start(b) || b.is_ascii_digit()))
        } else {
            i + 1
        };
        if self.at(close) != b'$' {
            return (Kind::Punct, i + 1);
        }
        let tag = &self.text[i..=close];
        let body = &self.text[close + 1..];
        let end = body.windows(tag.len()).position(|w| w == tag);
        (Kind::String, end.map_or(self.text.len(), |n| close + 1 + n + tag.len()))
    }

    /// A number: generous, since only its extent matters (`0x1F`, `1_000`, `1.5e-3`).
    fn number(&self, i: usize) -> usize {
        let mut i = i;
        loop {
            i = self.past(i, WORD_PART);
            let exponent =
                matches!(self.at(i.wrapping_sub(1)), b'e' | b'E') && matches!(self.at(i), b'+' | b'-');
            let point = self.at(i) == b'.' && self.at(i + 1) != b'.';
            if !(point || exponent && self.at(i + 1).is_ascii_digit()) || i >= self.text.len() {
                return i;
            }
            i += 1;
        }
    }

    /// An operator ends where a comment begins; one of several characters does not end in a sign, unless it has some
    /// that standard SQL has no use for (documentation chapter 4.1.3): `=-` is two.
    fn operator(&self, start: usize) -> usize {
        let mut i = start;
        while operator(self.at(i)) && i < self.text.len() {
            if i > start && matches!((self.at(i), self.at(i + 1)), (b'-', b'-') | (b'/', b'*')) {
                break;
            }
            i += 1;
        }
        let sign = |i: usize| matches!(self.at(i - 1), b'+' | b'-');
        if i > start + 1 && sign(i) && !self.text[start..i].iter().any(|b| b"~!@#%^&|`?".contains(b)) {
            while i > start + 1 && sign(i) {
                i -= 1;
            }
        }
        i
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    #[inline]
    fn next(&mut self) -> Option<Token> {
        let start = self.skip_blank(self.pos);
        if start >= self.text.len() {
            self.pos = start;
            return None;
        }
        let class = CLASS[usize::from(self.text[start])];
        let (kind, end) = if class & WORD_START != 0 {
            self.word(start)
        } else if class & DIGIT != 0 {
            (Kind::Number, self.number(start))
        } else if class & OPERATOR != 0 {
            (Kind::Operator, self.operator(start))
        } else if class & DULL != 0 {
            (Kind::Punct, start + 1)
        } else {
            match self.text[start] {
                b'\'' => (Kind::String, self.string_end(start, !self.conforming)),
                b'"' => (Kind::Quoted, self.quoted_end(start)),
                b'$' => self.dollar(start),
                b'.' if self.at(start + 1).is_ascii_digit() => (Kind::Number, self.number(start + 1)),
                _ => (Kind::Punct, start + 1),
            }
        };
        // An escape at the very end may point past it.
        let end = end.min(self.text.len());
        self.pos = end;
        Some(Token { kind, start, end })
    }
}

/// The ways in which a text's strings may be read, for whoever must not miss anything whatever the session has for
/// `standard_conforming_strings`: it matters only where there is a backslash.
#[inline]
pub fn readings(text: &[u8]) -> impl Iterator<Item = bool> + use<> {
    std::iter::once(true).chain(text.contains(&b'\\').then_some(false))
}

/// Longest identifier that Postgres does not cut off, in bytes (`NAMEDATALEN` - 1).
const IDENTIFIER: usize = 63;

/// An identifier as Postgres understands it: folded unless quoted (ASCII letters; others depend on the encoding), cut
/// off. `None` where the token is none.
pub fn identifier(sql: &[u8], token: &Token) -> Option<Vec<u8>> {
    let text = &sql[token.start..token.end];
    let mut name = match token.kind {
        Kind::Word => text.to_ascii_lowercase(),
        Kind::Quoted => {
            let inner = text.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
            let mut out = Vec::with_capacity(inner.len());
            let mut bytes = inner.iter();
            while let Some(&b) = bytes.next() {
                out.push(b);
                if b == b'"' {
                    bytes.next();
                }
            }
            out
        }
        _ => return None,
    };
    name.truncate(IDENTIFIER);
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens(sql: &str) -> Vec<&str> {
        Lexer::new(sql.as_bytes(), true).map(|t| &sql[t.start..t.end]).collect()
    }

    #[test]
    fn lexical_rules() {
        let check = |sql: &str, want: &[&str]| assert_eq!(tokens(sql), want, "{sql}");
        check("SELECT a.b, 1", &["SELECT", "a", ".", "b", ",", "1"]);
        check("a--b\nc", &["a", "c"]);
        check("a/* x /* y */ z */b", &["a", "b"]);
        check("/* open", &[]);
        check("'a''b' c", &["'a''b'", "c"]);
        check(r"'a\' b", &[r"'a\'", "b"]);
        check(r"E'a\'b' c", &[r"E'a\'b'", "c"]);
        check("'a'\n'b' c", &["'a'\n'b'", "c"]);
        check("'a' 'b'", &["'a'", "'b'"]);
        check("E'a'  -- c\n 'b\\'' d", &["E'a'  -- c\n 'b\\''", "d"]);
        check("\"a\"\"b\" U&\"c\" U&'d'", &["\"a\"\"b\"", "U&\"c\"", "U&'d'"]);
        check("$$a'b$$ $x$ $$ $x$ $1 $", &["$$a'b$$", "$x$ $$ $x$", "$1", "$"]);
        check("a$b$c", &["a$b$c"]);
        check("1.5e-3+2 0x1F 1_000 .5 1..2", &["1.5e-3", "+", "2", "0x1F", "1_000", ".5", "1", ".", ".2"]);
        check("a<=b @> c/*x*/+--y", &["a", "<=", "b", "@>", "c", "+"]);
        check("a=-1 @-1 *-+1", &["a", "=", "-", "1", "@-", "1", "*", "-", "+", "1"]);
        check("größe = ü", &["größe", "=", "ü"]);
        check("'open", &["'open"]);
        check(r"E'open\", &[r"E'open\"]);
        check("\"open", &["\"open"]);
        check("$x$open", &["$x$open"]);
    }

    #[test]
    fn backslashes_escape_without_standard_conforming_strings() {
        let sql = br"'a\' b' c";
        assert_eq!(Lexer::new(sql, false).count(), 2);
    }

    proptest! {
        #[test]
        fn never_panics_and_moves_forward(text in prop::collection::vec(any::<u8>(), 0..80), scs: bool) {
            let mut last = 0;
            for token in Lexer::new(&text, scs) {
                prop_assert!(token.start >= last && token.end > token.start && token.end <= text.len());
                last = token.end;
            }
        }

        #[test]
        fn names_are_the_same_either_way(text in "['\"$/*\\-eEuU&xa \n;.,()=0-9]{0,40}", scs: bool) {
            let text = text.as_bytes();
            let all = Lexer::new(text, scs)
                .filter(|t| matches!(t.kind, Kind::Word | Kind::Quoted) || &text[t.start..t.end] == b";");
            let mut lexer = Lexer::new(text, scs);
            let fast = std::iter::from_fn(|| lexer.next_name());
            prop_assert!(all.eq(fast));
        }

        #[test]
        fn quotes_and_comments_never_panic(text in "['\"$/*\\-eEuU&xa \n;.0-9]{0,40}", scs: bool) {
            let _ = Lexer::new(text.as_bytes(), scs).count();
        }
    }
}
