//! Server connections: opened, lent, cleaned, taken back.

use std::sync::Arc;

use crate::core::stats::{PoolRow, ServerRow, Traffic};

/// All pools of the process.
#[derive(Debug, Default)]
pub struct Pools {}

impl Pools {
    /// Every pool now, for observers.
    pub fn pool_rows(&self) -> Vec<(PoolRow, Arc<Traffic>)> {
        Vec::new()
    }
    /// Every server connection now, for observers.
    pub fn server_rows(&self) -> Vec<ServerRow> {
        Vec::new()
    }
}
