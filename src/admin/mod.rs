//! The admin database for psql, spoken with the pgwire crate's messages.
//!
//! [`session`] speaks the protocol, [`command`] understands what is said, [`operate`] changes things, [`show`] looks around, [`table`] is the
//! answer. PgBouncer's names for commands and columns are kept where it has them, so that its exporters keep working.

pub mod backends;
mod cache;
pub mod command;
mod flush;
mod limits;
mod metrics;
mod mirrors;
pub mod operate;
pub mod plans;
mod reports;
pub mod routes;
pub mod session;
pub mod show;
pub mod table;
mod tenants;
mod warm;

pub use session::serve;
