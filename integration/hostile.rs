//! What no decent client or server sends. Each gets a FATAL error with the right SQLSTATE or a closed socket, never a
//! hang, and the next client is served.

use std::thread;
use std::time::{Duration, Instant};

use crate::harness::raw::{
    self, Fake, Frame, Raw, bind, data_row, error, execute, gss_request, msg, packet, parse, query, ready,
    row_description, sasl_initial, ssl_request, startup, sync,
};
use crate::harness::{Db, Proxy, ProxyOptions, TRUST};

const V3: u32 = 3 << 16;

/// What a connection that says this gets: the SQLSTATE of the FATAL error, or `closed`.
#[track_caller]
fn fate(port: u16, bytes: impl AsRef<[u8]>) -> String {
    let mut raw = Raw::connect(port);
    let _ = raw.try_send(bytes);
    verdict(&mut raw)
}

/// As [`fate`], for a connection that has said all it will.
#[track_caller]
fn verdict(raw: &mut Raw) -> String {
    let frames = raw.until_closed();
    let Some(last) = frames.last() else { return "closed".into() };
    assert_eq!(last.kind, b'E', "{frames:?}");
    assert_eq!(last.field(b'V'), "FATAL", "{last:?}");
    last.field(b'C')
}

/// A proxy that trusts everyone, and proof at the end that it is still well.
struct Bed {
    db: Db,
    proxy: Proxy,
}

impl Bed {
    fn new(general: &str) -> Bed {
        let db = Db::new();
        let options = ProxyOptions { general: general.into(), hba: TRUST.into(), ..Default::default() };
        let proxy = Proxy::start(&db, options);
        Bed { db, proxy }
    }

    #[track_caller]
    fn startup(&self, bytes: impl AsRef<[u8]>) -> String {
        fate(self.proxy.port, bytes)
    }

    #[track_caller]
    fn session(&self) -> Raw {
        self.proxy.raw(&self.db)
    }

    /// What a logged-in client gets that says this.
    #[track_caller]
    fn after_login(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut raw = self.session();
        let _ = raw.try_send(bytes);
        verdict(&mut raw)
    }

    #[track_caller]
    fn still_serves(&self) {
        assert_eq!(self.session().value("SELECT 6 * 7"), "42");
        assert!(!self.proxy.log().contains("panicked"), "something panicked");
    }
}

#[test]
fn startup_packets_that_are_none() {
    let bed = Bed::new("");
    let user = format!("user\0{}\0", bed.db.user);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "08P01"),
        ("length 0", vec![0; 16], "08P01"),
        ("length 7", b"\0\0\0\x07\0\x03\0\0".to_vec(), "08P01"),
        ("negative length", b"\xff\xff\xff\xff\0\x03\0\0".to_vec(), "08P01"),
        ("oversized length", b"\x7f\xff\xff\xff\0\x03\0\0".to_vec(), "08P01"),
        ("10 001 bytes", b"\0\0\x27\x11\0\x03\0\0".to_vec(), "08P01"),
        ("no terminator", packet(V3, user.as_bytes()), "08P01"),
        ("unterminated value", packet(V3, b"user\0somebody"), "08P01"),
        ("a name without value", packet(V3, b"user\0"), "08P01"),
        ("bytes after the terminator", packet(V3, format!("{user}\0more").as_bytes()), "08P01"),
        ("not UTF-8", packet(V3, b"user\0\xff\xfe\0\0"), "08P01"),
        ("nothing in it", packet(V3, b""), "08P01"),
        ("nobody", startup(V3, &[("database", "x")]), "28000"),
        ("protocol 2.0", packet(2 << 16, &[0; 288]), "0A000"),
        ("protocol 4.0", startup(4 << 16, &[("user", "x")]), "0A000"),
        ("protocol 1.0", packet(1 << 16, b"\0"), "0A000"),
        ("replication what", startup(V3, &[("user", "x"), ("replication", "perhaps")]), "22023"),
        ("a short cancel", packet(1234 << 16 | 5678, &[0; 7]), "08P01"),
        ("a long cancel", packet(1234 << 16 | 5678, &[0; 400]), "08P01"),
        ("a cancel of nobody", packet(1234 << 16 | 5678, &[9; 8]), "closed"),
        ("an unknown database", startup(V3, &[("user", &bed.db.user), ("database", "nowhere")]), "3D000"),
    ];
    for (what, bytes, want) in cases {
        assert_eq!(bed.startup(bytes), want, "{what}");
    }
    bed.still_serves();
}

#[test]
fn encryption_that_is_not_on_offer() {
    let bed = Bed::new("");
    let mut raw = Raw::connect(bed.proxy.port);
    raw.send(gss_request());
    assert_eq!(raw.take(1).as_deref(), Some(&b"N"[..]));
    raw.send(ssl_request());
    assert_eq!(raw.take(1).as_deref(), Some(&b"N"[..]));
    raw.send(startup(V3, &[("user", &bed.db.user), ("database", &bed.db.name)]));
    raw.authenticate(&bed.db.password);
    raw.settle_in();
    assert_eq!(raw.value("SELECT 1"), "1");
    // Each may be asked for once.
    for request in [ssl_request(), gss_request()] {
        let mut raw = Raw::connect(bed.proxy.port);
        raw.send([request.clone(), request].concat());
        assert_eq!(raw.take(1).as_deref(), Some(&b"N"[..]));
        assert_eq!(verdict(&mut raw), "08P01");
    }
    bed.still_serves();
}

#[test]
fn plaintext_sent_along_with_an_ssl_request_is_not_listened_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let made = rcgen::generate_simple_self_signed(["localhost".into()]).expect("a certificate");
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).expect("a file");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
    let db = Db::new();
    let tls = format!("[tls]\ncert = \"{}\"\nkey = \"{}\"\n", cert.display(), key.display());
    let options = ProxyOptions { hba: TRUST.into(), extra: tls, ..Default::default() };
    let proxy = Proxy::start(&db, options);
    let mut raw = Raw::connect(proxy.port);
    let hello = startup(V3, &[("user", &db.user), ("database", &db.name)]);
    raw.send([ssl_request(), hello, query("SELECT 'smuggled'")].concat());
    assert_eq!(raw.take(1).as_deref(), Some(&b"S"[..]));
    let mut rest = Vec::new();
    while let Some(byte) = raw.take(1) {
        rest.extend(byte);
    }
    // A TLS alert at most: neither an answer in the clear nor a session.
    assert!(rest.is_empty() || rest[0] == 0x15, "{}", rest.escape_ascii());
    assert_eq!(proxy.raw(&db).value("SELECT 1"), "1");
}

#[test]
fn newer_protocols_are_negotiated() {
    let bed = Bed::new("");
    let params = [("user", bed.db.user.as_str()), ("database", &bed.db.name)];
    let cases = [(0, 0, 4), (2, 2, 32), (9999, 2, 32)];
    for (minor, agreed, key) in cases {
        let mut raw = Raw::connect(bed.proxy.port);
        raw.send(startup(V3 | minor, &params));
        if agreed != minor {
            assert_eq!(raw.expect(b'v').body, [0, 3, 0, 2, 0, 0, 0, 0], "3.{minor}");
        }
        raw.authenticate(&bed.db.password);
        raw.settle_in();
        assert_eq!(raw.key.len(), 4 + key, "3.{minor}");
        assert_eq!(raw.value("SELECT 1"), "1");
    }
    let mut raw = Raw::connect(bed.proxy.port);
    raw.send(startup(V3, &[params[0], params[1], ("_pq_.teleport", "on")]));
    assert_eq!(raw.expect(b'v').body, b"\0\x03\0\0\0\0\0\x01_pq_.teleport\0");
    raw.authenticate("");
    raw.settle_in();
    bed.still_serves();
}

#[test]
fn slow_logins_are_ended() {
    let bed = Bed::new("login_timeout = \"1s\"");
    let packet = startup(V3, &[("user", &bed.db.user), ("database", &bed.db.name)]);
    let begun = Instant::now();
    let mut silent = Raw::connect(bed.proxy.port);
    let mut slow = Raw::connect(bed.proxy.port);
    for byte in packet.chunks(1) {
        if slow.try_send(byte).is_err() || begun.elapsed() > Duration::from_secs(3) {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(verdict(&mut silent), "57014");
    assert!(matches!(verdict(&mut slow).as_str(), "57014" | "closed"));
    assert!(begun.elapsed() < Duration::from_secs(5));
    bed.still_serves();
}

#[test]
fn half_a_startup_packet_and_then_nothing() {
    let bed = Bed::new("");
    let packet = startup(V3, &[("user", &bed.db.user)]);
    for cut in [1, 3, 4, 7, 8, packet.len() - 1] {
        let mut raw = Raw::connect(bed.proxy.port);
        raw.send(&packet[..cut]);
        raw.half_close();
        assert_eq!(verdict(&mut raw), "closed", "cut at {cut}");
    }
    Raw::connect(bed.proxy.port).reset();
    bed.still_serves();
}

#[test]
fn absurd_scram() {
    let db = Db::new();
    let proxy = Proxy::to(&db);
    let first = |bytes: &[u8]| {
        let mut raw = Raw::connect(proxy.port);
        raw.send(startup(V3, &[("user", &db.user), ("database", &db.name)]));
        raw.expect(b'R');
        let _ = raw.try_send(bytes);
        verdict(&mut raw)
    };
    let long = format!("n,,n=,r={}", "a".repeat(60_000));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("another message", query("SELECT 1")),
        ("length 0", b"p\0\0\0\0".to_vec()),
        ("an oversized length", b"p\x7f\xff\xff\xff".to_vec()),
        ("nothing", msg(b'p', b"")),
        ("no mechanism", sasl_initial("", b"n,,n=,r=abc")),
        ("an unknown mechanism", sasl_initial("SCRAM-SHA-1", b"n,,n=,r=abc")),
        (
            "channel binding without TLS",
            sasl_initial("SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,n=,r=abc"),
        ),
        ("a length that lies", msg(b'p', b"SCRAM-SHA-256\0\x7f\xff\xff\xffn,,n=,r=abc")),
        ("no data", msg(b'p', b"SCRAM-SHA-256\0\xff\xff\xff\xff")),
        ("no nonce", sasl_initial("SCRAM-SHA-256", b"n,,n=")),
        ("an empty nonce", sasl_initial("SCRAM-SHA-256", b"n,,n=,r=")),
        ("binary", sasl_initial("SCRAM-SHA-256", &[0xff; 64])),
        ("commas", sasl_initial("SCRAM-SHA-256", b",,,,,,,,,,,")),
        ("a mandatory extension", sasl_initial("SCRAM-SHA-256", b"n,,m=x,n=,r=abc")),
        ("an authorization identity", sasl_initial("SCRAM-SHA-256", b"n,a=admin,n=,r=abc")),
    ];
    for (what, bytes) in cases {
        let got = first(&bytes);
        assert!(matches!(got.as_str(), "08P01" | "28000" | "28P01" | "0A000"), "{what}: {got}");
    }
    // A long nonce is merely strange; what matters is that the final message is judged.
    for last in ["", "c=biws", "c=biws,r=x,p=AAAA", "c=biws,r=x,p=!!!!", "c=,r=,p=", "\0"] {
        let mut raw = Raw::connect(proxy.port);
        raw.send(startup(V3, &[("user", &db.user), ("database", &db.name)]));
        raw.expect(b'R');
        raw.send(sasl_initial("SCRAM-SHA-256", long.as_bytes()));
        if raw.frame().is_some_and(|f| f.kind == b'R') {
            raw.send(msg(b'p', last));
            let got = verdict(&mut raw);
            assert!(matches!(got.as_str(), "08P01" | "28000" | "28P01"), "{last}: {got}");
        }
    }
    assert_eq!(proxy.raw(&db).value("SELECT 1"), "1");
}

#[test]
fn messages_that_are_none() {
    let bed = Bed::new("");
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("an unknown type", msg(b'!', b""), "08P01"),
        ("type 0", vec![0; 32], "08P01"),
        ("a server's type", msg(b'Z', b"I"), "08P01"),
        ("a password out of turn", msg(b'p', b"secret\0"), "08P01"),
        ("length 0", b"Q\0\0\0\0SELECT 1\0".to_vec(), "08P01"),
        ("length 3", b"Q\0\0\0\x03".to_vec(), "08P01"),
        ("negative length", b"Q\xff\xff\xff\xff".to_vec(), "08P01"),
        ("length 2 GB", b"Q\x7f\xff\xff\xff".to_vec(), "08P01"),
        ("a Sync that is too long", b"S\x00\x10\x00\x00".to_vec(), "08P01"),
        ("Bind without terminators", [msg(b'B', b"abc"), sync()].concat(), "08P01"),
        ("Parse without terminators", [msg(b'P', b"abc"), sync()].concat(), "08P01"),
        ("Describe of nothing", [msg(b'D', b""), sync()].concat(), "08P01"),
        ("Close without terminator", [msg(b'C', b"Sabc"), sync()].concat(), "08P01"),
        ("Terminate", msg(b'X', b""), "closed"),
    ];
    for (what, bytes, want) in cases {
        assert_eq!(bed.after_login(bytes), want, "{what}");
    }
    bed.still_serves();
}

/// Broken bodies are the server's to judge; what it makes of them comes back, and the session stays in step.
#[test]
fn broken_bodies_are_answered_as_the_server_answers_them() {
    let bed = Bed::new("");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a Query without terminator", msg(b'Q', b"SELECT 1")),
        ("a Query with two", msg(b'Q', b"SELECT 1\0SELECT 2\0")),
        ("an empty Query message", msg(b'Q', b"")),
        ("a Parse that promises types", [msg(b'P', b"\0SELECT 1\0\x7f\xff"), sync()].concat()),
        ("a named Parse that promises types", [msg(b'P', b"p\0SELECT 1\0\x7f\xff"), sync()].concat()),
        ("a Parse cut short", [msg(b'P', b"\0SELECT 1"), sync()].concat()),
        ("a named Parse cut short", [msg(b'P', b"p\0SELECT 1"), sync()].concat()),
        ("a Bind that promises", [parse("", "SELECT $1"), msg(b'B', b"\0\0\0\0\x7f\xff"), sync()].concat()),
        (
            "a Bind with a lying length",
            [parse("", "SELECT $1"), msg(b'B', b"\0\0\0\0\0\x01\x7f\0\0\0a"), sync()].concat(),
        ),
        ("an Execute cut short", [msg(b'E', b"\0\0\0"), sync()].concat()),
        ("a Describe of what", [msg(b'D', b"Xabc\0"), sync()].concat()),
        ("a Close of what", [msg(b'C', b"Xabc\0"), sync()].concat()),
        ("a function call of nothing", msg(b'F', b"")),
        ("a query that is not UTF-8", msg(b'Q', b"SELECT '\xff\xfe'\0")),
    ];
    let direct = bed.db.cluster().primary().port;
    for (what, bytes) in cases {
        let ask = |port| {
            let mut raw = Raw::login(port, &bed.db.user, &bed.db.password, &bed.db.name);
            raw.send(&bytes);
            let answer = raw.until_ready(1);
            if answer.last().is_some_and(|f| f.kind == b'Z') {
                assert_eq!(raw.value("SELECT 'next'"), "next", "{what}");
            }
            answer
                .iter()
                .map(|f| (char::from(f.kind), if f.kind == b'E' { f.field(b'C') } else { String::new() }))
                .collect::<Vec<_>>()
        };
        assert_eq!(ask(bed.proxy.port), ask(direct), "{what}");
    }
    bed.still_serves();
}

#[test]
fn promises_take_no_memory() {
    let bed = Bed::new("");
    let before = bed.proxy.rss();
    let mut promising = Vec::new();
    for kind in [b'Q', b'P', b'B', b'd', b'E', b'F', b'C', b'D'] {
        let mut raw = bed.session();
        raw.send([&[kind][..], &900_000_000u32.to_be_bytes(), b"abc"].concat());
        promising.push(raw);
    }
    thread::sleep(Duration::from_millis(300));
    let grown = bed.proxy.rss().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes for nothing");
    drop(promising);
    bed.still_serves();
}

#[test]
fn frames_cut_short_by_the_end() {
    let bed = Bed::new("");
    let whole = [parse("s", "SELECT 1"), bind("", "s", &[]), execute("", 0)].concat();
    for cut in 1..whole.len() {
        let mut raw = bed.session();
        raw.send(&whole[..cut]);
        raw.half_close();
        let frames = raw.until_closed();
        assert!(!frames.iter().any(|f| f.kind == b'E'), "cut at {cut}: {frames:?}");
    }
    bed.still_serves();
}

/// A scripted server behind a proxy, and what a client of it sees.
struct Stage {
    fake: Fake,
    proxy: Proxy,
}

impl Stage {
    /// The server answers Queries by `answer`: bytes to say, and whether it stays.
    fn new(answer: impl Fn(&str) -> (Vec<u8>, bool) + Send + Sync + 'static) -> Stage {
        let fake = Fake::greeting(move |_, raw| {
            raw.serve(|sql, raw| {
                let (bytes, stays) =
                    if sql == "SELECT 'fine'" { (raw::one_row("fine"), true) } else { answer(sql) };
                raw.try_send(bytes).is_ok() && stays
            });
        });
        let proxy = Proxy::to_fake(&fake, "", "size = 1");
        Stage { fake, proxy }
    }

    fn login(&self) -> Raw {
        Raw::login(self.proxy.port, "u", "", "db")
    }

    /// One that has been served: what is true of its session is known from then on.
    fn served(&self) -> Raw {
        let mut raw = self.login();
        assert_eq!(raw.value("SELECT 'fine'"), "fine");
        raw
    }

    /// What a client hears for a statement after which it must be let go, whether it is its first or not, and the proof
    /// that the next is served.
    #[track_caller]
    fn ends(&self, sql: &str) -> Vec<Frame> {
        let [first, later] = [self.login(), self.served()].map(|mut raw| {
            raw.send(query(sql));
            let frames = raw.until_closed();
            assert_eq!(self.login().value("SELECT 'fine'"), "fine", "after {sql}");
            frames
        });
        let kinds = |frames: &[Frame]| frames.iter().map(|f| f.kind).collect::<Vec<_>>();
        assert_eq!(kinds(&first), kinds(&later), "{sql}");
        later
    }
}

fn last_code(frames: &[Frame]) -> String {
    frames.last().filter(|f| f.kind == b'E').map_or("none".into(), |f| f.field(b'C'))
}

#[test]
fn a_server_that_breaks_the_protocol_is_dropped() {
    let stage = Stage::new(|what| {
        let row = [row_description(), data_row("1")].concat();
        let bytes = match what {
            "BindComplete" => msg(b'2', b""),
            "ParseComplete" => msg(b'1', b""),
            "unknown type" => msg(b'?', b"what"),
            "a client's type" => msg(b'Q', b"SELECT 1\0"),
            "authentication" => msg(b'R', [0, 0, 0, 3]),
            "status x" => [row, msg(b'C', "SELECT 1\0"), ready('x')].concat(),
            "short length" => b"T\0\0\0\x03".to_vec(),
            "negative length" => b"D\xff\xff\xff\xff".to_vec(),
            "bytes" => b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            other => panic!("{other}"),
        };
        (bytes, true)
    });
    let cases = [
        "BindComplete",
        "ParseComplete",
        "unknown type",
        "a client's type",
        "authentication",
        "status x",
        "short length",
        "negative length",
        "bytes",
    ];
    for what in cases {
        let frames = stage.ends(what);
        assert_eq!(last_code(&frames), "08P01", "{what}: {frames:?}");
    }
}

#[test]
fn what_a_server_says_after_the_end_reaches_nobody() {
    let stage = Stage::new(|what| match what {
        "twice" => ([raw::one_row("first"), raw::one_row("stray")].concat(), true),
        _ => (raw::one_row("second"), true),
    });
    for mut raw in [stage.login(), stage.served()] {
        raw.send(query("twice"));
        // What was right arrives, whatever came after it.
        let frames = raw.until_ready(1);
        assert_eq!(frames.iter().map(|f| f.kind).collect::<Vec<_>>(), b"TDCZ", "{frames:?}");
        assert_eq!(frames[1].column(), "first");
        thread::sleep(Duration::from_millis(50));
    }
    for _ in 0..3 {
        assert_eq!(stage.login().value("once"), "second");
    }
}

/// A notice may come at any time, also together with what it has nothing to do with.
#[test]
fn what_comes_behind_ready_for_query_is_passed_on() {
    let stage = Stage::new(|_| {
        let notice = msg(b'N', b"SWARNING\0C01000\0Mby the way\0\0");
        ([raw::one_row("x"), notice].concat(), true)
    });
    for mut raw in [stage.login(), stage.served()] {
        raw.send(query("anything"));
        let frames = raw.until(b'N');
        assert_eq!(frames.iter().map(|f| f.kind).collect::<Vec<_>>(), b"TDCZN", "{frames:?}");
        assert_eq!(raw.value("SELECT 'fine'"), "fine");
    }
}

/// Answers of which a part comes later, cut anywhere.
#[test]
fn answers_in_pieces() {
    let whole = raw::one_row("in pieces");
    let fake = Fake::greeting(move |_, raw| {
        raw.serve(|sql, raw| {
            let Ok(cut) = sql.parse::<usize>() else { return raw.try_send(raw::one_row("fine")).is_ok() };
            let sent = raw.try_send(&whole[..cut]).is_ok();
            thread::sleep(Duration::from_millis(3));
            sent && raw.try_send(&whole[cut..]).is_ok()
        });
    });
    let proxy = Proxy::to_fake(&fake, "", "size = 1");
    let mut raw = Raw::login(proxy.port, "u", "", "db");
    for cut in 0..raw::one_row("in pieces").len() {
        assert_eq!(raw.value(&cut.to_string()), "in pieces", "cut at {cut}");
        assert_eq!(raw.value("SELECT 'fine'"), "fine");
    }
}

#[test]
fn errors_without_a_code_pass_as_they_are() {
    let bare = error(&[('S', "ERROR"), ('M', "oops")]);
    let empty = msg(b'E', b"\0");
    let nothing = msg(b'E', b"");
    let stage = Stage::new(move |what| {
        let error = match what {
            "bare" => &bare,
            "empty" => &empty,
            _ => &nothing,
        };
        ([error.clone(), ready('I')].concat(), true)
    });
    let mut raw = stage.login();
    for what in ["bare", "empty", "nothing"] {
        let frames = raw.query(what);
        assert_eq!(frames.iter().map(|f| f.kind).collect::<Vec<_>>(), b"EZ", "{what}");
    }
    assert_eq!(raw.value("SELECT 'fine'"), "fine");
    assert_eq!(stage.fake.visits.load(std::sync::atomic::Ordering::SeqCst), 1);
}

/// The login of the first client leaves its server connection in the pool, for the first statement.
#[test]
fn a_server_connection_at_rest_is_not_taken_for_a_dead_one() {
    let stage = Stage::new(|_| (raw::one_row("x"), true));
    for _ in 0..3 {
        assert_eq!(stage.login().value("anything"), "x");
    }
    assert_eq!(stage.fake.visits.load(std::sync::atomic::Ordering::SeqCst), 1);
}

/// A farewell in the middle of a row would be read as part of it.
#[test]
fn nothing_is_said_in_the_middle_of_a_row() {
    let half = || {
        [row_description(), msg(b'D', [b"\0\x01\0\0\x0f\0", &[b'x'; 0xf00][..]].concat())[..500].to_vec()]
            .concat()
    };
    let stage = Stage::new(move |what| (half(), what == "stall"));
    let begin = |what: &str| {
        let mut raw = stage.login();
        raw.send(query(what));
        raw.expect(b'T');
        raw.take(500).expect("half a row");
        raw
    };
    let mut raw = begin("die");
    assert_eq!(raw.take(1), None, "the server died");
    let mut raw = begin("stall");
    raw.send(msg(b'!', b""));
    assert_eq!(raw.take(1), None, "the client broke the protocol");
    assert_eq!(stage.login().value("SELECT 'fine'"), "fine");
}
