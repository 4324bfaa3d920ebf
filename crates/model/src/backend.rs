//! Backends: the servers and containers behind a service.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::{Invalid, Origin, State, Status};

/// The greatest weight: 2³¹ − 1, as in IPVS since ipvsadm 1.31.
pub const MAX_WEIGHT: u32 = (1 << 31) - 1;

/// The address of a backend, which identifies it within its service.
///
/// As text: `10.0.0.1:80`, `[fd00::1]:80`, `10.0.0.1` (the packet's own port), `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BackendAddr {
    /// An IP address, and a port (1..=65535); none is the port the client connected to.
    Ip(IpAddr, Option<u16>),
    /// The absolute path of a Unix socket; only the proxy plane can connect to it.
    Unix(Arc<str>),
}

impl BackendAddr {
    /// The socket address to connect to for a client that connected to `listen_port`; none for a
    /// Unix socket.
    pub fn socket_addr(&self, listen_port: u16) -> Option<SocketAddr> {
        match self {
            BackendAddr::Ip(ip, port) => Some(SocketAddr::new(*ip, port.unwrap_or(listen_port))),
            BackendAddr::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for BackendAddr {
    fn from(addr: SocketAddr) -> Self {
        BackendAddr::Ip(addr.ip(), Some(addr.port()))
    }
}

impl fmt::Display for BackendAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackendAddr::Ip(ip, Some(port)) => write!(f, "{}", SocketAddr::new(*ip, *port)),
            BackendAddr::Ip(ip, None) => write!(f, "{ip}"),
            BackendAddr::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

impl Serialize for BackendAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for BackendAddr {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |why: &str| {
            Invalid(format!(
                "backend {text:?}: {why}; expected ADDR:PORT (10.0.0.1:80, [fd00::1]:80), ADDR, or unix:/PATH"
            ))
        };
        if let Some(path) = text.strip_prefix("unix:") {
            // 108 bytes with the closing NUL: unix(7).
            return match path {
                _ if !path.starts_with('/') => Err(bad("the path of a Unix socket is absolute")),
                _ if path.len() > 107 => Err(bad("the path is longer than 107 bytes")),
                _ if path.contains('\0') => Err(bad("the path has a NUL byte")),
                _ => Ok(BackendAddr::Unix(path.into())),
            };
        }
        let inner = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        let alone = match inner {
            Some(v6) => v6.parse::<Ipv6Addr>().map(IpAddr::V6),
            None => text.parse::<IpAddr>(),
        };
        if let Ok(ip) = alone {
            return Ok(BackendAddr::Ip(ip, None));
        }
        match text.parse::<SocketAddr>() {
            Ok(addr) if addr.port() == 0 => {
                Err(bad("port 0 cannot be connected to: use 1 to 65535"))
            }
            Ok(addr) => Ok(addr.into()),
            Err(_)
                if text
                    .rsplit_once(':')
                    .is_some_and(|(_, p)| p.parse::<u16>().is_err()) =>
            {
                Err(bad("a port is a number from 1 to 65535"))
            }
            Err(_) => Err(bad("not an IP address and port")),
        }
    }
}

/// How packets are brought to a backend, layer 4 in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Forward {
    /// A new connection from user space. The only one the proxy plane has.
    #[default]
    Proxy,
    /// Destination rewritten; replies come back through the director.
    Nat,
    /// Direct routing: only the link-layer address changes.
    Dr,
    /// Encapsulated.
    Tunnel(Tunnel),
}

impl Forward {
    /// What people call them; a tunnel without more is IP in IP.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("proxy", Self::Proxy),
        ("nat", Self::Nat),
        ("dr", Self::Dr),
        ("tunnel", Self::Tunnel(Tunnel::Ipip)),
    ];
}

/// The encapsulation of a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tunnel {
    /// IP in IP.
    #[default]
    Ipip,
    /// Generic UDP encapsulation to this port.
    Gue {
        /// UDP port, 1..=65535.
        port: u16,
    },
    /// GRE.
    Gre,
}

/// One server or container endpoint of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Backend {
    /// Where it is; its identity within the service.
    pub addr: BackendAddr,
    /// Who said so.
    pub origin: Origin,
    /// A name for people, e.g. the container's; empty if it has none.
    pub name: Arc<str>,
    /// Its share, 0..=[`MAX_WEIGHT`]; 0 gets nothing new.
    pub weight: u32,
    /// How packets are brought to it.
    pub forward: Forward,
    /// Requests (HTTP) or connections (TCP) in flight at most, over all cores; 0 is no limit.
    pub maxconn: u32,
    /// Upper connection threshold as in IPVS: at it the backend gets nothing new; 0 is none.
    pub upper: u32,
    /// Lower connection threshold as in IPVS: below it the backend is used again; 0 is ¾ of `upper`.
    pub lower: u32,
    /// For a backend without a port: listen port → its port; others keep the packet's own.
    pub ports: BTreeMap<u16, u16>,
    /// The node it runs on; empty if unknown.
    pub node: Arc<str>,
    /// The zone of that node; empty if unknown.
    pub zone: Arc<str>,
    /// Whether it may be given traffic, and why not.
    pub status: Status,
}

impl Backend {
    /// A ready backend of weight 1 with nothing else set.
    pub fn new(addr: BackendAddr, origin: Origin) -> Self {
        Self {
            addr,
            origin,
            name: "".into(),
            weight: 1,
            forward: Forward::default(),
            maxconn: 0,
            upper: 0,
            lower: 0,
            ports: BTreeMap::new(),
            node: "".into(),
            zone: "".into(),
            status: Status::default(),
        }
    }

    /// Whether it may be given something new: ready, and of a weight above 0.
    pub fn takes_new(&self) -> bool {
        self.status.state == State::Ready && self.weight > 0
    }

    /// The socket address to connect to for a client that connected to `listen_port`.
    pub fn socket_addr(&self, listen_port: u16) -> Option<SocketAddr> {
        let port = self.ports.get(&listen_port).copied().unwrap_or(listen_port);
        self.addr.socket_addr(port)
    }

    /// Whether every value is in its range.
    ///
    /// # Errors
    /// The first value that is not, by its name.
    pub fn validate(&self) -> Result<(), Invalid> {
        let bad = |why: String| Err(Invalid(format!("backend {}: {why}", self.addr)));
        if self.weight > MAX_WEIGHT {
            return bad(format!(
                "weight {} is above the greatest, {MAX_WEIGHT}",
                self.weight
            ));
        }
        if self.lower > self.upper {
            return bad(format!(
                "lower threshold {} is above the upper one, {}",
                self.lower, self.upper
            ));
        }
        if matches!(self.addr, BackendAddr::Ip(_, Some(0)))
            || self.ports.iter().any(|(a, b)| *a == 0 || *b == 0)
        {
            return bad("port 0 cannot be connected to: use 1 to 65535".into());
        }
        if !self.ports.is_empty() && !matches!(self.addr, BackendAddr::Ip(_, None)) {
            return bad("a port map is for a backend whose address has no port".into());
        }
        if matches!(self.addr, BackendAddr::Unix(_)) && self.forward != Forward::Proxy {
            return bad(
                "a Unix socket can be reached by the proxy only: forward = \"proxy\"".into(),
            );
        }
        if matches!(self.forward, Forward::Tunnel(Tunnel::Gue { port: 0 })) {
            return bad("a GUE tunnel needs a port from 1 to 65535".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for text in [
            "10.0.0.1:80",
            "[fd00::1]:80",
            "10.0.0.1",
            "fd00::1",
            "unix:/run/x.sock",
        ] {
            assert_eq!(text.parse::<BackendAddr>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_text_says_what_is_wrong() {
        for (text, why) in [
            ("10.0.0.1:0", "port 0"),
            ("10.0.0.1:99999", "1 to 65535"),
            ("web:80", "not an IP address"),
            ("10.0.0.1]", "not an IP address"),
            ("[10.0.0.1]", "not an IP address"),
            ("[[::1]]:80", "not an IP address"),
            ("unix:x", "absolute"),
            ("", "not an IP address"),
        ] {
            let error = text.parse::<BackendAddr>().unwrap_err().0;
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_port_map_moves_the_listen_port() {
        let mut backend = Backend::new("10.0.0.1".parse().unwrap(), Origin::new("test", "b"));
        backend.ports.insert(80, 8080);
        assert_eq!(backend.socket_addr(80), "10.0.0.1:8080".parse().ok());
        assert_eq!(backend.socket_addr(81), "10.0.0.1:81".parse().ok());
    }
}
