//! Settings that speak to us (`turnpike.route`): servers keep them like any other, and are sent what they can take. What
//! makes no sense is refused in a server's place, as PostgreSQL refuses what no setting of its own can be.

use super::batch::Batch;
use super::expect::Expect;
use super::run::Client;
use super::way::PREFIX;
use crate::config::{Directions, ROUTES, Route, SAYABLE, Unsayable};
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
        if let Some(key) = custom.shown.as_deref().filter(|key| SAYABLE.contains(key)) {
            return Some(Said::Otherwise(self.shown(key).into_bytes()));
        }
        if let Some(refused) = custom.given.iter().find_map(|given| self.refused(given)) {
            return Some(Said::Refused(refused));
        }
        custom::quoted(text, &custom).map(Said::Otherwise)
    }

    /// The query that tells what the session has for a setting: what holds without it, if nothing.
    fn shown(&self, key: &str) -> String {
        let mut sql = String::from("SELECT COALESCE(NULLIF(pg_catalog.current_setting(");
        let name = format!("{PREFIX}{key}");
        quote(&mut sql, &name);
        sql.push_str(", true), ''), ");
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
        let value = base.said().into_iter().find(|(known, _)| *known == key).map(|(_, value)| value);
        quote(&mut sql, &value.unwrap_or_default());
        sql.push_str(&format!(") AS \"{name}\""));
        sql
    }

    /// Why a value cannot be given (guc.c, `parse_and_validate_value`).
    fn refused(&self, given: &Given) -> Option<Error> {
        let course = self.course.as_ref()?;
        let Given { key, value, .. } = given;
        let mut said = Directions::default();
        let hint = match said.say(key, value) {
            // Nothing is said by it, which is how servers forget.
            _ if value.is_empty() => return None,
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
