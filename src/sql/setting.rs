//! Which settings a string of statements sets or resets: every spelling of SET and RESET, and set_config with a
//! constant name (documentation, "SET", "RESET", "SET ROLE", "SET SESSION AUTHORIZATION", "SET TRANSACTION").

use super::lex::{Kind, Lexer, Token, readings};

/// What a statement does to a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Gives it a value for the session.
    Set,
    /// Takes the session's value away, or may do so, or may only do something for the transaction.
    Reset,
}

/// What a string of statements does to settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// By name, in lower case, in order.
    pub named: Vec<(String, Change)>,
    /// All that the session has set is taken away.
    pub all: bool,
    /// Settings are changed whose names the text does not tell.
    pub unnamed: bool,
}

/// The transaction characteristics of a session.
const CHARACTERISTICS: &[&str] =
    &["default_transaction_isolation", "default_transaction_read_only", "default_transaction_deferrable"];

/// Finds them, however strings are read.
pub fn changes(sql: &[u8]) -> Changes {
    let mut changes = Changes::default();
    for conforming in readings(sql) {
        let tokens: Vec<Token> = Lexer::new(sql, conforming).collect();
        for statement in tokens.split(|t| &sql[t.start..t.end] == b";") {
            Statement { sql, tokens: statement }.read(&mut changes);
        }
    }
    changes
}

/// Finds them in a function's code: whatever in it looks like setting something.
pub fn in_code(code: &[u8]) -> Changes {
    let mut changes = Changes::default();
    code_into(code, &mut changes);
    changes
}

fn code_into(code: &[u8], changes: &mut Changes) {
    let tokens: Vec<Token> = Lexer::new(code, true).collect();
    Statement { sql: code, tokens: &tokens }.calls(changes);
    for at in 0..tokens.len() {
        let rest = Statement { sql: code, tokens: &tokens[at..] };
        if rest.is(0, "set") && !rest.is(1, "local") {
            rest.set(if rest.is(1, "session") && !rest.is(2, "authorization") { 2 } else { 1 }, changes);
        }
    }
}

struct Statement<'a> {
    sql: &'a [u8],
    tokens: &'a [Token],
}

impl Statement<'_> {
    fn text(&self, i: usize) -> &[u8] {
        self.tokens.get(i).map_or(b"", |t| &self.sql[t.start..t.end])
    }

    fn is(&self, i: usize, word: &str) -> bool {
        self.text(i).eq_ignore_ascii_case(word.as_bytes())
    }

    fn read(&self, changes: &mut Changes) {
        if self.is(0, "set") {
            self.set(if self.is(1, "session") && !self.is(2, "authorization") { 2 } else { 1 }, changes);
        } else if self.is(0, "reset") {
            self.reset(changes);
        } else if self.is(0, "do") {
            self.body(changes);
        } else {
            self.calls(changes);
        }
    }

    /// The code of a DO block: whatever in it looks like setting something.
    fn body(&self, changes: &mut Changes) {
        for token in self.tokens.iter().filter(|t| t.kind == Kind::String) {
            let text = &self.sql[token.start..token.end];
            let close = text.iter().skip(1).position(|&b| b == b'$').map_or(0, |n| n + 2);
            let Some(code) = text.get(close..text.len().saturating_sub(close)).filter(|_| text[0] == b'$')
            else {
                continue;
            };
            code_into(code, changes);
        }
    }

    /// SET, from the name at `at` on.
    fn set(&self, at: usize, changes: &mut Changes) {
        let change = |i: usize| {
            if self.text(i).is_empty() || self.is(i, "default") || self.is(i, "local") {
                Change::Reset
            } else {
                Change::Set
            }
        };
        let word = self.text(at).to_ascii_lowercase();
        let one = match word.as_slice() {
            b"local" | b"transaction" | b"constraints" | b"seed" | b"" => return,
            b"characteristics" => {
                changes.named.extend(CHARACTERISTICS.iter().map(|n| ((*n).to_string(), Change::Set)));
                return;
            }
            b"session" | b"authorization" => return self.authorization(at, changes),
            b"time" if self.is(at + 1, "zone") => ("timezone".to_string(), change(at + 2)),
            b"names" => ("client_encoding".to_string(), change(at + 1)),
            b"schema" => ("search_path".to_string(), Change::Set),
            b"role" if !self.is(at + 1, "to") && self.text(at + 1) != b"=" => {
                ("role".to_string(), role(self.text(at + 1)))
            }
            b"xml" => ("xmloption".to_string(), Change::Set),
            _ => match self.name(at) {
                Some((name, next)) => (name, change(next + 1)),
                None => return,
            },
        };
        changes.named.push(one);
    }

    /// SET SESSION AUTHORIZATION takes the role away, too.
    fn authorization(&self, at: usize, changes: &mut Changes) {
        let value = if self.is(at, "session") { at + 2 } else { at + 1 };
        let change = if self.is(value, "default") { Change::Reset } else { Change::Set };
        changes.named.push(("session_authorization".into(), change));
        changes.named.push(("role".into(), Change::Reset));
    }

    fn reset(&self, changes: &mut Changes) {
        if self.is(1, "all") {
            changes.all = true;
        } else if self.is(1, "session") {
            changes.named.push(("session_authorization".into(), Change::Reset));
            changes.named.push(("role".into(), Change::Reset));
        } else if self.is(1, "time") && self.is(2, "zone") {
            changes.named.push(("timezone".into(), Change::Reset));
        } else if let Some((name, _)) = self.name(1) {
            changes.named.push((name, Change::Reset));
        }
    }

    /// A setting's name, which may be qualified, and the index of the token after it.
    fn name(&self, at: usize) -> Option<(String, usize)> {
        let (mut name, mut i) = (part(self.text(at))?, at + 1);
        while self.text(i) == b"." {
            name.push('.');
            name.push_str(&part(self.text(i + 1))?);
            i += 2;
        }
        Some((name, i))
    }

    /// Calls of set_config, and whatever sets without saying what.
    fn calls(&self, changes: &mut Changes) {
        for (i, token) in self.tokens.iter().enumerate() {
            let text = &self.sql[token.start..token.end];
            let name = if token.kind == Kind::Quoted { bare(text) } else { text };
            // A column of a view is called like the function that it comes from.
            let column = i > 0 && self.is(i - 1, "as") && self.text(i + 1) != b"(";
            if matches!(token.kind, Kind::Word | Kind::Quoted)
                && name.eq_ignore_ascii_case(b"set_config")
                && !column
            {
                // Expressions that the server shows say what type each constant is.
                let typed = self.text(i + 3) == b":" && self.text(i + 4) == b":" && self.is(i + 5, "text");
                let ends = self.text(if typed { i + 6 } else { i + 3 }) == b",";
                match self.constant(i + 2).filter(|_| self.text(i + 1) == b"(" && ends) {
                    Some(name) => changes.named.push((name, Change::Reset)),
                    None => changes.unnamed = true,
                }
            }
        }
    }

    /// A plain string constant.
    fn constant(&self, at: usize) -> Option<String> {
        let text = self.text(at).strip_prefix(b"'")?.strip_suffix(b"'")?;
        let plain = !text.iter().any(|b| matches!(b, b'\'' | b'\\'));
        plain.then(|| std::str::from_utf8(text).ok().map(str::to_ascii_lowercase))?
    }
}

/// An identifier without the quotes around it, if there are any.
fn bare(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\"").and_then(|t| t.strip_suffix(b"\"")).unwrap_or(text)
}

/// SET ROLE NONE goes back to what there was.
fn role(value: &[u8]) -> Change {
    if value.eq_ignore_ascii_case(b"none") || value.eq_ignore_ascii_case(b"default") {
        Change::Reset
    } else {
        Change::Set
    }
}

/// One part of a name: settings' names do not tell cases apart, quoted or not.
fn part(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bare(text)).ok()?;
    let valid = !text.is_empty() && !text.contains(['\'', '"', '(', ')', ',', ';']);
    valid.then(|| text.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_spelling() {
        use Change::*;
        let check = |sql: &str, want: &[(&str, Change)]| {
            let found = changes(sql.as_bytes());
            let found: Vec<_> = found.named.iter().map(|(n, c)| (n.as_str(), *c)).collect();
            assert_eq!(found, want, "{sql}");
        };
        check("SET work_mem = '1MB'", &[("work_mem", Set)]);
        check("set session Work_Mem to 5; RESET work_mem", &[("work_mem", Set), ("work_mem", Reset)]);
        check("SET a.b.c TO 'x'", &[("a.b.c", Set)]);
        check("SET \"A\".b = DEFAULT", &[("a.b", Reset)]);
        check("SET LOCAL work_mem = 5", &[]);
        check("SET TRANSACTION READ ONLY", &[]);
        check("SET TIME ZONE 'UTC'", &[("timezone", Set)]);
        check("SET SESSION TIME ZONE LOCAL", &[("timezone", Reset)]);
        check("SET NAMES 'latin1'", &[("client_encoding", Set)]);
        check("SET NAMES", &[("client_encoding", Reset)]);
        check("SET SCHEMA 'x'", &[("search_path", Set)]);
        check("SET ROLE bob", &[("role", Set)]);
        check("SET SESSION ROLE 'bob'", &[("role", Set)]);
        check("SET role TO bob", &[("role", Set)]);
        check("SET ROLE NONE", &[("role", Reset)]);
        check("SET SESSION AUTHORIZATION bob", &[("session_authorization", Set), ("role", Reset)]);
        check("SET SESSION SESSION AUTHORIZATION 'bob'", &[("session_authorization", Set), ("role", Reset)]);
        check("RESET SESSION AUTHORIZATION", &[("session_authorization", Reset), ("role", Reset)]);
        check("SELECT set_config('a.B', $1, false), 1", &[("a.b", Reset)]);
        check("SELECT pg_catalog.\"set_config\"('a.b', 'x', true)", &[("a.b", Reset)]);
        check(
            "DO $x$ BEGIN SET a.b = 1; PERFORM set_config('c.d', x, false); END $x$",
            &[("c.d", Reset), ("a.b", Set)],
        );
        check("SET XML OPTION DOCUMENT", &[("xmloption", Set)]);
        assert_eq!(changes(b"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY").named.len(), 3);
        assert!(changes(b"SELECT 1; RESET ALL").all);
        assert!(changes(b"SELECT set_config($1, $2, false)").unnamed);
        assert!(changes(b"SELECT set_config(E'a', 'b', false)").unnamed);
    }

    proptest! {
        #[test]
        fn never_panics(sql in "(SET|RESET|SESSION|AUTHORIZATION|TO|=|DEFAULT|TIME|ZONE|set_config|'|\"|\\.|;|,|\\(| |x){0,16}") {
            let _ = changes(sql.as_bytes());
        }
    }
}
