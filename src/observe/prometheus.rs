//! The Prometheus text exposition format, version 0.0.4.

use std::fmt::Write;

use hdrhistogram::Histogram;

use super::metrics::{Family, Kind, Labels, Value};

/// The content type of what [`render`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of histogram buckets, in microseconds: 100 us to a minute.
const BUCKETS_US: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// Writes out all families that have samples.
pub fn render(families: &[Family]) -> String {
    let mut out = String::with_capacity(16 * 1024);
    for family in families.iter().filter(|f| !f.samples.is_empty()) {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let name = family.name;
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
        for (labels, value) in &family.samples {
            match value {
                Value::Number(value) => line(&mut out, name, "", labels, None, *value),
                Value::Micros(histogram) => buckets(&mut out, name, labels, histogram),
            }
        }
    }
    out
}

fn buckets(out: &mut String, name: &str, labels: &Labels, histogram: &Histogram<u64>) {
    let mut values = histogram.iter_recorded().peekable();
    let (mut below, mut sum) = (0u64, 0.0);
    for &bound in BUCKETS_US {
        while let Some(v) = values.next_if(|v| v.value_iterated_to() <= bound) {
            below += v.count_at_value();
            sum += v.count_at_value() as f64 * v.value_iterated_to() as f64;
        }
        let le = (bound as f64 / 1e6).to_string();
        line(out, name, "_bucket", labels, Some(&le), below as f64);
    }
    for v in values {
        sum += v.count_at_value() as f64 * v.value_iterated_to() as f64;
    }
    line(out, name, "_bucket", labels, Some("+Inf"), histogram.len() as f64);
    line(out, name, "_sum", labels, None, sum / 1e6);
    line(out, name, "_count", labels, None, histogram.len() as f64);
}

fn line(out: &mut String, name: &str, suffix: &str, labels: &Labels, le: Option<&str>, value: f64) {
    let _ = write!(out, "{name}{suffix}");
    let all = labels.iter().map(|(n, v)| (*n, v.as_str())).chain(le.map(|le| ("le", le)));
    for (i, (label, text)) in all.enumerate() {
        let _ = write!(out, "{}{label}=\"{}\"", if i == 0 { '{' } else { ',' }, escape(text));
    }
    if !labels.is_empty() || le.is_some() {
        out.push('}');
    }
    let _ = writeln!(out, " {value}");
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::{HashMap, HashSet};

    use super::*;

    /// Reads the format back, strictly: every sample belongs to a declared family, none comes twice.
    fn read(text: &str) -> HashMap<String, f64> {
        let (mut declared, mut helped, mut samples) = (HashSet::new(), HashSet::new(), HashMap::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                assert!(helped.insert(rest.split_once(' ').unwrap().0.to_string()), "{line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                assert!(declared.insert(rest.split_once(' ').unwrap().0.to_string()), "{line}");
            } else {
                let (key, value) = line.rsplit_once(' ').unwrap();
                let name = key.split('{').next().unwrap();
                let family =
                    ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s)).unwrap_or(name);
                assert!(declared.contains(family) && helped.contains(family), "{line}");
                assert!(samples.insert(key.to_string(), value.parse().unwrap()).is_none(), "{line} twice");
            }
        }
        samples
    }

    #[test]
    fn numbers_and_labels() {
        let family =
            Family::new("a_total", Kind::Counter, "Help.").with(&[], 1.5).with(&[("l", "x\"\\\ny")], 2.0);
        let samples = read(&render(&[family]));
        assert_eq!(samples["a_total"], 1.5);
        assert_eq!(samples["a_total{l=\"x\\\"\\\\\\ny\"}"], 2.0);
    }

    #[test]
    fn buckets_are_cumulative() {
        let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000, 2).unwrap();
        for us in [50, 90, 900, 70_000, 100_000_000] {
            histogram.record(us).unwrap();
        }
        let samples = vec![(Vec::new(), Value::Micros(Box::new(histogram)))];
        let family = Family { name: "d_seconds", kind: Kind::Histogram, help: "Help.", samples };
        let samples = read(&render(&[family]));
        let at = |le: &str| samples[&format!("d_seconds_bucket{{le=\"{le}\"}}")];
        assert_eq!(
            [at("0.0001"), at("0.001"), at("0.05"), at("0.1"), at("60"), at("+Inf")],
            [2.0, 3.0, 3.0, 4.0, 4.0, 5.0]
        );
        assert_eq!(samples["d_seconds_count"], 5.0);
        assert!((samples["d_seconds_sum"] - 100.07).abs() < 1.0);
    }

    #[test]
    fn families_without_samples_stay_silent() {
        assert_eq!(render(&[Family::new("a", Kind::Gauge, "Help.")]), "");
    }
}
