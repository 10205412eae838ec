//! What a statement may leave behind in its server session, or take away from it: what a session must be asked
//! about, or keeps its server connection for.
//!
//! Tokens tell, not a parser: a name that merely looks dangerous counts too, which costs a question to the server
//! and never an answer.

use super::lex::{Kind, Lexer, Token};

/// What statements may leave behind, as a set; also the reasons for which a client keeps its server connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traces(u32);

macro_rules! traces {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $label:literal;)*) => {
        impl Traces {
            $($(#[$doc])* pub const $name: Traces = Traces(1 << $bit);)*
            const LABELS: &'static [(Traces, &'static str)] = &[$((Traces::$name, $label)),*];
        }
    };
}

traces! {
    /// The pool is in session mode.
    SESSION = 0, "session mode";
    /// SQL-level PREPARE and DEALLOCATE.
    PREPARE = 1, "prepare";
    /// LISTEN that the shared listener does not serve.
    LISTEN = 2, "listen";
    /// Temporary table, view, function.
    TEMPORARY = 3, "temporary object";
    /// Cursor WITH HOLD.
    CURSOR = 4, "cursor with hold";
    /// Session-level advisory lock.
    ADVISORY = 5, "advisory lock";
    /// currval or lastval.
    SEQUENCE = 6, "sequence value";
    /// LOAD.
    LOAD = 7, "load";
    /// A prepared statement too long to be kept for preparing it elsewhere.
    LARGE = 8, "large statement";
    /// setseed: what random() gives next is this session's.
    SEED = 9, "random seed";
    /// State that an extension keeps: dblink, hypopg, a replication origin.
    EXTENSION = 10, "extension state";
    /// The server could not be asked what is left.
    UNKNOWN = 11, "unknown state";
    /// Settings by name; [`super::setting`] tells which.
    SETTING = 12, "setting";
    /// Settings that the text does not name.
    SETTINGS = 13, "settings";
    /// Something that ends a reason may have happened: DROP, CLOSE, an unlock.
    ENDS = 14, "end";
    /// A sequence may have been advanced.
    ADVANCES = 15, "sequence advanced";
    /// A function that is not known to be harmless is called by name.
    CALLS = 16, "call";
    /// EXECUTE of a prepared statement.
    EXECUTES = 17, "execute";
    /// Settings may go back to what the session began with.
    RESETS = 18, "reset";
    /// CREATE, ALTER or DROP.
    DDL = 19, "ddl";
    /// Sequences are handled by hand: their values may be asked for next.
    SERIAL = 20, "sequence";
    /// Wants a connection that nobody has used: what it does depends on what others had loaded.
    FRESH = 21, "fresh connection";
    /// The temporary schema is in the search path.
    PATH = 22, "temporary schema";
    /// Objects that statements prepared by SQL may depend on have changed.
    PREPARED = 23, "prepared before ddl";
    /// NOTIFY: who listens hears itself before it is told that it is ready.
    NOTIFIES = 24, "notify";
    /// Asks what the session listens to.
    ASKS_LISTENS = 25, "listening channels";
    /// COMMIT, in any words.
    COMMITS = 26, "commit";
}

impl Traces {
    /// Nothing.
    pub const NONE: Traces = Traces(0);
    /// What a server can be asked about when the transaction is over.
    pub const ASKABLE: Traces = Traces(
        Self::PREPARE.0
            | Self::LISTEN.0
            | Self::TEMPORARY.0
            | Self::CURSOR.0
            | Self::ADVISORY.0
            | Self::SETTING.0
            | Self::SETTINGS.0,
    );
    /// What keeps the server connection without asking.
    pub const CERTAIN: Traces = Traces(
        Self::SESSION.0
            | Self::SEQUENCE.0
            | Self::LOAD.0
            | Self::LARGE.0
            | Self::SEED.0
            | Self::EXTENSION.0
            | Self::PATH.0
            | Self::PREPARED.0
            | Self::UNKNOWN.0,
    );
    /// What needs no look at the text: hints, and no trace.
    pub const HINTS: Traces = Traces(Self::ADVANCES.0 | Self::CALLS.0 | Self::COMMITS.0);
    /// What, outside a transaction, may have been carried out when the answer is lost.
    pub const CHANGES: Traces =
        Traces(Self::ADVANCES.0 | Self::CALLS.0 | Self::DDL.0 | Self::EXECUTES.0 | Self::ASKABLE.0);
    /// What speaks of a session that keeps state: it is given the same connection again where that can be had.
    pub const STATEFUL: Traces = Traces(Self::ASKABLE.0 | Self::NEEDS.0 | Self::DDL.0 | Self::SERIAL.0);
    /// What DISCARD ALL does not take away.
    pub const LASTING: Traces =
        Traces(Self::LOAD.0 | Self::SEED.0 | Self::EXTENSION.0 | Self::PATH.0 | Self::UNKNOWN.0);
    /// What calls for something to be sent to the server first.
    pub const NEEDS: Traces =
        Traces(Self::SEQUENCE.0 | Self::EXECUTES.0 | Self::PREPARE.0 | Self::ASKS_LISTENS.0);
    /// Code that may do anything that can be asked about: DO, CALL, a function that was found to.
    pub const OPAQUE: Traces =
        Traces(Self::ASKABLE.0 & !Self::SETTING.0 | Self::ENDS.0 | Self::ADVANCES.0 | Self::RESETS.0);

    /// Whether there is nothing.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds those of `other`.
    pub fn add(&mut self, other: Traces) {
        self.0 |= other.0;
    }

    /// Both sets in one.
    #[must_use]
    pub fn and(self, other: Traces) -> Traces {
        Traces(self.0 | other.0)
    }

    /// Those that are in both sets.
    #[must_use]
    pub fn of(self, other: Traces) -> Traces {
        Traces(self.0 & other.0)
    }

    /// Whether any of `other` is among these.
    pub fn any(self, other: Traces) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether every one of `other` is among these.
    pub fn contains(self, other: Traces) -> bool {
        self.0 & other.0 == other.0
    }

    /// These without those of `other`.
    #[must_use]
    pub fn without(self, other: Traces) -> Traces {
        Traces(self.0 & !other.0)
    }

    /// As a number, to be kept in an atomic; [`Traces::from_bits`] reverses it.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// See [`Traces::bits`].
    pub fn from_bits(bits: u32) -> Traces {
        Traces(bits)
    }

    /// Their names, for people.
    pub fn labels(self) -> Vec<&'static str> {
        Self::LABELS.iter().filter(|(trace, _)| self.contains(*trace)).map(|(_, label)| *label).collect()
    }
}

/// What the string of statements `sql` may leave behind if it succeeds.
pub fn scan(sql: &[u8], conforming: bool) -> Traces {
    let mut traces = Traces::NONE;
    let mut lexer = Lexer::new(sql, conforming);
    let mut lead = Lead::Start;
    while let Some(token) = lexer.next_name() {
        let text = &sql[token.start..token.end];
        match token.kind {
            Kind::Word if lead == Lead::Start => {
                lead = Lead::of(text);
                traces.add(lead.traces(sql, &lexer));
            }
            Kind::Word => {
                traces.add(word(text, lead));
                if lead == Lead::Create && is(text, "language") && is_c(&sql[token.end..]) {
                    traces.add(Traces::EXTENSION);
                }
                if called(&sql[token.end..]) && !is_plain(text) {
                    traces.add(Traces::CALLS);
                }
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
    ("import", Lead::Making),
    ("drop", Lead::Drop),
    ("alter", Lead::Alter),
    ("close", Lead::End),
    ("deallocate", Lead::Prepare),
    ("discard", Lead::Discard),
    ("commit", Lead::Commit),
    ("end", Lead::Commit),
    ("notify", Lead::Notify),
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
            Lead::Set | Lead::Reset => self.setting(sql, after),
            Lead::Prepare if !is(first(), "transaction") => Traces::PREPARE.and(Traces::ENDS),
            Lead::Listen => Traces::LISTEN,
            Lead::Commit => Traces::COMMITS,
            Lead::Notify => Traces::NOTIFIES,
            Lead::Load => Traces::LOAD.and(Traces::FRESH),
            Lead::Opaque => Traces::OPAQUE,
            Lead::End => Traces::ENDS,
            Lead::Drop => Traces::ENDS.and(Traces::DDL),
            Lead::Create | Lead::Alter => Traces::DDL,
            Lead::Discard => Traces::ENDS.and(Traces::RESETS),
            Lead::Execute => Traces::EXECUTES.and(Traces::ADVANCES),
            Lead::Write => Traces::ADVANCES,
            _ => Traces::NONE,
        }
    }
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
        6.. => name(text).and(if matches!(lead, Lead::Create | Lead::Alter) {
            making_sequence(text)
        } else {
            Traces::NONE
        }),
        _ => Traces::NONE,
    }
}

fn making_sequence(text: &[u8]) -> Traces {
    const WORDS: &[&str] = &["sequence", "serial", "bigserial", "smallserial", "identity"];
    if WORDS.iter().any(|w| is(text, w)) { Traces::SERIAL } else { Traces::NONE }
}

/// Names of functions and schemas with an effect on the session, by their first letter and how they begin.
const fn names(first: u8) -> &'static [(&'static str, Traces)] {
    const SERIAL: Traces = Traces(Traces::ADVANCES.0 | Traces::SERIAL.0);
    const VALUE: Traces = Traces(Traces::SEQUENCE.0 | Traces::SERIAL.0);
    match first {
        b's' => &[
            ("set_config", Traces(Traces::SETTING.0 | Traces::RESETS.0)),
            ("setseed", Traces::SEED),
            ("setval", SERIAL),
            ("set_limit", Traces::SETTINGS),
        ],
        b'n' => &[("nextval", SERIAL)],
        b'c' => &[("currval", VALUE)],
        b'l' => &[("lastval", VALUE)],
        b'd' => &[("dblink_connect", Traces::EXTENSION)],
        b'h' => &[("hypopg", Traces::EXTENSION)],
        b'p' => &[
            ("pg_notify", Traces::NOTIFIES),
            ("pg_listening_channels", Traces::ASKS_LISTENS),
            ("pg_advisory_lock", Traces::ADVISORY),
            ("pg_try_advisory_lock", Traces::ADVISORY),
            ("pg_advisory_unlock", Traces::ENDS),
            ("pg_temp", Traces(Traces::TEMPORARY.0 | Traces::ENDS.0)),
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
            let left = scan(sql.as_bytes(), true).of(Traces::ASKABLE.and(Traces::CERTAIN));
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
        assert!(scan(b"DO $$ BEGIN END $$", true).contains(Traces::OPAQUE));
    }

    #[test]
    fn statements_and_what_they_may_end_or_move_on() {
        let hints =
            Traces::ENDS.and(Traces::ADVANCES).and(Traces::CALLS).and(Traces::EXECUTES).and(Traces::RESETS);
        let check = |sql: &str, want: &[&str]| {
            assert_eq!(scan(sql.as_bytes(), true).of(hints).labels(), want, "{sql}");
        };
        check("SELECT a FROM t WHERE b IN (1, 2) AND count(*) > 1", &[]);
        check("SELECT f(1)", &["call"]);
        check("SELECT \"F\" /* c */ (1)", &["call"]);
        check("INSERT INTO t VALUES (1)", &["sequence advanced"]);
        check("DROP TABLE t", &["end"]);
        check("CLOSE ALL", &["end"]);
        check("SELECT pg_advisory_unlock(1)", &["end", "call"]);
        assert!(scan(b"CREATE TABLE t (a serial)", true).contains(Traces::SERIAL));
        assert!(scan(b"CREATE FUNCTION f() RETURNS int LANGUAGE C AS 'x'", true).contains(Traces::EXTENSION));
        assert!(scan(b"SET search_path = pg_temp, a", true).contains(Traces::PATH.and(Traces::FRESH)));
        assert!(!scan(b"SET LOCAL search_path = pg_temp, a", true).contains(Traces::PATH));
        check("EXECUTE s", &["sequence advanced", "execute"]);
        check("EXPLAIN EXECUTE s", &["sequence advanced", "execute"]);
        check("RESET a", &["reset"]);
        check("SET a TO DEFAULT", &["reset"]);
        check("DISCARD ALL", &["end", "reset"]);
    }
}
