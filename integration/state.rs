//! Session state follows its client: whatever it sets it finds again, whoever else uses the same server connections,
//! and nobody else does.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::harness::raw::{Raw, bind, describe, execute, parse, query, sync};
use crate::harness::{Db, Proxy, ProxyOptions, eventually, pg, rows, value};

fn bed(size: usize) -> (Db, Proxy) {
    let db = Db::new();
    let proxy = Proxy::start(&db, ProxyOptions { pool: format!("size = {size}"), ..Default::default() });
    (db, proxy)
}

/// Reasons for which the clients named `name` keep their server connections, as the admin database tells.
async fn pins(db: &Db, proxy: &Proxy, name: &str) -> String {
    let admin = pg(&proxy.admin_url(db)).await;
    let rows = admin.query("SHOW CLIENTS", &[]).await.expect("shown");
    rows.iter()
        .filter(|row| row.get::<_, &str>("application_name") == name)
        .map(|row| row.get::<_, String>("pins"))
        .collect::<Vec<_>>()
        .join(";")
}

/// What the server is asked about comes to be known a moment after the answer to the statement.
async fn pins_become(db: &Db, proxy: &Proxy, name: &str, want: &str, after: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while pins(db, proxy, name).await != want {
        assert!(Instant::now() < deadline, "{after}: {}", pins(db, proxy, name).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn named(proxy: &Proxy, db: &Db, name: &str) -> Client {
    pg(&format!("{}?application_name={name}", proxy.url(db))).await
}

#[tokio::test]
async fn every_way_to_set_is_carried_over_one_connection() {
    let (db, proxy) = bed(1);
    let role = db.role("member");
    db.psql(&format!("GRANT {role} TO {}", db.user));
    let (a, b) = (named(&proxy, &db, "a").await, named(&proxy, &db, "b").await);
    let cases = [
        ("SET work_mem = '1234kB'".to_string(), "SHOW work_mem", "1234kB"),
        ("SET SESSION statement_timeout TO '77s'".into(), "SHOW statement_timeout", "77s"),
        ("SET search_path = pg_catalog, \"odd name\"".into(), "SHOW search_path", "pg_catalog, \"odd name\""),
        ("SET my.own = 'it''s \\ ünï'".into(), "SELECT current_setting('my.own', true)", "it's \\ ünï"),
        ("SELECT set_config('my.other', 'x', false)".into(), "SELECT current_setting('my.other', true)", "x"),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE".into(),
            "SHOW default_transaction_isolation",
            "serializable",
        ),
        ("SET TIME ZONE 'Asia/Tokyo'".into(), "SHOW TimeZone", "Asia/Tokyo"),
        ("BEGIN; SET lock_timeout = '5s'; COMMIT".into(), "SHOW lock_timeout", "5s"),
        (
            "DO $$ BEGIN PERFORM set_config('my.third', 'y', false); END $$".into(),
            "SELECT current_setting('my.third', true)",
            "y",
        ),
        (format!("SET ROLE {role}"), "SELECT current_user", role.as_str()),
    ];
    for (set, _, _) in &cases {
        a.batch_execute(set).await.unwrap_or_else(|e| panic!("{set}: {e}"));
    }
    for _ in 0..3 {
        for (set, show, want) in &cases {
            let other = b.simple_query(show).await.expect("it shows");
            let other = other.iter().find_map(|m| match m {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_string),
                _ => None,
            });
            assert_ne!(other.as_deref(), Some(*want), "{set}: another client sees it");
            assert_eq!(value(&a, show).await, *want, "{set}: its own client does not");
        }
    }
    assert_eq!(pins(&db, &proxy, "a").await, "", "nothing of this pins");
    a.batch_execute("RESET ROLE; RESET ALL").await.expect("it is taken back");
    assert_eq!(value(&b, "SELECT 1").await, "1");
    for (set, show, want) in &cases {
        assert_ne!(value(&a, show).await, *want, "{set}: after RESET ALL");
    }
}

#[tokio::test]
async fn what_is_undone_is_undone() {
    let (db, proxy) = bed(1);
    let (a, b) = (pg(&proxy.url(&db)).await, pg(&proxy.url(&db)).await);
    let cases = [
        ("BEGIN; SET work_mem = '1MB'; ROLLBACK", "4MB"),
        ("BEGIN; SET LOCAL work_mem = '1MB'; COMMIT", "4MB"),
        ("BEGIN; SET work_mem = '2MB'; SAVEPOINT s; SET work_mem = '3MB'; ROLLBACK TO s; COMMIT", "2MB"),
        ("BEGIN; RESET work_mem; ROLLBACK", "2MB"),
        ("SET work_mem TO DEFAULT", "4MB"),
        ("SELECT set_config('work_mem', '5MB', true)", "4MB"),
    ];
    for (sql, want) in cases {
        a.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(value(&b, "SHOW work_mem").await, "4MB", "{sql}");
        assert_eq!(value(&a, "SHOW work_mem").await, want, "{sql}");
    }
}

#[test]
fn reset_goes_back_to_what_the_client_began_with() {
    let (db, proxy) = bed(1);
    let login = |settings: &[(&str, &str)]| {
        let mut raw = Raw::connect(proxy.port);
        let own = [("user", db.user.as_str()), ("database", db.name.as_str())];
        raw.send(crate::harness::raw::startup(3 << 16, &[&own, settings].concat()));
        raw.authenticate(&db.password);
        raw.settle_in();
        raw
    };
    let mut german =
        login(&[("datestyle", "German"), ("application_name", "g"), ("options", "-c work_mem=3MB")]);
    // Also where nobody else has the connection in between.
    for _ in 0..20 {
        german.send(query("SET application_name = 'h'; SET work_mem = '9MB'"));
        german.until_ready(1);
        german.send(query("RESET ALL"));
        german.until_ready(1);
        assert_eq!(german.value("SHOW application_name"), "g");
        assert_eq!(german.value("SHOW work_mem"), "3MB");
    }
    let mut plain = login(&[]);
    for _ in 0..3 {
        assert_eq!(plain.value("SELECT '2024-02-01'::date"), "2024-02-01");
        assert_eq!(german.value("SELECT '2024-02-01'::date"), "01.02.2024");
        german.send(query("SET datestyle = 'ISO'; SET work_mem = '9MB'; SET application_name = 'h'"));
        german.until_ready(1);
        assert_eq!(german.value("SELECT '2024-02-01'::date"), "2024-02-01");
        assert_eq!(plain.value("SHOW work_mem"), "4MB");
        german.send(query("RESET datestyle"));
        let told = german.until_ready(1);
        let told = told.iter().find(|f| f.kind == b'S').expect("it is told");
        assert_eq!(told.body, b"DateStyle\0German, DMY\0");
        german.send(query("RESET ALL"));
        german.until_ready(1);
        assert_eq!(plain.value("SELECT '2024-02-01'::date"), "2024-02-01");
        assert_eq!(german.value("SHOW work_mem"), "3MB");
        assert_eq!(german.value("SHOW application_name"), "g");
        german.send(query("SET work_mem = '9MB'"));
        german.until_ready(1);
        german.send(query("DISCARD ALL"));
        german.until_ready(1);
        assert_eq!(plain.value("SHOW application_name"), "");
        assert_eq!(german.value("SHOW work_mem"), "3MB");
        assert_eq!(german.value("SHOW application_name"), "g");
    }
}

#[tokio::test]
async fn statements_prepared_by_sql_are_carried() {
    let (db, proxy) = bed(1);
    let (a, b) = (named(&proxy, &db, "a").await, named(&proxy, &db, "b").await);
    a.batch_execute("PREPARE s1 (int) AS SELECT 'a' || $1").await.expect("prepared");
    b.batch_execute("PREPARE s1 (int) AS SELECT 'b' || $1; PREPARE \"S2\" AS SELECT 2")
        .await
        .expect("prepared");
    for i in 0..10 {
        assert_eq!(value(&a, &format!("EXECUTE s1({i})")).await, format!("a{i}"));
        assert_eq!(value(&b, &format!("EXECUTE s1({i})")).await, format!("b{i}"));
    }
    let names = "SELECT name FROM pg_prepared_statements WHERE from_sql ORDER BY 1";
    assert_eq!(rows(&a, names).await, [["s1"]]);
    assert_eq!(rows(&b, names).await, [["S2"], ["s1"]]);
    assert_eq!(pins(&db, &proxy, "a").await, "");
    a.batch_execute("DEALLOCATE s1").await.expect("it is gone");
    assert!(a.simple_query("EXECUTE s1(1)").await.is_err());
    assert_eq!(value(&b, "EXECUTE s1(1)").await, "b1");
    b.batch_execute("DEALLOCATE ALL").await.expect("they are gone");
    assert!(b.simple_query("EXECUTE \"S2\"").await.is_err());
}

#[test]
fn sql_and_protocol_share_one_namespace() {
    let (db, proxy) = bed(1);
    let (mut a, mut b) = (proxy.raw(&db), proxy.raw(&db));
    a.send([parse("p", "SELECT 'by protocol'"), sync()].concat());
    a.until_ready(1);
    assert_eq!(b.value("SELECT 1"), "1");
    assert_eq!(a.value("EXECUTE p"), "by protocol");
    a.send(query("PREPARE p AS SELECT 1"));
    let frames = a.until_ready(1);
    assert_eq!(frames[0].field(b'C'), "42P05", "{frames:?}");
    a.send(query("PREPARE q AS SELECT 'by sql'"));
    a.until_ready(1);
    assert_eq!(b.value("SELECT 1"), "1");
    a.send([bind("", "q", &[]), describe('P', ""), execute("", 0), sync()].concat());
    let frames = a.until_ready(1);
    let row = frames.iter().find(|f| f.kind == b'D').unwrap_or_else(|| panic!("no row: {frames:?}"));
    assert_eq!(row.column(), "by sql");
    a.send(query("DEALLOCATE p"));
    a.until_ready(1);
    a.send([bind("", "p", &[]), sync()].concat());
    assert_eq!(a.until_ready(1)[0].field(b'C'), "26000");
}

#[tokio::test]
async fn pins_end_when_their_cause_does() {
    let (db, proxy) = bed(2);
    let (a, b) = (named(&proxy, &db, "a").await, named(&proxy, &db, "b").await);
    let cases = [
        ("CREATE TEMP TABLE tt (a int)", "temporary object", "DROP TABLE tt"),
        ("SELECT pg_advisory_lock(7)", "advisory lock", "SELECT pg_advisory_unlock(7)"),
        ("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT", "cursor with hold", "CLOSE c"),
        ("DO $$ BEGIN CREATE TEMP TABLE tt (a int); END $$", "temporary object", "DISCARD TEMP"),
        (
            "DO $$ BEGIN PERFORM pg_advisory_lock(8); END $$",
            "advisory lock",
            "SELECT pg_advisory_unlock_all()",
        ),
        ("CREATE TEMP VIEW tv AS SELECT 1", "temporary object", "DISCARD ALL"),
        (
            "SELECT pg_advisory_lock(7); CREATE TEMP TABLE tt (a int)",
            "temporary object, advisory lock",
            "DISCARD ALL",
        ),
    ];
    for (begin, label, end) in cases {
        a.batch_execute(begin).await.unwrap_or_else(|e| panic!("{begin}: {e}"));
        for _ in 0..5 {
            assert_eq!(value(&b, "SELECT 1").await, "1");
        }
        pins_become(&db, &proxy, "a", label, begin).await;
        a.batch_execute(end).await.unwrap_or_else(|e| panic!("{end}: {e}"));
        pins_become(&db, &proxy, "a", "", end).await;
    }
    for nothing in [
        "BEGIN; CREATE TEMP TABLE tt (a int) ON COMMIT DROP; COMMIT",
        "BEGIN; CREATE TEMP TABLE tt (a int); ROLLBACK",
        "DO $$ BEGIN END $$",
        "BEGIN; SELECT pg_advisory_xact_lock(1); COMMIT",
        "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; ROLLBACK",
    ] {
        a.batch_execute(nothing).await.unwrap_or_else(|e| panic!("{nothing}: {e}"));
        pins_become(&db, &proxy, "a", "", nothing).await;
    }
}

#[tokio::test]
async fn a_temporary_table_outlives_the_transactions_of_others_and_is_seen_by_none() {
    let (db, proxy) = bed(2);
    let (a, b) = (pg(&proxy.url(&db)).await, pg(&proxy.url(&db)).await);
    a.batch_execute("CREATE TEMP TABLE mine AS SELECT 42 AS x").await.expect("made");
    for _ in 0..1000 {
        assert_eq!(value(&b, "SELECT to_regclass('pg_temp.mine') IS NULL").await, "t");
    }
    assert_eq!(value(&a, "SELECT x FROM mine").await, "42");
}

#[tokio::test]
async fn the_lock_of_a_client_that_dies_is_free_within_a_second() {
    let (db, proxy) = bed(2);
    let mut a = proxy.raw(&db);
    assert_eq!(a.value("SELECT pg_advisory_lock(99)"), "");
    let b = pg(&proxy.url(&db)).await;
    assert_eq!(value(&b, "SELECT pg_try_advisory_lock(99)").await, "f");
    drop(a);
    let began = Instant::now();
    eventually("the lock is free", || db.psql("SELECT pg_try_advisory_lock(99)") == "t");
    assert!(began.elapsed() < std::time::Duration::from_secs(1), "{:?}", began.elapsed());
}

/// Locks of a session that it has taken in ways that hide them: by a name, by a statement that fails, by both.
#[tokio::test]
async fn locks_taken_in_passing_are_kept_and_given_back() {
    let (db, proxy) = bed(2);
    let b = pg(&proxy.url(&db)).await;
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = \
                 (SELECT oid FROM pg_database WHERE datname = current_database())";
    for (prepare, take) in [
        ("PREPARE p AS SELECT pg_advisory_lock(5)", "EXECUTE p"),
        ("PREPARE p AS SELECT pg_advisory_lock(5)", "BEGIN; EXECUTE p; COMMIT"),
        ("PREPARE p AS SELECT pg_advisory_lock(5)", "BEGIN; EXECUTE p; SELECT 1/0"),
        ("PREPARE p AS SELECT pg_advisory_lock(5), 1 / a FROM generate_series(0, 0) a", "EXECUTE p"),
        (
            "PREPARE p AS SELECT pg_advisory_lock(5), 1 / a FROM generate_series(0, 0) a",
            "BEGIN; EXECUTE p; COMMIT",
        ),
        ("SELECT 1", "SELECT pg_advisory_lock(5), 1 / a FROM generate_series(0, 0) a"),
        ("SELECT 1", "BEGIN; SELECT pg_advisory_lock(5), 1 / a FROM generate_series(0, 0) a"),
        ("SELECT 1", "BEGIN; SELECT pg_advisory_lock(5); SELECT 1/0"),
        ("SELECT 1", "DO $$ BEGIN PERFORM pg_advisory_lock(5); RAISE 'no'; END $$"),
    ] {
        let mut a = proxy.raw(&db);
        a.query(prepare);
        a.query(take);
        for _ in 0..5 {
            assert_eq!(
                value(&b, "SELECT pg_try_advisory_lock(5)").await,
                "f",
                "{take}: another has the lock, too"
            );
        }
        drop(a);
        eventually(&format!("{prepare}; {take}: the lock is free"), || db.psql(locks) == "0");
    }
    // The same by the extended protocol, without a name and as the statement that it is.
    let run = |statement: &str| [bind("", statement, &[]), execute("", 0), sync()].concat();
    for take in [[parse("", "EXECUTE p"), run("")].concat(), run("p")] {
        let mut a = proxy.raw(&db);
        a.query("PREPARE p AS SELECT pg_advisory_lock(5)");
        a.send(take);
        a.until_ready(1);
        assert_eq!(value(&b, "SELECT pg_try_advisory_lock(5)").await, "f");
        drop(a);
        eventually("the lock is free", || db.psql(locks) == "0");
    }
}

/// Whoever leaves while the server is being asked what it holds for them leaves nothing to the next.
#[test]
fn who_leaves_before_the_answer_leaves_no_locks() {
    let (db, proxy) = bed(2);
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = \
                 (SELECT oid FROM pg_database WHERE datname = current_database())";
    for _ in 0..50 {
        let mut a = proxy.raw(&db);
        a.query("DO $$ BEGIN PERFORM pg_advisory_lock(5); RAISE 'no'; END $$");
        drop(a);
    }
    eventually("the lock is free", || db.psql(locks) == "0");
}

#[tokio::test]
async fn sequence_values_are_a_sessions_own() {
    let (db, proxy) = bed(1);
    let (a, b) = (pg(&proxy.url(&db)).await, pg(&proxy.url(&db)).await);
    a.batch_execute("CREATE TABLE numbered (id serial, a text)").await.expect("made");
    a.batch_execute("INSERT INTO numbered (a) VALUES ('x')").await.expect("inserted");
    drop(a);
    assert!(b.simple_query("SELECT lastval()").await.is_err(), "another session's value");
    b.batch_execute("INSERT INTO numbered (a) VALUES ('y')").await.expect("inserted");
    assert_eq!(value(&b, "SELECT lastval()").await, "2");
}

#[tokio::test]
async fn what_lasts_in_a_process_goes_with_its_client() {
    let (db, proxy) = bed(1);
    let a = pg(&proxy.url(&db)).await;
    let pid = value(&a, "SELECT pg_backend_pid()").await;
    a.batch_execute("SELECT setseed(0.5)").await.expect("seeded");
    assert_eq!(value(&a, "SELECT pg_backend_pid()").await, pid, "it keeps the connection");
    drop(a);
    let b = pg(&proxy.url(&db)).await;
    assert_ne!(value(&b, "SELECT pg_backend_pid()").await, pid, "which is closed, not lent");
}

#[tokio::test]
async fn three_settings_cost_no_round_trip() {
    let (db, proxy) = bed(1);
    let (a, b) = (pg(&proxy.url(&db)).await, pg(&proxy.url(&db)).await);
    a.batch_execute("SET work_mem = '1MB'; SET my.a = '1'; SET search_path = public, pg_catalog")
        .await
        .expect("set");
    for _ in 0..50 {
        assert_eq!(value(&b, "SHOW work_mem").await, "4MB");
        assert_eq!(value(&a, "SHOW work_mem").await, "1MB");
    }
    assert_eq!(db.psql(&format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}' AND application_name <> 'turnpike catalog'", db.user)), "1");
}

#[tokio::test]
async fn what_functions_set_is_carried_too() {
    let (db, proxy) = bed(1);
    db.psql(
        "CREATE FUNCTION as_tenant(t text) RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.tenant', t, false) $$;
         CREATE FUNCTION slow() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET statement_timeout = '77s'; END $$;
         CREATE PROCEDURE call_me() LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('lock_timeout', '66s', false); END $$;
         CREATE FUNCTION any_setting(n text, v text) RETURNS text LANGUAGE sql AS $$ SELECT set_config(n, v, false) $$;
         CREATE TABLE watched (a int); GRANT ALL ON watched TO PUBLIC;
         CREATE FUNCTION watching() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM set_config('app.seen', NEW.a::text, false); RETURN NEW; END $$;
         CREATE TRIGGER w BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION watching();",
    );
    let (a, b) = (named(&proxy, &db, "a").await, pg(&proxy.url(&db)).await);
    for sql in ["SELECT as_tenant('x')", "SELECT slow()", "CALL call_me()", "INSERT INTO watched VALUES (42)"]
    {
        a.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
    let cases = [
        ("SELECT current_setting('app.tenant', true)", "x"),
        ("SHOW statement_timeout", "77s"),
        ("SHOW lock_timeout", "66s"),
        ("SELECT current_setting('app.seen', true)", "42"),
    ];
    for _ in 0..3 {
        for (show, want) in cases {
            assert_ne!(rows(&b, show).await, [[want]], "{show}: another client sees it");
            assert_eq!(value(&a, show).await, want, "{show}: its own client does not");
        }
    }
    assert_eq!(pins(&db, &proxy, "a").await, "");
    drop(b);
    a.batch_execute("SELECT any_setting('app.odd', 'y')").await.expect("set");
    assert_eq!(pins(&db, &proxy, "a").await, "unknown state", "nobody can tell what it has set");
    assert_eq!(value(&a, "SELECT current_setting('app.odd', true)").await, "y");
}

/// Nothing is known of a function that has just been made, by whomever: its first call must not leave anything either.
#[tokio::test]
async fn a_new_functions_first_call_is_looked_into() {
    let (db, proxy) = bed(1);
    let (a, b) = (named(&proxy, &db, "a").await, pg(&proxy.url(&db)).await);
    for round in 0..5 {
        let make = format!(
            "CREATE FUNCTION fresh_{round}(t text) RETURNS text LANGUAGE sql \
             AS $$ SELECT set_config('app.fresh_{round}', t, false) $$"
        );
        let show = format!("SELECT current_setting('app.fresh_{round}', true)");
        let call = format!("SELECT fresh_{round}('mine')");
        b.batch_execute("BEGIN").await.expect("begin");
        b.batch_execute(&make).await.expect("made");
        b.batch_execute("COMMIT").await.expect("commit");
        if round % 2 == 0 {
            a.batch_execute(&call).await.expect("called");
        } else {
            a.query(&call, &[]).await.expect("called");
        }
        assert_ne!(rows(&b, &show).await, [["mine"]], "round {round}: another client sees it");
        assert_eq!(value(&a, &show).await, "mine", "round {round}: its own client does not");
    }
}

#[tokio::test]
async fn backslashes_hide_nothing_from_an_old_fashioned_session() {
    let (db, proxy) = bed(1);
    let (a, b) = (named(&proxy, &db, "a").await, pg(&proxy.url(&db)).await);
    a.batch_execute("SET standard_conforming_strings = off; SET escape_string_warning = off")
        .await
        .expect("set");
    a.batch_execute(r"SELECT 'it\'s', set_config('work_mem', '1234kB', false), '\''")
        .await
        .expect("set in the old way");
    assert_ne!(value(&b, "SHOW work_mem").await, "1234kB", "another client sees it");
    assert_eq!(value(&a, "SHOW work_mem").await, "1234kB");
}

#[tokio::test]
async fn a_changed_result_type_is_an_error_until_prepared_again() {
    let (db, proxy) = bed(1);
    let client = pg(&proxy.url(&db)).await;
    client.batch_execute("CREATE TABLE shape (a int); INSERT INTO shape VALUES (1)").await.expect("made");
    let statement = client.prepare("SELECT * FROM shape").await.expect("prepared");
    assert_eq!(client.query_one(&statement, &[]).await.expect("a row").len(), 1);
    db.psql("ALTER TABLE shape ADD b int DEFAULT 2");
    let error = client.query_one(&statement, &[]).await.map(drop).expect_err("it is another type");
    assert_eq!(error.code().map(|c| c.code()), Some("0A000"));
    let again = client.prepare("SELECT * FROM shape").await.expect("prepared again");
    assert_eq!(client.query_one(&again, &[]).await.expect("a row").len(), 2);
}

/// As above where the server is another one, which would answer without complaint.
#[tokio::test]
async fn a_changed_result_type_is_an_error_on_every_connection() {
    let (db, proxy) = bed(1);
    let (a, b) = (pg(&proxy.url(&db)).await, pg(&proxy.url(&db)).await);
    b.batch_execute("CREATE TABLE shape (a int); INSERT INTO shape VALUES (1)").await.expect("made");
    let old = a.prepare("SELECT * FROM shape").await.expect("prepared");
    let typed = a.prepare("SELECT 1 FROM shape WHERE a = $1").await.expect("prepared");
    b.batch_execute("ALTER TABLE shape ADD b int, ALTER a TYPE bigint").await.expect("altered");
    let new = b.prepare("SELECT * FROM shape").await.expect("prepared");
    assert_eq!(b.query_one(&new, &[]).await.expect("who comes later gets what there is").len(), 2);
    for round in 0..3 {
        let error = a.query_one(&old, &[]).await.map(drop).expect_err("it is another type");
        assert_eq!(error.code().map(|c| c.code()), Some("0A000"), "round {round}: {error}");
        // Parameters keep the types that they had.
        a.query_one(&typed, &[&1i32]).await.unwrap_or_else(|e| panic!("round {round}: {e}"));
        db.psql(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'",
            db.user
        ));
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(b.query_one(&new, &[]).await.expect("a row").len(), 2);
    let again = a.prepare("SELECT * FROM shape").await.expect("prepared again");
    assert_eq!(a.query_one(&again, &[]).await.expect("a row").len(), 2);
}

#[tokio::test]
async fn one_text_under_two_search_paths_is_two_statements() {
    let (db, proxy) = bed(1);
    let (a, b) = (pg(&proxy.url(&db)).await, pg(&proxy.url(&db)).await);
    a.batch_execute(
        "CREATE SCHEMA one CREATE TABLE shape (a int); CREATE SCHEMA two CREATE TABLE shape (a text, b text);
         INSERT INTO one.shape VALUES (1); INSERT INTO two.shape VALUES ('x', 'y'); SET search_path = one",
    )
    .await
    .expect("made");
    b.batch_execute("SET search_path = two").await.expect("set");
    let mine = a.prepare("SELECT * FROM shape").await.expect("prepared");
    let theirs = b.prepare("SELECT * FROM shape").await.expect("prepared");
    for _ in 0..3 {
        assert_eq!(a.query_one(&mine, &[]).await.expect("a row").get::<_, i32>(0), 1);
        assert_eq!(b.query_one(&theirs, &[]).await.expect("a row").get::<_, &str>(1), "y");
    }
}

/// One name, two texts: as many executions as `TURNPIKE_EXECUTIONS` says, each answer its own client's.
#[tokio::test]
async fn one_name_of_two_clients_is_two_statements() {
    let (db, proxy) = bed(1);
    let executions: usize =
        std::env::var("TURNPIKE_EXECUTIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let clients = (0..2).map(|me: i32| {
        let (port, user, password, name) =
            (proxy.port, db.user.clone(), db.password.clone(), db.name.clone());
        std::thread::spawn(move || {
            let mut raw = Raw::login(port, &user, &password, &name);
            raw.send([parse("s1", &format!("SELECT {me}, $1::int")), sync()].concat());
            raw.until_ready(1);
            for batch in 0..executions / 2 / 100 {
                let mut sent = Vec::new();
                for i in 0..100 {
                    sent.extend(
                        [bind("", "s1", &[&(batch * 100 + i).to_string()]), execute("", 0), sync()].concat(),
                    );
                }
                raw.send(sent);
                let frames = raw.until_ready(100);
                let mine = frames.iter().filter(|f| f.kind == b'D' && f.column() == me.to_string()).count();
                assert_eq!(mine, 100, "client {me}: {frames:?}");
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.join().expect("every answer is its own client's");
    }
    assert_eq!(db.psql("SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()"), "0");
}
