//! What may be said to the admin database: SHOW, and whatever psql and drivers say by themselves.

use std::sync::Arc;

use super::operate;
use super::show;
use super::table::{Cell, Table, Type};
use super::{mirrors, tenants};
use crate::core::error::{Error, SqlState};
use crate::session::shared::Shared;
use crate::sql::lex::{Kind, Lexer, Token};

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// User name.
    pub user: String,
    /// Whether commands that change something are allowed.
    pub admin: bool,
}

/// An answer to one statement.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing was asked.
    Empty,
    /// Rows, and the tag that ends them.
    Rows(Table, String),
    /// Only a tag.
    Done(&'static str),
    /// A transaction begins or ends, for the status that drivers look at.
    Transaction(bool, &'static str),
}

/// Splits a string into statements, by its tokens.
pub fn statements(text: &str) -> Vec<&str> {
    let (mut out, mut start) = (Vec::new(), 0);
    for token in Lexer::new(text.as_bytes(), true) {
        if &text.as_bytes()[token.start..token.end] == b";" {
            out.push(&text[start..token.start]);
            start = token.end;
        }
    }
    out.push(&text[start..]);
    out.retain(|s| Lexer::new(s.as_bytes(), true).next().is_some());
    out
}

/// Carries out one statement.
///
/// # Errors
/// 42601 for what is not known here, with the way out.
pub async fn answer(shared: &Arc<Shared>, caller: &Caller, statement: &str) -> Result<Answer, Error> {
    if let Some(words) = operation(statement) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        return operate::run(shared, caller, &words).await;
    }
    look(shared, caller, statement)
}

/// The words of a command that changes something.
pub fn operation(statement: &str) -> Option<Vec<String>> {
    let tokens = Lexer::new(statement.as_bytes(), true);
    let words: Vec<String> = tokens.map(|t| text(statement, &t).to_string()).filter(|w| w != ";").collect();
    let joined = match words.as_slice() {
        // As two words, too.
        [kill, client, id] if kill.eq_ignore_ascii_case("kill") && client.eq_ignore_ascii_case("client") => {
            vec!["KILL_CLIENT".to_string(), id.clone()]
        }
        _ => words,
    };
    joined.first().is_some_and(|word| operate::is_command(word)).then_some(joined)
}

/// Answers what changes nothing.
///
/// # Errors
/// 42601 for what is not known here, with the way out.
pub fn look(shared: &Shared, caller: &Caller, statement: &str) -> Result<Answer, Error> {
    let tokens: Vec<Token> = Lexer::new(statement.as_bytes(), true).collect();
    let words: Vec<&str> = tokens.iter().map(|t| text(statement, t)).collect();
    let Some(first) = words.first() else { return Ok(Answer::Empty) };
    match first.to_ascii_lowercase().as_str() {
        "show" => show(shared, &words),
        "help" => Ok(rows(show::help(), "SHOW")),
        "select" | "with" | "values" | "table" => foreign(caller, statement, &tokens, shared),
        "set" => Ok(Answer::Done("SET")),
        "reset" => Ok(Answer::Done("RESET")),
        "begin" => Ok(Answer::Transaction(true, "BEGIN")),
        "start" => Ok(Answer::Transaction(true, "START TRANSACTION")),
        "commit" | "end" => Ok(Answer::Transaction(false, "COMMIT")),
        "rollback" | "abort" => Ok(Answer::Transaction(false, "ROLLBACK")),
        "discard" => Ok(Answer::Done("DISCARD ALL")),
        "deallocate" => Ok(Answer::Done("DEALLOCATE")),
        "listen" => Ok(Answer::Done("LISTEN")),
        "unlisten" => Ok(Answer::Done("UNLISTEN")),
        _ => Err(unknown(first)),
    }
}

fn unknown(word: &str) -> Error {
    let shown: String = word.chars().take(40).collect();
    Error::statement(SqlState::SYNTAX_ERROR, format!("unknown admin command \"{}\"", shown.escape_debug()))
        .hint("SHOW HELP lists the commands.")
}

fn show(shared: &Shared, words: &[&str]) -> Result<Answer, Error> {
    let name = words.get(1).map(|w| w.to_ascii_lowercase()).unwrap_or_else(|| "help".to_string());
    if let ("mirror", Some(mirror)) = (name.as_str(), words.get(2).filter(|word| **word != ";")) {
        return Ok(rows(mirrors::shapes(shared, Some(mirror.trim_matches(['"', '\'']))), "SHOW"));
    }
    if let ("tenants", Some(name)) = (name.as_str(), words.get(2).filter(|word| **word != ";")) {
        let rest = words[3..].iter().take_while(|word| **word != ";");
        let name: String =
            [name].into_iter().chain(rest).map(|word| word.trim_matches(['"', '\''])).collect();
        return Ok(rows(tenants::named(shared, &name), "SHOW"));
    }
    if let Some(command) = show::COMMANDS.iter().find(|c| c.names.contains(&name.as_str())) {
        return Ok(rows((command.run)(shared), "SHOW"));
    }
    // Drivers look at these when they connect.
    let setting = words[1..].concat().to_ascii_lowercase();
    match super::session::PARAMETERS.iter().find(|(n, _)| n.to_ascii_lowercase() == setting) {
        Some((name, value)) => {
            let mut table = Table { columns: vec![((*name).to_string(), Type::Text)], rows: Vec::new() };
            table.rows.push(vec![(*value).into()]);
            Ok(rows(table, "SHOW"))
        }
        None => Err(unknown(words.get(1).copied().unwrap_or("SHOW"))),
    }
}

fn rows(table: Table, tag: &str) -> Answer {
    Answer::Rows(table, tag.to_string())
}

fn text<'a>(statement: &'a str, token: &Token) -> &'a str {
    statement.get(token.start..token.end).unwrap_or_default()
}

/// A statement meant for Postgres' catalogs. There are none here: the columns are those of its select list, the rows
/// none; without FROM there is one row, with what can be known.
///
/// # Errors
/// 0A000 for what would have to be computed.
fn foreign(caller: &Caller, statement: &str, tokens: &[Token], shared: &Shared) -> Result<Answer, Error> {
    let list = SelectList::of(statement, tokens);
    if !list.from && list.items.iter().any(|item| item.computed) {
        return Err(Error::statement(SqlState::FEATURE_NOT_SUPPORTED, "nothing is computed here")
            .detail("This is the admin database: there is no server behind it.")
            .hint("SHOW HELP lists the commands."));
    }
    let columns = list.items.iter().map(|item| (item.name.clone(), Type::Text)).collect();
    let mut table = Table { columns, rows: Vec::new() };
    if !list.from {
        let database = &shared.config.load().admin.database;
        table.rows.push(list.items.iter().map(|item| scalar(&item.expression, caller, database)).collect());
    }
    let tag = format!("SELECT {}", table.rows.len());
    Ok(Answer::Rows(table, tag))
}

/// The value of an expression that drivers ask for.
fn scalar(expression: &str, caller: &Caller, database: &str) -> Cell {
    let folded = expression.to_ascii_lowercase();
    match folded.strip_prefix("pg_catalog.").unwrap_or(&folded) {
        "version()" => format!("PostgreSQL {}", super::session::server_version()).into(),
        "current_database()" | "current_catalog" => database.into(),
        "current_user" | "session_user" | "user" => caller.user.as_str().into(),
        "current_schema()" | "current_schema" => "public".into(),
        "pg_is_in_recovery()" => "f".into(),
        "true" => "t".into(),
        "false" => "f".into(),
        _ => match expression.strip_prefix('\'').and_then(|e| e.strip_suffix('\'')) {
            Some(literal) => literal.replace("''", "'").into(),
            None if expression.parse::<i64>().is_ok() => expression.into(),
            None => Cell::Null,
        },
    }
}

struct Item {
    name: String,
    expression: String,
    /// It has an operator that is no sign of a number.
    computed: bool,
}

struct SelectList {
    items: Vec<Item>,
    from: bool,
}

impl SelectList {
    /// The outermost SELECT's list: what stands between it and FROM, split at commas.
    fn of(statement: &str, tokens: &[Token]) -> SelectList {
        let (mut depth, mut items, mut item, mut inside, mut from) =
            (0i32, Vec::new(), Vec::new(), false, false);
        for token in tokens {
            let word = text(statement, token);
            depth += i32::from(matches!(word, "(" | "[")) - i32::from(matches!(word, ")" | "]"));
            let top = depth == 0 && token.kind != Kind::String;
            match word.to_ascii_lowercase().as_str() {
                "select" if top && !inside => inside = true,
                "distinct" | "all" if top && item.is_empty() => {}
                "from" | "where" | "union" | "limit" | "order" | ";" if top && inside => {
                    from = !word.starts_with(';');
                    break;
                }
                "," if top && inside => items.push(named(statement, &std::mem::take(&mut item))),
                _ if inside => item.push(*token),
                _ => {}
            }
        }
        if !item.is_empty() {
            items.push(named(statement, &item));
        }
        SelectList { items, from }
    }
}

/// An item's name: its alias, else its last word, as Postgres would nearly have it.
fn named(statement: &str, tokens: &[Token]) -> Item {
    let is_as = |t: &Token| text(statement, t).eq_ignore_ascii_case("as");
    let (expression, alias) = match tokens {
        [expression @ .., word, alias] if is_as(word) => (expression, Some(alias)),
        all => (all, None),
    };
    let name_like = |t: &&Token| matches!(t.kind, Kind::Word | Kind::Quoted);
    let name = alias
        .or_else(|| expression.iter().rev().find(name_like))
        .map(|t| text(statement, t).trim_matches('"'));
    Item {
        name: name.unwrap_or("?column?").to_string(),
        expression: expression.iter().map(|t| text(statement, t)).collect(),
        computed: expression.iter().skip(1).any(|t| t.kind == Kind::Operator),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_statements() {
        let check = |sql: &str, want: &[&str]| {
            assert_eq!(statements(sql).iter().map(|s| s.trim()).collect::<Vec<_>>(), want, "{sql}");
        };
        check("SHOW POOLS; show stats;", &["SHOW POOLS", "show stats"]);
        check(" ; -- nothing\n ;", &[]);
        check("SELECT ';' ; /* ; */ SHOW HELP", &["SELECT ';'", "/* ; */ SHOW HELP"]);
    }

    #[test]
    fn select_lists() {
        let check = |sql: &str, want: &[&str], from: bool| {
            let tokens: Vec<Token> = Lexer::new(sql.as_bytes(), true).collect();
            let list = SelectList::of(sql, &tokens);
            assert_eq!(list.items.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), want, "{sql}");
            assert_eq!(list.from, from, "{sql}");
        };
        check("SELECT 1", &["?column?"], false);
        check("SELECT version()", &["version"], false);
        check(
            "SELECT n.nspname as \"Schema\", (SELECT 1, 2), c.x FROM pg_class c",
            &["Schema", "SELECT", "x"],
            true,
        );
        check("WITH a AS (SELECT 1 FROM x) SELECT b AS c FROM a", &["c"], true);
        check("SELECT 'a, from b' AS x, count(*)", &["x", "count"], false);
    }
}
