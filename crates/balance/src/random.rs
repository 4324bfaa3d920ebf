//! `random`, `twos` and `ewma`: weighted chance.

use crate::least::Load;
use crate::view::View;
use crate::{Candidate, Member, members, scale};

/// Draws before the usable members are looked for one by one.
const DRAWS: usize = 8;

/// More µs than anything takes.
const UNKNOWN: f64 = 1e18;

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
    fn draw_usable(&self, view: &impl View, random: &mut impl FnMut() -> u64) -> Option<Member> {
        for _ in 0..DRAWS {
            let member = self.draw(random)?;
            if view.usable(member.index as usize) {
                return Some(member);
            }
        }
        // One pass that replaces what it holds with a chance of weight ÷ sum so far leaves each
        // with weight ÷ sum of all.
        let mut sum = 0u64;
        let mut held = None;
        for member in &self.members {
            if view.usable(member.index as usize) {
                sum += u64::from(member.weight);
                if scale(random(), sum) < u64::from(member.weight) {
                    held = Some(*member);
                }
            }
        }
        held
    }

    pub(crate) fn pick(&self, view: &impl View, random: &mut impl FnMut() -> u64) -> Option<usize> {
        self.draw_usable(view, random).map(|m| m.index as usize)
    }

    /// `twos`: of two draws the less loaded by weight.
    pub(crate) fn less_loaded(
        &self,
        view: &impl View,
        random: &mut impl FnMut() -> u64,
    ) -> Option<usize> {
        let load = |m| Load::of(m, view);
        self.better_of_two(view, random, |a, b| load(a).less_than(load(b)))
    }

    /// `ewma`: of two draws the one that is expected to answer first, by its latency, times what is
    /// active and this one more, over its weight. One of which nothing is known goes before
    /// all others while it is idle, and after all others until it has answered or failed.
    pub(crate) fn soonest(
        &self,
        view: &impl View,
        random: &mut impl FnMut() -> u64,
    ) -> Option<usize> {
        let cost = |m: Member| {
            let index = m.index as usize;
            let active = view.active(index);
            let latency = match (view.latency(index), active) {
                (Some(micros), _) => f64::from(micros),
                (None, 0) => 0.0,
                (None, _) => UNKNOWN,
            };
            latency * (f64::from(active) + 1.0) / f64::from(view.weight(m))
        };
        self.better_of_two(view, random, |a, b| cost(a) < cost(b))
    }

    /// The better of two draws; the first of equals, so that shares follow the weights while all are
    /// equal. If the second draw meets the first again or something unusable it is repeated a few
    /// times (IPVS: not at all): with few members two draws are often the same.
    fn better_of_two(
        &self,
        view: &impl View,
        random: &mut impl FnMut() -> u64,
        better: impl Fn(Member, Member) -> bool,
    ) -> Option<usize> {
        let first = self.draw_usable(view, random)?;
        let second = (0..DRAWS / 2).find_map(|_| {
            self.draw(random)
                .filter(|m| m.index != first.index && view.usable(m.index as usize))
        });
        match second {
            Some(second) if better(second, first) => Some(second.index as usize),
            _ => Some(first.index as usize),
        }
    }
}
