//! New flows are shared out as the schedulers define it.

use std::collections::BTreeMap;

use plimsoll_balance::{Candidate, Table};
use plimsoll_model::{BackendAddr, Forward, HashKey, SchedulerKind, Service};

use crate::bench::{Bench, both, by, change};
use crate::build::{ACK, Packet, SYN};

const LISTENS: [&str; 4] = [
    "10.0.200.1:*/tcp",
    "10.0.200.2:*/tcp",
    "10.0.200.3:*/tcp",
    "10.0.200.4:*/tcp",
];
const BACKENDS: [&str; 3] = ["10.0.1.1", "10.0.1.2", "10.0.1.3"];

fn weighted(kind: SchedulerKind, weights: [u32; 3]) -> Service {
    let mut web = by(kind, "web", &LISTENS, Forward::Dr, &BACKENDS);
    for (addr, weight) in BACKENDS.iter().zip(weights) {
        change(&mut web, addr, |b| b.weight = weight);
    }
    web
}

fn syn(port: u16) -> Packet {
    Packet::tcp(&format!("192.0.2.7:{port}"), "10.0.200.1:80", SYN)
}

/// A flow that stands; who has it.
fn open(bench: &Bench, port: u16) -> u8 {
    let chosen = bench.chosen(&syn(port));
    let mut packet = syn(port);
    packet.flags = ACK;
    assert_eq!(bench.chosen(&packet), chosen);
    chosen
}

#[test]
fn schedulers() {
    both(
        "schedulers",
        &[
            ("in_turn", in_turn),
            ("by_load", by_load),
            ("by_rank", by_rank),
            ("by_chance", by_chance),
            ("by_hash", by_hash),
            ("weight_nought", weight_nought),
        ],
    );
}

fn in_turn(bench: &mut Bench) {
    bench.bring([weighted(SchedulerKind::Rr, [1, 5, 9])]);
    let places: Vec<u8> = (1..10).map(|port| bench.chosen(&syn(port))).collect();
    assert_eq!(places, [1, 2, 3, 1, 2, 3, 1, 2, 3]);
    bench.bring([weighted(SchedulerKind::Wrr, [5, 1, 2])]);
    let mut counts = BTreeMap::new();
    let places: Vec<u8> = (11..91).map(|port| bench.chosen(&syn(port))).collect();
    for place in &places {
        *counts.entry(*place).or_insert(0) += 1;
    }
    assert_eq!(counts, BTreeMap::from([(1, 50), (2, 10), (3, 20)]));
    // One round is like another.
    assert!(places.chunks(8).all(|round| round == &places[..8]));
}

fn by_load(bench: &mut Bench) {
    // Equal loads go to the first; what stands weighs 256 times what does not.
    bench.bring([weighted(SchedulerKind::Lc, [1, 9, 9])]);
    assert_eq!([open(bench, 1), open(bench, 2), open(bench, 3)], [1, 2, 3]);
    assert_eq!(
        [
            bench.chosen(&syn(4)),
            bench.chosen(&syn(5)),
            bench.chosen(&syn(6))
        ],
        [1, 2, 3]
    );
    bench.bring([]);
    bench.bring([weighted(SchedulerKind::Wlc, [1, 2, 4])]);
    let mut counts = [0; 4];
    for port in 100..170 {
        counts[usize::from(open(bench, port))] += 1;
    }
    assert_eq!(counts, [0, 10, 20, 40]);
    bench.bring([]);
    bench.bring([weighted(SchedulerKind::Sed, [1, 2, 4])]);
    // (active + 1) / weight: 1, 1/2, 1/4; then 1, 1/2, 2/4; and so on.
    let places: Vec<u8> = (200..207).map(|port| open(bench, port)).collect();
    assert_eq!(places, [3, 2, 3, 3, 1, 2, 3]);
    bench.bring([]);
    bench.bring([weighted(SchedulerKind::Nq, [1, 2, 4])]);
    let mut idle: Vec<u8> = (300..303).map(|port| open(bench, port)).collect();
    idle.sort_unstable();
    assert_eq!(idle, [1, 2, 3]);
    assert_eq!(open(bench, 303), 3);
}

fn by_rank(bench: &mut Bench) {
    bench.bring([weighted(SchedulerKind::First, [1, 9, 5])]);
    assert!((1..9).all(|port| open(bench, port) == 1));
    bench.bring([]);
    let mut fo = weighted(SchedulerKind::Fo, [1, 9, 5]);
    change(&mut fo, BACKENDS[1], |b| b.upper = 3);
    bench.bring([fo]);
    let places: Vec<u8> = (11..17).map(|port| open(bench, port)).collect();
    assert_eq!(places, [2, 2, 2, 3, 3, 3]);
    bench.bring([]);
    bench.bring([weighted(SchedulerKind::Ovf, [1, 3, 2])]);
    let places: Vec<u8> = (21..33).map(|port| open(bench, port)).collect();
    // As IPVS: one with as many as its weight takes one more; all full, the first takes all.
    assert_eq!(places, [2, 2, 2, 2, 3, 3, 3, 1, 1, 2, 2, 2]);
}

fn by_chance(bench: &mut Bench) {
    for kind in [SchedulerKind::Random, SchedulerKind::Twos] {
        bench.bring([weighted(kind, [1, 2, 1])]);
        let mut counts = [0_u32; 4];
        for port in 1..=2000 {
            counts[usize::from(bench.chosen(&syn(port)))] += 1;
        }
        // Far more than six deviations off is not chance.
        for (count, right) in counts[1..].iter().zip([500_u32, 1000, 500]) {
            assert!(count.abs_diff(right) < 140, "{kind} {counts:?}");
        }
        bench.clear();
    }
}

/// The hash is the same here and there: what leads where is known beforehand.
fn by_hash(bench: &mut Bench) {
    for (kind, key) in [
        (SchedulerKind::Mh, HashKey::Source),
        (SchedulerKind::Mh, HashKey::SourcePort),
        (SchedulerKind::Sh, HashKey::Source),
        (SchedulerKind::Dh, HashKey::Source),
    ] {
        let mut web = weighted(kind, [1, 2, 3]);
        let spec = std::sync::Arc::make_mut(&mut web.spec);
        spec.scheduler.hash = key;
        spec.scheduler.seed = 0x1234_5678_9abc_def0;
        let candidates: Vec<Candidate> = (web.backends.values())
            .map(|backend| Candidate {
                addr: backend.addr.clone(),
                weight: backend.weight,
                ready_since: 0,
            })
            .collect();
        let table = Table::new(&web.spec.scheduler, &candidates).unwrap();
        let seed = web.spec.scheduler.seed;
        bench.bring([web]);
        let mut seen = BTreeMap::new();
        for client in 0..200_u32 {
            let (ip, port, vip) = (
                0xc000_0200 + client,
                1000 + client as u16,
                1 + client as u8 % 4,
            );
            let from = std::net::Ipv4Addr::from(ip);
            let packet = Packet::tcp(
                &format!("{from}:{port}"),
                &format!("10.0.200.{vip}:80"),
                SYN,
            );
            let chosen = bench.chosen(&packet);
            let mut words = vec![u64::from(ip.to_be())];
            match (kind, key) {
                (SchedulerKind::Dh, _) => {
                    words = vec![u64::from(u32::from_le_bytes([10, 0, 200, vip]))];
                }
                (_, HashKey::SourcePort) => words.push(port.to_be().into()),
                _ => {}
            }
            words.push(0);
            let hash = words.into_iter().fold(seed, stir);
            let place = ((hash & 0xffff_ffff) * table.entries.len() as u64) >> 32;
            let candidate = &candidates[table.entries[place as usize] as usize];
            let right: BackendAddr = format!("10.0.1.{chosen}").parse().unwrap();
            assert_eq!(candidate.addr, right, "{kind} {packet:?}");
            *seen.entry(chosen).or_insert(0) += 1;
        }
        assert!(kind == SchedulerKind::Dh || seen.len() == 3, "{seen:?}");
        bench.clear();
    }
}

/// As `bpf/flows.h` says it.
fn stir(hash: u64, word: u64) -> u64 {
    let hash = hash ^ word;
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash ^ (hash >> 32)
}

fn weight_nought(bench: &mut Bench) {
    use SchedulerKind::{Dh, First, Fo, Lc, Mh, Nq, Ovf, Random, Rr, Sed, Sh, Twos, Wlc, Wrr};
    for kind in [
        Rr, Wrr, Lc, Wlc, Sed, Nq, Mh, Sh, Dh, Random, Twos, First, Fo, Ovf,
    ] {
        bench.bring([weighted(kind, [1, 1, 1])]);
        let stands = open(bench, 9);
        let mut weights = [1, 1, 1];
        weights[usize::from(stands) - 1] = 0;
        bench.bring([weighted(kind, weights)]);
        assert_eq!(open(bench, 9), stands, "{kind}: what stands stays");
        assert!((10..40).all(|port| open(bench, port) != stands), "{kind}");
        bench.bring([weighted(kind, [0, 0, 0])]);
        assert_eq!(
            bench.send(&syn(41)).sent().ip.ends().0,
            syn(41).dst,
            "{kind}: refused"
        );
        bench.clear();
    }
}
