//! Listening sockets: one per worker and port, shared out by the kernel (SO_REUSEPORT).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use plimsoll_model::{Listen, ListenOptions, Ports, Proto};
use plimsoll_plane::PlaneError;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::counts::{ListenCounts, per_worker};
use crate::options::{be_transparent, fast_open_queue};
use crate::socket::{DEFAULT_PEER, watch_peer};
use crate::udp;

/// Connections that may wait to be accepted, per worker; the kernel caps it at `somaxconn`.
const BACKLOG: i32 = 4096;

/// Ports of one listen at most: each is a socket per worker.
pub(crate) const MAX_PORTS: u16 = 1024;

/// One port of a listen, as its connections know it.
#[derive(Debug)]
pub(crate) struct Port {
    /// The number of the listen in the snapshot.
    pub(crate) index: usize,
    pub(crate) listen: Listen,
    pub(crate) port: u16,
    /// Whether it takes what goes to other hosts: see [`ListenOptions::transparent`].
    pub(crate) transparent: bool,
    pub(crate) counts: Arc<Box<[ListenCounts]>>,
}

impl Port {
    /// Connections of clients open now, on all ports of the listen.
    pub(crate) fn connections(&self) -> u64 {
        let accepted: u64 = self.counts.iter().map(|c| c.accepted.get()).sum();
        let closed: u64 = self.counts.iter().map(|c| c.closed.get()).sum();
        accepted.saturating_sub(closed)
    }
}

/// A listen whose sockets are open.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) index: usize,
    pub(crate) counts: Arc<Box<[ListenCounts]>>,
    /// What its sockets were told.
    pub(crate) options: Option<Arc<ListenOptions>>,
    /// Held by each worker for as long as it listens.
    pub(crate) listening: Arc<()>,
}

impl Bound {
    pub(crate) fn new(index: usize, workers: usize, options: Option<Arc<ListenOptions>>) -> Self {
        Self {
            index,
            counts: Arc::new(per_worker(workers)),
            options,
            listening: Arc::default(),
        }
    }
}

/// A socket to serve.
#[derive(Debug)]
pub(crate) enum Opened {
    Stream(std::net::TcpListener),
    Datagram(std::net::UdpSocket),
}

/// Opens the sockets of a listen: for each of its ports one per worker.
///
/// `ours` are the ports on which this process listens already. SO_REUSEPORT would let a second
/// process of the same user share a port unnoticed, so a port that is not ours is first tried
/// without it.
pub(crate) fn open(
    listen: &Listen,
    options: &ListenOptions,
    workers: usize,
    ours: impl Fn(u16) -> bool,
) -> Result<Vec<(u16, Vec<Opened>)>, PlaneError> {
    let Listen::Socket {
        ip, ports, proto, ..
    } = listen
    else {
        return Err(PlaneError::Other(format!("{listen} is not a socket")));
    };
    let (first, last) = ports.bounds();
    let mut sockets = Vec::new();
    let failed = |port: u16, error: io::Error| failed(listen, options, *ports, port, &error);
    let bind = |port, share| bind(*ip, port, *proto, options, share);
    for port in first..=last {
        if !ours(port) {
            bind(port, false).map_err(|e| failed(port, e))?;
        }
        let mut of_port = Vec::with_capacity(workers);
        for _ in 0..workers {
            let socket = bind(port, true).map_err(|e| failed(port, e))?;
            of_port.push(socket);
        }
        sockets.push((port, of_port));
    }
    if options.fast_open > 0 && *proto != Proto::Udp {
        warn_of_slow_open(listen);
    }
    let start = |socket: Socket| -> io::Result<Opened> {
        if *proto == Proto::Udp {
            udp::prepare(&socket)?;
            return Ok(Opened::Datagram(socket.into()));
        }
        if options.fast_open > 0 {
            fast_open_queue(&socket, options.fast_open)?;
        }
        socket.listen(BACKLOG)?;
        let socket = socket.into();
        if *proto == Proto::Http {
            delay_acks(&socket);
        }
        Ok(Opened::Stream(socket))
    };
    sockets
        .into_iter()
        .map(|(port, of_port)| {
            let started: io::Result<Vec<Opened>> = of_port.into_iter().map(start).collect();
            Ok((port, started.map_err(|e| failed(port, e))?))
        })
        .collect()
}

/// Has connections that are accepted here acknowledge the request along with the answer, which saves
/// a packet (as HAProxy's `tcp-smart-accept`). Once a connection is waited on, it acknowledges at once.
fn delay_acks(socket: &std::net::TcpListener) {
    // To be set after `listen`, which resets it. Where that fails it costs the packet.
    let _ = rustix::net::sockopt::set_tcp_quickack(socket, false);
}

/// Says that the host allows no fast open, if so: the listen works all the same.
fn warn_of_slow_open(listen: &Listen) {
    let Ok(sysctl) = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_fastopen") else {
        return;
    };
    // Of the kernel's ip-sysctl.rst: it takes data in first packets.
    const SERVER: u32 = 2;
    if sysctl.trim().parse::<u32>().is_ok_and(|n| n & SERVER == 0) {
        tracing::warn!(
            %listen,
            "tcp-fast-open has no effect: this host does not allow it (`sysctl net.ipv4.tcp_fastopen=3`)"
        );
    }
}

fn failed(
    listen: &Listen,
    options: &ListenOptions,
    ports: Ports,
    port: u16,
    error: &io::Error,
) -> PlaneError {
    let which = match ports {
        Ports::One(_) => String::new(),
        _ => format!("port {port}: "),
    };
    let no_device = Errno::NODEV.raw_os_error();
    if let Some(interface) = &options.interface
        && error.raw_os_error() == Some(no_device)
    {
        return PlaneError::Listen {
            listen: *listen,
            reason: format!(
                "{which}this host has no device {interface} (`ip link` shows which there are)"
            ),
        };
    }
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "address in use: another program listens there (`ss -lntup` shows which); stop it or choose another port"
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied: ports below 1024 need root, CAP_NET_BIND_SERVICE or a lower net.ipv4.ip_unprivileged_port_start; or choose a higher port (for containers `--listen '*:8080'`)"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this host has no such address: add it to an interface, listen on another, or say `transparent` if it is led here"
        }
        _ => "",
    };
    let reason = match advice {
        "" => format!("{which}{error}"),
        advice => format!("{which}{advice}"),
    };
    PlaneError::Listen {
        listen: *listen,
        reason,
    }
}

fn bind(
    ip: Option<IpAddr>,
    port: u16,
    proto: Proto,
    options: &ListenOptions,
    share: bool,
) -> io::Result<Socket> {
    let bind_to = |addr, only_v6| bind_to(addr, only_v6, proto, options, share);
    match ip {
        Some(ip) => bind_to(SocketAddr::new(ip, port), true),
        // Any address of both families; on a host without IPv6, of the one there is.
        None => match bind_to((Ipv6Addr::UNSPECIFIED, port).into(), false) {
            Err(e) if e.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) => {
                bind_to((Ipv4Addr::UNSPECIFIED, port).into(), true)
            }
            other => other,
        },
    }
}

fn bind_to(
    addr: SocketAddr,
    only_v6: bool,
    proto: Proto,
    options: &ListenOptions,
    share: bool,
) -> io::Result<Socket> {
    let udp = proto == Proto::Udp;
    let (kind, protocol) = match udp {
        true => (Type::DGRAM, Protocol::UDP),
        false => (Type::STREAM, Protocol::TCP),
    };
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    if addr.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.set_reuse_port(share)?;
    // For UDP it would let anybody share the port.
    if !udp {
        socket.set_reuse_address(true)?;
        // Accepted sockets inherit these.
        socket.set_tcp_nodelay(true)?;
        watch_peer(&socket, DEFAULT_PEER);
        // But for this one, which costs a timer: it is set where a connection has to be waited for.
        socket.set_keepalive(false)?;
    }
    if options.transparent {
        be_transparent(&socket, addr.is_ipv6())?;
    }
    if let Some(interface) = &options.interface {
        socket.bind_device(Some(interface.as_str().as_bytes()))?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}
