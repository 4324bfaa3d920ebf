//! Connection thresholds as in IPVS: who has `upper` gets nothing new until it has less than `lower`.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper and lower threshold of one backend, read by all workers.
#[derive(Debug, Default)]
pub(crate) struct Thresholds {
    /// Low half: the upper one, 0 for none. High half: the lower one, 0 for ¾ of the upper one.
    both: AtomicU64,
}

impl Thresholds {
    fn get(&self) -> (u32, u32) {
        let both = self.both.load(Ordering::Relaxed);
        (both as u32, (both >> 32) as u32)
    }

    /// Sets both. None if they were so already; else whether who is overloaded is so no more, which
    /// a greater upper one or none does (as `ip_vs_ctl.c` of Linux 6.1).
    pub(crate) fn set(&self, upper: u32, lower: u32) -> Option<bool> {
        let both = u64::from(lower) << 32 | u64::from(upper);
        let before = self.both.swap(both, Ordering::Relaxed);
        (before != both).then_some(upper == 0 || upper > before as u32)
    }

    /// Whether a backend with this load is overloaded, if it was so or not (as `ip_vs_conn.c` of
    /// Linux 6.1).
    pub(crate) fn overloads(&self, load: u64, was: bool) -> bool {
        let (upper, lower) = self.get();
        match (upper, lower) {
            (0, _) => false,
            (upper, _) if load >= u64::from(upper) => true,
            (upper, 0) => was && load * 4 >= u64::from(upper) * 3,
            (_, lower) => was && load >= u64::from(lower),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is overloaded after each of these loads, one after another.
    fn over(upper: u32, lower: u32, loads: &[u64]) -> Vec<bool> {
        let thresholds = Thresholds::default();
        thresholds.set(upper, lower);
        let mut is = false;
        let steps = loads.iter().map(|load| {
            is = thresholds.overloads(*load, is);
            is
        });
        steps.collect()
    }

    #[test]
    fn from_upper_on_until_below_lower() {
        let loads = [3, 4, 5, 4, 3, 2, 1, 3, 4];
        let (t, f) = (true, false);
        assert_eq!(over(4, 2, &loads), [f, t, t, t, t, t, f, f, t]);
        assert_eq!(over(4, 4, &loads), [f, t, t, t, f, f, f, f, t]);
        // Three quarters: below 3.
        assert_eq!(over(4, 0, &loads), [f, t, t, t, t, f, f, f, t]);
        assert_eq!(over(0, 0, &loads), [f; 9]);
        assert_eq!(over(1, 0, &[0, 1, 0]), [f, t, f]);
        let most = u64::from(u32::MAX);
        assert_eq!(
            over(u32::MAX, 0, &[most - 1, most, most * 3 / 4]),
            [f, t, f]
        );
    }

    #[test]
    fn only_a_greater_one_or_none_pardons() {
        let thresholds = Thresholds::default();
        assert_eq!(thresholds.set(4, 0), Some(true));
        assert_eq!(thresholds.set(4, 0), None);
        assert_eq!(thresholds.set(4, 1), Some(false));
        assert_eq!(thresholds.set(3, 1), Some(false));
        assert_eq!(thresholds.set(5, 1), Some(true));
        assert_eq!(thresholds.set(0, 0), Some(true));
    }
}
