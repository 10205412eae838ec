//! Functions that the configuration speaks of: results that they were called for are kept, until something is written that
//! they are said to read; and what they are said to write outdates nothing else.

use std::time::{Duration, Instant};

use crate::caching::{Bed, EXACT, keep, said};
use crate::harness::{eventually, value};

const FUNCTIONS: &str = "
    CREATE FUNCTION label(int) RETURNS text LANGUAGE plpgsql AS
        'BEGIN RETURN (SELECT v FROM kv WHERE id = $1); END';
    CREATE FUNCTION unsaid(int) RETURNS text LANGUAGE plpgsql STABLE AS
        'BEGIN RETURN (SELECT v FROM kv WHERE id = $1); END';
    CREATE FUNCTION amiss(int) RETURNS text LANGUAGE plpgsql STABLE AS
        'BEGIN RETURN (SELECT v FROM kv WHERE id = $1); END';
    CREATE FUNCTION whose(int) RETURNS text LANGUAGE plpgsql AS
        'BEGIN RETURN current_setting(''application_name'') || current_setting(''turnpike.route'', true); END';
    CREATE FUNCTION log(text) RETURNS void LANGUAGE plpgsql AS 'BEGIN INSERT INTO events VALUES ($1); END';
    CREATE PROCEDURE work(text) LANGUAGE plpgsql AS 'BEGIN INSERT INTO events VALUES ($1); COMMIT; END';
    CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO events VALUES (''t''); RETURN NEW; END';
    CREATE TABLE events (what text); CREATE TABLE watched (id int); INSERT INTO watched VALUES (1);
    CREATE TRIGGER fires AFTER UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION fires();
    CREATE VIEW labels AS SELECT id, label(id) FROM other;";

/// What is said of them.
const SAID: &str = "
[[function]]
name = \"public.label\"
reads = \"kv\"
[[function]]
name = \"amiss\"
reads = [\"kv\", \"nowhere\"]
[[function]]
name = \"whose\"
reads = []
[[function]]
name = \"log\"
writes = \"events\"
[[function]]
name = \"work\"
writes = \"public.events\"
[[function]]
name = \"fires\"
writes = \"events\"
";

async fn bed() -> (Bed, tokio_postgres::Client) {
    let (bed, client) = Bed::new(&format!("{EXACT}{SAID}")).await;
    client.batch_execute(FUNCTIONS).await.expect("made");
    (bed, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_function_reads_is_taken_for_said() {
    let (bed, client) = bed().await;
    // Also where it stands behind a view, and beside one row of the same table.
    for read in
        ["SELECT label(2) FROM other", "SELECT label FROM labels", "SELECT label(2) FROM kv WHERE id = 1"]
    {
        client.batch_execute("UPDATE kv SET v = 'a'").await.expect("written");
        assert_eq!(keep(&client, read).await, "a", "{read}");
        let before = bed.hits();
        client.batch_execute("INSERT INTO events VALUES ('x')").await.expect("written");
        assert_eq!(value(&client, read).await, "a", "{read}");
        assert!(bed.hits() > before, "{read}: nothing was written that it reads");
        client.batch_execute("UPDATE kv SET v = 'b' WHERE id <> 1").await.expect("written");
        let now = bed.db.psql(read);
        assert_eq!(value(&client, read).await, now, "{read}");
        assert_eq!(keep(&client, read).await, now, "{read}");
    }
    // What is not said, or of what is not there, is not kept.
    for (read, why) in [
        ("SELECT unsaid(1) FROM other", "what unsaid reads is not known"),
        ("SELECT amiss(1) FROM other", "table nowhere is not known"),
    ] {
        let says = said(&client, read).await;
        assert!(says.starts_with("no, since") && says.contains(why), "{read}: {says}");
        let before = bed.hits();
        for _ in 0..3 {
            value(&client, read).await;
        }
        assert_eq!(bed.hits(), before, "{read}");
    }
}

/// Settings are no tables, so that nothing is said of them: whoever has others has other results.
#[tokio::test(flavor = "multi_thread")]
async fn what_it_asks_of_its_session_counts() {
    let (_bed, client) = bed().await;
    let read = "SELECT whose(1) FROM other";
    for (application, route) in [("one", "auto"), ("two", "auto"), ("two", "primary"), ("one", "auto")] {
        let set = format!("SET application_name = '{application}'; SET turnpike.route = '{route}'");
        client.batch_execute(&set).await.expect("set");
        assert_eq!(keep(&client, read).await, format!("{application}{route}"));
    }
}

/// What looks like a column may call a function, which reads other tables.
#[tokio::test(flavor = "multi_thread")]
async fn functions_that_are_called_like_columns() {
    let (bed, client) = bed().await;
    client
        .batch_execute(
            "CREATE TABLE lines (of int, n int); INSERT INTO lines VALUES (1, 5);
             CREATE FUNCTION total(other) RETURNS bigint LANGUAGE sql STABLE AS
                 'SELECT sum(n) FROM lines WHERE of = $1.id';
             CREATE FUNCTION all_others() RETURNS SETOF other LANGUAGE sql STABLE AS 'SELECT * FROM other'",
        )
        .await
        .expect("made");
    for read in [
        "SELECT (o).total FROM other o JOIN kv USING (id)",
        "SELECT (o).total FROM other o",
        "SELECT s.total FROM all_others() s",
        "SELECT (s.o).total FROM (SELECT o FROM other o) s",
        "SELECT s.total FROM (TABLE other) s",
        "WITH s AS (SELECT o FROM other o) SELECT (s.o).total FROM s JOIN kv k ON true ORDER BY k.id LIMIT 1",
        "SELECT k.v FROM kv k, all_others() s ORDER BY s.total, k.id LIMIT 1",
    ] {
        // Also while what has just been made is not yet known.
        let (began, mut says) = (Instant::now(), String::new());
        while !says.contains("total") {
            assert!(began.elapsed() < Duration::from_secs(30), "{read}: {says}");
            value(&client, read).await;
            says = said(&client, read).await;
            for n in 6..8 {
                client.batch_execute(&format!("UPDATE lines SET n = {n}")).await.expect("written");
                assert_eq!(value(&client, read).await, bed.db.psql(read), "{read}: {says}");
                value(&client, read).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_writes_outdates_nothing_else() {
    let (bed, client) = bed().await;
    let (read, events) = ("SELECT v FROM kv WHERE id = 3", "SELECT count(*) FROM events");
    for write in ["SELECT log('x')", "CALL work('x')", "UPDATE watched SET id = 2"] {
        keep(&client, read).await;
        let count = keep(&client, events).await;
        client.batch_execute(write).await.expect("written");
        assert!(said(&client, read).await.starts_with("hit"), "{write}: nobody writes there");
        let now = value(&client, events).await;
        assert_ne!(now, count, "{write} is not seen");
        assert_eq!(now, bed.db.psql(events), "{write}");
    }
    // Of code nothing can be said.
    keep(&client, read).await;
    client.batch_execute("DO 'BEGIN PERFORM log(''x''); END'").await.expect("run");
    let outdated = said(&client, read).await;
    assert!(!outdated.starts_with("hit"), "{outdated}");
}

/// What is said may change with the configuration.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_is_read_again() {
    let (bed, client) = bed().await;
    let read = "SELECT unsaid(4) FROM other";
    assert!(said(&client, read).await.starts_with("no, since"));
    bed.proxy.revise(|config| format!("{config}\n[[function]]\nname = \"unsaid\"\nreads = \"other\"\n"));
    bed.proxy.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("that it is kept", || {
        bed.raw().query(read);
        bed.raw()
            .query(&format!("EXPLAIN (ROUTE) {read}"))
            .iter()
            .any(|f| f.kind == b'D' && f.column().contains("hit"))
    });
    // That was too little.
    bed.proxy.revise(|config| config.replace("reads = \"other\"", "reads = [\"other\", \"kv\"]"));
    bed.proxy.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("what else it reads", || {
        client_writes(&bed);
        bed.raw().value(read) == bed.db.psql(read)
    });
    assert_eq!(keep(&client, read).await, bed.db.psql(read));
    client.batch_execute("UPDATE kv SET v = 'last'").await.expect("written");
    assert_eq!(value(&client, read).await, "last");
}

fn client_writes(bed: &Bed) {
    bed.raw().query("UPDATE kv SET v = v || '+' WHERE id = 4");
}
