//! Which of several servers: pure decisions about who is well and who comes next. Nothing is asked here, nothing is
//! opened, and time is passed in.
//!
//! [`outcome`] is what can be said of one use of a server, [`latency`] how long uses took, [`health`] what follows from
//! both as a [`score`], [`outlier`] who is kept away from for a while, [`locality`] who is near, and [`balance`] the choice.

pub mod balance;
pub mod health;
pub mod latency;
pub mod locality;
pub mod outcome;
pub mod outlier;
pub mod score;
#[cfg(test)]
mod simulation;

pub use balance::{Candidate, Dice, choose};
pub use health::{Health, Probe, tick};
pub use outcome::{Failure, Outcome};
pub use outlier::Standing;
pub use score::Score;
