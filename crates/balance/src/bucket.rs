//! `sh`, `dh` and `mh`: a table of slots, and the client's hash says which.

use plimsoll_model::Scheduler;

use crate::apportion::apportion;
use crate::view::View;
use crate::{Candidate, hash, maglev, members, scale};

/// Slots of `sh` and `dh` at least, as in IPVS.
const MIN_SOURCE_SLOTS: u32 = 256;

/// Slots of `sh` and `dh` per member at least: no share is further from its exact one than 1/64 of an
/// average share.
const SOURCE_SLOTS_PER_MEMBER: u32 = 64;

/// Buckets tried before the members are searched in their order.
const ATTEMPTS: u64 = 32;

/// A table of slots that each belong to a member.
///
/// If the member of a client's slot is not usable, the client's hash is hashed again for the next
/// slot, as IPVS does with `sh-fallback` and `mh-fallback`: the clients of one member are spread
/// over all others, and each always finds the same way.
#[derive(Debug)]
pub(crate) struct Buckets {
    slots: Slots,
    /// The members' indices in an order that does not depend on that of the candidates.
    order: Box<[u32]>,
}

/// Places in `Buckets::order`, as narrow as will do: the table is read at random.
#[derive(Debug)]
enum Slots {
    Narrow(Box<[u16]>),
    Wide(Box<[u32]>),
}

impl Slots {
    fn get(&self, hash: u64) -> Option<usize> {
        match self {
            Slots::Narrow(slots) => slot(slots, hash).map(|place| *place as usize),
            Slots::Wide(slots) => slot(slots, hash).map(|place| *place as usize),
        }
    }
}

fn slot<T>(slots: &[T], hash: u64) -> Option<&T> {
    slots.get(scale(hash, slots.len() as u64) as usize)
}

/// A member as the tables see it.
pub(crate) struct Keyed {
    /// Of its address.
    pub(crate) hash: u128,
    /// Into the slice of candidates.
    pub(crate) index: u32,
    /// At least 1.
    pub(crate) weight: u32,
}

/// The members in the order of the hashes of their addresses.
pub(crate) fn keyed(candidates: &[Candidate], seed: u64) -> Vec<Keyed> {
    let mut all: Vec<_> = members(candidates)
        .map(|(m, addr)| {
            let hash = hash::backend(addr, seed);
            let (index, weight) = (m.index, m.weight);
            (
                Keyed {
                    hash,
                    index,
                    weight,
                },
                addr,
            )
        })
        .collect();
    all.sort_by(|(a, a_addr), (b, b_addr)| (a.hash, a_addr).cmp(&(b.hash, b_addr)));
    all.into_iter().map(|(keyed, _)| keyed).collect()
}

impl Buckets {
    /// `sh`, `dh`: consecutive slots by weight.
    pub(crate) fn consecutive(scheduler: &Scheduler, candidates: &[Candidate]) -> Self {
        let keyed = keyed(candidates, scheduler.seed);
        let slots = (keyed.len() as u32)
            .saturating_mul(SOURCE_SLOTS_PER_MEMBER)
            .max(MIN_SOURCE_SLOTS);
        let weights: Vec<u32> = keyed.iter().map(|k| k.weight).collect();
        let given = apportion(&weights, slots);
        let slots = (0u32..)
            .zip(&given)
            .flat_map(|(place, n)| std::iter::repeat_n(place, *n as usize));
        let slots = if u16::try_from(keyed.len()).is_ok() {
            Slots::Narrow(slots.map(|place| place as u16).collect())
        } else {
            Slots::Wide(slots.collect())
        };
        Self::with(&keyed, slots)
    }

    /// `mh`: slots by Maglev hashing.
    pub(crate) fn maglev(scheduler: &Scheduler, candidates: &[Candidate]) -> Self {
        let keyed = keyed(candidates, scheduler.seed);
        let size = maglev::table_size(scheduler.table, keyed.len());
        let slots = if u16::try_from(keyed.len()).is_ok() {
            Slots::Narrow(maglev::fill(&keyed, size, |place| place as u16))
        } else {
            Slots::Wide(maglev::fill(&keyed, size, |place| place))
        };
        Self::with(&keyed, slots)
    }

    fn with(keyed: &[Keyed], slots: Slots) -> Self {
        Self {
            slots,
            order: keyed.iter().map(|k| k.index).collect(),
        }
    }

    /// Whose each slot is, by the candidate's index.
    pub(crate) fn into_indices(self) -> Box<[u32]> {
        let index = |place: usize| self.order.get(place).copied().unwrap_or_default();
        match &self.slots {
            Slots::Narrow(slots) => slots.iter().map(|p| index(usize::from(*p))).collect(),
            Slots::Wide(slots) => slots.iter().map(|p| index(*p as usize)).collect(),
        }
    }

    /// Whom a hash leads to.
    pub(crate) fn hashed(&self, hash: u64) -> Option<usize> {
        self.order
            .get(self.slots.get(hash)?)
            .map(|index| *index as usize)
    }

    pub(crate) fn pick(&self, hash: u64, view: &impl View) -> Option<usize> {
        for attempt in 0..ATTEMPTS {
            let index = self.hashed(hash::again(hash, attempt))?;
            if view.usable(index) {
                return Some(index);
            }
        }
        let start = scale(hash, self.order.len() as u64) as usize;
        let (front, back) = self.order.split_at_checked(start)?;
        back.iter()
            .chain(front)
            .map(|index| *index as usize)
            .find(|index| view.usable(*index))
    }
}
