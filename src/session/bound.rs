//! What uses prepared statements: Bind, Describe and Close, by the client's names, of what the server may know under
//! another name or not at all.

use std::sync::Arc;

use smallvec::SmallVec;

use super::analyzed;
use super::batch::Batch;
use super::expect::Expect;
use super::names::Named;
use super::requests::{NOBODY, unterminated};
use super::run::End;
use crate::core::error::{Error, SqlState};
use crate::core::limits::FRAME_HEADER;
use crate::pool::server::Unnamed;
use crate::pool::statement::{Prepared, SERVER_PREFIX};
use crate::sql::effect::Traces;
use crate::wire::message::cstr;
use crate::wire::reply;

/// What a server calls a statement of the client's.
#[derive(Debug)]
pub(super) enum Resolved {
    /// As the client does.
    Same,
    /// By our name for it.
    Ours(Arc<Prepared>),
    /// This, which it does not have.
    Unknown(Box<[u8]>),
    /// Nothing, and for this reason.
    Lost(Error),
    /// That depends on an answer of the server's, or on a plan that is to be made.
    Later,
}

impl Resolved {
    /// The name on the server, where that differs.
    pub(super) fn name(&self) -> Option<&[u8]> {
        match self {
            Resolved::Ours(statement) => Some(&statement.name),
            Resolved::Unknown(name) => Some(name),
            Resolved::Same | Resolved::Lost(_) | Resolved::Later => None,
        }
    }
}

/// A copy of a name that the client gave to something: most are short.
pub(super) type Name = SmallVec<[u8; 48]>;

impl Batch<'_> {
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

    /// Makes sure that the server's unnamed statement is the client's, or that it has none if the client has none.
    /// False where its plan has to be waited for.
    pub(super) fn ensure_unnamed(&mut self) -> Result<bool, End> {
        let client = self.client.entry.id;
        let mine = self.client.names.unnamed.clone();
        if let Some(mine) = &mine {
            let text = mine.body.as_deref().and_then(cstr).map(|(text, _)| text);
            self.flow.hand.resolved = match (&mine.plan, text) {
                (Some(plan), _) if self.client.is_current(plan) => Some(plan.clone()),
                (_, Some(text)) => match self.replan(text) {
                    Some(plan) => Some(plan),
                    None => return Ok(false),
                },
                (_, None) => None,
            };
            self.use_statement(mine.pins, mine.body.as_deref().unwrap_or_default())?;
        }
        let here = self.server()?.unnamed;
        match mine {
            Some(mine) if here == Some(Unnamed { client, generation: mine.generation }) => {}
            Some(mine) => {
                let Some(body) = &mine.body else { return Ok(true) };
                let explained = mine.pins.contains(Traces::EXPLAINED);
                let blanked = explained.then(|| analyzed::for_server(body));
                reply::parse(self.flow.up.insert(), b"", blanked.as_deref().unwrap_or(body));
                self.client.pool.traffic.work.own().server_parses.add(1);
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
        Ok(true)
    }

    /// Finds the client's statement `name`, sees to it that the server has it, and returns what the server calls it
    /// if that differs.
    pub(super) fn resolve(&mut self, name: &[u8]) -> Result<Resolved, End> {
        self.flow.hand.resolved = None;
        if name.is_empty() {
            return Ok(if self.ensure_unnamed()? { Resolved::Same } else { Resolved::Later });
        }
        match self.client.names.get(name).cloned() {
            Some(Named::Shared(statement, plan)) => {
                let astray = std::mem::take(&mut self.flow.hand.astray) == statement.id;
                if astray || statement.is_changed() {
                    // What a connection of its own would say (plancache.c, `RevalidateCachedQuery`).
                    let reason = "cached plan must not change result type";
                    return Ok(Resolved::Lost(Error::statement(SqlState::FEATURE_NOT_SUPPORTED, reason)));
                }
                if self.ensure(&statement)? {
                    return Ok(Resolved::Later);
                }
                self.flow.hand.resolved = match plan {
                    Some(plan) if self.client.is_current(&plan) => Some(plan),
                    _ => {
                        let text = cstr(&statement.body).map_or(&b""[..], |(text, _)| text);
                        let Some(plan) = self.replan(text) else { return Ok(Resolved::Later) };
                        self.client.names.replan(name, Some(plan.clone()));
                        Some(plan)
                    }
                };
                // What it mentions may call something by now that it did not when it was prepared.
                let calls =
                    self.flow.hand.resolved.as_ref().map_or(Traces::NONE, |p| p.traces.of(Traces::CALLS));
                self.use_statement(statement.pins.and(calls), &statement.body)?;
                Ok(Resolved::Ours(statement))
            }
            // The server says that it does not exist; a name of ours must not exist for a client that guesses it.
            None if name.starts_with(SERVER_PREFIX) => Ok(Resolved::Unknown([name, b"?"].concat().into())),
            None | Some(Named::OnServer) => Ok(Resolved::Same),
            Some(Named::Sql(_)) => {
                self.client.executes(name);
                Ok(Resolved::Same)
            }
        }
    }

    /// Bind. False where it must wait.
    pub(super) fn bind(&mut self, len: usize) -> Result<bool, End> {
        let body = self.body(len);
        let names = cstr(body).and_then(|(portal, rest)| Some((portal.len(), cstr(rest)?.0)));
        let Some((portal, name)) = names.map(|(portal, name)| (portal, Name::from_slice(name))) else {
            return Err(unterminated());
        };
        if name.is_empty() && self.unnamed_is_here() {
            // The way of most drivers: nothing to change, nothing to copy.
            self.bind_unnamed(len, portal);
            self.flow.up.pass_frame(len);
        } else {
            let resolved = match self.resolve(&name)? {
                Resolved::Lost(reason) => {
                    self.fail_in_place(len, reason);
                    return Ok(true);
                }
                Resolved::Later => return Ok(false),
                resolved => resolved,
            };
            if self.client.listening.is_some() {
                let portal = self.body(len)[..portal].to_vec();
                let body = self.client.names.body(&name).map(<[u8]>::to_vec);
                self.bind_listen(&portal, body.as_deref());
            }
            if !self.bind_explained(len, portal, &name, resolved.name()) {
                self.note_portal(len, portal, None);
                self.rename(len, portal + 1, name.len(), resolved.name());
            }
        }
        self.client.pool.traffic.work.own().binds.add(1);
        self.flow.expected.push(Expect::Bind);
        Ok(true)
    }

    /// Notes that the unnamed statement, which the server has, is bound.
    #[inline]
    pub(super) fn bind_unnamed(&mut self, len: usize, portal: usize) {
        self.flow.hand.resolved = self.client.unnamed_plan();
        self.note_portal(len, portal, None);
    }

    /// Whether the server's unnamed statement is the client's, and needs nothing.
    pub(super) fn unnamed_is_here(&self) -> bool {
        let client = self.client.entry.id;
        let here = self.client.lease.as_ref().and_then(|s| s.unnamed);
        let Some(mine) = &self.client.names.unnamed else { return false };
        self.client.listening.is_none()
            && mine.pins.is_empty()
            && here == Some(Unnamed { client, generation: mine.generation })
    }

    /// The server is made to fail in a request's place, so that all that follows from that does.
    pub(super) fn fail_in_place(&mut self, len: usize, reason: Error) {
        self.flow.up.omit_frame(len);
        reply::bind_nothing(self.flow.up.insert());
        self.flow.expected.push(Expect::Doomed(SqlState::UNKNOWN_STATEMENT, Box::new(reason)));
    }

    /// Notes what executing a prepared statement may leave behind; `body` is its text and what follows a NUL.
    pub(super) fn use_statement(&mut self, traces: Traces, body: &[u8]) -> Result<(), End> {
        if traces.is_empty() {
            return Ok(());
        }
        let blanked = traces.contains(Traces::EXPLAINED).then(|| analyzed::for_server(body));
        let body = blanked.as_deref().unwrap_or(body);
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
    pub(super) fn rename(&mut self, len: usize, at: usize, old: usize, new: Option<&[u8]>) {
        match new {
            Some(new) => self.flow.up.replace(len, FRAME_HEADER + at, old, new),
            None => self.flow.up.pass_frame(len),
        }
    }

    /// Describe.
    pub(super) fn describe(&mut self, len: usize) -> Result<bool, End> {
        let (kind, name) = self.target(len)?;
        if kind != b'S' {
            if name.is_empty() && self.client.is_portal_given() {
                self.drop_portal();
            }
            let explained = self.client.names.portal(&name).and_then(|portal| portal.explained);
            self.flow.expected.push(explained.map_or(Expect::DescribePortal, Expect::DescribeExplained));
            self.flow.up.pass_frame(len);
            return Ok(true);
        }
        let resolved = match self.resolve(&name)? {
            Resolved::Lost(reason) => {
                self.fail_in_place(len, reason);
                return Ok(true);
            }
            Resolved::Later => return Ok(false),
            resolved => resolved,
        };
        self.rename(len, 1, name.len(), resolved.name());
        let explained = self.explained_form(0);
        self.flow.expected.push(explained.map_or(Expect::DescribeStatement, Expect::DescribeExplained));
        Ok(true)
    }

    /// The client asks again for the unnamed portal, of which it was given all that it asked for in a server's place. It has
    /// none any more; what a server has under that name is another.
    pub(super) fn drop_portal(&mut self) {
        self.flow.up.insert().extend_from_slice(reply::CLOSE_UNNAMED_PORTAL);
        self.flow.expected.push(Expect::OurClose(None));
        if let Some(caching) = &mut self.client.caching {
            caching.within.binds();
        }
    }

    /// Close.
    pub(super) fn close(&mut self, len: usize) -> Result<(), End> {
        let (kind, name) = self.target(len)?;
        if kind != b'S' {
            self.client.names.close_portal(&name);
            self.flow.expected.push(Expect::Close(None));
            self.flow.up.pass_frame(len);
            return Ok(());
        }
        if name.is_empty() {
            let before = self.client.names.unnamed.take();
            // If the server skips this, its unnamed statement stays whose it was; that is not known before.
            self.server()?.unnamed = Some(NOBODY);
            self.flow.expected.push(Expect::CloseUnnamed(before));
            self.flow.up.pass_frame(len);
            return Ok(());
        }
        match self.client.names.get(&name) {
            Some(Named::Shared(..)) => {
                let undo = self.client.names.set(&name, None);
                self.flow.up.omit_frame(len);
                self.flow.expected.push(Expect::ReplyClose(Some(undo)));
            }
            Some(Named::OnServer | Named::Sql(_)) => {
                let id = self.client.entry.id;
                self.server()?.own_of(id).remove(&*name);
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
    pub(super) fn target(&self, len: usize) -> Result<(u8, Name), End> {
        let Some((&kind, rest)) = self.body(len).split_first() else { return Err(unterminated()) };
        let Some((name, _)) = cstr(rest) else { return Err(unterminated()) };
        Ok((kind, Name::from_slice(name)))
    }
}
