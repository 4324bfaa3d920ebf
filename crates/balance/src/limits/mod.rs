//! How much somebody has had, and what he may still have. Pure: time is an argument.

mod pace;
mod sources;

use plimsoll_model::Quota;

pub use pace::Pace;
pub use sources::{Entered, Sources};

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Connections of clients.
    Connection,
    /// HTTP requests.
    Request,
}

impl What {
    /// How many there are.
    pub const COUNT: usize = 2;

    /// Its place in a list of all.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// Which limit was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// So many at once.
    AtOnce,
    /// So many in a time.
    Rate,
}

/// Somebody has had all that he may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which limit was met.
    pub limit: Limit,
    /// Nanoseconds until a rate allows the next; 0 where others have to end first.
    pub wait: u64,
}

/// What a [`Quota`] allows of one kind of thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// At once; 0 is no limit.
    pub at_once: u32,
    /// In a time.
    pub pace: Option<Pace>,
}

impl Allowance {
    /// What a quota allows.
    pub fn new(quota: &Quota, what: What) -> Self {
        let (at_once, rate) = match what {
            What::Connection => (quota.connections, quota.connection_rate),
            What::Request => (quota.requests, quota.request_rate),
        };
        Self {
            at_once,
            pace: rate.as_ref().map(Pace::new),
        }
    }

    /// Whether it allows everything.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }
}
