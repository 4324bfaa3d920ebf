//! What a client has seen.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A request that was not answered as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its id; empty if it came to none.
    pub id: String,
    /// When, since the client started.
    pub at: Duration,
    /// Why.
    pub reason: String,
}

/// What a client has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Requests that got exactly one answer, and the right one.
    pub answered: u64,
    /// All others.
    pub failures: Vec<Failure>,
    /// The answered ones by the backend that answered.
    pub by_backend: BTreeMap<String, u64>,
    /// Connections that were opened.
    pub connections: u64,
    /// Connections that the other side closed between two requests, which it may.
    pub closed_idle: u64,
    /// The longest that a request took to be answered.
    pub slowest: Duration,
}

impl Report {
    /// Both together.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.answered += other.answered;
        self.failures.extend(other.failures);
        for (backend, count) in other.by_backend {
            *self.by_backend.entry(backend).or_default() += count;
        }
        self.connections += other.connections;
        self.closed_idle += other.closed_idle;
        self.slowest = self.slowest.max(other.slowest);
        self
    }

    /// Answers of this backend.
    pub fn of(&self, backend: &str) -> u64 {
        self.by_backend.get(backend).copied().unwrap_or_default()
    }

    /// Fails the test unless every request was answered, and there was at least one.
    ///
    /// # Panics
    /// With the first failures.
    #[track_caller]
    #[allow(clippy::panic, reason = "this is how a test fails")]
    pub fn assert_clean(&self) {
        if self.answered == 0 || !self.failures.is_empty() {
            panic!("{self}");
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} answered, {} failed, {} connections, {} of them closed while idle, slowest {:?}, by \
             backend {:?}",
            self.answered,
            self.failures.len(),
            self.connections,
            self.closed_idle,
            self.slowest,
            self.by_backend
        )?;
        for failure in self.failures.iter().take(20) {
            write!(
                out,
                "\n  {:?} {}: {}",
                failure.at, failure.id, failure.reason
            )?;
        }
        Ok(())
    }
}
