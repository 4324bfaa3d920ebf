//! Packets.

use std::net::{IpAddr, SocketAddr};

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMPV6: u8 = 58;

/// The link-layer addresses of a packet from the client's router.
pub(crate) const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];

/// A packet to be.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) src: SocketAddr,
    pub(crate) dst: SocketAddr,
    pub(crate) proto: u8,
    pub(crate) flags: u8,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) ttl: u8,
    /// TOS or traffic class.
    pub(crate) class: u8,
    /// Of IPv4 after the header, of IPv6 extension headers, each beginning with the next one's number.
    pub(crate) options: Vec<u8>,
    /// The first next header of IPv6, where there are extension headers.
    pub(crate) first: Option<u8>,
    /// IPv4's word of flags and offset.
    pub(crate) fragment: u16,
    /// Of TCP, after the header; a multiple of four bytes is made of them.
    pub(crate) tcp_options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    /// UDP without a checksum.
    pub(crate) unsummed: bool,
}

impl Packet {
    fn new(proto: u8, src: &str, dst: &str) -> Self {
        Self {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            proto,
            flags: 0,
            seq: 0x0102_0304,
            ack: 0x0a0b_0c0d,
            ttl: 61,
            class: 0,
            options: Vec::new(),
            first: None,
            fragment: 0x4000,
            tcp_options: Vec::new(),
            payload: b"payload!?".to_vec(),
            unsummed: false,
        }
    }

    pub(crate) fn tcp(src: &str, dst: &str, flags: u8) -> Self {
        let mut packet = Self::new(TCP, src, dst);
        packet.flags = flags;
        packet
    }

    pub(crate) fn udp(src: &str, dst: &str) -> Self {
        Self::new(UDP, src, dst)
    }

    /// Its transport header and payload, with the checksum.
    pub(crate) fn transport(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.src.port().to_be_bytes());
        bytes.extend(self.dst.port().to_be_bytes());
        let at = if self.proto == TCP {
            bytes.extend(self.seq.to_be_bytes());
            bytes.extend(self.ack.to_be_bytes());
            let words = self.tcp_options.len().div_ceil(4);
            bytes.extend([(5 + words as u8) << 4, self.flags, 0x40, 0, 0, 0, 0, 0]);
            bytes.extend(&self.tcp_options);
            bytes.resize(20 + words * 4, 0);
            16
        } else {
            bytes.extend((8 + self.payload.len() as u16).to_be_bytes());
            bytes.extend([0, 0]);
            6
        };
        bytes.extend(&self.payload);
        let sum = checksum(
            &bytes,
            pseudo(self.src.ip(), self.dst.ip(), self.proto, bytes.len()),
        );
        if !self.unsummed {
            let sum = if sum == 0 && self.proto == UDP {
                0xffff
            } else {
                sum
            };
            bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }

    pub(crate) fn frame(&self) -> Vec<u8> {
        let l4 = self.transport();
        self.frame_of(&l4)
    }

    /// A frame whose transport part is this.
    pub(crate) fn frame_of(&self, l4: &[u8]) -> Vec<u8> {
        let mut frame = ether(self.src.ip());
        frame.extend(self.ip(l4));
        frame
    }

    /// The packet from the network header on.
    pub(crate) fn ip(&self, l4: &[u8]) -> Vec<u8> {
        match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                assert_eq!(self.options.len() % 4, 0);
                let words = 5 + self.options.len() / 4;
                let mut ip = vec![0x40 | words as u8, self.class];
                ip.extend((words as u16 * 4 + l4.len() as u16).to_be_bytes());
                ip.extend(0x1234_u16.to_be_bytes());
                ip.extend(self.fragment.to_be_bytes());
                ip.extend([self.ttl, self.proto, 0, 0]);
                ip.extend(src.octets());
                ip.extend(dst.octets());
                ip.extend(&self.options);
                let sum = checksum(&ip, 0);
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
                ip.extend(l4);
                ip
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let mut ip = vec![0x60 | self.class >> 4, self.class << 4, 0x12, 0x34];
                ip.extend((self.options.len() as u16 + l4.len() as u16).to_be_bytes());
                ip.extend([self.first.unwrap_or(self.proto), self.ttl]);
                ip.extend(src.octets());
                ip.extend(dst.octets());
                ip.extend(&self.options);
                ip.extend(l4);
                ip
            }
            _ => panic!("two families"),
        }
    }

    /// The packet that a backend answers with, from here.
    pub(crate) fn reply(&self, from: SocketAddr, flags: u8) -> Self {
        Self {
            src: from,
            dst: self.src,
            flags,
            ..self.clone()
        }
    }
}

/// An ICMP message of this type and code from here to there.
pub(crate) fn icmp(src: &str, dst: &str, kind: u8, code: u8, rest: u32, body: &[u8]) -> Vec<u8> {
    let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 0).to_string();
    let mut packet = Packet::udp(&at(src), &at(dst));
    let v4 = packet.src.is_ipv4();
    packet.proto = if v4 { ICMP } else { ICMPV6 };
    let mut bytes = vec![kind, code, 0, 0];
    bytes.extend(rest.to_be_bytes());
    bytes.extend(body);
    let pseudo = match v4 {
        true => 0,
        false => pseudo(packet.src.ip(), packet.dst.ip(), ICMPV6, bytes.len()),
    };
    let sum = checksum(&bytes, pseudo);
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    packet.frame_of(&bytes)
}

pub(crate) fn ether(family: IpAddr) -> Vec<u8> {
    let mut frame = OUR_MAC.to_vec();
    frame.extend(ROUTER_MAC);
    frame.extend(if family.is_ipv4() {
        [8, 0]
    } else {
        [0x86, 0xdd]
    });
    frame
}

/// The sum of the pseudo header (RFC 9293 §3.1, RFC 8200 §8.1).
pub(crate) fn pseudo(src: IpAddr, dst: IpAddr, proto: u8, len: usize) -> u32 {
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let addresses = [octets(src), octets(dst)].concat();
    u32::from(!checksum(&addresses, 0)) + u32::from(proto) + len as u32
}

/// The Internet checksum (RFC 1071) over bytes and what was summed before.
pub(crate) fn checksum(bytes: &[u8], before: u32) -> u16 {
    let words = bytes.chunks(2);
    let words = words.map(|w| u32::from(w[0]) << 8 | w.get(1).map_or(0, |b| u32::from(*b)));
    let mut sum: u64 = u64::from(before) + words.map(u64::from).sum::<u64>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
