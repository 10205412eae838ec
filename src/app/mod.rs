//! Wiring: from a checked configuration to a running process, and back.

use std::path::PathBuf;

use crate::config::Config;

pub mod cluster;

/// Runs the proxy until `shutdown` resolves, then drains it. `source` is the file to read again on SIGHUP.
pub async fn run(
    config: Config,
    source: Option<PathBuf>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), String> {
    let _ = (config, source, shutdown);
    Err("this build has no proxy in it yet".into())
}
