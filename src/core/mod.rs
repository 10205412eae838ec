//! Floor 0: what everything else stands on: errors, bounds, counters, events. Imports nothing of ours.

pub mod clock;
pub mod error;
pub mod limits;
pub mod stats;
