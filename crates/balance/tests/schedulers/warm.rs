//! Slow start.

use std::sync::Arc;

use plimsoll_balance::{Balancer, Candidate, Loads, SlowStart};
use plimsoll_model::{Scheduler, SchedulerKind};
use proptest::prelude::*;

use crate::{NOW, Table, addr, candidates, client, noise, scheduler};

/// How long the slow start of these tests takes, in ms.
const OVER: u64 = 10_000;

/// A balancer made at [`NOW`], of candidates with these weights that are ready since then.
fn started(kind: SchedulerKind, all: &[(u32, u64)]) -> Balancer {
    started_at(NOW, kind, all)
}

/// The same, made at another time.
fn started_at(now: u64, kind: SchedulerKind, all: &[(u32, u64)]) -> Balancer {
    let one = |(i, (weight, ready_since)): (usize, &(u32, u64))| Candidate {
        addr: addr(i),
        weight: *weight,
        ready_since: *ready_since,
    };
    let candidates: Vec<Candidate> = all.iter().enumerate().map(one).collect();
    let slow = SlowStart { over: OVER, now };
    // What must not depend on the bound is tested without.
    let scheduler = Scheduler {
        bound: 0,
        ..scheduler(kind)
    };
    Balancer::new(&scheduler, &candidates, Arc::default(), Some(slow))
}

/// What part of all picks the last candidate gets at a time, by clients and destinations of which
/// each comes once; what is picked is over at once.
fn share_of_last(balancer: &Balancer, n: usize, now: u64) -> f64 {
    const PICKS: u32 = 4000;
    let loads = Table::idle(n);
    let mut random = noise(now);
    let mut last = 0;
    for i in 0..PICKS {
        let mut client = client(i);
        client.destination =
            std::net::Ipv4Addr::from(i.wrapping_mul(0x9E37_79B9) ^ now as u32).into();
        last += u32::from(balancer.pick(&client, now, &loads, &mut random).unwrap() == n - 1);
    }
    f64::from(last) / f64::from(PICKS)
}

#[test]
fn the_share_of_a_new_one_grows_linearly_whatever_the_scheduler() {
    // Of idle ones `sed` takes the heaviest only: see below.
    let all = SchedulerKind::NAMES.map(|(_, kind)| kind);
    for kind in all.into_iter().filter(|kind| *kind != SchedulerKind::Sed) {
        // In the end everything goes to the heaviest of `fo` and `ovf`.
        let weights: &[u32] = match kind {
            SchedulerKind::Fo | SchedulerKind::Ovf => &[1, 1, 2],
            _ => &[1, 1, 1],
        };
        let mut all: Vec<(u32, u64)> = weights.iter().map(|w| (*w, 0)).collect();
        all[2].1 = NOW;
        if kind == SchedulerKind::First {
            // The one preferred comes back.
            all[2].1 = 0;
            all[0].1 = NOW;
            let balancer = started(kind, &all);
            let others = |now| {
                let picks = (0..4000).filter(|i| {
                    balancer.pick(
                        &client(*i),
                        now,
                        &Table::idle(3),
                        &mut noise(u64::from(*i) + 7),
                    ) != Some(0)
                });
                picks.count() as f64 / 4000.0
            };
            for (passed, part) in [(0, 1.0), (OVER / 4, 0.75), (OVER / 2, 0.5), (OVER, 0.0)] {
                assert!((others(NOW + passed) - part).abs() < 0.05);
            }
            continue;
        }
        let balancer = started(kind, &all);
        let full = share_of_last(&balancer, 3, NOW + OVER);
        assert!(full > 0.28, "{kind}: {full}");
        for (passed, part) in [
            (0, 0.0),
            (OVER / 4, 0.25),
            (OVER / 2, 0.5),
            (OVER * 3 / 4, 0.75),
        ] {
            let share = share_of_last(&balancer, 3, NOW + passed);
            assert!(
                (share - full * part).abs() < 0.06,
                "{kind}: {share} of {full} after {passed} ms"
            );
        }
        assert_eq!(balancer.warmth(0, NOW), 1.0);
        assert_eq!(balancer.warmth(2, NOW + OVER / 4), 0.25);
        assert_eq!(balancer.warmth(2, NOW + OVER), 1.0);
    }
}

#[test]
fn a_cold_one_is_kept_less_loaded_by_those_that_compare_loads() {
    // Under load that stays, what is active follows weight × part.
    for kind in [SchedulerKind::Lc, SchedulerKind::Wlc, SchedulerKind::Sed] {
        let balancer = started(kind, &[(1, 0), (1, 0), (1, NOW)]);
        let mut loads = Table(vec![(400, true), (400, true), (0, true)]);
        let mut random = noise(5);
        let now = NOW + OVER / 2;
        for _ in 0..1000 {
            let i = balancer.pick(&client(0), now, &loads, &mut random).unwrap();
            loads.0[i].0 += 1;
        }
        // 1800 in all, by 2 : 2 : 1.
        let cold = loads.active(2);
        assert!((355..=365).contains(&cold), "{kind}: {loads:?}");
    }
}

#[test]
fn where_all_are_new_nothing_is_slow() {
    for (_, kind) in SchedulerKind::NAMES {
        let new = started(kind, &[(1, NOW), (2, NOW), (3, NOW)]);
        let plain = Balancer::new(
            &scheduler(kind),
            &candidates(&[1, 2, 3]),
            Arc::default(),
            None,
        );
        let loads = Table(vec![(1, true), (2, true), (3, true)]);
        let (mut a, mut b) = (noise(3), noise(3));
        for i in 0..200 {
            assert_eq!(
                new.pick(&client(i), NOW + 1, &loads, &mut a),
                plain.pick(&client(i), NOW + 1, &loads, &mut b),
                "{kind}"
            );
        }
    }
}

#[test]
fn those_that_come_at_the_start_are_slow_only_beside_those_that_are_older() {
    // The first has served for 100 ms when the second comes, not for hours.
    let balancer = started(SchedulerKind::Rr, &[(1, NOW - 100), (1, NOW)]);
    assert_eq!(balancer.warmth(1, NOW), 0.0);
    assert_eq!(balancer.warmth(1, NOW + 100), 0.5);
    assert!(balancer.warmth(1, NOW + 1000) > 0.9);
}

#[test]
fn each_client_of_a_hash_goes_over_once_and_from_where_it_was() {
    for kind in [
        SchedulerKind::Sh,
        SchedulerKind::Dh,
        SchedulerKind::Mh,
        SchedulerKind::Ring,
    ] {
        let balancer = started(kind, &[(1, 0), (1, 0), (1, 0), (1, NOW)]);
        let before = Balancer::new(
            &scheduler(kind),
            &candidates(&[1, 1, 1, 0]),
            Arc::default(),
            None,
        );
        let idle = Table::idle(4);
        for i in 0..500 {
            let client = client(i);
            let old = before.hashed(&client, NOW);
            let mut went = false;
            for passed in (0..=OVER).step_by(500) {
                let now = NOW + passed;
                let led = balancer.hashed(&client, now);
                assert_eq!(
                    balancer.pick(&client, now, &idle, &mut noise(1)),
                    led,
                    "{kind}"
                );
                went |= led != old;
                let other = balancer.hashed(&client, NOW + OVER);
                assert_eq!(led, if went { other } else { old }, "{kind}");
            }
        }
    }
}

/// How many of 1000 clients come back to a backend that they had left, while so many others come to
/// three that serve, one each 500 ms.
fn returns(kind: SchedulerKind, newcomers: u64) -> usize {
    let end = newcomers * 500 + OVER;
    let mut ways = vec![Vec::<usize>::new(); 1000];
    let mut all = vec![(1, 0); 3];
    let mut balancer = started(kind, &all);
    for passed in (0..=end).step_by(250) {
        let now = NOW + passed;
        if passed % 500 == 0 && passed / 500 < newcomers {
            all.push((1, now));
            balancer = started_at(now, kind, &all);
        }
        for (way, i) in ways.iter_mut().zip(0..) {
            let led = balancer.hashed(&client(i), now).unwrap();
            if way.last() != Some(&led) {
                way.push(led);
            }
        }
    }
    let twice = |way: &&Vec<usize>| (1..way.len()).any(|at| way[..at].contains(&way[at]));
    ways.iter().filter(twice).count()
}

#[test]
fn clients_of_a_hash_do_not_go_back_and_forth_where_one_comes_after_the_other() {
    // More than the tables tell apart: what few have gone to by then may be left again.
    for (newcomers, most) in [(2, 0), (8, 0), (12, 60)] {
        let of_ring = returns(SchedulerKind::Ring, newcomers);
        assert!(of_ring <= most, "{newcomers}: {of_ring}");
        // Its table moves a few that it need not.
        let of_mh = returns(SchedulerKind::Mh, newcomers);
        assert!(of_mh <= most + 20, "{newcomers}: {of_mh}");
    }
}

proptest! {
    #[test]
    fn a_cold_one_serves_where_no_other_can(
        kind in prop::sample::select(SchedulerKind::NAMES.map(|(_, kind)| kind).to_vec()),
        all in prop::collection::vec((0u32..4, 0u64..2, prop::bool::weighted(0.4)), 1..12),
        passed in 0..OVER,
    ) {
        let since: Vec<(u32, u64)> = all.iter().map(|(w, cold, _)| (*w, cold * NOW)).collect();
        let loads = Table(all.iter().map(|(.., usable)| (1, *usable)).collect());
        let balancer = started(kind, &since);
        let any = all.iter().any(|(w, _, usable)| *w > 0 && *usable);
        let mut random = noise(passed);
        for i in 0..30 {
            let picked = balancer.pick(&client(i), NOW + passed, &loads, &mut random);
            prop_assert_eq!(picked.is_some(), any);
            if let Some(index) = picked {
                prop_assert!(all[index].0 > 0 && loads.usable(index));
            }
        }
    }
}
