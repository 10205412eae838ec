//! EXPLAIN (ROUTE): what a plan says, in rows like EXPLAIN's.

use std::ops::Range;

use serde_json::{Value, json};

use super::{Class, Plan};
use crate::core::clock::Instant;
use crate::sql::lex::{Kind, Lexer};
use crate::sql::shape::Shape;

/// What someone wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Whether it is to be run, too.
    pub analyze: bool,
    /// Whether as JSON.
    pub json: bool,
    /// Where the statement is that it is about.
    pub inner: Range<usize>,
}

/// Where a statement would go, besides what its plan says.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Database and user, as the pool has them.
    pub pool: String,
    /// The backend and its address.
    pub backend: String,
    /// Whose work it is, by what that is known, how soon it is wanted, and what that one has; nothing where there are no
    /// tenants.
    pub tenant: String,
    /// Of a cluster, every server: its name, what it is and how well, and why it was or was not taken.
    pub servers: Vec<(String, String)>,
    /// The `[[route]]` that it goes by, if one matches.
    pub rule: String,
    /// What holds for it besides, with who says so.
    pub directions: String,
    /// What the cache has for it, or why nothing; empty where results are not kept at all.
    pub cache: String,
    /// Why the client keeps its connection.
    pub pins: Vec<&'static str>,
    /// Whether a transaction is open.
    pub in_transaction: bool,
}

/// Where the time of a statement went that has been run, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Until there was a server connection.
    pub queue_us: u64,
    /// Opening one, where that was needed for this statement.
    pub connect_us: u64,
    /// Until the server's first answer.
    pub backend_us: u64,
    /// From then to its last.
    pub transfer_us: u64,
    /// Rows that it sent.
    pub rows: u64,
    /// Bytes that it sent.
    pub bytes: u64,
}

/// Reads `EXPLAIN (ROUTE [, ANALYZE] [, FORMAT TEXT | JSON]) statement`. `None` for anything else: what has other
/// options is the server's to answer.
pub fn wanted(text: &[u8], shape: &Shape) -> Option<Wanted> {
    if shape.statements.len() == 1 && shape.normal.starts_with(b"explain ( ") { read(text) } else { None }
}

/// As [`wanted`], of a text that is one statement. What is wrong with it the server says best.
pub fn read(text: &[u8]) -> Option<Wanted> {
    let wanted = head(text)?;
    let inner = &text[wanted.inner.clone()];
    let first = Lexer::new(inner, true).next().map(|t| &inner[t.start..t.end]);
    let empty = first.is_none_or(|token| token == b";");
    (!empty && head(inner).is_none()).then_some(wanted)
}

fn head(text: &[u8]) -> Option<Wanted> {
    let mut tokens = Lexer::new(text, true);
    let mut words = Vec::new();
    let mut next = || tokens.next().map(|t| (t.kind, t.start, t.end));
    let word = |(kind, start, end): (Kind, usize, usize)| (kind, text[start..end].to_ascii_lowercase());
    (word(next()?).1 == b"explain" && word(next()?).1 == b"(").then_some(())?;
    let mut end = loop {
        let token = next()?;
        let (kind, bytes) = word(token);
        match bytes.as_slice() {
            b")" => break token.2,
            _ if matches!(kind, Kind::Word | Kind::Punct) => words.push(String::from_utf8(bytes).ok()?),
            _ => return None,
        }
    };
    let mut wanted = Wanted { analyze: false, json: false, inner: 0..0 };
    let mut route = false;
    for option in words.split(|w| w == ",") {
        let on = || match option.get(1).map(String::as_str) {
            None | Some("true" | "on" | "1") => Some(true),
            Some("false" | "off" | "0") => Some(false),
            Some(_) => None,
        };
        match option.first()?.as_str() {
            "route" => route = on()?,
            "analyze" | "analyse" => wanted.analyze = on()?,
            "format" if option.len() == 2 => match option[1].as_str() {
                "json" => wanted.json = true,
                "text" => wanted.json = false,
                _ => return None,
            },
            _ => return None,
        }
    }
    end += text[end..].iter().take_while(|b| b.is_ascii_whitespace()).count();
    wanted.inner = end..text.len();
    (route && end < text.len()).then_some(wanted)
}

/// What a plan says, as JSON.
fn report(plan: &Plan, place: &Place, spent: Option<Spent>) -> Value {
    let statement = |facts: &crate::sql::facts::Facts| {
        let relations = facts.relations.iter().map(|r| {
            let columns: serde_json::Map<String, Value> =
                r.columns.iter().map(|(name, roles)| (name.to_string(), json!(roles.labels()))).collect();
            json!({ "Name": r.name.to_string(), "Read": r.read, "Written": r.written, "Columns": columns })
        });
        json!({
            "Verb": facts.verb,
            "Effect": facts.effect.label(),
            "Understood": facts.gap.map_or(json!(true), |gap| json!(gap.label())),
            "Locks Rows": facts.locks,
            "Tables": relations.collect::<Vec<_>>(),
            "Functions": facts.calls.iter().map(|c| c.name.to_string()).collect::<Vec<_>>(),
        })
    };
    let kept = plan.traces.of(crate::sql::effect::Traces::STATEFUL);
    let mut report = json!({
        "Route": place.backend,
        "Pool": place.pool,
        "Tenant": place.tenant,
        "Servers": place.servers.iter().map(|(name, text)| json!({ "Name": name, "State": text })).collect::<Vec<_>>(),
        "Rule": place.rule,
        "Directions": place.directions,
        "Cache": place.cache,
        "Class": plan.class.label(),
        "Reasons": plan.reasons.iter().map(|r| r.text.clone()).collect::<Vec<_>>(),
        "Fingerprint": format!("{:032x}", plan.fingerprint),
        "Shape": plan.shown(4096),
        "Statements": plan.statements.iter().map(statement).collect::<Vec<_>>(),
        "Session Effects": kept.labels(),
        "Pins": place.pins,
        "In Transaction": place.in_transaction,
        "Plan Age": Instant::now().since(plan.built).as_secs(),
        "Plan Calls": plan.parts.total().calls,
        "Planning Time": plan.build_us as f64 / 1000.0,
    });
    if let Some(spent) = spent {
        report["Spent"] = json!({
            "Queue": spent.queue_us as f64 / 1000.0,
            "Connect": spent.connect_us as f64 / 1000.0,
            "Backend": spent.backend_us as f64 / 1000.0,
            "Transfer": spent.transfer_us as f64 / 1000.0,
            "Rows": spent.rows,
            "Bytes": spent.bytes,
        });
    }
    report
}

/// The rows of the answer: lines, or one of JSON.
pub fn rows(plan: &Plan, place: &Place, spent: Option<Spent>, as_json: bool) -> Vec<String> {
    let report = report(plan, place, spent);
    if as_json {
        return vec![serde_json::to_string_pretty(&json!([report])).unwrap_or_default()];
    }
    let mut lines = vec![format!("Route: {}", place.backend)];
    if !place.pool.is_empty() {
        lines.push(format!("  Pool: {}", place.pool));
    }
    let mut say = |indent: usize, label: &str, text: String| {
        if !text.is_empty() {
            lines.push(format!("{}{label}: {text}", " ".repeat(indent)));
        }
    };
    say(2, "Tenant", place.tenant.clone());
    let class = if plan.class == Class::Read {
        "read (any server that has the data may serve it)"
    } else {
        "primary"
    };
    say(2, "Class", class.into());
    plan.reasons
        .iter()
        .for_each(|reason| say(4, if reason.against { "Because" } else { "Noted" }, reason.text.to_string()));
    say(2, "Rule", place.rule.clone());
    say(2, "Directions", place.directions.clone());
    place.servers.iter().for_each(|(name, text)| say(2, &format!("Server {name}"), text.clone()));
    say(2, "Cache", place.cache.clone());
    say(2, "Fingerprint", format!("{:032x}", plan.fingerprint));
    say(2, "Shape", plan.shown(500));
    plan.statements.iter().for_each(|facts| statement_lines(facts, &mut say));
    let kept = plan.traces.of(crate::sql::effect::Traces::STATEFUL).labels();
    say(2, "Session Effects", kept.join(", "));
    say(2, "Pins", place.pins.join(", "));
    let age = Instant::now().since(plan.built);
    say(
        2,
        "Plan",
        format!("built {} s ago in {} us, {} calls", age.as_secs(), plan.build_us, plan.parts.total().calls),
    );
    if let Some(s) = spent {
        let ms = |us: u64| format!("{:.3} ms", us as f64 / 1000.0);
        say(2, "Queue", ms(s.queue_us));
        say(2, "Connect", ms(s.connect_us));
        say(2, "Backend", ms(s.backend_us));
        say(2, "Transfer", format!("{}, {} rows, {} bytes", ms(s.transfer_us), s.rows, s.bytes));
    }
    lines
}

/// What one statement means, in lines.
fn statement_lines(facts: &crate::sql::facts::Facts, say: &mut impl FnMut(usize, &str, String)) {
    let gap = facts.gap.map_or_else(String::new, |gap| format!(", not understood ({})", gap.label()));
    let locks = if facts.locks { ", locks rows" } else { "" };
    say(2, "Statement", format!("{} ({}{locks}{gap})", facts.verb, facts.effect.label()));
    for relation in &facts.relations {
        let way = match (relation.read, relation.written) {
            (true, true) => "read and written",
            (_, true) => "written",
            _ => "read",
        };
        let columns =
            relation.columns.iter().map(|(name, roles)| format!("{name} ({})", roles.labels().join(", ")));
        let columns = columns.collect::<Vec<_>>().join(", ");
        say(
            4,
            "Table",
            format!("{}, {way}{}{columns}", relation.name, if columns.is_empty() { "" } else { "; " }),
        );
    }
    let calls = facts.calls.iter().map(|c| c.name.to_string()).collect::<Vec<_>>();
    say(4, "Functions", calls.join(", "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted() {
        let read = |sql: &str| read(sql.as_bytes()).map(|w| (w.analyze, w.json, sql[w.inner].to_string()));
        assert_eq!(read("EXPLAIN (ROUTE) SELECT 1"), Some((false, false, "SELECT 1".into())));
        assert_eq!(
            read("explain ( analyze , route, format json )\n(SELECT 1)"),
            Some((true, true, "(SELECT 1)".into()))
        );
        assert_eq!(read("EXPLAIN (ROUTE on, ANALYZE off) SELECT 1").map(|w| w.0), Some(false));
        for other in [
            "EXPLAIN SELECT 1",
            "EXPLAIN (ANALYZE) SELECT 1",
            "EXPLAIN (ROUTE, BUFFERS) SELECT 1",
            "EXPLAIN (ROUTE off) SELECT 1",
            "EXPLAIN (ROUTE)",
            "EXPLAIN (ROUTE) ;",
            "EXPLAIN (ROUTE) -- nothing",
            "EXPLAIN (ROUTE",
            "EXPLAIN (ROUTE, FORMAT XML) SELECT 1",
            "EXPLAIN (ROUTE) EXPLAIN (ROUTE) SELECT 1",
            "EXPLAIN (ROUTE maybe) SELECT 1",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
