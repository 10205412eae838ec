//! Client to server: what each request means for the session, and what goes to the server for it. A request that
//! nothing has to be done about is passed on as the bytes that came (invariant 1).

use super::ahead::{HUGE, LARGE};
use super::analyzed;
use super::batch::{Batch, Flow, Next};
use super::cached::Given;
use super::expect::Expect;
use super::run::End;
use crate::core::clock;
use crate::core::error::Error;
use crate::core::limits::{FRAME_HEADER, MAX_EXPECTED};
use crate::plan::Held;
use crate::pool::server::Unnamed;
use crate::sql::effect::Traces;
use crate::sql::long;
use crate::wire::frame::{self, Header};
use crate::wire::message::{TxStatus, cstr};
use crate::wire::reply;

/// Owner of an unnamed statement whose owner is not known.
pub const NOBODY: Unnamed = Unnamed { client: 0, generation: 0 };

/// What a first look at a request says.
enum Look {
    /// It needs no server, and is done with.
    Taken,
    /// Something has to be done first.
    Wants(Next),
    NeedsServer,
}

impl Batch<'_> {
    /// Takes as many requests as are here and there is room for.
    pub fn take_requests(&mut self) -> Result<Next, End> {
        while !self.flow.up.is_read() {
            let Some((header, whole)) = self.next_request()? else { return Ok(Next::Io) };
            self.collect(header, whole);
            // With the server connection that it was found to need, it need not be looked at again.
            let looked_at = std::mem::take(&mut self.looked_at);
            if self.client.caching.is_some() && !looked_at {
                match self.give_kept(header, whole) {
                    Given::No => {}
                    Given::All => continue,
                    Given::Later => {
                        self.held = true;
                        return Ok(Next::Io);
                    }
                    Given::Wait => return Ok(Next::Reading),
                }
            }
            if self.client.course.is_some() && self.waits_on_cluster()? {
                self.held = true;
                return Ok(Next::Io);
            }
            if self.take_plain(header, whole) {
                self.took_request(header.len);
                continue;
            }
            if !looked_at {
                match self.look_at(header, whole)? {
                    Look::Taken => {
                        self.took_request(header.len);
                        continue;
                    }
                    Look::Wants(next) => return Ok(next),
                    Look::NeedsServer => {}
                }
            }
            if let Some(next) = self.wants_server() {
                return Ok(next);
            }
            if self.checking || self.must_wait(header) || self.must_change(header) {
                self.held = true;
                return Ok(Next::Io);
            }
            if header.len > LARGE && self.wants_plan(header, whole) {
                return Ok(Next::Plan);
            }
            self.begin_collecting();
            let taken = self.take_request(header, whole)?;
            self.flow.hand.found = None;
            if self.flow.hand.ahead.as_ref().is_some_and(|ahead| ahead.is_wanted()) {
                return Ok(Next::Plan);
            }
            if !taken {
                self.held = true;
                return Ok(Next::Io);
            }
            self.took_request(header.len);
        }
        Ok(Next::Io)
    }

    /// The next request, as far as it is here. `None` where there is none that can be taken now.
    #[inline]
    fn next_request(&mut self) -> Result<Option<(Header, bool)>, End> {
        let full = self.flow.up.is_full() || self.flow.expected.len() >= MAX_EXPECTED;
        if full || !self.stream_request() {
            return Ok(None);
        }
        let max = self.client.max_message();
        let Some(header) = frame::client(self.flow.up.window(), max).inspect_err(|e| self.violated(e))?
        else {
            return Ok(None);
        };
        let whole = self.flow.up.window().len() >= header.len;
        let comes = !whole && self.flow.up.comes(header.len);
        Ok((!comes).then_some((header, whole)))
    }

    /// Requests within a batch of which nothing but themselves says what becomes of them: most of the extended
    /// protocol's. False where it takes a closer look.
    #[inline]
    fn take_plain(&mut self, header: Header, whole: bool) -> bool {
        let (client, flow) = (&*self.client, &*self.flow);
        let plain = whole
            && client.lease.is_some()
            && self.begun.is_some()
            && !(self.answered || self.checking || client.unsynced)
            && client.listening.is_none()
            && flow.hand.turn.is_none()
            && !client.is_portal_given()
            && !(flow.expected.is_skipping() || flow.expected.is_copying_in());
        if !plain {
            return false;
        }
        self.take_plain_now(header)
    }

    /// The same, where only what the request itself says is to be looked at. All of it is here.
    #[inline]
    pub(super) fn take_plain_now(&mut self, header: Header) -> bool {
        let (client, flow) = (&*self.client, &*self.flow);
        let body = &flow.up.window()[FRAME_HEADER..header.len];
        let expect = match (header.kind, body) {
            (b'B', [0, 0, ..]) if self.unnamed_is_here() => {
                self.client.pool.traffic.work.own().binds.add(1);
                // The first of its names is the portal's: none.
                self.bind_unnamed(header.len, 0);
                Expect::Bind
            }
            (b'D', [b'P', 0]) if client.names.portal(b"").is_none() => Expect::DescribePortal,
            (b'E', [0, most @ ..]) if client.names.portal(b"").is_none() => {
                let most = most.first_chunk().map_or(0, |most| u32::from_be_bytes(*most));
                self.client.will_write_row(self.flow.hand.bound.as_ref(), self.flow.hand.bound_row);
                Expect::Execute(self.flow.hand.bound.clone(), most)
            }
            (b'S', _) => Expect::Sync,
            _ => return false,
        };
        self.flow.expected.push(expect);
        self.flow.up.pass_frame(header.len);
        true
    }

    /// What a request calls for before there is a server for it.
    fn look_at(&mut self, header: Header, whole: bool) -> Result<Look, End> {
        if self.answer_alone(header, whole)? {
            return Ok(Look::Taken);
        }
        if self.says_listen(header, whole) {
            if let Some(next) = self.wants_subscription(header, whole) {
                return Ok(Look::Wants(next));
            }
            if header.kind == b'Q' && self.flow.expected.is_empty() && self.take_listen(header, whole) {
                return Ok(Look::Taken);
            }
        }
        Ok(match self.wants_to_know(header, whole) {
            Some(next) => {
                self.held |= matches!(next, Next::Io);
                Look::Wants(next)
            }
            None => Look::NeedsServer,
        })
    }

    /// Notes when the first request came of those that have not been answered. True where this is that.
    #[inline]
    pub(super) fn begin(&mut self) -> bool {
        let anew = self.begun.is_none() || std::mem::take(&mut self.answered);
        if anew {
            let now = clock::arrival();
            self.begun = Some(now);
            self.client.entry.set_requested(now);
            self.client.entry.set_running(now, self.client.is_idle());
        }
        anew
    }

    /// Whether what this request means to us is decided by an answer that is still to come.
    fn must_wait(&mut self, header: Header) -> bool {
        if self.client.unsynced && !self.may_sync() && !self.flow.expected.needs_sync() {
            return self.client.status != TxStatus::Failed;
        }
        let Flow { up, expected, hand, .. } = &mut *self.flow;
        // What a name means may have changed by SQL.
        let asked = hand.asked.as_ref().is_some_and(|asked| asked.is_about_names());
        let window = up.window();
        let body = &window[FRAME_HEADER..header.len.min(window.len())];
        let (name, text) = match header.kind {
            // It may be an EXECUTE, as may be a statement without a name.
            b'Q' => return asked,
            b'P' => match cstr(body) {
                Some((name, text)) => (name, Some(text)),
                None => return false,
            },
            b'B' => match cstr(body).and_then(|(_, rest)| cstr(rest)) {
                Some((name, _)) => (name, None),
                None => return false,
            },
            b'C' | b'D' if body.first() == Some(&b'S') => match cstr(&body[1..]) {
                Some((name, _)) => (name, None),
                None => return false,
            },
            _ => return false,
        };
        asked || !name.is_empty() && expected.is_unsettled(name, text)
    }

    /// Whether the server can be sent now what it lacks of the session's settings: nothing of the client's is under way,
    /// whose settings would be undone by that, and no transaction that has failed.
    fn may_sync(&self) -> bool {
        let expected = &self.flow.expected;
        let asking = self.flow.hand.asked.is_some() && expected.len() == 1 && !expected.needs_sync();
        self.client.unsynced && self.client.status != TxStatus::Failed && (expected.is_empty() || asking)
    }

    /// Whether the request may go back to what the session began with, on a connection that began differently and
    /// is about to be given back: on the next one it will be right.
    fn must_change(&self, header: Header) -> bool {
        let Some(server) = &self.client.lease else { return false };
        header.kind == b'Q'
            && !self.client.wish.is_same(server)
            && self.client.status == TxStatus::Idle
            && self.client.pins.is_empty()
            && !self.flow.expected.is_empty()
            && self.particular(server).is_some()
    }

    fn violated(&self, e: &Error) {
        let totals = &self.client.shared.totals;
        totals.client_violations.add(1);
        totals.refused_size.add(u64::from(e.detail.is_some()));
    }

    /// Passes on what came of a large request. False while more of it is to come.
    fn stream_request(&mut self) -> bool {
        self.collect_more();
        let up = &mut self.flow.up;
        if let Some(text) = &mut self.flow.hand.long_text {
            let here = up.streaming().min(up.window().len());
            text.feed(&up.window()[..here]);
        }
        let done = up.stream_on();
        if done && let Some(text) = self.flow.hand.long_text.take() {
            let traces = text.finish();
            let traces = traces.and(self.client.suspect(traces, None));
            self.client.note(traces, b"");
        }
        done
    }

    /// Requests that need no server: goodbyes, COPY data that nobody reads any more (as Postgres ignores it), what
    /// the server would skip anyway, and a Sync with nothing before it.
    fn answer_alone(&mut self, header: Header, whole: bool) -> Result<bool, End> {
        let Self { client, flow, .. } = self;
        let copy = matches!(header.kind, b'd' | b'c' | b'f');
        match header.kind {
            b'X' => return Err(End::Terminated),
            b'p' => {
                client.shared.totals.client_violations.add(1);
                return Err(Error::protocol("invalid frontend message type 112").into());
            }
            b'S' if client.lease.is_none() => {
                flow.up.omit_frame(header.len);
                flow.expected.skip(false);
                reply::ready(flow.down.insert(), client.told());
                self.end_given();
            }
            b'H' if client.lease.is_none() => flow.up.omit_frame(header.len),
            kind if !copy && flow.expected.is_skipping() && client.lease.is_none() && kind != b'S' => {
                flow.up.omit_frame(header.len);
            }
            b'Q' if whole && client.lease.is_none() && client.course.is_some() => {
                return self.hold_back(header.len);
            }
            b'P' if whole && client.lease.is_none() && client.told() != TxStatus::Failed => {
                return self.parse_alone(header.len);
            }
            b'C' if whole && client.lease.is_none() => return self.close_alone(header.len),
            _ if copy && (client.lease.is_none() || flow.expected.is_answered()) => {
                flow.up.omit_frame(header.len)
            }
            kind if kind != b'S' && !copy && flow.expected.is_skipping() => flow.up.omit_frame(header.len),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Passes it on, or what stands for it. False where it must wait.
    fn take_request(&mut self, header: Header, whole: bool) -> Result<bool, End> {
        let len = header.len;
        self.mark_listening();
        if self.may_sync() {
            self.sync_settings();
        }
        match header.kind {
            b'Q' => return self.query(len, whole).map(|()| true),
            b'P' => {
                if self.is_too_long_to_explain(header, whole) {
                    self.fail_in_place(len, analyzed::too_long());
                    return Ok(true);
                }
                let stand_in = self.listen_stand_in(header, whole);
                match stand_in.or_else(|| self.explain_stand_in(header, whole)) {
                    Some(body) => self.parse_stand_in(len, &body)?,
                    None => self.parse(len, whole)?,
                }
                return Ok(true);
            }
            b'B' => return self.bind(len),
            b'D' => return self.describe(len),
            b'C' => return self.close(len).map(|()| true),
            b'E' => return self.execute(len).map(|()| true),
            b'F' => {
                self.client.will_write(None);
                let Self { client, flow, .. } = self;
                let window = flow.up.window();
                client.calls_function(&window[FRAME_HEADER..len.min(window.len())]);
                flow.expected.push(Expect::Query(None));
            }
            b'S' if !self.flow.expected.is_copying_in() => self.flow.expected.push(Expect::Sync),
            b'c' | b'f' => self.flow.expected.copy_ended(),
            // Flush, COPY data, and a Sync that the server ignores while it reads COPY data.
            _ => {}
        }
        self.flow.up.pass_frame(len);
        Ok(true)
    }

    /// The bytes of the request's body that are here.
    pub(super) fn body(&self, len: usize) -> &[u8] {
        let window = self.flow.up.window();
        &window[FRAME_HEADER..len.min(window.len())]
    }

    fn query(&mut self, len: usize, whole: bool) -> Result<(), End> {
        let (mut plan, mut sent) = (None, None);
        if whole {
            let Self { client, flow, .. } = self;
            let body = &flow.up.window()[FRAME_HEADER..len];
            let text = body.strip_suffix(b"\0").unwrap_or(body);
            let held = client.plan_or(&mut flow.hand.found, text);
            if held.explains.is_some() && self.explain(len, &held)? {
                return Ok(());
            }
            if held.speaks {
                let (refused, text) = self.said_by_query(len, &held);
                if refused {
                    return Ok(());
                }
                sent = text;
            }
            let Self { client, flow, .. } = self;
            let body = &flow.up.window()[FRAME_HEADER..len];
            let text = body.strip_suffix(b"\0").unwrap_or(body);
            let traces = client.traces(&held, text);
            // What takes long to read is not read again.
            let traces = traces.and(client.suspect(traces, Some(text).filter(|text| text.len() < HUGE)));
            plan = Some(held);
            if !traces.without(Traces::HINTS).is_empty() || self.client.serial {
                let text = text.to_vec();
                self.prepare_for(traces, &text)?;
                self.client.note(traces, &text);
            } else if !traces.is_empty() {
                self.client.hint(traces);
            }
        } else {
            let mut text = long::Stream::default();
            text.feed(self.body(len));
            self.flow.hand.long_text = Some(text);
        }
        let row = self.row_asked(len, plan.as_ref().filter(|_| sent.is_none()));
        self.client.will_write_row(plan.as_ref(), row);
        self.expect_query(plan)?;
        match sent {
            Some(text) => {
                self.flow.up.omit_frame(len);
                reply::query_bytes(self.flow.up.insert(), &text);
            }
            None => self.flow.up.pass_frame(len),
        }
        Ok(())
    }

    /// Notes that a simple Query is sent.
    #[inline]
    pub(super) fn expect_query(&mut self, plan: Option<Held>) -> Result<(), End> {
        // It drops the unnamed statement and portal (protocol, "Extended Query").
        self.client.names.unnamed = None;
        self.client.names.close_portal(b"");
        self.server()?.unnamed = None;
        self.flow.expected.push(Expect::Query(plan));
        Ok(())
    }

    fn execute(&mut self, len: usize) -> Result<(), End> {
        let Some((name, rest)) = cstr(self.body(len)) else { return Err(unterminated()) };
        let most = rest.first_chunk().map_or(0, |most| u32::from_be_bytes(*most));
        if name.is_empty() && self.client.is_portal_given() {
            self.drop_portal();
        }
        let Some((name, _)) = cstr(self.body(len)) else { return Err(unterminated()) };
        let portal = self.client.names.portal(name);
        if portal.is_some_and(|portal| portal.explained.is_some()) {
            let plan = portal.and_then(|portal| portal.plan.clone());
            self.client.will_write(plan.as_ref());
            self.execute_explained(len, most);
            return Ok(());
        }
        let (plan, row) = match name {
            [] => (self.flow.hand.bound.clone(), self.flow.hand.bound_row),
            _ => (portal.and_then(|p| p.plan.clone()), None),
        };
        let name = name.to_vec();
        self.client.will_write_row(plan.as_ref(), row);
        let expect = match &self.client.listening {
            None => Expect::Execute(plan, most),
            Some(_) => self.executed(&name, plan, most),
        };
        self.flow.expected.push(expect);
        self.flow.up.pass_frame(len);
        Ok(())
    }
}

/// A string without its end.
pub fn unterminated() -> End {
    Error::protocol("invalid string in message").into()
}
