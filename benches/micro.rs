//! Micro-benchmarks of single steps of the hot path; `proxies` measures the whole. One function per module measured.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::print_stdout, reason = "criterion measures no memory")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use turnpike::app::cluster::{Cluster, ClusterOptions};
use turnpike::cache::Cache;
use turnpike::cache::answer::Answer;
use turnpike::cache::key::{self, Form};
use turnpike::cache::l1::Moment;
use turnpike::cache::policy::Terms;
use turnpike::config::{CacheMode, check};
use turnpike::core::clock::Instant;
use turnpike::core::latency::LoneLatency;
use turnpike::core::stats::Counter;
use turnpike::fence::versions::Written;
use turnpike::plan::store::Scope;
use turnpike::plan::{Planner, Reading};
use turnpike::pool::Pools;
use turnpike::pool::pool::Pool;
use turnpike::pool::wish::Wish;
use turnpike::session::expect::{Expect, Expected};
use turnpike::sql::effect;
use turnpike::sql::lex::Lexer;
use turnpike::sql::shape::Shape;
use turnpike::tenant::naming::About;
use turnpike::tenant::registry::Tenants;
use turnpike::wire::frame;

criterion_group!(benches, memory, stats, framing, responses, statements, plans, results, tenants, leases);
criterion_main!(benches);

/// What is counted once per statement.
fn stats(c: &mut Criterion) {
    let mut group = c.benchmark_group("core::stats");
    let counter = Counter::default();
    group.bench_function("Counter::add", |b| b.iter(|| counter.add(black_box(1))));
    let latency = LoneLatency::default();
    group.bench_function("LoneLatency::record", |b| {
        b.iter(|| latency.record(black_box(Duration::from_micros(137))))
    });
    group.bench_function("clock::Instant::now", |b| b.iter(Instant::now));
    group.finish();
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&[kind], &len.to_be_bytes()[..], body].concat()
}

/// Walking the headers of a client's batch.
fn framing(c: &mut Criterion) {
    let batch = [
        message(b'B', b"\0s1\0\0\0\0\x01\0\0\0\x0512345\0\0"),
        message(b'D', b"P\0"),
        message(b'E', b"\0\0\0\0\0"),
        message(b'S', b""),
    ]
    .concat();
    let mut group = c.benchmark_group("wire::frame");
    group.bench_function("client: Bind, Describe, Execute, Sync", |b| {
        b.iter(|| {
            let mut rest = black_box(batch.as_slice());
            while let Ok(Some(header)) = frame::client(rest, 1 << 20) {
                rest = &rest[header.len..];
            }
            rest.len()
        });
    });
    group.finish();
}

/// Checking a server's answers against what was expected.
fn responses(c: &mut Criterion) {
    const ROWS: usize = 1000;
    let row = message(b'D', &[b"\0\x01\0\0\0\x28".as_slice(), &[b'x'; 40]].concat());
    let mut answer = message(b'T', &[0; 30]);
    (0..ROWS).for_each(|_| answer.extend_from_slice(&row));
    answer.extend(message(b'C', b"SELECT 1000\0"));
    answer.extend(message(b'Z', b"I"));
    let mut group = c.benchmark_group("session::expect");
    group.throughput(Throughput::Elements(ROWS as u64));
    let mut expected = Expected::default();
    group.bench_function("a result of a thousand rows", |b| {
        b.iter(|| {
            expected.push(Expect::Query(None));
            let mut rest = black_box(answer.as_slice());
            while let Ok(Some(header)) = frame::server(rest) {
                match header.kind {
                    b'Z' => drop(black_box(expected.ready())),
                    kind => drop(black_box(expected.answer(kind))),
                }
                rest = &rest[header.len..];
            }
        });
    });
    group.finish();
}

/// Reading a statement for what it leaves behind.
fn statements(c: &mut Criterion) {
    let select = b"SELECT abalance FROM pgbench_accounts WHERE aid = 1234567;";
    let insert =
        b"INSERT INTO audit_log (ts, principal_id, action, details) VALUES (now(), 42, 'read', '{\"a\": 1}')";
    let mut group = c.benchmark_group("sql");
    group.bench_function("effect::scan, select", |b| b.iter(|| effect::scan(black_box(select))));
    group.bench_function("effect::scan, insert", |b| b.iter(|| effect::scan(black_box(insert))));
    group.bench_function("lex::Lexer, insert", |b| b.iter(|| Lexer::new(black_box(insert), true).count()));
    group.finish();
}

/// From a text to its plan.
fn plans(c: &mut Criterion) {
    let orm = b"SELECT orders.id AS orders_id, orders.customer_id AS orders_customer_id, orders.total AS orders_total \
        FROM orders JOIN customers ON customers.id = orders.customer_id \
        WHERE customers.region = 'north' AND orders.total > 100.50 ORDER BY orders.created_at DESC LIMIT 20";
    let long = format!(
        "INSERT INTO t (a, b) VALUES {}",
        vec!["(1, 'some text that is not very short')"; 5_000].join(", ")
    );
    let mut group = c.benchmark_group("plan");
    let mut shape = Shape::default();
    group.throughput(Throughput::Bytes(orm.len() as u64));
    group.bench_function("shape::read, an ORM's SELECT", |b| b.iter(|| shape.read(black_box(orm), true)));
    group.throughput(Throughput::Bytes(long.len() as u64));
    group.bench_function("shape::read, 5,000 rows", |b| {
        b.iter(|| shape.read(black_box(long.as_bytes()), true))
    });
    let text = format!("INSERT INTO t (a) VALUES ('{}')", "x".repeat(1 << 20));
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("shape::read, one long value", |b| {
        b.iter(|| shape.read(black_box(text.as_bytes()), true))
    });
    group.throughput(Throughput::Elements(1));
    const READING: Reading = Reading { conforming: true, is_ambiguous: false };
    let Ok(planner) = Planner::new(&Default::default(), &[], &[], &[]) else { return };
    let scope = Scope { place: 1, generation: 0 };
    group.bench_function("hit, an ORM's SELECT", |b| {
        b.iter(|| planner.plan(black_box(orm), READING, scope, Default::default))
    });
    let select = b"SELECT abalance FROM pgbench_accounts WHERE aid = 1234567;";
    group.bench_function("hit, pgbench's SELECT", |b| {
        b.iter(|| planner.plan(black_box(select), READING, scope, Default::default))
    });
    for threads in [1, 2] {
        group.bench_function(format!("hit, held and counted, on {threads} threads at once"), |b| {
            b.iter_custom(|n| {
                let work = || {
                    let began = std::time::Instant::now();
                    for _ in 0..n {
                        let held = planner.plan(black_box(orm), READING, scope, Default::default);
                        held.uses().answered(1);
                        drop(black_box(held.clone()));
                    }
                    began.elapsed()
                };
                std::thread::scope(|scope| {
                    let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
                    all.into_iter().filter_map(|thread| thread.join().ok()).max().unwrap_or_default()
                })
            });
        });
    }
    let mut generation = 0;
    group.bench_function("miss, an ORM's SELECT", |b| {
        b.iter(|| {
            generation += 1;
            planner.plan(black_box(orm), READING, Scope { place: 1, generation }, Default::default)
        });
    });
    group.finish();
}

/// How much memory very many shapes take: each is an ORM's SELECT with names of its own.
fn memory(_: &mut Criterion) {
    const SHAPES: u64 = 100_000;
    let config = turnpike::config::Plan { max_memory: 1 << 30, ..Default::default() };
    let Ok(planner) = Planner::new(&config, &[], &[], &[]) else { return };
    let before = resident();
    for n in 0..SHAPES {
        let text = format!(
            "SELECT o.id AS o_id, o.customer_id AS o_customer_id, o.total_{n} AS o_total FROM orders_{n} o \
             JOIN customers c ON c.id = o.customer_id WHERE c.region = 'north' AND o.total_{n} > 100.50 \
             ORDER BY o.created_at DESC LIMIT 20"
        );
        let reading = Reading { conforming: true, is_ambiguous: false };
        let held =
            planner.plan(text.as_bytes(), reading, Scope { place: 1, generation: 0 }, Default::default);
        held.uses().answered(1);
        held.uses().took(137);
    }
    let (kept, counted) = planner.store.size();
    println!(
        "plan/memory: {kept} shapes take {} MB of resident memory, {} MB by the store's own count",
        (resident() - before) / 1_000_000,
        counted / 1_000_000
    );
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4096
}

/// Giving a result that is kept: its key is built, looked up, compared, and found to be of now.
fn results(c: &mut Criterion) {
    let Ok(cache) = Cache::new(64 << 20) else { return };
    let versions = cache.versions.of("bench");
    let tables = &[16_401][..];
    let moment = Moment {
        versions: &versions,
        tables,
        row: None,
        view: 1,
        serial: 1,
        term: 0,
        outside: None,
        seen: None,
        shape: 1,
    };
    let context = cache.contexts.of(["bench", "app", "bench", "app", "primary", "", "timezone", "UTC"]);
    let sent = b"T\0\0\0\x06\0\0D\0\0\0\x0b\0\x01\0\0\0\x011C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";
    let as_of = cache.as_of(&moment, Instant::now());
    let (Ok(answer), Ok(as_of)) = (Answer::read(Form::Simple, sent, 10), as_of) else {
        return;
    };
    let terms = Terms {
        remote: false,
        rule: 0,
        auto: false,
        mode: CacheMode::Exact,
        ttl: Duration::from_secs(3600),
        stale: Duration::ZERO,
        max_rows: 10,
        max_bytes: 1 << 20,
    };
    let (mut key, now) = (Vec::new(), Instant::now());
    let text = |n: u32| format!("SELECT abalance FROM pgbench_accounts WHERE aid = {n};");
    for n in 0..10_000 {
        key::begin(&mut key, Form::Simple, context, text(n).as_bytes());
        cache.store(cache.hash(&key), &key, answer.clone(), as_of, now, 1);
    }
    cache.size();
    let texts: Vec<String> = (0..10_000).map(text).collect();
    let mut n = 0;
    let mut group = c.benchmark_group("cache");
    group.bench_function("hit, with its key", |b| {
        b.iter(|| {
            n = (n + 7919) % texts.len();
            key::begin(&mut key, Form::Simple, context, black_box(texts[n].as_bytes()));
            cache.find(cache.hash(&key), &key, &moment, &terms, now)
        });
    });
    let others: Vec<String> = (10_000..20_000).map(text).collect();
    group.bench_function("miss, with its key and what it is as of", |b| {
        b.iter(|| {
            n = (n + 7919) % others.len();
            key::begin(&mut key, Form::Simple, context, black_box(others[n].as_bytes()));
            drop(cache.find(cache.hash(&key), &key, &moment, &terms, now));
            cache.as_of(&moment, now)
        });
    });
    // Bind with its value, as prepared statements have it.
    let statement = b"SELECT abalance FROM pgbench_accounts WHERE aid = $1;\0\0\0";
    let bind = |n: u32| [&b"\0\0\0\x01\0\0\0\x08"[..], format!("{n:08}").as_bytes(), b"\0\0"].concat();
    let binds: Vec<Vec<u8>> = (0..10_000).map(bind).collect();
    for bind in &binds {
        key::begin(&mut key, Form::Extended, context, statement);
        key::add(&mut key, bind);
        cache.store(cache.hash(&key), &key, answer.clone(), as_of, now, 1);
    }
    cache.size();
    group.bench_function("hit, with its key, prepared", |b| {
        b.iter(|| {
            n = (n + 7919) % binds.len();
            key::begin(&mut key, Form::Extended, context, statement);
            key::add(&mut key, black_box(&binds[n]));
            cache.find(cache.hash(&key), &key, &moment, &terms, now)
        });
    });
    group.bench_function("a write is marked and ends", |b| {
        b.iter(|| {
            let mut marks = versions.begin();
            marks.add(Written::Tables(black_box(&[7])));
            marks.end(false);
        });
    });
    group.finish();
}

/// What a tenant costs on the way, whether ten are known or ten thousand: finding whose session it is (at login, and when
/// it says that it is another's), a turn under its rates, a connection in its name, and a statement on its account.
fn tenants(c: &mut Criterion) {
    let text = "[[backend]]\nname = 'b'\nhost = 'h'\n[[database]]\nname = 'd'\nbackend = 'b'\n\
                [tenants]\nby = 'set'\nclaimed_by = '*'\nstatements_per_second = 1000000000\nrows_per_second = 1000000000\n\
                [[tenant]]\nname = 'listed'\nweight = 300\n";
    let Ok(config) = check::parse(text, Path::new("bench.toml")) else { return };
    let mut group = c.benchmark_group("tenant");
    for known in [10, 10_000] {
        let tenants = Tenants::new(&config.tenants, Arc::default());
        let names: Vec<String> = (0..known).map(|n| format!("tenant{n}")).collect();
        let of = |name: &str| tenants.of(&About { user: "u", set: Some(name), ..About::default() });
        let held: Vec<_> = names.iter().filter_map(|name| of(name)).map(|(tenant, _)| tenant).collect();
        if held.len() != known {
            return;
        }
        let mut n = 0;
        // Another one each time, so that what is known does not stay in the nearest cache.
        let mut next = || {
            n = (n + 7919) % known;
            n
        };
        let now = Instant::now();
        group.bench_function(format!("find, of {known}"), |b| b.iter(|| of(black_box(&names[next()]))));
        group.bench_function(format!("take a turn, of {known}"), |b| {
            b.iter(|| held[next()].take_turn(now, Duration::from_secs(1)))
        });
        group.bench_function(format!("hold a connection and return it, of {known}"), |b| {
            b.iter(|| drop(black_box(held[next()].hold(now, 0))))
        });
        group.bench_function(format!("charge a statement, of {known}"), |b| {
            b.iter(|| held[next()].ended(black_box(1), true))
        });
    }
    group.finish();
}

/// Lending a server connection and taking it back, with a real one.
fn leases(c: &mut Criterion) {
    let Ok(cluster) = Cluster::start(ClusterOptions::default()) else {
        return;
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let Some(pool) = pool(&cluster) else { return };
    let class = pool.neutral().clone();
    let wish = Wish::new(1, class);
    let server = runtime.block_on(async {
        let waiting = pool.queue(wish.clone(), Instant::now());
        waiting.await.ok().and_then(Result::ok)
    });
    let Some(server) = server else { return };
    pool.give_back(server, Instant::now());
    let mut group = c.benchmark_group("pool");
    group.bench_function("lease and return", |b| {
        b.iter(|| {
            let now = Instant::now();
            if let Some(server) = pool.try_lease(&wish, now) {
                pool.give_back(server, now);
            }
        });
    });
    group.finish();
    pool.close_idle();
}

fn pool(cluster: &Cluster) -> Option<Arc<Pool>> {
    let text = format!(
        "[[backend]]\nname = 'b'\nhost = '127.0.0.1'\nport = {}\nsslmode = 'disable'\n\
         [[database]]\nname = 'postgres'\nbackend = 'b'\n[[user]]\nname = 'postgres'\npassword = '{}'\n",
        cluster.primary().port,
        cluster.password()
    );
    let config = check::parse(&text, Path::new("bench.toml")).ok()?;
    let pools = Pools::new(&config).ok()?;
    Some(pools.pool(&config, &config.databases[0], ("postgres", "postgres"), None))
}
