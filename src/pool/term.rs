//! Which servers may take writes, connection by connection.
//!
//! A server that is not in recovery stays so, on the same timeline, for as long as it runs, and no connection outlives
//! it. So what a server says of itself when a connection to it is opened holds for that connection to its end, and
//! nothing has to be asked again when it is lent: the connection's term, which is the timeline, is compared with that
//! of the primary. A connection opened to a server in recovery never takes writes, also when that is promoted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::*};

use tokio::sync::Notify;

/// A timeline on which a server takes writes.
pub type Term = u32;

/// No writes: the server is in recovery, or it has not been asked; or any server will do.
pub const NONE: Term = 0;
/// Writes, on a timeline that the server does not tell.
pub const UNTOLD: Term = Term::MAX;

/// Whether a connection of the second term is as good as the first asks for.
#[inline]
pub fn suits(wanted: Term, found: Term) -> bool {
    wanted == NONE || wanted == found || found != NONE && (wanted == UNTOLD || found == UNTOLD)
}

/// What a cluster knows of one of its members, for the connections to it.
#[derive(Debug, Default)]
pub struct Terms {
    /// Whether the backend is a member of a cluster that is looked after.
    member: AtomicBool,
    /// The timeline on which it takes writes now.
    leads: AtomicU32,
    /// The newest timeline of the cluster.
    newest: AtomicU32,
    /// It says of itself that it takes writes, and must not.
    barred: AtomicBool,
    /// The cluster's system identifier; 0 where it is not known.
    system: AtomicU64,
    /// How much of the question roles are not allowed to ask ([`super::identity`]).
    pub(super) reserve: AtomicU8,
    /// Has it looked at again at once.
    pub wake: Arc<Notify>,
}

/// What [`Terms`] are told by those who know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The timeline on which it takes writes, or [`NONE`].
    pub leads: Term,
    /// The newest timeline that any member of its cluster was seen on.
    pub newest: Term,
    /// Whether it must not take writes though it would.
    pub barred: bool,
    /// The cluster's system identifier, once that is known.
    pub system: Option<u64>,
}

impl Terms {
    /// Whether the backend is in a cluster that is looked after; if not, connections to it are not asked anything.
    pub fn enrol(&self, member: bool) {
        self.member.store(member, Release);
        if !member {
            self.set(&Standing { leads: NONE, newest: NONE, barred: false, system: None });
        }
    }

    /// What is known now.
    pub fn set(&self, now: &Standing) {
        self.leads.store(now.leads, Release);
        self.newest.store(now.newest, Release);
        self.barred.store(now.barred, Release);
        self.system.store(now.system.unwrap_or(0), Release);
    }

    /// See [`Terms::enrol`].
    pub fn is_member(&self) -> bool {
        self.member.load(Acquire)
    }

    /// Whether it is where its database is written to: the primary, or on no cluster.
    pub fn is_home(&self) -> bool {
        !self.is_member() || self.leads() != NONE
    }

    /// The timeline on which it takes writes now.
    pub fn leads(&self) -> Term {
        self.leads.load(Acquire)
    }

    /// Whether a connection of this term takes writes that would be lost: its server is a primary of the past, or was
    /// found to be none for another reason. One that merely does not answer is not.
    #[inline]
    pub fn is_past(&self, term: Term) -> bool {
        term != NONE && self.is_member() && (self.barred.load(Acquire) || self.newest.load(Acquire) > term)
    }

    /// Whether a server with this system identifier has the data of another cluster.
    pub(super) fn is_strange(&self, system: Option<u64>) -> bool {
        let known = self.system.load(Acquire);
        known != 0 && system.is_some_and(|system| system != known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_as_good_as_its_server_was() {
        for (wanted, found, good) in [
            (NONE, NONE, true),
            (NONE, 3, true),
            (3, 3, true),
            (3, 2, false),
            (3, NONE, false),
            (3, UNTOLD, true),
            (UNTOLD, 3, true),
            (UNTOLD, NONE, false),
        ] {
            assert_eq!(suits(wanted, found), good, "{wanted} {found}");
        }
    }

    #[test]
    fn what_is_past_is_known_from_what_is_newer() {
        let terms = Terms::default();
        let standing = Standing { leads: 2, newest: 2, barred: false, system: Some(7) };
        terms.set(&standing);
        assert!(!terms.is_past(1) && terms.is_home(), "on no cluster");
        terms.enrol(true);
        assert!(terms.is_past(1) && !terms.is_past(2) && !terms.is_past(NONE) && !terms.is_past(UNTOLD));
        assert!(terms.is_strange(Some(8)) && !terms.is_strange(Some(7)) && !terms.is_strange(None));
        terms.set(&Standing { leads: NONE, barred: true, ..standing });
        assert!(terms.is_past(2) && terms.is_past(UNTOLD) && !terms.is_home());
    }
}
