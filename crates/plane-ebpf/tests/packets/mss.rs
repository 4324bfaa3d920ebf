//! The greatest segment that SYNs announce.

use std::sync::Arc;

use plimsoll_model::{Forward, Mss, Service};

use crate::bench::{Bench, IPIP, both, service};
use crate::build::{ACK, Packet, SYN};
use crate::read::{Body, Sent};
use crate::table::Numbers;

const LISTENS: [&str; 2] = ["10.0.200.1:80/tcp", "[fd00::200:1]:80/tcp"];
const ENDS: [(&str, &str); 2] = [
    ("192.0.2.7:4711", "10.0.200.1:80"),
    ("[2001:db8::7]:4711", "[fd00::200:1]:80"),
];

#[test]
fn mss() {
    both(
        "mss",
        &[
            ("as_many_bytes_as_are_said", as_many_bytes_as_are_said),
            ("what_fits", what_fits),
            ("both_ways_of_nat", both_ways_of_nat),
            ("any_options", any_options),
        ],
    );
}

fn with(mss: Option<Mss>, mut service: Service) -> Service {
    Arc::make_mut(&mut service.spec).packets.mss = mss;
    service
}

/// An option that announces segments of so many bytes.
fn announce(mss: u16) -> Vec<u8> {
    [vec![2, 4], mss.to_be_bytes().to_vec()].concat()
}

fn announced(sent: &Sent) -> Option<u16> {
    let mut ip = &sent.ip;
    if let Body::Tunnel(inner) = &ip.body {
        ip = inner;
    }
    let Body::Tcp(tcp, _) = &ip.body else {
        panic!("{sent:?}");
    };
    let options = tcp.options.as_slice();
    (0..options.len().saturating_sub(3))
        .find(|at| options[*at..].starts_with(&[2, 4]))
        .map(|at| u16::from_be_bytes([options[at + 2], options[at + 3]]))
}

fn syn(client: &str, to: &str, options: Vec<u8>) -> Packet {
    let mut packet = Packet::tcp(client, to, SYN);
    packet.tcp_options = options;
    packet
}

fn as_many_bytes_as_are_said(bench: &mut Bench) {
    for (forward, backends) in [
        (Forward::Dr, ["10.0.1.1", "fd00::1:1"]),
        (IPIP, ["10.0.1.1", "fd00::1:1"]),
    ] {
        for ((client, to), (listen, backend)) in
            ENDS.into_iter().zip(LISTENS.into_iter().zip(backends))
        {
            for (mss, is, becomes) in [
                (None, 1460, 1460),
                (Some(1400), 1460, 1400),
                (Some(1400), 65_535, 1400),
                (Some(1400), 1400, 1400),
                (Some(1400), 1399, 1399),
                (Some(1400), 0, 0),
                (Some(88), 1460, 88),
            ] {
                let mss = mss.map(Mss::Bytes);
                bench.bring([with(mss, service("all", &[listen], forward, &[backend]))]);
                // At an even and at an odd place.
                for before in [
                    vec![],
                    vec![1],
                    vec![8, 10, 1, 2, 3, 4, 5, 6, 7, 8],
                    vec![1, 1, 1],
                ] {
                    let options = [before, announce(is), vec![1, 3, 3, 7]].concat();
                    let sent = bench.send(&syn(client, to, options)).sent();
                    assert_eq!(announced(&sent), Some(becomes), "{mss:?} {is}");
                }
                // Only a SYN announces anything.
                let mut packet = syn(client, to, announce(is));
                packet.flags = ACK;
                assert_eq!(announced(&bench.send(&packet).sent()), Some(is));
            }
        }
    }
}

fn what_fits(bench: &mut Bench) {
    for (forward, backend, over) in [
        (Forward::Dr, ["10.0.1.1", "fd00::1:1"], 0),
        (IPIP, ["10.0.1.1"; 2], 20),
        (IPIP, ["fd00::1:1"; 2], 40),
    ] {
        for (i, (client, to)) in ENDS.into_iter().enumerate() {
            let all = service("all", &LISTENS[i..=i], forward, &backend[i..=i]);
            bench.bring([with(Some(Mss::Fit), all)]);
            let sent = bench.send(&syn(client, to, announce(9000))).sent();
            assert_eq!(announced(&sent), Some([1460, 1440][i] - over));
        }
    }
}

fn both_ways_of_nat(bench: &mut Bench) {
    for ((client, to), (listen, backend)) in ENDS.into_iter().zip(
        LISTENS
            .into_iter()
            .zip(["10.0.1.1:8080", "[fd00::1:1]:8080"]),
    ) {
        for (mss, becomes) in [
            (None, 9000),
            (Some(Mss::Bytes(1300)), 1300),
            (
                Some(Mss::Fit),
                if client.contains('[') { 1440 } else { 1460 },
            ),
        ] {
            bench.bring([with(
                mss,
                service("nat", &[listen], Forward::Nat, &[backend]),
            )]);
            let packet = syn(client, to, announce(9000));
            assert_eq!(announced(&bench.send(&packet).sent()), Some(becomes));
            let answer = packet.reply(backend.parse().unwrap(), SYN | ACK);
            let sent = bench.send(&answer).sent();
            assert_eq!(announced(&sent), Some(becomes), "{mss:?}");
            assert_eq!(sent.ip.ends(), (packet.dst, packet.src));
        }
    }
}

/// Options of any bytes go along, with a right checksum, whatever they mean; but for the one word.
fn any_options(bench: &mut Bench) {
    let backends = [service("all", &LISTENS, IPIP, &["10.0.1.1"])];
    bench.bring(backends.map(|service| with(Some(Mss::Bytes(1000)), service)));
    let mut numbers = Numbers(0x0d55);
    let mut clamped = 0;
    for _ in 0..4000 {
        let words = numbers.below(11) as usize;
        let mut options: Vec<u8> = (0..words * 4)
            .map(|_| match numbers.below(3) {
                0 => numbers.below(256) as u8,
                _ => numbers.below(6) as u8,
            })
            .collect();
        if words > 1 && numbers.below(2) == 0 {
            let at = numbers.below(words as u64 * 4 - 3) as usize;
            options[at..at + 4].copy_from_slice(&announce(numbers.below(1 << 16) as u16));
        }
        let (client, to) = ENDS[numbers.below(2) as usize];
        let packet = syn(client, to, options.clone());
        let sent = bench.send(&packet).sent();
        let Body::Tcp(tcp, payload) = &sent.ip.inner().body else {
            panic!("{sent:?}");
        };
        assert_eq!(*payload, packet.payload);
        let after = tcp.options.as_slice();
        let expected = expected(&options, 1000);
        assert_eq!(after, expected, "of {options:02x?}");
        clamped += u32::from(options != expected);
    }
    assert!(clamped > 200, "{clamped}");
}

/// The options as they have to be: RFC 9293 §3.1 read again.
fn expected(options: &[u8], most: u16) -> Vec<u8> {
    let mut expected = options.to_vec();
    let mut at = 0;
    while at < options.len() {
        let len = match options[at] {
            0 => break,
            1 => 1,
            _ => match options.get(at + 1) {
                Some(len) if *len >= 2 => usize::from(*len),
                _ => break,
            },
        };
        if options[at] == 2 {
            if len == 4 && at + 4 <= options.len() {
                let is = u16::from_be_bytes([options[at + 2], options[at + 3]]);
                expected[at + 2..at + 4].copy_from_slice(&is.min(most).to_be_bytes());
            }
            break;
        }
        at += len;
    }
    expected
}
