//! `turnpike check`: whether a configuration would be accepted, and everything that is wrong with it if not.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::config::{Config, check};

/// Checks the file and says what is in it, or what is wrong with it.
pub fn run(path: &Path) -> ExitCode {
    // Who reads the output may stop early (`| head`); the exit code is the answer.
    match check::load(path) {
        Ok(config) => {
            let _ = writeln!(io::stdout(), "{}: ok ({})", path.display(), contents(&config));
            ExitCode::SUCCESS
        }
        Err(problems) => {
            let _ = writeln!(io::stderr(), "{problems}");
            ExitCode::FAILURE
        }
    }
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
