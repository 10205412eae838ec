//! A differential oracle: reads corpora of statements, asks PostgreSQL's own parser what each does, and reports where
//! Turnpike's reading claims to have understood and missed something. For development only.

mod compare;
mod corpus;
mod ours;
mod report;
mod truth;
mod utility;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use crate::report::Report;

const USAGE: &str =
    "usage: turnpike-oracle [--list-fallbacks | --list-invalid] [--each] [--most N] FILE|DIRECTORY...
  --list-fallbacks  what was not understood, by its first two words
  --list-invalid    what PostgreSQL's parser does not accept, and why
  --each            a line for each file, not only for all of them
  --most N          list so many faults of each kind (50)";

/// Trees are as deep as the statements that they come from.
const STACK: usize = 1 << 30;

#[derive(Debug, PartialEq, Eq)]
struct Options {
    fallbacks: bool,
    invalid: bool,
    each: bool,
    most: usize,
    paths: Vec<PathBuf>,
}

fn options(arguments: impl IntoIterator<Item = String>) -> Option<Options> {
    let mut options = Options { fallbacks: false, invalid: false, each: false, most: 50, paths: Vec::new() };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--list-fallbacks" => options.fallbacks = true,
            "--list-invalid" => options.invalid = true,
            "--each" => options.each = true,
            "--most" => options.most = arguments.next()?.parse().ok()?,
            flag if flag.starts_with('-') => return None,
            path => options.paths.push(path.into()),
        }
    }
    (!options.paths.is_empty()).then_some(options)
}

fn run(options: &Options) -> io::Result<ExitCode> {
    let report = Report::of(&corpus::read(&options.paths)?);
    let mut out = io::stdout().lock();
    if options.fallbacks {
        report.write_fallbacks(&mut out)?;
    } else if options.invalid {
        report.write_invalid(&mut out)?;
    } else {
        report.write(&mut out, options.most, options.each)?;
    }
    Ok(if report.is_fatal() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn main() -> ExitCode {
    let Some(options) = options(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let work = thread::Builder::new().stack_size(STACK).spawn(move || run(&options));
    match work.map(thread::JoinHandle::join) {
        Ok(Ok(Ok(code))) => code,
        Ok(Ok(Err(error))) | Err(error) => {
            eprintln!("turnpike-oracle: {error}");
            ExitCode::from(2)
        }
        Ok(Err(_)) => ExitCode::from(101),
    }
}
