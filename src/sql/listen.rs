//! LISTEN and UNLISTEN, where they are all that a text says.

use super::lex::{Lexer, Token, identifier};

/// One such statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// LISTEN channel
    To(Box<[u8]>),
    /// UNLISTEN channel
    NoMoreTo(Box<[u8]>),
    /// UNLISTEN *
    ToNothing,
}

/// Beginning of the statement that stands for one of these on a server: it does nothing, and fails where the
/// original would have failed.
pub const STANDS_FOR: &[u8] = b"UNLISTEN __turnpike /*";

impl Listen {
    /// Reads a text that says nothing else.
    pub fn parse(text: &[u8]) -> Option<Listen> {
        // Most texts are told by their first letter.
        if !matches!(text.trim_ascii_start().first().map(|b| b | 0x20), Some(b'l' | b'u' | b'/' | b'-')) {
            return None;
        }
        let mut tokens = Lexer::new(text, true).filter(|t| &text[t.start..t.end] != b";");
        let verb = tokens.next()?;
        let (to, name) = match text[verb.start..verb.end].to_ascii_lowercase().as_slice() {
            b"listen" => (true, tokens.next()?),
            b"unlisten" => (false, tokens.next()?),
            _ => return None,
        };
        if tokens.next().is_some() {
            return None;
        }
        let channel = |t: &Token| identifier(text, t).map(Vec::into_boxed_slice);
        match (to, &text[name.start..name.end]) {
            (false, b"*") => Some(Listen::ToNothing),
            (true, _) => channel(&name).map(Listen::To),
            (false, _) => channel(&name).map(Listen::NoMoreTo),
        }
    }

    /// The tag of its CommandComplete.
    pub fn tag(&self) -> &'static str {
        if matches!(self, Listen::To(_)) { "LISTEN" } else { "UNLISTEN" }
    }

    /// The statement that stands for it on a server. Each is one of a kind, so that it can be told from others.
    pub fn stand_in(&self) -> Vec<u8> {
        let (kind, channel) = match self {
            Listen::To(channel) => (b'L', &**channel),
            Listen::NoMoreTo(channel) => (b'U', &**channel),
            Listen::ToNothing => (b'A', &b""[..]),
        };
        let mut text = STANDS_FOR.to_vec();
        text.push(kind);
        text.extend_from_slice(hex::encode(channel).as_bytes());
        text.extend_from_slice(b"*/");
        text
    }

    /// What such a statement stands for.
    pub fn stood_for(text: &[u8]) -> Option<Listen> {
        let inner = text.strip_prefix(STANDS_FOR)?.strip_suffix(b"*/")?;
        let (kind, digits) = inner.split_first()?;
        let channel = hex::decode(digits).ok()?.into_boxed_slice();
        match kind {
            b'L' => Some(Listen::To(channel)),
            b'U' => Some(Listen::NoMoreTo(channel)),
            b'A' => Some(Listen::ToNothing),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_they_say() {
        let to = |name: &str| Some(Listen::To(name.as_bytes().into()));
        assert_eq!(Listen::parse(b"LISTEN A;"), to("a"));
        assert_eq!(Listen::parse(b"/* x */ listen \"A b\""), to("A b"));
        assert_eq!(Listen::parse(b"UNLISTEN *"), Some(Listen::ToNothing));
        assert_eq!(Listen::parse(b"unlisten c"), Some(Listen::NoMoreTo(b"c"[..].into())));
        for other in ["LISTEN a; SELECT 1", "SELECT 1", "LISTEN", "LISTEN 'a'", "LISTEN a b", "lock t"] {
            assert_eq!(Listen::parse(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn stand_ins_tell_what_they_stand_for() {
        for listen in
            [Listen::To(b"a*/b"[..].into()), Listen::NoMoreTo(b"\xff"[..].into()), Listen::ToNothing]
        {
            assert_eq!(Listen::stood_for(&listen.stand_in()), Some(listen));
        }
    }
}
