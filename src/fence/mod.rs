//! Which replica has seen which write, as plain numbers: no server is asked here, and no clock.
//!
//! WAL positions of commits are unknown to a proxy: the protocol does not tell them. But the primary's position can be
//! sampled again and again, and samples can be counted. A sample takes its number *before* it is asked for. A write
//! that is acknowledged while `n` is the last number taken is therefore covered by every sample with a greater number:
//! that was asked for after the commit. So a fence is such an `n`, and one number per replica, the greatest whose
//! position it has replayed, says what the replica may serve: what is fenced by less.
//!
//! [`Clock`] counts the samples and keeps the last of them; [`Passed`] is how far a replica is; [`Fences`] and [`Own`]
//! are the fences of a database's tables and of one session. [`lsn`] reads positions, [`Snapshot`] what a transaction sees. [`versions`] tells whether
//! anything has been written at all since a result was read.
//!
//! This works as long as replicas replay what the primary has written, and nothing else: whoever keeps a [`Passed`] sees
//! to that (timelines), and calls [`Clock::rebase`] when another server has become the primary.

mod clock;
pub mod lsn;
mod own;
mod snapshot;
mod tables;
pub mod versions;

pub use clock::{Clock, Passed, Sample};
pub use lsn::{Geometry, Lsn};
pub use own::Own;
pub use snapshot::Snapshot;
pub use tables::{Fences, SLOTS, slot};

/// A number of a sample; see the module.
pub type Number = u64;

/// What nothing was written before: any replica is past it.
pub const NONE: Number = 0;

/// Whether a replica that has passed `passed` may serve what is fenced by `fence`.
#[inline]
pub fn is_past(passed: Number, fence: Number) -> bool {
    fence == NONE || passed > fence
}

#[cfg(test)]
mod tests;
