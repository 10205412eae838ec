//! What a Postgres database contains, as plain data that never changes: read whole by [`read::load`], asked by
//! [`resolve`]. Knows nothing of statements, sessions or pools.
//!
//! Names are as Postgres stores them, in UTF-8 whatever the server's encoding is. A name that is not valid UTF-8, which
//! only a server without an encoding can have, begins with a zero byte here, so that no statement can mean it.

pub mod function;
pub mod path;
pub mod read;
pub mod relation;
pub mod resolve;

mod domain;
mod query;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

pub use function::{Cast, Function, Operator, Volatility};
pub use path::SearchPath;
pub use relation::Relation;
pub use resolve::{Candidates, Resolved};

use crate::core::clock::Instant;
use function::FunctionKind;

/// Postgres' number for an object; 0 for none.
pub type Oid = u32;

/// A role.
#[derive(Clone, Debug, Default)]
pub struct Role {
    /// `pg_authid.oid`
    pub oid: Oid,
    /// Its name.
    pub name: Box<str>,
    /// Whether it is a superuser.
    pub superuser: bool,
    /// Whether row security does not apply to it.
    pub bypasses_row_security: bool,
}

/// Who may look into a schema. A search path passes over schemas that the role may not look into.
#[derive(Clone, Debug, Default)]
pub enum Usage {
    /// Every role.
    Everyone,
    /// These roles, sorted.
    Roles(Box<[Oid]>),
    /// It was not read, or would be too many.
    #[default]
    Unknown,
}

/// A schema.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// `pg_namespace.oid`
    pub oid: Oid,
    /// Its name.
    pub name: Arc<str>,
    /// The role that owns it.
    pub owner: Oid,
    /// Who may look into it.
    pub usage: Usage,
}

/// What a type is (`pg_type.typtype`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TypeKind {
    /// Base type, or an array.
    #[default]
    Base,
    /// Row type of a relation.
    Composite,
    /// Domain.
    Domain,
    /// Enumeration.
    Enum,
    /// Pseudo-type, such as `record`.
    Pseudo,
    /// Range.
    Range,
    /// Multirange.
    Multirange,
    /// Something that a newer server knows.
    Other,
}

impl TypeKind {
    /// From the letter that `pg_type` has.
    pub fn from_letter(letter: u8) -> TypeKind {
        match letter {
            b'b' => TypeKind::Base,
            b'c' => TypeKind::Composite,
            b'd' => TypeKind::Domain,
            b'e' => TypeKind::Enum,
            b'p' => TypeKind::Pseudo,
            b'r' => TypeKind::Range,
            b'm' => TypeKind::Multirange,
            _ => TypeKind::Other,
        }
    }
}

/// A type.
#[derive(Clone, Debug, Default)]
pub struct Type {
    /// `pg_type.oid`
    pub oid: Oid,
    /// The schema it is in.
    pub schema: Oid,
    /// Its name as the catalog has it: `int4`, not `integer`; arrays begin with an underscore.
    pub name: Arc<str>,
    /// What it is.
    pub kind: TypeKind,
    /// `pg_type.typcategory`
    pub category: u8,
    /// The type beneath a domain; 0 for others.
    pub base: Oid,
    /// The type of an array's elements; 0 where it cannot be subscripted.
    pub element: Oid,
    /// The relation whose row type it is; 0 for others.
    pub relation: Oid,
    /// Whether a domain refuses NULL.
    pub not_null: bool,
    /// Text of a domain's default expression.
    pub default: Option<Box<str>>,
    /// Whether a domain has CHECK constraints of its own; the domain beneath it may have others.
    pub checked: bool,
    /// Texts of these constraints, as far as they could be read.
    pub checks: Box<[Box<str>]>,
    /// What the functions promise that turn text into a value and back: `'now'::timestamptz` is stable. The functions
    /// in a domain's constraints and those of an array's elements are not counted.
    pub text_volatility: Volatility,
}

/// An extension that is installed.
#[derive(Clone, Debug, Default)]
pub struct Extension {
    /// Its name.
    pub name: Box<str>,
    /// Its version.
    pub version: Box<str>,
    /// The schema its objects are in.
    pub schema: Oid,
}

/// Settings on which the meaning of statements depends, as a new session has them of the role that read them, with the
/// same start-up options. Other roles may have others (`ALTER ROLE ... SET`), which are known of the search path.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `server_version_num`, such as 150004.
    pub server_version: u32,
    /// `search_path` of roles that have none of their own. `None` where the role that read it has.
    pub search_path: Option<Box<str>>,
    /// `search_path` of roles that have one of their own in this database.
    pub search_paths: Vec<(Oid, Box<str>)>,
    /// What ALTER ROLE and ALTER DATABASE have set in this database of what speaks to us: role, 0 for all, name in lower
    /// case, value.
    pub directions: Vec<(Oid, Box<str>, Box<str>)>,
    /// `standard_conforming_strings`
    pub standard_conforming_strings: bool,
    /// `server_encoding`
    pub server_encoding: Box<str>,
    /// `default_transaction_read_only`
    pub default_transaction_read_only: bool,
    /// Whether the server is a standby.
    pub in_hot_standby: bool,
}

/// Everything that a [`Catalog`] is made of, in any order.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Name of the database.
    pub database: Box<str>,
    /// Settings.
    pub settings: Settings,
    /// Roles of the whole cluster.
    pub roles: Vec<Role>,
    /// Schemas, temporary ones included.
    pub schemas: Vec<Schema>,
    /// Relations, temporary ones of every session included, TOAST left out.
    pub relations: Vec<Relation>,
    /// Functions.
    pub functions: Vec<Function>,
    /// Operators whose function is not immutable, or somebody's own and perhaps no better than its promise. `None` where
    /// they could not be read.
    pub operators: Option<Vec<Operator>>,
    /// Casts of the same kind. `None` where they could not be read.
    pub casts: Option<Vec<Cast>>,
    /// Types.
    pub types: Vec<Type>,
    /// Extensions. `None` where they could not be read.
    pub extensions: Option<Vec<Extension>>,
}

/// A database's contents at one moment. Made once, then only read; share it by `Arc`.
///
/// What is not in it may have been made since, or could not be read: absence means "unknown", never "does not exist".
#[derive(Debug)]
pub struct Catalog {
    contents: Contents,
    read_at: Instant,
    roles: HashMap<Box<str>, usize>,
    schemas: HashMap<Arc<str>, usize>,
    schemas_by_oid: HashMap<Oid, usize>,
    relations: HashMap<Oid, usize>,
    relations_by_name: HashMap<Oid, HashMap<Arc<str>, usize>>,
    functions: HashMap<Oid, usize>,
    functions_by_name: HashMap<Arc<str>, Range<usize>>,
    types: HashMap<Oid, usize>,
    types_by_name: HashMap<Arc<str>, Range<usize>>,
    domains: HashMap<Oid, Box<[Oid]>>,
    defines: bool,
}

/// Where each run of equal names is in a sorted list.
fn runs<T>(sorted: &[T], name: impl Fn(&T) -> &Arc<str>) -> HashMap<Arc<str>, Range<usize>> {
    let mut start = 0;
    let runs = sorted.chunk_by(|a, b| name(a) == name(b)).filter_map(|run| {
        let range = start..start + run.len();
        start = range.end;
        run.first().map(|first| (name(first).clone(), range))
    });
    runs.collect()
}

/// Whether code says so that is not the system's own: temporary objects are nobody else's.
fn defines(contents: &Contents) -> bool {
    const OWN: [&str; 2] = ["pg_catalog", "information_schema"];
    let own = |oid: Oid| contents.schemas.iter().any(|s| s.oid == oid && OWN.contains(&&*s.name));
    let plain = |f: &&Function| {
        !matches!(&*f.language, "c" | "internal")
            && f.kind != FunctionKind::Aggregate
            && !is_teller(contents, f)
    };
    contents
        .functions
        .iter()
        .filter(plain)
        .any(|f| f.body.as_deref().is_none_or(function::may_define) && !own(f.schema))
}

/// Whether a function is one of those that tell us of writes: they only do that.
fn is_teller(contents: &Contents, function: &Function) -> bool {
    let schema = || contents.schemas.iter().find(|s| s.oid == function.schema);
    TELLERS.contains(&&*function.name) && schema().is_some_and(|schema| &*schema.name == TELLERS_SCHEMA)
}

/// The functions that `turnpike cache enable-...` makes: that of triggers, and that of event triggers.
pub const TELLERS: [&str; 2] = ["tell", "tell_ddl"];
/// The schema that they are in.
pub const TELLERS_SCHEMA: &str = "turnpike";

impl Catalog {
    /// Whether a function does nothing but tell us of writes.
    pub fn is_teller(&self, function: Oid) -> bool {
        self.function_by_oid(function).is_some_and(|function| is_teller(&self.contents, function))
    }

    /// All of it.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// From what was read at `read_at`.
    pub fn new(mut contents: Contents, read_at: Instant) -> Catalog {
        contents.functions.sort_by(|a, b| a.name.cmp(&b.name).then(a.oid.cmp(&b.oid)));
        contents.types.sort_by(|a, b| a.name.cmp(&b.name).then(a.oid.cmp(&b.oid)));
        let mut relations_by_name: HashMap<Oid, HashMap<Arc<str>, usize>> = HashMap::new();
        for (i, relation) in contents.relations.iter().enumerate() {
            relations_by_name.entry(relation.schema).or_default().insert(relation.name.clone(), i);
        }
        let Contents { roles, schemas, relations, functions, types, .. } = &contents;
        Catalog {
            read_at,
            roles: roles.iter().enumerate().map(|(i, r)| (r.name.clone(), i)).collect(),
            schemas: schemas.iter().enumerate().map(|(i, s)| (s.name.clone(), i)).collect(),
            schemas_by_oid: schemas.iter().enumerate().map(|(i, s)| (s.oid, i)).collect(),
            relations: relations.iter().enumerate().map(|(i, r)| (r.oid, i)).collect(),
            relations_by_name,
            functions: functions.iter().enumerate().map(|(i, f)| (f.oid, i)).collect(),
            functions_by_name: runs(functions, |f| &f.name),
            types: types.iter().enumerate().map(|(i, t)| (t.oid, i)).collect(),
            types_by_name: runs(types, |t| &t.name),
            domains: domain::contained(&contents),
            defines: defines(&contents),
            contents,
        }
    }

    /// Whether some function in it may define objects otherwise: whoever calls functions, also by triggers, may do so.
    /// Functions in C are taken not to.
    pub fn defines(&self) -> bool {
        self.defines
    }

    /// When reading it began.
    pub fn read_at(&self) -> Instant {
        self.read_at
    }

    /// Name of the database.
    pub fn database(&self) -> &str {
        &self.contents.database
    }

    /// Settings that matter for meaning.
    pub fn settings(&self) -> &Settings {
        &self.contents.settings
    }

    /// The `search_path` that sessions of a role begin with, where it is known.
    pub fn search_path(&self, role: &str) -> Option<&str> {
        let settings = self.settings();
        let own = match self.role(role) {
            Some(role) => settings.search_paths.iter().find(|(of, _)| *of == role.oid),
            None if settings.search_paths.is_empty() => None,
            None => return None,
        };
        own.map(|(_, path)| path).or(settings.search_path.as_ref()).map(|path| &**path)
    }

    /// What sessions of a role begin with for a setting of ours (`turnpike.route`), where that is known.
    pub fn setting(&self, role: &str, name: &str) -> Option<&str> {
        let directions = &self.settings().directions;
        let of = |role: Oid| directions.iter().find(|(of, n, _)| *of == role && **n == *name);
        let own = self.role(role).and_then(|role| of(role.oid));
        own.or_else(|| of(0)).map(|(_, _, value)| &**value)
    }

    /// The role of this name.
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.contents.roles.get(*self.roles.get(name)?)
    }

    /// The schema of this name.
    pub fn schema(&self, name: &str) -> Option<&Schema> {
        self.contents.schemas.get(*self.schemas.get(name)?)
    }

    /// All schemas, in no order.
    pub fn schemas(&self) -> &[Schema] {
        &self.contents.schemas
    }

    /// The schema of this oid.
    pub fn schema_by_oid(&self, oid: Oid) -> Option<&Schema> {
        self.contents.schemas.get(*self.schemas_by_oid.get(&oid)?)
    }

    /// All relations, in no order.
    pub fn relations(&self) -> &[Relation] {
        &self.contents.relations
    }

    /// The relation of this oid.
    pub fn relation_by_oid(&self, oid: Oid) -> Option<&Relation> {
        self.contents.relations.get(*self.relations.get(&oid)?)
    }

    /// A relation's name with its schema's, for people.
    pub fn name_of(&self, oid: Oid) -> Option<String> {
        let relation = self.relation_by_oid(oid)?;
        Some(format!("{}.{}", self.schema_by_oid(relation.schema)?.name, relation.name))
    }

    /// The relation of this name in the schema of this oid.
    pub fn relation_in(&self, schema: Oid, name: &str) -> Option<&Relation> {
        self.contents.relations.get(*self.relations_by_name.get(&schema)?.get(name)?)
    }

    /// All functions, sorted by name.
    pub fn all_functions(&self) -> &[Function] {
        &self.contents.functions
    }

    /// The function of this oid.
    pub fn function_by_oid(&self, oid: Oid) -> Option<&Function> {
        self.contents.functions.get(*self.functions.get(&oid)?)
    }

    /// Every function of this name, in any schema.
    pub fn functions_named(&self, name: &str) -> &[Function] {
        let range = self.functions_by_name.get(name).cloned().unwrap_or_default();
        self.contents.functions.get(range).unwrap_or_default()
    }

    /// The type of this oid.
    pub fn type_by_oid(&self, oid: Oid) -> Option<&Type> {
        self.contents.types.get(*self.types.get(&oid)?)
    }

    /// Every type of this name, in any schema.
    pub fn types_named(&self, name: &str) -> &[Type] {
        let range = self.types_by_name.get(name).cloned().unwrap_or_default();
        self.contents.types.get(range).unwrap_or_default()
    }

    /// The domains that values of a type contain, or are of: somebody's own, with constraints or a default.
    pub fn domains_of(&self, of: Oid) -> &[Oid] {
        self.domains.get(&of).map_or(&[], |domains| domains)
    }

    /// Whether there is any such domain.
    pub fn has_domains(&self) -> bool {
        !self.domains.is_empty()
    }

    /// All of them, some more than once.
    pub fn all_domains(&self) -> impl Iterator<Item = Oid> {
        self.domains.values().flatten().copied()
    }

    /// Operators whose function is not immutable, or somebody's own and not in C; others are. `None` where that is not
    /// known.
    pub fn operators(&self) -> Option<&[Operator]> {
        self.contents.operators.as_deref()
    }

    /// Casts of the same kind; others are immutable. `None` where that is not known.
    pub fn casts(&self) -> Option<&[Cast]> {
        self.contents.casts.as_deref()
    }

    /// Extensions. `None` where they are not known.
    pub fn extensions(&self) -> Option<&[Extension]> {
        self.contents.extensions.as_deref()
    }
}
