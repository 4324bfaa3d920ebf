//! Direct routing and tunnels.

use plimsoll_model::Forward;

use crate::bench::{Bench, IPIP, VIP, VIP6, both, mac, mac6, service};
use crate::build::{ACK, OUR_MAC, Packet, SYN};
use crate::read::Body;

const CLIENT: &str = "192.0.2.7:4711";
const CLIENT6: &str = "[2001:db8::7]:4711";
const TO: &str = "10.0.200.1:80";
const TO6: &str = "[fd00::200:1]:80";
const LISTENS: [&str; 4] = [
    "10.0.200.1:80/tcp",
    "10.0.200.1:80/udp",
    "[fd00::200:1]:80/tcp",
    "[fd00::200:1]:80/udp",
];

#[test]
fn forward() {
    both(
        "forward",
        &[
            (
                "direct_routing_changes_but_the_link",
                direct_routing_changes_but_the_link,
            ),
            ("the_time_to_live_goes_down", the_time_to_live_goes_down),
            ("tunnels_over_ipv4", tunnels_over_ipv4),
            ("tunnels_over_ipv6", tunnels_over_ipv6),
            (
                "too_big_for_a_tunnel_is_told_to_the_sender",
                too_big_for_a_tunnel_is_told_to_the_sender,
            ),
            (
                "options_and_extension_headers_go_along",
                options_and_extension_headers_go_along,
            ),
        ],
    );
}

/// One packet of each family and protocol.
fn all() -> [Packet; 4] {
    [
        Packet::tcp(CLIENT, TO, SYN),
        Packet::udp(CLIENT, TO),
        Packet::tcp(CLIENT6, TO6, SYN),
        Packet::udp(CLIENT6, TO6),
    ]
}

fn direct_routing_changes_but_the_link(bench: &mut Bench) {
    bench.bring([
        service("four", &LISTENS[..2], Forward::Dr, &["10.0.1.1"]),
        service("six", &LISTENS[2..], Forward::Dr, &["fd00::1:1"]),
    ]);
    for packet in all() {
        let sent = bench.send(&packet).sent();
        let to = if packet.src.is_ipv4() {
            mac(1)
        } else {
            mac6(1)
        };
        assert_eq!((sent.to, sent.from), (to, OUR_MAC));
        assert_eq!(sent.ip.ends(), (packet.src, packet.dst));
        assert_eq!(sent.ip.ttl, packet.ttl - 1);
        assert_eq!(sent.ip.payload(), packet.payload);
    }
    let traffic = bench.traffic("10.0.1.1");
    assert_eq!((traffic.packets_in, traffic.flows), (2, 2));
    assert_eq!(traffic.bytes_in, 20 + 20 + 9 + 20 + 8 + 9);
}

/// Every TTL there is, so that every carry of the checksum comes by.
fn the_time_to_live_goes_down(bench: &mut Bench) {
    bench.bring([
        service("four", &LISTENS[..2], Forward::Dr, &["10.0.1.1"]),
        service("six", &LISTENS[2..], Forward::Dr, &["fd00::1:1"]),
    ]);
    for mut packet in all() {
        for ttl in 2..=255 {
            packet.ttl = ttl;
            packet.class = ttl;
            assert_eq!(bench.send(&packet).sent().ip.ttl, ttl - 1);
        }
        for ttl in [0, 1] {
            packet.ttl = ttl;
            assert!(bench.counted("TTL", &packet.frame()).is_dropped());
        }
    }
}

fn tunnel(bench: &mut Bench, backend: &str, v4: bool) {
    bench.bring([service("all", &LISTENS, IPIP, &[backend])]);
    for mut packet in all() {
        // Of the traffic class all is copied, the bits of ECN as well.
        for class in [0, 0x03, 0xb8, 0xff] {
            packet.class = class;
            let sent = bench.send(&packet).sent();
            assert_eq!(sent.to, if v4 { mac(1) } else { mac6(1) });
            let outer = &sent.ip;
            let source = if v4 { "10.0.0.1" } else { "fd00::1" };
            assert_eq!(outer.src.to_string(), source);
            assert_eq!(outer.dst.to_string(), backend);
            assert_eq!((outer.ttl, outer.class, outer.df), (64, class, true));
            let inner = outer.inner();
            assert_eq!(inner.ends(), (packet.src, packet.dst));
            assert_eq!((inner.ttl, inner.class), (packet.ttl - 1, class));
            assert_eq!(inner.payload(), packet.payload);
        }
    }
}

fn tunnels_over_ipv4(bench: &mut Bench) {
    tunnel(bench, "10.0.1.1", true);
}

fn tunnels_over_ipv6(bench: &mut Bench) {
    tunnel(bench, "fd00::1:1", false);
    // The label is that of the flow: another flow, another label.
    let label = |port: u16, flags| {
        let client = format!("192.0.2.9:{port}");
        bench.send(&Packet::tcp(&client, TO, flags)).sent().ip.label
    };
    let labels: std::collections::BTreeSet<u32> = (1..=16).map(|p| label(p, SYN)).collect();
    assert!(labels.len() > 12, "{labels:?}");
    assert_eq!(label(1, SYN), label(1, ACK));
}

fn too_big_for_a_tunnel_is_told_to_the_sender(bench: &mut Bench) {
    bench.bring([
        service("four", &LISTENS[..2], IPIP, &["10.0.1.1"]),
        service("six", &LISTENS[2..], IPIP, &["fd00::1:1"]),
    ]);
    for mut packet in all() {
        let v4 = packet.src.is_ipv4();
        let (l3, l4) = (
            if v4 { 20 } else { 40 },
            if packet.proto == 6 { 20 } else { 8 },
        );
        let most = 1500 - l3;
        packet.payload = vec![0x5a; most - l3 - l4];
        let sent = bench.send(&packet).sent();
        assert_eq!(sent.ip.inner().payload(), packet.payload);
        packet.payload.push(0xa5);
        let frame = packet.frame();
        let sent = bench.counted("TOO_BIG", &frame).sent();
        assert_eq!((sent.to, sent.from), (crate::build::ROUTER_MAC, OUR_MAC));
        assert_eq!(sent.ip.src.to_string(), if v4 { VIP } else { VIP6 });
        assert_eq!(sent.ip.dst, packet.src.ip());
        let Body::Icmp(kind, code, rest, quoted) = &sent.ip.body else {
            panic!("{sent:?}");
        };
        assert_eq!((*kind, *code), if v4 { (3, 4) } else { (2, 0) });
        assert_eq!(*rest as usize, most);
        assert!(quoted.len() >= l3 + 8);
        assert_eq!(quoted[..], frame[14..14 + quoted.len()]);
    }
}

fn options_and_extension_headers_go_along(bench: &mut Bench) {
    bench.bring([
        service("four", &LISTENS[..2], Forward::Dr, &["10.0.1.1"]),
        service("six", &LISTENS[2..], IPIP, &["fd00::1:1"]),
    ]);
    for len in [4, 8, 40] {
        let mut packet = Packet::tcp(CLIENT, TO, SYN);
        packet.options = vec![1; len];
        let sent = bench.send(&packet).sent();
        assert_eq!(sent.ip.ends(), (packet.src, packet.dst));
    }
    // Destination options, then hop-by-hop ones at the front; with padding of one option each.
    let header = |next: u8, words: u8| {
        let pad = words * 8 + 4;
        [vec![next, words, 1, pad], vec![0; usize::from(pad)]].concat()
    };
    for count in 1..=8 {
        let mut packet = Packet::udp(CLIENT6, TO6);
        packet.first = Some(60);
        for i in 1..=count {
            let next = if i == count { packet.proto } else { 60 };
            packet.options.extend(header(next, i % 3));
        }
        if count > 6 {
            assert!(bench.counted("HEADERS", &packet.frame()).is_dropped());
        } else if count > 1 {
            // The independent parser stops at a second header of a kind.
            let told = bench.try_frame(&packet.frame()).unwrap_err();
            assert!(told.starts_with("protocol 60 "), "{told}");
        } else {
            let sent = bench.send(&packet).sent();
            assert_eq!(sent.ip.inner().ends(), (packet.src, packet.dst));
        }
    }
}
