//! A relay in front of a server: what a slow or faulty network does to connections, by what they begin with.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
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
