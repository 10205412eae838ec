//! Clients that write and read without end, and remember what they were told.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, NoTls, Statement};

/// What a client may be told when the primary is lost.
const MAY_BE_TOLD: &[&str] = &["08006", "57P01", "08007"];

/// Ways of writing; each has clients of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Simple,
    Extended,
    Prepared,
    /// A transaction, statement by statement.
    Transaction,
    /// The same, and the client takes its time.
    SlowTransaction,
    /// A transaction in one message.
    String,
}

const WAYS: &[Way] = &[
    Way::Simple,
    Way::Extended,
    Way::Prepared,
    Way::Transaction,
    Way::SlowTransaction,
    Way::String,
    Way::Simple,
    Way::Prepared,
];

/// What became of rows.
#[derive(Debug, Default)]
pub struct Tally {
    pub acknowledged: HashSet<i64>,
    pub unknown: HashSet<i64>,
    pub failed: HashSet<i64>,
    pub reads: u64,
    pub bench_writes: u64,
    pub bench_reads: u64,
    /// Failures by client, in order.
    failures: HashMap<usize, Vec<String>>,
    /// Each client's last acknowledgement.
    last: HashMap<usize, Instant>,
    /// The slowest read since the round began, and when it began.
    longest_read: Option<(Duration, Instant)>,
}

type Shared = Arc<Mutex<Tally>>;

pub struct Load {
    tally: Shared,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
    benches: Vec<std::thread::JoinHandle<()>>,
}

/// A client and what its connection ends with.
struct Session {
    client: Client,
    end: JoinHandle<Option<Error>>,
    statement: Option<Statement>,
}

impl Session {
    async fn open(url: &str) -> Result<Session, Error> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        let end = tokio::spawn(async move { connection.await.err() });
        Ok(Session { client, end, statement: None })
    }

    /// What a client is told that asks something of a connection that was closed meanwhile.
    async fn words(self, error: Error) -> (String, String) {
        let Session { client, end, .. } = self;
        drop(client);
        let told =
            |e: &Error| e.as_db_error().map(|e| (e.code().code().to_string(), e.message().to_string()));
        if let Some(words) = told(&error) {
            return words;
        }
        let end = end.await.ok().flatten();
        let words = end.as_ref().and_then(told);
        words.unwrap_or_else(|| ("no code".to_string(), format!("{error:?}, {end:?}")))
    }

    async fn write(&mut self, way: Way, ids: &[i64]) -> Result<(), Error> {
        let client = &self.client;
        let insert = |id: &i64| format!("INSERT INTO ledger VALUES ({id})");
        match way {
            Way::Simple => client.batch_execute(&insert(&ids[0])).await,
            Way::Extended => extended(client, ids[0]).await,
            Way::Prepared => {
                if self.statement.is_none() {
                    self.statement = Some(client.prepare("INSERT INTO ledger VALUES ($1)").await?);
                }
                let Some(statement) = &self.statement else { return Ok(()) };
                client.execute(statement, &[&ids[0]]).await.map(drop)
            }
            Way::Transaction | Way::SlowTransaction => {
                client.batch_execute("BEGIN").await?;
                for id in ids {
                    extended(client, *id).await?;
                    if way == Way::SlowTransaction {
                        tokio::time::sleep(Duration::from_millis(30)).await;
                    }
                }
                client.batch_execute("COMMIT").await
            }
            Way::String => {
                let inserts: Vec<_> = ids.iter().map(insert).collect();
                client.batch_execute(&format!("BEGIN; {}; COMMIT", inserts.join("; "))).await
            }
        }
    }
}

/// A statement of the extended protocol without a name: whoever has named one asks later that it be closed, does not wait
/// for the answer, and misses what it is told instead.
async fn extended(client: &Client, id: i64) -> Result<(), Error> {
    client.query_typed("INSERT INTO ledger VALUES ($1)", &[(&id, Type::INT8)]).await.map(drop)
}

impl Load {
    pub async fn start(url: &str, pgbench: PathBuf) -> Load {
        let (tally, stop) = (Shared::default(), Arc::new(AtomicBool::new(false)));
        let mut tasks = Vec::new();
        for (number, way) in WAYS.iter().enumerate() {
            let session = Session::open(url).await.expect("a session");
            let (url, tally, stop) = (url.to_string(), tally.clone(), stop.clone());
            tasks.push(tokio::spawn(async move { writer(number, *way, session, &url, &tally, &stop).await }));
        }
        for prepared in [false, true, false] {
            let session = Session::open(url).await.expect("a session");
            let (tally, stop) = (tally.clone(), stop.clone());
            tasks.push(tokio::spawn(async move { reader(prepared, session, &tally, &stop).await }));
        }
        let benches = [true, false].map(|writes| {
            let (url, pgbench) = (url.to_string(), pgbench.clone());
            let (tally, stop) = (tally.clone(), stop.clone());
            std::thread::spawn(move || bench(&url, &pgbench, writes, &tally, &stop))
        });
        Load { tally, stop, tasks, benches: benches.into() }
    }

    /// Failures so far, by client.
    pub fn failures(&self) -> HashMap<usize, usize> {
        let tally = self.tally.lock().expect("nobody panicked");
        tally.failures.iter().map(|(client, all)| (*client, all.len())).collect()
    }

    /// Failures since, by what was told and by client.
    pub fn failures_since(
        &self,
        before: &HashMap<usize, usize>,
    ) -> (Vec<(String, usize)>, HashMap<usize, usize>) {
        let tally = self.tally.lock().expect("nobody panicked");
        let (mut kinds, mut clients) = (HashMap::<String, usize>::new(), HashMap::new());
        for (client, all) in &tally.failures {
            let new = &all[before.get(client).copied().unwrap_or(0)..];
            clients.insert(*client, new.len());
            new.iter().for_each(|code| *kinds.entry(code.clone()).or_default() += 1);
        }
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort();
        (kinds, clients)
    }

    pub fn begin_round(&self) {
        self.tally.lock().expect("nobody panicked").longest_read = None;
    }

    /// Waits until every client has been told of a write again, which was lost at `crashed`. Returns when the first
    /// was, and all were, after `promoted`.
    pub async fn resumed(
        &self,
        crashed: Instant,
        promoted: Instant,
        patience: Duration,
    ) -> (Duration, Duration) {
        // What was acknowledged before its server died may be noted a moment later.
        let crashed = crashed + Duration::from_millis(100);
        let mut first = None;
        loop {
            {
                let tally = self.tally.lock().expect("nobody panicked");
                let since = |t: &&Instant| **t > crashed;
                let resumed: Vec<_> = tally.last.values().filter(since).collect();
                if let Some(earliest) = resumed.iter().min() {
                    first = first.or(Some(earliest.saturating_duration_since(promoted)));
                }
                if resumed.len() == WAYS.len() {
                    let all = promoted.elapsed();
                    return (first.unwrap_or(all), all);
                }
                assert!(
                    promoted.elapsed() < patience,
                    "{} of {} clients write again after {patience:?}",
                    resumed.len(),
                    WAYS.len()
                );
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Longest time of a read since the round began, and when that read began.
    pub fn longest_read(&self) -> Option<(Duration, Instant)> {
        self.tally.lock().expect("nobody panicked").longest_read
    }

    /// Ends it; what became of everything.
    pub async fn stop(self) -> Tally {
        self.stop.store(true, SeqCst);
        for task in self.tasks {
            task.await.expect("no panic");
        }
        for bench in self.benches {
            tokio::task::block_in_place(|| bench.join()).expect("no panic");
        }
        std::mem::take(&mut *self.tally.lock().expect("nobody panicked"))
    }
}

async fn writer(number: usize, way: Way, session: Session, url: &str, tally: &Shared, stop: &AtomicBool) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut session = session;
    while !stop.load(SeqCst) {
        let ids: Vec<i64> = (0..2).map(|_| NEXT.fetch_add(1, SeqCst) as i64).collect();
        let several = matches!(way, Way::Transaction | Way::SlowTransaction | Way::String);
        let ids = &ids[..if several { 2 } else { 1 }];
        match session.write(way, ids).await {
            Ok(()) => {
                let mut tally = tally.lock().expect("nobody panicked");
                tally.acknowledged.extend(ids);
                tally.last.insert(number, Instant::now());
            }
            Err(e) => {
                let (code, message) = session.words(e).await;
                assert!(MAY_BE_TOLD.contains(&code.as_str()), "{way:?} was told {code}: {message}");
                {
                    let mut tally = tally.lock().expect("nobody panicked");
                    // What has failed for certain is not there; of other things nobody knows.
                    if code == "08006" {
                        tally.failed.extend(ids)
                    } else {
                        tally.unknown.extend(ids)
                    }
                    tally.failures.entry(number).or_default().push(format!("{way:?} {code}"));
                }
                session = Session::open(url).await.expect("whoever comes in waits, too");
            }
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

async fn reader(prepared: bool, session: Session, tally: &Shared, stop: &AtomicBool) {
    const READ: &str = "SELECT n FROM quiet";
    let statement = session.client.prepare(READ).await.expect("prepared");
    while !stop.load(SeqCst) {
        let begun = Instant::now();
        if prepared {
            let row = session.client.query_one(&statement, &[]).await.expect("reads never fail");
            assert_eq!(row.get::<_, i32>(0), 1);
        } else {
            session.client.simple_query(READ).await.expect("reads never fail");
        }
        {
            let mut tally = tally.lock().expect("nobody panicked");
            tally.longest_read = tally.longest_read.max(Some((begun.elapsed(), begun)));
            tally.reads += 1;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// pgbench, again and again: as the writer it may lose its clients, as the reader it may not.
fn bench(url: &str, pgbench: &PathBuf, writes: bool, tally: &Shared, stop: &AtomicBool) {
    let script = if writes { "INSERT INTO bench VALUES (:client_id);" } else { "SELECT n FROM quiet;" };
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), script).expect("a script");
    while !stop.load(SeqCst) {
        let mut command = Command::new(pgbench);
        command.args([
            "-n",
            "-c",
            "2",
            "-T",
            "3",
            "-R",
            "200",
            "-M",
            if writes { "extended" } else { "prepared" },
        ]);
        command.arg("-f").arg(file.path()).arg(url).stdin(Stdio::null());
        let output = command.output().expect("pgbench runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let processed =
            said.lines().find_map(|l| l.strip_prefix("number of transactions actually processed: "));
        let processed: u64 =
            processed.and_then(|n| n.split('/').next()?.trim().parse().ok()).unwrap_or_default();
        if !writes {
            assert!(output.status.success(), "{said}{errors}");
        }
        let mut tally = tally.lock().expect("nobody panicked");
        *(if writes { &mut tally.bench_writes } else { &mut tally.bench_reads }) += processed;
    }
}
