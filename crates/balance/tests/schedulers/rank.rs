//! `first`, `fo` and `ovf`.

use plimsoll_balance::Loads;
use plimsoll_model::SchedulerKind;
use proptest::prelude::*;

use crate::{NOW, Table, balancer, client, noise, tally};

#[test]
fn first_fills_one_after_the_other() {
    let first = balancer(SchedulerKind::First, &[1, 0, 9, 5]);
    let mut loads = Table::idle(4);
    let mut took = Vec::new();
    for _ in 0..7 {
        let index = first
            .pick(&client(0), NOW, &loads, &mut noise(1))
            .unwrap_or(usize::MAX);
        took.push(index);
        if let Some((active, usable)) = loads.0.get_mut(index) {
            // Each has room for two.
            *active += 1;
            *usable = *active < 2;
        }
    }
    assert_eq!(took, [0, 0, 2, 2, 3, 3, usize::MAX]);
    // Who has room again is the first again.
    loads.0[0] = (1, true);
    assert_eq!(tally(&first, &loads, 5), [5, 0, 0, 0]);
}

#[test]
fn fo_takes_the_heaviest_there_is_whatever_its_load() {
    let fo = balancer(SchedulerKind::Fo, &[1, 3, 2, 3]);
    let busy = Table(vec![(0, true), (1000, true), (0, true), (0, true)]);
    assert_eq!(tally(&fo, &busy, 10), [0, 10, 0, 0]);
    for (gone, next) in [(vec![1], 3), (vec![1, 3], 2), (vec![1, 2, 3], 0)] {
        let mut expected = [0; 4];
        expected[next] = 10;
        assert_eq!(tally(&fo, &Table::without(4, &gone), 10), expected);
    }
}

#[test]
fn ovf_overflows_when_the_heaviest_has_more_than_its_weight() {
    let ovf = balancer(SchedulerKind::Ovf, &[2, 4, 1]);
    let mut loads = Table::idle(3);
    let mut took = Vec::new();
    for _ in 0..10 {
        let index = ovf.pick(&client(0), NOW, &loads, &mut noise(1)).unwrap();
        loads.0[index].0 += 1;
        took.push(index);
    }
    // As in the kernel: one more than the weight, for it is looked at before it is counted.
    assert_eq!(took, [1, 1, 1, 1, 1, 0, 0, 0, 2, 2]);
    // All have their fill: who has the least for its weight.
    for next in [1, 1, 0, 1, 1] {
        let index = ovf.pick(&client(0), NOW, &loads, &mut noise(1)).unwrap();
        assert_eq!(index, next, "{loads:?}");
        loads.0[index].0 += 1;
    }
}

proptest! {
    #[test]
    fn nobody_preferred_is_passed_over(
        all in prop::collection::vec((0u32..5, 0u32..8, any::<bool>()), 1..30),
    ) {
        let weights: Vec<u32> = all.iter().map(|(w, ..)| *w).collect();
        let loads = Table(all.iter().map(|(_, active, usable)| (*active, *usable)).collect());
        let candidates = || (0..all.len()).filter(|i| weights[*i] > 0 && loads.usable(*i));
        let pick = |kind| balancer(kind, &weights).pick(&client(0), NOW, &loads, &mut noise(1));
        prop_assert_eq!(pick(SchedulerKind::First), candidates().next());
        // Of equals the first.
        let heaviest = |i: &usize| (weights[*i], std::cmp::Reverse(*i));
        prop_assert_eq!(pick(SchedulerKind::Fo), candidates().max_by_key(heaviest));
        let with_room = || candidates().filter(|i| loads.active(*i) <= weights[*i]);
        match (pick(SchedulerKind::Ovf), with_room().max_by_key(heaviest)) {
            (Some(picked), None) => {
                let least = candidates().all(|i| {
                    loads.active(picked) * weights[i] <= loads.active(i) * weights[picked]
                });
                prop_assert!(least);
            }
            (picked, best) => prop_assert_eq!(picked, best),
        }
    }
}
