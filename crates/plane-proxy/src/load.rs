//! How many connections each worker has, and which worker a fresh one is for.
//!
//! The kernel shares connections out by a hash (SO_REUSEPORT), which is even where there are many, but
//! may give seven of eight to one worker. So a worker that has clearly more than another gives a fresh
//! connection to that one, as HAProxy does with `tune.listener.multi-queue`.

use std::sync::atomic::{AtomicU64, Ordering};

/// So many workers are all looked at; of more, two taken at random.
const FEW: usize = 8;

/// Below so many connections every one counts.
const EXACT: u64 = 8;

/// From there on one worker may have this part more than another before it gives any away.
const PART: u64 = 4;

/// Added to the count of a worker that takes no more from others.
const AWAY: u64 = 1 << 32;

/// A count on a cache line of its own (two, since processors fetch them in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Open(AtomicU64);

/// The counts of all workers.
#[derive(Debug, Default)]
pub(crate) struct Load(Box<[Open]>);

impl Load {
    /// For so many workers.
    pub(crate) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Open::default()).collect())
    }

    /// One more at this worker.
    pub(crate) fn add(&self, worker: usize) {
        if let Some(Open(open)) = self.0.get(worker) {
            open.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One fewer at this worker.
    pub(crate) fn remove(&self, worker: usize) {
        if let Some(Open(open)) = self.0.get(worker) {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// This worker gets nothing from others any more.
    pub(crate) fn leave(&self, worker: usize) {
        if let Some(Open(open)) = self.0.get(worker) {
            open.fetch_add(AWAY, Ordering::Relaxed);
        }
    }

    /// Connections of all workers.
    pub(crate) fn all(&self) -> u64 {
        self.each().sum()
    }

    /// Connections of each worker.
    pub(crate) fn each(&self) -> impl Iterator<Item = u64> {
        let open = self.0.iter().map(|Open(open)| open.load(Ordering::Relaxed));
        open.map(|open| open % AWAY)
    }

    /// The worker that a fresh connection is for, if it is not the one that has accepted it.
    pub(crate) fn lighter(&self, own: usize, random: impl Fn() -> u64) -> Option<usize> {
        let count = |Open(open): &Open| open.load(Ordering::Relaxed);
        let mine = count(self.0.get(own)?);
        if mine == 0 {
            return None;
        }
        let others = self.0.len() - 1;
        let least = if others < FEW {
            let all = self.0.iter().enumerate().filter(|(at, _)| *at != own);
            all.map(|(at, open)| (count(open), at)).min()?
        } else {
            // Two different ones, by their distance behind this worker.
            let random = random();
            let first = usize::try_from(random >> 32).unwrap_or_default() % others;
            let further = usize::try_from(random & 0xFFFF_FFFF).unwrap_or_default() % (others - 1);
            let second = (first + 1 + further) % others;
            let two = [first, second].map(|behind| (own + 1 + behind) % self.0.len());
            let two = two
                .into_iter()
                .filter_map(|at| Some((count(self.0.get(at)?), at)));
            two.min()?
        };
        let (theirs, at) = least;
        let room = if theirs < EXACT { 0 } else { theirs / PART };
        (mine > theirs + room).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has so many connections accepted by these workers in turn; how many each has then.
    fn spread(workers: usize, connections: usize, by: impl Fn(usize) -> usize) -> Vec<u64> {
        let load = Load::new(workers);
        let turn = std::cell::Cell::new(0x9E37_79B9_7F4A_7C15_u64);
        let random = || {
            turn.set(
                turn.get()
                    .wrapping_mul(0x5851_F42D_4C95_7F2D)
                    .wrapping_add(1),
            );
            turn.get() ^ turn.get() >> 29
        };
        for n in 0..connections {
            let own = by(n);
            load.add(load.lighter(own, random).unwrap_or(own));
        }
        assert_eq!(load.all(), connections as u64);
        let open = load.0.iter();
        open.map(|Open(open)| open.load(Ordering::Relaxed))
            .collect()
    }

    #[test]
    fn few_are_spread_evenly_wherever_they_come_in() {
        for workers in [2, 3, 4, 8] {
            for each in 1..=8 {
                let all = workers * each;
                let even = vec![each as u64; workers];
                assert_eq!(spread(workers, all, |_| 0), even, "all by one");
                assert_eq!(spread(workers, all, |n| n * n % workers), even, "anyhow");
                assert_eq!(spread(workers, all, |n| n % workers), even, "in turn");
            }
        }
    }

    #[test]
    fn one_worker_alone_keeps_all() {
        assert_eq!(spread(1, 20, |_| 0), [20]);
        assert_eq!(Load::default().lighter(0, || 0), None);
    }

    #[test]
    fn many_may_differ_by_a_part() {
        let spread = spread(2, 1000, |_| 0);
        assert!(
            spread[0] + spread[1] == 1000 && spread[1] >= 440,
            "{spread:?}"
        );
    }

    #[test]
    fn among_many_workers_none_is_left_far_behind() {
        let spread = spread(32, 32 * 8, |n| n % 4);
        assert!(
            spread.iter().all(|open| (3..=14).contains(open)),
            "{spread:?}"
        );
    }

    #[test]
    fn who_has_left_gets_nothing() {
        let load = Load::new(2);
        load.leave(1);
        for _ in 0..10 {
            assert_eq!(load.lighter(0, || 0), None);
            load.add(0);
        }
        assert_eq!(load.all(), 10);
        load.remove(0);
        assert_eq!(load.all(), 9);
    }
}
