//! Which tenant a session is: what it says of itself, if its user's word counts; then who belongs to a tenant by the
//! configuration; then what names all others.

use crate::config::tenant::{MAX_NAME, Tenant, TenantWay, Tenants};

/// What is known of a session that may name its tenant.
#[derive(Clone, Copy, Debug, Default)]
pub struct About<'a> {
    /// Who has logged in.
    pub user: &'a str,
    /// To which database, as clients name it.
    pub database: &'a str,
    /// As which application.
    pub application: &'a str,
    /// What it has set.
    pub set: Option<&'a str>,
    /// What its startup packet's options say.
    pub startup: Option<&'a str>,
    /// The host name that TLS was asked for.
    pub host: Option<&'a str>,
}

/// Why a session may not be the tenant that it says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Nobody names tenants in that way.
    Way,
    /// Its user's word does not count for that tenant.
    User,
    /// It is not a name.
    Name,
}

/// The configuration, as it is asked.
#[derive(Debug, Default)]
pub struct Naming {
    config: Tenants,
}

/// Whether it can be the name of a tenant: it is told in metrics and logs.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control)
}

impl Naming {
    /// Under this configuration.
    pub fn new(config: &Tenants) -> Naming {
        Naming { config: config.clone() }
    }

    /// The configuration.
    pub fn config(&self) -> &Tenants {
        &self.config
    }

    /// Whether anybody has a tenant.
    pub fn is_on(&self) -> bool {
        self.config.is_on()
    }

    /// What is said of the tenant of that name.
    pub fn listed(&self, name: &str) -> Option<&Tenant> {
        self.config.of(name)
    }

    /// Whether `user` may say that it is the tenant of that name.
    fn may_claim(&self, user: &str, name: &str) -> bool {
        self.may_be(user, self.listed(name))
    }

    fn may_be(&self, user: &str, tenant: Option<&Tenant>) -> bool {
        let users = tenant.and_then(|t| t.claimed_by.as_ref()).unwrap_or(&self.config.claimed_by);
        users.iter().any(|pattern| pattern.matches(user))
    }

    /// Whether `user` may name itself so, by SET or at the start.
    ///
    /// # Errors
    /// Why not.
    pub fn may(&self, way: TenantWay, user: &str, name: &str) -> Result<(), Denied> {
        if !self.config.by.contains(&way) {
            return Err(Denied::Way);
        }
        if !is_name(name) {
            return Err(Denied::Name);
        }
        if self.may_claim(user, name) { Ok(()) } else { Err(Denied::User) }
    }

    /// The session's tenant, and what has named it.
    pub fn name<'n>(&'n self, about: &About<'n>) -> Option<(&'n str, &'static str)> {
        let claimed = |way: TenantWay, name: Option<&'n str>| {
            name.filter(|name| self.may(way, about.user, name).is_ok())
        };
        if let Some(name) = claimed(TenantWay::Set, about.set) {
            return Some((name, "SET turnpike.tenant"));
        }
        if let Some(name) = claimed(TenantWay::Startup, about.startup) {
            return Some((name, "its startup options"));
        }
        let who = [about.user, about.database, about.application, about.host.unwrap_or_default()];
        if let Some(tenant) = self.config.listed.member(&who, |tenant| self.is_trusted(tenant, about.user)) {
            return Some((&tenant.name.text, "its [[tenant]]"));
        }
        self.config.by.iter().find_map(|way| match way {
            TenantWay::Set | TenantWay::Startup => None,
            TenantWay::User => Some((about.user, "its user")),
            TenantWay::Database => Some((about.database, "its database")),
            TenantWay::ApplicationName => {
                Some((claimed(*way, Some(about.application))?, "its application_name"))
            }
            TenantWay::Sni => {
                let label = about.host.and_then(|host| host.split('.').next());
                Some((claimed(*way, label)?, "the host name of its TLS"))
            }
        })
    }

    /// Whether what a user says of itself may make it this tenant, where it takes that.
    fn is_trusted(&self, tenant: &Tenant, user: &str) -> bool {
        let is_claim = !tenant.applications.is_empty() || !tenant.hosts.is_empty();
        !is_claim || self.may_be(user, Some(tenant))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::check::parse;
    use proptest::prelude::*;

    fn naming(text: &str) -> Naming {
        let base = "[[backend]]\nname = 'b'\nhost = 'h'\n[[database]]\nname = 'd'\nbackend = 'b'\n";
        let config = parse(&format!("{base}{text}"), std::path::Path::new("t.toml"));
        Naming::new(&config.map_err(|p| p.to_string()).unwrap().tenants)
    }

    const ALL: &str = "[tenants]\nby = ['set', 'startup', 'sni', 'application_name', 'user']\nclaimed_by = ['gate*']\n\
        [[tenant]]\nname = 'acme'\nuser = 'acme_*'\n[[tenant]]\nname = 'safe'\nclaimed_by = 'gate_safe'\n\
        [[tenant]]\nname = 'web'\napplication_name = 'web*'\n";

    fn is(about: About<'_>) -> String {
        let naming = naming(ALL);
        naming
            .name(&About { database: "d", ..about })
            .map_or("-".into(), |(name, by)| format!("{name} by {by}"))
    }

    #[test]
    fn what_names_a_session() {
        let gate = About { user: "gate", ..About::default() };
        let bob = About { user: "bob", ..About::default() };
        for (about, want) in [
            (bob, "bob by its user"),
            (About { user: "acme_x", ..bob }, "acme by its [[tenant]]"),
            (About { set: Some("acme"), ..gate }, "acme by SET turnpike.tenant"),
            (About { set: Some("other"), startup: Some("acme"), ..gate }, "other by SET turnpike.tenant"),
            (About { startup: Some("acme"), ..gate }, "acme by its startup options"),
            (About { host: Some("acme.db.example"), ..gate }, "acme by the host name of its TLS"),
            (About { application: "app", ..gate }, "app by its application_name"),
            (About { application: "web-7", ..gate }, "web by its [[tenant]]"),
            // The word of others does not count.
            (
                About { set: Some("acme"), startup: Some("acme"), host: Some("acme.x"), ..bob },
                "bob by its user",
            ),
            (About { application: "web-7", ..bob }, "bob by its user"),
            (About { set: Some("acme"), user: "acme_x", ..bob }, "acme by its [[tenant]]"),
            (About { set: Some("globex"), user: "acme_x", ..bob }, "acme by its [[tenant]]"),
            // Nor for a tenant that says whose does.
            (About { set: Some("safe"), ..gate }, "gate by its user"),
            (About { set: Some("safe"), user: "gate_safe", ..gate }, "safe by SET turnpike.tenant"),
            // What is no name is as if it had not been said.
            (About { set: Some(""), ..gate }, "gate by its user"),
            (About { set: Some("a\nb"), ..gate }, "gate by its user"),
        ] {
            assert_eq!(is(about), want, "{about:?}");
        }
    }

    #[test]
    fn a_way_that_is_not_listed_names_nobody() {
        let naming = naming("[tenants]\nby = 'database'");
        let about =
            About { user: "u", database: "d", set: Some("x"), startup: Some("y"), ..About::default() };
        assert_eq!(naming.name(&about), Some(("d", "its database")));
        assert_eq!(naming.may(TenantWay::Set, "u", "x"), Err(Denied::Way));
    }

    #[test]
    fn whole_names_count_first() {
        let naming = naming(
            "[tenants]\nby = 'user'\nweight = 7\n[[tenant]]\nname = 'a*'\nmax = 1\n[[tenant]]\nname = 'ab'\nmax = 2",
        );
        let max = |name: &str| naming.listed(name).map(|t| (t.share.max, t.share.weight));
        assert_eq!((max("ab"), max("abc"), max("b")), (Some((2, 7)), Some((1, 7)), None));
    }

    proptest! {
        /// Whatever somebody says whose word does not count, it changes nothing.
        #[test]
        fn nobody_picks_a_tenant(
            set in "[a-z]{0,6}", startup in "[a-z]{0,6}", host in "[a-z.]{0,9}", application in "[a-z-]{0,6}",
            user in "[a-f][a-z_]{0,5}",
        ) {
            let naming = naming(ALL);
            let quiet = About { user: &user, database: "d", ..About::default() };
            let loud = About {
                set: Some(&set), startup: Some(&startup), host: Some(&host), application: &application, ..quiet
            };
            prop_assert_eq!(naming.name(&loud), naming.name(&quiet));
        }
    }
}
