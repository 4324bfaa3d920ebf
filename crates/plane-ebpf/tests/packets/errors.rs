//! ICMP errors find who sent what they quote.

use std::net::SocketAddr;

use plimsoll_model::Forward;

use crate::bench::{Bench, IPIP, VIP, VIP6, both, mac, mac6, service};
use crate::build::{ACK, Packet, ROUTER_MAC, SYN, icmp};
use crate::read::{Body, Sent};

const LISTENS: [&str; 2] = ["10.0.200.1:80/tcp", "10.0.200.1:80/udp"];
const LISTENS6: [&str; 2] = ["[fd00::200:1]:80/tcp", "[fd00::200:1]:80/udp"];
/// A router on the way.
const ROUTER: &str = "198.51.100.9";
const ROUTER6: &str = "2001:db8:9::9";

#[test]
fn errors() {
    both(
        "errors",
        &[
            ("errors_reach_the_backend", errors_reach_the_backend),
            (
                "errors_reach_nats_backend_as_about_its_own_packets",
                errors_reach_nats_backend_as_about_its_own_packets,
            ),
            (
                "errors_about_translated_packets_reach_the_client",
                errors_about_translated_packets_reach_the_client,
            ),
            (
                "errors_about_no_flow_are_the_hosts",
                errors_about_no_flow_are_the_hosts,
            ),
            ("errors_go_by_the_hash_too", errors_go_by_the_hash_too),
        ],
    );
}

/// One flow of each family and protocol, which the director knows.
fn flows(bench: &Bench) -> Vec<Packet> {
    let (four, six) = (
        ("192.0.2.7:4711", "10.0.200.1:80"),
        ("[2001:db8::7]:4711", "[fd00::200:1]:80"),
    );
    let mut flows = Vec::new();
    for (client, vip) in [four, six] {
        flows.extend([Packet::tcp(client, vip, SYN), Packet::udp(client, vip)]);
    }
    for flow in &flows {
        bench.send(flow).sent();
    }
    flows
}

/// An error about a packet, quoting so much of it.
fn error(about: &Packet, from: &str, to: &str, quoted: usize) -> (Vec<u8>, Vec<u8>) {
    let inner = about.ip(&about.transport());
    let inner = inner[..quoted.min(inner.len())].to_vec();
    let kinds = if about.src.is_ipv4() { (3, 4) } else { (2, 0) };
    (icmp(from, to, kinds.0, kinds.1, 1400, &inner), inner)
}

fn quoted(sent: &Sent) -> &[u8] {
    match &sent.ip.body {
        Body::Icmp(3, 4, 1400, quoted) | Body::Icmp(2, 0, 1400, quoted) => quoted,
        other => panic!("{other:?}"),
    }
}

/// Of a quoted packet: its ends, after its own IPv4 header was checked.
fn ends(quoted: &[u8]) -> (SocketAddr, SocketAddr) {
    let (from, to, ports): (std::net::IpAddr, std::net::IpAddr, &[u8]) = if quoted[0] >> 4 == 4 {
        let (ip, ports) = etherparse::Ipv4Header::from_slice(quoted).unwrap();
        assert_eq!(ip.calc_header_checksum(), ip.header_checksum);
        (ip.source.into(), ip.destination.into(), ports)
    } else {
        let (ip, ports) = etherparse::Ipv6Header::from_slice(quoted).unwrap();
        (ip.source.into(), ip.destination.into(), ports)
    };
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    (SocketAddr::new(from, port(0)), SocketAddr::new(to, port(2)))
}

fn errors_reach_the_backend(bench: &mut Bench) {
    bench.bring([
        service("four", &LISTENS, Forward::Dr, &["10.0.1.1", "10.0.1.2"]),
        service("six", &LISTENS6, IPIP, &["fd00::1:1", "fd00::1:2"]),
    ]);
    for flow in flows(bench) {
        let about = flow.reply(flow.dst, ACK);
        let v4 = flow.src.is_ipv4();
        let (router, vip) = if v4 { (ROUTER, VIP) } else { (ROUTER6, VIP6) };
        let chosen = bench.send(&flow).sent().to;
        for len in [28, 48, 60, 500] {
            if !v4 && len < 48 {
                continue;
            }
            let (frame, inner) = error(&about, router, vip, len);
            let sent = bench.send_frame(&frame).sent();
            assert_eq!(sent.to, chosen);
            let ip = if v4 { &sent.ip } else { sent.ip.inner() };
            assert_eq!(
                (ip.src.to_string(), ip.dst.to_string()),
                (router.into(), vip.into())
            );
            match &ip.body {
                Body::Icmp(.., quoted) => assert_eq!(*quoted, inner),
                other => panic!("{other:?}"),
            }
        }
    }
}

fn errors_reach_nats_backend_as_about_its_own_packets(bench: &mut Bench) {
    bench.bring([
        service("four", &LISTENS, Forward::Nat, &["10.0.1.1:9000"]),
        service("six", &LISTENS6, Forward::Nat, &["[fd00::1:1]:9000"]),
    ]);
    for flow in flows(bench) {
        let about = flow.reply(flow.dst, ACK);
        let v4 = flow.src.is_ipv4();
        let (router, vip) = if v4 { (ROUTER, VIP) } else { (ROUTER6, VIP6) };
        let backend: SocketAddr = if v4 {
            "10.0.1.1:9000"
        } else {
            "[fd00::1:1]:9000"
        }
        .parse()
        .unwrap();
        for len in [48, 49, 500] {
            let (frame, inner) = error(&about, router, vip, len);
            let sent = bench.send_frame(&frame).sent();
            assert_eq!(sent.to, if v4 { mac(1) } else { mac6(1) });
            assert_eq!(
                (sent.ip.src.to_string(), sent.ip.dst),
                (router.into(), backend.ip())
            );
            assert_eq!(quoted(&sent).len(), inner.len());
            assert_eq!(ends(quoted(&sent)), (backend, flow.src));
        }
    }
}

fn errors_about_translated_packets_reach_the_client(bench: &mut Bench) {
    bench.bring([
        service("four", &LISTENS, Forward::Nat, &["10.0.1.1:9000"]),
        service("six", &LISTENS6, Forward::Nat, &["[fd00::1:1]:9000"]),
    ]);
    for flow in flows(bench) {
        let v4 = flow.src.is_ipv4();
        let backend: SocketAddr = if v4 {
            "10.0.1.1:9000"
        } else {
            "[fd00::1:1]:9000"
        }
        .parse()
        .unwrap();
        let mut about = flow.clone();
        about.dst = backend;
        let client = flow.src.ip().to_string();
        let (router, server) = (if v4 { ROUTER } else { ROUTER6 }, backend.ip().to_string());
        // From the backend itself it comes from the VIP; a router keeps its name.
        for (from, seen) in [
            (&server[..], flow.dst.ip().to_string()),
            (router, router.to_owned()),
        ] {
            let (frame, _) = error(&about, from, &client, 500);
            let sent = bench.send_frame(&frame).sent();
            assert_eq!(sent.to, ROUTER_MAC);
            assert_eq!(
                (sent.ip.src.to_string(), sent.ip.dst.to_string()),
                (seen, client.clone())
            );
            assert_eq!(ends(quoted(&sent)), (flow.src, flow.dst));
        }
        // About nothing of ours.
        about.src.set_port(1);
        let (frame, _) = error(&about, router, &client, 500);
        assert!(bench.send_frame(&frame).is_passed());
    }
}

fn errors_about_no_flow_are_the_hosts(bench: &mut Bench) {
    let four = service("four", &LISTENS, Forward::Dr, &["10.0.1.1"]);
    let other = service("other", &["10.0.200.2:80/tcp"], Forward::Dr, &["10.0.1.1"]);
    bench.bring([four, other]);

    let about = Packet::tcp("10.0.200.1:80", "192.0.2.7:1", ACK);
    let (frame, inner) = error(&about, ROUTER, VIP, 500);
    assert!(bench.counted("ICMP_UNKNOWN", &frame).is_passed());
    // Too little of a packet, options before the ports, a later fragment, another protocol.
    let (short, _) = error(&about, ROUTER, VIP, 27);
    let quote = |change: fn(&mut Vec<u8>)| {
        let mut inner = inner.clone();
        change(&mut inner);
        icmp(ROUTER, VIP, 11, 0, 0, &inner)
    };
    for frame in [
        short,
        quote(|ip| ip[0] = 0x46),
        quote(|ip| ip[7] = 1),
        quote(|ip| ip[9] = 1),
    ] {
        assert!(bench.counted("ICMP_UNKNOWN", &frame).is_passed());
    }
    // About a flow of another VIP than it comes to.
    let flow = Packet::tcp("192.0.2.7:1", "10.0.200.1:80", SYN);
    bench.send(&flow).sent();
    bench.send_frame(&error(&about, ROUTER, VIP, 500).0).sent();
    let (frame, _) = error(&about, ROUTER, "10.0.200.2", 500);
    assert!(bench.counted("ICMP_UNKNOWN", &frame).is_passed());
}

/// By a hash, the backend of a flow that is not remembered is known all the same.
fn errors_go_by_the_hash_too(bench: &mut Bench) {
    let mh = plimsoll_model::SchedulerKind::Mh;
    let backends = ["10.0.1.1", "10.0.1.2", "10.0.1.3"];
    bench.bring([crate::bench::by(
        mh,
        "four",
        &LISTENS,
        Forward::Dr,
        &backends,
    )]);
    for client in 1..30 {
        let flow = Packet::udp(&format!("192.0.2.{client}:1"), "10.0.200.1:80");
        let (frame, _) = error(&flow.reply(flow.dst, 0), ROUTER, VIP, 500);
        let told = bench.send_frame(&frame).sent().to[5];
        assert_eq!(told, bench.chosen(&flow));
    }
}
