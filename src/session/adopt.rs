//! Making a server connection the client's: the settings and statements that it must have before the client's own
//! bytes, all in the same write; and asking it, before it is given back, what the client has left on it.

use std::sync::atomic::Ordering::Relaxed;

use super::batch::Batch;
use super::expect::{Expect, Ours};
use super::inquiry::Asked;
use super::run::{Client, End};
use crate::core::clock::Instant;
use crate::core::error::Error;
use crate::core::limits::FRAME_HEADER;
use crate::pool::server::Server;
use crate::pool::settings::Settings;
use crate::pool::wish::Wish;
use crate::sql::effect::{self, Traces};
use crate::wire::message::{cstr, data_row};
use crate::wire::{frame, reply};

impl Client {
    /// What this session needs on a server that began differently. `None` where it cannot be had there.
    pub(super) fn needs(&self, server: &Server) -> Option<std::sync::Arc<Settings>> {
        if self.wish.is_same(server) {
            return Some(self.settings.clone());
        }
        self.pool.carried(server, &self.wish.class, &self.settings).map(|s| self.pool.shared_settings(s))
    }
}

/// Whether the text begins like this, but for white space and case.
#[inline]
fn leads(text: &[u8], with: &[u8]) -> bool {
    text.trim_ascii_start().get(..with.len()).is_some_and(|head| head.eq_ignore_ascii_case(with))
}

impl Batch<'_> {
    /// What the request that a connection is wanted for wants beyond what this one is: one that began like the session
    /// where it may go back to that, one that nobody has used where it depends on what has been loaded.
    pub fn particular(&self, server: &Server) -> Option<Wish> {
        let same = self.client.wish.is_same(server);
        if same && !server.used {
            return None;
        }
        let window = self.flow.up.window();
        // This is on the way of every statement, and most depend on nothing that is loaded: only a Query may, and no SELECT.
        let select = matches!(window, [b'Q', _, _, _, _, _, b'e' | b'E', b'l' | b'L', ..]);
        if same && (select || !matches!(window, [b'Q', ..])) {
            return None;
        }
        let header = frame::client(window, self.client.max_message()).ok()??;
        let body = &window[FRAME_HEADER..header.len.min(window.len())];
        let text = match header.kind {
            b'Q' if same && !leads(body, b"set ") && !leads(body, b"load") => return None,
            b'Q' => body,
            b'P' if !same => cstr(body).map_or(&b""[..], |(_, rest)| rest),
            _ => return None,
        };
        let traces = effect::scan(cstr(text).map_or(text, |(text, _)| text));
        let fresh = traces.contains(Traces::FRESH) && server.used;
        let exact = traces.contains(Traces::RESETS) && !same;
        (fresh || exact).then(|| Wish { exact: true, fresh, ..self.client.wish.clone() })
    }

    /// Lends the server to the client and sends ahead what the session needs on it. Gives it back where it cannot
    /// be made to suit.
    pub fn adopt(&mut self, mut server: Box<Server>, now: Instant) -> Result<(), Box<Server>> {
        let client = &mut *self.client;
        // Most have set nothing, and get a connection that began as they did.
        let alike = client.wish.is_same(&server) && Settings::same(&server.settings, &client.settings);
        let needed = if alike { None } else { client.needs(&server) };
        if needed.is_none() && !alike {
            return Err(server);
        }
        server.link.lent_us.store(now.micros_since(server.opened), Relaxed);
        server.link.client.store(client.entry.id, Relaxed);
        client.entry.link(server.handle.take().unwrap_or_else(|| server.link.clone()));
        client.leased_at = now;
        server.used = true;
        client.wish.newcomer = false;
        client.lease = Some(server);
        if let Some(needed) = &needed {
            self.carry_settings(needed);
        }
        self.carry_statements();
        self.open();
        Ok(())
    }

    fn carry_settings(&mut self, needed: &std::sync::Arc<Settings>) {
        let Some(server) = &mut self.client.lease else { return };
        if Settings::same(&server.settings, needed) {
            return;
        }
        let sql = server.settings.statement_to(needed);
        server.settings = needed.clone();
        // A simple Query drops the unnamed statement.
        server.unnamed = None;
        reply::query(self.flow.up.insert(), &sql);
        self.flow.expected.push(Expect::OurQuery(Ours::Settings));
    }

    /// What the session has and its connection has lost, as after RESET of what the client began with on a
    /// connection that began differently.
    pub fn sync_settings(&mut self) {
        self.client.unsynced = false;
        let Some(server) = &self.client.lease else { return };
        if let Some(needed) = self.client.needs(server) {
            self.carry_settings(&needed);
        }
    }

    /// Statements under clients' own names: another client's go, this one's come.
    fn carry_statements(&mut self) {
        let id = self.client.entry.id;
        let client = &mut *self.client;
        let Some(server) = &mut client.lease else { return };
        if let Some(own) = server.own.take_if(|own| own.client != id) {
            for name in own.names.keys() {
                reply::close_statement(self.flow.up.insert(), name);
                self.flow.expected.push(Expect::OurClose(None));
            }
        }
        for (name, text) in client.names.sql() {
            if server.own_of(id).insert(name.into(), text.id) != Some(text.id) {
                server.unnamed = None;
                reply::query_bytes(self.flow.up.insert(), &text.text);
                self.flow.expected.push(Expect::OurQuery(Ours::Prepare(name.into())));
            }
        }
    }

    /// Asks the server what the client has left behind, if that is in doubt. True when it has been asked.
    pub fn inquire(&mut self) -> bool {
        let client = &mut *self.client;
        if self.flow.hand.asked.is_some() || client.lease.is_none() {
            return self.flow.hand.asked.is_some();
        }
        let Some((sql, asked)) = client.question() else { return false };
        reply::query(self.flow.up.insert(), &sql);
        if let Some(server) = &mut client.lease {
            server.unnamed = None;
        }
        self.flow.expected.push(Expect::OurQuery(Ours::Inquiry));
        self.flow.hand.asked = Some(Box::new(asked));
        true
    }

    /// A row of the answer.
    pub fn settle(&mut self, len: usize) {
        let row = self.flow.down.window()[..len].to_vec();
        let settled = match self.flow.hand.asked.as_deref_mut() {
            Some(Asked::Functions(found)) => data_row(&row).and_then(|row| found.row(&row)),
            _ => match self.flow.hand.asked.take().map(|asked| *asked) {
                Some(Asked::State(question)) => self.client.settle(question, &row),
                _ => None,
            },
        };
        if settled.is_none() {
            self.unsettled();
        }
        self.flow.down.omit_frame(len);
    }

    /// The answer is complete.
    pub fn settled(&mut self) {
        match self.flow.hand.asked.take().map(|asked| *asked) {
            Some(Asked::Functions(found)) => self.client.pool.schema.functions.learn(found),
            // It was to have one row, which has been taken.
            Some(Asked::State(_)) => self.unsettled(),
            None => {}
        }
    }

    /// The question could not be answered: the client keeps its connection.
    pub fn unsettled(&mut self) {
        self.flow.hand.asked = None;
        self.client.pins.add(Traces::UNKNOWN);
    }

    /// A connection of another session's beginning that cannot be made to suit; what was promised was wrong.
    pub fn misfit() -> End {
        Error::internal("server connection does not suit the session's settings").into()
    }
}
