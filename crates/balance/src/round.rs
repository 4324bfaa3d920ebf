//! `rr` and `wrr`: turns in a fixed sequence, counted by one cursor for all cores.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::apportion::apportion;
use crate::{Candidate, Loads, Member, members};

/// The longest sequence, unless there are more than 1/16 as many members.
const MAX_SEQUENCE: u64 = 65_536;

/// Turns taken one by one from the shared cursor before the rest of the sequence is searched at
/// once. Within these every turn that falls to an unusable member is passed on exactly.
const TURNS: usize = 16;

/// Places of the sequence searched before the members themselves are.
const MAX_SEARCH: usize = 4096;

/// Members in the order of their turns.
///
/// The sequence of `wrr` is smooth in this sense: after any number of turns from its start, every
/// member has had its exact share of them to within one turn. It is exact if the weights, divided
/// by their greatest common divisor, add up to at most 65 536. If not, it is scaled to L = 65 536
/// turns (16 × the members, if that is more): every share is then less than 1/L from the exact
/// one; but a member whose share is below 1/L has one turn all the same, which together costs the
/// others less than members ÷ L of all turns.
#[derive(Debug)]
pub(crate) struct Round {
    sequence: Box<[u32]>,
    members: Box<[u32]>,
}

impl Round {
    /// Every member once.
    pub(crate) fn equal(candidates: &[Candidate]) -> Self {
        let members: Box<[u32]> = members(candidates).map(|(m, _)| m.index).collect();
        Self {
            sequence: members.clone(),
            members,
        }
    }

    /// Every member in proportion to its weight, spread out.
    pub(crate) fn weighted(candidates: &[Candidate]) -> Self {
        let members: Vec<Member> = members(candidates).map(|(m, _)| m).collect();
        let turns = turns(&members);
        Self {
            sequence: spread(&turns)
                .into_iter()
                .filter_map(|i| members.get(i as usize).map(|m| m.index))
                .collect(),
            members: members.iter().map(|m| m.index).collect(),
        }
    }

    pub(crate) fn pick(&self, cursor: &AtomicUsize, loads: &impl Loads) -> Option<usize> {
        let length = self.sequence.len();
        for _ in 0..length.min(TURNS) {
            let turn = cursor.fetch_add(1, Ordering::Relaxed);
            if let Some(index) = usable(&self.sequence, turn, loads) {
                return Some(index);
            }
        }
        let start = cursor.load(Ordering::Relaxed);
        for ahead in 0..length.min(MAX_SEARCH) {
            if let Some(index) = usable(&self.sequence, start.wrapping_add(ahead), loads) {
                cursor.fetch_add(ahead + 1, Ordering::Relaxed);
                return Some(index);
            }
        }
        // Either nothing is usable, or what is has less than one turn in 4096.
        if length <= MAX_SEARCH {
            return None;
        }
        (0..self.members.len())
            .find_map(|ahead| usable(&self.members, start.wrapping_add(ahead), loads))
    }
}

/// What has the given turn in a list that repeats for ever, if it is usable.
fn usable(list: &[u32], turn: usize, loads: &impl Loads) -> Option<usize> {
    let index = *list.get(turn.checked_rem(list.len())?)? as usize;
    loads.usable(index).then_some(index)
}

/// How many turns each member has in one pass of the sequence.
fn turns(members: &[Member]) -> Vec<u32> {
    let divisor = members.iter().fold(0, |d, m| gcd(d, m.weight)).max(1);
    let reduced: Vec<u32> = members.iter().map(|m| m.weight / divisor).collect();
    let sum: u64 = reduced.iter().map(|w| u64::from(*w)).sum();
    let longest = MAX_SEQUENCE.max(16 * members.len() as u64);
    if sum <= longest {
        reduced
    } else {
        apportion(&reduced, u32::try_from(longest).unwrap_or(u32::MAX))
    }
}

fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// A sequence in which `i` comes `turns[i]` times, spread evenly.
///
/// With L turns in all, the kth of n turns of one member may be given from place ⌊kL/n⌋ on and must
/// be before place ⌈(k+1)L/n⌉. Serving the earliest deadline first meets all of them (the members'
/// shares add up to 1), and that keeps every member within one turn of its share at every place.
fn spread(turns: &[u32]) -> Vec<u32> {
    let length: u64 = turns.iter().map(|n| u64::from(*n)).sum();
    let deadline = |taken: u64, n: u64| ((taken + 1) * length).div_ceil(n.max(1));
    // Waiting for their release, by place: the head of a list, linked through `next`.
    let mut waiting = vec![u32::MAX; length as usize];
    let mut next = vec![u32::MAX; turns.len()];
    let mut taken = vec![0u32; turns.len()];
    let mut ready: BinaryHeap<Reverse<(u64, u32)>> = turns
        .iter()
        .zip(0u32..)
        .map(|(n, i)| Reverse((deadline(0, u64::from(*n)), i)))
        .collect();

    let mut sequence = Vec::with_capacity(length as usize);
    for place in 0..length {
        let mut released = waiting.get(place as usize).copied().unwrap_or(u32::MAX);
        while let (Some(n), Some(k), Some(after)) = (
            turns.get(released as usize),
            taken.get(released as usize),
            next.get(released as usize),
        ) {
            let until = deadline(u64::from(*k), u64::from(*n));
            ready.push(Reverse((until, released)));
            released = *after;
        }
        let Some(Reverse((_, i))) = ready.pop() else {
            break;
        };
        sequence.push(i);
        let (Some(n), Some(k)) = (turns.get(i as usize), taken.get_mut(i as usize)) else {
            continue;
        };
        *k += 1;
        if k == n {
            continue;
        }
        let release = u64::from(*k) * length / u64::from(*n).max(1);
        if release <= place + 1 {
            ready.push(Reverse((deadline(u64::from(*k), u64::from(*n)), i)));
        } else if let (Some(head), Some(link)) =
            (waiting.get_mut(release as usize), next.get_mut(i as usize))
        {
            *link = *head;
            *head = i;
        }
    }
    sequence
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn turns_of_the_heavy_one_are_spread() {
        assert_eq!(spread(&[5, 1, 1]), [0, 0, 0, 1, 0, 0, 2]);
        assert_eq!(spread(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(spread(&[2, 2, 4]), [2, 0, 1, 2, 2, 0, 1, 2]);
        assert_eq!(spread(&[]), Vec::<u32>::new());
    }

    #[test]
    fn huge_weights_are_scaled_and_none_is_lost() {
        let of = |weights: &[u32]| {
            let members: Vec<Member> = weights
                .iter()
                .map(|weight| Member {
                    index: 0,
                    weight: *weight,
                })
                .collect();
            turns(&members)
        };
        assert_eq!(of(&[1, (1 << 31) - 1]), [1, 65_535]);
        assert_eq!(of(&[1 << 30, 1 << 29]), [2, 1]);
        assert_eq!(of(&[65_535, 1]), [65_535, 1]);
    }

    proptest! {
        #[test]
        fn every_prefix_is_within_one_turn_of_the_share(
            turns in proptest::collection::vec(1u32..200, 1..30)
        ) {
            let sequence = spread(&turns);
            let sum: u32 = turns.iter().sum();
            prop_assert_eq!(sequence.len(), sum as usize);
            let mut had = vec![0u32; turns.len()];
            for (place, i) in sequence.iter().enumerate() {
                had[*i as usize] += 1;
                for (h, n) in had.iter().zip(&turns) {
                    let share = (place + 1) as f64 * f64::from(*n) / f64::from(sum);
                    prop_assert!((f64::from(*h) - share).abs() < 1.0);
                }
            }
        }
    }
}
