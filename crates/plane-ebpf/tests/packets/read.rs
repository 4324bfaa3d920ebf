//! What packets say, and whether their checksums and lengths are right, by another's parser.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    Ethernet2Header, Icmpv4Slice, Icmpv6Slice, IpNumber, Ipv4Header, Ipv6Extensions, Ipv6Header,
    TcpHeader, UdpHeader,
};

#[derive(Clone, Debug)]
pub(crate) struct Ip {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) ttl: u8,
    pub(crate) class: u8,
    pub(crate) label: u32,
    pub(crate) df: bool,
    pub(crate) body: Body,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Tcp(TcpHeader, Vec<u8>),
    Udp(UdpHeader, Vec<u8>),
    /// Type, code, the rest of the header, and what follows.
    Icmp(u8, u8, u32, Vec<u8>),
    Tunnel(Box<Ip>),
}

/// A frame that was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) to: [u8; 6],
    pub(crate) from: [u8; 6],
    pub(crate) ip: Ip,
}

/// Reads a frame.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read(frame: &[u8]) -> Result<Sent, String> {
    let (ether, rest) = Ethernet2Header::from_slice(frame).map_err(|e| e.to_string())?;
    let kind = match ether.ether_type.0 {
        0x0800 => 4,
        0x86dd => 6,
        other => return Err(format!("ether type {other:x}")),
    };
    Ok(Sent {
        to: ether.destination,
        from: ether.source,
        ip: read_ip(rest, kind)?,
    })
}

fn read_ip(bytes: &[u8], family: u8) -> Result<Ip, String> {
    if bytes[0] >> 4 != family {
        return Err("another version than told".to_owned());
    }
    if family == 4 {
        let (ip, rest) = Ipv4Header::from_slice(bytes).map_err(|e| e.to_string())?;
        if ip.calc_header_checksum() != ip.header_checksum {
            return Err(format!("IPv4 header checksum: {ip:?}"));
        }
        let len = usize::from(ip.payload_len().map_err(|e| e.to_string())?);
        let body = rest.get(..len).ok_or("IPv4 total length")?;
        let (src, dst) = (IpAddr::from(ip.source), IpAddr::from(ip.destination));
        return Ok(Ip {
            src,
            dst,
            ttl: ip.time_to_live,
            class: bytes[1],
            label: 0,
            df: ip.dont_fragment,
            body: read_body(src, dst, ip.protocol, body)?,
        });
    }
    let (ip, rest) = Ipv6Header::from_slice(bytes).map_err(|e| e.to_string())?;
    let payload = rest.get(..usize::from(ip.payload_length));
    let payload = payload.ok_or("IPv6 payload length")?;
    let (_, proto, body) =
        Ipv6Extensions::from_slice(ip.next_header, payload).map_err(|e| e.to_string())?;
    let (src, dst) = (IpAddr::from(ip.source), IpAddr::from(ip.destination));
    Ok(Ip {
        src,
        dst,
        ttl: ip.hop_limit,
        class: bytes[0] << 4 | bytes[1] >> 4,
        label: ip.flow_label.value(),
        df: true,
        body: read_body(src, dst, proto, body)?,
    })
}

fn read_body(src: IpAddr, dst: IpAddr, proto: IpNumber, body: &[u8]) -> Result<Body, String> {
    let text = |e: &dyn std::error::Error| e.to_string();
    Ok(match proto {
        IpNumber::TCP => {
            let (tcp, payload) = TcpHeader::from_slice(body).map_err(|e| text(&e))?;
            let sum = match (src, dst) {
                (IpAddr::V4(s), IpAddr::V4(d)) => {
                    tcp.calc_checksum_ipv4_raw(s.octets(), d.octets(), payload)
                }
                (IpAddr::V6(s), IpAddr::V6(d)) => {
                    tcp.calc_checksum_ipv6_raw(s.octets(), d.octets(), payload)
                }
                _ => return Err("two families".to_owned()),
            };
            same(sum.map_err(|e| text(&e))?, tcp.checksum, "TCP")?;
            Body::Tcp(tcp, payload.to_vec())
        }
        IpNumber::UDP => {
            let (udp, payload) = UdpHeader::from_slice(body).map_err(|e| text(&e))?;
            if usize::from(udp.length) != body.len() {
                return Err("UDP length".to_owned());
            }
            let sum = match (src, dst) {
                (IpAddr::V4(s), IpAddr::V4(d)) => {
                    udp.calc_checksum_ipv4_raw(s.octets(), d.octets(), payload)
                }
                (IpAddr::V6(s), IpAddr::V6(d)) => {
                    udp.calc_checksum_ipv6_raw(s.octets(), d.octets(), payload)
                }
                _ => return Err("two families".to_owned()),
            };
            if udp.checksum != 0 || src.is_ipv6() {
                same(sum.map_err(|e| text(&e))?, udp.checksum, "UDP")?;
            }
            Body::Udp(udp, payload.to_vec())
        }
        IpNumber::ICMP => {
            let icmp = Icmpv4Slice::from_slice(body).map_err(|e| text(&e))?;
            // Of types whose header it knows nothing of, the parser sums up noughts.
            same(crate::build::checksum(body, 0), 0, "ICMP")?;
            Body::Icmp(
                icmp.type_u8(),
                icmp.code_u8(),
                rest(body),
                body[8..].to_vec(),
            )
        }
        IpNumber::IPV6_ICMP => {
            let icmp = Icmpv6Slice::from_slice(body).map_err(|e| text(&e))?;
            let (IpAddr::V6(s), IpAddr::V6(d)) = (src, dst) else {
                return Err("ICMPv6 in IPv4".to_owned());
            };
            if !icmp.is_checksum_valid(s.octets(), d.octets()) {
                return Err(format!("ICMPv6 checksum {:x}", icmp.checksum()));
            }
            Body::Icmp(
                icmp.type_u8(),
                icmp.code_u8(),
                rest(body),
                body[8..].to_vec(),
            )
        }
        IpNumber::IPV4 => Body::Tunnel(Box::new(read_ip(body, 4)?)),
        IpNumber::IPV6 => Body::Tunnel(Box::new(read_ip(body, 6)?)),
        other => return Err(format!("protocol {other:?}")),
    })
}

fn rest(body: &[u8]) -> u32 {
    u32::from_be_bytes(body[4..8].try_into().unwrap())
}

/// 0 and 0xffff are the same sum.
fn same(right: u16, is: u16, what: &str) -> Result<(), String> {
    if right == is || (right, is) == (0, 0xffff) || (right, is) == (0xffff, 0) {
        return Ok(());
    }
    Err(format!("{what} checksum is {is:x}, should be {right:x}"))
}

impl Ip {
    /// Both ends of TCP or UDP.
    pub(crate) fn ends(&self) -> (SocketAddr, SocketAddr) {
        let (from, to) = match &self.body {
            Body::Tcp(tcp, _) => (tcp.source_port, tcp.destination_port),
            Body::Udp(udp, _) => (udp.source_port, udp.destination_port),
            other => panic!("no ports: {other:?}"),
        };
        (
            SocketAddr::new(self.src, from),
            SocketAddr::new(self.dst, to),
        )
    }

    pub(crate) fn payload(&self) -> &[u8] {
        match &self.body {
            Body::Tcp(_, payload) | Body::Udp(_, payload) => payload,
            other => panic!("no payload: {other:?}"),
        }
    }

    /// What is in the tunnel.
    pub(crate) fn inner(&self) -> &Ip {
        match &self.body {
            Body::Tunnel(inner) => inner,
            other => panic!("no tunnel: {other:?}"),
        }
    }
}
