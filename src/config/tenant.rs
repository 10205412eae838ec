//! `[tenants]` and `[[tenant]]`: whose work a session does, how that is known, and what each may have.
//!
//! Who has logged in, and to which database, is proven. All else that may name a tenant is what a client says of itself:
//! it counts only of users who are listed for that (`claimed_by`).

use std::time::Duration;

use super::check::{ANY_TIME, MANY, unknown};
use super::cluster;
use super::guarantees;
use super::listed::Listed;
use super::mirror::Known;
use super::raw::{Fault, Section};
use super::route::Pattern;
use super::words::{PRIORITIES, TENANT_WAYS, nearest};
use super::{Backend, Cluster};

/// How soon a statement is served among those of its tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Somebody waits for it.
    #[default]
    Interactive,
    /// It has time.
    Batch,
}

/// What may name a session's tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantWay {
    /// `SET turnpike.tenant`.
    Set,
    /// `turnpike.tenant` in the startup packet's options.
    Startup,
    /// Who has logged in.
    User,
    /// To which database, as clients name it.
    Database,
    /// `application_name`.
    ApplicationName,
    /// The first part of the host name that TLS was asked for.
    Sni,
}

impl TenantWay {
    /// Whether it is only what the client says.
    pub fn is_claim(self) -> bool {
        !matches!(self, TenantWay::User | TenantWay::Database)
    }
}

/// So many per second; 0 is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub per_second: u32,
    /// How many at once, after a rest.
    pub burst: u32,
}

/// What a tenant may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Beside others.
    pub weight: u32,
    /// Connections that it gets before others get more than theirs.
    pub guaranteed: u32,
    /// Most connections; 0 is no bound.
    pub max: u32,
    /// Most clients of it that wait; 0 is no bound.
    pub max_waiting: u32,
    /// The best that its statements may have.
    pub priority: Priority,
    /// Statements.
    pub statements: Rate,
    /// Rows read or written.
    pub rows: Rate,
}

/// What a `[[tenant]]` says of that itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnShare {
    /// See [`Share::weight`].
    pub weight: Option<u32>,
    /// See [`Share::guaranteed`].
    pub guaranteed: Option<u32>,
    /// See [`Share::max`].
    pub max: Option<u32>,
    /// See [`Share::max_waiting`].
    pub max_waiting: Option<u32>,
    /// See [`Share::priority`].
    pub priority: Option<Priority>,
    /// Statements per second, and at once.
    pub statements: (Option<u32>, Option<u32>),
    /// Rows per second, and at once.
    pub rows: (Option<u32>, Option<u32>),
}

impl OwnShare {
    /// What it comes to where `base` holds for all.
    pub fn over(&self, base: &Share) -> Share {
        let rate = |(per_second, burst): (Option<u32>, Option<u32>), base: Rate| match (per_second, burst) {
            (None, None) => base,
            // A second's worth.
            (Some(n), burst) => Rate { per_second: n, burst: burst.unwrap_or(n) },
            (None, Some(burst)) => Rate { burst, ..base },
        };
        Share {
            weight: self.weight.unwrap_or(base.weight),
            guaranteed: self.guaranteed.unwrap_or(base.guaranteed),
            max: self.max.unwrap_or(base.max),
            max_waiting: self.max_waiting.unwrap_or(base.max_waiting),
            priority: self.priority.unwrap_or(base.priority),
            statements: rate(self.statements, base.statements),
            rows: rate(self.rows, base.rows),
        }
    }
}

/// What holds where nothing is said.
pub const SHARE: Share = Share {
    weight: 100,
    guaranteed: 0,
    max: 0,
    max_waiting: 0,
    priority: Priority::Interactive,
    statements: Rate { per_second: 0, burst: 0 },
    rows: Rate { per_second: 0, burst: 0 },
};

/// `[tenants]`, with every `[[tenant]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenants {
    /// What names them, in order.
    pub by: Vec<TenantWay>,
    /// Users whose word counts.
    pub claimed_by: Vec<Pattern>,
    /// Longest wait of what is over a rate, then 53400.
    pub rate_wait: Duration,
    /// What it says of all.
    pub own: OwnShare,
    /// What that comes to.
    pub share: Share,
    /// `[[tenant]]`, in order.
    pub listed: Listed,
}

/// Default of `tenants.rate_wait`.
pub const RATE_WAIT: Duration = Duration::from_secs(1);

impl Default for Tenants {
    fn default() -> Self {
        Tenants {
            by: Vec::new(),
            claimed_by: Vec::new(),
            rate_wait: RATE_WAIT,
            own: OwnShare::default(),
            share: SHARE,
            listed: Listed::default(),
        }
    }
}

/// One `[[tenant]]`: of that name, or each whose name begins like that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// What it is called.
    pub name: Pattern,
    /// Who has logged in.
    pub users: Vec<Pattern>,
    /// To which database.
    pub databases: Vec<Pattern>,
    /// As which application.
    pub applications: Vec<Pattern>,
    /// By which host name.
    pub hosts: Vec<Pattern>,
    /// Users who may say that they are it, if others than of all.
    pub claimed_by: Option<Vec<Pattern>>,
    /// What it says of what it may have.
    pub own: OwnShare,
    /// What that comes to.
    pub share: Share,
    /// Its connections are nobody else's.
    pub own_pool: bool,
    /// Most connections of such a pool, if others than of all.
    pub pool_size: Option<u32>,
    /// Where it is, if elsewhere than its database: an index into [`super::Config::backends`].
    pub backend: Option<usize>,
    /// The name of the cluster, where it is on one.
    pub cluster: Option<String>,
}

impl Tenant {
    /// Whether it says who belongs to it.
    pub fn has_conditions(&self) -> bool {
        [&self.users, &self.databases, &self.applications, &self.hosts].iter().any(|c| !c.is_empty())
    }

    /// Whether it is somewhere else than its database.
    pub fn has_place(&self) -> bool {
        self.backend.is_some()
    }
}

impl Tenants {
    /// Whether there are any.
    pub fn is_on(&self) -> bool {
        !self.by.is_empty() || self.listed.iter().any(Tenant::has_conditions)
    }

    /// What is said of the tenant of that name.
    pub fn of(&self, name: &str) -> Option<&Tenant> {
        self.listed.of(name)
    }
}

/// `[tenants]` and `[[tenant]]`
pub(super) fn tenants(section: &Section<'_>, sections: &[Section<'_>], known: Known<'_>) -> Tenants {
    let by = section.parsed("by", way).unwrap_or_default();
    let claimed_by = patterns(section, "claimed_by");
    let own = own_share(section);
    let share = own.over(&SHARE);
    check_share(section, &share);
    let listed: Vec<_> = sections.iter().map(|s| tenant(s, &share, known)).collect();
    let tenants = Tenants {
        by,
        rate_wait: section.duration("rate_wait", ANY_TIME).unwrap_or(RATE_WAIT),
        own,
        share,
        listed: listed.into(),
        claimed_by: claimed_by.unwrap_or_default(),
    };
    check_claims(section, sections, &tenants);
    guarantees::check(section, sections, &tenants, known);
    tenants
}

fn patterns(section: &Section<'_>, key: &str) -> Option<Vec<Pattern>> {
    if section.count(key) == Some(0) {
        section.report(key, "must not be empty");
    }
    section.parsed(key, |text| Ok(Pattern::new(text)))
}

fn way(text: &str) -> Result<TenantWay, Fault> {
    let words = || TENANT_WAYS.iter().map(|(word, _)| *word);
    let found = TENANT_WAYS.iter().find(|(word, _)| *word == text).map(|(_, way)| *way);
    found.ok_or_else(|| {
        let fault = Fault::from(format!("{text:?} is not one of {}", words().collect::<Vec<_>>().join(", ")));
        nearest(text, words())
            .map(|near| format!("did you mean {near}?"))
            .into_iter()
            .fold(fault, Fault::hint)
    })
}

fn own_share(section: &Section<'_>) -> OwnShare {
    let rate =
        |per_second, burst| (section.number(per_second, 0..=MOST_RATE), section.number(burst, 1..=MOST_RATE));
    OwnShare {
        weight: section.number("weight", 1..=10_000),
        guaranteed: section.number("guaranteed", 0..=MANY),
        max: section.number("max", 0..=MANY),
        max_waiting: section.number("max_waiting", 0..=MANY),
        priority: section.word("priority", PRIORITIES),
        statements: rate("statements_per_second", "statements_burst"),
        rows: rate("rows_per_second", "rows_burst"),
    }
}

/// Most of anything per second.
const MOST_RATE: u32 = 1_000_000_000;

fn check_share(section: &Section<'_>, share: &Share) {
    let own = ["guaranteed", "max"].into_iter().find(|key| section.has(key));
    if let Some(key) = own.filter(|_| share.max > 0 && share.guaranteed > share.max) {
        section.report(key, format!("guaranteed ({}) is more than max ({})", share.guaranteed, share.max));
    }
    for (key, rate, of) in [
        ("statements_burst", share.statements, "statements_per_second"),
        ("rows_burst", share.rows, "rows_per_second"),
    ] {
        if section.has(key) && rate.per_second == 0 {
            section.report(key, format!("has no effect without {of}"));
        }
    }
}

fn tenant(section: &Section<'_>, base: &Share, known: Known<'_>) -> Tenant {
    let own = own_share(section);
    let share = own.over(base);
    check_share(section, &share);
    let conditions = |key| patterns(section, key).unwrap_or_default();
    let name = section.required("name");
    if name.len() > MAX_NAME {
        section.report("name", format!("is longer than {MAX_NAME} bytes"));
    }
    let (backend, cluster) = place(section, known.backends, known.clusters);
    let pool = section.word("pool", OWN_POOL);
    if pool == Some(false) && backend.is_some() {
        section.report("pool", "a tenant that is elsewhere than its database has a pool of its own");
    }
    let own_pool = pool.unwrap_or(backend.is_some());
    if section.has("pool_size") && !own_pool {
        section.report("pool_size", Fault::from("has no effect on a shared pool").hint("set pool = \"own\""));
    }
    let tenant = Tenant {
        name: Pattern::new(&name),
        users: conditions("user"),
        databases: conditions("database"),
        applications: conditions("application_name"),
        hosts: conditions("sni"),
        claimed_by: patterns(section, "claimed_by"),
        own,
        share,
        own_pool,
        pool_size: section.number("pool_size", 1..=MANY),
        backend,
        cluster,
    };
    if tenant.name.open && tenant.has_conditions() {
        let fault = Fault::from("is the beginning of a name: who belongs to it is said of a whole name only");
        section.report("name", fault);
    }
    tenant
}

/// Longest name of a tenant, in bytes.
pub const MAX_NAME: usize = 128;

/// `[[tenant]] pool`: whether it is its own.
pub(super) const OWN_POOL: super::words::Words<bool> = &[("shared", false), ("own", true)];

/// Where it is, if elsewhere than its database.
fn place(
    section: &Section<'_>,
    backends: &[Backend],
    clusters: &[Cluster],
) -> (Option<usize>, Option<String>) {
    let backend = section.text("backend").and_then(|name| {
        let found = backends.iter().position(|b| b.name == name);
        if found.is_none() {
            let known = backends.iter().map(|b| b.name.as_str());
            section.report("backend", unknown("[[backend]]", &name, known));
        }
        found
    });
    let cluster = section.text("cluster").and_then(|name| {
        let found = clusters.iter().find(|c| c.name == name);
        if found.is_none() {
            let known = clusters.iter().map(|c| c.name.as_str());
            section.report("cluster", unknown("[[cluster]]", &name, known));
        }
        found
    });
    if section.has("backend") && section.has("cluster") {
        section.report("cluster", "backend is already given: a tenant is on one or the other");
    }
    match cluster {
        Some(cluster) => (Some(cluster::first(cluster, backends)), Some(cluster.name.clone())),
        None => (backend, None),
    }
}

/// What clients say of themselves counts of those who are listed; of nobody, if nobody is.
fn check_claims(section: &Section<'_>, sections: &[Section<'_>], tenants: &Tenants) {
    let anybody = !tenants.claimed_by.is_empty() || tenants.listed.iter().any(|t| t.claimed_by.is_some());
    let hint = "list the users whose word counts, or \"*\" for all";
    if tenants.by.iter().any(|way| way.is_claim()) && !anybody && !section.has("claimed_by") {
        let fault = Fault::from("is missing: by has something in it that clients say of themselves");
        section.report("claimed_by", fault.hint(hint));
    }
    let claims = tenants.by.iter().any(|way| way.is_claim());
    for (section, tenant) in sections.iter().zip(tenants.listed.iter()) {
        let by_claim = !tenant.applications.is_empty() || !tenant.hosts.is_empty();
        if by_claim && tenant.claimed_by.is_none() && tenants.claimed_by.is_empty() {
            let fault =
                Fault::from("is missing: application_name and sni are what clients say of themselves");
            section.report("claimed_by", fault.hint(hint));
        }
        if section.has("claimed_by") && !by_claim && !claims {
            let fault = Fault::from("has no effect: nothing that clients say of themselves names a tenant");
            section.report("claimed_by", fault.hint("see tenants.by"));
        }
        if !tenant.has_conditions() && tenants.by.is_empty() {
            let fault = Fault::from("nobody is this tenant: tenants.by is empty");
            section.report(
                "name",
                fault.hint("say who belongs to it (user, database), or what names tenants (tenants.by)"),
            );
        }
    }
}
