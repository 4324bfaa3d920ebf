//! Maglev hashing (Eisenbud and others, "Maglev: A Fast and Reliable Software Network Load
//! Balancer", NSDI 2016, §3.4), with weights.
//!
//! Each member has its own order of all slots: from an offset on in steps of a skip, both from the
//! hash of its address, modulo the size of the table, which is a prime. The members take turns;
//! at its turn a member takes the first slot of its order that is still free.
//!
//! When one of N members leaves, the best possible is that its slots change and no others. The
//! paper's way moves more, for the turns of all others come earlier: with 5000 slots per member
//! 1.16 × the best for 100 members, but 1.75 × for 1000. Tables of [`STEADY`] slots and more are
//! therefore filled in another way: see [`steady`].

mod steady;

use crate::apportion::apportion;
use crate::bucket::Keyed;
use crate::hash;

/// The smallest table that is chosen without being asked for, as in the paper.
const SMALLEST: u64 = 65_537;

/// Slots per member at least where the size is chosen: shares are then within 1 % of the exact one.
const SLOTS_PER_MEMBER: u64 = 100;

/// Tables of so many slots and more move less on a change, and have shares that are less exact.
///
/// It depends on nothing but the size, which is settable: a table must not change its way with the
/// number of members, since that would move everybody.
pub(crate) const STEADY: u32 = 400_000;

/// One turn of credit.
const TURN: u64 = 1 << 32;

/// The number of slots: a prime, and not less than there are members.
///
/// Of 0, the smallest of the primes from 65 537 × 6ⁿ on that has at least 100 slots per member: few
/// steps, for a table of another size leads nearly every client elsewhere. One slot does for one
/// member.
pub(crate) fn table_size(asked: u32, members: usize) -> u32 {
    let members = members as u64;
    if members <= 1 {
        return 1;
    }
    if asked != 0 {
        return next_prime(u64::from(asked).max(members));
    }
    let mut size = SMALLEST;
    while size < members * SLOTS_PER_MEMBER {
        size *= 6;
    }
    next_prime(size)
}

/// The smallest prime that is not below `n`; the greatest that fits if there is none.
pub(crate) fn next_prime(n: u64) -> u32 {
    const GREATEST: u32 = 4_294_967_291;
    let is_prime = |n: u64| {
        n >= 2
            && (2..)
                .take_while(|d| d * d <= n)
                .all(|d| !n.is_multiple_of(d))
    };
    (n..u64::from(GREATEST))
        .find(|n| is_prime(*n))
        .map_or(GREATEST, |n| n as u32)
}

/// A table of `size` slots, each with what `name` makes of the place of the member it belongs to.
///
/// In a round every member has turns in proportion to its weight, counted in fractions, one being
/// that of a weight of about the mean. (IPVS: whole turns, of weights divided by their greatest
/// common divisor and shifted to fit.) Each
/// member ends with its share to within one slot, and with at least one. (Above [`STEADY`]: with
/// what [`steady::fill`] says.)
pub(crate) fn fill<T: Copy + Default>(
    members: &[Keyed],
    size: u32,
    name: impl Fn(u32) -> T,
) -> Box<[T]> {
    let mut table = vec![T::default(); size as usize].into_boxed_slice();
    let put = |slot: u32, place: u32| {
        if let Some(entry) = table.get_mut(slot as usize) {
            *entry = name(place);
        }
    };
    if members.is_empty() {
        return Box::default();
    } else if size >= STEADY {
        steady::fill(members, size, put);
    } else {
        fill_exactly(members, size, put);
    }
    table
}

fn fill_exactly(members: &[Keyed], size: u32, mut put: impl FnMut(u32, u32)) {
    let mut free = Free::new(size);
    let mut fillers: Vec<(Order, Turns)> = members
        .iter()
        .zip(turns(members, size))
        .map(|(member, turns)| (Order::new(member.hash, 0, size), turns))
        .collect();
    while free.left > 0 {
        for ((order, turns), place) in fillers.iter_mut().zip(0u32..) {
            turns.next_round();
            while turns.take() {
                put(order.first_free(&mut free), place);
                turns.left -= 1;
            }
        }
    }
}

/// A member's order of all slots.
struct Order {
    next: u32,
    skip: u32,
    size: u32,
}

impl Order {
    /// The `nth` of the orders that follow from a hash.
    fn new(hash: u128, nth: u64, size: u32) -> Self {
        let offset = hash::again(hash as u64, nth) % u64::from(size);
        let skip = hash::again((hash >> 64) as u64, nth) % u64::from(size - 1).max(1) + 1;
        Self {
            next: offset as u32,
            skip: skip as u32,
            size,
        }
    }

    #[inline]
    fn step(&mut self) -> u32 {
        let slot = self.next;
        self.next = self.after(slot, self.skip);
        slot
    }

    /// The slot so far behind another.
    #[inline]
    fn after(&self, slot: u32, distance: u32) -> u32 {
        // No division here: a table takes about size × ln(size) steps.
        let beyond = self.size - distance;
        if slot >= beyond {
            slot - beyond
        } else {
            slot + distance
        }
    }

    /// Takes the first free slot from here on. There must be one.
    #[inline]
    fn first_free(&mut self, free: &mut Free) -> u32 {
        // Two at a time, each computed from one two before: it is the chain of steps that costs.
        let double = self.after(self.skip, self.skip);
        let (mut one, mut two) = (self.next, self.after(self.next, self.skip));
        loop {
            if free.take(one) {
                self.next = two;
                return one;
            }
            if free.take(two) {
                self.next = self.after(two, self.skip);
                return two;
            }
            one = self.after(one, double);
            two = self.after(two, double);
        }
    }
}

/// Which slots are free, a bit for each: all that the many steps read fits the nearest caches.
struct Free {
    taken: Vec<u64>,
    left: u32,
}

impl Free {
    fn new(size: u32) -> Self {
        Self {
            taken: vec![0; size.div_ceil(64) as usize],
            left: size,
        }
    }

    /// Takes a slot, if it is free.
    #[inline]
    fn take(&mut self, slot: u32) -> bool {
        let bit = 1u64 << (slot % 64);
        match self.taken.get_mut((slot / 64) as usize) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                self.left -= 1;
                true
            }
            _ => false,
        }
    }
}

/// What a member still has to take, and when.
struct Turns {
    /// Slots still to take.
    left: u32,
    /// Turns it is due, in units of [`TURN`].
    credit: u64,
    /// Turns per round, in units of [`TURN`].
    pace: u64,
}

impl Turns {
    #[inline]
    fn next_round(&mut self) {
        if self.left > 0 {
            self.credit += self.pace;
        }
    }

    /// Whether it has a turn now; the caller counts `left` down if it took a slot.
    #[inline]
    fn take(&mut self) -> bool {
        let due = self.left > 0 && self.credit >= TURN;
        if due {
            self.credit -= TURN;
        }
        due
    }
}

/// The turns of each member, with its exact share left.
fn turns(members: &[Keyed], size: u32) -> Vec<Turns> {
    let weights: Vec<u32> = members.iter().map(|m| m.weight).collect();
    let sum: u64 = weights.iter().map(|w| u64::from(*w)).sum();
    // A power of two, and not the mean itself, so that it seldom changes with the members: the
    // turns of all others then stay where they were.
    let unit = sum
        .div_ceil((members.len() as u64).max(1))
        .next_power_of_two();
    apportion(&weights, size)
        .into_iter()
        .zip(&weights)
        .map(|(left, weight)| Turns {
            left,
            // Everyone has a turn in the first round, while there is choice.
            credit: TURN - 1,
            pace: (u64::from(*weight) * TURN / unit).max(1),
        })
        .collect()
}

#[cfg(test)]
mod tests;
