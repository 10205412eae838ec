//! The course of a run: which rows there are, and in which order targets take their turns.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::args::Args;
use crate::bed::Bed;
use crate::client::Client;
use crate::goals::{self, Goal};
use crate::idle;
use crate::pgbench::{self, Load, Protocol, Script};
use crate::process::raise_open_files;
use crate::results::{Results, Row, Sample};
use crate::table;
use crate::targets::{Kind, Target};
use crate::{Failure, crowd, mirrors, moves, sizes, tenants};

/// Clients that the crowd is compared with.
pub const FEW: usize = 64;
/// Replicas in front of which reads are split.
const REPLICAS: usize = 2;
/// Files that we need open beside the crowd's sockets.
const OTHER_FILES: u64 = 500;

/// Everything, from the first server to the last goal.
pub async fn run(args: &Args) -> Result<(), Failure> {
    let started = Instant::now();
    let open_files = raise_open_files()?;
    println!("{}\n", estimate(args));
    let mut results = Results::default();
    let mut versions = Versions::new();
    if loads().iter().any(|load| args.wants(&load.name())) || args.wants("crowd") || args.wants("idle") {
        alone(args, open_files, &mut results, &mut versions).await?;
    }
    if replicated_loads().iter().any(|load| args.wants(&replicated_name(load))) {
        replicated(args, &mut results, &mut versions).await?;
    }
    if kept_loads().iter().any(|load| args.wants(&kept_name(load))) {
        kept(args.keeping(), kept_loads(), kept_name, args, (&mut results, &mut versions)).await?;
    }
    if uncached_loads().iter().any(|load| args.wants(&uncached_name(load))) {
        let (kinds, loads) = (args.not_keeping(), uncached_loads());
        kept(kinds, loads, uncached_name, args, (&mut results, &mut versions)).await?;
    }
    let ours = ours(args).await?;
    let mut goals = goals::judge(&results);
    goals.extend(ours.goals());
    table::goals(&goals);
    let path = save(&Report { settings: args.into(), versions, results, ours, goals })?;
    println!("\n{} written; {} s in all", path.display(), started.elapsed().as_secs());
    Ok(())
}

/// The rows that only we are in.
#[derive(Serialize)]
struct Ours {
    sizes: Vec<sizes::SizesRow>,
    moves: Option<moves::MovesRow>,
    tenants: Vec<tenants::TenantsRow>,
    mirrors: Vec<mirrors::MirrorsRow>,
}

impl Ours {
    fn goals(&self) -> impl Iterator<Item = Goal> {
        let sizes = self.sizes.iter().map(sizes::SizesRow::goal);
        let sizes = sizes.chain(self.moves.iter().map(moves::MovesRow::goal));
        let tenants = self.tenants.iter().map(tenants::TenantsRow::goal);
        sizes.chain(tenants).chain(self.mirrors.iter().map(mirrors::MirrorsRow::goal))
    }
}

async fn ours(args: &Args) -> Result<Ours, Failure> {
    Ok(Ours {
        sizes: if sizes::is_wanted(args) { sizes::run(args).await? } else { Vec::new() },
        moves: if moves::is_wanted(args) { Some(moves::run().await?) } else { None },
        tenants: if tenants::is_wanted(args) { tenants::run(args).await? } else { Vec::new() },
        mirrors: if mirrors::is_wanted(args) { mirrors::run(args).await? } else { Vec::new() },
    })
}

type Versions = BTreeMap<Kind, String>;

/// The rows in front of one server.
async fn alone(
    args: &Args,
    open_files: u64,
    results: &mut Results,
    versions: &mut Versions,
) -> Result<(), Failure> {
    let bed = Bed::make(0).await?;
    let mut targets = start_all(args.targets(), &bed, versions).await;
    table::head();
    for load in loads().into_iter().filter(|load| args.wants(&load.name())) {
        let row = alternate(load, &mut targets, args, &bed).await;
        table::row(&row);
        results.rows.push(row);
    }
    if args.wants("crowd") {
        results.crowd = crowd_size(args, open_files);
        results.rows.extend(crowds(&targets, results.crowd, args).await);
    }
    idle_rows(args, &targets, &bed, results).await;
    Ok(())
}

/// The rows in front of a primary and its replicas.
async fn replicated(args: &Args, results: &mut Results, versions: &mut Versions) -> Result<(), Failure> {
    let bed = Bed::make(REPLICAS).await?;
    let mut targets = start_all(args.replicated(), &bed, versions).await;
    // What tables there are is read when the first statement comes, and nothing is split before that.
    tokio::time::sleep(Duration::from_secs(3)).await;
    table::head();
    for load in replicated_loads().into_iter().filter(|load| args.wants(&replicated_name(load))) {
        let row = Row { name: replicated_name(&load), ..alternate(load, &mut targets, args, &bed).await };
        table::row(&row);
        results.rows.push(row);
    }
    Ok(())
}

/// Rows of what is asked again or not to be kept, in front of one server.
async fn kept(
    kinds: Vec<Kind>,
    loads: Vec<Load>,
    name: fn(&Load) -> String,
    args: &Args,
    (results, versions): (&mut Results, &mut Versions),
) -> Result<(), Failure> {
    let bed = Bed::make(0).await?;
    let mut targets = start_all(kinds, &bed, versions).await;
    // What tables there are is read when the first statement comes, and nothing is kept before that.
    for target in &targets {
        pgbench::script("SELECT 1;", 1, target, Duration::from_secs(1), &bed).await?;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    table::head();
    for load in loads.into_iter().filter(|load| args.wants(&name(load))) {
        let row = Row { name: name(&load), ..alternate(load, &mut targets, args, &bed).await };
        table::row(&row);
        results.rows.push(row);
    }
    Ok(())
}

/// The rows of what is asked again.
fn kept_loads() -> Vec<Load> {
    let load = |script, protocol| Load { script, protocol, clients: 16, reconnect: false };
    let protocols = [Protocol::Simple, Protocol::Extended, Protocol::Prepared];
    let again = protocols.map(|protocol| load(Script::Again, protocol));
    again.into_iter().chain([load(Script::Report, Protocol::Simple)]).collect()
}

fn kept_name(load: &Load) -> String {
    format!("kept/{}", load.name())
}

/// The rows of what no rule speaks of, where others' results are kept.
fn uncached_loads() -> Vec<Load> {
    let load = |protocol| Load { script: Script::Select, protocol, clients: 16, reconnect: false };
    [Protocol::Simple, Protocol::Extended, Protocol::Prepared].map(load).into()
}

fn uncached_name(load: &Load) -> String {
    format!("uncached/{}", load.name())
}

/// The rows in front of a primary and two replicas that pgbench makes: reads alone, and a load that mostly reads.
fn replicated_loads() -> Vec<Load> {
    let mut loads = Vec::new();
    for script in [Script::Mostly, Script::Select] {
        for protocol in [Protocol::Simple, Protocol::Extended, Protocol::Prepared] {
            loads.extend([16, 64].map(|clients| Load { script, protocol, clients, reconnect: false }));
        }
    }
    loads
}

fn replicated_name(load: &Load) -> String {
    format!("replicas/{}", load.name())
}

/// The rows that pgbench makes.
fn loads() -> Vec<Load> {
    let plain = |script, protocol, clients| Load { script, protocol, clients, reconnect: false };
    let mut loads = Vec::new();
    for protocol in [Protocol::Simple, Protocol::Extended, Protocol::Prepared] {
        loads.extend([1, 16, 64].map(|clients| plain(Script::Select, protocol, clients)));
    }
    loads.push(plain(Script::TpcB, Protocol::Simple, 16));
    loads.push(Load { reconnect: true, ..plain(Script::Select, Protocol::Simple, 8) });
    loads
}

/// What will be done and how long that takes, roughly.
fn estimate(args: &Args) -> String {
    let (slot, rounds) = (args.slot().as_secs_f64(), args.rounds() as f64);
    let targets = args.targets();
    let pooling = targets.iter().filter(|kind| kind.pools()).count() as f64;
    let loads = loads().iter().filter(|load| args.wants(&load.name())).count() as f64;
    let replicated =
        replicated_loads().iter().filter(|load| args.wants(&replicated_name(load))).count() as f64;
    let kept = kept_loads().iter().filter(|load| args.wants(&kept_name(load))).count() as f64;
    let uncached = uncached_loads().iter().filter(|load| args.wants(&uncached_name(load))).count() as f64;
    let idle = idle::ROWS.iter().filter(|row| args.wants(row.name)).count() as f64;
    let crowds = if args.wants("crowd") { 1.0 } else { 0.0 };
    let seconds = 10.0
        + loads * targets.len() as f64 * rounds * (slot + 0.4)
        + replicated * args.replicated().len() as f64 * rounds * (slot + 0.4)
        + kept * args.keeping().len() as f64 * rounds * (slot + 0.4)
        + uncached * args.not_keeping().len() as f64 * rounds * (slot + 0.4)
        + crowds * pooling * (args.crowd as f64 / 600.0 + rounds * 2.0 * (slot + 1.0))
        + idle * pooling * (3.0 + args.idle as f64 / 600.0)
        + sizes::estimate(args)
        + moves::estimate(args)
        + tenants::estimate(args)
        + mirrors::estimate(args);
    let names: Vec<&str> = targets.iter().map(|kind| kind.name()).collect();
    format!(
        "{}: {rounds} rounds of {slot} s per row and target, in turns; about {:.1} minutes",
        names.join(", "),
        seconds / 60.0
    )
}

/// Starts the targets asked for; those that fail are left out, with a line that says so.
async fn start_all(kinds: Vec<Kind>, bed: &Bed, versions: &mut Versions) -> Vec<Target> {
    let mut targets = Vec::new();
    for kind in kinds {
        match Target::start(kind, bed, false).await {
            Ok(target) => {
                println!("{kind:<10} {}", target.version);
                versions.insert(kind, target.version.clone());
                targets.push(target);
            }
            Err(failure) => println!("{kind:<10} left out: {failure}"),
        }
    }
    targets
}

/// One row: in every round each target has its slot, and another target begins.
async fn alternate(load: Load, targets: &mut [Target], args: &Args, bed: &Bed) -> Row {
    let mut row = Row::new(load.name());
    for round in 0..args.rounds() {
        let mut samples = BTreeMap::new();
        for index in turns(targets.len(), round) {
            let target = &mut targets[index];
            if row.failures.contains_key(&target.kind) {
                continue;
            }
            match pgbench::measure(load.fitted_to(target), target, args.slot(), bed).await {
                Ok(sample) => drop(samples.insert(target.kind, sample)),
                Err(failure) => drop(row.failures.insert(target.kind, explained(target, &failure))),
            }
        }
        row.rounds.push(samples);
    }
    for target in targets.iter().filter(|target| load.fitted_to(target).protocol != load.protocol) {
        row.notes
            .entry(target.kind)
            .or_insert_with(|| "sent as extended: no prepared statements here".to_owned());
    }
    row
}

/// The indices below `count`, beginning elsewhere in each round.
fn turns(count: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |index| (index + round) % count)
}

/// A proxy that has died explains more than what its clients saw.
fn explained(target: &mut Target, failure: &Failure) -> String {
    match target.process.as_mut().map(|process| process.check()) {
        Some(Err(death)) => death.to_string(),
        _ => failure.to_string(),
    }
}

/// As many clients per pooling target as asked for, or as our limit of open files allows.
fn crowd_size(args: &Args, open_files: u64) -> usize {
    let pooling = args.targets().iter().filter(|kind| kind.pools()).count().max(1) as u64;
    let affordable = usize::try_from(open_files.saturating_sub(OTHER_FILES) / pooling).unwrap_or(usize::MAX);
    if affordable < args.crowd {
        println!("only {affordable} clients in the crowd: the limit is {open_files} open files");
    }
    args.crowd.min(affordable)
}

/// The crowd and, in the same rounds, a few of its clients while the others idle.
async fn crowds(targets: &[Target], size: usize, args: &Args) -> [Row; 2] {
    let mut few = Row::new(format!("crowd/{FEW}"));
    let mut many = Row::new(format!("crowd/{size}"));
    let mut crowds = open_crowds(targets, size, &mut many).await;
    for round in 0..args.rounds() {
        let (mut of_few, mut of_many) = (BTreeMap::new(), BTreeMap::new());
        for index in turns(crowds.len(), round) {
            let (target, clients) = &mut crowds[index];
            match drive_both(target, clients, size, args.slot()).await {
                Ok((sample_of_few, sample_of_many)) => {
                    of_few.insert(target.kind, sample_of_few);
                    of_many.insert(target.kind, sample_of_many);
                }
                Err(failure) => drop(many.failures.insert(target.kind, failure.to_string())),
            }
        }
        few.rounds.push(of_few);
        many.rounds.push(of_many);
    }
    note_crowd(&few, &mut many);
    table::row(&few);
    table::row(&many);
    [few, many]
}

async fn open_crowds<'a>(
    targets: &'a [Target],
    size: usize,
    row: &mut Row,
) -> Vec<(&'a Target, Vec<Client>)> {
    let mut crowds = Vec::new();
    for target in targets.iter().filter(|target| target.kind.pools()) {
        match crowd::open(&target.door, size).await {
            Ok(clients) => crowds.push((target, clients)),
            Err(failure) => drop(row.failures.insert(target.kind, failure.to_string())),
        }
    }
    crowds
}

async fn drive_both(
    target: &Target,
    clients: &mut Vec<Client>,
    size: usize,
    slot: Duration,
) -> Result<(Sample, Sample), Failure> {
    Ok((crowd::drive(clients, FEW, target, slot).await?, crowd::drive(clients, size, target, slot).await?))
}

fn note_crowd(few: &Row, many: &mut Row) {
    for kind in Kind::ALL {
        let Some(kept) = many.ratio_to(few, kind, crate::results::TPS) else { continue };
        let errors = few.errors(kind) + many.errors(kind);
        let note = format!("{:.0}% of {FEW} clients' rate, {errors} errors", kept * 100.0);
        many.notes.insert(kind, note);
    }
}

/// Rows of memory, of the targets that run at all.
async fn idle_rows(args: &Args, targets: &[Target], bed: &Bed, results: &mut Results) {
    let rows: Vec<_> = idle::ROWS.into_iter().filter(|row| args.wants(row.name)).collect();
    if rows.is_empty() {
        return;
    }
    table::idle_head();
    for row in rows {
        for kind in targets.iter().map(|target| target.kind).filter(|kind| kind.pools()) {
            match idle::measure(row, kind, args.idle, bed).await {
                Ok(idle) => {
                    table::idle(&idle);
                    results.idle.push(idle);
                }
                Err(failure) => {
                    table::idle_failed(row.name, kind, &failure);
                    results.idle_failures.entry(row.name).or_default().insert(kind, failure.to_string());
                }
            }
        }
    }
}

/// The file that we leave behind.
#[derive(Serialize)]
struct Report {
    settings: Settings,
    versions: Versions,
    #[serde(flatten)]
    results: Results,
    #[serde(flatten)]
    ours: Ours,
    goals: Vec<Goal>,
}

#[derive(Serialize)]
struct Settings {
    seconds: u64,
    rounds: usize,
    processors: usize,
}

impl From<&Args> for Settings {
    fn from(args: &Args) -> Self {
        let processors = std::thread::available_parallelism().map_or(0, usize::from);
        Settings { seconds: args.slot().as_secs(), rounds: args.rounds(), processors }
    }
}

fn save(report: &Report) -> Result<PathBuf, Failure> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench.json");
    std::fs::write(&path, serde_json::to_string_pretty(report)?)?;
    Ok(path)
}
