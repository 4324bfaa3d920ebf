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
    by: By,
}

/// What is compared.
#[derive(Clone, Copy, Debug)]
enum By {
    /// What is active. An idle member is picked without a look at the others.
    Active,
    /// The same and the connection to come.
    Delay,
    /// The same, but an idle member is picked without a look at the others.
    DelayUnlessIdle,
}

/// The load of a member that weighs more or less than others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// At most 2³².
    pub(crate) active: u64,
    pub(crate) weight: u32,
}

impl Load {
    /// More than any load there is. Products with weights stay below 2⁶⁴.
    const ABOVE_ALL: Load = Load {
        active: (1 << 32) + 1,
        weight: 1,
    };

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
            by: By::Active,
        }
    }

    /// `wlc`: load counts in proportion to weight.
    pub(crate) fn weighted(candidates: &[Candidate]) -> Self {
        let members = members(candidates).map(|(m, _)| m).collect();
        Self {
            members,
            by: By::Active,
        }
    }

    /// `sed`: the same with the connection to come.
    pub(crate) fn delay(candidates: &[Candidate]) -> Self {
        Self {
            by: By::Delay,
            ..Self::weighted(candidates)
        }
    }

    /// `nq`: an idle member, or else as `sed`.
    pub(crate) fn never_queue(candidates: &[Candidate]) -> Self {
        Self {
            by: By::DelayUnlessIdle,
            ..Self::weighted(candidates)
        }
    }

    pub(crate) fn pick(&self, cursor: &AtomicUsize, view: &impl View) -> Option<usize> {
        // A loop of its own for each: a thousand members are looked at in about a microsecond.
        match self.by {
            By::Active => self.least::<0, true>(cursor, view),
            By::Delay => self.least::<1, false>(cursor, view),
            By::DelayUnlessIdle => self.least::<1, true>(cursor, view),
        }
    }

    fn least<const COMING: u64, const IDLE_AT_ONCE: bool>(
        &self,
        cursor: &AtomicUsize,
        view: &impl View,
    ) -> Option<usize> {
        let turn = cursor.fetch_add(1, Ordering::Relaxed);
        let start = turn.checked_rem(self.members.len())?;
        let (front, back) = self.members.split_at(start);
        let mut best = Best {
            load: Load::ABOVE_ALL,
            found: None,
        };
        if !best.search::<COMING, IDLE_AT_ONCE>(back, 0, view) {
            best.search::<COMING, IDLE_AT_ONCE>(front, back.len(), view);
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
    fn search<const COMING: u64, const IDLE_AT_ONCE: bool>(
        &mut self,
        members: &[Member],
        from: usize,
        view: &impl View,
    ) -> bool {
        for (place, member) in members.iter().enumerate() {
            let index = member.index as usize;
            let mut load = Load::of(*member, view);
            let idle = load.active == 0 && IDLE_AT_ONCE;
            load.active += COMING;
            if (idle || load.less_than(self.load)) && view.usable(index) {
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
