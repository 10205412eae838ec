//! `search_path`: the setting's text as Postgres reads it (`SplitIdentifierString`, `recomputeNamespacePath`).

/// Longest name that Postgres does not cut off, in bytes (`NAMEDATALEN` - 1).
const NAME: usize = 63;
const CATALOG: &str = "pg_catalog";
const TEMPORARY: &str = "pg_temp";

/// A place where names are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The session's temporary schema; never for functions and operators.
    Temporary,
    /// The schema of this name, where there is one.
    Schema(Box<str>),
    /// pg_catalog where the setting does not name it: no privilege is asked for.
    Catalog,
}

/// Where unqualified names are looked for, and as which role: the schemas of the setting that the role may use, with
/// pg_temp and pg_catalog in front where the setting does not name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchPath {
    pub(super) places: Vec<Place>,
    pub(super) role: Box<str>,
}

/// The text is none that Postgres accepts for `search_path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a list of names")]
pub struct InvalidPath;

impl SearchPath {
    /// From the setting's text, such as `"$user", public`, for the current role (that of `SET ROLE`, if any), whose
    /// name `"$user"` stands for.
    pub fn parse(text: &str, role: &str) -> Result<SearchPath, InvalidPath> {
        let names = names(text)?;
        let listed = |name: &str| names.iter().any(|n| n == name);
        let mut places = Vec::with_capacity(names.len() + 2);
        if !listed(TEMPORARY) {
            places.push(Place::Temporary);
        }
        if !listed(CATALOG) {
            places.push(Place::Catalog);
        }
        for name in &names {
            let place = match name.as_str() {
                "$user" => Place::Schema(role.into()),
                name if is_temporary(name) => Place::Temporary,
                name => Place::Schema(name.into()),
            };
            if !places.contains(&place) {
                places.push(place);
            }
        }
        Ok(SearchPath { places, role: role.into() })
    }

    /// The same where another role looks, which `"$user"` stands for from then on.
    pub fn for_role(&self, role: &str) -> SearchPath {
        let place = |place: &Place| match place {
            Place::Schema(name) if *name == self.role => Place::Schema(role.into()),
            other => other.clone(),
        };
        SearchPath { places: self.places.iter().map(place).collect(), role: role.into() }
    }

    /// The role that it is for.
    pub fn role(&self) -> &str {
        &self.role
    }
}

/// Whether a schema's name means a session's temporary objects.
pub fn is_temporary(schema: &str) -> bool {
    schema.strip_prefix(TEMPORARY).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

/// White space as the scanner has it: since PostgreSQL 16 a vertical tab too, which nobody types.
fn trim(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\n', '\r', '\x0c'])
}

/// The names of a list: quoted ones as they are, others folded; all cut off.
fn names(text: &str) -> Result<Vec<String>, InvalidPath> {
    let mut rest = trim(text);
    let mut names = Vec::new();
    if rest.is_empty() {
        return Ok(names);
    }
    loop {
        let (name, after) = match rest.strip_prefix('"') {
            Some(inner) => quoted(inner)?,
            None => plain(rest)?,
        };
        names.push(cut_off(name));
        rest = trim(after);
        if rest.is_empty() {
            return Ok(names);
        }
        rest = trim(rest.strip_prefix(',').ok_or(InvalidPath)?);
    }
}

/// A name after its opening quote, and what follows the closing one.
fn quoted(mut rest: &str) -> Result<(String, &str), InvalidPath> {
    let mut name = String::new();
    loop {
        let (part, after) = rest.split_once('"').ok_or(InvalidPath)?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Ok((name, after)),
        }
    }
}

/// A name without quotes: anything up to a comma or white space.
fn plain(text: &str) -> Result<(String, &str), InvalidPath> {
    let end = text.find([',', ' ', '\t', '\n', '\r', '\x0c']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() { Err(InvalidPath) } else { Ok((name.to_ascii_lowercase(), rest)) }
}

/// Cut off as Postgres does: never within a character.
fn cut_off(mut name: String) -> String {
    let mut end = NAME.min(name.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_role_has_another_schema() {
        let own = SearchPath::parse("\"$user\", public", "one").expect("a path");
        assert_eq!(own.for_role("two"), SearchPath::parse("\"$user\", public", "two").expect("a path"));
    }
    use proptest::prelude::*;

    #[test]
    fn lists_of_names() {
        let check = |text: &str, want: &[&str]| {
            assert_eq!(
                names(text).as_deref(),
                Ok(&want.iter().map(|s| s.to_string()).collect::<Vec<_>>()[..]),
                "{text}"
            );
        };
        check("", &[]);
        check("  \n", &[]);
        check("\"$user\", public", &["$user", "public"]);
        check("A,b , \"C\"", &["a", "b", "C"]);
        check("\"a\"\"b\" ,\"c,d\"", &["a\"b", "c,d"]);
        check("\"\"", &[""]);
        check("a-b.c,ÄÖ", &["a-b.c", "ÄÖ"]);
        check(&"x".repeat(70), &[&"x".repeat(63)]);
        check(&format!("{}ü", "x".repeat(62)), &[&"x".repeat(62)]);
        for bad in ["a b", ",", "a,", ",a", "a,,b", "\"a", "\"a\"b"] {
            assert_eq!(names(bad), Err(InvalidPath), "{bad}");
        }
    }

    #[test]
    fn what_is_not_listed_comes_first() {
        let check = |text: &str, want: &str| {
            let path = SearchPath::parse(text, "me").expect("a path");
            let places: Vec<&str> = path
                .places
                .iter()
                .map(|place| match place {
                    Place::Temporary => "<temp>",
                    Place::Catalog => "<catalog>",
                    Place::Schema(name) => name,
                })
                .collect();
            assert_eq!(places.join(" "), want, "{text}");
        };
        check("", "<temp> <catalog>");
        check("\"$user\", public", "<temp> <catalog> me public");
        check("$USER", "<temp> <catalog> me");
        check("\"$USER\"", "<temp> <catalog> $USER");
        check("public, pg_catalog", "<temp> public pg_catalog");
        check("public, PG_TEMP", "<catalog> public <temp>");
        check("pg_catalog, pg_temp", "pg_catalog <temp>");
        check("pg_temp_3, public", "<temp> <catalog> public");
        check("me, public, \"$user\", me", "<temp> <catalog> me public");
        check("pg_temporary", "<temp> <catalog> pg_temporary");
    }

    proptest! {
        #[test]
        fn never_panics(text in "[\"a$, \nÄ\t]{0,90}") {
            let _ = SearchPath::parse(&text, "me");
        }

        #[test]
        fn quoted_names_come_back(given in prop::collection::vec("[a-zA-Z\", $ü]{0,15}", 0..5)) {
            let text: Vec<String> = given.iter().map(|n| format!("\"{}\"", n.replace('"', "\"\""))).collect();
            prop_assert_eq!(names(&text.join(", ")), Ok(given));
        }
    }
}
