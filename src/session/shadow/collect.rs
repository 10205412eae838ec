//! Requests as they are taken: copied once for whoever wants them, with what they need that came before.

use super::exchange::{Answered, Definition};
use super::{Pending, Shadow};
use crate::core::limits::{FRAME_HEADER, MAX_MIRRORED};
use crate::plan::explain;
use crate::session::batch::Batch;
use crate::session::names::Named;
use crate::session::run::Client;
use crate::wire::frame::Header;
use crate::wire::message::cstr;

/// What a name of a statement or a portal counts for: all of them are gone through for each request that uses one.
const NAME: usize = 1024;
/// Answers that are kept of an exchange of which not all is here: enough to tell whether somebody misses it.
const FEW: usize = 16;

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
            now.give_up();
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
                Some(now) if !over => now.give_up(),
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
        let notes = now.wanted != 0 && !now.broken;
        if notes && now.note(client, kind, here.get(FRAME_HEADER..).unwrap_or_default()).is_none() {
            now.dependent = true;
        }
    }

    fn begin(&mut self, client: &Client) -> Box<Pending> {
        self.settle(client);
        let wanted = self.wanted();
        let fresh = client.is_idle() && client.pins.is_empty() && client.names.sql().next().is_none();
        let room = if wanted == 0 { None } else { self.taps.collecting.take(size_of::<Pending>()) };
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
            self.give_up();
        }
    }

    /// It is too large, or not all of it comes: what others would need of it is not kept.
    fn give_up(&mut self) {
        self.broken = true;
        (self.requests, self.statements, self.room) = (Vec::new(), Vec::new(), None);
        (self.parsed, self.bound) = Default::default();
        self.results.truncate(FEW);
        self.results.shrink_to_fit();
    }

    /// Whether so much more may be kept beside the requests: where no Sync comes, that grows as they do.
    fn has_room_for(&mut self, bytes: usize) -> bool {
        self.beside += bytes;
        let fits = self.beside <= MAX_MIRRORED && self.room.as_mut().is_some_and(|room| room.grow(bytes));
        if !fits {
            self.give_up();
        }
        fits
    }

    /// A statement of it has been answered.
    pub(super) fn answered(&mut self, answered: Answered) {
        let keeps =
            if self.broken { self.results.len() < FEW } else { self.has_room_for(size_of::<Answered>()) };
        if keeps {
            self.results.push(answered);
        }
    }

    /// It makes a statement of that name.
    fn parses(&mut self, name: &[u8]) {
        if !self.parsed.iter().any(|known| **known == *name) && self.has_room_for(NAME + name.len()) {
            self.parsed.push(name.into());
        }
    }

    /// It makes a portal of that name.
    fn binds(&mut self, name: &[u8]) {
        if self.has_portal(name).is_none() && self.has_room_for(NAME + name.len()) {
            self.bound.push(name.into());
        }
    }

    /// Notes which statements and portals a request makes and uses. `None` where it uses some that are not known.
    fn note(&mut self, client: &Client, kind: u8, body: &[u8]) -> Option<()> {
        match kind {
            b'Q' => self.mute |= is_explained(body),
            b'P' => {
                let (name, rest) = cstr(body)?;
                self.mute |= is_explained(rest);
                self.parses(name);
            }
            b'B' => {
                let (portal, rest) = cstr(body)?;
                self.binds(portal);
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
        if self.has_room_for(NAME + name.len()) {
            self.statements.push(definition);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::budget::Budget;
    use crate::wire::summary::Outcome;

    fn pending(budget: &std::sync::Arc<Budget>) -> Pending {
        Pending { wanted: 1, room: budget.take(0), ..Pending::default() }
    }

    #[test]
    fn what_never_ends_takes_little() {
        let budget = Budget::new(10, 64 << 20);
        let answered = || Answered { plan: None, outcome: Outcome::default() };
        let mut many_names = pending(&budget);
        for n in 0..100_000 {
            many_names.parses(format!("s{n}").as_bytes());
            many_names.binds(format!("p{n}").as_bytes());
            many_names.answered(answered());
            let kept = many_names.parsed.len() + many_names.bound.len();
            assert!(kept * NAME <= MAX_MIRRORED && budget.used().1 <= MAX_MIRRORED);
        }
        assert!(many_names.broken && many_names.parsed.is_empty() && many_names.bound.is_empty());
        assert!(many_names.results.len() <= FEW && budget.used() == (0, 0));

        let mut many_answers = pending(&budget);
        (0..100_000).for_each(|_| many_answers.answered(answered()));
        assert!(many_answers.broken && many_answers.results.len() <= FEW);

        // The same name again and again is one.
        let mut usual = pending(&budget);
        (0..5000).for_each(|_| {
            usual.parses(b"");
            usual.binds(b"");
        });
        assert!(!usual.broken && usual.parsed.len() == 1 && usual.bound.len() == 1);
        usual.answered(answered());
        assert_eq!(budget.used(), (1, 2 * NAME + size_of::<Answered>()));
    }

    #[test]
    fn others_have_room_again_when_one_is_too_large() {
        let budget = Budget::new(10, 2 * NAME);
        let (mut one, mut two) = (pending(&budget), pending(&budget));
        one.binds(b"");
        two.binds(b"a");
        assert!(two.broken && !one.broken);
        one.parses(b"");
        assert!(!one.broken);
    }
}
