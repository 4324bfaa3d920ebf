//! What the director answers itself.

use plimsoll_model::{Forward, SchedulerKind};

use crate::bench::{Bench, IPIP, VIP, VIP6, both, by, service};
use crate::build::{ACK, FIN, OUR_MAC, Packet, ROUTER_MAC, RST, SYN, icmp};
use crate::read::{Body, Sent};

const LISTENS: [&str; 2] = ["10.0.200.1:80/tcp", "[fd00::200:1]:80/tcp"];
const ENDS: [(&str, &str); 2] = [
    ("192.0.2.7:4711", "10.0.200.1:80"),
    ("[2001:db8::7]:4711", "[fd00::200:1]:80"),
];

#[test]
fn answers() {
    both(
        "answers",
        &[
            ("echo_requests_are_answered", echo_requests_are_answered),
            (
                "mid_stream_packets_of_unknown_flows_are_reset",
                mid_stream_packets_of_unknown_flows_are_reset,
            ),
            (
                "without_a_backend_tcp_is_refused_and_udp_dropped",
                without_a_backend_tcp_is_refused_and_udp_dropped,
            ),
        ],
    );
}

fn echo_requests_are_answered(bench: &mut Bench) {
    bench.bring([service("all", &LISTENS, IPIP, &["10.0.1.1"])]);
    for len in [0, 1, 56, 1200] {
        let body: Vec<u8> = (0..len).map(|i| (i * 31) as u8).collect();
        for rest in [0, 0x1234_0001, 0xffff_ffff] {
            let four = icmp("192.0.2.7", VIP, 8, 0, rest, &body);
            let six = icmp("2001:db8::7", VIP6, 128, 0, rest, &body);
            for (frame, vip, client, kind) in
                [(four, VIP, "192.0.2.7", 0), (six, VIP6, "2001:db8::7", 129)]
            {
                let sent = bench.counted("ECHO", &frame).sent();
                assert_eq!((sent.to, sent.from), (ROUTER_MAC, OUR_MAC));
                assert_eq!(sent.ip.src.to_string(), vip);
                assert_eq!(sent.ip.dst.to_string(), client);
                assert_eq!(sent.ip.ttl, 64);
                match &sent.ip.body {
                    Body::Icmp(is, 0, told, back) => {
                        assert_eq!((*is, *told, back), (kind, rest, &body));
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    // Cut short; another code; replies, and what finds neighbours: not ours.
    let mut short = icmp("192.0.2.7", VIP, 8, 0, 0, &[]);
    short.truncate(14 + 20 + 6);
    short[16..18].copy_from_slice(&26_u16.to_be_bytes());
    assert!(bench.counted("MALFORMED", &short).is_dropped());
    for frame in [
        icmp("192.0.2.7", VIP, 8, 1, 0, b"x"),
        icmp("192.0.2.7", VIP, 0, 0, 0, b"x"),
        icmp("192.0.2.7", VIP, 13, 0, 0, b"x"),
        icmp("fd00::7", VIP6, 135, 0, 0, &[0; 24]),
        icmp("192.0.2.7", "10.0.0.1", 8, 0, 0, b"x"),
    ] {
        assert!(bench.send_frame(&frame).is_passed());
    }
}

/// Sequence, acknowledgement and flags of a reset that answers this packet (RFC 9293 §3.10.7.1).
fn is_reset(sent: &Sent, of: &Packet) {
    assert_eq!((sent.to, sent.from), (ROUTER_MAC, OUR_MAC));
    assert_eq!(sent.ip.ends(), (of.dst, of.src));
    assert_eq!(sent.ip.ttl, 64);
    let Body::Tcp(tcp, payload) = &sent.ip.body else {
        panic!("{sent:?}");
    };
    assert!(payload.is_empty() && tcp.rst && !tcp.syn && !tcp.fin && !tcp.psh);
    assert_eq!((tcp.window_size, tcp.urgent_pointer), (0, 0));
    if of.flags & ACK != 0 {
        assert_eq!((tcp.sequence_number, tcp.ack), (of.ack, false));
        return;
    }
    let takes =
        of.payload.len() as u32 + u32::from(of.flags & SYN != 0) + u32::from(of.flags & FIN != 0);
    let right = of.seq.wrapping_add(takes);
    assert_eq!((tcp.sequence_number, tcp.ack), (0, true));
    assert_eq!(tcp.acknowledgment_number, right);
}

fn mid_stream_packets_of_unknown_flows_are_reset(bench: &mut Bench) {
    let kind = SchedulerKind::Wlc;
    bench.bring([by(kind, "all", &LISTENS, IPIP, &["10.0.1.1"])]);
    for (client, vip) in ENDS {
        for flags in [ACK, ACK | FIN, ACK | SYN, FIN, 0] {
            for len in [0, 1, 1000] {
                let mut packet = Packet::tcp(client, vip, flags);
                packet.payload = vec![7; len];
                packet.seq = 0xffff_fffe;
                let sent = bench.counted("MIDSTREAM_RESET", &packet.frame()).sent();
                is_reset(&sent, &packet);
            }
        }
        // A reset is never answered by one.
        for flags in [RST, RST | ACK] {
            let frame = Packet::tcp(client, vip, flags).frame();
            assert!(bench.counted("MIDSTREAM_RESET", &frame).is_dropped());
        }
        // Options before it do not disturb.
        if client.starts_with('1') {
            let mut packet = Packet::tcp(client, vip, ACK);
            packet.options = vec![1; 12];
            is_reset(&bench.send(&packet).sent(), &packet);
        }
    }
    assert_eq!(bench.counts("10.0.1.1"), (0, 0));
    assert_eq!(bench.traffic("10.0.1.1").packets_in, 0);
}

fn without_a_backend_tcp_is_refused_and_udp_dropped(bench: &mut Bench) {
    let listens = [&LISTENS[..], &["10.0.200.1:53/udp"]].concat();
    bench.bring([service("all", &listens, Forward::Dr, &[])]);
    for (client, vip) in ENDS {
        let packet = Packet::tcp(client, vip, SYN);
        is_reset(
            &bench.counted("NO_BACKEND", &packet.frame()).sent(),
            &packet,
        );
    }
    let udp = Packet::udp("192.0.2.7:4711", "10.0.200.1:53");
    assert!(bench.counted("NO_BACKEND", &udp.frame()).is_dropped());
}
