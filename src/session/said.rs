//! Settings that speak to us (`turnpike.route`): servers keep them like any other, and are sent what they can take. What
//! makes no sense is refused in a server's place, as PostgreSQL refuses what no setting of its own can be.

use super::batch::Batch;
use super::caching::CACHE;
use super::expect::Expect;
use super::run::Client;
use super::tenancy;
use super::way::PREFIX;
use crate::config::tenant::TenantWay;
use crate::config::words::{PRIORITIES, word};
use crate::config::{CacheAsk, Directions, ROUTES, Route, SAYABLE, Unsayable};
use crate::core::error::{Error, SqlState};
use crate::plan::Held;
use crate::pool::settings::quote;
use crate::sql::custom::{self, Given};
use crate::wire::message::cstr;
use crate::wire::reply;

/// What becomes of a text that speaks of settings of ours.
pub(super) enum Said {
    /// Servers are sent this one.
    Otherwise(Vec<u8>),
    /// It is refused.
    Refused(Error),
}

impl Client {
    /// What becomes of a text, if it is not sent as it is.
    pub(super) fn said(&self, plan: &Held, text: &[u8]) -> Option<Said> {
        if !plan.speaks {
            return None;
        }
        let custom = custom::read(text, PREFIX.trim_end_matches('.'));
        let is_ours = |key: &&str| SAYABLE.contains(key) || matches!(*key, "tenant" | "priority" | CACHE);
        if let Some(key) = custom.shown.as_deref().filter(is_ours) {
            return Some(Said::Otherwise(self.shown(key).into_bytes()));
        }
        if let Some(refused) = custom.given.iter().find_map(|given| self.refused(given)) {
            return Some(Said::Refused(refused));
        }
        custom::quoted(text, &custom).map(Said::Otherwise)
    }

    /// The query that tells what the session has for a setting: what holds without it, if nothing.
    fn shown(&self, key: &str) -> String {
        let name = format!("{PREFIX}{key}");
        // What does not count is not told: whether it does, the server does not know.
        let counts =
            key != "tenant" || self.shared.pools.tenants.naming().config().by.contains(&TenantWay::Set);
        let mut sql = String::from("SELECT COALESCE(");
        if counts {
            sql.push_str("NULLIF(pg_catalog.current_setting(");
            quote(&mut sql, &name);
            sql.push_str(", true), ''), ");
        }
        let base = self.course.as_ref().map(|course| course.ways.base.clone()).unwrap_or_default();
        let base = Directions {
            route: Some(Route::Auto),
            consistency: Some(base.consistency),
            max_lag: Some(base.max_lag),
            max_lag_bytes: Some(base.max_lag_bytes),
            replica_wait: Some(base.replica_wait),
            transactions: Some(base.transactions),
            split: None,
            fallback_to_primary: Some(base.fallback_to_primary),
        };
        let value = match key {
            "tenant" => self.wish.tenant.as_ref().map(|tenant| tenant.name.to_string()),
            "priority" => Some(word(PRIORITIES, &self.wish.priority).to_string()),
            // Whoever asks for nothing has what the rules say.
            CACHE => Some("default".to_string()),
            _ => base.said().into_iter().find(|(known, _)| *known == key).map(|(_, value)| value),
        };
        quote(&mut sql, &value.unwrap_or_default());
        sql.push_str(&format!(") AS \"{name}\""));
        sql
    }

    /// Why a value cannot be given (guc.c, `parse_and_validate_value`).
    fn refused(&self, given: &Given) -> Option<Error> {
        let Given { key, value, .. } = given;
        match key.as_str() {
            // Nothing is said by it, which is how servers forget.
            _ if value.is_empty() => return None,
            "tenant" => return self.refused_tenant(value),
            "priority" => return self.refused_priority(value),
            CACHE => return refused_cache(value),
            _ => {}
        }
        let course = self.course.as_ref()?;
        let mut said = Directions::default();
        let hint = match said.say(key, value) {
            Ok(()) => {
                let Some(Route::Backend(name)) = said.route else { return None };
                if course.cluster.named(&name).is_some() {
                    return None;
                }
                let members = course.cluster.members();
                let words = ROUTES.iter().map(|(word, _)| *word);
                let names = members.iter().map(|m| m.name());
                let names =
                    names.filter(|name| ROUTES.iter().all(|(word, _)| !word.eq_ignore_ascii_case(name)));
                let all: Vec<&str> = words.chain(names).collect();
                format!("Available values: {}.", all.join(", "))
            }
            Err(Unsayable::Key) => return None,
            Err(Unsayable::Word(words)) => format!("Available values: {}.", words.join(", ")),
            Err(Unsayable::Time) => {
                "Valid units for this parameter are \"ms\", \"s\", \"min\", \"h\", and \"d\".".into()
            }
            Err(Unsayable::Size) => {
                "Valid units for this parameter are \"B\", \"kB\", \"MB\", and \"GB\".".into()
            }
        };
        let text = format!("invalid value for parameter \"{PREFIX}{key}\": \"{value}\"");
        Some(Error::statement(SqlState::INVALID_PARAMETER, text).hint(hint))
    }
}

/// Why results are not kept for that long.
fn refused_cache(value: &str) -> Option<Error> {
    if CacheAsk::read(value).is_some() {
        return None;
    }
    let text = format!("invalid value for parameter \"{PREFIX}{CACHE}\": \"{value}\"");
    let hint = "Available values: on, off, or a time such as 30s.";
    Some(Error::statement(SqlState::INVALID_PARAMETER, text).hint(hint))
}

impl Client {
    /// Why it may not be the tenant that it says it is. Where there are no tenants, the name means nothing.
    fn refused_tenant(&self, name: &str) -> Option<Error> {
        let naming = self.shared.pools.tenants.naming();
        let user = &self.entry.pool.purpose.user;
        let why = naming.may(TenantWay::Set, user, name).err().filter(|_| naming.is_on())?;
        Some(tenancy::denied(why, user, name))
    }

    fn refused_priority(&self, value: &str) -> Option<Error> {
        let Some(wanted) = tenancy::priority(value) else { return Some(tenancy::no_priority(value)) };
        let tenant = self.wish.tenant.as_ref().filter(|tenant| tenant.priority(wanted) != wanted)?;
        let text = format!("permission denied to set parameter \"{}\"", tenancy::PRIORITY);
        let detail =
            format!("Statements of tenant \"{}\" are of priority batch.", tenant.name.escape_debug());
        let error = Error::statement(SqlState::INSUFFICIENT_PRIVILEGE, text).detail(detail);
        Some(error.hint("Its priority is in the configuration's [tenants] or [[tenant]]."))
    }
}

impl Batch<'_> {
    /// What servers are sent for a simple Query that speaks of settings of ours. True where it has been refused.
    pub(super) fn said_by_query(&mut self, len: usize, plan: &Held) -> (bool, Option<Vec<u8>>) {
        let body = self.body(len);
        let said = self.client.said(plan, body.strip_suffix(b"\0").unwrap_or(body));
        match said {
            None => (false, None),
            Some(Said::Otherwise(text)) => (false, Some(text)),
            Some(Said::Refused(error)) => {
                self.client.names.unnamed = None;
                self.client.names.close_portal(b"");
                // What fails by itself, up to a Sync, answers like a Query that has failed.
                self.refuse(len, error);
                self.flow.up.insert().extend_from_slice(reply::SYNC);
                self.flow.expected.push(Expect::Sync);
                (true, None)
            }
        }
    }

    /// The server is made to fail in the place of a request that is refused. In a transaction that has failed already,
    /// that is what it says.
    pub(super) fn refuse(&mut self, len: usize, error: Error) {
        self.flow.up.omit_frame(len);
        if let Some(server) = &mut self.client.lease {
            server.unnamed = None;
        }
        reply::parse(self.flow.up.insert(), b"", b"SELECT __turnpike_refused\0\0\0");
        self.flow.expected.push(Expect::Doomed(SqlState::UNDEFINED_COLUMN, Box::new(error)));
    }
}

/// The body of Parse, after the name, with another text.
pub(super) fn with_text(body: &[u8], text: &[u8]) -> Vec<u8> {
    let types = cstr(body).map_or(&b""[..], |(_, types)| types);
    [text, b"\0", types].concat()
}
