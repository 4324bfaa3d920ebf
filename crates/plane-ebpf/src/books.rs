//! Which numbers are given out: of services, slots and VIPs; pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Numbers from 0 to below a limit; the lowest free one is given out next.
#[derive(Clone, Debug)]
pub(crate) struct Numbers {
    limit: u32,
    /// All below were given out once.
    next: u32,
    free: BTreeSet<u32>,
}

impl Numbers {
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            limit,
            next: 0,
            free: BTreeSet::new(),
        }
    }

    /// A number; none if all are in use.
    pub(crate) fn take(&mut self) -> Option<u32> {
        if let Some(number) = self.free.pop_first() {
            return Some(number);
        }
        (self.next < self.limit).then(|| {
            self.next += 1;
            self.next - 1
        })
    }

    /// Gives a number back.
    pub(crate) fn give(&mut self, number: u32) {
        if number < self.next {
            self.free.insert(number);
        }
    }

    /// This number is in use, as was found.
    pub(crate) fn occupy(&mut self, number: u32) {
        while self.next <= number && self.next < self.limit {
            self.free.insert(self.next);
            self.next += 1;
        }
        self.free.remove(&number);
    }
}

/// Slots of backends. A slot that is free keeps its generation, and has the next one when it is
/// given out again: flows that still name the old one are known to be stale.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    numbers: Numbers,
    generations: BTreeMap<u32, u8>,
}

impl Slots {
    /// Slots that can be named in a flow: 24 bits, the last of which means nobody.
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            numbers: Numbers::new(limit.min((1 << 24) - 1)),
            generations: BTreeMap::new(),
        }
    }

    /// A slot with its generation; none if all are in use.
    pub(crate) fn take(&mut self) -> Option<(u32, u8)> {
        let slot = self.numbers.take()?;
        let generation = self.generations.entry(slot).or_default();
        *generation = generation.wrapping_add(1);
        Some((slot, *generation))
    }

    /// The generation of a slot that was given out or found.
    pub(crate) fn generation(&self, slot: u32) -> u8 {
        self.generations.get(&slot).copied().unwrap_or_default()
    }

    /// This slot is in use, or was, as was found.
    pub(crate) fn found(&mut self, slot: u32, generation: u8, used: bool) {
        self.numbers.occupy(slot);
        self.generations.insert(slot, generation);
        if !used {
            self.numbers.give(slot);
        }
    }
}

/// What a slot is called in flows and sets.
pub(crate) fn slot_name(slot: u32, generation: u8) -> u32 {
    slot | u32::from(generation) << 24
}

/// The slot and the generation of such a name.
pub(crate) fn slot_of(name: u32) -> (u32, u8) {
    (name & 0x00ff_ffff, (name >> 24) as u8)
}

/// Addresses that are listened on.
#[derive(Clone, Debug)]
pub(crate) struct Vips {
    numbers: Numbers,
    ids: BTreeMap<IpAddr, u32>,
}

impl Vips {
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            numbers: Numbers::new(limit.min(1 << 16)),
            ids: BTreeMap::new(),
        }
    }

    /// The number of an address, a new one if it has none; none if all are in use.
    pub(crate) fn id(&mut self, ip: IpAddr) -> Option<u32> {
        if let Some(id) = self.ids.get(&ip) {
            return Some(*id);
        }
        let id = self.numbers.take()?;
        self.ids.insert(ip, id);
        Some(id)
    }

    /// The number of an address that has one.
    pub(crate) fn get(&self, ip: IpAddr) -> Option<u32> {
        self.ids.get(&ip).copied()
    }

    /// All addresses with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (IpAddr, u32)> {
        self.ids.iter().map(|(ip, id)| (*ip, *id))
    }

    /// Nobody listens there any more.
    pub(crate) fn remove(&mut self, ip: IpAddr) {
        if let Some(id) = self.ids.remove(&ip) {
            self.numbers.give(id);
        }
    }

    /// This address has this number, as was found.
    pub(crate) fn found(&mut self, ip: IpAddr, id: u32) {
        self.numbers.occupy(id);
        self.ids.insert(ip, id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_comes_next() {
        let mut numbers = Numbers::new(3);
        assert_eq!(
            [numbers.take(), numbers.take(), numbers.take()],
            [Some(0), Some(1), Some(2)]
        );
        assert_eq!(numbers.take(), None);
        numbers.give(1);
        numbers.give(7);
        assert_eq!([numbers.take(), numbers.take()], [Some(1), None]);
        let mut numbers = Numbers::new(9);
        numbers.occupy(2);
        assert_eq!(
            [numbers.take(), numbers.take(), numbers.take()],
            [Some(0), Some(1), Some(3)]
        );
    }

    #[test]
    fn a_slot_that_is_given_again_has_another_generation() {
        let mut slots = Slots::new(2);
        assert_eq!(slots.take(), Some((0, 1)));
        slots.found(0, 1, false);
        assert_eq!(slots.take(), Some((0, 2)));
        slots.found(1, 255, false);
        assert_eq!(slots.take(), Some((1, 0)), "generations wrap around");
        assert_eq!(slot_of(slot_name(77, 200)), (77, 200));
    }
}
