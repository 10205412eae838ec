//! Connections to the HTTP port, bounded: so many at once, and none that has nothing to say for long.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

/// Longest time for the handshake of TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A listener that accepts another connection when there is room for it; until then it waits in the backlog.
pub struct Guests {
    listener: TcpListener,
    room: Arc<Semaphore>,
    idle: Duration,
    tls: Arc<ArcSwapOption<TlsAcceptor>>,
}

impl Guests {
    /// At most `most` at once; whoever neither sends nor takes anything for `idle` is sent away.
    pub fn new(listener: TcpListener, most: usize, idle: Duration) -> Guests {
        Guests { listener, room: Arc::new(Semaphore::new(most)), idle, tls: Arc::default() }
    }

    /// Whoever comes from now on must speak TLS, as long as there is any in `tls`.
    pub fn secured(self, tls: Arc<ArcSwapOption<TlsAcceptor>>) -> Guests {
        Guests { tls, ..self }
    }
}

impl Listener for Guests {
    type Io = Guest;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guest, SocketAddr) {
        // Nobody closes it.
        let room = self.room.clone().acquire_owned().await.ok();
        let (stream, addr) = Listener::accept(&mut self.listener).await;
        let (stream, patience) = match self.tls.load_full() {
            // By whoever serves the connection: nobody else is to wait for it.
            Some(tls) => (Stream::Coming(Box::new(tls.accept(stream))), self.idle.min(HANDSHAKE)),
            None => (Stream::Tcp(stream), self.idle),
        };
        (Guest { stream, idle: self.idle, patience: Box::pin(sleep(patience)), _room: room }, addr)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// What a connection is made of.
enum Stream {
    Tcp(TcpStream),
    /// The handshake is not over.
    Coming(Box<Accept<TcpStream>>),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Goes on with the handshake, if there is one.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Stream::Coming(accept) = self {
            let tls = ready!(Pin::new(accept.as_mut()).poll(cx))?;
            *self = Stream::Tls(Box::new(tls));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_ready(cx))?;
        match self {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, buf),
            Stream::Coming(_) => Poll::Pending,
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_ready(cx))?;
        match self {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_write(cx, bytes),
            Stream::Coming(_) => Poll::Pending,
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
            // Nothing has been written.
            Stream::Coming(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
            // Ends with the value.
            Stream::Coming(_) => Poll::Ready(Ok(())),
        }
    }
}

/// One connection.
pub struct Guest {
    stream: Stream,
    idle: Duration,
    patience: Pin<Box<Sleep>>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Guest {
    /// What came of an attempt to read or write: an error where nothing has for too long.
    fn noted<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            let until = Instant::now() + self.idle;
            self.patience.as_mut().reset(until);
            return polled;
        }
        ready!(self.patience.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Guest {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let guest = self.get_mut();
        let polled = guest.stream.poll_read(cx, buf);
        guest.noted(cx, polled)
    }
}

impl AsyncWrite for Guest {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let guest = self.get_mut();
        let polled = guest.stream.poll_write(cx, bytes);
        guest.noted(cx, polled)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What TLS has not got rid of waits for the other side.
        let guest = self.get_mut();
        match guest.stream.poll_flush(cx) {
            Poll::Pending => guest.noted(cx, Poll::Pending),
            ready => ready,
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let guest = self.get_mut();
        match guest.stream.poll_shutdown(cx) {
            Poll::Pending => guest.noted(cx, Poll::Pending),
            ready => ready,
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n";

    async fn asks(stream: &mut TcpStream) -> bool {
        let mut answer = [0; 15];
        stream.write_all(ASK).await.is_ok()
            && stream.read_exact(&mut answer).await.is_ok()
            && answer == *b"HTTP/1.1 200 OK"
    }

    async fn served(most: usize, idle: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let router = Router::new().route("/", get(|| async { "ok" }));
        tokio::spawn(async move { axum::serve(Guests::new(listener, most, idle), router).await });
        addr
    }

    #[tokio::test]
    async fn there_is_room_for_so_many() {
        let addr = served(2, Duration::from_secs(60)).await;
        let mut guests = Vec::new();
        for _ in 0..3 {
            guests.push(TcpStream::connect(addr).await.expect("the backlog takes it"));
        }
        assert!(asks(&mut guests[0]).await && asks(&mut guests[1]).await);
        let mut third = guests.remove(2);
        let waits = tokio::time::timeout(Duration::from_millis(200), asks(&mut third)).await;
        assert!(waits.is_err(), "there was room for a third");
        drop(guests);
        assert!(asks(&mut third).await, "there is now");
    }

    #[tokio::test]
    async fn who_says_nothing_is_sent_away() {
        let addr = served(1, Duration::from_millis(300)).await;
        let mut silent = TcpStream::connect(addr).await.expect("connected");
        let mut slow = TcpStream::connect(addr).await.expect("connected");
        assert!(asks(&mut slow).await, "its turn came when the other had been silent for long");
        assert_eq!(silent.read(&mut [0; 8]).await.unwrap_or(0), 0, "it was told nothing");
        // Between two requests, too.
        let mut rest = Vec::new();
        slow.read_to_end(&mut rest).await.expect("it ends");
    }
}
