//! What a text that is too long to be held may leave behind: words are taken wherever they stand, also in strings and
//! comments, and every semicolon begins a statement. It errs towards pinning only.

use super::effect::{Lead, Traces, making, word};
use super::lex::Lexer;

/// What has been seen so far.
#[derive(Debug)]
pub struct Stream {
    word: Vec<u8>,
    leading: bool,
    /// The last word was LANGUAGE.
    language: bool,
    /// The last word was INSERT or MERGE.
    inserts: bool,
    /// The statement is led by INSERT or the like: in its values INTO says nothing.
    fills: bool,
    /// The byte before, where it belongs to no word.
    before: u8,
    /// A comment may go on to the end of the line.
    comment: bool,
    traces: Traces,
}

impl Default for Stream {
    fn default() -> Self {
        Stream {
            word: Vec::new(),
            leading: true,
            language: false,
            inserts: false,
            fills: false,
            before: 0,
            comment: false,
            traces: Traces::NONE,
        }
    }
}

/// Longest word worth telling apart: `pg_replication_origin_session`.
const LONGEST_WORD: usize = 32;

impl Stream {
    /// Takes the next piece of the text.
    pub fn feed(&mut self, piece: &[u8]) {
        for &b in piece {
            if b.is_ascii_alphanumeric() || b == b'_' {
                if self.word.len() < LONGEST_WORD {
                    self.word.push(b);
                }
                self.before = 0;
            } else {
                self.word_ended();
                // Behind a comment a statement may begin, whose first word only seemed to lead it.
                let comment_ends = self.before == b'*' && b == b'/' || self.comment && b == b'\n';
                self.comment = (self.comment || self.before == b'-' && b == b'-') && b != b'\n';
                self.leading |= b == b';' || comment_ends;
                self.before = b;
            }
        }
    }

    fn word_ended(&mut self) {
        let text = std::mem::take(&mut self.word);
        if text.is_empty() {
            return;
        }
        self.traces.add(word(&text, Lead::Create));
        if self.language && text.eq_ignore_ascii_case(b"c") {
            self.traces.add(Traces::EXTENSION);
        }
        self.language = text.eq_ignore_ascii_case(b"language");
        let (leads, lead) = (std::mem::take(&mut self.leading), Lead::of(&text));
        let inserts = text.eq_ignore_ascii_case(b"insert") || text.eq_ignore_ascii_case(b"merge");
        if !leads && !self.fills && !self.inserts {
            self.traces.add(making(&text, b"", Lead::Making));
        }
        self.inserts = inserts;
        if leads {
            self.fills = lead == Lead::Write;
            self.traces.add(match lead {
                // What is set cannot be told from pieces.
                Lead::Set | Lead::Reset => Traces::SETTINGS.and(Traces::RESETS).and(Traces::MEANING),
                // Its text is not kept, so it cannot be prepared elsewhere.
                Lead::Prepare => Traces::PREPARE.and(Traces::LARGE).and(Traces::ENDS),
                // Nor what code does.
                Lead::Opaque => Traces::OPAQUE.and(Traces::DDL),
                other => other.traces(b"", &Lexer::new(b"", true)),
            });
        }
        // The semicolon before it may have stood in a string, so any statement may be under way.
        self.traces.add(word(&text, Lead::Making));
        self.traces.add(word(&text, Lead::Declare));
        self.traces.add(word(&text, Lead::Write));
        self.traces.add(Traces::CALLS);
        self.word = text;
        self.word.clear();
    }

    /// What the text may leave behind.
    pub fn finish(mut self) -> Traces {
        self.word_ended();
        // A setting's name may be cut off.
        if self.traces.contains(Traces::SETTING) { self.traces.and(Traces::SETTINGS) } else { self.traces }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::effect::scan;
    use super::super::lex::Kind;
    use super::*;

    #[test]
    fn long_texts_err_towards_pinning() {
        let check = |sql: &str, want: &[&str]| {
            let mut stream = Stream::default();
            sql.as_bytes().chunks(3).for_each(|piece| stream.feed(piece));
            let left = stream.finish().of(Traces::ASKABLE.and(Traces::CERTAIN));
            assert_eq!(left.labels(), want, "{sql}");
        };
        check("INSERT INTO t VALUES ('a'), ('b')", &[]);
        check("SET TimeZone = 'UTC'", &["settings"]);
        check("INSERT INTO t VALUES (1); SET a = 1", &["settings"]);
        check("SELECT pg_try_advisory_lock(1)", &["advisory lock"]);
        check("SELECT 1 INTO TEMP t", &["temporary object"]);
        check("UPDATE t SET a = 1", &[]);
        check("/* c */ SET a = 1", &["settings"]);
        check("-- c\nSET a = 1", &["settings"]);
    }

    #[test]
    fn long_texts_that_make_tables() {
        let makes = |sql: &str| {
            let mut stream = Stream::default();
            sql.as_bytes().chunks(3).for_each(|piece| stream.feed(piece));
            stream.finish().contains(Traces::DDL)
        };
        assert!(makes("SELECT 1 INTO t") && makes("/* insert */ SELECT 1 INTO t") && makes("DO $$ $$"));
        assert!(!makes("INSERT INTO t VALUES ('put into')") && !makes("COPY t FROM 'into'"));
        assert!(!makes("WITH x AS (INSERT INTO t VALUES (1)) SELECT 1"));
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
            let (long, short) = (stream.finish(), scan(sql.as_bytes()));
            // What is set is asked for as a whole.
            let short = short.without(Traces::SETTING.and(Traces::SEED).and(Traces::RESETS).and(Traces::FRESH));
            prop_assert!(long.contains(short), "{sql}: {:?} {:?}", long.labels(), short.labels());
        }
    }
}
