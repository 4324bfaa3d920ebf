//! NAT, both ways.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use plimsoll_model::{Forward, SchedulerKind};
use plimsoll_plane_ebpf::layout::{CONFIG_NAT, Config};
use plimsoll_plane_ebpf::sys::Map;
use zerocopy::FromBytes;

use crate::bench::{Bench, both, by, mac, mac6, service};
use crate::build::{ACK, FIN, Packet, ROUTER_MAC, RST, SYN, UDP};
use crate::read::Body;
use crate::table::{age_all, hz, recount};

const LISTENS: [&str; 2] = ["10.0.200.1:80/tcp", "10.0.200.1:80/udp"];
const LISTENS6: [&str; 2] = ["[fd00::200:1]:80/tcp", "[fd00::200:1]:80/udp"];
const BACKENDS: [&str; 2] = ["10.0.1.1:9000", "[fd00::1:1]:9000"];

#[test]
fn nat() {
    both(
        "nat",
        &[
            (
                "destination_there_and_source_back",
                destination_there_and_source_back,
            ),
            ("udp_checksums_of_nought", udp_checksums_of_nought),
            (
                "replies_are_looked_for_before_services_are_there",
                replies_are_looked_for_before_services_are_there,
            ),
            ("what_replies_say_is_heard", what_replies_say_is_heard),
            (
                "a_port_in_use_at_the_backend_is_not_taken_twice",
                a_port_in_use_at_the_backend_is_not_taken_twice,
            ),
            (
                "a_port_of_what_has_ended_is_free",
                a_port_of_what_has_ended_is_free,
            ),
            (
                "a_port_in_use_leads_to_another_backend",
                a_port_in_use_leads_to_another_backend,
            ),
            ("floods_leave_nothing_behind", floods_leave_nothing_behind),
            (
                "without_a_port_the_packets_own_stays",
                without_a_port_the_packets_own_stays,
            ),
        ],
    );
}

fn bring(bench: &mut Bench) {
    bench.bring([
        service("four", &LISTENS, Forward::Nat, &BACKENDS[..1]),
        service("six", &LISTENS6, Forward::Nat, &BACKENDS[1..]),
    ]);
}

fn client(v4: bool, port: u16) -> (String, &'static str) {
    match v4 {
        true => (format!("192.0.2.7:{port}"), "10.0.200.1:80"),
        false => (format!("[2001:db8::7]:{port}"), "[fd00::200:1]:80"),
    }
}

fn destination_there_and_source_back(bench: &mut Bench) {
    bring(bench);
    for v4 in [true, false] {
        let backend: SocketAddr = BACKENDS[usize::from(!v4)].parse().unwrap();
        for proto in [6, 17] {
            for port in 1000..1100 {
                let (from, to) = client(v4, port);
                let mut packet = Packet::tcp(&from, to, SYN);
                packet.proto = proto;
                packet.payload = vec![port as u8; usize::from(port % 7)];
                let sent = bench.send(&packet).sent();
                assert_eq!(sent.to, if v4 { mac(1) } else { mac6(1) });
                assert_eq!(sent.ip.ends(), (packet.src, backend));
                assert_eq!(sent.ip.payload(), packet.payload);
                assert_eq!(sent.ip.ttl, packet.ttl - 1);
                let reply = packet.reply(backend, SYN | ACK);
                let sent = bench.send(&reply).sent();
                assert_eq!(sent.to, ROUTER_MAC);
                assert_eq!(sent.ip.ends(), (packet.dst, packet.src));
                assert_eq!(sent.ip.payload(), packet.payload);
            }
        }
    }
    let traffic = bench.traffic("10.0.1.1");
    assert_eq!(
        (traffic.packets_in, traffic.packets_out, traffic.flows),
        (200, 200, 200)
    );
    // What a backend sends on its own is none of ours.
    let own = Packet::tcp("10.0.1.1:9000", "192.0.2.7:999", ACK);
    assert!(bench.send(&own).is_passed());
    let own = Packet::udp("10.0.1.1:9001", "192.0.2.7:1000");
    assert!(bench.send(&own).is_passed());
}

fn udp_checksums_of_nought(bench: &mut Bench) {
    bring(bench);
    // Without a checksum it stays without one.
    let mut packet = Packet::udp("192.0.2.7:4711", "10.0.200.1:80");
    packet.unsummed = true;
    let backend = BACKENDS[0].parse().unwrap();
    for packet in [packet.clone(), packet.reply(backend, 0)] {
        match bench.send(&packet).sent().ip.body {
            Body::Udp(udp, _) => assert_eq!(udp.checksum, 0),
            other => panic!("{other:?}"),
        }
    }
    // One that comes out as 0 is written as 0xffff: 0 would be none. Two bytes of payload go
    // through all values, one of which is it.
    for v4 in [true, false] {
        let (from, to) = client(v4, 4712);
        let mut seen = 0;
        for value in 0..=u16::MAX {
            let mut packet = Packet::udp(&from, to);
            packet.payload = value.to_be_bytes().to_vec();
            let mut translated = packet.clone();
            translated.dst = BACKENDS[usize::from(!v4)].parse().unwrap();
            let sum = translated.transport();
            if sum[6..8] != [0xff, 0xff] {
                continue;
            }
            seen += 1;
            match bench.send(&packet).sent().ip.body {
                Body::Udp(udp, _) => assert_eq!(udp.checksum, 0xffff, "{value}"),
                other => panic!("{other:?}"),
            }
        }
        assert!(seen > 0);
    }
}

fn what_replies_say_is_heard(bench: &mut Bench) {
    bring(bench);
    let (from, to) = client(true, 4711);
    let backend: SocketAddr = BACKENDS[0].parse().unwrap();
    let client = |flags| Packet::tcp(&from, to, flags);
    let server = |flags| client(0).reply(backend, flags);
    for flags in [SYN, ACK] {
        bench.send(&client(flags)).sent();
    }
    assert_eq!(bench.counts("10.0.1.1"), (1, 0));
    bench.send(&server(FIN | ACK)).sent();
    assert_eq!(bench.counts("10.0.1.1"), (0, 1));
    // The same port anew: another flow in the place of the old one.
    bench.send(&client(SYN)).sent();
    bench.send(&client(ACK)).sent();
    assert_eq!(bench.counts("10.0.1.1"), (1, 0));
    bench.send(&server(RST)).sent();
    assert_eq!(bench.counts("10.0.1.1"), (0, 1));
    assert_eq!(bench.traffic("10.0.1.1").flows, 2);
}

/// One client's port towards one backend leads back to one VIP only.
fn a_port_in_use_at_the_backend_is_not_taken_twice(bench: &mut Bench) {
    bench.bring([
        service("one", &["10.0.200.1:80/udp"], Forward::Nat, &BACKENDS[..1]),
        service("two", &["10.0.200.2:80/udp"], Forward::Nat, &BACKENDS[..1]),
    ]);
    let one = Packet::udp("192.0.2.7:4711", "10.0.200.1:80");
    let two = Packet::udp("192.0.2.7:4711", "10.0.200.2:80");
    bench.send(&one).sent();
    assert!(bench.counted("NAT_TAKEN", &two.frame()).is_dropped());
    let reply = bench
        .send(&one.reply(BACKENDS[0].parse().unwrap(), 0))
        .sent();
    assert_eq!(reply.ip.ends(), (one.dst, one.src));
    assert_eq!(one.proto, UDP);
}

fn without_a_port_the_packets_own_stays(bench: &mut Bench) {
    let listens = ["10.0.200.1:1000-2000/tcp", "10.0.200.1:*/udp"];
    bench.bring([service("all", &listens, Forward::Nat, &["10.0.1.2"])]);
    for (proto, port) in [(6, 1000), (6, 2000), (17, 1), (17, 65535)] {
        let mut packet = Packet::tcp("192.0.2.7:4711", &format!("10.0.200.1:{port}"), SYN);
        packet.proto = proto;
        let backend = SocketAddr::new("10.0.1.2".parse().unwrap(), port);
        assert_eq!(bench.send(&packet).sent().ip.ends(), (packet.src, backend));
        let sent = bench.send(&packet.reply(backend, SYN | ACK)).sent();
        assert_eq!(sent.ip.ends(), (packet.dst, packet.src));
    }
}

/// A client's connection to a VIP, made or closed by both.
fn make(bench: &mut Bench, vip: &str, backend: SocketAddr) -> Packet {
    let client = |flags| Packet::tcp("192.0.2.7:4711", vip, flags);
    for flags in [SYN, ACK] {
        assert_eq!(bench.send(&client(flags)).sent().ip.ends().1, backend);
    }
    client(ACK)
}

/// A connection that has ended does not keep its client's port from another VIP, though what comes late
/// is still known.
fn a_port_of_what_has_ended_is_free(bench: &mut Bench) {
    bench.bring([
        service("one", &["10.0.200.1:80/tcp"], Forward::Nat, &BACKENDS[..1]),
        service("two", &["10.0.200.2:80/tcp"], Forward::Nat, &BACKENDS[..1]),
    ]);
    let backend: SocketAddr = BACKENDS[0].parse().unwrap();
    let one = make(bench, "10.0.200.1:80", backend);
    let two = Packet::tcp("192.0.2.7:4711", "10.0.200.2:80", SYN);
    // Who asks while it is taken is told at once.
    let told = bench.counted("NAT_TAKEN", &two.frame()).sent();
    assert_eq!(told.ip.ends(), (two.dst, two.src));
    let mut fin = one.clone();
    fin.flags = FIN | ACK;
    bench.send(&fin).sent();
    let told = bench.counted("NAT_TAKEN", &two.frame()).sent();
    assert_eq!(told.ip.ends(), (two.dst, two.src));
    let reply = bench.send(&one.reply(backend, FIN | ACK)).sent();
    assert_eq!(reply.ip.ends(), (one.dst, one.src));
    make(bench, "10.0.200.2:80", backend);
    let reply = bench.send(&two.reply(backend, ACK)).sent();
    assert_eq!(reply.ip.ends(), (two.dst, two.src));
}

/// Another backend is taken where the client's port is free.
fn a_port_in_use_leads_to_another_backend(bench: &mut Bench) {
    let backends = [
        "10.0.1.1:9000",
        "10.0.1.2:9000",
        "10.0.1.3:9000",
        "10.0.1.4:9000",
    ];
    for kind in [SchedulerKind::Mh, SchedulerKind::Rr] {
        let services = [("one", "10.0.200.1:80/tcp"), ("two", "10.0.200.2:80/tcp")];
        bench.bring(
            services.map(|(name, listen)| by(kind, name, &[listen], Forward::Nat, &backends)),
        );
        for port in 1000..1200 {
            let mut at = Vec::new();
            for vip in ["10.0.200.1:80", "10.0.200.2:80"] {
                let packet = Packet::tcp(&format!("192.0.2.7:{port}"), vip, SYN);
                let sent = bench.send(&packet).sent();
                let reply = packet.reply(sent.ip.ends().1, SYN | ACK);
                assert_eq!(
                    bench.send(&reply).sent().ip.ends(),
                    (packet.dst, packet.src)
                );
                at.push(sent.ip.ends().1);
            }
            assert_ne!(at[0], at[1]);
        }
        bench.bring([]);
    }
}

/// What a flood of half-open connections leaves behind gives way to whoever comes new.
fn floods_leave_nothing_behind(bench: &mut Bench) {
    bring(bench);
    let backend: SocketAddr = BACKENDS[0].parse().unwrap();
    let stands = make(bench, "10.0.200.1:80", backend);
    for n in 0..20_000_u32 {
        let from = format!("198.51.{}.{}:{}", n >> 8 & 127, n & 255, 1000 + n % 5000);
        let _flood = bench.send(&Packet::tcp(&from, "10.0.200.1:80", SYN));
    }
    age_all(bench, hz(bench));
    for n in 0..100 {
        let from = format!("203.0.113.7:{}", 2000 + n);
        let packet = Packet::tcp(&from, "10.0.200.1:80", SYN);
        bench.send(&packet).sent();
        let sent = bench.send(&packet.reply(backend, SYN | ACK)).sent();
        assert_eq!(sent.ip.ends(), (packet.dst, packet.src));
    }
    assert_eq!(bench.send(&stands).sent().ip.ends().1, backend);
    recount(bench);
}

/// Whoever is given to the first of many new services has replies that go by it.
fn replies_are_looked_for_before_services_are_there(bench: &mut Bench) {
    const COUNT: usize = 60;
    let flags = |config: &Map| {
        let all = config.entries().unwrap();
        Config::read_from_bytes(&all[0].1).unwrap().flags
    };
    let maps = ["listens", "config"].map(|name| bench.map(name).info().id);
    let [listens, config] = maps.map(|id| Map::from_id(id).unwrap());
    assert_eq!(flags(&config) & CONFIG_NAT, 0);
    let new = (0..COUNT).map(|n| {
        let listen = format!("10.0.200.1:{}/tcp", 1000 + n);
        service(&format!("s{n}"), &[&listen], Forward::Nat, &BACKENDS[..1])
    });
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let begun = Instant::now();
            loop {
                let there = listens.entries().unwrap().len();
                assert!(there == 0 || flags(&config) & CONFIG_NAT != 0, "{there}");
                if there == COUNT || begun.elapsed() > Duration::from_secs(60) {
                    return there;
                }
            }
        });
        bench.bring(new);
        assert_eq!(watch.join().unwrap(), COUNT);
    });
    // No longer than there is such a service.
    bench.bring([]);
    assert_eq!(flags(&config) & CONFIG_NAT, 0);
}
