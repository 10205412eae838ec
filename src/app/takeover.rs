//! A new process takes over the listening sockets while the old one serves the clients that it has.
//!
//! Over a Unix socket ([`frame`]): the new one says HELLO and gets SOCKETS; it starts up to where it could accept, says
//! READY; the old one stops accepting, says GO; the new one accepts and says LIVE. At no time do both accept, and what
//! connects in between waits in the backlog, which the sockets share. Whatever fails before LIVE leaves the old one as
//! it was. After it, the connection stays as a [`link`].

use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::door::Door;
use super::notify;
use super::sockets::{Role, Socket};
use crate::core::limits::MAX_PASSED;
use crate::session::shared::Shared;

mod frame;
pub mod link;

use frame::{GO, HELLO, LIVE, READY, REFUSED, SOCKETS};

/// Version of what is said.
const VERSION: u8 = 1;
/// Longest wait for a process that has only to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Longest that the old process waits for the new one to start.
const START: Duration = Duration::from_secs(60);
/// Clients that may log in to the old process after it has told the new one from where to count.
const GAP: u64 = 1 << 20;
/// How often an old process looks whether it is still needed: not everything that it waits for announces its end.
const LOOK: Duration = Duration::from_millis(100);

/// What the process before us offers.
#[derive(Debug)]
pub struct Offer {
    sockets: Vec<Socket>,
    /// From where to count clients, so that their process ids are no others' of now.
    first_client: u64,
    stream: UnixStream,
}

/// Asks the process that listens at `path` for its sockets. `None`: there is none.
///
/// # Errors
/// There is one, and it gives none.
pub async fn ask(path: &Path) -> Result<Option<Offer>, String> {
    let shown = path.display();
    let mut stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(e) => return Err(format!("cannot ask at {shown} whether to take over: {e}")),
    };
    if !trusted(&stream) {
        return Err(format!("the process that listens at {shown} is another user's"));
    }
    let offer = async {
        frame::write(&mut stream, HELLO, &[VERSION]).await?;
        let (frame, fds) = frame::read_with(&mut stream).await?;
        if frame.kind != SOCKETS {
            return Err(refusal(&frame.body));
        }
        decode(&frame.body, fds).ok_or_else(|| io::Error::other("it says what we do not understand"))
    };
    match timeout(ANSWER, offer).await.unwrap_or_else(|e| Err(e.into())) {
        Ok((first_client, sockets)) => Ok(Some(Offer { sockets, first_client, stream })),
        // It was on its way out, and has closed its door before it hung up on us.
        Err(e) if is_gone(&e) => Ok(None),
        Err(e) => Err(format!("the process that listens at {shown} does not hand over: {e}")),
    }
}

fn is_gone(e: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(e.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

impl Offer {
    /// The sockets apart from the rest: they are needed before it is known whether we can accept the offer.
    pub fn split(mut self) -> (Offer, Vec<Socket>) {
        let sockets = std::mem::take(&mut self.sockets);
        (self, sockets)
    }

    /// Tells it that we could accept, and waits until it no longer does. `None`: it is gone altogether.
    ///
    /// # Errors
    /// It has changed its mind.
    pub async fn accept(mut self, shared: &Shared) -> Result<Option<Successor>, String> {
        shared.start_clients_at(self.first_client);
        // However long it takes: after GO we are the only one, before it there must be no second.
        let answer = async {
            frame::write(&mut self.stream, READY, b"").await?;
            frame::read(&mut self.stream).await
        };
        match answer.await {
            Ok(frame) if frame.kind == GO => Ok(Some(Successor { stream: self.stream })),
            Ok(frame) => Err(format!("the old process does not hand over: {}", refusal(&frame.body))),
            Err(e) => {
                tracing::warn!(error = %e, "the old process is gone");
                Ok(None)
            }
        }
    }
}

/// The connection between two processes, when one accepts in the other's place.
#[derive(Debug)]
pub struct Successor {
    stream: UnixStream,
}

impl Successor {
    /// On the new side: tells the old one that we accept, and stays in touch with it.
    async fn live(mut self, shared: &Arc<Shared>) {
        // If it is gone by now, so is what we would have told it.
        let _ = frame::write(&mut self.stream, LIVE, b"").await;
        link::open(self.stream, shared, link::Toward::Older);
        tracing::info!("took over from the process before us");
    }

    /// On the old side: lets the new one accept, and stays in touch with it.
    async fn release(mut self, shared: &Arc<Shared>) -> io::Result<()> {
        frame::write(&mut self.stream, GO, b"").await?;
        // However long it takes, as on the other side; if it dies first, we go on.
        if frame::read(&mut self.stream).await?.kind != LIVE {
            return Err(io::Error::other("it says what we do not understand"));
        }
        link::open(self.stream, shared, link::Toward::Newer);
        tracing::info!(clients = shared.client_count(), "handed over; serving the clients that are here");
        Ok(())
    }
}

/// Tells whom it concerns that we accept: the process before us, whoever comes after us, systemd.
///
/// # Errors
/// The control socket cannot be made.
pub async fn announce(
    path: Option<&Path>,
    before: Option<Successor>,
    shared: &Arc<Shared>,
) -> Result<Option<Control>, String> {
    let control = path.map(Control::open).transpose();
    let Some(before) = before else {
        let control = control?;
        notify::tell(notify::READY);
        return Ok(control);
    };
    before.live(shared).await;
    notify::tell_successor();
    // Clients are here by now: better to serve them without one than not to.
    Ok(control.unwrap_or_else(|e| {
        tracing::error!(reason = %e, "nobody will be able to take over from this process");
        None
    }))
}

/// Waits until another process accepts in our place; for ever if there is nowhere to ask us. Dropped at any time, it
/// leaves no more than a door that is paused.
pub async fn replaced(control: Option<&Control>, door: &mut Door, shared: &Arc<Shared>) {
    let Some(control) = control else { return std::future::pending().await };
    loop {
        let successor = control.successor(shared, door.sockets()).await;
        door.pause().await;
        match successor.release(shared).await {
            Ok(()) => return,
            Err(e) => tracing::warn!(error = %e, "the process that was to take over is gone; going on"),
        }
        door.resume().await;
    }
}

/// Where a new process asks us.
#[derive(Debug)]
pub struct Control(UnixListener);

impl Control {
    /// Listens at `path`, in the place of whoever did before.
    fn open(path: &Path) -> Result<Control, String> {
        let mut beside = path.as_os_str().to_os_string();
        beside.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(beside);
        let open = || {
            let _ = std::fs::remove_file(&beside);
            let listener = UnixListener::bind(&beside)?;
            std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))?;
            // Renamed into place: whoever connects finds the old one or us, never nothing.
            std::fs::rename(&beside, path)?;
            Ok(Control(listener))
        };
        open().map_err(|e: io::Error| format!("cannot listen on {}: {e}", path.display()))
    }

    /// Waits for a process that is ready to accept in our place.
    async fn successor(&self, shared: &Shared, sockets: &[Socket]) -> Successor {
        loop {
            let Ok((mut stream, _)) = self.0.accept().await else {
                tokio::time::sleep(LOOK).await;
                continue;
            };
            if !trusted(&stream) {
                tracing::warn!("another user's process asked to take over");
                continue;
            }
            match offer(&mut stream, shared, sockets).await {
                Ok(()) => return Successor { stream },
                Err(e) => {
                    tracing::warn!(reason = %e, "a process that wanted to take over did not; going on");
                    let _ =
                        timeout(ANSWER, frame::write(&mut stream, REFUSED, e.to_string().as_bytes())).await;
                }
            }
        }
    }
}

/// Gives the sockets and waits until the other process has started.
async fn offer(stream: &mut UnixStream, shared: &Shared, sockets: &[Socket]) -> io::Result<()> {
    let hello = timeout(ANSWER, frame::read(stream)).await??;
    if hello.kind != HELLO || hello.body.first() != Some(&VERSION) {
        return Err(io::Error::other("it speaks another version of the takeover protocol"));
    }
    if sockets.len() > MAX_PASSED {
        return Err(io::Error::other(format!("there are more than {MAX_PASSED} listening sockets")));
    }
    let body = encode(shared.upcoming_client() + GAP, sockets);
    let fds: Vec<_> = sockets.iter().map(|socket| socket.fd.as_fd()).collect();
    timeout(ANSWER, frame::write_with(stream, SOCKETS, &body, &fds)).await??;
    let ready = timeout(START, frame::read(stream)).await??;
    if ready.kind == READY { Ok(()) } else { Err(io::Error::other("it did not say that it is ready")) }
}

/// Only our own user's processes and root's: whoever has the sockets can be us to every client.
fn trusted(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| may(peer.uid(), nix::unistd::geteuid().as_raw()))
}

fn may(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

fn refusal(body: &[u8]) -> io::Error {
    io::Error::other(String::from_utf8_lossy(body).into_owned())
}

const IS_HTTP: u8 = 1;
const IS_GIVEN: u8 = 2;
const IS_REPORTS: u8 = 4;

/// From where to count; then for each socket its flags, and its path (empty if it has none) after its length.
fn encode(first_client: u64, sockets: &[Socket]) -> Vec<u8> {
    let mut body = first_client.to_be_bytes().to_vec();
    for socket in sockets {
        let path = socket.path.as_ref().map(|p| p.as_os_str().as_bytes()).unwrap_or_default();
        // A path that does not fit has never been one of a socket.
        let len = u8::try_from(path.len()).unwrap_or(0);
        let role = match socket.role {
            Role::Clients => 0,
            Role::Http => IS_HTTP,
            Role::Reports => IS_REPORTS,
        };
        body.extend_from_slice(&[role | if socket.given { IS_GIVEN } else { 0 }, len]);
        body.extend_from_slice(path.get(..usize::from(len)).unwrap_or_default());
    }
    body
}

fn decode(body: &[u8], fds: Vec<std::os::fd::OwnedFd>) -> Option<(u64, Vec<Socket>)> {
    let (first, mut rest) = body.split_first_chunk::<8>()?;
    let mut sockets = Vec::new();
    for fd in fds {
        let ([flags, len], more) = rest.split_first_chunk::<2>()?;
        let (path, more) = more.split_at_checked(usize::from(*len))?;
        rest = more;
        let path = (!path.is_empty()).then(|| std::ffi::OsString::from_vec(path.to_vec()).into());
        let role = match flags & (IS_HTTP | IS_REPORTS) {
            IS_HTTP => Role::Http,
            IS_REPORTS => Role::Reports,
            _ => Role::Clients,
        };
        sockets.push(Socket { role, given: flags & IS_GIVEN != 0, path, fd });
    }
    rest.is_empty().then_some((u64::from_be_bytes(*first), sockets))
}

/// Serves the clients that are left after a takeover, until they have gone by themselves or it takes too long. True
/// when nobody is left; nor is a process before us, whose cancel requests come through us.
pub async fn retire(shared: &Shared) -> bool {
    let longest = shared.config.load().general.takeover_timeout;
    let gone = async {
        loop {
            tokio::time::sleep(LOOK).await;
            // Those in their login and replication connections are only in the second.
            if shared.client_count() == 0 && shared.totals.clients.get() == 0 && !shared.peers.older.is_open()
            {
                return;
            }
        }
    };
    timeout(longest, gone).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ourselves_and_root_may_take_over() {
        assert!(may(1000, 1000) && may(0, 1000) && may(0, 0));
        assert!(!may(1001, 1000) && !may(1000, 0));
    }

    #[test]
    fn what_is_handed_over_arrives() {
        let fd = || std::os::fd::OwnedFd::from(std::fs::File::open("/dev/null").expect("there is one"));
        let socket =
            |role, given, path: Option<&str>| Socket { role, given, path: path.map(Into::into), fd: fd() };
        let sockets = [
            socket(Role::Clients, false, Some("/tmp/.s.PGSQL.6432")),
            socket(Role::Http, true, None),
            socket(Role::Reports, false, None),
        ];
        let body = encode(77, &sockets);
        let (first, got) = decode(&body, vec![fd(), fd(), fd()]).expect("it is whole");
        let seen = |s: &Socket| (s.role, s.given, s.path.clone());
        assert_eq!(first, 77);
        assert_eq!(got.iter().map(seen).collect::<Vec<_>>(), sockets.iter().map(seen).collect::<Vec<_>>());
        assert!(decode(&body, vec![fd()]).is_none());
        assert!(decode(&body, vec![fd(), fd(), fd(), fd()]).is_none());
        assert!(decode(&body[..20], vec![fd(), fd()]).is_none());
    }
}
