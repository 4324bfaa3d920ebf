//! Maglev hashing (Eisenbud and others, "Maglev: A Fast and Reliable Software Network Load
//! Balancer", NSDI 2016, §3.4), with weights.
//!
//! Each member has its own order of all slots: from an offset on in steps of a skip, both from the
//! hash of its address, modulo the size of the table, which is a prime. The members take turns;
//! at its turn a member takes the first slot of its order that is still free.

use crate::apportion::apportion;
use crate::bucket::Keyed;

/// The smallest table that is chosen without being asked for, as in the paper.
const SMALLEST: u32 = 65_537;

/// Slots per member at least where the size is chosen: shares are then within 1 % of the exact one.
const SLOTS_PER_MEMBER: u64 = 100;

/// One turn of credit.
const TURN: u64 = 1 << 32;

/// The number of slots: a prime, and not less than there are members.
///
/// Of 0, the smallest of 65 537, 655 373, 6 553 703, … that has at least 100 slots per member: few
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
    let mut size = u64::from(SMALLEST);
    while size < members * SLOTS_PER_MEMBER {
        size *= 10;
    }
    next_prime(size)
}

/// The smallest prime that is not below `n`; the greatest that fits if there is none.
fn next_prime(n: u64) -> u32 {
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

/// A member while the table is filled.
struct Filler {
    /// The next slot of its order.
    next: u32,
    skip: u32,
    /// Slots still to take.
    left: u32,
    /// Turns it is due.
    credit: u64,
    /// Turns per round.
    pace: u64,
}

/// A table of `size` slots, each with what `name` makes of the place of the member it belongs to.
///
/// In a round a member of average weight has one turn, others as many as their weight asks for,
/// counted in fractions. Each member ends with its share of the slots to within one slot, and with
/// at least one.
pub(crate) fn fill<T: Copy + Default>(
    members: &[Keyed],
    size: u32,
    name: impl Fn(u32) -> T,
) -> Box<[T]> {
    if members.is_empty() {
        return Box::default();
    }
    let mut table = vec![T::default(); size as usize].into_boxed_slice();
    let mut taken = vec![0u64; size.div_ceil(64) as usize];
    let mut fillers = fillers(members, size);
    let mut left = size;
    while left > 0 {
        for (filler, place) in fillers.iter_mut().zip(0u32..) {
            filler.credit += filler.pace;
            while filler.credit >= TURN && filler.left > 0 {
                filler.credit -= TURN;
                filler.left -= 1;
                left -= 1;
                let slot = claim(filler, size, &mut taken);
                if let Some(entry) = table.get_mut(slot as usize) {
                    *entry = name(place);
                }
            }
        }
    }
    table
}

/// Takes the first free slot in the member's order. There is one.
#[inline]
fn claim(filler: &mut Filler, size: u32, taken: &mut [u64]) -> u32 {
    loop {
        let slot = filler.next;
        // No division here: this is done size × ln(size) times.
        let beyond = size - filler.skip;
        filler.next = if slot >= beyond {
            slot - beyond
        } else {
            slot + filler.skip
        };
        let Some(word) = taken.get_mut((slot / 64) as usize) else {
            return slot;
        };
        let bit = 1 << (slot % 64);
        if *word & bit == 0 {
            *word |= bit;
            return slot;
        }
    }
}

fn fillers(members: &[Keyed], size: u32) -> Vec<Filler> {
    let weights: Vec<u32> = members.iter().map(|m| m.weight).collect();
    let sum: u128 = weights.iter().map(|w| u128::from(*w)).sum();
    let shares = apportion(&weights, size);
    members
        .iter()
        .zip(shares)
        .map(|(member, left)| {
            let (offset, skip) = (member.hash as u64, (member.hash >> 64) as u64);
            let pace =
                u128::from(member.weight) * members.len() as u128 * u128::from(TURN) / sum.max(1);
            Filler {
                next: (offset % u64::from(size)) as u32,
                skip: (skip % u64::from(size - 1).max(1)) as u32 + 1,
                left,
                // Everyone has a turn in the first round, while there is choice.
                credit: TURN - 1,
                pace: (pace as u64).max(1),
            }
        })
        .collect()
}
