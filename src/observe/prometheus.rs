//! The Prometheus text exposition format, version 0.0.4.

use std::fmt::Write;

use super::buckets::{BOUNDS_US, Buckets};
use super::metrics::{Family, Kind, Labels, Value};

/// The content type of what [`render`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes out all families that have samples.
pub fn render(families: &[Family]) -> String {
    let mut out = String::with_capacity(16 * 1024);
    for family in families.iter().filter(|f| !f.samples.is_empty()) {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let name = &family.name;
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", one_line(&family.help));
        for (labels, value) in &family.samples {
            match value {
                Value::Number(value) => line(&mut out, name, "", labels, None, *value),
                Value::Durations(durations) => buckets(&mut out, name, labels, durations),
            }
        }
    }
    out
}

fn buckets(out: &mut String, name: &str, labels: &Labels, buckets: &Buckets) {
    let mut below = 0u64;
    for (bound, count) in BOUNDS_US.iter().zip(&buckets.counts) {
        below += count;
        let le = (*bound as f64 / 1e6).to_string();
        line(out, name, "_bucket", labels, Some(&le), below as f64);
    }
    let all = buckets.count() as f64;
    line(out, name, "_bucket", labels, Some("+Inf"), all);
    line(out, name, "_sum", labels, None, buckets.sum);
    line(out, name, "_count", labels, None, all);
}

fn line(out: &mut String, name: &str, suffix: &str, labels: &Labels, le: Option<&str>, value: f64) {
    let _ = write!(out, "{name}{suffix}");
    let all = labels.iter().map(|(n, v)| (n.as_ref(), v.as_str())).chain(le.map(|le| ("le", le)));
    for (i, (label, text)) in all.enumerate() {
        let _ = write!(out, "{}{label}=\"{}\"", if i == 0 { '{' } else { ',' }, escape(text));
    }
    if !labels.is_empty() || le.is_some() {
        out.push('}');
    }
    // Rust's own words for what is no number are others.
    let _ = match value {
        v if v.is_infinite() => writeln!(out, " {}Inf", if v > 0.0 { '+' } else { '-' }),
        v => writeln!(out, " {v}"),
    };
}

/// HELP has no quotes to escape.
fn one_line(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::{HashMap, HashSet};

    use hdrhistogram::Histogram;
    use proptest::prelude::*;

    use super::super::metrics::label;
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
        let samples = vec![(Vec::new(), Value::Durations(Box::new(Buckets::of(&histogram))))];
        let family = Family::of("d_seconds", Kind::Histogram, "Help.", samples);
        let samples = read(&render(&[family]));
        let at = |le: &str| samples[&format!("d_seconds_bucket{{le=\"{le}\"}}")];
        assert_eq!(
            [at("0.0001"), at("0.001"), at("0.05"), at("0.1"), at("60"), at("+Inf")],
            [2.0, 3.0, 3.0, 4.0, 4.0, 5.0]
        );
        assert_eq!(samples["d_seconds_count"], 5.0);
        assert!((samples["d_seconds_sum"] - 100.07).abs() < 1.0);
    }

    /// The value of the one label of a line, as Prometheus reads it.
    fn unescaped(line: &str) -> String {
        let mut out = String::new();
        let mut chars = line.split_once("{l=\"").unwrap().1.chars();
        loop {
            match chars.next().unwrap() {
                '"' => break,
                '\\' => match chars.next().unwrap() {
                    'n' => out.push('\n'),
                    c @ ('"' | '\\') => out.push(c),
                    c => panic!("there is no such escape: {c}"),
                },
                c => out.push(c),
            }
        }
        assert_eq!(chars.as_str(), "} 1");
        out
    }

    proptest! {
        #[test]
        fn labels_come_back_as_they_were(bytes in proptest::collection::vec(
            prop_oneof![Just(b'"'), Just(b'\\'), Just(b'\n'), Just(b'n'), Just(b'}'), any::<u8>()], 0..40
        )) {
            let value = String::from_utf8_lossy(&bytes).into_owned();
            let samples = vec![(vec![label("l", value.as_str())], Value::Number(1.0))];
            let text = render(&[Family::of("m", Kind::Gauge, value.clone(), samples)]);
            let lines: Vec<&str> = text.split_terminator('\n').collect();
            prop_assert_eq!(lines.len(), 3, "{:?}", text);
            prop_assert_eq!(unescaped(lines[2]), value);
        }
    }

    #[test]
    fn what_is_no_number() {
        let family = |v| render(&[Family::new("m", Kind::Gauge, "Help.").with(&[], v)]);
        for (value, want) in [(f64::NAN, "m NaN"), (f64::INFINITY, "m +Inf"), (f64::NEG_INFINITY, "m -Inf")] {
            assert_eq!(family(value).lines().last(), Some(want));
        }
    }

    #[test]
    fn families_without_samples_stay_silent() {
        assert_eq!(render(&[Family::new("a", Kind::Gauge, "Help.")]), "");
    }
}
