//! Functions, and what calls them without naming them: operators and casts.

use std::sync::Arc;

use super::Oid;

/// What a function promises about its result (`pg_proc.provolatile`), best first. A promise only: nothing makes a
/// function that calls itself immutable keep it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Volatility {
    /// The same for the same arguments, for ever.
    Immutable,
    /// The same within one statement, and it writes nothing.
    Stable,
    /// May change, may write.
    #[default]
    Volatile,
}

impl Volatility {
    /// From the letter that `pg_proc` has. An unknown one reads as volatile.
    pub fn from_letter(letter: u8) -> Volatility {
        match letter {
            b'i' => Volatility::Immutable,
            b's' => Volatility::Stable,
            _ => Volatility::Volatile,
        }
    }
}

/// What a function is (`pg_proc.prokind`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FunctionKind {
    /// Ordinary function.
    #[default]
    Function,
    /// Procedure, for `CALL`.
    Procedure,
    /// Aggregate function.
    Aggregate,
    /// Window function.
    Window,
}

impl FunctionKind {
    /// From the letter that `pg_proc` has.
    pub fn from_letter(letter: u8) -> FunctionKind {
        match letter {
            b'p' => FunctionKind::Procedure,
            b'a' => FunctionKind::Aggregate,
            b'w' => FunctionKind::Window,
            _ => FunctionKind::Function,
        }
    }
}

/// A function, procedure, aggregate or window function.
#[derive(Clone, Debug, Default)]
pub struct Function {
    /// `pg_proc.oid`
    pub oid: Oid,
    /// The schema it is in.
    pub schema: Oid,
    /// Its name, without the schema.
    pub name: Arc<str>,
    /// What it is.
    pub kind: FunctionKind,
    /// The role that owns it.
    pub owner: Oid,
    /// Types of its input arguments. Those of an aggregate include the ones that are aggregated over.
    pub arguments: Box<[Oid]>,
    /// Types of all its arguments, columns of the rows that it returns among them, where some are no input. Only of
    /// functions that are not the system's own.
    pub all_arguments: Box<[Oid]>,
    /// How many of the last input arguments have defaults.
    pub defaults: u16,
    /// The text of these defaults, separated by commas; `None` where there are none.
    pub default_texts: Option<Box<str>>,
    /// How many `OUT` arguments a procedure has: `CALL` names them since PostgreSQL 14.
    pub out_arguments: u16,
    /// Whether the last argument stands for any number of them.
    pub variadic: bool,
    /// What it returns.
    pub returns: Oid,
    /// Whether it returns any number of rows.
    pub returns_set: bool,
    /// What it promises. For an aggregate, the worst of what the functions promise that it is made of.
    pub volatility: Volatility,
    /// Whether a NULL argument makes its result NULL without a call.
    pub strict: bool,
    /// Whether it runs with its owner's rights.
    pub security_definer: bool,
    /// Name of its language: `internal`, `c`, `sql`, `plpgsql` ...
    pub language: Arc<str>,
    /// Settings that hold while it runs, each as `name=value`.
    pub settings: Box<[Box<str>]>,
    /// Its code where it is written in anything but C: `prosrc`, or the SQL-standard body with every name qualified
    /// that is not in pg_catalog. `None` where it has none, could not be read, or is longer than
    /// `core::limits::MAX_KEPT_CODE`.
    pub body: Option<Box<str>>,
    /// Functions that an aggregate is made of.
    pub support: Box<[Oid]>,
}

impl Function {
    /// Whether a call with this many arguments may mean this function, whatever their types. Positional, named and
    /// mixed notation count alike.
    pub fn accepts(&self, arguments: usize) -> bool {
        let declared = self.arguments.len();
        let matches = |declared: usize| {
            arguments == declared
                || (arguments > declared && self.variadic)
                || (arguments < declared && arguments + usize::from(self.defaults) >= declared)
        };
        matches(declared) || (self.out_arguments > 0 && matches(declared + usize::from(self.out_arguments)))
    }
}

/// Whether code may define objects that others see: it has a word of those that do, other than for temporary tables.
pub fn may_define(code: &str) -> bool {
    const WORDS: [&str; 8] = ["create", "alter", "drop", "grant", "revoke", "rename", "comment", "reassign"];
    let words = code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    let words: Vec<&str> = words.collect();
    words.iter().enumerate().any(|(i, word)| {
        let is = |n: usize, other: &str| words.get(n).is_some_and(|w| w.eq_ignore_ascii_case(other));
        let temporary = ["temp", "temporary", "local"].iter().any(|other| is(i + 1, other));
        // ON COMMIT DROP
        let at_end = i > 0 && is(i - 1, "commit");
        !temporary && !at_end && WORDS.iter().any(|known| word.eq_ignore_ascii_case(known))
    })
}

/// An operator whose function is not immutable, or somebody's own.
#[derive(Clone, Debug, Default)]
pub struct Operator {
    /// `pg_operator.oid`
    pub oid: Oid,
    /// The schema it is in.
    pub schema: Oid,
    /// Its name, such as `<=`.
    pub name: Box<str>,
    /// Type of the left operand; 0 for a prefix operator.
    pub left: Oid,
    /// Type of the right operand.
    pub right: Oid,
    /// The function that it calls.
    pub function: Oid,
    /// What that function promises.
    pub volatility: Volatility,
}

/// Where a cast applies without being asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CastContext {
    /// Nowhere.
    #[default]
    Explicit,
    /// When a value is assigned to a column.
    Assignment,
    /// Anywhere in an expression.
    Implicit,
}

impl CastContext {
    /// From the letter that `pg_cast` has. An unknown one reads as implicit.
    pub fn from_letter(letter: u8) -> CastContext {
        match letter {
            b'e' => CastContext::Explicit,
            b'a' => CastContext::Assignment,
            _ => CastContext::Implicit,
        }
    }
}

/// A cast whose function is not immutable, or somebody's own. Casts by way of text are not listed anywhere: see
/// [`super::Type::text_volatility`].
#[derive(Clone, Debug, Default)]
pub struct Cast {
    /// The type of what is cast.
    pub source: Oid,
    /// The type that it is cast to.
    pub target: Oid,
    /// The function that does it.
    pub function: Oid,
    /// Where it applies unasked.
    pub context: CastContext,
    /// What that function promises.
    pub volatility: Volatility,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argument_counts() {
        let check = |declared: usize, defaults, variadic, out, accepted: &[usize]| {
            let function = Function {
                arguments: vec![23; declared].into(),
                defaults,
                variadic,
                out_arguments: out,
                ..Function::default()
            };
            let all: Vec<usize> = (0..6).filter(|n| function.accepts(*n)).collect();
            assert_eq!(all, accepted, "{function:?}");
        };
        check(0, 0, false, 0, &[0]);
        check(2, 0, false, 0, &[2]);
        check(3, 2, false, 0, &[1, 2, 3]);
        check(1, 0, true, 0, &[1, 2, 3, 4, 5]);
        check(2, 1, true, 0, &[1, 2, 3, 4, 5]);
        check(1, 0, false, 2, &[1, 3]);
    }

    #[test]
    fn what_defines() {
        for code in
            ["EXECUTE format('ALTER TABLE %I ...', x)", "begin\ncreate table t (); end", "Drop View v"]
        {
            assert!(may_define(code), "{code}");
        }
        for code in [
            "CREATE TEMP TABLE t (a int) ON COMMIT DROP",
            "UPDATE t SET dropped = true, created_at = now()",
            "INSERT INTO creates VALUES (1)",
        ] {
            assert!(!may_define(code), "{code}");
        }
    }

    #[test]
    fn the_worst_promise_is_the_largest() {
        let worst = [Volatility::Stable, Volatility::Volatile, Volatility::Immutable].into_iter().max();
        assert_eq!(worst, Some(Volatility::Volatile));
    }
}
