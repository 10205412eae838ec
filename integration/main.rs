//! Turnpike against real Postgres servers. One process for all tests: they share a cluster, and each has a database
//! of its own in it.
//!
//! Run by `cargo test --test integration`, not by nextest, which would start a cluster for every test.

mod harness;

mod adaptive;
mod admin;
mod auth;
mod caching;
mod caching_check;
mod caching_forms;
mod caching_functions;
mod caching_rows;
mod caching_storm;
mod catalog;
mod cluster;
mod consistency;
mod custom_metrics;
mod dashboards;
mod demo;
mod discovery;
mod drivers;
mod elsewhere;
mod failover;
mod faults;
mod health;
mod hidden;
mod hostile;
mod implied;
mod limits;
mod metrics;
mod mirrors;
mod notify;
mod operations;
mod patroni;
mod places;
mod plans;
mod pooling;
mod protocol;
mod recordings;
mod redis;
mod replication;
mod reports;
mod routes;
mod rust_drivers;
mod sample;
mod sharing;
mod smoke;
mod soak;
mod split;
mod state;
mod streaming;
mod strict;
mod takeover;
mod tenants;
mod tls;
mod transactions;
mod warming;
