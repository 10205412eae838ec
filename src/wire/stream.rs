//! A connection's bytes, whatever carries them: TCP, a Unix socket, or TLS in either role. The only I/O of this floor.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{client, server};

/// See the module. Small: a client at rest is little more than this.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS with a client of ours.
    TlsServer(Box<server::TlsStream<TcpStream>>),
    /// TLS with a backend.
    TlsClient(Box<client::TlsStream<TcpStream>>),
    /// Nothing: the socket has been given away or lost in a failed TLS handshake.
    Gone,
}

/// Idle time after which a peer is asked whether it is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 6;

/// The congestion control that costs least. Linux always has it, and lets everybody choose it.
#[cfg(any(target_os = "linux", target_os = "android"))]
const WITHIN: &[u8] = b"reno";

/// Sets a TCP socket up for request and response: no delay, dead peers noticed, no toll within one machine.
///
/// # Errors
/// What the socket says.
pub fn tune(tcp: &TcpStream, peer: SocketAddr) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if peer.ip().to_canonical().is_loopback() {
        // There is nothing to congest within one machine, and what the system has chosen for networks may pace and
        // measure each segment (tcp(7)). Where it cannot be had, the other is as good.
        let _ = SockRef::from(tcp).set_tcp_congestion(WITHIN);
    }
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    SockRef::from(tcp).set_tcp_keepalive(&keepalive)
}

/// Longest time that a goodbye may take: the peer may not read.
const GOODBYE: Duration = Duration::from_secs(5);
/// Bytes read and thrown away after a goodbye, so that closing does not reset the connection under it.
const GOODBYE_DRAIN: usize = 256 * 1024;

impl Stream {
    /// The TCP socket underneath, if there is one.
    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Stream::Tcp(tcp) => Some(tcp),
            Stream::TlsServer(tls) => Some(tls.get_ref().0),
            Stream::TlsClient(tls) => Some(tls.get_ref().0),
            Stream::Unix(_) | Stream::Gone => None,
        }
    }

    /// Whether it is plain TCP.
    pub fn is_tcp(&self) -> bool {
        matches!(self, Stream::Tcp(_))
    }

    /// Whether it is TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self, Stream::TlsServer(_) | Stream::TlsClient(_))
    }

    /// Whether nobody else on the network can read along.
    pub fn is_private(&self) -> bool {
        self.is_tls() || matches!(self, Stream::Unix(_))
    }

    /// Our end, when TCP.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.tcp()?.local_addr().ok()
    }

    /// Version and cipher, like `TLSv1.3/TLS13_AES_256_GCM_SHA384`; empty without TLS.
    pub fn tls_info(&self) -> String {
        let about = |c: &rustls::CommonState| {
            let version = c.protocol_version().map_or("TLS", |v| match v {
                rustls::ProtocolVersion::TLSv1_2 => "TLSv1.2",
                rustls::ProtocolVersion::TLSv1_3 => "TLSv1.3",
                _ => "TLS",
            });
            let cipher = c.negotiated_cipher_suite().and_then(|s| s.suite().as_str()).unwrap_or("unknown");
            format!("{version}/{cipher}")
        };
        match self {
            Stream::TlsServer(tls) => about(tls.get_ref().1),
            Stream::TlsClient(tls) => about(tls.get_ref().1),
            _ => String::new(),
        }
    }

    /// Whether written bytes may lie in a buffer of the stream's until it is flushed.
    pub fn buffers_writes(&self) -> bool {
        self.is_tls()
    }

    /// Ready when a read would give something: bytes, the end, or an error. Costs no system call.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Plaintext that was decrypted earlier would not wake the socket again.
        if self.has_plaintext() {
            return Poll::Ready(());
        }
        let ready = match self {
            Stream::Tcp(tcp) => tcp.poll_read_ready(cx),
            Stream::Unix(unix) => unix.poll_read_ready(cx),
            Stream::TlsServer(tls) => tls.get_ref().0.poll_read_ready(cx),
            Stream::TlsClient(tls) => tls.get_ref().0.poll_read_ready(cx),
            Stream::Gone => return Poll::Ready(()),
        };
        ready.map(|_| ())
    }

    /// Whether there is something to read, as far as is known without a system call. Nobody is woken for what comes.
    pub fn is_readable(&self) -> bool {
        self.has_plaintext() || self.is_ready()
    }

    /// Whether the reactor knows of something to read.
    fn is_ready(&self) -> bool {
        let something = || Ok(());
        match self {
            Stream::Unix(unix) => unix.try_io(Interest::READABLE, something).is_ok(),
            _ => self.tcp().is_none_or(|tcp| tcp.try_io(Interest::READABLE, something).is_ok()),
        }
    }

    /// Returns when the peer has closed its end, also where nobody has read what it has sent before that.
    pub async fn hung_up(&self) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            // Of what this is ready for only the end ever comes: nobody has asked the system for urgent bytes.
            const END: Interest = Interest::PRIORITY;
            let ready = match self {
                Stream::Unix(unix) => unix.ready(END).await,
                _ => match self.tcp() {
                    Some(tcp) => tcp.ready(END).await,
                    None => return,
                },
            };
            if ready.map_or(true, |ready| ready.is_read_closed()) {
                return;
            }
        }
        std::future::pending().await
    }

    /// Reads once. `Ready(Ok(0))` is the end of the stream.
    #[inline]
    pub fn poll_read_into(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Stream::Tcp(tcp) = self {
            let len = buf.len();
            return poll_io(tcp, cx, Interest::READABLE, len, || receive(tcp, buf));
        }
        let mut buf = ReadBuf::new(buf);
        Pin::new(self).poll_read(cx, &mut buf).map_ok(|()| buf.filled().len())
    }

    /// Writes once.
    #[inline]
    pub fn poll_write_from(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Stream::Tcp(tcp) = self {
            // There is nearly always room: the reactor is asked where there is none.
            match send(tcp, bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
            return poll_io(tcp, cx, Interest::WRITABLE, bytes.len(), || send(tcp, bytes));
        }
        Pin::new(self).poll_write(cx, bytes)
    }

    /// Whether something has come: on a server connection at rest, that is the end of it, or something that nobody
    /// asked for. Where the connection has been at rest for long (`look`) the system is asked; otherwise only where
    /// the reactor thinks so: after a read that was filled to the brim, it does without reason.
    pub fn has_input(&mut self, look: bool) -> bool {
        if !(look || self.is_readable()) {
            return false;
        }
        let mut byte = [std::mem::MaybeUninit::uninit()];
        let peeked = match self {
            Stream::Unix(unix) => SockRef::from(&*unix).peek(&mut byte),
            _ => match self.tcp() {
                Some(tcp) => SockRef::from(tcp).peek(&mut byte),
                None => return true,
            },
        };
        let quiet = peeked.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
        if quiet && !look {
            self.clear_readiness();
        }
        self.has_plaintext() || !quiet
    }

    /// Tells the reactor that there is nothing to read, as it would find out.
    fn clear_readiness(&self) {
        let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        let _ = match self {
            Stream::Unix(unix) => unix.try_io(Interest::READABLE, nothing),
            _ => self.tcp().map_or(Ok(()), |tcp| tcp.try_io(Interest::READABLE, nothing)),
        };
    }

    /// Whether TLS holds plaintext that has not been read.
    fn has_plaintext(&self) -> bool {
        match self {
            Stream::TlsServer(tls) => !tls.get_ref().1.wants_read(),
            Stream::TlsClient(tls) => !tls.get_ref().1.wants_read(),
            _ => false,
        }
    }

    /// Writes a few bytes if they can be written now; a peer that is not there any more is no matter.
    pub fn try_send(&mut self, bytes: &[u8]) {
        let mut cx = Context::from_waker(Waker::noop());
        let _ = Pin::new(&mut *self).poll_write(&mut cx, bytes);
        let _ = Pin::new(self).poll_flush(&mut cx);
    }

    /// Sends last words and closes, so that they arrive even where the peer has sent what nobody will read.
    pub async fn say_goodbye(&mut self, bytes: &[u8]) {
        let farewell = async {
            self.write_all(bytes).await?;
            self.flush().await?;
            self.shutdown().await?;
            let (mut sink, mut drained) = ([0u8; 4096], 0);
            while drained < GOODBYE_DRAIN {
                match tokio::io::AsyncReadExt::read(self, &mut sink).await? {
                    0 => break,
                    n => drained += n,
                }
            }
            io::Result::Ok(())
        };
        let _ = tokio::time::timeout(GOODBYE, farewell).await;
    }

    /// The first byte that will be read, left where it is. `None` where there is none, or no plain TCP.
    pub async fn first_byte(&self) -> Option<u8> {
        let Stream::Tcp(tcp) = self else { return None };
        let mut first = [0];
        matches!(tcp.peek(&mut first).await, Ok(1)).then_some(first[0])
    }
}

/// One system call on a socket, where the reactor thinks that it will do something; otherwise the task of `cx` is woken
/// when it does. A call that does less than the `len` bytes it might have has done all there was to do, and the reactor
/// is told so: the next one need not ask the system (as in tokio's own streams, for half of their price, since it does
/// not count towards a task's budget: who reads on and on has to yield by itself).
#[inline]
fn poll_io(
    tcp: &TcpStream,
    cx: &mut Context<'_>,
    interest: Interest,
    len: usize,
    mut call: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        let mut done = None;
        let result = tcp.try_io(interest, || {
            let n = call()?;
            done = Some(n);
            if 0 < n && n < len { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match (done, result) {
            (Some(n), _) => return Poll::Ready(Ok(n)),
            (None, Err(e)) if e.kind() == io::ErrorKind::WouldBlock => {}
            (None, Err(e)) => return Poll::Ready(Err(e)),
            (None, Ok(())) => return Poll::Ready(Ok(0)),
        }
        ready!(if interest.is_readable() { tcp.poll_read_ready(cx) } else { tcp.poll_write_ready(cx) })?;
    }
}

/// One `recv(2)`. By way of the C library every call would be a point at which a thread can be cancelled, which costs a
/// process with threads two locked instructions.
#[inline]
fn receive(tcp: &TcpStream, buf: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(tcp, buf, RecvFlags::empty())?.0)
}

/// One `send(2)`, likewise.
#[inline]
fn send(tcp: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(tcp, bytes, SendFlags::NOSIGNAL)?)
}

macro_rules! on {
    ($stream:expr, $inner:ident => $call:expr, $gone:expr) => {
        match $stream.get_mut() {
            Stream::Tcp($inner) => $call,
            Stream::Unix($inner) => $call,
            Stream::TlsServer($inner) => $call,
            Stream::TlsClient($inner) => $call,
            Stream::Gone => $gone,
        }
    };
}

fn gone<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on!(self, inner => Pin::new(inner).poll_read(cx, buf), Poll::Ready(Ok(())))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on!(self, inner => Pin::new(inner).poll_write(cx, buf), gone())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on!(self, inner => Pin::new(inner).poll_write_vectored(cx, bufs), gone())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self, inner => Pin::new(inner).poll_flush(cx), Poll::Ready(Ok(())))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self, inner => Pin::new(inner).poll_shutdown(cx), Poll::Ready(Ok(())))
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::net::TcpListener;

    use super::*;

    /// Elsewhere, the system has chosen.
    #[tokio::test]
    async fn within_one_machine_nothing_is_congested() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let of = |tcp: &TcpStream| SockRef::from(tcp).tcp_congestion().unwrap();
        let tcp = TcpStream::connect(address).await.unwrap();
        let usual = of(&tcp);
        tune(&tcp, "192.0.2.1:5432".parse().unwrap()).unwrap();
        assert_eq!(of(&tcp), usual, "its peer is said to be elsewhere");
        tune(&tcp, address).unwrap();
        assert!(of(&tcp).starts_with(WITHIN), "{:?}", of(&tcp));
    }
}
