//! Connections to Unix sockets.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::TcpStream;

/// Between two attempts at a socket whose backlog is full.
const RETRY: Duration = Duration::from_millis(10);

/// Connects; given up by dropping it.
///
/// The stream is held as the runtime's TCP type, as are the streams of all other backends: reading,
/// writing, splicing and shutting down are the same. What only TCP has fails, where nobody minds. A
/// reset is among that: where a TCP backend would see that its client broke off, here it sees the end of
/// what was sent, as from one that has finished; the kernel has nothing else (unix(7), `SO_LINGER`).
pub(crate) async fn connect(path: &str) -> io::Result<TcpStream> {
    let path = SocketAddrUnix::new(path)?;
    loop {
        match attempt(&path) {
            // The backlog is full, and there is nothing that could be waited on: unix(7).
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(RETRY).await;
            }
            result => return TcpStream::from_std(result?.into()),
        }
    }
}

fn attempt(path: &SocketAddrUnix) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, path)?;
    Ok(socket)
}
