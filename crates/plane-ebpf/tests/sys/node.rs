//! The program that unwraps, on packets built by hand.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use plimsoll_plane_ebpf::sys::{Globals, Map, Object, Program, TestContext};

use crate::lab::inside;

const OBJECT: &[u8] = include_bytes!("../../objects/node.o");

/// `TC_ACT_UNSPEC`, `TC_ACT_SHOT`.
const NEXT: u32 = u32::MAX;
const DROP: u32 = 2;

/// Places in `counts`.
const UNWRAPPED: u32 = 0;
const DROPPED_ECN: u32 = 1;

const IPIP: u8 = 4;
const IPV6: u8 = 41;
const OPTIONS: u8 = 60;
const UDP: u8 = 17;

const CE: u8 = 3;

struct Loaded {
    program: Program,
    maps: BTreeMap<String, Map>,
}

const VIP_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const VIP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// Here, as seen from a test run: it pretends that packets come by the loopback.
const NODE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

impl Loaded {
    fn new(link_header: u32) -> Self {
        let mut object = Object::parse(OBJECT).unwrap();
        let maps = object.create_maps(&BTreeMap::new()).unwrap();
        for key in [VIP_V4.to_ipv6_mapped(), VIP_V6] {
            maps["vips"]
                .update(&key.octets(), &[1, 0, 0, 0], 0)
                .unwrap();
        }
        let header = link_header.to_ne_bytes();
        let globals = Globals::from([("link_header", &header[..])]);
        let mut programs = object.load(&maps, &globals).unwrap();
        Self {
            program: programs.remove("plimsoll_node").unwrap(),
            maps,
        }
    }

    /// What becomes of a frame.
    fn run(&self, frame: &[u8]) -> (u32, Vec<u8>) {
        let run = self.program.test_run(frame, 1, &TestContext::default());
        let run = run.unwrap();
        (run.retval, run.data_out)
    }

    fn count(&self, place: u32) -> u64 {
        let values = self.maps["counts"].lookup_per_cpu(&place.to_ne_bytes());
        let values = values.unwrap().unwrap();
        values
            .iter()
            .map(|value| u64::from_ne_bytes(value[..8].try_into().unwrap()))
            .sum()
    }

    #[track_caller]
    fn is_left(&self, frame: &[u8]) {
        let before = self.count(UNWRAPPED);
        assert_eq!(self.run(frame), (NEXT, frame.to_vec()));
        assert_eq!(self.count(UNWRAPPED), before);
    }
}

/// The sum of RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

/// A packet with this payload.
fn packet(to: IpAddr, protocol: u8, ecn: u8, payload: &[u8]) -> Vec<u8> {
    match to {
        IpAddr::V4(to) => {
            let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
            let mut packet = vec![
                0x45, ecn, length[0], length[1], 0, 7, 0, 0, 64, protocol, 0, 0,
            ];
            packet.extend(Ipv4Addr::new(198, 51, 100, 9).octets());
            packet.extend(to.octets());
            let sum = checksum(&packet).to_be_bytes();
            packet[10..12].copy_from_slice(&sum);
            packet.extend(payload);
            packet
        }
        IpAddr::V6(to) => {
            let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
            let mut packet = vec![0x60, ecn << 4, 0, 0, length[0], length[1], protocol, 64];
            packet.extend("2001:db8:9::9".parse::<Ipv6Addr>().unwrap().octets());
            packet.extend(to.octets());
            packet.extend(payload);
            packet
        }
    }
}

/// A frame for the loopback.
fn frame(packet: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = if packet[0] >> 4 == 4 {
        [8, 0]
    } else {
        [0x86, 0xdd]
    };
    [&[0; 12][..], &kind, packet].concat()
}

fn inner(to: impl Into<IpAddr>, ecn: u8) -> Vec<u8> {
    packet(to.into(), UDP, ecn, b"0123456789 and so on")
}

/// A packet in a tunnel to here.
fn wrapped(outside: IpAddr, ecn: u8, inner: &[u8]) -> Vec<u8> {
    let protocol = if inner[0] >> 4 == 4 { IPIP } else { IPV6 };
    packet(outside, protocol, ecn, inner)
}

#[test]
fn all_four_kinds_are_unwrapped() {
    inside("all_four_kinds_are_unwrapped", || {
        let loaded = Loaded::new(14);
        for outside in NODE {
            for vip in [IpAddr::from(VIP_V4), IpAddr::from(VIP_V6)] {
                let inner = inner(vip, 0);
                let tunnelled = frame(&wrapped(outside, 0, &inner));
                assert_eq!(
                    loaded.run(&tunnelled),
                    (NEXT, frame(&inner)),
                    "{vip} in {outside}"
                );
            }
        }
        assert_eq!(loaded.count(UNWRAPPED), 4);
    });
}

#[test]
fn headers_with_options_go_as_a_whole() {
    inside("headers_with_options_go_as_a_whole", || {
        let loaded = Loaded::new(14);
        for vip in [IpAddr::from(VIP_V4), IpAddr::from(VIP_V6)] {
            let inner = inner(vip, 0);
            let inside = if vip.is_ipv4() { IPIP } else { IPV6 };
            // IPv4: four bytes of no operation. IPv6: how deep tunnels may go (RFC 2473 §4.1.1).
            let mut v4 = wrapped(NODE[0], 0, &inner);
            v4[0] = 0x46;
            v4.splice(20..20, [1; 4]);
            let limit = [&[inside, 0, 4, 1, 4, 1, 0, 0][..], &inner].concat();
            let v6 = packet(NODE[1], OPTIONS, 0, &limit);
            for outer in [v4, v6] {
                assert_eq!(loaded.run(&frame(&outer)), (NEXT, frame(&inner)));
            }
        }
    });
}

#[test]
fn congestion_is_passed_on() {
    inside("congestion_is_passed_on", || {
        let loaded = Loaded::new(14);
        for outside in NODE {
            for vip in [IpAddr::from(VIP_V4), IpAddr::from(VIP_V6)] {
                for (outer, before, after) in [
                    (1, 2, 2),
                    (CE, 2, CE),
                    (CE, 1, CE),
                    (CE, CE, CE),
                    (0, CE, CE),
                ] {
                    let tunnelled = frame(&wrapped(outside, outer, &inner(vip, before)));
                    let wanted = frame(&inner(vip, after));
                    assert_eq!(
                        loaded.run(&tunnelled),
                        (NEXT, wanted),
                        "{vip} in {outside}, {outer}, {before}"
                    );
                }
                let dropped = loaded.count(DROPPED_ECN);
                let deaf = frame(&wrapped(outside, CE, &inner(vip, 0)));
                assert_eq!(loaded.run(&deaf).0, DROP);
                assert_eq!(loaded.count(DROPPED_ECN), dropped + 1);
            }
        }
    });
}

#[test]
fn everything_else_is_left() {
    inside("everything_else_is_left", || {
        let loaded = Loaded::new(14);
        for outside in NODE {
            for vip in [IpAddr::from(VIP_V4), IpAddr::from(VIP_V6)] {
                loaded.is_left(&frame(&inner(vip, 0)));
                // A tunnel in a tunnel is not looked into twice, and a word that is none is not read.
                loaded.is_left(&frame(&packet(outside, UDP, 0, &inner(vip, 0))));
                let wrong = if vip.is_ipv4() { IPV6 } else { IPIP };
                loaded.is_left(&frame(&packet(outside, wrong, 0, &inner(vip, 0))));
                // For another host of the link: its address is not that of the loopback.
                let mut other = frame(&wrapped(outside, 0, &inner(vip, 0)));
                other[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
                loaded.is_left(&other);
            }
            for others in [IpAddr::from([192, 0, 2, 2]), "2001:db8::2".parse().unwrap()] {
                loaded.is_left(&frame(&wrapped(outside, 0, &inner(others, 0))));
            }
        }
        // Fragments, the first and the last.
        for bits in [[0x20, 0], [0, 1]] {
            let mut fragment = wrapped(NODE[0], 0, &inner(VIP_V4, 0));
            fragment[6..8].copy_from_slice(&bits);
            loaded.is_left(&frame(&fragment));
        }
    });
}

#[test]
fn packets_that_are_cut_anywhere_do_no_harm() {
    inside("packets_that_are_cut_anywhere_do_no_harm", || {
        let loaded = Loaded::new(14);
        for outside in NODE {
            for vip in [IpAddr::from(VIP_V4), IpAddr::from(VIP_V6)] {
                let inner = inner(vip, 0);
                let whole = frame(&wrapped(outside, CE, &inner));
                let header = if vip.is_ipv4() { 20 } else { 40 };
                let enough = whole.len() - inner.len() + header;
                // The kernel takes nothing that is shorter than the outer headers.
                let least = if outside.is_ipv4() { 34 } else { 54 };
                for length in least..enough {
                    loaded.is_left(&whole[..length]);
                }
            }
        }
        assert_eq!(loaded.count(UNWRAPPED), 0);
    });
}

#[test]
fn routers_pass_on_what_is_for_others() {
    inside("routers_pass_on_what_is_for_others", || {
        for (name, value) in [
            ("ipv4/conf/all/forwarding", "1"),
            ("ipv6/conf/all/forwarding", "1"),
        ] {
            std::fs::write(format!("/proc/sys/net/{name}"), value).unwrap();
        }
        let ip = |words: &str| {
            let status = std::process::Command::new("ip")
                .args(words.split(' '))
                .status();
            assert!(status.unwrap().success(), "{words}");
        };
        // Somebody else's node, by way of this host.
        ip("link add dummy type veth peer name other");
        ip("link set dummy up");
        ip("link set other up");
        ip("route add 203.0.113.7/32 dev dummy");
        ip("route add 2001:db8:7::7/128 dev dummy");
        let loaded = Loaded::new(14);
        for outside in [
            IpAddr::from([203, 0, 113, 7]),
            "2001:db8:7::7".parse().unwrap(),
        ] {
            loaded.is_left(&frame(&wrapped(outside, 0, &inner(VIP_V4, 0))));
        }
        // And those whose way ends here are unwrapped all the same.
        for outside in NODE {
            let inner = inner(VIP_V6, 0);
            let tunnelled = frame(&wrapped(outside, 0, &inner));
            assert_eq!(loaded.run(&tunnelled), (NEXT, frame(&inner)), "{outside}");
        }
    });
}
