//! Waiting for a condition, with a bound.

use std::time::{Duration, Instant};

/// Between two looks at the condition.
const STEP: Duration = Duration::from_millis(5);

/// Looks again and again until the condition holds; false if it does not within the bound. Blocks
/// the thread.
#[must_use]
pub fn wait_until(bound: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + bound;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(STEP);
    }
}

/// As [`wait_until`], without blocking the thread.
pub async fn wait_until_async(bound: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + bound;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        tokio::time::sleep(STEP).await;
    }
}
