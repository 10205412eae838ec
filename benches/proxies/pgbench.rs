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
use crate::results::Sample;
use crate::targets::Target;

/// How much longer than asked a run may take before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(30);
/// Part of the transactions that is logged where there are many of them: enough for a 99th percentile, too little to
/// be felt.
const SAMPLED: f64 = 0.1;

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
pub async fn measure(load: Load, target: &Target, slot: Duration, bed: &Bed) -> Result<Sample, Failure> {
    let logins = if load.reconnect { Work::default() } else { cost_of_logins(load, target, bed).await? };
    let log = tempfile::tempdir_in(bed.dir())?;
    let mut command = load.command(bed, target.door.port)?;
    command.args(["-T", &slot.as_secs().to_string(), "-l", "--log-prefix"]).arg(log.path().join("log"));
    if load.sampling() < 1.0 {
        command.arg(format!("--sampling-rate={}", load.sampling()));
    }
    let (report, cpu) = weighed(command, target, slot).await?;
    let transactions = number_after(&report, "number of transactions actually processed: ")?;
    Ok(Sample {
        transactions: transactions as u64,
        tps: number_after(&report, "tps = ")?,
        mean_ms: number_after(&report, "latency average = ")?,
        p99_ms: p99(log.path(), load.reconnect)?,
        cpu_us: cpu.map(|cpu| {
            let spent = cpu.saturating_sub(logins.cpu).as_secs_f64() * 1e6;
            spent / (transactions - logins.transactions).max(1.0)
        }),
        errors: 0,
    })
}

/// What a run does besides its transactions.
#[derive(Default)]
struct Work {
    cpu: Duration,
    transactions: f64,
}

/// A run of one transaction per client, to subtract: with SCRAM, opening the connections costs a proxy as much as
/// thousands of transactions. It also opens the server connections.
async fn cost_of_logins(load: Load, target: &Target, bed: &Bed) -> Result<Work, Failure> {
    let mut command = load.command(bed, target.door.port)?;
    command.args(["-t", "1"]);
    let (_, cpu) = weighed(command, target, Duration::ZERO).await?;
    Ok(Work { cpu: cpu.unwrap_or_default(), transactions: f64::from(load.clients) })
}

/// Runs pgbench and says what it printed and what the proxy spent meanwhile.
async fn weighed(
    command: Command,
    target: &Target,
    slot: Duration,
) -> Result<(String, Option<Duration>), Failure> {
    let before = target.cpu()?;
    let report = report_of(command, slot + PATIENCE).await?;
    let after = target.cpu()?;
    Ok((report, after.zip(before).map(|(after, before)| after.saturating_sub(before))))
}

/// Runs a script of one's own with so many clients for `slot`; tells how often it ran in a second.
pub async fn script(
    text: &str,
    clients: u32,
    target: &Target,
    slot: Duration,
    bed: &Bed,
) -> Result<f64, Failure> {
    let path = bed.dir().join("script.sql");
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

/// The 99th percentile of latency in milliseconds by pgbench's logs. They leave connecting out, so that `reconnect`
/// counts from the end of the client's last transaction.
fn p99(dir: &Path, reconnect: bool) -> Result<f64, Failure> {
    let mut latencies = Histogram::<u64>::new(3)?;
    let mut ends = HashMap::new();
    for entry in fs::read_dir(dir)? {
        for line in fs::read_to_string(entry?.path())?.lines() {
            let logged = Logged::parse(line)?;
            let previous = ends.insert(logged.client, logged.end);
            if !reconnect {
                latencies.record(logged.latency)?;
            } else if let Some(previous) = previous {
                latencies.record(logged.end.saturating_sub(previous))?;
            }
        }
    }
    Ok(latencies.value_at_quantile(0.99) as f64 / 1e3)
}
