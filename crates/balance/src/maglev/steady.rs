//! A table that moves little more than it must.

use super::{Free, Order, turns};
use crate::bucket::Keyed;

/// Orders of a member. Two members whose skips stand in a simple ratio run behind one another
/// through the slots, and the one behind finds them taken; with several orders in alternation that
/// spoils a small part of its turns only.
const ORDERS: usize = 8;

/// Tries per slot of the table after which no more turns are wasted. About ln(size) are needed.
const TRIES_PER_SLOT: u64 = 64;

/// Fills a table so that a slot's owner depends on few other members.
///
/// A turn is one try: if the slot is taken, the turn is lost. So a slot belongs to the member that
/// comes to it first, whatever happened before, and if a member leaves, the others keep theirs.
/// That alone leaves shares to chance (standard deviation √(1 ÷ slots per member) of a share), so
/// nobody takes more than 1 % and one slot above its exact share; that cap is the only thing by
/// which slots move from one remaining member to another.
pub(super) fn fill(members: &[Keyed], size: u32, mut put: impl FnMut(u32, u32)) {
    let mut free = Free::new(size);
    let mut fillers: Vec<_> = members
        .iter()
        .zip(turns(members, size))
        .map(|(member, mut turns)| {
            turns.left += turns.left / 100 + 1;
            let orders: [Order; ORDERS] =
                std::array::from_fn(|nth| Order::new(member.hash, nth as u64, size));
            (orders, 0, turns)
        })
        .collect();

    // The first turn is never lost: everyone gets a slot, however light.
    let mut patient = true;
    let mut tries = TRIES_PER_SLOT * u64::from(size);
    while free.left > 0 {
        for ((orders, turn, turns), place) in fillers.iter_mut().zip(0u32..) {
            tries = tries.saturating_sub(1);
            turns.next_round();
            while turns.take() && free.left > 0 {
                tries = tries.saturating_sub(1);
                *turn += 1;
                let Some(order) = orders.get_mut(*turn % ORDERS) else {
                    continue;
                };
                let slot = if patient {
                    Some(order.first_free(&mut free))
                } else {
                    Some(order.step()).filter(|slot| free.take(*slot))
                };
                if let Some(slot) = slot {
                    put(slot, place);
                    turns.left -= 1;
                }
            }
        }
        patient = tries == 0;
    }
}
