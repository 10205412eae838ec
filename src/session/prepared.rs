//! The client's prepared statements: what Parse, Bind, Describe and Close mean for it, and what a server must be sent
//! so that it has them.

use std::sync::Arc;

use super::batch::{Batch, too_many};
use super::expect::{Expect, Ours};
use super::names::Named;
use super::requests::{NOBODY, unterminated};
use super::run::End;
use crate::core::error::{Error, SqlState};
use crate::core::limits::{FRAME_HEADER, MAX_KEPT_STATEMENT};
use crate::pool::server::{Prepare, Unnamed};
use crate::pool::statement::{Prepared, SERVER_PREFIX};
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
        if self.client.names.get(name).is_some() {
            return Ok(false);
        }
        let Some(statement) = self.client.pool.statements.find(body).filter(|s| s.is_accepted()) else {
            return Ok(false);
        };
        let name = name.to_vec();
        self.may_prepare()?;
        self.client.pool.traffic.client_parses.add(1);
        self.client.names.set(&name, Some(Named::Shared(statement)));
        self.flow.up.omit_frame(len);
        self.flow.down.insert().extend_from_slice(reply::PARSE_COMPLETE);
        Ok(true)
    }

    /// Outside a transaction there are no portals, and statements are ours to forget.
    pub(super) fn close_alone(&mut self, len: usize) -> Result<bool, End> {
        let (kind, name) = self.target(len)?;
        match kind {
            b'S' if name.is_empty() => self.client.names.unnamed = None,
            b'S' => drop(self.client.names.set(&name, None)),
            b'P' => {}
            // The server says what is wrong with it.
            _ => return Ok(false),
        }
        self.flow.up.omit_frame(len);
        self.flow.down.insert().extend_from_slice(reply::CLOSE_COMPLETE);
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
            }
        }
        Ok(())
    }

    /// Makes sure that the server has a statement of the protocol's under the client's own name, for use by SQL.
    pub(super) fn ensure_own(&mut self, name: &[u8]) -> Result<(), End> {
        let id = self.client.entry.id;
        match self.client.names.get(name).cloned() {
            Some(Named::Shared(statement)) => {
                let known = self.server()?.own_of(id).insert(name.into(), statement.id);
                if known != Some(statement.id) {
                    reply::parse(self.flow.up.insert(), name, &statement.body);
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
        self.client.pool.traffic.client_parses.add(1);
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
            let before = self.client.names.set_unnamed(Some(body), Traces::NONE);
            let generation = self.client.names.unnamed.as_ref().map_or(0, |u| u.generation);
            self.own_unnamed(generation)?;
            self.flow.up.omit_frame(len);
            reply::parse(self.flow.up.insert(), b"", body);
            self.flow.expected.push(Expect::ParseUnnamed(before));
            return Ok(());
        }
        let statement = self.client.pool.statements.intern(body, || Traces::NONE);
        self.parse_shared(len, &name, statement)
    }

    /// Parse of the unnamed statement.
    pub(super) fn parse_unnamed(&mut self, len: usize, kept: bool) -> Result<(), End> {
        let before = if kept {
            let body = &self.flow.up.window()[FRAME_HEADER + 1..len];
            let text = cstr(body).map_or(body, |(text, _)| text);
            let traces = effect::scan(text);
            if !traces.without(Traces::HINTS).is_empty() || self.client.serial {
                let text = text.to_vec();
                self.prepare_for(traces, &text)?;
            }
            let body = &self.flow.up.window()[FRAME_HEADER + 1..len];
            self.client.names.set_unnamed(Some(body), traces)
        } else {
            self.client.pins.add(Traces::LARGE);
            self.client.names.set_unnamed(None, Traces::LARGE)
        };
        let generation = self.client.names.unnamed.as_ref().map_or(0, |u| u.generation);
        self.own_unnamed(generation)?;
        self.client.pool.traffic.server_parses.add(1);
        self.flow.expected.push(Expect::ParseUnnamed(before));
        self.flow.up.pass_frame(len);
        Ok(())
    }

    /// Parse of a named statement.
    pub(super) fn parse_named(&mut self, len: usize, name: &[u8]) -> Result<(), End> {
        match self.client.names.get(name).cloned() {
            Some(Named::Shared(known)) => return self.parse_duplicate(len, name, &known),
            Some(Named::OnServer | Named::Sql(_)) => return self.parse_large(len, name),
            None => {}
        }
        let body = &self.flow.up.window()[FRAME_HEADER + name.len() + 1..len];
        let text = cstr(body).map_or(body, |(text, _)| text);
        let statement = self.client.pool.statements.intern(body, || effect::scan(text));
        self.parse_shared(len, name, statement)
    }

    /// Parse of a statement that can be prepared on any server.
    pub(super) fn parse_shared(
        &mut self,
        len: usize,
        name: &[u8],
        statement: Arc<Prepared>,
    ) -> Result<(), End> {
        self.may_prepare()?;
        let undo = self.client.names.set(name, Some(Named::Shared(statement.clone())));
        self.flow.up.omit_frame(len);
        if self.send_parse(&statement)? {
            self.flow.expected.push(Expect::Parse(statement, undo));
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
        self.ensure(known)?;
        let body = self.flow.up.window()[FRAME_HEADER + name.len() + 1..len].to_vec();
        self.flow.up.omit_frame(len);
        reply::parse(self.flow.up.insert(), &known.name, &body);
        let shown = String::from_utf8_lossy(name);
        let error = Error::statement(
            SqlState::DUPLICATE_STATEMENT,
            format!("prepared statement \"{shown}\" already exists"),
        );
        self.flow.expected.push(Expect::Doomed(Box::new(error)));
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
        self.client.pool.traffic.server_parses.add(1);
        reply::parse(self.flow.up.insert(), &statement.name, &statement.body);
        Ok(true)
    }

    /// Makes sure that the server has a statement of the client's.
    pub(super) fn ensure(&mut self, statement: &Arc<Prepared>) -> Result<(), End> {
        if self.send_parse(statement)? {
            self.flow.expected.push(Expect::OurParse(statement.clone()));
        }
        Ok(())
    }

    /// Makes sure that the server's unnamed statement is the client's, or that it has none if the client has none.
    pub(super) fn ensure_unnamed(&mut self) -> Result<(), End> {
        let client = self.client.entry.id;
        let mine = self.client.names.unnamed.clone();
        if let Some(mine) = &mine {
            self.use_statement(mine.pins, mine.body.as_deref().unwrap_or_default())?;
        }
        let here = self.server()?.unnamed;
        match mine {
            Some(mine) if here == Some(Unnamed { client, generation: mine.generation }) => {}
            Some(mine) => {
                let Some(body) = &mine.body else { return Ok(()) };
                reply::parse(self.flow.up.insert(), b"", body);
                self.client.pool.traffic.server_parses.add(1);
                self.flow.expected.push(Expect::OurUnnamed);
                self.own_unnamed(mine.generation)?;
            }
            None if here.is_some() => {
                self.flow.up.insert().extend_from_slice(reply::CLOSE_UNNAMED);
                self.flow.expected.push(Expect::OurClose(None));
                self.server()?.unnamed = None;
            }
            None => {}
        }
        Ok(())
    }

    /// Finds the client's statement `name`, sees to it that the server has it, and returns what the server calls it
    /// if that differs.
    pub(super) fn resolve(&mut self, name: &[u8]) -> Result<Option<Box<[u8]>>, End> {
        if name.is_empty() {
            self.ensure_unnamed()?;
            return Ok(None);
        }
        match self.client.names.get(name).cloned() {
            Some(Named::Shared(statement)) => {
                self.use_statement(statement.pins, &statement.body)?;
                self.ensure(&statement)?;
                Ok(Some(statement.name.clone()))
            }
            // The server says that it does not exist; a name of ours must not exist for a client that guesses it.
            None if name.starts_with(SERVER_PREFIX) => Ok(Some([name, b"?"].concat().into())),
            None | Some(Named::OnServer | Named::Sql(_)) => Ok(None),
        }
    }

    /// Bind.
    pub(super) fn bind(&mut self, len: usize) -> Result<(), End> {
        self.client.pool.traffic.binds.add(1);
        let body = self.body(len);
        let names = cstr(body).and_then(|(portal, rest)| Some((portal.len(), cstr(rest)?.0)));
        let Some((portal, name)) = names.map(|(portal, name)| (portal, name.to_vec())) else {
            return Err(unterminated());
        };
        if name.is_empty() && self.unnamed_is_here() {
            // The way of most drivers: nothing to change, nothing to copy.
            self.flow.up.pass_frame(len);
        } else {
            let server_name = self.resolve(&name)?;
            if self.client.listening.is_some() {
                let portal = self.body(len)[..portal].to_vec();
                let body = self.client.names.body(&name).map(<[u8]>::to_vec);
                self.bind_listen(&portal, body.as_deref());
            }
            self.rename(len, b'B', portal + 1, name.len(), server_name);
        }
        self.flow.expected.push(Expect::Bind);
        Ok(())
    }

    /// Whether the server's unnamed statement is the client's, and needs nothing.
    pub(super) fn unnamed_is_here(&mut self) -> bool {
        let client = self.client.entry.id;
        let here = self.client.lease.as_ref().and_then(|s| s.unnamed);
        let Some(mine) = &self.client.names.unnamed else { return false };
        self.client.listening.is_none()
            && mine.pins.is_empty()
            && here == Some(Unnamed { client, generation: mine.generation })
    }

    /// Notes what executing a prepared statement may leave behind; `body` is its text and what follows a NUL.
    pub(super) fn use_statement(&mut self, traces: Traces, body: &[u8]) -> Result<(), End> {
        if traces.is_empty() {
            return Ok(());
        }
        let text = cstr(body).map_or(body, |(text, _)| text);
        let traces = traces.and(self.client.suspect(traces, Some(text)));
        if traces.without(Traces::HINTS).is_empty() && !self.client.serial {
            self.client.hint(traces);
            return Ok(());
        }
        self.prepare_for(traces, text)?;
        self.client.note(traces, text);
        Ok(())
    }

    /// Passes on a request of `len` bytes, with the name of `old` bytes at `at` in its body replaced.
    pub(super) fn rename(&mut self, len: usize, kind: u8, at: usize, old: usize, new: Option<Box<[u8]>>) {
        let Some(new) = new else { return self.flow.up.pass_frame(len) };
        let up = &mut self.flow.up;
        let head = FRAME_HEADER + at;
        let before = up.window()[FRAME_HEADER..head].to_vec();
        up.omit(head + old);
        let length = u32::try_from(len - 1 - old + new.len()).unwrap_or(u32::MAX);
        let out = up.insert();
        out.push(kind);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&before);
        out.extend_from_slice(&new);
        up.pass_frame(len - head - old);
    }

    /// Describe.
    pub(super) fn describe(&mut self, len: usize) -> Result<(), End> {
        let (b'S', name) = self.target(len)? else {
            self.flow.expected.push(Expect::DescribePortal);
            self.flow.up.pass_frame(len);
            return Ok(());
        };
        let server_name = self.resolve(&name)?;
        self.rename(len, b'D', 1, name.len(), server_name);
        self.flow.expected.push(Expect::DescribeStatement);
        Ok(())
    }

    /// Close.
    pub(super) fn close(&mut self, len: usize) -> Result<(), End> {
        let (b'S', name) = self.target(len)? else {
            self.flow.expected.push(Expect::Close(None));
            self.flow.up.pass_frame(len);
            return Ok(());
        };
        if name.is_empty() {
            let before = self.client.names.unnamed.take();
            // If the server skips this, its unnamed statement stays whose it was; that is not known before.
            self.server()?.unnamed = Some(NOBODY);
            self.flow.expected.push(Expect::CloseUnnamed(before));
            self.flow.up.pass_frame(len);
            return Ok(());
        }
        match self.client.names.get(&name) {
            Some(Named::Shared(_)) => {
                let undo = self.client.names.set(&name, None);
                self.flow.up.omit_frame(len);
                self.flow.expected.push(Expect::ReplyClose(Some(undo)));
            }
            Some(Named::OnServer | Named::Sql(_)) => {
                let id = self.client.entry.id;
                self.server()?.own_of(id).remove(name.as_slice());
                let undo = self.client.names.set(&name, None);
                self.flow.expected.push(Expect::Close(Some(undo)));
                self.flow.up.pass_frame(len);
            }
            // Closing what does not exist is no error; a name of ours is not the client's to close.
            None => {
                self.flow.up.omit_frame(len);
                self.flow.expected.push(Expect::ReplyClose(None));
            }
        }
        Ok(())
    }

    /// Kind and name of a Describe or Close.
    pub(super) fn target(&self, len: usize) -> Result<(u8, Vec<u8>), End> {
        let Some((&kind, rest)) = self.body(len).split_first() else { return Err(unterminated()) };
        let Some((name, _)) = cstr(rest) else { return Err(unterminated()) };
        Ok((kind, name.to_vec()))
    }
}
