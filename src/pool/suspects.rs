//! Functions of a database whose code may leave something behind in a session, since a statement's text does not show
//! what the functions that it calls do: from the catalog where that is read, else by a question of its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};
use tokio_postgres::SimpleQueryMessage;

use super::defaults::rows;
use super::hidden::HIDDEN;
use super::pool::Pool;
use super::server::Server;
use crate::catalog::{self, Catalog, Oid};
use crate::core::clock::Instant;
use crate::sql::lex::{self, Kind, Lexer};
use crate::sql::setting;

/// Age at which what is known of a database's functions is asked again: others may have changed them.
const AGE: Duration = Duration::from_secs(60);

/// What the pools of one database know of its functions.
#[derive(Debug, Default)]
pub struct Functions {
    known: ArcSwapOption<Suspects>,
    /// How often what was known has become untrue.
    generation: AtomicU64,
    old: AtomicBool,
    /// Whoever reads the catalog sees them there, too.
    read_along: AtomicBool,
}

impl Functions {
    /// Which of them leave something behind. `None` where that has to be asked first.
    pub fn known(&self, now: Instant) -> Guard<Option<Arc<Suspects>>> {
        let known = self.known.load();
        if known.as_ref().is_some_and(|s| now.since(s.asked) >= AGE) && !self.old.load(Relaxed) {
            self.old.store(true, Relaxed);
        }
        known
    }

    /// Functions have changed, or may be about to: what is known of them is not true any more.
    pub fn forget(&self) {
        self.generation.fetch_add(1, AcqRel);
        self.known.store(None);
    }

    /// To be had before the server is asked, for [`Functions::learn`].
    pub fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    /// Notes an answer, unless functions have changed since it was asked for.
    pub fn learn(&self, found: Found) {
        self.read_along.store(false, Relaxed);
        self.adopt(found.generation, Suspects::of(found.functions));
    }

    /// Notes what a catalog says of them that was asked for at this generation, if it says anything.
    pub fn read_along(&self, generation: u64, found: Option<Suspects>) {
        self.read_along.store(found.is_some(), Relaxed);
        if let Some(found) = found {
            self.adopt(generation, found);
        }
    }

    /// Whether they become known with the catalog.
    pub(super) fn are_read_along(&self) -> bool {
        self.read_along.load(Relaxed)
    }

    fn adopt(&self, generation: u64, suspects: Suspects) {
        self.old.store(false, Relaxed);
        let suspects = Arc::new(suspects);
        // Whoever forgets does so after the generation has changed, so nothing untrue stays.
        self.known.store(Some(suspects));
        if self.generation() != generation {
            self.known.store(None);
        }
    }

    /// Whether they should be asked about again in the background.
    pub(super) fn is_old(&self) -> bool {
        self.old.load(Relaxed)
    }
}

/// An answer to [`QUESTION`] as it comes in.
#[derive(Debug)]
pub struct Found {
    generation: u64,
    functions: Vec<Function>,
}

impl Found {
    /// Nothing yet; `generation` was current before the question was sent.
    pub fn new(generation: u64) -> Found {
        Found { generation, functions: Vec::new() }
    }

    /// Takes one row. `None` where it makes no sense.
    pub fn row(&mut self, row: &[Option<&[u8]>]) -> Option<()> {
        self.functions.push(Function::of(row)?);
        Some(())
    }
}

/// What is known of a database's functions.
#[derive(Debug)]
pub struct Suspects {
    /// Their names, each with whether it may set settings whose names no code tells.
    names: HashMap<Box<[u8]>, bool>,
    /// Settings that they may set.
    settings: Vec<String>,
    /// The same of those that are triggers, which any statement that writes may call.
    triggers: Option<bool>,
    /// Operators among them.
    symbols: Vec<(Box<[u8]>, bool)>,
    /// Whether some are called without being named as functions are.
    quiet: bool,
    asked: Instant,
}

/// `trigger` (`pg_type.dat`).
const TRIGGER: Oid = 2279;

/// Longest code that is looked at; what [`QUESTION`] says in its own words.
const LONGEST: usize = 24_000;

/// User-written functions, each with whether its code mentions anything that outlives a transaction. Languages that
/// hide what they do count as a whole, but for C: what is written in it has no need of SQL to keep state. Code that is
/// too long to be looked at counts as code that may set anything.
/// Then what calls them unseen.
pub static QUESTION: LazyLock<String> =
    LazyLock::new(|| format!("{CALLED} UNION ALL SELECT * FROM ({HIDDEN}) h"));

const CALLED: &str = "SELECT p.proname, \
    CASE WHEN pg_catalog.octet_length(p.prosrc) OPERATOR(pg_catalog.<) 24000 THEN p.prosrc \
    ELSE 'EXECUTE set_config' END, \
    (p.prorettype OPERATOR(pg_catalog.=) 'pg_catalog.trigger'::pg_catalog.regtype)::pg_catalog.text, \
    (l.lanname OPERATOR(pg_catalog.<>) ALL (ARRAY['sql', 'plpgsql']::pg_catalog.name[]) \
    OR pg_catalog.octet_length(p.prosrc) OPERATOR(pg_catalog.>=) 24000 \
    OR p.prosrc OPERATOR(pg_catalog.~*) \
    '(set_config|advisory_lock|setseed|dblink_connect|\\mtemp(orary)?\\M|\\mexecute\\M|with\\s+hold|\
    (^|;|\\mbegin\\M|\\mthen\\M|\\melse\\M|\\mloop\\M)\\s*(set|reset|listen|prepare|discard|load)\\M)')::pg_catalog.text, 'false' \
    FROM pg_catalog.pg_proc p \
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
    JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang \
    WHERE n.nspname OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog', 'information_schema']::pg_catalog.name[]) \
    AND l.lanname OPERATOR(pg_catalog.<>) ALL (ARRAY['internal', 'c']::pg_catalog.name[])";

/// A function as the catalog has it.
#[derive(Debug)]
struct Function {
    name: Box<[u8]>,
    code: Box<[u8]>,
    trigger: bool,
    suspect: bool,
    /// It is called without being named as functions are, or is no function at all but calls one.
    quiet: bool,
}

impl Function {
    /// From a row of [`QUESTION`]. `None` where it makes no sense.
    fn of(row: &[Option<&[u8]>]) -> Option<Function> {
        let [Some(name), code, trigger, suspect, quiet] = row else { return None };
        let is = |column: &Option<&[u8]>| *column == Some(b"true");
        let (name, code) = ((*name).into(), code.unwrap_or_default().into());
        Some(Function { name, code, trigger: is(trigger), suspect: is(suspect), quiet: is(quiet) })
    }
}

/// The names that a text mentions, folded as Postgres folds them.
fn mentioned(sql: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut lexer = Lexer::new(sql, true);
    std::iter::from_fn(move || lexer.next_name()).filter_map(|token| lex::identifier(sql, &token))
}

impl Suspects {
    /// What calling whatever `sql` names may do: whether anything must be asked, the settings that must be asked
    /// about by name, and whether there may be others.
    pub fn called_by(&self, sql: &[u8], writes: bool) -> Option<(&[String], bool)> {
        let triggers = self.triggers.filter(|_| writes);
        let named = mentioned(sql).filter_map(|name| self.names.get(name.as_slice()).copied());
        let written = |symbol: &[u8]| sql.windows(symbol.len()).any(|bytes| bytes == symbol);
        let symbols = self.symbols.iter().filter(|(symbol, _)| written(symbol)).map(|(_, unnamed)| *unnamed);
        let unnamed = named.chain(triggers).chain(symbols).reduce(|a, b| a || b)?;
        Some((self.settings.as_slice(), unnamed))
    }

    /// The same where what is called cannot be told.
    pub fn any(&self) -> Option<(&[String], bool)> {
        let unnamed = self.names.values().copied().reduce(|a, b| a || b)?;
        Some((self.settings.as_slice(), unnamed))
    }

    /// Whether a statement may call one without seeming to call anything.
    pub fn are_mentioned(&self, sql: &[u8]) -> bool {
        self.quiet && self.called_by(sql, false).is_some()
    }

    /// Whether no function does anything of the kind.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// What [`QUESTION`] would find, from a catalog, and rows of [`HIDDEN`]. `None` where whoever read that may not see
    /// functions.
    pub fn of_catalog(catalog: &Catalog, hidden: &[SimpleQueryMessage]) -> Option<Suspects> {
        let all = catalog.all_functions();
        let system = |oid| {
            let schema = catalog.schema_by_oid(oid);
            schema.is_some_and(|s| matches!(&*s.name, "pg_catalog" | "information_schema"))
        };
        let written = |f: &&catalog::Function| !system(f.schema) && !matches!(&*f.language, "internal" | "c");
        let functions = all.iter().filter(written).map(|f| {
            let code = f.body.as_deref().filter(|code| code.len() < LONGEST).unwrap_or("EXECUTE set_config");
            Function {
                name: f.name.as_bytes().into(),
                code: code.as_bytes().into(),
                trigger: f.returns == TRIGGER,
                // Code that is too long has been replaced with some that does.
                suspect: !matches!(&*f.language, "sql" | "plpgsql") || outlives(code),
                quiet: false,
            }
        });
        let hidden = hidden.iter().filter_map(|message| {
            let SimpleQueryMessage::Row(row) = message else { return None };
            let columns: Vec<_> =
                (0..row.len()).map(|i| row.try_get(i).ok().flatten().map(str::as_bytes)).collect();
            Function::of(&columns)
        });
        (!all.is_empty()).then(|| Suspects::of(functions.chain(hidden).collect()))
    }

    fn of(functions: Vec<Function>) -> Suspects {
        let mut found = Suspects {
            names: HashMap::new(),
            settings: Vec::new(),
            triggers: None,
            symbols: Vec::new(),
            quiet: false,
            asked: Instant::now(),
        };
        let (mut new, mut rest): (Vec<_>, Vec<_>) = functions.into_iter().partition(|f| f.suspect);
        // Whoever calls a suspect is one.
        while !new.is_empty() {
            new.drain(..).for_each(|function| found.add(&function));
            (new, rest) = rest
                .into_iter()
                .partition(|f| mentioned(&f.code).any(|n| found.names.contains_key(n.as_slice())));
        }
        let symbols = found.names.iter().filter(|(name, _)| is_symbol(name));
        found.symbols = symbols.map(|(name, unnamed)| (name.clone(), *unnamed)).collect();
        found
    }

    fn add(&mut self, function: &Function) {
        let changes = setting::in_code(&function.code);
        let called = mentioned(&function.code).any(|n| self.names.get(n.as_slice()) == Some(&true));
        let unnamed = changes.unnamed || called || mentions_execute(&function.code);
        *self.names.entry(function.name.clone()).or_default() |= unnamed;
        self.quiet |= function.quiet;
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

/// Whether a name is an operator's.
fn is_symbol(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| b"+-*/<>=~!@#%^&|`?".contains(b))
}

/// Whether code mentions anything that outlives a transaction: the same as the regular expression of [`QUESTION`].
fn outlives(code: &str) -> bool {
    let code = code.to_ascii_lowercase();
    if ["set_config", "advisory_lock", "setseed", "dblink_connect"].iter().any(|name| code.contains(name)) {
        return true;
    }
    // What stands before a word, white space aside, where that may begin a statement.
    let (mut begins, mut with) = (true, false);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = code.as_str();
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c: char| is_word(c) != is_word(first)).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        rest = after;
        if !is_word(first) {
            let last = piece.trim_end().chars().next_back();
            begins = last.map_or(begins, |c| c == ';');
            with &= last.is_none();
            continue;
        }
        if matches!(piece, "temp" | "temporary" | "execute") || with && piece.starts_with("hold") {
            return true;
        }
        if begins && matches!(piece, "set" | "reset" | "listen" | "prepare" | "discard" | "load") {
            return true;
        }
        begins = matches!(piece, "begin" | "then" | "else" | "loop");
        with = piece.ends_with("with");
    }
    false
}

/// Statements made while they run may say anything.
fn mentions_execute(code: &[u8]) -> bool {
    Lexer::new(code, true)
        .any(|t| t.kind == Kind::Word && code[t.start..t.end].eq_ignore_ascii_case(b"execute"))
        && code.windows(10).any(|w| w.eq_ignore_ascii_case(b"set_config"))
}

/// Asks a connection at rest again what may have changed, and gives it back.
pub(super) async fn ask_again(pool: &Pool, mut server: Box<Server>) {
    server.unnamed = None;
    let mut found = Found::new(pool.schema.functions.generation());
    let answered = rows(&mut server, &QUESTION, |row| found.row(row)).await;
    if answered.is_some() {
        pool.schema.functions.learn(found);
        pool.give_back(server, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_that_outlives_its_transaction() {
        for code in [
            "SELECT SET_CONFIG('a', 'b', false)",
            "set work_mem = 1",
            "BEGIN  RESET ALL; END",
            "IF x THEN\n LISTEN a; END IF",
            "SELECT 1;DISCARD ALL",
            "CREATE TEMP TABLE t ()",
            "DECLARE c CURSOR WITH  HOLD FOR SELECT 1",
            "EXECUTE x",
        ] {
            assert!(outlives(code), "{code}");
        }
        for code in [
            "UPDATE t SET a = 1",
            "SELECT 1 AS begin_set",
            "SELECT attempt, with_, hold",
            "BEGIN NULL; END",
            "",
        ] {
            assert!(!outlives(code), "{code}");
        }
    }

    #[test]
    fn who_calls_whom() {
        let function = |name: &str, code: &str, trigger: bool, suspect: bool| Function {
            name: name.as_bytes().into(),
            code: code.as_bytes().into(),
            trigger,
            suspect,
            quiet: false,
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
        let view = Function { quiet: true, ..function("v", "\"f\"", false, false) };
        let operator = Function { quiet: true, ..function("@@@", "\"f\"", false, false) };
        let quiet = Suspects::of(vec![f(), view, operator, harmless()]);
        assert!(quiet.are_mentioned(b"TABLE v") && quiet.are_mentioned(b"SELECT @@@ 1"));
        assert!(!quiet.are_mentioned(b"TABLE w") && !known.are_mentioned(b"SELECT f(1)"));
        let trigger = function("t", "BEGIN SET work_mem = '1MB'; RETURN NEW; END", true, true);
        let any = function("any", "BEGIN PERFORM set_config(name, value, false); END", false, true);
        let known = Suspects::of(vec![trigger, any, f()]);
        assert!(known.called_by(b"INSERT INTO x VALUES (1)", true).is_some_and(|(_, unnamed)| !unnamed));
        assert!(known.called_by(b"SELECT \"any\"('x', 'y')", false).is_some_and(|(_, unnamed)| unnamed));
        assert!(known.called_by(b"SELECT 1", false).is_none());
    }
}
