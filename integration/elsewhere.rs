//! Writers that do not pass through the proxy: told of by the WAL, their writes outdate what is kept within the bound, and
//! what cannot be shown to be as fresh is not given.

use std::process::Command;
use std::time::{Duration, Instant};

use tokio_postgres::Client;
use turnpike::app::cluster::{Cluster, ClusterOptions, StopMode};

use crate::caching::{all, keep, said};
use crate::harness::{Db, Proxy, ProxyOptions, cluster, pg, rows, value};

/// How far behind results may be; and a moment more, since a commit is told to its client after it is visible.
const BOUND: Duration = Duration::from_millis(200);

/// A database that others write to, and a proxy that is told of it.
pub struct Bed {
    pub proxy: Proxy,
    pub db: Db,
}

impl Bed {
    /// With these lines in its `[[database]]`; nothing is in the database yet that would tell.
    pub fn new(lines: &str) -> Bed {
        let db = Db::new();
        db.psql(&format!("ALTER ROLE {} REPLICATION", db.user));
        let options = ProxyOptions {
            general: "cache_memory = \"32MiB\"".into(),
            database: format!("{lines}\ninvalidation_user = \"{}\"", db.user),
            extra: "[[cache]]\n".into(),
            ..Default::default()
        };
        let proxy = Proxy::start(&db, options);
        Bed { proxy, db }
    }

    /// Runs `turnpike cache enable-...` or `disable-...` as the superuser; what it says.
    pub fn cache(&self, command: &str) -> Result<String, String> {
        run(&self.proxy, &self.db.name, command, cluster().password())
    }

    /// Has the database tell.
    pub fn enable(&self, how: &str) {
        self.cache(&format!("enable-{how}")).unwrap_or_else(|e| panic!("{e}"));
    }

    pub fn url(&self) -> String {
        self.proxy.url(&self.db)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // A database with a slot cannot be dropped, and there are only so many.
        self.cache("disable-wal").ok();
    }
}

/// Runs `turnpike cache ...` as the superuser; what it says.
pub fn run(proxy: &Proxy, database: &str, command: &str, password: &str) -> Result<String, String> {
    let done = Command::new(env!("CARGO_BIN_EXE_turnpike"))
        .args(["cache", command, "-u", "postgres", "-d", database, "-c"])
        .arg(proxy.config())
        .env("PGPASSWORD", password)
        .output()
        .expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
}

/// Waits until EXPLAIN (ROUTE) says that.
async fn says(client: &Client, sql: &str, want: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = said(client, sql).await;
        if answer.contains(want) {
            return;
        }
        assert!(Instant::now() < deadline, "{sql}: {answer}, not {want}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What is made first, what is written elsewhere, and what is read to see it.
const MATRIX: &[(&str, &str, &str)] = &[
    ("", "UPDATE kv SET v = v || 'u' WHERE id = 1", "SELECT v FROM kv WHERE id = 1"),
    ("", "INSERT INTO kv VALUES (10, 'n')", "SELECT count(*) FROM kv"),
    ("", "DELETE FROM kv WHERE id = 10", "SELECT count(*) FROM kv"),
    ("", "COPY kv FROM PROGRAM 'echo 11,copied' (FORMAT csv)", "SELECT count(*) FROM kv"),
    ("", "BEGIN; UPDATE kv SET v = 'not' WHERE id = 1; ROLLBACK", "SELECT v FROM kv WHERE id = 1"),
    (
        "",
        "SET synchronous_commit = off; UPDATE kv SET v = v || 'a' WHERE id = 1",
        "SELECT v FROM kv WHERE id = 1",
    ),
    (
        "",
        "SET session_replication_role = replica; UPDATE kv SET v = v || 'r' WHERE id = 1",
        "SELECT v FROM kv WHERE id = 1",
    ),
    ("", "UPDATE kv SET v = repeat(v, 100000) WHERE id = 2", "SELECT length(v) FROM kv WHERE id = 2"),
    ("", "TRUNCATE other", "SELECT count(*) FROM other"),
    ("", "INSERT INTO other SELECT generate_series(1, 5000)", "SELECT count(*) FROM other"),
    (
        "CREATE TABLE parent (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF parent FOR VALUES FROM (0) TO (10);
         CREATE TABLE high PARTITION OF parent FOR VALUES FROM (10) TO (20)",
        "INSERT INTO low VALUES (1, 1)",
        "SELECT count(*) FROM parent",
    ),
    ("", "INSERT INTO parent VALUES (11, 1)", "SELECT count(*) FROM high"),
    ("", "UPDATE parent SET id = 12 WHERE id = 1", "SELECT count(*) FROM low"),
    ("", "TRUNCATE parent", "SELECT count(*) FROM high"),
    (
        "CREATE TABLE owner (id int PRIMARY KEY);
         CREATE TABLE owned (id int PRIMARY KEY, o int REFERENCES owner ON DELETE CASCADE);
         INSERT INTO owner VALUES (1); INSERT INTO owned VALUES (1, 1)",
        "DELETE FROM owner",
        "SELECT count(*) FROM owned",
    ),
    (
        "CREATE MATERIALIZED VIEW mat AS SELECT v FROM kv WHERE id = 3",
        "UPDATE kv SET v = 'm' WHERE id = 3; REFRESH MATERIALIZED VIEW mat",
        "SELECT v FROM mat",
    ),
    (
        "CREATE VIEW seen AS SELECT v FROM kv WHERE id = 4",
        "UPDATE kv SET v = 'w' WHERE id = 4",
        "SELECT v FROM seen",
    ),
    ("", "CREATE OR REPLACE VIEW seen AS SELECT v FROM kv WHERE id = 5", "SELECT v FROM seen"),
    ("", "ALTER TABLE other ALTER id TYPE text USING id || 't'", "SELECT max(id::text) FROM other"),
    (
        "",
        "CREATE TABLE mid PARTITION OF parent FOR VALUES FROM (20) TO (30); INSERT INTO mid VALUES (20)",
        "SELECT count(*) FROM parent",
    ),
    ("", "INSERT INTO mid VALUES (21)", "SELECT count(*) FROM parent"),
    ("", "DROP TABLE mid", "SELECT count(*) FROM parent"),
];

const TABLES: &str = "
    CREATE TABLE kv (id int PRIMARY KEY, v text NOT NULL); INSERT INTO kv SELECT i, 'a' FROM generate_series(1, 9) i;
    CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1);
    CREATE TABLE bare (id int); INSERT INTO bare VALUES (1);";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_elsewhere_is_seen() {
    matrix("wal").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_triggers_tell_of_is_seen() {
    matrix("triggers").await;
}

async fn matrix(how: &str) {
    let bed = Bed::new(&format!("invalidation = \"{how}\""));
    for (made, ..) in [(TABLES, "", "")].iter().chain(MATRIX) {
        bed.db.psql(&format!("SET ROLE {}; {made}", bed.db.user));
    }
    bed.enable(how);
    let client = pg(&bed.url()).await;
    // A new partition has no trigger, so that nothing is kept of what it is a part of.
    for (_, write, read) in MATRIX.iter().filter(|(_, write, _)| how == "wal" || !write.contains("mid")) {
        assert_eq!(keep(&client, read).await, bed.db.psql(read), "{read}");
        bed.db.psql(write);
        tokio::time::sleep(BOUND).await;
        assert_eq!(all(&client, read).await, bed.db.psql(read), "{write} is not seen by {read}");
        assert_eq!(keep(&client, read).await, bed.db.psql(read), "{write} is not seen by {read}");
    }
    // Who may read is a matter of definitions, too, and of roles, which all databases share.
    let (role, own) = (bed.db.role("reader"), bed.db.user.clone());
    bed.db.psql(&format!("GRANT {role} TO {own}; GRANT SELECT ON kv TO {role}"));
    let read = "SELECT v FROM kv WHERE id = 6";
    keep(&client, read).await;
    client.batch_execute(&format!("SET ROLE {role}")).await.expect("set");
    keep(&client, read).await;
    bed.db.psql(&format!("REVOKE SELECT ON kv FROM {role}"));
    tokio::time::sleep(BOUND).await;
    assert!(client.simple_query(read).await.is_err());
    bed.db.psql(&format!(
        "CREATE ROLE {role}_group; GRANT SELECT ON kv TO {role}_group; GRANT {role}_group TO {role}"
    ));
    keep(&client, read).await;
    bed.db.psql(&format!("REVOKE {role}_group FROM {role}"));
    tokio::time::sleep(BOUND).await;
    assert!(client.simple_query(read).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_takes_is_said() {
    let bed = Bed::new("invalidation = \"wal\"");
    bed.db.psql(&format!("SET ROLE {}; {TABLES}", bed.db.user));
    let client = pg(&bed.url()).await;
    let read = "SELECT v FROM kv WHERE id = 1";
    says(&client, read, "turnpike cache enable-wal").await;
    for n in 0..3 {
        bed.db.psql(&format!("UPDATE kv SET v = 'n{n}' WHERE id = 1"));
        assert_eq!(value(&client, read).await, format!("n{n}"));
    }
    let report = bed.cache("enable-wal").unwrap_or_else(|e| panic!("{e}"));
    assert!(report.contains("public.bare (no primary key"), "{report}");
    assert!(report.contains("max_slot_wal_keep_size"), "{report}");
    keep(&client, read).await;
    // Tables that nobody tells of are not kept, until somebody does.
    let bare = "SELECT count(*) FROM bare";
    says(&client, bare, "not watched").await;
    bed.db.psql("ALTER TABLE bare ADD PRIMARY KEY (id)");
    tokio::time::sleep(BOUND).await;
    says(&client, bare, "not watched").await;
    assert!(!bed.cache("enable-wal").expect("again").contains("public.bare"));
    assert_eq!(keep(&client, bare).await, "1");
    // What is temporary is nobody's business; roles that other tests make meanwhile are everybody's.
    let roles = || bed.db.psql("SELECT string_agg(oid || ':' || xmin, ' ' ORDER BY oid) FROM pg_authid");
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let before = roles();
        tokio::time::sleep(BOUND).await;
        keep(&client, read).await;
        bed.db.psql("CREATE TEMP TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); DROP TABLE t");
        tokio::time::sleep(BOUND).await;
        let says = said(&client, read).await;
        if roles() == before {
            assert!(says.starts_with("hit"), "{says}");
            break;
        }
        assert!(Instant::now() < deadline, "others make roles all the time");
    }
    // A transaction that has begun to write when definitions change may write what nobody tells of.
    let writer = pg(&bed.db.direct_url()).await;
    writer.batch_execute("BEGIN; INSERT INTO other VALUES (77)").await.expect("written");
    bed.db.psql("COMMENT ON TABLE kv IS 'changed'");
    says(&client, read, "transactions elsewhere run").await;
    writer.batch_execute("COMMIT").await.expect("committed");
    keep(&client, read).await;
    let admin = pg(&bed.proxy.admin_url(&bed.db)).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let shown = rows(&admin, "SHOW CACHE").await;
        let row = shown.iter().find(|row| row[0] == "elsewhere").expect("a row");
        if row[1] == "known" && row[7].contains("reserved") {
            break;
        }
        assert!(Instant::now() < deadline, "{row:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Everything goes again, while it is in use.
    bed.cache("disable-wal").unwrap_or_else(|e| panic!("{e}"));
    says(&client, read, "turnpike cache enable-wal").await;
    let left = "SELECT (SELECT count(*) FROM pg_publication) + (SELECT count(*) FROM pg_event_trigger) + \
                (SELECT count(*) FROM pg_namespace WHERE nspname = 'turnpike') + \
                (SELECT count(*) FROM pg_replication_slots WHERE database = current_database())";
    assert_eq!(bed.db.psql(left), "0");
    // Event triggers that do not fire always are no witnesses.
    bed.enable("wal");
    keep(&client, read).await;
    bed.db.psql("ALTER EVENT TRIGGER turnpike_ddl DISABLE");
    tokio::time::sleep(BOUND).await;
    says(&client, read, "event triggers").await;
    bed.enable("wal");
    keep(&client, read).await;
    bed.db.psql("DROP PUBLICATION turnpike");
    tokio::time::sleep(BOUND).await;
    assert!(!said(&client, read).await.starts_with("hit"));
}

/// What is written to other rows does not matter to who reads one row by its key; what is written to that one does,
/// however it comes about.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_told_apart_by_their_keys() {
    let bed = Bed::new("invalidation = \"wal\"");
    let (maker, client) = (pg(&bed.url()).await, pg(&bed.url()).await);
    maker.batch_execute(TABLES).await.expect("made");
    maker
        .batch_execute(
            "CREATE TABLE visits (site text, at uuid, note text, PRIMARY KEY (site, at));
             INSERT INTO visits VALUES ('north', '6b1c0d5f-a2a9-4c3f-1e0e-5b8f3d0e9a77', 'a');
             CREATE TABLE whole (id bigint PRIMARY KEY, v text);
             ALTER TABLE whole REPLICA IDENTITY FULL;
             INSERT INTO whole VALUES (1, 'a'), (2, 'a');
             CREATE FUNCTION other_row(int) RETURNS text LANGUAGE sql STABLE AS 'SELECT v FROM kv WHERE id = $1'",
        )
        .await
        .expect("made");
    bed.enable("wal");
    let visit =
        "SELECT note FROM visits WHERE site = 'north' AND at = '6B1C0D5F-A2A9-4C3F-1E0E-5B8F3D0E9A77'";
    for (read, write, matters) in [
        ("SELECT v FROM kv WHERE id = 1", "UPDATE kv SET v = 'x' WHERE id = 2", false),
        (
            "SELECT v FROM kv WHERE id = 1",
            "INSERT INTO kv VALUES (100, 'n'); DELETE FROM kv WHERE id = 100",
            false,
        ),
        ("SELECT v FROM kv WHERE id = 1", "UPDATE kv SET v = 'x' WHERE id IN (1, 2)", true),
        ("SELECT v FROM kv WHERE id = '1'", "UPDATE kv SET id = 101 WHERE id = 1", true),
        ("SELECT v FROM kv WHERE id = 1", "UPDATE kv SET id = 1 WHERE id = 101", true),
        ("SELECT v FROM kv WHERE id = 1", "DELETE FROM kv WHERE id = 1", true),
        ("SELECT v FROM kv WHERE id = 1", "INSERT INTO kv VALUES (1, 'again')", true),
        ("SELECT v FROM kv WHERE id = 1", "UPDATE kv SET v = v || 'y' WHERE id < 1 OR id > 5", false),
        ("SELECT v FROM kv WHERE id = 1", "UPDATE kv SET v = v || 'z'", true),
        (
            "SELECT v FROM kv WHERE id = 1",
            "INSERT INTO kv SELECT i, 'many' FROM generate_series(200, 300) i",
            true,
        ),
        ("SELECT v FROM kv WHERE id = 1", "BEGIN; UPDATE kv SET v = 'no' WHERE id = 1; ROLLBACK", false),
        ("SELECT v FROM kv WHERE v = 'again'", "UPDATE kv SET v = 'w' WHERE id = 7", true),
        // A function reads another row of the same table.
        ("SELECT other_row(2) FROM kv WHERE id = 1", "UPDATE kv SET v = 'beside' WHERE id = 2", true),
        (visit, "INSERT INTO visits VALUES ('south', '6b1c0d5f-a2a9-4c3f-1e0e-5b8f3d0e9a77', 'b')", false),
        (visit, "UPDATE visits SET note = 'c' WHERE site = 'north'", true),
        ("SELECT v FROM whole WHERE id = 1", "UPDATE whole SET v = 'x' WHERE id = 2", false),
        ("SELECT v FROM whole WHERE id = 1", "UPDATE whole SET id = 3 WHERE id = 1", true),
        ("SELECT v FROM kv WHERE id = 3", "TRUNCATE kv", true),
    ] {
        keep(&client, read).await;
        bed.db.psql(write);
        tokio::time::sleep(BOUND).await;
        // Where the machine is busy, it may not be known yet whether it still holds.
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut kept = said(&client, read).await;
        while kept.starts_with("not now") && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
            kept = said(&client, read).await;
        }
        assert_eq!(kept.starts_with("hit"), !matters, "{read}: {write}: {kept}");
        assert_eq!(all(&client, read).await, bed.db.psql(read), "{read}: {write}");
    }
    // As a driver asks, with what it binds in binary.
    bed.db.psql("INSERT INTO kv VALUES (1, 'a'), (2, 'a')");
    let statement = client.prepare("SELECT v FROM kv WHERE id = $1").await.expect("prepared");
    let ask = async || client.query_one(&statement, &[&1i32]).await.expect("a row").get::<_, String>(0);
    let admin = pg(&bed.proxy.admin_url(&bed.db)).await;
    let hits = async || {
        let shown = rows(&admin, "SHOW CACHE").await;
        let row = shown.iter().find(|row| row[1] == "l1").expect("a row");
        row[4].parse::<u64>().expect("a number")
    };
    keep(&client, "SELECT v FROM kv WHERE id = 1").await;
    ask().await;
    let before = hits().await;
    for n in 0..20 {
        bed.db.psql(&format!("UPDATE kv SET v = 'o{n}' WHERE id = 2"));
        tokio::time::sleep(BOUND).await;
        ask().await;
    }
    // By the table it would be none.
    let hits = hits().await - before;
    assert!(hits >= 10, "{hits} of 20");
    bed.db.psql("UPDATE kv SET v = 'seen' WHERE id = 1");
    tokio::time::sleep(BOUND).await;
    assert_eq!(ask().await, "seen");
    // Another key, and other columns before it.
    bed.db.psql("ALTER TABLE kv ADD COLUMN k int; UPDATE kv SET k = id + 1");
    bed.db.psql("ALTER TABLE kv DROP CONSTRAINT kv_pkey, ADD PRIMARY KEY (k)");
    bed.enable("wal");
    let read = "SELECT v FROM kv WHERE k = 2";
    assert_eq!(keep(&client, read).await, "seen");
    bed.db.psql("UPDATE kv SET v = 'other' WHERE k = 3");
    tokio::time::sleep(BOUND).await;
    assert!(said(&client, read).await.starts_with("hit"));
    bed.db.psql("UPDATE kv SET v = 'k' WHERE k = 2");
    tokio::time::sleep(BOUND).await;
    assert_eq!(value(&client, read).await, "k");
}

/// A server of its own, with a proxy that is told.
struct Own {
    proxy: Proxy,
    servers: Cluster,
}

impl Own {
    /// With this `wal_level`, told of in this way.
    fn new(level: &str, how: &str) -> Own {
        let settings = vec![("wal_level".to_string(), level.to_string())];
        let options = ClusterOptions { settings, ..ClusterOptions::default() };
        let servers = Cluster::start(options).unwrap_or_else(|e| panic!("{e}"));
        servers.primary().psql("postgres", TABLES).expect("made");
        let (port, password) = (servers.primary().port, servers.password().to_string());
        let proxy = Proxy::with_config(&[], |listen, http| {
            format!(
                "[general]\nlisten = [\"127.0.0.1:{listen}\"]\ncache_memory = \"8MiB\"\n\
                 [http]\nlisten = \"127.0.0.1:{http}\"\n[[cache]]\n\
                 [[database]]\nname = \"postgres\"\nbackend = \"primary\"\ninvalidation = \"{how}\"\nwait_timeout = \"1s\"\n\
                 invalidation_user = \"postgres\"\n\
                 [[user]]\nname = \"postgres\"\npassword = \"{password}\"\n{}\
                 [[backend]]\nname = \"primary\"\nhost = \"127.0.0.1\"\nport = {port}\nsslmode = \"disable\"\n",
                crate::harness::TRUST
            )
        });
        run(&proxy, "postgres", &format!("enable-{how}"), &password).unwrap_or_else(|e| panic!("{e}"));
        Own { proxy, servers }
    }

    async fn client(&self) -> Client {
        pg(&self.proxy.url_as("postgres", self.servers.password(), "postgres")).await
    }

    fn psql(&self, sql: &str) -> String {
        self.servers.primary().psql("postgres", sql).unwrap_or_else(|e| panic!("{sql}: {e}"))
    }
}

/// The WAL tells of a commit before anybody can see it: what is read in between must not be kept.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_before_it_can_be_seen() {
    let own = Own::new("logical", "wal");
    let (client, read) = (own.client().await, "SELECT v FROM kv WHERE id = 1");
    assert_eq!(keep(&client, read).await, "a");
    own.psql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    own.psql("SELECT pg_reload_conf()");
    let writer = pg(&own.servers.superuser_url("postgres")).await;
    let commit = tokio::spawn(async move {
        writer.batch_execute("UPDATE kv SET v = 'told' WHERE id = 1").await.expect("written");
    });
    says(&client, read, "written to elsewhere").await;
    // It waits for a replica that never comes.
    for _ in 0..20 {
        assert_eq!(value(&client, read).await, "a");
        assert!(!said(&client, read).await.starts_with("hit"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!commit.is_finished());
    // Other tables are as they were.
    keep(&client, "SELECT count(*) FROM other").await;
    own.psql("SET synchronous_commit = local; SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
    commit.await.expect("committed after all");
    tokio::time::sleep(BOUND).await;
    assert_eq!(value(&client, read).await, "told");
    assert_eq!(keep(&client, read).await, "told");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_and_slots_that_go_and_come_back() {
    let own = Own::new("logical", "wal");
    let (mut client, read) = (own.client().await, "SELECT v FROM kv WHERE id = 1");
    for (n, mode) in [StopMode::Fast, StopMode::Immediate].into_iter().enumerate() {
        keep(&client, read).await;
        own.servers.primary().stop(mode).expect("stopped");
        tokio::time::sleep(BOUND).await;
        // Nothing is given that nobody can vouch for.
        assert!(client.simple_query(read).await.is_err());
        own.servers.primary().start().expect("started");
        own.psql(&format!("UPDATE kv SET v = 'n{n}' WHERE id = 1"));
        client = own.client().await;
        tokio::time::sleep(BOUND).await;
        assert_eq!(keep(&client, read).await, format!("n{n}"));
    }
    // The slot is dropped, and is made again.
    let drop = "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE active; \
                SELECT pg_drop_replication_slot('turnpike_postgres')";
    let deadline = Instant::now() + Duration::from_secs(30);
    // Whoever uses it may come back in between.
    while let Err(e) = own.servers.primary().psql("postgres", drop) {
        assert!(Instant::now() < deadline, "{e}");
    }
    own.psql("UPDATE kv SET v = 'lost' WHERE id = 1");
    tokio::time::sleep(BOUND).await;
    assert_eq!(value(&client, read).await, "lost");
    says(&client, read, "there is no replication slot").await;
    own.psql("UPDATE kv SET v = 'still' WHERE id = 1");
    assert_eq!(value(&client, read).await, "still");
    run(&own.proxy, "postgres", "enable-wal", own.servers.password()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(keep(&client, read).await, "still");
    // Somebody else uses it.
    keep(&client, read).await;
    own.psql("UPDATE kv SET v = 'found' WHERE id = 1");
    tokio::time::sleep(BOUND).await;
    assert_eq!(keep(&client, read).await, "found");
}

/// Where the WAL cannot tell, triggers do.
#[tokio::test(flavor = "multi_thread")]
async fn where_the_wal_does_not_tell() {
    let own = Own::new("replica", "triggers");
    let command = |command: &str| run(&own.proxy, "postgres", command, own.servers.password());
    let refused = command("enable-wal").expect_err("refused");
    assert!(refused.contains("wal_level is replica") && refused.contains("enable-triggers"), "{refused}");
    let (client, read) = (own.client().await, "SELECT v FROM kv WHERE id = 1");
    for n in 0..5 {
        keep(&client, read).await;
        own.psql(&format!("UPDATE kv SET v = 't{n}' WHERE id = 1"));
        tokio::time::sleep(BOUND).await;
        assert_eq!(value(&client, read).await, format!("t{n}"));
        // Who listens is cut off, and comes again.
        keep(&client, read).await;
        own.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'turnpike triggers'");
        own.psql(&format!("UPDATE kv SET v = 'u{n}' WHERE id = 1"));
        tokio::time::sleep(BOUND).await;
        assert_eq!(value(&client, read).await, format!("u{n}"));
    }
    assert_eq!(keep(&client, "SELECT count(*) FROM bare").await, "1");
    // A table without a trigger, and one whose trigger does not fire.
    own.psql("CREATE TABLE later (id int)");
    keep(&client, read).await;
    says(&client, "SELECT count(*) FROM later", "not watched").await;
    own.psql("ALTER TABLE bare DISABLE TRIGGER turnpike_tells");
    says(&client, "SELECT count(*) FROM bare", "not watched").await;
    command("enable-triggers").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(keep(&client, "SELECT count(*) FROM bare").await, "1");
    assert_eq!(keep(&client, "SELECT count(*) FROM later").await, "0");
    command("disable-triggers").unwrap_or_else(|e| panic!("{e}"));
    says(&client, read, "turnpike cache enable-triggers").await;
    let left = "SELECT (SELECT count(*) FROM pg_trigger) + (SELECT count(*) FROM pg_event_trigger) + \
                (SELECT count(*) FROM pg_namespace WHERE nspname = 'turnpike')";
    assert_eq!(own.psql(left), "0");
}
