//! What a statement may leave behind in its server session: reasons to keep the server connection with its client.
//!
//! Tokens tell, not a parser: a name that merely looks dangerous pins too, which costs a connection and never an answer.

use super::lex::{Kind, Lexer, Token};

/// Reasons to keep a server connection beyond a transaction, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pins(u16);

macro_rules! pins {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $label:literal;)*) => {
        impl Pins {
            $($(#[$doc])* pub const $name: Pins = Pins(1 << $bit);)*
            const LABELS: &'static [(Pins, &'static str)] = &[$((Pins::$name, $label)),*];
        }
    };
}

pins! {
    /// The pool is in session mode.
    SESSION = 0, "session mode";
    /// A setting changed that no ParameterStatus reports.
    SETTING = 1, "setting";
    /// SQL-level PREPARE.
    PREPARE = 2, "prepare";
    /// LISTEN.
    LISTEN = 3, "listen";
    /// Temporary table, view, function.
    TEMPORARY = 4, "temporary object";
    /// Cursor WITH HOLD.
    CURSOR = 5, "cursor with hold";
    /// Session-level advisory lock.
    ADVISORY = 6, "advisory lock";
    /// currval or lastval.
    SEQUENCE = 7, "sequence value";
    /// LOAD.
    LOAD = 8, "load";
    /// DO or CALL: anything may have happened.
    OPAQUE = 9, "opaque code";
    /// A prepared statement too long to be kept for preparing it elsewhere.
    LARGE = 10, "large statement";
}

impl Pins {
    /// No reason.
    pub const NONE: Pins = Pins(0);

    /// Whether there is no reason.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds the reasons of `other`.
    pub fn add(&mut self, other: Pins) {
        self.0 |= other.0;
    }

    /// Whether every reason of `other` is among these.
    pub fn contains(self, other: Pins) -> bool {
        self.0 & other.0 == other.0
    }

    /// These without those of `other`.
    #[must_use]
    pub fn without(self, other: Pins) -> Pins {
        Pins(self.0 & !other.0)
    }

    /// As a number, to be kept in an atomic; [`Pins::from_bits`] reverses it.
    pub fn bits(self) -> u16 {
        self.0
    }

    /// See [`Pins::bits`].
    pub fn from_bits(bits: u16) -> Pins {
        Pins(bits)
    }

    /// Names of the reasons, for people.
    pub fn labels(self) -> Vec<&'static str> {
        Self::LABELS.iter().filter(|(pin, _)| self.contains(*pin)).map(|(_, label)| *label).collect()
    }
}

/// Settings that every supported server reports when they change, so that they are carried, not pinned.
const REPORTED: &[&str] = &[
    "application_name",
    "client_encoding",
    "datestyle",
    "intervalstyle",
    "standard_conforming_strings",
    "timezone",
    // SET TIME ZONE, SET NAMES
    "time",
    "names",
];

/// What the string of statements `sql` may leave behind if it succeeds.
pub fn scan(sql: &[u8], conforming: bool) -> Pins {
    let mut pins = Pins::NONE;
    let mut lexer = Lexer::new(sql, conforming);
    let mut lead = Lead::Start;
    while let Some(token) = lexer.next_name() {
        let text = &sql[token.start..token.end];
        match token.kind {
            Kind::Word if lead == Lead::Start => {
                lead = Lead::of(text);
                pins.add(lead.pins(sql, &lexer));
            }
            Kind::Word => pins.add(word(text, lead)),
            Kind::Quoted => pins.add(name(text.trim_ascii_start().strip_prefix(b"\"").unwrap_or(text))),
            _ => lead = Lead::Start,
        }
    }
    pins
}

/// The leading key word of a statement, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lead {
    Start,
    Set,
    Reset,
    Prepare,
    Listen,
    Declare,
    Load,
    Opaque,
    /// CREATE, SELECT, WITH and the like: where TEMP makes a temporary object.
    Making,
    Other,
}

impl Lead {
    fn of(word: &[u8]) -> Lead {
        const LEADS: &[(&str, Lead)] = &[
            ("select", Lead::Making),
            ("set", Lead::Set),
            ("reset", Lead::Reset),
            ("prepare", Lead::Prepare),
            ("listen", Lead::Listen),
            ("declare", Lead::Declare),
            ("load", Lead::Load),
            ("do", Lead::Opaque),
            ("call", Lead::Opaque),
            ("create", Lead::Making),
            ("with", Lead::Making),
            ("explain", Lead::Making),
            ("import", Lead::Making),
        ];
        if !matches!(
            word.first().map(|b| b | 0x20),
            Some(b's' | b'r' | b'p' | b'l' | b'd' | b'c' | b'w' | b'e' | b'i')
        ) {
            return Lead::Other;
        }
        LEADS.iter().find(|(lead, _)| is(word, lead)).map_or(Lead::Other, |(_, lead)| *lead)
    }

    /// What the leading word alone, with the two that follow, says.
    fn pins(self, sql: &[u8], after: &Lexer<'_>) -> Pins {
        let mut next = after.clone().map(|t: Token| &sql[t.start..t.end]);
        let first = next.next().unwrap_or_default();
        match self {
            Lead::Set | Lead::Reset => setting(first, next.next().unwrap_or_default()),
            Lead::Prepare if !is(first, "transaction") => Pins::PREPARE,
            Lead::Listen => Pins::LISTEN,
            Lead::Load => Pins::LOAD,
            Lead::Opaque => Pins::OPAQUE,
            _ => Pins::NONE,
        }
    }
}

/// SET and RESET: by the name that is set.
fn setting(first: &[u8], second: &[u8]) -> Pins {
    if ["local", "transaction", "constraints"].iter().any(|w| is(first, w)) {
        return Pins::NONE;
    }
    let name = if is(first, "session") { second } else { first };
    if REPORTED.iter().any(|r| is(name, r)) { Pins::NONE } else { Pins::SETTING }
}

fn is(word: &[u8], lower: &str) -> bool {
    word.eq_ignore_ascii_case(lower.as_bytes())
}

/// A word inside a statement.
#[inline]
fn word(text: &[u8], lead: Lead) -> Pins {
    match text.len() {
        4 if lead == Lead::Making && is(text, "temp") => Pins::TEMPORARY,
        9 if lead == Lead::Making && is(text, "temporary") => Pins::TEMPORARY,
        4 if lead == Lead::Declare && is(text, "hold") => Pins::CURSOR,
        // EXPLAIN ANALYZE runs what it explains.
        7.. => name(text),
        _ => Pins::NONE,
    }
}

/// A name that may be a function or schema with an effect on the session. `text` may end in a quote.
#[inline]
fn name(text: &[u8]) -> Pins {
    if !matches!(text.first().map(|b| b | 0x20), Some(b's' | b'p' | b'c' | b'l')) {
        return Pins::NONE;
    }
    let starts = |prefix: &str| {
        text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    match text.first().map(u8::to_ascii_lowercase) {
        Some(b's') if starts("set_config") => Pins::SETTING,
        Some(b'p') if starts("pg_advisory_lock") || starts("pg_try_advisory_lock") => Pins::ADVISORY,
        Some(b'p') if starts("pg_temp") => Pins::TEMPORARY,
        Some(b'c') if starts("currval") => Pins::SEQUENCE,
        Some(b'l') if starts("lastval") => Pins::SEQUENCE,
        _ => Pins::NONE,
    }
}

/// The same for text too long to be held: words are taken wherever they stand, also in strings and comments, and
/// every semicolon begins a statement. It errs towards pinning only.
#[derive(Debug)]
pub struct Stream {
    word: Vec<u8>,
    leading: bool,
    pins: Pins,
}

impl Default for Stream {
    fn default() -> Self {
        Stream { word: Vec::new(), leading: true, pins: Pins::NONE }
    }
}

/// Longest word worth telling apart: `pg_try_advisory_lock`.
const LONGEST_WORD: usize = 24;

impl Stream {
    /// Takes the next piece of the text.
    pub fn feed(&mut self, piece: &[u8]) {
        for &b in piece {
            if b.is_ascii_alphanumeric() || b == b'_' {
                if self.word.len() < LONGEST_WORD {
                    self.word.push(b);
                }
            } else {
                self.word_ended();
                if b == b';' {
                    self.leading = true;
                }
            }
        }
    }

    fn word_ended(&mut self) {
        let text = std::mem::take(&mut self.word);
        if text.is_empty() {
            return;
        }
        if self.leading {
            self.leading = false;
            self.pins.add(match Lead::of(&text) {
                Lead::Set | Lead::Reset => Pins::SETTING,
                other => other.pins(b"", &Lexer::new(b"", true)),
            });
        }
        // The semicolon before it may have stood in a string, so any statement may be under way.
        self.pins.add(word(&text, Lead::Making));
        self.pins.add(word(&text, Lead::Declare));
        self.word = text;
        self.word.clear();
    }

    /// What the text may leave behind.
    pub fn finish(mut self) -> Pins {
        self.word_ended();
        self.pins
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn statements_and_what_they_leave_behind() {
        let check = |sql: &str, want: &[&str]| assert_eq!(scan(sql.as_bytes(), true).labels(), want, "{sql}");
        check("SELECT 1", &[]);
        check("UPDATE t SET x = 1", &[]);
        check("SET TimeZone = 'UTC'", &[]);
        check("set session time zone 'UTC'", &[]);
        check("SET NAMES 'utf8'", &[]);
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
        check("DO $$ BEGIN END $$", &["opaque code"]);
        check("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING", &[]);
        check("LOAD 'x'", &["load"]);
    }

    #[test]
    fn long_texts_err_towards_pinning() {
        let check = |sql: &str, want: &[&str]| {
            let mut stream = Stream::default();
            sql.as_bytes().chunks(3).for_each(|piece| stream.feed(piece));
            assert_eq!(stream.finish().labels(), want, "{sql}");
        };
        check("INSERT INTO t VALUES ('a'), ('b')", &[]);
        check("SET TimeZone = 'UTC'", &["setting"]);
        check("INSERT INTO t VALUES (1); SET a = 1", &["setting"]);
        check("SELECT pg_try_advisory_lock(1)", &["advisory lock"]);
        check("SELECT 1 INTO TEMP t", &["temporary object"]);
        check("UPDATE t SET a = 1", &[]);
    }

    proptest! {
        #[test]
        fn streaming_finds_whatever_scanning_finds(sql in "(select|set|do|temp|create|declare|hold|currval|;| |x|'|\\(){0,12}", cut in 1usize..9) {
            // No statement begins with a string, so none hides the word that leads it.
            let mut start = true;
            for token in Lexer::new(sql.as_bytes(), true) {
                prop_assume!(!(start && token.kind == Kind::String));
                start = &sql[token.start..token.end] == ";" || start && token.kind != Kind::Word;
            }
            let mut stream = Stream::default();
            sql.as_bytes().chunks(cut).for_each(|piece| stream.feed(piece));
            let (long, short) = (stream.finish(), scan(sql.as_bytes(), true));
            prop_assert!(long.contains(short), "{sql}: {:?} {:?}", long.labels(), short.labels());
        }
    }
}
