//! Accepting connections without having them watched at once: see [`crate::socket`].

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, ready};

use rustix::net::SocketFlags;
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

    /// The next connection that waits already, if there is one.
    pub(crate) async fn waiting(&self) -> Option<(TcpStream, SocketAddr)> {
        std::future::poll_fn(|cx| match self.poll_next(cx) {
            Poll::Ready(accepted) => Poll::Ready(accepted.ok()),
            Poll::Pending => Poll::Ready(None),
        })
        .await
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
