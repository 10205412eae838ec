//! The tokens of a normal form, and the constants that stand for its marks when it is parsed.

use std::borrow::Cow;

use super::lex::{Kind, Lexer};

/// A token of a normal form.
#[derive(Clone, Copy, Debug)]
pub struct Tok<'a> {
    /// What it is; marks are strings.
    pub kind: Kind,
    /// Its bytes; of a mark, its letter.
    pub text: &'a [u8],
    /// Which mark it is, counted from the statement's first.
    pub mark: Option<u32>,
}

impl Tok<'_> {
    /// Whether it is this word, in lower case.
    pub fn is(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text == word.as_bytes()
    }

    /// Whether it is one of these words.
    pub fn is_any(&self, words: &[&str]) -> bool {
        self.kind == Kind::Word && words.iter().any(|w| self.text == w.as_bytes())
    }

    /// Whether it is this punctuation mark.
    pub fn is_punct(&self, byte: u8) -> bool {
        self.kind == Kind::Punct && self.text == [byte]
    }
}

/// The tokens of a statement's normal form.
pub fn tokens(normal: &[u8]) -> Vec<Tok<'_>> {
    let mut marks = 0;
    let mut out: Vec<Tok> = Vec::with_capacity(normal.len() / 4);
    for token in Lexer::new(normal, true) {
        let text = &normal[token.start..token.end];
        match out.last_mut() {
            // A mark is a zero byte and its letter.
            Some(last) if last.is_punct(0) => {
                *last = Tok { kind: Kind::String, text, mark: Some(marks) };
                marks += 1;
            }
            _ => out.push(Tok { kind: token.kind, text, mark: None }),
        }
    }
    out
}

/// Beginning of a string constant that stands for a mark.
pub const MARK: char = '\u{f8ff}';

/// The integer that stands for the first mark; others follow.
pub const INTEGER: u64 = 77_000_000_000;

/// A token as the parser is to see it.
pub fn constant(tok: &Tok<'_>) -> String {
    constant_text(tok).into_owned()
}

fn constant_text<'a>(tok: &Tok<'a>) -> Cow<'a, str> {
    let Some(mark) = tok.mark else {
        let text = String::from_utf8_lossy(tok.text);
        return match tok.kind {
            // Other forms of strings and names are constants and names all the same.
            Kind::String if !text.starts_with('\'') || text.contains('\\') => Cow::Borrowed("'?'"),
            Kind::Quoted if !text.starts_with('"') => Cow::Borrowed("\"?\""),
            Kind::Number if text.contains(['x', 'X', 'o', 'O', '_']) => Cow::Borrowed("1"),
            _ => text,
        };
    };
    Cow::Owned(match tok.text {
        b"i" => (INTEGER + u64::from(mark)).to_string(),
        b"n" => format!("{mark}.5"),
        _ => format!("'{MARK}{mark}'"),
    })
}
