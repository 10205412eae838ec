//! Asking the primary what no probe asks, over a connection that is kept.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;

use super::probe::{self, Choice, Line};
use super::{Cluster, Member};
use crate::core::error::{Error, Result, SqlState};

/// Longest that an answer may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Values of one row, as texts.
pub type Row = Vec<Option<String>>;

/// Whoever asks.
#[derive(Default)]
pub struct Asker {
    line: Option<(Arc<Member>, Line)>,
    choice: Choice,
}

impl Asker {
    /// Who is the primary, and the rows of its answer.
    ///
    /// # Errors
    /// There is no primary, it does not answer in time, or it refuses.
    pub async fn primary(&mut self, cluster: &Cluster, question: &str) -> Result<(Arc<Member>, Vec<Row>)> {
        let primary = cluster.primary().ok_or_else(|| {
            Error::backend(SqlState::CANNOT_CONNECT_NOW, "there is no primary to be asked".to_string())
        })?;
        let asked = self.ask(cluster, &primary, question);
        let rows = tokio::time::timeout(LIMIT, asked).await.unwrap_or_else(|_| {
            Err(Error::backend(SqlState::CONNECTION_FAILURE, format!("no answer within {LIMIT:?}")))
        });
        if rows.is_err() {
            self.line = None;
        }
        Ok((primary, rows?))
    }

    async fn ask(&mut self, cluster: &Cluster, member: &Arc<Member>, question: &str) -> Result<Vec<Row>> {
        let same = |(of, line): &(Arc<Member>, Line)| {
            Arc::ptr_eq(of, member) && line.generation == member.target.generation()
        };
        if !self.line.as_ref().is_some_and(same) {
            self.line = Some((member.clone(), probe::open(cluster, member, &mut self.choice).await?));
        }
        let Some((_, line)) = &self.line else { return Ok(Vec::new()) };
        let messages = line.kept.client.simple_query(question).await.map_err(probe::failed)?;
        let row = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|i| row.get(i).map(str::to_string)).collect())
            }
            _ => None,
        };
        Ok(messages.iter().filter_map(row).collect())
    }
}
