//! Functions of a database whose code may leave something behind in a session: read from the catalog, since a
//! statement's text does not show what the functions that it calls do.

use std::collections::HashMap;

use super::defaults::rows;
use super::pool::Pool;
use super::server::Server;
use crate::core::clock::Instant;
use crate::sql::lex::{Kind, Lexer};
use crate::sql::setting;

/// What is known of a database's functions.
#[derive(Debug, Default)]
pub struct Suspects {
    /// Their names, each with whether it may set settings whose names no code tells.
    names: HashMap<Box<[u8]>, bool>,
    /// Settings that they may set.
    settings: Vec<String>,
    /// The same of those that are triggers, which any statement that writes may call.
    triggers: Option<bool>,
    asked: Option<Instant>,
}

/// User-written functions, each with whether its code mentions anything that outlives a transaction. Languages that
/// hide what they do count as a whole, but for C: what is written in it has no need of SQL to keep state.
const QUESTION: &str = "SELECT p.proname, p.prosrc, \
    (p.prorettype OPERATOR(pg_catalog.=) 'pg_catalog.trigger'::pg_catalog.regtype)::pg_catalog.text, \
    (l.lanname OPERATOR(pg_catalog.<>) ALL (ARRAY['sql', 'plpgsql']::pg_catalog.name[]) \
    OR p.prosrc OPERATOR(pg_catalog.~*) \
    '(set_config|advisory_lock|setseed|dblink_connect|\\mtemp(orary)?\\M|\\mexecute\\M|with\\s+hold|\
    (^|;|\\mbegin\\M|\\mthen\\M|\\melse\\M|\\mloop\\M)\\s*(set|reset|listen|prepare|discard|load)\\M)')::pg_catalog.text \
    FROM pg_catalog.pg_proc p \
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
    JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang \
    WHERE n.nspname OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog', 'information_schema']::pg_catalog.name[]) \
    AND l.lanname OPERATOR(pg_catalog.<>) ALL (ARRAY['internal', 'c']::pg_catalog.name[])";

/// A function as the catalog has it.
struct Function {
    name: Box<[u8]>,
    code: Box<[u8]>,
    trigger: bool,
    suspect: bool,
}

/// The names that a text mentions, folded as Postgres folds them.
fn mentioned(sql: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut lexer = Lexer::new(sql, true);
    std::iter::from_fn(move || lexer.next_name()).filter_map(|token| {
        let text = &sql[token.start..token.end];
        match token.kind {
            Kind::Word => Some(text.to_ascii_lowercase()),
            Kind::Quoted => text.strip_prefix(b"\"").and_then(|t| t.strip_suffix(b"\"")).map(<[u8]>::to_vec),
            _ => None,
        }
    })
}

impl Suspects {
    /// What calling whatever `sql` names may do: whether anything must be asked, the settings that must be asked
    /// about by name, and whether there may be others.
    pub fn called_by(&self, sql: &[u8], writes: bool) -> Option<(&[String], bool)> {
        let triggers = self.triggers.filter(|_| writes);
        let named = mentioned(sql).filter_map(|name| self.names.get(name.as_slice()).copied());
        let unnamed = named.chain(triggers).reduce(|a, b| a || b)?;
        Some((self.settings.as_slice(), unnamed))
    }

    /// Whether no function does anything of the kind.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// When the database was asked.
    pub fn asked(&self) -> Option<Instant> {
        self.asked
    }

    fn of(functions: Vec<Function>) -> Suspects {
        let mut found = Suspects::default();
        let (mut new, mut rest): (Vec<_>, Vec<_>) = functions.into_iter().partition(|f| f.suspect);
        // Whoever calls a suspect is one.
        while !new.is_empty() {
            new.drain(..).for_each(|function| found.add(&function));
            (new, rest) = rest
                .into_iter()
                .partition(|f| mentioned(&f.code).any(|n| found.names.contains_key(n.as_slice())));
        }
        found
    }

    fn add(&mut self, function: &Function) {
        let changes = setting::in_code(&function.code);
        let called = mentioned(&function.code).any(|n| self.names.get(n.as_slice()) == Some(&true));
        let unnamed = changes.unnamed || called || mentions_execute(&function.code);
        *self.names.entry(function.name.clone()).or_default() |= unnamed;
        if function.trigger {
            self.triggers = Some(self.triggers.unwrap_or_default() || unnamed);
        }
        for (name, _) in changes.named {
            if !self.settings.contains(&name) {
                self.settings.push(name);
            }
        }
    }
}

/// Statements made while they run may say anything.
fn mentions_execute(code: &[u8]) -> bool {
    Lexer::new(code, true)
        .any(|t| t.kind == Kind::Word && code[t.start..t.end].eq_ignore_ascii_case(b"execute"))
        && code.windows(10).any(|w| w.eq_ignore_ascii_case(b"set_config"))
}

/// Asks a connection at rest, and gives it back.
pub async fn learn(pool: &Pool, mut server: Box<Server>) {
    server.unnamed = None;
    let mut functions = Vec::new();
    let answered = rows(&mut server, QUESTION, |row| {
        if let [Some(name), code, trigger, suspect] = row {
            functions.push(Function {
                name: (*name).into(),
                code: code.unwrap_or_default().into(),
                trigger: *trigger == Some(b"true"),
                suspect: *suspect == Some(b"true"),
            });
        }
    })
    .await;
    if answered.is_some() {
        pool.learn_suspects(Suspects { asked: Some(Instant::now()), ..Suspects::of(functions) });
        pool.give_back(server, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_calls_whom() {
        let function = |name: &str, code: &str, trigger: bool, suspect: bool| Function {
            name: name.as_bytes().into(),
            code: code.as_bytes().into(),
            trigger,
            suspect,
        };
        assert!(Suspects::of(Vec::new()).called_by(b"SELECT f()", true).is_none());
        let f = || function("f", "BEGIN PERFORM set_config('a.b', $1, false); END", false, true);
        let calls_f = || function("g", "BEGIN PERFORM f('x'); END", false, false);
        let harmless = || function("h", "SELECT 1", false, false);
        let known = Suspects::of(vec![calls_f(), harmless(), f()]);
        for sql in ["SELECT F(1)", "SELECT public.\"g\"()"] {
            assert_eq!(
                known.called_by(sql.as_bytes(), false),
                Some((&["a.b".to_string()][..], false)),
                "{sql}"
            );
        }
        assert!(known.called_by(b"SELECT h(1)", true).is_none());
        let trigger = function("t", "BEGIN SET work_mem = '1MB'; RETURN NEW; END", true, true);
        let any = function("any", "BEGIN PERFORM set_config(name, value, false); END", false, true);
        let known = Suspects::of(vec![trigger, any, f()]);
        assert!(known.called_by(b"INSERT INTO x VALUES (1)", true).is_some_and(|(_, unnamed)| !unnamed));
        assert!(known.called_by(b"SELECT \"any\"('x', 'y')", false).is_some_and(|(_, unnamed)| unnamed));
        assert!(known.called_by(b"SELECT 1", false).is_none());
    }
}
