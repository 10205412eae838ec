//! The checker of results that are kept, in a storm: two proxies of one primary and two replicas, with results in Redis,
//! too; clients that write through either of them and past both, and read by both; and at random one of the proxies, Redis
//! or Postgres is killed (SIGKILL) and started again. `TURNPIKE_CHECK_READS` sets how many reads.
//!
//! Each row has one writer, whose values grow and are never taken back, however late a server carries them out. What a client
//! reads of rows that are written through the same proxy is held against what was acknowledged, or seen by anybody, before
//! it began; all other rows against what was so longer ago than the bound. A proxy that was killed and started again is
//! another process: what was written through it before counts as written elsewhere. Where proxies tell each other of writes
//! (`strict`), all of that counts as written through the same; and so where all writes pass through one proxy (`writers =
//! "proxy"`), also when that is killed. A write whose answer was lost may have been done, or not, and be done later.

#![allow(clippy::print_stdout, reason = "what was measured is worth reading")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::task::block_in_place;
use tokio_postgres::{Client, Error, SimpleQueryMessage};
use turnpike::app::cluster::{Cluster, ClusterOptions};

use crate::elsewhere::run;
use crate::harness::{Proxy, TRUST, rows, try_pg};
use crate::redis::Redis;

/// Who tells proxies of writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Told {
    /// The server does.
    #[default]
    Wal,
    /// They tell each other as well.
    Strict,
    /// Nobody: there is one, and everybody writes through it.
    Alone,
}

/// How far behind writers elsewhere reads may be.
const BOUND: Duration = Duration::from_millis(200);
/// Longest time that anybody waits for an answer before it is taken for lost.
const PATIENCE: Duration = Duration::from_secs(40);
/// Rows of each table.
const ROWS: usize = 3;
/// Tables, by who writes to them: clients of the first proxy, of the second, and past both.
const TABLES: [&str; 3] = ["av", "bv", "ev"];
/// Clients that read, by proxy.
const READERS: [usize; 6] = [0, 0, 0, 0, 1, 1];
/// What is rolled back is of another kind: nobody may see it.
const NEVER: i64 = 1 << 40;
/// Redis keeps what it has on disk: what comes back may be of before.
const REDIS: &[&str] = &["--save", "1 1", "--appendonly", "yes"];

/// What is said of functions that nobody calls before the end.
const LIES: &str = "[[function]]\nname = \"av_told\"\nreads = []\n[[function]]\nname = \"bv_told\"\nreads = []\n\
                    [[function]]\nname = \"ev_told\"\nreads = []\n";

fn schema() -> String {
    let table = |t: &str| {
        format!(
            "CREATE TABLE {t} (id int PRIMARY KEY, v bigint NOT NULL);
             INSERT INTO {t} SELECT i, 0 FROM generate_series(0, {ROWS} - 1) i;
             CREATE VIEW {t}_seen AS SELECT id, v FROM {t};
             CREATE FUNCTION {t}_read(int) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT v FROM {t} WHERE id = $1';
             CREATE FUNCTION {t}_write(int, bigint) RETURNS void LANGUAGE plpgsql AS
                 'BEGIN UPDATE {t} SET v = greatest(v, $2) WHERE id = $1; END';
             CREATE FUNCTION {t}_told(int) RETURNS bigint LANGUAGE plpgsql AS
                 'BEGIN RETURN (SELECT v FROM {t} WHERE id = $1); END';"
        )
    };
    TABLES.map(table).concat()
}

/// One row's history, as far as it matters.
#[derive(Default)]
struct Past {
    /// The newest value that was sent, committed or not.
    sent: i64,
    /// What was acknowledged or seen, and when.
    told: Vec<(Instant, i64)>,
    /// The newest that was acknowledged or seen of what was written through the process that its proxy is now.
    known: i64,
    /// The newest that was sent through processes before that.
    floor: i64,
    /// How many those were.
    generation: u64,
}

impl Past {
    fn tell(&mut self, v: i64) {
        if self.told.last().is_none_or(|(_, last)| *last < v) {
            self.told.push((Instant::now(), v));
        }
    }

    /// What a read that begins now must have at least.
    fn least(&self, own: bool) -> i64 {
        let now = Instant::now();
        let old = self.told.iter().rev().find(|(at, _)| now.duration_since(*at) > BOUND);
        old.map_or(0, |(_, v)| *v).max(if own { self.known } else { 0 })
    }
}

/// What has become of a run.
#[derive(Default)]
struct Shared {
    rows: [[Mutex<Past>; ROWS]; 3],
    told: Told,
    wanted: usize,
    reads: AtomicUsize,
    wrong: Mutex<Vec<String>>,
    writes: AtomicUsize,
    unknown: AtomicUsize,
    lost_reads: AtomicUsize,
    over: AtomicBool,
    seed: AtomicUsize,
}

impl Shared {
    fn below(&self, n: usize) -> usize {
        crate::harness::below(&self.seed, n)
    }

    fn past<T>(&self, table: usize, id: usize, of: impl FnOnce(&mut Past) -> T) -> T {
        of(&mut self.rows[table][id].lock().expect("no panic"))
    }

    /// Whether what is written to a table is written through the proxy, to whom reads by it.
    fn is_own(&self, table: usize, proxy: usize) -> bool {
        match self.told {
            Told::Wal => table == proxy,
            Told::Strict => table < 2,
            Told::Alone => true,
        }
    }

    /// A proxy will be another process.
    fn ends(&self, proxy: usize) {
        for id in (0..ROWS).filter(|_| self.told == Told::Wal) {
            self.past(proxy, id, |past| {
                (past.generation, past.floor, past.known) = (past.generation + 1, past.sent, 0);
            });
        }
    }

    /// Goes on where another run has ended.
    fn takes_over(&self, other: &Shared) {
        for (table, id) in (0..3).flat_map(|table| (0..ROWS).map(move |id| (table, id))) {
            let sent = other.past(table, id, |past| past.sent);
            self.past(table, id, |past| (past.sent, past.floor) = (sent, sent));
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(SeqCst)
    }
}

/// Writes in one of many ways. What is carried out late takes nothing back.
async fn write(client: &Client, shared: &Shared, table: usize) -> Result<(), Error> {
    let (t, id) = (TABLES[table], shared.below(ROWS));
    let set = |v: i64| format!("UPDATE {t} SET v = greatest(v, {v}) WHERE id = {id}");
    let way = if shared.below(200) == 0 { 7 + shared.below(2) } else { shared.below(7) };
    if way == 0 {
        client.batch_execute("BEGIN").await?;
        client.batch_execute(&set(NEVER)).await?;
        return client.batch_execute("ROLLBACK").await;
    }
    let (v, generation) = shared.past(table, id, |past| {
        past.sent += 1;
        (past.sent, past.generation)
    });
    let all = match way {
        1 => {
            let undone = format!("SAVEPOINT s; {}; ROLLBACK TO s", set(NEVER));
            vec!["BEGIN".into(), undone, set(v), "COMMIT".into()]
        }
        2 => vec![format!("WITH w AS ({} RETURNING id) SELECT id FROM w", set(v))],
        3 => {
            let conflict = format!("ON CONFLICT (id) DO UPDATE SET v = greatest({t}.v, excluded.v)");
            // With its columns it is known which row it writes.
            let columns = if v % 2 == 0 { "" } else { " (id, v)" };
            vec![format!("INSERT INTO {t}{columns} VALUES ({id}, {v}) {conflict}")]
        }
        4 => vec![format!("UPDATE {t}_seen SET v = greatest(v, {v}) WHERE id = {id}")],
        5 => vec![format!("BEGIN; {}; COMMIT", set(v))],
        7 => vec![format!("DO $$ BEGIN {}; END $$", set(v))],
        8 => vec![format!("SELECT {t}_write({id}, {v})")],
        _ => {
            let sql = format!("UPDATE {t} SET v = greatest(v, $2) WHERE id = $1");
            client.execute(&sql, &[&(id as i32), &v]).await?;
            Vec::new()
        }
    };
    for sql in all {
        client.batch_execute(&sql).await?;
    }
    shared.past(table, id, |past| {
        past.tell(v);
        if past.generation == generation {
            past.known = past.known.max(v);
        }
    });
    shared.writes.fetch_add(1, SeqCst);
    Ok(())
}

/// Reads in one of many ways.
async fn read(client: &Client, shared: &Shared, proxy: usize, told: bool) -> Result<(), Error> {
    let many = if shared.below(12) == 0 { 3 } else { 1 };
    if many > 1 {
        client.batch_execute("BEGIN").await?;
    }
    for _ in 0..many {
        let (table, id) = (shared.below(3), shared.below(ROWS));
        let least = shared.past(table, id, |past| past.least(shared.is_own(table, proxy)));
        let began = Instant::now();
        let way = if told { 9 } else { shared.below(5) };
        let got = value(client, TABLES[table], id, way).await?;
        let most = shared.past(table, id, |past| {
            past.tell(got.min(past.sent));
            if got > past.floor && got <= past.sent {
                past.known = past.known.max(got);
            }
            past.sent
        });
        if got < least || got > most {
            let took = began.elapsed();
            let t = TABLES[table];
            let what = format!(
                "{t} {id} by proxy {proxy}: {got}, not from {least} to {most}, way {way} in {many}, {took:?}"
            );
            shared.wrong.lock().expect("no panic").push(what);
        }
        shared.reads.fetch_add(1, SeqCst);
    }
    if many > 1 { client.batch_execute("COMMIT").await } else { Ok(()) }
}

async fn value(client: &Client, t: &str, id: usize, way: usize) -> Result<i64, Error> {
    let sql = match way {
        0 => format!("SELECT v FROM {t}_seen WHERE id = {id}"),
        1 => {
            let sql = format!("SELECT v FROM {t} WHERE id = $1");
            return Ok(client.query_one(&sql, &[&(id as i32)]).await?.get(0));
        }
        2 => format!("SELECT {t}_read({id}) FROM {t} LIMIT 1"),
        9 => format!("SELECT {t}_told({id}) FROM quiet"),
        _ => format!("SELECT v FROM {t} WHERE id = {id}"),
    };
    let messages = client.simple_query(&sql).await?;
    let value = messages.iter().find_map(|m| match m {
        SimpleQueryMessage::Row(row) => row.get(0).and_then(|text| text.parse().ok()),
        _ => None,
    });
    Ok(value.expect("a row"))
}

/// The servers, Redis, and the proxies.
struct Bed {
    servers: Cluster,
    redis: Redis,
    /// One, or two.
    proxies: Vec<Proxy>,
    /// Hits of processes that are gone.
    hits: u64,
    _dir: TempDir,
}

impl Bed {
    fn new(told: Told) -> Bed {
        let servers = Cluster::start(ClusterOptions { replicas: 2, ..ClusterOptions::default() });
        let servers = servers.unwrap_or_else(|e| panic!("{e}"));
        let made =
            format!("{} CREATE TABLE quiet (n int PRIMARY KEY); INSERT INTO quiet VALUES (1);", schema());
        servers.primary().psql("postgres", &made).expect("made");
        // One of them is always behind.
        let late = "ALTER SYSTEM SET recovery_min_apply_delay = '60ms'; SELECT pg_reload_conf()";
        servers.replicas()[1].psql("postgres", late).expect("said");
        let (redis, dir) = (Redis::start(REDIS), tempfile::tempdir().expect("a directory"));
        let key = dir.path().join("key");
        std::fs::write(&key, "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff")
            .expect("written");
        let ours = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&key, ours).expect("ours");
        let many = if told == Told::Alone { 1 } else { 2 };
        let proxies = (0..many).map(|n| proxy(told, n, &servers, redis.port, dir.path())).collect();
        Bed { servers, redis, proxies, hits: 0, _dir: dir }
    }

    /// Where writers of a table connect.
    fn writes_at(&self, table: usize) -> String {
        match self.proxies.len() {
            1 => self.url(0),
            many if table < many => self.url(table),
            _ => self.servers.superuser_url("postgres"),
        }
    }

    /// Of a proxy, or of the one that there is.
    fn url(&self, proxy: usize) -> String {
        let proxy = &self.proxies[proxy.min(self.proxies.len() - 1)];
        proxy.url_as("postgres", self.servers.password(), "postgres")
    }

    /// Results that a process has given.
    async fn hits_of(&self, proxy: usize) -> u64 {
        let url = self.proxies[proxy].url_as("postgres", self.servers.password(), "turnpike");
        let Ok(client) = try_pg(&url).await else { return 0 };
        let shown = rows(&client, "SHOW CACHE").await;
        let levels = shown.iter().filter(|row| row[1] == "l1" || row[1] == "l2");
        levels.map(|row| row[4].parse::<u64>().expect("a number")).sum()
    }

    /// Waits until both give what they keep.
    async fn ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        for proxy in 0..self.proxies.len() {
            let before = self.hits_of(proxy).await;
            while self.hits_of(proxy).await == before {
                assert!(Instant::now() < deadline, "{}", self.proxies[proxy].log());
                if let Ok(client) = try_pg(&self.url(proxy)).await {
                    let _ = client.simple_query("SELECT v FROM ev WHERE id = 0").await;
                }
            }
        }
    }

    /// Kills one and starts it again.
    async fn strike(&mut self, shared: &Shared, what: usize) {
        match what {
            0 | 1 => {
                let what = what.min(self.proxies.len() - 1);
                self.hits += self.hits_of(what).await;
                shared.ends(what);
                self.proxies[what].kill();
                block_in_place(|| self.proxies[what].start_again());
            }
            2 => block_in_place(|| self.redis.kill_and_start(REDIS, shared.below(3) > 0)),
            3 => block_in_place(|| {
                self.servers.primary().kill().expect("killed");
                self.servers.primary().start().expect("started again");
            }),
            4 => {
                let ended = "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity
                     WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 3) x";
                let _ = block_in_place(|| self.servers.primary().psql("postgres", ended));
            }
            _ => {
                let t = TABLES[shared.below(3)];
                let defined = format!("CREATE OR REPLACE VIEW {t}_seen AS SELECT id, v FROM {t}");
                let url = self.writes_at(shared.below(3));
                if let Ok(client) = try_pg(&url).await {
                    let _ = tokio::time::timeout(PATIENCE, client.batch_execute(&defined)).await;
                }
            }
        }
    }
}

/// The proxy of this number.
fn proxy(told: Told, n: usize, servers: &Cluster, redis: u16, dir: &Path) -> Proxy {
    let (state, key) = (dir.join(n.to_string()), dir.join("key"));
    std::fs::create_dir(&state).expect("a directory");
    // Replicas answer what has seen all that was written through this proxy; of others' tables the primary.
    let elsewhere = match (told, n) {
        (Told::Alone, _) => "",
        (_, 0) => "[[route]]\ntable = [\"bv*\", \"ev*\"]\nroute = \"primary\"\n",
        _ => "[[route]]\ntable = [\"av*\", \"ev*\"]\nroute = \"primary\"\n",
    };
    let mode = if told == Told::Strict { "strict" } else { "exact" };
    let tells = match told {
        Told::Alone => "writers = \"proxy\"\n".into(),
        _ => format!(
            "invalidation = \"wal\"\ninvalidation_user = \"postgres\"\ninvalidation_slot = \"storm_{n}\"\n"
        ),
    };
    let (listed, password) = (backends(servers), servers.password());
    let proxy = Proxy::with_config(&[], |listen, http| {
        format!(
            "[general]\nlisten = [\"127.0.0.1:{listen}\"]\ncache_memory = \"16MiB\"\nstate_dir = {state:?}\n\
             [http]\nlisten = \"127.0.0.1:{http}\"\n[admin]\nadmins = [\"postgres\"]\n\
             [redis]\nnodes = [\"127.0.0.1:{redis}\"]\ndeadline = \"200ms\"\nkey_file = {key:?}\n\
             [[cache]]\nmode = \"{mode}\"\nlevels = [\"l1\", \"l2\"]\n{elsewhere}\
             [[database]]\nname = \"postgres\"\ncluster = \"main\"\n{tells}\
             [[user]]\nname = \"postgres\"\npassword = \"{password}\"\n{TRUST}\
             [[cluster]]\nname = \"main\"\nuser = \"postgres\"\nconsistency = \"global\"\n\
             backends = [\"primary\", \"replica1\", \"replica2\"]\n{listed}{LIES}"
        )
    });
    if told != Told::Alone {
        run(&proxy, "postgres", "enable-wal", password).unwrap_or_else(|e| panic!("{e}"));
    }
    proxy
}

fn backends(servers: &Cluster) -> String {
    let all = [servers.primary()].into_iter().chain(servers.replicas());
    let backend = |server: &turnpike::app::cluster::Server| {
        let (name, port) = (&server.name, server.port);
        format!(
            "[[backend]]\nname = \"{name}\"\nhost = \"127.0.0.1\"\nport = {port}\nsslmode = \"disable\"\n"
        )
    };
    all.map(backend).collect()
}

/// What is done to whom, in the order of [`Bed::strike`].
const STRIKES: [&str; 6] =
    ["kills of the first proxy", "of the second", "of Redis", "of Postgres", "sessions ended", "definitions"];

/// What a client does again and again.
#[derive(Clone, Copy)]
enum Act {
    /// Writes to a table.
    Write(usize),
    /// Reads by a proxy, perhaps with the functions of which something is said.
    Read(usize, bool),
}

impl Act {
    async fn once(self, client: &Client, shared: &Shared) -> Result<(), Error> {
        match self {
            Act::Write(table) => {
                tokio::time::sleep(Duration::from_millis(shared.below(400) as u64)).await;
                write(client, shared, table).await
            }
            Act::Read(proxy, told) => read(client, shared, proxy, told).await,
        }
    }

    /// Until the run is over. Who loses a connection comes again.
    async fn again(self, shared: Arc<Shared>, url: String) {
        let mut client = None;
        while !shared.is_over() {
            let Some(connected) = client.take() else {
                client = tokio::time::timeout(PATIENCE, try_pg(&url)).await.ok().and_then(Result::ok);
                if client.is_none() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                continue;
            };
            match (tokio::time::timeout(PATIENCE, self.once(&connected, &shared)).await, self) {
                (Ok(Ok(())), _) => client = Some(connected),
                (_, Act::Write(_)) => drop(shared.unknown.fetch_add(1, SeqCst)),
                (_, Act::Read(..)) => drop(shared.lost_reads.fetch_add(1, SeqCst)),
            }
        }
    }
}

/// How a run goes.
#[derive(Clone, Copy)]
enum Weather {
    /// Each strike once, and on until results are given again.
    Short,
    /// As it comes, to the end.
    Long,
    /// None, and functions are called of which something untrue is said, until that has been seen.
    Planted,
}

/// Writes and reads until so many reads are done, and whatever else the weather has it; how often what was struck.
async fn storm(bed: &mut Bed, shared: Arc<Shared>, weather: Weather) -> [usize; 6] {
    let mut tasks = tokio::task::JoinSet::new();
    for table in 0..3 {
        tasks.spawn(Act::Write(table).again(shared.clone(), bed.writes_at(table)));
    }
    let told = matches!(weather, Weather::Planted);
    for proxy in READERS {
        tasks.spawn(Act::Read(proxy, told).again(shared.clone(), bed.url(proxy)));
    }
    let (mut done, began) = ([0; 6], Instant::now());
    while shared.reads.load(SeqCst) < shared.wanted || done.contains(&0) && !told {
        // Each once, then as it comes.
        let next = done.iter().position(|n| *n == 0);
        let (rest, what) = match (weather, next) {
            (Weather::Short, Some(what)) => (200 + shared.below(400), what),
            (Weather::Long, what) => (1000 + shared.below(3000), what.unwrap_or_else(|| shared.below(6))),
            _ if told && (wrong(&shared).0 >= PLANTED || began.elapsed() > PLANTED_PATIENCE) => break,
            _ => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        tokio::time::sleep(Duration::from_millis(rest as u64)).await;
        bed.strike(&shared, what).await;
        done[what] += 1;
    }
    if matches!(weather, Weather::Short) {
        bed.ready().await;
    }
    shared.over.store(true, SeqCst);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no panic");
    }
    for proxy in 0..bed.proxies.len() {
        bed.hits += bed.hits_of(proxy).await;
    }
    done
}

/// Stale reads that must be seen where there are some.
const PLANTED: usize = 20;
/// Longest that it may take until they are, however busy the machine is.
const PLANTED_PATIENCE: Duration = Duration::from_secs(60);

fn shared(wanted: usize, told: Told) -> Arc<Shared> {
    Arc::new(Shared { wanted, told, seed: AtomicUsize::new(11), ..Shared::default() })
}

/// What was wrong, of a few.
fn wrong(shared: &Shared) -> (usize, Vec<String>) {
    let wrong = shared.wrong.lock().expect("no panic");
    (wrong.len(), wrong.iter().take(20).cloned().collect())
}

async fn weathered(told: Told) {
    let asked = std::env::var("TURNPIKE_CHECK_READS").ok().and_then(|n| n.parse().ok());
    let mut bed = Bed::new(told);
    bed.ready().await;
    let shared = shared(asked.unwrap_or(5_000), told);
    let began = Instant::now();
    let weather = if asked.is_some() { Weather::Long } else { Weather::Short };
    let done = storm(&mut bed, shared.clone(), weather).await;
    let reads = shared.reads.load(SeqCst);
    let strikes =
        STRIKES.iter().zip(done).map(|(what, n)| format!("{n} {what}")).collect::<Vec<_>>().join(", ");
    println!(
        "{told:?}: {reads} reads in {:?}, {} hits, {} writes acknowledged, {} unknown, {} reads lost; {strikes}; {} wrong",
        began.elapsed(),
        bed.hits,
        shared.writes.load(SeqCst),
        shared.unknown.load(SeqCst),
        shared.lost_reads.load(SeqCst),
        wrong(&shared).0
    );
    let (count, shown) = wrong(&shared);
    assert_eq!(count, 0, "of {reads} reads: {shown:#?}");
    // In a short one hardly anything is ever known for certain.
    let least = if asked.is_some() { reads as u64 / 50 } else { 1 };
    assert!(bed.hits > least, "{} hits of {reads} reads: nothing was checked", bed.hits);
    // Where there is something to see, the checker sees it: functions of which it is said that they read nothing.
    let planted = self::shared(usize::MAX, told);
    planted.takes_over(&shared);
    storm(&mut bed, planted.clone(), Weather::Planted).await;
    let (count, of) = (wrong(&planted).0, planted.reads.load(SeqCst));
    assert!(count >= PLANTED, "{count} wrong of {of}: the checker is blind");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_stale_is_given_in_a_storm() {
    weathered(Told::Wal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_by_several_proxies_that_tell_each_other() {
    weathered(Told::Strict).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_by_one_that_everybody_writes_through() {
    weathered(Told::Alone).await;
}
