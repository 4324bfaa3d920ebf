//! Candidates as one pick sees them.

use crate::{Loads, Member};

/// What algorithms look at. An index is one into the slice of candidates.
pub(crate) trait View {
    /// Connections or requests in flight and waiting.
    fn active(&self, index: usize) -> u32;

    /// Whether it can take the client and takes part in this pick.
    fn usable(&self, index: usize) -> bool;

    /// Whether it can take the client, however cold it is.
    fn able(&self, index: usize) -> bool;

    /// How long it is expected to take, in µs; none if that is not known.
    fn latency(&self, index: usize) -> Option<f32>;

    /// Its weight as loads are compared; at least 1.
    fn weight(&self, member: Member) -> u32;
}

/// Everyone at full share.
pub(crate) struct Plain<'a, L>(pub(crate) &'a L);

impl<L: Loads> View for Plain<'_, L> {
    fn active(&self, index: usize) -> u32 {
        self.0.active(index)
    }

    fn usable(&self, index: usize) -> bool {
        self.0.usable(index)
    }

    fn able(&self, index: usize) -> bool {
        self.0.usable(index)
    }

    fn latency(&self, index: usize) -> Option<f32> {
        self.0.latency(index)
    }

    fn weight(&self, member: Member) -> u32 {
        member.weight
    }
}
