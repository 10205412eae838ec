//! Transactions on a cluster: BEGIN is held back until the first statement tells where to, READ ONLY goes to a replica
//! whole, and what begins there in hope of only reading moves to the primary before it writes.

use std::time::{Duration, Instant};

use turnpike::app::cluster::Server;

use crate::harness::raw::{self, Frame, Raw};
use crate::harness::value;
use crate::split::{Bed, LIES, bed};

/// Statements without literals, in both protocols, with all that came back in one word each.
fn said(frames: &[Frame]) -> String {
    frames
        .iter()
        .map(|f| match f.kind {
            b'C' => String::from_utf8_lossy(f.body.strip_suffix(b"\0").unwrap_or(&f.body)).into_owned(),
            b'Z' => format!("Z{}", char::from(f.body[0])),
            b'E' => f.field(b'C'),
            b'D' => "row".to_string(),
            kind => char::from(kind).to_string(),
        })
        .collect::<Vec<_>>()
        .join(" ")
}

fn ask(raw: &mut Raw, sql: &str) -> String {
    said(&raw.query(sql))
}

/// A statement by the extended protocol, unnamed.
fn extended(sql: &str) -> Vec<u8> {
    [raw::parse("", sql), raw::bind("", "", &[]), raw::execute("", 0)].concat()
}

/// Ports of the servers on which a transaction is open.
fn open_at(bed: &Bed) -> Vec<u16> {
    let is_open = |server: &&Server| {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'";
        server.psql("postgres", sql).unwrap_or_else(|e| panic!("{e}")) != "0"
    };
    let servers = bed.servers.replicas().iter().chain([bed.servers.primary()]);
    servers.filter(is_open).map(|server| server.port).collect()
}

/// The port of the server on which the one transaction is, as a read in it finds it.
fn port(bed: &Bed, raw: &mut Raw) -> u16 {
    raw.value("SELECT n FROM u");
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        // What has been left elsewhere is ended in the background.
        if let [port] = open_at(bed)[..] {
            return port;
        }
        assert!(Instant::now() < deadline, "{:?}", open_at(bed));
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn at_replica(bed: &Bed, raw: &mut Raw) -> bool {
    bed.replicas().contains(&port(bed, raw))
}

fn at_primary(bed: &Bed, raw: &mut Raw) -> bool {
    bed.servers.primary().port == port(bed, raw)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_begins_is_held_back_until_a_statement_tells_where_to() {
    let bed = bed("").await;
    let mut raw = bed.raw();
    for begin in ["BEGIN", "START TRANSACTION;", "begin isolation level repeatable read"] {
        let tag = if begin.starts_with('S') { "START TRANSACTION" } else { "BEGIN" };
        assert_eq!(ask(&mut raw, begin), format!("{tag} ZT"));
        assert_eq!(open_at(&bed), [0u16; 0], "{begin}");
        assert_eq!(ask(&mut raw, "COMMIT"), "COMMIT ZI");
    }
    assert_eq!(ask(&mut raw, "BEGIN"), "BEGIN ZT");
    assert_eq!(ask(&mut raw, "ABORT"), "ROLLBACK ZI");
    // A second BEGIN, and what is no BEGIN after all, are the server's to judge.
    assert_eq!(ask(&mut raw, "BEGIN"), "BEGIN ZT");
    assert_eq!(ask(&mut raw, "BEGIN"), "N BEGIN ZT");
    assert_eq!(open_at(&bed), [bed.servers.primary().port]);
    assert_eq!(ask(&mut raw, "ROLLBACK"), "ROLLBACK ZI");
    assert_eq!(ask(&mut raw, "BEGIN READ"), "42601 ZI");
    // It is a transaction like any other.
    assert_eq!(ask(&mut raw, "BEGIN"), "BEGIN ZT");
    assert_eq!(ask(&mut raw, "INSERT INTO u VALUES (1)"), "INSERT 0 1 ZT");
    assert_eq!(ask(&mut raw, "SELECT 1/0"), "22012 ZE");
    assert_eq!(ask(&mut raw, "SELECT 1"), "25P02 ZE");
    assert_eq!(ask(&mut raw, "COMMIT"), "ROLLBACK ZI");
    assert_eq!(raw.value("SELECT count(*) FROM u"), "1");
    // Modes said later hold as well.
    assert_eq!(ask(&mut raw, "BEGIN"), "BEGIN ZT");
    assert_eq!(ask(&mut raw, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"), "SET ZT");
    assert_eq!(raw.value("SHOW transaction_isolation"), "serializable");
    assert!(at_primary(&bed, &mut raw));
    assert_eq!(ask(&mut raw, "COMMIT AND CHAIN"), "COMMIT ZT");
    assert_eq!(raw.value("SHOW transaction_isolation"), "serializable");
    assert_eq!(ask(&mut raw, "END"), "COMMIT ZI");
    // By the extended protocol, with the first statement after it or in the same batch.
    raw.send([extended("BEGIN"), extended("INSERT INTO u VALUES (2)"), raw::sync()].concat());
    assert_eq!(said(&raw.until_ready(1)), "1 2 BEGIN 1 2 INSERT 0 1 ZT");
    raw.send([extended("COMMIT"), raw::sync()].concat());
    assert_eq!(said(&raw.until_ready(1)), "1 2 COMMIT ZI");
    assert_eq!(ask(&mut raw, "BEGIN"), "BEGIN ZT");
    raw.send([extended("INSERT INTO u VALUES (3)"), raw::sync()].concat());
    assert_eq!(said(&raw.until_ready(1)), "1 2 INSERT 0 1 ZT");
    raw.send([extended("SELECT 1/0"), raw::sync()].concat());
    assert_eq!(said(&raw.until_ready(1)), "1 22012 ZE");
    raw.send([extended("ROLLBACK"), raw::sync()].concat());
    assert_eq!(said(&raw.until_ready(1)), "1 2 ROLLBACK ZI");
    assert_eq!(raw.value("SELECT count(*) FROM u"), "2");
    // Whoever goes leaves nothing.
    assert_eq!(ask(&mut raw, "BEGIN"), "BEGIN ZT");
    assert_eq!(ask(&mut raw, "INSERT INTO u VALUES (4)"), "INSERT 0 1 ZT");
    drop(raw);
    let mut raw = bed.raw();
    let deadline = Instant::now() + Duration::from_secs(5);
    while !open_at(&bed).is_empty() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(raw.value("SELECT count(*) FROM u"), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_reads_goes_to_a_replica_whole() {
    let bed = bed("").await;
    let mut raw = bed.raw();
    bed.defaults_known(&mut raw);
    let begins: [&[&str]; 5] = [
        &["BEGIN READ ONLY"],
        &["START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"],
        &["BEGIN", "SET TRANSACTION READ ONLY"],
        &["SET default_transaction_read_only = on", "BEGIN"],
        &["BEGIN; -- in a string of two", "SELECT 1", "ROLLBACK", "BEGIN READ ONLY"],
    ];
    for begin in begins {
        for sql in begin {
            let answer = ask(&mut raw, sql);
            assert!(answer.ends_with(" ZT") || answer.ends_with(" ZI"), "{sql}: {answer}");
        }
        let first = port(&bed, &mut raw);
        assert!(bed.replicas().contains(&first), "{begin:?}");
        assert_eq!(raw.value("SELECT n FROM t WHERE id = 1"), "0");
        assert_eq!(port(&bed, &mut raw), first, "all of it in one place");
        // Names, portals and savepoints as anywhere.
        raw.send(
            [raw::parse("s", "SELECT n FROM t WHERE id = $1"), raw::describe('S', "s"), raw::sync()].concat(),
        );
        assert_eq!(said(&raw.until_ready(1)), "1 t T ZT");
        raw.send([raw::bind("", "s", &["1"]), raw::execute("", 0), raw::sync()].concat());
        assert_eq!(said(&raw.until_ready(1)), "2 row SELECT 1 ZT");
        raw.send([raw::close('S', "s"), raw::sync()].concat());
        raw.until_ready(1);
        assert_eq!(port(&bed, &mut raw), first);
        assert_eq!(ask(&mut raw, "DECLARE c CURSOR FOR SELECT id FROM t ORDER BY id"), "DECLARE CURSOR ZT");
        assert_eq!(ask(&mut raw, "FETCH 1 FROM c"), "T row FETCH 1 ZT");
        assert_eq!(ask(&mut raw, "SAVEPOINT a"), "SAVEPOINT ZT");
        // It is tied to its server now, which says what it makes of a write.
        assert_eq!(ask(&mut raw, "INSERT INTO u VALUES (1)"), "25006 ZE");
        assert_eq!(ask(&mut raw, "ROLLBACK TO a"), "ROLLBACK ZT");
        assert_eq!(port(&bed, &mut raw), first);
        assert_eq!(ask(&mut raw, "FETCH 1 FROM c"), "T row FETCH 1 ZT");
        assert_eq!(ask(&mut raw, "COMMIT"), "COMMIT ZI");
        assert_eq!(ask(&mut raw, "RESET default_transaction_read_only").replace("S ", ""), "RESET ZI");
        // The server is asked what that has changed.
        std::thread::sleep(Duration::from_millis(50));
    }
    // What a transaction may do that only reads, and a replica not.
    assert_eq!(ask(&mut raw, "BEGIN READ ONLY"), "BEGIN ZT");
    assert_eq!(ask(&mut raw, "LISTEN x"), "LISTEN ZT");
    assert_eq!(ask(&mut raw, "NOTIFY x"), "NOTIFY ZT");
    assert_eq!(ask(&mut raw, "LOCK TABLE t IN EXCLUSIVE MODE"), "LOCK TABLE ZT");
    assert!(at_primary(&bed, &mut raw));
    assert_eq!(ask(&mut raw, "INSERT INTO u VALUES (1)"), "25006 ZE");
    assert_eq!(ask(&mut raw, "ROLLBACK"), "ROLLBACK ZI");
    // So does one that finds that out later, as long as it may move.
    bed.pass();
    assert_eq!(ask(&mut raw, "BEGIN READ ONLY"), "BEGIN ZT");
    assert!(at_replica(&bed, &mut raw));
    assert_eq!(ask(&mut raw, "LOCK TABLE t IN EXCLUSIVE MODE"), "LOCK TABLE ZT");
    assert!(at_primary(&bed, &mut raw));
    assert_eq!(raw.value("SHOW transaction_read_only"), "on");
    assert_eq!(ask(&mut raw, "COMMIT"), "COMMIT ZI");
    // Serializable is the primary's, and so is what a comment sends there.
    for begin in
        ["BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", "BEGIN READ ONLY /* turnpike: route=primary */"]
    {
        assert_eq!(ask(&mut raw, begin), "BEGIN ZT");
        assert!(at_primary(&bed, &mut raw), "{begin}");
        assert_eq!(ask(&mut raw, "COMMIT"), "COMMIT ZI");
    }
    // Of one that may write nothing is known.
    assert_eq!(ask(&mut raw, "BEGIN"), "BEGIN ZT");
    assert!(at_primary(&bed, &mut raw));
    assert_eq!(ask(&mut raw, "COMMIT"), "COMMIT ZI");
    // Its own writes are seen, whatever is read later.
    bed.replay(false);
    assert_eq!(ask(&mut raw, "UPDATE t SET n = 5 WHERE id = 1"), "UPDATE 1 ZI");
    for begin in ["BEGIN READ ONLY", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"] {
        assert_eq!(ask(&mut raw, begin), "BEGIN ZT");
        assert_eq!(raw.value("SELECT n FROM u"), "0");
        assert_eq!(raw.value("SELECT n FROM t WHERE id = 1"), "5", "{begin}");
        assert_eq!(ask(&mut raw, "COMMIT"), "COMMIT ZI");
    }
    bed.replay(true);
}

#[tokio::test(flavor = "multi_thread")]
async fn optimists_read_on_a_replica_until_they_write() {
    let bed = bed("transactions = \"optimistic\"").await;
    let mut raw = bed.raw();
    bed.defaults_known(&mut raw);
    for round in 1..4 {
        assert_eq!(ask(&mut raw, "BEGIN"), "BEGIN ZT");
        assert!(at_replica(&bed, &mut raw));
        raw.send([extended("SELECT n FROM t WHERE id = 1"), raw::sync()].concat());
        assert_eq!(said(&raw.until_ready(1)), "1 2 row SELECT 1 ZT");
        assert!(at_replica(&bed, &mut raw));
        assert_eq!(ask(&mut raw, "UPDATE t SET n = n + 1 WHERE id = 1"), "UPDATE 1 ZT");
        assert_eq!(raw.value("SELECT n FROM t WHERE id = 1"), round.to_string());
        assert!(at_primary(&bed, &mut raw));

        assert_eq!(ask(&mut raw, "COMMIT"), "COMMIT ZI");
        assert_eq!(raw.value("SELECT n FROM t WHERE id = 1"), round.to_string());
        bed.pass();
    }
    // Reads alone never leave it; what fails there has failed.
    assert_eq!(ask(&mut raw, "BEGIN"), "BEGIN ZT");
    assert!(at_replica(&bed, &mut raw));
    assert_eq!(ask(&mut raw, "SELECT 1/n FROM u"), "T 22012 ZE");
    assert_eq!(ask(&mut raw, "INSERT INTO u VALUES (1)"), "25P02 ZE");
    assert_eq!(ask(&mut raw, "ROLLBACK"), "ROLLBACK ZI");
    // What depends on where it runs, or when it began, is the primary's from the start.
    assert_eq!(ask(&mut raw, "BEGIN"), "BEGIN ZT");
    assert!(at_replica(&bed, &mut raw));
    let began = raw.value("SELECT now()");
    assert!(at_primary(&bed, &mut raw));
    assert_eq!(ask(&mut raw, "INSERT INTO u VALUES (1)"), "INSERT 0 1 ZT");
    assert_eq!(raw.value("SELECT now()"), began);
    assert_eq!(ask(&mut raw, "ROLLBACK"), "ROLLBACK ZI");
    bed.pass();
    for sql in ["SAVEPOINT a", "DECLARE c CURSOR FOR SELECT 1", "SET LOCAL work_mem = '1MB'"] {
        assert_eq!(ask(&mut raw, "BEGIN"), "BEGIN ZT");
        assert!(at_replica(&bed, &mut raw));
        assert!(ask(&mut raw, sql).ends_with(" ZT"));
        assert!(at_primary(&bed, &mut raw), "{sql}");
        assert_eq!(ask(&mut raw, "INSERT INTO u VALUES (1)"), "INSERT 0 1 ZT");
        assert_eq!(ask(&mut raw, "ROLLBACK"), "ROLLBACK ZI");
        bed.pass();
    }
    for begin in ["BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN ISOLATION LEVEL SERIALIZABLE"] {
        assert_eq!(ask(&mut raw, begin), "BEGIN ZT");
        assert!(at_primary(&bed, &mut raw), "{begin}");
        assert_eq!(ask(&mut raw, "ROLLBACK"), "ROLLBACK ZI");
    }
    // A portal with rows left is no reason to lose them.
    raw.send(
        [
            raw::parse("", "BEGIN"),
            raw::bind("", "", &[]),
            raw::execute("", 0),
            raw::parse("", "SELECT id FROM t ORDER BY id"),
            raw::bind("", "", &[]),
            raw::execute("", 1),
            raw::sync(),
        ]
        .concat(),
    );
    assert_eq!(said(&raw.until_ready(1)), "1 2 BEGIN 1 2 row s ZT");
    raw.send([raw::execute("", 0), raw::sync()].concat());
    assert_eq!(said(&raw.until_ready(1)), "row SELECT 1 ZT");
    assert_eq!(ask(&mut raw, "COMMIT"), "COMMIT ZI");
    // In one batch, to the end.
    raw.send([extended("BEGIN"), extended("SELECT n FROM u"), extended("COMMIT"), raw::sync()].concat());
    assert_eq!(said(&raw.until_ready(1)), "1 2 BEGIN 1 2 row SELECT 1 1 2 COMMIT ZI");
    // Several batches at once, each after the one before it.
    let many = [
        raw::query("BEGIN"),
        raw::query("SELECT n FROM u"),
        raw::query("INSERT INTO u VALUES (7)"),
        raw::query("SELECT count(*) FROM u"),
        raw::query("ROLLBACK"),
        raw::query("SELECT n FROM u"),
    ];
    raw.send(many.concat());
    assert_eq!(
        said(&raw.until_ready(6)),
        "BEGIN ZT T row SELECT 1 ZT INSERT 0 1 ZT T row SELECT 1 ZT ROLLBACK ZI T row SELECT 1 ZI"
    );
}

/// What a replica refuses in the middle of a transaction, and the loss of one, go unnoticed while it may move.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_survives_its_replica() {
    let bed = bed("transactions = \"optimistic\"").await;
    let owner = bed.client().await;
    owner.batch_execute(LIES).await.expect("made");
    bed.servers.wait_replayed().unwrap_or_else(|e| panic!("{e}"));
    bed.until_split(&owner).await;
    let mut raw = bed.raw();
    bed.defaults_known(&mut raw);
    assert_eq!(ask(&mut raw, "BEGIN"), "BEGIN ZT");
    assert!(at_replica(&bed, &mut raw));
    assert_eq!(ask(&mut raw, "SELECT lies() FROM t"), "T row row SELECT 2 ZT");
    assert!(at_primary(&bed, &mut raw));
    assert_eq!(ask(&mut raw, "COMMIT"), "COMMIT ZI");
    assert_eq!(value(&owner, "SELECT n FROM u FOR UPDATE").await, "2");
    // Between two statements, by a farewell and by a reset.
    for kill in [true, false] {
        bed.until_split(&owner).await;
        for begin in ["BEGIN", "BEGIN READ ONLY"] {
            assert_eq!(ask(&mut raw, begin), "BEGIN ZT");
            assert!(at_replica(&bed, &mut raw), "{begin}");
            for replica in bed.servers.replicas() {
                if kill {
                    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                               WHERE state LIKE 'idle in transaction%'";
                    replica.psql("postgres", sql).unwrap_or_else(|e| panic!("{e}"));
                } else {
                    replica.kill().unwrap_or_else(|e| panic!("{e}"));
                    replica.start().unwrap_or_else(|e| panic!("{e}"));
                }
            }
            std::thread::sleep(Duration::from_millis(100));
            assert_eq!(raw.value("SELECT n FROM u"), "2");
            assert_eq!(ask(&mut raw, "COMMIT"), "COMMIT ZI", "{begin}");
            bed.until_split(&owner).await;
        }
    }
}

/// A transaction whose first statement finds no server has failed, and can be ended.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_a_transaction_fails() {
    let bed = bed("failover_wait = \"200ms\"").await;
    let mut raw = bed.raw();
    bed.servers.primary().kill().unwrap_or_else(|e| panic!("{e}"));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(ask(&mut raw, "BEGIN"), "BEGIN ZT");
    assert_eq!(ask(&mut raw, "INSERT INTO u VALUES (1)"), "57P03 ZE");
    assert_eq!(ask(&mut raw, "ROLLBACK"), "ROLLBACK ZI");
    assert_eq!(ask(&mut raw, "BEGIN"), "BEGIN ZT");
    raw.send([extended("INSERT INTO u VALUES (1)"), raw::sync()].concat());
    assert_eq!(said(&raw.until_ready(1)), "57P03 ZE");
    tokio::task::block_in_place(|| bed.servers.primary().start()).unwrap_or_else(|e| panic!("{e}"));
    let deadline = Instant::now() + Duration::from_secs(10);
    // What has failed has failed, also when there is a server again.
    while ask(&mut raw, "INSERT INTO u VALUES (1)") != "25P02 ZE" {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(50));
    }
    raw.send([extended("COMMIT"), raw::sync()].concat());
    assert_eq!(said(&raw.until_ready(1)), "1 2 ROLLBACK ZI");
    assert_eq!(raw.value("SELECT count(*) FROM u"), "1");
}
