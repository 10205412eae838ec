//! One client's prepared statements by the names that it gave them.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use foldhash::HashMap;

use crate::plan::Held;
use crate::pool::statement::Prepared;
use crate::sql::effect::{self, Traces};

/// What a name of the client's means.
#[derive(Clone, Debug)]
pub enum Named {
    /// A statement that can be prepared on any server.
    Shared(Arc<Prepared>, Option<Held>),
    /// A statement too long to be kept: it is on the client's pinned server under the client's own name.
    OnServer,
    /// Prepared by SQL, and prepared again by it on each server that the client gets, under its own name.
    Sql(Arc<SqlText>),
}

/// A PREPARE statement that has been carried out.
#[derive(Debug)]
pub struct SqlText {
    /// Identity within the process.
    pub id: u64,
    /// PREPARE and what follows.
    pub text: Box<[u8]>,
    /// What running it may leave behind.
    pub traces: Traces,
}

impl SqlText {
    /// A statement that is not known yet.
    pub fn new(text: &[u8]) -> SqlText {
        static NEXT: AtomicU64 = AtomicU64::new(1 << 63);
        let traces = effect::scan(text).without(Traces::PREPARE);
        SqlText { id: NEXT.fetch_add(1, Relaxed), text: text.into(), traces }
    }
}

/// The client's unnamed statement, kept so that it can be prepared again elsewhere.
#[derive(Clone, Debug)]
pub struct Unnamed {
    text: Arc<UnnamedText>,
    /// Which of the client's unnamed statements it is.
    pub generation: u32,
}

/// What an unnamed statement is. The next one is the same most often.
#[derive(Debug)]
pub struct UnnamedText {
    /// The body of Parse after the name; `None` where it was too long to be kept.
    pub body: Option<Box<[u8]>>,
    /// What executing it may leave behind.
    pub pins: Traces,
    /// What was decided about it.
    pub plan: Option<Held>,
}

impl Deref for Unnamed {
    type Target = UnnamedText;

    fn deref(&self) -> &UnnamedText {
        &self.text
    }
}

impl UnnamedText {
    fn is_same(&self, body: Option<&[u8]>, pins: Traces, plan: Option<&Held>) -> bool {
        self.plan.as_ref().map(Arc::as_ptr) == plan.map(Arc::as_ptr)
            && self.pins == pins
            && self.body.as_deref() == body
    }
}

/// What a name meant before a message that the server may turn out to have skipped.
#[derive(Debug)]
pub struct Undo {
    /// The name.
    pub name: Box<[u8]>,
    /// What it meant.
    pub before: Option<Named>,
}

/// The namespace. Without named statements it takes no memory beyond itself.
#[derive(Debug, Default)]
#[allow(clippy::box_collection, reason = "most clients have none, and a client at rest is to be small")]
pub struct Names {
    named: Option<Box<HashMap<Box<[u8]>, Named>>>,
    /// How many of them were prepared by SQL.
    sql: u32,
    /// The unnamed statement, if there is one.
    pub unnamed: Option<Unnamed>,
    portals: Option<Box<HashMap<Box<[u8]>, Portal>>>,
    generation: u32,
}

/// A portal about which there is something to know.
#[derive(Clone, Debug)]
pub struct Portal {
    /// The plan of what it runs.
    pub plan: Option<Held>,
    /// How what it runs is explained, if it is there for that.
    pub explained: Option<Form>,
    /// What is left to be given of an explanation of which a part was asked for.
    pub rest: Option<VecDeque<String>>,
}

/// How the answer of EXPLAIN (ROUTE) is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// When what it is about has been run.
    pub runs: bool,
    /// As JSON.
    pub json: bool,
    /// The protocol's format code of its one column.
    pub format: i16,
}

/// Portals that are remembered for their plans' counts alone.
const MAX_PORTALS: usize = 1024;

impl Names {
    /// What `name` means.
    pub fn get(&self, name: &[u8]) -> Option<&Named> {
        self.named.as_ref()?.get(name)
    }

    /// Text and parameter types of the statement `name`, where they are kept.
    pub fn body(&self, name: &[u8]) -> Option<&[u8]> {
        if name.is_empty() {
            return self.unnamed.as_ref()?.body.as_deref();
        }
        match self.get(name)? {
            Named::Shared(statement, _) => Some(&statement.body),
            Named::OnServer | Named::Sql(_) => None,
        }
    }

    /// How many names there are.
    pub fn count(&self) -> usize {
        self.named.as_ref().map_or(0, |n| n.len())
    }

    /// Statements that were prepared by SQL.
    pub fn sql(&self) -> impl Iterator<Item = (&[u8], &Arc<SqlText>)> {
        // All are looked through only where there are any: whoever gets a server connection asks.
        let named = self.named.as_ref().filter(|_| self.sql > 0);
        named.into_iter().flat_map(|named| named.iter()).filter_map(|(name, meaning)| match meaning {
            Named::Sql(text) => Some((&**name, text)),
            _ => None,
        })
    }

    /// What the client calls the statement that servers know as `server_name`.
    pub fn called(&self, server_name: &[u8]) -> Option<&[u8]> {
        let same = |meaning: &Named| matches!(meaning, Named::Shared(s, _) if *s.name == *server_name);
        self.named.as_ref()?.iter().find(|(_, meaning)| same(meaning)).map(|(name, _)| &**name)
    }

    /// Gives `name` a meaning, or takes it away; returns how to undo that.
    pub fn set(&mut self, name: &[u8], meaning: Option<Named>) -> Box<Undo> {
        Box::new(Undo { name: name.into(), before: self.put(name.into(), meaning) })
    }

    /// Gives a name a meaning, or takes it away; returns the one before.
    fn put(&mut self, name: Box<[u8]>, meaning: Option<Named>) -> Option<Named> {
        let is_sql = |meaning: &Option<Named>| u32::from(matches!(meaning, Some(Named::Sql(_))));
        self.sql += is_sql(&meaning);
        let before = match meaning {
            Some(meaning) => self.named.get_or_insert_default().insert(name, meaning),
            None => self.named.as_mut().and_then(|named| named.remove(&name)),
        };
        self.sql -= is_sql(&before);
        before
    }

    /// Something else has been decided about a statement.
    pub fn replan(&mut self, name: &[u8], plan: Option<Held>) {
        if let Some(Named::Shared(_, known)) = self.named.as_mut().and_then(|named| named.get_mut(name)) {
            *known = plan;
        }
    }

    /// What is known of a portal.
    #[inline]
    pub fn portal(&self, name: &[u8]) -> Option<&Portal> {
        self.portals.as_ref()?.get(name)
    }

    /// The same, to be changed.
    pub fn portal_mut(&mut self, name: &[u8]) -> Option<&mut Portal> {
        self.portals.as_mut()?.get_mut(name)
    }

    /// Notes what a portal has been bound to. Of the unnamed one only what is explained is kept here.
    #[inline]
    pub fn bind(&mut self, name: &[u8], portal: Portal) {
        if portal.explained.is_none() && (name.is_empty() || self.portal_count() >= MAX_PORTALS) {
            self.close_portal(name);
        } else {
            self.portals.get_or_insert_default().insert(name.into(), portal);
        }
    }

    /// A portal is no more.
    #[inline]
    pub fn close_portal(&mut self, name: &[u8]) {
        if let Some(portals) = &mut self.portals {
            portals.remove(name);
        }
    }

    /// None is left: the transaction is over.
    #[inline]
    pub fn close_portals(&mut self) {
        if self.portals.is_some() {
            self.portals = None;
        }
    }

    fn portal_count(&self) -> usize {
        self.portals.as_ref().map_or(0, |portals| portals.len())
    }

    /// Undoes one [`Names::set`].
    pub fn undo(&mut self, undo: Undo) {
        self.put(undo.name, undo.before);
    }

    /// Replaces the unnamed statement; returns the one before it.
    pub fn set_unnamed(&mut self, body: Option<&[u8]>, pins: Traces, plan: Option<Held>) -> Option<Unnamed> {
        self.generation = self.generation.wrapping_add(1);
        let known = self.unnamed.as_ref().filter(|known| known.is_same(body, pins, plan.as_ref()));
        let text = match known {
            Some(known) => known.text.clone(),
            None => Arc::new(UnnamedText { body: body.map(Into::into), pins, plan }),
        };
        self.unnamed.replace(Unnamed { text, generation: self.generation })
    }

    /// Forgets what was decided about its statements: they are asked of another database now.
    pub fn forget_plans(&mut self) {
        for meaning in self.named.iter_mut().flat_map(|named| named.values_mut()) {
            if let Named::Shared(_, plan) = meaning {
                *plan = None;
            }
        }
        if let Some(known) = self.unnamed.take() {
            let text = UnnamedText { body: known.body.clone(), pins: known.pins, plan: None };
            self.unnamed = Some(Unnamed { text: Arc::new(text), generation: known.generation });
        }
    }

    /// Forgets all named statements.
    pub fn clear_named(&mut self) {
        (self.named, self.sql) = (None, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undoing_restores_what_was() {
        let mut names = Names::default();
        let first = names.set(b"a", Some(Named::OnServer));
        let second = names.set(b"a", None);
        assert!(names.get(b"a").is_none());
        names.undo(*second);
        assert!(names.get(b"a").is_some());
        names.undo(*first);
        assert_eq!(names.count(), 0);
    }
}
