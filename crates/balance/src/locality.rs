//! `lblc` and `lblcr`: a destination stays where it is, until that has too much.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::bucket::keyed;
use crate::hash::{self, Part};
use crate::least::{Least, Load};
use crate::view::View;
use crate::{Candidate, Client, Member, scale};

/// Destinations that are remembered at most: sets × ways.
const SETS: usize = 1024;

/// Destinations that share a set. The one used longest ago makes room.
const WAYS: usize = 4;

/// Backends of one destination at most.
const BACKENDS: usize = 12;

/// A destination not seen for so long is forgotten, and a set of backends that did not change for so
/// long loses its most loaded one, in s (IPVS: `lblc_expiration`, `lblcr_expiration`).
const EXPIRY: u32 = 24 * 60 * 60;

/// No destination, no backend.
const NONE: u64 = 0;

/// Somebody is about to fill this slot.
const BUSY: u64 = 1;

/// Where destinations are: a table that all cores share, written without a lock. What two cores
/// write at the same moment is one of both, or for one connection a backend of another
/// destination, which is no harm to a cache.
#[derive(Debug)]
pub(crate) struct Places(Box<[Slot]>);

/// A destination and its backends. One cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot {
    /// The hash of its address.
    destination: AtomicU64,
    /// When it was used last, in s.
    used: AtomicU32,
    /// When its set of backends changed, in s.
    changed: AtomicU32,
    /// The hashes of the backends' addresses; 0 is none.
    backends: [AtomicU32; BACKENDS],
}

impl Default for Places {
    fn default() -> Self {
        Self((0..SETS * WAYS).map(|_| Slot::default()).collect())
    }
}

impl Slot {
    fn is_for(&self, destination: u64, now: u32) -> bool {
        self.destination.load(Ordering::Acquire) == destination && !self.is_stale(now)
    }

    fn is_stale(&self, now: u32) -> bool {
        now.saturating_sub(self.used.load(Ordering::Relaxed)) > EXPIRY
    }

    /// It is used. Written once a second, so that cores do not take the line from each other for nothing.
    fn touch(&self, now: u32) {
        if self.used.load(Ordering::Relaxed) != now {
            self.used.store(now, Ordering::Relaxed);
        }
    }

    /// Adds a backend, in the place of the last if there is no room.
    fn add(&self, backend: u32, now: u32) {
        let mut to = self.backends.last();
        for slot in &self.backends {
            let there = slot.load(Ordering::Relaxed);
            if there == backend {
                return;
            }
            if there == 0 {
                to = Some(slot);
                break;
            }
        }
        if let Some(slot) = to {
            slot.store(backend, Ordering::Relaxed);
            self.changed.store(now, Ordering::Relaxed);
        }
    }

    /// Makes this its only backend.
    fn set(&self, backend: u32, now: u32) {
        for (place, slot) in self.backends.iter().enumerate() {
            slot.store(if place == 0 { backend } else { 0 }, Ordering::Relaxed);
        }
        self.changed.store(now, Ordering::Relaxed);
    }
}

impl Places {
    fn set_of(&self, destination: u64) -> &[Slot] {
        let set = scale(destination, SETS as u64) as usize;
        self.0.get(set * WAYS..(set + 1) * WAYS).unwrap_or_default()
    }

    fn find(&self, destination: u64, now: u32) -> Option<&Slot> {
        let mut ways = self.set_of(destination).iter();
        ways.find(|slot| slot.is_for(destination, now))
    }

    /// Remembers a destination that was not there.
    fn insert(&self, destination: u64, backend: u32, now: u32) {
        let ways = self.set_of(destination).iter();
        let age = |slot: &&Slot| match slot.destination.load(Ordering::Relaxed) {
            // Before all others, also one that was there and is stale.
            NONE => (0, 0),
            there if there == destination => (0, 1),
            _ => (1, slot.used.load(Ordering::Relaxed)),
        };
        let Some(slot) = ways.min_by_key(age) else {
            return;
        };
        let before = slot.destination.load(Ordering::Relaxed);
        let claimed = before != BUSY
            && (slot.destination)
                .compare_exchange(before, BUSY, Ordering::Acquire, Ordering::Relaxed)
                .is_ok();
        if claimed {
            slot.set(backend, now);
            slot.used.store(now, Ordering::Relaxed);
            slot.destination.store(destination, Ordering::Release);
        }
    }
}

/// All members, and how they are known to the table of places.
#[derive(Debug)]
pub(crate) struct Locality {
    least: Least,
    /// By the hash of their address, which is above 0.
    known: Box<[(u32, Member)]>,
    /// The place in `known` of each candidate.
    places: Box<[u32]>,
    /// Whether a busy destination may have several (`lblcr`).
    replicates: bool,
}

impl Locality {
    pub(crate) fn new(candidates: &[Candidate], replicates: bool) -> Self {
        // The seed says nothing here: the hashes only tell backends from each other.
        let mut known: Box<[(u32, Member)]> = keyed(candidates, 0)
            .into_iter()
            .map(|k| {
                let (index, weight) = (k.index, k.weight);
                ((k.hash as u32).max(1), Member { index, weight })
            })
            .collect();
        known.sort_unstable_by_key(|(hash, _)| *hash);
        let mut places = vec![0; candidates.len()];
        for (place, (_, member)) in (0u32..).zip(&known) {
            if let Some(to) = places.get_mut(member.index as usize) {
                *to = place;
            }
        }
        Self {
            least: Least::weighted(candidates),
            known,
            places: places.into(),
            replicates,
        }
    }

    fn member(&self, hash: u32) -> Option<Member> {
        let at = self.known.binary_search_by_key(&hash, |(known, _)| *known);
        self.known.get(at.ok()?).map(|(_, member)| *member)
    }

    /// The least loaded of all: its hash, and its load.
    fn least(&self, cursor: &AtomicUsize, view: &impl View) -> Option<(u32, Load, usize)> {
        let index = self.least.pick(cursor, view)?;
        let (hash, member) = self.known.get(*self.places.get(index)? as usize)?;
        Some((*hash, full(*member, view), index))
    }

    /// Who serves the destination: the least loaded by weight of those that it has, or the least
    /// loaded of all if it has none that can, or if it has more active than its weight while
    /// another has less than half its weight.
    pub(crate) fn pick(
        &self,
        places: &Places,
        cursor: &AtomicUsize,
        client: &Client,
        now: u64,
        view: &impl View,
    ) -> Option<usize> {
        let destination = hash::client(client, Part::Destination, 0).max(BUSY + 1);
        // Later than 0, which is when an empty slot was used.
        let now = u32::try_from(now / 1000)
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        let Some(slot) = places.find(destination, now) else {
            let (hash, _, index) = self.least(cursor, view)?;
            places.insert(destination, hash, now);
            return Some(index);
        };
        slot.touch(now);
        let home = self.home(slot, now, view);
        if let Some((load, index)) = home
            && load.active <= u64::from(load.weight)
        {
            return Some(index);
        }
        match (home, self.least(cursor, view)) {
            (Some((_, home)), Some((_, load, _))) if load.active * 2 >= u64::from(load.weight) => {
                Some(home)
            }
            (_, Some((hash, _, index))) => {
                match self.replicates {
                    true => slot.add(hash, now),
                    false => slot.set(hash, now),
                }
                Some(index)
            }
            (home, None) => home.map(|(_, index)| index),
        }
    }

    /// The least loaded of the backends of a destination. If these did not change for long, the
    /// most loaded of them is one no more.
    fn home(&self, slot: &Slot, now: u32, view: &impl View) -> Option<(Load, usize)> {
        let mut least: Option<(Load, usize)> = None;
        let mut most: Option<(Load, &AtomicU32)> = None;
        let mut size = 0;
        for at in &slot.backends {
            let hash = at.load(Ordering::Relaxed);
            let Some(member) = (hash != 0).then(|| self.member(hash)).flatten() else {
                continue;
            };
            size += 1;
            let index = member.index as usize;
            let load = full(member, view);
            if most.is_none_or(|(most, _)| most.less_than(load)) {
                most = Some((load, at));
            }
            if least.is_none_or(|(least, _)| load.less_than(least)) && view.able(index) {
                least = Some((load, index));
            }
        }
        let unchanged = now.saturating_sub(slot.changed.load(Ordering::Relaxed));
        if size > 1 && unchanged > EXPIRY {
            slot.changed.store(now, Ordering::Relaxed);
            if let Some((_, at)) = most {
                at.store(0, Ordering::Relaxed);
            }
        }
        least
    }
}

/// The load of a member by its full weight.
fn full(member: Member, view: &impl View) -> Load {
    Load {
        active: view.active(member.index as usize).into(),
        weight: member.weight,
    }
}
