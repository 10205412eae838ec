//! EXPLAIN (ROUTE) of the extended protocol: the server prepares and binds what is explained, with the client's types
//! and values, and with ANALYZE executes it; the client is told of one column, and given the answer in place of the rows.

use std::collections::VecDeque;

use super::batch::Batch;
use super::expect::Expect;
use super::explained::{Running, runs};
use super::names::{Form, Portal};
use super::run::End;
use crate::core::error::{Error, SqlState};
use crate::core::limits::{FRAME_HEADER, MAX_KEPT_STATEMENT};
use crate::plan::Held;
use crate::plan::explain::{self, Spent};
use crate::sql::effect::Traces;
use crate::wire::frame::Header;
use crate::wire::message::cstr;
use crate::wire::reply;

/// Whether a text, of which only the beginning need be there, asks for something to be explained, and whether to be run.
pub fn wanted(text: &[u8]) -> Option<bool> {
    // Most texts are told by their first letter.
    let first = text.trim_ascii_start().first();
    first.filter(|b| matches!(b, b'e' | b'E' | b'/' | b'-'))?;
    explain::read(text).map(|wanted| wanted.analyze)
}

/// The body of Parse, after the name, that servers are sent: blanks in place of EXPLAIN and its options, so that where an
/// error is stays the same.
pub fn for_server(body: &[u8]) -> Vec<u8> {
    let text = cstr(body).map_or(body, |(text, _)| text);
    let blank = explain::read(text).map_or(0, |wanted| wanted.inner.start);
    let mut sent = vec![b' '; blank];
    sent.extend_from_slice(&body[blank..]);
    sent
}

/// What a client is told whose statement is too long to be prepared on any server.
pub fn too_long() -> Error {
    Error::statement(SqlState::LIMIT_EXCEEDED, "the statement is too long for EXPLAIN (ROUTE, ANALYZE)")
        .detail(format!("The limit is {MAX_KEPT_STATEMENT} bytes where it is prepared."))
        .hint("Send it as a simple query, with its values in the text.")
}

/// A Bind's body that asks for no format of its results, and the format that it asked for first. `None` where it is
/// malformed.
fn without_formats(body: &[u8], statement: &[u8]) -> Option<(Vec<u8>, i16)> {
    let number = |at: usize| Some(i16::from_be_bytes(*body.get(at..)?.first_chunk()?));
    let (portal, rest) = cstr(body)?;
    let (_, rest) = cstr(rest)?;
    let start = body.len() - rest.len();
    let mut at = start + 2 + 2 * usize::try_from(number(start)?).ok()?;
    let values = number(at)?;
    at += 2;
    for _ in 0..values {
        let length = i32::from_be_bytes(*body.get(at..)?.first_chunk()?);
        at += 4 + usize::try_from(length).unwrap_or(0);
    }
    let format = if number(at)? > 0 { number(at + 2)? } else { 0 };
    let values = body.get(start..at)?;
    Some(([portal, b"\0", statement, b"\0", values, &[0, 0]].concat(), format))
}

impl Batch<'_> {
    /// Whether a Parse wants something run and explained that cannot be kept.
    pub fn is_too_long_to_explain(&self, header: Header, whole: bool) -> bool {
        if whole && header.len <= MAX_KEPT_STATEMENT {
            return false;
        }
        cstr(self.body(header.len)).is_some_and(|(_, text)| wanted(text) == Some(true))
    }

    /// Parse of the unnamed statement, whose plan says that it is to be run and explained.
    pub fn parse_explained(&mut self, len: usize, plan: Held) -> Result<(), End> {
        let body = self.flow.up.window()[FRAME_HEADER + 1..len].to_vec();
        let sent = for_server(&body);
        let inner = cstr(&sent).map_or(&b""[..], |(text, _)| text).trim_ascii_start().to_vec();
        let explained = self.client.plan(&inner);
        let mut traces = Traces::NONE;
        if runs(&explained) && plan.explains.as_ref().is_some_and(|wanted| wanted.analyze) {
            traces = self.client.traces(&explained, &inner);
            self.prepare_for(traces, &inner)?;
        }
        let before = self.client.names.set_unnamed(Some(&body), traces.and(Traces::EXPLAINED), Some(plan));
        let generation = self.client.names.unnamed.as_ref().map_or(0, |u| u.generation);
        self.own_unnamed(generation)?;
        self.client.pool.traffic.work.own().server_parses.add(1);
        self.flow.up.omit_frame(len);
        reply::parse(self.flow.up.insert(), b"", &sent);
        self.flow.expected.push(Expect::ParseUnnamed(before));
        Ok(())
    }

    /// How the statement at hand is to be explained, if it is.
    pub(super) fn explained_form(&self, format: i16) -> Option<Form> {
        let wanted = self.flow.hand.resolved.as_ref()?.explains.as_ref()?;
        Some(Form { runs: wanted.analyze, json: wanted.json, format })
    }

    /// Bind of a statement that is run and explained. False for any other.
    pub(super) fn bind_explained(
        &mut self,
        len: usize,
        portal: usize,
        name: &[u8],
        renamed: Option<&[u8]>,
    ) -> bool {
        if self.explained_form(0).is_none() {
            return false;
        }
        // What is too large to be held asks for its formats itself.
        let whole = self.flow.up.window().len() >= len;
        let bind = without_formats(self.body(len), renamed.unwrap_or(name)).filter(|_| whole);
        let mut form = self.explained_form(bind.as_ref().map_or(0, |(_, format)| *format));
        // What counts from here on is the plan of what is run.
        let body = self.client.names.body(name).map(for_server).unwrap_or_default();
        let inner = cstr(&body).map_or(&b""[..], |(text, _)| text).trim_ascii_start();
        let plan = self.client.plan(inner);
        if let Some(form) = &mut form {
            form.runs &= runs(&plan);
        }
        self.flow.hand.resolved = Some(plan);
        self.note_portal(len, portal, form);
        match bind {
            Some((bind, _)) => {
                self.flow.up.omit_frame(len);
                reply::frame(self.flow.up.insert(), b'B', |out| out.extend_from_slice(&bind));
            }
            None => self.rename(len, portal + 1, name.len(), renamed),
        }
        true
    }

    /// Notes what a Bind, whose portal's name has that length, has bound.
    #[inline]
    pub(super) fn note_portal(&mut self, len: usize, portal: usize, explained: Option<Form>) {
        let plan = self.flow.hand.resolved.take();
        if portal == 0 {
            let plain = plan.as_ref().filter(|_| explained.is_none());
            self.flow.hand.bound_row = self.row_bound(len, plain);
            if let Some(caching) = &mut self.client.caching {
                caching.within.binds();
            }
            if explained.is_none() {
                self.client.names.close_portal(b"");
                self.flow.hand.bound = plan;
                return;
            }
            self.flow.hand.bound = plan.clone();
        }
        let Self { client, flow, .. } = self;
        let name = flow.up.window().get(FRAME_HEADER..len.min(FRAME_HEADER + portal)).unwrap_or_default();
        client.names.bind(name, Portal { plan, explained, rest: None });
    }

    /// Execute of a portal that is run and explained. All of its rows are taken.
    pub(super) fn execute_explained(&mut self, len: usize, most: u32) {
        let name = cstr(self.body(len)).map_or(&b""[..], |(name, _)| name);
        let portal = self.client.names.portal(name).cloned();
        let Some((Portal { plan: Some(plan), .. }, form)) =
            portal.and_then(|p| Some((p.clone(), p.explained?)))
        else {
            return self.fail_in_place(len, Error::internal("a portal without a plan"));
        };
        if !form.runs {
            return self.give_explained(len, &plan, form, most);
        }
        if most > 0 {
            let error = Error::statement(
                SqlState::FEATURE_NOT_SUPPORTED,
                "EXPLAIN (ROUTE, ANALYZE) gives its answer as a whole",
            );
            return self.fail_in_place(len, error.hint("Execute it without a bound on rows (a fetch size)."));
        }
        let running = self.run_now(plan, form.json);
        self.flow.expected.push(Expect::Explained(Box::new(running)));
        self.flow.up.pass_frame(len);
    }

    /// Execute of a portal that is only explained: the answer is given in its place.
    fn give_explained(&mut self, len: usize, plan: &Held, form: Form, most: u32) {
        let name = cstr(self.body(len)).map_or(Vec::new(), |(name, _)| name.to_vec());
        let rest = self.client.names.portal(&name).and_then(|portal| portal.rest.clone());
        let mut rest: VecDeque<String> = rest.unwrap_or_else(|| self.rows_of(plan, None, form.json).into());
        let mut out = Vec::new();
        let most = usize::try_from(most).ok().filter(|most| *most > 0).unwrap_or(usize::MAX);
        let more = rest.len() > most;
        for row in rest.drain(..most.min(rest.len())) {
            reply::one_value(&mut out, row.as_bytes());
        }
        if more {
            out.extend_from_slice(reply::PORTAL_SUSPENDED);
        } else {
            reply::command_complete(&mut out, "EXPLAIN");
        }
        if let Some(portal) = self.client.names.portal_mut(&name) {
            portal.rest = Some(rest);
        }
        self.flow.up.omit_frame(len);
        self.flow.expected.push(Expect::ReplyRows(out));
    }

    /// The answer's rows, as the client can read them.
    fn rows_of(&mut self, plan: &Held, spent: Option<Spent>, json: bool) -> Vec<String> {
        let rows = explain::rows(plan, &self.client.place(plan, None, spent.is_some()), spent, json);
        if self.client.is_utf8() {
            return rows;
        }
        // Only what is the same in every encoding.
        rows.into_iter().map(|row| row.replace(|c: char| !c.is_ascii(), "?")).collect()
    }

    /// What is explained has been run: its CommandComplete is replaced by the answer.
    pub(super) fn explained_answer(&mut self, running: Running, len: usize) {
        self.flow.down.omit_frame(len);
        for row in self.rows_of(&running.plan, Some(running.spent()), running.json) {
            reply::one_value(self.flow.down.insert(), row.as_bytes());
        }
        reply::command_complete(self.flow.down.insert(), "EXPLAIN");
    }
}
