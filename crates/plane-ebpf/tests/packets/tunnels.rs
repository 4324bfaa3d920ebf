//! What tunnels are beyond a header: where they come from, and what routers say of them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use plimsoll_plane_ebpf::TunnelSources;

use crate::bench::{Bench, IPIP, VIP, VIP6, both, service};
use crate::build::{ACK, Packet, SYN, icmp};
use crate::read::Body;

const LISTENS: [&str; 2] = ["10.0.200.1:80/tcp", "[fd00::200:1]:80/tcp"];

#[test]
fn tunnels() {
    both(
        "tunnels",
        &[
            ("sources_vary_with_the_flow", sources_vary_with_the_flow),
            ("routers_say_what_fits", routers_say_what_fits),
            (
                "who_knows_no_flow_is_not_believed",
                who_knows_no_flow_is_not_believed,
            ),
        ],
    );
}

fn clients() -> impl Iterator<Item = (String, &'static str)> {
    (1..=200).flat_map(|n| {
        [
            (format!("192.0.2.9:{n}"), "10.0.200.1:80"),
            (format!("[2001:db8::9]:{n}"), "[fd00::200:1]:80"),
        ]
    })
}

/// The outer sources of many flows, each of which has one.
fn sources(bench: &Bench) -> BTreeSet<IpAddr> {
    let of = |(client, to): (String, &str)| {
        let mut seen = BTreeSet::new();
        for flags in [SYN, ACK, ACK] {
            seen.insert(bench.send(&Packet::tcp(&client, to, flags)).sent().ip.src);
        }
        assert_eq!(seen.len(), 1, "{client}");
        seen
    };
    clients().flat_map(of).collect()
}

fn sources_vary_with_the_flow(bench: &mut Bench) {
    type IsOfNet = fn(&IpAddr) -> bool;
    let cases: [(&str, &str, IsOfNet, TunnelSources); 2] = [
        (
            "10.0.1.1",
            "10.0.0.1",
            |ip| match ip {
                IpAddr::V4(ip) => (20..24).contains(&ip.octets()[1]) && ip.octets()[0] == 172,
                IpAddr::V6(_) => false,
            },
            TunnelSources {
                v4: Some(("172.20.0.0".parse().unwrap(), 14)),
                v6: None,
            },
        ),
        (
            "fd00::1:1",
            "fd00::1",
            |ip| ip.to_string().starts_with("fd00:7:8:9::"),
            TunnelSources {
                v4: None,
                v6: Some("fd00:7:8:9::".parse().unwrap()),
            },
        ),
    ];
    for (backend, own, is_of_net, sources_of) in cases {
        bench.bring([service("all", &LISTENS, IPIP, &[backend])]);
        let own: IpAddr = own.parse().unwrap();
        assert_eq!(sources(bench), BTreeSet::from([own]));
        bench.set_tunnel_sources(sources_of);
        let many = sources(bench);
        assert!(many.iter().all(is_of_net), "{many:?}");
        // 400 of 2¹⁸ or more: hardly two are the same.
        assert!(many.len() > 390, "{}", many.len());
        bench.set_tunnel_sources(TunnelSources::default());
        assert_eq!(sources(bench), BTreeSet::from([own]));
        bench.clear();
    }
}

/// What a router says that a tunnel's packet does not fit, as it came to it.
fn too_big(frame: &[u8], router: &str, mtu: u32) -> Vec<u8> {
    let sent = crate::read::read(frame).unwrap();
    let (kind, code) = if sent.ip.src.is_ipv4() {
        (3, 4)
    } else {
        (2, 0)
    };
    let quoted = &frame[14..frame.len().min(14 + 500)];
    icmp(router, &sent.ip.src.to_string(), kind, code, mtu, quoted)
}

fn routers_say_what_fits(bench: &mut Bench) {
    for (backend, over, router) in [
        ("10.0.1.1", 20, "10.0.9.9"),
        ("fd00::1:1", 40, "2001:db8:9::9"),
    ] {
        bench.bring([service("all", &LISTENS, IPIP, &[backend])]);
        bench.set_tunnel_sources(TunnelSources {
            v4: Some(("172.16.0.0".parse().unwrap(), 16)),
            v6: Some("fd00:7::".parse().unwrap()),
        });
        for (client, to, vip, headers) in [
            ("192.0.2.9:7", "10.0.200.1:80", VIP, 40),
            ("[2001:db8::9]:7", "[fd00::200:1]:80", VIP6, 60),
        ] {
            bench.refresh(backend);
            let mut packet = Packet::tcp(client, to, SYN);
            bench.send(&packet).sent();
            packet.flags = ACK;
            packet.payload = vec![0x5a; 1500 - over - headers];
            let sent = bench.send_raw(&packet.frame());
            // Said of what came out of the director, to whom it came from, and left to the host, too.
            let told = too_big(&sent, router, 1400);
            assert!(bench.counted("PATH_MTU", &told).is_passed());
            let answer = bench.counted("TOO_BIG", &packet.frame()).sent();
            assert_eq!(answer.ip.src.to_string(), vip);
            let Body::Icmp(_, _, mtu, _) = answer.ip.body else {
                panic!("{answer:?}");
            };
            assert_eq!(mtu as usize, 1400 - over);
            packet.payload.truncate(1400 - over - headers);
            assert_eq!(
                bench.send(&packet).sent().ip.inner().payload(),
                packet.payload
            );
            packet.payload.push(1);
            bench.counted("TOO_BIG", &packet.frame()).sent();
            // More than was said before is no news.
            let told = too_big(&sent, router, 1450);
            assert!(bench.send_frame(&told).is_passed());
            bench.counted("TOO_BIG", &packet.frame()).sent();
            // Less than anybody has to carry is not believed.
            let told = too_big(&sent, router, 100);
            assert!(bench.counted("PATH_MTU", &told).is_passed());
            // IPv6 has 1280 everywhere (RFC 8200 §5): in a tunnel over IPv4, too.
            let least = match (backend.contains(':'), client.contains("::")) {
                (true, _) => 1280,
                (false, true) => 1300,
                (false, false) => 552,
            };
            packet.payload.truncate(least - over - headers);
            bench.send(&packet).sent();
            packet.payload.push(1);
            bench.counted("TOO_BIG", &packet.frame()).sent();
            // In ten minutes all may be otherwise.
            bench.forget_path(backend);
            packet.payload = vec![0x5a; 1500 - over - headers];
            assert_eq!(
                bench.send(&packet).sent().ip.inner().payload(),
                packet.payload
            );
        }
        bench.clear();
    }
    bench.set_tunnel_sources(TunnelSources::default());
}

fn who_knows_no_flow_is_not_believed(bench: &mut Bench) {
    bench.bring([service("all", &LISTENS, IPIP, &["10.0.1.1"])]);
    let packet = Packet::tcp("192.0.2.9:7", "10.0.200.1:80", SYN);
    let sent = bench.send_raw(&packet.frame());
    let before = bench.reasons();
    // Another client, another port, another VIP, another backend; a tunnel of somebody else's, or from
    // another address.
    for at in [
        14 + 20 + 15,
        14 + 40 + 1,
        14 + 20 + 19,
        14 + 19,
        14 + 9,
        14 + 15,
    ] {
        let mut other = sent.clone();
        other[at] ^= 0x20;
        let quoted = &other[14..];
        let told = icmp("10.0.9.9", "10.0.0.1", 3, 4, 1000, quoted);
        assert!(bench.send_frame(&told).is_passed(), "{at}");
    }
    // To another than who sent it.
    let told = icmp("10.0.9.9", "10.0.0.2", 3, 4, 1000, &sent[14..]);
    assert!(bench.send_frame(&told).is_passed());
    // Cut short, everywhere.
    for len in 0..20 + 20 + 4 {
        let told = icmp("10.0.9.9", "10.0.0.1", 3, 4, 1000, &sent[14..14 + len]);
        assert!(bench.send_frame(&told).is_passed(), "{len}");
    }
    assert_eq!(bench.reasons(), before);
}
