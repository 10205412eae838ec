//! What a statement calls without naming it: the functions of operators, casts and aggregates, the constraints of domains,
//! and what the code of functions calls in turn. Each is judged as if the statement called it.

use std::borrow::Cow;
use std::iter;

use memchr::memmem;

use super::class::{Case, DEEPEST};
use super::functions;
use crate::catalog::function::Function;
use crate::catalog::relation::{Relation, RelationKind};
use crate::catalog::{Catalog, Oid, SearchPath, Type, Volatility};
use crate::sql::facts::Name;
use crate::sql::lex::{Kind, Token, identifier};
use crate::sql::normal::{Tok, tokens};

/// Operators that are taken to be used everywhere.
const PLAIN: &[&str] = &["=", "<", ">", "<=", ">=", "<>", "!=", "+", "-", "*", "/", "%", "||"];
/// The system's functions that turn text into values of a type that is an argument like any other.
const INPUTS: &[&str] = &[
    "array_in",
    "array_recv",
    "domain_in",
    "domain_recv",
    "pg_input_error_info",
    "pg_input_is_valid",
    "record_in",
    "record_recv",
];
/// What asks for settings.
const SETTING: &str = "current_setting";
/// Settings that tell which server is asked.
const OF_SERVER: &[&str] = &["transaction_read_only", "in_hot_standby"];

impl<'a> Case<'a> {
    /// A function that something else calls. What the system's own do is known, and what those in C do is not looked into.
    pub(super) fn implied(&mut self, catalog: &'a Catalog, oid: Oid) {
        let system = catalog.schema("pg_catalog").map(|schema| schema.oid);
        let looked_into = |f: &&Function| Some(f.schema) != system && &*f.language != "c";
        if let Some(function) = catalog.function_by_oid(oid).filter(looked_into) {
            let name = Name { schema: None, name: function.name.as_ref().into() };
            let fleeting = self.fleeting.clone();
            self.function(catalog, &name, function);
            if function.volatility == Volatility::Immutable {
                // What it returns is taken at its word: any statement may call it, as far as is known here.
                self.fleeting = fleeting;
            }
        }
    }

    /// Operators and casts have functions, too; hardly any is volatile.
    pub(super) fn operators(&mut self, catalog: &'a Catalog, is_used: impl Fn(&str) -> bool) {
        let (Some(operators), Some(casts)) = (catalog.operators(), catalog.casts()) else {
            return self.unknown("operators and casts are not known");
        };
        for operator in operators.iter().filter(|o| PLAIN.contains(&&*o.name) || is_used(&o.name)) {
            if operator.volatility == Volatility::Volatile {
                self.unknown(format!("operator {} is volatile for some types", operator.name));
            } else {
                self.implied(catalog, operator.function);
            }
        }
        for cast in casts {
            if cast.volatility == Volatility::Volatile {
                self.unknown("a cast between some types is volatile");
            } else {
                self.implied(catalog, cast.function);
            }
        }
    }

    /// What the words of a text mean that are neither called nor read: types, and settings of the server.
    pub(super) fn mentions(&mut self, catalog: &'a Catalog, normal: &[u8]) {
        if !catalog.has_domains() && memmem::find(normal, SETTING.as_bytes()).is_none() {
            return;
        }
        let tokens = tokens(normal);
        for (i, token) in tokens.iter().enumerate() {
            if !matches!(token.kind, Kind::Word | Kind::Quoted) {
                continue;
            }
            let whole = Token { kind: token.kind, start: 0, end: token.text.len() };
            let Some(name) = identifier(token.text, &whole) else {
                self.unknown("a name in it may be a type's or a setting's");
                continue;
            };
            if name == SETTING.as_bytes() && tells_server(tokens.get(i + 1..).unwrap_or_default()) {
                self.against("it may ask for a setting of the server that is asked");
            }
            self.mention(catalog, &String::from_utf8_lossy(&name));
        }
    }

    /// A word that may be a type's name.
    fn mention(&mut self, catalog: &'a Catalog, name: &str) {
        if !catalog.has_domains() {
            return;
        }
        if INPUTS.contains(&name) {
            catalog.all_domains().for_each(|domain| self.values(catalog, domain));
        }
        catalog.types_named(name).iter().for_each(|t| self.values(catalog, t.oid));
    }

    /// Something may become a value of a type.
    fn values(&mut self, catalog: &'a Catalog, of: Oid) {
        for oid in catalog.domains_of(of) {
            let Some(domain) = catalog.type_by_oid(*oid).filter(|_| self.seen.insert(*oid)) else { continue };
            if domain.checked && domain.checks.is_empty() {
                self.unknown(format!("the constraints of domain {} are not known", domain.name));
            }
            for check in &domain.checks {
                self.inside(&format!("SELECT {check}"), &format!("domain {}", domain.name));
            }
        }
    }

    /// The same of the types of a function's arguments and of what it returns.
    pub(super) fn types(&mut self, catalog: &'a Catalog, function: &'a Function) {
        let all = function.arguments.iter().chain(&function.all_arguments).chain([&function.returns]);
        all.for_each(|oid| self.values(catalog, *oid));
    }

    /// The same of a relation's columns: constants become values of what they stand beside.
    pub(super) fn columns(&mut self, catalog: &'a Catalog, relation: &'a Relation) {
        relation.columns.iter().for_each(|column| self.values(catalog, column.type_oid));
    }

    /// What is evaluated for columns that have no default, where their domain has one.
    pub(super) fn column_defaults(&mut self, catalog: &'a Catalog, relation: &'a Relation) {
        for column in relation.columns.iter().filter(|column| !column.has_default) {
            let domain: Option<&Type> = catalog.type_by_oid(column.type_oid);
            if let Some(default) = domain.and_then(|t| t.default.as_deref()) {
                self.inside(&format!("SELECT {default}"), "a domain's default");
            }
        }
    }

    /// What a function does that is not the system's own, written in anything but C.
    pub(super) fn body(&mut self, catalog: &'a Catalog, name: &Name, function: &'a Function) {
        let Some(body) = &function.body else {
            return self.unknown(format!("what function {name} does is not known"));
        };
        let Some(path) = self.path_of(catalog, function) else {
            return self.unknown(format!("{name} runs under settings that are not followed"));
        };
        if self.depth >= DEEPEST {
            return self.unknown(format!("function {name} is nested too deep"));
        }
        let before = std::mem::replace(&mut self.path, path);
        if &*function.language == "sql" {
            self.inside(body, &format!("function {name}"));
        } else {
            self.depth += 1;
            self.code(catalog, name, body);
            self.depth -= 1;
        }
        self.path = before;
    }

    /// Where names are looked for while a function runs. `None` where that is not known.
    fn path_of(&self, catalog: &Catalog, function: &Function) -> Option<Option<Cow<'a, SearchPath>>> {
        let owner = || {
            let owner = catalog.contents().roles.iter().find(|role| role.oid == function.owner);
            owner.map(|role| &*role.name)
        };
        let mut path = self.path.clone();
        if function.security_definer
            && let Some(path) = &mut path
            && owner()? != path.role()
        {
            *path = Cow::Owned(path.for_role(owner()?));
        }
        for setting in &function.settings {
            let (name, value) = setting.split_once('=')?;
            match name.to_ascii_lowercase().as_str() {
                "search_path" => {
                    let own = SearchPath::parse(value, path.as_ref()?.role()).ok()?;
                    path = Some(Cow::Owned(own));
                }
                "role" | "session_authorization" | "standard_conforming_strings" => return None,
                _ => {}
            }
        }
        Some(path)
    }

    /// Code in a language that is not followed. Its function promises to write nothing, and no server holds it to that for
    /// what it calls: so whatever it seems to call counts, and so does whatever it puts together.
    fn code(&mut self, catalog: &'a Catalog, name: &Name, code: &str) {
        let folded = code.to_ascii_lowercase();
        let matches = |name: &str| match name {
            "~~" | "!~~" => folded.contains("like"),
            "~~*" | "!~~*" => folded.contains("ilike"),
            "~" | "!~" => folded.contains("similar"),
            _ => false,
        };
        self.operators(catalog, |name| code.contains(name) || matches(name));
        if OF_SERVER.iter().any(|setting| folded.contains(setting)) {
            self.against(format!("{name} may ask for a setting of the server that is asked"));
        }
        for (word, is_called) in words(code) {
            let folded = word.to_ascii_lowercase();
            if folded == "execute" {
                return self.unknown(format!("what {name} executes is not known"));
            }
            let folded = (folded != word).then_some(folded);
            for known in [Some(word), folded.as_deref()].into_iter().flatten() {
                self.mention(catalog, known);
                self.word(catalog, known, is_called);
            }
        }
    }

    /// A word of such code: what it may call, and what the view says that it may name.
    fn word(&mut self, catalog: &'a Catalog, word: &str, is_called: bool) {
        let system = catalog.schema("pg_catalog").map(|schema| schema.oid);
        let name = Name { schema: None, name: word.into() };
        for function in catalog.functions_named(word).iter().filter(|_| is_called) {
            match self.known.marks.of(&name) {
                Some(true) => {}
                Some(false) => self.unknown(format!("the configuration says that {name} may write")),
                None if Some(function.schema) != system => self.function(catalog, &name, function),
                None if function.volatility != Volatility::Volatile => {}
                None if functions::writes_anything(word) => self.unknown(format!("{name} is volatile")),
                None => {}
            }
        }
        for schema in catalog.schemas().iter().filter(|schema| Some(schema.oid) != system) {
            let view = catalog.relation_in(schema.oid, word).filter(|r| r.kind == RelationKind::View);
            if let Some(view) = view.filter(|_| &*schema.name != "information_schema") {
                self.view(&name, view);
            }
        }
    }
}

/// The words of code, also those in its strings, and whether each looks like a call: a parenthesis follows it, or a dot
/// stands before it, since `row.f` may call `f`.
fn words(code: &str) -> impl Iterator<Item = (&str, bool)> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut end = 0;
    iter::from_fn(move || {
        let start = end + code.get(end..)?.find(is_part)?;
        let rest = code.get(start..)?;
        let (word, after) = rest.split_at(rest.find(|c| !is_part(c)).unwrap_or(rest.len()));
        end = start + word.len();
        let before = code.get(..start).unwrap_or_default().trim_end_matches('"');
        let opens = after.trim_start_matches('"').trim_start().starts_with('(');
        Some((word, opens || before.trim_end().ends_with('.')))
    })
}

/// Whether what follows `current_setting` asks for a setting that tells the server, or for one that is not said.
fn tells_server(after: &[Tok<'_>]) -> bool {
    let [open, setting, rest @ ..] = after else { return true };
    let ends = |at: usize| rest.get(at).is_some_and(|t| t.is_punct(b',') || t.is_punct(b')'));
    let is_text =
        rest.get(..3).is_some_and(|t| t[0].is_punct(b':') && t[1].is_punct(b':') && t[2].is("text"));
    if !open.is_punct(b'(') || setting.kind != Kind::String || !(ends(0) || is_text && ends(3)) {
        return true;
    }
    let said = String::from_utf8_lossy(setting.text).to_ascii_lowercase();
    let inner = said.strip_prefix('\'').and_then(|said| said.strip_suffix('\''));
    inner.is_none_or(|name| name.contains(['\'', '\\']) || OF_SERVER.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::shape::Shape;

    #[test]
    fn words_and_calls() {
        let all: Vec<_> =
            words("begin return \"wr\" (x.y) + abs(1); end").filter(|w| w.1).map(|w| w.0).collect();
        assert_eq!(all, ["wr", "y", "abs"]);
        assert_eq!(words("").count() + words("é(").filter(|w| w.1).count(), 1);
    }

    #[test]
    fn settings_that_tell_the_server() {
        let tells = |sql: &str| {
            let mut shape = Shape::default();
            shape.read(sql.as_bytes(), true);
            let tokens = tokens(&shape.normal);
            let at = tokens.iter().position(|t| t.is(SETTING)).expect("it is there");
            tells_server(&tokens[at + 1..])
        };
        for setting in ["'app.tenant'", "'work_mem', true", "'TimeZone'::text", "'a' , false"] {
            assert!(!tells(&format!("SELECT current_setting({setting})")), "{setting}");
        }
        for setting in [
            "'transaction_read_only'",
            "'In_Hot_Standby', true",
            "$1",
            "name",
            "'in_hot'||'_standby'",
            "E'\\x69n_hot_standby'",
            "$$in_hot_standby$$",
            "'transaction_read_only'::text",
        ] {
            assert!(tells(&format!("SELECT current_setting({setting})")), "{setting}");
        }
    }
}
