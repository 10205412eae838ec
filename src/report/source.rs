//! What a report depends on: its tables, by the plan of its query; whether any of them has been written; and which server
//! has seen all that was.

use std::sync::Arc;
use std::time::Duration;

use super::elsewhere::Elsewhere;
use crate::cache::strict::Seen;
use crate::catalog::SearchPath;
use crate::cluster::{Cluster, Member, Need};
use crate::config::{Config, Consistency, Report, Routing};
use crate::core::clock::Instant;
use crate::fence::versions::{Stamp, Versions};
use crate::plan::store::Scope;
use crate::plan::touch::Reach;
use crate::plan::{Class, Home, Names, Reading};
use crate::pool::connect::Target;
use crate::pool::pool::Pool;
use crate::pool::term::Term;
use crate::session::shared::Shared;

/// Longest that a first request waits for the catalog to be read.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a report is read from, as of some state of the catalog.
#[derive(Clone, Debug)]
pub struct Source {
    /// The tables.
    pub reach: Reach,
    /// The tag of each table, in the order of `reach`; or of the whole database, where the tables are not known.
    pub tags: Vec<String>,
    /// Whether any server that has the data may be asked.
    pub anywhere: bool,
    /// What it was found out under.
    under: (u64, u64),
    pool: Arc<Pool>,
    cluster: Option<Arc<Cluster>>,
    versions: Option<Arc<Versions>>,
    elsewhere: Elsewhere,
}

/// What a result is as of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsOf {
    stamp: Stamp,
    under: (u64, u64),
    term: Term,
    /// Of what the server tells of writers elsewhere.
    outside: Option<Stamp>,
    /// Of what other processes tell.
    seen: Option<Seen>,
}

/// Who is asked.
pub enum Asked {
    /// A replica that has seen enough.
    Replica(Arc<Member>),
    /// Whoever has the newest.
    Home(Arc<Target>),
}

impl Asked {
    /// The server.
    pub fn target(&self) -> &Arc<Target> {
        match self {
            Asked::Replica(member) => &member.target,
            Asked::Home(target) => target,
        }
    }
}

/// What a text may be in a tag: everything else is written as in a URL. Tags are parted by spaces and commas, and some
/// stand in regular expressions.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The tag of everything of a database.
pub fn database_tag(database: &str) -> String {
    format!("db:{}", plain(database))
}

/// The tag of a report, whatever is asked of it.
pub fn report_tag(report: &str) -> String {
    format!("report:{}", plain(report))
}

/// The tag of a table.
fn table_tag(database: &str, schema: &str, table: &str) -> String {
    format!("table:{}:{}:{}", plain(database), plain(schema), plain(table))
}

impl Source {
    /// Of a report; its catalog is waited for, for a while. `None` where its database is gone.
    pub async fn find(shared: &Shared, report: &Report) -> Option<Source> {
        let config = shared.config.load_full();
        let pool = pool(shared, &config, report)?;
        if config.plan.catalog && !pool.schema.is_known() {
            pool.schema.want(&pool, Instant::now());
            let _ = tokio::time::timeout(PATIENCE, pool.schema.settled()).await;
        }
        Source::look(shared, report)
    }

    /// Of a report, by what is known now.
    pub fn look(shared: &Shared, report: &Report) -> Option<Source> {
        let config = shared.config.load_full();
        let pool = pool(shared, &config, report)?;
        if config.plan.catalog {
            pool.schema.touch();
            pool.schema.want(&pool, Instant::now());
        }
        let (view, serial) = (pool.schema.view(), shared.planner.store.serial());
        let catalog = pool.schema.catalog(view);
        let purpose = &pool.purpose;
        // Nobody's session: what sessions have set is not in it.
        let parts = [pool.target.name(), &purpose.dbname, &purpose.server_user, "\0report"];
        let scope = Scope { place: shared.planner.store.place(&parts), generation: view };
        let home = || {
            let path = pool.default("search_path").map(str::to_string);
            let known = || catalog.as_ref()?.search_path(&purpose.server_user).map(str::to_string);
            let path = path.or_else(known).and_then(|p| SearchPath::parse(&p, &purpose.server_user).ok());
            let names = Names { database: purpose.database.clone(), backend: pool.target.name().into() };
            Home { names, catalog: catalog.clone(), path, suspects: None }
        };
        let reading = Reading { conforming: true, is_ambiguous: false };
        let plan = shared.planner.plan(report.sql.as_bytes(), reading, scope, home);
        let reach = plan.touches.reads.clone();
        let named = |oid: u32| {
            let catalog = catalog.as_ref()?;
            let relation = catalog.relation_by_oid(oid)?;
            let schema = catalog.schema_by_oid(relation.schema)?;
            Some(table_tag(&report.database, &schema.name, &relation.name))
        };
        let (reach, tags) = match &reach {
            Reach::Tables(tables) if catalog.is_some() && tables.iter().all(|t| named(*t).is_some()) => {
                (reach.clone(), tables.iter().filter_map(|oid| named(*oid)).collect())
            }
            _ => (Reach::Anything, vec![database_tag(&report.database)]),
        };
        let versions = shared.cache.as_ref().map(|cache| cache.versions.of(&purpose.dbname));
        let database = config.database(&report.database)?;
        let cluster = database.cluster.as_ref().and_then(|name| shared.clusters.get(name));
        let (anywhere, under) = (plan.class == Class::Read, (view, serial));
        let elsewhere = Elsewhere::of(shared, &config, database);
        Some(Source { reach, tags, anywhere, under, cluster, versions, elsewhere, pool: pool.clone() })
    }

    /// Whether it is what would be found out now.
    pub fn is_current(&self, shared: &Shared) -> bool {
        self.under == (self.pool.schema.view(), shared.planner.store.serial())
    }

    /// What is read from now on is as of. `None` where something is being written to its tables, or that is not known.
    pub async fn as_of(&self) -> Option<AsOf> {
        let versions = self.versions.as_ref()?;
        // In this order: by what is known here when it is given, nothing has happened.
        let seen = self.elsewhere.look(&self.reach).await?;
        let outside = self.elsewhere.stamp(&self.reach)?;
        let stamp = match &self.reach {
            // Which tables those are, only a catalog can say that is not older than what there is.
            Reach::Tables(_) if !self.pool.schema.is_since(self.defined()) => return None,
            Reach::Tables(tables) => versions.stamp(tables)?,
            Reach::Anything => versions.stamp_all()?,
        };
        Some(AsOf { stamp, under: self.under, term: self.term()?, outside, seen })
    }

    /// When definitions may last have become others.
    fn defined(&self) -> Option<Instant> {
        self.versions.as_ref().and_then(|versions| versions.defined()).max(self.elsewhere.defined())
    }

    /// Has the catalog read again where what is known of it may be untrue: until then nothing can be vouched for.
    pub fn nudge(&self) {
        self.pool.schema.want_since(self.defined(), &self.pool, Instant::now());
    }

    /// Whether a result that is as of then is what would be read now.
    pub async fn is_of_now(&self, shared: &Shared, as_of: &AsOf) -> bool {
        self.is_current(shared) && self.as_of().await.is_some_and(|now| now == *as_of)
    }

    /// How often other processes have written to its tables, as far as that can be known now.
    pub async fn marks(&self) -> Option<Seen> {
        self.elsewhere.marks(&self.reach).await
    }

    /// Who takes writes; 0 without a cluster. `None` where nobody does.
    fn term(&self) -> Option<Term> {
        match &self.cluster {
            None => Some(crate::pool::term::NONE),
            Some(cluster) => cluster.leader().map(|(_, term)| term),
        }
    }

    /// How often what each tag is about has been written, in their order, and who takes writes.
    pub fn moves(&self) -> (Vec<u64>, Option<Term>) {
        let Some(versions) = &self.versions else { return (Vec::new(), None) };
        // Both only grow, and so does their sum.
        let of = |table: u32| versions.moves(&[table]).wrapping_add(self.elsewhere.moves(Some(table)));
        let moves = match &self.reach {
            Reach::Tables(tables) => tables.iter().map(|table| of(*table)).collect(),
            Reach::Anything => vec![versions.all_moves().wrapping_add(self.elsewhere.moves(None))],
        };
        (moves, self.term())
    }

    /// The server to ask: a replica that has seen all that was written through this process, and all that is known to have been
    /// written elsewhere, where there is one.
    ///
    /// # Errors
    /// Why there is nobody.
    pub fn target(&self, shared: &Shared, report: &Report) -> Result<Asked, String> {
        let config = shared.config.load();
        let database = config.database(&report.database).ok_or("its database is gone")?;
        if let Some(cluster) = self.cluster.as_ref().filter(|_| self.anywhere && !self.elsewhere.is_strict())
        {
            let fences = cluster.fences(&self.pool.purpose.dbname);
            let fence = match &self.reach {
                Reach::Tables(tables) => fences.fence(tables.iter().copied()),
                Reach::Anything => fences.highest(),
            };
            let routing = Routing { consistency: Consistency::Global, ..database.routing.clone() };
            let found = self.elsewhere.found();
            let has = |member: &Arc<Member>| found < cluster.clock.taken(member.passed.get());
            let chosen = cluster.choose_reader(&Need::of(&routing, fence), Instant::now());
            if let Some(member) = chosen.filter(|member| found.is_none() || has(member)) {
                return Ok(Asked::Replica(member));
            }
        }
        self.home(shared, report)
    }

    /// Who has the newest.
    ///
    /// # Errors
    /// Why there is nobody.
    pub fn home(&self, shared: &Shared, report: &Report) -> Result<Asked, String> {
        let Some(cluster) = &self.cluster else {
            let config = shared.config.load();
            let database = config.database(&report.database).ok_or("its database is gone")?;
            return Ok(Asked::Home(shared.pools.target(database)));
        };
        let none = || format!("cluster \"{}\" has no primary", cluster.name());
        Ok(Asked::Home(cluster.primary().ok_or_else(none)?.target.clone()))
    }

    /// The database's name on its servers.
    pub fn dbname(&self) -> &str {
        &self.pool.purpose.dbname
    }
}

/// The pool of who asks where the database is written to: none of its connections is used, but what it knows.
fn pool(shared: &Shared, config: &Config, report: &Report) -> Option<Arc<Pool>> {
    let database = config.database(&report.database)?;
    let pool = shared.pools.pool(config, database, (&report.database, &report.user), None);
    Some(shared.pools.home(&pool).unwrap_or(pool))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_plain_words() {
        assert_eq!(table_tag("a b", "public", "x,y|.*"), "table:a%20b:public:x%2Cy%7C%2E%2A");
        assert_eq!(report_tag("by-day"), "report:by-day");
        assert_ne!(table_tag("a", "b:c", "d"), table_tag("a", "b", "c:d"));
    }
}
