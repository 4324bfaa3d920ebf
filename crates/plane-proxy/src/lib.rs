//! The proxy plane: TCP, UDP and HTTP in user space, with no privilege needed.
//!
//! One worker per core, each a thread with a single-threaded runtime; the kernel shares accepted
//! connections out between them (SO_REUSEPORT). All that a worker needs to know is in an immutable
//! snapshot, replaced as a whole; what workers share while they work (places at backends, the turn
//! of a round robin) are atomics.

mod accept;
mod access;
mod admission;
mod backend;
mod budget;
mod check;
mod choose;
mod conn;
mod connect;
mod counts;
mod door;
mod explain;
mod http;
mod itself;
mod limits;
mod listener;
mod load;
mod options;
mod outq;
#[cfg(test)]
mod panic_tests;
mod plane;
mod proxied;
pub mod proxy_header;
mod relay;
mod router;
mod send;
mod snapshot;
mod socket;
mod splice;
mod sticky;
mod tcp;
mod thresholds;
mod timing;
mod udp;
mod unix;
mod way;
mod worker;

pub use access::{AccessLog, AccessOptions};
pub use http::framing::{Framing, Limits, Outcome, Then, hide_close};
pub use http::pages::CommonPages;
pub use plane::{Options, ProxyPlane};
