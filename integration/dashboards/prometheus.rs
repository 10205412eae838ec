//! A Prometheus of the test's own: the distribution's, with our configuration and rules, on a port that is free.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use turnpike::app::cluster::free_port;

/// How long it may take to be ready.
const PATIENCE: Duration = Duration::from_secs(20);

/// What we ship for it.
pub fn ours() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/prometheus")
}

/// A running server. Killed with the value.
#[derive(Debug)]
pub struct Prometheus {
    port: u16,
    child: Child,
    dir: TempDir,
}

impl Prometheus {
    /// Scrapes whoever listens there, and evaluates our rules, every second.
    #[track_caller]
    pub fn of(target: u16) -> Prometheus {
        let dir = TempDir::with_prefix("turnpike-prometheus-").expect("a temporary directory");
        let config = fs::read_to_string(ours().join("prometheus.yml")).expect("our configuration");
        let edit = |text: String, from: &str, to: &str| {
            assert!(text.contains(from), "no {from} in\n{text}");
            text.replace(from, to)
        };
        let config = edit(config, "127.0.0.1:9930", &format!("127.0.0.1:{target}"));
        let config = edit(config, "_interval: 15s", "_interval: 1s");
        let config = edit(config, "rules/*.yml", &format!("{}/rules/*.yml", ours().display()));
        fs::write(dir.path().join("prometheus.yml"), config).expect("a file in it");
        let log = fs::File::create(dir.path().join("log")).expect("a log in it");
        let port = free_port();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("prometheus does not start ({e}): run scripts/setup server"));
        let server = Prometheus { port, child, dir };
        let deadline = Instant::now() + PATIENCE;
        while server.request("/-/ready", &[]).is_none_or(|(status, _)| !status.contains("200")) {
            assert!(Instant::now() < deadline, "prometheus is not ready:\n{}", server.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Status line and body; `None` while nobody listens.
    fn request(&self, path: &str, form: &[(&str, &str)]) -> Option<(String, String)> {
        let body: Vec<String> = form.iter().map(|(k, v)| format!("{k}={}", encoded(v))).collect();
        let body = body.join("&");
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        let (method, length) = (if form.is_empty() { "GET" } else { "POST" }, body.len());
        // Of HTTP/1.0 answers come in one piece.
        write!(
            socket,
            "{method} {path} HTTP/1.0\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
        .ok()?;
        let mut text = String::new();
        socket.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.lines().next()?.to_string(), body.to_string()))
    }

    /// What its API answers.
    ///
    /// # Errors
    /// What it says is wrong.
    pub fn api(&self, path: &str, form: &[(&str, &str)]) -> Result<Value, String> {
        let (_, body) = self.request(&format!("/api/v1/{path}"), form).ok_or("no answer")?;
        let mut answer: Value = serde_json::from_str(&body).map_err(|e| format!("{e}: {body}"))?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].take()),
            _ => Err(answer["error"].to_string()),
        }
    }

    /// How many numbers an expression has found: now, or each second of the last ten.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn numbers(&self, expr: &str, now: bool) -> Result<usize, String> {
        let data = if now {
            self.api("query", &[("query", expr)])?
        } else {
            let end = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let end = end.map_err(|e| e.to_string())?.as_secs();
            let (start, end) = ((end - 10).to_string(), end.to_string());
            self.api("query_range", &[("query", expr), ("start", &start), ("end", &end), ("step", "1")])?
        };
        let values = data["result"].as_array().into_iter().flatten().flat_map(|series| {
            let many = series["values"].as_array().into_iter().flatten();
            many.chain(std::iter::once(&series["value"]))
        });
        let is_number = |sample: &Value| sample[1].as_str().is_some_and(|v| v != "NaN");
        Ok(values.filter(|sample| is_number(sample)).count())
    }
}

impl Drop for Prometheus {
    #[allow(clippy::print_stderr, reason = "the reader of a failed test needs the other side of the story")]
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- prometheus' log ----\n{}", self.log());
        }
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

/// Runs `promtool`, with this input.
pub fn promtool(args: &[&str], input: &str) -> Output {
    let mut child = Command::new("promtool")
        .args(args)
        .current_dir(ours())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("promtool does not start ({e}): run scripts/setup server"));
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends")
}
