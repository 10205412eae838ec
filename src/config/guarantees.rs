//! Whether what is guaranteed to tenants can be there: each bound on connections must have room for all that may be wanted
//! under it at once.
//!
//! Under a backend's bound that is what is guaranteed to every tenant that may be there, and to one of each kind that is not
//! spelt out; under a database's or a user's, what is guaranteed to those who are nowhere else.

use super::Database;
use super::mirror::Known;
use super::raw::{Fault, Section};
use super::route::Pattern;
use super::tenant::{Tenant, TenantWay, Tenants};

/// Says which `[[tenant]]` is the first that there is no room for, and whether there is some for who is not listed.
pub(super) fn check(section: &Section<'_>, sections: &[Section<'_>], tenants: &Tenants, known: Known<'_>) {
    let Known { backends, databases, users, .. } = known;
    for (i, backend) in backends.iter().enumerate() {
        let bound = Bound { kind: "backend", name: &backend.name, most: backend.max_connections };
        let sum = bound.check(sections, tenants, |tenant| known.may_be_at(tenants, tenant, i));
        let others = databases.iter().any(|d| may_have_others(tenants, d) && known.of(d).contains(&i));
        if let Some(sum) = sum.filter(|_| others) {
            bound.check_others(section, tenants, sum);
        }
    }
    // The bound of one that serves whatever is asked for is of each name.
    for database in databases.iter().filter(|database| database.name != ANY) {
        let bound = Bound { kind: "database", name: &database.name, most: database.max_connections };
        bound.check(sections, tenants, |tenant| {
            let mut all = databases.iter().filter(|d| known.may_be_in(tenants, tenant, d));
            all.next().is_some_and(|d| d.name == database.name) && all.next().is_none()
        });
    }
    for user in users {
        let bound = Bound { kind: "user", name: &user.name, most: user.max_connections };
        bound.check(sections, tenants, |tenant| only_user(tenants, tenant) == Some(&user.name));
    }
}

/// The `[[database]]` of all names that no other has.
const ANY: &str = "*";

/// A bound on connections; 0 is none.
struct Bound<'c> {
    kind: &'static str,
    name: &'c str,
    most: u32,
}

impl Bound<'_> {
    /// Checks those `[[tenant]]`s that are `here`. What is guaranteed to all of them, if there is room.
    fn check(
        &self,
        sections: &[Section<'_>],
        tenants: &Tenants,
        here: impl Fn(&Tenant) -> bool,
    ) -> Option<u64> {
        let promised = |(_, tenant): &(&Section<'_>, &Tenant)| tenant.share.guaranteed > 0;
        let all = sections.iter().zip(tenants.listed.iter()).filter(promised);
        let (most, mut sum) = (u64::from(self.most), 0);
        for (section, tenant) in all.filter(|(_, tenant)| self.most > 0 && here(tenant)) {
            sum += u64::from(tenant.share.guaranteed);
            if sum > most {
                section.report("guaranteed", self.fault(format!("with those before it {sum}")));
                return None;
            }
        }
        (self.most > 0).then_some(sum)
    }

    /// Checks whether there is room for one who is not listed, beside the `sum` of those who are.
    fn check_others(&self, section: &Section<'_>, tenants: &Tenants, sum: u64) {
        let own = u64::from(tenants.share.guaranteed);
        if own > 0 && sum + own > u64::from(self.most) {
            let text = format!("with one that is not listed beside those that are {}", sum + own);
            section.report("guaranteed", self.fault(text));
        }
    }

    fn fault(&self, so_many: String) -> Fault {
        let Bound { kind, name, most } = self;
        let text = format!("{so_many} connections are guaranteed, and {kind} \"{name}\" takes {most}");
        Fault::from(text).hint(format!("see {kind}.max_connections"))
    }
}

impl Known<'_> {
    /// The backends that a database's connections may be on.
    fn of(&self, database: &Database) -> Vec<usize> {
        let members = database.cluster.as_deref().and_then(|name| self.members(name));
        members.unwrap_or_else(|| vec![database.backend])
    }

    fn members(&self, cluster: &str) -> Option<Vec<usize>> {
        self.clusters.iter().find(|c| c.name == cluster).map(|c| c.backends.clone())
    }

    /// Whether sessions of a database may be that tenant's.
    fn may_be_in(&self, tenants: &Tenants, tenant: &Tenant, database: &Database) -> bool {
        let is_meant = |pattern: &Pattern| match database.name.as_str() {
            ANY => pattern.open || self.databases.iter().all(|d| *d.name != *pattern.text),
            name => pattern.matches(name),
        };
        tenant.has_conditions() && (tenant.databases.is_empty() || tenant.databases.iter().any(is_meant))
            || tenants.by.iter().any(|way| *way != TenantWay::Database || is_meant(&tenant.name))
    }

    fn may_be_at(&self, tenants: &Tenants, tenant: &Tenant, backend: usize) -> bool {
        let own = tenant.cluster.as_deref().and_then(|name| self.members(name));
        let own = own.or_else(|| tenant.backend.map(|own| vec![own]));
        let mut databases = self.databases.iter().filter(|d| self.may_be_in(tenants, tenant, d));
        match own {
            Some(own) => own.contains(&backend) && databases.next().is_some(),
            None => databases.any(|d| self.of(d).contains(&backend)),
        }
    }
}

/// Whether they may be a tenant's that is not listed.
fn may_have_others(tenants: &Tenants, database: &Database) -> bool {
    let is_other = |way: &TenantWay| {
        *way != TenantWay::Database || database.name == ANY || tenants.of(&database.name).is_none()
    };
    tenants.by.iter().any(is_other)
}

/// The one user whose sessions may be that tenant's, where there is no other.
fn only_user<'t>(tenants: &Tenants, tenant: &'t Tenant) -> Option<&'t str> {
    if tenant.name.open || tenants.by.iter().any(|way| *way != TenantWay::User) {
        return None;
    }
    let conditions = tenant.has_conditions().then_some(tenant.users.as_slice());
    let named = (!tenants.by.is_empty()).then_some(&tenant.name);
    match (conditions, named) {
        (Some([one]), None) if !one.open => Some(&one.text),
        (Some([one]), Some(name)) if one == name => Some(&one.text),
        (None, Some(name)) => Some(&name.text),
        _ => None,
    }
}
