//! The state machine of one backend under check.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_model::{Check, State};

use crate::Verdict;

/// The first pause between two checks of a backend that has not yet passed one; it doubles up to
/// the interval. So a container is in use soon after it can serve.
const EAGER: Duration = Duration::from_millis(200);

/// What checks have told about one backend.
#[derive(Clone, Debug)]
pub struct Checkup {
    phase: Phase,
    /// Failures in a row before a first success, and while up; successes in a row while down.
    streak: u32,
    /// Of the last failure.
    reason: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It has not passed a check since then.
    New(Instant),
    Up,
    Down,
}

impl Checkup {
    /// A backend of which nothing is known: it gets nothing before its first success.
    pub fn new(now: Instant) -> Self {
        Self::at(Phase::New(now))
    }

    /// A backend that serves already: it goes on until `fall` failures in a row.
    pub fn serving() -> Self {
        Self::at(Phase::Up)
    }

    fn at(phase: Phase) -> Self {
        Self {
            phase,
            streak: 0,
            reason: "".into(),
        }
    }

    /// The check has changed: what serves goes on, what does not has not yet passed this one.
    pub fn restart(&mut self, now: Instant) {
        *self = match self.phase {
            Phase::Up => Self::serving(),
            Phase::New(_) | Phase::Down => Self::new(now),
        };
    }

    /// A check has ended; if it failed, why.
    ///
    /// The first success is enough for a new backend; `rise` in a row are needed by one that was
    /// down. `fall` failures in a row take a backend out, a new one not before the time that they
    /// would have taken at the usual pace.
    pub fn outcome(&mut self, now: Instant, check: &Check, outcome: Result<(), Arc<str>>) {
        let failed = outcome.is_err();
        if let Err(reason) = outcome {
            self.reason = reason;
        }
        let speaks_against = failed != (self.phase == Phase::Down);
        if !speaks_against {
            self.streak = 0;
            if let Phase::New(_) = self.phase {
                self.phase = Phase::Up;
            }
            return;
        }
        self.streak = self.streak.saturating_add(1);
        let next = match self.phase {
            Phase::New(since) => {
                let usual = check.interval.saturating_mul(check.fall.saturating_sub(1));
                let long = now.saturating_duration_since(since) >= usual;
                (self.streak >= check.fall && long).then_some(Phase::Down)
            }
            Phase::Up => (self.streak >= check.fall).then_some(Phase::Down),
            Phase::Down => (self.streak >= check.rise).then_some(Phase::Up),
        };
        if let Some(phase) = next {
            self.phase = phase;
            self.streak = 0;
        }
    }

    /// What follows for the backend; none if no check has ended yet.
    pub fn verdict(&self) -> Option<Verdict> {
        let (state, reason) = match self.phase {
            Phase::New(_) if self.streak == 0 => return None,
            Phase::New(_) => (State::Starting, self.reason.clone()),
            Phase::Up => (State::Ready, "".into()),
            Phase::Down => (State::Down, self.reason.clone()),
        };
        Some(Verdict { state, reason })
    }

    /// From the start of the last check to that of the next, shortened by up to a fifth by
    /// `jitter`, so that checks that began together spread out.
    pub fn pause(&self, check: &Check, jitter: u64) -> Duration {
        let full = match self.phase {
            Phase::New(_) => {
                let doublings = self.streak.saturating_sub(1).min(31);
                EAGER.saturating_mul(1 << doublings).min(check.interval)
            }
            Phase::Up | Phase::Down => check.interval,
        };
        crate::shortened(full, jitter)
    }
}
