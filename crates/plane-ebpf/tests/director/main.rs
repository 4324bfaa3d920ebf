//! The packet plane between network namespaces.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod conformance;
mod datagrams;
mod lab;
mod segments;
mod steer;
