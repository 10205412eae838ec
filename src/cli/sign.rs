//! `turnpike sign`: makes URLs of reports that are good for a while, for whoever may have them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use crate::config::units;
use crate::core::keyfile;
use crate::report::access;

/// Arguments of `turnpike sign`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the report.
    report: String,
    /// Its parameters, as NAME=VALUE.
    #[arg(value_name = "NAME=VALUE", value_parser = pair)]
    params: Vec<(String, String)>,
    /// File with the key: that of reports.key_file.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// How long the URL is good for, such as 30s or 1h.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    time: Duration,
    /// What is put before the path, such as https://reports.example.org
    #[arg(long, default_value = "", hide_default_value = true)]
    base: String,
}

fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text)
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.to_string(), value.to_string()))
}

/// Prints it.
pub fn run(args: Args) -> ExitCode {
    let key = match keyfile::key(&args.key) {
        Ok(key) => key,
        Err(e) => {
            eprintln!("turnpike: {e}");
            return ExitCode::FAILURE;
        }
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let expires = now.saturating_add(args.time).as_secs();
    println!("{}{}", args.base.trim_end_matches('/'), access::sign(&key, &args.report, args.params, expires));
    ExitCode::SUCCESS
}
