//! One process takes over from another: nobody who is connected notices, nobody who connects is refused.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use turnpike::app::cluster::binaries::Binaries;

use crate::harness::raw::{self, Raw, cancel, query, startup};
use crate::harness::{Db, Proxy, ProxyOptions, eventually, pg, rows, try_pg, value};

/// Process ids of a successor's clients begin here.
const SECOND: i32 = 1 << 20;

struct Bed {
    db: Db,
    proxy: Proxy,
    dir: TempDir,
}

impl Bed {
    fn new(general: &str) -> Bed {
        Bed::with(general, ProxyOptions::default())
    }

    fn with(general: &str, options: ProxyOptions) -> Bed {
        let (db, dir) = (Db::new(), TempDir::with_prefix("turnpike-test-").expect("a directory"));
        let general = format!("takeover_socket = \"{}/control\"\n{general}", dir.path().display());
        let extra = format!("{}[log]\nconnections = true\n", options.extra);
        let proxy = Proxy::start(&db, ProxyOptions { general, extra, ..options });
        let bed = Bed { db, proxy, dir };
        eventually("the control socket is there", || bed.control().exists());
        bed
    }

    fn control(&self) -> PathBuf {
        self.dir.path().join("control")
    }

    /// A process that has taken over from `old`.
    #[track_caller]
    fn successor(&self, old: &Proxy) -> Proxy {
        let new = old.again(|config| config);
        eventually("it takes over", || new.log().contains("took over"));
        eventually("the old one knows", || old.log().contains("handed over"));
        new
    }

    fn raw(&self) -> Raw {
        self.proxy.raw(&self.db)
    }
}

fn pid(raw: &Raw) -> i32 {
    i32::from_be_bytes(raw.key[..4].try_into().expect("a process id"))
}

fn get(port: u16, path: &str) -> String {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("somebody listens");
    write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    answer
}

fn pgbench(url: &str, args: &[&str]) -> Child {
    let program = Binaries::find().expect("PostgreSQL is installed").program("pgbench");
    let program = if program.exists() { program } else { "pgbench".into() };
    let mut command = Command::new(program);
    command.args(args).arg(url).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("pgbench starts")
}

/// Transactions processed, of which none failed.
#[track_caller]
fn flawless(child: Child) -> u64 {
    let output = child.wait_with_output().expect("it ends");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("number of failed transactions: 0 ") && !said.contains("error"), "{said}");
    let count = said.lines().find_map(|l| l.strip_prefix("number of transactions actually processed: "));
    count.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no count in {said}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbench_loses_no_transaction() {
    let bed = Bed::new("");
    flawless_init(&bed.db);
    let url = bed.proxy.url(&bed.db);
    let admin = pg(&bed.proxy.admin_url(&bed.db)).await;
    let served = async || {
        let stats = admin.simple_query("SHOW STATS").await.expect("shown");
        let count = |row: &tokio_postgres::SimpleQueryRow| row.get("total_xact_count")?.parse::<u64>().ok();
        let rows = stats.iter().filter_map(|m| match m {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        rows.filter_map(count).sum::<u64>()
    };
    let long = pgbench(&url, &["-S", "-n", "-c", "16", "-T", "6"]);
    let prepared = pgbench(&url, &["-n", "-M", "prepared", "-c", "4", "-T", "6"]);
    let short = pgbench(&url, &["-S", "-n", "-C", "-c", "4", "-T", "8"]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let new = bed.successor(&bed.proxy);
    let before = served().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(served().await > before, "the old process serves the clients that it had");
    drop(admin);
    eventually("the new process serves those that connect", || new.log().contains("connected"));
    let counts = [long, prepared, short].map(flawless);
    assert!(counts.iter().all(|n| *n > 100), "{counts:?}");
    assert!(bed.proxy.wait().success());
    assert!(new.try_wait().is_none());
}

#[track_caller]
fn flawless_init(db: &Db) {
    let output = pgbench(&db.direct_url(), &["-i", "-q"]).wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn clients_stay_until_they_leave() {
    let bed = Bed::new("");
    let (mut busy, mut idle) = (bed.raw(), bed.raw());
    busy.query("BEGIN; CREATE TEMP TABLE mine (x int) ON COMMIT DROP; INSERT INTO mine VALUES (7)");
    let new = bed.successor(&bed.proxy);
    let mut fresh = new.raw(&bed.db);
    assert!(pid(&busy) < SECOND && pid(&fresh) >= SECOND);
    assert_eq!(busy.value("SELECT x FROM mine"), "7");
    busy.query("COMMIT");
    for raw in [&mut busy, &mut idle, &mut fresh] {
        assert_eq!(raw.value("SELECT 1"), "1");
    }
    drop(busy);
    thread::sleep(Duration::from_millis(400));
    assert!(bed.proxy.try_wait().is_none(), "one client is left");
    assert_eq!(idle.value("SELECT 2"), "2");
    drop(idle);
    assert!(bed.proxy.wait().success());
    assert_eq!(fresh.value("SELECT 3"), "3");
    assert_eq!(new.raw(&bed.db).value("SELECT 4"), "4");
}

#[test]
fn a_login_under_way_is_finished() {
    let bed = Bed::new("");
    let mut raw = Raw::connect(bed.proxy.port);
    thread::sleep(Duration::from_millis(200));
    let _new = bed.successor(&bed.proxy);
    raw.send(raw::startup(3 << 16, &[("user", &bed.db.user), ("database", &bed.db.name)]));
    raw.authenticate(&bed.db.password);
    raw.settle_in();
    assert!(pid(&raw) < SECOND);
    assert_eq!(raw.value("SELECT 1"), "1");
}

#[track_caller]
fn is_cancelled(raw: &mut Raw, cancel: impl FnOnce(&[u8])) {
    raw.send(query("SELECT pg_sleep(60)"));
    thread::sleep(Duration::from_millis(300));
    cancel(&raw.key.clone());
    let frames = raw.until_ready(1);
    assert!(frames.iter().any(|f| f.kind == b'E' && f.field(b'C') == "57014"), "{frames:?}");
}

#[test]
fn cancel_requests_find_their_client_in_either_process() {
    let bed = Bed::new("");
    let port = bed.proxy.port;
    let mut old = bed.raw();
    // Accepted by the old process, before it is known what it wants.
    let mut early = Raw::connect(port);
    thread::sleep(Duration::from_millis(200));
    let new = bed.successor(&bed.proxy);
    let mut young = new.raw(&bed.db);
    is_cancelled(&mut old, |key| cancel(port, key));
    is_cancelled(&mut young, |key| cancel(port, key));
    is_cancelled(&mut young, |key| {
        early.send(raw::packet(1234 << 16 | 5678, key));
        assert_eq!(early.take(1), None, "a cancel request is answered by closing");
    });
    // Right process id, wrong secret: in neither.
    young.send(query("SELECT pg_sleep(0.5)"));
    for raw in [&old, &young] {
        let mut wrong = raw.key.clone();
        wrong[5] ^= 1;
        cancel(port, &wrong);
    }
    assert!(young.until_ready(1).iter().all(|f| f.kind != b'E'));
    let metrics = get(new.http_port, "/metrics");
    assert!(metrics.contains("turnpike_cancel_requests_unmatched_total 2\n"), "{metrics}");
}

#[test]
fn cancel_requests_pass_through_a_process_in_between() {
    let bed = Bed::new("");
    let mut oldest = bed.raw();
    let second = bed.successor(&bed.proxy);
    let mut middle = second.raw(&bed.db);
    let third = bed.successor(&second);
    let youngest = third.raw(&bed.db);
    assert!(pid(&oldest) < SECOND && (SECOND..2 * SECOND).contains(&pid(&middle)));
    assert!(pid(&youngest) >= 2 * SECOND);
    is_cancelled(&mut oldest, |key| cancel(third.port, key));
    is_cancelled(&mut middle, |key| cancel(third.port, key));
    drop(middle);
    thread::sleep(Duration::from_millis(400));
    assert!(second.try_wait().is_none(), "the oldest is reached through it");
    is_cancelled(&mut oldest, |key| cancel(third.port, key));
    drop(oldest);
    assert!(bed.proxy.wait().success() && second.wait().success());
    assert!(third.try_wait().is_none());
}

#[test]
fn a_successor_that_fails_changes_nothing() {
    let bed = Bed::new("");
    let mut raw = bed.raw();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = taken.local_addr().expect("an address").port();
    let edits: [&dyn Fn(String) -> String; 2] = [&|config| config + "[nonsense]\n", &|config| {
        config.replace("listen = [", &format!("listen = [\"127.0.0.1:{port}\", "))
    }];
    for edit in edits {
        let failed = bed.proxy.again(edit);
        assert!(!failed.wait().success());
    }
    // One that says hello and no more, one that dies when it is ready, one that dies when it could accept, and one
    // that talks nonsense.
    for steps in
        [&[b"H\0\x01\x01".as_slice()][..], &[b"H\0\x01\x01", b"R\0\0"], &[b"H\0\x01\x09"], &[b"\xff\xff\xff"]]
    {
        let mut control = UnixStream::connect(bed.control()).expect("it listens");
        control.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        for step in steps {
            control.write_all(step).expect("it reads");
            if steps.len() > 1 {
                let _ = control.read(&mut [0; 200]).expect("it answers");
            }
        }
        drop(control);
        eventually("it goes on", || bed.raw().value("SELECT 1") == "1");
    }
    assert_eq!(raw.value("SELECT 2"), "2");
    assert!(bed.proxy.log().contains("going on"), "{}", bed.proxy.log());
    let new = bed.successor(&bed.proxy);
    assert!(pid(&new.raw(&bed.db)) >= SECOND);
}

#[test]
fn takeover_timeout_ends_who_is_idle() {
    let bed = Bed::new("takeover_timeout = \"1s\"");
    let (mut busy, mut idle) = (bed.raw(), bed.raw());
    busy.query("BEGIN");
    let _new = bed.successor(&bed.proxy);
    assert_eq!(idle.value("SELECT 1"), "1");
    let last = idle.until_closed();
    assert_eq!(last[0].field(b'C'), "57P01", "{last:?}");
    assert_eq!(busy.value("SELECT 2"), "2");
    busy.send(query("COMMIT"));
    assert_eq!(busy.frame().expect("it is committed").kind, b'C');
    assert!(bed.proxy.wait().success());
}

#[test]
fn sigterm_ends_an_old_process_as_ever() {
    let bed = Bed::new("");
    let mut idle = bed.raw();
    let new = bed.successor(&bed.proxy);
    bed.proxy.signal(Signal::SIGTERM);
    let last = idle.until_closed();
    assert_eq!(last[0].field(b'C'), "57P01", "{last:?}");
    assert!(bed.proxy.wait().success());
    assert_eq!(new.raw(&bed.db).value("SELECT 1"), "1");
}

#[test]
fn a_process_on_its_way_out_is_not_in_the_way() {
    let bed = Bed::new("");
    let mut busy = bed.raw();
    busy.query("BEGIN");
    bed.proxy.signal(Signal::SIGTERM);
    let told = || {
        let mut raw = Raw::connect(bed.proxy.port);
        raw.send(startup(0x0003_0000, &[("user", &bed.db.user), ("database", &bed.db.name)]));
        let first = raw.frame();
        first.filter(|frame| frame.kind == b'E').map(|frame| frame.field(b'C'))
    };
    eventually("it lets nobody in", || told().as_deref() == Some("57P03"));
    let new = bed.proxy.again(|config| config);
    eventually("another does", || told().is_none());
    assert_eq!(new.raw(&bed.db).value("SELECT 1"), "1");
    assert!(get(new.http_port, "/readyz").contains("200 OK"), "HTTP is the new one's");
    is_cancelled(&mut busy, |key| cancel(bed.proxy.port, key));
    busy.send(query("ROLLBACK"));
    assert_eq!(busy.frame().expect("it ends").kind, b'C');
    assert!(bed.proxy.wait().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn unix_socket_http_and_control_move_too() {
    let sockets = TempDir::with_prefix("turnpike-test-").expect("a directory");
    let dir = sockets.path().display().to_string();
    let hba = "[[hba]]\ntype = \"local\"\ndatabase = \"all\"\nuser = \"all\"\nmethod = \"trust\"\n\
               [[hba]]\ntype = \"host\"\ndatabase = \"all\"\nuser = \"all\"\nmethod = \"trust\"\n";
    let options = ProxyOptions { hba: hba.into(), ..Default::default() };
    let bed = Bed::with(&format!("unix_socket_dir = \"{dir}\""), options);
    let url = format!("host={dir} port={} user={} dbname={}", bed.proxy.port, bed.db.user, bed.db.name);
    let before = try_pg(&url).await.expect("it listens");
    let mut kept = TcpStream::connect((Ipv4Addr::LOCALHOST, bed.proxy.http_port)).expect("it listens");
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    let new = bed.successor(&bed.proxy);
    let after = try_pg(&url).await.expect("it still does");
    assert_eq!(value(&before, "SELECT 1").await, "1");
    let mut answer = String::new();
    kept.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    kept.read_to_string(&mut answer).expect("a scraper that stays is sent to the new process");
    assert!(answer.ends_with("ok\n"), "{answer}");
    assert!(get(new.http_port, "/readyz").contains("200 OK"));
    drop(before);
    assert!(bed.proxy.wait().success());
    assert_eq!(value(&after, "SELECT 2").await, "2");
    assert_eq!(value(&try_pg(&url).await.expect("its path is left alone"), "SELECT 3").await, "3");
    let control = fs::metadata(bed.control()).expect("it is there");
    assert!(control.file_type().is_socket());
    assert_eq!(control.permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(bed.dir.path()).expect("readable").count(), 1, "nothing else is left");
    let admin = pg(&new.admin_url(&bed.db)).await;
    assert!(!rows(&admin, "SHOW CLIENTS").await.is_empty());
}

/// As systemd starts it: sockets from descriptor 3 on, one for clients, one for HTTP.
struct Activated {
    child: Child,
    dir: TempDir,
    port: u16,
    http_port: u16,
    notices: UnixDatagram,
}

impl Activated {
    fn start(config: &str, pid: &str) -> Activated {
        let dir = TempDir::with_prefix("turnpike-test-").expect("a directory");
        let bound = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
        let (clients, http) = (bound(), bound());
        let (port, http_port) = (port(&clients), port(&http));
        let notices = UnixDatagram::bind(dir.path().join("notify")).expect("a socket");
        notices.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        fs::write(dir.path().join("turnpike.toml"), config).expect("a file");
        let script = format!("exec 3<&0 4<&1 </dev/null >&2; export LISTEN_PID={pid}; exec \"$@\"");
        let child = Command::new("sh")
            .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_turnpike"), "run", "-c"])
            .arg(dir.path().join("turnpike.toml"))
            .env("LISTEN_FDS", "2")
            .env("LISTEN_FDNAMES", "clients:http")
            .env("NOTIFY_SOCKET", dir.path().join("notify"))
            .stdin(OwnedFd::from(clients))
            .stdout(OwnedFd::from(http))
            .stderr(File::create(dir.path().join("log")).expect("a log"))
            .spawn()
            .expect("it starts");
        Activated { child, dir, port, http_port, notices }
    }

    #[track_caller]
    fn notice(&self) -> String {
        let mut buf = [0; 200];
        let len = self.notices.recv(&mut buf).unwrap_or_else(|e| panic!("{e}: {}", self.log()));
        String::from_utf8_lossy(&buf[..len]).into_owned()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Activated {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn activated_config(db: &Db, listen: u16, more: &str) -> String {
    let server = db.cluster().primary();
    format!(
        "[general]\nlisten = \"127.0.0.1:{listen}\"\n{more}\n[[database]]\nname = \"{}\"\nbackend = \"b\"\n\
         [[backend]]\nname = \"b\"\nhost = \"{}\"\nport = {}\nsslmode = \"disable\"\n\
         [[user]]\nname = \"{}\"\npassword = \"{}\"\n\
         [[hba]]\ntype = \"host\"\ndatabase = \"all\"\nuser = \"all\"\nmethod = \"scram-sha-256\"\n",
        db.name, server.host, server.port, db.user, db.password
    )
}

#[test]
fn sockets_from_systemd_are_used_and_it_is_told() {
    let db = Db::new();
    let dir = TempDir::with_prefix("turnpike-test-").expect("a directory");
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let listen = taken.local_addr().expect("an address").port();
    // An address that cannot be had, to see that it is not asked for.
    let more = format!("takeover_socket = \"{}/control\"", dir.path().display());
    let mut proxy = Activated::start(&activated_config(&db, listen, &more), "$$");
    assert_eq!(proxy.notice(), "READY=1");
    let mut raw = Raw::login(proxy.port, &db.user, &db.password, &db.name);
    assert_eq!(raw.value("SELECT 1"), "1");
    assert!(get(proxy.http_port, "/readyz").contains("200 OK"));

    // They are handed on, though the configuration does not know of them.
    let mut new = Activated::start(&activated_config(&db, listen, &more), "1");
    assert_eq!(new.notice(), format!("MAINPID={}\nREADY=1", new.child.id()));
    let mut fresh = Raw::login(proxy.port, &db.user, &db.password, &db.name);
    assert!(pid(&raw) < SECOND && pid(&fresh) >= SECOND);
    drop(raw);
    assert!(proxy.child.wait().expect("ours").success());
    assert_eq!(fresh.value("SELECT 2"), "2");
    assert!(get(proxy.http_port, "/readyz").contains("200 OK"));
    kill(Pid::from_raw(new.child.id() as i32), Signal::SIGTERM).expect("ours");
    assert_eq!(new.notice(), "STOPPING=1");
    assert!(new.child.wait().expect("ours").success(), "{}", new.log());
}

#[test]
fn health_is_told_by_exit_status() {
    let (db, dir) = (Db::new(), TempDir::with_prefix("turnpike-test-").expect("a directory"));
    let proxy = Proxy::to(&db);
    let asked = |port: u16| {
        let config =
            activated_config(&db, proxy.port, "") + &format!("[http]\nlisten = \"0.0.0.0:{port}\"\n");
        fs::write(dir.path().join("turnpike.toml"), config).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_turnpike"));
        command.args(["health", "-c"]).arg(dir.path().join("turnpike.toml"));
        command.output().expect("it runs").status.success()
    };
    assert!(asked(proxy.http_port));
    assert!(!asked(turnpike::app::cluster::free_port()));
}

#[test]
fn sockets_that_are_for_another_process_are_left_alone() {
    let db = Db::new();
    let listen = turnpike::app::cluster::free_port();
    let proxy = Activated::start(&activated_config(&db, listen, ""), "1");
    assert_eq!(proxy.notice(), "READY=1");
    let mut raw = Raw::login(listen, &db.user, &db.password, &db.name);
    assert_eq!(raw.value("SELECT 1"), "1");
}
