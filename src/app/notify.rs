//! What systemd is told of us (sd_notify): one datagram per change of state, to the socket that it names.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// We serve.
pub const READY: &str = "READY=1";
/// We read our configuration again.
pub const RELOADING: &str = "RELOADING=1";
/// We are on our way out.
pub const STOPPING: &str = "STOPPING=1";

/// Tells a change of state; nothing happens where nobody wants to know.
pub fn tell(state: &str) {
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET")
        && let Err(e) = send(&socket, state)
    {
        tracing::warn!(error = %e, state, "systemd could not be told");
    }
}

/// Tells that we serve in place of the process that systemd knows.
pub fn tell_successor() {
    tell(&format!("MAINPID={}\n{READY}", std::process::id()));
}

fn send(socket: &OsString, state: &str) -> std::io::Result<()> {
    let addr = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let from = UnixDatagram::unbound()?;
    // Clients must not wait because the journal does.
    from.set_nonblocking(true)?;
    from.send_to_addr(state.as_bytes(), &addr).map(drop)
}
