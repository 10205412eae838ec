//! Results given without asking a server: each statement of a pipeline in its place, before the batch gets a server
//! connection and after. What may be given is [`crate::cache`]'s to say, and within a transaction [`super::within`]'s; what is
//! not there, [`super::collected`] copies when a server answers it.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::ahead::LARGE;
use super::batch::{Batch, Flow};
use super::caching::Asked;
use super::collected::Collecting;
use super::names::Named;
use super::run::{Client, End};
use super::single::{Single, Step, Steps};
use crate::cache::key::{self, Form, Parts};
use crate::cache::l1::{Found, Moment, PATIENCE, Reading, Why};
use crate::cache::remote::Remote;
use crate::cache::strict::{Board, Seen};
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

/// What is looked for.
pub(super) struct Wanted {
    pub(super) plan: Held,
    pub(super) asked: Asked,
    form: Form,
    /// Requests, in order; none for a simple Query.
    steps: Steps,
    /// Most rows; 0 for all.
    most: u32,
    len: usize,
    /// The transaction that is implied ends with it, and so does its portal.
    ends: bool,
}

thread_local! {
    static KEY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Largest buffer for keys that is kept.
const MOST_KEY: usize = 64 * 1024;

impl Batch<'_> {
    /// Answers the statement at hand, if its result is there.
    pub(super) fn give_kept(&mut self, header: Header, whole: bool) -> Given {
        let given = self.give_found(header, whole);
        // What has been seen for it says nothing of what is asked for next.
        if self.flow.hand.seen.is_some() && !matches!(given, Given::Wait) {
            self.flow.hand.seen = None;
        }
        given
    }

    fn give_found(&mut self, header: Header, whole: bool) -> Given {
        let Flow { expected, hand, .. } = &mut *self.flow;
        // A statement that has been found to be for a server is, with all of its requests.
        let asks = whole && hand.passing == 0 && matches!(header.kind, b'Q' | b'P' | b'B' | b'D');
        if !asks || expected.is_skipping() || expected.is_copying_in() {
            return Given::No;
        }
        let told = self.client.told();
        let kept_for_a_reason = self.client.lease.is_some() && expected.is_empty() && told == TxStatus::Idle;
        // A simple Query among others before a Sync is rare.
        let odd = header.kind == b'Q' && expected.needs_sync();
        if kept_for_a_reason || odd || told == TxStatus::Failed {
            return Given::No;
        }
        self.client.settle_caching();
        if !self.client.caching.as_ref().is_some_and(|caching| caching.is_wanted()) {
            return Given::No;
        }
        // The buffer is taken, since what follows may come here again only in another turn.
        let mut key = KEY.take();
        let given = match self.looks_for(header, &mut key) {
            Some(wanted) => self.look(&wanted, &key),
            None => Given::No,
        };
        if key.capacity() <= MOST_KEY {
            KEY.set(key);
        }
        let hand = &mut self.flow.hand;
        match given {
            Given::No => hand.flushing = false,
            Given::All => (hand.flushing, hand.passing) = (false, 0),
            _ => hand.passing = 0,
        }
        given
    }

    /// What the statement at hand asks for, with its key, where that may be kept.
    fn looks_for(&mut self, header: Header, key: &mut Vec<u8>) -> Option<Wanted> {
        let Self { client, flow, .. } = self;
        let Flow { up, hand, expected, .. } = &mut **flow;
        let found = &mut hand.found;
        hand.passing = header.len;
        if header.kind == b'Q' {
            let body = &up.window()[FRAME_HEADER..header.len];
            let text = body.strip_suffix(b"\0").filter(|text| text.len() < LARGE)?;
            let plan = client.plan_or(found, text);
            *found = Some(plan.clone());
            let asked = client.asks_for(&plan)?;
            key::begin(key, Form::Simple, asked.context, text);
            let (form, steps, ends) = (Form::Simple, Steps::new(), client.is_idle());
            return Some(Wanted { plan, asked, form, steps, most: 0, len: header.len, ends });
        }
        let single = Single::read(up.window(), client.max_message())?;
        // Where a server has begun what a Sync ends, that is the server's.
        let single = if expected.needs_sync() { single.without_sync() } else { single };
        hand.passing = single.len;
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
        let ends = single.is_synced() && client.is_idle();
        let Single { most, steps, len, .. } = single;
        Some(Wanted { plan, asked, form: Form::Extended, steps, most, len, ends })
    }

    fn look(&mut self, wanted: &Wanted, key: &[u8]) -> Given {
        let Some(caching) = &self.client.caching else { return Given::No };
        let cache = caching.cache.clone();
        self.look_in(&cache, wanted, key).unwrap_or_else(|why| {
            cache.stats.bypass(why);
            Given::No
        })
    }

    /// Looks for it, and gives it if it is there.
    fn look_in(&mut self, cache: &Arc<Cache>, wanted: &Wanted, key: &[u8]) -> Result<Given, Why> {
        let Wanted { plan, asked, .. } = wanted;
        if plan.cache.refused.is_some() {
            return Err(Why::Refused);
        }
        if self.echoed || self.client.what_keeps().is_some() {
            return Err(Why::Session);
        }
        let seen = match self.look_at_marks(wanted)? {
            Ok(seen) => seen,
            Err(awaited) => {
                self.flow.hand.awaited = Some(awaited);
                return Ok(Given::Wait);
            }
        };
        let Some(caching) = &self.client.caching else { return Ok(Given::No) };
        // What is a transaction by itself, or part of one that has done nothing but reading.
        let (now, expected) = (Instant::now(), &self.flow.expected);
        let alone = wanted.ends && !expected.needs_sync();
        let may = alone && caching.within.is_fresh()
            || self.client.may_within(plan) && !self.client.is_overdue(now);
        let Some(moment) = self.client.moment(caching, plan, asked.terms.mode, seen) else {
            self.client.want_defined(caching, asked.terms.mode, now);
            return Err(Why::Unsure);
        };
        let (hash, answered) = (cache.hash(key), expected.is_answered());
        // Who reads ahead has it read again; what somebody else has just read is as good.
        let renews = caching.renews() && !self.flow.hand.waited_for;
        let found = match cache.find(hash, key, &moment, &asked.terms, now) {
            _ if renews => Found::Nothing,
            Found::Hit(entry) | Found::Late(entry) if !wanted.is_answered_by(&entry) => Found::Nothing,
            found => found,
        };
        match found {
            // A result is of now, and what was asked before it is answered later.
            Found::Hit(_) if !answered && (may || alone) => return Ok(self.in_line()),
            Found::Hit(_) | Found::Late(_) if may && answered && self.flow.down.is_full() => {
                return Ok(Given::Later);
            }
            Found::Hit(entry) if may && answered => return Ok(self.give(wanted, &entry, now)),
            Found::Late(entry) if may && answered && cache.turn(hash).is_err() => {
                cache.stats.stale.add(1);
                return Ok(self.give(wanted, &entry, now));
            }
            _ if !may => return Err(Why::Transaction),
            _ => {}
        }
        // Which row it is, only those need to know who read it.
        let moment = Moment { row: plan.cache.row_of(key), ..moment };
        cache.as_of(&moment, now)?;
        if Parts::read(key).is_none_or(|parts| parts.may_tell_time()) {
            return Err(Why::Time);
        }
        Ok(self.miss(wanted, cache, hash, key, moment.seen))
    }

    /// How the tables stand among all processes, where that counts; or what tells.
    fn look_at_marks(&mut self, wanted: &Wanted) -> Result<Result<Option<Seen>, Awaited>, Why> {
        let (plan, mode) = (&wanted.plan, wanted.asked.terms.mode);
        if mode != CacheMode::Strict {
            return Ok(Ok(None));
        }
        let board =
            self.client.caching.as_ref().and_then(|caching| caching.board(mode)).ok_or(Why::Marked)?;
        if self.client.lease.is_some() {
            return Err(Why::Transaction);
        }
        match self.flow.hand.seen.take() {
            None => Ok(Err(Awaited::Marks(board.clone(), plan.touches.reads.tables().into()))),
            Some(looked) => looked.map(|seen| Ok(Some(seen))).ok_or(Why::Marked),
        }
    }

    /// It is given when what was asked before it has been answered. Without a Flush a server may keep that answer for itself
    /// until a Sync comes.
    fn in_line(&mut self) -> Given {
        let Flow { up, expected, hand, .. } = &mut *self.flow;
        if expected.needs_sync() && !std::mem::replace(&mut hand.flushing, true) {
            up.insert().extend_from_slice(reply::FLUSH);
        }
        Given::Later
    }

    /// What is asked for is not there: it is read, unless somebody else does that already. Who has a server connection, or is
    /// about to ask it for other things, waits for nobody.
    fn miss(
        &mut self,
        wanted: &Wanted,
        cache: &Arc<Cache>,
        hash: u128,
        key: &[u8],
        seen: Option<Seen>,
    ) -> Given {
        let waits = self.client.lease.is_none() && wanted.most == 0;
        let waited = std::mem::take(&mut self.flow.hand.waited_for);
        let turn = self.flow.hand.turn.take();
        // Where it has been looked for outside of the process, others wait for this one still.
        let own = turn.filter(|turn| waited && turn.is_of(hash, key));
        if own.is_some() {
            self.flow.hand.turn = own;
            return self.missed(wanted, cache);
        }
        match cache.turn(hash) {
            Err(reading) if waits && !waited => {
                cache.stats.waited.add(1);
                self.flow.hand.awaited = Some(Awaited::Reading(reading));
                return Given::Wait;
            }
            Err(_) => {}
            Ok(turn) => {
                let about = (wanted.form, &wanted.plan, wanted.asked);
                // In this order: what is flushed meanwhile has another name, or is not kept.
                let mut collecting = Collecting::new(turn, hash, key, about, cache.collect());
                collecting.seen = seen;
                let remote = cache.remote().filter(|remote| wanted.asked.terms.remote && remote.is_there());
                collecting.name = remote.and_then(|remote| self.client.name_in(remote, about, hash, key));
                let renews = self.client.caching.as_ref().is_some_and(|caching| caching.renews());
                let looks = collecting.name.is_some() && waits && !waited && !renews;
                let awaited = remote.filter(|_| looks).cloned();
                self.flow.hand.turn = Some(collecting);
                if let Some(remote) = awaited {
                    self.flow.hand.awaited = Some(Awaited::Remote(remote));
                    return Given::Wait;
                }
            }
        }
        self.missed(wanted, cache)
    }

    /// It is for a server to answer.
    fn missed(&mut self, wanted: &Wanted, cache: &Cache) -> Given {
        cache.stats.misses.add(1);
        wanted.plan.cache.count(|account| account.misses.add(1));
        Given::No
    }

    /// Gives the client a result in the place of a server.
    fn give(&mut self, wanted: &Wanted, entry: &Arc<Entry>, now: Instant) -> Given {
        self.begin();
        let prepares = wanted.steps.first() == Some(&Step::Parse);
        let Self { client, flow, .. } = self;
        let told = client.told();
        if prepares {
            let body =
                Single::read(flow.up.window(), client.max_message()).and_then(|single| single.prepares);
            let body = body.unwrap_or_default();
            let traces = cstr(body).map_or(Traces::NONE, |(text, _)| client.traces(&wanted.plan, text));
            client.names.set_unnamed(Some(body), traces, Some(wanted.plan.clone()));
            client.pool.traffic.work.own().client_parses.add(1);
        }
        let down = flow.down.insert();
        let answer = &entry.answer;
        for step in &wanted.steps {
            match step {
                Step::Parse => down.extend_from_slice(reply::PARSE_COMPLETE),
                Step::Bind => down.extend_from_slice(reply::BIND_COMPLETE),
                Step::DescribeStatement => down.extend_from_slice(answer.statement().unwrap_or_default()),
                Step::DescribePortal => down.extend_from_slice(answer.portal().unwrap_or_default()),
                Step::Execute => match wanted.rows_of(entry) {
                    Some(rows) => {
                        down.extend_from_slice(rows);
                        down.extend_from_slice(reply::PORTAL_SUSPENDED);
                    }
                    None => down.extend_from_slice(answer.rows()),
                },
                Step::ClosePortal => down.extend_from_slice(reply::CLOSE_COMPLETE),
                Step::Sync => reply::ready(down, told),
            }
        }
        if wanted.form == Form::Simple {
            down.extend_from_slice(answer.rows());
            if let Some(status) = down.last_mut().filter(|_| told == TxStatus::Open) {
                *status = b'T';
            }
            client.names.unnamed = None;
        } else {
            client.pool.traffic.work.own().binds.add(1);
        }
        self.took_given(wanted);
        self.count_given(wanted, entry, now);
        Given::All
    }

    /// The requests have been answered.
    fn took_given(&mut self, wanted: &Wanted) {
        let Self { client, flow, .. } = self;
        flow.up.omit(wanted.len);
        let hand = &mut flow.hand;
        (hand.found, hand.bound, hand.turn, hand.waited_for) = (None, None, None, false);
        if wanted.ends {
            client.names.close_portals();
            client.leaves_transaction();
        } else {
            client.names.close_portal(b"");
            if let Some(caching) = &mut client.caching {
                caching.within.gives();
            }
        }
        // What a replica is used for counts requests.
        (1..wanted.steps.len()).for_each(|_| client.took_request(0));
        client.took_request(wanted.len);
        self.collect_given(wanted.is_answer_over());
    }

    fn count_given(&mut self, wanted: &Wanted, entry: &Arc<Entry>, now: Instant) {
        let uses = wanted.plan.uses();
        uses.calls.add(1);
        uses.rows.add(if wanted.is_cut(entry) { wanted.most.into() } else { entry.answer.count() });
        wanted.plan.cache.count(|account| account.hits.add(1));
        if let Some(caching) = &self.client.caching {
            match &caching.warming {
                None => caching.cache.given(entry),
                Some(asking) => asking.found.store(true, Relaxed),
            }
            if entry.is_due(wanted.asked.terms.ttl, now) {
                self.client.shared.warmth.soon_too_old(entry.clone());
            }
        }
        self.flow.hand.done = Some(wanted.plan.clone());
        if wanted.is_answer_over() {
            if self.client.lease.is_none() {
                self.client.leased_at = self.begun.unwrap_or(now);
            }
            self.account(Instant::now());
        }
    }

    /// What was given in the place of a server is over with a Sync that no server has been sent.
    pub(super) fn end_given(&mut self) {
        // Time may have passed since it was given.
        if self.client.caching.as_ref().is_some_and(|caching| !caching.within.is_fresh()) {
            self.account(Instant::now());
        }
        if self.client.is_idle() {
            self.client.names.close_portals();
            self.client.leaves_transaction();
        }
    }

    /// Waits until somebody else has read what is asked for, or has taken too long; or until it has been looked for where
    /// results are kept outside of the process.
    pub(super) async fn await_reading(&mut self) -> Result<(), End> {
        let Some(awaited) = self.flow.hand.awaited.take() else { return Ok(()) };
        self.begin();
        let reading = match awaited {
            Awaited::Marks(board, tables) => return self.await_marks(&board, &tables).await,
            Awaited::Reading(reading) => reading,
            Awaited::Remote(remote) => {
                self.flow.hand.waited_for = true;
                return self.await_remote(remote).await;
            }
        };
        self.flow.hand.waited_for = true;
        match self.wait_for(tokio::time::timeout(PATIENCE, reading.over())).await {
            Err(End::Refused(e)) if e.severity == Severity::Error => self.fail_waiting(&e),
            Err(end) => Err(end),
            Ok(_) => Ok(()),
        }
    }

    /// Looks at what other processes are about to write to these tables.
    async fn await_marks(&mut self, board: &Board, tables: &[u32]) -> Result<(), End> {
        let deadline = self.client.shared.config.load().redis.as_ref().map(|redis| redis.deadline);
        match self.wait_for(board.look(tables, deadline.unwrap_or_default())).await {
            Err(End::Refused(e)) if e.severity == Severity::Error => self.fail_waiting(&e),
            Err(end) => Err(end),
            Ok(seen) => {
                self.flow.hand.seen = Some(seen);
                Ok(())
            }
        }
    }
}

impl Wanted {
    /// Whether an entry has all that is asked for. Some of its rows are enough where nobody can ask for the others.
    fn is_answered_by(&self, entry: &Entry) -> bool {
        let has = |step: &Step| match step {
            Step::DescribeStatement => entry.answer.statement().is_some(),
            Step::DescribePortal => entry.answer.portal().is_some(),
            _ => true,
        };
        let is_all = !self.is_cut(entry) || self.ends || self.steps.contains(&Step::ClosePortal);
        is_all && self.steps.iter().all(has)
    }

    /// Whether a server would stop before it had found out that there are no more rows.
    fn is_cut(&self, entry: &Entry) -> bool {
        self.most > 0 && u64::from(self.most) <= entry.answer.count()
    }

    /// The rows that it gets, where that is not all there is to it.
    fn rows_of<'a>(&self, entry: &'a Entry) -> Option<&'a [u8]> {
        if self.is_cut(entry) { entry.answer.first(self.most.into()) } else { None }
    }

    /// Whether ReadyForQuery is part of the answer.
    fn is_answer_over(&self) -> bool {
        self.form == Form::Simple || self.steps.last() == Some(&Step::Sync)
    }
}

impl Client {
    /// What holds for a statement of the session whose results are to be kept.
    #[inline]
    pub(super) fn asks_for(&self, plan: &Held) -> Option<Asked> {
        self.caching.as_ref()?.asked(plan)
    }
}

/// What a batch waits for that asks for a result.
#[derive(Debug)]
pub(super) enum Awaited {
    /// Somebody else is reading it.
    Reading(Arc<Reading>),
    /// It may be kept outside of the process.
    Remote(Arc<Remote>),
    /// Other processes may be about to write to these tables.
    Marks(Arc<Board>, Box<[u32]>),
}
