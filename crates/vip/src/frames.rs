//! What an announcement consists of, byte by byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address of the link layer.
type Mac = [u8; 6];

const BROADCAST: Mac = [0xff; 6];
/// That of ff02::1 (RFC 2464 §7).
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;
/// RFC 4861 §4.4: this sender is a router; it overrides what is known.
const ROUTER: u8 = 0x80;
const OVERRIDE: u8 = 0x20;

/// The frames that tell all neighbours on a link who has an address now.
///
/// For IPv4 a request and a reply that name it as sender and as target (RFC 5227 §3, RFC 5944 §4.6): there
/// are hosts that heed only one of them. For IPv6 an unsolicited neighbour advertisement that overrides
/// (RFC 4861 §7.2.6), from the address itself, as keepalived sends it; `router` says whether this host
/// forwards.
pub fn announcements(ip: IpAddr, mac: Mac, router: bool) -> Vec<Vec<u8>> {
    match ip {
        IpAddr::V4(ip) => vec![arp(1, ip, mac), arp(2, ip, mac)],
        IpAddr::V6(ip) => vec![advertisement(ip, mac, router)],
    }
}

fn ethernet(to: Mac, from: Mac, kind: u16) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes()].concat()
}

/// A packet of RFC 826: 1 is a request, 2 a reply.
fn arp(operation: u16, ip: Ipv4Addr, mac: Mac) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, mac, ARP);
    // Ethernet, IPv4, and the lengths of their addresses.
    frame.extend([0, 1, 8, 0, 6, 4]);
    frame.extend(operation.to_be_bytes());
    frame.extend(mac);
    frame.extend(ip.octets());
    // Linux takes a reply for gratuitous only if the target is the sender here, too.
    frame.extend(if operation == 2 { mac } else { BROADCAST });
    frame.extend(ip.octets());
    frame
}

fn advertisement(ip: Ipv6Addr, mac: Mac, router: bool) -> Vec<u8> {
    let flags = OVERRIDE | if router { ROUTER } else { 0 };
    let mut body = vec![136, 0, 0, 0, flags, 0, 0, 0];
    body.extend(ip.octets());
    // The address of the link layer: 8 bytes of it.
    body.extend([2, 1]);
    body.extend(mac);
    let sum = checksum(ip, &body);
    if let Some(place) = body.get_mut(2..4) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
    let len = u16::try_from(body.len()).unwrap_or(u16::MAX);
    let mut frame = ethernet(ALL_NODES_MAC, mac, IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(len.to_be_bytes());
    // Neighbours believe only what no router has passed on.
    frame.extend([ICMPV6, 255]);
    frame.extend(ip.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(body);
    frame
}

/// The checksum of RFC 8200 §8.1.
fn checksum(from: Ipv6Addr, body: &[u8]) -> u16 {
    let len = u16::try_from(body.len()).unwrap_or(u16::MAX);
    let mut all = [&from.octets()[..], &ALL_NODES.octets()].concat();
    all.extend([0, 0]);
    all.extend(len.to_be_bytes());
    all.extend([0, 0, 0, ICMPV6]);
    all.extend(body);
    let words = all.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 9];

    #[test]
    fn a_request_and_a_reply() {
        let ip: Ipv4Addr = "203.0.113.9".parse().unwrap();
        let frames = announcements(ip.into(), MAC, false);
        let [request, reply] = frames.as_slice() else {
            panic!("{frames:?}")
        };
        for (frame, operation) in [(request, 1), (reply, 2)] {
            assert_eq!(frame.len(), 42);
            assert_eq!(frame[..6], [0xff; 6]);
            assert_eq!(frame[6..12], MAC);
            assert_eq!(frame[12..22], [8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
            assert_eq!(frame[22..28], MAC);
            assert_eq!(frame[28..32], ip.octets());
            assert_eq!(frame[38..42], ip.octets());
        }
        assert_eq!(reply[32..38], MAC);
    }

    #[test]
    fn an_advertisement_that_overrides() {
        let ip: Ipv6Addr = "2001:db8::9".parse().unwrap();
        let frames = announcements(ip.into(), MAC, false);
        let [frame] = frames.as_slice() else {
            panic!("{frames:?}")
        };
        assert_eq!(frame.len(), 14 + 40 + 32);
        assert_eq!(
            frame[..14],
            [0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 0x86, 0xdd]
        );
        assert_eq!(frame[20..22], [58, 255]);
        assert_eq!(frame[22..38], ip.octets());
        let body = &frame[54..];
        assert_eq!((body[0], body[4]), (136, 0x20));
        assert_eq!(body[8..24], ip.octets());
        assert_eq!(body[24..], [2, 1, 2, 0, 0, 0, 0, 9]);
        // A sum over what has its checksum in it is nothing.
        assert_eq!(checksum(ip, body), 0);
        let of_router = announcements(ip.into(), MAC, true);
        assert_eq!(of_router[0][58], 0xa0);
    }
}
