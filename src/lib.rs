//! Turnpike: a Postgres-wire proxy and query router.
//!
//! Reading order, which is also the order of the floors (a module imports only from floors above it in this list):
//! [`core`], then [`config`], [`wire`] and [`sql`], then [`catalog`], [`fence`] and [`tenant`], then [`cache`], [`pool`] and [`route`], then [`plan`] and [`cluster`], then [`session`], then [`elsewhere`], [`mirror`] and [`observe`], then
//! [`report`] and [`admin`], then [`app`], which wires them, then [`cli`].

pub mod core;

pub mod config;
pub mod sql;
pub mod wire;

pub mod catalog;
pub mod fence;
pub mod tenant;

pub mod cache;
pub mod pool;
pub mod route;

pub mod cluster;
pub mod plan;

pub mod session;

pub mod discover;
pub mod elsewhere;
pub mod mirror;
pub mod observe;

pub mod admin;
pub mod report;

pub mod app;

pub mod cli;

#[cfg(test)]
mod tidy;
