//! `rr` and `wrr`.

use std::sync::Arc;
use std::thread;

use plimsoll_balance::{Balancer, Shared};
use plimsoll_model::{MAX_WEIGHT, SchedulerKind};
use proptest::prelude::*;

use crate::{NOW, Table, assert_shares, balancer, candidates, client, noise, scheduler, tally};

/// The first so many picks.
fn picks(balancer: &Balancer, loads: &Table, n: usize) -> Vec<usize> {
    (0..n)
        .map(|_| {
            balancer
                .pick(&client(0), NOW, loads, &mut noise(1))
                .unwrap()
        })
        .collect()
}

#[test]
fn rr_goes_round_and_ignores_weights_but_for_0() {
    let balancer = balancer(SchedulerKind::Rr, &[1, 5, 0, 9]);
    assert_eq!(picks(&balancer, &Table::idle(4), 7), [0, 1, 3, 0, 1, 3, 0]);
}

#[test]
fn wrr_of_equal_weights_is_rr() {
    let wrr = balancer(SchedulerKind::Wrr, &[7; 10]);
    let rr = balancer(SchedulerKind::Rr, &[7; 10]);
    let loads = Table::without(10, &[3, 4]);
    assert_eq!(picks(&wrr, &loads, 100), picks(&rr, &loads, 100));
}

#[test]
fn the_cursor_outlives_the_balancer() {
    let shared = Arc::<Shared>::default();
    let new = || {
        let candidates = candidates(&[1; 5]);
        Balancer::new(
            &scheduler(SchedulerKind::Rr),
            &candidates,
            shared.clone(),
            None,
        )
    };
    assert_eq!(picks(&new(), &Table::idle(5), 3), [0, 1, 2]);
    assert_eq!(picks(&new(), &Table::idle(5), 3), [3, 4, 0]);
}

#[test]
fn turns_of_the_unusable_are_shared_by_all_others() {
    let rr = balancer(SchedulerKind::Rr, &[1; 6]);
    let counts = tally(&rr, &Table::without(6, &[1, 2, 4]), 900);
    assert_eq!(counts, [300, 0, 0, 300, 0, 300]);
    // More of them side by side than are passed over one by one.
    let gap: Vec<usize> = (20..80).collect();
    let rr = balancer(SchedulerKind::Rr, &[1; 100]);
    let counts = tally(&rr, &Table::without(100, &gap), 4000);
    assert!((0..100).all(|i| counts[i] == if gap.contains(&i) { 0 } else { 100 }));
}

#[test]
fn weights_hold_among_the_rest_when_the_heavy_one_is_full() {
    let wrr = balancer(SchedulerKind::Wrr, &[1000, 3, 1]);
    let counts = tally(&wrr, &Table::without(3, &[0]), 4000);
    assert_shares(&counts[1..], &[3, 1], 0.01);
}

#[test]
fn a_thousand_odd_weights_have_their_shares() {
    let weights: Vec<u32> = (0..1000).map(|i| 500_000 + i * 997).collect();
    let counts = tally(
        &balancer(SchedulerKind::Wrr, &weights),
        &Table::idle(1000),
        65_536,
    );
    // One turn of about 65.
    assert_shares_within_one(&counts, &weights);
}

fn assert_shares_within_one(counts: &[u32], weights: &[u32]) {
    let sum: f64 = weights.iter().map(|w| f64::from(*w)).sum();
    let picks: u32 = counts.iter().sum();
    for (count, weight) in counts.iter().zip(weights) {
        let exact = f64::from(picks) * f64::from(*weight) / sum;
        assert!((f64::from(*count) - exact).abs() < 1.0, "{count}, {exact}");
    }
}

#[test]
fn the_lightest_beside_the_heaviest_still_gets_a_turn() {
    let wrr = balancer(SchedulerKind::Wrr, &[1, MAX_WEIGHT]);
    assert_eq!(tally(&wrr, &Table::idle(2), 65_536), [1, 65_535]);
}

/// Picks of four threads at once.
fn tally_of_four(kind: SchedulerKind, weights: &[u32], each: u32) -> Vec<u32> {
    let balancer = balancer(kind, weights);
    let mut counts = vec![0; weights.len()];
    thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| tally(&balancer, &Table::idle(weights.len()), each)))
            .collect();
        for thread in threads {
            for (sum, count) in counts.iter_mut().zip(thread.join().unwrap()) {
                *sum += count;
            }
        }
    });
    counts
}

#[test]
fn shares_are_exact_over_all_threads() {
    assert_eq!(
        tally_of_four(SchedulerKind::Rr, &[1; 7], 70_000),
        [40_000; 7]
    );
    assert_eq!(
        tally_of_four(SchedulerKind::Wrr, &[5, 2, 1], 80_000),
        [200_000, 80_000, 40_000]
    );
    // An idle service: every pick of lc is one among equals.
    assert_eq!(
        tally_of_four(SchedulerKind::Lc, &[1; 7], 70_000),
        [40_000; 7]
    );
}

proptest! {
    #[test]
    fn wrr_is_smooth_and_exact(weights in prop::collection::vec(0u32..50, 1..20)) {
        let sum: u32 = weights.iter().sum();
        prop_assume!(sum > 0);
        let balancer = balancer(SchedulerKind::Wrr, &weights);
        let mut had = vec![0u32; weights.len()];
        for (turn, index) in picks(&balancer, &Table::idle(weights.len()), 2 * sum as usize)
            .into_iter()
            .enumerate()
        {
            had[index] += 1;
            for (h, w) in had.iter().zip(&weights) {
                let share = (turn + 1) as f64 * f64::from(*w) / f64::from(sum);
                prop_assert!((f64::from(*h) - share).abs() < 1.0);
            }
        }
        prop_assert!(had.iter().zip(&weights).all(|(h, w)| h % w.max(&1) == 0));
    }
}
