//! `lc` and `wlc`: the least loaded member.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{Candidate, Loads, Member, members};

/// All members, to be looked through at each pick.
///
/// The search begins behind the member that was picked last and the first of several equals wins,
/// so that equals take turns. It ends early at a member that is idle.
#[derive(Debug)]
pub(crate) struct Least {
    members: Box<[Member]>,
}

/// The load of a member that weighs more or less than others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) active: u32,
    pub(crate) weight: u32,
}

impl Load {
    /// Whether active ÷ weight is less here than there; exact.
    pub(crate) fn less_than(self, other: Load) -> bool {
        u64::from(self.active) * u64::from(other.weight)
            < u64::from(other.active) * u64::from(self.weight)
    }
}

impl Least {
    /// All members alike.
    pub(crate) fn equal(candidates: &[Candidate]) -> Self {
        let members = members(candidates)
            .map(|(m, _)| Member { weight: 1, ..m })
            .collect();
        Self { members }
    }

    /// Load counts in proportion to weight.
    pub(crate) fn weighted(candidates: &[Candidate]) -> Self {
        let members = members(candidates).map(|(m, _)| m).collect();
        Self { members }
    }

    pub(crate) fn pick(&self, cursor: &AtomicUsize, loads: &impl Loads) -> Option<usize> {
        let turn = cursor.fetch_add(1, Ordering::Relaxed);
        let start = turn.checked_rem(self.members.len())?;
        let (front, back) = self.members.split_at(start);
        let mut best = Best {
            load: Load {
                active: u32::MAX,
                weight: 1,
            },
            found: None,
        };
        if !best.search(back, 0, loads) {
            best.search(front, back.len(), loads);
        }
        let (ahead, index) = best.found?;
        if ahead > 0 {
            cursor.fetch_add(ahead, Ordering::Relaxed);
        }
        Some(index)
    }
}

/// The least loaded member seen so far: how far from the start of the search, and its index.
struct Best {
    load: Load,
    found: Option<(usize, usize)>,
}

impl Best {
    /// Whether nothing can be better than what was found.
    fn search(&mut self, members: &[Member], from: usize, loads: &impl Loads) -> bool {
        for (place, member) in members.iter().enumerate() {
            let index = member.index as usize;
            let load = Load {
                active: loads.active(index),
                weight: member.weight,
            };
            if (load.less_than(self.load) || self.found.is_none()) && loads.usable(index) {
                self.load = load;
                self.found = Some((from + place, index));
                if load.active == 0 {
                    return true;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_values_do_not_overflow() {
        let load = |active, weight| Load { active, weight };
        assert!(load(u32::MAX - 1, u32::MAX).less_than(load(u32::MAX, u32::MAX)));
        assert!(load(u32::MAX, u32::MAX).less_than(load(u32::MAX, 1)));
        assert!(!load(0, 1).less_than(load(0, 7)));
    }
}
