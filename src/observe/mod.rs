//! What the process tells of itself: metrics and health over HTTP. Reads what others count; counts nothing.

mod adaptive;
mod buckets;
mod cache;
mod clusters;
pub mod custom;
pub mod guests;
pub mod http;
pub mod metrics;
mod mirrors;
pub mod process;
pub mod prometheus;
mod reports;
pub mod shapes;
pub mod tenants;
