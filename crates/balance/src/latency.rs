//! How long a backend is expected to take: a peak-sensitive moving average.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// An estimate of a backend's response time, written and read by all cores without a lock.
///
/// As in Finagle's and Linkerd's peak EWMA: an answer that takes longer than expected counts at
/// once and in full; others pull the estimate to them by 1 − e^(−t ⁄ decay), where t is the time
/// since the last one. While there are none it falls toward 0 in the same way, so that a backend
/// that was slow is tried again.
///
/// A failure never makes a backend look quicker: it holds the estimate where it last was, or raises it. A
/// backend that has done nothing but fail is expected to take [`PeakEwma::PENALTY`], which falls as others do.
///
/// Times of calls are in ms of a clock that goes on for all callers. After 2³¹ ms (24 days) without
/// an answer an estimate may for once count as fresh.
#[derive(Debug, Default)]
pub struct PeakEwma {
    /// High half: the estimate in µs, the bits of an `f32`. Low half: when, in ms. 0: none yet.
    state: AtomicU64,
}

/// The least that is ever estimated, in µs.
const LEAST: f32 = 1.0;

fn pack(estimate: f32, at: u32) -> u64 {
    u64::from(estimate.max(LEAST).to_bits()) << 32 | u64::from(at)
}

fn unpack(state: u64) -> Option<(f32, u32)> {
    (state != 0).then(|| (f32::from_bits((state >> 32) as u32), state as u32))
}

/// From `at` to `now`, in ms; 0 where `now` is before `at`.
fn passed(at: u32, now: u32) -> u32 {
    match now.wrapping_sub(at) {
        passed if passed > u32::MAX / 2 => 0,
        passed => passed,
    }
}

/// What is left by `now` of what was known `at` a time: 1 for all.
fn left(at: u32, now: u32, decay: Duration) -> f32 {
    let decay = (decay.as_secs_f32() * 1000.0).max(1.0);
    match passed(at, now) {
        0 => 1.0,
        passed => (-(passed as f32) / decay).exp(),
    }
}

fn micros(time: Duration) -> f32 {
    time.as_secs_f32() * 1e6
}

impl PeakEwma {
    /// What a backend is expected to take if its first attempt fails sooner than that. An answer of
    /// 500 at once would else make it the quickest of all.
    pub const PENALTY: Duration = Duration::from_secs(1);

    /// At `now`, an answer had taken so long.
    pub fn observe(&self, now: u64, taken: Duration, decay: Duration) {
        let taken = micros(taken);
        self.update(now, decay, |known| {
            Some(match known {
                Some((estimate, left)) if taken <= estimate => {
                    estimate * left + taken * (1.0 - left)
                }
                _ => taken,
            })
        });
    }

    /// At `now`, an attempt had failed after so long: that counts if it makes the backend look
    /// slower, never if it makes it look quicker. What the estimate has fallen by since the last
    /// time is taken back, so that a backend that goes on failing does not become the preferred one.
    pub fn observe_failure(&self, now: u64, taken: Duration, decay: Duration) {
        let taken = micros(taken);
        self.update(now, decay, |known| {
            Some(match known {
                Some((estimate, _)) => estimate.max(taken),
                None => micros(Self::PENALTY).max(taken),
            })
        });
    }

    /// At `now`, whoever had waited for an answer for so long gave up: it takes at least that long.
    /// A wait that is no longer than what is expected says nothing.
    pub fn observe_wait(&self, now: u64, waited: Duration, decay: Duration) {
        let waited = micros(waited);
        self.update(now, decay, |known| match known {
            Some((estimate, left)) if waited <= estimate * left => None,
            _ => Some(waited),
        });
    }

    /// Sets the estimate to what `next` makes of the old one and what is left of it by now; if that is
    /// none, leaves all as it is.
    fn update(&self, now: u64, decay: Duration, next: impl Fn(Option<(f32, f32)>) -> Option<f32>) {
        let now = now as u32;
        // It fails where there is nothing to set.
        let _ = self
            .state
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
                let known = unpack(state);
                let estimate = next(known.map(|(e, at)| (e, left(at, now, decay))))?;
                // Another core may have been here with a later time.
                let at = known.map_or(now, |(_, at)| match passed(at, now) {
                    0 => at,
                    _ => now,
                });
                Some(pack(estimate, at))
            });
    }

    /// What is expected at `now`, in µs; none if there never was an answer or a failure.
    pub fn estimate(&self, now: u64, decay: Duration) -> Option<f32> {
        let (estimate, at) = unpack(self.state.load(Ordering::Relaxed))?;
        Some((estimate * left(at, now as u32, decay)).max(LEAST))
    }
}
