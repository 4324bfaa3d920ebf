//! What a plane is given that picks by itself, in the kernel: the order in which a scheduler goes
//! through its candidates, as a plain list of their indices.

use plimsoll_model::{Scheduler, SchedulerKind};

use crate::apportion::apportion;
use crate::bucket::Buckets;
use crate::rank::Rank;
use crate::ring::Ring;
use crate::round::Round;
use crate::{Candidate, maglev, members};

/// How the list of a [`Table`] is to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A hash of the client (its address, and port where the scheduler says so) leads to an entry;
    /// hashed again it leads to the next, should that candidate not take the client.
    Hash,
    /// The same, of the address that the client connected to.
    HashDestination,
    /// One entry after the other, over and over.
    Turns,
    /// An entry by chance.
    Chance,
    /// The less loaded of two entries by chance.
    TwoChances,
    /// All candidates: the one with the least load, whatever its weight.
    LeastEqual,
    /// All candidates: the one with the least load by its weight.
    Least,
    /// All candidates: the one with the least load, the connection to come counted, by its weight.
    LeastToCome,
    /// All candidates: one that is idle, else as [`Use::LeastToCome`].
    IdleOrLeast,
    /// All candidates, the preferred first: the first that can take the client.
    First,
    /// The same: the first that has no more connections than its weight.
    FirstWithRoom,
}

/// A scheduler over one set of candidates, as a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// How it is to be used.
    pub by: Use,
    /// Indices of candidates. Those of weight 0 are in none; empty if there is no other.
    pub entries: Box<[u32]>,
}

impl Table {
    /// The table of a scheduler; none for those that need more than a list (`ring` with bounded
    /// loads, `lblc`, `lblcr`, `ewma`).
    ///
    /// A `ring` without bounds becomes as many arcs of it as `mh` has slots, each of whom its middle
    /// belongs to. `scheduler.table` is the number of slots of `mh`; 0 chooses the next prime after 4093 (as in
    /// IPVS) or 100 for each candidate, whichever is more: the kernel's memory is not user space's.
    pub fn new(scheduler: &Scheduler, candidates: &[Candidate]) -> Option<Self> {
        let all = || members(candidates).map(|(m, _)| m.index).collect();
        let (by, entries) = match scheduler.kind {
            SchedulerKind::Rr => (Use::Turns, all()),
            SchedulerKind::Wrr => (Use::Turns, Round::weighted(candidates).into_sequence()),
            SchedulerKind::Lc => (Use::LeastEqual, all()),
            SchedulerKind::Wlc => (Use::Least, all()),
            SchedulerKind::Sed => (Use::LeastToCome, all()),
            SchedulerKind::Nq => (Use::IdleOrLeast, all()),
            SchedulerKind::Random => (Use::Chance, shares(candidates)),
            SchedulerKind::Twos => (Use::TwoChances, shares(candidates)),
            SchedulerKind::Sh => (
                Use::Hash,
                Buckets::consecutive(scheduler, candidates).into_indices(),
            ),
            SchedulerKind::Dh => (
                Use::HashDestination,
                Buckets::consecutive(scheduler, candidates).into_indices(),
            ),
            SchedulerKind::Mh => {
                let scheduler = Scheduler {
                    table: match scheduler.table {
                        0 => slots(candidates),
                        asked => asked,
                    },
                    ..*scheduler
                };
                let buckets = Buckets::maglev(&scheduler, candidates);
                (Use::Hash, buckets.into_indices())
            }
            SchedulerKind::First => (Use::First, Rank::in_order(candidates).into_order()),
            SchedulerKind::Fo => (Use::First, Rank::by_weight(candidates).into_order()),
            SchedulerKind::Ovf => (Use::FirstWithRoom, Rank::by_weight(candidates).into_order()),
            SchedulerKind::Ring if scheduler.bound == 0 => {
                let ring = Ring::new(scheduler, candidates);
                let slots = u64::from(slots(candidates));
                let middle = |slot: u64| (u128::from(2 * slot + 1) << 63) / u128::from(slots);
                let owner = |slot| ring.hashed(middle(slot) as u64);
                let entries = (0..slots).filter_map(owner).map(|index| index as u32);
                (Use::Hash, entries.collect())
            }
            SchedulerKind::Ring
            | SchedulerKind::Lblc
            | SchedulerKind::Lblcr
            | SchedulerKind::Ewma => return None,
        };
        Some(Self { by, entries })
    }
}

/// Slots of tables that a hash leads to.
fn slots(candidates: &[Candidate]) -> u32 {
    4093.max(maglev::next_prime(candidates.len() as u64 * 100))
}

/// Entries for each candidate at least, where chance picks one.
const SHARES: u32 = 16;

/// Each candidate as often as its weight says.
fn shares(candidates: &[Candidate]) -> Box<[u32]> {
    let members: Vec<_> = members(candidates).map(|(m, _)| m).collect();
    let weights: Vec<u32> = members.iter().map(|m| m.weight).collect();
    if weights.iter().all(|weight| Some(weight) == weights.first()) {
        return members.iter().map(|m| m.index).collect();
    }
    let slots = (members.len() as u32).saturating_mul(SHARES).max(256);
    let turns = apportion(&weights, slots);
    members
        .iter()
        .zip(turns)
        .flat_map(|(m, turns)| (0..turns).map(|_| m.index))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(weights: &[u32]) -> Vec<Candidate> {
        let of = |(i, weight): (usize, &u32)| Candidate {
            addr: format!("10.0.0.{}:80", i + 1).parse().unwrap(),
            weight: *weight,
            ready_since: 0,
        };
        weights.iter().enumerate().map(of).collect()
    }

    fn table(kind: SchedulerKind, weights: &[u32]) -> Table {
        let scheduler = Scheduler {
            kind,
            ..Scheduler::default()
        };
        Table::new(&scheduler, &candidates(weights)).unwrap()
    }

    fn counts(table: &Table, members: usize) -> Vec<usize> {
        let count = |i| table.entries.iter().filter(|e| **e as usize == i).count();
        (0..members).map(count).collect()
    }

    #[test]
    fn nobody_of_weight_0_is_in_any() {
        for (name, kind) in SchedulerKind::NAMES {
            let scheduler = Scheduler {
                kind,
                ..Scheduler::default()
            };
            let Some(table) = Table::new(&scheduler, &candidates(&[1, 0, 3])) else {
                continue;
            };
            assert_eq!(counts(&table, 3)[1], 0, "{name}");
            assert!(counts(&table, 3)[0] > 0, "{name}");
            let nobody = Table::new(&scheduler, &candidates(&[0])).unwrap();
            assert!(nobody.entries.is_empty(), "{name}");
        }
    }

    #[test]
    fn weights_count() {
        assert_eq!(counts(&table(SchedulerKind::Wrr, &[1, 2, 3]), 3), [1, 2, 3]);
        assert_eq!(counts(&table(SchedulerKind::Rr, &[1, 2, 3]), 3), [1, 1, 1]);
        for kind in [SchedulerKind::Mh, SchedulerKind::Sh, SchedulerKind::Random] {
            let table = table(kind, &[1, 3]);
            let counts = counts(&table, 2);
            let share = counts[1] as f64 / table.entries.len() as f64;
            assert!((share - 0.75).abs() < 0.01, "{kind}: {counts:?}");
        }
        assert_eq!(*table(SchedulerKind::Fo, &[1, 3, 2]).entries, [1, 2, 0]);
    }

    #[test]
    fn a_ring_moves_only_what_one_had() {
        let scheduler = Scheduler {
            kind: SchedulerKind::Ring,
            bound: 0,
            ..Scheduler::default()
        };
        let with = |weights: &[u32]| Table::new(&scheduler, &candidates(weights)).unwrap();
        let before = with(&[1, 1, 2, 1]);
        let share = counts(&before, 4)[2] as f64 / before.entries.len() as f64;
        assert!((share - 0.4).abs() < 0.12, "{share}");
        let after = with(&[1, 1, 0, 1]);
        assert_eq!(before.entries.len(), after.entries.len());
        for (was, is) in before.entries.iter().zip(&after.entries) {
            assert!(was == is || *was == 2, "{was} became {is}");
        }
        let bounded = Scheduler {
            bound: 125,
            ..scheduler
        };
        assert_eq!(Table::new(&bounded, &candidates(&[1])), None);
    }

    #[test]
    fn a_maglev_table_is_as_long_as_asked_for() {
        assert_eq!(table(SchedulerKind::Mh, &[1; 3]).entries.len(), 4093);
        assert_eq!(table(SchedulerKind::Mh, &[1; 100]).entries.len(), 10_007);
    }
}
