//! FLUSH CACHE: of all results, of those of a shape, or of those that were read from a table.

use std::collections::BTreeSet;

use super::command::Answer;
use crate::cache::Cache;
use crate::cache::l1::Flush;
use crate::catalog::relation::Relation;
use crate::catalog::{Catalog, Oid};
use crate::core::error::{Error, SqlState};
use crate::fence::versions::Cause;
use crate::session::shared::Shared;
use crate::sql::lex::{Kind, Lexer};

/// Carries it out, given what follows the first word.
///
/// # Errors
/// 42601 for what cannot be meant, 3D000 for a database that is not configured, 42704 for a table that no database in use
/// has, 55000 where nothing is kept.
pub fn run(shared: &Shared, words: &[&str]) -> Result<Answer, Error> {
    let wrong = || {
        Error::statement(
            SqlState::SYNTAX_ERROR,
            "FLUSH knows CACHE, CACHE TABLE name [IN database] and CACHE SHAPE fingerprint",
        )
        .hint("SHOW HELP lists the commands.")
    };
    let [what, rest @ ..] = words else { return Err(wrong()) };
    if !what.eq_ignore_ascii_case("cache") {
        return Err(wrong());
    }
    let Some(cache) = &shared.cache else {
        return Err(Error::statement(SqlState::WRONG_STATE, "no results are kept")
            .hint("Set general.cache_memory in the configuration."));
    };
    match rest {
        [] => {
            cache.flush();
        }
        [kind, print @ ..] if kind.eq_ignore_ascii_case("shape") => {
            let print = print.concat();
            let digits = print.trim_matches(['\'', '"']);
            let shape =
                u128::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 32).ok_or_else(wrong)?;
            cache.flush_shape(shape);
        }
        [kind, name @ .., word, database] if kind.eq_ignore_ascii_case("table") && is_in(word) => {
            table(shared, cache, &Meant::read(name).ok_or_else(wrong)?, Some(&folded(database)))?;
        }
        [kind, name @ ..] if kind.eq_ignore_ascii_case("table") => {
            table(shared, cache, &Meant::read(name).ok_or_else(wrong)?, None)?;
        }
        _ => return Err(wrong()),
    }
    Ok(Answer::Done("FLUSH CACHE"))
}

fn is_in(word: &str) -> bool {
    word.eq_ignore_ascii_case("in")
}

/// A table as it is named in SQL: what is not quoted is in lower case.
#[derive(Debug, PartialEq, Eq)]
struct Meant {
    schema: Option<String>,
    name: String,
}

impl Meant {
    /// From its words; a string has them in it.
    fn read(words: &[&str]) -> Option<Meant> {
        let text = words.join(" ");
        let text = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap_or(&text);
        let tokens = Lexer::new(text.as_bytes(), true).map(|t| (t.kind, &text[t.start..t.end]));
        match tokens.collect::<Vec<_>>().as_slice() {
            [(Kind::Word | Kind::Quoted, name)] => Some(Meant { schema: None, name: folded(name) }),
            [(Kind::Word | Kind::Quoted, schema), (_, "."), (Kind::Word | Kind::Quoted, name)] => {
                Some(Meant { schema: Some(folded(schema)), name: folded(name) })
            }
            _ => None,
        }
    }

    /// The tables of this name, and all whose rows may be in them, or theirs in those.
    fn tables(&self, catalog: &Catalog) -> BTreeSet<Oid> {
        let mut found = BTreeSet::new();
        let schema = |relation: &Relation| catalog.schema_by_oid(relation.schema).map(|s| &*s.name);
        for relation in catalog.relations().iter().filter(|relation| *relation.name == *self.name) {
            if self.schema.as_deref().is_none_or(|wanted| schema(relation) == Some(wanted)) {
                around(catalog, relation, &mut found);
            }
        }
        found
    }
}

/// A relation, its parts, what it is a part of, and of a view what it reads.
fn around(catalog: &Catalog, relation: &Relation, found: &mut BTreeSet<Oid>) {
    if !found.insert(relation.oid) {
        return;
    }
    let read = relation.view.iter().flat_map(|view| view.relations.iter());
    for oid in relation.children.iter().chain(read) {
        if let Some(other) = catalog.relation_by_oid(*oid) {
            around(catalog, other, found);
        }
    }
    let mut above: Vec<Oid> = relation.parents.to_vec();
    while let Some(parent) = above.pop() {
        // Not its other parts: those have other rows.
        if found.insert(parent) {
            above.extend(catalog.relation_by_oid(parent).iter().flat_map(|parent| parent.parents.iter()));
        }
    }
}

/// A name as SQL has it.
fn folded(word: &str) -> String {
    match word.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => word.trim_matches('\'').to_ascii_lowercase(),
    }
}

/// Outdates what was read from the tables that are meant, in one database or in every one that results may be kept of.
fn table(shared: &Shared, cache: &Cache, meant: &Meant, database: Option<&str>) -> Result<(), Error> {
    let unknown = |name: &str| {
        let text = format!("database \"{}\" does not exist", name.escape_debug());
        Error::statement(SqlState::UNKNOWN_DATABASE, text)
    };
    let config = shared.config.load();
    let dbname = match database {
        Some(name) => {
            let known = config.database(name).ok_or_else(|| unknown(name))?;
            Some(known.dbname.clone().unwrap_or_else(|| name.to_string()))
        }
        None => None,
    };
    let (mut looked, mut found) = (Vec::new(), false);
    for pool in shared.pools.of(database) {
        let versions = cache.versions.of(&pool.purpose.dbname);
        looked.push(pool.purpose.dbname.clone());
        let Some(catalog) = pool.schema.catalog(pool.schema.view()) else {
            // Which tables there are is not known: all of them, then.
            versions.move_all(Cause::Flushed);
            found = true;
            continue;
        };
        let tables: Vec<Oid> = meant.tables(&catalog).into_iter().collect();
        if !tables.is_empty() {
            versions.move_tables(&tables, Cause::Flushed);
            found = true;
        }
    }
    // Those that nobody uses now, and that may have been used.
    for (name, versions) in cache.versions.databases() {
        let asked = dbname.as_deref().is_none_or(|wanted| *wanted == *name);
        if asked && !looked.iter().any(|known| **known == *name) {
            versions.move_all(Cause::Flushed);
            found = true;
        }
    }
    if found {
        // What other processes have kept of them would be as good as before.
        cache.count_flush();
        cache.stats.flush(Flush::Table);
        return Ok(());
    }
    let name = meant.schema.iter().chain([&meant.name]).cloned().collect::<Vec<_>>().join(".");
    let text = format!("no database in use has a table \"{}\"", name.escape_debug());
    Err(Error::statement(SqlState::UNDEFINED_OBJECT, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_named_as_in_sql() {
        let read = |words: &[&str]| Meant::read(words).map(|m| (m.schema, m.name));
        let named = |schema: Option<&str>, name: &str| Some((schema.map(str::to_string), name.to_string()));
        assert_eq!(read(&["Orders"]), named(None, "orders"));
        assert_eq!(read(&["\"Orders\""]), named(None, "Orders"));
        assert_eq!(read(&["Shop", ".", "\"My \"\"Orders\"\"\""]), named(Some("shop"), "My \"Orders\""));
        assert_eq!(read(&["'shop.orders'"]), named(Some("shop"), "orders"));
        for wrong in [&[][..], &["a", ".", "b", ".", "c"], &["a", "b", "c"], &["1"], &["''"]] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn parts_and_what_is_above_them_belong_together() {
        let relation = |oid: Oid, name: &str, parents: &[Oid], children: &[Oid]| Relation {
            oid,
            name: name.into(),
            parents: parents.into(),
            children: children.into(),
            ..Relation::default()
        };
        let relations = vec![
            relation(1, "all", &[], &[2, 3]),
            relation(2, "north", &[1], &[4]),
            relation(3, "south", &[1], &[]),
            relation(4, "town", &[2], &[]),
        ];
        let contents = crate::catalog::Contents { relations, ..Default::default() };
        let catalog = Catalog::new(contents, crate::core::clock::Instant::now());
        let tables = |name: &str| {
            let meant = Meant { schema: None, name: name.into() };
            meant.tables(&catalog).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(tables("all"), [1, 2, 3, 4]);
        assert_eq!(tables("north"), [1, 2, 4]);
        assert_eq!(tables("town"), [1, 2, 4]);
        assert_eq!(tables("south"), [1, 3]);
        assert!(tables("west").is_empty());
    }
}
