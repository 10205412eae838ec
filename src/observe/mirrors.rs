//! Metrics of mirrors: as many as the configuration has. What differs shape by shape is for SHOW MIRROR.

use super::metrics::{Family, Kind, Value, label};
use crate::session::shadow::tally::Difference;
use crate::session::shadow::taps::{self, Tap, Taps};
use crate::session::shared::Shared;

/// All of them.
pub fn families(shared: &Shared) -> Vec<Family> {
    let taps = shared.shadows.taps();
    let mirrors = mirrors(&taps);
    let of = |name: &'static str, kind, help: &'static str, part: Option<&'static str>, read: Read| {
        let samples = mirrors.iter().flat_map(|(mirror, tap)| {
            let labels = |value: &'static str| {
                let own = label("mirror", *mirror);
                part.map_or_else(|| vec![own.clone()], |part| vec![own.clone(), label(part, value)])
            };
            read(tap).into_iter().map(move |(value, n)| (labels(value), Value::Number(n))).collect::<Vec<_>>()
        });
        Family::of(name, kind, help, samples.collect())
    };
    vec![
        of(
            "turnpike_mirror_statements_total",
            Kind::Counter,
            "Statements that mirrors wanted, by what became of them; those queued are then run, lost or failed.",
            Some("result"),
            statements,
        ),
        of(
            "turnpike_mirror_differences_total",
            Kind::Counter,
            "Answers that differed from what the client got, by what differed.",
            Some("kind"),
            |tap| {
                tap.tally.look(|sums, _| {
                    Difference::ALL.map(|d| (d.label(), sums.differences[d as usize] as f64)).into()
                })
            },
        ),
        of("turnpike_mirror_compared_total", Kind::Counter, "Answers that were compared.", None, |tap| {
            vec![("", tap.tally.look(|sums, _| sums.statements as f64))]
        }),
        of(
            "turnpike_mirror_seconds_total",
            Kind::Counter,
            "Time of the statements compared: here, and on the mirror.",
            Some("side"),
            |tap| {
                tap.tally.look(|sums, _| {
                    vec![("here", sums.us[0] as f64 * 1e-6), ("mirror", sums.us[1] as f64 * 1e-6)]
                })
            },
        ),
        of("turnpike_mirror_waiting", Kind::Gauge, "Statements that wait to be run.", None, |tap| {
            vec![("", tap.budget.used().0 as f64)]
        }),
        of("turnpike_mirror_waiting_bytes", Kind::Gauge, "Memory that they take.", None, |tap| {
            vec![("", tap.budget.used().1 as f64)]
        }),
        sessions(&taps),
    ]
}

/// Mirrors by their names.
fn mirrors(taps: &Taps) -> Vec<(&str, &Tap)> {
    let mut mirrors = Vec::new();
    for tap in &taps.list {
        if let taps::Kind::Mirror(mirror) = &tap.kind {
            mirrors.push((mirror.name.as_str(), &**tap));
        }
    }
    mirrors
}

fn sessions(taps: &Taps) -> Family {
    let help = "Sessions of which a mirror or a recording may want something.";
    let value = Value::Number(taps.sessions.get() as f64);
    Family::of("turnpike_mirrored_sessions", Kind::Gauge, help, vec![(Vec::new(), value)])
}

type Read = fn(&Tap) -> Vec<(&'static str, f64)>;

fn statements(tap: &Tap) -> Vec<(&'static str, f64)> {
    let tally = &tap.tally;
    [
        ("queued", &tally.queued),
        ("dropped", &tap.budget.dropped),
        ("skipped", &tally.skipped),
        ("lost", &tally.lost),
        ("failed", &tally.failed),
        ("run", &tally.run),
    ]
    .map(|(result, counter)| (result, counter.get() as f64))
    .into()
}
