//! EXPLAIN (ROUTE): a statement that gives the answer as constants is sent in its place, so that it behaves like any
//! other statement in every form of the protocol. With ANALYZE what is explained is run first, and its rows kept back.

use std::time::Duration;

use super::batch::{Batch, Next};
use super::expect::{Expect, Ours};
use super::run::{Client, End};
use crate::core::clock::Instant;
use crate::core::error::{Error, SqlState};
use crate::core::limits::MAX_KEPT_STATEMENT;
use crate::plan::explain::{self, Place, Spent, Wanted};
use crate::plan::{Held, Plan};
use crate::pool::settings::quote;
use crate::wire::frame::Header;
use crate::wire::message::cstr;
use crate::wire::reply;

/// A statement that is run for EXPLAIN (ROUTE, ANALYZE).
#[derive(Debug)]
pub struct Running {
    pub(super) plan: Held,
    pub(super) json: bool,
    spent: Spent,
    sent: Instant,
    answered: Option<Instant>,
}

impl Running {
    /// Notes a frame of its answer.
    fn frame(&mut self, header: Header) {
        self.answered.get_or_insert_with(Instant::now);
        self.spent.rows += u64::from(header.kind == b'D');
        self.spent.bytes += header.len as u64;
    }

    /// Where the time went, now that it has been run.
    pub(super) fn spent(&self) -> Spent {
        let now = Instant::now();
        let answered = self.answered.unwrap_or(now);
        Spent {
            backend_us: answered.micros_since(self.sent),
            transfer_us: now.micros_since(answered),
            ..self.spent
        }
    }
}

/// Whether ANALYZE runs it: of other statements than queries the route is all there is to say, since they have other
/// answers than rows.
pub fn runs(plan: &Plan) -> bool {
    matches!(plan.statements.as_slice(), [one] if one.is_query())
}

impl Client {
    /// Where a statement of this plan goes; where it went, once it `has_run`. Its text is known where it has no
    /// parameters.
    pub(super) fn place(&mut self, plan: &Held, text: Option<&[u8]>, has_run: bool) -> Place {
        self.settle_caching();
        let target = &self.pool.target;
        let mut place = Place {
            pool: format!("{}/{}", self.pool.purpose.database, self.pool.purpose.user),
            backend: format!("backend \"{}\" ({}:{})", target.name(), target.host(), target.port()),
            tenant: self.tenant_line(),
            pins: self.pins.labels(),
            in_transaction: !self.is_idle(),
            cache: self.caches(plan, text),
            ..Place::default()
        };
        if let Some(course) = self.course.as_ref().filter(|_| !has_run) {
            self.destination(course, plan, &mut place);
        }
        place
    }

    /// The statement that gives the answer as constants.
    fn answer(&mut self, plan: &Held, text: Option<&[u8]>, spent: Option<Spent>, json: bool) -> String {
        let rows = explain::rows(plan, &self.place(plan, text, spent.is_some()), spent, json);
        let kind = if json { "json" } else { "text" };
        let mut sql = String::from("SELECT * FROM (VALUES ");
        for (i, row) in rows.iter().enumerate() {
            sql.push_str(if i == 0 { "(" } else { ", (" });
            quote(&mut sql, row);
            sql.push_str(&format!("::pg_catalog.{kind})"));
        }
        sql.push_str(") AS route (\"QUERY PLAN\")");
        sql
    }
}

/// What a client is told whose EXPLAIN (ROUTE) went to the server, since it is written otherwise than we know.
pub fn not_understood() -> Error {
    Error::statement(SqlState::SYNTAX_ERROR, "EXPLAIN (ROUTE) cannot be carried out as it is written")
        .detail("ROUTE stands with ANALYZE and FORMAT TEXT or JSON alone, and is about one statement of a size that is held (general.high_water_mark).")
        .hint("Write EXPLAIN (ROUTE [, ANALYZE] [, FORMAT { TEXT | JSON }]) statement.")
}

/// Longest that EXPLAIN (ROUTE) waits for the catalog.
const PATIENCE: Duration = Duration::from_secs(5);

impl Batch<'_> {
    /// What EXPLAIN (ROUTE) has to wait for, where the request is that: an answer about the client's settings, the
    /// catalog.
    pub fn wants_to_know(&mut self, header: Header, whole: bool) -> Option<Next> {
        let body = self.body(header.len);
        let text = match header.kind {
            b'Q' => Some(body),
            b'P' => cstr(body).map(|(_, rest)| rest),
            _ => None,
        };
        // Nearly every text is told by its first letters.
        let text = text.filter(|text| whole && matches!(text, [b'e' | b'E', b'x' | b'X', ..]))?;
        let text = cstr(text).map_or(text, |(text, _)| text);
        let text = text.get(explain::read(text)?.inner).map(<[u8]>::to_vec);
        if self.flow.hand.asked.is_some() {
            return Some(Next::Io);
        }
        if std::mem::take(&mut self.waited) {
            return None;
        }
        self.client.want_catalog();
        let peeks = text.filter(|_| self.client.peeks());
        self.waited = self.client.pool.schema.is_awaited() || peeks.is_some();
        self.flow.hand.peeks = peeks;
        self.waited.then_some(Next::Catalog)
    }

    /// Waits until it is known, or cannot be had soon; and so with what is kept outside of the process.
    pub async fn await_catalog(&mut self) {
        let schema = self.client.pool.schema.clone();
        // Boxed, since it is rare. Without it less can be said.
        let _ = Box::pin(tokio::time::timeout(PATIENCE, schema.settled())).await;
        if let Some(text) = self.flow.hand.peeks.take() {
            Box::pin(self.client.peek(&text)).await;
        }
    }

    /// EXPLAIN (ROUTE) as a simple Query, with its text's plan. True when it has been taken.
    pub fn explain(&mut self, len: usize, plan: &Held) -> Result<bool, End> {
        let Some(wanted) = self.wanted(len, plan) else { return Ok(false) };
        let text = self.body(len);
        let inner = text.strip_suffix(b"\0").unwrap_or(text)[wanted.inner.clone()].to_vec();
        let plan = self.client.plan(&inner);
        self.flow.up.omit_frame(len);
        if wanted.analyze && runs(&plan) {
            return self.run_explained(&inner, plan, &wanted).map(|()| true);
        }
        let sql = self.client.answer(&plan, Some(&inner), None, wanted.json);
        reply::query(self.flow.up.insert(), &sql);
        self.flow.expected.push(Expect::Query(None));
        Ok(true)
    }

    fn wanted(&self, len: usize, plan: &Held) -> Option<Wanted> {
        let text = self.body(len);
        plan.explains.as_ref().and_then(|_| explain::read(text.strip_suffix(b"\0").unwrap_or(text)))
    }

    /// The body of Parse, after the name, that stands for EXPLAIN (ROUTE) of the extended protocol where it is about a
    /// text too long to be kept: that has no parameters.
    pub fn explain_stand_in(&mut self, header: Header, whole: bool) -> Option<Vec<u8>> {
        let (_, body) = cstr(self.body(header.len)).filter(|_| whole && header.len > MAX_KEPT_STATEMENT)?;
        // Most texts are told by their first letter.
        if !matches!(body.trim_ascii_start().first(), Some(b'e' | b'E' | b'/' | b'-')) {
            return None;
        }
        let (text, types) = cstr(body)?;
        let (text, types) = (text.to_vec(), types.to_vec());
        let plan = self.client.plan(&text);
        plan.explains.as_ref()?;
        let wanted = explain::read(&text)?;
        let inner = &text[wanted.inner.clone()];
        let plan = self.client.plan(inner);
        let sql = self.client.answer(&plan, Some(inner), None, wanted.json);
        Some([sql.as_bytes(), b"\0", &types].concat())
    }

    /// Runs what is explained; its answer is kept back.
    fn run_explained(&mut self, inner: &[u8], plan: Held, wanted: &Wanted) -> Result<(), End> {
        let traces = self.client.traces(&plan, inner);
        let traces = traces.and(self.client.suspect(traces, Some(inner)));
        self.prepare_for(traces, inner)?;
        self.client.note(traces, inner);
        self.client.will_write(Some(&plan));
        self.flow.hand.running = Some(Box::new(self.run_now(plan, wanted.json)));
        // Nothing may overtake the answer.
        self.checking = true;
        self.server()?.unnamed = None;
        reply::query_bytes(self.flow.up.insert(), inner);
        self.flow.expected.push(Expect::OurQuery(Ours::Explained));
        Ok(())
    }

    /// A statement that is about to be sent.
    pub(super) fn run_now(&self, plan: Held, json: bool) -> Running {
        let waited = self.begun.map_or(0, |begun| self.client.leased_at.micros_since(begun));
        let new =
            self.begun.is_some_and(|begun| self.client.lease.as_ref().is_some_and(|s| s.opened > begun));
        let (queue_us, connect_us) = if new { (0, waited) } else { (waited, 0) };
        let spent = Spent { queue_us, connect_us, ..Spent::default() };
        Running { plan, json, spent, sent: Instant::now(), answered: None }
    }

    /// A frame has come that the client does not get: it may be of what is run.
    pub fn explained_frame(&mut self, header: Header) {
        if let Some(running) = self.flow.expected.explained() {
            running.frame(header);
        } else if self.is_explaining()
            && let Some(running) = &mut self.flow.hand.running
        {
            running.frame(header);
        }
    }

    /// What is explained has been run: now the answer can be asked for.
    pub fn explained(&mut self) {
        let Some(running) = self.flow.hand.running.take() else { return };
        let sql = self.client.answer(&running.plan, None, Some(running.spent()), running.json);
        reply::query(self.flow.up.insert(), &sql);
        self.flow.expected.push(Expect::Query(None));
        self.checking = false;
    }

    /// Whether what comes next answers what is run.
    pub fn is_explaining(&mut self) -> bool {
        self.flow.hand.running.is_some()
            && matches!(self.flow.expected.front(), Some(Expect::OurQuery(Ours::Explained)))
    }

    /// What is explained has failed: that is the answer.
    pub fn explained_error(&mut self, len: usize) {
        self.flow.hand.running = None;
        self.checking = false;
        self.flow.expected.no_longer_ours();
        self.flow.down.pass_frame(len);
    }
}
