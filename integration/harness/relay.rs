//! A relay in front of a server: what a slow or faulty network does to connections, by what they begin with.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
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

/// What a network does to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// It delivers.
    Open,
    /// It swallows everything, and nobody is told: connecting hangs, too.
    Blackhole,
    /// It resets every connection, and every attempt at another.
    Reset,
}

/// A network with faults that can be set while it is in use.
#[derive(Debug, Clone)]
pub struct Faulty {
    /// Where to connect.
    pub port: u16,
    faults: Arc<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    mode: AtomicU8,
    /// Connections of an earlier age are half open: what is sent into them is lost.
    age: AtomicUsize,
    delay_us: AtomicU64,
    stalls_permille: AtomicU64,
    stall_us: AtomicU64,
    dice: AtomicU64,
}

impl Faulty {
    /// Starts one to `port`. It ends with the process.
    pub fn to(port: u16) -> Faulty {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let own = listener.local_addr().expect("it is bound").port();
        let faulty = Faulty { port: own, faults: Arc::default() };
        let faults = faulty.faults.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let faults = faults.clone();
                thread::spawn(move || faults.serve(client, port));
            }
        });
        faulty
    }

    /// What it does from now on.
    pub fn set(&self, mode: Mode) {
        self.faults.mode.store(mode as u8, SeqCst);
    }

    /// How long it takes, each way.
    pub fn set_delay(&self, delay: Duration) {
        self.faults.delay_us.store(delay.as_micros() as u64, SeqCst);
    }

    /// How many of a thousand deliveries from the server are late, and by how much: as a lost packet would be.
    pub fn set_stalls(&self, permille: u64, stall: Duration) {
        self.faults.stall_us.store(stall.as_micros() as u64, SeqCst);
        self.faults.stalls_permille.store(permille, SeqCst);
    }

    /// Forgets the connections there are, as a firewall does: whoever uses them hears nothing. New ones work.
    pub fn forget(&self) {
        self.faults.age.fetch_add(1, SeqCst);
    }
}

impl Faults {
    fn is(&self, mode: Mode) -> bool {
        self.mode.load(SeqCst) == mode as u8
    }

    fn serve(self: Arc<Self>, client: TcpStream, port: u16) -> std::io::Result<()> {
        let age = self.age.load(SeqCst);
        while self.is(Mode::Blackhole) {
            thread::sleep(Duration::from_millis(5));
        }
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
            // So that a reset is noticed where nothing is said.
            stream.set_read_timeout(Some(Duration::from_millis(20)))?;
        }
        let (back, from) = (client.try_clone()?, server.try_clone()?);
        let faults = self.clone();
        thread::spawn(move || faults.pass(from, back, age, true));
        self.pass(client, server, age, false);
        Ok(())
    }

    /// Bytes of one direction until it ends.
    fn pass(&self, mut from: TcpStream, mut to: TcpStream, age: usize, stalls: bool) {
        let mut buffer = [0; 16 * 1024];
        loop {
            let read = from.read(&mut buffer);
            if self.is(Mode::Reset) {
                for stream in [&from, &to] {
                    // Closing resets what has not been read; a shutdown wakes who reads on the other side.
                    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
                }
                break;
            }
            match read {
                Ok(0) => break,
                Ok(n) => {
                    self.wait(stalls);
                    let lost = self.is(Mode::Blackhole) || self.age.load(SeqCst) != age;
                    if !lost && to.write_all(&buffer[..n]).is_err() {
                        break;
                    }
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
        }
        if !self.is(Mode::Reset) {
            let _ = to.shutdown(Shutdown::Both);
        }
    }

    fn wait(&self, stalls: bool) {
        // Knuth's MMIX generator.
        let step = |n: u64| Some(n.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407));
        let roll = self.dice.fetch_update(SeqCst, SeqCst, step).unwrap_or_default() >> 33;
        let stalled = stalls && roll % 1000 < self.stalls_permille.load(SeqCst);
        let stall = if stalled { self.stall_us.load(SeqCst) } else { 0 };
        let wait = Duration::from_micros(self.delay_us.load(SeqCst) + stall);
        if !wait.is_zero() {
            thread::sleep(wait);
        }
    }
}

/// A network that adds to what a server says.
#[derive(Debug, Clone)]
pub struct Chatty {
    /// Where to connect.
    pub port: u16,
    more: Arc<Mutex<Vec<u8>>>,
}

impl Chatty {
    /// Starts one to `port`. It ends with the process.
    pub fn to(port: u16) -> Chatty {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let own = listener.local_addr().expect("it is bound").port();
        let chatty = Chatty { port: own, more: Arc::default() };
        let more = chatty.more.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let more = more.clone();
                thread::spawn(move || chat(client, port, more));
            }
        });
        chatty
    }

    /// Has this come before the server's next answer.
    pub fn say(&self, more: &[u8]) {
        self.more.lock().expect("nobody has panicked").extend_from_slice(more);
    }
}

fn chat(mut client: TcpStream, port: u16, more: Arc<Mutex<Vec<u8>>>) -> std::io::Result<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let (mut back, mut from) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(n) = from.read(&mut buffer)
            && n > 0
        {
            let more = std::mem::take(&mut *more.lock().expect("nobody has panicked"));
            if back.write_all(&[&more, &buffer[..n]].concat()).is_err() {
                break;
            }
        }
        let _ = back.shutdown(Shutdown::Both);
    });
    let outcome = std::io::copy(&mut client, &mut server).map(drop);
    server.shutdown(Shutdown::Both)?;
    outcome
}
