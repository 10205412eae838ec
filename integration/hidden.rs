//! What statements leave behind without saying so: by function calls of the protocol, by views, operators and defaults, in
//! names that are spelt oddly, in what was prepared under other settings. It is its session's, and nobody else's.

use std::time::Duration;

use crate::harness::raw::{Frame, Raw, bind, close, describe, execute, msg, parse, query, sync};
use crate::harness::{Db, Proxy, ProxyOptions, eventually, pg, value};

fn bed(size: u32) -> (Db, Proxy) {
    let db = Db::new();
    let proxy = Proxy::start(&db, ProxyOptions { pool: format!("size = {size}"), ..Default::default() });
    (db, proxy)
}

fn login(db: &Db, proxy: &Proxy) -> Raw {
    Raw::login(proxy.port, &db.user, &db.password, &db.name)
}

/// FunctionCall with all in text.
fn function_call(oid: u32, arguments: &[&str]) -> Vec<u8> {
    let mut body = oid.to_be_bytes().to_vec();
    body.extend(0u16.to_be_bytes());
    body.extend((arguments.len() as u16).to_be_bytes());
    for argument in arguments {
        body.extend((argument.len() as u32).to_be_bytes());
        body.extend(argument.as_bytes());
    }
    body.extend(0u16.to_be_bytes());
    msg(b'F', body)
}

/// What a batch is answered with: values, and SQLSTATEs of errors.
fn said(frames: &[Frame]) -> Vec<String> {
    frames
        .iter()
        .filter_map(|frame| match frame.kind {
            b'D' => Some(frame.column()),
            b'E' => Some(frame.field(b'C')),
            _ => None,
        })
        .collect()
}

fn ask(client: &mut Raw, batch: &[Vec<u8>]) -> Vec<String> {
    client.send(batch.concat());
    said(&client.until_ready(1))
}

/// Prepares under a name and runs once.
fn prepared(name: &str, sql: &str) -> [Vec<u8>; 4] {
    [parse(name, sql), bind("", name, &[]), execute("", 0), sync()]
}

#[test]
fn function_calls_of_the_protocol() {
    let (db, proxy) = bed(1);
    let role = db.role("other");
    db.psql(&format!("GRANT {role} TO {}", db.user));
    let (mut a, mut b) = (login(&db, &proxy), login(&db, &proxy));
    for (name, want) in [("work_mem", "66MB"), ("role", role.as_str()), ("my.own", "x")] {
        let (mut a, before) =
            (login(&db, &proxy), b.value(&format!("SELECT current_setting('{name}', true)")));
        a.send(function_call(2078, &[name, want, "f"]));
        a.until_ready(1);
        // One that is not there is empty from then on, as everywhere.
        let before = if name.contains('.') { String::new() } else { before };
        assert_eq!(b.value(&format!("SELECT current_setting('{name}', true)")), before, "{name}");
        assert_eq!(a.value(&format!("SELECT current_setting('{name}', true)")), want);
        drop(a);
        assert_eq!(b.value(&format!("SELECT current_setting('{name}', true)")), before, "{name}, afterwards");
    }
    // A large object's functions leave nothing.
    a.query("BEGIN");
    a.send(function_call(957, &["-1"]));
    a.until_ready(1);
    a.query("COMMIT");
    assert_eq!(b.value("SELECT 1"), "1");
}

#[test]
fn locks_that_function_calls_take() {
    let (db, proxy) = bed(2);
    let (mut a, mut b) = (login(&db, &proxy), login(&db, &proxy));
    a.send(function_call(2880, &["4711"]));
    a.until_ready(1);
    for _ in 0..5 {
        assert_eq!(b.value("SELECT pg_try_advisory_lock(4711)"), "f");
    }
    drop(a);
    eventually("it is free", || b.value("SELECT pg_try_advisory_lock(4711)") == "t");
}

/// Statements that set without naming what does it.
#[test]
fn what_is_reached_without_a_name() {
    let (db, proxy) = bed(1);
    let role = db.role("member");
    db.psql(&format!(
        r#"GRANT {role} TO {user};
        CREATE FUNCTION setr(v text) RETURNS text LANGUAGE plpgsql AS
            $$BEGIN PERFORM set_config('role', '{role}', false); RETURN v; END$$;
        CREATE FUNCTION ok(v text) RETURNS boolean LANGUAGE plpgsql AS
            $$BEGIN PERFORM set_config('role', '{role}', false); RETURN true; END$$;
        CREATE FUNCTION to_b(v point) RETURNS text LANGUAGE sql AS $$SELECT setr('x')$$;
        CREATE VIEW by_view AS SELECT set_config('role', '{role}', false);
        CREATE VIEW by_function AS SELECT setr('x');
        CREATE VIEW by_views AS SELECT * FROM by_function;
        CREATE TABLE defaults (a int, b text DEFAULT set_config('role', '{role}', false));
        CREATE TABLE checks (a text CHECK (setr(a) IS NOT NULL));
        CREATE TABLE parts (a int, b text) PARTITION BY LIST (a);
        CREATE TABLE part PARTITION OF parts (CHECK (setr(b) IS NOT NULL)) FOR VALUES IN (1);
        CREATE DOMAIN dom AS text CHECK (ok(VALUE));
        CREATE TABLE domains (a dom);
        CREATE OPERATOR #### (FUNCTION = setr, RIGHTARG = text);
        CREATE AGGREGATE agg (text) (SFUNC = sf, STYPE = text);
        CREATE CAST (point AS text) WITH FUNCTION to_b(point);
        CREATE TABLE rules (a int);
        CREATE RULE r AS ON INSERT TO rules DO ALSO SELECT setr('x');
        CREATE TABLE policies (a text);
        ALTER TABLE policies ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON policies USING (ok(a));
        INSERT INTO policies VALUES ('x');
        ALTER TABLE policies FORCE ROW LEVEL SECURITY;
        GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;"#,
        user = db.user,
    )
    .replace(
        "CREATE AGGREGATE agg",
        "CREATE FUNCTION sf(s text, v text) RETURNS text LANGUAGE sql AS $$SELECT setr(v)$$; CREATE AGGREGATE agg",
    ));
    let mut b = login(&db, &proxy);
    let before = b.value("SELECT current_user");
    // What is in the database is known a moment after it is first asked for.
    std::thread::sleep(Duration::from_secs(1));
    for sql in [
        "TABLE by_view",
        "PREPARE p AS TABLE by_view; EXECUTE p",
        "COPY (SELECT * FROM by_view) TO STDOUT",
        "SELECT * FROM by_function",
        "TABLE by_views",
        "INSERT INTO defaults VALUES (1)",
        "INSERT INTO checks VALUES ('x')",
        "INSERT INTO parts VALUES (1, 'x')",
        "SELECT 'x'::dom",
        "INSERT INTO domains VALUES ('x')",
        "SELECT #### 'x'",
        "SELECT agg('x')",
        "SELECT '(1,2)'::point::text",
        "INSERT INTO rules VALUES (1)",
        "SELECT query_to_xml('SELECT set_' || 'config(''role'', ''member'', false)', true, true, '')",
        "SELECT U&\"set_confi\\0067\"('role', 'member', false)",
        "SET U&\"rol\\0065\" = 'member'",
        "DO $$BEGIN EXECUTE 'SET ROLE member'; END$$",
    ] {
        let mut a = login(&db, &proxy);
        let sql = sql.replace("member", &role);
        assert_eq!(a.value("SELECT current_user"), before);
        let errors: Vec<String> =
            a.query(&sql).iter().filter(|f| f.kind == b'E').map(|f| f.field(b'M')).collect();
        assert!(errors.is_empty(), "{sql}: {errors:?}");
        assert_eq!(b.value("SELECT current_user"), before, "{sql}");
        assert_eq!(a.value("SELECT current_user"), role, "{sql}: it is its own");
        drop(a);
        assert_eq!(b.value("SELECT current_user"), before, "{sql}, afterwards");
    }
}

/// What a prepared statement reads is another view by now.
#[test]
fn what_a_view_has_become() {
    let (db, proxy) = bed(1);
    db.psql("CREATE VIEW v AS SELECT 'x'::text AS a; GRANT ALL ON v TO PUBLIC");
    let (mut a, mut b) = (login(&db, &proxy), login(&db, &proxy));
    assert_eq!(ask(&mut a, &prepared("p", "SELECT * FROM v")), ["x"]);
    b.query("CREATE OR REPLACE VIEW v AS SELECT set_config('work_mem', '66MB', false) AS a");
    db.psql("CREATE OR REPLACE VIEW v AS SELECT set_config('work_mem', '66MB', false) AS a");
    b.query("CREATE TABLE of_its_own (a int); DROP TABLE of_its_own");
    std::thread::sleep(Duration::from_secs(1));
    let run = [bind("", "p", &[]), execute("", 0), sync()];
    assert_eq!(ask(&mut a, &run), ["66MB"]);
    assert_eq!(b.value("SHOW work_mem"), "4MB");
    assert_eq!(a.value("SHOW work_mem"), "66MB");
}

/// One text, prepared by sessions that read it differently.
#[test]
fn a_text_is_what_its_session_reads() {
    let (db, proxy) = bed(2);
    for (set, sql, one, other) in [
        ("TimeZone", "SELECT extract(epoch FROM timestamptz '2021-01-01 00:00')::int", "UTC", "Asia/Tokyo"),
        ("DateStyle", "SELECT extract(month FROM date '01/02/2021')::int", "ISO, MDY", "ISO, DMY"),
        ("standard_conforming_strings", "SELECT length('a\\nb')", "on", "off"),
        ("transform_null_equals", "SELECT count(*) FROM (VALUES (NULL)) t(a) WHERE a = NULL", "off", "on"),
        ("array_nulls", "SELECT (ARRAY['x'] || '{NULL}'::text[])[2] IS NULL", "on", "off"),
        ("IntervalStyle", "SELECT extract(hour FROM interval '-1 2:03:04')::int", "postgres", "sql_standard"),
    ] {
        let value = |direct: &mut Raw, to: &str| {
            direct.query(&format!("SET {set} = '{to}'"));
            ask(direct, &prepared("", sql))
        };
        let mut direct = Raw::login(db.cluster().primary().port, &db.user, &db.password, &db.name);
        let wants = [value(&mut direct, one), value(&mut direct, other)];
        assert_ne!(wants[0], wants[1], "{set}: it matters");
        let (mut a, mut b) = (login(&db, &proxy), login(&db, &proxy));
        a.query(&format!("SET {set} = '{one}'"));
        b.query(&format!("SET {set} = '{other}'"));
        for round in 0..3 {
            let name = format!("s{round}");
            assert_eq!(ask(&mut a, &prepared(&name, sql)), wants[0], "{set}");
            assert_eq!(ask(&mut b, &prepared(&name, sql)), wants[1], "{set}");
        }
        // The same session, after it has changed its mind: also in one go, and for a transaction.
        let again = [close('S', "s0"), sync()].concat();
        a.send(again);
        a.until_ready(1);
        a.query(&format!("SET {set} = '{other}'"));
        assert_eq!(ask(&mut a, &prepared("s0", sql)), wants[1], "{set}");
        a.query("BEGIN");
        a.query(&format!("SET LOCAL {set} = '{one}'"));
        assert_eq!(ask(&mut a, &prepared("s4", sql)), wants[0], "{set}");
        a.query("ROLLBACK");
        let batch = [prepared("", &format!("SET {set} = '{one}'")).concat(), prepared("s5", sql).concat()];
        a.send(batch.concat());
        let mut frames = a.until_ready(1);
        frames.extend(a.until_ready(1));
        assert_eq!(said(&frames), wants[0], "{set}, in one go");
    }
}

/// A SET that fails has set nothing.
#[tokio::test]
async fn what_could_not_be_set_is_not_carried() {
    let (db, proxy) = bed(1);
    let (a, b) = (pg(&proxy.url(&db)).await, pg(&proxy.url(&db)).await);
    for sql in [
        "SET session_replication_role = replica",
        "SET max_connections = 5",
        "SET fsync = off",
        "RESET log_statement",
        "SELECT set_config('fsync', 'off', false)",
        "BEGIN; SET work_mem = '77MB'; SET fsync = off",
        "DO $$BEGIN SET fsync = off; EXCEPTION WHEN OTHERS THEN NULL; END$$",
    ] {
        let failed = a.batch_execute(sql).await.is_err();
        assert_eq!(failed, !sql.starts_with("DO"), "{sql}");
        a.batch_execute("ROLLBACK").await.expect("over");
        for _ in 0..2 {
            assert_eq!(value(&b, "SELECT 1").await, "1");
            assert_eq!(value(&a, "SHOW work_mem").await, value(&b, "SHOW work_mem").await, "{sql}");
        }
    }
    a.batch_execute("BEGIN; SET work_mem = '77MB'; SAVEPOINT s").await.expect("begun");
    a.batch_execute("SET fsync = off").await.expect_err("not allowed");
    a.batch_execute("ROLLBACK TO s; COMMIT").await.expect("committed");
    assert_eq!(value(&b, "SHOW work_mem").await, "4MB");
    assert_eq!(value(&a, "SHOW work_mem").await, "77MB");
}

/// What a transaction is, is no setting of its session.
#[tokio::test]
async fn how_a_transaction_was_is_not_carried() {
    let (db, proxy) = bed(1);
    let (a, b, c) = (pg(&proxy.url(&db)).await, pg(&proxy.url(&db)).await, pg(&proxy.url(&db)).await);
    let level = "SHOW transaction_isolation";
    for (sql, before) in [
        ("BEGIN; SET transaction_isolation = 'serializable'; SELECT 1; COMMIT", "SELECT 1"),
        ("BEGIN; SET transaction_read_only = on; SELECT 1; COMMIT", "SELECT 1"),
        ("BEGIN; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; COMMIT", "DO $$BEGIN NULL; END$$"),
    ] {
        a.batch_execute(sql).await.expect("done");
        b.batch_execute(before).await.expect("done");
        c.batch_execute("SET default_transaction_isolation = 'repeatable read'").await.expect("set");
        assert_eq!(value(&b, level).await, "read committed", "{sql}");
        assert_eq!(value(&a, level).await, "read committed", "{sql}");
        assert_eq!(value(&a, "SHOW transaction_read_only").await, "off", "{sql}");
        assert_eq!(value(&c, level).await, "repeatable read", "{sql}");
    }
}

#[test]
fn statements_whose_names_mean_something_else() {
    let (db, proxy) = bed(1);
    db.psql(&format!(
        "CREATE SCHEMA a1 AUTHORIZATION {user}; CREATE SCHEMA b1 AUTHORIZATION {user}; \
         CREATE TABLE a1.t (a int); CREATE TABLE b1.t (a text); CREATE TABLE shadow (a int); \
         INSERT INTO a1.t VALUES (1); INSERT INTO b1.t VALUES ('b'); INSERT INTO shadow VALUES (3); \
         GRANT ALL ON a1.t, b1.t, shadow TO {user}",
        user = db.user
    ));
    let sql = "SELECT * FROM t";
    let run = |name: &str| [bind("", name, &[]), execute("", 0), sync()];
    let (mut a, mut b) = (login(&db, &proxy), login(&db, &proxy));
    for client in [&mut a, &mut b] {
        client.query("SET search_path = a1");
        assert_eq!(ask(client, &prepared("s", sql)), ["1"]);
    }
    // One of them goes elsewhere, where it returns something else; on a connection that does not have it yet, too.
    a.query("SET search_path = b1");
    db.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name NOT LIKE 'turnpike%'");
    eventually("it is there again", || said(&b.query("SELECT 2")) == ["2"]);
    assert_eq!(ask(&mut a, &run("s")), ["0A000"], "as on a connection of its own");
    assert_eq!(ask(&mut b, &run("s")), ["1"], "nothing has changed for this one");
    a.query("SET search_path = a1");
    assert_eq!(ask(&mut a, &run("s")), ["1"], "nor for that one, where it began");
    assert_eq!(ask(&mut b, &run("s")), ["1"]);
    // For a transaction, and with the same text prepared anew.
    for (n, set) in
        ["SET LOCAL search_path = b1", "SELECT set_config('search_path', 'b1', true)"].iter().enumerate()
    {
        a.query("BEGIN");
        a.query(set);
        assert_eq!(ask(&mut a, &prepared(&format!("n{n}"), sql)), ["b"], "{set}");
        a.query("COMMIT");
    }
    // A temporary table takes the place of another.
    a.query("RESET search_path");
    let sql = "SELECT * FROM shadow";
    assert_eq!(ask(&mut a, &prepared("h", sql)), ["3"]);
    a.query("CREATE TEMP TABLE shadow AS SELECT 'x'::text AS b, 1 AS c");
    assert_eq!(ask(&mut a, &prepared("h2", sql)), ["x"]);
    a.query("DROP TABLE pg_temp.shadow");
    assert_eq!(ask(&mut a, &prepared("h3", sql)), ["3"]);
    a.query("BEGIN");
    a.query("CREATE TEMP TABLE shadow (b text, c int) ON COMMIT DROP");
    assert_eq!(ask(&mut a, &prepared("h4", sql)), Vec::<String>::new());
    a.query("COMMIT");
    assert_eq!(ask(&mut a, &prepared("h5", sql)), ["3"]);
    assert_eq!(ask(&mut b, &run("s")), ["1"]);
}

/// Settings that policies ask for leave what statements mean alone: one statement for all sessions that prepare it.
#[test]
fn settings_of_policies_share_statements() {
    let (db, proxy) = bed(1);
    let sql = "SELECT current_setting('app.tenant')";
    for n in 0..5 {
        let mut client = login(&db, &proxy);
        client.query("BEGIN");
        client.query(&format!("SELECT set_config('app.tenant', '{n}', true)"));
        assert_eq!(ask(&mut client, &prepared("p", sql)), [n.to_string()]);
        client.query("COMMIT");
    }
    let mut client = login(&db, &proxy);
    let kept = format!(
        "SELECT count(*) FROM pg_prepared_statements WHERE statement = '{}'",
        sql.replace('\'', "''")
    );
    assert_eq!(client.value(&kept), "1");
}

/// A name that SQL has taken keeps nobody's connection.
#[test]
fn a_name_that_is_taken() {
    let (db, proxy) = bed(1);
    let (mut a, mut b) = (login(&db, &proxy), login(&db, &proxy));
    a.query("PREPARE s AS SELECT 1");
    assert_eq!(ask(&mut a, &[parse("s", "SELECT 2"), describe('S', "s"), sync()]), ["42P05"]);
    assert_eq!(b.value("SELECT 2"), "2");
    assert_eq!(ask(&mut a, &[query("EXECUTE s")]), ["1"]);
}

/// What it began to listen to after a savepoint ends with that.
#[test]
fn listening_is_rolled_back_to_a_savepoint() {
    let (db, proxy) = bed(3);
    let (mut a, mut b) = (login(&db, &proxy), login(&db, &proxy));
    for sql in ["BEGIN", "LISTEN q", "SAVEPOINT s", "LISTEN r", "ROLLBACK TO s", "COMMIT"] {
        assert!(a.query(sql).iter().all(|frame| frame.kind != b'E'), "{sql}");
    }
    b.query("NOTIFY r, 'not for it'");
    b.query("NOTIFY q, 'for it'");
    let heard = a.until(b'A');
    let last = heard.last().expect("a notification");
    assert!(
        last.body.windows(6).any(|w| w == b"for it") && !last.body.windows(3).any(|w| w == b"not"),
        "{last:?}"
    );
}
