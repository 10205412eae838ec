//! The command line; one file per command.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command's output is what it prints")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::check::load;
use crate::config::{Config, Plan};

mod cache;
mod check;
mod demo;
mod health;
mod place;
mod plan;
mod record;
mod replay;
mod run;
mod sign;

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
    /// Have a database tell of writes that do not pass through the proxy, so that [[cache]] may be exact.
    #[command(subcommand)]
    Cache(cache::Command),
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
    /// Say what would be decided about a statement, without a server; `-` reads it from standard input.
    Plan {
        /// The statement.
        #[arg(value_name = "SQL")]
        sql: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// Configuration file [default: turnpike.toml, if there is one]
        #[arg(short, long)]
        config: Option<PathBuf>,
    },
    /// Have a running proxy record its traffic.
    Record(record::Args),
    /// Play recorded traffic to a server, and say in what its answers differ.
    Replay(replay::Args),
    /// Make a URL of a report that is good for a while.
    Sign(sign::Args),
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
        Command::Cache(command) => cache::run(&command),
        Command::Check { config } => with(&config, |read| check::run(&config, read)),
        Command::Health { config } => with(&config, health::run),
        Command::Plan { sql, json, config } => {
            let usual = || Some(PathBuf::from("turnpike.toml")).filter(|path| path.exists());
            match config.or_else(usual) {
                Some(config) => with(&config, |read| plan::run(&read.plan, &sql, json)),
                None => plan::run(&Plan::default(), &sql, json),
            }
        }
        Command::Record(args) => record::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Sign(args) => sign::run(args),
        Command::Run { config } => with(&config, |read| run::run(&config, read)),
    }
}

/// Runs a command with what is in a configuration file, or says what is wrong with that.
fn with(path: &Path, command: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match load(path) {
        Ok(config) => command(config),
        Err(problems) => {
            // Who reads the output may stop early (`| head`); the exit code is the answer.
            let _ = writeln!(std::io::stderr(), "{problems}");
            ExitCode::FAILURE
        }
    }
}
