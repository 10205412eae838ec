//! Parts of conditions: what must hold, and the constants and parameters that columns are compared with.

use sqlparser::ast::{BinaryOperator, Expr, Value};

use super::facts::Operand;
use super::normal::{INTEGER, MARK};

/// The literal or parameter that an expression is, if it is one.
pub(super) fn operand(expr: &Expr) -> Option<Operand> {
    match expr {
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => operand(inner),
        Expr::TypedString(typed) => of_value(&typed.value.value),
        Expr::Value(value) => of_value(&value.value),
        _ => None,
    }
}

fn of_value(value: &Value) -> Option<Operand> {
    match value {
        Value::Placeholder(name) => name.strip_prefix('$')?.parse().ok().map(Operand::Param),
        Value::SingleQuotedString(text) => text.strip_prefix(MARK)?.parse().ok().map(Operand::Mark),
        Value::Number(text, _) => match text.strip_suffix(".5") {
            Some(mark) => mark.parse().ok().map(Operand::Mark),
            None => text.parse::<u64>().ok()?.checked_sub(INTEGER)?.try_into().ok().map(Operand::Mark),
        },
        _ => None,
    }
}

/// The parts of a condition that must all hold.
pub(super) fn conjuncts<'e>(expr: &'e Expr, out: &mut Vec<&'e Expr>) {
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            conjuncts(left, out);
            conjuncts(right, out);
        }
        Expr::Nested(inner) => conjuncts(inner, out),
        other => out.push(other),
    }
}
