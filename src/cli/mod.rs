//! The command line; one file per command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod demo;

/// A Postgres-wire proxy and query router.
#[derive(Debug, Parser)]
#[command(name = "turnpike", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show it working: a throwaway cluster with sample data behind a proxy.
    Demo(demo::Args),
}

/// Parses the arguments and runs the command they name.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Demo(args) => demo::run(args),
    }
}
