//! `rr` and `wrr`: turns in a fixed sequence, counted by one cursor for all cores.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::apportion::apportion;
use crate::spread::spread;
use crate::view::View;
use crate::{Candidate, Member, members};

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

    /// Whose each turn is, by the candidate's index.
    pub(crate) fn into_sequence(self) -> Box<[u32]> {
        self.sequence
    }

    pub(crate) fn pick(&self, cursor: &AtomicUsize, view: &impl View) -> Option<usize> {
        let length = self.sequence.len();
        for _ in 0..length.min(TURNS) {
            let turn = cursor.fetch_add(1, Ordering::Relaxed);
            if let Some(index) = usable(&self.sequence, turn, view) {
                return Some(index);
            }
        }
        let start = cursor.load(Ordering::Relaxed);
        for ahead in 0..length.min(MAX_SEARCH) {
            if let Some(index) = usable(&self.sequence, start.wrapping_add(ahead), view) {
                cursor.fetch_add(ahead + 1, Ordering::Relaxed);
                return Some(index);
            }
        }
        // Either nothing is usable, or what is has less than one turn in 4096.
        if length <= MAX_SEARCH {
            return None;
        }
        (0..self.members.len())
            .find_map(|ahead| usable(&self.members, start.wrapping_add(ahead), view))
    }
}

/// What has the given turn in a list that repeats for ever, if it is usable.
fn usable(list: &[u32], turn: usize, view: &impl View) -> Option<usize> {
    let index = *list.get(turn.checked_rem(list.len())?)? as usize;
    view.usable(index).then_some(index)
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
