//! Accepting connections without having them watched at once: see [`crate::socket`].

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, ready};

use rustix::net::SocketFlags;
use socket2::{SockFilter, SockRef};
use tokio::io::Interest;

/// A listening socket of one worker.
///
/// Held as the runtime's stream type, which can be asked whether it is readable; its listener type
/// can only accept, and has every connection watched.
#[derive(Debug)]
pub(crate) struct Acceptor(tokio::net::TcpStream);

impl Acceptor {
    /// # Errors
    /// The socket cannot be watched.
    pub(crate) fn new(listener: TcpListener) -> io::Result<Self> {
        let readable = TcpStream::from(OwnedFd::from(listener));
        tokio::net::TcpStream::from_std(readable).map(Self)
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
        let _ = SockRef::from(&self.0).attach_filter(&filter);
    }

    /// The next connection that waits already, if there is one. The kernel is asked: the runtime
    /// has not heard yet of those that came in this turn.
    pub(crate) fn waiting(&self) -> Option<(TcpStream, SocketAddr)> {
        loop {
            match accept(&self.0) {
                Ok(accepted) => return Some(accepted),
                // Of that one connection.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) => return None,
            }
        }
    }

    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_io(Interest::READABLE, || accept(&self.0)) {
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
