//! The definitions of the schedulers, and what all of them have in common.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

mod chance;
mod hashing;
mod latency;
mod least;
mod locality;
mod rank;
mod ring;
mod round;
mod warm;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use plimsoll_balance::{Balancer, Candidate, Client, Loads, Shared};
use plimsoll_model::{BackendAddr, MAX_WEIGHT, Scheduler, SchedulerKind};
use proptest::prelude::*;

/// The time of all picks that do not go by time, in ms.
pub(crate) const NOW: u64 = 1_000_000;

/// What is active at each candidate, and whether it is usable.
#[derive(Clone, Debug)]
pub(crate) struct Table(pub(crate) Vec<(u32, bool)>);

impl Table {
    pub(crate) fn idle(n: usize) -> Self {
        Self(vec![(0, true); n])
    }

    pub(crate) fn without(n: usize, unusable: &[usize]) -> Self {
        Self((0..n).map(|i| (0, !unusable.contains(&i))).collect())
    }
}

impl Loads for Table {
    fn active(&self, index: usize) -> u32 {
        self.0[index].0
    }

    fn usable(&self, index: usize) -> bool {
        self.0[index].1
    }
}

pub(crate) fn addr(i: usize) -> BackendAddr {
    BackendAddr::Ip(Ipv4Addr::from(0x0a00_0001 + i as u32).into(), Some(80))
}

pub(crate) fn candidates(weights: &[u32]) -> Vec<Candidate> {
    let one = |(i, weight): (usize, &u32)| Candidate {
        addr: addr(i),
        weight: *weight,
        ready_since: NOW,
    };
    weights.iter().enumerate().map(one).collect()
}

pub(crate) fn scheduler(kind: SchedulerKind) -> Scheduler {
    // A small table, for tables are built a great many times here.
    let table = if kind == SchedulerKind::Mh { 10_007 } else { 0 };
    Scheduler {
        kind,
        table,
        ..Scheduler::default()
    }
}

pub(crate) fn balancer(kind: SchedulerKind, weights: &[u32]) -> Balancer {
    Balancer::new(&scheduler(kind), &candidates(weights), Arc::default(), None)
}

pub(crate) fn client(i: u32) -> Client {
    Client {
        ip: IpAddr::V4(Ipv4Addr::from(0xc000_0200u32.wrapping_add(i))),
        port: 40_000,
        destination: IpAddr::V4(Ipv4Addr::from(0xcb00_7100u32.wrapping_add(i))),
    }
}

/// Noise that is the same in every run (xorshift64).
pub(crate) fn noise(seed: u64) -> impl FnMut() -> u64 {
    let mut x = seed | 1;
    move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    }
}

/// How often each candidate is picked in so many picks, by clients of different addresses.
pub(crate) fn tally(balancer: &Balancer, loads: &Table, picks: u32) -> Vec<u32> {
    let mut random = noise(0x5eed);
    let mut counts = vec![0; loads.0.len()];
    for i in 0..picks {
        counts[balancer.pick(&client(i), NOW, loads, &mut random).unwrap()] += 1;
    }
    counts
}

/// Whether every count is the share of its weight, to within so large a part of it.
#[track_caller]
pub(crate) fn assert_shares(counts: &[u32], weights: &[u32], part: f64) {
    let (picks, sum): (u32, u32) = (counts.iter().sum(), weights.iter().sum());
    for (count, weight) in counts.iter().zip(weights) {
        let exact = f64::from(picks) * f64::from(*weight) / f64::from(sum);
        let off = (f64::from(*count) - exact).abs();
        assert!(off <= exact * part, "{counts:?} for {weights:?}");
    }
}

fn kind() -> impl Strategy<Value = SchedulerKind> {
    prop::sample::select(SchedulerKind::NAMES.map(|(_, kind)| kind).to_vec())
}

fn weight() -> impl Strategy<Value = u32> {
    prop_oneof![3 => 1u32..10, 1 => Just(0), 1 => Just(MAX_WEIGHT), 1 => 1..=MAX_WEIGHT]
}

proptest! {
    #[test]
    fn none_if_and_only_if_nothing_can_serve(
        kind in kind(),
        all in prop::collection::vec((weight(), any::<u32>(), prop::bool::weighted(0.3)), 0..40),
        from in any::<u32>(),
    ) {
        let weights: Vec<u32> = all.iter().map(|(w, ..)| *w).collect();
        let loads = Table(all.iter().map(|(_, active, usable)| (*active, *usable)).collect());
        let any = all.iter().any(|(w, _, usable)| *w > 0 && *usable);
        let balancer = balancer(kind, &weights);
        let mut random = noise(u64::from(from));
        for i in 0..50 {
            let picked = balancer.pick(&client(from.wrapping_add(i)), NOW, &loads, &mut random);
            prop_assert_eq!(picked.is_some(), any);
            if let Some(index) = picked {
                prop_assert!(weights[index] > 0 && loads.usable(index));
            }
        }
    }
}

#[test]
fn the_only_usable_one_of_many_is_found() {
    for (_, kind) in SchedulerKind::NAMES {
        // Light among heavy ones, so that neither chance nor turns will lead there soon.
        let mut weights = vec![1000; 300];
        weights[123] = 1;
        let mut loads = Table(vec![(0, false); 300]);
        loads.0[123] = (u32::MAX, true);
        let balancer = balancer(kind, &weights);
        let mut random = noise(1);
        for i in 0..20 {
            let picked = balancer.pick(&client(i), NOW, &loads, &mut random);
            assert_eq!(picked, Some(123), "{kind}");
        }
    }
}

#[test]
fn a_service_without_candidates_has_nothing_to_pick() {
    for (_, kind) in SchedulerKind::NAMES {
        for weights in [&[][..], &[0, 0]] {
            let balancer = balancer(kind, weights);
            let loads = Table::idle(weights.len());
            assert_eq!(balancer.pick(&client(1), NOW, &loads, &mut noise(1)), None);
            assert_eq!(balancer.hashed(&client(1), NOW), None);
        }
    }
}

#[test]
fn a_balancer_is_used_from_many_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Balancer>();
    shared::<Shared>();
}
