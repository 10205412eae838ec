//! Which `[[hba]]` rule applies to a connection, by pg_hba.conf's rules.

use std::net::IpAddr;

use super::{Cidr, HbaRule, HbaType};

impl HbaRule {
    /// Whether the rule is about this connection. `kind` is never [`HbaType::Host`]; `physical` says that it asks
    /// for physical replication, which only the word `replication` matches.
    pub fn matches(
        &self,
        kind: HbaType,
        addr: Option<IpAddr>,
        database: &str,
        user: &str,
        physical: bool,
    ) -> bool {
        self.kind_matches(kind)
            && (self.addresses.is_empty()
                || addr.is_some_and(|a| self.addresses.iter().any(|c| c.contains(a))))
            && self.databases.iter().any(|d| database_matches(d, database, user, physical))
            && self.users.iter().any(|u| u == "all" || u == user)
    }

    fn kind_matches(&self, kind: HbaType) -> bool {
        self.kind == kind || self.kind == HbaType::Host && kind != HbaType::Local
    }
}

fn database_matches(rule: &str, database: &str, user: &str, physical: bool) -> bool {
    match rule {
        "replication" => physical,
        _ if physical => false,
        "all" => true,
        "sameuser" => database == user,
        name => name == database,
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.addr, self.bits)
    }
}

impl Cidr {
    /// An IPv4 network that was written mapped into IPv6 (`::ffff:10.0.0.0/104`) as what it is.
    pub fn canonical(self) -> Cidr {
        match (self.addr.to_canonical(), self.bits.checked_sub(96)) {
            (addr @ IpAddr::V4(_), Some(bits)) if self.addr.is_ipv6() => Cidr { addr, bits },
            _ => self,
        }
    }

    /// Whether the network has this address. An IPv4 address may come mapped into IPv6.
    pub fn contains(&self, addr: IpAddr) -> bool {
        match (self.addr, addr.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(a)) => {
                same_prefix(net.to_bits().into(), a.to_bits().into(), self.bits, 32)
            }
            (IpAddr::V6(net), IpAddr::V6(a)) => same_prefix(net.to_bits(), a.to_bits(), self.bits, 128),
            _ => false,
        }
    }
}

fn same_prefix(a: u128, b: u128, bits: u8, width: u8) -> bool {
    let shift = u32::from(width.saturating_sub(bits));
    a.checked_shr(shift).unwrap_or(0) == b.checked_shr(shift).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::HbaMethod;

    fn rule(kind: HbaType, database: &str, user: &str, net: Option<(&str, u8)>) -> HbaRule {
        HbaRule {
            kind,
            databases: vec![database.into()],
            users: vec![user.into()],
            addresses: net.into_iter().map(|(a, bits)| Cidr { addr: a.parse().unwrap(), bits }).collect(),
            method: HbaMethod::Scram,
        }
    }

    #[test]
    fn rules() {
        let check = |rule: HbaRule, kind, addr: Option<&str>, database: &str, physical, want| {
            let addr = addr.map(|a| a.parse().unwrap());
            assert_eq!(rule.matches(kind, addr, database, "bob", physical), want, "{rule:?} {addr:?}");
        };
        use HbaType::*;
        let net = Some(("10.1.0.0", 16));
        check(rule(Host, "all", "all", net), HostSsl, Some("10.1.2.3"), "d", false, true);
        check(rule(Host, "all", "all", net), HostNoSsl, Some("::ffff:10.1.2.3"), "d", false, true);
        check(rule(Host, "all", "all", net), HostSsl, Some("10.2.2.3"), "d", false, false);
        check(rule(Host, "all", "all", Some(("::1", 128))), HostSsl, Some("::1"), "d", false, true);
        check(rule(Host, "all", "all", Some(("0.0.0.0", 0))), HostSsl, Some("1.2.3.4"), "d", false, true);
        check(rule(Host, "all", "all", None), Local, None, "d", false, false);
        check(rule(Local, "all", "all", None), Local, None, "d", false, true);
        check(rule(HostSsl, "all", "all", None), HostNoSsl, Some("1.2.3.4"), "d", false, false);
        check(rule(Host, "sameuser", "all", None), HostSsl, Some("1.2.3.4"), "bob", false, true);
        check(rule(Host, "sameuser", "all", None), HostSsl, Some("1.2.3.4"), "d", false, false);
        check(rule(Host, "all", "all", None), HostSsl, Some("1.2.3.4"), "d", true, false);
        check(rule(Host, "replication", "all", None), HostSsl, Some("1.2.3.4"), "d", true, true);
        // An IPv6 rule is not about IPv4, however the client's address is written, as with Postgres.
        check(rule(Host, "all", "all", Some(("::", 0))), HostSsl, Some("::ffff:1.2.3.4"), "d", false, false);
        check(rule(Host, "all", "all", Some(("::", 0))), HostSsl, Some("fe80::1"), "d", false, true);
        check(rule(Host, "all", "all", Some(("10.1.9.9", 16))), HostSsl, Some("10.1.2.3"), "d", false, true);
        check(rule(Host, "all", "all", net), HostSsl, None, "d", false, false);
        check(rule(HostNoSsl, "all", "all", None), HostNoSsl, Some("1.2.3.4"), "d", false, true);
        check(rule(HostNoSsl, "all", "all", None), HostSsl, Some("1.2.3.4"), "d", false, false);
        check(rule(Host, "replication", "all", None), HostSsl, Some("1.2.3.4"), "replication", false, false);
        check(rule(Host, "sameuser", "all", None), HostSsl, Some("1.2.3.4"), "bob", true, false);
        check(rule(Host, "all", "BOB", None), HostSsl, Some("1.2.3.4"), "d", false, false);
        check(rule(Host, "d", "al", None), HostSsl, Some("1.2.3.4"), "d", false, false);
    }

    #[test]
    fn mapped_networks() {
        let cidr = |addr: &str, bits| Cidr { addr: addr.parse().unwrap(), bits }.canonical();
        assert_eq!(cidr("::ffff:10.0.0.0", 104), cidr("10.0.0.0", 8));
        assert_eq!(cidr("::ffff:10.0.0.0", 95).bits, 95);
        assert_eq!(cidr("fe80::", 104).bits, 104);
    }
}
