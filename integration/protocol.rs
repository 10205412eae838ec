//! The same conversation with Postgres and through the proxy, compared frame by frame. What differs by nature is
//! masked: process ids, and where in Postgres's source an error comes from.

use std::thread;
use std::time::Duration;

use crate::harness::raw::{self, Frame, Raw, bind, close, describe, execute, flush, msg, parse, query, sync};
use crate::harness::{Db, Proxy, ProxyOptions};

/// Has the conversation both ways, and compares.
#[track_caller]
fn same(talk: impl Fn(&mut Raw) -> Vec<Frame>) {
    let bed = Bed::new("size = 2");
    bed.same(talk);
}

struct Bed {
    db: Db,
    proxy: Proxy,
}

impl Bed {
    fn new(pool: &str) -> Bed {
        let db = Db::new();
        let proxy = Proxy::start(&db, ProxyOptions { pool: pool.into(), ..Default::default() });
        Bed { db, proxy }
    }

    fn direct(&self) -> Raw {
        Raw::login(self.db.cluster().primary().port, &self.db.user, &self.db.password, &self.db.name)
    }

    #[track_caller]
    fn same(&self, talk: impl Fn(&mut Raw) -> Vec<Frame>) {
        let shown = |raw: &mut Raw| talk(raw).iter().map(masked).collect::<Vec<_>>();
        let (mut direct, mut proxied) = (self.direct(), self.proxy.raw(&self.db));
        let (want, got) = (shown(&mut direct), shown(&mut proxied));
        assert_eq!(got, want);
        // Both are in step afterwards, and so is whoever comes next.
        for raw in [&mut direct, &mut proxied, &mut self.proxy.raw(&self.db)] {
            raw.query("ROLLBACK");
            assert_eq!(raw.value("SELECT 'in step'"), "in step");
        }
    }
}

fn masked(frame: &Frame) -> String {
    match frame.kind {
        b'E' | b'N' => {
            let fields = [b'V', b'C', b'M', b'D', b'H', b'P'].map(|tag| frame.field(tag));
            format!("{}{fields:?}", char::from(frame.kind))
        }
        b'A' => format!("A[{}]", frame.body[4..].escape_ascii()),
        _ => format!("{frame:?}"),
    }
}

/// Sends all at once and reads up to `n` ReadyForQuery.
#[track_caller]
fn ask(raw: &mut Raw, messages: &[Vec<u8>], n: usize) -> Vec<Frame> {
    raw.send(messages.concat());
    raw.until_ready(n)
}

/// The shortest way to run a statement by the extended protocol.
fn run(sql: &str) -> Vec<u8> {
    [parse("", sql), bind("", "", &[]), describe('P', ""), execute("", 0)].concat()
}

#[test]
fn simple_queries() {
    same(|raw| {
        let texts = [
            "SELECT 1, NULL, 'x', repeat('y', 100)",
            "",
            ";",
            "  -- nothing\n",
            "SELECT 1; SELECT 2",
            "SELECT 1; SELECT 1/0; SELECT 3",
            "SELECT; SELECT 2",
            "BEGIN; SELECT 1",
            "SELECT 1/0",
            "SELECT 1",
            "ROLLBACK",
            "BEGIN; COMMIT; BEGIN; ROLLBACK",
            "SELEKT",
            "SELECT generate_series(1, 500)",
            "VALUES (1), (2)",
            "DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two' USING HINT = 'h'; END $$",
            "CREATE TEMP TABLE t (a int); INSERT INTO t VALUES (1), (2); UPDATE t SET a = 3; DELETE FROM t; DROP TABLE t",
        ];
        texts.iter().flat_map(|sql| raw.query(sql)).collect()
    });
}

#[test]
fn simple_queries_in_a_pipeline() {
    same(|raw| {
        let texts =
            ["SELECT 1", "SELECT 1/0", "", "BEGIN", "SELECT 2", "x", "SELECT 3", "COMMIT", "SELECT 4"];
        ask(raw, &texts.map(query), texts.len())
    });
}

#[test]
fn extended_queries() {
    same(|raw| {
        let whole = [
            parse("", "SELECT $1::int + $2::int AS sum"),
            describe('S', ""),
            bind("", "", &["40", "2"]),
            describe('P', ""),
            execute("", 0),
            sync(),
        ];
        let mut frames = ask(raw, &whole, 1);
        for sql in [
            "",
            "SELECT",
            "SELECT 1; SELECT 2",
            "SELEKT",
            "SELECT 1/0",
            "SET work_mem = '1MB'",
            "BEGIN",
            "COMMIT",
        ] {
            frames.extend(ask(raw, &[run(sql), sync()], 1));
        }
        // A batch of nothing, twice.
        frames.extend(ask(raw, &[sync(), sync(), flush(), sync()], 3));
        frames
    });
}

#[test]
fn an_error_in_a_pipeline_skips_to_the_sync() {
    same(|raw| {
        let mut frames = ask(
            raw,
            &[
                run("SELECT 1"),
                run("SELECT 1/0"),
                run("SELECT 2"),
                parse("lost", "SELECT 'lost'"),
                close('S', "lost"),
                query("SELECT 'also skipped'"),
                sync(),
                run("SELECT 3"),
                sync(),
                bind("", "lost", &[]),
                sync(),
            ],
            3,
        );
        // Statements prepared before the error stay; what was closed after it stays too.
        frames.extend(ask(
            raw,
            &[parse("kept", "SELECT 'kept'"), run("SELEKT"), close('S', "kept"), sync()],
            1,
        ));
        frames.extend(ask(raw, &[bind("", "kept", &[]), execute("", 0), sync()], 1));
        frames
    });
}

#[test]
fn an_error_is_told_before_the_sync_comes() {
    same(|raw| {
        raw.send([run("SELECT 1/0"), flush()].concat());
        let mut frames = raw.until(b'E');
        raw.send([run("SELECT 2"), flush()].concat());
        thread::sleep(Duration::from_millis(30));
        frames.extend(ask(raw, &[run("SELECT 3"), sync()], 1));
        frames
    });
}

#[test]
fn flush_brings_what_is_there() {
    same(|raw| {
        let mut frames = Vec::new();
        let steps: [(Vec<u8>, u8); 5] = [
            (parse("", "SELECT $1"), b'1'),
            (describe('S', ""), b'T'),
            (bind("", "", &["x"]), b'2'),
            (execute("", 0), b'C'),
            (close('P', ""), b'3'),
        ];
        for (step, last) in steps {
            raw.send([step, flush()].concat());
            frames.extend(raw.until(last));
        }
        frames.extend(ask(raw, &[sync()], 1));
        frames
    });
}

#[test]
fn portals_with_a_row_limit() {
    same(|raw| {
        let sql = "SELECT generate_series(1, 10)";
        let mut frames = ask(
            raw,
            &[
                parse("", sql),
                bind("p", "", &[]),
                execute("p", 4),
                execute("p", 4),
                execute("p", 4),
                execute("p", 4),
                sync(),
            ],
            1,
        );
        frames.extend(raw.query("BEGIN"));
        frames.extend(ask(raw, &[parse("", sql), bind("p", "", &[]), execute("p", 3), sync()], 1));
        frames.extend(ask(raw, &[execute("p", 3), sync()], 1));
        frames.extend(ask(
            raw,
            &[describe('P', "p"), execute("p", 0), close('P', "p"), close('P', "p"), sync()],
            1,
        ));
        frames.extend(ask(raw, &[execute("p", 0), sync()], 1));
        frames.extend(raw.query("COMMIT"));
        // A portal ends with its transaction.
        frames.extend(ask(raw, &[parse("", sql), bind("p", "", &[]), sync(), execute("p", 0), sync()], 2));
        frames
    });
}

#[test]
fn named_statements() {
    same(|raw| {
        let mut frames = ask(raw, &[parse("s", "SELECT $1::text, 1"), describe('S', "s"), sync()], 1);
        let execs = [bind("", "s", &["a"]), execute("", 0), bind("", "s", &["b"]), execute("", 0), sync()];
        frames.extend(ask(raw, &execs, 1));
        // The name is taken, and the error carries the client's name, not ours.
        frames.extend(ask(raw, &[parse("s", "SELECT 2"), bind("", "s", &["c"]), execute("", 0), sync()], 1));
        frames.extend(ask(raw, &[bind("", "s", &["d"]), execute("", 0), sync()], 1));
        frames.extend(ask(
            raw,
            &[close('S', "s"), parse("s", "SELECT 2"), bind("", "s", &[]), execute("", 0), sync()],
            1,
        ));
        frames.extend(ask(raw, &[close('S', "s"), bind("", "s", &[]), sync()], 1));
        frames.extend(ask(raw, &[bind("", "never", &[]), execute("", 0), sync()], 1));
        frames.extend(ask(raw, &[describe('S', "never"), sync()], 1));
        frames.extend(ask(raw, &[close('S', "never"), close('P', "never"), sync()], 1));
        frames.extend(ask(raw, &[describe('P', "never"), sync(), execute("never", 0), sync()], 2));
        // A statement that fails to parse leaves no name.
        frames.extend(ask(raw, &[parse("bad", "SELEKT"), sync(), parse("bad", "SELECT 5"), sync()], 2));
        frames.extend(ask(raw, &[bind("", "bad", &[]), execute("", 0), sync()], 1));
        // Wrong number of parameters, wrong values.
        frames.extend(ask(raw, &[bind("", "bad", &["1"]), sync()], 1));
        frames.extend(ask(
            raw,
            &[parse("n", "SELECT $1::int"), bind("", "n", &["x"]), execute("", 0), sync()],
            1,
        ));
        frames
    });
}

#[test]
fn a_duplicate_name_in_a_transaction_and_after_a_rollback() {
    same(|raw| {
        let mut frames = raw.query("BEGIN");
        frames.extend(ask(raw, &[parse("s", "SELECT 1"), sync()], 1));
        frames.extend(raw.query("ROLLBACK"));
        // Prepared statements do not roll back.
        frames.extend(ask(
            raw,
            &[parse("s", "SELECT 2"), sync(), bind("", "s", &[]), execute("", 0), sync()],
            2,
        ));
        frames.extend(raw.query("BEGIN"));
        frames.extend(ask(raw, &[parse("s", "SELECT 2"), sync()], 1));
        frames.extend(ask(raw, &[bind("", "s", &[]), sync()], 1));
        frames.extend(raw.query("ROLLBACK"));
        frames.extend(ask(raw, &[bind("", "s", &[]), execute("", 0), sync()], 1));
        frames
    });
}

#[test]
fn statements_prepared_in_sql_and_by_protocol() {
    same(|raw| {
        let mut frames = raw.query("PREPARE q AS SELECT 7");
        frames.extend(ask(raw, &[bind("", "q", &[]), execute("", 0), sync()], 1));
        frames.extend(raw.query("EXECUTE q"));
        frames.extend(raw.query("DEALLOCATE q"));
        frames.extend(ask(raw, &[parse("a", "SELECT 8"), parse("b", "SELECT 9"), sync()], 1));
        frames.extend(raw.query("DEALLOCATE ALL"));
        frames.extend(ask(raw, &[bind("", "a", &[]), sync(), parse("a", "SELECT 10"), sync()], 2));
        frames.extend(ask(raw, &[bind("", "a", &[]), execute("", 0), sync()], 1));
        frames.extend(raw.query("DISCARD ALL"));
        frames.extend(ask(raw, &[bind("", "a", &[]), sync(), bind("", "b", &[]), sync()], 2));
        frames
    });
}

#[test]
fn the_unnamed_statement() {
    same(|raw| {
        let again = [bind("", "", &["z"]), execute("", 0), sync()];
        let mut frames = ask(raw, &[bind("", "", &[]), sync()], 1);
        frames.extend(ask(raw, &[parse("", "SELECT $1::text"), sync()], 1));
        frames.extend(ask(raw, &again, 1));
        frames.extend(ask(raw, &again, 1));
        // A simple Query drops it.
        frames.extend(raw.query("SELECT 1"));
        frames.extend(ask(raw, &again, 1));
        frames.extend(ask(
            raw,
            &[parse("", "SELECT $1::text"), close('S', ""), bind("", "", &["z"]), sync()],
            1,
        ));
        // One that fails to parse leaves none.
        frames.extend(ask(raw, &[parse("", "SELECT $1::text"), sync(), parse("", "SELEKT"), sync()], 2));
        frames.extend(ask(raw, &again, 1));
        // One that is skipped changes nothing.
        frames.extend(ask(raw, &[parse("", "SELECT $1::text"), sync()], 1));
        frames.extend(ask(
            raw,
            &[bind("", "never", &[]), parse("", "SELECT 'other'"), close('S', ""), sync()],
            1,
        ));
        frames.extend(ask(raw, &again, 1));
        frames
    });
}

/// Between batches another client may have had the same server connection.
#[test]
fn the_unnamed_statement_is_ones_own() {
    let bed = Bed::new("size = 1");
    let (mut a, mut b) = (bed.proxy.raw(&bed.db), bed.proxy.raw(&bed.db));
    ask(&mut a, &[parse("", "SELECT 'a'"), sync()], 1);
    ask(&mut b, &[parse("", "SELECT 'b'"), sync()], 1);
    for _ in 0..2 {
        for (raw, want) in [(&mut a, "a"), (&mut b, "b")] {
            let frames = ask(raw, &[bind("", "", &[]), execute("", 0), sync()], 1);
            assert_eq!(frames.iter().find(|f| f.kind == b'D').expect("a row").column(), want);
        }
    }
    b.query("SELECT 1");
    let frames = ask(&mut b, &[bind("", "", &[]), execute("", 0), sync()], 1);
    assert_eq!(frames[0].field(b'C'), "26000");
    let mut c = bed.proxy.raw(&bed.db);
    let frames = ask(&mut c, &[bind("", "", &[]), execute("", 0), sync()], 1);
    assert_eq!(frames[0].field(b'C'), "26000");
}

#[test]
fn function_calls() {
    same(|raw| {
        let call = |oid: u32, arg: &str| {
            let mut body = oid.to_be_bytes().to_vec();
            body.extend_from_slice(&[0, 0, 0, 1]);
            body.extend_from_slice(&u32::try_from(arg.len()).expect("short").to_be_bytes());
            body.extend_from_slice(arg.as_bytes());
            body.extend_from_slice(&[0, 0]);
            msg(b'F', body)
        };
        // int4abs is 1397 since always.
        let mut frames = ask(raw, &[call(1397, "-42")], 1);
        frames.extend(ask(raw, &[call(1397, "x")], 1));
        frames.extend(ask(raw, &[call(4_000_000, "x")], 1));
        frames.extend(ask(raw, &[call(1397, "-1"), query("SELECT 1")], 2));
        frames
    });
}

const COPY_IN: &str = "COPY c FROM STDIN";
const TABLE: &str = "CREATE TEMP TABLE c (n int, t text)";

fn data(text: &str) -> Vec<u8> {
    msg(b'd', text)
}

fn done() -> Vec<u8> {
    msg(b'c', b"")
}

fn fail() -> Vec<u8> {
    msg(b'f', b"enough\0")
}

#[test]
fn copy_in() {
    same(|raw| {
        let mut frames = raw.query(TABLE);
        let mut copies = |messages: &[Vec<u8>]| frames.extend(ask(raw, messages, 1));
        copies(&[query(COPY_IN), data("1\ta\n2\t"), data("b\n"), done()]);
        copies(&[query(COPY_IN), data("3\tc\n"), fail()]);
        copies(&[query(COPY_IN), data("x\ty\n"), data("4\td\n"), done()]);
        copies(&[query(COPY_IN), done()]);
        // Flush and Sync are allowed in between, and ignored.
        copies(&[query(COPY_IN), flush(), data("5\te\n"), sync(), done()]);
        copies(&[query("SELECT n + 0, t || '' FROM c ORDER BY 1")]);
        // Data that nobody asked for is ignored.
        copies(&[data("6\tf\n"), done(), fail(), query("SELECT count(*) FROM c")]);
        copies(&[query("COPY nowhere FROM STDIN"), data("6\tf\n"), done()]);
        frames
    });
}

#[test]
fn copy_in_step_by_step() {
    same(|raw| {
        let mut frames = raw.query(TABLE);
        raw.send(query("COPY c FROM STDIN; SELECT count(*) FROM c; COPY c FROM STDIN"));
        frames.extend(raw.until(b'G'));
        raw.send([data("1\ta\n"), done()].concat());
        frames.extend(raw.until(b'G'));
        raw.send([data("2\tb\n"), done()].concat());
        frames.extend(raw.until_ready(1));
        frames.extend(raw.query("SELECT count(*) FROM c"));
        frames
    });
}

#[test]
fn another_request_in_the_middle_of_copy_data_is_the_end() {
    let bed = Bed::new("size = 1");
    let talk = |mut raw: Raw| {
        raw.query(TABLE);
        raw.send(query(COPY_IN));
        raw.until(b'G');
        raw.send([data("3\tc\n"), query("SELECT 'no'")].concat());
        raw.until_closed().iter().map(masked).collect::<Vec<_>>()
    };
    let (want, got) = (talk(bed.direct()), talk(bed.proxy.raw(&bed.db)));
    assert_eq!(got, want);
    assert_eq!(bed.proxy.raw(&bed.db).value("SELECT 1"), "1");
}

/// Names in batches that were sent before the error in an earlier one was known.
#[test]
fn names_after_errors_in_a_pipeline_of_batches() {
    same(|raw| {
        let run_it = |name: &str| [bind("", name, &[]), execute("", 0), sync()].concat();
        let mut frames = Vec::new();
        let mut both = |first: Vec<u8>, second: Vec<u8>, then: Vec<u8>| {
            frames.extend(ask(raw, &[first, sync(), second, sync()], 2));
            frames.extend(ask(raw, &[then], 1));
        };
        let skipped = |message: Vec<u8>| [bind("", "never", &[]), message].concat();
        both(parse("", "SELEKT"), parse("", "SELECT 'second'"), run_it(""));
        both(skipped(parse("", "SELECT 'skipped'")), parse("", "SELECT 'third'"), run_it(""));
        both(skipped(close('S', "")), parse("", "SELECT 'fourth'"), run_it(""));
        both(skipped(parse("", "SELECT 'skipped'")), skipped(parse("", "SELECT 'skipped too'")), run_it(""));
        both(parse("a", "SELEKT 1"), parse("a", "SELECT 'a'"), run_it("a"));
        both(parse("b", "SELEKT 2"), bind("", "b", &[]), run_it("b"));
        both(parse("c", "SELEKT 3"), parse("d", "SELEKT 3"), run_it("d"));
        both(skipped(close('S', "a")), parse("a", "SELECT 'duplicate'"), run_it("a"));
        both(skipped(close('S', "a")), close('S', "a"), run_it("a"));
        both(skipped(parse("e", "SELECT 'skipped'")), describe('S', "e"), run_it("e"));
        frames
    });
}

#[test]
fn copy_in_by_the_extended_protocol() {
    same(|raw| {
        let mut frames = raw.query(TABLE);
        let begin = || [parse("", COPY_IN), bind("", "", &[]), execute("", 0)].concat();
        frames.extend(ask(raw, &[begin(), data("1\ta\n"), done(), sync()], 1));
        // The Sync before the data is eaten by the COPY.
        frames.extend(ask(raw, &[begin(), sync(), data("2\tb\n"), done(), sync()], 1));
        frames.extend(ask(raw, &[begin(), data("x\n"), done(), sync()], 1));
        frames.extend(ask(raw, &[begin(), data("3\tc\n"), fail(), sync()], 1));
        frames.extend(ask(raw, &[begin(), data("4\td\n"), done(), run("SELECT count(*) FROM c"), sync()], 1));
        // Step by step, with the early Sync.
        raw.send([begin(), sync()].concat());
        frames.extend(raw.until(b'G'));
        raw.send([data("5\te\n"), done(), sync()].concat());
        frames.extend(raw.until_ready(1));
        raw.send([begin(), sync()].concat());
        frames.extend(raw.until(b'G'));
        raw.send([data("broken\n"), done(), sync()].concat());
        frames.extend(raw.until_ready(1));
        frames.extend(raw.query("SELECT n + 0, t || '' FROM c ORDER BY 1"));
        frames
    });
}

#[test]
fn copy_out() {
    same(|raw| {
        let mut frames = raw.query("COPY (SELECT generate_series(1, 1000)) TO STDOUT");
        frames.extend(raw.query("COPY (SELECT 1 / (500 - g) FROM generate_series(1, 1000) g) TO STDOUT"));
        frames.extend(raw.query("COPY (SELECT 1) TO STDOUT WITH (FORMAT binary)"));
        frames.extend(raw.query("COPY (SELECT 1) TO STDOUT; SELECT 2; COPY (SELECT 3) TO STDOUT"));
        let copy = "COPY (SELECT 1 / (3 - g) FROM generate_series(1, 5) g) TO STDOUT";
        frames.extend(ask(raw, &[run("COPY (SELECT 1) TO STDOUT"), run(copy), run("SELECT 1"), sync()], 1));
        frames
    });
}

#[test]
fn notices_and_parameters() {
    same(|raw| {
        let mut frames = raw.query("SET client_min_messages = debug1");
        frames.extend(raw.query("DO $$ BEGIN RAISE DEBUG 'psst'; END $$"));
        frames.extend(raw.query("RESET client_min_messages"));
        frames.extend(raw.query("SET TimeZone = 'Asia/Tokyo'"));
        frames.extend(raw.query("SHOW TimeZone"));
        frames.extend(ask(raw, &[run("SET TimeZone = 'Europe/Berlin'"), run("SHOW TimeZone"), sync()], 1));
        frames.extend(raw.query("BEGIN; SET LOCAL TimeZone = 'UTC'; SET DateStyle = 'German'"));
        frames.extend(raw.query("SHOW TimeZone"));
        frames.extend(raw.query("ROLLBACK"));
        frames.extend(raw.query("SHOW TimeZone; SHOW DateStyle"));
        frames.extend(raw.query("SET application_name = 'it''s me'"));
        frames.extend(raw.query("SHOW application_name"));
        frames.extend(raw.query("SET TimeZone = 'Nowhere/Land'"));
        frames.extend(raw.query("RESET ALL"));
        frames.extend(raw.query("SHOW TimeZone; SHOW application_name"));
        frames
    });
}

#[test]
fn notifications_to_oneself_and_from_others() {
    let bed = Bed::new("size = 3");
    bed.same(|raw| {
        let mut frames = raw.query("LISTEN bell");
        frames.extend(raw.query("NOTIFY bell, 'one'; SELECT 1"));
        frames.extend(raw.query("BEGIN; NOTIFY bell, 'two'"));
        frames.extend(raw.query("SELECT 2"));
        frames.extend(raw.query("COMMIT"));
        bed.db.psql("NOTIFY bell, 'from outside'");
        frames.push(raw.expect(b'A'));
        frames.extend(raw.query("UNLISTEN bell"));
        frames.extend(raw.query("NOTIFY bell, 'unheard'"));
        frames
    });
}

#[test]
fn cancelling() {
    let bed = Bed::new("size = 2");
    let talk = |port: u16, raw: &mut Raw| {
        let mut frames = Vec::new();
        for statement in
            [query("SELECT pg_sleep(10)"), [run("SELECT pg_sleep(10)"), run("SELECT 1"), sync()].concat()]
        {
            raw.send(statement);
            thread::sleep(Duration::from_millis(100));
            raw::cancel(port, &raw.key.clone());
            frames.extend(raw.until_ready(1));
        }
        // A cancel when nothing is running hits nothing.
        raw::cancel(port, &raw.key.clone());
        frames.extend(raw.query("SELECT 'unharmed'"));
        let mut wrong = raw.key.clone();
        wrong[7] ^= 1;
        raw.send(query("SELECT pg_sleep(0.2)"));
        raw::cancel(port, &wrong);
        frames.extend(raw.until_ready(1));
        frames.iter().map(masked).collect::<Vec<_>>()
    };
    let want = talk(bed.db.cluster().primary().port, &mut bed.direct());
    let got = talk(bed.proxy.port, &mut bed.proxy.raw(&bed.db));
    assert_eq!(got, want);
}
