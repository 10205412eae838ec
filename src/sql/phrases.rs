//! Phrases of PostgreSQL's that a plain text says otherwise, or not at all. Each takes as many tokens as it returns.

use super::lex::Kind;
use super::normal::{Tok, constant};
use super::plain::{Maker, Operand, plain};
use super::words::FIELDS;

impl Maker<'_> {
    /// FOR [NO KEY] UPDATE, FOR [KEY] SHARE, with what follows.
    pub(super) fn locking(&mut self) -> usize {
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
    pub(super) fn conflict(&mut self) -> usize {
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
    pub(super) fn frame(&mut self) -> usize {
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
    pub(super) fn columns(&mut self) -> usize {
        let query = ["select", "with", "values", "table", "insert", "update", "delete", "merge"];
        if self.is_any(2, &query) || self.is_punct(2, b'(') {
            return 0;
        }
        self.put("as __columns");
        self.closing(self.at + 1) + 1 - self.at
    }

    /// Up to this word and the name after it.
    pub(super) fn up_to(&self, word: &str) -> usize {
        let found = self.tokens[self.at..].iter().position(|t| t.is(word));
        found.map_or(0, |n| n + 2)
    }

    pub(super) fn begins_query(&self) -> bool {
        let Some(before) = self.back(1) else { return true };
        before.is_punct(b'(') || before.is_any(&["union", "intersect", "except", "all", "as", "explain"])
    }

    /// IS [NOT] DOCUMENT, NORMALIZED and JSON: as if it were NULL.
    pub(super) fn is_what(&mut self) -> usize {
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
    pub(super) fn named_operator(&mut self) -> usize {
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
    pub(super) fn sample(&self) -> usize {
        let Some(open) = self.tokens[self.at..].iter().position(|t| t.is_punct(b'(')) else { return 0 };
        let mut end = self.closing(self.at + open) + 1;
        if self.tokens.get(end).is_some_and(|t| t.is("repeatable")) {
            end = self.closing(end + 1) + 1;
        }
        end - self.at
    }

    /// XML functions have a grammar of their own: what they are given is kept as plain arguments.
    pub(super) fn xml(&mut self) -> usize {
        const SPECIAL: &[&str] = &[
            "xmlattributes",
            "xmlconcat",
            "xmlelement",
            "xmlexists",
            "xmlforest",
            "xmlnamespaces",
            "xmlparse",
            "xmlpi",
            "xmlroot",
            "xmlserialize",
            "xmltable",
        ];
        if !self.is_any(0, SPECIAL) {
            return 0;
        }
        let close = self.closing(self.at + 1).min(self.tokens.len());
        let inner = plain_xml(&self.tokens[self.at + 2..close]);
        let made = plain(&inner);
        self.out.operators.extend(made.operators);
        // Not its name, which the parser knows another grammar for.
        self.put("xml (");
        self.out.text.push_str(&made.text);
        self.put(")");
        self.before = Operand::Some;
        close + 1 - self.at
    }

    /// COLLATE name
    pub(super) fn collation(&self) -> usize {
        let mut n = 2;
        while self.is_punct(n, b'.') {
            n += 2;
        }
        n
    }

    /// A column with subscripts that is given a value.
    pub(super) fn is_subscripted(&self) -> bool {
        self.is_punct(1, b'[')
            && !self.is(0, "array")
            && self.back(1).is_some_and(|t| t.is("set") || t.is_punct(b',') || t.is_punct(b'('))
            && self
                .after_subscripts()
                .is_some_and(|n| self.tok(n).is_some_and(|t| matches!(t.text, b"=" | b"," | b")")))
    }

    pub(super) fn after_subscripts(&self) -> Option<usize> {
        let mut n = 1;
        while self.is_punct(n, b'[') {
            n += self.tokens[self.at + n..].iter().position(|t| t.is_punct(b']'))? + 1;
            while self.is_punct(n, b'.') {
                n += 2;
            }
        }
        Some(n)
    }

    pub(super) fn subscripted(&mut self) -> usize {
        self.put(&String::from_utf8_lossy(self.tokens[self.at].text));
        self.before = Operand::Some;
        self.after_subscripts().unwrap_or(1)
    }

    /// Whether more follows INTERVAL than a constant.
    pub(super) fn interval_is_long(&self) -> bool {
        let constant = usize::from(self.tok(1).is_some_and(|t| t.kind == Kind::String));
        self.is_any(1 + constant, FIELDS) || self.is_punct(1, b'(')
    }

    /// INTERVAL ['...'] fields [(n)]: fields are left out.
    pub(super) fn interval(&mut self) -> usize {
        let given = usize::from(self.tok(1).is_some_and(|t| t.kind == Kind::String));
        let mut n = 1 + given;
        if !(self.is_any(n, FIELDS) || given == 0 && self.is_punct(1, b'(') && self.is_punct(3, b')')) {
            return 0;
        }
        self.put("interval");
        if let Some(tok) = self.tok(1).filter(|_| given == 1) {
            let text = constant(tok);
            self.put(&text);
        }
        while self.is_any(n, FIELDS) || self.is(n, "to") && self.is_any(n + 1, FIELDS) {
            n += 1;
        }
        if self.is_punct(n, b'(') && self.is_punct(n + 2, b')') {
            n += 3;
        }
        // A precision before the constant.
        if given == 0
            && let Some(tok) = self.tok(n).filter(|t| t.kind == Kind::String)
        {
            let text = constant(tok);
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
        if t.is("columns") {
            break;
        }
        let starts = i == 0 || tokens[i - 1].is_punct(b',') || tokens[i - 1].is_punct(b'(');
        let value = tokens.get(i + 1).is_some_and(|n| {
            !n.is_punct(b',') && !n.is_punct(b')') && !n.is_punct(b'.') && !n.is_punct(b'(')
        });
        if starts && value && t.is_any(&["name", "content", "default", "document", "version", "standalone"]) {
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
