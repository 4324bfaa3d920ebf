//! What is none of the director's stays as it is, and what is broken is dropped for a reason.

use crate::bench::{Bench, IPIP, both, service};
use crate::build::{Packet, SYN, ether, icmp};

const TO: &str = "10.0.200.1:80";

#[test]
fn untouched() {
    both(
        "untouched",
        &[
            ("what_is_not_for_a_vip_passes", what_is_not_for_a_vip_passes),
            (
                "fragments_are_left_to_the_host",
                fragments_are_left_to_the_host,
            ),
            ("packets_cut_short", packets_cut_short),
        ],
    );
}

fn what_is_not_for_a_vip_passes(bench: &mut Bench) {
    let listens = ["10.0.200.1:80/tcp", "[fd00::200:1]:80/tcp"];
    bench.bring([service("all", &listens, IPIP, &["10.0.1.1"])]);
    let client = "192.0.2.7:4711";
    let mut other = Packet::tcp(client, TO, SYN);
    other.proto = 132;
    let mut arp = ether(other.src.ip());
    arp[12..14].copy_from_slice(&[8, 6]);
    arp.extend([0; 46]);
    let mut tagged = Packet::tcp(client, TO, SYN).frame();
    tagged.splice(12..12, [0x81, 0x00, 0x00, 0x07]);
    for frame in [
        Packet::tcp(client, "10.0.0.1:80", SYN).frame(),
        Packet::udp(client, "10.0.200.2:80").frame(),
        Packet::tcp("[2001:db8::7]:1", "[fd00::200:2]:80", SYN).frame(),
        other.frame(),
        icmp("192.0.2.7", "10.0.0.1", 3, 1, 0, &[0; 28]),
        arp,
        tagged,
    ] {
        let before = bench.reasons();
        assert!(bench.send_frame(&frame).is_passed());
        assert_eq!(bench.reasons(), before);
    }
    // To a VIP, but to no service's port: the host's own, and counted.
    let frame = Packet::tcp(client, "10.0.200.1:81", SYN).frame();
    assert!(bench.counted("NO_SERVICE", &frame).is_passed());
    let frame = Packet::udp(client, TO).frame();
    assert!(bench.counted("NO_SERVICE", &frame).is_passed());
}

fn fragments_are_left_to_the_host(bench: &mut Bench) {
    let listens = ["10.0.200.1:80/tcp", "[fd00::200:1]:80/tcp"];
    bench.bring([service("all", &listens, IPIP, &["10.0.1.1"])]);
    for fragment in [0x2000, 0x0001, 0x2007, 0x1fff] {
        let mut packet = Packet::tcp("192.0.2.7:4711", TO, SYN);
        packet.fragment = fragment;
        assert!(bench.counted("FRAGMENT", &packet.frame()).is_passed());
    }
    let mut packet = Packet::tcp("[2001:db8::7]:1", "[fd00::200:1]:80", SYN);
    packet.first = Some(44);
    packet.options = vec![packet.proto, 0, 0, 1, 1, 2, 3, 4];
    assert!(bench.counted("FRAGMENT", &packet.frame()).is_passed());
}

/// Every length from none to all: passed where it is no packet to a VIP yet, else dropped, and sent
/// only when it is whole.
fn packets_cut_short(bench: &mut Bench) {
    let listens = ["10.0.200.1:80/tcp", "[fd00::200:1]:80/tcp"];
    bench.bring([service("all", &listens, IPIP, &["10.0.1.1"])]);
    for (client, vip, l3) in [
        ("192.0.2.7:1", TO, 20),
        ("[2001:db8::7]:1", "[fd00::200:1]:80", 40),
    ] {
        let whole = Packet::tcp(client, vip, SYN).frame();
        for len in 14..whole.len() {
            // The kernel takes no shorter packets for such a test.
            let Ok(became) = bench.try_frame(&whole[..len]) else {
                assert!(len < 14 + l3, "{len}");
                continue;
            };
            match len < 14 + l3 {
                true => assert!(became.is_passed(), "{len} {became:?}"),
                false => assert!(became.is_dropped(), "{len} {became:?}"),
            }
        }
        bench.send_frame(&whole).sent();
        // What a short frame is filled up with is no part of the packet.
        let mut padded = whole.clone();
        padded.extend([0; 20]);
        let sent = bench.send_frame(&padded).sent();
        assert_eq!(sent.ip.inner().payload(), b"payload!?");
    }
    // Lengths that contradict each other.
    let mut header = Packet::tcp("192.0.2.7:1", TO, SYN).frame();
    header[14] = 0x44;
    assert!(bench.counted("MALFORMED", &header).is_dropped());
    let mut total = Packet::tcp("192.0.2.7:1", TO, SYN).frame();
    total[16..18].copy_from_slice(&19_u16.to_be_bytes());
    assert!(bench.counted("MALFORMED", &total).is_dropped());
}
