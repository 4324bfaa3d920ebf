//! Servers that say who they are and whom they see, and clients that check what they say.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use plimsoll_testkit::Place;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::site::Site;
use crate::lab::SOON;

/// Before what comes goes back: the number of the server and the address that it sees.
const HEAD: usize = 1 + 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Proto {
    Tcp,
    Udp,
}

impl Proto {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Servers at work until this is dropped.
#[derive(Default)]
pub(super) struct Servers(JoinSet<()>);

impl Servers {
    /// Ends them; back when their addresses are free.
    pub(super) async fn end(mut self) {
        self.0.shutdown().await;
    }

    /// Starts the server of this number, of either protocol, at an address of a host.
    pub(super) fn start(&mut self, site: &Site, host: &str, number: u8, at: SocketAddr) {
        let listener = site.lab.place(host).listen(at).unwrap();
        self.0.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, peer)) = listener.accept().await {
                connections.spawn(answer(stream, head(number, peer.ip())));
                while connections.try_join_next().is_some() {}
            }
        });
        let socket = udp(site, host, at);
        self.0.spawn(async move {
            let mut bytes = vec![0; 65536];
            loop {
                // An error of one client, told by ICMP, is none of the others.
                let Ok((len, peer)) = socket.recv_from(&mut bytes).await else {
                    continue;
                };
                let told = [&head(number, peer.ip()), &bytes[..len]].concat();
                let _sent = socket.send_to(&told, peer).await;
            }
        });
    }
}

fn head(number: u8, peer: IpAddr) -> [u8; HEAD] {
    let mut head = [number; HEAD];
    head[1..].copy_from_slice(&mapped(peer).octets());
    head
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// Exchanges until the client closes: a length and so many bytes come, the head and they go back.
async fn answer(mut stream: TcpStream, head: [u8; HEAD]) {
    let exchange = async {
        loop {
            let len = stream.read_u32().await?;
            let mut bytes = vec![0; len as usize];
            stream.read_exact(&mut bytes).await?;
            stream.write_all(&[&head[..], &bytes].concat()).await?;
        }
    };
    // Clients that go are no error of a server.
    let _ended: io::Result<()> = exchange.await;
}

fn udp(site: &Site, host: &str, at: SocketAddr) -> tokio::net::UdpSocket {
    let bound = site.namespace(host).run(move || UdpSocket::bind(at));
    let socket = bound.unwrap().unwrap();
    socket.set_nonblocking(true).unwrap();
    tokio::net::UdpSocket::from_std(socket).unwrap()
}

/// A client's connection, or what is one to a client of UDP.
pub(super) enum Talk {
    Tcp(TcpStream),
    Udp(tokio::net::UdpSocket),
}

impl Talk {
    /// Opens one, from any port of the client.
    pub(super) async fn open(site: &Site, proto: Proto, to: SocketAddr) -> io::Result<Self> {
        let place: Place = site.lab.place(super::site::CLIENT);
        Ok(match proto {
            Proto::Tcp => Self::Tcp(place.connect(to).await?),
            Proto::Udp => {
                let any: SocketAddr = match to {
                    SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
                    SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
                };
                let socket = udp(site, super::site::CLIENT, any);
                socket.connect(to).await?;
                Self::Udp(socket)
            }
        })
    }

    /// Sends so many random bytes and gets them back; the server's number and whom it sees.
    pub(super) async fn exchange(&mut self, seed: u64, len: usize) -> io::Result<(u8, Ipv6Addr)> {
        self.exchange_within(SOON, seed, len).await
    }

    /// As [`Self::exchange`], if it takes no longer than this.
    pub(super) async fn exchange_within(
        &mut self,
        bound: Duration,
        seed: u64,
        len: usize,
    ) -> io::Result<(u8, Ipv6Addr)> {
        let sent = random(seed, len);
        let back = timeout(bound, self.send_and_read(&sent)).await;
        let back = back.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        if back[HEAD..] != sent {
            return Err(io::Error::other(format!("{len} bytes came back otherwise")));
        }
        let seen: [u8; 16] = back[1..HEAD].try_into().unwrap();
        Ok((back[0], seen.into()))
    }

    async fn send_and_read(&mut self, sent: &[u8]) -> io::Result<Vec<u8>> {
        let mut back = vec![0; HEAD + sent.len()];
        match self {
            Self::Tcp(stream) => {
                let (mut read, mut write) = stream.split();
                let len = u32::try_from(sent.len()).unwrap().to_be_bytes();
                let (wrote, was_read) = tokio::join!(
                    async {
                        write.write_all(&len).await?;
                        write.write_all(sent).await
                    },
                    read.read_exact(&mut back)
                );
                wrote?;
                was_read?;
            }
            Self::Udp(socket) => {
                socket.send(sent).await?;
                let mut bytes = vec![0; 65536];
                let len = socket.recv(&mut bytes).await?;
                if len != back.len() {
                    return Err(io::Error::other(format!("{len} bytes for {}", sent.len())));
                }
                back.copy_from_slice(&bytes[..len]);
            }
        }
        Ok(back)
    }
}

/// Bytes that nothing guesses (xorshift64*), the same for the same seed.
fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2) + 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes()
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(len);
    bytes
}
