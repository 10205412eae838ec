//! A cluster that Patroni keeps: members found through its REST API, a switchover, a member that is added later.

use std::collections::HashSet;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{fs, io};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::Client;
use turnpike::app::cluster::{binaries::Binaries, free_port};

use crate::harness::{Proxy, TRUST, pg, rows, value};

const PASSWORD: &str = "secret";

/// A program under the account that PostgreSQL may run as. Asked to end with the value, and by the system with us.
struct Program(Child);

impl Program {
    fn start(dir: &Path, name: &str, log: &str, args: &[String]) -> Program {
        let log = fs::File::create(dir.join(log)).expect("a log");
        let mut command = Command::new("setpriv");
        if let Some(account) = account() {
            command.args([format!("--reuid={}", account.uid), format!("--regid={}", account.gid)]);
            command.arg("--clear-groups");
        }
        command.args(["--pdeathsig", "TERM", name]).args(args).env("HOME", dir).env("LC_ALL", "C");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        Program(command.current_dir(dir).spawn().expect("setpriv is everywhere"))
    }

    fn end(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whom to be instead of root, whom PostgreSQL refuses.
fn account() -> Option<User> {
    let of = |name| User::from_name(name).ok().flatten();
    geteuid().is_root().then(|| of("postgres").or_else(|| of("nobody")).expect("an account"))
}

fn give(path: &Path) {
    if let Some(account) = account() {
        chown(path, Some(account.uid.as_raw()), Some(account.gid.as_raw())).expect("it is ours to give");
    }
}

/// A server, and the Patroni that keeps it.
struct Member {
    name: &'static str,
    port: u16,
    api: u16,
    patroni: Option<Program>,
}

/// What Patroni keeps its state in, and the members. Members end first: they tell it that they do.
struct Bed {
    members: Vec<Member>,
    _etcd: Program,
    etcd_port: u16,
    dir: TempDir,
}

impl Bed {
    fn new(names: &[&'static str]) -> Bed {
        for program in ["patroni", "etcd"] {
            let found = std::env::var_os("PATH")
                .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
            assert!(found, "{program} is not installed: run scripts/setup");
        }
        let dir = TempDir::with_prefix("turnpike-patroni-").expect("a directory");
        give(dir.path());
        let (etcd_port, peers) = (free_port(), free_port());
        let (clients, peers) = (format!("http://127.0.0.1:{etcd_port}"), format!("http://127.0.0.1:{peers}"));
        let args = [
            ("data-dir", dir.path().join("etcd").display().to_string()),
            ("listen-client-urls", clients.clone()),
            ("advertise-client-urls", clients),
            ("listen-peer-urls", peers.clone()),
            ("initial-advertise-peer-urls", peers.clone()),
            ("initial-cluster", format!("default={peers}")),
        ];
        let args = args.map(|(name, value)| format!("--{name}={value}"));
        let etcd = Program::start(dir.path(), "etcd", "etcd.log", &args);
        let member =
            |name: &&'static str| Member { name, port: free_port(), api: free_port(), patroni: None };
        Bed { members: names.iter().map(member).collect(), _etcd: etcd, etcd_port, dir }
    }

    fn start(&mut self, name: &str) {
        let config = self.config(self.member(name));
        let path = self.dir.path().join(format!("{name}.yml"));
        fs::write(&path, config).expect("a file of ours");
        let program =
            Program::start(self.dir.path(), "patroni", &format!("{name}.log"), &[path.display().to_string()]);
        self.members.iter_mut().find(|m| m.name == name).expect("a member").patroni = Some(program);
    }

    /// Everything moves as fast as Patroni lets it.
    fn config(&self, member: &Member) -> String {
        let Member { name, port, api, .. } = member;
        let (dir, etcd) = (self.dir.path().display(), self.etcd_port);
        let programs = Binaries::find().expect("servers to test with").program("postgres");
        let programs = programs.parent().expect("a directory").display();
        format!(
            "scope: turnpike
name: {name}
restapi: {{listen: '127.0.0.1:{api}', connect_address: '127.0.0.1:{api}'}}
etcd3: {{hosts: '127.0.0.1:{etcd}'}}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 1
    retry_timeout: 3
    postgresql: {{use_pg_rewind: true, parameters: {{wal_log_hints: 'on', max_connections: 50}}}}
  initdb: [{{encoding: UTF8}}, {{locale: C}}, no-sync]
postgresql:
  listen: '127.0.0.1:{port}'
  connect_address: '127.0.0.1:{port}'
  data_dir: '{dir}/{name}'
  bin_dir: '{programs}'
  pgpass: '{dir}/{name}.pgpass'
  authentication:
    superuser: {{username: postgres, password: {PASSWORD}}}
    replication: {{username: replicator, password: {PASSWORD}}}
  parameters: {{unix_socket_directories: '{dir}', fsync: 'off', shared_buffers: 16MB}}
  pg_hba:
    - host all all 127.0.0.1/32 scram-sha-256
    - host replication all 127.0.0.1/32 scram-sha-256
"
        )
    }

    fn member(&self, name: &str) -> &Member {
        self.members.iter().find(|m| m.name == name).expect("a member")
    }

    /// What Patroni says of its members: name, and role once it runs.
    async fn told(&self) -> Vec<(String, String)> {
        for member in self.members.iter().filter(|m| m.patroni.is_some()) {
            let Ok((_, text)) = ask(member.api, "GET", "/cluster", "").await else { continue };
            let told: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let field = |m: &serde_json::Value, name: &str| m[name].as_str().unwrap_or_default().to_string();
            let runs = |m: &&serde_json::Value| ["running", "streaming"].contains(&&*field(m, "state"));
            let members = told["members"].as_array().cloned().unwrap_or_default();
            return members.iter().filter(runs).map(|m| (field(m, "name"), field(m, "role"))).collect();
        }
        Vec::new()
    }

    /// Until so many run, one of them as the leader. Returns its name.
    async fn runs(&self, count: usize) -> String {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let told = self.told().await;
            let leader = told.iter().find(|(_, role)| role == "leader");
            if let Some((name, _)) = leader.filter(|_| told.len() == count) {
                return name.clone();
            }
            let log = || fs::read_to_string(self.dir.path().join("one.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "Patroni tells of {told:?}; the log of one: {}", log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn switch_over(&self, from: &str, to: &str) {
        let wish = format!("{{\"leader\": \"{from}\", \"candidate\": \"{to}\"}}");
        let answer = ask(self.member(from).api, "POST", "/switchover", &wish).await.expect("an answer");
        assert!(answer.0.contains(" 200 "), "{answer:?}");
    }

    /// A proxy that is told of one server, and where to ask for the others.
    fn proxy(&self) -> Proxy {
        let apis: Vec<_> = self.members.iter().map(|m| format!("http://127.0.0.1:{}", m.api)).collect();
        let one = self.member("one").port;
        Proxy::with_config(&[], |port, http_port| {
            format!(
                "[general]\nlisten = [\"127.0.0.1:{port}\"]\n[admin]\nadmins = [\"postgres\"]\n\
                 [http]\nlisten = \"127.0.0.1:{http_port}\"\n\
                 [plan]\nread_functions = [\"inet_server_port\"]\n\
                 [[database]]\nname = \"postgres\"\ncluster = \"main\"\n\
                 [[cluster]]\nname = \"main\"\nbackends = [\"one\"]\nuser = \"postgres\"\n\
                 discovery = \"patroni\"\ndiscovery_interval = \"200ms\"\npatroni = {apis:?}\n\
                 failover_wait = \"30s\"\n\
                 [[backend]]\nname = \"one\"\nhost = \"127.0.0.1\"\nport = {one}\nsslmode = \"disable\"\n\
                 [[user]]\nname = \"postgres\"\npassword = \"{PASSWORD}\"\n\
                 {TRUST}"
            )
        })
    }
}

/// Asks a REST API. Returns the status line and the body.
async fn ask(port: u16, method: &str, path: &str, body: &str) -> io::Result<(String, String)> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
    let length = body.len();
    let request = format!("{method} {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    Ok((head.lines().next().unwrap_or_default().into(), body.into()))
}

async fn client(proxy: &Proxy) -> Client {
    pg(&proxy.url_as("postgres", PASSWORD, "postgres")).await
}

/// Until SHOW BACKENDS says these: name and state.
async fn shown(proxy: &Proxy, want: &[(&str, &str)]) {
    let admin = pg(&proxy.url_as("postgres", PASSWORD, "turnpike")).await;
    let mut want: Vec<_> = want.iter().map(|(n, s)| (n.to_string(), s.to_string())).collect();
    want.sort();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let backends = rows(&admin, "SHOW BACKENDS").await;
        let mut is: Vec<_> = backends.iter().map(|row| (row[1].clone(), row[4].clone())).collect();
        is.sort();
        if is == want {
            return;
        }
        assert!(Instant::now() < deadline, "{is:?}, not {want:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Until reads are answered by exactly these ports.
async fn served_by(proxy: &Proxy, want: &[u16]) {
    let client = client(proxy).await;
    let mut want: Vec<_> = want.iter().map(u16::to_string).collect();
    want.sort();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut ports = Vec::new();
        for _ in 0..20 {
            ports.push(value(&client, "SELECT inet_server_port() FROM quiet").await);
        }
        ports.sort();
        ports.dedup();
        if ports == want {
            return;
        }
        assert!(Instant::now() < deadline, "{ports:?}, not {want:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Writes and reads that go on while the cluster changes.
#[derive(Default)]
struct Load {
    ends: AtomicBool,
    written: AtomicU64,
    failed: AtomicU64,
    read: AtomicU64,
}

impl Load {
    /// Writes numbers one after the other, on a connection anew where one is lost. Returns those that were acknowledged.
    async fn write(self: Arc<Self>, url: String) -> HashSet<i64> {
        let mut acknowledged = HashSet::new();
        let mut client = pg(&url).await;
        for id in 0.. {
            if self.ends.load(Relaxed) {
                break;
            }
            match client.execute("INSERT INTO ledger VALUES ($1)", &[&id]).await {
                Ok(_) => {
                    acknowledged.insert(id);
                    self.written.fetch_add(1, Relaxed);
                }
                Err(e) => {
                    let code = e.code().map(|c| c.code().to_string()).unwrap_or_default();
                    let known = ["08006", "57P01", "57P02", "57P03", "08007", "25006"];
                    assert!(e.is_closed() || known.contains(&&*code), "write {id}: {e:?}");
                    self.failed.fetch_add(1, Relaxed);
                    client = pg(&url).await;
                }
            }
        }
        acknowledged
    }

    /// Reads a table that nobody writes, which never fails.
    async fn read(self: Arc<Self>, url: String) {
        let client = pg(&url).await;
        while !self.ends.load(Relaxed) {
            let row = client.query_one("SELECT n FROM quiet", &[]).await.expect("reads go on");
            assert_eq!(row.get::<_, i32>(0), 1);
            self.read.fetch_add(1, Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_patroni_does_is_followed() {
    let mut bed = Bed::new(&["one", "two", "three"]);
    bed.start("one");
    bed.runs(1).await;
    bed.start("two");
    bed.runs(2).await;
    let proxy = bed.proxy();
    let setup = client(&proxy).await;
    let script = "CREATE TABLE ledger (id bigint PRIMARY KEY); CREATE TABLE quiet (n int); INSERT INTO quiet VALUES (1)";
    setup.batch_execute(script).await.expect("made");
    let port = |name: &str| bed.member(name).port;
    let (one, two, three) = (port("one"), port("two"), port("three"));
    shown(&proxy, &[("one", "primary"), ("two", "replica")]).await;
    served_by(&proxy, &[two]).await;

    let load = Arc::new(Load::default());
    let url = proxy.url_as("postgres", PASSWORD, "postgres");
    let writer = tokio::spawn(load.clone().write(url.clone()));
    let readers: Vec<_> = (0..2).map(|_| tokio::spawn(load.clone().read(url.clone()))).collect();
    // One that is added is found, and takes its share.
    bed.start("three");
    bed.runs(3).await;
    shown(&proxy, &[("one", "primary"), ("two", "replica"), ("three", "replica")]).await;
    served_by(&proxy, &[two, three]).await;

    // The leader gives its place to another, which writes follow.
    let before = load.written.load(Relaxed);
    assert!(before > 0);
    bed.switch_over("one", "two").await;
    shown(&proxy, &[("one", "replica"), ("two", "primary"), ("three", "replica")]).await;
    served_by(&proxy, &[one, three]).await;
    let after = load.written.load(Relaxed);
    let deadline = Instant::now() + Duration::from_secs(30);
    while load.written.load(Relaxed) < after + 20 {
        assert!(Instant::now() < deadline, "writes go on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // A member that is taken away is missed by nobody.
    bed.members[2].patroni.take();
    served_by(&proxy, &[one]).await;
    load.ends.store(true, Relaxed);
    let acknowledged = writer.await.expect("no other error");
    for reader in readers {
        reader.await.expect("no read has failed");
    }
    let ledger = rows(&client(&proxy).await, "/* turnpike: route=primary */ SELECT id FROM ledger").await;
    let ledger: HashSet<i64> = ledger.iter().map(|row| row[0].parse().expect("a number")).collect();
    let lost: Vec<_> = acknowledged.difference(&ledger).collect();
    assert!(lost.is_empty(), "acknowledged, and not there: {lost:?}");
    // The one that was under way on the server that stopped.
    let failed = load.failed.load(Relaxed);
    assert!(failed <= 1 && load.read.load(Relaxed) > 100, "{failed} writes failed");
}
