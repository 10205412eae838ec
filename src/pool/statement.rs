//! Prepared statements as pools know them: one text with one list of parameter types is one statement, under one
//! name on every server, whatever its clients call it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use crate::sql::effect::Traces;
use crate::wire::message::cstr;

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
    /// The body that servers are sent in place of the client's, where that is ours to answer.
    sent: Option<Box<[u8]>>,
    /// See [`Scope`]: under what it was first prepared.
    mark: Box<[u8]>,
    accepted: AtomicBool,
    described: OnceLock<Described>,
    changed: AtomicBool,
}

/// What the first server to prepare a statement made of it.
#[derive(Debug)]
struct Described {
    /// The body of Parse after the name, with all parameter types.
    body: Box<[u8]>,
    /// Name, type, size and modifier of each column.
    columns: Vec<u8>,
}

/// The statements that clients of one pool have prepared, held weakly: the last client to forget one frees it.
#[derive(Debug, Default)]
pub struct Statements {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// By body, and by what else decides about the meaning of names in it.
    statements: HashMap<Box<[u8]>, Weak<Prepared>>,
    /// Which generation of the database's objects they are about.
    generation: u64,
}

/// Settings that decide what names and constants in a text mean when it is prepared: constants are read then
/// (`parse_coerce.c`), be they times, arrays or documents.
pub const MEANINGS: [&str; 12] = [
    "search_path",
    "role",
    "session_authorization",
    "client_encoding",
    "standard_conforming_strings",
    "timezone",
    "datestyle",
    "intervalstyle",
    "transform_null_equals",
    "array_nulls",
    "xmloption",
    "lc_monetary",
];

/// What a statement is prepared under: the same text may mean something else under another.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope<'a> {
    /// What the session has set of [`MEANINGS`].
    pub meanings: [Option<&'a str>; MEANINGS.len()],
    /// Counts changes of the database's objects.
    pub generation: u64,
}

impl Scope<'_> {
    fn key<'b>(&self, body: &'b [u8]) -> Cow<'b, [u8]> {
        let mark = self.mark();
        if mark.is_empty() { Cow::Borrowed(body) } else { Cow::Owned([body, &mark].concat()) }
    }

    /// All of it but for the generation, as bytes.
    fn mark(&self) -> Vec<u8> {
        let mut mark = Vec::new();
        let set = self.meanings.iter().enumerate().filter_map(|(i, value)| Some((i, (*value)?)));
        for (i, value) in set {
            mark.push(i as u8);
            mark.extend_from_slice(value.as_bytes());
            mark.push(0);
        }
        mark
    }
}

impl Known {
    fn of(&mut self, generation: u64) -> &mut HashMap<Box<[u8]>, Weak<Prepared>> {
        if self.generation != generation {
            self.statements.clear();
            self.generation = generation;
        }
        &mut self.statements
    }
}

/// Entries below which forgotten statements are not looked for.
const PRUNE_FLOOR: usize = 256;

impl Statements {
    /// Forgets all: who prepares one again gets a new one. For when the results of some have changed their types.
    pub fn forget_all(&self) {
        self.known.lock().statements.clear();
    }

    /// The statement with this body, if it is known.
    pub fn find(&self, body: &[u8], scope: Scope<'_>) -> Option<Arc<Prepared>> {
        self.known.lock().of(scope.generation).get(&*scope.key(body)).and_then(Weak::upgrade)
    }

    /// The statement with this body, made if it is new; `pins` is asked only then. Where servers are to prepare another
    /// one for it, that is `sent`.
    pub fn intern(
        &self,
        body: &[u8],
        scope: Scope<'_>,
        pins: impl FnOnce() -> Traces,
        sent: Option<&[u8]>,
    ) -> Arc<Prepared> {
        let key = scope.key(body);
        let mut known = self.known.lock();
        let known = known.of(scope.generation);
        if let Some(found) = known.get(&*key).and_then(Weak::upgrade) {
            return found;
        }
        if known.len() >= PRUNE_FLOOR && known.len() == known.capacity() {
            known.retain(|_, statement| statement.strong_count() > 0);
        }
        let made = Arc::new(Prepared::new(body, &scope.mark(), pins(), sent));
        known.insert(key.into(), Arc::downgrade(&made));
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

    /// What Parse is to say after the name, on a server that does not have it: where it is known what types the
    /// parameters had when it was first prepared, they keep them, as they would on one connection.
    pub fn to_parse(&self) -> &[u8] {
        self.described.get().map_or_else(|| self.sent(), |d| &d.body)
    }

    fn sent(&self) -> &[u8] {
        self.sent.as_ref().unwrap_or(&self.body)
    }

    /// Whether it is known what it returns.
    pub fn is_described(&self) -> bool {
        self.described.get().is_some()
    }

    /// Takes what a server says about it: the bodies of ParameterDescription and RowDescription, empty for NoData.
    /// False where it returns something else than it did when it was first prepared.
    pub fn describe(&self, params: &[u8], row: &[u8]) -> bool {
        let Some(columns) = columns(row) else { return true };
        let described = self.described.get_or_init(|| {
            let text = cstr(self.sent()).map_or(&b""[..], |(text, _)| text);
            Described { body: [text, b"\0", params].concat().into(), columns: columns.clone() }
        });
        described.columns == columns
    }

    /// Notes that what it returns has changed: who prepared it before that is told so, as on one connection.
    pub fn set_changed(&self) {
        self.changed.store(true, Relaxed);
    }

    /// See [`Prepared::set_changed`].
    pub fn is_changed(&self) -> bool {
        self.changed.load(Relaxed)
    }

    /// One that nobody else shares: what its text means is not known, or nobody else's.
    pub fn alone(body: &[u8], scope: Scope<'_>, pins: Traces, sent: Option<&[u8]>) -> Arc<Prepared> {
        Arc::new(Prepared::new(body, &scope.mark(), pins, sent))
    }

    /// Whether its text means to a session what it meant to who first prepared it.
    pub fn is_under(&self, scope: Scope<'_>) -> bool {
        *self.mark == *scope.mark()
    }

    fn new(body: &[u8], mark: &[u8], pins: Traces, sent: Option<&[u8]>) -> Prepared {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Relaxed);
        let mut name = SERVER_PREFIX.to_vec();
        name.extend_from_slice(id.to_string().as_bytes());
        Prepared {
            id,
            name: name.into(),
            body: body.into(),
            pins,
            sent: sent.map(Into::into),
            mark: mark.into(),
            accepted: AtomicBool::new(false),
            described: OnceLock::new(),
            changed: AtomicBool::new(false),
        }
    }
}

/// Of a RowDescription's body what makes a result type (`equalTupleDescs`): not where the columns came from.
fn columns(row: &[u8]) -> Option<Vec<u8>> {
    let mut columns = Vec::new();
    let mut rest = row.get(2..).unwrap_or_default();
    while !rest.is_empty() {
        let (name, fields) = cstr(rest)?;
        columns.extend_from_slice(name);
        columns.push(0);
        // After the table's OID and the column's number, before the format.
        columns.extend_from_slice(fields.get(6..16)?);
        rest = fields.get(18..)?;
    }
    Some(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_body_one_statement() {
        let statements = Statements::default();
        let a = statements.intern(b"SELECT 1\0\0\0", Scope::default(), || Traces::NONE, None);
        let b = statements.intern(b"SELECT 1\0\0\0", Scope::default(), || unreachable!("known"), None);
        let c = statements.intern(b"SELECT $1\0\0\x01\0\0\0\x17", Scope::default(), || Traces::NONE, None);
        assert!(Arc::ptr_eq(&a, &b) && a.id != c.id);
    }

    #[test]
    fn another_scope_another_statement() {
        let statements = Statements::default();
        let intern = |path: Option<&'static str>, generation| {
            statements.intern(
                b"SELECT 1\0\0\0",
                Scope { meanings: std::array::from_fn(|i| path.filter(|_| i == 0)), generation },
                || Traces::NONE,
                None,
            )
        };
        let a = intern(None, 0);
        assert!(!Arc::ptr_eq(&a, &intern(Some("other"), 0)));
        assert!(Arc::ptr_eq(&a, &intern(None, 0)));
        assert!(!Arc::ptr_eq(&a, &intern(None, 1)), "objects have changed");
    }

    #[test]
    fn a_result_type_is_remembered() {
        let column = |name: &str, table: u8, kind: u8| {
            let mut column = [name.as_bytes(), &[0, 0, 0, 0, table, 0, 1]].concat();
            column.extend([0, 0, 0, kind, 0, 4, 0xff, 0xff, 0xff, 0xff, 0, 0]);
            column
        };
        let row = |columns: &[Vec<u8>]| [&[0, columns.len() as u8], columns.concat().as_slice()].concat();
        let statement = Prepared::new(b"SELECT a WHERE $1\0\0\0", b"", Traces::NONE, None);
        assert!(!statement.is_described());
        assert!(statement.describe(&[0, 1, 0, 0, 0, 23], &row(&[column("a", 1, 23)])));
        assert_eq!(statement.to_parse(), b"SELECT a WHERE $1\0\0\x01\0\0\0\x17");
        assert!(statement.describe(b"\0\0", &row(&[column("a", 2, 23)])), "another table, the same type");
        assert!(!statement.describe(b"\0\0", &row(&[column("a", 1, 25)])));
        assert!(!statement.describe(b"\0\0", &row(&[column("b", 1, 23)])));
        assert!(!statement.describe(b"\0\0", &row(&[column("a", 1, 23), column("b", 1, 23)])));
        assert!(!statement.describe(b"\0\0", b""), "no rows at all");
    }

    #[test]
    fn forgotten_statements_are_freed() {
        let statements = Statements::default();
        for i in 0..10_000u32 {
            statements.intern(&i.to_be_bytes(), Scope::default(), || Traces::NONE, None);
        }
        assert!(statements.known.lock().statements.len() < 1_000);
    }
}
