//! Accepting connections without having them watched at once: see [`crate::socket`].

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::task::{Context, Poll, ready};

use rustix::net::SocketFlags;
use rustix::process::{Resource, getrlimit};
use socket2::{SockFilter, SockRef};
use tokio::io::Interest;

/// The part of all file descriptors that clients leave to connections to backends.
const RESERVE: u64 = 8;

/// A listening socket of one worker.
///
/// Held as the runtime's stream type, which can be asked whether it is readable; its listener type
/// can only accept, and has every connection watched.
#[derive(Debug)]
pub(crate) struct Acceptor {
    socket: tokio::net::TcpStream,
    /// The kernel gives out the lowest free descriptor: one from here on says that few are left.
    ceiling: RawFd,
}

impl Acceptor {
    /// # Errors
    /// The socket cannot be watched.
    pub(crate) fn new(listener: TcpListener) -> io::Result<Self> {
        let readable = TcpStream::from(OwnedFd::from(listener));
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Ok(Self {
            socket: tokio::net::TcpStream::from_std(readable)?,
            ceiling: RawFd::try_from(limit - limit / RESERVE).unwrap_or(RawFd::MAX),
        })
    }

    /// Whether this connection has one of the descriptors that clients are to leave to others.
    pub(crate) fn is_last(&self, stream: &TcpStream) -> bool {
        stream.as_raw_fd() >= self.ceiling
    }

    /// Whether there are descriptors for more clients again.
    pub(crate) fn has_room(&self) -> bool {
        rustix::io::fcntl_dupfd_cloexec(&self.socket, 0)
            .is_ok_and(|lowest| lowest.as_raw_fd() < self.ceiling)
    }

    /// The next connection.
    ///
    /// # Errors
    /// Of that connection, or of the host.
    pub(crate) async fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Has the kernel drop the beginnings of new connections: whoever tries again a second later finds
    /// the port closed, or the next process on it. Handshakes that have begun can be completed, where
    /// closing the socket would reset them, and what the client has sent with them would be lost.
    pub(crate) fn begin_no_more(&self) {
        // Classic BPF (socket(7), SO_ATTACH_FILTER) over a segment from its TCP header on: byte 13
        // has the flags (RFC 9293 §3.1); one with SYN and without ACK is cut to nothing, all others
        // pass. Accepted sockets inherit it, and never get such a one.
        let load_flags = SockFilter::new(0x30, 0, 0, 13);
        let keep_syn_and_ack = SockFilter::new(0x54, 0, 0, 0x12);
        let skip_unless_syn = SockFilter::new(0x15, 0, 1, 0x02);
        let drop = SockFilter::new(0x06, 0, 0, 0);
        let pass = SockFilter::new(0x06, 0, 0, u32::MAX);
        let filter = [load_flags, keep_syn_and_ack, skip_unless_syn, drop, pass];
        // Without it only the few that come at the very moment of the end are lost.
        let _ = SockRef::from(&self.socket).attach_filter(&filter);
    }

    /// The next connection that waits already, if there is one. The kernel is asked: the runtime
    /// has not heard yet of those that came in this turn.
    pub(crate) fn waiting(&self) -> Option<(TcpStream, SocketAddr)> {
        loop {
            match accept(&self.socket) {
                Ok(accepted) => return Some(accepted),
                // Of that one connection.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) => return None,
            }
        }
    }

    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            match self
                .socket
                .try_io(Interest::READABLE, || accept(&self.socket))
            {
                // The readiness is cleared: wait for the next.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                accepted => return Poll::Ready(accepted),
            }
        }
    }
}

fn accept(listener: impl AsFd) -> io::Result<(TcpStream, SocketAddr)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (socket, from) = rustix::net::acceptfrom_with(listener, flags)?;
    let client = from.and_then(|from| SocketAddr::try_from(from).ok());
    // A peer that is gone already has no address.
    let client = client.ok_or(io::ErrorKind::ConnectionAborted)?;
    Ok((socket.into(), client))
}
