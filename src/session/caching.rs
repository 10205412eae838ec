//! What a session of a process that keeps results knows of that: whose results it may be given, and what it writes.

use std::pin::Pin;
use std::sync::Arc;

use super::opening::DEFAULT_ISOLATION;
use super::past;
use super::run::Client;
use super::shared::Shared;
use super::sharing::Peeked;
use super::warming::Asking;
use super::warmth::Who;
use super::way::PREFIX;
use super::within::Within;
use crate::cache::Cache;
use crate::cache::key::{self, Context, Form, may_tell_time};
use crate::cache::l1::{Found, Moment, Why};
use crate::cache::outside::Outside;
use crate::cache::past::Past;
use crate::cache::policy::{RuleSet, Terms};
use crate::cache::strict::{Board, Gate, Seen};
use crate::config::{CacheAsk, CacheMode, SAYABLE, Writers};
use crate::core::clock::Instant;
use crate::fence::versions::{Row, Versions, Written};
use crate::plan::Held;
use crate::plan::kept::AsksSettings;
use crate::plan::rules::Rules;
use crate::plan::touch::{Defines, Reach};
use crate::pool::pool::Pool;
use crate::pool::purpose::Purpose;
use crate::pool::settings::{APPLICATION_NAME, Settings};
use crate::pool::term;

/// Whether a setting makes no difference but to who asks for it by its name: the application's, and those of ours that
/// are words to us alone. All others count, also ours: servers have them, and a policy may read `turnpike.tenant`.
fn is_by_name(name: &str) -> bool {
    const ONLY_OURS: &[&str] = &[CACHE, "priority"];
    let ours = |key: &str| SAYABLE.contains(&key) || ONLY_OURS.contains(&key);
    name == APPLICATION_NAME || name.strip_prefix(PREFIX).is_some_and(ours)
}

/// The setting that asks something of the cache.
pub(super) const CACHE: &str = "cache";

/// See the module. Every session has one, whether a rule matches it or not: all must tell what they write.
#[derive(Debug)]
pub struct Caching {
    pub(super) cache: Arc<Cache>,
    pub(super) versions: Arc<Versions>,
    pub(super) within: Within,
    /// It is no client's, but asks to have results again.
    pub(super) warming: Option<Arc<Asking>>,
    /// What opens before anything may be sent: others are being told of what this session is about to write.
    gates: Vec<Gate>,
    /// What has just been found outside of the process, under which key.
    pub(super) peeked: Option<(u128, Peeked)>,
    known: Option<Known>,
}

/// What follows from a session's settings and the configuration.
#[derive(Debug)]
struct Known {
    settings: Arc<Settings>,
    class: Arc<Settings>,
    epoch: u64,
    view: u64,
    rules: Arc<Rules>,
    matched: RuleSet,
    asks: Option<CacheAsk>,
    writers_pass: bool,
    /// What is known of those who write elsewhere, where somebody tells.
    outside: Option<Arc<Outside>>,
    /// Where other processes are told of writes, where they rely on that.
    board: Option<Arc<Board>>,
    /// What another process may have left, where nobody else tells of that.
    past: Option<Arc<Past>>,
    context: Context,
    /// The same for results that depend on settings which are asked for by their names.
    named: Context,
}

/// What holds for a statement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) terms: Terms,
    pub(super) context: Context,
}

impl Caching {
    /// For a session of `pool`, if this process keeps results.
    pub(super) fn of(shared: &Shared, pool: &Pool) -> Option<Box<Caching>> {
        let cache = shared.cache.clone()?;
        Some(Box::new(Caching {
            versions: cache.versions.of(&pool.purpose.dbname),
            cache,
            within: Within::default(),
            warming: None,
            gates: Vec::new(),
            peeked: None,
            known: None,
        }))
    }

    /// What holds for the statement of a plan. `None` where its results are not to be kept.
    #[inline]
    pub(super) fn asked(&self, plan: &Held) -> Option<Asked> {
        let known = self.known.as_ref()?;
        if plan.cache.rules & known.matched == 0 || plan.serial != known.rules.serial {
            return None;
        }
        let asks = plan.cache.asks.or(known.asks);
        let all_told = known.writers_pass || known.outside.is_some();
        let terms = known.rules.cache.terms(known.matched, plan.cache.rules, asks, all_told)?;
        let unchosen = || terms.auto && !plan.cache.is_chosen();
        if plan.cache.foreign && terms.mode != CacheMode::Bounded || unchosen() {
            return None;
        }
        let context = match plan.cache.asks_settings {
            AsksSettings::No => known.context,
            AsksSettings::Perhaps | AsksSettings::Yes => known.named,
        };
        Some(Asked { terms, context })
    }

    /// What is known of writers elsewhere, where what is given must be as fresh as that.
    #[inline]
    pub(super) fn outside(&self, mode: CacheMode) -> Option<&Outside> {
        let outside = self.known.as_ref()?.outside.as_deref();
        outside.filter(|_| mode.is_exact())
    }

    /// Where it is looked at what other processes are about to write, where what is given must be as fresh as that.
    #[inline]
    pub(super) fn board(&self, mode: CacheMode) -> Option<&Arc<Board>> {
        self.known.as_ref()?.board.as_ref().filter(|_| mode == CacheMode::Strict)
    }

    /// What another process may have left that has to be over, where what is given must be as fresh as that.
    #[inline]
    fn past(&self, mode: CacheMode) -> Option<&Past> {
        self.known.as_ref()?.past.as_deref().filter(|_| mode == CacheMode::Exact)
    }

    /// Whether anything may be sent: whoever relies on being told of it has been told.
    pub(super) fn poll_gates(&mut self, cx: &mut std::task::Context<'_>) -> bool {
        // One whose other side is gone is open as well.
        self.gates.retain_mut(|gate| Pin::new(gate).poll(cx).is_pending());
        self.gates.is_empty()
    }

    /// What is known of writers elsewhere, where other processes may find a result that is as fresh as that.
    pub(super) fn outside_of(&self, mode: CacheMode) -> Option<&Arc<Outside>> {
        let outside = self.known.as_ref()?.outside.as_ref();
        outside.filter(|_| mode == CacheMode::Exact)
    }

    /// Whether what is there is to be read again nevertheless.
    #[inline]
    pub(super) fn renews(&self) -> bool {
        self.warming.as_ref().is_some_and(|asking| asking.renews)
    }

    /// What there is outside of the process of what memory has not, for people.
    fn beyond(&self, terms: &Terms, hash: u128) -> &'static str {
        let Some(remote) = self.cache.remote().filter(|_| terms.remote) else { return "" };
        match self.peeked.filter(|(of, _)| *of == hash) {
            Some((_, Peeked::There)) => " in memory, and Redis has it",
            Some((_, Peeked::Outdated)) => ", and what Redis has is outdated",
            Some((_, Peeked::Broken)) => ", and what Redis has cannot be opened",
            Some((_, Peeked::Nothing)) => ", also in Redis",
            None if remote.is_there() => ", and Redis has not said whether it has it",
            None => ", and Redis is not there",
        }
    }

    /// Whether any rule matches the session.
    #[inline]
    pub(super) fn is_wanted(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.matched != 0)
    }
}

impl Client {
    /// Marks what a statement that is about to be sent may write: this row, where its plan says that it writes one.
    pub(super) fn mark_written(&mut self, plan: Option<&Held>, row: Option<Row>) {
        self.settle_caching();
        let (Some(caching), Some(server)) = (&mut self.caching, &mut self.lease) else { return };
        let schema = &self.pool.schema;
        let touches = plan.map(|plan| &plan.touches);
        let is_current = || plan.is_some_and(|plan| plan.generation == schema.view());
        caching.within.sends(plan.filter(|plan| plan.control.is_some() || is_current()));
        let only_reads = plan.is_some_and(|plan| plan.is_nothing_but_reading());
        if only_reads && touches.is_some_and(|t| !t.calls) && is_current() {
            return;
        }
        let board = caching.known.as_ref().and_then(|known| known.board.as_ref());
        let era = board.map_or(0, |board| board.era());
        // In this order: who changes definitions after that waits for what is under way now.
        let marks = server.marks(&caching.versions);
        let current = is_current();
        if current && only_reads {
            return;
        }
        let written = match touches {
            Some(touches) if touches.defines == Defines::Objects => Written::Definitions,
            // What it does besides is as little known.
            _ if plan.is_some_and(|plan| plan.is_of_primary()) => Written::Perhaps,
            Some(touches) if current && touches.defines == Defines::Nothing => match &touches.writes {
                Reach::Tables(tables) if schema.is_since(caching.versions.defined()) => {
                    match (&touches.row, row) {
                        (Some(key), Some(row)) => Written::Row(key.table, row),
                        _ => Written::Tables(tables),
                    }
                }
                _ => Written::Anything,
            },
            _ => Written::Perhaps,
        };
        marks.add(written);
        if let (Some(board), Some((id, slots, anything))) = (board, marks.untold()) {
            let (id, gate) = board.begin(id, era, &slots, anything);
            marks.told(board, id);
            caching.gates.push(gate);
        }
    }

    /// Finds out whose results the session may be given, where that has changed.
    pub(super) fn settle_caching(&mut self) {
        let Some(caching) = &self.caching else { return };
        let (epoch, serial) = (caching.cache.epoch(), self.shared.planner.store.serial());
        // The catalog may say what the session's role asks for.
        let view = self.pool.schema.view();
        let is_known = |known: &Known| {
            Arc::ptr_eq(&known.settings, &self.settings)
                && Arc::ptr_eq(&known.class, &self.wish.class)
                && (known.epoch, known.rules.serial, known.view) == (epoch, serial, view)
        };
        if caching.known.as_ref().is_some_and(is_known) {
            return;
        }
        let known = self.find_out(&caching.cache, epoch, view);
        if known.matched != 0 && !self.tenancy.has_claims() && self.pool.purpose.tenant.is_none() {
            let pairs = |all: &Settings| all.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
            let Purpose { database, user, .. } = &self.pool.purpose;
            let (database, user) = (database.clone(), user.clone());
            let (class, settings) = (pairs(&self.wish.class), pairs(&self.settings));
            let who = Arc::new(Who { database, user, class, settings });
            self.shared.warmth.note([known.context, known.named], &who);
        }
        if let Some(caching) = &mut self.caching {
            caching.known = Some(known);
        }
    }

    fn find_out(&self, cache: &Cache, epoch: u64, view: u64) -> Known {
        let rules = self.shared.planner.rules();
        let purpose = &self.pool.purpose;
        let matched = rules.cache.of_session(&purpose.user, &purpose.database);
        if matched != 0 && self.pool.default(DEFAULT_ISOLATION).is_none() {
            // Transactions that do not say what they are will be begun.
            self.pool.want_defaults();
        }
        let asks = self.asks_cache(view).and_then(|value| CacheAsk::read(&value));
        let config = self.shared.config.load();
        let database = config.database(&purpose.database);
        let declared = database.is_some_and(|d| d.writers == Writers::Proxy);
        let told = database.is_some_and(|d| d.invalidation.is_told());
        // What a standby replays, no session of ours has written there.
        let standby =
            self.course.is_none() && self.pool.welcomes.reports("in_hot_standby").is_some_and(|v| v != "off");
        let place = self.stands_at();
        // One that others have come to rely on is told for good.
        let here = |(name, dbname, _): &(String, String, String)| name == place && *dbname == purpose.dbname;
        let board = match config.strict_places().any(|at| here(&at)) {
            true => Some(cache.board(place, &purpose.dbname)),
            false => cache.boards.get(place, &purpose.dbname),
        };
        let board = board.filter(|_| !standby);
        let past = (matched != 0 && declared && !told && !standby).then(|| self.past_of(cache));
        let (context, named) = match matched {
            0 => (0, 0),
            _ => {
                let mut parts = self.whose();
                let context = cache.contexts.of(parts.iter().copied());
                parts.extend(self.by_name());
                (context, cache.contexts.of(parts))
            }
        };
        Known {
            settings: self.settings.clone(),
            class: self.wish.class.clone(),
            epoch,
            view,
            rules,
            matched,
            asks,
            writers_pass: declared && !standby,
            outside: (told && !standby).then(|| cache.outsides.of(place, &purpose.dbname)),
            board,
            past,
            context,
            named,
        }
    }

    /// What another process may have left where its database is written, which somebody is asked about from now on.
    fn past_of(&self, cache: &Cache) -> Arc<Past> {
        let home = self.course.as_ref().map_or(&self.pool, |course| &course.home);
        let past = cache.pasts.of(self.stands_at(), &self.pool.purpose.dbname);
        if past.takes_asking() {
            past::look(&self.shared, home, past.clone());
        }
        past
    }

    /// What it asks of the cache, in the catalog's words where it has said nothing itself.
    fn asks_cache(&self, view: u64) -> Option<String> {
        let name = format!("{PREFIX}{CACHE}");
        self.own(&name).or_else(|| {
            let catalog = self.pool.schema.catalog(view)?;
            catalog.setting(&self.pool.purpose.server_user, &name).map(str::to_string)
        })
    }

    /// Where its database is: a backend or a cluster.
    pub(super) fn stands_at(&self) -> &str {
        self.course.as_ref().map_or(self.pool.target.name(), |course| course.cluster.name())
    }

    /// Whose results it is given: all that they can depend on beside the statement, but for what takes asking for it by its
    /// name.
    pub(super) fn whose(&self) -> Vec<&str> {
        let purpose = &self.pool.purpose;
        let who = [&purpose.database, &purpose.user, &purpose.dbname, &purpose.server_user];
        let mut parts: Vec<&str> = who.map(String::as_str).into();
        parts.push(self.stands_at());
        parts.extend(self.settings_that(|name| !is_by_name(name)));
        parts
    }

    /// What else results depend on that ask for settings by their names.
    pub(super) fn by_name(&self) -> Vec<&str> {
        self.settings_that(is_by_name)
    }

    fn settings_that(&self, counts: impl Fn(&str) -> bool) -> Vec<&str> {
        let mut parts = Vec::new();
        for all in [self.wish.class.iter(), self.settings.iter()] {
            parts.extend(all.filter(|(name, _)| counts(name)).flat_map(|(name, value)| [name, value]));
            // No name is empty.
            parts.push("");
        }
        parts
    }

    /// The timeline of the primary; 0 without a cluster. `None` where there is no primary that is known.
    pub(super) fn leading(&self) -> Option<term::Term> {
        match &self.course {
            None => Some(term::NONE),
            Some(course) => course.cluster.leader().map(|(_, term)| term),
        }
    }

    /// What is known of now, for results that are read from a plan's tables. `None` where it cannot be shown that what
    /// is known is what there is.
    pub(super) fn moment<'a>(
        &self,
        caching: &'a Caching,
        plan: &'a Held,
        mode: CacheMode,
        seen: Option<Seen>,
    ) -> Option<Moment<'a>> {
        let (schema, versions) = (&self.pool.schema, &*caching.versions);
        let outside = caching.outside(mode);
        if caching.past(mode).is_some_and(|past| !past.is_over()) {
            return None;
        }
        if !schema.is_since(versions.defined()) || !schema.is_since(outside.and_then(Outside::defined)) {
            return None;
        }
        let (view, serial) = (schema.view(), self.shared.planner.store.serial());
        // What it was planned under says which tables those are.
        if (plan.generation, plan.serial) != (view, serial) {
            return None;
        }
        let (tables, row, term, shape) =
            (plan.touches.reads.tables(), None, self.leading()?, plan.fingerprint);
        Some(Moment { versions, tables, row, view, serial, term, outside, seen, shape })
    }

    /// Has the catalog read again where objects may have become others since.
    pub(super) fn want_defined(&self, caching: &Caching, mode: CacheMode, now: Instant) {
        let outside = caching.outside(mode).and_then(Outside::defined);
        self.pool.schema.want_since(caching.versions.defined().max(outside), &self.pool, now);
    }

    /// What the cache has for a statement, or why nothing, for people. Empty where results are not kept at all.
    pub(super) fn caches(&self, plan: &Held, text: Option<&[u8]>) -> String {
        let Some(caching) = &self.caching else { return String::new() };
        let cache = &caching.cache;
        let Some(Asked { terms, context }) = caching.asked(plan) else {
            return match &plan.cache.refused {
                _ if !caching.is_wanted() => "no, since no [[cache]] rule matches the session".into(),
                Some(refused) => format!("no, since {refused}"),
                None if plan.cache.foreign => {
                    "no, since it reads from a foreign server, which takes a rule with mode = \"bounded\""
                        .into()
                }
                None => self.unchosen(plan).unwrap_or("no, since no [[cache]] rule says so of it".into()),
            };
        };
        let rule = self.shared.planner.rules().cache.name(terms.rule);
        if let Some(refused) = &plan.cache.refused {
            return format!("no, since {refused} ({rule})");
        }
        if let Some(why) = self.why_uncached(plan) {
            return format!("not now, since {why} ({rule})");
        }
        let now = Instant::now();
        let outside = caching.outside(terms.mode);
        if let Some(why) = caching.board(terms.mode).and_then(|board| board.trouble()) {
            return format!("not now, since {why} ({rule})");
        }
        if let Some(why) = caching.past(terms.mode).and_then(Past::why) {
            return format!("not now, since {why} ({rule})");
        }
        let mut key = Vec::new();
        key::begin(&mut key, Form::Simple, context, text.unwrap_or_default());
        let row = plan.cache.row_of(&key);
        if let Some(why) = outside.and_then(|outside| outside.why_not(plan.touches.reads.tables(), row, now))
        {
            return format!("not now, since {why} ({rule})");
        }
        let Some(moment) = self.moment(caching, plan, terms.mode, None) else {
            self.want_defined(caching, terms.mode, now);
            return format!("not now, since objects may have changed, or no primary is known ({rule})");
        };
        let moment = Moment { row, ..moment };
        let Some(text) = text else { return format!("by its values ({rule})") };
        match cache.find(cache.hash(&key), &key, &moment, &terms, now) {
            Found::Hit(entry) => format!("hit, {} s old ({rule})", entry.age(now).as_secs()),
            Found::Late(entry) => {
                format!("hit while it is read again, {} s old ({rule})", entry.age(now).as_secs())
            }
            Found::Nothing if cache.as_of(&moment, now).is_err_and(|why| why == Why::Written) => {
                format!("not now, since its tables are being written to ({rule})")
            }
            Found::Nothing if may_tell_time(text) => {
                format!("no, since a value in it may tell the time ({rule})")
            }
            Found::Nothing => format!("miss{} ({rule})", caching.beyond(&terms, cache.hash(&key))),
        }
    }

    /// Why its shape has not been chosen, where that is left to be found out.
    fn unchosen(&self, plan: &Held) -> Option<String> {
        let rules = self.shared.planner.rules();
        if plan.cache.rules & rules.cache.choosing() == 0 {
            return None;
        }
        let reason = self.shared.choices.reason(&plan.home.database, plan.fingerprint);
        Some(format!("no, since its shape is {}", reason.unwrap_or("not chosen yet".into())))
    }

    /// Why no result may be given to the session now.
    fn why_uncached(&self, plan: &Held) -> Option<&'static str> {
        self.what_keeps().or_else(|| {
            if self.is_idle() {
                return None;
            }
            let by_name = || {
                (plan.cache.asks_settings == AsksSettings::Yes)
                    .then_some("what it asks for depends on its transaction")
            };
            self.why_not_within().or_else(by_name)
        })
    }

    /// What its session keeps, or has changed, for which no result may be given to it whatever it asks for.
    #[inline]
    pub(super) fn what_keeps(&self) -> Option<&'static str> {
        if self.listening.is_some() {
            return Some("it listens");
        }
        if self.unsynced {
            return Some("it is not known yet what its session has changed");
        }
        self.what_ties()
    }
}
