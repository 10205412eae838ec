//! Our goals, and whether they are met.

use serde::Serialize;

use crate::plan::FEW;
use crate::results::{CPU, Idle, Results, Row, TPS};
use crate::targets::Kind;

/// Most microseconds of processor time for a login with SCRAM.
const LOGIN_US: f64 = 200.0;
/// Most KiB per idle client, and per idle client with TLS.
const IDLE_KIB: [(&str, f64); 2] = [("idle/plain", 2.0), ("idle/tls", 12.0)];
/// Least part of a few clients' rate that a crowd must have.
const CROWD_KEEPS: f64 = 0.9;

/// One goal.
#[derive(Debug, Serialize)]
pub struct Goal {
    /// What is wanted.
    pub goal: String,
    /// What was found.
    pub measured: String,
    /// Nothing when it was not measured.
    pub met: Option<bool>,
}

impl Goal {
    fn new(goal: String, measured: Option<(String, bool)>) -> Self {
        let (measured, met) =
            measured.map_or(("not measured".to_owned(), None), |(text, met)| (text, Some(met)));
        Goal { goal, measured, met }
    }
}

/// All goals.
pub fn judge(results: &Results) -> Vec<Goal> {
    let mut goals = Vec::new();
    for protocol in ["simple", "extended", "prepared"] {
        goals.extend([16, 64].map(|clients| cheap(results, &format!("select/{protocol}/{clients}"))));
    }
    for protocol in ["simple", "extended", "prepared"] {
        goals.extend([1, 16, 64].map(|clients| fast(results, &format!("select/{protocol}/{clients}"))));
    }
    goals.push(fast(results, "tpcb/simple/16"));
    goals.push(fast(results, "connect/simple/8"));
    goals.push(login(results));
    goals.extend(IDLE_KIB.map(|(row, most)| light(results, row, most)));
    goals.push(crowd(results));
    goals
}

fn cheap(results: &Results, row: &str) -> Goal {
    let ratio = results.row(row).and_then(|row| row.ratio(Kind::Turnpike, CPU));
    let measured = ratio.map(|ratio| (format!("{ratio:.2}x"), ratio <= 1.0));
    Goal::new(format!("{row}: CPU per transaction at most PgBouncer's"), measured)
}

fn fast(results: &Results, row: &str) -> Goal {
    let ratio = results.row(row).and_then(|row| row.ratio(Kind::Turnpike, TPS));
    let measured = ratio.map(|ratio| (format!("{ratio:.2}x"), ratio >= 1.0));
    Goal::new(format!("{row}: transactions per second at least PgBouncer's"), measured)
}

/// A transaction of the connect row is a login and a select; the select is taken off if it was measured by itself.
fn login(results: &Results) -> Goal {
    let cpu = |row: &str| results.row(row).and_then(|row: &Row| row.median(Kind::Turnpike, CPU));
    let select = cpu("select/simple/16").unwrap_or(0.0);
    let measured = cpu("connect/simple/8").map(|cpu| cpu - select);
    let measured = measured.map(|cpu| (format!("{cpu:.0} us"), cpu <= LOGIN_US));
    Goal::new(format!("connect: CPU of a SCRAM login at most {LOGIN_US:.0} us"), measured)
}

fn light(results: &Results, row: &str, most: f64) -> Goal {
    let found = results.idle.iter().find(|idle| idle.name == row && idle.target == Kind::Turnpike);
    let measured = found.map(Idle::kib).map(|kib| (format!("{kib:.2} KiB"), kib <= most));
    Goal::new(format!("{row}: memory per idle client at most {most:.0} KiB"), measured)
}

fn crowd(results: &Results) -> Goal {
    let rows = results.row(&format!("crowd/{FEW}")).zip(results.row(&format!("crowd/{}", results.crowd)));
    let measured = rows.and_then(|(few, many)| {
        let kept = many.ratio_to(few, Kind::Turnpike, TPS)?;
        let errors = few.errors(Kind::Turnpike) + many.errors(Kind::Turnpike);
        Some((format!("{:.0}%, {errors} errors", kept * 100.0), kept >= CROWD_KEEPS && errors == 0))
    });
    let part = CROWD_KEEPS * 100.0;
    Goal::new(format!("crowd: no error, at least {part:.0}% of {FEW} clients' rate"), measured)
}
