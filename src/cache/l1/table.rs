//! Where results are in memory, and which of them make room for others: a modified Clock-PRO (S. Jiang, F. Chen, X. Zhang:
//! CLOCK-Pro, 2005), much like S3-FIFO (J. Yang and others: FIFO queues are all you need for cache eviction, 2023). Whoever
//! reads everything once takes the place of nothing that is asked for again.

use std::sync::Arc;

use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};
use smallvec::SmallVec;

use super::account::Stats;
use super::entry::Entry;
use crate::core::hashed::Hashed;

/// Results, by half of the hash of their keys.
pub(super) type Table = Cache<u64, Arc<Entry>, Weight, Hashed, Evicted>;

/// Bytes of a result, with what keeping it takes, that there may usually be: room for so many is planned for.
const USUAL: u64 = 1024;
/// Each part of the table has a lock and a bound of its own; one so small would have no room for large results.
const LEAST_PART: u64 = 32 << 20;
const MOST_PARTS: u64 = 64;

/// A table for about this much memory, in bytes.
pub(super) fn table(max_memory: u64, stats: Arc<Stats>) -> Result<Table, String> {
    let parts = (max_memory / LEAST_PART).clamp(1, MOST_PARTS);
    // Down to a power of two.
    let parts = 1 << parts.ilog2();
    let options = OptionsBuilder::new()
        .shards(parts)
        .estimated_items_capacity(usize::try_from(max_memory / USUAL).unwrap_or(usize::MAX))
        .weight_capacity(max_memory)
        .build()
        .map_err(|e| e.to_string())?;
    Ok(Table::with_options(options, Weight, Hashed, Evicted(stats)))
}

/// In bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight;

impl Weighter<u64, Arc<Entry>> for Weight {
    fn weight(&self, _: &u64, entry: &Arc<Entry>) -> u64 {
        u64::from(entry.weight())
    }
}

/// Counts results that had to make room.
#[derive(Clone, Debug)]
pub(super) struct Evicted(Arc<Stats>);

impl Lifecycle<u64, Arc<Entry>> for Evicted {
    /// Freed when others need not wait for it.
    type RequestState = SmallVec<[Arc<Entry>; 4]>;

    fn on_evict(&self, state: &mut Self::RequestState, _: u64, entry: Arc<Entry>) {
        self.0.evicted.add(1);
        state.push(entry);
    }
}
