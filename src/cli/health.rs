//! `turnpike health`: asks the running proxy whether it is alive, for containers that have no other way to.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use crate::config::Config;

/// Longest wait for each step.
const PATIENCE: Duration = Duration::from_secs(2);
/// More than the answer has.
const LONGEST: u64 = 4096;

/// Succeeds if `/healthz` of the proxy with this configuration answers.
pub fn run(config: Config) -> ExitCode {
    let Some(addr) = config.http else {
        eprintln!("turnpike: http.listen is not set, so there is nobody to ask");
        return ExitCode::FAILURE;
    };
    match ask(addr) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("turnpike: {addr} answers, but not that it is well");
            ExitCode::FAILURE
        }
        Err(e) => {
            eprintln!("turnpike: {addr} does not answer: {e}");
            ExitCode::FAILURE
        }
    }
}

fn ask(mut addr: SocketAddr) -> std::io::Result<bool> {
    if addr.ip().is_unspecified() {
        let any = if addr.is_ipv4() { IpAddr::from(Ipv4Addr::LOCALHOST) } else { Ipv6Addr::LOCALHOST.into() };
        addr.set_ip(any);
    }
    let mut socket = TcpStream::connect_timeout(&addr, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    socket.take(LONGEST).read_to_end(&mut answer)?;
    Ok(answer.starts_with(b"HTTP/1.1 200 "))
}
