//! What a report is told of those who write past this process: by the server, as far as its tables are watched
//! ([`crate::cache::outside`]), and by other processes, where they tell each other ([`crate::cache::strict`]).

use std::sync::Arc;
use std::time::Duration;

use crate::cache::outside::Outside;
use crate::cache::strict::{Board, Seen};
use crate::config::{Config, Database};
use crate::core::clock::Instant;
use crate::fence::versions::Stamp;
use crate::plan::touch::Reach;
use crate::session::shared::Shared;

/// See the module: of one database.
#[derive(Clone, Debug, Default)]
pub struct Elsewhere {
    outside: Option<Arc<Outside>>,
    /// With how long Redis may take.
    board: Option<(Arc<Board>, Duration)>,
}

impl Elsewhere {
    /// Of a database.
    pub fn of(shared: &Shared, config: &Config, database: &Database) -> Elsewhere {
        let Some(cache) = &shared.cache else { return Elsewhere::default() };
        let (name, dbname) = config.place(database);
        let told = database.invalidation.is_told();
        let strict = config.strict_places().any(|(at, of, _)| (at, of) == (name.clone(), dbname.clone()));
        let redis = config.redis.as_ref().filter(|_| strict);
        Elsewhere {
            outside: told.then(|| cache.outsides.of(&name, &dbname)),
            board: redis.map(|redis| (cache.board(&name, &dbname), redis.deadline)),
        }
    }

    /// How these tables stand among all processes, where they tell each other. Nothing at all where somebody is about to write
    /// to them, or that cannot be known.
    pub async fn look(&self, reach: &Reach) -> Option<Option<Seen>> {
        match (&self.board, reach) {
            (None, _) => Some(None),
            (Some((board, patience)), Reach::Tables(tables)) => board.look(tables, *patience).await.map(Some),
            // Nobody can look at every table.
            (Some(_), Reach::Anything) => None,
        }
    }

    /// The stamp of what is read from now on, where the server tells of writes to these tables: of others, time alone tells.
    /// Nothing at all where such a write may be missed.
    pub fn stamp(&self, reach: &Reach) -> Option<Option<Stamp>> {
        let Some(outside) = self.outside.as_ref().filter(|outside| outside.tells_of(tables(reach))) else {
            return Some(None);
        };
        outside.stamp_of_any(tables(reach), Instant::now()).map(Some)
    }

    /// When definitions may last have become others.
    pub fn defined(&self) -> Option<Instant> {
        self.outside.as_ref()?.defined()
    }

    /// When a write was last found to be visible: which replicas have it is not known.
    pub fn found(&self) -> Option<Instant> {
        self.outside.as_ref()?.found()
    }

    /// Whether only the primary has what is as fresh as that.
    pub fn is_strict(&self) -> bool {
        self.board.is_some()
    }

    /// How often the server has told of writes to this table; of any, where it is not known.
    pub fn moves(&self, table: Option<u32>) -> u64 {
        self.outside.as_ref().map_or(0, |outside| outside.moves_of(table))
    }

    /// How often other processes have written to these tables, as far as can be known now.
    pub async fn marks(&self, reach: &Reach) -> Option<Seen> {
        let (board, patience) = self.board.as_ref()?;
        board.moves(tables(reach)?, *patience).await
    }
}

fn tables(reach: &Reach) -> Option<&[u32]> {
    match reach {
        Reach::Tables(tables) => Some(tables),
        Reach::Anything => None,
    }
}
