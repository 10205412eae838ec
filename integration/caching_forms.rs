//! Results that are given in the middle of something: of a pipeline before its Sync, of a transaction, of a portal's rows.
//! What is given cannot be told from what a server answers; where it could be, a server is asked.

use std::time::{Duration, Instant};

use crate::caching::{Bed, EXACT, READ, TABLES, keep, said};
use crate::harness::raw::{Frame, Raw, bind, close, describe, execute, flush, parse, query, sync};
use crate::harness::{Db, Proxy, ProxyOptions, pg};

const ONE: &str = "SELECT v FROM kv WHERE id = 1";
const TWO: &str = "SELECT v FROM kv WHERE id = 2";

/// A statement of the extended protocol, without its Sync.
fn ask(sql: &str) -> Vec<u8> {
    [parse("", sql), bind("", "", &[]), describe('P', ""), execute("", 0)].concat()
}

fn kinds(frames: &[Frame]) -> String {
    frames.iter().map(|f| char::from(f.kind)).collect()
}

fn values(frames: &[Frame]) -> Vec<String> {
    frames.iter().filter(|f| f.kind == b'D').map(Frame::column).collect()
}

/// Sends what asks for these before one Sync; the frames, and how many results were given.
fn pipe(bed: &Bed, raw: &mut Raw, parts: &[Vec<u8>]) -> (Vec<Frame>, u64) {
    let before = bed.hits();
    raw.send([parts.concat(), sync()].concat());
    let frames = raw.until_ready(1);
    (frames, bed.hits() - before)
}

/// Reads until these are kept as a pipeline asks for them: they are collected from it.
fn warm(bed: &Bed, raw: &mut Raw, reads: &[&str]) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let parts: Vec<Vec<u8>> = reads.iter().map(|sql| ask(sql)).collect();
    while pipe(bed, raw, &parts).1 < reads.len() as u64 {
        assert!(Instant::now() < deadline, "{reads:?} are not kept");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_before_one_sync() {
    let (bed, client) = Bed::new(EXACT).await;
    keep(&client, READ).await;
    let mut raw = bed.raw();
    warm(&bed, &mut raw, &[ONE, TWO, READ]);
    // What is given is known by what was changed meanwhile, behind everybody's back.
    bed.behind("UPDATE kv SET v = 'behind' WHERE id < 3");
    let free = "SELECT 'free'";
    let all = [ask(free), ask(ONE), ask(TWO), ask(free), ask(ONE), ask(free)];
    let (frames, hits) = pipe(&bed, &mut raw, &all);
    assert_eq!(
        (values(&frames), hits),
        (["free", "a", "a", "free", "a", "free"].map(String::from).to_vec(), 3)
    );
    assert_eq!(kinds(&frames), format!("{}Z", "12TDC".repeat(6)));
    // First and last, without a server at all, and by Flush: the answer comes before the Sync.
    let (frames, hits) = pipe(&bed, &mut raw, &[ask(ONE), ask(TWO)]);
    assert_eq!((kinds(&frames).as_str(), hits), ("12TDC12TDCZ", 2));
    raw.send([ask(free), flush(), ask(ONE), flush()].concat());
    let frames = [raw.until(b'C'), raw.until(b'C')].concat();
    assert_eq!(values(&frames), ["free", "a"]);
    let (frames, hits) = pipe(&bed, &mut raw, &[ask(TWO), ask(free)]);
    assert_eq!((values(&frames), hits), (vec!["a".to_string(), "free".into()], 1));
    // A statement that is prepared in the same pipeline, and used again after others were given.
    let named =
        [parse("p", "SELECT v FROM kv WHERE id = $1"), bind("", "p", &["3"]), execute("", 0)].concat();
    let again = [bind("", "p", &["3"]), execute("", 0)].concat();
    let (frames, _) = pipe(&bed, &mut raw, &[named, ask(ONE), again.clone()]);
    assert_eq!((values(&frames), kinds(&frames).as_str()), (vec!["a".to_string(); 3], "12DC12TDC2DCZ"));
    let (frames, hits) = pipe(&bed, &mut raw, &[ask(free), again.clone(), again.clone()]);
    assert_eq!((values(&frames), hits), (["free", "a", "a"].map(String::from).to_vec(), 2));
    // The unnamed statement is the one that was given last.
    let unnamed = [bind("", "", &[]), execute("", 0)].concat();
    let (frames, _) = pipe(&bed, &mut raw, &[ask(free), ask(ONE), unnamed]);
    assert_eq!(values(&frames), ["free", "a", "a"]);
    // More than there is room for at once.
    let many: Vec<Vec<u8>> = (0..300).flat_map(|_| [ask(ONE), ask(free), ask(READ)]).collect();
    let (frames, hits) = pipe(&bed, &mut raw, &many);
    let (want, got) = (["a", "free", "1", "2", "3"].repeat(300), values(&frames));
    assert!(got == want && hits == 600, "{hits}");
    // Its portal is used up.
    let (frames, _) = pipe(&bed, &mut raw, &[ask(ONE), execute("", 0)]);
    assert_eq!(kinds(&frames), "12TDCCZ");
    assert_eq!(frames[5].body, b"SELECT 0\0");
    let (frames, _) = pipe(&bed, &mut raw, &[ask(free), ask(ONE), parse("", free), execute("", 0)]);
    assert_eq!(kinds(&frames), "12TDC12TDC1EZ");
    assert_eq!(frames[11].field(b'C'), "34000");
    // In pieces of any size: it is all the same.
    let (bytes, want) = ([ask(free), ask(ONE), ask(TWO), sync()].concat(), "12TDC12TDC12TDCZ");
    for n in [3, 17, 31, 64] {
        for piece in bytes.chunks(n) {
            raw.send(piece);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(kinds(&raw.until_ready(1)), want, "pieces of {n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_before_it_in_a_pipeline_counts() {
    let (bed, client) = Bed::new(EXACT).await;
    keep(&client, READ).await;
    let mut raw = bed.raw();
    warm(&bed, &mut raw, &[ONE, TWO]);
    let three = |values: [&str; 3]| values.map(String::from).to_vec();
    for write in [
        "UPDATE kv SET v = v || 'u' WHERE id = 1 RETURNING v",
        "UPDATE other SET id = id RETURNING id",
        "SELECT set_config('search_path', 'pg_catalog, public', true)",
        "SELECT v FROM kv WHERE id = 1 FOR UPDATE",
    ] {
        warm(&bed, &mut raw, &[ONE]);
        let now = bed.db.psql(ONE);
        let (frames, hits) = pipe(&bed, &mut raw, &[ask(ONE), ask(write), ask(ONE)]);
        let (got, written) = (values(&frames), write.starts_with("UPDATE kv"));
        assert_eq!(hits, 1, "{write}");
        assert_eq!(
            (&got[0], &got[2]),
            (&now, &if written { format!("{now}u") } else { now.clone() }),
            "{write}"
        );
    }
    warm(&bed, &mut raw, &[ONE, TWO]);
    // An error skips what follows it, up to the Sync.
    let fails = [parse("", "SELECT 1 / (id - id) FROM other"), bind("", "", &[]), execute("", 0)].concat();
    let (frames, _) = pipe(&bed, &mut raw, &[fails.clone(), ask(ONE), ask(TWO)]);
    assert_eq!(kinds(&frames), "12EZ");
    let (frames, hits) = pipe(&bed, &mut raw, &[ask(ONE), fails.clone(), ask(TWO)]);
    assert_eq!((kinds(&frames).as_str(), hits), ("12TDC12EZ", 1));
    let unknown = [parse("", "SELECT nothing"), bind("", "", &[]), execute("", 0)].concat();
    let (frames, _) = pipe(&bed, &mut raw, &[ask(ONE), unknown, ask(TWO)]);
    assert_eq!(kinds(&frames), "12TDCEZ");
    // What is written after it in the same pipeline does not undo it, and is seen from then on.
    let (frames, hits) =
        pipe(&bed, &mut raw, &[ask(ONE), ask("UPDATE kv SET v = 'z' WHERE id = 1 RETURNING v"), fails]);
    assert_eq!((kinds(&frames).as_str(), hits), ("12TDC12TDC12EZ", 1));
    let (frames, _) = pipe(&bed, &mut raw, &[ask(ONE), ask(TWO), ask(ONE)]);
    let now = bed.db.psql(ONE);
    assert_eq!(values(&frames), three([&now, "a", &now]));
    assert_ne!(now, "z");
    // Under REPEATABLE READ what is between two Syncs has one snapshot: what was kept may be of a later one.
    let mut raw = bed.raw();
    raw.query("SET default_transaction_isolation = 'repeatable read'");
    let free = ask("SELECT 'free'");
    for _ in 0..3 {
        assert_eq!(pipe(&bed, &mut raw, &[free.clone(), ask(ONE), ask(TWO)]).1, 0);
    }
    warm(&bed, &mut raw, &[ONE]);
}

/// A statement by a simple Query, or by the extended protocol with its Sync.
fn whole(sql: &str, simple: bool) -> Vec<u8> {
    if simple { query(sql) } else { [ask(sql), sync()].concat() }
}

#[tokio::test(flavor = "multi_thread")]
async fn within_transactions_that_read() {
    let (bed, client) = Bed::new(EXACT).await;
    keep(&client, READ).await;
    // What transactions are when nobody says so is known as well.
    warm(&bed, &mut bed.raw(), &[ONE, TWO]);
    within(&bed, true);
    within(&bed, false);
    // What is read there is kept for others, and is what they would have been answered.
    let mut raw = bed.raw();
    raw.query("BEGIN");
    let fresh = "SELECT v FROM kv WHERE id = 7";
    raw.query(fresh);
    assert!(said(&client, fresh).await.starts_with("hit"));
    raw.query("COMMIT");
}

/// Transactions by one form of the protocol.
fn within(bed: &Bed, simple: bool) {
    let mut raw = bed.raw();
    let run = |raw: &mut Raw, sql: &str| {
        let before = bed.hits();
        raw.send(whole(sql, simple));
        let frames = raw.until_ready(1);
        (values(&frames), frames.last().map(|f| f.body[0]).expect("ready"), bed.hits() - before)
    };
    let one = |value: &str| vec![value.to_string()];
    let deadline = Instant::now() + Duration::from_secs(60);
    while run(&mut raw, ONE).2 == 0 {
        assert!(Instant::now() < deadline, "it is not kept");
        std::thread::sleep(Duration::from_millis(20));
    }
    let now = bed.db.psql(ONE);
    for begin in ["BEGIN", "START TRANSACTION READ ONLY", "BEGIN ISOLATION LEVEL READ COMMITTED"] {
        let before = bed.hits();
        let all = [begin, "SELECT 'free'", ONE, "SELECT count(*) FROM kv, other", ONE, "COMMIT", ONE];
        let mut told = String::new();
        for sql in all {
            raw.send(whole(sql, simple));
            let frames = raw.until_ready(1);
            told.extend(frames.last().map(|f| char::from(f.body[0])));
            if sql == ONE {
                assert_eq!(values(&frames), one(&now), "{begin}");
            }
        }
        assert_eq!(told, "TTTTTII", "{begin}");
        assert!(bed.hits() >= before + 3, "{begin}");
    }
    for begin in [
        "BEGIN ISOLATION LEVEL REPEATABLE READ",
        "BEGIN ISOLATION LEVEL SERIALIZABLE",
        "BEGIN; SELECT 1",
        "BEGIN; SAVEPOINT a",
        "BEGIN; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "BEGIN; UPDATE other SET id = id",
        "BEGIN; SELECT id FROM other FOR SHARE",
        "BEGIN; SET LOCAL search_path = public",
        "BEGIN; CREATE TEMP TABLE x (n int) ON COMMIT DROP",
        "BEGIN; LOCK TABLE other",
        "BEGIN; DECLARE c CURSOR FOR SELECT 1",
    ] {
        // One by one, but for what begins as a string of several.
        let parts: Vec<&str> =
            if begin.ends_with("SELECT 1") { vec![begin] } else { begin.split("; ").collect() };
        for part in parts {
            raw.query(part);
        }
        for _ in 0..2 {
            assert_eq!(run(&mut raw, ONE), (one(&now), b'T', 0), "{begin}");
        }
        assert_eq!(run(&mut raw, "ROLLBACK").1, b'I', "{begin}");
        raw.query("SELECT 1");
        let deadline = Instant::now() + Duration::from_secs(60);
        while run(&mut raw, ONE).2 == 0 {
            assert!(Instant::now() < deadline, "after {begin} it is not given");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    // A transaction that has failed is one.
    raw.query("BEGIN");
    assert_eq!(run(&mut raw, ONE), (one(&now), b'T', 1));
    raw.query("SELECT nothing");
    raw.send(whole(ONE, simple));
    let frames = raw.until_ready(1);
    let error = frames.iter().find(|f| f.kind == b'E').expect("an error");
    assert_eq!((error.field(b'C').as_str(), frames.last().map(|f| f.body[0])), ("25P02", Some(b'E')));
    raw.query("ROLLBACK");
    // What another has committed is seen by the next statement.
    raw.query("BEGIN");
    assert_eq!(run(&mut raw, ONE), (one(&now), b'T', 1));
    let mut other = bed.raw();
    other.query(&format!("UPDATE kv SET v = '{now}x' WHERE id = 1"));
    assert_eq!(run(&mut raw, ONE), (one(&format!("{now}x")), b'T', 0));
    raw.query("COMMIT");
}

/// The unnamed portal lasts until the next one is bound, in a transaction: what a server has under that name is not what
/// the client has bound last.
#[tokio::test(flavor = "multi_thread")]
async fn a_portal_that_was_given_is_not_another() {
    let (bed, client) = Bed::new(EXACT).await;
    keep(&client, READ).await;
    let mut raw = bed.raw();
    warm(&bed, &mut raw, &[ONE, TWO]);
    raw.query("BEGIN");
    let some =
        [parse("", "SELECT generate_series(1, 9)"), bind("", "", &[]), execute("", 2), sync()].concat();
    raw.send(&some);
    assert_eq!(kinds(&raw.until_ready(1)), "12DDsZ");
    raw.send([ask(ONE), sync()].concat());
    assert_eq!(kinds(&raw.until_ready(1)), "12TDCZ");
    raw.send([execute("", 2), sync()].concat());
    let frames = raw.until_ready(1);
    assert_eq!((kinds(&frames).as_str(), frames[0].field(b'C')), ("EZ", "34000".to_string()));
    raw.query("ROLLBACK");
    // One with a name is a server's, whatever is given in between.
    raw.query("BEGIN");
    let named =
        [parse("", "SELECT generate_series(1, 9)"), bind("c", "", &[]), execute("c", 2), sync()].concat();
    raw.send(&named);
    raw.until_ready(1);
    raw.send([ask(ONE), execute("c", 3), sync()].concat());
    let frames = raw.until_ready(1);
    assert_eq!((kinds(&frames).as_str(), values(&frames)[1].as_str()), ("12TDCDDDsZ", "3"));
    raw.query("COMMIT");
}

/// On a cluster, BEGIN is answered before any server knows of the transaction.
#[tokio::test(flavor = "multi_thread")]
async fn within_transactions_that_no_server_knows_of() {
    let db = Db::new();
    let options = ProxyOptions {
        general: "cache_memory = \"32MiB\"".into(),
        database: "writers = \"proxy\"".into(),
        extra: format!("[[cluster]]\nname = \"main\"\nbackends = [\"primary\"]\n{EXACT}"),
        ..Default::default()
    };
    let proxy =
        Proxy::edited(&db, &options, |toml| toml.replace("backend = \"primary\"\n", "cluster = \"main\"\n"));
    let client = pg(&proxy.url(&db)).await;
    client.batch_execute(TABLES).await.expect("made");
    let bed = Bed { db, proxy };
    keep(&client, ONE).await;
    let mut raw = bed.raw();
    warm(&bed, &mut raw, &[ONE, TWO]);
    let end = |frames: &[Frame]| frames.last().map(|f| f.body[0]);
    for (begin, given) in [("BEGIN", true), ("BEGIN ISOLATION LEVEL REPEATABLE READ", false)] {
        let before = bed.hits();
        for commit in ["COMMIT", "ROLLBACK"] {
            assert_eq!(end(&raw.query(begin)), Some(b'T'));
            let frames = raw.query(ONE);
            assert_eq!((values(&frames), end(&frames)), (vec!["a".to_string()], Some(b'T')), "{begin}");
            // Some of it is a server's.
            if commit == "ROLLBACK" {
                assert_eq!(values(&raw.query("SELECT 'free'")), ["free"]);
                assert_eq!(values(&raw.query(ONE)), ["a"]);
                raw.query("UPDATE kv SET v = 'mine' WHERE id = 1");
                assert_eq!(values(&raw.query(ONE)), ["mine"]);
            }
            assert_eq!(end(&raw.query(commit)), Some(b'I'));
            assert_eq!(keep(&client, ONE).await, "a");
        }
        let hits = bed.hits() - before;
        assert!(if given { hits >= 3 } else { hits <= 2 }, "{begin}: {hits}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn some_rows_of_a_portal() {
    let (bed, client) = Bed::new(EXACT).await;
    keep(&client, READ).await;
    let mut raw = bed.raw();
    let some =
        |rows: u32| [parse("", READ), bind("", "", &[]), describe('P', ""), execute("", rows)].concat();
    let direct = |rows: u32| {
        let mut raw =
            Raw::login(bed.db.cluster().primary().port, &bed.db.user, &bed.db.password, &bed.db.name);
        raw.send([some(rows), sync()].concat());
        raw.until_ready(1)
    };
    warm(&bed, &mut raw, &[READ, ONE]);
    for rows in [0, 1, 2, 3, 4, 100, u32::MAX] {
        let (frames, hits) = pipe(&bed, &mut raw, &[some(rows)]);
        assert_eq!((frames, hits), (direct(rows), 1), "{rows}");
    }
    // Where there is more to be asked for, a server is: the portal is its own.
    raw.query("BEGIN");
    for (rows, given, want) in [(4, 1, "12TDDDCZ"), (3, 0, "12TDDDsZ"), (2, 0, "12TDDsZ")] {
        let (frames, hits) = pipe(&bed, &mut raw, &[some(rows)]);
        assert_eq!((kinds(&frames).as_str(), hits), (want, given), "{rows}");
    }
    raw.send([execute("", 2), sync()].concat());
    assert_eq!(kinds(&raw.until_ready(1)), "DCZ");
    raw.query("COMMIT");
    // What ran that portal was not known to do nothing but read.
    warm(&bed, &mut raw, &[READ, ONE]);
    let (frames, hits) = pipe(&bed, &mut raw, &[some(2), execute("", 2)]);
    assert_eq!((kinds(&frames).as_str(), hits), ("12TDDsDCZ", 0));
    let (frames, hits) = pipe(&bed, &mut raw, &[some(2), close('P', ""), ask("SELECT 1")]);
    assert_eq!((kinds(&frames).as_str(), hits), ("12TDDs312TDCZ", 1));
    // What was cut is not kept, and nobody waits for it.
    let fresh = "SELECT v FROM kv WHERE id > 4";
    let cut = [parse("", fresh), bind("", "", &[]), execute("", 1), sync()].concat();
    for _ in 0..3 {
        raw.send(&cut);
        assert_eq!(kinds(&raw.until_ready(1)), "12DsZ");
    }
    assert!(said(&client, fresh).await.starts_with("miss"));
    // All that there is, asked for with room to spare, is.
    let before = bed.hits();
    let all = [parse("", fresh), bind("", "", &[]), execute("", 100), sync()].concat();
    for _ in 0..2 {
        raw.send(&all);
        assert_eq!(kinds(&raw.until_ready(1)), "12DDDDDCZ");
    }
    assert_eq!(bed.hits(), before + 1);
}

/// What is on its way is copied as it passes, as far as it may be kept; who asked for it gets it at once.
#[tokio::test(flavor = "multi_thread")]
async fn results_that_are_almost_too_large() {
    let (bed, client) = Bed::new("[[cache]]\nmax_bytes = \"64KiB\"\n").await;
    keep(&client, ONE).await;
    let mut raw = bed.raw();
    let sql = |n: usize| format!("SELECT repeat(v, {n}) FROM kv WHERE id = 1");
    let size = |frames: &[Frame]| frames.iter().map(|f| f.body.len() + 5).sum::<usize>();
    let around = size(&raw.query(&sql(60_000))) - 60_000;
    for (n, kept) in [(65_536 - around, true), (65_537 - around, false)] {
        for _ in 0..2 {
            assert_eq!(size(&raw.query(&sql(n))), n + around);
        }
        assert_eq!(said(&client, &sql(n)).await.starts_with("hit"), kept, "{n}");
    }
    // Far larger: 200 MB pass, and nothing of them stays.
    let before = bed.proxy.rss();
    raw.send(query("SELECT repeat(v, 1000000) FROM kv, generate_series(1, 22)"));
    raw.expect(b'T');
    let mut most = 0;
    for row in 0..198 {
        let (kind, len) = raw.head();
        assert_eq!(kind, b'D', "{row}");
        assert!(raw.skim(len, |_| {}));
        most = most.max(bed.proxy.rss());
    }
    raw.until_ready(1);
    assert!(most < before + (6 << 20), "it grew by {} kB", (most - before) / 1024);
}

/// Notices that came with a result come with it again, where they came; what is told of one run is not kept.
#[tokio::test(flavor = "multi_thread")]
async fn notices_that_came_with_it() {
    let (bed, client) = Bed::new(EXACT).await;
    client
        .batch_execute(
            "CREATE FUNCTION once() RETURNS int LANGUAGE plpgsql IMMUTABLE AS
             'BEGIN RAISE NOTICE ''hear''; RETURN 1; END';
             CREATE FUNCTION each(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
             'BEGIN RAISE WARNING ''row %'', n; RETURN n; END'",
        )
        .await
        .expect("made");
    keep(&client, READ).await;
    let mut raw = bed.raw();
    let mut direct =
        Raw::login(bed.db.cluster().primary().port, &bed.db.user, &bed.db.password, &bed.db.name);
    let rows = |frames: Vec<Frame>| -> Vec<Frame> {
        // Where a notice of a Bind stands before it has been answered, it comes with the rows.
        frames.into_iter().filter(|f| !matches!(f.kind, b'1' | b'2' | b'T')).collect()
    };
    for sql in ["SELECT once() FROM other", "SELECT each(id) FROM kv WHERE id < 4"] {
        for simple in [true, false] {
            let told = |raw: &mut Raw| {
                raw.send(if simple { query(sql) } else { [ask(sql), sync()].concat() });
                rows(raw.until_ready(1))
            };
            let want = told(&mut direct);
            assert!(kinds(&want).contains('N'), "{want:?}");
            let (before, deadline) = (bed.hits(), Instant::now() + Duration::from_secs(60));
            while bed.hits() < before + 3 {
                assert!(Instant::now() < deadline, "{sql} is not kept");
                assert_eq!(told(&mut raw), want, "{sql}");
            }
        }
        // The first rows, with what is told of them.
        let part = [parse("", sql), bind("", "", &[]), execute("", 1), close('P', "")].concat();
        let (frames, hits) = pipe(&bed, &mut raw, &[part]);
        assert!(kinds(&frames).contains("ND") && !kinds(&frames).contains("NDND"), "{frames:?}");
        assert_eq!(hits, 1, "{sql}");
    }
    // What is about one run is told of that alone.
    raw.query("SET client_min_messages = debug5");
    let before = bed.hits();
    for _ in 0..3 {
        raw.query(READ);
    }
    assert_eq!(bed.hits(), before);
}
