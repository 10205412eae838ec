//! Where everybody comes in: opened when we start, shut when another process accepts in our place, or at the end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use super::sockets::{Role, Socket};
use crate::observe::http;
use crate::observe::metrics::Told;
use crate::report;
use crate::report::serve::Server;
use crate::session::listen::{self, AdminVisit, Listener};
use crate::session::shared::Shared;

/// Pause before another try to accept on our own sockets again: out of file descriptors, then.
const PAUSE: Duration = Duration::from_millis(100);

/// The listening sockets and who accepts on them. Ends with the value.
#[derive(Debug)]
pub struct Door {
    shared: Arc<Shared>,
    sockets: Vec<Socket>,
    admins: mpsc::Sender<AdminVisit>,
    clients: JoinSet<()>,
    http: Vec<(oneshot::Sender<()>, JoinHandle<io::Result<()>>)>,
}

impl Door {
    /// Accepts.
    ///
    /// # Errors
    /// What is not a listening socket.
    pub fn open(
        shared: Arc<Shared>,
        sockets: Vec<Socket>,
        admins: mpsc::Sender<AdminVisit>,
    ) -> io::Result<Door> {
        let mut door = Door { shared, sockets, admins, clients: JoinSet::new(), http: Vec::new() };
        // Whoever scrapes, by whatever socket, hears of the same shapes and tenants.
        let told = Arc::<Told>::default();
        for socket in door.sockets.iter().filter(|socket| socket.role == Role::Http) {
            let Listener::Tcp(listener) = socket.listener()? else { continue };
            let (over, end) = oneshot::channel();
            let shared = door.shared.clone();
            // Answers also while we drain: that is when someone asks whether we are ready.
            let served = http::serve(listener, shared, told.clone(), async move { drop(end.await) });
            door.http.push((over, tokio::spawn(served)));
        }
        door.open_reports()?;
        door.accept()?;
        Ok(door)
    }

    fn open_reports(&mut self) -> io::Result<()> {
        let config = self.shared.config.load_full();
        let Some(reports) = &config.reports else { return Ok(()) };
        // All sockets share what is kept.
        let server = Arc::new(Server::new(self.shared.clone(), reports));
        for socket in self.sockets.iter().filter(|socket| socket.role == Role::Reports) {
            let Listener::Tcp(listener) = socket.listener()? else { continue };
            let (over, end) = oneshot::channel();
            let served = report::http::serve(listener, server.clone(), async move { drop(end.await) });
            self.http.push((over, tokio::spawn(served)));
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        let clients = self.sockets.iter().filter(|socket| socket.role == Role::Clients);
        // All or none: an error must not leave half of them to be opened twice.
        for listener in clients.map(Socket::listener).collect::<io::Result<Vec<_>>>()? {
            self.clients.spawn(listen::listen(self.shared.clone(), listener, self.admins.clone()));
        }
        Ok(())
    }

    /// The listening sockets, for another process.
    pub fn sockets(&self) -> &[Socket] {
        &self.sockets
    }

    /// Accepts no clients for now; who has been accepted is served.
    pub async fn pause(&mut self) {
        self.clients.shutdown().await;
    }

    /// Accepts again.
    pub async fn resume(&mut self) {
        while let Err(e) = self.accept() {
            tracing::error!(error = %e, "cannot accept clients");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Leaves clients to the process after us where systemd keeps their sockets for it. On others nobody will accept before
    /// we have ended: there clients are told why they may not come in.
    pub async fn leave(&mut self) {
        self.pause().await;
        self.sockets.retain(|socket| socket.role != Role::Clients || !socket.given);
        if let Err(e) = self.accept() {
            tracing::warn!(error = %e, "clients that come now are not told that we end");
        }
    }

    /// Accepts no clients any more, and nobody shall think that we will. HTTP answers on.
    pub async fn close(&mut self) {
        self.pause().await;
        self.sockets.retain(|socket| socket.role != Role::Clients);
    }

    /// Leaves HTTP, reports included, to the process that has the sockets now, connections that are kept open included.
    pub fn close_http(&mut self) {
        self.sockets.retain(|socket| socket.role == Role::Clients);
        for (over, _) in self.http.drain(..) {
            let _ = over.send(());
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.http.iter().for_each(|(_, server)| server.abort());
    }
}
