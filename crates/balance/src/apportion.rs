//! Sharing out a fixed number of slots by weight.

use std::cmp::Reverse;

/// How many of `slots` slots each weight gets: in sum all of them, each at least one.
///
/// By the method of largest remainders, so each is less than one slot from `slots × weight ÷ sum`,
/// unless that is below one slot for some: those get one, and the others share the rest. Equal
/// remainders go to the front of the list.
///
/// Weights are above 0, and there are at least as many slots as weights.
pub(crate) fn apportion(weights: &[u32], slots: u32) -> Vec<u32> {
    let mut by_weight: Vec<usize> = (0..weights.len()).collect();
    let weight_of = |i: usize| u64::from(weights.get(i).copied().unwrap_or(0));
    by_weight.sort_by_key(|i| weight_of(*i));

    let mut left = u64::from(slots);
    let mut sum: u64 = weights.iter().map(|w| u64::from(*w)).sum();
    let mut given = vec![1u32; weights.len()];
    let mut rest = by_weight.as_slice();
    while let Some((lightest, others)) = rest.split_first() {
        let weight = weight_of(*lightest);
        if u128::from(weight) * u128::from(left) >= u128::from(sum) {
            break;
        }
        left = left.saturating_sub(1);
        sum -= weight;
        rest = others;
    }

    let (pool, total) = (left, u128::from(sum.max(1)));
    let mut remainders: Vec<(Reverse<u64>, usize)> = Vec::with_capacity(rest.len());
    for i in rest {
        let exact = u128::from(weight_of(*i)) * u128::from(pool);
        let whole = exact / total;
        left = left.saturating_sub(whole as u64);
        if let Some(slot) = given.get_mut(*i) {
            *slot = whole as u32;
        }
        remainders.push((Reverse((exact % total) as u64), *i));
    }
    remainders.sort_unstable();
    for (_, i) in remainders.iter().take(left as usize) {
        if let Some(slot) = given.get_mut(*i) {
            *slot += 1;
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_weights_get_equal_shares_and_the_front_the_rest() {
        assert_eq!(apportion(&[7, 7, 7], 11), [4, 4, 3]);
    }

    #[test]
    fn the_lightest_gets_one_slot() {
        assert_eq!(apportion(&[1, (1 << 31) - 1], 100), [1, 99]);
        assert_eq!(apportion(&[1, 1, u32::MAX], 3), [1, 1, 1]);
    }

    proptest! {
        #[test]
        fn all_slots_are_given_each_in_proportion(
            weights in proptest::collection::vec(1u32..=u32::MAX >> 1, 1..50),
            per in 1u32..100,
        ) {
            let slots = weights.len() as u32 * per + 7;
            let given = apportion(&weights, slots);
            prop_assert_eq!(given.iter().sum::<u32>(), slots);
            prop_assert!(given.iter().all(|g| *g > 0));
            let sum: f64 = weights.iter().map(|w| f64::from(*w)).sum();
            let exact = |w: u32| f64::from(w) * f64::from(slots) / sum;
            if weights.iter().all(|w| exact(*w) >= 1.0) {
                for (w, g) in weights.iter().zip(&given) {
                    prop_assert!((f64::from(*g) - exact(*w)).abs() < 1.0 + 1e-6);
                }
            }
        }
    }
}
