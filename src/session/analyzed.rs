//! EXPLAIN (ROUTE, ANALYZE) of the extended protocol: the server prepares, binds and executes what is explained, with
//! the client's values; the client is told of one column, and given the answer in place of the rows.

use super::batch::Batch;
use super::expect::Expect;
use super::explained::Running;
use super::names::{Form, Portal};
use super::run::End;
use crate::core::error::{Error, SqlState};
use crate::core::limits::{FRAME_HEADER, MAX_KEPT_STATEMENT};
use crate::plan::{Held, explain};
use crate::sql::effect::Traces;
use crate::wire::frame::Header;
use crate::wire::message::cstr;
use crate::wire::reply;

/// Whether a text, of which only the beginning need be there, asks for something to be run and explained.
pub fn wanted(text: &[u8]) -> bool {
    matches!(text.trim_ascii_start().first(), Some(b'e' | b'E' | b'/' | b'-'))
        && explain::read(text).is_some_and(|wanted| wanted.analyze)
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
        cstr(self.body(header.len)).is_some_and(|(_, text)| wanted(text))
    }

    /// Parse of the unnamed statement, whose plan says that it is to be run and explained.
    pub fn parse_explained(&mut self, len: usize, plan: Held) -> Result<(), End> {
        let body = self.flow.up.window()[FRAME_HEADER + 1..len].to_vec();
        let sent = for_server(&body);
        let inner = cstr(&sent).map_or(&b""[..], |(text, _)| text).trim_ascii_start().to_vec();
        let explained = self.client.plan(&inner);
        let traces = self.client.traces(&explained, &inner);
        self.prepare_for(traces, &inner)?;
        let before = self.client.names.set_unnamed(Some(&body), traces.and(Traces::EXPLAINED), Some(plan));
        let generation = self.client.names.unnamed.as_ref().map_or(0, |u| u.generation);
        self.own_unnamed(generation)?;
        self.client.pool.traffic.server_parses.add(1);
        self.flow.up.omit_frame(len);
        reply::parse(self.flow.up.insert(), b"", &sent);
        self.flow.expected.push(Expect::ParseUnnamed(before));
        Ok(())
    }

    /// How the statement at hand is to be explained, if it is.
    pub(super) fn explained_form(&self, format: i16) -> Option<Form> {
        let wanted = self.resolved.as_ref()?.explains.as_ref()?;
        Some(Form { json: wanted.json, format })
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
        let form = self.explained_form(bind.as_ref().map_or(0, |(_, format)| *format));
        // What counts from here on is the plan of what is run.
        let body = self.client.names.body(name).map(for_server).unwrap_or_default();
        let inner = cstr(&body).map_or(&b""[..], |(text, _)| text).trim_ascii_start();
        self.resolved = Some(self.client.plan(inner));
        self.note_portal(len, portal, form);
        match bind {
            Some((bind, _)) => {
                self.flow.up.omit_frame(len);
                reply::frame(self.flow.up.insert(), b'B', |out| out.extend_from_slice(&bind));
            }
            None => self.rename(len, b'B', portal + 1, name.len(), renamed.map(Into::into)),
        }
        true
    }

    /// Notes what a Bind, whose portal's name has that length, has bound.
    #[inline]
    pub(super) fn note_portal(&mut self, len: usize, portal: usize, explained: Option<Form>) {
        let plan = self.resolved.take();
        if portal == 0 {
            self.bound = plan.clone();
        }
        let Self { client, flow, .. } = self;
        let name = flow.up.window().get(FRAME_HEADER..len.min(FRAME_HEADER + portal)).unwrap_or_default();
        client.names.bind(name, Portal { plan, explained });
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

    /// What is explained has been run: its CommandComplete is replaced by the answer.
    pub(super) fn explained_answer(&mut self, running: Running, len: usize) {
        self.flow.down.omit_frame(len);
        let rows = explain::rows(&running.plan, &self.client.place(), Some(running.spent()), running.json);
        let plain = !self.client.is_utf8();
        for row in rows {
            // Only what is the same in every encoding.
            let row = if plain { row.replace(|c: char| !c.is_ascii(), "?") } else { row };
            reply::one_value(self.flow.down.insert(), row.as_bytes());
        }
        reply::command_complete(self.flow.down.insert(), "EXPLAIN");
    }
}
