//! The tables, printed as they come.

use crate::Failure;
use crate::goals::Goal;
use crate::results::{CPU, Idle, MEAN, P99, Row, TPS};
use crate::targets::Kind;

/// The head of the table of transactions.
pub fn head() {
    println!(
        "\n{:<20} {:<10} {:>8} {:>9} {:>9} {:>8} {:>6} {:>6}  (x: PgBouncer = 1)",
        "row", "target", "TPS", "mean ms", "p99 ms", "CPU us", "TPS x", "CPU x"
    );
}

/// One row: a line per target, medians over rounds.
pub fn row(row: &Row) {
    for kind in Kind::ALL {
        let note = row.failures.get(&kind).or(row.notes.get(&kind)).map_or("", String::as_str);
        if row.median(kind, TPS).is_none() && note.is_empty() {
            continue;
        }
        let line = format!(
            "{:<20} {:<10} {:>8} {:>9} {:>9} {:>8} {:>6} {:>6}  {note}",
            row.name,
            kind.name(),
            shown(row.median(kind, TPS), 0),
            shown(row.median(kind, MEAN), 3),
            shown(row.median(kind, P99), 3),
            shown(row.median(kind, CPU), 1),
            shown(row.ratio(kind, TPS), 2),
            shown(row.ratio(kind, CPU), 2),
        );
        println!("{}", line.trim_end());
    }
}

/// The head of the table of memory.
pub fn idle_head() {
    println!(
        "\n{:<20} {:<10} {:>8} {:>11} {:>12} {:>12}",
        "row", "target", "clients", "KiB before", "KiB/client", "KiB after use"
    );
}

/// One line of it.
pub fn idle(idle: &Idle) {
    println!(
        "{:<20} {:<10} {:>8} {:>11} {:>12.2} {:>12.2}",
        idle.name,
        idle.target.name(),
        idle.clients,
        idle.before / 1024,
        idle.kib(),
        idle.kib_after_use()
    );
}

/// A line for what could not be weighed.
pub fn idle_failed(name: &str, kind: Kind, failure: &Failure) {
    println!("{name:<20} {kind:<10} left out: {failure}");
}

/// What we wanted and what we got.
pub fn goals(goals: &[Goal]) {
    println!("\n{:<64} {:>20}  met?", "goal", "measured");
    for goal in goals {
        let Some(met) = goal.met else { continue };
        println!("{:<64} {:>20}  {}", goal.goal, goal.measured, if met { "yes" } else { "NO" });
    }
    let unknown = goals.iter().filter(|goal| goal.met.is_none()).count();
    if unknown > 0 {
        println!("({unknown} of {} goals not measured)", goals.len());
    }
}

fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}
