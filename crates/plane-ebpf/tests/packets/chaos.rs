//! Any bytes at all: passed as they are, sent with right checksums, or dropped for one reason.

use plimsoll_model::{Forward, SchedulerKind};

use crate::bench::{Became, Bench, IPIP, VIP, VIP6, both, by};
use crate::build::{Packet, icmp};
use crate::table::{Numbers, recount};

#[test]
fn chaos() {
    both("chaos", &[("any_bytes", any_bytes)]);
}

/// A packet that means something.
fn whole(numbers: &mut Numbers) -> Vec<u8> {
    let mut below = |limit| numbers.below(limit);
    let v4 = below(2) == 0;
    let vip = 1 + below(3);
    let (client, port, to) = (below(5), below(40), [80, 81, 9000, 7][below(4) as usize]);
    let (from, to) = match v4 {
        true => (
            format!("192.0.2.{client}:{port}"),
            format!("10.0.200.{vip}:{to}"),
        ),
        false => (
            format!("[2001:db8::{client}]:{port}"),
            format!("[fd00::200:{vip}]:{to}"),
        ),
    };
    let mut packet = Packet::tcp(&from, &to, below(64) as u8);
    packet.proto = [6, 17][below(2) as usize];
    packet.ttl = [0, 1, 2, 64, 255][below(5) as usize];
    packet.class = below(256) as u8;
    packet.seq = below(1 << 32) as u32;
    packet.unsummed = v4 && packet.proto == 17 && below(4) == 0;
    packet.payload = vec![below(256) as u8; [0, 1, 7, 100, 1400, 1460][below(6) as usize]];
    match below(8) {
        0 if v4 => packet.options = vec![1; 4 * below(11) as usize],
        0 => {
            packet.first = Some(60);
            packet.options = vec![packet.proto, 0, 1, 4, 0, 0, 0, 0];
        }
        1 => {
            let server = if v4 {
                "10.0.1.1:9000"
            } else {
                "[fd00::1:1]:9000"
            };
            packet = packet.reply(server.parse().unwrap(), 0x12);
        }
        2 => {
            let about = packet.reply(packet.dst, 0x10);
            let quoted = about.ip(&about.transport());
            let (kind, from, to) = match v4 {
                true => ([3, 11, 12, 8][below(4) as usize], "198.51.100.9", VIP),
                false => ([1, 2, 3, 128][below(4) as usize], "2001:db8:9::9", VIP6),
            };
            let len = quoted.len().min(20 + below(100) as usize);
            return icmp(from, to, kind, 0, 1300, &quoted[..len]);
        }
        _ => {}
    }
    packet.frame()
}

fn any_bytes(bench: &mut Bench) {
    let mut numbers = Numbers(0x0051_eed5);
    let at = |vip: &str| -> Vec<String> {
        let to = |ports: &str| match vip.contains(':') {
            true => format!("[{vip}]:{ports}"),
            false => format!("{vip}:{ports}"),
        };
        vec![to("80/tcp"), to("80/udp"), to("9000-9010/tcp")]
    };
    let mut services = Vec::new();
    for (name, vip, forward, backends) in [
        ("dr", "10.0.200.1", Forward::Dr, ["10.0.1.1", "10.0.1.2"]),
        (
            "dr6",
            "fd00::200:1",
            Forward::Dr,
            ["fd00::1:1", "fd00::1:2"],
        ),
        ("ipip", "10.0.200.2", IPIP, ["10.0.1.3", "fd00::1:3"]),
        ("ipip6", "fd00::200:2", IPIP, ["10.0.1.3", "fd00::1:3"]),
        (
            "nat",
            "10.0.200.3",
            Forward::Nat,
            ["10.0.1.1:9000", "10.0.1.2:9000"],
        ),
        (
            "nat6",
            "fd00::200:3",
            Forward::Nat,
            ["[fd00::1:1]:9000", "[fd00::1:2]:9000"],
        ),
    ] {
        let listens = at(vip);
        let listens: Vec<&str> = listens.iter().map(String::as_str).collect();
        let kind = [SchedulerKind::Mh, SchedulerKind::Rr][services.len() % 2];
        services.push(by(kind, name, &listens, forward, &backends));
    }
    bench.bring(services);
    let mut became = [0; 3];
    for round in 0..10_000 {
        let mut frame = whole(&mut numbers);
        // Half of them are broken in a few places, some cut short.
        let broken = match round % 2 {
            0 => 0,
            _ => 1 + numbers.below(3),
        };
        let headers = (frame.len() as u64).min(100);
        for _ in 0..broken {
            frame[12 + numbers.below(headers - 12) as usize] = numbers.below(256) as u8;
        }
        if broken > 0 && numbers.below(4) == 0 {
            frame.truncate(34 + numbers.below(frame.len() as u64 - 33) as usize);
        }
        // What is broken already can be sent on broken: its own checksum is the receiver's to see.
        let before = bench.reasons();
        let result = bench.try_frame(&frame);
        let rose: Vec<u64> = (bench.reasons().iter().zip(&before))
            .map(|(after, before)| after.1 - before.1)
            .collect();
        match result {
            Ok(Became::Passed) => became[0] += 1,
            Ok(Became::Dropped) => {
                became[1] += 1;
                assert!(
                    rose.iter().sum::<u64>() >= 1,
                    "dropped for no reason: {frame:02x?}"
                );
            }
            Ok(Became::Sent(_)) => became[2] += 1,
            Err(wrong) => {
                let own = wrong.starts_with("verdict") || wrong.starts_with("passed");
                assert!(broken > 0 && !own, "{wrong}\nof {frame:02x?}");
            }
        }
        assert!(
            rose.iter().all(|rose| *rose <= 1),
            "{rose:?} of {frame:02x?}"
        );
    }
    assert!(became.iter().all(|count| *count > 500), "{became:?}");
    recount(bench);
}
