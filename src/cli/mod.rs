//! The command line; one file per command.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command's output is what it prints")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod check;
mod demo;
mod health;
mod run;

#[derive(Parser)]
#[command(name = "turnpike", version, about = "A Postgres-wire proxy and query router")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show it working: a throwaway cluster with sample data behind a proxy.
    Demo(demo::Args),
    /// Check a configuration and report everything that is wrong with it.
    Check {
        /// Configuration file.
        #[arg(value_name = "FILE", default_value = "turnpike.toml")]
        config: PathBuf,
    },
    /// Ask the running proxy whether it is alive; needs http.listen.
    Health {
        /// Configuration file.
        #[arg(short, long, default_value = "turnpike.toml")]
        config: PathBuf,
    },
    /// Run the proxy.
    Run {
        /// Configuration file.
        #[arg(short, long, default_value = "turnpike.toml")]
        config: PathBuf,
    },
}

/// Parses the arguments and runs the command they name.
pub fn main() -> ExitCode {
    match Args::parse().command {
        Command::Demo(args) => demo::run(args),
        Command::Check { config } => check::run(&config),
        Command::Health { config } => health::run(&config),
        Command::Run { config } => run::run(&config),
    }
}
