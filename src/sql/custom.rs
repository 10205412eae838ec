//! What a text says of settings under one prefix, `turnpike.`: which it gives constants to, and whether it is nothing but
//! a SHOW of one. What stands inside strings is not looked at.

use std::ops::Range;

use super::lex::{Kind, Lexer, Token};

/// A setting that is given a constant, by SET in any form, also in ALTER ROLE and the like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// What follows the prefix and the dot, in lower case.
    pub key: String,
    /// The constant.
    pub value: String,
    /// Where it stands, if it is a key word that cannot stand there without quotes.
    pub bare: Option<Range<usize>>,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Custom {
    /// Settings that are given a constant.
    pub given: Vec<Given>,
    /// The text is a SHOW of this one.
    pub shown: Option<String>,
}

struct Text<'a> {
    sql: &'a [u8],
    tokens: Vec<Token>,
}

impl Text<'_> {
    fn text(&self, i: usize) -> &[u8] {
        self.tokens.get(i).map_or(b"", |t| &self.sql[t.start..t.end])
    }

    fn is(&self, i: usize, word: &str) -> bool {
        self.text(i).eq_ignore_ascii_case(word.as_bytes())
    }

    /// A setting's name under the prefix, that begins at a token: what follows the dot.
    fn key(&self, at: usize, prefix: &str) -> Option<String> {
        let name = |i: usize| {
            let named = matches!(self.tokens.get(i)?.kind, Kind::Word | Kind::Quoted);
            let text = std::str::from_utf8(self.text(i)).ok().filter(|_| named)?;
            Some(text.trim_matches('"').to_ascii_lowercase())
        };
        let ours = name(at)? == prefix && self.text(at + 1) == b".";
        // A name of three parts is another setting's.
        ours.then(|| name(at + 2))?.filter(|_| self.text(at + 3) != b".")
    }

    /// A constant that is given as it is written.
    fn constant(&self, at: usize) -> Option<(String, bool)> {
        let text = std::str::from_utf8(self.text(at)).ok()?;
        match self.tokens.get(at)?.kind {
            Kind::Word if self.is(at, "default") => None,
            Kind::Word => Some((text.to_ascii_lowercase(), self.is(at, "primary"))),
            Kind::Number => Some((text.to_string(), false)),
            Kind::String => {
                let inner = text.strip_prefix('\'')?.strip_suffix('\'')?;
                (!inner.contains('\\')).then(|| (inner.replace("''", "'"), false))
            }
            Kind::Quoted => {
                let inner = text.strip_prefix('"')?.strip_suffix('"')?;
                Some((inner.replace("\"\"", "\""), false))
            }
            _ => None,
        }
    }

    fn given(&self, at: usize, prefix: &str) -> Option<Given> {
        let set = self.is(at.checked_sub(1)?, "set")
            || at >= 2 && (self.is(at - 1, "session") || self.is(at - 1, "local")) && self.is(at - 2, "set");
        let key = self.key(at, prefix).filter(|_| set)?;
        let equals = self.text(at + 3) == b"=" || self.is(at + 3, "to");
        let (value, is_bare) = self.constant(at + 4).filter(|_| equals && self.text(at + 5) != b",")?;
        let token = self.tokens.get(at + 4)?;
        Some(Given { key, value, bare: is_bare.then_some(token.start..token.end) })
    }
}

/// Reads a text.
pub fn read(sql: &[u8], prefix: &str) -> Custom {
    let text = Text { sql, tokens: Lexer::new(sql, true).collect() };
    let given = (0..text.tokens.len()).filter_map(|at| text.given(at, prefix)).collect();
    let end =
        text.tokens.len() - usize::from(text.tokens.last().is_some_and(|t| &sql[t.start..t.end] == b";"));
    let shown = if end == 4 && text.is(0, "show") { text.key(1, prefix) } else { None };
    Custom { given, shown }
}

/// The text with quotes around what cannot stand there without them. `None` where nothing of the kind is in it.
pub fn quoted(sql: &[u8], custom: &Custom) -> Option<Vec<u8>> {
    let mut bare = custom.given.iter().filter_map(|given| given.bare.clone()).peekable();
    bare.peek()?;
    let (mut out, mut at) = (Vec::with_capacity(sql.len() + 2), 0);
    for range in bare {
        out.extend_from_slice(&sql[at..range.start]);
        out.push(b'\'');
        out.extend_from_slice(&sql[range.clone()]);
        out.push(b'\'');
        at = range.end;
    }
    out.extend_from_slice(&sql[at..]);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn given(sql: &str) -> String {
        let given = read(sql.as_bytes(), "turnpike").given;
        given.into_iter().map(|g| format!("{}={} ", g.key, g.value)).collect::<String>().trim().into()
    }

    #[test]
    fn what_is_given() {
        for (sql, want) in [
            ("SET turnpike.route = replica", "route=replica"),
            ("set local \"turnpike\".\"Route\" to 'it''s'", "route=it's"),
            ("SET SESSION turnpike.max_lag = 500; SET Turnpike.Route TO \"DB1\"", "max_lag=500 route=DB1"),
            ("ALTER ROLE r IN DATABASE d SET turnpike.route = primary", "route=primary"),
            ("SET turnpike.route = DEFAULT", ""),
            ("SET turnpike.route = 'a', 'b'", ""),
            ("SET turnpike.route.x = 'a'", ""),
            ("SET turnpike.route = E'a\\nb'", ""),
            ("RESET turnpike.route", ""),
            ("SELECT 'SET turnpike.route = x'", ""),
            ("UPDATE turnpike.t SET a = 1 WHERE turnpike.t = 2", ""),
        ] {
            assert_eq!(given(sql), want, "{sql}");
        }
    }

    #[test]
    fn what_needs_quotes() {
        let quoted = |sql: &str| {
            let custom = read(sql.as_bytes(), "turnpike");
            quoted(sql.as_bytes(), &custom).map(|text| String::from_utf8_lossy(&text).into_owned())
        };
        assert_eq!(
            quoted("SET turnpike.route = primary;").as_deref(),
            Some("SET turnpike.route = 'primary';")
        );
        assert_eq!(
            quoted("BEGIN; SET LOCAL turnpike.route TO PRIMARY ; SET turnpike.x=primary").as_deref(),
            Some("BEGIN; SET LOCAL turnpike.route TO 'PRIMARY' ; SET turnpike.x='primary'")
        );
        assert_eq!(quoted("SET turnpike.route = 'primary'"), None);
        assert_eq!(quoted("SET other.route = primary"), None);
    }

    #[test]
    fn what_is_shown() {
        let shown = |sql: &str| read(sql.as_bytes(), "turnpike").shown;
        assert_eq!(shown("SHOW turnpike.route;").as_deref(), Some("route"));
        assert_eq!(shown("show \"turnpike\".MAX_LAG").as_deref(), Some("max_lag"));
        assert_eq!(shown("SHOW turnpike.route; SELECT 1"), None);
        assert_eq!(shown("SHOW search_path"), None);
        assert_eq!(shown(""), None);
    }

    proptest! {
        /// Quotes are all that is added, and they leave nothing to be quoted.
        #[test]
        fn only_quotes_are_added(sql in "(SET|LOCAL|turnpike|\\.|route|=|TO|primary|'|\"|;|,| |é){0,16}") {
            let custom = read(sql.as_bytes(), "turnpike");
            if let Some(text) = quoted(sql.as_bytes(), &custom) {
                let again = read(&text, "turnpike");
                prop_assert_eq!(quoted(&text, &again), None);
                let bare = |text: &[u8]| text.iter().copied().filter(|b| *b != b'\'').collect::<Vec<u8>>();
                prop_assert_eq!(bare(&text), bare(sql.as_bytes()));
            }
        }
    }
}
