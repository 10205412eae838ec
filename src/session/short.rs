//! The short way: what most batches are, taken in one go, and answered likewise.
//!
//! It does what [`super::requests`] and [`super::answers`] would do for a session that has nothing particular about it,
//! without asking at each message what is known of all. Whatever turns out to be otherwise is left to them at a
//! message's boundary, with everything as they would have left it themselves.

use std::task::{Context, Poll};

use super::ahead::LARGE;
use super::batch::{Batch, Flow, Needs};
use super::expect::{Expect, Ordinary, Ready};
use super::run::{Client, End};
use crate::core::clock::Instant;
use crate::core::limits::FRAME_HEADER;
use crate::plan::{Held, Plan};
use crate::sql::effect::Traces;
use crate::wire::frame::{self, Header};
use crate::wire::message::{TxStatus, command_tag, cstr, tag_rows};

/// What most batches end with: the unnamed portal is described and executed as a whole, and that is all.
const USUAL_END: &[u8; 22] = b"D\0\0\0\x06P\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04";
/// Bytes of each of them.
const USUAL_LENS: [usize; 3] = [7, 10, 5];

/// Where the short way ends.
pub(super) enum Short {
    /// With the batch.
    Over,
    /// Before its end: `looks` where something has come that has not been looked at.
    Ends {
        /// See there.
        looks: bool,
    },
    /// This is to be waited for.
    Wants(Needs),
}

/// What has become of the requests at hand.
enum Taken {
    /// All have been taken.
    All,
    /// Those that have not been need a closer look.
    Part,
    /// They need this.
    Wants(Needs),
}

impl Client {
    /// Whether there is nothing about its session that each of its messages had to be looked at for. It may have been lent
    /// a server just now.
    fn is_ordinary(&self, lent: bool) -> bool {
        let placed = match (self.status, &self.lease) {
            (TxStatus::Idle, None) => self.course.as_ref().is_none_or(|course| course.is_clear()),
            (TxStatus::Idle, Some(server)) => lent && !server.link.is_past(),
            // What may be read where, and given, depends on what else is in the transaction.
            (TxStatus::Open, Some(server)) => {
                self.course.is_none() && self.caching.is_none() && !server.link.is_past()
            }
            _ => false,
        };
        let alone = self.shadow.is_none() && self.listening.is_none();
        alone && placed && self.is_unmetered() && self.leaves_nothing()
    }

    /// Whether a rule has results kept of this statement; without one, of any.
    fn is_kept(&mut self, plan: Option<&Held>) -> bool {
        if self.caching.is_none() {
            return false;
        }
        self.settle_caching();
        match plan {
            Some(plan) => self.asks_for(plan).is_some(),
            None => self.caching.as_ref().is_some_and(|caching| caching.is_wanted()),
        }
    }

    /// Whether its statements so far have left nothing that has to be seen to.
    fn leaves_nothing(&self) -> bool {
        self.pins.is_empty() && self.doubts.is_none() && !(self.blurred || self.unsynced || self.serial)
    }
}

impl Batch<'_> {
    /// Goes the short way as far as it leads.
    pub(super) fn poll_short(&mut self, cx: &mut Context<'_>) -> Poll<Result<Short, End>> {
        if self.client.entry.is_disturbed() {
            return Poll::Ready(Ok(Short::Ends { looks: !self.flow.up.is_read() }));
        }
        if self.flow.expected.is_empty() { self.poll_short_request(cx) } else { self.poll_short_answer(cx) }
    }

    /// The client's requests, from its socket to the server's.
    fn poll_short_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<Short, End>> {
        // Those that have waited for a server are here.
        if !self.looked_at {
            let read = self.flow.up.poll_read(cx, &mut self.client.stream);
            // With no budget left, the task is woken anyway, and nothing has been asked of the reactor.
            self.client.armed = read.is_pending() && tokio::task::coop::has_budget_remaining();
            match read {
                Poll::Ready(Ok(n)) if n > 0 => self.received += n as u64,
                Poll::Ready(_) => return Poll::Ready(Err(End::ClientLost)),
                // Woken for nothing, or by its server.
                Poll::Pending => {
                    let over = self.client.lease.is_none() && self.client.listening.is_none();
                    return Poll::Ready(Ok(if over { Short::Over } else { Short::Ends { looks: false } }));
                }
            }
        }
        match self.take_short()? {
            Taken::All => {}
            Taken::Part => return Poll::Ready(Ok(Short::Ends { looks: true })),
            Taken::Wants(needs) => return Poll::Ready(Ok(Short::Wants(needs))),
        }
        let told = self.client.caching.as_mut().is_none_or(|caching| caching.poll_gates(cx));
        let Some(server) = self.client.lease.as_mut().filter(|_| told) else {
            return Poll::Ready(Ok(Short::Ends { looks: false }));
        };
        let sent = matches!(self.flow.up.poll_write(cx, &mut server.stream), Poll::Ready(Ok(())));
        // Who has just been asked has not answered yet: nothing is tried then that the reactor knows nothing of.
        let waits = sent
            && server.stream.poll_readable(cx).is_pending()
            && self.client.stream.poll_readable(cx).is_pending();
        self.client.armed = waits && tokio::task::coop::has_budget_remaining();
        if waits { Poll::Pending } else { Poll::Ready(Ok(Short::Ends { looks: false })) }
    }

    /// The server's answer, from its socket to the client's.
    fn poll_short_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Short, End>> {
        let Some(server) = &mut self.client.lease else {
            return Poll::Ready(Ok(Short::Ends { looks: true }));
        };
        match self.flow.down.poll_read(cx, &mut server.stream) {
            Poll::Ready(Ok(n)) if n > 0 => {}
            Poll::Ready(_) => return Poll::Ready(self.server_gone().map(|()| Short::Ends { looks: true })),
            // It is the client that has something to say.
            Poll::Pending => return Poll::Ready(Ok(Short::Ends { looks: false })),
        }
        if !self.answer_short() {
            return Poll::Ready(Ok(Short::Ends { looks: true }));
        }
        self.release();
        let Self { client, flow, .. } = self;
        Poll::Ready(match flow.down.poll_write(cx, &mut client.stream) {
            Poll::Ready(Ok(())) => Ok(Short::Over),
            Poll::Ready(Err(_)) => Err(End::ClientLost),
            Poll::Pending => Ok(Short::Ends { looks: false }),
        })
    }

    /// Takes the requests that have come.
    fn take_short(&mut self) -> Result<Taken, End> {
        let Some(header) = self.first_short() else { return Ok(Taken::Part) };
        self.begin();
        self.looked_at = false;
        if self.client.lease.is_none()
            && let Err(lacking) = self.lease_at_hand()
        {
            return Ok(Taken::Wants(Needs::Server(lacking)));
        }
        // Something of ours goes first, which what follows may have to wait for.
        if !self.flow.expected.is_empty() {
            self.looked_at = true;
            return Ok(Taken::Part);
        }
        match self.flow.hand.found.take() {
            Some(plan) if header.kind != b'B' => self.take_first(header, plan)?,
            None if self.bind(header.len)? => {}
            _ => return Ok(Taken::Part),
        }
        self.client.took_request(header.len);
        // What has been bound may have left something.
        Ok(if self.client.leaves_nothing() { self.take_rest() } else { Taken::Part })
    }

    /// Takes a Query, or a Parse of the unnamed statement.
    #[inline]
    fn take_first(&mut self, header: Header, plan: Held) -> Result<(), End> {
        if header.kind == b'Q' {
            if plan.traces.contains(Traces::COMMITS) {
                self.client.hint(Traces::COMMITS);
            }
            let row = self.row_asked(header.len, Some(&plan));
            self.client.will_write_row(Some(&plan), row);
            self.expect_query(Some(plan))?;
        } else {
            self.client.pool.traffic.work.own().client_parses.add(1);
            let body = &self.flow.up.window()[FRAME_HEADER + 1..header.len];
            let before = self.client.names.set_unnamed(Some(body), plan.traces, Some(plan));
            self.expect_parse(before)?;
        }
        self.flow.up.pass(header.len);
        Ok(())
    }

    /// Takes what follows, as far as it goes the short way.
    #[inline]
    fn take_rest(&mut self) -> Taken {
        while !(self.flow.up.is_read() || self.take_usual_end()) {
            // One buffer's: fewer than may be owed answers.
            match self.next_short().filter(|_| !self.client.is_beyond_reading()) {
                Some(header) if self.take_plain_now(header) => self.client.took_request(header.len),
                _ => return Taken::Part,
            }
        }
        Taken::All
    }

    /// Takes what is left, where it is what most batches end with.
    #[inline]
    fn take_usual_end(&mut self) -> bool {
        let client = &*self.client;
        let usual = self.flow.up.window() == USUAL_END
            && client.names.portal(b"").is_none()
            && client.reads_on(USUAL_LENS.len());
        if usual {
            self.client.will_write_row(self.flow.hand.bound.as_ref(), self.flow.hand.bound_row);
            self.flow.expected.push_usual_end(self.flow.hand.bound.clone());
            self.flow.up.pass(USUAL_END.len());
            USUAL_LENS.iter().for_each(|len| self.client.took_request(*len));
        }
        usual
    }

    /// The next request, if all of it is here and it is a small one.
    #[inline]
    fn next_short(&self) -> Option<Header> {
        let most = LARGE.min(self.client.max_message());
        frame::whole(self.flow.up.window()).filter(|header| header.len <= most)
    }

    /// The first request, if it is one that can go the short way. The plan of a text is at hand then.
    #[inline]
    fn first_short(&mut self) -> Option<Header> {
        if !self.client.is_ordinary(self.looked_at) {
            return None;
        }
        let header = self.next_short()?;
        let Self { client, flow, .. } = self;
        let body = &flow.up.window()[FRAME_HEADER..header.len];
        let text = match (header.kind, body) {
            (b'Q', [text @ .., 0]) => text,
            (b'P', [0, rest @ ..]) => cstr(rest)?.0,
            // What is bound has been looked at when it was prepared.
            (b'B', [0, ..]) => return (!client.is_kept(None)).then_some(header),
            _ => return None,
        };
        let plan = client.plan_or(&mut flow.hand.found, text);
        // Who has a cluster may not need a server to begin a transaction.
        let begins = client.course.is_some() && plan.control.is_some();
        let plain = plan.is_plain() && !begins && !client.is_kept(Some(&plan));
        flow.hand.found = Some(plan);
        plain.then_some(header)
    }

    /// Takes the answers that have come. True where they are all that were owed.
    fn answer_short(&mut self) -> bool {
        loop {
            let Flow { down, expected, .. } = &mut *self.flow;
            let Some(header) = frame::whole(down.window()) else { return false };
            match expected.ordinary(header.kind) {
                Ordinary::More => down.pass(header.len),
                Ordinary::Last => {
                    down.pass(header.len);
                    expected.answered();
                }
                Ordinary::No => match header.kind {
                    b'C' if self.complete_short(header) => {}
                    b'Z' => return self.ready_short(header),
                    _ => return false,
                },
            }
        }
    }

    /// CommandComplete of a statement that takes nothing away from its session.
    fn complete_short(&mut self, header: Header) -> bool {
        let executed = match self.flow.expected.front() {
            Some(Expect::Execute(..)) => true,
            Some(Expect::Query(_)) => false,
            _ => return false,
        };
        let tag = command_tag(self.frame(header.len));
        if matches!(tag, [b'D' | b'R', ..]) {
            return false;
        }
        self.count_plan(tag_rows(tag));
        self.client.fence_written(false);
        if executed {
            self.flow.expected.answered();
        }
        self.flow.down.pass(header.len);
        true
    }

    /// ReadyForQuery, the last that is owed.
    fn ready_short(&mut self, header: Header) -> bool {
        let Some(status) = TxStatus::of(self.frame(header.len)) else { return false };
        // What comes after it nobody has asked for.
        if header.len < self.flow.down.window().len() {
            return false;
        }
        match self.flow.expected.last_ready() {
            Some(Ready::Query(plan)) if std::mem::take(&mut self.flow.hand.completed) => {
                self.flow.hand.done = plan;
            }
            Some(_) => {}
            None => return false,
        }
        let (client, now) = (&mut *self.client, Instant::now());
        (client.status, client.commits) = (status, false);
        client.fence_written(status == TxStatus::Idle);
        if status != TxStatus::Idle {
            client.rest_reading(now);
        } else {
            client.names.close_portals();
            if let Some(server) = &mut client.lease {
                server.writes_end();
            }
        }
        self.flow.down.pass(header.len);
        if let (Some(took), Some(server)) = (self.account(now), &self.client.lease) {
            server.link.took(took);
        }
        self.client.rests(status == TxStatus::Idle, now);
        true
    }
}

impl Plan {
    /// Whether running it leaves nothing behind in its session, and nobody but a server has to do with it.
    fn is_plain(&self) -> bool {
        self.traces.without(Traces::COMMITS).is_empty() && !self.speaks && self.explains.is_none()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::plan::store::Scope;
    use crate::plan::{Home, Planner, Reading};

    fn is_plain(text: &str) -> bool {
        let planner = Planner::new(&crate::config::Plan::default(), &[], &[], &[]).unwrap();
        let reading = Reading { conforming: true, is_ambiguous: false };
        let scope = Scope { place: 0, generation: 0 };
        planner.plan(text.as_bytes(), reading, scope, Home::default).is_plain()
    }

    #[test]
    fn what_leaves_nothing_behind() {
        for text in ["SELECT 1", "SELECT a FROM t WHERE b = $1", "BEGIN", "COMMIT", ""] {
            assert!(is_plain(text), "{text}");
        }
    }

    /// Whatever the long way does something about.
    #[test]
    fn what_is_looked_at() {
        for text in [
            // Triggers may advance sequences.
            "INSERT INTO t VALUES (1)",
            "UPDATE t SET a = 1 WHERE b = 2",
            "DELETE FROM t",
            "LISTEN a",
            "/* of the hub's */ listen a",
            "UNLISTEN *",
            "NOTIFY a",
            "SELECT pg_notify('a', 'b')",
            "SELECT f(1)",
            "SELECT nextval('s')",
            "SET a.b = 'c'",
            "SET search_path = a",
            "RESET ALL",
            "SET turnpike.route = 'primary'",
            "SHOW turnpike.route",
            "PREPARE p AS SELECT 1",
            "EXECUTE p",
            "DEALLOCATE p",
            "DISCARD ALL",
            "EXPLAIN (ROUTE) SELECT 1",
            "EXPLAIN (ROUTE, ANALYZE) SELECT 1",
            "CREATE TABLE t (a int)",
            "CREATE TEMP TABLE t (a int)",
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
            "SELECT pg_advisory_lock(1)",
            "DO $$ BEGIN END $$",
            "CALL p()",
            "LOAD 'x'",
            "SELECT 1; SET a.b = 'c'",
        ] {
            assert!(!is_plain(text), "{text}");
        }
    }
}
