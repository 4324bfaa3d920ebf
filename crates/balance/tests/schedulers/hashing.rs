//! `sh`, `dh`, `mh` and `ring`.

use std::sync::Arc;

use plimsoll_balance::{Balancer, Candidate, Client};
use plimsoll_model::{BackendAddr, HashKey, Scheduler, SchedulerKind};
use proptest::prelude::*;

use crate::{
    NOW, Table, addr, assert_shares, balancer, candidates, client, noise, scheduler, tally,
};

const TABLES: [SchedulerKind; 3] = [SchedulerKind::Sh, SchedulerKind::Dh, SchedulerKind::Mh];

const ALL: [SchedulerKind; 4] = [
    SchedulerKind::Sh,
    SchedulerKind::Dh,
    SchedulerKind::Mh,
    SchedulerKind::Ring,
];

#[test]
fn a_client_stays_where_its_hash_leads() {
    for kind in ALL {
        let balancer = balancer(kind, &[1, 2, 3]);
        for i in 0..1000 {
            let led = balancer.hashed(&client(i), NOW);
            for _ in 0..3 {
                let picked = balancer.pick(&client(i), NOW, &Table::idle(3), &mut noise(1));
                assert_eq!(picked, led);
            }
        }
    }
}

#[test]
fn shares_follow_the_weights() {
    for kind in TABLES {
        let weights = [1, 2, 3, 0, 10];
        let counts = tally(&balancer(kind, &weights), &Table::idle(5), 160_000);
        assert_shares(&counts, &weights, 0.05);
        let counts = tally(&balancer(kind, &[7; 100]), &Table::idle(100), 1_000_000);
        assert_shares(&counts, &[7; 100], 0.06);
    }
}

#[test]
fn clients_of_an_unusable_one_are_spread_and_no_others_move() {
    for kind in ALL {
        let balancer = balancer(kind, &[1; 10]);
        let (all, rest) = (Table::idle(10), Table::without(10, &[4]));
        let mut fell_to = [0; 10];
        for i in 0..20_000 {
            let pick = |loads| {
                balancer
                    .pick(&client(i), NOW, loads, &mut noise(1))
                    .unwrap()
            };
            match (pick(&all), pick(&rest)) {
                (4, other) => fell_to[other] += 1,
                (home, now) => assert_eq!(home, now),
            }
        }
        assert_eq!(fell_to[4], 0);
        let others: Vec<u32> = fell_to.iter().copied().filter(|n| *n > 0).collect();
        assert_eq!(others.len(), 9, "{fell_to:?}");
        // A point of the ring passes its clients on to the next, so shares vary more there.
        let part = if kind == SchedulerKind::Ring {
            1.5
        } else {
            0.3
        };
        assert_shares(&others, &[1; 9], part);
    }
}

#[test]
fn the_port_counts_where_it_is_asked_for() {
    for kind in [SchedulerKind::Sh, SchedulerKind::Mh, SchedulerKind::Ring] {
        for (hash, different) in [(HashKey::Source, 1), (HashKey::SourcePort, 20)] {
            let scheduler = Scheduler {
                hash,
                ..scheduler(kind)
            };
            let balancer = Balancer::new(&scheduler, &candidates(&[1; 20]), Arc::default(), None);
            let mut seen: Vec<_> = (0..1000)
                .map(|port| balancer.hashed(&Client { port, ..client(1) }, NOW))
                .collect();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), different);
        }
    }
}

#[test]
fn dh_goes_by_the_destination_and_nothing_else() {
    let [dh, sh] = [SchedulerKind::Dh, SchedulerKind::Sh].map(|kind| balancer(kind, &[1; 20]));
    let mut seen = std::collections::BTreeSet::new();
    for i in 0..200 {
        let to = Client {
            destination: client(i).ip,
            ..client(7)
        };
        let from = Client {
            destination: client(7).destination,
            port: i as u16,
            ..client(i)
        };
        // The same table as that of `sh`, by another address.
        assert_eq!(dh.hashed(&to, NOW), sh.hashed(&client(i), NOW));
        assert_eq!(dh.hashed(&from, NOW), dh.hashed(&client(7), NOW));
        seen.insert(dh.hashed(&to, NOW));
    }
    assert_eq!(seen.len(), 20);
}

#[test]
fn the_seed_counts() {
    for kind in ALL {
        let other = Scheduler {
            seed: 1,
            ..scheduler(kind)
        };
        let other = Balancer::new(&other, &candidates(&[1; 10]), Arc::default(), None);
        let one = balancer(kind, &[1; 10]);
        let same = (0..1000)
            .filter(|i| one.hashed(&client(*i), NOW) == other.hashed(&client(*i), NOW))
            .count();
        assert!(same < 200, "{same} of 1000 clients are where they were");
    }
}

#[test]
fn a_mapped_client_goes_where_the_ipv4_one_goes() {
    for kind in ALL {
        let balancer = balancer(kind, &[1; 50]);
        for i in 0..100u8 {
            let v4 = format!("198.51.100.{i}").parse().unwrap();
            let mapped = format!("::ffff:198.51.100.{i}").parse().unwrap();
            let hashed = |ip| {
                let client = Client {
                    ip,
                    port: 1,
                    destination: ip,
                };
                balancer.hashed(&client, NOW)
            };
            assert_eq!(hashed(v4), hashed(mapped));
        }
    }
}

#[test]
fn every_build_on_every_machine_agrees() {
    // A change of these figures moves clients when one of two directors is upgraded.
    let led = |kind, table| -> Vec<usize> {
        let scheduler = Scheduler {
            table,
            seed: 42,
            ..scheduler(kind)
        };
        let mut candidates = candidates(&[1, 2, 3, 4, 5, 6, 7, 8]);
        candidates[0].addr = BackendAddr::Unix("/run/app.sock".into());
        candidates[1].addr = "[fd00::1]:80".parse().unwrap();
        let balancer = Balancer::new(&scheduler, &candidates, Arc::default(), None);
        (0..16)
            .map(|i| balancer.hashed(&client(i), NOW).unwrap())
            .collect()
    };
    assert_eq!(
        led(SchedulerKind::Sh, 0),
        [0, 7, 0, 2, 6, 2, 7, 6, 4, 6, 2, 5, 6, 5, 5, 5]
    );
    assert_eq!(
        led(SchedulerKind::Mh, 0),
        [6, 5, 6, 6, 4, 7, 1, 5, 6, 5, 7, 6, 7, 4, 2, 7]
    );
    assert_eq!(
        led(SchedulerKind::Mh, 655_373),
        [4, 1, 6, 7, 7, 4, 4, 5, 7, 7, 1, 2, 4, 3, 5, 2]
    );
}

#[test]
fn sh_has_a_slot_for_everyone() {
    // IPVS has 256 slots, and what comes last in them may get none.
    let weights: Vec<u32> = (0..300).map(|i| if i < 10 { 100_000 } else { 1 }).collect();
    let counts = tally(
        &balancer(SchedulerKind::Sh, &weights),
        &Table::idle(300),
        2_000_000,
    );
    assert!(counts.iter().all(|count| *count > 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_order_of_the_candidates_does_not_matter(
        weights in prop::collection::vec((0u32..5).prop_flat_map(|w| {
            (Just(w), prop::bool::weighted(0.8))
        }), 1..30),
        turn in any::<prop::sample::Index>(),
        seed: u64,
    ) {
        let n = weights.len();
        let turn = turn.index(n);
        // Index i of the turned list is index (i + turn) % n of the other.
        let turned: Vec<Candidate> = (0..n)
            .map(|i| (i + turn) % n)
            .map(|i| Candidate { addr: addr(i), weight: weights[i].0, ready_since: NOW })
            .collect();
        let straight: Vec<u32> = weights.iter().map(|(w, _)| *w).collect();
        let loads = Table(weights.iter().map(|(_, usable)| (0, *usable)).collect());
        let turned_loads = Table((0..n).map(|i| loads.0[(i + turn) % n]).collect());
        for kind in ALL {
            let scheduler = Scheduler { seed, ..scheduler(kind) };
            let a = Balancer::new(&scheduler, &candidates(&straight), Arc::default(), None);
            let b = Balancer::new(&scheduler, &turned, Arc::default(), None);
            for i in 0..200 {
                let client = client(i);
                let same = |i: usize| (i + turn) % n;
                prop_assert_eq!(a.hashed(&client, NOW), b.hashed(&client, NOW).map(same));
                prop_assert_eq!(
                    a.pick(&client, NOW, &loads, &mut noise(1)),
                    b.pick(&client, NOW, &turned_loads, &mut noise(2)).map(same)
                );
            }
        }
    }
}
