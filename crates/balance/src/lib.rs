//! Scheduling algorithms and their tables, pure: which backend gets the next connection or request.
//!
//! A [`Balancer`] is immutable and built anew when the set of backends or a weight changes; what
//! must outlive that (the cursor that all cores share) is in [`Shared`]. A pick takes no lock and
//! allocates nothing.
//!
//! The definitions are those of the kernel's IPVS with these differences:
//! - IPVS compares overhead = active × 256 + inactive connections; a proxy has no inactive ones, so
//!   `lc`, `wlc` and `twos` compare what is active.
//! - `wrr` is smooth: the turns of a heavy backend are spread out, not bunched.
//! - `sh` and `mh` hash with a settable seed and size their tables by the number of backends.
//! - Where the backend chosen cannot take the client, every scheduler goes on to another one
//!   (IPVS: only with `sh-fallback` and `mh-fallback`).

#![forbid(unsafe_code)]

mod apportion;
mod bucket;
mod client_net;
mod hash;
mod least;
mod maglev;
pub mod persistence;
mod random;
mod round;
mod spread;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use plimsoll_model::{BackendAddr, Scheduler, SchedulerKind};

use bucket::Buckets;
pub use client_net::ClientNet;
use least::Least;
use random::Weighted;
use round::Round;

/// One candidate of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its address: what `sh` and `mh` know it by.
    pub addr: BackendAddr,
    /// Its share, in proportion to the sum of all weights. 0 gets nothing.
    pub weight: u32,
}

/// What must be known of the candidates at the moment of a pick. An index is one into the slice
/// that was given to [`Balancer::new`].
///
/// Answers may change while a pick looks at them; a pick then rests on some answer given during it.
pub trait Loads {
    /// Connections or requests in flight and waiting.
    fn active(&self, index: usize) -> u32;

    /// Whether it can be picked; false if it is full, or left out because it was tried already.
    fn usable(&self, index: usize) -> bool;
}

/// Who is to be given a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address. An IPv4-mapped IPv6 address is taken as the IPv4 address.
    pub ip: IpAddr,
    /// Its port.
    pub port: u16,
}

/// What all cores share, and what is kept when the set of backends changes.
///
/// On cache lines of its own, for every pick of every core may write to it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Shared {
    cursor: AtomicUsize,
}

/// The scheduler of one service over one set of candidates. Used from many threads at once.
#[derive(Debug)]
pub struct Balancer {
    algorithm: Algorithm,
    shared: Arc<Shared>,
}

#[derive(Debug)]
enum Algorithm {
    Round(Round),
    Least(Least),
    Random(Weighted),
    Twos(Weighted),
    Bucket(Buckets),
}

impl Balancer {
    /// A balancer over these candidates.
    ///
    /// Costs grow with the number of candidates; the dearest are `mh` (its table) and `wrr` with
    /// unequal weights (its sequence), one to three milliseconds for 1000 candidates.
    ///
    /// A `scheduler.table` that is no prime is taken as the next greater prime, and one with fewer
    /// slots than candidates is made large enough.
    pub fn new(scheduler: &Scheduler, candidates: &[Candidate], shared: Arc<Shared>) -> Self {
        let algorithm = match scheduler.kind {
            SchedulerKind::Rr => Algorithm::Round(Round::equal(candidates)),
            SchedulerKind::Wrr => Algorithm::Round(Round::weighted(candidates)),
            SchedulerKind::Lc => Algorithm::Least(Least::equal(candidates)),
            SchedulerKind::Wlc => Algorithm::Least(Least::weighted(candidates)),
            SchedulerKind::Random => Algorithm::Random(Weighted::new(candidates)),
            SchedulerKind::Twos => Algorithm::Twos(Weighted::new(candidates)),
            SchedulerKind::Sh => Algorithm::Bucket(Buckets::source(scheduler, candidates)),
            SchedulerKind::Mh => Algorithm::Bucket(Buckets::maglev(scheduler, candidates)),
        };
        Self { algorithm, shared }
    }

    /// The index of the candidate to use; none if no candidate of a weight above 0 is usable.
    ///
    /// `random` gives 64 evenly distributed bits per call; only `random` and `twos` call it.
    pub fn pick(
        &self,
        client: &Client,
        loads: &impl Loads,
        random: &mut impl FnMut() -> u64,
    ) -> Option<usize> {
        match &self.algorithm {
            Algorithm::Round(round) => round.pick(&self.shared.cursor, loads),
            Algorithm::Least(least) => least.pick(&self.shared.cursor, loads),
            Algorithm::Random(weighted) => weighted.pick(loads, random),
            Algorithm::Twos(weighted) => weighted.pick_of_two(loads, random),
            Algorithm::Bucket(buckets) => buckets.pick(client, loads),
        }
    }

    /// The index of the candidate that the client's hash leads to, whether it is usable or not;
    /// none for a scheduler that does not hash, and where every weight is 0.
    pub fn hashed(&self, client: &Client) -> Option<usize> {
        match &self.algorithm {
            Algorithm::Bucket(buckets) => buckets.hashed(client),
            _ => None,
        }
    }
}

/// One candidate of a weight above 0.
#[derive(Clone, Copy, Debug)]
struct Member {
    /// Into the slice of candidates.
    index: u32,
    /// At least 1.
    weight: u32,
}

/// The candidates that can be picked at all, in their order.
fn members(candidates: &[Candidate]) -> impl Iterator<Item = (Member, &BackendAddr)> {
    candidates
        .iter()
        .zip(0u32..)
        .filter(|(candidate, _)| candidate.weight > 0)
        .map(|(candidate, index)| {
            let weight = candidate.weight;
            (Member { index, weight }, &candidate.addr)
        })
}

/// A number below `bound`, in proportion to `bits` of 2⁶⁴. 0 for a bound of 0.
fn scale(bits: u64, bound: u64) -> u64 {
    ((u128::from(bits) * u128::from(bound)) >> 64) as u64
}
