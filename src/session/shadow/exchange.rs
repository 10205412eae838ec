//! One exchange between a client and its server: what was asked up to ReadyForQuery, and what the answer came to. It
//! says all that is needed to run it elsewhere, and it is all that mirrors and recordings get to see.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::core::budget::Room;
use crate::core::clock::Instant;
use crate::plan::Held;
use crate::pool::settings::Settings;
use crate::pool::statement::Prepared;
use crate::session::names::Unnamed;
use crate::wire::summary::Outcome;

/// See the module. Values of the client's are in it: it is never logged or shown.
pub struct Exchange {
    /// Whose ([`crate::session::entry::Entry::id`]).
    pub session: u64,
    /// Of the session's, which one: where one is missing, the session is not followed any more.
    pub number: u64,
    /// It begins outside a transaction, and needs nothing of what came before it but settings and statements.
    pub fresh: bool,
    /// It does nothing but reading.
    pub reads: bool,
    /// When it was over.
    pub at: Instant,
    /// How long it took, from when there was a server for it, in microseconds.
    pub took_us: u64,
    /// What the session has set.
    pub settings: Arc<Settings>,
    /// Statements that it uses and does not prepare.
    pub statements: Vec<Definition>,
    /// The client's messages.
    pub requests: Vec<u8>,
    /// What its statements came to, in order; none where no server was asked.
    pub results: SmallVec<[Answered; 1]>,
}

impl std::fmt::Debug for Exchange {
    /// Holds values: shows which one it is.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Exchange({}, {})", self.session, self.number)
    }
}

impl Exchange {
    /// About how much memory it takes, in bytes.
    pub fn weight(&self) -> usize {
        let definitions: usize = self.statements.iter().map(|d| d.name.len() + d.body().len() + 64).sum();
        size_of::<Exchange>() + self.requests.len() + definitions + self.results.len() * size_of::<Answered>()
    }
}

/// A statement's plan, where it has one, and what it came to.
#[derive(Clone, Debug)]
pub struct Answered {
    /// What was decided about it.
    pub plan: Option<Held>,
    /// What it came to.
    pub outcome: Outcome,
}

/// A statement that the session has prepared.
#[derive(Clone)]
pub struct Definition {
    /// The client's name for it.
    pub name: Box<[u8]>,
    text: Text,
}

#[derive(Clone)]
enum Text {
    Named(Arc<Prepared>),
    Unnamed(Unnamed),
}

impl Definition {
    /// One with a name.
    pub fn named(name: &[u8], statement: Arc<Prepared>) -> Definition {
        Definition { name: name.into(), text: Text::Named(statement) }
    }

    /// The one without.
    pub fn unnamed(text: Unnamed) -> Definition {
        Definition { name: Box::default(), text: Text::Unnamed(text) }
    }

    /// The body of Parse after the name.
    pub fn body(&self) -> &[u8] {
        match &self.text {
            Text::Named(statement) => &statement.body,
            Text::Unnamed(text) => text.body.as_deref().unwrap_or_default(),
        }
    }
}

/// What comes to a tap.
#[derive(Debug)]
pub enum Arrival {
    /// An exchange, with the room that it takes while it waits.
    Exchange(Arc<Exchange>, Room),
    /// The session with this id is over.
    End(u64),
}
