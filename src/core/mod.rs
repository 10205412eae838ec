//! Floor 0: what everything else stands on: errors, bounds, counters, events. Imports nothing of ours.

pub mod board;
pub mod budget;
pub mod clock;
pub mod durations;
pub mod error;
pub mod hashed;
pub mod keyfile;
pub mod latency;
pub mod ledger;
pub mod limits;
pub mod stats;
pub mod tally;
pub mod work;
