//! Traffic rehearsed on a second server (`[[mirror]]`): what differs is found and nothing else, and clients notice nothing,
//! whatever becomes of that server.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, SimpleQueryMessage};
use turnpike::app::cluster::{Cluster as Servers, ClusterOptions};

use crate::harness::raw::{self, Fake};
use crate::harness::{Db, Proxy, ProxyOptions, cluster, eventually, pg, value};
use crate::metrics::get;

/// The server that traffic is rehearsed on.
pub fn second() -> &'static Servers {
    static SECOND: LazyLock<Servers> =
        LazyLock::new(|| Servers::start(ClusterOptions::default()).unwrap_or_else(|e| panic!("{e}")));
    &SECOND
}

/// The database and its role on the second server, too, with what a script makes there.
pub fn prepare_second(db: &Db, script: &str) {
    let Db { name, user, password, .. } = db;
    for (database, script) in [
        ("postgres", &format!("CREATE ROLE {user} LOGIN PASSWORD '{password}'")[..]),
        ("postgres", &format!("CREATE DATABASE {name} OWNER {user}")),
        (name, script),
    ] {
        second().primary().psql(database, script).unwrap_or_else(|e| panic!("{script}: {e}"));
    }
}

/// Leaves nothing of it there.
pub fn leave_second(db: &Db) {
    let script = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", db.name);
    let _ = second().primary().psql("postgres", &script);
}

/// Tables and functions of both servers.
pub const SHOP: &str = "CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL, price numeric NOT NULL); \
    INSERT INTO item SELECT n, 'item ' || n, n * 1.5 FROM generate_series(1, 100) AS n; \
    CREATE TABLE sale (id int PRIMARY KEY, item int NOT NULL, at timestamptz NOT NULL DEFAULT now()); \
    CREATE FUNCTION price_of(int) RETURNS numeric STABLE LANGUAGE sql AS 'SELECT price FROM item WHERE id = $1'; \
    CREATE FUNCTION clocked(int) RETURNS text STABLE LANGUAGE plpgsql AS 'BEGIN RETURN now()::text || $1; END'; \
    GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;";

/// A database on both servers, and a proxy that mirrors the first's traffic to the second.
pub struct Bed {
    pub db: Db,
    pub proxy: Proxy,
}

pub type Row = BTreeMap<String, String>;

impl Bed {
    /// With sections of `[[mirror]]` without conditions and target, by further lines.
    pub fn new(mirrors: &[&str], there: &str) -> Bed {
        let db = Db::in_cluster(cluster());
        db.psql(SHOP);
        prepare_second(&db, SHOP);
        second().primary().psql(&db.name, there).unwrap_or_else(|e| panic!("{there}: {e}"));
        let proxy = Proxy::start(&db, options(&db, second().primary().port, mirrors, ""));
        Bed { db, proxy }
    }

    /// A client whose statements are understood.
    pub async fn client(&self) -> Client {
        let client = pg(&self.proxy.url(&self.db)).await;
        client.batch_execute("SELECT 1").await.expect("an answer");
        self.admin("REFRESH CATALOG").await;
        client
    }

    /// What a command of the admin database shows.
    pub async fn admin(&self, command: &str) -> Vec<Row> {
        let admin = pg(&self.proxy.admin_url(&self.db)).await;
        let messages = admin.simple_query(command).await.unwrap_or_else(|e| panic!("{command}: {e:?}"));
        let row = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => {
                let columns = row.columns().iter().enumerate();
                Some(columns.map(|(i, c)| (c.name().into(), row.get(i).unwrap_or_default().into())).collect())
            }
            _ => None,
        };
        messages.iter().filter_map(row).collect()
    }

    /// The mirror's row once nothing waits any more.
    pub async fn settled(&self, mirror: &str) -> Row {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let rows = self.admin("SHOW MIRRORS").await;
            let row = rows.into_iter().find(|row| row["mirror"] == mirror).expect("a mirror");
            if row["waiting"] == "0" {
                return row;
            }
            assert!(Instant::now() < deadline, "{row:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What SHOW MIRROR says of the shape that contains this: compared, sqlstate, row_count, checksum, row_order.
    pub async fn shape(&self, mirror: &str, part: &str) -> [u64; 5] {
        let rows = self.admin(&format!("SHOW MIRROR {mirror}")).await;
        let row = rows.iter().find(|row| row["shape"].contains(part));
        let row = row.unwrap_or_else(|| panic!("no shape with {part} in {rows:#?}"));
        ["compared", "sqlstate", "row_count", "checksum", "row_order"].map(|column| number(row, column))
    }

    async fn reload(&self, port: u16, mirrors: &[&str]) {
        self.proxy.rewrite(&self.db, &options(&self.db, port, mirrors, ""), |config| config);
        self.admin("RELOAD").await;
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        leave_second(&self.db);
    }
}

pub fn number(row: &Row, column: &str) -> u64 {
    row[column].parse().unwrap_or_else(|_| panic!("{column} of {row:?}"))
}

/// Mirrors to a server at that port, and further sections.
pub fn options(db: &Db, port: u16, mirrors: &[&str], sections: &str) -> ProxyOptions {
    let section = |lines: &&str| {
        format!(
            "[[mirror]]\ndatabase = \"{}\"\nbackend = \"second\"\nlogin = \"{}\"\n{lines}\n",
            db.name, db.user
        )
    };
    let mirrors: String = mirrors.iter().map(section).collect();
    let extra = format!(
        "[[backend]]\nname = \"second\"\nhost = \"127.0.0.1\"\nport = {port}\nsslmode = \"disable\"\n{mirrors}{sections}"
    );
    ProxyOptions { extra, ..Default::default() }
}

const NEXT: &str = "name = \"next\"";

/// What the second server has otherwise.
const OTHERWISE: &str = "UPDATE item SET name = 'other' WHERE id = 7; DELETE FROM item WHERE id = 9; \
    CREATE OR REPLACE FUNCTION price_of(int) RETURNS numeric STABLE LANGUAGE sql AS \
        'SELECT price * 2 FROM item WHERE id = $1'; \
    ALTER TABLE sale RENAME COLUMN at TO sold_at; \
    CREATE TABLE moved AS SELECT * FROM item ORDER BY id DESC; \
    CREATE SCHEMA aside; CREATE TABLE aside.item AS SELECT 1 AS id, 'aside' AS name";

#[tokio::test(flavor = "multi_thread")]
async fn reads_are_compared_and_only_true_differences_told() {
    let bed = Bed::new(&[NEXT], OTHERWISE);
    bed.db.psql(
        "CREATE TABLE moved AS SELECT * FROM item ORDER BY id; CREATE SCHEMA aside; \
         CREATE TABLE aside.item AS SELECT 1 AS id, 'aside' AS name; GRANT ALL ON SCHEMA aside TO PUBLIC; \
         GRANT ALL ON ALL TABLES IN SCHEMA aside, public TO PUBLIC",
    );
    let script = "GRANT ALL ON SCHEMA aside TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA aside, public TO PUBLIC; \
                  DELETE FROM moved; INSERT INTO moved SELECT n, 'item ' || n, n * 1.5 FROM generate_series(100, 1, -1) AS n";
    second().primary().psql(&bed.db.name, script).expect("it runs");
    let client = bed.client().await;
    // Both protocols, text and binary, values in the text and as parameters.
    let by_id = client.prepare("SELECT id, name FROM item WHERE id = $1").await.expect("prepared");
    for id in 1..=10i32 {
        client.query(&by_id, &[&id]).await.expect("rows");
        client.simple_query(&format!("SELECT name, price FROM item WHERE id = {id}")).await.expect("rows");
        client.query("SELECT price_of($1)::text", &[&id]).await.expect("rows");
    }
    for sql in [
        "SELECT count(*) FROM item",
        "SELECT id FROM moved",
        "SELECT id FROM moved ORDER BY name COLLATE \"C\"",
        "SELECT id FROM moved ORDER BY 1 = 1",
        "SELECT id FROM moved LIMIT 5",
        "SELECT at IS NULL FROM sale",
        "SELECT random(), now(), clocked(1) FROM item",
        "SELECT clocked(2)",
        "SELECT 1 / 0 FROM item WHERE id = 1",
        "SELECT current_user, current_database(), 77",
    ] {
        let _ = client.simple_query(sql).await;
    }
    let row = bed.settled("next").await;
    assert_eq!((number(&row, "failed"), number(&row, "dropped"), number(&row, "lost")), (0, 0, 0), "{row:?}");
    for (part, want) in [
        ("select id , name from item where id = $1", [10, 0, 1, 1, 0]),
        ("select name , price from item where id = ?", [10, 0, 1, 1, 0]),
        ("select price_of", [10, 0, 0, 10, 0]),
        ("select count ( * ) from item", [1, 0, 0, 1, 0]),
        ("select id from moved order by name", [1, 0, 0, 0, 0]),
        ("select id from moved order by ?", [1, 0, 0, 0, 1]),
        ("select id from moved limit", [1, 0, 0, 0, 0]),
        ("select at is null", [1, 1, 0, 0, 0]),
        ("select random ( )", [1, 0, 0, 0, 0]),
        ("select clocked", [1, 0, 0, 0, 0]),
        ("from item where id = ?i", [1, 0, 0, 0, 0]),
        ("select current_user", [1, 0, 0, 0, 0]),
    ] {
        let part = part.replace("?i", "?");
        let part = if part == "from item where id = ?" { "select ? / ? from item" } else { &part };
        assert_eq!(bed.shape("next", part).await, want, "{part}");
    }
    let plain = bed.admin("SHOW MIRROR next").await;
    let plain = plain.iter().find(|row| row["shape"] == "select id from moved").expect("a shape");
    assert_eq!(
        (number(plain, "row_order"), number(plain, "checksum")),
        (0, 0),
        "row order alone is no difference"
    );

    // What the session has set goes with its reads.
    client
        .batch_execute("SET search_path = aside; SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'")
        .await
        .expect("set");
    for _ in 0..3 {
        client
            .simple_query("SELECT id, name, '2026-01-01 00:00Z'::timestamptz FROM item")
            .await
            .expect("rows");
    }
    bed.settled("next").await;
    assert_eq!(bed.shape("next", "timestamptz from item").await[1..], [0, 0, 0, 0]);

    // Metrics, and no value anywhere.
    let (_, text) = get(&bed.proxy, "/metrics");
    assert!(
        text.contains("turnpike_mirror_differences_total{mirror=\"next\",kind=\"sqlstate\"} 1"),
        "{text}"
    );
    let shown = format!("{:?}{:?}", bed.admin("SHOW MIRRORS").await, bed.admin("SHOW MIRROR").await);
    assert!(!shown.contains("2026-01-01") && !bed.proxy.log().contains("2026-01-01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_and_what_depends_on_them_are_not_read_elsewhere() {
    let bed = Bed::new(&[NEXT], "");
    let client = bed.client().await;
    for sql in [
        "INSERT INTO item VALUES (1000, 'x', 1)",
        "BEGIN",
        "SELECT name FROM item WHERE id = 1",
        "UPDATE item SET name = 'mine' WHERE id = 1",
        "SELECT name FROM item WHERE id = 1",
        "COMMIT",
        "SELECT price FROM item WHERE id = 1",
        "BEGIN",
        "SET LOCAL search_path = pg_catalog",
        "SELECT price FROM public.item WHERE id = 2",
        "ROLLBACK",
        "SELECT nextval('pg_catalog.nothing')",
        "SELECT id FROM item WHERE id = 1 FOR UPDATE",
        "CREATE TEMP TABLE mine (a int)",
        "SELECT a FROM mine",
    ] {
        let _ = client.simple_query(sql).await;
    }
    let row = bed.settled("next").await;
    assert_eq!(
        number(&row, "skipped"),
        1,
        "the one after the write; under SET LOCAL nothing is known: {row:?}"
    );
    assert_eq!((number(&row, "run"), number(&row, "compared")), (2, 2), "{row:?}");
    let untouched = "SELECT count(*) FROM item WHERE id = 1000 OR name = 'mine'";
    assert_eq!(second().primary().psql(&bed.db.name, untouched).expect("a count").trim(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_followed_in_order() {
    let bed = Bed::new(&["name = \"whole\"\nmode = \"sessions\"\nconnections = 3"], "");
    let there = |sql: &str| second().primary().psql(&bed.db.name, sql).expect("it runs").trim().to_string();
    let mut client = bed.client().await;
    let insert = client.prepare("INSERT INTO sale (id, item) VALUES ($1, $2)").await.expect("prepared");
    for n in 1..=20i32 {
        let transaction = client.transaction().await.expect("begun");
        transaction.execute(&insert, &[&n, &(n * 2)]).await.expect("inserted");
        transaction.simple_query("SAVEPOINT s").await.expect("a savepoint");
        let _ = transaction.simple_query("INSERT INTO sale (id, item) VALUES (1, 1)").await;
        let _ = transaction.simple_query("ROLLBACK TO s").await;
        transaction.query("SELECT item FROM sale WHERE id = $1", &[&n]).await.expect("rows");
        if n % 4 == 0 {
            transaction.rollback().await.expect("rolled back");
        } else {
            transaction.commit().await.expect("committed");
        }
    }
    for sql in [
        "CREATE TEMP TABLE mine AS SELECT 1 AS a",
        "PREPARE p AS SELECT a FROM mine WHERE a = $1",
        "EXECUTE p(1)",
        "DECLARE c CURSOR WITH HOLD FOR SELECT id FROM item ORDER BY id",
        "FETCH 3 FROM c",
        "INSERT INTO sale VALUES (100, 1), (101, 2); UPDATE sale SET item = 5 WHERE id = 101",
        "LISTEN news",
        "SELECT count(*) FROM sale",
    ] {
        client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }
    // COPY by both protocols.
    let sink = client.copy_in("COPY sale (id, item) FROM STDIN").await.expect("copying");
    copy(sink, "200\t1\n201\t2\n").await;
    let mut raw = bed.proxy.raw(&bed.db);
    raw.send(raw::query("COPY sale (id, item) FROM STDIN"));
    raw.until(b'G');
    raw.send([raw::msg(b'd', "300\t1\n"), raw::msg(b'c', "")].concat());
    raw.until_ready(1);
    drop(raw);
    let row = bed.settled("whole").await;
    assert_eq!((number(&row, "lost"), number(&row, "failed"), number(&row, "dropped")), (0, 0, 0), "{row:?}");
    let differ: u64 =
        ["sqlstate", "row_count", "checksum", "row_order"].iter().map(|c| number(&row, c)).sum();
    assert_eq!(differ, 0, "{:#?}", bed.admin("SHOW MIRROR whole").await);
    let all = "SELECT count(*), sum(id), sum(item) FROM sale";
    eventually("the same sales are on both", || there(all) == bed.db.psql(all).trim());
    assert_eq!(bed.shape("whole", "insert into sale ( id , item ) values").await[1..], [0, 0, 0, 0]);
    assert!(bed.shape("whole", "savepoint s").await[0] >= 20);
}

async fn copy(sink: tokio_postgres::CopyInSink<bytes::Bytes>, text: &'static str) {
    use futures_util::SinkExt;
    let mut sink = Box::pin(sink);
    sink.send(bytes::Bytes::from_static(text.as_bytes())).await.expect("sent");
    sink.as_mut().finish().await.expect("copied");
}

/// How long some reads take, one after the other; each must be right.
async fn reads(client: &Client, n: usize) -> Duration {
    let began = Instant::now();
    for i in 0..n {
        let id = i % 100 + 1;
        assert_eq!(
            value(client, &format!("SELECT name FROM item WHERE id = {id}")).await,
            format!("item {id}")
        );
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_is_down_slow_or_silent_hurts_nobody() {
    let bed = Bed::new(
        &[&format!(
            "{NEXT}\nmax_queued = 50\nmax_queued_bytes = \"64KiB\"\ntimeout = \"300ms\"\nconnect_timeout = \"200ms\""
        )],
        "",
    );
    let client = bed.client().await;
    reads(&client, 50).await;
    bed.settled("next").await;
    let bounded =
        "max_queued = 50\nmax_queued_bytes = \"64KiB\"\ntimeout = \"300ms\"\nconnect_timeout = \"200ms\"";
    // Nobody listens there; somebody accepts and says nothing; somebody never answers a statement.
    let closed = turnpike::app::cluster::free_port();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mute = Fake::greeting(|_, server| while server.frame().is_some() {});
    for (name, port) in
        [("down", closed), ("silent", silent.local_addr().expect("an address").port()), ("mute", mute.port)]
    {
        bed.reload(port, &[&format!("name = \"{name}\"\n{bounded}")]).await;
        let before = bed.proxy.rss();
        reads(&client, 1500).await;
        let row = bed.admin("SHOW MIRRORS").await.remove(0);
        assert!(number(&row, "waiting") <= 50 && number(&row, "waiting_bytes") <= 64 << 10, "{row:?}");
        assert!(number(&row, "dropped") > 0, "{name}: {row:?}");
        assert_eq!(number(&row, "run"), 0, "{name}: {row:?}");
        let grown = bed.proxy.rss().saturating_sub(before);
        assert!(grown < 32 << 20, "{name}: {grown} bytes more");
        let all: u64 = ["queued", "dropped"].iter().map(|c| number(&row, c)).sum();
        assert!(all >= 1500, "{name}: {row:?}");
    }
    // And back to one that answers.
    bed.reload(second().primary().port, &[NEXT]).await;
    reads(&client, 20).await;
    let row = bed.settled("next").await;
    assert_eq!((number(&row, "run"), number(&row, "compared")), (20, 20), "{row:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_shares_and_conditions() {
    let bed = Bed::new(&["name = \"tenth\"\nshare = \"10%\"", "name = \"sales\"\ntable = \"sale\""], "");
    let client = bed.client().await;
    reads(&client, 1000).await;
    client.simple_query("SELECT count(*) FROM sale").await.expect("rows");
    let tenth = number(&bed.settled("tenth").await, "queued");
    assert!((40..=190).contains(&tenth), "{tenth} of 1000");
    assert_eq!(number(&bed.settled("sales").await, "queued"), 1);
    // What stays as it was goes on, what is new begins, what is gone is gone.
    let port = second().primary().port;
    bed.reload(port, &["name = \"all\"", "name = \"sales\"\ntable = \"sale\""]).await;
    client.simple_query("SELECT count(*) FROM sale").await.expect("rows");
    assert_eq!(number(&bed.settled("sales").await, "queued"), 2);
    assert_eq!(number(&bed.settled("all").await, "queued"), 1);
    let shown = bed.admin("SHOW MIRRORS").await;
    assert!(shown.iter().all(|row| row["mirror"] != "tenth"), "{shown:?}");
    bed.reload(port, &[]).await;
    assert!(bed.admin("SHOW MIRRORS").await.is_empty());
    reads(&client, 10).await;
    let ours = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'turnpike mirror' AND datname = '{}'",
        bed.db.name
    );
    eventually("no connection is left", || {
        second().primary().psql("postgres", &ours).expect("a count").trim() == "0"
    });
}

/// Sessions that a proxy keeps account of for mirrors.
fn watched(proxy: &Proxy) -> f64 {
    let (_, text) = get(proxy, "/metrics");
    let sample = text.lines().find_map(|line| line.strip_prefix("turnpike_mirrored_sessions "));
    sample.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_no_mirror_can_mean_are_left_alone() {
    let port = second().primary().port;
    let web = "name = \"web\"\napplication_name = \"web*\"";
    let bed = Bed::new(&["name = \"nobody\"\nuser = \"nobody*\"", web], "");
    let (client, other) = (bed.client().await, bed.client().await);
    reads(&client, 5).await;
    reads(&other, 5).await;
    assert_eq!(watched(&bed.proxy), 0.0, "neither of them is meant");
    // By what it sets it is, from the next statement on.
    client.batch_execute("SET application_name = 'web-7'").await.expect("set");
    reads(&client, 5).await;
    assert_eq!((watched(&bed.proxy), number(&bed.settled("web").await, "run")), (1.0, 5));
    client
        .batch_execute("BEGIN; SET LOCAL application_name = 'x'; COMMIT; SET application_name = 'y'")
        .await
        .expect("set");
    reads(&client, 5).await;
    reads(&other, 5).await;
    assert_eq!(number(&bed.settled("web").await, "run"), 5);
    // And by what a configuration says: of statements, too, since any may be one of those.
    bed.reload(port, &[&format!("{NEXT}\ntable = \"sale\""), web]).await;
    reads(&client, 5).await;
    reads(&other, 5).await;
    other.simple_query("SELECT count(*) FROM sale").await.expect("rows");
    assert_eq!((watched(&bed.proxy), number(&bed.settled("next").await, "run")), (2.0, 1));
    bed.reload(port, &[web]).await;
    reads(&client, 5).await;
    reads(&other, 5).await;
    assert_eq!(watched(&bed.proxy), 0.0);
    bed.reload(port, &[]).await;
    reads(&client, 5).await;
    assert_eq!(watched(&bed.proxy), 0.0);
}
