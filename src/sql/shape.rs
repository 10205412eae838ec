//! A statement without its literals: one pass over the bytes finds what is the same for all statements that differ only
//! in values, comments and white space, and where the values are.
//!
//! The normal form is made of tokens, each followed by a space. Words are folded as Postgres folds them, quoted names
//! and operators stay as they are, and a literal is a zero byte, which no statement can contain, with the letter of its
//! kind. Literals stay where they say what a statement means: in utility statements, as a column's number in ORDER BY
//! and GROUP BY, as the name of an object or setting.

mod lists;

use std::ops::Range;

use lists::Rows;

use super::lex::{Kind, Lexer, Token};
use super::words::{is_naming, may_be_special};

/// What a lifted value looks like in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// String constant of any form.
    String,
    /// Digits alone.
    Integer,
    /// Any other numeric constant.
    Number,
    /// `B'...'` or `X'...'`.
    Bits,
    /// `$n`; it stays in the normal form, but for lists.
    Param,
    /// NULL, TRUE or FALSE; lifted in lists only.
    Word,
}

/// Where a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
    /// Which mark of the normal form stands for it, counted from 0: one for a list, however long, and one for a column
    /// of VALUES in equal rows. [`PARAM`] where `$n` itself stands there.
    pub mark: u32,
    /// What it looks like.
    pub value: Value,
}

/// The mark of a parameter outside of lists.
pub const PARAM: u32 = u32::MAX;

/// One statement of a string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Where it is in the text, without the semicolon.
    pub text: Range<u32>,
    /// Where it is in the normal form, likewise.
    pub normal: Range<u32>,
    /// Its first mark.
    pub mark: u32,
}

/// What one pass over a string of statements finds. Kept and used again, so that reading allocates nothing.
#[derive(Debug, Default)]
pub struct Shape {
    /// The normal form.
    pub normal: Vec<u8>,
    /// The lifted values, in order.
    pub slots: Vec<Slot>,
    /// The statements; empty ones are left out.
    pub statements: Vec<Statement>,
    /// Text of a comment that speaks to Turnpike, without the delimiters.
    pub hint: Option<Range<u32>>,
}

/// Beginning of a comment that speaks to Turnpike.
const HINT: &[u8] = b"turnpike:";

impl Shape {
    /// Reads `text`; `conforming` is the session's `standard_conforming_strings`. Texts end before 4 GiB.
    pub fn read(&mut self, text: &[u8], conforming: bool) {
        self.normal.clear();
        self.normal.reserve(text.len() + text.len() / 2);
        self.slots.clear();
        self.statements.clear();
        self.hint = None;
        let mut pass = Pass { shape: self, text, conforming, state: State::default(), read: 0 };
        let mut before = 0;
        let mut tokens = Lexer::new(text, conforming);
        while let Some(token) = tokens.next() {
            if token.start > before {
                pass.blank(before, token.start);
            }
            before = token.end;
            pass.token(token);
            if pass.read > before {
                before = pass.read;
                tokens.go_on_at(before);
            }
        }
        pass.blank(before, text.len());
        pass.statement_ends(text.len());
    }
}

/// How many bytes of a word are folded at once.
const CHUNK: usize = 16;

/// How a statement's literals are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Lead {
    /// No token yet.
    #[default]
    None,
    /// SELECT and the like: literals are values.
    Query,
    /// Utility statement: literals stay.
    Utility,
}

/// What came before a token, as far as it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Before {
    #[default]
    Other,
    /// ORDER, GROUP
    Clause,
    /// BY or a comma of that clause: a number here is a column's.
    Column,
    /// IN
    In,
    /// A word whose argument or literal is a name.
    Naming,
    /// The parenthesis after it.
    NamingOpen,
    /// A lifted literal; how many colons have followed.
    Literal(u8),
    /// CREATE ... BEGIN
    Begin,
}

#[derive(Debug, Default)]
struct State {
    lead: Lead,
    /// Where the statement begins in the text and in the normal form, and its first mark.
    begins: Option<(usize, usize, u32)>,
    before: Before,
    depth: u32,
    /// Depth of the innermost ORDER BY or GROUP BY.
    by: Option<u32>,
    /// Where the normal form of an IN list begins that has nothing but constants so far, and its first slot.
    list: Option<(usize, usize)>,
    /// Marks in the normal form so far.
    marks: u32,
    rows: Option<Rows>,
    /// Depth of BEGIN ATOMIC and CASE inside it: semicolons there end no statement.
    atomic: u32,
    create: bool,
    explains: bool,
}

struct Pass<'a> {
    shape: &'a mut Shape,
    text: &'a [u8],
    conforming: bool,
    state: State,
    /// How far constants of lists have been read without looking at tokens.
    read: usize,
}

impl Pass<'_> {
    /// White space and comments between tokens.
    #[inline]
    fn blank(&mut self, from: usize, to: usize) {
        if to - from > HINT.len() && self.shape.hint.is_none() {
            self.hint(from, to);
        }
    }

    #[cold]
    fn hint(&mut self, from: usize, to: usize) {
        let blank = &self.text[from..to];
        let Some(at) = blank.windows(HINT.len()).position(|w| w.eq_ignore_ascii_case(HINT)) else { return };
        let (start, open) = (from + at, blank[..at].trim_ascii_end());
        let rest = &self.text[start..to];
        let end = if open.ends_with(b"/*") {
            rest.windows(2).position(|w| w == b"*/")
        } else if open.ends_with(b"--") {
            rest.iter().position(|&b| b == b'\n' || b == b'\r')
        } else {
            return;
        };
        let end = start + end.unwrap_or(rest.len());
        self.shape.hint = Some(start as u32..end as u32);
        // What it asks for is part of what the statement means.
        self.shape.normal.extend_from_slice(b"/*");
        self.shape.normal.extend_from_slice(self.text[start..end].trim_ascii());
        self.shape.normal.extend_from_slice(b"*/ ");
    }

    #[inline]
    fn token(&mut self, token: Token) {
        if self.state.begins.is_none() {
            self.state.begins = Some((token.start, self.shape.normal.len(), self.state.marks));
        }
        let bytes = &self.text[token.start..token.end];
        if token.kind != Kind::Punct {
            self.no_row();
        }
        match token.kind {
            Kind::Word => self.word(token, bytes),
            Kind::String | Kind::Number => self.literal(token, bytes),
            Kind::Param => self.param(token, bytes),
            Kind::Punct => self.punct(token, bytes[0]),
            Kind::Quoted | Kind::Operator => {
                if !(token.kind == Kind::Operator && matches!(bytes, b"-" | b"+")) {
                    self.breaks();
                }
                self.put(bytes);
                self.state.before = Before::Other;
            }
        }
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.shape.normal.extend_from_slice(bytes);
        self.shape.normal.push(b' ');
    }

    /// Something that is no constant: a list with it is not folded.
    #[inline]
    fn breaks(&mut self) {
        self.state.list = None;
    }

    /// Something that stands between no rows of VALUES: there are no more of them.
    #[inline]
    fn no_row(&mut self) {
        if self.state.rows.as_ref().is_some_and(|rows| rows.depth >= self.state.depth) {
            self.state.rows = None;
        }
    }

    #[inline]
    fn word(&mut self, token: Token, bytes: &[u8]) {
        let at = self.shape.normal.len();
        self.fold(token, bytes);
        if self.state.lead == Lead::None || self.state.explains {
            self.state.before = Before::Other;
            return self.leads(at);
        }
        if may_be_special(bytes) {
            return self.special(token, at);
        }
        self.state.before = Before::Other;
        self.breaks();
    }

    /// Puts a word as Postgres folds it.
    #[inline]
    fn fold(&mut self, token: Token, bytes: &[u8]) {
        let (at, len) = (self.shape.normal.len(), bytes.len());
        if let Some(chunk) = self.text[token.start..].first_chunk::<CHUNK>()
            && len <= CHUNK
        {
            // As many bytes as a register holds, and then those back that are not of the word.
            self.shape.normal.extend_from_slice(&chunk.map(|b| b.to_ascii_lowercase()));
            self.shape.normal.truncate(at + len);
            self.shape.normal.push(b' ');
        } else {
            self.put(bytes);
            self.shape.normal[at..].make_ascii_lowercase();
        }
    }

    /// A word that may change how literals around it are treated.
    fn special(&mut self, token: Token, at: usize) {
        let before = std::mem::take(&mut self.state.before);
        let word = &self.shape.normal[at..self.shape.normal.len() - 1];
        match word {
            b"in" => self.state.before = Before::In,
            b"order" | b"group" => self.state.before = Before::Clause,
            b"by" if before == Before::Clause => {
                self.state.by = Some(self.state.depth);
                self.state.before = Before::Column;
            }
            b"null" | b"true" | b"false" if self.state.list.is_some() || self.in_row() => {
                return self.lift(token, at, Value::Word);
            }
            b"values" if self.state.lead == Lead::Query && self.state.rows.is_none() => {
                self.state.rows = Some(Rows::new(self.state.depth));
            }
            b"limit" | b"offset" | b"fetch" | b"for" | b"having" | b"union" | b"window" | b"where"
                if self.state.by == Some(self.state.depth) =>
            {
                self.state.by = None;
            }
            b"begin" if self.state.create => self.state.before = Before::Begin,
            b"atomic" if before == Before::Begin => self.state.atomic = 1,
            b"case" if self.state.atomic > 0 => self.state.atomic += 1,
            b"end" if self.state.atomic > 0 => self.state.atomic -= 1,
            _ if is_naming(word) => {
                if before == Before::Literal(2) {
                    self.unlift();
                }
                self.state.before = Before::Naming;
            }
            _ => {}
        }
        self.breaks();
    }

    /// The first word of a statement, or of what is explained.
    fn leads(&mut self, at: usize) {
        let word = &self.shape.normal[at..self.shape.normal.len() - 1];
        let query: &[&[u8]] =
            &[b"select", b"insert", b"update", b"delete", b"with", b"values", b"merge", b"table"];
        let query = query.contains(&word);
        if query && word == b"values" {
            self.state.rows = Some(Rows::new(self.state.depth));
        }
        if self.state.explains {
            if query {
                (self.state.lead, self.state.explains) = (Lead::Query, false);
            }
            return;
        }
        self.state.explains = word == b"explain";
        self.state.create = word == b"create";
        self.state.lead = if query { Lead::Query } else { Lead::Utility };
    }

    fn in_row(&self) -> bool {
        self.state.rows.as_ref().is_some_and(|r| r.begins.is_some() && self.state.depth == r.depth + 1)
    }

    #[inline]
    fn literal(&mut self, token: Token, bytes: &[u8]) {
        let value = match (token.kind, bytes[0] | 0x20) {
            (Kind::String, b'b' | b'x') => Value::Bits,
            (Kind::String, _) => Value::String,
            _ if bytes.iter().all(u8::is_ascii_digit) => Value::Integer,
            _ => Value::Number,
        };
        let kept = self.state.lead != Lead::Query
            || matches!(self.state.before, Before::Naming | Before::NamingOpen)
            || self.state.before == Before::Column && value == Value::Integer;
        if kept {
            self.breaks();
            self.state.before = Before::Other;
            return self.put(bytes);
        }
        let at = self.shape.normal.len();
        self.lift(token, at, value);
        self.state.before = Before::Literal(0);
    }

    /// Puts a slot in the place of what stands at `at` in the normal form.
    #[inline]
    fn lift(&mut self, token: Token, at: usize, value: Value) {
        let mark = self.state.marks;
        self.state.marks += 1;
        self.shape.slots.push(Slot { start: token.start as u32, end: token.end as u32, mark, value });
        self.shape.normal.truncate(at);
        let mark = match value {
            _ if self.in_row() => b'v',
            Value::String => b's',
            Value::Integer => b'i',
            Value::Number => b'n',
            Value::Bits => b'b',
            Value::Param | Value::Word => b'v',
        };
        self.shape.normal.extend_from_slice(&[0, mark, b' ']);
    }

    /// The last literal was a name after all.
    #[cold]
    fn unlift(&mut self) {
        let Some(slot) = self.shape.slots.pop() else { return };
        let Some(at) = self.shape.normal.iter().rposition(|&b| b == 0) else { return };
        self.state.marks -= 1;
        let raw = &self.text[slot.start as usize..slot.end as usize];
        self.shape.normal.splice(at..at + 2, raw.iter().copied());
    }

    #[inline]
    fn param(&mut self, token: Token, bytes: &[u8]) {
        if self.in_row() {
            self.lift(token, self.shape.normal.len(), Value::Param);
        } else {
            let (start, end) = (token.start as u32, token.end as u32);
            self.shape.slots.push(Slot { start, end, mark: PARAM, value: Value::Param });
            self.put(bytes);
        }
        self.state.before = Before::Other;
    }

    #[inline]
    fn punct(&mut self, token: Token, byte: u8) {
        let before = std::mem::take(&mut self.state.before);
        match byte {
            b';' if self.state.depth == 0 && self.state.atomic == 0 => {
                return self.statement_ends(token.start);
            }
            b'(' => self.opens(before),
            b')' => self.closes(token.end),
            b',' if self.state.by == Some(self.state.depth) => {
                self.state.before = Before::Column;
                self.breaks();
            }
            b',' => {}
            b':' => {
                self.no_row();
                if let Before::Literal(colons) = before {
                    self.state.before = Before::Literal(colons + 1);
                }
                self.breaks();
            }
            _ => {
                self.no_row();
                self.breaks();
            }
        }
        self.shape.normal.extend_from_slice(&[byte, b' ']);
        if byte == b'(' && before == Before::In {
            self.state.list = Some((self.shape.normal.len(), self.shape.slots.len()));
            self.list(token.end);
        }
    }

    fn statement_ends(&mut self, at: usize) {
        if let Some((begins, normal, mark)) = self.state.begins.take().filter(|(begins, ..)| *begins < at) {
            let text = &self.text[begins..at];
            let end = begins + text.trim_ascii_end().len();
            self.shape.statements.push(Statement {
                text: begins as u32..end as u32,
                normal: normal as u32..self.shape.normal.len() as u32,
                mark,
            });
            self.put(b";");
        }
        self.state = State { marks: self.state.marks, ..State::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shape(sql: &str) -> Shape {
        let mut shape = Shape::default();
        shape.read(sql.as_bytes(), true);
        shape
    }

    fn shown(sql: &str) -> String {
        String::from_utf8_lossy(&shape(sql).normal)
            .replace('\0', "?")
            .trim_end_matches([';', ' '])
            .to_string()
    }

    #[test]
    fn what_is_lifted_and_what_stays() {
        let check = |sql: &str, want: &str| assert_eq!(shown(sql), want, "{sql}");
        check("SELECT  a /* x */ FROM T -- y\nWHERE b='x'", "select a from t where b = ?s");
        check("select 1, 1.5, 'a', E'b', B'01', $1, U&'d' ", "select ?i , ?n , ?s , ?s , ?b , $1 , ?s");
        check(r#"SELECT "A"."b" FROM "T""#, r#"select "A" . "b" from "T""#);
        check("SELECT * FROM t WHERE a IN (1, -2, $3, NULL)", "select * from t where a in ( ?l )");
        check("SELECT * FROM t WHERE a IN (1)", "select * from t where a in ( ?l )");
        check("SELECT * FROM t WHERE a IN (1, b)", "select * from t where a in ( ?i , b )");
        check("SELECT * FROM t WHERE a IN (SELECT 1)", "select * from t where a in ( select ?i )");
        check(
            "INSERT INTO t VALUES (1, 'a'), (2, NULL), ($1, now()) RETURNING a",
            "insert into t values ( ?v , ?v ) , ( ?v , now ( ) ) returning a",
        );
        check(
            "INSERT INTO t VALUES (a) ON CONFLICT (a) DO NOTHING",
            "insert into t values ( a ) on conflict ( a ) do nothing",
        );
        check(
            "SELECT * FROM (VALUES (1), (2)) v (a), (b)",
            "select * from ( values ( ?v ) ) v ( a ) , ( b )",
        );
        check("SELECT a FROM t ORDER BY 1, b + 2 LIMIT 3", "select a from t order by 1 , b + ?i limit ?i");
        check(
            "SELECT f(1) FROM t GROUP BY 1, 2 HAVING f(1) > 2",
            "select f ( ?i ) from t group by 1 , 2 having f ( ?i ) > ?i",
        );
        check(
            "SELECT nextval('s'), set_config('a', 'b', true)",
            "select nextval ( 's' ) , set_config ( 'a' , ?s , true )",
        );
        check(
            "SELECT 'a'::text, 'b' :: regclass, regclass 'c'",
            "select ?s : : text , 'b' : : regclass , regclass 'c'",
        );
        check("SET work_mem = '1MB'", "set work_mem = '1MB'");
        check("EXPLAIN (COSTS off) SELECT 1", "explain ( costs off ) select ?i");
        check("SELECT 1;; select 2;", "select ?i ; select ?i");
        check("a=-1", "a = - 1");
        check("/* turnpike: route=primary */ SELECT 1", "/*turnpike: route=primary*/ select ?i");
        check(
            "CREATE FUNCTION f() BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; SELECT 2; END; SELECT 3",
            "create function f ( ) begin atomic select case when a then 1 end ; select 2 ; end ; select ?i",
        );
    }

    #[test]
    fn every_value_has_its_mark() {
        let marks = |sql: &str| shape(sql).slots.iter().map(|s| s.mark).collect::<Vec<_>>();
        assert_eq!(marks("SELECT 1, 'a', $1, 2"), [0, 1, PARAM, 2]);
        assert_eq!(marks("SELECT 1 WHERE a IN (1, $1, 3) AND b = 5"), [0, 1, 1, 1, 2]);
        assert_eq!(marks("INSERT INTO t VALUES (1, 'a'), ($1, NULL) RETURNING 7"), [0, 1, 0, 1, 2]);
        assert_eq!(
            marks("INSERT INTO t VALUES (1, 'a'), (2, f(3)), (2, f(4)) RETURNING 7"),
            [0, 1, 2, 3, 2, 3, 4]
        );
        assert_eq!(marks("SELECT 'x'::regclass, 1; SELECT 2"), [0, 1]);
        assert_eq!(marks("VALUES (1), (x IN (2, 3)), (x IN (4)), (5)"), [0, 1, 1, 1, 2]);
    }

    #[test]
    fn statements_are_told_apart() {
        let texts = |sql: &str| {
            shape(sql)
                .statements
                .iter()
                .map(|s| sql[s.text.start as usize..s.text.end as usize].to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(texts(" SELECT 1 ; /* c */ SELECT ';' "), ["SELECT 1", "SELECT ';'"]);
        assert_eq!(texts("CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); SELECT 3").len(), 2);
        assert!(texts(" ; -- nothing\n;").is_empty());
    }

    #[test]
    fn what_speaks_to_turnpike() {
        let hint = |sql: &str| shape(sql).hint.map(|h| sql[h.start as usize..h.end as usize].to_string());
        assert_eq!(hint("/* Turnpike: a=b */ SELECT 1").as_deref(), Some("Turnpike: a=b "));
        assert_eq!(hint("SELECT 1 --turnpike: a\n").as_deref(), Some("turnpike: a"));
        assert_eq!(hint("SELECT '/* turnpike: a */'"), None);
        assert_ne!(shown("/* turnpike: a */ SELECT 1"), shown("/* turnpike: b */ SELECT 1"));
    }

    const TOKENS: &[&str] = &[
        "a", "b", "select", "from", "\"a\"", "\"A\"", ".", ",", "(", ")", "=", "-", "->", "->>", "[", "]",
        "::", "$1", "$2", "order", "group", "by", "nextval", "regclass", "1", "'x'", "E'y'", "0x1F", "1.5",
        "B'1'", "null", "case", "end",
    ];

    fn render(tokens: &[&str], blanks: &[&str]) -> String {
        let mut sql = String::from("select ");
        for (i, token) in tokens.iter().enumerate() {
            sql.push_str(token);
            sql.push_str(blanks[i % blanks.len()]);
        }
        sql
    }

    fn is_value(token: &str) -> bool {
        token.starts_with(['\'', '0', '1', 'E', 'B'])
    }

    proptest! {
        #[test]
        fn only_values_comments_and_blanks_are_left_out(
            tokens in prop::collection::vec(prop::sample::select(TOKENS), 1..12),
            others in prop::collection::vec(prop::sample::select(TOKENS), 1..12),
        ) {
            let one = shown(&render(&tokens, &[" "]));
            prop_assert_eq!(&one, &shown(&render(&tokens, &["\t", " /* c */ ", "  ", "/*e*/"])));
            // Another statement has another shape, unless it differs in values alone.
            let plain = |tokens: &[&str]| tokens.iter().map(|t| if is_value(t) { "?" } else { t }).collect::<Vec<_>>().join(" ");
            if plain(&tokens) != plain(&others) {
                prop_assert_ne!(one, shown(&render(&others, &[" "])));
            }
        }

        #[test]
        fn the_text_is_its_pieces_and_its_values(text in "[a-c'\"$/*\\-;,()0-9 \nEin]{0,60}", conforming: bool) {
            let mut shape = Shape::default();
            shape.read(text.as_bytes(), conforming);
            let marks = shape.normal.iter().filter(|b| **b == 0).count() as u32;
            prop_assert!(shape.slots.iter().all(|s| s.mark < marks || s.mark == PARAM));
            let (mut back, mut at) = (String::new(), 0);
            for slot in &shape.slots {
                let (start, end) = (slot.start as usize, slot.end as usize);
                prop_assert!(at <= start && start < end && end <= text.len());
                back.push_str(&text[at..start]);
                back.push_str(&text[start..end]);
                at = end;
            }
            back.push_str(&text[at..]);
            prop_assert_eq!(back, text);
        }

        #[test]
        fn reading_never_panics(text in prop::collection::vec(any::<u8>(), 0..80), conforming: bool) {
            let mut shape = Shape::default();
            shape.read(&text, conforming);
            for s in &shape.statements {
                prop_assert!(s.text.start < s.text.end && s.text.end as usize <= text.len());
                prop_assert!(s.normal.start < s.normal.end && s.normal.end as usize <= shape.normal.len());
            }
        }

        #[test]
        fn lists_and_rows_of_any_length(n in 1usize..40, m in 1usize..40) {
            let sql = |n: usize| {
                let list = vec!["1"; n].join(", ");
                format!("INSERT INTO t SELECT * FROM u WHERE a IN ({list}); INSERT INTO t VALUES {}", vec!["(1, 'x')"; n].join(","))
            };
            prop_assert_eq!(shape(&sql(n)).normal, shape(&sql(m)).normal);
        }
    }
}
