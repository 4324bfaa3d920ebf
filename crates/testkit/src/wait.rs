//! Waiting for a condition, with a bound.

use std::panic::Location;
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

/// Looks again and again until there is something, and gives that.
///
/// # Panics
/// With the place of the caller, `what` was waited for and what is `seen` instead, if there is nothing
/// within the bound.
#[track_caller]
pub fn until_some<'a, T, F: Future<Output = Option<T>> + 'a>(
    bound: Duration,
    what: &'a str,
    look: impl Fn() -> F + 'a,
    seen: impl FnOnce() -> String + 'a,
) -> impl Future<Output = T> + 'a {
    let caller = Location::caller();
    async move {
        let until = Instant::now() + bound;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            if Instant::now() >= until {
                missed(caller, bound, what, &seen());
            }
            tokio::time::sleep(STEP).await;
        }
    }
}

/// Looks again and again until this holds.
///
/// # Panics
/// As [`until_some`].
#[track_caller]
pub fn until<'a>(
    bound: Duration,
    what: &'a str,
    holds: impl AsyncFn() -> bool + 'a,
    seen: impl FnOnce() -> String + 'a,
) -> impl Future<Output = ()> + 'a {
    let caller = Location::caller();
    async move {
        let until = Instant::now() + bound;
        while !holds().await {
            if Instant::now() >= until {
                missed(caller, bound, what, &seen());
            }
            tokio::time::sleep(STEP).await;
        }
    }
}

#[allow(clippy::panic, reason = "this is how a test fails")]
fn missed(caller: &Location<'_>, bound: Duration, what: &str, seen: &str) -> ! {
    panic!("{caller}: not within {bound:?}: {what}\n{seen}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[should_panic(expected = "not within 20ms: never\nnothing")]
    async fn who_waits_in_vain_is_told_of_it() {
        let bound = Duration::from_millis(20);
        until(bound, "now", async || true, String::new).await;
        let some = until_some(bound, "something", || async { Some(7) }, String::new);
        assert_eq!(some.await, 7);
        until(bound, "never", async || false, || "nothing".into()).await;
    }
}
