//! A statement's normal form as text that a parser understands that is no PostgreSQL parser: marks become constants that
//! can be told, and what it lacks is left out or said in other words. For analysis alone; no server ever sees it.

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

/// Beginning of a string constant that stands for a mark.
pub const MARK: char = '\u{f8ff}';

/// The integer that stands for the first mark; others follow.
pub const INTEGER: u64 = 77_000_000_000;

/// Words that are names in PostgreSQL and more than that to the parser.
const FOREIGN: &[&str] = &[
    "anti",
    "apply",
    "asof",
    "cluster",
    "connect",
    "distribute",
    "empty",
    "final",
    "format",
    "global",
    "highlight",
    "lateral_view",
    "match_condition",
    "match_recognize",
    "minus",
    "multiset",
    "offsets",
    "pivot",
    "prewhere",
    "prior",
    "qualify",
    "rlike",
    "regexp",
    "sample",
    "semi",
    "settings",
    "sort",
    "start",
    "top",
    "unpivot",
    "view",
    "xor",
    "div",
    "struct",
    "dictionary",
    "try_cast",
    "safe_cast",
    "convert",
    "ceil",
    "floor",
    "if",
    "nvl",
    "listagg",
    "sample_by",
    "totals",
    "ttl",
    "outfile",
    "describe",
    "match",
    "binary",
    "lambda",
    "trigger",
    "measures",
    "output",
];

/// Makes a statement plain.
pub fn plain(tokens: &[Tok<'_>]) -> Plain {
    let mut maker = Maker { tokens, at: 0, out: Plain::default(), before: Operand::None };
    while maker.at < tokens.len() {
        maker.step();
    }
    maker.out
}

/// Whether what came before can be the left side of an operator.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operand {
    None,
    Some,
}

struct Maker<'a> {
    tokens: &'a [Tok<'a>],
    at: usize,
    out: Plain,
    before: Operand,
}

impl<'a> Maker<'a> {
    fn tok(&self, ahead: usize) -> Option<&'a Tok<'a>> {
        self.tokens.get(self.at + ahead)
    }

    fn is(&self, ahead: usize, word: &str) -> bool {
        self.tok(ahead).is_some_and(|t| t.is(word))
    }

    fn is_any(&self, ahead: usize, words: &[&str]) -> bool {
        self.tok(ahead).is_some_and(|t| t.is_any(words))
    }

    fn is_punct(&self, ahead: usize, byte: u8) -> bool {
        self.tok(ahead).is_some_and(|t| t.is_punct(byte))
    }

    fn back(&self, n: usize) -> Option<&'a Tok<'a>> {
        self.at.checked_sub(n).and_then(|i| self.tokens.get(i))
    }

    fn put(&mut self, text: &str) {
        self.out.text.push_str(text);
        self.out.text.push(' ');
    }

    /// Index of the parenthesis that closes the one at `open`.
    fn closing(&self, open: usize) -> usize {
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

    fn step(&mut self) {
        let tok = &self.tokens[self.at];
        if tok.kind == Kind::Word && self.clause(tok) {
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
        if PLAIN.contains(&tok.text) {
            return self.put(&String::from_utf8_lossy(tok.text));
        }
        if !self.out.operators.iter().any(|o| o == tok.text) {
            self.out.operators.push(tok.text.to_vec());
        }
        let listed = self.is_any(1, &["any", "some", "all"]);
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
            b"search" if self.is_any(1, &["depth", "breadth"]) && self.is(2, "first") => self.up_to("set"),
            b"cycle" if self.back(1).is_some_and(|t| t.is_punct(b')')) => self.up_to("using"),
            b"table" if self.begins_query() => {
                self.put("select * from");
                1
            }
            b"at" if self.is(1, "local") => 2,
            b"uescape" => 2,
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
            b"tablesample" => self.sample(),
            word if word.starts_with(b"xml") && self.is_punct(1, b'(') => self.xml(),
            b"interval" => self.interval(),
            _ => 0,
        };
        self.at += skip;
        skip > 0
    }

    /// FOR [NO KEY] UPDATE, FOR [KEY] SHARE, with what follows.
    fn locking(&mut self) -> usize {
        let words = |words: &[&str]| words.iter().enumerate().all(|(i, w)| self.is(i + 1, w));
        let mut n = if words(&["update"]) || words(&["share"]) {
            2
        } else if words(&["key", "share"]) {
            3
        } else if words(&["no", "key", "update"]) {
            4
        } else {
            return 0;
        };
        self.out.locks = true;
        if self.is(n, "of") {
            n += 1;
            while self.tok(n).is_some_and(|t| matches!(t.kind, Kind::Word | Kind::Quoted)) {
                n += 1;
                while self.is_punct(n, b'.') {
                    n += 2;
                }
                if !self.is_punct(n, b',') {
                    break;
                }
                n += 1;
            }
        }
        if self.is(n, "nowait") {
            n += 1;
        } else if self.is(n, "skip") && self.is(n + 1, "locked") {
            n += 2;
        }
        n
    }

    /// ON CONFLICT: its target is of no consequence.
    fn conflict(&mut self) -> usize {
        self.put("on conflict");
        let mut depth = 0usize;
        for (n, t) in self.tokens[self.at..].iter().enumerate().skip(2) {
            match t.text {
                b"(" if t.kind == Kind::Punct => depth += 1,
                b")" if t.kind == Kind::Punct => depth = depth.saturating_sub(1),
                b"do" if depth == 0 => return n,
                _ => {}
            }
        }
        2
    }

    /// A window's frame: left out up to the parenthesis that ends the window.
    fn frame(&mut self) -> usize {
        if self.is(1, "from") && self.is_punct(2, b'(') {
            self.put("rows_from");
            return 2;
        }
        let after = |t: &Tok<'_>| t.is_any(&["preceding", "following"]);
        let begins = self.is_any(1, &["between", "unbounded", "current"])
            || self.tokens[self.at..].iter().take(8).any(after);
        if !begins || self.back(1).is_some_and(|t| t.is_punct(b'.')) {
            return 0;
        }
        let mut depth = 0usize;
        for (n, t) in self.tokens[self.at..].iter().enumerate() {
            if t.is_punct(b'(') {
                depth += 1;
            } else if t.is_punct(b')') {
                if depth == 0 {
                    return n;
                }
                depth -= 1;
            }
        }
        0
    }

    /// `f(x) AS (a int)`: columns without a name for the whole.
    fn columns(&mut self) -> usize {
        let query = ["select", "with", "values", "table", "insert", "update", "delete", "merge"];
        if self.is_any(2, &query) || self.is_punct(2, b'(') {
            return 0;
        }
        self.put("as __columns");
        self.closing(self.at + 1) + 1 - self.at
    }

    /// Up to this word and the name after it.
    fn up_to(&self, word: &str) -> usize {
        let found = self.tokens[self.at..].iter().position(|t| t.is(word));
        found.map_or(0, |n| n + 2)
    }

    fn begins_query(&self) -> bool {
        let Some(before) = self.back(1) else { return true };
        before.is_punct(b'(') || before.is_any(&["union", "intersect", "except", "all", "as", "explain"])
    }

    /// IS [NOT] DOCUMENT, NORMALIZED and JSON: as if it were NULL.
    fn is_what(&mut self) -> usize {
        let n = if self.is(1, "not") { 2 } else { 1 };
        let form = usize::from(self.is_any(n, &["nfc", "nfd", "nfkc", "nfkd"]));
        if self.is_any(n, &["document"]) || self.is(n + form, "normalized") {
            self.put("is null");
            return n + form + 1;
        }
        if self.is(n, "json") {
            self.put("is null");
            let mut n = n + 1;
            while self.is_any(n, &["value", "scalar", "array", "object", "with", "without", "unique", "keys"])
            {
                n += 1;
            }
            return n;
        }
        0
    }

    /// OPERATOR(schema.op)
    fn named_operator(&mut self) -> usize {
        let close = self.closing(self.at + 1);
        let Some(op) =
            self.tokens[self.at..close.min(self.tokens.len())].iter().rfind(|t| t.kind == Kind::Operator)
        else {
            return 0;
        };
        let op = *op;
        self.out.operators.push(op.text.to_vec());
        let listed = self.tokens.get(close + 1).is_some_and(|t| t.is_any(&["any", "some", "all"]));
        self.put(match self.before {
            Operand::None => "-",
            _ if matches!(op.text, b"=" | b"<>" | b"<" | b">" | b"<=" | b">=") => "=",
            _ if listed => "<>",
            _ => "||",
        });
        self.before = Operand::None;
        close + 1 - self.at
    }

    /// TABLESAMPLE method (n) [REPEATABLE (n)]
    fn sample(&self) -> usize {
        let Some(open) = self.tokens[self.at..].iter().position(|t| t.is_punct(b'(')) else { return 0 };
        let mut end = self.closing(self.at + open) + 1;
        if self.tokens.get(end).is_some_and(|t| t.is("repeatable")) {
            end = self.closing(end + 1) + 1;
        }
        end - self.at
    }

    /// XML functions have a grammar of their own: what they are given is kept as plain arguments.
    fn xml(&mut self) -> usize {
        if self.is(0, "xmltable") || self.tokens[self.at].text.starts_with(b"xml_") {
            return 0;
        }
        let close = self.closing(self.at + 1).min(self.tokens.len());
        let inner = plain_xml(&self.tokens[self.at + 2..close]);
        let made = plain(&inner);
        self.out.operators.extend(made.operators);
        self.put(&String::from_utf8_lossy(self.tokens[self.at].text));
        self.put("(");
        self.out.text.push_str(&made.text);
        self.put(")");
        self.before = Operand::Some;
        close + 1 - self.at
    }

    /// INTERVAL ['...'] fields [(n)]: fields are left out.
    fn interval(&mut self) -> usize {
        const FIELDS: &[&str] = &["year", "month", "day", "hour", "minute", "second"];
        let constant = usize::from(self.tok(1).is_some_and(|t| t.kind == Kind::String));
        let mut n = 1 + constant;
        if !self.is_any(n, FIELDS) && !(constant == 0 && self.is_punct(1, b'(') && self.is_punct(3, b')')) {
            return 0;
        }
        self.put("interval");
        if let Some(tok) = self.tok(1).filter(|_| constant == 1) {
            let text = constant_text(tok);
            self.put(&text);
        }
        while self.is_any(n, FIELDS) || self.is(n, "to") && self.is_any(n + 1, FIELDS) {
            n += 1;
        }
        if self.is_punct(n, b'(') && self.is_punct(n + 2, b')') {
            n += 3;
        }
        // A precision before the constant.
        if constant == 0
            && let Some(tok) = self.tok(n).filter(|t| t.kind == Kind::String)
        {
            let text = constant_text(tok);
            self.put(&text);
            n += 1;
        }
        self.before = Operand::Some;
        n
    }
}

/// Without the key words that only XML functions have.
fn plain_xml<'a>(tokens: &[Tok<'a>]) -> Vec<Tok<'a>> {
    let mut out: Vec<Tok> = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let t = &tokens[i];
        let starts = i == 0 || tokens[i - 1].is_punct(b',');
        let value = tokens.get(i + 1).is_some_and(|n| {
            !n.is_punct(b',') && !n.is_punct(b')') && !n.is_punct(b'.') && !n.is_punct(b'(')
        });
        if starts && value && t.is_any(&["name", "content", "document", "version", "standalone"]) {
            i += 1;
        } else if t.is("as") {
            i += 2;
            while tokens.get(i).is_some_and(|t| {
                t.kind == Kind::Word
                    || t.is_punct(b'(') && tokens.get(i + 2).is_some_and(|t| t.is_punct(b')'))
            }) {
                i += if tokens[i].is_punct(b'(') { 3 } else { 1 };
            }
        } else if t.is_any(&["preserve", "strip"]) && tokens.get(i + 1).is_some_and(|t| t.is("whitespace")) {
            i += 2;
        } else if t.is("passing") {
            out.push(Tok { kind: Kind::Punct, text: b",", mark: None });
            i += 1;
            while tokens.get(i).is_some_and(|t| t.is_any(&["by", "ref", "value"])) {
                i += 1;
            }
        } else if t.is("no") && tokens.get(i + 1).is_some_and(|t| t.is("value")) {
            i += 1;
        } else {
            out.push(*t);
            i += 1;
        }
    }
    out
}

/// Words after which an operator has no left side.
fn is_clause_word(word: &[u8]) -> bool {
    const WORDS: &[&[u8]] = &[
        b"select",
        b"where",
        b"and",
        b"or",
        b"not",
        b"on",
        b"having",
        b"when",
        b"then",
        b"else",
        b"case",
        b"by",
        b"in",
        b"between",
        b"like",
        b"ilike",
        b"set",
        b"values",
        b"returning",
        b"limit",
        b"offset",
        b"distinct",
        b"all",
        b"using",
        b"is",
        b"from",
        b"similar",
        b"to",
        b"as",
    ];
    WORDS.contains(&word)
}

fn constant(tok: &Tok<'_>) -> String {
    constant_text(tok).into_owned()
}

/// A token as the parser is to see it.
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
