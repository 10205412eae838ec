//! Requests as they are taken: copied once for whoever wants them, with what they need that came before.

use super::exchange::Definition;
use super::{Pending, Shadow};
use crate::core::limits::{FRAME_HEADER, MAX_MIRRORED};
use crate::plan::explain;
use crate::session::batch::Batch;
use crate::session::names::Named;
use crate::session::run::Client;
use crate::wire::frame::Header;
use crate::wire::message::cstr;

impl Batch<'_> {
    /// Collects the request at hand, which is about to be taken, or to wait.
    #[inline]
    pub(crate) fn collect(&mut self, header: Header, whole: bool) {
        if self.client.shadow.is_some() {
            self.collect_now(header, whole);
        }
    }

    #[cold]
    fn collect_now(&mut self, header: Header, whole: bool) {
        let Some(mut shadow) = self.client.shadow.take() else { return };
        let window = self.flow.up.window();
        shadow.owed = self.flow.expected.ready_owed();
        shadow.request(self.client, &window[..header.len.min(window.len())], header.kind, whole);
        self.client.shadow = Some(shadow);
    }

    /// Notes that a request has been taken.
    #[inline]
    pub(crate) fn took_request(&mut self, len: usize) {
        self.flow.hand.found = None;
        self.flow.hand.passing = self.flow.hand.passing.saturating_sub(len);
        self.client.took_request(len);
        if self.client.shadow.is_some() {
            self.collected();
        }
    }

    #[cold]
    fn collected(&mut self) {
        let Some(shadow) = &mut self.client.shadow else { return };
        shadow.at_hand = false;
        if !std::mem::take(&mut shadow.ends) {
            return;
        }
        let Some(pending) = shadow.now.take() else { return };
        if self.flow.expected.ready_owed() > shadow.owed {
            shadow.under_way.push_back(pending);
        } else {
            // No server was asked.
            self.finish(pending, None);
        }
    }

    /// The request at hand has been answered in a server's place, with an error.
    #[inline]
    pub(crate) fn collect_refused(&mut self, is_query: bool) {
        if self.client.shadow.is_some() {
            self.collect_refused_now(is_query);
        }
    }

    #[cold]
    fn collect_refused_now(&mut self, is_query: bool) {
        let Some(shadow) = &mut self.client.shadow else { return };
        if let Some(now) = &mut shadow.now {
            now.broken = true;
        }
        if is_query {
            (shadow.now, shadow.at_hand, shadow.ends) = (None, false, false);
            shadow.number += 1;
        }
    }

    /// A statement has been answered without a server, `over` where that is all of its exchange.
    #[inline]
    pub(crate) fn collect_given(&mut self, over: bool) {
        if let Some(shadow) = &mut self.client.shadow {
            (shadow.at_hand, shadow.ends) = (false, false);
            match &mut shadow.now {
                Some(now) if !over => now.broken = true,
                now => *now = None,
            }
            shadow.number += u64::from(over);
        }
    }

    /// Collects what has come of a request that is passed on in pieces.
    #[inline]
    pub(crate) fn collect_more(&mut self) {
        if self.client.shadow.is_some() {
            self.collect_more_now();
        }
    }

    #[cold]
    fn collect_more_now(&mut self) {
        let Self { client, flow, .. } = self;
        let here = flow.up.streaming().min(flow.up.window().len());
        if let Some(shadow) = &mut client.shadow
            && here > 0
            && let Some(pending) = shadow.now.as_mut().or(shadow.under_way.back_mut())
        {
            pending.add(&flow.up.window()[..here]);
        }
    }
}

impl Shadow {
    fn request(&mut self, client: &Client, here: &[u8], kind: u8, whole: bool) {
        if kind == b'X' {
            return;
        }
        if self.at_hand {
            // More of it may have come.
            if !whole && let Some(now) = &mut self.now {
                now.requests.truncate(now.mark);
                now.add(here);
            }
            return;
        }
        self.at_hand = true;
        let copy = matches!(kind, b'd' | b'c' | b'f');
        if self.now.is_none()
            && let Some(last) = self.under_way.back_mut().filter(|last| copy || kind == b'S' && last.copies)
        {
            // What comes after a COPY has begun is a part of it.
            last.copies = true;
            self.ends = false;
            return last.add(here);
        }
        self.ends = matches!(kind, b'Q' | b'F' | b'S');
        if self.now.is_none() {
            self.now = Some(self.begin(client));
        }
        let Some(now) = &mut self.now else { return };
        now.copies |= copy;
        now.mark = now.requests.len();
        now.add(here);
        if now.wanted != 0 && now.note(client, kind, here.get(FRAME_HEADER..).unwrap_or_default()).is_none() {
            now.dependent = true;
        }
    }

    fn begin(&mut self, client: &Client) -> Box<Pending> {
        self.settle(client);
        let wanted = self.wanted();
        let fresh = client.is_idle() && client.pins.is_empty() && client.names.sql().next().is_none();
        let room = if wanted == 0 { None } else { self.taps.collecting.take(0) };
        Box::new(Pending { wanted, fresh: fresh && !client.blurred, room, ..Pending::default() })
    }
}

impl Pending {
    fn add(&mut self, bytes: &[u8]) {
        if self.wanted == 0 || self.broken {
            return;
        }
        let fits = self.requests.len() + bytes.len() <= MAX_MIRRORED;
        if fits && self.room.as_mut().is_some_and(|room| room.grow(bytes.len())) {
            self.requests.extend_from_slice(bytes);
        } else {
            self.broken = true;
            (self.requests, self.room) = (Vec::new(), None);
        }
    }

    /// Notes which statements and portals a request makes and uses. `None` where it uses some that are not known.
    fn note(&mut self, client: &Client, kind: u8, body: &[u8]) -> Option<()> {
        match kind {
            b'Q' => self.mute |= is_explained(body),
            b'P' => {
                let (name, rest) = cstr(body)?;
                self.mute |= is_explained(rest);
                self.parsed.push(name.into());
            }
            b'B' => {
                let (portal, rest) = cstr(body)?;
                self.bound.push(portal.into());
                self.uses(client, cstr(rest)?.0)?;
            }
            b'D' if body.first() == Some(&b'S') => self.uses(client, cstr(&body[1..])?.0)?,
            b'D' => return self.has_portal(cstr(body.get(1..)?)?.0),
            b'E' => return self.has_portal(cstr(body)?.0),
            _ => {}
        }
        Some(())
    }

    fn has_portal(&self, name: &[u8]) -> Option<()> {
        self.bound.iter().any(|known| **known == *name).then_some(())
    }

    fn uses(&mut self, client: &Client, name: &[u8]) -> Option<()> {
        let here = self.parsed.iter().any(|known| **known == *name);
        if here || self.statements.iter().any(|known| *known.name == *name) {
            return Some(());
        }
        let definition = if name.is_empty() {
            Definition::unnamed(client.names.unnamed.clone().filter(|unnamed| unnamed.body.is_some())?)
        } else {
            let Some(Named::Shared(statement, _)) = client.names.get(name) else { return None };
            Definition::named(name, statement.clone())
        };
        self.statements.push(definition);
        Some(())
    }
}

/// Whether a text is EXPLAIN (ROUTE), which no other server knows.
fn is_explained(text: &[u8]) -> bool {
    let lead = text
        .iter()
        .find(|b| !b.is_ascii_whitespace())
        .is_some_and(|b| matches!(b, b'e' | b'E' | b'/' | b'-'));
    lead && explain::read(cstr(text).map_or(text, |(text, _)| text)).is_some()
}
