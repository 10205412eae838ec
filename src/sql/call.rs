//! What stands before parentheses: a function that is called, or a part of the language that looks like one.

use sqlparser::ast::{Function, FunctionArguments, Ident, ObjectName, ObjectNamePart};

use super::facts::{Call, Name};

/// Key words that are no function's name unless they are quoted or qualified (`col_name_keyword` and reserved ones in the
/// grammar), and call nothing that the catalog knows of.
pub(super) const CONSTRUCTS: &[&str] = &[
    "array",
    "coalesce",
    "greatest",
    "least",
    "nullif",
    "row",
    "xmlconcat",
    "xmlelement",
    "xmlforest",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
];

/// What an expression calls. `None` where it is a part of the language.
pub(super) fn called(function: &Function) -> Option<Call> {
    if is_construct(&function.name) {
        return None;
    }
    let arguments = match &function.args {
        FunctionArguments::None => Some(0),
        FunctionArguments::Subquery(_) => Some(1),
        FunctionArguments::List(list) => u16::try_from(list.args.len()).ok(),
    };
    name_of(&function.name).map(|name| Call { name, arguments })
}

fn is_construct(name: &ObjectName) -> bool {
    let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else { return false };
    let is = |word: &&str| ident.value.eq_ignore_ascii_case(word);
    ident.quote_style.is_none() && CONSTRUCTS.iter().any(is)
}

/// A name as PostgreSQL cuts it off.
pub(super) fn folded(ident: &Ident) -> String {
    // Names are folded in the normal form.
    let mut name = ident.value.clone();
    if name.len() > 63 {
        let cut = (0..=63).rev().find(|i| name.is_char_boundary(*i)).unwrap_or_default();
        name.truncate(cut);
    }
    name
}

/// The parts of a qualified name.
pub(super) fn parts(name: &ObjectName) -> Vec<String> {
    name.0.iter().filter_map(ObjectNamePart::as_ident).map(folded).collect()
}

/// The last two parts of a name: a database's name before them says nothing.
pub(super) fn name_of(name: &ObjectName) -> Option<Name> {
    let mut parts = parts(name);
    let last = parts.pop()?;
    Some(Name { schema: parts.pop().map(Into::into), name: last.into() })
}

#[cfg(test)]
mod tests {
    use crate::sql::class::facts;
    use crate::sql::shape::Shape;

    fn calls(sql: &str) -> Vec<String> {
        let mut shape = Shape::default();
        shape.read(sql.as_bytes(), true);
        let all = facts(sql.as_bytes(), &shape);
        all.iter().flat_map(|facts| &facts.calls).map(|call| call.name.to_string()).collect()
    }

    #[test]
    fn parts_of_the_language_are_no_calls() {
        for sql in [
            "SELECT coalesce(a, b), GREATEST(a, 1), least(a, 2), nullif(a, b), row(a, b), array(SELECT 1) FROM t",
            "UPDATE t SET a = greatest(a, $1) WHERE b = coalesce(c, 2)",
            "SELECT b FROM t WHERE (a, b) IN (SELECT row(c, d) FROM u)",
        ] {
            assert_eq!(calls(sql), [""; 0], "{sql}");
        }
        assert_eq!(calls("SELECT coalesce(f(a), 1) FROM t"), ["f"]);
        // With quotes or a schema it is a function of that name.
        assert_eq!(calls("SELECT \"coalesce\"(a) FROM t"), ["coalesce"]);
        assert_eq!(calls("SELECT s.greatest(a) FROM t"), ["s.greatest"]);
    }
}
