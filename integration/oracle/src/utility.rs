//! What PostgreSQL's utility statements do, by the type of their node: which of them write, and what is about relations.

use pg_query::protobuf::{ObjectType, TransactionStmtKind};
use serde_json::{Map, Value};

/// Statements that a standby could run as well, and that leave nothing behind but in their session.
const HARMLESS: &[&str] = &[
    "CheckPointStmt",
    "ClosePortalStmt",
    "DeallocateStmt",
    "DeclareCursorStmt",
    "DiscardStmt",
    "ExecuteStmt",
    "FetchStmt",
    "LoadStmt",
    "PrepareStmt",
    "ReturnStmt",
    "UnlistenStmt",
    "VariableSetStmt",
    "VariableShowStmt",
];

/// Whether a utility statement writes by itself; queries within it are looked at apart. What is not known does. `DO` and
/// `CALL` may, and count as if they did; `EXECUTE` does what was prepared, and does not.
pub fn writes(kind: &str, body: &Map<String, Value>) -> bool {
    if kind == "TransactionStmt" {
        let two_phase = [
            TransactionStmtKind::TransStmtPrepare,
            TransactionStmtKind::TransStmtCommitPrepared,
            TransactionStmtKind::TransStmtRollbackPrepared,
        ];
        let kind = body.get("kind").and_then(Value::as_i64);
        return two_phase.iter().any(|k| Some(i64::from(*k as i32)) == kind);
    }
    !HARMLESS.contains(&kind)
}

/// Whether a yes-or-no option of a statement's `options` is on. The last one counts.
pub fn option(body: &Map<String, Value>, wanted: &str) -> bool {
    let options = body.get("options").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut found = options.iter().filter_map(|o| o.get("node")?.get("DefElem"));
    let last = found.rfind(|o| o.get("defname").and_then(Value::as_str) == Some(wanted));
    let Some(last) = last else { return false };
    let value = last.pointer("/arg/node").and_then(Value::as_object).and_then(|n| n.iter().next());
    match value {
        Some((kind, v)) if kind == "Integer" => v.get("ival").and_then(Value::as_i64) != Some(0),
        Some((kind, v)) if kind == "Boolean" => v.get("boolval").and_then(Value::as_bool) == Some(true),
        Some((_, v)) => {
            let word = v.get("sval").and_then(Value::as_str).unwrap_or_default();
            !["false", "off"].iter().any(|no| word.eq_ignore_ascii_case(no))
        }
        None => true,
    }
}

/// What a DROP or COMMENT names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// A relation.
    Relation,
    /// A relation and then a column, trigger, rule or the like of it.
    PartOfRelation,
    /// Something else.
    Other,
}

/// What an `ObjectType` is about.
pub fn about(object_type: i64) -> About {
    use ObjectType as T;
    let Some(kind) = i32::try_from(object_type).ok().and_then(|k| T::try_from(k).ok()) else {
        return About::Other;
    };
    match kind {
        T::ObjectTable
        | T::ObjectView
        | T::ObjectMatview
        | T::ObjectIndex
        | T::ObjectSequence
        | T::ObjectForeignTable => About::Relation,
        T::ObjectColumn | T::ObjectTabconstraint | T::ObjectTrigger | T::ObjectRule | T::ObjectPolicy => {
            About::PartOfRelation
        }
        _ => About::Other,
    }
}
