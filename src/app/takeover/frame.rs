//! What two processes say to each other during a takeover: a type byte, a length (two bytes), a body. One of the frames
//! carries sockets (SCM_RIGHTS).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use crate::core::limits::MAX_PASSED;

/// The new process asks for the sockets; body: version of this protocol.
pub const HELLO: u8 = b'H';
/// The old process gives them; body: see `takeover`.
pub const SOCKETS: u8 = b'S';
/// The old process does not, or no longer; body: why.
pub const REFUSED: u8 = b'N';
/// The new process has all that it needs, and waits.
pub const READY: u8 = b'R';
/// The old process accepts no more: go.
pub const GO: u8 = b'G';
/// The new process does.
pub const LIVE: u8 = b'L';
/// A cancel request, in either direction; body: number, process id, secret.
pub const CANCEL: u8 = b'C';
/// It has been dealt with; body: number, whether its client was found.
pub const DONE: u8 = b'D';

/// One frame. What a later version adds to a body, or a type that it adds, is passed over.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// Type.
    pub kind: u8,
    /// Body.
    pub body: Vec<u8>,
}

const HEADER: usize = 3;

/// The bytes of a frame; a body that is too long is cut.
pub fn encode(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).unwrap_or(u16::MAX);
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(body.get(..usize::from(len)).unwrap_or_default());
    bytes
}

/// Reads one frame.
///
/// # Errors
/// The other process is gone.
pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let mut header = [0u8; HEADER];
    from.read_exact(&mut header).await?;
    rest(header, from).await
}

async fn rest(header: [u8; HEADER], from: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let [kind, high, low] = header;
    let mut body = vec![0; usize::from(u16::from_be_bytes([high, low]))];
    from.read_exact(&mut body).await?;
    Ok(Frame { kind, body })
}

/// Writes one frame.
///
/// # Errors
/// The other process is gone.
pub async fn write(to: &mut UnixStream, kind: u8, body: &[u8]) -> io::Result<()> {
    to.write_all(&encode(kind, body)).await
}

const SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_PASSED));

/// Writes one frame with sockets.
///
/// # Errors
/// The other process is gone, or there are too many.
pub async fn write_with(
    to: &mut UnixStream,
    kind: u8,
    body: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = encode(kind, body);
    let sent = to.async_io(Interest::WRITABLE, || {
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::Error::other("more sockets than fit into a message"));
        }
        Ok(sendmsg(&*to, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?)
    });
    let sent = sent.await?;
    to.write_all(bytes.get(sent..).unwrap_or_default()).await
}

/// Reads one frame and the sockets that come with it.
///
/// # Errors
/// The other process is gone, or sockets were lost for want of descriptors.
pub async fn read_with(from: &mut UnixStream) -> io::Result<(Frame, Vec<OwnedFd>)> {
    let mut header = [0u8; HEADER];
    let mut fds = Vec::new();
    let got = from.async_io(Interest::READABLE, || {
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let iov = &mut [IoSliceMut::new(&mut header)];
        let message = recvmsg(&*from, iov, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for ancillary in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = ancillary {
                fds.extend(received);
            }
        }
        if message.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::other("not all sockets arrived: too few file descriptors"));
        }
        Ok(message.bytes)
    });
    match got.await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        got => {
            from.read_exact(header.get_mut(got..).unwrap_or_default()).await?;
            Ok((rest(header, from).await?, fds))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[tokio::test]
    async fn sockets_arrive_with_their_frame() {
        let (mut a, mut b) = UnixStream::pair().expect("a pair");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("an address");
        write_with(&mut a, SOCKETS, &[7; 40_000], &[listener.as_fd()]).await.expect("sent");
        write(&mut a, READY, b"").await.expect("sent");
        drop(listener);
        let (frame, mut fds) = read_with(&mut b).await.expect("received");
        assert_eq!((frame.kind, frame.body.len(), fds.len()), (SOCKETS, 40_000, 1));
        assert_eq!(read(&mut b).await.expect("received"), Frame { kind: READY, body: Vec::new() });
        let listener = std::net::TcpListener::from(fds.remove(0));
        assert_eq!(listener.local_addr().expect("an address"), addr);
        drop(a);
        assert!(read_with(&mut b).await.is_err());
    }
}
