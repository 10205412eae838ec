//! `turnpike sign`: makes URLs of reports that are good for a while, for whoever may have them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use crate::config::units;
use crate::core::keyfile;
use crate::report::access;
use crate::report::params::{EXPIRES, SIGNATURE};

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

/// What would be refused of these parameters, whichever report it is.
fn problem(params: &[(String, String)]) -> Option<String> {
    for (i, (name, _)) in params.iter().enumerate() {
        if [EXPIRES, SIGNATURE].contains(&name.as_str()) {
            return Some(format!("{name} is what is added, and no parameter"));
        }
        if params.iter().take(i).any(|(other, _)| other == name) {
            return Some(format!("parameter {name:?} is given twice"));
        }
    }
    None
}

/// Prints it.
pub fn run(args: Args) -> ExitCode {
    if let Some(problem) = problem(&args.params) {
        eprintln!("turnpike: {problem}");
        return ExitCode::FAILURE;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_refuses_is_not_signed() {
        let of =
            |pairs: &[&str]| problem(&pairs.iter().filter_map(|text| pair(text).ok()).collect::<Vec<_>>());
        assert_eq!(of(&["x=1", "y=1", "z="]), None);
        assert_eq!(of(&["x=1", "x=2"]).as_deref(), Some("parameter \"x\" is given twice"));
        for taken in ["expires=1", "signature=0"] {
            assert!(of(&[taken]).is_some_and(|said| said.ends_with("no parameter")), "{taken}");
        }
    }
}
