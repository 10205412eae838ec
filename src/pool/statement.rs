//! Prepared statements as pools know them: one text with one list of parameter types is one statement, under one
//! name on every server, whatever its clients call it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::sql::effect::Traces;

/// Beginning of the names under which servers know our statements.
pub const SERVER_PREFIX: &[u8] = b"__turnpike_";

/// A statement that can be prepared on any server of a pool.
#[derive(Debug)]
pub struct Prepared {
    /// Identity within the process.
    pub id: u64,
    /// Name on servers.
    pub name: Box<[u8]>,
    /// The body of Parse after the name: text, NUL, parameter types.
    pub body: Box<[u8]>,
    /// What executing it may leave behind.
    pub pins: Traces,
    accepted: AtomicBool,
}

/// The statements that clients of one pool have prepared, held weakly: the last client to forget one frees it.
#[derive(Debug, Default)]
pub struct Statements {
    known: Mutex<HashMap<Box<[u8]>, Weak<Prepared>>>,
}

/// Entries below which forgotten statements are not looked for.
const PRUNE_FLOOR: usize = 256;

impl Statements {
    /// Forgets all: who prepares one again gets a new one. For when the results of some have changed their types.
    pub fn forget_all(&self) {
        self.known.lock().clear();
    }

    /// The statement with this body, if it is known.
    pub fn find(&self, body: &[u8]) -> Option<Arc<Prepared>> {
        self.known.lock().get(body).and_then(Weak::upgrade)
    }

    /// The statement with this body, made if it is new; `pins` is asked only then.
    pub fn intern(&self, body: &[u8], pins: impl FnOnce() -> Traces) -> Arc<Prepared> {
        let mut known = self.known.lock();
        if let Some(found) = known.get(body).and_then(Weak::upgrade) {
            return found;
        }
        if known.len() >= PRUNE_FLOOR && known.len() == known.capacity() {
            known.retain(|_, statement| statement.strong_count() > 0);
        }
        let made = Arc::new(Prepared::new(body, pins()));
        known.insert(body.into(), Arc::downgrade(&made));
        made
    }
}

impl Prepared {
    /// Notes that a server has accepted it.
    pub fn accept(&self) {
        self.accepted.store(true, Relaxed);
    }

    /// Whether a server has ever accepted it. A client that prepares it again need not be made to wait for one:
    /// should it no longer be valid, using it will say so, as it does when a server has had it all along.
    pub fn is_accepted(&self) -> bool {
        self.accepted.load(Relaxed)
    }

    fn new(body: &[u8], pins: Traces) -> Prepared {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Relaxed);
        let mut name = SERVER_PREFIX.to_vec();
        name.extend_from_slice(id.to_string().as_bytes());
        Prepared { id, name: name.into(), body: body.into(), pins, accepted: AtomicBool::new(false) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_body_one_statement() {
        let statements = Statements::default();
        let a = statements.intern(b"SELECT 1\0\0\0", || Traces::NONE);
        let b = statements.intern(b"SELECT 1\0\0\0", || unreachable!("known"));
        let c = statements.intern(b"SELECT $1\0\0\x01\0\0\0\x17", || Traces::NONE);
        assert!(Arc::ptr_eq(&a, &b) && a.id != c.id);
    }

    #[test]
    fn forgotten_statements_are_freed() {
        let statements = Statements::default();
        for i in 0..10_000u32 {
            statements.intern(&i.to_be_bytes(), || Traces::NONE);
        }
        assert!(statements.known.lock().len() < 1_000);
    }
}
