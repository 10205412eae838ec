//! Real drivers, the same cases past the proxy and through it: what differs is a bug of the proxy's.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Db, Proxy, ProxyOptions};
use crate::tls::Certificates;

fn installed(program: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/drivers").join(program);
    assert!(path.exists(), "{} is missing: run scripts/setup drivers", path.display());
    path
}

fn run(mut program: Command, script: &str, url: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/drivers").join(script);
    let output = program.arg(&script).arg(url).arg("2").output().expect("the interpreter starts");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("checks passed"), "{}: {said}", script.display());
}

/// Directly, then through two server connections, then through them under TLS (`tls` is how the driver asks for it).
fn every_way(script: &str, tls: &str, program: impl Fn() -> Command) {
    let db = Db::new();
    run(program(), script, &db.direct_url());
    let certificates = Certificates::new(&db.user);
    let extra = certificates.section();
    let proxy = Proxy::start(&db, ProxyOptions { pool: "size = 2".into(), extra, ..Default::default() });
    run(program(), script, &proxy.url(&db));
    run(program(), script, &format!("{}?{tls}", proxy.url(&db)));
}

fn python() -> Command {
    Command::new(installed("venv/bin/python"))
}

#[test]
fn psycopg() {
    every_way("psycopg_test.py", "sslmode=require", python);
}

/// What only the proxy answers.
#[test]
fn explain_route_by_psycopg() {
    let db = Db::new();
    let proxy = Proxy::start(&db, ProxyOptions { pool: "size = 2".into(), ..Default::default() });
    run(python(), "explain_test.py", &proxy.url(&db));
}

#[test]
fn asyncpg() {
    every_way("asyncpg_test.py", "sslmode=require", python);
}

#[test]
fn node_postgres() {
    every_way("node_test.js", "sslmode=no-verify", || {
        let mut node = Command::new("node");
        node.env("NODE_PATH", installed("node/node_modules"));
        node
    });
}
