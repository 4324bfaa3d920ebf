//! `lc`, `wlc`, `sed` and `nq`: the least loaded member.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::view::View;
use crate::{Candidate, Member, members};

/// All members, to be looked through at each pick.
///
/// The search begins behind the member that was picked last and the first of several equals wins,
/// so that equals take turns.
#[derive(Debug)]
pub(crate) struct Least {
    members: Box<[Member]>,
    /// What the connection to come counts: 0 or 1.
    coming: u64,
    /// An idle member is picked without a look at the others.
    idle_at_once: bool,
}

/// The load of a member that weighs more or less than others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// At most 2³².
    pub(crate) active: u64,
    pub(crate) weight: u32,
}

impl Load {
    pub(crate) fn of(member: Member, view: &impl View) -> Self {
        Self {
            active: view.active(member.index as usize).into(),
            weight: view.weight(member),
        }
    }

    /// Whether active ÷ weight is less here than there; exact.
    pub(crate) fn less_than(self, other: Load) -> bool {
        self.active * u64::from(other.weight) < other.active * u64::from(self.weight)
    }
}

impl Least {
    /// `lc`: all members alike.
    pub(crate) fn equal(candidates: &[Candidate]) -> Self {
        let members = members(candidates)
            .map(|(m, _)| Member { weight: 1, ..m })
            .collect();
        Self {
            members,
            coming: 0,
            idle_at_once: true,
        }
    }

    /// `wlc`: load counts in proportion to weight.
    pub(crate) fn weighted(candidates: &[Candidate]) -> Self {
        let members = members(candidates).map(|(m, _)| m).collect();
        Self {
            members,
            coming: 0,
            idle_at_once: true,
        }
    }

    /// `sed`: the same with the connection to come.
    pub(crate) fn delay(candidates: &[Candidate]) -> Self {
        Self {
            coming: 1,
            idle_at_once: false,
            ..Self::weighted(candidates)
        }
    }

    /// `nq`: an idle member, or else as `sed`.
    pub(crate) fn never_queue(candidates: &[Candidate]) -> Self {
        Self {
            coming: 1,
            ..Self::weighted(candidates)
        }
    }

    pub(crate) fn pick(&self, cursor: &AtomicUsize, view: &impl View) -> Option<usize> {
        let turn = cursor.fetch_add(1, Ordering::Relaxed);
        let start = turn.checked_rem(self.members.len())?;
        let (front, back) = self.members.split_at(start);
        let mut best = Best {
            load: Load {
                active: u32::MAX.into(),
                weight: 1,
            },
            found: None,
        };
        if !best.search(self, back, 0, view) {
            best.search(self, front, back.len(), view);
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
    fn search(&mut self, how: &Least, members: &[Member], from: usize, view: &impl View) -> bool {
        for (place, member) in members.iter().enumerate() {
            let index = member.index as usize;
            let mut load = Load::of(*member, view);
            let idle = load.active == 0 && how.idle_at_once;
            load.active += how.coming;
            let better = idle || load.less_than(self.load) || self.found.is_none();
            if better && view.usable(index) {
                self.load = load;
                self.found = Some((from + place, index));
                if idle {
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
        let load = |active: u64, weight| Load { active, weight };
        let most = 1 << 32;
        assert!(load(most - 1, u32::MAX).less_than(load(most, u32::MAX)));
        assert!(load(most, u32::MAX).less_than(load(most, 1)));
        assert!(!load(0, 1).less_than(load(0, 7)));
    }
}
