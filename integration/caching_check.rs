//! The checker of results that are kept: clients write and read rows through one proxy, and every read is held against
//! what was acknowledged, or seen by anybody, before it began. `TURNPIKE_CHECK_READS` sets how many reads.
//!
//! Each row has one writer, whose values grow, so that a history is one of a register that works if and only if no read
//! is older than the newest value that was acknowledged or read before it began, nor newer than the newest that was sent.
//! Rows whose writer does not pass through the proxy are held against what was acknowledged longer ago than the bound. Some
//! reads are within transactions, and some are several before one Sync, each of which is one that begins where the one
//! before it has ended.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::caching::{caching, keep};
use crate::elsewhere::Bed;
use crate::harness::raw::{Frame, Raw, bind, execute, parse, sync};
use crate::harness::{Db, Proxy, Until, pg, try_pg};

const ROWS: usize = 6;
const READERS: usize = 6;
/// Of those, some that ask for several before one Sync.
const PIPERS: usize = 2;

const SCHEMA: &str = "
    CREATE TABLE kv (id int PRIMARY KEY, v bigint NOT NULL); INSERT INTO kv SELECT i, 0 FROM generate_series(0, 5) i;
    CREATE VIEW seen AS SELECT id, v FROM kv;
    CREATE FUNCTION by_function(int) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT v FROM kv WHERE id = $1';
    CREATE FUNCTION by_writer(int, bigint) RETURNS void LANGUAGE plpgsql AS
        'BEGIN UPDATE kv SET v = $2 WHERE id = $1; END';";

/// One row's history, as far as it matters.
#[derive(Default)]
struct Row {
    /// The newest value that was sent, committed or not.
    sent: AtomicI64,
    /// The newest that was acknowledged, or read by anybody.
    known: AtomicI64,
    /// Of a writer elsewhere: what was acknowledged, and when.
    elsewhere: Mutex<Vec<(Instant, i64)>>,
}

/// How far behind writers elsewhere reads may be.
const BOUND: Duration = Duration::from_millis(200);

impl Row {
    /// A value has been acknowledged.
    fn acknowledged(&self, v: i64, elsewhere: bool) {
        if elsewhere {
            self.elsewhere.lock().expect("no panic").push((Instant::now(), v));
        } else {
            self.known.fetch_max(v, SeqCst);
        }
    }

    /// The oldest value that a read which begins now may have.
    fn least(&self) -> i64 {
        let now = Instant::now();
        let elsewhere = self.elsewhere.lock().expect("no panic");
        let old = elsewhere.iter().rev().find(|(at, _)| now.duration_since(*at) > BOUND);
        old.map_or(0, |(_, v)| *v).max(self.known.load(SeqCst))
    }
}

struct Shared {
    rows: Vec<Row>,
    until: Until,
    reads: AtomicUsize,
    wrong: AtomicUsize,
    over: AtomicBool,
    seed: AtomicUsize,
}

impl Shared {
    fn below(&self, n: usize) -> usize {
        crate::harness::below(&self.seed, n)
    }

    fn is_over(&self) -> bool {
        self.until.is_over(self.reads.load(SeqCst), self.wrong.load(SeqCst))
    }
}

/// Values that are rolled back are of another kind: nobody may see one.
const NEVER: i64 = 1 << 40;

async fn write(
    client: &Client,
    shared: &Shared,
    id: usize,
    elsewhere: bool,
) -> Result<(), tokio_postgres::Error> {
    let row = &shared.rows[id];
    let v = row.sent.load(SeqCst) + 1;
    let set = |v: i64| format!("UPDATE kv SET v = {v} WHERE id = {id}");
    // Code and functions may define objects: nothing is kept until the catalog has been read again.
    let way = if shared.below(400) == 0 { 7 + shared.below(2) } else { shared.below(7) };
    if way == 0 {
        client.batch_execute("BEGIN").await?;
        client.batch_execute(&set(NEVER + v)).await?;
        return client.batch_execute("ROLLBACK").await;
    }
    row.sent.store(v, SeqCst);
    match way {
        1 => {
            client.batch_execute("BEGIN").await?;
            client.batch_execute("SAVEPOINT s").await?;
            client.batch_execute(&set(NEVER + v)).await?;
            client.batch_execute("ROLLBACK TO s").await?;
            client.batch_execute(&set(v)).await?;
            client.batch_execute("COMMIT").await?;
        }
        2 => {
            let with = format!("WITH w AS ({} RETURNING id) SELECT id FROM w", set(v));
            client.batch_execute(&with).await?;
        }
        3 => {
            // With its columns it is known which row it writes.
            let columns = ["", " (id, v)"][shared.below(2)];
            let upsert = format!(
                "INSERT INTO kv{columns} VALUES ({id}, {v}) ON CONFLICT (id) DO UPDATE SET v = excluded.v"
            );
            client.batch_execute(&upsert).await?;
        }
        8 => client.batch_execute(&format!("SELECT by_writer({id}, {v})")).await?,
        7 => {
            let code = format!("DO $$ BEGIN UPDATE kv SET v = {v} WHERE id = {id}; END $$");
            client.batch_execute(&code).await?;
        }
        4 => client.batch_execute(&format!("UPDATE seen SET v = {v} WHERE id = {id}")).await?,
        5 => {
            client.batch_execute(&format!("BEGIN; {}; COMMIT", set(v))).await?;
        }
        _ => drop(client.execute("UPDATE kv SET v = $2 WHERE id = $1", &[&(id as i32), &v]).await?),
    }
    row.acknowledged(v, elsewhere);
    Ok(())
}

impl Shared {
    /// A read has been answered with this, that had to be answered with this at least.
    fn answered(&self, id: usize, least: i64, got: i64) {
        let row = &self.rows[id];
        let most = row.sent.load(SeqCst);
        if row.elsewhere.lock().expect("no panic").is_empty() {
            row.known.fetch_max(got.min(most), SeqCst);
        }
        if got < least || got > most {
            self.wrong.fetch_add(1, SeqCst);
        }
        self.reads.fetch_add(1, SeqCst);
    }
}

async fn read(client: &Client, shared: &Shared) -> Result<(), tokio_postgres::Error> {
    let id = shared.below(ROWS);
    match shared.below(12) {
        0 => {
            // Each of its statements sees what was committed before it.
            client.batch_execute("BEGIN").await?;
            for _ in 0..3 {
                one(client, shared, shared.below(ROWS)).await?;
            }
            client.batch_execute("COMMIT").await
        }
        1 => {
            // All of its statements see the same.
            let begin = ["REPEATABLE READ", "SERIALIZABLE"][shared.below(2)];
            client.batch_execute(&format!("BEGIN ISOLATION LEVEL {begin}")).await?;
            let first = value(client, shared, id).await?;
            tokio::time::sleep(Duration::from_millis(2)).await;
            shared.wrong.fetch_add(usize::from(value(client, shared, id).await? != first), SeqCst);
            client.batch_execute("COMMIT").await
        }
        _ => one(client, shared, id).await,
    }
}

/// One read that is held against what is known.
async fn one(client: &Client, shared: &Shared, id: usize) -> Result<(), tokio_postgres::Error> {
    let least = shared.rows[id].least();
    let got = value(client, shared, id).await?;
    shared.answered(id, least, got);
    Ok(())
}

async fn value(client: &Client, shared: &Shared, id: usize) -> Result<i64, tokio_postgres::Error> {
    let simple = async |sql: String| {
        let messages = client.simple_query(&sql).await?;
        let value = messages.iter().find_map(|m| match m {
            SimpleQueryMessage::Row(row) => row.get(0).and_then(|text| text.parse().ok()),
            _ => None,
        });
        Ok::<i64, tokio_postgres::Error>(value.expect("a row"))
    };
    Ok(match shared.below(5) {
        0 => simple(format!("SELECT v FROM seen WHERE id = {id}")).await?,
        1 => client.query_one("SELECT v FROM kv WHERE id = $1", &[&(id as i32)]).await?.get(0),
        2 => simple(format!("SELECT by_function({id}) FROM kv LIMIT 1")).await?,
        _ => simple(format!("SELECT v FROM kv WHERE id = {id}")).await?,
    })
}

/// Reads before one Sync, of a few rows, some of them again, and some of what is never kept.
fn pipe(raw: &mut Raw, shared: &Shared) {
    let (a, b) = (shared.below(ROWS), shared.below(ROWS));
    let ids = [a, b, a, a, b];
    let least = ids.map(|id| shared.rows[id].least());
    let mut bytes = Vec::new();
    for id in ids {
        let never = if shared.below(3) == 0 { " AND random() >= 0" } else { "" };
        let sql = format!("SELECT v FROM kv WHERE id = {id}{never}");
        bytes.extend([parse("", &sql), bind("", "", &[]), execute("", 0)].concat());
    }
    bytes.extend(sync());
    raw.send(bytes);
    let frames = raw.until_ready(1);
    let got: Vec<i64> = frames
        .iter()
        .filter(|f| f.kind == b'D')
        .map(Frame::column)
        .map(|v| v.parse().expect("a number"))
        .collect();
    assert_eq!(got.len(), ids.len(), "{frames:?}");
    for (n, id) in ids.into_iter().enumerate() {
        // What the one before has seen, the next one sees, but for what others write.
        let elsewhere = !shared.rows[id].elsewhere.lock().expect("no panic").is_empty();
        let before = (0..n).rev().find(|m| ids[*m] == id && !elsewhere).map_or(0, |m| got[m]);
        shared.answered(id, least[n].max(before), got[n]);
    }
}

/// Ends connections of others at random, and changes definitions now and then.
async fn disturb(db: &Db, proxy: &Proxy, shared: &Shared) {
    for n in 0.. {
        if shared.over.load(SeqCst) {
            return;
        }
        let kill = "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity \
                    WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle' \
                    AND application_name NOT LIKE 'turnpike%' LIMIT 1) x";
        if n % 20 != 19 {
            tokio::task::block_in_place(|| db.psql(kill));
        } else if let Ok(client) = try_pg(proxy.url(db)).await {
            client.batch_execute("CREATE OR REPLACE VIEW seen AS SELECT id, v FROM kv").await.ok();
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

/// Who writes: where each connects to, whether that is past the proxy and said to be so, and how long each rests at most
/// between two writes, in milliseconds.
struct Writer {
    url: String,
    elsewhere: bool,
    rests: usize,
}

impl Writer {
    fn two(url: &str) -> Vec<Writer> {
        (0..2).map(|_| Writer { url: url.into(), elsewhere: false, rests: 20 }).collect()
    }
}

/// Writers, each to rows of its own, and readers; how many reads were wrong, of how many.
async fn check(
    db: &Db,
    proxy: &Proxy,
    until: Until,
    writers: Vec<Writer>,
    disturbed: bool,
) -> (usize, usize) {
    let shared = Arc::new(Shared {
        rows: (0..ROWS).map(|_| Row::default()).collect(),
        until,
        reads: AtomicUsize::new(0),
        wrong: AtomicUsize::new(0),
        over: AtomicBool::new(false),
        seed: AtomicUsize::new(7),
    });
    let (mut tasks, many) = (Vec::new(), writers.len());
    let reader = || Writer { url: proxy.url(db), elsewhere: false, rests: 0 };
    // Those that work by hand have no way to go on where their connections are lost.
    let pipers = if disturbed { 0 } else { PIPERS };
    for _ in 0..pipers {
        let (shared, mut raw) = (shared.clone(), proxy.raw(db));
        tasks.push(tokio::task::spawn_blocking(move || {
            while !shared.is_over() {
                pipe(&mut raw, &shared);
            }
            shared.over.store(true, SeqCst);
        }));
    }
    for (n, who) in writers.into_iter().chain((pipers..READERS).map(|_| reader())).enumerate() {
        let shared = shared.clone();
        tasks.push(tokio::spawn(async move {
            let mut client = None;
            while !shared.is_over() {
                let Some(connected) = client.take() else {
                    client = try_pg(&who.url).await.ok();
                    continue;
                };
                let done = if n < many {
                    tokio::time::sleep(Duration::from_millis(shared.below(who.rests) as u64)).await;
                    write(&connected, &shared, shared.below(ROWS / many) * many + n, who.elsewhere).await
                } else {
                    read(&connected, &shared).await
                };
                // Whose connection was ended comes again: what became of its write, reads will tell.
                client = done.is_ok().then_some(connected);
            }
            shared.over.store(true, SeqCst);
        }));
    }
    if disturbed {
        disturb(db, proxy, &shared).await;
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    (shared.wrong.load(SeqCst), shared.reads.load(SeqCst))
}

fn reads() -> usize {
    std::env::var("TURNPIKE_CHECK_READS").ok().and_then(|n| n.parse().ok()).unwrap_or(15_000)
}

async fn prepared(rules: &str) -> (Db, Proxy) {
    let db = Db::new();
    let proxy = caching(&db, rules);
    let client = pg(&proxy.url(&db)).await;
    client.batch_execute(SCHEMA).await.expect("made");
    keep(&client, "SELECT v FROM kv WHERE id = 0").await;
    (db, proxy)
}

/// Results that were given, as metrics have it.
async fn hits(db: &Db, proxy: &Proxy) -> u64 {
    let shown = crate::harness::rows(&pg(&proxy.admin_url(db)).await, "SHOW CACHE").await;
    shown.iter().find(|row| row[1] == "l1").expect("a row")[4].parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_read_is_older_than_what_is_known() {
    let (db, proxy) = prepared("[[cache]]\n").await;
    let (wrong, of) = check(&db, &proxy, Until::Reads(reads()), Writer::two(&proxy.url(&db)), false).await;
    let hits = hits(&db, &proxy).await;
    assert_eq!(wrong, 0, "of {of}");
    assert!(hits > of as u64 / 20, "{hits} hits of {of} reads: nothing was checked");
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_where_connections_are_lost_and_views_are_replaced() {
    let (db, proxy) = prepared("[[cache]]\n").await;
    let (wrong, of) = check(&db, &proxy, Until::Reads(reads() / 3), Writer::two(&proxy.url(&db)), true).await;
    assert_eq!(wrong, 0, "of {of}");
    // Also then the checker sees what is there to be seen: who writes past the proxy is not known.
    let (wrong, of) = check(&db, &proxy, Until::stale(), Writer::two(&db.direct_url()), true).await;
    assert!(wrong > 0, "of {of}: the checker is blind");
}

/// Where a declaration is broken there is something to see, so that the checker is known to see it: writers that do not
/// pass through the proxy, though its configuration says that all do.
#[tokio::test(flavor = "multi_thread")]
async fn the_checker_sees_what_is_stale() {
    let (db, proxy) = prepared("[[cache]]\n").await;
    let (wrong, of) = check(&db, &proxy, Until::stale(), Writer::two(&db.direct_url()), false).await;
    assert!(wrong > 0, "of {of}: the checker is blind");
}

/// One writer through the proxy, held to what was acknowledged, and one past it, held to the bound.
async fn elsewhere(how: &str) {
    let bed = Bed::new(&format!("invalidation = \"{how}\""));
    bed.db.psql(&format!("SET ROLE {}; {SCHEMA}", bed.db.user));
    bed.enable(how);
    keep(&pg(&bed.url()).await, "SELECT v FROM kv WHERE id = 0").await;
    let writers = |elsewhere: bool| {
        let through = Writer { url: bed.url(), elsewhere: false, rests: 200 };
        vec![through, Writer { url: bed.db.direct_url(), elsewhere, rests: 200 }]
    };
    let (wrong, of) = check(&bed.db, &bed.proxy, Until::Reads(reads()), writers(true), false).await;
    let hits = hits(&bed.db, &bed.proxy).await;
    assert_eq!(wrong, 0, "of {of}");
    assert!(hits > of as u64 / 50, "{hits} hits of {of} reads: nothing was checked");
    // Held to what was acknowledged, reads are found to be behind: the checker sees what it is there for.
    let (wrong, of) = check(&bed.db, &bed.proxy, Until::stale(), writers(false), false).await;
    assert!(wrong > 0, "of {of}: the checker is blind");
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_elsewhere_are_known_within_the_bound() {
    elsewhere("wal").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_are_those_that_triggers_tell_of() {
    elsewhere("triggers").await;
}

/// The same where the stream is cut off again and again.
#[tokio::test(flavor = "multi_thread")]
async fn nor_is_anything_older_where_the_stream_is_lost() {
    let bed = Bed::new("invalidation = \"wal\"");
    bed.db.psql(&format!("SET ROLE {}; {SCHEMA}", bed.db.user));
    bed.enable("wal");
    keep(&pg(&bed.url()).await, "SELECT v FROM kv WHERE id = 0").await;
    let over = Arc::new(AtomicBool::new(false));
    let cut = {
        let (over, at) = (over.clone(), bed.db.direct_url());
        tokio::spawn(async move {
            let client = pg(&at).await;
            while !over.load(SeqCst) {
                let ours = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user \
                            AND datname = current_database() AND application_name LIKE 'turnpike wal%'";
                client.batch_execute(ours).await.expect("terminated");
                tokio::time::sleep(Duration::from_millis(1500)).await;
            }
        })
    };
    let past = |n: usize, elsewhere| Writer { url: bed.db.direct_url(), elsewhere, rests: 100 * n };
    let writers = |elsewhere| vec![past(2, elsewhere), past(3, elsewhere)];
    let (wrong, of) = check(&bed.db, &bed.proxy, Until::Reads(reads()), writers(true), false).await;
    assert_eq!(wrong, 0, "of {of}");
    // Held to what was acknowledged, reads are found to be behind.
    let (wrong, of) = check(&bed.db, &bed.proxy, Until::stale(), writers(false), false).await;
    over.store(true, SeqCst);
    cut.await.expect("no panic");
    assert!(wrong > 0, "of {of}: the checker is blind");
}
