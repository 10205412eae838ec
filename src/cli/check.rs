//! `turnpike check`: whether a configuration would be accepted, and everything that is wrong with it if not.

use std::path::Path;
use std::process::ExitCode;

use crate::config::check;

/// Checks the file and says what is in it, or what is wrong with it.
pub fn run(path: &Path) -> ExitCode {
    match check::load(path) {
        Ok(config) => {
            let counts = [
                (config.backends.len(), "backend"),
                (config.databases.len(), "database"),
                (config.users.len(), "user"),
                (config.hba.len(), "hba rule"),
            ];
            println!("{}: ok ({})", path.display(), counts.map(|(n, noun)| count(n, noun)).join(", "));
            ExitCode::SUCCESS
        }
        Err(problems) => {
            eprintln!("{problems}");
            ExitCode::FAILURE
        }
    }
}

fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}
