//! Slow start: who came last comes slowly to its share.

use crate::view::View;
use crate::{Candidate, Loads, Member, hash};

/// How cold backends are brought to their share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowStart {
    /// In what time, in ms.
    pub over: u64,
    /// Now, in ms of the clock of [`Candidate::ready_since`].
    pub now: u64,
}

/// The longest slow start, in ms; more than any that makes sense, and little enough to compute with.
const LONGEST: u64 = 1 << 40;

/// A full share.
pub(crate) const FULL: u32 = 1 << FULL_BITS;

const FULL_BITS: u32 = 16;

/// How far each candidate is on the way to its share.
///
/// A candidate's part of its share is its age over that of the oldest, ages above `over` counting
/// as `over`: beside one that is settled it grows linearly from 0 to 1, and where all are new all
/// have the same.
#[derive(Debug)]
pub(crate) struct Warming {
    since: Box<[u64]>,
    over: u64,
    oldest: u64,
    /// From here on everyone has its full share.
    until: u64,
    /// Weights are compared after a shift by this, which leaves room for parts of small ones.
    shift: u32,
}

impl Warming {
    /// None if everyone has its full share. `heaviest` is the greatest weight as loads are compared.
    pub(crate) fn new(slow: SlowStart, candidates: &[Candidate], heaviest: u32) -> Option<Self> {
        let over = slow.over.min(LONGEST);
        let since = || {
            let members = candidates.iter().filter(|c| c.weight > 0);
            members.map(|c| c.ready_since)
        };
        let (oldest, newest) = (since().min()?, since().max()?);
        let until = newest.saturating_add(over);
        (oldest < newest && slow.now < until).then(|| Self {
            since: candidates.iter().map(|c| c.ready_since).collect(),
            over,
            oldest,
            until,
            shift: heaviest.leading_zeros().min(16),
        })
    }

    /// Whether anyone is cold still.
    pub(crate) fn is_on(&self, now: u64) -> bool {
        now < self.until
    }

    /// What part of its share a candidate has, 0..=[`FULL`].
    #[inline(never)]
    pub(crate) fn part(&self, index: usize, now: u64) -> u32 {
        let since = self.since.get(index).copied().unwrap_or_default();
        let age = now.saturating_sub(since);
        if since <= self.oldest || age >= self.over {
            return FULL;
        }
        match now.saturating_sub(self.oldest).min(self.over) {
            0 => FULL,
            oldest => {
                u32::try_from(age * u64::from(FULL) / oldest).map_or(FULL, |part| part.min(FULL))
            }
        }
    }
}

/// By what it is decided whether a cold candidate takes part in a pick.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Dice {
    /// Chance: thrown for each candidate, from this pick's random number.
    Each(u64),
    /// The client, so that it goes over to a cold candidate once and then stays: below 2¹⁶.
    Client(u32),
}

impl Dice {
    /// Dice that are the same whenever the client is hashed.
    pub(crate) fn of_hash(hash: u64) -> Self {
        // A stream of its own beside those that look for another slot.
        Dice::Client((hash::again(hash, u64::MAX) >> 48) as u32)
    }

    fn of(self, index: usize) -> u32 {
        match self {
            Dice::Each(bits) => (hash::again(bits, index as u64 + 1) >> 48) as u32,
            Dice::Client(thrown) => thrown,
        }
    }

    /// Whether a candidate with this part of its share is too cold.
    pub(crate) fn fails(self, index: usize, part: u32) -> bool {
        part < FULL && self.of(index) >= part
    }
}

/// The candidates while some are cold: with what part of its share, with that chance each takes
/// part in a pick, and loads are compared by weight × part.
pub(crate) struct Ramped<'a, L> {
    pub(crate) loads: &'a L,
    warming: &'a Warming,
    /// What the loops over all need of the above, at hand.
    since: &'a [u64],
    oldest: u64,
    shift: u32,
    now: u64,
    dice: Dice,
}

impl<'a, L> Ramped<'a, L> {
    pub(crate) fn new(loads: &'a L, warming: &'a Warming, now: u64, dice: Dice) -> Self {
        Self {
            loads,
            warming,
            since: &warming.since,
            oldest: warming.oldest,
            shift: warming.shift,
            now,
            dice,
        }
    }

    fn part(&self, index: usize) -> u32 {
        let since = self.since.get(index).copied().unwrap_or_default();
        // Nearly all are settled, and looked at in every pick: this has to be quick for them.
        match since <= self.oldest {
            true => FULL,
            false => self.warming.part(index, self.now),
        }
    }

    /// Whether it is too cold for this pick.
    pub(crate) fn is_cold(&self, index: usize) -> bool {
        self.dice.fails(index, self.part(index))
    }
}

impl<L: Loads> View for Ramped<'_, L> {
    fn active(&self, index: usize) -> u32 {
        self.loads.active(index)
    }

    fn usable(&self, index: usize) -> bool {
        self.loads.usable(index) && !self.is_cold(index)
    }

    fn able(&self, index: usize) -> bool {
        self.loads.usable(index)
    }

    fn latency(&self, index: usize) -> Option<f32> {
        self.loads.latency(index)
    }

    fn weight(&self, member: Member) -> u32 {
        // It fits: the shift was chosen for the heaviest.
        let full = member.weight << self.shift;
        match self.part(member.index as usize) {
            FULL => full,
            part => (((u64::from(full) * u64::from(part)) >> FULL_BITS) as u32).max(1),
        }
    }
}
