//! What clients connect to: an address, ports and a protocol, or a firewall mark.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::Invalid;

/// The protocol of a listen. `Http` is layer 7 over TCP; the others are layer 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// TCP, forwarded as a stream.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// HTTP/1.1 over TCP.
    Http,
}

impl Proto {
    /// Every protocol by its name in a listen.
    pub const NAMES: [(&'static str, Proto); 4] = [
        ("tcp", Proto::Tcp),
        ("udp", Proto::Udp),
        ("sctp", Proto::Sctp),
        ("http", Proto::Http),
    ];

    /// The transport below: HTTP and TCP share port numbers.
    pub fn transport(self) -> Proto {
        match self {
            Proto::Http => Proto::Tcp,
            other => other,
        }
    }

    /// The name used in a listen.
    pub fn as_str(self) -> &'static str {
        match self {
            Proto::Tcp => "tcp",
            Proto::Udp => "udp",
            Proto::Sctp => "sctp",
            Proto::Http => "http",
        }
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Proto {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::NAMES
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, proto)| *proto)
            .ok_or_else(|| {
                Invalid(format!(
                    "unknown protocol {text:?}: expected tcp, udp, sctp or http"
                ))
            })
    }
}

/// An address family, for marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The ports of a listen. Ports are 1..=65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ports {
    /// One port.
    One(u16),
    /// All ports from the first to the last, both included, first < last.
    Range(u16, u16),
    /// Every port of the address.
    All,
}

impl Ports {
    /// The first and the last port.
    pub fn bounds(self) -> (u16, u16) {
        match self {
            Ports::One(port) => (port, port),
            Ports::Range(first, last) => (first, last),
            Ports::All => (1, u16::MAX),
        }
    }

    /// Whether the two have a port in common.
    pub fn overlaps(self, other: Ports) -> bool {
        let (a, b) = self.bounds();
        let (c, d) = other.bounds();
        a <= d && c <= b
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ports::One(port) => write!(f, "{port}"),
            Ports::Range(first, last) => write!(f, "{first}-{last}"),
            Ports::All => f.write_str("*"),
        }
    }
}

/// One thing clients connect to. A service may have many.
///
/// As text: `ADDR:PORTS/PROTO` with `ADDR` an IPv4 address, an IPv6 address in brackets, or `*`
/// (any address of either family), `PORTS` a port, `FIRST-LAST` or `*`; or `mark:N` and
/// `mark:N/ipv6` for packets with a firewall mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Listen {
    /// A socket address, or several on one address.
    Socket {
        /// The address; none is any address of both families.
        ip: Option<IpAddr>,
        /// The ports.
        ports: Ports,
        /// The protocol.
        proto: Proto,
    },
    /// Packets that carry a firewall mark.
    Mark {
        /// The mark.
        mark: NonZeroU32,
        /// The family of the packets.
        family: Family,
    },
}

impl Listen {
    /// A listen on one port.
    pub fn socket(ip: impl Into<Option<IpAddr>>, port: u16, proto: Proto) -> Self {
        Listen::Socket {
            ip: ip.into(),
            ports: Ports::One(port),
            proto,
        }
    }

    /// Whether this is an HTTP listen.
    pub fn is_http(&self) -> bool {
        matches!(
            self,
            Listen::Socket {
                proto: Proto::Http,
                ..
            }
        )
    }

    /// Whether this is a UDP listen.
    pub fn is_udp(&self) -> bool {
        matches!(
            self,
            Listen::Socket {
                proto: Proto::Udp,
                ..
            }
        )
    }

    /// Whether one packet could belong to both, with neither more specific than the other: the
    /// same address (or both any), the same transport, a port in common; or the same mark.
    /// `0.0.0.0` and `*` count as the same as do `[::]` and `*`: one socket cannot be bound twice.
    pub fn conflicts(&self, other: &Listen) -> bool {
        match (self, other) {
            (
                Listen::Socket {
                    ip: a,
                    ports: p,
                    proto: x,
                },
                Listen::Socket {
                    ip: b,
                    ports: q,
                    proto: y,
                },
            ) => x.transport() == y.transport() && p.overlaps(*q) && same_address(*a, *b),
            (Listen::Mark { .. }, Listen::Mark { .. }) => self == other,
            _ => false,
        }
    }
}

fn same_address(a: Option<IpAddr>, b: Option<IpAddr>) -> bool {
    let unspecified = |ip: Option<IpAddr>| ip.is_none_or(|ip| ip.is_unspecified());
    a == b || (unspecified(a) && unspecified(b) && (a.is_none() || b.is_none()))
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Socket {
                ip: None,
                ports,
                proto,
            } => write!(f, "*:{ports}/{proto}"),
            Listen::Socket {
                ip: Some(IpAddr::V4(ip)),
                ports,
                proto,
            } => {
                write!(f, "{ip}:{ports}/{proto}")
            }
            Listen::Socket {
                ip: Some(IpAddr::V6(ip)),
                ports,
                proto,
            } => {
                write!(f, "[{ip}]:{ports}/{proto}")
            }
            Listen::Mark {
                mark,
                family: Family::V4,
            } => write!(f, "mark:{mark}"),
            Listen::Mark {
                mark,
                family: Family::V6,
            } => write!(f, "mark:{mark}/ipv6"),
        }
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

const EXPECTED: &str = "expected ADDR:PORT/PROTO, e.g. 0.0.0.0:80/http, [::]:443/tcp, *:53/udp";

impl FromStr for Listen {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |why: &str| Invalid(format!("listen {text:?}: {why}; {EXPECTED}"));
        if let Some(mark) = text.strip_prefix("mark:") {
            let (mark, family) = match mark.strip_suffix("/ipv6") {
                Some(mark) => (mark, Family::V6),
                None => (mark, Family::V4),
            };
            return match mark.parse() {
                Ok(mark) => Ok(Listen::Mark { mark, family }),
                Err(_) => Err(Invalid(format!(
                    "listen {text:?}: a mark is a number from 1 to {}, e.g. mark:5 or mark:5/ipv6",
                    u32::MAX
                ))),
            };
        }
        let (address, proto) = text.rsplit_once('/').ok_or_else(|| bad("no protocol"))?;
        let proto = proto.parse::<Proto>().map_err(|error| bad(&error.0))?;
        let (ip, ports) = address.rsplit_once(':').ok_or_else(|| bad("no port"))?;
        let ip = match ip {
            "*" | "" => None,
            v6 if v6.starts_with('[') && v6.ends_with(']') => {
                let inner = v6
                    .strip_prefix('[')
                    .and_then(|v6| v6.strip_suffix(']'))
                    .unwrap_or(v6);
                Some(IpAddr::V6(
                    inner
                        .parse::<Ipv6Addr>()
                        .map_err(|_| bad("not an IPv6 address"))?,
                ))
            }
            v6 if v6.contains(':') => return Err(bad("an IPv6 address goes in brackets")),
            v4 => Some(IpAddr::V4(
                v4.parse::<Ipv4Addr>()
                    .map_err(|_| bad("the address is not an IP address"))?,
            )),
        };
        let port = |text: &str| match text.parse::<u16>() {
            Ok(0) => Err(bad("port 0 cannot be listened on: use 1 to 65535")),
            Ok(port) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
            _ => Err(bad("a port is a number from 1 to 65535")),
        };
        let ports = match ports.split_once('-') {
            _ if ports == "*" => Ports::All,
            None => Ports::One(port(ports)?),
            Some((first, last)) => match (port(first)?, port(last)?) {
                (first, last) if first == last => Ports::One(first),
                (first, last) if first < last => Ports::Range(first, last),
                _ => return Err(bad("the range ends before it begins")),
            },
        };
        Ok(Listen::Socket { ip, ports, proto })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for text in [
            "0.0.0.0:80/http",
            "[::1]:443/tcp",
            "*:53/udp",
            "10.0.0.1:8000-8010/tcp",
            "10.0.0.1:*/tcp",
            "mark:5",
            "mark:7/ipv6",
        ] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
        assert_eq!(":80/tcp".parse::<Listen>().unwrap().to_string(), "*:80/tcp");
    }

    #[test]
    fn bad_text_says_what_is_wrong() {
        for (text, why) in [
            ("80", "no protocol"),
            ("80/tcp", "no port"),
            ("1.2.3.4:0/tcp", "port 0"),
            ("1.2.3.4:70000/tcp", "1 to 65535"),
            ("1.2.3.4:+80/tcp", "1 to 65535"),
            ("1.2.3:80/tcp", "not an IP address"),
            ("::1:80/tcp", "brackets"),
            ("[[::1]]:80/tcp", "not an IPv6 address"),
            ("1.2.3.4:9-8/tcp", "ends before"),
            ("1.2.3.4:80/htp", "unknown protocol"),
            ("mark:0", "from 1"),
        ] {
            let error = text.parse::<Listen>().unwrap_err().0;
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn conflicts_are_about_the_same_socket() {
        let parse = |text: &str| text.parse::<Listen>().unwrap();
        assert!(parse("1.2.3.4:80/tcp").conflicts(&parse("1.2.3.4:80/http")));
        assert!(parse("1.2.3.4:80-90/tcp").conflicts(&parse("1.2.3.4:85/tcp")));
        assert!(parse("*:80/tcp").conflicts(&parse("0.0.0.0:80/tcp")));
        assert!(!parse("1.2.3.4:80/tcp").conflicts(&parse("1.2.3.4:80/udp")));
        assert!(!parse("0.0.0.0:80/tcp").conflicts(&parse("1.2.3.4:80/tcp")));
        assert!(!parse("0.0.0.0:80/tcp").conflicts(&parse("[::]:80/tcp")));
    }
}
