//! `turnpike replay`: plays what has been recorded to a server, and says in what its answers differ.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::place::Place;
use super::run::runtime;
use crate::mirror::file::key::Key;
use crate::mirror::link::Address;
use crate::mirror::replay::{self, Contents, Options, Report};
use crate::session::shadow::tally::Difference;

/// Arguments of `turnpike replay`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files of one recording, in order.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// File with the key that they were recorded under.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The server; the password may be in PGPASSWORD. Without it, only what the files have in them is said.
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// How many times as fast as it was, such as 1, 2.5, or max.
    #[arg(long, default_value = "1", value_parser = speed)]
    speed: Speed,
    /// Only reads, each on its own, in sessions that may not write.
    #[arg(long)]
    reads: bool,
    /// Most connections: sessions beyond that, all at once, are lost.
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Longest time for a statement, in seconds.
    #[arg(long, default_value_t = 30)]
    timeout: u64,
    /// Root certificate that the server's must be signed by.
    #[arg(long, value_name = "FILE")]
    root_cert: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
struct Speed(Option<f64>);

fn speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed(None));
    }
    let factor = text.parse::<f64>().ok().filter(|factor| (0.001..=1e6).contains(factor));
    factor
        .map(|factor| Speed(Some(factor)))
        .ok_or_else(|| "must be max, or from 0.001 to 1000000".to_string())
}

/// Something differs, or was not run.
const DIFFERENT: u8 = 2;
/// All that there is was run and nothing differs, but the end of the recording is missing.
const CUT: u8 = 3;

/// Reads the files, and plays them if a server is named.
pub fn run(args: Args) -> ExitCode {
    match replay(args) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("turnpike: {e}");
            ExitCode::FAILURE
        }
    }
}

/// The exit code, if all that can be read was.
fn replay(args: Args) -> Result<u8, String> {
    let key = Key::read(&args.key)?;
    let contents = replay::contents(&args.files, &key)?;
    if contents.is_cut {
        let last = args.files.last().map(|path| path.display().to_string()).unwrap_or_default();
        eprintln!(
            "turnpike: {last}: its end is missing: the process that recorded it was killed, it still records, or \
             somebody has cut the file\n  Up to there nothing has been changed: what follows is of {} exchanges that are \
             whole.",
            contents.exchanges
        );
    }
    let fine = if contents.is_cut { CUT } else { 0 };
    let literals = contents.begin.as_ref().is_some_and(|begin| begin.literals);
    let Some(url) = args.to else {
        list(&contents);
        return Ok(fine);
    };
    if !literals {
        return Err("these files have shapes without values, and none are made up: they can be looked at, not replayed\n  \
                    Record with record.literals = true, which is consent to keep values."
            .into());
    }
    let Place { target, dbname, login } = Place::parse(&url, args.root_cert)?;
    let options = Options {
        files: args.files,
        key,
        speed: args.speed.0,
        only_reads: args.reads,
        connections: args.connections.max(1),
        timeout: Duration::from_secs(args.timeout.max(1)),
    };
    let address = Address { login, dbname, connect_timeout: Duration::from_secs(10) };
    let runtime = runtime(1).map_err(|e| e.to_string())?;
    let report = runtime.block_on(replay::replay(&options, target, address, &contents))?;
    Ok(if tell(&contents, &report) { fine } else { DIFFERENT })
}

/// What the files have in them.
fn list(contents: &Contents) {
    let kept = contents.begin.as_ref().is_some_and(|begin| begin.literals);
    let seconds = contents.span_us as f64 / 1e6;
    let mut out = io::stdout().lock();
    // Who reads the output may stop early (`| head`).
    let _ = writeln!(
        out,
        "{} exchanges of {} sessions over {seconds:.1} s; values are {}",
        contents.exchanges,
        contents.sessions,
        if kept { "kept" } else { "left out" }
    );
    let _ = writeln!(out, "{:>9} {:>9}  shape", "runs", "mean us");
    let mut shapes: Vec<_> = contents.shapes.iter().collect();
    shapes.sort_by_key(|(_, _, runs, _)| std::cmp::Reverse(*runs));
    for (_, text, runs, us) in shapes {
        let _ = writeln!(out, "{runs:>9} {:>9}  {text}", us.checked_div(*runs).unwrap_or_default());
    }
}

/// What came of it; false where something differs or could not be run.
fn tell(contents: &Contents, report: &Report) -> bool {
    let tally = &report.tally;
    let mut out = io::stdout().lock();
    let _ = writeln!(
        out,
        "{} of {} exchanges of {} sessions in {:.1} s (recorded over {:.1} s), at most {:.0} ms late; \
         {} skipped, {} lost, {} failed",
        tally.run.get(),
        contents.exchanges,
        contents.sessions,
        report.took.as_secs_f64(),
        contents.span_us as f64 / 1e6,
        report.latest.as_secs_f64() * 1e3,
        tally.skipped.get(),
        tally.lost.get(),
        tally.failed.get(),
    );
    let (different, error) = tally.look(|all, error| {
        let names = Difference::ALL.map(Difference::label);
        let differ = names.iter().zip(all.differences).map(|(name, n)| format!("{name} {n}"));
        let differ = differ.collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "{} answers compared; different: {differ}", all.statements);
        (all.differences.iter().any(|n| *n > 0), error.map(str::to_string))
    });
    if let Some(error) = error {
        let _ = writeln!(out, "last failure: {error}");
    }
    let head = ["runs", "sqlstate", "rows", "checksum", "order", "then us", "now us"];
    let head: String = head.iter().map(|name| format!("{name:>9}")).collect();
    let _ = writeln!(out, "{head}  shape");
    tally.shapes(|_, shape| {
        let sums = &shape.sums;
        let mean = |side: usize| sums.us[side].checked_div(sums.statements).unwrap_or_default();
        let numbers = [&[sums.statements][..], &sums.differences, &[mean(0), mean(1)]].concat();
        let row: String = numbers.iter().map(|n| format!("{n:>9}")).collect();
        let _ = writeln!(out, "{row}  {}", shape.shape);
    });
    !different && tally.failed.get() + tally.lost.get() == 0
}
