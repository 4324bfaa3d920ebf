//! Places at a backend: `maxconn` and thresholds exact over all cores, and one queue in arrival order.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::thresholds::Thresholds;

const WAITING: u64 = 1 << 32;

/// It has reached its upper threshold, and not been below its lower one since.
const OVERLOADED: u64 = 1 << 31;

fn active(state: u64) -> u32 {
    (state & (OVERLOADED - 1)) as u32
}

fn waiting(state: u64) -> u32 {
    (state >> 32) as u32
}

fn one_less(state: u64) -> u64 {
    match active(state) {
        0 => state,
        _ => state - 1,
    }
}

/// The places of one backend, shared by all workers.
///
/// Taking and giving back a place is one compare-and-swap. The lock is taken only once a backend is
/// at its limit, when somebody has to wait anyway. `state` holds both counts, so that nobody can
/// take a freed place past those who wait.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Bits 0 to 30: places taken. Bit 31: [`OVERLOADED`]. High half: requests in the queue.
    state: AtomicU64,
    /// Most places; 0 is no limit.
    limit: AtomicU32,
    thresholds: Thresholds,
    queue: Mutex<Queue>,
}

/// Who asks for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comer {
    /// One that the scheduler has sent: not while the backend is overloaded.
    New,
    /// A client that stays on this backend. As in IPVS it comes all the same.
    Staying,
}

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    waiters: VecDeque<(u64, oneshot::Sender<()>)>,
}

/// Why there is no place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueFull;

/// What asking for a place in the queue gave.
#[derive(Debug)]
pub(crate) enum Entered {
    /// A place came free meanwhile: it is taken.
    Admitted,
    /// Wait for this.
    Waiting(Ticket),
}

/// A place in the queue. `turn` resolves when a place at the backend has been handed over, or with
/// an error when the queue was dissolved; then, and if it is given up, [`Admission::leave`] must be
/// called with it.
#[derive(Debug)]
pub(crate) struct Ticket {
    number: u64,
    pub(crate) turn: oneshot::Receiver<()>,
}

impl Admission {
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            state: AtomicU64::new(0),
            limit: AtomicU32::new(limit),
            thresholds: Thresholds::default(),
            queue: Mutex::default(),
        }
    }

    /// Places taken.
    pub(crate) fn active(&self) -> u32 {
        active(self.state.load(Ordering::Relaxed))
    }

    /// Requests in the queue.
    pub(crate) fn waiting(&self) -> u32 {
        waiting(self.state.load(Ordering::Relaxed))
    }

    /// Places taken and asked for: what `lc` compares.
    pub(crate) fn load(&self) -> u32 {
        let state = self.state.load(Ordering::Relaxed);
        active(state).saturating_add(waiting(state))
    }

    /// Whether a place is likely free now for somebody new.
    pub(crate) fn has_room(&self) -> bool {
        self.room(self.state.load(Ordering::Relaxed), Comer::New)
    }

    /// Whether it has reached its upper threshold, and not been below its lower one since.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.state.load(Ordering::Relaxed) & OVERLOADED != 0
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    fn room(&self, state: u64, comer: Comer) -> bool {
        let limit = self.limit();
        waiting(state) == 0
            && (limit == 0 || active(state) < limit)
            && (comer == Comer::Staying || state & OVERLOADED == 0)
    }

    /// Changes the counts in one step, and whether it is overloaded by them. Whether they were.
    fn change(&self, mut next: impl FnMut(u64) -> Option<u64>) -> bool {
        let change = |s| next(s).map(|s| self.settled(s));
        let order = (Ordering::AcqRel, Ordering::Relaxed);
        self.state.fetch_update(order.0, order.1, change).is_ok()
    }

    fn settled(&self, state: u64) -> u64 {
        let load = u64::from(active(state)) + u64::from(waiting(state));
        match self.thresholds.overloads(load, state & OVERLOADED != 0) {
            true => state | OVERLOADED,
            false => state & !OVERLOADED,
        }
    }

    /// Takes a place if one is free and nobody waits for it.
    pub(crate) fn try_enter(&self) -> bool {
        self.change(|s| self.room(s, Comer::New).then_some(s + 1))
    }

    /// The same for a client that stays.
    pub(crate) fn try_return(&self) -> bool {
        self.change(|s| self.room(s, Comer::Staying).then_some(s + 1))
    }

    /// Takes a place, or one in the queue of at most `longest`.
    pub(crate) fn enter_or_wait(&self, longest: u32, comer: Comer) -> Result<Entered, QueueFull> {
        let mut queue = self.lock();
        // Under the lock the queue does not change, so `waiting` can be tested and raised in one
        // step with the count of places.
        let mut admitted = false;
        let entered = self.change(|s| {
            admitted = self.room(s, comer);
            if admitted {
                Some(s + 1)
            } else if comer == Comer::New && s & OVERLOADED != 0 {
                None
            } else if waiting(s) < longest {
                Some(s + WAITING)
            } else {
                None
            }
        });
        match entered {
            true if admitted => Ok(Entered::Admitted),
            true => {
                let number = queue.next;
                queue.next += 1;
                let (call, turn) = oneshot::channel();
                queue.waiters.push_back((number, call));
                Ok(Entered::Waiting(Ticket { number, turn }))
            }
            false => Err(QueueFull),
        }
    }

    /// Gives a place back: to the first in the queue, if there is one.
    pub(crate) fn leave_place(&self) {
        let freed = self.change(|s| (waiting(s) == 0).then(|| one_less(s)));
        if !freed {
            let mut queue = self.lock();
            self.change(|s| Some(one_less(s)));
            self.hand_over(&mut queue);
        }
    }

    /// Gives a place in the queue up. A place at the backend that was handed over meanwhile goes to
    /// the next.
    pub(crate) fn leave_queue(&self, mut ticket: Ticket) {
        let handed = {
            let mut queue = self.lock();
            match queue
                .waiters
                .iter()
                .position(|(number, _)| *number == ticket.number)
            {
                Some(at) => {
                    queue.waiters.remove(at);
                    self.change(|s| Some(s - WAITING));
                    false
                }
                None => ticket.turn.try_recv().is_ok(),
            }
        };
        if handed {
            self.leave_place();
        }
    }

    /// Sets the most places, 0 for no limit, and lets in whoever fits now.
    pub(crate) fn set_limit(&self, limit: u32) {
        if self.limit.swap(limit, Ordering::AcqRel) != limit {
            let mut queue = self.lock();
            self.hand_over(&mut queue);
        }
    }

    /// Sets the thresholds: who has `upper` in flight and waiting gets nothing new, 0 for no such
    /// thing; until it has less than `lower`, 0 for ¾ of `upper`.
    pub(crate) fn set_thresholds(&self, upper: u32, lower: u32) {
        if let Some(pardoned) = self.thresholds.set(upper, lower) {
            let kept = if pardoned { !OVERLOADED } else { u64::MAX };
            self.change(|s| Some(s & kept));
        }
    }

    /// Sends everybody in the queue away: they choose another backend.
    pub(crate) fn dissolve_queue(&self) {
        let mut queue = self.lock();
        let sent_away = queue.waiters.len() as u64;
        queue.waiters.clear();
        self.change(|s| Some(s - sent_away * WAITING));
    }

    fn hand_over(&self, queue: &mut MutexGuard<'_, Queue>) {
        loop {
            let limit = self.limit();
            let admitted = self.change(|s| {
                (waiting(s) > 0 && (limit == 0 || active(s) < limit)).then(|| s - WAITING + 1)
            });
            if !admitted {
                return;
            }
            let called = queue
                .waiters
                .pop_front()
                .is_some_and(|(_, call)| call.send(()).is_ok());
            if !called {
                // Whoever waited is gone without a word: the place is free again.
                self.change(|s| Some(one_less(s)));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn ticket(admission: &Admission) -> Ticket {
        match admission.enter_or_wait(10, Comer::New) {
            Ok(Entered::Waiting(ticket)) => ticket,
            other => panic!("expected to wait: {other:?}"),
        }
    }

    #[test]
    fn no_limit_admits_all() {
        let admission = Admission::new(0);
        assert!((0..1000).all(|_| admission.try_enter()));
        assert_eq!(admission.active(), 1000);
    }

    #[test]
    fn places_go_in_the_order_of_arrival() {
        let admission = Admission::new(1);
        assert!(admission.try_enter() && !admission.try_enter());
        let (mut first, mut second) = (ticket(&admission), ticket(&admission));
        assert_eq!((admission.active(), admission.waiting()), (1, 2));
        admission.leave_place();
        assert!(first.turn.try_recv().is_ok() && second.turn.try_recv().is_err());
        assert!(!admission.try_enter(), "nobody passes those who wait");
        admission.leave_place();
        assert!(second.turn.try_recv().is_ok());
        admission.leave_place();
        assert_eq!((admission.active(), admission.waiting()), (0, 0));
    }

    #[test]
    fn a_place_handed_to_one_who_left_goes_to_the_next() {
        let admission = Admission::new(1);
        assert!(admission.try_enter());
        let (first, mut second) = (ticket(&admission), ticket(&admission));
        admission.leave_place();
        admission.leave_queue(first);
        assert!(second.turn.try_recv().is_ok());
        assert_eq!((admission.active(), admission.waiting()), (1, 0));
    }

    #[test]
    fn one_who_dropped_his_ticket_does_not_keep_the_place() {
        let admission = Admission::new(1);
        assert!(admission.try_enter());
        drop(ticket(&admission));
        admission.leave_place();
        assert_eq!((admission.active(), admission.waiting()), (0, 0));
    }

    #[test]
    fn the_queue_is_bounded_and_can_be_dissolved() {
        let admission = Admission::new(1);
        assert!(admission.try_enter());
        let Ok(Entered::Waiting(mut waiting)) = admission.enter_or_wait(1, Comer::New) else {
            panic!()
        };
        assert!(matches!(
            admission.enter_or_wait(1, Comer::New),
            Err(QueueFull)
        ));
        admission.dissolve_queue();
        assert!(matches!(
            waiting.turn.try_recv(),
            Err(oneshot::error::TryRecvError::Closed)
        ));
        admission.leave_queue(waiting);
        admission.leave_place();
        assert_eq!((admission.active(), admission.waiting()), (0, 0));
    }

    #[test]
    fn a_limit_raised_lets_in_and_a_limit_lowered_waits() {
        let admission = Admission::new(1);
        assert!(admission.try_enter());
        let (mut a, mut b) = (ticket(&admission), ticket(&admission));
        admission.set_limit(2);
        assert!(a.turn.try_recv().is_ok() && b.turn.try_recv().is_err());
        admission.set_limit(1);
        admission.leave_place();
        assert!(
            b.turn.try_recv().is_err(),
            "one is still in, which is the limit"
        );
        admission.leave_place();
        assert!(b.turn.try_recv().is_ok());
    }

    #[test]
    fn who_is_overloaded_takes_nobody_new_but_who_stays() {
        let admission = Admission::new(2);
        admission.set_thresholds(3, 2);
        assert!(admission.try_enter() && admission.try_enter());
        // Who waits counts as well.
        let mut first = ticket(&admission);
        assert!(admission.is_overloaded() && !admission.has_room());
        let new = admission.enter_or_wait(10, Comer::New);
        assert!(matches!(new, Err(QueueFull)));
        let staying = admission.enter_or_wait(10, Comer::Staying);
        let Ok(Entered::Waiting(mut second)) = staying else {
            panic!("{staying:?}");
        };
        admission.leave_place();
        assert!(first.turn.try_recv().is_ok());
        admission.leave_place();
        assert!(second.turn.try_recv().is_ok());
        admission.leave_place();
        assert_eq!((admission.active(), admission.waiting()), (1, 0));
        assert!(!admission.is_overloaded() && admission.try_enter());
        // Below what it has; then back above it.
        admission.set_thresholds(2, 1);
        assert!(admission.is_overloaded());
        admission.set_thresholds(5, 1);
        assert!(!admission.is_overloaded());
        admission.set_thresholds(1, 1);
        admission.set_thresholds(0, 0);
        assert!(!admission.is_overloaded() && admission.has_room() == (admission.active() < 2));
        (0..2).for_each(|_| admission.leave_place());
        assert_eq!((admission.active(), admission.waiting()), (0, 0));
    }

    #[test]
    fn a_queue_that_is_left_counts_no_more() {
        let admission = Admission::new(1);
        admission.set_thresholds(3, 2);
        assert!(admission.try_enter());
        let (first, _second) = (ticket(&admission), ticket(&admission));
        assert!(admission.is_overloaded());
        admission.leave_queue(first);
        assert!(admission.is_overloaded(), "as many as the lower threshold");
        admission.dissolve_queue();
        assert!(!admission.is_overloaded());
    }

    #[test]
    fn never_more_than_the_threshold_over_many_threads() {
        let admission = Arc::new(Admission::new(0));
        admission.set_thresholds(5, 3);
        let inside = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (admission, inside) = (admission.clone(), inside.clone());
                std::thread::spawn(move || {
                    let mut entered = 0u32;
                    for _ in 0..5000 {
                        if admission.try_enter() {
                            entered += 1;
                            assert!(inside.fetch_add(1, Ordering::SeqCst) < 5);
                            std::thread::yield_now();
                            inside.fetch_sub(1, Ordering::SeqCst);
                            admission.leave_place();
                        }
                    }
                    entered
                })
            })
            .collect();
        let entered: u32 = threads.into_iter().map(|t| t.join().unwrap()).sum();
        assert!(entered > 0 && !admission.is_overloaded());
        assert_eq!((admission.active(), admission.waiting()), (0, 0));
    }

    #[test]
    fn never_more_than_the_limit_over_many_threads() {
        let admission = Arc::new(Admission::new(3));
        let inside = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..8)
            .map(|n| {
                let (admission, inside) = (admission.clone(), inside.clone());
                std::thread::spawn(move || {
                    for round in 0..2000 {
                        match admission.enter_or_wait(100, Comer::New).unwrap() {
                            Entered::Admitted => {}
                            Entered::Waiting(ticket) if (round + n) % 7 == 0 => {
                                admission.leave_queue(ticket);
                                continue;
                            }
                            Entered::Waiting(ticket) => ticket.turn.blocking_recv().unwrap(),
                        }
                        assert!(inside.fetch_add(1, Ordering::SeqCst) < 3);
                        std::hint::spin_loop();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        admission.leave_place();
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!((admission.active(), admission.waiting()), (0, 0));
    }
}
