//! Which backends can serve, as far as traffic and checks can tell.
//!
//! Pure, with time and the seed of the jitter passed in:
//!
//! - [`Tracker`] is the state machine of one backend: failures seen by a plane put it out for a
//!   growing while.
//! - [`Passive`] holds the trackers of all backends that ever failed.
//! - [`Checkup`] is the state machine of one backend under check: successes and failures in a row
//!   become a [`Verdict`], which enters control at the same place.
//! - [`Schedule`] says which backend is checked when.
//!
//! With sockets: [`probe`] is one check, [`run_checks`] the task that does all of them, and
//! [`run_knocks`] the one that looks after backends that cannot be connected to.
#![forbid(unsafe_code)]

mod checker;
mod checkup;
mod connect;
mod knock;
mod passive;
mod probe;
mod schedule;
mod tracker;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use plimsoll_model::{BackendAddr, Name, State, Status};

pub use checker::run_checks;
pub use checkup::Checkup;
pub use knock::{Door, Doors, run_knocks};
pub use passive::Passive;
pub use probe::probe;
pub use schedule::{Finding, Job, Schedule};
pub use tracker::{Counts, Failure, Leave, Settings, Standing, Tracker};

/// What a check says about a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The state it should have: `ready`, `starting` until its first success, or `down`.
    pub state: State,
    /// Why, for people; empty for `ready`.
    pub reason: Arc<str>,
}

impl From<&Verdict> for Status {
    fn from(verdict: &Verdict) -> Self {
        Status::new(verdict.state, verdict.reason.clone())
    }
}

/// A number of no meaning for the `nth` time that something is jittered.
fn jitter(seed: u64, service: &Name, backend: &BackendAddr, nth: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, service, backend, nth).hash(&mut hasher);
    hasher.finish()
}

/// A time shortened by up to a fifth by `jitter`.
fn shortened(full: Duration, jitter: u64) -> Duration {
    let share = u32::try_from(jitter % 1000).unwrap_or(0);
    full - full / 5 * share / 1000
}
