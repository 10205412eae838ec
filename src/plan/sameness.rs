//! What two runs of a statement on the same data must have in common: what a rehearsal on another server is held to.

use super::Class;
use super::functions;
use crate::sql::facts::{Effect, Facts};
use crate::sql::normal;
use crate::sql::shape::Shape;

/// See the module; each says all that those before it say. Whether it fails, and how, is always the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sameness {
    /// Nothing: what it returns differs from run to run.
    #[default]
    Nothing,
    /// How many rows there are.
    Count,
    /// The rows, in any order.
    Rows,
    /// The rows in their order.
    Order,
}

/// What runs of these statements have in common, of which `shape` is the text; `varies` where something that they call
/// returns what it likes.
pub(super) fn of(shape: &Shape, statements: &[Facts], class: Class, varies: bool) -> Sameness {
    let counts = |f: &Facts| {
        matches!(f.effect, Effect::Read | Effect::Write | Effect::CopyIn | Effect::CopyOut | Effect::Cursor)
            && f.verb != "EXPLAIN"
            && f.calls.iter().all(|call| !functions::varies(&call.name.name))
    };
    if varies || !statements.iter().all(counts) {
        return Sameness::Nothing;
    }
    if class != Class::Read {
        return Sameness::Count;
    }
    match Chosen::of(&shape.normal) {
        Chosen { arbitrary: true, .. } => Sameness::Count,
        Chosen { ordered: true, .. } => Sameness::Order,
        _ => Sameness::Rows,
    }
}

/// How rows are chosen and ordered.
#[derive(Debug, Default, PartialEq, Eq)]
struct Chosen {
    /// Some are taken, without an order that says which.
    arbitrary: bool,
    /// The outermost query has an order.
    ordered: bool,
}

/// A query, in parentheses or not: up to a set operation, its parts are one.
#[derive(Clone, Copy, Debug, Default)]
struct Query {
    limited: bool,
    ordered: bool,
}

impl Chosen {
    /// Looks at the words of a normal form; what only looks like ORDER BY has the rows compared too strictly at worst.
    fn of(normal: &[u8]) -> Chosen {
        let tokens = normal::tokens(normal);
        let mut open = vec![Query::default()];
        let mut arbitrary = false;
        for (i, token) in tokens.iter().enumerate() {
            let next = tokens.get(i + 1);
            let nested = open.len() > 1;
            let Some(query) = open.last_mut() else { break };
            match token {
                t if t.is_punct(b'(') => open.push(Query::default()),
                t if t.is_punct(b')') && nested => {
                    let closed = open.pop().unwrap_or_default();
                    arbitrary |= closed.limited && !closed.ordered;
                }
                t if t.is("order") && next.is_some_and(|t| t.is("by")) => query.ordered = true,
                t if t.is_any(&["limit", "offset"]) => query.limited = true,
                t if t.is("fetch") && next.is_some_and(|t| t.is_any(&["first", "next"])) => {
                    query.limited = true
                }
                t if t.is("distinct") && next.is_some_and(|t| t.is("on")) => query.limited = true,
                t if t.is("tablesample") => arbitrary = true,
                _ => {}
            }
        }
        let outer = open.first().copied().unwrap_or_default();
        Chosen { arbitrary: arbitrary || outer.limited && !outer.ordered, ordered: outer.ordered }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::class::facts;
    use proptest::prelude::*;

    fn said(sql: &str, class: Class) -> Sameness {
        let mut shape = Shape::default();
        shape.read(sql.as_bytes(), true);
        of(&shape, &facts(sql.as_bytes(), &shape), class, false)
    }

    #[test]
    fn what_is_the_same() {
        for (sql, want) in [
            ("SELECT a FROM t", Sameness::Rows),
            ("SELECT a FROM t ORDER BY a", Sameness::Order),
            ("SELECT a FROM (SELECT a FROM t ORDER BY a) x", Sameness::Rows),
            ("SELECT a, row_number() OVER (ORDER BY a) FROM t", Sameness::Rows),
            ("SELECT a FROM t LIMIT 3", Sameness::Count),
            ("SELECT a FROM t ORDER BY a LIMIT 3", Sameness::Order),
            ("SELECT a FROM (SELECT a FROM t LIMIT 3) x ORDER BY a", Sameness::Count),
            ("SELECT a FROM t FETCH FIRST 3 ROWS ONLY", Sameness::Count),
            ("SELECT DISTINCT ON (a) a, b FROM t", Sameness::Count),
            ("(SELECT a FROM t) UNION (SELECT b FROM u) ORDER BY 1", Sameness::Order),
            ("SELECT now()", Sameness::Nothing),
            ("SELECT random(), a FROM t", Sameness::Nothing),
            ("SELECT CURRENT_USER", Sameness::Nothing),
            ("SELECT pg_sleep(1)", Sameness::Rows),
            ("EXPLAIN SELECT 1", Sameness::Nothing),
            ("SHOW search_path", Sameness::Nothing),
        ] {
            assert_eq!(said(sql, Class::Read), want, "{sql}");
        }
        assert_eq!(said("INSERT INTO t VALUES (1) RETURNING a", Class::Primary), Sameness::Count);
        assert_eq!(said("DELETE FROM t WHERE at < now()", Class::Primary), Sameness::Nothing);
        assert_eq!(said("BEGIN", Class::Primary), Sameness::Nothing);
    }

    proptest! {
        #[test]
        fn never_panics(sql in "([a-z]{1,6}|order by|limit|fetch first|distinct on|\\(|\\)|,| |;|'|\\$1){0,30}") {
            said(&sql, Class::Read);
        }
    }
}
