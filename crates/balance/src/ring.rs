//! `ring`: consistent hashing with bounded loads.

use plimsoll_model::Scheduler;

use crate::bucket::keyed;
use crate::view::View;
use crate::{Candidate, Member, hash};

/// Points per member on average at least; there are less than twice as many.
const POINTS: u64 = 128;

/// Points walked past before the members themselves are searched.
const MAX_WALK: usize = 4096;

/// A ring of points that each belong to a member. A client goes to the member of the first point
/// from its hash on, unless that has its fill: then to that of the next point whose member has not.
///
/// A member's points depend on its address and its weight alone, as long as the average weight
/// stays between the same powers of two: whoever comes or goes takes or leaves only its own
/// clients.
///
/// A member has its fill when one more would be more than `bound` percent of its share by weight of
/// all that is active, this one included (Mirrokni, Thorup, Zadimoghaddam: Consistent Hashing with
/// Bounded Loads; HAProxy's `hash-balance-factor`).
#[derive(Debug)]
pub(crate) struct Ring {
    /// In the order of their hashes: the hash, and the place in `members`.
    points: Box<[(u64, u32)]>,
    /// In an order that does not depend on that of the candidates.
    members: Box<[Member]>,
    /// The sum of all weights.
    weights: u64,
    /// In percent; 0 is none.
    bound: u32,
}

impl Ring {
    pub(crate) fn new(scheduler: &Scheduler, candidates: &[Candidate]) -> Self {
        let keyed = keyed(candidates, scheduler.seed);
        let weights: u64 = keyed.iter().map(|k| u64::from(k.weight)).sum();
        let counts = counts(weights, keyed.len() as u64);
        let mut points: Vec<(u64, u32)> = Vec::new();
        for (place, member) in (0u32..).zip(&keyed) {
            // The first point is a hash of its own, not that of the address, which the tables use.
            let points_of =
                (1..=counts(member.weight)).map(|n| (hash::again(member.hash as u64, n), place));
            points.extend(points_of);
        }
        points.sort_unstable();
        let members = keyed.iter().map(|k| Member {
            index: k.index,
            weight: k.weight,
        });
        Self {
            points: points.into(),
            members: members.collect(),
            weights,
            bound: scheduler.bound,
        }
    }

    /// The members of the points from a hash on, once round.
    fn walk(&self, hash: u64) -> impl Iterator<Item = Member> {
        let start = self.points.partition_point(|(point, _)| *point < hash);
        let (front, back) = self.points.split_at_checked(start).unwrap_or_default();
        back.iter()
            .chain(front)
            .filter_map(|(_, place)| self.members.get(*place as usize).copied())
    }

    /// Whom a hash leads to.
    pub(crate) fn hashed(&self, hash: u64) -> Option<usize> {
        self.walk(hash).next().map(|m| m.index as usize)
    }

    pub(crate) fn pick(&self, hash: u64, view: &impl View) -> Option<usize> {
        let home = self.walk(hash).next()?;
        let index = home.index as usize;
        if view.usable(index) && self.surely_has_room(home, view) {
            return Some(index);
        }
        let active = self.members.iter().map(|m| active(*m, view));
        let active = active.fold(0u64, u64::saturating_add);
        let mut other = None;
        for member in self.walk(hash).take(MAX_WALK) {
            let index = member.index as usize;
            if !view.usable(index) {
                continue;
            }
            if self.has_room(member, active, view) {
                return Some(index);
            }
            other = other.or(Some(index));
        }
        // Not everyone that has room can be used: whom the hash leads to first, or any there is.
        other.or_else(|| {
            let mut all = self.members.iter().map(|m| m.index as usize);
            all.find(|index| view.usable(*index))
        })
    }

    /// Whether a member has room when so much is active in all: active + 1 ≤ ⌈bound × share⌉.
    fn has_room(&self, member: Member, all: u64, view: &impl View) -> bool {
        if self.bound == 0 {
            return true;
        }
        let share = u128::from(all + 1) * u128::from(member.weight) * u128::from(self.bound);
        u128::from(active(member, view)) * 100 * u128::from(self.weights) < share
    }

    /// The same, where so much is active as are seen to be; ends as soon as that is enough.
    fn surely_has_room(&self, member: Member, view: &impl View) -> bool {
        let needed = match self.bound {
            0 => 0,
            bound => {
                let filled = u128::from(active(member, view)) * 100 * u128::from(self.weights);
                filled / (u128::from(member.weight) * u128::from(bound))
            }
        };
        let mut all = 1u64;
        // Enough: all that is active, and this one, are more than what is needed.
        let enough = |all: u64| u128::from(all) > needed;
        enough(all)
            || self.members.iter().any(|m| {
                all = all.saturating_add(active(*m, view));
                enough(all)
            })
    }
}

fn active(member: Member, view: &impl View) -> u64 {
    view.active(member.index as usize).into()
}

/// How many points a weight has, where so many members have this sum of weights: a power of two
/// for each unit of weight, so that all have from [`POINTS`] to twice that on average.
fn counts(weights: u64, members: u64) -> impl Fn(u32) -> u64 {
    let wanted = POINTS.saturating_mul(members).max(1);
    let (mut up, mut down) = (0u32, 0u32);
    while weights > 0 && weights << up < wanted {
        up += 1;
    }
    while weights >> down >= wanted.saturating_mul(2) {
        down += 1;
    }
    move |weight| ((u64::from(weight) << up) >> down).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_powers_of_two_per_weight() {
        let of = |weights: &[u32]| -> Vec<u64> {
            let sum = weights.iter().map(|w| u64::from(*w)).sum();
            let counts = counts(sum, weights.len() as u64);
            weights.iter().map(|w| counts(*w)).collect()
        };
        assert_eq!(of(&[1]), [128]);
        assert_eq!(of(&[1; 3]), [128; 3]);
        assert_eq!(of(&[1, 2, 3]), [64, 128, 192]);
        assert_eq!(of(&[3, 3]), [192, 192]);
        assert_eq!(of(&[256, 257]), [128, 128]);
        assert_eq!(of(&[1, (1 << 31) - 1]), [1, 255]);
    }
}
