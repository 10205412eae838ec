//! The sockets that we listen on, wherever they come from: the process before us, systemd, or made here.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use socket2::{Domain, SockRef};
use tokio::net::{TcpListener, UnixListener};

use crate::config::Config;
use crate::session::listen::Listener;

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Postgres clients.
    Clients,
    /// Metrics and health.
    Http,
    /// Reports.
    Reports,
}

/// A listening socket.
#[derive(Debug)]
pub struct Socket {
    /// What it is for.
    pub role: Role,
    /// Whether it came from systemd, which knows better than the configuration where we listen.
    pub given: bool,
    /// Where it is in the file system, if it is a Unix socket that was made here or before us.
    pub path: Option<PathBuf>,
    /// The socket itself.
    pub fd: OwnedFd,
}

impl Socket {
    fn new(role: Role, path: Option<PathBuf>, fd: impl Into<OwnedFd>) -> Socket {
        Socket { role, given: false, path, fd: fd.into() }
    }

    fn addr(&self) -> Option<SocketAddr> {
        SockRef::from(&self.fd).local_addr().ok()?.as_socket()
    }

    /// A second handle, to accept clients with.
    ///
    /// # Errors
    /// No descriptor left, or not a listening socket.
    pub fn listener(&self) -> io::Result<Listener> {
        let fd = self.fd.try_clone()?;
        if SockRef::from(&fd).domain()? == Domain::UNIX {
            let unix = std::os::unix::net::UnixListener::from(fd);
            unix.set_nonblocking(true)?;
            return Ok(Listener::Unix(UnixListener::from_std(unix)?));
        }
        let tcp = std::net::TcpListener::from(fd);
        tcp.set_nonblocking(true)?;
        Ok(Listener::Tcp(TcpListener::from_std(tcp)?))
    }
}

/// The sockets that systemd gives us (sd_listen_fds): those named `http` for metrics and health, `reports` for
/// reports, all others for clients.
/// To be called once, before there are threads: it takes them out of the environment.
///
/// # Errors
/// What is not a listening socket.
pub fn inherited() -> Result<Vec<Socket>, String> {
    let ours = std::env::var("LISTEN_PID").is_ok_and(|pid| pid.parse() == Ok(std::process::id()));
    if !ours {
        // Meant for a process that started us; its descriptors may be anything by now.
        return Ok(Vec::new());
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names: Vec<_> = names.split(':').collect();
    let mut fds = ListenFd::from_env();
    (0..fds.len())
        .map(|i| {
            let role = match names.get(i) {
                Some(&"http") => Role::Http,
                Some(&"reports") => Role::Reports,
                _ => Role::Clients,
            };
            let fd = match fds.take_tcp_listener(i) {
                Ok(tcp) => tcp.map(OwnedFd::from),
                Err(_) => fds.take_unix_listener(i).map_err(said)?.map(OwnedFd::from),
            };
            let fd = fd.ok_or_else(|| said("not there"))?;
            Ok(Socket { given: true, ..Socket::new(role, None, fd) })
        })
        .collect()
}

fn said(e: impl std::fmt::Display) -> String {
    format!("a socket in LISTEN_FDS is of no use: {e}")
}

/// All sockets that we are to listen on. Those of the process before us are used where they are what the configuration
/// says; those from systemd stand for `general.listen` and `general.unix_socket_dir`.
///
/// # Errors
/// An address in use.
pub async fn open(
    config: &Config,
    inherited: Vec<Socket>,
    handed: Vec<Socket>,
) -> Result<Vec<Socket>, String> {
    let (mut given, mut free): (Vec<_>, Vec<_>) = handed.into_iter().partition(|socket| socket.given);
    if !inherited.is_empty() {
        given = inherited;
    }
    let stands_for = |role| given.iter().any(|socket| socket.role == role);
    let (clients, http) = (stands_for(Role::Clients), stands_for(Role::Http));
    let reports = stands_for(Role::Reports);
    let mut sockets = given;
    if !clients {
        for addr in &config.general.listen {
            sockets.push(tcp(*addr, Role::Clients, &mut free).await?);
        }
        if let Some(dir) = &config.general.unix_socket_dir {
            let port = config.general.listen.first().map_or(6432, |a| a.port());
            sockets.push(unix(&dir.join(format!(".s.PGSQL.{port}")), &mut free)?);
        }
    }
    if let Some(addr) = config.http.filter(|_| !http) {
        sockets.push(tcp(addr, Role::Http, &mut free).await?);
    }
    if let Some(addr) = config.reports.as_ref().map(|r| r.listen).filter(|_| !reports) {
        sockets.push(tcp(addr, Role::Reports, &mut free).await?);
    }
    for socket in sockets.iter().filter(|socket| socket.role == Role::Clients) {
        match (socket.addr(), &socket.path) {
            (Some(addr), _) => tracing::info!(%addr, "listening"),
            (None, path) => tracing::info!(?path, "listening"),
        }
    }
    Ok(sockets)
}

/// Takes out the first that fits.
fn take(free: &mut Vec<Socket>, fits: impl Fn(&Socket) -> bool) -> Option<Socket> {
    free.iter().position(fits).map(|i| free.swap_remove(i))
}

async fn tcp(addr: SocketAddr, role: Role, free: &mut Vec<Socket>) -> Result<Socket, String> {
    if let Some(mut socket) = take(free, |socket| socket.addr() == Some(addr)) {
        socket.role = role;
        return Ok(socket);
    }
    let bound = TcpListener::bind(addr).await.and_then(TcpListener::into_std);
    bound.map(|tcp| Socket::new(role, None, tcp)).map_err(|e| format!("cannot listen on {addr}: {e}"))
}

fn unix(path: &Path, free: &mut Vec<Socket>) -> Result<Socket, String> {
    let known = canonical(path);
    if let Some(socket) = take(free, |socket| socket.path.as_ref() == Some(&known)) {
        return Ok(socket);
    }
    // A socket that nobody listens on any more only stands in the way.
    if std::os::unix::net::UnixStream::connect(path).is_err() {
        let _ = std::fs::remove_file(path);
    }
    let shown = path.display();
    let unix =
        std::os::unix::net::UnixListener::bind(path).map_err(|e| format!("cannot listen on {shown}: {e}"))?;
    // Who may come in is for `[[hba]]` to say, as with Postgres' default unix_socket_permissions.
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(path, open).map_err(|e| format!("{shown}: {e}"))?;
    Ok(Socket::new(Role::Clients, Some(known), unix))
}

/// The same for every way to name it: two processes may have started in different directories.
fn canonical(path: &Path) -> PathBuf {
    match (path.parent().map(std::fs::canonicalize), path.file_name()) {
        (Some(Ok(dir)), Some(name)) => dir.join(name),
        _ => path.to_path_buf(),
    }
}
