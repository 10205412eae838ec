//! Accepting connections: one task per client, each bounded in the time that its login may take, each alone in what
//! it can bring down.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;

use super::handshake::{Outcome, Visitor, handshake};
use super::shared::{Shared, Totals};
use super::{replication, run};
use crate::core::error::{Error, SqlState};
use crate::wire::reply;
use crate::wire::stream::{self, Stream};

/// A client of the admin database: authenticated and told so, but nothing else yet. Served by a floor above.
#[derive(Debug)]
pub struct AdminVisit {
    /// The socket.
    pub stream: Stream,
    /// Who.
    pub user: String,
    /// Minor protocol version agreed on.
    pub minor: u16,
}

/// Where clients come in.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix socket.
    Unix(UnixListener),
}

/// Pause after a failed accept: out of file descriptors, usually.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections beyond `max_clients` that may be in their login: cancel requests and admins must get through.
const LOGIN_HEADROOM: u64 = 1_000;

/// Accepts for as long as it is polled.
pub async fn listen(shared: Arc<Shared>, listener: Listener, admins: mpsc::Sender<AdminVisit>) {
    loop {
        match accept(&listener).await {
            Ok(visitor) => {
                shared.totals.accepted.add(1);
                tokio::spawn(serve(shared.clone(), visitor, admins.clone()));
            }
            Err(e) => {
                tracing::warn!(error = %e, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept(listener: &Listener) -> io::Result<Visitor> {
    match listener {
        Listener::Tcp(tcp) => {
            let (socket, addr) = tcp.accept().await?;
            stream::tune(&socket, addr)?;
            let local_addr = socket.local_addr().ok();
            Ok(Visitor { stream: Stream::Tcp(socket), addr: Some(addr), local_addr })
        }
        Listener::Unix(unix) => {
            let (socket, _) = unix.accept().await?;
            Ok(Visitor { stream: Stream::Unix(socket), addr: None, local_addr: None })
        }
    }
}

/// A client that is being served, for as long as this lives. A panic ends the client that it happened to, and nobody else:
/// the runtime catches it.
struct Served(Arc<Totals>);

impl Served {
    fn new(totals: &Arc<Totals>) -> Served {
        totals.clients.add(1);
        Served(totals.clone())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.clients.sub(1);
        if std::thread::panicking() {
            self.0.panics.add(1);
        }
    }
}

async fn serve(shared: Arc<Shared>, visitor: Visitor, admins: mpsc::Sender<AdminVisit>) {
    let _served = Served::new(&shared.totals);
    // Boxed apart: what a login needs is gone when the session runs.
    if let Some(session) = Box::pin(login(shared, visitor, admins)).await {
        session.await;
    }
}

/// Performs the login; what it leads to is returned to be run without the login's memory.
async fn login(
    shared: Arc<Shared>,
    mut visitor: Visitor,
    admins: mpsc::Sender<AdminVisit>,
) -> Option<impl Future<Output = ()>> {
    let config = shared.config.load_full();
    if shared.totals.clients.get() > u64::from(config.general.max_clients) + LOGIN_HEADROOM {
        shared.totals.refused.add(1);
        return None;
    }
    let deadline = config.general.login_timeout;
    drop(config);
    let outcome = tokio::time::timeout(deadline, handshake(&shared, &mut visitor)).await;
    let mut stream = std::mem::replace(&mut visitor.stream, Stream::Gone);
    match outcome {
        Ok(Ok(Outcome::Session(seat))) => {
            if shared.config.load().log.connections {
                let (who, addr) = (&seat.entry.pool.purpose, visitor.addr);
                tracing::info!(
                    client = seat.entry.id,
                    user = who.user,
                    database = who.database,
                    addr = addr.map(tracing::field::display),
                    "connected"
                );
            }
            return Some(run::run(Box::new(seat.taken(stream, shared))));
        }
        Ok(Ok(Outcome::Admin { user, minor })) => {
            // A full queue means that the admin side is gone or swamped: the client sees the connection close.
            let _ = admins.try_send(AdminVisit { stream, user, minor });
        }
        Ok(Ok(Outcome::Replication { startup, pool })) => {
            Box::pin(replication::relay(shared, stream, *startup, pool)).await;
        }
        Ok(Ok(Outcome::Done)) => {}
        Ok(Err(e)) => refuse(&shared, &mut stream, &e).await,
        Err(_) => {
            let late = Error::fatal(SqlState::QUERY_CANCELED, "canceling authentication due to timeout");
            refuse(&shared, &mut stream, &late).await;
        }
    }
    None
}

async fn refuse(shared: &Shared, stream: &mut Stream, e: &Error) {
    shared.totals.refused.add(1);
    shared.totals.own_errors.count(e.code);
    if e.code == SqlState::PROTOCOL_VIOLATION {
        shared.totals.client_violations.add(1);
    }
    tracing::info!(code = e.code.as_str(), reason = %e.message, "client refused");
    let mut bytes = Vec::new();
    reply::error(&mut bytes, e);
    stream.say_goodbye(&bytes).await;
}
