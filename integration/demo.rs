//! `turnpike demo` as a user meets it.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use tempfile::TempDir;

/// A temporary directory that the account of the servers can pass through.
fn temporary() -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).expect("it is ours");
    dir
}

fn demo(tmp: &TempDir, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnpike"));
    command.arg("demo").args(args).env("TMPDIR", tmp.path());
    command.output().expect("the binary runs")
}

fn is_empty(tmp: &TempDir) -> bool {
    fs::read_dir(tmp.path()).expect("it is there").next().is_none()
}

#[test]
fn one_statement_end_to_end() {
    let tmp = temporary();
    let output = demo(&tmp, &["--events", "500", "--once", "SELECT count(*), NULL, 'x' FROM audit_log"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "500||x\n", "{output:?}");
    assert!(output.status.success());
    assert!(is_empty(&tmp), "it left something behind");
}

#[test]
fn a_failing_statement_fails_the_command() {
    let tmp = temporary();
    let output = demo(&tmp, &["--events", "1", "--once", "SELECT 1/0"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("division by zero"), "{output:?}");
    assert!(is_empty(&tmp), "it left something behind");
}

#[test]
fn a_port_in_use_is_named_with_the_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("it has one").port().to_string();
    let output = demo(&temporary(), &["--port", &port]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&format!("port {port} is in use")) && said.contains("--port"), "{said}");
}
