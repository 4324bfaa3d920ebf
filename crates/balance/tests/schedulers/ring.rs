//! `ring`, besides what it has in common with the tables.

use std::sync::Arc;

use plimsoll_balance::{Balancer, Loads};
use plimsoll_model::{Scheduler, SchedulerKind};
use proptest::prelude::*;

use crate::{NOW, Table, assert_shares, balancer, candidates, client, noise, tally};

fn bounded(bound: u32, weights: &[u32]) -> Balancer {
    let scheduler = Scheduler {
        kind: SchedulerKind::Ring,
        bound,
        ..Scheduler::default()
    };
    Balancer::new(&scheduler, &candidates(weights), Arc::default(), None)
}

/// What a backend may have, when so much is active and one comes.
fn fill(bound: u32, active: u32, weight: u32, weights: &[u32]) -> u32 {
    let all: u32 = weights.iter().sum();
    let share = u64::from(bound) * u64::from(active + 1) * u64::from(weight);
    share.div_ceil(100 * u64::from(all)) as u32
}

#[test]
fn shares_follow_the_weights() {
    let weights = [1, 2, 3, 0, 10];
    let counts = tally(&bounded(0, &weights), &Table::idle(5), 160_000);
    assert_shares(&counts, &weights, 0.4);
    let counts = tally(&bounded(0, &[7; 100]), &Table::idle(100), 1_000_000);
    assert_shares(&counts, &[7; 100], 0.4);
}

#[test]
fn only_clients_of_those_that_come_or_go_move() {
    let all = balancer(SchedulerKind::Ring, &[3; 20]);
    let mut weights = [3; 20];
    weights[7] = 0;
    let rest = balancer(SchedulerKind::Ring, &weights);
    let mut moved = 0;
    for i in 0..20_000 {
        match (all.hashed(&client(i), NOW), rest.hashed(&client(i), NOW)) {
            (Some(7), other) => {
                moved += 1;
                assert_ne!(other, Some(7));
            }
            (home, now) => assert_eq!(home, now),
        }
    }
    assert!((500..1500).contains(&moved), "{moved}");
}

#[test]
fn a_heavier_one_takes_clients_of_others_and_moves_no_others() {
    // So little heavier that the points per unit of weight stay the same.
    let mut weights = [4; 20];
    let before = balancer(SchedulerKind::Ring, &weights);
    weights[7] = 6;
    let after = balancer(SchedulerKind::Ring, &weights);
    for i in 0..20_000 {
        let (home, now) = (
            before.hashed(&client(i), NOW),
            after.hashed(&client(i), NOW),
        );
        assert!(home == now || now == Some(7), "{home:?} {now:?}");
    }
}

#[test]
fn one_busy_client_is_spread_as_far_as_the_bound_asks() {
    // Without a bound everything of one client goes to its home.
    for (bound, homes) in [(0, 1), (200, 5), (125, 8)] {
        let ring = bounded(bound, &[1; 10]);
        let mut loads = Table::idle(10);
        for _ in 0..1000 {
            let index = ring.pick(&client(3), NOW, &loads, &mut noise(1)).unwrap();
            loads.0[index].0 += 1;
        }
        let busy = loads.0.iter().filter(|(active, _)| *active > 0).count();
        assert!((homes..=homes + 2).contains(&busy), "{bound}: {loads:?}");
    }
}

proptest! {
    #[test]
    fn nobody_gets_more_than_the_bound_and_nobody_moves_without_need(
        weights in prop::collection::vec(0u32..6, 2..20),
        bound in prop::sample::select(vec![101, 125, 150, 300]),
        clients in 1u32..8,
    ) {
        prop_assume!(weights.iter().sum::<u32>() > 0);
        let ring = bounded(bound, &weights);
        let mut loads = Table::idle(weights.len());
        for i in 0..300 {
            let client = client(i % clients);
            let active: u32 = loads.0.iter().map(|(active, _)| active).sum();
            let picked = ring.pick(&client, NOW, &loads, &mut noise(1)).unwrap();
            let most = fill(bound, active, weights[picked], &weights);
            prop_assert!(loads.active(picked) < most, "{:?}", loads);
            let home = ring.hashed(&client, NOW).unwrap();
            if loads.active(home) < fill(bound, active, weights[home], &weights) {
                prop_assert_eq!(picked, home);
            }
            loads.0[picked].0 += 1;
        }
    }
}
