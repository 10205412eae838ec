//! Metrics of clusters: by cluster and backend, and so as many as the configuration names.

use super::metrics::{Family, Kind, Labels, Value, label};
use crate::cluster::{Cluster, MemberRow, State};
use crate::route::{Failure, Standing};
use crate::session::shared::Shared;

type Read = fn(&MemberRow) -> f64;

const GAUGES: &[(&str, &str, Read)] = &[
    ("turnpike_backend_up", "1 if it answers probes.", |m| {
        f64::from(u8::from(!matches!(m.state, State::Unknown | State::Unreachable)))
    }),
    ("turnpike_backend_primary", "1 if it takes writes.", |m| f64::from(u8::from(m.state == State::Primary))),
    ("turnpike_backend_replica", "1 if it may serve reads.", |m| {
        f64::from(u8::from(m.state == State::Replica))
    }),
    ("turnpike_backend_lag_seconds", "How far behind the primary it is.", |m| m.lag.as_secs_f64()),
    ("turnpike_backend_lag_bytes", "The same in bytes of WAL.", |m| m.lag_bytes as f64),
    ("turnpike_backend_ejected", "1 while it is kept away from for its failures.", |m| {
        f64::from(u8::from(m.health.standing == Standing::Ejected))
    }),
    ("turnpike_backend_score", "How well it is, 0 to 100.", |m| f64::from(m.health.score.total)),
    ("turnpike_backend_share", "What of its share of reads it should have, 0 to 1.", |m| {
        f64::from(m.health.permille) / 1000.0
    }),
    ("turnpike_backend_outstanding", "Statements under way on it.", |m| f64::from(m.health.outstanding)),
    ("turnpike_backend_probe_seconds", "Round trip of the last probe.", |m| {
        m.health.probe.round_trip.as_secs_f64()
    }),
];

/// All of them now.
pub fn families(shared: &Shared) -> Vec<Family> {
    let clusters = shared.clusters.all();
    let rows: Vec<MemberRow> = clusters.iter().flat_map(|c| c.member_rows()).collect();
    let labels = |m: &MemberRow| -> Labels {
        vec![label("cluster", m.cluster.as_str()), label("backend", m.backend.as_str())]
    };
    let of_members = |name: &'static str, kind, help: &'static str, read: &dyn Fn(&MemberRow) -> f64| {
        let samples = rows.iter().map(|m| (labels(m), Value::Number(read(m)))).collect();
        Family::of(name, kind, help, samples)
    };
    let mut families: Vec<Family> =
        GAUGES.iter().map(|(name, help, read)| of_members(name, Kind::Gauge, help, read)).collect();
    let help = "Times that it was ejected for its failures.";
    families.push(of_members("turnpike_backend_ejections_total", Kind::Counter, help, &|m| {
        m.health.ejections as f64
    }));
    families.push(of_members(
        "turnpike_backend_answers_total",
        Kind::Counter,
        "Uses of it that were answered.",
        &|m| m.health.answered as f64,
    ));
    families.push(failures(&rows, labels));
    families.push(states(&rows, labels));
    families.push(lost(&rows, labels));
    families.push(decisions(&clusters));
    let of_clusters = |name: &'static str, kind, help: &'static str, read: fn(&Cluster) -> f64| {
        let sample = |c: &std::sync::Arc<Cluster>| (vec![label("cluster", c.name())], Value::Number(read(c)));
        Family::of(name, kind, help, clusters.iter().map(sample).collect())
    };
    let help = "1 if there is a primary.";
    families.push(of_clusters("turnpike_cluster_has_primary", Kind::Gauge, help, |c| {
        f64::from(u8::from(c.primary().is_some()))
    }));
    let help = "Times that another backend has become the primary.";
    families.push(of_clusters("turnpike_cluster_promotions_total", Kind::Counter, help, |c| {
        c.promotions.get() as f64
    }));
    let help = "Times that two primaries could not be told apart.";
    families.push(of_clusters("turnpike_cluster_conflicts_total", Kind::Counter, help, |c| {
        c.conflicts.get() as f64
    }));
    families
}

fn failures(rows: &[MemberRow], labels: impl Fn(&MemberRow) -> Labels) -> Family {
    let help = "Uses of it that failed, by kind.";
    let samples = rows.iter().flat_map(|m| {
        let labels = &labels;
        Failure::ALL.iter().zip(m.health.failed).map(move |(kind, n)| {
            let mut labels = labels(m);
            labels.push(label("kind", kind.label()));
            (labels, Value::Number(n as f64))
        })
    });
    Family::of("turnpike_backend_failures_total", Kind::Counter, help, samples.collect())
}

/// One series for each state that there is: which one a server is in, over time.
fn states(rows: &[MemberRow], labels: impl Fn(&MemberRow) -> Labels) -> Family {
    let help = "1 for the state that it is in.";
    let samples = rows.iter().flat_map(|m| {
        let labels = &labels;
        State::ALL.iter().map(move |state| {
            let mut labels = labels(m);
            labels.push(label("state", state.label()));
            (labels, Value::Number(f64::from(u8::from(m.state == *state))))
        })
    });
    Family::of("turnpike_backend_state", Kind::Gauge, help, samples.collect())
}

/// What its score has lost, part by part.
fn lost(rows: &[MemberRow], labels: impl Fn(&MemberRow) -> Labels) -> Family {
    let help = "Points of 100 that its score has lost, by what for.";
    let samples = rows.iter().flat_map(|m| {
        let (labels, score) = (&labels, m.health.score);
        let parts = [
            ("latency", score.latency),
            ("errors", score.errors),
            ("connects", score.connects),
            ("probe", score.probe),
            ("lag", score.lag),
            ("saturation", score.saturation),
            ("storage", score.storage),
        ];
        parts.into_iter().map(move |(part, points)| {
            let mut labels = labels(m);
            labels.push(label("part", part));
            (labels, Value::Number(f64::from(points)))
        })
    });
    Family::of("turnpike_backend_score_lost", Kind::Gauge, help, samples.collect())
}

/// Where statements were sent.
fn decisions(clusters: &[std::sync::Arc<Cluster>]) -> Family {
    let help = "Statements and batches that needed a server, by where they were sent and why.";
    let samples = clusters.iter().flat_map(|c| {
        c.decided.rows().map(|(decision, n)| {
            let (to, reason) = decision.labels();
            let labels = vec![label("cluster", c.name()), label("to", to), label("reason", reason)];
            (labels, Value::Number(n as f64))
        })
    });
    Family::of("turnpike_routed_total", Kind::Counter, help, samples.collect())
}
