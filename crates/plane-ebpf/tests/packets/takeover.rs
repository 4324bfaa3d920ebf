//! A process with another layout of the maps takes over with all that there is: here from ours to that of
//! `PLIMSOLL_OTHER_LAYOUT` (see `bpf/layout.h`), whose structures have other sizes and places, and back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use plimsoll_model::{Forward, SchedulerKind, Service};
use plimsoll_plane::{BackendCounters, FlowFilter, Plane};
use plimsoll_plane_ebpf::kernel::{Clock, Layout, Takeover};
use plimsoll_plane_ebpf::sys::hooks::{self, TcOptions};
use plimsoll_plane_ebpf::sys::{Map, MapSpec, Object};

use crate::bench::{Bench, IPIP, both, by, service};
use crate::build::{ACK, Packet, SYN};
use crate::read::Body;

pub(crate) const OTHER: Layout<'static> = Layout {
    version: 1000,
    tc: include_bytes!("../bpf/other/director-tc.o"),
    xdp: include_bytes!("../bpf/other/director-xdp.o"),
    carry: include_bytes!("../bpf/other/carry.o"),
};

#[test]
fn takeover() {
    both(
        "takeover",
        &[
            ("there_and_back", there_and_back),
            ("begun_and_gone_on_from", begun_and_gone_on_from),
            ("what_cannot_be_read_stays", what_cannot_be_read_stays),
        ],
    );
}

fn begin(bench: &mut Bench, layout: &Layout<'_>) -> Takeover {
    let hz = Clock::read().unwrap().hz();
    let begun = Takeover::begin(bench.netlink(), layout, hz).unwrap();
    begun.expect("there is another layout")
}

/// Services of each kind, in turn and by hash.
fn services() -> Vec<Service> {
    let four = ["10.0.1.1:9000", "10.0.1.2:9000", "10.0.1.3:9000"];
    let six = ["[fd00::1:1]:9000", "[fd00::1:2]:9000", "[fd00::1:3]:9000"];
    let plain = ["10.0.1.1", "10.0.1.2", "10.0.1.3"];
    let plain6 = ["fd00::1:1", "fd00::1:2", "fd00::1:3"];
    let mh = SchedulerKind::Mh;
    vec![
        service(
            "dr",
            &["10.0.200.1:80/tcp", "10.0.200.1:80/udp"],
            Forward::Dr,
            &plain,
        ),
        service(
            "dr6",
            &["[fd00::200:1]:80/tcp", "[fd00::200:1]:80-90/udp"],
            Forward::Dr,
            &plain6,
        ),
        service(
            "nat",
            &["10.0.200.2:80/tcp", "10.0.200.2:80/udp"],
            Forward::Nat,
            &four,
        ),
        service(
            "nat6",
            &["[fd00::200:2]:80/tcp", "[fd00::200:2]:80/udp"],
            Forward::Nat,
            &six,
        ),
        by(mh, "tunnel", &["10.0.200.3:*/tcp"], IPIP, &plain),
    ]
}

/// So many flows of each service and protocol.
fn clients(from: u16, count: u16) -> Vec<Packet> {
    let mut packets = Vec::new();
    for n in from..from + count {
        for (client, vip) in [
            ("192.0.2.7", "10.0.200.1"),
            ("192.0.2.7", "10.0.200.2"),
            ("2001:db8::7", "fd00::200:1"),
            ("2001:db8::7", "fd00::200:2"),
        ] {
            let at = |ip: &str, port| match ip.contains(':') {
                true => format!("[{ip}]:{port}"),
                false => format!("{ip}:{port}"),
            };
            let (client, vip) = (at(client, n), at(vip, 80));
            packets.push(Packet::tcp(&client, &vip, SYN));
            packets.push(Packet::udp(&client, &vip));
        }
        packets.push(Packet::tcp(
            &format!("192.0.2.8:{n}"),
            "10.0.200.3:443",
            SYN,
        ));
    }
    packets
}

/// Where a packet goes: the link-layer address, and the ends of what the backend sees.
fn way(bench: &Bench, packet: &Packet) -> ([u8; 6], SocketAddr, SocketAddr) {
    let sent = bench.send(packet).sent();
    let (src, dst) = match &sent.ip.body {
        Body::Tunnel(inner) => inner.ends(),
        _ => sent.ip.ends(),
    };
    (sent.to, src, dst)
}

/// The same packets as of established flows.
fn established(packets: &[Packet]) -> Vec<Packet> {
    let mut packets = packets.to_vec();
    for packet in packets.iter_mut().filter(|packet| packet.proto == 6) {
        packet.flags = ACK;
    }
    packets
}

/// All flows, without their ages.
fn flows(bench: &mut Bench) -> BTreeSet<String> {
    let page = bench.plane().flows(&FlowFilter::default(), 0).unwrap();
    assert_eq!(page.next, None);
    let told = page.flows.iter();
    told.map(|flow| {
        format!(
            "{} {:?} {:?} {:?} {}",
            flow.client, flow.listen, flow.service, flow.backend, flow.phase
        )
    })
    .collect()
}

fn counts(bench: &mut Bench) -> Vec<(String, Vec<(String, BackendCounters)>)> {
    let services = bench.plane().counters().services.into_iter();
    let all = services.map(|service| {
        let backends = service.backends.into_iter();
        (
            service.name,
            backends.map(|(a, c)| (a.to_string(), c)).collect(),
        )
    });
    all.collect()
}

fn there_and_back(bench: &mut Bench) {
    bench.bring(services());
    let first = clients(1000, 40);
    for packet in first.iter().chain(&established(&first)) {
        bench.send(packet).sent();
    }
    let half_open = clients(2000, 3);
    for packet in &half_open {
        bench.send(packet).sent();
    }
    let all: Vec<Packet> = (established(&first).into_iter()).chain(half_open).collect();
    let held = flows(bench);
    assert_eq!(held.len(), 43 * 9);
    let ways: Vec<_> = all.iter().map(|packet| way(bench, packet)).collect();
    let counted = counts(bench);
    bench.restart(|bench| {
        begin(bench, &OTHER).finish(bench.netlink()).unwrap();
        assert_eq!(bench.attached().len(), 1, "the old program is gone");
        // The other programs carry everything on, and begin flows.
        bench.find_program();
        assert_eq!(bench.map("flows4").info().value_size, 240);
        for (packet, way) in all.iter().zip(&ways) {
            assert_eq!(self::way(bench, packet), *way);
        }
        for packet in clients(3000, 1) {
            bench.send(&packet).sent();
        }
    });
    let mut now = counts(bench);
    let more = now.iter_mut().zip(&counted);
    for ((_, backends), (_, before)) in more {
        for ((_, now), (_, before)) in backends.iter_mut().zip(before) {
            // What was sent in between.
            assert!(now.bytes_in >= before.bytes_in && now.connections >= before.connections);
            (now.bytes_in, now.connections, now.requests) =
                (before.bytes_in, before.connections, before.requests);
            (now.active, now.bytes_out) = (before.active, before.bytes_out);
            (now.packets_in, now.packets_out) = (before.packets_in, before.packets_out);
        }
    }
    assert_eq!(now, counted);
    let mut back = flows(bench);
    back.retain(|flow| !flow.contains(":3000 "));
    assert_eq!(back, held);
    for (packet, way) in all.iter().zip(&ways) {
        assert_eq!(self::way(bench, packet), *way);
        // The replies of NAT find their flow.
        let (_, client, server) = *way;
        if server.port() == 9000 {
            let reply = bench.send(&packet.reply(server, ACK)).sent();
            assert_eq!(reply.ip.ends(), (packet.dst, client));
        }
    }
    assert_eq!(bench.plane().faults().len(), 0);
    bench.bring(services());
}

fn begun_and_gone_on_from(bench: &mut Bench) {
    bench.bring(services());
    let first = clients(1000, 5);
    for packet in first.iter().chain(&established(&first)) {
        bench.send(packet).sent();
    }
    let first = established(&first);
    let ways: Vec<_> = first.iter().map(|packet| way(bench, packet)).collect();
    let held = flows(bench);
    let late = clients(2000, 5);
    let mut late_ways = Vec::new();
    bench.restart(|bench| {
        begin(bench, &OTHER).finish(bench.netlink()).unwrap();
        // Ours begins to take over from it, and dies in the midst of it.
        drop(begin(bench, &Layout::OURS));
        let both = bench.attached();
        bench.find_program();
        for (packet, way) in first.iter().zip(&ways) {
            // Those of TCP are the others' until the rest is brought over; XDP passes them on to TC.
            match packet.proto == 6 {
                true => assert!(bench.send(packet).is_passed()),
                false => assert_eq!(self::way(bench, packet), *way),
            }
        }
        // Of a flow that only the other layout knows the packets are passed on to it.
        let mut unknown = Packet::tcp("192.0.2.99:7", "10.0.200.1:80", ACK);
        match bench.hook {
            crate::bench::Hook::Tc => {
                assert_eq!(both.len(), 2);
                assert!(bench.send(&unknown).is_passed());
                unknown = Packet::tcp("192.0.2.99:7", "10.0.200.1:80", SYN);
                late_ways.push(way(bench, &unknown));
            }
            crate::bench::Hook::Xdp => assert_eq!(both.len(), 1),
        }
        for packet in &late {
            late_ways.push(way(bench, packet));
        }
    });
    for (packet, way) in first.iter().zip(&ways) {
        assert_eq!(self::way(bench, packet), *way);
    }
    let late_ways = late_ways.split_off(late_ways.len() - late.len());
    for (packet, way) in established(&late).iter().zip(&late_ways) {
        assert_eq!(self::way(bench, packet), *way);
    }
    let now = flows(bench);
    let lost: Vec<&String> = held.difference(&now).collect();
    assert!(lost.is_empty(), "{lost:#?}");
    assert_eq!(bench.attached().len(), 1);
    // Mid-stream packets of unknown flows are what they were to it.
    let unknown = Packet::tcp("192.0.2.98:7", "10.0.200.1:80", ACK);
    bench.counted("MIDSTREAM_RESET", &unknown.frame());
}

fn what_cannot_be_read_stays(bench: &mut Bench) {
    bench.bring(services());
    bench.restart(|bench| {
        let mut object = Object::parse(OTHER.tc).unwrap();
        let mut maps = object.create_maps(&BTreeMap::new()).unwrap();
        // The same table of flows, of which the kernel was told no types.
        let known = maps["flows4"].info();
        let (key, value) = (known.key_size, known.value_size);
        let spec = MapSpec::new(known.kind, "flows4", key, value, known.max_entries);
        let untold = Map::create(&spec.flags(known.flags)).unwrap();
        maps.insert("flows4".to_owned(), untold);
        let mut config = vec![0; maps["config"].stride()];
        config[..4].copy_from_slice(&OTHER.version.to_ne_bytes());
        let zero = 0_u32.to_ne_bytes();
        maps["config"].update(&zero, &config, 0).unwrap();
        let programs = object.load(&maps, &BTreeMap::new()).unwrap();
        let program = programs.values().next().unwrap();
        program.bind_map(&maps["notes"]).unwrap();
        let link = bench.netlink().link_named("eth0").unwrap().index;
        hooks::attach_tc(bench.netlink(), link, program, TcOptions::default()).unwrap();
        let hz = Clock::read().unwrap().hz();
        let refused = Takeover::begin(bench.netlink(), &Layout::OURS, hz);
        let why = refused.unwrap_err().to_string();
        for part in [
            "layout 1000",
            "has 1 ",
            "types of map flows4",
            "start the plimsoll",
        ] {
            assert!(why.contains(part), "{why}");
        }
        // It is still there, and alone.
        let there = hooks::tc(bench.netlink(), link).unwrap();
        let ids: Vec<u32> = there.iter().map(|attached| attached.id).collect();
        assert_eq!(ids, [program.id()]);
        hooks::detach_tc(bench.netlink(), link, "plimsoll").unwrap();
        hooks::detach_xdp(bench.netlink(), link).unwrap();
    });
    bench.bring(services());
}
