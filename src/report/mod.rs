//! Reports over HTTP (`[[report]]`): queries whose results a CDN keeps, and is told to drop when something was written.
//!
//! [`http`] takes a request, [`params`] reads it, [`access`] says who may, [`serve`] finds the answer: one that is
//! [`kept`], or what a server says, which [`source`] chooses, [`ask`] asks and [`render`] writes down. Beside that,
//! [`watch`] looks for what has been written, and [`purge`] tells of it.
//!
//! How old an answer may be. What is kept here is given while no table of its has been written through this process, and
//! no longer than `ttl`. What an edge keeps it is told to drop when such a write is known to have ended; until that has
//! arrived (about 100 ms and the way there) it gives what was. An answer that was on its way meanwhile is dropped by the
//! second telling. The same holds for what is written past this process, as far as that is told ([`elsewhere`]): by the
//! server within its bound, by other processes at once. Of other writes nothing is known until `ttl` is over.

pub mod access;
pub mod ask;
mod elsewhere;
pub mod http;
pub mod kept;
pub mod params;
pub mod purge;
pub mod render;
pub mod serve;
pub mod source;
pub mod watch;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::config::{Report, ReportAccess, ReportFormat};

    /// One to change.
    pub fn report() -> Report {
        Report {
            name: "r".into(),
            database: "d".into(),
            user: "u".into(),
            sql: "SELECT 1".into(),
            params: Vec::new(),
            format: ReportFormat::Json,
            access: vec![ReportAccess::Public],
            tokens: Vec::new(),
            edge: false,
            ttl: Duration::from_secs(60),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            purge: true,
            timeout: Duration::from_secs(5),
            max_rows: 100,
            max_bytes: 1 << 20,
        }
    }
}
