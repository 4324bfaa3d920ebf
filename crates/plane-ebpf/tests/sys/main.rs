//! The kernel's interface, asked for real: maps, programs, hooks and the network. Needs root.
//!
//! Every test has network namespaces of its own, and what it loads goes with it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod hooks;
mod lab;
mod maps;
mod net;
mod node;
mod programs;
