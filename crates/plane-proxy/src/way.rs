//! The way of connections and sessions to backends, where it is not just as the routes say: a mark, a
//! device, a source address, data along with the first packet.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use plimsoll_model::{Invalid, ServiceSpec, Source, ToBackends};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream};

use crate::connect::is_any;
use crate::options::{be_transparent, choose_port_late, fast_open_connect};

/// The way to one address.
#[derive(Debug)]
pub(crate) struct Way<'a> {
    to: &'a ToBackends,
    addr: SocketAddr,
    /// What to bind to.
    source: Option<SocketAddr>,
}

impl<'a> Way<'a> {
    /// The way of a service to `addr` for a client; none if there is nothing to say about it, as for most:
    /// boxed, so that those do not hold room for it.
    ///
    /// # Errors
    /// The source has no address of the family of `addr`. That is nothing that the backend has done.
    pub(crate) fn of(
        spec: &'a ServiceSpec,
        addr: SocketAddr,
        client: SocketAddr,
    ) -> Result<Option<Box<Self>>, Invalid> {
        let Some(to) = spec.to_backends.as_deref() else {
            return Ok(None);
        };
        // A socket for mapped addresses cannot be bound to those of IPv4.
        let addr = match addr.ip().to_canonical() {
            v4 @ IpAddr::V4(_) => SocketAddr::new(v4, addr.port()),
            IpAddr::V6(_) => addr,
        };
        let source = to.source.address(addr.ip(), Some(client))?;
        Ok(Some(Box::new(Self { to, addr, source })))
    }

    /// Whether the backend sees the address of the client: it is no sign that the backend is this host
    /// if that is the backend's own.
    pub(crate) fn is_clients(&self) -> bool {
        self.to.source.is_client()
    }

    /// Where it leads to.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A socket that does not block, to be connected to [`Way::addr`].
    ///
    /// # Errors
    /// This host has no such device or address, or none left, or does not let this process have it.
    pub(crate) fn socket(&self, kind: Type, protocol: Protocol) -> io::Result<Socket> {
        let domain = Domain::for_address(self.addr);
        let socket = Socket::new_raw(domain, kind.nonblocking().cloexec(), Some(protocol))?;
        if let Some(mark) = self.to.mark {
            socket.set_mark(mark.get())?;
        }
        if let Some(interface) = &self.to.interface {
            socket.bind_device(Some(interface.as_str().as_bytes()))?;
        }
        if let Some(source) = self.source {
            if self.is_clients() {
                be_transparent(&socket, source.is_ipv6())?;
            }
            match source.port() {
                0 if protocol == Protocol::TCP => choose_port_late(&socket)?,
                // A session has a port of its own anyhow.
                0 => {}
                // Earlier connections from it may linger, and others go to other backends.
                _ => socket.set_reuse_address(true)?,
            }
            socket.bind(&source.into())?;
        }
        Ok(socket)
    }

    /// Why there is no [`Way::socket`], in words of the configuration.
    pub(crate) fn describe(&self, error: &io::Error) -> String {
        match (&self.to.interface, self.source) {
            (Some(interface), _) if is_any(error, &[Errno::NODEV]) => {
                format!("to-backends: this host has no device {interface}")
            }
            (_, Some(source)) if is_any(error, &[Errno::ADDRNOTAVAIL]) => {
                format!("to-backends: this host has no address {}", source.ip())
            }
            _ => format!("to-backends: {error}"),
        }
    }

    /// Connects a [`Way::socket`] for TCP; given up by dropping it. How much of `first` was sent, which may
    /// be all or nothing.
    pub(crate) async fn connect(
        &self,
        socket: Socket,
        first: &[u8],
    ) -> io::Result<(TcpStream, usize)> {
        // With nothing to say the first packet would never leave.
        let early = self.to.fast_open && !first.is_empty();
        if early {
            // Where the host does not allow it the data follow the handshake.
            let _ = fast_open_connect(&socket);
        }
        let stream = TcpSocket::from_std_stream(socket.into())
            .connect(self.addr)
            .await?;
        if !early {
            return Ok((stream, 0));
        }
        let sent = match stream.try_write(first) {
            Ok(sent) => sent,
            // The first packet has left, but took nothing along.
            Err(error) if is_under_way(&error) => 0,
            Err(error) => return Err(error),
        };
        established(&stream).await?;
        Ok((stream, sent))
    }
}

/// What a service wants of the ways to its backends that this host does not have now.
pub(crate) fn missing(spec: &ServiceSpec) -> Vec<String> {
    let Some(to) = spec.to_backends.as_deref() else {
        return Vec::new();
    };
    let (v4, v6) = match to.source {
        Source::Own { v4, v6 } => (v4.map(IpAddr::V4), v6.map(IpAddr::V6)),
        _ => (None, None),
    };
    let mut sources: Vec<Option<IpAddr>> = [v4, v6].into_iter().flatten().map(Some).collect();
    if sources.is_empty() {
        sources.push(None);
    }
    let ways = sources.into_iter().map(|source| Way {
        to,
        addr: SocketAddr::new(source.unwrap_or(Ipv4Addr::LOCALHOST.into()), 0),
        source: source.map(|ip| SocketAddr::new(ip, 0)),
    });
    let mut missing: Vec<String> = ways
        .filter_map(|way| match way.socket(Type::DGRAM, Protocol::UDP) {
            Err(error) if is_any(&error, &[Errno::NODEV, Errno::ADDRNOTAVAIL]) => {
                Some(way.describe(&error))
            }
            _ => None,
        })
        .collect();
    missing.dedup();
    missing
}

fn is_under_way(error: &io::Error) -> bool {
    let in_progress = rustix::io::Errno::INPROGRESS.raw_os_error();
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(in_progress)
}

/// Waits until the other end has accepted, or refused. A connection that has put off its first packet
/// can be written to before.
async fn established(stream: &TcpStream) -> io::Result<()> {
    loop {
        stream.writable().await?;
        let looked = stream.try_io(Interest::WRITABLE, || match stream.peer_addr() {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                match stream.take_error()? {
                    Some(error) => Err(error),
                    None => Err(io::ErrorKind::WouldBlock.into()),
                }
            }
            result => result.map(drop),
        });
        match looked {
            // Woken when it has come to something.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use plimsoll_model::Origin;

    use super::*;

    fn spec(to: Option<ToBackends>) -> ServiceSpec {
        let mut spec = ServiceSpec::new("web".parse().unwrap(), Origin::new("test", "web"), vec![]);
        spec.to_backends = to.map(Arc::new);
        spec
    }

    fn from(source: Source) -> Option<ToBackends> {
        Some(ToBackends {
            source,
            ..ToBackends::default()
        })
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_mapped_address_is_one_of_ipv4() {
        let spec = spec(from(Source::Own {
            v4: Some([127, 0, 0, 9].into()),
            v6: None,
        }));
        let client = addr("192.0.2.1:5");
        let way = Way::of(&spec, addr("[::ffff:127.0.0.1]:80"), client);
        let way = way.unwrap().unwrap();
        assert_eq!(way.addr(), addr("127.0.0.1:80"));
        let socket = way.socket(Type::DGRAM, Protocol::UDP).unwrap();
        let local = socket.local_addr().unwrap().as_socket().unwrap();
        assert_eq!(local.ip(), addr("127.0.0.9:0").ip());
        assert!(Way::of(&spec, addr("[::1]:80"), client).is_err());
    }

    #[test]
    fn what_this_host_does_not_have_is_named() {
        let v4 = |ip: [u8; 4]| {
            let (v4, v6) = (Some(ip.into()), None);
            from(Source::Own { v4, v6 })
        };
        assert_eq!(missing(&spec(None)), [""; 0]);
        assert_eq!(missing(&spec(v4([127, 0, 0, 9]))), [""; 0]);
        // RFC 5737: nobody's.
        let nobodys = spec(v4([198, 51, 100, 7]));
        let wanted = "to-backends: this host has no address 198.51.100.7";
        assert_eq!(missing(&nobodys), [wanted]);
        let device = spec(Some(ToBackends {
            interface: "no-such0".parse().ok(),
            ..ToBackends::default()
        }));
        let wanted = "to-backends: this host has no device no-such0";
        assert_eq!(missing(&device), [wanted]);
    }

    #[test]
    fn nothing_said_is_no_way() {
        let spec = spec(None);
        let way = Way::of(&spec, addr("[::1]:80"), addr("192.0.2.1:5"));
        assert!(way.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_to_go_first_goes_or_is_left_over() {
        let spec = spec(Some(ToBackends {
            fast_open: true,
            ..ToBackends::default()
        }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap();
        let way = Way::of(&spec, there, addr("192.0.2.1:5"));
        let way = way.unwrap().unwrap();
        let socket = || way.socket(Type::STREAM, Protocol::TCP).unwrap();
        let (stream, sent) = way.connect(socket(), b"first").await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        accepted.readable().await.unwrap();
        let mut bytes = [0; 10];
        let n = accepted.try_read(&mut bytes).unwrap();
        assert_eq!((n, sent), (5, 5));
        // With nothing to say it is connected all the same.
        let (_quiet, sent) = way.connect(socket(), b"").await.unwrap();
        assert_eq!(sent, 0);
        listener.accept().await.unwrap();
        drop((stream, listener));
        let refused = way.connect(socket(), b"first").await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
