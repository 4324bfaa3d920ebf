//! The proxy plane on loopback: real sockets, scripted backends, at least two workers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod bodies;
mod common;
mod conformance;
mod keepalive;
mod routing;
mod tcp;
mod tcp_limits;
