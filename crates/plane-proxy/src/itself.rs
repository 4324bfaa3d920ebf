//! Backends that are the listen their clients come by: plimsoll would call itself, and each call
//! bring about the next until no descriptor is left.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU8, Ordering};

use plimsoll_model::Listen;
use tokio::net::TcpStream;

use crate::listener::Port;

/// Why such a backend gets nothing.
pub(crate) const REASON: &str = "it is the listen that the request came by: plimsoll itself";

/// Whether an address is that of a listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Itself {
    No,
    Yes,
    /// If it is one of this host: [`Whereabouts`] knows.
    IfLocal,
}

/// Whether a connection to `addr` would come back by the port that the client came by. A listen
/// on one address does not cover the others: another program may have the same port there.
pub(crate) fn is_itself(port: &Port, addr: SocketAddr) -> Itself {
    if addr.port() != port.port {
        return Itself::No;
    }
    let Listen::Socket { ip: bound, .. } = port.listen else {
        return Itself::No;
    };
    match compare(bound.map(|ip| ip.to_canonical()), reached(addr.ip())) {
        // What is led here on its way to another host may well go on to that.
        Itself::Yes if port.transparent => Itself::IfLocal,
        found => found,
    }
}

/// Listening on `bound`, none is any address, against connecting to `ip`.
fn compare(bound: Option<IpAddr>, ip: IpAddr) -> Itself {
    let any = match bound {
        None => true,
        Some(bound) if bound == ip => return Itself::Yes,
        // Such a socket takes its own family alone.
        Some(bound) => bound.is_unspecified() && bound.is_ipv4() == ip.is_ipv4(),
    };
    match any {
        true if ip.is_loopback() => Itself::Yes,
        true => Itself::IfLocal,
        false => Itself::No,
    }
}

/// Where a connection to an address goes: the unspecified ones mean loopback to Linux.
fn reached(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// Whether the address of a backend is one of this host, as far as is known.
#[derive(Debug, Default)]
pub(crate) struct Whereabouts(AtomicU8);

const HERE: u8 = 1;
const ELSEWHERE: u8 = 2;

impl Whereabouts {
    /// Asks the kernel, but for an address that was elsewhere the last time: one that comes to this
    /// host later is found out by [`Whereabouts::came_back`].
    pub(crate) fn is_here(&self, addr: SocketAddr) -> bool {
        if self.0.load(Ordering::Relaxed) == ELSEWHERE {
            return false;
        }
        // Without a socket nothing is known, and no connection can be made either.
        let Ok(here) = is_of_this_host(addr) else {
            return false;
        };
        self.0
            .store(if here { HERE } else { ELSEWHERE }, Ordering::Relaxed);
        here
    }

    /// Whether a connection to `addr` goes from that address to itself. If so, the next is not made.
    pub(crate) fn came_back(&self, stream: &TcpStream, addr: SocketAddr) -> bool {
        let same = |local: SocketAddr| local.ip().to_canonical() == addr.ip().to_canonical();
        let came_back = stream.local_addr().is_ok_and(same);
        if came_back {
            self.0.store(HERE, Ordering::Relaxed);
        }
        came_back
    }
}

/// Whether the kernel takes what is sent to this address for its own. Sends nothing.
fn is_of_this_host(addr: SocketAddr) -> io::Result<bool> {
    let ip = addr.ip().to_canonical();
    if ip.is_ipv6() {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        // RFC 6724 §5, rule 1: from an address of this host to itself.
        let local = socket.connect(addr).and_then(|()| socket.local_addr());
        return Ok(local.is_ok_and(|local| local.ip() == ip));
    }
    // A secondary address is not the source of what is sent to it, so it is asked for. Where foreign
    // ones can be bound, too (net.ipv4.ip_nonlocal_bind), nothing can be sent from them.
    match UdpSocket::bind((ip, 0)) {
        Ok(socket) => Ok(socket.connect((ip, addr.port())).is_ok()),
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_kernel_knows_its_addresses() {
        for (addr, wanted) in [
            ("127.0.0.1:80", true),
            ("127.0.0.9:80", true),
            ("[::ffff:127.0.0.1]:80", true),
            // RFC 5737: nobody's.
            ("198.51.100.7:80", false),
            ("203.0.113.7:80", false),
        ] {
            let addr = addr.parse().unwrap();
            assert_eq!(is_of_this_host(addr).unwrap(), wanted, "{addr}");
            let whereabouts = Whereabouts::default();
            assert_eq!(whereabouts.is_here(addr), wanted, "{addr}");
            assert_eq!(whereabouts.is_here(addr), wanted, "{addr}");
        }
    }

    #[tokio::test]
    async fn what_comes_back_is_remembered() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stream = TcpStream::connect(addr).await.unwrap();
        let whereabouts = Whereabouts(AtomicU8::new(ELSEWHERE));
        assert!(!whereabouts.is_here(addr));
        assert!(!whereabouts.came_back(&stream, "198.51.100.7:80".parse().unwrap()));
        assert!(!whereabouts.is_here(addr));
        assert!(whereabouts.came_back(&stream, addr));
        assert!(whereabouts.is_here(addr));
    }

    #[test]
    fn what_is_led_here_may_go_on_to_where_it_was_meant_for() {
        let mut port = std::sync::Arc::into_inner(crate::worker::tests::port()).unwrap();
        let own = "127.0.0.1:80".parse().unwrap();
        assert_eq!(is_itself(&port, own), Itself::Yes);
        port.transparent = true;
        assert_eq!(is_itself(&port, own), Itself::IfLocal);
        assert!(Whereabouts::default().is_here(own), "unless that is here");
    }

    #[test]
    fn a_listen_is_what_it_covers() {
        use Itself::{IfLocal, No, Yes};
        for (bound, addr, wanted) in [
            ("127.0.0.1", "127.0.0.1", Yes),
            ("127.0.0.1", "0.0.0.0", Yes),
            ("127.0.0.1", "::ffff:127.0.0.1", Yes),
            ("127.0.0.2", "127.0.0.1", No),
            ("127.0.0.2", "0.0.0.0", No),
            ("10.0.0.1", "10.0.0.1", Yes),
            ("10.0.0.1", "10.0.0.2", No),
            ("0.0.0.0", "127.9.9.9", Yes),
            ("0.0.0.0", "0.0.0.0", Yes),
            ("0.0.0.0", "10.0.0.1", IfLocal),
            ("0.0.0.0", "::1", No),
            ("0.0.0.0", "fd00::1", No),
            ("::", "::1", Yes),
            ("::", "::", Yes),
            ("::", "fd00::1", IfLocal),
            ("::", "10.0.0.1", No),
            ("*", "127.0.0.1", Yes),
            ("*", "::1", Yes),
            ("*", "::", Yes),
            ("*", "10.0.0.1", IfLocal),
            ("*", "fd00::1", IfLocal),
        ] {
            let ip = (bound != "*").then(|| bound.parse().unwrap());
            let found = compare(ip, reached(addr.parse().unwrap()));
            assert_eq!(found, wanted, "{bound} and {addr}");
        }
    }
}
