//! The facts of a statement: its tokens tell what it does, a parser whose relations and columns it does that to. What
//! only looks like a write, a lock or a call counts as one.

use std::borrow::Cow;

use super::call::CONSTRUCTS;
use super::effect::{self, Traces};
use super::facts::{Effect, Facts, Name};
use super::lex::{Kind, identifier};
use super::normal::{self, Tok};
use super::parse::{self, Gap};
use super::plain;
use super::shape::{Shape, Statement};
use super::walk::{self, Named};
use crate::sql::lex::Token;

/// Verbs that most statements begin with.
const COMMON: &[&str] =
    &["SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "BEGIN", "COMMIT", "ROLLBACK", "SET", "SHOW"];

/// What each statement of a string means. `text` is what `shape` was read from.
pub fn facts(text: &[u8], shape: &Shape) -> Vec<Facts> {
    shape.statements.iter().map(|statement| of(text, shape, statement)).collect()
}

/// Longest text whose traces are looked for by words; they cannot be told of longer ones.
fn of(text: &[u8], shape: &Shape, statement: &Statement) -> Facts {
    let own = &text[statement.text.start as usize..statement.text.end as usize];
    let own_normal = &shape.normal[statement.normal.start as usize..statement.normal.end as usize];
    let tokens = normal::tokens(own_normal);
    let mut facts = Facts {
        effect: Effect::Unknown,
        verb: Cow::Borrowed(""),
        traces: effect::scan(own),
        locks: false,
        cursor: false,
        relations: Vec::new(),
        calls: Vec::new(),
        fields: Vec::new(),
        operators: Vec::new(),
        predicates: Vec::new(),
        gap: None,
    };
    let lead = Lead::of(&tokens);
    facts.effect = lead.effect;
    facts.verb = lead.verb(&tokens);
    if !shape_is_sound(&tokens) {
        facts.gap = Some(Gap::Syntax);
    }
    if lead.effect == Effect::Code && lead.query.is_some() {
        call(tokens, own_normal.len(), &mut facts);
    } else if let Some(query) = lead.query {
        understand(&tokens[query..], own_normal.len(), &mut facts, lead.is_run);
    } else {
        named_after(&tokens, &lead, &mut facts);
        calls(&tokens, &Named::default(), &mut facts);
    }
    marks_from(&mut facts, statement.mark);
    facts
}

/// Parentheses that do not match were read otherwise than the server will read them.
fn shape_is_sound(tokens: &[Tok<'_>]) -> bool {
    let mut depth = 0i32;
    for t in tokens.iter().filter(|t| t.kind == Kind::Punct) {
        match t.text {
            b"(" => depth += 1,
            b")" => depth -= 1,
            _ => {}
        }
        if depth < 0 {
            return false;
        }
    }
    depth == 0
}

/// What the first words say.
struct Lead {
    effect: Effect,
    /// Where the query begins, if there is one.
    query: Option<usize>,
    /// Whether that is run.
    is_run: bool,
    words: usize,
}

const QUERIES: &[&str] = &["select", "insert", "update", "delete", "with", "values", "merge", "table"];

impl Lead {
    fn of(tokens: &[Tok<'_>]) -> Lead {
        let first = tokens.iter().position(|t| !t.is_punct(b'(')).unwrap_or(0);
        let is = |i: usize, words: &[&str]| tokens.get(i).is_some_and(|t| t.is_any(words));
        let lead = |effect, words| Lead { effect, query: None, is_run: true, words };
        let Some(word) = tokens.get(first).filter(|t| t.kind == Kind::Word) else {
            return lead(Effect::Unknown, 0);
        };
        let query = |effect, from| Lead { effect, query: Some(from), is_run: true, words: 1 };
        match word.text {
            b"select" | b"with" | b"values" | b"table" => query(Effect::Read, 0),
            _ if first > 0 => lead(Effect::Unknown, 0),
            b"insert" | b"update" | b"delete" | b"merge" => query(Effect::Write, 0),
            b"explain" => Lead::explain(tokens),
            b"begin" | b"start" | b"commit" | b"end" | b"rollback" | b"abort" | b"savepoint" | b"release" => {
                lead(Effect::Transaction, 1)
            }
            b"prepare" if is(1, &["transaction"]) => lead(Effect::Transaction, 2),
            b"set" | b"reset" | b"show" | b"discard" | b"listen" | b"unlisten" | b"notify" | b"load"
            | b"prepare" | b"deallocate" => lead(Effect::Session, 1),
            b"execute" => lead(Effect::Execute, 1),
            b"copy" => Lead::copy(tokens),
            b"declare" => Lead { query: after_for(tokens), ..lead(Effect::Cursor, 1) },
            b"fetch" | b"move" | b"close" => lead(Effect::Cursor, 1),
            b"truncate" => lead(Effect::Write, 1),
            b"create" => Lead { query: made_from(tokens), ..lead(Effect::Ddl, 2) },
            b"alter" | b"drop" | b"comment" | b"grant" | b"revoke" | b"security" | b"import"
            | b"reassign" | b"refresh" => lead(Effect::Ddl, 2),
            b"call" => query(Effect::Code, 0),
            b"do" => lead(Effect::Code, 1),
            b"vacuum" | b"analyze" | b"analyse" | b"cluster" | b"reindex" | b"checkpoint" | b"lock" => {
                lead(Effect::Utility, 1)
            }
            _ => lead(Effect::Unknown, 0),
        }
    }

    /// EXPLAIN runs what it explains only with ANALYZE.
    fn explain(tokens: &[Tok<'_>]) -> Lead {
        let found = tokens.iter().position(|t| t.is_any(QUERIES));
        let head = &tokens[..found.unwrap_or(tokens.len())];
        let runs = head.iter().any(|t| t.is_any(&["analyze", "analyse"]));
        let other = head.iter().find(|t| t.is_any(&["create", "execute", "declare", "refresh"]));
        if other.is_some() || found.is_none() {
            let effect = match other {
                Some(_) if !runs => Effect::Utility,
                Some(t) if t.is("execute") => Effect::Execute,
                Some(t) if t.is("declare") => Effect::Cursor,
                Some(_) => Effect::Ddl,
                None => Effect::Unknown,
            };
            return Lead { effect, query: None, is_run: runs, words: 1 };
        }
        let write = found.is_some_and(|i| tokens[i].is_any(&["insert", "update", "delete", "merge"]));
        let effect = if write && runs { Effect::Write } else { Effect::Read };
        let from = found
            .map(|i| head.iter().enumerate().rev().take_while(|(_, t)| t.is_punct(b'(')).count().min(i))
            .unwrap_or(0);
        Lead { effect, query: found.map(|i| i - from), is_run: runs, words: 1 }
    }

    fn copy(tokens: &[Tok<'_>]) -> Lead {
        let query = tokens.get(1).is_some_and(|t| t.is_punct(b'(')).then_some(1);
        let into = tokens.iter().any(|t| t.is("from")) && query.is_none();
        let effect = if into { Effect::CopyIn } else { Effect::CopyOut };
        Lead { effect, query, is_run: true, words: 1 }
    }

    fn verb(&self, tokens: &[Tok<'_>]) -> Cow<'static, str> {
        let words = tokens.iter().filter(|t| t.kind == Kind::Word).take(self.words.max(1));
        let verb =
            words.map(|t| String::from_utf8_lossy(t.text).to_ascii_uppercase()).collect::<Vec<_>>().join(" ");
        match COMMON.iter().find(|common| **common == verb) {
            Some(common) => Cow::Borrowed(common),
            None => Cow::Owned(verb),
        }
    }
}

/// The query of a cursor.
fn after_for(tokens: &[Tok<'_>]) -> Option<usize> {
    tokens.iter().position(|t| t.is("for")).map(|i| i + 1).filter(|i| *i < tokens.len())
}

/// The query that a table or view is made from.
fn made_from(tokens: &[Tok<'_>]) -> Option<usize> {
    let view = tokens.iter().take(6).any(|t| t.is_any(&["view", "table"]));
    let begins =
        |from: usize| tokens[from..].iter().find(|t| !t.is_punct(b'(')).is_some_and(|t| t.is_any(QUERIES));
    let found = (0..tokens.len()).find(|i| tokens[*i].is("as") && begins(i + 1));
    found.filter(|_| view).map(|i| i + 1)
}

/// CALL: what stands behind it is what could stand behind SELECT.
fn call(mut tokens: Vec<Tok<'_>>, bytes: usize, facts: &mut Facts) {
    let Some((procedure, _)) = qualified(&tokens, 1) else {
        facts.gap = Some(Gap::Syntax);
        return;
    };
    tokens[0].text = b"select";
    understand(&tokens, bytes, facts, false);
    if !facts.calls.iter().any(|call| call.name == procedure) {
        facts.call(procedure, None);
    }
}

/// A query, or what is done to tables like one.
fn understand(tokens: &[Tok<'_>], bytes: usize, facts: &mut Facts, is_run: bool) {
    let end = copied_to(tokens);
    let tokens = &tokens[..end];
    if facts.effect == Effect::Read && is_run {
        facts.effect = if writes(tokens) { Effect::Write } else { Effect::Read };
    }
    let named = match parse::within_caps(tokens, bytes) {
        Ok(()) => {
            let plain = plain::plain(tokens);
            facts.locks = plain.locks;
            facts.cursor = plain.cursor;
            facts.operators = plain.operators.iter().map(|o| String::from_utf8_lossy(o).into()).collect();
            match parse::parse(&plain.text) {
                Ok(tree) => walk::walk(&tree, facts),
                Err(gap) => {
                    facts.gap = Some(gap);
                    Named::default()
                }
            }
        }
        Err(gap) => {
            facts.gap = Some(gap);
            Named::default()
        }
    };
    if facts.gap.is_some() {
        facts.locks = tokens.iter().any(|t| t.is_any(&["share", "update"]));
        target_of(tokens, facts);
    }
    if facts.locks && facts.effect == Effect::Read && is_run {
        facts.effect = Effect::Write;
    }
    calls(tokens, &named, facts);
}

/// COPY (query) TO ...: where the query ends.
fn copied_to(tokens: &[Tok<'_>]) -> usize {
    let mut depth = 0usize;
    for (i, t) in tokens.iter().enumerate() {
        if t.is_punct(b'(') {
            depth += 1;
        } else if t.is_punct(b')') {
            depth = depth.saturating_sub(1);
            if depth == 0 && tokens.get(i + 1).is_some_and(|t| t.is("to")) {
                return i + 1;
            }
        }
    }
    tokens.len()
}

/// Whether words of a query say that it writes, as data-modifying WITH and SELECT INTO do.
fn writes(tokens: &[Tok<'_>]) -> bool {
    tokens.iter().enumerate().any(|(i, t)| {
        let before = i.checked_sub(1).map(|i| &tokens[i]);
        let qualified = before.is_some_and(|b| b.is_punct(b'.'));
        let locks = before.is_some_and(|b| b.is_any(&["for", "key"]));
        t.is_any(&["insert", "update", "delete", "merge", "into"]) && !qualified && !locks
    })
}

/// What a statement that is not parsed writes, where that stands at its beginning.
fn target_of(tokens: &[Tok<'_>], facts: &mut Facts) {
    let skip = match tokens.first() {
        Some(t) if t.is("insert") || t.is("merge") || t.is("delete") => 2,
        Some(t) if t.is("update") => 1,
        _ => return,
    };
    let skip = skip + usize::from(tokens.get(skip).is_some_and(|t| t.is("only")));
    if let Some((name, _)) = qualified(tokens, skip) {
        let relation = facts.relation(&name);
        facts.relations[relation].written = true;
    }
}

/// The relations of statements that are not queries, as far as they matter.
fn named_after(tokens: &[Tok<'_>], lead: &Lead, facts: &mut Facts) {
    let first = match lead.effect {
        Effect::CopyIn | Effect::CopyOut => 1,
        Effect::Write => 1 + usize::from(tokens.get(1).is_some_and(|t| t.is("table"))),
        _ => return,
    };
    let after_only = |at: usize| at + usize::from(tokens.get(at).is_some_and(|t| t.is("only")));
    let mut at = first;
    while let Some((name, next)) = qualified(tokens, after_only(at)) {
        let relation = facts.relation(&name);
        facts.relations[relation].written |= lead.effect != Effect::CopyOut;
        facts.relations[relation].read |= lead.effect == Effect::CopyOut;
        if !tokens.get(next).is_some_and(|t| t.is_punct(b',')) {
            break;
        }
        at = next + 1;
    }
}

/// A name that may be qualified, and what follows it.
fn qualified(tokens: &[Tok<'_>], at: usize) -> Option<(Name, usize)> {
    let part = |i: usize| tokens.get(i).and_then(name);
    let (mut name, mut schema, mut next) = (part(at)?, None, at + 1);
    while tokens.get(next).is_some_and(|t| t.is_punct(b'.')) {
        schema = Some(std::mem::replace(&mut name, part(next + 1)?));
        next += 2;
    }
    Some((Name { schema, name }, next))
}

fn name(tok: &Tok<'_>) -> Option<Box<str>> {
    let whole = Token { kind: tok.kind, start: 0, end: tok.text.len() };
    identifier(tok.text, &whole).map(|name| String::from_utf8_lossy(&name).into())
}

/// Words that may stand before a parenthesis without calling anything.
const NO_CALLS: &[&str] = &[
    "all",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "between",
    "bit",
    "by",
    "case",
    "cast",
    "char",
    "character",
    "coalesce",
    "cross",
    "cube",
    "dec",
    "decimal",
    "desc",
    "distinct",
    "else",
    "end",
    "except",
    "exists",
    "explain",
    "fetch",
    "filter",
    "first",
    "float",
    "for",
    "from",
    "full",
    "greatest",
    "group",
    "having",
    "ilike",
    "in",
    "inner",
    "insert",
    "intersect",
    "interval",
    "into",
    "is",
    "join",
    "lateral",
    "least",
    "like",
    "limit",
    "materialized",
    "national",
    "nchar",
    "not",
    "nullif",
    "numeric",
    "offset",
    "on",
    "operator",
    "or",
    "order",
    "ordinality",
    "over",
    "partition",
    "precision",
    "range",
    "references",
    "returning",
    "rollup",
    "row",
    "select",
    "set",
    "sets",
    "similar",
    "some",
    "symmetric",
    "then",
    "time",
    "timestamp",
    "to",
    "union",
    "using",
    "values",
    "varchar",
    "varying",
    "when",
    "where",
    "with",
    "within",
    "grouping",
    "variadic",
    "only",
    "key",
    "conflict",
    "xmlattributes",
    "columns",
    "passing",
    "recursive",
    "next",
    "rows",
    "groups",
    "window",
    "update",
    "do",
    "nothing",
    "merge",
    "matched",
    "source",
];

/// Functions that are called without parentheses.
const BARE: &[&str] = &[
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "localtime",
    "localtimestamp",
    "session_user",
    "user",
];

/// Names before parentheses, as calls, unless the tree knows them as something else.
fn calls(tokens: &[Tok<'_>], named: &Named, facts: &mut Facts) {
    for (i, t) in tokens.iter().enumerate() {
        if !matches!(t.kind, Kind::Word | Kind::Quoted) {
            continue;
        }
        let qualified = i >= 2 && tokens[i - 1].is_punct(b'.');
        if !qualified && t.is_any(BARE) && !tokens.get(i + 1).is_some_and(|t| t.is_punct(b'.')) {
            facts.call(Name { schema: None, name: String::from_utf8_lossy(t.text).into() }, Some(0));
            continue;
        }
        let called = tokens.get(i + 1).is_some_and(|t| t.is_punct(b'('));
        if !called || !qualified && (t.is_any(NO_CALLS) || t.is_any(CONSTRUCTS)) {
            continue;
        }
        let Some(name) = name(t) else { continue };
        if named.names.contains(&*name) {
            continue;
        }
        let schema = qualified.then(|| self::name(&tokens[i - 2])).flatten();
        let known = |c: &super::facts::Call| c.name.name == name && c.name.schema == schema;
        // The tree knows it with its arguments.
        if !facts.calls.iter().any(known) {
            facts.call(Name { schema, name }, None);
        }
    }
}

/// Marks are counted from the whole string's first.
fn marks_from(facts: &mut Facts, first: u32) {
    use super::facts::Operand;
    for operand in facts.predicates.iter_mut().flat_map(|p| &mut p.operands) {
        if let Operand::Mark(mark) = operand {
            *mark += first;
        }
    }
}

/// Whether a statement's facts say that nothing it does can be missed on another server: it reads, and what it reads is
/// known. What its functions do is for the catalog to say.
pub fn is_plain_read(facts: &Facts) -> bool {
    let lasting = facts.traces.any(Traces::ASKABLE.and(Traces::CERTAIN));
    facts.effect == Effect::Read && facts.gap.is_none() && !facts.locks && !facts.cursor && !lasting
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::facts::{Operand, Roles};

    fn read(sql: &str) -> Facts {
        let mut shape = Shape::default();
        shape.read(sql.as_bytes(), true);
        let mut all = facts(sql.as_bytes(), &shape);
        assert_eq!(all.len(), 1, "{sql}");
        all.remove(0)
    }

    fn relations(facts: &Facts) -> Vec<String> {
        let way = |r: &crate::sql::facts::Relation| match (r.read, r.written) {
            (true, true) => "rw",
            (_, true) => "w",
            _ => "r",
        };
        facts.relations.iter().map(|r| format!("{}:{}", r.name, way(r))).collect()
    }

    #[test]
    fn what_statements_do() {
        let check = |sql: &str, effect: Effect| assert_eq!(read(sql).effect, effect, "{sql}");
        for sql in [
            "SELECT 1",
            "(SELECT 1)",
            "VALUES (1)",
            "TABLE t",
            "WITH x AS (SELECT 1) TABLE x",
            "EXPLAIN SELECT 1",
            "EXPLAIN INSERT INTO t VALUES (1)",
            "EXPLAIN (ANALYZE, COSTS off) SELECT 1",
        ] {
            check(sql, Effect::Read);
        }
        for sql in [
            "INSERT INTO t VALUES (1)",
            "WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x",
            "SELECT 1 INTO t",
            "SELECT * FROM t FOR UPDATE",
            "SELECT * FROM t FOR NO KEY UPDATE OF t SKIP LOCKED",
            "SELECT * FROM t FOR KEY SHARE",
            "EXPLAIN ANALYZE INSERT INTO t VALUES (1)",
            "TRUNCATE t",
            "SELECT * FROM (SELECT * FROM t FOR SHARE) x",
        ] {
            check(sql, Effect::Write);
        }
        check("BEGIN", Effect::Transaction);
        check("COPY t FROM STDIN", Effect::CopyIn);
        check("COPY (SELECT * FROM t) TO STDOUT", Effect::CopyOut);
        check("CREATE TABLE t AS SELECT * FROM u", Effect::Ddl);
        check("DECLARE c CURSOR FOR SELECT 1", Effect::Cursor);
        check("DO $$ BEGIN END $$", Effect::Code);
        check("SHOW work_mem", Effect::Session);
        check("NONSENSE", Effect::Unknown);
    }

    #[test]
    fn what_they_do_it_to() {
        let check = |sql: &str, want: &[&str]| {
            let facts = read(sql);
            assert_eq!(
                (relations(&facts).as_slice(), facts.gap),
                (want.iter().map(|w| (*w).to_string()).collect::<Vec<_>>().as_slice(), None),
                "{sql}"
            );
        };
        check("SELECT * FROM t JOIN s.u ON t.a = u.a", &["t:r", "s.u:r"]);
        check("WITH t AS (SELECT * FROM t) SELECT * FROM t", &["t:r"]);
        check("WITH RECURSIVE t AS (SELECT 1 UNION SELECT * FROM t) SELECT * FROM t", &[]);
        check(
            "WITH x AS (INSERT INTO t SELECT * FROM u RETURNING *) SELECT * FROM x, \"V\"",
            &["t:w", "u:r", "V:r"],
        );
        check("UPDATE t SET a = 1 FROM u WHERE t.b = u.b", &["t:rw", "u:r"]);
        check(
            "DELETE FROM ONLY t USING u WHERE t.b = u.b AND EXISTS (SELECT FROM w)",
            &["t:rw", "u:r", "w:r"],
        );
        check(
            "INSERT INTO t AS x (a) VALUES (1) ON CONFLICT (lower(a)) WHERE b DO UPDATE SET a = excluded.a",
            &["t:w"],
        );
        check("COPY s.t (a, b) FROM STDIN", &["s.t:w"]);
        check("TRUNCATE TABLE a, s.b CASCADE", &["a:w", "s.b:w"]);
        check("SELECT * FROM f(1) AS (a int), ROWS FROM (g(1), h(2)) x", &[]);
    }

    #[test]
    fn columns_and_what_they_are_used_for() {
        let facts = read(
            "SELECT o.a FROM orders o JOIN u ON o.u = u.id WHERE o.b = $1 AND o.c IN (1, 2) AND o.d > 3 ORDER BY o.e",
        );
        let orders = &facts.relations[0];
        let roles = |name: &str| {
            orders.columns.iter().find(|(c, _)| &**c == name).map(|(_, r)| *r).unwrap_or_default()
        };
        assert!(roles("b").any(Roles::EQUAL) && roles("c").any(Roles::EQUAL));
        assert!(roles("d").any(Roles::RANGE) && roles("e").any(Roles::SORT) && roles("u").any(Roles::JOIN));
        let shown: Vec<_> = facts.predicates.iter().map(|p| (&*p.column, p.operands.to_vec())).collect();
        assert_eq!(shown, [("b", vec![Operand::Param(1)]), ("c", vec![Operand::Mark(0)])]);
    }

    #[test]
    fn rows_that_are_inserted_have_predicates_too() {
        let facts = read("INSERT INTO t (a, b) VALUES (1, now()), (2, now())");
        assert_eq!(facts.predicates.len(), 1);
        assert_eq!(
            (&*facts.predicates[0].column, facts.predicates[0].operands.as_slice()),
            ("a", &[Operand::Mark(0)][..])
        );
        assert!(read("SELECT * FROM t a, t b WHERE a.x = 1").predicates.is_empty());
        assert!(read("SELECT * FROM t WHERE x = 1 OR y = 2").predicates.is_empty());
    }

    #[test]
    fn what_they_call() {
        let names = |sql: &str| {
            let mut names: Vec<String> = read(sql).calls.iter().map(|c| c.name.to_string()).collect();
            names.sort();
            names
        };
        assert_eq!(names("SELECT f(1), s.g(2, 3), count(*) FROM h(4)"), ["count", "f", "h", "s.g"]);
        assert_eq!(
            names("SELECT a::varchar(10) FROM t AS t (a) WHERE a IN (1) AND current_user = 'x'"),
            ["current_user"]
        );
        assert_eq!(names("INSERT INTO t (a) VALUES (1) ON CONFLICT (f(a)) DO NOTHING"), ["f"]);
        assert_eq!(names("SELECT \"F\"(1)"), ["F"]);
        assert_eq!(names("WITH x (a) AS (SELECT nextval('s')) SELECT * FROM x y (b)"), ["nextval"]);
    }

    #[test]
    fn what_is_too_much_is_a_gap() {
        let gap = |sql: String| read(&sql).gap;
        assert_eq!(gap(format!("SELECT 1{}", "+1".repeat(50_000))), Some(Gap::Long));
        assert_eq!(gap(format!("SELECT 1{}", "+1".repeat(1_000))), Some(Gap::Chain));
        assert_eq!(gap(format!("SELECT {}1{}", "(".repeat(500), ")".repeat(500))), Some(Gap::Deep));
        assert_eq!(gap(vec!["SELECT 1"; 10_000].join(" UNION ")), Some(Gap::Long));
        assert_eq!(gap(format!("SELECT {}", vec!["a"; 5_000].join(","))), None);
        let facts = read(&format!("INSERT INTO s.t VALUES {}", vec!["(1, 'x')"; 100_000].join(",")));
        assert_eq!((facts.gap, relations(&facts)), (None, vec!["s.t:w".to_string()]));
    }
}
