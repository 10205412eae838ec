//! Metrics of the limits of backends that have adaptive pools.

use super::metrics::{Family, Kind, Value, label};
use crate::pool::adaptive::LimitRow;
use crate::session::shared::Shared;

type Read = fn(&LimitRow) -> f64;

const GAUGES: &[(&str, &str, Read)] = &[
    ("turnpike_limit", "Loans that adaptive pools may have at once, but for slow ones.", |l| {
        f64::from(l.limit)
    }),
    ("turnpike_limit_in_flight", "Loans of adaptive pools.", |l| f64::from(l.lent)),
    ("turnpike_limit_slow", "Of those, on top of the limit: slow by nature.", |l| f64::from(l.slow)),
    ("turnpike_limit_queued", "Clients that wait for one.", |l| f64::from(l.waiting)),
    ("turnpike_limit_throughput", "Seconds of statements as usual that get done in a second.", |l| {
        l.throughput
    }),
    (
        "turnpike_limit_elasticity",
        "How much more gets done with more loans: 1 as much more, 0 no more.",
        |l| l.elasticity,
    ),
    ("turnpike_limit_gradient", "What statements usually take, divided by what they take.", |l| l.gradient),
    ("turnpike_limit_floor_seconds", "What an ordinary statement usually takes.", |l| l.floor.as_secs_f64()),
];

/// All of them now.
pub fn families(shared: &Shared) -> Vec<Family> {
    let rows = shared.pools.limit_rows();
    let labels = |l: &LimitRow| vec![label("backend", l.backend.as_str())];
    let mut families: Vec<Family> = GAUGES
        .iter()
        .map(|(name, help, read)| {
            let samples = rows.iter().map(|l| (labels(l), Value::Number(read(l)))).collect();
            Family::of(*name, Kind::Gauge, *help, samples)
        })
        .collect();
    let moves = rows.iter().flat_map(|l| {
        ["down", "up"].into_iter().zip(l.moves).map(move |(direction, n)| {
            (
                vec![label("backend", l.backend.as_str()), label("direction", direction)],
                Value::Number(n as f64),
            )
        })
    });
    let help = "Times that the limit has moved.";
    families.push(Family::of("turnpike_limit_moves_total", Kind::Counter, help, moves.collect()));
    families
}
