//! What a statement means, as far as its text tells: what it does, to what, by which functions. Plain data, without
//! values; the same for every statement of a shape.
//!
//! Whatever matters to safety (writes, locks, calls) is found in the tokens, where nothing can hide; the syntax tree adds
//! which relations and columns are meant.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::effect::Traces;
use super::parse::Gap;

/// What kind of thing a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Reads, as far as its text tells.
    Read,
    /// INSERT, UPDATE, DELETE, MERGE, SELECT INTO, TRUNCATE, and reads that lock rows.
    Write,
    /// CREATE, ALTER, DROP, GRANT and the like.
    Ddl,
    /// BEGIN, COMMIT, SAVEPOINT and the like.
    Transaction,
    /// SET, SHOW, LISTEN, PREPARE, DISCARD and the like.
    Session,
    /// COPY from the client or a file.
    CopyIn,
    /// COPY to the client or a file.
    CopyOut,
    /// DECLARE, FETCH, MOVE, CLOSE.
    Cursor,
    /// EXECUTE of a statement that SQL has prepared.
    Execute,
    /// DO and CALL: code that may do anything.
    Code,
    /// VACUUM, ANALYZE, LOCK, CHECKPOINT and the like.
    Utility,
    /// Nothing that is known.
    Unknown,
}

impl Effect {
    /// A label for metrics and people.
    pub fn label(self) -> &'static str {
        match self {
            Effect::Read => "read",
            Effect::Write => "write",
            Effect::Ddl => "ddl",
            Effect::Transaction => "transaction",
            Effect::Session => "session",
            Effect::CopyIn => "copy in",
            Effect::CopyOut => "copy out",
            Effect::Cursor => "cursor",
            Effect::Execute => "execute",
            Effect::Code => "code",
            Effect::Utility => "utility",
            Effect::Unknown => "unknown",
        }
    }
}

/// A name that may be qualified, folded and unquoted as Postgres does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Schema, if it is given.
    pub schema: Option<Box<str>>,
    /// The name itself.
    pub name: Box<str>,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{schema}.")?;
        }
        f.write_str(&self.name)
    }
}

/// What a column is used for, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// Compared with `=` or IN to something that is no column.
    pub const EQUAL: Roles = Roles(1);
    /// Compared otherwise.
    pub const RANGE: Roles = Roles(2);
    /// Compared with another relation's column.
    pub const JOIN: Roles = Roles(4);
    /// In ORDER BY.
    pub const SORT: Roles = Roles(8);
    /// In GROUP BY or DISTINCT.
    pub const GROUP: Roles = Roles(16);
    /// Given a value.
    pub const WRITTEN: Roles = Roles(32);
    /// Read in any other way.
    pub const READ: Roles = Roles(64);

    /// Adds those of `other`.
    pub fn add(&mut self, other: Roles) {
        self.0 |= other.0;
    }

    /// Whether any of `other` is among these.
    pub fn any(self, other: Roles) -> bool {
        self.0 & other.0 != 0
    }

    /// Their names, for people.
    pub fn labels(self) -> Vec<&'static str> {
        const LABELS: [(Roles, &str); 7] = [
            (Roles::EQUAL, "equal"),
            (Roles::RANGE, "range"),
            (Roles::JOIN, "join"),
            (Roles::SORT, "sort"),
            (Roles::GROUP, "group"),
            (Roles::WRITTEN, "written"),
            (Roles::READ, "read"),
        ];
        LABELS.iter().filter(|(role, _)| self.any(*role)).map(|(_, label)| *label).collect()
    }
}

/// A relation that a statement names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Its name as it is written.
    pub name: Name,
    /// Whether it is read.
    pub read: bool,
    /// Whether it is written.
    pub written: bool,
    /// Columns that are known to be its, with what they are used for.
    pub columns: Vec<(Box<str>, Roles)>,
}

/// What a column is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// The literal of this mark of the shape; of a list's mark, any of them.
    Mark(u32),
    /// The parameter `$n`.
    Param(u32),
}

/// What a column is compared with: mostly one thing.
pub type Operands = SmallVec<[Operand; 2]>;

/// `column = value` that must hold for every row that a statement reads or writes of a relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predicate {
    /// Index of the relation.
    pub relation: usize,
    /// The column.
    pub column: Box<str>,
    /// The value, or the values of which it is one.
    pub operands: Operands,
}

/// A function that a statement calls.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// Its name as it is written.
    pub name: Name,
    /// How many arguments it is given, where that is known.
    pub arguments: Option<u16>,
}

/// What one statement means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What it does.
    pub effect: Effect,
    /// Its leading words: `CREATE TABLE`.
    pub verb: Cow<'static, str>,
    /// What it may leave behind in its session.
    pub traces: Traces,
    /// Whether it locks rows (FOR UPDATE and the like).
    pub locks: bool,
    /// Whether it works at a cursor's position.
    pub cursor: bool,
    /// Relations that it names; all of them, if it is understood.
    pub relations: Vec<Relation>,
    /// Functions that it calls, and perhaps names that only look like it.
    pub calls: Vec<Call>,
    /// Names after a dot of which it is not known here that they are columns: `(x).f` and `x.f` call `f` where a row has no
    /// such column.
    pub fields: Vec<Box<str>>,
    /// Operators that are neither comparison nor arithmetic.
    pub operators: Vec<Box<str>>,
    /// Equalities at the top of its conditions.
    pub predicates: Vec<Predicate>,
    /// What keeps it from being understood.
    pub gap: Option<Gap>,
}

/// Most relations that a statement is understood with.
const MAX_RELATIONS: usize = 256;

impl Facts {
    /// Gives back the room that was made while it was read and is not used: it is kept for long, and there are many.
    pub fn shrink(&mut self) {
        for relation in &mut self.relations {
            relation.columns.shrink_to_fit();
        }
        for predicate in &mut self.predicates {
            predicate.operands.shrink_to_fit();
        }
        self.relations.shrink_to_fit();
        self.calls.shrink_to_fit();
        self.fields.shrink_to_fit();
        self.operators.shrink_to_fit();
        self.predicates.shrink_to_fit();
    }

    /// Whether it is a query or a change of rows: what EXPLAIN explains.
    pub fn is_query(&self) -> bool {
        const VERBS: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "VALUES", "MERGE", "TABLE"];
        matches!(self.effect, Effect::Read | Effect::Write) && VERBS.contains(&&*self.verb)
    }

    /// The relation of this name, which is added if it is new.
    pub(super) fn relation(&mut self, name: &Name) -> usize {
        if let Some(at) = self.relations.iter().position(|r| r.name == *name) {
            return at;
        }
        // More than anybody writes: not looking on keeps what follows from taking long.
        if self.relations.len() >= MAX_RELATIONS {
            self.gap = Some(Gap::Long);
            return self.relations.len() - 1;
        }
        self.relations.push(Relation {
            name: name.clone(),
            read: false,
            written: false,
            columns: Vec::new(),
        });
        self.relations.len() - 1
    }

    /// Notes what a relation's column is used for.
    pub(super) fn column(&mut self, relation: usize, column: &str, roles: Roles) {
        let columns = &mut self.relations[relation].columns;
        match columns.iter_mut().find(|(name, _)| **name == *column) {
            Some((_, known)) => known.add(roles),
            None => columns.push((column.into(), roles)),
        }
    }

    /// Notes a name after a dot.
    pub(super) fn field(&mut self, name: String) {
        if !self.fields.iter().any(|known| **known == *name) {
            self.fields.push(name.into());
        }
    }

    /// Notes a call.
    pub(super) fn call(&mut self, name: Name, arguments: Option<u16>) {
        let call = Call { name, arguments };
        if !self.calls.contains(&call) {
            self.calls.push(call);
        }
    }
}
