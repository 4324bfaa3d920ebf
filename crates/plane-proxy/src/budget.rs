//! How many retries there may be, over all workers.

use std::sync::{Mutex, PoisonError};

use plimsoll_model::Retry;

/// Requests and retries are counted over two halves of this length, in ms: the one that is going on
/// and the one before it.
const HALF: u64 = 5_000;

/// What is counted of a half, or of a part of it.
#[derive(Debug, Default)]
struct Counted {
    requests: u64,
    retries: u64,
}

#[derive(Debug, Default)]
struct Halves {
    /// When this half began, in ms.
    since: u64,
    /// Requests since the beginning of all, as of the beginning of this half.
    requests: u64,
    /// Retries in this half.
    retries: u64,
    before: Counted,
}

/// The retries of one service. Requests are counted elsewhere; they pay nothing for this.
///
/// A lock, since retries are rare, and what is done under it takes some ten nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Budget(Mutex<Halves>);

impl Budget {
    /// Whether there may be another retry at `now` ms, after so many requests since the beginning of
    /// all. Takes it if so.
    pub(crate) fn take(&self, retry: &Retry, now: u64, requests: u64) -> bool {
        // What a panicking thread may have left here is numbers, all of them valid.
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_sub(halves.since);
        if passed >= HALF {
            let since = requests.saturating_sub(halves.requests);
            halves.before = Counted {
                // Of a longer time its mean.
                requests: since.saturating_mul(HALF) / passed,
                retries: if passed < 2 * HALF { halves.retries } else { 0 },
            };
            (halves.since, halves.requests, halves.retries) = (now, requests, 0);
        }
        let recent = requests.saturating_sub(halves.requests) + halves.before.requests;
        let allowed = recent.saturating_mul(retry.budget.into()) / 100;
        let floor = u64::from(retry.floor) * 2 * HALF / 1_000;
        let may = halves.before.retries + halves.retries < allowed.max(floor);
        halves.retries += u64::from(may);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(budget: u32, floor: u32) -> Retry {
        Retry {
            budget,
            floor,
            ..Retry::default()
        }
    }

    /// How many of `tries` are let through.
    fn taken(budget: &Budget, retry: &Retry, now: u64, requests: u64, tries: u64) -> u64 {
        (0..tries)
            .map(|_| u64::from(budget.take(retry, now, requests)))
            .sum()
    }

    #[test]
    fn a_service_with_few_requests_has_the_floor() {
        let budget = Budget::default();
        assert_eq!(taken(&budget, &retry(20, 10), 0, 3, 1_000), 100);
        // Ten seconds later again, and not before.
        assert_eq!(taken(&budget, &retry(20, 10), 4_999, 3, 1_000), 0);
        assert_eq!(taken(&budget, &retry(20, 10), 10_000, 3, 1_000), 100);
    }

    #[test]
    fn a_busy_one_has_its_share() {
        let (budget, rules) = (Budget::default(), retry(20, 0));
        // 100 requests a second.
        assert_eq!(taken(&budget, &rules, 1_000, 100, 500), 20);
        assert_eq!(taken(&budget, &rules, 4_000, 400, 500), 60);
        assert_eq!(taken(&budget, &rules, 5_000, 500, 500), 20);
        assert_eq!(taken(&budget, &rules, 9_000, 900, 500), 80);
        // The first half is forgotten, its requests as well as its retries.
        assert_eq!(taken(&budget, &rules, 10_000, 1_000, 500), 0);
        assert_eq!(taken(&budget, &rules, 12_500, 1_250, 500), 50);
    }

    #[test]
    fn requests_of_long_ago_do_not_count() {
        let (budget, rules) = (Budget::default(), retry(50, 0));
        assert_eq!(taken(&budget, &rules, 0, 0, 10), 0);
        // A million in an hour: 1388 in five seconds.
        assert_eq!(taken(&budget, &rules, 3_600_000, 1_000_000, 5_000), 694);
    }

    #[test]
    fn nothing_may_be_allowed_at_all() {
        let budget = Budget::default();
        assert_eq!(taken(&budget, &retry(0, 0), 100, 1_000_000, 10), 0);
    }
}
