//! Plans as a session sees them: looked up under what its texts mean to it, and again when that has changed.

use std::sync::Arc;

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

/// What a text is read under.
struct Under {
    reading: Reading,
    scope: Scope,
    /// Of the objects, as all sessions see them.
    view: u64,
    /// The session has changed objects that others do not see yet.
    alone: bool,
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

    /// What a text is read under now. Behind changes of objects that have not been committed, the catalog is not true
    /// for the session that has made them: it knows nothing then.
    #[inline]
    fn under(&mut self) -> Under {
        let Place { place, reading } = self.reading();
        let view = self.pool.schema.view();
        self.pool.schema.touch();
        let alone = self.doubts.as_ref().is_some_and(|doubts| doubts.objects);
        Under { reading, scope: Scope { place, generation: if alone { !view } else { view } }, view, alone }
    }

    /// What a plan is made from besides its text.
    fn home(&self, view: u64, alone: bool) -> Home {
        let pool = &self.pool;
        let path = self.own("search_path");
        let path = path.or_else(|| pool.default("search_path").map(str::to_string));
        let role = self
            .own("role")
            .filter(|role| role != "none")
            .unwrap_or_else(|| pool.purpose.server_user.clone());
        self.want_catalog();
        let catalog = pool.schema.catalog(view).filter(|_| !alone);
        let login = &pool.purpose.server_user;
        let path = path.or_else(|| catalog.as_ref().and_then(|c| c.search_path(login)).map(str::to_string));
        let names = Names { database: pool.purpose.database.clone(), backend: pool.target.name().into() };
        let path = path.filter(|_| !self.blurred);
        // They are known together with the catalog.
        let suspects = pool.schema.functions.known(Instant::now()).clone();
        Home { names, catalog, path: path.and_then(|path| SearchPath::parse(&path, &role).ok()), suspects }
    }

    /// Has the catalog read, where that is due and wanted at all.
    pub fn want_catalog(&self) {
        if self.shared.config.load().plan.catalog {
            self.pool.schema.want(&self.pool, Instant::now());
        }
    }

    /// The plan of a text.
    pub fn plan(&mut self, text: &[u8]) -> Held {
        let Under { reading, scope, view, alone } = self.under();
        self.shared.planner.plan(text, reading, scope, || self.home(view, alone))
    }

    /// The plan of a text, where there is one.
    pub fn find_plan(&mut self, text: &[u8]) -> Option<Held> {
        let Under { reading, scope, .. } = self.under();
        self.shared.planner.store.find(text, reading.conforming, scope)
    }

    /// As [`Client::plan`], on another thread. `None` where that has failed.
    pub async fn plan_aside(&mut self, text: Arc<[u8]>) -> Option<(Held, Scope)> {
        let shared = self.shared.clone();
        let _turn = shared.planner.aside.acquire().await.ok()?;
        let Under { reading, scope, view, alone } = self.under();
        let (shared, home) = (self.shared.clone(), self.home(view, alone));
        // Here, not there: each thread that counts has a part of its own for good, and those come and go.
        shared.planner.store.lookups.count();
        let made = move || shared.planner.plan_aside(&text, reading, scope, home);
        tokio::task::spawn_blocking(made).await.ok().map(|plan| (plan, scope))
    }

    /// Whether texts are still read as they were then.
    pub fn is_under(&mut self, scope: Scope) -> bool {
        self.under().scope == scope
    }

    /// What the session has for a setting, as far as it or the server has said.
    pub(super) fn own(&self, name: &str) -> Option<String> {
        let set = self.settings.get(name).or_else(|| self.wish.class.get(name)).map(str::to_string);
        set.or_else(|| self.pool.welcomes.reports(name))
    }

    /// Whether what it is sent is in UTF-8.
    pub fn is_utf8(&self) -> bool {
        self.own("client_encoding")
            .is_none_or(|encoding| encoding.replace('-', "").eq_ignore_ascii_case("utf8"))
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
            && plan.serial == self.shared.planner.store.serial()
            && self.reading.is_some_and(|known| known.place == plan.place)
    }

    /// What a text may leave behind in the session of whoever prepares it: others may read its strings otherwise.
    pub fn shared_traces(plan: &Held, text: &[u8]) -> Traces {
        if text.contains(&b'\\') { plan.traces.and(effect::scan(text)) } else { plan.traces }
    }

    /// What a text may leave behind. While it is not known how the session's strings are read, it may be either way.
    #[inline]
    pub fn traces(&self, plan: &Held, text: &[u8]) -> Traces {
        if self.blurred && text.contains(&b'\\') { plan.traces.and(effect::scan(text)) } else { plan.traces }
    }
}
