//! Who may serve a statement, and why: any server only where nothing is left to doubt. What views, policies and SQL
//! functions hide is looked into as if the statement said it.

use std::borrow::Cow;
use std::collections::HashSet;

use super::declared::Marks;
use super::functions::{self, Known};
use super::kept::{AsksSettings, is_steady_type};
use super::touch::{Growing, Reach, Touches};
use super::written;
use super::{Class, Reason, Tie};
use crate::catalog::function::{Function, FunctionKind};
use crate::catalog::relation::{Command, Persistence, Relation, RelationKind};
use crate::catalog::{Catalog, Oid, Resolved, SearchPath, Volatility};
use crate::sql::class::facts;
use crate::sql::effect::Traces;
use crate::sql::facts::{self as sql, Call, Effect, Facts, Name};
use crate::sql::shape::Shape;

/// What a statement is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Knowledge<'a> {
    /// Functions that the configuration speaks of.
    pub marks: &'a Marks,
    /// What the database contains, where that is known.
    pub catalog: Option<&'a Catalog>,
    /// The session's schema search path.
    pub path: Option<&'a SearchPath>,
}

/// Reasons above which more say nothing new.
const MOST: usize = 16;
/// `time with time zone`
const TIMETZ: Oid = 1266;
/// Views in views, functions in functions.
pub(super) const DEEPEST: usize = 16;
/// Columns that every table has without the catalog's saying so.
const SYSTEM_COLUMNS: &[&str] = &["cmax", "cmin", "ctid", "oid", "tableoid", "xmax", "xmin", "excluded"];

/// A statement before the judge: what is known, and what has been found.
pub(super) struct Case<'a> {
    pub(super) known: Knowledge<'a>,
    /// Where names are looked for: the session's path, or that of the function whose code is looked into.
    pub(super) path: Option<Cow<'a, SearchPath>>,
    reasons: Vec<Reason>,
    /// What it reads and may write, as far as that has been found.
    pub(super) reads: Growing,
    pub(super) writes: Growing,
    /// Nothing that is found now is a reason.
    pub(super) silent: bool,
    /// Something speaks against other servers, and rows on a foreign server do.
    bound: bool,
    foreign: bool,
    /// It may tell when its transaction began.
    tells_time: bool,
    /// What it returns differs from run to run.
    varies: bool,
    /// Why results must not be kept, if they must not, as far as that is not said by the class.
    pub(super) fleeting: Option<String>,
    /// It calls functions that are not the system's own.
    calls: bool,
    /// Whether it asks for settings by their names.
    pub(super) asks_settings: AsksSettings,
    /// It may read other rows than those that the statement itself says that it reads.
    pub(super) beyond: bool,
    /// Relations and functions that have been looked into.
    pub(super) seen: HashSet<Oid>,
    pub(super) depth: usize,
}

/// What was found.
#[derive(Debug)]
pub struct Judgement {
    /// Who may serve the statements.
    pub class: Class,
    /// Why.
    pub reasons: Vec<Reason>,
    /// What they touch.
    pub touches: Touches,
    /// What they mean to a transaction on a replica.
    pub tie: Tie,
    /// What they return differs from run to run, as far as is known.
    pub varies: bool,
    /// Why results must not be kept, where the rest does not say so.
    pub fleeting: Option<String>,
    /// Whether they ask for settings by their names.
    pub asks_settings: AsksSettings,
    /// They may read other rows than those that they say that they read: what they call does.
    pub beyond: bool,
    /// Only that rows are on a foreign server speaks against other servers.
    pub foreign: bool,
}

/// Judges what a string of statements does, whose normal form this is.
pub fn judge(statements: &[Facts], normal: &[u8], known: Knowledge<'_>) -> Judgement {
    let mut case = Case::new(known);
    match statements {
        [] => case.against("there is no statement"),
        [one] => case.statement(one),
        several => {
            case.against(format!("{} statements in one string run as one transaction", several.len()));
            several.iter().for_each(|one| case.statement(one));
        }
    }
    if let Some(catalog) = known.catalog.filter(|_| statements.iter().any(has_values)) {
        case.mentions(catalog, normal);
    }
    let foreign = case.foreign && !case.bound;
    let class = if case.reasons.iter().any(|r| r.against) { Class::Primary } else { Class::Read };
    if class == Class::Read {
        case.noted("it reads, and so does everything that it calls");
    } else {
        statements.iter().for_each(|one| case.writes(one));
    }
    let tie = match (class, statements) {
        (Class::Read, _) if !case.tells_time => Tie::Free,
        (Class::Read, _) => Tie::Bound,
        (Class::Primary, [one]) if is_cursor_that_reads(one, normal, known) => Tie::Bound,
        (Class::Primary, _) => Tie::Primary,
    };
    let (reads, writes) = (case.reads.end(), case.writes.end());
    let anything = writes == Reach::Anything;
    let functions = anything && known.catalog.is_some_and(Catalog::defines);
    let defines = statements.iter().map(|one| written::defines(one, anything, functions));
    let defines = defines.max().unwrap_or_default();
    let touches = Touches { reads, writes, defines, calls: case.calls, row: None };
    let Case { reasons, fleeting, asks_settings, beyond, varies, .. } = case;
    Judgement { class, reasons, touches, tie, varies, fleeting, asks_settings, beyond, foreign }
}

/// Whether a statement may evaluate expressions.
fn has_values(facts: &Facts) -> bool {
    use Effect::{Code, CopyIn, CopyOut, Cursor, Read, Write};
    matches!(facts.effect, Read | Write | CopyIn | CopyOut | Cursor | Code)
}

/// Whether it declares a cursor that ends with its transaction, for nothing but reading.
fn is_cursor_that_reads(facts: &Facts, normal: &[u8], known: Knowledge<'_>) -> bool {
    if facts.effect != Effect::Cursor || facts.verb != "DECLARE" || facts.locks || facts.cursor {
        return false;
    }
    let lasts = facts.traces.any(Traces::ASKABLE.and(Traces::CERTAIN).without(Traces::HINTS));
    let mut case = Case::new(known);
    case.query(facts);
    if let Some(catalog) = known.catalog {
        case.mentions(catalog, normal);
    }
    !lasts && case.reasons.iter().all(|r| !r.against)
}

impl<'a> Case<'a> {
    fn new(known: Knowledge<'a>) -> Case<'a> {
        Case {
            known,
            path: known.path.map(Cow::Borrowed),
            reasons: Vec::new(),
            reads: Growing::default(),
            writes: Growing::default(),
            silent: false,
            bound: false,
            foreign: false,
            tells_time: false,
            varies: false,
            fleeting: None,
            calls: false,
            asks_settings: AsksSettings::No,
            beyond: false,
            seen: HashSet::new(),
            depth: 0,
        }
    }

    pub(super) fn against(&mut self, text: impl Into<Cow<'static, str>>) {
        self.bound = true;
        self.note(true, text.into());
    }

    /// Rows that are on another server: only the primary is asked for them, and nobody tells when they change.
    fn foreign(&mut self, text: String) {
        self.foreign = true;
        self.note(true, text.into());
    }

    /// Something that may do anything.
    pub(super) fn unknown(&mut self, text: impl Into<Cow<'static, str>>) {
        self.writes.add_anything();
        self.against(text);
    }

    pub(super) fn noted(&mut self, text: impl Into<Cow<'static, str>>) {
        self.note(false, text.into());
    }

    fn note(&mut self, against: bool, text: Cow<'static, str>) {
        let reason = Reason { against, text };
        if !self.silent && self.reasons.len() < MOST && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    fn statement(&mut self, facts: &Facts) {
        if facts.effect != Effect::Read {
            let verb = if facts.verb.is_empty() { "an unknown statement" } else { &facts.verb };
            return self.against(match facts.effect {
                Effect::Write if facts.locks => format!("{verb} locks rows"),
                Effect::Write => format!("{verb} writes"),
                other => format!("{verb} is no query ({})", other.label()),
            });
        }
        if facts.cursor {
            self.against("it works at a cursor's position");
        }
        for label in facts.traces.of(Traces::ASKABLE.and(Traces::CERTAIN)).labels() {
            self.against(format!("it may leave something in its session: {label}"));
        }
        self.query(facts);
    }

    /// What a query reads and calls, wherever it stands.
    pub(super) fn query(&mut self, facts: &Facts) {
        if let Some(gap) = facts.gap {
            return self.unknown(format!("it is not understood ({})", gap.label()));
        }
        let Some(catalog) = self.known.catalog else { return self.unknown("the catalog is not known") };
        facts.calls.iter().for_each(|call| self.call(catalog, call));
        facts.relations.iter().for_each(|relation| self.relation(catalog, relation));
        facts.fields.iter().for_each(|name| self.field(catalog, name));
        self.operators(catalog, |name| facts.operators.iter().any(|o| **o == *name));
        self.operators_kept(catalog, facts);
    }

    fn call(&mut self, catalog: &'a Catalog, call: &Call) {
        let name = &call.name;
        self.varies |= functions::varies(&name.name);
        if functions::tells_time(&name.name) {
            self.tells_time = true;
            self.fleeting(|| format!("{name} tells the time"));
        }
        match self.known.marks.of(name) {
            Some(true) => {
                self.tells_time = true;
                self.fleeting(|| format!("what {name} depends on is not known"));
                return self.noted(format!("the configuration says that {name} only reads"));
            }
            Some(false) => return self.unknown(format!("the configuration says that {name} may write")),
            None => {}
        }
        let Some(path) = self.path.clone() else {
            return self.unknown("the schema search path is not known");
        };
        let counts = call.arguments.map_or(0..=32, |n| usize::from(n)..=usize::from(n));
        let mut found: Vec<&Function> = Vec::new();
        for count in counts {
            let candidates = catalog.functions(&path, name.schema.as_deref(), &name.name, count);
            if candidates.cast == Some(Volatility::Volatile) {
                self.unknown(format!("{name} may be a volatile cast"));
            } else if candidates.cast == Some(Volatility::Stable) {
                self.fleeting(|| format!("{name} may be a cast that tells the time"));
            }
            for function in candidates.functions {
                if !found.iter().any(|f| f.oid == function.oid) {
                    found.push(function);
                }
            }
        }
        if found.is_empty() {
            return self.bare(catalog, call);
        }
        found.into_iter().for_each(|function| self.function(catalog, name, function));
    }

    /// A name that no function has: key words that are called without parentheses, or something unknown.
    fn bare(&mut self, catalog: &Catalog, call: &Call) {
        let name = &call.name;
        const WORDS: &[&str] = &[
            "current_catalog",
            "current_date",
            "current_role",
            "current_schema",
            "current_time",
            "current_timestamp",
            "current_user",
            "localtime",
            "localtimestamp",
            "session_user",
            "user",
            "extract",
            "overlay",
            "position",
            "substring",
            "trim",
            "grouping",
            "normalize",
            "collation_for",
            "xml",
        ];
        let type_name = !catalog.types_named(&name.name).is_empty();
        // `t(x)` casts where there is no function for that.
        if type_name && call.arguments.is_none_or(|n| n == 1) && !is_steady_type(&name.name) {
            self.fleeting(|| format!("{name} may be a cast that tells the time"));
        }
        if name.schema.is_some() || !WORDS.contains(&&*name.name) && !type_name {
            self.unknown(format!("what {name} is is not known"));
        }
    }

    /// A name after a dot: a column, or a function that is called with the row. Of the system's own functions, none that can be
    /// called so does more than look at its argument.
    fn field(&mut self, catalog: &Catalog, name: &str) {
        let system = catalog.schema("pg_catalog").map(|schema| schema.oid);
        // Pseudo-types are of all categories what a row may be taken for.
        let row = |oid: &Oid| catalog.type_by_oid(*oid).is_none_or(|t| matches!(t.category, b'C' | b'P'));
        let others =
            |f: &Function| Some(f.schema) != system && f.accepts(1) && f.arguments.first().is_none_or(row);
        if catalog.functions_named(name).iter().any(others) {
            self.unknown(format!("{name} after a dot may be a function"));
        }
    }

    pub(super) fn function(&mut self, catalog: &'a Catalog, name: &Name, function: &'a Function) {
        let built_in = catalog.schema("pg_catalog").is_some_and(|s| s.oid == function.schema);
        let in_c = matches!(&*function.language, "c" | "internal");
        self.calls |= !built_in;
        if self.declared(catalog, name, function) {
            return;
        }
        match functions::known(&function.name) {
            Some(Known::Primary) if built_in => {
                return self.against(format!("{name} belongs to the primary"));
            }
            Some(Known::Read) if built_in || in_c => {
                self.fleeting(|| format!("{name} differs from call to call"));
                return self.noted(format!("{name} differs from call to call anyway"));
            }
            _ => {}
        }
        if function.kind == FunctionKind::Procedure {
            return self.unknown(format!("{name} is a procedure"));
        }
        if function.volatility == Volatility::Volatile {
            let text = format!("{name} is volatile");
            let writes = !built_in || functions::writes_anything(&function.name);
            return if writes { self.unknown(text) } else { self.against(text) };
        }
        if !self.seen.insert(function.oid) {
            return;
        }
        let code = function.body.as_deref().filter(|_| !built_in && &*function.language != "sql");
        self.varies |= code.is_some_and(functions::mentions_what_varies);
        self.calls_kept(name, function, built_in);
        let is_plain =
            matches!(&*function.language, "sql") || built_in && !functions::reads_anything(&function.name);
        if function.volatility == Volatility::Stable && !is_plain {
            self.reads.add_anything();
            self.tells_time = true;
        }
        for part in &function.support {
            if catalog.function_by_oid(*part).is_none_or(|f| f.volatility == Volatility::Volatile) {
                self.unknown(format!("{name} is made of a volatile function"));
            }
            self.implied(catalog, *part);
        }
        if !built_in {
            self.types(catalog, function);
            if !in_c && function.kind != FunctionKind::Aggregate {
                self.body(catalog, name, function);
            }
            self.defaults(name, function);
        }
    }

    /// What a call that leaves arguments out may evaluate for them.
    pub(super) fn defaults(&mut self, name: &Name, function: &'a Function) {
        if let Some(defaults) = function.default_texts.as_deref() {
            self.inside(&format!("SELECT {defaults}"), &format!("defaults of {name}"));
        }
    }

    fn relation(&mut self, catalog: &'a Catalog, relation: &sql::Relation) {
        let name = &relation.name;
        let Some(path) = self.path.clone() else {
            return self.unknown("the schema search path is not known");
        };
        let known = match catalog.relation(&path, name.schema.as_deref(), &name.name, false) {
            Resolved::Known(known) => known,
            Resolved::Temporary => return self.against(format!("{name} is temporary")),
            Resolved::Unknown => return self.unknown(format!("what {name} is is not known")),
        };
        // `t.f` may call a function of that name.
        for (column, _) in &relation.columns {
            let is_column = known.column(column).is_some() || SYSTEM_COLUMNS.contains(&&**column);
            let whole_row = **column == *known.name;
            if !is_column && !whole_row && !catalog.functions_named(column).is_empty() {
                self.unknown(format!("{name} has no column {column}: it may be a function"));
            }
        }
        self.reads(catalog, name, known);
    }

    pub(super) fn reads(&mut self, catalog: &'a Catalog, name: &Name, relation: &'a Relation) {
        let system = catalog.schema("pg_catalog").is_some_and(|s| s.oid == relation.schema);
        if system && functions::is_of_server(&relation.name) {
            return self.against(format!("{name} speaks of the server that is asked"));
        }
        if system {
            self.fleeting(|| format!("{name} is the system's own"));
        }
        if relation.incomplete && !system {
            return self.unknown(format!("not all of {name} could be read"));
        }
        if relation.persistence != Persistence::Permanent {
            return self.against(format!("{name} is temporary or unlogged"));
        }
        if relation.columns.iter().any(|column| column.type_oid == TIMETZ) {
            // Whatever it is compared with is read as one.
            self.fleeting(|| format!("{name} has a time of day with a zone, which depends on the day"));
        }
        self.reads.add(relation.oid);
        if !system {
            self.columns(catalog, relation);
        }
        self.beyond |= self.depth > 0;
        match relation.kind {
            RelationKind::Table | RelationKind::PartitionedTable | RelationKind::MaterializedView => {}
            RelationKind::View if system => {}
            RelationKind::View => return self.view(name, relation),
            RelationKind::ForeignTable => return self.foreign(format!("{name} is on a foreign server")),
            RelationKind::Sequence => return self.against(format!("{name} is a sequence")),
            _ => return self.unknown(format!("{name} is no table")),
        }
        let children = relation.children.iter().filter_map(|oid| catalog.relation_by_oid(*oid));
        let foreign: Vec<_> =
            children.filter(|c| c.kind == RelationKind::ForeignTable).map(|c| c.name.clone()).collect();
        for child in foreign {
            self.foreign(format!("{child}, a part of {name}, is on a foreign server"));
        }
        if relation.row_security && self.seen.insert(relation.oid) {
            for policy in
                relation.policies.iter().filter(|p| matches!(p.command, Command::All | Command::Select))
            {
                if let Some(using) = &policy.using {
                    self.inside(&format!("SELECT {using}"), &format!("policy {} of {name}", policy.name));
                }
            }
        }
    }

    pub(super) fn view(&mut self, name: &Name, relation: &'a Relation) {
        if !self.seen.insert(relation.oid) {
            return;
        }
        match relation.view.as_ref().and_then(|view| view.definition.as_deref()) {
            Some(definition) => self.inside(definition, &format!("view {name}")),
            None => self.unknown(format!("what view {name} says is not known")),
        }
    }

    /// Looks into a text that stands behind a name.
    pub(super) fn inside(&mut self, text: &str, what: &str) {
        if self.depth >= DEEPEST {
            return self.unknown(format!("{what} is nested too deep"));
        }
        self.depth += 1;
        let before = self.reasons.len();
        let mut shape = Shape::default();
        shape.read(text.as_bytes(), true);
        self.says_kept(text.as_bytes(), &shape.normal, what);
        if let Some(catalog) = self.known.catalog {
            self.mentions(catalog, &shape.normal);
        }
        for facts in facts(text.as_bytes(), &shape) {
            if facts.effect == Effect::Read {
                self.query(&facts);
            } else {
                self.unknown(format!("{} is no plain query", facts.verb));
            }
        }
        for reason in &mut self.reasons[before..] {
            reason.text = format!("{what}: {}", reason.text).into();
        }
        self.depth -= 1;
    }
}
