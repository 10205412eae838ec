//! A proxy of one's own: the real binary, with a configuration written for the test.

use std::fmt::Write;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use turnpike::app::cluster::{Server, free_port};

use super::Db;
use super::db::is_split;
use super::raw::{Fake, Raw};

/// How long the binary may take to listen or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// The configuration, section by section, in TOML. A section's lines come after ours.
#[derive(Clone, Debug, Default)]
pub struct ProxyOptions {
    /// Lines of `[general]`.
    pub general: String,
    /// Lines of `[pool]`.
    pub pool: String,
    /// Further lines of the test database's `[[database]]`.
    pub database: String,
    /// Lines of the test role's `[[user]]`; its password if empty.
    pub user: String,
    /// `[[hba]]` sections; SCRAM for everyone if empty.
    pub hba: String,
    /// Whole sections to add.
    pub extra: String,
    /// Further arguments of `turnpike run`.
    pub args: Vec<String>,
}

/// A running `turnpike run`. Killed with the value; what it logged is shown if the test failed.
#[derive(Debug)]
pub struct Proxy {
    /// Where clients connect.
    pub port: u16,
    /// Where metrics are.
    pub http_port: u16,
    /// Configuration and log.
    dir: TempDir,
    /// Further arguments.
    args: Vec<String>,
    child: Mutex<Child>,
}

impl Proxy {
    /// A proxy in front of the database with nothing special about it.
    #[track_caller]
    pub fn to(db: &Db) -> Self {
        Self::start(db, ProxyOptions::default())
    }

    /// A proxy in front of the database's primary; its replicas are backends `replica1` and so on.
    #[track_caller]
    pub fn start(db: &Db, options: ProxyOptions) -> Self {
        let args = options.args.clone();
        Self::with_config(&args, |port, http_port| config(db, &options, port, http_port))
    }

    /// As [`Proxy::start`], with the configuration edited by the test.
    #[track_caller]
    pub fn edited(db: &Db, options: &ProxyOptions, edit: impl Fn(String) -> String) -> Self {
        Self::with_config(&[], |port, http_port| edit(config(db, options, port, http_port)))
    }

    /// A proxy with a configuration of the test's own, made for the ports given: others, if somebody has taken those
    /// meanwhile.
    #[track_caller]
    pub fn with_config(args: &[String], config: impl Fn(u16, u16) -> String) -> Self {
        for _ in 0..3 {
            let (port, http_port) = (free_port(), free_port());
            let proxy = Self::spawn(port, http_port, args, config(port, http_port));
            if proxy.listens() {
                return proxy;
            }
        }
        panic!("turnpike found its ports in use, three times");
    }

    /// Another process on the same ports, with the same configuration but for an edit. May well have failed.
    #[track_caller]
    pub fn again(&self, edit: impl FnOnce(String) -> String) -> Self {
        let config = fs::read_to_string(self.dir.path().join("turnpike.toml")).expect("a configuration");
        Self::spawn(self.port, self.http_port, &[], edit(config))
    }

    #[track_caller]
    fn spawn(port: u16, http_port: u16, args: &[String], config: String) -> Self {
        let dir = TempDir::with_prefix("turnpike-test-").expect("a temporary directory");
        fs::write(dir.path().join("turnpike.toml"), config).expect("a file in it");
        let child = Self::launch(&dir, args);
        Proxy { port, http_port, dir, args: args.to_vec(), child: Mutex::new(child) }
    }

    #[track_caller]
    fn launch(dir: &TempDir, args: &[String]) -> Child {
        let log =
            File::options().create(true).append(true).open(dir.path().join("log")).expect("a log in it");
        Command::new(env!("CARGO_BIN_EXE_turnpike"))
            .arg("run")
            .arg("-c")
            .arg(dir.path().join("turnpike.toml"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log)
            .spawn()
            .expect("the binary starts")
    }

    /// Kills it (SIGKILL), and waits until it is gone.
    pub fn kill(&self) {
        let mut child = self.child.lock().expect("no panic while locked");
        child.kill().expect("it is our child");
        child.wait().expect("it is our child");
    }

    /// Starts it again after it was killed: on the same ports, with the same configuration.
    #[track_caller]
    pub fn start_again(&self) {
        *self.child.lock().expect("no panic while locked") = Self::launch(&self.dir, &self.args);
        self.wait_listening();
    }

    #[track_caller]
    fn wait_listening(&self) {
        assert!(self.listens(), "turnpike found its port in use");
    }

    /// Waits until it listens itself, since somebody else may; not so if its ports are in use.
    #[track_caller]
    fn listens(&self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !is_listener(self.pid(), self.port) {
            if let Some(status) = self.try_wait() {
                assert!(self.log().contains("in use"), "turnpike ended ({status}) before it listened");
                return false;
            }
            assert!(Instant::now() < deadline, "turnpike does not listen");
            thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// A connection string for the test's database through the proxy.
    pub fn url(&self, db: &Db) -> String {
        self.url_as(&db.user, &db.password, &db.name)
    }

    /// A connection string for any user and database through the proxy.
    pub fn url_as(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgresql://{user}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// A connection string for the admin database, as the test's role.
    pub fn admin_url(&self, db: &Db) -> String {
        self.url_as(&db.user, &db.password, "turnpike")
    }

    /// Its configuration.
    pub fn config(&self) -> std::path::PathBuf {
        self.dir.path().join("turnpike.toml")
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Writes a new configuration and tells it to read it (SIGHUP).
    pub fn reload(&self, db: &Db, options: &ProxyOptions) {
        let config = config(db, options, self.port, self.http_port);
        fs::write(self.dir.path().join("turnpike.toml"), config).expect("the configuration is ours to write");
        self.signal(Signal::SIGHUP);
    }

    /// Writes a new configuration, edited by the test.
    pub fn rewrite(&self, db: &Db, options: &ProxyOptions, edit: impl FnOnce(String) -> String) {
        let config = edit(config(db, options, self.port, self.http_port));
        fs::write(self.dir.path().join("turnpike.toml"), config).expect("the configuration is ours to write");
    }

    /// Edits the configuration that it was started with, or that was written last.
    pub fn revise(&self, edit: impl FnOnce(String) -> String) {
        let path = self.dir.path().join("turnpike.toml");
        let config = edit(fs::read_to_string(&path).expect("a configuration"));
        fs::write(path, config).expect("the configuration is ours to write");
    }

    /// A proxy in front of a scripted server: everyone may log in as anyone, `pool` has lines of `[pool]`, `general` of
    /// `[general]`.
    #[track_caller]
    pub fn to_fake(fake: &Fake, general: &str, pool: &str) -> Self {
        let backend = fake.port;
        Self::with_config(&[], |port, http_port| {
            format!(
                "[general]\nlisten = [\"127.0.0.1:{port}\"]\n{general}\n\
                 [http]\nlisten = \"127.0.0.1:{http_port}\"\n[plan]\ncatalog = false\n[pool]\n{pool}\n\
                 [[database]]\nname = \"db\"\nbackend = \"fake\"\n\
                 [[backend]]\nname = \"fake\"\nhost = \"127.0.0.1\"\nport = {backend}\nsslmode = \"disable\"\n\
                 [[user]]\nname = \"u\"\n{TRUST}"
            )
        })
    }

    /// A raw connection to the test's database, logged in.
    #[track_caller]
    pub fn raw(&self, db: &Db) -> Raw {
        Raw::login(self.port, &db.user, &db.password, &db.name)
    }

    /// Memory that it has, in bytes (VmRSS).
    pub fn rss(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a process");
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("a resident set");
        let kilobytes = line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok());
        kilobytes.expect("a number") * 1024
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.lock().expect("no panic while locked").id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).expect("it is our child");
    }

    /// Waits until it has ended.
    #[track_caller]
    pub fn wait(&self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.try_wait() {
                return status;
            }
            assert!(Instant::now() < deadline, "turnpike does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// How it ended, if it has.
    pub fn try_wait(&self) -> Option<ExitStatus> {
        self.child.lock().expect("no panic while locked").try_wait().expect("it is our child")
    }
}

impl Drop for Proxy {
    #[allow(clippy::print_stderr, reason = "the reader of a failed test needs the other side of the story")]
    fn drop(&mut self) {
        if let Ok(mut child) = self.child.lock() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            eprintln!("---- turnpike's log ----\n{}", self.log());
        }
    }
}

/// Whether the process has a socket that listens on the port (proc(5), `/proc/net/tcp`).
fn is_listener(pid: u32, port: u16) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").expect("a table of sockets");
    let sockets: Vec<String> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|of| of.len() > 9 && of[1].ends_with(&format!(":{port:04X}")) && of[3] == "0A")
        .map(|of| format!("socket:[{}]", of[9]))
        .collect();
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    open.flatten()
        .filter_map(|file| fs::read_link(file.path()).ok())
        .any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
}

fn config(db: &Db, options: &ProxyOptions, port: u16, http_port: u16) -> String {
    let ProxyOptions { general, pool, database, user, hba, extra, .. } = options;
    let password = format!("password = \"{}\"", db.password);
    let user = if user.is_empty() { &password } else { user };
    let hba = if hba.is_empty() { HBA } else { hba };
    let mut toml = format!(
        "[general]\nlisten = [\"127.0.0.1:{port}\"]\n{general}\n\
         [http]\nlisten = \"127.0.0.1:{http_port}\"\n\
         [pool]\n{pool}\n\
         [admin]\nadmins = [\"{name}\"]\n\
         [[database]]\nname = \"{db}\"\nbackend = \"primary\"\n{database}\n\
         [[user]]\nname = \"{name}\"\n{user}\n{hba}\n{extra}\n",
        name = db.user,
        db = db.name,
    );
    let cluster = db.cluster();
    if is_split() && std::ptr::eq(cluster, super::cluster()) {
        toml = toml.replace("backend = \"primary\"\n", "cluster = \"split\"\n");
        // Probes are not to be counted among the test's own connections.
        let _ = write!(
            toml,
            "[[user]]\nname = \"postgres\"\npassword = \"{}\"\n\
             [[cluster]]\nname = \"split\"\nuser = \"postgres\"\n\
             backends = [\"primary\", \"replica1\", \"replica2\"]\n",
            cluster.password()
        );
    }
    add_backend(&mut toml, cluster.primary());
    cluster.replicas().iter().for_each(|replica| add_backend(&mut toml, replica));
    toml
}

const HBA: &str =
    "[[hba]]\ntype = \"host\"\ndatabase = \"all\"\nuser = \"all\"\nmethod = \"scram-sha-256\"\n";

/// Everyone may be anyone.
pub const TRUST: &str = "[[hba]]\ntype = \"host\"\ndatabase = \"all\"\nuser = \"all\"\nmethod = \"trust\"\n";

fn add_backend(toml: &mut String, server: &Server) {
    let Server { name, host, port, .. } = server;
    let _ = write!(
        toml,
        "[[backend]]\nname = \"{name}\"\nhost = \"{host}\"\nport = {port}\nsslmode = \"disable\"\n"
    );
}
