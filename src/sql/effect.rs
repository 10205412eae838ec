//! What a statement may leave behind in its server session, or take away from it: what a session must be asked
//! about, or keeps its server connection for.
//!
//! Tokens tell, not a parser: a name that merely looks dangerous counts too, which costs a question to the server
//! and never an answer.

use super::lex::{Kind, Lexer, Token, readings};
pub use super::traces::Traces;

/// What the string of statements `sql` may leave behind if it succeeds, however its strings are read.
#[inline]
pub fn scan(sql: &[u8]) -> Traces {
    readings(sql).fold(Traces::NONE, |traces, conforming| traces.and(read(sql, conforming)))
}

fn read(sql: &[u8], conforming: bool) -> Traces {
    let mut traces = Traces::NONE;
    let mut lexer = Lexer::new(sql, conforming);
    let mut lead = Lead::Start;
    let mut before: &[u8] = b"";
    while let Some(token) = lexer.next_name() {
        let text = &sql[token.start..token.end];
        let last = std::mem::replace(&mut before, text);
        match token.kind {
            Kind::Word if lead == Lead::Start => {
                lead = Lead::of(text);
                traces.add(lead.traces(sql, &lexer));
            }
            Kind::Word => {
                traces.add(word(text, lead));
                traces.add(making(text, last, lead));
                if lead == Lead::Create && is(text, "language") && is_c(&sql[token.end..]) {
                    traces.add(Traces::EXTENSION);
                }
                if called(&sql[token.end..]) && !is_plain(text) {
                    traces.add(Traces::CALLS);
                }
            }
            // Not worth spelling out here: it may be anything.
            Kind::Quoted if text.starts_with(b"U&") || text.starts_with(b"u&") => {
                traces.add(Traces::OPAQUE.and(Traces::CALLS));
            }
            Kind::Quoted => {
                traces.add(name(text.trim_ascii_start().strip_prefix(b"\"").unwrap_or(text)));
                if called(&sql[token.end..]) {
                    traces.add(Traces::CALLS);
                }
            }
            _ => lead = Lead::Start,
        }
    }
    traces
}

/// SELECT INTO in any form, and EXPLAIN ANALYZE of what makes a table: the words tell, and which one comes before.
#[inline]
pub(super) fn making(text: &[u8], before: &[u8], lead: Lead) -> Traces {
    if lead != Lead::Making {
        return Traces::NONE;
    }
    match text.len() {
        // INSERT INTO and MERGE INTO fill what there is.
        4 if is(text, "into") && !is(before, "insert") && !is(before, "merge") => Traces::DDL,
        6 if is(text, "create") => Traces::DDL,
        _ => Traces::NONE,
    }
}

/// Whether functions are made in C: what they keep between calls is in their server process.
fn is_c(rest: &[u8]) -> bool {
    let mut words = Lexer::new(rest, true).map(|t| &rest[t.start..t.end]);
    words.next().is_some_and(|w| [&b"c"[..], b"C", b"'c'", b"'C'", b"\"c\""].contains(&w))
}

/// Whether what follows a name makes it a call.
#[inline]
fn called(rest: &[u8]) -> bool {
    match rest.first() {
        Some(b'(') => true,
        Some(b' ' | b'\t' | b'\n' | b'\r' | b'/' | b'-') => {
            let next = rest.iter().find(|b| !b.is_ascii_whitespace());
            // A comment may stand between.
            matches!(next, Some(b'('))
                || matches!(rest.trim_ascii_start(), [b'/', b'*', ..] | [b'-', b'-', ..])
        }
        _ => false,
    }
}

/// Words before a parenthesis that call nothing, or nothing that leaves anything behind.
const PLAIN: &[&str] = &[
    "all",
    "and",
    "any",
    "array",
    "as",
    "avg",
    "between",
    "by",
    "case",
    "cast",
    "coalesce",
    "count",
    "date",
    "distinct",
    "else",
    "exists",
    "extract",
    "filter",
    "format",
    "from",
    "greatest",
    "group",
    "having",
    "in",
    "is",
    "join",
    "least",
    "length",
    "like",
    "limit",
    "lower",
    "max",
    "min",
    "not",
    "now",
    "nullif",
    "numeric",
    "on",
    "or",
    "over",
    "primary",
    "key",
    "returning",
    "row",
    "select",
    "set",
    "some",
    "substring",
    "sum",
    "then",
    "to_char",
    "trim",
    "union",
    "unique",
    "upper",
    "using",
    "values",
    "varchar",
    "when",
    "where",
    "with",
];

fn is_plain(word: &[u8]) -> bool {
    PLAIN.iter().any(|plain| is(word, plain))
}

/// The leading key word of a statement, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lead {
    Start,
    Set,
    Reset,
    Prepare,
    Listen,
    Declare,
    Load,
    Opaque,
    /// CLOSE: where a reason ends.
    End,
    Drop,
    Alter,
    Notify,
    Commit,
    Discard,
    Execute,
    /// INSERT, UPDATE, COPY and the like: where a default may advance a sequence.
    Write,
    Create,
    /// GRANT, IMPORT and the like: objects, or who may look into them, change.
    Change,
    Savepoint,
    /// SELECT, WITH and the like: where TEMP makes a temporary object.
    Making,
    Other,
}

/// Leading key words that matter.
const LEADS: &[(&str, Lead)] = &[
    ("select", Lead::Making),
    ("insert", Lead::Write),
    ("update", Lead::Write),
    ("delete", Lead::Write),
    ("set", Lead::Set),
    ("reset", Lead::Reset),
    ("prepare", Lead::Prepare),
    ("execute", Lead::Execute),
    ("listen", Lead::Listen),
    ("unlisten", Lead::End),
    ("declare", Lead::Declare),
    ("load", Lead::Load),
    ("do", Lead::Opaque),
    ("call", Lead::Opaque),
    ("create", Lead::Create),
    ("with", Lead::Making),
    ("explain", Lead::Making),
    ("import", Lead::Change),
    ("grant", Lead::Change),
    ("revoke", Lead::Change),
    ("reassign", Lead::Change),
    ("drop", Lead::Drop),
    ("alter", Lead::Alter),
    ("close", Lead::End),
    ("deallocate", Lead::Prepare),
    ("discard", Lead::Discard),
    ("commit", Lead::Commit),
    ("end", Lead::Commit),
    ("notify", Lead::Notify),
    ("savepoint", Lead::Savepoint),
    ("copy", Lead::Write),
    ("merge", Lead::Write),
];

impl Lead {
    pub(super) fn of(word: &[u8]) -> Lead {
        LEADS.iter().find(|(lead, _)| is(word, lead)).map_or(Lead::Other, |(_, lead)| *lead)
    }

    /// What the leading word alone, with the two that follow, says.
    pub(super) fn traces(self, sql: &[u8], after: &Lexer<'_>) -> Traces {
        let mut next = after.clone().map(|t: Token| &sql[t.start..t.end]);
        let mut first = || next.next().unwrap_or_default();
        match self {
            Lead::Set | Lead::Reset => self.setting(sql, after).and(meaning(sql)),
            Lead::Prepare if !is(first(), "transaction") => Traces::PREPARE.and(Traces::ENDS),
            Lead::Listen => Traces::LISTEN,
            // What a prepared transaction has made is there from now on.
            Lead::Commit if is(first(), "prepared") => Traces::COMMITS.and(Traces::DDL),
            Lead::Commit => Traces::COMMITS,
            Lead::Notify => Traces::NOTIFIES,
            Lead::Savepoint => Traces::SAVEPOINT,
            Lead::Load => Traces::LOAD.and(Traces::FRESH),
            Lead::Opaque if makes(sql) => Traces::OPAQUE.and(Traces::DDL),
            Lead::Opaque => Traces::OPAQUE,
            Lead::End => Traces::ENDS,
            Lead::Drop => Traces::ENDS.and(Traces::DDL),
            Lead::Create | Lead::Alter | Lead::Change => Traces::DDL,
            Lead::Discard => Traces::ENDS.and(Traces::RESETS).and(Traces::MEANING),
            Lead::Execute => Traces::EXECUTES.and(Traces::ADVANCES),
            Lead::Write => Traces::ADVANCES,
            _ => Traces::NONE,
        }
    }
}

/// Whether a block of code says that it makes, changes or drops something.
fn makes(sql: &[u8]) -> bool {
    const WORDS: &[&[u8]] = &[b"create", b"alter", b"drop"];
    WORDS.iter().any(|word| sql.windows(word.len()).any(|w| w.eq_ignore_ascii_case(word)))
}

/// Whether a SET or RESET, be it for the transaction, may change what names or strings mean.
fn meaning(sql: &[u8]) -> Traces {
    const WORDS: &[&[u8]] = &[
        b"search_path",
        b"role",
        b"schema",
        b"authorization",
        b"all",
        b"standard_conforming",
        b"transform_null",
        b"array_nulls",
        b"xml",
        b"lc_monetary",
    ];
    // What is set for a transaction is reported when it is over, too; but what comes in one go with it is prepared before.
    const REPORTED: &[&[u8]] = &[b"zone", b"style", b"encoding", b"names"];
    let any = |word: &[u8]| sql.windows(word.len()).any(|w| w.eq_ignore_ascii_case(word));
    let for_now = || any(b"local") && REPORTED.iter().any(|word| any(word));
    if WORDS.iter().any(|word| any(word)) || for_now() { Traces::MEANING } else { Traces::NONE }
}

impl Lead {
    fn setting(self, sql: &[u8], after: &Lexer<'_>) -> Traces {
        let mut words = after.clone().map(|t: Token| &sql[t.start..t.end]).take_while(|w| *w != b";");
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut traces = setting(first, second);
        // What a library's settings may be called depends on whether it is loaded.
        if second == b"." && first.to_ascii_lowercase().starts_with(b"pl") {
            traces.add(Traces::FRESH);
        }
        let (mut resets, mut temporary) = (self == Lead::Reset, false);
        for word in words {
            resets |= is(word, "default") || is(word, "local");
            temporary |= word.windows(7).any(|w| is(w, "pg_temp"));
        }
        if resets {
            traces.add(Traces::RESETS);
        }
        if temporary && traces.contains(Traces::SETTING) {
            traces.add(Traces::PATH.and(Traces::FRESH));
        }
        traces
    }
}

/// SET and RESET: by the name that is set.
fn setting(first: &[u8], second: &[u8]) -> Traces {
    if ["local", "transaction", "constraints"].iter().any(|w| is(first, w)) {
        return Traces::NONE;
    }
    let name = if is(first, "session") { second } else { first };
    if is(name, "seed") { Traces::SEED } else { Traces::SETTING }
}

fn is(word: &[u8], lower: &str) -> bool {
    word.eq_ignore_ascii_case(lower.as_bytes())
}

/// A word inside a statement.
#[inline]
pub(super) fn word(text: &[u8], lead: Lead) -> Traces {
    let making = matches!(lead, Lead::Making | Lead::Create);
    match text.len() {
        4 if making && is(text, "temp") => Traces::TEMPORARY,
        9 if making && is(text, "temporary") => Traces::TEMPORARY,
        4 if lead == Lead::Declare && is(text, "hold") => Traces::CURSOR,
        7 if making && is(text, "execute") => Traces::EXECUTES.and(Traces::ADVANCES),
        6 if making && (is(text, "insert") || is(text, "update")) => Traces::ADVANCES,
        11 if lead == Lead::Write && is(text, "pg_settings") => Traces::SETTINGS,
        // EXPLAIN ANALYZE runs what it explains.
        6.. => name(text).and(match lead {
            Lead::Create | Lead::Alter => made(text).and(changed(text)),
            Lead::Drop => changed(text),
            _ => Traces::NONE,
        }),
        _ => Traces::NONE,
    }
}

fn made(text: &[u8]) -> Traces {
    const SEQUENCES: &[&str] = &["sequence", "serial", "bigserial", "smallserial", "identity"];
    if SEQUENCES.iter().any(|w| is(text, w)) { Traces::SERIAL } else { Traces::NONE }
}

fn changed(text: &[u8]) -> Traces {
    const FUNCTIONS: &[&str] = &["function", "procedure", "routine", "trigger", "extension", "schema"];
    if FUNCTIONS.iter().any(|w| is(text, w)) { Traces::FUNCTIONS } else { Traces::NONE }
}

/// Names of functions and schemas with an effect on the session, by their first letter and how they begin.
const fn names(first: u8) -> &'static [(&'static str, Traces)] {
    const SERIAL: Traces = Traces::of_all(&[Traces::ADVANCES, Traces::SERIAL]);
    const VALUE: Traces = Traces::of_all(&[Traces::SEQUENCE, Traces::SERIAL]);
    const SETS: Traces = Traces::of_all(&[Traces::SETTING, Traces::RESETS, Traces::MEANING]);
    const TEMPORARY: Traces = Traces::of_all(&[Traces::TEMPORARY, Traces::ENDS]);
    match first {
        b's' => &[
            ("set_config", SETS),
            ("setseed", Traces::SEED),
            ("setval", SERIAL),
            ("set_limit", Traces::SETTINGS),
            ("schema_to_xml", Traces::OPAQUE),
        ],
        b'n' => &[("nextval", SERIAL)],
        // Statements within strings.
        b'q' => &[("query_to_xml", Traces::OPAQUE)],
        b't' => {
            &[("ts_stat", Traces::OPAQUE), ("ts_rewrite", Traces::OPAQUE), ("table_to_xml", Traces::OPAQUE)]
        }
        b'c' => &[("currval", VALUE), ("cursor_to_xml", Traces::OPAQUE)],
        b'l' => &[("lastval", VALUE)],
        b'd' => &[("dblink_connect", Traces::EXTENSION), ("database_to_xml", Traces::OPAQUE)],
        b'h' => &[("hypopg", Traces::EXTENSION)],
        b'p' => &[
            ("pg_notify", Traces::NOTIFIES),
            ("pg_listening_channels", Traces::ASKS_LISTENS),
            ("pg_advisory_lock", Traces::ADVISORY),
            ("pg_try_advisory_lock", Traces::ADVISORY),
            ("pg_advisory_unlock", Traces::ENDS),
            ("pg_temp", TEMPORARY),
            ("pg_replication_origin_session", Traces::EXTENSION),
        ],
        _ => &[],
    }
}

/// A name that may be a function or schema with an effect on the session. `text` may end in a quote.
#[inline]
fn name(text: &[u8]) -> Traces {
    let first = text.first().map_or(0, |b| b | 0x20);
    if first == b'p' && text.get(2) != Some(&b'_') {
        return Traces::NONE;
    }
    let starts = |prefix: &str| {
        text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    names(first).iter().find(|(prefix, _)| starts(prefix)).map_or(Traces::NONE, |(_, traces)| *traces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_and_what_they_leave_behind() {
        let check = |sql: &str, want: &[&str]| {
            let left = scan(sql.as_bytes()).of(Traces::ASKABLE.and(Traces::CERTAIN));
            assert_eq!(left.labels(), want, "{sql}");
        };
        check("SELECT 1", &[]);
        check("UPDATE t SET x = 1", &[]);
        check("set session time zone 'UTC'", &["setting"]);
        check("SET LOCAL work_mem = '1MB'", &[]);
        check("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", &[]);
        check("SET statement_timeout = 5", &["setting"]);
        check("/* c */ SET SESSION work_mem = 5", &["setting"]);
        check("SELECT 1; SET search_path = a", &["setting"]);
        check("RESET ALL", &["setting"]);
        check("SET ROLE bob", &["setting"]);
        check("SET SESSION AUTHORIZATION bob", &["setting"]);
        check("SELECT set_config('a.b', 'c', false)", &["setting"]);
        check("SELECT pg_catalog.\"set_config\"('a.b', 'c', false)", &["setting"]);
        check("SELECT 'set_config', '; SET x = 1'", &[]);
        let any = &["prepare", "listen", "temporary object", "cursor with hold", "advisory lock", "settings"];
        check(r#"SELECT U&"set_confi\0067"('a', 'b', false)"#, any);
        check("SELECT query_to_xml('SELECT 1', true, true, '')", any);
        check("PREPARE s AS SELECT 1", &["prepare"]);
        check("PREPARE TRANSACTION 'x'", &[]);
        check("LISTEN a", &["listen"]);
        check("NOTIFY a", &[]);
        check("CREATE TEMP TABLE t (a int)", &["temporary object"]);
        check("CREATE OR REPLACE TEMPORARY VIEW v AS SELECT 1", &["temporary object"]);
        check("SELECT 1 INTO TEMP t", &["temporary object"]);
        check("CREATE TABLE pg_temp.t (a int)", &["temporary object"]);
        check("INSERT INTO readings (temp) VALUES (1)", &[]);
        check("DECLARE c CURSOR WITH HOLD FOR SELECT 1", &["cursor with hold"]);
        check("DECLARE c CURSOR FOR SELECT 1", &[]);
        check("SELECT pg_advisory_lock(1)", &["advisory lock"]);
        check("SELECT pg_try_advisory_lock_shared(1)", &["advisory lock"]);
        check("SELECT pg_advisory_xact_lock(1)", &[]);
        check("SELECT currval('s')", &["sequence value"]);
        check("SELECT setseed(0.5)", &["random seed"]);
        check("SET SEED TO 0.5", &["random seed"]);
        check("SELECT dblink_connect('x')", &["extension state"]);
        check("UPDATE pg_settings SET setting = 'x' WHERE name = 'y'", &["settings"]);
        check("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING", &[]);
        check("LOAD 'x'", &["load"]);
        for ddl in [
            "SELECT 1 AS a INTO t",
            "WITH x AS (SELECT 1) SELECT * INTO UNLOGGED t FROM x",
            "(SELECT 1 INTO t)",
            "EXPLAIN ANALYZE SELECT 1 INTO t",
            "EXPLAIN (ANALYZE) CREATE TABLE t AS SELECT 1",
            "CREATE TABLE t AS EXECUTE s",
            "SELECT 1; SELECT 2 INTO t",
            "IMPORT FOREIGN SCHEMA a FROM SERVER b INTO c",
            "DO $$ BEGIN EXECUTE 'CREATE TABLE t ()'; END $$",
            "COMMIT PREPARED 'x'",
            "GRANT USAGE ON SCHEMA a TO b",
        ] {
            assert!(scan(ddl.as_bytes()).contains(Traces::DDL), "{ddl}");
        }
        for none in [
            "WITH x AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM x",
            "WITH x AS (MERGE /* c */ INTO t USING u ON true WHEN MATCHED THEN DELETE RETURNING *) SELECT 1",
            "INSERT INTO t SELECT 1",
            "SELECT 'into', \"into\" FROM t",
            "COMMIT",
            "DO $$ BEGIN PERFORM f(); END $$",
        ] {
            assert!(!scan(none.as_bytes()).contains(Traces::DDL), "{none}");
        }
        assert!(scan(b"DO $$ BEGIN END $$").contains(Traces::OPAQUE));
    }

    #[test]
    fn statements_and_what_they_may_end_or_move_on() {
        let hints =
            Traces::ENDS.and(Traces::ADVANCES).and(Traces::CALLS).and(Traces::EXECUTES).and(Traces::RESETS);
        let check = |sql: &str, want: &[&str]| {
            assert_eq!(scan(sql.as_bytes()).of(hints).labels(), want, "{sql}");
        };
        check("SELECT a FROM t WHERE b IN (1, 2) AND count(*) > 1", &[]);
        check("SELECT f(1)", &["call"]);
        check("SELECT \"F\" /* c */ (1)", &["call"]);
        check("INSERT INTO t VALUES (1)", &["sequence advanced"]);
        check("DROP TABLE t", &["end"]);
        check("CLOSE ALL", &["end"]);
        check("SELECT pg_advisory_unlock(1)", &["end", "call"]);
        assert!(scan(b"CREATE TABLE t (a serial)").contains(Traces::SERIAL));
        assert!(scan(b"CREATE FUNCTION f() RETURNS int LANGUAGE C AS 'x'").contains(Traces::EXTENSION));
        assert!(scan(b"SET search_path = pg_temp, a").contains(Traces::PATH.and(Traces::FRESH)));
        assert!(!scan(b"SET LOCAL search_path = pg_temp, a").contains(Traces::PATH));
        check("EXECUTE s", &["sequence advanced", "execute"]);
        check("EXPLAIN EXECUTE s", &["sequence advanced", "execute"]);
        check("RESET a", &["reset"]);
        check("SET a TO DEFAULT", &["reset"]);
        check("DISCARD ALL", &["end", "reset"]);
    }
}
