//! `turnpike demo`: a primary, two replicas and a sample audit log behind a proxy, gone without a trace when it ends.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to whoever typed it")]

use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::net::{Ipv4Addr, TcpListener};
use std::pin::pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::app::{self, cluster::free_port};

mod client;
mod settings;
mod stage;
mod status;
mod tour;

use client::Address;
use stage::Stage;
use status::Status;

const PORT: u16 = 6432;
const HTTP_PORT: u16 = 9930;
/// Time between two status lines at a terminal, and elsewhere.
const LIVELY: Duration = Duration::from_secs(1);
const CALM: Duration = Duration::from_secs(10);

/// Arguments of `turnpike demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Events in the sample audit log
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    events: u64,
    /// Port for clients [default: 6432, or any free one with --once]
    #[arg(long)]
    port: Option<u16>,
    /// Port for metrics and health [default: 9930, or any free one with --once]
    #[arg(long)]
    http_port: Option<u16>,
    /// Run one statement through the proxy, print its rows, and exit
    #[arg(long, value_name = "SQL")]
    once: Option<String>,
}

/// Runs the demo until it is interrupted, or has run its one statement.
pub fn run(args: Args) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(format_args!("cannot start: {error}")),
    };
    let outcome = runtime.block_on(demo(&args));
    // Whatever is still being set up is cleared away by the cluster's watchman when we are gone.
    runtime.shutdown_background();
    outcome.unwrap_or_else(fail)
}

fn fail(message: impl Display) -> ExitCode {
    eprintln!("turnpike demo: {message}");
    ExitCode::FAILURE
}

async fn demo(args: &Args) -> Result<ExitCode, String> {
    let quiet = args.once.is_some();
    let port = claim(args.port, PORT, "--port", quiet)?;
    let http_port = claim(args.http_port, HTTP_PORT, "--http-port", quiet)?;
    let mut interrupted = pin!(interruption()?);
    let began = Instant::now();
    let stage = tokio::select! {
        stage = Stage::set(args.events, quiet) => stage?,
        () = &mut interrupted => return Ok(ExitCode::FAILURE),
    };

    let config = settings::config(stage.cluster(), port, http_port);
    let (tell, told) = oneshot::channel::<()>();
    let shutdown = async { drop(told.await) };
    let mut proxy = pin!(app::run(config, None, Vec::new(), shutdown));
    let address = Address { port, http_port };
    let outcome = tokio::select! {
        ended = &mut proxy => return ended.and(Err("the proxy ended by itself".into())),
        outcome = perform(args, address, &stage, began) => outcome,
        () = &mut interrupted => Ok(ExitCode::SUCCESS),
    };
    drop(tell);
    proxy.await?;
    stage.clear(quiet).await;
    outcome
}

/// What the demo does while the proxy runs beside it.
async fn perform(args: &Args, at: Address, stage: &Stage, began: Instant) -> Result<ExitCode, String> {
    at.wait_listening().await?;
    if let Some(sql) = &args.once {
        return client::once(at, sql).await;
    }
    tour::print(at, args.events, stage.cluster(), began.elapsed());
    let terminal = io::stdout().is_terminal();
    let mut beat = tokio::time::interval(if terminal { LIVELY } else { CALM });
    let mut status = Status::new(at, stage.cluster());
    loop {
        beat.tick().await;
        let line = status.line().await;
        if terminal { status::overwrite(&line) } else { println!("{line}") }
    }
}

/// The port to use, once it is known to be free: better to say so before a cluster is made.
fn claim(wanted: Option<u16>, usual: u16, option: &str, any: bool) -> Result<u16, String> {
    let port = match wanted {
        None if any => return Ok(free_port()),
        None => usual,
        Some(port) => port,
    };
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(port),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(format!("port {port} is in use; choose another with {option} N"))
        }
        Err(error) => Err(format!("cannot listen on port {port}: {error}; choose another with {option} N")),
    }
}

/// Resolves at the first SIGINT or SIGTERM.
fn interruption() -> Result<impl Future<Output = ()>, String> {
    let handler = |kind| signal(kind).map_err(|e| format!("cannot handle signals: {e}"));
    let (mut interrupt, mut terminate) =
        (handler(SignalKind::interrupt())?, handler(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
