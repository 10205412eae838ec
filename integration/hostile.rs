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
