//! `first`, `fo` and `ovf`: members in a fixed order of preference.

use std::cmp::Reverse;

use crate::least::Load;
use crate::view::View;
use crate::{Candidate, Member, members};

/// Members, the preferred one first.
#[derive(Debug)]
pub(crate) struct Rank {
    members: Box<[Member]>,
}

impl Rank {
    /// `first`: in the order of the candidates.
    pub(crate) fn in_order(candidates: &[Candidate]) -> Self {
        let members = members(candidates).map(|(m, _)| m).collect();
        Self { members }
    }

    /// `fo`, `ovf`: the heaviest first, equals in the order of the candidates.
    pub(crate) fn by_weight(candidates: &[Candidate]) -> Self {
        let mut members: Box<[Member]> = members(candidates).map(|(m, _)| m).collect();
        members.sort_by_key(|m| Reverse(m.weight));
        Self { members }
    }

    /// The indices of all, in this order.
    pub(crate) fn into_order(self) -> Box<[u32]> {
        self.members.iter().map(|m| m.index).collect()
    }

    /// The first that is usable.
    pub(crate) fn pick(&self, view: &impl View) -> Option<usize> {
        let mut indices = self.members.iter().map(|m| m.index as usize);
        indices.find(|index| view.usable(*index))
    }

    /// The first that is usable and has no more active than its weight (as the kernel's
    /// `ip_vs_ovf`); where all have, the one with the least for its weight.
    pub(crate) fn overflow(&self, view: &impl View) -> Option<usize> {
        let mut least: Option<(Load, usize)> = None;
        for member in &self.members {
            let index = member.index as usize;
            let load = Load {
                active: view.active(index).into(),
                weight: member.weight,
            };
            let room = load.active <= u64::from(load.weight);
            let better = || least.is_none_or(|(least, _)| load.less_than(least));
            if (room || better()) && view.usable(index) {
                if room {
                    return Some(index);
                }
                least = Some((load, index));
            }
        }
        least.map(|(_, index)| index)
    }
}
