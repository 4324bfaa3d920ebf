//! A client's socket that asks the runtime to watch it only once there is something to wait for.
//!
//! A short connection has sent its request by the time it is accepted and is closed after the
//! answer: it never has to wait, and so it is spared the two system calls that watching costs.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{RecvFlags, SendFlags};
use socket2::TcpKeepalive;
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::outq::unacknowledged;
use crate::send::{poll_send, together};
use crate::worker::Scratch;

/// The socket.
#[derive(Debug)]
pub(crate) enum Socket {
    /// Not watched: reads and writes are tried.
    Fresh(std::net::TcpStream),
    /// Watched.
    Watched(TcpStream),
    /// Given away, or lost because it could not be watched.
    Gone,
}

impl Socket {
    /// The socket to be waited on.
    fn watched(&mut self) -> io::Result<&mut TcpStream> {
        if let Socket::Fresh(_) = self
            && let Socket::Fresh(stream) = std::mem::replace(self, Socket::Gone)
        {
            watch_over(&stream);
            // There is something to wait for: what the client has sent is to be acknowledged now (see
            // `listener::delay_acks`).
            let _ = rustix::net::sockopt::set_tcp_quickack(&stream, true);
            *self = Socket::Watched(TcpStream::from_std(stream)?);
        }
        match self {
            Socket::Watched(stream) => Ok(stream),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Whether it is watched yet.
    pub(crate) fn is_fresh(&self) -> bool {
        matches!(self, Socket::Fresh(_))
    }

    /// Takes the socket out, to be used in another way.
    pub(crate) fn take(&mut self) -> Option<TcpStream> {
        let _ = self.watched();
        match std::mem::replace(self, Socket::Gone) {
            Socket::Watched(stream) => Some(stream),
            _ => None,
        }
    }

    /// Ready when there may be something to read.
    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.watched() {
            Ok(stream) => stream.poll_read_ready(cx),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Reads; `scratch` is overwritten.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        scratch: &Scratch,
    ) -> Poll<io::Result<()>> {
        if let Socket::Fresh(stream) = self {
            // By way of the scratch, since hyper's buffer would have to be filled with zeros first.
            let mut scratch = scratch.borrow_mut();
            let room = buf.remaining().min(scratch.len());
            let room = scratch.get_mut(..room).unwrap_or_default();
            match rustix::net::recv(&*stream, &mut *room, RecvFlags::DONTWAIT) {
                Ok((_, n)) => {
                    buf.put_slice(room.get(..n).unwrap_or_default());
                    return Poll::Ready(Ok(()));
                }
                Err(rustix::io::Errno::AGAIN) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        Pin::new(self.watched()?).poll_read(cx, buf)
    }

    /// Writes from several buffers; `scratch` is overwritten. With `cork` the kernel may hold back what
    /// does not fill a packet until more is written, [`Self::push`] is called or the socket is closed,
    /// for 200 ms at most (tcp(7), `TCP_CORK`); a socket that is watched holds nothing back.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
        cork: bool,
        scratch: &Scratch,
    ) -> Poll<io::Result<usize>> {
        if let Socket::Fresh(stream) = self {
            let mut flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            flags.set(SendFlags::MORE, cork);
            let sent = together(bufs, scratch, |bytes| {
                rustix::net::send(&*stream, bytes, flags)
            });
            match sent {
                Some(Ok(n)) => return Poll::Ready(Ok(n)),
                Some(Err(rustix::io::Errno::AGAIN)) | None => {}
                Some(Err(error)) => return Poll::Ready(Err(error.into())),
            }
        }
        poll_send(self.watched()?, cx, bufs, scratch)
    }

    /// This host's end of the connection.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Socket::Fresh(stream) => stream.local_addr().ok(),
            Socket::Watched(stream) => stream.local_addr().ok(),
            Socket::Gone => None,
        }
    }

    /// Bytes that were written and that the client has not acknowledged.
    pub(crate) fn unacknowledged(&self) -> Option<u32> {
        match self {
            Socket::Fresh(stream) => unacknowledged(stream),
            Socket::Watched(stream) => unacknowledged(stream),
            Socket::Gone => None,
        }
    }

    /// Sends what was held back.
    pub(crate) fn push(&self) {
        // Setting it again sends what waits (tcp(7), `TCP_NODELAY`). Where that fails there is no
        // connection any more.
        let _ = match self {
            Socket::Fresh(stream) => stream.set_nodelay(true),
            Socket::Watched(stream) => stream.set_nodelay(true),
            Socket::Gone => Ok(()),
        };
    }

    /// Ready with `true` if the peer has closed or reset, and with `false` if bytes lie unread behind
    /// which that cannot be seen. Else the task is woken when something comes.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Ok(stream) = self.watched().map(|stream| &*stream) else {
            return Poll::Ready(true);
        };
        while let Poll::Ready(ready) = stream.poll_read_ready(cx) {
            let peeked = ready.and_then(|()| stream.try_io(Interest::READABLE, || peek(stream)));
            match peeked {
                Ok(0) => return Poll::Ready(true),
                // What was received before a reset can still be read.
                Ok(_) => return Poll::Ready(has_failed(stream)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(true),
            }
        }
        Poll::Pending
    }

    /// Whether the connection is broken, whatever lies unread.
    pub(crate) fn has_failed(&self) -> bool {
        match self {
            Socket::Fresh(stream) => has_failed(stream),
            Socket::Watched(stream) => has_failed(stream),
            Socket::Gone => true,
        }
    }

    /// Whether bytes have arrived that nobody has read.
    pub(crate) fn has_bytes(&self) -> bool {
        match self {
            Socket::Fresh(stream) => matches!(peek(stream), Ok(n) if n > 0),
            Socket::Watched(stream) => matches!(peek(stream), Ok(n) if n > 0),
            Socket::Gone => true,
        }
    }
}

/// How many of the bytes that have arrived could be read now, at most one.
fn peek(stream: impl AsFd) -> io::Result<usize> {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let (_, n) = rustix::net::recv(stream, &mut [0; 1][..], flags)?;
    Ok(n)
}

/// Has the kernel ask now and then whether the peer is still there.
pub(crate) fn watch_over(stream: &std::net::TcpStream) {
    // A connection without it is only missed later.
    let _ = socket2::SockRef::from(stream).set_keepalive(true);
}

/// [`plimsoll_model::Timeouts::peer`] where nothing is said, in ms. Listening sockets have it, and
/// accepted ones inherit it.
pub(crate) const DEFAULT_PEER: u64 = 120_000;

/// Between two questions to a silent peer, in ms, if there is no limit.
const ASK: u64 = 15_000;

/// Has the kernel give up a peer that acknowledges nothing for `limit` ms, neither bytes nor the
/// questions that it gets when it is silent for half of that; 0 leaves it to the kernel how long it
/// sends again. A peer that has lost its power or its network would keep its place for ever.
pub(crate) fn watch_peer(stream: impl AsFd, limit: u64) {
    let stream = socket2::SockRef::from(&stream);
    let (asked, again) = match limit {
        0 => (4 * ASK, ASK),
        limit => (limit / 2, limit / 8),
    };
    let seconds = |ms: u64| Duration::from_secs((ms / 1000).max(1));
    let questions = TcpKeepalive::new()
        .with_time(seconds(asked))
        .with_interval(seconds(again));
    // One without these is only missed later.
    let _ = stream.set_tcp_keepalive(&questions);
    let limit = (limit > 0).then(|| Duration::from_millis(limit));
    let _ = stream.set_tcp_user_timeout(limit);
}

/// As [`watch_peer`] for an accepted connection, which has the default already.
pub(crate) fn set_peer(stream: &std::net::TcpStream, limit: u64) {
    if limit != DEFAULT_PEER {
        watch_peer(stream, limit);
    }
}

/// Whether a connection was reset, or closed both ways.
pub(crate) fn has_failed(stream: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&stream, PollFlags::empty())];
    let asked = rustix::event::poll(&mut fds, Some(&Timespec::default()));
    let [fd] = fds;
    asked.is_ok() && fd.revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    /// What the peer can read now.
    fn arrived(peer: &mut std::net::TcpStream) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        match peer.read(&mut bytes) {
            Ok(n) => bytes.truncate(n),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => bytes.clear(),
            Err(error) => panic!("{error}"),
        }
        bytes
    }

    #[test]
    fn what_a_listener_is_set_to_its_connections_have() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        watch_peer(&listener, DEFAULT_PEER);
        let _peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let set = || {
            let stream = socket2::SockRef::from(&stream);
            let idle = stream.tcp_keepalive_time().unwrap();
            let again = stream.tcp_keepalive_interval().unwrap();
            let limit = stream.tcp_user_timeout().unwrap();
            (
                limit.map(|d| d.as_millis()),
                idle.as_secs(),
                again.as_secs(),
            )
        };
        assert_eq!(set(), (Some(120_000), 60, 15));
        set_peer(&stream, 4_000);
        assert_eq!(set(), (Some(4_000), 2, 1));
        set_peer(&stream, 0);
        assert_eq!(set(), (None, 60, 15));
        let default = plimsoll_model::Timeouts::default().peer;
        assert_eq!(default.as_millis(), u128::from(DEFAULT_PEER));
    }

    #[test]
    fn what_is_held_back_goes_out_when_pushed_and_when_closed() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        peer.set_nonblocking(true).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut socket = Socket::Fresh(stream);
        let scratch = Scratch::new(Box::new([0; 8192]));
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let mut write = |socket: &mut Socket, bytes: &[u8], cork| {
            let written = socket.poll_write(cx, &[IoSlice::new(bytes)], cork, &scratch);
            assert!(matches!(written, Poll::Ready(Ok(n)) if n == bytes.len()));
        };
        write(&mut socket, b"at once", false);
        assert_eq!(arrived(&mut peer), b"at once");
        write(&mut socket, b"pushed", true);
        socket.push();
        assert_eq!(arrived(&mut peer), b"pushed");
        write(&mut socket, b"the last", true);
        drop(socket);
        assert_eq!(arrived(&mut peer), b"the last");
    }
}
