//! Turnpike against real Postgres servers. One process for all tests: they share a cluster, and each has a database
//! of its own in it.
//!
//! Run by `cargo test --test integration`, not by nextest, which would start a cluster for every test.

mod harness;

mod admin;
mod auth;
mod catalog;
mod cluster;
mod consistency;
mod demo;
mod discovery;
mod drivers;
mod failover;
mod faults;
mod health;
mod hostile;
mod limits;
mod metrics;
mod notify;
mod operations;
mod plans;
mod pooling;
mod protocol;
mod replication;
mod routes;
mod rust_drivers;
mod sample;
mod smoke;
mod soak;
mod split;
mod state;
mod streaming;
mod takeover;
mod tls;
mod transactions;
