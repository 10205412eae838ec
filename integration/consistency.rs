//! The checker: clients write and read on a primary and two replicas whose replay is held up again and again, and nobody
//! may read what is older than what was acknowledged to whom it counts for. `TURNPIKE_CHECK_READS` sets how many reads.

#![allow(clippy::print_stdout, reason = "what was measured is worth reading")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio_postgres::{Client, Statement};

use crate::harness::Until;
use crate::split::{Bed, bed};

/// Rows, each written by one client only.
const CLIENTS: usize = 6;

/// What is written to, and what is read to see it: also by detours that only the catalog knows of.
const WAYS: &[(&str, &str)] = &[
    ("UPDATE plain SET v = $2 WHERE id = $1", "SELECT v FROM plain WHERE id = $1"),
    ("UPDATE plain SET v = $2 WHERE id = $1", "SELECT v FROM seen WHERE id = $1"),
    (
        "UPDATE parted SET v = $2 WHERE id = $1",
        "SELECT max(v) FROM (SELECT * FROM parted_0 UNION ALL SELECT * FROM parted_1) x WHERE id = $1",
    ),
    ("UPDATE triggering SET v = $2 WHERE id = $1", "SELECT v FROM triggered WHERE id = $1"),
    ("UPDATE referenced SET v = $2 WHERE id = $1", "SELECT v FROM referring WHERE id = $1"),
    ("UPDATE seen SET v = $2 WHERE id = $1", "SELECT by_function($1)"),
    ("SELECT by_writer($1, $2)", "SELECT v FROM plain WHERE id = $1"),
];

const ALL: &[usize] = &[0, 1, 2, 3, 4, 5, 6];
/// Those whose writes go where the catalog says: what the code of triggers and functions writes to, nobody knows.
const KNOWN: &[usize] = &[0, 1, 2, 4, 5];

const SCHEMA: &str = "
    CREATE TABLE plain (id int PRIMARY KEY, v bigint NOT NULL);
    CREATE VIEW seen AS SELECT id, v FROM plain;
    CREATE TABLE parted (id int, v bigint NOT NULL, PRIMARY KEY (id)) PARTITION BY HASH (id);
    CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE TABLE triggering (id int PRIMARY KEY, v bigint NOT NULL);
    CREATE TABLE triggered (id int PRIMARY KEY, v bigint NOT NULL);
    CREATE FUNCTION pass_on() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN UPDATE triggered SET v = NEW.v WHERE id = NEW.id; RETURN NEW; END';
    CREATE TRIGGER pass_on AFTER UPDATE ON triggering FOR EACH ROW EXECUTE FUNCTION pass_on();
    CREATE TABLE referenced (id int PRIMARY KEY, v bigint NOT NULL, UNIQUE (id, v));
    CREATE TABLE referring (id int PRIMARY KEY, v bigint NOT NULL,
        FOREIGN KEY (id, v) REFERENCES referenced (id, v) ON UPDATE CASCADE);
    CREATE FUNCTION by_function(int) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT v FROM plain WHERE id = $1';
    CREATE FUNCTION by_writer(int, bigint) RETURNS void LANGUAGE sql AS 'UPDATE plain SET v = $2 WHERE id = $1';
    CREATE TABLE apart (id int PRIMARY KEY, v bigint NOT NULL);
    CREATE TABLE quiet (n int); INSERT INTO quiet VALUES (1);";

/// What has been acknowledged, by way and client.
type Acknowledged = Arc<Vec<Vec<AtomicI64>>>;

struct Checker {
    client: Client,
    number: usize,
    statements: Vec<(Statement, Statement)>,
    acknowledged: Acknowledged,
    /// Everybody's rows are looked at, not only the client's own.
    global: bool,
    seed: u64,
}

impl Checker {
    fn below(&mut self, n: usize) -> usize {
        // Knuth's MMIX generator.
        self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.seed >> 33) as usize % n
    }

    /// Writes to a way's row of its own, now and then by a detour of the protocol.
    async fn write(&mut self, way: usize) {
        let (id, v) = (self.number as i32, self.acknowledged[way][self.number].load(SeqCst) + 1);
        let (sql, statement) = (WAYS[way].0, &self.statements[way].0);
        let done = match self.seed % 3 {
            0 => self.client.execute(statement, &[&id, &v]).await.map(drop),
            1 => self.client.batch_execute(&literal(sql, id, v)).await,
            _ => {
                self.client.batch_execute("BEGIN").await.expect("begun");
                self.client.execute(statement, &[&id, &v]).await.expect("written");
                self.client.batch_execute("COMMIT").await
            }
        };
        done.expect("written");
        // Ways that write to the same table acknowledge to each other.
        for (other, _) in WAYS.iter().enumerate().filter(|(_, w)| table(w.0) == table(sql)) {
            self.acknowledged[other][self.number].store(v, SeqCst);
        }
    }

    /// Reads, and tells whether what it got is too old.
    async fn read(&mut self, way: usize) -> bool {
        if self.below(3) == 0 {
            return self.read_twice(way).await;
        }
        let whose = if self.global { self.below(CLIENTS) } else { self.number };
        let least = self.acknowledged[way][whose].load(SeqCst);
        let id = whose as i32;
        let statement = &self.statements[way].1;
        let got: i64 = match self.seed % 3 {
            0 => self.client.query_one(statement, &[&id]).await.expect("a row").get(0),
            1 => {
                let text = literal(WAYS[way].1, id, 0);
                let rows = self.client.simple_query(&text).await.expect("rows");
                let value = rows.iter().find_map(|m| match m {
                    tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_string),
                    _ => None,
                });
                value.expect("a row").parse().expect("a number")
            }
            _ => {
                // Sent together: the one must not take the other's place.
                let ids = [&id as &(dyn tokio_postgres::types::ToSql + Sync)];
                let (a, b) = tokio::join!(
                    self.client.query_one(statement, &ids),
                    self.client.query_one(statement, &ids)
                );
                a.expect("a row").get::<_, i64>(0).min(b.expect("a row").get(0))
            }
        };
        got < least
    }

    /// The same in a transaction: two reads, and perhaps a write between them.
    async fn read_twice(&mut self, way: usize) -> bool {
        const BEGINS: [&str; 3] =
            ["BEGIN READ ONLY", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "BEGIN"];
        let begin = self.below(BEGINS.len());
        self.client.batch_execute(BEGINS[begin]).await.expect("begun");
        let ways = [way, self.below(WAYS.len())];
        let whose = [(); 2].map(|()| if self.global { self.below(CLIENTS) } else { self.number });
        let least = |checker: &Checker, n: usize| checker.acknowledged[ways[n]][whose[n]].load(SeqCst);
        let mut leasts = [least(self, 0), least(self, 1)];
        let mut too_old = false;
        for n in 0..2 {
            // What others commit meanwhile is for those to see whose statements each see what is there.
            if begin != 1 {
                leasts[n] = least(self, n);
            }
            let (id, statement) = (whose[n] as i32, &self.statements[ways[n]].1);
            let row = self.client.query_one(statement, &[&id]).await.expect("a row");
            too_old |= row.get::<_, i64>(0) < leasts[n];
            if n == 0 && begin == 2 && self.below(4) == 0 {
                self.write_here().await;
            }
        }
        self.client.batch_execute("COMMIT").await.expect("committed");
        too_old
    }

    /// Writes what nobody reads.
    async fn write_here(&mut self) {
        let sql = format!("UPDATE apart SET v = v + 1 WHERE id = {}", self.number);
        self.client.batch_execute(&sql).await.expect("written");
    }
}

fn table(sql: &str) -> &str {
    if sql.contains("seen") || sql.contains("by_writer") {
        "plain"
    } else {
        sql.split(' ').nth(1).unwrap_or_default()
    }
}

fn literal(sql: &str, id: i32, v: i64) -> String {
    sql.replace("$1", &id.to_string()).replace("$2", &v.to_string())
}

/// Reads that were too old, of how many.
async fn check(bed: &Bed, until: Until, global: bool, ways: &'static [usize]) -> (usize, usize) {
    let acknowledged: Acknowledged =
        Arc::new(WAYS.iter().map(|_| (0..CLIENTS).map(|_| AtomicI64::new(0)).collect()).collect());
    let (stale, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = Vec::new();
    for number in 0..CLIENTS {
        let client = bed.client().await;
        let mut statements = Vec::new();
        for (write, read) in WAYS {
            let read = client.prepare(read).await.expect("prepared");
            statements.push((client.prepare(write).await.expect("prepared"), read));
        }
        let (stale, done, acknowledged) = (stale.clone(), done.clone(), acknowledged.clone());
        let mut checker =
            Checker { client, number, statements, acknowledged, global, seed: number as u64 * 977 + 1 };
        tasks.push(tokio::spawn(async move {
            while !until.is_over(done.fetch_add(1, SeqCst), stale.load(SeqCst)) {
                let way = ways[checker.below(ways.len())];
                if checker.below(8) == 0 {
                    checker.write(way).await;
                }
                let too_old = checker.read(way).await;
                stale.fetch_add(usize::from(too_old), SeqCst);
            }
        }));
    }
    for task in tasks {
        task.await.expect("no error");
    }
    (stale.load(SeqCst), done.load(SeqCst) - CLIENTS)
}

/// Reads what nobody writes to until this is set, and tells how many of how many reads replicas have served.
async fn read_aside(bed: &Bed, over: &AtomicBool) -> (usize, usize) {
    let client = bed.client().await;
    let primary = bed.servers.primary().port.to_string();
    let (mut there, mut all) = (0, 0);
    while !over.load(SeqCst) || all < 400 {
        let port = crate::harness::value(&client, "SELECT inet_server_port() FROM quiet").await;
        there += usize::from(port != primary);
        all += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (there, all)
}

/// Holds replay up on one replica after the other until this is set: it is paused, or what is committed is applied late.
async fn disturb(bed: &Bed, over: &AtomicBool) {
    let replicas = bed.servers.replicas();
    for n in 0.. {
        if over.load(SeqCst) {
            break;
        }
        let replica = &replicas[n / 2 % replicas.len()];
        let sql = match n % 8 {
            2 | 4 => "ALTER SYSTEM SET recovery_min_apply_delay = '200ms'; SELECT pg_reload_conf()",
            3 | 5 => "ALTER SYSTEM RESET recovery_min_apply_delay; SELECT pg_reload_conf()",
            even if even % 2 == 0 => "SELECT pg_wal_replay_pause()",
            _ => "SELECT pg_wal_replay_resume()",
        };
        let done = tokio::task::block_in_place(|| replica.psql("postgres", sql));
        done.unwrap_or_else(|e| panic!("{e}"));
        tokio::time::sleep(Duration::from_millis(if n % 2 == 0 { 150 } else { 250 })).await;
    }
    for replica in replicas {
        let sql = "ALTER SYSTEM RESET recovery_min_apply_delay; SELECT pg_reload_conf()";
        replica.psql("postgres", sql).unwrap_or_else(|e| panic!("{e}"));
    }
    bed.replay(true);
}

/// How many reads were too old, and what [`read_aside`] says.
async fn run(consistency: &str, until: Until, ways: &'static [usize]) -> (usize, (usize, usize)) {
    let bed = bed(&format!("consistency = \"{consistency}\"\ntransactions = \"optimistic\"")).await;
    let client = bed.client().await;
    client.batch_execute(SCHEMA).await.expect("made");
    for table in ["plain", "parted", "triggering", "triggered", "referenced", "referring", "apart"] {
        let fill = format!("INSERT INTO {table} SELECT i, 0 FROM generate_series(0, {}) i", CLIENTS - 1);
        client.batch_execute(&fill).await.expect("filled");
    }
    bed.servers.wait_replayed().unwrap_or_else(|e| panic!("{e}"));
    bed.until_split(&client).await;
    let over = AtomicBool::new(false);
    let ((stale, reads), (), aside) = tokio::join!(
        async {
            let done = check(&bed, until, consistency == "global", ways).await;
            over.store(true, SeqCst);
            done
        },
        disturb(&bed, &over),
        read_aside(&bed, &over)
    );
    println!("{consistency}: {reads} reads, {stale} stale; {} of {} aside on replicas", aside.0, aside.1);
    (stale, aside)
}

fn reads() -> usize {
    std::env::var("TURNPIKE_CHECK_READS").ok().and_then(|n| n.parse().ok()).unwrap_or(6_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_misses_its_own_writes() {
    let (stale, (there, all)) = run("session", Until::Reads(reads()), ALL).await;
    assert_eq!(stale, 0);
    // Tables that nobody writes to are read on replicas, whatever goes on beside.
    assert!(there * 100 > all * 95, "{there} of {all} on replicas");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_misses_anybodys_writes() {
    let (stale, _) = run("global", Until::Reads(reads()), ALL).await;
    assert_eq!(stale, 0);
}

/// What others write keeps nobody from replicas who reads other tables; only what may have written anything does.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_writes_to_other_tables() {
    let (stale, (there, all)) = run("global", Until::Reads(3_000), KNOWN).await;
    assert_eq!(stale, 0);
    assert!(there * 100 > all * 95, "{there} of {all} on replicas");
}

/// Without a promise there is something to see, so that the checker is known to see it.
#[tokio::test(flavor = "multi_thread")]
async fn the_checker_sees_what_is_stale() {
    let (stale, _) = run("eventual", Until::stale(), ALL).await;
    assert!(stale > 0, "the checker is blind");
}
