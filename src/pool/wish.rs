//! Which of a pool's idle connections suits a client. One that began with the same settings as the client's session
//! is as good as a connection of its own, also where the client resets something; another can be made to look alike.

use std::sync::Arc;

use super::server::Server;
use super::settings::Settings;
use super::term::{self, Term};
use crate::tenant::{Priority, Tenant};

/// What a client wants of a connection.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Who.
    pub client: u64,
    /// What its session began with.
    pub class: Arc<Settings>,
    /// Nothing else will do than a connection that began with that.
    pub exact: bool,
    /// The one that the client had last would be welcome: its session keeps state.
    pub sticky: bool,
    /// Nothing but a connection that nobody has used will do.
    pub fresh: bool,
    /// The session has had none yet.
    pub newcomer: bool,
    /// It is to take writes, on this timeline; [`term::NONE`] where it need not.
    pub term: Term,
    /// In whose name; nobody's where there are no tenants.
    pub tenant: Option<Arc<Tenant>>,
    /// How soon, among those of its tenant.
    pub priority: Priority,
}

/// What to do for a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Choice {
    /// Lend this one.
    Take(usize),
    /// Open another.
    Open,
    /// Close this one, which suits nobody here, and open another.
    Replace(usize),
}

impl Wish {
    /// What `client` wants whose session began with these settings.
    pub fn new(client: u64, class: Arc<Settings>) -> Wish {
        Wish {
            client,
            class,
            exact: false,
            sticky: false,
            fresh: false,
            newcomer: false,
            term: term::NONE,
            tenant: None,
            priority: Priority::default(),
        }
    }

    /// Whether the connection began with the same settings as the client's session.
    #[inline]
    pub fn is_same(&self, server: &Server) -> bool {
        Arc::ptr_eq(&server.class, &self.class)
    }

    /// Whether the connection's server takes what the client is going to send.
    #[inline]
    pub fn trusts(&self, server: &Server) -> bool {
        term::suits(self.term, server.link.term)
    }

    /// Chooses among the idle ones, the last returned first; `room` where another may be opened, and `suits` tells
    /// whether one can be made to look alike.
    #[allow(clippy::vec_box, reason = "a server changes hands as one pointer")]
    #[inline]
    pub fn choose(
        &self,
        idle: &[Box<Server>],
        room: impl FnOnce() -> bool,
        suits: impl Fn(&Server) -> bool,
    ) -> Choice {
        let last = |wanted: &dyn Fn(&Server) -> bool| idle.iter().rposition(|s| self.is_same(s) && wanted(s));
        let found = if self.fresh {
            None
        } else if self.sticky {
            last(&|s| s.held_for == self.client).or_else(|| last(&|s| s.held_for == 0))
        } else {
            last(&|s| s.held_for == 0)
        };
        match found {
            Some(i) => Choice::Take(i),
            None if idle.is_empty() || room() => Choice::Open,
            None if self.fresh => Choice::Replace(0),
            // Those that others would like to have again, the longest idle one first.
            None => match idle.iter().position(|s| self.is_same(s)) {
                Some(i) => Choice::Take(i),
                None if !self.exact && suits(&idle[0]) => Choice::Take(0),
                None => Choice::Replace(0),
            },
        }
    }
}
