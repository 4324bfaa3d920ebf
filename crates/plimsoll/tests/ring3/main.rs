//! Ring 3: the daemon in front of containers of a real Docker engine. Needs root.
//!
//! Every test starts an engine of its own (see [`dock`]), which takes less than half a second, and
//! makes sure at its end that nothing is left.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

mod away;
mod broken;
mod compose;
mod demo;
mod dock;
mod health;
mod inside;
mod lb;
mod life;
mod looking;
mod moves;
mod node;
mod packed;
mod packets;
#[path = "../cli/pty.rs"]
mod pty;
mod readme;
mod rolling;
mod signals;
mod start;
