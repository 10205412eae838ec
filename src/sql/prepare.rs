//! Names in PREPARE, EXECUTE and DEALLOCATE: SQL-level prepared statements share a session's namespace with those of
//! the protocol (documentation, "PREPARE").

use super::lex::{Kind, Lexer, Token};

/// What a string of statements says of prepared statements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mentions {
    /// Names that are prepared, each with the text of its statement.
    pub prepared: Vec<(Vec<u8>, Vec<u8>)>,
    /// Names that are executed, deallocated, or prepared.
    pub used: Vec<Vec<u8>>,
}

/// Finds them.
pub fn mentions(sql: &[u8], conforming: bool) -> Mentions {
    let mut found = Mentions::default();
    let tokens: Vec<Token> = Lexer::new(sql, conforming).collect();
    let statements = tokens.split(|t| &sql[t.start..t.end] == b";").filter(|statement| !statement.is_empty());
    let alone = statements.clone().count() == 1;
    for statement in statements {
        let text = |i: usize| statement.get(i).map_or(&b""[..], |t: &Token| &sql[t.start..t.end]);
        let is = |i: usize, word: &str| text(i).eq_ignore_ascii_case(word.as_bytes());
        if is(0, "prepare") && !is(1, "transaction") {
            if let (Some(name), Some(last)) =
                (statement.get(1).and_then(|t| identifier(sql, t)), statement.last())
            {
                // Where it was all that was sent, all of it is what the server shows of it.
                let text = if alone { sql } else { &sql[statement[0].start..last.end] };
                found.prepared.push((name.clone(), text.to_vec()));
                found.used.push(name);
            }
        } else if is(0, "deallocate") {
            let at = if is(1, "prepare") && statement.len() > 2 { 2 } else { 1 };
            found.used.extend(statement.get(at).filter(|_| !is(at, "all")).and_then(|t| identifier(sql, t)));
        } else {
            let executes = (0..statement.len()).filter(|i| is(*i, "execute"));
            found.used.extend(executes.filter_map(|i| statement.get(i + 1).and_then(|t| identifier(sql, t))));
        }
    }
    found
}

/// Longest identifier that Postgres does not cut off, in bytes.
const IDENTIFIER: usize = 63;

/// A name as Postgres understands it: folded, unquoted, cut off.
pub fn identifier(sql: &[u8], token: &Token) -> Option<Vec<u8>> {
    let mut name = folded(sql, token)?;
    name.truncate(IDENTIFIER);
    Some(name)
}

/// An identifier as Postgres understands it: folded unless quoted (ASCII letters; others depend on the encoding).
fn folded(sql: &[u8], token: &Token) -> Option<Vec<u8>> {
    let text = &sql[token.start..token.end];
    match token.kind {
        Kind::Word => Some(text.to_ascii_lowercase()),
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
            Some(out)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_prepared_statements() {
        let check = |sql: &str, prepared: &[(&str, &str)], used: &[&str]| {
            let found = mentions(sql.as_bytes(), true);
            let text = |t: &[u8]| String::from_utf8_lossy(t).into_owned();
            let got: Vec<_> = found.prepared.iter().map(|(n, t)| (text(n), text(t))).collect();
            let want: Vec<_> = prepared.iter().map(|(n, t)| ((*n).to_string(), (*t).to_string())).collect();
            assert_eq!(got, want, "{sql}");
            assert_eq!(found.used.iter().map(|n| text(n)).collect::<Vec<_>>(), used, "{sql}");
        };
        check("PREPARE A (int) AS SELECT $1; SELECT 1", &[("a", "PREPARE A (int) AS SELECT $1")], &["a"]);
        check("PREPARE a AS SELECT 1 ; ", &[("a", "PREPARE a AS SELECT 1 ; ")], &["a"]);
        check("prepare \"A\"\"b\" as select 1", &[("A\"b", "prepare \"A\"\"b\" as select 1")], &["A\"b"]);
        check("PREPARE TRANSACTION 'x'", &[], &[]);
        check("EXECUTE a(1); EXPLAIN (ANALYZE) EXECUTE b", &[], &["a", "b"]);
        check("CREATE TABLE t AS EXECUTE c", &[], &["c"]);
        check("DEALLOCATE PREPARE a; DEALLOCATE b; DEALLOCATE ALL; DEALLOCATE PREPARE ALL", &[], &["a", "b"]);
        check("DEALLOCATE prepare", &[], &["prepare"]);
        check("SELECT 'EXECUTE a'", &[], &[]);
    }
}
