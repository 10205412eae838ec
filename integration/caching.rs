//! Results that are given again: in every form of the protocol the very frames that a server sent, to nobody who might
//! not have got them, and never after something was written that they were read from.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::harness::raw::{Frame, Raw, bind, close, describe, execute, msg, parse, query, sync};
use crate::harness::{Db, Proxy, ProxyOptions, eventually, pg, rows, value};

/// Exact, for everything.
pub const EXACT: &str = "[[cache]]\n";

/// A proxy that keeps what these rules say, of a database that nobody else writes to.
pub fn caching(db: &Db, rules: &str) -> Proxy {
    let options = ProxyOptions {
        general: "cache_memory = \"32MiB\"".into(),
        database: "writers = \"proxy\"".into(),
        extra: rules.into(),
        ..Default::default()
    };
    Proxy::start(db, options)
}

/// What EXPLAIN (ROUTE) says of the cache.
pub async fn said(client: &Client, sql: &str) -> String {
    let lines = rows(client, &format!("EXPLAIN (ROUTE) {sql}")).await;
    let line = lines.iter().flatten().find_map(|line| line.trim().strip_prefix("Cache: ").map(String::from));
    line.unwrap_or_default()
}

/// All of a result, as psql has it.
pub async fn all(client: &Client, sql: &str) -> String {
    rows(client, sql).await.iter().map(|row| row.join("|")).collect::<Vec<_>>().join("\n")
}

/// Reads until the result is kept: what was changed by the test must be known first.
pub async fn keep(client: &Client, sql: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let got = all(client, sql).await;
        let said = said(client, sql).await;
        if said.starts_with("hit") {
            return got;
        }
        assert!(Instant::now() < deadline, "{sql} is not kept: {said}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Those tables.
pub const TABLES: &str = "
    CREATE TABLE kv (id int PRIMARY KEY, v text NOT NULL); INSERT INTO kv SELECT i, 'a' FROM generate_series(1, 9) i;
    CREATE TABLE other (id int); INSERT INTO other VALUES (1);";

/// A database that results of are kept, and its proxy.
pub struct Bed {
    /// The database.
    pub db: Db,
    /// The proxy.
    pub proxy: Proxy,
}

impl Bed {
    /// One that keeps what these rules say, with some tables.
    pub async fn new(rules: &str) -> (Bed, Client) {
        let db = Db::new();
        let proxy = caching(&db, rules);
        let client = pg(&proxy.url(&db)).await;
        client.batch_execute(TABLES).await.expect("made");
        (Bed { db, proxy }, client)
    }

    /// A client.
    pub async fn client(&self) -> Client {
        pg(&self.proxy.url(&self.db)).await
    }

    /// A client by hand.
    pub fn raw(&self) -> Raw {
        self.proxy.raw(&self.db)
    }

    /// How many results have been given.
    pub fn hits(&self) -> u64 {
        let mut raw = Raw::login(self.proxy.port, &self.db.user, &self.db.password, "turnpike");
        let frames = raw.query("SHOW CACHE");
        let row = frames.iter().find(|f| f.kind == b'D' && columns(f)[1] == "l1").expect("a row");
        columns(row)[4].parse().expect("a number")
    }

    /// Changes a value behind the proxy's back.
    pub fn behind(&self, sql: &str) {
        self.db.psql(sql);
    }
}

fn columns(frame: &Frame) -> Vec<String> {
    let (mut rest, mut out) = (&frame.body[2..], Vec::new());
    while let Some((len, tail)) = rest.split_first_chunk::<4>() {
        let len = usize::try_from(i32::from_be_bytes(*len)).unwrap_or(0);
        out.push(String::from_utf8_lossy(&tail[..len]).into_owned());
        rest = &tail[len..];
    }
    out
}

/// What is read of them.
pub const READ: &str = "SELECT id, v FROM kv WHERE id < 4 ORDER BY id";

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_the_protocol() {
    let (bed, client) = Bed::new(EXACT).await;
    keep(&client, READ).await;
    let mut raw = bed.raw();
    let one = "SELECT v FROM kv WHERE id = $1";
    raw.send([parse("named", one), sync()].concat());
    raw.until_ready(1);
    let unnamed = [parse("", one), bind("", "", &["2"]), describe('P', ""), execute("", 0), sync()].concat();
    let forms = [
        ("simple", query(READ)),
        ("simple without rows", query("SELECT v FROM kv WHERE id = 77")),
        ("unnamed", unnamed.clone()),
        (
            "described",
            [parse("", one), describe('S', ""), bind("", "", &["1"]), execute("", 0), sync()].concat(),
        ),
        ("named", [bind("", "named", &["1"]), execute("", 0), sync()].concat()),
        ("named, described", [bind("", "named", &["3"]), describe('P', ""), execute("", 0), sync()].concat()),
        (
            "closed",
            [bind("", "named", &["1"]), describe('P', ""), execute("", 0), close('P', ""), sync()].concat(),
        ),
        (
            "statement first",
            [describe('S', "named"), bind("", "named", &["4"]), execute("", 0), sync()].concat(),
        ),
    ];
    for (name, bytes) in &forms {
        raw.send(bytes);
        let first = raw.until_ready(1);
        let before = bed.hits();
        raw.send(bytes);
        let second = raw.until_ready(1);
        assert_eq!(second, first, "{name}");
        assert_eq!(bed.hits(), before + 1, "{name}");
        assert!(first.iter().all(|f| f.kind != b'E'), "{name}: {first:?}");
    }
    // The unnamed statement is there afterwards, as if a server had prepared it.
    raw.send(&unnamed);
    raw.until_ready(1);
    raw.send([bind("", "", &["5"]), execute("", 0), sync()].concat());
    let frames = raw.until_ready(1);
    assert!(frames.iter().any(|f| f.kind == b'D'), "{frames:?}");
    // In pieces: what does not come at once is a server's.
    for bytes in unnamed.chunks(7) {
        raw.send(bytes);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(raw.until_ready(1).last().map(|f| f.kind), Some(b'Z'));
}

#[tokio::test(flavor = "multi_thread")]
async fn between_others_in_a_pipeline() {
    let (bed, client) = Bed::new(EXACT).await;
    keep(&client, READ).await;
    let mut raw = bed.raw();
    let batch = |sql: &str| [parse("", sql), bind("", "", &[]), execute("", 0), sync()].concat();
    let read = batch("SELECT v FROM kv WHERE id = 1");
    raw.send(&read);
    raw.until_ready(1);
    let before = bed.hits();
    let write = |v: &str| batch(&format!("UPDATE kv SET v = '{v}' WHERE id = 1"));
    // Each read sees what was written before it in the same breath.
    let one = batch("SELECT 1");
    let all =
        [read.clone(), one, read.clone(), write("b"), read.clone(), read.clone(), write("c"), read.clone()];
    raw.send(all.concat());
    let frames = raw.until_ready(all.len());
    let values: Vec<String> = frames.iter().filter(|f| f.kind == b'D').map(Frame::column).collect();
    assert_eq!(values, ["a", "1", "a", "b", "b", "c"]);
    assert!(bed.hits() > before);
    // Simple queries the same way.
    let one = "SELECT v FROM kv WHERE id = 2";
    raw.query(one);
    raw.send([query(one), query("UPDATE kv SET v = 'z' WHERE id = 2"), query(one), query(one)].concat());
    let frames = raw.until_ready(4);
    let values: Vec<String> = frames.iter().filter(|f| f.kind == b'D').map(Frame::column).collect();
    assert_eq!(values, ["a", "z", "z"]);
    // A transaction that is begun in the same breath sees its own.
    raw.send(
        [
            query("BEGIN"),
            query("UPDATE kv SET v = 'y' WHERE id = 2"),
            query(one),
            query("ROLLBACK"),
            query(one),
        ]
        .concat(),
    );
    let frames = raw.until_ready(5);
    let values: Vec<String> = frames.iter().filter(|f| f.kind == b'D').map(Frame::column).collect();
    assert_eq!(values, ["y", "z"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn drivers_get_what_they_would_get() {
    let (bed, client) = Bed::new(EXACT).await;
    keep(&client, READ).await;
    let statement =
        client.prepare("SELECT id, v FROM kv WHERE id = ANY($1) ORDER BY id").await.expect("prepared");
    let read = async || {
        let rows = client.query(&statement, &[&vec![1i32, 2]]).await.expect("rows");
        rows.iter().map(|row| (row.get::<_, i32>(0), row.get::<_, String>(1))).collect::<Vec<_>>()
    };
    let first = read().await;
    let before = bed.hits();
    bed.behind("UPDATE kv SET v = 'behind'");
    assert_eq!((read().await, bed.hits()), (first, before + 1));
    client.execute("UPDATE kv SET v = 'b' WHERE id = 1", &[]).await.expect("written");
    assert_eq!(read().await, [(1, "b".to_string()), (2, "behind".into())]);
    // Another value, another format, another type: other results.
    let texts = client.query("SELECT $1::text || v FROM kv WHERE id = 1", &[&"x"]).await.expect("rows");
    assert_eq!(texts[0].get::<_, &str>(0), "xb");
    let texts = client.query("SELECT $1::text || v FROM kv WHERE id = 1", &[&"y"]).await.expect("rows");
    assert_eq!(texts[0].get::<_, &str>(0), "yb");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_what_is_anothers() {
    let (bed, client) = Bed::new(EXACT).await;
    let role = bed.db.role("second");
    let policies = format!(
        "GRANT SELECT ON kv, other TO {role};
         CREATE TABLE rls (who text, n int); INSERT INTO rls VALUES ('{user}', 1), ('{role}', 2);
         ALTER TABLE rls ENABLE ROW LEVEL SECURITY; ALTER TABLE rls FORCE ROW LEVEL SECURITY;
         CREATE POLICY own ON rls USING (who = current_user); GRANT SELECT ON rls TO {role};
         CREATE TABLE tenants (tenant text, n int); INSERT INTO tenants VALUES ('a', 1), ('b', 2);
         ALTER TABLE tenants ENABLE ROW LEVEL SECURITY; ALTER TABLE tenants FORCE ROW LEVEL SECURITY;
         CREATE POLICY own ON tenants USING (tenant = current_setting('app.tenant', true));
         CREATE TABLE ours (tenant text, n int); INSERT INTO ours VALUES ('a', 1), ('b', 2);
         ALTER TABLE ours ENABLE ROW LEVEL SECURITY; ALTER TABLE ours FORCE ROW LEVEL SECURITY;
         CREATE POLICY own ON ours USING (tenant = current_setting('turnpike.tenant', true));
         CREATE SCHEMA one; CREATE TABLE one.t (n int); INSERT INTO one.t VALUES (1);
         CREATE SCHEMA two; CREATE TABLE two.t (n int); INSERT INTO two.t VALUES (2);
         CREATE TABLE times (t timestamptz); INSERT INTO times VALUES ('2024-01-01 00:00+00');",
        user = bed.db.user
    );
    bed.behind(&format!("GRANT {role} TO {}", bed.db.user));
    client.batch_execute(&policies).await.expect("made");
    let own = "SELECT n FROM rls ORDER BY n";
    assert_eq!(keep(&client, own).await, "1");
    client.batch_execute(&format!("SET ROLE {role}")).await.expect("set");
    assert_eq!(value(&client, own).await, "2");
    assert_eq!(keep(&client, own).await, "2");
    client.batch_execute("RESET ROLE").await.expect("set");
    assert_eq!(keep(&client, own).await, "1");
    // By settings of one's own, of the search path, of what bytes look like.
    for (set, sql, values) in [
        ("app.tenant", "SELECT n FROM tenants", [("a", "1"), ("b", "2")]),
        ("turnpike.tenant", "SELECT n FROM ours", [("a", "1"), ("b", "2")]),
        ("turnpike.other", "SELECT current_setting('turnpike.other') FROM other", [("a", "a"), ("b", "b")]),
        // What only says where to go is asked for by name, or makes no difference.
        (
            "turnpike.route",
            "SELECT current_setting('turnpike.route') FROM other",
            [("primary", "primary"), ("auto", "auto")],
        ),
        ("search_path", "SELECT n FROM t", [("one", "1"), ("two", "2")]),
        (
            "TimeZone",
            "SELECT t FROM times",
            [("UTC", "2024-01-01 00:00:00+00"), ("Asia/Tokyo", "2024-01-01 09:00:00+09")],
        ),
        ("bytea_output", "SELECT v::bytea FROM kv WHERE id = 9", [("hex", "\\x61"), ("escape", "a")]),
        (
            "application_name",
            "SELECT current_setting('application_name') FROM other",
            [("one", "one"), ("two", "two")],
        ),
    ] {
        for _ in 0..2 {
            for (setting, want) in values {
                client.batch_execute(&format!("SET {set} = '{setting}'")).await.expect("set");
                assert_eq!(keep(&client, sql).await, want, "{set} = {setting}");
            }
        }
        client.batch_execute(&format!("RESET {set}")).await.expect("reset");
    }
    // What a tenant has said when it came in counts as well.
    for (tenant, want) in [("a", "1"), ("b", "2")] {
        let url = format!("{}?options=-c%20turnpike.tenant%3D{tenant}", bed.proxy.url(&bed.db));
        assert_eq!(keep(&pg(&url).await, "SELECT n FROM ours").await, want, "{tenant}");
    }
    // What one may read, another may not.
    client.batch_execute("CREATE TABLE secret (n int); INSERT INTO secret VALUES (7)").await.expect("made");
    assert_eq!(keep(&client, "SELECT n FROM secret").await, "7");
    client.batch_execute(&format!("SET ROLE {role}")).await.expect("set");
    assert!(client.simple_query("SELECT n FROM secret").await.is_err());
    client.batch_execute("RESET ROLE").await.expect("reset");
    client
        .batch_execute(&format!("GRANT SELECT ON secret TO {role}; SET ROLE {role}"))
        .await
        .expect("granted");
    assert_eq!(keep(&client, "SELECT n FROM secret").await, "7");
    let granter = bed.client().await;
    granter.batch_execute(&format!("REVOKE SELECT ON secret FROM {role}")).await.expect("revoked");
    assert!(client.simple_query("SELECT n FROM secret").await.is_err());
}

/// Whoever does not want kept results may have it said by the catalog.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_role_has_in_the_catalog_counts() {
    let (bed, client) = Bed::new(EXACT).await;
    keep(&client, READ).await;
    bed.behind(&format!("ALTER ROLE {} SET turnpike.cache = 'off'", bed.db.user));
    bed.db.psql("SELECT 1");
    client.batch_execute("CREATE TABLE anew (n int)").await.expect("made: the catalog is read again");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !said(&client, READ).await.starts_with("no, since") {
        assert!(Instant::now() < deadline, "{}", said(&client, READ).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What the session says itself goes before.
    client.batch_execute("SET turnpike.cache = 'on'").await.expect("set");
    keep(&client, READ).await;
}

/// What a process that was killed has sent is still carried out: nothing is given that is older than that.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_before_a_crash_is_waited_for() {
    let (bed, client) = Bed::new(EXACT).await;
    let read = "SELECT v FROM kv WHERE id = 1";
    keep(&client, read).await;
    let slow = bed.client().await;
    let sent = tokio::spawn(async move {
        let _ = slow.batch_execute("UPDATE kv SET v = 'late' FROM pg_sleep(4) WHERE id = 1").await;
    });
    let writing = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' \
                   AND query LIKE 'UPDATE%'";
    eventually("that the write is carried out", || bed.db.psql(writing) == "1");
    bed.proxy.kill();
    let _ = sent.await;
    bed.proxy.start_again();
    let client = bed.client().await;
    let (began, mut why) = (Instant::now(), String::new());
    let mut last = String::new();
    while last != "late" {
        assert!(began.elapsed() < Duration::from_secs(12), "{last} is given for good");
        let before = bed.db.psql(read);
        last = value(&client, read).await;
        assert!(last == "late" || before == "a", "{last} after {before}");
        let says = said(&client, read).await;
        assert!(last == "late" || !says.starts_with("hit"), "{says}");
        if says.contains("a process before this one") {
            why = says;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(why.starts_with("not now, since transactions"), "{why}");
    assert_eq!(keep(&client, read).await, "late");
    let admin = pg(&bed.proxy.admin_url(&bed.db)).await;
    assert!(rows(&admin, "SHOW CACHE").await.iter().any(|row| row[0] == "past" && row[1] == "over"));
}

/// What is made first, what is written, and what is read to see it.
const MATRIX: &[(&str, &str, &str)] = &[
    ("", "INSERT INTO kv VALUES (10, 'n')", "SELECT count(*) FROM kv"),
    ("", "UPDATE kv SET v = v || 'u' WHERE id = 1", "SELECT v FROM kv WHERE id = 1"),
    ("", "DELETE FROM kv WHERE id = 10", "SELECT count(*) FROM kv"),
    (
        "",
        "MERGE INTO kv USING other o ON kv.id = o.id WHEN MATCHED THEN UPDATE SET v = kv.v || 'm'",
        "SELECT v FROM kv WHERE id = 1",
    ),
    ("", "WITH w AS (UPDATE kv SET v = v || 'w' WHERE id = 1 RETURNING 1) SELECT * FROM w", "SELECT v FROM kv WHERE id = 1"),
    ("", "BEGIN; UPDATE kv SET v = v || 'x' WHERE id = 1; COMMIT", "SELECT v FROM kv WHERE id = 1"),
    ("", "BEGIN; UPDATE kv SET v = v || 'x' WHERE id = 1; ROLLBACK", "SELECT v FROM kv WHERE id = 1"),
    (
        "",
        "BEGIN; SAVEPOINT a; UPDATE kv SET v = v || 's' WHERE id = 1; ROLLBACK TO a; UPDATE kv SET v = v || 't' WHERE id = 1; COMMIT",
        "SELECT v FROM kv WHERE id = 1",
    ),
    ("", "SELECT v FROM kv WHERE id = 1 FOR UPDATE; UPDATE kv SET v = v || 'f' WHERE id = 1", "SELECT v FROM kv WHERE id = 1"),
    ("CREATE TABLE cut (n int); INSERT INTO cut VALUES (1)", "TRUNCATE cut", "SELECT count(*) FROM cut"),
    ("", "INSERT INTO cut VALUES (2)", "SELECT count(*) FROM cut"),
    ("", "ALTER TABLE cut ALTER n TYPE text USING n || 'x'", "SELECT n FROM cut"),
    ("", "DROP TABLE cut; CREATE TABLE cut AS SELECT 5 AS n", "SELECT n FROM cut"),
    ("CREATE VIEW seen AS SELECT v FROM kv WHERE id = 2", "UPDATE kv SET v = v || 'v' WHERE id = 2", "SELECT v FROM seen"),
    ("", "UPDATE seen SET v = 'through'", "SELECT v FROM kv WHERE id = 2"),
    ("", "CREATE OR REPLACE VIEW seen AS SELECT v FROM kv WHERE id = 3", "SELECT v FROM seen"),
    ("", "UPDATE kv SET v = v || 'i' WHERE id = 3", "SELECT v FROM (SELECT v FROM seen) x WHERE v IS NOT NULL"),
    (
        "CREATE TABLE parent (id int, n int) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF parent FOR VALUES FROM (0) TO (10);
         CREATE TABLE high PARTITION OF parent FOR VALUES FROM (10) TO (20)",
        "INSERT INTO low VALUES (1, 1)",
        "SELECT count(*) FROM parent",
    ),
    ("", "INSERT INTO parent VALUES (11, 1)", "SELECT count(*) FROM high"),
    ("", "UPDATE parent SET id = 12 WHERE id = 1", "SELECT count(*) FROM low"),
    ("", "ALTER TABLE parent DETACH PARTITION high", "SELECT count(*) FROM parent"),
    (
        "CREATE TABLE base (n int); CREATE TABLE heir () INHERITS (base)",
        "INSERT INTO heir VALUES (1)",
        "SELECT count(*) FROM base",
    ),
    ("", "UPDATE base SET n = n + 1", "SELECT n FROM heir"),
    (
        "CREATE TABLE owner (id int PRIMARY KEY); CREATE TABLE owned (id int REFERENCES owner ON DELETE CASCADE ON UPDATE CASCADE);
         INSERT INTO owner VALUES (1), (2); INSERT INTO owned VALUES (1), (2)",
        "DELETE FROM owner WHERE id = 1",
        "SELECT count(*) FROM owned",
    ),
    ("", "UPDATE owner SET id = 20", "SELECT id FROM owned"),
    (
        "CREATE TABLE log (n int); CREATE FUNCTION logs() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN INSERT INTO log VALUES (1); RETURN NEW; END';
         CREATE TABLE logged (n int); CREATE TRIGGER logs AFTER INSERT ON logged FOR EACH ROW EXECUTE FUNCTION logs()",
        "INSERT INTO logged VALUES (1)",
        "SELECT count(*) FROM log",
    ),
    (
        "CREATE FUNCTION writes() RETURNS int LANGUAGE plpgsql AS
         'BEGIN UPDATE kv SET v = v || ''p'' WHERE id = 4; RETURN 1; END'",
        "SELECT writes()",
        "SELECT v FROM kv WHERE id = 4",
    ),
    (
        "CREATE FUNCTION reads() RETURNS text LANGUAGE sql STABLE AS 'SELECT v FROM kv WHERE id = 4'",
        "UPDATE kv SET v = v || 'r' WHERE id = 4",
        "SELECT reads() FROM other",
    ),
    (
        "",
        "CREATE OR REPLACE FUNCTION reads() RETURNS text LANGUAGE sql STABLE AS 'SELECT v FROM kv WHERE id = 5'",
        "SELECT reads() FROM other",
    ),
    ("", "DO $$ BEGIN UPDATE kv SET v = v || 'd' WHERE id = 5; END $$", "SELECT v FROM kv WHERE id = 5"),
    ("", "DO $$ BEGIN ALTER TABLE kv RENAME v TO w; ALTER TABLE kv RENAME w TO v; END $$", "SELECT v FROM kv WHERE id = 5"),
    (
        "CREATE PROCEDURE proc() LANGUAGE plpgsql AS 'BEGIN UPDATE kv SET v = v || ''c'' WHERE id = 5; COMMIT; END'",
        "CALL proc()",
        "SELECT v FROM kv WHERE id = 5",
    ),
    ("CREATE MATERIALIZED VIEW mat AS SELECT v FROM kv WHERE id = 5", "UPDATE kv SET v = 'z' WHERE id = 5; REFRESH MATERIALIZED VIEW mat", "SELECT v FROM mat"),
    ("", "PREPARE w AS UPDATE kv SET v = v || 'q' WHERE id = 6", "SELECT v FROM kv WHERE id = 6"),
    ("", "EXECUTE w", "SELECT v FROM kv WHERE id = 6"),
    ("", "EXPLAIN (ANALYZE) UPDATE kv SET v = v || 'e' WHERE id = 6", "SELECT v FROM kv WHERE id = 6"),
    ("", "COMMENT ON TABLE kv IS 'x'", "SELECT v FROM kv WHERE id = 6"),
    ("", "VACUUM kv", "SELECT v FROM kv WHERE id = 6"),
    ("CREATE TABLE ruled (id int); INSERT INTO ruled VALUES (1);
         CREATE RULE also AS ON UPDATE TO ruled DO ALSO UPDATE kv SET v = v || 'r' WHERE id = 7",
        "UPDATE ruled SET id = 1",
        "SELECT v FROM kv WHERE id = 7",
    ),
    ("", "UPDATE other SET id = id", "SELECT id FROM other"),
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_written_is_seen() {
    let (bed, client) = Bed::new(EXACT).await;
    let reader = bed.client().await;
    for (made, ..) in MATRIX {
        client.batch_execute(made).await.unwrap_or_else(|e| panic!("{made}: {e}"));
    }
    for (_, write, read) in MATRIX {
        let before = keep(&reader, read).await;
        assert_eq!(before, bed.db.psql(read), "{read}");
        for statement in write.split("; ").filter(|_| !write.starts_with("DO ")) {
            client.simple_query(statement).await.unwrap_or_else(|e| panic!("{statement}: {e}"));
        }
        if write.starts_with("DO ") {
            client.simple_query(write).await.unwrap_or_else(|e| panic!("{write}: {e}"));
        }
        // From the first read on, and for those that are kept from then on.
        assert_eq!(all(&reader, read).await, bed.db.psql(read), "{write} is not seen by {read}");
        assert_eq!(keep(&reader, read).await, bed.db.psql(read), "{write} is not seen by {read}");
    }
    // COPY, both ways of the protocol.
    let read = "SELECT count(*) FROM kv";
    keep(&reader, read).await;
    let mut raw = bed.raw();
    raw.send([query("COPY kv FROM STDIN"), msg(b'd', "100\tcopied\n"), msg(b'c', "")].concat());
    raw.until_ready(1);
    assert_eq!(value(&reader, read).await, bed.db.psql(read));
    let read = "SELECT v FROM kv WHERE id = 1";
    keep(&reader, read).await;
    raw.query("COPY (UPDATE kv SET v = v || 'o' WHERE id = 1 RETURNING id) TO STDOUT");
    assert_eq!(value(&reader, read).await, bed.db.psql(read));
    // A prepared statement writes where the search path leads when it is executed.
    client.batch_execute("CREATE SCHEMA one CREATE TABLE p (n int)").await.expect("made");
    client.batch_execute("CREATE SCHEMA two CREATE TABLE p (n int)").await.expect("made");
    client.batch_execute("SET search_path = one, public").await.expect("set");
    let statement = client.prepare("INSERT INTO p VALUES (1)").await.expect("prepared");
    client.execute(&statement, &[]).await.expect("written");
    let read = "SELECT count(*) FROM two.p";
    assert_eq!(keep(&reader, read).await, "0");
    client.batch_execute("SET search_path = two, public").await.expect("set");
    client.execute(&statement, &[]).await.expect("written");
    assert_eq!(all(&reader, read).await, bed.db.psql(read));
}

/// Prepared transactions show what they wrote when anybody commits them.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_prepared_is_seen_when_it_is_committed() {
    let (bed, client) = Bed::new(EXACT).await;
    if bed.db.psql("SHOW max_prepared_transactions") == "0" {
        return;
    }
    let read = "SELECT v FROM kv WHERE id = 1";
    for statement in ["BEGIN", "UPDATE kv SET v = 'two' WHERE id = 1", "PREPARE TRANSACTION 'caching'"] {
        client.batch_execute(statement).await.expect(statement);
    }
    assert_eq!(keep(&client, read).await, "a");
    bed.client().await.batch_execute("COMMIT PREPARED 'caching'").await.expect("committed");
    assert_eq!(value(&client, read).await, "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_kept_is_not() {
    let (bed, client) = Bed::new(EXACT).await;
    client
        .batch_execute(
            "CREATE FUNCTION guarded() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT count(*) FROM kv';
             CREATE FUNCTION outside() RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT count(*) FROM kv); END';
             CREATE TABLE texts (t text, at timestamptz); INSERT INTO texts VALUES ('now', now());
             CREATE TABLE zoned (at timetz); CREATE DOMAIN someday AS date",
        )
        .await
        .expect("made");
    keep(&client, READ).await;
    for (sql, why) in [
        ("SELECT now() FROM kv", "tells the time"),
        ("SELECT current_date FROM kv", "tells the time"),
        ("SELECT statement_timestamp() FROM kv", "not known"),
        ("SELECT random() FROM kv", "differs"),
        ("SELECT v FROM kv FOR UPDATE", "locks"),
        ("SELECT * FROM kv TABLESAMPLE SYSTEM (100)", "no, since"),
        ("SELECT ctid FROM kv", "changes by itself"),
        ("SELECT relname FROM pg_class LIMIT 1", "system's own"),
        ("SELECT table_name FROM information_schema.tables LIMIT 1", "no, since"),
        ("SELECT 1", "no table"),
        ("SELECT t::timestamptz FROM texts", "may tell the time"),
        ("SELECT daterange(t) FROM texts", "may be a cast that tells the time"),
        ("SELECT someday(t) FROM texts", "may be a cast that tells the time"),
        ("SELECT t FROM texts WHERE '10:00'::timetz > '9:00'", "depends on the day"),
        ("SELECT at FROM zoned WHERE at > '10:00'", "depends on the day"),
        ("SELECT t FROM texts WHERE at > 'yesterday'", "may tell the time"),
        ("SELECT guarded() FROM kv", "somebody else"),
        ("SELECT outside() FROM kv", "not known"),
        ("SELECT count(*) FROM pg_stat_activity", "no, since"),
        ("INSERT INTO kv VALUES (50, 'x')", "no, since"),
    ] {
        // What was run before may have been something after which the catalog is read again.
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut answer = said(&client, sql).await;
        while answer.starts_with("not now") && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
            answer = said(&client, sql).await;
        }
        assert!(answer.starts_with("no") && answer.contains(why), "{sql}: {answer}");
        let before = bed.hits();
        for _ in 0..3 {
            client.simple_query(sql).await.ok();
        }
        assert_eq!(bed.hits(), before, "{sql}");
    }
    // Nor are errors kept.
    let before = bed.hits();
    for _ in 0..3 {
        assert!(client.simple_query("SELECT 1 / (id - id) FROM other").await.is_err());
    }
    client.batch_execute("BEGIN").await.expect("begun");
    client.batch_execute("UPDATE kv SET v = 'mine' WHERE id = 1").await.expect("written");
    assert_eq!(value(&client, "SELECT v FROM kv WHERE id = 1").await, "mine");
    // Nobody else is given anything meanwhile that might be of before.
    assert!(said(&bed.client().await, READ).await.starts_with("not now"));
    client.batch_execute("ROLLBACK").await.expect("rolled back");
    client.batch_execute("CREATE TEMP TABLE kv (id int, v text)").await.expect("made");
    assert_eq!(value(&client, "SELECT count(*) FROM kv").await, "0");
    assert_eq!(bed.hits(), before);
}

/// Of what is on a foreign server nobody tells when it is written: it is kept where its age is bounded, and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_tables_are_kept_for_a_time() {
    let rules = "[[cache]]\ntable = \"faraway\"\nmode = \"bounded\"\nttl = \"1h\"\n[[cache]]\n";
    let (bed, client) = Bed::new(rules).await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(file.path(), mode).expect("ours");
    let write = |text: &str| std::fs::write(file.path(), text).expect("written");
    write("one\n");
    let table = |name: &str| {
        let path = file.path().display();
        format!(
            "CREATE FOREIGN TABLE {name} (v text) SERVER files OPTIONS (filename '{path}'); GRANT SELECT ON {name} TO PUBLIC;"
        )
    };
    bed.db.psql(&format!(
        "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; {}{}",
        table("faraway"),
        table("abroad")
    ));
    let admin = pg(&bed.proxy.admin_url(&bed.db)).await;
    admin.batch_execute("REFRESH CATALOG").await.expect("read");
    let (read, exact) = ("SELECT count(*) FROM faraway", "SELECT count(*) FROM abroad");
    assert_eq!(keep(&client, read).await, "1");
    assert!(said(&client, exact).await.contains("foreign server"), "{}", said(&client, exact).await);
    // Reading it outdates nothing.
    keep(&client, READ).await;
    write("one\ntwo\n");
    assert_eq!(value(&client, exact).await, "2");
    assert_eq!(value(&client, read).await, "1");
    assert!(said(&client, READ).await.starts_with("hit"));
    admin.batch_execute("FLUSH CACHE").await.expect("flushed");
    assert_eq!(value(&client, read).await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_sessions_and_comments_have_their_say() {
    let rules = "[[cache]]\ntable = \"kv\"\nmode = \"bounded\"\nttl = \"5s\"\nasked = true\n\
                 [[cache]]\ntable = \"public.other\"\nmode = \"off\"\n\
                 [[cache]]\ntable = \"principals\"\nmode = \"bounded\"\nttl = \"1h\"\nmax_rows = 2\n";
    let (bed, client) = Bed::new(rules).await;
    keep(&client, "SELECT count(*) FROM principals").await;
    let read = "SELECT v FROM kv WHERE id = 1";
    assert!(said(&client, read).await.contains("no [[cache]] rule says so"));
    assert!(said(&client, "SELECT id FROM other").await.contains("no [[cache]] rule says so"));
    let asks = format!("/* turnpike: cache=on */ {read}");
    assert_eq!(keep(&client, &asks).await, "a");
    // Bounded: what is written behind our back is seen when its time is over.
    bed.behind("UPDATE kv SET v = 'behind' WHERE id = 1");
    assert_eq!(value(&client, &asks).await, "a");
    tokio::time::sleep(Duration::from_millis(5100)).await;
    assert_eq!(value(&client, &asks).await, "behind");
    // And what is written here at once.
    client.batch_execute("UPDATE kv SET v = 'here' WHERE id = 1").await.expect("written");
    assert_eq!(value(&client, &asks).await, "here");
    client.batch_execute("SET turnpike.cache = 'on'").await.expect("set");
    assert_eq!(keep(&client, read).await, "here");
    assert!(said(&client, &format!("/* turnpike: cache=off */ {read}")).await.contains("no [[cache]]"));
    client.batch_execute("SET turnpike.cache = off").await.expect("set");
    assert!(said(&client, &asks).await.starts_with("miss") || said(&client, &asks).await.starts_with("hit"));
    assert!(said(&client, read).await.contains("no [[cache]] rule says so"));
    let refused = client.batch_execute("SET turnpike.cache = 'perhaps'").await.expect_err("refused");
    assert_eq!(refused.code().map(|code| code.code()), Some("22023"));
    // Larger than the rule allows.
    client.batch_execute("RESET turnpike.cache").await.expect("reset");
    for _ in 0..3 {
        all(&client, "SELECT id FROM principals ORDER BY 1 LIMIT 3").await;
    }
    assert!(said(&client, "SELECT id FROM principals ORDER BY 1 LIMIT 3").await.starts_with("miss"));
    keep(&client, "SELECT id FROM principals ORDER BY 1 LIMIT 2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_flushed_is_read_again() {
    let (bed, client) = Bed::new(EXACT).await;
    let admin = pg(&bed.proxy.admin_url(&bed.db)).await;
    let read = "SELECT v FROM kv WHERE id = 1";
    let (mut n, other) = (0, "SELECT id FROM other");
    let mut changed = || {
        n += 1;
        bed.behind(&format!("UPDATE kv SET v = 'b{n}' WHERE id = 1"));
        format!("b{n}")
    };
    client.batch_execute("CREATE VIEW seen AS SELECT v FROM kv").await.expect("made");
    keep(&client, read).await;
    let print = rows(&client, &format!("EXPLAIN (ROUTE) {read}")).await;
    let print = print
        .iter()
        .flatten()
        .find_map(|line| line.trim().strip_prefix("Fingerprint: "))
        .expect("one")
        .to_string();
    for flush in [
        "FLUSH CACHE".to_string(),
        "FLUSH CACHE TABLE kv".into(),
        "FLUSH CACHE TABLE public.kv".into(),
        format!("FLUSH CACHE TABLE \"public\".Kv IN \"{}\"", bed.db.name),
        // Of a view, what it reads.
        "FLUSH CACHE TABLE seen".into(),
        format!("FLUSH CACHE SHAPE '{print}'"),
        "RELOAD".into(),
    ] {
        keep(&client, read).await;
        keep(&client, other).await;
        let want = changed();
        assert_ne!(value(&client, read).await, want, "{flush}");
        admin.batch_execute(&flush).await.unwrap_or_else(|e| panic!("{flush}: {e}"));
        assert_eq!(value(&client, read).await, want, "{flush}");
        let all = matches!(flush.as_str(), "FLUSH CACHE" | "RELOAD");
        assert_eq!(said(&client, other).await.starts_with("hit"), !all, "{flush}");
    }
    for wrong in [
        "FLUSH",
        "FLUSH CACHE TABLE",
        "FLUSH CACHE SHAPE xyz",
        "FLUSH CACHE TABLE nosuch",
        "FLUSH CACHE TABLE kv IN nosuch",
        "FLUSH CACHE TABLE \"KV\"",
        "FLUSH CACHE TABLE a.b.c",
        "FLUSH POOLS",
    ] {
        assert!(admin.batch_execute(wrong).await.is_err(), "{wrong}");
    }
    let shown = rows(&admin, "SHOW CACHE").await;
    let shape = shown.iter().find(|row| row[0] == "shape" && row[6] == print).expect("the shape");
    assert!(shape[4].parse::<u64>().expect("hits") >= 5, "{shape:?}");
    let count = |about: &str, what: &str| {
        let row = shown.iter().find(|row| row[0] == about && row[1] == what);
        row.unwrap_or_else(|| panic!("{about} {what} in {shown:?}"))[2].parse::<u64>().expect("a number")
    };
    assert_eq!((count("flushed", "all"), count("flushed", "table"), count("flushed", "shape")), (2, 4, 1));
    assert_eq!(count("outdated", "flushed"), 4, "{shown:?}");
    // Of both results, or of one; those that are gone from memory need not be found to be outdated.
    assert!(count("invalidated", "written") >= 4, "{shown:?}");
    let metrics = metrics(bed.proxy.http_port);
    for name in [
        "turnpike_cache_lookups_total{outcome=\"hit\"}",
        "turnpike_cache_hits_total{level=\"l1\"}",
        "turnpike_cache_invalidated_total{cause=\"written\"}",
        "turnpike_cache_flushes_total{what=\"table\"} 4",
    ] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }
}

/// Of what a rule leaves to be chosen, only what is worth it is kept, and whoever asks need not wait for that.
#[tokio::test(flavor = "multi_thread")]
async fn shapes_are_chosen_by_their_benefit() {
    let (bed, client) = Bed::new("[[cache]]\nauto = true\n").await;
    let dear = "SELECT count(*) FROM other, generate_series(1, 20000) g";
    let (cheap, asked) =
        ("SELECT id FROM other WHERE id = 1", "/* turnpike: cache=on */ SELECT id FROM other");
    keep(&client, asked).await;
    value(&client, cheap).await;
    let first = said(&client, cheap).await;
    assert!(first.starts_with("no, since its shape is not chosen"), "{first}");
    keep(&client, dear).await;
    let admin = pg(&bed.proxy.admin_url(&bed.db)).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        for _ in 0..50 {
            value(&client, dear).await;
        }
        let shown = rows(&admin, "SHOW CACHE").await;
        let shape = |words: &str| shown.iter().find(|row| row[0] == "shape" && row[7].contains(words));
        let (dear, cheap) = (shape("generate_series"), shape("where id ="));
        if dear.is_some_and(|row| row[7].starts_with("chosen (") && row[1] == "kept") {
            let cheap = cheap.expect("it is listed");
            assert!(
                cheap[1] == "not chosen" && cheap[7].starts_with("not chosen: not worth it"),
                "{cheap:?}"
            );
            break;
        }
        assert!(Instant::now() < deadline, "{shown:?}");
    }
    // It is as strict as any.
    client.batch_execute("INSERT INTO other VALUES (2)").await.expect("written");
    assert_eq!(value(&client, dear).await, "40000");
    assert!(metrics(bed.proxy.http_port).contains("turnpike_cache_chosen_shapes{state=\"chosen\"} 1"));
}

fn metrics(port: u16) -> String {
    use std::io::{Read, Write};
    let mut http = std::net::TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
    http.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("asked");
    let mut text = String::new();
    http.read_to_string(&mut text).expect("answered");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_the_same_ask_a_server_once() {
    let (bed, client) = Bed::new(EXACT).await;
    keep(&client, READ).await;
    let slow = "SELECT count(*) FROM other, generate_series(1, 1500000) g";
    let clients = futures_util::future::join_all((0..8).map(|_| bed.client())).await;
    let calls = async || {
        let lines = rows(&client, &format!("EXPLAIN (ROUTE, FORMAT JSON) {slow}")).await;
        let report: serde_json::Value = serde_json::from_str(&lines[0][0]).expect("JSON");
        report[0]["Plan Calls"].as_u64().expect("a number")
    };
    let all = futures_util::future::join_all(clients.iter().map(|client| value(client, slow))).await;
    assert!(all.iter().all(|n| n == "1500000"), "{all:?}");
    assert_eq!(calls().await, 8);
    let admin = pg(&bed.proxy.admin_url(&bed.db)).await;
    let shown = rows(&admin, "SHOW CACHE").await;
    let waited = shown.iter().find(|row| row[1] == "waited").expect("a row")[2].clone();
    assert!(waited.parse::<u64>().expect("a number") >= 4, "{shown:?}");
}

/// A write whose client is gone may still be committed: nothing of its table is given until that is known.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_knows_of_is_not_relied_on() {
    let (bed, client) = Bed::new(EXACT).await;
    let read = "SELECT v FROM kv WHERE id = 1";
    for n in 0..3 {
        keep(&client, read).await;
        let mut raw = bed.raw();
        let write = format!("UPDATE kv SET v = 'w{n}' WHERE id = 1 AND pg_sleep(3) IS NOT NULL");
        raw.send(query(&write));
        eventually("it runs", || {
            let running = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query LIKE 'UPDATE kv%sleep%'";
            bed.db.psql(running) == "1"
        });
        match n % 3 {
            0 => raw.reset(),
            1 => drop(raw),
            _ => {
                bed.db.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'UPDATE kv%sleep%' AND pid <> pg_backend_pid()");
            }
        }
        let until = Instant::now() + Duration::from_millis(3500);
        while Instant::now() < until {
            let (before, got) = (bed.db.psql(read), value(&client, read).await);
            let after = bed.db.psql(read);
            assert!(got == before || got == after, "{got}, and there is {before}, {after}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    keep(&client, read).await;
}

/// A primary and its replicas behind a proxy that keeps results; `direct` is the primary alone.
async fn on_replicas(consistency: &str) -> (crate::split::Bed, Proxy) {
    let consistency = format!("consistency = \"{consistency}\"");
    let servers = crate::split::bed(&consistency).await;
    let options = ProxyOptions {
        general: "cache_memory = \"32MiB\"".into(),
        database: "writers = \"proxy\"".into(),
        extra: format!(
            "[[cluster]]\nname = \"main\"\nbackends = [\"primary\", \"replica1\", \"replica2\"]\n{consistency}\n{EXACT}\
             [[database]]\nname = \"direct\"\ndbname = \"{}\"\nbackend = 'primary'\nwriters = \"proxy\"\n",
            servers.db.name
        ),
        ..Default::default()
    };
    let proxy = Proxy::edited(&servers.db, &options, |toml| {
        toml.replace("backend = \"primary\"\n", "cluster = \"main\"\n")
    });
    (servers, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_answers_are_kept_only_where_they_have_seen_everything() {
    let (servers, proxy) = on_replicas("eventual").await;
    let client = pg(&proxy.url(&servers.db)).await;
    client.batch_execute(TABLES).await.expect("made");
    let read = "SELECT v FROM kv WHERE id = 1";
    for n in 0..3 {
        servers.replay(true);
        keep(&client, read).await;
        servers.replay(false);
        let v = format!("v{n}");
        client.batch_execute(&format!("UPDATE kv SET v = '{v}' WHERE id = 1")).await.expect("written");
        // Eventual reads are answered by replicas that have not seen it, and not kept.
        for _ in 0..10 {
            assert_ne!(value(&client, read).await, v);
            assert!(said(&client, read).await.starts_with("miss"));
        }
        servers.replay(true);
        servers.pass();
        assert_eq!(keep(&client, read).await, v);
    }
}

/// Whoever names a server of the cluster instead of the cluster is heard of there nevertheless.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_beside_a_cluster_is_read_there() {
    let (servers, proxy) = on_replicas("global").await;
    let client = pg(&proxy.url(&servers.db)).await;
    let direct = pg(&proxy.url_as(&servers.db.user, &servers.db.password, "direct")).await;
    client.batch_execute(TABLES).await.expect("made");
    let read = "SELECT v FROM kv WHERE id = 1";
    for (n, write) in ["UPDATE kv SET v = $1 WHERE id = 1", "DO"].into_iter().enumerate() {
        servers.replay(true);
        servers.pass();
        keep(&client, read).await;
        servers.replay(false);
        let v = format!("v{n}");
        match write {
            "DO" => {
                direct.batch_execute(&format!("DO $$BEGIN UPDATE kv SET v = '{v}'; END$$")).await.map(|()| 1)
            }
            _ => direct.execute(write, &[&v]).await,
        }
        .expect("written");
        for _ in 0..5 {
            assert_eq!(value(&client, read).await, v, "{}", said(&client, read).await);
        }
    }
    // What is only read there holds nobody up.
    servers.replay(true);
    servers.pass();
    direct.batch_execute(&format!("BEGIN; {read}; COMMIT")).await.expect("read");
    let route = async || rows(&client, &format!("EXPLAIN (ROUTE) {read}")).await.concat().join("\n");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !route().await.contains("Route: backend \"replica") {
        assert!(Instant::now() < deadline, "{}", route().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A commit is seen on the primary before its writer hears of it: whoever reads after one that has seen it sees it, too.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_written_is_read_from_the_primary() {
    let (servers, proxy) = on_replicas("global").await;
    let url = proxy.url(&servers.db);
    let (writer, first, next) = (pg(&url).await, pg(&url).await, pg(&url).await);
    first.batch_execute(TABLES).await.expect("made");
    first.batch_execute("SET turnpike.route = 'primary'").await.expect("set");
    let read = "SELECT v FROM kv WHERE id = 1";
    let route = async || rows(&next, &format!("EXPLAIN (ROUTE) {read}")).await.concat().join("\n");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !route().await.contains("Route: backend \"replica") {
        assert!(Instant::now() < deadline, "{}", route().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    servers.replay(false);
    let write = "BEGIN; UPDATE kv SET v = 'new' WHERE id = 1; COMMIT; SELECT pg_sleep(3)";
    let writing = tokio::spawn(async move { writer.batch_execute(write).await });
    while value(&first, read).await != "new" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(value(&next, read).await, "new");
    assert!(!writing.is_finished() && route().await.contains("being written"), "{}", route().await);
    // Who asks for a replica gets one.
    next.batch_execute("SET turnpike.route = 'replica'").await.expect("set");
    assert_ne!(value(&next, read).await, "new");
    next.batch_execute("RESET turnpike.route").await.expect("reset");
    writing.await.expect("no panic").expect("written");
    assert_eq!(value(&next, read).await, "new");
    servers.replay(true);
}
