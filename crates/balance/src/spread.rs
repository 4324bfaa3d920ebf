//! Sequences in which each member's turns are spread evenly.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A sequence in which `i` comes `turns[i]` times.
///
/// With L turns in all, the kth of n turns of one member may be given from place ⌊kL/n⌋ on and must
/// be before place ⌈(k+1)L/n⌉. Serving the earliest deadline first meets all of them (the members'
/// shares add up to 1), and that keeps every member within one turn of its share at every place.
///
/// Every number of turns is above 0, and their sum below 2³².
pub(crate) fn spread(turns: &[u32]) -> Vec<u32> {
    let length: u64 = turns.iter().map(|n| u64::from(*n)).sum();
    let mut runners: Vec<Runner> = turns.iter().map(|n| Runner::new(*n)).collect();
    let mut ready: BinaryHeap<Reverse<u64>> = runners
        .iter()
        .zip(0u32..)
        .map(|(runner, i)| runner.key(i, length))
        .collect();
    // By the place of their release: the last of those that wait for it, each with the one before.
    let mut waiting = vec![NOBODY; length as usize];

    let mut sequence = Vec::with_capacity(length as usize);
    for place in 0..length {
        let mut i = waiting.get(place as usize).copied().unwrap_or(NOBODY);
        while let Some(runner) = runners.get(i as usize) {
            ready.push(runner.key(i, length));
            i = runner.before;
        }
        let Some(Reverse(key)) = ready.pop() else {
            break;
        };
        let i = key as u32;
        sequence.push(i);
        let Some(runner) = runners.get_mut(i as usize) else {
            break;
        };
        runner.taken += 1;
        if runner.taken == runner.turns {
            continue;
        }
        let release = runner.release(length);
        if release <= place + 1 {
            ready.push(runner.key(i, length));
        } else if let Some(last) = waiting.get_mut(release as usize) {
            runner.before = *last;
            *last = i;
        }
    }
    sequence
}

/// No member has this index.
const NOBODY: u32 = u32::MAX;

struct Runner {
    turns: u64,
    taken: u64,
    before: u32,
}

impl Runner {
    fn new(turns: u32) -> Self {
        Self {
            turns: u64::from(turns).max(1),
            taken: 0,
            before: NOBODY,
        }
    }

    fn release(&self, length: u64) -> u64 {
        self.taken * length / self.turns
    }

    /// The next deadline, and the member itself in the lower half.
    fn key(&self, i: u32, length: u64) -> Reverse<u64> {
        let deadline = ((self.taken + 1) * length).div_ceil(self.turns);
        Reverse(deadline << 32 | u64::from(i))
    }
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
