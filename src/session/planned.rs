//! Plans as a session sees them: looked up under what its texts mean to it, and again when that has changed.

use super::run::Client;
use crate::plan::build::is_ambiguous;
use crate::plan::store::Scope;
use crate::plan::{Held, Home, Reading};
use crate::sql::effect::{self, Traces};
use crate::wire::message::cstr;

/// How a session's texts are read. Found out anew when its settings have changed.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    place: u64,
    reading: Reading,
}

impl Client {
    fn reading(&mut self) -> Place {
        if let Some(known) = self.reading {
            return known;
        }
        let own = |name: &str| {
            let set = self.settings.get(name).or_else(|| self.wish.class.get(name)).map(str::to_string);
            set.or_else(|| self.pool.welcomes.reports(name)).unwrap_or_default()
        };
        let (path, role) = (own("search_path"), own("role"));
        let purpose = &self.pool.purpose;
        let parts = [self.pool.target.name(), &purpose.dbname, &purpose.server_user, &path, &role];
        let reading = Reading {
            conforming: own("standard_conforming_strings") != "off",
            is_ambiguous: is_ambiguous(&own("client_encoding")),
        };
        *self.reading.insert(Place { place: self.shared.planner.store.place(&parts), reading })
    }

    /// The plan of a text.
    pub fn plan(&mut self, text: &[u8]) -> Held {
        let Place { place, reading } = self.reading();
        let pool = &self.pool;
        let scope = Scope { place, generation: pool.schema.generation() };
        let home = || Home { database: pool.purpose.database.clone(), backend: pool.target.name().into() };
        self.shared.planner.plan(text, reading, scope, home)
    }

    /// The plan of the body of a Parse.
    pub fn plan_of(&mut self, body: &[u8]) -> Option<Held> {
        cstr(body).map(|(text, _)| self.plan(text))
    }

    /// The plan that a prepared statement has now: another one where objects have changed since.
    #[inline]
    pub fn current(&mut self, plan: Option<Held>, body: &[u8]) -> Option<Held> {
        match plan {
            Some(plan) if plan.generation == self.pool.schema.generation() => Some(plan),
            Some(_) => self.plan_of(body),
            None => None,
        }
    }

    /// What a text may leave behind. Strings with backslashes may be read otherwise than the session now thinks, where
    /// a change of that is under way.
    #[inline]
    pub fn traces(&self, plan: &Held, text: &[u8]) -> Traces {
        if text.contains(&b'\\') { plan.traces.and(effect::scan(text)) } else { plan.traces }
    }
}
