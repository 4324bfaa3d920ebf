//! `random` and `twos`.

use plimsoll_model::{MAX_WEIGHT, SchedulerKind};

use crate::{NOW, Table, assert_shares, balancer, client, noise, tally};

#[test]
fn chances_follow_the_weights() {
    let weights = [1, 2, 3, 0, 10];
    for kind in [SchedulerKind::Random, SchedulerKind::Twos] {
        let counts = tally(&balancer(kind, &weights), &Table::idle(5), 160_000);
        assert_shares(&counts, &weights, 0.05);
    }
}

#[test]
fn chances_follow_the_weights_among_the_usable() {
    // Once where draws find a usable one soon, once where they hardly ever do.
    for full in [5, MAX_WEIGHT] {
        let balancer = balancer(SchedulerKind::Random, &[1, full, 3, 6]);
        let counts = tally(&balancer, &Table::without(4, &[1]), 100_000);
        assert_shares(&counts, &[1, 0, 3, 6], 0.05);
    }
}

#[test]
fn the_ends_of_the_range_of_randomness_are_members() {
    for kind in [SchedulerKind::Random, SchedulerKind::Twos] {
        let balancer = balancer(kind, &[0, 3, 0, MAX_WEIGHT, 0]);
        let loads = Table::idle(5);
        let pick = |bits: u64| balancer.pick(&client(0), NOW, &loads, &mut || bits);
        assert_eq!(pick(0), Some(1));
        assert_eq!(pick(u64::MAX), Some(3));
    }
}

#[test]
fn twos_takes_the_less_loaded_by_weight() {
    let balancer = balancer(SchedulerKind::Twos, &[1, 1, 1, 1]);
    let loads = Table(vec![(3, true), (2, true), (1, true), (9, true)]);
    let counts = tally(&balancer, &loads, 60_000);
    // Of two different ones of four the least loaded wins half of all pairs, the next a third, the
    // next a sixth; the last wins only where all draws were itself: 4⁻⁵.
    assert_shares(&counts[..3], &[1, 2, 3], 0.05);
    assert!(counts[3] < 150, "{counts:?}");
}

#[test]
fn twos_keeps_a_filling_service_near_its_weights() {
    let weights = [1, 2, 4, 8];
    let balancer = balancer(SchedulerKind::Twos, &weights);
    let mut loads = Table::idle(4);
    let mut random = noise(3);
    for _ in 0..15_000 {
        let index = balancer.pick(&client(0), NOW, &loads, &mut random).unwrap();
        loads.0[index].0 += 1;
    }
    let active: Vec<u32> = loads.0.iter().map(|(active, _)| *active).collect();
    assert_shares(&active, &weights, 0.01);
}
