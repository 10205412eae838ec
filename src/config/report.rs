//! `[reports]`, `[[report]]` and `[[cdn]]`: queries that are answered over HTTP, for a CDN in front of them to keep.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::check::{addr, file, unique, unknown};
use super::metric::asker;
use super::pair::pair;
use super::raw::{Fault, Section, Sections, Source};
use super::words::{CDN_KINDS, REPORT_ACCESS, REPORT_FORMATS};
use super::{ClientTls, Config, Database, Pattern, User};

/// Most of them.
const MOST: usize = 200;
/// Most parameters of one.
const MOST_PARAMS: usize = 32;
/// Most CDNs.
const MOST_CDNS: usize = 8;
const TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);
const STALE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(30 * 86_400);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(600);
/// Default of `reports.memory`, in bytes.
const MEMORY: usize = 16 << 20;
/// Default of `report.max_bytes`.
const BYTES: usize = 1 << 20;

/// What a result is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportFormat {
    /// An array of objects.
    Json,
    /// RFC 4180, as COPY writes it.
    Csv,
    /// A table.
    Html,
}

/// Who may have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportAccess {
    /// Everybody.
    Public,
    /// Whoever has a URL that was signed for it.
    Signed,
    /// Whoever has a token.
    Token,
}

/// How a CDN is told what is outdated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CdnKind {
    /// A request of method PURGE with the tags in `Surrogate-Key`.
    Purge,
    /// One of method BAN, with a regular expression of the tags.
    Ban,
    /// Fastly's API.
    Fastly,
    /// Cloudflare's API.
    Cloudflare,
}

/// One parameter: `$1` for the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name in the URL.
    pub name: String,
    /// Its type, as it is called.
    pub kind: &'static str,
    /// `pg_type.oid` of the type.
    pub oid: u32,
    /// What it is where it is not given: `Some(None)` is NULL. `None` where it must be given.
    pub default: Option<Option<String>>,
}

/// One `[[report]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Its name in the URL.
    pub name: String,
    /// The `[[database]]` that it is asked of.
    pub database: String,
    /// The `[[user]]` who asks.
    pub user: String,
    /// The query.
    pub sql: String,
    /// Its parameters, in order.
    pub params: Vec<Param>,
    /// What its result is written as.
    pub format: ReportFormat,
    /// Who may have it: any of these ways.
    pub access: Vec<ReportAccess>,
    /// Whose tokens count.
    pub tokens: Vec<Pattern>,
    /// Whether a shared cache may keep what is not public.
    pub edge: bool,
    /// How long it may be kept.
    pub ttl: Duration,
    /// How much longer it may be given while it is asked for again.
    pub stale_while_revalidate: Duration,
    /// How much longer where that fails.
    pub stale_if_error: Duration,
    /// Whether it is outdated by what is written to its tables, and not by time alone.
    pub purge: bool,
    /// Longest time for the query.
    pub timeout: Duration,
    /// Most rows.
    pub max_rows: usize,
    /// Most bytes, as it is written.
    pub max_bytes: usize,
}

impl Report {
    /// Whether everybody may have it.
    pub fn is_public(&self) -> bool {
        self.access.contains(&ReportAccess::Public)
    }
}

/// One `[[cdn]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Cdn {
    /// Its name.
    pub name: String,
    /// How it is told.
    pub kind: CdnKind,
    /// Where: of an API its base, otherwise the very URL.
    pub url: String,
    /// Fastly's service, Cloudflare's zone.
    pub service: String,
    /// Where the token of the API is.
    pub token_file: Option<PathBuf>,
    /// Who signs for it, PEM; without it the system's authorities do.
    pub ca: Option<PathBuf>,
    /// Longest time for one request.
    pub timeout: Duration,
}

/// All of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reports {
    /// Where it listens.
    pub listen: SocketAddr,
    /// TLS towards who asks; `None` when no certificate is configured.
    pub tls: Option<ClientTls>,
    /// The key that URLs are signed with.
    pub key_file: Option<PathBuf>,
    /// Tokens, by name.
    pub tokens_file: Option<PathBuf>,
    /// Most bytes of results that are kept here.
    pub memory: usize,
    /// Most queries at once.
    pub max_running: usize,
    /// The reports.
    pub list: Vec<Report>,
    /// Who is told of what is outdated.
    pub cdns: Vec<Cdn>,
}

impl Config {
    /// The `[[report]]`s.
    pub fn report_list(&self) -> &[Report] {
        self.reports.as_ref().map_or(&[], |reports| &reports.list)
    }

    /// Leaves what a reload does not change of `[reports]` as it was.
    pub fn keep_reports(&mut self, old: &Config) {
        let Some(before) = &old.reports else {
            self.reports = None;
            return;
        };
        let mut now = self.reports.take().unwrap_or_else(|| Reports {
            list: Vec::new(),
            cdns: Vec::new(),
            ..before.clone()
        });
        (now.listen, now.memory, now.max_running) = (before.listen, before.memory, before.max_running);
        self.reports = Some(now);
    }
}

/// `[reports]` and what belongs to it; `None` where there is nothing to listen on.
pub(super) fn reports(
    source: &Source<'_>,
    sections: &Sections<'_>,
    databases: &[Database],
    users: &[User],
) -> Option<Reports> {
    let section = sections.table("reports");
    let (lists, cdns) = (sections.list("report"), sections.list("cdn"));
    unique(source, &lists);
    unique(source, &cdns);
    for (list, most) in [(&lists, MOST), (&cdns, MOST_CDNS)] {
        if let Some(section) = list.get(most) {
            section.report("", format!("there are more than {most} of them"));
        }
    }
    let key_file = file(&section, "key_file");
    let tokens_file = file(&section, "tokens_file");
    let tls = tls(&section);
    let has = |key: &str| section.has(key);
    let list: Vec<_> = lists.iter().map(|s| report(s, databases, users, has)).collect();
    let cdns = cdns.iter().map(cdn).collect();
    if !section.has("listen") {
        if let Some(first) = lists.first() {
            let fault = Fault::from("reports.listen is missing: nobody could ask for it");
            first.report("", fault.hint("[reports] listen = \"127.0.0.1:9931\""));
        }
        return None;
    }
    let listen = section.text("listen")?;
    let listen = addr(&listen).map_err(|fault| section.report("listen", fault)).ok()?;
    Some(Reports {
        listen,
        tls,
        key_file,
        tokens_file,
        memory: section.size("memory", 0..=usize::MAX >> 1).unwrap_or(MEMORY),
        max_running: section.number("max_running", 1..=1000).unwrap_or(4),
        list,
        cdns,
    })
}

fn tls(section: &Section<'_>) -> Option<ClientTls> {
    let (cert, key) = (file(section, "tls_cert"), file(section, "tls_key"));
    let needed = section.has("tls_cert") || section.has("tls_key");
    for key in ["tls_cert", "tls_key"].into_iter().filter(|key| needed && !section.has(key)) {
        section.report(key, "is missing: TLS needs both tls_cert and tls_key");
    }
    pair(section, "tls_key", cert.as_deref(), key.as_deref());
    cert.zip(key).map(|(cert, key)| ClientTls { cert, key, client_ca: None })
}

fn report(
    section: &Section<'_>,
    databases: &[Database],
    users: &[User],
    has: impl Fn(&str) -> bool,
) -> Report {
    let database = section.required("database");
    let served = databases.iter().find(|d| d.name == database || d.name == "*");
    if served.is_none() && !database.is_empty() {
        section.report(
            "database",
            unknown("[[database]]", &database, databases.iter().map(|d| d.name.as_str())),
        );
    }
    let access = access(section, has);
    let edge = section.flag("edge").unwrap_or(false);
    if edge && access.contains(&ReportAccess::Token) {
        let fault =
            Fault::from("a shared cache does not look at tokens: it would give the report to everybody");
        section.report("edge", fault.hint("access = \"signed\""));
    }
    let is_public = access.contains(&ReportAccess::Public);
    if is_public && access.len() > 1 {
        section.report("access", "is public: nothing else is asked for");
    }
    let tokens = section.parsed("tokens", |text| Ok(Pattern::new(text))).unwrap_or_default();
    if access.contains(&ReportAccess::Token) && tokens.is_empty() && !section.has("tokens") {
        section.report("tokens", "is missing: whose tokens count is to be said");
    }
    Report {
        name: name(section),
        user: asker(section, served, users, "a report"),
        database,
        sql: section.required("sql"),
        params: params(section),
        format: section.word("format", REPORT_FORMATS).unwrap_or(ReportFormat::Json),
        access,
        tokens,
        edge,
        ttl: section.duration("ttl", TIMES).unwrap_or(Duration::from_secs(60)),
        stale_while_revalidate: section.duration("stale_while_revalidate", STALE).unwrap_or_default(),
        stale_if_error: section.duration("stale_if_error", STALE).unwrap_or_default(),
        purge: section.flag("purge").unwrap_or(true),
        timeout: section.duration("timeout", TIMEOUTS).unwrap_or(Duration::from_secs(5)),
        max_rows: section.number("max_rows", 1..=10_000_000).unwrap_or(10_000),
        max_bytes: section.size("max_bytes", 1024..=1 << 30).unwrap_or(BYTES),
    }
}

fn name(section: &Section<'_>) -> String {
    let name = section.required("name");
    let fits = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if !fits || name.starts_with('.') || name.len() > 100 {
        let fault = Fault::from(format!("{name:?} is no name of a report"));
        section.report("name", fault.hint("letters, digits, -, _ and ., such as events-by-status"));
    }
    name
}

/// Who may have a report. It must be said: what is left out by mistake must not be public.
fn access(section: &Section<'_>, has: impl Fn(&str) -> bool) -> Vec<ReportAccess> {
    if !section.has("access") {
        let fault = Fault::from("is missing: who may have it must be said");
        section.report("access", fault.hint("\"signed\", \"token\", or \"public\" for everybody"));
    }
    let one = |text: &str| {
        let found = REPORT_ACCESS.iter().find(|(word, _)| *word == text).map(|(_, access)| *access);
        found.ok_or_else(|| Fault::from(format!("{text:?} is not one of public, signed, token")))
    };
    let access = section.parsed("access", one).unwrap_or_default();
    if section.count("access") == Some(0) {
        section.report("access", Fault::from("is empty: nobody could have it"));
    }
    for (wanted, key) in [(ReportAccess::Signed, "key_file"), (ReportAccess::Token, "tokens_file")] {
        if access.contains(&wanted) && !has(key) {
            section.report("access", format!("reports.{key} is missing: nobody could show that they may"));
        }
    }
    access
}

/// Types that parameters may have, by every name that they are known by (pg_type.dat).
const TYPES: &[(&str, u32)] = &[
    ("bool", 16),
    ("boolean", 16),
    ("bytea", 17),
    ("bigint", 20),
    ("int8", 20),
    ("smallint", 21),
    ("int2", 21),
    ("int", 23),
    ("integer", 23),
    ("int4", 23),
    ("text", 25),
    ("json", 114),
    ("real", 700),
    ("float4", 700),
    ("float8", 701),
    ("double precision", 701),
    ("inet", 869),
    ("text[]", 1009),
    ("int[]", 1007),
    ("bigint[]", 1016),
    ("date", 1082),
    ("time", 1083),
    ("timestamp", 1114),
    ("timestamptz", 1184),
    ("interval", 1186),
    ("numeric", 1700),
    ("uuid", 2950),
    ("jsonb", 3802),
];

/// Names that mean something else in the URL.
const TAKEN: [&str; 2] = ["expires", "signature"];

fn params(section: &Section<'_>) -> Vec<Param> {
    let params = section.parsed("params", param).unwrap_or_default();
    if params.len() > MOST_PARAMS {
        section.report("params", format!("there are more than {MOST_PARAMS} of them"));
    }
    for (i, param) in params.iter().enumerate() {
        if params.iter().take(i).any(|other| other.name == param.name) {
            section.report("params", format!("{:?} occurs twice", param.name));
        }
    }
    params
}

/// `NAME TYPE`, or `NAME TYPE = DEFAULT`, where NULL is NULL.
fn param(text: &str) -> Result<Param, Fault> {
    let (head, default) = match text.split_once('=') {
        Some((head, default)) => (head, Some(default.trim())),
        None => (text, None),
    };
    let (name, kind) = head.trim().split_once(' ').ok_or_else(|| {
        Fault::from(format!("{text:?} is no parameter")).hint("NAME TYPE, or NAME TYPE = DEFAULT")
    })?;
    let kind = kind.trim();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || !name.chars().all(fits) || TAKEN.contains(&name) {
        return Err(Fault::from(format!("{name:?} is no name of a parameter")));
    }
    let known = TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(kind));
    let (kind, oid) = *known.ok_or_else(|| unknown("type", kind, TYPES.iter().map(|(name, _)| *name)))?;
    let value = |text: &str| (!text.eq_ignore_ascii_case("null")).then(|| text.to_string());
    Ok(Param { name: name.to_string(), kind, oid, default: default.map(value) })
}

fn cdn(section: &Section<'_>) -> Cdn {
    let kind = section.word("kind", CDN_KINDS).unwrap_or(CdnKind::Purge);
    if !section.has("kind") {
        section.report("kind", "is missing");
    }
    let usual = match kind {
        CdnKind::Fastly => Some("https://api.fastly.com"),
        CdnKind::Cloudflare => Some("https://api.cloudflare.com"),
        CdnKind::Purge | CdnKind::Ban => None,
    };
    let url = match usual {
        Some(usual) => section.text("url").unwrap_or_else(|| usual.to_string()),
        None => section.required("url"),
    };
    if !url.is_empty() && !url.starts_with("http://") && !url.starts_with("https://") {
        section.report("url", format!("{url:?} is no address such as http://127.0.0.1:6081/"));
    }
    if section.has("ca") && !url.starts_with("https://") {
        section.report("ca", "has no effect unless url begins with https");
    }
    for key in ["service", "token_file"].into_iter().filter(|key| usual.is_some() && !section.has(key)) {
        section.report(key, "is missing: the API asks for it");
    }
    Cdn {
        name: section.required("name"),
        kind,
        url: url.trim_end_matches('/').to_string(),
        service: section.text("service").unwrap_or_default(),
        token_file: file(section, "token_file"),
        ca: file(section, "ca"),
        timeout: section.duration("timeout", TIMEOUTS).unwrap_or(Duration::from_secs(5)),
    }
}

/// A parameter as the file spells it.
pub(super) fn spelt(param: &Param) -> String {
    let default = param.default.as_ref().map(|value| value.as_deref().unwrap_or("NULL"));
    let default = default.map(|value| format!(" = {value}")).unwrap_or_default();
    format!("{} {}{default}", param.name, param.kind)
}
