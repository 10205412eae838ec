//! A statement's normal form as text that a parser understands that is no PostgreSQL parser: marks become constants that
//! can be told, and what it lacks is left out or said in other words. For analysis alone; no server ever sees it.

use super::lex::Kind;
use super::normal::{Tok, constant};
use super::words::{FOREIGN, is_clause_word, is_key};

/// What is found while a text is made plain.
#[derive(Debug, Default)]
pub struct Plain {
    /// The text.
    pub text: String,
    /// FOR UPDATE, FOR SHARE and their like.
    pub locks: bool,
    /// WHERE CURRENT OF
    pub cursor: bool,
    /// Operators that are not comparisons or arithmetic, which have functions that may be anyone's.
    pub operators: Vec<Vec<u8>>,
}

/// Makes a statement plain.
pub fn plain(tokens: &[Tok<'_>]) -> Plain {
    let mut maker = Maker { tokens, at: 0, out: Plain::default(), before: Operand::None, similar: false };
    while maker.at < tokens.len() {
        maker.step();
    }
    maker.out
}

/// Whether what came before can be the left side of an operator.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand {
    None,
    Some,
}

pub(super) struct Maker<'a> {
    pub(super) tokens: &'a [Tok<'a>],
    pub(super) at: usize,
    pub(super) out: Plain,
    pub(super) before: Operand,
    /// Inside SUBSTRING(... SIMILAR ... ESCAPE ...).
    pub(super) similar: bool,
}

impl<'a> Maker<'a> {
    pub(super) fn tok(&self, ahead: usize) -> Option<&'a Tok<'a>> {
        self.tokens.get(self.at + ahead)
    }

    pub(super) fn is(&self, ahead: usize, word: &str) -> bool {
        self.tok(ahead).is_some_and(|t| t.is(word))
    }

    pub(super) fn is_any(&self, ahead: usize, words: &[&str]) -> bool {
        self.tok(ahead).is_some_and(|t| t.is_any(words))
    }

    pub(super) fn is_punct(&self, ahead: usize, byte: u8) -> bool {
        self.tok(ahead).is_some_and(|t| t.is_punct(byte))
    }

    pub(super) fn back(&self, n: usize) -> Option<&'a Tok<'a>> {
        self.at.checked_sub(n).and_then(|i| self.tokens.get(i))
    }

    pub(super) fn put(&mut self, text: &str) {
        self.out.text.push_str(text);
        self.out.text.push(' ');
    }

    /// Index of the parenthesis that closes the one at `open`.
    pub(super) fn closing(&self, open: usize) -> usize {
        let mut depth = 0usize;
        for (i, t) in self.tokens.iter().enumerate().skip(open) {
            if t.is_punct(b'(') {
                depth += 1;
            } else if t.is_punct(b')') {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return i;
                }
            }
        }
        self.tokens.len()
    }

    /// Notes an operator that is used.
    fn uses(&mut self, operator: &[u8]) {
        if !self.out.operators.iter().any(|o| o == operator) {
            self.out.operators.push(operator.to_vec());
        }
    }

    /// Notes what a word stands for that compares: `a LIKE b` is `a ~~ b`.
    fn uses_by_word(&mut self, word: &[u8]) {
        let stands_for: &[&[u8]] = match word {
            b"like" => &[b"~~", b"!~~"],
            b"ilike" => &[b"~~*", b"!~~*"],
            b"similar" => &[b"~", b"!~"],
            _ => return,
        };
        stands_for.iter().for_each(|operator| self.uses(operator));
    }

    fn step(&mut self) {
        let tok = &self.tokens[self.at];
        if tok.kind == Kind::Word {
            self.uses_by_word(tok.text);
        }
        if tok.kind == Kind::Word && self.clause(tok) {
            return;
        }
        // A table with its children, as it was written once.
        let table = tok.text == b"*" && self.back(2).is_some_and(|t| t.is_any(&["from", "join", "update"]));
        if table && self.back(1).is_some_and(|t| matches!(t.kind, Kind::Word | Kind::Quoted)) {
            self.at += 1;
            return;
        }
        let mut next = Operand::Some;
        match tok.kind {
            Kind::Operator => {
                self.operator(tok);
                next = Operand::None;
            }
            Kind::Punct => {
                next = if matches!(tok.text, b")" | b"]") { Operand::Some } else { Operand::None };
                self.punct(tok);
            }
            _ => {
                let text = constant(tok);
                let quote = tok.kind == Kind::Word && tok.is_any(FOREIGN);
                // Unless it is a call of what the parser reads like any other.
                if quote {
                    self.put(&format!("\"{text}\""))
                } else {
                    self.put(&text)
                }
                if tok.kind == Kind::Word && is_clause_word(tok.text) {
                    next = Operand::None;
                }
            }
        }
        self.before = next;
        self.at += 1;
    }

    fn punct(&mut self, tok: &Tok<'_>) {
        let joined = self.is_punct(1, b':') || self.tok(1).is_some_and(|t| t.text == b"=");
        if tok.text == b":" && joined {
            let cast = self.is_punct(1, b':');
            self.at += 1;
            return self.put(if cast { "::" } else { ":=" });
        }
        if tok.text == b")" && self.is_punct(1, b'.') && self.tok(2).is_some_and(|t| t.text == b"*") {
            self.at += 2;
        }
        if tok.text == b"." {
            // Names stay together.
            if self.out.text.ends_with(' ') {
                self.out.text.pop();
            }
            self.out.text.push('.');
            return;
        }
        self.put(&String::from_utf8_lossy(tok.text));
    }

    fn operator(&mut self, tok: &Tok<'_>) {
        const PLAIN: &[&[u8]] =
            &[b"=", b"<", b">", b"<=", b">=", b"<>", b"!=", b"+", b"-", b"*", b"/", b"%", b"||", b"=>"];
        let listed = self.is_any(1, &["any", "some", "all"]);
        let compares = matches!(tok.text, b"=" | b"<" | b">" | b"<=" | b">=" | b"<>" | b"!=");
        if PLAIN.contains(&tok.text) {
            return self.put(&if listed && !compares {
                "<>".into()
            } else {
                String::from_utf8_lossy(tok.text)
            });
        }
        self.uses(tok.text);
        self.put(match self.before {
            Operand::None => "-",
            Operand::Some if listed => "<>",
            Operand::Some => "||",
        });
    }

    /// Takes a clause that is left out or said in other words. True when it has.
    fn clause(&mut self, tok: &Tok<'_>) -> bool {
        let skip = match tok.text {
            b"for" => self.locking(),
            b"where" if self.is(1, "current") && self.is(2, "of") => {
                self.put("where true");
                self.out.cursor = true;
                4
            }
            b"on" if self.is(1, "conflict") => self.conflict(),
            b"overriding" if self.is(2, "value") => 3,
            b"variadic" if self.back(1).is_some_and(|t| t.is_punct(b'(') || t.is_punct(b',')) => 1,
            b"symmetric" | b"asymmetric" if self.back(1).is_some_and(|t| t.is("between")) => 1,
            b"rows" | b"range" | b"groups" => self.frame(),
            b"as" if self.is_punct(1, b'(') && self.back(1).is_some_and(|t| t.is_punct(b')')) => {
                self.columns()
            }
            b"as" if self.is(1, "materialized") || self.is(1, "not") && self.is(2, "materialized") => {
                self.put("as");
                if self.is(1, "not") { 3 } else { 2 }
            }
            b"uescape" => 2,
            b"search" if self.is_any(1, &["depth", "breadth"]) && self.is(2, "first") => self.up_to("set"),
            b"cycle" if self.is_punct(2, b',') || self.is(2, "set") => self.up_to("using"),
            b"first" | b"next" if self.back(1).is_some_and(|t| t.is("fetch")) && self.is_punct(1, b'(') => {
                self.put("first 1");
                self.closing(self.at + 1) + 1 - self.at
            }
            b"insert" if self.is(1, "default") && self.is(2, "values") => {
                self.put("insert values (null)");
                3
            }
            b"table" if self.begins_query() => {
                self.put("select * from");
                1
            }
            b"at" if self.is(1, "local") => 2,
            b"only"
                if self.back(1).is_some_and(|t| {
                    t.is_any(&["from", "join", "update", "into", "using"]) || t.is_punct(b',')
                }) =>
            {
                1
            }
            b"using" if self.tok(1).is_some_and(|t| t.kind == Kind::Operator) => 2,
            b"isnull" | b"notnull" if self.before == Operand::Some => {
                self.put("is null");
                1
            }
            _ => self.expression(tok),
        };
        self.at += skip;
        skip > 0
    }

    /// What an expression says in words; how many tokens that takes.
    fn expression(&mut self, tok: &Tok<'_>) -> usize {
        match tok.text {
            b"is" => self.is_what(),
            b"operator" if self.is_punct(1, b'(') => self.named_operator(),
            b"collation" if self.is(1, "for") => {
                self.put("collation_for");
                2
            }
            b"setof" => 1,
            b"treat" if self.is_punct(1, b'(') => {
                self.put("cast");
                1
            }
            b"with" if self.is(1, "ordinality") => 2,
            b"with" if self.is(1, "data") => 2,
            b"with" if self.is(1, "no") && self.is(2, "data") => 3,
            b"with" if self.is(1, "check") => 3,
            b"with" if self.is_any(1, &["local", "cascaded"]) && self.is(2, "check") => 4,
            b"tablesample" => self.sample(),
            word if word.starts_with(b"xml") && self.is_punct(1, b'(') => self.xml(),
            b"interval" if self.interval_is_long() => self.interval(),
            b"collate" => self.collation(),
            b"similar" if !self.is(1, "to") => {
                self.put(",");
                self.similar = true;
                1
            }
            b"escape" if std::mem::take(&mut self.similar) => {
                self.put(",");
                1
            }
            _ if self.is_subscripted() => self.subscripted(),
            word if !is_key(word) && self.tok(1).is_some_and(|t| t.kind == Kind::String) => {
                // A constant of a named type.
                let text = self.tok(1).map(constant).unwrap_or_default();
                self.put(&text);
                self.before = Operand::Some;
                2
            }
            _ => 0,
        }
    }
}
