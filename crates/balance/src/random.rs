//! `random` and `twos`: weighted chance.

use crate::least::Load;
use crate::{Candidate, Loads, Member, members, scale};

/// Draws before the usable members are looked for one by one.
const DRAWS: usize = 8;

/// Members with the running sums of their weights. A draw is a binary search, and its chances are
/// exact to 2⁻⁶⁴ × the sum of weights.
#[derive(Debug)]
pub(crate) struct Weighted {
    members: Box<[Member]>,
    /// The sum of all weights up to and including this member's; ascending.
    sums: Box<[u64]>,
    total: u64,
}

impl Weighted {
    pub(crate) fn new(candidates: &[Candidate]) -> Self {
        let members: Box<[Member]> = members(candidates).map(|(m, _)| m).collect();
        let mut total = 0;
        let sums = members
            .iter()
            .map(|m| {
                total += u64::from(m.weight);
                total
            })
            .collect();
        Self {
            members,
            sums,
            total,
        }
    }

    fn draw(&self, random: &mut impl FnMut() -> u64) -> Option<Member> {
        let at = scale(random(), self.total);
        self.members
            .get(self.sums.partition_point(|sum| *sum <= at))
            .copied()
    }

    /// A usable member, each with a chance in proportion to its weight among the usable ones.
    fn draw_usable(&self, loads: &impl Loads, random: &mut impl FnMut() -> u64) -> Option<Member> {
        for _ in 0..DRAWS {
            let member = self.draw(random)?;
            if loads.usable(member.index as usize) {
                return Some(member);
            }
        }
        // One pass that replaces what it holds with a chance of weight ÷ sum so far leaves each
        // with weight ÷ sum of all.
        let mut sum = 0u64;
        let mut held = None;
        for member in &self.members {
            if loads.usable(member.index as usize) {
                sum += u64::from(member.weight);
                if scale(random(), sum) < u64::from(member.weight) {
                    held = Some(*member);
                }
            }
        }
        held
    }

    pub(crate) fn pick(
        &self,
        loads: &impl Loads,
        random: &mut impl FnMut() -> u64,
    ) -> Option<usize> {
        self.draw_usable(loads, random).map(|m| m.index as usize)
    }

    /// The less loaded by weight of two draws; the first of equals, so that shares follow the
    /// weights while the loads are equal. If the second draw meets the first again or something
    /// unusable it is repeated a few times (IPVS: not at all): with few members two draws are often
    /// the same.
    pub(crate) fn pick_of_two(
        &self,
        loads: &impl Loads,
        random: &mut impl FnMut() -> u64,
    ) -> Option<usize> {
        let first = self.draw_usable(loads, random)?;
        let load = |m: Member| Load {
            active: loads.active(m.index as usize),
            weight: m.weight,
        };
        let second = (0..DRAWS / 2).find_map(|_| {
            self.draw(random)
                .filter(|m| m.index != first.index && loads.usable(m.index as usize))
        });
        match second {
            Some(second) if load(second).less_than(load(first)) => Some(second.index as usize),
            _ => Some(first.index as usize),
        }
    }
}
