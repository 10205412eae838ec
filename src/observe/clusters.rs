//! Metrics of clusters: by cluster and backend, and so as many as the configuration names.

use super::metrics::{Family, Kind, Labels, Value};
use crate::cluster::{Cluster, MemberRow, State};
use crate::route::outcome::Failure;
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
    let labels =
        |m: &MemberRow| -> Labels { vec![("cluster", m.cluster.clone()), ("backend", m.backend.clone())] };
    let of_members = |name, kind, help, read: &dyn Fn(&MemberRow) -> f64| {
        let samples = rows.iter().map(|m| (labels(m), Value::Number(read(m)))).collect();
        Family { name, kind, help, samples }
    };
    let mut families: Vec<Family> =
        GAUGES.iter().map(|(name, help, read)| of_members(name, Kind::Gauge, help, read)).collect();
    let help = "Times that it was ejected for its failures.";
    families.push(of_members("turnpike_backend_ejections_total", Kind::Counter, help, &|m| {
        m.health.ejections as f64
    }));
    families.push(failures(&rows, labels));
    let of_clusters = |name, kind, help, read: fn(&Cluster) -> f64| {
        let sample =
            |c: &std::sync::Arc<Cluster>| (vec![("cluster", c.name().to_string())], Value::Number(read(c)));
        Family { name, kind, help, samples: clusters.iter().map(sample).collect() }
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
            labels.push(("kind", kind.label().to_string()));
            (labels, Value::Number(n as f64))
        })
    });
    Family { name: "turnpike_backend_failures_total", kind: Kind::Counter, help, samples: samples.collect() }
}
