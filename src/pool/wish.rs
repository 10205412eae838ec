//! Which of a pool's idle connections suits a client. One that began with the same settings as the client's session
//! is as good as a connection of its own, also where the client resets something; another can be made to look alike.

use std::sync::Arc;

use super::server::Server;
use super::settings::Settings;

/// What a client wants of a connection.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Who.
    pub client: u64,
    /// What its session began with.
    pub class: Arc<Settings>,
    /// Nothing else will do than a connection that began with that.
    pub exact: bool,
    /// One that still has what the client left on it would be welcome.
    pub sticky: bool,
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
    /// Whether the connection began with the same settings as the client's session.
    #[inline]
    pub fn is_same(&self, server: &Server) -> bool {
        Arc::ptr_eq(&server.class, &self.class)
    }

    /// Chooses among the idle ones, the last returned first; `room` where another may be opened, and `suits` tells
    /// whether one can be made to look alike.
    #[allow(clippy::vec_box, reason = "a server changes hands as one pointer")]
    pub fn choose(&self, idle: &[Box<Server>], room: bool, suits: impl Fn(&Server) -> bool) -> Choice {
        if !self.sticky
            && let Some(last) = idle.last()
            && self.is_same(last)
        {
            return Choice::Take(idle.len() - 1);
        }
        if self.sticky
            && let Some(i) = idle.iter().rposition(|s| self.is_same(s) && s.remembers(self.client))
        {
            return Choice::Take(i);
        }
        if let Some(i) = idle.iter().rposition(|s| self.is_same(s)) {
            return Choice::Take(i);
        }
        if room || idle.is_empty() {
            return Choice::Open;
        }
        // The one that has been idle longest has the least that is worth keeping.
        if !self.exact && suits(&idle[0]) { Choice::Take(0) } else { Choice::Replace(0) }
    }
}
