//! What the process tells of itself: metrics and health over HTTP. Reads what others count; counts nothing.

mod clusters;
pub mod http;
pub mod metrics;
pub mod process;
pub mod prometheus;
