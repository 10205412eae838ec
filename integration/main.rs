//! Turnpike against real Postgres servers. One process for all tests: they share a cluster, and each has a database
//! of its own in it.
//!
//! Run by `cargo test --test integration`, not by nextest, which would start a cluster for every test.

mod harness;

mod cluster;
mod demo;
mod faults;
mod hostile;
mod protocol;
mod sample;
mod smoke;
mod streaming;
