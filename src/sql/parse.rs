//! The only caller of sqlparser: a plain text to a syntax tree, under caps, so that no statement takes long or deep to
//! parse. What it says is for understanding; it is never printed to a server.

use sqlparser::ast::Statement;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserError};

use super::normal::Tok;
use crate::sql::lex::Kind;

/// Longest normal form that is parsed, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// Most operators, and most words that chain queries or conditions: a tree may be as deep as there are.
const MAX_CHAIN: usize = 512;
/// Deepest nesting of parentheses.
const MAX_DEPTH: usize = 48;
/// How deep the parser may go.
const RECURSION: usize = 96;

/// Why a statement is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gap {
    /// Longer than is parsed.
    Long,
    /// More operators or set operations than are parsed.
    Chain,
    /// Nested deeper than is parsed.
    Deep,
    /// Syntax that is unknown to the parser, or wrong.
    Syntax,
    /// A client encoding in which bytes of one character look like others.
    Encoding,
}

impl Gap {
    /// All of them, in order.
    pub const ALL: [Gap; 5] = [Gap::Long, Gap::Chain, Gap::Deep, Gap::Syntax, Gap::Encoding];

    /// A label for metrics and people.
    pub fn label(self) -> &'static str {
        match self {
            Gap::Long => "too long",
            Gap::Chain => "too many operators",
            Gap::Deep => "nested too deep",
            Gap::Syntax => "syntax",
            Gap::Encoding => "encoding",
        }
    }
}

/// Whether these tokens may be parsed at all.
///
/// # Errors
/// Why not.
pub fn within_caps(tokens: &[Tok<'_>], bytes: usize) -> Result<(), Gap> {
    if bytes > MAX_BYTES {
        return Err(Gap::Long);
    }
    let (mut depth, mut chain) = (0usize, 0usize);
    for t in tokens {
        match t.kind {
            Kind::Punct if matches!(t.text, b"(" | b"[") => depth += 1,
            Kind::Punct if matches!(t.text, b")" | b"]") => depth = depth.saturating_sub(1),
            Kind::Punct if t.text == b":" => chain += 1,
            Kind::Operator => chain += 1,
            Kind::Word
                if t.is_any(&[
                    "union",
                    "intersect",
                    "except",
                    "and",
                    "or",
                    "not",
                    "join",
                    "case",
                    "collate",
                    "at",
                ]) =>
            {
                chain += 1;
            }
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(Gap::Deep);
        }
        if chain > MAX_CHAIN {
            return Err(Gap::Chain);
        }
    }
    Ok(())
}

/// Parses one statement.
///
/// # Errors
/// It is not understood.
pub fn parse(text: &str) -> Result<Statement, Gap> {
    parse_or_why(text)
        .map_err(|e| if matches!(e, ParserError::RecursionLimitExceeded) { Gap::Deep } else { Gap::Syntax })
}

/// As [`parse`], with what the parser says.
///
/// # Errors
/// The parser's.
pub fn parse_or_why(text: &str) -> Result<Statement, ParserError> {
    let mut parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(RECURSION).try_with_sql(text)?;
    let statement = parser.parse_statement()?;
    match parser.peek_token().token {
        sqlparser::tokenizer::Token::EOF => Ok(statement),
        other => Err(ParserError::ParserError(format!("unexpected {other}"))),
    }
}
