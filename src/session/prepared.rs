//! The client's prepared statements: what Parse means for it, and what a server must be sent so that it has them.

use std::sync::Arc;

use super::ahead::LARGE;
use super::analyzed;
use super::batch::{Batch, too_many};
use super::expect::{Expect, Ours};
use super::names::{Named, Unnamed};
use super::requests::unterminated;
use super::run::{Client, End};
use super::said::{self, Said};
use crate::core::error::{Error, SqlState};
use crate::core::limits::{FRAME_HEADER, MAX_KEPT_STATEMENT};
use crate::plan::Held;
use crate::pool::server::Prepare;
use crate::pool::statement::Prepared;
use crate::sql::effect::{self, Traces};
use crate::sql::prepare;
use crate::wire::message::cstr;
use crate::wire::reply;

impl Batch<'_> {
    /// A Parse of what some server has accepted before is answered without one: a client that prepares must not
    /// wait for those that hold all servers, least of all when it is the same program.
    pub(super) fn parse_alone(&mut self, len: usize) -> Result<bool, End> {
        let body = self.body(len);
        let Some((name, body)) = cstr(body).filter(|(name, _)| !name.is_empty()) else { return Ok(false) };
        if self.client.names.get(name).is_some() || self.means_its_own() {
            return Ok(false);
        }
        let Some(statement) =
            self.client.pool.statements.find(body, self.client.scope()).filter(|s| s.is_accepted())
        else {
            return Ok(false);
        };
        let name = name.to_vec();
        self.may_prepare()?;
        self.client.pool.traffic.work.own().client_parses.add(1);
        // A large text's is made when it is used.
        let small = statement.body.len() < LARGE;
        let plan = if small { self.client.plan_of(&statement.body) } else { None };
        self.client.names.set(&name, Some(Named::Shared(statement, plan)));
        self.flow.up.omit_frame(len);
        self.flow.down.insert().extend_from_slice(reply::PARSE_COMPLETE);
        Ok(true)
    }

    /// The bound on names.
    pub(super) fn may_prepare(&self) -> Result<(), End> {
        let limit = self.client.shared.config.load().general.max_client_prepared;
        if self.client.names.count() < limit {
            return Ok(());
        }
        self.client.shared.totals.refused_prepared.add(1);
        Err(too_many("prepared statements of one client (general.max_client_prepared)", limit).into())
    }

    /// What some statements need on the server first: names of the client's, no sequence values of others.
    pub(super) fn prepare_for(&mut self, traces: Traces, text: &[u8]) -> Result<(), End> {
        let by_hand = self.client.serial || traces.contains(Traces::SERIAL);
        let sequences = traces.contains(Traces::SEQUENCE) || by_hand && traces.contains(Traces::ADVANCES);
        if !sequences && !traces.any(Traces::NEEDS) {
            return Ok(());
        }
        self.client.wish.sticky = true;
        let id = self.client.entry.id;
        let kept = self.client.pins.contains(Traces::SEQUENCE);
        let foreign = sequences && !kept && self.server()?.has_foreign_sequences(id);
        if foreign && !self.flow.expected.needs_sync() {
            reply::query(self.flow.up.insert(), "DISCARD SEQUENCES");
            self.flow.expected.push(Expect::OurQuery(Ours::Sequences));
            let server = self.server()?;
            server.sequences_discarded();
            server.unnamed = None;
        }
        if traces.contains(Traces::ASKS_LISTENS) && !self.flow.expected.needs_sync() {
            self.listen_by_itself()?;
        }
        if traces.any(Traces::EXECUTES.and(Traces::PREPARE)) {
            for name in prepare::mentions(text).used {
                self.ensure_own(&name)?;
                if traces.contains(Traces::EXECUTES) {
                    self.client.executes(&name);
                }
            }
        }
        Ok(())
    }

    /// Makes sure that the server has a statement of the protocol's under the client's own name, for use by SQL.
    pub(super) fn ensure_own(&mut self, name: &[u8]) -> Result<(), End> {
        let id = self.client.entry.id;
        match self.client.names.get(name).cloned() {
            Some(Named::Shared(statement, _)) => {
                // What is run to be explained has another answer than its own.
                if statement.pins.contains(Traces::EXPLAINED) {
                    return Ok(());
                }
                let known = self.server()?.own_of(id).insert(name.into(), statement.id);
                if known != Some(statement.id) {
                    reply::parse(self.flow.up.insert(), name, statement.to_parse());
                    self.flow.expected.push(Expect::OurOwn(name.into()));
                }
            }
            // It could not be prepared again when the server came: perhaps it can now.
            Some(Named::Sql(statement)) if !self.flow.expected.needs_sync() => {
                let server = self.server()?;
                if server.own_of(id).insert(name.into(), statement.id) != Some(statement.id) {
                    server.unnamed = None;
                    reply::query_bytes(self.flow.up.insert(), &statement.text);
                    self.flow.expected.push(Expect::OurQuery(Ours::Prepare(name.into())));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Parse.
    pub(super) fn parse(&mut self, len: usize, whole: bool) -> Result<(), End> {
        self.client.pool.traffic.work.own().client_parses.add(1);
        let Some((name, _)) = cstr(self.body(len)) else { return Err(unterminated()) };
        let name = name.to_vec();
        let kept = whole && len <= MAX_KEPT_STATEMENT;
        match (name.is_empty(), kept) {
            (true, _) => self.parse_unnamed(len, kept),
            (false, true) => self.parse_named(len, &name),
            (false, false) => self.parse_large(len, &name),
        }
    }

    /// LISTEN and UNLISTEN: another statement is prepared for it.
    pub(super) fn parse_stand_in(&mut self, len: usize, body: &[u8]) -> Result<(), End> {
        let Some((name, _)) = cstr(self.body(len)) else { return Err(unterminated()) };
        let name = name.to_vec();
        if self.client.names.get(&name).is_some() {
            return self.parse(len, true);
        }
        if name.is_empty() {
            let before = self.client.names.set_unnamed(Some(body), Traces::NONE, None);
            let generation = self.client.names.unnamed.as_ref().map_or(0, |u| u.generation);
            self.own_unnamed(generation)?;
            self.flow.up.omit_frame(len);
            reply::parse(self.flow.up.insert(), b"", body);
            self.flow.expected.push(Expect::ParseUnnamed(before));
            return Ok(());
        }
        let statement = self.client.pool.statements.intern(body, self.client.scope(), || Traces::NONE, None);
        let plan = self.client.plan(cstr(body).map_or(body, |(text, _)| text));
        self.parse_shared(len, &name, statement, plan)
    }

    /// Parse of the unnamed statement.
    pub(super) fn parse_unnamed(&mut self, len: usize, kept: bool) -> Result<(), End> {
        let before = if kept {
            let Self { client, flow, .. } = self;
            let body = &flow.up.window()[FRAME_HEADER + 1..len];
            let text = cstr(body).map_or(body, |(text, _)| text);
            let plan = client.plan_or(&mut flow.hand.found, text);
            if plan.explains.is_some() {
                return self.parse_explained(len, plan);
            }
            let said = self.client.said(&plan, text);
            let Self { client, flow, .. } = self;
            let body = &flow.up.window()[FRAME_HEADER + 1..len];
            let text = cstr(body).map_or(body, |(text, _)| text);
            let traces = client.traces(&plan, text);
            match said {
                Some(Said::Refused(error)) => {
                    self.refuse(len, error);
                    return Ok(());
                }
                Some(Said::Otherwise(text)) => {
                    let body = said::with_text(body, &text);
                    return self.parse_said(len, &body, traces, plan);
                }
                None => {}
            }
            if !traces.without(Traces::HINTS).is_empty() || self.client.serial {
                let text = text.to_vec();
                self.prepare_for(traces, &text)?;
            }
            let body = &self.flow.up.window()[FRAME_HEADER + 1..len];
            self.client.names.set_unnamed(Some(body), traces, Some(plan))
        } else {
            self.client.pins.add(Traces::LARGE);
            self.client.names.set_unnamed(None, Traces::LARGE, None)
        };
        self.expect_parse(before)?;
        self.flow.up.pass_frame(len);
        Ok(())
    }

    /// Notes that the client's unnamed statement is sent, which has taken the place of the one before.
    #[inline]
    pub(super) fn expect_parse(&mut self, before: Option<Unnamed>) -> Result<(), End> {
        let generation = self.client.names.unnamed.as_ref().map_or(0, |u| u.generation);
        self.own_unnamed(generation)?;
        self.client.pool.traffic.work.own().server_parses.add(1);
        self.flow.expected.push(Expect::ParseUnnamed(before));
        Ok(())
    }

    /// Parse of the unnamed statement, of which servers are sent another text.
    fn parse_said(&mut self, len: usize, body: &[u8], traces: Traces, plan: Held) -> Result<(), End> {
        let before = self.client.names.set_unnamed(Some(body), traces, Some(plan));
        self.expect_parse(before)?;
        self.flow.up.omit_frame(len);
        reply::parse(self.flow.up.insert(), b"", body);
        Ok(())
    }

    /// Parse of a named statement.
    pub(super) fn parse_named(&mut self, len: usize, name: &[u8]) -> Result<(), End> {
        match self.client.names.get(name).cloned() {
            Some(Named::Shared(known, _)) => return self.parse_duplicate(len, name, &known),
            Some(Named::Sql(_)) if self.is_settled() => return self.parse_taken(len, name),
            Some(Named::OnServer | Named::Sql(_)) => return self.parse_large(len, name),
            None => {}
        }
        let own = self.means_its_own();
        let Self { client, flow, .. } = self;
        let body = &flow.up.window()[FRAME_HEADER + name.len() + 1..len];
        let text = cstr(body).map_or(body, |(text, _)| text);
        let plan = client.plan_or(&mut flow.hand.found, text);
        let said = match client.said(&plan, text) {
            Some(Said::Refused(error)) => {
                self.refuse(len, error);
                return Ok(());
            }
            Some(Said::Otherwise(text)) => Some(said::with_text(body, &text)),
            None => None,
        };
        let sent = said.or_else(|| plan.explains.as_ref().map(|_| analyzed::for_server(body)));
        let traces = || match (&plan.explains, sent.as_deref().and_then(cstr)) {
            (Some(wanted), Some((text, _))) if wanted.analyze => effect::scan(text).and(Traces::EXPLAINED),
            (Some(_), _) => Traces::EXPLAINED,
            (None, _) => Client::shared_traces(&plan, text),
        };
        let statement = if own {
            Prepared::alone(body, client.scope(), traces(), sent.as_deref())
        } else {
            client.pool.statements.intern(body, client.scope(), traces, sent.as_deref())
        };
        self.parse_shared(len, name, statement, plan)
    }

    /// Parse of a statement that can be prepared on any server.
    pub(super) fn parse_shared(
        &mut self,
        len: usize,
        name: &[u8],
        statement: Arc<Prepared>,
        plan: Held,
    ) -> Result<(), End> {
        self.may_prepare()?;
        let undo = self.client.names.set(name, Some(Named::Shared(statement.clone(), Some(plan))));
        self.flow.up.omit_frame(len);
        if self.send_parse(&statement)? {
            self.flow.expected.push(Expect::Parse(statement.clone(), undo));
            if !statement.is_described() {
                self.send_describe(statement);
            }
        } else {
            self.flow.expected.push(Expect::ReplyParse(undo));
        }
        Ok(())
    }

    /// The name is taken: the server is made to say so, in its place in the batch and with all that follows from it.
    pub(super) fn parse_duplicate(
        &mut self,
        len: usize,
        name: &[u8],
        known: &Arc<Prepared>,
    ) -> Result<(), End> {
        if self.send_parse(known)? {
            self.flow.expected.push(Expect::OurParse(known.clone()));
        }
        let body = self.flow.up.window()[FRAME_HEADER + name.len() + 1..len].to_vec();
        self.flow.up.omit_frame(len);
        reply::parse(self.flow.up.insert(), &known.name, &body);
        let shown = String::from_utf8_lossy(name);
        let error = Error::statement(
            SqlState::DUPLICATE_STATEMENT,
            format!("prepared statement \"{shown}\" already exists"),
        );
        self.flow.expected.push(Expect::Doomed(error.code, Box::new(error)));
        Ok(())
    }

    /// Whether everything that may change what names mean has been answered.
    fn is_settled(&self) -> bool {
        self.client.doubts.is_none() && self.flow.hand.asked.is_none() && self.flow.expected.is_empty()
    }

    /// Whether what is prepared now may mean something that no scope tells. What the server is just being asked, it has not
    /// said yet.
    fn means_its_own(&self) -> bool {
        self.client.means_its_own() || self.flow.hand.asked.as_ref().is_some_and(|asked| asked.blurs())
    }

    /// SQL has taken the name: the server, which has it, says so.
    fn parse_taken(&mut self, len: usize, name: &[u8]) -> Result<(), End> {
        self.ensure_own(name)?;
        let undo = self.client.names.set(name, self.client.names.get(name).cloned());
        self.flow.expected.push(Expect::ParseRaw(undo));
        self.flow.up.pass_frame(len);
        Ok(())
    }

    /// Too long to be kept for preparing it elsewhere: it stays on this server, and so does the client.
    pub(super) fn parse_large(&mut self, len: usize, name: &[u8]) -> Result<(), End> {
        self.client.pins.add(Traces::LARGE);
        let known = self.client.names.get(name).cloned().unwrap_or(Named::OnServer);
        let undo = self.client.names.set(name, Some(known));
        self.flow.expected.push(Expect::ParseRaw(undo));
        self.flow.up.pass_frame(len);
        Ok(())
    }

    /// Sends Parse for a statement that this server does not have, after making room. False when it has it.
    pub(super) fn send_parse(&mut self, statement: &Arc<Prepared>) -> Result<bool, End> {
        let evicted = match self.server()?.prepare(statement) {
            Prepare::Known => return Ok(false),
            Prepare::Parse => None,
            Prepare::Replace(old) => Some(old),
        };
        if let Some(old) = evicted {
            reply::close_statement(self.flow.up.insert(), &old.name);
            self.flow.expected.push(Expect::OurClose(Some(old)));
        }
        self.client.pool.traffic.work.own().server_parses.add(1);
        reply::parse(self.flow.up.insert(), &statement.name, statement.to_parse());
        Ok(true)
    }

    /// Asks the server what a statement takes and returns.
    fn send_describe(&mut self, statement: Arc<Prepared>) {
        reply::describe_statement(self.flow.up.insert(), &statement.name);
        self.flow.expected.push(Expect::OurDescribe(statement));
    }

    /// Makes sure that the server has a statement of the client's. True where its answer must be waited for: whether
    /// the statement still returns what it did when the client prepared it.
    pub(super) fn ensure(&mut self, statement: &Arc<Prepared>) -> Result<bool, End> {
        if !self.send_parse(statement)? {
            return Ok(false);
        }
        self.flow.expected.push(Expect::OurParse(statement.clone()));
        self.checking = statement.is_described();
        self.send_describe(statement.clone());
        if self.checking {
            self.flow.up.insert().extend_from_slice(reply::FLUSH);
        }
        Ok(self.checking)
    }

    /// Takes what the server says of a statement, given the kind of the frame.
    pub(super) fn described(&mut self, kind: u8, len: usize) {
        let body = self.flow.down.window().get(FRAME_HEADER..len).map(<[u8]>::to_vec);
        if kind == b't' {
            self.flow.hand.params = body;
            return;
        }
        self.checking = false;
        let (Some(Expect::OurDescribe(statement)), Some(params), Some(row)) =
            (self.flow.expected.front(), self.flow.hand.params.take(), body)
        else {
            return;
        };
        if !statement.describe(&params, &row) {
            let statement = statement.clone();
            self.returns_else(statement);
        }
    }

    /// A statement returns something else than when it was first prepared.
    fn returns_else(&mut self, statement: Arc<Prepared>) {
        let own = self.means_its_own() || !statement.is_under(self.client.scope());
        if own && let Some(server) = &mut self.client.lease {
            // To this session alone, where it is now: it is told so, and the server forgets what it has made of it.
            server.forget(statement.id);
            self.flow.hand.astray = statement.id;
            reply::close_statement(self.flow.up.insert(), &statement.name);
            self.flow.expected.push(Expect::OurClose(Some(statement)));
            return;
        }
        statement.set_changed();
        // Who prepares it from now on gets what there is now.
        self.client.pool.statements.forget_all();
    }
}
