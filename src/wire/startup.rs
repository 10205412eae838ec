//! The startup phase: packets without a type byte (protocol 3.0 and 3.2, "Start-up", "SSL Session Encryption",
//! "Canceling Requests in Progress"). Takes bytes and gives decisions; no I/O.

use crate::core::error::{Error, Result, SqlState};
use crate::core::limits::{MAX_CANCEL_KEY, MAX_STARTUP_PACKET};
use crate::wire::message::cstr;
use crate::wire::reply;

/// Newest minor version of protocol 3 that we speak.
pub const NEWEST_MINOR: u16 = 2;

const SSL: u32 = 1234 << 16 | 5679;
const GSS: u32 = 1234 << 16 | 5680;
const CANCEL: u32 = 1234 << 16 | 5678;

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// SSLRequest.
    Ssl,
    /// GSSENCRequest.
    GssEnc,
    /// CancelRequest.
    Cancel {
        /// Process id of the session whose statement is to be cancelled.
        pid: i32,
        /// Its secret: 4 bytes under 3.0, up to 256 under 3.2.
        key: Vec<u8>,
    },
    /// StartupMessage.
    Startup(Startup),
}

/// `replication` in a startup packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replication {
    /// An ordinary session.
    #[default]
    No,
    /// A physical walsender.
    Physical,
    /// A walsender connected to a database.
    Logical,
}

/// A StartupMessage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Startup {
    /// Minor version of protocol 3 that is asked for; may be larger than what exists.
    pub minor: u16,
    /// `user`
    pub user: String,
    /// `database`; the user's name where it is missing.
    pub database: String,
    /// `replication`
    pub replication: Replication,
    /// `options`
    pub options: Option<String>,
    /// Everything else, in order.
    pub settings: Vec<(String, String)>,
    /// Names beginning with `_pq_.`: protocol options, none of which we know.
    pub unknown: Vec<String>,
}

/// What a buffer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Less than a packet; `need` bytes in all are known to be necessary.
    Incomplete {
        /// Bytes.
        need: usize,
    },
    /// A packet of `len` bytes.
    Complete {
        /// What it asks for.
        request: Request,
        /// Its length.
        len: usize,
    },
}

/// Reads the packet at the start of `buf`.
///
/// # Errors
/// As Postgres: FATAL 08P01 for a broken packet, 0A000 for a protocol that is not 3.x, 28000 without a user.
pub fn parse(buf: &[u8]) -> Result<Parsed> {
    let Some(head) = buf.first_chunk::<4>() else { return Ok(Parsed::Incomplete { need: 8 }) };
    let len = u32::from_be_bytes(*head) as usize;
    if !(8..=MAX_STARTUP_PACKET).contains(&len) {
        return Err(Error::protocol("invalid length of startup packet"));
    }
    if buf.len() < len {
        return Ok(Parsed::Incomplete { need: len });
    }
    let code = u32::from_be_bytes([buf[4], buf[5], buf[6], buf[7]]);
    let request = request(code, &buf[8..len])?;
    Ok(Parsed::Complete { request, len })
}

fn request(code: u32, body: &[u8]) -> Result<Request> {
    match code {
        SSL => Ok(Request::Ssl),
        GSS => Ok(Request::GssEnc),
        CANCEL => match body.split_first_chunk::<4>() {
            Some((pid, key)) if (4..=MAX_CANCEL_KEY).contains(&key.len()) => {
                Ok(Request::Cancel { pid: i32::from_be_bytes(*pid), key: key.to_vec() })
            }
            _ => Err(Error::protocol("invalid length of query cancel packet")),
        },
        _ if code >> 16 == 3 => startup((code & 0xffff) as u16, body).map(Request::Startup),
        _ => Err(Error::fatal(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!(
                "unsupported frontend protocol {}.{}: server supports 3.0 to 3.{NEWEST_MINOR}",
                code >> 16,
                code & 0xffff
            ),
        )),
    }
}

fn startup(minor: u16, body: &[u8]) -> Result<Startup> {
    let mut out = Startup { minor, ..Startup::default() };
    let mut rest = body;
    loop {
        let (name, after) = cstr(rest).ok_or_else(layout)?;
        if name.is_empty() {
            if !after.is_empty() {
                return Err(layout());
            }
            break;
        }
        let (value, after) = cstr(after).ok_or_else(layout)?;
        out.take(utf8(name)?, utf8(value)?)?;
        rest = after;
    }
    if out.user.is_empty() {
        return Err(Error::fatal(
            SqlState::INVALID_AUTHORIZATION,
            "no PostgreSQL user name specified in startup packet",
        ));
    }
    if out.database.is_empty() {
        out.database.clone_from(&out.user);
    }
    Ok(out)
}

fn layout() -> Error {
    Error::protocol("invalid startup packet layout: expected terminator as last byte")
}

/// Postgres takes any bytes for names, but compares them with catalogs in the server's encoding; a proxy that must
/// match them with a configuration in UTF-8 cannot know what they mean.
fn utf8(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::protocol("startup packet is not valid UTF-8"))
}

impl Startup {
    fn take(&mut self, name: String, value: String) -> Result<()> {
        match name.as_str() {
            "user" => self.user = value,
            "database" => self.database = value,
            "options" => self.options = Some(value),
            "replication" => self.replication = replication(&value)?,
            _ if name.starts_with("_pq_.") => self.unknown.push(name),
            _ => self.settings.push((name, value)),
        }
        Ok(())
    }
}

fn replication(value: &str) -> Result<Replication> {
    match value.to_ascii_lowercase().as_str() {
        "database" => Ok(Replication::Logical),
        "true" | "on" | "yes" | "1" | "t" | "y" => Ok(Replication::Physical),
        "false" | "off" | "no" | "0" | "f" | "n" => Ok(Replication::No),
        _ => Err(Error::fatal(SqlState::INVALID_PARAMETER, "invalid value for parameter \"replication\"")
            .hint("Valid values are: \"false\", 0, \"true\", 1, \"database\".")),
    }
}

/// NegotiateProtocolVersion, where a client asks for more than there is.
pub fn negotiate(startup: &Startup) -> Option<Vec<u8>> {
    if startup.minor <= NEWEST_MINOR && startup.unknown.is_empty() {
        return None;
    }
    let mut out = Vec::new();
    reply::frame(&mut out, b'v', |out| {
        out.extend_from_slice(&(3u32 << 16 | u32::from(startup.minor.min(NEWEST_MINOR))).to_be_bytes());
        out.extend_from_slice(&u32::try_from(startup.unknown.len()).unwrap_or(0).to_be_bytes());
        for name in &startup.unknown {
            out.extend_from_slice(name.as_bytes());
            out.push(0);
        }
    });
    Some(out)
}

/// Splits `options` into settings: `-c name=value` and `--name=value`, white space escaped by a backslash, as
/// `pg_split_opts` does.
///
/// # Errors
/// FATAL 0A000 for any other command-line switch.
pub fn parse_options(options: &str) -> Result<Vec<(String, String)>> {
    let mut settings = Vec::new();
    let mut words = split_options(options).into_iter();
    while let Some(word) = words.next() {
        let assignment = match word.strip_prefix("-c") {
            Some("") => words.next().unwrap_or_default(),
            Some(rest) => rest.to_string(),
            None => match word.strip_prefix("--") {
                Some(rest) => rest.to_string(),
                None => return Err(unknown_switch(&word)),
            },
        };
        let Some((name, value)) = assignment.split_once('=') else {
            return Err(Error::fatal(
                SqlState::SYNTAX_ERROR,
                format!("-c {} requires a value", assignment.escape_debug()),
            ));
        };
        settings.push((name.replace('-', "_"), value.to_string()));
    }
    Ok(settings)
}

fn unknown_switch(word: &str) -> Error {
    // Only the switch itself: what follows it may be a value.
    let switch: String = word.chars().take(2).collect();
    Error::fatal(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("unsupported command-line switch \"{}\" in startup options", switch.escape_debug()),
    )
    .hint("Write settings as -c name=value.")
}

fn split_options(options: &str) -> Vec<String> {
    let (mut words, mut word, mut inside) = (Vec::new(), String::new(), false);
    let mut chars = options.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                word.extend(chars.next());
                inside = true;
            }
            c if c.is_ascii_whitespace() => {
                if std::mem::take(&mut inside) {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => {
                word.push(c);
                inside = true;
            }
        }
    }
    if inside {
        words.push(word);
    }
    words
}

fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + 8).unwrap_or(u32::MAX);
    [&len.to_be_bytes(), &code.to_be_bytes(), body].concat()
}

/// A StartupMessage of protocol 3.`minor`.
pub fn build_startup(minor: u16, params: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for text in params.iter().flat_map(|(name, value)| [name, value]) {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    packet(3 << 16 | u32::from(minor), &body)
}

/// An SSLRequest.
pub fn build_ssl_request() -> Vec<u8> {
    packet(SSL, b"")
}

/// A CancelRequest.
pub fn build_cancel(pid: i32, key: &[u8]) -> Vec<u8> {
    packet(CANCEL, &[&pid.to_be_bytes(), key].concat())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn complete(buf: &[u8]) -> Request {
        match parse(buf).unwrap() {
            Parsed::Complete { request, len } if len == buf.len() => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn packets() {
        assert_eq!(complete(&build_ssl_request()), Request::Ssl);
        assert_eq!(complete(&build_cancel(7, b"abcd")), Request::Cancel { pid: 7, key: b"abcd".to_vec() });
        let Request::Startup(s) = complete(&build_startup(
            9999,
            &[("user", "u"), ("TimeZone", "UTC"), ("_pq_.x", "1"), ("replication", "database")],
        )) else {
            panic!()
        };
        assert_eq!((s.user.as_str(), s.database.as_str(), s.minor), ("u", "u", 9999));
        assert_eq!(s.settings, [("TimeZone".to_string(), "UTC".to_string())]);
        assert_eq!(s.replication, Replication::Logical);
        assert_eq!(negotiate(&s).unwrap(), b"v\0\0\0\x13\0\x03\0\x02\0\0\0\x01_pq_.x\0");
    }

    #[test]
    fn broken_packets() {
        let check = |buf: &[u8], code: &str, text: &str| {
            let e = parse(buf).unwrap_err();
            assert_eq!(e.code.as_str(), code, "{buf:?}");
            assert!(e.message.contains(text), "{e}");
        };
        check(b"\0\0\0\x07", "08P01", "invalid length of startup packet");
        check(b"\xff\xff\xff\xff", "08P01", "invalid length of startup packet");
        check(b"GET / HTTP/1.1\r\n", "08P01", "invalid length of startup packet");
        check(&packet(2 << 16, b"\0"), "0A000", "unsupported frontend protocol 2.0");
        check(&packet(4 << 16, b"\0"), "0A000", "unsupported frontend protocol 4.0");
        check(&packet(3 << 16, b"\0"), "28000", "no PostgreSQL user name");
        check(&packet(3 << 16, b""), "08P01", "terminator");
        check(&packet(3 << 16, b"user\0a\0"), "08P01", "terminator");
        check(&packet(3 << 16, b"user\0a\0\0x"), "08P01", "terminator");
        check(&packet(3 << 16, b"user\0\xff\0\0"), "08P01", "UTF-8");
        check(&packet(CANCEL, b"1234567"), "08P01", "query cancel");
    }

    #[test]
    fn options() {
        let check = |text: &str, want: &[(&str, &str)]| {
            let got = parse_options(text).unwrap();
            let got: Vec<_> = got.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            assert_eq!(got, want, "{text}");
        };
        check("", &[]);
        check("-c a=1 -cb=2 --c-d=3", &[("a", "1"), ("b", "2"), ("c_d", "3")]);
        check(r"-c search_path=a\ b\\c", &[("search_path", r"a b\c")]);
        assert_eq!(parse_options("-F").unwrap_err().code.as_str(), "0A000");
        assert_eq!(parse_options("-c a").unwrap_err().code.as_str(), "42601");
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn what_is_built_reads_back(
            user in "[a-zé]{1,10}", pairs in prop::collection::vec(("x[a-z_]{0,8}", "[^\0]{0,12}"), 0..5), cut in 0usize..200,
        ) {
            let mut params = vec![("user", user.as_str())];
            params.extend(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())));
            let bytes = build_startup(2, &params);
            let Request::Startup(s) = complete(&bytes) else { panic!() };
            prop_assert_eq!(&s.settings, &pairs);
            let cut = cut.min(bytes.len() - 1);
            let incomplete = matches!(parse(&bytes[..cut]).unwrap(), Parsed::Incomplete { .. });
            prop_assert!(incomplete);
        }

        #[test]
        fn options_never_panic(text in "[-c=a \\\\]{0,30}") {
            let _ = parse_options(&text);
        }
    }
}
