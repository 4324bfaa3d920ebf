//! The seam between control and planes: the [`Plane`] trait, a fake plane for tests, and the
//! conformance suite that every plane passes.

mod addresses;
#[cfg(feature = "testing")]
pub mod conformance;
#[cfg(feature = "testing")]
pub mod fake;
mod latency;
mod types;

pub use addresses::{Addresses, VipEvent, VipNote, VipState, VipView, Wanted};
pub use latency::{BOUNDS, BUCKETS, Histogram, Latencies, bucket};
pub use types::{
    AccessLogCounters, BackendCounters, CompressionCounters, CookieCounters, Counters, Event,
    Explanation, Flow, FlowFilter, FlowPage, ItemResult, LimitCounters, ListenState,
    PacketCounters, PersistenceCounters, PlaneError, QuotaCounters, ServiceCounters, Tuple,
    UdpCounters, Unsupported,
};

use plimsoll_model::{Desired, Plan, Route, Service};
use tokio::sync::mpsc::Receiver;

/// What carries traffic. Control is its only caller, from one thread; every call returns within
/// milliseconds and does not wait for traffic.
pub trait Plane: Send {
    /// The name used in `plane = "…"`, `status` and metrics.
    fn name(&self) -> &'static str;

    /// Whether this plane can carry the service.
    ///
    /// # Errors
    /// The feature it lacks, and what to use instead.
    fn check(&self, service: &Service) -> Result<(), Unsupported>;

    /// Whether this plane can carry the route.
    ///
    /// # Errors
    /// The feature it lacks, and what to use instead.
    fn check_route(&self, route: &Route) -> Result<(), Unsupported>;

    /// What it really holds, read back from where traffic is decided.
    ///
    /// # Errors
    /// It cannot be read; the caller keeps what it knew.
    fn read(&mut self) -> Result<Desired, PlaneError>;

    /// Takes the steps of a plan: a result per step, in the plan's order. One that fails stops no
    /// other; all that succeed come into force together where the plane can do so, and in the
    /// plan's order otherwise.
    fn apply(&mut self, plan: &Plan) -> Vec<ItemResult>;

    /// Counts since the plane started.
    fn counters(&self) -> Counters;

    /// Live flows (connections, tunnels, requests in flight) that pass the filter, from a cursor
    /// on; 0 is the beginning.
    ///
    /// # Errors
    /// They cannot be read now.
    fn flows(&mut self, filter: &FlowFilter, cursor: u64) -> Result<FlowPage, PlaneError>;

    /// Where a packet or request would go now, and why.
    fn explain(&self, tuple: &Tuple) -> Explanation;

    /// The stream of events; given out once.
    fn events(&mut self) -> Option<Receiver<Event>>;

    /// The process is about to end: takes nothing new from now on. Whether all has ended that ends
    /// with the process; the caller asks again until then, or gives up. A plane whose traffic goes
    /// on without the process has nothing to do.
    fn finish(&mut self) -> bool {
        true
    }
}
