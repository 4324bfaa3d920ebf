//! The state of a backend.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// Whether a backend may be given traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not yet known to serve: gets nothing.
    Starting,
    /// Gets new connections and requests.
    #[default]
    Ready,
    /// Gets nothing new; what it has goes on until it ends or the drain time-out passes.
    Draining,
    /// Gets nothing: something found it unable to serve.
    Down,
}

impl State {
    /// The name used in `status`, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Ready => "ready",
            State::Draining => "draining",
            State::Down => "down",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A state and why. Since when is known to the catalog, not part of the desired state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Status {
    /// The state.
    pub state: State,
    /// Why, for people, e.g. `connection refused`; empty where there is nothing to say.
    pub reason: Arc<str>,
}

impl Status {
    /// A state with a reason.
    pub fn new(state: State, reason: impl Into<Arc<str>>) -> Self {
        Self {
            state,
            reason: reason.into(),
        }
    }
}
