//! A relay in front of a server: what a slow or faulty network does to connections, by what they begin with.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

/// Starts one to `port` that holds CancelRequests back for a while; returns its own port. It ends with the process.
pub fn slow_cancels(port: u16, delay: Duration) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let own = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || serve(client, port, delay));
        }
    });
    own
}

/// One connection. Whoever goes, goes; the other side sees it.
fn serve(mut client: TcpStream, port: u16, delay: Duration) -> Option<()> {
    let mut head = [0; 8];
    client.read_exact(&mut head).ok()?;
    if head[4..] == 80_877_102u32.to_be_bytes() {
        thread::sleep(delay);
    }
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    client.set_nodelay(true).ok()?;
    server.set_nodelay(true).ok()?;
    server.write_all(&head).ok()?;
    let (mut from_client, mut to_server) = (client.try_clone().ok()?, server.try_clone().ok()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut server, &mut client);
    client.shutdown(Shutdown::Both).ok()
}

/// A network that can be told to swallow everything, and to give it back.
#[derive(Debug, Clone)]
pub struct Hole {
    /// Where to connect.
    pub port: u16,
    /// Nothing gets through while this is set: neither bytes nor the end of a connection.
    pub shut: Arc<AtomicBool>,
    /// Connections that whoever connected has not closed.
    pub open: Arc<AtomicUsize>,
}

/// Starts one to `port`. It ends with the process.
pub fn hole(port: u16) -> Hole {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let own = listener.local_addr().expect("it is bound").port();
    let hole = Hole { port: own, shut: Arc::default(), open: Arc::default() };
    let shared = hole.clone();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.open.fetch_add(1, SeqCst);
                let _ = through(client, port, &shared);
                shared.open.fetch_sub(1, SeqCst);
            });
        }
    });
    hole
}

fn through(mut client: TcpStream, port: u16, hole: &Hole) -> std::io::Result<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let (mut back, mut from) = (client.try_clone()?, server.try_clone()?);
    let shut = hole.shut.clone();
    thread::spawn(move || {
        let _ = pass(&mut from, &mut back, &shut);
        let _ = back.shutdown(Shutdown::Both);
    });
    let outcome = pass(&mut client, &mut server, &hole.shut);
    server.shutdown(Shutdown::Both)?;
    outcome
}

/// What comes while the hole is shut is gone.
fn pass(from: &mut TcpStream, to: &mut TcpStream, shut: &AtomicBool) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        if !shut.load(SeqCst) {
            to.write_all(&buffer[..n])?;
        }
    }
}
