//! The Docker source: its state by itself, with every order in which things can be told; and whole,
//! with an engine that behaves well or badly.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod bad;
mod converge;
mod costs;
mod golden;
mod host;
mod ours;
mod running;
mod session;
mod sim;
mod states;
mod tls;
