//! The admin database for psql, spoken with the pgwire crate's messages.
//!
//! [`session`] speaks the protocol, [`command`] understands what is said, [`operate`] changes things, [`show`] looks around, [`table`] is the
//! answer. PgBouncer's names for commands and columns are kept where it has them, so that its exporters keep working.

pub mod backends;
pub mod command;
pub mod operate;
pub mod plans;
pub mod routes;
pub mod session;
pub mod show;
pub mod table;

pub use session::serve;
