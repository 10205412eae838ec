//! Names in PREPARE, EXECUTE and DEALLOCATE: SQL-level prepared statements share a session's namespace with those of
//! the protocol (documentation, "PREPARE").

use super::lex::{Lexer, Token, identifier, readings};

/// What a string of statements says of prepared statements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mentions {
    /// Names that are prepared, each with the text of its statement.
    pub prepared: Vec<(Vec<u8>, Vec<u8>)>,
    /// Names that are executed, deallocated, or prepared.
    pub used: Vec<Vec<u8>>,
}

/// Finds them, however strings are read.
pub fn mentions(sql: &[u8]) -> Mentions {
    let mut found = Mentions::default();
    for conforming in readings(sql) {
        found.read(sql, conforming);
    }
    found
}

impl Mentions {
    fn read(&mut self, sql: &[u8], conforming: bool) {
        let tokens: Vec<Token> = Lexer::new(sql, conforming).collect();
        let statements =
            tokens.split(|t| &sql[t.start..t.end] == b";").filter(|statement| !statement.is_empty());
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
                    self.prepared.push((name.clone(), text.to_vec()));
                    self.used.push(name);
                }
            } else if is(0, "deallocate") {
                let at = if is(1, "prepare") && statement.len() > 2 { 2 } else { 1 };
                self.used
                    .extend(statement.get(at).filter(|_| !is(at, "all")).and_then(|t| identifier(sql, t)));
            } else {
                let executes = (0..statement.len()).filter(|i| is(*i, "execute"));
                self.used
                    .extend(executes.filter_map(|i| statement.get(i + 1).and_then(|t| identifier(sql, t))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_prepared_statements() {
        let check = |sql: &str, prepared: &[(&str, &str)], used: &[&str]| {
            let found = mentions(sql.as_bytes());
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
