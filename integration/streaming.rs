//! Much data and slow peers: memory stays bounded (invariant 7), and nobody waits for somebody else's reader.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::raw::{Raw, bind, describe, execute, msg, parse, query, sync};
use crate::harness::{Db, Proxy, ProxyOptions};

const MB: usize = 1 << 20;
/// What the proxy may grow by, whatever goes through it.
const SLACK: u64 = 4 << 20;

struct Bed {
    db: Db,
    proxy: Proxy,
}

impl Bed {
    fn new() -> Bed {
        let db = Db::new();
        // Whose end comes while it still sends does not hear why: the log tells.
        let extra = "[log]\nlevel = \"debug\"\n".into();
        let proxy = Proxy::start(&db, ProxyOptions { pool: "size = 4".into(), extra, ..Default::default() });
        // What the first statements cost is not the matter.
        for _ in 0..3 {
            let mut raw = proxy.raw(&db);
            assert_eq!(raw.value("SELECT 1"), "1");
            raw.query("SELECT repeat('x', 1000000)");
        }
        Bed { db, proxy }
    }

    fn raw(&self) -> Raw {
        self.proxy.raw(&self.db)
    }

    /// Runs `work`, watching the proxy's memory meanwhile.
    #[track_caller]
    fn bounded<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let before = self.proxy.rss();
        let (peak, over) = (AtomicU64::new(0), AtomicBool::new(false));
        let out = thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    peak.fetch_max(self.proxy.rss(), SeqCst);
                    thread::sleep(Duration::from_millis(10));
                }
            });
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            over.store(true, SeqCst);
            done
        });
        let out = out.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let grown = peak.load(SeqCst).saturating_sub(before);
        assert!(grown < SLACK, "the proxy grew by {} kB", grown / 1024);
        out
    }
}

/// Slow at first, then as fast as it goes.
fn slowly(so_far: usize) {
    if so_far < 3 * MB {
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_row_of_200_megabytes() {
    let bed = Bed::new();
    let mut raw = bed.raw();
    bed.bounded(|| {
        raw.send(query(&format!("SELECT repeat('x', {})", 200 * MB)));
        raw.expect(b'T');
        let (kind, len) = raw.head();
        assert_eq!((kind, len), (b'D', 200 * MB + 6));
        assert!(raw.skim(len, slowly));
        raw.expect(b'C');
        raw.expect(b'Z');
    });
    assert_eq!(raw.value("SELECT 1"), "1");
}

#[test]
fn a_large_copy_out_to_a_slow_reader() {
    let bed = Bed::new();
    let mut raw = bed.raw();
    bed.bounded(|| {
        raw.send(query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 60000)) TO STDOUT"));
        raw.expect(b'H');
        for row in 0..60_000 {
            let (kind, len) = raw.head();
            assert_eq!((kind, len), (b'd', 1001));
            raw.skim(len, |_| {});
            if row < 300 {
                thread::sleep(Duration::from_millis(2));
            }
        }
        assert_eq!(raw.until_ready(1).len(), 3);
    });
}

#[test]
fn a_large_copy_in() {
    let bed = Bed::new();
    let mut raw = bed.raw();
    raw.query("CREATE TEMP TABLE c (t text)");
    bed.bounded(|| {
        raw.send(query("COPY c FROM STDIN WHERE false"));
        raw.expect(b'G');
        let row = format!("{}\n", "y".repeat(999));
        let piece = msg(b'd', row.repeat(1000));
        for _ in 0..100 {
            raw.send(&piece);
        }
        // And as one message.
        raw.send(msg(b'd', row.repeat(60_000)));
        raw.send(msg(b'c', b""));
        let frames = raw.until_ready(1);
        assert_eq!(frames[0].body, b"COPY 0\0", "{frames:?}");
    });
}

#[test]
fn statements_and_values_of_many_megabytes() {
    let bed = Bed::new();
    let mut raw = bed.raw();
    let big = "z".repeat(50 * MB);
    bed.bounded(|| {
        assert_eq!(raw.value(&format!("SELECT length('{big}')")), big.len().to_string());
        let batch = [parse("", "SELECT length($1)"), bind("", "", &[&big]), execute("", 0), sync()];
        raw.send(batch.concat());
        let frames = raw.until_ready(1);
        assert_eq!(frames[2].column(), big.len().to_string());
        let batch = [
            parse("long", &format!("SELECT length('{big}')")),
            bind("", "long", &[]),
            execute("", 0),
            sync(),
        ];
        raw.send(batch.concat());
        let frames = raw.until_ready(1);
        assert_eq!(frames[2].column(), big.len().to_string());
    });
}

/// Sends everything before reading anything back would deadlock with Postgres itself: so the reader starts late and
/// slow, when all buffers on the way are full in both directions.
#[test]
fn a_pipeline_of_100_megabytes_both_ways() {
    let bed = Bed::new();
    let mut raw = bed.raw();
    let mut writer = raw.writer();
    let value = "v".repeat(MB);
    let batch = [bind("", "echo", &[&value]), describe('P', ""), execute("", 0), sync()].concat();
    raw.send([parse("echo", "SELECT $1::text"), sync()].concat());
    raw.until_ready(1);
    bed.bounded(|| {
        thread::scope(|scope| {
            scope.spawn(|| (0..100).for_each(|_| writer.write_all(&batch).expect("the proxy reads on")));
            thread::sleep(Duration::from_millis(300));
            for _ in 0..100 {
                raw.expect(b'2');
                raw.expect(b'T');
                let (kind, len) = raw.head();
                assert_eq!((kind, len), (b'D', MB + 6));
                raw.skim(len, |_| {});
                raw.expect(b'C');
                raw.expect(b'Z');
            }
        });
    });
}

#[test]
fn a_pipeline_of_many_small_statements() {
    let bed = Bed::new();
    let mut raw = bed.raw();
    let mut writer = raw.writer();
    const STATEMENTS: usize = 30_000;
    let text = "SELECT 'a row to fill buffers with'";
    let batch = [parse("", text), bind("", "", &[]), execute("", 0), sync()].concat().repeat(100);
    bed.bounded(|| {
        thread::scope(|scope| {
            scope.spawn(|| {
                (0..STATEMENTS / 100).for_each(|_| writer.write_all(&batch).expect("the proxy reads on"));
            });
            thread::sleep(Duration::from_millis(300));
            for _ in 0..STATEMENTS {
                let kinds = [b'1', b'2', b'D', b'C', b'Z'];
                kinds.iter().for_each(|&kind| drop(raw.expect(kind)));
            }
        });
    });
}

#[test]
fn a_client_that_does_not_read_stops_nobody_else() {
    let bed = Bed::new();
    let mut stuck: Vec<Raw> = (0..3).map(|_| bed.raw()).collect();
    bed.bounded(|| {
        for raw in &mut stuck {
            raw.send(query(&format!("SELECT repeat('x', {})", 20 * MB)));
        }
        thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        let mut lively = bed.raw();
        (0..300).for_each(|_| assert_eq!(lively.value("SELECT 1"), "1"));
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    });
    for raw in &mut stuck {
        raw.expect(b'T');
        let (_, len) = raw.head();
        assert!(raw.skim(len, |_| {}));
        raw.expect(b'C');
        raw.expect(b'Z');
    }
}
