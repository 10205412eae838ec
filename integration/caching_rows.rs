//! Results of one row, by its primary key: a write through the proxy that is known to write another row leaves them, and
//! whatever may write this one does not.

use tokio_postgres::Client;

use crate::caching::{Bed, EXACT, all, keep, said};
use crate::harness::raw::{bind, execute, parse, query, sync};
use crate::harness::{pg, value};

const ONE: &str = "SELECT v FROM kv WHERE id = 1";
const TWO: &str = "SELECT v FROM kv WHERE id = 2";
const NONE: &str = "SELECT v FROM kv WHERE id = 77";
const ALL: &str = "SELECT count(*), max(v) FROM kv";

async fn is_kept(client: &Client, read: &str) -> bool {
    said(client, read).await.starts_with("hit")
}

async fn keep_all(client: &Client) {
    client.batch_execute("DELETE FROM kv WHERE id = 77").await.expect("written");
    for read in [ONE, TWO, NONE, ALL] {
        keep(client, read).await;
    }
}

/// Simple, and by Parse, Bind and Execute: each with the row that it writes, by what that was read with.
fn writes_of_a_row() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let by =
        |sql: &str, params: &[&str]| [parse("", sql), bind("", "", params), execute("", 0), sync()].concat();
    vec![
        ("literal", query("UPDATE kv SET v = 'b' WHERE id = 2"), TWO),
        ("text", query("UPDATE kv AS k SET v = v || 'c' WHERE k.id = ' 02' AND v IS NOT NULL"), TWO),
        ("in a transaction", query("UPDATE kv SET v = v || 'd' WHERE (id = 2) RETURNING v"), TWO),
        ("parameter", by("UPDATE kv SET v = $1 WHERE id = $2", &["e", "2"]), TWO),
        ("another spelling", by("UPDATE kv SET v = $1 WHERE id = $2", &["f", "+2"]), TWO),
        (
            "upsert",
            query("INSERT INTO kv (id, v) VALUES (2, 'g') ON CONFLICT (id) DO UPDATE SET v = excluded.v"),
            TWO,
        ),
        (
            "upsert of parameters",
            by("INSERT INTO kv (v, id) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET v = 'h'", &["x", "2"]),
            TWO,
        ),
        ("insert", query("INSERT INTO kv (id, v) VALUES (77, 'i')"), NONE),
        ("delete", by("DELETE FROM kv WHERE id = $1", &["77"]), NONE),
        (
            "insert of parameters",
            by("INSERT INTO kv (id, v) VALUES ($2, $1) ON CONFLICT DO NOTHING", &["j", "77"]),
            NONE,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_to_a_row_leaves_what_was_read_from_others() {
    let (bed, client) = Bed::new(EXACT).await;
    keep_all(&client).await;
    for (name, bytes, read) in writes_of_a_row() {
        let mut raw = bed.raw();
        for read in [ONE, TWO, NONE, ALL] {
            keep(&client, read).await;
        }
        if name == "in a transaction" {
            raw.query("BEGIN");
        }
        raw.send(&bytes);
        let frames = raw.until_ready(1);
        assert!(frames.iter().all(|f| f.kind != b'E'), "{name}: {frames:?}");
        let other = if read == TWO { NONE } else { TWO };
        // While the transaction is open as when it is over.
        for over in [false, true] {
            let kept = [ONE, other, read, ALL].map(|sql| is_kept(&client, sql));
            let kept = futures_util::future::join_all(kept).await;
            assert_eq!(kept, [true, true, false, false], "{name}, {over}");
            if name == "in a transaction" && !over {
                raw.query("COMMIT");
            }
        }
        let (cached, real) = (all(&client, read).await, bed.db.psql(read));
        assert_eq!(cached, real.trim(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn drivers_bind_in_binary() {
    let (bed, client) = Bed::new(EXACT).await;
    let writer = bed.client().await;
    let update = writer.prepare("UPDATE kv SET v = $2 WHERE id = $1").await.expect("prepared");
    keep_all(&client).await;
    for n in 0..3 {
        keep(&client, ONE).await;
        keep(&client, TWO).await;
        let v = format!("v{n}");
        assert_eq!(writer.execute(&update, &[&2i32, &v]).await.expect("written"), 1);
        assert!(is_kept(&client, ONE).await && !is_kept(&client, TWO).await);
        assert_eq!(value(&client, TWO).await, v);
    }
    // What a client has read in binary is of the same row.
    let read = bed.client().await;
    let select = read.prepare("SELECT v FROM kv WHERE id = $1").await.expect("prepared");
    let get = async || read.query_one(&select, &[&2i32]).await.expect("read").get::<_, String>(0);
    get().await;
    let before = bed.hits();
    get().await;
    assert!(bed.hits() > before);
    client.batch_execute("UPDATE kv SET v = 'w' WHERE id = 1").await.expect("written");
    let before = bed.hits();
    get().await;
    assert!(bed.hits() > before);
    client.batch_execute("UPDATE kv SET v = 'new' WHERE id = 2").await.expect("written");
    assert_eq!(get().await, "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_write_more_outdates_the_table() {
    let (bed, client) = Bed::new(EXACT).await;
    let by =
        |sql: &str, params: &[&str]| [parse("", sql), bind("", "", params), execute("", 0), sync()].concat();
    let portal = [parse("", "UPDATE kv SET v = 'p' WHERE id = $1"), bind("named", "", &["1"])].concat();
    for bytes in [
        query("UPDATE kv SET v = 'x' WHERE id IN (1, 2)"),
        query("UPDATE kv SET v = 'y' WHERE id = 1 OR id = 2"),
        query("UPDATE kv SET v = 'z' WHERE id = 1.0"),
        query("UPDATE kv SET id = 1 WHERE id = 1"),
        query("UPDATE kv SET v = 'a' WHERE id = (SELECT 1)"),
        query("WITH w AS (UPDATE kv SET v = 'b' WHERE id = 1 RETURNING v) SELECT * FROM w"),
        query("INSERT INTO kv (id, v) VALUES (70, 'a'), (71, 'b'); DELETE FROM kv WHERE id > 60"),
        query("INSERT INTO kv (id, v) VALUES (72, 'a'), (73, 'b')"),
        query("INSERT INTO kv (id, v) VALUES (1, 'd') ON CONFLICT (id) DO UPDATE SET id = 1"),
        query("UPDATE kv SET v = 'c' WHERE id = 1; UPDATE kv SET v = 'd' WHERE id = 1"),
        by("INSERT INTO kv (id, v) VALUES ($1, $2), ($3, $4)", &["74", "a", "75", "b"]),
        by("UPDATE kv SET v = $1::text WHERE id = $1::int", &["1"]),
        by("DELETE FROM kv WHERE id = $1::numeric", &["76.2"]),
        [portal, execute("named", 0), sync()].concat(),
        query("TRUNCATE other"),
    ] {
        keep(&client, ONE).await;
        keep(&client, TWO).await;
        let mut raw = bed.raw();
        raw.send(&bytes);
        let frames = raw.until_ready(1);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(frames.iter().all(|f| f.kind != b'E'), "{text}: {frames:?}");
        assert!(!is_kept(&client, ONE).await && !is_kept(&client, TWO).await, "{text}");
        assert_eq!(value(&client, ONE).await, bed.db.psql(ONE).trim(), "{text}");
    }
}

/// Tables where writing one row writes others, or where the key that is given is not the one that is stored.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_written_by_way_of_others() {
    let (bed, client) = Bed::new(EXACT).await;
    let made = "
        CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree ON DELETE CASCADE, v text);
        CREATE TABLE fired (id int PRIMARY KEY, v text);
        CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN UPDATE fired SET v = ''trigger'' WHERE id = 2 AND v <> ''trigger''; RETURN NEW; END';
        CREATE TRIGGER fires AFTER UPDATE ON fired FOR EACH ROW EXECUTE FUNCTION fires();
        CREATE TABLE ruled (id int PRIMARY KEY, v text);
        CREATE RULE further AS ON UPDATE TO ruled WHERE old.id = 1
            DO ALSO DELETE FROM ruled WHERE id = 2;
        CREATE TABLE made (x int, id int GENERATED ALWAYS AS (x + 1) STORED PRIMARY KEY, v text);
        CREATE TABLE parted (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
        CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (10);
        CREATE TABLE bounded (id varchar(3) PRIMARY KEY, v text);
        CREATE FUNCTION touches(int) RETURNS text LANGUAGE sql VOLATILE AS
            'UPDATE kv SET v = ''touched'' WHERE id = 2; SELECT ''by function''';";
    client.batch_execute(made).await.expect("made");
    for (setup, read, write, want) in [
        (
            "TRUNCATE tree; INSERT INTO tree VALUES (1, NULL, 'a'), (2, 1, 'a')",
            "SELECT count(*) FROM tree WHERE id = 2",
            "DELETE FROM tree WHERE id = 1",
            "0",
        ),
        (
            "TRUNCATE fired; INSERT INTO fired VALUES (1, 'a'), (2, 'a')",
            "SELECT v FROM fired WHERE id = 2",
            "UPDATE fired SET v = 'b' WHERE id = 1",
            "trigger",
        ),
        (
            "TRUNCATE ruled; INSERT INTO ruled VALUES (1, 'a'), (2, 'a')",
            "SELECT count(*) FROM ruled WHERE id = 2",
            "UPDATE ruled SET v = 'b' WHERE id = 1",
            "0",
        ),
        (
            "TRUNCATE made; INSERT INTO made VALUES (1, DEFAULT, 'a')",
            "SELECT count(*) FROM made WHERE id = 8",
            "UPDATE made SET x = 7 WHERE id = 2",
            "1",
        ),
        (
            "TRUNCATE parted; INSERT INTO parted VALUES (1, 'a'), (2, 'a')",
            "SELECT v FROM parted WHERE id = 1",
            "UPDATE part SET v = 'b' WHERE id = 1",
            "b",
        ),
        (
            "TRUNCATE bounded",
            "SELECT count(*) FROM bounded WHERE id = 'abc'",
            "INSERT INTO bounded (id, v) VALUES ('abc   ', 'a')",
            "1",
        ),
        ("UPDATE kv SET v = 'a'", TWO, "UPDATE kv SET v = touches(1) WHERE id = 1", "touched"),
    ] {
        client.batch_execute(setup).await.expect(setup);
        assert_ne!(keep(&client, read).await, want, "{write}");
        client.batch_execute(write).await.expect(write);
        assert_eq!(value(&client, read).await, want, "{write}");
        assert_eq!(bed.db.psql(read).trim(), want, "{write}");
    }
}

/// Texts that are equal though they are not the same: what one of them names is the other's row.
#[tokio::test(flavor = "multi_thread")]
async fn texts_that_are_equal_are_one_row() {
    let (bed, client) = Bed::new(EXACT).await;
    let ignoring = "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE TABLE named (id text COLLATE ci PRIMARY KEY, v text); INSERT INTO named VALUES ('Abc', 'a')";
    if client.batch_execute(ignoring).await.is_err() {
        return;
    }
    let read = "SELECT v FROM named WHERE id = 'ABC'";
    assert_eq!(keep(&client, read).await, "a");
    client.batch_execute("UPDATE named SET v = 'b' WHERE id = 'abc'").await.expect("written");
    assert_eq!(value(&client, read).await, "b");
    drop(bed);
}

/// Of a transaction whose connection is lost nobody knows: its row waits until the server says that it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_transactions_that_end_otherwise() {
    let (bed, client) = Bed::new(EXACT).await;
    keep_all(&client).await;
    let writer = bed.client().await;
    for end in ["ROLLBACK", "ROLLBACK TO s; COMMIT"] {
        keep(&client, ONE).await;
        let before = keep(&client, TWO).await;
        writer.batch_execute("BEGIN").await.expect("begun");
        writer.batch_execute("SAVEPOINT s").await.expect("set");
        writer.batch_execute("UPDATE kv SET v = 'never' WHERE id = 2").await.expect("written");
        assert!(is_kept(&client, ONE).await && !is_kept(&client, TWO).await);
        writer.batch_execute(end).await.expect("ended");
        assert!(is_kept(&client, ONE).await && !is_kept(&client, TWO).await);
        assert_eq!(value(&client, TWO).await, before);
    }
    keep(&client, TWO).await;
    writer.batch_execute("BEGIN").await.expect("begun");
    writer.batch_execute("UPDATE kv SET v = 'lost' WHERE id = 2").await.expect("written");
    bed.behind(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() \
         AND pid <> pg_backend_pid() AND state = 'idle in transaction'",
    );
    assert!(is_kept(&client, ONE).await);
    assert_eq!(value(&client, TWO).await, bed.db.psql(TWO).trim());
    keep(&pg(&bed.proxy.url(&bed.db)).await, TWO).await;
}
