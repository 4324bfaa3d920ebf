//! `lblc` and `lblcr`.

use std::net::Ipv4Addr;
use std::sync::Arc;

use plimsoll_balance::{Balancer, Client, Shared};
use plimsoll_model::SchedulerKind;
use proptest::prelude::*;

use crate::{NOW, Table, balancer, candidates, client, noise, scheduler};

const BOTH: [SchedulerKind; 2] = [SchedulerKind::Lblc, SchedulerKind::Lblcr];

/// A day, in ms.
const DAY: u64 = 24 * 60 * 60 * 1000;

fn to(destination: u32, from: u32) -> Client {
    Client {
        destination: Ipv4Addr::from(0xac10_0000 + destination).into(),
        ..client(from)
    }
}

fn pick_at(balancer: &Balancer, now: u64, client: &Client, loads: &Table) -> usize {
    balancer.pick(client, now, loads, &mut noise(1)).unwrap()
}

fn pick(balancer: &Balancer, client: &Client, loads: &Table) -> usize {
    pick_at(balancer, NOW, client, loads)
}

#[test]
fn a_destination_stays_whoever_comes_and_whoever_is_idle() {
    for kind in BOTH {
        let balancer = balancer(kind, &[10; 5]);
        let mut loads = Table::idle(5);
        let homes: Vec<usize> = (0..20)
            .map(|d| pick(&balancer, &to(d, 0), &loads))
            .collect();
        // Idle ones take turns, so that destinations are spread.
        assert!((0..5).all(|i| homes.iter().filter(|h| **h == i).count() == 4));
        for i in 0..5 {
            // As many as it weighs are not too many.
            loads.0[i].0 = if i == 2 { 10 } else { 0 };
        }
        for from in 0..50 {
            for d in 0..20 {
                assert_eq!(pick(&balancer, &to(d, from), &loads), homes[d as usize]);
            }
        }
    }
}

#[test]
fn a_destination_moves_when_its_backend_has_too_much_and_another_little() {
    for kind in BOTH {
        let balancer = balancer(kind, &[10; 3]);
        let home = pick(&balancer, &to(1, 0), &Table::idle(3));
        let others: Vec<usize> = (0..3).filter(|i| *i != home).collect();
        let mut loads = Table(vec![(5, true); 3]);
        loads.0[home].0 = 11;
        // Too much, but nobody has less than half of what it weighs.
        assert_eq!(pick(&balancer, &to(1, 0), &loads), home);
        loads.0[others[1]].0 = 4;
        assert_eq!(pick(&balancer, &to(1, 0), &loads), others[1]);
        // It has its new place when the load is gone; with several, the less loaded one.
        loads = Table(vec![(2, true); 3]);
        loads.0[home].0 = 1;
        let back = if kind == SchedulerKind::Lblcr {
            home
        } else {
            others[1]
        };
        assert_eq!(pick(&balancer, &to(1, 0), &loads), back);
        loads.0[home].0 = 3;
        assert_eq!(pick(&balancer, &to(1, 0), &loads), others[1]);
    }
}

#[test]
fn a_destination_whose_backend_cannot_take_it_has_another_from_then_on() {
    for kind in BOTH {
        let balancer = balancer(kind, &[10; 3]);
        let home = pick(&balancer, &to(1, 0), &Table::idle(3));
        let other = pick(&balancer, &to(1, 0), &Table::without(3, &[home]));
        assert_ne!(other, home);
        let mut loads = Table::idle(3);
        loads.0[home].0 = 1;
        assert_eq!(pick(&balancer, &to(1, 0), &loads), other, "{kind}");
    }
}

#[test]
fn a_set_of_backends_loses_its_most_loaded_one_after_a_day_without_change() {
    let balancer = balancer(SchedulerKind::Lblcr, &[10; 3]);
    let home = pick(&balancer, &to(1, 0), &Table::idle(3));
    let mut loads = Table(vec![(9, true); 3]);
    let second = (home + 1) % 3;
    (loads.0[home].0, loads.0[second].0) = (11, 0);
    assert_eq!(pick(&balancer, &to(1, 0), &loads), second);
    // Both are used, until the day is over.
    loads.0[home].0 = 1;
    loads.0[second].0 = 2;
    let day_after = NOW + DAY + 2000;
    for now in [NOW, NOW + DAY / 2, NOW + DAY - 1000] {
        assert_eq!(pick_at(&balancer, now, &to(1, 0), &loads), home);
    }
    loads.0[home].0 = 3;
    assert_eq!(pick_at(&balancer, day_after, &to(1, 0), &loads), second);
    loads.0[home].0 = 0;
    assert_eq!(pick_at(&balancer, day_after, &to(1, 0), &loads), second);
}

#[test]
fn a_destination_not_seen_for_a_day_is_forgotten() {
    for kind in BOTH {
        let balancer = balancer(kind, &[10; 3]);
        let home = pick(&balancer, &to(1, 0), &Table::idle(3));
        let mut loads = Table(vec![(0, true); 3]);
        loads.0[home].0 = 5;
        assert_eq!(pick_at(&balancer, NOW + DAY, &to(1, 0), &loads), home);
        let later = NOW + 2 * DAY + 2000;
        assert_ne!(pick_at(&balancer, later, &to(1, 0), &loads), home);
    }
}

#[test]
fn places_outlive_the_balancer_and_any_order_of_the_candidates() {
    for kind in BOTH {
        let shared = Arc::<Shared>::default();
        let all = candidates(&[10; 4]);
        let new = |all: &[_]| Balancer::new(&scheduler(kind), all, shared.clone(), None);
        let idle = Table::idle(4);
        let first = new(&all);
        let homes: Vec<usize> = (0..50).map(|d| pick(&first, &to(d, 0), &idle)).collect();
        let turned: Vec<_> = all.iter().cloned().rev().collect();
        let second = new(&turned);
        for (d, home) in (0..50).zip(&homes) {
            assert_eq!(3 - pick(&second, &to(d, 0), &idle), *home);
        }
        // Who is gone serves nothing.
        let without = new(&all[..2]);
        for (d, home) in (0..50).zip(homes) {
            let now = pick(&without, &to(d, 0), &Table::idle(2));
            assert!(now == home || home >= 2);
        }
    }
}

#[test]
fn the_table_is_bounded_and_those_in_use_stay() {
    let balancer = balancer(SchedulerKind::Lblc, &[10; 7]);
    let idle = Table::idle(7);
    let mut now = NOW;
    let home = pick_at(&balancer, now, &to(0, 0), &idle);
    for d in 1..50_000 {
        now += 1000;
        pick_at(&balancer, now, &to(d, 0), &idle);
        if d % 16 == 0 {
            assert_eq!(pick_at(&balancer, now, &to(0, 0), &idle), home, "{d}");
        }
    }
}

#[test]
fn a_table_is_written_from_many_threads() {
    for kind in BOTH {
        let balancer = balancer(kind, &[1000; 9]);
        let idle = Table::idle(9);
        std::thread::scope(|scope| {
            for from in 0..4 {
                let (balancer, idle) = (&balancer, &idle);
                scope.spawn(move || {
                    for i in 0..20_000u32 {
                        let d = i.wrapping_mul(2_654_435_761) % 30_000;
                        pick_at(balancer, NOW + u64::from(i), &to(d, from), idle);
                    }
                });
            }
        });
        // Whatever came of it: from now on every destination has one place.
        for d in 0..100 {
            let home = pick(&balancer, &to(d, 0), &idle);
            assert_eq!(pick(&balancer, &to(d, 1), &idle), home);
        }
    }
}

proptest! {
    #[test]
    fn one_destination_is_as_the_definition_says(
        weights in prop::collection::vec(1u32..5, 2..8),
        steps in prop::collection::vec(prop::collection::vec((0u32..9, prop::bool::weighted(0.8)), 8), 1..30),
    ) {
        let balancer = balancer(SchedulerKind::Lblc, &weights);
        let mut home: Option<usize> = None;
        for step in steps {
            let loads = Table(step[..weights.len()].to_vec());
            let usable = || (0..weights.len()).filter(|i| loads.0[*i].1);
            if usable().next().is_none() {
                continue;
            }
            let active = |i: usize| loads.0[i].0;
            let picked = pick(&balancer, &to(1, 0), &loads);
            let least = usable().all(|i| active(picked) * weights[i] <= active(i) * weights[picked]);
            let stays = home.is_some_and(|home| {
                loads.0[home].1
                    && (active(home) <= weights[home]
                        || usable().all(|i| active(i) * 2 >= weights[i]))
            });
            let right = if stays { home == Some(picked) } else { least };
            prop_assert!(right);
            home = Some(picked);
        }
    }
}
