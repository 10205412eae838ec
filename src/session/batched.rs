//! What a batch of requests is about, as far as choosing a server for it goes: read ahead from the requests that are
//! here, without taking them.

use std::sync::Arc;

use smallvec::SmallVec;

use super::batch::Batch;
use super::names::Named;
use super::run::Client;
use crate::core::limits::FRAME_HEADER;
use crate::plan::{Class, Held, Tie};
use crate::sql::effect::Traces;
use crate::sql::transaction::{Control, Modes};
use crate::wire::frame;
use crate::wire::message::cstr;

/// Most requests of a batch that are looked at.
const MOST_REQUESTS: usize = 256;

/// A batch: up to its Query, Sync or Flush.
#[derive(Debug, Default)]
pub(super) struct Batched {
    /// Requests.
    pub requests: usize,
    /// Their bytes.
    pub len: usize,
    /// Plans of what it runs or prepares, but for what begins and ends transactions.
    pub plans: SmallVec<[Held; 2]>,
    /// Names of statements that mean something else after it, in order.
    pub names: Vec<Box<[u8]>>,
    /// It begins a transaction, before anything else.
    pub begins: Option<Modes>,
    /// What all of it means to a transaction on a replica.
    pub tie: Tie,
    /// Something other than a query that reads.
    other: bool,
    /// It ends a transaction.
    ends: bool,
    /// The unnamed portal has been bound.
    bound: bool,
    /// It runs something: it does not only prepare and describe.
    runs: bool,
}

impl Batched {
    /// Whether it does nothing but reading, outside of transactions.
    pub fn is_reads(&self) -> bool {
        !self.other && !self.plans.is_empty()
    }

    /// Whether it leaves nothing behind on a server but statements that it prepares: done twice is done once.
    pub fn is_repeatable(&self) -> bool {
        !self.runs && self.begins.is_none() || self.is_reads()
    }

    /// A name means something else from now on.
    fn rename(&mut self, name: &[u8]) {
        if !name.is_empty() {
            self.names.push(name.into());
        }
    }

    fn prepare(&mut self, name: &[u8], plan: &Held) {
        if !name.is_empty() {
            self.rename(name);
            self.foresee(plan);
        }
    }

    /// What is prepared under a name, or described, is going to be run, most likely.
    fn foresee(&mut self, plan: &Held) {
        if plan.control.is_none() {
            self.query(plan.clone());
        } else {
            self.other = true;
        }
    }

    fn run(&mut self, plan: Held) {
        self.runs = true;
        match plan.control {
            Some(Control::Begin(modes)) if self.begins.is_none() && self.plans.is_empty() && !self.ends => {
                self.begins = Some(modes);
                self.tie(if plan.wants_primary() { Tie::Primary } else { Tie::Free });
            }
            Some(control) if control.is_end() && !self.ends => self.ends = true,
            Some(Control::Set(_)) => self.tie(Tie::Bound),
            Some(_) => self.tie(Tie::Primary),
            None => return self.query(plan),
        }
        self.other = true;
    }

    /// Portals that last are the server's.
    fn bind(&mut self, portal: &[u8], plan: Held) {
        self.run(plan);
        if portal.is_empty() { self.bound = true } else { self.tie(Tie::Bound) }
    }

    fn execute(&mut self, body: &[u8]) -> Option<()> {
        self.runs = true;
        let (portal, most) = cstr(body)?;
        if !portal.is_empty() || !self.bound || most != [0; 4] {
            self.tie(Tie::Bound);
        }
        Some(())
    }

    fn query(&mut self, plan: Held) {
        if plan.explains.as_ref().is_some_and(|wanted| !wanted.analyze) {
            // It is answered with constants.
            self.other = true;
            return;
        }
        let free = !plan.wants_primary() && !plan.is_of_primary() && plan.explains.is_none() && !self.ends;
        self.other |= !free || plan.class != Class::Read;
        self.tie(if free { plan.tie } else { Tie::Primary });
        // Prepared, described and run all at once.
        if !self.plans.last().is_some_and(|last| Arc::ptr_eq(last, &plan)) {
            self.plans.push(plan);
        }
    }

    fn tie(&mut self, tie: Tie) {
        self.tie = self.tie.max(tie);
    }
}

/// A batch that is being looked at, and what it has prepared so far.
#[derive(Default)]
struct Look<'a> {
    batched: Batched,
    prepared: SmallVec<[(&'a [u8], Held); 1]>,
}

impl<'a> Look<'a> {
    /// Looks at the next request: whether it ends the batch. `None` where it is of another kind.
    fn at(
        &mut self,
        kind: u8,
        body: &'a [u8],
        client: &mut Client,
        found: &mut Option<Held>,
    ) -> Option<bool> {
        let Look { batched, prepared } = self;
        match kind {
            b'Q' if batched.requests == 0 => {
                let text = body.strip_suffix(b"\0").unwrap_or(body);
                let plan = client.plan_or(found, text);
                *found = Some(plan.clone());
                batched.run(plan);
            }
            b'P' => {
                let (name, rest) = cstr(body)?;
                let (text, _) = cstr(rest)?;
                let first = batched.requests == 0;
                let plan = if first { client.plan_or(found, text) } else { client.plan(text) };
                if first {
                    *found = Some(plan.clone());
                }
                batched.prepare(name, &plan);
                prepared.push((name, plan));
            }
            b'B' => {
                let (portal, rest) = cstr(body)?;
                let (name, _) = cstr(rest)?;
                batched.bind(portal, client.plan_meant(prepared, name)?);
            }
            b'E' => batched.execute(body)?,
            b'D' => {
                if let Some(name) = statement(body) {
                    batched.foresee(&client.plan_meant(prepared, name)?);
                }
            }
            b'C' => batched.rename(statement(body).unwrap_or_default()),
            b'S' => {}
            // What it is part of goes on.
            b'H' => (batched.other, batched.runs) = (true, true),
            _ => return None,
        }
        Some(matches!(kind, b'Q' | b'S' | b'H'))
    }
}

impl Batch<'_> {
    /// What the requests at hand are about, up to the first Query, Sync or Flush; `None` where not all of them are here
    /// or they are of other kinds.
    pub(super) fn batched(&mut self) -> Option<Batched> {
        let Self { client, flow, .. } = self;
        let mut look = Look::default();
        loop {
            let rest = flow.up.window().get(look.batched.len..)?;
            let header = frame::client(rest, client.max_message()).ok()??;
            let body = rest.get(FRAME_HEADER..header.len)?;
            let end = look.at(header.kind, body, client, &mut flow.hand.found)?;
            look.batched.len += header.len;
            look.batched.requests += 1;
            if end {
                return Some(look.batched);
            }
            if look.batched.requests >= MOST_REQUESTS {
                return None;
            }
        }
    }
}

/// The name of the statement, where a Describe or a Close is about one.
fn statement(body: &[u8]) -> Option<&[u8]> {
    Some(cstr(body.strip_prefix(b"S")?)?.0)
}

impl Client {
    /// The plan of a statement that is prepared here, or that it has prepared before.
    fn plan_meant(&mut self, prepared: &[(&[u8], Held)], name: &[u8]) -> Option<Held> {
        match prepared.iter().rev().find(|(known, _)| *known == name) {
            Some((_, plan)) => Some(plan.clone()),
            None => self.plan_named(name),
        }
    }

    /// The plan of a statement that it has prepared.
    fn plan_named(&mut self, name: &[u8]) -> Option<Held> {
        if name.is_empty() {
            let unnamed = self.names.unnamed.as_ref()?;
            return if unnamed.pins.without(Traces::HINTS).is_empty() { self.unnamed_plan() } else { None };
        }
        match self.names.get(name)?.clone() {
            Named::Shared(_, Some(plan)) if self.is_current(&plan) => Some(plan),
            Named::Shared(statement, _) => self.plan_of(&statement.body),
            _ => None,
        }
    }
}
