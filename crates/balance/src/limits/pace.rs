//! A token bucket as one number: the generic cell rate algorithm (ITU-T I.371), as a virtual schedule.

use plimsoll_model::Rate;

/// A rate, ready. Its state is a time: when the bucket will be full again. Times are nanoseconds of
/// one clock; 0 is a bucket that is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Nanoseconds for one token.
    interval: u64,
    /// Nanoseconds for all tokens but one.
    tolerance: u64,
}

impl Pace {
    /// A rate's pace. What is not a whole number of nanoseconds is cut off.
    pub fn new(rate: &Rate) -> Self {
        let period = u64::try_from(rate.period.length().as_nanos()).unwrap_or(u64::MAX);
        let interval = (period / u64::from(rate.count.max(1))).max(1);
        Self {
            interval,
            tolerance: interval.saturating_mul(u64::from(rate.burst.max(1)) - 1),
        }
    }

    /// Takes a token: the new state. A time before that of an earlier call is taken for that one,
    /// so that a clock that goes back gives nobody more.
    ///
    /// # Errors
    /// There is none: nanoseconds until there is.
    pub fn take(&self, full_at: u64, now: u64) -> Result<u64, u64> {
        let due = full_at.saturating_sub(self.tolerance);
        match due.checked_sub(now) {
            Some(wait) if wait > 0 => Err(wait),
            _ => Ok(full_at.max(now).saturating_add(self.interval)),
        }
    }

    /// Gives back a token that was taken: the new state.
    pub fn give_back(&self, full_at: u64) -> u64 {
        full_at.saturating_sub(self.interval)
    }

    /// What a state under another pace is under this one: the same, but never more than all tokens
    /// used at `now`. Else who used up 5 an hour would wait for that hour, though he may have 1000 a
    /// second by now.
    pub fn adopt(&self, full_at: u64, now: u64) -> u64 {
        let room = self.tolerance.saturating_add(self.interval);
        full_at.min(now.saturating_add(room))
    }

    /// Whole tokens that are there.
    pub fn left(&self, full_at: u64, now: u64) -> u64 {
        let used = full_at.saturating_sub(now);
        let room = self.tolerance.saturating_add(self.interval);
        room.saturating_sub(used) / self.interval
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pace(text: &str, burst: u32) -> Pace {
        let rate: Rate = text.parse().unwrap();
        Pace::new(&Rate { burst, ..rate })
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_at_once_and_then_one_for_each_interval() {
        let pace = pace("10/s", 3);
        let now = 5 * SECOND;
        let mut full_at = 0;
        for left in [3, 2, 1] {
            assert_eq!(pace.left(full_at, now), left);
            full_at = pace.take(full_at, now).unwrap();
        }
        assert_eq!(pace.left(full_at, now), 0);
        assert_eq!(pace.take(full_at, now), Err(SECOND / 10));
        assert_eq!(pace.take(full_at, now + SECOND / 10 - 1), Err(1));
        let full_at = pace.take(full_at, now + SECOND / 10).unwrap();
        assert!(pace.take(full_at, now + SECOND / 10).is_err());
        // Never more than the burst, however long it waits.
        assert_eq!(pace.left(full_at, u64::MAX), 3);
    }

    #[test]
    fn the_greatest_and_the_smallest_rates() {
        let slow = pace("1/h", Rate::MAX);
        let full_at = slow.take(0, 0).unwrap();
        assert_eq!(full_at, 3600 * SECOND);
        assert!(slow.take(u64::MAX, 0).is_err_and(|wait| wait > 0) || slow.tolerance == u64::MAX);
        let fast = pace("1000000000/s", 1);
        assert_eq!(fast.take(0, 7), Ok(8));
        assert_eq!(fast.take(8, 7), Err(1));
    }

    #[test]
    fn who_used_up_a_slow_pace_is_not_held_by_a_quicker_one() {
        let (slow, fast) = (pace("5/h", 5), pace("1000/s", 1000));
        let now = 5 * SECOND;
        let mut full_at = 0;
        while let Ok(next) = slow.take(full_at, now) {
            full_at = next;
        }
        assert!(
            fast.take(full_at, now)
                .is_err_and(|wait| wait > 3000 * SECOND)
        );
        let adopted = fast.adopt(full_at, now);
        assert_eq!(fast.take(adopted, now), Err(SECOND / 1000));
        assert!(fast.take(adopted, now + SECOND / 1000).is_ok());
        assert_eq!(fast.left(adopted, now + SECOND), 1000);
        // Its own state is never changed.
        assert_eq!(slow.adopt(full_at, now), full_at);
        // A slower one takes what was used, and forgives nothing.
        let used = fast.take(0, now).unwrap();
        assert_eq!(slow.adopt(used, now), used);
    }

    proptest! {
        /// In any stretch of time no more than the burst and the rate's share pass.
        #[test]
        fn no_more_passes_than_burst_and_rate_allow(
            count in 1..1000_u32,
            burst in 1..50_u32,
            steps in prop::collection::vec(0..SECOND / 4, 1..400),
        ) {
            let pace = pace(&format!("{count}/s"), burst);
            let (mut now, mut full_at) = (SECOND, 0);
            let mut passed = Vec::new();
            for step in steps {
                now += step;
                if let Ok(next) = pace.take(full_at, now) {
                    full_at = next;
                    passed.push(now);
                }
            }
            for (i, from) in passed.iter().enumerate() {
                for (before, to) in passed[i..].iter().enumerate() {
                    let share = (to - from) / pace.interval + u64::from(burst);
                    prop_assert!((before as u64) < share, "{before} in {}", to - from);
                }
            }
        }

        /// A clock that goes back now and then gives nobody more.
        #[test]
        fn a_clock_that_goes_back_gives_nothing(
            count in 1..1000_u32,
            burst in 1..50_u32,
            steps in prop::collection::vec((0..SECOND / 4, 0..SECOND, any::<bool>()), 1..400),
        ) {
            let pace = pace(&format!("{count}/s"), burst);
            let (mut now, mut full_at, mut passed) = (SECOND, 0, 0);
            // The first who passes sees the least time of all.
            for (step, back, goes_back) in steps {
                now += step;
                let seen = if goes_back { (now - back.min(now)).max(SECOND) } else { now };
                if let Ok(next) = pace.take(full_at, seen) {
                    full_at = next;
                    passed += 1;
                }
            }
            prop_assert!(passed <= (now - SECOND) / pace.interval + u64::from(burst));
        }

        /// A token that was given back was never taken, whoever took one meanwhile.
        #[test]
        fn what_is_given_back_was_never_taken(
            count in 1..1000_u32,
            burst in 1..50_u32,
            full_at in 0..5 * SECOND,
            between in any::<bool>(),
        ) {
            let (pace, now) = (pace(&format!("{count}/s"), burst), SECOND);
            if let Ok(taken) = pace.take(full_at, now) {
                let mut without = full_at;
                let mut with = taken;
                if between && let Ok(next) = pace.take(taken, now) {
                    with = next;
                    without = pace.take(full_at, now).unwrap_or_default();
                }
                let back = pace.give_back(with);
                prop_assert_eq!(pace.left(back, now), pace.left(without, now));
                prop_assert_eq!(pace.take(back, now), pace.take(without, now));
            }
        }

        #[test]
        fn who_asks_at_the_rate_is_never_refused(
            count in 1..1000_u32,
            burst in 1..50_u32,
            late in prop::collection::vec(0..SECOND, 1..200),
        ) {
            let pace = pace(&format!("{count}/s"), burst);
            let (mut now, mut full_at) = (0, 0);
            for late in late {
                let taken = pace.take(full_at, now);
                prop_assert!(taken.is_ok());
                full_at = taken.unwrap_or_default();
                now += pace.interval + late;
            }
        }
    }
}
