//! Our goals, and whether they are met.

use serde::Serialize;

use crate::plan::FEW;
use crate::results::{CPU, Figure, Idle, P99, Results, Row, TPS};
use crate::targets::Kind;

/// Most microseconds of processor time for a login with SCRAM.
const LOGIN_US: f64 = 200.0;
/// Most KiB per idle client, and per idle client with TLS.
const IDLE_KIB: [(&str, f64); 2] = [("idle/plain", 2.0), ("idle/tls", 12.0)];
/// Most processor time per transaction with splitting, beside that without.
const SPLIT_COSTS: f64 = 1.05;
/// Least part of a few clients' rate that a crowd must have.
const CROWD_KEEPS: f64 = 0.9;

/// Least rate of what is asked again beside a server's own, most processor time beside a relay's, and milliseconds in
/// which nearly all of what takes a server long is there.
const KEPT_TPS: f64 = 2.0;
const KEPT_CPU: f64 = 0.6;
const KEPT_MS: f64 = 0.1;
/// Most processor time per transaction that is not to be kept, beside that where nothing is.
const UNCACHED_COSTS: f64 = 1.02;

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
    /// A goal about a row; whoever fails there has not met it.
    fn about(row: Option<&Row>, goal: String, judge: impl FnOnce(&Row) -> Option<(String, bool)>) -> Self {
        let failed = row.is_some_and(|row| row.failures.contains_key(&Kind::Turnpike));
        Goal::new(goal, if failed { Some(failed_text()) } else { row.and_then(judge) })
    }

    /// A goal, and what was found, where it was looked for.
    pub fn new(goal: String, measured: Option<(String, bool)>) -> Self {
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
    for protocol in ["simple", "extended", "prepared"] {
        for clients in [16, 64] {
            goals.push(free(results, &format!("replicas/select/{protocol}/{clients}")));
            goals.push(faster(results, &format!("replicas/mostly/{protocol}/{clients}")));
        }
    }
    for protocol in ["simple", "extended", "prepared"] {
        goals.extend(again(results, &format!("kept/again/{protocol}/16")));
    }
    goals.push(prompt(results, "kept/report/simple/16"));
    for protocol in ["simple", "extended", "prepared"] {
        goals.push(untouched(results, &format!("uncached/select/{protocol}/16")));
    }
    goals
}

/// What is asked again costs next to nothing.
fn again(results: &Results, name: &str) -> [Goal; 2] {
    let row = results.row(name);
    let fast = format!("{name}: transactions per second at least {KEPT_TPS:.1}x a server's own");
    let cheap = format!("{name}: CPU per transaction at most {KEPT_CPU:.1}x a relay's");
    [
        between(row, fast, Kind::Cached, Kind::Direct, TPS, |ratio| ratio >= KEPT_TPS),
        between(row, cheap, Kind::Cached, Kind::Haproxy, CPU, |ratio| ratio <= KEPT_CPU),
    ]
}

/// What is not to be kept costs next to nothing more where other results are.
fn untouched(results: &Results, name: &str) -> Goal {
    let goal =
        format!("{name}: CPU per transaction at most {UNCACHED_COSTS:.2}x without results that are kept");
    between(results.row(name), goal, Kind::Uncached, Kind::Turnpike, CPU, |ratio| ratio <= UNCACHED_COSTS)
}

/// What takes a server long is there at once.
fn prompt(results: &Results, name: &str) -> Goal {
    let goal = format!("{name}: 99% of reports within {KEPT_MS:.1} ms");
    let row = results.row(name);
    let failed = row.is_some_and(|row| row.failures.contains_key(&Kind::Cached));
    let measured = row.and_then(|row| row.median(Kind::Cached, P99));
    let measured = measured.map(|ms| (format!("{ms:.3} ms"), ms <= KEPT_MS));
    Goal::new(goal, if failed { Some(failed_text()) } else { measured })
}

fn failed_text() -> (String, bool) {
    ("failed".to_owned(), false)
}

/// Splitting costs next to nothing.
fn free(results: &Results, name: &str) -> Goal {
    let goal = format!("{name}: CPU per transaction with splitting at most {SPLIT_COSTS}x without");
    between(results.row(name), goal, Kind::Split, Kind::Unsplit, CPU, |ratio| ratio <= SPLIT_COSTS)
}

fn faster(results: &Results, name: &str) -> Goal {
    let goal = format!("{name}: transactions per second at least Pgpool-II's");
    between(results.row(name), goal, Kind::Split, Kind::Pgpool, TPS, |ratio| ratio >= 1.0)
}

/// One of ours beside another target of the same row.
fn between(
    row: Option<&Row>,
    goal: String,
    ours: Kind,
    other: Kind,
    figure: Figure,
    met: impl FnOnce(f64) -> bool,
) -> Goal {
    let failed = row.is_some_and(|row| row.failures.contains_key(&ours));
    let judge = |row: &Row| {
        let (ratio, least, most) = row.ratio_between(ours, other, figure)?;
        Some((format!("{ratio:.2}x ({least:.2}-{most:.2})"), met(ratio)))
    };
    Goal::new(goal, if failed { Some(failed_text()) } else { row.and_then(judge) })
}

fn cheap(results: &Results, name: &str) -> Goal {
    let goal = format!("{name}: CPU per transaction at most PgBouncer's");
    Goal::about(results.row(name), goal, |row| compared(row, CPU, |ratio| ratio <= 1.0))
}

fn fast(results: &Results, name: &str) -> Goal {
    let goal = format!("{name}: transactions per second at least PgBouncer's");
    Goal::about(results.row(name), goal, |row| compared(row, TPS, |ratio| ratio >= 1.0))
}

/// The ratio to PgBouncer, and between which bounds it was.
fn compared(row: &Row, figure: Figure, met: impl FnOnce(f64) -> bool) -> Option<(String, bool)> {
    let ratio = row.ratio(Kind::Turnpike, figure)?;
    let (least, most) = row.ratio_range(Kind::Turnpike, figure)?;
    Some((format!("{ratio:.2}x ({least:.2}-{most:.2})"), met(ratio)))
}

/// A transaction of the connect row is a login and a select; the select is taken off if it was measured by itself.
fn login(results: &Results) -> Goal {
    let select =
        results.row("select/simple/16").and_then(|row| row.median(Kind::Turnpike, CPU)).unwrap_or(0.0);
    let goal = format!("connect: CPU of a SCRAM login at most {LOGIN_US:.0} us");
    Goal::about(results.row("connect/simple/8"), goal, |row| {
        let login = row.median(Kind::Turnpike, CPU)? - select;
        Some((format!("{login:.0} us"), login <= LOGIN_US))
    })
}

fn light(results: &Results, name: &str, most: f64) -> Goal {
    let goal = format!("{name}: memory per idle client at most {most:.0} KiB");
    let found = results.idle.iter().find(|idle| idle.name == name && idle.target == Kind::Turnpike);
    let failed = results.idle_failures.get(name).is_some_and(|kinds| kinds.contains_key(&Kind::Turnpike));
    let weighed = found.map(Idle::kib).map(|kib| (format!("{kib:.2} KiB"), kib <= most));
    Goal::new(goal, weighed.or(failed.then(failed_text)))
}

fn crowd(results: &Results) -> Goal {
    let part = CROWD_KEEPS * 100.0;
    let goal = format!("crowd: no error, at least {part:.0}% of {FEW} clients' rate");
    let few = results.row(&format!("crowd/{FEW}"));
    Goal::about(results.row(&format!("crowd/{}", results.crowd)), goal, |many| {
        let few = few?;
        let kept = many.ratio_to(few, Kind::Turnpike, TPS)?;
        let errors = few.errors(Kind::Turnpike) + many.errors(Kind::Turnpike);
        Some((format!("{:.0}%, {errors} errors", kept * 100.0), kept >= CROWD_KEEPS && errors == 0))
    })
}
