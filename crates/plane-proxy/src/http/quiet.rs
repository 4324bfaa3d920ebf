//! A waker that does not wake a task which is being polled anyway.
//!
//! hyper hands a body over by a channel between two tasks. Here both ends are in one task, so most
//! of what the channel does to wake the other end would only poll this task once more for nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Rounds in which one end may call for the other before the task yields.
const ROUNDS: usize = 8;

/// The waker of one task, muted while the task polls with it. All on one thread, but a waker has to
/// be fit for any.
#[derive(Debug)]
pub(crate) struct Quiet {
    task: Waker,
    muted: AtomicBool,
    called: AtomicBool,
}

impl Quiet {
    /// For the task that this waker wakes.
    pub(crate) fn new(task: &Waker) -> Arc<Self> {
        let (muted, called) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self {
            task: task.clone(),
            muted,
            called,
        })
    }

    /// Whether this is still the waker of the same task.
    pub(crate) fn is_for(&self, task: &Waker) -> bool {
        self.task.will_wake(task)
    }

    /// Polls until it is ready, or nothing in it has called for another round.
    pub(crate) fn poll<T>(
        &self,
        waker: &Waker,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let mut cx = Context::from_waker(waker);
        self.muted.store(true, Ordering::Relaxed);
        let mut polled = Poll::Pending;
        for _ in 0..ROUNDS {
            self.called.store(false, Ordering::Relaxed);
            polled = poll(&mut cx);
            if polled.is_ready() || !self.called.load(Ordering::Relaxed) {
                break;
            }
        }
        self.muted.store(false, Ordering::Relaxed);
        if polled.is_pending() && self.called.load(Ordering::Relaxed) {
            self.task.wake_by_ref();
        }
        polled
    }
}

impl Wake for Quiet {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.muted.load(Ordering::Relaxed) {
            self.called.store(true, Ordering::Relaxed);
        } else {
            self.task.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_call_from_within_is_another_round_and_one_from_without_wakes() {
        let woken = Arc::new(Woken::default());
        let quiet = Quiet::new(&woken.clone().into());
        let waker: Waker = quiet.clone().into();
        let mut rounds = 0;
        let polled = quiet.poll(&waker, |cx| {
            rounds += 1;
            if rounds < 3 {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        assert_eq!((rounds, woken.0.load(Ordering::Relaxed)), (3, 0));
        waker.wake_by_ref();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn one_who_calls_for_ever_yields() {
        let woken = Arc::new(Woken::default());
        let quiet = Quiet::new(&woken.clone().into());
        let waker: Waker = quiet.clone().into();
        let mut rounds = 0;
        let _ = quiet.poll(&waker, |cx| {
            rounds += 1;
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert_eq!((rounds, woken.0.load(Ordering::Relaxed)), (ROUNDS, 1));
    }
}
