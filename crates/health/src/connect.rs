//! Connecting to a backend as its service does, but for no client.

use std::io;
use std::net::{IpAddr, SocketAddr};

use plimsoll_model::ToBackends;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

/// Connects with the mark, by the device and from the address that the service has for its backends;
/// where that is the client's, from one of this host's.
///
/// # Errors
/// That of the connection, or of an option: `PermissionDenied` for a mark without CAP_NET_ADMIN.
pub(crate) async fn connect(addr: SocketAddr, to: Option<&ToBackends>) -> io::Result<TcpStream> {
    let Some(to) = to else {
        return TcpStream::connect(addr).await;
    };
    // A socket for mapped addresses cannot be bound to those of IPv4.
    let addr = match addr.ip().to_canonical() {
        v4 @ IpAddr::V4(_) => SocketAddr::new(v4, addr.port()),
        IpAddr::V6(_) => addr,
    };
    let socket = match addr.is_ipv4() {
        true => TcpSocket::new_v4()?,
        false => TcpSocket::new_v6()?,
    };
    if let Some(mark) = to.mark {
        SockRef::from(&socket).set_mark(mark.get())?;
    }
    if let Some(interface) = &to.interface {
        SockRef::from(&socket).bind_device(Some(interface.as_str().as_bytes()))?;
    }
    let source = to.source.address(addr.ip(), None);
    if let Some(source) = source.map_err(io::Error::other)? {
        socket.bind(source)?;
    }
    socket.connect(addr).await
}
