//! Turnpike beside a direct connection, HAProxy and PgBouncer, on one throwaway Postgres: rate, latency, processor
//! time and memory, and whether our goals are met. `cargo bench --bench proxies -- --help` says how to run it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use std::future::Future;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Args;

mod args;
mod bed;
mod client;
mod crowd;
mod goals;
mod idle;
mod meter;
mod mirrors;
mod moves;
mod pgbench;
mod pgpool;
mod plan;
mod process;
mod results;
mod sizes;
mod table;
mod targets;
mod tenants;

/// Whatever stops us; it is shown, never matched on.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(until_interrupted()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("proxies: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the benchmark. A signal drops it half-way, and with it every process that it has started.
async fn until_interrupted() -> Result<(), Failure> {
    let args = Args::parse();
    tokio::select! {
        outcome = plan::run(&args) => outcome,
        outcome = stop_signal()? => Err(format!("stopped by {outcome}").into()),
    }
}

fn stop_signal() -> Result<impl Future<Output = &'static str>, Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
            _ = hangup.recv() => "SIGHUP",
        }
    })
}
