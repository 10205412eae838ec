//! Statements that begin, describe or end a transaction, where they say nothing else.

use super::lex::Kind;
use super::normal::{self, Tok};
use super::shape::Shape;

/// Transaction isolation levels (documentation, "Transaction Isolation"); READ UNCOMMITTED is READ COMMITTED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Each statement sees what was committed before it.
    ReadCommitted,
    /// All statements see what the first one sees.
    RepeatableRead,
    /// As if transactions ran one after the other.
    Serializable,
}

impl Isolation {
    /// The value of `default_transaction_isolation`.
    pub fn of_setting(value: &str) -> Option<Isolation> {
        const WORDS: [(&str, Isolation); 4] = [
            ("read committed", Isolation::ReadCommitted),
            ("read uncommitted", Isolation::ReadCommitted),
            ("repeatable read", Isolation::RepeatableRead),
            ("serializable", Isolation::Serializable),
        ];
        WORDS.iter().find(|(word, _)| value.eq_ignore_ascii_case(word)).map(|(_, level)| *level)
    }

    fn as_sql(self) -> &'static str {
        match self {
            Isolation::ReadCommitted => "READ COMMITTED",
            Isolation::RepeatableRead => "REPEATABLE READ",
            Isolation::Serializable => "SERIALIZABLE",
        }
    }
}

/// What is said of a transaction; what is not said is as the session has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    /// Its isolation level.
    pub isolation: Option<Isolation>,
    /// READ ONLY or READ WRITE.
    pub read_only: Option<bool>,
    /// DEFERRABLE or NOT DEFERRABLE.
    pub deferrable: Option<bool>,
}

impl Modes {
    /// What holds when more has been said.
    #[must_use]
    pub fn and(self, later: Modes) -> Modes {
        Modes {
            isolation: later.isolation.or(self.isolation),
            read_only: later.read_only.or(self.read_only),
            deferrable: later.deferrable.or(self.deferrable),
        }
    }

    /// The BEGIN that says this.
    pub fn begin(self) -> String {
        let mut sql = String::from("BEGIN");
        if let Some(level) = self.isolation {
            sql.push_str(" ISOLATION LEVEL ");
            sql.push_str(level.as_sql());
        }
        sql.push_str(match self.read_only {
            Some(true) => " READ ONLY",
            Some(false) => " READ WRITE",
            None => "",
        });
        sql.push_str(match self.deferrable {
            Some(true) => " DEFERRABLE",
            Some(false) => " NOT DEFERRABLE",
            None => "",
        });
        sql
    }
}

/// What a statement does to the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// BEGIN, START TRANSACTION
    Begin(Modes),
    /// SET TRANSACTION
    Set(Modes),
    /// COMMIT, END
    Commit,
    /// ROLLBACK, ABORT
    Rollback,
}

impl Control {
    /// What the one statement of a text does, if it is one of these and that is all there is to it: neither AND CHAIN
    /// nor savepoints, two-phase commit, imported snapshots.
    pub fn of(shape: &Shape) -> Option<Control> {
        let [statement] = shape.statements.as_slice() else { return None };
        let normal = shape.normal.get(statement.normal.start as usize..statement.normal.end as usize)?;
        // Longer than the longest that is one of these, with every mode said twice.
        if normal.len() > 200 {
            return None;
        }
        let tokens = normal::tokens(normal);
        let (first, rest) = tokens.split_first()?;
        let is_work = |t: &Tok<'_>| t.is_any(&["work", "transaction"]);
        let after_work = if rest.first().is_some_and(is_work) { &rest[1..] } else { rest };
        match first.text {
            _ if first.kind != Kind::Word => None,
            b"begin" => modes(after_work).map(Control::Begin),
            b"start" if rest.first()?.is("transaction") => modes(&rest[1..]).map(Control::Begin),
            b"set" if rest.first()?.is("transaction") => {
                modes(&rest[1..]).filter(|_| rest.len() > 1).map(Control::Set)
            }
            b"commit" | b"end" => ends(after_work).then_some(Control::Commit),
            b"rollback" | b"abort" => ends(after_work).then_some(Control::Rollback),
            _ => None,
        }
    }

    /// The tag of its CommandComplete in a transaction that has not failed.
    pub fn tag(self) -> &'static str {
        match self {
            Control::Begin(_) => "BEGIN",
            Control::Set(_) => "SET",
            Control::Commit => "COMMIT",
            Control::Rollback => "ROLLBACK",
        }
    }

    /// Whether it ends the transaction.
    pub fn is_end(self) -> bool {
        matches!(self, Control::Commit | Control::Rollback)
    }
}

/// Whether the one statement of a text concerns nothing but its own transaction or session, on whatever server that is:
/// savepoints, what is done with cursors, settings but for those of the transaction itself.
pub fn stays(shape: &Shape) -> bool {
    let [statement] = shape.statements.as_slice() else { return false };
    let normal = shape.normal.get(statement.normal.start as usize..statement.normal.end as usize);
    // Most statements are told by their first letter.
    let Some(normal) = normal.filter(|n| matches!(n, [b'c' | b'f' | b'm' | b'r' | b's', ..])) else {
        return false;
    };
    let tokens = normal::tokens(&normal[..normal.len().min(200)]);
    let Some((first, rest)) = tokens.split_first() else { return false };
    let scope = usize::from(rest.first().is_some_and(|t| t.is_any(&["local", "session"])));
    let of_transaction =
        |t: &Tok<'_>| t.text.starts_with(b"transaction") || t.is_any(&["characteristics", "authorization"]);
    match first.text {
        _ if first.kind != Kind::Word => false,
        b"savepoint" | b"release" | b"fetch" | b"move" | b"close" | b"show" => true,
        b"rollback" => rest.iter().any(|t| t.is("to")),
        b"set" => rest.get(scope).is_some_and(|t| t.kind == Kind::Word && !of_transaction(t)),
        _ => false,
    }
}

fn ends(tokens: &[Tok<'_>]) -> bool {
    says(tokens, &[]) || says(tokens, &["and", "no", "chain"])
}

fn says(tokens: &[Tok<'_>], words: &[&str]) -> bool {
    tokens.len() == words.len() && tokens.iter().zip(words).all(|(t, word)| t.is(word))
}

/// A list of modes, with or without commas between them.
fn modes(tokens: &[Tok<'_>]) -> Option<Modes> {
    const FORMS: [(&[&str], Modes); 8] = {
        const NONE: Modes = Modes { isolation: None, read_only: None, deferrable: None };
        const fn level(level: Isolation) -> Modes {
            Modes { isolation: Some(level), ..NONE }
        }
        [
            (&["read", "only"], Modes { read_only: Some(true), ..NONE }),
            (&["read", "write"], Modes { read_only: Some(false), ..NONE }),
            (&["deferrable"], Modes { deferrable: Some(true), ..NONE }),
            (&["not", "deferrable"], Modes { deferrable: Some(false), ..NONE }),
            (&["isolation", "level", "read", "committed"], level(Isolation::ReadCommitted)),
            (&["isolation", "level", "read", "uncommitted"], level(Isolation::ReadCommitted)),
            (&["isolation", "level", "repeatable", "read"], level(Isolation::RepeatableRead)),
            (&["isolation", "level", "serializable"], level(Isolation::Serializable)),
        ]
    };
    let (mut all, mut rest) = (Modes::default(), tokens);
    while !rest.is_empty() {
        let (words, said) =
            FORMS.iter().find(|(words, _)| rest.get(..words.len()).is_some_and(|head| says(head, words)))?;
        all = all.and(*said);
        rest = &rest[words.len()..];
        if rest.len() > 1 && rest[0].is_punct(b',') {
            rest = &rest[1..];
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sql: &str) -> Option<Control> {
        let mut shape = Shape::default();
        shape.read(sql.as_bytes(), true);
        Control::of(&shape)
    }

    #[test]
    fn what_they_say() {
        let plain = Modes::default();
        for sql in ["BEGIN", "begin;", "Begin Work", "/* x */ BEGIN TRANSACTION -- y", "START TRANSACTION"] {
            assert_eq!(read(sql), Some(Control::Begin(plain)), "{sql}");
        }
        let reads = Modes { read_only: Some(true), ..plain };
        for sql in ["BEGIN READ ONLY", "START TRANSACTION READ ONLY", "BEGIN READ WRITE, READ ONLY"] {
            assert_eq!(read(sql), Some(Control::Begin(reads)), "{sql}");
        }
        let repeatable = Modes { isolation: Some(Isolation::RepeatableRead), ..reads };
        for sql in ["ISOLATION LEVEL REPEATABLE READ READ ONLY", "READ ONLY, ISOLATION LEVEL REPEATABLE READ"]
        {
            assert_eq!(read(&format!("BEGIN {sql}")), Some(Control::Begin(repeatable)), "{sql}");
            assert_eq!(read(&format!("SET TRANSACTION {sql}")), Some(Control::Set(repeatable)), "{sql}");
        }
        for sql in ["COMMIT", "END", "COMMIT WORK", "END TRANSACTION;", "COMMIT AND NO CHAIN"] {
            assert_eq!(read(sql), Some(Control::Commit), "{sql}");
        }
        for sql in ["ROLLBACK", "ABORT", "ROLLBACK WORK", "ABORT TRANSACTION AND NO CHAIN"] {
            assert_eq!(read(sql), Some(Control::Rollback), "{sql}");
        }
    }

    #[test]
    fn what_says_more_is_none() {
        for sql in [
            "",
            "SELECT 1",
            "BEGIN; SELECT 1",
            "BEGIN READ",
            "BEGIN READ ONLY,",
            "BEGIN, READ ONLY",
            "BEGIN \"read\" only",
            "COMMIT AND CHAIN",
            "ROLLBACK TO a",
            "ROLLBACK TO SAVEPOINT a",
            "COMMIT PREPARED 'x'",
            "SET TRANSACTION",
            "SET TRANSACTION SNAPSHOT 'x'",
            "SET LOCAL TRANSACTION READ ONLY",
            "SET transaction_read_only = on",
            "START",
            "\"begin\"",
            "SAVEPOINT a",
        ] {
            assert_eq!(read(sql), None, "{sql}");
        }
    }

    #[test]
    fn what_stays_in_its_transaction() {
        let check = |sql: &str, want: bool| {
            let mut shape = Shape::default();
            shape.read(sql.as_bytes(), true);
            assert_eq!(stays(&shape), want, "{sql}");
        };
        for sql in [
            "SAVEPOINT a",
            "RELEASE a",
            "ROLLBACK TO a",
            "ROLLBACK WORK TO SAVEPOINT a",
            "FETCH ALL FROM c",
            "MOVE 3 IN c",
            "CLOSE c",
            "SHOW work_mem",
            "SET LOCAL work_mem = '1MB'",
            "SET SESSION work_mem = 1",
            "SET TIME ZONE 'UTC'",
        ] {
            check(sql, true);
        }
        for sql in [
            "ROLLBACK",
            "ROLLBACK PREPARED 'to'",
            "SET TRANSACTION READ WRITE",
            "SET transaction_read_only = off",
            "SET LOCAL transaction_isolation = 'serializable'",
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
            "SET SESSION AUTHORIZATION x",
            "SELECT 1",
            "CREATE TABLE t ()",
            "SAVEPOINT a; DELETE FROM t",
            "",
        ] {
            check(sql, false);
        }
    }

    #[test]
    fn what_is_written_is_read_the_same() {
        for isolation in [
            None,
            Some(Isolation::ReadCommitted),
            Some(Isolation::RepeatableRead),
            Some(Isolation::Serializable),
        ] {
            for read_only in [None, Some(true), Some(false)] {
                for deferrable in [None, Some(true), Some(false)] {
                    let modes = Modes { isolation, read_only, deferrable };
                    assert_eq!(read(&modes.begin()), Some(Control::Begin(modes)), "{modes:?}");
                }
            }
        }
    }
}
