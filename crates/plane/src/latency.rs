//! How long things take, as counts in fixed buckets.

use serde::{Deserialize, Serialize};

/// The upper bounds of the buckets, in microseconds, each included in its bucket. What takes longer
/// than the last is in one bucket more.
pub const BOUNDS: [u64; 20] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    600_000_000,
    3_600_000_000,
];

/// How many buckets there are.
pub const BUCKETS: usize = BOUNDS.len() + 1;

/// The number of the bucket of a time in microseconds, below [`BUCKETS`].
pub fn bucket(micros: u64) -> usize {
    BOUNDS.partition_point(|bound| *bound < micros)
}

/// Counts of times by bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// How many times are in each bucket alone, not in those below it.
    pub buckets: [u64; BUCKETS],
    /// The sum of all times, in microseconds.
    pub sum: u64,
}

impl Histogram {
    /// Counts a time, in microseconds.
    pub fn record(&mut self, micros: u64) {
        if let Some(count) = self.buckets.get_mut(bucket(micros)) {
            *count += 1;
        }
        self.sum += micros;
    }

    /// How many times were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The time in seconds that a share `q` (0..=1) of all stays below, as far as buckets can tell:
    /// within one, times count as spread evenly, as Prometheus's `histogram_quantile` has it. What
    /// is beyond the last bound counts as that bound. None if nothing was counted.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = q.clamp(0.0, 1.0) * count as f64;
        let mut below = 0.0;
        let mut lower = 0.0;
        for (n, bound) in self.buckets.iter().zip(BOUNDS) {
            let (n, upper) = (*n as f64, bound as f64 / 1e6);
            if n > 0.0 && below + n >= rank {
                return Some(lower + (upper - lower) * ((rank - below) / n).clamp(0.0, 1.0));
            }
            below += n;
            lower = upper;
        }
        Some(lower)
    }
}

/// How long things took at one service since the plane started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latencies {
    /// Requests that a backend answered, from their whole head to the end of the answer, without
    /// tunnels; TCP connections that reached a backend, from their acceptance to their end.
    pub duration: Histogram,
    /// Requests that a backend answered, from their whole head to the head of the answer.
    pub first_byte: Histogram,
    /// Connections to backends, until they stood; those that did not are left out.
    pub connect: Histogram,
    /// Waits for a place below `maxconn`; who did not have to wait, or left, is left out.
    pub queue: Histogram,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(100), 0);
        assert_eq!(bucket(101), 1);
        assert_eq!(bucket(3_600_000_000), BUCKETS - 2);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_lie_in_their_bucket() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for _ in 0..90 {
            histogram.record(400);
        }
        for _ in 0..10 {
            histogram.record(2_000_000);
        }
        assert_eq!(histogram.count(), 100);
        assert_eq!(histogram.sum, 90 * 400 + 10 * 2_000_000);
        let p50 = histogram.quantile(0.5).unwrap();
        assert!((0.000_25..=0.000_5).contains(&p50), "{p50}");
        assert_eq!(histogram.quantile(0.9), Some(0.000_5));
        let p99 = histogram.quantile(0.99).unwrap();
        assert!((1.0..=2.5).contains(&p99), "{p99}");
        let mut beyond = Histogram::default();
        beyond.record(u64::MAX / 2);
        assert_eq!(beyond.quantile(0.5), Some(3600.0));
    }
}
