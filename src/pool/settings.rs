//! A session's settings that differ from what its pool's servers start with, and the statement that carries one
//! set of them over into another.

use std::sync::Arc;

/// Settings by lower-case name, sorted. Immutable and shared: two sessions with the same settings usually hold the
/// same allocation, so that comparing is comparing pointers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Settings(Vec<(Box<str>, Box<str>)>);

/// The setting that differs between most applications and that every server takes without looking at it.
pub const APPLICATION_NAME: &str = "application_name";

impl Settings {
    /// From pairs; the last value of a name counts, as in a startup packet.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Settings {
        let mut settings = Settings::default();
        for (name, value) in pairs {
            settings.set(name, value);
        }
        settings
    }

    /// Sets one.
    pub fn set(&mut self, name: &str, value: &str) {
        let name = name.to_ascii_lowercase();
        match self.0.binary_search_by(|(n, _)| (**n).cmp(&name)) {
            Ok(i) => self.0[i].1 = value.into(),
            Err(i) => self.0.insert(i, (name.into(), value.into())),
        }
    }

    /// Removes one: the session has what its servers start with.
    pub fn remove(&mut self, name: &str) {
        let name = name.to_ascii_lowercase();
        self.0.retain(|(n, _)| **n != name);
    }

    /// The value, where it differs from the default.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.binary_search_by(|(n, _)| (**n).cmp(name)).ok().map(|i| &*self.0[i].1)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (&**n, &**v))
    }

    /// Whether none differs.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same but for the application's name, which is told to clients apart from the rest.
    pub fn without_application_name(&self) -> Settings {
        let mut rest = self.clone();
        rest.remove(APPLICATION_NAME);
        rest
    }

    /// Whether two sessions have the same settings.
    pub fn same(a: &Arc<Settings>, b: &Arc<Settings>) -> bool {
        Arc::ptr_eq(a, b) || a == b
    }

    /// The statement that turns a server with `self` into one with `want`: `set_config` treats list-valued and plain
    /// settings alike, and NULL resets.
    pub fn statement_to(&self, want: &Settings) -> String {
        let gone = self.iter().filter(|(name, _)| want.get(name).is_none()).map(|(name, _)| (name, None));
        let differ =
            want.iter().filter(|(name, value)| self.get(name) != Some(value)).map(|(n, v)| (n, Some(v)));
        let mut sql = String::from("SELECT");
        for (i, (name, value)) in gone.chain(differ).enumerate() {
            sql.push_str(if i == 0 { " " } else { ", " });
            sql.push_str("pg_catalog.set_config(");
            quote(&mut sql, name);
            sql.push_str(", ");
            match value {
                Some(value) => quote(&mut sql, value),
                None => sql.push_str("NULL"),
            }
            sql.push_str(", false)");
        }
        sql
    }
}

/// Appends a string constant that reads the same whatever `standard_conforming_strings` is.
fn quote(sql: &mut String, value: &str) {
    if value.contains('\\') {
        sql.push_str(" E");
    }
    sql.push('\'');
    for c in value.chars() {
        if c == '\'' || c == '\\' {
            sql.push(c);
        }
        sql.push(c);
    }
    sql.push('\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_one_set_to_another() {
        let a = Settings::from_pairs([("TimeZone", "UTC"), ("x", "1"), ("y", "2")]);
        let b = Settings::from_pairs([("timezone", "UTC"), ("x", "it's \\"), ("z", "3")]);
        assert_eq!(
            a.statement_to(&b),
            "SELECT pg_catalog.set_config('y', NULL, false), \
             pg_catalog.set_config('x',  E'it''s \\\\', false), pg_catalog.set_config('z', '3', false)"
        );
    }

    #[test]
    fn names_fold_and_the_last_counts() {
        let s = Settings::from_pairs([("A", "1"), ("a", "2")]);
        assert_eq!(s.iter().collect::<Vec<_>>(), [("a", "2")]);
    }
}
