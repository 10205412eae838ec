//! Load made by pgbench, and what it reports.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::process::Command;

use crate::Failure;
use crate::bed::{Bed, NAME, PASSWORD, SCALE};
use crate::meter::Meter;
use crate::results::Sample;
use crate::targets::Target;

/// How much longer than asked a run may take before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(30);
/// Part of the transactions that is logged where there are many of them: enough for a 99th percentile, too little to
/// be felt.
const SAMPLED: f64 = 0.2;
/// Part of a run at its beginning, and at its end, that is not weighed: not all clients are there.
const EDGE: f64 = 0.05;

/// Statements of the load that mostly reads, and how many of a hundred they are.
const MOSTLY: [Weighted; 2] =
    [(ANY, SELECT, 95), (ANY, "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;", 5)];
/// Of the load that asks again, likewise.
const AGAIN: [Weighted; 2] =
    [("\\set aid random(1, 1000)", SELECT, 95), ("\\set aid random(1001, 100000 * :scale)", SELECT, 5)];
/// About a tenth of a second.
const REPORT: &str =
    "SELECT bid, count(*), sum(abalance), max(aid), avg(aid) FROM pgbench_accounts GROUP BY bid;";

/// What is set before a statement, the statement, and how many of all are this one.
type Weighted = (&'static str, &'static str, u32);
const ANY: &str = "\\set aid random(1, 100000 * :scale)";
const SELECT: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = :aid;";

/// What a transaction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// One select by primary key.
    Select,
    /// The same, and one of twenty writes to the row instead.
    Mostly,
    /// The tpcb-like one: seven statements, four tables written.
    TpcB,
    /// Selects by primary key, of which nineteen of twenty have been asked for before.
    Again,
    /// What takes a server long, again and again, at a rate that leaves time between.
    Report,
}

/// How statements are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Query.
    Simple,
    /// Parse, Bind, Execute each time.
    Extended,
    /// Parse once, then Bind and Execute.
    Prepared,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Simple => "simple",
            Protocol::Extended => "extended",
            Protocol::Prepared => "prepared",
        })
    }
}

/// What one run does.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The transaction.
    pub script: Script,
    /// How it is sent.
    pub protocol: Protocol,
    /// Clients at once.
    pub clients: u32,
    /// Connect and log in for each transaction.
    pub reconnect: bool,
}

impl Load {
    /// The name of its row.
    pub fn name(&self) -> String {
        let what = match (self.reconnect, self.script) {
            (true, _) => "connect",
            (_, Script::Select) => "select",
            (_, Script::Mostly) => "mostly",
            (_, Script::TpcB) => "tpcb",
            (_, Script::Again) => "again",
            (_, Script::Report) => "report",
        };
        format!("{what}/{}/{}", self.protocol, self.clients)
    }

    /// The same, but sent in the way that the target can share server connections with.
    pub fn fitted_to(self, target: &Target) -> Self {
        let unfit = self.protocol == Protocol::Prepared && !target.prepares;
        Load { protocol: if unfit { Protocol::Extended } else { self.protocol }, ..self }
    }

    fn sampling(&self) -> f64 {
        let few = matches!(self.script, Script::TpcB | Script::Report) || self.clients == 1 || self.reconnect;
        if few { 1.0 } else { SAMPLED }
    }

    fn command(&self, bed: &Bed, port: u16) -> Result<Command, Failure> {
        let mut command = pgbench(bed, port);
        command.args(["-n", "-M", &self.protocol.to_string(), "-c", &self.clients.to_string()]);
        match self.script {
            Script::Select => drop(command.arg("-S")),
            Script::TpcB => {}
            Script::Mostly => weighted(&mut command, bed, &MOSTLY)?,
            Script::Again => weighted(&mut command, bed, &AGAIN)?,
            Script::Report => {
                weighted(&mut command, bed, &[("", REPORT, 1)])?;
                command.args(["-R", "1000"]);
            }
        }
        if self.reconnect {
            // Connecting blocks a thread of pgbench, so each client has its own.
            command.args(["-C", "-j", &self.clients.to_string()]);
        }
        Ok(command)
    }
}

/// Has pgbench run these statements.
fn weighted(command: &mut Command, bed: &Bed, statements: &[Weighted]) -> Result<(), Failure> {
    for (place, (set, statement, weight)) in statements.iter().enumerate() {
        let path = bed.dir().join(format!("{place}-{}-{weight}.sql", statement.len()));
        fs::write(&path, format!("{set}\n{statement}\n"))?;
        command.arg("-f").arg(format!("{}@{weight}", path.display()));
    }
    // It would be looked for in a table where scripts are ours.
    command.args(["-s", &SCALE.to_string()]);
    Ok(())
}

/// Measures one target for `slot`.
///
/// What it spends is weighed while transactions run: with SCRAM, opening the connections costs a proxy as much as thousands
/// of them, and not always the same.
pub async fn measure(load: Load, target: &Target, slot: Duration, bed: &Bed) -> Result<Sample, Failure> {
    let directory = tempfile::tempdir_in(bed.dir())?;
    let mut command = load.command(bed, target.door.port)?;
    command.args(["-T", &slot.as_secs().to_string(), "-l", "--log-prefix"]).arg(directory.path().join("log"));
    if load.sampling() < 1.0 {
        command.arg(format!("--sampling-rate={}", load.sampling()));
    }
    let (report, meter) = Meter::beside(target, report_of(command, slot + PATIENCE)).await?;
    let report = report?;
    let transactions = number_after(&report, "number of transactions actually processed: ")?;
    let log = Log::read(directory.path())?;
    Ok(Sample {
        transactions: transactions as u64,
        tps: number_after(&report, "tps = ")?,
        mean_ms: number_after(&report, "latency average = ")?,
        p99_ms: log.p99(load.reconnect)?,
        cpu_us: log.cost(&meter, transactions),
        errors: 0,
    })
}

/// Runs a script of one's own with so many clients for `slot`; tells how often it ran in a second.
pub async fn script(
    text: &str,
    clients: u32,
    target: &Target,
    slot: Duration,
    bed: &Bed,
) -> Result<f64, Failure> {
    script_of("script", text, clients, target, slot, bed).await
}

/// The same beside others of other names.
pub async fn script_of(
    name: &str,
    text: &str,
    clients: u32,
    target: &Target,
    slot: Duration,
    bed: &Bed,
) -> Result<f64, Failure> {
    let path = bed.dir().join(format!("{name}.sql"));
    fs::write(&path, text)?;
    let mut command = pgbench(bed, target.door.port);
    let (clients, seconds) = (clients.to_string(), slot.as_secs().to_string());
    command.args(["-n", "-c", &clients, "-T", &seconds, "-f"]).arg(path);
    number_after(&report_of(command, slot + PATIENCE).await?, "tps = ")
}

/// Makes the tables.
pub async fn fill(bed: &Bed, scale: u32) -> Result<(), Failure> {
    let mut command = pgbench(bed, bed.port());
    command.args(["-i", "-q", "-s", &scale.to_string()]);
    report_of(command, 10 * PATIENCE).await.map(drop)
}

fn pgbench(bed: &Bed, port: u16) -> Command {
    let mut command = Command::new(bed.pgbench());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    // Neither asks for encryption first, so that logging in is the same exchange everywhere.
    command.env("PGPASSWORD", PASSWORD).env("PGSSLMODE", "disable").env("PGGSSENCMODE", "disable");
    command.env("LC_ALL", "C").env("PGDATABASE", NAME);
    command.args(["-h", "127.0.0.1", "-U", NAME, "-p", &port.to_string()]);
    command.kill_on_drop(true);
    command
}

async fn report_of(mut command: Command, patience: Duration) -> Result<String, Failure> {
    let output = tokio::time::timeout(patience, command.output()).await;
    let output = output.map_err(|_| "pgbench got stuck")?.map_err(|e| format!("cannot run pgbench: {e}"))?;
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() && !report.contains("Run was aborted") {
        return Ok(report);
    }
    let complaints = String::from_utf8_lossy(&output.stderr);
    let said = complaints.lines().find(|line| line.contains("error")).unwrap_or("it does not say why");
    Err(format!("pgbench failed: {}", said.trim_start_matches("pgbench: ")).into())
}

/// The number that follows `label` in pgbench's report.
fn number_after(report: &str, label: &str) -> Result<f64, Failure> {
    let rest = report.split(label).nth(1).ok_or_else(|| format!("pgbench does not tell \"{label}\""))?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    Ok(rest[..end].parse()?)
}

/// A transaction in pgbench's log: `client number latency script seconds microseconds`, and where there is a rate `lag`.
struct Logged {
    client: u64,
    /// Microseconds from its first statement to its last answer. With a rate, pgbench counts from when it was due; that
    /// it begins later is its own timer's doing.
    latency: u64,
    /// Microseconds on the clock at its end.
    end: u64,
}

impl Logged {
    fn parse(line: &str) -> Result<Self, Failure> {
        let columns: Result<Vec<u64>, _> = line.split(' ').map(str::parse).collect();
        match columns?.as_slice() {
            &[client, _, latency, _, seconds, micros, ref lag @ ..] => {
                let latency = latency.saturating_sub(lag.first().copied().unwrap_or(0));
                Ok(Logged { client, latency, end: seconds * 1_000_000 + micros })
            }
            _ => Err("pgbench's log is not as expected".into()),
        }
    }
}

/// The transactions of a run, or a sample of them, in the order in which each client made them.
struct Log(Vec<Logged>);

impl Log {
    fn read(directory: &Path) -> Result<Self, Failure> {
        let mut all = Vec::new();
        for entry in fs::read_dir(directory)? {
            for line in fs::read_to_string(entry?.path())?.lines() {
                all.push(Logged::parse(line)?);
            }
        }
        Ok(Log(all))
    }

    /// The 99th percentile of latency in milliseconds. Logs leave connecting out, so that `reconnect` counts from the end of
    /// the client's last transaction.
    fn p99(&self, reconnect: bool) -> Result<f64, Failure> {
        let mut latencies = Histogram::<u64>::new(3)?;
        let mut ends = HashMap::new();
        for logged in &self.0 {
            let previous = ends.insert(logged.client, logged.end);
            if !reconnect {
                latencies.record(logged.latency)?;
            } else if let Some(previous) = previous {
                latencies.record(logged.end.saturating_sub(previous))?;
            }
        }
        Ok(latencies.value_at_quantile(0.99) as f64 / 1e3)
    }

    /// Microseconds of a proxy's processor time per transaction of a run of so many, without its beginning and its end.
    fn cost(&self, meter: &Meter, transactions: f64) -> Option<f64> {
        let first = self.0.iter().map(|logged| logged.end).min()? as f64;
        let last = self.0.iter().map(|logged| logged.end).max()? as f64;
        let edge = (last - first) * EDGE;
        let (from, until) = (first + edge, last - edge);
        let within = self.0.iter().filter(|logged| (from..until).contains(&(logged.end as f64))).count();
        let done = transactions * within as f64 / self.0.len() as f64;
        meter.spent(from, until).filter(|_| done > 0.0).map(|spent| spent / done)
    }
}
