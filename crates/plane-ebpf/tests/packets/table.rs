//! The table of flows: counts stay exact, and floods put out nothing that stands.

use std::collections::BTreeMap;

use plimsoll_model::{Forward, SchedulerKind, State, Status};
use plimsoll_plane_ebpf::Sizes;
use plimsoll_plane_ebpf::layout::{
    self, BACKEND_USED, Backend, Bucket4, Bucket6, Config, FLOW_REPLY, FLOW_SECOND, Live,
};

use crate::bench::{Bench, both, by, change};
use crate::build::{ACK, FIN, Packet, RST, SYN};

#[test]
fn table() {
    both(
        "table",
        &[
            (
                "counts_are_exact_after_any_packets",
                counts_are_exact_after_any_packets,
            ),
            (
                "floods_put_out_nothing_that_stands",
                floods_put_out_nothing_that_stands,
            ),
            ("ended_flows_give_way", ended_flows_give_way),
        ],
    );
}

/// Flows of the client's direction: their words and slots.
fn flows(bench: &Bench) -> Vec<(u32, u32)> {
    let mut flows = Vec::new();
    let mut spilled = 0;
    for index in 0..Sizes::small().buckets4 {
        let bucket: Bucket4 = bench.get("flows4", &index).unwrap();
        assert_eq!(bucket.lock, 0);
        spilled += bucket.spilled;
        let used = bucket
            .flows
            .iter()
            .zip(bucket.tags)
            .filter(|(_, tag)| *tag != 0);
        flows.extend(used.map(|(flow, _)| (flow.word, flow.slot)));
    }
    for index in 0..Sizes::small().buckets6 {
        let bucket: Bucket6 = bench.get("flows6", &index).unwrap();
        assert_eq!(bucket.lock, 0);
        spilled += bucket.spilled;
        let used = bucket
            .flows
            .iter()
            .zip(bucket.tags)
            .filter(|(_, tag)| *tag != 0);
        flows.extend(used.map(|(flow, _)| (flow.word, flow.slot)));
    }
    let second = flows.iter().filter(|(word, _)| word & FLOW_SECOND != 0);
    assert_eq!(second.count(), spilled as usize);
    flows.retain(|(word, _)| word & FLOW_REPLY == 0);
    flows
}

/// Whether every backend counts as many flows as the table has of it.
pub(crate) fn recount(bench: &Bench) {
    let mut counted: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
    for (word, slot) in flows(bench) {
        let count = counted.entry(slot).or_default();
        match layout::State::of_word(word).is_active() {
            true => count.0 += 1,
            false => count.1 += 1,
        }
    }
    for slot in 0..Sizes::small().backends {
        let backend: Backend = bench.get("backends", &slot).unwrap();
        let live: Live = bench.get("lives", &slot).unwrap();
        if backend.flags & BACKEND_USED != 0 {
            let name = slot | u32::from(backend.generation) << 24;
            let right = counted.get(&name).copied().unwrap_or_default();
            assert_eq!(
                (live.active, live.inactive),
                right,
                "slot {slot} {backend:?}"
            );
        }
    }
}

/// Lets the sweep look at all of the table with the next packet, as if so many jiffies had gone by.
pub(crate) fn age_all(bench: &Bench, jiffies: u32) {
    for index in 0..Sizes::small().buckets4 {
        let mut bucket: Bucket4 = bench.get("flows4", &index).unwrap();
        if bucket.tags.iter().any(|tag| *tag != 0) {
            for flow in &mut bucket.flows {
                flow.seen = flow.seen.wrapping_sub(jiffies);
            }
            bench.put("flows4", &index, &bucket);
        }
    }
    for index in 0..Sizes::small().buckets6 {
        let mut bucket: Bucket6 = bench.get("flows6", &index).unwrap();
        if bucket.tags.iter().any(|tag| *tag != 0) {
            for flow in &mut bucket.flows {
                flow.seen = flow.seen.wrapping_sub(jiffies);
            }
            bench.put("flows6", &index, &bucket);
        }
    }
}

pub(crate) fn hz(bench: &Bench) -> u32 {
    bench.get::<Config>("config", &0u32).unwrap().hz
}

/// Has the sweep go through all of the table.
pub(crate) fn sweep(bench: &Bench) {
    let mut config: Config = bench.get("config", &0u32).unwrap();
    (config.sweep4, config.sweep6) = (config.buckets4 + 1, config.buckets6 + 1);
    bench.put("config", &0u32, &config);
    bench.put("sweep", &0u32, &[0_u32; 4]);
    // Of no service: it changes nothing else.
    let _unknown = bench.send(&Packet::udp("192.0.2.250:9", "10.0.200.1:9"));
}

const LISTENS: [&str; 4] = [
    "10.0.200.1:80/tcp",
    "10.0.200.1:80/udp",
    "[fd00::200:1]:80/tcp",
    "[fd00::200:1]:80/udp",
];

/// A generator of numbers (SplitMix64).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % limit
    }
}

/// Whatever a few clients send, and whatever happens to backends meanwhile.
fn counts_are_exact_after_any_packets(bench: &mut Bench) {
    let mut numbers = Numbers(7);
    let nat4 = ["10.0.1.1:80", "10.0.1.2:80", "10.0.1.3:80"];
    let nat6 = ["[fd00::1:1]:80", "[fd00::1:2]:80", "[fd00::1:3]:80"];
    for round in 0..12 {
        let kind = [SchedulerKind::Rr, SchedulerKind::Mh, SchedulerKind::Wlc][round % 3];
        let forward = [Forward::Nat, Forward::Dr][round / 3 % 2];
        let keep = |i: &usize| (round >> i) & 1 == 0;
        let of =
            |all: [&'static str; 3]| -> Vec<&str> { (0..3).filter(keep).map(|i| all[i]).collect() };
        let (four, six) = (of(nat4), of(nat6));
        let mut four = by(kind, "four", &LISTENS[..2], forward, &four);
        let six = by(kind, "six", &LISTENS[2..], forward, &six);
        if round % 4 == 1 && four.backends.len() > 1 {
            let first = four.backends.keys().next().unwrap().to_string();
            change(&mut four, &first, |b| {
                b.status = Status::new(State::Down, "dead")
            });
        }
        bench.bring([four, six]);
        for _ in 0..300 {
            let (client, port) = (numbers.below(4), numbers.below(16));
            let (from, to, server) = match numbers.below(2) {
                0 => (format!("192.0.2.{client}:{port}"), "10.0.200.1:80", nat4),
                _ => (
                    format!("[2001:db8::{client}]:{port}"),
                    "[fd00::200:1]:80",
                    nat6,
                ),
            };
            let flags = [SYN, ACK, ACK, FIN | ACK, RST, SYN | ACK][numbers.below(6) as usize];
            let mut packet = Packet::tcp(&from, to, flags);
            packet.proto = [6, 17][numbers.below(2) as usize];
            if numbers.below(3) == 0 {
                packet = packet.reply(server[numbers.below(3) as usize].parse().unwrap(), flags);
            }
            bench.send(&packet);
        }
        recount(bench);
        if round % 6 == 5 {
            age_all(bench, hz(bench) * 61);
            sweep(bench);
            recount(bench);
        }
    }
    assert!(!flows(bench).is_empty());
    age_all(bench, hz(bench) * 7441);
    // Entries of replies go once what they reply to has gone.
    sweep(bench);
    sweep(bench);
    recount(bench);
    assert_eq!(flows(bench), []);
}

/// So many flows of 7168 that there is room for stand; half-open ones and bare packets come by the
/// thousand.
fn floods_put_out_nothing_that_stands(bench: &mut Bench) {
    let mh = SchedulerKind::Mh;
    bench.bring([by(
        mh,
        "four",
        &LISTENS[..1],
        Forward::Dr,
        &["10.0.1.1", "10.0.1.2"],
    )]);
    let standing = |i: u32, flags| {
        Packet::tcp(
            &format!("192.0.{}.{}:80", 2 + i / 250, i % 250),
            "10.0.200.1:80",
            flags,
        )
    };
    for i in 0..2000 {
        bench.send(&standing(i, SYN)).sent();
        bench.send(&standing(i, ACK)).sent();
    }
    let active = |bench: &Bench| bench.counts("10.0.1.1").0 + bench.counts("10.0.1.2").0;
    assert_eq!(active(bench), 2000);
    for i in 0..9000_u32 {
        let flags = if i % 2 == 0 { SYN } else { ACK };
        let client = format!("198.51.{}.{}:{}", i / 250 % 250, i % 250, 1 + i % 60_000);
        bench
            .send(&Packet::tcp(&client, "10.0.200.1:80", flags))
            .sent();
    }
    assert_eq!(active(bench), 2000);
    recount(bench);
    let evicted = bench
        .reasons()
        .into_iter()
        .find(|(name, _)| *name == "EVICTED")
        .unwrap();
    assert!(evicted.1 > 1000, "{evicted:?}");
}

/// Many short connections, more than there is room for while the ended ones have their time: each new one
/// is remembered all the same.
fn ended_flows_give_way(bench: &mut Bench) {
    let rr = SchedulerKind::Rr;
    bench.clear();
    for forward in [Forward::Dr, Forward::Nat] {
        bench.bring([by(
            rr,
            "four",
            &LISTENS[..1],
            forward,
            &["10.0.1.1", "10.0.1.2"],
        )]);
        let before = bench.reasons();
        for i in 0..9000_u32 {
            let client = format!("198.51.{}.{}:{}", i / 250 % 250, i % 250, 1 + i % 60_000);
            for flags in [SYN, ACK, ACK | FIN] {
                let packet = Packet::tcp(&client, "10.0.200.1:80", flags);
                bench.send(&packet).sent();
            }
            if i % 500 == 0 {
                age_all(bench, 3 * hz(bench));
            }
        }
        let rose = |name: &str| {
            let of = |reasons: &[(&str, u64)]| reasons.iter().find(|r| r.0 == name).unwrap().1;
            of(&bench.reasons()) - of(&before)
        };
        assert_eq!(rose("NOT_RECORDED"), 0, "{forward:?}");
        assert!(rose("EVICTED") > 1000, "{forward:?}");
        recount(bench);
        bench.clear();
    }
}
