//! `turnpike run`: the proxy, until SIGTERM or SIGINT.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::app::{self, sockets};
use crate::config::{Config, Log};
use crate::core::clock;

/// How long a thread for what takes long waits for more of it. With one worker and no other thread, system calls are
/// cheaper: the system need not count who uses a file.
const KEPT: Duration = Duration::from_millis(500);

/// Runs the proxy with the configuration that is in `path`.
pub fn run(path: &Path, config: Config) -> ExitCode {
    logs(&config.log);
    raise_file_limit();
    // Before the runtime: nobody else may look at the environment meanwhile, and no descriptor be ours yet.
    let inherited = match sockets::inherited() {
        Ok(inherited) => inherited,
        Err(e) => {
            eprintln!("turnpike: {e}");
            return ExitCode::FAILURE;
        }
    };
    let outcome =
        runtime(config.general.workers).map_err(|e| format!("cannot start: {e}")).and_then(|runtime| {
            runtime.block_on(app::run(config, Some(path.to_path_buf()), inherited, stopped()))
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("turnpike: {e}");
            ExitCode::FAILURE
        }
    }
}

/// The runtime for this many workers; 0 chooses. With one worker there is nobody to wake but oneself, and on a
/// machine shared with Postgres that is what costs least per transaction.
pub fn runtime(workers: usize) -> std::io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut builder = match if workers == 0 { cores.div_ceil(4) } else { workers } {
        1 => Builder::new_current_thread(),
        n => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(n);
            builder
        }
    };
    builder.on_thread_unpark(clock::turn_begins).on_thread_park(clock::turn_ends);
    builder.enable_all().thread_keep_alive(KEPT).build()
}

fn logs(log: &Log) {
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if log.json { builder.json().init() } else { builder.with_target(false).init() }
}

/// Ten thousand clients need more descriptors than a shell's soft limit gives.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Waits for SIGTERM or SIGINT.
pub async fn stopped() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
