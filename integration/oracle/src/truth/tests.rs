//! Truth on statements that are easily misread.

use super::*;

/// The only statement of `sql`, in one line: what it is and does, functions, relations read, relations written.
fn shown(sql: &str) -> String {
    let truth = Truth::of(sql.as_bytes()).expect(sql);
    let lines: Vec<String> = truth.statements.iter().map(line).collect();
    lines.join("; ")
}

fn line(s: &Statement) -> String {
    let mut words = vec![s.kind.clone()];
    words.extend(s.writes.then(|| "writes".to_owned()));
    words.extend(s.locks.then(|| "locks".to_owned()));
    let sets = [("f", &s.functions), ("r", &s.relations_read), ("w", &s.relations_written)];
    for (letter, set) in sets.into_iter().filter(|(_, set)| !set.is_empty()) {
        words.push(format!("{letter}={}", set.iter().cloned().collect::<Vec<_>>().join(",")));
    }
    words.join(" ")
}

fn check(cases: &[(&str, &str)]) {
    for (sql, want) in cases {
        assert_eq!(shown(sql), *want, "{sql}");
    }
}

#[test]
fn writes_are_found_wherever_they_are() {
    check(&[
        ("SELECT 1", "SelectStmt"),
        ("WITH d AS (DELETE FROM s.t RETURNING *) SELECT * FROM d", "SelectStmt writes w=s.t"),
        ("WITH a AS (SELECT 1), b AS (UPDATE t SET x = f(y) FROM a) TABLE a", "SelectStmt writes f=f w=t"),
        ("SELECT * INTO n FROM o", "SelectStmt writes r=o w=n"),
        ("(SELECT a INTO n FROM o UNION SELECT b FROM p) ORDER BY 1", "SelectStmt writes r=o,p w=n"),
        ("CREATE TABLE n AS SELECT now() FROM o", "CreateTableAsStmt writes f=now r=o w=n"),
        ("CREATE TEMP TABLE n AS EXECUTE p", "CreateTableAsStmt writes w=n"),
        ("EXPLAIN ANALYZE INSERT INTO t VALUES (1)", "ExplainStmt writes w=t"),
        ("EXPLAIN (ANALYZE off) INSERT INTO t VALUES (1)", "ExplainStmt w=t"),
        ("EXPLAIN (ANALYZE off, ANALYZE) INSERT INTO t VALUES (1)", "ExplainStmt writes w=t"),
        ("EXPLAIN DELETE FROM t", "ExplainStmt w=t"),
        ("COPY t FROM STDIN", "CopyStmt writes w=t"),
        ("COPY t TO STDOUT", "CopyStmt r=t"),
        ("COPY (INSERT INTO t VALUES (1) RETURNING a) TO STDOUT", "CopyStmt writes w=t"),
        ("COPY t TO '/tmp/t'", "CopyStmt writes r=t"),
        ("PREPARE p AS INSERT INTO t VALUES ($1)", "PrepareStmt writes w=t"),
        ("MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE", "MergeStmt writes r=u w=t"),
        ("DO 'BEGIN END'", "DoStmt writes"),
        ("CALL s.p(f(1))", "CallStmt writes f=f,s.p"),
        ("COMMIT PREPARED 'x'", "TransactionStmt writes"),
        ("BEGIN; SET a = 1; COMMIT", "TransactionStmt; VariableSetStmt; TransactionStmt"),
    ]);
}

#[test]
fn locks_are_found_wherever_they_are() {
    check(&[
        ("SELECT * FROM t FOR UPDATE", "SelectStmt locks r=t"),
        ("SELECT * FROM (SELECT * FROM t FOR NO KEY UPDATE OF t SKIP LOCKED) x", "SelectStmt locks r=t"),
        ("SELECT 1 WHERE EXISTS (SELECT FROM t AS x FOR KEY SHARE OF x)", "SelectStmt locks r=t"),
        ("DECLARE c CURSOR FOR SELECT * FROM t FOR SHARE", "DeclareCursorStmt locks r=t"),
        ("EXPLAIN SELECT * FROM t FOR UPDATE", "ExplainStmt r=t"),
        ("LOCK TABLE a, ONLY b.c IN SHARE MODE", "LockStmt locks r=a,b.c"),
    ]);
}

#[test]
fn functions_are_found_wherever_they_are() {
    check(&[
        ("CREATE TABLE t (a int DEFAULT f(), CHECK (s.g(a)))", "CreateStmt writes f=f,s.g w=t"),
        ("ALTER TABLE t ADD c int DEFAULT \"F\"(1)", "AlterTableStmt writes f=\"F\" w=t"),
        ("SELECT a FROM f(1) WITH ORDINALITY, ROWS FROM (g(), h())", "SelectStmt f=f,g,h"),
        ("SELECT sum(x) OVER (ORDER BY g(y)) FILTER_ FROM t", "SelectStmt f=g,sum r=t"),
        ("SELECT EXTRACT(year FROM a), b LIKE 'x' ESCAPE 'y', trim(c) FROM t", "SelectStmt r=t"),
        ("SELECT pg_catalog.btrim(c), \"pg_catalog\".f()", "SelectStmt f=pg_catalog.btrim,pg_catalog.f"),
        ("EXECUTE p(f(1))", "ExecuteStmt f=f"),
    ]);
}

#[test]
fn common_table_expressions_are_no_relations() {
    check(&[
        ("WITH t AS (SELECT * FROM t) SELECT * FROM t", "SelectStmt r=t"),
        ("WITH RECURSIVE t AS (SELECT * FROM t) SELECT * FROM t", "SelectStmt"),
        ("WITH t AS (SELECT 1) SELECT * FROM s.t, (SELECT * FROM t) x", "SelectStmt r=s.t"),
        ("SELECT * FROM (WITH t AS (SELECT 1) TABLE t) x, t", "SelectStmt r=t"),
        ("WITH t AS (SELECT 1) INSERT INTO t SELECT * FROM t", "InsertStmt writes w=t"),
    ]);
}

#[test]
fn definitions_write_what_they_name() {
    check(&[
        ("CREATE VIEW v AS SELECT * FROM t", "ViewStmt writes r=t w=v"),
        ("CREATE TABLE a (LIKE b, c int REFERENCES d) INHERITS (e)", "CreateStmt writes r=b,d,e w=a"),
        ("DROP TABLE s.a, b", "DropStmt writes w=b,s.a"),
        ("DROP TRIGGER x ON s.a", "DropStmt writes w=s.a"),
        ("DROP FUNCTION f(int)", "DropStmt writes"),
        ("COMMENT ON COLUMN a.b IS ''", "CommentStmt writes w=a"),
        ("CREATE TYPE p AS (a int)", "CompositeTypeStmt writes"),
        ("SET CONSTRAINTS a, s.b DEFERRED", "ConstraintsSetStmt"),
        (
            "CREATE SCHEMA s CREATE TABLE t (a int) CREATE VIEW v AS TABLE u",
            "CreateSchemaStmt writes r=u w=t,v",
        ),
        ("TRUNCATE a, b", "TruncateStmt writes w=a,b"),
        ("GRANT SELECT ON a TO b", "GrantStmt writes w=a"),
    ]);
}

#[test]
fn what_postgres_rejects_has_no_truth() {
    assert!(Truth::of(b"SELEC 1").is_err());
    assert!(Truth::of(b"SELECT '\xff'").is_err());
    assert_eq!(Truth::of(b" -- nothing\n").map(|t| t.statements.len()), Ok(0));
}

#[test]
fn deep_trees_are_read() {
    let sql = format!("SELECT f() FROM t WHERE {}", vec!["a"; 500].join(" || "));
    let deep = std::thread::Builder::new().stack_size(crate::STACK).spawn(move || shown(&sql));
    assert_eq!(deep.expect("a thread").join().ok().as_deref(), Some("SelectStmt f=f r=t"));
}
