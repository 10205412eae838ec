//! `turnpike check`: whether a configuration would be accepted, and everything that is wrong with it if not.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::config::Config;
use crate::pool::Pools;
use crate::session::gate::Gate;

/// Says what is in the file, which is in order, unless the files that it names are not what they are said to be.
pub fn run(path: &Path, config: Config) -> ExitCode {
    // As a process that starts or reloads would find out.
    if let Err(problem) = Gate::new(&config).map(drop).and_then(|()| Pools::new(&config).map(drop)) {
        let _ = writeln!(io::stderr(), "{}: {problem}", path.display());
        return ExitCode::FAILURE;
    }
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
