//! `turnpike plan 'SQL'`: what would be decided about a statement, without a server.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use crate::config::Plan;
use crate::plan::explain::{self, Place};
use crate::plan::store::Scope;
use crate::plan::{Home, Planner, Reading};

/// Prints what EXPLAIN (ROUTE) would say of `sql`, or of what comes on standard input where it is `-`.
pub fn run(config: &Plan, sql: &str, json: bool) -> ExitCode {
    let mut text = sql.as_bytes().to_vec();
    if sql == "-" {
        text.clear();
        if let Err(e) = io::stdin().read_to_end(&mut text) {
            eprintln!("turnpike: cannot read standard input: {e}");
            return ExitCode::FAILURE;
        }
    }
    let planner = match Planner::new(config, &[], &[], &[]) {
        Ok(planner) => planner,
        Err(e) => {
            eprintln!("turnpike: {e}");
            return ExitCode::FAILURE;
        }
    };
    // Who asks with the words of a session means the same.
    let text = explain::read(&text).map_or(text.as_slice(), |wanted| &text[wanted.inner]);
    let reading = Reading { conforming: true, is_ambiguous: false };
    let plan = planner.plan(text, reading, Scope { place: 0, generation: 0 }, Home::default);
    let place = Place { backend: "primary (no server is asked)".into(), ..Place::default() };
    for row in explain::rows(&plan, &place, None, json) {
        // Who reads the output may stop early (`| head`).
        let _ = writeln!(io::stdout(), "{row}");
    }
    ExitCode::SUCCESS
}
