//! Micro-benchmarks of single steps of the hot path; `proxies` measures the whole. One function per module measured.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use turnpike::core::stats::{Counter, Latency};

criterion_group!(benches, stats);
criterion_main!(benches);

/// What is counted once per statement.
fn stats(c: &mut Criterion) {
    let mut group = c.benchmark_group("core::stats");
    let counter = Counter::default();
    group.bench_function("Counter::add", |b| b.iter(|| counter.add(black_box(1))));
    let latency = Latency::default();
    group.bench_function("Latency::record", |b| {
        b.iter(|| latency.record(black_box(Duration::from_micros(137))))
    });
    group.finish();
}
