//! FLUSH CACHE: of all results, of those of a shape, or of those that were read from a table.

use super::command::Answer;
use crate::cache::Cache;
use crate::core::error::{Error, SqlState};
use crate::fence::versions::Cause;
use crate::session::shared::Shared;

/// Carries it out, given what follows the first word.
///
/// # Errors
/// 42601 for what cannot be meant, 42704 for a table that no database in use has, 55000 where nothing is kept.
pub fn run(shared: &Shared, words: &[&str]) -> Result<Answer, Error> {
    let wrong = || {
        Error::statement(
            SqlState::SYNTAX_ERROR,
            "FLUSH knows CACHE, CACHE TABLE name and CACHE SHAPE fingerprint",
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
        [] => cache.flush(),
        [kind, print] if kind.eq_ignore_ascii_case("shape") => {
            let digits = print.trim_matches(['\'', '"']);
            let shape =
                u128::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 32).ok_or_else(wrong)?;
            cache.flush_shape(shape);
        }
        [kind, name @ ..] if kind.eq_ignore_ascii_case("table") && !name.is_empty() => {
            let name: String = name.concat();
            table(shared, cache, name.trim_matches(['\'', '"']))?;
        }
        _ => return Err(wrong()),
    }
    Ok(Answer::Done("FLUSH CACHE"))
}

/// Outdates what was read from the tables of this name, with or without a schema, in every database in use.
fn table(shared: &Shared, cache: &Cache, name: &str) -> Result<(), Error> {
    let mut known = false;
    for pool in shared.pools.of(None) {
        let schema = &pool.schema;
        let versions = cache.versions.of(&pool.purpose.dbname);
        let Some(catalog) = schema.catalog(schema.view()) else {
            // Which tables there are is not known: all of them, then.
            versions.move_all(Cause::Tables);
            known = true;
            continue;
        };
        let meant = catalog.relations().iter().filter(|relation| {
            *relation.name == *name
                || name.contains('.') && catalog.name_of(relation.oid).as_deref() == Some(name)
        });
        let tables: Vec<u32> = meant.map(|relation| relation.oid).collect();
        known |= !tables.is_empty();
        versions.move_tables(&tables);
    }
    if known {
        return Ok(());
    }
    let text = format!("no database in use has a table \"{}\"", name.escape_debug());
    Err(Error::statement(SqlState::UNDEFINED_OBJECT, text))
}
