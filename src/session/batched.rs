//! What a batch of requests is about, as far as choosing a server for it goes: read ahead from the requests that are
//! here, without taking them.

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
    /// It prepares something under a name: it cannot be sent again.
    pub names: bool,
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
}

impl Batched {
    /// Whether it does nothing but reading, outside of transactions.
    pub fn is_reads(&self) -> bool {
        !self.other && !self.names && !self.plans.is_empty()
    }

    /// What is prepared under a name is going to be run.
    fn prepare(&mut self, plan: &Held) {
        (self.names, self.other) = (true, true);
        if plan.control.is_none() {
            self.query(plan.clone());
        }
    }

    fn run(&mut self, plan: Held) {
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
        let free =
            !plan.wants_primary() && !plan.uses.is_of_primary() && plan.explains.is_none() && !self.ends;
        self.other |= !free || plan.class != Class::Read;
        self.tie(if free { plan.tie } else { Tie::Primary });
        self.plans.push(plan);
    }

    fn tie(&mut self, tie: Tie) {
        self.tie = self.tie.max(tie);
    }
}

impl Batch<'_> {
    /// What the requests at hand are about, up to the first Query, Sync or Flush; `None` where not all of them are here
    /// or they are of other kinds.
    pub(super) fn batched(&mut self) -> Option<Batched> {
        let (mut batched, mut prepared) = (Batched::default(), SmallVec::<[(&[u8], Held); 1]>::new());
        loop {
            let rest = self.flow.up.window().get(batched.len..)?;
            let header = frame::client(rest, self.client.max_message).ok()??;
            let body = rest.get(FRAME_HEADER..header.len)?;
            let end = match header.kind {
                b'Q' if batched.requests == 0 => {
                    let text = body.strip_suffix(b"\0").unwrap_or(body);
                    let plan = self.client.plan(text);
                    self.found = Some(plan.clone());
                    batched.run(plan);
                    true
                }
                b'P' => {
                    let (name, rest) = cstr(body)?;
                    let (text, _) = cstr(rest)?;
                    let plan = self.client.plan(text);
                    if batched.requests == 0 {
                        self.found = Some(plan.clone());
                    }
                    if !name.is_empty() {
                        batched.prepare(&plan);
                    }
                    prepared.push((name, plan));
                    false
                }
                b'B' => {
                    let (portal, rest) = cstr(body)?;
                    let (name, _) = cstr(rest)?;
                    let plan = match prepared.iter().rev().find(|(known, _)| *known == name) {
                        Some((_, plan)) => plan.clone(),
                        None => self.client.plan_named(name)?,
                    };
                    batched.bind(portal, plan);
                    false
                }
                b'E' => {
                    batched.execute(body)?;
                    false
                }
                b'D' | b'C' => false,
                b'S' => true,
                b'H' => {
                    batched.other = true;
                    true
                }
                _ => return None,
            };
            batched.len += header.len;
            batched.requests += 1;
            if end {
                return Some(batched);
            }
            if batched.requests >= MOST_REQUESTS {
                return None;
            }
        }
    }
}

impl Client {
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
