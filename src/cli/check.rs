//! `turnpike check`: whether a configuration would be accepted, and everything that is wrong with it if not.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::config::Config;

/// Says what is in the file, which is in order.
pub fn run(path: &Path, config: Config) -> ExitCode {
    // Who reads the output may stop early (`| head`); the exit code is the answer.
    let _ = writeln!(io::stdout(), "{}: ok ({})", path.display(), contents(&config));
    ExitCode::SUCCESS
}

fn contents(config: &Config) -> String {
    let counts = [
        (config.databases.len(), "database"),
        (config.backends.len(), "backend"),
        (config.users.len(), "user"),
        (config.hba.len(), "hba rule"),
    ];
    counts.map(|(n, noun)| count(n, noun)).join(", ")
}

fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}
