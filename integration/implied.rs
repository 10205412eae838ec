//! What statements call without naming it: domains' constraints and defaults, operators, casts, aggregates, and what
//! functions call that promise to write nothing. All of that is the primary's, and what it writes counts.

use tokio_postgres::Client;

use crate::caching::{Bed, EXACT, keep};
use crate::harness::{rows, value};

/// `wr` writes to `log`.
const WRITER: &str = "
    CREATE TABLE log (id int);
    CREATE FUNCTION wr(int) RETURNS int LANGUAGE plpgsql AS
        'BEGIN INSERT INTO public.log VALUES ($1); RETURN 1; END';";

const LOGGED: &str = "SELECT count(*) FROM log";

async fn class(client: &Client, sql: &str) -> String {
    let lines = rows(client, &format!("EXPLAIN (ROUTE) {sql}")).await;
    lines.iter().flatten().map(|line| line.trim()).collect::<Vec<_>>().join("\n")
}

/// Each of them writes to `log`: it is the primary's, and what is kept of `log` is outdated.
async fn all_write(bed: &Bed, client: &Client, statements: &[&str]) {
    for (n, sql) in statements.iter().enumerate() {
        // Being kept takes that the catalog is read again: not before each.
        if n < 2 || !sql.starts_with("SELECT") {
            keep(client, LOGGED).await;
        }
        let said = class(client, sql).await;
        client.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        assert_eq!(value(client, LOGGED).await, bed.db.psql(LOGGED), "{sql}: {said}");
        assert!(said.contains("Class: primary"), "{sql}: {said}");
    }
}

/// A bed with these objects, once they are known.
async fn bed(objects: &str) -> (Bed, Client) {
    let (bed, client) = Bed::new(EXACT).await;
    client.batch_execute(&format!("{WRITER}{objects}; CREATE TABLE known (n int)")).await.expect("made");
    keep(&client, "SELECT n FROM known").await;
    (bed, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_domains_call_is_called() {
    let (bed, client) = bed("
        CREATE FUNCTION chk(i int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN PERFORM wr(i); RETURN true; END';
        CREATE DOMAIN dom AS int CHECK (chk(VALUE));
        CREATE DOMAIN \"Over\" AS dom;
        CREATE DOMAIN given AS int DEFAULT wr(7);
        CREATE DOMAIN mail AS text CHECK (VALUE ~ '^[^@]+@[^@]+$' AND length(VALUE) < 100);
        CREATE DOMAIN few AS int CHECK (VALUE = ANY (ARRAY[1, 2]) AND VALUE BETWEEN 0 AND 9);
        CREATE TYPE pair AS (a int, d dom);
        CREATE TABLE td (d dom); CREATE TABLE tdd (id int, g given); CREATE TABLE pairs (p pair[]);
        CREATE TABLE people (id int, m mail, f few);
        CREATE FUNCTION made(int) RETURNS dom LANGUAGE sql STABLE AS 'SELECT $1';
        CREATE FUNCTION made_of(int) RETURNS int LANGUAGE plpgsql STABLE AS 'DECLARE d dom := $1; BEGIN RETURN d; END';
        CREATE FUNCTION made_rows(int) RETURNS TABLE (d dom) LANGUAGE plpgsql STABLE AS
            'BEGIN d := $1; RETURN NEXT; END';
        CREATE VIEW seen AS SELECT id::dom FROM other;
        CREATE VIEW way AS SELECT d FROM td")
    .await;
    let statements = [
        "SELECT 1::dom",
        "SELECT CAST(1 AS dom)",
        "SELECT dom '1'",
        "SELECT dom(1)",
        "SELECT 1::\"Over\"",
        "SELECT '{1}'::dom[]",
        "SELECT '(1,2)'::pair",
        "SELECT ROW(1, 2)::pair",
        "SELECT * FROM jsonb_to_record('{\"d\": 1}') AS x (d dom)",
        "SELECT * FROM jsonb_populate_record(NULL::td, '{\"d\": 1}')",
        "SELECT * FROM seen",
        "SELECT made(1)",
        "SELECT made_of(1)",
        "SELECT * FROM made_rows(1)",
        "INSERT INTO td VALUES (1)",
        "INSERT INTO way VALUES (1)",
        "INSERT INTO pairs VALUES (ARRAY[ROW(1, 2)::pair])",
        "UPDATE td SET d = 2",
        "SELECT coalesce(d, '5') FROM td LIMIT 1",
        "INSERT INTO tdd (id) VALUES (1)",
    ];
    all_write(&bed, &client, &statements).await;
    for sql in [
        "SELECT m, f FROM people WHERE m = 'a@b' AND f = 1",
        "SELECT 'a@b'::mail, 1::few FROM people",
        "SELECT id FROM tdd",
    ] {
        let said = class(&client, sql).await;
        assert!(said.contains("Class: read"), "{sql}: {said}");
    }
    keep(&client, "SELECT m, f FROM people").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_that_words_stand_for() {
    let (bed, client) = bed("
        CREATE FUNCTION wr2(int, int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN PERFORM wr($1); RETURN true; END';
        CREATE OPERATOR ~~ (LEFTARG = int, RIGHTARG = int, FUNCTION = wr2);
        CREATE OPERATOR !~~* (LEFTARG = int, RIGHTARG = int, FUNCTION = wr2)")
    .await;
    all_write(&bed, &client, &["SELECT 1 ~~ 2", "SELECT 1 LIKE 2", "SELECT 1 NOT ILIKE 2"]).await;
    assert!(class(&client, "SELECT 'a' SIMILAR TO 'b' FROM kv").await.contains("Class: read"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_functions_call_that_promise_to_write_nothing() {
    let (bed, client) = bed("
        CREATE FUNCTION st() RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN Wr(1); END';
        CREATE FUNCTION im() RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN st() + 1; END';
        CREATE FUNCTION ex() RETURNS int LANGUAGE plpgsql STABLE AS
            'DECLARE n int; BEGIN EXECUTE ''SELECT w'' || ''r(1)'' INTO n; RETURN n; END';
        CREATE VIEW writing AS SELECT wr(1) AS n;
        CREATE FUNCTION vw() RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT n FROM writing); END';
        CREATE FUNCTION harmless(int) RETURNS int LANGUAGE plpgsql STABLE AS
            'DECLARE wr int := 1; BEGIN RETURN (SELECT count(*) FROM other WHERE id = abs($1)) + wr; END'")
    .await;
    all_write(
        &bed,
        &client,
        &["SELECT st()", "SELECT im()", "SELECT ex()", "SELECT vw()", "UPDATE other SET id = st()"],
    )
    .await;
    let said = class(&client, "SELECT harmless(1)").await;
    assert!(said.contains("Class: read"), "{said}");
    // What a server says of itself.
    for setting in ["transaction_read_only", "in_hot_standby"] {
        let said = class(&client, &format!("SELECT current_setting('{setting}')")).await;
        assert!(said.contains("Class: primary"), "{setting}: {said}");
    }
    let said = class(&client, "SELECT current_setting('app.tenant', true)").await;
    assert!(said.contains("Class: read"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_look_for_names_elsewhere() {
    let (bed, client) = bed("
        CREATE SCHEMA apart;
        CREATE FUNCTION calm(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
        CREATE FUNCTION apart.calm(int) RETURNS int LANGUAGE sql AS 'SELECT public.wr($1)';
        CREATE FUNCTION other_way() RETURNS int LANGUAGE sql STABLE SET search_path = apart AS 'SELECT calm(1)';
        CREATE FUNCTION own_way() RETURNS int LANGUAGE sql STABLE SET search_path = public AS 'SELECT calm(1)'")
    .await;
    all_write(&bed, &client, &["SELECT other_way()"]).await;
    let said = class(&client, "SELECT own_way()").await;
    assert!(said.contains("Class: read"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_casts_and_aggregates_call() {
    for (objects, statements) in [
        (
            "CREATE FUNCTION op(int, int) RETURNS int LANGUAGE sql STABLE AS 'SELECT wr($1)';
             CREATE OPERATOR @@@ (LEFTARG = int, RIGHTARG = int, FUNCTION = op);
             CREATE FUNCTION im(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT op($1, $2)';
             CREATE OPERATOR @@! (LEFTARG = int, RIGHTARG = int, FUNCTION = im);
             CREATE FUNCTION step(int, int) RETURNS int LANGUAGE sql STABLE AS 'SELECT wr($2)';
             CREATE AGGREGATE agg (int) (SFUNC = step, STYPE = int, INITCOND = 0)",
            &["SELECT 1 @@@ 2", "SELECT 1 @@! 2", "SELECT agg(id) FROM other"][..],
        ),
        (
            "CREATE TYPE mood AS (n int);
             CREATE FUNCTION turn(mood) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT wr($1.n)';
             CREATE CAST (mood AS int) WITH FUNCTION turn(mood)",
            &["SELECT ROW(1)::mood::int"],
        ),
    ] {
        // Once there is such a cast, nothing is kept any more.
        let (bed, client) = Bed::new(EXACT).await;
        client.batch_execute(&format!("{WRITER}{objects}")).await.expect("made");
        for sql in statements {
            let began = std::time::Instant::now();
            let mut said = class(&client, sql).await;
            while !said.contains("wr is volatile") {
                assert!(began.elapsed().as_secs() < 30, "{sql}: {said}");
                said = class(&client, sql).await;
            }
            assert!(said.contains("Class: primary"), "{sql}: {said}");
            client.batch_execute(sql).await.expect("run");
            assert_eq!(value(&client, LOGGED).await, bed.db.psql(LOGGED), "{sql}: {said}");
        }
    }
}
