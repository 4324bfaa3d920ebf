//! Which backends can serve, as far as traffic and checks can tell.
//!
//! Pure: time and the seed of the jitter are passed in.
//!
//! - [`Tracker`] is the state machine of one backend: failures seen by a plane put it out for a
//!   growing while.
//! - [`Passive`] holds the trackers of all backends that ever failed.
//! - [`Verdict`] is what an active check says; it enters control at the same place.
#![forbid(unsafe_code)]

mod passive;
mod tracker;

use std::sync::Arc;

use plimsoll_model::{State, Status};

pub use passive::Passive;
pub use tracker::{Counts, Failure, Settings, Standing, Tracker};

/// What a check says about a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The state it should have; `ready` takes an earlier verdict back.
    pub state: State,
    /// Why, for people.
    pub reason: Arc<str>,
}

impl From<&Verdict> for Status {
    fn from(verdict: &Verdict) -> Self {
        Status::new(verdict.state, verdict.reason.clone())
    }
}
