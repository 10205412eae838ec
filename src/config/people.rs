//! The parts of the file that say who may come in: `[[user]]` and `[[hba]]`.

use std::net::IpAddr;

use super::check::{own_patience, size, unique, unknown};
use super::raw::{Fault, Section, Source};
use super::secret::secret;
use super::words::{HBA_TYPES, METHODS, MODES};
use super::{Cidr, ClientTls, HbaMethod, HbaRule, HbaType, Secret, User};

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
        pool_size: size(section, "pool_size"),
        pool_mode: section.word("pool_mode", MODES),
        max_clients: section.number("max_clients", 0..=MANY).unwrap_or(0),
        patience: own_patience(section),
    }
}

/// A `[[user]]` that can log in on a backend by itself, whoever its clients are.
pub(super) fn own_login(section: &Section<'_>, key: &str, users: &[User]) -> Option<String> {
    let name = section.text(key)?;
    match users.iter().find(|user| user.name == name) {
        None => {
            let known = users.iter().map(|user| user.name.as_str());
            section.report(key, unknown("[[user]]", &name, known));
        }
        Some(User { secret: Secret::Password(_) | Secret::Md5(_), .. }) => {}
        Some(_) => {
            let fault = Fault::from(format!("[[user]] {name:?} has no password to log in with"));
            let hint = "set its password_env or password_file; a SCRAM verifier proves nothing to a backend";
            section.report(key, fault.hint(hint));
        }
    }
    Some(name)
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
        databases: section.parsed("database", database_word).unwrap_or_default(),
        users: section.parsed("user", user_word).unwrap_or_default(),
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

/// A database of a rule. What pg_hba.conf can say and we cannot must not pass for a name: a rule that rejects
/// would then let in whom it was meant to keep out.
fn database_word(text: &str) -> Result<String, Fault> {
    let unknown = matches!(text, "samerole" | "samegroup") || text.starts_with(['/', '@']);
    let fault = || Fault::from(format!("{text:?} is not supported here"));
    if unknown { Err(fault().hint("give names, all, sameuser or replication")) } else { Ok(text.to_string()) }
}

/// A user of a rule; groups are for the server to know.
fn user_word(text: &str) -> Result<String, Fault> {
    let fault = || Fault::from(format!("{text:?} is not supported here"));
    if text.starts_with(['+', '/', '@']) {
        return Err(fault().hint("give names of users, or all"));
    }
    Ok(text.to_string())
}

/// `10.0.0.0/8`, `::1/128`, or an address alone.
pub(super) fn cidr(text: &str) -> Result<Cidr, Fault> {
    let parse = || {
        let (addr, bits) = text.split_once('/').map_or((text, None), |(addr, bits)| (addr, Some(bits)));
        let addr: IpAddr = addr.parse().ok()?;
        let width = if addr.is_ipv4() { 32 } else { 128 };
        let digits = |bits: &str| bits.chars().all(|c| c.is_ascii_digit()).then(|| bits.parse().ok())?;
        let bits = bits.map_or(Some(width), digits)?;
        (bits <= width).then(|| Cidr { addr, bits }.canonical())
    };
    parse().ok_or_else(|| {
        let fault = Fault::from(format!("{text:?} is not a network such as 10.0.0.0/8 or ::1/128"));
        if text == "all" { fault.hint("leave address out for all") } else { fault }
    })
}
