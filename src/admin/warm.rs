//! WARM: has results read again that are asked for most.

use std::sync::Arc;

use super::command::Answer;
use super::table::Table;
use crate::core::error::{Error, SqlState};
use crate::session::shared::Shared;
use crate::session::warming;

/// The columns of its answer, if these are its words.
pub fn described(words: &[String]) -> Option<Table> {
    words.first()?.eq_ignore_ascii_case("warm").then(columns)
}

fn columns() -> Table {
    Table::new("known:n kept:n there:n not_kept:n")
}

/// Carries it out, for a database or all; tells how many were known, read and kept, there already, and not kept.
///
/// # Errors
/// 55000 where nothing is kept.
pub async fn run(shared: &Arc<Shared>, database: Option<&str>) -> Result<Answer, Error> {
    if shared.cache.is_none() {
        return Err(Error::statement(SqlState::WRONG_STATE, "no results are kept")
            .hint("Set general.cache_memory in the configuration."));
    }
    let warmed = warming::warm(shared, database).await;
    let mut table = columns();
    let counts = [warmed.known, warmed.kept, warmed.there, warmed.not];
    table.rows.push(counts.into_iter().map(Into::into).collect());
    Ok(Answer::Rows(table, "WARM".to_string()))
}
