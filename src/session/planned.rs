//! Plans as a session sees them: looked up under what its texts mean to it, and again when that has changed.

use super::run::Client;
use crate::catalog::SearchPath;
use crate::core::clock::Instant;
use crate::plan::build::is_ambiguous;
use crate::plan::store::Scope;
use crate::plan::{Held, Home, Names, Reading};
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
        let own = |name: &str| self.own(name).unwrap_or_default();
        let (path, role) = (own("search_path"), own("role"));
        let purpose = &self.pool.purpose;
        let (path, role) = if self.blurred { ("\0", "") } else { (path.as_str(), role.as_str()) };
        let reading = Reading {
            conforming: own("standard_conforming_strings") != "off",
            is_ambiguous: is_ambiguous(&own("client_encoding")),
        };
        let letters = if reading.is_ambiguous { "ambiguous" } else { "" };
        let parts = [self.pool.target.name(), &purpose.dbname, &purpose.server_user, path, role, letters];
        *self.reading.insert(Place { place: self.shared.planner.store.place(&parts), reading })
    }

    /// The plan of a text. Behind changes of objects that have not been committed, the catalog is not true for the
    /// session that has made them: it knows nothing then.
    pub fn plan(&mut self, text: &[u8]) -> Held {
        let Place { place, reading } = self.reading();
        let view = self.pool.schema.view();
        self.pool.schema.touch();
        let alone = self.doubts.as_ref().is_some_and(|doubts| doubts.objects);
        let scope = Scope { place, generation: if alone { !view } else { view } };
        let pool = &self.pool;
        let home = || {
            let path = self.own("search_path");
            let path = path.or_else(|| pool.default("search_path").map(str::to_string));
            let role =
                self.own("role").filter(|role| role != "none").unwrap_or(pool.purpose.server_user.clone());
            if self.shared.config.load().plan.catalog {
                pool.schema.want(pool, Instant::now());
            }
            let catalog = pool.schema.catalog(view).filter(|_| !alone);
            let path = path.or_else(|| catalog.as_ref().map(|c| c.settings().search_path.to_string()));
            let names = Names { database: pool.purpose.database.clone(), backend: pool.target.name().into() };
            let path = path.filter(|_| !self.blurred);
            Home { names, catalog, path: path.and_then(|path| SearchPath::parse(&path, &role).ok()) }
        };
        self.shared.planner.plan(text, reading, scope, home)
    }

    /// What the session has for a setting, as far as it or the server has said.
    fn own(&self, name: &str) -> Option<String> {
        let set = self.settings.get(name).or_else(|| self.wish.class.get(name)).map(str::to_string);
        set.or_else(|| self.pool.welcomes.reports(name))
    }

    /// The plan of the body of a Parse.
    pub fn plan_of(&mut self, body: &[u8]) -> Option<Held> {
        cstr(body).map(|(text, _)| self.plan(text))
    }

    /// The plan of its unnamed statement.
    #[inline]
    pub fn unnamed_plan(&mut self) -> Option<Held> {
        let unnamed = self.names.unnamed.as_ref()?;
        match &unnamed.plan {
            Some(plan) if self.is_current(plan) => Some(plan.clone()),
            _ => self.plan_of(&unnamed.body.clone()?),
        }
    }

    /// Whether a plan is still what would be decided now.
    #[inline]
    pub fn is_current(&self, plan: &Held) -> bool {
        self.pool.schema.touch();
        plan.generation == self.pool.schema.view()
    }

    /// What a text may leave behind. While it is not known how the session's strings are read, it may be either way.
    #[inline]
    pub fn traces(&self, plan: &Held, text: &[u8]) -> Traces {
        if self.blurred && text.contains(&b'\\') { plan.traces.and(effect::scan(text)) } else { plan.traces }
    }
}
