//! Where a socket is opened.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::netns::Handle;

/// A connection has so long to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// Connections wait here until a server of ours accepts them.
const BACKLOG: u32 = 1024;

/// Where sockets are opened: a socket stays in the network namespace that it was opened in,
/// whichever thread uses it.
#[derive(Clone, Debug, Default)]
pub enum Place {
    /// Where the test runs.
    #[default]
    Here,
    /// In a namespace (see [`crate::Namespace::place`]).
    Namespace(Handle),
}

impl Place {
    /// Opens a TCP socket for addresses of the family of this one.
    fn socket(&self, address: SocketAddr) -> io::Result<TcpSocket> {
        let open = move || {
            if address.is_ipv4() {
                TcpSocket::new_v4()
            } else {
                TcpSocket::new_v6()
            }
        };
        match self {
            Self::Here => open(),
            Self::Namespace(namespace) => namespace.run(open)?,
        }
    }

    /// Listens, with `SO_REUSEADDR`.
    ///
    /// # Errors
    /// What the system says.
    pub fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let socket = self.socket(address)?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    }

    /// Connects, within five seconds.
    ///
    /// # Errors
    /// What the system says.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = tokio::time::timeout(CONNECT, self.socket(address)?.connect(address))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no connection within 5 s"))??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
