//! Whether the results of a shape may be kept: only where it is proven that they depend on nothing but the tables that
//! the plan knows of, the session's settings, and the statement itself. What is not understood here is not kept.

use std::borrow::Cow;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use super::class::Case;
use super::functions;
use super::row;
use super::rules::Rules;
use super::touch::{Reach, Touches};
use super::{Class, Reason};
use crate::cache::key::may_tell_time;
use crate::cache::policy::RuleSet;
use crate::cache::rows::RowKey;
use crate::catalog::function::{Function, FunctionKind};
use crate::catalog::{Catalog, Volatility};
use crate::config::CacheAsk;
use crate::core::stats::Counter;
use crate::fence::versions::Row;
use crate::sql::facts::{Facts, Name};
use crate::sql::normal::{Tok, tokens};

/// Whether a shape asks for settings by their names: the application's, or those that only say where a statement goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum AsksSettings {
    /// It does not.
    #[default]
    No,
    /// It calls what is taken at the configuration's word, which speaks of tables and not of settings.
    Perhaps,
    /// It does, so that it may ask for what depends on its transaction, too.
    Yes,
}

/// What was decided about keeping a shape's results.
#[derive(Debug, Default)]
pub struct CacheRule {
    /// Why they must not be kept. `None` where they may.
    pub refused: Option<Cow<'static, str>>,
    /// The `[[cache]]` rules that the shape matches.
    pub rules: RuleSet,
    /// What a comment asks for (`/* turnpike: cache=30s */`).
    pub asks: Option<CacheAsk>,
    /// Whether they depend on settings that other results do not depend on.
    pub asks_settings: AsksSettings,
    /// They are read from a foreign server: nobody tells of writes there, so that only their age can be bounded.
    pub foreign: bool,
    /// What a shape needs besides that some rule matches. There may be very many that none does.
    matched: Option<Box<Matched>>,
}

/// What there is to know of a shape whose results somebody wants to be kept.
#[derive(Debug, Default)]
struct Matched {
    /// The one row that they are read from, where that is all.
    row: Option<RowKey>,
    /// What has become of them.
    account: Account,
}

/// What has become of a shape's results.
#[derive(Debug, Default)]
pub struct Account {
    /// Results given.
    pub hits: Counter,
    /// Results that were looked for and not there.
    pub misses: Counter,
    /// Results kept.
    pub stored: Counter,
    /// How long servers took for those, in microseconds.
    pub stored_us: Counter,
    /// It is kept under a rule that leaves that to be found out: its shape has been chosen, or is on trial
    /// ([`crate::cache::benefit`]).
    pub chosen: AtomicBool,
}

impl CacheRule {
    /// The one row that a result with this key is read from, where that is all.
    pub fn row_of(&self, key: &[u8]) -> Option<(&RowKey, Row)> {
        let of = self.matched.as_ref()?.row.as_ref()?;
        Some((of, of.row(key)?))
    }

    /// What has become of the shape's results, where some rule matches it.
    pub fn account(&self) -> Option<&Account> {
        self.matched.as_ref().map(|matched| &matched.account)
    }

    /// Counts something of that.
    pub fn count(&self, what: impl FnOnce(&Account)) {
        if let Some(account) = self.account() {
            what(account);
        }
    }

    /// Whether its shape has been chosen, or is on trial.
    pub fn is_chosen(&self) -> bool {
        self.account().is_some_and(|account| account.chosen.load(Relaxed))
    }
}

/// What is known of a plan when that is decided.
pub(super) struct About<'a> {
    pub(super) text: &'a [u8],
    pub(super) normal: &'a [u8],
    pub(super) fingerprint: u128,
    pub(super) class: Class,
    pub(super) reasons: &'a [Reason],
    pub(super) touches: &'a Touches,
    pub(super) fleeting: Option<String>,
    pub(super) asks_settings: AsksSettings,
    pub(super) beyond: bool,
    pub(super) foreign: bool,
    pub(super) asks: Option<CacheAsk>,
    /// What it means, where it is one query.
    pub(super) query: Option<&'a Facts>,
}

/// Decides.
pub(super) fn decide(about: About<'_>, rules: &Rules, catalog: Option<&Catalog>) -> CacheRule {
    let tables = about.touches.reads.tables();
    let matched = match catalog {
        Some(catalog) if about.query.is_some() && !rules.cache.is_empty() => {
            let names = tables.iter().filter_map(|oid| {
                let relation = catalog.relation_by_oid(*oid)?;
                let schema = catalog.schema_by_oid(relation.schema).map(|schema| &*schema.name);
                Some((schema, &*relation.name))
            });
            rules.cache.of_statement(about.fingerprint, names)
        }
        // Without a catalog nothing is kept.
        _ => 0,
    };
    let (asks, asks_settings, foreign) = (about.asks, about.asks_settings, about.foreign);
    let row = match (about.query, catalog) {
        (Some(facts), Some(catalog)) if matched != 0 && !about.beyond => {
            row::of(facts, about.normal, tables, catalog)
        }
        _ => None,
    };
    let refused = refusal(about);
    let wanted = (matched != 0).then(|| Box::new(Matched { row, account: Account::default() }));
    CacheRule { refused, rules: matched, asks, asks_settings, foreign, matched: wanted }
}

fn refusal(about: About<'_>) -> Option<Cow<'static, str>> {
    if about.class != Class::Read && !about.foreign {
        let against = about.reasons.iter().find(|reason| reason.against);
        return Some(against.map_or("it is the primary's".into(), |reason| reason.text.clone()));
    }
    if about.query.is_none() || !about.touches.writes.is_nothing() {
        return Some("it is no plain query".into());
    }
    if let Some(fleeting) = about.fleeting.or_else(|| said(about.normal)) {
        return Some(fleeting.into());
    }
    match &about.touches.reads {
        Reach::Anything => Some("which tables it reads is not known".into()),
        Reach::Tables(tables) if tables.is_empty() => Some("it reads no table".into()),
        Reach::Tables(_) if about.text.contains(&0) => Some("it is not understood".into()),
        Reach::Tables(_) => None,
    }
}

/// Columns of every table that change without its being written.
const UNSTEADY_COLUMNS: &[&str] = &["cmax", "cmin", "ctid", "xmax", "xmin"];
/// Types that text can be turned into whatever it says: nothing of these is a clock.
const STEADY_TYPES: &[&str] = &[
    "bigint",
    "bool",
    "boolean",
    "bpchar",
    "bytea",
    "char",
    "character",
    "cidr",
    "decimal",
    "double",
    "float",
    "float4",
    "float8",
    "inet",
    "int",
    "int2",
    "int4",
    "int8",
    "integer",
    "interval",
    "json",
    "jsonb",
    "macaddr",
    "money",
    "name",
    "numeric",
    "real",
    "smallint",
    "text",
    "uuid",
    "varchar",
];

/// Whether text that is turned into this type says the same whenever that is done.
pub(super) fn is_steady_type(name: &str) -> bool {
    STEADY_TYPES.contains(&name)
}

/// What the words of a normal form tell that speaks against keeping its results.
fn said(normal: &[u8]) -> Option<String> {
    let tokens = tokens(normal);
    for (i, token) in tokens.iter().enumerate() {
        if token.is("tablesample") {
            return Some("it takes a sample".into());
        }
        if token.is_any(UNSTEADY_COLUMNS) {
            return Some(format!("{} changes by itself", String::from_utf8_lossy(token.text)));
        }
        // Summer time is over by the day on which it is read, also in a constant.
        let zoned = || token.is("with") && tokens.get(i + 1).is_some_and(|t| t.is("time"));
        if token.is("timetz") || zoned() && begins_with_time(&tokens[..i]) {
            return Some("a time of day with a zone, which depends on the day, is in it".into());
        }
        let cast = if token.is("cast") && tokens.get(i + 1).is_some_and(|t| t.is_punct(b'(')) {
            cast_by_name(&tokens, i + 1)
        } else if is_cast(&tokens, i) {
            Some((i.checked_sub(1), i + 2))
        } else {
            None
        };
        if let Some((operand, at)) = cast {
            let constant = operand.and_then(|n| tokens.get(n)).is_some_and(is_constant);
            if !constant && !tokens.get(at).is_some_and(|t| t.is_any(STEADY_TYPES)) {
                return Some("a cast of it may tell the time".into());
            }
        }
    }
    None
}

/// Whether `time`, perhaps with a precision, is what comes last.
fn begins_with_time(before: &[Tok<'_>]) -> bool {
    let name = match before {
        [rest @ .., open, _, close] if open.is_punct(b'(') && close.is_punct(b')') => rest.last(),
        rest => rest.last(),
    };
    name.is_some_and(|t| t.is("time"))
}

fn is_cast(tokens: &[Tok<'_>], at: usize) -> bool {
    tokens.get(at..at + 2).is_some_and(|two| two.iter().all(|t| t.is_punct(b':')))
}

/// What has no value but the one that is in the key.
fn is_constant(token: &Tok<'_>) -> bool {
    use crate::sql::lex::Kind;
    token.mark.is_some() || matches!(token.kind, Kind::String | Kind::Number | Kind::Param)
}

/// Where the operand of `CAST (operand AS type)` is, if it is a single token, and where the type begins.
fn cast_by_name(tokens: &[Tok<'_>], open: usize) -> Option<(Option<usize>, usize)> {
    let (mut depth, mut found) = (0usize, None);
    for (i, token) in tokens.iter().enumerate().skip(open) {
        if token.is_punct(b'(') {
            depth += 1;
        } else if token.is_punct(b')') {
            depth -= 1;
            if depth == 0 {
                break;
            }
        } else if depth == 1 && token.is("as") {
            found = Some(i);
        }
    }
    // Where there is none, whatever follows is no type that is known.
    let at = found.unwrap_or(open);
    Some(((at == open + 2).then_some(open + 1), at + 1))
}

impl<'a> Case<'a> {
    /// Notes why results must not be kept.
    pub(super) fn fleeting(&mut self, why: impl FnOnce() -> String) {
        if !self.silent && self.fleeting.is_none() {
            self.fleeting = Some(why());
        }
    }

    /// The same of a function that is called and is not volatile.
    pub(super) fn calls_kept(&mut self, name: &Name, function: &Function, built_in: bool) {
        if &*function.name == "current_setting" {
            self.asks_settings = AsksSettings::Yes;
        }
        let stable = function.volatility != Volatility::Immutable;
        if built_in {
            if stable && !functions::is_steady(&function.name) {
                self.fleeting(|| format!("what {name} depends on is not known"));
            }
            return;
        }
        let looked_into = &*function.language == "sql" && function.kind == FunctionKind::Function;
        if stable && !looked_into {
            self.fleeting(|| format!("what {name} reads is not known"));
        }
        if function.security_definer || !function.settings.is_empty() {
            self.fleeting(|| format!("{name} runs as somebody else, or under other settings"));
        }
    }

    /// The same of operators and casts, which call functions, too.
    pub(super) fn operators_kept(&mut self, catalog: &'a Catalog, facts: &Facts) {
        let system = catalog.schema("pg_catalog").map(|schema| schema.oid);
        let plain = |name: &str| name.len() <= 2 && name.bytes().all(|b| b"=<>!+-*/%|".contains(&b));
        for operator in catalog.operators().unwrap_or_default() {
            let used = plain(&operator.name) || facts.operators.iter().any(|o| **o == *operator.name);
            let steady = operator.volatility == Volatility::Immutable && operator.name.as_ref() != "=";
            if used && !steady && Some(operator.schema) != system {
                self.fleeting(|| format!("what operator {} depends on is not known", operator.name));
            }
        }
        for cast in
            catalog.casts().unwrap_or_default().iter().filter(|c| c.volatility != Volatility::Immutable)
        {
            let function = catalog.function_by_oid(cast.function);
            if function.is_none_or(|function| Some(function.schema) != system) {
                self.fleeting(|| "what a cast between some types depends on is not known".into());
            }
        }
    }

    /// The same of the text of a view, a function or a policy.
    pub(super) fn says_kept(&mut self, text: &[u8], normal: &[u8], what: &str) {
        if may_tell_time(text) {
            self.fleeting(|| format!("{what} may tell the time"));
        } else if let Some(said) = said(normal) {
            self.fleeting(|| format!("{what}: {said}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::shape::Shape;

    #[test]
    fn what_words_tell() {
        let is_kept = |sql: &str| {
            let mut shape = Shape::default();
            shape.read(sql.as_bytes(), true);
            said(&shape.normal).is_none()
        };
        for sql in [
            "SELECT a::text, b::numeric(10, 2) FROM t WHERE c > '2024-01-01'::date AND d = $1::timestamptz",
            "SELECT CAST(a AS integer), CAST('2024-01-01' AS date), CAST($1 AS timestamptz) FROM t",
            "SELECT date '2024-01-01' FROM t",
            "SELECT time '10:00', '10:00'::time without time zone, timestamp with time zone '2024-01-01' FROM t",
        ] {
            assert!(is_kept(sql), "{sql}");
        }
        for sql in [
            "SELECT a::date FROM t",
            "SELECT (a || b)::timestamptz FROM t",
            "SELECT CAST(a AS date) FROM t",
            "SELECT CAST(coalesce(a, CAST(b AS text)) AS timestamp with time zone) FROM t",
            "SELECT a::mine FROM t",
            "SELECT '10:00 Europe/Berlin'::timetz FROM t",
            "SELECT time with time zone '10:00' FROM t",
            "SELECT $1::time (3) with time zone FROM t",
            "SELECT ctid FROM t",
            "SELECT t.xmin FROM t",
            "SELECT * FROM t TABLESAMPLE SYSTEM (1)",
        ] {
            assert!(!is_kept(sql), "{sql}");
        }
    }
}
