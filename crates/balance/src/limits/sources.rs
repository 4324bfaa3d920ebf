//! Sources and what they have had, bounded.
//!
//! A table that a flood of sources can fill must neither grow nor forget those whom it holds back: else
//! whoever has many addresses could free himself, or others, of a limit. So a new source takes the
//! place of one that has nothing and whose buckets are full, which is as good as unknown; or else of
//! the one that has used least, but never of one that has something open or is at a limit. Where none
//! is found among a few that the new source's hash leads to, the new source is let in without being
//! counted: it is then held by what is said for all sources together.

use std::collections::HashMap;
use std::hash::BuildHasher;

use super::{Allowance, Limit, Pace, Refused, What};
use crate::ClientNet;

/// How many are looked at to find one that can be forgotten. If nine of ten must not be, about half
/// of the new ones still find a place.
const LOOKS: usize = 8;

/// How many are looked at with every new source, to forget those that are as good as unknown.
const TIDIED: usize = 2;

/// Memory for so few is not given back.
const SMALL: usize = 16;

/// How an entry went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// It is counted: to be given back with [`Sources::leave`] if there is a limit of what is at once.
    Counted,
    /// There was no place for the source.
    Unknown,
}

#[derive(Debug)]
struct Entry {
    source: ClientNet,
    /// By [`What`].
    open: [u32; What::COUNT],
    full_at: [u64; What::COUNT],
}

/// What it would mean to forget a source.
enum Forgetting {
    /// Nothing.
    Free,
    /// It would get back what it has used, in nanoseconds.
    Costs(u64),
    /// It is held back.
    Never,
}

impl Entry {
    fn forgetting(&self, allowed: &[Allowance; What::COUNT], now: u64) -> Forgetting {
        if self.open.iter().any(|open| *open > 0) {
            return Forgetting::Never;
        }
        let mut used = 0;
        for (full_at, allowed) in self.full_at.iter().zip(allowed) {
            match allowed.pace {
                Some(pace) if pace.take(*full_at, now).is_err() => return Forgetting::Never,
                Some(_) => used = full_at.saturating_sub(now).max(used),
                None => {}
            }
        }
        match used {
            0 => Forgetting::Free,
            used => Forgetting::Costs(used),
        }
    }
}

/// The sources of one service, or a part of them.
#[derive(Debug)]
pub struct Sources<S> {
    places: HashMap<ClientNet, usize, S>,
    entries: Vec<Entry>,
    capacity: usize,
    /// Where tidying goes on.
    hand: usize,
}

impl<S: BuildHasher> Sources<S> {
    /// An empty table for at most `capacity` sources, at least 1. `hasher` must not be foreseeable:
    /// clients choose their addresses.
    pub fn new(capacity: usize, hasher: S) -> Self {
        Self {
            places: HashMap::with_hasher(hasher),
            entries: Vec::new(),
            capacity: capacity.max(1),
            hand: 0,
        }
    }

    /// A source begins something, if it may, and if `then`, which is asked last, lets it.
    ///
    /// `allowed` is what each source may have, by [`What`]; times are nanoseconds of one clock.
    ///
    /// # Errors
    /// Of the source itself, or of `then`. Nothing has changed.
    pub fn enter<E: From<Refused>>(
        &mut self,
        source: ClientNet,
        what: What,
        allowed: &[Allowance; What::COUNT],
        now: u64,
        then: impl FnOnce() -> Result<(), E>,
    ) -> Result<Entered, E> {
        let at = what.index();
        let Some(allowance) = allowed.get(at) else {
            return then().map(|()| Entered::Unknown);
        };
        let known = self
            .places
            .get(&source)
            .and_then(|at| self.entries.get_mut(*at));
        let (open, full_at) = known.as_ref().map_or((0, 0), |entry| {
            let open = entry.open.get(at).copied();
            let full_at = entry.full_at.get(at).copied();
            (open.unwrap_or(0), full_at.unwrap_or(0))
        });
        if allowance.at_once > 0 && open >= allowance.at_once {
            let limit = Limit::AtOnce;
            return Err(Refused { limit, wait: 0 }.into());
        }
        let full_at = match allowance.pace.map(|pace| pace.take(full_at, now)) {
            None => full_at,
            Some(Ok(full_at)) => full_at,
            Some(Err(wait)) => {
                let limit = Limit::Rate;
                return Err(Refused { limit, wait }.into());
            }
        };
        then()?;
        let counted = u32::from(allowance.at_once > 0);
        let entry = match known {
            Some(entry) => entry,
            None => match self.insert(source, allowed, now) {
                Some(entry) => entry,
                None => return Ok(Entered::Unknown),
            },
        };
        if let Some(open) = entry.open.get_mut(at) {
            *open = open.saturating_add(counted);
        }
        if let Some(slot) = entry.full_at.get_mut(at) {
            *slot = full_at;
        }
        Ok(Entered::Counted)
    }

    /// Takes note of something that a source has open already, whether it may or not. Whether there was
    /// a place for the source: only then it is to be given back with [`Sources::leave`].
    pub fn count(
        &mut self,
        source: ClientNet,
        what: What,
        allowed: &[Allowance; What::COUNT],
        now: u64,
    ) -> bool {
        let entry = match self.places.get(&source) {
            Some(at) => self.entries.get_mut(*at),
            None => self.insert(source, allowed, now),
        };
        let open = entry.and_then(|entry| entry.open.get_mut(what.index()));
        let counted = open.is_some();
        if let Some(open) = open {
            *open = open.saturating_add(1);
        }
        counted
    }

    /// What a source took of its rate is not used after all.
    pub fn give_back(&mut self, source: ClientNet, what: What, pace: Pace) {
        let entry = self
            .places
            .get(&source)
            .and_then(|at| self.entries.get_mut(*at));
        if let Some(full_at) = entry.and_then(|entry| entry.full_at.get_mut(what.index())) {
            *full_at = pace.give_back(*full_at);
        }
    }

    /// Something that a source began has ended.
    pub fn leave(&mut self, source: ClientNet, what: What) {
        let entry = self
            .places
            .get(&source)
            .and_then(|at| self.entries.get_mut(*at));
        if let Some(open) = entry.and_then(|entry| entry.open.get_mut(what.index())) {
            *open = open.saturating_sub(1);
        }
    }

    /// From `now` on `allowed` holds, with other paces than before: see [`Pace::adopt`](super::Pace::adopt).
    pub fn adopt(&mut self, allowed: &[Allowance; What::COUNT], now: u64) {
        for entry in &mut self.entries {
            for (full_at, allowed) in entry.full_at.iter_mut().zip(allowed) {
                if let Some(pace) = allowed.pace {
                    *full_at = pace.adopt(*full_at, now);
                }
            }
        }
    }

    /// What a source has open, and when its bucket is full.
    pub fn get(&self, source: ClientNet, what: What) -> (u32, u64) {
        let entry = self
            .places
            .get(&source)
            .and_then(|at| self.entries.get(*at));
        entry.map_or((0, 0), |entry| {
            let (open, full_at) = (&entry.open, &entry.full_at);
            let at = what.index();
            (
                open.get(at).copied().unwrap_or(0),
                full_at.get(at).copied().unwrap_or(0),
            )
        })
    }

    /// Looks at so many of the sources, at others each time, and forgets those that are as good as
    /// unknown; gives back memory of which less than a quarter is used.
    pub fn tidy(&mut self, looks: usize, allowed: &[Allowance; What::COUNT], now: u64) {
        self.go_on_tidying(looks, allowed, now);
        let least = self.entries.len().max(SMALL);
        if self.room() > 4 * least {
            self.entries.shrink_to(2 * least);
            self.places.shrink_to(2 * least);
        }
    }

    /// For how many there is memory now.
    pub fn room(&self) -> usize {
        self.entries.capacity().max(self.places.capacity())
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Makes a place for a source, if one can be had.
    fn insert(
        &mut self,
        source: ClientNet,
        allowed: &[Allowance; What::COUNT],
        now: u64,
    ) -> Option<&mut Entry> {
        self.go_on_tidying(TIDIED, allowed, now);
        if self.entries.len() >= self.capacity {
            let at = self.least(source, allowed, now)?;
            self.forget(at);
        }
        self.places.insert(source, self.entries.len());
        self.entries.push(Entry {
            source,
            open: [0; What::COUNT],
            full_at: [0; What::COUNT],
        });
        self.entries.last_mut()
    }

    fn go_on_tidying(&mut self, looks: usize, allowed: &[Allowance; What::COUNT], now: u64) {
        for _ in 0..looks {
            match self.entries.get(self.hand) {
                Some(entry) if matches!(entry.forgetting(allowed, now), Forgetting::Free) => {
                    self.forget(self.hand);
                }
                Some(_) => self.hand += 1,
                None => self.hand = 0,
            }
        }
    }

    /// Of a few, the one whom to forget.
    fn least(
        &self,
        source: ClientNet,
        allowed: &[Allowance; What::COUNT],
        now: u64,
    ) -> Option<usize> {
        let mut hash = self.places.hasher().hash_one(source);
        let mut best: Option<(u64, usize)> = None;
        for _ in 0..LOOKS {
            // The upper half of a multiple is spread evenly (splitmix64's increment).
            hash = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31);
            let at = ((u128::from(hash) * self.entries.len() as u128) >> 64) as usize;
            match self.entries.get(at)?.forgetting(allowed, now) {
                Forgetting::Free => return Some(at),
                Forgetting::Costs(used) if best.is_none_or(|(least, _)| used < least) => {
                    best = Some((used, at));
                }
                _ => {}
            }
        }
        best.map(|(_, at)| at)
    }

    fn forget(&mut self, at: usize) {
        if at >= self.entries.len() {
            return;
        }
        let gone = self.entries.swap_remove(at);
        self.places.remove(&gone.source);
        if let Some(moved) = self.entries.get(at) {
            self.places.insert(moved.source, at);
        }
    }
}
