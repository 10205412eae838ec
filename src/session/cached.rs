//! Results given without asking a server, and collected from one for the next who asks. What may be given is
//! [`crate::cache`]'s to say; here it is looked for before a batch gets a server connection, and what a server answers is
//! copied as it passes.

use std::cell::RefCell;
use std::sync::Arc;

use super::ahead::LARGE;
use super::batch::{Batch, Flow};
use super::caching::{Asked, Caching};
use super::names::Named;
use super::run::{Client, End};
use super::single::{Single, Step};
use crate::cache::answer::{Answer, Unfit};
use crate::cache::key::{self, Form, Parts};
use crate::cache::l1::{AsOf, Collected, Found, Moment, PATIENCE, Reading, Turn, Why};
use crate::cache::outside::Outside;
use crate::cache::remote::Remote;
use crate::cache::{Cache, Entry};
use crate::config::CacheMode;
use crate::core::clock::Instant;
use crate::core::error::Severity;
use crate::core::limits::FRAME_HEADER;
use crate::plan::Held;
use crate::sql::effect::Traces;
use crate::wire::frame::Header;
use crate::wire::message::{TxStatus, cstr};
use crate::wire::reply;

/// What becomes of a request that may be answered without a server.
pub(super) enum Given {
    /// It is for a server, like any other.
    No,
    /// It has been answered.
    All,
    /// What was asked before it is answered first.
    Later,
    /// Somebody else is reading what it asks for.
    Wait,
}

/// An answer that is kept when it is complete.
#[derive(Debug)]
pub(super) struct Collecting {
    /// Others wait for it until this is dropped.
    _turn: Turn,
    hash: u128,
    key: Box<[u8]>,
    form: Form,
    plan: Held,
    asked: Asked,
    /// Since when it is under way, and as of what.
    begun: Option<(AsOf, Instant)>,
    collected: Collected,
}

/// What is looked for.
struct Wanted {
    plan: Held,
    asked: Asked,
    form: Form,
    /// Requests, in order; none for a simple Query.
    steps: smallvec::SmallVec<[Step; 6]>,
    len: usize,
}

thread_local! {
    static KEY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Largest buffer for keys that is kept.
const MOST_KEY: usize = 64 * 1024;

impl Batch<'_> {
    /// Answers the batch at hand, if its result is there.
    pub(super) fn give_kept(&mut self, header: Header, whole: bool) -> Result<Given, End> {
        let asks = whole && matches!(header.kind, b'Q' | b'P' | b'B' | b'D');
        if !asks || self.client.told() != TxStatus::Idle || self.flow.expected.needs_sync() {
            return Ok(Given::No);
        }
        if self.client.lease.is_some() && self.flow.expected.is_empty() {
            // It keeps that for a reason.
            return Ok(Given::No);
        }
        self.client.settle_caching();
        if !self.client.caching.as_ref().is_some_and(|caching| caching.is_wanted()) {
            return Ok(Given::No);
        }
        // The buffer is taken, since what follows may come here again only in another turn.
        let mut key = KEY.take();
        let given = match self.looks_for(header, &mut key) {
            Some(wanted) => self.look(&wanted, &key),
            None => Ok(Given::No),
        };
        if key.capacity() <= MOST_KEY {
            KEY.set(key);
        }
        given
    }

    /// What the batch at hand asks for, with its key, where that may be kept.
    fn looks_for(&mut self, header: Header, key: &mut Vec<u8>) -> Option<Wanted> {
        let Self { client, flow, .. } = self;
        let Flow { up, hand, .. } = &mut **flow;
        let found = &mut hand.found;
        if header.kind == b'Q' {
            let body = &up.window()[FRAME_HEADER..header.len];
            let text = body.strip_suffix(b"\0").filter(|text| text.len() < LARGE)?;
            let plan = client.plan_or(found, text);
            *found = Some(plan.clone());
            let asked = client.asks_for(&plan)?;
            key::begin(key, Form::Simple, asked.context, text);
            return Some(Wanted {
                plan,
                asked,
                form: Form::Simple,
                steps: Default::default(),
                len: header.len,
            });
        }
        let single = Single::read(up.window(), client.max_message)?;
        let (plan, asked) = match (single.prepares, client.names.get(single.name).cloned()) {
            (Some(body), _) => {
                let (text, _) = cstr(body).filter(|(text, _)| text.len() < LARGE)?;
                let plan = client.plan_or(found, text);
                *found = Some(plan.clone());
                let asked = client.asks_for(&plan)?;
                key::begin(key, Form::Extended, asked.context, body);
                (plan, asked)
            }
            (None, Some(Named::Shared(statement, plan))) => {
                let usable = !statement.is_changed()
                    && statement.pins.without(Traces::HINTS).is_empty()
                    && statement.body.len() < LARGE;
                let known = plan.filter(|plan| usable && client.is_current(plan));
                let plan = known.or_else(|| usable.then(|| client.plan_of(&statement.body))?)?;
                let asked = client.asks_for(&plan)?;
                key::begin(key, Form::Extended, asked.context, &statement.body);
                (plan, asked)
            }
            (None, None) if single.name.is_empty() => {
                let unnamed = client.names.unnamed.clone()?;
                let body = unnamed.body.as_deref().filter(|body| body.len() < LARGE)?;
                if !unnamed.pins.without(Traces::HINTS).is_empty() {
                    return None;
                }
                let plan = client.unnamed_plan()?;
                let asked = client.asks_for(&plan)?;
                key::begin(key, Form::Extended, asked.context, body);
                (plan, asked)
            }
            _ => return None,
        };
        key::add(key, single.bind);
        Some(Wanted { plan, asked, form: Form::Extended, steps: single.steps, len: single.len })
    }

    fn look(&mut self, wanted: &Wanted, key: &[u8]) -> Result<Given, End> {
        let Some(caching) = &self.client.caching else { return Ok(Given::No) };
        let cache = caching.cache.clone();
        let Wanted { plan, asked, .. } = wanted;
        if plan.cache.refused.is_some() {
            cache.stats.bypass(Why::Refused);
            return Ok(Given::No);
        }
        let hash = cache.hash(key);
        if !self.flow.expected.is_empty() {
            // A result is of now, and what was asked before it is answered later.
            let (moment, now) = (self.client.moment(caching, plan, asked.terms.mode), Instant::now());
            let found = moment.map(|moment| cache.find(hash, key, &moment, &asked.terms, now));
            return Ok(if matches!(found, Some(Found::Hit(_))) { Given::Later } else { Given::No });
        }
        if self.echoed || self.client.why_uncached().is_some() {
            cache.stats.bypass(Why::Session);
            return Ok(Given::No);
        }
        if self.flow.down.is_full() {
            return Ok(Given::Later);
        }
        let Some(moment) = self.client.moment(caching, plan, asked.terms.mode) else {
            let (pool, now) = (&self.client.pool, Instant::now());
            let outside = caching.outside(asked.terms.mode).and_then(Outside::defined);
            pool.schema.want_since(caching.versions.defined().max(outside), pool, now);
            cache.stats.bypass(Why::Unsure);
            return Ok(Given::No);
        };
        let now = Instant::now();
        match cache.find(hash, key, &moment, &asked.terms, now) {
            Found::Hit(entry) if wanted.is_answered_by(&entry) => {
                self.give(wanted, &entry, now)?;
                return Ok(Given::All);
            }
            Found::Late(entry) if wanted.is_answered_by(&entry) && cache.turn(hash).is_err() => {
                cache.stats.stale.add(1);
                self.give(wanted, &entry, now)?;
                return Ok(Given::All);
            }
            _ => {}
        }
        // Which row it is, only those need to know who read it.
        let moment = Moment { row: plan.cache.row_of(key), ..moment };
        if let Err(why) = cache.as_of(&moment, now) {
            cache.stats.bypass(why);
            return Ok(Given::No);
        }
        if Parts::read(key).is_none_or(|parts| parts.may_tell_time()) {
            cache.stats.bypass(Why::Time);
            return Ok(Given::No);
        }
        Ok(self.miss(wanted, &cache, hash, key))
    }

    /// What is asked for is not there: it is read, unless somebody else does that already.
    fn miss(&mut self, wanted: &Wanted, cache: &Arc<Cache>, hash: u128, key: &[u8]) -> Given {
        let waited = self.flow.hand.waited_for;
        let turn = self.flow.hand.collecting.take();
        // Where it has been looked for outside of the process, others wait for this one still.
        let own = turn.filter(|c| waited && c.begun.is_none() && c.hash == hash && *c.key == *key);
        if own.is_some() {
            self.flow.hand.collecting = own;
            return self.missed(wanted, cache);
        }
        let (plan, asked, form, key) = (wanted.plan.clone(), wanted.asked, wanted.form, key.into());
        match cache.turn(hash) {
            Err(reading) if !self.flow.hand.waited_for => {
                cache.stats.waited.add(1);
                self.flow.hand.awaited = Some(Awaited::Reading(reading));
                return Given::Wait;
            }
            Err(_) => {}
            Ok(_turn) => {
                let (begun, collected) = (None, cache.collect());
                let collecting = Collecting { _turn, hash, key, form, plan, asked, begun, collected };
                self.flow.hand.collecting = Some(Box::new(collecting));
                let remote = cache.remote().filter(|_| wanted.asked.terms.remote);
                if let Some(remote) = remote.filter(|remote| remote.is_there() && !self.flow.hand.waited_for)
                {
                    self.flow.hand.awaited = Some(Awaited::Remote(remote.clone(), hash));
                    return Given::Wait;
                }
            }
        }
        self.missed(wanted, cache)
    }

    /// It is for a server to answer.
    fn missed(&mut self, wanted: &Wanted, cache: &Cache) -> Given {
        cache.stats.misses.add(1);
        wanted.plan.cache.misses.add(1);
        self.flow.hand.waited_for = false;
        Given::No
    }

    /// Gives the client a result in the place of a server.
    fn give(&mut self, wanted: &Wanted, entry: &Entry, now: Instant) -> Result<(), End> {
        self.begin();
        let prepares = wanted.steps.first() == Some(&Step::Parse);
        let Self { client, flow, .. } = self;
        if prepares {
            let body = Single::read(flow.up.window(), client.max_message).and_then(|single| single.prepares);
            let body = body.unwrap_or_default();
            let traces = cstr(body).map_or(Traces::NONE, |(text, _)| client.traces(&wanted.plan, text));
            client.names.set_unnamed(Some(body), traces, Some(wanted.plan.clone()));
            client.pool.traffic.work.own().client_parses.add(1);
        }
        let down = flow.down.insert();
        let answer = &entry.answer;
        for step in &wanted.steps {
            down.extend_from_slice(match step {
                Step::Parse => reply::PARSE_COMPLETE,
                Step::Bind => reply::BIND_COMPLETE,
                Step::DescribeStatement => answer.statement().unwrap_or_default(),
                Step::DescribePortal => answer.portal().unwrap_or_default(),
                Step::Execute => answer.rows(),
                Step::ClosePortal => reply::CLOSE_COMPLETE,
                Step::Sync => reply::READY_IDLE,
            });
        }
        if wanted.form == Form::Simple {
            down.extend_from_slice(answer.rows());
            client.names.unnamed = None;
        } else {
            client.pool.traffic.work.own().binds.add(1);
        }
        client.names.close_portals();
        self.take_frames(wanted.len);
        self.count_given(wanted, entry, now);
        Ok(())
    }

    /// The requests have been answered.
    fn take_frames(&mut self, len: usize) {
        let Flow { up, .. } = &mut *self.flow;
        up.omit(len);
        self.flow.hand.found = None;
        self.flow.hand.collecting = None;
        self.flow.hand.waited_for = false;
    }

    fn count_given(&mut self, wanted: &Wanted, entry: &Entry, now: Instant) {
        let uses = wanted.plan.uses();
        uses.calls.add(1);
        uses.rows.add(entry.answer.count());
        wanted.plan.cache.hits.add(1);
        if let Some(caching) = &self.client.caching {
            caching.cache.given(entry);
        }
        self.flow.hand.done = Some(wanted.plan.clone());
        self.client.leased_at = self.begun.unwrap_or(now);
        self.account(Instant::now());
    }

    /// Waits until somebody else has read what is asked for, or has taken too long; or until it has been looked for where
    /// results are kept outside of the process.
    pub(super) async fn await_reading(&mut self) -> Result<(), End> {
        let Some(awaited) = self.flow.hand.awaited.take() else { return Ok(()) };
        self.begin();
        self.flow.hand.waited_for = true;
        let reading = match awaited {
            Awaited::Reading(reading) => reading,
            Awaited::Remote(remote, hash) => return self.await_remote(remote, hash).await,
        };
        match self.wait_for(tokio::time::timeout(PATIENCE, reading.over())).await {
            Err(End::Refused(e)) if e.severity == Severity::Error => self.fail_waiting(&e),
            Err(end) => Err(end),
            Ok(_) => Ok(()),
        }
    }

    /// What is found there is put where it is looked for; others who ask for it wait meanwhile.
    async fn await_remote(&mut self, remote: Arc<Remote>, hash: u128) -> Result<(), End> {
        let (Some(collecting), Some(caching)) = (&self.flow.hand.collecting, &self.client.caching) else {
            return Ok(());
        };
        let cache = caching.cache.clone();
        let find = remote.find(hash, cache.epoch(), collecting.key.clone());
        match self.wait_for(find).await {
            Err(End::Refused(e)) if e.severity == Severity::Error => self.fail_waiting(&e),
            Err(end) => Err(end),
            Ok(found) => {
                if let Some(entry) = found {
                    cache.put_back(hash, entry);
                }
                Ok(())
            }
        }
    }

    /// There is a server for what is to be kept: from now on it is under way.
    pub(super) fn begin_collecting(&mut self) {
        let Some(collecting) = &mut self.flow.hand.collecting else { return };
        let Some(caching) = self.client.caching.as_ref().filter(|_| self.client.lease.is_some()) else {
            self.flow.hand.collecting = None;
            return;
        };
        let (plan, mode) = (&collecting.plan, collecting.asked.terms.mode);
        let row = plan.cache.row_of(&collecting.key);
        let moment = self.client.moment(caching, plan, mode).ok_or(Why::Written);
        let as_of = moment
            .map(|moment| Moment { row, ..moment })
            .and_then(|moment| caching.cache.as_of(&moment, Instant::now()));
        let as_of = match as_of {
            Ok(as_of) => as_of,
            Err(why) => return self.give_up(why),
        };
        // In this order: what is fenced by now is all that was written before the stamp.
        let since = self.client.reads_since(caching, plan, mode);
        let Some(since) = since else { return self.give_up(Why::Replica) };
        collecting.begun = Some((as_of, since));
        self.answered = false;
    }

    /// It will not be kept.
    #[cold]
    pub(super) fn give_up(&mut self, why: Why) {
        if self.flow.hand.collecting.take().is_some()
            && let Some(caching) = &self.client.caching
        {
            caching.cache.stats.bypass(why);
        }
    }

    /// Copies what the client has just been sent: the last bytes of what waits to be written.
    pub(super) fn keep_answer(&mut self, more: usize) {
        let Some(collecting) = &mut self.flow.hand.collecting else { return };
        if collecting.begun.is_none() {
            return;
        }
        // What surrounds the rows takes little room.
        let max = collecting.asked.terms.max_bytes + FRAME_HEADER * 64;
        if !collecting.collected.add(self.flow.down.last(more), max) {
            return self.give_up(Why::Large);
        }
        if self.answered {
            match self.keep() {
                Ok(()) => self.flow.hand.collecting = None,
                Err(why) => self.give_up(why),
            }
        }
    }

    /// Keeps what has been collected, now that it is complete.
    fn keep(&mut self) -> Result<(), Why> {
        let (Some(collecting), Some(caching)) = (&self.flow.hand.collecting, &self.client.caching) else {
            return Ok(());
        };
        let Collecting { hash, key, form, plan, asked, begun, collected, .. } = &**collecting;
        let (as_of, born) = (*begun).ok_or(Why::Broken)?;
        if self.client.status != TxStatus::Idle {
            return Err(Why::Transaction);
        }
        let terms = &asked.terms;
        let answer = Answer::read(*form, collected.bytes(), terms.max_rows).map_err(|unfit| match unfit {
            Unfit::Told => Why::Told,
            Unfit::Rows => Why::Large,
            Unfit::Other => Why::Broken,
        })?;
        if answer.len() > terms.max_bytes {
            return Err(Why::Large);
        }
        let moment = self.client.moment(caching, plan, terms.mode).ok_or(Why::Moved)?;
        if !caching.cache.holds(&as_of, &moment) {
            return Err(Why::Moved);
        }
        let entry = caching.cache.store(*hash, key, answer, as_of, born, plan.fingerprint);
        if let Some(remote) = caching.cache.remote().filter(|_| terms.remote) {
            remote.keep(*hash, caching.cache.epoch(), entry, terms.ttl.saturating_add(terms.stale));
        }
        Ok(())
    }
}

impl Wanted {
    /// Whether an entry has all that is asked for.
    fn is_answered_by(&self, entry: &Entry) -> bool {
        let has = |step: &Step| match step {
            Step::DescribeStatement => entry.answer.statement().is_some(),
            Step::DescribePortal => entry.answer.portal().is_some(),
            _ => true,
        };
        self.steps.iter().all(has)
    }
}

impl Client {
    /// What holds for a statement of the session whose results are to be kept.
    #[inline]
    fn asks_for(&self, plan: &Held) -> Option<Asked> {
        self.caching.as_ref()?.asked(plan)
    }

    /// Since when the server in use has what is read now, if it has all that was written through this process, and all
    /// from elsewhere that results must be as fresh as. A replica has that when it is past everybody's fence of the tables,
    /// and of what was lost, or told from elsewhere, before its last sample; of what others write past us and nobody
    /// tells of, it has what that sample has.
    fn reads_since(&self, caching: &Caching, plan: &Held, mode: CacheMode) -> Option<Instant> {
        let reading = self.course.as_ref().and_then(|course| Some((course, course.reading.as_ref()?)));
        let Some((course, reading)) = reading else { return Some(Instant::now()) };
        let (passed, fence) = (&reading.member.passed, course.fence_of(&plan.touches.reads));
        let taken = course.cluster.clock.taken(passed.get()).filter(|_| passed.is_past(fence))?;
        let found = caching.versions.found().max(caching.outside(mode).and_then(Outside::found));
        let knows = found.is_none_or(|found| found < taken);
        knows.then(|| if mode == CacheMode::Exact { Instant::now() } else { taken })
    }
}

/// What a batch waits for that asks for a result.
#[derive(Debug)]
pub(super) enum Awaited {
    /// Somebody else is reading it.
    Reading(Arc<Reading>),
    /// It may be kept outside of the process.
    Remote(Arc<Remote>, u128),
}
