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

    /// Whether the session is another than who logged in.
    pub fn has_role(&self) -> bool {
        ROLES.iter().any(|name| self.get(name).is_some())
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

    /// What a session with `overrides` needs on a server: both began with settings of their own (`server`, `client`),
    /// and where these differ, the session's are set. `None` where that takes a default which `default` does not know.
    pub fn carried(
        server: &Settings,
        client: &Settings,
        overrides: &Settings,
        default: impl Fn(&str) -> Option<String>,
    ) -> Option<Settings> {
        let mut want = overrides.clone();
        for (name, value) in client.iter().filter(|(name, value)| server.get(name) != Some(value)) {
            if overrides.get(name).is_none() {
                want.set(name, value);
            }
        }
        for (name, _) in server.iter().filter(|(name, _)| client.get(name).is_none()) {
            if overrides.get(name).is_none() {
                want.set(name, &default(name)?);
            }
        }
        Some(want)
    }

    /// The statement that turns a server with `self` into one with `want`: `set_config` treats list-valued and plain
    /// settings alike, and NULL resets. Who the session is decides what it may set: its role is given up first and
    /// taken on last.
    pub fn statement_to(&self, want: &Settings) -> String {
        let gone = self.iter().filter(|(name, _)| want.get(name).is_none()).map(|(name, _)| (name, None));
        let differ =
            want.iter().filter(|(name, value)| self.get(name) != Some(value)).map(|(n, v)| (n, Some(v)));
        let (roles, plain): (Vec<_>, Vec<_>) = gone.chain(differ).partition(|(name, _)| ROLES.contains(name));
        let mut sql = Calls(String::from("SELECT"));
        // Also a role that stays must not be in the way of the others.
        let anew = !roles.is_empty() || !plain.is_empty();
        for name in ROLES.iter().rev().filter(|name| anew && self.get(name).is_some()) {
            sql.call(name, None);
        }
        plain.iter().for_each(|(name, value)| sql.call(name, *value));
        for name in ROLES.iter().filter(|_| anew) {
            if let Some(role) = want.get(name) {
                sql.call(name, Some(role));
            }
        }
        sql.0
    }
}

/// Who the session is, in the order in which it is taken on.
const ROLES: &[&str] = &["session_authorization", "role"];

/// A select list of calls.
struct Calls(String);

impl Calls {
    fn call(&mut self, name: &str, value: Option<&str>) {
        let sql = &mut self.0;
        sql.push_str(if sql.len() > "SELECT".len() { ", " } else { " " });
        sql.push_str("pg_catalog.set_config(");
        quote(sql, name);
        sql.push_str(", ");
        match value {
            Some(value) => quote(sql, value),
            None => sql.push_str("NULL"),
        }
        sql.push_str(", false)");
    }
}

/// Appends a string constant that reads the same whatever `standard_conforming_strings` and `client_encoding` are.
pub fn quote(sql: &mut String, value: &str) {
    use std::fmt::Write;
    if !value.is_ascii() {
        sql.push_str("pg_catalog.convert_from(pg_catalog.decode('");
        for b in value.bytes() {
            // Writing to a String does not fail.
            let _ = write!(sql, "{b:02x}");
        }
        sql.push_str("', 'hex'), 'UTF8')");
        return;
    }
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
    fn a_role_is_given_up_first_and_taken_on_last() {
        let a = Settings::from_pairs([("role", "bob"), ("work_mem", "1MB")]);
        let b = Settings::from_pairs([("role", "bob"), ("session_authorization", "eve")]);
        let names: Vec<String> = a
            .statement_to(&b)
            .split("set_config('")
            .skip(1)
            .map(|call| call.split("', false").next().unwrap_or_default().replace("', ", "="))
            .collect();
        assert_eq!(
            names.iter().map(|n| n.split(',').next().unwrap_or_default()).collect::<Vec<_>>(),
            ["role=NULL", "work_mem=NULL", "session_authorization='eve", "role='bob"]
        );
    }

    #[test]
    fn what_is_carried_between_servers_that_began_differently() {
        let server = Settings::from_pairs([("datestyle", "German"), ("timezone", "UTC")]);
        let client = Settings::from_pairs([("timezone", "CET"), ("work_mem", "1MB")]);
        let overrides = Settings::from_pairs([("work_mem", "2MB")]);
        let known = |name: &str| (name == "datestyle").then(|| "ISO".to_string());
        let want = Settings::carried(&server, &client, &overrides, known);
        let all = [("datestyle", "ISO"), ("timezone", "CET"), ("work_mem", "2MB")];
        assert_eq!(want, Some(Settings::from_pairs(all)));
        assert_eq!(Settings::carried(&server, &client, &overrides, |_| None), None);
        assert_eq!(Settings::carried(&client, &client, &overrides, |_| None), Some(overrides.clone()));
    }

    #[test]
    fn other_alphabets_do_not_depend_on_the_encoding() {
        let mut sql = String::new();
        quote(&mut sql, "größe");
        assert_eq!(sql, "pg_catalog.convert_from(pg_catalog.decode('6772c3b6c39f65', 'hex'), 'UTF8')");
    }

    #[test]
    fn names_fold_and_the_last_counts() {
        let s = Settings::from_pairs([("A", "1"), ("a", "2")]);
        assert_eq!(s.iter().collect::<Vec<_>>(), [("a", "2")]);
    }
}
