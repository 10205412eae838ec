//! The words that stand for a choice in the file: read by `check`, written by `show`.

use super::discovery::Source;
use super::invalidation::Teller;
use super::redis::RedisMode;
use super::tenant::{Priority, TenantWay};
use super::{
    Balancing, CacheMode, CdnKind, Consistency, HbaMethod, HbaType, MetricKind, MetricPlace, MirrorMode,
    PoolMode, ReportAccess, ReportFormat, Role, Size, SslMode, Transactions, Writers,
};

/// A choice: its words, and what each means.
pub type Words<T> = &'static [(&'static str, T)];

/// `[log] format`: whether it is JSON.
pub const FORMATS: Words<bool> = &[("text", false), ("json", true)];

/// `[pool] mode`.
pub const MODES: Words<PoolMode> = &[("session", PoolMode::Session), ("transaction", PoolMode::Transaction)];

/// `[pool] size`, where it is no number.
pub const SIZES: Words<Size> = &[("adaptive", Size::Adaptive)];

/// `[[backend]] sslmode`.
pub const SSL_MODES: Words<SslMode> = &[
    ("disable", SslMode::Disable),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

/// `[[backend]] role`.
pub const ROLES: Words<Role> =
    &[("auto", Role::Auto), ("primary", Role::Primary), ("replica", Role::Replica)];

/// `[[cluster]] discovery`.
pub const DISCOVERIES: Words<Source> =
    &[("none", Source::Nobody), ("replication", Source::Replication), ("patroni", Source::Patroni)];

/// `[[cluster]] strategy`.
pub const STRATEGIES: Words<Balancing> = &[
    ("round_robin", Balancing::RoundRobin),
    ("random", Balancing::Random),
    ("least_connections", Balancing::LeastConnections),
    ("peak_ewma", Balancing::PeakEwma),
    ("weighted", Balancing::Weighted),
];

/// `[[cluster]] consistency`.
pub const CONSISTENCIES: Words<Consistency> = &[
    ("eventual", Consistency::Eventual),
    ("bounded", Consistency::Bounded),
    ("session", Consistency::Session),
    ("global", Consistency::Global),
];

/// `[[cluster]] transactions`.
pub const TRANSACTIONS: Words<Transactions> =
    &[("primary", Transactions::Primary), ("optimistic", Transactions::Optimistic)];

/// `[[database]] writers`.
pub const WRITERS: Words<Writers> = &[("anyone", Writers::Anyone), ("proxy", Writers::Proxy)];

/// `[[database]] invalidation`.
pub const INVALIDATIONS: Words<Teller> =
    &[("none", Teller::Nobody), ("wal", Teller::Wal), ("triggers", Teller::Triggers)];

/// `[[cache]] mode`.
pub const CACHE_MODES: Words<CacheMode> = &[
    ("exact", CacheMode::Exact),
    ("strict", CacheMode::Strict),
    ("bounded", CacheMode::Bounded),
    ("off", CacheMode::Off),
];

/// `[redis] mode`.
pub const REDIS_MODES: Words<RedisMode> =
    &[("single", RedisMode::Single), ("sentinel", RedisMode::Sentinel), ("cluster", RedisMode::Cluster)];

/// `[[metric]] type`.
pub const METRIC_KINDS: Words<MetricKind> = &[("gauge", MetricKind::Gauge), ("counter", MetricKind::Counter)];

/// `[[metric]] on`.
pub const METRIC_PLACES: Words<MetricPlace> =
    &[("replica", MetricPlace::Replica), ("primary", MetricPlace::Primary)];

/// `[[mirror]] mode`.
pub const MIRROR_MODES: Words<MirrorMode> =
    &[("reads", MirrorMode::Reads), ("sessions", MirrorMode::Sessions)];

/// `[[report]] format`.
pub const REPORT_FORMATS: Words<ReportFormat> =
    &[("json", ReportFormat::Json), ("csv", ReportFormat::Csv), ("html", ReportFormat::Html)];

/// `[[report]] access`.
pub const REPORT_ACCESS: Words<ReportAccess> =
    &[("public", ReportAccess::Public), ("signed", ReportAccess::Signed), ("token", ReportAccess::Token)];

/// `[[cdn]] kind`.
pub const CDN_KINDS: Words<CdnKind> = &[
    ("purge", CdnKind::Purge),
    ("ban", CdnKind::Ban),
    ("fastly", CdnKind::Fastly),
    ("cloudflare", CdnKind::Cloudflare),
];

/// `[tenants] by`.
pub const TENANT_WAYS: Words<TenantWay> = &[
    ("set", TenantWay::Set),
    ("startup", TenantWay::Startup),
    ("user", TenantWay::User),
    ("database", TenantWay::Database),
    ("application_name", TenantWay::ApplicationName),
    ("sni", TenantWay::Sni),
];

/// `[tenants] priority`, `SET turnpike.priority`.
pub const PRIORITIES: Words<Priority> = &[("interactive", Priority::Interactive), ("batch", Priority::Batch)];

/// `[[hba]] type`.
pub const HBA_TYPES: Words<HbaType> = &[
    ("local", HbaType::Local),
    ("host", HbaType::Host),
    ("hostssl", HbaType::HostSsl),
    ("hostnossl", HbaType::HostNoSsl),
];

/// `[[hba]] method`.
pub const METHODS: Words<HbaMethod> = &[
    ("trust", HbaMethod::Trust),
    ("reject", HbaMethod::Reject),
    ("scram-sha-256", HbaMethod::Scram),
    ("scram-sha-256-plus", HbaMethod::ScramPlus),
    ("md5", HbaMethod::Md5),
    ("password", HbaMethod::Password),
    ("cert", HbaMethod::Cert),
];

/// The word for a choice.
pub fn word<T: PartialEq>(words: Words<T>, value: &T) -> &'static str {
    words.iter().find(|(_, v)| v == value).map_or("?", |(word, _)| word)
}

/// The candidate that `text` was most likely meant to be, if any is near.
pub fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = candidates.into_iter().map(|c| (distance(text, c), c)).min_by_key(|(d, _)| *d);
    near.filter(|(d, c)| *d < text.chars().count() && *d <= (c.len() / 3).clamp(1, 3)).map(|(_, c)| c)
}

/// Edits (insert, delete, replace a character) between two short texts.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    // What is that much longer than any word is not near one, and not worth the time.
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (above, y) in row.iter_mut().skip(1).zip(&b) {
            let cost = (diagonal + usize::from(x != *y)).min(left + 1).min(*above + 1);
            diagonal = std::mem::replace(above, cost);
            left = cost;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_and_far() {
        let keys = ["size", "min", "wait_timeout", "mode"];
        for (text, want) in [
            ("sise", Some("size")),
            ("siz", Some("size")),
            ("wait_timeot", Some("wait_timeout")),
            ("wait_time", Some("wait_timeout")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(text, keys), want, "{text}");
        }
    }
}
