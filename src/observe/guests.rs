//! Connections to the HTTP port, bounded: so many at once, and none that has nothing to say for long.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// A listener that accepts another connection when there is room for it; until then it waits in the backlog.
#[derive(Debug)]
pub struct Guests {
    listener: TcpListener,
    room: Arc<Semaphore>,
    idle: Duration,
}

impl Guests {
    /// At most `most` at once; whoever neither sends nor takes anything for `idle` is sent away.
    /// At most `most` at once, each silent for at most `idle`.
    pub fn new(listener: TcpListener, most: usize, idle: Duration) -> Guests {
        Guests { listener, room: Arc::new(Semaphore::new(most)), idle }
    }
}

impl Listener for Guests {
    type Io = Guest;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guest, SocketAddr) {
        // Nobody closes it.
        let room = self.room.clone().acquire_owned().await.ok();
        let (stream, addr) = Listener::accept(&mut self.listener).await;
        (Guest { stream, idle: self.idle, patience: Box::pin(sleep(self.idle)), _room: room }, addr)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One connection.
#[derive(Debug)]
pub struct Guest {
    stream: TcpStream,
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
        let polled = Pin::new(&mut guest.stream).poll_read(cx, buf);
        guest.noted(cx, polled)
    }
}

impl AsyncWrite for Guest {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let guest = self.get_mut();
        let polled = Pin::new(&mut guest.stream).poll_write(cx, bytes);
        guest.noted(cx, polled)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
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
