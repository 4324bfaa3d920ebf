//! How much memory all encoders together may hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use plimsoll_model::Coding;

/// What an encoder of this coding takes at this level, 1..=9, in bytes: what it had
/// allocated at most within 4 MiB of what cannot be made shorter, its output included, rounded up.
pub(super) fn cost(coding: Coding, level: u8) -> u64 {
    let kib = match (coding, level) {
        (Coding::Gzip, _) => 576,
        (Coding::Br, ..=1) => 512,
        (Coding::Br, 2..=3) => 4_608,
        (Coding::Br, 4) => 5_504,
        (Coding::Br, 5) => 6_016,
        (Coding::Br, 6..) => 7_040,
        (Coding::Zstd, ..=1) => 1_536,
        (Coding::Zstd, 2) => 1_728,
        (Coding::Zstd, 3) => 2_240,
        (Coding::Zstd, 4..) => 2_496,
    };
    kib << 10
}

/// The budget of all workers, in bytes. It is asked for once for each response that is compressed: an
/// atomic that all cores write costs nothing beside an encoder.
#[derive(Debug)]
pub(crate) struct Memory {
    /// 0 is none.
    limit: u64,
    held: AtomicU64,
}

impl Memory {
    /// No more than so many bytes; 0 is no limit.
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        let held = AtomicU64::new(0);
        Arc::new(Self { limit, held })
    }

    /// Bytes that encoders hold now.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// A part of it; none if there is not so much left.
    pub(super) fn take(self: &Arc<Self>, bytes: u64) -> Option<Share> {
        let more = |held: u64| {
            let held = held.checked_add(bytes)?;
            (self.limit == 0 || held <= self.limit).then_some(held)
        };
        let taken = (self.held).fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.ok().map(|_| Share {
            memory: self.clone(),
            bytes,
        })
    }
}

/// A part of the budget, which is given back with it.
#[derive(Debug)]
pub(super) struct Share {
    memory: Arc<Memory>,
    bytes: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_exact_whoever_takes_it() {
        let memory = Memory::new(100);
        let most: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let shares: Vec<_> = (0..50).filter_map(|_| memory.take(3)).collect();
                        shares.len() as u64
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        // Those that were given back may have been taken again.
        assert!(most >= 33, "{most}");
        assert_eq!(memory.held(), 0);
        let shares: Vec<_> = (0..50).filter_map(|_| memory.take(3)).collect();
        assert_eq!((shares.len(), memory.held()), (33, 99));
        assert!(memory.take(2).is_none());
        let one = memory.take(1).unwrap();
        assert_eq!(memory.held(), 100);
        drop((one, shares));
        assert_eq!(memory.held(), 0);
    }

    #[test]
    fn a_panic_gives_back_and_zero_is_no_limit() {
        let memory = Memory::new(0);
        let all = memory.take(u64::MAX).unwrap();
        assert!(memory.take(1).is_none(), "beyond what can be counted");
        drop(all);
        let taken = memory.clone();
        let result = std::thread::spawn(move || {
            let _share = taken.take(5);
            assert_eq!(taken.held(), 5);
            std::panic::resume_unwind(Box::new(()));
        })
        .join();
        assert!(result.is_err());
        assert_eq!(memory.held(), 0);
    }

    #[test]
    fn no_response_costs_more_than_some_mebibytes() {
        for (_, coding) in Coding::NAMES {
            for level in 1..=9 {
                assert!((1 << 19..=7 << 20).contains(&cost(coding, level)));
            }
        }
    }
}
