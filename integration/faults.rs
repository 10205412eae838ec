//! Peers that die, stall, leave halfway, or are replaced. Whatever happens: no hang, nothing of one client's left for
//! another, and a pool that is as large as it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::raw::{
    self, Fake, Frame, Raw, bind, data_row, describe, error, execute, flush, msg, parse, query, ready,
    row_description, sync,
};
use crate::harness::{Db, Proxy, ProxyOptions, eventually, relay};

struct Bed {
    db: Db,
    proxy: Proxy,
    size: usize,
}

impl Bed {
    fn new(size: usize, pool: &str) -> Bed {
        let db = Db::new();
        let pool = format!("size = {size}\n{pool}");
        let proxy = Proxy::start(&db, ProxyOptions { pool, ..Default::default() });
        Bed { db, proxy, size }
    }

    fn raw(&self) -> Raw {
        self.proxy.raw(&self.db)
    }

    /// What the server says of the database's sessions.
    fn sessions(&self, condition: &str) -> usize {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = '{}' AND application_name <> 'turnpike catalog' AND {condition}",
            self.db.user
        );
        self.db.psql(&sql).parse().expect("a count")
    }

    /// Everyone is served, the server connections are at rest and hold nothing, and there are no more than there may be.
    #[track_caller]
    fn is_clean(&self) {
        eventually("server connections at rest", || self.sessions("state <> 'idle'") == 0);
        let locks = "SELECT count(*) FROM pg_locks WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND pid <> pg_backend_pid()";
        // The catalog may be being read.
        eventually("no locks", || self.db.psql(locks) == "0");
        assert!(self.sessions("true") <= self.size);
        let mut raws: Vec<Raw> = (0..self.size + 1).map(|_| self.raw()).collect();
        for raw in &mut raws {
            assert_eq!(
                raw.value(
                    "SELECT count(*) FROM pg_prepared_statements WHERE name NOT LIKE '\\_\\_turnpike%'"
                ),
                "0"
            );
            assert_eq!(raw.value("SELECT count(*) FROM pg_class WHERE relpersistence = 't'"), "0");
            assert_eq!(raw.value("SELECT current_setting('work_mem')"), "4MB");
        }
        assert!(self.sessions("true") <= self.size);
        assert!(!self.proxy.log().contains("panicked"));
    }
}

fn kinds(frames: &[Frame]) -> String {
    frames.iter().map(|f| char::from(f.kind)).collect()
}

#[test]
fn a_server_process_that_is_terminated() {
    let bed = Bed::new(2, "");
    let terminate = || {
        bed.db.psql(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'",
            bed.db.user
        ))
    };
    let cases: [(&str, Vec<u8>); 5] = [
        ("in a query", query("SELECT pg_sleep(30)")),
        ("in a transaction", query("BEGIN; CREATE TABLE never (a int)")),
        ("in a row", query("SELECT repeat('x', 50000000)")),
        ("in COPY out", query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 50000)) TO STDOUT")),
        ("in COPY in", query("COPY audit_log FROM STDIN")),
    ];
    for (what, statement) in cases {
        let mut raw = bed.raw();
        raw.send(statement);
        thread::sleep(Duration::from_millis(150));
        terminate();
        let frames = raw.until_closed();
        // In the middle of a row, or of COPY data that nobody reads, the server itself gets no word out.
        if !matches!(what, "in a row" | "in COPY out") {
            assert_eq!(frames.last().expect("a word").field(b'C'), "57P01", "{what}: {:?}", frames.last());
        }
        assert_eq!(bed.raw().value("SELECT to_regclass('never') IS NULL"), "t", "after {what}");
    }
    // Idle ones are replaced without anybody noticing.
    let mut raw = bed.raw();
    assert_eq!(raw.value("SELECT 1"), "1");
    terminate();
    eventually("its end", || bed.sessions("true") == 0);
    assert_eq!(raw.value("SELECT 2"), "2");
    bed.is_clean();
}

#[test]
fn statements_survive_their_server() {
    let bed = Bed::new(2, "");
    let mut raw = bed.raw();
    raw.send([parse("s", "SELECT $1::int, 'named'"), parse("", "SELECT 'unnamed'"), sync()].concat());
    raw.until_ready(1);
    raw.query("SET TimeZone = 'Asia/Tokyo'");
    raw.send([parse("", "SELECT 'unnamed'"), sync()].concat());
    raw.until_ready(1);
    bed.db.psql(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'",
        bed.db.user
    ));
    eventually("its end", || bed.sessions("true") == 0);
    raw.send([describe('S', ""), bind("", "", &[]), execute("", 0), sync()].concat());
    assert_eq!(kinds(&raw.until_ready(1)), "tT2DCZ");
    raw.send([describe('S', "s"), bind("", "s", &["7"]), execute("", 0), sync()].concat());
    let frames = raw.until_ready(1);
    assert_eq!(kinds(&frames), "tT2DCZ");
    assert_eq!(frames[3].column(), "7");
    assert_eq!(raw.value("SHOW TimeZone"), "Asia/Tokyo");
}

#[test]
fn clients_that_vanish() {
    let bed = Bed::new(2, "");
    bed.db.psql("CREATE TABLE vanish (a int); GRANT ALL ON vanish TO PUBLIC");
    let cases: [(&str, Vec<u8>); 12] = [
        ("in a transaction", query("BEGIN; INSERT INTO vanish VALUES (1); LOCK TABLE audit_log")),
        ("in a failed transaction", query("BEGIN; INSERT INTO vanish VALUES (2); SELECT 1/0")),
        ("in a query", query("INSERT INTO vanish SELECT 3 FROM pg_sleep(30)")),
        ("in a small result", query("SELECT repeat('x', 2000000)")),
        ("in a large result", query("SELECT repeat('x', 1000) FROM generate_series(1, 200000)")),
        ("in COPY out", query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 200000)) TO STDOUT")),
        ("in COPY in", [query("COPY vanish FROM STDIN"), msg(b'd', b"4\n4\n")].concat()),
        ("in a COPY message", [query("COPY vanish FROM STDIN"), msg(b'd', b"5\n5\n")[..6].to_vec()].concat()),
        (
            "in extended COPY in",
            [parse("", "COPY vanish FROM STDIN"), bind("", "", &[]), execute("", 0), sync()].concat(),
        ),
        (
            "without Sync",
            [parse("", "INSERT INTO vanish VALUES (6)"), bind("", "", &[]), execute("", 0)].concat(),
        ),
        ("in a large message", query(&format!("SELECT '{}'", "x".repeat(300_000)))[..200_000].to_vec()),
        (
            "with state of all kinds",
            query(
                "SET work_mem = '77MB'; CREATE TEMP TABLE tt (a int); PREPARE p AS SELECT 1; LISTEN x; SELECT pg_advisory_lock(7)",
            ),
        ),
    ];
    for how in ["reset", "close", "half"] {
        for (what, statement) in &cases {
            let mut raw = bed.raw();
            raw.send(statement);
            thread::sleep(Duration::from_millis(20));
            match how {
                "reset" => raw.reset(),
                "close" => drop(raw),
                _ => {
                    raw.half_close();
                    let begun = Instant::now();
                    while raw.skim(1, |_| {}) {}
                    assert!(begun.elapsed() < Duration::from_secs(8), "{what}, {how}");
                }
            }
        }
        bed.is_clean();
        assert_eq!(bed.db.psql("SELECT a FROM vanish"), "", "{how}");
    }
    assert_eq!(bed.db.psql("SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE datname = current_database() AND locktype = 'advisory'"), "0");
}

/// What a client that vanishes has asked for last is cancelled: whoever gets its server connection next is not told that the
/// server has what it never came to have.
#[test]
fn a_statement_that_was_cancelled_while_it_was_prepared() {
    // Who reads the catalog would wait for the lock, and be waited for.
    let extra = "[plan]\ncatalog = false".to_string();
    let db = Db::new();
    let proxy = Proxy::start(&db, ProxyOptions { pool: "size = 1".into(), extra, ..Default::default() });
    let bed = Bed { db, proxy, size: 1 };
    let mut direct =
        Raw::login(bed.db.cluster().primary().port, &bed.db.user, &bed.db.password, &bed.db.name);
    // Settings of its own are sent ahead, and may be cancelled as well.
    for settings in ["", "SET work_mem = '5MB'"] {
        direct.query("BEGIN; LOCK audit_log");
        let mut raw = bed.raw();
        if !settings.is_empty() {
            raw.query(settings);
        }
        // Another one each time: what somebody has prepared already is not asked of a server.
        let asks = parse("s", &format!("SELECT count(*) > 0 AS \"{settings}.\" FROM audit_log"));
        raw.send([asks.clone(), flush()].concat());
        eventually("its wait", || bed.sessions("wait_event_type = 'Lock'") == 1);
        drop(raw);
        eventually("its end", || bed.sessions("wait_event_type = 'Lock'") == 0);
        direct.query("ROLLBACK");
        let mut next = bed.raw();
        next.send([asks, bind("", "s", &[]), execute("", 0), sync()].concat());
        assert_eq!(kinds(&next.until_ready(1)), "12DCZ", "after {settings:?}");
        assert_eq!(next.value("SELECT current_setting('work_mem') = '5MB'"), "f", "after {settings:?}");
    }
    drop(direct);
    bed.is_clean();
}

#[test]
fn a_server_that_dies_while_letting_us_in() {
    for cut in [0, 1, 9, 12, 40, 80] {
        let fake = Fake::start(move |n, raw| {
            if n >= 2 {
                raw.greet();
                raw.serve(|_, raw| raw.try_send(raw::one_row("up")).is_ok());
            } else {
                let bytes =
                    [msg(b'R', [0; 4]), msg(b'S', "server_version\x0018\0"), msg(b'K', [1; 8]), ready('I')]
                        .concat();
                let _ = raw.try_send(&bytes[..cut.min(bytes.len() - 1)]);
            }
        });
        let proxy = Proxy::to_fake(&fake, "", "size = 1\nwait_timeout = \"5s\"");
        // The login waits for a server that lets it in.
        assert_eq!(Raw::login(proxy.port, "u", "", "db").value("SELECT 1"), "up", "cut at {cut}");
    }
}

#[test]
fn a_server_that_refuses() {
    let fake = Fake::start(|_, raw| {
        let fields = [('S', "FATAL"), ('V', "FATAL"), ('C', "28P01"), ('M', "no, you")];
        let _ = raw.try_send(error(&fields));
    });
    let proxy = Proxy::to_fake(&fake, "", "size = 1\nwait_timeout = \"3s\"");
    let begun = Instant::now();
    let mut raw = Raw::connect(proxy.port);
    raw.send(raw::startup(3 << 16, &[("user", "u"), ("database", "db")]));
    let frames = raw.until_closed();
    let last = frames.last().expect("a reason");
    assert_eq!((last.field(b'C').as_str(), last.field(b'M').as_str()), ("28P01", "no, you"));
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_server_that_says_nothing() {
    // Accepts and is silent, from the first byte or after the login.
    let fake = Fake::start(|n, raw| {
        if n > 0 {
            raw.greet();
            raw.serve(|sql, raw| sql == "stall" || raw.try_send(raw::one_row("up")).is_ok());
        } else {
            let _ = raw.frame();
        }
    });
    let proxy = Proxy::to_fake(&fake, "", "size = 1\nconnect_timeout = \"300ms\"\nwait_timeout = \"1s\"");
    let mut raw = Raw::login(proxy.port, "u", "", "db");
    assert_eq!(raw.value("SELECT 1"), "up");
    raw.send(query("stall"));
    // Others are told that they wait in vain; a cancel reaches the server, and leaving frees the place.
    let mut other = Raw::login(proxy.port, "u", "", "db");
    let begun = Instant::now();
    let told = other.query("SELECT 2");
    assert_eq!((kinds(&told).as_str(), told[0].field(b'C').as_str()), ("EZ", "53300"));
    assert!((800..2500).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    raw::cancel(proxy.port, &raw.key.clone());
    eventually("the cancel", || fake.cancels.load(SeqCst) > 0);
    drop(raw);
    eventually("a new connection", || {
        fake.visits.load(SeqCst) == 3 || {
            let mut raw = Raw::connect(proxy.port);
            raw.send(raw::startup(3 << 16, &[("user", "u"), ("database", "db")]));
            raw.authenticate("");
            raw.settle_in();
            raw.send(query("SELECT 3"));
            kinds(&raw.until_ready(1)) == "TDCZ"
        }
    });
}

#[test]
fn a_server_that_dies_in_the_middle() {
    let fake = Fake::greeting(|_, raw| {
        raw.serve(|sql, raw| {
            let row = data_row("1");
            let said = match sql {
                "nothing" | "commit" => Vec::new(),
                "description" => row_description(),
                "half a header" => [row_description(), row[..3].to_vec()].concat(),
                "half a row" => [row_description(), row[..8].to_vec()].concat(),
                "a row" => [row_description(), row].concat(),
                "complete" => [row_description(), row, msg(b'C', "SELECT 1\0")].concat(),
                "copy" => [msg(b'H', [0, 0, 0]), msg(b'd', b"1\n")].concat(),
                "copy in" => msg(b'G', [0, 0, 0]),
                "half an error" => error(&[('S', "ERROR"), ('M', "never ends")])[..12].to_vec(),
                _ => return raw.try_send(raw::one_row("up")).is_ok(),
            };
            let _ = raw.try_send(said);
            false
        });
    });
    let proxy = Proxy::to_fake(&fake, "", "size = 1");
    let cases = [
        ("nothing", "E"),
        ("commit", "E"),
        ("description", "TE"),
        ("half a header", "TE"),
        ("half a row", "T"),
        ("a row", "TDE"),
        ("complete", "TDCE"),
        ("copy", "HdE"),
        ("copy in", "GE"),
        ("half an error", "E"),
    ];
    for (sql, want) in cases {
        let mut raw = Raw::login(proxy.port, "u", "", "db");
        raw.send(query(sql));
        let frames = raw.until_closed();
        assert_eq!(kinds(&frames), want, "{sql}: {frames:?}");
        if want.ends_with('E') {
            // What may have been committed is not said to have failed.
            let code = if sql.starts_with("co") && sql != "complete" { "08007" } else { "08006" };
            assert_eq!(frames.last().expect("a reason").field(b'C'), code, "{sql}");
        }
        assert_eq!(Raw::login(proxy.port, "u", "", "db").value("SELECT 1"), "up", "after {sql}");
    }
}

/// Holds a server connection: BEGIN alone may be held back.
const HOLDS: &str = "BEGIN; SELECT 1";

#[test]
fn waiting_too_long_gives_53300() {
    let bed = Bed::new(1, "wait_timeout = \"500ms\"");
    let (mut holder, mut waiter) = (bed.raw(), bed.raw());
    holder.query(HOLDS);
    let begun = Instant::now();
    let frames = waiter.query("SELECT 1");
    assert_eq!(kinds(&frames), "EZ");
    assert_eq!(frames[0].field(b'C'), "53300", "{frames:?}");
    assert!(!frames[0].field(b'D').is_empty() && !frames[0].field(b'H').is_empty());
    assert!((400..2000).contains(&begun.elapsed().as_millis()));
    holder.query("COMMIT");
    assert_eq!(waiter.value("SELECT 1"), "1", "the statement failed, not the session");
    // A client that leaves while it waits leaves the queue.
    holder.query(HOLDS);
    let mut leaver = bed.raw();
    leaver.send(query("CREATE TABLE ghost (a int)"));
    thread::sleep(Duration::from_millis(50));
    leaver.reset();
    thread::sleep(Duration::from_millis(50));
    holder.query("COMMIT");
    assert_eq!(holder.value("SELECT to_regclass('ghost') IS NULL"), "t");
    bed.is_clean();
}

#[test]
fn a_waiting_statement_can_be_cancelled() {
    let bed = Bed::new(1, "");
    let (mut holder, mut waiter) = (bed.raw(), bed.raw());
    holder.query(HOLDS);
    waiter.send(query("SELECT 1"));
    thread::sleep(Duration::from_millis(100));
    raw::cancel(bed.proxy.port, &waiter.key.clone());
    let frames = waiter.until_ready(1);
    assert_eq!((kinds(&frames).as_str(), frames[0].field(b'V').as_str()), ("EZ", "ERROR"));
    assert_eq!(frames[0].field(b'C'), "57014");
    // What a replica may not serve, where there are some.
    let sql = "SELECT 1 /* turnpike: route=primary */";
    let batch = [parse("gone", sql), bind("", "gone", &[]), execute("", 0)].concat();
    waiter.send([batch.clone(), sync()].concat());
    thread::sleep(Duration::from_millis(100));
    raw::cancel(bed.proxy.port, &waiter.key.clone());
    assert_eq!(kinds(&waiter.until_ready(1)), "EZ");
    // Half a batch: the rest of it is skipped.
    waiter.send(&batch);
    thread::sleep(Duration::from_millis(100));
    raw::cancel(bed.proxy.port, &waiter.key.clone());
    assert_eq!(waiter.expect(b'E').field(b'C'), "57014");
    waiter.send([batch, sync()].concat());
    assert_eq!(kinds(&waiter.until_ready(1)), "Z");
    holder.query("ROLLBACK");
    waiter.send([bind("", "gone", &[]), sync()].concat());
    assert_eq!(waiter.frame().expect("an answer").field(b'C'), "26000");
    waiter.until_ready(1);
    assert_eq!(waiter.value("SELECT 2"), "2");
    assert_eq!(holder.value("SELECT 'untouched'"), "untouched");
}

/// Cancels for some, in the midst of others who share their server connections and must never feel one.
#[test]
fn cancels_reach_their_own_query_only() {
    let bed = Bed::new(4, "");
    let over = AtomicBool::new(false);
    let (cancelled, innocent) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut raw = bed.raw();
                while !over.load(SeqCst) {
                    assert_eq!(raw.value("SELECT 'unharmed' FROM pg_sleep(0.001)"), "unharmed");
                    innocent.fetch_add(1, SeqCst);
                }
            });
        }
        for _ in 0..3 {
            let (mut raw, over, cancelled) = (bed.raw(), &over, &cancelled);
            let (key, port) = (raw.key.clone(), bed.proxy.port);
            // Some cancels come while the statement runs, some just after it, some when there is none.
            scope.spawn(move || {
                while !over.load(SeqCst) {
                    raw::cancel(port, &key);
                    thread::sleep(Duration::from_millis(2));
                }
            });
            scope.spawn(move || {
                while !over.load(SeqCst) {
                    let frames = raw.query("SELECT pg_sleep(0.005)");
                    match kinds(&frames).as_str() {
                        "TDCZ" => {}
                        // It may come as early as before the first row, and as late as after the last.
                        "EZ" | "TEZ" | "TDEZ" => {
                            assert_eq!(frames[frames.len() - 2].field(b'C'), "57014", "{frames:?}");
                            cancelled.fetch_add(1, SeqCst);
                        }
                        _ => panic!("{frames:?}"),
                    }
                }
            });
        }
        thread::sleep(Duration::from_secs(3));
        over.store(true, SeqCst);
    });
    let (cancelled, innocent) = (cancelled.load(SeqCst), innocent.load(SeqCst));
    assert!(cancelled > 20 && innocent > 200, "{cancelled} cancelled, {innocent} not");
    bed.is_clean();
}

/// Ends what goes on until this is set.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Cancels that arrive a second late, beside clients that are busy on the same connections: none may feel another's.
#[test]
fn late_cancels_hit_nobody_else() {
    const BUSY: usize = 8;
    let db = Db::new();
    let options = ProxyOptions { pool: "size = 4".into(), ..Default::default() };
    let server = db.cluster().primary().port;
    let relay = relay::slow_cancels(server, Duration::from_secs(1));
    let proxy = Proxy::edited(&db, &options, |config| {
        config.replace(&format!("port = {server}\n"), &format!("port = {relay}\n"))
    });
    let over = AtomicBool::new(false);
    let (harmed, innocent) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..BUSY {
            scope.spawn(|| {
                let mut raw = proxy.raw(&db);
                while !over.load(SeqCst) {
                    let frames = raw.query("SELECT 'unharmed' FROM pg_sleep(0.02) FOR UPDATE");
                    harmed.fetch_add(usize::from(kinds(&frames) != "TDCZ"), SeqCst);
                    innocent.fetch_add(1, SeqCst);
                }
            });
        }
        let (over, proxy, db) = (&over, &proxy, &db);
        scope.spawn(move || {
            // Also where an assertion fails: the others would go on for ever.
            let _end = Ends(over);
            let mut raw = proxy.raw(db);
            for _ in 0..8 {
                // The statement is over before its cancel arrives.
                raw.send(query("SELECT pg_sleep(0.1) FOR UPDATE"));
                thread::sleep(Duration::from_millis(50));
                let (key, port) = (raw.key.clone(), proxy.port);
                thread::spawn(move || raw::cancel(port, &key));
                let frames = raw.until_ready(1);
                // Where all connections wait for a cancel, the statement waits, and is cancelled at once.
                let told = kinds(&frames) == "EZ" && frames[0].field(b'C') == "57014";
                assert!(told || kinds(&frames) == "TDCZ", "{frames:?}");
            }
            thread::sleep(Duration::from_millis(1500));
            // One that takes longer is reached.
            let (key, port) = (raw.key.clone(), proxy.port);
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(50));
                raw::cancel(port, &key);
            });
            let frames = raw.query("SELECT pg_sleep(20)");
            assert_eq!(frames[frames.len() - 2].field(b'C'), "57014", "{frames:?}");
        });
    });
    assert_eq!(harmed.load(SeqCst), 0, "others' statements were cancelled");
    assert!(innocent.load(SeqCst) > 100, "{innocent:?}");
}

/// The same name means something else to every client, and two server connections serve them all.
#[test]
fn a_statement_name_of_everyones() {
    const CLIENTS: usize = 12;
    const ROUNDS: usize = 2_000;
    let bed = Bed::new(2, "max_prepared = 8");
    thread::scope(|scope| {
        for id in 0..CLIENTS {
            let bed = &bed;
            scope.spawn(move || {
                let mut raw = bed.raw();
                raw.send([parse("s1", &format!("SELECT 'client {id} ' || $1::text")), sync()].concat());
                assert_eq!(kinds(&raw.until_ready(1)), "1Z");
                let batches = [1, 5];
                let mut done = 0;
                while done < ROUNDS {
                    let n = batches[done % 2];
                    let one = |i: usize| {
                        [bind("", "s1", &[&(done + i).to_string()]), execute("", 0), sync()].concat()
                    };
                    raw.send((0..n).map(one).collect::<Vec<_>>().concat());
                    let frames = raw.until_ready(n);
                    assert_eq!(kinds(&frames), "2DCZ".repeat(n));
                    for i in 0..n {
                        assert_eq!(frames[i * 4 + 1].column(), format!("client {id} {}", done + i));
                    }
                    done += n;
                }
            });
        }
    });
    bed.is_clean();
}

#[test]
fn postgres_restarts_under_load() {
    use turnpike::app::cluster::{Cluster, ClusterOptions, StopMode};
    let cluster = Cluster::start(ClusterOptions::default()).expect("a cluster of our own");
    let port = cluster.primary().port;
    cluster
        .primary()
        .psql(
            "postgres",
            "CREATE ROLE u LOGIN PASSWORD 'p'; CREATE TABLE load (n int); GRANT ALL ON load TO u",
        )
        .expect("a role");
    let proxy = Proxy::with_config(&[], |listen, http| {
        format!(
            "[general]\nlisten = [\"127.0.0.1:{listen}\"]\n[http]\nlisten = \"127.0.0.1:{http}\"\n\
             [pool]\nsize = 4\n[[database]]\nname = \"postgres\"\nbackend = \"b\"\n\
             [[backend]]\nname = \"b\"\nhost = \"127.0.0.1\"\nport = {port}\nsslmode = \"disable\"\n\
             [[user]]\nname = \"u\"\npassword = \"p\"\n{}",
            crate::harness::TRUST
        )
    });
    let over = Arc::new(AtomicBool::new(false));
    let (done, lost) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let login = move || Raw::login(proxy_port(&proxy), "u", "p", "postgres");
    let login = &login;
    thread::scope(|scope| {
        for _ in 0..10 {
            let (over, done, lost) = (over.clone(), done.clone(), lost.clone());
            scope.spawn(move || {
                let mut raw = login();
                while !over.load(SeqCst) {
                    let batch = [
                        parse("", "INSERT INTO load VALUES ($1::int)"),
                        bind("", "", &["1"]),
                        execute("", 0),
                        sync(),
                    ];
                    let _ = raw.try_send([query("BEGIN"), batch.concat(), query("COMMIT")].concat());
                    match kinds(&raw.until_ready(3)).as_str() {
                        "CZ12CZCZ" => drop(done.fetch_add(1, SeqCst)),
                        _ => {
                            lost.fetch_add(1, SeqCst);
                            raw = login();
                        }
                    }
                }
            });
        }
        for mode in [StopMode::Fast, StopMode::Immediate] {
            thread::sleep(Duration::from_millis(500));
            cluster.primary().restart(mode).expect("a restart");
        }
        let (before, deadline) = (done.load(SeqCst), Instant::now() + Duration::from_secs(10));
        while done.load(SeqCst) < before + 100 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        over.store(true, SeqCst);
        assert!(done.load(SeqCst) >= before + 100, "the load goes on after the restarts");
    });
    assert!(lost.load(SeqCst) > 0);
    let mut raw = login();
    let rows: usize = raw.value("SELECT count(*) FROM load").parse().expect("a count");
    // What was confirmed is there; what was lost may or may not be.
    assert!((done.load(SeqCst)..=done.load(SeqCst) + lost.load(SeqCst)).contains(&rows), "{rows}");
    let open = |and: &str| {
        let count = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = 'u'{and}");
        cluster.primary().psql("postgres", &count).expect("a count").parse::<usize>().expect("a count")
    };
    // The catalog is read now and then over a connection of its own, which is the only one beside the pool's.
    let (pooled, all) = (open(" AND application_name <> 'turnpike catalog'"), open(""));
    assert!(pooled <= 4 && all <= 5, "{pooled} of {all} server connections");
}

fn proxy_port(proxy: &Proxy) -> u16 {
    proxy.port
}
