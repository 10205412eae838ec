//! The parts of the file that say who may come in: `[[user]]` and `[[hba]]`.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::check::{file, unique};
use super::raw::{Fault, Section, Source};
use super::words::{HBA_TYPES, METHODS, MODES};
use super::{Cidr, ClientTls, HbaMethod, HbaRule, HbaType, Secret, User};

const SECRETS: [&str; 4] = ["verifier", "password", "password_env", "password_file"];
const MANY: u32 = 1_000_000;

/// `[[user]]`
pub(super) fn users(sections: &[Section<'_>], source: &Source<'_>) -> Vec<User> {
    unique(source, sections);
    sections.iter().map(user).collect()
}

fn user(section: &Section<'_>) -> User {
    User {
        name: section.required("name"),
        secret: secret(section),
        max_connections: section.number("max_connections", 0..=MANY).unwrap_or(0),
        pool_size: section.number("pool_size", 1..=MANY),
        pool_mode: section.word("pool_mode", MODES),
    }
}

/// No message here may have a value in it, except the name of a variable or file.
fn secret(section: &Section<'_>) -> Secret {
    let mut given = SECRETS.into_iter().filter(|key| section.has(key));
    let Some(first) = given.next() else { return Secret::None };
    if let Some(second) = given.next() {
        section.report(second, format!("{first} is already given: a user has one secret"));
    }
    let text = match first {
        "verifier" => section.text(first).filter(|text| {
            let good = is_verifier(text);
            if !good {
                let fault = Fault::from("must be a verifier: SCRAM-SHA-256$... or md5...");
                section.report(first, fault.hint("SELECT rolpassword FROM pg_authid"));
            }
            good
        }),
        "password_env" => section.text(first).and_then(|name| {
            let value = std::env::var(&name).ok().filter(|value| !value.is_empty());
            if value.is_none() {
                section.report(first, format!("environment variable {name:?} is not set, or not to a text"));
            }
            value
        }),
        "password_file" => file(section, first).and_then(|path| {
            // One that cannot be opened is reported by now.
            let text = std::fs::read_to_string(&path).ok()?;
            let line = text.strip_suffix('\n').unwrap_or(&text);
            let line = line.strip_suffix('\r').unwrap_or(line);
            if line.is_empty() || line.contains('\0') {
                section.report(first, format!("{} has no password in it", path.display()));
            }
            Some(line.to_string())
        }),
        _ => section.text(first),
    };
    text.map_or(Secret::None, |text| Secret::stored(&text))
}

/// `md5` and 32 hexadecimal digits, or `SCRAM-SHA-256$iterations:salt$stored:server`, as in pg_authid.
fn is_verifier(text: &str) -> bool {
    if let Some(digits) = text.strip_prefix("md5") {
        return digits.len() == 32 && digits.chars().all(|c| c.is_ascii_hexdigit());
    }
    let scram = || {
        let (head, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let length = |text: &str| STANDARD.decode(text).map_or(0, |bytes| bytes.len());
        let counted = iterations.parse::<u32>().is_ok_and(|n| n > 0);
        Some(counted && length(salt) > 0 && length(stored) == 32 && length(server) == 32)
    };
    scram().unwrap_or(false)
}

/// `[[hba]]`. A file without any lets nobody in: who may come is never a default.
pub(super) fn hba(sections: &[Section<'_>], tls: Option<&ClientTls>) -> Vec<HbaRule> {
    sections.iter().map(|section| rule(section, tls)).collect()
}

fn rule(section: &Section<'_>, tls: Option<&ClientTls>) -> HbaRule {
    for key in ["type", "database", "user", "method"].into_iter().filter(|key| !section.has(key)) {
        section.report(key, "is missing");
    }
    let kind = section.word("type", HBA_TYPES);
    // What is unknown is reported, and only has to be something that causes no further report.
    let method = section.word("method", METHODS).unwrap_or(HbaMethod::Reject);
    if kind == Some(HbaType::Local) && section.has("address") {
        section.report("address", "a rule of type local is about no address");
    }
    for key in ["database", "user", "address"].into_iter().filter(|key| section.count(key) == Some(0)) {
        section.report(key, "must not be empty");
    }
    method_fits(section, kind, method, tls);
    HbaRule {
        kind: kind.unwrap_or(HbaType::Host),
        databases: section.texts("database").unwrap_or_default(),
        users: section.texts("user").unwrap_or_default(),
        addresses: section.parsed("address", cidr).unwrap_or_default(),
        method,
    }
}

fn method_fits(section: &Section<'_>, kind: Option<HbaType>, method: HbaMethod, tls: Option<&ClientTls>) {
    let needs_tls = matches!(method, HbaMethod::ScramPlus | HbaMethod::Password | HbaMethod::Cert);
    if kind == Some(HbaType::HostSsl) && tls.is_none() {
        section.report(
            "type",
            Fault::from("hostssl never matches without [tls]").hint("set tls.cert and tls.key"),
        );
    }
    match (kind, method) {
        _ if !needs_tls => {}
        (Some(HbaType::Local | HbaType::HostNoSsl), _) => {
            section.report("method", "needs TLS, which connections of this type do not have");
        }
        _ if tls.is_none() => {
            section.report("method", Fault::from("needs [tls]").hint("set tls.cert and tls.key"));
        }
        (_, HbaMethod::Cert) if tls.is_some_and(|tls| tls.client_ca.is_none()) => {
            section.report(
                "method",
                Fault::from("needs tls.client_ca").hint("it says whose certificates count"),
            );
        }
        _ => {}
    }
}

/// `10.0.0.0/8`, `::1/128`, or an address alone.
fn cidr(text: &str) -> Result<Cidr, Fault> {
    let parse = || {
        let (addr, bits) = text.split_once('/').map_or((text, None), |(addr, bits)| (addr, Some(bits)));
        let addr: IpAddr = addr.parse().ok()?;
        let width = if addr.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(width), |bits| bits.parse().ok())?;
        (bits <= width).then_some(Cidr { addr, bits })
    };
    parse().ok_or_else(|| {
        let fault = Fault::from(format!("{text:?} is not a network such as 10.0.0.0/8 or ::1/128"));
        if text == "all" { fault.hint("leave address out for all") } else { fault }
    })
}
