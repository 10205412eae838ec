//! Where a server is: a host and a port, as they come from elsewhere.

use std::fmt;
use std::net::IpAddr;

use crate::config::Backend;

/// Longest name of a host (RFC 1035, section 2.3.4).
const LONGEST: usize = 253;

/// A host, or a socket directory, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(crate) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = !self.host.contains(':');
        if bare {
            write!(f, "{}:{}", self.host, self.port)
        } else {
            write!(f, "[{}]:{}", self.host, self.port)
        }
    }
}

impl Place {
    pub(super) fn of(backend: &Backend) -> Place {
        Place { host: backend.host.clone(), port: backend.port }
    }

    /// A host that may be connected to by its name or address. Paths are not: whoever tells of them knows nothing of
    /// this machine's.
    pub(super) fn new(host: &str, port: u16) -> Option<Place> {
        let named = |host: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            !host.is_empty()
                && host.len() <= LONGEST
                && host.bytes().all(plain)
                && !host.starts_with(['-', '.'])
        };
        let fine = port > 0 && (host.parse::<IpAddr>().is_ok() || named(host));
        fine.then(|| Place { host: host.to_string(), port })
    }

    /// `host:port`, `10.0.0.7:5432` or `[::1]:5432`.
    pub(super) fn parse(text: &str) -> Option<Place> {
        let (host, port) = text.rsplit_once(':')?;
        let port = Some(port).filter(|p| p.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
        match host.strip_prefix('[') {
            Some(host) => {
                let host = host
                    .strip_suffix(']')
                    .filter(|host| host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()))?;
                Place::new(host, port)
            }
            None if host.contains(':') => None,
            None => Place::new(host, port),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_a_place() {
        for (text, host, port) in [
            ("db1:5432", "db1", 5432),
            ("db-1.example.org:1", "db-1.example.org", 1),
            ("10.0.0.7:65535", "10.0.0.7", 65535),
            ("[::1]:5432", "::1", 5432),
        ] {
            let place = Place::parse(text).expect(text);
            assert_eq!((place.host.as_str(), place.port), (host, port));
            assert_eq!(place.to_string(), text);
        }
        for text in [
            "",
            ":",
            "db1",
            "db1:",
            ":5432",
            "db1:0",
            "db1:65536",
            "db1:+1",
            "::1:5432",
            "[db1]:5432",
            "[10.0.0.1]:1",
            "/tmp:5432",
            "a b:1",
            "-x:1",
            "db1:5432 ",
            "x/../y:1",
            "[::1:1",
        ] {
            assert_eq!(Place::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in ".{0,80}") {
            if let Some(place) = Place::parse(&text) {
                prop_assert_eq!(Place::parse(&place.to_string()), Some(place.clone()));
                prop_assert!(!place.host.starts_with('/') && place.port > 0);
            }
        }
    }
}
