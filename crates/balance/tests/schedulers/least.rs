//! `lc`, `wlc`, `sed` and `nq`.

use plimsoll_balance::{Balancer, Loads};
use plimsoll_model::SchedulerKind;
use proptest::prelude::*;

use crate::{NOW, Table, balancer, client, noise, tally};

const ALL: [SchedulerKind; 4] = [
    SchedulerKind::Lc,
    SchedulerKind::Wlc,
    SchedulerKind::Sed,
    SchedulerKind::Nq,
];

/// Gives out picks that stay, and returns what is active in the end.
fn fill(balancer: &Balancer, candidates: usize, picks: usize) -> Vec<u32> {
    let mut loads = Table::idle(candidates);
    for _ in 0..picks {
        let index = balancer
            .pick(&client(0), NOW, &loads, &mut noise(1))
            .unwrap();
        loads.0[index].0 += 1;
    }
    loads.0.iter().map(|(active, _)| *active).collect()
}

#[test]
fn lc_fills_all_alike_whatever_they_weigh() {
    assert_eq!(
        fill(&balancer(SchedulerKind::Lc, &[1, 50, 0, 3]), 4, 300),
        [100, 100, 0, 100]
    );
}

#[test]
fn wlc_fills_by_weight() {
    assert_eq!(
        fill(&balancer(SchedulerKind::Wlc, &[1, 2, 7]), 3, 1000),
        [100, 200, 700]
    );
}

#[test]
fn equals_take_turns() {
    for kind in [SchedulerKind::Lc, SchedulerKind::Wlc] {
        let balancer = balancer(kind, &[1, 2, 3, 4]);
        assert_eq!(tally(&balancer, &Table::idle(4), 400), [100; 4]);
        // Those beside a busy one do not get its turns.
        let mut loads = Table::idle(4);
        loads.0[1].0 = 9;
        assert_eq!(tally(&balancer, &loads, 300), [100, 0, 100, 100]);
        let loads = Table(vec![(5, true), (10, true), (100, true), (20, true)]);
        let expected = if kind == SchedulerKind::Lc {
            [300, 0, 0, 0]
        } else {
            [100, 100, 0, 100]
        };
        assert_eq!(tally(&balancer, &loads, 300), expected);
    }
}

#[test]
fn sed_counts_the_one_to_come() {
    // With nothing active the heaviest is the quickest until it has so many.
    assert_eq!(fill(&balancer(SchedulerKind::Sed, &[1, 4]), 2, 3), [0, 3]);
    assert_eq!(
        fill(&balancer(SchedulerKind::Sed, &[1, 2, 7]), 3, 1000),
        [100, 200, 700]
    );
    let idle = Table(vec![(0, true), (3, true), (4, true)]);
    let sed = balancer(SchedulerKind::Sed, &[1, 5, 5]);
    assert_eq!(tally(&sed, &idle, 10), [0, 10, 0]);
}

#[test]
fn nq_takes_an_idle_one_at_once_or_else_as_sed() {
    let nq = balancer(SchedulerKind::Nq, &[1, 50, 1]);
    let idle = Table(vec![(0, true), (1, true), (0, true)]);
    assert_eq!(tally(&nq, &idle, 10), [5, 0, 5]);
    let busy = Table(vec![(1, true), (90, true), (1, true)]);
    assert_eq!(tally(&nq, &busy, 10), [0, 10, 0]);
    // One that cannot be used is no reason to queue.
    let full = Table(vec![(0, false), (3, true), (1, true)]);
    assert_eq!(tally(&nq, &full, 10), [0, 10, 0]);
}

#[test]
fn the_greatest_values_are_compared_exactly() {
    for kind in [SchedulerKind::Wlc, SchedulerKind::Sed, SchedulerKind::Nq] {
        let balancer = balancer(kind, &[(1 << 31) - 1, (1 << 31) - 2]);
        let loads = Table(vec![(u32::MAX, true), (u32::MAX, true)]);
        assert_eq!(tally(&balancer, &loads, 10), [10, 0], "{kind}");
    }
}

proptest! {
    #[test]
    fn nothing_usable_is_less_loaded_than_what_is_picked(
        all in prop::collection::vec((0u32..5, 0u32..20, any::<bool>()), 1..30),
        picks in 1usize..10,
    ) {
        let weights: Vec<u32> = all.iter().map(|(w, ..)| *w).collect();
        let loads = Table(all.iter().map(|(_, active, usable)| (*active, *usable)).collect());
        let candidates = || (0..all.len()).filter(|i| weights[*i] > 0 && loads.usable(*i));
        for kind in ALL {
            let balancer = balancer(kind, &weights);
            let weight = |i: usize| if kind == SchedulerKind::Lc { 1 } else { weights[i] };
            let idle = kind == SchedulerKind::Nq && candidates().any(|i| loads.active(i) == 0);
            let coming = u32::from(matches!(kind, SchedulerKind::Sed | SchedulerKind::Nq));
            for _ in 0..picks {
                let Some(picked) = balancer.pick(&client(0), NOW, &loads, &mut noise(1)) else {
                    prop_assert_eq!(candidates().count(), 0);
                    continue;
                };
                let load = |i: usize| loads.active(i) + coming;
                let best = candidates()
                    .all(|i| load(picked) * weight(i) <= load(i) * weight(picked));
                let best = if idle { loads.active(picked) == 0 } else { best };
                prop_assert!(best, "{} picked {}", kind, picked);
            }
        }
    }
}
