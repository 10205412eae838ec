//! What PostgreSQL's own parser says about a text: the truth that Turnpike's reading is held against.
//!
//! The tree is walked as a generic value. Nodes are tagged with their type there, `{"node": {"FuncCall": {...}}}`, but
//! fields that can only be of one type are not; those few that matter are known by the names of their fields.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::utility;

type Object = Map<String, Value>;

/// Everything there is to know about a text that may hold several statements.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// The statements, in order.
    pub statements: Vec<Statement>,
}

/// What a statement does, as far as its text tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    /// The type of its top node: `SelectStmt`, `CreateStmt`, ...
    pub kind: String,
    /// Whether it changes data, definitions or the server, or may (`DO`, `CALL`), or prepares or declares what does.
    /// What `EXPLAIN` without `ANALYZE` explains does not happen. Broadly: whether a standby must not get it.
    /// What functions do is not known here.
    pub writes: bool,
    /// Whether it locks rows (`FOR UPDATE` and its like, at any depth) or tables (`LOCK`).
    pub locks: bool,
    /// Functions called, not those that the grammar itself calls for `EXTRACT`, `LIKE ... ESCAPE` and the like.
    pub functions: BTreeSet<String>,
    /// Relations read. Names of common table expressions are not relations.
    pub relations_read: BTreeSet<String>,
    /// Relations written to, or named by a statement about definitions.
    pub relations_written: BTreeSet<String>,
}

impl Truth {
    /// The truth about `sql`, or what the parser complains about.
    pub fn of(sql: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(sql).map_err(|e| e.to_string())?;
        let tree = pg_query::parse(text, 0).map_err(|e| e.to_string())?.protobuf;
        let mut statements = Vec::new();
        for raw in &tree.stmts {
            let value = serde_json::to_value(&raw.stmt).map_err(|e| e.to_string())?;
            let mut walk = Walk { text: sql, found: Statement::default(), names: Vec::new() };
            if let Some((kind, body)) = tagged(&value) {
                walk.found.kind = kind.to_owned();
                walk.node(kind, body, false);
            }
            statements.push(walk.found);
        }
        Ok(Truth { statements })
    }

    /// Whether any statement writes.
    pub fn writes(&self) -> bool {
        self.statements.iter().any(|s| s.writes)
    }

    /// Whether any statement locks.
    pub fn locks(&self) -> bool {
        self.statements.iter().any(|s| s.locks)
    }

    /// The functions that all statements call.
    pub fn functions(&self) -> BTreeSet<&str> {
        self.statements.iter().flat_map(|s| &s.functions).map(String::as_str).collect()
    }

    /// The relations that all statements read.
    pub fn relations_read(&self) -> BTreeSet<&str> {
        self.statements.iter().flat_map(|s| &s.relations_read).map(String::as_str).collect()
    }

    /// The relations that all statements write.
    pub fn relations_written(&self) -> BTreeSet<&str> {
        self.statements.iter().flat_map(|s| &s.relations_written).map(String::as_str).collect()
    }
}

/// A name as both sides write it: its parts joined by dots, each in quotes unless it is lower case, digits, `_`, `$` or
/// beyond ASCII, and does not begin with a digit or `$`. Key words are not quoted.
pub fn name<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c == '_' || !c.is_ascii();
    let quoted = |part: &str| {
        let simple =
            part.starts_with(plain) && part.chars().all(|c| plain(c) || c.is_ascii_digit() || c == '$');
        if simple { part.to_owned() } else { format!("\"{}\"", part.replace('"', "\"\"")) }
    };
    parts.into_iter().map(quoted).collect::<Vec<_>>().join(".")
}

/// A node's type and fields.
fn tagged(value: &Value) -> Option<(&str, &Object)> {
    let inner = value.as_object()?.get("node")?.as_object()?;
    let (kind, body) = inner.iter().next()?;
    Some((kind, body.as_object()?))
}

/// The parts of a name that is a list of String nodes.
fn parts(value: &Value) -> Vec<&str> {
    let Some(list) = value.as_array() else { return Vec::new() };
    list.iter().filter_map(|v| tagged(v).and_then(|(_, body)| body.get("sval")?.as_str())).collect()
}

fn field<'a>(body: &'a Object, key: &str) -> &'a Value {
    body.get(key).unwrap_or(&Value::Null)
}

fn items<'a>(body: &'a Object, key: &str) -> &'a [Value] {
    field(body, key).as_array().map_or(&[], Vec::as_slice)
}

struct Walk<'a> {
    text: &'a [u8],
    found: Statement,
    /// Names of the common table expressions in scope.
    names: Vec<String>,
}

impl Walk<'_> {
    /// Anything; a relation met on the way is written to if `written`, else read.
    fn any(&mut self, value: &Value, written: bool) {
        match value {
            Value::Array(list) => list.iter().for_each(|v| self.any(v, written)),
            Value::Object(body) => {
                if let Some((kind, body)) = tagged(value) {
                    self.node(kind, body, written);
                } else if body.contains_key("relpersistence") && body.contains_key("relname") {
                    self.relation(body, written);
                } else if body.contains_key("locking_clause") {
                    self.query(body);
                } else if body.contains_key("funcname") && body.contains_key("agg_within_group") {
                    self.node("FuncCall", body, written);
                } else {
                    self.fields(body, &[], written);
                }
            }
            _ => {}
        }
    }

    /// All fields but some.
    fn fields(&mut self, body: &Object, but: &[&str], written: bool) {
        body.iter().filter(|(k, _)| !but.contains(&k.as_str())).for_each(|(_, v)| self.any(v, written));
    }

    fn node(&mut self, kind: &str, body: &Object, written: bool) {
        match kind {
            "SelectStmt" => self.query(body),
            "InsertStmt" | "UpdateStmt" | "DeleteStmt" | "MergeStmt" => self.change(body),
            "RangeVar" => self.relation(body, written),
            "FuncCall" => {
                self.function(body);
                self.fields(body, &["funcname"], written);
            }
            "ExplainStmt" => self.explain(body),
            "CopyStmt" => {
                let from = field(body, "is_from").as_bool() == Some(true);
                let to_file = field(body, "filename").as_str().is_some_and(|f| !f.is_empty());
                self.found.writes |= from || to_file;
                self.fields(body, &[], from);
            }
            // These name relations of which nothing changes.
            "Constraint" => {
                self.any(field(body, "pktable"), false);
                self.fields(body, &["pktable"], written);
            }
            "TableLikeClause" => self.fields(body, &[], false),
            "CreateStmt" => {
                self.found.writes = true;
                self.any(field(body, "inh_relations"), false);
                self.fields(body, &["inh_relations"], true);
            }
            // Names of the same form that are a constraint's and a type's.
            "ConstraintsSetStmt" => {}
            "CompositeTypeStmt" => {
                self.found.writes = true;
                self.fields(body, &["typevar"], true);
            }
            "LockStmt" => {
                self.found.locks = true;
                self.fields(body, &[], false);
            }
            "DropStmt" | "CommentStmt" => {
                self.found.writes = true;
                self.objects(kind, body);
                self.fields(body, &[], true);
            }
            // All others; what is within is a query, or what they define.
            _ if kind.ends_with("Stmt") => {
                let writes = utility::writes(kind, body);
                self.found.writes |= writes;
                self.fields(body, &[], writes);
            }
            _ => self.fields(body, &[], written),
        }
    }

    /// A SELECT, VALUES or TABLE, or one side of a UNION.
    fn query(&mut self, body: &Object) {
        let outer = self.names.len();
        self.with(body);
        if let Some(into) = field(body, "into_clause").as_object() {
            self.found.writes = true;
            self.any(field(into, "rel"), true);
        }
        // Its nodes name what is locked by aliases.
        self.found.locks |= !items(body, "locking_clause").is_empty();
        self.fields(body, &["with_clause", "into_clause", "locking_clause"], false);
        self.names.truncate(outer);
    }

    /// An INSERT, UPDATE, DELETE or MERGE.
    fn change(&mut self, body: &Object) {
        self.found.writes = true;
        let outer = self.names.len();
        self.with(body);
        // The target is a table even where a common table expression has its name.
        if let Some(target) = field(body, "relation").as_object() {
            let target = relation_name(target);
            self.found.relations_written.insert(target);
        }
        self.fields(body, &["with_clause", "relation"], false);
        self.names.truncate(outer);
    }

    /// The common table expressions of a statement: each sees those before it, and all of them if RECURSIVE.
    fn with(&mut self, body: &Object) {
        let Some(with) = field(body, "with_clause").as_object() else { return };
        let recursive = field(with, "recursive").as_bool() == Some(true);
        let tables: Vec<_> = items(with, "ctes").iter().filter_map(tagged).map(|(_, body)| body).collect();
        let named = |body: &Object| field(body, "ctename").as_str().unwrap_or_default().to_owned();
        if recursive {
            self.names.extend(tables.iter().map(|b| named(b)));
        }
        for table in &tables {
            self.fields(table, &[], false);
            if !recursive {
                self.names.push(named(table));
            }
        }
    }

    /// EXPLAIN: what it explains happens only with ANALYZE.
    fn explain(&mut self, body: &Object) {
        let before = (self.found.writes, self.found.locks);
        self.fields(body, &[], false);
        if !utility::option(body, "analyze") {
            (self.found.writes, self.found.locks) = before;
        }
    }

    fn relation(&mut self, body: &Object, written: bool) {
        let local = field(body, "schemaname").as_str().is_none_or(str::is_empty)
            && field(body, "relname").as_str().is_some_and(|n| self.names.iter().any(|c| c == n));
        if written {
            self.found.relations_written.insert(relation_name(body));
        } else if !local {
            self.found.relations_read.insert(relation_name(body));
        }
    }

    fn function(&mut self, body: &Object) {
        let parts = parts(field(body, "funcname"));
        // The grammar's own calls are qualified where the text is not.
        let at = field(body, "location").as_u64().and_then(|at| usize::try_from(at).ok());
        let here = at.and_then(|at| self.text.get(at..)).unwrap_or_default();
        let here = here.strip_prefix(b"\"").unwrap_or(here);
        let said = here.get(.."pg_catalog".len()).is_some_and(|w| w.eq_ignore_ascii_case(b"pg_catalog"));
        if parts.len() == 1 || parts.first() != Some(&"pg_catalog") || said {
            self.found.functions.insert(name(parts));
        }
    }

    /// What DROP and COMMENT are about, where that is a relation: it is a list of name parts there.
    fn objects(&mut self, kind: &str, body: &Object) {
        let key = if kind == "DropStmt" { "remove_type" } else { "objtype" };
        let part_of = match field(body, key).as_i64().map(utility::about) {
            Some(utility::About::Relation) => 0,
            Some(utility::About::PartOfRelation) => 1,
            _ => return,
        };
        let list: Vec<&Value> = match kind {
            "DropStmt" => items(body, "objects").iter().collect(),
            _ => vec![field(body, "object")],
        };
        for (_, object) in list.into_iter().filter_map(tagged) {
            let mut parts = parts(field(object, "items"));
            parts.truncate(parts.len().saturating_sub(part_of));
            if !parts.is_empty() {
                self.found.relations_written.insert(name(parts));
            }
        }
    }
}

/// A RangeVar's name, as qualified as in the text.
fn relation_name(body: &Object) -> String {
    let parts = ["catalogname", "schemaname", "relname"];
    name(parts.into_iter().filter_map(|k| field(body, k).as_str()).filter(|p| !p.is_empty()))
}

#[cfg(test)]
mod tests;
